"""Gadgetron's compound messages, byte for byte against its own Python package, both ways.

Where the package and the C++ server disagree, Boreside follows the server, which is the one at the
other end of the wire:

- The package prefixes each waveform of an image array with a message id (1026). The server neither
  writes nor reads one (``ISMRMRD::Waveform`` in ``core/io/ismrmrd_types.h``).
- The package cannot read a bucket that has waveforms. Their bytes are built by hand here, in the
  order of the server's ``AcquisitionBucketWriter``: all headers, then all samples.
- An array without dimensions has no elements in the server; the package raises TypeError.
"""

import ctypes
import io
import struct

import ismrmrd
import numpy as np
from gadgetron.external.connection import Connection
from gadgetron.external.readers import read_acquisition_header, read_image_header
from gadgetron.types.acquisition_bucket import read_acquisition_bucket
from gadgetron.types.image_array import ImageArray as TheirImageArray
from gadgetron.types.recon_data import ReconBit as TheirReconBit
from gadgetron.types.recon_data import ReconBuffer as TheirReconBuffer
from gadgetron.types.recon_data import ReconData as TheirReconData
from gadgetron.types.recon_data import SamplingDescription

from protocols.mrd import Reader
from protocols.mrd_gadgetron import (
    SAMPLING_DESCRIPTION,
    STATISTICS,
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
    Waveform,
)
from protocols.mrd_write import write

SERVER_ORDER = ["kspace_encode_step_1", "kspace_encode_step_2", "slice", "phase", "contrast"]
SERVER_ORDER += ["repetition", "set", "segment", "average"]
rng = np.random.default_rng(2)
META = "<ismrmrdMeta><meta><name>Note</name><value>x</value></meta></ismrmrdMeta>"


class Bytes:
    """The `gadgetron` package's idea of a socket, over bytes."""

    def __init__(self, raw: bytes = b"") -> None:
        self.stream = io.BytesIO(raw)
        self.read = self.stream.read

    def write(self, data) -> None:
        self.stream.write(bytes(data))


def their_bytes(item) -> bytes:
    sink = Bytes()
    for accepts, writer in Connection._default_writers():
        if accepts(item):
            writer(sink, item)
            return sink.stream.getvalue()
    raise AssertionError(type(item))


def their_reading(raw: bytes):
    source = Bytes(raw)
    reader = Connection._default_readers()[int.from_bytes(source.read(2), "little")]
    item = reader(source)
    assert source.read(1) == b""
    return item


def our_bytes(message) -> bytes:
    sink = io.BytesIO()
    write(sink, message)
    return sink.getvalue()


def our_reading(raw: bytes):
    reader = Reader(io.BytesIO(raw))
    message = reader.read()
    assert reader.offset == len(raw)
    return message


def complex_noise(*shape) -> np.ndarray:
    pairs = rng.standard_normal((*shape, 2)).astype(np.float32)
    return pairs.view(np.complex64)[..., 0]


def acquisition_headers(*shape) -> np.ndarray:
    headers = np.zeros(shape, ACQUISITION_HEADER)
    headers["scan_counter"] = rng.integers(0, 1000, shape)
    headers["position"] = rng.standard_normal((*shape, 3))
    headers["idx"]["kspace_encode_step_1"] = rng.integers(0, 100, shape)
    return headers


def image_headers(*shape) -> np.ndarray:
    headers = np.zeros(shape, IMAGE_HEADER)
    headers["image_index"] = rng.integers(1, 1000, shape)
    headers["position"] = rng.standard_normal((*shape, 3))
    return headers


def objects(headers: np.ndarray, read) -> np.ndarray:
    """The package's array of ctypes headers for our structured array."""
    result = np.empty(headers.shape, object)
    for index in np.ndindex(headers.shape):
        result[index] = read(Bytes(headers[index].tobytes()))
    return result


def raw_headers(theirs: np.ndarray, dtype) -> np.ndarray:
    flat = [np.frombuffer(bytes(h), dtype)[0] for h in theirs.ravel()]
    return np.array(flat, dtype).reshape(theirs.shape)


def sampling() -> np.void:
    description = np.zeros((), SAMPLING_DESCRIPTION)
    description["encoded_fov"] = [250, 300, 80]
    description["recon_fov"] = [250, 280, 80]
    description["encoded_matrix"] = [128, 96, 4]
    description["recon_matrix"] = [128, 90, 4]
    description["limits"] = [[0, 64, 127], [3, 48, 95], [0, 2, 3]]
    return description[()]


def recon_buffer(trajectory: bool, loc: int = 2) -> ReconBuffer:
    e0, e1, e2, cha, n, s = 8, 4, 3, 2, 2, 1
    return ReconBuffer(
        data=complex_noise(e0, e1, e2, cha, n, s, loc),
        headers=acquisition_headers(e1, e2, n, s, loc),
        sampling=sampling(),
        trajectory=rng.standard_normal((3, e0, e1, e2, n, s, loc)).astype("f4")
        if trajectory
        else None,
        density=rng.standard_normal((e0, e1, e2, n, s, loc)).astype("f4") if trajectory else None,
    )


