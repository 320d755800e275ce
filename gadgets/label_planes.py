"""Slices as the labelling network takes them, and the way back to the series' own voxels.

The network sees rows that run to the feet, columns that run to the back, and pixels of one size.
"""

from dataclasses import dataclass

import numpy as np

from protocols.geometry import Vector, Volume

CAUDAL, DORSAL, LEFT = np.array([0.0, 0, -1]), np.array([0.0, 1, 0]), np.array([1.0, 0, 0])


class NotSagittal(Exception):
    """Slices are no sagittal ones, and how they lie."""


@dataclass(frozen=True)
class Planes:
    """Sagittal slices of one series in the network's pixels.

    Attributes
    ----------
    volume : Volume
    pixel_mm : float
    transposed : bool
        The series' x runs along the spine.
    down, back : int
        1 where the series' index grows to the feet, or to the back; else -1.
    shape : tuple of 2 int
        Rows and columns that hold the series.
    multiple_of : int
        Of which the planes' rows and columns are multiples; zeros fill them up.
    """

    volume: Volume
    pixel_mm: float
    transposed: bool
    down: int
    back: int
    shape: tuple[int, int]
    multiple_of: int

    def planes(self, data: np.ndarray) -> np.ndarray:
        """Return the images of the network.

        Parameters
        ----------
        data : float32 (z, y, x)
            Magnitudes.

        Returns
        -------
        float32 (slice, 1, row, column)
            The 99th percentile of each slice is 1.
        """
        images = self._turned(np.nan_to_num(np.asarray(data, np.float32)))
        rows, columns = self._into()
        images = np.asarray(rows @ images @ columns.T, np.float32)
        tops = np.percentile(images, 99, axis=(1, 2), keepdims=True)
        images = images / np.maximum(tops, max(0.1 * float(tops.max()), 1e-9))
        fill = [(0, -n % self.multiple_of) for n in self.shape]
        return np.pad(np.clip(images, 0, 3), ((0, 0), *fill))[:, None]

    def back_to_series(self, found: np.ndarray) -> np.ndarray:
        """Return maps (slice, channel, row, column) on the series' voxels, (z, channel, y, x)."""
        found = found[..., : self.shape[0], : self.shape[1]]
        rows, columns = self._out_of()
        maps = self._turned(np.asarray(rows @ found @ columns.T, np.float32), back=True)
        return maps

    def classes(self, found: np.ndarray) -> np.ndarray:
        """Return the most probable class of each voxel, uint8 (z, y, x), as of `back_to_series`.

        Only where some class beats the first, which is none, there is anything to bring back.

        Parameters
        ----------
        found : float32 (slice, class, row, column)
        """
        found = found[..., : self.shape[0], : self.shape[1]]
        some = np.any(found[:, 1:] > found[:, :1], axis=(0, 1))
        best = np.zeros((len(found), *self._sizes()[0]), np.uint8)
        if some.any():
            (to_rows, rows, first), (to_columns, columns, second) = (
                _part(matrix, np.asarray(np.any(some, axis=axis)))
                for axis, matrix in zip((1, 0), self._out_of())
            )
            maps = first @ found[..., rows, columns] @ second.T
            best[:, to_rows, to_columns] = _most_probable(maps)
        return self._turned(best, back=True)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in the network's pixels of each voxel of a slice, float32 (y, x)."""
        rows, columns = (
            (np.arange(n, dtype=np.float32) + 0.5) * size / self.pixel_mm - 0.5
            for n, size in zip(*self._sizes())
        )
        shape = (len(rows), len(columns))
        grids = np.broadcast_to(rows[:, None], shape), np.broadcast_to(columns[None], shape)
        return self._turned(grids[0], back=True), self._turned(grids[1], back=True)

    def point(self, number: float, row: float, column: float) -> Vector:
        """Return the position of a place in the planes, LPS mm."""
        counts, sizes = self._sizes()
        at = [(p + 0.5) * self.pixel_mm / size - 0.5 for p, size in zip((row, column), sizes)]
        at = [
            n - 1 - i if sign < 0 else i for i, n, sign in zip(at, counts, (self.down, self.back))
        ]
        y, x = reversed(at) if self.transposed else at
        return self.volume.point(number, y, x)

    def _sizes(self) -> tuple[tuple[int, int], tuple[float, float]]:
        """Voxels, and their sizes in mm, along the spine and to the back."""
        _, ny, nx = self.volume.shape
        dx, dy = (float(size) for size in self.volume.spacing[:2])
        return ((nx, ny), (dx, dy)) if self.transposed else ((ny, nx), (dy, dx))

    def _turned(self, images: np.ndarray, back: bool = False) -> np.ndarray:
        if back:
            images = images[..., :: self.down, :: self.back]
            return np.swapaxes(images, -1, -2) if self.transposed else images
        images = np.swapaxes(images, -1, -2) if self.transposed else images
        return images[..., :: self.down, :: self.back]

    def _into(self) -> tuple[np.ndarray, np.ndarray]:
        counts, sizes = self._sizes()
        first, second = (
            _resampling(n, size, m, self.pixel_mm) for n, size, m in zip(counts, sizes, self.shape)
        )
        return first, second

    def _out_of(self) -> tuple[np.ndarray, np.ndarray]:
        counts, sizes = self._sizes()
        first, second = (
            _resampling(m, self.pixel_mm, n, size) for n, size, m in zip(counts, sizes, self.shape)
        )
        return first, second


