"""Boreside as Gadgetron starts it: a process that connects back and works in the chain."""

import io
import struct

import ismrmrd
import numpy as np
import pytest
from gadgetron.types.image_array import ImageArray as TheirImageArray
from gadgetron.types.recon_data import ReconBit, ReconBuffer, ReconData, SamplingDescription

from protocols.mrd import Reader
from protocols.mrd_gadgetron import Bucket, ImageArray, Readout
from protocols.mrd_types import (
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    Close,
    ImageMessage,
    Text,
    Waveform,
)

PATIENCE_S = 60
BOTH_WAYS = pytest.mark.parametrize(
    "connected",
    ["gadgetron {port} agent.gadgetron {target}", "agent.gadgetron {port} {target}"],
    ids=["by Gadgetron", "without the package"],
    indirect=True,
)


def waveform() -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)[()]
    return Waveform(header, np.arange(8, dtype=np.uint32).reshape(2, 4))


def image(dtype, attributes: str = "") -> ImageMessage:
    header = np.zeros((), IMAGE_HEADER)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = np.eye(3)
    header["field_of_view"] = 100
    pixels = np.arange(60) - (30 if np.dtype(dtype).kind == "i" else 0)
    return ImageMessage(header[()], pixels.reshape(1, 3, 4, 5).astype(dtype), attributes)


def bucket(wire, items) -> Bucket:
    (block,) = Reader(io.BytesIO(wire.raw_of(*items)))
    readouts = tuple(Readout(h, s) for h, s in zip(block.headers, block.samples, strict=True))
    return Bucket(readouts, waveforms=(waveform(),))


def recon_data(items) -> ReconData:
    """What BucketToBufferGadget makes of one slice."""
    kspace = np.stack([item.data for item in items])  # E1, CHA, E0
    data = kspace.transpose(2, 0, 1)[:, :, None, :, None, None, None]
    headers = np.empty((len(items), 1, 1, 1, 1), object)
    for line, item in enumerate(items):
        headers[line, 0, 0, 0, 0] = item.getHead()
    sampling = SamplingDescription()
    sampling.sampling_limits[0].center = data.shape[0] // 2
    sampling.sampling_limits[0].max = data.shape[0] - 1
    return ReconData([ReconBit(ReconBuffer(data, None, None, headers, sampling))])


@BOTH_WAYS
def test_acquisitions_go_in_and_an_image_comes_out(connected, scan):
    parent, process = connected("recon")
    parent.open()
    (result,) = parent.exchange(*scan.acquisitions())
    scan.check(result)
    assert process.wait(PATIENCE_S) == 0


@BOTH_WAYS
def test_passthrough_sends_every_byte_back_but_texts(connected, scan, wire):
    parent, process = connected("passthrough")
    parent.open()
    items = [
        *scan.acquisitions()[:3],
        waveform(),
        image(np.float64),
        image(np.complex128),
        image(np.int32),
        image(np.uint16, "<ismrmrdMeta><meta><name>ä</name><value>é</value></meta></ismrmrdMeta>"),
        ImageArray(np.ones((4, 3, 1, 1, 1, 1, 1), np.complex64), np.zeros((1, 1, 1), IMAGE_HEADER)),
        bucket(wire, scan.acquisitions()[:4]),
        recon_data(scan.acquisitions()),
    ]
    raw = parent.exchange(Text("one"), *items, Text("two"), receive=wire.Gadgetron.receive_raw)
    assert raw == wire.raw_of(*items, Close())
    assert process.wait(PATIENCE_S) == 0


def test_a_text_amid_the_acquisitions_loses_none_of_them(connected, scan):
    parent, process = connected("recon")
    parent.open()
    items = scan.acquisitions()
    (result,) = parent.exchange(*items[:7], Text("hello"), *items[7:])
    scan.check(result)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("samples", [1, 2], ids=["removed upstream", "still there"])
def test_readout_oversampling_is_removed_once(connected, scan, samples):
    parent, process = connected("recon")
    parent.open(mrd_header=scan.header(oversampling=2))
    (result,) = parent.exchange(*scan.acquisitions(samples * scan.samples))
    scan.check(result)
    assert process.wait(PATIENCE_S) == 0


def test_a_bucket_is_reconstructed_and_its_waveforms_go_on(connected, scan, wire):
    parent, process = connected("recon")
    parent.open()
    sent = bucket(wire, scan.acquisitions())
    received = parent.exchange(sent, receive=wire.Gadgetron.receive_messages)
    assert {type(item) for item in received} == {ImageMessage, Waveform, Close}
    (result,) = (item for item in received if isinstance(item, ImageMessage))
    scan.check(result)
    assert process.wait(PATIENCE_S) == 0


