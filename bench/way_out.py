"""The way out: what DICOM and the console's page cost the images that go back to the scanner.

Two agents, alike but for an outbox (whose PACS is away, so that all is written and nothing sent)
and a page's events. The scanner sends a slice, waits for its image, and sends the next at once:
while that is reconstructed, the one before becomes a DICOM object and a picture. Measurements
alternate between both agents. Latency without the way out is the peer of latency with it: the ratio
is to stay above 0.98.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.agents import AgentProcess, agent_process
from bench.data import Measurement
from bench.exams import stack
from bench.rows import row
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage
from protocols.mrd_write import write

AWAY = {"name": "away", "host": "127.0.0.1", "port": 9, "ae_title": "AWAY"}
SLICES, COILS = 15, 8


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows of the median and of the slowest of twenty images."""
    matrix, rounds = (96, 2) if quick else (256, 10)
    scan = stack(SLICES, matrix, COILS)
    settings: dict[str, Any] = {"threads": 1}
    ways = {"outbox": {"destinations": [AWAY]}, "console": {}}
    latencies: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            agent_process(folder / "with", settings | ways) as ours,
            agent_process(folder / "without", settings) as peer,
        ):
            for agent in (ours, peer):
                agent.wait_ready()
                _measure(agent, scan)  # the first one warms up
            for _ in range(rounds):
                for agent, found in zip((ours, peer), latencies):
                    found += _measure(agent, scan)
    case = f"{SLICES} slices of {matrix} x {matrix}, {COILS} coils, conventional"
    return [
        row("way_out", case, measure, *_pair(latencies, rank), "lower", "ms")
        for measure, rank in (("latency p50", 10), ("latency p95", 19))
    ]


def _measure(agent: AgentProcess, scan: Measurement) -> list[float]:
    """Return the time from a slice's last byte sent to its whole image received, in ms."""
    found = []
    lines = len(scan.readouts) // SLICES
    with (
        agent.connect() as peer,
        peer.makefile("wb", buffering=0) as sink,
        peer.makefile("rb", buffering=0) as source,
    ):
        reader = Reader(source)
        write(sink, ConfigFile("conventional"), scan.header, scan.noise)
        for start in range(0, len(scan.readouts), lines):
            write(sink, scan.readouts[start : start + lines])
            began = time.perf_counter()
            while not isinstance(reader.read(), ImageMessage):
                pass
            found.append(1e3 * (time.perf_counter() - began))
        write(sink, Close())
        while not isinstance(reader.read(), Close):
            pass
    return found


def _pair(latencies: tuple[list[float], list[float]], rank: int) -> tuple[float, str, float]:
    ours, peer = (statistics.quantiles(found, n=20)[rank - 1] for found in latencies)
    return ours, "without DICOM and page", peer
