"""Training of the denoiser: crops of clean images, noise of known strength, one network for all."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.nets import build
from engines.training.images import CleanImage, Images
from engines.training.loop import Averaged, Bank, learning_rate, load, read_weights, save
from engines.training.noise import complex_noise, sigma_map

CHECKPOINT_STEPS = 250


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, but the folder of images.

    Attributes
    ----------
    seed, steps, batch, crop : int
    peak_rate : float
    snr : tuple of 2 float
        99th percentile of the magnitude over the base of the noise map, log-uniform.
    channels, blocks : tuple of int
    """

    seed: int = 1
    steps: int = 22000
    batch: int = 16
    crop: int = 64
    peak_rate: float = 1e-3
    snr: tuple[float, float] = (2.5, 70.0)
    channels: tuple[int, ...] = (32, 64, 112)
    blocks: tuple[int, ...] = (1, 1, 2)

    def architecture(self) -> dict[str, Any]:
        return {
            "name": "bias-free-unet",
            "channels": list(self.channels),
            "blocks": list(self.blocks),
        }


def example(
    rng: np.random.Generator, clean: CleanImage, size: int, snr: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy planes (3, size, size) and clean planes (2, size, size), float32."""
    y, x = rng.integers(0, np.array(clean.image.shape) - size + 1)
    truth = clean.image[y : y + size, x : x + size]
    support = clean.support
    if rng.random() < 0.5:
        truth, support = truth.T, support[::-1]
    truth = truth[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    if rng.random() < 0.5:
        truth = truth.conj()
    truth = truth * np.complex64(np.exp(2j * np.pi * rng.random()))
    base = np.exp(-rng.uniform(*np.log(snr)))
    sigma = sigma_map(rng, size, float(base))
    noisy = truth + sigma * complex_noise(rng, size, support)
    if rng.random() < 0.15:
        # Magnitude images come as a real part alone; what is to be found is free of Rician bias.
        truth, noisy = np.abs(truth), np.abs(noisy)
    return np.stack([noisy.real, noisy.imag, sigma]), np.stack([truth.real, truth.imag])


def batch_of(
    bank: list[CleanImage], recipe: Recipe, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noisy and the clean planes of a step."""
    rng = np.random.default_rng((recipe.seed, 2, step))
    chosen = rng.integers(0, len(bank), recipe.batch)
    pairs = [example(rng, bank[number], recipe.crop, recipe.snr) for number in chosen]
    noisy, clean = (torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*pairs))
    return noisy.contiguous(memory_format=torch.channels_last), clean


def loss_of(denoised: torch.Tensor, clean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return the mean error of the complex pixels, high noise not counting more than low.

    Charbonnier, smooth at twice the noise, so that nearly all errors are counted by their square,
    and those of edges do not rule; divided by the square root of the noise level, as
    the error of a good denoiser grows slower than the noise.
    """
    level = sigma.mean(dim=(1, 2, 3), keepdim=True)
    square = ((denoised - clean) ** 2).sum(dim=1, keepdim=True)
    return (torch.sqrt(square + (2 * level) ** 2) / torch.sqrt(level)).mean()


def train(
    recipe: Recipe,
    folder: Path,
    images: Path | None,
    device: str,
    report: Callable[[int, float], None],
    weights: Path | None = None,
    bank_size: int = 400,
) -> dict[str, torch.Tensor]:
    """Train, or go on with a training; returns the averaged weights.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the checkpoint.
    images : Path or None
        As in `engines.training.images.Images`.
    device : str
    report : callable
        Is told every step and its loss.
    weights : Path or None
        Finished weights (`weights.npz`) to begin with; without them, random ones.
    bank_size : int
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    module = build(recipe.architecture()).to(device)
    if weights is not None:
        read_weights(weights, module)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.peak_rate, weight_decay=1e-4)
    averaged, start = Averaged(module), 0
    kept = load(folder / "denoiser.pt")
    if kept is not None:
        if kept["recipe"] != plain(recipe):
            raise ValueError(f"{folder}: holds a training with another recipe: {kept['recipe']}")
        module.load_state_dict(kept["module"])
        optimiser.load_state_dict(kept["optimiser"])
        averaged.state, start = kept["averaged"], kept["step"]
    bank = Bank(Images(recipe.seed, images), bank_size, every=8, start=start)
    try:
        for step in range(start, recipe.steps):
            noisy, clean = (part.to(device) for part in batch_of(bank.advance(step), recipe, step))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, recipe.steps, recipe.peak_rate)
            loss = loss_of(module(noisy), clean, noisy[:, 2:])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            averaged.update(module, step)
            report(step, float(loss.detach()))
            if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == recipe.steps:
                save(
                    folder / "denoiser.pt",
                    recipe=plain(recipe),
                    module=module.state_dict(),
                    optimiser=optimiser.state_dict(),
                    averaged=averaged.state,
                    step=step + 1,
                )
    finally:
        bank.close()
    return averaged.state


def plain(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain lists and numbers, which a checkpoint may hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}
