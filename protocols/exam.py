"""The exam protocol: what is scanned, how it is reconstructed, and when more is asked for.

Written by the protocol engineer as YAML (`protocols.exam_file` reads it, `protocols.exam_check`
checks its references, `protocols.exam_library` has the shipped ones). Directions are the patient's,
lengths are mm.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic import model_validator as _model_validator

from protocols.trigger import Budget, Model, Name, OneOrMore, Trigger


class GeometryRule(StrEnum):
    """Where the slices of a step lie.

    Planned on the localiser: `sagittal`, `coronal`, `axial`. Prescribed from the spine labels: the
    others.
    """

    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    AXIAL = "axial"
    SI_OBLIQUE_CORONAL = "si_oblique_coronal"
    """Parallel to the dorsal cortex of S2, over both SI joints."""
    SI_OBLIQUE_AXIAL = "si_oblique_axial"
    """Perpendicular to that."""
    DISC_AXIAL = "disc_axial"
    """A block aligned with the flagged disc."""
    EXTENDED_UP = "extended_up"
    """The sagittal stack again, moved towards the head, with overlap."""
    EXTENDED_DOWN = "extended_down"
    """The sagittal stack again, moved towards the feet, with overlap."""


class TurboSpinEcho(Model):
    """2D turbo spin echo, with an inversion before it where `ti_ms` is set (STIR)."""

    kind: Literal["tse"]
    tr_ms: float = Field(gt=0)
    te_ms: float = Field(gt=0)
    """Effective."""
    ti_ms: float | None = Field(default=None, gt=0)
    echo_train: int = Field(ge=1, le=400)
    echo_spacing_ms: float = Field(default=10, gt=0)
    refocusing_deg: float = Field(default=150, gt=0, le=180)
    bandwidth_hz_per_pixel: float = Field(default=250, gt=0)
    fat_saturation: bool = False
    averages: int = Field(default=1, ge=1)
    concatenations: int = Field(default=1, ge=1)


class GradientEcho(Model):
    """Spoiled gradient echo, 2D or 3D; several echo times for water-fat imaging."""

    kind: Literal["gre"]
    tr_ms: float = Field(gt=0)
    te_ms: OneOrMore[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    flip_deg: float = Field(gt=0, le=180)
    bandwidth_hz_per_pixel: float = Field(default=500, gt=0)
    fat_saturation: bool = False
    averages: int = Field(default=1, ge=1)


def _kind(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"<{kind}>" if kind in ("tse", "gre") else None


Sequence = Annotated[
    Annotated[TurboSpinEcho, Tag("<tse>")] | Annotated[GradientEcho, Tag("<gre>")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="expected a sequence of kind tse or gre",
    ),
]


class Geometry(Model):
    """Slices of a 2D step, or partitions of one slab."""

    rule: GeometryRule
    field_of_view_mm: tuple[
        Annotated[float, Field(gt=0, le=600)], Annotated[float, Field(gt=0, le=600)]
    ]
    """Along readout and phase."""
    matrix: tuple[Annotated[int, Field(ge=16, le=1024)], Annotated[int, Field(ge=16, le=1024)]]
    """Encoded pixels of the field of view, along readout and phase."""
    slices: int = Field(ge=1, le=512)
    """Of a prescribed geometry: at most; the rule takes what covers the anatomy."""
    thickness_mm: float = Field(gt=0, le=20)
    gap_mm: float = Field(default=0, ge=0, le=20)
    phase: Literal["head_feet", "left_right", "front_back"]
    """Direction of phase encoding; in oblique planes the one nearest to it."""
    phase_oversampling: float = Field(default=0, ge=0, le=2)
    volumetric: bool = False
    """One slab, its slices the partitions."""

    @_model_validator(mode="after")
    def _slab_without_gaps(self) -> "Geometry":
        if self.volumetric and self.gap_mm:
            raise ValueError("expected gap_mm 0 with volumetric: a slab has no gaps")
        return self


class Acceleration(Model):
    """Lines left out: parallel imaging and partial Fourier."""

    phase: int = Field(default=1, ge=1, le=12)
    partition: int = Field(default=1, ge=1, le=8)
    calibration_lines: int = Field(default=0, ge=0, le=128)
    """Fully sampled around the centre, part of the image scan."""
    partial_fourier: float = Field(default=1, gt=0.5, le=1)

    @_model_validator(mode="after")
    def _calibrated(self) -> "Acceleration":
        if self.phase * self.partition > 1 and self.calibration_lines < 8:
            raise ValueError(
                "expected calibration_lines of 8 or more with acceleration, "
                f"got {self.calibration_lines}"
            )
        return self


class Deadlines(Model):
    """Counted from the last readout of the step."""

    images_ms: float = Field(default=2000, gt=0)
    """What the engines have not finished by then leaves without them."""
    findings_ms: float = Field(default=5000, gt=0)
    """What has not been found by then is not waited for."""


class Step(Model):
    """One series."""

    name: Name
    title: str = ""
    contrast: Literal["t1", "t2", "stir", "t2_fs", "pd", "water_fat"]
    sequence: Sequence
    geometry: Geometry
    acceleration: Acceleration = Acceleration()
    minutes: float = Field(gt=0, le=60)
    """Scan time, preparation included."""
    chain: str = "conventional"
    """Gadget chain which reconstructs it: a name of `agent.chains`."""
    engines: tuple[str, ...] = ()
    """Networks which the chain uses (`boreside engine list`)."""
    deadlines: Deadlines = Deadlines()

    @_model_validator(mode="after")
    def _contrast_of_sequence(self) -> "Step":
        ti_ms = getattr(self.sequence, "ti_ms", None)
        if (self.contrast == "stir") != (ti_ms is not None):
            raise ValueError("expected ti_ms with contrast stir, and with no other contrast")
        if (self.contrast == "t2_fs") > self.sequence.fat_saturation:
            raise ValueError("expected fat_saturation: true with contrast t2_fs")
        return self


class ExamProtocol(Model):
    """One exam: planned steps in order, steps on demand, and the triggers which ask for them."""

    format: Literal[1]
    """Of this file. A later agent that cannot read 1 will say so."""
    name: Name
    """A site's protocol overrides the shipped one of the same name."""
    revision: int = Field(ge=1)
    """Count it up with every change: findings, questions and reports name it."""
    title: str
    description: str = ""
    field_t: float = Field(default=3.0, gt=0)
    slot_minutes: float = Field(default=20, gt=0)
    """Which the exam is given on the schedule."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """Always scanned, in this order; triggers never change them."""
    on_demand: tuple[Step, ...] = ()
    """Scanned only where a trigger has asked and the technologist has accepted."""
    triggers: tuple[Trigger, ...] = ()
    budget: Budget = Budget()

    def step(self, name: str) -> Step:
        """Return a planned step or one on demand.

        Raises
        ------
        KeyError
        """
        for step in (*self.steps, *self.on_demand):
            if step.name == name:
                return step
        raise KeyError(f"protocol {self.name} has no step {name}")

    @property
    def minutes(self) -> float:
        """Scan time of the planned steps."""
        return sum(step.minutes for step in self.steps)

    @property
    def digest(self) -> str:
        """SHA-256 of its content, in hexadecimal."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
