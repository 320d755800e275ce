"""From the denoiser's checkpoint to its weights, measured on images which it never saw."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture

from engines.manifest import Limits
from engines.nets import build
from engines.training.denoiser import Recipe
from engines.training.export import describe, export
from engines.training.images import CleanImage, Images
from engines.training.loop import load

MOST_SIGMAS = 4.0
"""What the finished denoiser may take away from a pixel; training itself is not limited."""

HELD_OUT_SEED = 900_001
LEVELS = (5.0, 10.0, 20.0, 40.0)
COUNT = 12


def finish_denoiser(
    folder: Path, recipe: Recipe, version: str, held_out: Path | None, command: str
) -> Path:
    """Measure and export the latest checkpoint; returns the folder of the weights.

    Writes `report.md` and `report.png` (noisy, denoised, truth, residual in sigmas) beside the
    checkpoint.

    Raises
    ------
    ValueError
        There is no checkpoint.
    """
    kept = load(folder / "denoiser.pt")
    if kept is None:
        raise ValueError(f"{folder}: expected a checkpoint denoiser.pt, found none")
    architecture = {**recipe.architecture(), "limit": MOST_SIGMAS}
    module = build(architecture)
    module.load_state_dict(kept["averaged"])
    images = Images(HELD_OUT_SEED, held_out)
    metrics, picture = measure(module.eval(), [images[n] for n in range(COUNT)])
    rows = "\n".join(
        f"| {snr:g} | {m['noisy_psnr']:.2f} | {m['psnr']:.2f} | {m['residual']:.3f} |"
        f" {m['residual_correlation']:+.3f} |"
        for snr, m in metrics.items()
    )
    table = (
        "| SNR | PSNR noisy, dB | PSNR denoised, dB | residual, sigmas | residual, correlation of"
        f" neighbours |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )
    intro = (
        f"{COUNT} held-out synthetic images (seed {HELD_OUT_SEED}), 256 x 256, complex, white"
        " noise of known strength; PSNR of the magnitude against its 99th percentile.\n"
        "A residual that is all noise and nothing else has 1 sigma (less where noise is kept) and"
        " no correlation between neighbours.\n\n"
    )
    (folder / "report.md").write_text(f"# Denoiser {version}\n\n{intro}{table}")
    Picture.fromarray(picture).save(folder / "report.png")
    manifest = describe(
        "denoiser",
        version,
        "denoiser",
        architecture=architecture,
        limits=Limits(snr=(1.5, 100.0), sigma=(0.005, 2.0), side=(32, 2048)),
        training={
            "command": command,
            "steps_done": kept["step"],
            "recipe": asdict(recipe),
            "data": "random scenes and phantom images, made on the fly; noise maps of 1 to 5 times"
            " the base, white or correlated noise; 15 % magnitude images",
        },
        seed=recipe.seed,
        metrics={f"snr_{snr:g}": values for snr, values in metrics.items()},
    )
    target = folder / "denoiser" / version
    export(target, kept["averaged"], manifest, _card(version, recipe, kept, command, intro + table))
    return target


def measure(
    module: torch.nn.Module, images: list[CleanImage]
) -> tuple[dict[float, dict[str, float]], np.ndarray]:
    """Return metrics for each of `LEVELS`, and a montage, uint8 (y, x)."""
    metrics, rows = {}, []
    for snr in LEVELS:
        values = []
        for number, clean in enumerate(images):
            rng = np.random.default_rng((HELD_OUT_SEED, number))
            truth = clean.image
            noise = rng.standard_normal((*truth.shape, 2), np.float32).view(np.complex64)[..., 0]
            noisy = truth + noise / np.float32(snr)
            sigma = np.full(truth.shape, 1 / snr, np.float32)
            planes = torch.from_numpy(np.stack([noisy.real, noisy.imag, sigma])[None])
            with torch.no_grad():
                found = module(planes)[0].numpy()
            denoised = found[0] + 1j * found[1]
            residual = (noisy - denoised) * snr
            neighbours = np.mean((residual[1:] * residual[:-1].conj()).real)
            power = float(np.mean(np.abs(residual) ** 2))
            values.append(
                (
                    _psnr(noisy, truth),
                    _psnr(denoised, truth),
                    (power / 2) ** 0.5,
                    float(neighbours) / power,
                )
            )
            if number < 3 and snr == LEVELS[1]:
                parts = [np.abs(a) for a in (noisy, denoised, truth)]
                rows.append(np.hstack([*parts, np.abs(residual) / 4]))
        names = ("noisy_psnr", "psnr", "residual", "residual_correlation")
        mean = np.mean(values, axis=0).round(4)
        metrics[snr] = dict(zip(names, map(float, mean)))
    montage = np.clip(np.vstack(rows) * 200, 0, 255).astype(np.uint8)
    return metrics, montage


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    error = np.mean((np.abs(image) - np.abs(truth)) ** 2)
    return float(-10 * np.log10(max(error, 1e-12)))


def _card(version: str, recipe: Recipe, kept: dict[str, Any], command: str, measured: str) -> str:
    return f"""# Denoiser {version}

Takes the noise out of complex (or magnitude) MR images whose noise is known at every pixel. One
network for all contrasts, matrix sizes and noise levels: a U-Net without biases, so that scaling
an image and its noise map scales the result. It takes no more than {MOST_SIGMAS:g} sigmas away from
the real or imaginary part of a pixel.

## Made by

    {command}

{kept["step"]} of {recipe.steps} steps of {recipe.batch} crops of {recipe.crop} x {recipe.crop}
pixels, seed {recipe.seed}; weights averaged over the last steps. Trained on random scenes (dead
leaves with 1/f textures) and images of the digital phantom, complex, with noise maps as parallel
imaging makes them, white and correlated noise, SNR {recipe.snr[0]:g} to {recipe.snr[1]:g}.

## Measured

{measured}
## Limits and failures

Outside the manifest's limits images are passed on as they are. Where the noise map is too low,
noise stays; where it is too high, fine structure of low contrast is smoothed away. Structure below
the noise cannot be told from it and is lost. Artefacts (motion, aliasing, ringing) are not noise
and stay. Field strengths, vendors and sequences were not seen in training, for nothing measured
was.
"""
