"""FIRE's configurations, against the formulas of python-ismrmrd-server in double precision."""

import ismrmrd.xsd as xsd
import numpy as np
import pytest

from agent import fire
from bench.data import measurement
from protocols.header import Header, header_text, parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import (
    IMAGE_HEADER,
    AcquisitionFlag,
    ImageMessage,
    ImageType,
    ReadoutBlock,
    Waveform,
)

SCAN = measurement((48, 40, 1), coils=3)
HEADER = parse_header(SCAN.header.xml)
LAST = int(AcquisitionFlag.LAST_IN_SLICE)


def images(gadget, *items) -> list[ImageMessage]:
    return [i for i in gadget(iter(items)) if isinstance(i, ImageMessage)]


def reference_magnitude(kspace: np.ndarray) -> np.ndarray:
    """(coil, x, y) to (x, y), as the reference computes it."""
    data = np.fft.fftshift(kspace.astype(complex), axes=(1, 2))
    data = np.fft.ifftshift(np.fft.ifft2(data, axes=(1, 2)), axes=(1, 2))
    return np.sqrt((np.abs(data) ** 2).sum(axis=0))


def centre(data: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    for axis, size in enumerate(shape):
        start = (data.shape[axis] - size) // 2
        data = np.take(data, range(start, start + size), axis)
    return data


def copies(block: ReadoutBlock, **counters: int) -> ReadoutBlock:
    headers = block.headers.copy()
    for name, value in counters.items():
        headers["idx"][name] = value
    return ReadoutBlock(headers, block.samples, None, block.arrival_ns)


def interleaved(*blocks: ReadoutBlock) -> ReadoutBlock:
    def mix(arrays):
        return np.stack(arrays, 1).reshape(-1, *arrays[0].shape[1:])

    return ReadoutBlock(mix([b.headers for b in blocks]), mix([b.samples for b in blocks]))


def test_simplefft_has_the_references_pixels_and_meta():
    (image,) = images(fire.simplefft(HEADER), SCAN.readouts)
    data = reference_magnitude(SCAN.readouts.samples.transpose(1, 2, 0))
    data = centre(np.around(data * 4095 / data.max()), (48, 40)).T
    assert image.data.dtype == np.int16
    assert np.abs(image.data[0, 0] - data).max() <= 1
    meta = parse_meta(image.attributes)
    assert meta["DataRole"] == "Image"
    assert meta["ImageProcessingHistory"] == ["FIRE", "PYTHON"]
    assert (meta["WindowCenter"], meta["WindowWidth"]) == ("2048.0", "4096")
    assert meta["ImageRowDir"][0] == "1.000000000000000000"
    assert image.header["image_type"] == ImageType.MAGNITUDE
    np.testing.assert_array_equal(image.header["field_of_view"], [300, 300, 5])


def test_invertcontrast_of_readouts_has_the_references_pixels():
    (image,) = images(fire.invertcontrast(HEADER), SCAN.readouts)
    kspace = SCAN.readouts.samples.transpose(1, 2, 0)[:, ::-1, ::-1]
    data = centre(reference_magnitude(kspace), (48, 40)).T
    data = 4095 - np.around(data * 4095 / data.max())
    assert np.abs(image.data[0, 0] - data).max() <= 1
    assert parse_meta(image.attributes)["Keep_image_geometry"] == "1"


def test_the_order_in_which_lines_come_and_the_blocks_they_come_in_change_nothing():
    (whole,) = images(fire.simplefft(HEADER), SCAN.readouts)
    order = np.random.default_rng(0).permutation(len(SCAN.readouts))
    shuffled = SCAN.readouts[order]
    shuffled.headers["flags"] = 0
    shuffled.headers["flags"][-1] = LAST
    pieces = [shuffled[k : k + 7] for k in range(0, len(order), 7)]
    (pieced,) = images(fire.simplefft(HEADER), *pieces)
    np.testing.assert_array_equal(pieced.data, whole.data)


def test_interleaved_slices_leave_as_each_gets_its_last_line():
    slices = [copies(SCAN.readouts, slice=k) for k in range(3)]
    mixed = interleaved(*slices)
    made = []

    def feed():
        for k in range(len(mixed)):
            made.append(("line", int(mixed[k : k + 1].headers["idx"]["slice"][0])))
            yield mixed[k : k + 1]

    for item in fire.simplefft(HEADER)(feed()):
        made.append(("image", int(item.header["slice"])))
    assert made[-6:] == [
        ("line", 0),
        ("image", 0),
        ("line", 1),
        ("image", 1),
        ("line", 2),
        ("image", 2),
    ]


def test_noise_and_navigators_are_no_lines():
    marked = copies(SCAN.readouts[:4])
    marked.headers["flags"] = int(AcquisitionFlag.IS_NAVIGATION_DATA) | LAST
    (plain,) = images(fire.simplefft(HEADER), SCAN.readouts)
    (image,) = images(fire.simplefft(HEADER), SCAN.noise, marked, SCAN.readouts)
    np.testing.assert_array_equal(image.data, plain.data)


def test_repeated_lines_are_averaged():
    twice = ReadoutBlock(
        np.concatenate([SCAN.readouts.headers[:-1], SCAN.readouts.headers]),
        np.concatenate([SCAN.readouts.samples[:-1] * 0.5, SCAN.readouts.samples * 1.5]),
    )
    twice.samples[-1] /= 1.5
    (plain,) = images(fire.simplefft(HEADER), SCAN.readouts)
    (image,) = images(fire.simplefft(HEADER), twice)
    assert np.abs(image.data - plain.data).max() <= 1


def test_lines_read_backwards_are_turned():
    backwards = copies(SCAN.readouts)
    odd = np.arange(len(backwards)) % 2 == 1
    backwards.headers["flags"][odd] |= np.uint64(AcquisitionFlag.IS_REVERSE)
    samples = np.where(odd[:, None, None], backwards.samples[..., ::-1], backwards.samples)
    (plain,) = images(fire.simplefft(HEADER), SCAN.readouts)
    (image,) = images(fire.simplefft(HEADER), ReadoutBlock(backwards.headers, samples))
    np.testing.assert_array_equal(image.data, plain.data)


def test_an_asymmetric_echo_is_placed_by_its_centre_sample():
    cut = ReadoutBlock(SCAN.readouts.headers.copy(), SCAN.readouts.samples[..., 20:])
    cut.headers["center_sample"] = 48 - 20
    zeroed = ReadoutBlock(SCAN.readouts.headers, SCAN.readouts.samples.copy())
    zeroed.samples[..., :20] = 0
    (expected,) = images(fire.simplefft(HEADER), zeroed)
    (image,) = images(fire.simplefft(HEADER), cut)
    np.testing.assert_array_equal(image.data, expected.data)


def test_cardiac_phases_may_share_the_flag_of_the_last_line():
    phases = [copies(SCAN.readouts, phase=k) for k in range(3)]
    for phase in phases[:2]:
        phase.headers["flags"] = 0
    made = images(fire.invertcontrast(HEADER), interleaved(*phases))
    assert [(int(i.header["phase"]), int(i.header["image_index"])) for i in made] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]


