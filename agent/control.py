"""The agent's end of the control channel: it asks the scanner's console for extra coverage.

    with ControlChannel(settings.control, ControlStore(settings.control.store)) as channel:
        channel.request(CoverageRequest(...))       # on disk when it returns, never waits for peers
        for reply in channel.replies(wait_s=1.0):   # also those that came before a restart
            ...                                     # reply.message.outcome
        channel.withdraw(Withdraw(...))         # the open question is taken back
        channel.publish(Telemetry(...))

One thread owns all sockets. Questions and answers are in `agent.control_store` before anything is
acted upon: a question that was open when the process ended goes on in the next one. No answer
within the countdown is a decline; what comes later is recorded, acknowledged as not counting, and
not handed on. docs/control.md has the sequence of messages.
"""

import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any

import zmq

from agent import log
from agent.control_settings import ControlSettings
from agent.control_sockets import Sockets
from agent.control_store import ControlStore, Reply, Verdict
from agent.control_words import WHY_NOT
from protocols.control import (
    VERSION,
    Acknowledged,
    ControlError,
    ControlMessage,
    CoverageReply,
    CoverageRequest,
    ExamUpdate,
    Heartbeat,
    Hello,
    Refusal,
    Refused,
    Telemetry,
    UnsupportedVersion,
    Withdraw,
    decode,
    encode,
)

CONSOLES = 16
"""At a time: one scanner's, and those that were restarted and are not missed yet."""

MISSED = 3
"""Heartbeats without which a peer is gone."""

BATCH = 64
"""Messages taken before everything else gets its turn."""

TELEMETRY = 256
"""Waiting to be sent; older ones are dropped."""

HELLO = Hello(role="agent", name="boreside", software=f"boreside {version('boreside')}")


@dataclass
class _Console:
    hello: Hello
    heard_s: float
    sent: set[str] = field(default_factory=set)
    """Questions and withdrawals."""
    shown: set[str] = field(default_factory=set)
    """Those which it has acknowledged."""


