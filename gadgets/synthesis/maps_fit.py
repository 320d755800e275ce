"""Relaxation times of voxels by non-linear least squares, each on its own and all at once.

A coarse dictionary finds where to start; Levenberg-Marquardt steps with the proton density
projected out (variable projection: Golub and Pereyra, Inverse Problems 19 (2003) R1-R26; Kaufman's
approximation of it) go on from there on a table of exact signals (`gadgets.synthesis.maps_signal`).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from gadgets.fft import threads
from gadgets.synthesis.maps_signal import (
    EFFICIENCY,
    T1_MS,
    T2_MS,
    Acquisition,
    signal_table,
    tissue_signals,
)

EFFICIENCY_SPREAD = 0.15
"""Standard deviation of the efficiency over a body at 3 T, from the nominal 1."""
KNOWN_EFFICIENCY_SPREAD = 0.005
"""From the smooth map of it."""
STEPS = 12
LARGEST_STEP = 4.0
"""Of one step, in nodes of the table."""
FIRST_DAMPING = 0.01
BLOCK = 1 << 13
COARSE = 2
"""Every how many nodes the dictionary has an atom."""
FAT_LEVELS = 11

RESIDUAL_SIGMAS = 3.0
RESIDUAL_SHARE = 0.05
"""A fit misses by less than so many sigmas of the noise, or by less than this share of the signal:
else the voxel is none that one tissue could give."""


class Mixture(NamedTuple):
    """Fat fraction of voxels (voxel), and what the fat is."""

    fraction: np.ndarray
    t1_ms: float
    t2_ms: float


class Voxels(NamedTuple):
    """Values of voxels, (voxel) each."""

    t1_ms: np.ndarray
    t2_ms: np.ndarray
    efficiency: np.ndarray
    density: np.ndarray
    valid: np.ndarray


def fit_voxels(
    signals: np.ndarray,
    sigma: np.ndarray,
    acquisition: Acquisition,
    magnitude: bool,
    mixture: Mixture | None,
    efficiency: np.ndarray | None = None,
) -> Voxels:
    """Fit voxels, block by block.

    Parameters
    ----------
    signals : float32 (contrast, voxel)
    sigma : float32 (voxel)
        Standard deviation of the noise.
    acquisition : Acquisition
    magnitude : bool
        Signals have lost their sign.
    mixture : Mixture or None
        What part of each voxel is fat; None for one tissue in each.
    efficiency : float32 (voxel) or None
        Where it is known; None fits it too.
    """
    signal_table(acquisition)
    if efficiency is None:
        expected, spread = np.ones(signals.shape[1], np.float32), EFFICIENCY_SPREAD
    else:
        expected, spread = efficiency, KNOWN_EFFICIENCY_SPREAD

    def block(start: int) -> Voxels:
        part = slice(start, start + BLOCK)
        here = None if mixture is None else mixture._replace(fraction=mixture.fraction[part])
        model = _Model(acquisition, magnitude, here)
        own = np.ascontiguousarray(signals[:, part])
        return _fit_block(own, sigma[part], expected[part], spread, model)

    with ThreadPoolExecutor(threads()) as pool:
        blocks = list(pool.map(block, range(0, max(signals.shape[1], 1), BLOCK)))
    return Voxels(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


class _Model:
    """Signals of voxels of unit proton density at places of the table.

    A place is float32 (3, voxel): nodes of log T1, log T2 and efficiency.
    """

    def __init__(self, acquisition: Acquisition, magnitude: bool, mixture: Mixture | None) -> None:
        table = signal_table(acquisition)
        self.shape = table.shape[1:]
        self.magnitude = magnitude
        self._table = table.reshape(len(table), -1)
        self._fraction = None
        if mixture is not None:
            count = len(EFFICIENCY)
            t1, t2 = np.full((2, count), [[mixture.t1_ms], [mixture.t2_ms]])
            self._fat = tissue_signals(t1, t2, EFFICIENCY, acquisition).astype(np.float32)
            self._fraction = mixture.fraction

    def __call__(self, place: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return signals (contrast, voxel) and their three derivatives with the place."""
        nodes = place.astype(np.int32)
        u, v, w = place - nodes
        _, nv, nw = self.shape
        first = (nodes[0] * nv + nodes[1]) * nw + nodes[2]
        corners, rises = [], []
        for offset in (0, nw, nv * nw, (nv + 1) * nw):
            low = self._table.take(first + offset, axis=1)
            rise = self._table.take(first + (offset + 1), axis=1)
            rise -= low
            corners.append(low + w * rise)
            rises.append(rise)
        a, b, c, d = corners
        b -= a
        d -= c
        near, far = a + v * b, c + v * d
        by_u = far - near
        by_v = b + u * (d - b)
        by_w = (1 - u) * (rises[0] + v * (rises[1] - rises[0]))
        by_w += u * (rises[2] + v * (rises[3] - rises[2]))
        signal = near + u * by_u
        if self._fraction is not None:
            water = 1 - self._fraction
            fat = self._fat.take(nodes[2], axis=1)
            slope = self._fat.take(nodes[2] + 1, axis=1) - fat
            signal = water * signal + self._fraction * (fat + w * slope)
            by_u, by_v = water * by_u, water * by_v
            by_w = water * by_w + self._fraction * slope
        if self.magnitude:
            sign = np.sign(signal)
            signal, by_u, by_v, by_w = (sign * value for value in (signal, by_u, by_v, by_w))
        return signal, [by_u, by_v, by_w]

    def start(self, signals: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the place of the dictionary's best atom for each voxel.

        The efficiency is the one which is expected of all voxels together.
        """
        nominal = int(np.abs(EFFICIENCY - np.median(expected)).argmin())
        nominal = min(nominal, self.shape[2] - 2)
        nodes = [np.arange(COARSE // 2, n - 1, COARSE) for n in self.shape[:2]]
        places = np.stack(np.meshgrid(*nodes, [nominal], indexing="ij")).reshape(3, -1)
        atoms = self._table[:, np.ravel_multi_index(tuple(places), self.shape)]
        if self._fraction is None:
            best = _best_atom(signals, atoms, self.magnitude)
        else:
            best = np.zeros(signals.shape[1], int)
            levels = np.rint(self._fraction * (FAT_LEVELS - 1)).astype(int)
            for level in np.unique(levels):
                share = np.float32(level / (FAT_LEVELS - 1))
                mixed = (1 - share) * atoms + share * self._fat[:, places[2]]
                chosen = levels == level
                best[chosen] = _best_atom(signals[:, chosen], mixed, self.magnitude)
        place = places[:, best].astype(np.float32)
        place[2] = (expected - EFFICIENCY[0]) / (EFFICIENCY[1] - EFFICIENCY[0])
        return place


def _best_atom(signals: np.ndarray, atoms: np.ndarray, magnitude: bool) -> np.ndarray:
    atoms = np.abs(atoms) if magnitude else atoms
    atoms = atoms / np.maximum(np.linalg.norm(atoms, axis=0), 1e-12)
    return np.asarray((signals.T @ atoms).argmax(axis=1))


def _fit_block(
    signals: np.ndarray, sigma: np.ndarray, expected: np.ndarray, spread: float, model: _Model
) -> Voxels:
    """Levenberg-Marquardt steps: one that makes it worse is taken back, and the next is shorter."""
    top = np.array(model.shape, np.float32)[:, None] - np.float32(1.001)
    per_node = np.float32(EFFICIENCY[1] - EFFICIENCY[0])
    nominal = (expected - np.float32(EFFICIENCY[0])) / per_node
    # What is known of the efficiency before counts like one more measured value.
    weight = np.square(sigma * (per_node / np.float32(spread)))
    place = model.start(signals, expected)
    damping = np.full(place.shape[1], FIRST_DAMPING, np.float32)
    best_cost = np.full(place.shape[1], np.inf, np.float32)
    best_place, normal = place, None
    for _ in range(STEPS):
        signal, slopes = model(place)
        power = np.maximum(_dot(signal, signal), np.float32(1e-20))
        density = _dot(signal, signals) / power
        miss = signals - density * signal
        off = place[2] - nominal
        cost = _dot(miss, miss) + weight * off**2
        better = cost < best_cost
        best_cost = np.where(better, cost, best_cost)
        best_place = np.where(better, place, best_place)
        damping = np.clip(np.where(better, damping / 4, damping * 8), 1e-4, 1e4)
        # What the amplitude cannot take up of each slope (Kaufman's approximation).
        free = [density * (s - (_dot(s, signal) / power) * signal) for s in slopes]
        fresh = _normal_equations(free, miss, weight, off)
        normal = fresh if normal is None else np.where(better, fresh, normal)
        change = np.clip(_solve(normal, damping), -LARGEST_STEP, LARGEST_STEP)
        place = np.clip(best_place + change, 0, top)
    return _read_off(signals, sigma, model, best_place, top)


def _normal_equations(
    slopes: list[np.ndarray], miss: np.ndarray, weight: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """Return diagonal (3), products 01, 02, 12 and right side (3): float32 (9, voxel)."""
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    rows = [_dot(slopes[i], slopes[j]) for i, j in pairs] + [_dot(s, miss) for s in slopes]
    rows[2] = rows[2] + weight
    rows[8] = rows[8] - weight * off
    return np.stack(rows)


def _solve(normal: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Solve damped normal equations of all voxels by Cramer's rule, float32 (3, voxel)."""
    # Scaled to a unit diagonal: single precision is enough.
    scale = 1 / np.sqrt(np.maximum(normal[:3], np.float32(1e-20)))
    x, y, z = normal[3:6] * scale[[0, 0, 1]] * scale[[1, 2, 2]]
    p, q, r = normal[6:] * scale
    d = 1 + damping
    a, b, c = d * d - z * z, d * d - y * y, d * d - x * x
    xy, xz, yz = y * z - d * x, x * z - d * y, x * y - d * z
    determinant = d * a + x * xy + y * xz
    solved = np.stack([a * p + xy * q + xz * r, xy * p + b * q + yz * r, xz * p + yz * q + c * r])
    return np.asarray(scale * solved / determinant)


def _read_off(
    signals: np.ndarray, sigma: np.ndarray, model: _Model, place: np.ndarray, top: np.ndarray
) -> Voxels:
    signal, _ = model(place)
    density = _dot(signal, signals) / np.maximum(_dot(signal, signal), np.float32(1e-20))
    miss = signals - density * signal
    allowed = (RESIDUAL_SIGMAS * sigma) ** 2 + RESIDUAL_SHARE**2 * (signals**2).mean(axis=0)
    inside = ((place[:2] > 0.01) & (place[:2] < top[:2] - 0.01)).all(axis=0)
    valid = inside & (density > 0) & ((miss**2).mean(axis=0) < allowed)
    t1, t2 = (
        np.exp(np.interp(place[axis], np.arange(len(nodes)), np.log(nodes)))
        for axis, nodes in enumerate((T1_MS, T2_MS))
    )
    efficiency = np.interp(place[2], np.arange(len(EFFICIENCY)), EFFICIENCY)
    times = t1.astype(np.float32), t2.astype(np.float32)
    return Voxels(*times, efficiency.astype(np.float32), density, valid)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("cn,cn->n", a, b))
