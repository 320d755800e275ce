"""Control messages for scanners without ZeroMQ: within the MRD stream, as text or image attribute.

The agent's question goes back with the images, the scanner's answer comes as a text before the next
readouts. The JSON is the same as over ZeroMQ (`protocols.control`).
"""

from collections.abc import Mapping
from typing import Any

from protocols.control import ControlError, ControlMessage, decode, encode
from protocols.mrd_types import Text

TEXT_PREFIX = "boreside-control "
"""Begins an MRD text that carries a message."""

META_KEY = "BoresideControl"
"""Image attribute that carries a message."""


def to_text(message: ControlMessage) -> Text:
    """Return a message as MRD text (message 5), for scanners without ZeroMQ.

    Raises
    ------
    ControlError
        As of `encode`.
    """
    return Text(TEXT_PREFIX + encode(message).decode())


def from_text(text: Text) -> ControlMessage | None:
    """Return the message which an MRD text carries, or None where it is an ordinary text.

    Raises
    ------
    ControlError
        As of `decode`.
    """
    if not text.text.startswith(TEXT_PREFIX):
        return None
    return decode(text.text.removeprefix(TEXT_PREFIX).encode())


def to_meta(message: ControlMessage) -> dict[str, str]:
    """Return a message as an image attribute, for `protocols.meta.meta_text`.

    Raises
    ------
    ControlError
        As of `encode`.
    """
    return {META_KEY: encode(message).decode()}


def from_meta(attributes: Mapping[str, Any]) -> ControlMessage | None:
    """Return the message which image attributes (`protocols.meta.parse_meta`) carry, or None.

    Raises
    ------
    ControlError
        As of `decode`.
    """
    if META_KEY not in attributes:
        return None
    value = attributes[META_KEY]
    if not isinstance(value, str):
        raise ControlError(f"expected one value of {META_KEY}, got {type(value).__name__}")
    return decode(value.encode())
