"""Where requests wait: one SQLite file, which survives everything, and a folder of results beside.

store = RequestStore(settings.requests.folder)
store.put(request)                  # on the disk when it returns; the same id is taken once
request = store.take()              # the worker: the oldest one that is not done
store.end(request.id, "done", images=15)
store.get(request.id)
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agent.database import opened
from agent.requests import Request, Standing, State

FILE, RESULTS, MAPS, LOCK = "requests.sqlite", "results", "maps", "worker.lock"
ATTEMPTS = 3
"""How often a request may end the worker's process before it counts as failed."""
KEPT = 200
"""Requests that are over, with their results."""
MOST_OPEN = 100

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, at_s REAL NOT NULL,
    request TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', images INTEGER NOT NULL DEFAULT 0,
    series TEXT NOT NULL DEFAULT '', seconds REAL NOT NULL DEFAULT 0);
"""
_COLUMNS = "request, state, reason, images, series, seconds, at_s"


class RequestError(ValueError):
    """A request cannot be taken: what was expected."""


class RequestStore:
    """The requests of one agent. Any process and any thread may use it.

    Parameters
    ----------
    folder : Path
        Made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = opened(folder / FILE, _SCHEMA)
        self._lock = threading.Lock()

    def put(self, request: Request) -> Standing:
        """Take a request.

        One that is known is not taken again, unless it was refused or has failed: then it is tried
        once more.

        Raises
        ------
        RequestError
            Its id is that of another request, or too many wait.
        """
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            found = self._find(request.id)
            if found is not None and _differs(found.request, request):
                raise RequestError(f"expected an id of its own, {request.id} is another request")
            if found is None or found.state in ("refused", "failed"):
                if self.waiting() >= MOST_OPEN:
                    raise RequestError(f"expected at most {MOST_OPEN} requests to wait")
                self._file.execute("DELETE FROM requests WHERE id = ?", (request.id,))
                self._file.execute(
                    "INSERT INTO requests (id, at_s, request, state) VALUES (?, ?, ?, 'waiting')",
                    (request.id, time.time(), request.model_dump_json()),
                )
        found = self.get(request.id)
        assert found is not None
        return found

    def get(self, id: str) -> Standing | None:
        """Return what has become of a request; None where there is none of that id."""
        with self._lock:
            return self._find(id)

    def latest(self, count: int = 50) -> list[Standing]:
        """Return the latest requests, the oldest first."""
        with self._lock:
            found = self._file.execute(
                f"SELECT {_COLUMNS} FROM requests ORDER BY number DESC LIMIT ?", (count,)
            ).fetchall()
        return [_standing(row) for row in found[::-1]]

    def waiting(self) -> int:
        """Return how many are still to be done."""
        found = self._file.execute(
            "SELECT count(*) FROM requests WHERE state IN ('waiting', 'running')"
        )
        return int(found.fetchone()[0])

    def take(self) -> Request | None:
        """Return the oldest request that is not over (the one worker there may be).

        What a process left that has ended meanwhile is taken again, `ATTEMPTS` times in all.
        """
        with self._lock:
            self._file.execute(
                "UPDATE requests SET state = 'failed', reason = 'it has ended the worker' "
                "WHERE state = 'running' AND attempts >= ?",
                (ATTEMPTS,),
            )
            found = self._file.execute(
                "UPDATE requests SET state = 'running', attempts = attempts + 1 WHERE number = ("
                "SELECT min(number) FROM requests WHERE state IN ('waiting', 'running')) "
                "RETURNING request"
            ).fetchall()
        return Request.model_validate_json(found[0][0]) if found else None

    def end(
        self,
        id: str,
        state: State,
        reason: str = "",
        images: int = 0,
        series: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Note what has become of a request; the oldest ones are forgotten, with their results."""
        with self._lock:
            self._file.execute(
                "UPDATE requests SET state = ?, reason = ?, images = ?, series = ?, seconds = ? "
                "WHERE id = ?",
                (state, reason, images, series, seconds, id),
            )
            old = self._file.execute(
                "DELETE FROM requests WHERE number IN (SELECT number FROM requests WHERE state "
                "NOT IN ('waiting', 'running') ORDER BY number DESC LIMIT -1 OFFSET ?) "
                "RETURNING id",
                (KEPT,),
            ).fetchall()
        for (gone,) in old:
            self.result(gone).unlink(missing_ok=True)

    def result(self, id: str) -> Path:
        """Return the ISMRMRD file of a request's images, which is there once it is done."""
        return self.folder / RESULTS / f"{id}.h5"

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _find(self, id: str) -> Standing | None:
        row = self._file.execute(f"SELECT {_COLUMNS} FROM requests WHERE id = ?", (id,)).fetchone()
        return _standing(row) if row else None


def _differs(one: Request, other: Request) -> bool:
    return (one.measurement, one.wanted) != (other.measurement, other.wanted)


def _standing(row: Sequence[object]) -> Standing:
    request, state, reason, images, series, seconds, at_s = row
    return Standing.model_validate(
        {
            "request": Request.model_validate_json(str(request)),
            "state": state,
            "reason": reason,
            "images": images,
            "series": series,
            "seconds": seconds,
            "at_s": at_s,
        }
    )
