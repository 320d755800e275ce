"""Noise readouts: the covariance that was asked for, at any bandwidth."""

import numpy as np

from scanner.noise import RELATIVE_BANDWIDTH, correlated_noise, noise_readouts, receiver_filter

COVARIANCE = np.array([[2.0, 0.5 + 0.4j, 0.1], [0.5 - 0.4j, 1.0, -0.2j], [0.1, 0.2j, 0.5]])


def measured(noise):
    flat = np.moveaxis(noise, 1, 0).reshape(noise.shape[1], -1)
    return flat @ flat.conj().T / flat.shape[1]


def test_imaging_noise_has_the_covariance_of_its_bandwidth():
    for dwell_us in (2.0, 8.0):
        noise = correlated_noise((400, 256), COVARIANCE, dwell_us, np.random.default_rng(0))
        assert noise.dtype == np.complex64 and noise.shape == (400, 3, 256)
        np.testing.assert_allclose(measured(noise) * dwell_us, COVARIANCE, atol=0.03)


def test_real_and_imaginary_parts_are_equally_strong_and_independent():
    noise = correlated_noise((400, 256), COVARIANCE, 1.0, np.random.default_rng(0))[:, 0]
    np.testing.assert_allclose([noise.real.var(), noise.imag.var()], 1.0, rtol=0.03)
    assert abs(np.mean(noise.real * noise.imag)) < 0.02


def test_noise_scan_loses_the_edges_of_the_band():
    noise = noise_readouts((400, 256), COVARIANCE, 5.0, np.random.default_rng(0))
    assert noise.dtype == np.complex64
    np.testing.assert_allclose(measured(noise) * 5.0, RELATIVE_BANDWIDTH * COVARIANCE, atol=0.03)


def test_receiver_filter_is_flat_inside_and_none_at_the_edge():
    response = receiver_filter(256)
    np.testing.assert_allclose(np.mean(response**2), RELATIVE_BANDWIDTH, rtol=1e-6)
    assert response[0] == response.max() and response[128] < 0.05
