"""Reconstruction by the unrolled network beside compressed sensing in BART, from the same k-space.

Simulated scans of phantoms that were never trained on, and of real images where there are any:
loops around the object, white noise, uniform undersampling with 24 calibration lines. Both estimate
their own sensitivities. BART's `pics` with l1-wavelet gets the best of five regularisation weights,
chosen by its error against the truth, which nobody has in practice.
"""

import time
from typing import Any

import numpy as np

from bench import bart
from bench.pictures import noise, pictures
from bench.rows import row
from bench.simulated import multicoil, sampling
from engines.engine import Engine, Options, load_engine
from engines.unrolled import Schedule, unrolled
from gadgets.coil_maps import espirit
from gadgets.fft import fftc
from gadgets.gfactor import noise_map
from gadgets.sense import sense

FACTORS, LEVELS = (2, 3, 4, 6), (5.0, 12.0, 40.0)
WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1)
CALIBRATION = 24


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows of ``nrmse``, ``ssim`` and ``seconds``."""
    engine = load_engine("recon", options=Options(threads=2))
    rows = [_speed(engine, 1 if quick else 5)]
    for name, stack in pictures(0 if quick else 2).items():
        truth = stack[0]
        for factor in FACTORS[2:3] if quick else FACTORS:
            for level in LEVELS[1:2] if quick else LEVELS:
                case = f"{name}, R = {factor}, SNR {level:g}"
                rows += _quality(engine, truth, case, factor, level)
    return rows


def scan(truth: np.ndarray, coils: int, factor: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return hybrid k-space, complex64 (coil, kz, ky, x), and its mask, bool (kz, ky)."""
    maps = multicoil(coils, (1, *truth.shape), np.inf).maps
    kspace = fftc((maps * (level * truth)).astype(np.complex64), (-2,))
    kspace = kspace + noise(2, kspace.shape)
    mask = sampling(truth.shape[0], 1, (factor, 1), CALIBRATION)
    return (kspace * mask[None, :, :, None]).astype(np.complex64), mask


def ours(engine: Engine, kspace: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image, complex64 (y, x): sensitivities, SENSE, noise map, network."""
    assert engine.manifest is not None
    first = kspace.shape[2] // 2 - CALIBRATION // 2
    maps = espirit(kspace[:, :, first : first + CALIBRATION], (1, *kspace.shape[2:]))
    start = sense(kspace, mask, maps)
    schedule = Schedule.of(engine.manifest.parameters)
    image: np.ndarray = unrolled(
        kspace,
        mask,
        maps,
        start,
        noise_map(mask, maps),
        engine.run,
        schedule,
        multiple_of=engine.manifest.multiple_of,
    )
    return image[0]


def _for_bart(kspace: np.ndarray) -> np.ndarray:
    """Return k-space in bart's order: readout, phase encoding, partition, coil."""
    return np.asarray(fftc(kspace, (-1,)).transpose(3, 2, 1, 0))


def _pics(kspace: np.ndarray, maps: np.ndarray, weight: float) -> tuple[np.ndarray, float]:
    image, seconds = bart.run(
        "pics", "-S", "-i50", f"-RW:7:0:{weight:g}", "kspace", "maps", kspace=kspace, maps=maps
    )
    return image.reshape(image.shape[:2]).T, seconds


def _ecalib(kspace: np.ndarray) -> tuple[np.ndarray, float]:
    return bart.run("ecalib", "-m1", f"-r{CALIBRATION}", "kspace", kspace=kspace)


def _quality(
    engine: Engine, truth: np.ndarray, case: str, factor: int, level: float
) -> list[dict[str, Any]]:
    kspace, mask = scan(truth, 12, factor, level)
    mine = quality(ours(engine, kspace, mask) / level, truth)
    peer: tuple[float, float] | tuple[None, None] = (None, None)
    if bart.available():
        data = _for_bart(kspace)
        maps, _ = _ecalib(data)
        results = [quality(_pics(data, maps, weight)[0] / level, truth) for weight in WEIGHTS]
        peer = min(r[0] for r in results), max(r[1] for r in results)
    name = "bart pics l1-wavelet, best of 5"
    return [
        row("recon_dl", case, "nrmse", mine[0], name, peer[0], "lower", ""),
        row("recon_dl", case, "ssim", mine[1], name, peer[1], "higher", ""),
    ]


def quality(image: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return NRMSE and SSIM of the magnitude."""
    from skimage.metrics import structural_similarity

    found, true = np.abs(image), np.abs(truth)
    error = float(np.linalg.norm(found - true) / np.linalg.norm(true))
    return error, float(structural_similarity(found, true, data_range=float(true.max())))


def _speed(engine: Engine, repeats: int) -> dict[str, Any]:
    """320 x 320, 16 coils, R = 4, from whitened k-space to the denoised image, with maps."""
    image = pictures(1)["phantom 1"][0]
    kspace, mask = scan(image, 16, 4, 20.0)
    data = _for_bart(kspace)
    mine, peer = [], []
    ours(engine, kspace, mask)
    for _ in range(repeats):
        start = time.perf_counter()
        ours(engine, kspace, mask)
        mine.append(time.perf_counter() - start)
        if bart.available():
            maps, first = _ecalib(data)
            peer.append(first + _pics(data, maps, 0.01)[1])
    case = "320 x 320, 16 coils, R = 4, maps included"
    theirs = float(np.median(peer)) if peer else None
    return row(
        "recon_dl",
        case,
        "seconds",
        float(np.median(mine)),
        "bart ecalib + pics",
        theirs,
        "lower",
        "s",
    )
