"""`boreside request`: more of a measurement that was scanned already."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from agent.config import Settings, SettingsError, load
from agent.requests import (
    Contrast,
    Enhancement,
    FieldOfView,
    OtherChain,
    Request,
    RequestSettings,
    Standing,
    Wanted,
)

if TYPE_CHECKING:
    from agent.requests_store import RequestStore

app = typer.Typer(no_args_is_help=True, help="More of a measurement that was scanned already.")
_console = Console(stderr=True)
LOOK_S = 0.1

Name = Annotated[str, typer.Argument(metavar="MEASUREMENT", help="The spool's name of it.")]
Id = Annotated[str, typer.Option("--id", help="The same id is done once [default: of the wish].")]
File = Annotated[Path | None, typer.Option("--config", help="The agent's settings file.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Leave it to the agent.")]


@app.command()
def contrast(
    measurement: Name,
    tr: Annotated[float, typer.Option(help="Repetition time, ms.")],
    te: Annotated[float, typer.Option(help="Echo time, ms.")],
    ti: Annotated[float | None, typer.Option(help="Inversion time, ms.")] = None,
    id: Id = "",
    config: File = None,
    no_wait: NoWait = False,
) -> None:
    """Make a synthetic contrast of relaxation maps."""
    try:
        wanted = Contrast(tr_ms=tr, te_ms=te, ti_ms=ti)
    except ValidationError as error:
        raise _give_up(error) from None
    _ask(measurement, wanted, id, config, no_wait)


@app.command()
def fov(measurement: Name, id: Id = "", config: File = None, no_wait: NoWait = False) -> None:
    """Reconstruct all of the field of view that was encoded."""
    _ask(measurement, FieldOfView(), id, config, no_wait)


@app.command()
def chain(
    measurement: Name,
    name: Annotated[str, typer.Argument(help="conventional, dl, grappa, dixon, ...")],
    id: Id = "",
    config: File = None,
    no_wait: NoWait = False,
) -> None:
    """Reconstruct by another chain."""
    _ask(measurement, OtherChain(chain=name), id, config, no_wait)


@app.command()
def enhancement(
    measurement: Name, id: Id = "", config: File = None, no_wait: NoWait = False
) -> None:
    """Make a virtual contrast enhancement: research, behind the switch engines.research."""
    _ask(measurement, Enhancement(), id, config, no_wait)


@app.command(name="list")
def show(config: File = None) -> None:
    """Show the latest requests, and the measurements that may be asked of."""
    settings = _settings(config)
    from agent.requests_store import RequestStore
    from agent.spool import Spool

    spool = Spool(settings.spool)
    table = Table("measurement", "chain", "outcome", box=None)
    for name in spool.names()[-20:]:
        state = spool.state(name)
        table.add_row(name, state.get("config", ""), state.get("outcome", "not finished"))
    Console().print(table)
    store = RequestStore(_folder(settings))
    table = Table("request", "of", "what", "state", "", box=None)
    for each in store.latest():
        request = each.request
        note = each.reason or (f"{each.images} images" if each.images else "")
        table.add_row(request.id, request.measurement, request.wanted.words, each.state, note)
    Console().print(table)
    store.close()


def _ask(measurement: str, wanted: Wanted, id: str, config: Path | None, no_wait: bool) -> None:
    settings = _settings(config)
    from agent.requests_store import RequestError, RequestStore

    try:
        request = Request.of(measurement, wanted, "", id)
        store = RequestStore(_folder(settings))
        store.put(request)
    except (ValidationError, RequestError, OSError) as error:
        raise _give_up(error) from None
    if no_wait:
        typer.echo(request.id)
        return
    found = _wait(store, request.id, settings)
    file = store.result(request.id)
    store.close()
    if found.state != "done":
        _console.print(f"[red]{found.state}[/red]:", found.reason, highlight=False)
        raise typer.Exit(1)
    if found.reason:
        _console.print(found.reason, highlight=False)
    _console.print(f"{found.images} images in {found.seconds:.2f} s", highlight=False)
    typer.echo(file)


def _wait(store: "RequestStore", id: str, settings: Settings) -> Standing:
    """Wait for a request, and do it here where nobody else is at it."""
    from agent.requests_worker import NICE, work

    os.nice(NICE)
    while (found := store.get(id)) is not None and found.open:
        try:
            alone = work(settings, idle_s=0)
        except (OSError, ValueError) as error:
            raise _give_up(error) from None
        if not alone:
            time.sleep(LOOK_S)
    assert found is not None
    return found


def _folder(settings: Settings) -> Path:
    return (settings.requests or RequestSettings()).folder


def _settings(config: Path | None) -> Settings:
    from agent import log

    log.setup()
    try:
        return load(config)
    except SettingsError as error:
        raise _give_up(error) from None


def _give_up(error: Exception) -> typer.Exit:
    _console.print(f"[red]{type(error).__name__}[/red]", end=" ")
    _console.print(str(error), markup=False, highlight=False)
    return typer.Exit(2)
