"""The sockets of the control channel: bound, encrypted, and for admitted scanners only."""

from collections import Counter

import zmq
from zmq.auth.thread import ThreadAuthenticator

from agent import control_keys
from agent.config import SettingsError
from agent.control_keys import Admission, KeyFileError
from agent.control_settings import ControlSettings
from protocols.control import MAX_BYTES

ZAP_DOMAIN = b"boreside"


class Sockets:
    """A ROUTER for questions and answers and a PUB for telemetry.

    Parameters
    ----------
    settings : ControlSettings
    ignored : Counter
        Where refused keys are counted.

    Attributes
    ----------
    router, telemetry : zmq.Socket
    router_port, telemetry_port : int
        Listened on.

    Raises
    ------
    SettingsError
        There are no keys, or an address cannot be bound.
    """

    def __init__(self, settings: ControlSettings, ignored: Counter[str]) -> None:
        self._settings = settings
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        try:
            pair = None if settings.keys is None else control_keys.agent_pair(settings.keys)
            if settings.keys is not None:
                self._authenticator = ThreadAuthenticator(self._context)
                self._authenticator.start()
                self._authenticator.configure_curve_callback(
                    ZAP_DOMAIN.decode(), Admission(settings.keys, ignored)
                )
            self.router, self.router_port = self._listen(zmq.ROUTER, settings.port, pair)
            self.telemetry, self.telemetry_port = self._listen(
                zmq.PUB, settings.telemetry_port, pair
            )
        except (KeyFileError, zmq.ZMQError) as error:
            self.close()
            raise SettingsError(f"control: {error}") from None

    def close(self) -> None:
        """Close them; what was sent has a moment to leave."""
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy()

    def _listen(
        self, kind: int, port: int, pair: tuple[bytes, bytes] | None
    ) -> tuple["zmq.Socket[bytes]", int]:
        end: zmq.Socket[bytes] = self._context.socket(kind)
        host = self._settings.host
        end.linger = 200
        end.maxmsgsize = MAX_BYTES
        end.ipv6 = ":" in host
        end.tcp_keepalive, end.tcp_keepalive_idle, end.tcp_keepalive_intvl = 1, 10, 5
        if pair is not None:
            end.curve_server = True
            end.curve_publickey, end.curve_secretkey = pair
            # Nobody gets in where the authenticator is not there to ask.
            end.zap_domain = ZAP_DOMAIN
            end.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            end.bind(f"tcp://{f'[{host}]' if end.ipv6 else host}:{port or '*'}")
        except zmq.ZMQError as error:
            end.close()
            raise zmq.ZMQError(error.errno, f"cannot listen on {host}:{port}: {error}") from None
        return end, int(end.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