def their_recon_buffer(buffer: ReconBuffer) -> TheirReconBuffer:
    return TheirReconBuffer(
        buffer.data,
        buffer.trajectory,
        buffer.density,
        objects(buffer.headers, read_acquisition_header),
        SamplingDescription.from_buffer_copy(buffer.sampling.tobytes()),
    )


def their_recon_data(message: ReconData) -> TheirReconData:
    return TheirReconData(
        [
            TheirReconBit(
                their_recon_buffer(bit.data),
                their_recon_buffer(bit.reference) if bit.reference else None,
            )
            for bit in message.bits
        ]
    )


def recon_data() -> ReconData:
    return ReconData(
        (
            ReconBit(recon_buffer(True), recon_buffer(False, loc=1)),
            ReconBit(recon_buffer(False)),
        )
    )


def waveform(channels: int = 2, samples: int = 5, identifier: int = 1) -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)
    header["waveform_id"], header["channels"] = identifier, channels
    header["number_of_samples"] = samples
    data = np.arange(channels * samples, dtype=np.uint32).reshape(channels, samples) + identifier
    return Waveform(header[()], data)


def image_array(waveforms=None, acquisitions=None) -> ImageArray:
    return ImageArray(
        data=complex_noise(6, 5, 2, 1, 2, 1, 3),
        headers=image_headers(2, 1, 3),
        attributes=tuple(META.replace("x", str(k)) for k in range(6)),
        waveforms=waveforms,
        acquisition_headers=acquisitions,
    )


def readout(coils: int, samples: int, dims: int = 0) -> Readout:
    header = acquisition_headers()
    header["active_channels"], header["number_of_samples"] = coils, samples
    header["trajectory_dimensions"] = dims
    trajectory = rng.standard_normal((samples, dims)).astype(np.float32) if dims else None
    return Readout(header[()], complex_noise(coils, samples), trajectory)


def statistics(first: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(range(first, first + k)) for k, name in enumerate(STATISTICS)}


def bucket(waveforms: tuple[Waveform, ...] = ()) -> Bucket:
    return Bucket(
        data=(readout(2, 8), readout(2, 6, dims=3), readout(3, 8)),
        reference=(readout(2, 4), readout(2, 4)),
        statistics=(statistics(0), statistics(7)),
        reference_statistics=(statistics(3),),
        waveforms=waveforms,
    )


def bucket_by_hand(message: Bucket) -> bytes:
    """The bytes of a bucket in the order of the server's AcquisitionBucketWriter."""

    def bundle(readouts):
        head = b"".join(r.header.tobytes() for r in readouts)
        path = b"".join(r.trajectory.tobytes() for r in readouts if r.trajectory is not None)
        data = b"".join(r.samples.tobytes() for r in readouts)
        return head, path, data

    def stats(spaces):
        raw = struct.pack("<Q", len(spaces))
        for space in spaces:
            for name in SERVER_ORDER:
                raw += struct.pack("<Q", len(space[name]))
                raw += struct.pack(f"<{len(space[name])}H", *space[name])
        return raw

    sizes, body = [], b""
    parts = []
    for readouts, spaces in (
        (message.data, message.statistics),
        (message.reference, message.reference_statistics),
    ):
        head, path, data = bundle(readouts)
        counted = stats(spaces)
        sizes.append([len(readouts), len(head), len(data), len(path)])
        parts.append(len(counted))
        body += head + path + data + counted
    heads = b"".join(w.header.tobytes() for w in message.waveforms)
    waves = b"".join(w.data.tobytes() for w in message.waveforms)
    meta = struct.pack(
        "<13Q", *sizes[0], *sizes[1], *parts, len(message.waveforms), len(heads), len(waves)
    )
    assert len(meta) == 104
    return struct.pack("<H", 1050) + meta + body + heads + waves


