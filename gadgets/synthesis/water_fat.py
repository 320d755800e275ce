"""Water-fat imaging: from the echoes of a multi-echo gradient echo to water, fat, PDFF and R2*.

Physics only. Read in this order:

========================================  ======================================================
`gadgets.synthesis.water_fat_model`       the signal of water and fat over echo times
`gadgets.synthesis.water_fat_curves`      how well each off-resonance explains a voxel's echoes
`gadgets.synthesis.water_fat_field`       the field map, without swaps of water and fat
`gadgets.synthesis.water_fat_fit`         water, fat, off-resonance and R2* of each voxel
`gadgets.synthesis.water_fat_gadget`      in a chain: echoes in, derived images out
========================================  ======================================================

What it cannot tell: with two echoes there is no R2* (`ASSUMED_R2STAR` stands for it), and the
choice between water and fat rests on the field being smooth and near the scanner's frequency on
the whole. With more, the peaks of fat besides the main one tell. Where spacing is uniform the field
is known up to a multiple of one over the spacing, which does not touch water and fat.
"""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from gadgets.synthesis.marks import Unavailable
from gadgets.synthesis.water_fat_curves import Curves, curves_of
from gadgets.synthesis.water_fat_field import block_sizes, block_sums, field_map
from gadgets.synthesis.water_fat_fit import Fit, fit, power, smoothed
from gadgets.synthesis.water_fat_model import EchoModel, echo_model

MODEL_ERROR = 0.1
"""Of an echo's magnitude: how far the model is from any real voxel."""
MODEL_ERROR_OF_TWO = 0.05
"""The same for two echoes, which any field fits nearly: the little that they tell is to count."""
CLEARLY = 1e-4
"""By which the other sense of precession must explain more of the signal, relative to all."""
SEEN_SIGMAS = (2.0, 3.0)
"""Root mean square of the echoes, in noise sigmas, below which a voxel shows nothing: its own, and
that of its surroundings. In opposed phase a voxel of half water and half fat has little signal."""
DARKEST = 0.01
"""Of the bright voxels: below is no part of the object either."""
LEAST_SEEN = 0.002
"""Part of the voxels that must show something."""
LEAST_SNR = 5.0
"""Of the object's median voxel."""
LARGEST_RESIDUAL = 0.2
"""Of the object's median voxel, beyond noise, relative to its signal."""


@dataclass(frozen=True)
class WaterFatMaps:
    """Water and fat, and what was found with them; all (z, y, x).

    Attributes
    ----------
    water, fat : complex64
        At echo time 0, in the units of the echoes.
    pdff : float32
        Fraction of fat, 0 to 1 but for noise; by the larger of the two where it can be, so that
        magnitudes do not bias it (Liu et al., Magn Reson Med 58 (2007) 354). 0 outside ``seen``.
    r2star : float32
        1/s; 0 outside ``seen``, and everywhere with two echoes.
    field_hz : float32
        Off-resonance.
    seen : bool
        Where there is signal.
    precession : int
        1 where phase of positive off-resonance grows over time, -1 where it falls.
    residual : float
        Of the object's median voxel, beyond noise, relative to its signal.
    """

    water: Any
    fat: Any
    pdff: Any
    r2star: Any
    field_hz: Any
    seen: Any
    precession: int
    residual: float

    @property
    def in_phase(self) -> Any:
        """Magnitude of water and fat in phase, float32 (z, y, x)."""
        return abs(self.water + self.fat)

    @property
    def opposed_phase(self) -> Any:
        """Magnitude of water and fat in opposed phase, float32 (z, y, x)."""
        return abs(self.water - self.fat)


def separate(
    echoes: Any,
    te_s: np.ndarray,
    field_t: float,
    voxel_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    sigma: Any = None,
    precession: int | None = None,
    t1_weights: tuple[float, float] = (1.0, 1.0),
) -> WaterFatMaps:
    """Separate water and fat in a slice or a volume.

    Parameters
    ----------
    echoes : complex64 (echo, z, y, x)
        Two or more, of one receive phase.
    te_s : float (echo)
        Seconds, ascending, spaced at will.
    field_t : float
    voxel_mm : (3) float
        z, y, x: from one voxel to the next.
    sigma : float, float32 (z, y, x) or None
        Noise per real channel; estimated where it is None.
    precession : 1, -1 or None
        1 if off-resonance f turns phase by exp(+2 pi i f t), and fat the other way. None: whichever
        suits three or more echoes better; 1 of two echoes.
    t1_weights : (2) float
        What is left of water and fat by saturation (`water_fat_model.t1_weights`): PDFF is
        corrected by these, water and fat are not.

    Raises
    ------
    Unavailable
        Echoes or echo times that are no good for it, too little signal, or a residual that says
        that these echoes are not of this model.
    """
    model = echo_model(te_s, field_t)
    if echoes.ndim != 4 or len(echoes) != len(model.te_s):
        raise Unavailable(f"expected {len(model.te_s)} echoes (echo, z, y, x), got {echoes.shape}")
    xp = array_api_compat.array_namespace(echoes)
    if not bool(xp.all(xp.isfinite(echoes))):
        raise Unavailable("expected finite values, got NaN or Inf")
    echoes = xp.astype(echoes, xp.complex64)
    if sigma is None:
        sigma = noise_level(echoes)
    sigma = xp.zeros(echoes.shape[1:], dtype=xp.float32) + xp.asarray(sigma, dtype=xp.float32)
    size = xp.sqrt(power(echoes) / np.float32(len(echoes)))
    seen = _seen(size, sigma)
    model_error = np.float32(MODEL_ERROR if len(echoes) > 2 else MODEL_ERROR_OF_TWO)
    variance = sigma**2 + (model_error * size) ** 2
    weights = xp.where(variance > 0, 1 / xp.maximum(variance, np.float32(1e-30)), np.float32(0))
    curves = curves_of(model)
    if precession is None:
        precession = find_precession(curves, echoes, weights * seen, voxel_mm)
    if precession < 0:
        echoes = xp.conj(echoes)
    field = field_map(curves, curves.terms(echoes, weights), voxel_mm)
    found = fit(echoes, model, weights, field)
    residual = _residual(found, size, sigma, seen, model)
    if residual > LARGEST_RESIDUAL:
        raise Unavailable(
            f"expected echoes of water and fat, got a residual of {residual:.0%} of the signal: "
            "is the phase of one echo another's, or are echo times or field not the true ones?"
        )
    return _maps(found, seen, precession, residual, model, t1_weights)


