"""What the coverage loop knows of its exams, in SQLite: a question outlives the process.

Saved after every event, before anything is asked.
"""

import sqlite3
import threading
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from agent.control_store import StoreError
from agent.database import opened
from agent.trigger_site import SiteState
from agent.trigger_states import ExamContext, ExamState
from protocols.control import CoverageRequest, CoverageStep
from protocols.findings import ExamFindings

KEEP_S = 7 * 24 * 3600
"""Ended exams are kept that long, for answers that come late."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exams (
    exam TEXT PRIMARY KEY, course BLOB NOT NULL, ended INTEGER NOT NULL, at_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS site (
    one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL, day TEXT NOT NULL
);
"""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Question(_Model):
    """One request, and what became of it.

    Attributes
    ----------
    asked_s : float
    audited : bool
        Its sending is in the audit.
    heard : int
        Number of the latest reply that was taken in.
    steps : tuple of CoverageStep
        To be scanned: those asked for, or the technologist's own; empty before acceptance.
    scanned : list of str
        Steps whose series has come back.
    """

    request: CoverageRequest
    asked_s: float
    audited: bool = False
    heard: int = 0
    steps: tuple[CoverageStep, ...] = ()
    scanned: list[str] = []


class Course(_Model):
    """One exam so far.

    Attributes
    ----------
    exam : str
        Pseudonym.
    protocol : str
    began_s : float
        Its first series, or what its console first said.
    told : ExamContext or None
        What its console said last, on the clock of the events.
    machine : ExamState or None
        None before the first findings.
    findings : ExamFindings or None
        The latest ones.
    questions : list of Question
    ended : bool
    """

    exam: str
    protocol: str
    began_s: float
    told: ExamContext | None = None
    machine: ExamState | None = None
    findings: ExamFindings | None = None
    questions: list[Question] = []
    ended: bool = False

    def question(self, request: str) -> Question | None:
        """Return a question by its id."""
        return next((each for each in self.questions if each.request.id == request), None)


class CoverageStore:
    """One file of exams, and of what the site remembers between them.

    Raises
    ------
    StoreError
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = opened(path, _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: expected a SQLite file, or room for one: {error}") from None

    def save(self, course: Course, now_s: float) -> None:
        """Save an exam; ended ones of last week go."""
        raw = course.model_dump_json().encode()
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR REPLACE INTO exams VALUES (?, ?, ?, ?)",
                (course.exam, raw, course.ended, now_s),
            )
            self._db.execute("DELETE FROM exams WHERE ended AND at_s < ?", (now_s - KEEP_S,))

    def course(self, exam: str) -> Course | None:
        """Return an exam, ended or not."""
        with self._lock:
            row = self._db.execute("SELECT course FROM exams WHERE exam = ?", (exam,)).fetchone()
        return None if row is None else Course.model_validate_json(row[0])

    def open(self) -> list[Course]:
        """Return the exams that have not ended."""
        with self._lock:
            rows = self._db.execute("SELECT course FROM exams WHERE NOT ended").fetchall()
        return [Course.model_validate_json(raw) for (raw,) in rows]

    def site(self) -> tuple[SiteState, date | None]:
        """Return what the site remembers, and on which day its latest exam was."""
        with self._lock:
            row = self._db.execute("SELECT state, day FROM site").fetchone()
        if row is None:
            return SiteState(), None
        return SiteState.model_validate_json(row[0]), date.fromisoformat(row[1])

    def save_site(self, state: SiteState, day: date) -> None:
        """Save what the site remembers."""
        raw = state.model_dump_json().encode()
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR REPLACE INTO site VALUES (1, ?, ?)", (raw, str(day)))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
