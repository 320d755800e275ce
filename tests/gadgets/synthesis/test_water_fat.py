"""Water-fat separation of simulated echoes whose water, fat, field and R2* are known."""

import numpy as np
import pytest

from gadgets.synthesis.marks import Unavailable
from gadgets.synthesis.water_fat import fat_fraction, noise_level, separate
from gadgets.synthesis.water_fat_model import echo_model, t1_weights
from scanner.signal import FAT_AMPLITUDE, FAT_SHIFT_PPM, spoiled_steady_state

HZ_PER_PPM = 42.577478518
SIX = (1.3e-3, 2.35e-3, 3.4e-3, 4.45e-3, 5.5e-3, 6.55e-3)
N = 64


def fat_at(te_s, field_t):
    turns = np.asarray(te_s)[:, None] * FAT_SHIFT_PPM * HZ_PER_PPM * field_t
    return np.exp(2j * np.pi * turns) @ FAT_AMPLITUDE / FAT_AMPLITUDE.sum()


class Slice:
    """Water, fat, and mixtures of both in patches, in a field that reaches ``reach_hz``."""

    def __init__(self, te_s=SIX, field_t=3.0, reach_hz=300.0, snr=np.inf, depth=1, seed=0):
        self.te_s, self.field_t = np.array(te_s), field_t
        y, x = np.meshgrid(np.linspace(-1, 1, N), np.linspace(-1, 1, N), indexing="ij")
        z = np.linspace(-0.3, 0.3, depth)[:, None, None] if depth > 1 else np.zeros((1, 1, 1))
        patches = np.array([[0.0, 0.1, 0.95, 0.4], [0.95, 0.55, 0.0, 1.0],
                            [0.3, 0.0, 0.95, 0.05], [0.0, 0.95, 0.7, 0.0]])  # fmt: skip
        self.pdff = np.broadcast_to(np.kron(patches, np.ones((N // 4, N // 4))), (depth, N, N))
        self.body = np.broadcast_to(x**2 + y**2 < 0.9, (depth, N, N))
        shape = (y - 0.3) ** 2 - 0.6 * x + 0.3 * x * y + z
        inside = shape[self.body]
        self.field_hz = (shape - np.median(inside)) * (
            reach_hz / np.abs(inside - np.median(inside)).max()
        )
        self.r2star = np.broadcast_to(30.0 + 40.0 * (x > 0), (depth, N, N))
        amount = np.where(self.body, 1.0, 0.0)
        self.water, self.fat = amount * (1 - self.pdff), amount * self.pdff
        fat = fat_at(te_s, field_t)
        t = self.te_s[:, None, None, None]
        signal = (self.water + self.fat * fat[:, None, None, None]) * np.exp(
            (2j * np.pi * self.field_hz - self.r2star) * t + 1j * (1 + 0.5 * y + 0.4 * x)
        )
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((2, *signal.shape))
        self.scale = snr if np.isfinite(snr) else 1.0
        signal = signal * self.scale
        self.echoes = (signal + np.isfinite(snr) * (noise[0] + 1j * noise[1])).astype(np.complex64)

    def separated(self, **options):
        return separate(self.echoes, self.te_s, self.field_t, (5.0, 4.0, 4.0), **options)

    def swapped(self, maps, precession=1):
        """Share of the body that has another fat fraction for want of the right field."""
        away = precession * maps.field_hz - self.field_hz
        spacing = np.diff(self.te_s)
        if np.ptp(spacing) < 1e-6:
            away -= np.round(away * spacing[0]) / spacing[0]
        far = np.abs(away) > 0.25 * 3.4 * HZ_PER_PPM * self.field_t
        return np.mean((far & (np.abs(maps.pdff - self.pdff) > 0.3))[self.body])

    def bias(self, maps):
        return np.mean((maps.pdff - self.pdff)[self.body])


CASES = [
    (3.0, SIX),
    (3.0, (1.1e-3, 2.0e-3, 2.9e-3, 3.8e-3)),
    (3.0, (1.2e-3, 2.0e-3, 3.4e-3, 5.2e-3)),
    (3.0, (1.2e-3, 2.5e-3, 3.4e-3)),
    (1.5, (2.87e-3, 6.07e-3, 9.27e-3)),
    (1.5, (2.3e-3, 4.6e-3, 6.9e-3)),
    (1.5, (1.2e-3, 3.2e-3, 5.2e-3, 7.2e-3, 9.2e-3, 11.2e-3)),
    (3.0, (1.2e-3, 2.3e-3)),
    (1.5, (2.3e-3, 4.6e-3)),
]


@pytest.mark.parametrize(("field_t", "te_s"), CASES)
@pytest.mark.parametrize("snr", [10, 50])
def test_no_swaps_and_no_bias_in_a_field_of_300_hz(field_t, te_s, snr):
    case = Slice(te_s, field_t, 300.0, snr)
    maps = case.separated(sigma=1.0)
    assert case.swapped(maps) <= 0.001
    # Two echoes do not know R2*: it is assumed.
    assert abs(case.bias(maps)) <= (0.01 if len(te_s) > 2 else 0.02)


def test_without_noise_everything_is_recovered():
    case = Slice(reach_hz=150.0)
    maps = case.separated()
    body = case.body
    assert np.abs(maps.pdff - case.pdff)[body].max() < 0.02
    assert np.abs(np.abs(maps.water) - case.water)[body].max() < 0.03
    assert np.abs(maps.field_hz - case.field_hz)[body].max() < 2
    assert np.median(np.abs(maps.r2star - case.r2star)[body]) < 2
    assert np.allclose(maps.in_phase[body], 1, atol=0.03)
    assert np.allclose(maps.opposed_phase, np.abs(case.water - case.fat), atol=0.05)


def test_a_volume_is_separated_as_its_slices_are():
    case = Slice((1.2e-3, 2.5e-3, 3.4e-3), snr=20, depth=6)
    maps = case.separated(sigma=1.0)
    assert maps.pdff.shape == (6, N, N)
    assert case.swapped(maps) <= 0.001
    assert abs(case.bias(maps)) < 0.01


def test_brute_force_finds_the_same():
    """Variable projection in double precision over a fine grid of field and R2*, near the truth."""
    case = Slice(reach_hz=200.0, snr=40)
    maps = case.separated(sigma=1.0)
    rng = np.random.default_rng(1)
    voxels = rng.choice(np.flatnonzero(case.body.ravel()), 60, replace=False)
    hz, r2star = np.meshgrid(np.arange(-25, 25.5, 1.0), np.arange(0, 160, 4.0), indexing="ij")
    matrix = np.stack([np.ones(6), fat_at(SIX, 3.0)], 1)
    errors = []
    for voxel in voxels:
        y = case.echoes.reshape(6, -1)[:, voxel].astype(complex)
        f = case.field_hz.ravel()[voxel] + hz
        decay = np.exp((2j * np.pi * f - r2star)[..., None] * case.te_s)
        columns = decay[..., None] * matrix
        solved = np.linalg.pinv(columns) @ y
        left = np.linalg.norm(y - (columns @ solved[..., None])[..., 0], axis=-1)
        water, fat = solved[np.unravel_index(left.argmin(), left.shape)]
        found = (maps.water.ravel()[voxel], maps.fat.ravel()[voxel])
        errors.append(max(abs(found[0] - water), abs(found[1] - fat)) / case.scale)
    # Ours holds R2* near that of its surroundings, the brute force does not: noise differs.
    assert np.median(errors) < 0.02


@pytest.mark.parametrize(("field_t", "te_s"), [case for case in CASES if len(case[1]) > 2][:5])
def test_the_other_sense_of_precession_is_found_and_can_be_told(field_t, te_s):
    case = Slice(te_s, field_t, 200.0, snr=20)
    case.echoes = np.conj(case.echoes)
    for told in (None, -1):
        maps = case.separated(sigma=1.0, precession=told)
        assert maps.precession == -1
        assert case.swapped(maps) <= 0.001
        assert abs(case.bias(maps)) <= 0.01


def test_noise_does_not_lift_the_fat_fraction_of_water():
    rng = np.random.default_rng(2)
    water, fat = rng.standard_normal((2, 2, 20000))
    water, fat = 10 + water[0] + 1j * water[1], fat[0] + 1j * fat[1]
    found = fat_fraction(water.astype(np.complex64), fat.astype(np.complex64))
    assert abs(found.mean()) < 0.01
    assert np.mean(np.abs(fat) / (np.abs(fat) + np.abs(water))) > 0.05
    assert abs(fat_fraction(fat.astype(np.complex64), water.astype(np.complex64)).mean() - 1) < 0.01


def test_noise_is_estimated_where_it_is_not_known():
    case = Slice(snr=25)
    assert noise_level(case.echoes) == pytest.approx(1, rel=0.1)
    assert abs(case.bias(case.separated())) < 0.01


def test_saturation_is_taken_out_of_the_fat_fraction():
    case = Slice(reach_hz=50.0)
    weights = t1_weights(8.0, 10.0, 3.0)
    expected = spoiled_steady_state(np.array([1000.0, 370.0]), 8.0, 10.0) / np.sin(np.deg2rad(10))
    assert np.allclose(weights, expected)
    plain = case.separated().pdff
    signal = (case.water * weights[0], case.fat * weights[1])
    turn = np.exp(2j * np.pi * case.field_hz * case.te_s[:, None, None, None])
    fat = fat_at(SIX, 3.0)[:, None, None, None]
    case.echoes = ((signal[0] + signal[1] * fat) * turn).astype(np.complex64)
    corrected = case.separated(t1_weights=weights).pdff
    assert np.allclose(corrected[case.body], plain[case.body], atol=0.02)
    assert np.abs(case.separated().pdff - plain)[case.body].max() > 0.05


def test_the_spectrum_is_that_of_the_virtual_scanner():
    assert np.allclose(echo_model(np.array(SIX), 3.0).fat, fat_at(SIX, 3.0))


@pytest.mark.parametrize(
    ("te_s", "words"),
    [
        ((2.3e-3, 4.6e-3, 6.9e-3), "look alike"),
        ((1.3e-3,), "two echo times"),
        ((2e-3, 1e-3), "ascending"),
        ((1.3, 2.4, 3.5), "ms\\?"),
    ],
)
def test_echo_times_that_are_no_good_are_refused(te_s, words):
    with pytest.raises(Unavailable, match=words):
        separate(np.ones((len(te_s), 1, 8, 8), np.complex64), te_s, 3.0)


def test_too_much_noise_is_refused():
    with pytest.raises(Unavailable, match="signal-to-noise"):
        Slice(snr=3).separated(sigma=1.0)
    with pytest.raises(Unavailable, match="noise"):
        Slice(snr=0.1).separated(sigma=1.0)


def test_echoes_of_strange_phases_are_refused():
    case = Slice(snr=50)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(SIX))
    case.echoes *= np.exp(1j * phases)[:, None, None, None].astype(np.complex64)
    with pytest.raises(Unavailable, match="residual"):
        case.separated(sigma=1.0)


def test_values_that_are_not_finite_are_refused():
    case = Slice(snr=50)
    case.echoes[0, 0, 3, 3] = np.nan
    with pytest.raises(Unavailable, match="finite"):
        case.separated()
