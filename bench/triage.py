"""Triage on held-out simulated exams: what it finds, what it finds wrongly, how sure it may be.

Beside it, in the same exams, the threshold on STIR (`bench.triage_baseline`). Lesions count from
0.3 ml in the imaged volume and CNR 4 on. Cases of their own: families and a phantom nothing was
fitted on, outlines without substance, mirrored exams, the labels of the network instead of exact
ones. Everything is simulated: nothing here says how well it does on patients.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.rows import row
from bench.triage_baseline import THRESHOLDS, regions
from bench.triage_exams import (
    SCORED,
    SimulatedExam,
    True3D,
    exams,
    mirrored,
    render,
    sample,
    seen,
)
from bench.triage_other import other_exams
from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable
from engines.training.triage import auc, calibration_error
from gadgets.items import LabelMap
from gadgets.label import label
from gadgets.triage import look, triage
from gadgets.triage_anatomy import find_anatomy
from gadgets.triage_model import shipped
from protocols.findings import ExamFindings, Finding, FindingType, Side, Structure
from scanner.disease import HELD_OUT

WATER = (
    FindingType.OEDEMA_LIKE,
    FindingType.REPLACEMENT_LIKE,
    FindingType.FLUID_AND_FAT_LIKE,
)
"""What is bright on STIR; one such finding on another is right, if not of the right name."""
FAMILIES = ("si_oedema", "modic", "corner", "si_oedema", "facet", "metastasis")
SIZES_ML = {"0.3 to 0.6 ml": (0.3, 0.6), "0.6 to 1.2 ml": (0.6, 1.2), "> 1.2 ml": (1.2, 1e9)}
BESIDE_MM = 3.0
PEER = "STIR threshold on marrow"
TARGETS = {"sensitivity": 0.95, "false_per_normal_exam": 0.05, "ece": 0.05, "seconds": 2.0}


@dataclass(frozen=True)
class Scored:
    """One exam and what was found.

    Attributes
    ----------
    exam : SimulatedExam
    found : ExamFindings
    seconds : float
    hits : dict of int to bool
        By lesion.
    false : int
        Findings where there is nothing.
    load : int
        Findings of oedema that healthy people have.
    scores, right : list
        Probability of each candidate bright on STIR, and whether it is a lesion.
    plain : list of list of ndarray
        Regions of the baseline.
    """

    exam: SimulatedExam
    found: ExamFindings
    seconds: float
    hits: dict[int, bool]
    false: int
    load: int
    scores: list[float]
    right: list[bool]
    plain: list[list[np.ndarray]]


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows; the quick run has too few exams to say more than that it works.

    The full run takes half an hour.
    """
    normal, ill = (2, 3) if quick else (150, 150)
    healthy = [score(one) for one in exams(SCORED, ["healthy"] * normal)]
    families = [FAMILIES[n % len(FAMILIES)] for n in range(ill)]
    diseased = [score(one) for one in exams(SCORED, families, first=10_000)]
    threshold = _threshold(healthy)
    rows = _false_rows("first phantom", healthy, threshold)
    rows += _sensitivity_rows("first phantom", diseased, threshold)
    rows += _judged_rows("first phantom", healthy, diseased)
    rows += _outline_rows(1 if quick else 24)
    rows.append(_mirror_row(diseased[: 2 if quick else 20]))
    rows.append(_time_row(1 if quick else 3))
    return rows if quick else rows + _strange_rows(threshold) + _network_rows(30)


def _strange_rows(threshold: int) -> list[dict[str, Any]]:
    """What nothing was fitted on: the second phantom, and families of lesions."""
    strange = [score(one) for one in other_exams(SCORED, [n % 2 == 0 for n in range(40)])]
    well, sick = ([one for one in strange if bool(one.exam.truth) == it] for it in (False, True))
    rows = _false_rows("second phantom", well, threshold)
    rows += _sensitivity_rows("second phantom", sick, threshold)
    for k, family in enumerate(HELD_OUT):
        found = [score(one) for one in exams(SCORED, [family] * 12, first=20_000 + 1000 * k)]
        rows += _family_rows(family, found)
    return rows