def assert_buffers_agree(ours: ReconBuffer, theirs: TheirReconBuffer) -> None:
    np.testing.assert_array_equal(ours.data, theirs.data)
    for name in ("trajectory", "density"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(ours.headers, raw_headers(theirs.headers, ACQUISITION_HEADER))
    assert ours.sampling.tobytes()[:54] == bytes(theirs.sampling)[:54]


def test_recon_data_have_the_bytes_of_the_gadgetron_package():
    message = recon_data()
    assert our_bytes(message) == their_bytes(their_recon_data(message))


def test_recon_data_agree_with_the_gadgetron_package_both_ways():
    message = recon_data()
    theirs = their_reading(our_bytes(message))
    ours = our_reading(their_bytes(their_recon_data(message)))
    for mine, other, sent in zip(ours.bits, theirs.bits, message.bits, strict=True):
        assert_buffers_agree(mine.data, other.data)
        np.testing.assert_array_equal(mine.data.data, sent.data.data)
        np.testing.assert_array_equal(mine.data.headers, sent.data.headers)
        assert (mine.reference is None) == (other.ref is None) == (sent.reference is None)
        if mine.reference is not None:
            assert_buffers_agree(mine.reference, other.ref)


def test_the_sampling_description_has_the_size_and_order_of_the_c_struct():
    assert SAMPLING_DESCRIPTION.itemsize == 56  # 54 bytes and the padding of an array of floats
    theirs = SamplingDescription.from_buffer_copy(sampling().tobytes())
    assert ctypes.sizeof(SamplingDescription) == 56
    assert list(theirs.encoded_FOV) == [250, 300, 80]
    assert list(theirs.recon_matrix) == [128, 90, 4]
    assert [list(limit) for limit in theirs.sampling_limits] == [
        [0, 64, 127],
        [3, 48, 95],
        [0, 2, 3],
    ]


def test_an_encoding_space_without_data_is_an_array_without_dimensions_and_without_elements():
    # As hoNDArray<T>() is written by IO::write: BucketToBufferGadget makes such bits.
    nothing = struct.pack("<Q", 0) + b"\0" + b"\0" + struct.pack("<Q", 0) + bytes(56)
    raw = struct.pack("<HQ", 1023, 1) + nothing + b"\0"
    message = our_reading(raw)
    assert message.bits[0].data.data.size == 0
    assert message.bits[0].data.headers.size == 0
    assert our_bytes(message) == raw


def test_image_arrays_have_the_bytes_of_the_gadgetron_package():
    message = image_array(acquisitions=acquisition_headers(5, 2, 2, 1, 3))
    theirs = TheirImageArray(
        message.data,
        objects(message.headers, read_image_header),
        list(message.attributes),
        None,
        objects(message.acquisition_headers, read_acquisition_header),
    )
    assert our_bytes(message) == their_bytes(theirs)
    again = our_reading(their_bytes(theirs))
    np.testing.assert_array_equal(again.data, message.data)
    np.testing.assert_array_equal(again.headers, message.headers)
    assert again.attributes == message.attributes
    assert again.waveforms is None
    np.testing.assert_array_equal(again.acquisition_headers, message.acquisition_headers)


def test_the_gadgetron_package_reads_our_image_arrays_with_their_waveforms():
    # Its reader, unlike its writer, expects no message id before a waveform.
    message = image_array(waveforms=(waveform(), waveform(1, 3, 4)))
    theirs = their_reading(our_bytes(message))
    np.testing.assert_array_equal(theirs.data, message.data)
    np.testing.assert_array_equal(raw_headers(theirs.headers, IMAGE_HEADER), message.headers)
    assert theirs.meta == list(message.attributes)
    assert [w.waveform_id for w in theirs.waveform] == [1, 4]
    for mine, other in zip(message.waveforms, theirs.waveform, strict=True):
        np.testing.assert_array_equal(mine.data, other.data)
    assert theirs.acq_headers is None


def test_waveforms_of_an_image_array_carry_no_message_id_as_the_server_has_them():
    message = image_array(waveforms=(waveform(),))
    header = bytes(ismrmrd.Waveform.from_array(waveform().data, waveform_id=1, version=0).getHead())
    tail = b"\x01" + struct.pack("<Q", 1) + header + waveform().data.tobytes() + b"\x00"
    assert our_bytes(message).endswith(tail)
    theirs = TheirImageArray(
        message.data,
        objects(message.headers, read_image_header),
        list(message.attributes),
        [ismrmrd.Waveform(header, waveform().data)],
        None,
    )
    stray = struct.pack("<H", 1026)
    assert their_bytes(theirs) == our_bytes(message)[: -len(tail) + 9] + stray + tail[9:]


def test_buckets_have_the_bytes_of_the_server_and_are_read_by_the_package():
    message = bucket()
    assert our_bytes(message) == bucket_by_hand(message)
    source = Bytes(our_bytes(message)[2:])
    theirs = read_acquisition_bucket(source)
    assert source.read(1) == b""
    for mine, other in ((message.data, theirs.data), (message.reference, theirs.ref)):
        assert len(mine) == len(other)
        for ours, acquisition in zip(mine, other, strict=True):
            assert bytes(acquisition.getHead()) == ours.header.tobytes()
            np.testing.assert_array_equal(acquisition.data, ours.samples)
            if ours.trajectory is not None:
                np.testing.assert_array_equal(acquisition.traj, ours.trajectory)
    assert theirs.datastats[1].slice == set(message.statistics[1]["slice"])
    for name in STATISTICS:
        assert getattr(theirs.refstats[0], name) == set(message.reference_statistics[0][name])


def test_buckets_with_waveforms_are_read_and_written():
    message = bucket((waveform(), waveform(1, 3, 4)))
    raw = bucket_by_hand(message)
    assert our_bytes(message) == raw
    read = our_reading(raw)
    assert [len(r.samples) for r in read.data] == [2, 2, 3]
    np.testing.assert_array_equal(read.data[1].trajectory, message.data[1].trajectory)
    np.testing.assert_array_equal(read.reference[1].samples, message.reference[1].samples)
    assert read.statistics == message.statistics
    assert read.reference_statistics == message.reference_statistics
    for mine, sent in zip(read.waveforms, message.waveforms, strict=True):
        assert mine.header == sent.header
        np.testing.assert_array_equal(mine.data, sent.data)
