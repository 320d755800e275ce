"""``python -m agent.console --folder EVENTS``: the page alone."""

from agent.console.cli import app

app()
