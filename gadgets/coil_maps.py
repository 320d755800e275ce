"""Coil sensitivity maps by ESPIRiT, and the gadget that makes them while lines still come in.

Uecker et al., Magn Reson Med 71 (2014) 990: patches of the calibration lines span a subspace; a
coil image must be an eigenvector, with eigenvalue 1, of the projection on it, which is a small
matrix at every voxel. That matrix is band-limited to twice the kernel's width, so it is evaluated
on a coarse grid straight from the projection's lags, its dominant eigenvectors are found by power
iteration from the low-resolution coil images, and only they are interpolated to the full grid.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg

from gadgets.calibration import calibration_lines, place
from gadgets.fft import fftc
from gadgets.items import Calibration, Frame, FrameKey, SensitivityMaps

KERNEL = ((1, 6, 6), (3, 4, 4))
"""Along kz, ky, kx: of images, and of slabs."""

CALIBRATION = (24, 32, 24)
"""At most as much of the calibration lines is used, along kz, ky and kx."""

GRID = (24, 48, 48)
"""Coarse grid along z, y, x."""

POWER_ITERATIONS = 5

LEAST_PRIOR = 0.03
"""Of the typical magnitude of an image: no voxel is expected to be darker."""


def espirit(calibration: Any, shape: tuple[int, int, int]) -> Any:
    """Estimate sensitivity maps.

    Parameters
    ----------
    calibration : complex64 (coil, kz, ky, x)
        Fully sampled block, its k-space centre at ``n // 2``; hybrid.
    shape : tuple of int
        z, y, x of the maps, of the field of view of the calibration lines.
    Returns
    -------
    complex64 (coil, z, y, x)
        Unit norm, phase relative to one fixed combination of the coils. They are not cut off where
        eigenvalues fall below 1: weak anatomy, far from the coils, is anatomy.
    """
    return CoarseMaps.of(calibration).interpolate(shape)


@dataclass(frozen=True)
class CoarseMaps:
    """Sensitivity maps on a coarse grid: all the work but the last, and little to keep.

    Attributes
    ----------
    vectors : complex64 (coil, z, y, x)
    magnitude : float32 (z, y, x)
        Root sum of squares of the calibration lines' coil images, in units of ``typical``.
    typical : float
        Magnitude of a typical voxel of the object (the mean, weighted by itself), as a plain sum
        over k-space.
    """

    vectors: Any
    magnitude: Any
    typical: float

    @classmethod
    def of(cls, calibration: Any, threshold: float = 0.02) -> "CoarseMaps":
        """Estimate from calibration lines, complex64 (coil, kz, ky, x), as in `espirit`.

        Singular values of the calibration matrix below ``threshold`` times the largest, or below
        the threshold of Gavish and Donoho (IEEE Trans Inf Theory 60 (2014) 5040), are noise.
        """
        xp = array_api_compat.array_namespace(calibration)
        block = _centre(fftc(calibration, (3,)), CALIBRATION)
        largest = xp.max(xp.abs(block))
        block = block / xp.where(largest > 0, largest, 1)
        slab = block.shape[1] > 1
        kernel = tuple(min(k, (n + 2) // 2) for k, n in zip(KERNEL[slab], block.shape[1:]))
        grid = GRID if slab else (1, *GRID[1:])
        lags = _lags(_projection(block, kernel, threshold), kernel, block.shape[0])
        coils = _low_resolution(block, grid)
        vectors, values = dominant_eigenvectors(_evaluate(lags, grid), coils, POWER_ITERATIONS)
        power = xp.sum(coils.real**2 + coils.imag**2, axis=0)
        total = xp.sum(power)
        typical = total / xp.where(total > 0, xp.sum(xp.sqrt(power)), 1)
        magnitude = xp.sqrt(power) / xp.where(typical > 0, typical, 1)
        vectors = vectors * smooth_phase(vectors, values**8)
        return cls(vectors, magnitude, float(typical * largest))

    def prior(self, shape: tuple[int, int, int]) -> Any:
        """Return the expected magnitude, float32 (z, y, x), from `LEAST_PRIOR` to 1 (typical)."""
        xp = array_api_compat.array_namespace(self.magnitude)
        fine = _interpolate(xp.astype(self.magnitude[None], xp.complex64), shape)[0].real
        return xp.clip(fine, LEAST_PRIOR, 1.0)

    def interpolate(self, shape: tuple[int, int, int]) -> Any:
        """Return maps of unit norm, complex64 (coil, z, y, x)."""
        return on_grid(self.vectors, shape)


def on_grid(vectors: Any, shape: tuple[int, int, int]) -> Any:
    """Bring maps (coil, z, y, x) from a coarse grid to a fine one, and to unit norm."""
    xp = array_api_compat.array_namespace(vectors)
    maps = _interpolate(vectors, shape)
    power = xp.sum(maps.real**2 + maps.imag**2, axis=0)
    maps *= xp.where(power > 0, 1 / xp.sqrt(xp.where(power > 0, power, 1)), 0)
    return maps


def _centre(kspace: Any, size: tuple[int, ...]) -> Any:
    """Cut the centre out of k-space (coil, kz, ky, kx)."""
    window = [slice(None)]
    for n, kept in zip(kspace.shape[1:], size):
        start = max(0, n // 2 - kept // 2)
        window.append(slice(start, start + min(n, kept)))
    return kspace[tuple(window)]


def _projection(block: Any, kernel: tuple[int, ...], threshold: float) -> Any:
    """Return the projection on the space of patches, (coil kz ky kx) squared."""
    xp = array_api_compat.array_namespace(block)
    rows = [n - k + 1 for n, k in zip(block.shape[1:], kernel)]
    shifts = product(*(range(k) for k in kernel))
    patches = xp.stack(
        [block[:, a : a + rows[0], b : b + rows[1], c : c + rows[2]] for a, b, c in shifts], axis=1
    )
    matrix = xp.reshape(patches, (block.shape[0] * int(np.prod(kernel)), -1)).T
    wide = matrix.shape[0] < matrix.shape[1]
    conjugate = xp.conj(matrix)
    values, vectors = _eigh(matrix @ conjugate.T if wide else conjugate.T @ matrix)
    singular = xp.sqrt(xp.where(values > 0, values, 0))
    kept = singular >= _noise_limit(singular, matrix.shape, threshold)
    vectors = vectors[:, kept]
    if wide:
        vectors = conjugate.T @ (vectors / singular[kept])
    return vectors @ xp.conj(vectors).T


def _noise_limit(singular: Any, shape: tuple[int, int], threshold: float) -> float:
    """Return the singular value above which there is signal.

    The noise is estimated from the median, where that is no more than a fifth of the largest:
    above, calibration lines of a few patches hold too little noise to estimate it.
    """
    xp = array_api_compat.array_namespace(singular)
    beta = min(shape) / max(shape)
    optimal = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    largest = float(xp.max(singular))
    noise = optimal * float(singular[singular.shape[0] // 2])
    return max(threshold * largest, min(noise, 0.2 * largest))


def _eigh(matrix: Any) -> Any:
    """Eigenvalues, ascending, and eigenvectors; SciPy's divide and conquer is twice as fast."""
    if array_api_compat.is_numpy_array(matrix):
        return scipy.linalg.eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    return array_api_compat.array_namespace(matrix).linalg.eigh(matrix)


