"""`boreside train`: makes the weights which are shipped, or a site's own. Needs PyTorch."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(no_args_is_help=True, help="Train the networks.")

Images = Annotated[
    Path | None, typer.Option(help="Folder of images (NumPy, NIfTI, fastMRI HDF5, pictures).")
]
HeldOut = Annotated[
    Path | None, typer.Option(help="Folder of images for the report, never trained on.")
]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints and the finished weights.")]
Version = Annotated[str, typer.Option(help="Of the finished weights.")]


StartFrom = Annotated[
    Path | None, typer.Option(help="Folder of finished weights of the same network to begin with.")
]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )


def command() -> str:
    return shlex.join(["boreside", *(word for word in sys.argv[1:] if word != "--finish")])


Seed = Annotated[int, typer.Option(help="Of everything random.")]
Steps = Annotated[int | None, typer.Option(help="Fewer for a trial.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]
Finish = Annotated[
    bool, typer.Option("--finish", help="Write weights of the latest checkpoint, train no more.")
]


def _weights(folder: Path | None) -> Path | None:
    return folder / "weights.npz" if folder else None


@contextmanager
def reporting(name: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    """Show the progress of a training: a bar on a terminal, a line every 100 steps elsewhere."""
    start, mean = time.monotonic(), 0.0
    with _progress() as progress:
        task = progress.add_task(name, total=steps, loss=0.0)

        def report(step: int, loss: float) -> None:
            nonlocal mean
            mean = loss if mean == 0 else 0.98 * mean + 0.02 * loss
            progress.update(task, completed=step + 1, loss=mean)
            if not progress.console.is_terminal and (step + 1) % 100 == 0:
                spent = time.monotonic() - start
                print(f"step {step + 1} loss {mean:.4f} {spent:.0f} s", flush=True)

        yield report


@app.command()
def denoiser(
    out: Out = Path("training"),
    images: Images = None,
    held_out: HeldOut = None,
    start_from: StartFrom = None,
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
    finish: Finish = False,
) -> None:
    """Train the denoiser; the same command goes on where it was interrupted."""
    import torch

    from engines.training.denoiser import Recipe, train
    from engines.training.finish import finish_denoiser

    torch.set_num_threads(threads)
    recipe = Recipe(seed=seed, steps=Recipe.steps if steps is None else steps)
    if not finish:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with reporting("denoiser", recipe.steps) as report:
            train(recipe, out, images, device, report, _weights(start_from))
    print(finish_denoiser(out, recipe, version, held_out, command()))


@app.command()
def recon(
    denoiser: Annotated[
        Path, typer.Option(help="Folder of the finished denoiser, or of an earlier reconstruction.")
    ],
    out: Out = Path("training"),
    images: Images = None,
    held_out: HeldOut = None,
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
) -> None:
    """Train the unrolled reconstruction; the same command goes on where it was interrupted."""
    import torch

    from engines.training.end_to_end import Recipe
    from engines.training.recon import make_recon

    torch.set_num_threads(threads)
    recipe = Recipe(seed=seed, steps=Recipe.steps if steps is None else steps)
    with reporting("recon", recipe.steps) as report:
        print(make_recon(denoiser, out, images, held_out, version, recipe, command(), report))


@app.command()
def labels(
    data: Annotated[Path, typer.Option(help="Folder of `boreside phantoms --labels`.")],
    out: Out = Path("training"),
    start_from: StartFrom = None,
    version: Version = "0.1",
    seed: Seed = 1,
    steps: Steps = None,
    threads: Threads = 2,
    finish: Finish = False,
) -> None:
    """Train the labelling of the spine; the same command goes on where it was interrupted."""
    import torch

    from engines.training.labels import Recipe, train
    from engines.training.labels_finish import finish_labels

    torch.set_num_threads(threads)
    recipe = Recipe(seed=seed, steps=Recipe.steps if steps is None else steps)
    if not finish:
        with reporting("labels", recipe.steps) as report:
            train(recipe, out, data, report, _weights(start_from))
    print(finish_labels(out, recipe, version, command()))


@app.command()
def triage(
    data: Annotated[Path, typer.Option(help="Folder of `boreside phantoms --exams`.")],
    out: Out = Path("training"),
) -> None:
    """Fit the numbers of triage; no network, no PyTorch."""
    from engines.engine import load_engine
    from gadgets.triage_fit import train

    with _progress() as progress:
        task = progress.add_task("triage", total=len(list(data.glob("*.npz"))), loss=0.0)
        path = train(
            data, out, load_engine("labels"), command(),
            lambda done: progress.update(task, completed=done),
        )  # fmt: skip
    print(path)
