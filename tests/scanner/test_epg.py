"""Extended phase graphs against what is known without them."""

import numpy as np
import pytest

from scanner.epg import cpmg_echoes


def test_ideal_refocusing_leaves_t2_decay():
    t2 = np.array([30.0, 100.0, 1500.0])
    echoes = cpmg_echoes(np.array([800.0, 1000.0, 4000.0]), t2, np.full(16, 180.0), 10.0)
    te = 10.0 * np.arange(1, 17)
    np.testing.assert_allclose(echoes, np.exp(-te / t2[:, None]), rtol=1e-12)


def rotation(axis, angle):
    """Rotation about x or y (Rodrigues)."""
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def isochromats(t1, t2, angles_deg, spacing, count=512):
    """Echoes of a CPMG train from the Bloch equations of spins evenly dephased by crushers."""
    dephasing = 2 * np.pi * np.arange(count) / count
    c, s = np.cos(dephasing), np.sin(dephasing)
    e1, e2 = np.exp(-spacing / 2 / t1), np.exp(-spacing / 2 / t2)
    m = np.tile(rotation("y", np.pi / 2) @ [0, 0, 1.0], (count, 1))

    def half_spacing(m):
        x, y = m[:, 0] * c - m[:, 1] * s, m[:, 0] * s + m[:, 1] * c
        return np.stack([x * e2, y * e2, 1 + (m[:, 2] - 1) * e1], 1)

    echoes = []
    for angle in np.deg2rad(angles_deg):
        m = half_spacing(half_spacing(m) @ rotation("x", angle).T)
        echoes.append(m[:, 0].mean())
    return np.array(echoes)


@pytest.mark.parametrize("train", [np.full(12, 120.0), np.array([160, 130, 90, 60, 75, 110.0])])
@pytest.mark.parametrize(("t1", "t2"), [(1000.0, 40.0), (4270.0, 1580.0), (370.0, 85.0)])
def test_agrees_with_bloch_equations_of_many_spins(train, t1, t2):
    echoes = cpmg_echoes(np.array([t1]), np.array([t2]), train, 10.0)[0]
    np.testing.assert_allclose(echoes, isochromats(t1, t2, train, 10.0), atol=1e-10)
