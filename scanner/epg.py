"""Extended phase graphs of a CPMG echo train, for many tissues at once.

After M. Weigel, "Extended phase graphs: dephasing, RF pulses, and echoes - pure and simple", J Magn
Reson Imaging 41 (2015) 266-295. Diffusion, exchange and magnetisation transfer are left out.
"""

import numpy as np


def cpmg_echoes(
    t1_ms: np.ndarray,
    t2_ms: np.ndarray,
    refocusing_deg: np.ndarray,
    echo_spacing_ms: float,
    excitation_deg: float = 90.0,
) -> np.ndarray:
    """Return the echoes of one train after an excitation of unit longitudinal magnetisation.

    Excitation and refocusing pulses are 90 degrees apart in phase (CPMG), so transverse states stay
    real and longitudinal ones imaginary (``z`` holds their imaginary part). One unit of dephasing
    lies on either side of each refocusing pulse. Recovered magnetisation is left out: what a
    refocusing pulse makes of it is dephased by an odd number of units at every echo.

    Parameters
    ----------
    t1_ms, t2_ms : (tissue), above 0
    refocusing_deg : (echo)
        Any train of flip angles.
    echo_spacing_ms : float
    excitation_deg : float

    Returns
    -------
    float64 (tissue, echo)
        Signal at each spin echo; positive where it has the phase of the excitation.
    """
    t1, t2 = np.broadcast_arrays(np.atleast_1d(t1_ms), np.atleast_1d(t2_ms))
    half = echo_spacing_ms / 2
    decay2, decay1 = np.exp(-half / t2)[:, None], np.exp(-half / t1)[:, None]
    angles = np.deg2rad(np.asarray(refocusing_deg, float))
    states = len(angles) * 2 + 2
    f_plus = np.zeros((len(t1), states))
    f_minus = np.zeros_like(f_plus)
    z = np.zeros_like(f_plus)
    f_plus[:, 0] = f_minus[:, 0] = np.sin(np.deg2rad(excitation_deg))
    echoes = np.empty((len(t1), len(angles)))

    def relax_and_dephase() -> None:
        nonlocal f_plus, f_minus, z
        f_plus, f_minus, z = f_plus * decay2, f_minus * decay2, z * decay1
        f_plus[:, 1:] = f_plus[:, :-1]
        f_minus[:, :-1] = f_minus[:, 1:]
        f_minus[:, -1] = 0
        f_plus[:, 0] = f_minus[:, 0]

    for echo, angle in enumerate(angles):
        relax_and_dephase()
        c2, s2, s, c = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2, np.sin(angle), np.cos(angle)
        f_plus, f_minus, z = (
            c2 * f_plus + s2 * f_minus + s * z,
            s2 * f_plus + c2 * f_minus - s * z,
            -0.5 * s * f_plus + 0.5 * s * f_minus + c * z,
        )
        relax_and_dephase()
        echoes[:, echo] = f_plus[:, 0]
    return echoes
