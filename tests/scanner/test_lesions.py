"""Lesions: what they do to water and fat, where they lie, and the truth about them."""

from dataclasses import replace

import numpy as np
import pytest

from protocols.findings import FindingType, Side, Structure
from scanner.exam import quick_exam
from scanner.phantom import Lesion, LesionError, LesionKind, LumbarSpine, SpineParameters
from scanner.phantom.lesion_truth import lesion_truth
from scanner.sequence import TurboSpinEcho
from scanner.signal import signals
from scanner.tissues import Label, tissue_table

SEQUENCES = {
    "t1": TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0),
    "t2": TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
    "stir": TurboSpinEcho(4500.0, 45.0, 9.0, (150.0,) * 14, 250.0, ti_ms=256.0),
}
SIGNALS = {name: signals(sequence, tissue_table(3.0)) for name, sequence in SEQUENCES.items()}


def signal(sample, name: str) -> np.ndarray:
    """Signal of a sequence at sampled points: both tissues of each point add up."""
    water, fat = (level[:, SEQUENCES[name].centre_echo] for level in SIGNALS[name])
    total = np.zeros(sample.labels.shape)
    for part in (sample, sample.lesion):
        if part is not None:
            f = part.fat_fraction
            total += part.density * (water[part.labels] * (1 - f) + fat[part.labels] * f)
    return np.abs(total)


@pytest.fixture(scope="module")
def spine() -> LumbarSpine:
    return LumbarSpine(SpineParameters(age=35))


def ball(kind=LesionKind.OEDEMA, radius=8.0, severity=1.0, **other) -> Lesion:
    """A lesion in front of the middle of L3, clear of its vein."""
    return Lesion(
        kind,
        Structure.VERTEBRA,
        Side.MIDLINE,
        "L3",
        (0.0, -5.0, 0.0),
        (radius,) * 3,
        severity,
        **other,
    )


def cube(centre, half: float, step: float = 1.0) -> np.ndarray:
    along = np.arange(-half, half + step / 2, step)
    grid = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
    return (np.asarray(centre) + grid).astype(np.float32)


CORE = cube((0, -5, 0), 3.0)


# clinical table: ratios to adult marrow of 30 % fat, T1 600/10, T2 3500/100, STIR 4500/45.
@pytest.mark.parametrize(
    ("kind", "t1", "t2", "stir"),
    [
        (LesionKind.OEDEMA, (0.6, 0.95), (1.6, 2.8), (2, 6)),
        (LesionKind.MODIC_1, (0.6, 0.95), (1.6, 2.8), (2, 6)),
        (LesionKind.LYTIC_METASTASIS, (0.6, 0.95), (1.4, 2.4), (2, 6)),
        (LesionKind.MODIC_2, (1.2, 1.8), (1.2, 2.2), (0.1, 0.8)),
        (LesionKind.FAT_METAPLASIA, (1.2, 1.9), (1.2, 2.2), (0.0, 0.7)),
        (LesionKind.MODIC_3, (0.2, 0.6), (0.1, 0.5), (0.1, 0.5)),
        (LesionKind.SCLEROTIC_METASTASIS, (0.2, 0.6), (0.1, 0.5), (0.1, 0.7)),
    ],
)
def test_signals_against_the_marrow_they_replace(spine, kind, t1, t2, stir):
    healthy = spine.sample(CORE)
    ill = spine.with_lesions((ball(kind),)).sample(CORE)
    for name, (low, high) in (("t1", t1), ("t2", t2), ("stir", stir)):
        assert low < signal(ill, name).mean() / signal(healthy, name).mean() < high


def test_haemangioma_is_bright_on_t1_and_t2(spine):
    points = cube((0, -5, 0), 6.0)
    healthy = spine.sample(points)
    for name in ("t1", "t2"):
        ill = [
            signal(
                spine.with_lesions((ball(LesionKind.HAEMANGIOMA, 10.0, seed=n),)).sample(points),
                name,
            ).mean()
            for n in range(4)
        ]
        assert np.mean(ill) > 1.15 * signal(healthy, name).mean()


