"""Mutations of bytes and of texts, drawn from a seed: as mistakes and attacks would make them."""

import random
from collections.abc import Sequence

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
            1 << 24, (1 << 24) + 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
_FLOATS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00")
WORDS = ("", "\x00", "null", "true", "-1", "0", "1e999", "NaN", "9" * 400, "\ud7ff", "\U0001f9b4",
         "../../etc/passwd", "[" * 200, "{" * 200, "<a>" * 200, "%s%n", "'; --", "\r\n\r\n", "\\",
         "&amp;", "&x;", "<!DOCTYPE x>", "!!python/object/apply:os.system [id]", "*a",
         "&a [*a]", "65535", "4294967296", "-2147483649", "18446744073709551616", "0x10",
         "1:1", "~")  # fmt: skip
"""What texts are spoilt with."""


def damage(draw: random.Random, raw: bytearray, times: int) -> None:
    """Change bytes in place, so often; the length may change too."""
    for _ in range(times):
        size = len(raw)
        if not size:
            return
        at = draw.randrange(size)
        match draw.randrange(9):
            case 0 | 1:
                raw[at] ^= 1 << draw.randrange(8)
            case 2:
                raw[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 3 | 4:
                width = draw.choice((2, 4, 8))
                value = draw.choice(_NUMBERS) & ((1 << 8 * width) - 1)
                raw[at : at + width] = value.to_bytes(width, "little")
            case 5:
                raw[at : at + 4] = draw.choice(_FLOATS)
            case 6:
                del raw[at : at + draw.randrange(1, 40)]
            case 7:
                piece = draw.randrange(1, 40)
                raw[at:at] = raw[at : at + piece]
            case 8:
                raw[at:at] = draw.randbytes(draw.randrange(1, 12))


def reorder(draw: random.Random, messages: list[bytes]) -> None:
    """Drop, double or swap messages in place."""
    at, other = draw.randrange(len(messages)), draw.randrange(len(messages))
    match draw.randrange(3):
        case 0:
            del messages[at]
        case 1:
            messages.insert(other, messages[at])
        case 2:
            messages[at], messages[other] = messages[other], messages[at]


def spoil(draw: random.Random, text: str, seeds: Sequence[str], times: int) -> str:
    """Return a text that was changed so often: words, lines and pieces of other texts."""
    for _ in range(times):
        at = draw.randrange(len(text) + 1)
        piece = draw.randrange(1, 60)
        match draw.randrange(7):
            case 0:
                text = text[:at] + text[at + piece :]
            case 1:
                text = text[:at] + draw.choice(WORDS) + text[at:]
            case 2:
                text = text[:at] + draw.choice(WORDS) + text[at + piece :]
            case 3:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                text = text[:at] + other[start : start + piece] + text[at:]
            case 4:
                lines = text.splitlines(keepends=True) or [""]
                line = draw.randrange(len(lines))
                lines.insert(draw.randrange(len(lines) + 1), lines[line])
                text = "".join(lines)
            case 5:
                text = (
                    text[:at] + chr(draw.choice((0, 9, 10, 34, 38, 58, 60, 123, 125))) + text[at:]
                )
            case 6:
                digits = [k for k, letter in enumerate(text) if letter.isdigit()]
                if digits:
                    k = draw.choice(digits)
                    text = text[:k] + draw.choice(WORDS) + text[k + 1 :]
    return text
