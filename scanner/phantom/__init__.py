"""Digital lumbar-spine phantom: an analytic synthetic patient, sampled at any point.

`LumbarSpine(SpineParameters(...)).sample(points)` gives tissue, density and fat fraction; the MR
physics lives elsewhere. One file per region; `canvas` is what they paint on. Nothing here was
measured on a patient.
"""

from scanner.phantom.lesion import Lesion, LesionError, LesionKind
from scanner.phantom.parameters import PhantomParameterError, SpineParameters
from scanner.phantom.spine import LumbarSpine, TissueSample

__all__ = [
    "Lesion",
    "LesionError",
    "LesionKind",
    "LumbarSpine",
    "PhantomParameterError",
    "SpineParameters",
    "TissueSample",
]
