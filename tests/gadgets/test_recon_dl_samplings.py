"""The shipped network on what scanners send: any sampling, any matrix, few coils or many.

Against the fully sampled truth, float64. Either the network's image is no worse than SENSE by more
than a bound, or the image is that of SENSE and says why. The bound is what was measured: strong
signals and random lines are where SENSE may be ahead. Simulated, but for the brain.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.chains import build
from bench.simulated import multicoil, sampling
from engines.engine import Options, load_engine
from gadgets.fft import fftc, ifftc
from gadgets.items import Frame, FrameKey, Image
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage
from scanner.brain import FILE_NAME, brain_messages

RELATIVE, ABSOLUTE = 1.05, 0.02
"""How much more of NRMSE than SENSE the network may have."""


@pytest.fixture(scope="module")
def engine():
    return load_engine("recon", options=Options(threads=1))


def frame(kspace, mask, calibration=None, snr_units=True, echo=0.0):
    """A frame without what the mask and an asymmetric echo (part of the readout) leave out."""
    kspace = kspace * mask[None, :, :, None]
    readout = np.arange(kspace.shape[3]) >= echo * kspace.shape[3]
    if echo:
        kspace = ifftc(fftc(kspace, (3,)) * readout, (3,))
    return Frame(
        kspace=kspace.astype(np.complex64),
        mask=mask,
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=np.zeros((), ACQUISITION_HEADER)[()],
        readout_mask=readout,
        calibration=calibration,
        n_readouts=int(mask.sum()),
        snr_units=snr_units,
    )


def one(gadget, item) -> Image:
    (image,) = gadget(iter([item]))
    return image


def by_network(image: Image) -> bool:
    return "AI" in image.history


def nrmse(image: Image, truth: np.ndarray) -> float:
    expected = np.abs(truth).astype(np.float64)
    return float(np.linalg.norm(np.abs(image.data) - expected) / np.linalg.norm(expected))


def is_no_worse(engine, item: Frame, truth: np.ndarray) -> bool:
    """Check the image of a frame; returns whether it is the network's."""
    image = one(ReconstructDL(engine), item)
    conventional = one(Reconstruct(), item)
    assert image.data.shape == truth.shape
    assert np.isfinite(image.data).all() and np.isfinite(image.noise_map).all()
    if not by_network(image):
        assert image.history[-1].startswith("fallback: no network reconstruction: ")
        np.testing.assert_array_equal(image.data, conventional.data)
        return False
    np.testing.assert_array_equal(image.conventional, conventional.data)
    assert nrmse(image, truth) <= RELATIVE * nrmse(conventional, truth) + ABSOLUTE
    return True


@st.composite
def lines(draw) -> tuple[np.ndarray, int]:
    """A mask of lines (1, ky), and x."""
    ny, factor = draw(st.integers(48, 97)), draw(st.integers(1, 6))
    y = np.arange(ny) - ny // 2
    if draw(st.booleans()):
        mask = sampling(ny, 1, (factor, 1), 20)[0]
    else:
        seed = draw(st.integers(0, 100))
        mask = (np.random.default_rng(seed).random(ny) < 1 / factor) | (np.abs(y) < 10)
    if draw(st.booleans()):  # partial Fourier, on either side
        kept = y > -draw(st.floats(0.15, 0.4)) * ny
        mask = mask & (kept if draw(st.booleans()) else np.roll(kept[::-1], 1))
    return mask[None], draw(st.integers(33, 70))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    of=lines(),
    coils=st.sampled_from([4, 8, 16, 64]),
    snr=st.sampled_from([8.0, 20.0, 60.0, 200.0]),
    echo=st.sampled_from([0.0, 0.0, 0.0, 0.2]),
)
def test_any_sampling_of_lines(engine, of, coils, snr, echo):
    mask, nx = of
    data = multicoil(coils, (1, mask.shape[1], nx), snr)
    done = is_no_worse(engine, frame(data.kspace, mask, echo=echo), data.image)
    assert not (done and echo)


