"""The noise level which the data themselves tell, against the noise that was put in. Simulated."""

from dataclasses import replace

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets.items import Frame, FrameKey
from gadgets.noise_level import noise_level
from protocols.mrd_types import ACQUISITION_HEADER


def frame(kspace: np.ndarray, mask: np.ndarray) -> Frame:
    return Frame(
        kspace=kspace * mask[None, :, :, None],
        mask=mask,
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=np.zeros((), ACQUISITION_HEADER)[()],
        readout_mask=np.ones(kspace.shape[3], bool),
    )


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("snr", [5, 40])
def test_it_is_the_noise_that_was_put_in(sigma, snr):
    data = multicoil(8, (1, 128, 96), snr)
    found = noise_level(frame(data.kspace * np.float32(sigma), sampling(128, 1, (3, 1), 20)))
    assert 0.9 * sigma < found < 1.15 * sigma


def test_signal_only_raises_it():
    levels = [
        noise_level(frame(multicoil(8, (1, 128, 96), snr).kspace, np.ones((1, 128), bool)))
        for snr in (10, 100, 1000)
    ]
    assert 0.9 < levels[0] < levels[1] < levels[2]


def test_partitions_with_readouts_of_one_sample():
    """As of a plane (ky, kz) of a 3D scan."""
    data = multicoil(8, (64, 72, 3), 20)
    mask = np.random.default_rng(0).random((64, 72)) < 0.3
    assert 0.85 < noise_level(frame(data.kspace[..., 1:2], mask)) < 1.2


def test_an_odd_coil_out_does_not_count():
    data = multicoil(8, (1, 128, 96), 20)
    data.kspace[3] *= 50
    assert 0.9 < noise_level(frame(data.kspace, np.ones((1, 128), bool))) < 1.15


def test_partial_fourier():
    mask = np.ones((1, 128), bool)
    mask[:, :40] = False
    assert 0.9 < noise_level(frame(multicoil(8, (1, 128, 96), 20).kspace, mask)) < 1.15


def test_zero_where_the_outermost_samples_are():
    whole = frame(np.zeros((4, 1, 32, 32), np.complex64), np.ones((1, 32), bool))
    assert noise_level(whole) == 0
    assert noise_level(replace(whole, kspace=whole.kspace[..., :1])) == 0
