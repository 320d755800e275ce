"""From the checkpoint of a synthetic contrast to its weights: calibration, limits, card.

Patients kept for validation say how wide the interval must be that 95 % of voxels lie within, up to
which predicted error an image is worth showing, and what is familiar. The card's figures on
patients of other seeds and on the second phantom come from `python -m bench synth_stir`, `synth_ct`
and `enhancement`, which need the finished weights: run again with ``--finish``, the card has them
from `<task>.md` beside the checkpoint.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.familiar import learn
from engines.manifest import Limits, Manifest, TensorSpec
from engines.nets import build
from engines.training.export import export
from engines.training.loop import load
from engines.training.synth import Recipe
from engines.training.synth_cards import CARDS
from engines.training.synth_data import TASKS, Example, Maker

WITHIN = 0.96
"""Of voxels of validation: a little more than the 95 % which the interval is stated for."""
EXAMPLES, VALIDATED = 200, 64
PIXEL_MM = (0.6, 2.0)
LEAST_SNR = 15.0
"""98th percentile of the body over noise sigma; the noisiest examples had 20."""
_AXES = ("batch", "channel", "y", "x")
_NOT_MEASURED = "Not measured yet: `python -m bench {bench}`.\n"
_BENCH = {"stir": "synth_stir", "ct": "synth_ct", "enhancement": "enhancement"}


def finish_synthesis(folder: Path, data: Path, recipe: Recipe, version: str, command: str) -> Path:
    """Export the latest checkpoint; returns the folder of the weights.

    Raises
    ------
    ValueError
        There is no checkpoint, or there are no patients to validate with.
    """
    kept = load(folder / f"{recipe.task}.pt")
    if kept is None:
        raise ValueError(f"{folder}: expected a checkpoint {recipe.task}.pt, found none")
    validation = _examples(Maker(data, recipe.task, recipe.seed, validation=True), VALIDATED)
    parameters, metrics = _calibrated(recipe, kept["averaged"], validation)
    training = _examples(Maker(data, recipe.task, recipe.seed), EXAMPLES)
    familiar = learn([one.planes for one in training], [one.planes for one in validation])
    notes = folder / f"{recipe.task}.md"
    missing = _NOT_MEASURED.format(bench=_BENCH[recipe.task])
    measured = notes.read_text() if notes.is_file() else missing
    manifest = describe_synthesis(
        recipe.task,
        version,
        architecture=recipe.architecture(),
        limits=Limits(snr=(LEAST_SNR, 1e6), side=(32, 2048)),
        parameters={
            **parameters,
            "pixel_mm": list(PIXEL_MM),
            "familiar": familiar.to_plain(),
        },
        training={
            "command": command,
            "steps_done": kept["step"],
            "recipe": asdict(recipe),
            "data": "slices of the digital phantom with lesions (`boreside phantoms --synthesis`)",
            "patients": len(list(data.glob("*.npz"))),
        },
        seed=recipe.seed,
        metrics={"validation": metrics, "report": measured.strip()},
    )
    card = CARDS[recipe.task].format(
        version=version,
        command=command,
        steps=kept["step"],
        planned=recipe.steps,
        batch=recipe.batch,
        seed=recipe.seed,
        factor=parameters["interval_factor"],
        outside=100 * metrics["outside_interval"],
        error=metrics["mean_absolute_error"],
        unit=TASKS[recipe.task].scale,
        measured=measured,
    )
    target = folder / recipe.task / version
    export(target, kept["averaged"], manifest, card)
    return target


def describe_synthesis(task: str, version: str, **fields: Any) -> Manifest:
    """Return the manifest of a network of a synthetic contrast, without its files."""
    of = TASKS[task]
    each = "98th percentile of the body, of each; water and fat: that of in phase; R2* by 200 1/s"
    log = f"logarithm of the scale of the error (Laplace), over {of.scale}"
    return Manifest(
        name=of.name,
        version=version,
        kind="synthesis",
        inputs=(TensorSpec(name="planes", axes=_AXES, channels=of.channels, scale=each),),
        outputs=(
            TensorSpec(name="planes", axes=_AXES, channels=(of.made,), scale=of.scale),
            TensorSpec(name="log_scale", axes=_AXES, channels=("log_scale",), scale=log),
        ),
        multiple_of=8,
        licence="Apache-2.0",
        **fields,
    )


def _examples(maker: Maker, count: int) -> list[Example]:
    return [maker[number] for number in range(count)]


def _calibrated(
    recipe: Recipe, state: dict[str, torch.Tensor], validation: list[Example]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the manifest's parameters, and what validation gave."""
    module = build(recipe.architecture())
    module.load_state_dict(state)
    module.eval()
    ratios, errors, typical = [], [], []
    with torch.no_grad():
        for one in validation:
            made, log_scale = module(torch.from_numpy(one.planes[None]))
            off = np.abs(made.numpy()[0] - one.target)[one.body]
            scale = np.exp(log_scale.numpy()[0][one.body])
            ratios.append(off / scale)
            errors.append(off)
            typical.append(float(np.mean(scale)))
    factor = float(np.quantile(np.concatenate(ratios), WITHIN))
    # Slices differ more than voxels of one slice: where the mean is beyond all of these, refuse.
    worst = float(np.max(typical))
    every = np.concatenate(errors)
    return (
        {"interval_factor": round(factor, 4), "most_error": round(1.5 * factor * worst, 5)},
        {
            "mean_absolute_error": round(float(every.mean()), 5),
            "outside_interval": round(float((np.concatenate(ratios) > factor).mean()), 4),
        },
    )
