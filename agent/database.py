"""SQLite files of the agent: readable by its own user only, safe after a crash, for all threads."""

import contextlib
import os
import sqlite3
from pathlib import Path


def opened(path: Path, schema: str, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open a file, or make it; transactions are begun by whoever uses it.

    Parameters
    ----------
    path : Path
        Its folder is made where there is none.
    schema : str
        Statements that make what is not there yet.
    synchronous : str
        "FULL": what is committed survives a power cut. "NORMAL": it survives a crash.

    Raises
    ------
    OSError, sqlite3.Error
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Before SQLite makes it: it must never have been readable by others. One that is there is not
    # touched: closing it here would drop the locks that this process holds on it (SQLite, "How to
    # corrupt", 2.2), and another process would take away what is in the log.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.executescript(schema)
    return connection
