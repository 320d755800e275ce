"""Training of the networks of synthetic contrasts: STIR, CT, enhancement."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.nets import build
from engines.training.denoiser import plain
from engines.training.loop import Averaged, learning_rate, load, save
from engines.training.synth_data import TASKS, Example, Maker

CHECKPOINT_STEPS = 200
EDGES, ERROR = 0.5, 0.2
"""Weights of differences between neighbours, and of the predicted error, in the loss."""
_AHEAD = 32


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, but the folder of patients.

    Attributes
    ----------
    task : str
        Of `engines.training.synth_data.TASKS`.
    seed, steps, batch : int
    crop : int
        Pixels of a side.
    peak_rate : float
    channels, blocks : tuple of int
    """

    task: str
    seed: int = 1
    steps: int = 1200
    batch: int = 4
    crop: int = 96
    peak_rate: float = 3e-3
    channels: tuple[int, ...] = (24, 40, 72)
    blocks: tuple[int, ...] = (1, 1, 2)

    def architecture(self) -> dict[str, Any]:
        return {
            "name": "synthesis-unet",
            "inputs": len(TASKS[self.task].channels),
            "channels": list(self.channels),
            "blocks": list(self.blocks),
        }


_maker: Maker | None = None


def _start(maker: Maker) -> None:
    global _maker
    _maker = maker
    torch.set_num_threads(1)


def _make(number: int) -> Example:
    assert _maker is not None
    return _maker[number]


def _examples(maker: Maker, first: int) -> Iterator[Example]:
    """Yield examples from number ``first`` on, without end; another process makes them."""
    with ProcessPoolExecutor(1, initializer=_start, initargs=(maker,)) as pool:
        waiting: deque[Future[Example]] = deque()
        for number in count(first):
            waiting.append(pool.submit(_make, number))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()


def loss(made: torch.Tensor, log_scale: torch.Tensor, batch: Example) -> torch.Tensor:
    """Return the loss of a batch: differences, those of edges, and the Laplace likelihood."""
    target, weight = (torch.as_tensor(part) for part in batch[1:3])
    off = made - target
    total = weight.sum()
    value = (off.abs() * weight).sum() / total
    for axis in (-1, -2):
        least = torch.minimum(
            weight.narrow(axis, 1, weight.shape[axis] - 1),
            weight.narrow(axis, 0, weight.shape[axis] - 1),
        )
        value = value + EDGES * (torch.diff(off, dim=axis).abs() * least).sum() / total
    unlikely = off.detach().abs() * torch.exp(-log_scale) + log_scale
    return value + ERROR * (unlikely * weight).sum() / total


def train(
    recipe: Recipe,
    out: Path,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Train, or go on from the checkpoint that is there; returns the last checkpoint.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Folder of the checkpoint, `<task>.pt`.
    folder : Path
        Files of `boreside phantoms --synthesis`.
    report : callable
        Called with each step and its loss.

    Raises
    ------
    ValueError
        There are no such files, or the checkpoint is of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{recipe.task}.pt"
    maker = Maker(folder, recipe.task, recipe.seed, recipe.crop)
    torch.manual_seed(recipe.seed)
    module = build(recipe.architecture())
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.peak_rate, weight_decay=1e-4)
    averaged, start = Averaged(module, decay=0.99), 0
    kept = load(path)
    if kept:
        if kept["recipe"] != plain(recipe):
            raise ValueError(f"{path}: expected the recipe {recipe}, found {kept['recipe']}")
        module.load_state_dict(kept["module"])
        optimiser.load_state_dict(kept["optimiser"])
        averaged.state, start = kept["averaged"], kept["step"]
    module.train()
    coming = _examples(maker, start * recipe.batch)
    for step in range(start, recipe.steps):
        batch = Example(*map(np.stack, zip(*(next(coming) for _ in range(recipe.batch)))))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe.steps, recipe.peak_rate, warm_up=50)
        made, log_scale = module(torch.from_numpy(batch.planes))
        value = loss(made, log_scale, batch)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        averaged.update(module, step)
        report(step, float(value.detach()))
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == recipe.steps:
            save(
                path,
                recipe=plain(recipe),
                step=step + 1,
                module=module.state_dict(),
                averaged=averaged.state,
                optimiser=optimiser.state_dict(),
            )
    coming.close()  # type: ignore[attr-defined]
    return path
