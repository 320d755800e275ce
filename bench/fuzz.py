"""Fuzz: mutated input of every kind that reaches the agent, as fast as one core makes it.

Valid input is mutated from a seed, in this process, and given to the code that reads it. Input may
be refused by the error that is documented for it; any other exception is a crash. More than a
second of computing for one input is a hang, and so is standing still. Memory is the growth of the
process from an early moment to the end. Where `atheris` is installed, libFuzzer looks for input of
its own besides (`bench.fuzz_guided`).
"""

import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from bench import fuzz_guided
from bench.fuzz_mrd import measurements, streams
from bench.fuzz_services import console, worklist
from bench.fuzz_texts import controls, headers, protocols
from bench.rows import row

SEED = 8
HANG_S = 1.0
GIVE_UP_S = 20
"""What takes longer is interrupted, or it would never be counted."""
WARM = 0.2
"""Of a target's input, before memory is looked at for the first time."""


@dataclass
class Tally:
    """What became of the input of one target.

    Attributes
    ----------
    inputs, messages, refused, crashes, hangs : int
        A message is what a reader hands on, or refuses.
    longest_s : float
    growth_bytes : int
        Of resident memory since `WARM`.
    """

    inputs: int = 0
    messages: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    longest_s: float = 0.0
    growth_bytes: int = 0
    seen: set[str] = field(default_factory=set)


Case = Callable[[], tuple[int, bool]]
"""Gives one input to its reader; returns how many messages it was, whether one was refused."""


class Hang(BaseException):
    """Raised by the alarm: no handler of the code under test takes it for its own."""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def hammer(name: str, cases: Iterator[Case], messages: int) -> Tally:
    """Run cases until so many messages were read."""
    tally, baseline = Tally(), 0
    with _alarm():
        while tally.messages < messages:
            case = next(cases)
            began = time.process_time()
            signal.alarm(GIVE_UP_S)
            count, refused, hung = 1, False, False
            try:
                count, refused = case()
            except Hang as error:
                hung = True
                _tell(name, tally, error)
            except Exception as error:
                tally.crashes += 1
                _tell(name, tally, error)
            signal.alarm(0)
            took = time.process_time() - began
            tally.hangs += hung or took > HANG_S
            tally.longest_s = max(tally.longest_s, took)
            tally.inputs += 1
            tally.messages += max(1, count)
            tally.refused += refused
            if not baseline and tally.messages >= WARM * messages:
                baseline = _resident()
    tally.growth_bytes = _resident() - baseline
    return tally


def _tell(name: str, tally: Tally, error: BaseException) -> None:
    """Show each kind of failure once, with the number of its input: the seed makes it again."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} at {last.filename}:{last.lineno}"
    if where not in tally.seen:
        tally.seen.add(where)
        print(f"{name}, input {tally.inputs}: {where}", file=sys.stderr)
        traceback.print_exception(error, limit=-6, file=sys.stderr)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    scale = 0.01 if quick else 1.0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        targets: dict[str, tuple[Iterator[Case], int]] = {
            "mrd": (streams(random.Random(SEED)), 5_000_000),
            "measurement": (measurements(random.Random(SEED)), 60_000),
            "header": (headers(random.Random(SEED)), 20_000),
            "control": (controls(random.Random(SEED)), 200_000),
            "exam YAML": (protocols(random.Random(SEED)), 4_000),
            "worklist": (worklist(random.Random(SEED), place / "worklist"), 20_000),
            "console": (console(random.Random(SEED), place / "console"), 20_000),
        }
        rows = []
        for name, (cases, messages) in targets.items():
            rows += _rows(name, hammer(name, cases, max(50, int(scale * messages))))
            cases.close()  # type: ignore[attr-defined]
    guided = fuzz_guided.executions(5 if quick else 120)
    rows.append(
        row("fuzz", "mrd, guided by libFuzzer", "inputs without a crash", guided or 0.0,
            "atheris", None, "higher", "inputs" if guided else "inputs: atheris is not installed")
    )  # fmt: skip
    return rows


def _rows(name: str, tally: Tally) -> list[dict[str, Any]]:
    case = f"{name}: {tally.inputs} inputs, {tally.refused} refused"
    measures = (
        ("messages", tally.messages, "higher", "messages"),
        ("crashes", tally.crashes, "lower", "inputs"),
        ("hangs", tally.hangs, "lower", "inputs"),
        ("longest", 1000 * tally.longest_s, "lower", "ms"),
        ("memory growth", tally.growth_bytes / 1e6, "lower", "MB"),
    )
    return [
        row("fuzz", case, measure, float(ours), "promised", None, better, unit)
        for measure, ours, better, unit in measures
    ]
