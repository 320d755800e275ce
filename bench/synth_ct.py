"""Synthetic CT by the shipped network, beside T1w of the same simulated patients.

Held-out patients of the first phantom and the second phantom. Of each patient there is a slice
through one lesion of the sacroiliac joint (sclerosis, erosion, ankylosis; in the second phantom
sclerotic ellipsoids), and the same slice without it. "mae_hu": mean absolute error in bone (above
150 HU, or marrow), of the median patient, in HU; the peer is what T1w alone gives: the best cubic
from its signal to HU, fitted on the very images that it is scored on. "sensitivity": lesions that
stand out from their surroundings more than 95 % of the same places without them, in the direction
in which CT shows them, beside T1w (a lesion dark or bright, whichever finds more). "outside
interval": of the body's voxels, those beyond the stated 95 % interval. All HU are the phantom's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.rows import row
from bench.synthetic import (
    PIXEL_MM,
    T1,
    Case,
    Scene,
    case,
    cases,
    noisy,
    of_family,
    other_case,
    sensitivity,
)
from engines.engine import Engine, load_engine
from gadgets.synthesis.marks import Unavailable
from gadgets.synthesis.synthetic_ct import hounsfield
from scanner.disease.sacroiliac import si_structural
from scanner.phantom import LesionKind
from scanner.tissues import Label

SNR = 50.0
PEER = "T1w alone"
SEVERITY = (0.6, 1.0)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    engine = load_engine("ct")
    count = 4 if quick else 16

    def ours(kind: LesionKind, first: int) -> Callable[[int], Case | None]:
        choose = of_family(si_structural, (kind,))
        return lambda number: case(first + number, choose, SEVERITY)

    groups = {
        "sclerosis": cases(ours(LesionKind.SCLEROSIS, 20_000), count),
        "erosion": cases(ours(LesionKind.EROSION, 30_000), count),
        "ankylosis": cases(ours(LesionKind.ANKYLOSIS, 40_000), count),
        "second phantom, sclerosis": cases(
            lambda n: other_case(20_000 + n, Label.SCLEROTIC_BONE, (0.15, 0.35), SEVERITY), count
        ),
    }
    rows = []
    for name, found in groups.items():
        rows += score(engine, name, found)
    return rows


def score(engine: Engine, name: str, found: list[Case]) -> list[dict[str, Any]]:
    """Return the rows of some cases."""
    ours: dict[str, list[float]] = {n: [] for n in ("sick", "well", "mae", "outside", "kept")}
    peer: dict[str, list[float]] = {n: [] for n in ("sick", "well", "mae")}
    true: list[float] = []
    refused = 0
    for number, one in enumerate(found):
        for kind, scene in (("sick", one.sick), ("well", one.well)):
            rng = np.random.default_rng((number, kind == "well"))
            maps, sigma = scene.water_fat(SNR, rng)
            t1 = noisy(scene.image(T1), SNR, rng)
            try:
                made = hounsfield(engine, maps, (PIXEL_MM, PIXEL_MM), sigma)
            except Unavailable:
                refused += 1
                continue
            image = made.image[0]
            ours[kind].append(one.contrast(image))
            peer[kind].append(one.contrast(t1) / float(t1[one.ring].mean()))
            if kind == "well":
                continue
            off = np.abs(image - scene.hu)
            bone = scene.body & (scene.marrow | (scene.hu > 150))
            ours["mae"].append(float(off[bone].mean()))
            peer["mae"].append(_by_signal(t1, scene, bone))
            ours["outside"].append(float((off > made.interval[0])[scene.body].mean()))
            true.append(one.contrast(scene.hu))
            ours["kept"].append(ours["sick"][-1] / true[-1])
    rows = [_row(name, "refused", refused / (2 * len(found)), None, "lower", "")]
    if not ours["sick"] or not ours["well"]:
        return rows
    sign = 1.0 if np.median(true) > 0 else -1.0
    seen = _sensitivity(ours, (sign,))
    by_t1 = _sensitivity(peer, (1.0, -1.0))
    mae, peer_mae = (float(np.median(part["mae"])) for part in (ours, peer))
    kept, outside = float(np.median(ours["kept"])), float(np.mean(ours["outside"]))
    lesion = name.rpartition(", ")[2]
    return [
        _row(name, "mae_hu", mae, peer_mae, "lower", "HU"),
        _row(name, f"{lesion}_sensitivity", seen, by_t1, "higher", ""),
        _row(name, "contrast kept", kept, None, "higher", ""),
        _row(name, "outside interval", outside, None, "lower", ""),
        *rows,
    ]


def _sensitivity(part: dict[str, list[float]], signs: tuple[float, ...]) -> float:
    return max(
        sensitivity([s * v for v in part["sick"]], [s * v for v in part["well"]]) for s in signs
    )


def _by_signal(t1: np.ndarray, scene: Scene, bone: np.ndarray) -> float:
    """Return the mean absolute error of the best cubic from T1w to HU within bone."""
    fit = np.polynomial.Polynomial.fit(t1[bone], scene.hu[bone], 3)
    return float(np.abs(fit(t1[bone]) - scene.hu[bone]).mean())


def _row(
    name: str, measure: str, ours: float, peer: float | None, better: str, unit: str
) -> dict[str, Any]:
    return row("synth_ct", name, measure, ours, PEER, peer, better, unit)
