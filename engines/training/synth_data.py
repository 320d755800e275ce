"""Examples to train synthetic contrasts on: slices of patients as sequences would show them.

The folder is what `boreside phantoms --synthesis` writes. What is drawn at random here: timing
(of those in the file), flip angle over the body, receive shading, chemical shift, resolution,
patient motion between two sequences, noise, and the gain of each image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from engines.familiar import scale_of
from engines.training.labels_contrast import smooth

COARSE = 4
"""Of so many points one tells the scale of a whole slice."""
LESION_SHARE = 0.7
"""Of crops that are taken around a lesion, where there is one."""
LESION_WEIGHT, BONE_WEIGHT, AIR_WEIGHT = 4.0, 2.0, 0.3
BONE_HU = 200.0
HU_PER_UNIT = 1000.0
R2STAR_PER_UNIT = 200.0
"""1/s."""
R2STAR_MOST = 300.0
_LATER_S = 4.7e-3
_EARLY_S = 1.3e-3


class Example(NamedTuple):
    """One slice.

    Attributes
    ----------
    planes : float32 (channel, y, x)
        Inputs, in the network's scale.
    target : float32 (1, y, x)
    weight : float32 (1, y, x)
    body : bool (1, y, x)
    """

    planes: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    body: np.ndarray


@dataclass(frozen=True)
class Patient:
    """The arrays of a file; see `scanner.synthesis_data`."""

    arrays: dict[str, np.ndarray]
    names: list[str]

    @property
    def slices(self) -> int:
        return len(self.arrays["tissue"])

    def table(self, contrast: str) -> np.ndarray:
        """Signals under a contrast, float32 (efficiency, 2, tissue)."""
        return np.asarray(self.arrays["signals"][self.names.index(contrast)])


def read_patient(path: Path) -> Patient:
    """Read a file of slices."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Patient(arrays, [str(name) for name in arrays["contrasts"]])


