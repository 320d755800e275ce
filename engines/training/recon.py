"""The unrolled reconstruction from a trained denoiser: its training, its figures, its card."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from engines.manifest import Limits, parse_manifest
from engines.nets import build
from engines.store import arrays_of
from engines.training.end_to_end import START, Recipe, train
from engines.training.error_map import block_correlation
from engines.training.export import describe, export
from engines.training.images import Images
from engines.training.multicoil import Scan, scan
from engines.training.prepare import prepare
from engines.unrolled import Schedule, unrolled

MOST_SIGMAS = 4.0
"""What each step may take away from a pixel."""

FACTORS = (2, 3, 4, 6)
LEVELS = (5.0, 12.0, 40.0, 200.0)
HELD_OUT_SCANS = 4
"""Of each factor and level."""


def scans(images: Images, seed: int, first: int) -> list[Scan]:
    """Return one scan for each of `FACTORS` and `LEVELS`."""
    made = []
    for number, (factor, snr) in enumerate((f, s) for f in FACTORS for s in LEVELS):
        rng = np.random.default_rng((seed, 3, first + number))
        image = images[first + number].image[32:-32, 32:-32]
        made.append(scan(rng, image, int(rng.integers(6, 13)), factor, snr))
    return made


def error_of(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the relative root-mean-square error of the magnitude."""
    difference = np.abs(image) - np.abs(truth)
    return float(np.linalg.norm(difference) / np.linalg.norm(truth))


