"""Evidence coverage against brute force over the exact anatomy of simulated patients."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.prescribe_score import STACK, label_map
from gadgets.evidence import coverage, shown, subchondral_rims
from gadgets.items import Series
from gadgets.prescribe import prescribe
from protocols.exam import Geometry, GeometryRule
from protocols.findings import Side, Structure
from protocols.geometry import Slab
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import _bones, structure_labels
from scanner.phantom.variants_population import random_parameters
from scanner.structures import LABEL
from scanner.tissues import Label

SACRAL, ILIAC = Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL
RIMS = [(structure, side) for structure in (SACRAL, ILIAC) for side in (Side.LEFT, Side.RIGHT)]
LUMBAR = ("L1", "L2", "L3", "L4", "L5")


def sagittal(slices, x=0.0, gap=0.4):
    """Sagittal slices of 4 mm around the spine."""
    return Slab(
        centre=(x, 0.0, 0.0),
        row=(0.0, 1.0, 0.0),
        column=(0.0, 0.0, -1.0),
        field_of_view_mm=(300.0, 300.0),
        matrix=(320, 320),
        slices=slices,
        thickness_mm=4.0,
        gap_mm=gap,
    )


def stir(*slabs, weighting="stir"):
    """Series with these slices; nobody looks at their voxels."""
    one = Series("stir", np.zeros((1, 1, 1), np.float32), STACK, weighting)
    return [(one, slab) for slab in slabs]


def si_slab(spine):
    """The oblique-coronal slab which the agent itself would ask for."""
    geometry = Geometry(
        rule=GeometryRule.SI_OBLIQUE_CORONAL,
        field_of_view_mm=(240.0, 240.0),
        matrix=(256, 205),
        slices=20,
        thickness_mm=3.0,
        gap_mm=0.3,
        phase="head_feet",
        phase_oversampling=0.4,
    )
    return prescribe(geometry, label_map(spine)).slab


def of(found, structure, side=Side.MIDLINE):
    (one,) = [c for c in found if (c.structure, c.side) == (structure, side)]
    return one


def true_rims(spine, count=40000):
    """Random points in the bone within 10 mm of the phantom's exact auricular surfaces."""
    rng, found = np.random.default_rng(0), {}
    for side, sign in ((Side.LEFT, 1), (Side.RIGHT, -1)):
        points = spine.landmarks()[f"SI_{side}"] + rng.uniform(-1, 1, (count, 3)) * (35, 50, 60)
        canvas = _bones(spine, spine.to_body(points.astype(np.float32)))
        off, gap, region = spine.pelvis.joint(
            canvas.x, canvas.s, canvas.d, canvas.warp, canvas.rough
        )
        beyond = (np.abs(off) - gap / 2) * spine.parameters.size
        rim = (beyond > 0) & (beyond < 10) & (region < 0)
        rim &= np.isin(canvas.labels, (Label.MARROW, Label.CORTICAL_BONE))
        found[SACRAL, side], found[ILIAC, side] = points[rim & (off < 0)], points[rim & (off > 0)]
        assert sign * points[:, 0].mean() > 0
    return found


@pytest.fixture(scope="module")
def patients():
    """Random simulated patients, each with exact rims."""
    spines = [
        LumbarSpine(random_parameters(np.random.default_rng(seed), transitional=0.0))
        for seed in (0, 1, 3, 4, 5)
    ]
    return [(spine, true_rims(spine)) for spine in spines]


# Slices


@settings(max_examples=15, deadline=None)
@given(
    slices=st.integers(1, 6),
    gap=st.floats(0, 3),
    turn=st.floats(-1, 1),
    seed=st.integers(0, 100),
)
def test_shown_is_what_lies_within_one_of_the_slices(slices, gap, turn, seed):
    row, column = (0.0, np.cos(turn), np.sin(turn)), (0.0, -np.sin(turn), np.cos(turn))
    slab = replace(
        sagittal(slices, 5.0, gap), row=row, column=column, field_of_view_mm=(60.0, 40.0)
    )
    points = np.random.default_rng(seed).uniform(-40, 40, (60, 3))
    expected = np.zeros(60, bool)
    for n, point in enumerate(points):
        for centre in slab.positions:
            x, y, z = slab.directions @ (point - centre)
            expected[n] |= abs(x) <= 30 and abs(y) <= 20 and abs(z) <= 2
    assert np.array_equal(shown(points, [slab]), expected)


def test_gaps_were_not_shown():
    line = np.linspace([-20, 0, 0], [20, 0, 0], 2001)
    inside = np.abs(line[:, 0]) <= 19.8
    assert shown(line[inside], [sagittal(9)]).mean() == pytest.approx(36 / 39.6, abs=0.01)
    assert shown(line[inside], [sagittal(9, gap=0.0)]).mean() == pytest.approx(36 / 39.6, abs=0.01)
    between = np.array([[2.2, 0, 0]])
    assert not shown(between, [sagittal(9)])[0]
    assert shown(between, [sagittal(9), sagittal(9, x=2.2)])[0]  # another series fills it


# The auricular model against the exact joints


def test_rims_lie_where_the_exact_ones_are(patients):
    for spine, truth in patients:
        rims = subchondral_rims(label_map(spine))
        for rim in RIMS:
            points, _ = rims[rim]
            assert np.linalg.norm(points.mean(axis=0) - truth[rim].mean(axis=0)) < 9


@pytest.mark.parametrize("slices", [15, 19, 21, 25])
def test_coverage_by_sagittal_slices_against_brute_force(patients, slices):
    slabs = [sagittal(slices)]
    errors = []
    for spine, truth in patients:
        found = coverage(label_map(spine), stir(*slabs))
        for rim in RIMS:
            exact = shown(truth[rim], slabs).mean()
            errors.append(of(found, *rim).shown - exact)
            assert not (of(found, *rim).judged and exact < 0.75)
    assert np.sqrt(np.mean(np.square(errors))) < 0.15


