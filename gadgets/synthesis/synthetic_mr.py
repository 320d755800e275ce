"""Contrasts that were never acquired, from relaxation maps by the signal equations.

Spin echo and inversion-recovery spin echo, at any repetition, echo and inversion time: what a
scanner would have shown whose excitation and refocusing pulses are ideal. All of it is physics; no
network takes part. What one tissue (or, with a known fat fraction, water and one fat) per voxel
cannot describe is not in it: flow, magnetisation transfer, diffusion, several tissues in a voxel.
So a synthetic STIR is the least sure of them: it is a small difference of large signals.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gadgets.fft import threads
from gadgets.items import Image
from gadgets.stream import Gadget
from gadgets.synthesis.maps import RelaxationMaps
from gadgets.synthesis.maps_gadget import KnowsFat, MeasuredMaps, QuantitativeMaps, unknown_fat
from gadgets.synthesis.marks import synthetic
from protocols.header import Header

CSF_T1_MS = 4270.0
INVERSION_EFFICIENCY = 0.97
"""Of an adiabatic inversion pulse in tissue: 95 to 98 %, for it takes longer than some T2."""


@dataclass(frozen=True)
class Contrast:
    """What a synthetic image is to look like.

    Attributes
    ----------
    name : str
    tr_ms, te_ms : float
    nulled : str
        "" for a spin echo without inversion; "fat" or "csf": the inversion time at which that gives
        no signal.
    inversion_ms : float or None
        An inversion time that was chosen.
    """

    name: str
    tr_ms: float
    te_ms: float
    nulled: str = ""
    inversion_ms: float | None = None

    def ti_ms(self, maps: RelaxationMaps) -> float | None:
        """Return the inversion time; fat is that of the patient, where it was measured."""
        if not self.nulled:
            return self.inversion_ms
        return null_ti_ms(CSF_T1_MS if self.nulled == "csf" else maps.fat_t1_ms, self.tr_ms)


CONTRASTS = (
    Contrast("t1w", 600.0, 10.0),
    Contrast("t2w", 4000.0, 100.0),
    Contrast("pdw", 8000.0, 15.0),
    Contrast("stir", 4500.0, 50.0, "fat"),
    Contrast("flair", 9000.0, 100.0, "csf"),
)


def null_ti_ms(t1_ms: float, tr_ms: float) -> float:
    """Return the inversion time at which a tissue gives no signal."""
    kept = INVERSION_EFFICIENCY
    return float(t1_ms * np.log((1 + kept) / (1 + kept * np.exp(-tr_ms / t1_ms))))


def synthesise(
    maps: RelaxationMaps, tr_ms: float, te_ms: float, ti_ms: float | None = None
) -> np.ndarray:
    """Return the magnitude that a spin echo would show, float32 (z, y, x); 0 in the background.

    ``PD (1 - exp(-TR / T1)) exp(-TE / T2)``, and with an inversion of efficiency e
    ``PD |1 - (1 + e) exp(-TI / T1) + e exp(-TR / T1)| exp(-TE / T2)``. With a fat fraction, water
    and fat have each their own, and their sum is what is seen.

    Parameters
    ----------
    maps : RelaxationMaps
    tr_ms, te_ms : float
    ti_ms : float or None
        From the inversion to the excitation.

    Raises
    ------
    ValueError
        Times that no sequence can have.
    """
    inversion = 0.0 if ti_ms is None else ti_ms
    if not (te_ms > 0 and inversion + te_ms < tr_ms < np.inf and (ti_ms is None or ti_ms > 0)):
        raise ValueError(
            f"expected 0 < TI, 0 < TE and TI + TE < TR, got TR {tr_ms}, TE {te_ms}, TI {ti_ms} ms"
        )
    fat = _spin_echo(
        np.array([-1 / maps.fat_t1_ms], np.float32),
        np.array([-1 / maps.fat_t2_ms], np.float32),
        tr_ms,
        te_ms,
        ti_ms,
    )
    result = np.empty(maps.t1_ms.shape, np.float32)

    def plane(z: int) -> None:
        # In the background the density is 0: there any rate will do.
        r1, r2 = (np.float32(-1) / np.maximum(t[z], 1) for t in (maps.t1_ms, maps.t2_ms))
        signal = _spin_echo(r1, r2, tr_ms, te_ms, ti_ms)
        if maps.fat_fraction is not None:
            signal += maps.fat_fraction[z] * (fat - signal)
        signal *= maps.proton_density[z]
        np.abs(signal, out=result[z])

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(plane, range(len(result))))
    return result


def _spin_echo(
    minus_r1: np.ndarray, minus_r2: np.ndarray, tr_ms: float, te_ms: float, ti_ms: float | None
) -> np.ndarray:
    """Return the signal of a unit proton density; rates in 1/ms, negative."""
    recovered = np.exp(minus_r1 * np.float32(tr_ms))
    if ti_ms is None:
        np.subtract(1, recovered, out=recovered)
    else:
        recovered *= np.float32(INVERSION_EFFICIENCY)
        recovered -= np.float32(1 + INVERSION_EFFICIENCY) * np.exp(minus_r1 * np.float32(ti_ms))
        recovered += 1
    recovered *= np.exp(minus_r2 * np.float32(te_ms))
    return np.asarray(recovered)


def synthetic_mr(header: Header, fat: KnowsFat = unknown_fat) -> list[Gadget]:
    """Return what stands between reconstruction and finishing of a quantitative measurement.

    `gadgets.synthesis.marks.BurnIn` stands after finishing.

    Parameters
    ----------
    header : Header
    fat : callable
        See `QuantitativeMaps`.
    """
    return [QuantitativeMaps(header, fat), SyntheticContrasts()]


class SyntheticContrasts:
    """Make synthetic `Image`s of `MeasuredMaps` (a gadget), which goes on after them.

    Parameters
    ----------
    contrasts : sequence of Contrast
    """

    def __init__(self, contrasts: Sequence[Contrast] = CONTRASTS) -> None:
        self._contrasts = tuple(contrasts)

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, MeasuredMaps):
                for contrast in self._contrasts:
                    yield from contrast_images(item, contrast)
            yield item


def contrast_images(measured: MeasuredMaps, contrast: Contrast) -> Iterator[Image]:
    """Yield the synthetic images of a contrast, one for each source of the maps.

    Raises
    ------
    ValueError
        Times that no sequence can have.
    """
    ti_ms = contrast.ti_ms(measured.maps)
    volume = synthesise(measured.maps, contrast.tr_ms, contrast.te_ms, ti_ms)
    times = f"TR {contrast.tr_ms:g}, TE {contrast.te_ms:g} ms"
    if ti_ms is not None:
        times += f", TI {ti_ms:.0f} ms" + (f" (nulls {contrast.nulled})" * bool(contrast.nulled))
    method = f"synthetic MR {contrast.name} by the signal equations, {times}; {measured.method}"
    attributes: dict[str, Any] = {
        "RepetitionTime": contrast.tr_ms,
        "EchoTime": contrast.te_ms,
        "GADGETRON_TE": contrast.te_ms,
        "InversionTime": round(ti_ms or 0.0, 3),
        "GADGETRON_TI": round(ti_ms or 0.0, 3),
    }
    for source, data in measured.split(volume):
        yield synthetic(source, data, f"synthetic-{contrast.name}", method, attributes)
