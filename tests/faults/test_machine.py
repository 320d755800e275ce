"""The machine under the agent: its disk, its clock, its network."""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.agents import AgentProcess, agent_process
from bench.data import Measurement
from bench.exams import Outcome
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response
from protocols.mrd_write import write
from tests.faults.harness import SLICES, Faults, kept_images, raw, same_picture, send, spool

CONVENTIONAL = ConfigFile("conventional")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    """The spool lies on a disk of 128 KiB, less than one slice takes."""
    folder = tmp_path / "spool"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount).returncode:
        pytest.skip("needs root, for a small disk")
    yield
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_no_image_and_is_told(
    small_disk: None,
    start: Callable[..., AgentProcess],
    scan: Measurement,
    expected: list,
    faults: Faults,
) -> None:
    """The disk has no more room in the middle of a slice; the rest goes on in memory."""
    agent = start()
    with agent.connect() as peer:
        outcome = send(peer, CONVENTIONAL, scan.header, scan.noise, scan.readouts, Close())
    assert outcome.closed and len(outcome.images) == SLICES
    assert all(same_picture(image, truth) for image, truth in zip(outcome.images, expected))
    assert any("not on the disk" in text for text in outcome.texts)
    agent.end()
    (name,) = spool(agent).names()  # what the disk took is not thrown away with the note
    there = spool(agent).path(name).read_bytes()
    assert len(there) > 50_000
    assert raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts).startswith(there)
    faults.saw("disk is full", outcome, agent, SLICES)


def test_a_slow_disk_costs_time_and_no_image(
    start: Callable[..., AgentProcess],
    scan: Measurement,
    expected: list,
    faults: Faults,
    tmp_path: Path,
) -> None:
    agent = start("slow disk")
    (tmp_path / "break").touch()
    with agent.connect() as peer:
        outcome = send(peer, CONVENTIONAL, scan.header, scan.noise, scan.readouts, Close())
    assert outcome.closed and len(outcome.images) == SLICES
    assert all(same_picture(image, truth) for image, truth in zip(outcome.images, expected))
    faults.saw("disk is slow", outcome, agent, SLICES)


def test_a_clock_that_jumps_changes_neither_latencies_nor_recovery(
    start: Callable[..., AgentProcess], scan: Measurement, faults: Faults, tmp_path: Path
) -> None:
    agent = start("clock")
    each = len(scan.readouts) // SLICES
    with agent.connect() as peer:
        peer.sendall(raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts[:each]))
        reader = Reader(peer.makefile("rb", buffering=0))
        first = reader.read()
        assert isinstance(first, ImageMessage)
        (tmp_path / "break").touch()
        outcome = send(peer, scan.readouts[each:], Close())
    outcome.images.insert(0, first)
    assert outcome.closed and len(outcome.images) == SLICES
    with agent.connect() as peer:
        again = send(peer, CONVENTIONAL, scan.header, scan.noise, scan.readouts, Close())
    assert len(again.images) == SLICES
    states = [spool(agent).state(name) for name in spool(agent).names()]
    assert all(state["outcome"] == "delivered" for state in states)
    assert all(0 < state["latency_ms"]["max"] < 60_000 for state in states)
    faults.saw("clock jumps by 30 hours", outcome, agent, SLICES)


def test_a_damaged_spool_costs_only_what_was_damaged(
    start: Callable[..., AgentProcess],
    scan: Measurement,
    expected: list,
    faults: Faults,
    tmp_path: Path,
) -> None:
    """A measurement whose third slice was overwritten, one of noise, and a torn note of an end."""
    agent = start()
    with agent.connect() as peer:
        peer.sendall(raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts))
        write(peer.makefile("wb", buffering=0), Query(1, "boreside::spooled"))
        reader = Reader(peer.makefile("rb", buffering=0))
        while not isinstance(reader.read(), Response):
            pass
        agent.kill()
    (name,) = spool(agent).names()
    path = spool(agent).path(name)
    damaged = bytearray(path.read_bytes())
    third = len(damaged) - len(raw(scan.readouts)) // SLICES
    damaged[third:] = os.urandom(len(damaged) - third)
    path.write_bytes(damaged)
    (path.parent / "20000101T000000.000000Z-00000000.mrd").write_bytes(os.urandom(5000))
    path.with_suffix(".json").write_text('{"outcome": "deliv')
    with agent_process(tmp_path, {"threads": 1}) as restarted:
        while not spool(restarted).done(name):
            threading.Event().wait(0.05)
        with restarted.connect() as peer:
            after = send(peer, CONVENTIONAL, scan.header, scan.noise, scan.readouts, Close())
    kept = kept_images(restarted, name)
    assert [same_picture(i, t) for i, t in zip(kept, expected)] == [True, True][: len(kept)]
    assert len(kept) == 2 and len(after.images) == SLICES
    assert spool(restarted).state(name)["errors"]
    told = "the connection ends; the spool's note of the measurement names the damage"
    faults.saw("spool is damaged", Outcome(), restarted, 2, len(kept), told)


def _loopback(up: bool) -> None:
    """Plug the cable of this network namespace in or out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, 0x8913, request))[1]
        flags = flags | 1 if up else flags & ~1
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags))


def _cut_off(port: int, address: Path, scan: Measurement) -> None:
    """In a process of its own: send two slices over TCP, and lose the network without a word."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        each = len(scan.readouts) // SLICES
        peer.sendall(raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts[: 2 * each]))
        reader = Reader(peer.makefile("rb", buffering=0))
        for _ in range(2):
            assert isinstance(reader.read(), ImageMessage)
        _loopback(False)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, for a network of its own")
def test_a_network_that_is_gone_without_a_word_is_noticed(
    scan: Measurement, expected: list, faults: Faults, tmp_path: Path
) -> None:
    """Half-open TCP: no FIN and no RST ever comes; the kernel's keep-alive has to find out."""
    clone_new_network = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if not child:
        status = 1
        try:
            if libc.unshare(clone_new_network):
                os._exit(77)
            _loopback(True)
            with agent_process(tmp_path, {"threads": 1}) as agent:
                agent.wait_ready()
                (event,) = [e for e in agent.events() if e["event"] == "listening"]
                _cut_off(event["port"], tmp_path, scan)
                name = spool(agent).names()[0]
                while not spool(agent).done(name):
                    threading.Event().wait(0.1)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip("no network namespaces here")
    assert status == 0
    agent = AgentProcess.__new__(AgentProcess)
    agent.spool = tmp_path / "spool"
    (name,) = spool(agent).names()
    kept = kept_images(agent, name)
    assert all(same_picture(image, truth) for image, truth in zip(kept, expected[:2]))
    assert len(kept) >= 2
    faults.saw("network is gone without a word (half-open TCP)", Outcome(), agent, 2, len(kept))


def test_killed_at_any_moment_it_goes_on(
    start: Callable[..., AgentProcess], scan: Measurement, faults: Faults, tmp_path: Path
) -> None:
    agent = start()
    with agent.connect() as peer:
        peer.sendall(raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts))
        write(peer.makefile("wb", buffering=0), Query(1, "boreside::spooled"))
        reader = Reader(peer.makefile("rb", buffering=0))
        while not isinstance(reader.read(), Response):
            pass
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
    (name,) = spool(agent).names()
    with agent_process(tmp_path, {"threads": 1}) as restarted:
        while not spool(restarted).done(name):
            threading.Event().wait(0.05)
    kept = kept_images(restarted, name)
    assert len(kept) == SLICES
    faults.saw("agent is killed", Outcome(), restarted, SLICES, len(kept))
