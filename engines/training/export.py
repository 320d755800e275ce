"""From a trained module to a folder of the store."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from engines.manifest import Manifest, TensorSpec
from engines.nets import build
from engines.store import seal, write_golden

_AXES = ("batch", "channel", "y", "x")
_SCALE = "99th percentile of the magnitude, at least the median sigma"

SENTENCES = (
    "- All weights in this repository were trained only on procedurally generated images of a"
    " parametric phantom. No patient data was used for training, tuning or threshold selection,"
    " because none was available to the project.\n"
    "- Phantom lesions follow rules written by the authors; performance on them says that the code"
    " works, not that disease is found. Published on-the-fly protocol models dropped from AUC 0.88"
    " to 0.73 on a second vendor (Hötker).\n"
    "- Not a medical device. Not clinically validated. Research use only. Do not use for diagnosis"
    " or to omit any sequence from a patient's protocol.\n"
)


def export(
    folder: Path,
    state: dict[str, torch.Tensor],
    manifest: Manifest,
    card: str,
) -> Manifest:
    """Write `model.onnx`, `weights.npz`, `golden.npz`, `card.md` and `manifest.json`.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    state : dict
        Parameters of the module that ``manifest.architecture`` builds.
    manifest : Manifest
        See `describe`; the hashes are filled in.
    card : str
        The model card; the mandatory `SENTENCES` are added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = build(manifest.architecture)
    module.load_state_dict(state)
    module = module.eval()
    channels = len(manifest.inputs[0].channels)
    outputs = ["denoised", "log_sigma"][: len(manifest.outputs)]
    sides = {0: torch.export.Dim("batch", min=1, max=256)}
    for axis, name in ((2, "y"), (3, "x")):
        sides[axis] = manifest.multiple_of * torch.export.Dim(f"{name}_blocks", min=2, max=512)
    program = torch.onnx.export(
        module,
        (torch.zeros(2, channels, 64, 48),),
        input_names=["planes"],
        output_names=outputs,
        dynamic_shapes=(sides,),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(folder / "model.onnx"), external_data=False)
    _forget_origin(folder / "model.onnx")
    arrays: dict[str, np.ndarray] = {name: v.cpu().numpy() for name, v in state.items()}
    np.savez(folder / "weights.npz", allow_pickle=False, **arrays)
    rng = np.random.default_rng(manifest.seed)
    planes = rng.standard_normal((1, channels, 64, 48)).astype(np.float32)
    planes[:, 2:] = 0.1 + 0.2 * rng.random((64, 48), np.float32)
    with torch.no_grad():
        found = module.double()(torch.from_numpy(planes).double())
    results = found if isinstance(found, tuple) else (found,)
    names = [spec.name for spec in manifest.outputs]
    golden = {name: value.float().numpy() for name, value in zip(names, results, strict=True)}
    write_golden(folder / "golden.npz", {"planes": planes}, golden)
    (folder / "card.md").write_text(f"{card.rstrip()}\n\n## To be kept in mind\n\n{SENTENCES}")
    return seal(folder, manifest)


def _forget_origin(path: Path) -> None:
    """Take out what the exporter wrote of this machine: stack traces with its paths."""
    model = onnx.load(str(path))
    graphs = [model.graph, *model.functions]
    for part in (model, *graphs, *(node for graph in graphs for node in graph.node)):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model, str(path))


def describe(
    name: str, version: str, kind: Any, uncertainty: bool = False, **fields: Any
) -> Manifest:
    """Return the manifest of a network of planes to planes, without its files.

    With ``uncertainty`` it also has the output ``log_sigma``.
    """
    channels = ("real", "imaginary", "sigma")
    outputs = [TensorSpec(name="planes", axes=_AXES, channels=channels[:2], scale=_SCALE)]
    if uncertainty:
        log_scale = f"logarithm of the error per real channel over the {_SCALE}"
        outputs.append(
            TensorSpec(name="log_sigma", axes=_AXES, channels=("log_sigma",), scale=log_scale)
        )
    return Manifest(
        name=name,
        version=version,
        kind=kind,
        inputs=(TensorSpec(name="planes", axes=_AXES, channels=channels, scale=_SCALE),),
        outputs=tuple(outputs),
        licence="Apache-2.0",
        **fields,
    )
