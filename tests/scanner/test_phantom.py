"""The digital spine: its dimensions against published anatomy, measured on samples of it."""

import numpy as np
import pytest
from scipy import ndimage

from scanner.phantom import LumbarSpine, PhantomParameterError, SpineParameters
from scanner.tissues import Label

LUMBAR = ("L1", "L2", "L3", "L4", "L5")
BONE = (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN)


@pytest.fixture(scope="module")
def spine() -> LumbarSpine:
    return LumbarSpine()


def on_line(spine: LumbarSpine, start, end, step: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Positions (mm) along a line and the labels found there."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    at = np.arange(0, np.linalg.norm(end - start), step)
    points = start + at[:, None] * (end - start) / np.linalg.norm(end - start)
    return at, spine.sample(points.astype(np.float32)).labels


def plane(x, y, z) -> np.ndarray:
    """Points of an axis-aligned grid, (x, y, z, 3) float32."""
    return np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).astype(np.float32)


def posterior_axis(landmarks, name: str) -> np.ndarray:
    """Unit vector from front to back through the middle of a body."""
    front = landmarks[f"{name}_superior_anterior"] + landmarks[f"{name}_inferior_anterior"]
    back = landmarks[f"{name}_superior_posterior"] + landmarks[f"{name}_inferior_posterior"]
    return (back - front) / np.linalg.norm(back - front)


# Gilad 1985, mean and SD of posterior and anterior body height.
@pytest.mark.parametrize(
    ("name", "posterior", "anterior"),
    [
        ("L1", (27.1, 2.1), (25.4, 2.2)),
        ("L2", (27.0, 2.1), (27.2, 2.0)),
        ("L3", (27.9, 2.1), (27.9, 2.1)),
        ("L4", (27.1, 2.3), (27.4, 2.2)),
        ("L5", (25.7, 2.5), (28.3, 2.1)),
    ],
)
def test_body_heights(spine, name, posterior, anterior):
    marks = spine.landmarks()
    for wall, (mean, sd) in (("posterior", posterior), ("anterior", anterior)):
        top, bottom = (marks[f"{name}_{end}_{wall}"] for end in ("superior", "inferior"))
        assert np.linalg.norm(top - bottom) == pytest.approx(mean, abs=sd)


# Middle disc height, Shin 2024, mean and SD.
@pytest.mark.parametrize(
    ("above", "below", "mean", "sd"),
    [
        ("L1", "L2", 6.61, 1.39),
        ("L2", "L3", 7.90, 1.59),
        ("L3", "L4", 8.83, 1.56),
        ("L4", "L5", 9.31, 1.75),
        ("L5", "S1", 8.14, 1.90),
    ],
)
def test_disc_heights_between_the_sampled_end_plates(spine, above, below, mean, sd):
    marks = spine.landmarks()
    _, labels = on_line(spine, marks[above], marks[below])
    assert 0.1 * np.count_nonzero(~np.isin(labels, BONE)) == pytest.approx(mean, abs=sd)


# Griffith, CT, men: mean and SD of the bony antero-posterior canal diameter.
@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [("L1", 15.46, 2.13), ("L2", 14.58, 2.36), ("L3", 14.04, 2.45), ("L4", 15.34, 2.99)],
)
def test_canal_diameter(spine, name, mean, sd):
    marks = spine.landmarks()
    back = posterior_axis(marks, name)
    caudal = marks[f"{name}_inferior_posterior"] - marks[f"{name}_superior_posterior"]
    clear = []
    for shift in np.linspace(0.05, 0.35, 7):
        start = marks[name] + shift * caudal
        at, labels = on_line(spine, start, start + 45 * back)
        bone = np.isin(labels, BONE[:2])
        wall = at[bone & (at < 22)].max()
        behind = at[bone & (at > wall + 4)]
        clear.append(behind.min() - wall if behind.size else np.inf)
    assert min(clear) == pytest.approx(mean, abs=sd)


@pytest.mark.parametrize("lordosis", [25.0, 48.0, 70.0])
def test_lordosis_is_the_angle_between_the_end_plates_of_l1_and_s1(lordosis):
    marks = LumbarSpine(SpineParameters(lordosis_deg=lordosis)).landmarks()
    angles = []
    for name in ("L1", "S1"):
        line = marks[f"{name}_superior_posterior"] - marks[f"{name}_superior_anterior"]
        angles.append(np.degrees(np.arctan2(line[2], line[1])))
    assert angles[1] - angles[0] == pytest.approx(lordosis, abs=0.01)


