"""Reconstruction by the unrolled network beside compressed sensing in BART, from the same k-space.

Simulated scans of phantoms that were never trained on, and of real images where there are any:
loops around the object, white noise, uniform undersampling with 24 calibration lines. Both estimate
their own sensitivities; ours is the gadget `ReconstructDL` as shipped. BART's `pics` with
l1-wavelet gets the best of five regularisation weights, chosen by its error against the truth,
which nobody has in practice. NRMSE and SSIM are of the magnitude over the whole image.

``error_map_correlation`` has no peer: it is the correlation of the error which the network predicts
with the true one, over blocks of 8 x 8 pixels.
"""

import time
from typing import Any

import numpy as np

from bench import bart
from bench.pictures import noise, pictures
from bench.rows import row
from bench.simulated import multicoil, sampling
from engines.engine import Engine, Options, load_engine
from engines.training.error_map import block_correlation
from gadgets import fft
from gadgets.items import Frame, FrameKey, Image
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from protocols.mrd_types import ACQUISITION_HEADER

FACTORS, LEVELS = (2, 3, 4, 6), (5.0, 12.0, 40.0)
WEIGHTS = (0.003, 0.012, 0.05, 0.2, 0.8)
CALIBRATION = 24
THREADS = 2


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows of ``nrmse``, ``ssim``, ``error_map_correlation`` and ``seconds``.

    Raises
    ------
    engines.errors.EngineUnavailable
        There is no network.
    """
    engine = load_engine("recon", options=Options(threads=THREADS))
    before = fft.threads()
    fft.set_threads(THREADS)
    try:
        rows = [_speed(engine, 1 if quick else 5)]
        for name, stack in pictures(1).items():
            for factor in FACTORS[2:3] if quick else FACTORS:
                for level in LEVELS[1:2] if quick else LEVELS:
                    case = f"{name}, R = {factor}, SNR {level:g}"
                    rows += _quality(engine, stack[0], case, factor, level)
        return rows
    finally:
        fft.set_threads(before)


def scan(truth: np.ndarray, coils: int, factor: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return k-space, complex64 (coil, kz, ky, kx), and its mask, bool (kz, ky)."""
    maps = multicoil(coils, (1, *truth.shape), np.inf).maps
    kspace = fft.fftc((maps * (level * truth)).astype(np.complex64), (-2, -1))
    kspace = kspace + noise(2, kspace.shape)
    mask = sampling(truth.shape[0], 1, (factor, 1), CALIBRATION)
    return (kspace * mask[None, :, :, None]).astype(np.complex64), mask


def ours(gadget: Reconstruct, kspace: np.ndarray, mask: np.ndarray) -> Image:
    """Return the image of a gadget: transform along the readout, maps, SENSE, network."""
    frame = Frame(
        kspace=fft.ifftc(kspace, (-1,)),
        mask=mask,
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=np.zeros(1, ACQUISITION_HEADER)[0],
        readout_mask=np.ones(kspace.shape[3], bool),
        snr_units=True,
    )
    image: Image = next(iter(gadget(iter([frame]))))
    return image


def _for_bart(kspace: np.ndarray) -> np.ndarray:
    """Return k-space in bart's order: readout, phase encoding, partition, coil."""
    return np.ascontiguousarray(kspace.transpose(3, 2, 1, 0))


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
    image = ours(ReconstructDL(engine), kspace, mask)
    if any("fallback" in entry for entry in image.history):
        raise RuntimeError(f"{case}: not by the network: {image.history}")
    mine = quality(image.data[0] / level, truth)
    sense = quality(ours(Reconstruct(), kspace, mask).data[0] / level, truth)
    peers: dict[str, tuple[float | None, float | None]] = {"Boreside SENSE": sense}
    best: tuple[float | None, float | None] = (None, None)
    if bart.available():
        data = _for_bart(kspace)
        maps, _ = _ecalib(data)
        results = [quality(_pics(data, maps, weight)[0] / level, truth) for weight in WEIGHTS]
        best = min(r[0] for r in results), max(r[1] for r in results)
    peers["bart pics l1-wavelet, best of 5"] = best
    rows = [
        row("recon_dl", case, measure, mine[place], name, peer[place], better, "")
        for name, peer in peers.items()
        for place, (measure, better) in enumerate((("nrmse", "lower"), ("ssim", "higher")))
    ]
    error = np.abs(np.abs(image.data[0]) - np.abs(level * truth))
    correlation = block_correlation(error, image.noise_map[0])
    return [
        *rows,
        row("recon_dl", case, "error_map_correlation", correlation, "none", None, "higher", ""),
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
    gadget, mine, peer = ReconstructDL(engine), [], []
    ours(gadget, kspace, mask)
    for _ in range(repeats):
        start = time.perf_counter()
        ours(gadget, kspace, mask)
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
