"""Quantitative measurements of the virtual scanner: relaxation times, and in-phase echoes for bone.

    step = multi_delay_multi_echo_step(LumbarSpine())     # T1, T2, proton density
    step = in_phase_step(LumbarSpine())                   # FRACTURE

A multi-delay multi-echo measurement (QRAPMASTER: Warntjes et al., Magn Reson Med 60 (2008) 320-329)
saturates each slice, waits, and reads a turbo spin echo train as several images, one for each
effective echo time. A shift of the order of slices makes the delays; every delay is a pass of its
own through k-space. Each pair of delay and echo is one MRD contrast; the header's TI and TE have
one value for each. All data are simulated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ismrmrd import xsd

from protocols.header import header_text, parse_header
from scanner.exam import FRONT_TO_BACK, HEAD_TO_FEET
from scanner.header import Identity
from scanner.rasterise import ScanObject
from scanner.sequence import (
    GYROMAGNETIC_MHZ_PER_T,
    Geometry,
    GradientEcho,
    Protocol,
    Sampling,
    TurboSpinEcho,
)
from scanner.signal import FAT_SHIFT_PPM, Signals, signals
from scanner.simulate import coarse_sensitivities, encode, spin_echo_layers
from scanner.step import Step, VirtualScanner, make_scanner
from scanner.tissues import tissue_table
from scanner.trajectory import Schedule, echo_of_line, schedule

SATURATION_DEG = 120.0
DELAYS_MS = (160.0, 560.0, 1750.0, 3800.0)
ECHOES_MS = (20.0, 90.0)
TR_MS = 4000.0


@dataclass(frozen=True)
class MultiDelayMultiEchoStep(Step):
    """A multi-delay multi-echo measurement.

    Its protocol's sequence is the whole train; each echo time has an equal part of it, and its
    image has T2 blurring from that part.

    Attributes
    ----------
    delays_ms, echoes_ms : tuple of float
        From saturation to excitation; effective echo times.
    saturation_deg : float
    efficiency : float
        True over nominal flip angle of all pulses, everywhere.
    """

    delays_ms: tuple[float, ...] = DELAYS_MS
    echoes_ms: tuple[float, ...] = ECHOES_MS
    saturation_deg: float = SATURATION_DEG
    efficiency: float = 1.0

    @property
    def contrasts(self) -> list[tuple[float, float]]:
        """Delay and echo time of each contrast."""
        return [(delay, echo) for delay in self.delays_ms for echo in self.echoes_ms]

    @property
    def header_xml(self) -> str:
        """MRD header as XML text."""
        header = parse_header(super().header_xml)
        parameters, limits = header.sequenceParameters, header.encoding[0].encodingLimits
        parameters.TI, parameters.TE = (list(times) for times in zip(*self.contrasts, strict=True))
        parameters.sequence_type = "MultiDelayMultiEcho"
        limits.contrast = xsd.limitType(minimum=0, maximum=len(self.contrasts) - 1, center=0)
        header.userParameters.userParameterDouble = [
            xsd.userParameterDoubleType(name="SaturationFlipAngle_deg", value=self.saturation_deg)
        ]
        return header_text(header)

    @property
    def _train(self) -> TurboSpinEcho:
        assert isinstance(self.protocol.sequence, TurboSpinEcho)
        return self.protocol.sequence

    def _echo_of_line(self, part: int) -> np.ndarray:
        """Return the echo of the whole train that each line of an echo time's image gets."""
        train, ny = self._train, self.protocol.geometry.encoded_matrix[1]
        length = train.echo_train_length // len(self.echoes_ms)
        centre = round(self.echoes_ms[part] / train.echo_spacing_ms) - 1 - part * length
        if not 0 <= centre < length:
            raise ValueError(
                f"echo time {self.echoes_ms[part]} ms lies outside its part of the train:"
                f" {(part * length + 1) * train.echo_spacing_ms:g} to"
                f" {(part + 1) * length * train.echo_spacing_ms:g} ms"
            )
        return part * length + echo_of_line(np.unique(self.lines.ky), ny, centre, length)

    @cached_property
    def schedule(self) -> Schedule:
        """All readouts in the order of acquisition: for each delay, both parts of every train."""
        train = self._train
        length = train.echo_train_length // len(self.echoes_ms)
        passes, start_s, first = [], 0.0, 0
        for _ in self.delays_ms:
            for part in range(len(self.echoes_ms)):
                short = replace(train, refocusing_deg=train.refocusing_deg[:length])
                echoes = self._echo_of_line(part) - part * length
                one = schedule(replace(self.protocol, sequence=short), self.lines, echoes)
                shift_s = start_s + part * length * train.echo_spacing_ms * 1e-3
                passes.append(
                    replace(
                        one,
                        contrast=one.contrast + first + part,
                        segment=one.segment + part * length,
                        time_s=one.time_s + shift_s,
                    )
                )
            start_s += passes[-1].duration_s
            first += len(self.echoes_ms)
        columns = {
            name: np.concatenate([getattr(one, name) for one in passes])
            for name in vars(passes[0])
            if name != "duration_s"
        }
        order = np.argsort(columns["time_s"], kind="stable")
        return Schedule(**{n: column[order] for n, column in columns.items()}, duration_s=start_s)

    def kspace(self) -> Iterator[np.ndarray]:
        """Yield each slice's fully sampled, noise-free k-space.

        Yields
        ------
        complex64 (contrast, coil, kz, ky, kx)
        """
        scanner, protocol = self.scanner, self.protocol
        parts = [self._echo_of_line(part) for part in range(len(self.echoes_ms))]
        levels = [self._levels(delay) for delay in self.delays_ms]
        for sampled in scanner.sampled(protocol):
            contrasts = [
                spin_echo_layers(sampled, level, protocol, echoes, scanner.field_t)
                for level in levels
                for echoes in parts
            ]
            sensitivities = coarse_sensitivities(scanner.coils, protocol.geometry, sampled)
            yield encode(contrasts, sensitivities, sampled, protocol.geometry)

    def _levels(self, delay_ms: float) -> Signals:
        """Signals after a delay: a saturation pulse is an inversion that turns by less."""
        kept = np.cos(np.deg2rad(self.saturation_deg * self.efficiency))
        true = tuple(angle * self.efficiency for angle in self._train.refocusing_deg)
        sequence = replace(
            self._train, ti_ms=delay_ms, inversion_efficiency=-float(kept), refocusing_deg=true
        )
        found = signals(sequence, tissue_table(self.scanner.field_t))
        excited = np.sin(np.pi / 2 * self.efficiency)
        return Signals(found.water * excited, found.fat * excited)


