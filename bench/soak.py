"""Soak: hundreds of exams, back to back, from four scanners at once; does the agent wear out?

An exam is a few small measurements, one after the other. Of the agent's process are noted, as each
exam ends: resident memory, open files, threads. Latency is what the agent itself says of each image
(from its last readout to its departure). Compared are the last exams with the first, after some
that warm it up: 50 with 50, fewer in a short run.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.agents import AgentProcess, agent_process
from bench.exams import Outcome, exchange, stack
from bench.rows import row
from protocols.meta import parse_meta

SCANNERS = 4
MEASUREMENTS = 2
SLICES = 3
WARM = 10


@dataclass
class Exam:
    """What was seen as an exam ended."""

    resident: int
    files: int
    threads: int
    latency_ms: list[float] = field(default_factory=list)


class Soak:
    """Scanners that take exams from one queue until it is empty."""

    def __init__(self, agent: AgentProcess, exams: int) -> None:
        self._agent = agent
        self._left = exams
        self._lock = threading.Lock()
        self._process = Path(f"/proc/{agent.process.pid}")
        self._scan = stack(SLICES)
        self.exams: list[Exam] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Run all exams."""
        scanners = [threading.Thread(target=self._scanner, args=(k,)) for k in range(SCANNERS)]
        for scanner in scanners:
            scanner.start()
        for scanner in scanners:
            scanner.join()

    def _scanner(self, number: int) -> None:
        config = "conventional" if number % 2 else "simplefft"
        while True:
            with self._lock:
                if not self._left:
                    return
                self._left -= 1
            latency: list[float] = []
            for _ in range(MEASUREMENTS):
                try:
                    with self._agent.connect() as peer:
                        outcome = exchange(peer, config, self._scan)
                except (OSError, ValueError, RuntimeError) as error:
                    self.failures.append(str(error))
                    continue
                if len(outcome.images) != SLICES or not outcome.closed:
                    self.failures.append(f"{len(outcome.images)} images: {outcome.texts}")
                latency += _latency(outcome)
            with self._lock:
                self.exams.append(
                    Exam(
                        _resident_bytes(self._process),
                        len(os.listdir(self._process / "fd")),
                        len(os.listdir(self._process / "task")),
                        latency,
                    )
                )


def _resident_bytes(process: Path) -> int:
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _latency(outcome: Outcome) -> list[float]:
    return [float(str(parse_meta(i.attributes)["BoresideLatencyMs"])) for i in outcome.images]


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    exams, part = (40, 12) if quick else (500, 50)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"threads": 1, "spool": {"max_bytes": 50_000_000}}
        with agent_process(Path(folder), settings) as agent:
            agent.wait_ready()
            soak = Soak(agent, exams + WARM)
            soak.run()
    if soak.failures:
        raise RuntimeError(f"{len(soak.failures)} measurements failed: {soak.failures[0]}")
    seen = soak.exams[WARM:]
    first, last = seen[:part], seen[-part:]
    case = f"{exams} exams, {SCANNERS} scanners at once, last {part} to first {part}"
    pairs = {
        "rss": (_resident(last), _resident(first), "MB"),
        "open_files": (_most(last), _most(first), "files"),
        "latency_p99": (_p99(last), _p99(first), "ms"),
    }
    # The peer is the same agent when it was young: a ratio of 1 means that it has not worn out.
    return [
        row("soak", case, measure, after, "first exams", before, "lower", unit)
        for measure, (after, before, unit) in pairs.items()
    ]


def _resident(exams: Sequence[Exam]) -> float:
    return float(np.median([exam.resident for exam in exams])) / 1e6


def _most(exams: Sequence[Exam]) -> float:
    return float(np.median([exam.files for exam in exams]))


def _p99(exams: Sequence[Exam]) -> float:
    return float(np.percentile(np.concatenate([exam.latency_ms for exam in exams]), 99))
