"""Fixtures that every room's tests may use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, which lies beside the checkout where it is present."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data (../shared/data) is not on this machine")
    return SHARED_DATA


class TinyNetwork:
    """A network in the store's layout: it smooths real and imaginary part with one kernel."""

    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 16

    def smoothed(self, planes: np.ndarray) -> np.ndarray:
        """Return what it makes of planes (batch, 3, y, x): float64 (batch, 2, y, x)."""
        kernel = self.kernel.astype(np.float64)[None, None]
        return ndimage.convolve(planes[:, :2].astype(np.float64), kernel, mode="constant")

    def write(self, root: Path, name: str = "tiny", version: str = "1.0", **fields: Any) -> Path:
        """Write ``root/<name>/<version>``; ``fields`` go into the manifest."""
        from engines.manifest import Manifest, TensorSpec
        from engines.store import seal, write_golden

        onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra dev")
        floats = onnx.TensorProto.FLOAT
        weight = np.zeros((2, 3, 3, 3), np.float32)
        weight[0, 0] = weight[1, 1] = self.kernel
        values = [
            onnx.helper.make_tensor_value_info(key, floats, ["b", count, "y", "x"])
            for key, count in (("planes", 3), ("smooth", 2))
        ]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["planes", "weight"], ["smooth"], pads=[1, 1, 1, 1])],
            name,
            values[:1],
            values[1:],
            [onnx.numpy_helper.from_array(weight, "weight")],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        folder = root / name / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "card.md").write_text("Smooths. Trained on nothing.\n")
        planes = np.random.default_rng(0).standard_normal((1, 3, 16, 24)).astype(np.float32)
        golden = self.smoothed(planes).astype(np.float32)
        write_golden(folder / "golden.npz", {"planes": planes}, {"planes": golden})
        axes, channels = ("batch", "channel", "y", "x"), ("real", "imaginary", "sigma")
        about = {
            "kind": "denoiser",
            "architecture": {"name": "smoothing"},
            "inputs": [TensorSpec(name="planes", axes=axes, channels=channels)],
            "outputs": [TensorSpec(name="planes", axes=axes, channels=channels[:2])],
            "licence": "Apache-2.0",
        }
        seal(folder, Manifest(name=name, version=version, **{**about, **fields}))
        return folder


@pytest.fixture(scope="session")
def tiny_network() -> TinyNetwork:
    """Networks small enough to be made in a test."""
    return TinyNetwork()
