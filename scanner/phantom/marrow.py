"""Texture of bone marrow: patchy red and yellow marrow whose mean follows age.

Mean fat fractions: PDFF of L1-L4 at 3 T by decade (fendo.2018.00141), near 0.55 in old age
(general knowledge). Patches of 5-15 mm are the main normal variant that resembles oedema, so they
are always there, faint in some patients and strong in others; islands with a border of their own
come from `scanner.disease.healthy`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from scanner.phantom.canvas import Canvas
from scanner.tissues import Label


def mean_fat_fraction(age: float) -> float:
    """Mean marrow fat fraction of the lumbar bodies at an age in years."""
    return float(np.clip(0.14 + 0.0055 * age, 0.2, 0.62))


@lru_cache(maxsize=64)
def patchiness(seed: int) -> float:
    """Strength of the patches of one patient: 1 on average, 0.5 to 2."""
    return float(np.exp(np.random.default_rng((seed, 77)).uniform(np.log(0.5), np.log(2.0))))


def paint_marrow(
    canvas: Canvas, index: np.ndarray, mask: np.ndarray, shift: np.ndarray | float
) -> None:
    """Paint marrow; `shift` moves the local mean fat fraction."""
    inside = index[mask]
    patient = canvas.patient
    coarse = canvas.rough[:, inside]
    fine = patient.texture_noise(
        canvas.x[inside], canvas.y[inside], canvas.z[inside], (2.6, 2.6, 3.6), 2
    )
    local_shift = shift[mask] if isinstance(shift, np.ndarray) else shift
    fat = mean_fat_fraction(patient.parameters.age) + local_shift
    patches = 0.055 * coarse[1] + 0.035 * coarse[2] * np.abs(coarse[3])
    fat = fat + np.float32(patchiness(patient.parameters.seed)) * patches + 0.05 * fine[0]
    canvas.labels[inside] = Label.MARROW
    canvas.fat[inside] = np.clip(fat, 0.06, 0.88)
    canvas.density[inside] = 1 + 0.05 * fine[1]
