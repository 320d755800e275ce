"""Compression keeps noise white, orders coils by energy and keeps what it promises."""

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets.coil_compression import CompressCoils, compress, compression_matrix
from gadgets.items import Calibration, Frame, FrameKey
from protocols.mrd_types import ACQUISITION_HEADER

KEY = FrameKey(0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def data():
    return multicoil(12, (1, 64, 48), snr=100)


def test_rows_are_orthonormal_and_dtype_is_kept(data):
    matrix = compression_matrix(data.calibration(16), 6)
    assert matrix.shape == (6, 12)
    assert matrix.dtype == np.complex64
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(6), atol=1e-6)


def test_equals_the_singular_value_decomposition(data):
    lines = data.calibration(16).reshape(12, -1).astype(complex)
    left = np.linalg.svd(lines, full_matrices=False)[0]
    matrix = compression_matrix(data.calibration(16), 3)
    np.testing.assert_allclose(np.abs(matrix @ left[:, :3]), np.eye(3), atol=1e-4)


def test_energy_decides_how_many(data):
    lines = data.calibration(16)
    few, many = (compression_matrix(lines, energy=e) for e in (0.9, 0.999))
    assert 1 <= len(few) < len(many) <= 12
    kept = np.linalg.norm(compress(lines, many)) ** 2
    assert kept > 0.99 * np.linalg.norm(lines) ** 2


def test_noise_stays_white():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 20000)) + 1j * rng.standard_normal((12, 20000))
    matrix = compression_matrix(multicoil(12, (1, 32, 32)).calibration(16), 5)
    virtual = compress(noise, matrix)
    np.testing.assert_allclose(virtual @ virtual.conj().T / 40000, np.eye(5), atol=0.02)


def test_gadget_compresses_with_the_first_calibration_of_a_slice(data):
    mask = sampling(64, 1, (2, 1), 0)
    frame = Frame(
        data.kspace * mask[None, :, :, None],
        mask,
        KEY,
        np.zeros((), ACQUISITION_HEADER)[()],
        np.ones(48, bool),
    )
    other = Frame(frame.kspace, mask, KEY._replace(slice=3), frame.header, frame.readout_mask)
    items = ["unknown", Calibration(data.calibration(16), KEY), frame, other]
    out = list(CompressCoils(6)(iter(items)))
    assert out[0] == "unknown"
    assert out[1].kspace.shape == (6, 1, 16, 48)
    assert out[2].kspace.shape == (6, 1, 64, 48)
    assert out[3] is other
    matrix = compression_matrix(data.calibration(16), 6)
    np.testing.assert_allclose(out[2].kspace, compress(frame.kspace, matrix), atol=1e-3)
