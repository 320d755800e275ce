"""A network's image counts as far as the network itself expects it to be better than SENSE."""

import numpy as np
import pytest

from gadgets.recon_dl import CAUTION, weighed


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    network, sense = (
        (rng.standard_normal((1, 8, 6)) + 1j * rng.standard_normal((1, 8, 6))).astype(np.complex64)
        for _ in range(2)
    )
    return network, sense, np.full((1, 8, 6), 2.0, np.float32)


@pytest.mark.parametrize(("error", "winner"), [(0.05, 0), (80.0, 1)])
def test_the_image_with_the_smaller_error_wins(images, error, winner):
    noise = images[2]
    image, left = weighed(images[0], np.full_like(noise, error), images[1], noise)
    np.testing.assert_allclose(image, images[winner], atol=1e-4)
    np.testing.assert_allclose(left, min(error, 2.0))


def test_where_both_are_as_good_each_counts_half(images):
    network, sense, noise = images
    image, _ = weighed(network, noise / np.float32(CAUTION), sense, noise)
    np.testing.assert_allclose(image, (network + sense) / 2, atol=1e-5)


def test_the_background_stays_empty(images):
    network, sense, noise = images
    noise[:, :3] = 0
    image, left = weighed(network, np.ones_like(noise), sense, noise)
    assert not image[:, :3].any() and not left[:, :3].any()
    assert image[:, 3:].all()
