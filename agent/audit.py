"""The audit: what was found, evaluated, asked, answered and scanned, so that nobody can unsay it.

    with Audit(Path("audit")) as audit:
        audit.findings(findings)                             # after triage of each series
        audit.decision(machine, decision, Event.UPDATE)      # after each event of the triggers
        audit.request(request)
        audit.reply(exam, reply, counts=True)
        audit.scan_done(exam, request.id, step, series, images)

A call returns when its record is on the disk. Records are append-only JSON lines in a hash chain
(`agent.audit_chain`, which also verifies) without patient identity (`agent.audit_records`). The
salt of the pseudonyms lies beside the folder, not in it: copies of the folder do not have it.
"""

import fcntl
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from agent.audit_chain import (
    HEAD,
    HEAD_PART,
    LOCK,
    Anchor,
    AuditDamaged,
    AuditError,
    AuditLocked,
    check,
    files,
    head_line,
    name,
    number,
    read_head,
    seal,
)
from agent.audit_records import (
    EngineUsed,
    Entry,
    EvaluationEntry,
    Event,
    FindingsEntry,
    Pseudonyms,
    Question,
    Record,
    ReplyEntry,
    RequestEntry,
    ScanEntry,
    TornEntry,
)
from agent.trigger_states import Decision, Explanation, Proposal, Reason, Transition
from protocols.control import CoverageReply, CoverageRequest
from protocols.findings import ExamFindings

if TYPE_CHECKING:
    from agent.triggers import Triggers

Reasoned = TypeVar("Reasoned", Transition, Explanation)

MAX_BYTES = 16 << 20
"""Of one file, unless a single record is longer."""