def score(exam: SimulatedExam, labels: LabelMap | None = None) -> Scored:
    """Look at an exam and compare with the truth."""
    given = seen(exam, labels)
    start = time.perf_counter()
    found = triage(exam.family, given)
    seconds = time.perf_counter() - start
    at = {one.number: _voxels(exam, one.number) for one in exam.truth}
    bright = [one for one in found.findings if one.type in WATER]
    hits = {
        one.number: any(_meets(each, at[one.number]) for each in found.findings
                        if (each.type in WATER) == (one.type in WATER))
        for one in exam.truth
    }  # fmt: skip
    load, false = 0, 0
    for each in found.findings:
        met = [one for one in exam.truth if _meets(each, at[one.number])]
        if any(not one.normal for one in met):
            continue
        if each in bright and any(one.normal and one.type in WATER for one in met):
            load += 1
        else:
            false += 1
    scores, right = _candidates(exam, labels)
    return Scored(exam, found, seconds, hits, false, load, scores, right, regions(exam))


def _candidates(exam: SimulatedExam, labels: LabelMap | None) -> tuple[list[float], list[bool]]:
    given = seen(exam, labels)
    known = given[-1].labels
    assert known is not None
    scores, right = [], []
    anatomy = find_anatomy(known, given[-1].series.volume)
    for one in look(given[-1], given, anatomy, shipped(), False).seen:
        if one.region.kind == "water":
            z, y, x = one.region.voxels.T
            part = (slice(None), *one.anatomy.box[1:])
            inside = exam.lesions[part][z, y, x]
            ill = [each.number for each in exam.truth if each.type in WATER]
            scores.append(one.probability)
            right.append(bool(np.isin(inside, ill).mean() >= 0.2))
    return scores, right


def _voxels(exam: SimulatedExam, number: int) -> np.ndarray:
    """Positions of the voxels of a lesion, float64 (n, 3), LPS mm."""
    volume = exam.labels.volume
    at = np.argwhere(exam.lesions == number)[:, ::-1] - np.array(volume.shape[::-1]) // 2
    return np.asarray(volume.position + at * volume.spacing @ volume.directions)


def _meets(one: Finding, lesion: np.ndarray) -> bool:
    """Whether a finding is on a lesion: a quarter of it in the box, or the box' centre in it."""
    if not len(lesion):
        return False
    centre, half = np.array(one.centre_mm), np.array(one.extent_mm) / 2 + BESIDE_MM
    inside = np.all(np.abs(lesion - centre) <= half, axis=1).mean()
    low, high = lesion.min(axis=0) - BESIDE_MM, lesion.max(axis=0) + BESIDE_MM
    return bool(inside >= 0.25 or np.all((centre >= low) & (centre <= high)))


def _plain_hit(exam: SimulatedExam, number: int, found: Sequence[np.ndarray]) -> bool:
    lesion = exam.lesions == number
    total = np.count_nonzero(lesion)
    shares = [np.count_nonzero(lesion[tuple(part.T)]) for part in found]
    return any(
        share >= 0.25 * total or share >= 0.25 * len(part) for share, part in zip(shares, found)
    )


def _plain_false(one: Scored, threshold: int) -> int:
    kept = [each.number for each in one.exam.truth if not each.normal or each.type in WATER]
    return sum(
        not np.isin(one.exam.lesions[tuple(part.T)], kept).any() for part in one.plain[threshold]
    )


def _threshold(healthy: Sequence[Scored]) -> int:
    """Index of the baseline's lowest threshold with as few false findings as ours, or 0.05."""
    allowed = max(TARGETS["false_per_normal_exam"], float(np.mean([one.false for one in healthy])))
    for number in range(len(THRESHOLDS)):
        if np.mean([_plain_false(one, number) for one in healthy]) <= allowed:
            return number
    return len(THRESHOLDS) - 1


