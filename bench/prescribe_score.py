"""How well a slab over the SI joints lies, against the exact anatomy of the digital phantom.

Simulated patients only: the rule's model of the joint and the phantom's joint go back to the same
anatomical numbers, so this measures geometry and robustness against landmarks that are off, not
how well the rule fits real patients.
"""

from dataclasses import dataclass

import numpy as np

from gadgets.items import LabelMap
from gadgets.prescribe import Prescription
from protocols.findings import Side
from protocols.geometry import Slab, Vector, Volume
from scanner.phantom import LumbarSpine
from scanner.phantom.labels_truth import auricular_points

STACK = Volume(
    position=np.zeros(3),
    directions=np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]]),
    shape=(15, 320, 320),
    spacing=np.array([0.9375, 0.9375, 4.4]),
)
"""The sagittal stack of `scanner.exam.lumbar_exam`."""


@dataclass(frozen=True)
class Score:
    """Of one slab.

    Attributes
    ----------
    plane_error_deg : float
        Between its normal and that of the plane through the true dorsal cortex of S2, parallel to
        the line through both joints.
    inside : dict of Side to float
        Fraction of each auricular surface between its outer faces and within its field of view.
    excess_mm : float
        How far it reaches beyond both surfaces, on the side where it does so most.
    expected : dict of Side to float
        As the prescription itself expected it.
    """

    plane_error_deg: float
    inside: dict[Side, float]
    excess_mm: float
    expected: dict[Side, float]


def score(prescription: Prescription, spine: LumbarSpine) -> Score:
    """Score an oblique-coronal prescription."""
    slab = prescription.slab
    surfaces = auricular_points(spine)
    along = slab.coordinates(np.concatenate(list(surfaces.values())))[:, 2]
    half = slab.extent_mm / 2
    return Score(
        plane_error_deg=plane_error_deg(slab, spine.landmarks()),
        inside={Side(name): float(slab.contains(at).mean()) for name, at in surfaces.items()},
        excess_mm=float(max(half - along.max(), half + along.min())),
        expected=prescription.coverage,
    )


def plane_error_deg(slab: Slab, landmarks: dict[str, Vector]) -> float:
    """Return the angle between a slab's normal and that which the exact landmarks define."""
    cortex = landmarks["S2_dorsal_inferior"] - landmarks["S2_dorsal_superior"]
    normal = np.cross(landmarks["SI_left"] - landmarks["SI_right"], cortex)
    cosine = slab.normal @ normal / np.linalg.norm(normal)
    return float(np.degrees(np.arccos(np.clip(abs(cosine), 0, 1))))


def label_map(
    spine: LumbarSpine,
    jitter_mm: float = 0.0,
    rng: np.random.Generator | None = None,
    without: tuple[str, ...] = (),
) -> LabelMap:
    """Return the phantom's landmarks as a labelling would, without any voxels.

    Parameters
    ----------
    spine : LumbarSpine
    jitter_mm : float
        Standard deviation of what is added to each landmark, along each axis.
    rng : Generator
        Of the jitter.
    without : tuple of str
        Beginnings of the names of landmarks which were not seen.
    """
    landmarks = {
        name: np.asarray(point, np.float64) + (rng.normal(0, jitter_mm, 3) if rng else 0.0)
        for name, point in spine.landmarks().items()
        if not name.startswith(without)
    }
    return LabelMap(
        labels=np.zeros((1, 1, 1), np.uint8),
        names=("",),
        volume=STACK,
        landmarks=landmarks,
        confidence={**dict.fromkeys(landmarks, 0.9), "levels": 0.9},
    )
