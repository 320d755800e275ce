"""`boreside simulate`: simulated archives of recorded exams."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Simulated archives.")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    exams: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    prevalence: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Of disease beside an SI joint, in the imaged volume or not."
        ),
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same archive.")] = 1,
) -> None:
    """Write an archive of simulated lumbar exams: what triage said, and apart from it the truth."""
    from scanner.findings_archive import simulate as write

    try:
        write(out, exams, prevalence, seed)
    except FileExistsError:
        raise typer.BadParameter(f"{out} exists: name a new folder") from None
    print(f"{out}: {exams} simulated exams")
