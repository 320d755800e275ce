"""Stacks of slices of the measurements of one exam, and one stack brought onto the grid of another.

Contrasts of several measurements can only be put together where the slices are the same and the
patient has not moved: both are looked at here.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import array_api_compat
import numpy as np
from scipy import fft, ndimage

from engines.familiar import scale_of
from gadgets.items import Image
from gadgets.synthesis.marks import Unavailable
from protocols.geometry import directions

EXAMS = 4
"""Whose stacks are kept; the one that was heard of longest ago goes."""
APART = 0.25
"""Most by which two slices may lie apart, in thicknesses."""
COSINE = 0.9995
MOVED_MM = 3.0
"""Most by which the patient may have moved between two measurements."""
OUTSIDE = 0.3
"""Most of the pixels of a stack which the other one may not have."""


@dataclass(frozen=True)
class Stack:
    """Slices of one contrast, in order of position.

    Attributes
    ----------
    images : tuple of Image
        Of one slice each, or one slab.
    """

    images: tuple[Image, ...]

    @property
    def data(self) -> np.ndarray:
        """Magnitudes, float32 (z, y, x)."""
        return np.concatenate([np.abs(_numpy(one.data)) for one in self.images]).astype(np.float32)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """y, x."""
        first = self.images[0]
        _, rows, columns = first.data.shape
        return first.field_of_view[1] / rows, first.field_of_view[0] / columns

    @property
    def snr(self) -> float:
        """What 1 means over the noise of a typical voxel; 0 where the noise is not known."""
        if not all(one.snr_units for one in self.images):
            return 0.0
        maps = [_numpy(one.noise_map) for one in self.images if one.noise_map is not None]
        seen = np.concatenate([part[part > 0] for part in maps]) if maps else np.ones(1)
        return scale_of(self.data) / float(np.median(seen)) if seen.size else 0.0


def stack_of(images: Sequence[Image]) -> Stack:
    """Return the slices of a measurement in order; of a slice that came twice, the later.

    Raises
    ------
    Unavailable
        There are none, or they are not parallel slices of one matrix.
    """
    latest = {image.key.slice: image for image in images}
    whole = list(latest.values())
    if not whole or not all(image.complete for image in whole):
        raise Unavailable("expected whole slices, got none or some with lines missing")
    normals = np.stack([directions(image.header)[2] for image in whole])
    if len({image.data.shape for image in whole}) > 1 or (normals @ normals[0]).min() < COSINE:
        raise Unavailable("expected parallel slices of one matrix")
    at = [float(np.asarray(image.header["position"], float) @ normals[0]) for image in whole]
    return Stack(tuple(whole[k] for k in np.argsort(at)))


def onto(stack: Stack, grid: Stack) -> np.ndarray:
    """Return a stack's magnitudes on the voxels of another, float32 (z, y, x).

    Raises
    ------
    Unavailable
        Other slices, another field of view, or the patient has moved between the two.
    """
    if stack.images[0].data.shape[0] > 1 or grid.images[0].data.shape[0] > 1:
        raise Unavailable("expected stacks of slices, got a slab")
    planes = []
    for target in grid.images:
        source, away = _nearest(stack, target)
        if away > APART * target.field_of_view[2]:
            raise Unavailable(
                f"geometry mismatch: no slice within {APART * target.field_of_view[2]:.1f} mm of"
                f" slice {target.key.slice}, the nearest is {away:.1f} mm away"
            )
        planes.append(_resampled(source, target))
    moved = np.stack(planes)
    middle = len(planes) // 2
    down, right = _shift(np.abs(_numpy(grid.images[middle].data))[0], moved[middle])
    shift_mm = float(np.hypot(down * grid.pixel_mm[0], right * grid.pixel_mm[1]))
    if shift_mm > MOVED_MM:
        raise Unavailable(
            f"geometry mismatch: the patient has moved by about {shift_mm:.1f} mm between the"
            f" measurements, at most {MOVED_MM:g} mm are allowed"
        )
    return moved


def _nearest(stack: Stack, target: Image) -> tuple[Image, float]:
    normal = directions(target.header)[2]
    if abs(directions(stack.images[0].header)[2] @ normal) < COSINE:
        raise Unavailable("geometry mismatch: the slices are tilted against each other")
    at = np.asarray(target.header["position"], float)
    away = [abs((np.asarray(i.header["position"], float) - at) @ normal) for i in stack.images]
    return stack.images[int(np.argmin(away))], float(min(away))


def _resampled(source: Image, target: Image) -> np.ndarray:
    """Return a slice on the pixels of another one, linear; 0 beyond its own field of view."""
    data = np.abs(_numpy(source.data))[0].astype(np.float32)
    row, column, _ = directions(target.header)
    to_row, to_column, _ = directions(source.header)
    offset = np.asarray(target.header["position"], float) - np.asarray(
        source.header["position"], float
    )
    _, rows, columns = target.data.shape
    y = (np.arange(rows) - rows // 2)[:, None] * (target.field_of_view[1] / rows)
    x = (np.arange(columns) - columns // 2) * (target.field_of_view[0] / columns)
    along = [offset @ axis + y * (column @ axis) + x * (row @ axis) for axis in (to_column, to_row)]
    size = source.field_of_view[1::-1]
    at = [mm * n / fov + n // 2 for mm, n, fov in zip(along, data.shape, size, strict=True)]
    beyond = np.zeros((rows, columns), bool)
    for place, count in zip(at, data.shape, strict=True):
        beyond |= (place < -0.5) | (place > count - 0.5)
    if beyond.mean() > OUTSIDE:
        raise Unavailable(
            f"geometry mismatch: {beyond.mean():.0%} of a slice lies outside the other measurement"
        )
    if all(np.allclose(place, np.rint(place), atol=1e-3) for place in at):
        nearest = [np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip(at, data.shape)]
        return np.where(beyond, 0, data[nearest[0], nearest[1]]).astype(np.float32)
    found = ndimage.map_coordinates(data, at, order=1, mode="nearest")
    return np.where(beyond, 0, found).astype(np.float32)


def _shift(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return by how many pixels the edges of two images lie apart, (y, x).

    Phase correlation (Kuglin and Hines 1975) of gradient magnitudes, which contrasts share.
    """
    spectra = []
    for image in (one, other):
        edges = ndimage.gaussian_gradient_magnitude(image / (scale_of(image) or 1.0), 1.5)
        window = np.outer(*(np.hanning(n) for n in edges.shape))
        spectra.append(fft.fft2(np.minimum(edges, 0.5) * window))
    cross = spectra[0] * np.conj(spectra[1])
    peaks = fft.ifft2(cross / np.sqrt(np.abs(cross) + 1e-12)).real
    place = np.unravel_index(int(np.argmax(peaks)), peaks.shape)
    y, x = (int(k) - n * (int(k) > n // 2) for k, n in zip(place, peaks.shape))
    return float(y), float(x)


class Memory:
    """The latest stacks of the exams that are going on, by weighting.

    Series of one exam come in measurements of their own; synthesis needs more than one of them.
    Safe from several threads.
    """

    def __init__(self) -> None:
        self._exams: OrderedDict[str, dict[str, Stack]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, exam: str, weighting: str, stack: Stack) -> dict[str, Stack]:
        """Keep a stack; returns all that there are of its exam."""
        with self._lock:
            stacks = self._exams.setdefault(exam, {})
            self._exams.move_to_end(exam)
            stacks[weighting] = stack
            while len(self._exams) > EXAMS:
                self._exams.popitem(last=False)
            return dict(stacks)

    def get(self, exam: str, weighting: str) -> Stack | None:
        """Return a stack, None where there is none."""
        with self._lock:
            return self._exams.get(exam, {}).get(weighting)


def _numpy(array: object) -> np.ndarray:
    return np.asarray(array_api_compat.to_device(array, "cpu"))
