"""Backtest: seconds for 1,000 recorded exams, threshold sweep included (18 replays of each).

Simulated exams, prevalence 0.1. On the cores there are, beside one process, and beside the naive
loop that replays every exam at every threshold, findings or none. Numbers must be identical.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.backtest import Backtest, backtest
from agent.backtest_target import Target, with_threshold
from agent.backtest_work import THRESHOLDS
from agent.replay import Answers, replay
from bench.rows import row
from protocols.archive import exam_lines, read_about, read_exam
from protocols.exam import ExamProtocol
from protocols.exam_library import library
from scanner.findings_archive import simulate

EXAMS = 1000


def _timed(protocol: ExamProtocol, archive: Path, workers: int) -> tuple[Backtest, float]:
    began = time.perf_counter()
    result = backtest([protocol], archive, workers)
    return result, time.perf_counter() - began


def _naive(protocol: ExamProtocol, archive: Path) -> float:
    began = time.perf_counter()
    about = read_about(archive)
    target = Target(about.finding, about.structures)
    for up in THRESHOLDS:
        variant = with_threshold(protocol, target, up)
        for line in exam_lines(archive):
            replay(variant, read_exam(line), Answers())
    for line in exam_lines(archive):
        replay(protocol, read_exam(line), Answers())
    return time.perf_counter() - began


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    exams = 200 if quick else EXAMS
    cores = len(os.sched_getaffinity(0))
    protocol = library()["lumbar"].protocol
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        simulate(archive, exams, prevalence=0.1, seed=1)
        one, alone = _timed(protocol, archive, 1)
        several, together = _timed(protocol, archive, cores)
        naive = _naive(protocol, archive)
    if one != several:
        raise RuntimeError("expected the same numbers of one process and of several")
    case = f"{exams} simulated exams, protocol lumbar, {len(THRESHOLDS)} thresholds swept"
    per_1000 = 1000 / exams
    return [
        row(
            "backtest",
            f"{name}: {case}",
            "seconds_per_1000",
            seconds * per_1000,
            "naive loop, one process",
            naive * per_1000,
            "lower",
            "s",
        )
        for name, seconds in (("1 process", alone), (f"{cores} processes", together))
    ]
