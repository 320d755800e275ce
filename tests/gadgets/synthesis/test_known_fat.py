"""The fat fraction of a Dixon measurement on the slices of another one of the same exam."""

from dataclasses import replace

import numpy as np
import pytest
import structlog.testing

from gadgets.items import FrameKey, Image, Role
from gadgets.synthesis.known_fat import KnownFat, RememberFat
from gadgets.synthesis.stacks import Memory
from protocols.mrd_types import ACQUISITION_HEADER


def image(position, shape, size_mm, number=0, read=(0, 1, 0), phase=(0, 0, -1)):
    readout = np.zeros(1, ACQUISITION_HEADER)[0]
    readout["read_dir"], readout["phase_dir"] = read, phase
    readout["slice_dir"] = np.cross(read, phase)
    readout["position"] = position
    key = FrameKey(0, number, 0, 0, 0, 0)
    return Image(np.zeros(shape, np.complex64), key, readout, size_mm, "complex")


def fraction(points):
    """A fat fraction that is linear over space, in per cent."""
    return 50 + 0.3 * points[..., 0] + 0.2 * points[..., 1] - 0.1 * points[..., 2]


def places(one):
    """Places of voxels, one after the other, as MRD says: centre at n // 2."""
    head = one.header
    axes = np.stack([head["slice_dir"], head["phase_dir"], head["read_dir"]]).astype(float)
    found = np.zeros((*one.data.shape, 3))
    for index in np.ndindex(one.data.shape):
        steps = [
            (k - n // 2) * mm / n
            for k, n, mm in zip(index, one.data.shape, one.field_of_view[::-1])
        ]
        found[index] = head["position"] + steps @ axes
    return found


def pdff(one):
    values = fraction(places(one)).astype(np.float32)
    return replace(one, data=values, quantity="pdff", role=Role.DERIVED)


def remembered(images, exam="exam"):
    memory = Memory()
    assert list(RememberFat(exam, memory)(iter(images))) == list(images)
    return memory


SLAB = image((0, 0, 0), (8, 20, 24), (120.0, 100.0, 40.0))
TARGETS = [image((x, 4, -3), (1, 10, 12), (60.0, 60.0, 4.0), n) for n, x in enumerate((-7, 5))]


@pytest.mark.parametrize(
    "dixon",
    [
        [pdff(SLAB)],
        [
            pdff(image((x, 0, 0), (1, 20, 24), (120.0, 100.0, 4.0), n))
            for n, x in enumerate((-20, -10, 0, 10, 20))
        ],
        [pdff(image((0, 0, 0), (20, 24, 8), (40.0, 120.0, 100.0), 0, (1, 0, 0), (0, 1, 0)))],
    ],
    ids=["slab", "slices with gaps", "axial slab"],
)
def test_a_linear_fraction_is_exact_anywhere(dixon):
    found = KnownFat("exam", remembered(dixon))(TARGETS)
    expected = np.concatenate([fraction(places(one)) for one in TARGETS]) / 100
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_no_dixon_measurement_no_fraction():
    assert KnownFat("exam", Memory())(TARGETS) is None
    assert KnownFat(None, remembered([pdff(SLAB)]))(TARGETS) is None
    assert KnownFat("another", remembered([pdff(SLAB)]))(TARGETS) is None


@pytest.mark.parametrize(
    "dixon, why",
    [
        ([pdff(image((0, 300, 0), (8, 20, 24), (120.0, 100.0, 40.0)))], "outside the Dixon"),
        ([pdff(image((0, 0, 0), (1, 20, 24), (120.0, 100.0, 4.0)))], "2 or more slices"),
    ],
)
def test_a_fraction_of_elsewhere_is_not_used_and_the_log_says_so(dixon, why):
    with structlog.testing.capture_logs() as said:
        assert KnownFat("exam", remembered(dixon))(TARGETS) is None
    assert why in said[-1]["reason"]


def test_acquired_images_are_not_taken_for_a_fraction():
    assert KnownFat("exam", remembered([SLAB, *TARGETS]))(TARGETS) is None
