"""Image scores against their definitions and against scikit-image."""

import numpy as np
import pytest
from skimage.data import camera
from skimage.metrics import structural_similarity

from scanner.score import nrmse, ssim

rng = np.random.default_rng(3)
TRUTH = camera()[::4, ::4].astype(np.float32)
NOISE = rng.standard_normal(TRUTH.shape)


def test_the_same_image_in_other_units_scores_best():
    assert nrmse(7 * TRUTH, TRUTH) == pytest.approx(0, abs=1e-6)
    assert ssim(7 * TRUTH, TRUTH) == pytest.approx(1, abs=1e-6)


def test_nrmse_of_orthogonal_error_is_its_relative_size():
    """With error orthogonal to the truth, the best scale leaves sin of the angle between them."""
    truth = np.array([[3.0, 0.0]])
    assert nrmse(np.array([[3.0, 4.0]]), truth) == pytest.approx(4 / 5)


def test_phase_does_not_count():
    assert nrmse(TRUTH * np.exp(1j * NOISE), TRUTH) == pytest.approx(0, abs=1e-6)


def test_an_empty_image_is_all_error():
    assert nrmse(np.zeros_like(TRUTH), TRUTH) == 1


@pytest.mark.parametrize("level", [2, 10, 40])
def test_ssim_agrees_with_scikit_image(level):
    image = np.abs(TRUTH + level * NOISE)
    fitted = image * (np.vdot(image, TRUTH) / np.vdot(image, image))
    expected = structural_similarity(
        fitted,
        TRUTH.astype(float),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=float(np.ptp(TRUTH)),
    )
    assert ssim(image, TRUTH) == pytest.approx(expected, abs=1e-9)
