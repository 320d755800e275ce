"""`boreside drain`: have the agent finish its measurements, refuse new ones, and end."""

import os
import select
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from agent.config import SettingsError, load

app = typer.Typer(help="Have the agent finish, and end.")
_errors = Console(stderr=True)

EXTRA_S = 30.0
"""After `limits.stop_seconds`, for the looking at exams to end."""


@app.command()
def drain(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file [default: agent.yaml].")
    ] = None,
    spool: Annotated[Path | None, typer.Option("--spool", help="Of the agent.")] = None,
) -> None:
    """Have the agent of the spool finish its measurements, refuse new ones, and end.

    Waits until it has. The exit status is 1 where no agent runs, or it has not ended in time.
    """
    from agent.running import process

    try:
        settings = load(config, **({} if spool is None else {"spool": {"folder": spool}}))
    except SettingsError as error:
        _errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    pid = process(settings.spool.folder)
    if pid is None:
        _errors.print(f"no agent uses the spool {settings.spool.folder}", markup=False)
        raise typer.Exit(1)
    try:
        # A handle on this very process, whoever gets its number later.
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        _errors.print(f"process {pid}: {error.strerror}", markup=False)
        raise typer.Exit(1) from None
    within_s = settings.limits.stop_seconds + EXTRA_S
    ended, _, _ = select.select([handle], [], [], within_s)
    os.close(handle)
    if not ended:
        _errors.print(f"process {pid} has not ended within {within_s:g} s", markup=False)
        raise typer.Exit(1)
    print(f"process {pid} has ended")


if __name__ == "__main__":
    app()