class ControlChannel:
    """Listen for consoles, ask them, and take their answers, until `close`.

    Parameters
    ----------
    settings : ControlSettings
    store : ControlStore
        Stays open after `close`.
    on_exam : callable
        Takes what a console says of an exam, on the channel's thread, and returns at once: False
        where it cannot take it now, and the console says it again.

    Attributes
    ----------
    port, telemetry_port : int
        Listened on.

    Raises
    ------
    SettingsError
        There are no keys, or an address cannot be bound.
    """

    def __init__(
        self,
        settings: ControlSettings,
        store: ControlStore,
        on_exam: Callable[[ExamUpdate], bool] = lambda update: True,
    ) -> None:
        self._settings = settings
        self._store = store
        self._on_exam = on_exam
        self._log = log.get(channel="control")
        self._clock_s = time.time() - time.monotonic()
        self._consoles: dict[bytes, _Console] = {}
        self._ignored: Counter[str] = Counter()
        self._telemetry: deque[Telemetry] = deque(maxlen=TELEMETRY)
        self._arrived = threading.Event()
        self._sent_ns: dict[str, int] = {}
        self._sent = threading.Condition()
        self._closing = False
        self._sockets = Sockets(settings, self._ignored)
        self._router, self._pub = self._sockets.router, self._sockets.telemetry
        self.port, self.telemetry_port = self._sockets.router_port, self._sockets.telemetry_port
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def request(self, request: CoverageRequest) -> bool:
        """Ask; False where the question was asked before, which changes nothing.

        It is on disk when this returns, and its countdown runs. Consoles get it as soon as they are
        there.

        Raises
        ------
        ControlError
            Another question has this id, or the message is too long.
        """
        new = self._store.ask(request, self._now_s())
        self._interrupt()
        return new

    def withdraw(self, withdraw: Withdraw) -> bool:
        """Take an open question back; False where it is not open any more.

        It is on disk when this returns: no answer counts from then on.
        """
        withdrawn = self._store.withdraw(withdraw, self._now_s())
        self._interrupt()
        return withdrawn

    def answer(self, reply: CoverageReply) -> Verdict:
        """Take an answer of the agent's page, and tell consoles; return whether it counts."""
        verdict = self._store.record(reply, self._now_s())
        self._arrived.set()
        self._interrupt()
        return verdict

    def state(self, request: str) -> str | None:
        """Return where a question stands (`ControlStore.state`), None where it was never asked."""
        return self._store.state(request)

    def recorded(self, request: str) -> list[Reply]:
        """Return all that was answered to a question, also what does not count."""
        return self._store.replies(request)

    def sent_ns(self, request: str, wait_s: float) -> int | None:
        """Return when this process first sent a question to a console, on the monotonic clock.

        None where it has not within ``wait_s``: no console is there.
        """
        with self._sent:
            self._sent.wait_for(lambda: request in self._sent_ns, wait_s)
            return self._sent_ns.get(request)

    def replies(self, wait_s: float) -> Iterator[Reply]:
        """Yield the replies that count and were not handled yet, a decline by silence included.

        A reply is handled once the next one is asked for. One whose handling has failed, or was cut
        short by the end of the process, comes again. To be used by one thread at a time.

        Parameters
        ----------
        wait_s : float
            For the first one, at most.
        """
        self._arrived.clear()
        found = self._store.unhandled()
        if not found and self._arrived.wait(wait_s):
            found = self._store.unhandled()
        for reply in found:
            yield reply
            self._store.handled(reply.number)

    def publish(self, telemetry: Telemetry) -> None:
        """Tell whoever listens; what cannot be sent at once may be dropped."""
        self._telemetry.append(telemetry)
        self._interrupt()

    @property
    def consoles(self) -> tuple[Hello, ...]:
        """Which are there, as they have introduced themselves."""
        return tuple(console.hello for console in list(self._consoles.values()))

    @property
    def ignored(self) -> dict[str, int]:
        """How often something was not acted upon, by reason, since the start."""
        return dict(self._ignored)

    def close(self) -> None:
        """Stop; open questions go on in the next process."""
        if not self._closing:
            self._closing = True
            self._interrupt()
            self._thread.join()
            self._sockets.close()
            self._wake.close()
            self._woken.close()
            self._arrived.set()

    def __enter__(self) -> "ControlChannel":
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

    def _now_s(self) -> float:
        """Return the time, which no correction of the wall clock makes jump."""
        return self._clock_s + time.monotonic()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        beat_s = due_s = 0.0
        while not self._closing:
            poller.poll(max(0, math.ceil(1000 * (due_s - self._now_s()))))
            self._drain()
            now_s = self._now_s()
            beats = now_s >= beat_s
            if beats:
                beat_s = now_s + self._settings.heartbeat_s
            due_s = beat_s
            try:
                for _ in range(BATCH):
                    if not self._receive():
                        break
                self._tell(beats)
                due_s = min(due_s, self._ask(again=beats))
            except Exception as error:
                # A full disk, say: whoever was not acknowledged will say it again.
                self._log.error("control channel stumbled", exc_info=error)
                self._ignored["stumbled"] += 1

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _receive(self) -> bool:
        """Take one message; False where there is none."""
        try:
            peer, *frames = self._router.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        try:
            if len(frames) != 1:
                raise ControlError(f"expected a message of one frame, got {len(frames)}")
            self._take(peer, decode(frames[0]))
        except UnsupportedVersion as error:
            self._ignore("unsupported version", error=str(error))
            refusal = Refused(reason=Refusal.UNSUPPORTED_VERSION, detail=str(error))
            self._send(peer, refusal)
        except ControlError as error:
            self._ignore("malformed", error=str(error))
        return True

    def _take(self, peer: bytes, message: ControlMessage) -> None:
        if isinstance(message, Hello):
            self._greet(peer, message)
            return
        console = self._consoles.get(peer)
        if console is None:
            self._send(peer, Refused(reason=Refusal.HELLO_FIRST, detail="say hello first"))
            return
        console.heard_s = self._now_s()
        match message:
            case Heartbeat():
                pass
            case CoverageReply():
                self._answer(peer, message)
            case ExamUpdate():
                if self._on_exam(message):
                    self._send(peer, Acknowledged(of=message.id))
                else:
                    self._ignore("exam update: not taken yet")
            case Acknowledged():
                console.shown |= console.sent & {message.of}
            case Refused():
                self._ignore("refused by console", reason=str(message.reason))
            case _:
                self._ignore("unexpected", message=message.type)

    def _greet(self, peer: bytes, hello: Hello) -> None:
        if hello.role != "console" or VERSION not in hello.versions:
            self._ignore("unsupported version", console=hello.name)
            self._send(
                peer,
                Refused(
                    reason=Refusal.UNSUPPORTED_VERSION,
                    detail=f"expected a console that speaks version {VERSION}",
                ),
            )
            return
        if peer not in self._consoles and len(self._consoles) >= CONSOLES:
            self._ignore("too many consoles", console=hello.name)
            return
        self._consoles[peer] = _Console(hello, self._now_s())
        self._log.info("console is there", console=hello.name, software=hello.software)
        self._send(peer, HELLO)

    def _answer(self, peer: bytes, reply: CoverageReply) -> None:
        verdict = self._store.record(reply, self._now_s())
        if verdict is Verdict.COUNTS:
            self._arrived.set()
        else:
            self._ignore(f"reply: {verdict}", request=reply.request, outcome=str(reply.outcome))
        counts = verdict is Verdict.COUNTS
        self._send(peer, Acknowledged(of=reply.id, counts=counts, detail=WHY_NOT.get(verdict, "")))

    def _ask(self, again: bool) -> float:
        """Send open questions, withdrawals and clicks, or again what was not acknowledged.

        Returns when the next countdown ends.
        """
        now_s = self._now_s()
        if self._store.expire(now_s):
            self._arrived.set()
        asked = self._store.open()
        for each in asked:
            left_s = each.expires_s - now_s
            self._offer(each.request.model_copy(update={"countdown_s": left_s}), again)
        for withdraw in self._store.withdrawn(now_s):
            self._offer(withdraw, again)
        for reply in self._store.clicked(now_s):
            self._offer(reply, again)
        return min((each.expires_s for each in asked), default=float("inf"))

    def _offer(self, message: CoverageRequest | Withdraw | CoverageReply, again: bool) -> None:
        for peer, console in self._consoles.items():
            if message.id not in (console.shown if again else console.sent):
                self._send(peer, message)
                console.sent.add(message.id)
                with self._sent:
                    self._sent_ns.setdefault(message.id, time.monotonic_ns())
                    self._sent.notify_all()

    def _tell(self, beats: bool) -> None:
        while self._telemetry:
            telemetry = self._telemetry.popleft()
            try:
                self._pub.send_multipart(
                    [telemetry.topic.encode(), encode(telemetry)], zmq.DONTWAIT
                )
            except (ControlError, zmq.Again):
                self._ignored["telemetry not sent"] += 1
        if beats:
            silent_s = self._now_s() - MISSED * self._settings.heartbeat_s
            for peer, console in list(self._consoles.items()):
                if console.heard_s < silent_s:
                    self._log.warning("console is gone", console=console.hello.name)
                    del self._consoles[peer]
                else:
                    self._send(peer, Heartbeat())

    def _send(self, peer: bytes, message: ControlMessage) -> None:
        """Send without waiting: what a peer does not take is sent again, or asked for again."""
        try:
            self._router.send_multipart([peer, encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError:
            self._ignored["not sent"] += 1

    def _ignore(self, what: str, **fields: Any) -> None:
        self._ignored[what] += 1
        if self._ignored[what].bit_count() == 1:  # 1, 2, 4, 8, ... times: no flood of the log
            self._log.warning("ignored", what=what, times=self._ignored[what], **fields)