def test_recon_data_are_reconstructed(connected, scan):
    parent, process = connected("recon")
    parent.open()
    (result,) = parent.exchange(recon_data(scan.acquisitions()))
    scan.check(result)
    assert process.wait(PATIENCE_S) == 0


def test_a_property_of_the_configuration_is_heard(connected, scan):
    parent, process = connected("recon")
    parent.open('<configuration><property name="pixel_type" value="float32"/></configuration>')
    (result,) = parent.exchange(*scan.acquisitions())
    assert result.data.dtype == np.float32
    assert process.wait(PATIENCE_S) == 0


def test_images_keep_their_pixels_and_types_and_get_a_history(connected, wire):
    parent, process = connected("images")
    parent.open()
    meta = "<ismrmrdMeta><meta><name>ImageComments</name><value>Rücken</value></meta></ismrmrdMeta>"
    dtypes = [np.uint16, np.uint32, np.int32, np.float32, np.float64, np.complex64, np.complex128]
    sent = [image(dtype, meta) for dtype in dtypes]
    *received, close = parent.exchange(*sent, receive=wire.Gadgetron.receive_messages)
    assert close == Close()
    for before, after in zip(sent, received, strict=True):
        assert after.data.dtype == before.data.dtype
        np.testing.assert_array_equal(after.data, before.data)
        attributes = ismrmrd.Meta.deserialize(after.attributes)
        assert attributes["ImageComments"] == "Rücken"
        assert attributes["ImageProcessingHistory"] == "Boreside: geometry checked"
    assert process.wait(PATIENCE_S) == 0


def test_int16_images_leave_as_float32_because_gadgetron_cannot_read_them(connected):
    parent, process = connected("passthrough")
    parent.open()
    (result,) = parent.exchange(image(np.int16))
    assert result.data.dtype == np.float32
    np.testing.assert_array_equal(result.data, image(np.int16).data)
    assert process.wait(PATIENCE_S) == 0


def test_image_arrays_of_the_package_come_back_for_the_package(connected):
    parent, process = connected("images")
    parent.open()
    headers = np.empty((1, 1, 2), object)
    for k in range(2):
        headers[0, 0, k] = ismrmrd.ImageHeader.from_buffer_copy(image(np.uint16).header.tobytes())
    data = np.arange(24).reshape(4, 3, 1, 1, 1, 1, 2).astype(np.complex64)
    theirs = TheirImageArray(data, headers, [ismrmrd.Meta().serialize()] * 2, None, None)
    (result,) = parent.exchange(theirs)
    np.testing.assert_array_equal(result.data, data)
    assert all("geometry checked" in text for text in result.meta)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("cut", [1, 100, 700], ids=["id", "header", "samples"])
def test_a_parent_that_dies_in_a_message_ends_the_process(connected, scan, wire, cut):
    parent, process = connected("recon")
    parent.open()
    first, second = scan.acquisitions()[:2]
    parent.send(first)
    parent.write(wire.raw_of(second)[:cut])
    parent.sock.close()
    assert process.wait(PATIENCE_S) != 0


def test_a_parent_that_goes_without_close_ends_the_process(connected, scan):
    parent, process = connected("passthrough")
    parent.open()
    parent.send(scan.acquisitions()[0])
    parent.sock.close()
    assert process.wait(PATIENCE_S) != 0


@BOTH_WAYS
def test_an_unknown_message_is_told_as_error_then_close(connected, scan):
    parent, process = connected("passthrough")
    parent.open()
    parent.send(scan.acquisitions()[0])
    parent.write(struct.pack("<H", 1051) + bytes(100_000))
    assert len(parent.receive()) == 1
    (error,) = parent.errors
    assert "1051" in error
    parent.sock.close()
    assert process.wait(PATIENCE_S) != 0


def test_a_property_that_is_not_known_is_told_to_the_parent(connected):
    parent, process = connected("recon")
    parent.open('<configuration><property name="methode" value="sense"/></configuration>')
    assert parent.receive() == []
    assert "methode" in parent.errors[0] and "method," in parent.errors[0]
    parent.sock.close()
    assert process.wait(PATIENCE_S) != 0


@BOTH_WAYS
def test_a_failure_reaches_a_parent_that_is_still_sending(connected, scan):
    parent, process = connected("recon")
    parent.open(mrd_header=scan.header(y=0))
    parent.send(*scan.acquisitions())
    assert parent.receive() == []
    assert "matrixSize" in parent.errors[0]
    parent.sock.close()
    assert process.wait(PATIENCE_S) != 0
