"""A small simulated exam, and the agent as a process with a stand-in for triage.

Everything is as it runs, but for triage: a stand-in calls what it should find bright or not, since
an exam that real triage can judge takes minutes to simulate. Labels are the shipped network's.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import control_keys
from protocols.control import Outcome
from protocols.exam_file import load
from protocols.mrd_types import ConfigFile, HeaderText
from scanner.client import stream
from scanner.console_adapter import AgentAddress, Answer, Keys
from scanner.console_virtual import VirtualConsole
from scanner.exam import FRONT_TO_BACK, HEAD_TO_FEET
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.sequence import Geometry, NoiseScan, Protocol, Sampling, TurboSpinEcho
from scanner.step import make_scanner

DEADLINE_S = 240.0
DOUBLES = Path(__file__).parents[1] / "agent"

AGENT = """
import sys
from functools import partial

import agent.exam_service
from agent.cli import app

if __name__ == "__main__":
    setup = agent.exam_service.Setup
    agent.exam_service.Setup = partial(setup, triage="exam_doubles:" + sys.argv.pop(1))
    app(["serve", *sys.argv[1:]])
"""

SMALL = """
format: 1
name: small
revision: 1
title: One sagittal STIR
steps:
  - name: stir_sag
    contrast: stir
    sequence: {kind: tse, tr_ms: 4500, te_ms: 50, ti_ms: 210, echo_train: 14}
    geometry: {rule: sagittal, field_of_view_mm: [300, 300], matrix: [160, 160], slices: 3,
               thickness_mm: 4, gap_mm: 4, phase: head_feet}
    minutes: 2
on_demand:
  - name: si_stir_cor
    contrast: stir
    sequence: {kind: tse, tr_ms: 4500, te_ms: 50, ti_ms: 210, echo_train: 14}
    geometry: {rule: si_oblique_coronal, field_of_view_mm: [240, 240], matrix: [80, 80],
               slices: 24, thickness_mm: 6, phase: head_feet, phase_oversampling: 0.4}
    acceleration: {phase: 2, calibration_lines: 24}
    minutes: 0.8
triggers:
  - name: si-joint-signal
    when:
      finding: oedema_like
      where: sacral_subchondral
      probability: {up: 0.80, down: 0.60}
      persists: {adjacent_slices: 2, series: 2, area_mm2: 30}
    unless: {snr_below: 0, motion_above: 1, fat_suppression_failed_above: 1}
    scan: si_stir_cor
    ask:
      text: "Proposal: bright marrow signal beside the SI joint, {side}. Scan it, {minutes} min?"
      countdown_s: 300
"""

SETTINGS = """
listen: {port: 0}
spool: {folder: spool}
threads: 1
exams: {protocol: small, folder: protocols, deadline_s: 200}
site: {mode: active}
"""
CONTROL = "control: {port: 0, telemetry_port: 0, keys: keys, heartbeat_s: 0.5}\n"


class Agent:
    """`boreside serve` in a folder, with a stand-in for triage."""

    def __init__(self, folder, triage):
        self.folder = folder
        script = folder / "agent_with_double.py"
        script.write_text(AGENT)
        path = os.pathsep.join([str(Path(__file__).parents[2]), str(DOUBLES)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(script), triage, "--config", "agent.yaml"],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events = queue.Queue()
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()
        said = self.said("listening")
        self.address = f"127.0.0.1:{said['port']}"
        self.ports = (0, 0)
        if "control:" in (folder / "agent.yaml").read_text():
            ports = self.said("control channel is open")
            self.ports = ports["port"], ports["telemetry_port"]

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("{"):
                self.events.put(json.loads(line))

    def said(self, event):
        """Return the next event of this name in the log."""
        while True:
            try:
                found = self.events.get(timeout=DEADLINE_S)
            except queue.Empty:
                raise AssertionError("".join(self.lines)) from None
            if found["event"] == event:
                return found

    def waited(self, console, topic):
        """Return the telemetry of a topic, once there is some."""
        end = time.monotonic() + DEADLINE_S
        while not (found := [each for each in console.telemetry if each.topic == topic]):
            assert time.monotonic() < end, "".join(self.lines)
            time.sleep(0.1)
        return found

    def stop(self):
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0, "".join(self.lines)


def console_of(agent, exam, received):
    """The console of the virtual scanner, and a technologist who accepts."""
    keys = agent.folder / "keys"
    pair = Keys(keys / "bay-2.key_secret", keys / "agent.key")
    return VirtualConsole(
        AgentAddress("127.0.0.1", *agent.ports, pair),
        exam,
        load(agent.folder / "protocols" / "small.yaml"),
        lambda request: Answer(Outcome.ACCEPTED),
        lambda step: received.append(scan(agent, step)),
    )


def scan(agent, step, *said):
    """Stream a step as a scanner does; ``said`` goes before the readouts."""
    head = ConfigFile("conventional"), HeaderText(step.header_xml)
    return stream(agent.address, [*head, *said, *step.readouts()])


def small_exam():
    geometry = Geometry(
        (0.0, 0.0, -30.0),
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        field_of_view_mm=(300.0, 300.0),
        matrix=(160, 160),
        slices=3,
        thickness_mm=4.0,
        gap_mm=4.0,
        phase_oversampling=0.4,
    )
    sequence = TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 250.0, ti_ms=250.0)
    sampling = Sampling(acceleration=(2, 1), calibration=(24, 0))
    protocol = Protocol("stir_sag", sequence, geometry, sampling, NoiseScan(readouts=64))
    scanner = make_scanner(LumbarSpine(SpineParameters()), rows=6, columns=1, exam="small")
    return scanner.exam_steps([protocol])


@pytest.fixture
def start(tmp_path):
    """Start the agent: `run(triage, more)`, with more settings than those of the exam."""
    control_keys.make(tmp_path / "keys")
    control_keys.make(tmp_path / "keys", "bay-2")
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols" / "small.yaml").write_text(SMALL)
    agents = []

    def run(triage, more=CONTROL):
        (tmp_path / "agent.yaml").write_text(SETTINGS + more)
        agents.append(Agent(tmp_path, triage))
        return agents[-1]

    yield run
    for agent in agents:
        agent.process.kill()
        agent.process.wait()


@pytest.fixture
def small():
    """This module's functions, for tests, which cannot import it."""
    return SimpleNamespace(exam=small_exam, scan=scan, console=console_of, deadline_s=DEADLINE_S)
