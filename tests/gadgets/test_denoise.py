"""Denoising in the stream: what a network may do to an image, and when it may not."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.engine import UnavailableEngine, load_engine
from engines.manifest import Limits
from engines.store import Store
from gadgets.denoise import Denoise
from gadgets.items import FrameKey, Image
from protocols.mrd_types import ACQUISITION_HEADER

HEADER = np.zeros(1, ACQUISITION_HEADER)[0]


def make_image(shape=(2, 30, 44), dtype=np.complex64, snr=10.0, **fields):
    """Return a smooth object of the given SNR with noise of sigma 1 per real channel."""
    rng = np.random.default_rng(5)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    signal = snr * np.exp(-2 * (y[:, None] ** 2 + x**2)) * np.ones((len(z), 1, 1))
    data = signal * np.exp(1j * y[:, None]) + rng.standard_normal(shape)
    data = data + 1j * rng.standard_normal(shape)
    about = {
        "data": (data if dtype is np.complex64 else np.abs(data)).astype(dtype),
        "key": FrameKey(0, 0, 0, 0, 0, 0),
        "header": HEADER,
        "field_of_view": (200.0, 200.0, 5.0),
        "quantity": "complex" if dtype is np.complex64 else "magnitude",
        "snr_units": True,
        "noise_map": np.ones(shape, np.float32),
        "history": ("SENSE",),
    }
    return Image(**{**about, **fields})


@pytest.fixture
def engine(tmp_path, tiny_network):
    """A real engine which smooths."""
    limits = Limits(snr=(5, 100), sigma=(0, 1), side=(16, 64), pixels=3000)
    tiny_network.write(tmp_path, limits=limits)
    return load_engine("tiny", store=Store(site=tmp_path))


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.ns = 10**9

    def __call__(self):
        return self.ns


class Behaving:
    """An engine which does something else when it is run."""

    def __init__(self, engine, run):
        self._engine, self._run = engine, run

    def outputs(self, planes):
        return {"planes": self._run(planes)}

    def __getattr__(self, name):
        return getattr(self._engine, name)


def apply(gadget, image):
    (found,) = gadget(iter([image]))
    return found


def is_unchanged(found, image, reason):
    """The image left as it was, and says why."""
    assert found.data is image.data and found.conventional is None
    assert found.history[:-1] == image.history
    assert reason in found.history[-1] and found.history[-1].startswith("not denoised: ")
    assert found.attributes["BoresideFallback"] == [found.history[-1]]
    assert "BoresideAI" not in found.attributes
    return True


def smoothed(tiny_network, image):
    """What the network makes of an image whose sides were extended by reflection."""
    y, x = image.data.shape[1:]
    parts = np.stack([image.data.real, image.data.imag], axis=1)
    extended = np.pad(parts, ((0, 0), (0, 0), (0, -y % 8), (0, -x % 8)), mode="reflect")
    return tiny_network.smoothed(extended)[:, :, :y, :x]


class TestDone:
    def test_complex_images_stay_complex(self, engine, tiny_network):
        image = make_image()
        found = apply(Denoise(engine), image)
        expected = smoothed(tiny_network, image)
        assert found.data.dtype == np.complex64
        np.testing.assert_allclose(found.data, expected[:, 0] + 1j * expected[:, 1], atol=1e-4)

    def test_magnitude_images_stay_magnitude(self, engine, tiny_network):
        image = make_image(dtype=np.float32)
        found = apply(Denoise(engine), image)
        assert found.data.dtype == np.float32 and found.data.min() >= 0
        np.testing.assert_allclose(found.data, smoothed(tiny_network, image)[:, 0], atol=1e-4)

    def test_noise_becomes_less_where_the_signal_is_smooth(self, engine):
        image = make_image()
        found = apply(Denoise(engine), image)
        assert np.std(found.data[0] - found.data[1]) < 0.5 * np.std(image.data[0] - image.data[1])

    @pytest.mark.parametrize("strength", [1, 25, 80])
    def test_strength_blends_with_the_acquired_image(self, engine, strength):
        image = make_image()
        found = apply(Denoise(engine, strength), image).data
        whole = apply(Denoise(engine), image).data
        expected = image.data + strength / 100 * (whole - image.data)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_strength_0_is_the_identity(self, engine):
        image = make_image()
        found = apply(Denoise(engine, 0), image)
        assert found.data is image.data
        assert found.history == ("SENSE", "not denoised: strength 0 %")
        assert found.attributes == {}

    def test_many_slices_go_through_in_batches(self, engine, tiny_network, monkeypatch):
        monkeypatch.setattr("gadgets.denoise.BATCH_PIXELS", 2 * 32 * 48)
        image = make_image((5, 30, 44))
        expected = smoothed(tiny_network, image)
        found = apply(Denoise(engine), image).data
        np.testing.assert_allclose(found, expected[:, 0] + 1j * expected[:, 1], atol=1e-4)

    @pytest.mark.parametrize(("deadline_ms", "views"), [(None, 4), (10**6, 1)])
    def test_without_a_deadline_errors_that_depend_on_the_direction_cancel_out(
        self, engine, deadline_ms, views
    ):
        seen = []

        def leaning(planes):
            seen.append(planes)
            _, _, y, x = planes.shape
            lean = np.linspace(-1, 1, y)[:, None] + np.linspace(-1, 1, x)
            return planes[:, :2] + 0.01 * lean.astype(np.float32)

        image = make_image((1, 32, 48))
        found = apply(Denoise(Behaving(engine, leaning), deadline_ms=deadline_ms), image).data
        off = np.abs(found - image.data).max() / np.percentile(np.abs(image.data), 99)
        assert len(seen) == views
        assert off < 1e-6 if views == 4 else off > 0.01

    def test_the_image_says_so(self, engine):
        image = make_image(attributes={"BoresideAI": ["recon 1.0 (00)"], "other": 1})
        found = apply(Denoise(engine, 80), image)
        assert found.history[:2] == ("SENSE", "AI")
        entry = found.history[2]
        assert entry.startswith("denoised by tiny 1.0 (") and entry.endswith("strength 80 %")
        assert engine.manifest.files["model.onnx"][:12] in entry and "ONNX Runtime" in entry
        assert found.attributes["BoresideAI"] == ["recon 1.0 (00)", engine.manifest.label]
        assert found.attributes["other"] == 1
        assert found.role is image.role and found.noise_map is image.noise_map

    def test_the_image_before_stays_with_it(self, engine):
        image = make_image()
        assert apply(Denoise(engine, 80), image).conventional is image.data
        assert apply(Denoise(engine, 0), image).conventional is None

    def test_the_conventional_image_stays_what_it_was_before_all_networks(self, engine):
        image = make_image()
        before = replace(image, conventional=image.data * 2)
        assert apply(Denoise(engine), before).conventional is before.conventional

    def test_scaling_image_and_noise_scales_the_result(self, engine):
        image = make_image()
        larger = replace(image, data=image.data * 64, noise_map=image.noise_map * 64)
        one, other = (apply(Denoise(engine), item).data for item in (image, larger))
        np.testing.assert_allclose(other / 64, one, rtol=1e-5, atol=1e-5)

    def test_fully_sampled_images_need_no_noise_map(self, engine):
        seen = []

        def run(planes):
            seen.append(planes)
            return engine.run(planes)

        image = make_image(noise_map=None)
        apply(Denoise(Behaving(engine, run)), image)
        scale = np.percentile(np.abs(image.data), 99)
        np.testing.assert_allclose(seen[0][:, 2], 1 / scale, rtol=1e-5)

    def test_maps_and_unknown_items_pass(self, engine):
        items = ["text", make_image(dtype=np.float32, quantity="g-factor")]
        assert list(Denoise(engine)(iter(items))) == items


class TestNotDone:
    def test_engine_unavailable(self):
        image = make_image()
        engine = UnavailableEngine("tiny", "1.0", "no weights of that name")
        found = apply(Denoise(engine), image)
        assert is_unchanged(found, image, "engine tiny 1.0 unavailable: no weights")

    def test_engine_of_another_kind(self, tmp_path, tiny_network):
        tiny_network.write(tmp_path, kind="regulariser")
        engine = load_engine("tiny", store=Store(site=tmp_path))
        image = make_image()
        assert is_unchanged(apply(Denoise(engine), image), image, "expected a denoiser")

    def test_engine_error(self, engine):
        def run(planes):
            raise RuntimeError("out of memory")

        image = make_image()
        found = apply(Denoise(Behaving(engine, run)), image)
        assert is_unchanged(found, image, "RuntimeError: out of memory")

    def test_engine_returns_nan(self, engine):
        image = make_image()
        broken = Behaving(engine, lambda planes: np.full_like(planes[:, :2], np.nan))
        assert is_unchanged(apply(Denoise(broken), image), image, "returned NaN")

    def test_engine_takes_away_more_than_noise(self, engine):
        image = make_image(snr=30.0)
        empty = Behaving(engine, lambda planes: np.zeros_like(planes[:, :2]))
        assert is_unchanged(apply(Denoise(empty), image), image, "more than noise")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, engine, value):
        image = make_image()
        image.data[1, 2, 3] = value
        assert is_unchanged(apply(Denoise(engine), image), image, "NaN or Inf")

    def test_noise_map_not_finite(self, engine):
        image = make_image()
        image.noise_map[0, 0, 0] = np.nan
        assert is_unchanged(apply(Denoise(engine), image), image, "NaN or Inf")

    def test_no_noise_anywhere(self, engine):
        image = make_image(noise_map=np.zeros((2, 30, 44), np.float32))
        assert is_unchanged(apply(Denoise(engine), image), image, "zero everywhere")

    def test_undersampled_without_a_noise_map(self, engine):
        image = make_image(noise_map=None, acceleration=2.0)
        assert is_unchanged(apply(Denoise(engine), image), image, "without a noise map")

    def test_not_in_snr_units(self, engine):
        image = make_image(snr_units=False)
        assert is_unchanged(apply(Denoise(engine), image), image, "not in SNR units")

    @pytest.mark.parametrize("snr", [0.5, 500.0])
    def test_snr_out_of_range(self, engine, snr):
        image = make_image(snr=snr)
        found = apply(Denoise(engine), image)
        assert is_unchanged(found, image, "the network was trained for 5 to 100")

    def test_noise_out_of_range(self, engine):
        image = make_image()
        image.noise_map[0, :4] = 30
        assert is_unchanged(apply(Denoise(engine), image), image, "trained for 0 to 1")

    @pytest.mark.parametrize("shape", [(1, 8, 32), (1, 32, 80), (1, 60, 60)])
    def test_matrix_out_of_range(self, engine, shape):
        image = make_image(shape)
        assert is_unchanged(apply(Denoise(engine), image), image, f"{shape[1]} x {shape[2]}")

    def test_strength_must_be_a_percentage(self, engine):
        with pytest.raises(ValueError, match="expected 0 to 100"):
            Denoise(engine, 120)


class TestDeadline:
    def test_in_time(self, engine):
        clock = Clock()
        image = make_image(last_readout_ns=clock.ns)
        clock.ns += 10**6
        found = apply(Denoise(engine, deadline_ms=10**6, clock=clock), image)
        assert "AI" in found.history

    def test_already_passed(self, engine):
        clock = Clock()
        image = make_image(last_readout_ns=clock.ns)
        clock.ns += 200 * 10**6

        def run(planes):
            raise AssertionError("must not be run")

        gadget = Denoise(Behaving(engine, run), deadline_ms=100, clock=clock)
        assert is_unchanged(apply(gadget, image), image, "had passed before")

    def test_a_late_result_is_discarded(self, engine):
        clock = Clock()

        def run(planes):
            clock.ns += 10**13
            return engine.run(planes)

        image = make_image(last_readout_ns=clock.ns)
        gadget = Denoise(Behaving(engine, run), deadline_ms=10**6, clock=clock)
        assert is_unchanged(apply(gadget, image), image, "passed while the engine ran")

    def test_what_hangs_is_left_behind(self, engine):
        """The image leaves at its deadline, though the engine never comes back."""
        started, go_on, ran = threading.Event(), threading.Event(), []

        def run(planes):
            ran.append(planes)
            started.set()
            go_on.wait()
            return engine.run(planes)

        gadget = Denoise(Behaving(engine, run), deadline_ms=20, clock=Clock())
        image = make_image()
        try:
            assert is_unchanged(apply(gadget, image), image, "passed while the engine ran")
            assert is_unchanged(apply(gadget, image), image, "still busy with an earlier image")
            started.wait()
            assert len(ran) == 1
        finally:
            go_on.set()

    def test_what_hangs_is_left_behind_without_a_deadline_too(self, engine, monkeypatch):
        monkeypatch.setattr("engines.deadline.LONGEST_S", 0.02)
        go_on = threading.Event()

        def run(planes):
            go_on.wait()
            return engine.run(planes)

        gadget, image = Denoise(Behaving(engine, run)), make_image()
        try:
            assert is_unchanged(apply(gadget, image), image, "did not answer within 0.02 s")
            assert is_unchanged(apply(gadget, image), image, "still busy with an earlier image")
        finally:
            go_on.set()

    def test_unknown_arrival_counts_from_here(self, engine):
        found = apply(Denoise(engine, deadline_ms=10**6), make_image(last_readout_ns=0))
        assert "AI" in found.history
