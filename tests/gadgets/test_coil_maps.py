"""ESPIRiT maps reproduce the simulated sensitivities, explain all signal, and agree with SigPy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bench.simulated import multicoil, sampling
from gadgets.coil_maps import LEAST_PRIOR, CoarseMaps, EstimateMaps, espirit
from gadgets.fft import fftc, ifftc
from gadgets.items import Calibration, Frame, FrameKey, SensitivityMaps
from protocols.mrd_types import ACQUISITION_HEADER

KEY = FrameKey(0, 0, 0, 0, 0, 0)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |<a, b>| over coils of unit-norm maps: 1 where they agree up to phase."""
    return np.abs(np.sum(a.conj() * b, axis=0))


@pytest.fixture(scope="module")
def flat():
    return multicoil(8, (1, 128, 120), snr=100)


@pytest.fixture(scope="module")
def maps(flat):
    return espirit(flat.calibration(24), (1, 128, 120))


def test_maps_are_the_true_sensitivities_up_to_phase(flat, maps):
    signal = np.abs(flat.image) > 10
    assert np.mean(overlap(maps, flat.maps)[signal] > 0.998) > 0.99


def test_maps_have_unit_norm_everywhere_for_weak_anatomy_is_not_cut_off(maps):
    np.testing.assert_allclose(np.linalg.norm(maps, axis=0), 1, atol=1e-5)
    assert maps.dtype == np.complex64


def test_the_prior_is_the_magnitude_of_the_image_at_low_resolution(flat):
    coarse = CoarseMaps.of(flat.calibration(24))
    prior = coarse.prior(flat.image.shape)
    signal = np.abs(flat.image)
    smooth = gaussian_filter(signal, (0, 3, 3))
    assert np.corrcoef(np.minimum(smooth / smooth.max(), 1).ravel(), prior.ravel())[0, 1] > 0.9
    assert prior.min() >= LEAST_PRIOR and prior.max() <= 1
    typical = coarse.typical / flat.image.size**0.5
    assert typical == pytest.approx((signal**2).sum() / signal.sum(), rel=0.5)


def test_what_the_maps_do_not_explain_is_only_noise(flat, maps):
    images = ifftc(flat.kspace, (2,))
    rest = images - maps * np.sum(maps.conj() * images, axis=0)
    signal = np.abs(flat.image) > 10
    per_channel = np.sqrt(np.mean(np.sum(np.abs(rest[:, signal]) ** 2, axis=0)) / 2 / 7)
    assert per_channel == pytest.approx(1, abs=0.03)


def test_phase_of_maps_is_smooth(flat, maps):
    signal = np.abs(flat.image) > 10
    both = signal[:, 1:] & signal[:, :-1]
    steps = np.sum(maps[:, :, 1:] * maps[:, :, :-1].conj(), axis=0)[both]
    assert np.abs(np.angle(steps)).max() < 0.2


def test_agrees_with_sigpy(flat, maps):
    sigpy_mri = pytest.importorskip("sigpy.mri")
    kspace = fftc(flat.kspace, (3,))[:, 0]
    theirs = sigpy_mri.app.EspiritCalib(kspace, calib_width=24, show_pbar=False).run()
    both = (np.abs(flat.image[0]) > 10) & (np.linalg.norm(theirs, axis=0) > 0)
    assert np.mean(overlap(maps[:, 0], theirs)[both] > 0.999) > 0.99


def test_slab():
    slab = multicoil(8, (16, 64, 60), snr=100)
    maps = espirit(slab.calibration(20, 12), (16, 64, 60))
    signal = np.abs(slab.image) > 10
    agreement = overlap(maps, slab.maps)[signal]
    assert np.mean(agreement > 0.99) > 0.97
    assert np.median(agreement) > 0.998


def test_calibration_of_noise_alone_does_not_raise():
    noise = np.random.default_rng(0).standard_normal((4, 1, 8, 32)).astype(np.complex64)
    assert espirit(noise, (1, 32, 32)).shape == (4, 1, 32, 32)


def frame(data, mask, calibration=None, **key) -> Frame:
    return Frame(
        kspace=data.kspace * mask[None, :, :, None],
        mask=mask,
        key=KEY._replace(**key),
        header=np.zeros((), ACQUISITION_HEADER)[()],
        readout_mask=np.ones(data.kspace.shape[3], bool),
        calibration=calibration,
    )


def test_gadget_puts_maps_before_the_first_frame_and_keeps_them_for_the_slice(flat):
    mask = sampling(128, 1, (2, 1), 0)
    items = [
        "unknown",
        Calibration(flat.calibration(24), KEY),
        frame(flat, mask),
        frame(flat, mask, contrast=1),
        frame(flat, mask, slice=1),
    ]
    kinds = [type(item) for item in EstimateMaps()(iter(items))]
    assert kinds == [str, Calibration, SensitivityMaps, Frame, Frame, Frame]


def test_gadget_uses_a_frames_own_lines_and_makes_new_maps_for_a_repetition(flat):
    mask = sampling(128, 1, (2, 1), 24)
    first = frame(flat, mask)
    second = replace(first, key=KEY._replace(repetition=1))
    out = list(EstimateMaps()(iter([first, second])))
    assert [type(item) for item in out] == [SensitivityMaps, Frame, SensitivityMaps, Frame]
    assert [out[0].key.repetition, out[2].key.repetition] == [0, 1]


def test_coarse_maps_are_small(flat):
    coarse = CoarseMaps.of(flat.calibration(24))
    assert coarse.vectors.nbytes < 200_000
