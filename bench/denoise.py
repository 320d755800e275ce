"""Denoising: the network beside BM3D, non-local means and local PCA, all told the noise.

Complex images with white noise of known strength. BM3D and non-local means work on real and
imaginary part of one image. Local PCA works on a stack: four contrasts of a phantom, five
neighbouring slices of a volume; the first is judged. PSNR is of the magnitude.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.pictures import noise, pictures
from bench.rows import row
from engines.engine import Options, load_engine
from gadgets.denoise import mean_of_views, pad, usable_manifest

LEVELS = (5.0, 10.0, 20.0, 40.0)
"""99th percentile of the magnitude over the noise sigma per real channel."""

Denoiser = Callable[[np.ndarray, float], np.ndarray]


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Return rows of ``psnr`` and ``seconds`` for each image, noise level and peer."""
    engine = load_engine("denoiser", options=Options(threads=2))
    manifest = usable_manifest(engine, "denoiser")

    def ours(image: np.ndarray, sigma: float) -> np.ndarray:
        y, x = image.shape
        planes = np.stack([image.real, image.imag, np.full(image.shape, sigma, np.float32)])
        padded = pad(planes[None].astype(np.float32), manifest.multiple_of)
        found = mean_of_views(engine, padded)[0, :, :y, :x]
        return np.asarray(found[0] + 1j * found[1])

    rows = []
    for name, stack in pictures(1 if quick else 3).items():
        truth = stack[0]
        for level in LEVELS[1:2] if quick else LEVELS:
            sigma = 1 / level
            noisy_stack = stack + np.float32(sigma) * noise(1, stack.shape)
            noisy = noisy_stack[0]
            case = f"{name}, SNR {level:g}"
            ours(noisy, sigma)
            image, seconds = _timed(ours, noisy, sigma)
            quality = psnr(image, truth)
            rows.append(
                row("denoise", case, "psnr", quality, "noisy", psnr(noisy, truth), "higher", "dB")
            )
            for peer_name, peer in PEERS.items():
                try:
                    other, peer_seconds = _timed(
                        peer, noisy_stack if peer is local_pca else noisy, sigma
                    )
                    other_quality: float | None = psnr(other, truth)
                except ImportError:
                    other_quality = peer_seconds = None
                rows += [
                    row("denoise", case, "psnr", quality, peer_name, other_quality, "higher", "dB"),
                    row("denoise", case, "seconds", seconds, peer_name, peer_seconds, "lower", "s"),
                ]
    return rows


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of the magnitude, the peak being 1."""
    return float(-10 * np.log10(np.mean((np.abs(image) - np.abs(truth)) ** 2)))


def _timed(denoise: Denoiser, image: np.ndarray, sigma: float) -> tuple[np.ndarray, Any]:
    start = time.perf_counter()
    result = denoise(image, sigma)
    return result, time.perf_counter() - start


def _by_part(denoise: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    return np.asarray(denoise(image.real) + 1j * denoise(image.imag))


def bm3d(image: np.ndarray, sigma: float) -> np.ndarray:
    """Block matching and 3D filtering (Dabov et al., 2007), package bm3d."""
    import bm3d as package

    return _by_part(lambda part: package.bm3d(part.astype(np.float64), sigma), image)


def non_local_means(image: np.ndarray, sigma: float) -> np.ndarray:
    """Non-local means (Buades et al., 2005) with scikit-image's settings for known noise."""
    from skimage.restoration import denoise_nl_means

    def one(part: np.ndarray) -> np.ndarray:
        return np.asarray(
            denoise_nl_means(
                part, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, fast_mode=True
            )
        )

    return _by_part(one, image)


def local_pca(stack: np.ndarray, sigma: float, side: int = 5, stride: int = 2) -> np.ndarray:
    """Local PCA with the threshold of Marchenko and Pastur (Veraart et al., 2016), sigma known.

    Parameters
    ----------
    stack : complex64 (image, y, x)
    sigma : float
    side, stride : int
        Of the patches; overlapping ones are averaged.

    Returns
    -------
    complex64 (y, x)
        The first image.
    """
    count = len(stack)
    windows = np.lib.stride_tricks.sliding_window_view(stack, (side, side), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    ny, nx = windows.shape[1:3]
    patches = windows.transpose(1, 2, 0, 3, 4).reshape(ny, nx, count, side * side)
    limit = sigma * np.sqrt(2) * (side + np.sqrt(count))
    total = np.zeros(stack.shape[1:], np.complex64)
    weight = np.zeros(stack.shape[1:], np.float32)
    u, s, vh = np.linalg.svd(patches, full_matrices=False)
    first = ((u[..., 0, :] * np.where(s > limit, s, 0))[..., None, :] @ vh)[..., 0, :]
    first = first.reshape(ny, nx, side, side)
    for y in range(side):
        for x in range(side):
            here = (
                slice(y, y + stride * ny - stride + 1, stride),
                slice(x, x + stride * nx - stride + 1, stride),
            )
            total[here] += first[:, :, y, x]
            weight[here] += 1
    return np.where(weight > 0, total / np.maximum(weight, 1), stack[0])


PEERS: dict[str, Denoiser] = {
    "BM3D": bm3d,
    "NLM (scikit-image)": non_local_means,
    "local PCA (MP)": local_pca,
}
