"""The command `boreside`: the agent's commands and the virtual scanner's, put together."""

import typer

import agent.cli
import scanner.cli

app = typer.Typer(no_args_is_help=True, help="The agent beside the scanner bore.")
app.add_typer(agent.cli.app)
app.add_typer(scanner.cli.app)

if __name__ == "__main__":
    app()
