"""Agents as processes, scanners that misbehave, and the table of what became of each fault.

``pytest tests/faults --reliability docs/reliability.md`` writes the table, of what the tests saw.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.agents import AgentProcess
from bench.data import Measurement
from bench.exams import stack
from protocols.mrd_types import Close, ConfigFile
from tests.faults.harness import SLICES, Faults, send

BROKEN = Path(__file__).parent / "broken_agent.py"
_ROWS = pytest.StashKey[dict[str, tuple[str, ...]]]()
_HEAD = """# Reliability

What the agent does when something goes wrong. Each row is what a test saw on a real process with
simulated data; the table was written by

    pytest tests/faults --reliability docs/reliability.md

| fault | images that got out | what the scanner is told | raw data | test |
| --- | --- | --- | --- | --- |
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, help="Write the table of faults here.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--reliability", default=None)
    if path is None:
        return
    if exitstatus:
        raise pytest.UsageError("the table is written only where every test has passed")
    rows = session.config.stash[_ROWS]
    lines = ["| " + " | ".join((fault, *rows[fault])) + " |\n" for fault in sorted(rows)]
    path.write_text(_HEAD + "".join(lines))


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """The table."""
    return Faults(request.config.stash[_ROWS], request.node.name)


@pytest.fixture(scope="session")
def scan() -> Measurement:
    """Three slices of 48 x 48, 3 coils; synthetic."""
    return stack(SLICES, 48, 3)


@pytest.fixture(scope="session")
def expected(calm: AgentProcess, scan: Measurement) -> list[np.ndarray]:
    """The images of the scan where nothing goes wrong (configuration conventional)."""
    with calm.connect() as peer:
        outcome = send(peer, ConfigFile("conventional"), scan.header, scan.noise, scan.readouts,
                       Close())  # fmt: skip
    assert len(outcome.images) == SLICES
    return [image.data.astype(float) for image in outcome.images]


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One agent for all misbehaving scanners: it has to survive each of them."""
    agent = AgentProcess(tmp_path_factory.mktemp("calm"), {"threads": 1})
    agent.wait_ready()
    yield agent
    alive = agent.process.poll() is None
    agent.end()
    assert alive


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Start agents in one folder, with something broken (`broken_agent`)."""
    agents: list[AgentProcess] = []

    def start_one(how: str | None = None, **options: Any) -> AgentProcess:
        settings = {"threads": 1, **options.pop("settings", {})}
        command = (str(BROKEN), how) if how else ("-m", "boreside")
        agents.append(AgentProcess(tmp_path, settings, command=command, **options))
        agents[-1].wait_ready()
        return agents[-1]

    yield start_one
    for agent in agents:
        agent.end()