def test_segments_share_the_lordosis_increasingly_downwards(spine):
    marks = spine.landmarks()
    lines = [
        marks[f"{n}_superior_posterior"] - marks[f"{n}_superior_anterior"] for n in (*LUMBAR, "S1")
    ]
    shares = np.diff([np.degrees(np.arctan2(line[2], line[1])) for line in lines])
    assert np.all(np.diff(shares) > 0)
    assert 20 / 48 < (shares[3] + shares[4]) / 48 < 40 / 48


def test_l3_is_the_origin_and_body_centres_are_marrow(spine):
    marks = spine.landmarks()
    assert np.allclose(marks["L3"], 0, atol=1e-6)
    names = ("T11", "T12", *LUMBAR, "S1")
    labels = spine.sample(np.array([marks[n] for n in names], np.float32)).labels
    assert np.all(np.isin(labels, (Label.MARROW, Label.VEIN)))


@pytest.mark.parametrize("seed", range(4))
def test_cord_ends_between_t12_and_l3(seed):
    patient = LumbarSpine(SpineParameters(seed=seed))
    marks = patient.landmarks()
    grid = plane(np.arange(-4, 6, 1.0), np.arange(0, 45, 1.0), np.arange(-40, 130, 1.0))
    cord = patient.sample(grid).labels == Label.CORD
    tip = grid[cord][:, 2].min()
    assert marks["L3"][2] < tip < marks["T12"][2]


def test_cauda_equina_lies_dorsally_in_the_sac(spine):
    grid = plane(np.arange(-10, 10, 0.4), np.arange(14, 36, 0.4), [0.0])
    labels = spine.sample(grid).labels
    nerve, fluid = labels == Label.NERVE, labels == Label.CSF
    inside = np.abs(grid[..., 0]) < 7
    assert grid[nerve & inside][:, 1].mean() > grid[fluid][:, 1].mean()


@pytest.mark.parametrize(("age", "low", "high"), [(28, 1.8, 3.2), (75, 1.2, 2.0)])
def test_sacroiliac_joint_space(age, low, high):
    """Demir 2007: 2.49 +- 0.66 mm below 40 years, 1.47 +- 0.21 mm above."""
    patient = LumbarSpine(SpineParameters(age=age))
    marks, across = patient.landmarks(), np.array([8.0, 0.0, 0.0])
    for side in ("SI_left", "SI_right"):
        widths = []
        for shift in np.linspace(-5, 5, 11):
            middle = marks[side] + [0, shift * 0.7, -shift * 0.7]
            _, labels = on_line(patient, middle - across, middle + across, 0.05)
            widths.append(0.05 * np.count_nonzero(~np.isin(labels, BONE)))
        assert low <= np.median(widths) <= high


def test_sacroiliac_joints_lie_apart_as_published(spine):
    """Inter-auricular distance 108.7 +- 11.0 mm is the widest; the joint's middle lies inside."""
    marks = spine.landmarks()
    assert 85 < marks["SI_left"][0] - marks["SI_right"][0] < 108.7
    assert marks["SI_left"][0] > 0 > marks["SI_right"][0]


def test_aorta_lies_left_and_vena_cava_right(spine):
    grid = plane(np.arange(-60, 61, 1.0), np.arange(-70, 0, 1.0), [-15.0, 0.0, 15.0])
    labels = spine.sample(grid).labels
    assert grid[labels == Label.AORTA][:, 0].mean() > 4
    bodies = (labels == Label.VENA_CAVA) & (np.abs(grid[..., 0]) < 40)
    assert grid[bodies][:, 0].mean() < -4


@pytest.mark.parametrize("z", [60.0, 0.0, -60.0, -110.0])
def test_the_torso_has_no_holes_outside_gas(spine, z):
    grid = plane(np.arange(-200, 200, 2.0), np.arange(-150, 130, 2.0), [z])[:, :, 0]
    tissue = spine.sample(grid).labels != Label.AIR
    assert np.array_equal(ndimage.binary_fill_holes(tissue), tissue)
    assert 150 * 100 < 4 * np.count_nonzero(tissue) < 420 * 300


