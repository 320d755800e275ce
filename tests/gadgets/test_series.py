"""Series put together from images in the stream, of a simulated exam and of made-up headers."""

from dataclasses import replace

import numpy as np
import pytest
from ismrmrd import xsd

from gadgets.finish import Finish
from gadgets.items import FrameKey, Image, Role, Series
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.series import CollectSeries, slab, weighting
from gadgets.sort import Sort
from gadgets.stream import chain
from protocols.header import parse_header
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage
from scanner.exam import quick_exam
from scanner.phantom import LumbarSpine


@pytest.fixture(scope="module")
def step():
    """STIR of a simulated patient, 3 sagittal slices 12 mm apart, with phase oversampling."""
    taken = quick_exam(LumbarSpine(), centre=(2.0, 5.0, -7.0))[2]
    geometry = replace(taken.protocol.geometry, matrix=(64, 64), phase_oversampling=0.25)
    return replace(taken, protocol=replace(taken.protocol, geometry=geometry))


@pytest.fixture(scope="module")
def header(step):
    return parse_header(step.header_xml)


@pytest.fixture(scope="module")
def images(step, header):
    gadgets = [
        Prewhiten(header),
        TransformReadout(header),
        Sort(header),
        Reconstruct("sense", header),
    ]
    return [i for i in chain(gadgets)(step.readouts()) if isinstance(i, Image)]


def collected(header, images):
    """Return the series, after checking that everything else passed untouched and first."""
    items = list(CollectSeries(header)(iter(images)))
    assert all(out is given for out, given in zip(items, images))
    found = items[len(images) :]
    assert all(isinstance(series, Series) for series in found)
    return found


def plain(slice=0, position=(0.0, 0.0, 0.0), **fields):
    """A small image of ones, x to the left and y down."""
    head = np.zeros((), ACQUISITION_HEADER)[()]
    head["read_dir"], head["phase_dir"], head["slice_dir"] = (1, 0, 0), (0, 0, -1), (0, 1, 0)
    head["position"] = position
    about = {
        "data": np.ones((1, 80, 64), np.complex64),
        "key": FrameKey(0, slice, 0, 0, 0, 0),
        "header": head,
        "field_of_view": (420.0, 525.0, 4.0),
        "quantity": "complex",
        "snr_units": True,
        "last_readout_ns": slice,
    }
    return Image(**{**about, **fields})


def stack(positions, **fields):
    return [plain(n, (0.0, at, 0.0), **fields) for n, at in enumerate(positions)]


class TestOfAnExam:
    def test_pixels_are_those_that_leave(self, header, images):
        (series,) = collected(header, images)
        sent = [i for i in Finish(header, "float32")(iter(images)) if isinstance(i, ImageMessage)]
        expected = np.stack([m.data[0, 0] for m in sent])
        assert series.data.dtype == np.float32 and series.data.shape == (3, 64, 64)
        np.testing.assert_allclose(series.data, expected, rtol=1e-6)

    def test_it_lies_where_the_scanner_put_it(self, step, header, images):
        (series,) = collected(header, images)
        geometry = step.protocol.geometry
        for z, centre in enumerate(geometry.slice_centres()):
            np.testing.assert_allclose(series.volume.point(z, 32, 32), centre, atol=1e-4)
        one = series.volume.point(1, 32, 33) - series.volume.point(1, 32, 32)
        np.testing.assert_allclose(one, np.array(geometry.read_dir) * 420 / 64, atol=1e-4)
        assert series.thickness_mm == 4.0 and series.volume.spacing[2] == pytest.approx(12)

    def test_what_it_is(self, step, header, images):
        (series,) = collected(header, images)
        assert series.name == "stir_sag" and series.weighting == "stir" and series.snr_units
        assert series.last_readout_ns == max(i.last_readout_ns for i in images)
        assert series.conventional is None

    def test_its_slab_is_the_one_that_was_scanned(self, step, header, images):
        found = slab(collected(header, images)[0])
        geometry = step.protocol.geometry
        np.testing.assert_allclose(found.positions, geometry.slice_centres(), atol=1e-4)
        assert (found.thickness_mm, found.gap_mm) == pytest.approx((4, 8))
        assert found.field_of_view_mm == pytest.approx((420, 420))


