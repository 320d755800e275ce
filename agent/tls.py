"""TLS of the MRD port: a tunnel between a scanner's encrypted connection and a plain session.

A session reads and writes its connection from two threads at once, which OpenSSL does not allow on
one object. So one thread for each connection does everything that is encrypted, and gives the
session the other end of a pair of sockets. The session knows nothing of it: what it ends, ends.
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from agent.config import ListenTls, SettingsError

HANDSHAKE_S = 10.0
CLOSING_S = 5.0
TICK_S = 0.2
PIECE_BYTES = 1 << 18
AHEAD_BYTES = 4 << 20
"""What may wait on the way to the scanner, encrypted, before the session has to."""


class NotAdmitted(Exception):
    """The handshake failed, or the certificate is not of a scanner that may connect."""


def server_context(settings: ListenTls) -> ssl.SSLContext:
    """Return TLS 1.2 or later, with a demand for a certificate where ``client_ca`` is set.

    Raises
    ------
    SettingsError
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"listen.tls: expected PEM files of a certificate and its key, got {error}"
        ) from None
    return context


def names(certificate: Mapping[str, Any]) -> set[str]:
    """Return the names in a certificate: DNS names, else the common name (RFC 6125, 6.4.4)."""
    found = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    if found:
        return found
    subject = [pair for group in certificate.get("subject", ()) for pair in group]
    return {value for kind, value in subject if kind == "commonName"}


class Tunnel:
    """One connection, after its handshake.

    Parameters
    ----------
    peer : socket
        The scanner's; the tunnel takes it over.
    context : ssl.SSLContext
    admitted : tuple of str
        Names of which the certificate must have one; empty: any.

    Attributes
    ----------
    plain : socket
        The session's end.

    Raises
    ------
    NotAdmitted
    """

    def __init__(
        self, peer: socket.socket, context: ssl.SSLContext, admitted: tuple[str, ...]
    ) -> None:
        peer.settimeout(HANDSHAKE_S)
        try:
            self._peer = context.wrap_socket(peer, server_side=True)
        except OSError as error:
            raise NotAdmitted(f"no TLS with this peer: {error}") from None
        found = names(self._peer.getpeercert() or {})
        if admitted and not found & set(admitted):
            self._peer.close()
            raise NotAdmitted(f"expected a certificate of {', '.join(admitted)}, got {found}")
        self.plain, self._inner = socket.socketpair()
        for end in (self._peer, self._inner):
            end.setblocking(False)
        self._outward = bytearray()  # from the session, to the scanner
        self._inward = memoryview(b"")  # from the scanner, to the session
        self._scanner_done = self._session_done = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(self, *_: object) -> None:
        """The session has ended: so does the connection."""
        self._ended.set()
        self.plain.close()
        self._thread.join(CLOSING_S)

    def _run(self) -> None:
        try:
            self._carry()
        except (OSError, ssl.SSLError):
            pass  # one of the two has gone; the other is told by the closing
        finally:
            for end in (self._inner, self._peer):
                end.close()

    def _carry(self) -> None:
        farewell = False
        with selectors.DefaultSelector() as selector:
            while not (self._ended.is_set() and self._session_done and not self._outward):
                if self._session_done and not self._outward and not farewell:
                    farewell = True
                    self._say_farewell()
                moved = self._from_scanner() | self._to_session()
                moved |= self._from_session() | self._to_scanner()
                if not moved:
                    self._wait(selector)

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Block until something can move; a session that has no more to say may end meanwhile."""
        inner = selectors.EVENT_WRITE if self._inward else 0
        if not self._session_done and len(self._outward) < AHEAD_BYTES:
            inner |= selectors.EVENT_READ
        outer = selectors.EVENT_WRITE if self._outward else 0
        if not self._scanner_done and not self._inward:
            outer |= selectors.EVENT_READ
        for end, events in ((self._inner, inner), (self._peer, outer)):
            if events:
                selector.register(end, events)
        selector.select(TICK_S if self._session_done else None)
        for end, events in ((self._inner, inner), (self._peer, outer)):
            if events:
                selector.unregister(end)

    def _from_scanner(self) -> bool:
        if self._inward or self._scanner_done:
            return False
        try:
            got = self._peer.recv(PIECE_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        self._inward = memoryview(got)
        if not got:
            self._scanner_done = True
            self._inner.shutdown(socket.SHUT_WR)
        return True

    def _to_session(self) -> bool:
        if not self._inward:
            return False
        try:
            sent = self._inner.send(self._inward)
        except BlockingIOError:
            return False
        self._inward = self._inward[sent:]
        return True

    def _from_session(self) -> bool:
        if self._session_done or len(self._outward) >= AHEAD_BYTES:
            return False
        try:
            got = self._inner.recv(PIECE_BYTES)
        except BlockingIOError:
            return False
        self._outward += got
        self._session_done = not got
        return True

    def _to_scanner(self) -> bool:
        if not self._outward:
            return False
        try:
            sent = self._peer.send(self._outward[:PIECE_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        del self._outward[:sent]
        return True

    def _say_farewell(self) -> None:
        """Say that no more will come from us; the scanner may go on sending."""
        try:
            self._peer.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
