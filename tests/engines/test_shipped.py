"""The weights that ship with the agent: verified, described, and the same on every runtime."""

import numpy as np
import pytest

from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable
from engines.store import Store

SHIPPED = [(found.name, found.version) for found in Store().networks()]


@pytest.fixture(params=SHIPPED or [None], ids=lambda found: found and " ".join(found))
def network(request):
    if request.param is None:
        pytest.skip("no weights ship yet")
    return request.param


def _planes(manifest, batch, y, x):
    """Random planes with the channels of a network; sides are those, up to the next multiple."""
    rng = np.random.default_rng(11)
    channels, multiple = len(manifest.inputs[0].channels), manifest.multiple_of
    y, x = (-(-n // multiple) * multiple for n in (y, x))
    planes = rng.standard_normal((batch, channels, y, x)).astype(np.float32)
    if channels == 3:
        planes[:, 2] = 0.05 + 0.2 * rng.random((batch, y, x), np.float32)
    return planes


def test_it_is_verified_and_described(network):
    weights = Store().open(*network)
    assert weights.manifest.licence and weights.manifest.metrics and weights.manifest.training
    card = weights.files["card.md"].decode().lower()
    assert "clinical" in card and "fail" in card


def test_no_file_tells_of_the_machine_that_made_it(network):
    weights = Store().open(*network)
    for name, content in weights.files.items():
        assert b"site-packages" not in content and b'File "' not in content, name


def test_the_default_engine_proves_itself(network):
    engine = load_engine(*network)
    assert engine.prove() < 1e-5
    assert "ONNX Runtime" in engine.runtime


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 104, 72)])
def test_other_runtimes_agree(network, runtime, shape):
    options = Options(threads=2, precision="fp32")
    try:
        engine = load_engine(*network, runtime, options=options)
    except EngineUnavailable as error:
        if isinstance(error.__cause__, ImportError):
            pytest.skip(error.reason)
        raise
    planes = _planes(Store().open(*network).manifest, *shape)
    expected, found = load_engine(*network).outputs(planes), engine.outputs(planes)
    for name, reference in expected.items():
        difference = np.linalg.norm(found[name] - reference) / np.linalg.norm(reference)
        assert difference < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("runtime", ["torch", "tensorrt"])
def test_the_gpu_agrees_within_half_a_percent(network, runtime, precision):
    """TensorRT: where `boreside engine build` was run."""
    try:
        engine = load_engine(*network, runtime, options=Options(precision=precision))
    except EngineUnavailable as error:
        pytest.skip(error.reason)
    if "CPU" in engine.runtime:
        pytest.skip("there is no GPU here")
    planes = _planes(Store().open(*network).manifest, 1, 320, 320)
    reference = load_engine(*network).run(planes)
    difference = np.linalg.norm(engine.run(planes) - reference) / np.linalg.norm(reference)
    assert difference <= 5e-3
