"""What all messages of the control channel (`protocols.control`) are made of, and its limits."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from protocols.geometry import Slab

VERSION = 1
VERSIONS = (VERSION,)
"""Spoken here."""

MAX_BYTES = 64 << 10
"""Of one message; nothing longer is looked at."""

MAX_MM = 5000.0
MAX_COUNT = 4096


class ControlError(ValueError):
    """A message of the control channel cannot be read: what was expected, what came."""


class UnsupportedVersion(ControlError):
    """It is of a version which is not spoken here.

    Attributes
    ----------
    version : int
        That came.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"expected a message of version {VERSION}, got version {version}")
        self.version = version


def _bounded(value: Any, handler: ValidatorFunctionWrapHandler) -> Slab:
    """Read a slab, of whatever numbers, and refuse one that no scanner could mean."""
    if isinstance(value, dict) and (unknown := value.keys() - Slab.__dataclass_fields__.keys()):
        raise ValueError(f"expected no keys of a slab but its own, got {sorted(unknown)[:3]}")
    try:
        slab: Slab = handler(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"expected numbers of a slab within float64: {error}") from None
    lengths = (*slab.centre, *slab.field_of_view_mm, slab.thickness_mm, slab.gap_mm)
    if not np.abs(lengths).max() <= MAX_MM or max(*slab.matrix, slab.slices) > MAX_COUNT:
        raise ValueError(
            f"expected lengths up to {MAX_MM:g} mm, and up to {MAX_COUNT} pixels and slices"
        )
    return slab


BoundedSlab = Annotated[Slab, WrapValidator(_bounded)]
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
"""Printable ASCII without blanks."""
Words = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")]
"""To be read by a person."""


class Part(BaseModel):
    """Of messages: frozen, and no key which is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Part):
    """Begins with its version."""

    version: Literal[1] = 1


class CoverageStep(Part):
    """One series that is asked for, exactly where.

    Attributes
    ----------
    step : str
        On demand, of the exam's protocol.
    slab : protocols.geometry.Slab
        LPS mm; ``column`` is the direction of phase encoding.
    minutes : float
        Scan time, preparation included.
    variant : str
        How the slab came about, in words.
    saturation_band : "anterior" or None
    table_mm : float or None
        Where the table has to move for it: the z that comes to the isocentre.
    """

    step: Id
    slab: BoundedSlab
    minutes: float = Field(gt=0, le=60)
    variant: Words = ""
    saturation_band: Literal["anterior"] | None = None
    table_mm: float | None = Field(default=None, ge=-MAX_MM, le=MAX_MM)


Steps = Annotated[tuple[CoverageStep, ...], Field(max_length=16)]
