"""The fat fraction of an exam: what a Dixon measurement found, for the relaxation maps of another.

One tissue in each voxel cannot describe marrow, which is water and fat. Where a Dixon measurement
came before the multi-delay one, T1 and T2 are those of the water alone, and a synthetic STIR nulls
fat as it is: `RememberFat` keeps the fraction, `KnownFat` gives it on other slices.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import array_api_compat
import numpy as np
from scipy import ndimage

from gadgets.items import Image, Role
from gadgets.synthesis.marks import Unavailable, say_unavailable
from gadgets.synthesis.stacks import Memory, Stack, stack_of
from protocols.geometry import directions

PDFF = "pdff"
OUTSIDE = 0.3
"""Most of the voxels asked for which the Dixon measurement may not have."""
LEAST_SLICES = 2


class RememberFat:
    """Keep the fat fraction images of a Dixon measurement (a gadget); all items pass.

    Parameters
    ----------
    exam : str or None
    memory : Memory
    """

    def __init__(self, exam: str | None, memory: Memory) -> None:
        self._exam, self._memory = exam, memory

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        images: list[Image] = []
        for item in items:
            yield item
            if isinstance(item, Image) and item.role is Role.DERIVED and item.quantity == PDFF:
                images.append(item)
        if self._exam is None or not images:
            return
        try:
            self._memory.put(self._exam, PDFF, stack_of(images))
        except Unavailable as reason:
            say_unavailable("fat fraction for relaxation maps", reason)


class KnownFat:
    """The fat fraction of an exam on the voxels of another measurement.

    Parameters
    ----------
    exam : str or None
    memory : Memory
    """

    def __init__(self, exam: str | None, memory: Memory) -> None:
        self._exam, self._memory = exam, memory

    def __call__(self, targets: Sequence[Image]) -> np.ndarray | None:
        """Return 0 to 1, float32 (z, y, x), of slices or a slab; None where it is not known."""
        stack = None if self._exam is None else self._memory.get(self._exam, PDFF)
        if stack is None:
            return None
        try:
            percent = np.concatenate([sampled(stack, target) for target in targets])
        except Unavailable as reason:
            say_unavailable("fat fraction for relaxation maps", reason)
            return None
        return np.clip(percent / 100, 0, 1).astype(np.float32)


def sampled(stack: Stack, target: Image) -> np.ndarray:
    """Return a stack's or slab's values at the voxels of an image, linear, float32 (z, y, x).

    Raises
    ------
    Unavailable
        It has too few slices to interpolate between, or lies elsewhere.
    """
    values = np.concatenate([_numpy(one.data) for one in stack.images]).astype(np.float32)
    first = stack.images[0]
    row, column, normal = directions(first.header)
    origin = np.asarray(first.header["position"], float)
    if len(stack.images) == 1:
        pitch, start = first.field_of_view[2] / len(values), len(values) // 2
    else:
        last = np.asarray(stack.images[-1].header["position"], float)
        pitch, start = float((last - origin) @ normal) / (len(stack.images) - 1), 0
    if len(values) < LEAST_SLICES or not pitch > 0:
        raise Unavailable(f"expected {LEAST_SLICES} or more slices, got {len(values)}")
    width, height, _ = first.field_of_view
    _, rows, columns = values.shape
    offset = _points(target) - origin
    at = np.stack(
        [
            offset @ normal / pitch + start,
            offset @ column * (rows / height) + rows // 2,
            offset @ row * (columns / width) + columns // 2,
        ]
    )
    ends = np.array(values.shape).reshape(3, 1, 1, 1) - 0.5
    beyond = ((at < -0.5) | (at > ends)).any(axis=0)
    if beyond.mean() > OUTSIDE:
        raise Unavailable(
            f"geometry mismatch: {beyond.mean():.0%} of the voxels lie outside the Dixon scan"
        )
    found = ndimage.map_coordinates(values, at, order=1, mode="nearest")
    return np.where(beyond, 0, found).astype(np.float32)


def _points(image: Image) -> np.ndarray:
    """Return the places of an image's voxels, LPS mm (z, y, x, 3)."""
    row, column, normal = directions(image.header)
    shape = image.data.shape
    z, y, x = (
        (np.arange(n) - n // 2) * (length / n)
        for n, length in zip(shape, image.field_of_view[::-1], strict=True)
    )
    return np.asarray(
        np.asarray(image.header["position"], float)
        + z[:, None, None, None] * normal
        + y[:, None, None] * column
        + x[:, None] * row
    )


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(array_api_compat.to_device(array, "cpu"))
