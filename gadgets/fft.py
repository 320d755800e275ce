"""Centred, orthonormal Fourier transforms on NumPy or CuPy arrays.

`fftc` goes from image to k-space, `ifftc` back; the centre of both is at ``n // 2``. Orthonormal,
so that white noise of sigma 1 stays of sigma 1. `fft` is the same without the centring, for code
that transforms in a loop and can shift its masks once instead.

NumPy arrays go to SciPy's pocketfft with at most `threads()` workers, CuPy arrays to cuFFT. Single
precision stays single precision.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

_threads = min(2, os.cpu_count() or 1)


def set_threads(count: int) -> None:
    """Set how many CPU threads a transform or a solver of this package may use.

    BLAS is held to one thread of the process: its matrices here are small, and OpenBLAS's threads
    spin, which makes them slower by orders where another process has a core.
    """
    global _threads
    _threads = max(1, int(count))
    threadpool_limits(1, user_api="blas")


def threads() -> int:
    """Return how many CPU threads a transform or a solver of this package may use."""
    return _threads


def fftc(x: Any, axes: Sequence[int]) -> Any:
    """Transform image to k-space along ``axes``, centred and orthonormal.

    Parameters
    ----------
    x : complex64 or complex128, any shape
        NumPy or CuPy; left as it is.
    axes : sequence of int

    Returns
    -------
    complex, shape and precision of ``x``
    """
    return _centred(x, axes, inverse=False)


def ifftc(x: Any, axes: Sequence[int]) -> Any:
    """Transform k-space to image along ``axes``: the inverse of `fftc`."""
    return _centred(x, axes, inverse=True)


def fft(
    x: Any,
    axes: Sequence[int],
    *,
    inverse: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
) -> Any:
    """Transform along ``axes``, orthonormal, with the origin at index 0 on both sides.

    Parameters
    ----------
    x : complex64 or complex128, any shape
    axes : sequence of int
    inverse : bool
    overwrite : bool
        Whether the content of ``x`` may be destroyed.
    workers : int or None
        CPU threads; `threads()` if None.
    """
    if array_api_compat.is_cupy_array(x):
        xp = array_api_compat.array_namespace(x)
        transform = xp.fft.ifftn if inverse else xp.fft.fftn
        return transform(x, axes=tuple(axes), norm="ortho")
    transform = scipy.fft.ifftn if inverse else scipy.fft.fftn
    return transform(
        x,
        axes=tuple(axes),
        norm="ortho",
        overwrite_x=overwrite,
        workers=_threads if workers is None else workers,
    )


@lru_cache(maxsize=64)
def _shift_phase(size: int, dtype: str, inverse: bool) -> Any:
    """Return exp(+-2i pi c (j - c / 2) / n): a shift by the centre c = n // 2 as a multiplication.

    Multiplied before and after a transform, these shift both its sides by c. For even sizes they
    are +-1 or +-i, and cheaper than moving the array twice.
    """
    centre = size // 2
    angle = 2 * np.pi * centre * (np.arange(size) - centre / 2) / size
    return np.exp((-1j if inverse else 1j) * angle).astype(dtype)


def _centred(x: Any, axes: Sequence[int], inverse: bool) -> Any:
    xp = array_api_compat.array_namespace(x)
    dtype = "complex128" if x.dtype in (np.float64, np.complex128) else "complex64"
    phases = []
    for axis in axes:
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        phases.append(xp.asarray(_shift_phase(x.shape[axis], dtype, inverse)).reshape(shape))
    if not phases:
        return xp.astype(x, getattr(xp, dtype))
    y = x * phases[0]
    for phase in phases[1:]:
        y *= phase
    y = fft(y, axes, inverse=inverse, overwrite=True)
    for phase in phases:
        y *= phase
    return y
