"""Anatomy variants: each changes what it says, by the amount it says, measured on samples."""

import numpy as np
import pytest
from scipy import ndimage

from scanner.phantom import LumbarSpine, PhantomParameterError, SpineParameters
from scanner.phantom.variants import (
    Build,
    DiscChange,
    Fracture,
    Sacroiliac,
    SchmorlNode,
    Slip,
    Variants,
    disc_names,
    level_names,
)
from scanner.phantom.variants_population import random_parameters
from scanner.tissues import Label

BONE = (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN)
SAC = (Label.CSF, Label.CORD, Label.NERVE)


def patient(age: float = 40.0, **variants) -> LumbarSpine:
    return LumbarSpine(SpineParameters(age=age, variants=Variants(**variants)))


def labels_on(spine: LumbarSpine, start, end, step: float = 0.1) -> np.ndarray:
    """Labels along a line, every 0.1 mm."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    length = np.linalg.norm(end - start)
    points = start + np.arange(0, length, step)[:, None] * (end - start) / length
    return spine.sample(points.astype(np.float32)).labels


def box(centre, half, step: float) -> np.ndarray:
    axes = [np.arange(c - h, c + h, step) for c, h in zip(centre, half)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def between(marks, above: str, below: str) -> np.ndarray:
    """Middle of a disc."""
    ends = [marks[f"{above}_inferior_{wall}"] for wall in ("anterior", "posterior")]
    ends += [marks[f"{below}_superior_{wall}"] for wall in ("anterior", "posterior")]
    return np.mean(ends, axis=0)


def backwards(marks, above: str, below: str) -> np.ndarray:
    """Unit vector from front to back through a disc."""
    ends = (f"{above}_inferior", f"{below}_superior")
    way = sum(marks[f"{end}_posterior"] - marks[f"{end}_anterior"] for end in ends)
    return way / np.linalg.norm(way)


def dural_area(spine: LumbarSpine, above: str, below: str) -> float:
    """Area of the dural sac on the plane of a disc, mm2."""
    marks = spine.landmarks()
    back = backwards(marks, above, below)
    u, x = np.meshgrid(np.arange(5, 50, 0.5), np.arange(-16, 16, 0.5), indexing="ij")
    points = between(marks, above, below) + u[..., None] * back
    points[..., 0] += x
    labels = spine.sample(points.astype(np.float32)).labels
    return 0.25 * float(np.count_nonzero(np.isin(labels, SAC)))


@pytest.mark.parametrize("bodies", [4, 5, 6])
def test_every_count_has_nine_named_vertebrae_of_marrow(bodies):
    spine = patient(lumbar_bodies=bodies)
    marks, names = spine.landmarks(), level_names(bodies)
    assert len(names) == 9
    assert names[-1] == f"L{bodies}"
    assert disc_names(bodies)[-1] == f"L{bodies}/S1"
    centres = np.array([marks[n] for n in (*names, "S1")], np.float32)
    assert np.all(np.isin(spine.sample(centres).labels, BONE))
    assert np.all(np.diff(centres[:, 2]) < -15)


def test_the_sacrum_stays_where_it_is_whatever_the_count():
    places = [patient(lumbar_bodies=n).landmarks()["S1"] for n in (4, 5, 6)]
    assert np.ptp([place[2] for place in places]) < 3
    assert np.ptp([place[1] for place in places]) < 20


def joined_to_sacrum(spine: LumbarSpine) -> tuple[bool, bool]:
    """Whether the transverse process of L5 grows into the sacrum, left and right."""
    marks = spine.landmarks()
    centre = (marks["L5_inferior_posterior"] + marks["S1_superior_posterior"]) / 2
    joined = []
    for sign in (1, -1):
        points = box(centre + np.array([sign * 38, 0, 0]), (14, 22, 32), 1.5)
        bone = np.isin(spine.sample(points).labels, BONE)
        parts, _ = ndimage.label(bone)
        upper, lower = (np.unique(parts[:, :, k]) for k in (slice(32, 38), slice(0, 8)))
        joined.append(bool(np.intersect1d(upper[upper > 0], lower[lower > 0]).size))
    return joined[0], joined[1]


def test_a_sacralised_vertebra_joins_the_sacrum_on_the_sides_that_are_asked():
    assert joined_to_sacrum(patient()) == (False, False)
    assert joined_to_sacrum(patient(transitional="sacralised")) == (True, True)
    left = patient(transitional="sacralised", transitional_sides="left")
    assert joined_to_sacrum(left) == (True, False)


def disc_height(spine: LumbarSpine, above: str, below: str) -> float:
    marks = spine.landmarks()
    labels = labels_on(spine, marks[above], marks[below])
    return 0.1 * float(np.count_nonzero(~np.isin(labels, BONE)))


def test_the_disc_below_a_sacralised_vertebra_is_rudimentary():
    rudimentary = disc_height(patient(transitional="sacralised"), "L5", "S1")
    assert 1 < rudimentary < 0.6 * disc_height(patient(), "L5", "S1")


def test_a_lumbarised_s1_has_a_disc_below_it():
    wet = []
    for form in ("", "lumbarised"):
        spine = patient(transitional=form)
        points = box(spine.landmarks()["S2_dorsal_superior"] + [0, -12, -6], (3, 14, 14), 1.0)
        labels = spine.sample(points).labels
        wet.append(np.count_nonzero(labels == Label.NUCLEUS_INTERMEDIATE))
    assert wet[1] > 2 * wet[0]


@pytest.mark.parametrize("offset", [8.0, -3.0])
def test_a_slip_moves_the_body_against_the_one_below(offset):
    marks = patient(slips=(Slip("L4", offset),)).landmarks()
    for above, below, expected in (("L3", "L4", 0.0), ("L4", "L5", offset), ("L5", "S1", 0.0)):
        back = backwards(marks, above, below)
        steps = [
            (marks[f"{below}_superior_{wall}"] - marks[f"{above}_inferior_{wall}"]) @ back
            for wall in ("anterior", "posterior")
        ]
        assert np.mean(steps) == pytest.approx(expected, abs=0.6)


def heights(spine: LumbarSpine, name: str) -> tuple[float, float, float]:
    """Anterior, middle and posterior height of a body; the middle one as sampled."""
    marks = spine.landmarks()
    front, back = (
        np.linalg.norm(marks[f"{name}_superior_{w}"] - marks[f"{name}_inferior_{w}"])
        for w in ("anterior", "posterior")
    )
    top = np.mean([marks[f"{name}_superior_{w}"] for w in ("anterior", "posterior")], axis=0)
    bottom = np.mean([marks[f"{name}_inferior_{w}"] for w in ("anterior", "posterior")], axis=0)
    # Beside the vein, which is counted as bone anyway.
    labels = labels_on(spine, top, bottom)
    return front, 0.1 * float(np.count_nonzero(np.isin(labels, BONE))), back


def test_a_wedge_fracture_takes_its_share_of_the_anterior_height():
    before, after = heights(patient(), "L1"), heights(patient(fractures=(Fracture("L1"),)), "L1")
    assert after[0] == pytest.approx(0.7 * before[0], rel=0.02)
    assert after[2] > 0.9 * before[2]


def test_a_biconcave_fracture_takes_its_share_of_the_middle_height():
    broken = patient(fractures=(Fracture("L3", "biconcave", 0.4),))
    before, after = heights(patient(), "L3"), heights(broken, "L3")
    # The plain body is a little concave already.
    assert after[1] == pytest.approx(0.55 * before[1], rel=0.15)
    assert after[0] > 0.9 * before[0]


def test_a_fracture_bends_the_spine_above_forwards_and_leaves_the_sacrum():
    before, after = (
        s.landmarks() for s in (patient(), patient(fractures=(Fracture("L1", "wedge", 0.5),)))
    )
    slopes = []
    for marks in (before, after):
        lines = [
            marks[f"{n}_superior_posterior"] - marks[f"{n}_superior_anterior"]
            for n in ("T11", "S1")
        ]
        slopes.append([np.degrees(np.arctan2(line[2], line[1])) for line in lines])
    assert slopes[1][1] == pytest.approx(slopes[0][1], abs=0.01)
    assert slopes[1][0] > slopes[0][0] + 10


def test_worn_discs_are_flat_and_dry():
    tall, wet = [], []
    for grade in (1, 3, 5):
        spine = patient(discs=(DiscChange("L3/L4", grade=grade),))
        tall.append(disc_height(spine, "L3", "L4"))
        labels = spine.sample(box(between(spine.landmarks(), "L3", "L4"), (8, 8, 4), 1.0)).labels
        wet.append(np.count_nonzero(labels == Label.NUCLEUS))
    assert tall[0] > tall[1] > 1.5 * tall[2]
    assert wet[0] > wet[1] > wet[2] == 0


@pytest.mark.parametrize("deep", [4.0, 7.0])
def test_a_protrusion_reaches_as_far_into_the_canal_as_asked(deep):
    reach = []
    for change in (DiscChange("L4/L5"), DiscChange("L4/L5", protrusion_mm=deep)):
        spine = patient(discs=(change,))
        marks = spine.landmarks()
        start = between(marks, "L4", "L5")
        labels = labels_on(spine, start, start + 40 * backwards(marks, "L4", "L5"))
        canal = np.isin(labels, (Label.FAT, Label.CSF, Label.NERVE))
        reach.append(0.1 * np.flatnonzero(canal)[0])
    assert reach[1] - reach[0] == pytest.approx(deep, abs=1.2)


def test_an_extrusion_lies_behind_the_body_it_has_moved_along():
    change = DiscChange("L4/L5", protrusion_mm=6.0, migration_mm=-12.0)
    marks = patient().landmarks()
    behind = marks["L5_superior_posterior"] * 0.7 + marks["L5_inferior_posterior"] * 0.3
    points = box(behind + np.array([0, 3, 0]), (3, 2, 2), 0.5)
    tissue = [patient(discs=d).sample(points).labels for d in ((), (change,))]
    assert np.mean(tissue[1] == Label.NUCLEUS_INTERMEDIATE) > 0.3
    assert not np.any(tissue[0] == Label.NUCLEUS_INTERMEDIATE)


def test_a_fissure_is_fluid_in_the_posterior_annulus():
    spine = patient(discs=(DiscChange("L4/L5", fissure=True),))
    marks = spine.landmarks()
    start = between(marks, "L4", "L5")
    labels = labels_on(spine, start, start + 22 * backwards(marks, "L4", "L5"))
    at = 0.1 * np.flatnonzero(labels == Label.JOINT_FLUID)
    assert 1.0 < np.ptp(at) < 5.0
    assert at.min() > 12


def test_stenosis_takes_area_from_the_sac_at_its_level_only():
    plain, narrow = patient(), patient(discs=(DiscChange("L3/L4", stenosis=0.6),))
    assert dural_area(narrow, "L3", "L4") < 0.5 * dural_area(plain, "L3", "L4")
    assert dural_area(narrow, "L1", "L2") == pytest.approx(dural_area(plain, "L1", "L2"), rel=0.02)
    assert 90 < dural_area(plain, "L3", "L4") < 260


@pytest.mark.parametrize("superior", [True, False])
def test_a_schmorl_node_is_disc_as_deep_in_the_body_as_asked(superior):
    node = SchmorlNode("L3", superior, depth_mm=7.0, radius_mm=5.0)
    depth = []
    for nodes in ((), (node,)):
        spine = patient(schmorl_nodes=nodes)
        marks = spine.landmarks()
        end = marks["L2"] if superior else marks["L4"]
        labels = labels_on(spine, marks["L3"], end)
        depth.append(0.1 * np.flatnonzero(~np.isin(labels, BONE))[0])
    assert depth[0] - depth[1] == pytest.approx(7.0, abs=0.8)


def test_scoliosis_moves_bodies_sideways():
    spread = []
    for amplitude in (0.0, 8.0):
        marks = patient(scoliosis_mm=amplitude).landmarks()
        spread.append(np.ptp([marks[n][0] for n in ("T11", "L1", "L2", "L3", "L4", "L5")]))
    assert spread[1] > spread[0] + 4


def test_sacroiliac_joints_differ_between_the_sides():
    spine = patient(sacroiliac=Sacroiliac(space_left=1.6, space_right=0.6))
    marks, width = spine.landmarks(), {}
    for side in ("SI_left", "SI_right"):
        across = np.array([9.0, 0, 0])
        lines = [
            labels_on(spine, marks[side] + shift - across, marks[side] + shift + across)
            for shift in ([0, 0, 0], [0, 3, -3], [0, -3, 3])
        ]
        width[side] = np.median([np.count_nonzero(~np.isin(line, BONE)) for line in lines])
    assert width["SI_left"] > 1.7 * width["SI_right"]


def test_build_scales_bodies_discs_and_canal():
    small, plain = patient(build=Build(body_height=0.9, disc_height=0.8)), patient()
    assert heights(small, "L2")[0] == pytest.approx(0.9 * heights(plain, "L2")[0], rel=0.01)
    assert disc_height(small, "L2", "L3") < 0.9 * disc_height(plain, "L2", "L3")
    assert dural_area(patient(build=Build(canal=1.2)), "L2", "L3") > 1.2 * dural_area(
        plain, "L2", "L3"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Variants(lumbar_bodies=7),
        lambda: Variants(lumbar_bodies=4, slips=(Slip("L5", 4),)),
        lambda: Variants(discs=(DiscChange("L5/L6"),)),
        lambda: Fracture("L1", loss=0.9),
        lambda: Variants(transitional="both"),
        lambda: Build(canal=float("nan")),
    ],
)
def test_impossible_variants_are_refused(wrong):
    with pytest.raises(PhantomParameterError):
        wrong()


def test_the_population_has_the_asked_share_of_transitional_anatomy():
    rng = np.random.default_rng(0)
    drawn = [random_parameters(rng) for _ in range(1500)]
    share = np.mean([not p.variants.levels_are_typical for p in drawn])
    assert share == pytest.approx(0.08, abs=0.021)  # three standard errors
    assert 44 < np.mean([p.age for p in drawn]) < 55
    assert 40 < np.mean([p.lordosis_deg for p in drawn]) < 50
    assert {p.variants.lumbar_bodies for p in drawn} == {4, 5, 6}


def test_the_healthy_population_has_no_disease():
    rng = np.random.default_rng(1)
    for _ in range(50):
        variants = random_parameters(rng, disease=0.0).variants
        assert not (variants.fractures or variants.slips or variants.schmorl_nodes)
        assert all(d.protrusion_mm == d.stenosis == 0 and not d.fissure for d in variants.discs)


def test_the_same_generator_gives_the_same_patient():
    first, again = (random_parameters(np.random.default_rng(7), age=60.0) for _ in range(2))
    assert first == again
    assert first.age == 60.0
