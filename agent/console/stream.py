"""Events to browsers as server-sent events: what is there, what comes, and signs of life.

Every event carries the file's own number, so a browser that was cut off goes on where it was.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator

from agent.events import EventReader, Row

POLL_S = 0.03
ALIVE_S = 1.0
BATCH = 500


class Stream:
    """One watcher of the file for all browsers.

    Parameters
    ----------
    reader : EventReader
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._last = reader.last
        self._news = asyncio.Event()

    async def watch(self) -> None:
        """Look for new events, for ever."""
        while True:
            last = self._reader.last
            if last != self._last:
                self._last = last
                news, self._news = self._news, asyncio.Event()
                news.set()
            await asyncio.sleep(POLL_S)

    async def follow(self, seen: str) -> AsyncIterator[str]:
        """Yield what a browser has not seen, and then whatever comes.

        Parameters
        ----------
        seen : str
            "MADE:NUMBER" of the last event it has, or "".
        """
        made, _, number = seen.partition(":")
        again = made == self._reader.made and number.isdigit()
        at = int(number) if again else self._reader.exam_begins()
        yield "retry: 500\n"
        yield self._frame("hello", {"again": again})
        if not again:
            yield "".join(map(self._event, self._before(at)))
        alive_s = time.monotonic()
        while True:
            news = self._news
            while rows := self._reader.after(at, BATCH):
                at = rows[-1].number
                yield "".join(map(self._event, rows))
            left = alive_s + ALIVE_S - time.monotonic()
            if left <= 0:
                alive_s = time.monotonic()
                yield self._frame("alive", {"agent_s": self._reader.alive_s})
            try:
                await asyncio.wait_for(news.wait(), max(0.01, left))
            except TimeoutError:
                pass

    def _before(self, number: int) -> list[Row]:
        """Return what still holds of the time before an exam: engine and connections."""
        kept = [*self._reader.latest("engine", 1), *self._reader.latest("connection", 32)]
        return sorted((row for row in kept if row.number <= number), key=lambda row: row.number)

    def _event(self, row: Row) -> str:
        about = f'"number":{row.number},"at_s":{row.at_s:.3f},"exam":{json.dumps(row.exam)}'
        body = f"{{{about},{row.body[1:]}"
        return f"id: {self._reader.made}:{row.number}\ndata: {body}\n\n"

    def _frame(self, name: str, fields: dict[str, object]) -> str:
        return f"event: {name}\ndata: {json.dumps({'now_s': time.time(), **fields})}\n\n"
