"""Measures against drawings whose numbers are known, and against the phantom's exact anatomy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from agent.protocol_cli import known_names
from bench.prescribe_score import STACK, label_map
from gadgets.items import LabelMap, Series
from gadgets.measures import NAMES, measures
from gadgets.sagittal import sagittal_spine
from protocols.geometry import Volume
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import structure_labels
from scanner.phantom.variants import DiscChange, Fracture, Slip, Variants
from scanner.structures import LABEL, STRUCTURES
from scanner.tissues import tissue_table

SAGITTAL = Volume(
    position=np.array([0.0, 25.0, -12.0]),
    directions=STACK.directions,
    shape=(7, 216, 110),
    spacing=np.array([0.9375, 0.9375, 4.4]),
)
ENDS = ("superior_anterior", "superior_posterior", "inferior_anterior", "inferior_posterior")


def labelled(landmarks, voxels=None, volume=STACK, **confidence):
    sure = {**dict.fromkeys(landmarks, 0.9), "levels": 0.9, **confidence}
    names = ("",) if voxels is None else STRUCTURES
    voxels = np.zeros((1, 1, 1), np.uint8) if voxels is None else voxels
    return LabelMap(voxels, names, volume, landmarks, sure)


def body(level, z=0.0, y=0.0, depth=34.0, front=26.0, back=26.0, tilt=0.0):
    """Corners of a body in the plane x = 0, dorsal is +y; turned by ``tilt`` degrees."""
    flat = np.array([(-depth, front), (depth, back), (-depth, -front), (depth, -back)]) / 2
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    flat = flat @ np.array([[cos, sin], [-sin, cos]])
    return {f"{level}_{end}": np.array([0.0, y + dy, z + dz]) for end, (dy, dz) in zip(ENDS, flat)}


def value(found, name, level=None):
    """Return the one value of a name and level, or None."""
    values = [m.value for m in found if (m.name, m.level) == (name, level)]
    assert len(values) <= 1
    return values[0] if values else None


def positions(volume):
    """Centres of all voxels, float64 (z, y, x, 3)."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij")
    steps = np.stack([x, y, z], axis=-1) - np.array(volume.shape[::-1]) // 2
    return volume.position + steps * volume.spacing @ volume.directions


def signal(spine, points, tr, te):
    """Spin echo, float32 (...): simulated, without noise."""
    tissue = spine.sample(points.astype(np.float32))

    def each(name):
        return np.array([getattr(row, name) for row in tissue_table(3.0)])[tissue.labels]

    def echo(t1, t2):
        return each("pd") * (1 - np.exp(-tr / each(t1))) * np.exp(-te / each(t2))

    fat = tissue.fat_fraction
    mixed = (1 - fat) * echo("t1_ms", "t2_ms") + fat * echo("fat_t1_ms", "fat_t2_ms")
    return (mixed * tissue.density).astype(np.float32)


def disc_frame(spine, name):
    """Middle of a disc, and its dorsal and cranial unit vectors, from the phantom's parameters."""
    disc = next(disc for disc in spine.column.discs if disc.name == name)
    cos, sin = np.cos(disc.tilt), np.sin(disc.tilt)
    centre = spine.to_patient(np.array([[0.0, disc.y, disc.z]]))[0]
    return centre, np.array([0, cos, sin]), np.array([0, -sin, cos])


def axial(spine, name, rng):
    """Axial T2 slices of 4 mm through a disc with noise, and the sac's true area in mm2."""
    centre, dorsal, cranial = disc_frame(spine, name)
    axes = np.stack([[1.0, 0, 0], dorsal, cranial])
    volume = Volume(centre + 26 * dorsal, axes, (1, 80, 80), np.array([0.6, 0.6, 4.0]))
    image, area = np.zeros(volume.shape), 0.0
    for depth in (-1.5, -0.5, 0.5, 1.5):
        points = positions(volume) + depth * cranial
        image += signal(spine, points, 3500, 100) / 4
        inside = structure_labels(spine, points.astype(np.float32)) == LABEL["canal"]
        area += inside.sum() * 0.36 / 4
    image += rng.normal(0, 0.01, image.shape)
    return Series("t2_tse_ax", image.astype(np.float32), volume, "t2"), area


