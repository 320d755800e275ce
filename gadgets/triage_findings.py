"""From a region to a finding: type, structure, side, level, size; one finding of several series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gadgets.sagittal import LEVELS
from gadgets.triage_anatomy import Anatomy, side_of
from gadgets.triage_regions import Candidate, near_joint
from gadgets.triage_signal import Signal
from protocols.findings import ExamFindings, Finding, FindingType, Side, Structure

MIDLINE_MM = 4.0
SHOWS = 0.06
"""Of the logarithm of a ratio, from which on a series shows a finding."""
SAME_MM = 8.0
"""Between two findings that are one."""
HALF = 0.45
CORNER, PLATE = 0.5, 0.35

_TYPES = {
    "water": FindingType.OEDEMA_LIKE,
    "fat": FindingType.FAT_LIKE,
    "dark": FindingType.SCLEROSIS_LIKE,
}


@dataclass(frozen=True)
class Seen:
    """A region in its exam.

    Attributes
    ----------
    region : Candidate
    anatomy : Anatomy
    signal : Signal
    probability : float
    replaced : bool
        Marrow that was replaced, rather than wet.
    names : dict of weighting to str
        Of the series.
    """

    region: Candidate
    anatomy: Anatomy
    signal: Signal
    probability: float
    replaced: bool
    names: dict[str, str]

    @property
    def voxels(self) -> np.ndarray:
        """Those a reader would outline, (n, 3): from half of the largest share on."""
        return self.region.voxels[self.region.share >= HALF * self.region.share.max()]

    @property
    def points(self) -> np.ndarray:
        return np.asarray(self.anatomy.points[tuple(self.voxels.T)], float)

    def meets(self, other: "Seen") -> bool:
        """Whether two regions overlap."""
        (a0, a1), (b0, b1) = ((p.min(axis=0), p.max(axis=0)) for p in (self.points, other.points))
        return bool(np.all(a0 <= b1 + 1.5) and np.all(b0 <= a1 + 1.5))


def finding(seen: Seen, levels_certain: bool) -> Finding:
    """Describe a region. The id is still empty."""
    anatomy, signal = seen.anatomy, seen.signal
    voxels, points = seen.voxels, seen.points
    at = tuple(voxels.T)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.abs(anatomy.volume.directions.T) @ anatomy.volume.spacing
    kind = _type(seen)
    structure, side, level = _place(seen, kind, points)
    slices = np.unique(voxels[:, 0]) + anatomy.box[0].start
    area = np.bincount(voxels[:, 0]).max() * float(np.prod(anatomy.volume.spacing[:2]))
    contrast = signal.data["stir"][at].mean() - signal.normal["stir"][at].mean()
    subchondral = structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL)
    depth = float(anatomy.joint_mm[at].max()) if subchondral else None
    centre, extent = (low + high) / 2, high - low + size
    return Finding(
        id="",
        type=kind,
        structure=structure,
        side=side,
        level=level if levels_certain else None,
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        extent_mm=(float(extent[0]), float(extent[1]), float(extent[2])),
        volume_ml=len(points) * anatomy.voxel_ml,
        depth_mm=None if depth is None else min(depth, 40.0),
        cnr=float(contrast / signal.noise["stir"]),
        probability=round(seen.probability, 4),
        series=_shown_by(seen),
        slices=tuple(int(number) for number in slices),
        adjacent_slices=_longest_run(slices),
        area_mm2=area,
    )


def _type(seen: Seen) -> FindingType:
    ratio = seen.region.features
    if seen.region.kind in ("water", "fat") and ratio["t1"] > 0.08 and ratio["t2"] > 0.35:
        return FindingType.FLUID_AND_FAT_LIKE
    if seen.replaced:
        return FindingType.REPLACEMENT_LIKE
    return _TYPES[seen.region.kind]


def _place(seen: Seen, kind: FindingType, points: np.ndarray) -> tuple[Structure, Side, str | None]:
    region, anatomy = seen.region, seen.anatomy
    bone = region.bone
    frame = anatomy.frames.get(bone)
    middle = frame.centre if frame is not None else anatomy.middle
    across = points[:, 0] - middle[0]
    side = Side.MIDLINE
    if abs(float(across.mean())) >= MIDLINE_MM:
        side = Side.LEFT if across.mean() > 0 else Side.RIGHT
    if bone.startswith("ilium"):
        return Structure.ILIAC_SUBCHONDRAL, side_of(bone) or side, None
    if kind is FindingType.REPLACEMENT_LIKE:
        return (
            (Structure.VERTEBRA, side, bone)
            if bone in LEVELS and bone != "S1"
            else (Structure.SACRUM, side, "S1")
        )
    features = region.features
    if bone == "sacrum" or (bone == "S1" and features["plate"] < PLATE):
        if side is not Side.MIDLINE and near_joint(anatomy, region.voxels):
            return Structure.SACRAL_SUBCHONDRAL, side, "S1" if bone == "S1" else None
        return Structure.SACRUM, side, "S1" if bone == "S1" else None
    if features["corner"] >= CORNER:
        return Structure.CORNER, side, bone
    if features["plate"] >= PLATE:
        return Structure.ENDPLATE, side, bone
    return Structure.VERTEBRA, side, bone


def _shown_by(seen: Seen) -> tuple[str, ...]:
    """Return the series that show a region, the deciding one first."""
    ratio = seen.region.features
    shows = ["stir"]
    if abs(ratio["t1"]) > SHOWS:
        shows.append("t1")
    if abs(ratio["t2"]) > SHOWS:
        shows.append("t2")
    return tuple(seen.names[name] for name in shows if name in seen.names)


def _longest_run(slices: np.ndarray) -> int:
    breaks = np.flatnonzero(np.diff(slices) != 1)
    ends = np.array([-1, *breaks, len(slices) - 1])
    return int(np.diff(ends).max())


def merged(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Make one of findings that several series show at the same place; most probable first."""
    kept: list[Finding] = []
    for one in sorted(findings, key=lambda each: (-each.probability, each.centre_mm)):
        for number, other in enumerate(kept):
            if other.series[0] != one.series[0] and same(one, other):
                more = tuple(name for name in one.series if name not in other.series)
                kept[number] = other.model_copy(update={"series": other.series + more})
                break
        else:
            kept.append(one)
    return tuple(kept)


def same(one: Finding, other: Finding) -> bool:
    """Whether two findings are of one place and kind."""
    narrow = FindingType.CANAL_NARROW
    if (one.type is narrow) != (other.type is narrow):
        return False
    if (one.type is FindingType.FAT_LIKE) != (other.type is FindingType.FAT_LIKE):
        return False
    if (one.type is FindingType.SCLEROSIS_LIKE) != (other.type is FindingType.SCLEROSIS_LIKE):
        return False
    apart = np.abs(np.subtract(one.centre_mm, other.centre_mm))
    reach = np.maximum(np.maximum(one.extent_mm, other.extent_mm) / 2, SAME_MM)
    return bool(np.all(apart <= reach))


def named(findings: Sequence[Finding], previous: ExamFindings | None) -> tuple[Finding, ...]:
    """Give findings their ids: those of before, new ones go on counting."""
    before = list(previous.findings) if previous is not None else []
    taken = [int(one.id[1:]) for one in before if one.id[:1] == "f" and one.id[1:].isdigit()]
    following = max(taken, default=0) + 1
    result = []
    for one in findings:
        known = next((old for old in before if same(one, old)), None)
        if known is not None:
            before.remove(known)
            name = known.id
        else:
            name, following = f"f{following}", following + 1
        result.append(one.model_copy(update={"id": name}))
    return tuple(result)
