"""Real water and fat of one phase: what two echoes allow.

Bydder et al., Magn Reson Imaging 29 (2011) 216: the phase which suits both best has a closed form,
and water and fat are real then.
"""

from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from gadgets.synthesis.water_fat_model import ASSUMED_R2STAR, EchoModel


class CommonPhase(NamedTuple):
    """Water and fat of one phase, neither negative.

    Attributes
    ----------
    water, fat : float32 (z, y, x)
    phase : complex64 (z, y, x)
        Of magnitude 1.
    misfit : float32 (z, y, x)
        Sum over echoes of the squared magnitude that is not explained.
    """

    water: Any
    fat: Any
    phase: Any
    misfit: Any


def common_phase(echoes: Any, model: EchoModel, field_hz: Any) -> CommonPhase:
    """Return the best water and fat at a field, R2* being `ASSUMED_R2STAR`.

    Parameters
    ----------
    echoes : complex64 (echo, z, y, x)
    model : EchoModel
    field_hz : float32 (z, y, x) or float
    """
    xp = array_api_compat.array_namespace(echoes)
    columns = (np.exp(-ASSUMED_R2STAR * model.te_s)[:, None] * model.matrix).astype(np.complex64)
    gram = (columns.conj().T @ columns).real
    inverse = np.linalg.inv(gram.astype(np.float64))
    ww, wf, ff = (np.float32(gram[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b, c = (np.float32(inverse[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    first: Any = 0
    second: Any = 0
    for echo, te, (of_water, of_fat) in zip(echoes, model.te_s, columns.conj()):
        turned = echo * xp.exp(xp.asarray(field_hz * np.complex64(-2j * np.pi * te)))
        first, second = first + turned * of_water, second + turned * of_fat
    square = a * first * first + 2 * b * first * second + c * second * second
    phase = xp.exp(np.complex64(0.5j) * xp.atan2(square.imag, square.real))
    along_water, along_fat = (xp.conj(phase) * first).real, (xp.conj(phase) * second).real
    water, fat = a * along_water + b * along_fat, b * along_water + c * along_fat
    sign = xp.where(water + fat < 0, np.float32(-1), np.float32(1))
    water, fat, phase = water * sign, fat * sign, phase * sign
    # Where one would be negative it is none, and the other has a phase of its own.
    alone = (water < 0) | (fat < 0)
    is_water = xp.abs(first) ** 2 * ff >= xp.abs(second) ** 2 * ww
    none = np.float32(0)
    water = xp.where(alone, xp.where(is_water, xp.abs(first) / ww, none), water)
    fat = xp.where(alone, xp.where(is_water, none, xp.abs(second) / ff), fat)
    own = xp.where(is_water, first, second)
    own = own / xp.maximum(xp.abs(own), np.float32(1e-20))
    phase = xp.where(alone, own, phase)
    energy = xp.sum(echoes.real**2 + echoes.imag**2, axis=0)
    explained = ww * water**2 + 2 * wf * water * fat + ff * fat**2
    return CommonPhase(water, fat, phase, xp.maximum(energy - explained, none))
