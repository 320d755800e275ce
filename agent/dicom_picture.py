"""An MRD image as DICOM has to know it: stored pixels, their scale, place, role and history.

Reads the header and the meta attributes that `gadgets.finish` writes, and those of images which
other programs sent and which pass through unchanged.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gadgets.finish import PAGES
from gadgets.items import Role
from protocols.geometry import Volume, volume
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage, ImageType

COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
_INTEGERS = (np.dtype(np.uint16), np.dtype(np.int16))


@dataclass(frozen=True)
class Picture:
    """One image message.

    Attributes
    ----------
    pixels : uint16 or int16 (z, y, x), or uint8 (z, y, x, rgb)
    slope, intercept : float
        Value of a voxel: pixel * slope + intercept.
    unit : str
        Of that value, UCUM.
    window : tuple of 2 float
        Centre and width, of values.
    volume : Volume
    thickness_mm : float
    series, index : int
    counters : dict of str to int
        Of `COUNTERS`.
    role : Role
    quantity : str
        "magnitude", "g-factor", ...
    component : str
        "MAGNITUDE", "PHASE", "REAL" or "IMAGINARY".
    networks : tuple of str
        Names, versions and hashes of those that took part.
    expected_network : bool
        A network took part, or should have and could not.
    history : tuple of str
    comment : str
    te_ms, ti_ms : float or None
    """

    pixels: NDArray[Any]
    slope: float
    intercept: float
    unit: str
    window: tuple[float, float]
    volume: Volume
    thickness_mm: float
    series: int
    index: int
    counters: dict[str, int]
    role: Role
    quantity: str
    component: str
    networks: tuple[str, ...]
    expected_network: bool
    history: tuple[str, ...]
    comment: str
    te_ms: float | None
    ti_ms: float | None

    @property
    def page(self) -> NDArray[np.uint8] | None:
        """What is to be shown as it is, uint8 (z, y, x, rgb); None of an image of the patient."""
        if self.pixels.ndim == 4:
            return self.pixels
        if self.quantity not in PAGES:
            return None
        grey = np.clip(np.rint(self.pixels * self.slope + self.intercept), 0, 255)
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)

    @property
    def key(self) -> tuple[int, ...]:
        """What tells it from every other image of its measurement."""
        return (self.series, self.index, *self.counters.values())


def read_picture(message: ImageMessage) -> Picture:
    """Return what an image message says.

    Raises
    ------
    ValueError
        Neither one channel nor RGB; or a field of view that is not positive.
    """
    header, meta = message.header, parse_meta(message.attributes)
    data = np.asarray(message.data)
    _, *zyx = data.shape
    z, y, x = zyx
    fov = np.asarray(header["field_of_view"], np.float64)
    if not (np.isfinite(fov).all() and min(fov) > 0 and np.isfinite(header["position"]).all()):
        raise ValueError(f"image: expected a positive field of view and a position, got {fov}")
    if header["image_type"] == ImageType.RGB and len(data) == 3:
        pixels = np.moveaxis(np.clip(data, 0, 255), 0, -1).astype(np.uint8)
        slope, intercept = 1.0, 0.0
    elif len(data) == 1:
        pixels, slope, intercept = stored(data[0])
    else:
        raise ValueError(f"image: expected one channel, or 3 of RGB, got {len(data)}")
    factor, offset = _number(meta, "RescaleSlope") or 1.0, _number(meta, "RescaleIntercept") or 0.0
    slope, intercept = slope * factor, intercept * factor + offset
    networks = _texts(meta, "BoresideAI")
    history = _texts(meta, "ImageProcessingHistory")
    quantity = _text(meta, "BoresideQuantity") or "magnitude"
    components: dict[int, str] = {
        ImageType.PHASE: "PHASE",
        ImageType.REAL: "REAL",
        ImageType.IMAG: "IMAGINARY",
    }
    return Picture(
        pixels=pixels,
        slope=slope,
        intercept=intercept,
        unit="1",
        window=_window(meta, pixels, slope, intercept),
        volume=volume(header, (z, y, x)),
        thickness_mm=float(fov[2]) / z,
        series=int(header["image_series_index"]),
        index=int(header["image_index"]),
        counters={name: int(header[name]) for name in COUNTERS},
        role=_role(meta),
        quantity=quantity,
        component=components.get(int(header["image_type"]), "MAGNITUDE"),
        networks=networks,
        expected_network=bool(networks or _texts(meta, "BoresideFallback") or "AI" in history),
        history=history,
        comment=_text(meta, "ImageComments") or _text(meta, "ImageComment"),
        te_ms=_number(meta, "EchoTime"),
        ti_ms=_number(meta, "InversionTime"),
    )


def stored(data: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return 16-bit pixels of an image with slope and intercept; of complex data the magnitude.

    What does not fit into 16 bits is spread over all of uint16, and is exact to half a step.
    """
    if data.dtype in _INTEGERS:
        return data, 1.0, 0.0
    values = np.abs(data) if np.iscomplexobj(data) else data
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if np.issubdtype(data.dtype, np.integer) and low >= 0 and high <= 65535:
        return values.astype(np.uint16), 1.0, 0.0
    slope = (high - low) / 65535 or 1.0
    return np.rint((values - low) / slope).astype(np.uint16), slope, low


def _window(
    meta: dict[str, Any], pixels: NDArray[Any], slope: float, intercept: float
) -> tuple[float, float]:
    center, width = _number(meta, "WindowCenter"), _number(meta, "WindowWidth")
    if center is not None and width is not None and width >= 1:
        return center, width
    low, high = np.percentile(pixels, (0.5, 99.5)) * slope + intercept
    return (low + high) / 2, max(float(high - low), 1.0)


def _role(meta: dict[str, Any]) -> Role:
    try:
        return Role(_text(meta, "BoresideRole"))
    except ValueError:
        # Not made here: nobody knows what was done to it.
        return Role.DERIVED


def _texts(meta: dict[str, Any], key: str) -> tuple[str, ...]:
    value = meta.get(key)
    values = value if isinstance(value, list) else [value]
    return tuple(str(item) for item in values if item is not None)


def _text(meta: dict[str, Any], key: str) -> str:
    return next(iter(_texts(meta, key)), "")


def _number(meta: dict[str, Any], key: str) -> float | None:
    try:
        number = float(_text(meta, key))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
