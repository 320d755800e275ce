"""From tissue to an image of any contrast, coil and quality: domain randomisation.

Intensities are drawn for each tissue at random (Billot et al., SynthSeg, Med Image Anal 86 (2023)
102789), or by the signal equations of spin echo and inversion recovery with random timing, which
was better for turbo spin echoes of the lumbar spine (SynthMRI, Utrecht).
"""

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

Array = np.ndarray


def smooth(rng: np.random.Generator, shape: tuple[int, int], pixels: float) -> Array:
    """Return a random field of unit deviation that varies over about so many pixels, float32."""
    step = max(2, int(pixels / 2))
    small = rng.standard_normal([n // step + 4 for n in shape]).astype(np.float32)
    small = gaussian_filter(small, 1.0)
    field = _enlarge(small, step)[step : step + shape[0], step : step + shape[1]]
    return np.asarray(field / (small.std() + 1e-6), np.float32)


def _enlarge(small: Array, step: int) -> Array:
    for axis in (0, 1):
        n = small.shape[axis]
        at = np.arange((n - 1) * step) / step
        low, part = at.astype(int), (at % 1).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None]
        small = np.take(small, low, axis) * (1 - part) + np.take(small, low + 1, axis) * part
    return small


def levels(rng: np.random.Generator, parameters: Array) -> tuple[Array, Array]:
    """Return the signal of water and of fat of each tissue, float32 (tissue).

    Parameters
    ----------
    parameters : float32 (field, tissue, 5)
        Density, T1, T2, T1 of fat, T2 of fat.
    """
    table = parameters[rng.integers(len(parameters))]
    count = len(table)
    if rng.random() < 0.35:
        water, fat = rng.uniform(0, 1, (2, count)) * (table[:, 0] > 0)
        return water.astype(np.float32), fat.astype(np.float32)
    density, t1, t2, fat_t1, fat_t2 = (table * np.exp(rng.normal(0, 0.12, table.shape))).T
    kind = rng.choice(4, p=[0.3, 0.35, 0.25, 0.1])
    tr, te = [
        (rng.uniform(350, 900), rng.uniform(7, 20)),
        (rng.uniform(2200, 6000), rng.uniform(60, 130)),
        (rng.uniform(3000, 6000), rng.uniform(25, 90)),
        (rng.uniform(1500, 4000), rng.uniform(8, 50)),
    ][kind]
    inversion = rng.uniform(130, 260) if kind == 2 else 0.0

    def signal(t1: Array, t2: Array) -> Array:
        inverted = 2 * np.exp(-inversion / t1) if inversion else 0.0
        sign = 1 if inversion else -1
        return np.asarray(np.abs(1 - inverted + sign * np.exp(-tr / t1)) * np.exp(-te / t2))

    water, fat = density * signal(t1, t2), density * signal(fat_t1, fat_t2)
    if kind != 2 and rng.random() < 0.15:  # fat saturated
        fat = fat * rng.uniform(0.03, 0.3)
    return water.astype(np.float32), fat.astype(np.float32)


def render(
    rng: np.random.Generator, tissue: Array, density: Array, fat: Array, parameters: Array
) -> Array:
    """Return an image, its 99th percentile 1, float32 (y, x).

    Parameters
    ----------
    tissue : uint8 (depth, y, x)
    density, fat : float32 (depth, y, x)
        Depths within the slice, whose signals are added up.
    parameters : float32 (field, tissue, 5)
    """
    shape = tissue.shape[1:]
    water_of, fat_of = levels(rng, parameters)
    if rng.random() < 0.3:
        fat = np.clip(fat + rng.normal(0, 0.15), 0, 1)
    image = ((water_of[tissue] * (1 - fat) + fat_of[tissue] * fat) * density).mean(axis=0)
    image = image * (1 + rng.uniform(0, 0.15) * smooth(rng, shape, rng.uniform(4, 16)))
    image = gaussian_filter(np.abs(image), rng.uniform(0.35, 1.0, 2) * rng.choice([0.7, 1.0, 1.5]))
    image = image * np.exp(rng.uniform(0, 0.5) * smooth(rng, shape, rng.uniform(60, 160)))
    if rng.random() < 0.5:  # a surface coil behind the back
        across = np.linspace(1, 0, shape[1], dtype=np.float32) + rng.uniform(0.2, 1.0)
        image = image / across ** rng.uniform(0.3, 2.0)
    if rng.random() < 0.25:  # a saturation band in front of the spine
        edge = rng.uniform(0.0, 0.4) * shape[1] + rng.uniform(-0.1, 0.1) * np.arange(shape[0])
        inside = np.clip((np.arange(shape[1])[None] - edge[:, None]) / 4, 0, 1)
        image = image * (rng.uniform(0.05, 0.4) + inside * (1 - rng.uniform(0.05, 0.4)))
    if rng.random() < 0.12:  # wrap
        axis = int(rng.integers(2))
        image = image + rng.uniform(0.1, 0.6) * np.roll(image, shape[axis] // 2, axis)
    if rng.random() < 0.15:  # ghosts of motion
        moved = np.roll(image, int(rng.integers(10, 60)), int(rng.integers(2)))
        image = image + rng.uniform(0.03, 0.12) * moved
    image = _normalised(image)
    if rng.random() < 0.3:
        image = _normalised(_coarse(rng, image))
    sigma = np.exp(rng.uniform(np.log(0.004), np.log(0.12)))
    noise = rng.standard_normal((2, *shape)).astype(np.float32) * sigma
    image = np.hypot(image + noise[0], noise[1])
    image = _normalised(image)
    return np.asarray(np.minimum(image, 3.0) ** np.exp(rng.normal(0, 0.25)), np.float32)


def _coarse(rng: np.random.Generator, image: Array) -> Array:
    """Keep the centre of k-space only."""
    spectrum = scipy.fft.fft2(image)
    for axis, n in enumerate(image.shape):
        kept = np.abs(np.fft.fftfreq(n)) <= 0.5 * rng.uniform(0.4, 1.0)
        spectrum = spectrum * (kept[:, None] if axis == 0 else kept[None])
    return np.asarray(np.abs(scipy.fft.ifft2(spectrum)), np.float32)


def _normalised(image: Array) -> Array:
    return image / max(float(np.percentile(image, 99)), 1e-6)
