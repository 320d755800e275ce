"""Relaxation maps: signals against Bloch and EPG references, fits against truth and brute force."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from gadgets.synthesis.maps import FAT_T1_MS, FAT_T2_MS, fit_maps, real_signals
from gadgets.synthesis.maps_signal import (
    EFFICIENCY,
    T1_MS,
    T2_MS,
    Acquisition,
    echo_train,
    saturation_recovery,
    signal_table,
    tissue_signals,
)
from gadgets.synthesis.marks import Unavailable
from scanner.epg import cpmg_echoes

DELAYS, ECHOES = (160.0, 560.0, 1750.0, 3800.0), (20.0, 90.0)
ACQUISITION = Acquisition(
    delays_ms=tuple(np.repeat(DELAYS, 2).tolist()),
    te_ms=ECHOES * 4,
    tr_ms=4000.0,
    saturation_deg=120.0,
    refocusing_deg=150.0,
    echo_spacing_ms=10.0,
    echo_train=12,
)


def tissues(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(250, 2500, count), rng.uniform(25, 200, count)


def images(t1, t2, efficiency, density=1.0, sigma=0.0, phase=0.7, fat=None, seed=1):
    """Contrasts of one slice with one tissue in each voxel, complex64 (contrast, 1, y, x)."""
    efficiency = np.broadcast_to(np.asarray(efficiency, float), t1.shape)
    signal = tissue_signals(t1, t2, efficiency, ACQUISITION)
    if fat is not None:
        times = np.full((2, t1.size), [[FAT_T1_MS], [FAT_T2_MS]])
        signal = (1 - fat) * signal + fat * tissue_signals(*times, efficiency, ACQUISITION)
    rng = np.random.default_rng(seed)
    noise = sigma * (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))
    side = round(np.sqrt(t1.size))
    return (
        (density * signal * np.exp(1j * phase) + noise)
        .astype(np.complex64)
        .reshape(-1, 1, side, t1.size // side)
    )


class TestSignals:
    @pytest.mark.parametrize("angle", [180, 150, 120, 60])
    def test_echo_train_is_that_of_extended_phase_graphs(self, angle):
        """Against the virtual scanner's, which shares no code with it."""
        t1, t2 = tissues(40)
        found = echo_train(t1, t2, np.full(40, np.deg2rad(angle)), 10.0, 14)
        expected = cpmg_echoes(t1, t2, np.full(14, float(angle)), 10.0)
        np.testing.assert_allclose(found.T, expected, atol=1e-12)

    def test_echo_train_of_180_degrees_decays_with_t2(self):
        t1, t2 = tissues(10)
        found = echo_train(t1, t2, np.full(10, np.pi), 9.0, 8)
        expected = np.exp(-9.0 * np.arange(1, 9)[:, None] / t2)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_saturation_recovery_is_the_steady_state_of_many_repetitions(self):
        """Longitudinal Bloch equation, step by step from equilibrium."""
        t1, efficiency, delay = 850.0, 0.9, 560.0
        z = 1.0
        for _ in range(50):
            z *= np.cos(np.deg2rad(120) * efficiency)
            at_excitation = z = 1 - (1 - z) * np.exp(-delay / t1)
            z = 0.0  # The echo train leaves nothing behind.
            z = 1 - (1 - z) * np.exp(-(4000 - delay - 120) / t1)
        found = saturation_recovery(t1, efficiency, delay, ACQUISITION)
        assert found == pytest.approx(at_excitation, abs=1e-12)

    def test_saturation_recovery_is_equation_2_of_warntjes_2008(self):
        """With an excitation of 90 degrees, and TR less the train which leaves nothing."""
        t1, efficiency = np.array([300.0, 900.0, 3000.0]), np.array([0.8, 1.0, 1.2])
        theta, tr = np.deg2rad(120) * efficiency, 4000.0 - 120.0
        expected = (
            1
            - (1 - np.cos(theta)) * np.exp(-560 / t1)
            - np.cos(theta) * np.exp(-tr / t1)
        )  # fmt: skip
        found = saturation_recovery(t1, efficiency, 560.0, ACQUISITION)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_table_is_exact_on_its_nodes(self):
        i, j, k = 20, 31, 5
        nodes = T1_MS[[i]], T2_MS[[j]], EFFICIENCY[[k]]
        expected = tissue_signals(*nodes, ACQUISITION)[:, 0]
        np.testing.assert_allclose(signal_table(ACQUISITION)[:, i, j, k], expected, rtol=1e-5)


