"""A console as its own process, and clients that have logged in."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="needs httpx, of the extra dev")
pytest.importorskip("starlette", reason="needs starlette, of the extra console")
pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra console")

from agent.console.accounts import Accounts  # noqa: E402
from agent.console.settings import Role  # noqa: E402

PASSWORD = "correct horse"


@dataclass
class Served:
    """A console, and where its things are."""

    folder: Path
    url: str

    @property
    def events(self) -> Path:
        return self.folder / "events"

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def audit(self) -> Path:
        return self.folder / "own" / "audit"

    @contextmanager
    def client(self, role: Role | None = None) -> Iterator[httpx.Client]:
        """Give a client, logged in with a role."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            if role is not None:
                body = {"name": role.value, "password": PASSWORD}
                answer = client.post("/api/login", json=body)
                assert answer.status_code == 200, answer.text
            yield client


@pytest.fixture
def serve(tmp_path) -> Iterator[Callable[..., Served]]:
    running = []

    def start(*options: str) -> Served:
        accounts = Accounts(tmp_path / "own" / "accounts.sqlite")
        for role in Role:
            accounts.put(role.value, role, PASSWORD)
        command = [sys.executable, "-m", "agent.console", "--port", "0"]
        for option, name in (("--folder", "events"), ("--own", "own"), ("--site", "site"),
                             ("--reports", "reports")):  # fmt: skip
            command += [option, str(tmp_path / name)]
        process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        running.append(process)
        line = process.stderr.readline()
        assert line.startswith("console on "), line + process.stderr.read()
        return Served(tmp_path, line.split()[-1])

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def console(serve) -> Served:
    return serve()
