"""The control channel: what agent and scanner say to each other about extra coverage.

One message is one JSON object with `version` and `type`. Over ZeroMQ it is one frame
(`agent.control`, `scanner.console_adapter`); scanners without ZeroMQ get the same JSON in-band
(`protocols.control_inband`). The agent only asks: nothing is scanned without the scanner's answer.

    raw = encode(request)
    match decode(raw):                      # raises ControlError
        case CoverageRequest(): ...
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from protocols.control_parts import (
    MAX_BYTES,
    MAX_COUNT,
    VERSION,
    VERSIONS,
    ControlError,
    CoverageStep,
    Id,
    Message,
    Steps,
    UnsupportedVersion,
    Words,
)
from protocols.findings import Fraction
from protocols.trigger import OrderFlag

__all__ = [
    "MAX_BYTES",
    "MAX_COUNT",
    "VERSION",
    "VERSIONS",
    "Acknowledged",
    "ControlError",
    "ControlMessage",
    "CoverageReply",
    "CoverageRequest",
    "CoverageStep",
    "ExamUpdate",
    "Heartbeat",
    "Hello",
    "Outcome",
    "Refusal",
    "Refused",
    "ReplyReason",
    "Telemetry",
    "UnsupportedVersion",
    "Withdraw",
    "WithdrawReason",
    "decode",
    "encode",
]


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


class WithdrawReason(StrEnum):
    """Why the agent takes a question back."""

    EXAM_ENDED = "exam_ended"
    FINDINGS_CHANGED = "findings_changed"
    """A later series does not show any more what called for it."""


class Refusal(StrEnum):
    """Why a message was not read."""

    UNSUPPORTED_VERSION = "unsupported_version"
    HELLO_FIRST = "hello_first"
    """The agent does not know this peer (any more): say hello, then repeat what is open."""


class Hello(Message):
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


class Heartbeat(Message):
    """Both sides send it every few seconds."""

    type: Literal["heartbeat"] = "heartbeat"


class CoverageRequest(Message):
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


class CoverageReply(Message):
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


class Withdraw(Message):
    """An open question is taken back: nothing is asked any more, and no answer counts.

    It is sent again until the console has acknowledged it, or the countdown would be over.

    Attributes
    ----------
    id : str
        Of this message.
    request : str
        Id of the question.
    detail : str
        To be read.
    """

    type: Literal["withdraw"] = "withdraw"
    id: Id
    request: Id
    reason: WithdrawReason
    detail: Words = ""


class ExamUpdate(Message):
    """What triggers must know of an exam besides its images; the latest one counts.

    The console sends it when an exam begins and whenever something of it changes, again until the
    agent has acknowledged it, and after every hello. Without it triggers do not know what room
    there is, and those that want SAR headroom do not ask.

    Attributes
    ----------
    id : str
        Of this message.
    exam : str
        Study Instance UID of the exam's MRD headers (frame of reference UID where they have none),
        or the pseudonym which the agent uses for it.
    protocol : str or None
        Exam protocol that is being run; None: the one the agent is set up with.
    slot_minutes : float
        Left until the end of the slot at the time of sending; below 0 where it is over.
    remaining_minutes : float
        Of planned steps not scanned yet.
    minutes_used : float
        By extra coverage, whoever asked for it.
    sar_headroom : float or None
        Fraction left of what the accepted SAR mode allows; None where it is not known.
    planned : tuple of str
        Steps planned or scanned, those included that were added to the protocol.
    order : tuple of OrderFlag
        What the order says that forbids extra scanning.
    ended : bool
        The exam is over: open questions are taken back.
    """

    type: Literal["exam_update"] = "exam_update"
    id: Id
    exam: Id
    protocol: Id | None = None
    slot_minutes: float = Field(ge=-1440, le=1440)
    remaining_minutes: float = Field(default=0, ge=0, le=1440)
    minutes_used: float = Field(default=0, ge=0, le=1440)
    sar_headroom: Fraction | None = None
    planned: tuple[Id, ...] = Field(default=(), max_length=100)
    order: tuple[OrderFlag, ...] = Field(default=(), max_length=len(OrderFlag))
    ended: bool = False


class Acknowledged(Message):
    """A request, reply, withdrawal or exam update has come and is recorded.

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


class Refused(Message):
    """A message was not read. This type and `hello` keep their fields in every version."""

    type: Literal["refused"] = "refused"
    reason: Refusal
    versions: tuple[int, ...] = Field(default=VERSIONS, max_length=16)
    detail: Words = ""


class Telemetry(Message):
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
    Hello
    | Heartbeat
    | CoverageRequest
    | CoverageReply
    | Withdraw
    | ExamUpdate
    | Acknowledged
    | Refused
    | Telemetry
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
