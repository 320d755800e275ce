"""Synthetic multi-coil scans: random smooth coils, sampling and noise. In SNR units."""

from typing import NamedTuple

import numpy as np
import scipy.fft

from engines.training.procedural import smooth_field


class Scan(NamedTuple):
    """One slice.

    Attributes
    ----------
    truth : complex64 (1, y, x)
    maps : complex64 (coil, 1, y, x)
        As estimated: not quite those of the scan.
    kspace : complex64 (coil, 1, ky, x)
    mask : bool (1, ky)
    """

    truth: np.ndarray
    maps: np.ndarray
    kspace: np.ndarray
    mask: np.ndarray


def coil_maps(rng: np.random.Generator, coils: int, shape: tuple[int, int]) -> np.ndarray:
    """Return sensitivities of coils around the field of view, complex64 (coil, y, x), unit norm."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.4, 2)
    maps = []
    for number in range(coils):
        angle = turn + 2 * np.pi * (number + rng.uniform(-0.3, 0.3)) / coils
        cy, cx = stretch * (np.sin(angle), np.cos(angle))
        distance = (y - cy) ** 2 + (x - cx) ** 2
        size = 1 / (distance + rng.uniform(0.2, 0.5)) ** 1.2
        slope = rng.normal(0, 0.8, 2)
        phase = (
            rng.uniform(0, 2 * np.pi)
            + slope[0] * y
            + slope[1] * x
            + np.arctan2(y - 1.3 * cy, x - 1.3 * cx)
        )
        maps.append(size * np.exp(1j * phase))
    stack = np.array(maps)
    return np.asarray(stack / np.sqrt(np.sum(np.abs(stack) ** 2, 0)), np.complex64)


def estimated(rng: np.random.Generator, maps: np.ndarray) -> np.ndarray:
    """Return sensitivities with a smooth error of 0.2 to 3 %, complex64 (coil, y, x), unit norm."""
    size, error = max(maps.shape[1:]), np.exp(rng.uniform(np.log(0.002), np.log(0.03)))
    waves, (ny, nx) = rng.uniform(2, 8), maps.shape[1:]
    found = []
    for one in maps:
        field = smooth_field(rng, size, waves) + 1j * smooth_field(rng, size, waves)
        found.append(one * (1 + error * field[:ny, :nx]))
    stack = np.array(found)
    return np.asarray(stack / np.sqrt(np.sum(np.abs(stack) ** 2, 0)), np.complex64)


def sampling(rng: np.random.Generator, ny: int, factor: int) -> np.ndarray:
    """Return a sampling of lines, bool (1, ky): mostly uniform, sometimes random; with a centre."""
    line = np.arange(ny) - ny // 2
    mask = line % factor == 0
    if rng.random() < 0.3:
        mask = rng.random(ny) < 1 / factor
    mask |= np.abs(line) < 12
    if rng.random() < 0.2:
        mask &= line > -rng.uniform(0.25, 0.4) * ny
    return np.asarray(mask[None])


def scan(rng: np.random.Generator, image: np.ndarray, coils: int, factor: int, snr: float) -> Scan:
    """Return a scan of an image whose 99th percentile is 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    image : complex64 (y, x)
    coils, factor : int
        Receive channels; encoded over acquired lines outside the centre.
    snr : float
        99th percentile of the fully sampled image over its noise sigma per real channel.
    """
    maps = coil_maps(rng, coils, (image.shape[0], image.shape[1]))[:, None]
    truth = (snr * image).astype(np.complex64)[None]
    mask = sampling(rng, image.shape[0], factor)
    coil_images = scipy.fft.ifftshift(maps * truth, axes=-2)
    kspace = scipy.fft.fftshift(scipy.fft.fft(coil_images, axis=-2, norm="ortho"), axes=-2)
    noise = rng.standard_normal((*kspace.shape, 2), np.float32).view(np.complex64)[..., 0]
    known = estimated(rng, maps[:, 0])[:, None]
    return Scan(truth, known, (kspace + noise) * mask[None, :, :, None], mask)
