"""From an object in space to noise-free k-space: sampling, coils, Fourier encoding.

The object is sampled once for a geometry (`sample_object`), on a grid twice as fine as the encoded
matrix, so that truncation makes real Gibbs ringing, with several samples through the slice. A
sequence turns it into `Layer`s: images that share their behaviour over echoes and over the readout.
`encode` multiplies them by coil sensitivities and Fourier-transforms them onto the encoded matrix.

Sign convention: image to k-space is exp(-2 pi i k r), off-resonance f is exp(+2 pi i f t), so fat
(which has the lower frequency) appears displaced along +readout.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.fft
from scipy.interpolate import CubicSpline

from scanner.coils import CoilArray
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T, Geometry, GradientEcho, TurboSpinEcho
from scanner.sequence import Protocol as ScanProtocol
from scanner.signal import Signals, compress, fat_phase

THREADS = min(2, os.cpu_count() or 1)
FINE = 2
"""Samples of the object for one encoded sample, along every encoded axis."""
COIL_GRID_MM = 8.0


class SampledPoints(Protocol):
    """What an object is made of at some points."""

    labels: np.ndarray
    density: np.ndarray
    fat_fraction: np.ndarray


class ScanObject(Protocol):
    """Anything that can lie in the scanner: the phantom, or a test object."""

    def sample(self, points: np.ndarray) -> SampledPoints: ...

    def b0_ppm(self, points: np.ndarray) -> np.ndarray: ...


class Axis(NamedTuple):
    """Sample positions along one encoded axis, relative to the centre of the geometry."""

    start: float
    step: float
    count: int

    def positions(self) -> np.ndarray:
        return self.start + self.step * np.arange(self.count)


@dataclass(frozen=True)
class SampledSlice:
    """The object under one slice or slab.

    Attributes
    ----------
    axes : (3) Axis
        Along readout, phase and slice, in mm; the slice axis of a 2D slice has one sample.
    labels : uint8 (sample, z, y, x)
        ``sample`` runs through the slice profile, or over the points inside a fine voxel.
    water, fat : float32 (sample, z, y, x)
        Proton density of each, weighted by slice profile and volume.
    origin : float64 (3)
        Centre of the slice or slab, LPS mm.
    """

    axes: tuple[Axis, Axis, Axis]
    labels: np.ndarray
    water: np.ndarray
    fat: np.ndarray
    origin: np.ndarray

    def points(self, geometry: Geometry) -> np.ndarray:
        """Return the grid in LPS mm, float64 (z, y, x, 3)."""
        return _grid(geometry, self.origin, self.axes, (0.0, 0.0, 0.0))


class Layer(NamedTuple):
    """Images that are encoded together.

    Attributes
    ----------
    images : complex64 or float32 (component, z, y, x)
    rows : float32 (component, ky)
        Weight of each component on each phase-encode line.
    readout : complex64 (kx) or None
        Factor over the readout: chemical shift.
    """

    images: np.ndarray
    rows: np.ndarray
    readout: np.ndarray | None


def _grid(
    geometry: Geometry,
    origin: np.ndarray,
    axes: tuple[Axis, Axis, Axis],
    offset: tuple[float, float, float],
) -> np.ndarray:
    x, y, z = (axis.positions() + o for axis, o in zip(axes, offset, strict=True))
    return (
        origin
        + z[:, None, None, None] * geometry.slice_dir
        + y[:, None, None] * np.asarray(geometry.phase_dir)
        + x[:, None] * np.asarray(geometry.read_dir)
    )


def _support(thing: ScanObject, geometry: Geometry, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the extent of the object within a slab, (2) along readout and (2) along phase."""
    reach = np.arange(-360.0, 360.1, step)
    half = geometry.slices * (geometry.thickness_mm + geometry.gap_mm) / 2
    through = np.linspace(-half, half, max(3, round(2 * half / step)))
    axes = (Axis(-360.0, step, len(reach)),) * 2 + (
        Axis(-half, through[1] - through[0], len(through)),
    )
    there = np.asarray(
        thing.sample(_grid(geometry, np.asarray(geometry.centre), axes, (0.0, 0.0, 0.0))).density
    )
    extents = []
    for other in ((0, 1), (0, 2)):
        inside = np.flatnonzero((there > 0).any(axis=other))
        if not len(inside):
            raise ValueError(f"nothing to scan in the slab around {geometry.centre} mm")
        extents.append(reach[inside[[0, -1]]] + (-step, step))
    return extents[0], extents[1]


def _slice_profile(fraction: np.ndarray) -> np.ndarray:
    """Return the excitation over the slice; ``fraction`` is 0 at its centre, 0.5 at its edge."""
    return 1 / (1 + np.exp((np.abs(fraction) - 0.5) / 0.04))


