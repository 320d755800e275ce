"""Writers for every message that `protocols.mrd.Reader` takes.

Texts towards a peer end with a NUL that their length counts, as Siemens FIRE sends them; image
attributes carry none, as ismrmrd-python writes them. Readers of both kinds accept both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from protocols import mrd_gadgetron as gadgetron
from protocols.errors import MalformedMessage
from protocols.mrd import CONFIG_FILE_BYTES, Message, Sink
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

SMALL_BYTES = 64 << 10
_IMAGE_CODES = {dtype: code for code, dtype in IMAGE_DTYPES.items()}


def _text(length_bytes: int, text: str, end: bytes = b"\x00") -> list[bytes]:
    raw = text.encode() + end
    return [len(raw).to_bytes(length_bytes, "little"), raw]


def _config_file(message: ConfigFile) -> list[bytes]:
    raw = message.name.encode()
    if len(raw) >= CONFIG_FILE_BYTES:
        raise MalformedMessage(
            f"a configuration name below {CONFIG_FILE_BYTES} bytes", f"{len(raw)} bytes", 0
        )
    return [raw.ljust(CONFIG_FILE_BYTES, b"\x00")]


def _query(message: Query) -> list[bytes]:
    return [bytes(8), message.correlation_id.to_bytes(8, "little"), *_text(8, message.text, b"")]


def _response(message: Response) -> list[bytes]:
    return [message.correlation_id.to_bytes(8, "little"), *_text(8, message.text, b"")]


def _image(message: ImageMessage) -> list[Any]:
    data = np.asarray(message.data)
    if data.ndim != 4 or data.dtype.newbyteorder("<") not in _IMAGE_CODES:
        raise MalformedMessage(
            "image data (channel, z, y, x) of an MRD type", f"{data.dtype} {data.shape}", 0
        )
    attributes = message.attributes.encode()
    header = np.array(message.header, IMAGE_HEADER)
    header["channels"] = data.shape[0]
    header["matrix_size"] = data.shape[:0:-1]
    header["data_type"] = _IMAGE_CODES[data.dtype.newbyteorder("<")]
    header["attribute_string_len"] = len(attributes)
    pixels = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    return [
        header.tobytes(),
        len(attributes).to_bytes(8, "little"),
        attributes,
        pixels.reshape(-1).view(np.uint8).data,
    ]


def encode_block(block: ReadoutBlock) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bytes of a block's readouts, ids included: uint8 (N, bytes per readout).

    Sizes and channel counts in the headers are set from the samples.
    """
    count, coils, samples = block.samples.shape
    dims = 0 if block.trajectory is None else block.trajectory.shape[2]
    headers = np.array(block.headers, ACQUISITION_HEADER).reshape(count)
    headers["number_of_samples"] = samples
    headers["active_channels"] = coils
    headers["trajectory_dimensions"] = dims
    prefix = 2 + ACQUISITION_HEADER.itemsize
    start = prefix + samples * dims * 4
    rows = np.empty((count, start + coils * samples * 8), np.uint8)
    rows[:, :2] = np.frombuffer(int(MessageId.ACQUISITION).to_bytes(2, "little"), np.uint8)
    rows[:, 2:prefix] = headers.view(np.uint8).reshape(count, -1)
    if block.trajectory is not None:
        trajectory = np.ascontiguousarray(block.trajectory, "<f4")
        rows[:, prefix:start] = trajectory.view(np.uint8).reshape(count, -1)
    data = np.ascontiguousarray(block.samples, "<c8")
    rows[:, start:] = data.reshape(count, -1).view(np.uint8)
    return rows


_ENCODERS: dict[type, tuple[MessageId, Callable[[Any], list[Any]]]] = {
    ConfigFile: (MessageId.CONFIG_FILE, _config_file),
    ConfigText: (MessageId.CONFIG_TEXT, lambda m: _text(4, m.text)),
    HeaderText: (MessageId.HEADER, lambda m: _text(4, m.xml)),
    Close: (MessageId.CLOSE, lambda m: []),
    Text: (MessageId.TEXT, lambda m: _text(4, m.text)),
    Query: (MessageId.QUERY, _query),
    Response: (MessageId.RESPONSE, _response),
    ErrorText: (MessageId.ERROR, lambda m: _text(8, m.text, b"")),
    ImageMessage: (MessageId.IMAGE, _image),
    Waveform: (MessageId.WAVEFORM, gadgetron.encode_waveform),
    ReconData: (MessageId.RECON_DATA, gadgetron.encode_recon_data),
    ImageArray: (MessageId.IMAGE_ARRAY, gadgetron.encode_image_array),
    Bucket: (MessageId.BUCKET, gadgetron.encode_bucket),
}


def encode(message: Message) -> list[Any]:
    """Return the bytes of a message, id included, as a list of buffers.

    Raises
    ------
    MalformedMessage
        Where MRD has no form for the message: a name too long, an array of another type.
    """
    if isinstance(message, ReadoutBlock):
        return [encode_block(message).reshape(-1).data]
    identifier, body = _ENCODERS[type(message)]
    return [int(identifier).to_bytes(2, "little"), *body(message)]


def write(sink: Sink, *messages: Message) -> None:
    """Send messages, whole and in order."""
    for message in messages:
        buffers = encode(message)
        if sum(map(len, buffers)) <= SMALL_BYTES:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                view = view[sink.write(view) or 0 :]
