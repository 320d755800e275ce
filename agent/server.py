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
from agent.counts import COUNTS
from agent.door import Door, NotAdmitted
from agent.rate import Rate

if TYPE_CHECKING:
    from agent.exam_service import Looking
    from agent.ways_out import WaysOut

REFUSAL_SECONDS = 1.0
LOST_MS = 30_000
"""A peer whose network takes nothing for so long is gone."""
DRAIN_TICK_S = 0.1
REFUSALS_AT_ONCE = 32
"""Are told why; others are just closed, so that a flood of them takes no threads."""
REFUSALS = {
    "draining": "ERR this agent finishes what it has and then stops: reconstruct on the scanner",
    "limits.connections": "ERR this agent serves as many scanners as it may: try again later",
    "limits.connections_per_minute": "ERR too many connections in a minute: try again later",
}


class Server:
    """Listen, and serve until told to stop.

    Parameters
    ----------
    settings : Settings
    load : callable, optional
        Returns the settings as they are now, for `reload`.

    Raises
    ------
    SettingsError
        The address cannot be bound, or the certificate not be read.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings] | None = None) -> None:
        self._settings = settings
        self._load = load
        self._door = Door(settings.listen)
        self._draining = False
        self._rate = Rate(settings.limits.connections_per_minute)
        self._refusing = threading.Semaphore(REFUSALS_AT_ONCE)
        self.metrics_port: int | None = None
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
            if settings.metrics is not None:
                from agent.metrics import Metrics, State

                metrics = Metrics(settings, lambda: State(len(self._sessions), self._draining))
                self.metrics_port = beside.enter_context(metrics).port
            if settings.requests is not None:
                from agent.requests_worker import keeper

                beside.enter_context(keeper(settings))
            if recover:
                self.recovery = threading.Thread(
                    target=self._recover, args=(pending(self._spool),), name="recover", daemon=True
                )
                self.recovery.start()
            self._listen()

    def _listen(self) -> None:
        """Accept scanners until `stop`; then let sessions finish, and refuse new ones in words."""
        deadline = float("inf")
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while not self._draining or (self._sessions and time.monotonic() < deadline):
                tick = DRAIN_TICK_S if self._draining else None
                ready = [key.fileobj for key, _ in selector.select(tick)]
                for listener in self._listeners:
                    if listener in ready:
                        self._accept(listener)
                if self._woken not in ready:
                    continue
                said = self._woken.recv(64)
                if b"r" in said:
                    threading.Thread(target=self._take_settings, name="reload").start()
                if b"x" in said and not self._draining:
                    self._draining = True
                    deadline = time.monotonic() + self._settings.limits.stop_seconds
                    self._log.info("draining", sessions=len(self._sessions))
        for end in (*self._listeners, self._wake, self._woken):
            end.close()
        if self._settings.listen.socket is not None:
            self._settings.listen.socket.unlink(missing_ok=True)
        self._log.info("stopping", sessions=len(self._sessions))

    def stop(self) -> None:
        """Have `serve` return; may be called, once, from a signal handler or another thread.

        Running measurements are finished, for `limits.stop_seconds` at most; scanners that connect
        meanwhile are told so and refused.
        """
        self._wake.send(b"x")

    def reload(self) -> None:
        """Have the settings read again (`agent.reload`); may be called as `stop` may."""
        self._wake.send(b"r")

    def _take_settings(self) -> None:
        from agent import engines
        from agent.chains import CHAINS
        from agent.reload import merged

        try:
            if self._load is None:
                return
            settings, changed, kept = merged(self._settings, self._load())
            if settings.chain not in CHAINS:
                raise SettingsError(f"chain: expected one of {sorted(CHAINS)}")
            door = Door(settings.listen)
            if reasons := engines.renew(settings):
                raise SettingsError("engines: " + "; ".join(reasons))
        except Exception as error:
            self._log.error("settings not reloaded, the old ones go on", reason=str(error))
            return
        self._settings, self._door, self._spool.settings = settings, door, settings.spool
        self._log.info("settings reloaded", changed=changed, need_a_restart=kept)

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
            # Keep-alive does not look while images are under way.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_MS)
        if not self._door.admits(peer):
            self._log.warning("connection refused: address is not in listen.scanners")
            COUNTS.refused("address")
            peer.close()
            return
        if why := self._why_not():
            self._log.warning("connection refused", reason=why)
            COUNTS.refused(why)
            if self._refusing.acquire(blocking=False):
                threading.Thread(target=self._refuse, args=(peer, why), daemon=True).start()
            else:
                peer.close()
            return
        thread = threading.Thread(
            target=self._session, args=(peer, _shown(address)), name="session", daemon=True
        )
        self._sessions.add(thread)
        thread.start()

    def _why_not(self) -> str:
        if self._draining:
            return "draining"
        if len(self._sessions) >= self._settings.limits.connections:
            return "limits.connections"
        return "" if self._rate.allows() else "limits.connections_per_minute"

    def _refuse(self, peer: socket.socket, why: str) -> None:
        try:
            _refuse(self._door, peer, why)
        finally:
            self._refusing.release()

    def _session(self, peer: socket.socket, address: str) -> None:
        from agent.session import Session

        try:
            with (
                self._door.opened(peer) as peer,
                peer.makefile("rb", buffering=0) as source,
                peer.makefile("wb", buffering=0) as sink,
            ):
                peer.settimeout(self._settings.limits.silence_s)
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
        except NotAdmitted as error:
            self._log.warning("connection refused", reason=str(error))
            COUNTS.refused("tls")
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


def _refuse(door: Door, peer: socket.socket, why: str) -> None:
    """Say why, and read what comes for a moment: a reset would take our words from the peer."""
    from protocols.mrd_types import Close, Text
    from protocols.mrd_write import write

    try:
        with door.opened(peer) as peer, peer.makefile("wb", buffering=0) as sink:
            peer.settimeout(REFUSAL_SECONDS)
            write(sink, Text(REFUSALS[why]), Close())
            peer.shutdown(socket.SHUT_WR)
            end = time.monotonic() + REFUSAL_SECONDS
            while time.monotonic() < end and peer.recv(1 << 16):
                pass
    except (OSError, NotAdmitted):
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
