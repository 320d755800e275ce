"""`boreside keys`: who may talk to the agent on the control channel."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="CURVE keys of the control channel.")
_errors = Console(stderr=True)

Folder = Annotated[Path, typer.Option(envvar="BORESIDE_CONTROL__KEYS", help="Folder of the keys.")]
DEFAULT_FOLDER = Path("keys")


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="A scanner's name [default: the agent].")] = "agent",
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Make the agent's pair of keys, or a scanner's, which is admitted at once.

    The scanner needs its secret key and the agent's public one. A vendor who makes the pair on the
    scanner sends the public key: put it into the folder `admitted`.
    """
    from agent.control_keys import ADMITTED, AGENT, KeyFileError
    from agent.control_keys import make as make_keys

    try:
        secret = make_keys(folder, name)
    except KeyFileError as error:
        _errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    print(f"secret key: {secret}")
    if name == AGENT:
        print(f"public key: {folder / AGENT}.key, for the scanners")
    else:
        print(f"admitted: {folder / ADMITTED / name}.key")
        print(f"Move the secret key to the scanner, with {folder / AGENT}.key.")


@app.command()
def show(folder: Folder = DEFAULT_FOLDER) -> None:
    """Show the public keys: the agent's, and those of the scanners that may connect."""
    from agent.control_keys import AGENT, KeyFileError, admitted, agent_pair

    try:
        print(agent_pair(folder)[0].decode(), AGENT)
    except KeyFileError as error:
        _errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    for key, name in admitted(folder).items():
        print(key.decode("ascii", "replace"), name, "(admitted)")