def find_precession(
    curves: Curves, echoes: Any, weights: Any, voxel_mm: tuple[float, float, float]
) -> int:
    """Return the sense of precession, 1 or -1, that suits the echoes better; 1 of two echoes.

    The spectrum of fat is not symmetric. Blocks of voxels are judged, each at its own best field.

    Parameters
    ----------
    curves : Curves
    echoes : complex64 (echo, z, y, x)
    weights : float32 (z, y, x)
    voxel_mm : (3) float
    """
    xp = array_api_compat.array_namespace(echoes)
    if len(echoes) == 2:
        return 1
    blocks = block_sizes(echoes.shape[1:], voxel_mm)
    as_it_is, conjugated = (
        float(xp.sum(xp.max(curves.fit(block_sums(curves.terms(data, weights), blocks)), axis=-1)))
        for data in (echoes, xp.conj(echoes))
    )
    return -1 if conjugated > as_it_is * (1 + CLEARLY) else 1


def noise_level(echoes: Any) -> float:
    """Return sigma per real channel of (echo, z, y, x), from its finest diagonal detail.

    Donoho and Johnstone, Biometrika 81 (1994) 425; exact zeros, which are no noise, left out.
    """
    xp = array_api_compat.array_namespace(echoes)
    rows, columns = (n - n % 2 for n in echoes.shape[2:])
    if min(rows, columns) < 2:
        raise Unavailable("expected a noise level with images of one row or column")
    a, b, c, d = (echoes[..., y:rows:2, x:columns:2] for y in (0, 1) for x in (0, 1))
    detail = (a - b - c + d) / 2
    values = xp.abs(xp.concat([xp.reshape(part, (-1,)) for part in (detail.real, detail.imag)]))
    values = values[values > 0]
    return float(xp.median(values)) / 0.67449 if values.size else 0.0


def _seen(size: Any, sigma: Any) -> Any:
    xp = array_api_compat.array_namespace(size)
    bright = float(xp.percentile(size, 99))
    around = xp.sqrt(smoothed(size**2, xp.ones_like(size)))
    own, near = (np.float32(sigmas) * sigma for sigmas in SEEN_SIGMAS)
    seen = (size > xp.maximum(own, np.float32(DARKEST * bright))) & (around > near)
    if float(xp.mean(xp.astype(seen, xp.float32))) < LEAST_SEEN:
        raise Unavailable("expected an object, found little but noise")
    snr = float(xp.median(size[seen] / xp.maximum(sigma[seen], np.float32(1e-20))))
    if snr < LEAST_SNR:
        raise Unavailable(f"expected a signal-to-noise ratio of {LEAST_SNR:g}, got {snr:.2g}")
    return seen


def _residual(found: Fit, size: Any, sigma: Any, seen: Any, model: EchoModel) -> float:
    xp = array_api_compat.array_namespace(size)
    count = len(model.te_s)
    noise = 2 * max(count - 3, 0) * sigma**2
    beyond = xp.sqrt(xp.maximum(found.misfit - noise, np.float32(0)) / np.float32(count))
    return float(xp.median(beyond[seen] / size[seen]))


def _maps(
    found: Fit,
    seen: Any,
    precession: int,
    residual: float,
    model: EchoModel,
    t1_weights: tuple[float, float],
) -> WaterFatMaps:
    xp = array_api_compat.array_namespace(seen)
    none = np.float32(0)
    pdff = fat_fraction(
        found.water / np.float32(t1_weights[0]), found.fat / np.float32(t1_weights[1])
    )
    r2star = xp.maximum(found.r2star, none) if len(model.te_s) > 2 else xp.zeros_like(pdff)
    return WaterFatMaps(
        water=found.water,
        fat=found.fat,
        pdff=xp.where(seen, pdff, none),
        r2star=xp.where(seen, r2star, none),
        field_hz=found.field_hz,
        seen=seen,
        precession=precession,
        residual=residual,
    )


def fat_fraction(water: Any, fat: Any) -> Any:
    """Return the fraction of fat of complex water and fat, float32, with magnitude discrimination.

    The larger of the two is divided by the magnitude of their sum, and makes both fractions.
    """
    xp = array_api_compat.array_namespace(water)
    whole = xp.maximum(xp.abs(water + fat), np.float32(1e-20))
    of_water, of_fat = xp.abs(water) / whole, xp.abs(fat) / whole
    return xp.clip(xp.where(of_fat > of_water, of_fat, 1 - of_water), -0.5, 1.5)