def test_water_replaces_fat(spine):
    healthy = spine.sample(CORE)
    ill = spine.with_lesions((ball(),)).sample(CORE)
    fat = (ill.density * ill.fat_fraction + ill.lesion.density * ill.lesion.fat_fraction).mean()
    whole = (ill.density + ill.lesion.density).mean()
    assert fat / whole < 0.5 * healthy.fat_fraction.mean()


def test_a_subtle_lesion_is_a_fraction_of_the_contrast_of_a_full_one(spine):
    healthy = signal(spine.sample(CORE), "stir").mean()
    contrast = [
        signal(spine.with_lesions((ball(severity=part),)).sample(CORE), "stir").mean() - healthy
        for part in (0.25, 0.5, 1.0)
    ]
    np.testing.assert_allclose(np.array(contrast) / contrast[-1], [0.25, 0.5, 1.0], rtol=0.02)


def test_anatomy_keeps_its_labels_and_density_is_shared_out(spine):
    points = cube((0, -5, 0), 14.0)
    patient = spine.with_lesions((ball(severity=0.6),))
    healthy, ill = spine.sample(points), patient.sample(points)
    share = patient.lesion_share(0, points)
    assert np.array_equal(healthy.labels, ill.labels)
    assert np.allclose(ill.density[share == 0], healthy.density[share == 0])
    assert np.all(ill.density <= healthy.density)
    assert np.all(ill.lesion.density >= 0)


def test_nothing_changes_outside_the_mask(spine):
    points = cube((0, -5, 0), 14.0)
    patient = spine.with_lesions((ball(seed=3),))
    changed = signal(patient.sample(points), "stir") - signal(spine.sample(points), "stir")
    share = patient.lesion_share(0, points)
    assert np.all(changed[share == 0] == 0)
    assert np.all(changed[share > 0.5] > 0)


def test_far_from_lesions_there_is_no_second_tissue(spine):
    far = cube((0, -5, 80), 5.0)
    assert spine.with_lesions((ball(),)).sample(far).lesion is None
    assert spine.sample(CORE).lesion is None


def test_an_exam_shows_the_lesion_as_its_points_say(spine):
    """Through excitation, coils and encoding: dark on T1, bright on STIR, elsewhere the same."""
    patient = spine.with_lesions((ball(radius=11.0),))
    for number, low, high in ((0, 0.6, 0.95), (2, 2.0, 6.0)):
        healthy, ill = (quick_exam(thing)[number].truth()[1] for thing in (spine, patient))
        middle = (slice(63, 66), slice(61, 64))  # 3.3 mm pixels; the lesion lies 5 mm in front
        assert low < ill[middle].mean() / healthy[middle].mean() < high
        np.testing.assert_allclose(ill[:40].mean(), healthy[:40].mean(), rtol=0.01)


def test_volume_of_a_ball(spine):
    """Measured by sampling, against the formula; the outline is irregular."""
    volumes = [
        lesion_truth(spine.with_lesions((ball(LesionKind.LYTIC_METASTASIS, 7.0, seed=n),)))[0]
        for n in range(6)
    ]
    mean = np.mean([truth.volume_ml for truth in volumes])
    assert mean == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.25)
    assert np.ptp([truth.volume_ml for truth in volumes]) > 0.05
    for truth in volumes:
        assert truth.type == FindingType.REPLACEMENT_LIKE
        assert np.linalg.norm(np.array(truth.centre_mm) - (0, -5, 0)) < 4
        assert all(9 < extent < 24 for extent in truth.extent_mm)


def test_truth_agrees_with_a_mask_counted_on_a_grid(spine):
    patient = spine.with_lesions((ball(severity=0.5, seed=8),))
    (truth,) = lesion_truth(patient)
    points = cube((0, -5, 0), 14.0, 0.7)
    inside = patient.lesion_share(0, points) >= 0.25
    assert truth.volume_ml == pytest.approx(inside.sum() * 0.7**3 / 1000, rel=0.05)
    assert np.allclose(truth.centre_mm, points[inside].mean(axis=0), atol=0.3)


