"""Lattices are found in sampling masks whatever lies on top of them or is missing."""

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets.lattice import Lattice, Unfolding, find_lattice


@pytest.mark.parametrize("ry", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("calibration", [0, 24])
def test_regular_lines(ry, calibration):
    assert find_lattice(sampling(128, 1, (ry, 1), calibration)) == Lattice(ry, 1, 0, 0, 0)


def test_offset_is_found():
    assert find_lattice(np.roll(sampling(120, 1, (4, 1), 0), 3)) == Lattice(4, 1, 0, 3, 0)


@pytest.mark.parametrize(
    ("acceleration", "caipi"), [((2, 2), 0), ((2, 2), 1), ((1, 3), 1), ((2, 3), 2)]
)
def test_caipirinha(acceleration, caipi):
    found = find_lattice(sampling(48, 24, acceleration, 8, caipi))
    assert found == Lattice(*acceleration, caipi, 0, 0)


def test_partial_fourier_and_ellipse_do_not_hide_it():
    mask = sampling(64, 32, (2, 2), 8, 1)
    partial = mask.copy()
    partial[:, :20] = False
    y, z = (np.arange(64) - 32) / 32, (np.arange(32) - 16)[:, None] / 16
    assert find_lattice(partial) == find_lattice(mask & (y**2 + z**2 < 1)) == find_lattice(mask)


def test_irregular_and_empty_masks_have_none():
    for seed in range(20):
        mask = np.random.default_rng(seed).random((1, 96)) < 0.5
        mask[:, 40:56] = True
        assert find_lattice(mask) is None
    assert find_lattice(np.zeros((1, 128), bool)) is None


def test_mask_of_a_lattice_is_the_sampling():
    mask = sampling(48, 24, (2, 3), 0, 1)
    lattice = find_lattice(mask)
    np.testing.assert_array_equal(lattice.mask(24, 48), mask)
    assert lattice.is_exactly(mask)
    assert not lattice.is_exactly(sampling(48, 24, (2, 3), 4, 1))


@pytest.mark.parametrize("lattice", [Lattice(3, 1, 0, 1, 0), Lattice(2, 2, 1, 0, 1)])
def test_noise_variance_is_that_of_the_matrix_written_out(lattice):
    data = multicoil(6, (4, 12, 3))
    mask = lattice.mask(4, 12)
    z, y = (np.arange(n) - n // 2 for n in (4, 12))
    kz, ky = np.nonzero(mask)
    turns = (
        np.multiply.outer((kz - 2) / 4, z)[:, :, None]
        + np.multiply.outer((ky - 6) / 12, y)[:, None]
    )
    waves = np.exp(-2j * np.pi * turns) / np.sqrt(48)
    variance = Unfolding(data.maps, lattice, 0.01).noise_variance()
    for x in range(3):
        a = (data.maps[:, None, ..., x].astype(complex) * waves).reshape(-1, 48)
        solve = np.linalg.solve(a.conj().T @ a + 0.01 * np.eye(48), a.conj().T)
        expected = np.sum(np.abs(solve) ** 2, 1).reshape(4, 12)
        np.testing.assert_allclose(variance[..., x], expected, rtol=1e-3)
