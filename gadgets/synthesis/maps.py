"""T1, T2, proton density and flip-angle efficiency from a multi-delay multi-echo measurement.

As in QRAPMASTER (Warntjes et al., Magn Reson Med 60 (2008) 320-329), but by least squares on exact
signals (`gadgets.synthesis.maps_fit`). The efficiency found so is smoothed over space, and the fit
repeated with it: that takes most of the noise out of T1. Where the fat fraction is known, from a
Dixon measurement of the same slices, T1 and T2 are those of the water alone.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from gadgets.synthesis.maps_fit import Mixture, Voxels, fit_voxels
from gadgets.synthesis.maps_signal import Acquisition
from gadgets.synthesis.marks import Unavailable

FAT_T1_MS, FAT_T2_MS = 382.0, 68.0
"""Subcutaneous fat at 3 T (de Bazelaire et al., Radiology 230 (2004) 652-659): used where the
patient's own fat cannot be measured."""
WATER_T1_MS, WATER_T2_MS = 1000.0, 40.0
"""Of what water there is among fat."""
FAT_VOXELS = 100
"""Fewest voxels of almost pure fat which tell the relaxation times of the patient's fat."""
PURE_FAT = 0.9

SMOOTH_MM = 20.0

SEEN_SIGMAS = 5.0
"""A voxel below that in the brightest contrast is background."""
LEAST_SNR = 10.0
"""Of the typical voxel in its brightest contrast."""
LEAST_VALID = 0.5
"""Share of the voxels above the background."""


@dataclass(frozen=True)
class RelaxationMaps:
    """What a measurement says of each voxel.

    Attributes
    ----------
    t1_ms, t2_ms : float32 (z, y, x)
        Of the water where ``fat_fraction`` is known, otherwise of the voxel as one tissue; 0 in the
        background.
    proton_density : float32 (z, y, x)
        In the units of the images, receive sensitivity included; 0 in the background.
    efficiency : float32 (z, y, x)
        True over nominal flip angle (B1), smooth; 1 in the background.
    valid : bool (z, y, x)
        Where the times lie within the range of the table and explain what was measured: elsewhere
        they are what comes nearest, and no values to be relied on.
    fat_fraction : float32 (z, y, x) or None
    fat_t1_ms, fat_t2_ms : float
        Of the fat, everywhere.
    """

    t1_ms: np.ndarray
    t2_ms: np.ndarray
    proton_density: np.ndarray
    efficiency: np.ndarray
    valid: np.ndarray
    fat_fraction: np.ndarray | None = None
    fat_t1_ms: float = FAT_T1_MS
    fat_t2_ms: float = FAT_T2_MS


def real_signals(images: np.ndarray, acquisition: Acquisition) -> np.ndarray:
    """Return complex images as real ones with their sign, float32 (contrast, z, y, x).

    After the longest delay all magnetisation has recovered: its phase is that of positive signal.
    """
    late = np.array(acquisition.delays_ms) == max(acquisition.delays_ms)
    positive = images[late].sum(axis=0)
    turn = np.conj(positive) / np.maximum(np.abs(positive), np.finfo(np.float32).tiny)
    return np.asarray((images * turn).real, np.float32)


