"""Series: the images of a measurement put together into stacks, for those who look at them.

`CollectSeries` stands between reconstruction and `gadgets.finish.Finish`. Images pass it at once
and untouched; it only remembers them. When the last one has gone it yields a `Series` for each
stack of slices, on the recon matrix: the very pixels that left.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import structlog

from gadgets.finish import noise_on_recon_matrix, on_recon_matrix
from gadgets.items import Image, Role, Series
from gadgets.messages import image_header
from protocols.geometry import Slab, Volume, directions, volume
from protocols.header import Encoding, Header, encodings

EVEN = 0.1
"""Most by which the distance between two slices of a stack may differ from that of the first two,
as a fraction of it."""
MOST_VOXELS = 1 << 25
"""Of a measurement: a larger one is not held in memory, and has no series."""
LONGEST_NAME = 64
_FAT_SATURATION = frozenset({"fs", "fatsat", "fat", "spir", "spair", "chess"})
"""Words in names of steps; the MRD header has no field for it."""

_log = structlog.get_logger(__name__)


class CollectSeries:
    """Yield every item at once and unchanged, and after the last one the `Series` (a gadget).

    A series is made of acquired, complete magnitude or complex images of one orientation, contrast,
    repetition, phase and set, in order of position; of a slice that came twice, of the later one.
    Slices which are not evenly spaced fall into several series, the largest first. Maps, derived
    and synthetic images are left out.

    Parameters
    ----------
    header : Header
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self._encodings = encodings(header)

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        stacks: dict[tuple[Any, ...], dict[int, Image]] = defaultdict(dict)
        voxels = 0
        for item in items:
            if isinstance(item, Image) and _fit_to_look_at(item) and voxels <= MOST_VOXELS:
                axes = tuple(directions(item.header).round(3).ravel().tolist())
                stack = stacks[*item.key._replace(slice=0), item.data.shape, axes]
                stack[item.key.slice] = item
                voxels += item.data.size
                if voxels > MOST_VOXELS:
                    _log.warning("measurement too large for series", most=MOST_VOXELS)
                    stacks.clear()
            yield item
        name, taken = step_name(self._header), set[str]()
        for images in stacks.values():
            try:
                found = self._series(name, list(images.values()))
            except Exception as error:  # All images are delivered: nothing may fail now.
                _log.error("no series made of the images", exc_info=error)
                continue
            for series in found:
                yield _renamed(series, taken)

    def _series(self, name: str, images: Sequence[Image]) -> list[Series]:
        key = images[0].key
        encoding = self._encodings[key.encoding]
        named = series_name(name, key._asdict())
        return [
            _stacked(named, weighting(self._header, key.contrast), run, encoding)
            for run in _even_runs(images)
        ]


def _fit_to_look_at(image: Image) -> bool:
    return (
        image.role is Role.ACQUIRED
        and image.quantity in ("magnitude", "complex")
        and image.complete
    )


def step_name(header: Header) -> str:
    """Return the protocol's name of a measurement's step, "series" where the header has none."""
    about = header.measurementInformation
    name = (about.protocolName or about.seriesDescription or "") if about else ""
    name = "".join(letter for letter in name if letter.isprintable()).strip()
    return name[:LONGEST_NAME] or "series"


def series_name(step: str, counters: Mapping[str, int]) -> str:
    """Return the name of a stack of a step's images, by their MRD counters."""
    parts = [step]
    for word in ("contrast", "repetition", "phase", "set"):
        if count := counters[word]:
            parts.append(f"{'echo' if word == 'contrast' else word} {count + 1}")
    return " ".join(parts)


def weighting(header: Header, contrast: int = 0) -> str:
    """Return the weighting of a contrast by the sequence's TR, TE and TI.

    Usual ranges of spin echoes at 1.5 and 3 T. An inversion that nulls fat (TI up to 300 ms) makes
    STIR. Fat saturation is known only where the step's name has a word for it.

    Returns
    -------
    str
        "t1", "t2", "t2_fs", "stir" or "pd"; "unknown" of gradient echoes, of measurements with
        several delays, and of all that is neither of these.
    """
    parameters = header.sequenceParameters
    if len(getattr(parameters, "TI", None) or ()) > 1:
        return "unknown"
    tr, te, ti = (
        _time(getattr(parameters, name, None), contrast if name == "TE" else 0)
        for name in ("TR", "TE", "TI")
    )
    if tr is None or te is None or tr < 200:
        return "unknown"
    if ti:
        if ti <= 300 and tr >= 1500:
            return "stir"
        return "t1" if 500 <= ti <= 1200 and te < 40 else "unknown"
    saturated = not _FAT_SATURATION.isdisjoint(_words(step_name(header)))
    if tr < 1200:
        return "t1" if te < 40 and not saturated else "unknown"
    if tr < 1500:
        return "unknown"
    if saturated:
        return "t2_fs" if te >= 30 else "unknown"
    return "t2" if te >= 60 else "pd"


