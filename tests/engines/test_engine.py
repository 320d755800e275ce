"""The one interface: what every engine promises, whatever runs it."""

import numpy as np
import pytest

from engines.engine import Options, engine_or_reason, load_engine
from engines.errors import EngineUnavailable, WeightsRefused
from engines.manifest import Manifest, TensorSpec, parse_manifest
from engines.store import Store, seal, write_golden

RUNTIMES = ["onnx", "openvino"]
AXES = ("batch", "channel", "y", "x")


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    package = {"onnx": "onnxruntime"}.get(request.param, request.param)
    pytest.importorskip(package, reason=f"needs {package}")
    return request.param


@pytest.fixture
def store(tmp_path, tiny_network):
    tiny_network.write(tmp_path)
    return Store(site=tmp_path, shipped=tmp_path / "none")


def _manifest(folder):
    return parse_manifest((folder / "manifest.json").read_bytes())


def _planes(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_an_engine_computes_its_network(store, runtime, tiny_network):
    engine = load_engine("tiny", runtime=runtime, store=store, options=Options(threads=1))
    planes = _planes(3, 3, 40, 56)
    before = planes.copy()
    found = engine.run(planes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tiny_network.smoothed(planes), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(planes, before)
    np.testing.assert_array_equal(engine.outputs(planes)["planes"], found)


def test_results_outlive_the_next_run(store, runtime):
    engine = load_engine("tiny", runtime=runtime, store=store)
    first = engine.run(_planes(1, 3, 16, 16))
    kept = first.copy()
    engine.run(np.zeros((1, 3, 16, 16), np.float32))
    np.testing.assert_array_equal(first, kept)


def test_an_engine_says_what_it_is(store, runtime):
    engine = load_engine("tiny", "1.0", runtime, store=store, options=Options(threads=1))
    assert (engine.name, engine.version, engine.kind) == ("tiny", "1.0", "denoiser")
    assert engine.reason is None
    assert "fp32" in engine.runtime and "1 thread" in engine.runtime
    digest = engine.manifest.files["model.onnx"]
    assert engine.manifest.label == f"tiny 1.0 ({digest[:12]})"


def test_warming_up_takes_any_shape(store, runtime):
    engine = load_engine("tiny", runtime=runtime, store=store)
    engine.warm_up([(1, 8, 8), (2, 24, 16)])
    assert engine.last_run_ms > 0


def test_threads_do_not_change_the_result(store, runtime):
    planes = _planes(1, 3, 64, 64)
    one, two = (
        load_engine("tiny", runtime=runtime, store=store, options=Options(threads=n)).run(planes)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        (np.zeros((1, 2, 16, 16), np.float32), "expected planes"),
        (np.zeros((3, 16, 16), np.float32), "expected planes"),
        (np.zeros((1, 3, 16, 20), np.float32), "multiples of 8"),
        (np.zeros((1, 3, 16, 16), np.float64), "expected float32"),
    ],
)
def test_wrong_input_is_named(store, planes, message):
    with pytest.raises(ValueError, match=message):
        load_engine("tiny", store=store).run(planes)


def test_inputs_that_are_missing_or_unknown_are_named(store):
    with pytest.raises(ValueError, match="step"):
        load_engine("tiny", store=store).run(_planes(1, 3, 16, 16), step=1.0)


class TestUnavailable:
    def test_no_weights(self, tmp_path):
        with pytest.raises(EngineUnavailable, match="no weights"):
            load_engine("tiny", store=Store(site=tmp_path))

    def test_changed_weights(self, tmp_path, store):
        model = tmp_path / "tiny" / "1.0" / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"\0")
        with pytest.raises(WeightsRefused, match="SHA-256"):
            load_engine("tiny", store=store)

    def test_golden_vector_not_reproduced(self, tmp_path, tiny_network, runtime):
        folder = tiny_network.write(tmp_path)
        store = Store(site=tmp_path)
        inputs, outputs = store.open("tiny").golden()
        write_golden(folder / "golden.npz", inputs, {"planes": outputs["planes"] * 1.001})
        seal(folder, _manifest(folder))
        with pytest.raises(EngineUnavailable, match=r"differs from the golden vector by 0\.001"):
            load_engine("tiny", runtime=runtime, store=store)

    def test_golden_vector_of_another_shape(self, tmp_path, tiny_network):
        folder = tiny_network.write(tmp_path)
        inputs, outputs = Store(site=tmp_path).open("tiny").golden()
        write_golden(folder / "golden.npz", inputs, {"planes": outputs["planes"][:, :1]})
        seal(folder, _manifest(folder))
        with pytest.raises(EngineUnavailable, match="expected an output planes"):
            load_engine("tiny", store=Store(site=tmp_path))

    def test_model_that_is_none(self, tmp_path, tiny_network, runtime):
        folder = tiny_network.write(tmp_path)
        (folder / "model.onnx").write_bytes(b"no model")
        seal(folder, _manifest(folder))
        with pytest.raises(EngineUnavailable, match=f"the runtime {runtime} cannot run it"):
            load_engine("tiny", runtime=runtime, store=Store(site=tmp_path))

    def test_unknown_runtime(self, store):
        with pytest.raises(EngineUnavailable, match="expected a runtime of onnx, openvino"):
            load_engine("tiny", runtime="abacus", store=store)

    def test_precision_that_a_runtime_has_not(self, store, runtime):
        with pytest.raises(EngineUnavailable, match="expected fp32, got bf16"):
            load_engine("tiny", runtime=runtime, store=store, options=Options(precision="bf16"))

    def test_for_a_chain_it_is_an_engine_with_a_reason(self, tmp_path):
        engine = engine_or_reason("tiny", "7", store=Store(site=tmp_path))
        assert "no weights" in engine.reason
        assert (engine.name, engine.version, engine.manifest) == ("tiny", "7", None)
        with pytest.raises(EngineUnavailable, match="no weights"):
            engine.run(_planes(1, 3, 16, 16))


