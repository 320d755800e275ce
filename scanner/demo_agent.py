"""The agent of a demo: `boreside serve` as its own process, on ports of its own choice."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner.console_adapter import AgentAddress, Keys

START_S = 60.0
STOP_S = 70.0

_SETTINGS = """
listen: {port: 0}
exams: {protocol: PROTOCOL}
control: {port: 0, telemetry_port: 0}
site: {mode: active}
"""


_PAGE = """
console: {}
requests: {}
"""


class AgentFailed(RuntimeError):
    """The agent's process did not come up."""


@dataclass(frozen=True)
class Running:
    """A running agent.

    Attributes
    ----------
    address : str
        For measurements.
    control : AgentAddress or None
        For a console; None where the agent does not look at exams.
    page : str
        URL of its page; "" where there is none.
    """

    address: str
    control: AgentAddress | None = None
    page: str = ""


@contextmanager
def agent(log: Path, protocol: str | None = None, page: bool = False) -> Iterator[Running]:
    """Run an agent whose spool, keys and audit are gone afterwards.

    Parameters
    ----------
    log : Path
        What it has to say, one JSON object a line.
    protocol : str or None
        Exam protocol by which it looks at exams; None: it only reconstructs.
    page : bool
        Serve its page, on which whoever is at this machine may do everything.

    Raises
    ------
    AgentFailed
    """
    with (
        tempfile.TemporaryDirectory(prefix="agent-", dir=log.parent.resolve()) as name,
        log.open("wb") as lines,
        ExitStack() as beside,
    ):
        folder = Path(name)
        settings = folder / "agent.yaml"
        looking = _SETTINGS.replace("PROTOCOL", protocol) if protocol else ""
        settings.write_text(looking + _PAGE * page or "{}")
        if protocol:
            for who in ("agent", "scanner"):
                _boreside(folder, "keys", "make", who)
        command = [sys.executable, "-m", "boreside", "serve", "--config", str(settings)]
        process = subprocess.Popen(
            [*command, "--port", "0"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
        )
        try:
            port = _said(process, log, "listening")["port"]
            control = None
            if protocol:
                ports = _said(process, log, "control channel is open")
                keys = folder / "keys"
                pair = Keys(keys / "scanner.key_secret", keys / "agent.key")
                control = AgentAddress("127.0.0.1", ports["port"], ports["telemetry_port"], pair)
            url = beside.enter_context(_page(folder, settings)) if page else ""
            yield Running(f"127.0.0.1:{port}", control, url)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _page(folder: Path, settings: Path) -> Iterator[str]:
    """Serve the page of an agent; yields its URL."""
    command = [sys.executable, "-m", "boreside", "console", "--config", str(settings)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--guest", "admin"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        if not said.startswith("console on "):
            raise AgentFailed(f"boreside console did not start:\n{said}{process.stderr.read()}")
        # What it says later is read, lest it waits for room in the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield said.split()[-1]
    finally:
        process.terminate()
        process.wait(STOP_S)


def _boreside(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "boreside", *arguments], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise AgentFailed(f"boreside {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def _said(process: subprocess.Popen[bytes], log: Path, event: str) -> dict[str, Any]:
    """Wait for an event in the log."""
    deadline = time.monotonic() + START_S
    while True:
        for line in log.read_text(errors="replace").splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and found.get("event") == event:
                return found
        if process.poll() is not None or time.monotonic() > deadline:
            raise AgentFailed(
                f"boreside serve did not say {event!r} within {START_S:.0f} s; its log ends with:\n"
                f"{log.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.05)
