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
from engines.nets.synthesis import SynthesisUNet
from engines.training.denoiser import plain
from engines.training.loop import Averaged, learning_rate, load, save
from engines.training.synth_data import TASKS, Example, Maker

CHECKPOINT_STEPS = 200
EDGES, ERROR = 0.5, 0.2
"""Weights of differences between neighbours, and of the predicted error, in the loss."""
PIXELS, FIRST_BATCH, FIRST_RATE = 1500, 2048, 1e-2
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
    first_examples, first_steps : int
        Of the training of the network's pointwise part alone, which comes first.
    """

    task: str
    seed: int = 1
    steps: int = 600
    batch: int = 4
    crop: int = 96
    peak_rate: float = 3e-3
    channels: tuple[int, ...] = (24, 40, 72)
    blocks: tuple[int, ...] = (1, 1, 2)
    first_examples: int = 160
    first_steps: int = 1500

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


def fit_pointwise(module: SynthesisUNet, maker: Maker, recipe: Recipe) -> None:
    """Train what the network makes of each pixel alone: cheap, and most of what can be learnt."""
    rng = np.random.default_rng((recipe.seed, 8))
    examples = [maker[number] for number in range(recipe.first_examples)]
    chosen = [rng.choice(one.body.size, PIXELS) for one in examples]
    signals, target, weight = (
        torch.from_numpy(
            np.concatenate(
                [one[part].reshape(len(one[part]), -1)[:, c] for one, c in zip(examples, chosen)],
                axis=1,
            )
        )
        for part in range(3)
    )
    own = [*module.local.parameters(), *module.usual.parameters()]
    optimiser = torch.optim.Adam(own, lr=FIRST_RATE)
    for step in range(recipe.first_steps):
        part = torch.from_numpy(rng.integers(signals.shape[1], size=FIRST_BATCH))
        for group in optimiser.param_groups:
            group["lr"] = FIRST_RATE * (1 - step / recipe.first_steps)
        made = module.pointwise(signals[None, :, None, part])[0, :, 0]
        off = (made - target[:, part]).abs() * weight[:, part]
        optimiser.zero_grad()
        (off.sum() / weight[:, part].sum()).backward()
        optimiser.step()


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
    assert isinstance(module, SynthesisUNet)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.peak_rate, weight_decay=1e-4)
    kept = load(path)
    if not kept:
        fit_pointwise(module, maker, recipe)
    averaged, start = Averaged(module, decay=0.99), 0
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
