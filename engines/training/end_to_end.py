"""End-to-end training of the unrolled reconstruction, from the denoiser's weights on.

What the denoiser learnt of noise is right for white noise; what is left of undersampling is not
white. So the network is trained on through all steps of `engines.unrolled`, data consistency
included (Aggarwal et al., MoDL, IEEE Trans Med Imaging 38 (2019) 394), and so are the few numbers
of its `Schedule`. At the same time it learns
how large its own error is, by the likelihood of a normal distribution (Kendall and Gal, NeurIPS
2017); that does not change the image.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.nets import build
from engines.training.denoiser import plain
from engines.training.images import Images
from engines.training.loop import Averaged, be_nice, learning_rate, load, save
from engines.training.multicoil import Scan, scan
from engines.training.prepare import prepare
from engines.unrolled import BRIGHT_PERCENTILE, Schedule, adjoint, solved

CHECKPOINT_STEPS = 100
AHEAD = 8
"""Steps whose scans are made before they are needed."""

START = Schedule(sigma=(0.8, 0.6, 0.4), weight=(1.0, 2.0))
"""The schedule to begin with after a denoiser."""

NUMBERS_RATE = 20.0
"""Learning rate of its numbers, over that of the network."""

STRONG = 3e-3
"""Error which counts as much as noise, as a part of the signal."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, but the denoiser and the folder of images.

    Attributes
    ----------
    seed, steps, batch : int
    peak_rate : float
    window : tuple of 2 int
        ky and x of the scans: whole along ky, for that is where lines are left out.
    factors : tuple of 2 int
        Least and most of the undersampling.
    snr : tuple of 2 float
        Log-uniform.
    """

    seed: int = 1
    steps: int = 1500
    batch: int = 4
    peak_rate: float = 2e-4
    window: tuple[int, int] = (192, 64)
    factors: tuple[int, int] = (1, 7)
    snr: tuple[float, float] = (4.0, 700.0)


def example(recipe: Recipe, images: Images, step: int) -> list[tuple[Scan, np.ndarray, np.ndarray]]:
    """Return the scans of a step with their SENSE images and noise maps."""
    rng = np.random.default_rng((recipe.seed, 4, step))
    coils, (ny, nx), made = int(rng.integers(5, 13)), recipe.window, []
    for place in range(recipe.batch):
        image = images[(step * recipe.batch + place) // 2].image
        y, x = (int(rng.integers(n - size + 1)) for n, size in zip(image.shape, (ny, nx)))
        factor = int(rng.integers(recipe.factors[0], recipe.factors[1] + 1))
        snr = float(np.exp(rng.uniform(*np.log(recipe.snr))))
        one = scan(rng, image[y : y + ny, x : x + nx], coils, factor, snr)
        made.append((one, *prepare(one)))
    return made


def examples(recipe: Recipe, images: Images, start: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the scans of each step as tensors (batch, ...); another process makes them."""
    pool = ProcessPoolExecutor(1, initializer=be_nice)
    waiting: deque[Future[Any]] = deque()
    try:
        for step in range(start, recipe.steps + AHEAD):
            if step < recipe.steps:
                waiting.append(pool.submit(example, recipe, images, step))
            if step >= start + AHEAD:
                yield tensors(waiting.popleft().result())
    finally:
        pool.shutdown(cancel_futures=True)


