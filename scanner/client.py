"""The scanner's end of the wire: stream a measurement, take back what comes, keep the times.

Messages go out from the calling thread, as fast as the peer takes them or paced by their time
stamps, while a second thread receives. Nothing that has come is lost when a session breaks: the
exception carries it.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.meta import parse_meta
from protocols.mrd import Message, Reader, Sink, Source
from protocols.mrd_types import (
    ENCODING_COUNTERS,
    NOT_IMAGING,
    AcquisitionFlag,
    Close,
    ErrorText,
    ImageMessage,
    ReadoutBlock,
    Text,
)
from protocols.mrd_write import write

Address: TypeAlias = str | tuple[Source, Sink]

TICK_NS = 2_500_000
"""Unit of ``acquisition_time_stamp``, as Siemens' scanners count it."""
CONNECT_ATTEMPTS = 10
CONNECT_PAUSE_S = 0.5
SILENCE_S = 300.0

SENT = np.dtype([("idx", ENCODING_COUNTERS), ("line", "?"), ("sent_ns", "<i8")])
"""What is kept of a readout: its counters, whether it is a line of an image (calibration lines
count), when it was sent."""

_NO_LINE = NOT_IMAGING & ~AcquisitionFlag.IS_PARALLEL_CALIBRATION
_IMAGE_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")


class ServerAbsent(ConnectionError):
    """Nobody takes connections at the address."""


class SessionBroken(ConnectionError):
    """The server closed, fell silent or broke the protocol before it said CLOSE.

    Attributes
    ----------
    received : Received
        What had come until then.
    """

    def __init__(self, reason: str, received: "Received") -> None:
        super().__init__(
            f"{reason}; {len(received.images)} images had come back, "
            f"{len(received.readouts)} readouts had been sent: see the server's log"
        )
        self.received = received


@dataclass
class Received:
    """What a measurement brought back. Times are monotonic, in ns.

    Attributes
    ----------
    images : list of ImageMessage
    image_ns : list of int
        When each image had come.
    pages : list of ImageMessage
        Of a summary: pictures to be read, not images of the measurement.
    texts : list of str
        Log lines and errors of the server.
    readouts : SENT (N)
        All readouts sent, in order.
    closed : bool
        Whether the server said CLOSE.
    """

    images: list[ImageMessage] = field(default_factory=list)
    image_ns: list[int] = field(default_factory=list)
    pages: list[ImageMessage] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    readouts: NDArray[Any] = field(default_factory=lambda: np.zeros(0, SENT))
    closed: bool = False

    def lines_of(self, number: int) -> NDArray[Any]:
        """Return the sent lines that image ``number`` was made of, by its counters, `SENT` (n)."""
        header = self.images[number].header
        mine = self.readouts["line"].copy()
        for name in _IMAGE_COUNTERS:
            mine &= self.readouts["idx"][name] == header[name]
        lines: NDArray[Any] = self.readouts[mine]
        return lines

    def latency_ms(self, number: int) -> float:
        """Return the time from an image's last line sent to its whole image received; NaN if none.

        The line counts as sent when the operating system has taken its last byte.
        """
        lines = self.lines_of(number)
        if not len(lines):
            return float("nan")
        return float(self.image_ns[number] - lines["sent_ns"].max()) * 1e-6


def stream(
    address: Address,
    messages: Iterable[Message],
    on_item: Callable[[Message], None] | None = None,
    pace: float | None = None,
    silence_s: float = SILENCE_S,
) -> Received:
    """Send a measurement and receive until the server's CLOSE.

    Parameters
    ----------
    address : str or (Source, Sink)
        "host:port", "unix:/path", or a pair of binary files to read from and write to.
    messages : iterable of Message
        Configuration, header, readouts; a `Close` is sent after them.
    on_item : callable
        Told of every block of readouts as it has gone out and of everything that comes back, the
        latter from another thread.
    pace : float or None
        Acceleration of the readouts' own timing (1: as scanned). None: as fast as they are taken.
    silence_s : float
        Longest wait for the server to take a byte, or to send one once everything is sent.

    Raises
    ------
    ServerAbsent
        No connection after several attempts.
    SessionBroken
        No CLOSE came, or the server stopped taking data.
    """
    if not isinstance(address, str):
        return _Session(_Pipes(*address)).run(messages, on_item or _ignore, pace)
    with _connect(address) as connection:
        return _Session(_Socket(connection, silence_s)).run(messages, on_item or _ignore, pace)


def _ignore(item: Message) -> None:
    pass


