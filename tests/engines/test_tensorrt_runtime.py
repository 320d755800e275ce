"""The TensorRT path up to TensorRT itself, and, with ``pytest -m gpu``, with it.

TensorRT cannot be installed on the machines of this project: another compiler stands where it is
called. It keeps the exported program as its plan and runs it in PyTorch, so that what is exported,
cached, found again and run is real.
"""

import io
from pathlib import Path

import numpy as np
import pytest

from engines.engine import Options, load_engine, open_engine
from engines.errors import EngineUnavailable, NotReproduced

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")
tensorrt_runtime = pytest.importorskip("engines.tensorrt_runtime")
Profile, build = tensorrt_runtime.Profile, tensorrt_runtime.build


class ProgramKeeper:
    """Stands where torch-tensorrt is called; its plans are exported programs."""

    device = torch.device("cpu")

    def __init__(self, **environment):
        self.versions = {"tensorrt": "0", "gpu": "none", "driver": "1", **environment}
        self.compiled = []
        self.factor = 1.0

    def environment(self):
        return dict(self.versions)

    def compile(self, program, inputs, precision):
        self.compiled.append((inputs, precision))
        plan = io.BytesIO()
        torch.export.save(program, plan)
        return plan.getvalue()

    def names(self, plan):
        return ["planes"], ["output0"]

    def load(self, plan, inputs, outputs):
        assert (inputs, outputs) == (["planes"], ["output0"])
        module = torch.export.load(io.BytesIO(plan)).module()
        return lambda planes: module(planes)[0] * self.factor


@pytest.fixture
def options(tmp_path):
    return Options(threads=1, precision="fp32", plans=tmp_path / "plans")


def _open(store, options, compiler):
    weights = store.open("unet")
    session = tensorrt_runtime.open_session(weights, options, compiler)
    from engines.engine import LoadedEngine

    engine = LoadedEngine(weights, session)
    engine.prove()
    return engine


def _planes(*shape):
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


def _agrees(engine, store, planes):
    reference = load_engine("unet", runtime="torch", store=store, options=Options(1, "fp32"))
    np.testing.assert_allclose(engine.run(planes), reference.run(planes), atol=1e-4)
    return True


def test_built_engines_are_found_and_run(unet_store, options):
    compiler = ProgramKeeper()
    profile = Profile((1, 16, 16), (1, 32, 32), (4, 64, 64))
    build(unet_store.open("unet"), [profile], options, compiler)
    shapes = [inputs[0] for inputs, _ in compiler.compiled]
    # The golden vector's own shape, then what was asked for.
    assert shapes[0] == ((1, 3, 16, 24),) * 3
    assert shapes[1] == ((1, 3, 16, 16), (1, 3, 32, 32), (4, 3, 64, 64))

    engine = _open(unet_store, options, ProgramKeeper())
    assert engine.runtime == "TensorRT 0, none, fp32"
    for shape in [(1, 3, 16, 24), (3, 3, 32, 32), (2, 3, 48, 64)]:
        assert _agrees(engine, unet_store, _planes(*shape))


def test_a_batch_goes_slice_by_slice_through_an_engine_for_one(unet_store, options):
    build(unet_store.open("unet"), [Profile.static((1, 32, 32))], options, ProgramKeeper())
    engine = _open(unet_store, options, ProgramKeeper())
    assert _agrees(engine, unet_store, _planes(5, 3, 32, 32))


def test_a_shape_without_an_engine_is_named(unet_store, options):
    build(unet_store.open("unet"), [], options, ProgramKeeper())
    engine = _open(unet_store, options, ProgramKeeper())
    with pytest.raises(EngineUnavailable, match=r"no engine was built for planes \(1, 3, 64, 64\)"):
        engine.run(_planes(1, 3, 64, 64))


def test_nothing_is_built_in_the_scan_path(unet_store, options):
    compiler = ProgramKeeper()
    with pytest.raises(EngineUnavailable, match="run `boreside engine build unet`"):
        tensorrt_runtime.open_session(unet_store.open("unet"), options, compiler)
    assert compiler.compiled == []


@pytest.mark.parametrize("what", ["tensorrt", "gpu", "driver"])
def test_another_machine_or_version_needs_engines_of_its_own(unet_store, options, what):
    build(unet_store.open("unet"), [], options, ProgramKeeper())
    other = ProgramKeeper(**{what: "another"})
    with pytest.raises(EngineUnavailable, match="no engine was built"):
        tensorrt_runtime.open_session(unet_store.open("unet"), options, other)


def test_another_precision_needs_engines_of_its_own(unet_store, options):
    build(unet_store.open("unet"), [], options, ProgramKeeper())
    half = Options(1, "fp16", options.plans)
    with pytest.raises(EngineUnavailable, match="fp16"):
        tensorrt_runtime.open_session(unet_store.open("unet"), half, ProgramKeeper())


def test_half_precision_is_the_modules_own(unet_store, options):
    """Strongly typed: convolutions of the exported program are in fp16, its ends in fp32."""
    half = Options(1, "fp16", options.plans)
    (path,) = build(unet_store.open("unet"), [], half, ProgramKeeper())
    program = torch.export.load(io.BytesIO(path.read_bytes()))
    assert {value.dtype for value in program.state_dict.values()} == {torch.float16}
    assert _open(unet_store, half, ProgramKeeper()).run(_planes(1, 3, 16, 24)).dtype == np.float32


def test_an_engine_that_differs_from_its_network_is_not_kept(unet_store, options):
    compiler = ProgramKeeper()
    compiler.factor = 1.01
    with pytest.raises(ValueError, match=r"differs from its network by 0\.01"):
        build(unet_store.open("unet"), [], options, compiler)
    assert list(Path(options.plans).glob("*.plan")) == []


def test_an_engine_proves_itself_on_the_golden_vector_at_load(unet_store, options):
    build(unet_store.open("unet"), [], options, ProgramKeeper())
    changed = ProgramKeeper()
    changed.factor = 1.01
    with pytest.raises(NotReproduced, match=r"differs from the golden vector by 0\.01"):
        _open(unet_store, options, changed)


def test_without_tensorrt_it_is_unavailable(unet_store, options):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineUnavailable, match="the runtime tensorrt is not here"):
        open_engine(unet_store.open("unet"), "tensorrt", options)


@pytest.mark.gpu
class TestGpu:
    """Not run yet anywhere: needs TensorRT's libraries."""

    @pytest.fixture(scope="class")
    def compiler(self):
        try:
            return tensorrt_runtime.TorchTensorRT()
        except ImportError as error:
            pytest.skip(f"TensorRT: {error}")

    @pytest.mark.parametrize(
        ("precision", "limit"), [("fp32", 1e-4), ("fp16", 5e-3), ("bf16", 5e-3)]
    )
    def test_static_and_dynamic_engines_agree_with_the_reference(
        self, unet_store, tmp_path, compiler, precision, limit
    ):
        options = Options(1, precision, tmp_path / "plans")
        profiles = [Profile.static((1, 64, 64)), Profile((1, 16, 16), (1, 64, 64), (4, 128, 128))]
        build(unet_store.open("unet"), profiles, options, compiler)
        engine = load_engine("unet", runtime="tensorrt", store=unet_store, options=options)
        reference = load_engine(
            "unet", runtime="torch", store=unet_store, options=Options(1, "fp32")
        )
        for shape in [(1, 3, 64, 64), (3, 3, 64, 64), (2, 3, 96, 128)]:
            planes = _planes(*shape)
            expected = reference.run(planes)
            difference = np.linalg.norm(engine.run(planes) - expected) / np.linalg.norm(expected)
            assert difference < limit
