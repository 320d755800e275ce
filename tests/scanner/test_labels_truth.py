"""Label truth against the tissue that the phantom shows at the same points."""

import numpy as np
import pytest

from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import auricular_points, dorsal_cortex, structure_labels
from scanner.phantom.variants import DiscChange, Variants
from scanner.structures import LABEL, STRUCTURES
from scanner.tissues import Label

BONE = (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN)
DISC = (
    Label.NUCLEUS,
    Label.NUCLEUS_INTERMEDIATE,
    Label.DISC_DESICCATED,
    Label.ANNULUS,
    Label.LIGAMENT,
    Label.JOINT_FLUID,
)


BODY = (*BONE, Label.NUCLEUS_INTERMEDIATE, Label.DISC_DESICCATED)
"""What a sacral body is made of, with the remnant discs."""


@pytest.fixture(scope="module")
def spine() -> LumbarSpine:
    variants = Variants(
        transitional="lumbarised", discs=(DiscChange("L4/L5", protrusion_mm=5.0, side_mm=2.0),)
    )
    return LumbarSpine(SpineParameters(seed=3, size=1.05, variants=variants))


@pytest.fixture(scope="module")
def cloud(spine):
    """Random points around the spine, with their tissue and their structure."""
    low, high = (-60, -40, -170), (60, 75, 190)
    points = np.random.default_rng(0).uniform(low, high, (120_000, 3)).astype(np.float32)
    return points, spine.sample(points).labels, structure_labels(spine, points)


def test_names_are_unique_and_zero_is_nothing():
    assert STRUCTURES[0] == ""
    assert len(set(STRUCTURES)) == len(STRUCTURES) < 64
    assert LABEL["L3"] == STRUCTURES.index("L3")


@pytest.mark.parametrize(
    ("names", "tissues", "share"),
    [
        (("T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1"), BONE, 0.99),
        (("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"), DISC, 0.99),
        (("canal",), (Label.CSF, Label.CORD, Label.NERVE, Label.LIGAMENT), 0.999),
        (("sacrum",), BODY, 0.98),
    ],
)
def test_structures_are_made_of_their_tissue(cloud, names, tissues, share):
    _, tissue, structure = cloud
    for name in names:
        inside = structure == LABEL[name]
        assert np.count_nonzero(inside) > 20, name
        assert np.isin(tissue[inside], tissues).mean() > share, name


def test_all_of_the_sac_is_canal(cloud):
    points, tissue, structure = cloud
    sac = np.isin(tissue, (Label.CSF, Label.CORD)) & (np.abs(points[:, 0]) < 20)
    assert (structure[sac] == LABEL["canal"]).mean() > 0.99


def test_bodies_end_where_the_arch_begins(spine):
    """Nothing behind the canal is labelled as a vertebra; all of the body's core is."""
    marks = spine.landmarks()
    for name in ("L1", "L3", "L5"):
        back = marks[f"{name}_superior_posterior"] - marks[f"{name}_superior_anterior"]
        behind = (marks[name] + 1.35 * back).astype(np.float32)
        offsets = np.random.default_rng(1).uniform(-7, 7, (400, 3)).astype(np.float32)
        assert not np.any(structure_labels(spine, behind + offsets) == LABEL[name])
        core = structure_labels(spine, marks[name].astype(np.float32) + offsets)
        assert np.all(core == LABEL[name])


def test_a_protrusion_belongs_to_its_disc(spine):
    marks = spine.landmarks()
    edge = (marks["L4_inferior_posterior"] + marks["L5_superior_posterior"]) / 2
    back = marks["L5_superior_posterior"] - marks["L5_superior_anterior"]
    point = edge + 2.5 * back / np.linalg.norm(back) + [2, 0, 0]
    assert structure_labels(spine, point.astype(np.float32)) == LABEL["L4/L5"]


def test_a_lumbarised_s1_has_its_disc_labelled(cloud):
    assert np.count_nonzero(cloud[2] == LABEL["S1/S2"]) > 20


def test_joint_surfaces_lie_on_their_sides(cloud):
    points, _, structure = cloud
    for name, sign in (("SI_left", 1), ("SI_right", -1)):
        inside = structure == LABEL[name]
        assert np.count_nonzero(inside) > 50
        assert np.all(sign * points[inside, 0] > 20)


def test_auricular_points_lie_in_the_joint(spine):
    points = auricular_points(spine, step_mm=3.0)
    marks = spine.landmarks()
    for side in ("left", "right"):
        assert len(points[side]) > 60
        labels = spine.sample(points[side].astype(np.float32)).labels
        assert np.isin(labels, (Label.CARTILAGE, Label.JOINT_FLUID)).mean() > 0.97
        named = structure_labels(spine, points[side].astype(np.float32))
        assert np.all(named == LABEL[f"SI_{side}"])
        assert np.linalg.norm(points[side].mean(axis=0) - marks[f"SI_{side}"]) < 8
        # Ebraheim 1993: limbs of 44 and 56 mm; what lies between the bones is a little less.
        assert 30 < np.linalg.norm(np.ptp(points[side][:, 1:], axis=0)) < 80


def test_the_dorsal_cortex_is_where_bone_ends(spine):
    cortex, marks = dorsal_cortex(spine), spine.landmarks()
    for name, points in cortex.items():
        assert np.all(np.diff(points[:, 2]) < 0)
        ends = [marks[f"{name}_dorsal_{end}"] for end in ("superior", "inferior")]
        line = ends[1] - ends[0]
        way = points[-1] - points[0]
        cosine = way @ line / np.linalg.norm(way) / np.linalg.norm(line)
        assert np.degrees(np.arccos(min(cosine, 1))) < 2
        normal = np.array([0, -line[2], line[1]]) / np.linalg.norm(line[1:])
        sides = [
            np.isin(spine.sample((points + k * normal).astype(np.float32)).labels, BODY).mean()
            for k in (-2.5, 2.5)
        ]
        assert sides[0] > 0.85 > 0.2 > sides[1]


def test_labels_have_the_shape_of_the_points(spine):
    assert structure_labels(spine, np.zeros((2, 3, 3), np.float32)).shape == (2, 3)
    assert structure_labels(spine, np.zeros((0, 3), np.float32)).shape == (0,)


def test_other_phantoms_answer_for_themselves():
    class Other:
        def structure_labels(self, points):
            return np.full(points.shape[:-1], 7, np.uint8)

    assert np.all(structure_labels(Other(), np.zeros((4, 3), np.float32)) == 7)
