"""`boreside train stir|ct|enhancement`: the networks of synthetic contrasts. Needs PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from agent.train_cli import Finish, Out, Seed, Steps, Threads, Version, app, command, reporting

Data = Annotated[Path, typer.Option(help="Folder of `boreside phantoms --synthesis`.")]


@app.command()
def stir(
    data: Data,
    out: Out = Path("training"),
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
    finish: Finish = False,
) -> None:
    """Train synthetic STIR; the same command goes on where it was interrupted."""
    _train("stir", data, out, version, seed, steps, threads, finish)


@app.command()
def ct(
    data: Data,
    out: Out = Path("training"),
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
    finish: Finish = False,
) -> None:
    """Train synthetic CT; the same command goes on where it was interrupted."""
    _train("ct", data, out, version, seed, steps, threads, finish)


@app.command()
def enhancement(
    data: Data,
    out: Out = Path("training"),
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
    finish: Finish = False,
) -> None:
    """Train virtual enhancement; the same command goes on where it was interrupted."""
    _train("enhancement", data, out, version, seed, steps, threads, finish)


def _train(
    task: str,
    data: Path,
    out: Path,
    version: str,
    seed: int,
    steps: int | None,
    threads: int,
    finish: bool,
) -> None:
    import torch

    from engines.training.synth import Recipe, train
    from engines.training.synth_finish import finish_synthesis

    torch.set_num_threads(threads)
    recipe = Recipe(task, seed=seed, steps=Recipe.steps if steps is None else steps)
    if not finish:
        with reporting(task, recipe.steps) as report:
            train(recipe, out, data, report)
    print(finish_synthesis(out, data, recipe, version, command()))
