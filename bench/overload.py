"""Overload: three times the rate that the agent can sustain; do all acquired images still arrive?

First the sustainable rate is measured: one slice after the other, each sent when the image of the
one before has come. Then several scanners stream at three times that rate altogether, paced by the
clock, whatever comes back; each waits at the end for its CLOSE. The chain is one with a network,
whose deadline (`engines.deadline_ms`) cannot be held then: its images leave without it, and say so.
"""

import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.agents import AgentProcess, agent_process
from bench.data import Measurement
from bench.exams import Outcome, stack, take
from bench.rows import row
from protocols.meta import parse_meta
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage
from protocols.mrd_write import write

CONFIG = "denoise"
MATRIX = 96
COILS = 4
SCANNERS = 3
FACTOR = 3.0


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    slices = 8 if quick else 60
    with tempfile.TemporaryDirectory() as folder:
        with agent_process(Path(folder) / "calm", {"threads": 1}) as agent:
            agent.wait_ready()
            _sustained(agent, 2)  # loads the network
            interval_s = _sustained(agent, 4 if quick else 16)
        deadline_ms = 1000 * interval_s
        settings = {"threads": 1, "engines": {"deadline_ms": deadline_ms}}
        with agent_process(Path(folder) / "flooded", settings) as agent:
            agent.wait_ready()
            _sustained(agent, 2)
            outcomes = _flood(agent, slices, SCANNERS * interval_s / FACTOR)
    images = [image for outcome in outcomes for image in outcome.images]
    said = [image for image in images if _says(image)]
    late = [ms for image in images if (ms := _latency(image)) > deadline_ms]
    case = f"{SCANNERS} scanners, {slices} slices each, {FACTOR:g}x {1 / interval_s:.3g} slices/s"
    silent = [image for image in images if _latency(image) > 10 * deadline_ms and not _says(image)]
    measures = (
        ("lost_images", SCANNERS * slices - len(images), "lower", "images"),
        ("sessions without CLOSE", sum(not each.closed for each in outcomes), "lower", "sessions"),
        ("left by fallback, and say so", len(said), "higher", "images"),
        ("later than the deadline", len(late), "lower", "images"),
        ("far later, and silent", len(silent), "lower", "images"),
    )
    return [
        row("overload", case, measure, float(ours), "promised", None, better, unit)
        for measure, ours, better, unit in measures
    ]


def _sustained(agent: AgentProcess, slices: int) -> float:
    """Return the seconds that a slice takes where the next one waits for it."""
    scan = stack(slices, MATRIX, COILS)
    each = len(scan.readouts) // slices
    with agent.connect() as peer:
        sink = peer.makefile("wb", buffering=0)
        messages = Reader(peer.makefile("rb", buffering=0))
        write(sink, ConfigFile(CONFIG), scan.header, scan.noise)
        began = time.monotonic()
        for number in range(slices):
            write(sink, scan.readouts[number * each : (number + 1) * each])
            while not isinstance(message := messages.read(), ImageMessage):
                if message is None or isinstance(message, Close):
                    raise RuntimeError("the agent ended the session early")
        took = time.monotonic() - began
        write(sink, Close())
        for _ in messages:
            pass
    return took / slices


def _flood(agent: AgentProcess, slices: int, interval_s: float) -> list[Outcome]:
    """Have all scanners stream, each a slice every ``interval_s``."""
    scan = stack(slices, MATRIX, COILS)
    outcomes = [Outcome() for _ in range(SCANNERS)]
    scanners = [
        threading.Thread(target=_scanner, args=(agent, scan, slices, interval_s, outcome))
        for outcome in outcomes
    ]
    for scanner in scanners:
        scanner.start()
    for scanner in scanners:
        scanner.join()
    return outcomes


def _scanner(
    agent: AgentProcess, scan: Measurement, slices: int, interval_s: float, outcome: Outcome
) -> None:
    each = len(scan.readouts) // slices
    with agent.connect() as peer:
        receiver = threading.Thread(target=_receive, args=(peer, outcome))
        receiver.start()
        sink = peer.makefile("wb", buffering=0)
        write(sink, ConfigFile(CONFIG), scan.header, scan.noise)
        due = time.monotonic()
        pause = threading.Event()
        for number in range(slices):
            pause.wait(max(0.0, due - time.monotonic()))
            write(sink, scan.readouts[number * each : (number + 1) * each])
            due += interval_s
        write(sink, Close())
        receiver.join()


def _receive(peer: socket.socket, outcome: Outcome) -> None:
    for message in Reader(peer.makefile("rb", buffering=0)):
        take(outcome, message)


def _latency(image: ImageMessage) -> float:
    return float(str(parse_meta(image.attributes).get("BoresideLatencyMs", np.nan)))


def _says(image: ImageMessage) -> bool:
    """Whether an image says, where people read it, that the network was left out."""
    return "not denoised" in image.attributes
