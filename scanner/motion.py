"""A patient who moves: readouts of a measurement as they are when the body shifts meanwhile.

A shift within the plane is a phase in k-space, exact but for the coils, whose sensitivities stay
with the body here. Rotation and motion through the slice are left out.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from protocols.mrd_types import AcquisitionFlag, ReadoutBlock
from scanner.header import TICK_S
from scanner.sequence import Protocol

Path = Callable[[np.ndarray], np.ndarray]
"""Seconds since the first readout (readout) to shift in mm (readout, 2) along readout and phase."""


def breathing(amplitude_mm: float, per_minute: float, direction: tuple[float, float]) -> Path:
    """Periodic shift; breathing moves the belly 3-10 mm, 12-18 times a minute."""

    def path(seconds: np.ndarray) -> np.ndarray:
        wave = 0.5 * amplitude_mm * np.sin(2 * np.pi * per_minute / 60 * seconds)
        return np.asarray(wave[:, None] * np.asarray(direction))

    return path


def jerk(at_s: float, shift_mm: tuple[float, float]) -> Path:
    """One sudden shift that stays."""

    def path(seconds: np.ndarray) -> np.ndarray:
        return np.asarray((seconds > at_s)[:, None] * np.asarray(shift_mm))

    return path


def moved(blocks: Iterable[ReadoutBlock], protocol: Protocol, path: Path) -> Iterator[ReadoutBlock]:
    """Yield readouts of a measurement with the patient moving along a path.

    Parameters
    ----------
    blocks : iterable of ReadoutBlock
        From `scanner.step.Step.readouts`.
    protocol : Protocol
        Of the step.
    path : Path

    Yields
    ------
    ReadoutBlock
        Noise readouts as they were.
    """
    fov_x, fov_y, _ = protocol.geometry.encoded_field_of_view_mm
    start: float | None = None
    for block in blocks:
        headers = block.headers
        if headers["flags"][0] & np.uint64(AcquisitionFlag.IS_NOISE_MEASUREMENT):
            yield block
            continue
        stamps = headers["acquisition_time_stamp"].astype(float) * TICK_S
        start = stamps[0] if start is None else start
        shift = path(stamps - start)
        ky = headers["idx"]["kspace_encode_step_1"].astype(float) - headers["idx"]["user"][:, 5]
        kx = np.arange(block.samples.shape[-1]) - headers["center_sample"].astype(float)[:, None]
        turns = kx * shift[:, :1] / fov_x + (ky * shift[:, 1] / fov_y)[:, None]
        phase = np.exp(-2j * np.pi * turns).astype(np.complex64)
        yield replace(block, samples=block.samples * phase[:, None, :])