@pytest.mark.parametrize("flag_each_partition", [False, True])
def test_partitions_become_one_volume(flag_each_partition):
    scan = measurement((32, 24, 8), coils=2)
    block = scan.readouts
    if flag_each_partition:
        block.headers["flags"][23::24] |= np.uint64(LAST)
    (image,) = images(fire.simplefft(parse_header(scan.header.xml)), block)
    assert image.data.shape == (1, 8, 24, 32)
    assert np.corrcoef(image.data.ravel(), scan.truth.ravel())[0, 1] > 0.99


def test_without_a_header_images_have_the_size_of_what_was_acquired():
    (image,) = images(fire.simplefft(None), SCAN.readouts)
    assert image.data.shape == (1, 1, 40, 96)


def test_what_ends_without_a_last_line_becomes_an_image_that_says_so():
    (image,) = images(fire.simplefft(HEADER), SCAN.readouts[:-1])
    assert "incomplete: 39 lines" in parse_meta(image.attributes)["ImageComments"]


@pytest.mark.parametrize("change", ["coils", "samples", "line", "encoding", "silence"])
def test_the_fallback_takes_whatever_comes(change):
    odd = copies(SCAN.readouts)
    if change == "coils":
        odd = ReadoutBlock(odd.headers, odd.samples[:, :2])
    elif change == "samples":
        odd = ReadoutBlock(odd.headers, np.tile(odd.samples, 3))
    elif change == "line":
        odd.headers["idx"]["kspace_encode_step_1"] += 1000
    elif change == "encoding":
        odd.headers["encoding_space_ref"] = 9
    else:
        odd = ReadoutBlock(odd.headers, np.zeros_like(odd.samples))
    assert len(images(fire.simplefft(HEADER), SCAN.readouts, odd)) == 2


def image(data: np.ndarray, series: int = 1, kind: int = ImageType.MAGNITUDE) -> ImageMessage:
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["image_series_index"], header["image_type"] = series, kind
    header["user_int"] = 7
    return ImageMessage(header, data.reshape(1, 1, *data.shape), "")


def test_invertcontrast_inverts_a_series_against_its_greatest_pixel():
    low, high = np.array([[0.0, 50.0]]), np.array([[100.0, 25.0]])
    sent = [image(low), image(high), image(low, series=2)]
    made = images(fire.invertcontrast(None), *sent)
    np.testing.assert_array_equal(made[0].data.squeeze(), [4095, 4095 - 2048])
    np.testing.assert_array_equal(made[1].data.squeeze(), [0, 4095 - 1024])
    np.testing.assert_array_equal(made[2].data.squeeze(), [4095, 0])
    for before, after in zip(sent, made):
        assert after.header == before.header
        meta = parse_meta(after.attributes)
        assert meta["ImageProcessingHistory"] == ["PYTHON", "INVERT"]
        assert meta["SequenceDescriptionAdditional"] == "FIRE"


def test_images_that_are_no_magnitude_pass():
    phase = image(np.array([[1.0, 2.0]]), kind=ImageType.PHASE)
    (made,) = images(fire.invertcontrast(None), phase)
    np.testing.assert_array_equal(made.data, phase.data)
    assert parse_meta(made.attributes)["Keep_image_geometry"] == "1"


def test_the_header_may_ask_for_other_bits():
    header: Header = parse_header(SCAN.header.xml)
    header.userParameters = xsd.userParametersType(
        userParameterLong=[xsd.userParameterLongType(name="BitsStored", value=10)]
    )
    (made,) = images(fire.simplefft(parse_header(header_text(header))), SCAN.readouts)
    assert made.data.max() == 1023


def test_other_items_pass():
    item = Waveform(np.zeros(1)[0], np.zeros((1, 1), np.uint32))
    assert list(fire.simplefft(HEADER)(iter([item]))) == [item]
    assert list(fire.invertcontrast(HEADER)(iter([item]))) == [item]
