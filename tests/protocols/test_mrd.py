"""The wire: what a peer sends is what we read, and the other way round."""

import io
import os
import socket

import ismrmrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import (
    LimitExceeded,
    MalformedMessage,
    TruncatedStream,
    UnknownMessage,
    WireError,
)
from protocols.mrd import Limits, Reader
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderText,
    ImageMessage,
    MessageId,
    Query,
    ReadoutBlock,
    Response,
    Text,
    Waveform,
)
from protocols.mrd_write import encode, write

rng = np.random.default_rng(1)
META = "<ismrmrdMeta><meta><name>DataRole</name><value>Image</value></meta></ismrmrdMeta>"


def block(count=5, coils=3, samples=16, dims=0) -> ReadoutBlock:
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["version"] = 1
    headers["number_of_samples"] = samples
    headers["active_channels"] = coils
    headers["trajectory_dimensions"] = dims
    headers["scan_counter"] = np.arange(count)
    data = rng.standard_normal((count, coils, samples, 2)).astype(np.float32)
    trajectory = rng.standard_normal((count, samples, dims)).astype(np.float32) if dims else None
    return ReadoutBlock(headers, data.view(np.complex64)[..., 0], trajectory)


def image(dtype=np.float32, shape=(2, 3, 4, 5), attributes="<ismrmrdMeta/>") -> ImageMessage:
    header = np.zeros((), IMAGE_HEADER)[()]
    return ImageMessage(header, np.arange(np.prod(shape)).reshape(shape).astype(dtype), attributes)


def waveform() -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)[()]
    return Waveform(header, np.arange(10, dtype=np.uint32).reshape(2, 5))


def read_all(raw: bytes, **kwargs):
    return list(Reader(io.BytesIO(raw), **kwargs))


def raw_of(*messages) -> bytes:
    sink = io.BytesIO()
    write(sink, *messages)
    return sink.getvalue()


def ismrmrd_acquisition(coils=3, samples=16, dims=0, counter=7):
    data = rng.standard_normal((coils, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    trajectory = rng.standard_normal((samples, dims)).astype(np.float32) if dims else None
    acquisition = ismrmrd.Acquisition.from_array(data, trajectory)
    acquisition.scan_counter = counter
    acquisition.idx.kspace_encode_step_1 = 11
    acquisition.position = (1.0, 2.0, 3.0)
    acquisition.set_flag(ismrmrd.ACQ_LAST_IN_SLICE)
    return acquisition


def ismrmrd_bytes(item, identifier) -> bytes:
    sink = io.BytesIO()
    item.serialize_into(sink.write)
    return int(identifier).to_bytes(2, "little") + sink.getvalue()


class Dribble(io.RawIOBase):
    """A source that gives the bytes in pieces of a few sizes, as a network does."""

    def __init__(self, raw: bytes, pieces):
        self.raw, self.pieces, self.at = raw, list(pieces) or [1], 0

    def readinto(self, buffer):
        step = self.pieces[self.at % len(self.pieces)]
        piece = self.raw[:step][: len(buffer)]
        self.raw = self.raw[len(piece) :]
        self.at += 1
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("dims", [0, 3])
def test_acquisitions_of_the_ismrmrd_package_are_read_as_one_block(dims):
    items = [ismrmrd_acquisition(dims=dims, counter=n) for n in range(4)]
    raw = b"".join(ismrmrd_bytes(a, MessageId.ACQUISITION) for a in items)
    (read,) = read_all(raw)
    assert len(read) == 4
    assert read.headers["scan_counter"].tolist() == [0, 1, 2, 3]
    assert read.headers["idx"]["kspace_encode_step_1"].tolist() == [11] * 4
    np.testing.assert_array_equal(read.headers["position"][0], [1, 2, 3])
    assert (read.headers["flags"] >> 7 & 1).all()
    for k, item in enumerate(items):
        np.testing.assert_array_equal(read.samples[k], item.data)
        if dims:
            np.testing.assert_array_equal(read.trajectory[k], item.traj)


@pytest.mark.parametrize("dims", [0, 2])
def test_blocks_are_written_as_the_ismrmrd_package_writes_acquisitions(dims):
    ours = block(3, dims=dims)
    source = io.BytesIO(raw_of(ours))
    for k in range(3):
        assert source.read(2) == int(MessageId.ACQUISITION).to_bytes(2, "little")
        theirs = ismrmrd.Acquisition.deserialize_from(source.read)
        assert theirs.scan_counter == k
        np.testing.assert_array_equal(theirs.data, ours.samples[k])
        if dims:
            np.testing.assert_array_equal(theirs.traj, ours.trajectory[k])
    assert source.read() == b""


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64, np.complex64])
def test_images_agree_with_the_ismrmrd_package_both_ways(dtype):
    data = (rng.standard_normal((2, 3, 4, 5)) * 50).astype(dtype)
    theirs = ismrmrd.Image.from_array(data, transpose=False)
    theirs.attribute_string = META
    theirs.image_index = 9
    (read,) = read_all(ismrmrd_bytes(theirs, MessageId.IMAGE))
    np.testing.assert_array_equal(read.data, data)
    assert read.header["image_index"] == 9
    assert ismrmrd.Meta.deserialize(read.attributes)["DataRole"] == "Image"

    source = io.BytesIO(raw_of(read)[2:])
    again = ismrmrd.Image.deserialize_from(source.read)
    np.testing.assert_array_equal(again.data, data)
    assert again.image_index == 9


