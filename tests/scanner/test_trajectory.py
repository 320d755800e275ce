"""Sampling patterns line by line, echo train ordering, and the clock of a measurement."""

from dataclasses import replace

import numpy as np
import pytest

from scanner.sequence import Geometry, GradientEcho, Protocol, Sampling, TurboSpinEcho
from scanner.trajectory import echo_of_line, interleaved, lines, schedule

T2 = TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0)
GEOMETRY = Geometry((0, 0, 0), (0, 1, 0), (0, 0, -1), (300.0, 300.0), (128, 128), 5, 4.0, 0.4)


def plan_of(protocol):
    _, ny, nz = protocol.geometry.encoded_matrix
    taken = lines(ny, nz, protocol.sampling)
    sequence = protocol.sequence
    echoes = (
        echo_of_line(np.unique(taken.ky), ny, sequence.centre_echo, sequence.echo_train_length)
        if isinstance(sequence, TurboSpinEcho)
        else np.zeros(ny, int)
    )
    return taken, echoes, schedule(protocol, taken, echoes)


@pytest.mark.parametrize(
    ("factor", "grid"), [(2, range(0, 24, 2)), (3, range(0, 24, 3)), (4, range(0, 24, 4))]
)
def test_regular_undersampling_runs_through_the_centre_with_calibration_lines(factor, grid):
    taken = lines(24, 1, Sampling(acceleration=(factor, 1), calibration=(6, 0)))
    calibration = set(range(9, 15))
    assert set(taken.ky[taken.imaging]) == set(grid)
    assert 12 in grid
    assert set(taken.ky[taken.calibration]) == calibration
    assert list(taken.ky) == sorted(set(grid) | calibration)


def test_the_centre_line_is_on_the_grid_where_the_matrix_does_not_divide():
    taken = lines(26, 1, Sampling(acceleration=(4, 1)))
    assert list(taken.ky) == [1, 5, 9, 13, 17, 21, 25]


def test_without_acceleration_every_line_is_taken_once():
    taken = lines(16, 1, Sampling())
    assert list(taken.ky) == list(range(16))
    assert taken.imaging.all() and not taken.calibration.any()


def test_partial_fourier_leaves_out_the_beginning():
    taken = lines(32, 1, Sampling((2, 1), (8, 0), phase_partial_fourier=0.75))
    assert set(taken.ky[taken.imaging]) == set(range(8, 32, 2))
    assert set(taken.ky[taken.calibration]) == set(range(12, 20))


def test_caipi_shifts_partitions_from_line_to_line():
    taken = lines(8, 4, Sampling((2, 2), caipi_shift=1))
    picture = np.zeros((4, 8), int)
    picture[taken.kz, taken.ky] = 1
    assert ["".join(map(str, row)) for row in picture] == [
        "10001000",
        "00100010",
        "10001000",
        "00100010",
    ]


def test_calibration_of_a_slab_is_a_block():
    taken = lines(12, 8, Sampling((2, 2), (4, 4)))
    assert set(taken.ky[taken.calibration]) == {4, 5, 6, 7}
    assert set(taken.kz[taken.calibration]) == {2, 3, 4, 5}
    assert taken.calibration.sum() == 16


def test_random_sampling_is_dense_in_the_middle_and_keeps_its_budget():
    taken = lines(256, 1, Sampling((4, 1), (24, 0), random=True), seed=3)
    assert len(taken.ky) == 64
    assert set(range(116, 140)) <= set(taken.ky[taken.imaging])
    outer = np.abs(taken.ky - 128) > 64
    assert outer.sum() < 0.25 * len(taken.ky)
    again = lines(256, 1, Sampling((4, 1), (24, 0), random=True), seed=3)
    np.testing.assert_array_equal(taken.ky, again.ky)


