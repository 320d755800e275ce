"""Shifts of the patient in k-space, against a point whose k-space is known."""

from dataclasses import replace

import numpy as np

from protocols.mrd_types import AcquisitionFlag
from scanner.exam import quick_exam
from scanner.motion import breathing, jerk, moved


def blocks_and_step(body_parts):
    step = quick_exam(body_parts)[0]
    return list(step.readouts()), step


def point(block, protocol, where_mm, moved_at=None):
    """Readouts of a point at (x, y) mm; from an order in the measurement on at another place."""
    fov_x, fov_y, _ = protocol.geometry.encoded_field_of_view_mm
    ky = block.headers["idx"]["kspace_encode_step_1"].astype(float)
    ky -= block.headers["idx"]["user"][:, 5]
    kx = np.arange(block.samples.shape[-1]) - block.headers["center_sample"][0].astype(float)
    turns = kx * where_mm[0] / fov_x + ky[:, None] * where_mm[1] / fov_y
    signal = np.exp(-2j * np.pi * turns)[:, None, :]
    return replace(block, samples=np.broadcast_to(signal, block.samples.shape).astype(np.complex64))


def is_noise(block) -> bool:
    return bool(block.headers["flags"][0] & np.uint64(AcquisitionFlag.IS_NOISE_MEASUREMENT))


def test_a_shifted_point_is_a_point_elsewhere(body):
    blocks, step = blocks_and_step(body)
    imaging = [point(b, step.protocol, (10.0, -20.0)) for b in blocks if not is_noise(b)]
    shifted = moved(imaging, step.protocol, jerk(-1.0, (3.0, 5.0)))
    for before, after in zip(imaging, shifted, strict=True):
        there = point(before, step.protocol, (13.0, -15.0))
        np.testing.assert_allclose(after.samples, there.samples, atol=2e-4)


def test_noise_and_readouts_before_the_shift_stay_as_they_are(body):
    blocks, step = blocks_and_step(body)
    still = moved(blocks, step.protocol, jerk(1e6, (3.0, 5.0)))
    for before, after in zip(blocks, still, strict=True):
        np.testing.assert_allclose(after.samples, before.samples, rtol=1e-5)
    swaying = list(moved(blocks, step.protocol, breathing(6.0, 15.0, (1.0, 0.0))))
    same = [np.array_equal(a.samples, b.samples) for a, b in zip(blocks, swaying, strict=True)]
    assert all(s == is_noise(b) for s, b in zip(same, blocks, strict=True))
    for before, after in zip(blocks, swaying, strict=True):
        np.testing.assert_allclose(np.abs(after.samples), np.abs(before.samples), rtol=1e-4)


def test_breathing_has_its_amplitude_and_rate():
    seconds = np.linspace(0, 60, 6001)
    shift = breathing(8.0, 15.0, (1.0, 0.0))(seconds)
    assert np.isclose(np.ptp(shift[:, 0]), 8.0, atol=0.01)
    assert not shift[:, 1].any()
    rising = np.count_nonzero((shift[:-1, 0] <= 0) & (shift[1:, 0] > 0))
    assert rising == 15
