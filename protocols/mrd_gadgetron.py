"""Gadgetron's compound messages: RECONDATA (1023), IMAGE_ARRAY (1024) and BUCKET (1050).

Decoders take a reader (``take``, ``integer``, ``text``, ``check``: see `protocols.mrd.Reader`),
positioned after the message id; encoders return the buffers that follow it. Layouts as in
Gadgetron's ``core/io/primitives`` and ``toolboxes/mri_core``: arrays are a uint64 number of
dimensions, uint64 dimensions, then the elements in Fortran order. An array without dimensions has
no elements in Gadgetron (an encoding space that got no data, for one): it is shape (0,) here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.errors import LimitExceeded
from protocols.mrd_types import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER, Waveform

MAX_DIMENSIONS = 16
MAX_COUNT = 1 << 24
T = TypeVar("T")

SAMPLING_DESCRIPTION = np.dtype(
    {
        "names": ["encoded_fov", "recon_fov", "encoded_matrix", "recon_matrix", "limits"],
        "formats": [("<f4", 3), ("<f4", 3), ("<u2", 3), ("<u2", 3), ("<u2", (3, 3))],
        "itemsize": 56,
    }
)
"""``limits`` holds (min, center, max) for each of the three axes; two bytes of padding follow."""

_BUNDLE_COUNTS = [("count", "<u8"), ("header", "<u8"), ("data", "<u8"), ("trajectory", "<u8")]
_BUCKET_META = np.dtype(
    [
        ("data", _BUNDLE_COUNTS),
        ("reference", _BUNDLE_COUNTS),
        ("data_stats", "<u8"),
        ("reference_stats", "<u8"),
        ("waveforms", [("count", "<u8"), ("header", "<u8"), ("data", "<u8")]),
    ]
)
STATISTICS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "slice",
    "phase",
    "contrast",
    "repetition",
    "set",
    "segment",
    "average",
)
"""The counters of a bucket's statistics, in their order on the wire."""


class Fields(Protocol):
    """What the decoders need of a reader."""

    offset: int

    def take(self, count: int, what: str) -> bytearray: ...
    def check(self, count: int, what: str) -> None: ...
    def integer(self, size: int, what: str) -> int: ...
    def text(self, length_bytes: int, what: str) -> str: ...


@dataclass(frozen=True)
class ReconBuffer:
    """K-space of one encoding, sorted.

    Attributes
    ----------
    data : complex64 (E0, E1, E2, CHA, N, S, LOC)
    headers : ACQUISITION_HEADER (E1, E2, N, S, LOC)
    sampling : SAMPLING_DESCRIPTION (scalar)
    trajectory, density : float32 arrays or None
    """

    data: NDArray[np.complex64]
    headers: NDArray[Any]
    sampling: np.void
    trajectory: NDArray[np.float32] | None = None
    density: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ReconBit:
    """One encoding space: its imaging data and, where there are any, its calibration lines."""

    data: ReconBuffer
    reference: ReconBuffer | None = None


@dataclass(frozen=True)
class ReconData:
    """Message 1023: sorted k-space, one bit per encoding space."""

    bits: tuple[ReconBit, ...]


@dataclass(frozen=True)
class ImageArray:
    """Message 1024: images.

    Attributes
    ----------
    data : complex64 (X, Y, Z, CHA, N, S, LOC)
    headers : IMAGE_HEADER (N, S, LOC)
    attributes : tuple of str
        ISMRMRD meta XML of each image.
    waveforms : tuple of Waveform or None
    acquisition_headers : ACQUISITION_HEADER array or None
    """

    data: NDArray[np.complex64]
    headers: NDArray[Any]
    attributes: tuple[str, ...] = ()
    waveforms: tuple[Waveform, ...] | None = None
    acquisition_headers: NDArray[Any] | None = None


@dataclass(frozen=True)
class Readout:
    """One readout of a bucket, whose readouts may differ in shape.

    Attributes
    ----------
    header : ACQUISITION_HEADER (scalar)
    samples : complex64 (coil, readout)
    trajectory : float32 (readout, dim) or None
    """

    header: np.void
    samples: NDArray[np.complex64]
    trajectory: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Bucket:
    """Message 1050: readouts that belong together, and the set of counters seen in them.

    ``statistics`` and ``reference_statistics`` hold one mapping per encoding space, from each of
    `STATISTICS` to the sorted values seen.
    """

    data: tuple[Readout, ...]
    reference: tuple[Readout, ...] = ()
    statistics: tuple[dict[str, tuple[int, ...]], ...] = ()
    reference_statistics: tuple[dict[str, tuple[int, ...]], ...] = ()
    waveforms: tuple[Waveform, ...] = ()


def _count(fields: Fields, what: str) -> int:
    at = fields.offset
    count = fields.integer(8, f"number of {what}")
    if count > MAX_COUNT:
        raise LimitExceeded(f"at most {MAX_COUNT} {what}", str(count), at)
    return count


