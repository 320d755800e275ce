"""The files of the audit, and whether they are as they were written.

- ``audit-000001.jsonl``, ...: one record a line (`agent.audit_records.Record`). The chain goes on
  from file to file.
- ``head.json``: sequence and SHA-256 of the latest record, so that a cut-off end is noticed. It
  may be one record behind after a crash, never ahead.
- ``lock``: locked by the one process that writes.

The last field of a line is the SHA-256 of all bytes before it, and each record holds that of the
one before. Bytes after the last newline of a file were being written at a crash. They are no
record: the next line, in a new file, is one about them.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.audit_records import Record, Sha256, Tail

HEAD, HEAD_PART, LOCK = "head.json", "head.json.part", "lock"
START = "0" * 64
"""What stands for the record before the first."""

_NAME = re.compile(r"audit-([0-9]{6,})\.jsonl")
_SEAL = b',"sha256":"'


class AuditError(Exception):
    """The audit cannot be written or read: why, and what to do."""


class AuditLocked(AuditError):
    """Another writer has it."""


class AuditDamaged(AuditError):
    """It is not as it was written: going on would hide that."""


class Anchor(BaseModel):
    """Where the chain ends. Written down elsewhere, it also shows that all of it was rewritten."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = 0
    sha256: Sha256 = START

    def __str__(self) -> str:
        return f"{self.sequence}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> "Anchor":
        """Read what `str` gives.

        Raises
        ------
        AuditError
        """
        sequence, _, sha256 = text.partition(":")
        if not sequence.isdecimal() or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise AuditError(
                f"expected an anchor, SEQUENCE:SHA256 as verify prints it, got {text!r}"
            )
        return cls(sequence=int(sequence), sha256=sha256)


@dataclass(frozen=True)
class Problem:
    """One place where the audit is not as it was written."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass
class Verification:
    """What `verify` found.

    Attributes
    ----------
    records : int
        Whole ones.
    anchor : Anchor
        The last record.
    torn : list of Tail
        At the end, and not on record yet: a crash, or a record that is being written just now.
    problems : list of Problem
    """

    records: int = 0
    anchor: Anchor = field(default_factory=Anchor)
    torn: list[Tail] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def name(number: int) -> str:
    """Return the name of the n-th file, from 1 on."""
    return f"audit-{number:06d}.jsonl"


def files(folder: Path) -> list[Path]:
    """Return the files of an audit in their order."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=number)


def number(path: Path) -> int:
    """Return which file of its audit this is."""
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])


def seal(body: bytes) -> tuple[bytes, str]:
    """Return a line, and its SHA-256.

    Parameters
    ----------
    body : bytes
        JSON object of a record without its last field.
    """
    body = body.removesuffix(b"}")
    sha256 = hashlib.sha256(body).hexdigest()
    return b'%s%s%s"}\n' % (body, _SEAL, sha256.encode()), sha256


def read_head(folder: Path) -> Anchor | None:
    """Return the anchor of ``head.json``; None where there is none.

    Raises
    ------
    AuditDamaged
        It is not as it was written.
    """
    try:
        raw = (folder / HEAD).read_bytes()
    except FileNotFoundError:
        return None
    try:
        head = Anchor.model_validate_json(raw)
    except ValidationError:
        head = None
    if head is None or raw != head_line(head):
        raise AuditDamaged("expected the sequence and SHA-256 of the latest record")
    return head


def head_line(head: Anchor) -> bytes:
    """Return what ``head.json`` holds."""
    return head.model_dump_json().encode() + b"\n"


def verify(folder: Path, anchor: Anchor | None = None) -> Verification:
    """Look for records that were changed, removed, moved, inserted or cut off.

    Whoever can write the folder can also write all of it anew, with a chain and a head of its own:
    only an anchor that was kept elsewhere shows that.

    Parameters
    ----------
    folder : Path
        May be in use.
    anchor : Anchor, optional
        Of an earlier verification.

    Raises
    ------
    AuditError
        There is no such folder, or it cannot be read.
    """
    try:
        head, problem = read_head(folder), None
        if head is None:
            problem = Problem(HEAD, 1, "missing: a cut-off end would not be noticed")
    except AuditDamaged as error:
        head, problem = None, Problem(HEAD, 1, str(error))
    # The head is read first: a record that is written meanwhile only takes the files further.
    try:
        there = files(folder)
        strange = sorted({path.name for path in folder.iterdir()} - {path.name for path in there})
        checked = check(there, {HEAD: head, "the anchor": anchor}, whole=True)
    except OSError as error:
        raise AuditError(f"{folder}: expected the folder of an audit: {error.strerror}") from error
    problems = [problem] if problem else []
    problems += [
        Problem(each, 1, "expected no such file in the audit")
        for each in strange
        if each not in (HEAD, HEAD_PART, LOCK)
    ]
    checked.problems[:0] = problems
    return checked