def _false_rows(case: str, healthy: Sequence[Scored], threshold: int) -> list[dict[str, Any]]:
    rows = []
    for measure, ours, peer in (
        ("false_per_normal_exam", [one.false for one in healthy],
         [_plain_false(one, threshold) for one in healthy]),
        ("load_oedema_per_normal_exam", [one.load for one in healthy], None),
    ):  # fmt: skip
        low, high = wilson(sum(n > 0 for n in ours), len(ours))
        name = f"{case}, normal, n={len(ours)}, exams with any 95 % {low:.3f} to {high:.3f}"
        other = float(np.mean(peer)) if peer is not None else None
        rows.append(row("triage", name, measure, float(np.mean(ours)), PEER, other, "lower", ""))
    return rows


def _sensitivity_rows(
    case: str, diseased: Sequence[Scored], threshold: int
) -> list[dict[str, Any]]:
    kinds: dict[str, Callable[[True3D], bool]] = {"oedema": _is_oedema}
    for size, (low, high) in SIZES_ML.items():
        kinds[f"oedema {size}"] = partial(_of_size, low, high)
    for place in sorted({one.structure for each in diseased for one in each.exam.truth}):
        kinds[f"oedema, {place}"] = partial(_at_place, place)
    kinds["replacement_like"] = _is_replacement
    return [
        one
        for name, wanted in kinds.items()
        for one in _sensitivity(f"{case}, {name}", diseased, wanted, threshold)
    ]


def _is_oedema(one: True3D) -> bool:
    return one.type is FindingType.OEDEMA_LIKE


def _is_replacement(one: True3D) -> bool:
    return one.type is FindingType.REPLACEMENT_LIKE


def _of_size(low: float, high: float, one: True3D) -> bool:
    return _is_oedema(one) and low <= one.volume_ml < high


def _at_place(place: Structure, one: True3D) -> bool:
    return _is_oedema(one) and one.structure is place


def _sensitivity(
    case: str,
    diseased: Iterable[Scored],
    wanted: Callable[[True3D], bool],
    threshold: int,
) -> list[dict[str, Any]]:
    ours, peer = [], []
    for each in diseased:
        for one in each.exam.truth:
            if one.counts and one.cnr > 0 and not one.normal and wanted(one):
                ours.append(each.hits[one.number])
                peer.append(_plain_hit(each.exam, one.number, each.plain[threshold]))
    if not ours:
        return []
    low, high = wilson(sum(ours), len(ours))
    name = f"{case}, n={len(ours)}, 95 % {low:.3f} to {high:.3f}"
    mean, other = float(np.mean(ours)), float(np.mean(peer))
    return [row("triage", name, "sensitivity", mean, PEER, other, "higher", "")]


def _judged_rows(
    case: str, healthy: Sequence[Scored], diseased: Sequence[Scored]
) -> list[dict[str, Any]]:
    both = [*healthy, *diseased]
    scores = np.array([p for one in both for p in one.scores])
    right = np.array([hit for one in both for hit in one.right], bool)
    exam_scores = np.array([max(one.scores, default=0.0) for one in both])
    ill = np.array(
        [any(t.counts and not t.normal and t.type in WATER for t in one.exam.truth) for one in both]
    )
    kept = ill | (np.arange(len(both)) < len(healthy))
    exam = f"{case}, exams, n={int(kept.sum())}"
    regions_ = f"{case}, regions, n={len(scores)}"
    error = calibration_error(scores, right)
    seconds = float(np.median([one.seconds for one in both]))
    return [
        row("triage", exam, "auc", auc(exam_scores[kept], ill[kept]), PEER, None, "higher", ""),
        row("triage", regions_, "auc", auc(scores, right), PEER, None, "higher", ""),
        row("triage", regions_, "ece", error, "target", TARGETS["ece"], "lower", ""),
        row("triage", f"{case}, 15 x 208 x 96", "seconds", seconds, "target",
            TARGETS["seconds"], "lower", "s"),
    ]  # fmt: skip


