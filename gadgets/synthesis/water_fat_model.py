"""The signal of water and fat over echo times: spectrum, suitability of echo times, T1 weighting.

A voxel's signal at echo time t is

    s(t) = (W + F c(t)) exp(2 pi i f t - R2* t),    c(t) = sum_p a_p exp(2 pi i d_p t)

with complex W and F, the off-resonance f and a fat spectrum of six peaks at d_p relative to water
(Hamilton et al., NMR Biomed 24 (2011) 784; numbers of the ISMRM water-fat challenge of 2012). Water
and fat share one R2*. Off-resonance and precession are positive with exp(+2 pi i f t), so that fat
has the lower frequency; data of the other convention are conjugated first.

Numbers only: no images, no files.
"""

from dataclasses import dataclass

import numpy as np

from gadgets.synthesis.marks import Unavailable

GYROMAGNETIC_MHZ_PER_T = 42.577478518
FAT_SHIFT_PPM = np.array([-3.80, -3.40, -2.60, -1.94, -0.39, 0.60])
FAT_AMPLITUDE = np.array([0.087, 0.693, 0.128, 0.004, 0.039, 0.048])

ASSUMED_R2STAR = 40.0
"""1/s: while the field is looked for, and where there are but two echoes."""
LEAST_AVERAGES = 0.3
"""Effective number of signal averages (Reeder et al., Magn Reson Med 54 (2005) 636) below which
echo times do not tell water from fat."""
REFERENCE_T1_MS = {1.5: (800.0, 320.0), 3.0: (1000.0, 370.0)}
"""T1 of the water and the fat of bone marrow, as in the project's tissue table."""


@dataclass(frozen=True)
class EchoModel:
    """Echo times and what fat looks like at them.

    Attributes
    ----------
    te_s : float64 (echo)
    fat : complex128 (echo)
        Signal of a unit of fat relative to a unit of water.
    hz_per_ppm : float
    """

    te_s: np.ndarray
    fat: np.ndarray
    hz_per_ppm: float

    @property
    def matrix(self) -> np.ndarray:
        """Columns of water and fat, complex128 (echo, 2)."""
        return np.stack([np.ones_like(self.fat), self.fat], axis=1)


def echo_model(te_s: np.ndarray, field_t: float) -> EchoModel:
    """Return the model of some echo times.

    Parameters
    ----------
    te_s : float (echo)
        Ascending, in seconds.
    field_t : float

    Raises
    ------
    Unavailable
        Fewer than two, not ascending, or they leave water and fat alike.
    """
    te_s = np.asarray(te_s, np.float64)
    if te_s.ndim != 1 or len(te_s) < 2:
        raise Unavailable(f"expected two echo times or more, got {te_s.tolist()}")
    if not (np.isfinite(te_s).all() and te_s[0] >= 0 and (np.diff(te_s) > 0).all()):
        raise Unavailable(f"expected ascending echo times in s, got {te_s.tolist()}")
    if te_s[-1] > 0.2:
        raise Unavailable(f"expected echo times in s, got {te_s.tolist()}: ms?")
    if not 0.1 <= field_t <= 12:
        raise Unavailable(f"expected a field strength in T, got {field_t}")
    hz_per_ppm = GYROMAGNETIC_MHZ_PER_T * field_t
    turns = te_s[:, None] * FAT_SHIFT_PPM * hz_per_ppm
    fat = np.exp(2j * np.pi * turns) @ (FAT_AMPLITUDE / FAT_AMPLITUDE.sum())
    model = EchoModel(te_s, fat, hz_per_ppm)
    averages = effective_averages(model)
    if averages < LEAST_AVERAGES:
        raise Unavailable(
            f"echo times {np.round(te_s * 1e3, 3).tolist()} ms at {field_t:g} T: water and fat "
            f"look alike (effective averages {averages:.2g}, expected {LEAST_AVERAGES} or more)"
        )
    return model


def effective_averages(model: EchoModel) -> float:
    """Return the lesser of the effective numbers of averages of water and fat, field known."""
    gram = model.matrix.conj().T @ model.matrix
    if abs(np.linalg.det(gram)) < 1e-9:
        return 0.0
    return float(1 / np.max(np.diag(np.linalg.inv(gram)).real))


def t1_weights(tr_ms: float, flip_deg: float, field_t: float) -> tuple[float, float]:
    """Return what a spoiled gradient echo leaves of marrow's water and fat, relative to sin(flip).

    Ernst and Anderson, Rev Sci Instrum 37 (1966) 93, with `REFERENCE_T1_MS` of the nearer field.
    """
    t1_ms = np.array(REFERENCE_T1_MS[1.5 if field_t < 2.25 else 3.0])
    decay = np.exp(-tr_ms / t1_ms)
    water, fat = (1 - decay) / (1 - np.cos(np.deg2rad(flip_deg)) * decay)
    return float(water), float(fat)
