"""Image quality of a series, which is a finding too: noise, motion, fat, fold-over, cut-off.

All from magnitudes, by published measures where there are any. The reference ranges are those of
simulated lumbar exams (`scanner.motion`, `scanner.faults`): what they say of patients' images was
not measured. Research only.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gadgets.fft import threads
from gadgets.items import LabelMap, Series
from gadgets.sampling import within
from protocols.findings import Quality

LEAST_SNR = 3.0
MOST_MOTION = 0.8
MOST_BRIGHT_FAT = 0.15
"""Beyond these a series is not usable."""

MOST_SLICES = 7
"""Evenly spaced slices that are looked at for motion: bounds the time."""
_TILE_MM, _GRID_MM, _SMOOTH_MM = 32.0, 1.5, 1.5
_ENTROPY = {"t1": (0.953, 0.968), "t2": (0.947, 0.965), "stir": (0.949, 0.964)}
_ENTROPY["t2_fs"] = _ENTROPY["stir"]
_OTHER_ENTROPY = (0.962, 0.975)
"""Of still patients (the largest), and of those who breathe 10 mm or jerk 8 mm (the median)."""

_SKIN_MM, _FAT_MM, _REFERENCE_MM = 6.0, 12.0, (20.0, 45.0)
_BRIGHT = 5.0
"""Subcutaneous fat so many times as bright as the tissue deep beside it is not suppressed; it lies
nearer to the coils, and beside bright skin."""
_FAT_SUPPRESSED = frozenset({"stir", "t2_fs"})
_LUMBAR = tuple(f"L{n}" for n in range(1, 7))


def quality(series: Series, labels: LabelMap | None) -> Quality:
    """Judge the image quality of a series.

    Parameters
    ----------
    series : Series
    labels : LabelMap or None
        On the voxels of the series. Without them signal stands for the vertebral bodies, and
        nothing is said of cut-off levels.

    Returns
    -------
    Quality
        Not ``usable`` where SNR, motion or failed fat suppression pass their limits; that anatomy
        folds over or is cut off is said, and leaves the rest of the images usable.
    """
    data = np.nan_to_num(series.data, posinf=0.0, neginf=0.0)
    patient = _patient(data, series)
    if not patient.any():
        return Quality(
            series=series.name, snr=0, motion=0, usable=False, reason="there is no signal"
        )
    snr = signal_to_noise(series, labels, patient)
    moved = motion(data, series, patient)
    failed = None
    if series.weighting in _FAT_SUPPRESSED:
        failed = bright_fat(data, series, patient)
    reasons = []
    if snr < LEAST_SNR:
        reasons.append(f"SNR {snr:.1f} below {LEAST_SNR:g}")
    if moved > MOST_MOTION:
        reasons.append(f"motion {moved:.2f} above {MOST_MOTION:g}")
    if failed is not None and failed > MOST_BRIGHT_FAT:
        reasons.append(f"{100 * failed:.0f} % of the subcutaneous fat is not suppressed")
    return Quality(
        series=series.name,
        snr=snr,
        motion=moved,
        fat_suppression_failed=failed,
        wrapped=wrapped(data),
        cut_off=labels is not None and cut_off(labels),
        usable=not reasons,
        reason="; ".join(reasons) or None,
    )


def signal_to_noise(series: Series, labels: LabelMap | None, signal: NDArray[np.bool_]) -> float:
    """Return the median SNR over the vertebral bodies, or over signal where they are not known.

    Of fat-suppressed series it is that over signal, always: healthy fatty marrow is dark there.
    Noise is that of the series' noise map; where there is none it is estimated from the finest
    diagonal details (Donoho and Johnstone, Biometrika 1994;81:425), which holds for images that
    were not interpolated.
    """
    where = signal
    of_bodies = series.weighting not in _FAT_SUPPRESSED
    if of_bodies and labels is not None and labels.labels.shape == series.data.shape:
        numbers = [k for k, name in enumerate(labels.names) if name in _LUMBAR]
        inside = np.isin(labels.labels, numbers)
        where = inside if inside.any() else signal
    if series.noise is not None:
        known = where & (series.noise > 0)
        if known.any():
            return float(np.median(series.data[known] / series.noise[known]))
    d = series.data
    details = (d[:, :-1, :-1] - d[:, 1:, :-1] - d[:, :-1, 1:] + d[:, 1:, 1:]) / 2
    among = details[where[:, :-1, :-1]]
    sigma = float(np.median(np.abs(among))) / 0.6745 if among.size else 0.0
    return float(np.median(d[where])) / sigma if sigma > 0 else 0.0


def motion(data: NDArray[np.float32], series: Series, signal: NDArray[np.bool_]) -> float:
    """Return how much ghosts and blurring there are, 0 to 1.

    Normalised gradient entropy, the measure that McGee et al. (J Magn Reson Imaging 2000;11:174)
    found to follow observers best: sharp images hold their gradients in few pixels, ghosts spread
    them. It is taken within tiles of 32 mm, at a fixed resolution, so that neither the shading of
    coils nor the field of view counts, and of the half of the tiles that show most; their median
    lies between that of simulated
    patients who keep still, 0, and of those who move much, 1.
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, min(MOST_SLICES, len(data))).round())
    found = [_tiles(data[z], signal[z], series) for z in chosen.astype(int)]
    entropies, strengths = (np.concatenate(parts) for parts in zip(*found))
    if not entropies.size:
        return 0.0
    entropies = entropies[strengths >= np.median(strengths)]
    still, moving = _ENTROPY.get(series.weighting, _OTHER_ENTROPY)
    return float(np.clip((np.median(entropies) - still) / (moving - still), 0, 1))


