"""Noise maps: what parallel imaging does to the noise, voxel by voxel.

The noise of an image in SNR units has sigma 1 per real channel if nothing was left out; with SENSE
or GRAPPA it is g sqrt(R), which is what the maps here hold. A lattice has a closed form
(Pruessmann et al., Magn Reson Med 42 (1999) 952), taken on some columns only, for it is smooth.
Any other sampling is reconstructed from a few pseudo-replicas of noise alone (Robson et al., Magn
Reson Med 60 (2008) 895), again on some columns, and smoothed. For GRAPPA see `gadgets.grappa`.
"""

from typing import Any

import array_api_compat
import numpy as np

from gadgets.calibration import LEAST_LINES, sampled_centre
from gadgets.grappa import Target, grappa_noise
from gadgets.lattice import Lattice, Unfolding, find_lattice
from gadgets.sense import REGULARIZATION, in_chunks, sense

COLUMNS = 80
"""Of so many columns the noise is worked out."""

REPLICAS = 8
SMOOTHING = 3.0
"""Standard deviation, in voxels of the image, of the smoothing of pseudo-replicas."""


def noise_map(
    mask: np.ndarray, maps: Any, prior: Any = None, regularization: float = REGULARIZATION
) -> Any:
    """Return sigma of the noise of `gadgets.sense.sense` per real channel.

    Parameters
    ----------
    mask : bool (kz, ky)
    maps : complex64 (coil, z, y, x)
    prior : float32 (z, y, x) or None
    regularization : float

    Returns
    -------
    float32 (z, y, x)
        In SNR units; zero where maps are.
    """
    if prior is not None:
        return prior * noise_map(mask, maps * prior, regularization=regularization)
    xp = array_api_compat.array_namespace(maps)
    columns, step = _some_columns(maps)
    some = xp.take(maps, xp.asarray(columns), axis=-1)
    lattice = find_lattice(mask)
    if lattice is None:
        variance = _replica_variance(mask, some, regularization, SMOOTHING / step)
    else:
        variance = xp.empty(some.shape[1:], dtype=xp.float32)

        def work(chunk: slice) -> None:
            unfolding = Unfolding(some[..., chunk], lattice, regularization)
            variance[..., chunk] = unfolding.noise_variance()

        in_chunks(work, some)
        variance = _with_centre(variance, some, mask)
    return _spread(xp.sqrt(variance), columns, maps)


def grappa_noise_map(
    targets: tuple[Target, ...], lattice: Lattice, mask: np.ndarray, maps: Any
) -> Any:
    """Return sigma of the noise of a combined GRAPPA image per real channel.

    Parameters
    ----------
    targets : tuple of Target
        From `gadgets.grappa.calibrate`.
    lattice : Lattice
    mask : bool (kz, ky)
    maps : complex64 (coil, z, y, x)
        Which coil images are combined with.

    Returns
    -------
    float32 (z, y, x)
        In SNR units; zero where maps are.
    """
    xp = array_api_compat.array_namespace(maps)
    columns, _ = _some_columns(maps)
    variance = grappa_noise(targets, lattice, maps, columns)
    some = xp.take(maps, xp.asarray(columns), axis=-1)
    return _spread(xp.sqrt(_with_centre(variance, some, mask)), columns, maps)


def _some_columns(maps: Any) -> tuple[np.ndarray, int]:
    """Return positions x at which to work out the noise, and the step between them."""
    nx = maps.shape[-1]
    step = max(1, nx // COLUMNS)
    return np.arange(step // 2, nx, step), step


def _with_centre(variance: Any, maps: Any, mask: np.ndarray) -> Any:
    """Correct a lattice's noise variance for a fully sampled k-space centre.

    The centre's share of k-space is as good as fully sampled and has variance 1.
    """
    xp = array_api_compat.array_namespace(maps)
    window = sampled_centre(mask)
    if window is None or window[1].stop - window[1].start < LEAST_LINES:
        return variance
    share = (window[0].stop - window[0].start) * (window[1].stop - window[1].start) / mask.size
    return share * xp.any(maps != 0, axis=0) + (1 - share) * variance


def _spread(values: Any, columns: np.ndarray, maps: Any) -> Any:
    """Interpolate (z, y, column) along x to the columns of maps, and cut to where they are."""
    xp = array_api_compat.array_namespace(values)
    there = values > 0
    place = np.interp(np.arange(maps.shape[-1]), columns, np.arange(len(columns)))
    lower = place.astype(int)
    upper = np.minimum(lower + 1, len(columns) - 1)
    part = xp.asarray((place - lower).astype(np.float32))
    total = xp.zeros(maps.shape[1:], dtype=xp.float32)
    weight = xp.zeros(maps.shape[1:], dtype=xp.float32)
    for index, share in ((lower, 1 - part), (upper, part)):
        at = xp.asarray(index)
        total += share * xp.take(values, at, axis=-1)
        weight += share * xp.take(there, at, axis=-1)
    result = xp.where(weight > 0, total / xp.where(weight > 0, weight, 1), 1)
    return xp.astype(result * xp.any(maps != 0, axis=0), xp.float32)


def _replica_variance(mask: np.ndarray, maps: Any, regularization: float, width_x: float) -> Any:
    """Estimate the variance from reconstructions of noise, float32 (z, y, x)."""
    xp = array_api_compat.array_namespace(maps)
    rng = np.random.default_rng(0)
    total = xp.zeros(maps.shape[1:], dtype=xp.float32)
    sampled = xp.asarray(mask)[None, :, :, None]
    for _ in range(REPLICAS):
        noise = rng.standard_normal((*maps.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        image = sense(xp.asarray(noise) * sampled, mask, maps, regularization=regularization)
        total += image.real**2 + image.imag**2
    inside = xp.astype(xp.any(maps != 0, axis=0), xp.float32)
    widths = (SMOOTHING, SMOOTHING, width_x)
    shares = _smooth(inside, widths)
    return _smooth(total, widths) / (2 * REPLICAS) * inside / xp.where(shares > 0, shares, 1)


def _smooth(values: Any, widths: tuple[float, ...]) -> Any:
    """Smooth (z, y, x) by Gaussians of the given standard deviations."""
    xp = array_api_compat.array_namespace(values)
    for axis, (size, width) in enumerate(zip(values.shape, widths)):
        distance = np.subtract.outer(np.arange(size), np.arange(size))
        weights = xp.asarray(np.exp(-0.5 * (distance / width) ** 2).astype(np.float32))
        values = xp.moveaxis(xp.tensordot(weights, values, axes=((1,), (axis,))), 0, axis)
    return values
