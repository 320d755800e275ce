"""The control channel: what agent and scanner say to each other about extra coverage.

One message is one JSON object with `version` and `type`. Over ZeroMQ it is one frame
(`agent.control`, `scanner.console_adapter`); scanners without ZeroMQ get the same JSON in-band
(`protocols.control_inband`). The agent only asks: nothing is scanned without the scanner's answer.

    raw = encode(request)
    match decode(raw):                      # raises ControlError
        case CoverageRequest(): ...
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
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


class Outcome(StrEnum):
    """What the scanner's side answers."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    MODIFIED = "modified"
    """Accepted with slices of the technologist's own."""
    SCHEDULED = "scheduled"
    """Accepted before, now in the scanner's queue."""
    DONE = "done"
    """Scanned."""
    FAILED = "failed"
    """Accepted before, and will not be scanned."""


class ReplyReason(StrEnum):
    """Why something was declined or has failed."""

    PATIENT = "patient"
    TIME = "time"
    NOT_INDICATED = "not_indicated"
    OTHER = "other"
    NO_ANSWER = "no_answer"
    """The countdown ran out, which is a decline."""
    SCANNER = "scanner"
    """The scanner cannot: geometry, SAR, hardware."""


class Refusal(StrEnum):
    """Why a message was not read."""

    UNSUPPORTED_VERSION = "unsupported_version"
    HELLO_FIRST = "hello_first"
    """The agent does not know this peer (any more): say hello, then repeat what is open."""


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


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Message(_Part):
    version: Literal[1] = 1


class Hello(_Message):
    """Who is there. The console's comes first, the agent answers with its own.

    Attributes
    ----------
    name : str
        Of the scanner, or of the agent.
    software : str
        Name and version.
    versions : tuple of int
        Of messages, which the sender speaks.
    """

    type: Literal["hello"] = "hello"
    role: Literal["agent", "console"]
    name: Words
    software: Words
    versions: tuple[Annotated[int, Field(ge=0, le=1 << 16)], ...] = Field(
        default=VERSIONS, min_length=1, max_length=16
    )


class Heartbeat(_Message):
    """Both sides send it every few seconds."""

    type: Literal["heartbeat"] = "heartbeat"


class CoverageStep(_Part):
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


class CoverageRequest(_Message):
    """A question to the technologist. It is sent again until the console has acknowledged it.

    Attributes
    ----------
    id : str
        The same question always has the same id; a console asks it once.
    exam : str
        Pseudonym; no patient identity.
    protocol, revision, trigger : str, int, str
        Which trigger of which exam protocol asks.
    text : str
        What is asked.
    findings : tuple of str
        Ids of the findings that call for it.
    steps : tuple of CoverageStep
        What would be scanned, in this order, after what is planned.
    extra_minutes : float
        Of all steps.
    countdown_s : float
        What is left to answer at the time of sending, so that the clocks of both sides need not
        agree. No answer by then is a decline.
    """

    type: Literal["coverage_request"] = "coverage_request"
    id: Id
    exam: Id
    protocol: Id
    revision: int = Field(ge=1, le=1 << 31)
    trigger: Id
    text: Words = Field(min_length=1)
    findings: tuple[Id, ...] = Field(default=(), max_length=64)
    steps: Steps = Field(min_length=1)
    extra_minutes: float = Field(gt=0, le=600)
    countdown_s: float = Field(ge=0, le=3600)


class CoverageReply(_Message):
    """An answer. It is sent again until the agent has acknowledged it.

    Attributes
    ----------
    id : str
        Of this answer.
    request : str
        Id of the question.
    reason : ReplyReason or None
        Of a decline or failure; these have one.
    detail : str
        To be read.
    steps : tuple of CoverageStep
        What will be scanned instead; of `modified`, and of that only.
    """

    type: Literal["coverage_reply"] = "coverage_reply"
    id: Id
    request: Id
    outcome: Outcome
    reason: ReplyReason | None = None
    detail: Words = ""
    steps: Steps = ()

    @model_validator(mode="after")
    def _complete(self) -> "CoverageReply":
        if (self.outcome in (Outcome.DECLINED, Outcome.FAILED)) != (self.reason is not None):
            raise ValueError("expected a reason with declined and failed, and with nothing else")
        if (self.outcome is Outcome.MODIFIED) != bool(self.steps):
            raise ValueError("expected steps with modified, and with nothing else")
        return self


class Acknowledged(_Message):
    """A request or reply has come and is recorded.

    Attributes
    ----------
    of : str
        Its id.
    counts : bool
        Of a reply: the agent acts upon it. Where it does not, because the answer came too late or
        another came first, nothing is to be scanned on account of it.
    detail : str
        Why it does not.
    """

    type: Literal["acknowledged"] = "acknowledged"
    of: Id
    counts: bool = True
    detail: Words = ""


class Refused(_Message):
    """A message was not read. This type and `hello` keep their fields in every version."""

    type: Literal["refused"] = "refused"
    reason: Refusal
    versions: tuple[int, ...] = Field(default=VERSIONS, max_length=16)
    detail: Words = ""


class Telemetry(_Message):
    """What the agent tells whoever listens; nothing hangs on it.

    Attributes
    ----------
    topic : str
        ``series``, ``finding``, ``request``, ...
    at_s : float
        Seconds since 1970, of the agent's clock.
    exam : str or None
        Pseudonym.
    values : dict of str to bool, int, float or str
    """

    type: Literal["telemetry"] = "telemetry"
    topic: Id
    at_s: float
    exam: Id | None = None
    values: dict[Id, bool | int | float | Words] = Field(default={}, max_length=64)


ControlMessage = (
    Hello | Heartbeat | CoverageRequest | CoverageReply | Acknowledged | Refused | Telemetry
)


class _Envelope(BaseModel):
    version: int
    type: str


_MESSAGES: TypeAdapter[ControlMessage] = TypeAdapter(
    Annotated[ControlMessage, Field(discriminator="type")]
)


def encode(message: ControlMessage) -> bytes:
    """Return the JSON of a message, UTF-8.

    Raises
    ------
    ControlError
        It would be longer than `MAX_BYTES`.
    """
    raw = message.model_dump_json().encode()
    if len(raw) > MAX_BYTES:
        raise ControlError(f"expected a message of at most {MAX_BYTES} bytes, got {len(raw)}")
    return raw


def decode(raw: bytes) -> ControlMessage:
    """Return the message of which ``raw`` is the JSON.

    Raises
    ------
    UnsupportedVersion
        To be answered with `Refused`.
    ControlError
        To be ignored.
    """
    if len(raw) > MAX_BYTES:
        raise ControlError(f"expected a message of at most {MAX_BYTES} bytes, got {len(raw)}")
    try:
        version = _Envelope.model_validate_json(raw).version
        if version not in VERSIONS:
            raise UnsupportedVersion(version)
        return _MESSAGES.validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ControlError(f"expected a control message: {where}: {first['msg']}") from None