def _read_array(fields: Fields, dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    at = fields.offset
    ndim = fields.integer(8, f"number of dimensions of {what}")
    if ndim > MAX_DIMENSIONS:
        raise LimitExceeded(f"at most {MAX_DIMENSIONS} dimensions of {what}", str(ndim), at)
    shape = [int(n) for n in np.frombuffer(fields.take(8 * ndim, f"dimensions of {what}"), "<u8")]
    shape = shape or [0]
    # Numpy multiplies the other dimensions even where one is zero: they are bounded as well.
    fields.check(math.prod(max(n, 1) for n in shape) * dtype.itemsize, what)
    raw = fields.take(math.prod(shape) * dtype.itemsize, what)
    return np.frombuffer(raw, dtype).reshape(shape, order="F")


def _read_optional(fields: Fields, read: Callable[[Fields], T], what: str) -> T | None:
    return read(fields) if fields.integer(1, f"presence of {what}") else None


def _struct(fields: Fields, dtype: np.dtype[Any], what: str) -> np.void:
    return np.frombuffer(fields.take(dtype.itemsize, what), dtype)[0]  # type: ignore[no-any-return]


def _read_recon_buffer(fields: Fields) -> ReconBuffer:
    floats = np.dtype("<f4")
    data = _read_array(fields, np.dtype("<c8"), "recon data")
    trajectory = _read_optional(
        fields, lambda f: _read_array(f, floats, "trajectory"), "trajectory"
    )
    density = _read_optional(fields, lambda f: _read_array(f, floats, "density"), "density")
    headers = _read_array(fields, ACQUISITION_HEADER, "acquisition headers")
    sampling = _struct(fields, SAMPLING_DESCRIPTION, "sampling description")
    return ReconBuffer(data, headers, sampling, trajectory, density)


def read_recon_data(fields: Fields) -> ReconData:
    """Decode RECONDATA (1023)."""
    return ReconData(
        tuple(
            ReconBit(
                _read_recon_buffer(fields),
                _read_optional(fields, _read_recon_buffer, "reference data"),
            )
            for _ in range(_count(fields, "recon bits"))
        )
    )


def read_waveform(fields: Fields) -> Waveform:
    """Decode a WAVEFORM (1026), or one of an image array, where it comes without its id."""
    header = _struct(fields, WAVEFORM_HEADER, "waveform header")
    return Waveform(header, _waveform_samples(fields, header))


def _waveform_samples(fields: Fields, header: np.void) -> NDArray[np.uint32]:
    shape = int(header["channels"]), int(header["number_of_samples"])
    raw = fields.take(shape[0] * shape[1] * 4, "waveform samples")
    return np.frombuffer(raw, "<u4").reshape(shape)


def read_image_array(fields: Fields) -> ImageArray:
    """Decode IMAGE_ARRAY (1024)."""
    return ImageArray(
        data=_read_array(fields, np.dtype("<c8"), "image array"),
        headers=_read_array(fields, IMAGE_HEADER, "image headers"),
        attributes=tuple(
            fields.text(8, "image attributes")
            for _ in range(_count(fields, "image attribute strings"))
        ),
        waveforms=_read_optional(
            fields,
            lambda f: tuple(read_waveform(f) for _ in range(_count(f, "waveforms"))),
            "waveforms",
        ),
        acquisition_headers=_read_optional(
            fields,
            lambda f: _read_array(f, ACQUISITION_HEADER, "acquisition headers"),
            "acquisition headers",
        ),
    )


def _read_readouts(fields: Fields, count: int) -> tuple[Readout, ...]:
    raw = fields.take(count * ACQUISITION_HEADER.itemsize, "bucket headers")
    headers = np.frombuffer(raw, ACQUISITION_HEADER)
    names = ("active_channels", "number_of_samples", "trajectory_dimensions")
    shapes = [tuple(int(h[name]) for name in names) for h in headers]
    trajectories = [
        np.frombuffer(fields.take(n * d * 4, "bucket trajectory"), "<f4").reshape(n, d)
        if d
        else None
        for _, n, d in shapes
    ]
    samples = [
        np.frombuffer(fields.take(c * n * 8, "bucket samples"), "<c8").reshape(c, n)
        for c, n, _ in shapes
    ]
    return tuple(Readout(h, s, t) for h, s, t in zip(headers, samples, trajectories, strict=True))


def _read_statistics(fields: Fields) -> tuple[dict[str, tuple[int, ...]], ...]:
    def values() -> tuple[int, ...]:
        raw = fields.take(2 * _count(fields, "counter values"), "counter values")
        return tuple(int(v) for v in np.frombuffer(raw, "<u2"))

    return tuple(
        {name: values() for name in STATISTICS} for _ in range(_count(fields, "encoding spaces"))
    )


def read_bucket(fields: Fields) -> Bucket:
    """Decode BUCKET (1050)."""
    meta = _struct(fields, _BUCKET_META, "bucket sizes")
    counts = [int(meta[name]["count"]) for name in ("data", "reference", "waveforms")]
    sizes = (ACQUISITION_HEADER.itemsize, ACQUISITION_HEADER.itemsize, WAVEFORM_HEADER.itemsize)
    fields.check(sum(c * s for c, s in zip(counts, sizes, strict=True)), "bucket")
    data = _read_readouts(fields, counts[0])
    statistics = _read_statistics(fields)
    reference = _read_readouts(fields, counts[1])
    reference_statistics = _read_statistics(fields)
    raw = fields.take(counts[2] * WAVEFORM_HEADER.itemsize, "bucket waveform headers")
    waveforms = tuple(
        Waveform(header, _waveform_samples(fields, header))
        for header in np.frombuffer(raw, WAVEFORM_HEADER)
    )
    return Bucket(data, reference, statistics, reference_statistics, waveforms)


def _u64(*values: int) -> bytes:
    return np.array(values, "<u8").tobytes()


def _array(array: NDArray[Any], dtype: Any) -> list[bytes]:
    array = np.atleast_1d(np.asarray(array, dtype))
    shape = () if array.shape == (0,) else array.shape
    return [_u64(len(shape), *shape), array.tobytes(order="F")]


def _optional(value: T | None, encode: Callable[[T], list[bytes]]) -> list[bytes]:
    return [b"\x00"] if value is None else [b"\x01", *encode(value)]


def _zero_padded(struct: np.void, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Copy a struct field by field: numpy leaves old memory in its padding, not for the wire."""
    copy = np.zeros((), dtype)
    for name in dtype.names or ():
        copy[name] = struct[name]
    return copy


def _recon_buffer(buffer: ReconBuffer) -> list[bytes]:
    return [
        *_array(buffer.data, "<c8"),
        *_optional(buffer.trajectory, lambda a: _array(a, "<f4")),
        *_optional(buffer.density, lambda a: _array(a, "<f4")),
        *_array(buffer.headers, ACQUISITION_HEADER),
        _zero_padded(buffer.sampling, SAMPLING_DESCRIPTION).tobytes(),
    ]


def encode_recon_data(message: ReconData) -> list[bytes]:
    """Encode RECONDATA (1023), without its id."""
    buffers = [_u64(len(message.bits))]
    for bit in message.bits:
        buffers += _recon_buffer(bit.data) + _optional(bit.reference, _recon_buffer)
    return buffers


def encode_waveform(waveform: Waveform) -> list[bytes]:
    """Encode a WAVEFORM (1026), without its id."""
    header = _zero_padded(waveform.header, WAVEFORM_HEADER)
    header["channels"], header["number_of_samples"] = waveform.data.shape
    return [header.tobytes(), np.asarray(waveform.data, "<u4").tobytes()]


def encode_image_array(message: ImageArray) -> list[bytes]:
    """Encode IMAGE_ARRAY (1024), without its id."""
    buffers = [*_array(message.data, "<c8"), *_array(message.headers, IMAGE_HEADER)]
    buffers.append(_u64(len(message.attributes)))
    for text in message.attributes:
        raw = text.encode()
        buffers += [_u64(len(raw)), raw]
    buffers += _optional(
        message.waveforms,
        lambda waveforms: [
            _u64(len(waveforms)),
            *(part for waveform in waveforms for part in encode_waveform(waveform)),
        ],
    )
    return buffers + _optional(message.acquisition_headers, lambda a: _array(a, ACQUISITION_HEADER))


def _readout_header(readout: Readout) -> NDArray[Any]:
    header = np.array(readout.header, ACQUISITION_HEADER)
    header["active_channels"], header["number_of_samples"] = readout.samples.shape
    path = readout.trajectory
    header["trajectory_dimensions"] = 0 if path is None else path.shape[1]
    return header


def _readouts(readouts: Sequence[Readout]) -> tuple[tuple[int, ...], list[bytes]]:
    headers = [_readout_header(r).tobytes() for r in readouts]
    trajectories = [
        np.asarray(r.trajectory, "<f4").tobytes() for r in readouts if r.trajectory is not None
    ]
    samples = [np.asarray(r.samples, "<c8").tobytes() for r in readouts]
    sizes = tuple(sum(map(len, part)) for part in (headers, samples, trajectories))
    return (len(readouts), *sizes), [*headers, *trajectories, *samples]


def _statistics(statistics: Sequence[dict[str, tuple[int, ...]]]) -> bytes:
    raw = _u64(len(statistics))
    for space in statistics:
        for name in STATISTICS:
            values = space.get(name, ())
            raw += _u64(len(values)) + np.array(values, "<u2").tobytes()
    return raw


def encode_bucket(message: Bucket) -> list[bytes]:
    """Encode BUCKET (1050), without its id."""
    data_sizes, data = _readouts(message.data)
    reference_sizes, reference = _readouts(message.reference)
    statistics = _statistics(message.statistics)
    reference_statistics = _statistics(message.reference_statistics)
    waveforms = [encode_waveform(w) for w in message.waveforms]
    heads = [w[0] for w in waveforms]
    bodies = [w[1] for w in waveforms]
    sizes = _u64(
        *data_sizes,
        *reference_sizes,
        len(statistics),
        len(reference_statistics),
        len(waveforms),
        sum(map(len, heads)),
        sum(map(len, bodies)),
    )
    return [sizes, *data, statistics, *reference, reference_statistics, *heads, *bodies]
