"""Images that another program made: pixels stay, the history says what was found."""

import numpy as np
import pytest

from gadgets.check_images import check, check_images, geometry_fault, returning_originals
from protocols.meta import meta_text, parse_meta
from protocols.mrd_gadgetron import ImageArray
from protocols.mrd_types import IMAGE_HEADER, ImageMessage, Text


def headers(*shape: int) -> np.ndarray:
    result = np.zeros(shape, IMAGE_HEADER)
    result["read_dir"], result["phase_dir"], result["slice_dir"] = [0, 1, 0], [0, 0, 1], [1, 0, 0]
    result["field_of_view"] = [250, 300, 4]
    return result


def image(attributes: str = "", **fields) -> ImageMessage:
    header = headers()
    for name, value in fields.items():
        header[name] = value
    return ImageMessage(header[()], np.ones((1, 2, 3, 4), np.uint16), attributes)


def history(text: str, key: str = "ImageProcessingHistory"):
    return parse_meta(text)[key]


def test_an_oblique_image_is_in_order():
    angle = np.deg2rad(37)
    turned = [np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, -1]
    oblique = image(**dict(zip(("read_dir", "phase_dir", "slice_dir"), turned, strict=True)))
    assert geometry_fault(oblique.header) is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"read_dir": 0}, "right angles"),
        ({"read_dir": [0, 2, 0]}, "right angles"),
        ({"read_dir": [0, 0.9, 0.1]}, "right angles"),
        ({"position": [0, np.nan, 0]}, "finite"),
        ({"slice_dir": np.inf}, "finite"),
        ({"field_of_view": [0, 1, 1]}, "field of view"),
    ],
)
def test_a_fault_of_geometry_is_named_in_the_history_and_the_image_still_goes(fields, fault):
    faulty = image(**fields)
    assert fault in geometry_fault(faulty.header)
    (passed,) = check_images(iter([faulty]))
    assert fault in history(passed.attributes)
    assert passed.data is faulty.data and passed.header is faulty.header


@pytest.mark.parametrize(
    "text", ["", "<ismrmrdMeta/>", '<?xml version="1.0"?><ismrmrdMeta></ismrmrdMeta>']
)
def test_an_image_without_attributes_gets_both_spellings_of_a_history(text):
    marked = check(image(text)).attributes
    assert history(marked) == "Boreside: geometry checked"
    assert history(marked, "GADGETRON_ImageProcessingHistory") == "Boreside: geometry checked"


def test_a_history_is_extended_where_it_stands():
    text = meta_text({"GADGETRON_ImageProcessingHistory": ["GT", "AI"], "Keep": ["1", "2"]})
    marked = parse_meta(check(image(text)).attributes)
    assert marked == {
        "GADGETRON_ImageProcessingHistory": ["GT", "AI", "Boreside: geometry checked"],
        "Keep": ["1", "2"],
    }


def test_attributes_that_cannot_be_read_are_left_alone():
    assert check(image("<ismrmrdMeta><meta>")).attributes == "<ismrmrdMeta><meta>"


def test_every_image_of_an_array_is_marked_by_its_own_header():
    several = headers(2, 1, 2)
    several["field_of_view"][1, 0, 0] = 0  # second in Fortran order, as attributes are counted
    array = ImageArray(np.ones((4, 3, 1, 1, 2, 1, 2), np.complex64), several)
    marked = check(array)
    assert marked.data is array.data
    faults = ["field of view" in history(text) for text in marked.attributes]
    assert faults == [False, True, False, False]


def test_what_is_no_image_passes_untouched():
    text = Text("x")
    assert list(check_images(iter([text]))) == [text]


def test_after_a_failure_all_originals_go_out_and_then_the_failure():
    sent = [image() for _ in range(4)]

    def fails_on_the_second(item):
        if item is sent[1]:
            raise RuntimeError("no engine")
        return check(item)

    received = returning_originals(fails_on_the_second)(iter(sent))
    assert "geometry checked" in next(received).attributes
    assert [next(received) for _ in range(3)] == sent[1:]
    with pytest.raises(RuntimeError, match="no engine"):
        next(received)
