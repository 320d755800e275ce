"""Homodyne and POCS: exact for conjugate symmetric data, better than zeros for smooth phase."""

import numpy as np
import pytest

from bench.simulated import ellipses
from gadgets.fft import fftc, ifftc
from gadgets.partial_fourier import METHODS, fill, homodyne_weights, missing_side, noise_factor

ACQUIRED = {"first lines missing": slice(24, 96), "last lines missing": slice(0, 75)}


def zero_filled(image: np.ndarray, axis: int, acquired: slice) -> np.ndarray:
    kspace = fftc(image.astype(np.complex128), (axis,))
    window = [slice(None)] * image.ndim
    window[axis] = acquired
    kept = np.zeros_like(kspace)
    kept[tuple(window)] = kspace[tuple(window)]
    return ifftc(kept, (axis,))


def error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("side", ACQUIRED)
@pytest.mark.parametrize("method", ["homodyne", "pocs"])
def test_exact_for_conjugate_symmetric_data(axis, side, method):
    # Positive, so that the low-resolution phase is zero everywhere; without the line at -n/2, which
    # has no counterpart.
    truth = ellipses(96, 96)[None] + 3
    kspace = fftc(truth.astype(complex), (axis,))
    kspace[(slice(None),) * axis + (0,)] = 0
    truth = ifftc(kspace, (axis,))
    filled = fill(zero_filled(truth, axis, ACQUIRED[side]), axis, ACQUIRED[side], method)
    assert error(filled, truth) < (1e-8 if method == "homodyne" else 2e-3)


@pytest.mark.parametrize("side", ACQUIRED)
@pytest.mark.parametrize("method", ["homodyne", "pocs"])
def test_better_than_zeros_for_smooth_phase(side, method):
    y, x = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), indexing="ij")
    truth = (ellipses(96, 96) * np.exp(1j * (0.8 * y + 0.5 * x * y)))[None]
    zeros = zero_filled(truth, 1, ACQUIRED[side])
    filled = fill(zeros, 1, ACQUIRED[side], method)
    assert error(np.abs(filled), np.abs(truth)) < 0.5 * error(np.abs(zeros), np.abs(truth))
    assert error(filled, truth) < 0.6 * error(zeros, truth)


def test_zero_fill_changes_nothing_and_precision_stays():
    image = ellipses(32, 32)[None].astype(np.complex64)
    assert fill(image, 1, slice(8, 32), "zero-fill") is image
    for method in METHODS:
        assert fill(image, 1, slice(8, 32), method).dtype == np.complex64


@pytest.mark.parametrize("acquired", [slice(8, 32), slice(0, 25), slice(9, 33)])
def test_weights_of_counterparts_add_up_to_two(acquired):
    n = acquired.stop if acquired.start else 32
    weights = homodyne_weights(n, acquired)
    centre = n // 2
    for distance in range(1, (n - 1) // 2 + 1):
        assert weights[centre - distance] + weights[centre + distance] == pytest.approx(2)
    assert weights[centre] == 1


@pytest.mark.parametrize("method", METHODS)
def test_noise_factor_is_that_of_noise_on_a_bright_image(method):
    rng = np.random.default_rng(0)
    acquired = slice(24, 96)
    bright = np.full((1, 96, 400), 1e4, complex)
    noise = rng.standard_normal(bright.shape) + 1j * rng.standard_normal(bright.shape)
    filled = fill(zero_filled(bright + noise, 1, acquired), 1, acquired, method)
    reference = fill(zero_filled(bright, 1, acquired), 1, acquired, method)
    assert (filled - reference).real.std() == pytest.approx(
        noise_factor(96, acquired, method), rel=0.04
    )


def test_missing_side():
    full = np.ones(64, bool)
    assert missing_side(full, 1) is None
    late, early, undersampled = full.copy(), full.copy(), np.arange(64) % 4 == 0
    late[:20], early[50:] = False, False
    assert missing_side(late, 1) == slice(20, 64)
    assert missing_side(early, 1) == slice(0, 50)
    assert missing_side(undersampled, 4) is None
    assert missing_side(undersampled & late, 4) == slice(20, 64)
    assert missing_side(np.zeros(64, bool), 1) is None
