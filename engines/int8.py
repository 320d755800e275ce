"""From a network's weights to its int8 model for OpenVINO, by a site's own images.

The range of their values sets the steps of the eight bits (post-training quantisation by NNCF,
which is needed for this alone). The first layer, and the last with all that follows, stay in fp32:
there the image itself passes. Images which were held out are then made with it and with the fp32
engine; where they are not as good (`engines.openvino_int8_runtime.GATE`) more of the first and last
layers stay in fp32, and if that does not help either, it is not kept.
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
from engines.openvino_int8_runtime import GATE, Int8Session, Quality, key, passes, peaks_of
from engines.store import Plan, PlanCache, Weights

_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")

DEPTHS = (1, 3)
"""How many layers from either end stay in fp32, the fastest first."""


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
    planes = _planes_of(calibrating, reference)
    peaks = np.max([peaks_of(given) for given in planes], axis=0)
    measured_on = list(held_out)
    for depth in DEPTHS:
        model, values = _quantised(weights.files["model.onnx"], planes, depth)
        session = Int8Session((model, values), peaks, weights, options.threads)
        engine = LoadedEngine(weights, session)
        quality = measure(engine, reference, measured_on)
        if passes(quality):
            break
    else:
        raise ValueError(
            f"{weights.manifest.name} in int8 is not kept: expected {GATE}, found {quality}"
        )
    given = weights.golden()[0]["planes"]
    given = given * min(1.0, float(np.min(0.9 * peaks / peaks_of(given))))
    golden = engine.outputs(given)
    content = BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        model=np.frombuffer(model, np.uint8),
        values=np.frombuffer(values, np.uint8),
        peaks=peaks,
        golden_input=given,
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


def _quantised(onnx: bytes, planes: list[np.ndarray], depth: int) -> tuple[bytes, bytes]:
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
        ignored_scope=nncf.IgnoredScope(names=ends(model, depth), validate=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(quantised, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def ends(model: openvino.Model, depth: int) -> list[str]:
    """Return the names of the first and the last layers, and of what follows the last of all.

    Parameters
    ----------
    model : openvino.Model
    depth : int
        How many layers from the planes, and how many from an output, by the longest way.
    """
    operations = model.get_ordered_ops()
    names = [op.get_friendly_name() for op in operations]
    layers = {n for n, op in zip(names, operations) if op.get_type_name() in _LAYERS}
    before: dict[str, int] = {}
    for name, op in zip(names, operations):
        sources = (put.get_source_output().get_node().get_friendly_name() for put in op.inputs())
        before[name] = max((before[n] + (n in layers) for n in sources), default=0)
    after: dict[str, int] = {}
    for name, op in zip(reversed(names), reversed(operations)):
        inputs = (put for output in op.outputs() for put in output.get_target_inputs())
        targets = (put.get_node().get_friendly_name() for put in inputs)
        after[name] = max((after[n] + (n in layers) for n in targets), default=0)
    return [
        name
        for name in names
        if (name in layers and min(before[name], after[name]) < depth) or after[name] == 0
    ]
