"""Images of the digital phantom for training: random patients, planes and contrasts.

This is how the scanner's phantom and the engines' training meet: through a folder of images, as a
site's own images would come. Synthetic throughout.
"""

from pathlib import Path

import numpy as np
from rich.progress import track

from scanner.phantom import LumbarSpine, SpineParameters
from scanner.tissues import tissue_table

CONTRASTS = 4


def _plane(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return points of a random plane in mm, float32 (side, side, 3)."""
    field = rng.uniform(160, 400)
    across, along = np.meshgrid(*2 * (np.linspace(-field / 2, field / 2, side),), indexing="ij")
    first, second = [np.array(v, float) for v in ((0, 1, 0), (0, 0, 1))]
    kind = rng.integers(3)
    if kind == 1:
        first = np.array([1.0, 0, 0])
    elif kind == 2:
        first, second = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    tilt = rng.normal(0, 0.15, (3, 3))
    first, second = first + tilt[0], second + tilt[1]
    centre = rng.uniform((-50, -20, -120), (50, 60, 100))
    points = centre + across[..., None] * first + along[..., None] * second
    return np.asarray(points, np.float32)


def _contrast(rng: np.random.Generator, labels: np.ndarray, fat: np.ndarray) -> np.ndarray:
    """Return relative signals, float32: spin echo, inversion recovery or arbitrary."""
    table = tissue_table(float(rng.choice([1.5, 3.0])))

    def values(name: str) -> np.ndarray:
        return np.array([getattr(tissue, name) for tissue in table])

    tr, te = np.exp(rng.uniform(np.log([350, 8]), np.log([6000, 120])))

    def signal(t1: np.ndarray, t2: np.ndarray, inversion: float) -> np.ndarray:
        recovery = (
            1
            - (2 if inversion else 0) * np.exp(-inversion / t1)
            - (1 - 2 * bool(inversion)) * np.exp(-tr / t1)
        )
        return np.asarray(np.abs(recovery) * np.exp(-te / t2))

    inversion = rng.choice([0.0, 150.0, 220.0], p=[0.7, 0.15, 0.15])
    water = values("pd") * signal(values("t1_ms"), values("t2_ms"), inversion)
    lipid = values("pd") * signal(values("fat_t1_ms"), values("fat_t2_ms"), inversion)
    if rng.random() < 0.25:
        water = values("pd") * rng.uniform(0.1, 1, len(table))
        lipid = water * rng.uniform(0.2, 1.5)
    return np.asarray(water[labels] * (1 - fat) + lipid[labels] * fat, np.float32)


def phantom_images(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a plane of a random patient in `CONTRASTS` contrasts, float32 (contrast, y, x).

    Points are sampled four to a pixel; each contrast has a maximum of 1.
    """
    patient = LumbarSpine(
        SpineParameters(
            age=rng.uniform(20, 90),
            size=rng.uniform(0.85, 1.15),
            lordosis_deg=rng.uniform(30, 65),
            seed=int(rng.integers(1 << 31)),
        )
    )
    sampled = patient.sample(_plane(rng, 2 * side))
    images = []
    for _ in range(CONTRASTS):
        fine = _contrast(rng, sampled.labels, sampled.fat_fraction) * sampled.density
        image = fine.reshape(side, 2, side, 2).mean(axis=(1, 3))
        images.append(image / max(float(image.max()), 1e-6))
    return np.stack(images)


def write_phantoms(folder: Path, count: int, seed: int, side: int) -> None:
    """Write ``count`` files of `phantom_images`, float16. Files which are there are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), "phantoms"):
        path = folder / f"{seed:08d}-{number:05d}.npy"
        if path.exists():
            continue
        images = phantom_images(np.random.default_rng((seed, number)), side)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, images.astype(np.float16))
        part.rename(path)
