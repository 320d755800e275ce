"""Questions and answers of the control channel, in SQLite: they outlive the process.

Every change is on disk before it is acted upon. Nothing is ever removed. Safe to use from several
threads.
"""

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

from agent.database import opened
from protocols.control import (
    ControlError,
    CoverageReply,
    CoverageRequest,
    Outcome,
    ReplyReason,
    Withdraw,
    decode,
    encode,
)

OPEN = "open"
TIMED_OUT = "timed_out"
WITHDRAWN = "withdrawn"

MAX_ANSWERS = 64
"""Recorded to one question. More would be a console out of order, and fill the disk."""

CLICK = "page-"
"""Ids of replies that were clicked on the agent's page begin so."""
TOLD_S = 600.0
"""The scanner's consoles are told of a click for so long."""

ANSWERS = (Outcome.ACCEPTED, Outcome.MODIFIED, Outcome.DECLINED)
"""To the question itself; the others tell what became of an accepted one."""

_PROGRESS = (Outcome.SCHEDULED, Outcome.DONE, Outcome.FAILED)
NEXT: dict[str, tuple[Outcome, ...]] = {
    OPEN: ANSWERS,
    Outcome.ACCEPTED: _PROGRESS,
    Outcome.MODIFIED: _PROGRESS,
    Outcome.SCHEDULED: (Outcome.DONE, Outcome.FAILED),
}
"""What counts, by the state of the question. Its state is the latest reply that counted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, message BLOB NOT NULL, asked_s REAL NOT NULL, expires_s REAL NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_state ON requests (state);
CREATE TABLE IF NOT EXISTS replies (
    number INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, id TEXT NOT NULL,
    message BLOB NOT NULL, verdict TEXT NOT NULL, at_s REAL NOT NULL, handled INTEGER NOT NULL,
    UNIQUE (request, id)
);
CREATE TABLE IF NOT EXISTS withdrawals (
    request TEXT PRIMARY KEY REFERENCES requests, message BLOB NOT NULL, until_s REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS withdrawals_until ON withdrawals (until_s);
CREATE INDEX IF NOT EXISTS replies_handled ON replies (handled) WHERE handled = 0;
"""


class StoreError(Exception):
    """The file is no store of questions and answers, or cannot be opened."""


class Verdict(StrEnum):
    """Whether a reply is acted upon."""

    COUNTS = "counts"
    LATE = "late"
    """The countdown was over: declined."""
    SECOND = "second"
    """The question was answered before."""
    WITHDRAWN = "withdrawn"
    """The agent had taken the question back."""
    OUT_OF_ORDER = "out_of_order"
    """Progress of something that was not accepted, or has ended."""
    UNKNOWN = "unknown"
    """No such question was asked."""


@dataclass(frozen=True)
class Asked:
    """A question without an answer.

    Attributes
    ----------
    expires_s : float
        No answer by then is a decline.
    """

    request: CoverageRequest
    expires_s: float


@dataclass(frozen=True)
class Reply:
    """A recorded reply.

    Attributes
    ----------
    number : int
        Its place among all of them.
    message : CoverageReply
        Of the scanner's side; where nobody answered, a decline by the agent itself, with reason
        `no_answer`.
    verdict : Verdict
    at_s : float
    """

    number: int
    message: CoverageReply
    verdict: Verdict
    at_s: float


