"""Mutated MRD streams for `bench.fuzz`: into the reader alone, and through whole measurements."""

import random
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from agent.measurement import Measurement
from bench.data import header, measurement
from bench.fuzz_mutate import damage, reorder
from protocols.errors import WireError
from protocols.meta import meta_text
from protocols.mrd import Limits, Message, Reader
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
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    ImageMessage,
    Query,
    ReadoutBlock,
    Response,
    Text,
    Waveform,
)
from protocols.mrd_write import encode

if TYPE_CHECKING:
    from bench.fuzz import Case

MESSAGES = 48
"""Of one stream, at most; a run of readouts of one shape counts as one here."""
SHAPES = (60, 1, 8, 0), (24, 2, 16, 0), (9, 2, 4, 2), (1, 0, 0, 0)
"""Of runs of readouts: how many, coils, samples, dimensions of the trajectory."""
CONFIGS = ("simplefft", "conventional", "conventional-maps", "grappa", "invertcontrast", "dixon")


def _readouts(count: int, coils: int, samples: int, dims: int) -> ReadoutBlock:
    values = np.random.default_rng(count).standard_normal((count, coils, samples, 2), np.float32)
    return ReadoutBlock(
        np.zeros(count, ACQUISITION_HEADER),
        values.view(np.complex64)[..., 0],
        np.zeros((count, samples, dims), np.float32) if dims else None,
    )


def _image(dtype: Any, shape: tuple[int, ...]) -> ImageMessage:
    attributes = meta_text({"DataRole": "Image", "ImageComments": ["one", "two"]})
    return ImageMessage(np.zeros(1, IMAGE_HEADER)[0], np.ones(shape, dtype), attributes)


def _compounds() -> list[Message]:
    """Gadgetron's messages, small."""
    waveform = Waveform(np.zeros(1, WAVEFORM_HEADER)[0], np.ones((1, 6), np.uint32))
    data = np.zeros((4, 3, 1, 2, 1, 1, 1), np.complex64)
    buffer = ReconBuffer(
        data,
        np.zeros((3, 1, 1, 1, 1), ACQUISITION_HEADER),
        np.zeros(1, SAMPLING_DESCRIPTION)[0],
        np.zeros((2, 4, 3), np.float32),
    )
    one = _readouts(1, 2, 4, 2)
    readout = Readout(one.headers[0], one.samples[0], one.trajectory[0])  # type: ignore[index]
    images = np.zeros((4, 3, 1, 1, 1, 1, 1), np.complex64)
    heads = np.zeros((1, 1, 1), IMAGE_HEADER)
    return [
        waveform,
        ReconData((ReconBit(buffer, buffer), ReconBit(buffer))),
        ImageArray(images, heads, ("<ismrmrdMeta/>",), (waveform,)),
        Bucket((readout, readout), (readout,), ({"slice": (0, 1)},), (), (waveform,)),
    ]


def _raw(message: Message) -> bytes:
    return b"".join(bytes(buffer) for buffer in encode(message))


def messages() -> list[bytes]:
    """Return valid messages of every kind; runs of readouts stand for many messages."""
    return [
        _raw(message)
        for message in (
            ConfigFile("conventional"),
            ConfigText("<configuration/>"),
            header((16, 16, 1)),
            Text('{"parameters": {"config": "simplefft"}}'),
            Query(1, "boreside::spooled"),
            Response(1, "alive"),
            ErrorText("failed"),
            *(_readouts(*shape) for shape in SHAPES),
            *(_readouts(40, 1, 8, 0) for _ in range(3)),
            *(_image(dtype, (1, 1, 3, 4)) for dtype in (np.uint16, np.float32, np.complex64)),
            *_compounds(),
        )
    ]  # fmt: skip


class Pieces:
    """A source that gives its bytes in pieces of at most ``most``."""

    def __init__(self, raw: bytes | bytearray, most: int = 1 << 30) -> None:
        self._raw, self._at, self._most = memoryview(raw), 0, most

    def readinto(self, buffer: memoryview) -> int:
        """As `protocols.mrd.Source` has it."""
        size = min(len(buffer), self._most, len(self._raw) - self._at)
        buffer[:size] = self._raw[self._at : self._at + size]
        self._at += size
        return size


def read(raw: bytes | bytearray, most: int = 1 << 30) -> tuple[int, bool]:
    """Read a stream to its end: how many messages it was, and whether one was refused."""
    found = 0
    try:
        for message in Reader(Pieces(raw, most)):
            found += len(message) if isinstance(message, ReadoutBlock) else 1
    except WireError:
        return found + 1, True
    return found, False


def streams(draw: random.Random) -> "Iterator[Case]":
    """Yield mutated streams for the reader."""
    pool, close = messages(), _raw(Close())
    for number in count():
        chosen = [draw.choice(pool) for _ in range(draw.randrange(1, MESSAGES))]
        if number % 4 == 0:
            reorder(draw, chosen)
        raw = bytearray(b"".join([*chosen, close]))
        damage(draw, raw, draw.choice((0, 1, 1, 2, 4)))
        if number % 16 == 0:
            del raw[draw.randrange(len(raw) + 1) :]
        most = draw.choice((1, 7, 400)) if number % 64 == 0 else 1 << 30
        yield lambda raw=raw, most=most: read(raw, most)  # type: ignore[misc]


def measurements(draw: random.Random) -> "Iterator[Case]":
    """Yield mutated scans for whole measurements: header, noise and readouts of a small matrix."""
    logger = structlog.get_logger()
    scan = measurement((16, 16, 1), coils=2)
    pool = messages()
    lines = [_raw(scan.readouts[k : k + 1]) for k in range(len(scan.readouts))]
    for _ in count():
        config = draw.choice(CONFIGS)
        raws = [_raw(ConfigFile(config)), _raw(scan.header), _raw(scan.noise[:4]), *lines]
        for _ in range(draw.randrange(3)):
            reorder(draw, raws)
        for _ in range(draw.randrange(3)):
            raws.insert(draw.randrange(len(raws)), draw.choice(pool))
        damaged = draw.randrange(len(raws))
        piece = bytearray(raws[damaged])
        damage(draw, piece, draw.randrange(4))
        raws[damaged] = bytes(piece)
        raw = b"".join([*raws, _raw(Close())])
        yield lambda raw=raw: _measure(raw, logger)  # type: ignore[misc]


def _measure(raw: bytes, logger: Any) -> tuple[int, bool]:
    sent: list[Message] = []
    limits = Limits(1 << 20, 1 << 26)
    report = Measurement(
        lambda: Reader(Pieces(raw), limits), sent.append, "conventional", "uint16", logger
    ).run()
    return report.readouts + report.images_in + 3, bool(report.errors)
