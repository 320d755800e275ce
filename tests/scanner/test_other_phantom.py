"""The second phantom: independent of the first, plausible, exact about itself, and scannable."""

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import scanner.other_phantom
from scanner.exam import FRONT_TO_BACK, HEAD_TO_FEET
from scanner.other_phantom import (
    Blob,
    OtherParameterError,
    OtherParameters,
    OtherSpine,
    random_other_parameters,
)
from scanner.phantom import LumbarSpine
from scanner.phantom.labels_truth import auricular_points, dorsal_cortex, structure_labels
from scanner.sequence import Geometry, Protocol, TurboSpinEcho
from scanner.step import make_scanner
from scanner.structures import LABEL
from scanner.tissues import Label

BONE = (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN)
DISC = (
    Label.NUCLEUS,
    Label.NUCLEUS_INTERMEDIATE,
    Label.DISC_DESICCATED,
    Label.ANNULUS,
    Label.LIGAMENT,
)
SACRAL = (*BONE, Label.DISC_DESICCATED, Label.NUCLEUS_INTERMEDIATE)
LUMBAR = ("L1", "L2", "L3", "L4", "L5")


@pytest.fixture(scope="module")
def spine() -> OtherSpine:
    return OtherSpine(OtherParameters(scale=1.04, seed=2, lateral_deg=4.0))


@pytest.fixture(scope="module")
def cloud(spine):
    """Random points around the spine, with their tissue and their structure."""
    low, high = (-60, -45, -170), (60, 85, 190)
    points = np.random.default_rng(0).uniform(low, high, (60_000, 3)).astype(np.float32)
    return points, spine.sample(points), spine.structure_labels(points)


def test_it_shares_nothing_with_the_first_phantom_but_a_type():
    taken = set()
    for file in Path(scanner.other_phantom.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "scanner.phantom"
            ):
                taken |= {alias.name for alias in node.names}
            assert not isinstance(node, ast.Import) or all(
                not alias.name.startswith("scanner.phantom") for alias in node.names
            )
    assert taken == {"TissueSample"}


def test_landmarks_have_the_names_of_the_first_phantom(spine):
    assert set(spine.landmarks()) == set(LumbarSpine().landmarks())


def test_the_middle_of_every_body_is_marrow_and_named(spine):
    marks = spine.landmarks()
    names = ("T10", "T11", "T12", *LUMBAR, "S1")
    points = np.array([marks[name] for name in names], np.float32)
    assert np.all(np.isin(spine.sample(points).labels, BONE))
    assert spine.structure_labels(points).tolist() == [LABEL[name] for name in names]
    assert np.allclose(marks["L3"], 0)


@pytest.mark.parametrize(
    ("names", "tissues", "share"),
    [
        (("T11", "T12", *LUMBAR, "S1"), SACRAL, 0.99),
        (("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"), DISC, 0.97),
        (("canal",), (Label.CSF, Label.CORD, Label.NERVE), 0.999),
        (("sacrum",), SACRAL, 0.97),
    ],
)
def test_structures_are_made_of_their_tissue(cloud, names, tissues, share):
    _, tissue, structure = cloud
    for name in names:
        inside = structure == LABEL[name]
        assert np.count_nonzero(inside) > 10, name
        assert np.isin(tissue.labels[inside], tissues).mean() > share, name


def test_the_end_plate_corners_lie_on_the_border_of_the_body(spine):
    marks = spine.landmarks()
    for name in LUMBAR:
        for corner in ("superior_anterior", "superior_posterior", "inferior_anterior"):
            mark = marks[f"{name}_{corner}"]
            inwards = marks[name] - mark
            inwards = inwards / np.linalg.norm(inwards)
            steps = np.array([mark + k * inwards for k in (-3.0, 4.0)], np.float32)
            outside, inside = spine.structure_labels(steps)
            assert (outside != LABEL[name], inside == LABEL[name]) == (True, True), (name, corner)


