"""Triage on held-out simulated exams: what it finds, what it finds wrongly, how sure it may be.

With the labels of the network, as the agent has them; beside it, in the same exams with the same
labels, the threshold on STIR (`bench.triage_baseline`). Lesions count from 0.3 ml in the imaged
volume and CNR 4 on; facet joints are not judged, and stand apart. Cases of their own: exact labels,
families and a phantom nothing was fitted on, and `bench.triage_checks`. Everything is simulated:
nothing here says how well it does on patients.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench import triage_checks
from bench.rows import row
from bench.triage_baseline import THRESHOLDS
from bench.triage_exams import SCORED, exams
from bench.triage_other import other_exams
from bench.triage_score import WATER, Scored, scored, threshold
from engines.training.triage import auc, calibration_error
from gadgets.triage_examples import True3D
from gadgets.triage_shape import narrow
from protocols.findings import FindingType, Structure
from scanner.disease import HELD_OUT

FAMILIES = ("modic", "metastasis", "si_oedema", "modic", "corner", "si_oedema")
SIZES_ML = {"0.3 to 0.6 ml": (0.3, 0.6), "0.6 to 1.2 ml": (0.6, 1.2), "> 1.2 ml": (1.2, 1e9)}
CONTRASTS = {"CNR 4 to 8": (4, 8), "CNR 8 to 16": (8, 16), "CNR > 16": (16, 1e9)}
PEER = "STIR threshold on marrow"
FALSE, ECE = 0.05, 0.05
NORMAL, ILL, EXACT, OTHER, UNTRAINED, FACET = 60, 72, 12, 8, 3, 3
"""Exams of the full run."""


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows; the quick run has too few exams to say more than that it works.

    The full run takes a quarter of an hour; what it has done is kept, so that it may be broken off.
    """
    normal, ill = (2, 2) if quick else (NORMAL, ILL)
    healthy = list(scored(exams(SCORED, ["healthy"] * normal)))
    families = [FAMILIES[n % len(FAMILIES)] for n in range(ill)]
    diseased = list(scored(exams(SCORED, families, first=10_000)))
    at = threshold(healthy, FALSE)
    rows = _false_rows("first phantom", healthy, at)
    rows += _sensitivity_rows("first phantom", diseased, at)
    rows.append(_equal_row("first phantom", healthy, diseased))
    rows += _judged_rows("first phantom", healthy, diseased)
    rows += _canal_rows([*healthy, *diseased])
    rows += triage_checks.rows(families, quick)
    return rows if quick else rows + _exact_rows(at) + _strange_rows(at)


def _exact_rows(at: int) -> list[dict[str, Any]]:
    """The first exams with exact labels: what is lost by those of the network."""
    families = [FAMILIES[n % len(FAMILIES)] for n in range(EXACT)]
    healthy = list(scored(exams(SCORED, ["healthy"] * EXACT), exact=True))
    ill = list(scored(exams(SCORED, families, first=10_000), exact=True))
    case = "first phantom, exact labels"
    return _false_rows(case, healthy, at)[:1] + _sensitivity(f"{case}, oedema", ill, _is_oedema, at)


def _strange_rows(at: int) -> list[dict[str, Any]]:
    """What nothing was fitted on: the second phantom, and families of lesions; facet joints."""
    strange = list(scored(other_exams(SCORED, [n % 2 == 0 for n in range(2 * OTHER)])))
    well, sick = ([one for one in strange if bool(one.truth) == it] for it in (False, True))
    rows = _false_rows("second phantom", well, at)[:1]
    rows += _sensitivity("second phantom, oedema", sick, _is_oedema, at)
    for k, family in enumerate(HELD_OUT):
        found = list(scored(exams(SCORED, [family] * UNTRAINED, first=20_000 + 1000 * k)))
        rows += _family_rows(family, found, at)
    facets = list(scored(exams(SCORED, ["facet"] * FACET, first=70_000)))
    place = partial(_at_place, Structure.FACET)
    return rows + _sensitivity("facet joints (not judged), oedema", facets, place, at)


def _false_rows(case: str, healthy: Sequence[Scored], at: int) -> list[dict[str, Any]]:
    rows = []
    for measure, ours, peer in (
        ("false_per_normal_exam", [one.false for one in healthy],
         [one.plain_false[at] for one in healthy]),
        ("load_oedema_per_normal_exam", [one.load for one in healthy], None),
    ):  # fmt: skip
        low, high = wilson(sum(n > 0 for n in ours), len(ours))
        name = f"{case}, normal, n={len(ours)}, exams with any 95 % {low:.3f} to {high:.3f}"
        other = float(np.mean(peer)) if peer is not None else None
        rows.append(row("triage", name, measure, float(np.mean(ours)), PEER, other, "lower", ""))
    return rows


def _sensitivity_rows(case: str, diseased: Sequence[Scored], at: int) -> list[dict[str, Any]]:
    kinds: dict[str, Callable[[True3D], bool]] = {
        "oedema and replacement": lambda one: one.type in WATER,
        "oedema": _is_oedema,
        "replacement": lambda one: one.type is FindingType.REPLACEMENT_LIKE,
    }
    for size, (low, high) in SIZES_ML.items():
        kinds[f"oedema {size}"] = partial(_of_size, low, high)
    for contrast, (low, high) in CONTRASTS.items():
        kinds[f"oedema {contrast}"] = partial(_of_contrast, low, high)
    for place in sorted({one.structure for each in diseased for one in each.truth}):
        kinds[f"oedema, {place}"] = partial(_at_place, place)
    return [
        one
        for name, wanted in kinds.items()
        for one in _sensitivity(f"{case}, {name}", diseased, wanted, at)
    ]


