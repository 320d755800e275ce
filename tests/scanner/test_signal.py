"""Signals of sequences against steady states found by repeating them."""

from types import SimpleNamespace

import numpy as np

from scanner.sequence import GradientEcho, TurboSpinEcho
from scanner.signal import (
    compress,
    fat_phase,
    signals,
    spoiled_steady_state,
    steady_state_before_train,
)
from scanner.tissues import Label, tissue_table

MARROW = SimpleNamespace(
    pd=0.85, t1_ms=1000.0, t2_ms=40.0, t2star_ms=10.0, fat_t1_ms=370.0, fat_t2_ms=85.0
)


def test_spoiled_steady_state_is_what_repeated_pulses_lead_to():
    t1, tr, flip = 900.0, 12.0, np.deg2rad(15.0)
    mz = 1.0
    for _ in range(2000):
        signal, mz = mz * np.sin(flip), mz * np.cos(flip)
        mz = 1 + (mz - 1) * np.exp(-tr / t1)
    np.testing.assert_allclose(spoiled_steady_state(np.array([t1]), tr, 15.0), signal, rtol=1e-9)


def test_spoiled_signal_peaks_at_the_ernst_angle():
    t1, tr = np.array([900.0]), 12.0
    ernst = np.rad2deg(np.arccos(np.exp(-tr / t1[0])))
    flips = ernst + np.array([-1.0, 0.0, 1.0])
    levels = [spoiled_steady_state(t1, tr, flip)[0] for flip in flips]
    assert np.argmax(levels) == 1


def test_gradient_echo_decays_with_t2_star_and_scales_with_proton_density():
    sequence = GradientEcho(10.0, (2.0, 7.0), 5.0, 1000.0)
    water = signals(sequence, [MARROW]).water[0]
    np.testing.assert_allclose(water[1] / water[0], np.exp(-5.0 / 10.0))
    half = SimpleNamespace(**{**vars(MARROW), "pd": 0.425})
    np.testing.assert_allclose(signals(sequence, [half]).water[0], water / 2)


def test_inversion_recovery_is_what_repeated_inversions_lead_to():
    sequence = TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 200.0, ti_ms=220.0)
    t1, mz = 1350.0, 1.0
    for _ in range(50):
        mz = 1 + (0 - 1) * np.exp(-(4500.0 - 140.0 - 220.0) / t1)  # after the train: none left
        mz = 1 + (-0.97 * mz - 1) * np.exp(-220.0 / t1)
    np.testing.assert_allclose(steady_state_before_train(np.array([t1]), sequence), mz)


def test_inversion_time_at_the_null_leaves_no_fat():
    t1 = 370.0
    wait = 4500.0 - 140.0
    times = np.linspace(150.0, 300.0, 1501)
    left = [
        abs(
            steady_state_before_train(
                np.array([t1]), TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 200.0, ti_ms=ti)
            )[0]
        )
        for ti in times
    ]
    null = t1 * np.log(1 + 0.97 * (1 - np.exp(-(wait - 250.0) / t1)))
    assert abs(times[np.argmin(left)] - null) < 0.5


def test_fat_is_opposed_to_water_half_a_beat_after_in_phase():
    opposed = 1e3 / (2 * 3.4 * 42.577 * 3.0)
    phase = fat_phase(np.array([0.0, opposed]), 3.0)
    np.testing.assert_allclose(phase[0], 1.0)
    assert -1.0 < phase[1].real < -0.6


def test_contrasts_read_as_radiology_expects():
    table = tissue_table(3.0)
    csf, muscle, fat = Label.CSF, Label.MUSCLE, Label.FAT
    t1w = signals(TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0), table)
    t2w = signals(TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0), table)
    stir = signals(TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 250.0, ti_ms=250.0), table)
    assert t1w.fat[fat, 0] > t1w.water[muscle, 0] > t1w.water[csf, 0]
    assert t2w.water[csf, 9] > t2w.fat[fat, 9] > t2w.water[muscle, 9]
    assert abs(stir.water[csf, 4]) > abs(stir.water[muscle, 4]) > 4 * abs(stir.fat[fat, 4])


def test_few_components_carry_all_signal_evolutions():
    sequence = TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0)
    water = signals(sequence, tissue_table(3.0)).water
    weights, evolutions = compress(water)
    assert len(evolutions) <= 5
    error = np.linalg.norm(weights @ evolutions - water) / np.linalg.norm(water)
    assert error < 2e-3
