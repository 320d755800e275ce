"""GRAPPA equals a point-by-point implementation, is exact where it can be, and is near SENSE."""

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from gadgets.combine import combine
from gadgets.fft import fftc, ifftc
from gadgets.gfactor import grappa_noise_map
from gadgets.grappa import SAMPLES, calibrate, grappa, grappa_noise
from gadgets.lattice import Lattice, find_lattice
from gadgets.sense import sense

PATTERNS = {
    "R=2": ((1, 32, 24), (2, 1), 0),
    "R=3": ((1, 33, 24), (3, 1), 0),
    "2x2": ((12, 24, 20), (2, 2), 0),
    "2x2 CAIPIRINHA": ((12, 24, 20), (2, 2), 1),
    "1x3 CAIPIRINHA": ((12, 24, 20), (1, 3), 1),
}


def point_by_point(kspace, mask, lattice, targets):
    """Fill (coil, kz, ky, kx) with loops over every missing point, circular along kx."""
    coils, nz, ny, nx = kspace.shape
    on_lattice = mask & lattice.mask(nz, ny)
    kinds = {}
    for target in targets:
        kinds[target.offset] = target
    result = kspace.astype(complex)
    for kz, ky in np.argwhere(~mask):
        for (oz, oy), target in kinds.items():
            moved = Lattice(
                lattice.ry, lattice.rz, lattice.shift, lattice.offset_y + oy, lattice.offset_z + oz
            )
            if not moved.mask(nz, ny)[kz, ky]:
                continue
            for kx in range(nx):
                value = np.zeros(coils, complex)
                for number, (dz, dy) in enumerate(target.sources):
                    z, y = kz + dz, ky + dy
                    if not (0 <= z < nz and 0 <= y < ny and on_lattice[z, y]):
                        continue
                    for sample in range(SAMPLES):
                        x = (kx + sample - SAMPLES // 2) % nx
                        value += target.weights[:, number, :, sample] @ kspace[:, z, y, x]
                result[:, kz, ky, kx] = value
    return result


@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_point_by_point(pattern):
    shape, acceleration, caipi = PATTERNS[pattern]
    data = multicoil(3, shape)
    mask = sampling(shape[1], shape[0], acceleration, 0, caipi)
    lattice = find_lattice(mask)
    targets = calibrate(data.kspace, lattice)
    assert len(targets) == acceleration[0] * acceleration[1] - 1
    kspace = data.kspace * mask[None, :, :, None]
    filled = grappa(kspace, mask, lattice, targets)
    expected = point_by_point(fftc(kspace, (3,)), mask, lattice, targets)
    expected = ifftc(expected, (3,))
    np.testing.assert_allclose(filled, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exact_for_a_shift_invariant_relation(pattern):
    # Three point objects seen by six coils: every sample is an exact weighted sum of neighbours.
    (nz, ny, nx), acceleration, caipi = PATTERNS[pattern]
    rng = np.random.default_rng(0)
    image = np.zeros((6, nz, ny, nx), complex)
    for _ in range(3):
        place = tuple(rng.integers(0, n) for n in (nz, ny, nx))
        image[(slice(None), *place)] = rng.standard_normal(6) + 1j * rng.standard_normal(6)
    kspace = fftc(image, (1, 2))
    mask = sampling(ny, nz, acceleration, 0, caipi)
    lattice = find_lattice(mask)
    targets = calibrate(kspace, lattice, regularization=1e-12)
    filled = grappa(kspace * mask[None, :, :, None], mask, lattice, targets)
    margin_z, margin_y = (0 if nz == 1 else 6), 4 * acceleration[0]
    inner = (slice(None), slice(margin_z // 2, nz - margin_z // 2), slice(margin_y, ny - margin_y))
    error = np.linalg.norm(filled[inner] - kspace[inner]) / np.linalg.norm(kspace[inner])
    assert error < 1e-4


@pytest.mark.parametrize("acceleration", [2, 3])
def test_is_near_sense(acceleration):
    data = multicoil(12, (1, 128, 128), snr=200)
    signal = np.abs(data.image) > 20
    mask = sampling(128, 1, (acceleration, 1), 24)
    kspace = data.kspace * mask[None, :, :, None]
    lattice = find_lattice(mask)
    filled = grappa(kspace, mask, lattice, calibrate(data.calibration(24), lattice))
    image = combine(ifftc(filled, (2,)), data.maps)
    reference = sense(kspace, mask, data.maps)

    def error(image):
        return np.linalg.norm((image - data.image)[signal]) / np.linalg.norm(data.image[signal])

    assert error(image) < 1.25 * error(reference) + 0.005
    np.testing.assert_array_equal(filled[:, mask], kspace[:, mask])


@pytest.mark.parametrize("case", [((1, 72, 32), (3, 1), 0), ((16, 32, 6), (2, 2), 1)])
def test_noise_agrees_with_monte_carlo(case):
    shape, acceleration, caipi = case
    data = multicoil(8, shape, snr=100)
    mask = sampling(shape[1], shape[0], acceleration, 0, caipi)
    lattice = find_lattice(mask)
    targets = calibrate(data.kspace, lattice)
    rng = np.random.default_rng(5)
    total = np.zeros(shape)
    for _ in range(120):
        noise = rng.standard_normal((8, *shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        filled = grappa(noise * mask[None, :, :, None], mask, lattice, targets)
        axes = (2,) if shape[0] == 1 else (1, 2)
        total += np.abs(combine(ifftc(filled, axes), data.maps)) ** 2
    expected = np.sqrt(total / 240)
    found = np.sqrt(grappa_noise(targets, lattice, data.maps, np.arange(shape[2])))
    # The kernel reaches over the edge of k-space, where Breuer's formula knows no edge.
    np.testing.assert_allclose(np.median(found / expected), 1, atol=0.05)
    assert np.mean(np.abs(found / expected - 1) < 0.15) > 0.9
    everywhere = grappa_noise_map(targets, lattice, mask, data.maps)
    np.testing.assert_allclose(everywhere, found, rtol=1e-4)


def test_too_few_calibration_lines_are_refused():
    with pytest.raises(ValueError, match="GRAPPA: expected calibration lines"):
        calibrate(np.ones((2, 1, 6, 32), np.complex64), Lattice(4, 1, 0, 0, 0))
