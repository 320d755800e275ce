"""The relaxation times of the patient's own fat, which a synthetic STIR has to null."""

import numpy as np
import pytest

from gadgets.synthesis.maps import fit_maps
from gadgets.synthesis.maps_signal import Acquisition, tissue_signals

ACQUISITION = Acquisition(
    delays_ms=tuple(d for d in (160.0, 560.0, 1750.0, 3800.0) for _ in range(2)),
    te_ms=(20.0, 90.0) * 4,
    tr_ms=4000.0,
    saturation_deg=120.0,
    refocusing_deg=150.0,
    echo_spacing_ms=10.0,
    echo_train=12,
)


@pytest.mark.parametrize("share", [0.92, 0.95, 1.0])
def test_the_water_among_fat_does_not_shift_it(share):
    """Fat of T1 314, T2 134 ms with a little water of T1 1100, T2 38 ms, which is not exactly what
    the fit expects."""
    t1, t2 = np.array([314.0, 1100.0]), np.array([134.0, 38.0])
    fat, water = np.moveaxis(tissue_signals(t1, t2, np.ones(2), ACQUISITION), 1, 0)
    signal = share * fat + (1 - share) * water
    rng = np.random.default_rng(0)
    images = np.broadcast_to(100 * signal[:, None, None, None], (8, 1, 24, 24))
    noise = rng.standard_normal((2, *images.shape))
    data = (images + noise[0] + 1j * noise[1]).astype(np.complex64)
    maps = fit_maps(data, ACQUISITION, 1.0, np.full((1, 24, 24), share, np.float32))
    assert maps.fat_t1_ms == pytest.approx(314, rel=0.03)
    assert maps.fat_t2_ms == pytest.approx(134, rel=0.06)