def _tiles(
    image: NDArray[np.float32], signal: NDArray[np.bool_], series: Series
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the gradient entropy of each tile within the patient, and its mean gradient."""
    pixel = series.volume.spacing[1::-1]
    sigma = np.sqrt(np.maximum(_SMOOTH_MM**2 - (0.4 * pixel) ** 2, 0)) / pixel
    smooth = ndimage.zoom(ndimage.gaussian_filter(image, sigma), pixel / _GRID_MM, order=1)
    inside = ndimage.zoom(signal.astype(np.float32), pixel / _GRID_MM, order=0)
    size = int(_TILE_MM / _GRID_MM)
    if min(smooth.shape) < size:
        return np.zeros(0), np.zeros(0)
    gradient = np.hypot(*np.gradient(smooth.astype(np.float64)))
    logs = np.log(gradient, out=np.zeros_like(gradient), where=gradient > 0)
    total, weighted, share = (
        _tile_means(values, size) for values in (gradient, gradient * logs, inside)
    )
    full = (share > 0.9) & (total > 0)
    total, weighted, count = total[full], weighted[full], size**2
    return (np.log(count * total) - weighted / total) / np.log(count), total


def _tile_means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the means of tiles which overlap by half."""
    start, step = size // 2, size // 2
    means = ndimage.uniform_filter(values, size)
    return np.asarray(means[start : -start or None : step, start : -start or None : step])


def bright_fat(
    data: NDArray[np.float32], series: Series, signal: NDArray[np.bool_]
) -> float | None:
    """Return the fraction of subcutaneous fat that is bright; None where no skin is in view.

    It is looked for where fat is most often, 6 to 12 mm below the surface (what is none counts as
    dark), and compared with what lies 20 to 45 mm deep beside it.
    """
    pixel = series.volume.spacing[1::-1]
    counts = _each_slice(lambda image, inside: _bright_fat(image, inside, pixel), data, signal)
    bright, among = (sum(numbers) for numbers in zip(*counts))
    return bright / among if among else None


def _bright_fat(
    image: NDArray[np.float32], inside: NDArray[np.bool_], pixel: NDArray[np.float64]
) -> tuple[int, int]:
    """Return how many pixels of a slice's subcutaneous fat are bright, and of how many."""
    solid = np.pad(inside, 1, mode="edge")
    depth = ndimage.distance_transform_edt(solid, pixel)[1:-1, 1:-1]
    layer = inside & (depth > _SKIN_MM) & (depth < _FAT_MM)
    deep = (inside & (depth > _REFERENCE_MM[0]) & (depth < _REFERENCE_MM[1])).astype(np.float32)
    sigma = 20.0 / pixel
    weight = np.maximum(_blurred(deep, sigma), 1e-6)
    logs = np.log(np.maximum(image, 1e-6 * image.max(initial=0) + 1e-12))
    beside = np.exp(_blurred(deep * logs, sigma) / weight)
    layer &= weight > 0.02
    return int((layer & (image > _BRIGHT * beside)).sum()), int(layer.sum())


def wrapped(data: NDArray[np.float32]) -> bool:
    """Return whether anatomy folds over along the phase direction (y).

    An image of which nothing was cut off along y goes on from its last row to its first. Where
    there is signal at both, that is anatomy that folds over. (Phase oversampling that was too
    little is not seen so.)
    """
    first, last = data[:, 0], data[:, -1]
    level = np.median(data[data > 0.1 * data.max()]) if data.any() else 0.0
    edge = np.minimum(ndimage.uniform_filter1d(first, 5), ndimage.uniform_filter1d(last, 5))
    there = edge > 0.3 * level
    if there.mean() < 0.05:
        return False
    across = np.abs(first - last)[there].sum()
    beside = (np.abs(data[:, 1] - first) + np.abs(last - data[:, -2]))[there].sum() / 2
    return bool(across < 2.0 * beside)


def cut_off(labels: LabelMap) -> bool:
    """Return whether a sagittal series ends before the upper end of L1 or the lower end of S1.

    Where one of them was not found, it is expected in line with those that were.
    """
    volume, marks = labels.volume, labels.landmarks
    if abs(volume.directions[2][0]) < 0.7:
        return False
    chain = [marks[name] for name in (*_LUMBAR, "S1") if name in marks]
    if len(chain) < 2:
        return False
    known = [name for name in (*_LUMBAR, "S1") if name in marks]
    upper = chain[0] + 0.5 * (chain[0] - chain[1])
    lower = chain[-1] + 0.5 * (chain[-1] - chain[-2])
    if known[0] != "L1":
        upper = upper + (chain[0] - chain[1]) * _LUMBAR.index(known[0])
    if known[-1] != "S1":
        missing = max(1, 5 - _LUMBAR.index(known[-1]))
        lower = lower + (chain[-1] - chain[-2]) * missing
    middle = volume.point((volume.shape[0] - 1) / 2, 0, 0)
    normal = volume.directions[2]
    ends = np.stack([end + ((middle - end) @ normal) * normal for end in (upper, lower)])
    return not bool(within(volume, ends).all())


def _blurred(image: NDArray[np.float32], sigma: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a slice blurred by a wide Gaussian: as products, which is faster than filtering."""
    rows, columns = (_gaussian(n, float(width)) for n, width in zip(image.shape, sigma))
    return np.asarray(rows @ image.astype(np.float32) @ columns.T)


@lru_cache(maxsize=8)
def _gaussian(n: int, sigma: float) -> NDArray[np.float32]:
    """Return the matrix of SciPy's Gaussian filter along an axis of n pixels."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0), np.float32)


def _each_slice(function: Callable[..., Any], *stacks: Iterable[Any]) -> list[Any]:
    """Return what a function gives of each slice; some beside each other, for SciPy waits not."""
    with ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(function, *stacks))


def _patient(data: NDArray[np.float32], series: Series) -> NDArray[np.bool_]:
    """Return where the patient is, bool (z, y, x): filled in each slice, the largest part of it."""
    pixel = series.volume.spacing[1::-1]
    noise = np.zeros(len(data))
    if series.noise is not None:
        noise = np.median(series.noise, axis=(1, 2))
    return np.stack(_each_slice(lambda image, sigma: _outline(image, sigma, pixel), data, noise))


def _outline(
    image: NDArray[np.float32], noise: float, pixel: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where the patient is in a slice, bool (y, x)."""
    smooth = ndimage.gaussian_filter(image, 1.5 / pixel)
    if not smooth.any():
        return np.zeros(image.shape, bool)
    least = max(0.05 * np.percentile(smooth, 90), 2.0 * float(noise))
    # Beside bright fat, its ringing is no tissue.
    around = np.maximum(0.25 * _blurred(image, 12.0 / pixel), least)
    reach = max(1, round(6.0 / float(pixel.min())))
    solid = np.pad(smooth > around, 2 * reach, mode="edge")
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(solid, None, reach))
    solid = solid[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    parts, count = ndimage.label(ndimage.binary_opening(solid, None, reach))
    if not count:
        return np.zeros(image.shape, bool)
    sizes = ndimage.sum_labels(solid, parts, range(1, count + 1))
    return np.asarray(parts == 1 + int(np.argmax(sizes)))
