"""SENSE: least-squares reconstruction from undersampled coils, given their sensitivities.

The readout is already in image space, so the problem falls apart into one small problem for every
position x, and only ky (and kz) is ever transformed. Conjugate gradients (Pruessmann et al., Magn
Reson Med 46 (2001) 638) run on all of them together, yet each column takes its own steps, which
makes four to eight iterations enough. Columns are worked on in chunks which stay in the CPU's cache
and bound memory, whatever the size of the slab. A sampling that is a pure lattice needs no
iteration: its aliasing groups are inverted directly (Pruessmann et al., Magn Reson Med 42 (1999)
952).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import array_api_compat
import numpy as np

from gadgets.fft import fft, ifftc, threads
from gadgets.lattice import Unfolding, find_lattice

CHUNK_BYTES = 2 << 20
"""Of the coil images of one chunk: about a CPU core's second-level cache."""

GPU_CHUNK_BYTES = 512 << 20

REGULARIZATION = 2e-3
"""Noise variance over image variance, both per real channel: of an image with a mean SNR of 22."""

TOLERANCE = 3e-3
"""Coarsest stop. Stopping earlier suits noisy images, but their noise maps would no longer hold."""


def sense(
    kspace: Any,
    mask: np.ndarray,
    maps: Any,
    prior: Any = None,
    *,
    regularization: float = REGULARIZATION,
    tolerance: float | None = None,
    iterations: int = 30,
) -> Any:
    """Reconstruct one image: argmin |A x - kspace|^2 + regularization |x / prior|^2.

    The prior keeps noise of ill-conditioned voxels out of where there is next to nothing (Lin et
    al., Magn Reson Med 51 (2004) 559), without cutting weak anatomy off. It is put into the maps:
    with x = prior u, it is u that is found.

    Parameters
    ----------
    kspace : complex64 (coil, kz, ky, x)
        Hybrid, whitened; zero where not acquired.
    mask : bool (kz, ky)
    maps : complex64 (coil, z, y, x)
        Unit norm over coils.
    prior : float32 (z, y, x) or None
        Expected magnitude of the image, 1 being typical; the same everywhere if None.
    regularization : float
        1 / SNR^2 of a typical voxel of the expected image.
    tolerance : float or None
        Residual of the normal equations, relative to their right-hand side, at which to stop.
        None: a tenth of the noise, sqrt(regularization), so that what is left of aliasing stays
        below it; `TOLERANCE` at most.
    iterations : int
        At most.

    Returns
    -------
    complex64 (z, y, x)
        In SNR units where ``kspace`` was whitened: noise as `gadgets.gfactor.noise_map` says.
    """
    xp = array_api_compat.array_namespace(kspace, maps)
    if tolerance is None:
        tolerance = min(TOLERANCE, 0.1 * regularization**0.5)
    if prior is not None:
        return prior * sense(
            kspace,
            mask,
            maps * prior,
            regularization=regularization,
            tolerance=tolerance,
            iterations=iterations,
        )
    lattice = find_lattice(mask)
    if lattice is not None and not lattice.is_exactly(mask):
        lattice = None
    image = xp.empty(maps.shape[1:], dtype=maps.dtype)

    def solve(columns: slice) -> None:
        part = maps[..., columns]
        conjugate = xp.conj(part)
        coils = ifftc(kspace[..., columns], transformed_axes(mask))
        coils *= conjugate
        right = xp.sum(coils, axis=0)
        if lattice is not None:
            image[..., columns] = Unfolding(part, lattice, regularization)(right)
        else:
            normal = normal_operator(part, conjugate, mask, regularization)
            image[..., columns] = conjugate_gradients(normal, right, tolerance, iterations)

    in_chunks(solve, maps)
    return image


def transformed_axes(mask: np.ndarray) -> tuple[int, ...]:
    """Return the axes of (..., z, y, x) along which k-space was encoded by lines."""
    return (-2,) if mask.shape[0] == 1 else (-3, -2)


def in_chunks(work: Callable[[slice], None], maps: Any) -> None:
    """Call ``work`` with slices along x, on as many threads as `gadgets.fft` allows."""
    on_gpu = array_api_compat.is_cupy_array(maps)
    nx = maps.shape[-1]
    column_bytes = max(1, maps.nbytes // nx)
    width = max(1, (GPU_CHUNK_BYTES if on_gpu else CHUNK_BYTES) // column_bytes)
    chunks = [slice(start, min(start + width, nx)) for start in range(0, nx, width)]
    if on_gpu or threads() == 1 or len(chunks) == 1:
        for chunk in chunks:
            work(chunk)
        return
    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(work, chunks):
            pass


def normal_operator(
    maps: Any, conjugate: Any, mask: np.ndarray, regularization: float
) -> Callable[[Any], Any]:
    """Return x -> A^H A x + regularization x for images (z, y, x) of one chunk.

    The transform need not be centred here: shifting image and coils changes neither, shifting the
    mask once is enough.
    """
    xp = array_api_compat.array_namespace(maps)
    axes = transformed_axes(mask)
    weight = xp.asarray(np.fft.ifftshift(mask).astype(np.float32))[None, :, :, None]
    buffer = xp.empty_like(maps)

    def apply(image: Any) -> Any:
        xp.multiply(maps, image, out=buffer)
        coils = fft(buffer, axes, overwrite=True, workers=1)
        coils *= weight
        coils = fft(coils, axes, inverse=True, overwrite=True, workers=1)
        coils *= conjugate
        result = xp.sum(coils, axis=0)
        result += regularization * image
        return result

    return apply


def conjugate_gradients(
    normal: Callable[[Any], Any], right: Any, tolerance: float, iterations: int
) -> Any:
    """Solve normal(x) = right, every column (last axis) with its own steps.

    Parameters
    ----------
    normal : callable
        Hermitian positive definite, acting on each column on its own.
    right : complex (..., x)
    tolerance : float
        Relative residual of all columns together at which to stop.
    iterations : int
        At most.
    """
    xp = array_api_compat.array_namespace(right)
    axes = tuple(range(right.ndim - 1))

    def dot(a: Any, b: Any) -> Any:
        return xp.sum(a.real * b.real + a.imag * b.imag, axis=axes)

    def ratio(a: Any, b: Any) -> Any:
        return xp.where(b > 0, a / xp.where(b > 0, b, 1), 0)

    image = xp.zeros_like(right)
    residual = xp.array(right, copy=True)
    step = residual
    power = dot(residual, residual)
    limit = tolerance**2 * float(xp.sum(power))
    for _ in range(iterations):
        product = normal(step)
        length = ratio(power, dot(step, product))
        image += length * step
        product *= length
        residual = residual - product
        power, before = dot(residual, residual), power
        if float(xp.sum(power)) <= limit:
            break
        step = residual + ratio(power, before) * step
    return image