def test_fifteen_sagittal_slices_show_some_of_the_sacral_and_next_to_none_of_the_iliac_bone(
    patients,
):
    slabs, exact, ours = [sagittal(15)], {}, {}
    for spine, truth in patients:
        # The joints themselves lie outside of the slices: nobody could have marked them.
        found = coverage(label_map(spine, without=("SI",)), stir(*slabs))
        for rim in RIMS:
            exact.setdefault(rim[0], []).append(shown(truth[rim], slabs).mean())
            ours.setdefault(rim[0], []).append(of(found, *rim).shown)
            assert not of(found, *rim).judged
    for shares in (exact, ours):
        assert max(shares[SACRAL]) < 0.65
        assert max(shares[ILIAC]) < 0.24
        assert np.mean(shares[SACRAL]) > np.mean(shares[ILIAC]) + 0.1


def test_a_slab_over_the_si_joints_shows_nearly_all(patients):
    for spine, truth in patients:
        slab = si_slab(spine)
        found = coverage(label_map(spine), stir(slab))
        for rim in RIMS:
            whole = replace(slab, thickness_mm=slab.thickness_mm + slab.gap_mm, gap_mm=0.0)
            assert shown(truth[rim], [whole]).mean() > 0.9
            assert of(found, *rim).shown > 0.85  # its gaps are a tenth
            assert of(found, *rim).judged


def test_what_is_not_known_well_enough_is_not_judged(patients):
    for spine, truth in patients:
        labels = label_map(spine, without=("SI",))
        for slices in (19, 21, 25):
            slabs = [sagittal(slices)]
            found = coverage(labels, stir(*slabs))
            for rim in RIMS:
                assert not (of(found, *rim).judged and shown(truth[rim], slabs).mean() < 0.7)


# Vertebrae, discs, canal


def test_the_lumbar_spine_against_brute_force(patients):
    spine, _ = patients[0]
    points = np.random.default_rng(0).uniform((-35, -40, -110), (35, 60, 90), (60000, 3))
    names = structure_labels(spine, points.astype(np.float32))
    for slab in (sagittal(15), sagittal(7), sagittal(9, x=12.0)):
        found = coverage(label_map(spine), stir(slab))
        bodies = [points[names == LABEL[level]] for level in LUMBAR]
        exact = np.mean([shown(body, [slab]).mean() for body in bodies])
        assert of(found, Structure.VERTEBRA).shown == pytest.approx(exact, abs=0.06)
        exact = shown(points[names == LABEL["L3/L4"]], [slab]).mean()
        assert of(found, Structure.DISC).shown == pytest.approx(exact, abs=0.1)


def test_fifteen_slices_show_the_lumbar_spine_but_for_their_gaps(patients):
    for spine, _ in patients:
        found = coverage(label_map(spine), stir(sagittal(15)))
        for structure in (Structure.VERTEBRA, Structure.DISC, Structure.CANAL):
            assert 0.85 < of(found, structure).shown < 0.95
            assert of(found, structure).judged


def test_a_vertebra_without_landmarks_was_not_shown(patients):
    spine, _ = patients[0]
    whole = of(coverage(label_map(spine), stir(sagittal(15))), Structure.VERTEBRA)
    found = coverage(label_map(spine, without=("L1", "L2")), stir(sagittal(15)))
    assert of(found, Structure.VERTEBRA).shown == pytest.approx(0.6 * whole.shown, abs=0.02)
    assert not of(found, Structure.VERTEBRA).judged


# What counts, and cannot judge


def test_only_series_on_which_oedema_stands_out_count(patients):
    spine, _ = patients[0]
    labels = label_map(spine)
    for weighting in ("t1", "t2", "pd", "unknown"):
        found = coverage(labels, stir(sagittal(15), weighting=weighting))
        assert not any(c.shown or c.judged for c in found)
    assert coverage(labels, stir(sagittal(15), weighting="t2_fs")) == coverage(
        labels, stir(sagittal(15))
    )


def test_series_add_up(patients):
    spine, _ = patients[0]
    labels = label_map(spine)
    left, right = sagittal(11, x=45.0), sagittal(11, x=-45.0)
    one, both = coverage(labels, stir(left)), coverage(labels, stir(left, right))
    for structure in (SACRAL, ILIAC):
        assert of(one, structure, Side.LEFT).shown > 0.5
        assert of(one, structure, Side.RIGHT).shown == 0
        assert of(both, structure, Side.LEFT) == of(one, structure, Side.LEFT)
        assert of(both, structure, Side.RIGHT).shown > 0.5


def test_where_landmarks_do_not_say_where_it_lies_it_cannot_be_judged(patients):
    spine, _ = patients[0]
    everything = stir(sagittal(60, gap=0.0))
    nothing = label_map(spine, without=("S", "L", "T"))
    unsure = label_map(spine, without=("SI",))
    unsure = replace(unsure, confidence={**unsure.confidence, "levels": 0.2})
    for labels in (nothing, unsure):
        found = coverage(labels, everything)
        assert len(found) == 9
        assert not any(c.shown or c.judged for c in found)


def test_facet_joints_are_never_judged_and_their_share_is_that_of_the_slices():
    spine = LumbarSpine(SpineParameters(seed=5))
    labels = label_map(spine)
    for slices, least, most in ((15, 0.7, 1.0), (3, 0.0, 0.0)):
        found = [
            one for one in coverage(labels, stir(sagittal(slices))) if one.structure == "facet"
        ]
        assert [one.side for one in found] == [Side.LEFT, Side.RIGHT]
        for one in found:
            assert least <= one.shown <= most and not one.judged