def partitions(nz: int, ny: int, kind: str) -> np.ndarray:
    """A mask (kz, ky) whose centre is full."""
    z, y = (np.arange(nz) - nz // 2)[:, None], (np.arange(ny) - ny // 2)[None]
    centre = (np.abs(z) < 8) & (np.abs(y) < 8)
    random, radius = np.random.default_rng(5).random((nz, ny)), np.hypot(2 * z / nz, 2 * y / ny)
    masks = {
        "2 x 2": (z % 2 == 0) & (y % 2 == 0),
        "CAIPIRINHA 1 x 4": (z - 2 * y) % 4 == 0,
        "lines only": (y % 3 == 0) & (z < nz),
        "random": random < 0.2,
        "variable density": random < 0.6 * np.clip(1.1 - radius, 0.02, 1) ** 2,
        "elliptic": (z % 2 == 0) & (y % 2 == 0) & (radius < 1),
        "partial Fourier": (z % 2 == 0) & (y % 2 == 0) & (y > -ny // 4),
    }
    return masks[kind] | centre


@pytest.mark.parametrize("snr", [10.0, 60.0])
@pytest.mark.parametrize("nz", [12, 35])
@pytest.mark.parametrize(
    "kind",
    [
        "2 x 2",
        "CAIPIRINHA 1 x 4",
        "lines only",
        "random",
        "variable density",
        "elliptic",
        "partial Fourier",
    ],
)
def test_any_sampling_of_partitions(engine, kind, nz, snr):
    """Thin slabs are slices to the network, and show it no aliasing along kz; others are planes
    across the readout."""
    data = multicoil(8, (nz, 45, 33), snr)
    item = frame(data.kspace, partitions(nz, 45, kind), data.calibration(16, min(nz, 16)))
    done = is_no_worse(engine, item, data.image)
    assert not (done and nz == 12 and kind != "lines only")


def test_planes_across_the_readout_may_be_few(engine):
    """Too few for slices, which the network would refuse."""
    data = multicoil(8, (40, 48, 5), 20.0)
    item = frame(data.kspace, partitions(40, 48, "random"), data.calibration(16, 16))
    assert is_no_worse(engine, item, data.image)


class TestWithoutNoiseScan:
    def test_the_network_still_betters_sense_and_units_stay(self, engine):
        data, mask = multicoil(8, (1, 96, 64), 20.0), sampling(96, 1, (3, 1), 20)
        item = frame(data.kspace * 0.01, mask, snr_units=False)
        image, conventional = one(ReconstructDL(engine), item), one(Reconstruct(), item)
        assert by_network(image) and not image.snr_units
        assert "noise estimated from the data: sigma 0.0" in image.history[1]
        np.testing.assert_array_equal(image.conventional, conventional.data)
        assert nrmse(image, 0.01 * data.image) < 0.9 * nrmse(conventional, 0.01 * data.image)

    def test_it_does_not_depend_on_the_units(self, engine):
        data, mask = multicoil(8, (1, 64, 48), 20.0), sampling(64, 1, (2, 1), 20)
        images = [
            one(ReconstructDL(engine), frame(data.kspace * np.float32(unit), mask, snr_units=False))
            for unit in (1, 2**20)
        ]
        np.testing.assert_allclose(images[1].data / 2**20, images[0].data, rtol=1e-3, atol=1e-2)


def test_a_nominal_acceleration_may_be_a_little_more(engine):
    """A random sampling with a chance of 1/8 does not hold exactly an eighth."""
    data, limit = multicoil(12, (64, 64, 3), 60.0), engine.manifest.limits.acceleration[1]
    for lines, done in ((500, True), (470, False)):
        mask = np.zeros((64, 64), bool)
        mask[24:40, 24:40] = True
        others = np.flatnonzero(~mask)
        rng = np.random.default_rng(1)
        mask.flat[rng.choice(others, lines - 256, replace=False)] = True
        assert mask.size / mask.sum() > limit
        image = one(ReconstructDL(engine), frame(data.kspace, mask, data.calibration(16, 16)))
        assert by_network(image) == done
        assert done or "acceleration 8.71, the network was trained for 1 to 8" in image.history[-1]


def test_the_real_brain_goes_through_the_network(shared_data):
    """3D, random in two directions, R 8.04, no noise scan: through the agent's chain."""
    header, *blocks = brain_messages(shared_data / FILE_NAME)
    items = build("dl", parse_header(header.xml), "float32")(iter(blocks))
    (image,) = (item for item in items if isinstance(item, ImageMessage))
    meta = parse_meta(image.attributes)
    history = " ".join(meta["ImageProcessingHistory"])
    assert "noise estimated from the data" in history
    assert "unrolled reconstruction by recon" in history
    assert "BoresideFallback" not in meta and meta["BoresideSNRUnits"] == "0"
    assert np.isfinite(image.data).all()
