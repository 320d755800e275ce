"""The control channel for scanners without ZeroMQ: questions and answers within the MRD stream.

Sessions (`agent.measurement`) bring what comes, and take along what there is to say: as texts, and
as an attribute of the next image. The rules are those of `agent.control`: questions are on disk
before they leave, no answer is a decline. docs/control.md has the form of the messages.
"""

import threading
import time
from collections.abc import Callable, Iterator

from agent import log
from agent.control_store import TOLD_S, ControlStore, Reply, Verdict
from agent.control_words import WHY_NOT
from protocols.control import (
    Acknowledged,
    ControlMessage,
    CoverageReply,
    CoverageRequest,
    ExamUpdate,
    Telemetry,
    Withdraw,
)

MOST_S = 60.0
"""A withdrawal is said for so long."""


class InBand:
    """A `agent.coverage_channel.Channel` without sockets of its own.

    Parameters
    ----------
    store : ControlStore
    on_exam : callable
        Takes an exam update, and returns False where it cannot now.
    """

    def __init__(self, store: ControlStore, on_exam: Callable[[ExamUpdate], bool]) -> None:
        self._store = store
        self._on_exam = on_exam
        self._log = log.get(channel="in-band")
        self._clock_s = time.time() - time.monotonic()
        self._shown: set[str] = set()
        # In memory what is open: images do not wait for the disk.
        now_s = self._now_s()
        self._open: dict[str, tuple[CoverageRequest | Withdraw | CoverageReply, float]] = {
            each.request.id: (each.request, each.expires_s) for each in store.open()
        }
        for withdraw in store.withdrawn(now_s):
            self._open[withdraw.id] = withdraw, now_s + MOST_S
        for reply in store.clicked(now_s):
            self._open[reply.id] = reply, now_s + TOLD_S
        self._sent_ns: dict[str, int] = {}
        self._arrived = threading.Event()

    def take(self, message: ControlMessage) -> tuple[ControlMessage, ...]:
        """Take in what the scanner says; return what is to be answered."""
        match message:
            case CoverageReply():
                verdict = self._record(message)
                counts = verdict is Verdict.COUNTS
                detail = WHY_NOT.get(verdict, "")
                return (Acknowledged(of=message.id, counts=counts, detail=detail),)
            case ExamUpdate():
                return (Acknowledged(of=message.id),) if self._on_exam(message) else ()
            case Acknowledged():
                self._shown.add(message.of)
        return ()

    def answer(self, reply: CoverageReply) -> Verdict:
        """Take an answer of the page, and say it to the scanner; return whether it counts."""
        verdict = self._record(reply)
        if verdict is Verdict.COUNTS:
            self._open[reply.id] = reply, self._now_s() + TOLD_S
        return verdict

    def _record(self, reply: CoverageReply) -> Verdict:
        verdict = self._store.record(reply, self._now_s())
        if verdict is Verdict.COUNTS:
            self._open.pop(reply.request, None)
            self._arrived.set()
        self._log.info("reply", request=reply.request, verdict=str(verdict))
        return verdict

    def to_say(self, said: set[str]) -> list[CoverageRequest | Withdraw | CoverageReply]:
        """Return what the scanner has not acknowledged, without what was ``said`` already.

        Parameters
        ----------
        said : set of str
            Ids; those of what is returned are added.
        """
        now_s = self._now_s()
        new: list[CoverageRequest | Withdraw | CoverageReply] = []
        for message, ends_s in list(self._open.values()):
            if ends_s <= now_s or message.id in self._shown | said:
                continue
            said.add(message.id)
            self._sent_ns.setdefault(message.id, time.monotonic_ns())
            if isinstance(message, CoverageRequest):
                message = message.model_copy(update={"countdown_s": ends_s - now_s})
            new.append(message)
        return new

    def request(self, request: CoverageRequest) -> bool:
        """Ask, with the next text or image that leaves; False where it was asked before."""
        now_s = self._now_s()
        new = self._store.ask(request, now_s)
        if new:
            self._open[request.id] = request, now_s + request.countdown_s
        return new

    def withdraw(self, withdraw: Withdraw) -> bool:
        """Take an open question back; False where it is not open any more."""
        now_s = self._now_s()
        withdrawn = self._store.withdraw(withdraw, now_s)
        if withdrawn:
            self._open.pop(withdraw.request, None)
            self._open[withdraw.id] = withdraw, now_s + MOST_S
        return withdrawn

    def state(self, request: str) -> str | None:
        """Return where a question stands."""
        return self._store.state(request)

    def recorded(self, request: str) -> list[Reply]:
        """Return all that was answered to a question."""
        return self._store.replies(request)

    def sent_ns(self, request: str, wait_s: float) -> int | None:
        """Return when a question first left, where it has: it is not waited for."""
        return self._sent_ns.get(request)

    def replies(self, wait_s: float) -> Iterator[Reply]:
        """Yield the replies that count and were not handled yet, as `ControlChannel.replies`."""
        self._arrived.clear()
        self._store.expire(self._now_s())
        found = self._store.unhandled()
        if not found and self._arrived.wait(wait_s):
            found = self._store.unhandled()
        for reply in found:
            yield reply
            self._store.handled(reply.number)

    def publish(self, telemetry: Telemetry) -> None:
        """Nobody listens in-band."""

    def _now_s(self) -> float:
        return self._clock_s + time.monotonic()
