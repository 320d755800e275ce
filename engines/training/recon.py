"""The unrolled reconstruction around a trained denoiser: finds its schedule on synthetic scans.

The network is the denoiser's, unchanged. What is found are the noise levels which it is told in
each step and the weights of its images in the data consistency, by coordinate search.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.fft
import torch

from engines.manifest import Limits, parse_manifest
from engines.nets import build
from engines.store import arrays_of
from engines.training.export import describe, export
from engines.training.images import Images
from engines.training.multicoil import Scan, scan
from engines.unrolled import Schedule, adjoint, consistent, unrolled

STEPS = 3
FACTORS = (2, 3, 4, 6)
LEVELS = (5.0, 12.0, 30.0)


def scans(images: Images, seed: int, first: int) -> list[Scan]:
    """Return one scan for each of `FACTORS` and `LEVELS`."""
    made = []
    for number, (factor, snr) in enumerate((f, s) for f in FACTORS for s in LEVELS):
        rng = np.random.default_rng((seed, 3, first + number))
        image = images[first + number].image[32:-32, 32:-32]
        made.append(scan(rng, image, int(rng.integers(6, 13)), factor, snr))
    return made


def prepare(one: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return the SENSE image and its noise map, complex64 and float32 (1, y, x).

    Noise by pseudo-replicas (Robson et al., Magn Reson Med 60 (2008) 895).
    """
    weight = 2e-3
    right = adjoint(one.kspace, one.mask, one.maps)
    zero = np.zeros_like(right)
    start = consistent(zero, right, one.mask, one.maps, weight, 1, iterations=12)
    rng = np.random.default_rng(0)
    variance = np.zeros(right.shape, np.float32)
    for _ in range(6):
        noise = rng.standard_normal((*one.kspace.shape, 2), np.float32).view(np.complex64)[..., 0]
        part = adjoint(noise * one.mask[None, :, :, None], one.mask, one.maps)
        part = consistent(zero, part, one.mask, one.maps, weight, 1, iterations=12)
        variance += np.abs(part) ** 2 / 12
    ky, kx = (np.fft.fftfreq(n) for n in right.shape[1:])
    blur = np.exp(-2 * (np.pi * 3) ** 2 * (ky[:, None] ** 2 + kx[None] ** 2))
    smooth = scipy.fft.ifft2(scipy.fft.fft2(variance) * blur).real
    return start, np.sqrt(np.maximum(smooth, 1e-3)).astype(np.float32)


def error_of(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the relative root-mean-square error of the magnitude."""
    difference = np.abs(image) - np.abs(truth)
    return float(np.linalg.norm(difference) / np.linalg.norm(truth))


def search(evaluate: Callable[[Schedule], float], rounds: int = 2) -> tuple[Schedule, float]:
    """Return the best schedule found, and its value."""
    values = [1.0, 0.6, 0.4, 1.0, 2.0]

    def schedule(v: list[float]) -> Schedule:
        return Schedule(tuple(v[:STEPS]), tuple(v[STEPS:]))

    best = evaluate(schedule(values))
    for number in range(rounds):
        ratio = 1.6 if number == 0 else 1.25
        for place in range(len(values)):
            for direction in (1 / ratio, ratio):
                while True:
                    tried = [v * direction if k == place else v for k, v in enumerate(values)]
                    found = evaluate(schedule(tried))
                    if found >= best - 1e-5:
                        break
                    values, best = tried, found
    return schedule([round(v, 4) for v in values]), best


def make_recon(
    denoiser: Path,
    folder: Path,
    images: Path | None,
    held_out: Path | None,
    version: str,
    seed: int,
    command: str,
) -> Path:
    """Find the schedule, measure, export; returns the folder of the weights."""
    source = parse_manifest((denoiser / "manifest.json").read_bytes())
    arrays = arrays_of((denoiser / "weights.npz").read_bytes())
    state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    module = build(source.architecture)
    module.load_state_dict(state)
    module.eval()

    def network(planes: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(planes)).numpy())

    def run(one: Scan, prepared: tuple[np.ndarray, np.ndarray], schedule: Schedule) -> np.ndarray:
        return np.asarray(
            unrolled(one.kspace, one.mask, one.maps, *prepared, network, schedule, threads=1)
        )

    tuning = scans(Images(seed + 1000, images), seed, 0)
    prepared = [prepare(one) for one in tuning]
    start = [error_of(ready[0], one.truth) for one, ready in zip(tuning, prepared)]

    def evaluate(schedule: Schedule) -> float:
        errors = [
            error_of(run(one, ready, schedule), one.truth) for one, ready in zip(tuning, prepared)
        ]
        return float(np.mean(np.log(np.array(errors) / start)))

    schedule, _ = search(evaluate)
    held = scans(Images(seed + 2000, held_out), seed, 1000)
    rows, metrics = [], {}
    for one, (factor, snr) in zip(held, ((f, s) for f in FACTORS for s in LEVELS)):
        ready = prepare(one)
        before, after = (
            error_of(image, one.truth) for image in (ready[0], run(one, ready, schedule))
        )
        metrics[f"r{factor}_snr_{snr:g}"] = {"sense": round(before, 5), "nrmse": round(after, 5)}
        rows.append(f"| {factor} | {snr:g} | {before:.4f} | {after:.4f} |")
    table = "| R | SNR | NRMSE of SENSE | NRMSE |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report-recon.md").write_text(f"# Reconstruction {version}\n\n{table}\n")
    manifest = describe(
        "recon",
        version,
        "regulariser",
        architecture=source.architecture,
        parameters={"sigma": schedule.sigma, "weight": schedule.weight},
        limits=Limits(
            snr=(1.5, 200.0),
            sigma=(0.002, 4.0),
            side=(32, 2048),
            acceleration=(1, 8),
            coils=(2, 128),
        ),
        training={
            "command": command,
            "network": f"{source.name} {source.version}, unchanged",
            "schedule": "coordinate search on 12 synthetic scans",
        },
        seed=seed,
        metrics=metrics,
    )
    target = folder / "recon" / version
    export(target, state, manifest, _card(version, source.label, schedule, command, table))
    return target


def _card(version: str, network: str, schedule: Schedule, command: str, table: str) -> str:
    return f"""# Reconstruction {version}

Undersampled Cartesian scans of several coils: starts from SENSE, then {len(schedule.sigma)} times
the network, with data consistency between (`engines/unrolled.py`). The network is {network},
unchanged; it was not trained end to end.

## Made by

    {command}

Noise levels {schedule.sigma}, weights {schedule.weight}, found by coordinate search on 12
synthetic scans with random smooth coils (6 to 12), R 2 to 6, uniform and random lines, partial
Fourier, SNR {LEVELS[0]:g} to {LEVELS[-1]:g}.

## Measured

Held-out synthetic scans with true sensitivities, 192 x 192, one of each kind:

{table}

## Limits and failures

Takes sensitivities and noise map as given: where they are wrong (motion between calibration and
scan, field of view smaller than the object), aliasing stays. Coherent aliasing of a SENSE that has
broken down is not noise and is not removed. Structure below the noise is lost. There is no error
map. Field strengths, vendors and sequences were not seen in training, for nothing measured was.
"""
