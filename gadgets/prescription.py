"""What a prescription is, and what its rules share: trusted landmarks, blocks, refusals.

`gadgets.prescribe` is the way in. All positions are DICOM LPS mm; as in MRD, the origin is the
isocentre at the table position of the labelled series.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy.special import ndtr

from gadgets.items import LabelMap
from protocols.exam import Geometry, GeometryRule
from protocols.findings import Finding, Side
from protocols.geometry import Slab, Vector

MIN_CONFIDENCE = 0.5
"""Of a landmark; below, it is as if it had not been seen."""

IMAGING_RADIUS_MM, IMAGING_HALF_LENGTH_MM = 250.0, 225.0
"""Where the field is homogeneous and the bore safe: a cylinder around the isocentre, along z."""

DISC_HEIGHT_MM = 25.0
"""No disc is higher: what is further apart has a vertebra between, which was not seen."""
ENDS = ("anterior", "posterior")
"""Of an end plate."""

Phase = Literal["head_feet", "left_right", "front_back"]

LEFT, DORSAL, CAUDAL = np.eye(3) * (1.0, 1.0, -1.0)
_AXIS: dict[Phase, Vector] = {"left_right": LEFT, "front_back": DORSAL, "head_feet": CAUDAL}


class RefusalReason(StrEnum):
    """Why there is no slab."""

    LANDMARKS = "landmarks"
    """Missing, not trusted, or at odds with each other."""
    PLANE = "plane"
    """Too steep or too flat to be the plane that was meant."""
    FIELD_OF_VIEW = "field_of_view"
    """The step's field of view or slices do not cover the anatomy."""
    IMAGING_VOLUME = "imaging_volume"
    """Outside of what the scanner can image without moving the table."""
    FINDING = "finding"
    """The rule needs one, with a level."""


@dataclass(frozen=True)
class Prescription:
    """A slab, and how it came about.

    Attributes
    ----------
    rule : GeometryRule
    variant : str
        Which way of the rule was taken, in words.
    slab : Slab
    phase : "head_feet", "left_right" or "front_back"
        Phase encoding, where oblique the nearest of them.
    coverage : dict of Side to float
        Expected fraction of each auricular surface inside the slab; of the rules for SI joints.
    saturation_band : "anterior" or None
        In front of the spine: bowel and vessels neither fold nor smear over it.
    table_mm : float or None
        Where the table has to move for it: the z that comes to the isocentre.
    notes : tuple of str
        What is not as asked or not sure, in words.
    """

    rule: GeometryRule
    variant: str
    slab: Slab
    phase: Phase
    coverage: dict[Side, float] = field(default_factory=dict)
    saturation_band: Literal["anterior"] | None = None
    table_mm: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """No slab, and why.

    Attributes
    ----------
    rule : GeometryRule
    reason : RefusalReason
    text : str
        What was expected and what there was.
    """

    rule: GeometryRule
    reason: RefusalReason
    text: str


