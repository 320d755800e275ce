"""The reconstruction in PyTorch is that in NumPy, and on a GPU one graph (``pytest -m gpu``)."""

import numpy as np
import pytest

from engines.engine import Options, load_engine
from engines.unrolled import READOUT, Schedule, as_volume, levels, planes_across, unrolled

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")

from engines.unrolled_torch import UnrolledTorch, in_torch  # noqa: E402

SCHEDULE = Schedule((1.0, 0.6, 0.4), (0.5, 1.0))


def scan(shape=(1, 40, 36), coils=6, seed=0):
    """k-space, mask, maps of unit norm, a start and its noise map, with an empty background."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]

    maps = normal(coils, *shape)
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    mask = rng.random(shape[:2]) < 0.5
    noise = (1 + rng.random(shape)).astype(np.float32)
    noise[:, :, :3] = 0
    kspace = 20 * normal(coils, *shape) * mask[None, :, :, None]
    return kspace, mask, maps, 20 * normal(*shape) * (noise > 0), noise


def open_unet(store, precision):
    options = Options(threads=1, precision=precision)
    return load_engine("unet", runtime="torch", store=store, options=options)


def by_numpy(engine, given, schedule=SCHEDULE):
    """Image and log_sigma by `engines.unrolled` in NumPy around the engine in fp32."""
    latest, across = {}, planes_across(given[3].shape, engine.manifest)

    def network(planes):
        latest.update(engine.outputs(planes))
        return latest["planes"]

    return unrolled(*given, network, schedule, across=across), latest.get("log_sigma")


def difference(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("shape", "coils"),
    [((1, 40, 36), 6), ((5, 16, 20), 4), ((10, 16, 7), 4), ((1, 33, 27), 1), ((1, 32, 24), 9)],
)
def test_it_is_the_reconstruction_of_numpy(unet_store, shape, coils):
    engine = open_unet(unet_store, "fp32")
    given = scan(shape, coils)
    before = [array.copy() for array in given]
    found, further = in_torch(engine, SCHEDULE)(*given)
    expected, _ = by_numpy(engine, given)
    assert found.dtype == np.complex64 and found.shape == shape
    assert difference(found, expected) < 1e-4
    assert further == {}
    for array, copy in zip(given, before):
        np.testing.assert_array_equal(array, copy)


def test_the_predicted_error_comes_out_too(uncertain_store):
    engine = open_unet(uncertain_store, "fp32")
    given = scan((2, 40, 36))
    found, further = in_torch(engine, SCHEDULE)(*given)
    expected, log_sigma = by_numpy(engine, given)
    assert difference(found, expected) < 1e-4
    assert further["log_sigma"].shape == (2, 1, 40, 40)
    assert difference(further["log_sigma"], log_sigma) < 1e-4


def test_the_predicted_error_of_a_3d_scan_is_of_planes_across_the_readout(uncertain_store):
    engine = open_unet(uncertain_store, "fp32")
    given = scan((18, 20, 7))
    _, further = in_torch(engine, SCHEDULE)(*given)
    _, log_sigma = by_numpy(engine, given)
    assert further["log_sigma"].shape == (7, 1, 24, 24)
    found = as_volume(further["log_sigma"][:, 0], (18, 20, 7), READOUT)
    assert difference(found, as_volume(log_sigma[:, 0], (18, 20, 7), READOUT)) < 1e-4


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precision_stays_within_half_a_percent(unet_store, precision):
    given = scan()
    found, _ = in_torch(open_unet(unet_store, precision), SCHEDULE)(*given)
    expected, _ = by_numpy(open_unet(unet_store, "fp32"), given)
    assert difference(found, expected) < 5e-3


def test_slabs_go_through_the_network_in_parts(unet_store, monkeypatch):
    engine = open_unet(unet_store, "fp32")
    given = scan((5, 16, 16))
    whole, _ = in_torch(engine, SCHEDULE)(*given)
    monkeypatch.setattr("engines.unrolled_torch.BATCH_PIXELS", 2 * 16 * 16)
    parts, _ = in_torch(engine, SCHEDULE)(*given)
    assert difference(parts, whole) < 1e-6


def test_an_image_without_signal_is_empty(unet_store):
    *given, noise = scan()
    found, _ = in_torch(open_unet(unet_store, "fp32"), SCHEDULE)(*given, np.zeros_like(noise))
    assert not found.any()


def test_an_engine_of_another_kind_is_named(tmp_path, tiny_network):
    from engines.store import Store

    tiny_network.write(tmp_path)
    with pytest.raises(ValueError, match="expected an engine that runs in PyTorch, got ONNX"):
        in_torch(load_engine("tiny", store=Store(site=tmp_path)), SCHEDULE)


@pytest.mark.gpu
class TestGpu:
    """Not run yet anywhere."""

    @pytest.fixture(autouse=True)
    def _gpu(self):
        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU")

    def _eager(self, engine, given):
        made = UnrolledTorch(engine.session, engine.manifest, SCHEDULE, graphs=False)
        return made(*given)[0]

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
    def test_the_graph_gives_what_the_steps_give(self, unet_store, precision):
        """Also for other data of the same shape, and after another shape."""
        engine = open_unet(unet_store, precision)
        graphs = in_torch(engine, SCHEDULE)
        graphs.warm_up((6, 1, 40, 36))
        for seed, shape in [(0, (1, 40, 36)), (1, (1, 40, 36)), (2, (4, 32, 48)), (3, (1, 40, 36))]:
            given = scan(shape, seed=seed)
            assert difference(graphs(*given)[0], self._eager(engine, given)) < 1e-3

    @pytest.mark.parametrize(
        ("precision", "limit"), [("fp32", 1e-3), ("fp16", 5e-3), ("bf16", 5e-3)]
    )
    def test_it_agrees_with_fp32_on_the_cpu(self, uncertain_store, precision, limit):
        from engines.torch_runtime import build_module

        module = build_module(uncertain_store.open("unet"))

        def network(planes):
            with torch.inference_mode():
                return module(torch.as_tensor(planes))[0].numpy()

        given = scan((1, 160, 128), coils=8)
        found, _ = in_torch(open_unet(uncertain_store, precision), SCHEDULE)(*given)
        assert difference(found, unrolled(*given, network, SCHEDULE)) < limit

    def test_one_replay_is_all_that_is_launched(self, unet_store):
        """Of a slice: no kernel of network, transform or data consistency comes from the host."""
        engine = open_unet(unet_store, "fp16")
        graphs, given = in_torch(engine, SCHEDULE), scan()
        graphs(*given)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            graphs(*given)
        names = {event.key for event in profile.key_averages()}
        assert not {name for name in names if "fft" in name or "conv2d" in name}

    def test_cupy_goes_in_and_out_by_dlpack(self, unet_store):
        cupy = pytest.importorskip("cupy", reason="needs CuPy")
        engine, given = open_unet(unet_store, "fp16"), scan()
        kspace, mask, *rest = given
        on_gpu = (cupy.asarray(kspace), mask, *map(cupy.asarray, rest))
        assert levels(*on_gpu[3:]) == pytest.approx(levels(*given[3:]), rel=1e-5)
        found, _ = in_torch(engine, SCHEDULE)(*on_gpu)
        assert isinstance(found, cupy.ndarray)
        assert difference(found.get(), in_torch(engine, SCHEDULE)(*given)[0]) < 1e-3
