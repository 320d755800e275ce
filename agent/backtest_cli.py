"""`boreside backtest`: what a protocol's triggers would have done in an archive of exams."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from agent.protocol_cli import DEFAULT_SITE, Site

if TYPE_CHECKING:
    from agent.backtest_judge import Judged
    from agent.backtest_numbers import Proportion
    from protocols.exam import ExamProtocol

app = typer.Typer(help="What a protocol's triggers would have done.")
_console = Console()
_errors = Console(stderr=True)


@app.command()
def backtest(
    protocol: Annotated[str, typer.Argument(help="Protocol: its name, or a file.")],
    archive: Annotated[Path, typer.Argument(help="Folder of recorded exams.")],
    against: Annotated[
        str | None, typer.Option(help="Another protocol to compare with: its name, or a file.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster: its address, auto, or local to start one here."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine [default: its cores].")
    ] = None,
    accepts: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of questions that are accepted.")
    ] = 1.0,
    out: Annotated[
        Path, typer.Option(help="Report; the numbers are written beside it as JSON.")
    ] = Path("backtest.html"),
    site: Site = DEFAULT_SITE,
) -> None:
    """Replay recorded exams through a protocol's triggers, and write a report."""
    from agent.backtest import BacktestError
    from agent.backtest import backtest as run
    from agent.backtest_report import report
    from agent.fleet import FleetError
    from agent.replay import Answers
    from protocols.archive import ArchiveError

    if out.suffix == ".json":
        raise typer.BadParameter(f"{out}: expected the name of an HTML file; JSON goes beside it")
    protocols = [_protocol(name, site) for name in (protocol, against) if name]
    count = workers or len(os.sched_getaffinity(0))
    try:
        result = run(protocols, archive, count, ray, Answers(accepts=accepts))
    except (ArchiveError, BacktestError, FleetError) as error:
        _errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    out.write_text(report(result, archive))
    numbers = out.with_suffix(".json")
    numbers.write_text(result.model_dump_json(indent=1) + "\n")
    _print(list(result.protocols))
    _console.print(f"{out} and {numbers} written", highlight=False)


def _protocol(name: str, site: Path) -> "ExamProtocol":
    from protocols import exam_library
    from protocols.exam_file import ProtocolError, load

    try:
        if name.endswith((".yaml", ".yml")):
            return load(Path(name))
        found = exam_library.library(site)
    except (ProtocolError, OSError) as error:
        _errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    if name not in found:
        _errors.print(
            f"no protocol {name}, expected a file or one of {', '.join(found)}",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(2)
    return found[name].protocol


def _print(protocols: "list[Judged]") -> None:
    table = Table("", *(judged.name for judged in protocols))
    rows = (
        ("exams", lambda j: str(j.exams)),
        ("sensitivity", lambda j: _rate(j.sensitivity)),
        ("specificity", lambda j: _rate(j.specificity)),
        ("abstained", lambda j: _rate(j.abstained)),
        ("scans in 100 exams", lambda j: f"{j.asks_per_100:.1f}"),
        ("minutes added to an exam", lambda j: f"{j.minutes_per_exam:.2f}"),
        ("minutes for each true positive", lambda j: _or_none(j.minutes_per_true_positive)),
        ("area under the ROC curve", lambda j: _or_none(j.auc)),
    )
    for name, cell in rows:
        table.add_row(name, *(cell(judged) for judged in protocols))
    _console.print(table)


def _rate(of: "Proportion") -> str:
    if of.value is None or of.low is None or of.high is None:
        return "no such exams"
    return f"{of.value:.3f} ({of.low:.3f}-{of.high:.3f}, {of.count} of {of.of})"


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
