"""What varies between phantom patients."""

from __future__ import annotations

from dataclasses import dataclass, field

from scanner.phantom.variants import PhantomParameterError, Variants, check_ranges

__all__ = ["PhantomParameterError", "SpineParameters"]


@dataclass(frozen=True)
class SpineParameters:
    """One phantom patient.

    Attributes
    ----------
    age : float
        Years, 18-95. Drives marrow fat, disc hydration, muscle fat and the width of the sacroiliac
        joint space.
    size : float
        Scale of the whole body, 0.8-1.2.
    lordosis_deg : float
        Angle between the superior endplates of L1 and S1, 20-75 degrees.
    seed : int
        Everything random: textures, outlines, level of the conus, loops of bowel.
    variants : Variants
        Where the anatomy departs from the textbook: numbering, build, degeneration, fractures.

    Raises
    ------
    PhantomParameterError
        For a value out of range.
    """

    age: float = 45.0
    size: float = 1.0
    lordosis_deg: float = 48.0
    seed: int = 0
    variants: Variants = field(default_factory=Variants)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "age": (18, 95),
                "size": (0.8, 1.2),
                "lordosis_deg": (20, 75),
                "seed": (0, 2**32 - 1),
            },
        )