class TestOrder:
    def test_slices_lie_in_order_of_position(self, header):
        images = [replace(i, data=i.data * i.key.slice) for i in stack([8.0, 0.0, 4.0, 12.0])]
        (series,) = collected(header, images)
        np.testing.assert_allclose(series.data[:, 0, 0], [1, 2, 0, 3])
        np.testing.assert_allclose(series.volume.point(0, 32, 32), [0, 0, 0], atol=1e-6)
        np.testing.assert_allclose(series.volume.point(3, 32, 32), [0, 12, 0], atol=1e-6)

    def test_slices_follow_the_normal_of_rows_and_columns(self, header):
        images = stack([0.0, 5.0])
        for image in images:
            image.header["slice_dir"] = (0, -1, 0)
        (series,) = collected(header, images)
        axes = series.volume.directions
        np.testing.assert_allclose(axes[2], np.cross(axes[0], axes[1]))
        np.testing.assert_allclose(series.volume.point(1, 32, 32), [0, 5, 0], atol=1e-6)

    def test_a_slice_that_comes_again_replaces_the_first(self, header):
        first = stack([0.0, 4.0, 8.0])
        again = replace(first[1], data=first[1].data * 7)
        (series,) = collected(header, [*first, again])
        np.testing.assert_allclose(series.data[:, 0, 0], [1, 7, 1])

    def test_one_for_each_contrast_and_repetition(self, header):
        images = [
            replace(image, key=image.key._replace(contrast=contrast, repetition=repetition))
            for repetition in range(2)
            for contrast in range(2)
            for image in stack([0.0, 4.0])
        ]
        found = collected(header, images)
        assert [series.name for series in found] == [
            "stir_sag",
            "stir_sag echo 2",
            "stir_sag repetition 2",
            "stir_sag echo 2 repetition 2",
        ]
        assert all(len(series.data) == 2 for series in found)

    def test_a_slice_that_is_missing_splits_the_stack(self, header):
        """Else all slices behind it would lie in the wrong place."""
        found = collected(header, stack([0.0, 4.0, 12.0, 16.0, 20.0]))
        assert [(s.name, len(s.data)) for s in found] == [("stir_sag", 3), ("stir_sag stack 2", 2)]
        np.testing.assert_allclose(found[0].volume.point(0, 32, 32), [0, 12, 0], atol=1e-6)

    def test_stacks_of_other_directions_are_series_of_their_own(self, header):
        images = stack([0.0, 4.0, 8.0, 12.0])
        for image in images[2:]:
            image.header["phase_dir"], image.header["slice_dir"] = (0, 0.6, -0.8), (0, 0.8, 0.6)
        assert [len(s.data) for s in collected(header, images)] == [2, 2]

    def test_a_slab_is_a_series(self, step):
        """Of a 3D scan, whose position is the partition at half of its number."""
        document = step.header_xml.replace("<z>1</z>", "<z>6</z>").replace("<z>4.0</z>", "<z>9</z>")
        slabbed = parse_header(document)
        image = plain(position=(1.0, 2.0, 3.0), data=np.ones((6, 80, 64), np.complex64))
        (series,) = collected(slabbed, [image])
        assert series.data.shape == (6, 64, 64) and series.thickness_mm == 1.5
        np.testing.assert_allclose(series.volume.point(3, 32, 32), [1, 2, 3])
        np.testing.assert_allclose(series.volume.point(4, 32, 32), [1, 3.5, 3])


