"""Where triage looks: bone of the vertebral bodies, the sacrum and the ilium.

Bodies and sacrum are what the label map says. The ilium has no label: it is a zone beside the
sacroiliac joint. Facet joints are not looked at. Everything is on the voxels of one series, cropped
to the bones; left and right are treated alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from gadgets.items import LabelMap
from gadgets.label_planes import LEFT
from gadgets.prescribe_si import locate
from gadgets.prescription import Refused, Request
from gadgets.sagittal import LEVELS
from gadgets.sampling import indices
from protocols.exam import Geometry, GeometryRule
from protocols.findings import Side
from protocols.geometry import Vector, Volume

MARGIN_MM = 12.0
"""Around bodies and sacrum: the ilium, and what shines into the bone."""
CORTEX_MM = 1.4
"""Bone this close to its border is left out: cortex, partial volume, labels that are off."""
JOINT_MM = 2.0
"""Half of the joint space, and what the label of the joint takes of the bone."""
ZONE_MM = 13.0
"""Depth of the ilium that is looked at."""
DEEP_MM = 26.0
"""Bone further from a joint has nothing to do with it."""
BESIDE_MM = 3.0
"""How far beyond the end of the surface the zone reaches."""
CUT_MM = 4.0
"""A body that comes so near to the border of the image may be cut by it."""
FAR_MM = 1e3
LEAST_VOXELS = 60

_ANY = Geometry(
    rule=GeometryRule.SI_OBLIQUE_CORONAL, field_of_view_mm=(240.0, 240.0), matrix=(256, 256),
    slices=20, thickness_mm=3.0, phase="head_feet",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A vertebral body: centre, axes (left, dorsal, cranial) and half of its size along these."""

    centre: Vector
    axes: Vector
    half: Vector

    def local(self, points: Vector) -> Vector:
        """Return points (..., 3) in LPS mm along left, dorsal and cranial, in mm."""
        return np.asarray((points - self.centre) @ self.axes.T)


@dataclass(frozen=True)
class Anatomy:
    """Bones on the voxels of a cropped series.

    Attributes
    ----------
    volume : Volume
    box : tuple of 3 slices
        Where it lies in the series.
    points : float32 (z, y, x, 3)
        LPS mm.
    bones : uint8 (z, y, x)
        Index into ``names``; 0 is none.
    names : tuple of str
        "", "L4", "S1", "sacrum", "ilium_left", "ilium_right".
    core : bool (z, y, x)
        Bone without its border.
    edge_mm : float32 (z, y, x)
        Distance to the border of the bone.
    joint_mm : float32 (z, y, x)
        Depth from the sacroiliac joint; `FAR_MM` where none is near.
    frames : dict of str to Frame
        Of the bodies.
    middle : float64 (3)
        A point of the plane between left and right.
    """

    volume: Volume
    box: tuple[slice, slice, slice]
    points: np.ndarray
    bones: np.ndarray
    names: tuple[str, ...]
    core: np.ndarray
    edge_mm: np.ndarray
    joint_mm: np.ndarray
    frames: dict[str, Frame]
    middle: Vector

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Between voxels along z, y, x in mm."""
        x, y, z = (float(step) for step in self.volume.spacing)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.volume.spacing)) / 1000

    @cached_property
    def core_bones(self) -> np.ndarray:
        """Bone of each voxel of the core, uint8 (n)."""
        return np.asarray(self.bones[self.core])

    @cached_property
    def polynomial(self) -> np.ndarray:
        """Terms of a smooth surface over the voxels, float32 (term, z, y, x)."""
        x, y, z = np.moveaxis((self.points - self.middle.astype(np.float32)) / 100, -1, 0)
        return np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, y * z, z**3])

    def smoothed(self, values: np.ndarray, sigma_mm: float) -> np.ndarray:
        """Return values (z, y, x), 0 outside of the core, smoothed in the slice, within the core.

        Float32 (z, y, x); beside the core it says nothing.
        """
        return np.asarray(self._blurred(values, sigma_mm) / self._weight(sigma_mm))

    def _blurred(self, values: np.ndarray, sigma_mm: float) -> np.ndarray:
        _, y, x = self.spacing
        return ndimage.gaussian_filter(values, (0.0, sigma_mm / y, sigma_mm / x))

    def _weight(self, sigma_mm: float) -> np.ndarray:
        if sigma_mm not in self._weights:
            blurred = self._blurred(self.core.astype(np.float32), sigma_mm)
            self._weights[sigma_mm] = np.maximum(blurred, 1e-3)
        return self._weights[sigma_mm]

    @cached_property
    def _weights(self) -> dict[float, np.ndarray]:
        return {}


def side_of(name: str) -> Side | None:
    """Return the side that the name of a bone tells."""
    return Side.LEFT if "_left" in name else Side.RIGHT if "_right" in name else None


def find_anatomy(labels: LabelMap, volume: Volume) -> Anatomy | None:
    """Return the bones on the voxels of a series; None where there are none.

    Bodies that the border of the image cuts are left out.
    """
    given = on_grid(labels, volume)
    wanted = [
        n
        for n, name in enumerate(labels.names)
        if name == "sacrum" or (name in LEVELS and not _cut(given == n, volume))
    ]
    box = _box(np.isin(given, wanted), volume)
    if box is None:
        return None
    cut = cropped(volume, box)
    given = given[box]
    at = points_of(cut)
    names = ["", *(labels.names[n] for n in wanted)]
    table = np.zeros(256, np.uint8)
    table[wanted] = np.arange(1, len(names))
    bones = table[given]
    frames = _frames(bones, names, at)
    labelled = bones > 0
    middle = _middle(frames, at, given, labels)
    surfaces = joint_surfaces(labels, given, at, middle)
    free = given == 0
    joint_mm, lateral = _joint_depth(surfaces, at, labelled, free)
    for side in surfaces:
        names.append(f"ilium_{side.value}")
        zone = free & (lateral == (1 if side is Side.LEFT else -1))
        zone &= (joint_mm > JOINT_MM) & (joint_mm < ZONE_MM)
        bones[zone] = len(names) - 1
    # Of bones and zones apart: what is beside one of them does not belong to the other.
    edge = np.zeros(bones.shape, np.float32)
    for part in (labelled, (bones > 0) & ~labelled):
        edge = np.maximum(edge, _to_border(part, cut))
    core = edge > CORTEX_MM
    return Anatomy(cut, box, at, bones, tuple(names), core, edge, joint_mm, frames, middle)


def on_grid(labels: LabelMap, volume: Volume) -> np.ndarray:
    """Return labels at the voxels of a volume: uint8 (z, y, x); 0 beyond the label map."""
    own = labels.volume
    if same_grid(own, volume):
        return np.asarray(labels.labels)
    at = np.moveaxis(indices(own, points_of(volume)), -1, 0)
    return ndimage.map_coordinates(labels.labels, at, order=0, mode="constant", cval=0)


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether two volumes have the same voxels."""
    return bool(
        one.shape == other.shape
        and np.allclose(one.position, other.position, atol=0.01)
        and np.allclose(one.spacing, other.spacing, rtol=1e-4)
        and np.allclose(one.directions, other.directions, atol=1e-4)
    )


