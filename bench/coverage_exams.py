"""Held-out simulated patients, recorded as the agent would: findings after each series, and truth.

Images, labels and what was said of them are kept as `bench.triage_exams` and `bench.triage_score`
keep theirs, which are the same patients.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from bench.prescribe_score import Score, score
from bench.triage_exams import KEPT, SCORED, exams
from bench.triage_score import network_labels, version
from gadgets.items import Labelled, LabelMap
from gadgets.prescribe import Prescription, prescribe
from gadgets.triage import triage
from gadgets.triage_examples import Example
from protocols.archive import About, PlannedStep, RecordedExam, RecordedSeries, TrueLesion, Truth
from protocols.exam import GeometryRule
from protocols.exam_library import library
from protocols.findings import ExamFindings, Quality
from scanner.phantom import LumbarSpine
from scanner.phantom.variants_population import random_parameters

PROTOCOL = "lumbar"
STEPS = ("t1_tse_sag", "t2_tse_sag", "stir_sag")
SLOT_MINUTES, SAR_HEADROOM = 20.0, 0.5
ILL, WELL = 10_000, 0
"""First numbers of patients with oedema beside a joint, and of healthy ones."""
SLICES = 15
_ABOUT = About(title="", simulated=True, exams=0)


@dataclass(frozen=True)
class Recorded:
    """One patient.

    Attributes
    ----------
    exam : RecordedExam
    truth : Truth
    score : Score or None
        Of the slab over the SI joints; None where it was refused.
    """

    exam: RecordedExam
    truth: Truth
    score: Score | None


def recorded(patients: int, ill_of_ten: int) -> Iterator[Recorded]:
    """Yield patients: so many of ten with subchondral oedema in the slices.

    Who has it only beside the slices is left away.
    """
    healthy = (_kept("healthy", number) for number in count(WELL))
    ill = (one for one in (_kept("si_oedema", number) for number in count(ILL)) if _imaged(one))
    for number in range(patients):
        yield next(ill if number % 10 < ill_of_ten else healthy)


def _imaged(patient: Recorded) -> bool:
    return any(lesion.imaged for lesion in patient.truth.lesions)


def _kept(family: str, number: int) -> Recorded:
    path = KEPT / f"coverage-{version()}" / f"{family}-{number}.pickle"
    if not path.exists():
        result = _recorded(family, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps(result))
        part.rename(path)
    found: Recorded = pickle.loads(path.read_bytes())
    return found


def _recorded(family: str, number: int) -> Recorded:
    ((name, make),) = exams(SCORED, [family], first=number)
    exam = make()
    labels = network_labels(name, exam)
    geometry = next(
        step.geometry
        for step in library()[PROTOCOL].protocol.on_demand
        if step.geometry.rule is GeometryRule.SI_OBLIQUE_CORONAL
    )
    slab = prescribe(geometry, labels)
    unprescribed = {} if isinstance(slab, Prescription) else {geometry.rule: slab.text}
    anatomy = LumbarSpine(
        random_parameters(np.random.default_rng((SCORED, SLICES, number)), transitional=0.0)
    )
    return Recorded(
        _exam(f"{family}-{number}", exam, labels, unprescribed),
        _truth(f"{family}-{number}", exam),
        score(slab, anatomy) if isinstance(slab, Prescription) else None,
    )


def _exam(
    name: str, exam: Example, labels: LabelMap, unprescribed: dict[GeometryRule, str]
) -> RecordedExam:
    minutes = {step.name: step.minutes for step in library()[PROTOCOL].protocol.steps}
    seen: list[Labelled] = []
    said: list[RecordedSeries] = []
    findings: ExamFindings | None = None
    passed_s = 60.0
    for step, one in zip(STEPS, exam.series, strict=True):
        usable = Quality(series=step, snr=10.0, motion=0.0, fat_suppression_failed=0.0)
        seen.append(Labelled(replace(one, name=step), labels, usable))
        findings = triage(name, seen, findings)
        passed_s += 60 * minutes[step]
        said.append(
            RecordedSeries(
                completed_s=passed_s,
                findings=findings,
                sar_headroom=SAR_HEADROOM,
                unprescribed=unprescribed,
            )
        )
    return RecordedExam(
        exam=name,
        slot_minutes=SLOT_MINUTES,
        planned=tuple(PlannedStep(step=step, minutes=minutes[step]) for step in minutes),
        series=tuple(said),
    )


def _truth(name: str, exam: Example) -> Truth:
    lesions = tuple(
        TrueLesion(
            side=one.side,
            structure=one.structure,
            imaged=one.counts,
            volume_ml=one.volume_ml,
            cnr=one.cnr,
        )
        for one in exam.truth
        if one.type is _ABOUT.finding and one.structure in _ABOUT.structures and not one.normal
    )
    return Truth(exam=name, lesions=lesions, group=exam.family)
