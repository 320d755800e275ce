"""The scanner's end of the control channel: a reference adapter, to subclass or to copy.

    class Console(ConsoleAdapter):
        def ask(self, request): ...              # show the question, return the answer
        def schedule(self, request, steps): ...  # put the steps behind what is planned
        def scan(self, request, steps): ...      # return when they are scanned

    with Console(AgentAddress("recon-pc", 9003, 9004, keys), "bay 2") as console:
        console.tell(ExamUpdate(...))            # of the exam: time left, SAR, what is planned

It keeps the rules of docs/control.md: a question is asked once, however often it comes; nothing is
scheduled before the agent has acknowledged that the answer counts; answers are repeated until they
are acknowledged. It depends on `protocols` and pyzmq only.
"""

import logging
import math
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from protocols.control import (
    Acknowledged,
    ControlError,
    ControlMessage,
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    ExamUpdate,
    Heartbeat,
    Hello,
    Outcome,
    Refusal,
    Refused,
    ReplyReason,
    Telemetry,
    UnsupportedVersion,
    Withdraw,
    decode,
    encode,
)
from scanner.console_link import MISSED, AgentAddress, Exam, Keys, Said, connect

__all__ = ["AgentAddress", "Answer", "ConsoleAdapter", "Keys", "NotScanned"]

RETRY_S = 0.25
"""Between two attempts to meet the agent."""

GRACE_S = 30.0
"""After the countdown: an answer not acknowledged by then is not scanned."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The technologist's: accepted, declined with a reason, or modified with steps instead."""

    outcome: Outcome
    reason: ReplyReason | None = None
    detail: str = ""
    steps: tuple[CoverageStep, ...] = ()


class NotScanned(Exception):
    """Accepted coverage will not be scanned: why."""

    def __init__(self, reason: ReplyReason, detail: str = "") -> None:
        super().__init__(detail or str(reason))
        self.reason = reason
        self.detail = detail


