"""Measures of the spinal canal and of what the bodies look like inside, from labelled voxels.

The canal is what the label map calls so: the dural sac.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gadgets.evidence import SHOWS_OEDEMA
from gadgets.items import LabelMap, Series
from gadgets.measures_shape import body_heights
from gadgets.sagittal import SagittalSpine
from gadgets.sampling import values, within
from protocols.findings import Measure
from protocols.geometry import Vector

NAMES = frozenset({"canal_ap", "dural_sac_ap", "dural_sac_area", "height_ratio_middle_posterior"})

STEP_MM = 0.25
REACH_MM = 20.0
"""Behind the posterior wall the canal begins within this; twice it is more than any diameter."""
TURN_DEG = np.arange(-36.0, 37.0, 3.0)
SHIFTS_MM = np.linspace(-2.0, 2.0, 5)
SIDES_MM = (-3.0, 0.0, 3.0)
SAC_MM, SAC_MIDDLE_MM = 14.0, 4.0
"""Both ways from the middle of the canal: how far the sac may reach, and where fluid is sought."""

AXIAL_DEG = 30.0
"""Between the normal of an axial slice and that of a disc; beyond, it does not cut it across."""
RAYS = 72
MOVES = (-2, -1, 0, 1, 2)
"""Of the border from one ray to the next, in steps."""
EDGE_MM = 0.5
LABELS_MM = 1.0
"""Standard deviation of where the labels have the border."""
EDGES = 2.0
"""Weight of the steepest edge, against the square of that deviation."""


@dataclass(frozen=True)
class Structure:
    """Voxels of one name in a label map.

    Attributes
    ----------
    mask : float32 (z, y, x)
    labels : LabelMap
    """

    mask: np.ndarray
    labels: LabelMap

    def share(self, points: Vector) -> np.ndarray:
        """Return how much of points (..., 3) belongs to it, float32 (...), 0 to 1."""
        return values(self.mask, self.labels.volume, points)

    def exits(self, start: Vector, directions: Vector, reach_mm: float) -> np.ndarray:
        """Return how far rays stay inside.

        Parameters
        ----------
        start : float64 (3)
            Inside, LPS mm.
        directions : float64 (..., 3)
            Unit vectors.
        reach_mm : float

        Returns
        -------
        float64 (...)
            mm; NaN where the start is not inside, or the ray does not leave within the reach and
            within the volume.
        """
        along = np.arange(0.0, reach_mm, STEP_MM)
        share = self.share(start + along[:, None] * np.asarray(directions)[..., None, :])
        outside = share < 0.5
        last = np.argmax(outside, axis=-1)
        left = outside.any(axis=-1) & (last > 0)
        beyond = start + np.asarray(directions) * (along[last] + STEP_MM)[..., None]
        left &= within(self.labels.volume, beyond)
        before, after = (
            np.take_along_axis(share, at[..., None], axis=-1)[..., 0]
            for at in (np.maximum(last - 1, 0), last)
        )
        part = (before - 0.5) / np.maximum(before - after, 1e-6)
        return np.where(left, along[np.maximum(last - 1, 0)] + part * STEP_MM, np.nan)

    def across(self, start: Vector, directions: Vector, reach_mm: float) -> np.ndarray:
        """Return how long lines through a point inside are, both ways, as `exits`."""
        ways = np.stack([np.asarray(directions), -np.asarray(directions)])
        return np.asarray(self.exits(start, ways, reach_mm).sum(axis=0))


def structure(labels: LabelMap, name: str) -> Structure | None:
    """Return the voxels of a name; None where there are none."""
    if name not in labels.names:
        return None
    mask = labels.labels == labels.names.index(name)
    return Structure(mask.astype(np.float32), labels) if mask.any() else None


def canal_measures(
    spine: SagittalSpine, labels: LabelMap, series: Sequence[Series]
) -> Iterator[Measure]:
    """Return all of `NAMES` that corners, labels and series allow."""
    canal = structure(labels, "canal")
    places = {f"{above}/{below}": _behind_disc(spine, above, below) for above, below in spine.discs}
    places |= {level: _behind_body(spine, level) for level in spine.bodies}
    for level, (wall, dorsal) in places.items():
        if canal is None:
            break
        if found := canal_diameter(canal, spine, wall, dorsal):
            diameter, centre = found
            yield Measure(name="canal_ap", level=level, value=diameter, unit="mm")
            yield from dural_sac_diameter(spine, series, level, centre, dorsal)
            if "/" in level:
                normal = np.cross(spine.left, dorsal)
                yield from dural_sac_area(canal, spine, series, level, centre, normal)
    for level in spine.bodies:
        if (body := structure(labels, level)) is not None:
            yield from middle_height_ratio(body, spine, level)


def canal_diameter(
    canal: Structure, spine: SagittalSpine, wall: Vector, dorsal: Vector
) -> tuple[float, Vector] | None:
    """Return the antero-posterior diameter of the canal behind a body or disc, and its middle.

    The shortest mid-sagittal line through the middle of the canal: perpendicular to its axis, at
    mid-body and mid-disc height (as in Steurer et al., BMC Musculoskelet Disord 2011;12:175). The
    median of five lines within 2 mm up and down.

    Parameters
    ----------
    canal : Structure
    spine : SagittalSpine
    wall : float64 (3)
        Middle of the posterior wall, LPS mm.
    dorsal : float64 (3)
        Unit vector backwards along body or disc.
    """
    cranial = np.cross(spine.left, dorsal)
    turned = np.radians(TURN_DEG)[:, None]
    directions = np.cos(turned) * dorsal + np.sin(turned) * cranial
    search = np.arange(-2.0, REACH_MM, STEP_MM)[:, None] * dorsal
    found: list[tuple[float, Vector]] = []
    for shift in SHIFTS_MM:
        start = wall + shift * cranial
        inside = canal.share(start + search) >= 0.5
        entry = start + search[np.argmax(inside)]
        depth = float(canal.exits(entry, dorsal, 2 * REACH_MM))
        if not np.isfinite(depth):
            continue
        middle = entry + depth / 2 * dorsal
        lines = canal.across(middle, directions, REACH_MM)
        if np.isfinite(lines).any():
            found.append((float(np.nanmin(lines)), middle))
    if len(found) <= len(SHIFTS_MM) // 2:
        return None
    lengths, middles = zip(*found)
    return float(np.median(lengths)), np.mean(middles, axis=0)


def dural_sac_diameter(
    spine: SagittalSpine, series: Sequence[Series], level: str, centre: Vector, dorsal: Vector
) -> Iterator[Measure]:
    """Antero-posterior diameter of the dural sac as the fluid in it shows, mm.

    The line is that of `canal_diameter`, the sac what is at least half as bright as its middle
    (full width at half maximum) on the first fat-suppressed series: fluid bright, fat around dark.
    The median of fifteen lines within 2 mm up and down and 3 mm to the sides. It does not depend on
    where the labels have the border.
    """
    one = next((each for each in series if each.weighting in SHOWS_OEDEMA), None)
    if one is None:
        return
    cranial = np.cross(spine.left, dorsal)
    along = np.arange(-SAC_MM, SAC_MM + STEP_MM / 2, STEP_MM)
    lines = centre + along[:, None] * dorsal + SHIFTS_MM[:, None, None] * cranial
    lines = np.stack([lines + side * spine.left for side in SIDES_MM])
    if not within(one.volume, lines).all():
        return
    profiles = values(one.data, one.volume, lines).reshape(-1, len(along))
    near = np.where(np.abs(along) <= SAC_MIDDLE_MM, profiles, -np.inf)
    peak = np.argmax(near, axis=1)[:, None]
    top = np.percentile(profiles[:, np.abs(along) <= SAC_MIDDLE_MM], 90, axis=1)[:, None]
    dark, number = profiles <= top / 2, np.arange(len(along))
    before = np.where(dark & (number < peak), number, -1).max(axis=1)
    after = np.where(dark & (number > peak), number, len(along)).min(axis=1)
    inside = (before >= 0) & (after < len(along))
    if np.count_nonzero(inside) > len(inside) // 2:
        value = float(np.median((after - before)[inside])) * STEP_MM
        yield Measure(name="dural_sac_ap", level=level, value=value, unit="mm")


def middle_height_ratio(body: Structure, spine: SagittalSpine, level: str) -> Iterator[Measure]:
    """Height of a body half-way from front to back over its posterior height (biconcavity).

    Genant et al., J Bone Miner Res 1993;8:1137: the middle height of six-point morphometry, here
    the median of five lines through the labelled voxels within 2 mm.
    """
    upper, lower = (spine.plates[level, end].mean(axis=0) for end in ("superior", "inferior"))
    up = (upper - lower) / np.linalg.norm(upper - lower)
    centre = (upper + lower) / 2
    lines = [body.across(centre + shift * spine.dorsal, up, 40.0) for shift in SHIFTS_MM]
    heights = [float(length) for length in lines if np.isfinite(length)]
    if len(heights) > len(SHIFTS_MM) // 2:
        value = float(np.median(heights)) / body_heights(spine, level)[1]
        yield Measure(name="height_ratio_middle_posterior", level=level, value=value, unit="")


def dural_sac_area(
    canal: Structure,
    spine: SagittalSpine,
    series: Sequence[Series],
    level: str,
    centre: Vector,
    normal: Vector,
) -> Iterator[Measure]:
    """Cross-section of the dural sac in the axial T2 slice through the middle of a disc, mm2.

    Schonstrom et al., Spine 1985;10:806: the sac's area on an axial slice at disc level. Its border
    is the closed line around it where the slice falls most from bright to dark going outwards, near
    where the labels have it: dynamic programming over radii (Timp & Karssemeijer, Med Phys
    2004;31:958).
    """
    for one in series:
        volume = one.volume
        z, *_ = volume.index(centre)
        axial = abs(float(volume.directions[2] @ normal)) >= np.cos(np.radians(AXIAL_DEG))
        if one.weighting != "t2" or not axial or not -0.5 <= z <= volume.shape[0] - 0.5:
            continue
        middle = centre + (round(z) - z) * volume.spacing[2] * volume.directions[2]
        turns = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)[:, None]
        rays = np.cos(turns) * volume.directions[0] + np.sin(turns) * volume.directions[1]
        labelled = canal.exits(middle, rays, 1.5 * REACH_MM)
        if not np.isfinite(labelled).all():
            continue
        radii = np.arange(0, labelled.max() + 4 * LABELS_MM, STEP_MM)
        points = middle + radii[:, None] * rays[:, None]
        if not within(volume, points).all():
            continue
        border = _border(values(one.data, volume, points), labelled)
        area = float(np.sum(border**2)) / 2 * 2 * np.pi / RAYS
        yield Measure(name="dural_sac_area", level=level, value=area, unit="mm2")
        return


def _border(image: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return the radii of a closed border, float64 (ray), mm.

    Parameters
    ----------
    image : float32 (ray, radius)
        Every `STEP_MM` outwards.
    labelled : float64 (ray)
        Radii of the border in the labels, mm.
    """
    fall = -ndimage.gaussian_filter1d(image, EDGE_MM / STEP_MM, axis=1, order=1)
    radii = np.arange(image.shape[1]) * STEP_MM
    off = (radii - labelled[:, None]) / LABELS_MM
    near = np.abs(off) <= 3
    cost = np.where(near, off**2 / 2 - EDGES * fall / max(float(fall[near].max()), 1e-6), np.inf)
    # Three times around: where the line begins and ends has no say in the middle one.
    cost = np.tile(cost, (3, 1))
    total, came = cost[0], np.zeros(cost.shape, np.int64)
    for ray in range(1, len(cost)):
        moves = np.stack([np.roll(total, -move) for move in MOVES])
        best = np.argmin(moves, axis=0)
        came[ray] = np.arange(total.size) + np.array(MOVES)[best]
        total = cost[ray] + np.min(moves, axis=0)
    at, path = int(np.argmin(total)), []
    for ray in range(len(cost) - 1, -1, -1):
        path.append(at)
        at = came[ray, at]
    rays = len(labelled)
    return radii[path[::-1][rays : 2 * rays]]


def _behind_disc(spine: SagittalSpine, above: str, below: str) -> tuple[Vector, Vector]:
    plates = spine.plates[above, "inferior"], spine.plates[below, "superior"]
    return _middle_of_wall(spine, *plates)


def _behind_body(spine: SagittalSpine, level: str) -> tuple[Vector, Vector]:
    return _middle_of_wall(spine, spine.plates[level, "superior"], spine.plates[level, "inferior"])


def _middle_of_wall(spine: SagittalSpine, one: Vector, other: Vector) -> tuple[Vector, Vector]:
    dorsal = one[1] - one[0] + other[1] - other[0]
    dorsal = dorsal - (dorsal @ spine.left) * spine.left
    return (one[1] + other[1]) / 2, dorsal / np.linalg.norm(dorsal)
