"""Things of which the place is known appear at the voxels that the asked slab puts there."""

from dataclasses import replace

import numpy as np
import pytest

from gadgets.conventional import conventional
from protocols.exam import Acceleration, Geometry, GeometryRule, GradientEcho, Step, TurboSpinEcho
from protocols.geometry import Slab, slab, volume
from protocols.header import parse_header
from protocols.mrd_types import ImageMessage
from scanner.coverage import CoverageStep, UnsupportedStep, coverage_step
from scanner.exam import quick_exam
from scanner.step import PAUSE_S

MUSCLE, FLUID = 3, 10
COS, SIN = np.cos(np.radians(38)), np.sin(np.radians(38))
OBLIQUE = Slab(
    centre=(4.0, 30.0, -60.0),
    row=(1.0, 0.0, 0.0),
    column=(0.0, SIN, -COS),
    field_of_view_mm=(200.0, 200.0),
    matrix=(80, 80),
    slices=6,
    thickness_mm=4.0,
    gap_mm=1.0,
)
ACROSS = replace(OBLIQUE, row=OBLIQUE.column, column=(-1.0, 0.0, 0.0))
"""The same slices with phase encoding from left to right."""
STIR = TurboSpinEcho(
    kind="tse", tr_ms=4500.0, te_ms=50.0, ti_ms=210.0, echo_train=10, refocusing_deg=180.0
)


def asked(sequence=STIR, matrix=(80, 80), contrast="stir", acceleration=None, **changes):
    return Step(
        name="si_stir_cor",
        contrast=contrast,
        sequence=sequence,
        geometry=Geometry(
            rule=GeometryRule.SI_OBLIQUE_CORONAL,
            field_of_view_mm=(200.0, 200.0),
            matrix=matrix,
            slices=20,
            thickness_mm=4.0,
            phase="head_feet",
            phase_oversampling=1.0,
            **changes,
        ),
        acceleration=acceleration or Acceleration(),
        minutes=1.0,
    )


