"""Synthetic STIR by the shipped network, beside the acquired one of the same simulated patients.

Held-out patients of the first phantom, with oedema of the families that training knows; families
that it does not know (fracture, discitis is in discs); and the second phantom. Of each patient
there is a slice through one lesion, and the same slice without it. T1w, T2w and the acquired STIR
have the same noise. "cnr_ratio": contrast of the lesion against the marrow around it, over the
standard deviation there, synthetic over acquired; median. "sensitivity": lesions that stand out
more than 95 % of the same places without them, beside the acquired STIR: the difference is what is
lost. "outside interval": of the body's voxels, those whose error against the acquired STIR without
noise is beyond the stated 95 % interval. "refused": share of slices of which there is no image.
"""

from typing import Any

import numpy as np

from bench.rows import row
from bench.synthetic import (
    PIXEL_MM,
    SUBTLE,
    T1,
    T2,
    Case,
    Scene,
    case,
    cases,
    noisy,
    of_family,
    other_case,
    sensitivity,
    ssim,
)
from engines.engine import Engine, load_engine
from engines.familiar import scale_of
from gadgets.synthesis.marks import Unavailable
from gadgets.synthesis.network import Made, make
from scanner.disease.sacroiliac import si_oedema
from scanner.disease.vertebral import corner, fracture, metastasis, modic
from scanner.phantom import LesionKind
from scanner.tissues import Label

SNR = 40.0
PEER = "acquired STIR"
_OEDEMA = (LesionKind.OEDEMA, LesionKind.MODIC_1, LesionKind.LYTIC_METASTASIS)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    engine = load_engine("stir")
    count = 4 if quick else 16
    families = (si_oedema, modic, corner, metastasis)
    kinds = [of_family(family, _OEDEMA) for family in families]
    broken = of_family(fracture, (LesionKind.FRACTURE,))
    groups = {
        "oedema": cases(lambda n: case(n, kinds[n % len(kinds)], (0.6, 1.0)), count),
        "subtle oedema": cases(lambda n: case(n + 5000, kinds[n % 3], SUBTLE), count),
        "fracture, never trained on": cases(lambda n: case(n + 9000, broken, (0.6, 1.0)), count),
        "second phantom, oedema": cases(
            lambda n: other_case(n, Label.OEDEMA, (0.02, 0.2), (0.6, 1.0)), count
        ),
        "second phantom, subtle oedema": cases(
            lambda n: other_case(n + 5000, Label.OEDEMA, (0.02, 0.2), SUBTLE), count
        ),
    }
    rows = []
    for name, found in groups.items():
        rows += score(engine, name, found)
    return rows


def synthetic(engine: Engine, scene: Scene, rng: np.random.Generator) -> tuple[Made, float]:
    """Return the synthetic STIR of a scene, and its scale.

    Raises
    ------
    Unavailable
    """
    images = [noisy(scene.image(sequence), SNR, rng) for sequence in (T1, T2)]
    scales = [scale_of(image) for image in images]
    channels = np.stack([image / scale for image, scale in zip(images, scales)])[:, None]
    made = make(engine, channels, (PIXEL_MM, PIXEL_MM), SNR)
    return made, scales[1]


def score(engine: Engine, name: str, found: list[Case]) -> list[dict[str, Any]]:
    """Return the rows of some cases."""
    ours: dict[str, list[float]] = {n: [] for n in ("sick", "well", "cnr", "ssim", "outside")}
    peer: dict[str, list[float]] = {n: [] for n in ("sick", "well", "ssim")}
    refused = 0
    for number, one in enumerate(found):
        for kind, scene in (("sick", one.sick), ("well", one.well)):
            rng = np.random.default_rng((number, kind == "well"))
            truth = scene.stir()
            acquired = noisy(truth, SNR, rng)
            try:
                made, scale = synthetic(engine, scene, rng)
            except Unavailable:
                refused += 1
                continue
            image = np.maximum(made.image[0], 0) * scale
            ours[kind].append(one.contrast(image))
            peer[kind].append(one.contrast(acquired))
            if kind == "well":
                continue
            off = np.abs(image - truth) > made.interval[0] * scale
            ours["outside"].append(float(off[scene.body].mean()))
            ours["ssim"].append(ssim(image, truth))
            peer["ssim"].append(ssim(acquired, truth))
            ratio = _cnr(one, image) / _cnr(one, acquired)
            ours["cnr"].append(ratio)
    refusals = _row(name, "refused", refused / (2 * len(found)), None, "lower")
    if not ours["sick"] or not ours["well"]:
        return [refusals]
    seen, acquired_seen = (sensitivity(part["sick"], part["well"]) for part in (ours, peer))
    contrast = np.array(ours["sick"]) / np.array(peer["sick"])
    structure, of_peer = (float(np.median(part["ssim"])) for part in (ours, peer))
    return [
        _row(name, "ssim", structure, of_peer, "higher"),
        _row(name, "cnr_ratio", float(np.median(ours["cnr"])), None, "higher"),
        _row(name, "contrast ratio", float(np.median(contrast)), None, "higher"),
        _row(name, "sensitivity", seen, acquired_seen, "higher"),
        _row(name, "sensitivity_loss", acquired_seen - seen, None, "lower"),
        _row(name, "outside interval", float(np.mean(ours["outside"])), None, "lower"),
        refusals,
    ]


def _cnr(one: Case, image: np.ndarray) -> float:
    return one.contrast(image) / float(image[one.ring].std())


def _row(case: str, measure: str, ours: float, peer: float | None, better: str) -> dict[str, Any]:
    return row("synth_stir", case, measure, ours, PEER, peer, better, "")