@pytest.fixture(scope="module")
def spine():
    """A simulated patient with a narrow canal at L3/L4."""
    narrow = Variants(discs=(DiscChange("L3/L4", stenosis=0.45),))
    return LumbarSpine(SpineParameters(seed=3, variants=narrow))


@pytest.fixture(scope="module")
def labels(spine):
    """Exact labels and landmarks of the patient on 7 sagittal slices."""
    voxels = structure_labels(spine, positions(SAGITTAL).astype(np.float32))
    return labelled(spine.landmarks(), voxels, SAGITTAL)


@pytest.fixture(scope="module")
def series(spine):
    """T1 sagittal, T2 axial through L4/L5, fluid, and a map of the exact fat fraction."""
    t1 = Series("t1", signal(spine, positions(SAGITTAL), 600, 10), SAGITTAL, "t1")
    sac = structure_labels(spine, positions(SAGITTAL).astype(np.float32)) == LABEL["canal"]
    stir = Series("stir", np.where(sac, 5, 1).astype(np.float32), SAGITTAL, "stir")
    t2, _ = axial(spine, "L4/L5", np.random.default_rng(0))
    grid = Volume(np.array([0.0, 60, -30]), np.eye(3), (50, 36, 48), np.full(3, 3.0))
    fat = spine.sample(positions(grid).astype(np.float32)).fat_fraction
    return (t1, t2, stir, Series("pdff", fat, grid, "pdff"))


# Shape, drawn by hand


def test_lordosis_is_the_angle_between_the_upper_end_plates_of_l1_and_s1():
    marks = body("L1", 160, tilt=-12) | body("S1", 0, tilt=35)
    assert value(measures(labelled(marks)), "lordosis") == pytest.approx(47)


def test_kyphosis_is_negative():
    marks = body("L1", 160, tilt=20) | body("S1", 0, tilt=5)
    assert value(measures(labelled(marks)), "lordosis") == pytest.approx(-15)


def test_disc_height_index_of_parallel_plates_is_height_over_depth():
    marks = body("L4", 36) | body("L5", 0)  # bodies of 26 mm, 10 mm apart, 34 mm deep
    assert value(measures(labelled(marks)), "disc_height_index", "L4/L5") == pytest.approx(10 / 34)


def test_a_slip_does_not_make_a_disc_higher():
    marks = body("L4", 36, y=-9) | body("L5", 0)
    assert value(measures(labelled(marks)), "disc_height_index", "L4/L5") == pytest.approx(10 / 34)


@pytest.mark.parametrize("offset", [-4.0, 0.0, 9.0])
def test_a_slip_forwards_is_positive_and_in_percent_of_the_plate_below(offset):
    found = measures(labelled(body("L4", 36, y=-offset) | body("L5", 0, depth=36)))
    backwards = 1.0  # the lower plate is 2 mm deeper
    assert value(found, "slip_mm", "L4/L5") == pytest.approx(offset + backwards)
    assert value(found, "slip_percent", "L4/L5") == pytest.approx((offset + backwards) / 0.36)


def test_height_ratios_of_a_wedge_and_of_a_crushed_body():
    marks = body("L1", 72, front=18, back=24) | body("L2", 36, front=13, back=13) | body("L3")
    found = measures(labelled(marks))
    assert value(found, "height_ratio_anterior_posterior", "L1") == pytest.approx(18 / 24)
    assert value(found, "height_ratio_anterior_posterior", "L3") == pytest.approx(1)
    assert value(found, "height_ratio_posterior_adjacent", "L2") == pytest.approx(13 / 25)
    assert value(found, "height_ratio_posterior_adjacent", "L3") == pytest.approx(26 / 13)


