"""Slabs over the SI joints, of sacra drawn by hand and of the digital phantom."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bench.prescribe_score import STACK, label_map, plane_error_deg, score
from gadgets.items import LabelMap
from gadgets.prescribe import Prescription, Refusal, RefusalReason, prescribe
from gadgets.prescription import expected_coverage
from protocols.exam import Geometry, GeometryRule
from protocols.findings import Side
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import auricular_points

X = np.array([1.0, 0.0, 0.0])


def geometry(rule="si_oblique_coronal", **changes):
    plain = {
        "rule": GeometryRule(rule),
        "field_of_view_mm": (240.0, 240.0),
        "matrix": (256, 205),
        "slices": 20,
        "thickness_mm": 3.0,
        "gap_mm": 0.3,
        "phase": "left_right",
        "phase_oversampling": 0.4,
    }
    return Geometry(**{**plain, **changes})


def sacrum(tilt=40.0, bend=0.0, curve=0.0, s2_mm=24.0):
    """Landmarks of a sacrum drawn by hand.

    The dorsal cortex of S2 is ``tilt`` degrees from upright; that of S1 is steeper by ``bend``,
    that of S3 is flatter by ``curve``.
    """
    down = {
        name: np.radians(tilt + turn) for name, turn in (("S1", -bend), ("S2", 0), ("S3", -curve))
    }
    way = {name: np.array([0, np.sin(angle), -np.cos(angle)]) for name, angle in down.items()}
    at, marks = np.array([0.0, 30.0, -72.0]), {}
    for name, length in (("S1", 29.0), ("S2", 24.0), ("S3", 20.0)):
        marks[f"{name}_dorsal_superior"] = at
        marks[f"{name}_dorsal_inferior"] = at + way[name] * (s2_mm if name == "S2" else length)
        at = at + way[name] * length
    middle = marks["S1_dorsal_superior"] + 28 * way["S2"]
    marks |= {"SI_left": middle + 46 * X, "SI_right": middle - 46 * X}
    return marks


def labelled(landmarks, **confidence):
    voxels = np.zeros((1, 1, 1), np.uint8)
    sure = {**dict.fromkeys(landmarks, 0.9), "levels": 0.9, **confidence}
    return LabelMap(voxels, ("",), STACK, landmarks, sure)


def without(landmarks, *beginnings):
    return {name: at for name, at in landmarks.items() if not name.startswith(beginnings)}


def normal_at(tilt):
    """Normal, ventral to dorsal, of the plane that is ``tilt`` degrees from upright."""
    return np.array([0, np.cos(np.radians(tilt)), np.sin(np.radians(tilt))])


@pytest.fixture(scope="module")
def spines():
    """Three simulated patients: average, small and flat, large and curved."""
    build = ((1.0, 48.0, 0), (0.86, 30.0, 1), (1.15, 62.0, 2))
    return [LumbarSpine(SpineParameters(45.0, *values)) for values in build]


# Oblique-coronal: the plane, and by which rule


def test_rows_run_to_the_left_columns_to_the_feet_slices_to_the_back():
    answer = prescribe(geometry(phase="head_feet"), labelled(sacrum()))
    assert np.allclose(answer.slab.row, X)
    assert np.allclose(answer.slab.column, (0, np.sin(np.radians(40)), -np.cos(np.radians(40))))
    assert np.allclose(answer.slab.normal, normal_at(40))
    assert (answer.phase, answer.saturation_band) == ("head_feet", "anterior")


def test_where_s1_and_s2_are_nearly_straight_both_say_where_the_plane_lies():
    answer = prescribe(geometry(), labelled(sacrum(bend=10)))
    assert answer.variant == "dorsal cortex of S1 and S2"
    assert 30 < np.degrees(np.arcsin(answer.slab.normal[2])) < 40


@pytest.mark.parametrize(
    ("marks", "normal", "said"),
    [
        (sacrum(bend=30, tilt=45), normal_at(45), "S2 alone: the sacrum bends by 30 degrees"),
        (without(sacrum(bend=10), "S1_d"), normal_at(40), "S2 alone: that of S1 was not seen"),
        (sacrum(s2_mm=14), normal_at(40), "line from S1 to S3: 14 mm of S2 were seen"),
        (without(sacrum(), "S2"), normal_at(40), "line from S1 to S3: 0 mm of S2"),
        (without(sacrum(), "SI"), normal_at(40), "left to right of the table"),
        (without(sacrum(), "SI_left"), normal_at(40), "left to right of the table"),
    ],
)
def test_fallbacks_say_what_they_went_by(marks, normal, said):
    answer = prescribe(geometry(), labelled(marks))
    assert isinstance(answer, Prescription)
    assert said in answer.variant
    assert np.allclose(answer.slab.normal, normal, atol=1e-6)


def test_the_plane_is_perpendicular_to_the_line_through_both_joints():
    marks = sacrum()
    marks["SI_left"] = marks["SI_left"] + 8 * normal_at(40)
    normal = prescribe(geometry(), labelled(marks)).slab.normal
    assert abs(normal @ (marks["SI_left"] - marks["SI_right"])) < 1e-9
    assert abs(normal @ (marks["S2_dorsal_superior"] - marks["S2_dorsal_inferior"])) < 1e-9


def far_away(marks, vector):
    return {name: at + np.array(vector, float) for name, at in marks.items()}


def swapped(marks):
    return {**marks, "SI_left": marks["SI_right"], "SI_right": marks["SI_left"]}


@pytest.mark.parametrize(
    ("step", "labels", "reason", "said"),
    [
        ({}, labelled({}), "landmarks", "S1_dorsal_superior (not seen)"),
        ({}, labelled(without(sacrum(), "S2", "S3")), "landmarks", "S3_dorsal_inferior (not seen)"),
        (
            {}, labelled(without(sacrum(), "S1"), S2_dorsal_superior=0.3),
            "landmarks", "got 0 mm; instead of it expected S1_dorsal_superior (not seen)",
        ),
        (
            {}, labelled(sacrum(), S2_dorsal_superior=0.3, S1_dorsal_superior=0.2),
            "landmarks", "S1_dorsal_superior (confidence 0.20, below 0.5)",
        ),
        ({}, labelled(swapped(sacrum())), "landmarks", "SI_left to the left"),
        ({}, labelled(sacrum(tilt=12)), "plane", "20 to 70 degrees from the axial plane, got 12"),
        ({}, labelled(sacrum(tilt=80)), "plane", "got 80"),
        ({"field_of_view_mm": (140.0, 140.0)}, labelled(sacrum()), "field_of_view", "152 x 96 mm"),
        ({"slices": 8}, labelled(sacrum()), "field_of_view", "8 of them cover"),
        ({}, labelled(far_away(sacrum(), (0, 0, -150))), "imaging_volume", "isocentre"),
        ({}, labelled(far_away(sacrum(), (230, 0, 0))), "imaging_volume", "bore"),
    ],
)  # fmt: skip
def test_refusals_say_what_was_expected(step, labels, reason, said):
    answer = prescribe(geometry(**step), labels)
    assert isinstance(answer, Refusal)
    assert (answer.rule, answer.reason) == ("si_oblique_coronal", RefusalReason(reason))
    assert said in answer.text


def test_landmarks_that_all_lie_at_one_place_are_refused():
    for beginning in ("S1", "SI", "S"):
        names = [name for name in sacrum() if name.startswith(beginning)]
        answer = prescribe(geometry(), labelled({**sacrum(), **dict.fromkeys(names, np.ones(3))}))
        assert isinstance(answer, Refusal) and answer.reason == "landmarks"


def test_a_landmark_that_is_no_position_counts_as_not_seen():
    marks = {**sacrum(), "SI_left": np.array([np.nan, 0, 0])}
    assert "table" in prescribe(geometry(), labelled(marks)).variant


# Oblique-coronal: it follows the patient

turns = st.tuples(*[st.floats(-10, 10)] * 3)
moves = st.tuples(*[st.floats(-30, 30)] * 3)


@settings(deadline=None, max_examples=60)
@given(turn=turns, move=moves, rule=st.sampled_from(["si_oblique_coronal", "si_oblique_axial"]))
def test_a_patient_who_lies_turned_or_moved_gets_the_slab_turned_and_moved(turn, move, rule):
    marks = sacrum(bend=5, curve=12)
    matrix = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    moved = {name: matrix @ at + move for name, at in marks.items()}
    step = geometry(rule, phase="left_right", phase_oversampling=1.0, slices=28)
    plain, other = (prescribe(step, labelled(at)).slab for at in (marks, moved))
    assert np.allclose(other.centre, matrix @ plain.centre + move, atol=1e-6)
    assert np.allclose(other.directions, plain.directions @ matrix.T, atol=1e-9)
    assert replace(other, centre=(0, 0, 0), row=plain.row, column=plain.column) == replace(
        plain, centre=(0, 0, 0)
    )


@settings(deadline=None, max_examples=30)
@given(turn=turns, shift=st.floats(-20, 20))
def test_a_mirrored_patient_gets_the_mirrored_slab(turn, shift):
    marks = sacrum(bend=5)
    matrix = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    marks = {name: matrix @ at + shift * X for name, at in marks.items()}
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = swapped({name: mirror @ at for name, at in marks.items()})
    one, other = (prescribe(geometry(), labelled(at)) for at in (marks, mirrored))
    assert np.allclose(other.slab.centre, mirror @ one.slab.centre)
    assert np.allclose(other.slab.normal, mirror @ one.slab.normal)
    assert other.coverage[Side.LEFT] == pytest.approx(one.coverage[Side.RIGHT])


# Oblique-coronal: how well it covers the phantom's joints


def test_with_exact_landmarks_both_joints_are_inside_without_much_more(spines):
    for spine in spines:
        found = score(prescribe(geometry(), label_map(spine)), spine)
        assert found.plane_error_deg < 2
        assert min(found.inside.values()) >= 0.98
        assert found.excess_mm < 10
        assert min(found.expected.values()) > 0.98


def test_with_landmarks_that_are_off_by_one_to_two_mm(spines):
    rng = np.random.default_rng(7)
    points = [auricular_points(spine) for spine in spines]
    errors, inside, excess = [], [], []
    for _ in range(40):
        for spine, surfaces in zip(spines, points, strict=True):
            # 1 mm along each axis: 1.6 mm on average.
            answer = prescribe(geometry(), label_map(spine, jitter_mm=1.0, rng=rng))
            errors.append(plane_error_deg(answer.slab, spine.landmarks()))
            inside += [answer.slab.contains(surface).mean() for surface in surfaces.values()]
            along = answer.slab.coordinates(np.concatenate(list(surfaces.values())))[:, 2]
            half = answer.slab.extent_mm / 2
            excess.append(max(half - along.max(), half + along.min()))
    assert np.median(errors) < 2 and np.percentile(errors, 95) < 5
    assert np.percentile(inside, 1) >= 0.98
    assert np.percentile(excess, 95) < 10


def test_without_the_landmarks_of_the_joints_the_sacrum_says_where_they_are(spines):
    for spine in spines:
        answer = prescribe(geometry(), label_map(spine, without=("SI",)))
        assert min(score(answer, spine).inside.values()) > 0.98
        # It is less sure, and says so.
        sure = prescribe(geometry(), label_map(spine))
        assert answer.coverage[Side.LEFT] < sure.coverage[Side.LEFT]


def test_expected_coverage_is_what_comes_out_on_average(spines):
    slab = prescribe(geometry(), label_map(spines[0])).slab
    slab = replace(slab, slices=slab.slices - 6)
    surface = auricular_points(spines[0])[Side.LEFT]
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 4.0, (4000, 1, 3))
    assert expected_coverage(slab, surface, 4.0) == pytest.approx(
        slab.contains(surface + shifts).mean(), abs=0.01
    )


# Phase encoding


def test_phase_encoding_from_left_to_right_changes_readout_but_not_the_slices():
    right, down = (
        prescribe(geometry(phase=phase), labelled(sacrum()))
        for phase in ("left_right", "head_feet")
    )
    assert (right.phase, down.phase) == ("left_right", "head_feet")
    assert abs(right.slab.column @ X) == pytest.approx(1)
    assert np.allclose(right.slab.positions, down.slab.positions)


def test_hips_that_would_fold_in_turn_phase_encoding_to_head_feet():
    answer = prescribe(geometry(phase_oversampling=0.0), labelled(sacrum()))
    assert answer.phase == "head_feet"
    assert "fold" in answer.notes[0]


def test_pixels_are_square_whatever_is_encoded():
    slab = prescribe(
        geometry(field_of_view_mm=(240.0, 180.0), matrix=(240, 120)), labelled(sacrum())
    ).slab
    assert slab.matrix == (240, 180)


# Oblique-axial


def test_oblique_axial_is_perpendicular_and_reaches_from_l5_s1_to_s4_s5(spines):
    spine = spines[0]
    labels = label_map(spine)
    coronal = prescribe(geometry(), labels).slab
    step = geometry("si_oblique_axial", slices=40, phase="front_back")
    answer = prescribe(step, labels)
    assert abs(answer.slab.normal @ coronal.normal) < 1e-9
    assert answer.slab.normal[2] > 0  # from feet to head
    column = spine.column
    disc = next(disc for disc in column.discs if disc.below == "S1")
    s4 = column.by_name["S4"]
    border = s4.to_plane(s4.depth / 2, -s4.height / 2)
    first, last = (
        answer.slab.coordinates(np.array([0, *at]))[2] for at in ((disc.y, disc.z), border)
    )
    half = answer.slab.extent_mm / 2
    assert -0.5 < half - first < 5
    assert -0.5 < last + half < 8  # S4 itself turns further forwards than S3
    assert min(answer.coverage.values()) > 0.98


def test_too_few_oblique_axial_slices_stay_on_the_joints_and_say_so(spines):
    step = geometry("si_oblique_axial", slices=24, phase="front_back")
    answer = prescribe(step, label_map(spines[0]))
    assert "short of L5/S1 to S4/S5" in answer.notes[0]
    surfaces = auricular_points(spines[0])
    assert min(answer.slab.contains(points).mean() for points in surfaces.values()) > 0.98


def test_oblique_axial_without_l5_and_s3_goes_by_the_size_of_the_sacrum(spines):
    step = geometry("si_oblique_axial", slices=40, phase="front_back")
    plain = prescribe(step, label_map(spines[0])).slab
    answer = prescribe(step, label_map(spines[0], without=("L5", "S3")))
    assert len(answer.notes) == 2
    assert abs(answer.slab.extent_mm - plain.extent_mm) < 12
