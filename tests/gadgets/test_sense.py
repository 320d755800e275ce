"""SENSE equals the least-squares solution of the encoding matrix written out in float64."""

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets import sense as module
from gadgets.fft import fftc
from gadgets.sense import sense


def encoding_matrix(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return A of one column: complex128 (coil * acquired line, z * y), by the defining sum."""
    coils, nz, ny = maps.shape
    z, y = np.arange(nz) - nz // 2, np.arange(ny) - ny // 2
    kz, ky = np.nonzero(mask)
    phase = (
        np.multiply.outer((kz - nz // 2) / nz, z)[:, :, None]
        + np.multiply.outer((ky - ny // 2) / ny, y)[:, None, :]
    )
    waves = np.exp(-2j * np.pi * phase) / np.sqrt(nz * ny)
    return (maps[:, None] * waves[None]).reshape(coils * len(ky), nz * ny)


def brute_force(kspace, mask, maps, regularization):
    """Solve each column with `numpy.linalg.lstsq`."""
    _, nz, ny, nx = kspace.shape
    image = np.zeros((nz, ny, nx), complex)
    for x in range(nx):
        a = encoding_matrix(mask, maps[..., x].astype(complex))
        data = kspace[:, mask, x].ravel()
        a = np.vstack([a, np.sqrt(regularization) * np.eye(a.shape[1])])
        data = np.concatenate([data, np.zeros(nz * ny)])
        image[..., x] = np.linalg.lstsq(a, data)[0].reshape(nz, ny)
    return image


CASES = {
    "lattice R=2": ((1, 24, 6), sampling(24, 1, (2, 1), 0)),
    "lattice R=3 off centre": ((1, 24, 6), np.roll(sampling(24, 1, (3, 1), 0), 1)),
    "R=3 and calibration lines": ((1, 24, 6), sampling(24, 1, (3, 1), 6)),
    "R=3 on a matrix of 16": ((1, 16, 6), sampling(16, 1, (3, 1), 4)),
    "odd matrix": ((1, 15, 5), sampling(15, 1, (2, 1), 5)),
    "3D 2x2": ((6, 12, 3), sampling(12, 6, (2, 2), 0)),
    "3D 2x2 CAIPIRINHA": ((6, 12, 3), sampling(12, 6, (2, 2), 0, caipi=1)),
    "3D 1x3 CAIPIRINHA": ((6, 12, 3), sampling(12, 6, (1, 3), 0, caipi=1)),
    "3D 2x2 CAIPIRINHA and calibration": ((6, 12, 3), sampling(12, 6, (2, 2), 4, caipi=1)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_least_squares_of_the_encoding_matrix(case):
    shape, mask = CASES[case]
    data = multicoil(6, shape)
    maps = data.maps * (np.abs(data.image) > 0.5)
    kspace = data.kspace * mask[None, :, :, None]
    expected = brute_force(kspace, mask, maps, 1e-2)
    image = sense(kspace, mask, maps, regularization=1e-2, tolerance=1e-6, iterations=200)
    assert image.dtype == np.complex64
    np.testing.assert_allclose(image, expected, atol=2e-4 * np.abs(expected).max())


def test_random_sampling_equals_least_squares():
    mask = np.random.default_rng(3).random((1, 24)) < 0.5
    data = multicoil(6, (1, 24, 5))
    kspace = data.kspace * mask[None, :, :, None]
    image = sense(kspace, mask, data.maps, regularization=1e-2, tolerance=1e-6, iterations=300)
    expected = brute_force(kspace, mask, data.maps, 1e-2)
    np.testing.assert_allclose(image, expected, atol=2e-4 * np.abs(expected).max())


def test_without_noise_the_object_comes_back():
    data = multicoil(8, (1, 64, 48), snr=np.inf)
    maps = data.maps * (np.abs(data.image) > 0)
    mask = sampling(64, 1, (2, 1), 12)
    kspace = fftc(maps * data.image, (2,)) * mask[None, :, :, None]
    image = sense(kspace, mask, maps, regularization=1e-6, tolerance=1e-5, iterations=100)
    assert np.linalg.norm(image - data.image) < 1e-3 * np.linalg.norm(data.image)


@pytest.mark.parametrize("snr", [100, 300, 1000])
def test_stops_only_when_aliasing_is_below_the_noise(snr):
    data = multicoil(12, (1, 160, 64), snr=snr)
    mask = sampling(160, 1, (4, 1), 24)
    kspace = data.kspace * mask[None, :, :, None]
    regularization = (3 / snr) ** 2
    stopped, converged = (
        np.linalg.norm(
            sense(kspace, mask, data.maps, regularization=regularization, **options) - data.image
        )
        for options in ({}, {"tolerance": 1e-6, "iterations": 200})
    )
    assert stopped < 1.1 * converged


def test_chunks_change_nothing(monkeypatch):
    data = multicoil(6, (1, 32, 30))
    mask = sampling(32, 1, (2, 1), 8)
    kspace = data.kspace * mask[None, :, :, None]
    whole = sense(kspace, mask, data.maps, tolerance=1e-6)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(
        sense(kspace, mask, data.maps, tolerance=1e-6), whole, atol=1e-4 * np.abs(whole).max()
    )


def test_agrees_with_sigpy():
    sigpy_mri = pytest.importorskip("sigpy.mri")
    data = multicoil(8, (1, 64, 64))
    mask = sampling(64, 1, (3, 1), 12)
    kspace = data.kspace * mask[None, :, :, None]
    ours = sense(kspace, mask, data.maps, regularization=1e-2, tolerance=1e-6, iterations=100)[0]
    theirs = sigpy_mri.app.SenseRecon(
        fftc(kspace, (3,))[:, 0],
        data.maps[:, 0],
        lamda=1e-2,
        weights=np.broadcast_to(mask[0][:, None], (64, 64)).astype(np.float32),
        max_iter=200,
        show_pbar=False,
    ).run()
    assert np.linalg.norm(ours - theirs) < 2e-3 * np.linalg.norm(theirs)


@pytest.mark.gpu
def test_gpu_gives_the_same():
    cupy = pytest.importorskip("cupy")
    data = multicoil(6, (1, 32, 30))
    mask = sampling(32, 1, (2, 1), 8)
    kspace = data.kspace * mask[None, :, :, None]
    expected = sense(kspace, mask, data.maps)
    result = sense(cupy.asarray(kspace), mask, cupy.asarray(data.maps)).get()
    np.testing.assert_allclose(result, expected, atol=1e-3 * np.abs(expected).max())
