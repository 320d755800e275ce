"""Simulated findings that have nothing to do with the SI joints: they compete for the one question.

Rates are assumptions, except sclerosis beside the SI joint in 46 of 100 people without disease.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from protocols.findings import Finding

SCLEROSIS = 0.46
NARROW_CANAL = {"L4/L5": 0.06, "L3/L4": 0.03, "L2/L3": 0.006, "L1/L2": 0.003}
REPLACEMENT = 0.01


def others(rng: np.random.Generator) -> Iterator[Finding]:
    """Yield the other findings of one exam; the first of their series shows them."""
    if rng.random() < SCLEROSIS:
        yield _finding(
            "sclerosis-0",
            "sclerosis_like",
            "sacral_subchondral",
            rng,
            side=str(rng.choice(["left", "right"])),
            depth_mm=2.0,
            series=("t1_tse_sag",),
        )
    for level, rate in NARROW_CANAL.items():
        if rng.random() < rate:
            yield _finding(
                f"canal-{level}",
                "canal_narrow",
                "canal",
                rng,
                level=level,
                series=("t2_tse_sag",),
            )
    if rng.random() < REPLACEMENT:
        yield _finding(
            "marrow-0", "replacement_like", "vertebra", rng, level="L2", series=("t1_tse_sag",)
        )


def _finding(
    name: str, kind: str, structure: str, rng: np.random.Generator, **rest: Any
) -> Finding:
    fields: dict[str, Any] = {
        "id": name,
        "type": kind,
        "structure": structure,
        "centre_mm": (0.0, 30.0, -60.0),
        "extent_mm": (15.0, 12.0, 12.0),
        "volume_ml": 2.0,
        "cnr": round(rng.uniform(3, 10), 2),
        "probability": round(rng.beta(5, 1.5), 4),
        "slices": (6, 7, 8),
        "adjacent_slices": 3,
        "area_mm2": 120.0,
    }
    return Finding(**{**fields, **rest})