def _lags(projection: Any, kernel: tuple[int, ...], coils: int) -> Any:
    """Sum a projection over pairs of patch positions of equal lag: (coil, coil, lag z, y, x)."""
    xp = array_api_compat.array_namespace(projection)
    size = int(np.prod(kernel))
    by_position = xp.reshape(projection, (coils, *kernel, coils, size))
    lags = xp.zeros((coils, coils, *(2 * k - 1 for k in kernel)), dtype=projection.dtype)
    for number, (a, b, c) in enumerate(product(*(range(k) for k in kernel))):
        starts = [k - 1 - at for k, at in zip(kernel, (a, b, c))]
        window = tuple(slice(s, s + k) for s, k in zip(starts, kernel))
        lags[(slice(None), slice(None), *window)] += xp.moveaxis(by_position[..., number], -1, 0)
    return lags / size


def _evaluate(lags: Any, grid: tuple[int, ...]) -> Any:
    """Evaluate the matrix at every point of a coarse grid: (coil, coil, z, y, x)."""
    xp = array_api_compat.array_namespace(lags)
    for axis, points in zip((2, 3, 4), grid):
        lag = np.arange(lags.shape[axis]) - lags.shape[axis] // 2
        place = (np.arange(points) - points // 2) / points
        wave = xp.asarray(np.exp(-2j * np.pi * np.outer(place, lag)).astype(np.complex64))
        lags = xp.moveaxis(xp.tensordot(wave, lags, axes=((1,), (axis,))), 0, axis)
    return lags


def _low_resolution(block: Any, grid: tuple[int, ...]) -> Any:
    """Return coil images of the calibration block on a coarse grid, complex64 (coil, z, y, x)."""
    xp = array_api_compat.array_namespace(block)
    for axis, points in zip((1, 2, 3), grid):
        n = block.shape[axis]
        place = (np.arange(points) - points // 2) / points
        wave = np.exp(2j * np.pi * np.outer(place, np.arange(n) - n // 2)) * np.hanning(n + 2)[1:-1]
        wave = xp.asarray(wave.astype(np.complex64))
        block = xp.moveaxis(xp.tensordot(wave, block, axes=((1,), (axis,))), 0, axis)
    return block


def dominant_eigenvectors(matrices: Any, start: Any, iterations: int) -> tuple[Any, Any]:
    """Return dominant eigenvectors (coil, z, y, x) and eigenvalues (z, y, x) of Hermitian matrices.

    By power iteration from ``start``.
    """
    xp = array_api_compat.array_namespace(matrices)
    vectors = start
    for _ in range(iterations):
        norm = xp.sqrt(xp.sum(vectors.real**2 + vectors.imag**2, axis=0))
        vectors = vectors / xp.where(norm > 0, norm, 1)
        vectors = xp.sum(matrices * vectors[None], axis=1)
    values = xp.sqrt(xp.sum(vectors.real**2 + vectors.imag**2, axis=0))
    return vectors / xp.where(values > 0, values, 1), values


def smooth_phase(vectors: Any, weights: Any) -> Any:
    """Return phases (z, y, x) which make maps smooth: relative to one fixed combination of coils.

    The combination is that with the greatest mean logarithm of its sensitivity, so that it has no
    hole anywhere if it can help it; where it had one, the phase would be undefined.
    """
    xp = array_api_compat.array_namespace(vectors)
    coils = vectors.shape[0]
    points = xp.reshape(vectors, (coils, -1))
    weight = xp.reshape(weights, (-1,))
    combination = _eigh((weight * points) @ xp.conj(points).T)[1][:, -1]
    for _ in range(8):
        seen = xp.conj(points).T @ combination
        power = seen.real**2 + seen.imag**2
        power = power + 0.01 * xp.mean(power)
        combination = points @ (weight * seen / xp.where(power > 0, power, 1))
        length = xp.linalg.vector_norm(combination)
        combination = combination / xp.where(length > 0, length, 1)
    seen = xp.conj(points).T @ combination
    size = xp.abs(seen)
    return xp.reshape(seen / xp.where(size > 0, size, 1), vectors.shape[1:])


def _interpolate(maps: Any, shape: tuple[int, ...]) -> Any:
    """Bring maps (coil, z, y, x) from a coarse grid to a fine one of the same field of view."""
    xp = array_api_compat.array_namespace(maps)
    z, y, x = (xp.asarray(_cubic(points, size)) for points, size in zip(maps.shape[1:], shape))
    maps = maps @ xp.astype(x.T, maps.dtype)
    maps = xp.moveaxis(xp.tensordot(xp.astype(z, maps.dtype), maps, axes=((1,), (1,))), 0, 1)
    real = xp.ascontiguousarray(maps).view(y.dtype)
    return xp.matmul(y, real).view(maps.dtype)


@lru_cache(maxsize=32)
def _cubic(points: int, size: int) -> Any:
    """Return the matrix (size, points) of periodic cubic convolution (Keys 1981, a = -1/2)."""
    place = (np.arange(size) - size // 2) * points / size + points // 2
    distance = np.abs((place[:, None] - np.arange(points) + points / 2) % points - points / 2)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return weights.astype(np.float32)


class EstimateMaps:
    """Put the `SensitivityMaps` of its slice before a `Frame`.

    Maps of `Calibration` items are estimated as they come, on the coarse grid. A frame's own
    calibration lines count where no others came before. Contrasts, phases and sets of a slice
    share maps, so that their phases can be compared; a later repetition with lines of its own
    makes new ones. Maps which are still those of the frame before are not sent again.
    """

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        known: dict[tuple[int, int], tuple[FrameKey, CoarseMaps]] = {}
        sent: tuple[Any, ...] = ()
        for item in items:
            if not isinstance(item, Calibration | Frame):
                yield item
                continue
            key = item.key
            if place(item) not in known or known[place(item)][0].repetition != key.repetition:
                lines = calibration_lines(item)
                if lines is not None:
                    known[place(item)] = key, CoarseMaps.of(lines)
            if isinstance(item, Calibration):
                yield item
                continue
            shape = item.kspace.shape[1:]
            if place(item) in known:
                source, coarse = known[place(item)]
                fits = coarse.vectors.shape[0] == item.kspace.shape[0]
                if fits and sent != (source, shape):
                    typical = coarse.typical / math.prod(shape) ** 0.5
                    maps, prior = coarse.interpolate(shape), coarse.prior(shape)
                    yield SensitivityMaps(maps, source, prior, typical)
                    sent = source, shape
            yield item
