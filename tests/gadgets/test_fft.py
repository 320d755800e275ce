"""Transforms are centred, orthonormal, keep precision, and agree with the defining sum."""

import numpy as np
import pytest

from gadgets import fft


def matrix(n: int) -> np.ndarray:
    """Return the centred orthonormal Fourier matrix by its definition."""
    j = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(j, j) / n) / np.sqrt(n)


@pytest.mark.parametrize("n", [1, 2, 7, 12, 15])
def test_agrees_with_the_defining_sum(n):
    x = np.random.default_rng(n).standard_normal((3, n)) * (1 + 2j)
    np.testing.assert_allclose(fft.fftc(x, (1,)), x @ matrix(n).T, atol=1e-12)
    np.testing.assert_allclose(fft.ifftc(x, (-1,)), x @ matrix(n).conj().T, atol=1e-12)


def test_two_axes_are_one_after_the_other_and_the_inverse_returns():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 8)) + 1j * rng.standard_normal((2, 5, 8))
    expected = np.einsum("ai,bj,cij->cab", matrix(5), matrix(8), x)
    np.testing.assert_allclose(fft.fftc(x, (1, 2)), expected, atol=1e-12)
    np.testing.assert_allclose(fft.ifftc(fft.fftc(x, (-2, -1)), (-2, -1)), x, atol=1e-12)


@pytest.mark.parametrize("n", [9, 64])
def test_single_precision_stays_single_and_the_input_is_untouched(n):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, n)) + 1j * rng.standard_normal((4, n))).astype(np.complex64)
    before = x.copy()
    y = fft.fftc(x, (1,))
    assert y.dtype == np.complex64
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(y, x.astype(complex) @ matrix(n).T, atol=2e-6)
    assert fft.fftc(x.real, (1,)).dtype == np.complex64


def test_no_axes_is_the_identity():
    x = np.arange(3, dtype=np.complex64)
    np.testing.assert_array_equal(fft.fftc(x, ()), x)


def test_thread_cap():
    before = fft.threads()
    try:
        fft.set_threads(0)
        assert fft.threads() == 1
        fft.set_threads(3)
        assert fft.threads() == 3
    finally:
        fft.set_threads(before)


@pytest.mark.gpu
def test_gpu_gives_the_same():
    cupy = pytest.importorskip("cupy")
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.complex64)
    np.testing.assert_allclose(fft.fftc(cupy.asarray(x), (1,)).get(), fft.fftc(x, (1,)), atol=1e-5)