def sample_object(
    thing: ScanObject,
    geometry: Geometry,
    samples: int = 4,
    shift_hz_per_pixel: tuple[float, float] | None = None,
) -> Iterator[SampledSlice]:
    """Sample an object for all slices of a geometry, in order of slice.

    Parameters
    ----------
    thing : ScanObject
    geometry : Geometry
    samples : int
        Through the slice, or inside each fine voxel of a slab. Each has its own place inside the
        fine pixel, which keeps edges from being jagged.
    shift_hz_per_pixel : (2) or None
        Hz of one ppm and bandwidth per pixel, where the object is to appear displaced along the
        readout by its off-resonance.
    """
    read, phase = _support(thing, geometry, 6.0)
    nx, ny, nz = geometry.encoded_matrix
    fov_x, fov_y, fov_z = geometry.encoded_field_of_view_mm
    dx, dy = fov_x / nx / FINE, fov_y / ny / FINE
    dz = fov_z / nz / FINE if geometry.volumetric else geometry.thickness_mm
    axes = (
        Axis(read[0], dx, int(np.ceil((read[1] - read[0]) / dx))),
        Axis(phase[0], dy, int(np.ceil((phase[1] - phase[0]) / dy))),
        Axis(-fov_z / 2, dz, nz * FINE) if geometry.volumetric else Axis(0.0, dz, 1),
    )
    # R2 low-discrepancy sequence (Roberts 2018): places spread evenly inside the fine pixel.
    inside = (0.5 + np.outer(np.arange(samples), (0.7548776662, 0.5698402910))) % 1
    inside -= inside.mean(axis=0)
    across = (np.arange(samples) + 0.5) / samples - 0.5
    if not geometry.volumetric:
        across *= 1.2  # the profile's tails reach beyond the slice: cross-talk
    for origin in geometry.slice_centres():
        labels, water, fat = [], [], []
        weights = _slice_profile(across)
        weights = weights / weights.sum() * dx * dy * dz
        for (u, v), w, weight in zip(inside, across, weights, strict=True):
            points = _grid(geometry, origin, axes, (u * dx, v * dy, w * dz))
            if shift_hz_per_pixel is not None:
                hz, per_pixel = shift_hz_per_pixel
                shift = thing.b0_ppm(points) * hz / per_pixel * dx * FINE
                # To first order: what appears here comes from there, compressed by the slope.
                points = points + shift[..., None] * np.asarray(geometry.read_dir)
                slope = 1 + np.gradient(shift, dx, axis=-1)
            sampled = thing.sample(points.astype(np.float32))
            density = np.asarray(sampled.density) * np.float32(weight)
            if shift_hz_per_pixel is not None:
                density = density * np.clip(slope, 0, None).astype(np.float32)
            if geometry.volumetric:
                # A slab's excitation ends inside its field of view, or it would fold over.
                edge = (axes[2].positions() + w * dz) / (fov_z * 0.92)
                density = density * _slice_profile(edge)[:, None, None].astype(np.float32)
            labels.append(np.asarray(sampled.labels))
            fat.append(density * sampled.fat_fraction)
            water.append(density - fat[-1])
        yield SampledSlice(axes, np.stack(labels), np.stack(water), np.stack(fat), origin)


