"""An archive of recorded exams: what triage said after each series, and, apart from it, the truth.

A folder: `archive.json` says what it is, `exams.jsonl` has one `RecordedExam` per line,
`truth.jsonl` one `Truth` per line, `images/EXAM.png` a key image where there is one. Whoever
replays exams reads `exams.jsonl` alone; the truth joins the results afterwards.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protocols.exam import GeometryRule
from protocols.findings import ExamFindings, FindingType, Fraction, Side, Structure
from protocols.trigger import OrderFlag

ABOUT, EXAMS, TRUTH, IMAGES = "archive.json", "exams.jsonl", "truth.jsonl", "images"


class ArchiveError(ValueError):
    """Not an archive, or one with a line that does not say what it should."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PlannedStep(_Message):
    """A step that was ordered, and its scan time."""

    step: str
    minutes: float = Field(ge=0)


class RecordedSeries(_Message):
    """What was known when a series was complete.

    Attributes
    ----------
    completed_s : float
        Its last readout, from the beginning of the slot.
    findings : ExamFindings
        All that triage said then.
    sar_headroom : float or None
        Fraction left of what the accepted SAR mode allows.
    unprescribed : dict
        Geometry rules whose slices could not be laid from the labels there were, and why.
    """

    completed_s: float = Field(ge=0)
    findings: ExamFindings
    sar_headroom: Fraction | None = None
    unprescribed: dict[GeometryRule, str] = {}


class RecordedExam(_Message):
    """One exam as it went, without any extra coverage.

    Attributes
    ----------
    exam : str
        Pseudonym.
    order : frozenset of OrderFlag
    slot_minutes : float
    planned : tuple of PlannedStep
        In the order in which they were scanned.
    series : tuple of RecordedSeries
        In the order of completion.
    """

    version: Literal["1"] = "1"
    exam: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    order: frozenset[OrderFlag] = frozenset()
    slot_minutes: float = Field(gt=0)
    planned: tuple[PlannedStep, ...]
    series: tuple[RecordedSeries, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_exam(self) -> "RecordedExam":
        for series in self.series:
            if series.findings.exam != self.exam:
                raise ValueError(
                    f"expected findings of exam {self.exam}, got those of {series.findings.exam}"
                )
        times = [series.completed_s for series in self.series]
        if times != sorted(times):
            raise ValueError("expected series in the order of their completed_s")
        return self


class TrueLesion(_Message):
    """A lesion that is there.

    Attributes
    ----------
    imaged : bool
        Part of it lies in the volume which the planned series show.
    volume_ml : float
        Of all of it.
    cnr : float
        Of all of it, in noise sigmas of a STIR series.
    """

    side: Side
    structure: Structure
    imaged: bool
    volume_ml: float = Field(gt=0)
    cnr: float


class Truth(_Message):
    """What is there in one exam.

    Attributes
    ----------
    lesions : tuple of TrueLesion
        Those the archive is about; empty where there are none.
    group : str
        Of patients, where known.
    mimics : tuple of str
        What looks like a lesion and is none.
    """

    exam: str
    lesions: tuple[TrueLesion, ...] = ()
    group: str = ""
    mimics: tuple[str, ...] = ()


class About(_Message):
    """What an archive is.

    Attributes
    ----------
    title : str
    simulated : bool
    exams : int
    finding, structures
        What its truth is about: triggers that look for this are judged.
    notes : tuple of str
        How it came to be, to be read.
    """

    version: Literal["1"] = "1"
    title: str
    simulated: bool
    exams: int = Field(ge=0)
    finding: FindingType = FindingType.OEDEMA_LIKE
    structures: tuple[Structure, ...] = (
        Structure.SACRAL_SUBCHONDRAL,
        Structure.ILIAC_SUBCHONDRAL,
    )
    notes: tuple[str, ...] = ()


def read_about(folder: Path) -> About:
    """Return what an archive is.

    Raises
    ------
    ArchiveError
    """
    path = folder / ABOUT
    try:
        return About.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path}: expected an archive: {error.strerror}") from None
    except ValidationError as error:
        raise ArchiveError(f"{path}: {_first(error)}") from None


def exam_lines(folder: Path) -> Iterator[bytes]:
    """Yield the exams of an archive as they are written, one JSON document each.

    Raises
    ------
    ArchiveError
    """
    try:
        with (folder / EXAMS).open("rb") as lines:
            yield from (line for line in lines if line.strip())
    except OSError as error:
        raise ArchiveError(f"{folder / EXAMS}: {error.strerror}") from None


def read_exam(line: bytes) -> RecordedExam:
    """Return one exam.

    Raises
    ------
    ArchiveError
    """
    return _parse(RecordedExam, line, EXAMS)


def read_truth(folder: Path) -> dict[str, Truth]:
    """Return the truth of every exam, by its pseudonym.

    Raises
    ------
    ArchiveError
    """
    try:
        lines = (folder / TRUTH).read_bytes().splitlines()
    except OSError as error:
        raise ArchiveError(f"{folder / TRUTH}: {error.strerror}") from None
    truths = [_parse(Truth, line, TRUTH) for line in lines if line.strip()]
    return {truth.exam: truth for truth in truths}


Parsed = TypeVar("Parsed", RecordedExam, Truth)


def _parse(model: type[Parsed], line: bytes, name: str) -> Parsed:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        start = line[:60].decode(errors="replace").rstrip()
        raise ArchiveError(f"{name}, the line {start!r}...: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in details["loc"])
    return f"{place}: {details['msg']}" if place else details["msg"]
