"""The spine in the patient's own sagittal plane: trusted end plates, and which discs lie between.

The plane comes from the vertebral bodies themselves, not from the table or the slices: what is
measured in it does not depend on how the patient lies.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gadgets.items import LabelMap
from gadgets.prescription import DISC_HEIGHT_MM, ENDS, LEFT, MIN_CONFIDENCE
from protocols.geometry import Vector

LEVELS = (
    *(f"C{n}" for n in range(2, 8)),
    *(f"T{n}" for n in range(1, 14)),
    *(f"L{n}" for n in range(1, 7)),
    "S1",
)
"""Vertebrae, caudally."""
Plate = Literal["superior", "inferior"]


@dataclass(frozen=True)
class SagittalSpine:
    """End plates whose corners were seen and are trusted.

    Attributes
    ----------
    left, dorsal, cranial : float64 (3)
        Orthogonal unit vectors of the patient, LPS; ``left`` is the normal of the plane.
    plates : dict of (str, "superior" or "inferior") to float64 (2, 3)
        Anterior and posterior corner of the end plates of a level, LPS mm.
    named : tuple of str
        All levels that have any landmark, trusted or not, caudally.
    """

    left: Vector
    dorsal: Vector
    cranial: Vector
    plates: dict[tuple[str, Plate], Vector]
    named: tuple[str, ...]

    @property
    def bodies(self) -> list[str]:
        """Levels both of whose end plates are there, caudally."""
        return [name for name in LEVELS if self.has((name, "superior"), (name, "inferior"))]

    @property
    def discs(self) -> list[tuple[str, str]]:
        """Levels above and below of each disc both of whose end plates are there, caudally.

        Where plates are further apart than any disc is high, a vertebra lies between that was not
        seen: no disc.
        """
        found = []
        for above, below in zip(self.named, self.named[1:]):
            ends: tuple[tuple[str, Plate], ...] = ((above, "inferior"), (below, "superior"))
            if self.has(*ends):
                one, other = (self.plates[end].mean(axis=0) for end in ends)
                if np.linalg.norm(one - other) <= DISC_HEIGHT_MM:
                    found.append((above, below))
        return found

    def has(self, *plates: tuple[str, Plate]) -> bool:
        """Return whether all these end plates are there."""
        return all(plate in self.plates for plate in plates)

    def flat(self, points: Vector) -> Vector:
        """Return points (..., 3) or vectors in the plane, (..., 2): dorsal and cranial, mm."""
        return np.asarray(np.asarray(points) @ np.stack([self.dorsal, self.cranial], axis=1))

    def slope_deg(self, level: str, plate: Plate) -> float:
        """Return how much an end plate rises dorsally, in degrees; of S1, its sacral slope."""
        anterior, posterior = self.flat(self.plates[level, plate])
        dorsal, cranial = posterior - anterior
        return float(np.degrees(np.arctan2(cranial, dorsal)))


def sagittal_spine(labels: LabelMap) -> SagittalSpine | None:
    """Return the spine in its sagittal plane.

    The normal is the mean of the vector areas of the bodies' outlines.

    Returns
    -------
    SagittalSpine or None
        None where the numbering of the levels is not trusted, no body has four trusted corners, or
        the corners contradict each other.
    """
    if not labels.confidence.get("levels", 0.0) >= MIN_CONFIDENCE:
        return None
    plates: dict[tuple[str, Plate], Vector] = {}
    sides: tuple[Plate, ...] = ("superior", "inferior")
    for level in LEVELS:
        for side in sides:
            names = [f"{level}_{side}_{end}" for end in ENDS]
            if all(_trusted(labels, name) for name in names):
                corners = np.array([labels.landmarks[name] for name in names], np.float64)
                if np.linalg.norm(corners[1] - corners[0]) > 1.0:
                    plates[level, side] = corners
    area, dorsal = np.zeros(3), np.zeros(3)
    for level in LEVELS:
        if all((level, side) in plates for side in sides):
            upper, lower = (plates[level, side] for side in sides)
            area += np.cross(upper[1] - lower[0], upper[0] - lower[1])
            dorsal += upper[1] - upper[0] + lower[1] - lower[0]
    size = float(np.linalg.norm(area))
    if not size > 1.0:
        return None
    left = area / size
    dorsal -= (dorsal @ left) * left
    # Left in the patient's outline must be left of the patient, or corners were mixed up.
    if left @ LEFT < 0.5 or not np.linalg.norm(dorsal) > 1.0:
        return None
    dorsal /= np.linalg.norm(dorsal)
    begun = {name.split("_")[0] for name in labels.landmarks}
    return SagittalSpine(
        left=left,
        dorsal=dorsal,
        cranial=np.cross(left, dorsal),
        plates=plates,
        named=tuple(level for level in LEVELS if level in begun),
    )


def _trusted(labels: LabelMap, name: str) -> bool:
    at = labels.landmarks.get(name)
    return (
        at is not None
        and bool(np.isfinite(at).all())
        and labels.confidence.get(name, 0.0) >= MIN_CONFIDENCE
    )