def _weighted(table: np.ndarray, labels: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Sum density times a per-label weight over the samples, (component, z, y, x)."""
    return np.stack([np.einsum("s...,s...->...", weights[labels], density) for weights in table.T])


def spin_echo_layers(
    sampled: SampledSlice,
    levels: Signals,
    protocol: ScanProtocol,
    echoes: np.ndarray,
    field_t: float,
) -> list[Layer]:
    """Return the layers of one slice of a turbo spin echo.

    Parameters
    ----------
    sampled : SampledSlice
    levels : Signals
    protocol : Protocol
    echoes : int64 (ky)
        Echo which each line gets: the source of T2 blurring.
    field_t : float
    """
    assert isinstance(protocol.sequence, TurboSpinEcho)
    times = readout_times_ms(protocol)
    layers = []
    for signal, density, phase in (
        (levels.water, sampled.water, None),
        (levels.fat, sampled.fat, fat_phase(times, field_t).astype(np.complex64)),
    ):
        weights, evolutions = compress(signal)
        images = _weighted(weights, sampled.labels, density)
        layers.append(Layer(images, evolutions[:, echoes], phase))
    return layers


def gradient_echo_layers(
    sampled: SampledSlice,
    levels: Signals,
    protocol: ScanProtocol,
    echo: int,
    off_resonance_hz: np.ndarray,
    field_t: float,
) -> list[Layer]:
    """Return the layers of one echo of a gradient echo.

    Parameters
    ----------
    sampled : SampledSlice
    levels : Signals
    protocol : Protocol
    echo : int
    off_resonance_hz : float (z, y, x)
    field_t : float
    """
    assert isinstance(protocol.sequence, GradientEcho)
    te_ms = protocol.sequence.te_ms[echo]
    turn = np.exp(2j * np.pi * off_resonance_hz * te_ms * 1e-3).astype(np.complex64)
    times = te_ms + readout_times_ms(protocol)
    ones = np.ones((1, protocol.geometry.encoded_matrix[1]), np.float32)
    layers = []
    for signal, density, phase in (
        (levels.water, sampled.water, None),
        (levels.fat, sampled.fat, fat_phase(times, field_t).astype(np.complex64)),
    ):
        weights = signal[:, echo : echo + 1].astype(np.float32)
        images = _weighted(weights, sampled.labels, density) * turn
        layers.append(Layer(images, ones, phase))
    return layers


def readout_times_ms(protocol: ScanProtocol) -> np.ndarray:
    """Return the time of each sample of the full encoded readout from its echo, float64 (kx)."""
    nx = protocol.geometry.encoded_matrix[0]
    return (np.arange(nx) - nx // 2) * protocol.dwell_us * 1e-3


def coil_images(
    coils: CoilArray, geometry: Geometry, sampled: SampledSlice
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return sensitivities on a coarse grid, and what interpolates them onto the sampled grid.

    Returns
    -------
    coarse : complex64 (coil, z', y', x')
    spline : (3) float32 (fine, coarse) along z, y, x
        Cubic spline interpolation as matrices.
    """
    coarse_axes, splines = [], []
    for axis in sampled.axes:
        fine = axis.positions()
        nodes = max(4, int(np.ceil((fine[-1] - fine[0]) / COIL_GRID_MM)) + 1)
        if axis.count == 1:
            coarse_axes.append(axis)
            splines.append(np.ones((1, 1), np.float32))
            continue
        step = (fine[-1] - fine[0]) / (nodes - 1)
        coarse_axes.append(Axis(axis.start, step, nodes))
        basis = CubicSpline(coarse_axes[-1].positions(), np.eye(nodes))
        splines.append(basis(fine).astype(np.float32))
    points = _grid(geometry, sampled.origin, tuple(coarse_axes), (0.0, 0.0, 0.0))
    return coils.sensitivities(points), tuple(reversed(splines))


def _interpolate(coarse: np.ndarray, splines: tuple[np.ndarray, ...]) -> np.ndarray:
    along_z, along_y, along_x = (spline.astype(np.complex64) for spline in splines)
    image = along_y @ coarse @ along_x.T
    return image if len(along_z) == 1 else np.tensordot(along_z, image, 1)


@lru_cache(maxsize=64)
def _centre_frequencies(n: int, fine: int, start_periods: float) -> tuple[np.ndarray, np.ndarray]:
    """Return FFT bins of the ``n`` central frequencies of ``fine`` samples, and the phase which
    moves the first sample to its place."""
    k = np.arange(n) - n // 2
    return k % fine, np.exp(-2j * np.pi * k * start_periods).astype(np.complex64)


def _transform(images: np.ndarray, axis: int, place: Axis, n: int, period_mm: float) -> np.ndarray:
    """Fourier-transform one axis onto the ``n`` central frequencies of a field of view.

    What lies outside the field of view folds over, as it does in the scanner.
    """
    fine = round(period_mm / place.step)
    bins, phase = _centre_frequencies(n, fine, place.start / period_mm)
    images = np.moveaxis(images, axis, -1)
    if images.shape[-1] > fine:
        extra = -images.shape[-1] % fine
        padded = np.pad(images, [(0, 0)] * (images.ndim - 1) + [(0, extra)])
        images = padded.reshape(*images.shape[:-1], -1, fine).sum(axis=-2)
    spectrum = scipy.fft.fft(images, n=fine, axis=-1)[..., bins] * phase
    return np.moveaxis(spectrum, -1, axis)


def encode(
    layers: list[Layer],
    coarse: np.ndarray,
    splines: tuple[np.ndarray, ...],
    sampled: SampledSlice,
    geometry: Geometry,
) -> np.ndarray:
    """Return noise-free k-space on the encoded matrix, complex64 (coil, kz, ky, kx).

    Each sample is the integral of magnetisation times sensitivity over the object, in mm^3 uT/A.
    """
    x_axis, y_axis, z_axis = sampled.axes
    nx, ny, nz = geometry.encoded_matrix
    fov_x, fov_y, fov_z = geometry.encoded_field_of_view_mm

    def one_coil(sensitivity: np.ndarray) -> np.ndarray:
        profile = _interpolate(sensitivity, splines)
        total: Any = 0
        for layer in layers:
            images = layer.images * profile
            if geometry.volumetric:
                images = _transform(images, 1, z_axis, nz, fov_z)
            rows = _transform(images, 2, y_axis, ny, fov_y)
            rows = np.einsum("czyx,cy->zyx", rows, layer.rows)
            lines = _transform(rows, 2, x_axis, nx, fov_x)
            total = total + (lines if layer.readout is None else lines * layer.readout)
        return total

    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(one_coil, coarse)))


def off_resonance_hz(thing: ScanObject, geometry: Geometry, sampled: SampledSlice, field_t: float):
    """Return the field's off-resonance on the sampled grid, float32 (z, y, x)."""
    ppm = thing.b0_ppm(sampled.points(geometry).astype(np.float32))
    return np.asarray(ppm, np.float32) * np.float32(GYROMAGNETIC_MHZ_PER_T * field_t)
