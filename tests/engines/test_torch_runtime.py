"""PyTorch as an engine: on the CPU here, on a GPU with ``pytest -m gpu``."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable, NotReproduced
from engines.store import Store, seal, write_golden

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")


def _planes(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _reference(store, planes):
    from engines.torch_runtime import build_module

    with torch.inference_mode():
        return build_module(store.open("unet")).double()(torch.as_tensor(planes).double()).numpy()


def _difference(found, reference):
    return np.linalg.norm(found - reference) / np.linalg.norm(reference)


def test_it_computes_the_module_of_the_manifest(unet_store):
    engine = load_engine("unet", runtime="torch", store=unet_store, options=Options(2, "fp32"))
    planes = _planes(2, 3, 40, 32)
    assert _difference(engine.run(planes), _reference(unet_store, planes)) < 1e-5


def test_a_tensor_comes_back_as_a_tensor(unet_store):
    engine = load_engine("unet", runtime="torch", store=unet_store, options=Options(2, "fp32"))
    planes = _planes(1, 3, 16, 16)
    found = engine.run(torch.as_tensor(planes))
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    np.testing.assert_array_equal(found.cpu().numpy(), engine.run(planes))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precision_stays_within_half_a_percent(unet_store, precision):
    engine = load_engine("unet", runtime="torch", store=unet_store, options=Options(2, precision))
    assert engine.prove() < 5e-3
    planes = _planes(1, 3, 32, 32)
    assert _difference(engine.run(planes), _reference(unet_store, planes)) < 5e-3
    assert engine.run(planes).dtype == np.float32


def test_it_needs_the_parameters_by_name(tmp_path, tiny_network):
    tiny_network.write(tmp_path)
    with pytest.raises(EngineUnavailable, match=r"expected weights\.npz"):
        load_engine("tiny", runtime="torch", store=Store(site=tmp_path))


def test_it_proves_itself_on_the_golden_vector(unet_store, tmp_path):
    folder = shutil.copytree(unet_store.site, tmp_path / "site") / "unet" / "1.0"
    inputs, outputs = unet_store.open("unet").golden()
    write_golden(folder / "golden.npz", inputs, {"planes": outputs["planes"] * 1.001})
    seal(folder, unet_store.open("unet").manifest)
    options = Options(2, "fp32")
    with pytest.raises(NotReproduced, match=r"differs from the golden vector by 0\.001"):
        load_engine("unet", runtime="torch", store=Store(site=folder.parents[1]), options=options)


def test_the_predicted_error_is_proved_too(uncertain_store, tmp_path):
    """By the error and not by its logarithm, whose zero is a matter of units."""
    folder = shutil.copytree(uncertain_store.site, tmp_path / "site") / "unet" / "1.0"
    inputs, outputs = uncertain_store.open("unet").golden()
    outputs["log_sigma"] = outputs["log_sigma"] + np.float32(0.01)
    write_golden(folder / "golden.npz", inputs, outputs)
    seal(folder, uncertain_store.open("unet").manifest)
    options = Options(2, "fp32")
    with pytest.raises(NotReproduced, match=r"output log_sigma differs .* by 0\.01"):
        load_engine("unet", runtime="torch", store=Store(site=folder.parents[1]), options=options)


def test_layers_compute_in_half_precision_and_the_image_stays_in_single(unet_store):
    """What the network leaves alone comes out as it went in, to the last bit."""
    from engines.torch_runtime import InPrecision, build_module

    module = build_module(unet_store.open("unet"))
    torch.nn.init.zeros_(module.tail.weight)
    planes = torch.as_tensor(_planes(1, 3, 16, 16))
    with torch.inference_mode():
        (found,) = InPrecision(module, torch.bfloat16)(planes)
    assert module.head.weight.dtype == torch.bfloat16
    assert torch.equal(found, planes[:, :2])


def test_it_imports_without_cuda():
    code = "import engines.torch_runtime, sys; assert 'cupy' not in sys.modules"
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.gpu
class TestGpu:
    @pytest.fixture(autouse=True)
    def _gpu(self):
        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU")

    @pytest.mark.parametrize(
        ("precision", "limit"), [("fp32", 1e-4), ("fp16", 5e-3), ("bf16", 5e-3)]
    )
    def test_every_shape_agrees_with_the_reference(self, unet_store, precision, limit):
        engine = load_engine(
            "unet", runtime="torch", store=unet_store, options=Options(2, precision)
        )
        for shape in [(1, 3, 64, 64), (4, 3, 32, 48), (1, 3, 64, 64)]:
            planes = _planes(*shape, seed=sum(shape))
            assert _difference(engine.run(planes), _reference(unet_store, planes)) < limit

    def test_tensors_stay_on_the_gpu(self, unet_store):
        engine = load_engine("unet", runtime="torch", store=unet_store)
        assert engine.run(torch.zeros(1, 3, 16, 16, device="cuda")).is_cuda

    def test_cupy_goes_in_and_out_by_dlpack(self, unet_store):
        cupy = pytest.importorskip("cupy", reason="needs CuPy")
        engine = load_engine("unet", runtime="torch", store=unet_store)
        planes = _planes(1, 3, 16, 16)
        found = engine.run(cupy.asarray(planes))
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_allclose(found.get(), engine.run(planes), atol=1e-6)
