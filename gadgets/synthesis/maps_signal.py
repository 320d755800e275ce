"""What a multi-delay multi-echo measurement would see of a tissue: its signal equations.

A saturation pulse, a delay, then a turbo spin echo train which is read at several effective echo
times (QRAPMASTER: Warntjes et al., Magn Reson Med 60 (2008) 320-329). The longitudinal part is
Warntjes' equation for an excitation of 90 degrees; the transverse part is the echo train by
extended phase graphs (Hennig, Concepts Magn Reson 3 (1991) 125-143), because refocusing pulses of
less than 180 degrees make echoes that decay more slowly than exp(-TE/T2).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gadgets.synthesis.marks import Unavailable
from protocols.header import Header

SATURATION = "SaturationFlipAngle_deg"
"""User parameter of the MRD header."""

T1_MS = np.geomspace(40.0, 6000.0, 64)
T2_MS = np.geomspace(4.0, 3000.0, 64)
EFFICIENCY = np.linspace(0.6, 1.4, 17)
"""Nodes of the table of signals. Linear interpolation between them is good to 0.2 %."""


@dataclass(frozen=True)
class Acquisition:
    """Timing of a multi-delay multi-echo measurement.

    Attributes
    ----------
    delays_ms, te_ms : tuple of float
        Of each contrast: from saturation to excitation, and the effective echo time.
    tr_ms : float
        From saturation to saturation.
    saturation_deg, refocusing_deg : float
        Nominal flip angles.
    echo_spacing_ms : float
    echo_train : int
        Refocusing pulses after an excitation.

    Raises
    ------
    Unavailable
        Delays or echo times are too few to tell relaxation times, or do not fit into TR.
    """

    delays_ms: tuple[float, ...]
    te_ms: tuple[float, ...]
    tr_ms: float
    saturation_deg: float
    refocusing_deg: float
    echo_spacing_ms: float
    echo_train: int

    def __post_init__(self) -> None:
        if len(self.delays_ms) != len(self.te_ms):
            raise Unavailable(
                "relaxation maps: expected a delay (TI) and an echo time (TE) of every contrast,"
                f" got {len(self.delays_ms)} and {len(self.te_ms)}"
            )
        if len(set(self.delays_ms)) < 3 or len(set(self.te_ms)) < 2:
            raise Unavailable(
                "relaxation maps: expected 3 or more delays and 2 or more echo times, got delays"
                f" {sorted(set(self.delays_ms))} ms and echo times {sorted(set(self.te_ms))} ms"
            )
        times = (*self.delays_ms, *self.te_ms, self.echo_spacing_ms, self.echo_train)
        if not all(0 < time < np.inf for time in times):
            raise Unavailable(f"relaxation maps: expected positive times, got {times}")
        if self.tr_ms < max(self.delays_ms) + self.train_ms:
            raise Unavailable(
                f"relaxation maps: the longest delay ({max(self.delays_ms):g} ms) and the echo"
                f" train ({self.train_ms:g} ms) do not fit into TR = {self.tr_ms:g} ms"
            )

    @classmethod
    def of(cls, header: Header) -> "Acquisition":
        """Return that of an MRD header: TE and TI say both times of each contrast.

        Raises
        ------
        Unavailable
            The header is not that of a multi-delay multi-echo measurement: what is missing.
        """
        parameters = header.sequenceParameters
        doubles = header.userParameters.userParameterDouble if header.userParameters else []
        saturation = [item.value for item in doubles if item.name == SATURATION]
        names = ("TR", "TE", "TI", "flipAngle_deg", "echo_spacing")
        values = {name: list(getattr(parameters, name, None) or []) for name in names}
        missing = [name for name in names if not values[name]]
        if not saturation:
            missing.append(f"user parameter {SATURATION}")
        if header.encoding[0].echoTrainLength is None:
            missing.append("echoTrainLength")
        if missing:
            raise Unavailable(f"relaxation maps: the MRD header has no {', '.join(missing)}")
        try:
            return cls(
                delays_ms=tuple(float(value) for value in values["TI"]),
                te_ms=tuple(float(value) for value in values["TE"]),
                tr_ms=float(values["TR"][0]),
                saturation_deg=float(saturation[0]),
                refocusing_deg=float(values["flipAngle_deg"][0]),
                echo_spacing_ms=float(values["echo_spacing"][0]),
                echo_train=int(header.encoding[0].echoTrainLength),
            )
        except (TypeError, ValueError) as error:  # What the schema cannot read stays text.
            raise Unavailable(f"relaxation maps: unreadable times: {error}") from error

    @property
    def train_ms(self) -> float:
        return self.echo_train * self.echo_spacing_ms

    @property
    def echoes(self) -> np.ndarray:
        """Index in the train of the echo that each contrast shows, int64 (contrast)."""
        echo = np.rint(np.array(self.te_ms) / self.echo_spacing_ms).astype(int) - 1
        return np.clip(echo, 0, self.echo_train - 1)


def saturation_recovery(
    t1_ms: Any, efficiency: Any, delay_ms: Any, acquisition: Acquisition
) -> np.ndarray:
    """Return the longitudinal magnetisation at the excitation; equilibrium is 1.

    The echo train leaves none behind; it recovers until the next saturation pulse, which keeps the
    cosine of its flip angle of it (Warntjes et al. 2008, equation 2 with an excitation of 90
    degrees).

    Parameters
    ----------
    t1_ms, efficiency, delay_ms : float arrays that broadcast
        ``efficiency`` is the true over the nominal flip angle (B1).
    acquisition : Acquisition
    """
    kept = np.cos(np.deg2rad(acquisition.saturation_deg) * efficiency)
    before = -np.expm1(-(acquisition.tr_ms - acquisition.train_ms - delay_ms) / t1_ms)
    return np.asarray(1 - (1 - kept * before) * np.exp(-delay_ms / t1_ms))


def echo_train(
    t1_ms: np.ndarray, t2_ms: np.ndarray, refocusing_rad: np.ndarray, spacing_ms: float, length: int
) -> np.ndarray:
    """Return the echoes of a train of equal refocusing pulses, per transverse magnetisation.

    Parameters
    ----------
    t1_ms, t2_ms, refocusing_rad : (tissue)
    spacing_ms : float
    length : int

    Returns
    -------
    float64 (echo, tissue)
    """
    e1, e2 = np.exp(-spacing_ms / t1_ms), np.exp(-spacing_ms / t2_ms)
    half = np.sqrt(e2)
    s, c = np.sin(refocusing_rad), np.cos(refocusing_rad)
    c2, s2 = (1 + c) / 2, (1 - c) / 2
    # Configurations at the refocusing pulses: those dephasing, rephasing and stored along z, of
    # order 1, 3, 5, ... half spacings: an excitation half a spacing before makes no others.
    orders = (length + 1) // 2 + 1
    dephasing = np.zeros((orders, len(t1_ms)))
    rephasing, stored = np.zeros_like(dephasing), np.zeros_like(dephasing)
    dephasing[0] = half
    echoes = np.empty((length, len(t1_ms)))
    for number in range(length):
        dephasing, rephasing, stored = (
            c2 * dephasing + s2 * rephasing + s * stored,
            s2 * dephasing + c2 * rephasing - s * stored,
            -0.5 * s * dephasing + 0.5 * s * rephasing + c * stored,
        )
        echoes[number] = half * rephasing[0]
        first = e2 * rephasing[0]
        dephasing[1:], rephasing[:-1] = e2 * dephasing[:-1], e2 * rephasing[1:]
        dephasing[0], rephasing[-1] = first, 0
        stored = stored * e1
    return echoes


def tissue_signals(
    t1_ms: np.ndarray, t2_ms: np.ndarray, efficiency: np.ndarray, acquisition: Acquisition
) -> np.ndarray:
    """Return the signals of tissues of unit proton density, float64 (contrast, tissue)."""
    angle = np.deg2rad(acquisition.refocusing_deg) * efficiency
    train = echo_train(
        t1_ms, t2_ms, angle, acquisition.echo_spacing_ms, int(acquisition.echoes.max()) + 1
    )
    delays = np.array(acquisition.delays_ms)[:, None]
    excited = np.sin(np.pi / 2 * efficiency)
    recovered = saturation_recovery(t1_ms, efficiency, delays, acquisition)
    return np.asarray(recovered * excited * train[acquisition.echoes])


@lru_cache(maxsize=2)
def signal_table(acquisition: Acquisition) -> np.ndarray:
    """Return the signals on the nodes, float32 (contrast, T1, T2, efficiency)."""
    nodes = np.meshgrid(T1_MS, T2_MS, EFFICIENCY, indexing="ij")
    t1, t2, efficiency = (axis.ravel() for axis in nodes)
    table = np.empty((len(acquisition.te_ms), len(t1)), np.float32)
    for start in range(0, len(t1), 4096):
        part = slice(start, start + 4096)
        table[:, part] = tissue_signals(t1[part], t2[part], efficiency[part], acquisition)
    return table.reshape(-1, *nodes[0].shape)
