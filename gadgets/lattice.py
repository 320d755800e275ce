"""Sampling lattices: finding one in a sampling mask, and undoing its aliasing directly.

Sampling every Ry-th line and every Rz-th partition, shifted from line to line with CAIPIRINHA
(Breuer et al., Magn Reson Med 55 (2006) 549), folds R = Ry Rz voxels onto each other. The voxels of
such an aliasing group depend on each other and on no others, so A^H A is a field of R x R matrices.
"""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from gadgets.calibration import sampled_centre

MAX_LINES, MAX_PARTITIONS = 8, 4
FILLED = 0.7
"""Part of a lattice within the acquired rectangle that must be there: an ellipse fills pi / 4. So
must this part of the samples outside the fully sampled centre lie on the lattice."""


@dataclass(frozen=True)
class Lattice:
    """Lines with ky = offset_y + a ry and kz = offset_z + a shift + b rz, for all integers a, b.

    ky and kz count from the k-space centre.
    """

    ry: int
    rz: int
    shift: int
    offset_y: int
    offset_z: int

    @property
    def acceleration(self) -> int:
        return self.ry * self.rz

    def mask(self, nz: int, ny: int) -> Any:
        """Return the lattice on an encoded matrix, bool (kz, ky)."""
        y = np.arange(ny) - ny // 2 - self.offset_y
        z = (np.arange(nz) - nz // 2)[:, None] - self.offset_z
        return (y % self.ry == 0) & ((z - self.shift * (y // self.ry)) % self.rz == 0)

    def is_exactly(self, mask: np.ndarray) -> bool:
        """Return whether a sampling is this lattice, in whole aliasing groups, and nothing else."""
        nz, ny = mask.shape
        whole = nz % self.rz == 0 and ny % (self.ry * (self.rz if self.shift else 1)) == 0
        return whole and bool(np.array_equal(mask, self.mask(nz, ny)))


def find_lattice(mask: np.ndarray) -> Lattice | None:
    """Find the densest lattice within a sampling mask.

    Parameters
    ----------
    mask : bool (kz, ky)
        May hold more lines (calibration) and lack outer ones (partial Fourier, elliptic).

    Returns
    -------
    Lattice or None
        None where the sampling is irregular.
    """
    nz, ny = mask.shape
    kz, ky = np.nonzero(mask)
    if not len(ky):
        return None
    outer = mask.copy()
    if (centre := sampled_centre(mask)) is not None:
        outer[centre] = False
    box = np.ix_(range(kz.min(), kz.max() + 1), range(ky.min(), ky.max() + 1))
    y = (np.arange(ny) - ny // 2)[None, :]
    z = (np.arange(nz) - nz // 2)[:, None]
    kinds = [
        (ry, rz, shift)
        for ry in range(1, MAX_LINES + 1)
        for rz in range(1, min(MAX_PARTITIONS, nz) + 1)
        for shift in range(rz)
    ]
    for ry, rz, shift in sorted(kinds, key=lambda kind: kind[0] * kind[1]):
        coset = ((y % ry) * rz + (z - shift * (y // ry)) % rz)[box]
        total = np.bincount(coset.ravel(), minlength=ry * rz)
        filled = np.bincount(coset[mask[box]], minlength=ry * rz) / np.maximum(total, 1)
        best = int(np.argmax(filled))
        member = coset == best
        covers = np.sum(member & outer[box]) >= FILLED * np.sum(outer)
        if filled[best] >= FILLED and covers and not _has_holes(mask[box], member):
            return Lattice(ry, rz, shift, best // rz, best % rz)
    return None


def _has_holes(mask: np.ndarray, member: np.ndarray) -> bool:
    """Return whether a partition lacks a member of the lattice between two that it has."""
    has = mask & member
    begun = np.logical_or.accumulate(has, axis=1)
    goes_on = np.logical_or.accumulate(has[:, ::-1], axis=1)[:, ::-1]
    return bool(np.any(begun & goes_on & member & ~has))


class Unfolding:
    """(A^H A + regularization)^-1 for a sampling that is a lattice.

    Where the encoded matrix does not hold a whole number of aliasing groups, the maps are brought
    to a slightly finer grid of the same field of view: good for the noise, not for the image.

    Parameters
    ----------
    maps : complex64 (coil, z, y, x)
    lattice : Lattice
    regularization : float
    """

    def __init__(self, maps: Any, lattice: Lattice, regularization: float) -> None:
        xp = array_api_compat.array_namespace(maps)
        self._shape = nz, ny = maps.shape[1:3]
        self._grid = (
            _next(nz, lattice.rz),
            _next(ny, lattice.ry * (lattice.rz if lattice.shift else 1)),
        )
        if self._grid != self._shape:
            maps = stretch(maps, self._grid)
        self._index = _groups(lattice, *self._grid)
        self._gram = _gram(maps, self._index, lattice, self._grid)
        system = xp.array(self._gram, copy=True)
        for i in range(lattice.acceleration):
            system[i, i] += regularization
        self._inverse = _invert(system)

    def __call__(self, right: Any) -> Any:
        """Apply to an image, complex64 (z, y, x) on the grid of the maps."""
        xp = array_api_compat.array_namespace(right)
        result = xp.empty_like(right)
        result[self._index] = xp.sum(self._inverse * right[self._index][None], axis=1)
        return result

    def noise_variance(self) -> Any:
        """Return the variance of the image's noise per real channel, float32 (z, y, x).

        Of the diagonal of M^-1 A^H A M^-1, where k-space noise has variance 1.
        """
        xp = array_api_compat.array_namespace(self._gram)
        result = xp.empty((*self._grid, self._gram.shape[-1]), dtype=self._gram.real.dtype)
        variance = []
        for row in self._inverse:
            seen = xp.sum(self._gram * row[:, None], axis=0)
            variance.append(xp.sum(seen * xp.conj(row), axis=0).real)
        result[self._index] = xp.stack(variance)
        return result if self._grid == self._shape else stretch(result[None], self._shape)[0]


def _next(size: int, factor: int) -> int:
    return -(-size // factor) * factor


def _aliases(lattice: Lattice, nz: int, ny: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacements (z, y), in voxels, of the voxels which fold onto one."""
    m, p = np.divmod(np.arange(lattice.acceleration), lattice.ry)
    return (
        m * nz // lattice.rz,
        (p * lattice.rz - m * lattice.shift) * ny // (lattice.ry * lattice.rz),
    )


def _groups(lattice: Lattice, nz: int, ny: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices z and y of all voxels, int (voxel of group, group z, group y)."""
    dz, dy = _aliases(lattice, nz, ny)
    z = np.arange(nz // lattice.rz)[None, :, None] + dz[:, None, None]
    y = np.arange(ny // lattice.ry)[None, None, :] + dy[:, None, None]
    z, y = np.broadcast_arrays(z % nz, y % ny)
    return z, y


def _gram(
    maps: Any, index: tuple[np.ndarray, np.ndarray], lattice: Lattice, shape: tuple[int, int]
) -> Any:
    """Return A^H A of each aliasing group, (voxel, voxel, group z, group y, x)."""
    xp = array_api_compat.array_namespace(maps)
    dz, dy = _aliases(lattice, *shape)
    turns = dz * lattice.offset_z / shape[0] + dy * lattice.offset_y / shape[1]
    count = lattice.acceleration
    folded = maps[:, index[0], index[1]]
    conjugate = xp.conj(folded)
    gram = xp.empty((count, count, *folded.shape[2:]), dtype=maps.dtype)
    for i in range(count):
        for j in range(i, count):
            point_spread = np.exp(2j * np.pi * (turns[i] - turns[j])) / count
            gram[i, j] = xp.sum(conjugate[:, i] * folded[:, j], axis=0)
            gram[i, j] *= complex(point_spread)
            if i != j:
                gram[j, i] = xp.conj(gram[i, j])
    return gram


def _invert(system: Any) -> Any:
    """Invert Hermitian positive definite matrices held in the first two axes (Gauss-Jordan)."""
    xp = array_api_compat.array_namespace(system)
    count = system.shape[0]
    for k in range(count):
        pivot = 1 / system[k, k]
        row = system[k] * pivot
        row[k] = pivot
        column = xp.array(system[:, k], copy=True)
        column[k] = 0
        system[:, k] = 0
        system -= column[:, None] * row[None]
        system[k] = row
    return system


def stretch(maps: Any, shape: tuple[int, int]) -> Any:
    """Bring smooth maps (coil, z, y, x) to another grid by linear interpolation."""
    xp = array_api_compat.array_namespace(maps)
    for axis, size in zip((1, 2), shape):
        old = maps.shape[axis]
        if old == size:
            continue
        position = (np.arange(size) - size // 2) * old / size + old // 2
        lower = np.floor(position).astype(int)
        part = xp.asarray((position - lower).astype(np.float32))
        part = xp.reshape(part, [-1 if a == axis else 1 for a in range(maps.ndim)])
        below = xp.take(maps, xp.asarray(np.clip(lower, 0, old - 1)), axis=axis)
        above = xp.take(maps, xp.asarray(np.clip(lower + 1, 0, old - 1)), axis=axis)
        maps = below + part * (above - below)
    return maps
