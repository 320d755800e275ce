"""Triage on simulated exams: what it must find, what it must leave, when it must say nothing."""

from dataclasses import replace

import numpy as np
import pytest

from bench.triage_checks import mirrors
from bench.triage_exams import mirrored, render
from gadgets.items import Labelled, LabelMap
from gadgets.triage import triage
from gadgets.triage_examples import seen
from protocols.findings import ExamFindings, FindingType, Quality, Side, Structure
from protocols.geometry import Volume
from scanner.disease import place
from scanner.disease.controls import outlined
from scanner.phantom import Lesion, LesionKind, LumbarSpine, SpineParameters
from scanner.triage_data import sample, sampled_from, stack
from scanner.triage_truth import of_lesion, share_of

OEDEMA = Lesion(
    LesionKind.OEDEMA,
    Structure.ENDPLATE,
    Side.MIDLINE,
    "L4",
    (0.0, 0.0, 0.0),
    (12.0, 10.0, 6.0),
    severity=0.9,
    seed=5,
)


def patient(lesions=lambda spine: ()):
    """Return a simulated exam of a patient with these lesions."""
    rng = np.random.default_rng(31)
    spine = LumbarSpine(SpineParameters(seed=12, age=45.0))
    drawn = lesions(spine)
    ill = spine.with_lesions(drawn)
    masks = [(of_lesion(n + 1, one), share_of(ill, n, one)) for n, one in enumerate(drawn)]
    return render(rng, sampled_from(ill, stack(rng, 15), masks, "test"))


def at_end_plate(spine):
    level = spine.column.by_name["L4"]
    return (replace(OEDEMA, centre=place.on_endplate(level, True, 8.0, -2.0)),)


def beside_the_left_joint(spine):
    rng, bone = np.random.default_rng(3), Structure.SACRAL_SUBCHONDRAL
    # Of some places on the joint the one nearest to the middle: within the slices.
    centre = min(place.on_joint(rng, spine, bone, Side.LEFT) for _ in range(20))
    lesion = replace(OEDEMA, structure=Structure.SACRAL_SUBCHONDRAL, side=Side.LEFT, level="S2")
    return (replace(lesion, centre=centre, radii=(12.0, 10.0, 12.0)),)


@pytest.fixture(scope="module")
def normal():
    return patient()


@pytest.fixture(scope="module")
def ill():
    return patient(at_end_plate)


@pytest.fixture(scope="module")
def sacral():
    return patient(beside_the_left_joint)


class TestFindings:
    def test_nothing_is_found_in_a_normal_exam(self, normal):
        found = triage("normal", seen(normal))
        assert found.findings == () and found.abstained is None
        assert found.agreement is None  # there was one reconstruction

    def test_oedema_at_an_end_plate_is_found_where_it_is(self, ill):
        found = triage("ill", seen(ill))
        (one,) = found.findings
        (true,) = ill.truth
        assert one.type is FindingType.OEDEMA_LIKE
        assert one.structure in (Structure.ENDPLATE, Structure.CORNER) and one.level == "L4"
        assert one.side is Side.LEFT  # 8 mm off the middle
        assert one.probability > 0.8 and one.cnr > 4
        assert 0.4 * true.volume_ml < one.volume_ml < 2 * true.volume_ml
        assert one.adjacent_slices >= 2 and one.area_mm2 > 30
        assert "stir_sag" in one.series and len(one.series) >= 2
        lesion = np.argwhere(ill.lesions == 1).mean(axis=0)
        centre = ill.labels.volume.point(*lesion)
        np.testing.assert_allclose(one.centre_mm, centre, atol=5)

    def test_oedema_beside_the_joint_has_its_side_and_a_depth(self, sacral):
        found = triage("sacral", seen(sacral))
        assert [one.structure for one in found.findings] == [Structure.SACRAL_SUBCHONDRAL]
        (one,) = found.findings
        assert one.side is Side.LEFT and one.depth_mm is not None and one.depth_mm > 5

    def test_an_outline_without_substance_is_not_found(self):
        exam = patient(lambda spine: outlined(at_end_plate(spine)))
        assert triage("outline", seen(exam)).findings == ()

    @pytest.mark.parametrize("which", ["normal", "ill", "sacral"])
    def test_a_mirrored_exam_has_the_same_findings_on_the_other_side(self, which, request):
        exam = request.getfixturevalue(which)
        here, there = triage("a", seen(exam)), triage("b", seen(mirrored(exam)))
        assert mirrors(here, there)
        assert here.anomaly == pytest.approx(there.anomaly, abs=0.01)

    def test_coil_shading_changes_nothing_that_is_said(self, ill):
        y = np.linspace(-1, 1, ill.lesions.shape[1])[:, None]
        shaded = [
            replace(one, series=replace(one.series, data=one.series.data * np.exp(0.5 * y)))
            for one in seen(ill)
        ]
        before, after = triage("a", seen(ill)), triage("b", shaded)
        assert [one.level for one in after.findings] == [one.level for one in before.findings]

    def test_a_finding_keeps_its_id_as_series_come_in(self, ill):
        t1, t2, stir = seen(ill)
        before = triage("ill", [stir])
        now = triage("ill", [stir, t2], before)
        after = triage("ill", [stir, t2, t1], now)
        ids = [
            {one.id for one in each.findings if one.level == "L4"} for each in (before, now, after)
        ]
        assert ids == [{"f1"}] * 3

    def test_bone_that_the_labels_of_stir_do_not_see_is_looked_at_by_those_of_t2(self, ill):
        t1, t2, stir = seen(ill)
        eaten = np.where(ill.lesions > 0, 0, ill.labels.labels).astype(np.uint8)
        blind = replace(stir, labels=replace(ill.labels, labels=eaten))
        assert [one.level for one in triage("ill", [t1, t2, blind]).findings] == ["L4"]
        assert triage("ill", [blind]).findings == ()

    def test_labels_of_a_series_elsewhere_do_not_tell_where_bone_is(self, ill):
        _, t2, stir = seen(ill)
        volume = ill.labels.volume
        above = Volume(
            volume.position + np.array([0, 0, 250]), volume.directions, volume.shape, volume.spacing
        )
        upper = replace(
            t2, series=replace(t2.series, volume=above), labels=replace(ill.labels, volume=above)
        )
        assert [one.level for one in triage("ill", [upper, stir]).findings] == ["L4"]

    def test_it_is_a_pure_function(self, ill):
        assert triage("ill", seen(ill)) == triage("ill", seen(ill))


