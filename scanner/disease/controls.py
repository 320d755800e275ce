"""Patients for testing whether a detector looks at the right thing.

`outlined` draws lesions without doing anything to the tissue: a detector that finds them has learnt
how lesions are drawn. `Mirrored` is the same patient with left and right exchanged: findings must
change side, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocols.findings import Side
from scanner.phantom import Lesion, LesionKind, LumbarSpine, TissueSample
from scanner.phantom.lesion_truth import LesionTruth

_FLIP = np.array([-1, 1, 1], np.float32)
_OTHER = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.MIDLINE: Side.MIDLINE}


def outlined(lesions: tuple[Lesion, ...]) -> tuple[Lesion, ...]:
    """The outlines of lesions, of the same shape and place, without physical consequence."""
    return tuple(replace(lesion, kind=LesionKind.OUTLINE) for lesion in lesions)


class Mirrored:
    """A patient with left and right exchanged.

    Parameters
    ----------
    patient : LumbarSpine
    """

    def __init__(self, patient: LumbarSpine) -> None:
        self.patient = patient

    def sample(self, points: np.ndarray) -> TissueSample:
        """Tissue at points (..., 3), DICOM LPS, mm."""
        return self.patient.sample(np.asarray(points, np.float32) * _FLIP)

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm at points (..., 3), float32 (...)."""
        return self.patient.b0_ppm(np.asarray(points, np.float32) * _FLIP)

    def landmarks(self) -> dict[str, np.ndarray]:
        """Landmarks, those of the left now on the right."""
        exchange = {"left": "right", "right": "left"}
        return {
            "_".join(exchange.get(word, word) for word in name.split("_")): point * _FLIP
            for name, point in self.patient.landmarks().items()
        }


def mirrored_truth(truth: tuple[LesionTruth, ...]) -> tuple[LesionTruth, ...]:
    """The truth about the mirrored patient."""
    return tuple(
        replace(one, side=_OTHER[one.side], centre_mm=(-one.centre_mm[0], *one.centre_mm[1:]))
        for one in truth
    )
