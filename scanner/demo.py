"""The demo: simulated exams, streamed to the agent as its own process, and what came back.

The agent is started on a free port and knows nothing but what comes over the wire. Step by step
the exam of a patient with a subtle lesion is scanned at a multiple of its real speed, reconstructed
by the network and looked at; where the agent asks for more coverage, a scripted technologist
accepts, and that is scanned as well. The same readouts are sent to a second agent, as fast as they
go, for the conventional reconstruction to compare with. Then a healthy patient, of whom nothing
more is to be asked, and real brain k-space, where it is at hand. What is written:

    exam.h5           raw data and images of every step, ISMRMRD HDF5
    montage.png       the images as a console shows them
    summary.json      latency, error and similarity of every image; what was asked, when and why
    agent.log         what the agent had to say; conventional.log: the second one

With a page, the exam can be watched in a browser as it goes on.

All spine data are simulated; truth (fully sampled, without noise) never leaves this process.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from protocols.control import CoverageRequest
from protocols.mrd import Message
from protocols.mrd_hdf5 import write_measurement
from protocols.mrd_types import ConfigFile, HeaderText, ReadoutBlock
from scanner import brain, demo_coverage, montage, report
from scanner import console as show
from scanner.client import Received
from scanner.console_adapter import Answer
from scanner.console_virtual import VirtualConsole
from scanner.demo_agent import Running, agent
from scanner.exam import lumbar_exam, quick_exam
from scanner.phantom import LumbarSpine
from scanner.step import Step

CONFIG, PLAIN = "dl", "conventional"
"""What the exam asks the agent for, and what the result is compared with."""

EXAMS: dict[str, tuple[Callable[..., list[Step]], float, tuple[demo_coverage.Patient, ...]]] = {
    "lumbar": (lumbar_exam, 2.0, (demo_coverage.WITH_OEDEMA, demo_coverage.HEALTHY)),
    "quick": (quick_exam, 20.0, (demo_coverage.HEALTHY,)),
}
"""Each exam, how many times faster than real it is scanned here, and of whom."""


def steps_of(exam: str) -> tuple[list[Step], float]:
    """Return the steps of a simulated exam, and its speed in the demo."""
    make, speed, patients = EXAMS[exam]
    return make(patients[0].spine(), exam=patients[0].name), speed


def step_messages(step: Step, config: str) -> Iterator[Message]:
    """Yield what a scanner sends for a step."""
    yield ConfigFile(config)
    yield HeaderText(step.header_xml)
    yield from step.readouts()


def n_readouts(step: Step) -> int:
    """Return how many readouts a step has, noise scan included."""
    return step.protocol.noise_scan.readouts + len(step.schedule)


def find_shared_data() -> Path:
    """Return ``../shared/data`` of the repository, or else of the working folder."""
    beside_repository = Path(__file__).parents[2] / "shared" / "data"
    return beside_repository if beside_repository.is_dir() else Path("../shared/data")


def run(
    out: Path, exam: str, shared_data: Path | None, console: Console, page: bool = False
) -> None:
    """Run the demo.

    Parameters
    ----------
    out : Path
        Folder for the results; those of an earlier run are replaced.
    exam : str
        One of `EXAMS`.
    shared_data : Path or None
        Folder with the real brain k-space; None looks beside the repository.
    console : rich.console.Console
    page : bool
        Serve the agent's page; on a terminal it stays until somebody presses Enter.

    Raises
    ------
    AgentFailed, ServerAbsent, SessionBroken
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    (out / "exam.h5").unlink(missing_ok=True)
    make, speed, patients = EXAMS[exam]
    console.print(f"Simulated {exam} exam, scanned at {speed:g} times real speed")
    demo = _Demo(out, console, speed, demo_coverage.accept_later if page else demo_coverage.accept)
    coverage = []
    with (
        agent(out / "agent.log", demo_coverage.PROTOCOL, page) as looking,
        agent(out / "conventional.log") as plain,
    ):
        if page:
            console.print(f"The exam is on {looking.page}", highlight=False)
            show.open_browser(looking.page)
        for number, patient in enumerate(patients):
            spine = patient.spine()
            steps = make(spine, exam=patient.name)
            found = demo.scan_patient(
                patient, spine, steps, looking, plain if number == 0 else None
            )
            console.print("\n".join(demo_coverage.lines(found)), markup=False, highlight=False)
            coverage.append(found)
        file = (shared_data or find_shared_data()) / brain.FILE_NAME
        if file.is_file():
            demo.scan_brain(file, looking)
        else:
            console.print(f"real brain k-space: skipped, there is no {file} (see --shared-data)")
        if page and sys.stdin.isatty():
            console.input(f"{looking.page} stays until you press Enter ")
    title = f"Boreside demo: {exam} exam, images as the agent returned them"
    note = (
        "Spine: SIMULATED with a digital phantom, no patient. "
        "NRMSE and SSIM against the fully sampled simulation without noise. "
        "Coil shading evened out for display only."
    )
    montage.draw(title, note, demo.rows).save(out / "montage.png", optimize=True)
    seconds = round(time.monotonic() - began, 1)
    facts = {
        "exam": exam,
        "simulated": True,
        "real_data": [brain.NAME] if file.is_file() else [],
        "speed": speed,
        "configuration": CONFIG,
        "seconds": seconds,
        "coverage": coverage,
    }
    results = demo.results
    report.write_summary(out / "summary.json", facts, results)
    for name in dict.fromkeys(result.series for result in results):
        console.print(report.series_table([r for r in results if r.series == name]))
    console.print(f"{seconds:.0f} s. Written: {', '.join(sorted(f.name for f in out.iterdir()))}")


