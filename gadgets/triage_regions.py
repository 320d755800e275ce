"""Candidates: connected bone with a share that stands out, and what is measured of each.

Features say how much it stands out, from what (its own bone, the other side, the noise), on which
contrasts, and where it lies: a vein runs through the middle of the back of a body, fluid beside the
bone is brighter outside than inside, red marrow has its twin on the other side.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gadgets.evidence import RIM_MM
from gadgets.sagittal import LEVELS
from gadgets.sampling import indices
from gadgets.triage_anatomy import JOINT_MM, Anatomy
from gadgets.triage_model import WEIGHTINGS
from gadgets.triage_signal import Signal

WIDER_MM = 1.6
"""Standard deviation of the smoothing of shares."""
LEAST_SHARE = {"water": 0.10, "fat": 0.08, "dark": 0.08}
LEAST_PEAK = {"water": 0.16, "fat": 0.13, "dark": 0.13}
SPREADS, PEAK_SPREADS = 1.5, 2.6
LEAST_ML = 0.08
MOST = 30
"""Candidates of one kind; the largest."""
FEATURES = (
    "volume", "share", "peak", "spreads", "cnr", "stir", "t1", "t2", "stir_sharp", "border",
    "depth", "leak", "vein", "slices", "joint", "twin", "own_bone", "bone_spread", "filled",
    "plate", "corner", "body", "sacrum", "ilium", "lateral_end", "grade", "joint_deep",
    "dry", "remnant",
)  # fmt: skip
_FACES = ndimage.generate_binary_structure(3, 1) | np.array(
    [np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], bool
)


@dataclass(frozen=True)
class Candidate:
    """One region.

    Attributes
    ----------
    kind : str
    voxels : int64 (n, 3)
        z, y, x in the anatomy's voxels.
    share : float32 (n)
        Of each voxel, smoothed.
    bone : str
        Where most of it lies.
    features : dict of str to float
    """

    kind: str
    voxels: np.ndarray
    share: np.ndarray
    bone: str
    features: dict[str, float]

    @property
    def row(self) -> np.ndarray:
        return np.array([self.features[name] for name in FEATURES])


def candidates(anatomy: Anatomy, signal: Signal, kind: str) -> list[Candidate]:
    """Return all regions of one kind, largest first."""
    core = anatomy.core
    wide = anatomy.smoothed(signal.shares[kind], WIDER_MM) * core
    inside = wide[core]
    middle = float(np.median(inside))
    spread = signal.spread[kind]
    low = max(LEAST_SHARE[kind], middle + SPREADS * spread)
    high = max(LEAST_PEAK[kind], middle + PEAK_SPREADS * spread)
    marked, count = ndimage.label(wide > low, _FACES)
    if not count:
        return []
    sizes = np.bincount(marked.ravel(), minlength=count + 1) * anatomy.voxel_ml
    peaks = np.zeros(count + 1, np.float32)
    np.maximum.at(peaks, marked[core], inside)
    kept = np.flatnonzero((sizes >= LEAST_ML) & (peaks >= high))
    kept = kept[kept > 0]
    kept = kept[np.argsort(-sizes[kept], kind="stable")][:MOST]
    boxes = ndimage.find_objects(marked)
    context = _Context.of(anatomy, inside)
    found = []
    for number in kept:
        box = boxes[number - 1]
        start = np.array([part.start for part in box])
        voxels = np.argwhere(marked[box] == number) + start
        found.append(_measured(anatomy, signal, kind, wide, context, voxels))
    return found


@dataclass(frozen=True)
class _Context:
    """What all candidates of one kind are compared with."""

    medians: dict[str, float]
    spreads: dict[str, float]

    @classmethod
    def of(cls, anatomy: Anatomy, inside: np.ndarray) -> "_Context":
        medians, spreads = {}, {}
        for n, name in enumerate(anatomy.names[1:], 1):
            values = inside[anatomy.core_bones == n]
            if len(values):
                low, medians[name], high = np.percentile(values, [25, 50, 75]).tolist()
                spreads[name] = high - low
        return cls(medians, spreads)


def _measured(
    anatomy: Anatomy, signal: Signal, kind: str, wide: np.ndarray, context: _Context,
    voxels: np.ndarray,
) -> Candidate:  # fmt: skip
    at = tuple(voxels.T)
    share = wide[at]
    numbers = np.bincount(anatomy.bones[at])
    bone = anatomy.names[int(np.argmax(numbers[1:])) + 1] if len(numbers) > 1 else ""
    points = anatomy.points[at].astype(float)
    edge = anatomy.edge_mm[at]
    stir = signal.data["stir"][at]
    normal = signal.normal["stir"][at]
    joint = anatomy.joint_mm[at]
    strong = share >= np.percentile(share, 50)
    ratios = {
        name: float(signal.ratios[name][at][strong].mean()) if name in signal.ratios else 0.0
        for name in WEIGHTINGS
    }
    slices = np.unique(voxels[:, 0])
    size = np.prod(np.ptp(voxels, axis=0) + 1)
    features = {
        "volume": float(np.log(len(voxels) * anatomy.voxel_ml)),
        "share": float(share.mean()),
        "peak": float(share.max()),
        "spreads": float(np.log(share.mean() / signal.spread[kind])),
        "cnr": float(np.arcsinh((stir - normal).mean() / signal.noise["stir"])),
        **ratios,
        "stir_sharp": float(np.log(max(stir.mean() / normal.mean(), 0.05))),
        "border": float((edge < 2.6).mean()),
        "depth": float(np.log(edge.mean())),
        "leak": _leak(anatomy, signal, voxels, edge),
        "slices": float(np.log(len(slices))),
        "joint": float(np.exp(-joint.min() / 4)),
        "joint_deep": float(min(joint.max(), 25.0) / 10) if joint.min() < 8 else 0.0,
        "twin": _twin(anatomy, wide, points),
        "own_bone": float(share.mean() - context.medians.get(bone, 0.0)),
        "bone_spread": context.spreads.get(bone, 0.1),
        "filled": float(len(voxels) / size),
        "body": float(bone in LEVELS and bone != "S1"),
        "sacrum": float(bone in ("S1", "sacrum")),
        "ilium": float(bone.startswith("ilium")),
        "lateral_end": _lateral_end(anatomy, voxels),
        "grade": float(share.max() - share.mean()),
        "dry": 10 * max(-ratios["t1"], 0.0) * max(-ratios["t2"], 0.0),
        "remnant": _remnant(anatomy, bone, points),
        **_within_body(anatomy, bone, points),
    }
    return Candidate(kind, voxels, share, bone, features)


def _leak(anatomy: Anatomy, signal: Signal, voxels: np.ndarray, edge: np.ndarray) -> float:
    """Return how much brighter on STIR it is just outside of the bone than inside, 0 where deep."""
    if edge.min() > 4.0:
        return 0.0
    low = np.maximum(voxels.min(axis=0) - (0, 4, 4), 0)
    high = np.minimum(voxels.max(axis=0) + np.array([1, 5, 5]), anatomy.bones.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    mask = np.zeros(high - low, bool)
    mask[tuple((voxels - low).T)] = True
    grown = ndimage.binary_dilation(mask, np.ones((1, 3, 3), bool), iterations=4)
    outside = grown & (anatomy.bones[box] == 0)
    if np.count_nonzero(outside) < 5:
        return 0.0
    image = signal.sharp[box]
    beyond = float(np.percentile(image[outside], 80))
    return float(np.clip(np.log(max(beyond, 0.05) / max(float(image[mask].mean()), 0.05)), -2, 2))


def _twin(anatomy: Anatomy, wide: np.ndarray, points: np.ndarray) -> float:
    """Return the mean share of the same place on the other side; 0 where there is none."""
    mirrored = points.copy()
    mirrored[:, 0] = 2 * anatomy.middle[0] - mirrored[:, 0]
    if float(np.abs(points[:, 0] - anatomy.middle[0]).mean()) < 6.0:
        return 0.0
    at = np.round(indices(anatomy.volume, mirrored)).astype(int)
    inside = np.all((at >= 0) & (at < anatomy.bones.shape), axis=1)
    at = at[inside]
    if not len(at):
        return 0.0
    bone = anatomy.core[tuple(at.T)]
    return float(wide[tuple(at.T)][bone].mean()) if bone.sum() > 0.3 * len(points) else 0.0


def _lateral_end(anatomy: Anatomy, voxels: np.ndarray) -> float:
    """Return the share of its voxels whose neighbour in the next slice is no bone."""
    z, y, x = voxels.T
    last = len(anatomy.bones) - 1
    before, after = (anatomy.bones[np.clip(z + step, 0, last), y, x] > 0 for step in (-1, 1))
    return float(1 - (before & after).mean())


def _within_body(anatomy: Anatomy, bone: str, points: np.ndarray) -> dict[str, float]:
    """Return nearness to vein, end plate and corner, 0 to 1; 0 outside of bodies."""
    frame = anatomy.frames.get(bone)
    if frame is None:
        return {"vein": 0.0, "plate": 0.0, "corner": 0.0}
    centre = frame.local(points.mean(axis=0))
    vein = np.hypot(centre[0] / 7, np.hypot((centre[1] - 0.75 * frame.half[1]) / 8, centre[2] / 4))
    local = frame.local(points)
    plate = max(frame.half[2] - float(np.percentile(np.abs(local[:, 2]), 90)), 0.0)
    corner = np.hypot(
        frame.half[1] - 3 - abs(float(centre[1])), frame.half[2] - 4 - abs(float(centre[2]))
    )
    return {
        "vein": float(np.exp(-(vein**2))),
        "plate": float(np.exp(-plate / 3)),
        "corner": float(np.exp(-((corner / 5) ** 2))),
    }


def _remnant(anatomy: Anatomy, bone: str, points: np.ndarray) -> float:
    """Return nearness to where S1 and S2 have grown together, 0 to 1: a remnant disc is there."""
    frame = anatomy.frames.get("S1")
    if frame is None or bone not in ("S1", "sacrum"):
        return 0.0
    local = frame.local(points)
    central = float((np.abs(local[:, 0]) < 20).mean())
    return central * float(np.exp(-np.abs(local[:, 2] + frame.half[2]).mean() / 4))


def near_joint(anatomy: Anatomy, voxels: np.ndarray) -> bool:
    """Whether a region begins in the bone beside a sacroiliac joint."""
    depth = anatomy.joint_mm[tuple(voxels.T)]
    return bool(depth.min() < RIM_MM + JOINT_MM)
