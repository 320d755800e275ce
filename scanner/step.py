"""One measurement on the virtual scanner: its MRD header, its readouts, and its truth.

A `VirtualScanner` is an object in a magnet with receive coils; a `Step` is a
`scanner.sequence.Protocol` run on it. Nothing is computed before it is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft

from protocols.mrd_types import ReadoutBlock
from scanner.coils import CoilArray, spine_array
from scanner.header import (
    NOISE_REPETITION_S,
    Identity,
    measurement_header,
    noise_headers,
    readout_headers,
)
from scanner.noise import correlated_noise, noise_readouts
from scanner.rasterise import SampledSlice, ScanObject, grid, sample_object
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T, GradientEcho, Protocol, TurboSpinEcho
from scanner.signal import Signals, signals
from scanner.simulate import (
    THREADS,
    Layer,
    coarse_sensitivities,
    encode,
    gradient_echo_layers,
    off_resonance_hz,
    spin_echo_layers,
)
from scanner.tissues import tissue_table
from scanner.trajectory import Lines, Schedule, echo_of_line, lines, schedule

NOISE_DENSITY = 28.0
"""Standard deviation of a complex noise sample at 1 us dwell and 3 T, in units of k-space (mm^3
uT/A). Set so that a lumbar vertebra has a signal-to-noise ratio of 15 to 30 in a fully sampled T2
turbo spin echo."""
PAUSE_S = 15.0
"""Between the measurements of an exam."""


@dataclass
class VirtualScanner:
    """An object in a magnet with receive coils.

    Attributes
    ----------
    thing : ScanObject
    coils : CoilArray
    covariance : complex128 (coil, coil)
        Of complex noise samples at a dwell time of 1 us.
    field_t : float
    exam : str
        Name of the exam; its UIDs and its noise are made of it.
    """

    thing: ScanObject
    coils: CoilArray
    covariance: np.ndarray
    field_t: float = 3.0
    exam: str = "exam"
    _sampled: dict[Any, list[SampledSlice]] = field(default_factory=dict, repr=False)

    def sampled(self, protocol: Protocol) -> list[SampledSlice]:
        """Return the object sampled for a protocol; kept for the steps that share a geometry."""
        shift = None
        if isinstance(protocol.sequence, GradientEcho):
            shift = (
                GYROMAGNETIC_MHZ_PER_T * self.field_t,
                protocol.sequence.bandwidth_hz_per_pixel,
            )
        key = (protocol.geometry, shift)
        if key not in self._sampled:
            self._sampled.clear()
            self._sampled[key] = list(
                sample_object(self.thing, protocol.geometry, shift_hz_per_pixel=shift)
            )
        return self._sampled[key]

    def exam_steps(self, protocols: list[Protocol], start_s: float = 36000.0) -> "list[Step]":
        """Return the steps of an exam, one after the other in time."""
        steps: list[Step] = []
        for number, protocol in enumerate(protocols, start=1):
            steps.append(Step(self, protocol, Identity(number, self.exam, start_s)))
            start_s += steps[-1].duration_s + PAUSE_S
        return steps


@dataclass(frozen=True)
class Step:
    """One measurement of an exam.

    Attributes
    ----------
    scanner : VirtualScanner
    protocol : Protocol
    identity : Identity
    """

    scanner: VirtualScanner
    protocol: Protocol
    identity: Identity

    @property
    def name(self) -> str:
        return self.protocol.name

    @property
    def header_xml(self) -> str:
        """MRD header as XML text."""
        return measurement_header(
            self.protocol, self.identity, self.scanner.coils.names, self.scanner.field_t
        )

    @cached_property
    def lines(self) -> Lines:
        """Acquired phase-encode lines of each image."""
        _, ny, nz = self.protocol.geometry.encoded_matrix
        return lines(ny, nz, self.protocol.sampling, self.identity.measurement_uid)

    @cached_property
    def _echoes(self) -> np.ndarray:
        sequence, ny = self.protocol.sequence, self.protocol.geometry.encoded_matrix[1]
        if isinstance(sequence, GradientEcho):
            return np.zeros(ny, int)
        imaged = np.unique(self.lines.ky)
        return echo_of_line(imaged, ny, sequence.centre_echo, sequence.echo_train_length)

    @cached_property
    def schedule(self) -> Schedule:
        """All imaging and calibration readouts in the order of acquisition."""
        return schedule(self.protocol, self.lines, self._echoes)

    @property
    def duration_s(self) -> float:
        """Time on the scanner, noise scan included."""
        return self.schedule.duration_s + self.protocol.noise_scan.readouts * NOISE_REPETITION_S

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Acquired (image, contrast, line, coil, kx) without noise; truth (contrast, z, y, x)."""
        acquired, truth = [], []
        for full in self.kspace():
            acquired.append(self._acquired(full))
            truth.append(np.stack([self._root_sum_of_squares(one) for one in full]))
        return np.stack(acquired), np.concatenate(truth, axis=1)

    def kspace(self) -> Iterator[np.ndarray]:
        """Yield each image's fully sampled, noise-free k-space.

        Yields
        ------
        complex64 (contrast, coil, kz, ky, kx)
            On the encoded matrix; every line with the T2 weighting of the acquired line next to it.
        """
        scanner, protocol = self.scanner, self.protocol
        levels = signals(protocol.sequence, tissue_table(scanner.field_t))
        for sampled in scanner.sampled(protocol):
            sensitivities = coarse_sensitivities(scanner.coils, protocol.geometry, sampled)
            if isinstance(protocol.sequence, TurboSpinEcho):
                contrasts = [self._spin_echo_layers(sampled, levels)]
            else:
                hz = off_resonance_hz(scanner.thing, protocol.geometry, sampled, scanner.field_t)
                contrasts = [
                    gradient_echo_layers(sampled, levels, protocol, echo, hz, scanner.field_t)
                    for echo in range(len(protocol.sequence.te_ms))
                ]
            yield encode(contrasts, sensitivities, sampled, protocol.geometry)

    def _spin_echo_layers(self, sampled: SampledSlice, levels: Signals) -> list[Layer]:
        """Layers of one slice; where an inversion pulse fails, part of it was never inverted."""
        scanner, protocol = self.scanner, self.protocol
        fails = getattr(scanner.thing, "inversion_failure", None)
        assert isinstance(protocol.sequence, TurboSpinEcho)
        if fails is None or protocol.sequence.ti_ms is None:
            return spin_echo_layers(sampled, levels, protocol, self._echoes, scanner.field_t)
        plain = replace(protocol.sequence, inversion_efficiency=0.0)
        not_inverted = signals(plain, tissue_table(scanner.field_t))
        share = fails(grid(protocol.geometry, sampled.origin, sampled.axes).astype(np.float32))
        layers = []
        for part, signal in ((1 - share, levels), (share, not_inverted)):
            piece = replace(sampled, water=sampled.water * part, fat=sampled.fat * part)
            layers += spin_echo_layers(piece, signal, protocol, self._echoes, scanner.field_t)
        return layers

    def _acquired(self, full: np.ndarray) -> np.ndarray:
        chosen = full[:, :, self.lines.kz, self.lines.ky, self.protocol.first_sample :]
        return np.ascontiguousarray(np.moveaxis(chosen, 1, 2))

    def _root_sum_of_squares(self, full: np.ndarray) -> np.ndarray:
        """Reconstruct one fully sampled image in SNR units, float32 (z, y, x)."""
        geometry = self.protocol.geometry
        (_, ny, _), (rx, ry) = geometry.encoded_matrix, geometry.matrix
        padded = geometry.oversampled_phase
        whitener = np.linalg.inv(np.linalg.cholesky(self.scanner.covariance / 2))
        whitener = (whitener * np.sqrt(self.protocol.dwell_us)).astype(np.complex64)
        image = centred_ifft(np.tensordot(whitener, full, 1), 3)
        image = crop(image, 3, rx)
        image = centred_ifft(crop(image, 2, padded), 2) * np.float32(np.sqrt(padded / ny))
        image = crop(image, 2, ry)
        if geometry.volumetric:
            image = centred_ifft(image, 1)
        return np.asarray(np.sqrt(np.sum(image.real**2 + image.imag**2, axis=0)))

    def readouts(self, block_size: int = 64) -> Iterator[ReadoutBlock]:
        """Yield all readouts in the order of acquisition, the noise scan first.

        Parameters
        ----------
        block_size : int
            Most readouts in a block.
        """
        scanner, protocol, plan = self.scanner, self.protocol, self.schedule
        rng = np.random.default_rng([self.identity.measurement_uid, *scanner.exam.encode()])
        scan, coils = protocol.noise_scan, len(scanner.coils)
        noise = noise_readouts(
            (scan.readouts, scan.samples), scanner.covariance, scan.dwell_us, rng
        )
        headers = noise_headers(protocol, self.identity, coils)
        for start in range(0, scan.readouts, block_size):
            piece = slice(start, start + block_size)
            yield ReadoutBlock(headers[piece], noise[piece])
        clean, _ = self._measured
        headers = readout_headers(protocol, self.identity, coils, self.lines, plan)
        for start in range(0, len(plan), block_size):
            piece = slice(start, start + block_size)
            samples = clean[plan.image[piece], plan.contrast[piece], plan.line[piece]]
            shape = (len(samples), samples.shape[-1])
            noise = correlated_noise(shape, scanner.covariance, protocol.dwell_us, rng)
            yield ReadoutBlock(headers[piece], np.ascontiguousarray(samples + noise))

    def truth(self, contrast: int = 0) -> np.ndarray:
        """Return what a perfect reconstruction would give, float32 (slice, y, x).

        Root of the sum of squares over coil images of fully sampled k-space without noise,
        prewhitened with the true noise covariance: in SNR units (noise 1 per real channel) with
        orthonormal Fourier transforms, on the recon matrix. Where phase encoding is zero-filled the
        scale is kept such that noise remains 1.
        """
        return np.asarray(self._measured[1][contrast])