def _connect(address: str) -> socket.socket:
    """Connect; a server that has just been started may refuse at first, so try for a while."""
    place: Any = address.removeprefix("unix:")
    family = socket.AF_UNIX if place != address else socket.AF_INET
    if family == socket.AF_INET:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"expected an address host:port or unix:/path, got {address!r}")
        place = host, int(port)
    for attempt in range(CONNECT_ATTEMPTS):
        connection = socket.socket(family)
        try:
            connection.connect(place)
        except OSError as error:
            connection.close()
            reason = error
            if attempt + 1 < CONNECT_ATTEMPTS:
                time.sleep(CONNECT_PAUSE_S)
            continue
        if family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise ServerAbsent(
        f"no MRD server at {address} ({reason}): start one there (boreside serve), "
        "or give another address"
    )


class _Pipes:
    """A pair of files as the wire of a session."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self.readinto, self.write = source.readinto, sink.write

    def all_sent(self) -> None:
        """Pipes have no time limit."""

    def abandon(self) -> None:
        """Pipes end when the process at their other side does."""


class _Socket:
    """A socket as the wire of a session; its silence counts once everything is sent."""

    def __init__(self, connection: socket.socket, silence_s: float) -> None:
        connection.settimeout(silence_s)
        self._connection = connection
        self._sending = True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            sending = self._sending
            try:
                return self._connection.recv_into(buffer)
            except TimeoutError:
                if not sending:
                    raise

    def write(self, buffer: memoryview) -> int:
        return self._connection.send(buffer)

    def all_sent(self) -> None:
        """Nothing more will be written: from now on the peer has to say something."""
        self._sending = False

    def abandon(self) -> None:
        """End the connection both ways, which wakes whoever waits on it."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class _Session:
    """One measurement over an open connection."""

    def __init__(self, wire: _Pipes | _Socket) -> None:
        self._wire = wire
        self._received = Received()
        self._sent: list[NDArray[Any]] = []
        self._failure: Exception | None = None
        self._ended = threading.Event()

    def run(
        self,
        messages: Iterable[Message],
        on_item: Callable[[Message], None],
        pace: float | None,
    ) -> Received:
        receiver = threading.Thread(target=self._receive, args=(on_item,), daemon=True)
        receiver.start()
        try:
            complete = self._send_all(messages, on_item, pace)
        except BaseException:
            self._wire.abandon()
            raise
        self._wire.all_sent()
        receiver.join()
        received = self._received
        if self._sent:
            received.readouts = np.concatenate(self._sent)
        if self._failure is not None:
            raise SessionBroken(str(self._failure), received) from self._failure
        if not received.closed:
            raise SessionBroken("the server closed the connection without CLOSE", received)
        if not complete:
            raise SessionBroken("the server ended the session before it had everything", received)
        return received

    def _send_all(
        self,
        messages: Iterable[Message],
        on_item: Callable[[Message], None],
        pace: float | None,
    ) -> bool:
        """Send everything and CLOSE; False where the server would not take it all."""
        for message in _paced(messages, pace, self._ended):
            if self._ended.is_set():
                return False
            try:
                write(self._wire, message)
            except OSError:
                return False
            if isinstance(message, ReadoutBlock):
                sent = np.empty(len(message), SENT)
                sent["sent_ns"] = time.monotonic_ns()
                sent["idx"] = message.headers["idx"]
                sent["line"] = (message.headers["flags"] & np.uint64(_NO_LINE)) == 0
                self._sent.append(sent)
                on_item(message)
        with suppress(OSError):
            write(self._wire, Close())
        return True

    def _receive(self, on_item: Callable[[Message], None]) -> None:
        received = self._received
        try:
            for item in Reader(self._wire):
                if isinstance(item, ImageMessage):
                    now_ns = time.monotonic_ns()
                    if parse_meta(item.attributes).get("BoresideQuantity") == "summary":
                        received.pages.append(item)
                    else:
                        received.image_ns.append(now_ns)
                        received.images.append(item)
                elif isinstance(item, Text | ErrorText):
                    received.texts.append(item.text)
                elif isinstance(item, Close):
                    received.closed = True
                on_item(item)
        except TimeoutError:
            self._failure = TimeoutError("the server fell silent after everything had been sent")
        except Exception as error:
            self._failure = error
            self._wire.abandon()
        finally:
            self._ended.set()


def _paced(
    messages: Iterable[Message], pace: float | None, ended: threading.Event
) -> Iterator[Message]:
    """Yield messages no earlier than their readouts' time stamps, at once where ``ended``."""
    first_tick, began = None, 0
    for message in messages:
        if pace is None or not isinstance(message, ReadoutBlock):
            yield message
            continue
        ticks = message.headers["acquisition_time_stamp"].astype(np.int64)
        if first_tick is None:
            first_tick, began = ticks[0], time.monotonic_ns()
        due = np.maximum.accumulate(
            began + ((ticks - first_tick) * TICK_NS / pace).astype(np.int64)
        )
        at = 0
        while at < len(due):
            now = time.monotonic_ns()
            stop = int(np.searchsorted(due, now, "right"))
            if stop > at:
                yield message[at:stop]
                at = stop
            elif ended.wait((due[at] - now) * 1e-9):
                yield message[at:]
                break
