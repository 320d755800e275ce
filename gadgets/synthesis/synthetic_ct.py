"""Values on the scale of Hounsfield from a multi-echo gradient echo, by a network, with doubt.

For looking at the outlines of bone: sclerosis, erosion, ankylosis. It is no CT and no measure of
bone density: how dense trabecular bone is does not follow from water, fat and R2*. Images stay MR
images of the scanner (`gadgets.synthesis.marks`).
"""

from collections.abc import Iterator
from typing import Any

import array_api_compat
import numpy as np

from engines.engine import Engine
from engines.familiar import scale_of
from gadgets.items import Image, Role
from gadgets.synthesis.marks import Unavailable, say_unavailable, synthetic
from gadgets.synthesis.network import Made, make, manifest_of
from protocols.meta import Value

WHAT = "synthetic CT"
CHANNELS = ("water", "fat", "in_phase", "opposed_phase", "r2star")
HU_PER_UNIT = 1000.0
R2STAR_PER_UNIT, R2STAR_MOST = 200.0, 300.0
"""1/s."""
OFFSET_HU = 1024.0
"""Pixels are not negative: RescaleIntercept takes this back."""


def hounsfield(
    engine: Engine,
    maps: dict[str, np.ndarray],
    pixel_mm: tuple[float, float],
    sigma: float,
) -> Made:
    """Return Hounsfield-scaled values of water-fat images, and half of their 95 % interval.

    Parameters
    ----------
    engine : Engine
        The network "ct".
    maps : dict of float32 (z, y, x)
        Of `CHANNELS`: magnitudes, and R2* in 1/s.
    pixel_mm : tuple of 2 float
        y, x.
    sigma : float
        Of the noise of an echo.

    Raises
    ------
    Unavailable
        A map is missing, the input is not what the network was trained for, or it is too unsure.
    """
    if missing := [name for name in CHANNELS if name not in maps]:
        raise Unavailable(
            f"expected {', '.join(CHANNELS)}, which take three or more echoes; missing"
            f" {', '.join(missing)}"
        )
    scale = scale_of(maps["in_phase"])
    if not scale > 0 or not sigma > 0:
        raise Unavailable("expected signal and a known noise, found none")
    planes = [maps[name] / np.float32(scale) for name in CHANNELS[:4]]
    planes.append(np.clip(maps["r2star"], 0, R2STAR_MOST) / R2STAR_PER_UNIT)
    made = make(engine, np.stack(planes), pixel_mm, scale / sigma, dark=False)
    return Made(made.image * HU_PER_UNIT, made.interval * HU_PER_UNIT)


class SyntheticCt:
    """Make a synthetic CT of what `gadgets.synthesis.water_fat_gadget` gives (a gadget).

    Images pass at once and unchanged. After the last one follow synthetic `Image`s of the
    quantities "synthetic-ct", in HU above ``-OFFSET_HU``, and "synthetic-ct-uncertainty", half of
    the width of the 95 % interval, in HU. Where there can be none, none follow, and the log says
    why.

    Parameters
    ----------
    engine : Engine
        The network "ct".
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        found: dict[Any, dict[str, Image]] = {}
        noise: dict[Any, float] = {}
        for item in items:
            yield item
            if not isinstance(item, Image):
                continue
            place = item.key._replace(contrast=0)
            if item.role is Role.ACQUIRED and item.snr_units and item.key.contrast == 0:
                noise[place] = _sigma(item)
            elif item.role is Role.DERIVED and item.quantity in CHANNELS:
                found.setdefault(place, {})[item.quantity] = item
        for place in sorted(found):
            try:
                yield from self._images(found[place], noise.get(place, 0.0))
            except Unavailable as reason:
                say_unavailable(f"{WHAT} of slice {place.slice}", reason)
            except Exception as error:  # All images are delivered: nothing may fail now.
                say_unavailable(f"{WHAT} of slice {place.slice}", error)

    def _images(self, images: dict[str, Image], sigma: float) -> Iterator[Image]:
        source = next(iter(images.values()))
        maps = {name: _numpy(image.data) for name, image in images.items()}
        width, height, _ = source.field_of_view
        _, rows, columns = source.data.shape
        made = hounsfield(self._engine, maps, (height / rows, width / columns), sigma)
        method = (
            f"values on the scale of Hounsfield by the network {manifest_of(self._engine).label} of"
            " water, fat, in phase, opposed phase and R2*; not CT, no measure of bone density"
        )
        values: dict[str, Value] = {
            "RescaleIntercept": -OFFSET_HU,
            "RescaleType": "HU",
            "WindowCenter": 300,
            "WindowWidth": 1500,
        }
        data = np.clip(made.image + OFFSET_HU, 0, None)
        yield synthetic(source, data, "synthetic-ct", method, values)
        yield synthetic(
            source,
            made.interval,
            "synthetic-ct-uncertainty",
            f"half of the width of the 95 % interval which the network states, in HU; {method}",
            {"RescaleIntercept": 0, "RescaleType": "HU", "WindowCenter": 150, "WindowWidth": 300},
        )


def _sigma(image: Image) -> float:
    if image.noise_map is None:
        return 1.0
    values = _numpy(image.noise_map)
    seen = values[values > 0]
    return float(np.median(seen)) if seen.size else 0.0


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(array_api_compat.to_device(array, "cpu"))
