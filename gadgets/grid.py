"""The encoded matrix of phase-encode lines: where counters lie on it, and which lines are missing.

Masks of lines are bool (kz, ky). What a scan meant to acquire is read off the lines themselves, as
far as they lie on a lattice (see `gadgets.lattice`), and off the header's encoding limits.
"""

from itertools import product
from typing import Any

import numpy as np

from gadgets.lattice import FILLED, MAX_LINES
from protocols.header import Encoding, Limit


class Grid:
    """The phase-encode lines of one encoding space.

    Parameters
    ----------
    encoding : Encoding

    Attributes
    ----------
    shape, centre : tuple of 2 int
        kz, ky.
    box : tuple of 2 slices
        kz, ky within the encoding limits.
    """

    def __init__(self, encoding: Encoding) -> None:
        _, ny, nz = encoding.encoded_matrix
        self.shape = nz, ny
        self.centre = nz // 2, ny // 2
        step1 = encoding.limit("kspace_encoding_step_1", ny)
        if step1.maximum <= step1.minimum:
            step1 = Limit(0, ny - 1, ny // 2)  # one line makes no image: the limits were not set
        limits = encoding.limit("kspace_encoding_step_2", nz), step1
        self._offset = tuple(n // 2 - _centre(limit, n) for limit, n in zip(limits, self.shape))
        self.box = tuple(
            slice(max(limit.minimum + offset, 0), max(min(limit.maximum + offset + 1, n), 0))
            for limit, offset, n in zip(limits, self._offset, self.shape)
        )
        self._acceleration = encoding.acceleration[::-1]

    @property
    def lines_within_limits(self) -> int:
        return int(np.prod([side.stop - side.start for side in self.box]))

    def lines(self, idx: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return kz and ky of readouts, int64 (N), and whether they are on the matrix, bool (N).

        Parameters
        ----------
        idx : ENCODING_COUNTERS (N)
        """
        kz = idx["kspace_encode_step_2"].astype(np.int64) + self._offset[0]
        ky = idx["kspace_encode_step_1"].astype(np.int64) + self._offset[1]
        inside = (kz >= 0) & (kz < self.shape[0]) & (ky >= 0) & (ky < self.shape[1])
        return kz, ky, inside

    def has_holes(self, lines: np.ndarray) -> bool:
        """Return whether a sampling lacks lines which lie between lines that it has.

        What a 2D sampling lacks at an edge counts where it is less than a sixteenth of its lines:
        partial Fourier leaves out more. Irregular sampling has no holes that can be told.
        """
        missing = self._missing(lines)
        if missing is None:
            return False
        between = np.zeros(self.shape, bool)
        for axis in (0, 1):
            before = np.logical_or.accumulate(lines, axis)
            after = np.flip(np.logical_or.accumulate(np.flip(lines, axis), axis), axis)
            between |= before & after
        if self.shape[0] == 1:
            columns = np.flatnonzero(lines[0])
            few = max(len(columns) // 16, 1)
            for edge in (slice(columns[0]), slice(columns[-1] + 1, None)):
                between[0, edge] |= missing[0, edge].sum() <= few
        return bool((missing & between).any())

    def covers_limits(self, lines: np.ndarray) -> bool:
        """Return whether a sampling has all its lines up to the encoding limits.

        Irregular sampling has where the header's acceleration tells so.
        """
        missing = self._missing(lines)
        if missing is not None:
            return not missing.any()
        return bool(lines.sum() >= self.lines_within_limits // np.prod(self._acceleration))

    def has_all_partitions(self, lines: np.ndarray) -> bool:
        """Return whether lines reach the first and the last partition within the limits."""
        rows = np.flatnonzero(lines.any(axis=1))
        first, last = self.box[0].start, self.box[0].stop - 1
        step = self._acceleration[0]
        return bool(rows[0] - first < step and last - rows[-1] < step)

    def encloses(self, lines: np.ndarray, block: np.ndarray) -> bool:
        """Return whether a block of calibration lines is whole.

        It is a filled rectangle around the centre of k-space, and next to each of its sides, within
        one step of the acceleration, lies a line that is none of it, or an encoding limit.

        Parameters
        ----------
        lines : bool (kz, ky)
            All that was acquired.
        block : bool (kz, ky)
            The calibration lines.
        """
        if not block[self.centre]:
            return False
        around = lines & ~block
        sides = [np.flatnonzero(block.any(axis=1 - axis)) for axis in (0, 1)]
        rectangle = [slice(side[0], side[-1] + 1) for side in sides]
        if not block[tuple(rectangle)].all():
            return False
        for axis, (side, box, step) in enumerate(zip(rectangle, self.box, self._acceleration)):
            below, above = list(rectangle), list(rectangle)
            below[axis] = slice(max(side.start - step, 0), side.start)
            above[axis] = slice(side.stop, side.stop + step)
            at_limits = side.start - step < box.start, side.stop + step > box.stop
            for neighbours, at_limit in zip((below, above), at_limits):
                if not at_limit and not around[tuple(neighbours)].any():
                    return False
        return True

    def _missing(self, lines: np.ndarray) -> np.ndarray | None:
        """Return the lines of a sampling's lattice that are not there; None where it has none.

        `gadgets.lattice.find_lattice` wants a lattice to reconstruct from, without holes; here it
        may have some. The densest one counts that has `FILLED` of its lines within the rectangle
        of what was acquired, and half of what was acquired on it.
        """
        kz, ky = np.nonzero(lines)
        rectangle = slice(kz.min(), kz.max() + 1), slice(ky.min(), ky.max() + 1)
        rz = self._acceleration[0]
        for ry, shift in product(range(1, MAX_LINES + 1), range(rz)):
            coset = (ky % ry) * rz + (kz - shift * (ky // ry)) % rz
            best = int(np.argmax(np.bincount(coset)))
            y, z = np.arange(self.shape[1]), np.arange(self.shape[0])[:, None]
            lattice = (y % ry == best // rz) & ((z - shift * (y // ry)) % rz == best % rz)
            on_it = np.sum(lines & lattice)
            if on_it >= FILLED * np.sum(lattice[rectangle]) and 2 * on_it >= len(ky):
                expected = np.zeros(self.shape, bool)
                expected[self.box] = lattice[self.box]
                return np.asarray(expected & ~lines)
        return None


def _centre(limit: Limit, n: int) -> int:
    """Return the counter of the k-space centre; the middle where it was clearly not set."""
    unset = limit.center <= limit.minimum < limit.maximum
    return n // 2 if unset else limit.center