def reconstruct(
    one: Scan,
    prepared: tuple[np.ndarray, np.ndarray],
    module: torch.nn.Module,
    schedule: Schedule,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the image (1, y, x) and its predicted error, where the module predicts one."""
    latest: list[np.ndarray] = []

    def network(planes: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = module(torch.from_numpy(planes))
        if isinstance(found, tuple):
            latest[:] = [found[1][:, 0].numpy()]
            found = found[0]
        return np.asarray(found.numpy())

    image = unrolled(one.kspace, one.mask, one.maps, *prepared, network, schedule, threads=1)
    if not latest:
        return image, None
    scale = max(np.percentile(np.abs(prepared[0]), 99), np.median(prepared[1]))
    return image, np.exp(latest[0]) * np.float32(scale)


def measure(
    module: torch.nn.Module, schedule: Schedule, images: Images, seed: int
) -> dict[str, dict[str, float]]:
    """Return errors of SENSE and network, and how well the predicted error fits, by kind of scan.

    ``correlation`` is that of the predicted with the true error (of both, the root mean square over
    8 x 8 pixels); ``predicted`` is the ratio of their root mean squares.
    """
    found: dict[str, list[tuple[float, ...]]] = {}
    for repeat in range(HELD_OUT_SCANS):
        held = scans(images, seed, 1000 + 100 * repeat)
        for one, (factor, snr) in zip(held, ((f, s) for f in FACTORS for s in LEVELS)):
            ready = prepare(one)
            image, predicted = reconstruct(one, ready, module, schedule)
            assert predicted is not None
            true = np.abs(image - one.truth)[0] / 2**0.5
            row = (
                error_of(ready[0], one.truth),
                error_of(image, one.truth),
                block_correlation(true, predicted[0]),
                float(np.sqrt(np.mean(predicted**2) / np.mean(true**2))),
            )
            found.setdefault(f"r{factor}_snr_{snr:g}", []).append(row)
    names = ("sense", "nrmse", "correlation", "predicted")
    return {
        kind: {name: round(float(v), 5) for name, v in zip(names, np.mean(rows, axis=0))}
        for kind, rows in found.items()
    }


def make_recon(
    denoiser: Path,
    folder: Path,
    images: Path | None,
    held_out: Path | None,
    version: str,
    recipe: Recipe,
    command: str,
    report: Callable[[int, float], None],
) -> Path:
    """Train on from a denoiser or an earlier reconstruction, measure, export.

    Returns the folder of the weights.
    """
    source = parse_manifest((denoiser / "manifest.json").read_bytes())
    arrays = arrays_of((denoiser / "weights.npz").read_bytes())
    state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    folder.mkdir(parents=True, exist_ok=True)
    architecture = {**source.architecture, "uncertainty": True, "limit": MOST_SIGMAS}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    begin = Schedule.of(source.parameters) if source.kind == "regulariser" else START
    state, schedule = train(architecture, state, recipe, folder, images, device, report, begin)
    state = {name: value.cpu() for name, value in state.items()}
    module = build(architecture)
    module.load_state_dict(state)
    metrics = measure(module.eval(), schedule, Images(recipe.seed + 2000, held_out), recipe.seed)
    table = _table(metrics)
    (folder / "report-recon.md").write_text(f"# Reconstruction {version}\n\n{table}\n")
    training = {
        "command": command,
        "start": f"the weights of {source.name} {source.version}",
        "schedule": "trained with the network",
        "recipe": asdict(recipe),
    }
    manifest = describe(
        "recon",
        version,
        "regulariser",
        uncertainty=True,
        architecture=architecture,
        parameters={"sigma": schedule.sigma, "weight": schedule.weight},
        limits=Limits(
            snr=(1.5, 700.0),
            sigma=(0.0005, 4.0),
            side=(32, 2048),
            acceleration=(1, 8),
            coils=(2, 128),
        ),
        training=training,
        seed=recipe.seed,
        metrics=metrics,
    )
    target = folder / "recon" / version
    card = _card(version, source.label, schedule, recipe, command, table)
    export(target, state, manifest, card)
    return target


def _table(metrics: dict[str, dict[str, float]]) -> str:
    rows = [
        f"| {kind} | {m['sense']:.4f} | {m['nrmse']:.4f} | {m['correlation']:.2f} |"
        f" {m['predicted']:.2f} |"
        for kind, m in metrics.items()
    ]
    head = (
        "| scan | NRMSE of SENSE | NRMSE | error map: correlation | predicted over true error |",
        "| --- | --- | --- | --- | --- |",
    )
    return "\n".join((*head, *rows))


def _card(
    version: str, network: str, schedule: Schedule, recipe: Recipe, command: str, table: str
) -> str:
    return f"""# Reconstruction {version}

Undersampled Cartesian scans of several coils: starts from SENSE, then {len(schedule.sigma)} times
the network, with data consistency between (`engines/unrolled.py`). The network began as {network}
and was trained on end to end, through all steps. It also says, for every pixel, how large the rest
of the error is expected to be. Each step moves the real or imaginary part of a pixel by no more
than {MOST_SIGMAS:g} times the noise it is told of.

## Made by

    {command}

{recipe.steps} steps of {recipe.batch} scans of {recipe.window[0]} x {recipe.window[1]}, seed
{recipe.seed}: random smooth coils (5 to 12), R {recipe.factors[0]} to {recipe.factors[1]}, uniform
and random lines with 24 in the centre, partial Fourier, SNR {recipe.snr[0]:g} to
{recipe.snr[1]:g}. Trained with the network: the noise levels which it is told,
{schedule.sigma} of those of SENSE, and the weights of its images in the data consistency,
{schedule.weight}.

## Measured

Held-out synthetic scans with sensitivities known to 0.2 to 3 %, 192 x 192, {HELD_OUT_SCANS} of each
kind. The error map is compared with the true error over blocks of 8 x 8 pixels.

{table}

## Limits and failures

Takes sensitivities and noise map as given: where they are wrong (motion between calibration and
scan, field of view smaller than the object), aliasing stays, and the error map does not know of it.
Coherent aliasing of a SENSE that has broken down may stay or be smoothed. Structure below the noise
is lost. Sampling in two directions (3D) was not seen in training. Field strengths, vendors and
sequences were not seen in training, for nothing measured was.
"""
