"""Noise as reconstructed images have it: complex, of varying strength, sometimes correlated."""

import numpy as np
import scipy.fft

from engines.training.procedural import smooth_field


def sigma_map(rng: np.random.Generator, size: int, base: float) -> np.ndarray:
    """Return a noise map, float32 (size, size): even, or smooth and banded as a g-factor map is.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int
    base : float
        Where it is least, about.
    """
    if rng.random() < 0.35:
        return np.full((size, size), base, np.float32)
    gain = rng.uniform(0.1, 0.6) * smooth_field(rng, size, rng.uniform(0.7, 4))
    if rng.random() < 0.5:
        bands = np.maximum(smooth_field(rng, size, rng.uniform(1, 5)), 0)
        gain = gain + rng.uniform(0.2, 0.7) * bands
    return (base * np.exp(np.clip(gain, -1.0, 1.6))).astype(np.float32)


def complex_noise(rng: np.random.Generator, size: int, support: np.ndarray) -> np.ndarray:
    """Return noise of sigma 1 per real channel, complex64 (size, size).

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int
    support : (2,)
        Part of k-space it fills along y and x; where that is all of it, it is sometimes shaped
        as by a partial Fourier or a smoothing filter. Where it is not, the noise is sometimes white
        all the same: an image may have been smooth from the start.
    """
    white = rng.standard_normal((size, size, 2), np.float32).view(np.complex64)[..., 0]
    if support.min() < 1 and rng.random() < 0.5:
        return white
    filters = [np.abs(np.fft.fftfreq(size)) <= part / 2 for part in support]
    weight = filters[0][:, None] * filters[1][None].astype(np.float32)
    if support.min() >= 1:
        choice = rng.random()
        if choice > 0.3:
            return white
        frequency = np.fft.fftfreq(size).astype(np.float32)
        if choice < 0.15:
            line = np.where(frequency > rng.uniform(0.1, 0.4), rng.uniform(0, 0.6), 1)
            weight = np.broadcast_to(line[:, None] if rng.random() < 0.5 else line, weight.shape)
        else:
            radius = np.hypot(frequency[:, None], frequency[None])
            weight = 1 / (1 + (radius / rng.uniform(0.3, 0.6)) ** 4)
    coloured = scipy.fft.ifft2(scipy.fft.fft2(white, norm="ortho") * weight, norm="ortho")
    return np.asarray(coloured / np.sqrt(np.mean(weight**2)), np.complex64)
