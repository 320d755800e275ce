"""What the console's page is told of measurements and exams, beside everything else.

    page = Page(settings, Events(settings.console.events))
    page.begun(exam, measurement, step, header, chain)
    page.image(exam, series, message, measurement, latency_ms)
    page.found(findings)

Each call is one or two references for the thread of `agent.events`.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from agent.config import Settings
from agent.event_records import (
    Begun,
    Connection,
    Ended,
    EngineState,
    ExamBegun,
    FindingsSaid,
    Problem,
    Progress,
    StepPlanned,
)
from agent.events import Events
from gadgets.items import LabelMap
from protocols.exam import ExamProtocol
from protocols.exam_library import library
from protocols.findings import ExamFindings
from protocols.header import Header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from agent.measurement import Report

PROGRESS_S = 0.5
"""Between two words on what has come of a measurement."""
NO_PLAN = "MR exam"


class Page:
    """All that one agent tells. Any thread may call it.

    Parameters
    ----------
    settings : Settings
    events : Events
        Stays open.
    """

    def __init__(self, settings: Settings, events: Events) -> None:
        self.events = events
        self._simulated = settings.dicom.simulated_systems
        self._default = ""
        self._protocols: dict[str, ExamProtocol] = {}
        if settings.exams is not None:
            folder = settings.exams.folder
            found = library(folder if folder.is_dir() else None)
            self._protocols = {name: entry.protocol for name, entry in found.items()}
            self._default = settings.exams.protocol
        self._lock = threading.Lock()
        self._plan: tuple[str, str] | None = None
        self._titles: dict[str, str] = {}
        self._simulates = False
        self._engine: EngineState | None = None
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._peers: Counter[str] = Counter()

    def begun(
        self, exam: str, measurement: str, step: str, header: Header | None, chain: str
    ) -> None:
        """A measurement has begun; of another exam than the last one, so has that."""
        system = getattr(header, "acquisitionSystemInformation", None)
        self._simulates = getattr(system, "systemModel", None) in self._simulated
        self.planned(exam)
        self._began[measurement] = time.monotonic()
        title = self._titles.get(step, step)
        event = Begun(measurement=measurement, step=step, title=title, chain=chain)
        self.events.say(exam, event)

    def planned(self, exam: str, protocol: str | None = None) -> None:
        """An exam is there, or its scanner's console says which protocol it has."""
        with self._lock:
            before = self._plan
            if protocol not in self._protocols:
                protocol = before[1] if before and before[0] == exam else self._default
            self._plan = exam, str(protocol)
            if self._plan == before:
                return
        known = self._protocols.get(str(protocol))
        steps, on_demand = (
            tuple(
                StepPlanned(name=step.name, title=step.title or step.name, minutes=step.minutes)
                for step in some
            )
            for some in ((known.steps, known.on_demand) if known else ((), ()))
        )
        self._titles = {step.name: step.title for step in (*steps, *on_demand)}
        self.events.say(
            exam,
            ExamBegun(
                protocol=str(protocol),
                title=known.title if known else NO_PLAN,
                revision=known.revision if known else 1,
                steps=steps,
                on_demand=on_demand,
                simulated=self._simulates,
            ),
        )

    def came(self, exam: str, measurement: str, readouts: int, size: int) -> None:
        """So many readouts and bytes have come."""
        now = time.monotonic()
        if now - self._told.get(measurement, 0.0) >= PROGRESS_S:
            self._told[measurement] = now
            event = Progress(measurement=measurement, readouts=readouts, bytes=size)
            self.events.say(exam, event)

    def image(
        self,
        exam: str,
        series: str,
        image: ImageMessage,
        measurement: str,
        latency_ms: float | None,
    ) -> None:
        """An image has left."""
        title = self._titles.get(series, series)
        self.events.picture(exam, series, image, measurement, title, latency_ms)
        state = _engine(image.attributes, self._engine)
        if state is not self._engine:
            self._engine = state
            self.events.say(None, state)

    def ended(self, exam: str, measurement: str, report: "Report", cut: bool, size: int) -> None:
        """A measurement has ended."""
        began = self._began.pop(measurement, time.monotonic())
        self._told.pop(measurement, None)
        outcome: Literal["delivered", "failed", "cut"] = "cut" if cut else "delivered"
        self.events.say(
            exam,
            Ended(
                measurement=measurement,
                outcome="failed" if report.failed else outcome,
                images=len(report.images),
                bytes=size,
                seconds=time.monotonic() - began,
                errors=tuple(report.errors),
            ),
        )

    def labels(self, exam: str, series: str, labels: LabelMap) -> None:
        """A series was labelled."""
        self.events.labels(exam, f"{series}/labels", labels)

    def found(self, findings: ExamFindings) -> None:
        """Triage has spoken."""
        self.events.say(findings.exam, FindingsSaid(findings=findings))

    def summary(self, exam: str, series: str, pages: Sequence[ImageMessage]) -> None:
        """The pages of a summary that was made after a series."""
        title = f"Summary after {self._titles.get(series, series)} (computed)"
        for page in pages:
            self.events.picture(exam, series, page, title=title)

    def connected(self, peer: str) -> None:
        """A scanner has connected."""
        with self._lock:
            self._peers[peer] += 1
        self._peer(peer, "open")

    def disconnected(self, peer: str, lost: bool) -> None:
        """A scanner has gone; ``lost``: in the middle of a measurement."""
        with self._lock:
            self._peers[peer] -= 1
            others = self._peers[peer]
        if lost or not others:
            self._peer(peer, "lost" if lost else "closed")

    def problem(self, level: str, text: str) -> None:
        """Something that the technologist should know."""
        known: Any = level if level in ("info", "warning", "error") else "error"
        self.events.say(None, Problem(level=known, text=text))

    def _peer(self, peer: str, state: Literal["open", "closed", "lost"]) -> None:
        self.events.say(None, Connection(id=f"scanner {peer}", peer=peer, state=state))


def _engine(attributes: str, before: EngineState | None) -> EngineState:
    """Return how an image was reconstructed; most are as the one before."""
    fallback, network = "BoresideFallback" in attributes, "BoresideAI" in attributes
    state: Literal["network", "fallback", "off"]
    state = "fallback" if fallback else "network" if network else "off"
    if before is not None and before.state == state:
        return before
    meta = parse_meta(attributes)
    return EngineState(
        state=state,
        engine=_words(meta.get("BoresideAI", "")),
        reason=_words(meta.get("BoresideFallback", "")),
    )


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
