"""A running agent on a free port, and a stock client made of the `ismrmrd` package's own bytes."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from agent.config import Settings, load
from agent.server import Server
from agent.spool import Spool
from bench.data import Measurement, measurement
from protocols.mrd import Message, Reader
from protocols.mrd_types import Close, ImageMessage, ReadoutBlock, Response, Text
from protocols.mrd_write import write


@dataclass
class Answer:
    """What came back from an agent, and whether the connection ended after the CLOSE."""

    messages: list[Message]
    ended: bool

    @property
    def images(self) -> list[ImageMessage]:
        return [m for m in self.messages if isinstance(m, ImageMessage)]

    @property
    def texts(self) -> list[str]:
        return [m.text for m in self.messages if isinstance(m, Text)]

    @property
    def responses(self) -> list[Response]:
        return [m for m in self.messages if isinstance(m, Response)]

    @property
    def closed(self) -> bool:
        return isinstance(self.messages[-1], Close) and self.ended


@dataclass
class Agent:
    """An agent that runs in this process."""

    settings: Settings
    server: Server
    spool: Spool
    thread: threading.Thread
    _stopped: bool = field(default=False)

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.server.address) as peer:
            yield peer

    def exchange(self, *messages: Message | bytes) -> Answer:
        """Send messages and read until the agent ends the connection."""
        with self.connect() as peer:
            for message in messages:
                if isinstance(message, bytes):
                    peer.sendall(message)
                else:
                    write(peer.makefile("wb", buffering=0), message)
            return receive(peer)

    def stop(self) -> None:
        """Let running sessions end; afterwards the spool is as they left it."""
        if not self._stopped:
            self._stopped = True
            self.server.stop()
            self.thread.join(30)
            assert not self.thread.is_alive()

    def states(self) -> list[dict[str, Any]]:
        return [self.spool.state(name) for name in self.spool.names()]


def receive(peer: socket.socket) -> Answer:
    source = peer.makefile("rb", buffering=0)
    return Answer(list(Reader(source)), ended=source.read(1) == b"")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start agents: sections of `Settings` as keywords."""
    agents: list[Agent] = []

    def start_one(recover: bool = False, **sections: Any) -> Agent:
        sections.setdefault("chain", "simplefft")
        sections["listen"] = {"port": 0, **sections.get("listen", {})}
        sections["spool"] = {"folder": tmp_path / "spool", **sections.get("spool", {})}
        settings = load(**sections)
        server = Server(settings)
        thread = threading.Thread(target=server.serve, args=(recover,))
        thread.start()
        agents.append(Agent(settings, server, Spool(settings.spool), thread))
        return agents[-1]

    yield start_one
    for running in agents:
        running.stop()


@pytest.fixture
def agent(start: Callable[..., Agent]) -> Agent:
    return start()


@pytest.fixture(scope="session")
def scan() -> Measurement:
    """One slice, 4 coils, 64 x 64, readout oversampled twice; synthetic."""
    return measurement((64, 64, 1), coils=4)


@pytest.fixture
def stock() -> type["Stock"]:
    return Stock


class Stock:
    """The bytes that python-ismrmrd-server's client sends."""

    @staticmethod
    def config_file(name: str) -> bytes:
        return struct.pack("<H1024s", 1, name.encode())

    @staticmethod
    def config_text(text: str) -> bytes:
        return Stock._text(2, text)

    @staticmethod
    def header(xml: str) -> bytes:
        return Stock._text(3, xml)

    @staticmethod
    def text(text: str) -> bytes:
        return Stock._text(5, text)

    close = struct.pack("<H", 4)

    @staticmethod
    def acquisitions(block: ReadoutBlock) -> bytes:
        pieces: list[bytes] = []
        for header, samples in zip(block.headers, block.samples):
            acquisition = ismrmrd.Acquisition.from_array(samples)
            for name in ("flags", "scan_counter", "center_sample", "version"):
                setattr(acquisition, name, int(header[name]))
            acquisition.idx.kspace_encode_step_1 = int(header["idx"]["kspace_encode_step_1"])
            acquisition.idx.slice = int(header["idx"]["slice"])
            pieces.append(struct.pack("<H", 1008))
            acquisition.serialize_into(pieces.append)
        return b"".join(bytes(piece) for piece in pieces)

    @staticmethod
    def image(data: np.ndarray, series: int = 1, index: int = 1, **meta: Any) -> bytes:
        image = ismrmrd.Image.from_array(data, transpose=False)
        image.image_type = ismrmrd.IMTYPE_MAGNITUDE
        image.image_series_index = series
        image.image_index = index
        image.slice = index - 1
        image.attribute_string = ismrmrd.Meta(meta).serialize()
        pieces: list[bytes] = [struct.pack("<H", 1022)]
        image.serialize_into(pieces.append)
        return b"".join(bytes(piece) for piece in pieces)

    @staticmethod
    def _text(identifier: int, text: str) -> bytes:
        raw = text.encode() + b"\x00"
        return struct.pack("<HI", identifier, len(raw)) + raw
