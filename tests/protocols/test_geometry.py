"""Positions computed by hand from headers."""

from dataclasses import replace

import numpy as np
import pytest

from protocols.geometry import Slab, directions, slab, volume
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


def oblique(**changes):
    """An oblique-coronal stack: rows to the left, columns caudal and dorsal."""
    c, s = np.cos(0.7), np.sin(0.7)
    plain = Slab((3.0, 40.0, -90.0), (1, 0, 0), (0, s, -c), (240.0, 180.0), (240, 120), 5, 3.0, 0.6)
    return replace(plain, **changes)


def image_headers(slab):
    """Headers of the images of a slab, as single precision has them."""
    count = 1 if slab.volumetric else slab.slices
    acquired, headers = np.zeros(count, ACQUISITION_HEADER), np.zeros(count, IMAGE_HEADER)
    acquired["idx"]["slice"] = np.arange(count)
    slab.place(acquired)
    for name in ("read_dir", "phase_dir", "slice_dir", "position"):
        headers[name] = acquired[name]
    partitions = slab.slices if slab.volumetric else 1
    headers["field_of_view"] = (*slab.field_of_view_mm, partitions * slab.thickness_mm)
    return headers


STACKS = pytest.mark.parametrize(
    "stack",
    [
        oblique(),
        oblique(slices=4, gap_mm=0.0),
        oblique(slices=1),
        oblique(slices=24, gap_mm=0.0, thickness_mm=0.9, volumetric=True),
        oblique(slices=7, gap_mm=0.0, thickness_mm=0.9, volumetric=True),
    ],
)


def test_slices_of_a_slab_lie_evenly_around_its_centre():
    stack = oblique(slices=4)
    normal = np.cross(stack.row, stack.column)
    along = (stack.positions - stack.centre) @ normal
    assert np.allclose(along, [-5.4, -1.8, 1.8, 5.4])
    assert stack.extent_mm == pytest.approx(4 * 3.0 + 3 * 0.6)
    assert normal[1] > 0  # ventral to dorsal, where rows run to the left and columns to the feet


@STACKS
def test_a_slab_comes_back_from_the_headers_of_its_images(stack):
    headers = image_headers(stack)
    partitions = stack.slices if stack.volumetric else 1
    again = slab(headers[::-1], (partitions, *stack.matrix[::-1]))
    assert (again.slices, again.matrix, again.volumetric) == (
        stack.slices, stack.matrix, stack.volumetric,
    )  # fmt: skip
    assert np.allclose(again.centre, stack.centre, atol=1e-4)
    assert np.allclose(again.directions, stack.directions, atol=1e-6)
    assert np.allclose(again.field_of_view_mm, stack.field_of_view_mm)
    assert again.thickness_mm == pytest.approx(stack.thickness_mm, abs=1e-6)
    gap = stack.gap_mm if stack.slices > 1 else 0.0
    assert again.gap_mm == pytest.approx(gap, abs=1e-4)


@STACKS
def test_voxels_lie_where_the_headers_of_the_images_say(stack):
    rng = np.random.default_rng(0)
    for number, header in enumerate(image_headers(stack)):
        depth = stack.slices if stack.volumetric else 1
        voxels = volume(header, (depth, *stack.matrix[::-1]))
        for z, y, x in rng.integers(0, (depth, *stack.matrix[::-1]), (5, 3)):
            asked = stack.volume.point(number if depth == 1 else z, y, x)
            assert np.allclose(voxels.point(z, y, x), asked, atol=2e-4)


def test_dicom_positions_are_those_of_the_first_pixels():
    stack = oblique()
    assert stack.image_orientation == (*stack.row, *stack.column)
    right, down, normal = stack.directions
    for number, position in enumerate(stack.image_positions):
        # 240 pixels of 1 mm along the rows, 120 of 1.5 mm along the columns, 3.6 mm apart.
        expected = stack.centre - 120 * 1.0 * right - 60 * 1.5 * down + (number - 2) * 3.6 * normal
        assert np.allclose(position, expected)


def test_points_inside_a_slab():
    stack = oblique()
    right, down, normal = stack.directions
    inside = [(119, 89, 8.6), (-119, -89, -8.6)]
    outside = [(121, 0, 0), (0, -91, 0), (0, 0, 8.8)]
    points = np.asarray(stack.centre) + np.array(inside + outside) @ np.stack([right, down, normal])
    assert stack.contains(points).tolist() == [True] * 2 + [False] * 3
    assert np.allclose(stack.coordinates(points), inside + outside)


@pytest.mark.parametrize(
    "changes",
    [
        {"row": (2, 0, 0)}, {"column": (1, 0, 0)}, {"row": (np.nan, 0, 0)}, {"slices": 0},
        {"gap_mm": -0.1}, {"centre": (0, 0, np.inf)}, {"thickness_mm": 0}, {"matrix": (0, 10)},
    ],
)  # fmt: skip
def test_a_slab_that_cannot_be(changes):
    with pytest.raises(ValueError, match="expected"):
        oblique(**changes)