# Shape, of the phantom


@pytest.mark.parametrize(
    ("size", "lordosis", "variants"),
    [
        (1.0, 48.0, Variants()),
        (0.86, 30.0, Variants(lumbar_bodies=4)),
        (1.15, 62.0, Variants(lumbar_bodies=6)),
    ],
)
def test_lordosis_of_the_phantom_is_that_which_it_was_made_with(size, lordosis, variants):
    spine = LumbarSpine(SpineParameters(45.0, size, lordosis, 5, variants))
    found = measures(label_map(spine))
    assert value(found, "lordosis") == pytest.approx(lordosis, abs=0.2)
    last = f"L{variants.lumbar_bodies}/S1"
    lumbar = [m.value for m in found if m.name == "segmental_lordosis" and m.level.startswith("L")]
    assert len(lumbar) == variants.lumbar_bodies
    assert value(found, "segmental_lordosis", last) is not None
    assert sum(lumbar) == pytest.approx(lordosis, abs=0.2)


@pytest.mark.parametrize(("level", "offset"), [("L4", 7.0), ("L3", -4.0)])
def test_a_slip_of_the_phantom_shows_as_the_difference_it_makes(level, offset):
    below = f"{level}/L{int(level[1]) + 1}"
    found = [
        measures(label_map(LumbarSpine(SpineParameters(seed=1, size=1.1, variants=variants))))
        for variants in (Variants(), Variants(slips=(Slip(level, offset),)))
    ]
    before, after = (value(one, "slip_mm", below) for one in found)
    assert after - before == pytest.approx(1.1 * offset, rel=0.03)
    indices = [value(one, "disc_height_index", below) for one in found]
    assert indices[1] == pytest.approx(indices[0], rel=0.05)


def test_a_wedge_fracture_of_the_phantom_shows_in_the_anterior_height():
    broken = Variants(fractures=(Fracture("L1", "wedge", 0.4),))
    found = [
        measures(label_map(LumbarSpine(SpineParameters(seed=1, variants=variants))))
        for variants in (Variants(), broken)
    ]
    before, after = (value(one, "height_ratio_anterior_posterior", "L1") for one in found)
    assert after / before == pytest.approx(0.6 / 0.96, abs=0.01)


# What cannot be measured is absent


def test_nothing_is_measured_where_the_numbering_is_not_sure():
    marks = body("L1", 160) | body("S1", 0, tilt=35)
    assert measures(labelled(marks, levels=0.4)) == ()
    assert measures(replace(labelled(marks), confidence={})) == ()
    assert measures(labelled({})) == ()


@pytest.mark.parametrize("lost", ["missing", "unsure", "not a number"])
def test_a_measure_without_one_of_its_corners_is_absent_and_others_are_there(spine, lost):
    marks, confidence, name = dict(spine.landmarks()), {}, "L1_superior_anterior"
    if lost == "missing":
        del marks[name]
    elif lost == "unsure":
        confidence[name] = 0.3
    else:
        marks[name] = np.array([0.0, np.nan, 0.0])
    found = measures(labelled(marks, **confidence))
    assert value(found, "lordosis") is None
    assert value(found, "segmental_lordosis", "L1/L2") is None
    assert value(found, "height_ratio_anterior_posterior", "L1") is None
    assert value(found, "slip_mm", "L1/L2") is not None
    assert value(found, "segmental_lordosis", "L2/L3") is not None


def test_there_is_no_disc_over_a_vertebra_that_was_not_seen(spine):
    marks = {n: at for n, at in spine.landmarks().items() if not n.startswith("L5")}
    assert not [m for m in measures(labelled(marks)) if m.level in ("L4/L5", "L5/S1", "L4/S1")]


