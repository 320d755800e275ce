"""Reconstruction by a network in the stream: done, or the conventional image and why."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from bench.simulated import multicoil, sampling
from engines.engine import Options, UnavailableEngine, load_engine
from engines.manifest import Limits
from engines.store import Store
from engines.unrolled import Schedule, unrolled
from gadgets.coil_compression import CompressCoils
from gadgets.coil_maps import EstimateMaps
from gadgets.items import Frame, FrameKey
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from gadgets.stream import chain
from protocols.mrd_types import ACQUISITION_HEADER

NY, NX = 60, 52


@pytest.fixture(scope="module")
def data():
    return multicoil(8, (1, NY, NX), snr=40)


@pytest.fixture(scope="module")
def engine(tmp_path_factory, tiny_network):
    """A real engine, which smooths."""
    root = tmp_path_factory.mktemp("weights")
    limits = Limits(snr=(3, 200), side=(32, 256), acceleration=(1, 4), coils=(4, 32))
    parameters = {"sigma": [1.0, 0.5], "weight": [1.0]}
    tiny_network.write(root, kind="regulariser", limits=limits, parameters=parameters)
    return load_engine("tiny", store=Store(site=root))


def make_frame(data, acceleration=2, **changes):
    mask = sampling(NY, 1, (acceleration, 1), 20)
    made = Frame(
        kspace=data.kspace * mask[None, :, :, None],
        mask=mask,
        key=FrameKey(0, 0, 0, 0, 0, 0),
        header=np.zeros((), ACQUISITION_HEADER)[()],
        readout_mask=np.ones(2 * NX, bool),
        n_readouts=int(mask.sum()),
        snr_units=True,
    )
    return replace(made, **changes)


def one(gadget, frame):
    (image,) = gadget(iter([frame]))
    return image


class Behaving:
    """An engine whose outputs are something else."""

    def __init__(self, engine, outputs):
        self._engine, self.outputs = engine, outputs

    def __getattr__(self, name):
        return getattr(self._engine, name)


def is_conventional(found, frame, reason):
    """The image is that of `Reconstruct`, and says why."""
    expected = one(Reconstruct(), frame)
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.conventional is None
    np.testing.assert_array_equal(found.noise_map, expected.noise_map)
    assert found.history[:-1] == expected.history
    assert found.history[-1].startswith("fallback: no network reconstruction: ")
    assert reason in found.history[-1]
    assert found.attributes["BoresideFallback"] == [found.history[-1]]
    assert "BoresideAI" not in found.attributes
    return True


class TestDone:
    def test_the_image_says_so(self, data, engine):
        image = one(ReconstructDL(engine), make_frame(data))
        assert image.data.shape == (1, NY, NX) and image.data.dtype == np.complex64
        assert image.history[0].startswith("SENSE") and image.history[1] == "AI"
        assert image.history[2].startswith("unrolled reconstruction by tiny 1.0 (")
        assert image.history[2].endswith("2 steps")
        assert image.attributes["BoresideAI"] == [engine.manifest.label]
        assert image.quantity == "complex" and image.snr_units
        assert image.acceleration == pytest.approx(60 / make_frame(data).mask.sum())

    def test_the_conventional_image_stays_with_it(self, data, engine):
        frame = make_frame(data)
        image = one(ReconstructDL(engine), frame)
        np.testing.assert_array_equal(image.conventional, one(Reconstruct(), frame).data)
        assert image.conventional.dtype == np.complex64

    def test_what_the_network_says_is_the_image_in_snr_units(self, data, engine):
        """A network which knows the truth, and its own error, gives both."""
        frame = make_frame(data)
        start = one(Reconstruct(), frame)
        scale = np.percentile(np.abs(start.data), 99)
        # Maps fix the phase only up to what they were estimated from: use that of the start.
        truth = np.abs(data.image) * np.exp(1j * np.angle(start.data))
        extended = ((0, 0), (0, 4), (0, 4))

        def outputs(planes):
            assert planes.shape == (1, 3, 64, 56)
            known = np.pad(truth, extended) / scale
            log_sigma = np.log(np.pad(np.full((1, NY, NX), 0.01), extended) / scale + 1e-9)
            return {
                "planes": np.stack([known.real, known.imag], axis=1).astype(np.float32),
                "log_sigma": log_sigma[:, None].astype(np.float32),
            }

        image = one(ReconstructDL(Behaving(engine, outputs)), frame)
        inside = start.noise_map > 0
        np.testing.assert_allclose(image.data[inside], truth[inside], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(image.noise_map[inside], 0.01, rtol=1e-4)
        assert not image.noise_map[~inside].any() and not image.data[~inside].any()

    def test_the_network_is_told_the_noise_map(self, data, engine):
        frame = make_frame(data)
        start = one(Reconstruct(), frame)
        scale = np.percentile(np.abs(start.data), 99)
        seen = []

        def outputs(planes):
            seen.append(planes)
            return engine.outputs(planes)

        image = one(ReconstructDL(Behaving(engine, outputs)), frame)
        assert len(seen) == 2
        for planes, level in zip(seen, (1.0, 0.5)):
            np.testing.assert_allclose(
                planes[:, 2, :NY, :NX], level * start.noise_map / scale, rtol=1e-5
            )
        # Without a prediction of its error, the noise map is an upper bound.
        np.testing.assert_array_equal(image.noise_map, start.noise_map)

    def test_coil_maps_are_made_once_for_all_contrasts(self, data, engine):
        first = make_frame(data)
        second = make_frame(data, key=FrameKey(0, 0, 1, 0, 0, 0), calibration=None)
        images = list(ReconstructDL(engine)(iter([first, second])))
        np.testing.assert_array_equal(images[0].data, images[1].data)

    def test_unknown_items_pass(self, engine):
        assert list(ReconstructDL(engine)(iter(["text"]))) == ["text"]


@pytest.fixture(scope="module")
def uncertain(tmp_path_factory):
    """Store with an untrained network that also predicts its error, which it takes for small."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra train")
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra train")
    from engines.nets import build
    from engines.training.export import describe, export

    architecture = {"name": "bias-free-unet", "channels": [8, 8], "blocks": [1, 1]}
    architecture["uncertainty"] = True
    torch.manual_seed(5)
    module = build(architecture)
    torch.nn.init.normal_(module.tail.weight, std=0.05)
    torch.nn.init.normal_(module.error.weight, std=1e-4)
    parameters = {"sigma": [1.0, 0.5, 0.4], "weight": [0.5, 1.0]}
    about = describe(
        "uncertain",
        "1",
        "regulariser",
        uncertainty=True,
        architecture=architecture,
        parameters=parameters,
    )
    folder = tmp_path_factory.mktemp("weights") / "uncertain" / "1"
    export(folder, module.state_dict(), about, "Not trained.")
    return Store(site=folder.parents[1])


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_noise_map_is_the_error_which_the_network_predicts(data, uncertain, runtime):
    """Step by step around ONNX Runtime, and all in PyTorch: the same image and error."""
    import torch

    from engines.torch_runtime import build_module

    frame = make_frame(data)
    start = one(Reconstruct(), frame)
    *_, maps, compressed = chain([CompressCoils(), EstimateMaps()])(iter([frame]))
    scale = np.percentile(np.abs(start.data), 99)
    module, predicted = build_module(uncertain.open("uncertain")), []

    def network(planes):
        with torch.inference_mode():
            denoised, log_sigma = module(torch.as_tensor(planes))
        predicted.append(np.exp(log_sigma.numpy()[:, 0, :NY, :NX]) * scale)
        return denoised.numpy()

    schedule = Schedule((1.0, 0.5, 0.4), (0.5, 1.0))
    given = (compressed.kspace, compressed.mask, maps.maps, start.data, start.noise_map)
    expected = unrolled(*given, network, schedule)

    engine = load_engine("uncertain", runtime=runtime, store=uncertain, options=Options(1, "fp32"))
    image = one(ReconstructDL(engine), frame)
    assert image.history[2].startswith("unrolled reconstruction by uncertain 1 (")
    assert isinstance(image.data, np.ndarray)
    assert np.linalg.norm(image.data - expected) < 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(image.noise_map, predicted[-1], rtol=1e-2)


