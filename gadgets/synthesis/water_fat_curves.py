"""How well each off-resonance explains the echoes of a voxel: a curve, of which voxels add up.

With three echoes or more, the energy which the best water and fat explain at an off-resonance and
an R2* (variable projection: Hernando et al., Magn Reson Med 59 (2008) 571) is a trigonometric
polynomial; its few coefficients are products of echoes. Two echoes fit at any off-resonance, unless
water and fat are real, not negative and of one phase (Berglund et al., Magn Reson Med 65 (2011)
994).
"""

import math
from typing import Any

import array_api_compat
import numpy as np

from gadgets.synthesis.water_fat_model import EchoModel
from gadgets.synthesis.water_fat_two import common_phase

RANGE_HZ = 600.0
"""Off-resonance that is looked for, either way; or `RANGE_PPM`, where that is more."""
RANGE_PPM = 4.0
LABELS_PER_TURN = 8
"""Labels per period of the fastest part of a curve."""
SAMPLES_PER_LABEL = 5
"""Finer samples, of which the best stands for its label: minima are sharp."""
R2STAR = (15.0, 60.0, 140.0)
"""1/s: of which the one counts that suits a block best. Decay must not be taken for fat."""


class Curves:
    """Fit over off-resonance, sampled evenly, as a sum of products of echoes.

    Attributes
    ----------
    hz : float64 (sample)
        `SAMPLES_PER_LABEL` for each label.
    label_hz : float
        From one label to the next.
    """

    def __init__(self, model: EchoModel) -> None:
        self._model = model
        te_s = model.te_s
        reach = max(RANGE_HZ, RANGE_PPM * model.hz_per_ppm)
        self.label_hz = 1 / (LABELS_PER_TURN * (te_s[-1] - te_s[0]))
        self.labels = 2 * math.ceil(reach / self.label_hz) + 1
        samples = self.labels * SAMPLES_PER_LABEL
        self.hz = (np.arange(samples) - samples // 2) * self.label_hz / SAMPLES_PER_LABEL
        self._lags = _lags(te_s)
        turn = 2 * np.pi * np.array([lag for lag, _ in self._lags])[:, None] * self.hz
        self._basis = np.concatenate([np.ones_like(turn[:1]), np.cos(turn), np.sin(turn)])

    def terms(self, echoes: Any, weights: Any) -> Any:
        """Return the coefficients, float32 (term, z, y, x): they add up over voxels."""
        xp = array_api_compat.array_namespace(echoes)
        terms = []
        for r2star in R2STAR:
            columns = np.exp(-r2star * self._model.te_s)[:, None] * self._model.matrix
            projector = columns @ np.linalg.pinv(columns)
            level: Any = 0
            for echo, own in zip(echoes, np.diag(projector).real):
                level = level + (echo.real**2 + echo.imag**2) * np.float32(own)
            parts = []
            for _, pairs in self._lags:
                total: Any = 0
                for j, k in pairs:
                    factor = np.complex64(2 * projector[j, k])
                    total = total + xp.conj(echoes[j]) * echoes[k] * factor
                parts.append(total)
            terms += [level, *(one.real for one in parts), *(one.imag for one in parts)]
        return xp.stack(terms) * weights

    def fit(self, terms: Any) -> Any:
        """Return how much of the signal's energy each off-resonance explains, with the best R2*.

        Parameters
        ----------
        terms : float32 (term, ...)

        Returns
        -------
        float32 (..., sample)
        """
        xp = array_api_compat.array_namespace(terms)
        basis = xp.asarray(self._basis, dtype=xp.float32)
        best: Any = None
        for own in xp.reshape(terms, (len(R2STAR), len(basis), -1)):
            fit = own.T @ basis
            best = fit if best is None else xp.maximum(best, fit)
        return xp.reshape(best, (*terms.shape[1:], len(self.hz)))


def _lags(te_s: np.ndarray) -> list[tuple[float, list[tuple[int, int]]]]:
    """Return the times between two echoes, each with the pairs of echoes that have it."""
    pairs = [(j, k) for j in range(len(te_s)) for k in range(j + 1, len(te_s))]
    lags = np.array([te_s[k] - te_s[j] for j, k in pairs])
    key = np.round(lags / (0.005 * np.diff(te_s).min())).astype(int)
    return [
        (float(lags[key == one].mean()), [pairs[n] for n in np.flatnonzero(key == one)])
        for one in np.unique(key)
    ]


class TwoEchoCurves(Curves):
    """Curves of two echoes: their terms are samples of one period, R2* `ASSUMED_R2STAR`."""

    _PERIOD = LABELS_PER_TURN * SAMPLES_PER_LABEL

    def terms(self, echoes: Any, weights: Any) -> Any:
        """Return samples of a period, float32 (term, z, y, x): they add up over voxels."""
        xp = array_api_compat.array_namespace(echoes)
        step = self.label_hz / SAMPLES_PER_LABEL
        return xp.stack(
            [
                -weights * common_phase(echoes, self._model, n * step).misfit
                for n in range(self._PERIOD)
            ]
        )

    def fit(self, terms: Any) -> Any:
        """Return the curves over the whole range, float32 (..., sample)."""
        xp = array_api_compat.array_namespace(terms)
        place = (np.arange(len(self.hz)) - len(self.hz) // 2) % self._PERIOD
        return xp.moveaxis(terms, 0, -1)[..., xp.asarray(place)]


def curves_of(model: EchoModel) -> Curves:
    """Return the curves for a number of echoes."""
    return TwoEchoCurves(model) if len(model.te_s) == 2 else Curves(model)