class Audit:
    """The one writer of a folder. Its methods may be called from any thread.

    All of them raise `AuditError` where the record cannot be put on the disk; the next call tries
    anew.

    Parameters
    ----------
    folder : Path
    max_bytes : int
        After which a new file is begun.

    Raises
    ------
    AuditLocked
        Another writer has the folder.
    AuditDamaged
        Its end is not as it was written.
    AuditError
        It cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._file: int | None = None
        self._closed = False
        self._thread_lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.pseudonyms = Pseudonyms.of_site(salt_file(folder))
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error
        try:
            self._take_lock()
            self._resume()
        except OSError as error:
            self.close()
            raise self._failed(error) from error
        except AuditError:
            self.close()
            raise

    def __enter__(self) -> "Audit":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def anchor(self) -> Anchor:
        """The latest record."""
        return self._last

    def findings(self, findings: ExamFindings, engines: tuple[EngineUsed, ...] = ()) -> Record:
        """Record what triage says after a series, and which networks took part."""
        return self.append(FindingsEntry(findings=findings, engines=engines), findings.exam)

    def decision(self, machine: "Triggers", decision: Decision, event: Event) -> Record | None:
        """Record what came of one event of the trigger machine.

        After a series it holds all conditions and thresholds with the values they were held
        against, also where nothing came of it. A tick of the clock of which nothing came is not
        recorded.
        """
        if event is Event.TICK and decision == Decision():
            return None
        state = machine.state
        asked = [(True, decision.proposal)] if decision.proposal else []
        noted = [(False, proposal) for proposal in decision.would_ask]
        entry = EvaluationEntry(
            protocol=state.protocol,
            revision=state.revision,
            digest=state.digest,
            event=event,
            transitions=tuple(_authored(each) for each in decision.transitions),
            questions=tuple(_question(each, proposal) for each, proposal in asked + noted),
            refused=decision.refused,
            triggers=tuple(_authored(each) for each in machine.explain())
            if event is Event.UPDATE
            else (),
        )
        return self.append(entry, state.exam)

    def request(self, request: CoverageRequest, decision_s: float | None = None) -> Record:
        """Record a question as it was sent, and how long the decision took."""
        return self.append(RequestEntry(request=request, decision_s=decision_s), request.exam)

    def reply(
        self, exam: str, reply: CoverageReply, counts: bool, latency_s: float | None = None
    ) -> Record:
        """Record an answer of the scanner's side, whether it counts or not."""
        steps = tuple(step.model_copy(update={"variant": ""}) for step in reply.steps)
        bare = reply.model_copy(update={"detail": "", "steps": steps})
        return self.append(ReplyEntry(reply=bare, counts=counts, latency_s=latency_s), exam)

    def scan_done(
        self,
        exam: str,
        request: str,
        step: str,
        series: str,
        images: int,
        sha256: str | None = None,
    ) -> Record:
        """Record that coverage has come back: of which request and step, as which series."""
        entry = ScanEntry(request=request, step=step, series=series, images=images, sha256=sha256)
        return self.append(entry, exam)

    def append(self, entry: Entry, exam: str | None = None) -> Record:
        """Record an entry about an exam.

        Parameters
        ----------
        entry : Entry
        exam : str or None
            Its UID or whatever else its name is; only its pseudonym is recorded.
        """
        with self._thread_lock:
            if self._closed:
                raise AuditError(f"{self.folder}: the audit was closed")
            try:
                if self._file is None:
                    self._resume()
                return self._append(self.pseudonyms.clean(entry, exam), exam)
            except OSError as error:
                self._close_file()
                raise self._failed(error) from error

    def close(self) -> None:
        """Let another writer have the folder."""
        with self._thread_lock:
            self._close_file()
            if not self._closed:
                os.close(self._lock)
            self._closed = True

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise AuditLocked(
                f"{self.folder}: expected to be the only writer of the audit, but process "
                f"{other or '(starting)'} has it; end that one, or give this one its own folder"
            ) from None
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _resume(self) -> None:
        """Go on after the last whole record, and record what was torn."""
        there = files(self.folder)
        try:
            head = read_head(self.folder)
            if head is None and there:
                raise AuditDamaged("missing, with records there")
        except AuditDamaged as error:
            raise self._damaged(f"{HEAD}: {error}") from None
        if head is None:
            self._write_head(Anchor())
        whole = next((path for path in reversed(there) if b"\n" in path.read_bytes()), None)
        latest = there[there.index(whole) :] if whole else there
        found = check(latest, {HEAD: head}, whole=latest == there)
        if found.problems:
            raise self._damaged(str(found.problems[0]))
        self._last = found.anchor
        self._number = number(there[-1]) if there else 0
        if found.torn or not there:
            self._begin_file()
        else:
            self._open_file(0)
        if found.torn:
            self._append(TornEntry(tails=tuple(found.torn)), None)
        self._write_head(self._last)

    def _damaged(self, what: str) -> AuditDamaged:
        return AuditDamaged(
            f"{self.folder}/{what}. Keep the folder as it is, look into it with `boreside audit "
            "verify`, and go on with a new one"
        )

    def _failed(self, error: Exception) -> AuditError:
        return AuditError(f"{self.folder}: cannot write the audit: {error}")

    def _append(self, entry: Entry, exam: str | None) -> Record:
        # The seal is taken of the line without it, and is put at its end.
        record = Record(
            sequence=self._last.sequence + 1,
            at=datetime.now(UTC),
            exam=None if exam is None else self.pseudonyms.exam(exam),
            previous=self._last.sha256,
            entry=entry,
            sha256=self._last.sha256,
        )
        line, sha256 = seal(record.model_dump_json(exclude={"sha256"}).encode())
        if self._size and self._size + len(line) > self._max_bytes:
            self._close_file()
            self._begin_file()
        assert self._file is not None
        _write(self._file, line)
        self._size += len(line)
        self._last = Anchor(sequence=record.sequence, sha256=sha256)
        self._write_head(self._last)
        return record.model_copy(update={"sha256": sha256})

    def _begin_file(self) -> None:
        self._number += 1
        self._open_file(os.O_CREAT | os.O_EXCL)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _open_file(self, how: int) -> None:
        path = self.folder / name(self._number)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | how, 0o600)
        self._size = os.fstat(self._file).st_size

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write_head(self, head: Anchor) -> None:
        part = self.folder / HEAD_PART
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(file, head_line(head))
        finally:
            os.close(file)
        part.replace(self.folder / HEAD)


def salt_file(folder: Path) -> Path:
    """Return where the salt of a site's pseudonyms lies."""
    return folder.absolute().with_name(f"{folder.absolute().name}.salt")


def _write(file: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)


def _authored(each: Reasoned) -> Reasoned:
    """Leave out what may be free text of the scanner's side."""
    return each.model_copy(update={"detail": ""}) if each.reason is Reason.SCANNER else each


def _question(asked: bool, proposal: Proposal) -> Question:
    return Question(
        asked=asked,
        id=proposal.id,
        trigger=proposal.trigger,
        text=proposal.text,
        steps=proposal.steps,
        minutes=proposal.minutes,
        findings=tuple(finding.id for finding in proposal.findings),
        asked_s=proposal.asked_s,
        expires_s=proposal.expires_s,
    )
