"""Where in a patient a lesion may begin: points on joints, end plates and bodies, body coordinates.

Uses the anatomy's own geometry (`scanner.phantom.column`, `scanner.phantom.pelvis`), so that a
lesion lies right in every variant of it.
"""

from __future__ import annotations

import numpy as np

from protocols.findings import Side, Structure
from scanner.phantom import LumbarSpine
from scanner.phantom.column import Disc, Level
from scanner.tissues import Label

Point = tuple[float, float, float]

_CANDIDATES = 100
_SIGN = {Side.LEFT: 1.0, Side.RIGHT: -1.0, Side.MIDLINE: 0.0}


def either_side(rng: np.random.Generator) -> Side:
    """Left or right."""
    return Side.LEFT if rng.random() < 0.5 else Side.RIGHT


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def seed(rng: np.random.Generator) -> int:
    """A seed for one lesion."""
    return int(rng.integers(1 << 31))


def on_joint(
    rng: np.random.Generator, spine: LumbarSpine, structure: Structure, side: Side
) -> Point:
    """A point where the cartilage of a sacroiliac joint meets the sacrum or the ilium."""
    pelvis = spine.pelvis
    s = pelvis.borders[0] + rng.uniform(-2, 62, _CANDIDATES)
    d = rng.uniform(-24, 22, _CANDIDATES)
    inside = np.flatnonzero(pelvis.auricular(s, d) < -2.5)
    points = np.array([joint_point(spine, structure, side, s[i], d[i]) for i in inside])
    # Not where the surface runs past the end of the bone.
    into = {Structure.SACRAL_SUBCHONDRAL: -1, Structure.ILIAC_SUBCHONDRAL: 1}.get(structure, 0)
    deep = points + np.array([into * _SIGN[side] * 5.0, 0, 0])
    labels = spine.sample(spine.to_patient(deep).astype(np.float32)).labels
    good = np.flatnonzero(labels == Label.MARROW) if into else np.arange(len(points))
    x, y, z = points[good[0]]
    return (float(x), float(y), float(z))


def joint_point(spine: LumbarSpine, structure: Structure, side: Side, s: float, d: float) -> Point:
    """The point of a joint at spine coordinates: on the sacrum, the ilium, or half-way."""
    pelvis = spine.pelvis
    off = {Structure.SACRAL_SUBCHONDRAL: -0.5, Structure.ILIAC_SUBCHONDRAL: 0.5}.get(structure, 0)
    x = float(pelvis.joint_surface(np.array(s), np.array(d))) + off * pelvis.joint_space
    y, z = spine.column.point(s, d)
    return (_SIGN[side] * x, y, z)


def sacral_level(spine: LumbarSpine, s: float) -> str:
    """Segment of the sacrum at an arc length."""
    names = [level.name for level in spine.column.sacrum]
    segment = int(np.searchsorted(spine.pelvis.borders, s, side="right")) - 1
    return names[int(np.clip(segment, 0, len(names) - 1))]


def half_ellipsoid_radii(
    rng: np.random.Generator, volume_ml: float, depth_mm: float, cortex_mm: float
) -> Point:
    """Radii of half an ellipsoid on a surface whose part below the cortex has a volume."""
    # The irregular outline and the oblique joint make lesions larger than the smooth formula.
    area = 1.5e3 * volume_ml / (np.pi * depth_mm) / 1.8
    aspect = log_uniform(rng, 0.7, 1.8)
    return (float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect)), depth_mm + cortex_mm)


def some_disc(rng: np.random.Generator, spine: LumbarSpine) -> Disc:
    """A disc, the lower ones more often: most disease is at the last three."""
    discs = spine.column.discs[-6:]
    weight = np.array([1.0, 1, 1, 2, 4, 4])[-len(discs) :]
    return discs[int(rng.choice(len(discs), p=weight / weight.sum()))]


def some_vertebra(rng: np.random.Generator, spine: LumbarSpine) -> Level:
    """Any of the lowest seven vertebrae."""
    levels = spine.column.levels[-7:]
    return levels[int(rng.integers(len(levels)))]


def on_endplate(level: Level, upper: bool, x: float, u: float) -> Point:
    """A point of an end plate, just inside the body."""
    w = level.height / 2 - u * float(np.tan(level.wedge / 2)) - 1.0
    y, z = level.to_plane(u, w if upper else -w)
    return (float(x), float(y), float(z))


def in_body(rng: np.random.Generator, level: Level, reach: float = 0.6) -> Point:
    """A point in a vertebral body, within ``reach`` of its half axes."""
    half = np.array([level.width, level.depth, level.height]) / 2 * reach
    x, u, w = rng.uniform(-half, half)
    y, z = level.to_plane(float(u), float(w))
    return (float(x), float(y), float(z))


def facet_joint(spine: LumbarSpine, level: Level, side: Side) -> Point | None:
    """Middle of the facet joint below a level, found by its cartilage; None where it has none."""
    across, back, down = np.meshgrid(
        _SIGN[side] * np.arange(6.0, 31.0),
        level.depth / 2 + np.arange(6.0, 29.0),
        -level.height / 2 + np.arange(-14.0, 7.0),
        indexing="ij",
    )
    y, z = level.to_plane(back, down)  # type: ignore[arg-type]
    body = np.stack([across, y, z], axis=-1)
    labels = spine.sample(spine.to_patient(body).astype(np.float32)).labels
    joint = body[np.isin(labels, (Label.CARTILAGE, Label.JOINT_FLUID))]
    if len(joint) < 5:
        return None
    x, y0, z0 = joint.mean(axis=0)
    return (float(x), float(y0), float(z0))
