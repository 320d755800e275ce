"""What the page shows of the agent itself, looked at now and then; and what was clicked on it."""

import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from agent import log
from agent.event_records import Connection, Event, Spooled
from agent.events import Commands
from agent.page import Page
from agent.spool import Spool

if TYPE_CHECKING:
    from agent.coverage_page import Shown
    from agent.outbox import Outbox

CLICKS_S = 0.1
STATE_S = 2.0


class Watch:
    """A thread that takes clicks, and tells when room, PACS or consoles are not as they were.

    Parameters
    ----------
    page : Page
    spool : Spool
    outbox : Outbox or None

    Attributes
    ----------
    channel : Shown or None
        Takes the clicks, and knows the scanner's consoles. Clicks wait where there is none.
    """

    def __init__(self, page: Page, spool: Spool, outbox: "Outbox | None") -> None:
        self.channel: Shown | None = None
        self._page, self._spool, self._outbox = page, spool, outbox
        self._said: dict[str, Event] = {}
        self._consoles: set[str] = set()
        self._commands = Commands(page.events.folder)
        self._log = log.get(part="page")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._thread.join()
        self._commands.close()

    def _run(self) -> None:
        looked_s = 0.0
        while not self._closing.wait(CLICKS_S):
            try:
                if (channel := self.channel) is not None:
                    for command in self._commands.poll():
                        channel.click(command)
                if time.monotonic() - looked_s >= STATE_S:
                    looked_s = time.monotonic()
                    self._look()
            except Exception as error:
                self._log.error("page stumbled", exc_info=error)

    def _look(self) -> None:
        spool = self._spool
        room = Spooled(
            used_bytes=max(0, spool.used_bytes),
            max_bytes=int(spool.settings.max_bytes),
            unfinished=spool.unfinished(),
        )
        self._tell("spool", room)
        for name, status in self._outbox.status().items() if self._outbox else ():
            lost = bool(status.away)
            detail = f"{status.left} objects to deliver" if status.left else ""
            detail = "; ".join(words for words in (status.away, detail) if words)
            self._connection(f"pacs {name}", name, "pacs", lost, detail)
        if self.channel is not None:
            here = set(self.channel.consoles)
            for name in here:
                self._connection(f"control {name}", name, "control", False, "")
            for gone in self._consoles - here:
                self._connection(f"control {gone}", gone, "control", True, "")
            self._consoles |= here

    def _connection(self, id_: str, peer: str, role: Any, lost: bool, detail: str) -> None:
        state: Literal["open", "lost"] = "lost" if lost else "open"
        self._tell(id_, Connection(id=id_, peer=peer, role=role, state=state, detail=detail))

    def _tell(self, key: str, event: Event) -> None:
        if self._said.get(key) != event:
            self._said[key] = event
            self._page.events.say(None, event)
