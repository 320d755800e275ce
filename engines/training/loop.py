"""What both trainings share: checkpoints, learning rate, averaged weights, a bank of images.

Every random choice of step n depends on the seed and n alone, so that a training which was
interrupted goes on as if it had not been.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.training.images import CleanImage, Images


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 200) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to a hundredth."""
    rise = min(1.0, (step + 1) / warm_up)
    fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(1.0, step / steps))).item())
    return peak * rise * (0.01 + 0.99 * fall)


class Bank:
    """The images which training draws from: a window over the endless sequence of `Images`.

    Another process makes them, `every` steps one; the oldest goes.

    Parameters
    ----------
    images : Images
    size : int
        Images in the bank.
    every : int
        Steps per new image.
    start : int
        Step to begin with.
    """

    def __init__(self, images: Images, size: int, every: int, start: int = 0) -> None:
        self._every, self._first = every, start // every
        self._pool = ProcessPoolExecutor(1, initializer=be_nice)
        self._coming = self._numbers(images, size)
        self.images: list[CleanImage] = [next(self._coming) for _ in range(size)]

    def _numbers(self, images: Images, size: int) -> Iterator[CleanImage]:
        number, waiting = self._first, deque[Future[CleanImage]]()
        while True:
            while len(waiting) < 64:
                waiting.append(self._pool.submit(images.__getitem__, number))
                number += 1
            yield waiting.popleft().result()

    def advance(self, step: int) -> list[CleanImage]:
        """Return the images of a step; steps must come in order."""
        while self._first < step // self._every:
            self.images = [*self.images[1:], next(self._coming)]
            self._first += 1
        return self.images

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def be_nice() -> None:
    os.nice(5)
    torch.set_num_threads(1)


class Averaged:
    """Weights averaged over the last steps: better than any one of them."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.998) -> None:
        self._decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self._decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    self.state[name].lerp_(value, 1 - decay)
                else:
                    self.state[name].copy_(value)


def save(path: Path, **content: Any) -> None:
    """Write a checkpoint, whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's content, None where there is none yet."""
    if not path.is_file():
        return None
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def read_weights(path: Path, module: torch.nn.Module) -> None:
    """Give a module the weights of a finished network (`weights.npz`).

    Raises
    ------
    RuntimeError
        They are those of another architecture.
    """
    with np.load(path, allow_pickle=False) as arrays:
        module.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
