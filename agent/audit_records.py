"""What the audit holds: typed records without patient identity.

A record has typed fields only, and none for a name, a birth date or a UID. Exams go by a
pseudonym. Whatever text looks like identity nevertheless (`Pseudonyms.clean`) is withheld before
it is written. Free text from the scanner's side is never recorded.
"""

import hashlib
import hmac
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from agent.trigger_states import Explanation, ProposedStep, Transition
from protocols.control import CoverageReply, CoverageRequest
from protocols.findings import ExamFindings

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pseudonym = Annotated[str, Field(pattern=r"^exam-[0-9a-f]{32}$")]

_PSEUDONYM = re.compile(r"exam-[0-9a-f]{32}")
_HASH = re.compile(r"\b([0-9a-f]{64}|(exam-)?[0-9a-f]{32}|withheld-[0-9a-f]{16})\b")
_IDENTITY = re.compile(
    r"\^"  # DICOM person name
    r"|\d+(\.\d+){4}"  # UID
    r"|(?<![\d.])\d{6}"  # number of a patient, an order, a study; date of DICOM
    r"|\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2}"  # date
)
_FIXED = ("kind", "type", "version")
"""Fields of one literal value."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EngineUsed(_Entry):
    """A network that took part in what was found: its weights, by their hash."""

    name: str
    version: str
    sha256: Sha256


class FindingsEntry(_Entry):
    """What triage says after a series."""

    kind: Literal["findings"] = "findings"
    findings: ExamFindings
    engines: tuple[EngineUsed, ...] = ()


class Event(StrEnum):
    """What the trigger machine was told, as its methods are called."""

    UPDATE = "update"
    ANSWER = "answer"
    TICK = "tick"
    PROGRESS = "progress"
    WITHDRAW = "withdraw"
    END = "end"


class Question(_Entry):
    """A proposal; `asked` is False in shadow mode or with an open circuit breaker."""

    asked: bool
    id: str
    trigger: str
    text: str
    steps: tuple[ProposedStep, ...]
    minutes: float
    findings: tuple[str, ...]
    asked_s: float
    expires_s: float


class EvaluationEntry(_Entry):
    """What the triggers made of an event.

    Attributes
    ----------
    triggers : tuple of Explanation
        After a series: conditions and thresholds with the values they were held against.
    """

    kind: Literal["evaluation"] = "evaluation"
    protocol: str
    revision: int
    digest: Sha256
    event: Event
    transitions: tuple[Transition, ...]
    questions: tuple[Question, ...]
    refused: str | None
    triggers: tuple[Explanation, ...]


class RequestEntry(_Entry):
    """The question as it was sent: its text, its slices, what it costs.

    Attributes
    ----------
    decision_s : float or None
        From the last readout of the deciding series to the question on the wire; None where no
        console was there to send it to, or no series decided.
    """

    kind: Literal["request"] = "request"
    request: CoverageRequest
    decision_s: float | None = Field(default=None, ge=0)


class ReplyEntry(_Entry):
    """What the scanner's side said, without its free text.

    Attributes
    ----------
    counts : bool
        False of a reply that came too late, or after another.
    latency_s : float or None
        Since the question was asked.
    """

    kind: Literal["reply"] = "reply"
    reply: CoverageReply
    counts: bool
    latency_s: float | None = Field(default=None, ge=0)


class ScanEntry(_Entry):
    """Coverage that was asked for has been scanned, and has come back.

    Attributes
    ----------
    sha256 : str or None
        Of the measurement as it was received.
    """

    kind: Literal["scan"] = "scan"
    request: str
    step: str
    series: str
    images: int = Field(ge=0)
    sha256: Sha256 | None = None


class ClickEntry(_Entry):
    """Somebody has clicked on the console (`agent.console`), or tried to log in.

    Attributes
    ----------
    user, role : str
        Of the console's staff.
    action : str
    about : str
        Question, protocol or account.
    """

    kind: Literal["click"] = "click"
    user: str
    role: str
    action: Literal[
        "login", "login_failed", "logout", "accept", "decline", "publish", "account", "request"
    ]
    about: str = ""
    detail: str = ""


class Tail(_Entry):
    """Bytes after the last whole line of a file: a record that was being written at a crash."""

    file: str
    line: int
    bytes: int
    sha256: Sha256


class TornEntry(_Entry):
    """Torn lines, which stay where they are; the chain goes on without them."""

    kind: Literal["torn"] = "torn"
    tails: tuple[Tail, ...] = Field(min_length=1)


Entry = Annotated[
    FindingsEntry
    | EvaluationEntry
    | RequestEntry
    | ReplyEntry
    | ScanEntry
    | ClickEntry
    | TornEntry,
    Field(discriminator="kind"),
]
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class Record(_Entry):
    """One line of the audit.

    Attributes
    ----------
    sequence : int
        From 1 on, without gaps.
    at : datetime
        UTC.
    previous : str
        `sha256` of the record before; 64 zeros before the first one.
    sha256 : str
        Of the line's bytes up to the comma before this field.
    """

    version: Literal["1"] = "1"
    sequence: int = Field(ge=1)
    at: AwareDatetime
    exam: Pseudonym | None
    previous: Sha256
    entry: Entry
    sha256: Sha256


class Pseudonyms:
    """Names that stand for exams, the same ones for ever at one site and others elsewhere.

    Parameters
    ----------
    salt : bytes
        The site's secret.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    @classmethod
    def of_site(cls, path: Path) -> "Pseudonyms":
        """Read the site's salt; where there is none yet, make it."""
        if not path.exists():
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(file, os.urandom(32).hex().encode())
                os.fsync(file)
            finally:
                os.close(file)
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            part.unlink()
        return cls(bytes.fromhex(path.read_text()))

    def exam(self, uid: str) -> str:
        """Return the pseudonym of an exam; that of a pseudonym is itself."""
        return uid if _PSEUDONYM.fullmatch(uid) else f"exam-{self._digest(uid, 32)}"

    def clean(self, entry: Entry, exam: str | None) -> Entry:
        """Return an entry without identity.

        The exam's own name becomes its pseudonym. Other texts with a person name of DICOM, a UID,
        a date or six digits in a row become "withheld-" and a salted hash, equal for equal texts.
        """
        raw = self._walk(entry.model_dump(), exam)
        return _ENTRY.validate_python(raw, strict=False)

    def _walk(self, value: Any, exam: str | None) -> Any:
        if isinstance(value, dict):
            return {
                key: inner if key in _FIXED else self._walk(inner, exam)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return tuple(self._walk(inner, exam) for inner in value)
        # Members of enumerations are no free text.
        return self._text(value, exam) if type(value) is str else value

    def _text(self, text: str, exam: str | None) -> str:
        if exam and (text == exam or text.startswith(f"{exam}/")):
            text = self.exam(exam) + text[len(exam) :]
        elif exam and len(exam) > 3:
            text = re.sub(rf"(?<!\w){re.escape(exam)}(?!\w)", self.exam(exam), text)
        if _IDENTITY.search(_HASH.sub("", text)):
            return f"withheld-{self._digest(text, 16)}"
        return text

    def _digest(self, text: str, length: int) -> str:
        return hmac.new(self._salt, text.encode(), hashlib.sha256).hexdigest()[:length]