def fit_maps(
    images: np.ndarray,
    acquisition: Acquisition,
    noise: np.ndarray | float = 1.0,
    fat_fraction: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (5.0, 1.0, 1.0),
) -> RelaxationMaps:
    """Fit relaxation times to the contrasts of a measurement.

    Parameters
    ----------
    images : complex64 or float32 (contrast, z, y, x)
        Complex, or magnitude: then the sign of early delays is not known, and a fit is less sure.
    acquisition : Acquisition
    noise : float32 (z, y, x) or float
        Standard deviation per real channel.
    fat_fraction : float32 (z, y, x) or None
        0 to 1, of proton densities (PDFF).
    spacing_mm : tuple of 3 float
        Between voxels along z, y, x.

    Raises
    ------
    Unavailable
        A contrast is missing, there is too little signal, or relaxation times do not explain it.
    """
    if len(images) != len(acquisition.te_ms):
        raise Unavailable(
            f"relaxation maps: expected {len(acquisition.te_ms)} contrasts, got {len(images)}"
        )
    magnitude = not np.iscomplexobj(images)
    signals = np.asarray(images, np.float32) if magnitude else real_signals(images, acquisition)
    shape = signals.shape[1:]
    sigma = np.broadcast_to(np.asarray(noise, np.float32), shape)
    there = (np.abs(signals).max(axis=0) > SEEN_SIGMAS * sigma) & (sigma > 0)
    there &= np.isfinite(signals).all(axis=0)
    fat = None if fat_fraction is None else np.clip(fat_fraction, 0, 1).astype(np.float32)
    voxels, own_sigma = signals[:, there], sigma[there]
    snr = np.abs(voxels).max(axis=0) / own_sigma
    if not snr.size or np.median(snr) < LEAST_SNR:
        raise Unavailable(
            f"relaxation maps: expected a signal-to-noise ratio of {LEAST_SNR:g} or more in the"
            f" brightest contrast, got {np.median(snr) if snr.size else 0:.3g}"
        )
    first = fit_voxels(voxels, own_sigma, acquisition, magnitude, None)
    fat_t1, fat_t2, mixture = FAT_T1_MS, FAT_T2_MS, None
    if fat is not None:
        pure = first.valid & (fat[there] > PURE_FAT)
        if pure.sum() >= FAT_VOXELS:
            # Here water is what is known: even a twentieth of it would shift the null of fat.
            water = Mixture(1 - fat[there][pure], WATER_T1_MS, WATER_T2_MS)
            own = fit_voxels(voxels[:, pure], own_sigma[pure], acquisition, magnitude, water)
            fat_t1 = float(np.median(own.t1_ms[own.valid]))
            fat_t2 = float(np.median(own.t2_ms[own.valid]))
        mixture = Mixture(fat[there], fat_t1, fat_t2)
        first = fit_voxels(voxels, own_sigma, acquisition, magnitude, mixture)
    smooth = _smooth_efficiency(first, own_sigma, there, spacing_mm)
    found = fit_voxels(voxels, own_sigma, acquisition, magnitude, mixture, smooth)
    if found.valid.mean() < LEAST_VALID:
        raise Unavailable(
            "relaxation maps: what was measured does not decay and recover as tissue does in"
            f" {100 * (1 - found.valid.mean()):.0f} % of the voxels"
        )

    def volume(values: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
        result = np.full(shape, otherwise, np.float32)
        result[there] = values
        return result

    return RelaxationMaps(
        t1_ms=volume(found.t1_ms),
        t2_ms=volume(found.t2_ms),
        proton_density=volume(found.density),
        efficiency=volume(found.efficiency, 1.0),
        valid=volume(found.valid.astype(np.float32)) > 0,
        fat_fraction=fat,
        fat_t1_ms=fat_t1,
        fat_t2_ms=fat_t2,
    )


def _smooth_efficiency(
    fit: Voxels, sigma: np.ndarray, there: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Smooth the efficiency of voxels over space, float32 (voxel); voxels count by their SNR.

    The transmit field has the wavelength of its frequency in tissue, 25 cm at 3 T: what varies
    faster is noise, or a voxel that is no single tissue.
    """
    weight, values = np.zeros(there.shape, np.float32), np.zeros(there.shape, np.float32)
    power = np.square(fit.density / sigma)
    weight[there] = fit.valid * np.minimum(power, np.median(power) if power.size else 0)
    values[there] = weight[there] * (fit.efficiency - 1)
    widths = [SMOOTH_MM / mm if n > 1 else 0 for mm, n in zip(spacing_mm, there.shape, strict=True)]
    total, weighted = (
        gaussian_filter(array, widths, mode="constant") for array in (weight, values)
    )
    mean = np.divide(weighted, total, out=np.zeros_like(total), where=total > 1e-6 * total.max())
    return np.asarray(1 + mean[there], np.float32)
