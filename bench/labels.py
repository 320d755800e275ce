"""Labelling of the spine, scored against the exact truth of held-out simulated patients.

Both phantoms: the one whose patients trained the network, and a second one of another make. The
targets stand where other benchmarks have a peer. Images are simulated: nothing here says how well
it does on patients.
"""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.label_exams import Labelled, exams
from bench.rows import row
from engines.engine import Options, load_engine
from gadgets.items import LabelMap
from gadgets.label import label
from scanner.structures import LABEL, VERTEBRAE

NEAR_MM = 10.0
"""A named centre is that of a vertebra no further away."""
_TARGETS = {
    "first phantom": {"vertebra": 0.94, "disc": 0.90, "canal": 0.92},
    "second phantom": {"vertebra": 0.85, "disc": 0.80, "canal": 0.85},
}


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows for both phantoms, and for patients with transitional anatomy."""
    engine = load_engine("labels", options=Options(threads=2))
    rows: list[dict[str, Any]] = []
    for case, other, n in (
        ("first phantom", False, 4 if quick else 200),
        ("second phantom", True, 2 if quick else 60),
    ):
        normal = [_scored(one, engine) for one in exams(n, other, 0.0)]
        rows += _normal_rows(case, normal)
        doubtful = [_scored(one, engine) for one in exams(n // 2, other, 1.0)]
        flagged = [score["levels"] < 0.5 for score in doubtful]
        wrong = [score["levels"] >= 0.5 and not score["right"] for score in doubtful]
        rows.append(_share(f"{case}, transitional", "flagged", flagged, 0.95, "higher"))
        rows.append(_share(f"{case}, transitional", "wrong", wrong, 0.02, "lower"))
    return rows


def _normal_rows(case: str, scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    right = [bool(score["right"]) for score in scores]
    rows = [_share(case, "level_accuracy", right, 0.99, "higher")]
    flagged = [score["levels"] < 0.5 for score in scores]
    rows.append(_share(case, "flagged_though_normal", flagged, None, "lower"))
    errors = np.concatenate([score["errors"] for score in scores])
    rows.append(_mean(case, "centre_error_mm", errors, 2.0, "lower", "mm"))
    for kind, target in _TARGETS[case].items():
        dice = np.array([score[kind] for score in scores])
        rows.append(_mean(case, f"dice_{kind}", dice, target, "higher", ""))
    seconds = np.array([score["seconds"] for score in scores])
    rows.append(_mean(case, "seconds", seconds, 1.0, "lower", "s"))
    return rows


def _scored(one: Labelled, engine: Any) -> dict[str, Any]:
    start = time.perf_counter()
    found = label(one.series, engine)
    seconds = time.perf_counter() - start
    errors, right = _centres(one, found)
    truth = one.structures
    return {
        "seconds": seconds,
        "right": right,
        "errors": errors,
        "levels": found.confidence["levels"],
        "vertebra": _dice(_of(found, _is_body), np.isin(truth, [LABEL[v] for v in VERTEBRAE])),
        "disc": _dice(_of(found, _is_disc), np.isin(truth, _discs())),
        "canal": _dice(_of(found, lambda name: name == "canal"), truth == LABEL["canal"]),
    }


def _centres(one: Labelled, found: LabelMap) -> tuple[np.ndarray, bool]:
    """Errors in mm of named centres; whether no name is wrong and L1 to L5 are there."""
    true = {name: at for name, at in one.landmarks.items() if name in VERTEBRAE}
    errors, named_right, wrong = [], set(), False
    for name, at in found.landmarks.items():
        if "_" in name or name not in (*VERTEBRAE, *_others(found)):
            continue
        nearest = min(true, key=lambda other: float(np.linalg.norm(true[other] - at)))
        off = float(np.linalg.norm(true[nearest] - at))
        if nearest == name and off < NEAR_MM:
            errors.append(off)
            named_right.add(name)
        elif off < NEAR_MM:
            wrong = True
    wanted = {name for name in true if name[0] == "L"}
    return np.array(errors), not wrong and wanted <= named_right


def _others(found: LabelMap) -> tuple[str, ...]:
    return tuple(name for name in found.landmarks if name[0] in "CT" and name[1:].isdigit())


def _is_body(name: str) -> bool:
    return ("/" not in name and name[:1] in ("C", "T", "L", "v")) or name == "S1"


def _is_disc(name: str) -> bool:
    return "/" in name


def _discs() -> list[int]:
    return [number for name, number in LABEL.items() if "/" in name]


def _of(found: LabelMap, wanted: Any) -> np.ndarray:
    numbers = [number for number, name in enumerate(found.names) if name and wanted(name)]
    return np.isin(found.labels, numbers)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _share(
    case: str, measure: str, hits: Iterable[bool], target: float | None, better: str
) -> dict[str, Any]:
    """Share of hits with its Wilson interval."""
    values = np.array(list(hits), float)
    n, p, z = len(values), float(values.mean()), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    label_ = f"{case}, n={n}, 95 % {middle - half:.3f} to {middle + half:.3f}"
    return row("labels", label_, measure, p, "target", target, better, "")


def _mean(
    case: str, measure: str, values: np.ndarray, target: float, better: str, unit: str
) -> dict[str, Any]:
    """Mean with its bootstrap interval; not a number where there is none."""
    if not len(values):
        return row("labels", f"{case}, n=0", measure, float("nan"), "target", target, better, unit)
    rng = np.random.default_rng(0)
    means = rng.choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    label_ = f"{case}, n={len(values)}, 95 % {low:.3f} to {high:.3f}"
    return row("labels", label_, measure, float(values.mean()), "target", target, better, unit)
