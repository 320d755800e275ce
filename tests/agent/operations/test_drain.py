"""Draining, and settings that are read again while the agent runs."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import load
from agent.reload import merged
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response, Text
from protocols.mrd_write import write

ROOT = Path(__file__).parents[3]


class Process:
    """`boreside serve` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.agent = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "serve", "--port", "0"],
            cwd=folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = self.log("listening")["port"]

    def log(self, event: str) -> dict:
        """Return the next event of that name."""
        for line in self.agent.stderr:
            if (said := json.loads(line))["event"] == event:
                return said
        raise AssertionError(f"it ended without {event}")

    def ask(self, *messages) -> list:
        with socket.create_connection(("127.0.0.1", self.port), 30) as peer:
            write(peer.makefile("wb", buffering=0), *messages)
            return list(Reader(peer.makefile("rb", buffering=0)))

    def drain(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "agent.drain_cli", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def process(tmp_path):
    (tmp_path / "agent.yaml").write_text("chain: simplefft\nthreads: 1\n")
    running = Process(tmp_path)
    yield running
    running.agent.kill()
    running.agent.wait()
    running.agent.stderr.close()


def test_drain_finishes_what_runs_refuses_what_is_new_and_then_ends(process, scan):
    with socket.create_connection(("127.0.0.1", process.port), 30) as peer:
        sink, reader = peer.makefile("wb", buffering=0), Reader(peer.makefile("rb", buffering=0))
        write(sink, ConfigFile("simplefft"), scan.header, Query(1, "boreside::alive"))
        assert reader.read() == Response(1, "alive")
        drain = process.drain()
        process.log("draining")
        refusal, close = process.ask(ConfigFile("simplefft"), Close())
        assert isinstance(refusal, Text) and refusal.text.startswith("ERR this agent finishes")
        assert close == Close()
        write(sink, scan.readouts, Close())
        assert isinstance(reader.read(), ImageMessage)
        assert reader.read() == Close()
    assert process.agent.wait(30) == 0
    assert drain.wait(30) == 0 and "has ended" in drain.communicate()[0]


def test_drain_without_an_agent_says_so(tmp_path):
    process = Process.__new__(Process)
    process.folder, process.environment = tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}
    drain = process.drain()
    assert drain.wait(60) == 1 and "no agent" in drain.communicate()[0]


def test_a_second_agent_of_a_spool_is_refused(process):
    second = subprocess.run(
        [sys.executable, "-m", "agent.cli", "serve", "--port", "0"],
        cwd=process.folder,
        env=process.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 2 and "boreside drain" in second.stderr


def test_hangup_reads_the_settings_again(process, scan):
    config = process.folder / "agent.yaml"
    config.write_text("chain: 'null'\nthreads: 2\nlimits: {connections: 3}\n")
    process.agent.send_signal(signal.SIGHUP)
    said = process.log("settings reloaded")
    assert said["changed"] == ["limits.connections", "chain"]
    assert said["need_a_restart"] == ["threads"]
    answer = process.ask(ConfigFile(""), scan.header, scan.readouts, Close())
    assert answer == [Close()]
    config.write_text("chain: no-such\n")
    process.agent.send_signal(signal.SIGHUP)
    assert "expected one of" in process.log("settings not reloaded, the old ones go on")["reason"]
    assert process.ask(ConfigFile(""), scan.header, scan.readouts, Close()) == [Close()]


def test_what_cannot_change_stays_and_is_named(tmp_path):
    old = load(listen={"port": 1}, spool={"folder": tmp_path / "a"})
    new = load(
        listen={"port": 2, "scanners": ["10.0.0.1"]},
        spool={"folder": tmp_path / "b", "keep": False},
        exams={},
    )
    settings, changed, kept = merged(old, new)
    assert changed == ["listen.scanners", "spool.keep"]
    assert kept == ["listen.port", "spool.folder", "exams"]
    assert settings.listen.port == 1 and not settings.spool.keep and settings.exams is None
