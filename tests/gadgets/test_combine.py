"""Coil combination keeps SNR units; adaptive maps find the sensitivities without calibration."""

import numpy as np
import pytest

from bench.simulated import multicoil
from gadgets.combine import combine, inati_maps, root_sum_of_squares, walsh_maps
from gadgets.fft import ifftc


@pytest.fixture(scope="module")
def data():
    return multicoil(8, (1, 96, 90), snr=60)


def test_root_sum_of_squares():
    images = np.array([3, 4j], np.complex64).reshape(2, 1, 1, 1)
    assert root_sum_of_squares(images) == pytest.approx(5)


def test_true_maps_give_the_object_with_unit_noise(data):
    image = combine(ifftc(data.kspace, (2,)), data.maps)
    noise = image - data.image
    assert noise.real.std() == pytest.approx(1, abs=0.03)
    assert noise.imag.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("method", [walsh_maps, inati_maps])
def test_adaptive_combination_comes_close_to_the_true_maps(data, method):
    images = ifftc(data.kspace, (2,))
    maps = method(images)
    signal = np.abs(data.image) > 10
    np.testing.assert_allclose(np.linalg.norm(maps, axis=0)[signal], 1, atol=1e-4)
    agreement = np.abs(np.sum(maps.conj() * data.maps, axis=0))[signal]
    assert np.median(agreement) > 0.99
    error = np.abs(combine(images, maps)) - np.abs(data.image)
    by_squares = root_sum_of_squares(images) - np.abs(data.image)
    assert np.sqrt(np.mean(error[signal] ** 2)) < 1.3
    dark = np.abs(data.image) < 1
    assert np.abs(error[dark]).mean() < 0.8 * np.abs(by_squares[dark]).mean()


@pytest.mark.parametrize("method", [walsh_maps, inati_maps])
def test_phase_of_adaptive_maps_is_smooth(data, method):
    maps = method(ifftc(data.kspace, (2,)))
    signal = np.abs(data.image) > 10
    both = signal[:, 1:] & signal[:, :-1]
    steps = np.sum(maps[:, :, 1:] * maps[:, :, :-1].conj(), axis=0)[both]
    assert np.quantile(np.abs(np.angle(steps)), 0.99) < 0.3


def test_slabs_and_empty_images_do_not_raise():
    slab = np.zeros((3, 4, 16, 16), np.complex64)
    assert np.all(np.isfinite(walsh_maps(slab)))
    slab += 1
    assert walsh_maps(slab).shape == slab.shape
