"""Slabs over the sacroiliac joints, planned on sagittal images as ASAS-SPARTAN asks for.

Oblique-coronal: parallel to the dorsal cortex of S2, over both auricular surfaces. Oblique-axial:
perpendicular to it, from mid L5/S1 to S4/S5 (minimum protocol of ASAS-SPARTAN, Ann Rheum Dis 2024,
ard-2024-225882).

How the plane is found: the dorsal cortex of S1 and S2 as one line by total least squares, since
the line of S2 alone is short; S2 alone where the sacrum bends between them. The normal is
perpendicular to that line and to the line through both joints.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from gadgets.prescription import (
    CAUDAL,
    LEFT,
    Prescription,
    RefusalReason,
    Refused,
    Request,
    across,
    angle_deg,
    block,
    check_imaging_volume,
    expected_coverage,
    middle,
    slices_for,
    span,
    unit,
)
from protocols.exam import Geometry
from protocols.findings import Side
from protocols.geometry import Slab, Vector

VISIBLE_MM = 15.0
"""Of the dorsal cortex of S2; a shorter piece has no direction."""
KYPHOSIS_DEG = 25.0
"""Between the dorsal cortices of S1 and S2; from there on S2 alone says where the plane lies."""
PLANE_DEG = (20.0, 70.0)
"""Between the normal and the axial plane."""
MARGIN_MM = 4.0
"""Of the slab, in front of and behind the auricular surfaces."""
FIELD_MARGIN_MM = 20.0
"""Of the field of view around them."""
BODY_HALF_WIDTH_MM = 210.0
MIN_COVERAGE = 0.95
"""Expected, of either auricular surface."""

# The auricular surface against the sacrum, in mm of a sacrum whose S1 and S2 are 53 mm long:
# caudal from the cranial end of the dorsal cortex, dorsal from its line. Limbs 20 mm wide and at
# 93 degrees, the caudal one 56 mm long: Ebraheim 1993. The cranial one ends where cartilage gives
# way to ligament. Half of the distance between the joints 54 mm: PMC5799488. It spans S1 to S3; how
# far it lies before and behind the cortex, and its tilts, are general knowledge, as are those of
# the phantom.
S1_S2_MM, S1_S3_MM, S1_MM, S2_MM = 53.0, 73.0, 29.0, 24.0
S4_BORDER_MM = 17.0
"""Length of S4: from S3 to mid S4/S5."""
_CRANIAL_LIMB = ((5.0, 25.0), (-22.0, 7.0))
_CAUDAL_LIMB = ((5.0, 61.0), (-22.0, -2.0))
_LEAN = np.tan(np.radians(93.0 - 90.0))
_HALF_DISTANCE_MM = 54.0
_CONVERGE_CAUDAL, _CONVERGE_DORSAL = np.tan(np.radians([15.0, 13.0]))
_MIDDLE = np.array([28.0, -6.0])
"""Where the landmark `SI_left` or `SI_right` is."""
_SIZES = (0.8, 1.25)
SURE_MM, UNSURE_MM = 2.0, 4.0
"""How well the surface is known with the landmark of its joint, and without."""


@dataclass(frozen=True)
class Sacrum:
    """Where the sacrum and its joints lie.

    Attributes
    ----------
    origin : float64 (3)
        Cranial end of the dorsal cortex of S1.
    left, caudal, dorsal : float64 (3)
        Orthogonal unit vectors; ``dorsal`` is the normal of the oblique-coronal plane.
    scale : float
        Its size against the average.
    surfaces : dict of Side to float64 (n, 3)
        Expected auricular surfaces.
    sigma_mm : float
        How well these are known.
    variant : str
    """

    origin: Vector
    left: Vector
    caudal: Vector
    dorsal: Vector
    scale: float
    surfaces: dict[Side, Vector]
    sigma_mm: float
    variant: str


def oblique_coronal(request: Request) -> Prescription:
    """Parallel to the dorsal cortex of S2, over both auricular surfaces."""
    sacrum = locate(request)
    geometry, notes = without_folding(request.geometry)
    centre = np.zeros(3)
    joints = np.concatenate(list(sacrum.surfaces.values()))
    for axis in (sacrum.left, sacrum.caudal, sacrum.dorsal):
        low, high = span(joints, axis)
        centre = centre + (low + high) / 2 * axis
    slices = slices_for(geometry, high - low + 2 * MARGIN_MM)
    slab, phase = block(geometry, centre, sacrum.left, sacrum.caudal, slices)
    _check_field(slab, joints)
    return Prescription(
        rule=geometry.rule,
        variant=sacrum.variant,
        slab=slab,
        phase=phase,
        coverage=_coverage(slab, sacrum),
        saturation_band="anterior",
        notes=notes,
    )


def oblique_axial(request: Request) -> Prescription:
    """Perpendicular to the oblique-coronal plane, from mid L5/S1 to mid S4/S5, feet to head."""
    sacrum, geometry = locate(request), request.geometry
    joints = np.concatenate(list(sacrum.surfaces.values()))
    first, start = _mid_last_disc(request, sacrum)
    last, end = _mid_s4_s5(request, sacrum)
    wanted = (float(first @ sacrum.caudal), float(last @ sacrum.caudal))
    slices = slices_for(geometry, wanted[1] - wanted[0])
    length = slices * (geometry.thickness_mm + geometry.gap_mm) - geometry.gap_mm
    along = middle(wanted, span(joints, sacrum.caudal), length)
    centre = along * sacrum.caudal
    for axis in (sacrum.left, sacrum.dorsal):
        centre = centre + np.mean(span(joints, axis)) * axis
    slab, phase = block(geometry, centre, sacrum.left, sacrum.dorsal, slices)
    _check_field(slab, joints)
    notes = [note for note in (start, end) if note]
    if (short := wanted[1] - wanted[0] - length) > 0:
        notes.append(f"the step's {slices} slices are {short:.0f} mm short of L5/S1 to S4/S5")
    return Prescription(
        rule=geometry.rule,
        variant=sacrum.variant,
        slab=slab,
        phase=phase,
        coverage=_coverage(slab, sacrum),
        saturation_band="anterior",
        notes=tuple(notes),
    )


def without_folding(geometry: Geometry) -> tuple[Geometry, tuple[str, ...]]:
    """Encode phase head to feet where left to right the hips would fold into a coronal image."""
    room = geometry.field_of_view_mm[1] * (0.5 + geometry.phase_oversampling)
    if geometry.phase != "left_right" or room >= BODY_HALF_WIDTH_MM:
        return geometry, ()
    note = "phase encoding head_feet: left_right the hips would fold into the image"
    return geometry.model_copy(update={"phase": "head_feet"}), (note,)


def locate(request: Request) -> Sacrum:
    """Find the sacrum and its joints.

    Raises
    ------
    Refused
        Landmarks are missing or contradict each other, the plane is no oblique-coronal one, or the
        joints lie where the scanner cannot image.
    """
    caudal, variant = _dorsal_line(request)
    sides = {Side.LEFT: "SI_left", Side.RIGHT: "SI_right"}
    sure = request.seen(*sides.values())
    if sure:
        one, other = request.points("SI_left", "SI_right")
        left = across(one - other, caudal)
    else:
        left = across(LEFT, caudal)
        variant += "; left to right of the table, since the SI joints were not seen"
    dorsal = np.cross(left, caudal)
    if left @ LEFT < 0.5 or caudal @ CAUDAL < 0.0:
        raise Refused(
            RefusalReason.LANDMARKS,
            "expected SI_left to the left of SI_right and S2 above S3, got them "
            f"{angle_deg(left, LEFT):.0f} and {angle_deg(caudal, CAUDAL):.0f} degrees from there",
        )
    tilt = abs(90.0 - angle_deg(dorsal, CAUDAL))
    if not PLANE_DEG[0] <= tilt <= PLANE_DEG[1]:
        raise Refused(
            RefusalReason.PLANE,
            f"expected the normal {PLANE_DEG[0]:g} to {PLANE_DEG[1]:g} degrees from the axial "
            f"plane, got {tilt:.0f}",
        )
    scale = _scale(request)
    if request.seen("S1_dorsal_superior"):
        origin = request.points("S1_dorsal_superior")[0]
    else:
        origin = request.points("S2_dorsal_superior")[0] - S1_MM * scale * caudal
    frame = np.stack([left, caudal, dorsal])
    surfaces = {}
    for side, name in sides.items():
        sign = 1.0 if side is Side.LEFT else -1.0
        surface = origin + scale * _surface(_limbs(), sign) @ frame
        if request.seen(name):
            middle_of_it = origin + scale * _surface(_MIDDLE, sign) @ frame
            surface = surface + request.points(name)[0] - middle_of_it
        surfaces[side] = surface
    check_imaging_volume(np.concatenate(list(surfaces.values())))
    sigma = SURE_MM if sure else UNSURE_MM
    return Sacrum(origin, left, caudal, dorsal, scale, surfaces, sigma, variant)


def _dorsal_line(request: Request) -> tuple[Vector, str]:
    """Return the unit vector along the dorsal cortex, caudally, and how it was found."""
    ends = ("superior", "inferior")
    s1, s2 = ([f"{level}_dorsal_{end}" for end in ends] for level in ("S1", "S2"))
    visible = 0.0
    if request.seen(*s2):
        top, bottom = request.points(*s2)
        visible = float(np.linalg.norm(bottom - top))
    if visible >= VISIBLE_MM:
        line = unit(bottom - top)
        if not request.seen(*s1):
            return line, "dorsal cortex of S2 alone: that of S1 was not seen"
        above, below = request.points(*s1)
        bend = angle_deg(line, unit(below - above))
        if bend > KYPHOSIS_DEG:
            return line, f"dorsal cortex of S2 alone: the sacrum bends by {bend:.0f} degrees"
        # Where its end plate meets the same wall: a second look at the far end of the line.
        corner = ["S1_superior_posterior"] if request.seen("S1_superior_posterior") else []
        return _fitted(request.points(*corner, *s1, *s2)), "dorsal cortex of S1 and S2"
    try:
        top, bottom = request.points("S1_dorsal_superior", "S3_dorsal_inferior")
    except Refused as refused:
        raise Refused(
            RefusalReason.LANDMARKS,
            f"expected {VISIBLE_MM:g} mm of the dorsal cortex of S2, got {visible:.0f} mm; "
            f"instead of it {refused}",
        ) from None
    return unit(bottom - top), f"line from S1 to S3: {visible:.0f} mm of S2 were seen"


def _fitted(points: Vector) -> Vector:
    """Return the direction of the line through points by total least squares, caudally."""
    _, _, rows = np.linalg.svd(points - points.mean(axis=0))
    return np.asarray(rows[0] * np.sign(rows[0] @ (points[-1] - points[0])))


def _scale(request: Request) -> float:
    """Return the size of the sacrum against the average, by the longest piece which was seen."""
    for first, last, average in (
        ("S1_dorsal_superior", "S2_dorsal_inferior", S1_S2_MM),
        ("S1_dorsal_superior", "S3_dorsal_inferior", S1_S3_MM),
        ("S2_dorsal_superior", "S2_dorsal_inferior", S2_MM),
    ):
        if request.seen(first, last):
            top, bottom = request.points(first, last)
            return float(np.clip(np.linalg.norm(bottom - top) / average, *_SIZES))
    raise AssertionError("a dorsal line without two ends")


def _limbs() -> Vector:
    """Return the L of the auricular surface every 2 mm, (n, 2): caudal and dorsal."""
    (top, bottom), (front, back) = _CAUDAL_LIMB[0], _CRANIAL_LIMB[1]
    grid = np.meshgrid(np.arange(top, bottom + 1, 2.0), np.arange(front, back + 1, 2.0))
    caudal, dorsal = (axis.ravel() for axis in grid)
    leaning = dorsal - _LEAN * (caudal - top)
    inside = caudal <= _CRANIAL_LIMB[0][1]
    inside |= (leaning >= _CAUDAL_LIMB[1][0]) & (leaning <= _CAUDAL_LIMB[1][1])
    return np.stack([caudal, dorsal], axis=-1)[inside]


def _surface(places: Vector, sign: float) -> Vector:
    """Return places (..., 2) on the auricular surface of a side along left, caudal and dorsal."""
    caudal, dorsal = places[..., 0], places[..., 1]
    lateral = (
        _HALF_DISTANCE_MM
        - _CONVERGE_CAUDAL * (caudal - _CRANIAL_LIMB[0][0])
        - _CONVERGE_DORSAL * (dorsal - _CRANIAL_LIMB[1][0])
    )
    return np.stack([sign * lateral, caudal, dorsal], axis=-1)


def _mid_last_disc(request: Request, sacrum: Sacrum) -> tuple[Vector, str]:
    """Return the middle of the disc above S1, and a note where it was not seen."""
    for level in ("L6", "L5", "L4"):
        with suppress(Refused):
            return request.disc(level, "S1").mean(axis=0), ""
    return sacrum.origin, "starts at the cranial end of S1: the disc above it was not seen"


def _mid_s4_s5(request: Request, sacrum: Sacrum) -> tuple[Vector, str]:
    """Return the border of S4 and S5, one length of S4 beyond S3."""
    ends = ("S3_dorsal_superior", "S3_dorsal_inferior")
    if request.seen(*ends):
        top, bottom = request.points(*ends)
        return bottom + S4_BORDER_MM * sacrum.scale * unit(bottom - top), ""
    length = (S1_S3_MM + S4_BORDER_MM) * sacrum.scale
    note = "ends where S4/S5 is by the size of S1 and S2: S3 was not seen"
    return sacrum.origin + length * sacrum.caudal, note


def _check_field(slab: Slab, points: Vector) -> None:
    needed = 2 * (np.abs(slab.coordinates(points)).max(axis=0) + FIELD_MARGIN_MM)
    if needed[0] > slab.field_of_view_mm[0] or needed[1] > slab.field_of_view_mm[1]:
        raise Refused(
            RefusalReason.FIELD_OF_VIEW,
            f"expected a field of view of {needed[0]:.0f} x {needed[1]:.0f} mm or more, "
            f"got {slab.field_of_view_mm[0]:g} x {slab.field_of_view_mm[1]:g}",
        )


def _coverage(slab: Slab, sacrum: Sacrum) -> dict[Side, float]:
    coverage = {
        side: expected_coverage(slab, surface, sacrum.sigma_mm)
        for side, surface in sacrum.surfaces.items()
    }
    if min(coverage.values()) < MIN_COVERAGE:
        raise Refused(
            RefusalReason.FIELD_OF_VIEW,
            f"expected slices for {MIN_COVERAGE:.0%} of both auricular surfaces or more, "
            f"{slab.slices} of them cover {min(coverage.values()):.0%}",
        )
    return coverage
