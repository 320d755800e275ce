"""What triage has to say about an exam: typed, in patient coordinates, never a diagnosis.

One `ExamFindings` is written after each completed series; triggers, console, audit and the summary
series read it. Positions are DICOM LPS, mm. Left and right are the patient's.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Point = tuple[float, float, float]
Fraction = Annotated[float, Field(ge=0, le=1)]


class FindingType(StrEnum):
    """How a region looks. The words describe signal, not disease."""

    OEDEMA_LIKE = "oedema_like"
    """Brighter than its surroundings on STIR, darker on T1."""
    FAT_LIKE = "fat_like"
    """Brighter on T1, dark on STIR."""
    SCLEROSIS_LIKE = "sclerosis_like"
    """Dark on every contrast."""
    REPLACEMENT_LIKE = "replacement_like"
    """A mass of marrow without fat: dark on T1, at least intermediate on STIR."""
    FLUID_AND_FAT_LIKE = "fluid_and_fat_like"
    """Bright on T1 and on T2."""
    DISC_SIGNAL_LOSS = "disc_signal_loss"
    DISC_BULGE_LIKE = "disc_bulge_like"
    HEIGHT_LOSS = "height_loss"
    CANAL_NARROW = "canal_narrow"
    OFFSET = "offset"
    """One vertebral body displaced on the next."""
    ANOMALY = "anomaly"
    """Unusual, and none of the above."""


class Structure(StrEnum):
    """Where a finding or a measure is."""

    VERTEBRA = "vertebra"
    ENDPLATE = "endplate"
    CORNER = "corner"
    FACET = "facet"
    DISC = "disc"
    CANAL = "canal"
    SACRUM = "sacrum"
    SACRAL_SUBCHONDRAL = "sacral_subchondral"
    ILIAC_SUBCHONDRAL = "iliac_subchondral"
    SI_JOINT = "si_joint"
    PARASPINAL_MUSCLE = "paraspinal_muscle"


class Side(StrEnum):
    """Of the patient."""

    LEFT = "left"
    RIGHT = "right"
    MIDLINE = "midline"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(_Message):
    """One region that does not look as its surroundings do.

    Attributes
    ----------
    id : str
        Stays the same while later series add evidence to it.
    level : str or None
        "L4" of a vertebra, "L4/L5" of a disc, "S1" of the sacrum.
    centre_mm, extent_mm : tuple of 3 float
        Of its bounding box along the patient's axes.
    volume_ml : float
    depth_mm : float or None
        Of its deepest point from the joint surface; of subchondral findings only.
    cnr : float
        Contrast to the reference region on the deciding series, in noise sigmas.
    probability : float
        Calibrated, of a lesion being there.
    series : tuple of str
        Names of the series that show it.
    slices : tuple of int
        Of the first of these.
    adjacent_slices : int
        The longest run of neighbours among them.
    area_mm2 : float
        The largest in-plane.
    """

    id: str
    type: FindingType
    structure: Structure
    side: Side = Side.MIDLINE
    level: str | None = None
    centre_mm: Point
    extent_mm: Point
    volume_ml: float = Field(ge=0)
    depth_mm: float | None = Field(default=None, ge=0)
    cnr: float
    probability: Fraction
    series: tuple[str, ...] = Field(min_length=1)
    slices: tuple[int, ...] = Field(min_length=1)
    adjacent_slices: int = Field(ge=1)
    area_mm2: float = Field(ge=0)


class EvidenceCoverage(_Message):
    """How much of a structure the exam has shown so far, and whether that is enough to judge."""

    structure: Structure
    side: Side = Side.MIDLINE
    shown: Fraction
    judged: bool


class Quality(_Message):
    """Image quality of one series.

    Attributes
    ----------
    snr : float
        Median over the vertebral bodies; of fat-suppressed series over all signal, for healthy
        marrow is dark there.
    motion : float
        0 (none) to 1.
    fat_suppression_failed : float or None
        Fraction of subcutaneous fat that is bright; of fat-suppressed series only.
    wrapped, cut_off : bool
        Anatomy folds over, or ends before the levels which were to be seen.
    usable : bool
    reason : str or None
        Where it is not.
    """

    series: str
    snr: float = Field(ge=0)
    motion: Fraction
    fat_suppression_failed: Fraction | None = None
    wrapped: bool = False
    cut_off: bool = False
    usable: bool = True
    reason: str | None = None

    @model_validator(mode="after")
    def _reasoned(self) -> "Quality":
        if not self.usable and not self.reason:
            raise ValueError("expected a reason where a series is not usable")
        return self


class Measure(_Message):
    """One number with its published definition in `gadgets.measures`."""

    name: str
    level: str | None = None
    value: float
    unit: str


class ExamFindings(_Message):
    """All that triage knows of an exam after its latest series.

    Attributes
    ----------
    version : "1"
    exam : str
        Pseudonym; no patient identity.
    series : tuple of str
        Those seen, in order of completion; the last is the deciding one.
    levels_certain : bool
        False at transitional or unusual anatomy.
    agreement : bool or None
        Whether the network's and the conventional reconstruction say the same; None where there
        was one of them.
    anomaly : float or None
        Unsupervised score, a probability of being unlike the normal exams.
    abstained : str or None
        Why nothing may be concluded, where that is so.
    """

    version: Literal["1"] = "1"
    exam: str
    series: tuple[str, ...] = Field(min_length=1)
    findings: tuple[Finding, ...] = ()
    coverage: tuple[EvidenceCoverage, ...] = ()
    measures: tuple[Measure, ...] = ()
    quality: tuple[Quality, ...] = ()
    levels_certain: bool = True
    agreement: bool | None = None
    anomaly: Fraction | None = None
    abstained: str | None = None
