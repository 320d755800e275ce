"""How one phantom patient's anatomy departs from the textbook: numbers only, no geometry.

All defaults mean "as in the textbook". Names of levels are those of the patient: with four lumbar
bodies the lowest disc is "L4/S1", with six it is "L6/S1". The modules that build the parts read
these numbers; `variants_disc` holds the shapes that discs and canal share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

BODIES = 9
"""Vertebrae above the sacrum; whatever the number of lumbar ones."""


class PhantomParameterError(ValueError):
    """A phantom parameter lies outside the range the anatomy was built for."""


def check_ranges(thing: Any, ranges: dict[str, tuple[float, float]]) -> None:
    """Raise `PhantomParameterError` for an attribute outside its range."""
    for name, (low, high) in ranges.items():
        value = getattr(thing, name)
        if not low <= value <= high:
            raise PhantomParameterError(f"{name} must lie in {low} to {high}, got {value!r}")


def level_names(lumbar_bodies: int) -> tuple[str, ...]:
    """Names of the nine vertebrae above the sacrum, caudally ordered."""
    thoracic = BODIES - lumbar_bodies
    names = [f"T{13 - thoracic + k}" for k in range(thoracic)]
    return tuple(names + [f"L{k + 1}" for k in range(lumbar_bodies)])


def disc_names(lumbar_bodies: int) -> tuple[str, ...]:
    """Names of the discs below these vertebrae."""
    names = (*level_names(lumbar_bodies), "S1")
    return tuple(f"{above}/{below}" for above, below in pairwise(names))


@dataclass(frozen=True)
class Build:
    """Proportions: factors on the tables of sizes.

    Attributes
    ----------
    body_height, body_width, disc_height, canal : float
        Factors; width includes depth.
    sacral_slope : float
        Slope of the end plate of S1 as a share of the lordosis.
    sacral_curve : float
        Factor on the bend of the sacrum from S1 to the coccyx.
    """

    body_height: float = 1.0
    body_width: float = 1.0
    disc_height: float = 1.0
    canal: float = 1.0
    sacral_slope: float = 0.8
    sacral_curve: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "body_height": (0.85, 1.15),
                "body_width": (0.85, 1.15),
                "disc_height": (0.6, 1.4),
                "canal": (0.75, 1.3),
                "sacral_slope": (0.55, 1.05),
                "sacral_curve": (0.4, 1.7),
            },
        )


@dataclass(frozen=True)
class Fracture:
    """Loss of height of one body: `loss` is the lost share at the place of the largest loss."""

    level: str
    shape: Literal["wedge", "biconcave", "crush"] = "wedge"
    loss: float = 0.3

    def __post_init__(self) -> None:
        check_ranges(self, {"loss": (0, 0.6)})
        if self.shape not in ("wedge", "biconcave", "crush"):
            raise PhantomParameterError(f"shape must be wedge, biconcave or crush: {self.shape!r}")


@dataclass(frozen=True)
class SchmorlNode:
    """Disc pressed into an end plate: centre in mm from the middle of the body, left and back."""

    level: str
    superior: bool
    x_mm: float = 0.0
    u_mm: float = 0.0
    depth_mm: float = 5.0
    radius_mm: float = 5.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {"x_mm": (-15, 15), "u_mm": (-10, 12), "depth_mm": (0, 10), "radius_mm": (2, 9)},
        )


@dataclass(frozen=True)
class Slip:
    """Spondylolisthesis: a body lies `offset_mm` in front of the one below (negative: behind).

    The arch goes with its body, as in degenerative slips.
    """

    level: str
    offset_mm: float

    def __post_init__(self) -> None:
        check_ranges(self, {"offset_mm": (-6, 14)})


@dataclass(frozen=True)
class DiscChange:
    """One disc that differs from what age and level give.

    Attributes
    ----------
    disc : str
        "L4/L5".
    grade : float or None
        Pfirrmann-like, 1-5: hydration, and from 3 on height. None: by age.
    bulge_mm : float
        All around.
    protrusion_mm : float
        How far it reaches into the canal.
    side_mm : float
        Middle of protrusion and fissure, left positive.
    breadth_mm : float
        Width of the protrusion.
    migration_mm : float
        An extrusion: how far it has moved along the body, cranial positive.
    fissure : bool
        Fluid in the posterior annulus.
    stenosis : float
        Lost share of the antero-posterior diameter of the dural sac: thick ligamenta flava and
        bulging from in front.
    """

    disc: str
    grade: float | None = None
    bulge_mm: float = 0.0
    protrusion_mm: float = 0.0
    side_mm: float = 0.0
    breadth_mm: float = 14.0
    migration_mm: float = 0.0
    fissure: bool = False
    stenosis: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "bulge_mm": (0, 5),
                "protrusion_mm": (0, 10),
                "side_mm": (-16, 16),
                "breadth_mm": (5, 26),
                "migration_mm": (-14, 14),
                "stenosis": (0, 0.75),
            },
        )
        if self.grade is not None:
            check_ranges(self, {"grade": (1, 5)})


@dataclass(frozen=True)
class Sacroiliac:
    """The sacroiliac joints.

    Attributes
    ----------
    space_left, space_right : float
        Factors on the joint space that age gives.
    shift_left_mm, shift_right_mm : float
        The joint's mid-surface, outward positive.
    half_distance_mm : float
        Added to half of the inter-auricular distance.
    converge_caudal, converge_dorsal : float
        How fast the joint nears the midline (mm per mm) caudally and dorsally.
    """

    space_left: float = 1.0
    space_right: float = 1.0
    shift_left_mm: float = 0.0
    shift_right_mm: float = 0.0
    half_distance_mm: float = 0.0
    converge_caudal: float = 0.27
    converge_dorsal: float = 0.24

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "space_left": (0.4, 1.8),
                "space_right": (0.4, 1.8),
                "shift_left_mm": (-4, 4),
                "shift_right_mm": (-4, 4),
                "half_distance_mm": (-7, 6),
                "converge_caudal": (0.17, 0.36),
                "converge_dorsal": (0.12, 0.36),
            },
        )


@dataclass(frozen=True)
class Variants:
    """Everything that is not textbook about one patient's spine.

    Attributes
    ----------
    lumbar_bodies : int
        4, 5 or 6. The column has nine vertebrae above the sacrum in any case.
    transitional : "", "sacralised" or "lumbarised"
        Sacralised: the lowest lumbar vertebra is square, its transverse processes are as broad as
        alae and fuse with the sacrum, the disc below it is rudimentary. Lumbarised: S1 is square
        and has a disc below it.
    transitional_sides : "both", "left" or "right"
        Of the broad transverse process.
    scoliosis_mm : float
        Added to the amplitude of the sideways shift.
    """

    lumbar_bodies: int = 5
    transitional: Literal["", "sacralised", "lumbarised"] = ""
    transitional_sides: Literal["both", "left", "right"] = "both"
    scoliosis_mm: float = 0.0
    build: Build = field(default_factory=Build)
    sacroiliac: Sacroiliac = field(default_factory=Sacroiliac)
    fractures: tuple[Fracture, ...] = ()
    schmorl_nodes: tuple[SchmorlNode, ...] = ()
    slips: tuple[Slip, ...] = ()
    discs: tuple[DiscChange, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self, {"scoliosis_mm": (0, 12)})
        if self.lumbar_bodies not in (4, 5, 6):
            raise PhantomParameterError(f"lumbar_bodies must be 4, 5 or 6: {self.lumbar_bodies!r}")
        for name, allowed in (
            ("transitional", ("", "sacralised", "lumbarised")),
            ("transitional_sides", ("both", "left", "right")),
        ):
            if getattr(self, name) not in allowed:
                raise PhantomParameterError(f"{name} must be one of {allowed}")
        levels = level_names(self.lumbar_bodies)
        discs = disc_names(self.lumbar_bodies)
        changed = [part.level for part in self.fractures]
        changed += [part.level for part in self.schmorl_nodes]
        changed += [part.level for part in self.slips]
        for level in changed:
            if level not in levels:
                raise PhantomParameterError(f"level must be one of {levels}, got {level!r}")
        for change in self.discs:
            if change.disc not in discs:
                raise PhantomParameterError(f"disc must be one of {discs}, got {change.disc!r}")

    @property
    def levels_are_typical(self) -> bool:
        """Whether a reader may number the levels without doubt."""
        return self.lumbar_bodies == 5 and not self.transitional

    def disc_change(self, disc: str) -> DiscChange:
        """What differs at one disc."""
        return next((c for c in self.discs if c.disc == disc), DiscChange(disc))