class Refused(Exception):
    """Raised by a rule that will not make a slab; `gadgets.prescribe` makes a `Refusal` of it."""

    def __init__(self, reason: RefusalReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Request:
    """What a rule is given.

    Attributes
    ----------
    geometry : protocols.exam.Geometry
        Of the step.
    labels : LabelMap
    finding : Finding or None
        That asks for it.
    """

    geometry: Geometry
    labels: LabelMap
    finding: Finding | None = None

    def seen(self, *names: str) -> bool:
        """Return whether all these landmarks are there and trusted."""
        return not self._unseen(names)

    def points(self, *names: str) -> Vector:
        """Return landmarks, float64 (n, 3).

        Raises
        ------
        Refused
            One is missing or not trusted.
        """
        if unseen := self._unseen(names):
            raise Refused(RefusalReason.LANDMARKS, f"expected {' and '.join(unseen)}")
        return np.array([self.labels.landmarks[name] for name in names], np.float64)

    def disc(self, above: str, below: str) -> Vector:
        """Return the corners of the end plates of a disc, float64 (4, 3).

        Front and back of the vertebra above, then of the one below.

        Raises
        ------
        Refused
            A corner is missing or not trusted, or there is a vertebra between.
        """
        plates = (f"{above}_inferior", f"{below}_superior")
        corners = self.points(*(f"{plate}_{end}" for plate in plates for end in ENDS))
        height = np.linalg.norm(corners[:2].mean(axis=0) - corners[2:].mean(axis=0))
        if height > DISC_HEIGHT_MM:
            raise Refused(
                RefusalReason.LANDMARKS,
                f"expected {above} and {below} within {DISC_HEIGHT_MM:g} mm, got {height:.0f} mm",
            )
        return corners

    @property
    def trusted(self) -> list[str]:
        """Names of all trusted landmarks."""
        return [name for name in self.labels.landmarks if self.seen(name)]

    def _unseen(self, names: tuple[str, ...]) -> list[str]:
        found = []
        for name in names:
            confidence = self.labels.confidence.get(name, 0.0)
            if name not in self.labels.landmarks:
                found.append(f"{name} (not seen)")
            elif not np.isfinite(self.labels.landmarks[name]).all():
                found.append(f"{name} (not a position)")
            elif not confidence >= MIN_CONFIDENCE:
                found.append(f"{name} (confidence {confidence:.2f}, below {MIN_CONFIDENCE})")
        return found

    def left(self) -> Vector:
        """Return the unit vector to the left across the labelled series: its slice normal."""
        normal = self.labels.volume.directions[2]
        if abs(normal @ LEFT) < np.sqrt(0.5):
            raise Refused(RefusalReason.PLANE, "expected the labels of a sagittal series")
        return np.asarray(np.sign(normal @ LEFT) * normal)


def unit(vector: Vector) -> Vector:
    """Return a vector at length 1.

    Raises
    ------
    Refused
        It has no direction.
    """
    length = np.linalg.norm(vector)
    if not length > 1e-3:
        raise Refused(RefusalReason.LANDMARKS, "expected landmarks at different places")
    return np.asarray(vector / length)


def across(vector: Vector, axis: Vector) -> Vector:
    """Return the unit vector of what of ``vector`` is perpendicular to the unit vector ``axis``."""
    return unit(vector - (vector @ axis) * axis)


def angle_deg(one: Vector, other: Vector) -> float:
    """Return the angle between two unit vectors, 0 to 180."""
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def span(points: Vector, axis: Vector) -> tuple[float, float]:
    """Return from where to where points reach along an axis."""
    along = points @ axis
    return float(along.min()), float(along.max())


def block(
    geometry: Geometry, centre: Vector, right: Vector, down: Vector, slices: int
) -> tuple[Slab, Phase]:
    """Return the slab of a step's geometry in a plane, and the direction of its phase encoding.

    Parameters
    ----------
    geometry : protocols.exam.Geometry
        Phase encoding goes along the one of ``right`` and ``down`` that is nearest to its
        ``phase``.
    centre : float64 (3)
    right, down : float64 (3)
        Orthogonal unit vectors. The slices follow each other along their cross product, whichever
        of them is the readout.
    slices : int
    """
    wanted = _AXIS[geometry.phase]
    row, column = right, down
    if abs(right @ wanted) > abs(down @ wanted):
        row, column = down, -right
    phase = geometry.phase
    if abs(column @ wanted) < 0.5:  # asked for through the plane
        phase = max(_AXIS, key=lambda name: abs(float(column @ _AXIS[name])))
    (width, height), samples = geometry.field_of_view_mm, geometry.matrix[0]
    slab = Slab(
        centre=_triple(centre),
        row=_triple(row),
        column=_triple(column),
        field_of_view_mm=(width, height),
        matrix=(samples, 2 * round(samples * height / width / 2)),
        slices=slices,
        thickness_mm=geometry.thickness_mm,
        gap_mm=geometry.gap_mm,
        volumetric=geometry.volumetric,
    )
    return slab, phase


def slices_for(geometry: Geometry, extent_mm: float) -> int:
    """Return how many slices cover an extent, at most those of the step."""
    pitch = geometry.thickness_mm + geometry.gap_mm
    return min(geometry.slices, max(1, int(np.ceil((extent_mm + geometry.gap_mm) / pitch - 1e-9))))


def middle(wanted: tuple[float, float], needed: tuple[float, float], length: float) -> float:
    """Return where a length is centred that should cover one interval and must cover another."""
    low, high = wanted
    if length >= high - low:
        return (low + high) / 2
    return float(np.clip(np.mean(needed), low + length / 2, high - length / 2))


def expected_coverage(slab: Slab, surface: Vector, sigma_mm: float) -> float:
    """Return the expected fraction of a surface inside a slab.

    Parameters
    ----------
    slab : Slab
    surface : float64 (n, 3)
        Where its points are thought to be, LPS mm.
    sigma_mm : float
        Standard deviation of where they are, along each axis.
    """
    half = np.array([*slab.field_of_view_mm, slab.extent_mm]) / 2
    along = slab.coordinates(surface)
    inside = ndtr((half - along) / sigma_mm) - ndtr((-half - along) / sigma_mm)
    return float(np.mean(np.prod(inside, axis=-1)))


def check_imaging_volume(points: Vector) -> None:
    """Refuse what lies outside of the scanner's imaging volume.

    Raises
    ------
    Refused
    """
    radius = float(np.linalg.norm(points[:, :2], axis=1).max())
    reach = float(np.abs(points[:, 2]).max())
    if radius > IMAGING_RADIUS_MM or reach > IMAGING_HALF_LENGTH_MM:
        raise Refused(
            RefusalReason.IMAGING_VOLUME,
            f"expected the anatomy within {IMAGING_RADIUS_MM:g} mm of the bore's axis and "
            f"{IMAGING_HALF_LENGTH_MM:g} mm of the isocentre, got {radius:.0f} and {reach:.0f} mm",
        )


def _triple(vector: Vector) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in vector)
    return x, y, z
