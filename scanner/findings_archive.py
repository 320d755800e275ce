"""A simulated archive of recorded exams, of any size and prevalence, to tune triggers on.

    simulate(Path("archive"), exams=1000, prevalence=0.1, seed=7)

Everything in it is simulated: patients, lesions, what looks like one, and what triage says of them
(`scanner.findings_observer`). Rates that are read from papers are marked so below, everything else
is an assumption. Exam k of a seed depends on neither the number of exams nor on the other exams.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.archive import (
    ABOUT,
    EXAMS,
    TRUTH,
    About,
    PlannedStep,
    RecordedExam,
    RecordedSeries,
    TrueLesion,
    Truth,
)
from protocols.exam import ExamProtocol, GeometryRule
from protocols.exam_library import library
from protocols.findings import (
    EvidenceCoverage,
    ExamFindings,
    Finding,
    FindingType,
    Quality,
    Side,
    Structure,
)
from protocols.trigger import OrderFlag
from scanner.findings_observer import (
    REPORTED_FROM,
    SEEN_FROM,
    Region,
    detectability,
    probability,
)
from scanner.findings_others import others

PROTOCOL = "lumbar"
SIDES = (Side.LEFT, Side.RIGHT)

GROUPS = {"back pain": 0.70, "no complaints": 0.15, "runner": 0.10, "postpartum": 0.05}
"""Mix of patients: an assumption."""

MECHANICAL_OEDEMA = {
    "back pain": 0.064,
    "no complaints": 0.234,
    "runner": 0.125,
    "postpartum": 0.571,
}
"""Marrow oedema at an SI joint without disease (de Winter 2018). Shallow, small."""

JUDGED_FROM = 0.3
"""Fraction of the sacral rim, from which "nothing there" may be said."""

IMAGED_FROM = 0.25
"""Fraction of a lesion in the imaged volume, from which it counts as imaged."""

LSTV = 0.086
"""Transitional lumbosacral vertebra (886 patients)."""

ORDER_FLAGS = {
    OrderFlag.EXTRA_DECLINED: 0.01,
    OrderFlag.PREGNANCY: 0.003,
    OrderFlag.CONDITIONAL_IMPLANT: 0.02,
    OrderFlag.CLAUSTROPHOBIA: 0.02,
    OrderFlag.PAIN: 0.02,
    OrderFlag.EMERGENCY: 0.005,
}


@dataclass(frozen=True)
class _Kind:
    """How regions of one kind are distributed: log-normal volume and contrast."""

    rate: float
    volume_ml: float
    volume_spread: float
    cnr: float
    cnr_spread: float
    depth_mm: tuple[float, float]
    cue: float


LESION = _Kind(0, 1.2, 0.8, 9, 0.4, (4, 14), 1.2)
MIMICS = {
    "mechanical oedema": _Kind(0, 0.3, 0.5, 5, 0.3, (1, 7), -0.2),
    "red marrow": _Kind(0.15, 2.0, 0.5, 2.5, 0.3, (2, 12), -1),
    "vein": _Kind(0.10, 0.1, 0.4, 7, 0.3, (3, 10), -0.8),
    "partial volume at the joint": _Kind(0.15, 0.15, 0.5, 4, 0.3, (0, 3), -0.8),
    "failed fat suppression": _Kind(0.03, 3.0, 0.6, 7, 0.4, (0, 14), -0.2),
}

NOTES = (
    "All data are simulated: patients, lesions, and what triage says of them.",
    "Prevalence is that of disease beside an SI joint, wherever it lies; in about four of ten of "
    "these exams that is outside the imaged volume.",
    "Oedema without disease is a mimic: 6.4 % of patients with back pain, 23.4 % of people without "
    "complaints, 12.5 % of runners, 57.1 % after childbirth (de Winter 2018).",
    "15 sagittal slices show 11-56 % of the sacral rim and 0-24 % of the iliac one.",
    "Observer: logit of contrast to noise, volume shown, depth and a cue; the formula is in "
    "scanner/findings_observer.py.",
    "Other rates and distributions are assumptions.",
)


def simulate(folder: Path, exams: int, prevalence: float, seed: int) -> None:
    """Write a simulated archive.

    Parameters
    ----------
    folder : Path
        New.
    exams : int
    prevalence : float
        Fraction of exams with disease beside an SI joint, in the imaged volume or not.
    seed : int

    Raises
    ------
    FileExistsError
    """
    folder.mkdir(parents=True)
    about = About(
        title=f"Simulated lumbar exams, prevalence {prevalence:g}, seed {seed}",
        simulated=True,
        exams=exams,
        notes=NOTES,
    )
    (folder / ABOUT).write_text(about.model_dump_json(indent=1) + "\n")
    with (folder / EXAMS).open("w") as recorded, (folder / TRUTH).open("w") as true:
        for exam, truth in draw(exams, prevalence, seed):
            recorded.write(exam.model_dump_json(exclude_defaults=True) + "\n")
            true.write(truth.model_dump_json(exclude_defaults=True) + "\n")


def draw(exams: int, prevalence: float, seed: int) -> Iterator[tuple[RecordedExam, Truth]]:
    """Yield simulated exams and their truth."""
    protocol = library()[PROTOCOL].protocol
    for index in range(exams):
        yield _exam(
            np.random.default_rng([seed, index]), f"sim-{seed}-{index:06d}", protocol, prevalence
        )


def _exam(
    rng: np.random.Generator, name: str, protocol: ExamProtocol, prevalence: float
) -> tuple[RecordedExam, Truth]:
    group = str(rng.choice(list(GROUPS), p=list(GROUPS.values())))
    diseased = rng.random() < prevalence
    regions = [*_lesions(rng)] if diseased else []
    regions += _mimics(rng, group)
    patient = _Patient(rng, protocol, regions, name)
    truth = Truth(
        exam=name,
        lesions=tuple(
            TrueLesion(
                side=region.side,
                structure=region.structure,
                imaged=patient.shown(region) >= IMAGED_FROM,
                volume_ml=round(region.volume_ml, 3),
                cnr=round(region.cnr, 2),
            )
            for region in regions
            if region.kind == "lesion"
        ),
        group=group,
        mimics=tuple(sorted({region.kind for region in regions if region.kind != "lesion"})),
    )
    return patient.exam(rng), truth


def _lesions(rng: np.random.Generator) -> Iterator[Region]:
    sides = SIDES if rng.random() < 0.4 else (SIDES[rng.integers(2)],)
    for side in sides:
        yield _region(rng, "lesion", LESION, side)


def _mimics(rng: np.random.Generator, group: str) -> Iterator[Region]:
    for kind, form in MIMICS.items():
        rate = MECHANICAL_OEDEMA[group] if kind == "mechanical oedema" else form.rate
        if rng.random() < rate:
            yield _region(rng, kind, form, SIDES[rng.integers(2)])


def _region(rng: np.random.Generator, kind: str, form: _Kind, side: Side) -> Region:
    sacral = rng.random() < 0.6
    return Region(
        kind=kind,
        side=side,
        structure=Structure.SACRAL_SUBCHONDRAL if sacral else Structure.ILIAC_SUBCHONDRAL,
        volume_ml=float(rng.lognormal(np.log(form.volume_ml), form.volume_spread)),
        cnr=float(rng.lognormal(np.log(form.cnr), form.cnr_spread)),
        depth_mm=float(rng.uniform(*form.depth_mm)),
        lateral=float(rng.random()),
        height=float(rng.random()),
        cue=float(rng.normal(form.cue, 1)),
    )


class _Patient:
    """One patient on the table: what is shown of what, and what is said of it."""

    def __init__(
        self,
        rng: np.random.Generator,
        protocol: ExamProtocol,
        regions: list[Region],
        name: str,
    ) -> None:
        self.protocol, self.regions, self.name = protocol, regions, name
        sagittal = rng.uniform(0.11, 0.56), rng.uniform(0, 0.24)
        axial = rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.3)
        self.rims = {
            (axial_stack, structure): rim
            for axial_stack, stack in ((False, sagittal), (True, axial))
            for structure, rim in zip(
                (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL), stack
            )
        }
        self.lstv = rng.random() < LSTV
        self.differ = rng.random() < 0.01
        self.abstained = rng.random() < 0.01

    def shown(self, region: Region) -> float:
        """Return the largest fraction of a region that one stack shows."""
        return max(self._shown(region, axial) for axial in (False, True))

    def _shown(self, region: Region, axial: bool) -> float:
        return region.shown(self.rims[axial, region.structure], axial)

    def exam(self, rng: np.random.Generator) -> RecordedExam:
        """Return the exam as it is recorded."""
        order = [flag for flag, rate in ORDER_FLAGS.items() if rng.random() < rate]
        now_s = 90 + rng.exponential(90)
        headroom = rng.beta(6, 3)
        unprescribed = {}
        if self.lstv and rng.random() < 0.3:
            why = "the dorsal cortex of S2 is not certain"
            unprescribed = {GeometryRule.SI_OBLIQUE_CORONAL: why}
        other = list(others(rng))
        quality = []
        recorded = []
        for count, step in enumerate(self.protocol.steps, start=1):
            now_s += 60 * step.minutes + rng.uniform(10, 40)
            quality.append(self._quality(rng, step.name, step.contrast == "stir"))
            names = tuple(each.name for each in self.protocol.steps[:count])
            findings = [
                f
                for f in map(self._finding, range(len(self.regions)), [count] * len(self.regions))
                if f
            ]
            findings += [finding for finding in other if finding.series[0] in names]
            recorded.append(
                RecordedSeries(
                    completed_s=round(now_s, 1),
                    sar_headroom=round(headroom, 2),
                    unprescribed=unprescribed,
                    findings=ExamFindings(
                        exam=self.name,
                        series=names,
                        findings=tuple(findings),
                        coverage=tuple(self._coverage(count)),
                        quality=tuple(quality),
                        levels_certain=not self.lstv,
                        agreement=not self.differ,
                        abstained="unlike what triage was made for" if self.abstained else None,
                    ),
                )
            )
        return RecordedExam(
            exam=self.name,
            order=frozenset(order),
            slot_minutes=self.protocol.slot_minutes,
            planned=tuple(
                PlannedStep(step=step.name, minutes=step.minutes) for step in self.protocol.steps
            ),
            series=tuple(recorded),
        )

    def _quality(self, rng: np.random.Generator, series: str, stir: bool) -> Quality:
        failed = None
        if stir:
            bright = any(region.kind == "failed fat suppression" for region in self.regions)
            failed = round(rng.uniform(0.02, 0.25) if bright else rng.uniform(0, 0.03), 3)
        lost = rng.random() < 0.005
        return Quality(
            series=series,
            snr=round(max(2.0, rng.normal(20, 5)), 1),
            motion=round(rng.beta(1.2, 10), 2),
            fat_suppression_failed=failed,
            usable=not lost,
            reason="the patient moved off the table" if lost else None,
        )

    def _stacks(self, count: int) -> list[tuple[str, str, bool]]:
        """Return name, contrast, and whether axial, of the first series."""
        return [
            (step.name, step.contrast, step.geometry.rule is GeometryRule.AXIAL)
            for step in self.protocol.steps[:count]
        ]

    def _coverage(self, count: int) -> Iterator[EvidenceCoverage]:
        stacks = {axial for _, _, axial in self._stacks(count)}
        for structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL):
            hidden = np.prod([1 - self.rims[axial, structure] for axial in stacks])
            shown = round(float(1 - hidden), 3)
            for side in SIDES:
                yield EvidenceCoverage(
                    structure=structure, side=side, shown=shown, judged=shown >= JUDGED_FROM
                )

    def _finding(self, index: int, count: int) -> Finding | None:
        """Return what is said of a region after so many series, if anything."""
        region = self.regions[index]
        seen = {}
        for name, contrast, axial in self._stacks(count):
            shown = self._shown(region, axial)
            d = detectability(region, contrast, shown)
            if d >= SEEN_FROM:
                seen[name] = (d, shown)
        if not seen:
            return None
        said = probability(region, float(np.sqrt(sum(d**2 for d, _ in seen.values()))))
        if said < REPORTED_FROM:
            return None
        # The deciding series comes first: the one that shows it best.
        names = sorted(seen, key=lambda name: -seen[name][0])
        shown = seen[names[0]][1]
        edge_mm = 10 * float(np.cbrt(region.volume_ml))
        slices = max(1, round(edge_mm * shown / 4.4))
        first = 15 - slices if region.side is Side.LEFT else 0
        x = 35 + 20 * region.lateral
        return Finding(
            id=f"si-{index}",
            type=FindingType.OEDEMA_LIKE,
            structure=region.structure,
            side=region.side,
            level="S1",
            centre_mm=(round(x if region.side is Side.LEFT else -x, 1), 40.0, -130.0),
            extent_mm=(round(edge_mm, 1),) * 3,
            volume_ml=round(region.volume_ml * shown, 3),
            depth_mm=round(region.depth_mm, 1),
            cnr=round(region.cnr, 2),
            probability=round(said, 4),
            series=tuple(names),
            slices=tuple(range(first, first + slices)),
            adjacent_slices=slices,
            area_mm2=round(edge_mm**2, 1),
        )