def crop(array: np.ndarray, axis: int, n: int) -> np.ndarray:
    """Cut or zero-fill an axis to ``n`` around its centre at half its length."""
    array = np.moveaxis(array, axis, -1)
    have = array.shape[-1]
    if n <= have:
        start = have // 2 - n // 2
        array = array[..., start : start + n]
    else:
        before = n // 2 - have // 2
        array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(before, n - have - before)])
    return np.asarray(np.moveaxis(array, -1, axis))


def centred_ifft(array: np.ndarray, axis: int) -> np.ndarray:
    """Orthonormal inverse FFT of one axis with both centres at half its length."""
    array = scipy.fft.ifftshift(array, axes=axis)
    array = scipy.fft.ifft(array, axis=axis, norm="ortho", workers=THREADS, overwrite_x=True)
    return np.asarray(scipy.fft.fftshift(array, axes=axis))


def make_scanner(
    thing: ScanObject,
    rows: int = 6,
    columns: int = 2,
    anterior: bool = False,
    field_t: float = 3.0,
    noise_level: float = 1.0,
    exam: str = "exam",
) -> VirtualScanner:
    """Put an object on a spine array of ``rows`` by ``columns`` loops.

    Parameters
    ----------
    thing : ScanObject
    rows, columns : int
    anterior : bool
        Six more loops on the belly.
    field_t : float
    noise_level : float
        Times the usual standard deviation.
    exam : str
    """
    axis = np.arange(-250.0, 251.0, 20.0)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    tissue = points[np.asarray(thing.sample(points.astype(np.float32)).labels) > 0]
    near = tissue[np.abs(tissue[:, 2]) < 150]
    front, back = near[:, 1].min() - 10.0, near[:, 1].max() + 10.0
    coils = spine_array(back, rows, columns, anterior_mm=front if anterior else None)
    density = noise_level * NOISE_DENSITY * 3.0 / field_t
    covariance = coils.noise_covariance(tissue) * density**2
    return VirtualScanner(thing, coils, covariance, field_t, exam)
