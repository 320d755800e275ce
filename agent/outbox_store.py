"""The outbox on disk: one file for each object, and an SQLite database of who still has to get it.

    FOLDER/outbox.sqlite        objects, and a delivery of each to each destination
    FOLDER/UID.dcm              an object, until every destination has it

An object is on the disk before its row is, and both are before `Store.add` returns. A process may
be killed anywhere: what was added is still to be delivered, what was not is made again by whoever
makes it. Rows of delivered objects stay, so that the same object, added again, is not sent again.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset

from agent.database import opened
from agent.outbox_settings import OutboxSettings

ORPHAN_S = 3600.0
REMEMBER_S = 400 * 86400.0

_TABLES = """
CREATE TABLE IF NOT EXISTS object (
    uid TEXT PRIMARY KEY, sop_class TEXT NOT NULL, syntax TEXT NOT NULL, added REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivery (
    uid TEXT NOT NULL REFERENCES object, destination TEXT NOT NULL, state TEXT NOT NULL,
    due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    question TEXT NOT NULL DEFAULT '', PRIMARY KEY (destination, uid)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON delivery (destination, state, due);
CREATE INDEX IF NOT EXISTS question ON delivery (question);
"""


class State(StrEnum):
    """Of the delivery of one object to one destination."""

    WAITING = "waiting"
    STORED = "stored"
    """The destination took it, and is to be asked to commit itself."""
    ASKED = "asked"
    DONE = "done"


@dataclass(frozen=True)
class Entry:
    """An object that a destination still has to get."""

    uid: str
    sop_class: str
    syntax: str
    path: Path
    attempts: int


class Store:
    """Folder and database; any thread may call it, and other processes may have it open too.

    Parameters
    ----------
    settings : OutboxSettings
    """

    def __init__(self, settings: OutboxSettings) -> None:
        self._folder = settings.folder
        self._settings = settings
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._database = opened(self._folder / "outbox.sqlite", _TABLES)
        self._database.isolation_level = "DEFERRED"
        self._tidy()

    def add(self, dataset: Dataset) -> bool:
        """Take an object; False where one of its SOP Instance UID was ever taken before."""
        uid = str(dataset.SOPInstanceUID)
        with self._lock:
            known = self._database.execute("SELECT 1 FROM object WHERE uid = ?", (uid,)).fetchone()
        if known:
            return False
        part = self._folder / f"{uid}.{os.getpid()}.{threading.get_ident()}.part"
        dataset.save_as(part, enforce_file_format=True)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.replace(self._path(uid))
        _sync_folder(self._folder)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        now = time.time()
        with self._lock, self._database:
            added = self._database.execute(
                "INSERT OR IGNORE INTO object VALUES (?, ?, ?, ?)",
                (uid, str(dataset.SOPClassUID), syntax, now),
            )
            if not added.rowcount:
                return False
            self._database.executemany(
                "INSERT INTO delivery (uid, destination, state, due) VALUES (?, ?, ?, ?)",
                [(uid, to.name, State.WAITING, now) for to in self._settings.destinations],
            )
        return True

    def due(self, destination: str, state: State, most: int) -> list[Entry]:
        """Return what is due for a destination, the oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT uid, sop_class, syntax, attempts FROM delivery JOIN object USING (uid)"
                " WHERE destination = ? AND state = ? AND due <= ? ORDER BY due, added LIMIT ?",
                (destination, state, time.time(), most),
            ).fetchall()
        return [Entry(uid, kind, syntax, self._path(uid), n) for uid, kind, syntax, n in rows]

    def next_due(self, destination: str) -> float | None:
        """Return when something is due, Unix time; None where nothing is left."""
        with self._lock:
            (when,) = self._database.execute(
                "SELECT min(due) FROM delivery WHERE destination = ? AND state != ?",
                (destination, State.DONE),
            ).fetchone()
        return None if when is None else float(when)

    def stored(self, destination: str, uid: str, commitment: bool) -> None:
        """A destination took an object."""
        self._move(destination, [uid], State.STORED if commitment else State.DONE, time.time())
        self._remove_done([uid])

    def postponed(self, destination: str, uids: Sequence[str], error: str, until: float) -> None:
        """A destination did not take objects; they are due again at ``until``."""
        with self._lock, self._database:
            self._database.executemany(
                "UPDATE delivery SET state = ?, due = ?, attempts = attempts + 1, error = ?"
                " WHERE destination = ? AND uid = ?",
                [(State.WAITING, until, error[:200], destination, uid) for uid in uids],
            )

    def asked(self, destination: str, uids: Sequence[str], question: str, until: float) -> None:
        """A destination was asked to commit itself; the question has no answer before ``until``."""
        self._move(destination, uids, State.ASKED, until, question)

    def answered(self, question: str, committed: Sequence[str], failed: Sequence[str]) -> bool:
        """A destination answered; False where nobody has asked that, or it was asked anew since."""
        with self._lock:
            rows = self._database.execute(
                "SELECT uid, destination FROM delivery WHERE question = ? AND state = ?",
                (question, State.ASKED),
            ).fetchall()
        if not rows:
            return False
        destination, pending = rows[0][1], {uid for uid, _ in rows}
        done = [uid for uid in committed if uid in pending]
        self._move(destination, done, State.DONE, time.time())
        self._remove_done(done)
        if lost := [uid for uid in failed if uid in pending]:
            self.postponed(destination, lost, "not committed", time.time())
        return True

    def not_asked(self, question: str, error: str, until: float) -> None:
        """A question was not even taken; it is due again at ``until``."""
        with self._lock, self._database:
            self._database.execute(
                "UPDATE delivery SET state = ?, due = ?, error = ?"
                " WHERE question = ? AND state = ?",
                (State.STORED, until, error[:200], question, State.ASKED),
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return for each destination how many objects are in which state."""
        result: dict[str, dict[str, int]] = {to.name: {} for to in self._settings.destinations}
        with self._lock:
            rows = self._database.execute(
                "SELECT destination, state, count(*) FROM delivery GROUP BY destination, state"
            ).fetchall()
        for destination, state, count in rows:
            result.setdefault(destination, {})[state] = count
        return result

    def errors(self, destination: str) -> dict[str, int]:
        """Return why objects are still here, and how many for each reason."""
        with self._lock:
            rows = self._database.execute(
                "SELECT error, count(*) FROM delivery"
                " WHERE destination = ? AND state != ? AND error != '' GROUP BY error",
                (destination, State.DONE),
            ).fetchall()
        return {str(error): int(count) for error, count in rows}

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.dcm"

    def _move(
        self, destination: str, uids: Sequence[str], state: State, due: float, question: str = ""
    ) -> None:
        with self._lock, self._database:
            self._database.executemany(
                "UPDATE delivery SET state = ?, due = ?, question = ?, error = ''"
                " WHERE destination = ? AND uid = ?",
                [(state, due, question, destination, uid) for uid in uids],
            )

    def _remove_done(self, uids: Sequence[str]) -> None:
        for uid in uids:
            with self._lock:
                left = self._database.execute(
                    "SELECT 1 FROM delivery WHERE uid = ? AND state != ?", (uid, State.DONE)
                ).fetchone()
            if not left:
                self._path(uid).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove files that nobody waits for, and rows nobody will add again."""
        now = time.time()
        with self._lock, self._database:
            self._database.execute(
                "DELETE FROM delivery WHERE uid IN (SELECT uid FROM object WHERE added < ?)"
                " AND state = ?",
                (now - REMEMBER_S, State.DONE),
            )
            self._database.execute(
                "DELETE FROM object WHERE added < ? AND uid NOT IN (SELECT uid FROM delivery)",
                (now - REMEMBER_S,),
            )
            waiting = {
                uid
                for (uid,) in self._database.execute(
                    "SELECT DISTINCT uid FROM delivery WHERE state != ?", (State.DONE,)
                )
            }
        for path in self._folder.iterdir():
            if path.suffix in (".dcm", ".part") and path.stem not in waiting:
                try:
                    # Younger ones may belong to another process, whose row is about to come.
                    if path.stat().st_mtime < now - ORPHAN_S:
                        path.unlink()
                except FileNotFoundError:
                    pass


def waiting(settings: OutboxSettings) -> dict[str, int]:
    """Return how many objects each destination still has to get; opens nothing for writing."""
    result = {to.name: 0 for to in settings.destinations}
    path = settings.folder / "outbox.sqlite"
    if not path.is_file():
        return result
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT destination, count(*) FROM delivery WHERE state != ? GROUP BY destination",
            (State.DONE,),
        ).fetchall()
    return result | {str(destination): int(count) for destination, count in rows}


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
