"""Labelled sagittal slices of random phantom patients, for training the labelling network.

This is how the scanner's truth and the engines' training meet: through a folder of files, one per
patient. A file holds what the slices are made of, not images: contrasts are made in training.
Synthetic throughout.
"""

from pathlib import Path

import numpy as np
from rich.progress import track

from scanner.phantom import LumbarSpine
from scanner.phantom.labels_truth import structure_labels
from scanner.phantom.variants_population import random_parameters
from scanner.structures import STRUCTURES
from scanner.tissues import tissue_table

SHAPE = (256, 176)
"""Rows from head to feet, columns from front to back."""
PIXEL_MM = 1.4
SLICES = 8
TRANSITIONAL = 0.35
"""Share of patients whose levels cannot be numbered without doubt: far more than there are."""


def labelled_slices(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return sagittal slices of one random patient.

    Half of them lie within 15 mm of the midline, half within 50 mm; all are a little oblique. Each
    is sampled at two depths, whose mean is the image of a slice 2 to 5 mm thick.

    Returns
    -------
    dict of ndarray
        ``tissue`` (slice, depth, row, column), uint8; ``density`` and ``fat`` likewise, as parts of
        255; ``structure`` (slice, row, column) of the middle of the slice, uint8; ``structures``:
        the name of each structure; ``landmark_names``, and ``landmarks`` (slice, landmark, 3),
        float32: row, column, and mm from the slice; ``parameters`` (field, tissue, 5), float32, of
        water and fat at 1.5 and 3 T: density, T1, T2, fat T1, fat T2; ``pixel_mm``; ``doubt``:
        whether the levels cannot be numbered.
    """
    parameters = random_parameters(rng, transitional=TRANSITIONAL)
    spine = LumbarSpine(parameters)
    variants = parameters.variants
    marks = spine.landmarks()
    names = [name for name in marks if not name.startswith("SI")]
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("tissue", "structure", "density", "fat", "landmarks")
    }
    for number in range(SLICES):
        points, axes, corner = _slice(rng, 15.0 if number % 2 else 50.0)
        depths = rng.uniform(2.0, 5.0) * np.array([-0.3, 0.3])
        sampled = spine.sample((points + depths[:, None, None, None] * axes[2]).astype(np.float32))
        found["tissue"].append(sampled.labels)
        found["structure"].append(structure_labels(spine, points))
        for name, part in (("density", sampled.density / 2), ("fat", sampled.fat_fraction)):
            found[name].append(np.round(np.clip(part, 0, 1) * 255).astype(np.uint8))
        off = (np.stack([marks[name] for name in names]) - corner) @ axes.T
        found["landmarks"].append((off / (PIXEL_MM, PIXEL_MM, 1.0)).astype(np.float32))
    return {
        **{name: np.stack(part) for name, part in found.items()},
        "landmark_names": np.array(names),
        "structures": np.array(STRUCTURES),
        "parameters": _tissues(),
        "pixel_mm": np.array(PIXEL_MM, np.float32),
        "doubt": np.array(variants.lumbar_bodies != 5 or variants.transitional != ""),
    }


def _slice(rng: np.random.Generator, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of an oblique sagittal slice, its row, column and normal, and its first point."""
    normal = np.array([1.0, *rng.normal(0, 0.06, 2)])
    column = np.array([0.0, 1.0, 0.0]) - normal[1] * normal
    normal, column = normal / np.linalg.norm(normal), column / np.linalg.norm(column)
    axes = np.stack([np.cross(column, normal), column, normal])
    axes[0] *= -np.sign(axes[0, 2])
    centre = np.array([rng.uniform(-reach, reach), 0.0, -15.0])
    rows, columns = ((np.arange(n) - n / 2) * PIXEL_MM for n in SHAPE)
    points = centre + rows[:, None, None] * axes[0] + columns[None, :, None] * axes[1]
    return points.astype(np.float32), axes, points[0, 0]


def _tissues() -> np.ndarray:
    names = ("pd", "t1_ms", "t2_ms", "fat_t1_ms", "fat_t2_ms")
    return np.array(
        [
            [[getattr(tissue, name) for name in names] for tissue in tissue_table(field)]
            for field in (1.5, 3.0)
        ],
        np.float32,
    )


def write_labelled(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` files of `labelled_slices`. Files which are there are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), "patients"):
        path = folder / f"{seed:08d}-{number:05d}.npz"
        if path.exists():
            continue
        arrays = labelled_slices(np.random.default_rng((seed, 4, number)))
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        part.rename(path)
