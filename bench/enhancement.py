"""Virtual contrast enhancement by the shipped network, on simulated patients. Research only.

The signal after contrast agent is not determined by images without: in these patients, as in those
of training, a quarter of the lesions take nothing up, and what the others take differs. The figures
say how well the network repeats a rule which the authors wrote, and whether its interval admits
what it cannot know. "ssim": of the image against T1w after contrast agent, beside T1w before.
"interval_coverage": of the voxels, those within the stated 95 % interval: of the body, and of the
lesions. "difference, correlation": of the mean difference of lesions, network against truth.
"""

from typing import Any

import numpy as np

from bench.rows import row
from bench.synthetic import (
    PIXEL_MM,
    T1,
    T2,
    Case,
    case,
    cases,
    noisy,
    of_family,
    other_case,
    ssim,
)
from engines.engine import Engine, load_engine
from engines.familiar import scale_of
from gadgets.synthesis.marks import Unavailable
from gadgets.synthesis.network import make
from scanner.disease.sacroiliac import si_oedema
from scanner.disease.vertebral import metastasis, modic
from scanner.phantom import LesionKind
from scanner.tissues import Label

SNR = 40.0
PEER = "T1w before"
_KINDS = (LesionKind.OEDEMA, LesionKind.MODIC_1, LesionKind.LYTIC_METASTASIS)


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    engine = load_engine("enhancement")
    count = 4 if quick else 16
    choices = [of_family(family, _KINDS) for family in (si_oedema, modic, metastasis)]
    groups = {
        "first phantom": cases(lambda n: case(50_000 + n, choices[n % 3], (0.6, 1.0)), count),
        "second phantom": cases(
            lambda n: other_case(50_000 + n, Label.OEDEMA, (0.02, 0.2), (0.6, 1.0)), count
        ),
    }
    rows = []
    for name, found in groups.items():
        rows += score(engine, name, found)
    return rows


def score(engine: Engine, name: str, found: list[Case]) -> list[dict[str, Any]]:
    """Return the rows of some cases."""
    values: dict[str, list[float]] = {
        n: [] for n in ("ssim", "before", "body", "lesion", "made", "true")
    }
    refused = 0
    for number, one in enumerate(found):
        rng = np.random.default_rng(number)
        before, after = one.sick.image(T1), one.sick.image(T1, after=True)
        seen = [noisy(image, SNR, rng) for image in (before, one.sick.image(T2), one.sick.stir())]
        scales = [scale_of(image) for image in seen]
        channels = np.stack([image / scale for image, scale in zip(seen, scales)])[:, None]
        try:
            made = make(engine, channels, (PIXEL_MM, PIXEL_MM), SNR)
        except Unavailable:
            refused += 1
            continue
        gain = np.maximum(made.image[0], 0) * scales[0]
        within = np.abs(gain - (after - before)) <= made.interval[0] * scales[0]
        values["ssim"].append(ssim(seen[0] + gain, after))
        values["before"].append(ssim(seen[0], after))
        values["body"].append(float(within[one.sick.body].mean()))
        values["lesion"].append(float(within[one.lesion].mean()))
        values["made"].append(float(gain[one.lesion].mean() / scales[0]))
        values["true"].append(float((after - before)[one.lesion].mean() / scales[0]))
    rows = [_row(name, "refused", refused / len(found), None, "lower")]
    if len(values["ssim"]) < 2:
        return rows
    return [
        _row(
            name,
            "ssim",
            float(np.median(values["ssim"])),
            float(np.median(values["before"])),
            "higher",
        ),
        _row(name, "interval_coverage", float(np.mean(values["body"])), None, "higher"),
        _row(name, "interval_coverage, lesions", float(np.mean(values["lesion"])), None, "higher"),
        _row(
            name,
            "difference, correlation",
            float(np.corrcoef(values["made"], values["true"])[0, 1]),
            None,
            "higher",
        ),
        *rows,
    ]


def _row(name: str, measure: str, ours: float, peer: float | None, better: str) -> dict[str, Any]:
    return row("enhancement", name, measure, ours, PEER, peer, better, "")
