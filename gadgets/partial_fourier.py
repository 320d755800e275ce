"""Partial Fourier: filling in the outer lines that were left out on one side of k-space.

An image whose phase is smooth has a k-space which is conjugate symmetric once that phase, known
from the symmetrically sampled centre, is taken off. All functions take a complex image (or coil
images) as reconstructed with zeros for the missing lines, work along one axis, and give back a
complex image with its phase. Asymmetric echoes are the same thing along the readout.
"""

from typing import Any

import array_api_compat
import numpy as np

from gadgets.fft import fftc, ifftc

METHODS = ("zero-fill", "homodyne", "pocs")
POCS_ITERATIONS = 8


def missing_side(sampled: Any, gap: int) -> slice | None:
    """Return the acquired range where one side of k-space is partly missing.

    Parameters
    ----------
    sampled : bool (line)
        Whether there is any sample at that distance along the axis, centre at ``n // 2``.
    gap : int
        Lines that undersampling alone may leave out at an edge: the acceleration factor.

    Returns
    -------
    slice or None
        None where both sides are there, or the centre is not.
    """
    lines = np.flatnonzero(sampled)
    centre = len(sampled) // 2
    if not len(lines) or not lines[0] < centre < lines[-1]:
        return None
    before, after = centre - lines[0], lines[-1] - centre
    if abs(before - after) <= max(gap, 1) or min(before, after) < 2:
        return None
    missing_first = before < after
    return slice(lines[0], len(sampled)) if missing_first else slice(0, lines[-1] + 1)


def homodyne(image: Any, axis: int, acquired: slice) -> Any:
    """Fill one side by homodyne detection (Noll et al., IEEE Trans Med Imaging 10 (1991) 154).

    Parameters
    ----------
    image : complex64, any shape
        Zero-filled.
    axis : int
    acquired : slice
        Range of acquired lines along the axis, as `missing_side` gives it.

    Returns
    -------
    complex64
        With the phase of the k-space centre. Exact where the phase really is that.
    """
    xp = array_api_compat.array_namespace(image)
    n = image.shape[axis]
    kspace = fftc(image, (axis,))
    phase = _unit(ifftc(kspace * _along(_centre_window(n, acquired), image, axis), (axis,)))
    weighted = ifftc(kspace * _along(homodyne_weights(n, acquired), image, axis), (axis,))
    return xp.astype((weighted * xp.conj(phase)).real * phase, image.dtype)


def pocs(image: Any, axis: int, acquired: slice) -> Any:
    """Fill one side by projections on convex sets (Haacke et al., J Magn Reson 92 (1991) 126).

    Parameters and result as for `homodyne`, but acquired lines stay as they are, so that phase
    which is not that of the k-space centre survives as far as the data know it.
    """
    xp = array_api_compat.array_namespace(image)
    n = image.shape[axis]
    kspace = fftc(image, (axis,))
    phase = _unit(ifftc(kspace * _along(_centre_window(n, acquired), image, axis), (axis,)))
    window = [slice(None)] * image.ndim
    window[axis] = acquired
    known = kspace[tuple(window)]
    for _ in range(POCS_ITERATIONS):
        guess = (image * xp.conj(phase)).real
        kspace = fftc(guess * phase, (axis,))
        kspace[tuple(window)] = known
        image = ifftc(kspace, (axis,))
    return image


def fill(image: Any, axis: int, acquired: slice, method: str) -> Any:
    """Apply one of `METHODS`."""
    if method == "homodyne":
        return homodyne(image, axis, acquired)
    if method == "pocs":
        return pocs(image, axis, acquired)
    return image


def noise_factor(n: int, acquired: slice, method: str) -> float:
    """Return sigma of the noise relative to all ``n`` lines, in phase with the image.

    Lines without an acquired counterpart count twice in it.
    """
    if method == "zero-fill":
        weights = np.zeros(n)
        weights[acquired] = 1
    else:
        weights = homodyne_weights(n, acquired)
    return float(np.sqrt(np.mean(weights**2)))


def homodyne_weights(n: int, acquired: slice) -> np.ndarray:
    """Return the weight of each line, float32 (n): 0 where missing, 2 for its counterpart.

    Against ringing, the weight goes from 1 to these over the outer half of the symmetric centre.
    The weights of two counterparts always add up to 2.
    """
    centre = n // 2
    distance = np.arange(n) - centre
    half = _half_width(n, acquired)
    ramp = np.clip((np.abs(distance) - half / 2) / (half / 2 + 1), 0, 1)
    side = 1 if centre - acquired.start < acquired.stop - 1 - centre else -1
    weights = 1 + np.sign(distance) * side * ramp
    weights[: acquired.start] = 0
    weights[acquired.stop :] = 0
    if n % 2 == 0 and acquired.start == 0:
        weights[0] = 1
    return weights.astype(np.float32)


def _half_width(n: int, acquired: slice) -> int:
    """Return how many lines on either side of the centre have a counterpart."""
    return int(min(n // 2 - acquired.start, acquired.stop - 1 - n // 2))


def _centre_window(n: int, acquired: slice) -> np.ndarray:
    """Return a Hann window over the symmetrically acquired centre, float32 (n)."""
    distance = np.abs(np.arange(n) - n // 2) / (_half_width(n, acquired) + 1)
    return np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0).astype(np.float32)


def _along(weights: np.ndarray, image: Any, axis: int) -> Any:
    xp = array_api_compat.array_namespace(image)
    shape = [1] * image.ndim
    shape[axis] = -1
    return xp.reshape(xp.asarray(weights), tuple(shape))


def _unit(image: Any) -> Any:
    xp = array_api_compat.array_namespace(image)
    size = xp.abs(image)
    return xp.where(size > 0, image / xp.where(size > 0, size, 1), 1)
