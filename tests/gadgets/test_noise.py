"""Prewhitening against known covariances of simulated noise."""

import ismrmrd.xsd as xsd
import numpy as np
import pytest

from gadgets.noise import NoiseState, Prewhiten, whitening_matrix
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, ReadoutBlock, Waveform

COILS, SAMPLES = 5, 256
RNG = np.random.default_rng(11)
MIXING = RNG.standard_normal((COILS, COILS)) + 1j * RNG.standard_normal((COILS, COILS))
CONDITIONS = xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123_200_000)
COVARIANCE = MIXING @ MIXING.conj().T


def mrd_header(bandwidth: float | None = None) -> xsd.ismrmrdHeader:
    return xsd.ismrmrdHeader(
        experimentalConditions=CONDITIONS,
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            relativeReceiverNoiseBandwidth=bandwidth
        ),
    )


def white(*shape: int) -> np.ndarray:
    """Complex noise of sigma 1 per real channel."""
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


def block(samples: np.ndarray, dwell_us: float = 5.0, noise: bool = False) -> ReadoutBlock:
    headers = np.zeros(len(samples), ACQUISITION_HEADER)
    headers["sample_time_us"] = dwell_us
    headers["flags"] = int(AcquisitionFlag.IS_NOISE_MEASUREMENT) if noise else 0
    arrival = np.full(len(samples), 1_000_000_000 if noise else 3_500_000_000, np.int64)
    return ReadoutBlock(headers, samples.astype(np.complex64), None, arrival)


def noise(readouts: int, dwell_us: float = 5.0, coils: int = COILS) -> np.ndarray:
    """Correlated noise whose power goes with the bandwidth; `COVARIANCE` / 2 at 5 us."""
    mixed = MIXING[:coils] @ white(readouts, COILS, SAMPLES) / np.sqrt(2)
    return mixed * np.sqrt(5.0 / dwell_us)


def run(*items, bandwidth: float | None = 1.0) -> tuple[NoiseState, list]:
    state, *rest = Prewhiten(mrd_header(bandwidth))(iter(items))
    return state, rest


def covariance_of(samples: np.ndarray) -> np.ndarray:
    rows = np.moveaxis(samples, 1, 0).reshape(samples.shape[1], -1).astype(np.complex128)
    return rows @ rows.conj().T / rows.shape[1]


def test_matrix_whitens_a_known_covariance():
    matrix, dead, condition = whitening_matrix(COVARIANCE, 10**9)
    assert np.allclose(matrix @ COVARIANCE @ matrix.conj().T, 2 * np.eye(COILS), atol=1e-5)
    assert dead == ()
    sigma = np.sqrt(np.diagonal(COVARIANCE).real)
    assert condition == pytest.approx(np.linalg.cond(COVARIANCE / np.outer(sigma, sigma)), rel=1e-5)


def test_noise_is_white_with_sigma_1_per_real_channel():
    state, (out,) = run(block(noise(256), noise=True), block(noise(256)))
    assert state.whitened and state.coils == COILS and state.samples == 256 * SAMPLES
    assert np.allclose(covariance_of(out.samples), 2 * np.eye(COILS), atol=0.04)
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.01)
    assert out.samples.dtype == np.complex64


@pytest.mark.parametrize(("noise_dwell", "dwell"), [(5.0, 2.5), (2.0, 10.0), (7.8, 7.8)])
def test_dwell_times_of_noise_scan_and_image_may_differ(noise_dwell, dwell):
    scan = block(noise(200, noise_dwell), noise_dwell, noise=True)
    state, (out,) = run(scan, block(noise(200, dwell), dwell))
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.015)
    assert state.scale == pytest.approx(np.sqrt(dwell / noise_dwell))


def test_each_readout_is_scaled_for_its_own_dwell_time():
    both = block(np.concatenate([noise(100, 2.0), noise(100, 8.0)]))
    both.headers["sample_time_us"] = np.repeat([2.0, 8.0], 100)
    _, (out,) = run(block(noise(200), noise=True), both)
    assert np.std(out.samples[:100].real) == pytest.approx(1, abs=0.015)
    assert np.std(out.samples[100:].real) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize(("stated", "meant"), [(0.5, 0.5), (None, 0.793)])
