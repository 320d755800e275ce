"""Noise level of a frame whose measurement had no noise scan, estimated from the data themselves.

An object's signal falls off with distance from the k-space centre, noise does not. So the outermost
of what was acquired is taken for noise, and its standard deviation from the median of magnitudes,
which the few samples that still hold signal hardly move (Donoho and Johnstone, Biometrika 81 (1994)
425, do so with the finest wavelets). Signal can only raise it: it is an upper bound, and of data
that are hardly noisy (SNR above 100) a loose one.

This is one number for all coils, good enough to tell a network how noisy an image is. It is no
noise scan (Kellman and McVeigh, Magn Reson Med 54 (2005) 1439): images are not in SNR units by it.
"""

import array_api_compat
import numpy as np

from gadgets.fft import fftc
from gadgets.items import Frame

OUTERMOST = 0.05
"""Part of the acquired samples which is taken for noise."""

MEDIAN_MAGNITUDE = 0.67449
"""Of a normal distribution of sigma 1."""


def noise_level(frame: Frame) -> float:
    """Return sigma of the noise of k-space per real channel, median over coils.

    Parameters
    ----------
    frame : Frame
        With whole readouts.

    Returns
    -------
    float
        In the units of its samples. 0 where the outermost samples are zero.
    """
    xp = array_api_compat.array_namespace(frame.kspace)
    kz, ky = np.nonzero(frame.mask)
    samples = fftc(frame.kspace[:, xp.asarray(kz), xp.asarray(ky)], (2,))
    radius = _squared_radius(frame.mask.shape, (kz, ky), samples.shape[2])
    count = max(1, round(OUTERMOST * radius.size))
    outermost = np.argpartition(radius.ravel(), -count)[-count:]
    values = xp.reshape(samples, (samples.shape[0], -1))[:, xp.asarray(outermost)]
    parts = xp.abs(xp.concat([values.real, values.imag], axis=1))
    sigma = xp.median(parts, axis=1) / MEDIAN_MAGNITUDE
    return float(xp.median(sigma))


def _squared_radius(
    shape: tuple[int, ...], lines: tuple[np.ndarray, np.ndarray], samples: int
) -> np.ndarray:
    """Return the squared distance from the k-space centre, (line, kx); 1 at the end of an axis."""
    along = [((line - n // 2) / (n / 2)) ** 2 for line, n in zip(lines, shape) if n > 1]
    kx = ((np.arange(samples) - samples // 2) / (samples / 2)) ** 2 * (samples > 1)
    return np.asarray(sum(along, np.zeros(len(lines[0])))[:, None] + kx)
