"""The command `boreside`: the agent's commands and the virtual scanner's, put together."""

import typer

import agent.cli
import agent.train_cli
import scanner.cli
import scanner.phantom_images

app = typer.Typer(no_args_is_help=True, help="The agent beside the scanner bore.")
app.add_typer(agent.cli.app)
app.add_typer(scanner.cli.app)
agent.train_cli.app.command()(scanner.phantom_images.phantoms)
app.add_typer(agent.train_cli.app, name="train")

if __name__ == "__main__":
    app()
