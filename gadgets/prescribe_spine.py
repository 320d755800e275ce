"""Slabs along the spine: a block at a flagged disc, the stack continued, straight blocks."""

import re
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gadgets.prescribe_si import locate, without_folding
from gadgets.prescription import (
    CAUDAL,
    DORSAL,
    ENDS,
    IMAGING_HALF_LENGTH_MM,
    MIN_CONFIDENCE,
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
from protocols.geometry import Vector

OVERLAP_MM = 70.0
"""Of a continued stack with the one before: a vertebra and two discs, to number the levels by."""
DISC_TILT_DEG = 60.0
"""Of a disc against the axial plane; no disc is steeper."""
TABLE_TRAVEL_MM = 800.0
MARGIN_MM = 5.0
"""Of a straight block, in front of and behind what it covers."""

_LEVEL = re.compile(r"[CTLS]\d+")


def disc_axial(request: Request) -> Prescription:
    """Block parallel to the flagged disc, by the corners of its end plates, feet to head."""
    above, below, corners = _flagged_disc(request)
    front, back = corners[::2], corners[1::2]
    down = unit(np.mean([unit(plate) for plate in back - front], axis=0))
    right = across(request.left(), down)
    tilt = angle_deg(np.cross(right, down), -CAUDAL)
    if tilt > DISC_TILT_DEG:
        raise Refused(
            RefusalReason.PLANE,
            f"expected {above}/{below} within {DISC_TILT_DEG:g} degrees of axial, got {tilt:.0f}",
        )
    check_imaging_volume(corners)
    geometry = request.geometry
    slab, phase = block(geometry, corners.mean(axis=0), right, down, geometry.slices)
    variant = f"parallel to the disc {above}/{below}"
    return Prescription(geometry.rule, variant, slab, phase, notes=_numbering(request))


def extended_up(request: Request) -> Prescription:
    """Continue the labelled stack towards the head, with overlap."""
    return _extended(request, "head")


def extended_down(request: Request) -> Prescription:
    """Continue the labelled stack towards the feet, with overlap."""
    return _extended(request, "feet")


def sagittal(request: Request) -> Prescription:
    """Lie where the labelled stack lies."""
    right, down, centre, _ = _stack(request)
    geometry = request.geometry
    slab, phase = block(geometry, centre, right, down, geometry.slices)
    return Prescription(geometry.rule, "the labelled stack again", slab, phase)


def coronal(request: Request) -> Prescription:
    """Coronal block over vertebral bodies and SI joints.

    Where the step's slices do not reach through both, over the finding that asks for it, or over
    the SI joints.
    """
    geometry, notes = without_folding(request.geometry)
    left = request.left()
    caudal = across(CAUDAL, left)
    corners = [name for name in request.trusted if name.endswith(ENDS)]
    bodies = request.points(*corners) if corners else np.empty((0, 3))
    surfaces: dict[Side, Vector] = {}
    try:
        sacrum = locate(request)
    except Refused as refused:
        notes += (f"without regard to the SI joints: {refused}",)
    else:
        surfaces = sacrum.surfaces
    joints = np.concatenate([*surfaces.values(), np.empty((0, 3))])
    if not len(bodies) + len(joints):
        raise Refused(RefusalReason.LANDMARKS, "expected end-plate corners or a sacrum, got none")
    needed = _box(request) if request.finding else joints if surfaces else bodies
    everything = np.concatenate([bodies, joints, needed])
    axes = (left, caudal, np.cross(left, caudal))
    found = _straight(geometry, axes, everything, needed, notes, "vertebral bodies and SI joints")
    coverage = {
        side: expected_coverage(found.slab, surface, sacrum.sigma_mm)
        for side, surface in surfaces.items()
    }
    return replace(found, coverage=coverage, saturation_band="anterior")


def axial(request: Request) -> Prescription:
    """Straight axial block over the flagged region, or from L3/L4 to L5/S1, feet to head."""
    left = request.left()
    dorsal = across(DORSAL, left)
    if request.finding:
        needed, what = _box(request), "the flagged region"
    else:
        plates = ("L3_inferior", "L4_superior", "L5_inferior", "S1_superior")
        needed = request.points(*(f"{plate}_{end}" for plate in plates for end in ENDS))
        what = "L3/L4 to L5/S1"
    axes = (left, dorsal, np.cross(left, dorsal))
    return _straight(request.geometry, axes, needed, needed, _numbering(request), what)


def _straight(
    geometry: Geometry,
    axes: tuple[Vector, Vector, Vector],
    wanted: Vector,
    needed: Vector,
    notes: tuple[str, ...],
    what: str,
) -> Prescription:
    """Return a block over what is wanted; over what is needed, where that is too much."""
    right, down, normal = axes
    low, high = span(wanted, normal)
    low, high = low - MARGIN_MM, high + MARGIN_MM
    slices = slices_for(geometry, high - low)
    length = slices * (geometry.thickness_mm + geometry.gap_mm) - geometry.gap_mm
    centre = middle((low, high), span(needed, normal), length) * normal
    for axis in (right, down):
        field = min(geometry.field_of_view_mm)
        centre = centre + middle(span(wanted, axis), span(needed, axis), field) * axis
    check_imaging_volume(needed)
    slab, phase = block(geometry, centre, right, down, slices)
    if not (inside := slab.contains(needed)).all():
        raise Refused(
            RefusalReason.FIELD_OF_VIEW,
            f"expected {slices} slices of {geometry.field_of_view_mm} mm to cover what is needed, "
            f"they cover {inside.mean():.0%} of it",
        )
    if not slab.contains(wanted).all():
        notes = (*notes, f"the step's {slices} slices do not cover all of {what}")
    return Prescription(geometry.rule, f"straight, over {what}", slab, phase, notes=notes)


def _extended(request: Request, towards: str) -> Prescription:
    geometry = request.geometry
    right, down, centre, length = _stack(request)
    head_feet_is_phase = block(geometry, centre, right, down, 1)[1] == "head_feet"
    field = geometry.field_of_view_mm[1 if head_feet_is_phase else 0]
    way = down if towards == "feet" else -down
    centre = centre + (length / 2 + field / 2 - OVERLAP_MM) * way
    table = float(centre[2])
    if abs(table) > TABLE_TRAVEL_MM:
        raise Refused(
            RefusalReason.IMAGING_VOLUME,
            f"expected a table position within {TABLE_TRAVEL_MM:g} mm, got {table:.0f} mm",
        )
    slab, phase = block(geometry, centre, right, down, geometry.slices)
    reach = abs(table) + field / 2
    return Prescription(
        rule=geometry.rule,
        variant=f"the labelled stack continued towards the {towards}, {OVERLAP_MM:g} mm in common",
        slab=slab,
        phase=phase,
        table_mm=table if reach > IMAGING_HALF_LENGTH_MM else None,
        notes=_numbering(request),
    )


def _stack(request: Request) -> tuple[Vector, Vector, Vector, float]:
    """Return front to back, head to feet and centre of the labelled stack, and its length."""
    request.left()
    volume = request.labels.volume
    slices, *in_plane = volume.shape
    which = int(np.argmax(np.abs(volume.directions[:2] @ CAUDAL)))
    down, right = volume.directions[which], volume.directions[1 - which]
    down, right = np.sign(down @ CAUDAL) * down, np.sign(right @ DORSAL) * right
    centre = volume.point((slices - 1) / 2, in_plane[0] // 2, in_plane[1] // 2)
    return right, down, centre, float(in_plane[1 - which] * volume.spacing[which])


def _flagged_disc(request: Request) -> tuple[str, str, Vector]:
    """Return the vertebrae above and below the disc which a finding is at, and its corners."""
    finding = request.finding
    if finding is None or finding.level is None:
        raise Refused(RefusalReason.FINDING, "expected a finding with a level, got none")
    if "/" in finding.level:
        above, _, below = finding.level.partition("/")
        return above, below, request.disc(above, below)
    seen = {name.split("_")[0] for name in request.trusted}
    levels = sorted(
        filter(_LEVEL.fullmatch, seen), key=lambda name: ("CTLS".index(name[0]), int(name[1:]))
    )
    discs = []
    for above, below in pairwise(levels):
        if finding.level in (above, below):
            with suppress(Refused):
                discs.append((above, below, request.disc(above, below)))
    if not discs:
        raise Refused(RefusalReason.LANDMARKS, f"expected a disc at {finding.level}, saw none")
    place = np.asarray(finding.centre_mm)
    return min(discs, key=lambda disc: np.linalg.norm(disc[2].mean(axis=0) - place))


def _numbering(request: Request) -> tuple[str, ...]:
    certain = request.labels.confidence.get("levels", 0.0) >= MIN_CONFIDENCE
    return () if certain else ("the numbering of the levels is not certain",)


def _box(request: Request) -> Vector:
    """Return the corners of the box around the finding, float64 (8, 3)."""
    assert request.finding is not None
    centre, extent = np.array(request.finding.centre_mm), np.array(request.finding.extent_mm)
    signs = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5]), axis=-1).reshape(-1, 3)
    return np.asarray(centre + signs * extent)
