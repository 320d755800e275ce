"""Measures of signal: vertebral bone quality on T1, fat fraction of the paraspinal muscles.

Regions of interest are placed by the end plates, so that the same place is read in each patient.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gadgets.items import Series
from gadgets.measures_canal import Structure
from gadgets.sagittal import SagittalSpine
from gadgets.sampling import values, within
from protocols.findings import Measure
from protocols.geometry import Vector

NAMES = frozenset({"vbq", "paraspinal_fat_fraction"})

VBQ_LEVELS = ("L1", "L2", "L3", "L4")
INNER = 0.6
"""Share of a body's depth and height that its region of interest spans."""
CANAL_MARGIN_MM = 1.5
LEAST_POINTS = 20

MUSCLE_LEVELS = ("L3", "L4", "L5")
LATERAL, BEHIND, RADIUS = 1.03, 0.94, 0.28
"""Of the erector spinae, in depths of the end plates: from the midline, behind the posterior wall,
and of its region of interest. General knowledge, as is that of the phantom."""
MOST_FAT = 0.7
"""Mean of a region; above, it lies in fat and not in muscle."""


def signal_measures(
    spine: SagittalSpine, canal: Structure | None, series: Sequence[Series]
) -> Iterator[Measure]:
    """Return all of `NAMES` that corners, labels and series allow; each from the first series."""
    for one in series:
        if one.weighting == "t1" and canal and (found := vbq(spine, canal, one)) is not None:
            yield Measure(name="vbq", value=found, unit="")
            break
    for one in series:
        if one.weighting == "pdff" and (found := paraspinal_fat_fraction(spine, one)) is not None:
            yield Measure(name="paraspinal_fat_fraction", value=100 * found, unit="%")
            break


def vbq(spine: SagittalSpine, canal: Structure, t1: Series) -> float | None:
    """Return the vertebral bone quality score.

    Ehresman et al., Spine J 2020;20:1566: median of the signal of L1 to L4 over that of the CSF at
    the level of L3, on a mid-sagittal T1 without contrast agent or fat suppression. The signal of a
    body is the mean over its inner part, that of the CSF the median, since roots run through it. It
    depends on field strength and bandwidth (J Orthop Surg Res 2023;18:808).

    Returns
    -------
    float or None
        None where not all four bodies and the CSF beside L3 lie in the series.
    """
    if not all(level in spine.bodies for level in VBQ_LEVELS):
        return None
    regions = [_inside_body(spine, level) for level in VBQ_LEVELS]
    csf = _csf(spine, canal, "L3")
    if csf is None or not all(within(t1.volume, region).all() for region in (*regions, csf)):
        return None
    bone = [float(np.mean(values(t1.data, t1.volume, region))) for region in regions]
    fluid = float(np.median(values(t1.data, t1.volume, csf)))
    return float(np.median(bone)) / fluid if fluid > 0 else None


def paraspinal_fat_fraction(spine: SagittalSpine, pdff: Series) -> float | None:
    """Return the mean proton-density fat fraction of both erectores spinae, L3 to L5.

    The segment of Sollmann et al., Quant Imaging Med Surg 2020;10:496; here in a round region of
    fixed place and size per side and level, not the whole muscle.

    Parameters
    ----------
    spine : SagittalSpine
    pdff : Series
        Of weighting "pdff"; values 0 to 1.

    Returns
    -------
    float or None
        0 to 1. None where a region lies outside of the series, or in fat.
    """
    if not all(level in spine.bodies for level in MUSCLE_LEVELS):
        return None
    found = []
    for level in MUSCLE_LEVELS:
        upper, lower = (spine.plates[level, end] for end in ("superior", "inferior"))
        wall = (upper[1] + lower[1]) / 2
        dorsal = upper[1] - upper[0] + lower[1] - lower[0]
        size = float(np.linalg.norm(dorsal)) / 2
        dorsal = dorsal / np.linalg.norm(dorsal)
        reach = np.arange(-RADIUS, RADIUS + 1e-9, RADIUS / 8) * size
        a, b = (axis.ravel() for axis in np.meshgrid(reach, reach))
        disc = np.hypot(a, b) <= RADIUS * size
        offsets = a[disc, None] * spine.left + b[disc, None] * dorsal
        for side in (-1.0, 1.0):
            region = wall + size * (side * LATERAL * spine.left + BEHIND * dorsal) + offsets
            if not within(pdff.volume, region).all():
                return None
            fat = float(np.mean(values(pdff.data, pdff.volume, region)))
            if not 0 <= fat <= MOST_FAT:
                return None
            found.append(fat)
    return float(np.mean(found))


def _inside_body(spine: SagittalSpine, level: str) -> Vector:
    """Return points every millimetre of the inner part of a body, mid-sagittal: float64 (n, 3)."""
    upper, lower = (spine.plates[level, end] for end in ("superior", "inferior"))
    centre = (upper + lower).mean(axis=0) / 2
    depth = (upper[1] - upper[0] + lower[1] - lower[0]) / 2
    height = (upper - lower).mean(axis=0)
    steps = [np.linspace(-0.5, 0.5, int(np.linalg.norm(axis))) * INNER for axis in (depth, height)]
    a, b = (axis.ravel()[:, None] for axis in np.meshgrid(*steps))
    return np.asarray(centre + a * depth + b * height)


def _csf(spine: SagittalSpine, canal: Structure, level: str) -> Vector | None:
    """Return mid-sagittal points well inside the canal beside a body: float64 (n, 3)."""
    upper, lower = (spine.plates[level, end] for end in ("superior", "inferior"))
    wall = np.linspace(lower[1], upper[1], int(np.linalg.norm(upper[1] - lower[1])))
    points = (wall[:, None] + np.arange(0.0, 30.0)[:, None] * spine.dorsal).reshape(-1, 3)
    inside = np.ones(len(points), bool)
    for way in (spine.dorsal, -spine.dorsal, spine.cranial, -spine.cranial):
        inside &= canal.share(points + CANAL_MARGIN_MM * way) >= 0.5
    return points[inside] if np.count_nonzero(inside) >= LEAST_POINTS else None
