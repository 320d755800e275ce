"""Fits the numbers of triage on a folder of exams with known lesions: `train`.

    boreside phantoms exams --exams --count 144 --seed 0
    boreside train triage --data exams --out out

The mathematics is `engines.training.triage`. Deterministic, minutes on one core, no network.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine import Engine
from engines.training import triage as fit
from gadgets.items import LabelMap
from gadgets.label import label
from gadgets.measures import measures
from gadgets.triage_anatomy import Anatomy, find_anatomy
from gadgets.triage_examples import Example, paths, read
from gadgets.triage_model import KINDS, WEIGHTINGS, Parameters, quadratic
from gadgets.triage_regions import FEATURES, Candidate, candidates
from gadgets.triage_shape import narrow, narrowings
from gadgets.triage_signal import Signal, signal_of
from gadgets.triage_unusual import unusual
from protocols.findings import FindingType, Measure

FEWER = 3
"""With fewer contrasts, every so manieth dozen of patients will do."""
DOZEN = 12
SUBSETS = ("stir+t1+t2", "stir+t1", "stir+t2", "stir")
TYPES = {
    "water": (FindingType.OEDEMA_LIKE, FindingType.REPLACEMENT_LIKE),
    "fat": (FindingType.FAT_LIKE,),
    "dark": (FindingType.SCLEROSIS_LIKE,),
}
FALSE_PER_EXAM = {"water": 0.034, "fat": 0.005, "dark": 0.005}
"""Of normal exams; together well below 0.05, for other patients are never quite alike."""
GAIN = {"water": 0.0, "fat": 15.0, "dark": 0.0}
"""Fat is rare among the voxels, and hardly differs from marrow."""
LEAST_LISTED = {"water": 0.66, "fat": 0.8, "dark": 0.95}
"""What is listed is this probable at least: chosen on 30 normal validation exams with the network's
labels, for 0.05 false findings each."""
OVERLAP, TOUCH, WHOLE = 0.25, 0.04, 0.4
"""Shares of a candidate that are lesion, and of a lesion that is in a candidate."""
_VOXELS, SOME = 700, 0.03
"""Voxels of an exam to fit shares on, and what is some share."""
VOXEL_SEED = 410_000
FALSE_CANALS, LEAST_CANAL = 0.01, 0.8
"""False narrow canals per exam, and how probable one is at least."""

Looked = tuple[Example, Anatomy, int, dict[str, np.ndarray], np.ndarray]
"""Exam, its bones, its number, ratios and true shares of some voxels."""
Measured = tuple[Sequence[Measure], Sequence[tuple[FindingType, str, float]], int]
"""Measures of an exam by the network's labels, what shapes truly depart, and its number."""