@pytest.mark.parametrize(("train", "centre_echo"), [(3, 0), (16, 9), (14, 4)])
def test_the_centre_lies_in_the_middle_of_the_band_of_the_effective_echo(train, centre_echo):
    acquired = np.arange(0, 320, 2)
    echoes = echo_of_line(acquired, 320, centre_echo, train)
    width = len(acquired) / train
    near = np.abs(acquired - 160) / 2 < width / 2 - 1
    assert np.all(echoes[acquired[near]] == centre_echo)
    counts = np.bincount(echoes[acquired], minlength=train)
    assert counts.max() - counts.min() <= 1
    jumps = np.diff(echoes[acquired]) % train
    assert set(jumps) <= {0, 1}


def test_lines_not_acquired_take_after_their_neighbour():
    acquired = np.arange(0, 64, 4)
    echoes = echo_of_line(acquired, 64, 3, 8)
    rows = np.arange(62)
    nearest = acquired[np.argmin(np.abs(acquired - rows[:, None]), axis=1)]
    np.testing.assert_array_equal(echoes[rows], echoes[nearest])


def test_slices_are_interleaved():
    assert list(interleaved(5)) == [0, 2, 4, 1, 3]


def test_a_train_reads_one_slice_and_the_clock_never_goes_back():
    protocol = Protocol("t2", T2, GEOMETRY, Sampling((2, 1), (24, 0)))
    taken, _, plan = plan_of(protocol)
    assert len(plan) == 5 * len(taken.ky)
    assert np.all(np.diff(plan.time_s) > 0)
    shots = -(-len(taken.ky) // 16)
    assert plan.duration_s == pytest.approx(shots * 3.5)
    first_train = plan.time_s < 0.165
    assert set(plan.image[first_train]) == {0}
    assert list(plan.segment[first_train]) == list(range(first_train.sum()))
    np.testing.assert_allclose(plan.time_s[first_train], 0.01 * (plan.segment[first_train] + 1))
    per_slice = [np.sort(plan.line[plan.image == image]) for image in range(5)]
    for of_slice in per_slice:
        np.testing.assert_array_equal(of_slice, np.arange(len(taken.ky)))


def test_averages_and_repetitions_repeat_every_line():
    protocol = Protocol("t2", T2, GEOMETRY, Sampling((2, 1), averages=2, repetitions=3))
    taken, _, plan = plan_of(protocol)
    assert len(plan) == 5 * len(taken.ky) * 6
    assert np.all(np.diff(plan.repetition) >= 0)
    assert set(zip(plan.average, plan.repetition)) == {(a, r) for a in range(2) for r in range(3)}


def test_separate_calibration_comes_first_and_is_no_part_of_the_image():
    sampling = Sampling((2, 1), (24, 0), calibration_mode="separate")
    taken, _, plan = plan_of(Protocol("t2", T2, GEOMETRY, sampling))
    reference = plan.calibration
    assert reference.sum() == 5 * 24
    assert not plan.imaging[reference].any()
    assert np.all(np.flatnonzero(reference) < np.flatnonzero(~reference).min())
    assert set(taken.ky[plan.line[~reference]]) == set(range(0, 128, 2))


def test_gradient_echoes_are_contrasts_of_one_excitation():
    slab = replace(GEOMETRY, volumetric=True, slices=8, gap_mm=0.0)
    sequence = GradientEcho(9.0, (1.3, 2.4, 3.5), 4.0, 1200.0)
    _, _, plan = plan_of(Protocol("dixon", sequence, slab, Sampling((2, 2))))
    assert list(plan.contrast[:6]) == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(plan.time_s[:4], [1.3e-3, 2.4e-3, 3.5e-3, 10.3e-3])
    assert set(plan.image) == {0}


def test_a_repetition_time_too_short_for_its_slices_is_refused():
    protocol = Protocol("t2", replace(T2, tr_ms=500.0), GEOMETRY)
    with pytest.raises(ValueError, match="too short for 5 slices"):
        plan_of(protocol)
