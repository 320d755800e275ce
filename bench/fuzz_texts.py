"""Mutated texts for `bench.fuzz`: MRD headers and image attributes, control messages, exam YAML."""

import random
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from bench.data import header
from bench.fuzz_mutate import damage, spoil
from protocols.control import (
    Acknowledged,
    ControlError,
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    ExamUpdate,
    Heartbeat,
    Hello,
    Outcome,
    ReplyReason,
    Telemetry,
    Withdraw,
    WithdrawReason,
    decode,
    encode,
)
from protocols.control_inband import TEXT_PREFIX, from_meta, from_text
from protocols.errors import HeaderError
from protocols.exam_file import ProtocolError, parse
from protocols.exam_library import SHIPPED
from protocols.geometry import Slab
from protocols.header import encodings, parse_header
from protocols.meta import meta_text, parse_meta
from protocols.mrd_types import Text

if TYPE_CHECKING:
    from bench.fuzz import Case

BOMBS = (
    "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n",
    "a: " + "[" * 5000,
    "a: " + "{b: " * 5000,
    "name: !!python/object/apply:os.system ['false']\n",
    "name: !!python/object/new:object\n",
    "? " * 3000,
    "- " * 5000,
    "a: " + "9" * 100_000,
    "a: 0x" + "f" * 100_000,
    "a: " + "1:" * 20_000 + "1",
    "a: 2026-99-99\n",
    "a: !!binary " + "=" * 50,
    "a: !!timestamp x\n",
    "<<: *x\n",
    "a: &a\n  <<: *a\n",
    "%YAML 9.9\n---\na: b\n",
    "--- a\n--- b\n",
    "\ufeffname: x\n",
    "name: \x00\n",
    "[1]: 2\n? {a: b}\n: c\n",
    "a: .inf\nb: -.inf\nc: .nan\n",
    "a" * 200_000,
    "k: v\n" * 100_000,
    "\n".join(f"k{n}: v" for n in range(60_000)),
)
"""Texts that have brought down readers of YAML."""


def headers(draw: random.Random) -> "Iterator[Case]":
    """Yield mutated MRD headers and image attributes."""
    seeds = [
        header((64, 48, 2), acceleration=2).xml,
        meta_text({"DataRole": "Image", "WindowCenter": 100, "ImageComments": ["a", "b"]}),
    ]
    for _ in count():
        text = spoil(draw, draw.choice(seeds), seeds, draw.randrange(1, 5))
        yield lambda text=text: _header(text)  # type: ignore[misc]


def _header(text: str) -> tuple[int, bool]:
    parse_meta(text)
    try:
        encodings(parse_header(text))
    except HeaderError:
        return 1, True
    return 1, False


def controls(draw: random.Random) -> "Iterator[Case]":
    """Yield mutated control messages, as ZeroMQ frames, MRD texts and image attributes."""
    slab = Slab((0, 0, 0), (1, 0, 0), (0, 0, -1), (240, 240), (256, 205), 24, 3.0)
    step = CoverageStep(step="si_stir_cor", slab=slab, minutes=2)
    said = (
        Hello(role="console", name="scanner", software="1"),
        Heartbeat(),
        CoverageRequest(
            id="e/t/1", exam="e", protocol="lumbar", revision=1, trigger="t", text="Scan?",
            steps=(step,), extra_minutes=2, countdown_s=60,
        ),
        CoverageReply(id="r1", request="e/t/1", outcome=Outcome.DECLINED, reason=ReplyReason.TIME),
        CoverageReply(id="r2", request="e/t/1", outcome=Outcome.MODIFIED, steps=(step,)),
        Withdraw(id="w", request="e/t/1", reason=WithdrawReason.EXAM_ENDED),
        ExamUpdate(id="u", exam="e", slot_minutes=20, planned=("t1", "t2")),
        Acknowledged(of="e/t/1"),
        Telemetry(topic="series", at_s=1.0, values={"a": 1, "b": "c"}),
    )  # fmt: skip
    seeds = [encode(message).decode() for message in said]
    for _ in count():
        text = spoil(draw, draw.choice(seeds), seeds, draw.randrange(1, 4))
        raw = bytearray(text.encode("utf-8", "surrogatepass"))
        damage(draw, raw, draw.choice((0, 0, 1)))
        yield lambda raw=bytes(raw): _control(raw)  # type: ignore[misc]


def _control(raw: bytes) -> tuple[int, bool]:
    text = raw.decode("utf-8", "replace")
    refused = False
    for read in (
        lambda: decode(raw),
        lambda: from_text(Text(TEXT_PREFIX + text)),
        lambda: from_meta({"BoresideControl": text}),
    ):
        try:
            read()
        except ControlError:
            refused = True
    return 3, refused


def protocols(draw: random.Random) -> "Iterator[Case]":
    """Yield mutated exam protocols, and texts that have brought down other readers of YAML."""
    seeds = [path.read_text() for path in sorted(SHIPPED.glob("*.yaml"))]
    for number in count():
        if number < len(BOMBS):
            text = BOMBS[number]
        else:
            text = spoil(draw, draw.choice(seeds), [*seeds, *BOMBS], draw.randrange(1, 5))
        yield lambda text=text: _protocol(text)  # type: ignore[misc]


def _protocol(text: str) -> tuple[int, bool]:
    try:
        parse(text)
    except ProtocolError:
        return 1, True
    return 1, False