def place(slab, z, y, x):
    """Where a voxel lies, written out."""
    pitch = slab.thickness_mm + slab.gap_mm
    normal = np.cross(slab.row, slab.column)
    (width, height), (nx, ny) = slab.field_of_view_mm, slab.matrix
    return (
        np.array(slab.centre)
        + (z - (slab.slices - 1) / 2) * pitch * normal
        + (y - ny // 2) * height / ny * np.array(slab.column)
        + (x - nx // 2) * width / nx * np.array(slab.row)
    )


@pytest.fixture
def balls(ellipsoids):
    """Drops of fluid at voxels of a slab, in a body that is hardly seen."""

    def lay(slab, *voxels):
        body = ((0, 0, 0), (150, 100, 190), MUSCLE, 0.02, 0.0)
        drops = [(place(slab, *voxel), (5, 5, 5), FLUID, 1.0, 0.0) for voxel in voxels]
        return ellipsoids([body, *drops])

    return lay


def centroid(image, near):
    """Of the signal within 8 pixels of (y, x)."""
    y, x = (round(at) for at in near)
    part = image[y - 8 : y + 9, x - 8 : x + 9].astype(float)
    part = np.clip(part - 0.3 * part.max(), 0, None)
    rows, columns = np.mgrid[y - 8 : y + 9, x - 8 : x + 9]
    return (part * rows).sum() / part.sum(), (part * columns).sum() / part.sum()


@pytest.mark.parametrize("asked_slab", [OBLIQUE, ACROSS], ids=["head_feet", "left_right"])
@pytest.mark.parametrize("encoded", [80, 64])
def test_drops_appear_at_the_voxels_where_they_lie(balls, asked_slab, encoded):
    voxels = [(1, 24.0, 30.5), (4, 52.25, 47.0)]
    exam = quick_exam(balls(asked_slab, *voxels))
    step = coverage_step(exam, asked(matrix=(80, encoded)), asked_slab)
    truth = step.truth()
    assert truth.shape == (6, 80, 80)
    for z, y, x in voxels:
        near = truth[:, round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        assert np.argmax(near.sum(axis=(1, 2))) == z
        np.testing.assert_allclose(centroid(truth[z], (y, x)), (y, x), atol=0.25)


@pytest.mark.parametrize("partitions", [8, 9])
def test_drops_in_a_slab_appear_in_their_partitions(balls, partitions):
    thin = replace(OBLIQUE, slices=partitions, thickness_mm=3.0, gap_mm=0.0, volumetric=True)
    voxels = [(3, 24.0, 30.5), (5, 52.25, 47.0)]
    exam = quick_exam(balls(thin, *voxels))
    echo = GradientEcho(kind="gre", tr_ms=9.0, te_ms=(2.4,), flip_deg=8.0)
    step = coverage_step(exam, asked(echo, contrast="pd"), thin)
    truth = step.truth()
    for z, y, x in voxels:
        near = truth[:, round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        weights = near.sum(axis=(1, 2))[z - 2 : z + 3].astype(float)
        weights -= weights.min()
        assert abs((weights * np.arange(z - 2, z + 3)).sum() / weights.sum() - z) < 0.25
        np.testing.assert_allclose(centroid(truth[z], (y, x)), (y, x), atol=0.25)


def test_the_images_of_the_chain_say_that_they_lie_where_they_were_asked(balls):
    voxel = (4, 52.25, 47.0)
    exam = quick_exam(balls(OBLIQUE, voxel))
    faster = Acceleration(phase=2, calibration_lines=24)
    step = coverage_step(exam, asked(acceleration=faster), OBLIQUE)
    chain = conventional(parse_header(step.header_xml), pixel_type="float32")
    images = [item for item in chain(step.readouts()) if isinstance(item, ImageMessage)]
    headers = np.stack([image.header for image in images])
    again = slab(headers, (1, 80, 80))
    assert np.allclose(again.centre, OBLIQUE.centre, atol=1e-3)
    assert np.allclose(again.directions, OBLIQUE.directions, atol=1e-5)
    assert (again.slices, again.matrix) == (OBLIQUE.slices, OBLIQUE.matrix)
    assert again.extent_mm == pytest.approx(OBLIQUE.extent_mm, abs=1e-3)
    image = next(image for image in images if image.header["slice"] == 4)
    pixels = np.asarray(image.data).reshape(80, 80)
    voxels = volume(image.header, (1, 80, 80))
    found = voxels.point(0, *centroid(pixels, voxel[1:]))
    assert np.linalg.norm(found - place(OBLIQUE, *voxel)) < 0.5


def test_it_is_the_next_measurement_of_the_same_exam(body):
    exam = quick_exam(body, exam="e1")
    step = coverage_step(exam, asked(), OBLIQUE)
    after = coverage_step([*exam, step], asked(), OBLIQUE)
    assert isinstance(step, CoverageStep) and step.scanner is exam[0].scanner
    assert [s.identity.measurement_uid for s in (step, after)] == [4, 5]
    assert step.identity.exam == "e1" and step.name == "si_stir_cor"
    start = exam[-1].identity.start_s + exam[-1].duration_s + PAUSE_S
    assert step.identity.start_s == pytest.approx(start)
    assert after.identity.start_s == pytest.approx(start + step.duration_s + PAUSE_S)


def test_header_and_readouts_are_those_of_the_request(body):
    step = coverage_step(
        quick_exam(body),
        asked(matrix=(80, 64), acceleration=Acceleration(phase=2, calibration_lines=24)),
        ACROSS,
    )
    encoding = parse_header(step.header_xml).encoding[0]
    assert (encoding.reconSpace.matrixSize.x, encoding.reconSpace.matrixSize.y) == (80, 80)
    assert encoding.encodedSpace.matrixSize.y == 128  # oversampled twice, at 64 of 80 lines
    assert encoding.parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2
    headers = np.concatenate([block.headers for block in step.readouts()])
    imaging = headers[headers["number_of_samples"] == 160]
    expected = imaging.copy()
    ACROSS.place(expected)
    assert np.array_equal(imaging, expected)


def test_slices_that_do_not_fit_into_the_repetition_time_are_taken_in_groups(body):
    t1 = TurboSpinEcho(kind="tse", tr_ms=200.0, te_ms=10.0, echo_train=3, concatenations=1)
    step = coverage_step(quick_exam(body), asked(t1, contrast="t1"), OBLIQUE)
    assert step.concatenations == 2  # 35 ms for each of 6 slices
    plan = step.schedule
    assert np.all(np.diff(plan.time_s) > 0)
    assert sorted(set(plan.image.tolist())) == list(range(6))
    lines = [sorted(plan.line[plan.image == image]) for image in range(6)]
    assert all(one == lines[0] for one in lines)
    shots = -(-160 // 3)
    assert plan.duration_s == pytest.approx(2 * shots * 0.2, rel=0.05)
    # Neighbours are not excited one after the other.
    first = [int(image) for image in dict.fromkeys(plan.image[: len(plan) // 2].tolist())]
    assert np.min(np.abs(np.diff(sorted(first)))) == 2


@pytest.mark.parametrize(
    ("changes", "contrast", "said"),
    [
        ({"ti_ms": None, "fat_saturation": True}, "t2_fs", "fat saturation"),
        ({"tr_ms": 80.0}, "stir", "expected TR of 105.0 ms"),
    ],
)
def test_what_the_virtual_scanner_cannot_do(body, changes, contrast, said):
    wanted = asked(STIR.model_copy(update=changes), contrast=contrast)
    with pytest.raises(UnsupportedStep, match=said):
        coverage_step(quick_exam(body), wanted, OBLIQUE)


def test_there_is_no_3d_turbo_spin_echo(body):
    with pytest.raises(UnsupportedStep, match="3D"):
        coverage_step(quick_exam(body), asked(volumetric=True), OBLIQUE)