def planes_of(volume: Volume, pixel_mm: float, multiple_of: int) -> Planes:
    """Return how the slices of a volume become the network's.

    Raises
    ------
    NotSagittal
        The slices' normal is more than 45 degrees from the patient's left.
    """
    read, phase, normal = volume.directions
    transposed = bool(abs(read @ CAUDAL) > abs(phase @ CAUDAL))
    along, across = (read, phase) if transposed else (phase, read)
    if min(abs(normal @ LEFT), abs(along @ CAUDAL), abs(across @ DORSAL)) < 0.7:
        raise NotSagittal(
            f"expected sagittal slices, got the normal {np.round(normal, 2).tolist()}"
        )
    _, ny, nx = volume.shape
    sides = (nx, ny) if transposed else (ny, nx)
    sizes = volume.spacing[:2] if transposed else volume.spacing[1::-1]
    shape = [max(1, round(n * float(size) / pixel_mm)) for n, size in zip(sides, sizes)]
    return Planes(
        volume=volume,
        pixel_mm=pixel_mm,
        transposed=transposed,
        down=1 if along @ CAUDAL > 0 else -1,
        back=1 if across @ DORSAL > 0 else -1,
        shape=(shape[0], shape[1]),
        multiple_of=multiple_of,
    )


def _resampling(n: int, size: float, m: int, other: float) -> np.ndarray:
    """Matrix (m, n) from n pixels of a size to m of another, both from the same edge.

    Linear; over the width of the larger of both pixels, so that nothing aliases.
    """
    centres = (np.arange(m)[:, None] + 0.5) * other / size - 0.5
    width = max(1.0, other / size)
    weights = np.maximum(0, 1 - np.abs(np.arange(n)[None] - centres) / width)
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(total > 0, total, 1), np.float32)


def _part(matrix: np.ndarray, there: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """Return which of its outputs some inputs reach, all inputs of these, and that part of it."""
    out = np.flatnonzero(matrix[:, there].any(axis=1))
    outputs = slice(out[0], out[-1] + 1)
    used = np.flatnonzero(matrix[outputs].any(axis=0))
    inputs = slice(used[0], used[-1] + 1)
    return outputs, inputs, np.ascontiguousarray(matrix[outputs, inputs])


def _most_probable(maps: np.ndarray) -> np.ndarray:
    """Return the class of the largest of maps (z, class, y, x), uint8 (z, y, x)."""
    top, best = maps[:, 0].copy(), np.zeros((len(maps), *maps.shape[2:]), np.uint8)
    for number in range(1, maps.shape[1]):
        best[maps[:, number] > top] = number
        np.maximum(top, maps[:, number], out=top)
    return best
