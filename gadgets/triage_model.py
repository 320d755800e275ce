"""The fitted numbers of triage, and how they are applied: regressions and calibrated logistics.

Parameters ship as `triage_parameters.json` beside this file, made by `gadgets.triage_fit` from
simulated exams; what they are good for is said in `triage_card.md`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

KINDS = ("water", "fat", "dark")
"""What may take a share of the marrow."""
WEIGHTINGS = ("stir", "t1", "t2")
"""On which shares depend; fat-suppressed T2 counts as STIR."""
SHIPPED = Path(__file__).with_name("triage_parameters.json")


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised features, and its calibration."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    slope: float
    shift: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 (n), of features (n, feature)."""
        standard = np.clip((features - self.mean) / self.scale, -4, 4)
        score = standard @ self.weights[1:] + self.weights[0]
        return np.asarray(expit(self.slope * score + self.shift))


@dataclass(frozen=True)
class Parameters:
    """All fitted numbers.

    Attributes
    ----------
    table : dict
        The JSON.
    """

    table: Mapping[str, Any]

    def shares(self, weightings: str) -> np.ndarray:
        """Return weights of the shares by series which are there: float32 (term, kind)."""
        return np.array(self.table["shares"][weightings], np.float32)

    def lesion(self, kind: str, weightings: str) -> Logistic | None:
        """Return the classifier of candidates of one kind."""
        return self._logistic(f"{kind} {weightings}")

    def replacement(self, weightings: str) -> Logistic | None:
        """Return what tells marrow that was replaced from oedema."""
        return self._logistic(f"replacement {weightings}")

    def canal(self) -> Logistic | None:
        """Return what judges how narrow a canal is."""
        return self._logistic("canal")

    @property
    def usual(self) -> Mapping[str, float]:
        """Diameter of the sac behind each disc over that behind the bodies, where not narrow."""
        return self.table.get("usual_sac", {})

    def listed_from(self, kind: str) -> float:
        """Return the probability from which on a candidate is a finding."""
        return float(self.table["listed_from"].get(kind, 1.1))

    def anomaly(self, features: np.ndarray) -> float:
        """Return the share of normal exams that are less unusual than this one, 0 to 1."""
        fitted = self.table["anomaly"]
        standard = (features - np.array(fitted["mean"])) / np.array(fitted["scale"])
        distance = float(np.sum(np.clip(standard, 0, 8) ** 2))
        return float(np.interp(distance, fitted["distances"], fitted["shares"]))

    def _logistic(self, name: str) -> Logistic | None:
        found = self.table["logistic"].get(name)
        if found is None:
            return None
        mean, scale, weights = (np.array(found[key]) for key in ("mean", "scale", "weights"))
        return Logistic(mean, scale, weights, float(found["slope"]), float(found["shift"]))


@cache
def shipped() -> Parameters:
    """Return the parameters that come with the program."""
    return Parameters(json.loads(SHIPPED.read_text()))


def quadratic(values: np.ndarray) -> np.ndarray:
    """Return 1, the values, all their products and their exponentials: (n, 3) to (n, 13)."""
    count = values.shape[-1]
    pairs = [values[..., i] * values[..., j] for i in range(count) for j in range(i, count)]
    parts = [np.ones(values.shape[:-1], values.dtype), *np.moveaxis(values, -1, 0), *pairs]
    return np.stack([*parts, *np.moveaxis(np.exp(np.minimum(values, 1.5)), -1, 0)], axis=-1)