def test_int32_images_take_four_bytes_a_pixel_whatever_ismrmrd_python_says():
    raw = raw_of(image(np.int32))
    assert len(raw) == 2 + 198 + 8 + len("<ismrmrdMeta/>") + 2 * 3 * 4 * 5 * 4
    (read,) = read_all(raw)
    assert read.data.dtype == np.int32
    np.testing.assert_array_equal(read.data, image(np.int32).data)


def test_waveforms_agree_with_the_ismrmrd_package_both_ways():
    theirs = ismrmrd.Waveform.from_array(np.arange(10, dtype=np.uint32).reshape(2, 5))
    theirs.waveform_id = 4
    (read,) = read_all(ismrmrd_bytes(theirs, MessageId.WAVEFORM))
    np.testing.assert_array_equal(read.data, theirs.data)
    assert read.header["waveform_id"] == 4
    again = ismrmrd.Waveform.deserialize_from(io.BytesIO(raw_of(read)[2:]).read)
    np.testing.assert_array_equal(again.data, theirs.data)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x01\x00" + b"null".ljust(1024, b"\0"), ConfigFile("null")),
        (b"\x02\x00\x05\x00\x00\x00<a/>\0", ConfigText("<a/>")),
        (b"\x03\x00\x04\x00\x00\x00<a/>", HeaderText("<a/>")),
        (b"\x04\x00", Close()),
        (b"\x05\x00\x03\x00\x00\x00hi\0", Text("hi")),
        (
            b"\x06\x00" + bytes(8) + (7).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"hi",
            Query(7, "hi"),
        ),
        (
            b"\x07\x00" + (7).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"hi",
            Response(7, "hi"),
        ),
        (b"\x08\x00" + (2).to_bytes(8, "little") + b"no", ErrorText("no")),
    ],
)
def test_each_small_message_has_the_documented_bytes(raw, message):
    assert read_all(raw) == [message]
    assert read_all(raw_of(message)) == [message]


def test_texts_to_a_peer_end_with_a_counted_nul_as_fire_sends_them():
    assert raw_of(HeaderText("<a/>")) == b"\x03\x00\x05\x00\x00\x00<a/>\0"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 900), max_size=5))
def test_the_pieces_in_which_bytes_arrive_change_nothing(pieces):
    sent = [HeaderText("<a/>"), block(3), Text("x"), block(2, coils=2), image(), block(1), Close()]
    read = list(Reader(Dribble(raw_of(*sent), pieces)))
    samples = [m.samples for m in read if isinstance(m, ReadoutBlock)]
    assert sum(len(s) for s in samples) == 6
    np.testing.assert_array_equal(
        np.concatenate([s for s in samples if s.shape[1] == 2]), sent[3].samples
    )
    assert [type(m) for m in read if not isinstance(m, ReadoutBlock)] == [
        HeaderText,
        Text,
        ImageMessage,
        Close,
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([4, 5])), min_size=1, max_size=8))
def test_each_run_of_readouts_of_one_shape_is_one_block(runs):
    sent = [block(count, coils=1, samples=samples) for count, samples in runs]
    read = list(read_all(raw_of(*sent)))
    for samples in (4, 5):
        ours, theirs = (
            [m.samples for m in messages if m.samples.shape[2] == samples]
            for messages in (read, sent)
        )
        assert len(ours) <= len(theirs)
        if theirs:
            np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_a_readout_larger_than_the_receive_buffer_is_read():
    big = block(2, coils=64, samples=16384)
    first, second = read_all(raw_of(big))
    np.testing.assert_array_equal(first.samples[0], big.samples[0])
    np.testing.assert_array_equal(second.samples[0], big.samples[1])


