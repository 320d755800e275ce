"""The spool: every measurement as one append-only file of the wire's own bytes.

What the folder shows, without any database:

- ``NAME.mrd``: what has come. A process which writes it, or recovers it, holds a lock on it.
- ``NAME.json``: what became of it (`Spool.mark`). No such file: nobody has finished it yet.
- ``NAME.owed``: not all of its DICOM objects are in the outbox yet (`Spool.owe`).
- ``results/NAME.h5``: images that could not be handed to their scanner (`agent.recover`).

Names begin with the UTC time, so their order is the order of arrival. A killed process loses
nothing that was written here; a power cut may lose what the kernel had not written back since the
last `Recording.sync`.

Only measurements that are done are ever removed to make room, the oldest first. Where that does not
suffice, a measurement goes on in memory and says so (`Recording.durable_bytes`).
"""

import errno
import fcntl
import json
import os
import secrets
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import log
from agent.config import SpoolSettings

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MARKS = 1 << 16
_WRITE_BACK_BYTES = 8 << 20
_DROP_BYTES = 128 << 20


class SpoolFull(Exception):
    """Neither the disk nor memory may take more of a measurement."""


class Spool:
    """The folder of measurements.

    Parameters
    ----------
    settings : SpoolSettings
    """

    def __init__(self, settings: SpoolSettings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.results = settings.folder / "results"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._used = sum(path.stat().st_size for path in self.folder.glob("*.mrd"))

    def record(self) -> "Recording":
        """Begin a measurement."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        return Recording(self, name)

    def path(self, name: str) -> Path:
        """Return the file of a measurement."""
        return self.folder / f"{name}.mrd"

    def names(self) -> list[str]:
        """Return the names of all measurements, the oldest first."""
        return sorted(path.stem for path in self.folder.glob("*.mrd"))

    def state(self, name: str) -> dict[str, Any]:
        """Return what became of a measurement, as `mark` wrote it; empty where nothing did yet."""
        try:
            return dict(json.loads((self.folder / f"{name}.json").read_text()))
        except (OSError, ValueError):
            return {}

    def mark(self, name: str, **state: Any) -> None:
        """Write what became of a measurement, at once or not at all.

        ``outcome`` is "delivered" (every image was handed to the scanner), "kept" (the images lie
        in `results`), "recovering" or "failed"; the first two mean done.
        """
        path = self.folder / f"{name}.json"
        while True:
            try:
                _write_whole(path, json.dumps(state, indent=1))
                break
            except OSError as error:
                if error.errno not in _NO_ROOM or not self.make_room():
                    raise
        self._remove_unwanted(name)

    def done(self, name: str) -> bool:
        """Return whether every image of a measurement has left, also as DICOM."""
        return self.owed(name) is None and self.delivered(name)

    def delivered(self, name: str) -> bool:
        """Return whether every image of a measurement has left for the scanner or `results`."""
        return self.state(name).get("outcome") in ("delivered", "kept")

    def owe(self, name: str, attempts: int = 0) -> None:
        """Note that DICOM objects of a measurement are not all in the outbox yet.

        Parameters
        ----------
        name : str
        attempts : int
            How often they have been made anew.
        """
        (self.folder / f"{name}.owed").write_text(str(attempts))

    def owed(self, name: str) -> int | None:
        """Return how often owed objects have been made anew; None where none are owed."""
        try:
            return int((self.folder / f"{name}.owed").read_text() or 0)
        except (OSError, ValueError):
            return None

    def settle(self, name: str) -> None:
        """Note that all DICOM objects of a measurement are in the outbox."""
        (self.folder / f"{name}.owed").unlink(missing_ok=True)
        self._remove_unwanted(name)

    def _remove_unwanted(self, name: str) -> None:
        state = self.state(name)
        wanted = self.settings.keep or state.get("config") == "savedataonly"
        if state and not wanted and self.done(name):
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a measurement, but not its results."""
        path = self.path(name)
        with self._lock:
            try:
                self._used -= path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                pass
        for suffix in ("json", "owed"):
            (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)

    def room(self, count: int) -> int:
        """Return how many of ``count`` more bytes may be written, after making room for them."""
        while self._used + count > self.settings.max_bytes and self.make_room():
            pass
        return max(0, min(count, self.settings.max_bytes - self._used))

    def count(self, written: int) -> None:
        """Account for bytes that were written."""
        with self._lock:
            self._used += written

    @property
    def used_bytes(self) -> int:
        """Of all measurements."""
        return self._used

    def unfinished(self) -> int:
        """Return how many measurements nobody has finished, those included that are coming in."""
        return sum(not path.with_suffix(".json").exists() for path in self.folder.glob("*.mrd"))

    def make_room(self) -> bool:
        """Remove the oldest measurement that is done; False where there is none."""
        for name in self.names():
            if self.done(name):
                self.remove(name)
                log.get(measurement=name).info("removed to make room")
                return True
        return False


class Recording:
    """One measurement being received: one thread writes, others read what it has written.

    Parameters
    ----------
    spool : Spool
    name : str
    """

    def __init__(self, spool: Spool, name: str) -> None:
        self.name = name
        self.path = spool.path(name)
        self.failure: SpoolFull | None = None
        self._spool = spool
        self._size = 0
        self._memory: int | None = None
        self._split = 0
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            self._file = os.dup(self._in_memory(error))
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._written_back = 0
        self._read_to = 0
        self._ended = False
        self._changed = threading.Condition()
        self._mark_ends = array("q")
        self._mark_times = array("q")

    @property
    def durable_bytes(self) -> int:
        """How many bytes lie in the file: all of them, unless the spool had no more room."""
        return self._size if self._memory is None else self._split

    @property
    def durable(self) -> bool:
        """Whether every byte so far lies in the file."""
        return self._memory is None

    def write(self, view: memoryview) -> None:
        """Append bytes that have just come.

        Raises
        ------
        SpoolFull
        """
        if self._ended:
            return
        arrived = time.monotonic_ns()
        while view:
            count = self._append(view)
            view = view[count:]
            with self._changed:
                self._size += count
                self._mark_ends.append(self._size)
                self._mark_times.append(arrived)
                if len(self._mark_ends) == _MARKS:
                    del self._mark_ends[::2], self._mark_times[::2]
                self._changed.notify_all()
        if self.durable_bytes - self._written_back >= _WRITE_BACK_BYTES:
            self._write_back()

    def _write_back(self) -> None:
        """Have the kernel write early, and forget what was read: `sync` and memory stay small.

        Linux begins to write the dirty pages of a range that is not needed, and drops clean ones.
        """
        start, self._written_back = self._written_back, self.durable_bytes
        length = self._written_back - start
        os.posix_fadvise(self._file, start, length, os.POSIX_FADV_DONTNEED)
        if drop := min(self._read_to, start):
            start = max(0, drop - _DROP_BYTES)
            os.posix_fadvise(self._file, start, drop - start, os.POSIX_FADV_DONTNEED)

    def _append(self, view: memoryview) -> int:
        while self._memory is None:
            try:
                if not (allowed := self._spool.room(len(view))):
                    break
                written = os.write(self._file, view[:allowed])
                self._spool.count(written)
                return written
            except OSError as error:
                if error.errno in _NO_ROOM and self._spool.make_room():
                    continue
                self._in_memory(error)
        memory = self._in_memory(None) if self._memory is None else self._memory
        allowed = self._spool.settings.memory_bytes - os.lseek(memory, 0, os.SEEK_CUR)
        if allowed <= 0:
            raise SpoolFull(
                f"expected room for {len(view)} more bytes in the spool or in memory, got none: "
                "free the disk, or raise spool.max_bytes"
            )
        return os.write(memory, view[:allowed])

    def _in_memory(self, error: OSError | None) -> int:
        """Go on in memory: the disk has no room, or does not work."""
        if self._size:
            self._split = os.lseek(self._file, 0, os.SEEK_END)
        self._memory = os.memfd_create(self.name, os.MFD_CLOEXEC)
        reason = "spool.max_bytes" if error is None else os.strerror(error.errno or 0)
        log.get(measurement=self.name).error("measurement is not durable", reason=reason)
        return self._memory

    def end(self, failure: SpoolFull | None = None) -> None:
        """No more bytes will come, or will be taken."""
        with self._changed:
            self.failure = self.failure or failure
            self._ended = True
            self._changed.notify_all()

    def wait_end(self) -> None:
        """Block until the sender has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)

    def read(self, buffer: memoryview, position: int) -> int:
        """Copy bytes from ``position`` on, blocking until there are some; 0 means the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > position or self._ended)
            count = min(self._size - position, len(buffer))
            self._read_to = position
        if count <= 0:
            return 0
        if self._memory is None or position < self._split:
            return os.preadv(self._file, [buffer[:count]], position)
        return os.preadv(self._memory, [buffer[:count]], position - self._split)

    def arrival(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when the byte before each of ``offsets`` (ascending, N) had come, monotonic ns.

        What came long ago is marked more and more coarsely (later), so that memory stays bounded.
        """
        with self._changed:
            first = bisect_left(self._mark_ends, int(offsets[0]))
            last = bisect_left(self._mark_ends, int(offsets[-1])) + 1
            ends = np.array(self._mark_ends[first:last])
            times = np.array(self._mark_times[first:last])
        return times[np.minimum(np.searchsorted(ends, offsets), len(times) - 1)]

    def sync(self) -> None:
        """Have the disk take what has been written."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Give up the lock and the file."""
        self.end()
        os.close(self._file)
        if self._memory is not None:
            os.close(self._memory)


class SpoolReader:
    """A source for `protocols.mrd.Reader`: a recording from its first byte on, as it grows."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._position = 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with what there is, blocking until there is something."""
        got = self._recording.read(buffer, self._position)
        self._position += got
        return got


def _write_whole(path: Path, text: str) -> None:
    """Write a file at once or not at all; it is on the disk afterwards."""
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def lock(path: Path) -> Callable[[], None] | None:
    """Lock a measurement which nobody writes any more.

    Returns
    -------
    callable or None
        Releases the lock. None where another session or process has it.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return lambda: os.close(file)