def slab(series: Series) -> Slab:
    """Return the slices of a series as they were scanned.

    Raises
    ------
    ValueError
        Its geometry is none that can be scanned.
    """
    where, (slices, rows, columns) = series.volume, series.volume.shape
    pitch = float(where.spacing[2])
    thickness = min(series.thickness_mm or pitch, pitch)
    middle = where.point((slices - 1) / 2, rows // 2, columns // 2)
    row, column, _ = (tuple(float(v) for v in axis) for axis in where.directions)
    width, height = (float(where.spacing[k] * (columns, rows)[k]) for k in range(2))
    return Slab(
        centre=(float(middle[0]), float(middle[1]), float(middle[2])),
        row=(row[0], row[1], row[2]),
        column=(column[0], column[1], column[2]),
        field_of_view_mm=(width, height),
        matrix=(columns, rows),
        slices=slices,
        thickness_mm=thickness,
        gap_mm=pitch - thickness,
        volumetric=False,
    )


@dataclass(frozen=True)
class _Run:
    """Images in order of position, and the distance between two of them in mm."""

    images: list[Image]
    pitch_mm: float


def _even_runs(images: Sequence[Image]) -> list[_Run]:
    """Split the slices of a stack where their distances change; the largest run first."""
    if images[0].data.shape[0] > 1:  # Slabs of 3D scans are series of their own.
        return [_Run([image], 0.0) for image in images]
    row, column, _ = directions(images[0].header)
    normal = np.cross(row, column)
    at = np.array([np.asarray(image.header["position"], float) @ normal for image in images])
    if not np.isfinite(at).all():
        raise ValueError("expected finite positions of slices")
    order = np.argsort(at, kind="stable")
    distances = np.diff(at[order])
    runs, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and abs(distances[end - 1] - distances[start]) <= (
            EVEN * distances[start]
        ):
            end += 1
        if end - start == 2 and end < len(order) and distances[start] > distances[end - 1]:
            end -= 1  # A slice far from the next ones stands alone.
        pitch = float(np.mean(distances[start : end - 1])) if end - start > 1 else 0.0
        if end - start == 1 or pitch > 0:
            runs.append(_Run([images[k] for k in order[start:end]], pitch))
        start = end
    return sorted(runs, key=lambda run: -len(run.images))


def _stacked(name: str, kind: str, run: _Run, encoding: Encoding) -> Series:
    first = run.images[0]
    data = _magnitudes([image.data for image in run.images], encoding)
    conventional = None
    if any(image.conventional is not None for image in run.images):
        plain = [
            image.data if image.conventional is None else image.conventional for image in run.images
        ]
        conventional = _magnitudes(plain, encoding)
    noise = None
    if all(image.noise_map is not None for image in run.images):
        maps = [noise_on_recon_matrix(image.noise_map, encoding) for image in run.images]
        noise = np.concatenate([_numpy(one) for one in maps])
    about = image_header(first, encoding.recon_fov, 1, 1)
    thickness = encoding.recon_fov[2] / (len(data) // len(run.images))
    where = volume(about, data.shape)
    if first.data.shape[0] == 1:
        where = _stack_volume(run, where, thickness)
    return Series(
        name=name,
        data=data,
        volume=where,
        weighting=kind,
        snr_units=all(image.snr_units for image in run.images),
        last_readout_ns=max(image.last_readout_ns for image in run.images),
        conventional=conventional,
        thickness_mm=thickness,
        noise=noise,
    )


def _stack_volume(run: _Run, one: Volume, thickness: float) -> Volume:
    """Return where the voxels of a stack of slices lie; ``one`` is that of its first."""
    row, column, _ = one.directions
    spacing = np.array([*one.spacing[:2], run.pitch_mm or thickness])
    middle = run.images[len(run.images) // 2]
    return Volume(
        position=np.asarray(middle.header["position"], np.float64),
        directions=np.stack([row, column, np.cross(row, column)]),
        shape=(len(run.images), *one.shape[1:]),
        spacing=spacing,
    )


def _magnitudes(slices: Sequence[Any], encoding: Encoding) -> np.ndarray:
    """Return magnitudes on the recon matrix as they leave, float32 (z, y, x)."""
    return np.concatenate([_numpy(abs(on_recon_matrix(data, encoding))) for data in slices])


def _numpy(values: Any) -> np.ndarray:
    values = np.asarray(array_api_compat.to_device(values, "cpu"))
    return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.float32, copy=False)


def _renamed(series: Series, taken: set[str]) -> Series:
    """Give a series a name of its own among those of its measurement."""
    name, count = series.name, 1
    while name in taken:
        count += 1
        name = f"{series.name} stack {count}"
    taken.add(name)
    return replace(series, name=name)


def _time(values: Any, number: int) -> float | None:
    times = [float(value) for value in values or ()]
    return times[min(number, len(times) - 1)] if times else None


def _words(name: str) -> set[str]:
    return set("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
