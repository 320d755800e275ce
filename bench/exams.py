"""Small simulated measurements of several slices, and a scanner that streams them: for benchmarks
of trust, where what counts is how many, not how large. Synthetic data."""

import socket
from dataclasses import dataclass, field, replace

import numpy as np

from bench.data import Measurement, measurement
from protocols.mrd import Reader
from protocols.mrd_types import AcquisitionFlag, Close, ConfigFile, ImageMessage, ReadoutBlock, Text
from protocols.mrd_write import write


def stack(slices: int, matrix: int = 32, coils: int = 2) -> Measurement:
    """Return a 2D measurement of several slices, each brighter than the one before."""
    one = measurement((matrix, matrix, 1), coils=coils)
    count = len(one.readouts)
    headers = np.tile(one.readouts.headers, slices)
    headers["idx"]["slice"] = np.repeat(np.arange(slices), count)
    headers["flags"][:-1] &= ~np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
    headers["scan_counter"] = np.arange(len(headers))
    scale = np.repeat(np.arange(1, slices + 1) / slices, count)[:, None, None]
    samples = np.tile(one.readouts.samples, (slices, 1, 1)) * scale.astype(np.float32)
    return replace(one, readouts=ReadoutBlock(headers, samples))


@dataclass
class Outcome:
    """What a scanner got for a measurement.

    Attributes
    ----------
    images : list of ImageMessage
    texts : list of str
    closed : bool
        The agent said CLOSE.
    """

    images: list[ImageMessage] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    closed: bool = False


def exchange(peer: socket.socket, config: str, scan: Measurement) -> Outcome:
    """Send a measurement at once, and take what comes back."""
    outcome = Outcome()
    with peer.makefile("wb", buffering=0) as sink, peer.makefile("rb", buffering=0) as source:
        write(sink, ConfigFile(config), scan.header, scan.noise, scan.readouts, Close())
        for message in Reader(source):
            take(outcome, message)
    return outcome


def take(outcome: Outcome, message: object) -> None:
    """Note what came back."""
    if isinstance(message, ImageMessage):
        outcome.images.append(message)
    elif isinstance(message, Text):
        outcome.texts.append(message.text)
    elif isinstance(message, Close):
        outcome.closed = True
