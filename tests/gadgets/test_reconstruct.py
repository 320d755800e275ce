"""Frames become images in SNR units whatever they lack; none is lost, and history says how."""

from dataclasses import replace

import numpy as np
import pytest

from bench.simulated import MultiCoil, multicoil, sampling
from gadgets.fft import fftc
from gadgets.items import Calibration, Frame, FrameKey, Image
from gadgets.reconstruct import Reconstruct
from protocols.header import parse_header
from protocols.mrd_types import ACQUISITION_HEADER

KEY = FrameKey(0, 0, 0, 0, 0, 0)
NY, NX = 96, 90

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>180</x><y>96</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>600</x><y>320</y><z>4</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>90</x><y>90</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>300</x><y>300</y><z>4</z></fieldOfView_mm></reconSpace>
  <trajectory>cartesian</trajectory><encodingLimits/>
 </encoding>
</ismrmrdHeader>"""


@pytest.fixture(scope="module")
def data():
    return multicoil(12, (1, NY, NX), snr=60)


@pytest.fixture(scope="module")
def bright():
    """Signal so high that what is missing weighs more than noise."""
    return multicoil(12, (1, NY, NX), snr=300)


def frame(data: MultiCoil, mask: np.ndarray, **changes) -> Frame:
    made = Frame(
        kspace=data.kspace * mask[None, :, :, None],
        mask=mask,
        key=KEY,
        header=np.zeros((), ACQUISITION_HEADER)[()],
        readout_mask=np.ones(2 * data.kspace.shape[3], bool),
        n_readouts=int(mask.sum()),
        last_readout_ns=17,
        snr_units=True,
    )
    return replace(made, **changes)


def reconstruct(*items, **options) -> list:
    return list(Reconstruct(**options)(iter(items)))


def error(image: Image, data: MultiCoil) -> float:
    signal = np.abs(data.image) > 0.1 * np.abs(data.image).max()
    difference = (np.abs(image.data) - np.abs(data.image))[signal]
    return float(np.linalg.norm(difference) / np.linalg.norm(data.image[signal]))


def test_full_sampling_is_combined_with_maps_from_its_own_centre(data):
    (image,) = reconstruct(frame(data, np.ones((1, NY), bool)))
    assert (image.data.dtype, image.data.shape) == (np.complex64, (1, NY, NX))
    assert (image.quantity, image.snr_units, image.acceleration) == ("complex", True, 1.0)
    assert (image.n_readouts, image.last_readout_ns, image.complete) == (NY, 17, True)
    assert "full sampling" in image.history[0]
    assert "ESPIRiT" in image.history[0]
    signal = np.abs(data.image) > 10
    residual = (np.abs(image.data) - np.abs(data.image))[signal]
    assert residual.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(image.noise_map[signal], 1)


@pytest.mark.parametrize("method", ["sense", "grappa"])
@pytest.mark.parametrize("acceleration", [2, 3])
def test_undersampled_with_calibration_lines_within(data, method, acceleration):
    mask = sampling(NY, 1, (acceleration, 1), 24)
    (image,) = reconstruct(frame(data, mask), method=method)
    assert method.upper() in image.history[0]
    assert image.acceleration == pytest.approx(mask.size / mask.sum())
    signal = np.abs(data.image) > 10
    residual = (np.abs(image.data) - np.abs(data.image))[signal]
    assert np.std(residual / image.noise_map[signal]) == pytest.approx(1, abs=0.15)
    assert image.noise_map[signal].min() > 0.9


@pytest.mark.parametrize("method", ["sense", "grappa"])
def test_separate_calibration_serves_later_contrasts_of_its_slice(data, method):
    mask = sampling(NY, 1, (2, 1), 0)
    items = [Calibration(data.calibration(24), KEY)]
    items += [frame(data, mask, key=KEY._replace(contrast=n, repetition=n)) for n in (0, 1)]
    images = reconstruct(*items, method=method)
    assert [image.key.contrast for image in images] == [0, 1]
    assert all("fallback" not in step for image in images for step in image.history)
    np.testing.assert_allclose(images[0].data, images[1].data, rtol=1e-5)
    assert error(images[0], data) < 0.1


def test_slices_do_not_share_maps(data):
    mask = sampling(NY, 1, (2, 1), 0)
    other = frame(data, mask, key=KEY._replace(slice=1))
    _, image = reconstruct(Calibration(data.calibration(24), KEY), frame(data, mask), other)
    assert "fallback: no calibration lines" in image.history[0]


def test_slices_in_turn_keep_their_own_maps(data):
    mask, moved = sampling(NY, 1, (2, 1), 0), multicoil(12, (1, NY, NX), snr=60, seed=5)
    keys = [KEY, KEY._replace(slice=1)]
    items = [Calibration(d.calibration(24), k) for d, k in zip((data, moved), keys)]
    items += [frame(d, mask, key=k) for d, k in [(data, keys[0]), (moved, keys[1])] * 2]
    images = reconstruct(*items)
    assert [error(i, d) < 0.1 for i, d in zip(images, (data, moved) * 2)] == [True] * 4


def test_undersampled_without_calibration_falls_back(data):
    (image,) = reconstruct(frame(data, sampling(NY, 1, (3, 1), 0)))
    assert image.history[0].startswith("fallback: no calibration lines")
    assert (image.quantity, image.noise_map, image.data.dtype) == ("magnitude", None, np.float32)


def test_full_sampling_without_a_usable_centre_is_combined_adaptively(data):
    thin = frame(data, np.ones((1, NY), bool))
    short = replace(
        thin, kspace=thin.kspace[:, :, NY // 2 - 3 : NY // 2 + 3], mask=thin.mask[:, :6]
    )
    (image,) = reconstruct(short)
    assert "Walsh" in image.history[0]


def test_grappa_without_enough_lines_gives_way_to_sense(data):
    mask = sampling(NY, 1, (4, 1), 0)
    items = Calibration(data.calibration(10), KEY), frame(data, mask)
    (image,) = reconstruct(*items, method="grappa")
    assert image.history[0].startswith("fallback: GRAPPA: expected calibration lines")
    assert image.history[1].startswith("SENSE")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("way", ["holes", "nothing", "not finite", "one coil", "huge"])
def test_odd_frames_never_raise(data, way):
    mask = sampling(NY, 1, (2, 1), 24)
    odd = frame(data, mask)
    if way == "holes":
        mask = mask & (np.random.default_rng(0).random(mask.shape) < 0.8)
        odd = frame(data, mask, complete=False)
    elif way == "nothing":
        odd = frame(data, np.zeros_like(mask), complete=False)
    elif way == "not finite":
        odd.kspace[0, 0, NY // 2, 3] = np.nan
    elif way == "one coil":
        odd = replace(odd, kspace=odd.kspace[:1])
    else:
        odd = replace(odd, kspace=odd.kspace * np.float32(1e30))
    (image,) = reconstruct(odd)
    assert image.data.shape == (1, NY, NX)
    assert image.complete == odd.complete
    assert len(image.history) >= 1
    if way != "huge":
        assert np.all(np.isfinite(image.data))


@pytest.mark.parametrize("method", ["pocs", "homodyne"])
@pytest.mark.parametrize("acceleration", [1, 2])
def test_partial_fourier_is_found_and_filled_in(bright, method, acceleration):
    mask = sampling(NY, 1, (acceleration, 1), 24)
    mask[:, : NY // 4] = False
    filled, zeros = (
        reconstruct(frame(bright, mask), partial_fourier=name)[0] for name in (method, "zero-fill")
    )
    assert filled.history[-1] == f"partial Fourier 0.750 ky: {method}"
    assert error(filled, bright) < 0.7 * error(zeros, bright)


def test_asymmetric_echo(bright):
    shifted = frame(bright, np.ones((1, NY), bool))
    kept = np.ones(2 * NX, bool)
    kept[:40] = False
    kx = fftc(shifted.kspace, (3,))
    kx[..., :20] = 0
    short = replace(shifted, kspace=fftc(kx.conj(), (3,)).conj(), readout_mask=kept)
    filled, zeros = (reconstruct(short, partial_fourier=m)[0] for m in ("pocs", "zero-fill"))
    assert "kx: pocs" in filled.history[-1]
    assert error(filled, bright) < 0.7 * error(zeros, bright)


def test_noise_map_of_partial_fourier(data):
    mask = sampling(NY, 1, (1, 1), 0)
    mask[:, : NY // 4] = False
    (image,) = reconstruct(frame(data, mask))
    signal = np.abs(data.image) > 20
    noise = np.random.default_rng(3).standard_normal((*data.kspace.shape, 2), dtype=np.float32)
    noisier = replace(data, kspace=data.kspace + noise.view(np.complex64)[..., 0])
    pair = [
        reconstruct(Calibration(data.calibration(24), KEY), frame(d, mask))[0].data
        for d in (data, noisier)
    ]
    spread = np.std((np.abs(pair[1]) - np.abs(pair[0]))[signal])
    assert spread == pytest.approx(np.median(image.noise_map[signal]), rel=0.1)


@pytest.mark.parametrize("method", ["sense", "grappa"])
def test_slab_with_caipirinha(method):
    slab = multicoil(10, (16, 48, 40), snr=100)
    mask = sampling(48, 16, (2, 2), 12, 1)
    (image,) = reconstruct(frame(slab, mask), method=method)
    assert "2x2 shift 1" in image.history[0]
    assert error(image, slab) < 0.12


def test_field_of_view_and_unknown_items(data):
    known = Reconstruct(header=parse_header(HEADER))
    full = frame(data, np.ones((1, NY), bool))
    text, image = known(iter(["text", full]))
    assert text == "text"
    assert image.field_of_view == (300.0, 320.0, 4.0)
    assert reconstruct(full)[0].field_of_view == (NX, NY, 1)


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="expected 'sense' or 'grappa'"):
        Reconstruct(method="magic")
    with pytest.raises(ValueError, match="partial_fourier"):
        Reconstruct(partial_fourier="magic")
