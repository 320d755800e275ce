"""What the agent tells the console: typed events, one JSON object each, without patient identity.

`agent.events` writes and reads them. Exams go by their pseudonym. Positions are DICOM LPS, mm;
times are seconds since 1970.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from protocols.control import CoverageRequest, Outcome, ReplyReason
from protocols.findings import ExamFindings, Point

Count = Annotated[int, Field(ge=0)]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StepPlanned(_Event):
    """One step of the exam's protocol."""

    name: str
    title: str
    minutes: float


class ExamBegun(_Event):
    """An exam, or its plan, which may change; the latest one counts.

    Attributes
    ----------
    steps, on_demand : tuple of StepPlanned
        Planned ones, and those that triggers may ask for.
    simulated : bool
        All its data are.
    """

    kind: Literal["exam"] = "exam"
    protocol: str
    title: str
    revision: int = 1
    steps: tuple[StepPlanned, ...] = ()
    on_demand: tuple[StepPlanned, ...] = ()
    simulated: bool = False


class Begun(_Event):
    """A measurement has begun.

    Attributes
    ----------
    measurement : str
        Of the spool.
    step : str
        The protocol's name of it.
    readouts : int or None
        How many will come, where that is known.
    chain : str
        That reconstructs it.
    """

    kind: Literal["begun"] = "begun"
    measurement: str
    step: str
    title: str = ""
    readouts: Count | None = None
    chain: str = ""


class Progress(_Event):
    """What has come of a measurement so far; the latest one counts."""

    kind: Literal["progress"] = "progress"
    measurement: str
    readouts: Count
    bytes: Count = 0


class Ended(_Event):
    """A measurement has ended."""

    kind: Literal["ended"] = "ended"
    measurement: str
    outcome: Literal["delivered", "failed", "cut"]
    images: Count = 0
    bytes: Count = 0
    seconds: float = Field(default=0, ge=0)
    errors: tuple[str, ...] = ()


class Picture(_Event):
    """An image has left, or a label map is there: its pixels are in a file beside the events.

    Attributes
    ----------
    file : str
        In the folder of pictures: ``shape`` pixels, little-endian, row after row.
    series, title : str
        Images of one series are one stack.
    index : int
        Of the image in its series.
    dtype : "uint8" or "uint16"
    slope : float
        Value of a pixel: pixel * slope.
    window : tuple of 2 float
        Centre and width, of values.
    position, directions, spacing
        As in `protocols.geometry.Volume`.
    networks, fallback : tuple of str
        Which took part, and why one did not.
    names : tuple of str
        Of the labels, where `quantity` is "labels".
    landmarks : dict of str to Point
    """

    kind: Literal["picture"] = "picture"
    file: str
    series: str
    title: str = ""
    measurement: str = ""
    index: int = 0
    quantity: str = "magnitude"
    role: Literal["acquired", "derived", "synthetic"] = "acquired"
    shape: tuple[Count, Count, Count]
    dtype: Literal["uint8", "uint16"] = "uint16"
    slope: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    position: Point
    directions: tuple[Point, Point, Point]
    spacing: Point
    history: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    complete: bool = True
    latency_ms: float | None = None
    names: tuple[str, ...] = ()
    landmarks: dict[str, Point] = {}


class FindingsSaid(_Event):
    """What triage says after a series; the latest one counts."""

    kind: Literal["findings"] = "findings"
    findings: ExamFindings


class Asked(_Event):
    """The technologist is asked. `asked_s` is when the countdown began."""

    kind: Literal["question"] = "question"
    request: CoverageRequest
    asked_s: float


class Answered(_Event):
    """What became of a question; it is open no more.

    Attributes
    ----------
    outcome : Outcome, "withdrawn" or "no_answer"
    by : str
        Who clicked; empty where the scanner's side or the clock has answered.
    """

    kind: Literal["answer"] = "answer"
    request: str
    outcome: Outcome | Literal["withdrawn", "no_answer"]
    reason: ReplyReason | None = None
    by: str = ""
    detail: str = ""


class EngineState(_Event):
    """How images are reconstructed now: by a network, or without one, and then why."""

    kind: Literal["engine"] = "engine"
    state: Literal["network", "fallback", "off"]
    engine: str = ""
    reason: str = ""


class Connection(_Event):
    """A peer: a scanner on its MRD connection, its console on the control channel, a PACS."""

    kind: Literal["connection"] = "connection"
    id: str
    peer: str
    role: Literal["scanner", "control", "pacs"] = "scanner"
    state: Literal["open", "closed", "lost"]
    detail: str = ""


class Problem(_Event):
    """A line of the agent's log, or something that the technologist should know."""

    kind: Literal["problem"] = "problem"
    level: Literal["info", "warning", "error"]
    text: str


class Spooled(_Event):
    """Room of the spool."""

    kind: Literal["spool"] = "spool"
    used_bytes: Count
    max_bytes: Count
    unfinished: Count = 0


class PicturesDropped(_Event):
    """The page was slower than the images: so many are missing on it. All were delivered."""

    kind: Literal["dropped"] = "dropped"
    pictures: int = Field(ge=1)


Event = Annotated[
    ExamBegun
    | Begun
    | Progress
    | Ended
    | Picture
    | FindingsSaid
    | Asked
    | Answered
    | EngineState
    | Connection
    | Problem
    | Spooled
    | PicturesDropped,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Command(_Event):
    """A click of the console that the agent has to act upon.

    Attributes
    ----------
    number : int
        Counts up.
    kind : "accept" or "decline"
    request : str
        Id of the question.
    user : str
    at_s : float
    """

    number: int
    kind: Literal["accept", "decline"]
    request: str
    reason: ReplyReason | None = None
    user: str
    at_s: float
