"""Finishing: images onto the recon matrix, into pixels, and into MRD messages ready to send.

Partition and phase oversampling are cut off by field of view; a recon matrix finer than the encoded
one is reached by zero-filling k-space, scaled so that both the signal and the noise of a pixel stay
what they were. Pixels are not flipped: x is the readout, y the phase direction, as in Gadgetron and
in python-ismrmrd-server. What a reader must know of an image is in its header and meta attributes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import array_api_compat
import numpy as np

from gadgets.fft import fftc, ifftc
from gadgets.items import FrameKey, Image
from gadgets.lattice import stretch
from gadgets.messages import image_header, image_meta
from gadgets.oversampling import cropped_length
from protocols.header import Encoding, Header, encodings
from protocols.meta import meta_text
from protocols.mrd_types import ImageMessage

MAPS = ("g-factor", "snr")
PAGES = frozenset({"summary"})
"""Quantities of images that are no slices: they leave on the matrix and field of view they have."""
PIXEL_TYPES = ("uint16", "float32")
LARGEST_INDEX = 65535
_BRIGHTEST = 8192
"""Where the brightest pixel of a series' first image ends up, or down to half of that: as fine as a
12-bit image, with room for later images to be 8 times brighter."""


class Finish:
    """Turn `Image` into `ImageMessage` (a gadget).

    Magnitudes of a series share one scale, a power of two fixed by its first image, so that
    ``pixel * RescaleSlope`` is in SNR units in all of them. Maps leave after all images, each kind
    as its own series of float32. The pages of a summary are a series of their own too.

    Parameters
    ----------
    header : Header
    pixel_type : str
        "uint16" or "float32".
    maps : sequence of str
        Of "g-factor" and "snr": what to send besides, of images that have a noise map.

    Raises
    ------
    ValueError
        An unknown pixel type or map.
    """

    def __init__(
        self, header: Header, pixel_type: str = "uint16", maps: Sequence[str] = ()
    ) -> None:
        if pixel_type not in PIXEL_TYPES:
            raise ValueError(f"pixel_type: expected one of {PIXEL_TYPES}, got {pixel_type!r}")
        if unknown := set(maps) - set(MAPS):
            raise ValueError(f"maps: expected some of {MAPS}, got {sorted(unknown)}")
        self._header = header
        self._encodings = encodings(header)
        self._pixel_type = np.dtype(pixel_type)
        self._maps = tuple(name for name in MAPS if name in maps)

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        series = {"magnitude": _Series(1, self._encodings)}
        for name in self._maps:
            series[name] = _Series(len(series) + 1, self._encodings)
        later: dict[str, list[ImageMessage]] = {name: [] for name in self._maps}
        for item in items:
            if not isinstance(item, Image):
                yield item
                continue
            encoding = self._encodings[item.key.encoding]
            quantity = "magnitude" if item.quantity == "complex" else item.quantity
            if quantity not in series:
                series[quantity] = _Series(len(series) + 1, self._encodings)
            data = item.data if quantity in PAGES else on_recon_matrix(item.data, encoding)
            magnitude = _numpy(abs(data))
            yield self._message(item, quantity, magnitude, series[quantity], self._pixel_type)
            if self._maps and item.noise_map is not None:
                noise = _numpy(noise_on_recon_matrix(item.noise_map, encoding))
                values = {
                    "g-factor": noise / np.float32(np.sqrt(item.acceleration)),
                    "snr": np.divide(magnitude, noise, np.zeros_like(magnitude), where=noise > 0),
                }
                for name in self._maps:
                    message = self._message(
                        item, name, values[name], series[name], np.dtype(np.float32)
                    )
                    later[name].append(message)
        for messages in later.values():
            yield from messages

    def _message(
        self, image: Image, quantity: str, values: np.ndarray, series: "_Series", dtype: Any
    ) -> ImageMessage:
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.float32, copy=False)
        scale, saturated = 1.0, 0
        pixels = values
        if dtype == np.uint16:
            scale = series.scale(values)
            scaled = np.rint(values * np.float32(scale))
            saturated = int((scaled > 65535).sum())
            pixels = np.clip(scaled, 0, 65535).astype(np.uint16)
        meta = image_meta(
            self._header, image, quantity, pixels, series.number, scale=scale, saturated=saturated
        )
        fov = self._encodings[image.key.encoding].recon_fov
        fov = image.field_of_view if quantity in PAGES else fov
        head = image_header(image, fov, series.number, series.index(image.key))
        return ImageMessage(head, pixels[None], meta_text(meta))


class _Series:
    """What the images of one series share: its number, its scale, and their numbering."""

    def __init__(self, number: int, encodings: tuple[Encoding, ...]) -> None:
        self.number = number
        self._scale = 0.0
        self._used: set[int] = set()
        # The fastest counter first; a stack of slices is to lie together in a viewer.
        self._counts = [
            (name, max(e.limit(name).maximum for e in encodings) + 1)
            for name in ("slice", "contrast", "set", "phase", "repetition")
        ]

    def scale(self, values: np.ndarray) -> float:
        """Return the factor from values to pixels; the first image with any signal fixes it."""
        if not self._scale:
            peak = float(values.max(initial=0))
            if not peak:
                return 1.0
            self._scale = float(2.0 ** np.floor(np.log2(_BRIGHTEST / peak)))
        return self._scale

    def index(self, key: FrameKey) -> int:
        """Return an image's number, from 1, by its counters; the next free one if it is taken.

        It becomes DICOM's Instance Number, so images which leave out of order sort in order.
        """
        index, stride = 1, 1
        for name, count in self._counts:
            index += getattr(key, name) * stride
            stride *= count
        index += key.encoding * stride
        if len(self._used) >= LARGEST_INDEX:
            self._used.clear()
        index = (index - 1) % LARGEST_INDEX + 1
        while index in self._used:
            index = index % LARGEST_INDEX + 1
        self._used.add(index)
        return index


def on_recon_matrix(data: Any, encoding: Encoding) -> Any:
    """Bring an image to the recon matrix and field of view.

    Parameters
    ----------
    data : complex64 or float32 (z, y, x)
        On the encoded matrix along z and y, on the recon field of view along x.
    encoding : Encoding

    Returns
    -------
    complex64 or float32 (z, y, x)
        Signal and noise per pixel as before, where pixels became smaller; where they became larger
        the noise stays and the signal falls with the k-space that was cut off.
    """
    for axis, (fine, length) in enumerate(_lengths(data.shape, encoding)):
        if fine != data.shape[axis]:
            data = _interpolate(data, axis, fine)
        data = _fit(data, axis, length)
    return data


def noise_on_recon_matrix(noise_map: Any, encoding: Encoding) -> Any:
    """Bring a noise map, float32 (z, y, x), where `on_recon_matrix` brings its image."""
    lengths = _lengths(noise_map.shape, encoding)
    (z, _), (y, _), (x, _) = lengths
    noise_map = stretch(noise_map[None], (z, y))
    noise_map = stretch(noise_map.swapaxes(2, 3), (z, x)).swapaxes(2, 3)[0]
    for axis, (_, length) in enumerate(lengths):
        noise_map = _fit(noise_map, axis, length)
    return noise_map


def _lengths(shape: tuple[int, ...], encoding: Encoding) -> list[tuple[int, int]]:
    """Return for z, y, x the length that gives recon pixels, and that of the recon matrix."""
    result = []
    for axis, have in zip((2, 1, 0), shape):
        recon, recon_fov = encoding.recon_matrix[axis], encoding.recon_fov[axis]
        fov = encoding.encoded_fov[axis]
        if axis == 0:
            fov = min(fov, recon_fov)
        if axis == 2 and have == 1:
            result.append((1, 1))
        elif cropped_length(have, fov, recon, recon_fov) == recon:
            result.append((have, recon))
        else:
            result.append((max(round(recon * fov / recon_fov), 1), recon))
    return result


def _interpolate(data: Any, axis: int, length: int) -> Any:
    xp = array_api_compat.array_namespace(data)
    is_real = not xp.isdtype(data.dtype, "complex floating")
    have = data.shape[axis]
    kspace = _fit(fftc(data, (axis,)), axis, length)
    image = ifftc(kspace, (axis,)) * np.float32(np.sqrt(max(length / have, 1)))
    return image.real if is_real else image


def _fit(data: Any, axis: int, length: int) -> Any:
    """Cut or zero-fill an axis around its origin at ``n // 2``."""
    have = data.shape[axis]
    if have == length:
        return data
    xp = array_api_compat.array_namespace(data)
    shift = length // 2 - have // 2
    source, target = [slice(None)] * data.ndim, [slice(None)] * data.ndim
    source[axis] = slice(max(-shift, 0), min(have, length - shift))
    target[axis] = slice(max(shift, 0), min(length, have + shift))
    shape = [length if a == axis else n for a, n in enumerate(data.shape)]
    result = xp.zeros(tuple(shape), dtype=data.dtype)
    result[tuple(target)] = data[tuple(source)]
    return result


def _numpy(array: Any) -> np.ndarray:
    return array.get() if array_api_compat.is_cupy_array(array) else np.asarray(array)
