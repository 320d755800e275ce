"""Ingest: how many readouts of 16 coils x 512 samples a server takes per second.

One client sends the same bytes (configuration ``null``) to each server in turn and takes the time
from connecting until the server's CLOSE has come back, which it sends when it has read everything.
Boreside also has every byte in its spool file by then; the peers keep nothing.
"""

import socket
import statistics
import time
from typing import Any

import numpy as np

from bench.peers import boreside, fire, raw_reader, wire_reader
from bench.rows import row
from protocols.mrd_types import ACQUISITION_HEADER, Close, ConfigFile, HeaderText, ReadoutBlock
from protocols.mrd_write import encode, encode_block

COILS, SAMPLES = 16, 512
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz>
</experimentalConditions><encoding><encodedSpace><matrixSize><x>512</x><y>256</y><z>1</z>
</matrixSize><fieldOfView_mm><x>600</x><y>300</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>256</x><y>256</y><z>1</z></matrixSize><fieldOfView_mm><x>300</x>
<y>300</y><z>5</z></fieldOfView_mm></reconSpace><encodingLimits/>
<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def _readouts(count: int) -> bytes:
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["version"] = 1
    headers["scan_counter"] = headers["idx"]["kspace_encode_step_1"] = np.arange(count)
    headers["center_sample"] = SAMPLES // 2
    samples = np.ones((count, COILS, SAMPLES), np.complex64)
    return encode_block(ReadoutBlock(headers, samples)).tobytes()


def _rate(port: int, chunk: bytes, per_chunk: int, chunks: int) -> float:
    start = b"".join(b"".join(encode(m)) for m in (ConfigFile("null"), HeaderText(HEADER)))
    with socket.create_connection(("127.0.0.1", port)) as peer:
        began = time.perf_counter()
        peer.sendall(start)
        for _ in range(chunks):
            peer.sendall(chunk)
        peer.sendall(b"".join(encode(Close())))
        tail = b""
        while not tail.endswith(b"\x04\x00"):
            got = peer.recv(4096)
            if not got:
                raise RuntimeError("the server went away before its CLOSE")
            tail = (tail + got)[-2:]
        return per_chunk * chunks / (time.perf_counter() - began)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    chunks, rounds = (64, 3) if quick else (192, 7)
    per_chunk = 64
    chunk = _readouts(per_chunk)
    case = f"{COILS} coils x {SAMPLES} samples, {chunks * per_chunk} readouts"
    rates: dict[str, list[float]] = {}
    with boreside() as (ours, _), wire_reader() as wire, fire() as theirs, raw_reader() as raw:
        ports = {
            "agent": ours,
            "reader": wire,
            "python-ismrmrd-server null": theirs,
            "raw socket reader": raw,
        }
        for _ in range(rounds):
            for name, port in ports.items():
                if port is not None:
                    rates.setdefault(name, []).append(_rate(port, chunk, per_chunk, chunks))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cases = {
        "agent": f"agent, config null, every byte spooled: {case}",
        "reader": f"wire reader alone (protocols.mrd), no spool: {case}",
    }
    return [
        row(
            "ingest",
            cases[own],
            "readouts per second",
            medians[own],
            peer,
            medians.get(peer),
            "higher",
            "1/s",
        )
        for own in cases
        for peer in ports
        if peer not in cases
    ]
