"""The MRD streaming protocol: a `Reader` that hands on messages, and `write` that sends them.

Byte for byte as ISMRMRD's `mrd_streaming_protocol.md`, Siemens FIRE and Gadgetron speak it. Any raw
binary file object is a source or a sink: ``socket.makefile("rb", buffering=0)``, a Unix socket, a
pipe, or a file of the same bytes.

Acquisitions are not decoded one at a time: whatever whole readouts of one shape the source has
given are handed on as one `ReadoutBlock`, with one copy from the receive buffer to the block.

Every length is checked against `Limits` before memory is taken, and memory grows only with the
bytes that have really come. What breaks the protocol raises a `protocols.errors.WireError`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols import mrd_gadgetron as gadgetron
from protocols.errors import LimitExceeded, MalformedMessage, TruncatedStream, UnknownMessage
from protocols.mrd_gadgetron import Bucket, ImageArray, ReconData
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_DTYPES,
    IMAGE_HEADER,
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

CONFIG_FILE_BYTES = 1024
BUFFER_BYTES = 4 << 20

Message = (
    ConfigFile
    | ConfigText
    | HeaderText
    | Close
    | Text
    | Query
    | Response
    | ErrorText
    | ReadoutBlock
    | ImageMessage
    | Waveform
    | ReconData
    | ImageArray
    | Bucket
)

_PREFIXED_ACQUISITION = np.dtype([("id", "<u2"), ("head", ACQUISITION_HEADER)])


class Source(Protocol):
    """Where bytes come from: ``readinto`` blocks until some have come; 0 means the end."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Sink(Protocol):
    """Where bytes go: ``write`` returns how many it took."""

    def write(self, buffer: memoryview, /) -> int | None: ...


@dataclass(frozen=True)
class Limits:
    """What a peer may ask this side to hold.

    Attributes
    ----------
    text_bytes : int
        One configuration, header, text or image attribute string.
    message_bytes : int
        One message as a whole.
    """

    text_bytes: int = 16 << 20
    message_bytes: int = 4 << 30


