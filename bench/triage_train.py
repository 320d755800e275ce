"""Fits the numbers of triage on simulated exams: ``train(out, exams, seed)``.

Here because exams come from the virtual scanner and features from the gadgets, and only benchmarks
may use both; the mathematics is `engines.training.triage`. Deterministic. Synthetic throughout.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.triage_exams import FITTED, Sampled, SimulatedExam, render, sample
from engines.engine import Engine, load_engine
from engines.training import triage as fit
from gadgets.label import label
from gadgets.triage_anatomy import Anatomy, find_anatomy
from gadgets.triage_model import KINDS, WEIGHTINGS, Parameters, quadratic
from gadgets.triage_regions import FEATURES, Candidate, candidates
from gadgets.triage_signal import Signal, signal_of
from gadgets.triage_unusual import unusual
from protocols.findings import FindingType
from scanner.disease import HELD_OUT
from scanner.tissues import Label

SLICES = 17
FEWER = 3
"""With fewer contrasts, every so manieth round of `MIX` will do."""
MIX = (
    "healthy", "si_oedema", "healthy", "modic", "healthy", "corner", "healthy", "metastasis",
    "si_oedema", "healthy", "facet", "si_structural",
)  # fmt: skip
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
_TISSUES = {
    "water": (
        Label.OEDEMA, Label.FIBROVASCULAR_MARROW, Label.LYTIC_TUMOUR, Label.FRACTURE_OEDEMA,
        Label.PANNUS,
    ),
    "fat": (Label.FATTY_MARROW,),
    "dark": (Label.SCLEROTIC_BONE, Label.SCLEROTIC_TUMOUR),
}  # fmt: skip
"""What each kind of share stands for, of what is fitted on."""


def train(out: Path, exams: int, seed: int) -> Path:
    """Fit on simulated exams and write `triage_parameters.json`.

    Parameters
    ----------
    out : Path
        Folder.
    exams : int
        Patients.
    seed : int

    Returns
    -------
    Path
        Of the JSON: numbers, and how they were made.

    Raises
    ------
    EngineUnavailable
        There are no weights of the labelling network: its labels are what triage will be given.
    """
    patients = (
        sample(np.random.default_rng((FITTED + seed, SLICES, n)), MIX[n % len(MIX)], SLICES)
        for n in range(exams)
    )
    table = fitted(patients, seed, load_engine("labels"))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "triage_parameters.json"
    path.write_text(json.dumps(table, indent=1) + "\n")
    return path


def fitted(patients: Iterable[Sampled], seed: int, engine: Engine) -> dict[str, Any]:
    """Return the table of numbers from sampled patients, in order."""
    looked = [one for n, patient in enumerate(patients) for one in _looks(patient, seed, n, engine)]
    assert not {exam.family for exam, *_ in looked} & set(HELD_OUT)
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
        used = [one for one in looked if one[2] // len(MIX) % every == 0]
        rows = [
            (exam, anatomy, signal, n)
            for exam, anatomy, n, *_ in used
            if (signal := _signal(anatomy, exam, subset, Parameters(table))) is not None
        ]
        _fit_subset(table, metrics, subset, rows)
    features = [
        unusual(anatomy, signal)
        for exam, anatomy, *_ in looked
        if exam.family == "healthy"
        and (signal := _signal(anatomy, exam, SUBSETS[0], Parameters(table))) is not None
    ]
    table["anomaly"] = fit.fit_anomaly(np.array(features))
    table["recipe"] = {
        "made_by": "bench.triage_train",
        "patients": len({n for _, _, n, *_ in looked}),
        "seed": seed,
        "families": sorted({exam.family for exam, *_ in looked}),
        "never_trained_on": list(HELD_OUT),
        "features": list(FEATURES),
        "labels": "exact, and of the network on one of the series in turn",
    }
    table["metrics_of_held_out_folds"] = metrics
    table["limits"] = (
        "Simulated exams only: sagittal T1, T2 and STIR at 1.5 and 3 T, pixels of 1.1 to 1.5 mm, "
        "pitch 4.4 mm. Not clinically validated."
    )
    return table


Looked = tuple[SimulatedExam, Anatomy, int, dict[str, np.ndarray], np.ndarray]


def _looks(patient: Sampled, seed: int, number: int, engine: Engine) -> Iterator[Looked]:
    """Yield the rendered exam with exact labels, and with those of the network.

    With ratios and true shares of some voxels. Nothing where there is no bone.
    """
    true = shares(patient)
    rng = np.random.default_rng((FITTED + seed, 9, number))
    exam = render(rng, patient)
    given = label(exam.series[number // 2 % len(exam.series)], engine)
    for labels in (exam.labels, given):
        anatomy = find_anatomy(labels, patient.volume)
        signal = anatomy and _signal(anatomy, exam, SUBSETS[0], None)
        if not anatomy or not signal:
            continue
        stacked = np.stack([true[kind][anatomy.box] for kind in KINDS], axis=-1)[anatomy.core]
        ill = rng.permutation(np.flatnonzero(stacked.max(axis=1) > SOME))[: _VOXELS // 2]
        well = rng.permutation(np.flatnonzero(stacked.max(axis=1) <= SOME))[:_VOXELS]
        chosen = np.concatenate([ill, well])
        ratios = {name: signal.ratios[name][anatomy.core][chosen] for name in WEIGHTINGS}
        yield exam, anatomy, number, ratios, stacked[chosen]


def _signal(
    anatomy: Anatomy, exam: SimulatedExam, subset: str, parameters: Parameters | None
) -> Signal | None:
    names = subset.split("+")
    data = {one.weighting: one.data[anatomy.box] for one in exam.series if one.weighting in names}
    return signal_of(anatomy, data, parameters)


def _fit_subset(
    table: dict[str, Any],
    metrics: dict[str, Any],
    subset: str,
    rows: list[tuple[SimulatedExam, Anatomy, Signal, int]],
) -> None:
    normal = sum(exam.family == "healthy" for exam, *_ in rows)
    for kind in KINDS:
        found: list[tuple[np.ndarray, bool, int, bool, bool]] = []
        for exam, anatomy, signal, number in rows:
            for one in candidates(anatomy, signal, kind):
                is_true, mass = judged(one, exam, anatomy)
                if is_true is not None:
                    ill_free = exam.family == "healthy"
                    found.append((one.row, is_true, number, ill_free, mass))
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


def judged(one: Candidate, exam: SimulatedExam, anatomy: Anatomy) -> tuple[bool | None, bool]:
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


def shares(sampled: Sampled) -> dict[str, np.ndarray]:
    """Return what disease has really taken of each voxel, by kind: float32 (z, y, x), 0 to 1."""
    found = {}
    for kind, tissues in _TISSUES.items():
        parts = []
        for half in sampled.halves:
            taken = np.zeros(half.labels.shape, np.float32)
            if half.lesion is not None:
                here = np.isin(half.lesion.labels, tissues)
                taken[here] = np.clip(half.lesion.density[here], 0, 1)
            parts.append(taken)
        found[kind] = np.asarray(np.mean(parts, axis=0), np.float32)
    return found