class TestReconstructions:
    def test_both_say_the_same(self, ill):
        both = [
            replace(one, series=replace(one.series, conventional=one.series.data))
            for one in seen(ill)
        ]
        found = triage("ill", both)
        assert found.agreement is True and len(found.findings) == 1 and found.abstained is None

    @pytest.mark.parametrize("network_sees_it", [True, False])
    def test_what_one_of_them_alone_shows_is_not_concluded(self, ill, normal, network_sees_it):
        with_it, without = (seen(ill), seen(normal))
        shown, plain = (with_it, without) if network_sees_it else (without, with_it)
        both = [
            replace(a, series=replace(a.series, conventional=b.series.data))
            for a, b in zip(shown, plain)
        ]
        found = triage("ill", both)
        assert found.agreement is False and found.findings == ()
        assert "differ" in found.abstained


class TestAbstains:
    def test_without_a_fat_suppressed_series(self, ill):
        found = triage("ill", seen(ill)[:2])
        assert found.findings == () and "fat-suppressed" in found.abstained
        assert all(not one.judged for one in found.coverage)

    def test_with_stir_alone_it_still_looks(self, ill):
        found = triage("ill", seen(ill)[2:])
        assert found.abstained is None and len(found.findings) == 1
        assert found.findings[0].series == ("stir_sag",) and found.anomaly is None

    def test_a_series_that_is_not_usable_does_not_count(self, ill):
        bad = Quality(series="stir_sag", snr=2.0, motion=0.9, usable=False, reason="motion")
        given = seen(ill)
        given[2] = replace(given[2], quality=bad)
        found = triage("ill", given)
        assert found.findings == () and "motion" in found.abstained
        assert all(one.shown == 0 for one in found.coverage)

    def test_without_labels(self, ill):
        given = [replace(one, labels=None) for one in seen(ill)]
        found = triage("ill", given)
        assert found.findings == () and "bone" in found.abstained

    def test_with_empty_labels(self, ill):
        empty = LabelMap(np.zeros_like(ill.labels.labels), ill.labels.names, ill.labels.volume)
        found = triage("ill", seen(ill, empty))
        assert found.findings == () and found.abstained and not found.levels_certain

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_images_of_no_numbers(self, ill, value):
        given = [
            replace(one, series=replace(one.series, data=np.full_like(one.series.data, value)))
            for one in seen(ill)
        ]
        found = triage("ill", given)
        assert found.findings == () and found.abstained

    def test_a_geometry_of_no_numbers(self, ill):
        (stir,) = seen(ill)[2:]
        volume = stir.series.volume
        broken = Volume(volume.position * np.nan, volume.directions, volume.shape, volume.spacing)
        found = triage("ill", [replace(stir, series=replace(stir.series, volume=broken))])
        assert found.findings == () and found.abstained

    def test_uncertain_levels_are_not_named(self, ill):
        unsure = replace(ill.labels, confidence={**ill.labels.confidence, "levels": 0.2})
        found = triage("ill", seen(ill, unsure))
        assert not found.levels_certain and len(found.findings) == 1
        assert found.findings[0].level is None

    def test_no_series_at_all_is_an_error(self):
        with pytest.raises(ValueError, match="one completed series"):
            triage("nothing", [])


class TestEvidence:
    def test_coverage_is_told_per_side_and_15_slices_do_not_show_the_joints(self, normal):
        found = triage("normal", seen(normal))
        sides = {(one.structure, one.side): one for one in found.coverage}
        for side in (Side.LEFT, Side.RIGHT):
            iliac = sides[Structure.ILIAC_SUBCHONDRAL, side]
            assert iliac.shown < 0.5 and not iliac.judged
        assert sides[Structure.VERTEBRA, Side.MIDLINE].judged

    def test_measures_and_quality_are_handed_on(self, normal):
        found = triage("normal", seen(normal))
        assert {one.name for one in found.measures} >= {"lordosis", "disc_height_index", "vbq"}
        assert [one.series for one in found.quality] == list(found.series)
        assert isinstance(found, ExamFindings) and 0 <= found.anomaly <= 1


def test_a_simulated_family_counts_lesions_in_the_slices_alone():
    sampled = sample(np.random.default_rng(1), "corner")
    assert {one.number for one in sampled.truth} == set(np.unique(sampled.lesions)) - {0}
    assert isinstance(seen(render(np.random.default_rng(2), sampled))[0], Labelled)
