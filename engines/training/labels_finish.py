"""From the labelling network's checkpoint to its weights, with a card that holds what was measured.

The figures come from `python -m bench labels`, which needs the finished weights: the command is run
again with ``--finish`` after it, and the card has them.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.manifest import Limits, Manifest, TensorSpec
from engines.training.export import export
from engines.training.labels import Recipe
from engines.training.labels_data import CLASSES, MARKS
from engines.training.loop import load

PIXEL_MM = 1.4
_AXES = ("batch", "channel", "y", "x")
_NOT_MEASURED = "Not measured yet: `python -m bench labels`.\n"


def finish_labels(folder: Path, recipe: Recipe, version: str, command: str) -> Path:
    """Export the latest checkpoint; returns the folder of the weights.

    A file `measured.md` beside the checkpoint goes into the card.

    Raises
    ------
    ValueError
        There is no checkpoint.
    """
    kept = load(folder / "labels.pt")
    if kept is None:
        raise ValueError(f"{folder}: expected a checkpoint labels.pt, found none")
    notes = folder / "measured.md"
    measured = notes.read_text() if notes.is_file() else _NOT_MEASURED
    manifest = describe_labels(
        version,
        architecture=recipe.architecture(),
        limits=Limits(side=(32, 2048)),
        training={
            "command": command,
            "steps_done": kept["step"],
            "recipe": asdict(recipe),
            "data": "sagittal slices of the digital phantom (`boreside phantoms --labels`),"
            " deformed, in random contrasts",
        },
        seed=recipe.seed,
        metrics={"report": measured.strip()},
    )
    target = folder / "labels" / version
    export(target, kept["averaged"], manifest, _card(version, recipe, kept, command, measured))
    return target


def describe_labels(version: str, **fields: Any) -> Manifest:
    """Return the manifest of a labelling network, without its files."""
    return Manifest(
        name="labels",
        version=version,
        kind="labels",
        inputs=(
            TensorSpec(
                name="planes",
                axes=_AXES,
                channels=("magnitude",),
                scale="99th percentile of the slice",
            ),
        ),
        outputs=(
            TensorSpec(name="planes", axes=_AXES, channels=(*CLASSES, *MARKS), scale="probability"),
        ),
        multiple_of=16,
        parameters={"pixel_mm": PIXEL_MM, "classes": list(CLASSES), "marks": list(MARKS)},
        licence="Apache-2.0",
        **fields,
    )


def _card(version: str, recipe: Recipe, kept: dict[str, Any], command: str, measured: str) -> str:
    rows, columns = recipe.crop
    return f"""# Labels {version}

Says of each pixel of a sagittal MR slice of the spine whether it is a vertebral body, S1, the rest
of the sacrum, disc, canal (dural sac) or sacroiliac joint, and where landmarks lie. Which vertebra
a pixel belongs to is decided from all slices of a series by `gadgets.label_levels`.

## Made by

    {command}

{kept["step"]} of {recipe.steps} steps of {recipe.batch} crops of {rows} x {columns} pixels of
{PIXEL_MM} mm, seed {recipe.seed}; weights averaged over the last steps. Trained on the digital
phantom alone: deformed, each tissue at a random intensity or at that of a random sequence, with
bias fields, saturation bands, wrap, ghosts, noise, low resolution and cut fields of view.

## Measured

{measured}
## Limits and failures

The anatomy is that of a parametric phantom: T9 to the coccyx, no arms, no head. Cervical vertebrae
were seen only as shrunken lumbar ones; a dens is not known. Levels are counted from S1; where it
is not in view they are not named. Four or six lumbar bodies cannot be told from five without the
ribs or the whole spine. Implants, scoliosis over 10 mm and postoperative anatomy were not trained.
Coronal and axial slices are refused.
"""
