"""Calibration lines: where a frame has them, and whether they are of use."""

from typing import Any

import array_api_compat
import numpy as np

from gadgets.items import Calibration, Frame, SensitivityMaps

LEAST_LINES = 8
"""Fewer calibration lines along ky than this say too little of the coils."""

LEAST_PARTITIONS = 4
"""The same along kz of a slab, unless the slab itself has fewer."""


def place(item: Calibration | Frame | SensitivityMaps) -> tuple[int, int]:
    """Return what shares its coils' sensitivities: the (encoding, slice) of an item."""
    return item.key.encoding, item.key.slice


def calibration_lines(item: Calibration | Frame) -> Any:
    """Return an item's calibration lines, complex64 (coil, kz, ky, x), or None.

    Those of a `Calibration`, those which a `Frame` carries, or else the fully sampled centre of
    the frame. None where they are too few, all zero or not finite.
    """
    if isinstance(item, Calibration):
        return item.kspace if _usable(item.kspace) else None
    if item.calibration is not None and _usable(item.calibration):
        return item.calibration
    window = sampled_centre(item.mask)
    if window is None:
        return None
    lines = item.kspace[:, window[0], window[1]]
    return lines if _usable(lines) else None


def sampled_centre(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Return the fully sampled block of (kz, ky) whose own centre is the k-space centre.

    The largest there is; None where even the centre is missing.
    """
    centre, best, most = len(mask) // 2, None, 0
    for partitions in range(1, len(mask) + 1):
        z = slice(centre - partitions // 2, centre - partitions // 2 + partitions)
        y = _around(mask[z].all(axis=0))
        if y is None:
            break
        if partitions * (y.stop - y.start) > most:
            best, most = (z, y), partitions * (y.stop - y.start)
    return best


def _around(sampled: Any) -> slice | None:
    """Return the longest run of True around ``n // 2`` which has it at its own ``n // 2``."""
    centre = len(sampled) // 2
    gaps = np.flatnonzero(~sampled)
    below, above = gaps[gaps <= centre], gaps[gaps >= centre]
    first = int(below[-1]) + 1 if len(below) else 0
    end = int(above[0]) if len(above) else len(sampled)
    if first > centre:
        return None
    before, after = centre - first, end - centre
    if before > after:
        return slice(centre - after, end)
    return slice(first, min(end, centre + before + 1) if before < after else end)


def _usable(lines: Any) -> bool:
    xp = array_api_compat.array_namespace(lines)
    _, nz, ny, _ = lines.shape
    enough = ny >= LEAST_LINES and (nz == 1 or nz >= LEAST_PARTITIONS)
    return enough and bool(xp.all(xp.isfinite(lines))) and bool(xp.any(lines != 0))