def _family_rows(family: str, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Share of lesions bright on STIR that were found; of the exams, those called unusual."""
    rows = _sensitivity(f"untrained: {family}", scored, lambda one: True, -1)
    unusual = [(one.found.anomaly or 0.0) >= 0.95 for one in scored]
    low, high = wilson(sum(unusual), len(unusual))
    name = f"untrained: {family}, exams, n={len(unusual)}, 95 % {low:.3f} to {high:.3f}"
    rows.append(
        row("triage", name, "anomaly_0.95", float(np.mean(unusual)), "", None, "higher", "")
    )
    for each in rows:
        each["peer"] = each["ratio"] = None
    return rows


def _outline_rows(count: int) -> list[dict[str, Any]]:
    """Outlines without substance: how many were found."""
    found = []
    for n in range(count):
        family = ("si_oedema", "modic", "corner", "metastasis")[n % 4]
        rng = np.random.default_rng((SCORED, 30_000 + n))
        exam = render(rng, sample(rng, family, outline=True))
        result = triage("outline", seen(exam))
        found += [
            any(_meets(each, _voxels(exam, one.number)) for each in result.findings)
            for one in exam.truth
            if one.volume_ml >= 0.3
        ]
    low, high = wilson(sum(found), len(found))
    name = f"outlines without substance, n={len(found)}, 95 % {low:.3f} to {high:.3f}"
    share = float(np.mean(found)) if found else float("nan")
    return [row("triage", name, "found", share, "target", 0.0, "lower", "")]


def _mirror_row(scored: Sequence[Scored]) -> dict[str, Any]:
    """Share of exams whose mirror image gives the same findings on the other side."""
    same = [mirrors(one.found, triage(one.exam.family, seen(mirrored(one.exam)))) for one in scored]
    name = f"mirrored exams, n={len(same)}"
    return row("triage", name, "same", float(np.mean(same)), "target", 1.0, "higher", "")


def mirrors(one: ExamFindings, other: ExamFindings) -> bool:
    """Whether two exams have the same findings with left and right exchanged."""
    exchange = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.MIDLINE: Side.MIDLINE}
    ours, theirs = (sorted(each.findings, key=lambda f: f.volume_ml) for each in (one, other))
    return len(ours) == len(theirs) and all(
        a.type == b.type and a.structure == b.structure and a.side == exchange[b.side]
        and abs(a.probability - b.probability) < 0.01
        and np.allclose(np.array(a.centre_mm) * (-1, 1, 1), b.centre_mm, atol=0.5)
        for a, b in zip(ours, theirs)
    )  # fmt: skip


def _network_rows(count: int) -> list[dict[str, Any]]:
    """The same with the network's labels of the T2 series, instead of exact ones."""
    try:
        engine = load_engine("labels", options=Options(threads=2))
    except EngineUnavailable:
        return []
    half = count // 2
    scored = [
        score(exam, label(exam.series[1], engine))
        for exam in (
            *exams(SCORED, ["healthy"] * half, first=40_000),
            *exams(SCORED, [FAMILIES[n % 6] for n in range(count - half)], first=50_000),
        )
    ]
    case = "first phantom, labels of the network"
    rows = _false_rows(case, scored[:half], len(THRESHOLDS) - 1)
    rows += _sensitivity(f"{case}, oedema", scored[half:],
                         _is_oedema, -1)  # fmt: skip
    for each in rows:
        each["peer"] = each["ratio"] = None
    return rows


def _time_row(count: int) -> dict[str, Any]:
    """Seconds for all three series of the usual exam: 15 slices of 320 x 320."""
    rng = np.random.default_rng((SCORED, 60_000))
    exam = render(rng, sample(rng, "modic", shape=(320, 320)))
    given, seconds = seen(exam), []
    for _ in range(count):
        start = time.perf_counter()
        triage("time", given)
        seconds.append(time.perf_counter() - start)
    name = "3 series of 15 x 320 x 320, all at once"
    middle = float(np.median(seconds))
    return row("triage", name, "seconds", middle, "target", TARGETS["seconds"], "lower", "s")


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    p, z = hits / n, 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return middle - half, middle + half