def test_corners_that_contradict_each_other_measure_nothing(spine):
    def swapped(name):
        if "anterior" in name:
            return name.replace("anterior", "posterior")
        return name.replace("posterior", "anterior")

    marks = {swapped(name): at for name, at in spine.landmarks().items()}
    assert measures(labelled(marks)) == ()


def test_without_voxels_or_series_there_are_measures_of_shape_only(labels, series):
    bare = replace(labels, labels=np.zeros_like(labels.labels))
    voxels_only = {m.name for m in measures(labels)}
    assert {"canal_ap", "height_ratio_middle_posterior"} <= voxels_only
    assert not {"vbq", "dural_sac_area", "paraspinal_fat_fraction"} & voxels_only
    assert not {"canal_ap", "vbq", "dural_sac_area"} & {m.name for m in measures(bare, series)}


# Canal


def test_canal_diameter_against_the_exact_sac(spine, labels):
    found = measures(labels)
    for level in ("L1", "L2", "L3", "L4", "L5", "L3/L4", "L4/L5"):
        if "/" in level:
            centre, *_ = disc_frame(spine, level)
            _, y, z = spine.to_body(centre[None].astype(np.float32))[0]
            s = float(spine.column.project(np.array(y), np.array(z))[0])
        else:
            s = spine.column.s_of(level)
        depths = np.arange(-2, 30, 0.05)
        line = spine.to_patient(np.array([(0.0, *spine.column.point(s, d)) for d in depths]))
        truth = 0.05 * (structure_labels(spine, line.astype(np.float32)) == LABEL["canal"]).sum()
        assert value(found, "canal_ap", level) == pytest.approx(truth, abs=1.0)
    assert value(found, "canal_ap", "L3/L4") < 0.65 * value(found, "canal_ap", "L4/L5")


def test_a_canal_that_leaves_the_labelled_volume_is_not_measured(labels):
    cut = replace(labels.volume, shape=(7, 216, 70))
    moved = replace(cut, position=cut.position - 20 * 0.9375 * cut.directions[0])
    found = measures(replace(labels, labels=labels.labels[:, :, :70], volume=moved))
    seen = {m.level for m in found if m.name == "canal_ap"}
    assert "L3" not in seen or "L5" not in seen


def test_the_sacs_diameter_is_that_of_its_fluid_whatever_the_labels_say(labels, series):
    shrunk = ndimage.binary_erosion(labels.labels == LABEL["canal"], np.ones((1, 3, 3)))
    small = labels.labels.copy()
    small[(labels.labels == LABEL["canal"]) & ~shrunk] = 0
    found = measures(labels, series)
    less = measures(replace(labels, labels=small), series)
    for level in ("L2", "L3/L4", "L4/L5"):
        diameter = value(found, "dural_sac_ap", level)
        # Lines to the sides of the middle are shorter than the longest.
        exact = value(found, "canal_ap", level)
        assert exact - 2.5 < diameter < exact + 0.5
        assert value(less, "dural_sac_ap", level) == pytest.approx(diameter, abs=0.6)


def test_without_a_fat_suppressed_series_there_is_no_diameter_of_fluid(labels, series):
    t1, t2, *_ = series
    assert value(measures(labels, [t1, t2]), "dural_sac_ap", "L4/L5") is None


def test_dural_sac_area_against_the_exact_sac(spine, labels):
    rng = np.random.default_rng(1)
    for name in ("L3/L4", "L4/L5"):
        t2, area = axial(spine, name, rng)
        assert value(measures(labels, [t2]), "dural_sac_area", name) == pytest.approx(area, rel=0.1)


