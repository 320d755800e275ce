"""``python -m bench NAME [--quick] [--json FILE]``: one benchmark, Boreside beside its peers.

Every row is ``{"bench", "case", "measure", "ours", "peer_name", "peer", "ratio", "better",
"unit"}``; a ratio above 1 means that we are better; a peer which is not installed is null.
Results are written to ``bench/results/NAME.json`` and ``NAME.md``, which say how they were made.
"""

import importlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.rows import COLUMNS, as_markdown

RESULTS = Path(__file__).parent / "results"


class Name(StrEnum):
    """The benchmarks."""

    INGEST = "ingest"
    LATENCY = "latency"
    SENSE = "sense"
    MEMORY = "memory"
    DENOISE = "denoise"
    RECON_DL = "recon_dl"
    RECON_GPU = "recon_gpu"
    LABELS = "labels"
    TRIAGE = "triage"
    BACKTEST = "backtest"
    WATERFAT = "waterfat"
    SYNTH_MR = "synth_mr"
    SYNTH_STIR = "synth_stir"
    SYNTH_CT = "synth_ct"
    ENHANCEMENT = "enhancement"
    COVERAGE = "coverage"
    CONSOLE = "console"
    WAY_OUT = "way_out"
    CRASH = "crash"
    FUZZ = "fuzz"
    SOAK = "soak"
    OVERLOAD = "overload"


def main(
    name: Name,
    quick: Annotated[bool, typer.Option(help="At most a minute; fewer cases.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write rows here.")] = None,
) -> None:
    """Run one benchmark and print its rows."""
    rows = importlib.import_module(f"bench.{name}").run(quick)
    table = Table(*COLUMNS, title=f"{name}: ratio > 1 means Boreside is better")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in COLUMNS))
    Console(width=None).print(table)
    text = json.dumps(rows, indent=1) + "\n"
    if json_file:
        json_file.write_text(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text)
    (RESULTS / f"{name}.md").write_text(as_markdown(name, rows, quick))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


if __name__ == "__main__":
    typer.run(main)
