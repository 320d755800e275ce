"""Coverage on demand, from images to the slab: held-out simulated exams, as the agent sees them.

Sagittal T1, T2 and STIR of each patient are labelled by the network and triaged series by series
with the agent's own functions; what triage said is an archive, which `agent.backtest` replays under
the shipped protocol. Three of ten patients have subchondral oedema in the slices, the others what
healthy people have. Quality is taken as good: images are cut to the spine, and what quality keeps a
trigger from judging is not measured here. Slabs are laid from the network's labels of every patient
and held against the exact anatomy. All of it is simulated: it says that the loop does what it
should on patients made by these rules, not how well it does on others.

``decision_seconds`` is of whole processes: `boreside serve`, a virtual scanner that streams without
waiting, and the control channel; from the last readout of the deciding series to the request on the
wire, reconstruction by the network included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from agent.backtest import backtest
from agent.backtest_judge import Judged, Reweighted
from agent.backtest_numbers import Proportion
from bench.coverage_exams import Recorded, recorded
from bench.prescribe_score import Score
from bench.rows import row
from protocols.archive import ABOUT, EXAMS, TRUTH, About
from protocols.exam import ExamProtocol
from protocols.exam_library import library

PATIENTS = 300
PROTOCOL = "lumbar"
ILL_OF_TEN = 3
DECISIONS = (0.02, 0.20)
"""Threshold probabilities between which the decision curve has to be the best."""
INSIDE, EXCESS_MM = 0.98, 10.0


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows; what was simulated is kept, so that a long run may be broken off."""
    patients = list(recorded(10 if quick else PATIENTS, ILL_OF_TEN))
    protocol = library()[PROTOCOL].protocol
    rows = _decision_rows(_judged(protocol, patients))
    rows += _slab_rows([one.score for one in patients if one.score], len(patients))
    return rows if quick else [*rows, _seconds_row()]


def _judged(protocol: ExamProtocol, patients: list[Recorded]) -> Judged:
    with TemporaryDirectory() as name:
        folder = Path(name)
        about = About(title="held-out simulated patients", simulated=True, exams=len(patients))
        (folder / ABOUT).write_text(about.model_dump_json())
        for file, lines in (
            (EXAMS, [one.exam for one in patients]),
            (TRUTH, [one.truth for one in patients]),
        ):
            (folder / file).write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
        return backtest([protocol], folder).protocols[0]


def _decision_rows(judged: Judged) -> list[dict[str, Any]]:
    rows = [
        _rate("lesion in the imaged volume", "sensitivity", judged.sensitivity, 0.90),
        _rate("no lesion", "specificity", judged.specificity, 0.97),
    ]
    for group in judged.by_size:
        if group.sensitivity.of:
            rows.append(_rate(f"lesion {group.size}", "sensitivity", group.sensitivity, None))
    rows.append(_rate("every judged trigger abstained", "abstained", judged.abstained, None))
    rows += [_benefit_row(at) for at in judged.reweighted]
    return rows


def _rate(case: str, measure: str, of: Proportion, target: float | None) -> dict[str, Any]:
    name = f"{case}, n={of.of}, 95 % {of.low:.3f} to {of.high:.3f}"
    better = "lower" if measure == "abstained" else "higher"
    return row("coverage", name, measure, of.count / of.of, "target", target, better, "")


def _benefit_row(at: Reweighted) -> dict[str, Any]:
    """The least lead in net benefit over the better one of "always scan" and "never scan"."""
    low, high = DECISIONS
    leads = [
        point.protocol - max(0.0, point.always)
        for point in at.curve
        if low <= point.threshold <= high
    ]
    case = f"threshold probability {low:g} to {high:g}, prevalence {at.prevalence:g}"
    return row("coverage", case, "net_benefit_lead", min(leads), "target", None, "higher", "")


def _slab_rows(scores: list[Score], patients: int) -> list[dict[str, Any]]:
    case = f"oblique-coronal slab, n={len(scores)} of {patients}"
    angles = np.array([one.plane_error_deg for one in scores])
    inside = np.array([min(one.inside.values()) for one in scores])
    excess = np.array([one.excess_mm for one in scores])
    rows = []
    for measure, value, target, better, unit in (
        ("plane_error_deg_median", np.median(angles), 2.0, "lower", "degrees"),
        ("plane_error_deg_p95", np.percentile(angles, 95), 5.0, "lower", "degrees"),
        ("joint_surface_inside", inside.mean(), INSIDE, "higher", ""),
        ("joint_surface_inside_p5", np.percentile(inside, 5), INSIDE, "higher", ""),
        ("excess_mm_p95", np.percentile(excess, 95), EXCESS_MM, "lower", "mm"),
    ):
        rows.append(row("coverage", case, measure, float(value), "target", target, better, unit))
    return rows


@dataclass(frozen=True)
class _Decision:
    series: str
    seconds: float


def _seconds_row() -> dict[str, Any]:
    decisions = list(_decisions())
    if not decisions:
        raise RuntimeError("expected a question about the patient of the demo, none came")
    case = f"patient of the demo, after {decisions[0].series}, streamed without waiting"
    seconds = decisions[0].seconds
    return row("coverage", case, "decision_seconds", seconds, "target", 3.0, "lower", "s")


def _decisions() -> Iterator[_Decision]:
    """Scan the demo's patient, whole processes, nobody else on the machine."""
    from rich.console import Console

    from scanner import console as show
    from scanner import demo_coverage
    from scanner.console_virtual import VirtualConsole
    from scanner.demo import CONFIG, n_readouts, step_messages
    from scanner.demo_agent import agent
    from scanner.exam import lumbar_exam
    from scanner.step import Step

    patient = demo_coverage.WITH_OEDEMA
    steps = lumbar_exam(patient.spine(), exam=patient.name)
    quiet = Console(quiet=True)
    with TemporaryDirectory() as name, agent(Path(name) / "agent.log", PROTOCOL) as looking:
        assert looking.control is not None

        def acquire(step: Step) -> None:
            messages = list(step_messages(step, CONFIG))
            show.scan(quiet, looking.address, step.name, iter(messages), n_readouts(step))

        with VirtualConsole(
            looking.control, steps, demo_coverage.protocol(), demo_coverage.accept, acquire
        ) as technologist:
            for step in steps:
                acquire(step)
                technologist.acquired(step)
            technologist.finish()
            told = technologist.telemetry
    for message in told:
        if message.topic == "request" and message.values.get("decision_seconds") is not None:
            yield _Decision(steps[-1].name, float(message.values["decision_seconds"]))
