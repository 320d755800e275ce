"""The outbox: objects on their way to one or more PACS, which may be away.

    outbox = Outbox(settings.outbox, settings.dicom.ae_title)
    outbox.start()
    outbox.add(dataset)     # on the disk when it returns; sent when it can be
    outbox.status()
    outbox.close()          # what is left is sent by the next one

A thread for each destination sends what is due (`agent.outbox_store`), asks it to commit itself
where it is to (`agent.outbox_peer`), and leaves it alone for longer and longer where it fails. An
object is never given up. It may be sent twice where the process was killed between the answer and
its note of it; the SOP Instance UID tells a PACS that it is the same.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from agent import log
from agent.outbox_commitment import Listener, report_handler
from agent.outbox_peer import Peer, PeerAway
from agent.outbox_settings import Destination, OutboxSettings
from agent.outbox_store import Entry, State, Store

BATCH = 100
LOOK_S = 2.0
"""How often what another process has added is looked for."""
REFUSED_LONGER = 100
"""Times longer than a destination that is away an object may be left alone that it refuses."""
LINGER_S = 1.0
"""For an answer on our own association, where the PACS may call back as well."""


@dataclass(frozen=True)
class DestinationStatus:
    """How far a destination has got.

    Attributes
    ----------
    counts : dict of str to int
        Objects by `agent.outbox_store.State`.
    away : str
        Why it could not be reached at the last try; "" where it could.
    errors : dict of str to int
        Why single objects are still here, and how many.
    """

    counts: dict[str, int]
    away: str = ""
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Objects that are still to be delivered."""
        return sum(n for state, n in self.counts.items() if state != State.DONE)


class Outbox:
    """Take objects, and deliver them.

    Parameters
    ----------
    settings : OutboxSettings
    ae_title : str
        Ours.
    """

    def __init__(self, settings: OutboxSettings, ae_title: str = "BORESIDE") -> None:
        self._settings = settings
        self._ae_title = ae_title
        self._store = Store(settings)
        self._changed = threading.Condition()
        self._stopping = False
        self._away: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._listener: Listener | None = None

    @property
    def listen_port(self) -> int | None:
        """Where a PACS may call back, once started."""
        return self._listener.port if self._listener else None

    def start(self) -> None:
        """Begin to send, what earlier processes left first.

        Raises
        ------
        OSError
            The port to listen on is taken.
        """
        handler = report_handler(self._answered)
        if self._settings.listen_port is not None:
            self._listener = Listener(self._settings, self._ae_title, handler)
        for destination in self._settings.destinations:
            peer = Peer(destination, self._settings, self._ae_title, handler)
            thread = threading.Thread(
                target=self._send, args=(destination, peer), name="outbox", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def add(self, dataset: Dataset) -> None:
        """Take an object; it is on the disk when this returns. Known ones are not taken again."""
        if self._store.add(dataset):
            self._notify()

    def status(self) -> dict[str, DestinationStatus]:
        """Return how far each destination has got."""
        return {
            name: DestinationStatus(counts, self._away.get(name, ""), self._store.errors(name))
            for name, counts in self._store.counts().items()
        }

    def wait_delivered(self, timeout_s: float) -> bool:
        """Wait until nothing is left to deliver; False where the time did not suffice."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not any(status.left for status in self.status().values()), timeout_s
            )

    def close(self) -> None:
        """Stop sending after the object at hand; what is left stays in the outbox."""
        self._stopping = True
        self._notify()
        for thread in self._threads:
            thread.join(self._settings.timeout_s)
        if self._listener is not None:
            self._listener.close()
        if not any(thread.is_alive() for thread in self._threads):
            self._store.close()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _answered(self, question: str, committed: Sequence[str], failed: Sequence[str]) -> None:
        if not self._store.answered(question, committed, failed):
            log.get().info("storage commitment report for nothing that was asked")
        elif failed:
            log.get().error("PACS does not have what it took: sending again", objects=len(failed))
        self._notify()

    def _send(self, destination: Destination, peer: Peer) -> None:
        logger = log.get(destination=destination.name)
        failures = 0
        while not self._stopping:
            try:
                self._store_due(destination, peer)
                self._ask_due(destination, peer)
                if failures:
                    logger.info("PACS is back")
                failures, self._away[destination.name] = 0, ""
                self._notify()
            except Exception as error:
                away = str(error) if isinstance(error, PeerAway) else type(error).__name__
                if not failures:
                    logger.warning(
                        "cannot deliver for now",
                        reason=away,
                        exc_info=None if isinstance(error, PeerAway) else error,
                    )
                self._away[destination.name] = away
                pause = self._pause(failures, self._settings.longest_retry_s)
                failures += 1
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, pause)
                continue
            self._wait(destination)

    def _wait(self, destination: Destination) -> None:
        """Wait until something is due, or may be."""
        with self._changed:
            due = self._store.next_due(destination.name)
            pause = LOOK_S if due is None else min(due - time.time(), LOOK_S)
            if not self._stopping and pause > 0:
                self._changed.wait(pause)

    def _pause(self, failures: int, longest_s: float) -> float:
        return min(longest_s, self._settings.first_retry_s * 2.0 ** min(failures, 30))

    def _store_due(self, destination: Destination, peer: Peer) -> None:
        while entries := self._store.due(destination.name, State.WAITING, BATCH):
            with peer.storing({(entry.sop_class, entry.syntax) for entry in entries}) as opened:
                for entry in entries:
                    if self._stopping:
                        return
                    refused = peer.store(opened, entry)
                    if not refused:
                        self._store.stored(destination.name, entry.uid, destination.commitment)
                        continue
                    longest_s = REFUSED_LONGER * self._settings.longest_retry_s
                    pause = self._pause(entry.attempts, longest_s)
                    self._store.postponed(
                        destination.name, [entry.uid], refused, time.time() + pause
                    )
                    log.get(destination=destination.name).error("not taken", reason=refused)

    def _ask_due(self, destination: Destination, peer: Peer) -> None:
        """Ask for commitment to what was stored, and again for what had no answer in time."""
        for state in (State.STORED, State.ASKED):
            while entries := self._store.due(destination.name, state, BATCH):
                if destination.commitment:
                    self._ask(destination, peer, entries)
                    continue
                for entry in entries:  # Left from when commitment was asked for.
                    self._store.stored(destination.name, entry.uid, commitment=False)

    def _ask(self, destination: Destination, peer: Peer, entries: Sequence[Entry]) -> None:
        question = str(generate_uid(None))
        # Noted first: the answer may be here before the question has returned.
        until = time.time() + self._settings.answer_s
        uids = [entry.uid for entry in entries]
        self._store.asked(destination.name, uids, question, until)

        wait_s = LINGER_S if self._listener else self._settings.timeout_s
        retry = time.time() + self._settings.longest_retry_s
        try:
            refused = peer.ask(question, entries, wait_s)
        except PeerAway as error:
            self._store.not_asked(question, str(error), time.time())
            raise
        if refused:
            self._store.not_asked(question, refused, retry)