@pytest.mark.parametrize("lordosis", [25.0, 48.0, 72.0])
def test_bone_stays_under_the_skin(lordosis):
    patient = LumbarSpine(SpineParameters(lordosis_deg=lordosis))
    x = patient.landmarks()["S2_dorsal_superior"][0]
    labels = patient.sample(plane([x], np.arange(-20, 160, 2.0), np.arange(-200, 80, 2.0))).labels
    bone, air = np.isin(labels[0], BONE), labels[0] == Label.AIR
    assert not np.any(ndimage.binary_dilation(bone) & air)


@pytest.mark.parametrize(("age", "low", "high"), [(30, 0.25, 0.40), (75, 0.45, 0.65)])
def test_marrow_fat_follows_age(age, low, high):
    """PDFF of L1-L4 in the third and fourth decade, and the accepted range in old age."""
    patient = LumbarSpine(SpineParameters(age=age))
    sample = patient.sample(plane(*[np.arange(-9, 9, 1.5)] * 3))
    marrow = sample.labels == Label.MARROW
    assert low < sample.fat_fraction[marrow].mean() < high
    assert sample.fat_fraction[marrow].std() > 0.03


def test_discs_dry_out_with_age():
    wet = []
    for age in (20, 50, 80):
        patient = LumbarSpine(SpineParameters(age=age))
        marks = patient.landmarks()
        middle = (marks["L4_inferior_anterior"] + marks["L5_superior_posterior"]) / 2
        labels = patient.sample(middle.astype(np.float32) + plane(*[np.arange(-8, 9, 1.0)] * 3))
        wet.append(np.count_nonzero(labels.labels == Label.NUCLEUS))
    assert wet[0] > 100 > wet[2]
    assert wet[0] > wet[1] >= wet[2]


def test_same_seed_same_patient_other_seed_other_patient():
    points = plane(np.arange(-30, 30, 3.0), np.arange(-60, 60, 3.0), np.arange(-90, 90, 9.0))
    first, again, other = (LumbarSpine(SpineParameters(seed=s)).sample(points) for s in (4, 4, 5))
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.fat_fraction, again.fat_fraction)
    assert np.mean(first.labels != other.labels) > 0.02


def test_size_scales_the_whole_body(spine):
    points = plane(np.arange(-60, 60, 6.0), np.arange(-60, 60, 6.0), np.arange(-90, 90, 9.0))
    larger = LumbarSpine(SpineParameters(size=1.1))
    same = larger.sample(points * np.float32(1.1)).labels == spine.sample(points).labels
    assert same.mean() > 0.99
    assert np.allclose(larger.landmarks()["S1"], 1.1 * spine.landmarks()["S1"])


def test_sample_depends_on_the_point_alone(spine):
    """Any order, shape and block partition gives the same tissue."""
    points = plane(np.arange(-80, 80, 2.0), np.arange(-80, 80, 2.0), [-40.0, 0.0, 40.0])
    whole = spine.sample(points)
    assert whole.labels.shape == whole.density.shape == whole.fat_fraction.shape == (80, 80, 3)
    assert whole.labels.dtype == np.uint8
    assert whole.density.dtype == whole.fat_fraction.dtype == np.float32
    order = np.random.default_rng(0).permutation(80 * 80 * 3)
    mixed = spine.sample(points.reshape(-1, 3)[order]).labels
    assert np.array_equal(mixed, whole.labels.reshape(-1)[order])


def test_no_points_give_empty_arrays(spine):
    assert spine.sample(np.zeros((0, 3), np.float32)).labels.shape == (0,)


def test_density_and_fat_fraction_are_physical(spine):
    sample = spine.sample(
        plane(np.arange(-180, 180, 6.0), np.arange(-140, 130, 6.0), [-100.0, 0.0])
    )
    assert 0 <= sample.fat_fraction.min() <= sample.fat_fraction.max() <= 1
    assert 0.2 < sample.density.min() <= sample.density.max() < 2


def test_field_map_is_smooth_and_below_one_and_a_half_ppm(spine):
    grid = plane(np.arange(-100, 100, 5.0), np.arange(-80, 100, 5.0), np.arange(-150, 150, 5.0))
    field = spine.b0_ppm(grid)
    assert field.dtype == np.float32
    assert 0.3 < np.ptp(field) < 1.5
    assert max(np.abs(np.diff(field, axis=k)).max() for k in range(3)) < 0.15


@pytest.mark.parametrize(
    "wrong", [{"age": 5}, {"size": 2.0}, {"lordosis_deg": 0.0}, {"seed": -1}, {"age": float("nan")}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(PhantomParameterError, match=next(iter(wrong))):
        SpineParameters(**wrong)
