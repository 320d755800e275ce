"""From a sampled object to noise-free k-space: signal layers, coils, Fourier encoding.

A sequence turns a `scanner.rasterise.SampledSlice` into `Layer`s: images that share their behaviour
over echoes and over the readout. `encode` multiplies them by coil sensitivities and
Fourier-transforms them onto the encoded matrix.

Sign convention: image to k-space is exp(-2 pi i k r), off-resonance f is exp(+2 pi i f t), so fat
(which has the lower frequency) appears displaced along +readout.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from scipy.sparse import csr_array

from scanner.coils import CoilArray
from scanner.rasterise import Axis, SampledSlice, ScanObject, grid
from scanner.sequence import (
    GYROMAGNETIC_MHZ_PER_T,
    Geometry,
    GradientEcho,
    Protocol,
    TurboSpinEcho,
)
from scanner.signal import Signals, compress, fat_phase

THREADS = min(2, os.cpu_count() or 1)
COIL_GRID_MM = 8.0


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


def _weighted(table: np.ndarray, labels: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Sum density times a per-label weight over the samples, (component, z, y, x)."""
    return np.stack([(weights[labels] * density).sum(axis=0) for weights in table.T])


def spin_echo_layers(
    sampled: SampledSlice,
    levels: Signals,
    protocol: Protocol,
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
    protocol: Protocol,
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


def readout_times_ms(protocol: Protocol) -> np.ndarray:
    """Return the time of each sample of the full encoded readout from its echo, float64 (kx)."""
    nx = protocol.geometry.encoded_matrix[0]
    return (np.arange(nx) - nx // 2) * protocol.dwell_us * 1e-3


class CoarseSensitivities(NamedTuple):
    """Sensitivities on a coarse grid, and what interpolates them onto the sampled grid.

    Attributes
    ----------
    coarse : complex64 (coil, z', y', x')
    along_z, along_y, along_x : scipy.sparse.csr_array float32 (fine, coarse)
        Sparse rather than dense: BLAS threads would fight with the threads over coils.
    """

    coarse: np.ndarray
    along_z: Any
    along_y: Any
    along_x: Any

    def fine(self, coil: int) -> np.ndarray:
        """Return one coil's sensitivity on the sampled grid, complex64 (z, y, x)."""
        nz, ny, nx = self.coarse.shape[1:]
        coarse = (self.along_z @ self.coarse[coil].reshape(nz, -1)).reshape(-1, ny, nx)
        fine = np.empty((len(coarse), self.along_y.shape[0], self.along_x.shape[0]), np.complex64)
        for z, plane in enumerate(coarse):
            fine[z] = self.along_y @ np.ascontiguousarray((self.along_x @ plane.T).T)
        return fine


def _cubic(fine: np.ndarray) -> tuple[Axis, Any]:
    """Return a coarse axis that covers fine positions, and its 4-point Lagrange interpolation."""
    if len(fine) == 1:
        return Axis(fine[0], 1.0, 1), csr_array(np.ones((1, 1), np.float32))
    step = COIL_GRID_MM
    count = int(np.ceil((fine[-1] - fine[0]) / step)) + 3
    place = (fine - fine[0]) / step
    node = np.minimum(place.astype(int), count - 4)
    t = place - node
    weights = [
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    ]
    rows, columns = np.tile(np.arange(len(fine)), 4), np.concatenate([node + i for i in range(4)])
    values = np.concatenate(weights).astype(np.float32)
    matrix = csr_array((values, (rows, columns)), shape=(len(fine), count))
    return Axis(fine[0] - step, step, count), matrix


def coarse_sensitivities(
    coils: CoilArray, geometry: Geometry, sampled: SampledSlice
) -> CoarseSensitivities:
    """Evaluate coils around a sampled slice or slab."""
    (x, along_x), (y, along_y), (z, along_z) = (_cubic(axis.positions()) for axis in sampled.axes)
    points = grid(geometry, sampled.origin, (x, y, z))
    return CoarseSensitivities(coils.sensitivities(points), along_z, along_y, along_x)


def _central(transformed: np.ndarray, n: int, place: Axis, period_mm: float) -> np.ndarray:
    """Take the ``n`` central frequencies of an FFT along axis 0, seen from the true origin."""
    k = np.arange(n) - n // 2
    phase = np.exp(-2j * np.pi * k * (place.start / period_mm)).astype(np.complex64)
    shape = (n,) + (1,) * (transformed.ndim - 1)
    return np.asarray(transformed[k] * phase.reshape(shape))


def _transform(image: np.ndarray, place: Axis, n: int, period_mm: float) -> np.ndarray:
    """Fourier-transform axis 0 onto the ``n`` central frequencies of a field of view.

    What lies outside the field of view folds over, as it does in the scanner. Overwrites ``image``.
    """
    fine = round(period_mm / place.step)
    for start in range(fine, len(image), fine):
        piece = image[start : start + fine]
        image[: len(piece)] += piece
    spectrum = scipy.fft.fft(image[:fine], n=fine, axis=0, overwrite_x=True)
    return _central(spectrum, n, place, period_mm)


def encode(
    contrasts: list[list[Layer]],
    sensitivities: CoarseSensitivities,
    sampled: SampledSlice,
    geometry: Geometry,
) -> np.ndarray:
    """Return noise-free k-space on the encoded matrix, complex64 (contrast, coil, kz, ky, kx).

    Each sample is the integral of magnetisation times sensitivity over the object, in mm^3 uT/A.
    """
    x_axis, y_axis, z_axis = sampled.axes
    nx, ny, nz = geometry.encoded_matrix
    fov_x, fov_y, fov_z = geometry.encoded_field_of_view_mm
    coils = len(sensitivities.coarse)
    kspace = np.zeros((len(contrasts), coils, nz, ny, nx), np.complex64)
    contrasts = [
        [layer._replace(images=layer.images.astype(np.complex64, copy=False)) for layer in layers]
        for layers in contrasts
    ]

    def one_coil(coil: int) -> None:
        profile = sensitivities.fine(coil)
        product = np.empty_like(profile)
        for contrast, layer in [
            (c, layer) for c, layers in enumerate(contrasts) for layer in layers
        ]:
            total = kspace[contrast, coil]
            rows = np.zeros((ny, nz, x_axis.size), np.complex64)
            for image, weight in zip(layer.images, layer.rows, strict=True):
                np.multiply(image, profile, out=product)
                slab = _transform(product, z_axis, nz, fov_z) if geometry.volumetric else product
                lines = _transform(np.moveaxis(slab, 1, 0), y_axis, ny, fov_y)
                rows += lines * weight[:, None, None]
            for kz in range(nz):
                line = scipy.fft.fft(rows[:, kz], n=round(fov_x / x_axis.step), axis=1)
                line = _central(line.T, nx, x_axis, fov_x).T
                total[kz] += line if layer.readout is None else line * layer.readout

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one_coil, range(coils)))
    return kspace


def off_resonance_hz(
    thing: ScanObject, geometry: Geometry, sampled: SampledSlice, field_t: float
) -> np.ndarray:
    """Return the field's off-resonance on the sampled grid, float32 (z, y, x)."""
    ppm = thing.b0_ppm(grid(geometry, sampled.origin, sampled.axes).astype(np.float32))
    return np.asarray(ppm, np.float32) * np.float32(GYROMAGNETIC_MHZ_PER_T * field_t)
