"""Networks that break while the agent runs: their images leave without them, and say so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.agents import AgentProcess, recover
from bench.data import Measurement
from bench.exams import Outcome
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile
from tests.faults.harness import SLICES, Faults, kept_images, raw, send, spool

pytest.importorskip("onnxruntime", reason="needs the runtime of networks")

DENOISE = ConfigFile("denoise")


@pytest.mark.parametrize("how", ["network crash", "network out of memory", "network hang"])
def test_a_network_that_fails_is_left_out(
    start: Callable[..., AgentProcess], scan: Measurement, faults: Faults, tmp_path: Path, how: str
) -> None:
    agent = start(how)
    parts = DENOISE, scan.header, scan.noise, scan.readouts, Close()
    with agent.connect() as peer:
        good = send(peer, *parts)
    (tmp_path / "break").touch()
    with agent.connect() as peer:
        outcome = send(peer, *parts)
    assert all("denoised by" in image.attributes for image in good.images)
    assert outcome.closed and len(outcome.images) == SLICES
    assert all("not denoised" in image.attributes for image in outcome.images)
    told = "each image's history says that it is not denoised, and why"
    faults.saw(how.replace("network", "network:"), outcome, agent, SLICES, told=told)


def test_a_network_that_takes_the_process_with_it_does_not_take_the_images(
    start: Callable[..., AgentProcess], scan: Measurement, faults: Faults, tmp_path: Path
) -> None:
    """The restarted agent tries once more, and the next one without the network."""
    (tmp_path / "break").touch()
    agent = start("process crash")
    outcome = Outcome()
    with agent.connect() as peer:
        try:
            peer.sendall(raw(DENOISE, scan.header, scan.noise, scan.readouts, Close()))
            assert not [m for m in Reader(peer.makefile("rb", buffering=0))]
        except OSError:
            pass
    assert agent.process.wait(60)
    (name,) = spool(agent).names()
    for _ in range(3):
        if not spool(agent).done(name):
            agent = AgentProcess(tmp_path, {"threads": 1}, command=agent_command(agent))
            wait_done_or_dead(agent, name)
            agent.end()
    assert spool(agent).done(name)
    kept = kept_images(agent, name)
    assert len(kept) == SLICES
    faults.saw("network ends the agent's process", outcome, agent, SLICES, len(kept))
    recover(tmp_path)  # has nothing left to do


def agent_command(agent: AgentProcess) -> tuple[str, ...]:
    arguments = agent.process.args
    assert isinstance(arguments, list)
    return tuple(str(each) for each in arguments[1:3])


def wait_done_or_dead(agent: AgentProcess, name: str) -> None:
    import threading

    while agent.process.poll() is None and not spool(agent).done(name):
        threading.Event().wait(0.05)
