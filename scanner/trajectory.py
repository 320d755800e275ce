"""Which lines are acquired, in which order and when: sampling patterns and line ordering.

`lines` says which phase-encode lines a `Sampling` takes, `echo_of_line` which echo of a turbo spin
echo train each of them gets, and `schedule` lays all readouts of a measurement out in time.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from scanner.sequence import Protocol, Sampling, TurboSpinEcho


class Lines(NamedTuple):
    """Lines of one image in ascending order, partition slowest.

    Attributes
    ----------
    ky, kz : int64 (line)
        Rows of the encoded matrix; the k-space centre is at ``n // 2``.
    imaging, calibration : bool (line)
        A line may be both.
    """

    ky: np.ndarray
    kz: np.ndarray
    imaging: np.ndarray
    calibration: np.ndarray


def _centre_block(n: int, wanted: int) -> np.ndarray:
    start = n // 2 - min(wanted, n) // 2
    inside = np.zeros(n, bool)
    inside[start : start + min(wanted, n)] = True
    return inside


def lines(ny: int, nz: int, sampling: Sampling, seed: int = 0) -> Lines:
    """Return the lines of an encoded matrix that a sampling takes.

    Regular undersampling runs through the k-space centre; with ``caipi_shift`` the partitions move
    from one acquired phase line to the next (Breuer et al., Magn Reson Med 55 (2006) 549).
    Random undersampling draws lines with a density that falls with the square of the distance from
    the centre; its calibration block is imaged too.

    Parameters
    ----------
    ny, nz : int
        Encoded matrix along phase and partition.
    sampling : Sampling
    seed : int
        Of the random pattern.
    """
    ry, rz = sampling.acceleration
    y, z = np.arange(ny) - ny // 2, np.arange(nz) - nz // 2
    block = _centre_block(ny, sampling.calibration[0]) & _centre_block(
        nz, sampling.calibration[1] or (sampling.calibration[0] and nz)
    ).reshape(-1, 1)
    if sampling.random:
        distance = np.hypot(y / max(ny / 2, 1), (z / max(nz / 2, 1))[:, None])
        density = np.clip(1 - distance, 0.02, None) ** 2 * ~block
        wanted = min(max(round(ny * nz / (ry * rz)) - int(block.sum()), 0), ny * nz - block.sum())
        drawn = np.random.default_rng(seed).choice(
            ny * nz, wanted, replace=False, p=density.ravel() / density.sum()
        )
        imaging = block.copy()
        imaging.ravel()[drawn] = True
    else:
        on_grid = y % ry == 0
        imaging = on_grid & ((z[:, None] - sampling.caipi_shift * (y // ry)) % rz == 0)
    first = ny - round(ny * sampling.phase_partial_fourier)
    imaging[:, :first] = False
    block[:, :first] = False
    kz, ky = np.nonzero(imaging | block)
    return Lines(ky, kz, imaging[kz, ky], block[kz, ky])


def echo_of_line(acquired: np.ndarray, ny: int, centre_echo: int, train: int) -> np.ndarray:
    """Return the echo that each phase-encode line gets, int64 (ny).

    Linear ordering, turned until the k-space centre lies in the middle of the band of lines that
    ``centre_echo`` takes. Lines not acquired get the echo of the acquired line nearest to them.

    Parameters
    ----------
    acquired : int (line)
        Acquired rows, ascending.
    ny : int
    centre_echo, train : int
        Echo that carries the k-space centre, and echoes in the train.
    """
    rank = np.arange(len(acquired))
    centre = np.searchsorted(acquired, ny // 2)
    band = np.floor((rank - centre) * train / len(acquired) + centre_echo + 0.5).astype(int)
    echoes = band % train
    rows = np.arange(ny)
    after = np.clip(np.searchsorted(acquired, rows), 1, len(acquired) - 1)
    nearest = after - (rows - acquired[after - 1] <= acquired[after] - rows)
    return np.asarray(echoes[nearest])


@dataclass(frozen=True)
class Schedule:
    """All imaging and calibration readouts of a measurement in the order of acquisition.

    Attributes
    ----------
    line : int64 (N)
        Index into the `Lines` of an image.
    image : int64 (N)
        Slice; 0 for a slab.
    contrast, segment, average, repetition : int64 (N)
        ``segment`` is the echo of a turbo spin echo train, ``contrast`` that of a gradient echo.
    imaging, calibration : bool (N)
    time_s : float64 (N)
        Centre of the echo, from the first excitation.
    duration_s : float
        Of the measurement: repetition time times excitations of a slice.
    """

    line: np.ndarray
    image: np.ndarray
    contrast: np.ndarray
    segment: np.ndarray
    average: np.ndarray
    repetition: np.ndarray
    imaging: np.ndarray
    calibration: np.ndarray
    time_s: np.ndarray
    duration_s: float

    def __len__(self) -> int:
        return len(self.line)


def interleaved(slices: int) -> np.ndarray:
    """Return slices in the order of excitation: 0, 2, 4, ..., 1, 3, ..."""
    return np.concatenate([np.arange(0, slices, 2), np.arange(1, slices, 2)])


def _shots(members: np.ndarray, echoes: np.ndarray, train: int) -> np.ndarray:
    """Deal lines out to shots, int64 (shot, echo): -1 where an echo of a shot stays empty."""
    counts = np.bincount(echoes, minlength=train)
    table = np.full((counts.max(initial=0), train), -1)
    for echo in range(train):
        table[: counts[echo], echo] = members[echoes == echo]
    return table


def schedule(protocol: Protocol, taken: Lines, echoes: np.ndarray) -> Schedule:
    """Lay out all readouts of a measurement in time.

    Loops from the outside: repetition, average, shot, slice (interleaved), echo. With separate
    calibration its lines come first, once, and are not part of the image.

    Parameters
    ----------
    protocol : Protocol
    taken : Lines
    echoes : int (ny)
        Of `echo_of_line`; not used by gradient echoes.

    Raises
    ------
    ValueError
        Where the trains of all slices do not fit into the repetition time.
    """
    sequence, sampling = protocol.sequence, protocol.sampling
    order = interleaved(1 if protocol.geometry.volumetric else protocol.geometry.slices)
    separate = sampling.calibration_mode == "separate" and bool(taken.calibration.any())
    every = np.arange(len(taken.ky))
    if isinstance(sequence, TurboSpinEcho):
        offsets = (np.arange(sequence.echo_train_length) + 1) * sequence.echo_spacing_ms
        busy = offsets[-1] + sequence.echo_spacing_ms / 2
        lead_ms = sequence.ti_ms or 0.0

        def shots_of(members: np.ndarray) -> np.ndarray:
            return _shots(members, echoes[taken.ky[members]], sequence.echo_train_length)
    else:
        offsets = np.asarray(sequence.te_ms)
        busy = offsets[-1] + 500 / sequence.bandwidth_hz_per_pixel
        lead_ms = 0.0

        def shots_of(members: np.ndarray) -> np.ndarray:
            return np.repeat(members[:, None], len(offsets), axis=1)

    if busy > sequence.tr_ms / len(order):
        raise ValueError(
            f"TR of {sequence.tr_ms} ms is too short for {len(order)} slices "
            f"of {busy:.1f} ms each; lengthen TR or take fewer slices or echoes"
        )
    image_shots = shots_of(every[taken.imaging] if separate else every)
    reference_shots = shots_of(every[taken.calibration]) if separate else image_shots[:0]
    passes = [(reference_shots, 0, 0)] + [
        (image_shots, average, repetition)
        for repetition in range(sampling.repetitions)
        for average in range(sampling.averages)
    ]
    parts, shots_before = [], 0
    for number, (shots, average, repetition) in enumerate(passes):
        shot, position, echo = np.meshgrid(
            np.arange(len(shots)), np.arange(len(order)), np.arange(len(offsets)), indexing="ij"
        )
        line = np.broadcast_to(shots[:, None, :], shot.shape)
        real = line >= 0
        line, shot, position, echo = line[real], shot[real], position[real], echo[real]
        zero = np.zeros_like(line)
        is_reference = separate and number == 0
        is_train = isinstance(sequence, TurboSpinEcho)
        start_ms = (shots_before + shot + position / len(order)) * sequence.tr_ms + lead_ms
        parts.append(
            {
                "line": line,
                "image": order[position],
                "contrast": zero if is_train else echo,
                "segment": echo if is_train else zero,
                "average": zero + average,
                "repetition": zero + repetition,
                "imaging": taken.imaging[line] & (not is_reference),
                "calibration": taken.calibration[line] & (is_reference or not separate),
                "time_s": (start_ms + offsets[echo]) * 1e-3,
            }
        )
        shots_before += len(shots)
    columns = {
        f.name: np.concatenate([part[f.name] for part in parts])
        for f in fields(Schedule)
        if f.name != "duration_s"
    }
    return Schedule(**columns, duration_s=shots_before * sequence.tr_ms * 1e-3)
