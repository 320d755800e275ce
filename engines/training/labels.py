"""Training of the labelling network: crops of labelled slices in random contrasts."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from engines.nets import build
from engines.training.denoiser import plain
from engines.training.labels_data import CLASSES, MARKS, Example, Patient, example, read_patient
from engines.training.loop import Averaged, learning_rate, load, read_weights, save

CHECKPOINT_STEPS = 100
_AHEAD = 32
_CLASS_WEIGHTS = (0.8, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5)


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, but the folder of patients.

    Attributes
    ----------
    seed, steps, batch : int
    crop : tuple of 2 int
        Rows and columns.
    peak_rate : float
    channels : tuple of int
    """

    seed: int = 1
    steps: int = 2000
    batch: int = 8
    crop: tuple[int, int] = (192, 144)
    peak_rate: float = 3e-3
    channels: tuple[int, ...] = (24, 40, 72, 120)

    def architecture(self) -> dict[str, Any]:
        return {
            "name": "label-unet",
            "classes": len(CLASSES),
            "marks": len(MARKS),
            "channels": list(self.channels),
        }


class Maker:
    """Example number n of a seed, always the same for the same files."""

    def __init__(self, folder: Path, seed: int, crop: tuple[int, int]) -> None:
        self._files = sorted(folder.glob("*.npz"))
        if not self._files:
            raise ValueError(f"{folder}: expected the files of `boreside phantoms --labels`")
        self._seed, self._crop = seed, crop
        self._patients: dict[int, Patient] = {}

    def __getitem__(self, number: int) -> Example:
        rng = np.random.default_rng((self._seed, 5, number))
        which = int(rng.integers(len(self._files)))
        if which not in self._patients:
            if len(self._patients) > 300:
                self._patients.clear()
            self._patients[which] = read_patient(self._files[which])
        patient = self._patients[which]
        return example(rng, patient, int(rng.integers(patient.slices)), self._crop)


_maker: Maker | None = None


def _start(maker: Maker) -> None:
    global _maker
    _maker = maker
    torch.set_num_threads(1)


def _make(number: int) -> Example:
    assert _maker is not None
    return _maker[number]


def examples(maker: Maker, first: int) -> Iterator[Example]:
    """Yield examples from number ``first`` on, without end; another process makes them."""
    with ProcessPoolExecutor(1, initializer=_start, initargs=(maker,)) as pool:
        waiting: deque[Future[Example]] = deque()
        for number in count(first):
            waiting.append(pool.submit(_make, number))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()


def loss(found: torch.Tensor, batch: Example) -> torch.Tensor:
    """Return the loss of logits (batch, classes + marks, y, x): cross-entropy, Dice, heat maps."""
    classes, heat, near = (torch.as_tensor(part) for part in batch[1:])
    odds, marks = found[:, : len(CLASSES)], found[:, len(CLASSES) :]
    weights = torch.tensor(_CLASS_WEIGHTS)
    entropy = functional.cross_entropy(odds, classes.long(), weights)
    part = torch.softmax(odds, dim=1)[:, 1:]
    truth = functional.one_hot(classes.long(), len(CLASSES)).permute(0, 3, 1, 2)[:, 1:].float()
    over = (0, 2, 3)
    dice = (2 * (part * truth).sum(over) + 50) / ((part + truth).sum(over) + 50)
    points = functional.binary_cross_entropy_with_logits(
        marks[:, :-1], heat[:, :-1], weight=1 + 15 * heat[:, :-1]
    )
    doubt = functional.binary_cross_entropy_with_logits(marks[:, -1], heat[:, -1], weight=near)
    return entropy + (1 - dice).mean() + 10 * points + 6 * doubt / (near.mean() + 1e-2)


def train(
    recipe: Recipe,
    out: Path,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    weights: Path | None = None,
) -> Path:
    """Train, or go on from the checkpoint that is there; returns the last checkpoint.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Folder of the checkpoint `labels.pt`.
    folder : Path
        Files of `boreside phantoms --labels`.
    report : callable
        Called with each step and its loss.
    weights : Path or None
        Finished weights (`weights.npz`) to begin with; without them, random ones.

    Raises
    ------
    ValueError
        There are no such files, or the checkpoint is of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "labels.pt"
    torch.manual_seed(recipe.seed)
    module = build(recipe.architecture())
    if weights is not None:
        read_weights(weights, module)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.peak_rate, weight_decay=1e-3)
    averaged, start = Averaged(module, decay=0.99), 0
    kept = load(path)
    if kept:
        if kept["recipe"] != plain(recipe):
            raise ValueError(f"{path}: expected the recipe {recipe}, found {kept['recipe']}")
        module.load_state_dict(kept["module"])
        optimiser.load_state_dict(kept["optimiser"])
        averaged.state, start = kept["averaged"], kept["step"]
    module.train()
    coming = examples(Maker(folder, recipe.seed, recipe.crop), start * recipe.batch)
    for step in range(start, recipe.steps):
        batch = Example(*map(np.stack, zip(*(next(coming) for _ in range(recipe.batch)))))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe.steps, recipe.peak_rate, warm_up=50)
        found = module.logits(torch.from_numpy(batch.image))  # type: ignore[operator]
        value = loss(found, batch)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
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