def records(folder: Path) -> Iterator[Record]:
    """Read all records; lines with a wrong SHA-256, which `verify` reports, are left out.

    Raises
    ------
    AuditError
        A record is of no known type: it was written by another version.
    """
    for path in files(folder):
        for line, raw in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            if _sealed(raw) is None:
                continue
            try:
                yield Record.model_validate_json(raw)
            except ValidationError as error:
                raise AuditError(
                    f"{path.name}:{line}: expected a record of version 1: {error}"
                ) from error


class _Peek(BaseModel):
    kind: str
    tails: tuple[Tail, ...] = ()


class _Link(BaseModel):
    """Of a record, what the chain needs."""

    sequence: int
    previous: str
    entry: _Peek


def check(there: list[Path], anchors: dict[str, Anchor | None], whole: bool) -> Verification:
    """Verify files that follow each other.

    Parameters
    ----------
    there : list of Path
    anchors : dict of str to Anchor
        And where each stands.
    whole : bool
        Whether they are all files of the audit; else the last ones.
    """
    chain = _Chain(anchors, whole)
    first = 1 if whole or not there else number(there[0])
    for count, path in enumerate(there, first):
        if path.name != name(count):
            chain.problem(path.name, 1, f"expected {name(count)}: a file was removed or renamed")
        chain.file(path)
    chain.end()
    return chain.found


class _Chain:
    """Follows the records from line to line."""

    def __init__(self, anchors: dict[str, Anchor | None], whole: bool) -> None:
        self.found = Verification()
        self._anchors = {where: anchor for where, anchor in anchors.items() if anchor}
        # None where it is not known: at the start of the last files, and after a damaged line.
        self._before: Anchor | None = Anchor() if whole else None
        self._last_line = (name(1), 0)

    def problem(self, file: str, line: int, text: str) -> None:
        self.found.problems.append(Problem(file, line, text))

    def file(self, path: Path) -> None:
        *lines, tail = path.read_bytes().split(b"\n")
        for line, raw in enumerate(lines, 1):
            self._line(path.name, line, raw)
        if tail:
            sha256 = hashlib.sha256(tail).hexdigest()
            torn = Tail(file=path.name, line=len(lines) + 1, bytes=len(tail), sha256=sha256)
            self.found.torn.append(torn)

    def end(self) -> None:
        file, line = self._last_line[0], self._last_line[1] + 1
        if self.found.torn:
            file, line = self.found.torn[0].file, self.found.torn[0].line
        until = self.found.anchor.sequence
        for where, anchor in self._anchors.items():
            if anchor.sequence > until:
                text = f"expected {anchor.sequence} records as {where} says, got {until}: cut off"
                self.problem(file, line, text)

    def _line(self, file: str, line: int, raw: bytes) -> None:
        self._last_line = file, line
        sha256, link = _sealed(raw), None
        try:
            link = _Link.model_validate_json(raw)
        except ValidationError:
            pass
        if sha256 is None or link is None:
            text = "expected a record that ends with its own SHA-256: changed or inserted"
            self.problem(file, line, text)
            self._before = None
            return
        if self._before is not None:
            self._follows(self._before, link, file, line)
            self._told_of_torn(link.entry.tails)
        self.found.torn = []
        self.found.records += 1
        self._before = self.found.anchor = Anchor(sequence=link.sequence, sha256=sha256)
        for where, anchor in self._anchors.items():
            if anchor.sequence == link.sequence and anchor.sha256 != sha256:
                text = f"expected SHA-256 {anchor.sha256} as {where} says, got {sha256}: replaced"
                self.problem(file, line, text)

    def _follows(self, before: Anchor, link: "_Link", file: str, line: int) -> None:
        expected = before.sequence + 1
        if link.sequence > expected:
            text = "records were removed or moved"
        elif link.sequence < expected:
            text = "a record was inserted or moved"
        elif link.previous != before.sha256:
            text = (
                "it does not follow the record before: that one was replaced, or this one inserted"
            )
        else:
            return
        self.problem(file, line, f"expected record {expected}, got {link.sequence}: {text}")

    def _told_of_torn(self, told: tuple[Tail, ...]) -> None:
        for tail in self.found.torn:
            if tail not in told:
                text = "expected the end of a line, or one which the next record tells to be torn"
                self.problem(tail.file, tail.line, text)
        for tail in told:
            if tail.file not in {there.file for there in self.found.torn}:
                text = f"expected a torn line of {tail.bytes} bytes, got none: removed"
                self.problem(tail.file, tail.line, text)


def _sealed(raw: bytes) -> str | None:
    """Return the SHA-256 of a line which ends with it."""
    body, _, end = raw.rpartition(_SEAL)
    sha256 = hashlib.sha256(body).hexdigest()
    return sha256 if end == sha256.encode() + b'"}' else None