class TestNotDone:
    def test_engine_unavailable(self, data):
        frame = make_frame(data)
        gadget = ReconstructDL(UnavailableEngine("recon", "1.0", "no weights of that name"))
        assert is_conventional(one(gadget, frame), frame, "no weights of that name")

    def test_engine_of_another_kind(self, data, tmp_path, tiny_network):
        tiny_network.write(tmp_path)
        frame = make_frame(data)
        gadget = ReconstructDL(load_engine("tiny", store=Store(site=tmp_path)))
        assert is_conventional(one(gadget, frame), frame, "expected a regulariser")

    def test_engine_without_a_schedule(self, data, tmp_path, tiny_network):
        tiny_network.write(tmp_path, kind="regulariser")
        frame = make_frame(data)
        gadget = ReconstructDL(load_engine("tiny", store=Store(site=tmp_path)))
        assert is_conventional(one(gadget, frame), frame, "ValueError: expected 'sigma'")

    def test_engine_error(self, data, engine):
        def outputs(planes):
            raise MemoryError("too much")

        frame = make_frame(data)
        found = one(ReconstructDL(Behaving(engine, outputs)), frame)
        assert is_conventional(found, frame, "MemoryError: too much")

    def test_engine_returns_nan(self, data, engine):
        broken = Behaving(engine, lambda planes: {"planes": np.full_like(planes[:, :2], np.nan)})
        frame = make_frame(data)
        assert is_conventional(one(ReconstructDL(broken), frame), frame, "returned NaN")

    def test_acceleration_out_of_range(self, data, engine):
        frame = make_frame(data, mask=np.zeros((1, NY), bool))
        frame.mask[:, 25:35] = True
        frame = replace(frame, kspace=data.kspace * frame.mask[None, :, :, None])
        assert is_conventional(one(ReconstructDL(engine), frame), frame, "trained for 1 to 4")

    def test_snr_out_of_range(self, data, engine):
        frame = make_frame(data)
        frame = replace(frame, kspace=frame.kspace * 1000)
        assert is_conventional(one(ReconstructDL(engine), frame), frame, "trained for 3 to 200")

    def test_neither_noise_scan_nor_noise_in_the_data(self, data, engine):
        frame = make_frame(data, snr_units=False)
        frame.kspace[:, :, :15] = frame.kspace[:, :, -15:] = 0
        assert is_conventional(one(ReconstructDL(engine), frame), frame, "no noise scan, and the")

    def test_asymmetric_echo(self, data, engine):
        frame = make_frame(data)
        frame.readout_mask[:20] = False
        assert is_conventional(one(ReconstructDL(engine), frame), frame, "asymmetric echo")

    def test_not_finite(self, data, engine):
        frame = make_frame(data)
        frame.kspace[0, 0, 0, 0] = np.nan
        found = one(ReconstructDL(engine), frame)
        assert "no image by SENSE" in found.history[-1] and np.isfinite(found.data).all()

    def test_no_calibration_lines(self, data, engine):
        mask = np.zeros((1, NY), bool)
        mask[:, ::2] = True
        frame = make_frame(data, mask=mask, kspace=data.kspace * mask[None, :, :, None])
        found = one(ReconstructDL(engine), frame)
        assert "no image by SENSE" in found.history[-1]


