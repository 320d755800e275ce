"""`boreside console`: serve the page, and keep its accounts."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console as Terminal

from agent.console.settings import ConsoleSettings, Role
from agent.control_settings import ControlSettings
from agent.requests import RequestSettings

NICE = 10
"""Below everything else of the machine: whoever looks must not slow the agent."""
app = typer.Typer(no_args_is_help=False, help="The console page.", invoke_without_command=True)
_terminal = Terminal(stderr=True)


def run(settings: ConsoleSettings) -> None:
    """Serve the page until the process is told to end.

    Raises
    ------
    AuditError, OSError
    """
    import uvicorn

    from agent.console.app import Console

    os.nice(NICE)
    scheme = "https" if settings.certificate else "http"
    console = Console(settings)
    config = uvicorn.Config(
        console.app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    socket = config.bind_socket()
    # Whoever reads the line below may connect at once; uvicorn itself begins to listen later.
    socket.listen(config.backlog)
    port = socket.getsockname()[1]
    _terminal.print(f"console on {scheme}://{settings.host}:{port}", highlight=False)
    uvicorn.Server(config).run(sockets=[socket])


@app.callback()
def console(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="The agent's settings: section `console`.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option("--folder", help="Folder of the agent's events.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to serve on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    own: Annotated[
        Path | None, typer.Option("--own", help="Folder of accounts and audit of clicks.")
    ] = None,
    site: Annotated[Path | None, typer.Option(help="The site's exam protocols.")] = None,
    reports: Annotated[Path | None, typer.Option(help="Backtest reports.")] = None,
    requests: Annotated[
        Path | None, typer.Option(help="Folder of requests after the scan.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    guest: Annotated[
        Role | None, typer.Option(help="Role without login; on the loopback interface only.")
    ] = None,
) -> None:
    """Serve the console page."""
    given = {
        "events": events, "host": host, "port": port, "folder": own, "site": site,
        "reports": reports, "requests": requests, "certificate": certificate, "key": key,
        "guest": guest,
    }  # fmt: skip
    try:
        settings = _settings(config, {k: v for k, v in given.items() if v is not None})
        context.obj = settings
        if context.invoked_subcommand is None:
            run(settings)
    except (ValueError, OSError) as error:
        _give_up(error)


def _settings(config: Path | None, given: dict[str, Any]) -> ConsoleSettings:
    import yaml

    found = yaml.safe_load(config.read_text()) if config else {}
    found = found if isinstance(found, dict) else {}
    if "console" not in found:
        return ConsoleSettings(**{**found, **given})
    return ConsoleSettings(**{**_of_agent(found), **(found["console"] or {}), **given})


def _of_agent(found: dict[str, Any]) -> dict[str, Any]:
    """Return what other sections of the agent's settings say that the page has to know."""
    control = ControlSettings(**(found.get("control") or {}))
    known: dict[str, Any] = {
        "policy": found.get("site") or {},
        "courses": control.store.with_name(f"{control.store.stem}-exams.sqlite"),
    }
    if "requests" in found:
        known["requests"] = RequestSettings(**(found["requests"] or {})).folder
    return known


def _give_up(error: Exception) -> None:
    _terminal.print(f"[red]{type(error).__name__}[/red]", end=" ")
    _terminal.print(str(error), markup=False, highlight=False)
    raise typer.Exit(2) from None


@app.command()
def account(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who.")],
    role: Annotated[Role | None, typer.Option(help="Of the account.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the account away.")] = False,
) -> None:
    """Make an account, change it, or take it away. The password comes from standard input."""
    from agent.console.accounts import AccountError, Accounts
    from agent.console.app import ACCOUNTS

    accounts = Accounts(context.obj.folder / ACCOUNTS)
    if remove:
        if not accounts.remove(name):
            _give_up(AccountError(f"there is no account {name}"))
        return
    if role is None:
        raise typer.BadParameter("expected --role, one of " + ", ".join(Role))
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        accounts.put(name, role, password)
    except AccountError as error:
        _give_up(error)
    _terminal.print(f"{name} is {role}", highlight=False)


if __name__ == "__main__":
    app()
