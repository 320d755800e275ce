"""The words of the trigger machine (`agent.triggers`): states, reasons, what goes in and comes out.

All of them are JSON there and back, for control channel, audit and restart.
"""

from enum import IntEnum, StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.exam import GeometryRule
from protocols.findings import Finding, Fraction
from protocols.trigger import OrderFlag


class State(StrEnum):
    """Where a trigger stands in one exam."""

    IDLE = "idle"
    EVIDENCE = "evidence"
    """Something is there, between the thresholds."""
    CANDIDATE = "candidate"
    """Above the upper threshold."""
    CONFIRMED = "confirmed"
    """And on enough slices or series."""
    ABSTAINED = "abstained"
    """Nothing may be concluded from what there is."""
    BLOCKED = "blocked"
    """Confirmed, and asking is forbidden for the time being."""
    PROPOSED = "proposed"
    """The technologist is being asked."""
    ACCEPTED = "accepted"
    SCANNING = "scanning"
    DONE = "done"
    DECLINED = "declined"
    TIMED_OUT = "timed_out"
    """No answer, which is a decline."""
    NOT_SCANNED = "not_scanned"
    """Accepted, and the scanner's side did not do it."""
    SHADOWED = "shadowed"
    """Would have been proposed; nobody was asked."""


WATCHING = (
    State.IDLE,
    State.EVIDENCE,
    State.CANDIDATE,
    State.CONFIRMED,
    State.ABSTAINED,
    State.BLOCKED,
)
"""States in which evidence still moves the trigger."""

FINAL = (
    State.DONE,
    State.DECLINED,
    State.TIMED_OUT,
    State.NOT_SCANNED,
    State.SHADOWED,
)
"""Never left within an exam: what was declined is not asked again."""

TRANSITIONS: dict[State, tuple[State, ...]] = {
    State.IDLE: (State.EVIDENCE, State.ABSTAINED),
    State.EVIDENCE: (State.IDLE, State.CANDIDATE, State.ABSTAINED),
    State.CANDIDATE: (State.IDLE, State.EVIDENCE, State.CONFIRMED, State.ABSTAINED),
    State.CONFIRMED: (
        State.IDLE,
        State.EVIDENCE,
        State.CANDIDATE,
        State.ABSTAINED,
        State.BLOCKED,
        State.PROPOSED,
        State.SHADOWED,
    ),
    State.ABSTAINED: (State.IDLE, State.ABSTAINED),
    State.BLOCKED: (
        State.IDLE,
        State.EVIDENCE,
        State.CANDIDATE,
        State.CONFIRMED,
        State.ABSTAINED,
        State.BLOCKED,
    ),
    State.PROPOSED: (State.ACCEPTED, State.DECLINED, State.TIMED_OUT, State.BLOCKED),
    State.ACCEPTED: (State.SCANNING, State.DONE, State.NOT_SCANNED),
    State.SCANNING: (State.DONE, State.NOT_SCANNED),
}
"""All there are. Abstained and blocked lead to themselves when only their reason changes."""


class Reason(StrEnum):
    """Of a transition, or why a trigger stands where it does."""

    NO_EVIDENCE = "no_evidence"
    EVIDENCE = "evidence"
    ABOVE_THRESHOLD = "above_threshold"
    PERSISTENT = "persistent"
    # abstained
    TRIAGE_ABSTAINED = "triage_abstained"
    RECONSTRUCTIONS_DIFFER = "reconstructions_differ"
    ONE_RECONSTRUCTION = "one_reconstruction"
    LEVELS_UNCERTAIN = "levels_uncertain"
    QUALITY = "quality"
    SERIES_MISSING = "series_missing"
    COVERAGE = "coverage"
    JUDGEABLE = "judgeable"
    """Abstained no longer."""
    # blocked
    ORDER = "order"
    PLANNED = "planned"
    SAR = "sar"
    SLOT = "slot"
    PROPOSALS = "proposals"
    EXTRA_MINUTES = "extra_minutes"
    QUESTION_OPEN = "question_open"
    QUIET = "quiet"
    PRESCRIPTION = "prescription"
    ALLOWED = "allowed"
    """Blocked no longer."""
    # shadowed
    SHADOW = "shadow"
    CIRCUIT_BREAKER = "circuit_breaker"
    # asked
    ASKED = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    NO_ANSWER = "no_answer"
    EXAM_ENDED = "exam_ended"
    SCANNER = "scanner"


class DeclineReason(StrEnum):
    """What the technologist may give with a decline."""

    PATIENT = "patient"
    TIME = "time"
    NOT_INDICATED = "not_indicated"
    OTHER = "other"


class Progress(StrEnum):
    """What the scanner's side says of accepted coverage."""

    SCANNING = "scanning"
    DONE = "done"
    NOT_SCANNED = "not_scanned"


