"""Water-fat imaging in a chain: the echoes of a measurement become water, fat, PDFF and R2*."""

from collections.abc import Iterator
from typing import Any

import array_api_compat
import numpy as np

from gadgets.items import Image, Role
from gadgets.synthesis.marks import Unavailable, computed, say_unavailable
from gadgets.synthesis.water_fat import WaterFatMaps, separate
from gadgets.synthesis.water_fat_model import GYROMAGNETIC_MHZ_PER_T, t1_weights
from protocols.header import Header
from protocols.meta import Value

WHAT = "water and fat images"
FIELD_OFFSET_HZ = 2000.0
"""Pixels of a field map are not negative: RescaleIntercept takes this back."""
IMAGE_TYPE = {
    "water": "WATER",
    "fat": "FAT",
    "in_phase": "IN_PHASE",
    "opposed_phase": "OUT_OF_PHASE",
    "pdff": "FAT_FRACTION",
    "r2star": "R2_STAR_MAP",
    "field_map": "FIELD_MAP",
}
"""Quantities in the order in which they leave, and DICOM's word for each (PS3.3 C.8.16.1)."""


class WaterFat:
    """Make water, fat and what goes with them of the echoes of each slice or slab (a gadget).

    Images pass at once and unchanged. After the last one follow derived `Image`s of the quantities
    of `IMAGE_TYPE`: magnitudes "water", "fat", "in_phase" and "opposed_phase"; "pdff" in %,
    corrected for T1, 0 to 100; "r2star" in 1/s, of three echoes or more; "field_map" in Hz, above
    ``FIELD_OFFSET_HZ``. Of a slice of which there can be none, none follow, and the log says why.

    Parameters
    ----------
    header : Header
        TE has one value for each contrast.
    """

    def __init__(self, header: Header) -> None:
        self._header = header

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        echoes: dict[Any, dict[int, Image]] = {}
        for item in items:
            yield item
            if isinstance(item, Image) and _is_echo(item):
                group = item.key._replace(contrast=0)
                echoes.setdefault(group, {})[item.key.contrast] = item
        precession: int | None = None
        # The slice in the middle shows most: it tells the sense of precession for all.
        places = sorted(echoes)
        for place in sorted(places, key=lambda one: abs(places.index(one) - len(places) // 2)):
            try:
                images, maps = self._separated(echoes[place], precession)
            except Unavailable as reason:
                say_unavailable(f"{WHAT} of slice {place.slice}", reason)
                continue
            precession = maps.precession
            yield from _derived(images[0], maps, self._method(maps, len(images)))

    def _separated(
        self, echoes: dict[int, Image], precession: int | None
    ) -> tuple[list[Image], WaterFatMaps]:
        te_s, field_t = self._echo_times(), self._field_t()
        if sorted(echoes) != list(range(len(te_s))):
            missing = sorted(set(range(len(te_s))) - set(echoes))
            raise Unavailable(f"expected {len(te_s)} echoes, as the header says; missing {missing}")
        images = [echoes[number] for number in range(len(te_s))]
        if any(image.quantity != "complex" for image in images):
            raise Unavailable("expected complex echoes, got magnitudes: reconstruction fell back")
        if not all(image.complete for image in images):
            raise Unavailable("expected whole echoes, got some with lines missing")
        if len({image.data.shape for image in images}) > 1:
            raise Unavailable("expected all echoes of one matrix")
        data = np.stack([_numpy(image.data) for image in images])
        first = images[0]
        sigma: Any = None
        if first.snr_units:
            sigma = 1.0 if first.noise_map is None else _numpy(first.noise_map)
        sizes = zip(first.field_of_view[::-1], first.data.shape, strict=True)
        z, y, x = (length / count for length, count in sizes)
        return images, separate(
            data, te_s, field_t, (z, y, x), sigma, precession, self._t1_weights(field_t)
        )

    def _echo_times(self) -> np.ndarray:
        parameters = self._header.sequenceParameters
        te_ms = list(parameters.TE) if parameters else []
        return np.array(te_ms, np.float64) * 1e-3

    def _field_t(self) -> float:
        hz = self._header.experimentalConditions.H1resonanceFrequency_Hz
        return float(hz) / (GYROMAGNETIC_MHZ_PER_T * 1e6)

    def _t1_weights(self, field_t: float) -> tuple[float, float]:
        parameters = self._header.sequenceParameters
        tr_ms, flip_deg = list(parameters.TR), list(parameters.flipAngle_deg)
        if not tr_ms or not flip_deg:
            return 1.0, 1.0
        return t1_weights(float(tr_ms[0]), float(flip_deg[0]), field_t)

    def _method(self, maps: WaterFatMaps, count: int) -> str:
        times = ", ".join(f"{te * 1e3:g}" for te in self._echo_times())
        water, fat = self._t1_weights(self._field_t())
        decay = "R2* assumed, one phase" if count == 2 else "R2* fitted"
        return (
            f"water-fat separation of {count} echoes ({times} ms), six-peak fat, {decay}, "
            f"residual {maps.residual:.1%}, precession {maps.precession:+d}, PDFF corrected for T1 "
            f"of marrow (fat {fat / water:.3f} times as bright as water)"
        )


def _is_echo(image: Image) -> bool:
    return image.role is Role.ACQUIRED and image.quantity in ("complex", "magnitude")


def _derived(source: Image, maps: WaterFatMaps, method: str) -> Iterator[Image]:
    values = {
        "water": np.abs(maps.water),
        "fat": np.abs(maps.fat),
        "in_phase": maps.in_phase,
        "opposed_phase": maps.opposed_phase,
        "pdff": np.clip(100 * maps.pdff, 0, 100),
        "field_map": maps.field_hz * maps.precession + np.float32(FIELD_OFFSET_HZ),
    }
    if maps.r2star.any():
        values["r2star"] = maps.r2star
    for quantity, word in IMAGE_TYPE.items():
        if quantity not in values:
            continue
        data = values[quantity].astype(np.float32, copy=False)
        image = computed(source, data, quantity, method)
        marks: dict[str, Value] = {
            "ImageType": ["DERIVED", "PRIMARY", "OTHER", word],
            "DerivationDescription": method,
        }
        if quantity == "field_map":
            marks |= {"RescaleIntercept": -FIELD_OFFSET_HZ, "WindowCenter": 0, "WindowWidth": 600}
        image.attributes.update(marks)
        yield image


def _numpy(array: Any) -> np.ndarray:
    return array.get() if array_api_compat.is_cupy_array(array) else np.asarray(array)