class TestWhatIsTaken:
    @pytest.mark.parametrize(
        "fields",
        [
            {"role": Role.SYNTHETIC},
            {"role": Role.DERIVED},
            {"quantity": "g-factor"},
            {"complete": False},
        ],
    )
    def test_only_complete_acquired_images(self, header, fields):
        assert collected(header, stack([0.0, 4.0], **fields)) == []

    def test_the_conventional_images_go_along(self, header):
        ones = np.ones((1, 80, 64), np.complex64)
        images = stack([0.0, 4.0, 8.0])
        images[1] = replace(images[1], data=5 * ones, conventional=2j * ones)
        (series,) = collected(header, images)
        np.testing.assert_allclose(series.data[:, 0, 0], [1, 5, 1])
        assert series.conventional.dtype == np.float32
        np.testing.assert_allclose(series.conventional[:, 0, 0], [1, 2, 1])

    def test_noise_maps_go_along_where_all_images_have_one(self, header):
        noise = np.full((1, 80, 64), 2, np.float32)
        images = stack([0.0, 4.0, 8.0], noise_map=noise)
        (series,) = collected(header, images)
        assert series.noise.shape == (3, 64, 64) and (series.noise == 2).all()
        (series,) = collected(header, [*images[:2], replace(images[2], noise_map=None)])
        assert series.noise is None

    def test_images_in_other_units_make_a_series_in_other_units(self, header):
        images = stack([0.0, 4.0])
        assert not collected(header, [images[0], replace(images[1], snr_units=False)])[0].snr_units

    @pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (np.nan, 0.0, 0.0)])
    def test_without_positions_there_is_no_stack(self, header, position):
        assert collected(header, [plain(n, position) for n in range(3)]) == []

    def test_values_that_are_no_numbers_are_zero_as_they_leave(self, header):
        images = stack([0.0, 4.0])
        images[0].data[0, 40, 32] = np.nan
        assert np.isfinite(collected(header, images)[0].data).all()

    def test_a_measurement_too_large_to_hold_has_none(self, header, monkeypatch):
        monkeypatch.setattr("gadgets.series.MOST_VOXELS", 80 * 64 * 3)
        assert len(collected(header, stack([0.0, 4.0, 8.0]))) == 1
        assert collected(header, stack([0.0, 4.0, 8.0, 12.0])) == []

    def test_other_items_pass(self, header):
        assert collected(header, ["text", plain()])[0].data.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("times", "name", "expected"),
    [
        ({"TR": [600], "TE": [10]}, "", "t1"),
        ({"TR": [2200], "TE": [12], "TI": [860]}, "", "t1"),
        ({"TR": [3500], "TE": [100]}, "t2_tse_sag", "t2"),
        ({"TR": [3500], "TE": [80]}, "t2_tse_fs_cor", "t2_fs"),
        ({"TR": [3500], "TE": [40]}, "PD FatSat", "t2_fs"),
        ({"TR": [3500], "TE": [30]}, "", "pd"),
        ({"TR": [4500], "TE": [50], "TI": [210]}, "", "stir"),
        ({"TR": [4500], "TE": [50], "TI": [150]}, "", "stir"),
        ({"TR": [9000], "TE": [100], "TI": [2500]}, "", "unknown"),
        ({"TR": [4000], "TE": [12, 96], "TI": [160, 520, 1850, 3860]}, "", "unknown"),
        ({"TR": [600], "TE": [10]}, "t1_fs_gd", "unknown"),
        ({"TR": [9], "TE": [1.3]}, "", "unknown"),
        ({"TR": [3500]}, "", "unknown"),
        ({}, "offset", "unknown"),
    ],
)
def test_weighting_comes_from_the_times_of_the_sequence(header, times, name, expected):
    parameters = xsd.sequenceParametersType(**times)
    about = xsd.measurementInformationType(
        patientPosition=xsd.patientPositionType.HFS, protocolName=name
    )
    told = replace(header, sequenceParameters=parameters, measurementInformation=about)
    assert weighting(told) == expected


def test_each_echo_has_its_weighting(header):
    told = replace(header, sequenceParameters=xsd.sequenceParametersType(TR=[3500], TE=[20, 90]))
    assert (weighting(told, 0), weighting(told, 1)) == ("pd", "t2")


def test_a_header_without_any_of_it(header):
    bare = replace(header, sequenceParameters=None, measurementInformation=None)
    (series,) = collected(bare, stack([0.0, 4.0]))
    assert (series.name, series.weighting) == ("series", "unknown")
