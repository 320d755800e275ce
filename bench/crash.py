"""Crash: SIGKILL at random moments of simulated exams; what is lost, doubled or damaged?

Each exam has a folder of its own, in which the agent (`boreside serve`, a process) is started,
killed and started again; a scanner streams small measurements to it meanwhile, and asks after each
burst of readouts how many bytes are safe. The moments are drawn, from a seed: after so many bytes
of a measurement, as its n-th image comes back, after a time, or while the agent recovers what it
was killed over before. At the end the agent is left in peace (`boreside recover`, and a last
process that sends to the PACS), and everything that was promised is looked for
(`bench.crash_check`, `bench.crash_dicom`).
"""

import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.agents import AgentProcess, recover
from bench.crash_check import check, unbroken
from bench.crash_dicom import arrived, dicom, pacs, settle, to_pacs
from bench.exams import Outcome, stack, take
from bench.rows import row
from protocols.errors import WireError
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response
from protocols.mrd_write import encode

SEED = 8
SLICES = 4
BURST = 8
MEASUREMENTS = 3
"""Of one life of an agent, at most; it is killed during one of them."""
CONFIGS = ("simplefft", "conventional")
LATEST_S = 0.6
"""After the last byte of a measurement, or after the start of a recovery."""


@dataclass
class Sent:
    """A measurement as the scanner saw it.

    Attributes
    ----------
    config : str
    stream : bytes
        All of it; it may have been cut.
    sent, acknowledged : int
        Bytes that were handed to the kernel, and that the agent said to be safe.
    ends : int (N)
        Where each imaging readout ends in the stream.
    outcome : Outcome
    """

    config: str
    stream: bytes
    ends: np.ndarray
    sent: int = 0
    acknowledged: int = 0
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True)
class Moment:
    """When to kill: during measurement ``number``, after so many bytes, images or seconds."""

    number: int
    kind: str
    amount: float


def prepared(number: int, config: str) -> Sent:
    """Return measurement ``number``, whose bytes are like no other's."""
    scan = stack(SLICES)
    for block in (scan.noise, scan.readouts):
        block.headers["measurement_uid"] = number
    stream = b"".join(bytes(b) for m in (ConfigFile(config), scan.header, scan.noise)
                      for b in encode(m))  # fmt: skip
    ends = []
    for start in range(0, len(scan.readouts), BURST):
        burst = scan.readouts[start : start + BURST]
        raw = b"".join(bytes(buffer) for buffer in encode(burst))
        step = len(raw) // len(burst)
        ends += [len(stream) + step * (k + 1) for k in range(len(burst))]
        query = Query(start, "boreside::spooled")
        stream += raw + b"".join(bytes(buffer) for buffer in encode(query))
    stream += b"".join(bytes(buffer) for buffer in encode(Close()))
    return Sent(config, stream, np.array(ends))


def life(agent: AgentProcess, moment: Moment, measurements: Iterator[Sent]) -> list[Sent]:
    """Stream measurements to an agent until it is killed at ``moment``."""
    if moment.kind == "recovery":
        with agent.connect():
            threading.Event().wait(moment.amount)
        agent.kill()
        return []
    done = []
    for number in range(moment.number + 1):
        sent = next(measurements)
        done.append(sent)
        _stream(agent, sent, moment if number == moment.number else None)
    agent.kill()
    return done


def _stream(agent: AgentProcess, sent: Sent, moment: Moment | None) -> None:
    amount = moment.amount if moment else None
    kind = moment.kind if moment else ""
    with agent.connect() as peer:

        def receive() -> None:
            try:
                for message in Reader(peer.makefile("rb", buffering=0)):
                    if isinstance(message, Response):
                        sent.acknowledged = int(message.text)
                    take(sent.outcome, message)
                    if (
                        isinstance(message, ImageMessage)
                        and kind == "image"
                        and len(sent.outcome.images) == amount
                    ):
                        agent.kill()
            except (OSError, WireError):
                pass  # killed in the middle of a message

        receiver = threading.Thread(target=receive)
        receiver.start()
        end = len(sent.stream)
        if kind == "bytes" and amount is not None:
            end = int(amount * end)
        try:
            view = memoryview(sent.stream)[:end]
            while sent.sent < end:
                sent.sent += peer.send(view[sent.sent : sent.sent + 4096])
        except OSError:
            pass  # killed by the other thread
        if kind == "bytes":
            agent.kill()
        elif kind == "time":
            receiver.join(amount)
            agent.kill()
        receiver.join()


def exam(
    folder: Path,
    settings: dict[str, Any],
    kills: int,
    draw: random.Random,
    numbers: Iterator[int],
) -> list[Sent]:
    """Run one exam in which the agent is killed so often; returns all that was sent."""
    measurements = (prepared(n, CONFIGS[n % len(CONFIGS)]) for n in numbers)
    sent: list[Sent] = []
    for kill in range(kills):
        kinds = ["bytes", "image", "time", *(["recovery"] if kill else [])]
        kind = draw.choice(kinds)
        amount = {
            "bytes": draw.random(),
            "image": float(draw.randint(1, SLICES)),
            "time": LATEST_S * draw.random(),
            "recovery": 2 * LATEST_S * draw.random(),
        }[kind]
        moment = Moment(draw.randrange(MEASUREMENTS), kind, amount)
        agent = AgentProcess(folder, settings)
        try:
            sent += life(agent, moment, measurements)
        finally:
            agent.kill()
    recover(folder)
    settle(folder, settings)
    return sent


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    exams, kills = (1, 6) if quick else (40, 200)
    draw = random.Random(SEED)
    numbers = iter(range(1, 1 << 30))
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        expected = unbroken(Path(folder) / "unbroken", CONFIGS, SLICES)
        for number in range(exams):
            place = Path(folder) / f"exam{number}"
            with pacs(place / "pacs") as port:
                sent = exam(place, to_pacs(place, port), kills // exams, draw, numbers)
            totals += check(place, sent, expected, SLICES) + arrived(place, place / "pacs")
            totals["measurements"] += len(sent)
        totals += dicom(Path(folder) / "dicom", 4 if quick else 40, draw)
    case = f"{kills} kills over {exams} exams, {totals['measurements']} measurements"
    objects = f"{totals['objects']} objects, {totals['outbox_kills']} kills of the outbox"
    rows = [
        row("crash", case, name, float(totals[name]), "promised", None, "lower", unit)
        for name, unit in (
            ("lost_images", "images"),
            ("doubled_images", "images"),
            ("lost_bytes", "bytes"),
            ("damaged_stores", "stores"),
        )
    ]
    return rows + [
        row("crash", objects, name, float(totals[name]), "promised", None, "lower", "objects")
        for name in ("lost_objects", "doubled_objects")
    ]