def train(
    data: Path, out: Path, engine: Engine, command: str, report: Callable[[int], None]
) -> Path:
    """Fit on exams, and write `triage_parameters.json`.

    Parameters
    ----------
    data : Path
        Folder of `gadgets.triage_examples`.
    out : Path
        Folder.
    engine : Engine
        Of the kind "labels": half of what is fitted on has its labels, which triage will be given.
    command : str
        Goes into the recipe.
    report : callable
        Told how many patients were looked at.

    Returns
    -------
    Path
        Of the JSON: numbers, and how they were made.

    Raises
    ------
    FileNotFoundError
        There are no exams.
    EngineUnavailable
        The engine cannot serve.
    """
    looked: list[Looked] = []
    measured: list[Measured] = []
    for number, path in enumerate(paths(data)):
        exam = read(path)
        given = label(exam.series[number // 2 % len(exam.series)], engine)
        looked += looks(exam, given, number)
        measured.append((measures(given, exam.series), exam.shapes, number))
        report(number + 1)
    table = fitted(looked)
    fit_canals(table, measured)
    labels = engine.manifest
    table["recipe"]["made_by"] = command
    table["recipe"]["labels"] = "exact; " + (f"{labels.name} {labels.version}" if labels else "")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "triage_parameters.json"
    path.write_text(json.dumps(table, indent=1) + "\n")
    return path


def fitted(looked: list[Looked]) -> dict[str, Any]:
    """Return the table of numbers from what was seen of all patients, in order."""
    table: dict[str, Any] = {"shares": {}, "logistic": {}, "listed_from": {}}
    for subset in SUBSETS:
        names = subset.split("+")
        terms = [quadratic(np.stack([r[name] for name in names], -1)) for _, _, _, r, _ in looked]
        wanted = np.concatenate([targets for *_, targets in looked])
        rows_ = np.concatenate(terms)
        weights = np.stack(
            [fit.ridge(rows_, wanted[:, k], gain=GAIN[kind]) for k, kind in enumerate(KINDS)], -1
        )
        table["shares"][subset] = np.round(weights, 5).tolist()
    metrics: dict[str, Any] = {}
    for subset in SUBSETS:
        every = 1 if subset == SUBSETS[0] else FEWER
        used = [one for one in looked if one[2] // DOZEN % every == 0]
        _fit_subset(table, metrics, subset, used)
    table["recipe"] = {
        "patients": len({n for _, _, n, *_ in looked}),
        "families": sorted({exam.family for exam, *_ in looked}),
        "features": list(FEATURES),
    }
    table["metrics_of_held_out_folds"] = metrics
    table["limits"] = (
        "Simulated exams only: sagittal T1, T2 and STIR at 1.5 and 3 T, pixels of 1.1 to 1.5 mm, "
        "pitch 4.4 mm. Not clinically validated."
    )
    return table


def looks(exam: Example, given: LabelMap, number: int) -> Iterator[Looked]:
    """Yield an exam with exact labels, and with those given, of the network.

    Nothing where there is no bone.
    """
    rng = np.random.default_rng((VOXEL_SEED, number))
    for labels in (exam.labels, given):
        anatomy = find_anatomy(labels, exam.labels.volume)
        signal = anatomy and _signal(anatomy, exam, SUBSETS[0], None)
        if not anatomy or not signal:
            continue
        shares = np.stack([one[anatomy.box] for one in exam.shares], axis=-1)[anatomy.core]
        ill = rng.permutation(np.flatnonzero(shares.max(axis=1) > SOME))[: _VOXELS // 2]
        well = rng.permutation(np.flatnonzero(shares.max(axis=1) <= SOME))[:_VOXELS]
        chosen = np.concatenate([ill, well])
        ratios = {name: signal.ratios[name][anatomy.core][chosen] for name in WEIGHTINGS}
        kept = replace(exam, shares=np.zeros((0, *exam.lesions.shape), np.float32))
        yield kept, replace(anatomy), number, ratios, shares[chosen]


def fit_canals(table: dict[str, Any], measured: Sequence[Measured]) -> None:
    """Fit what is usual by level, and how probable a narrow canal is."""
    usual: dict[str, list[float]] = {}
    rows, target, groups = [], [], []
    for values, shapes, _ in measured:
        for level, (ratio, _mm) in narrowings(values, {}).items():
            if not any(level in levels for levels in narrow(shapes)):
                usual.setdefault(level, []).append(ratio)
    table["usual_sac"] = {at: round(float(np.exp(np.median(v))), 4) for at, v in usual.items()}
    for values, shapes, number in measured:
        sure, unclear = narrow(shapes)
        for level, row in narrowings(values, table["usual_sac"]).items():
            if level not in unclear:
                rows.append(row)
                target.append(level in sure)
                groups.append(number)
    right = np.array(target, bool)
    kind = FindingType.CANAL_NARROW.value
    numbers, probability = fit.fit_logistic(np.array(rows), right, np.array(groups))
    table["logistic"]["canal"] = numbers
    least = fit.threshold(probability[~right], len(measured), FALSE_CANALS)
    table["listed_from"][kind] = max(round(least, 4), LEAST_CANAL)
    listed = probability >= table["listed_from"][kind]
    table["metrics_of_held_out_folds"][kind] = {
        "discs": len(right),
        "true": int(right.sum()),
        "auc": round(fit.auc(probability, right), 4),
        "ece": round(fit.calibration_error(probability, right), 4),
        "share_of_true_listed": round(float(listed[right].mean()), 4),
        "false_per_exam": round(float(listed[~right].sum() / len(measured)), 4),
    }


def _signal(
    anatomy: Anatomy, exam: Example, subset: str, parameters: Parameters | None
) -> Signal | None:
    names = subset.split("+")
    data = {one.weighting: one.data[anatomy.box] for one in exam.series if one.weighting in names}
    return signal_of(anatomy, data, parameters)


def _fit_subset(
    table: dict[str, Any], metrics: dict[str, Any], subset: str, looked: list[Looked]
) -> None:
    """Fit the classifiers for these contrasts; with all of them, what is usual too."""
    rows: dict[str, list[tuple[np.ndarray, bool, int, bool, bool]]] = {kind: [] for kind in KINDS}
    usual = []
    for exam, kept, number, *_ in looked:
        anatomy = replace(kept)  # what it remembers goes with it
        signal = _signal(anatomy, exam, subset, Parameters(table))
        if signal is None:
            continue
        well = exam.family == "healthy"
        if well:
            usual.append(unusual(anatomy, signal))
        for kind in KINDS:
            for one in candidates(anatomy, signal, kind):
                is_true, mass = judged(one, exam, anatomy)
                if is_true is not None:
                    rows[kind].append((one.row, is_true, number, well, mass))
    normal = len(usual)
    if subset == SUBSETS[0]:
        table["anomaly"] = fit.fit_anomaly(np.array(usual))
    for kind, found in rows.items():
        if not any(is_true for _, is_true, *_ in found):
            continue
        features, target, groups, healthy, replaced = (np.array(part) for part in zip(*found))
        numbers, probability = fit.fit_logistic(features, target, groups)
        table["logistic"][f"{kind} {subset}"] = numbers
        if subset == SUBSETS[0]:
            false = probability[~target & healthy]
            least = fit.threshold(false, normal, FALSE_PER_EXAM[kind])
            table["listed_from"][kind] = max(round(least, 4), LEAST_LISTED[kind])
            listed = probability >= table["listed_from"][kind]
            metrics[kind] = {
                "candidates": len(target),
                "true": int(target.sum()),
                "auc": round(fit.auc(probability, target), 4),
                "ece": round(fit.calibration_error(probability, target), 4),
                "share_of_true_listed": round(float(listed[target].mean()), 4),
                "false_per_normal_exam": round(float(listed[~target & healthy].sum() / normal), 4),
                "normal_exams": normal,
            }
        if kind == "water" and replaced[target].any():
            numbers, _ = fit.fit_logistic(features[target], replaced[target], groups[target])
            table["logistic"][f"replacement {subset}"] = numbers


def judged(one: Candidate, exam: Example, anatomy: Anatomy) -> tuple[bool | None, bool]:
    """Return whether a candidate is a lesion, and whether that is marrow that was replaced.

    None where it is neither one thing nor the other: it only touches a lesion, or is what
    healthy people have of the same kind.
    """
    numbers = exam.lesions[anatomy.box][tuple(one.voxels.T)]
    counts = np.bincount(numbers, minlength=256)
    touched, best, replaced, whole = 0.0, 0.0, False, 0.0
    for lesion in exam.truth:
        if lesion.type not in TYPES[one.kind]:
            continue
        share = counts[lesion.number] / len(numbers)
        if lesion.normal:
            if share > TOUCH and one.kind == "water":
                return None, False
            continue
        touched += share
        whole = max(whole, counts[lesion.number] * anatomy.voxel_ml / max(lesion.volume_ml, 0.05))
        if share > best:
            best, replaced = share, lesion.type is FindingType.REPLACEMENT_LIKE
    if whole > WHOLE or touched >= OVERLAP:
        return True, replaced
    return (None, False) if touched > TOUCH else (False, False)
