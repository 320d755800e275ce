"""The listener: accepts scanners on TCP and Unix sockets, one `agent.session.Session` each.

The port is bound before numpy and the chains are imported: Siemens FIRE gives a server seconds.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.config import Settings, SettingsError

if TYPE_CHECKING:
    from agent.exam_service import Looking
    from agent.ways_out import WaysOut

REFUSAL_SECONDS = 1.0


class Server:
    """Listen, and serve until told to stop.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    SettingsError
        The address cannot be bound.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.recovery: threading.Thread | None = None
        self._sessions: set[threading.Thread] = set()
        self._looking: Looking | None = None
        self._ways: WaysOut | None = None
        self._wake, self._woken = socket.socketpair()
        listen = settings.listen
        self._listeners = [_bind(lambda: _tcp(listen.host, listen.port), f"listen.port {listen}")]
        if listen.socket is not None:
            path = listen.socket
            self._listeners.append(_bind(lambda: _unix(path), f"listen.socket {path}"))
        self.address: tuple[str, int] = self._listeners[0].getsockname()[:2]
        self._log = log.get()

    def serve(self, recover: bool) -> None:
        """Accept scanners until `stop`; then let the running sessions finish.

        Parameters
        ----------
        recover : bool
            Finish what an earlier process left, in the background.

        Raises
        ------
        SettingsError
            `Settings.chain` does not exist, or exams cannot be looked at, or images not handed on,
            as the settings say.
        """
        self._log.info("listening", host=self.address[0], port=self.address[1])

        from agent.chains import CHAINS
        from agent.recover import pending
        from agent.spool import Spool
        from gadgets.fft import set_threads

        settings = self._settings
        if settings.chain not in CHAINS:
            raise SettingsError(f"chain: expected one of {sorted(CHAINS)}, got {settings.chain!r}")
        set_threads(settings.threads)
        self._spool = Spool(settings.spool)
        with ExitStack() as beside:
            if settings.outbox is not None or settings.console is not None:
                from agent.ways_out import ways_out

                self._ways = beside.enter_context(ways_out(settings, self._spool))
            if settings.exams is not None:
                from agent.exam_service import exams

                self._looking = beside.enter_context(exams(settings, self._ways))
            if recover:
                self.recovery = threading.Thread(
                    target=self._recover, args=(pending(self._spool),), name="recover", daemon=True
                )
                self.recovery.start()
            self._listen()

    def _listen(self) -> None:
        """Accept scanners until `stop`; then let the running sessions finish."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                for listener in self._listeners:
                    if listener in ready:
                        self._accept(listener)
                if self._woken in ready:
                    break
        for end in (*self._listeners, self._wake, self._woken):
            end.close()
        if self._settings.listen.socket is not None:
            self._settings.listen.socket.unlink(missing_ok=True)
        self._log.info("stopping", sessions=len(self._sessions))
        deadline = time.monotonic() + self._settings.limits.stop_seconds
        for session in list(self._sessions):
            session.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Have `serve` return; may be called, once, from a signal handler or another thread."""
        self._wake.send(b"x")

    def _recover(self, names: list[str]) -> None:
        from agent.recover import recover

        ways = self._ways
        for name in names:
            try:
                outgoing = ways.recovered(name) if ways else None
                recover(self._spool, name, self._settings, outgoing=outgoing)
            except Exception as error:
                self._log.error("recovery failed", measurement=name, exc_info=error)
        if ways is not None:
            ways.make_good()

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, address = listener.accept()
        except OSError:
            return  # it went away before we took it
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        full = len(self._sessions) >= self._settings.limits.connections
        if full:
            self._log.warning("connection refused: limits.connections reached")
            threading.Thread(target=_refuse, args=(peer,), daemon=True).start()
            return
        thread = threading.Thread(
            target=self._session, args=(peer, _shown(address)), name="session", daemon=True
        )
        self._sessions.add(thread)
        thread.start()

    def _session(self, peer: socket.socket, address: str) -> None:
        from agent.session import Session

        try:
            with (
                peer,
                peer.makefile("rb", buffering=0) as source,
                peer.makefile("wb", buffering=0) as sink,
            ):
                Session(
                    source,
                    sink,
                    self._spool,
                    self._settings,
                    lambda: _shutdown(peer, socket.SHUT_WR),
                    lambda: _shutdown(peer, socket.SHUT_RDWR),
                    self._looking.beside() if self._looking else None,
                    self._ways,
                    address,
                ).run()
        except Exception as error:
            self._log.error("session did not start", exc_info=error)
        finally:
            self._sessions.discard(threading.current_thread())


def _shown(address: object) -> str:
    """Return who connected, for people."""
    return str(address[0]) if isinstance(address, tuple) else "this machine"


def _shutdown(peer: socket.socket, how: int) -> None:
    try:
        peer.shutdown(how)
    except OSError:
        pass  # the peer was faster


def _refuse(peer: socket.socket) -> None:
    """Say why, and read what comes for a moment: a reset would take our words from the peer."""
    from protocols.mrd_types import Close, Text
    from protocols.mrd_write import write

    with peer, peer.makefile("wb", buffering=0) as sink:
        try:
            peer.settimeout(REFUSAL_SECONDS)
            text = Text("ERR this agent serves as many scanners as it may: try again later")
            write(sink, text, Close())
            peer.shutdown(socket.SHUT_WR)
            end = time.monotonic() + REFUSAL_SECONDS
            while time.monotonic() < end and peer.recv(1 << 16):
                pass
        except OSError:
            pass


def _bind(make: Callable[[], socket.socket], what: str) -> socket.socket:
    try:
        return make()
    except (OSError, OverflowError) as error:
        raise SettingsError(f"{what}: expected an address to listen on, got {error}") from error


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64)


def _unix(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener
