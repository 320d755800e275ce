"""What the scanner's console shows: a bar while a measurement runs, and a table of what came."""

import os
import sys
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from protocols.mrd import Message
from protocols.mrd_types import ImageMessage, ReadoutBlock
from scanner.client import Address, Received, stream


def open_browser(url: str) -> None:
    """Open a page where there is a screen for it."""
    if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        webbrowser.open(url)


def scan(
    console: Console,
    address: Address,
    name: str,
    messages: Iterable[Message],
    readouts: int | None = None,
    pace: float | None = None,
) -> Received:
    """Stream one measurement (see `scanner.client.stream`) under progress bars.

    Parameters
    ----------
    console : rich.console.Console
    address : Address
    name : str
    messages : iterable of Message
    readouts : int or None
        How many there will be, where that is known.
    pace : float or None
    """
    columns = TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        out = progress.add_task(f"{name}: readouts", total=readouts)
        back = progress.add_task(f"{name}: images", total=None)

        def on_item(item: Message) -> None:
            if isinstance(item, ReadoutBlock):
                progress.advance(out, len(item))
            elif isinstance(item, ImageMessage):
                progress.advance(back)

        try:
            return stream(address, messages, on_item, pace)
        finally:
            for task in progress.tasks:
                progress.update(task.id, total=task.completed)


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*map(str, row))
    return made


def middle_and_worst(
    values: Sequence[float], digits: int = 0, worst: Callable[..., float] = max
) -> tuple[str, str]:
    """Return median and worst of values for a table; dashes where there are none."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-", "-"
    return f"{np.median(known):.{digits}f}", f"{worst(known):.{digits}f}"
