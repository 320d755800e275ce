"""SIGKILL at any moment: what was acknowledged is in the spool, and a restart finishes it."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from agent.config import load
from agent.spool import Spool
from bench.data import Measurement, measurement
from protocols.errors import TruncatedStream
from protocols.mrd import Reader
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import (
    AcquisitionFlag,
    Close,
    ConfigFile,
    ImageMessage,
    Query,
    ReadoutBlock,
    Response,
)
from protocols.mrd_write import encode, write

KILLS = int(os.environ.get("BORESIDE_TEST_KILLS", "5"))
SLICES = 4
BURST = 8
CONFIGURATIONS = ("simplefft", "conventional")


@contextmanager
def agent(folder: Path, recover: str = "--no-recover") -> Iterator[tuple[subprocess.Popen, Path]]:
    """Run `serve` on a Unix socket of its own; nobody else's port can be in the way."""
    path = folder / "mrd.sock"
    command = [sys.executable, "-m", "agent.cli", "serve", "--port", "0", "--socket", str(path)]
    process = subprocess.Popen(
        [*command, "--spool", str(folder / "spool"), recover],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield process, path
    finally:
        process.kill()
        process.communicate()


def boreside_recover(spool: Path) -> None:
    command = [sys.executable, "-m", "agent.cli", "recover", "--spool", str(spool)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        yield peer


@pytest.fixture(scope="module")
def scan() -> Measurement:
    """Four slices, 3 coils, 48 x 48; synthetic."""
    one = measurement((48, 48, 1), coils=3)
    count = len(one.readouts)
    headers = np.tile(one.readouts.headers, SLICES)
    headers["idx"]["slice"] = np.repeat(np.arange(SLICES), count)
    headers["flags"][:-1] &= ~np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
    scale = np.repeat(np.arange(1, SLICES + 1), count)[:, None, None].astype(np.float32)
    samples = np.tile(one.readouts.samples, (SLICES, 1, 1)) * scale
    return Measurement(one.header, one.noise, ReadoutBlock(headers, samples), one.truth, one.kspace)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, scan) -> dict[str, list[ImageMessage]]:
    """The images of the measurement, from a process that nobody kills."""
    images: dict[str, list[ImageMessage]] = {}
    with agent(tmp_path_factory.mktemp("unbroken")) as (_, path):
        for config in CONFIGURATIONS:
            with connected(path) as peer:
                sink = peer.makefile("wb", buffering=0)
                write(sink, ConfigFile(config), scan.header, scan.noise, scan.readouts, Close())
                *images[config], _ = Reader(peer.makefile("rb", buffering=0))
    return images


def stream_until_killed(
    process: subprocess.Popen, path: Path, config: str, scan: Measurement, kill_at: int
) -> tuple[int, int]:
    """Send readouts with a query after each burst, and kill the agent after so many bytes.

    Returns
    -------
    acknowledged, readouts : int
        Bytes that the last answer said to be in the spool; imaging readouts before it.
    """
    acknowledged = readouts = sent = 0
    with connected(path) as peer:
        sink = peer.makefile("wb", buffering=0)
        reader = Reader(peer.makefile("rb", buffering=0))
        write(sink, ConfigFile(config), scan.header, scan.noise)
        for start in range(0, len(scan.readouts), BURST):
            burst = scan.readouts[start : start + BURST]
            query = Query(start, "boreside::spooled")
            raw = b"".join(bytes(buffer) for m in (burst, query) for buffer in encode(m))
            peer.sendall(raw[: max(0, kill_at - sent)])
            sent += len(raw)
            if sent > kill_at:
                process.kill()
                process.wait()
                break
            while not isinstance(message := reader.read(), Response):
                assert message is not None
            acknowledged, readouts = int(message.text), start + len(burst)
    return acknowledged, readouts


def spooled(path: Path) -> ReadoutBlock:
    with open(path, "rb", buffering=0) as file:
        blocks = [m for m in _until_cut(Reader(file)) if isinstance(m, ReadoutBlock)]
    return ReadoutBlock(
        np.concatenate([b.headers for b in blocks]), np.concatenate([b.samples for b in blocks])
    )


def _until_cut(reader: Reader) -> Iterator[object]:
    try:
        yield from reader
    except TruncatedStream:
        return


@pytest.mark.parametrize("kill", range(KILLS))
@pytest.mark.parametrize("config", CONFIGURATIONS)
def test_no_acknowledged_readout_is_lost(tmp_path, scan, unbroken, config, kill):
    total = sum(map(len, encode(scan.readouts)))
    first_burst = total * (BURST + 1) // len(scan.readouts)  # before it, nothing is promised
    kill_at = random.Random(f"{config} {kill}").randrange(first_burst, total)
    with agent(tmp_path) as (process, path):
        acknowledged, count = stream_until_killed(process, path, config, scan, kill_at)
    spool = Spool(load(spool={"folder": tmp_path / "spool"}).spool)
    (name,) = spool.names()
    assert spool.path(name).stat().st_size >= acknowledged
    found = spooled(spool.path(name))[len(scan.noise) :]
    np.testing.assert_array_equal(found.samples[:count], scan.readouts.samples[:count])

    boreside_recover(tmp_path / "spool")
    assert spool.done(name)
    complete = count // (len(scan.readouts) // SLICES)
    target = spool.results / f"{name}.h5"
    images = list(read_measurement(target)) if target.exists() else []
    for image, expected in list(zip(images, unbroken[config]))[:complete]:
        np.testing.assert_array_equal(image.data, expected.data)
        assert image.header["slice"] == expected.header["slice"]
    assert len(images) >= complete


def test_a_restart_finishes_a_killed_measurement_by_itself(tmp_path, scan, unbroken):
    with agent(tmp_path) as (process, path):
        stream_until_killed(process, path, "simplefft", scan, 300_000)
    with agent(tmp_path, "--recover") as (process, _):
        assert process.stderr is not None
        assert any("images kept" in line for line in process.stderr)
    spool = Spool(load(spool={"folder": tmp_path / "spool"}).spool)
    (name,) = spool.names()
    assert spool.done(name)
    images = list(read_measurement(spool.results / f"{name}.h5"))
    np.testing.assert_array_equal(images[0].data, unbroken["simplefft"][0].data)
