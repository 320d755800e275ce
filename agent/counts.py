"""What this process has done so far, in numbers: for `agent.metrics`, and free of any package.

Delivery adds to a few integers here and goes on. Whoever wants to see them copies them.
"""

import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.measurement import Report
    from protocols.control import Telemetry

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the histogram's classes."""
REMEMBERED = 10_000
"""Findings that are not counted again."""


@dataclass(frozen=True)
class Totals:
    """A copy of everything counted.

    Attributes
    ----------
    measurements : Counter
        By outcome: "delivered", "failed", or "cut" where the scanner vanished.
    readouts, images, fallback_images : int
        Fallback: an image that left by a plainer way than was asked for.
    latency : list of int
        Images by class of `LATENCY_S`, and those above; with ``latency_s`` their sum.
    refused : Counter
        Connections, by why.
    series : Counter
        "looked" or "failed".
    findings : Counter
        By type; each finding once.
    """

    measurements: Counter[str] = field(default_factory=Counter)
    readouts: int = 0
    images: int = 0
    fallback_images: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_S) + 1))
    latency_s: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    series: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)


class Counts:
    """Counters; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Totals()
        self._seen: deque[tuple[str | None, str]] = deque(maxlen=REMEMBERED)

    def measurement(self, report: "Report") -> None:
        """Take a measurement that has ended."""
        if report.empty:
            return
        outcome = "failed" if report.failed else "cut" if report.cut else "delivered"
        classes, total_s = _classes(report.latency_ms)
        with self._lock:
            before = self._totals
            before.measurements[outcome] += 1
            for number, count in classes.items():
                before.latency[number] += count
            self._totals = replace(
                before,
                readouts=before.readouts + report.readouts,
                images=before.images + len(report.images),
                fallback_images=before.fallback_images + report.fallbacks,
                latency_s=before.latency_s + total_s,
            )

    def refused(self, why: str) -> None:
        """Take a connection that was not served."""
        with self._lock:
            self._totals.refused[why] += 1

    def told(self, message: "Telemetry") -> None:
        """Take what is said of exams (`agent.exam_telemetry`)."""
        values = message.values
        with self._lock:
            if message.topic == "series":
                self._totals.series["failed" if "failed" in values else "looked"] += 1
            elif message.topic == "finding":
                key = (message.exam, str(values.get("id")))
                if key not in self._seen:
                    self._seen.append(key)
                    self._totals.findings[str(values.get("type"))] += 1

    def totals(self) -> Totals:
        """Return a copy."""
        with self._lock:
            now = self._totals
            return replace(
                now,
                measurements=now.measurements.copy(),
                latency=list(now.latency),
                refused=now.refused.copy(),
                series=now.series.copy(),
                findings=now.findings.copy(),
            )


def _classes(latency_ms: Sequence[float]) -> tuple[Counter[int], float]:
    seconds = [each / 1e3 for each in latency_ms]
    return Counter(bisect_left(LATENCY_S, each) for each in seconds), sum(seconds)


COUNTS = Counts()
"""Of this process."""