def _now(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(len(offsets), time.monotonic_ns(), np.int64)


class Reader:
    """Iterate over the messages of a source, up to and including its `Close`.

    A source which ends between two messages ends the iteration without a `Close`; the caller
    decides what that means.

    Parameters
    ----------
    source : Source
    limits : Limits
    clock : callable
        Maps stream offsets, int64 (N), to the monotonic time in ns at which the byte before each
        had come. Needed only where the source is a recording; live bytes came just now.

    Raises
    ------
    WireError
        From ``read`` and from the iteration; messages before the bad one were already handed on.
    """

    def __init__(
        self,
        source: Source,
        limits: Limits = Limits(),
        clock: Callable[[NDArray[np.int64]], NDArray[np.int64]] = _now,
    ) -> None:
        self._source = source
        self._limits = limits
        self._clock = clock
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._message_start = 0
        self.offset = 0

    def __iter__(self) -> Iterator[Message]:
        while (message := self.read()) is not None:
            yield message
            if isinstance(message, Close):
                return

    def read(self) -> Message | None:
        """Return the next message, or None where the source ended between two messages."""
        self._message_start = self.offset
        if not self._fill(2):
            if self._end > self._start:
                raise TruncatedStream("a 2-byte message id", "1 byte", self.offset)
            return None
        identifier = int.from_bytes(self._view[self._start : self._start + 2], "little")
        if identifier == MessageId.ACQUISITION:
            return self._read_block()
        try:
            decode = _DECODERS[identifier]
        except KeyError:
            known = ", ".join(str(int(i)) for i in sorted([*_DECODERS, MessageId.ACQUISITION]))
            raise UnknownMessage(f"a message id of {known}", str(identifier), self.offset) from None
        self._consume(2)
        return decode(self)

    def take(self, count: int, what: str) -> bytearray:
        """Return the next ``count`` bytes of the current message (also for `mrd_gadgetron`)."""
        self.check(count, what)
        if count <= len(self._buffer):
            if not self._fill(count):
                raise TruncatedStream(
                    f"{count} bytes of {what}", f"{self._end - self._start}", self.offset
                )
            taken = bytearray(self._view[self._start : self._start + count])
            self._consume(count)
            return taken
        taken = bytearray(self._view[self._start : self._end])
        self._consume(len(taken))
        while len(taken) < count:
            if not self._fill(1):
                raise TruncatedStream(f"{count} bytes of {what}", f"{len(taken)}", self.offset)
            step = min(count - len(taken), self._end - self._start)
            taken += self._view[self._start : self._start + step]
            self._consume(step)
        return taken

    def check(self, count: int, what: str) -> None:
        """Raise `LimitExceeded` where ``count`` more bytes would make the message too long."""
        allowed = self._limits.message_bytes - (self.offset - self._message_start)
        if count > allowed:
            raise LimitExceeded(f"at most {allowed} bytes of {what}", f"{count}", self.offset)

    def integer(self, size: int, what: str) -> int:
        """Return the next unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def text(self, length_bytes: int, what: str) -> str:
        """Return a text whose length comes first, in ``length_bytes`` bytes, without its NULs."""
        at = self.offset
        length = self.integer(length_bytes, f"length of {what}")
        if length > self._limits.text_bytes:
            raise LimitExceeded(
                f"at most {self._limits.text_bytes} bytes of {what}", f"{length}", at
            )
        return _decode_text(self.take(length, what))

    def _consume(self, count: int) -> None:
        self._start += count
        self.offset += count

    def _fill(self, count: int) -> bool:
        """Read until ``count`` bytes lie in the buffer; False where the source ended before."""
        while self._end - self._start < count:
            if self._start and len(self._buffer) - self._start < max(count, len(self._buffer) // 2):
                self._buffer[: self._end - self._start] = self._view[self._start : self._end]
                self._end -= self._start
                self._start = 0
            got = self._source.readinto(self._view[self._end :])
            if not got:
                return False
            self._end += got
        return True

    def _read_block(self) -> ReadoutBlock:
        prefix = _PREFIXED_ACQUISITION.itemsize
        if not self._fill(prefix):
            raise TruncatedStream(
                f"{prefix} bytes of acquisition header", f"{self._end - self._start}", self.offset
            )
        head = np.frombuffer(self._buffer, _PREFIXED_ACQUISITION, 1, self._start)["head"][0]
        samples, coils, dims = (
            int(head[name])
            for name in ("number_of_samples", "active_channels", "trajectory_dimensions")
        )
        trajectory_bytes = samples * dims * 4
        size = prefix + trajectory_bytes + coils * samples * 8
        self.check(size, "acquisition")
        if size > len(self._buffer):
            rows = np.frombuffer(self.take(size, "acquisition"), np.uint8).reshape(1, size)
        else:
            if not self._fill(size):
                raise TruncatedStream(
                    f"{size} bytes of acquisition", f"{self._end - self._start}", self.offset
                )
            count = self._same_shape(size)
            rows = np.frombuffer(self._buffer, np.uint8, count * size, self._start)
            rows = rows.reshape(count, size)
            self._consume(count * size)
        count = len(rows)
        ends = self.offset - size * np.arange(count - 1, -1, -1, dtype=np.int64)
        return ReadoutBlock(
            headers=_columns(rows, 2, prefix, ACQUISITION_HEADER).reshape(count),
            samples=_columns(rows, prefix + trajectory_bytes, size, np.dtype("<c8")).reshape(
                count, coils, samples
            ),
            trajectory=_columns(rows, prefix, prefix + trajectory_bytes, np.dtype("<f4")).reshape(
                count, samples, dims
            )
            if dims
            else None,
            arrival_ns=self._clock(ends),
        )

    def _same_shape(self, size: int) -> int:
        """Return how many whole readouts of ``size`` bytes and of one shape lie in the buffer."""
        total = (self._end - self._start) // size
        count = look = 1
        while count < total:
            # Further ahead each time: shapes that alternate must not cost a look at the whole
            # buffer for each readout.
            look = min(8 * look, total - count)
            records: NDArray[Any] = np.ndarray(
                count + look, _PREFIXED_ACQUISITION, self._buffer, self._start, strides=(size,)
            )
            same = records["id"][count:] == MessageId.ACQUISITION
            for name in ("number_of_samples", "active_channels", "trajectory_dimensions"):
                field = records["head"][name]
                same &= field[count:] == field[0]
            if not same.all():
                return count + int(np.argmin(same))
            count += look
        return count


def _columns(rows: NDArray[np.uint8], start: int, stop: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Copy columns of a byte matrix out, as contiguous and aligned elements of ``dtype``."""
    return np.array(rows[:, start:stop]).reshape(-1).view(dtype)


def _decode_text(raw: bytearray) -> str:
    return raw.rstrip(b"\x00").decode("utf-8", "replace")


def _read_config_file(reader: Reader) -> ConfigFile:
    raw = reader.take(CONFIG_FILE_BYTES, "configuration file name")
    return ConfigFile(_decode_text(raw.split(b"\x00", 1)[0]))


def _read_query(reader: Reader) -> Query:
    reader.take(8, "query reserved field")
    return Query(reader.integer(8, "query correlation id"), reader.text(8, "query"))


def _read_image(reader: Reader) -> ImageMessage:
    at = reader.offset
    raw = reader.take(IMAGE_HEADER.itemsize, "image header")
    header = np.frombuffer(raw, IMAGE_HEADER)[0]
    code = int(header["data_type"])
    if code not in IMAGE_DTYPES:
        raise MalformedMessage(f"an image data type of {sorted(IMAGE_DTYPES)}", str(code), at)
    attributes = reader.text(8, "image attributes")
    shape = (int(header["channels"]), *(int(n) for n in header["matrix_size"][::-1]))
    dtype = IMAGE_DTYPES[code]
    pixels = reader.take(int(np.prod(shape, dtype=object)) * dtype.itemsize, "image pixels")
    return ImageMessage(header, np.frombuffer(pixels, dtype).reshape(shape), attributes)


_DECODERS: dict[int, Callable[[Reader], Message]] = {
    MessageId.CONFIG_FILE: _read_config_file,
    MessageId.CONFIG_TEXT: lambda r: ConfigText(r.text(4, "configuration")),
    MessageId.HEADER: lambda r: HeaderText(r.text(4, "MRD header")),
    MessageId.CLOSE: lambda r: Close(),
    MessageId.TEXT: lambda r: Text(r.text(4, "text")),
    MessageId.QUERY: _read_query,
    MessageId.RESPONSE: lambda r: Response(
        r.integer(8, "response correlation id"), r.text(8, "response")
    ),
    MessageId.ERROR: lambda r: ErrorText(r.text(8, "error")),
    MessageId.IMAGE: _read_image,
    MessageId.WAVEFORM: gadgetron.read_waveform,
    MessageId.RECON_DATA: gadgetron.read_recon_data,
    MessageId.IMAGE_ARRAY: gadgetron.read_image_array,
    MessageId.BUCKET: gadgetron.read_bucket,
}
