"""A Gadgetron to stand opposite the gadget, the gadget's processes, and a scan to feed them.

`Gadgetron` does what the C++ server's external node does: it sends CONFIG (its ``<configuration>``
element) and HEADER, then data and CLOSE, and reads back what ``Serialization::read`` accepts:
CLOSE, ERROR and the ids of its readers. Data are written and read by the `gadgetron` package.
"""

import io
import json
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import ismrmrd
import numpy as np
import pytest
from gadgetron.external.connection import Connection

from gadgets.fft import fftc
from protocols.mrd import Reader
from protocols.mrd_write import write

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60
LEGAL = {4, 8, 1008, 1022, 1023, 1024, 1026, 1050}
EMPTY_CONFIG = '<?xml version="1.0"?>\n<configuration />\n'
NX, NY = 32, 24
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{fov}</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>32</x><y>24</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>320</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>23</maximum>
   <center>12</center></kspace_encoding_step_1></encodingLimits>
  <trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""


class PeerClosed(Exception):
    """The gadget ended the connection without a CLOSE."""


def header(oversampling: int = 1, y: int = NY) -> str:
    return HEADER.format(x=oversampling * NX, y=y, fov=oversampling * 320)


class Gadgetron:
    """The parent's end of the connection to an external node."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE_S)
        self.errors: list[str] = []

    def write(self, data) -> None:
        self.sock.sendall(bytes(data))

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self.sock.recv(count - len(data))
            if not got:
                raise PeerClosed
            data += got
        return data

    def open(self, config: str = EMPTY_CONFIG, mrd_header: str | None = None) -> None:
        for identifier, text in ((2, config), (3, mrd_header or header())):
            self.write(struct.pack("<HI", identifier, len(text.encode())) + text.encode())

    def send(self, *items) -> None:
        """Send items of the `gadgetron` and `ismrmrd` packages, or messages of ours."""
        for item in items:
            self.write(raw_of(item))

    def close(self) -> None:
        self.write(struct.pack("<H", 4))

    def receive(self) -> list:
        """Return what comes back up to CLOSE, as the package reads it."""
        items = []
        while (identifier := struct.unpack("<H", self.read(2))[0]) != 4:
            assert identifier in LEGAL, f"illegal message id from external peer: {identifier}"
            if identifier == 8:
                (length,) = struct.unpack("<Q", self.read(8))
                self.errors.append(self.read(length).decode())
            else:
                items.append(Connection._default_readers()[identifier](self))
        return items

    def receive_raw(self) -> bytes:
        """Return the bytes that come back until the gadget hangs up."""
        return b"".join(iter(lambda: self.sock.recv(1 << 16), b""))

    def receive_messages(self) -> list:
        """Return what comes back until the gadget hangs up, as we read it."""
        return list(Reader(io.BytesIO(self.receive_raw())))

    def exchange(self, *items, receive=receive):
        """Send items and CLOSE while receiving, as the server's two threads do."""
        with ThreadPoolExecutor(1) as thread:
            received = thread.submit(receive, self)
            self.send(*items)
            self.close()
            result = received.result(PATIENCE_S)
        assert self.errors == []
        return result


class _Bytes(bytearray):
    def write(self, data) -> None:
        self += bytes(data)


def raw_of(*items) -> bytes:
    """Return the bytes of items, by the package where they are the package's."""
    raw = _Bytes()
    for item in items:
        for accepts, writer in Connection._default_writers():
            if accepts(item):
                writer(raw, item)
                break
        else:
            sink = io.BytesIO()
            write(sink, item)
            raw += sink.getvalue()
    return bytes(raw)


@pytest.fixture
def wire():
    """Return `raw_of` and the class of the parent, for tests that need them by name."""
    return SimpleNamespace(raw_of=raw_of, Gadgetron=Gadgetron, PATIENCE_S=PATIENCE_S)


@pytest.fixture
def start():
    """Start a Python process; kill it at the end of the test should it still run."""
    processes = []

    def run(*arguments) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def connected(request, start):
    """Start the gadget actively: it connects to the port we listen on, as to a Gadgetron.

    By Gadgetron's own command line, or by the one that a test parametrises it with.
    """
    command = getattr(request, "param", "gadgetron {port} agent.gadgetron {target}")
    parents = []

    def connect(target: str) -> tuple[Gadgetron, subprocess.Popen]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE_S)
            port = listener.getsockname()[1]
            process = start(*command.format(port=port, target=target).split())
            sock, _ = listener.accept()
        parents.append(sock)
        return Gadgetron(sock), process

    yield connect
    for sock in parents:
        sock.close()


@pytest.fixture
def listening(start):
    """Start the gadget passively; return (address, port) pairs and the process."""

    def listen(*arguments) -> tuple[list[tuple[str, int]], subprocess.Popen]:
        process = start("agent.gadgetron", "--listen", 0, *arguments)
        event = json.loads(process.stderr.readline())
        assert event["event"] == "listening"
        return [tuple(place) for place in event["places"]], process

    return listen


@pytest.fixture
def scan():
    """A fully sampled disc, seen by three coils: its acquisitions and what they show."""
    y, x = np.mgrid[-1 : 1 : NY * 1j, -1 : 1 : NX * 1j]
    disc = ((x**2 + (y - 0.2) ** 2) < 0.5).astype(np.float32)
    coils = np.stack([np.exp(-((x - c) ** 2)) * np.exp(1j * c) for c in (-0.7, 0.1, 0.8)])
    images = (coils * disc).astype(np.complex64)

    def acquisitions(samples: int = NX) -> list[ismrmrd.Acquisition]:
        padded = np.zeros((len(images), NY, samples), np.complex64)
        first = (samples - NX) // 2
        padded[..., first : first + NX] = images
        kspace = 1000 * fftc(padded, (1, 2))
        items = []
        for line in range(NY):
            item = ismrmrd.Acquisition.from_array(np.ascontiguousarray(kspace[:, line]))
            item.center_sample = samples // 2
            item.idx.kspace_encode_step_1 = item.scan_counter = line
            item.read_dir, item.phase_dir, item.slice_dir = (1, 0, 0), (0, 1, 0), (0, 0, 1)
            items.append(item)
        items[-1].set_flag(ismrmrd.ACQ_LAST_IN_SLICE)
        items[-1].set_flag(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
        return items

    def check(image) -> None:
        """Up to scale and shading an image of the disc in a type that Gadgetron reads."""
        assert image.data.dtype in (np.uint16, np.float32)
        assert image.data.shape == (1, 1, NY, NX)
        truth = np.sqrt((np.abs(images) ** 2).sum(0))
        assert np.corrcoef(image.data[0, 0].ravel(), truth.ravel())[0, 1] > 0.95

    return SimpleNamespace(acquisitions=acquisitions, check=check, header=header, samples=NX)