class Clock:
    def __init__(self):
        self.ns = 10**9

    def __call__(self):
        return self.ns


class TestDeadline:
    def test_already_passed(self, data, engine):
        clock = Clock()
        frame = make_frame(data, last_readout_ns=clock.ns)
        clock.ns += 10**9
        found = one(ReconstructDL(engine, deadline_ms=500, clock=clock), frame)
        assert is_conventional(found, frame, "had passed before")

    def test_late_between_steps(self, data, engine):
        """The network is not run again once it is late."""
        clock, ran = Clock(), []

        def outputs(planes):
            ran.append(planes)
            clock.ns += 10**13
            return engine.outputs(planes)

        frame = make_frame(data, last_readout_ns=clock.ns)
        gadget = ReconstructDL(Behaving(engine, outputs), deadline_ms=10**6, clock=clock)
        assert is_conventional(one(gadget, frame), frame, "passed while the engine ran")
        assert len(ran) == 1

    def test_what_hangs_is_left_behind(self, data, engine):
        go_on = threading.Event()

        def outputs(planes):
            go_on.wait()
            return engine.outputs(planes)

        frame = make_frame(data)
        gadget = ReconstructDL(Behaving(engine, outputs), deadline_ms=20, clock=Clock())
        try:
            assert is_conventional(one(gadget, frame), frame, "passed while the engine ran")
            assert is_conventional(one(gadget, frame), frame, "still busy")
        finally:
            go_on.set()
