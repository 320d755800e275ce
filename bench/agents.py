"""The agent as a process on a Unix socket of its own, to be tortured: killed, flooded, starved.

Nobody else's port can be in the way, and the folder keeps everything from one process to the next:
settings, spool, log.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from protocols.mrd import Reader
from protocols.mrd_types import Query, Response
from protocols.mrd_write import write

ROOT = Path(__file__).parents[1]
START_S = 120.0
END_S = 30.0


class AgentProcess:
    """`boreside serve` in a folder.

    Parameters
    ----------
    folder : Path
        Holds `agent.yaml`, the spool and `agent.log`; what an earlier process left is found.
    settings : dict
        Sections of `agent.config.Settings`; the spool and the socket are set here.
    command : tuple of str
        What Python runs; tests that break something run a module of their own.
    prepare : callable or None
        Runs in the new process before anything else (`resource.setrlimit`).
    recover : bool
        Finish what an earlier process left.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        command: tuple[str, ...] = ("-m", "boreside"),
        prepare: Callable[[], None] | None = None,
        recover: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.socket = folder, folder / "mrd.sock"
        self.spool, self.log = folder / "spool", folder / "agent.log"
        self.config = folder / "agent.yaml"
        sections = dict(settings or {})
        sections["listen"] = {"port": 0, "socket": str(self.socket)}
        sections["spool"] = {"folder": str(self.spool), **sections.get("spool", {})}
        self.config.write_text(yaml.safe_dump(sections))
        arguments = ["serve", "--config", str(self.config)]
        if not recover:
            arguments.append("--no-recover")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                preexec_fn=prepare,
            )

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Connect, as soon as the process listens."""
        deadline = time.monotonic() + START_S
        while True:
            peer = socket.socket(socket.AF_UNIX)
            try:
                peer.connect(str(self.socket))
                break
            except OSError:
                peer.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the agent does not listen: see {self.log}") from None
                time.sleep(0.01)
        with peer:
            yield peer

    def wait_ready(self) -> None:
        """Wait until it answers, which is after everything heavy was loaded."""
        with self.connect() as peer:
            write(peer.makefile("wb", buffering=0), Query(1, "boreside::alive"))
            answer = Reader(peer.makefile("rb", buffering=0)).read()
        if not isinstance(answer, Response):
            raise RuntimeError(f"expected an answer of the agent, got {answer}")

    def events(self) -> list[dict[str, Any]]:
        """Return what has been logged, by all processes of this folder."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Have it end as an operator would, and kill it where it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def agent_process(
    folder: Path, settings: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[AgentProcess]:
    """Run an agent (`AgentProcess`), and end it."""
    agent = AgentProcess(folder, settings, **options)
    try:
        yield agent
    finally:
        agent.end()


def recover(folder: Path) -> None:
    """Run `boreside recover` on the folder of an agent that has ended.

    Raises
    ------
    RuntimeError
        It did not succeed.
    """
    command = [sys.executable, "-m", "boreside", "recover", "--config", str(folder / "agent.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise RuntimeError(f"boreside recover failed: {done.stderr[-2000:]}")
