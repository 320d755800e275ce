"""PyTorch as an engine: on the CPU here, on a GPU with ``pytest -m gpu``."""

import subprocess
import sys

import numpy as np
import pytest

from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable
from engines.store import Store

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

    def test_a_loop_with_transforms_is_one_graph(self, unet_store):
        """Ten steps of network and FFT: captured, they give what they give one by one."""
        from engines.torch_runtime import Captured

        engine = load_engine("unet", runtime="torch", store=unet_store)
        mask = (torch.rand(64, 64, device="cuda") > 0.5).to(torch.float32)

        def loop(image):
            for _ in range(10):
                planes = torch.stack([image.real, image.imag, torch.ones_like(image.real)], dim=1)
                denoised = engine.run(planes)
                image = image + 0.1 * torch.complex(denoised[:, 0], denoised[:, 1])
                image = torch.fft.ifft2(torch.fft.fft2(image, norm="ortho") * mask, norm="ortho")
            return (image,)

        with torch.inference_mode():
            start = torch.randn(1, 64, 64, dtype=torch.complex64, device="cuda")
            captured = Captured(loop, start)
            for seed in (0, 1):
                torch.manual_seed(seed)
                image = torch.randn_like(start)
                (found,), (expected,) = captured(image), loop(image)
                assert _difference(found.cpu().numpy(), expected.cpu().numpy()) < 1e-3
