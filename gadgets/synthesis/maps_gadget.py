"""Relaxation maps in a chain: contrasts of a multi-delay multi-echo measurement become maps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from gadgets.items import Image, Role
from gadgets.synthesis.maps import RelaxationMaps, fit_maps
from gadgets.synthesis.maps_signal import Acquisition
from gadgets.synthesis.marks import Unavailable, computed, say_unavailable
from protocols.header import Header

WHAT = "relaxation maps and synthetic contrasts"

KnowsFat = Callable[[Sequence[Image]], np.ndarray | None]


def unknown_fat(sources: Sequence[Image]) -> None:
    """Know no fat fraction: one tissue in each voxel."""


@dataclass(frozen=True)
class MeasuredMaps:
    """Maps of all slices of a measurement: of them any contrast can be made, at any time.

    Attributes
    ----------
    maps : RelaxationMaps
    sources : tuple of Image
        The first contrast of each slice, in order; the one of a slab.
    method : str
        How the maps were made.
    """

    maps: RelaxationMaps
    sources: tuple[Image, ...]
    method: str

    def split(self, volume: np.ndarray) -> Iterator[tuple[Image, np.ndarray]]:
        """Yield each source, and its part of a volume (z, y, x)."""
        depth = len(volume) // len(self.sources)
        for number, source in enumerate(self.sources):
            yield source, volume[number * depth : (number + 1) * depth]


class QuantitativeMaps:
    """Make T1, T2, proton density and efficiency maps of a measurement (a gadget).

    Images pass at once and unchanged. After the last one follow the maps, derived `Image`s of the
    quantities "t1_map" and "t2_map" (ms), "pd" and "b1", and one `MeasuredMaps`. Where
    there can be none, none follow, and the log says why.

    Parameters
    ----------
    header : Header
        TE and TI have one value for each contrast.
    fat : callable
        Takes the slices, returns their fat fraction, 0 to 1 (z, y, x), or None
        (`gadgets.synthesis.known_fat`).
    """

    def __init__(self, header: Header, fat: KnowsFat = unknown_fat) -> None:
        self._header, self._fat = header, fat

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        images = []
        for item in items:
            yield item
            if isinstance(item, Image):
                images.append(item)
        try:
            measured = measured_maps(images, self._header, self._fat)
        except Unavailable as reason:
            say_unavailable(WHAT, reason)
            return
        yield from _map_images(measured)
        yield measured


def _is_contrast(image: Image) -> bool:
    return image.role is Role.ACQUIRED and image.quantity in ("complex", "magnitude")


def measured_maps(
    images: Iterable[Image], header: Header, known_fat: KnowsFat = unknown_fat
) -> MeasuredMaps:
    """Fit maps to all images of a measurement.

    Parameters
    ----------
    images : iterable of Image
    header : Header
    known_fat : callable
        See `QuantitativeMaps`.

    Raises
    ------
    Unavailable
        The measurement is none of several delays and echoes, is not whole, has no noise scan, or
        relaxation times do not explain it.
    """
    acquisition = Acquisition.of(header)
    count = len(acquisition.te_ms)
    contrasts: dict[int, dict[int, Image]] = {}
    for image in filter(_is_contrast, images):
        contrasts.setdefault(image.key.slice, {})[image.key.contrast] = image
    slices = [
        [own[number] for number in sorted(own)]
        for _, own in sorted(contrasts.items())
        if len(own) == count and all(image.complete for image in own.values())
    ]
    if not slices or len(slices) < len(contrasts):
        raise Unavailable(
            f"expected {count} whole contrasts (delays and echoes) of each slice, got them of"
            f" {len(slices)} of {len(contrasts)} slices"
        )
    sources = tuple(own[0] for own in slices)
    if len({image.data.shape for own in slices for image in own}) > 1:
        raise Unavailable("expected all contrasts of one matrix")
    if not all(image.snr_units for image in sources):
        raise Unavailable("expected images in SNR units: without a noise scan no fit can be judged")
    data = np.concatenate(
        [np.stack([_numpy(image.data) for image in own]) for own in slices], axis=1
    )
    if any(image.quantity == "magnitude" for own in slices for image in own):
        data = np.abs(data)
    noise = np.concatenate([_noise(image) for image in sources])
    depth, rows, columns = sources[0].data.shape
    width, height, thickness = sources[0].field_of_view
    spacing = (thickness / depth, height / rows, width / columns)
    fat = known_fat(sources)
    maps = fit_maps(data, acquisition, noise, fat, spacing_mm=spacing)
    delays = ", ".join(f"{ms:g}" for ms in sorted(set(acquisition.delays_ms)))
    echoes = ", ".join(f"{ms:g}" for ms in sorted(set(acquisition.te_ms)))
    voxel = "one tissue in each voxel"
    if fat is not None:
        voxel = f"water and known fat (T1 {maps.fat_t1_ms:.0f}, T2 {maps.fat_t2_ms:.0f} ms)"
    method = (
        "maps by non-linear least squares (signal equations of Warntjes 2008, extended phase"
        f" graphs), {voxel}, of delays {delays} ms and echoes {echoes} ms"
    )
    return MeasuredMaps(maps, sources, method)


def _map_images(measured: MeasuredMaps) -> Iterator[Image]:
    maps = measured.maps
    for quantity, volume in (
        ("t1_map", np.where(maps.valid, maps.t1_ms, 0)),
        ("t2_map", np.where(maps.valid, maps.t2_ms, 0)),
        ("pd", maps.proton_density),
        ("b1", maps.efficiency),
    ):
        for source, data in measured.split(volume.astype(np.float32, copy=False)):
            yield computed(source, data, quantity, measured.method)


def _noise(image: Image) -> np.ndarray:
    if image.noise_map is None:
        return np.ones(image.data.shape, np.float32)
    return _numpy(image.noise_map).astype(np.float32)


def _numpy(array: Any) -> np.ndarray:
    return array.get() if array_api_compat.is_cupy_array(array) else np.asarray(array)