@pytest.mark.parametrize(("side", "sign"), [(Side.LEFT, 1), (Side.RIGHT, -1)])
def test_subchondral_lesions_lie_beside_the_joint(spine, side, sign):
    joint = spine.landmarks()[f"SI_{side}"]
    lesions = tuple(
        Lesion(LesionKind.OEDEMA, structure, side, None, tuple(joint), (8.0, 7.0, 9.0), seed=n)
        for n, structure in enumerate((Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL))
    )
    patient = spine.with_lesions(lesions)
    sacral, iliac = lesion_truth(patient)
    assert sign * sacral.centre_mm[0] < sign * iliac.centre_mm[0] - 1
    for truth in (sacral, iliac):
        assert np.linalg.norm(np.array(truth.centre_mm) - joint) < 9
        assert 6 < truth.depth_mm < 15
        assert truth.volume_ml > 0.3
    points = cube(joint, 16.0)
    for number in range(2):
        labels = patient.sample(points[patient.lesion_share(number, points) > 0]).labels
        assert np.all(labels == Label.MARROW)


def test_endplate_lesion_stays_in_its_vertebra_and_follows_the_endplate(spine):
    level = spine.column.by_name["L4"]
    y, z = level.to_plane(0, level.height / 2 - 1)
    lesion = Lesion(
        LesionKind.MODIC_1,
        Structure.ENDPLATE,
        Side.MIDLINE,
        "L4",
        (0.0, y, z),
        (16.0, 12.0, 8.0),
    )
    (truth,) = lesion_truth(spine.with_lesions((lesion,)))
    marks = spine.landmarks()
    top = (marks["L4_superior_anterior"] + marks["L4_superior_posterior"]) / 2
    assert 2 < np.linalg.norm(top - truth.centre_mm) < 9
    assert np.linalg.norm(marks["L4"] - truth.centre_mm) > 4
    assert 2 < truth.volume_ml < 9


def test_lesions_follow_the_size_of_the_body(spine):
    large = LumbarSpine(SpineParameters(age=35, size=1.15), (ball(),))
    same = spine.with_lesions((ball(),))
    ratio = lesion_truth(large)[0].volume_ml / lesion_truth(same)[0].volume_ml
    assert ratio == pytest.approx(1.15**3, rel=0.05)


def test_schmorl_node_is_disc_within_bone_and_has_a_dark_rim(spine):
    level = spine.column.by_name["L3"]
    y, z = level.to_plane(0, -level.height / 2 + 1)
    lesion = Lesion(
        LesionKind.SCHMORL_NODE, Structure.ENDPLATE, Side.MIDLINE, "L3", (0.0, y, z), (6.0,) * 3
    )
    second = spine.with_lesions((lesion,)).sample(cube((0, y, z), 9.0)).lesion
    there = second.density > 0.2
    assert {Label.NUCLEUS_INTERMEDIATE, Label.SCLEROTIC_BONE} == set(second.labels[there])


def test_ankylosis_carries_marrow_across_the_joint(spine):
    joint = spine.landmarks()["SI_left"]
    bridge = Lesion(
        LesionKind.ANKYLOSIS, Structure.SI_JOINT, Side.LEFT, None, tuple(joint), (12.0, 8.0, 6.0)
    )
    across = joint + np.arange(-6, 6, 0.2)[:, None] * [1, 0, 0]
    healthy = signal(spine.sample(across.astype(np.float32)), "t1")
    fused = signal(spine.with_lesions((bridge,)).sample(across.astype(np.float32)), "t1")
    assert healthy.min() < 0.05
    assert fused.min() > 0.2


def test_the_same_seed_is_the_same_lesion(spine):
    points = cube((0, -5, 0), 12.0)
    first, again, other = (
        spine.with_lesions((ball(seed=seed),)).lesion_share(0, points) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"severity": 0.0},
        {"severity": 1.5},
        {"radii": (1.0, -1.0, 1.0)},
        {"level": None},
        {"structure": Structure.FACET},
    ],
)
def test_impossible_lesions_are_refused(wrong):
    with pytest.raises(LesionError):
        replace(ball(), **wrong)


def test_a_level_that_the_patient_lacks_is_refused(spine):
    with pytest.raises(LesionError, match="L9"):
        spine.with_lesions((replace(ball(), level="L9"),))
