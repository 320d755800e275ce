"""A small U-Net in the store, for the runtimes that build networks themselves."""

import numpy as np
import pytest

from engines.manifest import Manifest, TensorSpec
from engines.store import Store, seal, write_golden

AXES = ("batch", "channel", "y", "x")


def _unet(tmp_path_factory, **parameters):
    torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")
    from engines.nets import build

    architecture = {"name": "bias-free-unet", "channels": [8, 16], "blocks": [1, 1], **parameters}
    torch.manual_seed(3)
    module = build(architecture)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("weights") / "unet" / "1.0"
    folder.mkdir(parents=True)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    np.savez(folder / "weights.npz", **state)
    (folder / "model.onnx").write_bytes(b"none")
    (folder / "card.md").write_text("Random.\n")
    planes = np.random.default_rng(2).standard_normal((1, 3, 16, 24)).astype(np.float32)
    planes[:, 2] = 0.1 + 0.2 * np.abs(planes[:, 2])
    with torch.inference_mode():
        found = module.double()(torch.as_tensor(planes).double())
    outputs = found if isinstance(found, tuple) else (found,)
    names = ("planes", "log_sigma")[: len(outputs)]
    reference = {name: value.float().numpy() for name, value in zip(names, outputs)}
    write_golden(folder / "golden.npz", {"planes": planes}, reference)
    channels = ("real", "imaginary", "sigma")
    seal(
        folder,
        Manifest(
            name="unet",
            version="1.0",
            kind="denoiser",
            architecture=architecture,
            inputs=(TensorSpec(name="planes", axes=AXES, channels=channels),),
            outputs=tuple(TensorSpec(name=name, axes=AXES) for name in names),
            licence="Apache-2.0",
        ),
    )
    return Store(site=folder.parents[1])


@pytest.fixture(scope="session")
def unet_store(tmp_path_factory):
    """Store with the network "unet" 1.0, with random parameters; no ONNX model is in its file."""
    return _unet(tmp_path_factory)


@pytest.fixture(scope="session")
def uncertain_store(tmp_path_factory):
    """As `unet_store`; the network also predicts its error."""
    return _unet(tmp_path_factory, uncertainty=True)


@pytest.fixture(scope="session")
def exported_store(tmp_path_factory):
    """Store with the untrained denoiser "small" 1 as training exports it: for every runtime."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra train")
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra train")
    from engines.nets import build
    from engines.training.export import describe, export

    architecture = {"name": "bias-free-unet", "channels": [8, 8, 8], "blocks": [1, 1, 1]}
    architecture["uncertainty"] = True
    torch.manual_seed(5)
    state = build(architecture).state_dict()
    torch.nn.init.normal_(state["tail.weight"], std=0.02)
    about = describe("small", "1", "denoiser", uncertainty=True, architecture=architecture)
    folder = tmp_path_factory.mktemp("weights") / "small" / "1"
    export(folder, state, about, "Not trained.")
    return Store(site=folder.parents[1])
