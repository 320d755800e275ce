"""Coil combination: root sum of squares, by sensitivity maps, and adaptive.

Maps of unit norm keep SNR units: combined noise has sigma 1 per real channel where coil noise has
(Roemer et al., Magn Reson Med 16 (1990) 192). The adaptive methods find such maps in the coil
images themselves, for want of calibration lines.
"""

from typing import Any

import array_api_compat
import numpy as np

from gadgets.coil_maps import GRID, dominant_eigenvectors, on_grid, smooth_phase


def root_sum_of_squares(images: Any) -> Any:
    """Combine coil images (coil, z, y, x) to magnitude, float32 (z, y, x)."""
    xp = array_api_compat.array_namespace(images)
    return xp.sqrt(xp.sum(images.real**2 + images.imag**2, axis=0))


def combine(images: Any, maps: Any) -> Any:
    """Combine coil images with unit-norm maps, both complex64 (coil, z, y, x), to (z, y, x)."""
    xp = array_api_compat.array_namespace(images, maps)
    return xp.sum(xp.conj(maps) * images, axis=0)


def walsh_maps(images: Any, window: int = 9) -> Any:
    """Estimate maps from coil images: dominant eigenvectors of their local correlation.

    Walsh, Gmitro and Marcellin, Magn Reson Med 43 (2000) 682. The correlation is evaluated on a
    coarse grid and the maps are interpolated, as the paper proposes.

    Parameters
    ----------
    images : complex64 (coil, z, y, x)
    window : int
        Width in voxels, along every axis longer than it, over which coils are correlated.

    Returns
    -------
    complex64 (coil, z, y, x)
        Unit norm, everywhere.
    """
    xp = array_api_compat.array_namespace(images)
    shape = images.shape[1:]
    weights = [
        xp.asarray(_window_weights(n, min(n, points), window), dtype=images.dtype)
        for n, points in zip(shape, GRID)
    ]
    rows = []
    for image in images:
        correlation = image[None] * xp.conj(images)
        for axis, weight in zip((1, 2, 3), weights):
            correlation = xp.moveaxis(
                xp.tensordot(weight, correlation, axes=((1,), (axis,))), 0, axis
            )
        rows.append(correlation)
    matrices = xp.stack(rows)
    power = xp.stack([matrices[i, i].real for i in range(images.shape[0])])
    strongest = xp.argmax(power, axis=0)[None, None]
    start = xp.take_along_axis(matrices, strongest, axis=1)[:, 0]
    vectors, _ = dominant_eigenvectors(matrices, start, iterations=10)
    signal = xp.sum(power, axis=0)
    signal = signal / xp.where(xp.max(signal) > 0, xp.max(signal), 1)
    vectors = vectors * smooth_phase(vectors, signal)
    return on_grid(vectors, shape)


def _window_weights(size: int, points: int, window: int) -> np.ndarray:
    """Return the matrix (points, size) of a Hann window about each point of a coarse grid."""
    if size == 1:
        return np.ones((1, 1), np.float32)
    place = (np.arange(points) - points // 2) * size / points + size // 2
    distance = np.abs(place[:, None] - np.arange(size)) / (window / 2 + 1)
    return np.where(distance < 1, 1 + np.cos(np.pi * distance), 0).astype(np.float32)


def inati_maps(images: Any, window: int = 7, iterations: int = 5) -> Any:
    """Estimate maps from coil images by alternating between image and smoothed maps.

    Inati, Hansen and Kellman, Proc ISMRM 22 (2014) 4407: slower than `walsh_maps`, with a phase
    that is smooth by itself.

    Parameters
    ----------
    images : complex64 (coil, z, y, x)
    window : int
        Width of the smoothing, in voxels, along every axis longer than it.
    iterations : int

    Returns
    -------
    complex64 (coil, z, y, x)
        Unit norm; zero where there is no signal at all.
    """
    xp = array_api_compat.array_namespace(images)
    total = xp.sum(images, axis=(1, 2, 3))
    weights = total / xp.linalg.vector_norm(total)
    image = xp.tensordot(xp.conj(weights), images, axes=1)
    maps = images
    for _ in range(iterations):
        maps = _box(images * xp.conj(image), window)
        norm = root_sum_of_squares(maps)
        maps = maps / xp.where(norm > 0, norm, 1)
        common = xp.sum(maps * xp.conj(xp.sum(maps, axis=(1, 2, 3)))[:, None, None, None], axis=0)
        size = xp.abs(common)
        maps = maps * xp.conj(common / xp.where(size > 0, size, 1))
        image = combine(images, maps)
    return maps


def _box(images: Any, window: int) -> Any:
    """Sum over a box of ``window`` voxels, (coil, z, y, x), along every axis longer than it."""
    xp = array_api_compat.array_namespace(images)
    for axis in (1, 2, 3):
        size = images.shape[axis]
        if size <= window:
            continue
        total = xp.zeros_like(images)
        for shift in range(-(window // 2), window // 2 + 1):
            to = [slice(None)] * 4
            source = list(to)
            to[axis] = slice(max(0, -shift), size - max(0, shift))
            source[axis] = slice(max(0, shift), size - max(0, -shift))
            total[tuple(to)] += images[tuple(source)]
        images = total
    return images
