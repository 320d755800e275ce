"""The command `boreside`: the agent's commands and the virtual scanner's, put together.

Nothing heavy is imported before a command runs: the agent's port must be bound within a second.
"""

from typing import Annotated

import typer

import agent.audit_cli
import agent.backtest_cli
import agent.cli
import agent.console.cli
import agent.doctor_cli
import agent.drain_cli
import agent.keys_cli
import agent.protocol_cli
import agent.requests_cli
import agent.train_cli
import agent.train_synthesis_cli  # adds its commands to those of agent.train_cli
import scanner.archive_cli
import scanner.cli

app = typer.Typer(no_args_is_help=True, help="The agent beside the scanner bore.")
app.add_typer(agent.cli.app)
app.add_typer(scanner.cli.app)
app.add_typer(agent.backtest_cli.app)
app.add_typer(scanner.archive_cli.app)
app.add_typer(agent.train_cli.app, name="train")
app.add_typer(agent.protocol_cli.app, name="protocol")
app.add_typer(agent.audit_cli.app, name="audit")
app.add_typer(agent.keys_cli.app, name="keys")
app.add_typer(agent.doctor_cli.app)
app.add_typer(agent.drain_cli.app)
app.add_typer(agent.console.cli.app, name="console")
app.add_typer(agent.requests_cli.app, name="request")


@app.command()
def gadget(
    port: Annotated[int, typer.Argument(help="Port of the Gadgetron, or to listen on.")],
    target: Annotated[str, typer.Argument(help="recon, images or passthrough.")] = "recon",
    listen: Annotated[
        bool, typer.Option("--listen", help="Wait for Gadgetrons instead of connecting to one.")
    ] = False,
    address: Annotated[str, typer.Option(help="Of the Gadgetron, or to listen on.")] = "localhost",
) -> None:
    """Be an external gadget of a Gadgetron."""
    from agent.gadgetron import gadget as run

    run(port, target, listen, address)


if __name__ == "__main__":
    app()
