"""Noise prewhitening: from here on noise is white, equal in all coils, and of known size.

Noise readouts (IS_NOISE_MEASUREMENT) end here. From them comes the covariance of the coils, and
every later block is multiplied by its inverse Cholesky factor, so that noise has sigma 1 per real
channel (Kellman & McVeigh, Magn Reson Med 54 (2005) 1439): images are then in SNR units. A
`NoiseState` before the first block tells what was done. A measurement without a usable noise scan
is passed on as it came, and the `NoiseState` says why.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from array_api_compat import array_namespace

from protocols.header import Header
from protocols.mrd_types import AcquisitionFlag, ReadoutBlock

RECEIVER_BANDWIDTH = 0.793
"""Relative noise bandwidth of the receiver where the header is silent, as in Gadgetron."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NoiseState:
    """What is known about the noise of the blocks that follow.

    Attributes
    ----------
    whitened : bool
        True where noise sigma is 1 per real channel.
    reason : str
        Why not, where not.
    coils, samples : int
        Coils, and noise samples of each coil which the covariance was estimated from.
    dead_coils : tuple of int
        Coils without noise (not connected): they are set to zero.
    condition : float
        Condition number of the correlation matrix of the other coils.
    scale : float
        Factor for dwell time and receiver bandwidth at the first imaging readout.
    age_s : float
        From the last noise readout to the first imaging readout.
    """

    whitened: bool
    reason: str = ""
    coils: int = 0
    samples: int = 0
    dead_coils: tuple[int, ...] = ()
    condition: float = float("nan")
    scale: float = 1.0
    age_s: float = float("nan")


class _NoiseScan:
    """Sums over the noise samples of one set of coils; noise power goes with 1 / dwell time."""

    def __init__(self, coils: int) -> None:
        self.samples = 0
        self.last_ns = 0
        self._outer = np.zeros((coils, coils), np.complex128)
        self._dwell = 0.0

    def add(self, block: ReadoutBlock) -> None:
        headers, samples = block.headers, np.asarray(block.samples)
        index = np.arange(samples.shape[-1])
        stop = samples.shape[-1] - headers["discard_post"].astype(int)
        inside = (index >= headers["discard_pre"][:, None]) & (index < stop[:, None])
        # A bad sample in one coil leaves nothing to learn about its correlation with the others.
        inside &= np.isfinite(samples.sum(axis=(1, 2)))[:, None]
        rows = np.moveaxis(samples, 1, 0)[:, inside].astype(np.complex128)
        dwell = np.where(headers["sample_time_us"] > 0, headers["sample_time_us"], np.nan)
        dwell = np.broadcast_to(dwell[:, None], inside.shape)[inside].astype(np.float64)
        self._outer += (rows * np.nan_to_num(dwell, nan=1.0)) @ rows.conj().T
        self._dwell += dwell.sum()
        self.samples += rows.shape[1]
        self.last_ns = max(self.last_ns, int(block.arrival_ns.max(initial=0)))

    @property
    def dwell_us(self) -> float:
        """Mean dwell time; nan where the sender does not say."""
        return self._dwell / self.samples

    @property
    def covariance(self) -> Any:
        """Mean of n n^H at the mean dwell time, complex128 (coil, coil)."""
        dwell = 1.0 if np.isnan(self.dwell_us) else self.dwell_us
        return self._outer / (self.samples * dwell)


def whitening_matrix(
    covariance: np.ndarray, samples: int
) -> tuple[np.ndarray, tuple[int, ...], float]:
    """Return the matrix that makes noise white with sigma 1 per real channel.

    The inverse Cholesky factor gives complex samples a variance of 1, which is 1/2 per real
    channel: hence a factor of sqrt(2). The correlation of the coils is shrunk by coils / samples,
    less than what is known of it, so that a short noise scan, or two coils with the same signal,
    cannot blow up.

    Parameters
    ----------
    covariance : complex128 (coil, coil)
        Mean of n n^H.
    samples : int
        Which it was estimated from.

    Returns
    -------
    matrix : complex64 (coil, coil)
        Zero in the rows and columns of dead coils.
    dead_coils : tuple of int
    condition : float
        Condition number of the correlation matrix of the others; nan where there are none.
    """
    variance = np.diagonal(covariance).real
    # 1e-9 of the strongest coil's variance lies below the resolution of any receiver.
    alive = np.flatnonzero(variance > 1e-9 * variance.max(initial=0))
    matrix = np.zeros(covariance.shape, np.complex64)
    condition = float("nan")
    if len(alive):
        sigma = np.sqrt(variance[alive])
        correlation = covariance[np.ix_(alive, alive)] / np.outer(sigma, sigma)
        correlation += min(1.0, len(alive) / samples) * (np.eye(len(alive)) - correlation)
        condition = float(np.linalg.cond(correlation))
        inverse = np.linalg.inv(np.linalg.cholesky(correlation)) / sigma
        matrix[np.ix_(alive, alive)] = np.sqrt(2) * inverse
    dead = np.setdiff1d(np.arange(len(variance)), alive)
    return matrix, tuple(dead.tolist()), condition


