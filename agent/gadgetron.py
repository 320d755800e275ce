"""Boreside as an external Python gadget of a Gadgetron: images out of its k-space, in its chain.

Three ways in, one way through (`serve`):

- ``python -m gadgetron PORT agent.gadgetron TARGET`` is what Gadgetron runs for
  ``<execute name="agent.gadgetron" target="recon" type="python"/>``. The `gadgetron` package reads
  configuration and header and calls `recon`, `images` or `passthrough`; its socket is taken over
  there, so that nothing of the package touches the data.
- ``python -m agent.gadgetron PORT TARGET`` connects to the parent without that package.
- ``python -m agent.gadgetron --listen PORT TARGET`` waits for Gadgetrons whose configuration says
  ``<connect port="PORT"/>``, on loopback unless told otherwise: there is no authentication.

A Gadgetron's chain dies of messages 1, 2, 3, 5, 6 and 7, and of int16 images: neither is sent. A
failure is told with ERROR (8) and CLOSE; the process, or in passive mode the connection, ends.
"""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain as concatenate
from typing import Annotated, Any

import numpy as np
import typer

from agent import log
from agent.gadgetron_config import Properties, parse_properties
from gadgets.buckets import from_buckets, header_as_acquired, is_imaging
from gadgets.check_images import check_images
from gadgets.conventional import conventional
from gadgets.stream import Gadget
from protocols.errors import MalformedMessage, TruncatedStream, WireError
from protocols.header import parse_header
from protocols.mrd import Reader
from protocols.mrd_gadgetron import Bucket, ImageArray, ReconData
from protocols.mrd_types import (
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderText,
    ImageMessage,
    ReadoutBlock,
    Waveform,
)
from protocols.mrd_write import write

OPENING_S = 30.0
"""How long a peer may take to send configuration and header."""
PARTING_S = 10.0
"""How long a failure may take to reach the parent."""
CONNECTIONS = 16
"""How many Gadgetrons are served at once; the next one waits."""

_DATA = (ReadoutBlock, ImageMessage, Waveform, ReconData, ImageArray, Bucket)
_OPENING = (ConfigFile, ConfigText, HeaderText)


class _Parent:
    """The Gadgetron at the other end of a socket: its messages, and what may be sent to it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._source = sock.makefile("rb", buffering=0)
        self._reader = Reader(self._source)
        self._sink = sock.makefile("wb", buffering=0)
        self.broken: Exception | None = None

    def opening(self) -> tuple[str, str]:
        """Read what comes first: configuration and MRD header, as text."""
        self._socket.settimeout(OPENING_S)
        config, header = self._read(), self._read()
        self._socket.settimeout(None)
        if not isinstance(config, ConfigText) or not isinstance(header, HeaderText):
            got = f"{type(config).__name__} and {type(header).__name__}"
            raise MalformedMessage(
                "CONFIG (2) and HEADER (3) from a Gadgetron", got, self._reader.offset
            )
        return config.text, header.xml

    def messages(self) -> Iterator[Any]:
        """Yield data up to the parent's CLOSE; what breaks the stream is kept in ``broken``."""
        try:
            while not isinstance(message := self._read(), Close):
                if isinstance(message, _DATA):
                    yield message
                elif isinstance(message, _OPENING):
                    got = type(message).__name__
                    raise MalformedMessage("data or CLOSE", got, self._reader.offset)
                else:
                    log.get().warning("message dropped", kind=type(message).__name__)
        except (WireError, OSError) as error:
            self.broken = error
            raise

    def send(self, item: Any) -> None:
        """Send data; a chain's other items (`NoiseState`, for one) are no messages."""
        if isinstance(item, ImageMessage) and item.data.dtype == np.int16:
            item = replace(item, data=item.data.astype(np.float32))
        if isinstance(item, _DATA):
            write(self._sink, item)
        else:
            log.get().info("item not sent", kind=type(item).__name__)

    def part(self, failure: BaseException | None) -> None:
        """Say ERROR where there was a failure, then CLOSE, see that it arrives, and hang up."""
        deadline = time.monotonic() + PARTING_S
        with suppress(OSError):
            self._socket.settimeout(PARTING_S)
            if failure is not None:
                write(self._sink, ErrorText(f"Boreside: {type(failure).__name__}: {failure}"))
            write(self._sink, Close())
            self._socket.shutdown(socket.SHUT_WR)
            # Closing a socket with bytes unread resets the connection, and ERROR would be lost.
            while failure is not None and self._socket.recv(1 << 16):
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
        for part in (self._source, self._sink, self._socket):
            with suppress(OSError):
                part.close()

    def _read(self) -> Any:
        message = self._reader.read()
        if message is None:
            raise TruncatedStream("CLOSE", "the end of the stream", self._reader.offset)
        return message


