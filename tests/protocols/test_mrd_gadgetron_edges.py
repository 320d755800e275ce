"""The edges of Gadgetron's compound messages: the empty, the odd, the cut short, the hostile."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, TruncatedStream, WireError
from protocols.mrd import Limits, Reader
from protocols.mrd_gadgetron import (
    SAMPLING_DESCRIPTION,
    Bucket,
    ImageArray,
    Readout,
    ReconBit,
    ReconBuffer,
    ReconData,
)
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    MessageId,
    Waveform,
)
from protocols.mrd_write import write


def our_bytes(message) -> bytes:
    sink = io.BytesIO()
    write(sink, message)
    return sink.getvalue()


def waveform() -> Waveform:
    return Waveform(np.zeros((), WAVEFORM_HEADER)[()], np.zeros((2, 3), np.uint32))


def recon_data() -> ReconData:
    buffer = ReconBuffer(
        np.ones((8, 4, 1, 2, 1, 1, 2), np.complex64),
        np.zeros((4, 1, 1, 1, 2), ACQUISITION_HEADER),
        np.zeros((), SAMPLING_DESCRIPTION)[()],
        np.zeros((2, 8, 4, 1, 1, 1, 2), np.float32),
    )
    return ReconData((ReconBit(buffer, buffer), ReconBit(buffer)))


def image_array() -> ImageArray:
    return ImageArray(
        np.ones((6, 5, 1, 1, 1, 1, 2), np.complex64),
        np.zeros((1, 1, 2), IMAGE_HEADER),
        ("<ismrmrdMeta/>",) * 2,
        (waveform(),),
        np.zeros((5, 1, 1, 1, 2), ACQUISITION_HEADER),
    )


def bucket() -> Bucket:
    head = np.zeros((), ACQUISITION_HEADER)[()]
    readouts = tuple(Readout(head, np.ones((2, n), np.complex64)) for n in (8, 6, 8))
    counters = ({"slice": (0, 1), "average": (3,)},)
    return Bucket(readouts, readouts[:1], counters, counters, (waveform(),))


def our_reading(raw: bytes):
    return Reader(io.BytesIO(raw)).read()


WHOLE = [our_bytes(m) for m in (recon_data(), image_array(), bucket())]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.float32, np.float64])
def test_arrays_of_other_types_leave_as_complex64_on_numpy_2(dtype):
    data = np.arange(12).reshape(4, 3, 1, 1, 1, 1, 1).astype(dtype)
    read = our_reading(our_bytes(ImageArray(data, np.zeros([1] * 3, IMAGE_HEADER))))
    assert read.data.dtype == np.complex64
    np.testing.assert_allclose(read.data, data, rtol=1e-6)


def test_attributes_need_not_be_ascii():
    message = ImageArray(
        np.ones([1] * 7, np.complex64), np.zeros([1] * 3, IMAGE_HEADER), ("Rücken é",)
    )
    assert our_reading(our_bytes(message)).attributes == ("Rücken é",)


def test_attributes_lose_the_nul_that_some_writers_count():
    raw = our_bytes(
        ImageArray(np.ones([1] * 7, np.complex64), np.zeros([1] * 3, IMAGE_HEADER), ("ab\0",))
    )
    assert our_reading(raw).attributes == ("ab",)


def test_an_empty_bucket_and_empty_recon_data_travel():
    assert our_reading(our_bytes(Bucket(()))) == Bucket(())
    assert our_reading(our_bytes(ReconData(()))) == ReconData(())


def test_readout_headers_of_a_bucket_are_made_to_fit_their_samples():
    wrong = Readout(np.zeros((), ACQUISITION_HEADER)[()], np.ones((3, 7), np.complex64))
    (read,) = our_reading(our_bytes(Bucket((wrong,)))).data
    np.testing.assert_array_equal(read.samples, wrong.samples)


def test_padding_of_the_structs_is_zero_and_not_old_memory():
    header = np.frombuffer(b"\xff" * WAVEFORM_HEADER.itemsize, WAVEFORM_HEADER)[0]
    raw = our_bytes(Waveform(header, waveform().data))[2:]
    assert raw[2:8] == bytes(6) and raw[38:40] == bytes(2)


@pytest.mark.parametrize("raw", WHOLE, ids=["recon data", "image array", "bucket"])
def test_a_message_cut_anywhere_is_a_truncated_stream(raw):
    for cut in sorted({1, 2, 3, 9, 11, *range(len(raw) // 40, len(raw), len(raw) // 40)}):
        with pytest.raises(TruncatedStream):
            Reader(io.BytesIO(raw[:cut])).read()


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<HQQ", 1024, 17, 1),
        struct.pack("<HQ", 1024, 2**64 - 1),
        struct.pack("<HQQQ", 1024, 2, 2**63, 2**63),
        struct.pack("<HQ2Q", 1024, 2, 0, 2**63) + bytes(8),
        struct.pack("<HQ3Q", 1024, 3, 2**40, 0, 2**40) + bytes(8),
        struct.pack("<HQ", 1023, 2**40),
        struct.pack("<H13Q", 1050, 2**40, *[0] * 12),
        struct.pack("<H13Q", 1050, *[0] * 10, 2**62, 0, 0),
        struct.pack("<H13QQ", 1050, *[0] * 13, 2**40),
        struct.pack("<H13QQ", 1050, *[0] * 13, 1) + struct.pack("<Q", 2**60),
    ],
    ids=[
        "dimensions",
        "most dimensions",
        "elements",
        "an empty huge array",
        "an empty array that numpy cannot shape",
        "bits",
        "readouts",
        "waveforms",
        "encoding spaces",
        "counter values",
    ],
)
def test_hostile_counts_are_refused_before_memory_is_taken(raw):
    with pytest.raises(LimitExceeded):
        Reader(io.BytesIO(raw)).read()


def test_the_limit_counts_the_whole_message():
    raw = our_bytes(recon_data())
    with pytest.raises(LimitExceeded):
        Reader(io.BytesIO(raw), Limits(message_bytes=len(raw) - 3)).read()
    assert Reader(io.BytesIO(raw), Limits(message_bytes=len(raw))).read() is not None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([MessageId.RECON_DATA, MessageId.IMAGE_ARRAY, MessageId.BUCKET]),
    st.lists(
        st.one_of(
            st.integers(0, 3).map(lambda n: struct.pack("<Q", n)),
            st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n)),
            st.binary(max_size=40),
        ),
        max_size=20,
    ),
)
def test_garbage_is_a_wire_error_or_a_message(identifier, pieces):
    reader = Reader(io.BytesIO(struct.pack("<H", identifier) + b"".join(pieces)))
    try:
        reader.read()
    except WireError as error:
        assert error.offset >= 0


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_a_message_with_flipped_bytes_is_a_wire_error_or_a_message(raw, data):
    damaged = bytearray(raw)
    for at in data.draw(st.lists(st.integers(2, len(raw) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        for _ in Reader(io.BytesIO(damaged)):
            pass
    except WireError as error:
        assert error.offset >= 0
