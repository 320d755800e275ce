"""Memory: a 3D acquisition of 4 GB streams through a server that may hold 3 frames + 300 MB.

The readouts are sent as fast as the agent takes them. Measured is the greatest resident memory of
the agent's process (``VmHWM``), beside the bound.
"""

import socket
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import header, measurement
from bench.peers import boreside
from bench.rows import row
from protocols.mrd import Reader
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    AcquisitionFlag,
    Close,
    ConfigFile,
    ImageMessage,
    ReadoutBlock,
)
from protocols.mrd_write import write


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM on this system")


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the row of this benchmark."""
    nx, ny, nz, coils = (128, 128, 32, 8) if quick else (256, 240, 128, 32)
    partition = measurement((nx, ny, 1), coils=coils)
    frame_bytes = coils * 2 * nx * ny * nz * 8
    last = int(AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT)
    with boreside() as (port, process), socket.create_connection(("127.0.0.1", port)) as peer:
        sink = peer.makefile("wb", buffering=0)
        write(sink, ConfigFile("conventional"), header((nx, ny, nz)), partition.noise)
        for z in range(nz):
            headers = np.array(partition.readouts.headers, ACQUISITION_HEADER)
            headers["flags"] &= ~np.uint64(last)
            headers["idx"]["kspace_encode_step_2"] = z
            if z == nz - 1:
                headers["flags"][-1] |= np.uint64(last)
            weight = np.float32(1 / (1 + abs(z - nz // 2)))
            write(sink, ReadoutBlock(headers, partition.readouts.samples * weight))
        write(sink, Close())
        images = [
            m for m in Reader(peer.makefile("rb", buffering=0)) if isinstance(m, ImageMessage)
        ]
        if len(images) != 1 or images[0].data.shape != (1, nz, ny, nx):
            raise RuntimeError(f"expected one image of {nz} partitions, got {len(images)}")
        peak = _peak_bytes(process.pid)
    return [
        row(
            "memory",
            f"3D {2 * nx}x{ny}x{nz}, {coils} coils, {frame_bytes / 1e9:.2f} GB streamed",
            "peak resident memory",
            peak / 1e6,
            "bound: 3 encoded frames + 300 MB",
            (3 * frame_bytes + 300e6) / 1e6,
            "lower",
            "MB",
        )
    ]