@pytest.mark.parametrize("lordosis", [28.0, 65.0])
def test_lordosis_is_the_angle_between_the_end_plates_of_l1_and_s1(lordosis):
    marks = OtherSpine(OtherParameters(lordosis_deg=lordosis, lateral_deg=0)).landmarks()
    angles = []
    for name in ("L1", "S1"):
        line = marks[f"{name}_superior_posterior"] - marks[f"{name}_superior_anterior"]
        angles.append(np.degrees(np.arctan2(line[2], line[1])))
    assert angles[1] - angles[0] == pytest.approx(lordosis, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_sizes_are_those_of_adults(seed):
    marks = OtherSpine(random_other_parameters(np.random.default_rng(seed), 0.0)).landmarks()
    for name in LUMBAR:
        tall = np.linalg.norm(
            marks[f"{name}_superior_posterior"] - marks[f"{name}_inferior_posterior"]
        )
        deep = np.linalg.norm(
            marks[f"{name}_superior_posterior"] - marks[f"{name}_superior_anterior"]
        )
        assert 18 < tall < 34
        assert 27 < deep < 44
    spacing = np.diff([marks[name][2] for name in LUMBAR])
    assert np.all((spacing < -24) & (spacing > -45))
    assert 65 < marks["SI_left"][0] - marks["SI_right"][0] < 112


def test_auricular_points_lie_in_the_joint(spine):
    points = auricular_points(spine, 3.0)
    for side, sign in (("left", 1), ("right", -1)):
        assert len(points[side]) > 60
        assert np.all(sign * points[side][:, 0] > 20)
        at = points[side].astype(np.float32)
        assert np.isin(spine.sample(at).labels, (Label.CARTILAGE, Label.JOINT_FLUID)).mean() > 0.97
        assert np.mean(structure_labels(spine, at) == LABEL[f"SI_{side}"]) > 0.97


def test_the_dorsal_cortex_is_where_bone_ends(spine):
    marks = spine.landmarks()
    for name, points in dorsal_cortex(spine).items():
        ends = [marks[f"{name}_dorsal_{end}"] for end in ("superior", "inferior")]
        assert np.allclose(points[[0, -1]], ends, atol=0.01)
        line = ends[1] - ends[0]
        normal = np.array([0, -line[2], line[1]]) / np.linalg.norm(line[1:])
        sides = [
            np.isin(spine.sample((points + k * normal).astype(np.float32)).labels, SACRAL).mean()
            for k in (-2.5, 2.5)
        ]
        assert sides[0] > 0.85 > 0.2 > sides[1]


@pytest.mark.parametrize("slope", [20.0, 55.0])
def test_bone_stays_under_the_skin(slope):
    patient = OtherSpine(OtherParameters(sacral_slope_deg=slope, fatness=0.1))
    y, z = np.meshgrid(np.arange(-20, 160, 2.0), np.arange(-200, 80, 2.0))
    points = np.stack([0 * y, y, z], axis=-1).astype(np.float32)
    labels = patient.sample(points).labels
    bone, air = np.isin(labels, BONE), labels == Label.AIR
    assert not np.any(ndimage.binary_dilation(bone) & air)


@pytest.mark.parametrize("bodies", [4, 6])
def test_the_number_of_lumbar_bodies_is_as_asked(bodies):
    marks = OtherSpine(OtherParameters(lumbar_bodies=bodies)).landmarks()
    assert f"L{bodies}" in marks
    assert f"L{bodies + 1}" not in marks
    assert marks[f"L{bodies}"][2] - marks["S1"][2] < 42


def test_transitional_forms_change_the_lowest_discs():
    points = np.random.default_rng(1).uniform((-18, -20, -125), (18, 60, -25), (40_000, 3))
    counts = {}
    for form in ("", "sacralised", "lumbarised"):
        labels = OtherSpine(OtherParameters(transitional=form)).structure_labels(points)
        counts[form] = [np.count_nonzero(labels == LABEL[n]) for n in ("L5/S1", "S1/S2")]
    assert counts["sacralised"][0] < 0.65 * counts[""][0]
    assert counts[""][1] == 0 < counts["lumbarised"][1]


def test_scale_scales_everything(spine):
    plain = OtherSpine(OtherParameters(seed=2, lateral_deg=4.0))
    points = np.random.default_rng(3).uniform(-90, 90, (5000, 3)).astype(np.float32)
    same = spine.sample(points * np.float32(1.04)).labels == plain.sample(points).labels
    assert same.mean() > 0.995
    assert np.allclose(spine.landmarks()["L5"], 1.04 * plain.landmarks()["L5"])


def test_sample_depends_on_the_point_alone(spine, cloud):
    points, whole, structure = cloud
    order = np.random.default_rng(4).permutation(len(points))[:20_000].reshape(200, 100)
    again = spine.sample(points[order])
    assert again.labels.shape == (200, 100)
    assert np.array_equal(again.labels, whole.labels[order])
    assert np.array_equal(spine.structure_labels(points[order]), structure[order])
    assert spine.sample(np.zeros((0, 3), np.float32)).labels.shape == (0,)


def test_density_fat_and_field_are_physical(spine, cloud):
    points, tissue, _ = cloud
    assert tissue.density.dtype == tissue.fat_fraction.dtype == np.float32
    assert 0 <= tissue.fat_fraction.min() <= tissue.fat_fraction.max() <= 1
    assert 0.3 < tissue.density.min() <= tissue.density.max() < 1.6
    field = spine.b0_ppm(points)
    assert field.shape == (len(points),)
    assert 0.05 < np.ptp(field) < 2.0


def test_marrow_is_patchy_and_turns_fatty_with_age():
    points = np.random.default_rng(5).uniform(-9, 9, (4000, 3)).astype(np.float32)
    means = []
    for age in (25, 80):
        sample = OtherSpine(OtherParameters(age=age)).sample(points)
        marrow = sample.labels == Label.MARROW
        means.append(sample.fat_fraction[marrow].mean())
        assert sample.fat_fraction[marrow].std() > 0.03
    assert 0.15 < means[0] < 0.4 < means[1] < 0.7


def test_a_blob_replaces_its_share_of_marrow_only():
    healthy = OtherSpine()
    ill = OtherSpine(blobs=(Blob((0.0, 0.0, 6.0), (9.0, 9.0, 6.0), Label.OEDEMA, 0.1, 0.8),))
    points = np.random.default_rng(6).uniform((-25, -25, -15), (25, 25, 25), (9000, 3))
    before, after = healthy.sample(points), ill.sample(points)
    assert before.lesion is None
    assert np.array_equal(before.labels, after.labels)
    taken = after.lesion.density
    assert taken.max() == pytest.approx(0.8, abs=0.01)
    assert np.all(before.labels[taken > 0] == Label.MARROW)
    assert np.allclose(after.density, before.density * (1 - taken))
    inside = np.sum(((points - (0, 0, 6)) / (9, 9, 6)) ** 2, axis=1) < 1
    assert not np.any(taken[~inside])


def test_the_virtual_scanner_scans_it(spine):
    """On a sagittal T2 the dural sac is brighter than the bodies, as the labels say."""
    geometry = Geometry((0.0, 0.0, 0.0), FRONT_TO_BACK, HEAD_TO_FEET, field_of_view_mm=(300.0,) * 2,
                        matrix=(96, 96), slices=1, thickness_mm=4.0)  # fmt: skip
    sequence = TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0)
    machine = make_scanner(spine, rows=3, columns=1)
    image = machine.exam_steps([Protocol("t2", sequence, geometry)])[0].truth()[0]
    z, y = np.meshgrid(*2 * ((np.arange(96) - 48) * 300 / 96,), indexing="ij")
    points = np.stack([np.zeros_like(y), y, -z], axis=-1).astype(np.float32)
    structure = structure_labels(spine, points)
    sac, body = (image[structure == LABEL[name]].mean() for name in ("canal", "L3"))
    assert sac > 1.5 * body > 0


def test_the_population_is_varied_and_valid():
    rng = np.random.default_rng(0)
    drawn = [random_other_parameters(rng) for _ in range(1000)]
    doubtful = np.mean([not p.levels_are_typical for p in drawn])
    assert doubtful == pytest.approx(0.08, abs=0.026)  # three standard errors
    assert np.std([p.lordosis_deg for p in drawn]) > 6
    assert random_other_parameters(np.random.default_rng(3)) == random_other_parameters(
        np.random.default_rng(3)
    )


@pytest.mark.parametrize("wrong", [{"age": 5}, {"scale": 2.0}, {"transitional": "half"}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(OtherParameterError):
        OtherParameters(**wrong)