class ConsoleAdapter(ABC):
    """Connect to an agent and serve its questions, until `close`.

    Parameters
    ----------
    address : AgentAddress
    scanner : str
        Name of the scanner.
    software : str
        Name and version of the scanner's.
    heartbeat_s : float
        Between two heartbeats.

    Attributes
    ----------
    ignored : Counter of str
        Messages that could not be read, by reason.
    """

    def __init__(
        self,
        address: AgentAddress,
        scanner: str,
        software: str = "boreside reference adapter",
        heartbeat_s: float = 2.0,
    ) -> None:
        self.ignored: Counter[str] = Counter()
        self._hello = Hello(role="console", name=scanner, software=software)
        self._heartbeat_s = heartbeat_s
        self._agent_here = False
        self._lock = threading.Lock()
        self._known: dict[str, CoverageRequest | None] = {}
        self._withdrawn: set[str] = set()
        self._elsewhere: set[str] = set()
        self._exams: dict[str, Exam] = {}
        self._said: dict[str, Said] = {}
        self._new: list[Said] = []
        self._closing = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._context = zmq.Context()
        self._dealer = connect(self._context, zmq.DEALER, address, heartbeat_s)
        self._sub = connect(self._context, zmq.SUB, address, heartbeat_s)
        self._sub.subscribe(b"")
        self._thread = threading.Thread(target=self._run, name="console adapter", daemon=True)
        self._thread.start()

    # What a scanner does in its own way. `ask`, `schedule` and `scan` run in a thread of the
    # question's own and may take their time; the others must return at once.

    @abstractmethod
    def ask(self, request: CoverageRequest) -> Answer | None:
        """Show a question for ``request.countdown_s``, and return the answer; None is a decline."""

    @abstractmethod
    def schedule(self, request: CoverageRequest, steps: Sequence[CoverageStep]) -> None:
        """Put accepted steps behind all that is planned.

        Raises
        ------
        NotScanned
        """

    @abstractmethod
    def scan(self, request: CoverageRequest, steps: Sequence[CoverageStep]) -> None:
        """Return when scheduled steps are scanned.

        Raises
        ------
        NotScanned
        """

    def moot(self, request: CoverageRequest, why: str) -> None:
        """Take note that an answer does not count: nothing is scanned on account of it."""
        _log.warning("the answer to %s does not count: %s", request.id, why)

    def withdrawn(self, request: CoverageRequest, why: str) -> None:
        """Take a question off the screen: the agent does not ask any more."""
        _log.info("%s is not asked any more: %s", request.id, why)

    def answered(self, request: CoverageRequest, reply: CoverageReply) -> None:
        """Take a question off the screen: it was answered on the agent's page.

        What was accepted is scheduled and scanned as if the answer had been given here.
        """
        _log.info("%s was %s on the agent's page", request.id, reply.outcome)

    def met(self, agent: Hello) -> None:
        """Take note that the agent is there."""
        _log.info("the agent %s is there", agent.name)

    def missed(self, why: str) -> None:
        """Take note that the agent is not there, or cannot be talked to: scan as without one."""
        _log.warning("no agent: %s", why)

    def hear(self, telemetry: Telemetry) -> None:
        """Take note of telemetry."""
        _log.debug("telemetry: %s", telemetry)

    # What a scanner calls.

    def tell(self, update: ExamUpdate) -> None:
        """Tell the agent what it must know of an exam; again whenever that changes."""
        with self._lock:
            self._exams[update.exam] = Exam(update, time.monotonic())
        self._interrupt()

    def close(self) -> None:
        """Stop. Questions that are open are not answered."""
        if not self._closing:
            self._closing = True
            self._interrupt()
            self._thread.join()
            for said in list(self._said.values()):
                said.acknowledged.set()
            self._context.destroy(linger=200)
            self._wake.close()
            self._woken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _interrupt(self) -> None:
        try:
            self._wake.send(b"x")
        except OSError:
            pass  # already woken, or closed

    def _run(self) -> None:
        poller = zmq.Poller()
        for end in (self._dealer, self._sub, self._woken):
            poller.register(end, zmq.POLLIN)
        heard_s = beat_s = time.monotonic()
        while not self._closing:
            left_s = beat_s - time.monotonic()
            ready = dict(poller.poll(max(0, math.ceil(1000 * left_s))))
            if self._sub in ready:
                self._hear()
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            if self._dealer in ready:
                heard_s = time.monotonic()
                self._take(self._dealer.recv_multipart())
            with self._lock:
                new, self._new = self._new, []
                told = [exam for exam in self._exams.values() if not exam.sent]
            for said in new:
                self._send(said.reply)
            for exam in told:
                self._send(exam.now)
                exam.sent = True
            now_s = time.monotonic()
            if self._agent_here and now_s > heard_s + MISSED * self._heartbeat_s:
                self._agent_here = False
                self.missed("the agent does not answer")
            if now_s >= beat_s:
                every_s = self._heartbeat_s if self._agent_here else RETRY_S
                beat_s = now_s + min(self._heartbeat_s, every_s)
                self._send(Heartbeat() if self._agent_here else self._hello)
                self._repeat()

    def _take(self, frames: list[bytes]) -> None:
        try:
            message = decode(b"".join(frames))
        except UnsupportedVersion as error:
            self.ignored["unsupported version"] += 1
            self._send(Refused(reason=Refusal.UNSUPPORTED_VERSION, detail=str(error)))
            return
        except ControlError as error:
            self.ignored["malformed"] += 1
            _log.warning("ignored a message of the agent: %s", error)
            return
        match message:
            case Hello(role="agent"):
                self._agent_here = True
                self.met(message)
                with self._lock:  # it may be another process, which knows of no exam
                    for exam in self._exams.values():
                        exam.acknowledged = False
                self._repeat()
            case CoverageRequest():
                self._send(Acknowledged(of=message.id))
                if message.id not in self._known:
                    self._known[message.id] = message
                    threading.Thread(
                        target=self._serve, args=(message,), name="question", daemon=True
                    ).start()
            case Withdraw():
                self._send(Acknowledged(of=message.id))
                self._take_back(message)
            case CoverageReply():
                self._send(Acknowledged(of=message.id))
                self._take_answer(message)
            case Acknowledged():
                with self._lock:
                    said = self._said.pop(message.of, None)
                    self._take_acknowledged(message.of)
                if said is not None:
                    said.by = message
                    said.acknowledged.set()
            case Refused(reason=Refusal.HELLO_FIRST):
                self._send(self._hello)
            case Refused():
                self.missed(message.detail)
            case _:
                pass

    def _take_back(self, message: Withdraw) -> None:
        if message.request in self._withdrawn:
            return
        self._withdrawn.add(message.request)
        # Where the question itself comes after this, it is not shown.
        request = self._known.setdefault(message.request, None)
        if request is not None:
            self.withdrawn(request, message.detail or message.reason)

    def _take_answer(self, reply: CoverageReply) -> None:
        request = self._known.get(reply.request)
        if request is None or reply.request in self._elsewhere:
            return
        self._elsewhere.add(reply.request)
        self.answered(request, reply)
        if reply.outcome is not Outcome.DECLINED:
            steps = reply.steps or request.steps
            threading.Thread(
                target=self._carry_out, args=(request, steps), name="question", daemon=True
            ).start()

    def _take_acknowledged(self, update: str) -> None:
        for name, exam in list(self._exams.items()):
            if exam.update.id == update:
                exam.acknowledged = True
                if exam.update.ended:
                    del self._exams[name]

    def _hear(self) -> None:
        try:
            message = decode(self._sub.recv_multipart()[-1])
        except ControlError:
            self.ignored["malformed telemetry"] += 1
            return
        if isinstance(message, Telemetry):
            self.hear(message)

    def _repeat(self) -> None:
        with self._lock:
            replies = [said.reply for said in self._said.values()]
            told = [exam.now for exam in self._exams.values() if not exam.acknowledged]
        messages: list[ControlMessage] = [*told, *replies]
        for message in messages:
            self._send(message)

    def _send(self, message: ControlMessage) -> None:
        try:
            self._dealer.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            pass  # nobody is there: it is said again when somebody is

    def _serve(self, request: CoverageRequest) -> None:
        """Take one question from asking to scanning."""
        end_s = time.monotonic() + request.countdown_s + GRACE_S
        answer = self.ask(request) or Answer(Outcome.DECLINED, ReplyReason.NO_ANSWER)
        if request.id in self._withdrawn:
            return
        accepted = answer.outcome is not Outcome.DECLINED
        said = self._say(request, answer)
        said.acknowledged.wait(max(0.0, end_s - time.monotonic()) if accepted else None)
        if self._closing:
            return
        if said.by is None:
            self.moot(request, "the agent did not acknowledge the answer in time")
            self._say(request, Answer(Outcome.FAILED, ReplyReason.SCANNER, "not acknowledged"))
        elif not said.by.counts:
            self.moot(request, said.by.detail)
        elif accepted:
            self._carry_out(request, answer.steps or request.steps)

    def _carry_out(self, request: CoverageRequest, steps: Sequence[CoverageStep]) -> None:
        try:
            self.schedule(request, steps)
            self._say(request, Answer(Outcome.SCHEDULED))
            self.scan(request, steps)
            self._say(request, Answer(Outcome.DONE))
        except NotScanned as error:
            self._say(request, Answer(Outcome.FAILED, error.reason, error.detail))
        except Exception:
            _log.exception("the scan of %s broke off", request.id)
            self._say(request, Answer(Outcome.FAILED, ReplyReason.SCANNER, "an internal error"))

    def _say(self, request: CoverageRequest, answer: Answer) -> Said:
        said = Said(
            CoverageReply(
                id=uuid.uuid4().hex,
                request=request.id,
                outcome=answer.outcome,
                reason=answer.reason,
                detail=answer.detail,
                steps=answer.steps,
            )
        )
        with self._lock:
            self._said[said.reply.id] = said
            self._new.append(said)
        self._interrupt()
        return said
