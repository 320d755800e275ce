"""From a network's weights to its int8 model for OpenVINO, by a site's own images.

The range of their values sets the steps of the eight bits (post-training quantisation by NNCF,
which is needed for this alone). The first layer, and the last with all that follows, stay in fp32:
there the image itself passes. Images which were held out are then made with it and with the fp32
engine, and it is kept only where both are as good (`engines.openvino_int8_runtime.GATE`).
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import openvino

from engines.calibration import Case, cases
from engines.engine import LoadedEngine, Options, open_engine
from engines.openvino_int8_runtime import GATE, Int8Session, Quality, key, passes
from engines.store import Plan, PlanCache, Weights

_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")


def build(weights: Weights, folder: Path, options: Options) -> tuple[Path, Quality]:
    """Quantise a network by a folder of images, measure it on others, and keep it if it is good.

    Returns
    -------
    path : Path
        What was kept.
    quality : Quality

    Raises
    ------
    ImportError
        NNCF is not here.
    ValueError
        The network has further inputs, there are no images, or the gate is not met.
    EngineUnavailable
        There is no fp32 engine to compare with.
    """
    if len(weights.manifest.inputs) > 1:
        raise ValueError(f"{weights.manifest.name}: expected planes to be its only input")
    reference = open_engine(weights, "onnx", Options(options.threads))
    calibrating, held_out = cases(weights.manifest, folder)
    model, values = _quantised(weights.files["model.onnx"], _planes_of(calibrating, reference))
    engine = LoadedEngine(weights, Int8Session(model, values, options.threads, None))
    quality = measure(engine, reference, list(held_out))
    if not passes(quality):
        raise ValueError(
            f"{weights.manifest.name} in int8 is not kept: expected {GATE}, found {quality}"
        )
    golden = engine.outputs(weights.golden()[0]["planes"])
    content = BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        model=np.frombuffer(model, np.uint8),
        values=np.frombuffer(values, np.uint8),
        **{f"golden_{name}": value for name, value in golden.items()},
    )
    plan = Plan(key(weights), {"quality": asdict(quality)}, content.getvalue())
    return PlanCache(options.plans).put(plan), quality


def measure(engine: LoadedEngine, reference: LoadedEngine, held_out: list[Case]) -> Quality:
    """Return how far the images of an engine are from those of another, at worst."""
    nrmse, loss, further = [], [], [0.0]
    for case in held_out:
        image, outputs = case.run(engine.outputs)
        expected, outputs_expected = case.run(reference.outputs)
        nrmse.append(_nrmse(image, expected))
        loss.append(_psnr(expected, case.truth) - _psnr(image, case.truth))
        for name in set(outputs) - {"planes"}:
            further.append(_nrmse(*(_plain(name, o[name]) for o in (outputs, outputs_expected))))
    return Quality(max(nrmse), max(loss), max(further), len(held_out))


def _plain(name: str, output: np.ndarray) -> np.ndarray:
    return np.exp(output) if name.startswith("log_") else output


def _nrmse(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.abs(image) - np.abs(truth)) ** 2)))


def _planes_of(calibrating: Iterator[Case], reference: LoadedEngine) -> list[np.ndarray]:
    """Return all planes that the network gets on its way to some images."""
    planes: list[np.ndarray] = []

    def outputs(given: np.ndarray) -> Mapping[str, np.ndarray]:
        planes.append(given)
        found: Mapping[str, np.ndarray] = reference.outputs(given)
        return found

    for case in calibrating:
        case.run(outputs)
    return planes


def _quantised(onnx: bytes, planes: list[np.ndarray]) -> tuple[bytes, bytes]:
    """Return a quantised model as OpenVINO keeps it: its graph, and its values."""
    # NNCF would tell its makers of every run.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise ImportError(f"NNCF, which is needed to build and not to run: {error}") from error

    model = openvino.Core().read_model(onnx)
    quantised = nncf.quantize(
        model,
        nncf.Dataset(planes),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(planes),
        ignored_scope=nncf.IgnoredScope(names=ends(model), validate=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(quantised, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def ends(model: openvino.Model) -> list[str]:
    """Return the names of the first layers, of the last, and of what follows these."""
    operations = model.get_ordered_ops()
    is_layer = {op.get_friendly_name(): op.get_type_name() in _LAYERS for op in operations}
    after_layer: dict[str, bool] = {}
    for op in operations:
        sources = (put.get_source_output().get_node().get_friendly_name() for put in op.inputs())
        after_layer[op.get_friendly_name()] = any(is_layer[n] or after_layer[n] for n in sources)
    before_layer: dict[str, bool] = {}
    for op in reversed(operations):
        inputs = (put for output in op.outputs() for put in output.get_target_inputs())
        targets = (put.get_node().get_friendly_name() for put in inputs)
        before_layer[op.get_friendly_name()] = any(is_layer[n] or before_layer[n] for n in targets)
    return [
        name
        for name in is_layer
        if (is_layer[name] and not after_layer[name]) or not before_layer[name]
    ]
