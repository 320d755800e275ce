"""Clean complex images to train on: random scenes, and a folder of images where one is given.

A folder may hold, in any depth, NumPy files (`.npy`, `.npz`), NIfTI (`.nii`, `.nii.gz`), pictures
(`.png`, `.jpg`, `.tif`) and HDF5 files in the fastMRI format (`reconstruction_rss`). Whatever is in
a file is taken as a stack of 2D images along its longest two spatial axes. Magnitudes are enough:
phase is added here.
"""

import gzip
import struct
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import scipy.fft
from PIL import Image as Picture

from engines.training.procedural import scene, smooth_field

SIZE = 256
"""Side of the images which a network is trained on crops of."""


class CleanImage(NamedTuple):
    """What would be measured without noise.

    Attributes
    ----------
    image : complex64 (256, 256)
        99th percentile of the magnitude is 1.
    support : float32 (2,)
        Part of k-space that is not empty along y and x: less than 1 where it is interpolated.
    """

    image: np.ndarray
    support: np.ndarray


class Images:
    """Image number n of a seed, always the same.

    Parameters
    ----------
    seed : int
    folder : Path or None
        Half of the images come from it, the others are random scenes; all are, without it.
    """

    def __init__(self, seed: int, folder: Path | None = None) -> None:
        self._seed = seed
        self._files = find_files(folder) if folder else []

    def __getitem__(self, number: int) -> CleanImage:
        rng = np.random.default_rng((self._seed, 1, number))
        if self._files and rng.random() < 0.5:
            stack = read_stack(self._files[rng.integers(len(self._files))])
            source = stack[rng.integers(len(stack))].astype(np.complex64)
            source = np.rot90(source, int(rng.integers(4)))
            source *= (np.abs(source) / (np.abs(source).max() + 1e-9) + 1e-3) ** rng.uniform(
                -0.3, 0.3
            )
        else:
            source = scene(rng, int(rng.integers(256, 513)))
        return finish(rng, source)


def finish(rng: np.random.Generator, source: np.ndarray) -> CleanImage:
    """Bring a scene to the training size: resolution, interpolation, phase, coil shading."""
    side = max(SIZE // 2, min(source.shape))
    source = _cut(source, (side, side))
    resolution = int(np.clip(side * rng.uniform(0.45, 1.0), SIZE // 2, SIZE))
    support = np.ones(2, np.float32)
    if rng.random() < 0.35:
        support = rng.uniform(0.5, 1.0, 2).astype(np.float32)
    kept = [min(resolution, max(48, round(SIZE * part))) for part in support]
    magnitude = scipy.fft.fftshift(scipy.fft.fft2(source, norm="forward"))
    spectrum = _cut(magnitude, (kept[0], kept[1]))
    target = [k if s == 1 else SIZE for k, s in zip(kept, support)]
    spectrum = _cut(spectrum, (target[0], target[1]))
    image = scipy.fft.ifft2(scipy.fft.ifftshift(spectrum), norm="forward")
    image = _cut(image, (SIZE, SIZE), mode="wrap" if rng.random() < 0.5 else "constant")
    if rng.random() < 0.5:
        image = image * np.exp(rng.uniform(0.1, 0.6) * smooth_field(rng, SIZE, 1.0))
    phase = rng.uniform(0, 2 * np.pi) + rng.uniform(0, 1.5) * smooth_field(rng, SIZE, 1.5)
    image = image * np.exp(1j * phase)
    top = np.percentile(np.abs(image), 99)
    image = image / max(top, 1e-6) if top > 1e-6 else image
    spread = np.array([k / SIZE if s < 1 else 1.0 for k, s in zip(kept, support)], np.float32)
    return CleanImage(image.astype(np.complex64), spread)


def _cut(array: np.ndarray, shape: tuple[int, int], mode: str = "constant") -> np.ndarray:
    """Cut the centre out, or extend with zeros (or periodically) to a shape."""
    for axis, size in enumerate(shape):
        have = array.shape[axis]
        if have > size:
            start = have // 2 - size // 2
            array = np.take(array, np.arange(start, start + size), axis)
        elif have < size:
            before = size // 2 - have // 2
            pads = [(0, 0), (0, 0)]
            pads[axis] = (before, size - have - before)
            array = np.pad(array, pads, mode=mode)  # type: ignore[call-overload]
    return array


def find_files(folder: Path) -> list[Path]:
    """Return the readable files of a folder, sorted.

    Raises
    ------
    ValueError
        There are none.
    """
    known = (".npy", ".npz", ".nii", ".nii.gz", ".png", ".jpg", ".tif", ".h5")
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(known))
    if not files:
        raise ValueError(f"{folder}: expected files of {', '.join(known)}, found none")
    return files


@lru_cache(maxsize=64)
def read_stack(path: Path) -> np.ndarray:
    """Return the images of a file, float16 or complex64 (image, y, x).

    Raises
    ------
    ValueError
        It does not hold images.
    """
    name = path.name.lower()
    if name.endswith(".npy"):
        array = np.load(path, allow_pickle=False)
    elif name.endswith(".npz"):
        with np.load(path, allow_pickle=False) as archive:
            array = archive[archive.files[0]]
    elif name.endswith((".nii", ".nii.gz")):
        array = read_nifti(path)
    elif name.endswith(".h5"):
        with h5py.File(path) as file:
            if "reconstruction_rss" not in file:
                raise ValueError(f"{path}: expected a data set reconstruction_rss (fastMRI)")
            array = file["reconstruction_rss"][:]
    else:
        array = np.asarray(Picture.open(path).convert("F"))
    array = np.squeeze(array)
    if array.ndim < 2:
        raise ValueError(f"{path}: expected images, found an array {array.shape}")
    if name.endswith((".nii", ".nii.gz")) or array.ndim == 2:
        array = array.reshape(*array.shape[:2], -1).transpose(2, 1, 0)
    array = array.reshape(-1, *array.shape[-2:])
    filled = np.abs(array).max(axis=(1, 2)) > 0.05 * np.abs(array).max()
    array = array[filled]
    if np.iscomplexobj(array):
        return np.asarray(array / np.abs(array).max(), np.complex64)
    return np.asarray(array.astype(np.float32) / np.abs(array).max(), np.float16)


_NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


def read_nifti(path: Path) -> np.ndarray:
    """Return the voxels of a NIfTI-1 file (one file, maybe compressed), scaled, (x, y, z, ...).

    Raises
    ------
    ValueError
        It is not one.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    order: Literal["<", ">"] = "<" if content[:4] == struct.pack("<i", 348) else ">"
    if len(content) < 352 or content[344:347] != b"n+1":
        raise ValueError(f"{path}: expected a NIfTI-1 file (n+1)")
    dimensions = struct.unpack(order + "8h", content[40:56])
    (code,) = struct.unpack(order + "h", content[70:72])
    start, slope, intercept = struct.unpack(order + "3f", content[108:120])
    if code not in _NIFTI_TYPES:
        raise ValueError(f"{path}: NIfTI data type {code} is not read here")
    shape = dimensions[1 : 1 + dimensions[0]]
    dtype = np.dtype(_NIFTI_TYPES[code]).newbyteorder(order)
    voxels = np.frombuffer(content, dtype, int(np.prod(shape)), int(start))
    scaled = voxels.reshape(shape, order="F").astype(np.float32)
    return scaled * slope + intercept if slope else scaled
