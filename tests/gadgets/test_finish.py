"""Finished images: geometry by hand, interpolation by explicit DFT, meta as peers read it."""

import io

import numpy as np
import pytest

from gadgets.finish import Finish
from gadgets.items import FrameKey, Image, Role
from protocols.geometry import volume
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd import Reader
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage, ImageType, Text
from protocols.mrd_write import write

RNG = np.random.default_rng(5)
FIRST = FrameKey(0, 0, 0, 0, 0, 0)


def mrd_header(
    encoded=(64, 32, 1),
    recon=(32, 32, 1),
    encoded_fov=(640.0, 320.0, 5.0),
    recon_fov=(320.0, 320.0, 5.0),
    limits="",
    sequence="",
):
    def space(matrix, fov):
        return "<matrixSize><x>{}</x><y>{}</y><z>{}</z></matrixSize>".format(
            *matrix
        ) + "<fieldOfView_mm><x>{}</x><y>{}</y><z>{}</z></fieldOfView_mm>".format(*fov)

    return parse_header(
        f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
        <H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz></experimentalConditions>
        <encoding><encodedSpace>{space(encoded, encoded_fov)}</encodedSpace>
        <reconSpace>{space(recon, recon_fov)}</reconSpace>
        <encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding>
        {sequence}</ismrmrdHeader>"""
    )


def limit(name: str, count: int) -> str:
    return f"<{name}><minimum>0</minimum><maximum>{count - 1}</maximum><center>0</center></{name}>"


def image(data, key=FIRST, **fields) -> Image:
    header = np.zeros(1, ACQUISITION_HEADER)[0]
    header["version"] = 1
    header["measurement_uid"] = 77
    header["position"] = (10, 20, 30)
    header["read_dir"], header["phase_dir"] = (0, 1, 0), (0, 0, -1)
    header["slice_dir"] = (-1, 0, 0)
    header["patient_table_position"] = (0, 0, -700)
    header["acquisition_time_stamp"] = 12345
    header["physiology_time_stamp"] = (1, 2, 3)
    header["user_int"] = np.arange(8)
    return Image(np.asarray(data), key, header, (320.0, 320.0, 5.0), **fields)


def complex_image(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(np.complex64)


def finish(*images, header=None, **options) -> list[ImageMessage]:
    return list(Finish(header or mrd_header(), **options)(iter(images)))


def values(message: ImageMessage) -> np.ndarray:
    """What a reader makes of the pixels."""
    return message.data[0] * float(parse_meta(message.attributes)["RescaleSlope"])


def test_header():
    (message,) = finish(image(complex_image(1, 32, 32), FrameKey(0, 3, 0, 2, 1, 0)))
    head = message.header
    assert message.data.shape == (1, 1, 32, 32) and message.data.dtype == np.uint16
    assert head["position"].tolist() == [10, 20, 30]
    assert head["read_dir"].tolist() == [0, 1, 0]
    assert head["field_of_view"].tolist() == [320, 320, 5]
    assert head["patient_table_position"].tolist() == [0, 0, -700]
    assert head["measurement_uid"] == 77 and head["acquisition_time_stamp"] == 12345
    assert head["physiology_time_stamp"].tolist() == [1, 2, 3]
    assert (head["slice"], head["phase"], head["repetition"]) == (3, 2, 1)
    assert head["image_type"] == ImageType.MAGNITUDE
    assert head["image_series_index"] == 1
    assert head["user_int"].tolist() == list(range(8))


def test_a_point_source_is_where_its_pixel_says():
    """A spot 40 mm along readout and 30 mm along phase, sampled with oversampling along phase."""
    header = mrd_header((64, 48, 1), (32, 32, 1), (640.0, 480.0, 5.0))
    ky = (np.arange(48) - 24) / 480.0
    kx = (np.arange(32) - 16) / 320.0
    kspace = np.exp(-2j * np.pi * (ky[:, None] * 30 + kx * 40))
    spot = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace)))[None].astype(np.complex64)
    (message,) = finish(image(spot), header=header)
    y, x = np.unravel_index(np.argmax(message.data[0, 0]), (32, 32))
    point = volume(message.header, (1, 32, 32)).point(0, y, x)
    assert np.allclose(point, (10, 20 + 40, 30 - 30))


def test_values_in_snr_units_come_back_through_the_slope():
    data = 20 * complex_image(1, 32, 32)
    (message,) = finish(image(data, snr_units=True))
    slope = float(parse_meta(message.attributes)["RescaleSlope"])
    assert np.log2(slope) == round(np.log2(slope))
    assert np.abs(values(message) - np.abs(data)).max() <= slope / 2 * 1.001
    assert 4096 < message.data.max() <= 8192


def test_arbitrary_units_keep_their_pixels():
    (message,) = finish(image(1e-6 * complex_image(1, 32, 32)))
    meta = parse_meta(message.attributes)
    assert float(meta["RescaleSlope"]) == 1 and int(meta["WindowWidth"]) > 1000
    assert meta["BoresideSNRUnits"] == "0"
    assert float(meta["GADGETRON_ScaleRatio"]) > 1e6


def test_one_scale_for_a_series_and_saturation_is_said():
    data = np.abs(complex_image(1, 32, 32))
    first, second, third = finish(
        *(image(f * data, snr_units=True) for f in (1, 3, 100)), pixel_type="uint16"
    )
    slopes = {parse_meta(m.attributes)["RescaleSlope"] for m in (first, second, third)}
    assert len(slopes) == 1
    assert np.allclose(values(second), 3 * data, atol=1e-3)
    meta = parse_meta(third.attributes)
    saturated = int((np.rint(100 * data / float(slopes.pop())) > 65535).sum())
    assert int(meta["BoresideSaturatedPixels"]) == saturated > 0
    assert f"{saturated} pixels saturated" in meta["ImageComments"]
    assert third.data.max() == 65535


def test_an_empty_first_image_does_not_fix_the_scale():
    _, second = finish(image(np.zeros((1, 32, 32))), image(complex_image(1, 32, 32)))
    assert second.data.max() > 4096


def test_float_pixels_are_the_values():
    data = complex_image(1, 32, 32)
    (message,) = finish(image(data, snr_units=True), pixel_type="float32")
    assert message.data.dtype == np.float32
    assert np.allclose(message.data[0], np.abs(data))
    assert float(parse_meta(message.attributes)["RescaleSlope"]) == 1


def test_bad_voxels_are_black():
    data = complex_image(1, 32, 32)
    data[0, 1, 2], data[0, 3, 4] = np.nan, np.inf
    (message,) = finish(image(data))
    assert message.data[0, 0, 1, 2] == message.data[0, 0, 3, 4] == 0
    assert message.data.max() > 4096


def test_phase_oversampling_is_cut_off_around_the_origin():
    data = complex_image(1, 40, 32)
    header = mrd_header((64, 40, 1), (32, 32, 1), (640.0, 400.0, 5.0))
    (message,) = finish(image(data), header=header, pixel_type="float32")
    assert np.allclose(message.data[0], np.abs(data[:, 4:36]))


@pytest.mark.parametrize("ny", [24, 25, 31])
def test_zero_filling_to_the_recon_matrix(ny):
    """Against an explicit DFT in double precision; signal and noise keep their size."""
    data = complex_image(1, ny, 32)
    header = mrd_header((64, ny, 1), (32, 48, 1), (640.0, 320.0, 5.0))
    (message,) = finish(image(data), header=header, pixel_type="float32")
    k, y, fine = np.arange(ny) - ny // 2, np.arange(ny) - ny // 2, np.arange(48) - 24
    kspace = np.exp(-2j * np.pi * np.outer(k, y) / ny) @ data[0].astype(np.complex128)
    expected = np.abs(np.exp(2j * np.pi * np.outer(fine, k) / 48) @ kspace / ny)
    assert message.data.shape == (1, 1, 48, 32)
    assert np.allclose(message.data[0, 0], expected, atol=1e-5)


def test_zero_filling_with_oversampling_keeps_noise_and_signal():
    header = mrd_header((64, 40, 1), (64, 64, 1), (640.0, 400.0, 5.0))
    noise = np.concatenate([complex_image(1, 40, 32) for _ in range(100)])
    flat = [image(n[None] + 100) for n in noise]
    found = finish(*flat, header=header, pixel_type="float32")
    got = np.stack([m.data[0, 0] for m in found])
    assert got.shape == (100, 64, 64)
    # far from zero a magnitude's noise is that of one real channel; away from the edges there is
    # no ringing
    assert got[:, 16:48, 16:48].mean() == pytest.approx(100, rel=1e-3)
    assert got.std(axis=0)[16:48, 16:48].mean() == pytest.approx(1, abs=0.05)


def test_a_slab_is_one_message_without_its_oversampling():
    data = complex_image(12, 32, 32)
    header = mrd_header((64, 32, 12), (32, 32, 8), (640.0, 320.0, 60.0), (320.0, 320.0, 40.0))
    (message,) = finish(image(data), header=header, pixel_type="float32")
    assert message.data.shape == (1, 8, 32, 32)
    assert np.allclose(message.data[0], np.abs(data[2:10]))
    assert message.header["field_of_view"].tolist() == [320, 320, 40]
    voxels = volume(message.header, (8, 32, 32))
    assert np.allclose(voxels.point(5, 16, 16), (10 - 5, 20, 30))


def test_a_recon_field_of_view_beyond_the_encoded_one_is_padded():
    header = mrd_header((32, 32, 1), (64, 64, 1), (320.0, 320.0, 5.0), (640.0, 640.0, 5.0))
    data = complex_image(1, 32, 32)
    (message,) = finish(image(data), header=header, pixel_type="float32")
    assert np.allclose(message.data[0, 0, 16:48, 16:48], np.abs(data[0]))
    assert not message.data[0, 0, :16].any()


def test_image_numbers_are_unique_and_sort_by_their_counters():
    header = mrd_header(limits=limit("slice", 3) + limit("contrast", 2) + limit("repetition", 2))
    keys = [FrameKey(0, s, c, 0, r, 0) for r in (0, 1) for c in (0, 1) for s in (0, 2, 1)]
    found = finish(*(image(complex_image(1, 32, 32), key) for key in keys), header=header)
    numbers = [int(m.header["image_index"]) for m in found]
    assert numbers == [1, 3, 2, 4, 6, 5, 7, 9, 8, 10, 12, 11]


def test_image_numbers_are_unique_where_the_header_has_no_limits():
    keys = [FrameKey(0, s, c, 0, r, 0) for r in range(3) for c in range(3) for s in range(3)]
    keys += [FrameKey(0, 0, 0, 0, 65535, 0)]
    numbers = [
        int(m.header["image_index"])
        for m in finish(*(image(complex_image(1, 32, 32), key) for key in keys))
    ]
    assert len(set(numbers)) == len(keys) and min(numbers) >= 1 and max(numbers) <= 65535


def test_meta_for_fire_and_gadgetron():
    sequence = "<sequenceParameters><TE>10.5</TE><TE>20.5</TE><TI>220</TI></sequenceParameters>"
    source = image(
        30 * complex_image(1, 32, 32),
        FrameKey(0, 0, 1, 0, 0, 0),
        snr_units=True,
        history=("SENSE R=2",),
        n_readouts=160,
        acceleration=1.75,
        complete=False,
        attributes={"Extra": "kept"},
    )
    (message,) = finish(source, header=mrd_header(sequence=sequence))
    meta = parse_meta(message.attributes)
    assert meta["DataRole"] == meta["GADGETRON_DataRole"] == "Image"
    assert meta["ImageProcessingHistory"] == ["BORESIDE", "SENSE R=2"]
    assert meta["GADGETRON_ImageProcessingHistory"] == ["BORESIDE", "SENSE R=2"]
    assert meta["SequenceDescriptionAdditional"] == meta["SeriesDescriptionAdditional"]
    assert meta["ImageComment"] == meta["ImageComments"]
    assert "INCOMPLETE" in meta["ImageComments"] and "R=1.75" in meta["ImageComments"]
    assert meta["ImageRowDir"] == [f"{v:.18f}" for v in (0, 1, 0)]
    assert meta["ImageColumnDir"] == [f"{v:.18f}" for v in (0, 0, -1)]
    assert meta["ImageSliceNormDir"] == [f"{v:.18f}" for v in (-1, 0, 0)]
    assert meta["Keep_image_geometry"] == "1"
    assert meta["EchoTime"] == meta["GADGETRON_TE"] == "20.5"
    assert meta["InversionTime"] == "220.0"
    assert meta["BoresideRole"] == "acquired"
    assert meta["BoresideReadouts"] == "160"
    assert meta["BoresideAcceleration"] == "1.75"
    assert meta["BoresideComplete"] == "0"
    assert meta["BoresideSNRUnits"] == "1"
    assert meta["Extra"] == "kept"


def test_window_is_whole_numbers_for_rescaled_values():
    (message,) = finish(image(30 * complex_image(1, 32, 32), snr_units=True))
    meta = parse_meta(message.attributes)
    top = np.percentile(values(message), 99.5)
    assert int(meta["WindowWidth"]) == pytest.approx(top, abs=1)
    assert int(meta["WindowCenter"]) == pytest.approx(top / 2, abs=1)
    slope = float(meta["RescaleSlope"])
    assert int(meta["GADGETRON_WindowWidth"]) == round(int(meta["WindowWidth"]) / slope)


def test_maps_are_series_of_their_own_after_the_images():
    data, noise = complex_image(1, 32, 32), np.full((1, 32, 32), 3.0, np.float32)
    sources = [
        image(data, FrameKey(0, n, 0, 0, 0, 0), snr_units=True, noise_map=noise, acceleration=4.0)
        for n in range(2)
    ]
    found = finish(*sources, maps=("snr", "g-factor"))
    assert [int(m.header["image_series_index"]) for m in found] == [1, 1, 2, 2, 3, 3]
    assert [int(m.header["slice"]) for m in found] == [0, 1, 0, 1, 0, 1]
    g, snr = found[2], found[4]
    assert g.data.dtype == snr.data.dtype == np.float32
    assert np.allclose(g.data, 1.5) and np.allclose(snr.data[0], np.abs(data) / 3)
    for message, role in ((g, "Gfactor"), (snr, "SNR_MAP")):
        meta = parse_meta(message.attributes)
        assert meta["DataRole"] == "Quantitative" and meta["GADGETRON_DataRole"] == role
        assert meta["BoresideRole"] == "derived"


def test_maps_follow_the_image_to_the_recon_matrix():
    header = mrd_header((64, 40, 1), (64, 64, 1), (640.0, 400.0, 5.0))
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None] + 1, (1, 40, 32))
    source = image(complex_image(1, 40, 32), noise_map=ramp)
    _, g = finish(source, header=header, maps=("g-factor",))
    y = (np.arange(64) - 32) / 2 + 20 + 1
    assert np.allclose(g.data[0, 0, :, 5], y)


def test_without_a_noise_map_there_are_no_maps():
    assert len(finish(image(complex_image(1, 32, 32)), maps=("g-factor", "snr"))) == 1


def test_role_of_a_derived_image_is_said():
    (message,) = finish(image(complex_image(1, 32, 32), role=Role.SYNTHETIC))
    meta = parse_meta(message.attributes)
    assert meta["BoresideRole"] == "synthetic" and "synthetic" in meta["ImageComments"]


def test_missing_directions_are_filled_in():
    source = image(complex_image(1, 32, 32))
    for name in ("read_dir", "phase_dir", "slice_dir"):
        source.header[name] = 0
    (message,) = finish(source)
    assert message.header["read_dir"].tolist() == [1, 0, 0]
    assert message.header["slice_dir"].tolist() == [0, 0, 1]


def test_messages_go_over_the_wire_and_other_items_pass():
    text, message = finish(Text("hello"), image(complex_image(1, 32, 32)))
    assert text == Text("hello")
    wire = io.BytesIO()
    write(wire, message)
    wire.seek(0)
    back = Reader(wire).read()
    assert np.array_equal(back.data, message.data)
    assert back.header["matrix_size"].tolist() == [32, 32, 1]


@pytest.mark.parametrize("options", [{"pixel_type": "int8"}, {"maps": ("gmap",)}])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Finish(mrd_header(), **options)
