"""Servers to measure side by side: Boreside, python-ismrmrd-server, a raw socket reader.

Each is a process that listens on a free port of the loopback address and speaks MRD. A stock
python-ismrmrd-server is used where the environment variable ``PYTHON_ISMRMRD_SERVER`` names a
checkout of it.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

RAW_SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
view = memoryview(bytearray(4 << 20))
while True:
    peer, _ = listener.accept()
    tail = b""
    while got := peer.recv_into(view):
        tail = bytes(view[max(0, got - 2) : got]) if got > 1 else tail[-1:] + bytes(view[:1])
        if tail == b"\\x04\\x00":
            peer.sendall(tail)
    peer.close()
"""

READER_SERVER = """
import socket, sys
from protocols.mrd import Reader
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = listener.accept()
    for message in Reader(peer.makefile("rb", buffering=0)):
        pass
    peer.sendall(b"\\x04\\x00")
    peer.close()
"""


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def fire_checkout() -> Path | None:
    """Return the folder of a stock python-ismrmrd-server, if there is one."""
    folder = os.environ.get("PYTHON_ISMRMRD_SERVER")
    return Path(folder) if folder and (Path(folder) / "main.py").is_file() else None


@contextmanager
def server(command: list[str], port: int, cwd: Path | None = None) -> Iterator[subprocess.Popen]:
    """Run a server process until its port accepts, and end it afterwards."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"server did not start: {' '.join(command)}") from None
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def boreside() -> Iterator[tuple[int, subprocess.Popen]]:
    """Run ``boreside serve`` with a spool of its own; gives its port and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as spool:
        command = [sys.executable, "-m", "boreside", "serve", "--port", str(port)]
        with server([*command, "--spool", spool, "--no-recover"], port) as process:
            yield port, process


@contextmanager
def fire() -> Iterator[int | None]:
    """Run a stock python-ismrmrd-server; None where there is no checkout of it."""
    folder = fire_checkout()
    if folder is None:
        yield None
        return
    port = free_port()
    command = [sys.executable, "main.py", "-H", "127.0.0.1", "-p", str(port)]
    with server(command, port, cwd=folder):
        yield port


@contextmanager
def _script(text: str) -> Iterator[int]:
    port = free_port()
    with server([sys.executable, "-c", text, str(port)], port):
        yield port


def raw_reader() -> AbstractContextManager[int]:
    """Run a process that reads a socket into one buffer and looks at nothing: the ceiling."""
    return _script(RAW_SERVER)


def wire_reader() -> AbstractContextManager[int]:
    """Run a process that only decodes what comes, with `protocols.mrd.Reader`: no spool."""
    return _script(READER_SERVER)
