"""Water, fat and R2* of each voxel, from near its off-resonance on.

Least squares over complex water and fat, off-resonance and R2* (Yu et al., Magn Reson Med 60 (2008)
1122), by Gauss-Newton steps in which water and fat are projected out; the steps of off-resonance
and of R2* are then the imaginary and the real part of one complex number. Both are held near a mean
over their surroundings, weakly: as far as the voxel's own data leave them open.

With two echoes there is no R2*, and the field of the surroundings is taken as it is.
"""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from gadgets.synthesis.water_fat_field import JUMP_HZ
from gadgets.synthesis.water_fat_model import ASSUMED_R2STAR, EchoModel
from gadgets.synthesis.water_fat_two import common_phase

STEPS = 3
"""Gauss-Newton steps in each of two rounds; the surroundings are of the round before."""
FIELD_SD_PPM = 0.15
"""How far a voxel's field may lie from the mean around it."""
R2STAR_SD = (100.0, 40.0)
"""1/s: how far R2* may lie from what it is compared with, in the first and in the second round."""
R2STAR_LIMITS = (-30.0, 1000.0)
_SMOOTH = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True)
class Fit:
    """What the echoes of each voxel say.

    Attributes
    ----------
    water, fat : complex64 (z, y, x)
        At echo time 0.
    field_hz, r2star : float32 (z, y, x)
        Hz and 1/s.
    misfit : float32 (z, y, x)
        Sum over echoes of the squared magnitude that is not explained.
    """

    water: Any
    fat: Any
    field_hz: Any
    r2star: Any
    misfit: Any


def fit(echoes: Any, model: EchoModel, weights: Any, field_hz: Any) -> Fit:
    """Fit each voxel, starting at a field map.

    Parameters
    ----------
    echoes : complex64 (echo, z, y, x)
    model : EchoModel
    weights : float32 (z, y, x)
        One over the variance of an echo per real channel.
    field_hz : float32 (z, y, x)
    """
    xp = array_api_compat.array_namespace(echoes)
    field, near = field_hz, smoothed(field_hz, weights * power(echoes))
    r2star = xp.full_like(field, ASSUMED_R2STAR)
    if len(model.te_s) == 2:
        both = common_phase(echoes, model, near)
        return Fit(both.water * both.phase, both.fat * both.phase, near, r2star, both.misfit)
    usual = r2star
    for spread in R2STAR_SD:
        for _ in range(STEPS):
            step = _Step(echoes, model, field, r2star)
            slope = step.slope_power * weights
            pull = np.float32((FIELD_SD_PPM * model.hz_per_ppm) ** -2)
            turn = np.float32(2 * np.pi)
            away = near - field
            away = xp.where(xp.abs(away) < JUMP_HZ / 2, away, np.float32(0))
            down = turn * weights * step.inner.imag + pull * away
            field = field + down / (turn**2 * slope + pull)
            pull = np.float32(spread**-2)
            down = -weights * step.inner.real + pull * (usual - r2star)
            r2star = xp.clip(r2star + down / (slope + pull), *R2STAR_LIMITS)
        near, usual = smoothed(field, slope), smoothed(r2star, slope)
    step = _Step(echoes, model, field, r2star)
    return Fit(step.water, step.fat, field, r2star, step.misfit)


class _Step:
    """Water and fat at a field and R2*, and what a change of these would do."""

    def __init__(self, echoes: Any, model: EchoModel, field: Any, r2star: Any) -> None:
        xp = array_api_compat.array_namespace(echoes)
        matrix, count = model.matrix, len(model.te_s)
        time = [np.float32(t) for t in model.te_s]
        decay = [xp.exp(-r2star * t) for t in time]
        turned = []
        for n in range(count):
            angle = field * np.float32(-2 * np.pi * model.te_s[n])
            phase = xp.empty(angle.shape, dtype=xp.complex64)
            phase.real, phase.imag = xp.cos(angle), xp.sin(angle)
            turned.append(echoes[n] * phase)
        square = [d * d for d in decay]

        def gram(i: int, j: int) -> Any:
            values = np.conj(matrix[:, i]) * matrix[:, j]
            if i == j:
                return sum(s * np.float32(v.real) for s, v in zip(square, values))
            return sum(s * np.complex64(v) for s, v in zip(square, values))

        def against(vectors: list[Any], i: int) -> Any:
            values = np.conj(matrix[:, i]).astype(np.complex64)
            return sum(v * d * value for v, d, value in zip(vectors, decay, values))

        ww, wf, ff = gram(0, 0), gram(0, 1), gram(1, 1)
        size = 1 / xp.maximum(ww * ff - wf.real**2 - wf.imag**2, np.float32(1e-12))

        def solve(vectors: list[Any]) -> tuple[Any, Any]:
            w, f = against(vectors, 0), against(vectors, 1)
            return (ff * w - wf * f) * size, (ww * f - xp.conj(wf) * w) * size

        self.water, self.fat = solve(turned)
        modelled = [d * (self.water + self.fat * np.complex64(c)) for d, c in zip(decay, model.fat)]
        scaled = [t * s for t, s in zip(time, modelled)]
        w, f = solve(scaled)
        slopes = [s - d * (w + f * np.complex64(c)) for s, d, c in zip(scaled, decay, model.fat)]
        left = [y - s for y, s in zip(turned, modelled)]
        self.slope_power = sum(g.real**2 + g.imag**2 for g in slopes)
        self.inner = sum(xp.conj(g) * e for g, e in zip(slopes, left))
        self.misfit = sum(e.real**2 + e.imag**2 for e in left)


def power(echoes: Any) -> Any:
    """Return the energy of (echo, z, y, x), float32 (z, y, x)."""
    xp = array_api_compat.array_namespace(echoes)
    return xp.sum(echoes.real**2 + echoes.imag**2, axis=0)


def smoothed(values: Any, weights: Any) -> Any:
    """Return the weighted mean over a small neighbourhood in the slice, float32 (z, y, x)."""
    xp = array_api_compat.array_namespace(values)
    tiny = np.float32(1e-9) * xp.mean(weights) + np.float32(1e-30)
    weights = weights + tiny
    above, below = values * weights, weights
    for axis in (1, 2):
        above, below = _blurred(above, axis), _blurred(below, axis)
    return above / below


def _blurred(values: Any, axis: int) -> Any:
    xp = array_api_compat.array_namespace(values)
    n = values.shape[axis]
    if n == 1:
        return values
    widths = [(0, 0)] * values.ndim
    widths[axis] = (2, 2)
    padded = xp.pad(values, widths)
    total: Any = 0
    for shift, factor in enumerate(_SMOOTH):
        part = [slice(None)] * values.ndim
        part[axis] = slice(shift, shift + n)
        total = total + padded[tuple(part)] * np.float32(factor)
    return total
