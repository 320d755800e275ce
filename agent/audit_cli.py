"""`boreside audit`: is it as it was written, and all of it as one file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What was found, asked, answered and scanned.")

DEFAULT_FOLDER = Path("audit")

Folder = Annotated[Path, typer.Argument(help="Of the audit.")]


@app.command()
def verify(
    folder: Folder = DEFAULT_FOLDER,
    anchor: Annotated[
        str | None,
        typer.Option(help="What verify printed earlier: shows whether all was written anew since."),
    ] = None,
) -> None:
    """Look for records that were changed, removed, moved, inserted or cut off.

    Prints each with its file and line. The exit status is 1 where there are any, 2 where the audit
    cannot be read.
    """
    from agent.audit_chain import Anchor, AuditError
    from agent.audit_chain import verify as check

    try:
        found = check(folder, Anchor.parse(anchor) if anchor else None)
    except AuditError as error:
        raise _give_up(error) from None
    for problem in found.problems:
        print(f"{folder}/{problem}")
    for tail in found.torn:
        print(
            f"{folder}/{tail.file}:{tail.line}: a torn line of {tail.bytes} bytes, which was never "
            "acknowledged"
        )
    print(f"{found.records} records, {len(found.problems) or 'no'} problems")
    print(f"anchor {found.anchor}")
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="File to write, .json or .csv.")],
    folder: Folder = DEFAULT_FOLDER,
    exam: Annotated[
        str | None, typer.Option(help="Only of this exam: its pseudonym, or its UID at this site.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from then on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only before then, UTC.")] = None,
) -> None:
    """Write the audit, or a part of it, into one file.

    The exit status is 1 where the audit is not as it was written (see verify), 2 where it cannot
    be read.
    """
    from agent.audit import salt_file
    from agent.audit_chain import AuditError
    from agent.audit_export import export as write
    from agent.audit_records import Pseudonyms

    try:
        if exam and salt_file(folder).exists():
            exam = Pseudonyms.of_site(salt_file(folder)).exam(exam)
        count, found = write(folder, target, exam, _utc(since), _utc(until))
    except (AuditError, OSError, ValueError) as error:
        raise _give_up(error) from None
    print(f"{target}: {count} of {found.records} records")
    if found.problems:
        print(f"{len(found.problems)} problems, the first at {folder}/{found.problems[0]}")
    raise typer.Exit(1 if found.problems else 0)


def _utc(time: datetime | None) -> datetime | None:
    return time and time.replace(tzinfo=UTC)


def _give_up(error: Exception) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(2)