class Certainty(IntEnum):
    """How far a condition holds."""

    NONE = 0
    EVIDENCE = 1
    CANDIDATE = 2
    CONFIRMED = 3


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ExamContext(_Message):
    """What is known of an exam besides its findings, when a series is complete.

    Attributes
    ----------
    order : frozenset of OrderFlag
    slot_end_s : float
        On the clock of the events.
    remaining_minutes : float
        Of planned steps not scanned yet.
    minutes_used : float
        By extra coverage, whoever asked for it.
    sar_headroom : float or None
        Fraction left of what the accepted SAR mode allows; None where the scanner does not say.
    planned : tuple of str
        Steps planned or scanned, extra ones included.
    """

    order: frozenset[OrderFlag] = frozenset()
    slot_end_s: float
    remaining_minutes: float = Field(default=0, ge=0)
    minutes_used: float = Field(default=0, ge=0)
    sar_headroom: Fraction | None = None
    planned: tuple[str, ...] = ()


class Standing(_Message):
    """What the site's past allows a protocol's triggers in this exam (`agent.trigger_site`).

    Attributes
    ----------
    shadow, breaker : dict of str to str
        Triggers that only note what they would have asked, and why: a new one, or one whose rate
        is not what it was at commissioning.
    quiet : dict of str to str
        Triggers that do not ask for now, and why.
    """

    shadow: dict[str, str] = {}
    breaker: dict[str, str] = {}
    quiet: dict[str, str] = {}


class ProposedStep(_Message):
    """A step of the protocol, and the rule by which its slices are laid."""

    step: str
    rule: GeometryRule
    minutes: float


class Proposal(_Message):
    """What the technologist is asked, or in shadow mode would have been.

    Attributes
    ----------
    id : str
        Of the exam, the trigger and the attempt.
    findings : tuple of Finding
        Which called for it, the most probable first.
    expires_s : float
        No answer by then is a decline.
    """

    id: str
    exam: str
    protocol: str
    revision: int
    trigger: str
    text: str
    steps: tuple[ProposedStep, ...]
    minutes: float
    findings: tuple[Finding, ...]
    asked_s: float
    expires_s: float


class Transition(_Message):
    """One step of one trigger.

    Attributes
    ----------
    detail : str
        The reason with its values, to be read.
    """

    trigger: str
    before: State
    after: State
    reason: Reason
    detail: str
    at_s: float


class Decision(_Message):
    """What came of one event.

    Attributes
    ----------
    proposal : Proposal or None
        To be asked now.
    would_ask : tuple of Proposal
        Not to be asked: shadow mode, or an open circuit breaker.
    refused : str or None
        Why the event changed nothing, where it should have.
    """

    transitions: tuple[Transition, ...] = ()
    proposal: Proposal | None = None
    would_ask: tuple[Proposal, ...] = ()
    refused: str | None = None


class Check(_Message):
    """One line of an explanation: what is asked for, what there is, whether that is enough."""

    text: str
    value: str
    passed: bool


class Explained(_Message):
    """A condition with its values, and those within it.

    Attributes
    ----------
    findings : tuple of str
        Ids of those that confirm it.
    """

    text: str
    value: str
    certainty: Certainty
    findings: tuple[str, ...] = ()
    inner: tuple["Explained", ...] = ()


class Explanation(_Message):
    """Why a trigger stands where it does, after the latest series.

    Attributes
    ----------
    when : Explained
    needs, trust, allowed : tuple of Check
        What "nothing there" needs, what the trigger abstains without, and what asking needs.
    """

    trigger: str
    state: State
    reason: Reason
    detail: str
    since_s: float
    when: Explained
    needs: tuple[Check, ...]
    trust: tuple[Check, ...]
    allowed: tuple[Check, ...]


class TriggerState(BaseModel):
    """One trigger in one exam.

    Attributes
    ----------
    met : list of str
        Keys of conditions which are held to their lower thresholds.
    confirmed : bool
        Its condition held at some time in this exam, whatever came of it.
    attempts : int
        Proposals, those included that were withdrawn before anybody saw them.
    proposal : Proposal or None
        Asked, or noted in shadow mode.
    unprescribed : str or None
        Why its slices cannot be prescribed from the series so far.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    state: State = State.IDLE
    reason: Reason = Reason.NO_EVIDENCE
    detail: str = "no series yet"
    since_s: float
    met: list[str] = []
    confirmed: bool = False
    attempts: int = 0
    proposal: Proposal | None = None
    unprescribed: str | None = None
    when: Explained
    needs: list[Check] = []
    trust: list[Check] = []
    allowed: list[Check] = []


class ExamState(BaseModel):
    """All that the machine knows of an exam: saved after each event, it survives a restart."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Literal["1"] = "1"
    exam: str
    protocol: str
    revision: int
    digest: str
    standing: Standing
    now_s: float
    series: tuple[str, ...] = ()
    ended: bool = False
    triggers: dict[str, TriggerState]