def points_of(volume: Volume) -> np.ndarray:
    """Return the centres of all voxels, float32 (z, y, x, 3), LPS mm."""
    z, y, x = (np.arange(n) - n // 2 for n in volume.shape)
    axes = volume.directions * volume.spacing[:, None]
    at = volume.position + z[:, None, None, None] * axes[2]
    return (at + y[:, None, None] * axes[1] + x[:, None] * axes[0]).astype(np.float32)


def cropped(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """Return the part of a volume inside a box."""
    shape = tuple(part.stop - part.start for part in box)
    middle = [part.start + n // 2 for part, n in zip(box, shape)]
    position = volume.point(*middle)
    return Volume(position, volume.directions, (shape[0], shape[1], shape[2]), volume.spacing)


def _cut(mask: np.ndarray, volume: Volume) -> bool:
    """Whether a body ends at the border of the image: where its plates and veins are is unknown."""
    x, y, _ = (int(np.ceil(CUT_MM / step)) for step in volume.spacing)
    inner = mask[:, y:-y, x:-x]
    return bool(np.count_nonzero(inner) < np.count_nonzero(mask))


def _box(mask: np.ndarray, volume: Volume) -> tuple[slice, slice, slice] | None:
    if np.count_nonzero(mask) < LEAST_VOXELS:
        return None
    margin = np.ceil(MARGIN_MM / volume.spacing[::-1]).astype(int)
    bounds = _bounds(mask, margin)
    assert bounds is not None
    # All slices: bone beside the labelled ones may be there without a label.
    return slice(0, mask.shape[0]), bounds[1], bounds[2]


def _bounds(
    mask: np.ndarray, margin: Sequence[int] | np.ndarray
) -> tuple[slice, slice, slice] | None:
    """Return the box around a mask, with a margin as far as there are voxels."""
    bounds = []
    for axis, more in enumerate(margin):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(there):
            return None
        low, high = int(there[0] - more), int(there[-1] + more + 1)
        bounds.append(slice(max(low, 0), min(high, mask.shape[axis])))
    return bounds[0], bounds[1], bounds[2]


def _to_border(mask: np.ndarray, volume: Volume) -> np.ndarray:
    """Return the distance of what is inside to what is not, float32 (z, y, x); the rest is 0."""
    found = np.zeros(mask.shape, np.float32)
    if (box := _bounds(mask, (1, 1, 1))) is not None:
        steps = volume.spacing[::-1]
        found[box] = ndimage.distance_transform_edt(mask[box], sampling=steps)
    return found


def _frames(bones: np.ndarray, names: list[str], at: np.ndarray) -> dict[str, Frame]:
    """Return where the bodies lie, from their voxels and from the direction of the column."""
    places = {}
    for index, name in enumerate(names):
        if name in LEVELS:
            points = at[bones == index]
            if len(points) >= LEAST_VOXELS:
                places[name] = points
    ordered = [name for name in LEVELS if name in places]
    centres = {name: places[name].mean(axis=0, dtype=float) for name in ordered}
    frames = {}
    for n, name in enumerate(ordered):
        above, below = ordered[max(n - 1, 0)], ordered[min(n + 1, len(ordered) - 1)]
        up = centres[above] - centres[below] if above != below else -np.array([0.0, 0, -1])
        up[0] = 0.0
        up /= max(float(np.linalg.norm(up)), 1e-6)
        axes = np.stack([LEFT, np.cross(up, LEFT), up])
        local = (places[name] - centres[name]) @ axes.T
        half = np.ptp(np.percentile(local, [3, 97], axis=0), axis=0) / 2 + 0.5
        frames[name] = Frame(centres[name], axes, half)
    return frames


def _middle(
    frames: dict[str, Frame], at: np.ndarray, given: np.ndarray, labels: LabelMap
) -> Vector:
    """Return a point between left and right, low in the column."""
    if "canal" in labels.names:
        canal = at[given == labels.names.index("canal")]
        if len(canal) >= LEAST_VOXELS:
            low = canal[canal[:, 2] <= np.percentile(canal[:, 2], 40)]
            return np.asarray(low.mean(axis=0, dtype=float))
    if frames:
        return np.asarray(list(frames.values())[-1].centre)
    return np.asarray(at.reshape(-1, 3).mean(axis=0, dtype=float))


def joint_surfaces(
    labels: LabelMap, given: np.ndarray, at: np.ndarray, middle: Vector
) -> dict[Side, Vector]:
    """Return points of the sacroiliac joints, float64 (n, 3): seen ones, and where they must be."""
    expected: dict[Side, Vector] = {}
    try:
        expected = dict(locate(Request(_ANY, labels)).surfaces)
    except Refused:
        pass
    found = {}
    for side in (Side.LEFT, Side.RIGHT):
        name = f"SI_{side.value}"
        seen = at[given == labels.names.index(name)] if name in labels.names else np.zeros((0, 3))
        parts = [expected[side]] if side in expected else []
        if len(seen) >= LEAST_VOXELS:
            if parts:  # what was seen moves what is expected
                near = cKDTree(parts[0]).query(seen)[1]
                shift = np.median(seen - parts[0][near], axis=0)
                parts = [parts[0] + np.where(np.abs(shift) < 10, shift, 0) * (1, 0, 0)]
            parts.append(seen)
        if parts:
            found[side] = np.concatenate(parts).astype(float)
    return found


def _joint_depth(
    surfaces: dict[Side, Vector], at: np.ndarray, bone: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth from the nearest joint, and on which of its sides a voxel lies.

    The latter is 1 (left) or -1 (right) lateral of a joint and within its outline, else 0. Of bone
    with a label, and of what has none as deep as the ilium is looked at.
    """
    depth = np.full(at.shape[:-1], FAR_MM, np.float32)
    lateral = np.zeros(at.shape[:-1], np.int8)
    for side, surface in surfaces.items():
        sign = 1.0 if side is Side.LEFT else -1.0
        near = bone & _around(at, surface, DEEP_MM) | free & _around(at, surface, ZONE_MM)
        if not near.any():
            continue
        points = at[near].astype(float)
        off, index = cKDTree(surface).query(points, distance_upper_bound=DEEP_MM, workers=1)
        there = np.isfinite(off)
        delta = points - surface[np.where(there, index, 0)]
        across = np.hypot(delta[:, 1], delta[:, 2])
        closer = there & (off < depth[near])
        values, ways = depth[near], lateral[near]
        values[closer] = off[closer]
        outside = (delta[:, 0] * sign > 0) & (across < np.maximum(BESIDE_MM, 0.6 * off))
        ways[closer] = np.where(outside, int(sign), 0)[closer]
        depth[near], lateral[near] = values, ways
    return depth, lateral


def _around(at: np.ndarray, surface: Vector, reach_mm: float) -> np.ndarray:
    """Whether points are within the box around a surface and so far beyond."""
    low = (surface.min(axis=0) - reach_mm).astype(np.float32)
    high = (surface.max(axis=0) + reach_mm).astype(np.float32)
    found = np.ones(at.shape[:-1], bool)
    for axis in range(3):
        values = np.ascontiguousarray(at[..., axis])
        found &= (values > low[axis]) & (values < high[axis])
    return found
