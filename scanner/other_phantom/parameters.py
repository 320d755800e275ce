"""What varies between patients of the second phantom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


class OtherParameterError(ValueError):
    """A parameter of the second phantom lies out of range."""


@dataclass(frozen=True)
class OtherParameters:
    """One patient.

    Attributes
    ----------
    age : float
        Years, 18-95.
    scale : float
        Of everything, 0.8-1.2.
    lordosis_deg, sacral_slope_deg : float
        Angle between the upper end plates of L1 and S1; of the latter with the horizontal.
    sacral_bend_deg : float
        From S1 to S5.
    lateral_deg : float
        Largest coronal tilt of a vertebra: scoliosis.
    wear : float
        Disc degeneration beside that of age, -0.5 to 1.
    lumbar_bodies : int
        4, 5 or 6.
    transitional : "", "sacralised" or "lumbarised"
    fatness : float
        Subcutaneous fat, 0-1.
    seed : int
    """

    age: float = 50.0
    scale: float = 1.0
    lordosis_deg: float = 46.0
    sacral_slope_deg: float = 38.0
    sacral_bend_deg: float = 55.0
    lateral_deg: float = 1.5
    wear: float = 0.0
    lumbar_bodies: int = 5
    transitional: Literal["", "sacralised", "lumbarised"] = ""
    fatness: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "age": (18, 95),
            "scale": (0.8, 1.2),
            "lordosis_deg": (20, 75),
            "sacral_slope_deg": (15, 60),
            "sacral_bend_deg": (20, 90),
            "lateral_deg": (0, 12),
            "wear": (-0.5, 1),
            "lumbar_bodies": (4, 6),
            "fatness": (0, 1),
            "seed": (0, 2**32 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OtherParameterError(f"{name} must lie in {low} to {high}, got {value!r}")
        if self.transitional not in ("", "sacralised", "lumbarised"):
            raise OtherParameterError(f"unknown transitional form {self.transitional!r}")

    @property
    def levels_are_typical(self) -> bool:
        """Whether a reader may number the levels without doubt."""
        return self.lumbar_bodies == 5 and not self.transitional


def random_other_parameters(
    rng: np.random.Generator, transitional: float = 0.08
) -> OtherParameters:
    """Draw one patient; `transitional` is the probability of doubtful numbering."""
    lordosis = float(np.clip(rng.normal(46, 10), 24, 70))
    bodies, form = 5, ""
    if rng.random() < transitional:
        bodies, form = ((5, "sacralised"), (5, "lumbarised"), (4, ""), (6, ""))[
            rng.choice(4, p=[0.45, 0.35, 0.1, 0.1])
        ]
    return OtherParameters(
        age=float(rng.uniform(20, 88)),
        scale=float(np.clip(rng.normal(0.99, 0.05), 0.85, 1.13)),
        lordosis_deg=lordosis,
        sacral_slope_deg=float(np.clip(0.55 * lordosis + rng.normal(13, 4), 20, 56)),
        sacral_bend_deg=float(rng.uniform(35, 75)),
        lateral_deg=float(min(rng.exponential(1.5), 9)),
        wear=float(rng.uniform(-0.3, 0.5)),
        lumbar_bodies=bodies,
        transitional=form,  # type: ignore[arg-type]
        fatness=float(rng.uniform(0.1, 0.9)),
        seed=int(rng.integers(1 << 31)),
    )