def test_every_kind_of_transport_carries_the_same_bytes(tmp_path):
    raw = raw_of(HeaderText("<a/>"), block(), Close())
    (tmp_path / "stream.mrd").write_bytes(raw)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.sendall(raw)
    pipe_out, pipe_in = os.pipe()
    os.write(pipe_in, raw)
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.sendall(raw)
    server, _ = listener.accept()
    sources = [
        open(tmp_path / "stream.mrd", "rb", buffering=0),  # noqa: SIM115
        ours.makefile("rb", buffering=0),
        os.fdopen(pipe_out, "rb", buffering=0),
        server.makefile("rb", buffering=0),
    ]
    for source in sources:
        kinds = [type(m) for m in Reader(source)]
        assert kinds == [HeaderText, ReadoutBlock, Close]
        source.close()
    for sock in (ours, theirs, listener, client, server):
        sock.close()
    os.close(pipe_in)


def test_an_end_between_messages_ends_the_iteration_without_an_error():
    assert len(read_all(raw_of(block()))) == 1


@pytest.mark.parametrize(
    "message", [ConfigFile("x"), HeaderText("<a/>"), block(1), image(), waveform(), Query(1, "a")]
)
def test_a_cut_message_names_what_was_expected_and_where(message):
    before = raw_of(Text("ok"))
    raw = before + raw_of(message)
    for cut in sorted({len(before) + 1, len(before) + 40, len(raw) - 1}):
        if cut >= len(raw):
            continue
        reader = Reader(io.BytesIO(raw[:cut]))
        assert reader.read() == Text("ok")
        with pytest.raises(TruncatedStream) as error:
            reader.read()
        assert error.value.offset >= len(before)
        assert "expected" in str(error.value) and "at byte" in str(error.value)


def test_an_unknown_id_is_loud_because_its_length_is_not_known():
    with pytest.raises(UnknownMessage, match="got 999, at byte 10") as error:
        read_all(raw_of(Text("abc")) + b"\xe7\x03")
    assert error.value.offset == 10


def test_lengths_beyond_the_limits_are_refused_before_memory_is_taken():
    with pytest.raises(LimitExceeded):
        read_all(b"\x03\x00\xff\xff\xff\xff")
    hostile = np.zeros((), ACQUISITION_HEADER)
    hostile["number_of_samples"] = hostile["active_channels"] = 65535
    with pytest.raises(LimitExceeded):
        read_all(b"\xf0\x03" + hostile.tobytes())
    header = np.zeros((), IMAGE_HEADER)
    header["matrix_size"], header["channels"], header["data_type"] = 65535, 65535, 8
    with pytest.raises(LimitExceeded):
        read_all(b"\xfe\x03" + header.tobytes() + bytes(8))
    with pytest.raises(LimitExceeded):
        read_all(raw_of(block(1)), limits=Limits(message_bytes=100))


def test_an_unknown_pixel_type_is_named():
    header = np.zeros((), IMAGE_HEADER)
    header["data_type"] = 77
    with pytest.raises(MalformedMessage, match="77"):
        read_all(b"\xfe\x03" + header.tobytes() + bytes(8))


def test_a_writer_refuses_what_mrd_has_no_form_for():
    with pytest.raises(MalformedMessage):
        encode(ConfigFile("x" * 1024))
    with pytest.raises(MalformedMessage):
        encode(image(np.float16))


def test_readouts_carry_the_time_at_which_their_last_byte_came():
    size = len(raw_of(block(1)))
    (read,) = read_all(raw_of(block(4)), clock=lambda ends: ends * 10)
    assert read.arrival_ns.tolist() == [size * 10 * (n + 1) for n in range(4)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from([int(i) for i in MessageId]))
def test_garbage_raises_a_wire_error_or_parses_and_never_anything_else(garbage, identifier):
    try:
        read_all(int(identifier).to_bytes(2, "little") + garbage)
    except WireError as error:
        assert error.offset >= 0
