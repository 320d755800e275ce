"""Loops against closed forms on the axis, wire segments and the curl of their potential."""

import numpy as np
import pytest

from scanner.coils import Birdcage, CoilArray, Loop, spine_array

MU0 = 4e-7 * np.pi


def test_field_on_the_axis_of_a_loop():
    loop = Loop((10.0, 20.0, 30.0), (0.0, -1.0, 0.0), 40.0)
    depth = np.array([0.0, 20.0, 60.0, 150.0])
    points = np.array([10.0, 20.0, 30.0]) + depth[:, None] * np.array([0.0, -1.0, 0.0])
    a, z = 0.040, depth * 1e-3
    expected_ut = MU0 * a**2 / (2 * (a**2 + z**2) ** 1.5) * 1e6
    field = loop.field(points)
    np.testing.assert_allclose(field[:, 1], -expected_ut, rtol=1e-6)
    np.testing.assert_allclose(field[:, [0, 2]], 0.0, atol=1e-6)


def test_field_off_the_axis_is_that_of_many_short_wires():
    rng = np.random.default_rng(1)
    normal = np.array([0.6, 0.0, 0.8])
    loop = Loop((0.0, 0.0, 0.0), tuple(normal), 35.0)
    points = rng.uniform(-100.0, 100.0, (20, 3)) + 60.0 * normal
    angle = 2 * np.pi * (np.arange(4000) + 0.5) / 4000
    u, v = np.array([0.8, 0.0, -0.6]), np.array([0.0, 1.0, 0.0])
    wire = 35.0 * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)
    along = 35.0 * 2 * np.pi / 4000 * (-np.sin(angle)[:, None] * u + np.cos(angle)[:, None] * v)
    along *= np.sign(np.cross(u, v) @ normal)
    offset = points[:, None] - wire
    field = np.cross(along, offset) / np.linalg.norm(offset, axis=-1)[..., None] ** 3
    expected_ut = MU0 / (4 * np.pi) * field.sum(axis=1) * 1e3 * 1e6
    np.testing.assert_allclose(loop.field(points), expected_ut, atol=1e-5 * expected_ut.max())


def test_field_is_the_curl_of_the_potential():
    loop = Loop((5.0, -3.0, 2.0), (0.0, 0.6, 0.8), 42.0)
    point, h = np.array([30.0, 55.0, -20.0]), 0.01
    gradient = np.stack(
        [
            (loop.potential(point + h * axis) - loop.potential(point - h * axis)) / (2 * h)
            for axis in np.eye(3)
        ]
    )
    curl = np.array(
        [
            gradient[1, 2] - gradient[2, 1],
            gradient[2, 0] - gradient[0, 2],
            gradient[0, 1] - gradient[1, 0],
        ]
    )
    np.testing.assert_allclose(loop.field(point), curl, rtol=1e-5)


def test_a_birdcage_is_homogeneous_in_the_middle():
    axis = np.linspace(-100.0, 100.0, 5)
    points = np.stack(np.meshgrid(axis, axis, [0.0]), -1)
    body = CoilArray((Birdcage(),), ("Body",), (0.0,))
    sensitivity = np.abs(body.sensitivities(points))
    assert sensitivity.min() > 0.9 * sensitivity.max()


def test_spine_array_lies_behind_the_back_and_loses_sensitivity_with_depth():
    coils = spine_array(back_mm=100.0)
    assert len(coils) == 12
    assert {element.centre[1] for element in coils.elements} == {120.0}
    depth = np.array([[0.0, y, 0.0] for y in (100.0, 60.0, 20.0, -60.0)])
    combined = np.linalg.norm(coils.sensitivities(depth), axis=0)
    assert np.all(np.diff(combined) < 0)
    assert combined[0] > 3 * combined[2]


def test_anterior_loops_add_to_the_spine_array():
    coils = spine_array(back_mm=100.0, anterior_mm=-120.0)
    assert len(coils) == len(coils.names) == 18
    belly = coils.sensitivities(np.array([0.0, -110.0, 65.0]))
    assert np.argmax(np.abs(belly)) >= 12


def test_coupling_mixes_neighbours_by_a_fifth():
    coils = spine_array(back_mm=100.0, rows=6, columns=1)
    mix = np.abs(coils.mixing())
    np.testing.assert_allclose(np.diag(mix), 1.0)
    np.testing.assert_allclose(np.diag(mix, 1), 0.2)
    assert mix[0, 3] == 0


def test_noise_covariance_is_one_of_real_coils():
    coils = spine_array(back_mm=100.0)
    axis = np.arange(-200.0, 201.0, 20.0)
    body = np.stack(np.meshgrid(axis, np.arange(-120.0, 100.0, 20.0), axis), -1).reshape(-1, 3)
    covariance = coils.noise_covariance(body)
    np.testing.assert_allclose(covariance, covariance.conj().T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    np.testing.assert_allclose(np.mean(np.diag(covariance).real), 1.0)
    scale = np.sqrt(np.diag(covariance).real)
    correlation = np.abs(covariance / scale / scale[:, None])
    assert correlation[0, 2] > 2 * correlation[0, 10]  # next row, last row


@pytest.mark.parametrize("shape", [(3,), (4, 5, 3)])
def test_sensitivities_keep_the_shape_of_the_points(shape):
    assert spine_array(100.0).sensitivities(np.zeros(shape)).shape == (12, *shape[:-1])
