"""The whole way: virtual scanner, reconstruction, water and fat, messages."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from structlog.testing import capture_logs

from gadgets.finish import Finish
from gadgets.items import Image, Role
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.sort import Sort
from gadgets.stream import chain
from gadgets.synthesis.water_fat_gadget import FIELD_OFFSET_HZ, IMAGE_TYPE, WaterFat
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage
from scanner.dixon import dixon_step
from scanner.tissues import Label

TE_MS = (1.3, 2.35, 3.4, 4.45, 5.5, 6.55)


class Body:
    """Fat around muscle, marrow and a disc, in a field that bends."""

    def sample(self, points):
        from tests.scanner.conftest import Ellipsoids

        parts = [
            ((0, 0, 0), (150, 110, 190), int(Label.FAT), 1.0, 0.95),
            ((0, 0, 0), (130, 88, 165), int(Label.MUSCLE), 1.0, 0.1),
            ((0, 40, 60), (60, 30, 45), int(Label.MARROW), 1.0, 0.45),
            ((0, 40, -60), (60, 30, 45), int(Label.NUCLEUS), 1.0, 0.0),
        ]
        return Ellipsoids(parts).sample(points)

    def b0_ppm(self, points):
        x, y, z = np.moveaxis(points, -1, 0) / 100
        return np.asarray(y**2 - 0.5 * z + 0.3 * x * z, np.float32)


def scanned(te_ms=TE_MS, **options):
    """A step, its header, and the images it is reconstructed to."""
    step = dixon_step(Body(), te_ms, matrix=96, noise_level=0.5, **options)
    header = parse_header(step.header_xml)
    gadgets = [Prewhiten(header), TransformReadout(header), Sort(header)]
    images = chain([*gadgets, Reconstruct("sense", header, noise_maps=True)])(step.readouts())
    return step, header, [item for item in images if isinstance(item, Image)]


@pytest.fixture(scope="module")
def scene():
    return scanned()


def derived(header, images):
    return {
        (item.quantity, item.key.slice): item
        for item in WaterFat(header)(iter(images))
        if item.role is Role.DERIVED
    }


def inner(truth, density):
    """Voxels with no edge near them."""
    flat = ndimage.maximum_filter(truth, (1, 5, 5)) - ndimage.minimum_filter(truth, (1, 5, 5))
    return (flat < 0.02) & (ndimage.minimum_filter(density, (1, 5, 5)) > 0.5)


@pytest.mark.parametrize(
    ("te_ms", "field_t", "slices", "volumetric", "bias"),
    [
        (TE_MS, 3.0, 1, False, 0.01),
        ((1.2, 2.5, 3.4), 3.0, 2, False, 0.01),
        ((1.6, 3.2, 4.8, 6.4), 1.5, 6, True, 0.01),
        # Three echoes far apart cannot tell the eddy currents' phase from fat.
        ((2.87, 6.07, 9.27), 1.5, 1, False, 0.025),
    ],
)
def test_pdff_of_multi_coil_data_in_a_field_of_300_hz(te_ms, field_t, slices, volumetric, bias):
    step, header, images = scanned(
        te_ms, field_t=field_t, slices=slices, volumetric=volumetric, reach_hz=300.0
    )
    found = derived(header, images)
    pdff = np.concatenate([found[name].data for name in sorted(found) if name[0] == "pdff"]) / 100
    truth, density = step.pdff()
    chosen = inner(truth, density)
    if volumetric:
        chosen[[0, -1]] = False  # the slab's profile
    error = (pdff - truth)[chosen]
    assert chosen.sum() > 500
    assert abs(error.mean()) < bias
    assert np.mean(np.abs(error) > 0.5) <= 0.001


def test_echoes_pass_first_and_unchanged(scene):
    _, header, images = scene
    items = list(WaterFat(header)(iter([*images, "something else"])))
    assert all(a is b for a, b in zip(items, [*images, "something else"]))
    rest = items[len(images) + 1 :]
    assert [image.quantity for image in rest] == list(IMAGE_TYPE)
    assert all(image.role is Role.DERIVED for image in rest)
    assert all(image.data.dtype == np.float32 for image in rest)


def test_what_leaves_says_what_it_is(scene):
    _, header, images = scene
    messages = [
        message
        for message in chain([WaterFat(header), Finish(header)])(iter(images))
        if isinstance(message, ImageMessage)
    ]
    metas = {str(meta["BoresideQuantity"]): (message, meta) for message in messages
             if (meta := parse_meta(message.attributes))}  # fmt: skip
    assert set(metas) == {"magnitude", *IMAGE_TYPE}
    for quantity, word in IMAGE_TYPE.items():
        message, meta = metas[quantity]
        assert meta["BoresideRole"] == "derived"
        assert meta["ImageType"] == ["DERIVED", "PRIMARY", "OTHER", word]
        assert "six-peak fat" in str(meta["ImageProcessingHistory"])
    message, meta = metas["pdff"]
    values = message.data * float(meta["RescaleSlope"])
    assert 90 < np.percentile(values[values > 0], 98) <= 100
    message, meta = metas["field_map"]
    field = message.data * float(meta["RescaleSlope"]) + float(meta["RescaleIntercept"])
    found = derived(header, images)["field_map", 0].data - FIELD_OFFSET_HZ
    assert np.allclose(field.reshape(found.shape), found, atol=1)


def refused(header, images, reason):
    """The echoes pass alone, and the log says why."""
    with capture_logs() as events:
        assert list(WaterFat(header)(iter(images))) == images
    return any(reason in event.get("reason", "") for event in events)


def test_a_missing_echo_gives_no_image_and_a_reason(scene):
    _, header, images = scene
    without = [image for image in images if image.key.contrast != 2]
    assert refused(header, without, "missing [2]")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"complete": False}, "lines missing"),
        ({"quantity": "magnitude"}, "complex"),
        ({"data": np.full((1, 96, 96), np.nan, np.complex64)}, "NaN"),
        ({"data": np.zeros((1, 48, 96), np.complex64)}, "one matrix"),
    ],
)
def test_an_echo_that_is_no_good_gives_no_image_and_a_reason(scene, change, reason):
    _, header, images = scene
    spoilt = [replace(images[0], **change), *images[1:]]
    assert refused(header, spoilt, reason)


def test_noise_alone_gives_no_image_and_a_reason(scene):
    _, header, images = scene
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((6, 2, 1, 96, 96))
    only = [
        replace(image, data=(n[0] + 1j * n[1]).astype(np.complex64))
        for image, n in zip(images, noise)
    ]
    assert refused(header, only, "little but noise")


def test_one_bad_slice_does_not_cost_the_others():
    _, header, images = scanned((1.2, 2.5, 3.4), slices=2)
    kept = [image for image in images if (image.key.slice, image.key.contrast) != (0, 1)]
    assert {place for _, place in derived(header, kept)} == {1}


def test_two_echoes_give_no_r2star():
    _, header, images = scanned((1.2, 2.3))
    assert {quantity for quantity, _ in derived(header, images)} == set(IMAGE_TYPE) - {"r2star"}
