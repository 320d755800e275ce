"""A channel, consoles of nothing but a socket, and agents in processes of their own."""

import subprocess
import sys
import time

import pytest
import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from agent import control_keys
from agent.control import ControlChannel
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore
from protocols.control import (
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    Heartbeat,
    Hello,
    decode,
    encode,
)
from protocols.geometry import Slab

DEADLINE_S = 20.0
HELLO = Hello(role="console", name="bay 2", software="test 1")
SLAB = Slab(
    centre=(1.0, 2.0, 3.5),
    row=(1.0, 0.0, 0.0),
    column=(0.0, 0.6, -0.8),
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=21,
    thickness_mm=3.0,
)


def _question(number=1, countdown_s=60.0, text="Proposal: scan the SI joints?"):
    return CoverageRequest(
        id=f"exam-7/si-joint-signal/{number}",
        exam="exam-7",
        protocol="lumbar",
        revision=1,
        trigger="si-joint-signal",
        text=text,
        findings=("f1",),
        steps=(CoverageStep(step="si_stir_cor", slab=SLAB, minutes=2.5),),
        extra_minutes=2.5,
        countdown_s=countdown_s,
    )


def _answer(outcome, id="a1", request=None, **fields):
    return CoverageReply(id=id, request=request or _question().id, outcome=outcome, **fields)


class Peer:
    """A console of nothing but a socket."""

    def __init__(self, port, keys=None, name="console", agent="agent"):
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.monitor = self.socket.get_monitor_socket()
        self.telemetry = self._context.socket(zmq.SUB)
        self.telemetry.subscribe(b"")
        for end in (self.socket, self.telemetry):
            end.linger = 0
            end.reconnect_ivl = 20
            if keys is not None:
                end.curve_publickey, end.curve_secretkey = zmq.auth.load_certificate(
                    keys / f"{name}.key_secret"
                )
                end.curve_serverkey, _ = zmq.auth.load_certificate(keys / f"{agent}.key")
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def say(self, *messages):
        for message in messages:
            raw = message if isinstance(message, bytes) else encode(message)
            self.socket.send(raw)

    def hear(self, *kinds):
        """Return the next message of these types, or the next but a heartbeat."""
        end = time.monotonic() + DEADLINE_S
        while self.socket.poll(max(0, 1000 * (end - time.monotonic()))):
            message = decode(self.socket.recv())
            if isinstance(message, Heartbeat):
                self.say(message)
            if isinstance(message, kinds) if kinds else not isinstance(message, Heartbeat):
                return message
        raise AssertionError(f"heard no {kinds} within {DEADLINE_S} s")

    def event(self, *kinds):
        """Return when one of these events has come on the connection."""
        end = time.monotonic() + DEADLINE_S
        while self.monitor.poll(max(0, 1000 * (end - time.monotonic()))):
            event = recv_monitor_message(self.monitor)
            if event["event"] in kinds:
                return event
        raise AssertionError(f"no event {kinds} within {DEADLINE_S} s")

    def close(self):
        if not self._context.closed:
            self.socket.disable_monitor()
            self._context.destroy(linger=0)


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    control_keys.make(folder)
    control_keys.make(folder, "console")
    return folder


@pytest.fixture
def settings(tmp_path, keys):
    return ControlSettings(
        port=0, telemetry_port=0, keys=keys, store=tmp_path / "control.sqlite", heartbeat_s=60
    )


@pytest.fixture
def quick(settings):
    """A heart that beats while a test waits: of those tests which need that."""
    return settings.model_copy(update={"heartbeat_s": 0.2})


@pytest.fixture
def store(settings):
    store = ControlStore(settings.store)
    yield store
    store.close()


@pytest.fixture
def channel(settings, store):
    with ControlChannel(settings, store) as channel:
        yield channel


@pytest.fixture
def connect(keys):
    """Make peers, with the keys of an admitted console unless told otherwise."""
    peers = []

    def make(port, folder=keys, name="console", agent="agent"):
        peers.append(Peer(port, folder, name, agent))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def console(channel, connect):
    peer = connect(channel.port)
    peer.say(HELLO)
    assert peer.hear(Hello).role == "agent"
    return peer


@pytest.fixture
def question():
    return _question


@pytest.fixture
def answer():
    return _answer


@pytest.fixture
def told():
    """Return the next replies that are handed on."""

    def replies(channel):
        return [reply.message for reply in channel.replies(DEADLINE_S)]

    return replies


AGENT = """
import sys
from pathlib import Path
from agent.control import ControlChannel
from agent import log
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore
from protocols.control import decode, encode

log.setup()

folder, port, raw = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = ControlSettings(port=port, telemetry_port=0, keys=folder / "keys", heartbeat_s=60)
channel = ControlChannel(settings, ControlStore(folder / "control.sqlite"))
if raw:
    channel.request(decode(raw.encode()))
print(channel.port, flush=True)
for reply in channel.replies(60):
    print(encode(reply.message).decode(), flush=True)
"""


class Agent:
    """A process that asks, and prints its port and the first answer."""

    def __init__(self, folder, port=0, request=None):
        raw = "" if request is None else encode(request).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(folder), str(port), raw],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.line())

    def line(self):
        return self._process.stdout.readline()

    def kill(self):
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()


@pytest.fixture
def start(tmp_path, keys):
    agents = []

    def make(**settings):
        agents.append(Agent(tmp_path, **settings))
        return agents[-1]

    yield make
    for agent in agents:
        agent.kill()
