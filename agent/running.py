"""Is an agent running on this spool, and which process is it: a locked file in the spool's folder.

    with running(folder): ...         # of `boreside serve`
    process(folder)                   # of everybody else

The lock goes with the process however it ends, so a file that is left behind deceives nobody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "agent.pid"


class AlreadyRunning(Exception):
    """Another agent uses this spool."""


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Be the agent of a spool, until the end.

    Raises
    ------
    AlreadyRunning
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"{folder}: expected a spool of its own, but process {_read(folder)} uses it: "
                "`boreside drain` ends that one"
            ) from None
        os.truncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        os.close(file)


def process(folder: Path) -> int | None:
    """Return the process id of the agent that uses a spool; None where there is none."""
    try:
        file = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(folder)
    finally:
        os.close(file)
    return None


def _read(folder: Path) -> int | None:
    text = (folder / NAME).read_text()
    return int(text) if text.isdecimal() else None