class _Demo:
    """What is scanned, and what is kept of it."""

    def __init__(
        self,
        out: Path,
        console: Console,
        speed: float,
        answer: Callable[[CoverageRequest], Answer],
    ) -> None:
        self._raw, self._console, self._speed = out / "exam.h5", console, speed
        self._answer = answer
        self.results: list[report.ImageResult] = []
        self.rows: list[montage.Row] = []

    def scan_patient(
        self,
        patient: demo_coverage.Patient,
        spine: LumbarSpine,
        steps: list[Step],
        looking: Running,
        plain: Running | None,
    ) -> dict[str, Any]:
        """Scan what was ordered, then what was asked for and accepted.

        The first patient's images are compared with the truth and with those of ``plain``; of the
        others it counts only whether anything is asked.
        """
        assert looking.control is not None

        def acquire(step: Step) -> None:
            speed = self._speed if plain else None
            received = show.scan(
                self._console,
                looking.address,
                step.name,
                step_messages(step, CONFIG),
                n_readouts(step),
                speed,
            )
            self._said(received)
            if plain:
                self._compare(step, received, plain)

        with VirtualConsole(
            looking.control, steps, demo_coverage.protocol(), self._answer, acquire
        ) as technologist:
            for step in steps:
                acquire(step)
                technologist.acquired(step)
            technologist.finish()
            return demo_coverage.facts(patient, spine, technologist)

    def _compare(self, step: Step, received: Received, plain: Running) -> None:
        messages = chain(step_messages(step, CONFIG), received.images)
        write_measurement(self._raw, messages, step.name)
        again = show.scan(
            self._console,
            plain.address,
            f"{step.name}, {PLAIN}",
            step_messages(step, PLAIN),
            n_readouts(step),
        )
        truth = step.truth()
        series = report.judge_step(step, truth, received, again)
        self.results += series
        self.rows.append(report.step_row(step, truth, received, again, series))

    def scan_brain(self, file: Path, looking: Running) -> None:
        """Send the real brain k-space."""
        messages = [ConfigFile(CONFIG), *brain.brain_messages(file)]
        count = sum(len(message) for message in messages if isinstance(message, ReadoutBlock))
        received = show.scan(self._console, looking.address, brain.NAME, messages, count)
        self._said(received)
        write_measurement(self._raw, chain(messages, received.images), brain.NAME)
        series = report.judge_brain(received)
        self.results += series
        self.rows.append(report.brain_row(received, series))

    def _said(self, received: Received) -> None:
        for text in received.texts:
            self._console.print(text, markup=False, highlight=False)
