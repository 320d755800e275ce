"""`boreside doctor`: is all well here, and how to mend what is not."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.config import SettingsError, load

app = typer.Typer(help="Is all well here?")

NICE = 10
"""An agent may be scanning meanwhile."""
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file [default: agent.yaml].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Check GPU, TensorRT, clock, disk, ports, PACS, worklist, keys, engines, spool, outbox, audit.

    Each line says what was found, and how to mend it. The exit status is 1 where anything is wrong,
    2 where the settings cannot be read; warnings alone leave it 0.
    """
    from agent.doctor import Verdict, examine

    try:
        settings = load(config)
    except SettingsError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    os.nice(NICE)
    checks = list(examine(settings))
    verdict = max((each.verdict for each in checks), key=list(Verdict).index)
    if as_json:
        lines = [
            {"name": c.name, "verdict": c.verdict, "found": c.found, "mend": c.mend} for c in checks
        ]
        print(json.dumps({"verdict": verdict, "checks": lines}, indent=1))
    else:
        table = Table("check", "", "found", "to mend it")
        for check in checks:
            said = Text(check.verdict, COLOURS[check.verdict])
            table.add_row(check.name, said, Text(check.found), Text(check.mend))
        Console().print(table)
    raise typer.Exit(1 if verdict is Verdict.WRONG else 0)


if __name__ == "__main__":
    app()
