"""The audit of a site as one JSON or CSV file."""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from agent.audit_chain import AuditError, Verification, records, verify
from agent.audit_records import (
    ClickEntry,
    Entry,
    EvaluationEntry,
    FindingsEntry,
    Record,
    ReplyEntry,
    RequestEntry,
    ScanEntry,
)

COLUMNS = ("sequence", "at", "exam", "kind", "what", "entry", "sha256")
"""Of the CSV; ``what`` is the entry in words, ``entry`` all of it as JSON."""


def export(
    folder: Path,
    target: Path,
    exam: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[int, Verification]:
    """Write records into one file, and whether the audit is whole.

    Parameters
    ----------
    folder, target : Path
        The target ends in ``.json`` or ``.csv``.
    exam : str, optional
        Pseudonym; only its records.
    since, until : datetime, optional
        Aware; only records from the first on and before the second.

    Returns
    -------
    int
        Records written.
    Verification
        Of the whole audit, at that time.

    Raises
    ------
    AuditError
        The target is of another kind, or the audit cannot be read.
    """
    if target.suffix not in (".json", ".csv"):
        raise AuditError(f"expected a target that ends in .json or .csv, got {target.name}")
    found = verify(folder)
    chosen = (
        record
        for record in records(folder)
        if (exam is None or record.exam == exam)
        and (since is None or record.at >= since)
        and (until is None or record.at < until)
    )
    write = _write_json if target.suffix == ".json" else _write_csv
    return write(target, chosen, found), found


def _write_json(target: Path, chosen: Iterator[Record], found: Verification) -> int:
    count = 0
    with open(target, "w", encoding="utf-8") as file:
        head = {"anchor": str(found.anchor), "problems": [str(each) for each in found.problems]}
        file.write(json.dumps(head)[:-1] + ', "records": [')
        for count, record in enumerate(chosen, 1):
            file.write((",\n" if count > 1 else "\n") + record.model_dump_json())
        file.write("\n]}\n")
    return count


def _write_csv(target: Path, chosen: Iterator[Record], found: Verification) -> int:
    count = 0
    with open(target, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for record in chosen:
            count += 1
            rows.writerow(
                (
                    record.sequence,
                    record.at.isoformat(),
                    record.exam or "",
                    record.entry.kind,
                    what(record.entry),
                    record.entry.model_dump_json(),
                    record.sha256,
                )
            )
    return count


def what(entry: Entry) -> str:
    """Return an entry in words."""
    if isinstance(entry, FindingsEntry):
        findings = entry.findings
        abstained = f"; abstained: {findings.abstained}" if findings.abstained else ""
        return f"after {findings.series[-1]}: {len(findings.findings)} findings{abstained}"
    if isinstance(entry, EvaluationEntry):
        moves = [
            f"{each.trigger}: {each.before} to {each.after}, {each.reason}"
            for each in entry.transitions
        ]
        refused = [f"refused: {entry.refused}"] if entry.refused else []
        return f"{entry.event}: {'; '.join([*moves, *refused]) or 'nothing changed'}"
    if isinstance(entry, RequestEntry):
        return f"asked: {entry.request.text}"
    if isinstance(entry, ReplyEntry):
        reason = f", {entry.reply.reason}" if entry.reply.reason else ""
        return (
            f"answered: {entry.reply.outcome}{reason}{'' if entry.counts else ' (does not count)'}"
        )
    if isinstance(entry, ScanEntry):
        return f"scanned: {entry.step} as {entry.series}, {entry.images} images"
    if isinstance(entry, ClickEntry):
        said = " ".join(part for part in (entry.about, entry.detail) if part)
        return f"clicked by {entry.user} ({entry.role}): {entry.action} {said}".rstrip()
    torn = ", ".join(f"{tail.file}:{tail.line}, {tail.bytes} bytes" for tail in entry.tails)
    return f"torn: {torn}"
