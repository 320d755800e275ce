"""`boreside train`: makes the weights which are shipped, or a site's own. Needs PyTorch."""

import shlex
import sys
import time
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


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )


def _command() -> str:
    return shlex.join(["boreside", *(word for word in sys.argv[1:] if word != "--finish")])


@app.command()
def denoiser(
    out: Out = Path("training"),
    images: Images = None,
    held_out: HeldOut = None,
    version: Version = "0.1",
    seed: Annotated[int, typer.Option()] = 1,
    steps: Annotated[int | None, typer.Option(help="Fewer for a trial.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    finish: Annotated[
        bool, typer.Option("--finish", help="Write weights of the latest checkpoint, train no more")
    ] = False,
) -> None:
    """Train the denoiser; the same command goes on where it was interrupted."""
    import torch

    from engines.training.denoiser import Recipe, train

    torch.set_num_threads(threads)
    recipe = Recipe(seed=seed, steps=Recipe.steps if steps is None else steps)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not finish:
        start, mean = time.monotonic(), 0.0
        with _progress() as progress:
            task = progress.add_task("denoiser", total=recipe.steps, loss=0.0)

            def report(step: int, loss: float) -> None:
                nonlocal mean
                mean = loss if mean == 0 else 0.98 * mean + 0.02 * loss
                progress.update(task, completed=step + 1, loss=mean)
                if not progress.console.is_terminal and (step + 1) % 100 == 0:
                    spent = time.monotonic() - start
                    print(f"step {step + 1} loss {mean:.4f} {spent:.0f} s", flush=True)

            train(recipe, out, images, device, report)
    from engines.training.finish import finish_denoiser

    print(finish_denoiser(out, recipe, version, held_out, _command()))


@app.command()
def recon(
    denoiser: Annotated[Path, typer.Option(help="Folder of the finished denoiser.")],
    out: Out = Path("training"),
    held_out: HeldOut = None,
    version: Version = "0.1",
    seed: Annotated[int, typer.Option()] = 1,
    images: Images = None,
) -> None:
    """Make the unrolled reconstruction around a denoiser: find its schedule on synthetic scans."""
    from engines.training.recon import make_recon

    print(make_recon(denoiser, out, images, held_out, version, seed, _command()))
