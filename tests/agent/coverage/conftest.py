"""The coverage loop on a real channel, audit and files, and a console that answers as told."""

import queue
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent import control_keys
from agent.audit import Audit
from agent.audit_chain import records, verify
from agent.control import ControlChannel
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore
from agent.coverage import Coverage
from agent.coverage_store import CoverageStore
from agent.trigger_site import SitePolicy
from bench.prescribe_score import STACK
from gadgets.items import LabelMap
from protocols.control import ExamUpdate, Outcome, Telemetry
from protocols.exam_library import library
from protocols.findings import EvidenceCoverage, ExamFindings, Finding
from scanner.console_adapter import AgentAddress, Answer, ConsoleAdapter, Keys
from scanner.phantom import LumbarSpine, SpineParameters

DEADLINE_S = 20.0
EXAM = "exam-" + "7" * 32
ALL_SERIES = ("t1_tse_sag", "t2_tse_sag", "stir_sag")


def _finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": "f1",
        "type": "oedema_like",
        "structure": "sacral_subchondral",
        "side": "left",
        "level": "S1",
        "centre_mm": (40.0, 30.0, -120.0),
        "extent_mm": (6.0, 8.0, 9.0),
        "volume_ml": 0.4,
        "depth_mm": 6.0,
        "cnr": 6.5,
        "probability": 0.9,
        "series": ("stir_sag",),
        "slices": (13, 14),
        "adjacent_slices": 2,
        "area_mm2": 45.0,
    }
    return Finding(**{**fields, **changes})


def _findings(*found: Finding, series: tuple[str, ...] = ALL_SERIES, **fields: Any) -> ExamFindings:
    shown = tuple(
        EvidenceCoverage(structure="sacral_subchondral", side=side, shown=0.4, judged=True)
        for side in ("left", "right")
    )
    return ExamFindings(
        exam=EXAM, series=series, findings=found, coverage=shown, agreement=True, **fields
    )


@pytest.fixture
def finding():
    return _finding


@pytest.fixture
def findings():
    return _findings


@pytest.fixture(scope="session")
def labels() -> LabelMap:
    """What is where, without any error: landmarks of the phantom."""
    marks = LumbarSpine(SpineParameters()).landmarks()
    sure = {**dict.fromkeys(marks, 0.9), "levels": 0.9}
    return LabelMap(np.zeros((1, 1, 1), np.uint8), ("",), STACK, marks, sure)


@pytest.fixture(scope="session")
def without_sacrum(labels) -> LabelMap:
    marks = {name: at for name, at in labels.landmarks.items() if not name.startswith(("S", "L5"))}
    return replace(labels, landmarks=marks)


@pytest.fixture
def update():
    """Make what a console says of an exam in which there is room for more."""

    def make(**changes: Any) -> ExamUpdate:
        fields: dict[str, Any] = {
            "id": "u1",
            "exam": EXAM,
            "slot_minutes": 12.0,
            "remaining_minutes": 2.8,
            "sar_headroom": 0.7,
            "planned": (*ALL_SERIES, "t2_tse_ax"),
        }
        return ExamUpdate(**{**fields, **changes})

    return make


class Console(ConsoleAdapter):
    """A technologist who answers what a test puts into `answers`; what happens is a log."""

    def __init__(self, address: AgentAddress) -> None:
        self.log: queue.Queue[Any] = queue.Queue()
        self.answers: queue.Queue[Answer | None] = queue.Queue()
        self.heard: queue.Queue[Any] = queue.Queue()
        self.fails: Exception | None = None
        super().__init__(address, "bay 2", heartbeat_s=0.2)

    def happened(self, *names: str) -> Any:
        while (entry := self.log.get(timeout=DEADLINE_S))[0] not in names:
            pass
        return entry[1]

    def ask(self, request):
        self.log.put(("ask", request))
        return self.answers.get(timeout=DEADLINE_S)

    def schedule(self, request, steps):
        self.log.put(("schedule", tuple(steps)))

    def scan(self, request, steps):
        if self.fails:
            raise self.fails
        self.log.put(("scan", tuple(steps)))

    def withdrawn(self, request, why):
        self.log.put(("withdrawn", why))

    def hear(self, telemetry):
        self.heard.put(telemetry)

    def said(self, topic: str, **values: Any) -> dict[str, Any]:
        """Return the next telemetry of a topic with these values."""
        while True:
            heard = self.heard.get(timeout=DEADLINE_S)
            if heard.topic == topic and values.items() <= heard.values.items():
                return heard.values


YES = Answer(Outcome.ACCEPTED)


class Site:
    """One agent's end: channel, loop, audit and files in a folder; may be left and opened again."""

    def __init__(self, folder, policy: SitePolicy, protocols: dict[str, Any], port: int) -> None:
        settings = ControlSettings(
            port=port, telemetry_port=0, keys=folder / "keys", heartbeat_s=0.2
        )
        self.folder = folder
        self.questions = ControlStore(folder / "control.sqlite")
        self.courses = CoverageStore(folder / "exams.sqlite")
        self.audit = Audit(folder / "audit")
        self.channel = ControlChannel(settings, self.questions)
        self.coverage = Coverage(
            protocols, "lumbar", policy, self.courses, self.audit, self.channel
        )
        self.coverage.start()

    def close(self) -> None:
        self.coverage.close()
        self.channel.close()
        self.audit.close()
        self.questions.close()
        self.courses.close()

    def entries(self, kind: str) -> list[Any]:
        """Return the entries of a kind in the audit, which is whole."""
        assert not verify(self.folder / "audit").problems
        found = [record.entry for record in records(self.folder / "audit")]
        return [entry for entry in found if entry.kind == kind]

    def state(self, trigger: str = "si-joint-signal") -> Any:
        """Return where a trigger stands, as it is on the disk."""
        return self.courses.course(EXAM).machine.triggers[trigger]

    def transitions(self, trigger: str = "si-joint-signal") -> list[str]:
        return [
            str(step.after)
            for entry in self.entries("evaluation")
            for step in entry.transitions
            if step.trigger == trigger
        ]


@pytest.fixture
def open_site(tmp_path):
    """Open an agent's end in this test's folder."""
    control_keys.make(tmp_path / "keys")
    control_keys.make(tmp_path / "keys", "bay-2")
    sites = []

    def make(policy: SitePolicy | None = None, protocols: Any = None, port: int = 0) -> Site:
        known = protocols or {name: entry.protocol for name, entry in library().items()}
        sites.append(Site(tmp_path, policy or SitePolicy(mode="active"), known, port))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(open_site):
    return open_site()


@pytest.fixture
def connect(tmp_path):
    consoles = []

    def make(site: Site) -> Console:
        keys = Keys(tmp_path / "keys" / "bay-2.key_secret", tmp_path / "keys" / "agent.key")
        address = AgentAddress("127.0.0.1", site.channel.port, site.channel.telemetry_port, keys)
        console = Console(address)
        consoles.append(console)
        while not site.channel.consoles or console.heard.empty():
            site.channel.publish(Telemetry(topic="anybody", at_s=0.0))
            with suppress(queue.Empty):
                console.heard.put(console.heard.get(timeout=0.02))
        return console

    yield make
    for console in consoles:
        for _ in range(4):
            console.answers.put(None)
        console.close()


@pytest.fixture
def console(site, connect):
    return connect(site)