class Slice:
    """A part of a slice of a patient, in one draw of everything that is random.

    Parameters
    ----------
    rng : numpy.random.Generator
    patient : Patient
    number : int
    crop : int or None
        Pixels of its side, most often with lesions; None is all of it.
    """

    def __init__(
        self, rng: np.random.Generator, patient: Patient, number: int, crop: int | None = None
    ) -> None:
        self.rng, self.patient = rng, patient
        turned = rng.random(3) < 0.5

        def turn(array: np.ndarray) -> np.ndarray:
            array = array[..., ::-1, :] if turned[0] else array
            array = array[..., ::-1] if turned[1] else array
            return array.swapaxes(-1, -2) if turned[2] else array

        tissue, density, fat, hu = (
            turn(patient.arrays[name][number]) for name in ("tissue", "density", "fat", "hu")
        )
        side = hu.shape[0]
        crop = crop or side
        top, left = _corner(rng, density, side, crop)
        rows, columns = slice(2 * top, 2 * (top + crop)), slice(2 * left, 2 * (left + crop))
        self._here = _Points(*(a[:, rows, columns] for a in (tissue, density, fat)))
        self._whole = _Points(*(a[:, ::COARSE, ::COARSE] for a in (tissue, density, fat)))
        self.hu = hu[top : top + crop, left : left + crop].astype(np.float32)
        self.shape = (crop, crop)
        self.body = _pixels(self._here.density.sum(axis=0)) > 0.1
        self.lesion = _pixels(self._here.density[1]) > 0.1
        field = 1 + rng.normal(0, 0.05) + 0.06 * smooth(rng, self.shape, rng.uniform(60, 160))
        self._node = int(np.median(field) > 1)
        self._over = np.clip((field - (0.8, 1.0)[self._node]) / 0.2, 0, 1).astype(np.float32)
        strength = rng.uniform(0, 0.45)
        self._shading = np.exp(strength * smooth(rng, self.shape, rng.uniform(70, 200)))

    def image(self, contrast: str, shift: int = 0, moved: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Return magnitudes without noise, float32 (y, x).

        Parameters
        ----------
        contrast : str
        shift : int
            Of fat along the readout, half pixels.
        moved : tuple of 2 int
            Of the patient, half pixels.
        """
        table = self.patient.table(contrast)
        ends = []
        for node in (self._node, self._node + 1):
            water, fat = self._here.species(table[node])
            fine = water + (np.roll(fat, shift, 1) if shift else fat)
            ends.append(_pixels(np.roll(fine, moved, (0, 1)) if any(moved) else fine))
        return np.abs(ends[0] + self._over * (ends[1] - ends[0])) * self._shading

    def water_fat(self, contrast: str, node: int) -> np.ndarray:
        """Return water and fat of a gradient echo, float32 (2, y, x), without noise."""
        parts = self._here.species(self.patient.table(contrast)[node])
        return np.stack([_pixels(part) for part in parts]) * self._shading

    def scale(self, contrast: str, node: int | None = None) -> float:
        """Return about what the scale of the whole slice is under a contrast."""
        node = self._node if node is None else node
        water, fat = self._whole.species(self.patient.table(contrast)[node])
        return max(scale_of(water + fat), 1e-6)

    def seen(self, image: np.ndarray, scale: float) -> np.ndarray:
        """Return an image as a scanner shows it: in its scale, blurred a little, with noise."""
        image = gaussian_filter(image / scale, self.rng.uniform(0.2, 0.6))
        sigma = np.exp(self.rng.uniform(np.log(0.004), np.log(0.05)))
        noise = self.rng.standard_normal((2, *image.shape)) * sigma
        return np.hypot(image + noise[0], noise[1])

    def gain(self, spread: float) -> float:
        """Return a factor about 1."""
        return float(np.exp(self.rng.normal(0, spread)))

    def weights(self) -> np.ndarray:
        """Return how much each pixel counts, float32 (1, y, x)."""
        weight = np.where(self.body, 1.0, AIR_WEIGHT) + LESION_WEIGHT * self.lesion
        return np.asarray(weight[None], np.float32)


class _Points:
    """Tissue at points: each array (part, y, x); the second part is that of lesions."""

    def __init__(self, tissue: np.ndarray, density: np.ndarray, fat: np.ndarray) -> None:
        self.density = density.astype(np.float32) * np.float32(2 / 255)
        share = fat.astype(np.float32) * np.float32(1 / 255)
        parts = range(2 if density[1].any() else 1)
        self._tissue = [tissue[part] for part in parts]
        self._water = [self.density[part] * (1 - share[part]) for part in parts]
        self._fat = [self.density[part] * share[part] for part in parts]

    def species(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the signals of water and of fat, of a table (2, tissue)."""
        water = sum(w * table[0][t] for w, t in zip(self._water, self._tissue))
        fat = sum(f * table[1][t] for f, t in zip(self._fat, self._tissue))
        return np.asarray(water), np.asarray(fat)


def _corner(rng: np.random.Generator, density: np.ndarray, side: int, crop: int) -> tuple[int, int]:
    """Return the first row and column of a crop."""
    if crop == side:
        return 0, 0
    sick = np.argwhere(density[1, ::COARSE, ::COARSE] > 25) * (COARSE / 2)
    if len(sick) and rng.random() < LESION_SHARE:
        middle = sick[rng.integers(len(sick))] + rng.uniform(-0.3, 0.3, 2) * crop
    else:
        middle = rng.uniform(crop / 2, side - crop / 2, 2)
    top, left = np.clip(middle - crop / 2, 0, side - crop).astype(int)
    return int(top), int(left)


def _pixels(fine: np.ndarray) -> np.ndarray:
    y, x = fine.shape
    return np.asarray(fine.reshape(y // 2, 2, x // 2, 2).mean(axis=(1, 3)))


def stir(one: Slice) -> Example:
    """T1w and T2w, each in its own scale; STIR in that of T2w."""
    rng = one.rng
    moved = (0, 0)
    if rng.random() < 0.5:
        moved = (int(rng.integers(-2, 3)), int(rng.integers(-2, 3)))
    first, second = (f"{name}-{rng.integers(3)}" for name in ("t1", "t2"))
    t1_scale = one.scale(first) * one.gain(0.1)
    t1 = one.seen(one.image(first, int(rng.integers(-2, 3)), moved), t1_scale)
    scale = one.scale(second) * one.gain(0.1)
    t2 = one.seen(one.image(second, int(rng.integers(-2, 3))), scale)
    target = gaussian_filter(one.image("stir"), 0.3)[None] / scale
    return _example(one, np.stack([t1, t2]), target, one.weights())


def ct(one: Slice) -> Example:
    """Water, fat, both in phase and opposed, and R2*; Hounsfield units over `HU_PER_UNIT`."""
    rng = one.rng
    node = int(rng.integers(3))
    scale = one.scale("early", node) * one.gain(0.1)
    blur = rng.uniform(0.2, 0.6)
    early, late = (
        np.stack([gaussian_filter(part / scale, blur) for part in one.water_fat(name, node)])
        for name in ("early", "late")
    )
    sums = early.sum(axis=0), late.sum(axis=0)
    sigma = np.exp(rng.uniform(np.log(0.004), np.log(0.035)))
    seen = sums[0] > 3 * sigma
    rate = np.log(np.maximum(sums[0], 1e-6) / np.maximum(sums[1], 1e-6)) / _LATER_S
    doubt = 1.5 * sigma / np.maximum(sums[0], sigma) / _LATER_S
    rate = np.clip(rate + doubt * rng.standard_normal(one.shape), 0, R2STAR_MOST) * seen
    noise = rng.standard_normal((2, 2, *one.shape)) * sigma
    water, fat = early * np.exp(_EARLY_S * rate) + noise[0] + 1j * noise[1]
    channels = [water, fat, water + fat, water - fat]
    planes = np.stack([*(np.abs(c) for c in channels), rate / R2STAR_PER_UNIT])
    hu = one.hu[None]
    weight = one.weights() + BONE_WEIGHT * (hu > BONE_HU)
    return _example(one, planes, hu / HU_PER_UNIT, weight)


def enhancement(one: Slice) -> Example:
    """T1w, T2w and STIR before, each in its own scale; what T1w gains, in that of T1w."""
    rng = one.rng
    number = rng.integers(3)
    before, after = one.image(f"t1-{number}"), one.image(f"t1 enhanced-{number}")
    scale = one.scale(f"t1-{number}") * one.gain(0.1)
    planes = [one.seen(before, scale)]
    for name in (f"t2-{rng.integers(3)}", "stir"):
        planes.append(one.seen(one.image(name), one.scale(name) * one.gain(0.1)))
    target = gaussian_filter(after - before, 0.3)[None] / scale
    return _example(one, np.stack(planes), target, one.weights())


def _example(one: Slice, planes: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Example:
    planes, target, weight = (np.asarray(a, np.float32) for a in (planes, target, weight))
    return Example(planes, target, weight, one.body[None])


@dataclass(frozen=True)
class Task:
    """What one network makes of what.

    Attributes
    ----------
    name : str
        Of the weights.
    channels : tuple of str
    made : str
    scale : str
        What 1 means in its output.
    example : callable
    """

    name: str
    channels: tuple[str, ...]
    made: str
    scale: str
    example: Callable[[Slice], Example]


TASKS = {
    "stir": Task("stir", ("t1", "t2"), "stir", "98th percentile of the body in T2w", stir),
    "ct": Task(
        "ct",
        ("water", "fat", "in_phase", "opposed_phase", "r2star"),
        "hounsfield",
        f"{HU_PER_UNIT:g} HU",
        ct,
    ),
    "enhancement": Task(
        "enhancement",
        ("t1", "t2", "stir"),
        "difference",
        "98th percentile of the body in T1w",
        enhancement,
    ),
}


class Maker:
    """Example number n of a seed, always the same for the same files.

    Every eighth patient is kept for validation.

    Parameters
    ----------
    folder : Path
    task : str
        Of `TASKS`.
    seed : int
    crop : int or None
        Pixels of a side; None for whole slices.
    validation : bool
        Of those patients alone.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        seed: int,
        crop: int | None = None,
        validation: bool = False,
    ) -> None:
        files = sorted(folder.glob("*.npz"))
        self._files = [f for n, f in enumerate(files) if (n % 8 == 7) == validation]
        if not self._files:
            raise ValueError(f"{folder}: expected the files of `boreside phantoms --synthesis`")
        self._task, self._seed, self._crop = task, seed, crop
        self._kept: dict[int, Patient] = {}

    def __getitem__(self, number: int) -> Example:
        rng = np.random.default_rng((self._seed, 7, number))
        which = int(rng.integers(len(self._files)))
        if which not in self._kept:
            self._kept[which] = read_patient(self._files[which])
        patient = self._kept[which]
        one = Slice(rng, patient, int(rng.integers(patient.slices)), self._crop)
        return TASKS[self._task].example(one)
