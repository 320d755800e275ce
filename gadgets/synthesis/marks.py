"""What tells a synthetic image from an acquired one, wherever it goes.

Its role, its attributes under their DICOM keywords, and the word itself in its pixels: `BurnIn`
stands after `gadgets.finish.Finish`, for a mark belongs on the pixels which leave. Where no image
can be made an `Unavailable` is raised, and says why.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from gadgets.items import Image, Role
from protocols.meta import Value, meta_text, parse_meta
from protocols.mrd_types import ImageMessage

WORD = "SYNTHETIC"
MARGIN = 2
"""Pixels around the word."""

_log = structlog.get_logger(__name__)


class Unavailable(Exception):
    """No synthetic image can be made of what was acquired: what was expected, and what there is."""


def synthetic(
    source: Image,
    data: Any,
    quantity: str,
    method: str,
    attributes: dict[str, Value] | None = None,
) -> Image:
    """Return a synthetic image in the place of an acquired one.

    Parameters
    ----------
    source : Image
        One that it was made of: its place, its time and its history.
    data : float32 (z, y, x)
    quantity : str
        "synthetic-t1w", "fracture", ...: its images leave as a series of their own.
    method : str
        By which it was made, with parameters, and with engine, version and hash of the weights
        where a network made it.
    attributes : dict or None
        What else a reader has to know.
    """
    made = computed(source, data, quantity, f"{WORD}: {method}")
    marks = {**_attributes(method), **(attributes or {})}
    return replace(made, role=Role.SYNTHETIC, attributes={**made.attributes, **marks})


def computed(source: Image, data: Any, quantity: str, method: str) -> Image:
    """Return a derived image, a map, in the place of the acquired one which it was made of.

    Its pixels lead back to its values by RescaleSlope, as those of images in SNR units do; but its
    noise is not 1.
    """
    return replace(
        source,
        data=data,
        quantity=quantity,
        role=Role.DERIVED,
        snr_units=True,
        noise_map=None,
        conventional=None,
        history=(*source.history, method),
        attributes={**source.attributes, "BoresideSNRUnits": 0},
    )


def _attributes(method: str) -> dict[str, Value]:
    """Return attributes named as in DICOM (PS3.6): what an exporter puts into its objects."""
    return {
        "ImageType": ["DERIVED", "SECONDARY", "OTHER", WORD],
        "SyntheticData": "YES",
        "ContentQualification": "RESEARCH",
        "DerivationDescription": f"{WORD}: computed, not acquired. {method}",
        "ContributingEquipmentPurpose": ["109100", "DCM", "Synthesizing Equipment"],
    }


def say_unavailable(what: str, reason: Exception) -> None:
    """Log why there is no image."""
    _log.warning("no synthetic image", what=what, reason=str(reason))


class BurnIn:
    """Write "SYNTHETIC" into the pixels of synthetic `ImageMessage`s (a gadget).

    All others pass untouched. Stands after `gadgets.finish.Finish`.
    """

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            yield self._marked(item) if isinstance(item, ImageMessage) else item

    def _marked(self, message: ImageMessage) -> ImageMessage:
        if str(Role.SYNTHETIC) not in message.attributes:
            return message
        meta = parse_meta(message.attributes)
        if meta.get("BoresideRole") != str(Role.SYNTHETIC):
            return message
        slope = float(str(meta.get("RescaleSlope", 1)))
        bright = float(str(meta.get("WindowWidth", 0))) / slope or float(message.data.max())
        data = np.stack([burn_in(channel, bright) for channel in message.data])
        attributes = meta_text({**meta, "BurnedInAnnotation": "YES"})
        return replace(message, data=data, attributes=attributes)


def burn_in(pixels: NDArray[Any], bright: float) -> NDArray[Any]:
    """Return slices with the word in the upper left corner, bright with a dark rim.

    Only its letters and their rim cover anything.

    Parameters
    ----------
    pixels : (z, y, x)
        Of a real type; not changed.
    bright : float
        Pixel value of the letters.
    """
    rows, columns = pixels.shape[1:]
    letters = _letters(columns, max(8, rows // 24))[:rows, :columns]
    rim = np.zeros_like(letters)
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            rim |= np.roll(letters, (y, x), (0, 1))
    result = pixels.copy()
    corner = result[:, : letters.shape[0], : letters.shape[1]]
    corner[:, rim] = 0
    corner[:, letters] = pixels.dtype.type(bright)
    return result


def _letters(columns: int, size: int) -> NDArray[np.bool_]:
    """Return where the letters are, (y, x); smaller ones where they do not fit."""
    while True:
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(WORD)
        if right - left + 2 * MARGIN <= columns or size <= 6:
            break
        size -= 1
    canvas = Picture.new("L", (int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN))
    ImageDraw.Draw(canvas).text((MARGIN - left, MARGIN - top), WORD, fill=255, font=font)
    return np.asarray(canvas) > 127
