"""A synthetic image says so: role, attributes, pixels; and never is what triage looks at."""

from dataclasses import replace

import numpy as np
import pytest

from gadgets.finish import Finish
from gadgets.items import FrameKey, Image, Role, Series
from gadgets.series import CollectSeries
from gadgets.stream import chain
from gadgets.synthesis.marks import BurnIn, burn_in, computed, synthetic
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage

SIDE = 96


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>123</H1resonanceFrequency_Hz>
  </experimentalConditions>
  <encoding>
    <encodedSpace><matrixSize><x>96</x><y>96</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>96</x><y>96</y><z>4</z></fieldOfView_mm></encodedSpace>
    <reconSpace><matrixSize><x>96</x><y>96</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>96</x><y>96</y><z>4</z></fieldOfView_mm></reconSpace>
    <encodingLimits/>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>"""


@pytest.fixture(scope="module")
def header():
    return parse_header(HEADER)


@pytest.fixture
def acquired():
    head = np.zeros(1, ACQUISITION_HEADER)[0]
    head["read_dir"], head["phase_dir"], head["slice_dir"] = np.eye(3)
    data = np.random.default_rng(0).uniform(10, 90, (1, SIDE, SIDE)).astype(np.float32)
    return Image(
        data,
        FrameKey(0, 0, 0, 0, 0, 0),
        head,
        (96.0, 96.0, 4.0),
        snr_units=True,
        noise_map=np.ones_like(data),
        history=("SENSE",),
        conventional=data,
    )


@pytest.fixture
def made(acquired):
    return synthetic(acquired, acquired.data * 2, "synthetic-t1w", "signal equations, TR 600 ms")


def messages(header, images, pixel_type="uint16"):
    out = chain([Finish(header, pixel_type=pixel_type), BurnIn()])(iter(images))
    return [item for item in out if isinstance(item, ImageMessage)]


class TestItem:
    def test_it_keeps_its_place_and_its_history(self, acquired, made):
        assert made.role is Role.SYNTHETIC and acquired.role is Role.ACQUIRED
        assert made.key == acquired.key and made.field_of_view == acquired.field_of_view
        assert made.history == ("SENSE", "SYNTHETIC: signal equations, TR 600 ms")
        assert made.noise_map is None and made.conventional is None

    def test_its_attributes_are_those_of_dicom(self, made):
        assert made.attributes["SyntheticData"] == "YES"
        assert made.attributes["ContentQualification"] == "RESEARCH"
        assert made.attributes["ImageType"][0] == "DERIVED"
        assert made.attributes["ContributingEquipmentPurpose"][:2] == ["109100", "DCM"]

    def test_a_map_is_derived(self, acquired):
        found = computed(acquired, acquired.data, "t1_map", "fit")
        assert found.role is Role.DERIVED and "SyntheticData" not in found.attributes

    def test_it_never_becomes_a_series_that_triage_looks_at(self, header, acquired, made):
        t1 = computed(acquired, acquired.data, "t1_map", "fit")
        for images in ([made], [t1], [replace(made, quantity="magnitude")]):
            out = list(CollectSeries(header)(iter(images)))
            assert not [item for item in out if isinstance(item, Series)]
        out = list(CollectSeries(header)(iter([acquired, made])))
        (series,) = (item for item in out if isinstance(item, Series))
        np.testing.assert_array_equal(series.data, acquired.data)


class TestMessage:
    @pytest.mark.parametrize("pixel_type", ["uint16", "float32"])
    def test_the_word_is_in_its_pixels(self, header, acquired, made, pixel_type):
        plain, marked = messages(header, [acquired, made], pixel_type)
        meta = parse_meta(marked.attributes)
        slope = float(meta["RescaleSlope"])
        there = marked.data[0, 0] * slope
        changed = ~np.isclose(there, made.data[0], atol=1.0)
        rows, columns = np.nonzero(changed)
        assert 50 < changed.sum() < 0.1 * changed.size
        assert rows.max() < SIDE // 6 and columns.max() < 0.9 * SIDE
        assert there[changed].max() >= float(meta["WindowWidth"]) - 1
        assert meta["BurnedInAnnotation"] == "YES"
        assert meta["BoresideRole"] == "synthetic" and meta["BoresideQuantity"] == "synthetic-t1w"
        np.testing.assert_allclose(
            plain.data[0, 0] * float(parse_meta(plain.attributes)["RescaleSlope"]),
            acquired.data[0],
            atol=0.02,
        )

    def test_pixels_lead_back_to_values_but_are_not_called_snr(self, header, made):
        (message,) = messages(header, [made])
        meta = parse_meta(message.attributes)
        assert meta["BoresideSNRUnits"] == "0"
        values = message.data[0, 0, 40:] * float(meta["RescaleSlope"])
        np.testing.assert_allclose(values, made.data[0, 40:], atol=0.05)

    def test_all_else_passes_untouched(self, header, acquired):
        (message,) = messages(header, [acquired])
        texts = ["any", message]
        assert [a is b for a, b in zip(BurnIn()(iter(texts)), texts, strict=True)] == [True, True]

    def test_a_series_named_after_the_word_is_not_marked(self, header, acquired):
        image = replace(acquired, history=("no synthetic data",))
        (message,) = messages(header, [image])
        assert "BurnedInAnnotation" not in parse_meta(message.attributes)

    @pytest.mark.parametrize("shape", [(1, 4, 4), (2, 8, 200), (1, 16, 16), (3, 512, 384)])
    def test_any_size(self, shape):
        pixels = np.zeros(shape, np.uint16)
        found = burn_in(pixels, 1000.0)
        assert found.shape == shape and found.dtype == np.uint16
        assert (found.max() == 1000) and not pixels.any()