class TestFit:
    @pytest.mark.parametrize("efficiency", [0.85, 1.0, 1.15])
    def test_without_noise_it_finds_the_truth(self, efficiency):
        t1, t2 = tissues(2500)
        maps = fit_maps(images(t1, t2, efficiency, 1000.0), ACQUISITION)
        assert maps.valid.all()
        assert maps.t1_ms.dtype == maps.t2_ms.dtype == np.float32
        for found, truth in (
            (maps.t1_ms, t1),
            (maps.t2_ms, t2),
            (maps.proton_density, 1000.0),
            (maps.efficiency, efficiency),
        ):
            error = np.abs(found.ravel() / truth - 1)
            assert np.median(error) < 0.004 and np.quantile(error, 0.95) < 0.02

    def test_a_voxel_is_fitted_as_by_brute_force_in_float64(self):
        """SciPy on the exact signals, where noise decides: both find the same minimum."""
        t1, t2 = tissues(36)
        data = images(t1, t2, 1.0, 200.0, sigma=1.0)
        maps = fit_maps(data, ACQUISITION)
        measured = real_signals(data, ACQUISITION).reshape(8, -1).astype(float)

        def miss(p, voxel):
            signal = tissue_signals(*np.exp(p[1:, None]), efficiency[voxel], ACQUISITION)
            return np.exp(p[0]) * signal[:, 0] - measured[:, voxel]

        efficiency = maps.efficiency.reshape(-1, 1).astype(float)
        for voxel in range(36):
            start = np.log([200.0, t1[voxel], t2[voxel]])
            best = least_squares(miss, start, args=(voxel,), xtol=1e-12, ftol=1e-12).x
            found = [maps.proton_density, maps.t1_ms, maps.t2_ms]
            np.testing.assert_allclose([f.flat[voxel] for f in found], np.exp(best), rtol=0.03)

    def test_noise_makes_no_bias(self):
        t1, t2 = np.full(6400, 1000.0), np.full(6400, 60.0)
        maps = fit_maps(images(t1, t2, 0.95, 60.0, sigma=1.0), ACQUISITION)
        assert np.median(maps.t1_ms) == pytest.approx(1000, rel=0.03)
        assert np.median(maps.t2_ms) == pytest.approx(60, rel=0.02)

    def test_with_a_fat_fraction_times_are_those_of_the_water(self):
        rng = np.random.default_rng(3)
        t1, t2 = np.full(2500, 1000.0), np.full(2500, 45.0)
        fat = rng.uniform(0, 0.6, 2500)
        data = images(t1, t2, 1.0, 2000.0, sigma=1.0, fat=fat)
        maps = fit_maps(data, ACQUISITION, fat_fraction=fat.reshape(1, 50, 50))
        assert np.median(maps.t1_ms) == pytest.approx(1000, rel=0.02)
        assert np.median(maps.t2_ms) == pytest.approx(45, rel=0.02)
        mixed = fit_maps(data, ACQUISITION)
        assert np.median(mixed.t1_ms) < 850

    def test_the_relaxation_of_pure_fat_is_that_of_the_patient(self):
        t1, t2 = np.full(2500, 1000.0), np.full(2500, 45.0)
        t1[:500], t2[:500] = 330.0, 110.0
        fat = np.where(np.arange(2500) < 500, 1.0, 0.0).reshape(1, 50, 50)
        maps = fit_maps(images(t1, t2, 1.0, 1000.0), ACQUISITION, fat_fraction=fat)
        assert maps.fat_t1_ms == pytest.approx(330, rel=0.02)
        assert maps.fat_t2_ms == pytest.approx(110, rel=0.02)

    def test_magnitude_images_do_too(self):
        t1, t2 = tissues(2500)
        maps = fit_maps(np.abs(images(t1, t2, 1.0, 1000.0)), ACQUISITION)
        error = np.abs(maps.t1_ms.ravel() / t1 - 1)
        assert np.median(error) < 0.01

    def test_background_is_empty_and_what_is_no_tissue_is_not_valid(self):
        t1, t2 = tissues(400)
        data = images(t1, t2, 1.0, 300.0, sigma=1.0)
        data[:, 0, :3] = np.random.default_rng(2).standard_normal((8, 3, 20))
        data[:, 0, 5] = 300 * np.array([1, -1, 1, 1, -1, 1, 1, 1])[:, None]
        maps = fit_maps(data, ACQUISITION)
        assert not maps.valid[0, :3].any() and not maps.proton_density[0, :3].any()
        assert not maps.valid[0, 5].any()
        assert maps.valid[0, 6:].mean() > 0.95


class TestUnavailable:
    def test_a_contrast_is_missing(self):
        t1, t2 = tissues(100)
        with pytest.raises(Unavailable, match="expected 8 contrasts, got 7"):
            fit_maps(images(t1, t2, 1.0)[:7], ACQUISITION)

    def test_too_little_signal(self):
        t1, t2 = tissues(400)
        with pytest.raises(Unavailable, match="signal-to-noise ratio of 10 or more"):
            fit_maps(images(t1, t2, 1.0, 8.0, sigma=1.0), ACQUISITION)

    def test_nothing_but_noise(self):
        noise = np.random.default_rng(0).standard_normal((8, 1, 20, 20)).astype(np.complex64)
        with pytest.raises(Unavailable, match="signal-to-noise"):
            fit_maps(noise, ACQUISITION)

    def test_no_tissue_behaves_so(self):
        strange = np.ones((8, 1, 10, 10), np.complex64) * 100
        strange[1:5] *= -1
        with pytest.raises(Unavailable, match="does not decay and recover as tissue does"):
            fit_maps(strange, ACQUISITION)

    @pytest.mark.parametrize(
        "change, reason",
        [
            ({"delays_ms": (160.0,) * 8}, "3 or more delays"),
            ({"te_ms": (20.0,) * 8}, "2 or more echo times"),
            ({"te_ms": (20.0, 90.0)}, "of every contrast"),
            ({"tr_ms": 3000.0}, "do not fit into TR"),
            ({"echo_spacing_ms": -1.0}, "positive times"),
        ],
    )
    def test_times_which_tell_nothing(self, change, reason):
        with pytest.raises(Unavailable, match=reason):
            replace(ACQUISITION, **change)
