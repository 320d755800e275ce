"""Bones and ratios of triage, on drawings whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from gadgets.items import LabelMap
from gadgets.triage_anatomy import _joint_depth, cropped, find_anatomy, on_grid, points_of
from gadgets.triage_model import quadratic
from gadgets.triage_signal import signal_of
from protocols.findings import Side
from protocols.geometry import Volume

VOLUME = Volume(
    position=np.zeros(3),
    directions=np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
    shape=(9, 96, 64),
    spacing=np.array([1.2, 1.2, 4.4]),
)
NAMES = ("", "L4", "L5", "canal")


@pytest.fixture(scope="module")
def labels():
    """Two bodies, 24 mm high and 34 mm deep, and a canal behind them."""
    voxels = np.zeros(VOLUME.shape, np.uint8)
    voxels[1:8, 20:40, 10:38] = 1
    voxels[1:8, 48:68, 10:38] = 2
    voxels[3:6, 10:80, 40:50] = 3
    return LabelMap(voxels, NAMES, VOLUME)


@pytest.fixture(scope="module")
def anatomy(labels):
    return find_anatomy(labels, VOLUME)


def shaded(anatomy, lesion=1.0):
    """Marrow of 100 under a coil that loses a third to the front; a lesion in L4."""
    image = np.full(VOLUME.shape, 100.0, np.float32)
    image[3:6, 26:34, 15:25] *= lesion
    y = points_of(VOLUME)[..., 1]
    return (image * np.exp(0.01 * y))[anatomy.box].astype(np.float32)


def test_bodies_have_their_axes_and_sizes(anatomy):
    frame = anatomy.frames["L4"]
    np.testing.assert_allclose(frame.axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(2 * frame.half[1:], (33.6, 24.0), atol=2.5)
    centre = VOLUME.point(4, 29.5, 23.5)
    np.testing.assert_allclose(frame.centre, centre, atol=1e-3)


def test_a_body_that_the_image_cuts_is_left_out(labels):
    box = (slice(0, 9), slice(28, 96), slice(0, 64))
    cut = LabelMap(labels.labels[box], NAMES, cropped(VOLUME, box))
    found = find_anatomy(cut, cut.volume)
    assert list(found.frames) == ["L5"] and "L4" not in found.names


def test_the_border_of_the_bone_is_left_out(anatomy):
    body = anatomy.bones == 1
    assert not anatomy.core[:, 20 - anatomy.box[1].start].any()
    assert 0.6 < anatomy.core[body].mean() < 0.95


def test_labels_come_to_another_grid(labels):
    shifted = Volume(VOLUME.point(4, 50, 33), VOLUME.directions, (3, 40, 20), VOLUME.spacing)
    found = on_grid(labels, shifted)
    at = tuple(round(v) for v in VOLUME.index(shifted.point(0, 0, 0)))
    expected = labels.labels[at[0] : at[0] + 3, at[1] : at[1] + 40, at[2] : at[2] + 20]
    np.testing.assert_array_equal(found, expected)


def test_shading_is_taken_out_and_the_lesion_stays(anatomy):
    signal = signal_of(anatomy, {"stir": shaded(anatomy, 2.0)}, None)
    ratio = signal.ratios["stir"]
    z, y, x = anatomy.box
    lesion = np.zeros(VOLUME.shape, bool)
    lesion[4, 29:31, 18:22] = True
    lesion = lesion[z, y, x]
    assert ratio[lesion].mean() == pytest.approx(np.log(2), abs=0.06)
    rest = anatomy.core & (anatomy.bones == 2)
    assert np.abs(ratio[rest]).max() < 0.05


def test_without_shading_or_lesion_every_ratio_is_one(anatomy):
    image = np.full(anatomy.bones.shape, 7.0, np.float32)
    signal = signal_of(anatomy, {"t1": image}, None)
    np.testing.assert_allclose(signal.ratios["t1"], 0, atol=1e-3)


def test_too_little_bone_is_nothing_to_compare_with(labels):
    small = np.where(labels.labels == 1, 1, 0).astype(np.uint8)
    small[:, 24:], small[2:] = 0, 0
    found = find_anatomy(LabelMap(small, NAMES, VOLUME), VOLUME)
    assert found is None or signal_of(found, {"stir": shaded(found)}, None) is None


def test_terms_are_the_constant_values_products_and_exponentials():
    (row,) = quadratic(np.array([[0.5, -1.0]]))
    np.testing.assert_allclose(row, [1, 0.5, -1, 0.25, -0.5, 1, np.exp(0.5), np.exp(-1)])


def test_smoothing_within_the_core_is_that_of_the_whole_over_that_of_the_core(anatomy):
    values = np.random.default_rng(3).random(anatomy.core.shape, np.float32) * anatomy.core
    sigma = (0, 1.6 / 1.2, 1.6 / 1.2)
    whole = ndimage.gaussian_filter(values.astype(float), sigma)
    share = ndimage.gaussian_filter(anatomy.core.astype(float), sigma)
    core = anatomy.core
    found = anatomy.smoothed(values, 1.6)[core]
    np.testing.assert_allclose(found, whole[core] / share[core], rtol=1e-5)


def test_the_distance_to_the_border_is_the_same_as_without_a_box(anatomy):
    expected = ndimage.distance_transform_edt(anatomy.bones > 0, sampling=anatomy.spacing)
    np.testing.assert_allclose(anatomy.edge_mm, expected, rtol=1e-6)


def test_depth_from_a_joint_is_the_distance_to_its_nearest_point(anatomy):
    surface = np.random.default_rng(2).normal((30.0, 0.0, 0.0), (1, 12, 12), (300, 3))
    bone, free = anatomy.bones > 0, anatomy.bones == 0
    depth, lateral = _joint_depth({Side.LEFT: surface}, anatomy.points, bone, free)
    away = np.linalg.norm(anatomy.points[..., None, :] - surface, axis=-1)
    for part, reach in ((bone, 26.0), (free, 13.0)):
        near = part & (away.min(axis=-1) < reach - 0.01)
        assert near.any()
        np.testing.assert_allclose(depth[near], away.min(axis=-1)[near], atol=1e-3)
    nearest = surface[np.argmin(away, axis=-1)]
    assert (anatomy.points[..., 0] > nearest[..., 0])[lateral == 1].all()
