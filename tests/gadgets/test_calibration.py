"""A frame's calibration lines: its own, or its fully sampled centre, or none."""

import numpy as np
import pytest

from bench.simulated import sampling
from gadgets.calibration import calibration_lines, sampled_centre
from gadgets.items import Frame, FrameKey
from protocols.mrd_types import ACQUISITION_HEADER


def frame(mask: np.ndarray, calibration=None, fill: complex = 1) -> Frame:
    kspace = np.zeros((2, *mask.shape, 4), np.complex64)
    kspace[:, mask] = fill * (1 + np.arange(int(mask.sum())))[None, :, None]
    key = FrameKey(0, 0, 0, 0, 0, 0)
    header = np.zeros((), ACQUISITION_HEADER)[()]
    return Frame(kspace, mask, key, header, np.ones(4, bool), calibration)


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize("lines", [8, 9, 12, 13])
def test_the_block_is_centred(n, lines):
    z, y = sampled_centre(sampling(n, 1, (4, 1), lines))
    assert z == slice(0, 1)
    assert y.start + (y.stop - y.start) // 2 == n // 2
    assert lines - 1 <= y.stop - y.start <= lines + 1


def test_full_sampling_and_partial_fourier():
    full = np.ones((1, 32), bool)
    assert sampled_centre(full) == (slice(0, 1), slice(0, 32))
    full[:, :12] = False
    assert sampled_centre(full) == (slice(0, 1), slice(12, 21))


def test_slab():
    z, y = sampled_centre(sampling(32, 16, (2, 2), 8, 1))
    assert (z, y) == (slice(4, 12), slice(12, 20))


def test_centre_missing():
    mask = np.ones((1, 32), bool)
    mask[0, 16] = False
    assert sampled_centre(mask) is None
    assert calibration_lines(frame(mask)) is None


def test_own_lines_come_first_but_only_if_usable():
    mask = sampling(32, 1, (2, 1), 12)
    lines = np.ones((2, 1, 16, 4), np.complex64)
    assert calibration_lines(frame(mask, lines)) is lines
    for bad in (np.zeros_like(lines), lines * np.nan, lines[:, :, :4]):
        assert calibration_lines(frame(mask, bad)).shape[2] in (11, 12, 13)


def test_too_few_or_broken_lines_are_none():
    assert calibration_lines(frame(sampling(32, 1, (4, 1), 0))) is None
    assert calibration_lines(frame(sampling(32, 1, (2, 1), 12), fill=np.nan)) is None
