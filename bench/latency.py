"""Latency: from the last readout of a slice to its whole image, as the scanner sees it.

Everything but the last readout is sent and given time to be taken in, as while scanning; then the
last readout goes out and the clock runs until the image has come back. The peer is a stock
python-ismrmrd-server (``simplefft``, which knows no acceleration); for accelerated scans it is what
a script around BART does from that moment on: `bart ecalib` and `bart pics` on the same data.
"""

import shutil
import socket
import statistics
import time
from typing import Any

from bench.data import Measurement, measurement
from bench.peers import boreside, fire
from bench.rows import row
from bench.sense import bart_seconds
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage
from protocols.mrd_write import write

SETTLE_SECONDS = 0.3


def _latency(port: int, config: str, scan: Measurement) -> float:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sink, source = peer.makefile("wb", buffering=0), peer.makefile("rb", buffering=0)
        write(sink, ConfigFile(config), scan.header)
        if config != "simplefft":
            write(sink, scan.noise)
        write(sink, scan.readouts[:-1])
        time.sleep(SETTLE_SECONDS)
        began = time.perf_counter()
        write(sink, scan.readouts[-1:])
        for message in Reader(source):
            if isinstance(message, ImageMessage):
                taken = time.perf_counter() - began
                write(sink, Close())
                return 1000 * taken
    raise RuntimeError(f"no image came back for {config}")


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    rounds = 3 if quick else 9
    full = measurement((256, 256, 1), coils=16)
    fast = {r: measurement((320, 320, 1), coils=16, acceleration=r) for r in (2, 4)}
    times: dict[str, list[float]] = {}
    with boreside() as (ours, _), fire() as theirs:
        for _ in range(rounds):
            times.setdefault("ours", []).append(_latency(ours, "conventional", full))
            if theirs is not None:
                times.setdefault("fire", []).append(_latency(theirs, "simplefft", full))
            for r, scan in fast.items():
                times.setdefault(f"ours {r}", []).append(_latency(ours, "conventional", scan))
                if shutil.which("bart"):
                    times.setdefault(f"bart {r}", []).append(1000 * bart_seconds(scan.kspace))
    middle = {name: statistics.median(values) for name, values in times.items()}
    measure = "last readout to image"
    rows = [
        row(
            "latency",
            "2D 256x256, 16 coils, R=1 (peer: simplefft, without prewhitening)",
            measure,
            middle["ours"],
            "python-ismrmrd-server",
            middle.get("fire"),
            "lower",
            "ms",
        )
    ]
    for r in fast:
        rows.append(
            row(
                "latency",
                f"2D 320x320, 16 coils, R={r}, 24 calibration lines",
                measure,
                middle[f"ours {r}"],
                "bart ecalib + pics",
                middle.get(f"bart {r}"),
                "lower",
                "ms",
            )
        )
    return rows
