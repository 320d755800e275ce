"""Labelling of the spine: vertebrae, discs, canal, sacrum, SI joints and landmarks of a series.

`Labelling` is the gadget, `label` does one series. A network gives probabilities in each slice;
what is one vertebra, and its name, is decided over all slices (`gadgets.label_levels`). Research
only: trained on a digital phantom.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import structlog

from engines.engine import Engine
from engines.errors import EngineUnavailable
from gadgets.items import LabelMap, Series
from gadgets.label_levels import Chain, find_chain
from gadgets.label_marks import landmarks
from gadgets.label_planes import LEFT, NotSagittal, Planes, planes_of

_log = structlog.get_logger(__name__)

MIDLINE_MM = 9.0
"""Standard deviation of the weights of slices beside the midline."""
BATCH = 8
REACH_MM = 28.0
"""A voxel of a vertebra lies no further from its centre, in the slice."""


class Labelling:
    """Label sagittal `Series` (a gadget): the `LabelMap` follows its series.

    Other items, other series and series that the engine cannot serve pass on alone.

    Parameters
    ----------
    engine : Engine
        Of the kind "labels".
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            yield item
            if isinstance(item, Series):
                try:
                    yield label(item, self._engine)
                except (NotSagittal, EngineUnavailable) as error:
                    _log.info("not labelled", series=item.name, reason=str(error))


def label(series: Series, engine: Engine) -> LabelMap:
    """Label a sagittal series of any contrast, resolution and field of view.

    Parameters
    ----------
    series : Series
    engine : Engine
        Of the kind "labels".

    Returns
    -------
    LabelMap
        On the voxels of the series.

    Raises
    ------
    NotSagittal
        The slices are not.
    EngineUnavailable
        The engine cannot serve.
    """
    manifest = engine.manifest
    if manifest is None or manifest.kind != "labels":
        raise EngineUnavailable(engine.name, engine.reason or "expected a network that labels")
    classes, marks = manifest.parameters["classes"], manifest.parameters["marks"]
    planes = planes_of(series.volume, manifest.parameters["pixel_mm"], manifest.multiple_of)
    images = planes.planes(series.data)
    parts = [engine.run(images[n : n + BATCH]) for n in range(0, len(images), BATCH)]
    found = np.concatenate(parts)
    named = dict(zip((*classes, *marks), np.moveaxis(found, 1, 0)))
    weights = _midline(named["canal"] + 0.3 * named["vertebra"], series.volume)
    mean = {name: np.tensordot(weights, maps, 1) for name, maps in named.items()}
    chain = find_chain(mean["centre"], mean["vertebra"], mean["S1"], mean["doubt"], planes.pixel_mm)
    labels, names = _voxels(planes, found[:, : len(classes)], classes, chain, series)
    places, confidence = landmarks(chain, planes, named, mean, marks, labels, names)
    confidence["levels"] = chain.certain
    return LabelMap(labels, names, series.volume, places, confidence, chain.notes)


def _midline(spine: np.ndarray, volume: Any) -> np.ndarray:
    """Weight of each slice, which is the larger the closer it is to the middle of the canal."""
    inside = spine.sum(axis=(1, 2)) + 1e-6
    step = float(volume.spacing[2])
    numbers = np.arange(len(inside))
    middle = float((numbers * inside**2).sum() / (inside**2).sum())
    weights = np.exp(-0.5 * ((numbers - middle) * step / MIDLINE_MM) ** 2) + 1e-6
    return np.asarray(weights / weights.sum(), np.float32)


def _voxels(
    planes: Planes, found: np.ndarray, classes: list[str], chain: Chain, series: Series
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Name each voxel of the series."""
    best = planes.classes(found)
    rows, columns = planes.pixels()
    bodies = [body for body in chain.bodies if body.name != "S1"]
    discs = [
        (f"{a.name}/{b.name}", (a.centre + b.centre) / 2)
        for a, b in zip(chain.bodies, chain.bodies[1:])
    ]
    names = ("", *(body.name for body in bodies), "S1", *(name for name, _ in discs))
    names = (*names, "canal", "sacrum", "SI_left", "SI_right")
    labels = np.zeros(best.shape, np.uint8)
    reach = REACH_MM / planes.pixel_mm
    for kind, things in (("vertebra", [(b.name, b.centre) for b in bodies]), ("disc", discs)):
        if things:
            apart = np.stack([np.hypot(rows - r, columns - c) for _, (r, c) in things])
            which = np.argmin(apart, axis=0)
            index = np.array([names.index(name) for name, _ in things], np.uint8)[which]
            index[apart.min(axis=0) > reach] = 0
            here = best == classes.index(kind)
            labels[here] = np.broadcast_to(index, best.shape)[here]
    for kind in ("S1", "canal", "sacrum"):
        labels[best == classes.index(kind)] = names.index(kind)
    joint = best == classes.index("SI")
    canal = np.argwhere(best == classes.index("canal"))
    if joint.any() and len(canal):
        middle = canal[:, 0].mean()
        leftwards = np.sign(series.volume.directions[2] @ LEFT)
        side = (np.arange(len(best)) - middle) * leftwards
        for name, here in (("SI_left", side > 0), ("SI_right", side < 0)):
            labels[joint & here[:, None, None]] = names.index(name)
    return labels, names