def serve(sock: socket.socket, target: str, opening: tuple[str, str] | None = None) -> None:
    """Be one external gadget, to the end of its stream, and close the socket.

    Parameters
    ----------
    sock : socket
    target : str
        "recon", "images" or "passthrough", where the configuration names none.
    opening : (str, str), optional
        Configuration and MRD header, where they have been read already.

    Raises
    ------
    Exception
        Whatever ended the stream early, after the parent was told.
    """
    parent = _Parent(sock)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        config, header = opening or parent.opening()
        properties = parse_properties(config, target)
        log.get().info("gadget", **properties.model_dump())
        gadget = _TARGETS[properties.target](header, properties)
        for item in gadget(parent.messages()):
            parent.send(item)
        if parent.broken is not None:
            raise parent.broken
    except BaseException as error:
        parent.part(error)
        raise
    parent.part(None)


def _recon(header: str, properties: Properties) -> Gadget:
    parsed = parse_header(header)

    def run(items: Iterator[Any]) -> Iterator[Any]:
        readouts = from_buckets(items)
        ahead: list[Any] = []
        acquired = parsed
        for item in readouts:
            ahead.append(item)
            if isinstance(item, ReadoutBlock) and is_imaging(item).any():
                acquired = header_as_acquired(parsed, item)
                break
        reconstruct = conventional(
            acquired,
            method=properties.method,
            maps=properties.maps,
            pixel_type=properties.pixel_type,
        )
        yield from reconstruct(concatenate(ahead, readouts))

    return run


_TARGETS: dict[str, Callable[[str, Properties], Gadget]] = {
    "recon": _recon,
    "images": lambda header, properties: check_images,
    "passthrough": lambda header, properties: iter,
}


def recon(connection: Any) -> None:
    """Reconstruct readouts, buckets and recon data; for ``target="recon"`` of ``<execute>``."""
    _take_over(connection, "recon")


def images(connection: Any) -> None:
    """Check images and image arrays; for ``target="images"`` of ``<execute>``."""
    _take_over(connection, "images")


def passthrough(connection: Any) -> None:
    """Send everything back; for ``target="passthrough"`` of ``<execute>``."""
    _take_over(connection, "passthrough")


class _Taken:
    """Stands where the package's socket was, which the package closes (with a CLOSE) at the end."""

    def close(self) -> None: ...


def _take_over(connection: Any, target: str) -> None:
    """Serve on the socket of a `gadgetron.external.Connection`.

    The package has read configuration and header and not one byte more: it reads exactly what it
    decodes, straight from the socket.
    """
    log.setup()
    texts = connection.raw_bytes
    config, header = (
        text.rstrip(b"\x00").decode("utf-8", "replace") for text in (texts.config, texts.header)
    )
    sock = socket.socket(fileno=connection.socket.socket.detach())
    sock.settimeout(None)
    connection.socket = _Taken()
    serve(sock, target, (config, header))


def listen(port: int, address: str = "localhost", target: str = "recon") -> None:
    """Serve Gadgetrons that connect, each on its own thread, until interrupted.

    Parameters
    ----------
    port : int
        0 lets the system choose; the log tells.
    address : str
        Every address that this name stands for is listened on: Gadgetron tries only the first
        address of ``localhost``, which may be that of IPv6.
    target : str
        For connections whose configuration names none.
    """
    room = threading.Semaphore(CONNECTIONS)

    def serve_one(sock: socket.socket) -> None:
        try:
            serve(sock, target)
        except Exception as error:
            log.get().error("connection failed", reason=f"{type(error).__name__}: {error}")
        finally:
            room.release()

    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        places = []
        for listener in _listeners(address, port):
            ready.register(stack.enter_context(listener), selectors.EVENT_READ, listener)
            places.append(listener.getsockname()[:2])
        log.get().info("listening", places=places)
        while True:
            for key, _ in ready.select():
                room.acquire()
                try:
                    sock, _ = key.data.accept()
                except OSError:  # the peer thought better of it
                    room.release()
                    continue
                threading.Thread(target=serve_one, args=(sock,)).start()


def _listeners(address: str, port: int) -> Iterator[socket.socket]:
    places = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = {(family, place[0]) for family, _, _, _, place in places}
    for family, host in sorted(found):
        try:
            listener = socket.create_server((str(host), port), family=family)
        except OSError as error:
            if len(found) == 1 or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            continue
        port = listener.getsockname()[1]
        listener.setblocking(False)
        yield listener


def gadget(
    port: Annotated[int, typer.Argument(help="Port of the Gadgetron, or to listen on.")],
    target: Annotated[str, typer.Argument(help=f"One of {', '.join(_TARGETS)}.")] = "recon",
    listening: Annotated[
        bool, typer.Option("--listen", help="Wait for Gadgetrons instead of connecting to one.")
    ] = False,
    address: Annotated[str, typer.Option(help="Of the Gadgetron, or to listen on.")] = "localhost",
) -> None:
    """Be an external gadget of a Gadgetron."""
    if target not in _TARGETS:
        raise typer.BadParameter(f"expected one of {', '.join(_TARGETS)}, got {target}")
    log.setup()
    try:
        if listening:
            listen(port, address, target)
        else:
            sock = socket.create_connection((address, port), OPENING_S)
            sock.settimeout(None)
            serve(sock, target)
    except Exception as error:
        log.get().error("failed", reason=f"{type(error).__name__}: {error}")
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(gadget)
