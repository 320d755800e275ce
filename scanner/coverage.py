"""The virtual scanner acquires what it is asked for: a step of a protocol, at exactly a slab.

    step = coverage_step(exam, protocol.step("si_stir_cor"), slab)
    exam.append(step)                      # the next request comes after it
    for block in step.readouts(): send(block)

It is a step like those of `scanner.exam`, of the same patient in the same exam: the next
measurement, a pause after the last one. The table does not move, so a slab far along the patient
shows what the body coil excites there. All data are simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from protocols import exam
from protocols.geometry import Slab
from scanner.header import Identity
from scanner.sequence import Geometry, GradientEcho, Protocol, Sampling, TurboSpinEcho
from scanner.step import PAUSE_S, Step
from scanner.trajectory import Schedule, interleaved, schedule

FAT_NULLED_MS = 250.0
"""Inversion time at which STIR nulls the fat of the phantom at 3 T, as in `scanner.exam`; patients'
fat is nulled at the 200 to 220 ms which a protocol asks for."""


class UnsupportedStep(ValueError):
    """The virtual scanner cannot run a step: what it has instead, or what would have to change."""


@dataclass(frozen=True)
class CoverageStep(Step):
    """A step that was asked for.

    Attributes
    ----------
    concatenations : int
        The slices are excited in so many groups, one after the other, where the trains of all of
        them do not fit into the repetition time.
    """

    concatenations: int = 1

    @cached_property
    def schedule(self) -> Schedule:
        """All imaging and calibration readouts in the order of acquisition."""
        order = interleaved(len(self.protocol.geometry.slice_centres()))
        groups = [np.sort(group) for group in np.array_split(order, self.concatenations)]
        parts, start_s = [], 0.0
        for group in groups:
            part = schedule(_slices(self.protocol, len(group)), self.lines, self._echoes)
            parts.append(replace(part, image=group[part.image], time_s=part.time_s + start_s))
            start_s += part.duration_s
        names = [name for name in vars(parts[0]) if name != "duration_s"]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Schedule(**columns, duration_s=start_s)


def coverage_step(steps: Sequence[Step], asked: exam.Step, slab: Slab) -> CoverageStep:
    """Return the step which acquires a slab as the next one of an exam.

    Parameters
    ----------
    steps : sequence of Step
        Of the exam so far, one or more.
    asked : protocols.exam.Step
        Its sequence, acceleration, and encoded matrix.
    slab : Slab

    Raises
    ------
    UnsupportedStep
    """
    before = max(steps, key=lambda step: step.identity.start_s)
    identity = Identity(
        measurement_uid=1 + max(step.identity.measurement_uid for step in steps),
        exam=before.identity.exam,
        start_s=before.identity.start_s + before.duration_s + PAUSE_S,
    )
    faster = asked.acceleration
    protocol = Protocol(
        asked.name,
        _sequence(asked),
        _geometry(slab, asked.geometry),
        Sampling(
            acceleration=(faster.phase, faster.partition),
            calibration=(faster.calibration_lines, 0),
            phase_partial_fourier=faster.partial_fourier,
            averages=asked.sequence.averages,
        ),
        before.protocol.noise_scan,
    )
    wanted = getattr(asked.sequence, "concatenations", 1)
    return CoverageStep(before.scanner, protocol, identity, _concatenations(protocol, wanted))


def _sequence(asked: exam.Step) -> TurboSpinEcho | GradientEcho:
    sequence = asked.sequence
    if sequence.fat_saturation:
        raise UnsupportedStep(
            f"{asked.name} asks for fat saturation, which the virtual scanner does not have: "
            "expected contrast stir or water_fat"
        )
    if isinstance(sequence, exam.GradientEcho):
        return GradientEcho(
            sequence.tr_ms, sequence.te_ms, sequence.flip_deg, sequence.bandwidth_hz_per_pixel
        )
    if asked.geometry.volumetric:
        raise UnsupportedStep(
            f"{asked.name} asks for a 3D turbo spin echo: the virtual scanner has 2D ones, and 3D "
            "gradient echoes"
        )
    return TurboSpinEcho(
        sequence.tr_ms,
        sequence.te_ms,
        sequence.echo_spacing_ms,
        (sequence.refocusing_deg,) * sequence.echo_train,
        sequence.bandwidth_hz_per_pixel,
        ti_ms=None if sequence.ti_ms is None else FAT_NULLED_MS,
    )


def _geometry(slab: Slab, asked: exam.Geometry) -> Geometry:
    # The centre of a 3D scan is that of the partition at half of their number.
    centre = slab.volume.position.tolist() if slab.volumetric else slab.centre
    return Geometry(
        centre=tuple(centre),
        read_dir=slab.row,
        phase_dir=slab.column,
        field_of_view_mm=slab.field_of_view_mm,
        matrix=slab.matrix,
        slices=slab.slices,
        thickness_mm=slab.thickness_mm,
        gap_mm=slab.gap_mm,
        volumetric=slab.volumetric,
        phase_resolution=min(1.0, asked.matrix[1] / slab.matrix[1]),
        phase_oversampling=asked.phase_oversampling,
    )


def _concatenations(protocol: Protocol, wanted: int) -> int:
    """Return the least number of groups, at least those wanted, that fit into the TR."""
    sequence, slices = protocol.sequence, len(protocol.geometry.slice_centres())
    if isinstance(sequence, TurboSpinEcho):
        busy_ms = (sequence.echo_train_length + 0.5) * sequence.echo_spacing_ms
    else:
        busy_ms = sequence.te_ms[-1] + 500 / sequence.bandwidth_hz_per_pixel
    at_once = int(sequence.tr_ms / busy_ms)
    if at_once < 1:
        raise UnsupportedStep(
            f"{protocol.name}: expected TR of {busy_ms:.1f} ms or more, got {sequence.tr_ms:g} ms"
        )
    return min(slices, max(wanted, -(-slices // at_once)))


def _slices(protocol: Protocol, count: int) -> Protocol:
    if protocol.geometry.volumetric:
        return protocol
    return replace(protocol, geometry=replace(protocol.geometry, slices=count))
