"""`simplefft` and `invertcontrast` of python-ismrmrd-server, for scanners that are set up for them.

Pixel values, meta and the moments at which images leave are those of the reference where it is
sane. Where it is not, this is: lines go where their counters say (not where they came in the
stack), noise and navigator readouts are no lines, interleaved slices and partitions are kept
apart, images are numbered from 1, and a slice that never gets its last line still gets an image.

`simplefft` is also what the agent falls back to (`agent.measurement`), so it takes whatever comes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gadgets.fft import ifftc
from gadgets.frame_memory import frame_bytes
from gadgets.stream import Gadget
from protocols.header import Encoding, Header, encodings
from protocols.meta import Value, meta_text, parse_meta
from protocols.mrd_types import (
    IMAGE_HEADER,
    NOT_IMAGING,
    AcquisitionFlag,
    ImageMessage,
    ImageType,
    ReadoutBlock,
)

_CHUNK_VOXELS = 1 << 23


class _Key(NamedTuple):
    """What tells the lines of one image from those of another."""

    encoding: int
    slice: int
    contrast: int
    repetition: int
    set: int
    phase: int
    coils: int
    samples: int


@dataclass(frozen=True)
class _Lines:
    """All lines of one image; ``whole`` where the last one said that it was the last."""

    key: _Key
    block: ReadoutBlock
    whole: bool


def simplefft(header: Header | None) -> Gadget:
    """Root sum of squares over coils of the Fourier transform of each slice, at its last line.

    Parameters
    ----------
    header : Header or None
        Without one, images have the size of what was acquired.

    Returns
    -------
    Gadget
        `ReadoutBlock` in, `ImageMessage` (int16, scaled to the reference's 0..4095) out; all else
        passes.
    """
    known = encodings(header) if header is not None else ()
    top = _top(header)

    def gadget(items: Iterator[Any]) -> Iterator[Any]:
        index = 0
        for item in _whole_images(items, known):
            if not isinstance(item, list):
                yield item
                continue
            for lines in item:
                index += 1
                encoding = _encoding(known, lines)
                magnitude = _root_sum_of_squares(_line_positions(lines.block, encoding))
                pixels = _quantise(magnitude, top / max(float(magnitude.max()), 1e-30))
                image = _image(_crop(pixels, encoding), lines, encoding, index)
                yield _with_meta(
                    image,
                    ImageProcessingHistory=["FIRE", "PYTHON"],
                    WindowCenter=(top + 1) / 2,
                    WindowWidth=top + 1,
                )

    return gadget


def invertcontrast(header: Header | None) -> Gadget:
    """Invert images: those sent, by series, and those made from readouts, by slice.

    Parameters
    ----------
    header : Header or None

    Returns
    -------
    Gadget
        Magnitude images are inverted, with their headers and meta kept; images of other types
        pass with ``Keep_image_geometry``. Readouts become images as in `simplefft`, flipped as the
        reference does to agree with Siemens ICE.
    """
    known = encodings(header) if header is not None else ()
    top = _top(header)

    def gadget(items: Iterator[Any]) -> Iterator[Any]:
        series: list[ImageMessage] = []
        for item in _whole_images(items, known):
            if isinstance(item, list):
                yield from _invert(
                    [_flipped(lines, _encoding(known, lines)) for lines in item], top
                )
            elif not isinstance(item, ImageMessage):
                yield item
            elif item.header["image_type"] not in (0, ImageType.MAGNITUDE):
                yield _with_meta(item, Keep_image_geometry=1)
            else:
                if series and _series(series[-1]) != _series(item):
                    yield from _invert(series, top)
                    series = []
                series.append(item)
        yield from _invert(series, top)

    return gadget


def _series(image: ImageMessage) -> int:
    return int(image.header["image_series_index"])


def _top(header: Header | None) -> int:
    """Return the greatest pixel value: 12 bits, unless the header says otherwise."""
    parameters = header.userParameters.userParameterLong if header and header.userParameters else ()
    bits = [int(p.value) for p in parameters if p.name == "BitsStored"]
    return (1 << min(max(bits[0] if bits else 12, 1), 15)) - 1


def _encoding(known: tuple[Encoding, ...], lines: _Lines) -> Encoding | None:
    return known[lines.key.encoding] if lines.key.encoding < len(known) else None


# Collecting lines


def _whole_images(items: Iterator[Any], known: tuple[Encoding, ...]) -> Iterator[Any]:
    """Turn readout blocks into lists of `_Lines` as slices end; pass on everything else."""
    pending: dict[_Key, list[ReadoutBlock]] = {}
    for item in items:
        if not isinstance(item, ReadoutBlock):
            yield item
            continue
        block = item[(item.headers["flags"] & np.uint64(NOT_IMAGING)) == 0]
        last = (block.headers["flags"] & np.uint64(AcquisitionFlag.LAST_IN_SLICE)) != 0
        start = 0
        for stop in [*(np.flatnonzero(last) + 1), len(block)]:
            part, start = block[start:stop], stop
            if not len(part):
                continue
            for key, share in _by_key(part):
                pending.setdefault(key, []).append(share)
            if last[stop - 1]:
                key = _keys(part[-1:])[0]
                if ended := _ended(pending, key, known):
                    yield [_Lines(k, _join(pending.pop(k)), True) for k in ended]
    for key, blocks in pending.items():
        yield [_Lines(key, _join(blocks), False)]


def _ended(
    pending: dict[_Key, list[ReadoutBlock]], key: _Key, known: tuple[Encoding, ...]
) -> list[_Key]:
    """Return which images are whole now that a line of ``key`` was the last of its slice.

    Cardiac phases may share one last line; some converters mark the last line of each partition.
    """
    blocks = pending[key]
    if key.encoding < len(known) and (partitions := known[key.encoding].encoded_matrix[2]) > 1:
        limit = known[key.encoding].limit("kspace_encoding_step_2", partitions)
        seen = np.concatenate([b.headers["idx"]["kspace_encode_step_2"] for b in blocks])
        if len(np.unique(seen)) <= limit.maximum - limit.minimum:
            return []
    count = sum(map(len, blocks))
    return sorted(
        k
        for k, others in pending.items()
        if k._replace(phase=key.phase) == key and sum(map(len, others)) == count
    )


def _keys(block: ReadoutBlock) -> list[_Key]:
    idx = block.headers["idx"]
    columns = [idx[name] for name in ("slice", "contrast", "repetition", "set", "phase")]
    rows = np.stack([block.headers["encoding_space_ref"], *columns], axis=1).tolist()
    return [_Key(*row, *block.samples.shape[1:]) for row in rows]


def _by_key(block: ReadoutBlock) -> list[tuple[_Key, ReadoutBlock]]:
    idx = block.headers["idx"]
    columns = [idx[name] for name in ("slice", "contrast", "repetition", "set", "phase")]
    rows = np.stack([block.headers["encoding_space_ref"], *columns], axis=1)
    if (rows == rows[0]).all():
        return [(_keys(block[:1])[0], block)]
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    keys = [_keys(block[f : f + 1])[0] for f in first]
    return [(key, block[which.reshape(-1) == n]) for n, key in enumerate(keys)]


def _join(blocks: list[ReadoutBlock]) -> ReadoutBlock:
    if len(blocks) == 1:
        return blocks[0]
    return ReadoutBlock(
        np.concatenate([b.headers for b in blocks]), np.concatenate([b.samples for b in blocks])
    )


# From lines to magnitude images


@dataclass(frozen=True)
class _Positions:
    """Where lines belong: samples (N, coil, readout), and flat position (N) in (z, y)."""

    samples: np.ndarray
    flat: np.ndarray
    shape: tuple[int, int, int]
    start: int


def _line_positions(block: ReadoutBlock, encoding: Encoding | None) -> _Positions:
    samples, headers = block.samples, block.headers
    count = samples.shape[2]
    y, ny = _steps(headers["idx"]["kspace_encode_step_1"], "kspace_encoding_step_1", encoding, 1)
    z, nz = _steps(headers["idx"]["kspace_encode_step_2"], "kspace_encoding_step_2", encoding, 2)
    nx = max(encoding.encoded_matrix[0], count) if encoding else count
    backwards = (headers["flags"] & np.uint64(AcquisitionFlag.IS_REVERSE)) != 0
    if backwards.any():
        samples = np.where(backwards[:, None, None], samples[..., ::-1], samples)
    frame_bytes(1, nz, ny, nx)
    start = min(max(nx // 2 - int(headers["center_sample"][0]), 0), nx - count)
    flat, first, repeats = np.unique(z * ny + y, return_index=True, return_counts=True)
    if repeats.max() > 1:
        order = np.argsort(z * ny + y, kind="stable")
        starts = np.cumsum(repeats) - repeats
        samples = np.add.reduceat(samples[order], starts, axis=0) / repeats[:, None, None]
    else:
        samples = samples[first]
    return _Positions(samples.astype(np.complex64, copy=False), flat, (nz, ny, nx), start)


def _steps(
    steps: np.ndarray, name: str, encoding: Encoding | None, axis: int
) -> tuple[np.ndarray, int]:
    """Return the k-space index of encoding steps, the centre at ``n // 2``, and n."""
    steps = steps.astype(np.int64)
    if encoding is None:
        return steps, int(steps.max()) + 1
    size = encoding.encoded_matrix[axis]
    centred = steps + size // 2 - encoding.limit(name, size).center
    if centred.min() >= 0 and centred.max() < size:
        return centred, size
    return steps, max(size, int(steps.max()) + 1)


def _root_sum_of_squares(lines: _Positions, flip: bool = False) -> np.ndarray:
    """Return float32 (z, y, x), a few coils at a time, so that volumes fit into memory."""
    nz, ny, nx = lines.shape
    coils, count = lines.samples.shape[1:]
    step = max(1, _CHUNK_VOXELS // (nz * ny * nx))
    axes = (1, 2, 3) if nz > 1 else (2, 3)
    total = np.zeros(lines.shape, np.float32)
    for first in range(0, coils, step):
        some = lines.samples[:, first : first + step].swapaxes(0, 1)
        kspace = np.zeros((len(some), nz * ny, nx), np.complex64)
        kspace[:, lines.flat, lines.start : lines.start + count] = some
        volumes = kspace.reshape(len(some), nz, ny, nx)
        image = ifftc(volumes[..., ::-1, ::-1] if flip else volumes, axes)
        total += np.sum(image.real**2 + image.imag**2, axis=0)
    return np.sqrt(total)


def _crop(image: np.ndarray, encoding: Encoding | None) -> np.ndarray:
    """Remove oversampling: (z, y, x) to the recon matrix, where it is smaller."""
    if encoding is None:
        return image
    for axis, size in enumerate(encoding.recon_matrix[::-1]):
        start = (image.shape[axis] - size) // 2
        if start >= 0:
            image = np.take(image, range(start, start + size), axis)
    return image


# Images


def _quantise(data: np.ndarray, scale: float) -> np.ndarray:
    return np.around(data.astype(np.float64) * scale).astype(np.int16)


def _image(
    pixels: np.ndarray, lines: _Lines, encoding: Encoding | None, index: int
) -> ImageMessage:
    """Wrap pixels (z, y, x) into a message with the geometry of the lines."""
    steps = lines.block.headers["idx"]["kspace_encode_step_1"].astype(int)
    source = lines.block.headers[np.argmin(np.abs(steps - int(np.median(steps))))]
    header = np.zeros(1, IMAGE_HEADER)[0]
    for name in ("version", "flags", "measurement_uid", "position", "read_dir", "phase_dir"):
        header[name] = source[name]
    for name in ("slice_dir", "patient_table_position", "acquisition_time_stamp"):
        header[name] = source[name]
    for name in ("physiology_time_stamp", "user_int", "user_float"):
        header[name] = source[name]
    for name in ("average", "slice", "contrast", "phase", "repetition", "set"):
        header[name] = source["idx"][name]
    header["field_of_view"] = encoding.recon_fov if encoding else pixels.shape[::-1]
    header["image_type"] = ImageType.MAGNITUDE
    header["image_index"] = index
    meta: dict[str, Value] = {"DataRole": "Image"}
    if not lines.whole:
        comment = f"incomplete: {len(lines.block)} lines, without the last line of the slice"
        meta |= {"ImageComments": comment, "ImageComment": comment}
    return ImageMessage(header, pixels[None], meta_text(meta))


def _flipped(lines: _Lines, encoding: Encoding | None) -> ImageMessage:
    magnitude = _root_sum_of_squares(_line_positions(lines.block, encoding), flip=True)
    return _image(_crop(magnitude, encoding), lines, encoding, lines.key.phase + 1)


def _invert(images: list[ImageMessage], top: int) -> Iterator[ImageMessage]:
    """Invert images against the greatest pixel of all of them."""
    magnitudes = [np.abs(i.data) if np.iscomplexobj(i.data) else i.data for i in images]
    greatest = max((float(m.max(initial=0)) for m in magnitudes), default=0)
    for image, magnitude in zip(images, magnitudes):
        pixels = _quantise(magnitude, top / max(greatest, 1e-30))
        yield _with_meta(
            replace(image, data=np.abs(top - pixels)),
            ImageProcessingHistory=["PYTHON", "INVERT"],
            WindowCenter=(top + 1) / 2,
            WindowWidth=top + 1,
            SequenceDescriptionAdditional="FIRE",
            SeriesDescriptionAdditional="FIRE",
            DataRole="Image",
            Keep_image_geometry=1,
        )


def _with_meta(image: ImageMessage, **values: Value) -> ImageMessage:
    """Return the image with meta values set, and with its directions where they are missing."""
    meta: dict[str, Any] = {**parse_meta(image.attributes), **values}
    for key, name in (("ImageRowDir", "read_dir"), ("ImageColumnDir", "phase_dir")):
        meta.setdefault(key, [f"{value:.18f}" for value in image.header[name]])
    return replace(image, attributes=meta_text(meta))
