"""The demo: a simulated exam, streamed to the agent as its own process, and what came back.

The agent is started on a free port and knows nothing but what comes over the wire. Step by step
the exam is scanned at a multiple of its real speed, reconstructed by the network; then the same
readouts are sent again, as fast as they go, for the conventional reconstruction to compare with;
then real brain k-space, where it is at hand. What is written:

    exam.h5       raw data and images of every step, ISMRMRD HDF5
    montage.png   the images as a console shows them
    summary.json  latency, error and similarity of every image
    agent.log     what the agent had to say

All spine data are simulated; truth (fully sampled, without noise) never leaves this process.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from rich.console import Console

from protocols.mrd import Message
from protocols.mrd_hdf5 import write_measurement
from protocols.mrd_types import ConfigFile, HeaderText, ReadoutBlock
from scanner import brain, montage, report
from scanner import console as show
from scanner.client import Received
from scanner.exam import lumbar_exam, quick_exam
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.step import Step

CONFIG, PLAIN = "dl", "conventional"
"""What the exam asks the agent for, and what the result is compared with."""

START_S = 60.0

EXAMS: dict[str, tuple[Callable[..., list[Step]], float]] = {
    "lumbar": (lumbar_exam, 2.0),
    "quick": (quick_exam, 20.0),
}
"""Each exam and how many times faster than real it is scanned here."""


class AgentFailed(RuntimeError):
    """The agent's process did not come up."""


def steps_of(exam: str) -> tuple[list[Step], float]:
    """Return the steps of a simulated exam, and its speed in the demo."""
    make, speed = EXAMS[exam]
    return make(LumbarSpine(SpineParameters())), speed


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


@contextmanager
def agent(folder: Path) -> Iterator[str]:
    """Run ``boreside serve`` with a spool inside ``folder``; gives its address.

    Raises
    ------
    AgentFailed
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / "agent.log"
    with tempfile.TemporaryDirectory(prefix="spool-", dir=folder) as spool, log.open("wb") as lines:
        command = [sys.executable, "-m", "boreside", "serve", "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--spool", spool], stdin=subprocess.DEVNULL, stdout=lines, stderr=lines
        )
        try:
            _wait_for(process, port, log)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise AgentFailed(
                    f"boreside serve did not listen on port {port} within {START_S:.0f} s; "
                    f"its log ends with:\n{tail}"
                ) from None
            time.sleep(0.05)


def run(out: Path, exam: str, shared_data: Path | None, console: Console) -> None:
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

    Raises
    ------
    AgentFailed, ServerAbsent, SessionBroken
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    raw = out / "exam.h5"
    raw.unlink(missing_ok=True)
    steps, speed = steps_of(exam)
    results: list[report.ImageResult] = []
    rows: list[montage.Row] = []
    console.print(f"Simulated {exam} exam, scanned at {speed:g} times real speed")
    with agent(out) as address:
        while steps:
            step = steps.pop(0)
            with console.status(f"{step.name}: simulating"):
                truth = step.truth()
            received = show.scan(
                console, address, step.name, step_messages(step, CONFIG), n_readouts(step), speed
            )
            _keep(console, raw, step.name, step_messages(step, CONFIG), received)
            name = f"{step.name}, {PLAIN}"
            plain = show.scan(console, address, name, step_messages(step, PLAIN), n_readouts(step))
            series = report.judge_step(step, truth, received, plain)
            results += series
            rows.append(report.step_row(step, truth, received, plain, series))
        file = (shared_data or find_shared_data()) / brain.FILE_NAME
        if file.is_file():
            messages = [ConfigFile(CONFIG), *brain.brain_messages(file)]
            count = sum(len(message) for message in messages if isinstance(message, ReadoutBlock))
            received = show.scan(console, address, brain.NAME, messages, count)
            _keep(console, raw, brain.NAME, messages, received)
            series = report.judge_brain(received)
            results += series
            rows.append(report.brain_row(received, series))
        else:
            console.print(f"real brain k-space: skipped, there is no {file} (see --shared-data)")
    title = f"Boreside demo: {exam} exam, images as the agent returned them"
    note = (
        "Spine: SIMULATED with a digital phantom, no patient. "
        "NRMSE and SSIM against the fully sampled simulation without noise. "
        "Coil shading evened out for display only."
    )
    montage.draw(title, note, rows).save(out / "montage.png", optimize=True)
    seconds = round(time.monotonic() - began, 1)
    facts = {
        "exam": exam,
        "simulated": True,
        "real_data": [brain.NAME] if file.is_file() else [],
        "speed": speed,
        "configuration": CONFIG,
        "seconds": seconds,
    }
    report.write_summary(out / "summary.json", facts, results)
    for name in dict.fromkeys(result.series for result in results):
        console.print(report.series_table([r for r in results if r.series == name]))
    console.print(f"{seconds:.0f} s. Written: {', '.join(sorted(f.name for f in out.iterdir()))}")


def _keep(
    console: Console, raw: Path, name: str, messages: Iterable[Message], received: Received
) -> None:
    """Say what the agent had to say, and keep raw data and images."""
    for text in received.texts:
        console.print(text, markup=False, highlight=False)
    write_measurement(raw, chain(messages, received.images), name)
