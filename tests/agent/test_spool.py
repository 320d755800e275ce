"""The spool: what is written can be read at once, by others, and survives."""

import errno
import os
import threading

import numpy as np
import pytest

from agent.config import SpoolSettings
from agent.spool import Spool, SpoolFull, SpoolReader, lock


@pytest.fixture
def spool(tmp_path):
    return Spool(SpoolSettings(folder=tmp_path / "spool"))


def put(recording, raw: bytes) -> None:
    recording.write(memoryview(raw))


def read_all(recording) -> bytes:
    reader, buffer, got = SpoolReader(recording), memoryview(bytearray(1000)), b""
    while count := reader.readinto(buffer):
        got += buffer[:count]
    return got


def done(spool, raw: bytes) -> str:
    recording = spool.record()
    put(recording, raw)
    recording.close()
    spool.mark(recording.name, outcome="delivered")
    return recording.name


def test_a_reader_waits_for_bytes_and_sees_the_end(spool):
    recording = spool.record()
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(recording)))
    reader.start()
    for piece in (b"a" * 10, b"b" * 5000, b"c"):
        put(recording, piece)
    recording.end()
    reader.join(10)
    assert got == [b"a" * 10 + b"b" * 5000 + b"c"]
    assert read_all(recording) == got[0]
    assert recording.path.read_bytes() == got[0]


def test_bytes_after_the_end_are_dropped(spool):
    recording = spool.record()
    put(recording, b"abc")
    recording.end()
    put(recording, b"def")
    assert read_all(recording) == b"abc"


def test_names_sort_by_time(spool):
    names = [done(spool, b"x") for _ in range(5)]
    assert spool.names() == names == sorted(names)


def test_a_long_measurement_is_whole_although_pages_are_dropped_early(spool):
    recording = spool.record()
    pieces = [bytes([k]) * (1 << 20) for k in range(40)]
    reader, buffer = SpoolReader(recording), memoryview(bytearray(1 << 20))
    for piece in pieces:
        put(recording, piece)
        assert reader.readinto(buffer) == len(piece) and buffer == piece
    recording.end()
    recording.sync()
    assert recording.path.read_bytes() == b"".join(pieces)


def test_the_arrival_of_each_byte_is_known(spool, monkeypatch):
    recording = spool.record()
    times = iter([100, 200, 300])
    monkeypatch.setattr("agent.spool.time.monotonic_ns", lambda: next(times))
    for piece in (b"1234", b"56", b"789"):
        put(recording, piece)
    offsets = np.array([1, 4, 5, 6, 7, 9])
    np.testing.assert_array_equal(recording.arrival(offsets), [100, 100, 200, 200, 300, 300])


def test_arrival_marks_stay_few_and_exact_for_what_came_last(spool, monkeypatch):
    monkeypatch.setattr("agent.spool._MARKS", 16)
    recording = spool.record()
    now = iter(range(1, 1000))
    monkeypatch.setattr("agent.spool.time.monotonic_ns", lambda: next(now))
    for last in range(1, 500):
        put(recording, b"x")
        assert recording.arrival(np.array([last])) == last
    assert len(recording._mark_ends) < 16
    found = recording.arrival(np.arange(1, 500))
    assert (np.diff(found) >= 0).all() and (found >= np.arange(1, 500)).all()


def test_measurements_that_are_done_make_room_the_oldest_first(tmp_path):
    spool = Spool(SpoolSettings(folder=tmp_path, max_bytes=1000))
    unfinished = spool.record()
    put(unfinished, b"u" * 300)
    first, second = done(spool, b"1" * 300), done(spool, b"2" * 300)
    third = done(spool, b"3" * 300)
    assert spool.names() == [unfinished.name, second, third]
    assert spool.state(first) == {}
    assert Spool(spool.settings).room(100) == 100


