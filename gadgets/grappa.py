"""GRAPPA: missing lines as weighted sums of acquired neighbours, weights from calibration lines.

Griswold et al., Magn Reson Med 47 (2002) 1202; on two-dimensional lattices as in 2D CAIPIRINHA
(Breuer et al., Magn Reson Med 55 (2006) 549). A kernel spans lines in ky and kz and samples in kx;
since the readout is already in image space, its kx part becomes a factor that varies along x, and
filling in is one matrix product for every x. Noise by Breuer et al., Magn Reson Med 62 (2009) 739.
"""

from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np

from gadgets.fft import fftc
from gadgets.lattice import Lattice

LINES = 4
"""Acquired lines which a missing line is made of, where only ky is undersampled."""

LATTICE_POINTS = 9
"""The same where the lattice has two dimensions."""

SAMPLES = 5
"""Neighbouring samples along kx."""

REGULARIZATION = 1e-4
"""Of the weights, relative to the mean square of the sources."""


@dataclass(frozen=True)
class Target:
    """Missing lines which lie the same way within the lattice, and what they are made of.

    Attributes
    ----------
    offset : (2)
        (kz, ky) of such a line relative to a lattice point.
    sources : int (source, 2)
        (kz, ky) of acquired lines relative to the missing one.
    weights : complex64 (coil, source, coil of source, sample)
        Samples along kx, centred.
    """

    offset: tuple[int, int]
    sources: np.ndarray
    weights: Any


def calibrate(
    calibration: Any, lattice: Lattice, regularization: float = REGULARIZATION
) -> tuple[Target, ...]:
    """Fit the weights by least squares.

    Parameters
    ----------
    calibration : complex64 (coil, kz, ky, x)
        Fully sampled block, hybrid.
    lattice : Lattice
    regularization : float

    Returns
    -------
    tuple of Target
        One for each kind of missing line: R - 1.

    Raises
    ------
    ValueError
        The calibration block is too small for the kernel.
    """
    block = fftc(calibration, (3,))
    targets = []
    for offset in _missing_offsets(lattice):
        sources = _nearest_sources(lattice, offset)
        targets.append(Target(offset, sources, _fit(block, sources, regularization)))
    return tuple(targets)


def _missing_offsets(lattice: Lattice) -> list[tuple[int, int]]:
    """Return one (kz, ky) of every kind of missing line, relative to a lattice point."""
    return [(z, y) for y in range(lattice.ry) for z in range(lattice.rz) if (z, y) != (0, 0)]


def _nearest_sources(lattice: Lattice, offset: tuple[int, int]) -> np.ndarray:
    """Return the lattice points nearest to an offset, relative to it, int (source, 2)."""
    span = np.arange(-4, 5)
    a, b = (grid.ravel() for grid in np.meshgrid(span, span if lattice.rz > 1 else [0]))
    points = np.stack([a * lattice.shift + b * lattice.rz, a * lattice.ry], axis=1) - offset
    count = LINES if lattice.rz == 1 else LATTICE_POINTS
    order = np.lexsort((points[:, 1], points[:, 0], np.hypot(points[:, 0], points[:, 1])))
    return points[order[:count]]


