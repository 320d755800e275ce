"""Events for the console: an append-only SQLite file, and a folder of pictures beside it.

    with Events(Path("events")) as events:              # the agent
        events.say("exam-7", Begun(measurement=name, step="t2_tse_sag"))
        events.picture("exam-7", "t2_tse_sag", image)   # an ImageMessage that has just left
    for command in Commands(Path("events")).poll(): ...  # what the technologist has clicked
    EventReader(Path("events")).after(0)                # the console's process

A call of `Events` hands over references and returns: a thread of its own writes. What it cannot
keep up with is left out on the page and counted; delivery never waits. The console is another
process (`agent.console`), so that nobody who looks can slow the agent. Only the latest exams stay.
"""

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from agent import log
from agent.database import opened
from agent.event_records import (
    EVENT,
    Command,
    Ended,
    Event,
    ExamBegun,
    PicturesDropped,
)
from protocols.control import ReplyReason

FILE, PICTURES = "events.sqlite", "pictures"
WAITING_BYTES = 256 << 20
"""Of pictures that are not written yet; more are dropped."""
WAITING_EVENTS = 10_000
KEPT_EXAMS = 8
KEPT_NAMELESS = 1000
"""Events that are of no exam."""
ALIVE_S = 1.0
"""Between two signs of life."""
FRESH_S = 60.0
"""Age from which on a picture that no event speaks of is removed."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, exam TEXT, kind TEXT NOT NULL,
    measurement TEXT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, user TEXT NOT NULL,
    kind TEXT NOT NULL, request TEXT NOT NULL, reason TEXT, taken_s REAL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
Job = Callable[[], tuple[str | None, Event]]


@dataclass(frozen=True)
class Row:
    """One event: its number, when it was said, of which exam, and its JSON."""

    number: int
    at_s: float
    exam: str | None
    kind: str
    body: str

    @property
    def event(self) -> Event:
        """The event itself."""
        return EVENT.validate_json(self.body)


def _open(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / PICTURES).mkdir(exist_ok=True, mode=0o700)
    file = opened(folder / FILE, _SCHEMA, "NORMAL")
    file.execute("INSERT OR IGNORE INTO facts VALUES ('made', ?)", (secrets.token_hex(8),))
    return file


class Events:
    """The agent's end. Its methods may be called from any thread, return at once, never raise.

    Parameters
    ----------
    folder : Path
        Of its own; one agent writes to it.
    alive : bool
        Give signs of life. False: another process of the agent, which speaks now and then.
    """

    def __init__(self, folder: Path, alive: bool = True) -> None:
        self.folder = folder
        self._alive = alive
        self._log = log.get()
        self._jobs: deque[tuple[Job, int]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._closing = False
        self._woken = threading.Condition()
        self._file = _open(folder)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def say(self, exam: str | None, event: Event) -> None:
        """Write an event down, soon."""
        self._put(lambda: (exam, event), 0)

    def picture(
        self,
        exam: str,
        series: str,
        image: Any,
        measurement: str = "",
        title: str = "",
        latency_ms: float | None = None,
    ) -> None:
        """Show an image on the page.

        Parameters
        ----------
        exam, series : str
            Images of one series are one stack.
        image : ImageMessage
            Not to be changed any more.
        measurement, title : str
        latency_ms : float or None
            From its last readout to its departure.
        """

        def write() -> tuple[str, Event]:
            from agent.event_pictures import of_message

            pictures = self.folder / PICTURES
            return exam, of_message(pictures, image, series, measurement, title, latency_ms)

        self._put(write, int(image.data.nbytes))

    def labels(self, exam: str, series: str, labels: Any) -> None:
        """Show a `gadgets.items.LabelMap` as overlay of the exam's images."""

        def write() -> tuple[str, Event]:
            from agent.event_pictures import of_labels

            return exam, of_labels(self.folder / PICTURES, labels, series)

        self._put(write, int(labels.labels.nbytes))

    def close(self) -> None:
        """Write what waits, and end."""
        with self._woken:
            self._closing = True
            self._woken.notify()
        self._thread.join()
        self._file.close()

    def _put(self, job: Job, size: int) -> None:
        with self._woken:
            full = self._bytes + size > WAITING_BYTES if size else len(self._jobs) > WAITING_EVENTS
            if full or self._closing:
                self._dropped += 1
                return
            self._bytes += size
            self._jobs.append((job, size))
            self._woken.notify()

    def _run(self) -> None:
        alive_s = 0.0
        while True:
            with self._woken:
                if not self._jobs and not self._closing:
                    self._woken.wait(ALIVE_S)
                jobs, self._jobs = self._jobs, deque()
                dropped, self._dropped = self._dropped, 0
                closing = self._closing
            for job, size in jobs:
                self._attempt(partial(self._write, job))
                with self._woken:
                    self._bytes -= size
            if dropped:
                lost = PicturesDropped(pictures=dropped)
                self._attempt(partial(self._insert, None, lost))
            if self._alive and (time.monotonic() - alive_s > ALIVE_S / 2 or closing):
                alive_s = time.monotonic()
                self._attempt(partial(self._sign_of_life, closing))
            if closing and not self._jobs:
                return

    def _attempt(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:  # a full disk, a strange image: the page misses it, no more
            self._log.error("the console's events could not be written", exc_info=error)

    def _write(self, job: Job) -> None:
        self._insert(*job())

    def _insert(self, exam: str | None, event: Event) -> None:
        measurement = getattr(event, "measurement", None)
        self._file.execute(
            "INSERT INTO events (at_s, exam, kind, measurement, body) VALUES (?, ?, ?, ?, ?)",
            (time.time(), exam, event.kind, measurement, event.model_dump_json()),
        )
        if isinstance(event, Ended):
            self._file.execute(
                "DELETE FROM events WHERE kind = 'progress' AND measurement = ?", (measurement,)
            )
        if isinstance(event, ExamBegun):
            self._forget()

    def _forget(self) -> None:
        """Keep the latest exams only, and their pictures."""
        old = (
            "SELECT exam FROM events WHERE exam IS NOT NULL GROUP BY exam "
            "ORDER BY max(number) DESC LIMIT -1 OFFSET ?"
        )
        gone = self._file.execute(
            f"DELETE FROM events WHERE exam IN ({old}) "
            "RETURNING json_extract(body, '$.file') AS file",
            (KEPT_EXAMS,),
        ).fetchall()
        nameless = "SELECT number FROM events WHERE exam IS NULL ORDER BY number DESC"
        self._file.execute(
            f"DELETE FROM events WHERE exam IS NULL AND number NOT IN ({nameless} LIMIT ?)",
            (KEPT_NAMELESS,),
        )
        files = self._file.execute(
            "SELECT json_extract(body, '$.file') FROM events WHERE kind = 'picture'"
        )
        names = {name for (name,) in files}
        for path in (self.folder / PICTURES).iterdir():
            with contextlib.suppress(FileNotFoundError):
                # A fresh one may be of another process, whose event is about to follow.
                fresh = time.time() - path.stat().st_mtime < FRESH_S
                if path.name not in names and ((path.name,) in gone or not fresh):
                    path.unlink()

    def _sign_of_life(self, ends: bool) -> None:
        value = "0" if ends else str(time.time())
        self._file.execute("INSERT OR REPLACE INTO facts VALUES ('alive_s', ?)", (value,))


class EventReader:
    """The console's end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = _open(folder)

    @property
    def made(self) -> str:
        """Which file this is: numbers begin anew with another one."""
        return str(self._fact("made"))

    @property
    def alive_s(self) -> float:
        """When the agent gave its last sign of life; 0 where it has ended or never began."""
        return float(self._fact("alive_s") or 0)

    @property
    def last(self) -> int:
        """Number of the latest event."""
        return int(self._file.execute("SELECT max(number) FROM events").fetchone()[0] or 0)

    def after(self, number: int, limit: int = 500) -> list[Row]:
        """Return the events after one, the oldest first."""
        found = self._file.execute(
            "SELECT number, at_s, exam, kind, body FROM events WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (number, limit),
        )
        return [Row(*row) for row in found]

    def latest(self, kind: str, count: int) -> list[Row]:
        """Return the latest events of a kind, the oldest first."""
        found = self._file.execute(
            "SELECT number, at_s, exam, kind, body FROM events WHERE kind = ? "
            "ORDER BY number DESC LIMIT ?",
            (kind, count),
        )
        return [Row(*row) for row in found][::-1]

    def exam_begins(self) -> int:
        """Return the number after which the events of the latest exam come."""
        found = self._file.execute(
            "SELECT min(number) - 1 FROM events WHERE exam = (SELECT exam FROM events "
            "WHERE kind = 'exam' ORDER BY number DESC LIMIT 1)"
        ).fetchone()[0]
        return int(found or 0)

    def pixels(self, number: int) -> bytes | None:
        """Return the pixels of a picture; None where there are none any more."""
        found = self._file.execute(
            "SELECT json_extract(body, '$.file') FROM events WHERE number = ? AND kind = 'picture'",
            (number,),
        ).fetchone()
        try:
            return (self.folder / PICTURES / found[0]).read_bytes() if found else None
        except OSError:
            return None

    def _fact(self, name: str) -> Any:
        found = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Commands:
    """Clicks of the technologist: the console posts them, the agent takes each of them once.

    Both ends may be restarted at any time: what was not taken waits in the file.
    """

    def __init__(self, folder: Path) -> None:
        self._file = _open(folder)
        self._lock = threading.Lock()

    def post(self, kind: str, request: str, user: str, reason: ReplyReason | None = None) -> None:
        """Write a click down (the console)."""
        with self._lock:
            self._file.execute(
                "INSERT INTO commands (at_s, user, kind, request, reason) VALUES (?, ?, ?, ?, ?)",
                (time.time(), user, kind, request, reason),
            )

    def poll(self) -> list[Command]:
        """Return the clicks since the last call, the oldest first (the agent)."""
        with self._lock:
            found = self._file.execute(
                "UPDATE commands SET taken_s = ? WHERE taken_s IS NULL "
                "RETURNING number, kind, request, reason, user, at_s",
                (time.time(),),
            ).fetchall()
        names = ("number", "kind", "request", "reason", "user", "at_s")
        rows = (dict(zip(names, row)) for row in sorted(found))
        return [
            Command(**{**row, "reason": ReplyReason(row["reason"]) if row["reason"] else None})
            for row in rows
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def new_file(pictures: Path, pixels: bytes) -> str:
    """Write the pixels of a picture, whole or not at all; returns the file's name."""
    name = f"{secrets.token_hex(8)}.raw"
    part = pictures / f"{name}.part"
    part.write_bytes(pixels)
    os.replace(part, pictures / name)
    return name
