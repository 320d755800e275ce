"""Who may connect to the MRD port: addresses, and certificates where TLS is set."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from agent.config import Listen
from agent.tls import NotAdmitted, Tunnel, server_context

__all__ = ["Door", "NotAdmitted"]


class Door:
    """What `listen` says of who gets in. Unix sockets have the rights of their file instead.

    Parameters
    ----------
    settings : Listen

    Raises
    ------
    SettingsError
        Certificate or key cannot be read.
    """

    def __init__(self, settings: Listen) -> None:
        self._settings = settings
        self._context = server_context(settings.tls) if settings.tls else None

    def admits(self, peer: socket.socket) -> bool:
        """Return whether something at this address may connect at all."""
        if peer.family == socket.AF_UNIX or not self._settings.scanners:
            return True
        try:
            address = ipaddress.ip_address(peer.getpeername()[0].partition("%")[0])
        except OSError:
            return False  # it went away
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._settings.scanners)

    @contextmanager
    def opened(self, peer: socket.socket) -> Iterator[socket.socket]:
        """Give the connection in plain, after its handshake where there is one; close it then.

        Raises
        ------
        NotAdmitted
        """
        tls = self._settings.tls
        if peer.family == socket.AF_UNIX or self._context is None or tls is None:
            with peer:
                yield peer
            return
        with peer, Tunnel(peer, self._context, tls.names) as tunnel:
            yield tunnel.plain
