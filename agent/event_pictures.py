"""Images and label maps as pictures of the console: pixels to a file, the rest to an event."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from agent.event_records import Picture
from agent.events import new_file
from gadgets.items import LabelMap
from protocols.findings import Point
from protocols.geometry import Volume, volume
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage


def of_message(
    pictures: Path,
    image: ImageMessage,
    series: str,
    measurement: str = "",
    title: str = "",
    latency_ms: float | None = None,
) -> Picture:
    """Write the pixels of an image that has left, and return what is known of it.

    Only the first channel is shown. What its attributes do not say is taken as MRD has it: an
    acquired magnitude.
    """
    meta = parse_meta(image.attributes)
    data = image.data[0]
    pixels, scale = _pixels(data)
    slope = float(_text(meta, "RescaleSlope", "1")) * scale
    quantity = _text(meta, "BoresideQuantity", "magnitude")
    shape = _shape(data)
    return Picture(
        file=new_file(pictures, pixels.astype("<u2").tobytes()),
        series=series if quantity == "magnitude" else f"{series}/{quantity}",
        title=title or series,
        measurement=measurement,
        index=int(image.header["image_index"]),
        quantity=quantity,
        role=_role(meta),
        shape=shape,
        slope=slope,
        window=_window(meta, pixels, slope),
        history=_list(meta, "ImageProcessingHistory"),
        networks=_list(meta, "BoresideAI"),
        fallback=_list(meta, "BoresideFallback"),
        complete=_text(meta, "BoresideComplete", "1") != "0",
        latency_ms=latency_ms,
        **_place(volume(image.header, shape)),
    )


def of_labels(pictures: Path, labels: LabelMap, series: str) -> Picture:
    """Write a label map, and return what is known of it."""
    return Picture(
        file=new_file(pictures, labels.labels.astype(np.uint8).tobytes()),
        series=series,
        title=series,
        quantity="labels",
        role="derived",
        shape=_shape(labels.labels),
        dtype="uint8",
        names=labels.names,
        landmarks={name: _point(where) for name, where in labels.landmarks.items()},
        **_place(labels.volume),
    )


def _role(meta: dict[str, Any]) -> Literal["acquired", "derived", "synthetic"]:
    said = _text(meta, "BoresideRole", "acquired")
    return "synthetic" if said == "synthetic" else "derived" if said == "derived" else "acquired"


def _point(where: Any) -> Point:
    x, y, z = (float(mm) for mm in where)
    return x, y, z


def _pixels(data: np.ndarray) -> tuple[np.ndarray, float]:
    """Return pixels as uint16, and the value of one step."""
    if data.dtype == np.uint16:
        return data, 1.0
    values = abs(data) if np.iscomplexobj(data) else data
    values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0).clip(min=0)
    if np.issubdtype(data.dtype, np.integer) and values.max(initial=0) <= 65535:
        return values.astype(np.uint16), 1.0
    step = float(values.max(initial=0)) / 65535 or 1.0
    return np.rint(values / step).astype(np.uint16), step


def _window(meta: dict[str, Any], pixels: np.ndarray, slope: float) -> tuple[float, float]:
    """Return centre and width, those of the image where it has them."""
    try:
        centre, width = float(meta["WindowCenter"]), float(meta["WindowWidth"])
        if width > 0:
            return centre, width
    except (KeyError, TypeError, ValueError):
        pass
    top = max(float(np.percentile(pixels, 99.5)) * slope, 1e-9)
    return top / 2, top


def _shape(data: np.ndarray) -> tuple[int, int, int]:
    z, y, x = data.shape
    return z, y, x


def _place(where: Volume) -> dict[str, Any]:
    return {
        "position": tuple(where.position.tolist()),
        "directions": tuple(map(tuple, where.directions.tolist())),
        "spacing": tuple(where.spacing.tolist()),
    }


def _text(meta: dict[str, Any], key: str, default: str) -> str:
    value = meta.get(key, default)
    return value if isinstance(value, str) else str(value[0])


def _list(meta: dict[str, Any], key: str) -> tuple[str, ...]:
    value = meta.get(key, ())
    return (value,) if isinstance(value, str) else tuple(value)
