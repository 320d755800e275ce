"""Contrasts that need several measurements of an exam: synthetic STIR, virtual enhancement.

`SyntheticStir` and `VirtualEnhancement` are gadgets behind `gadgets.series.CollectSeries`: images
pass at once and unchanged, series as well, and only then is anything made. When the last stack that
is needed has come, the images follow; they are for viewing, and role and quantity keep them out of
everything that looks for findings. Where there can be none, none follow, and the log says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engines.engine import Engine
from engines.familiar import scale_of
from gadgets.items import Image, Role
from gadgets.series import MOST_VOXELS, weighting
from gadgets.synthesis.marks import Unavailable, say_unavailable, synthetic
from gadgets.synthesis.network import Made, make, manifest_of
from gadgets.synthesis.stacks import Memory, Stack, onto, stack_of
from protocols.header import Header
from protocols.meta import Value

INTERVAL = "half of the width of the 95 % interval which the network states"


@dataclass(frozen=True)
class Measured:
    """What a network is given of an exam.

    Attributes
    ----------
    grid : Stack
        On whose voxels all is.
    channels : float32 (channel, z, y, x)
        Each in its own scale.
    scale : float
        Of the contrast in whose units the result is.
    snr : float
        Of the poorest contrast.
    """

    grid: Stack
    channels: np.ndarray
    scale: float
    snr: float


def measured(stacks: Mapping[str, Stack], order: tuple[str, ...], unit: str, grid: str) -> Measured:
    """Bring stacks onto one grid and to their scales.

    Parameters
    ----------
    stacks : mapping of str to Stack
        By weighting.
    order : tuple of str
        Weightings of the channels.
    unit : str
        The one in whose units the result is.
    grid : str
        The one on whose voxels it is.

    Raises
    ------
    Unavailable
        A contrast is missing, the geometry does not match, or there is no signal or noise scan.
    """
    if missing := [name for name in order if name not in stacks]:
        raise Unavailable(f"missing contrast: {', '.join(missing)}")
    if not all(np.isfinite(stacks[name].data).all() for name in order):
        raise Unavailable("expected finite values, got NaN or Inf")
    target = stacks[grid]
    planes = [target.data if name == grid else onto(stacks[name], target) for name in order]
    scales = [scale_of(plane) for plane in planes]
    if not min(scales) > 0:
        raise Unavailable("expected signal in all contrasts, found none in one of them")
    snrs = [stacks[name].snr for name in order]
    if not min(snrs) > 0:
        raise Unavailable("expected images in SNR units: without a noise scan none can be judged")
    channels = np.stack([plane / np.float32(one) for plane, one in zip(planes, scales)])
    return Measured(target, channels, scales[order.index(unit)], min(snrs))


class _OfExam:
    """Keeps the stacks of a measurement, and makes images when all that is needed is there."""

    what = ""
    order: tuple[str, ...] = ()
    unit = ""

    def __init__(self, header: Header, exam: str | None, memory: Memory, engine: Engine) -> None:
        self._weighting = weighting(header)
        self._exam, self._memory, self._engine = exam, memory, engine

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        images: list[Image] = []
        voxels = 0
        for item in items:
            yield item
            if self._weighting in self.order and isinstance(item, Image) and _is_slice(item):
                voxels += item.data.size
                if voxels <= MOST_VOXELS:
                    images.append(replace(item, data=abs(item.data), conventional=None))
        if not images:
            return
        try:
            if voxels > MOST_VOXELS:
                raise Unavailable(f"expected at most {MOST_VOXELS} voxels, got {voxels}")
            if self._exam is None:
                raise Unavailable("the MRD header names no exam: stacks cannot find each other")
            stacks = self._memory.put(self._exam, self._weighting, stack_of(images))
            if set(self.order) <= set(stacks):
                # What leaves must have the matrix and field of view of this measurement.
                yield from self._made(measured(stacks, self.order, self.unit, self._weighting))
        except Unavailable as reason:
            say_unavailable(self.what, reason)
        except Exception as error:  # All images are delivered: nothing may fail now.
            say_unavailable(self.what, error)

    def _made(self, given: Measured) -> Iterator[Image]:
        made = make(self._engine, given.channels, given.grid.pixel_mm, given.snr)
        return self.images(given, made, manifest_of(self._engine).label)

    def images(self, given: Measured, made: Made, label: str) -> Iterator[Image]:
        raise NotImplementedError


class SyntheticStir(_OfExam):
    """Make a synthetic STIR of T1w and T2w of an exam (a gadget).

    Its `Image`s are of the quantity "synthetic-stir", in the units of T2w and on the voxels
    of the later measurement, and "synthetic-stir-uncertainty", half of the 95 % interval's width.

    Parameters
    ----------
    header : Header
        Of this measurement: one that is neither T1w nor T2w passes.
    exam : str or None
        By which measurements of one exam find each other.
    memory : Memory
    engine : Engine
        The network "stir".
    """

    what = "synthetic STIR"
    order = ("t1", "t2")
    unit = "t2"

    def images(self, given: Measured, made: Made, label: str) -> Iterator[Image]:
        method = f"STIR by the network {label} of T1w and T2w; for viewing, not for findings"
        scale = np.float32(given.scale)
        volumes = {
            "synthetic-stir": (np.maximum(made.image, 0) * scale, method),
            "synthetic-stir-uncertainty": (made.interval * scale, f"{INTERVAL}; {method}"),
        }
        return placed(given.grid, volumes)


class VirtualEnhancement(_OfExam):
    """Make a virtual contrast-enhanced T1w of T1w, T2w and STIR of an exam (a gadget).

    Research only: the signal after contrast agent is not determined by images without. Its `Image`s
    are "virtual-enhancement", "virtual-enhancement-difference" (to T1w) and
    "virtual-enhancement-uncertainty", in the units of T1w, on the voxels of the last measurement.

    Parameters
    ----------
    header, exam, memory
        As of `SyntheticStir`.
    engine : Engine
        The network "enhancement".
    """

    what = "virtual contrast enhancement"
    order = ("t1", "t2", "stir")
    unit = "t1"

    def images(self, given: Measured, made: Made, label: str) -> Iterator[Image]:
        method = (
            f"virtual contrast enhancement by the network {label} of T1w, T2w and STIR; RESEARCH:"
            " the signal after contrast agent is not determined by images without"
        )
        scale, gain = np.float32(given.scale), np.maximum(made.image, 0)
        volumes = {
            "virtual-enhancement": ((given.channels[0] + gain) * scale, method),
            "virtual-enhancement-difference": (gain * scale, f"difference to T1w; {method}"),
            "virtual-enhancement-uncertainty": (made.interval * scale, f"{INTERVAL}; {method}"),
        }
        return placed(given.grid, volumes)


def placed(grid: Stack, volumes: Mapping[str, tuple[np.ndarray, str]]) -> Iterator[Image]:
    """Yield synthetic images in the places of a stack's.

    Parameters
    ----------
    grid : Stack
    volumes : mapping of str to (float32 (z, y, x), str)
        Values and method by quantity.
    """
    attributes: dict[str, Value] = {"BoresideForViewingOnly": 1}
    for quantity, (volume, method) in volumes.items():
        depth = len(volume) // len(grid.images)
        for number, source in enumerate(grid.images):
            part = volume[number * depth : (number + 1) * depth]
            yield synthetic(source, part.astype(np.float32), quantity, method, attributes)


def _is_slice(image: Image) -> bool:
    return (
        image.role is Role.ACQUIRED
        and image.quantity in ("complex", "magnitude")
        and image.key.contrast == 0
    )
