"""Noise maps agree with the spread of 200 reconstructions of noise."""

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets.gfactor import noise_map
from gadgets.sense import sense

RANDOM = np.random.default_rng(1).random((1, 72)) < 0.5
RANDOM[:, 30:42] = True

CASES = {
    "lattice R=2": ((1, 72, 32), sampling(72, 1, (2, 1), 0)),
    "lattice R=3": ((1, 72, 32), sampling(72, 1, (3, 1), 0)),
    "R=3 with 12 calibration lines": ((1, 72, 32), sampling(72, 1, (3, 1), 12)),
    "R=4 on a matrix of 70": ((1, 70, 32), sampling(70, 1, (4, 1), 8)),
    "3D 2x2 CAIPIRINHA": ((8, 32, 16), sampling(32, 8, (2, 2), 0, 1)),
    "random": ((1, 72, 32), RANDOM),
}


def monte_carlo(mask, maps, replicas=200):
    """Return sigma per real channel of reconstructed unit noise, (z, y, x)."""
    rng = np.random.default_rng(7)
    total = np.zeros(maps.shape[1:])
    for _ in range(replicas):
        noise = rng.standard_normal((*maps.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        total += np.abs(sense(noise * mask[None, :, :, None], mask, maps, tolerance=1e-4)) ** 2
    return np.sqrt(total / (2 * replicas))


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_monte_carlo(case):
    shape, mask = CASES[case]
    data = multicoil(8, shape, snr=100)
    support = np.abs(data.image) > 0
    maps = data.maps * support
    expected = monte_carlo(mask, maps)[support]
    found = noise_map(mask, maps)
    assert found.dtype == np.float32
    assert np.all(found[~support] == 0)
    ratio = found[support] / expected
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(ratio - 1) < 0.15) > 0.8


def test_full_sampling_has_unit_noise():
    data = multicoil(6, (1, 32, 24))
    found = noise_map(np.ones((1, 32), bool), data.maps, regularization=0.0)
    np.testing.assert_allclose(found, 1, atol=1e-3)
