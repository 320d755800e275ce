"""Families of lesions: every one can be drawn for any patient, and its truth is right."""

from dataclasses import asdict

import numpy as np
import pytest

from protocols.findings import Side, Structure
from scanner.disease import FAMILIES, HELD_OUT, TRAINED, disease, lesion_truth
from scanner.disease.controls import Mirrored, mirrored_truth, outlined
from scanner.disease.sacroiliac import BONES, oedema_depth, subchondral
from scanner.phantom import LesionKind, LumbarSpine, SpineParameters
from scanner.phantom.variants_population import random_parameters


@pytest.fixture(scope="module")
def spine() -> LumbarSpine:
    return LumbarSpine(SpineParameters(age=48, seed=3))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "healthy"])
def test_each_family_makes_lesions_of_its_own(spine, family):
    rng = np.random.default_rng(5)
    for _ in range(3):
        own = tuple(one for one in disease(rng, spine, family) if one.family == family)
        assert own
        assert not any(lesion.normal for lesion in own)
        volumes = [truth.volume_ml for truth in lesion_truth(spine.with_lesions(own))]
        assert max(volumes) > 0.02


@pytest.mark.parametrize("seed", range(3))
def test_every_family_suits_unusual_anatomy(seed):
    """Four or six lumbar bodies, transitional vertebrae, collapsed bodies, curved columns."""
    rng = np.random.default_rng(seed)
    patient = LumbarSpine(random_parameters(rng, transitional=1.0, disease=3.0))
    for family in FAMILIES:
        ill = patient.with_lesions(disease(rng, patient, family))
        levels = {one.level.split("/")[0] for one in ill.lesions if one.level}
        assert levels <= set(patient.column.by_name)


def test_the_same_rng_draws_the_same_disease(spine):
    first, again = (disease(np.random.default_rng(9), spine, "si_oedema") for _ in range(2))
    assert [asdict(one) for one in first] == [asdict(one) for one in again]


def test_what_healthy_people_have_is_marked_as_normal_and_is_never_deep(spine):
    rng = np.random.default_rng(1)
    found = [disease(rng, spine, "healthy") for _ in range(60)]
    lesions = [one for patient in found for one in patient]
    assert all(one.normal for one in lesions)
    assert any(not patient for patient in found)
    share = np.mean([any(one.family == "load_oedema" for one in patient) for patient in found])
    assert 0.1 < share < 0.4
    families = {one.family for one in lesions}
    assert families == {"degenerative_sclerosis", "load_oedema", "red_marrow", "yellow_marrow"}
    loaded = tuple(one for one in lesions if one.family == "load_oedema")[:8]
    for truth in lesion_truth(spine.with_lesions(loaded)):
        assert truth.depth_mm is None or truth.depth_mm < 10


def test_held_out_families_are_never_trained_on():
    assert set(HELD_OUT) | set(TRAINED) == set(FAMILIES)
    assert not set(HELD_OUT) & set(TRAINED)
    assert {"haemangioma", "fracture", "schmorl", "discitis"} == set(HELD_OUT)


def test_an_unknown_family_is_refused(spine):
    with pytest.raises(ValueError, match="modic"):
        disease(np.random.default_rng(0), spine, "gout")


def test_oedema_has_about_the_volume_that_was_asked_for(spine):
    rng = np.random.default_rng(2)
    wanted = np.repeat([0.1, 0.3, 1.0, 3.0], 6)
    lesions = tuple(
        subchondral(
            rng,
            spine,
            LesionKind.OEDEMA,
            BONES[n % 2],
            (Side.LEFT, Side.RIGHT)[n // 2 % 2],
            volume,
            oedema_depth(rng, volume),
            1.0,
            "si_oedema",
        )
        for n, volume in enumerate(wanted)
    )
    truth = lesion_truth(spine.with_lesions(lesions))
    ratio = np.array([one.volume_ml for one in truth]) / wanted
    assert 0.7 < np.median(ratio) < 1.4
    assert np.mean((ratio > 0.3) & (ratio < 2.2)) > 0.85
    depths = np.array([one.depth_mm for one in truth])
    assert depths[wanted < 0.5].max() < 10
    assert np.any(depths > 10)


def test_facet_oedema_lies_behind_the_canal_on_its_side(spine):
    rng = np.random.default_rng(3)
    own = tuple(one for one in disease(rng, spine, "facet") if one.family == "facet")
    for lesion, truth in zip(own, lesion_truth(spine.with_lesions(own)), strict=True):
        assert truth.structure == Structure.FACET
        assert (truth.centre_mm[0] > 0) == (lesion.side == Side.LEFT)
        level = spine.column.by_name[lesion.level.split("/")[0]]
        u, _ = level.to_local(np.array(lesion.centre[1]), np.array(lesion.centre[2]))
        assert u > level.depth / 2 + 5


def test_an_outline_changes_next_to_nothing(spine):
    lesions = disease(np.random.default_rng(4), spine, "si_oedema")
    drawn = spine.with_lesions(outlined(lesions))
    centre = lesion_truth(spine.with_lesions(lesions))[0].centre_mm
    points = np.random.default_rng(0).normal(centre, 6, (4000, 3)).astype(np.float32)
    plain, painted = spine.sample(points), drawn.sample(points)
    assert painted.lesion is not None
    density = painted.density + painted.lesion.density
    fat = (
        painted.density * painted.fat_fraction
        + painted.lesion.density * painted.lesion.fat_fraction
    )
    np.testing.assert_allclose(density, plain.density, rtol=1e-5)
    assert np.abs(fat - plain.density * plain.fat_fraction).max() < 0.05
    assert set(np.unique(painted.lesion.labels[painted.lesion.density > 0])) <= {4}


def test_a_mirrored_patient_has_everything_on_the_other_side(spine):
    lesions = disease(np.random.default_rng(6), spine, "si_oedema")
    patient = spine.with_lesions(lesions)
    mirrored = Mirrored(patient)
    points = np.random.default_rng(0).uniform((-70, 0, -120), (70, 70, -60), (3000, 3))
    there, here = patient.sample(points), mirrored.sample(points * [-1, 1, 1])
    assert np.array_equal(there.labels, here.labels)
    assert np.array_equal(there.lesion.density, here.lesion.density)
    assert np.allclose(patient.b0_ppm(points), mirrored.b0_ppm(points * [-1, 1, 1]))
    marks, flipped = patient.landmarks(), mirrored.landmarks()
    assert np.allclose(marks["SI_left"] * [-1, 1, 1], flipped["SI_right"])
    truth = lesion_truth(patient)
    for one, other in zip(truth, mirrored_truth(truth), strict=True):
        assert one.centre_mm[0] == -other.centre_mm[0]
        assert {one.side, other.side} in ({Side.LEFT, Side.RIGHT}, {Side.MIDLINE})