def test_a_chain_gets_the_same_engine_again(store):
    engine = engine_or_reason("tiny", store=store)
    assert engine.reason is None
    assert engine_or_reason("tiny", store=store) is engine


def test_a_scalar_input_and_a_second_output(tmp_path):
    """planes * step, and log(sigma), by an ONNX network with two inputs and outputs."""
    onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra dev")
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    split = make.make_node("Split", ["planes", "sizes"], ["image", "sigma"], axis=1)
    nodes = [
        split,
        make.make_node("Mul", ["image", "step"], ["scaled"]),
        make.make_node("Log", ["sigma"], ["log_sigma"]),
    ]
    graph = make.make_graph(
        nodes,
        "two",
        [
            make.make_tensor_value_info("planes", floats, ["b", 3, "y", "x"]),
            make.make_tensor_value_info("step", floats, []),
        ],
        [
            make.make_tensor_value_info("scaled", floats, ["b", 2, "y", "x"]),
            make.make_tensor_value_info("log_sigma", floats, ["b", 1, "y", "x"]),
        ],
        [onnx.numpy_helper.from_array(np.array([2, 1]), "sizes")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path / "two" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "card.md").write_text("Multiplies.\n")
    planes = np.abs(_planes(1, 3, 8, 8)) + 1

    def expected(planes, step):
        return {"planes": planes[:, :2] * step, "log_sigma": np.log(planes[:, 2:])}

    golden = {"planes": planes, "step": np.float32(3)}
    write_golden(folder / "golden.npz", golden, expected(planes, np.float32(3)))
    seal(
        folder,
        Manifest(
            name="two",
            version="1",
            kind="regulariser",
            architecture={"name": "two"},
            inputs=(
                TensorSpec(name="planes", axes=AXES, channels=("real", "imaginary", "sigma")),
                TensorSpec(name="step", axes=()),
            ),
            outputs=(
                TensorSpec(name="planes", axes=AXES),
                TensorSpec(name="log_sigma", axes=AXES),
            ),
            licence="Apache-2.0",
        ),
    )
    engine = load_engine("two", store=Store(site=tmp_path))
    found = engine.outputs(planes, step=0.5)
    for name, reference in expected(planes, 0.5).items():
        np.testing.assert_allclose(found[name], reference, rtol=1e-6)
    with pytest.raises(ValueError, match="step"):
        engine.run(planes)