def test_where_there_is_no_room_a_measurement_goes_on_in_memory(tmp_path):
    spool = Spool(SpoolSettings(folder=tmp_path, max_bytes=1000, memory_bytes=1000))
    recording = spool.record()
    raw = bytes(range(256)) * 6
    put(recording, raw[:700])
    put(recording, raw[700:])
    assert not recording.durable and recording.durable_bytes == 1000
    with pytest.raises(SpoolFull, match=r"spool\.max_bytes"):
        put(recording, raw)
    recording.end()
    assert read_all(recording)[: len(raw)] == raw
    assert recording.path.read_bytes() == raw[:1000]


def test_a_full_disk_is_like_no_room(spool, monkeypatch):
    recording = spool.record()
    oldest = done(spool, b"old")
    put(recording, b"abc")
    write, file = os.write, recording._file

    def full(target, view):
        if target == file:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(target, view)

    monkeypatch.setattr("agent.spool.os.write", full)
    put(recording, b"def")
    recording.end()
    assert read_all(recording) == b"abcdef"
    assert recording.durable_bytes == 3
    assert oldest not in spool.names()


def test_a_disk_that_breaks_is_like_no_room(spool, monkeypatch):
    recording = spool.record()
    put(recording, b"abc")
    write, file = os.write, recording._file

    def broken(target, view):
        if target == file:
            raise OSError(errno.EIO, "input/output error")
        return write(target, view)

    monkeypatch.setattr("agent.spool.os.write", broken)
    put(recording, b"def")
    recording.end()
    assert read_all(recording) == b"abcdef"
    assert recording.durable_bytes == 3 and not recording.durable


def test_a_folder_that_takes_no_file_is_like_no_room(tmp_path):
    spool = Spool(SpoolSettings(folder=tmp_path / "spool"))
    (tmp_path / "spool").rmdir()
    recording = spool.record()
    put(recording, b"abc")
    recording.end()
    assert read_all(recording) == b"abc"
    assert recording.durable_bytes == 0 and not recording.durable
    recording.sync()
    recording.close()


def test_a_note_for_which_the_disk_has_no_room_makes_room(spool, monkeypatch):
    oldest, name = done(spool, b"old"), done(spool, b"new")
    sync = os.fsync

    def full(file):
        if oldest in spool.names():
            raise OSError(errno.ENOSPC, "no space left on device")
        sync(file)

    monkeypatch.setattr("agent.spool.os.fsync", full)
    spool.mark(name, outcome="failed")
    assert spool.names() == [name] and spool.state(name) == {"outcome": "failed"}
    assert not list(spool.folder.glob("*.part"))


def test_a_measurement_in_use_is_locked_and_a_closed_one_is_not(spool):
    recording = spool.record()
    assert lock(recording.path) is None
    recording.close()
    release = lock(recording.path)
    assert release is not None and lock(recording.path) is None
    release()


def test_without_keep_a_measurement_goes_when_it_is_done(tmp_path):
    spool = Spool(SpoolSettings(folder=tmp_path, keep=False))
    recording = spool.record()
    recording.close()
    spool.mark(recording.name, outcome="failed")
    assert spool.names() == [recording.name]
    spool.mark(recording.name, outcome="delivered", config="savedataonly")
    assert spool.names() == [recording.name]
    spool.mark(recording.name, outcome="kept", config="conventional")
    assert list(tmp_path.glob("*Z-*")) == []


def test_only_the_agents_user_may_read_measurements(spool):
    recording = spool.record()
    assert recording.path.stat().st_mode & 0o077 == 0
    assert spool.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("keep", [True, False])
def test_a_measurement_is_not_done_while_its_dicom_objects_are_owed(tmp_path, keep):
    spool = Spool(SpoolSettings(folder=tmp_path / "spool", keep=keep, max_bytes=150))
    recording = spool.record()
    spool.owe(recording.name)
    put(recording, b"x" * 100)
    recording.close()
    spool.mark(recording.name, outcome="delivered")
    assert spool.delivered(recording.name) and not spool.done(recording.name)
    assert not spool.make_room(), "it is still wanted"
    spool.owe(recording.name, attempts=2)
    assert spool.owed(recording.name) == 2
    spool.settle(recording.name)
    assert spool.owed(recording.name) is None
    assert spool.names() == ([recording.name] if keep else [])
    assert spool.make_room() == keep
