"""The agent as a process: its start, its end, and one session on standard input and output."""

import io
import json
import signal
import socket
import subprocess
import sys

import pytest

from bench.data import measurement
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response
from protocols.mrd_write import encode, write


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(*options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "agent.cli", "serve", "--spool", str(tmp_path / "spool")]
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen) -> tuple[str, int]:
    event = json.loads(process.stderr.readline())
    assert event["event"] == "listening"
    return event["host"], event["port"]


def test_standard_input_and_output_carry_one_session(serve):
    scan = measurement((32, 32, 1), coils=2)
    process = serve("--stdio")
    out, log = process.communicate(
        b"".join(bytes(b) for m in (scan.header, scan.readouts, Close()) for b in encode(m)),
        timeout=60,
    )
    header, *images, close = Reader(io.BytesIO(out))
    assert header == scan.header
    assert images and all(isinstance(image, ImageMessage) for image in images)
    assert close == Close()
    assert process.returncode == 0, log.decode()


def test_sigterm_ends_an_idle_agent_with_success(serve):
    process = serve("--port", "0")
    address(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_sigterm_lets_a_measurement_end_and_a_second_one_does_not(serve):
    scan = measurement((32, 32, 1), coils=2)
    for again in (False, True):
        process = serve("--port", "0")
        with socket.create_connection(address(process)) as peer:
            sink, source = peer.makefile("wb", buffering=0), peer.makefile("rb", buffering=0)
            with sink, source:
                reader = Reader(source)
                write(sink, ConfigFile("simplefft"), scan.header, Query(1, "boreside::alive"))
                assert reader.read() == Response(1, "alive")
                process.send_signal(signal.SIGTERM)
                assert b"draining" in process.stderr.readline()
                if again:
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(30) == 128 + signal.SIGTERM
                    break
                write(sink, scan.readouts, Close())
                assert isinstance(reader.read(), ImageMessage)
                assert reader.read() == Close()
        assert process.wait(30) == 0


def test_wrong_settings_end_it_at_once_with_the_key(serve, tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text("listen: {prt: 9002}")
    process = serve("--config", str(path))
    _, log = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"listen.prt" in log and b"unknown key" in log


def test_the_port_is_bound_before_anything_heavy_is_loaded(serve):
    code = "import sys, agent.server, agent.config, agent.cli; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