def multi_delay_multi_echo_step(
    thing: ScanObject,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    matrix: int = 128,
    slices: int = 3,
    noise_level: float = 1.0,
    efficiency: float = 1.0,
    exam: str = "quantitative",
) -> MultiDelayMultiEchoStep:
    """Return a sagittal multi-delay multi-echo measurement at 3 T: 4 delays, 2 echo times, R 2.

    Parameters
    ----------
    thing : ScanObject
    centre : (3) mm
    matrix, slices : int
        Slices of 4 mm, 8.8 mm apart.
    noise_level : float
    efficiency : float
        True over nominal flip angle.
    exam : str
    """
    train = TurboSpinEcho(TR_MS, ECHOES_MS[0], 10.0, (150.0,) * 12, 250.0)
    geometry = Geometry(
        centre, FRONT_TO_BACK, HEAD_TO_FEET, (420.0, 420.0), (matrix, matrix), slices, 4.0, 4.8
    )
    sampling = Sampling(acceleration=(2, 1), calibration=(24, 0))
    protocol = Protocol("mdme_sag", train, geometry, sampling)
    scanner = _scanner(thing, noise_level, exam)
    identity = Identity(1, exam, 36000.0)
    return MultiDelayMultiEchoStep(scanner, protocol, identity, efficiency=efficiency)


def in_phase_step(
    thing: ScanObject,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    echoes: int = 4,
    matrix: int = 160,
    slices: int = 16,
    noise_level: float = 1.0,
    exam: str = "in-phase",
) -> Step:
    """Return a coronal 3D multi-echo gradient echo with fat and water in phase (FRACTURE).

    Parameters
    ----------
    thing : ScanObject
    centre : (3) mm
    echoes, matrix, slices : int
        Slices of 2 mm.
    noise_level : float
    exam : str
    """
    scanner = _scanner(thing, noise_level, exam)
    main_peak_hz = -float(FAT_SHIFT_PPM[1]) * GYROMAGNETIC_MHZ_PER_T * scanner.field_t
    te_ms = tuple(round(1e3 * (echo + 1) / main_peak_hz, 3) for echo in range(echoes))
    sequence = GradientEcho(te_ms[-1] + 3.0, te_ms, 8.0, 900.0)
    geometry = Geometry(
        centre,
        (1.0, 0.0, 0.0),
        HEAD_TO_FEET,
        (420.0, 420.0),
        (matrix, matrix),
        slices,
        2.0,
        volumetric=True,
    )
    sampling = Sampling(acceleration=(2, 1), calibration=(24, 8))
    return scanner.exam_steps([Protocol("fracture_cor", sequence, geometry, sampling)])[0]


def _scanner(thing: ScanObject, noise_level: float, exam: str) -> VirtualScanner:
    return make_scanner(thing, rows=6, columns=1, noise_level=noise_level, exam=exam)