def states(path: Path) -> dict[str, int]:
    """Return how many questions are in which state; opens nothing for writing."""
    if not path.is_file():
        return {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT state, count(*) FROM requests GROUP BY state").fetchall()
    return {str(state): int(count) for state, count in rows}


class ControlStore:
    """One file of questions and answers.

    Times are seconds since 1970.

    Raises
    ------
    StoreError
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._connection = opened(path, _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: expected a SQLite file, or room for one: {error}") from None

    def ask(self, request: CoverageRequest, now_s: float) -> bool:
        """Record a question; False where it was asked before, which changes nothing.

        Raises
        ------
        ControlError
            Another question has this id, or the message is too long.
        """
        raw = encode(request)
        with self._transaction() as db:
            row = db.execute("SELECT message FROM requests WHERE id = ?", (request.id,)).fetchone()
            if row is None:
                db.execute(
                    "INSERT INTO requests VALUES (?, ?, ?, ?, ?)",
                    (request.id, raw, now_s, now_s + request.countdown_s, OPEN),
                )
                return True
        before = cast(CoverageRequest, decode(row[0]))
        if before != request.model_copy(update={"countdown_s": before.countdown_s}):
            raise ControlError(f"expected the same question with id {request.id}, got another one")
        return False

    def open(self) -> list[Asked]:
        """Return the questions without an answer, the oldest first."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT message, expires_s FROM requests WHERE state = ? ORDER BY asked_s", (OPEN,)
            ).fetchall()
        return [Asked(cast(CoverageRequest, decode(raw)), expires_s) for raw, expires_s in rows]

    def state(self, request: str) -> str | None:
        """Return ``"open"``, ``"timed_out"``, ``"withdrawn"``, or the latest counted `Outcome`."""
        with self._transaction() as db:
            return _state(db, request)

    def withdraw(self, withdraw: Withdraw, now_s: float) -> bool:
        """Take an open question back; False where it is not open, which changes nothing."""
        raw = encode(withdraw)
        with self._transaction() as db:
            _expire(db, now_s)
            if _state(db, withdraw.request) != OPEN:
                return False
            _advance(db, withdraw.request, WITHDRAWN)
            db.execute(
                "INSERT INTO withdrawals SELECT id, ?, expires_s FROM requests WHERE id = ?",
                (raw, withdraw.request),
            )
        return True

    def withdrawn(self, now_s: float) -> list[Withdraw]:
        """Return the withdrawals of questions whose countdown would not be over yet."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT message FROM withdrawals WHERE until_s > ?", (now_s,)
            ).fetchall()
        return [cast(Withdraw, decode(raw)) for (raw,) in rows]

    def expire(self, now_s: float) -> int:
        """Decline the questions whose countdown is over; return how many."""
        with self._transaction() as db:
            return _expire(db, now_s)

    def record(self, reply: CoverageReply, now_s: float) -> Verdict:
        """Record a reply and return whether it counts; the same reply again gets the same answer.

        Another reply with an id which was used before never counts. It is not recorded, nor are
        replies to what was never asked, nor more than `MAX_ANSWERS`.
        """
        with self._transaction() as db:
            _expire(db, now_s)
            state = _state(db, reply.request)
            if state is None:
                return Verdict.UNKNOWN
            known = db.execute(
                "SELECT verdict, message FROM replies WHERE request = ? AND id = ?",
                (reply.request, reply.id),
            ).fetchone()
            if known is not None:
                if decode(known[1]) == reply:
                    return Verdict(known[0])
                return Verdict.SECOND if reply.outcome in ANSWERS else Verdict.OUT_OF_ORDER
            verdict = _verdict(state, reply.outcome)
            if verdict is Verdict.COUNTS:
                _advance(db, reply.request, reply.outcome)
            elif _count(db, reply.request) >= MAX_ANSWERS:
                return verdict
            _insert(db, reply, verdict, now_s)
            return verdict

    def replies(self, request: str) -> list[Reply]:
        """Return all that was recorded to a question, also what does not count."""
        return self._select("request = ?", request)

    def clicked(self, now_s: float) -> list[CoverageReply]:
        """Return the answers of the agent's page, of which a scanner has not made anything yet."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT replies.message FROM replies JOIN requests ON requests.id = request "
                "WHERE replies.id LIKE ? AND verdict = ? AND at_s > ? AND state IN (?, ?)",
                (f"{CLICK}%", Verdict.COUNTS, now_s - TOLD_S, Outcome.ACCEPTED, Outcome.DECLINED),
            ).fetchall()
        return [cast(CoverageReply, decode(raw)) for (raw,) in rows]

    def unhandled(self) -> list[Reply]:
        """Return the replies that count and are not handled yet, in their order."""
        return self._select("handled = 0")

    def handled(self, number: int) -> None:
        """Do not return a reply from `unhandled` again."""
        with self._transaction() as db:
            db.execute("UPDATE replies SET handled = 1 WHERE number = ?", (number,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _select(self, where: str, *values: str) -> list[Reply]:
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT number, message, verdict, at_s FROM replies WHERE {where} ORDER BY number",
                values,
            ).fetchall()
        return [
            Reply(number, cast(CoverageReply, decode(raw)), Verdict(verdict), at_s)
            for number, raw, verdict, at_s in rows
        ]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection


def _state(db: sqlite3.Connection, request: str) -> str | None:
    row = db.execute("SELECT state FROM requests WHERE id = ?", (request,)).fetchone()
    return None if row is None else str(row[0])


def _verdict(state: str, outcome: Outcome) -> Verdict:
    if outcome in NEXT.get(state, ()):
        return Verdict.COUNTS
    if outcome not in ANSWERS:
        return Verdict.OUT_OF_ORDER
    return {TIMED_OUT: Verdict.LATE, WITHDRAWN: Verdict.WITHDRAWN}.get(state, Verdict.SECOND)


def _count(db: sqlite3.Connection, request: str) -> int:
    row = db.execute("SELECT count(*) FROM replies WHERE request = ?", (request,)).fetchone()
    return int(row[0])


def _expire(db: sqlite3.Connection, now_s: float) -> int:
    rows = db.execute(
        "SELECT id FROM requests WHERE state = ? AND expires_s <= ?", (OPEN, now_s)
    ).fetchall()
    for (request,) in rows:
        decline = CoverageReply(
            id=uuid.uuid4().hex,
            request=request,
            outcome=Outcome.DECLINED,
            reason=ReplyReason.NO_ANSWER,
            detail="no answer within the countdown",
        )
        _advance(db, request, TIMED_OUT)
        _insert(db, decline, Verdict.COUNTS, now_s)
    return len(rows)


def _advance(db: sqlite3.Connection, request: str, state: str) -> None:
    db.execute("UPDATE requests SET state = ? WHERE id = ?", (str(state), request))


def _insert(db: sqlite3.Connection, reply: CoverageReply, verdict: Verdict, now_s: float) -> None:
    handled = verdict is not Verdict.COUNTS
    db.execute(
        "INSERT INTO replies (request, id, message, verdict, at_s, handled) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (reply.request, reply.id, encode(reply), str(verdict), now_s, handled),
    )
