"""Examples to train the labelling network on: labelled slices, deformed, in a random contrast.

The folder is what `boreside phantoms --labels` writes, or a site's own files of the same arrays.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engines.training.labels_contrast import render, smooth

CLASSES = ("none", "vertebra", "disc", "canal", "sacrum", "S1", "SI")
MARKS = (
    "centre",
    "superior_anterior",
    "superior_posterior",
    "inferior_anterior",
    "inferior_posterior",
    "S1_dorsal_superior",
    "S1_dorsal_inferior",
    "S2_dorsal_inferior",
    "S3_dorsal_inferior",
    "doubt",
)
"""Heat maps. ``doubt`` is of the body of S1: that the levels cannot be numbered."""
SPREAD = 2.5
"""Standard deviation of a landmark's heat, in pixels."""
_REACH_MM = {"centre": 14.0}
_OTHER_REACH_MM = 9.0
_DOUBT_PIXELS = 10.0


class Example(NamedTuple):
    """One crop.

    Attributes
    ----------
    image : float32 (1, y, x)
    classes : uint8 (y, x)
        Index into `CLASSES`.
    heat : float32 (mark, y, x)
        Of `MARKS`.
    near : float32 (y, x)
        1 where ``doubt`` counts.
    """

    image: np.ndarray
    classes: np.ndarray
    heat: np.ndarray
    near: np.ndarray


@dataclass(frozen=True)
class Patient:
    """The arrays of a file; see `scanner.label_data`."""

    arrays: dict[str, np.ndarray]
    classes: np.ndarray
    kinds: np.ndarray

    @property
    def slices(self) -> int:
        return len(self.arrays["tissue"])


def read_patient(path: Path) -> Patient:
    """Read a file of labelled slices."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    classes = [_class_of(str(name)) for name in arrays["structures"]]
    kinds = [_kind_of(str(name)) for name in arrays["landmark_names"]]
    return Patient(arrays, np.array(classes, np.uint8), np.array(kinds))


def _class_of(structure: str) -> int:
    if structure in CLASSES:
        return CLASSES.index(structure)
    if "/" in structure:
        return CLASSES.index("disc")
    if structure.startswith("SI"):
        return CLASSES.index("SI")
    return CLASSES.index("vertebra" if structure else "none")


def _kind_of(landmark: str) -> int:
    """Return the number of the mark, -1 for none."""
    level, _, where = landmark.partition("_")
    name = landmark if landmark in MARKS else where or ("centre" if level != "S1" else "")
    return MARKS.index(name) if name in MARKS else -1


def example(
    rng: np.random.Generator, patient: Patient, number: int, shape: tuple[int, int]
) -> Example:
    """Return a crop of slice ``number``, deformed, in a random contrast."""
    arrays = patient.arrays
    structure = arrays["structure"][number]
    at, inverse = _deformation(rng, structure, shape)
    rows, columns = (np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(at, structure.shape))
    outside = np.zeros(shape, bool)
    for a, n in zip(at, structure.shape):
        outside |= (a < 0) | (a > n - 1)
    outside |= _beyond_view(rng, shape)
    tissue = np.where(outside, 0, arrays["tissue"][number][:, rows, columns])
    density = arrays["density"][number][:, rows, columns].astype(np.float32) * (2 / 255)
    fat = arrays["fat"][number][:, rows, columns].astype(np.float32) / 255
    image = render(rng, tissue, density, fat, arrays["parameters"])
    classes = patient.classes[np.where(outside, 0, structure[rows, columns])]
    marks = inverse(arrays["landmarks"][number][:, :2].astype(np.float64))
    heat, near = _heat(patient, number, marks, outside)
    return Example((image * ~outside)[None].astype(np.float32), classes, heat, near)


def _deformation(rng: np.random.Generator, structure: np.ndarray, shape: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Where each pixel of the crop lies in the slice, and the way back for points (n, 2)."""
    small = rng.random() < 0.25
    scale = rng.uniform(0.5, 0.85) if small else rng.uniform(0.85, 1.2)
    stretch = np.exp(rng.normal(0, 0.06, 2)) / scale
    angle = np.deg2rad(rng.normal(0, 14 if small else 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spine = np.argwhere(structure > 0)
    if len(spine) and rng.random() < 0.95:
        centre = spine[rng.integers(len(spine))] + rng.normal(0, (8, 15))
    else:
        centre = rng.uniform(0, structure.shape)
    pixels = rng.uniform(24, 60)
    bend = rng.uniform(0, 0.05) * pixels * np.stack([smooth(rng, shape, pixels) for _ in range(2)])
    middle = np.array(shape) / 2
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"))
    matrix = turn * stretch
    moved = grid + bend - middle[:, None, None]
    at = np.tensordot(matrix, moved, 1) + centre[:, None, None]

    def inverse(points: np.ndarray) -> np.ndarray:
        straight = (points - centre) @ np.linalg.inv(matrix).T + middle
        found = straight
        for _ in range(4):
            y, x = (np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(found.T, shape))
            found = straight - bend[:, y, x].T
        return found

    return at, inverse


def _beyond_view(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Where a crop is larger than the field of view, which is anywhere in it."""
    outside = np.zeros(shape, bool)
    for axis, n in enumerate(shape):
        for side in (1, -1):
            if rng.random() < 0.15:
                edge = int(rng.uniform(0, 0.3) * n)
                view = np.moveaxis(outside, axis, 0)[::side]
                view[:edge] = True
    return outside


def _heat(
    patient: Patient, number: int, marks: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    shape = outside.shape
    heat, near = np.zeros((len(MARKS), *shape), np.float32), np.zeros(shape, np.float32)
    away = np.abs(patient.arrays["landmarks"][number][:, 2])
    y, x = (np.arange(n, dtype=np.float32) for n in shape)
    names = patient.arrays["landmark_names"]
    for name, kind, (row, column), off in zip(names, patient.kinds, marks, away):
        if not (0 <= row < shape[0] and 0 <= column < shape[1]) or outside[int(row), int(column)]:
            continue
        square = (y[:, None] - row) ** 2 + (x[None] - column) ** 2
        if kind >= 0 and off < _REACH_MM.get(MARKS[kind], _OTHER_REACH_MM):
            heat[kind] = np.maximum(heat[kind], np.exp(square / (-2 * SPREAD**2)))
        if name == "S1" and off < _REACH_MM["centre"]:
            near[square < _DOUBT_PIXELS**2] = 1
    heat[MARKS.index("doubt")] = near * float(patient.arrays["doubt"])
    return heat, near
