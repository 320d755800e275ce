"""Sorting: readouts become frames, one for each image, and calibration lines of each slice.

A frame leaves when nothing more of it can come:

- every line within the header's encoding limits is there, in all averages; or
- the scanner says so (LAST_IN_SLICE with the last average, LAST_IN_REPETITION,
  LAST_IN_MEASUREMENT), and its sampling has no holes which a late readout may yet fill; or
- the next repetition of its slice is well under way; or
- the stream ends, or memory does (`gadgets.frame_memory`).

Of a line that comes twice the first one counts; a line with a NaN or Inf is not taken. The averages
of a line are summed, and a frame holds the mean of each line times one factor that makes the mean
noise variance of its lines 1: sqrt(averages) where all lines have as many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import structlog
from array_api_compat import array_namespace

from gadgets.frame_memory import MOST_BYTES, frame_bytes
from gadgets.grid import Grid
from gadgets.items import Calibration, Frame, FrameKey
from gadgets.lines import CalibrationLines, FrameLines, Rows
from gadgets.noise import NoiseState
from gadgets.oversampling import HybridBlock
from protocols.header import Header, encodings
from protocols.mrd_types import NOT_IMAGING, AcquisitionFlag

_log = structlog.get_logger(__name__)

_CALIBRATION = int(AcquisitionFlag.IS_PARALLEL_CALIBRATION)
_CALIBRATION_AND_IMAGING = int(AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)
_OTHER_DATA = int(NOT_IMAGING) & ~_CALIBRATION
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")

CENTRE_LINES = 32
"""Around the k-space centre of an image that has no calibration lines of its own."""


class Sort:
    """Turn `HybridBlock` into `Calibration` and `Frame` (a gadget).

    Whether samples are whitened is learnt from `NoiseState`, which passes on. Calibration lines are
    those of the first frame of a slice and repetition that has any; a repetition without takes the
    latest of its slice. Where a slice has none at all, the centre of its image stands for them, as
    soon as it has come. With ``calibrationMode`` "embedded" or "interleaved" they are lines of the
    image too.

    Parameters
    ----------
    header : Header
    """

    def __init__(self, header: Header) -> None:
        self._spaces = tuple(
            (Grid(encoding), encoding.limit("average").maximum, _calibration_mode(described))
            for encoding, described in zip(encodings(header), header.encoding, strict=True)
        )

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        spaces = [_Space(n, *space) for n, space in enumerate(self._spaces)]
        for item in items:
            if isinstance(item, HybridBlock):
                space = spaces[int(item.headers["encoding_space_ref"][0])]
                yield from space.take(item)
                if (item.headers["flags"] & int(AcquisitionFlag.LAST_IN_MEASUREMENT)).any():
                    for space in spaces:
                        yield from space.end()
                continue
            if isinstance(item, NoiseState):
                for space in spaces:
                    space.snr_units = item.whitened
            yield item
        for space in spaces:
            yield from space.finish()


def _calibration_mode(encoding: Any) -> str:
    mode = encoding.parallelImaging.calibrationMode if encoding.parallelImaging else None
    return str(getattr(mode, "value", mode))


class _Space:
    """The frames of one encoding space."""

    def __init__(self, number: int, grid: Grid, last_average: int, calibration_mode: str) -> None:
        self.snr_units = False
        self._number = number
        self._grid = grid
        self._last_average = last_average
        self._separate = calibration_mode == "separate"
        self._same_contrast = calibration_mode in ("embedded", "interleaved")
        self._frames: dict[FrameKey, FrameLines] = {}
        self._sent: set[FrameKey] = set()
        self._centred: set[tuple[int, int]] = set()
        self._calibrations: dict[int, dict[int, CalibrationLines]] = defaultdict(dict)
        self._coils = 0
        self._count = 0
        self._dropped: Counter[str] = Counter()

    def take(self, block: HybridBlock) -> Iterator[Calibration | Frame]:
        """Take readouts in; yield what they complete."""
        rows = self._usable(block)
        touched: set[FrameKey] = set()
        for (*counters, _), some in rows[rows.calibration].groups():
            key = FrameKey(self._number, *counters)
            of_slice = self._calibrations[key.slice]
            if key.repetition not in of_slice:
                of_slice[key.repetition] = CalibrationLines(self._grid.shape, key)
                for old in [old for old in of_slice if old < key.repetition - 1]:
                    del of_slice[old]
            lines = of_slice[key.repetition]
            if lines.key == key and not lines.closed:
                lines.add(some)
        for (*counters, average), some in rows[rows.imaging].groups():
            key = FrameKey(self._number, *counters)
            if key in self._sent:
                self._dropped["came after their image had left"] += len(some)
                continue
            if key not in self._frames:
                yield from self._make_room(some)
                self._frames[key] = FrameLines(self._grid.shape, some)
            self._frames[key].add(some, average, self._grid.centre)
            touched.add(key)
        touched |= self._ended(block.headers)
        for key in touched & self._frames.keys():
            yield from self._centre(key)
        for number in {*rows.counters[:, 0].tolist()}:
            for lines in [*self._calibrations[number].values()]:
                yield from self._calibration(lines)
        for key in [key for key in self._frames if key in touched]:
            if key in self._frames and self._is_whole(self._frames[key]):
                yield from self._send(key)
        for key in touched:
            if key in self._frames:
                yield from self._send_earlier(key, _has_moved_on)

    def _make_room(self, some: Rows) -> Iterator[Calibration | Frame]:
        """Send the oldest frames as they are, where one more would be too many for the memory."""
        _, coils, samples = some.samples.shape
        size = frame_bytes(coils, *self._grid.shape, samples)
        while self._frames and (len(self._frames) + 1) * size > MOST_BYTES:
            yield from self._send(next(iter(self._frames)))

    def end(self) -> Iterator[Calibration | Frame]:
        """Take note that the scanner has sent everything."""
        for key, lines in list(self._frames.items()):
            lines.ended = True
            if key in self._frames and self._is_whole(lines):
                yield from self._send(key)

    def finish(self) -> Iterator[Calibration | Frame]:
        """Yield what is left when the stream has ended."""
        while self._frames:
            yield from self._send(next(iter(self._frames)))
        for reason, count in (+self._dropped).items():
            _log.warning("readouts dropped", reason=reason, readouts=count, encoding=self._number)

    def _usable(self, block: HybridBlock) -> Rows:
        headers, samples = block.headers, block.samples
        idx, flags = headers["idx"], headers["flags"]
        xp = array_namespace(samples)
        kz, ky, inside = self._grid.lines(idx)
        # The readout transform spreads a bad sample over its line.
        finite = xp.isfinite(xp.sum(samples, axis=(1, 2)))
        only, both, other = (
            (flags & bits) != 0 for bits in (_CALIBRATION, _CALIBRATION_AND_IMAGING, _OTHER_DATA)
        )
        count = len(block)
        rows = Rows(
            headers=headers,
            samples=samples,
            readout_mask=block.readout_mask,
            arrival_ns=block.arrival_ns if len(block.arrival_ns) else np.zeros(count, np.int64),
            number=self._count + np.arange(count),
            counters=np.stack([idx[name].astype(np.int64) for name in _COUNTERS], axis=1),
            kz=kz,
            ky=ky,
            good=np.fromiter(finite.tolist(), bool, count),
            imaging=(~only | both | self._same_contrast) & ~other,
            calibration=(only | both) & ~other,
        )
        self._count += count
        self._coils = self._coils or samples.shape[1]
        if samples.shape[1] != self._coils:
            self._dropped[f"have {samples.shape[1]} coils, not {self._coils}"] += count
            return rows[:0]
        used = rows.imaging | rows.calibration
        self._dropped["lie outside the encoded matrix"] += int((used & ~inside).sum())
        self._dropped["have a sample that is not finite"] += int((used & ~rows.good).sum())
        return rows[used & inside]

    def _ended(self, headers: np.ndarray) -> set[FrameKey]:
        """Mark frames of which the scanner says that they have ended; return their keys."""
        flags, idx = headers["flags"], headers["idx"]
        last_in_slice = (flags & int(AcquisitionFlag.LAST_IN_SLICE)) != 0
        ended = set()
        for row in idx[last_in_slice & (idx["average"] >= self._last_average)]:
            lines = self._frames.get(FrameKey(self._number, *(int(row[n]) for n in _COUNTERS[:5])))
            if lines is None or not self._grid.has_all_partitions(lines.arrived):
                continue
            # The flag may stand once for all contrasts (phases, sets), or once for each of them.
            ended |= {
                key
                for key, other in self._frames.items()
                if (key.slice, key.repetition) == (row["slice"], row["repetition"])
                and len(other) >= len(lines)
            }
        last_in_repetition = (flags & int(AcquisitionFlag.LAST_IN_REPETITION)) != 0
        over = set(idx["repetition"][last_in_repetition].tolist())
        ended |= {key for key in self._frames if key.repetition in over}
        for key in ended:
            self._frames[key].ended = True
        return ended

    def _is_whole(self, lines: FrameLines) -> bool:
        if self._has_everything(lines):
            return True
        return lines.ended and not self._grid.has_holes(lines.arrived)

    def _has_everything(self, lines: FrameLines) -> bool:
        wanted = self._grid.lines_within_limits * (self._last_average + 1)
        return sum(int(seen[self._grid.box].sum()) for seen in lines.seen.values()) >= wanted

    def _send_earlier(
        self, key: FrameKey, condition: Callable[[FrameLines, FrameLines], bool]
    ) -> Iterator[Calibration | Frame]:
        new = self._frames[key]
        for old in sorted(self._frames):
            same = (
                old._replace(repetition=key.repetition) == key and old.repetition < key.repetition
            )
            if same and old in self._frames and condition(self._frames[old], new):
                yield from self._send(old)

    def _calibration(self, lines: CalibrationLines) -> Iterator[Calibration]:
        """Yield the calibration of a slice if it has just become complete."""
        if lines.closed:
            return
        frame = self._frames.get(lines.key)
        imaging = any(key.slice == lines.key.slice for key in self._frames)
        whole = frame is not None and self._grid.encloses(frame.arrived, lines.arrived)
        if whole or (self._separate and imaging):
            yield from lines.close()

    def _centre(self, key: FrameKey) -> Iterator[Calibration]:
        """Yield the centre of an image whose slice has no calibration lines of its own.

        As soon as it has come, so that sensitivity maps need not wait for the last line.
        """
        nz, ny = self._grid.shape
        place = key.slice, key.repetition
        if nz > 1 or place in self._centred or self._calibrations.get(key.slice):
            return
        half = min(CENTRE_LINES, ny) // 2
        window = slice(ny // 2 - half, ny // 2 + half)
        lines = self._frames[key]
        averages = lines.averages[0, window]
        if averages[0] > 0 and (averages == averages[0]).all():
            self._centred.add(place)
            yield Calibration(lines.kspace[:, :, window].copy(), key)

    def _send(self, key: FrameKey) -> Iterator[Calibration | Frame]:
        yield from self._send_earlier(key, lambda old, new: True)
        of_slice = self._calibrations[key.slice]
        calibration = of_slice.get(key.repetition) or of_slice.get(max(of_slice, default=0))
        if calibration and not calibration.closed:
            yield from calibration.close()
        lines = self._frames.pop(key)
        self._sent.add(key)
        self._dropped["came twice"] += lines.duplicates
        mask = lines.averages > 0
        if not mask.any():
            _log.warning("image lost", reason="none of its lines is finite", key=key._asdict())
            return
        if lines.ended or self._has_everything(lines):
            complete = not self._grid.has_holes(mask)
        else:
            complete = self._grid.covers_limits(mask)
        own = calibration if calibration and calibration.key == key else None
        extra = own.n_not_imaging if own and not self._same_contrast else 0
        yield Frame(
            kspace=lines.mean(),
            mask=mask,
            key=key,
            header=lines.header,
            readout_mask=lines.readout_mask,
            calibration=calibration.kspace if calibration else None,
            n_readouts=lines.n_readouts + extra,
            last_readout_ns=max(lines.last_ns, own.last_ns if own else 0),
            snr_units=self.snr_units,
            complete=complete,
        )


def _has_moved_on(old: FrameLines, new: FrameLines) -> bool:
    """Return whether the scanner has gone from one repetition to a later one."""
    return old.last_row < new.first_row and len(new) >= max(2, len(old) // 8)
