"""Metal and failed fat suppression, seen on simulated exams."""

import numpy as np
import pytest

from scanner.exam import quick_exam
from scanner.faults import FailedFatSuppression, PedicleScrews
from scanner.phantom import LumbarSpine
from scanner.tissues import Label


@pytest.fixture(scope="module")
def spine() -> LumbarSpine:
    return LumbarSpine()


def stir(thing) -> np.ndarray:
    """STIR of the middle slice, (y, x); 3.3 mm pixels, centred on L3, head up, front left."""
    return quick_exam(thing)[2].truth()[1]


def test_fat_is_bright_on_stir_only_where_the_inversion_failed(spine):
    back = (0.0, 90.0, -60.0)
    plain, failed = stir(spine), stir(FailedFatSuppression(spine, back, 50.0))
    row, column = np.indices(plain.shape)
    y, z = (column - 64) * 420 / 128, (64 - row) * 420 / 128
    distance = np.hypot(y - 90, z + 60)
    assert failed[distance < 35].mean() > 2.5 * plain[distance < 35].mean()
    far = distance > 120
    np.testing.assert_allclose(failed[far].mean(), plain[far].mean(), rtol=0.05)


def test_screws_lie_in_the_pedicles_and_leave_a_void(spine):
    screws = PedicleScrews(spine, ("L4",))
    grid = np.stack(
        np.meshgrid(
            np.arange(-40, 41, 1.0), np.arange(-30, 61, 1.0), np.arange(-60, 0, 1.0), indexing="ij"
        ),
        axis=-1,
    ).astype(np.float32)
    before, after = spine.sample(grid), screws.sample(grid)
    metal = after.labels == Label.METAL
    assert 1500 < metal.sum() < 6000
    assert grid[metal][:, 0].min() < -10 and grid[metal][:, 0].max() > 10
    bone = np.isin(before.labels[metal], (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN))
    assert bone.mean() > 0.6
    assert not np.any(np.isin(before.labels[metal], (Label.CSF, Label.CORD)))
    assert after.density[~metal].min() < 0.3 < before.density.min()


def test_the_field_of_metal_falls_with_the_distance(spine):
    screws = PedicleScrews(spine, ("L4",))
    line = np.array([22.0, 10.0, -36.0]) + np.arange(0, 80, 5.0)[:, None] * [0, 0, 1]
    change = np.abs(screws.b0_ppm(line) - spine.b0_ppm(line))
    assert change.max() > 3
    assert change[-1] < 0.1


def test_faults_can_be_put_over_each_other(spine):
    both = FailedFatSuppression(PedicleScrews(spine, ("L4",)), (0.0, 0.0, 0.0))
    assert both.sample(np.zeros((1, 3), np.float32)).labels.shape == (1,)
    assert both.b0_ppm(np.zeros((1, 3), np.float32)).shape == (1,)