def _fit(block: Any, sources: np.ndarray, regularization: float) -> Any:
    xp = array_api_compat.array_namespace(block)
    coils, nz, ny, nx = block.shape
    low = np.minimum(sources.min(axis=0), 0)
    high = np.maximum(sources.max(axis=0), 0)
    rows_z, rows_y, rows_x = nz - (high - low)[0], ny - (high - low)[1], nx - SAMPLES + 1
    if min(rows_z, rows_y, rows_x) < 1:
        raise ValueError(
            f"GRAPPA: expected calibration lines for a kernel of {high - low + 1} (kz, ky), "
            f"got {nz} x {ny}; acquire more of them"
        )

    def window(z: int, y: int, sample: int) -> Any:
        z, y = z - int(low[0]), y - int(low[1])
        part = block[:, z : z + rows_z, y : y + rows_y, sample : sample + rows_x]
        return xp.reshape(part, (coils, -1))

    known = xp.stack([window(z, y, s) for z, y in sources for s in range(SAMPLES)], axis=1)
    known = xp.reshape(known, (coils * len(sources) * SAMPLES, -1))
    wanted = window(0, 0, SAMPLES // 2)
    gram = xp.astype(xp.conj(known) @ known.T, xp.complex128)
    right = xp.astype(xp.conj(known) @ wanted.T, xp.complex128)
    scale = float(xp.linalg.trace(gram).real) / gram.shape[0]
    gram = gram + max(regularization * scale, 1e-30) * xp.eye(gram.shape[0])
    weights = xp.astype(xp.linalg.solve(gram, right).T, block.dtype)
    weights = xp.reshape(weights, (coils, coils, len(sources), SAMPLES))
    return xp.moveaxis(weights, 1, 2)


def _along_x(weights: Any, x: np.ndarray, nx: int) -> Any:
    """Transform weights (coil, source, coil, sample) along kx: (x, coil, source, coil)."""
    xp = array_api_compat.array_namespace(weights)
    sample = np.arange(SAMPLES) - SAMPLES // 2
    wave = xp.asarray(np.exp(-2j * np.pi * np.outer(x - nx // 2, sample) / nx), dtype=weights.dtype)
    return xp.tensordot(wave, weights, axes=((1,), (3,)))


def grappa(kspace: Any, mask: np.ndarray, lattice: Lattice, targets: tuple[Target, ...]) -> Any:
    """Fill in the missing lines within the range that was acquired.

    Parameters
    ----------
    kspace : complex64 (coil, kz, ky, x)
        Hybrid; zero where not acquired.
    mask : bool (kz, ky)
        Acquired lines stay as they are.
    lattice : Lattice
    targets : tuple of Target
        From `calibrate`.

    Returns
    -------
    complex64 (coil, kz, ky, x)
    """
    xp = array_api_compat.array_namespace(kspace)
    coils, nz, ny, nx = kspace.shape
    result = xp.array(kspace, copy=True)
    on_lattice = mask & lattice.mask(nz, ny)
    first_z, first_y = (int(lines.min()) for lines in np.nonzero(on_lattice))
    last_z, last_y = (int(lines.max()) for lines in np.nonzero(on_lattice))
    inside = np.zeros_like(mask)
    inside[
        max(0, first_z - lattice.rz + 1) : last_z + lattice.rz,
        max(0, first_y - lattice.ry + 1) : last_y + lattice.ry,
    ] = True
    for target in targets:
        moved = replace(
            lattice,
            offset_z=lattice.offset_z + target.offset[0],
            offset_y=lattice.offset_y + target.offset[1],
        )
        kz, ky = np.nonzero(moved.mask(nz, ny) & inside & ~mask)
        if not len(ky):
            continue
        weights = _along_x(target.weights, np.arange(nx), nx)
        gathered = []
        for z, y in target.sources:
            there = (kz + z >= 0) & (kz + z < nz) & (ky + y >= 0) & (ky + y < ny)
            lines = kspace[:, np.clip(kz + z, 0, nz - 1), np.clip(ky + y, 0, ny - 1)]
            there[there] = on_lattice[(kz + z)[there], (ky + y)[there]]
            gathered.append(lines * xp.asarray(there.astype(np.float32))[None, :, None])
        known = xp.reshape(xp.moveaxis(xp.stack(gathered), 3, 0), (nx, -1, len(ky)))
        filled = xp.reshape(weights, (nx, coils, -1)) @ known
        result[:, kz, ky] = xp.moveaxis(filled, 0, 2)
    return result


def grappa_noise(
    targets: tuple[Target, ...], lattice: Lattice, maps: Any, columns: np.ndarray
) -> Any:
    """Return the variance of the combined image's noise per real channel at some columns.

    Parameters
    ----------
    targets : tuple of Target
    lattice : Lattice
    maps : complex64 (coil, z, y, x)
        Which the coil images are combined with.
    columns : int (column)
        Positions x.

    Returns
    -------
    float32 (z, y, column)
        Lines beyond the lattice are not taken into account, nor that kernels end at the edge of
        k-space: on slabs of 8 partitions sigma is 8 % too high.
    """
    xp = array_api_compat.array_namespace(maps)
    coils, nz, ny, nx = maps.shape
    combiner = xp.conj(xp.take(maps, xp.asarray(columns), axis=3))
    combiner = xp.reshape(xp.moveaxis(combiner, (3, 0), (0, 3)), (len(columns), nz * ny, coils))
    z, y = (np.arange(nz) - nz // 2)[:, None] / nz, np.arange(ny) / ny - (ny // 2) / ny
    total = xp.array(combiner, copy=True)
    for target in targets:
        along_x = _along_x(target.weights, columns, nx)
        for number, (source_z, source_y) in enumerate(target.sources):
            wave = np.exp(-2j * np.pi * (source_z * z + source_y * y)).astype(np.complex64)
            total += (combiner @ along_x[:, :, number]) * xp.asarray(wave.reshape(1, -1, 1))
    variance = xp.sum(total.real**2 + total.imag**2, axis=2) / lattice.acceleration
    return xp.moveaxis(xp.reshape(variance, (len(columns), nz, ny)), 0, 2)