def _is_oedema(one: True3D) -> bool:
    return one.type is FindingType.OEDEMA_LIKE


def _of_size(low: float, high: float, one: True3D) -> bool:
    return _is_oedema(one) and low <= one.volume_ml < high


def _of_contrast(low: float, high: float, one: True3D) -> bool:
    return _is_oedema(one) and low <= one.cnr < high


def _at_place(place: Structure, one: True3D) -> bool:
    return _is_oedema(one) and one.structure is place


def _sensitivity(
    case: str, diseased: Iterable[Scored], wanted: Callable[[True3D], bool], at: int
) -> list[dict[str, Any]]:
    ours, peer = [], []
    for each in diseased:
        for one in each.truth:
            if one.counts and one.cnr > 0 and not one.normal and wanted(one):
                ours.append(each.hits[one.number])
                peer.append(each.plain_hits[one.number][at])
    if not ours:
        return []
    low, high = wilson(sum(ours), len(ours))
    name = f"{case}, n={len(ours)}, 95 % {low:.3f} to {high:.3f}"
    mean, other = float(np.mean(ours)), float(np.mean(peer))
    return [row("triage", name, "sensitivity", mean, PEER, other, "higher", "")]


def _equal_row(case: str, healthy: Sequence[Scored], diseased: Sequence[Scored]) -> dict[str, Any]:
    """What the baseline finds wrongly where it finds as much, or where it finds most."""
    pairs = [
        (each.hits[one.number], each.plain_hits[one.number])
        for each in diseased
        for one in each.truth
        if one.counts and one.cnr > 0 and not one.normal and one.type in WATER
    ]
    ours = float(np.mean([hit for hit, _ in pairs])) if pairs else 1.0
    shares = [float(np.mean([hits[at] for _, hits in pairs])) for at in range(len(THRESHOLDS))]
    enough = [at for at, share in enumerate(shares) if share >= ours]
    at = max(enough, default=int(np.argmax(shares)))
    false = float(np.mean([one.false for one in healthy]))
    peer = float(np.mean([one.plain_false[at] for one in healthy]))
    name = f"{case}, normal, n={len(healthy)}, where the threshold finds {shares[at]:.3f}"
    return row("triage", name, "false_per_normal_exam", false, PEER, peer, "lower", "")


def _judged_rows(
    case: str, healthy: Sequence[Scored], diseased: Sequence[Scored]
) -> list[dict[str, Any]]:
    both = [*healthy, *diseased]
    scores = np.array([p for one in both for p in one.scores])
    right = np.array([hit for one in both for hit in one.right], bool)
    exam_scores = np.array([max(one.scores, default=0.0) for one in both])
    ill = np.array(
        [any(t.counts and not t.normal and t.type in WATER for t in one.truth) for one in both]
    )
    kept = ill | (np.arange(len(both)) < len(healthy))
    exam = f"{case}, exams, n={int(kept.sum())}"
    regions_ = f"{case}, regions, n={len(scores)}"
    error = calibration_error(scores, right)
    return [
        row("triage", exam, "auc", auc(exam_scores[kept], ill[kept]), PEER, None, "higher", ""),
        row("triage", regions_, "auc", auc(scores, right), PEER, None, "higher", ""),
        row("triage", regions_, "ece", error, "target", ECE, "lower", ""),
    ]


def _canal_rows(both: Sequence[Scored]) -> list[dict[str, Any]]:
    """Narrow canals: how many of the clear ones were found, and how many are not there."""
    kind, clear, found, false = FindingType.CANAL_NARROW, 0, 0, 0
    for one in both:
        said = {each.level for each in one.found.findings if each.type is kind}
        sure, unclear = narrow(one.shapes)
        clear, found = clear + len(sure), found + len(sure & said)
        false += len(said - sure - unclear)
    case = "first phantom, canal_narrow"
    low, high = wilson(found, clear)
    share = found / clear if clear else float("nan")
    name = f"{case}, n={clear}, 95 % {low:.3f} to {high:.3f}"
    return [
        row("triage", name, "sensitivity", share, "", None, "higher", ""),
        row("triage", f"{case}, exams, n={len(both)}", "false_per_exam", false / len(both),
            "", None, "lower", ""),
    ]  # fmt: skip


def _family_rows(family: str, found: Sequence[Scored], at: int) -> list[dict[str, Any]]:
    """Share of lesions bright on STIR that were found; of the exams, those called unusual."""
    rows = _sensitivity(f"untrained: {family}", found, lambda one: True, at)
    unusual = [(one.found.anomaly or 0.0) >= 0.95 for one in found]
    low, high = wilson(sum(unusual), len(unusual))
    name = f"untrained: {family}, exams, n={len(unusual)}, 95 % {low:.3f} to {high:.3f}"
    share = float(np.mean(unusual))
    return [*rows, row("triage", name, "anomaly_0.95", share, "", None, "higher", "")]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    p, z = hits / n, 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(middle - half, 0.0), min(middle + half, 1.0)