def test_receiver_bandwidth_of_the_noise_scan(stated, meant):
    scan = block(noise(200) * np.sqrt(meant), noise=True)
    _, (out,) = run(scan, block(noise(200)), bandwidth=stated)
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.015)


def test_missing_dwell_times_mean_no_scaling():
    state, (out,) = run(block(noise(200), 0.0, noise=True), block(noise(200), 4.0), bandwidth=0.5)
    assert state.scale == 1
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.015)


def test_a_header_without_system_information_will_do():
    header = xsd.ismrmrdHeader(experimentalConditions=CONDITIONS)
    state, _ = Prewhiten(header)(iter([block(noise(1))]))
    assert not state.whitened


def test_discarded_samples_are_not_part_of_the_noise():
    spoilt = noise(200)
    spoilt[..., :20] = 1e3
    spoilt[..., -30:] = -1e3
    scan = block(spoilt, noise=True)
    scan.headers["discard_pre"], scan.headers["discard_post"] = 20, 30
    state, (out,) = run(scan, block(noise(200)))
    assert state.samples == 200 * (SAMPLES - 50)
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.015)


def test_noise_readouts_with_bad_samples_are_left_out():
    spoilt = noise(200)
    spoilt[3, 1, 7] = np.nan
    spoilt[9, 0, 0] = np.inf
    state, (out,) = run(block(spoilt, noise=True), block(noise(200)))
    assert state.samples == 198 * SAMPLES
    assert np.std(out.samples.real) == pytest.approx(1, abs=0.015)


def test_a_dead_coil_is_set_to_zero_and_the_others_are_white():
    scan, image = noise(200), noise(200)
    scan[:, 2] = image[:, 2] = 0
    state, (out,) = run(block(scan, noise=True), block(image))
    assert state.dead_coils == (2,)
    assert np.isfinite(out.samples).all()
    assert np.allclose(covariance_of(out.samples), 2 * np.diag([1, 1, 0, 1, 1]), atol=0.04)


def test_two_coils_with_the_same_signal_and_few_samples_stay_bounded():
    scan = noise(1)[..., :3]
    scan[:, 1] = scan[:, 0]
    state, (out,) = run(block(scan, noise=True), block(noise(50)))
    assert state.whitened and np.isfinite(state.condition)
    assert np.abs(out.samples).max() < 1e3


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        ([], "no noise scan"),
        ([block(np.zeros((2, COILS, 8)), noise=True)], "all zero"),
        ([block(np.full((2, COILS, 8), np.nan), noise=True)], "no usable samples"),
        ([block(noise(2, coils=3), noise=True)], "noise scan has 3 coils, readouts have 5"),
    ],
)
def test_without_a_usable_noise_scan_blocks_pass_and_the_reason_is_told(scan, reason):
    image = block(noise(3))
    state, (out,) = run(*scan, image)
    assert not state.whitened and reason in state.reason
    assert np.array_equal(out.samples, image.samples)


def test_late_noise_readouts_are_dropped():
    late = block(noise(4) * 50, noise=True)
    _, out = run(block(noise(200), noise=True), block(noise(100)), late, block(noise(100)))
    assert [len(b) for b in out] == [100, 100]
    assert np.std(out[1].samples.real) == pytest.approx(1, abs=0.02)


def test_readouts_with_other_coils_pass_untouched():
    other = block(noise(3, coils=2))
    _, out = run(block(noise(200), noise=True), block(noise(2)), other)
    assert np.array_equal(out[1].samples, other.samples)


def test_noise_and_image_may_share_a_block_and_the_scan_has_an_age():
    both = block(np.concatenate([noise(200), noise(5)]))
    both.headers["flags"][:200] = int(AcquisitionFlag.IS_NOISE_MEASUREMENT)
    both.arrival_ns[:200] = 1_000_000_000
    state, (out,) = run(both)
    assert len(out) == 5 and state.whitened
    assert state.age_s == pytest.approx(2.5)


def test_other_items_pass_and_noise_alone_gives_nothing():
    wave = Waveform(np.void(b""), np.zeros((1, 1), np.uint32))
    assert list(Prewhiten(mrd_header())(iter([wave, block(noise(2), noise=True)]))) == [wave]
