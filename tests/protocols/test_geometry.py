"""Positions computed by hand from headers."""

import numpy as np
import pytest

from protocols.geometry import directions, volume
from protocols.mrd_types import ACQUISITION_HEADER, IMAGE_HEADER


def image_header(read=(0, 1, 0), phase=(0, 0, -1), normal=(-1, 0, 0), position=(10, 20, 30)):
    header = np.zeros((), IMAGE_HEADER)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = read, phase, normal
    header["position"] = position
    header["field_of_view"] = (320, 160, 48)
    return header


def test_points_of_a_sagittal_slab():
    voxels = volume(image_header(), (12, 80, 160))
    assert np.allclose(voxels.point(6, 40, 80), (10, 20, 30))
    # 2 mm along readout (+y), 2 mm along phase (-z), 4 mm along slice (-x)
    assert np.allclose(voxels.point(7, 41, 81), (6, 22, 28))
    assert np.allclose(voxels.corner, (10 + 24, 20 - 160, 30 + 80))


def test_odd_matrix_has_its_middle_voxel_at_the_position():
    voxels = volume(image_header(), (1, 81, 161))
    assert np.allclose(voxels.point(0, 40, 80), (10, 20, 30))


def test_index_undoes_point():
    oblique = image_header((0.6, 0.8, 0), (0, 0, 1), (0.8, -0.6, 0))
    voxels = volume(oblique, (12, 80, 160))
    assert np.allclose(voxels.index(voxels.point(3.5, 7, 151.25)), (3.5, 7, 151.25))


@pytest.mark.parametrize("dtype", [ACQUISITION_HEADER, IMAGE_HEADER])
def test_missing_directions_are_those_of_the_patient(dtype):
    assert np.array_equal(directions(np.zeros((), dtype)), np.eye(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0])
def test_unusable_directions(bad):
    assert np.array_equal(directions(image_header(read=(bad, 0, 0))), np.eye(3))
    assert np.array_equal(directions(image_header(read=(0, 0, 1))), np.eye(3))


def test_missing_slice_direction_is_the_normal():
    assert np.allclose(directions(image_header(normal=(0, 0, 0)))[2], (-1, 0, 0))


def test_directions_have_unit_length():
    assert np.allclose(directions(image_header((0, 3, 0), (0, 0, -2)))[:2], [(0, 1, 0), (0, 0, -1)])
