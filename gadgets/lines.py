"""Lines of k-space as they come in: those of one image, and those of one slice's calibration.

Of a line that comes twice in one average the first one counts; a line with a NaN or Inf counts as
come, but is not taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import structlog
from array_api_compat import array_namespace

from gadgets.calibration import sampled_centre
from gadgets.items import Calibration, FrameKey

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rows:
    """Readouts with their place and use, all (N, ...); indexed like an array."""

    headers: np.ndarray
    samples: Any
    readout_mask: np.ndarray
    arrival_ns: np.ndarray
    number: np.ndarray
    counters: np.ndarray
    kz: np.ndarray
    ky: np.ndarray
    good: np.ndarray
    imaging: np.ndarray
    calibration: np.ndarray

    def __len__(self) -> int:
        return len(self.kz)

    def __getitem__(self, which: Any) -> "Rows":
        return Rows(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def groups(self) -> Iterator[tuple[tuple[int, ...], "Rows"]]:
        """Yield the readouts of each image and average, with their counters."""
        kinds, kind_of = np.unique(self.counters, axis=0, return_inverse=True)
        for number, kind in enumerate(kinds.tolist()):
            alone = len(kinds) == 1
            yield tuple(kind), self if alone else self[kind_of.reshape(-1) == number]


class _Lines:
    """What images and calibrations have in common.

    Attributes
    ----------
    seen : dict of bool (kz, ky)
        Lines that have come, for each average.
    averages : uint16 (kz, ky)
        How many good ones.
    n_readouts, duplicates : int
        Good lines taken; lines not taken because they had come before.
    last_ns : int
        Arrival of the latest line taken.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.seen: dict[int, np.ndarray] = {}
        self.averages = np.zeros(shape, np.uint16)
        self.n_readouts = 0
        self.duplicates = 0
        self.last_ns = 0

    @property
    def arrived(self) -> Any:
        """Lines that have come, good or not, in any average: bool (kz, ky)."""
        return np.logical_or.reduce(list(self.seen.values()))

    def take(self, rows: Rows, average: int) -> Rows:
        """Note the lines that have come; return those that are new and good."""
        seen = self.seen.setdefault(average, np.zeros(self.averages.shape, bool))
        _, first = np.unique(rows.kz * seen.shape[1] + rows.ky, return_index=True)
        new = rows[np.sort(first)]
        new = new[~seen[new.kz, new.ky]]
        self.duplicates += len(rows) - len(new)
        seen[new.kz, new.ky] = True
        new = new[new.good]
        self.n_readouts += len(new)
        self.last_ns = max(self.last_ns, int(new.arrival_ns.max(initial=0)))
        self.averages[new.kz, new.ky] += 1
        return new


class FrameLines(_Lines):
    """An image on its way.

    Parameters
    ----------
    shape : tuple of 2 int
        kz, ky of the encoded matrix.
    rows : Rows
        The first ones.

    Attributes
    ----------
    kspace : complex64 (coil, kz, ky, x) or None
        Sum over averages.
    header : ACQUISITION_HEADER (scalar)
        Of the line nearest to the k-space centre; ``readout_mask`` (kx) is of the same line.
    ended : bool
        The scanner has said so.
    first_row, last_row : int
        Numbers of its first and its latest readout in the stream.
    """

    def __init__(self, shape: tuple[int, int], rows: Rows) -> None:
        super().__init__(shape)
        self.kspace: Any = None
        self.header: Any = None
        self.readout_mask = np.zeros(0, bool)
        self.ended = False
        self.first_row = self.last_row = int(rows.number[0])
        self._distance = np.inf

    def __len__(self) -> int:
        """Lines that have come, every average counted."""
        return sum(int(seen.sum()) for seen in self.seen.values())

    def add(self, rows: Rows, average: int, centre: tuple[int, int]) -> None:
        self.last_row = int(rows.number[-1])
        distance = (rows.kz - centre[0]) ** 2 + (rows.ky - centre[1]) ** 2
        nearest = int(np.argmin(distance))
        if distance[nearest] < self._distance:
            self._distance = distance[nearest]
            self.header = rows.headers[nearest].copy()
            self.readout_mask = rows.readout_mask[nearest].copy()
        rows = self.take(rows, average)
        if not len(rows):
            return
        xp = array_namespace(rows.samples)
        if self.kspace is None:
            coils, x = rows.samples.shape[1:]
            shape = (coils, *self.averages.shape, x)
            self.kspace = xp.zeros(shape, dtype=rows.samples.dtype)
        lines = xp.permute_dims(rows.samples, (1, 0, 2))
        if (self.averages[rows.kz, rows.ky] > 1).any():
            lines = lines + self.kspace[:, rows.kz, rows.ky]
        self.kspace[:, rows.kz, rows.ky] = lines

    def mean(self) -> Any:
        """Return the mean over averages, scaled to a mean noise variance of 1."""
        averages = self.averages[self.averages > 0].astype(np.float64)
        if (averages > 1).any():
            xp = array_namespace(self.kspace)
            factor = 1 / np.sqrt(np.mean(1 / averages))
            weight = (factor / np.maximum(self.averages, 1)).astype(np.float32)
            self.kspace *= xp.asarray(weight)[None, :, :, None]
        return self.kspace


class CalibrationLines(_Lines):
    """The calibration lines of one slice on their way."""

    def __init__(self, shape: tuple[int, int], key: FrameKey) -> None:
        super().__init__(shape)
        self.key = key
        self.kspace: Any = None
        self.closed = False
        self.n_not_imaging = 0
        self._parts: list[Rows] = []

    def add(self, rows: Rows) -> None:
        """Add lines; those of the first average will do."""
        rows = self.take(rows, 0)
        self.n_not_imaging += int((~rows.imaging).sum())
        self._parts.append(rows)

    def close(self) -> Iterator[Calibration]:
        """Put the lines together; nothing where there is no block around the k-space centre."""
        self.closed = True
        parts, self._parts = self._parts, []
        window = sampled_centre(self.averages > 0)
        if window is None:
            _log.warning("calibration lines not used", reason="the k-space centre is missing")
            return
        xp = array_namespace(parts[0].samples)
        coils, x = parts[0].samples.shape[1:]
        z, y = window
        block = (coils, z.stop - z.start, y.stop - y.start, x)
        self.kspace = xp.zeros(block, dtype=parts[0].samples.dtype)
        for part in parts:
            inside = (part.kz >= z.start) & (part.kz < z.stop)
            part = part[inside & (part.ky >= y.start) & (part.ky < y.stop)]
            lines = xp.permute_dims(part.samples, (1, 0, 2))
            self.kspace[:, part.kz - z.start, part.ky - y.start] = lines
        yield Calibration(self.kspace, self.key)
