"""A second, independent spine phantom, for testing only: never train on it.

It answers the question "does this work on anatomy that our own phantom did not make?". So it shares
no geometry, no tables and no texture with `scanner.phantom`, and imports nothing from there but the
type `TissueSample`: bodies are D-shaped superquadrics in rigid three-dimensional poses along a
curve, arches are soft unions of rods, texture is a sum of random plane waves. It is simpler than
the first phantom and plausible where a spine exam looks. Synthetic; nothing was measured on a
patient, all numbers are general knowledge.
"""

from scanner.other_phantom.parameters import (
    OtherParameterError,
    OtherParameters,
    random_other_parameters,
)
from scanner.other_phantom.spine import Blob, OtherSpine

__all__ = [
    "Blob",
    "OtherParameterError",
    "OtherParameters",
    "OtherSpine",
    "random_other_parameters",
]