def tensors(made: list[tuple[Scan, np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Return scans as a batch: maps (coil, batch, y, x), sampled (batch, ky, 1) with its centre
    at 0, all else (batch, y, x)."""

    def stack(parts: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.stack(list(parts))))

    sampled = [np.fft.ifftshift(one.mask[0]).astype(np.float32) for one, *_ in made]
    return {
        "truth": stack(one.truth[0] for one, *_ in made),
        "maps": stack(one.maps[:, 0] for one, *_ in made).swapaxes(0, 1).contiguous(),
        "sampled": stack(sampled)[..., None],
        "right": stack(adjoint(one.kspace, one.mask, one.maps)[0] for one, *_ in made),
        "start": stack(image[0] for _, image, _ in made),
        "noise": stack(noise[0] for *_, noise in made),
    }


def forward(
    module: torch.nn.Module, batch: dict[str, torch.Tensor], schedule: Schedule
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images (batch, y, x), the logarithm of their error, and the scale of the latter."""
    start, noise = batch["start"], batch["noise"]
    magnitude = start.abs().flatten(1)
    bright, top = torch.quantile(
        magnitude, magnitude.new_tensor([BRIGHT_PERCENTILE / 100, 0.99]), dim=1
    )
    object_noise = noise.flatten(1).masked_fill(magnitude < bright[:, None], torch.nan)
    sigma = object_noise.nanmedian(dim=1).values
    scale = torch.maximum(top, sigma)[:, None, None]
    image, log_error = start, noise
    for step, level in enumerate(schedule.sigma):
        planes = torch.stack([image.real, image.imag, noise * level], dim=1) / scale[:, None]
        denoised, log_error = module(planes.contiguous(memory_format=torch.channels_last))
        image = torch.complex(denoised[:, 0], denoised[:, 1]) * scale
        if step < len(schedule.weight):
            weight = (schedule.weight[step] / sigma**2)[:, None, None]
            image = solved(image, batch["right"], batch["sampled"], batch["maps"], weight)
    return image, log_error[:, 0], scale


def schedule_of(numbers: Any) -> Schedule:
    """Return the schedule of noise levels and weights in one row."""
    count = len(START.sigma)
    return Schedule(tuple(numbers[:count]), tuple(numbers[count:]))


def loss_of(
    image: torch.Tensor, log_error: torch.Tensor, scale: torch.Tensor, batch: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the error of the images, in SNR units, and the likelihood of the predicted errors."""
    difference = image - batch["truth"]
    square = difference.real**2 + difference.imag**2
    # Of a strong signal more than the noise is wrong, and cannot all be put right.
    level = batch["noise"].mean(dim=(1, 2), keepdim=True) + STRONG * scale
    error = torch.sqrt(square + (0.5 * level) ** 2) / torch.sqrt(level)
    seen = square.detach() / 2 / scale**2
    return error.mean(), (log_error + seen / 2 * torch.exp(-2 * log_error)).mean()


def train(
    architecture: dict[str, Any],
    state: dict[str, torch.Tensor],
    recipe: Recipe,
    folder: Path,
    images: Path | None,
    device: str,
    report: Callable[[int, float], None],
    begin: Schedule = START,
) -> tuple[dict[str, torch.Tensor], Schedule]:
    """Train, or go on with a training; returns the averaged weights and the schedule.

    Parameters
    ----------
    architecture : dict
        With ``uncertainty``.
    state : dict
        The weights to begin with: a denoiser's, or an earlier reconstruction's.
    recipe : Recipe
    folder : Path
        Of the checkpoint.
    images : Path or None
    device : str
    report : callable
        Is told every step and its loss.
    begin : Schedule
        The schedule to begin with.
    """
    torch.manual_seed(recipe.seed)
    module = build(architecture)
    module.load_state_dict(state, strict=False)
    module = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    numbers = torch.nn.Parameter(torch.tensor([*begin.sigma, *begin.weight], device=device).log())
    rates = {0: 1.0, 1: NUMBERS_RATE}
    groups: list[dict[str, Any]] = [
        {"params": list(module.parameters())},
        {"params": [numbers], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
    averaged, start, described = Averaged(module, decay=0.99), 0, plain(recipe)
    kept = load(folder / "recon.pt")
    if kept is not None:
        if kept["recipe"] != described:
            raise ValueError(f"{folder}: holds a training with another recipe: {kept['recipe']}")
        module.load_state_dict(kept["module"])
        optimiser.load_state_dict(kept["optimiser"])
        averaged.state, start = kept["averaged"], kept["step"]
        numbers.data.copy_(kept["numbers"])
    for step, batch in enumerate(
        examples(recipe, Images(recipe.seed + 3000, images), start), start
    ):
        batch = {name: part.to(device) for name, part in batch.items()}
        rate = learning_rate(step, recipe.steps, recipe.peak_rate, warm_up=50)
        for place, group in enumerate(optimiser.param_groups):
            group["lr"] = rate * rates[place]
        image, log_error, scale = forward(module, batch, schedule_of(numbers.exp()))
        error, likelihood = loss_of(image, log_error, scale, batch)
        optimiser.zero_grad()
        (error + likelihood).backward()
        torch.nn.utils.clip_grad_norm_([*module.parameters(), numbers], 1.0)
        optimiser.step()
        averaged.update(module, step)
        report(step, float(error.detach()))
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == recipe.steps:
            save(
                folder / "recon.pt",
                recipe=described,
                module=module.state_dict(),
                optimiser=optimiser.state_dict(),
                averaged=averaged.state,
                numbers=numbers.detach(),
                step=step + 1,
            )
    return averaged.state, schedule_of(
        [round(value, 4) for value in numbers.detach().exp().tolist()]
    )