def test_the_axial_image_makes_good_for_labels_that_are_too_small(spine, labels):
    t2, area = axial(spine, "L4/L5", np.random.default_rng(1))
    canal = labels.labels == LABEL["canal"]
    small = labels.labels.copy()
    small[canal & ~ndimage.binary_erosion(canal, np.ones((1, 3, 3)))] = 0
    found = measures(replace(labels, labels=small), [t2])
    blank = replace(t2, data=np.ones_like(t2.data))
    labels_alone = measures(replace(labels, labels=small), [blank])
    error, error_alone = (
        abs(value(one, "dural_sac_area", "L4/L5") - area) for one in (found, labels_alone)
    )
    assert error < 0.85 * error_alone


def test_sagittal_or_other_contrasts_give_no_dural_sac_area(labels, series):
    t1, t2, *_ = series
    for other in (replace(t2, weighting="t1"), replace(t1, weighting="t2")):
        assert value(measures(labels, [other]), "dural_sac_area", "L4/L5") is None


# Signal


def test_vbq_is_the_median_of_l1_to_l4_over_the_fluid_at_l3(labels):
    painted = np.full(labels.labels.shape, 5.0, np.float32)
    for level, bright in (("L1", 210), ("L2", 240), ("L3", 330), ("L4", 300), ("L5", 999)):
        painted[labels.labels == LABEL[level]] = bright
    painted[labels.labels == LABEL["canal"]] = 100
    t1 = Series("t1", painted, labels.volume, "t1")
    assert value(measures(labels, [t1]), "vbq") == pytest.approx(2.7, rel=1e-3)
    assert value(measures(labels, [replace(t1, weighting="t2")]), "vbq") is None


def test_vbq_needs_all_four_bodies_in_the_images(labels):
    below_l2 = Series("t1", np.ones((7, 60, 110), np.float32), labels.volume, "t1")
    below_l2 = replace(below_l2, volume=replace(labels.volume, shape=(7, 60, 110)))
    assert value(measures(labels, [below_l2]), "vbq") is None


def test_paraspinal_fat_fraction_is_the_mean_of_both_sides(labels, series):
    *_, pdff = series
    right = positions(pdff.volume)[..., 0] < 0
    halves = np.where(right, 0.1, 0.3).astype(np.float32)
    found = measures(labels, [replace(pdff, data=halves)])
    assert value(found, "paraspinal_fat_fraction") == pytest.approx(20, abs=0.01)
    fat = replace(pdff, data=np.full_like(halves, 0.92))
    assert value(measures(labels, [fat]), "paraspinal_fat_fraction") is None


def test_its_regions_lie_in_the_muscle_of_the_phantom(labels, series):
    assert 3 < value(measures(labels, series), "paraspinal_fat_fraction") < 35


# Names and motion


def test_names_are_those_which_a_full_exam_gives_and_protocols_may_use(labels, series):
    assert {m.name for m in measures(labels, series)} == NAMES
    assert known_names().measures == NAMES


angle = st.floats(-25, 25)
shift = st.floats(-40, 40)


@settings(max_examples=6, deadline=None)
@given(turn=st.tuples(angle, angle, angle), move=st.tuples(shift, shift, shift))
def test_how_the_patient_lies_does_not_matter(labels, series, turn, move):
    turned = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()

    def moved(volume):
        position = turned @ volume.position + move
        return replace(volume, position=position, directions=volume.directions @ turned.T)

    landmarks = {name: turned @ at + move for name, at in labels.landmarks.items()}
    there = replace(labels, landmarks=landmarks, volume=moved(labels.volume))
    found = measures(there, [replace(one, volume=moved(one.volume)) for one in series])
    expected = measures(labels, series)
    assert [(m.name, m.level) for m in found] == [(m.name, m.level) for m in expected]
    for one, other in zip(found, expected):
        assert one.value == pytest.approx(other.value, rel=0.01, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_landmarks_that_are_a_little_off_move_the_lordosis_little(spine, seed):
    jittered = label_map(spine, 0.5, np.random.default_rng(seed))
    assert value(measures(jittered), "lordosis") == pytest.approx(48, abs=6)
    assert sagittal_spine(jittered).left[0] > 0.99