@dataclass(frozen=True)
class _Whitening:
    """What is applied to every block of a measurement."""

    matrix: np.ndarray
    noise_dwell_us: float
    bandwidth: float

    def scale(self, headers: np.ndarray) -> np.ndarray:
        dwell = np.where(headers["sample_time_us"] > 0, headers["sample_time_us"], np.nan)
        scale = np.sqrt(dwell / self.noise_dwell_us * self.bandwidth)
        return np.nan_to_num(scale, nan=1.0)

    def __call__(self, block: ReadoutBlock) -> ReadoutBlock:
        xp = array_namespace(block.samples)
        count, coils, length = block.samples.shape
        scale = self.scale(block.headers).astype(np.float32)
        # One product for the whole block: BLAS is slow at many small ones.
        rows = xp.reshape(xp.permute_dims(block.samples, (1, 0, 2)), (coils, count * length))
        white = xp.matmul(xp.asarray(self.matrix * scale[0]), rows)
        white = xp.permute_dims(xp.reshape(white, (coils, count, length)), (1, 0, 2))
        if (scale != scale[0]).any():
            white = white * xp.asarray(scale / scale[0])[:, None, None]
        return replace(block, samples=white)


class Prewhiten:
    """Take noise readouts out of the stream and whiten all other blocks (a gadget).

    Noise variance of a complex sample goes with the receiver's bandwidth. The noise scan runs with
    its own dwell time, and through a filter which leaves ``relativeReceiverNoiseBandwidth`` of its
    noise, so whitened data are multiplied by
    sqrt(dwell of the readout / dwell of the noise scan * relative bandwidth), as in Gadgetron's
    NoiseAdjustGadget; by 1 where the sender gives no dwell times.

    A measurement has one whitening: noise readouts after the first other readout are dropped, and
    readouts with other coils than the noise scan had are passed on as they are.

    Parameters
    ----------
    header : Header
    """

    def __init__(self, header: Header) -> None:
        system = header.acquisitionSystemInformation
        bandwidth = system.relativeReceiverNoiseBandwidth if system else None
        self._bandwidth = float(bandwidth) if bandwidth else RECEIVER_BANDWIDTH

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        scans: dict[int, _NoiseScan] = {}
        whitening: _Whitening | None = None
        started = False
        unused: Counter[str] = Counter()
        for item in items:
            if not isinstance(item, ReadoutBlock):
                yield item
                continue
            noise = (item.headers["flags"] & int(AcquisitionFlag.IS_NOISE_MEASUREMENT)) != 0
            coils = item.samples.shape[1]
            if noise.any():
                if started:
                    unused["noise readouts after the first other readout"] += int(noise.sum())
                else:
                    scans.setdefault(coils, _NoiseScan(coils)).add(item[noise])
                item = item[~noise]
            if not len(item):
                continue
            if not started:
                started = True
                state, whitening = self._begin(scans, item)
                yield state
            if whitening is not None and coils == len(whitening.matrix):
                item = whitening(item)
            elif whitening is not None:
                unused["readouts with other coils than the noise scan"] += len(item)
            yield item
        for reason, count in unused.items():
            _log.warning("prewhitening skipped readouts", reason=reason, readouts=count)

    def _begin(
        self, scans: dict[int, _NoiseScan], block: ReadoutBlock
    ) -> tuple[NoiseState, _Whitening | None]:
        coils = block.samples.shape[1]
        scan = scans.get(coils)
        if not scans:
            reason = "no noise scan"
        elif scan is None:
            reason = f"noise scan has {', '.join(map(str, scans))} coils, readouts have {coils}"
        elif scan.samples < 2:
            reason = "noise scan has no usable samples"
        elif not scan.covariance.any():
            reason = "noise scan is all zero"
        else:
            matrix, dead, condition = whitening_matrix(scan.covariance, scan.samples)
            whitening = _Whitening(matrix, scan.dwell_us, self._bandwidth)
            state = NoiseState(
                whitened=True,
                coils=coils,
                samples=scan.samples,
                dead_coils=dead,
                condition=condition,
                scale=float(whitening.scale(block.headers)[0]),
                age_s=(int(block.arrival_ns[0]) - scan.last_ns) / 1e9 if scan.last_ns else np.nan,
            )
            _log.info("prewhitening", coils=coils, dead=len(dead), condition=round(condition, 1))
            return state, whitening
        _log.warning("no prewhitening: images will not be in SNR units", reason=reason)
        return NoiseState(whitened=False, reason=reason, coils=coils), None
