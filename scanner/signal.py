"""Signals of the tissues under a sequence, water and fat apart.

Turbo spin echo: saturation recovery, optional inversion, then the echo train by extended phase
graphs (`scanner.epg`). Spoiled gradient echo: Ernst steady state with T2* decay. Magnetisation
transfer is left out.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from scanner.epg import cpmg_echoes
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T, GradientEcho, Sequence, TurboSpinEcho

FAT_SHIFT_PPM = np.array([-3.80, -3.40, -2.60, -1.94, -0.39, 0.60])
"""Six-peak fat spectrum relative to water (ISMRM fat-water challenge, 2012)."""
FAT_AMPLITUDE = np.array([0.0870, 0.6930, 0.1280, 0.0040, 0.0390, 0.0480])


class Signals(NamedTuple):
    """Transverse magnetisation of undiluted water and undiluted fat of each tissue.

    Attributes
    ----------
    water, fat : float64 (tissue, echo)
        In units of the proton density of CSF. Chemical shift and field phase are not included:
        see `fat_phase`.
    """

    water: np.ndarray
    fat: np.ndarray


def fat_phase(times_ms: np.ndarray, field_t: float) -> np.ndarray:
    """Return the fat signal relative to water at a time after in-phase, complex128 (time)."""
    shift_hz = FAT_SHIFT_PPM * GYROMAGNETIC_MHZ_PER_T * field_t
    turns = np.asarray(times_ms)[..., None] * 1e-3 * shift_hz
    return np.asarray(np.exp(2j * np.pi * turns) @ (FAT_AMPLITUDE / FAT_AMPLITUDE.sum()))


def steady_state_before_train(t1_ms: np.ndarray, sequence: TurboSpinEcho) -> np.ndarray:
    """Return the longitudinal magnetisation before each excitation, (tissue).

    Every train leaves none behind (saturation); it recovers until the next excitation, with the
    inversion ``ti_ms`` before that where the sequence has one.
    """
    recovery = sequence.tr_ms - sequence.echo_train_length * sequence.echo_spacing_ms
    if sequence.ti_ms is None:
        return -np.expm1(-recovery / t1_ms)
    before = -np.expm1(-(recovery - sequence.ti_ms) / t1_ms)
    inverted = -sequence.inversion_efficiency * before
    return 1 - (1 - inverted) * np.exp(-sequence.ti_ms / t1_ms)


def spoiled_steady_state(t1_ms: np.ndarray, tr_ms: float, flip_deg: float) -> np.ndarray:
    """Return the transverse magnetisation just after excitation (Ernst and Anderson 1966)."""
    e1 = np.exp(-tr_ms / t1_ms)
    flip = np.deg2rad(flip_deg)
    return np.asarray(np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1))


def _species(
    sequence: Sequence, t1_ms: np.ndarray, t2_ms: np.ndarray, t2star_ms: np.ndarray
) -> np.ndarray:
    if isinstance(sequence, GradientEcho):
        start = spoiled_steady_state(t1_ms, sequence.tr_ms, sequence.flip_deg)
        decay = np.exp(-np.asarray(sequence.te_ms) / t2star_ms[:, None])
        return np.asarray(start[:, None] * decay)
    train = cpmg_echoes(t1_ms, t2_ms, np.array(sequence.refocusing_deg), sequence.echo_spacing_ms)
    return np.asarray(steady_state_before_train(t1_ms, sequence)[:, None] * train)


def signals(sequence: Sequence, tissues: Iterable[Any]) -> Signals:
    """Return the signals of all tissues under a sequence.

    Parameters
    ----------
    sequence : TurboSpinEcho or GradientEcho
    tissues : iterable of scanner.tissues.Tissue
        A tissue without relaxation times (0: air) gives no signal.
    """
    tissues = list(tissues)

    def column(name: str) -> np.ndarray:
        return np.array([getattr(tissue, name) for tissue in tissues], float)

    tiny = 1e-3
    t2star = np.maximum(column("t2star_ms"), tiny)
    water, fat = (
        _species(
            sequence,
            np.maximum(column(prefix + "t1_ms"), tiny),
            np.maximum(column(prefix + "t2_ms"), tiny),
            t2star,
        )
        * column("pd")[:, None]
        for prefix in ("", "fat_")
    )
    return Signals(water, fat)


def compress(echoes: np.ndarray, tolerance: float = 2e-3) -> tuple[np.ndarray, np.ndarray]:
    """Factor signal evolutions into few components by singular value decomposition.

    Parameters
    ----------
    echoes : (tissue, echo)
    tolerance : float
        Largest root-mean-square error relative to the whole.

    Returns
    -------
    weights : float32 (tissue, component)
    evolutions : float32 (component, echo)
        ``weights @ evolutions`` approximates ``echoes``.
    """
    u, s, vh = np.linalg.svd(echoes, full_matrices=False)
    rest = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1] / max(np.sum(s**2), 1e-30))
    keep = max(1, int(np.sum(rest > tolerance)))
    return (u[:, :keep] * s[:keep]).astype(np.float32), vh[:keep].astype(np.float32)
