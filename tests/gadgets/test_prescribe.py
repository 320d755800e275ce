"""Slabs along the spine, and the rules by their names, on the digital phantom."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.prescribe_score import STACK, label_map
from gadgets.prescribe import RULES, Prescription, Refusal, prescribe
from gadgets.prescribe_spine import OVERLAP_MM
from protocols.exam import Geometry, GeometryRule
from protocols.exam_library import library
from protocols.findings import Finding, FindingType, Structure
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import auricular_points


def geometry(rule, **changes):
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


def finding(level=None, centre=(0.0, 0.0, 0.0), extent=(10.0, 10.0, 10.0)):
    return Finding(
        id="f1", type=FindingType.CANAL_NARROW, structure=Structure.CANAL, level=level,
        centre_mm=tuple(float(c) for c in centre), extent_mm=extent, volume_ml=0.3, cnr=5.0,
        probability=0.9, series=("t2_tse_sag",), slices=(7,), adjacent_slices=2, area_mm2=60.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def spines():
    """Three simulated patients: average, small and flat, large and curved."""
    build = ((1.0, 48.0, 0), (0.86, 30.0, 1), (1.15, 62.0, 2))
    return [LumbarSpine(SpineParameters(45.0, *values)) for values in build]


@pytest.mark.parametrize("level", ["L2/L3", "L4/L5", "L5/S1"])
def test_axial_block_lies_parallel_to_its_disc(spines, level):
    for spine in spines:
        answer = prescribe(geometry("disc_axial", slices=8), label_map(spine), finding(level))
        disc = next(d for d in spine.column.discs if f"{d.above}/{d.below}" == level)
        normal = np.array([0, -np.sin(disc.tilt), np.cos(disc.tilt)])
        assert np.degrees(np.arccos(answer.slab.normal @ normal)) < 1.5
        centre = spine.parameters.size * np.array([disc.y, disc.z])
        assert np.linalg.norm(answer.slab.centre[1:] - centre) < 3
        assert answer.slab.slices == 8
        assert level in answer.variant


def test_a_finding_at_a_vertebra_gets_the_nearest_disc(spines):
    labels = label_map(spines[0])
    for end, disc in (("superior", "L3/L4"), ("inferior", "L4/L5")):
        near = finding("L4", labels.landmarks[f"L4_{end}_posterior"])
        assert disc in prescribe(geometry("disc_axial"), labels, near).variant


@pytest.mark.parametrize(
    ("flagged", "hidden", "reason", "said"),
    [
        (None, (), "finding", "expected a finding with a level"),
        (finding(None), (), "finding", "expected a finding with a level"),
        (finding("L4/L5"), ("L5_superior",), "landmarks", "L5_superior_anterior (not seen)"),
        (finding("L4"), ("L3", "L5"), "landmarks", "expected a disc at L4"),
        (finding("L3/L5"), ("L4",), "landmarks", "expected L3 and L5 within 25 mm"),
    ],
)
def test_no_axial_block_without_a_disc(spines, flagged, hidden, reason, said):
    answer = prescribe(geometry("disc_axial"), label_map(spines[0], without=hidden), flagged)
    assert isinstance(answer, Refusal)
    assert answer.reason == reason and said in answer.text


def test_uncertain_numbering_is_noted(spines):
    labels = label_map(spines[0])
    labels = replace(labels, confidence={**labels.confidence, "levels": 0.2})
    answer = prescribe(geometry("disc_axial"), labels, finding("L4/L5"))
    assert answer.notes == ("the numbering of the levels is not certain",)


@pytest.mark.parametrize("phase", ["head_feet", "front_back"])
@pytest.mark.parametrize(("rule", "way"), [("extended_up", 1), ("extended_down", -1)])
def test_the_stack_is_continued_with_overlap(spines, rule, way, phase):
    turned = Rotation.from_euler("y", 6, degrees=True).as_matrix()
    volume = replace(STACK, directions=STACK.directions @ turned.T, position=np.array([5.0, 2, 9]))
    step = geometry(rule, field_of_view_mm=(360.0, 360.0), slices=15, thickness_mm=4.0, phase=phase)
    answer = prescribe(step, replace(label_map(spines[0]), volume=volume))
    assert answer.phase == phase
    assert abs(answer.slab.normal @ volume.directions[2]) == pytest.approx(1)
    head = turned @ (0, 0, 1)
    middle = volume.point(7, 160, 160)
    assert np.allclose(answer.slab.centre, middle + way * (150 + 180 - OVERLAP_MM) * head)
    assert answer.table_mm == pytest.approx(answer.slab.centre[2])
    # What both show, in mm along the spine.
    both = 150 - (answer.slab.centre - middle) @ (way * head) + 180
    assert both == pytest.approx(OVERLAP_MM)


def test_labels_of_a_stack_that_is_not_sagittal_are_refused(spines):
    axial = replace(STACK, directions=np.eye(3))
    for rule in ("extended_up", "sagittal", "coronal", "axial"):
        answer = prescribe(geometry(rule), replace(label_map(spines[0]), volume=axial))
        assert isinstance(answer, Refusal) and answer.reason == "plane"


def test_the_labelled_stack_again(spines):
    answer = prescribe(geometry("sagittal", phase="head_feet"), label_map(spines[0]))
    assert np.allclose(answer.slab.directions, STACK.directions)
    assert np.allclose(answer.slab.centre, STACK.point(7, 160, 160))


def test_coronal_block_shows_spine_and_joints(spines):
    step = geometry("coronal", field_of_view_mm=(400.0, 400.0), slices=24, thickness_mm=4.0)
    for spine in spines:
        answer = prescribe(step, label_map(spine))
        assert np.allclose(np.abs(answer.slab.normal), (0, 1, 0))
        for surface in auricular_points(spine).values():
            assert answer.slab.contains(surface).mean() > 0.98
        bodies = np.array([spine.landmarks()[f"L{n}"] for n in range(1, 6)])
        assert answer.slab.contains(bodies).all()


def test_coronal_block_of_few_slices_shows_what_it_was_asked_for(spines):
    labels = label_map(spines[0])
    step = geometry("coronal", field_of_view_mm=(400.0, 400.0), slices=10, thickness_mm=4.0)
    flagged = finding("L1", labels.landmarks["L1"])
    answer = prescribe(step, labels, flagged)
    assert answer.slab.contains(labels.landmarks["L1"])
    assert "10 slices do not cover all" in answer.notes[0]
    too_few = prescribe(step.model_copy(update={"slices": 2}), labels, flagged)
    assert isinstance(too_few, Refusal) and too_few.reason == "field_of_view"


def test_straight_axial_block_from_l3_l4_to_l5_s1(spines):
    labels = label_map(spines[0])
    step = geometry("axial", slices=30, thickness_mm=4.0, gap_mm=0.4)
    answer = prescribe(step, labels)
    assert np.allclose(answer.slab.normal, (0, 0, 1))
    for name in ("L3_inferior_anterior", "L4", "S1_superior_posterior"):
        assert answer.slab.contains(labels.landmarks[name])


def test_there_is_a_rule_for_every_name_a_protocol_may_use():
    assert set(RULES) == set(GeometryRule)


def test_every_step_on_demand_that_ships_can_be_prescribed(spines):
    steps = [step for entry in library().values() for step in entry.protocol.on_demand]
    assert steps
    for step in steps:
        for spine in spines:
            answer = prescribe(step.geometry, label_map(spine), finding("L4/L5", (0, 0, -60)))
            assert isinstance(answer, Prescription), (step.name, answer)
            assert answer.phase == step.geometry.phase or "fold" in answer.notes[0]
