"""Lumbar exams with lesions and exact truth, to fit triage with and to score it with.

Sagittal T1, T2 and STIR in image space (signal equations, partial volume through the slice, coil
shading, noise), for k-space adds nothing here but time. One sampling of a patient gives all
contrasts. The columns behind and in front of what triage looks at are left away. The scanner's
truth and the fitting of triage meet in a folder of files, one per patient. Synthetic throughout.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from protocols.geometry import Volume
from scanner.disease import HELD_OUT, disease
from scanner.disease.controls import outlined
from scanner.phantom import Lesion, LumbarSpine
from scanner.phantom.labels_truth import structure_labels
from scanner.phantom.variants_population import random_parameters
from scanner.sequence import TurboSpinEcho
from scanner.signal import signals
from scanner.structures import STRUCTURES
from scanner.tissues import Label, Tissue, varied_tissue_table
from scanner.triage_truth import Mask, True3D, mask_of, measured, of_lesion, shapes_of, share_of

FITTED = 410_000
"""First word of the seeds of patients to fit on; those to score on have others."""
WEIGHTINGS = {"t1_tse_sag": "t1", "t2_tse_sag": "t2", "stir_sag": "stir"}
ROWS, COLUMNS, SLICES = 208, 96, 17
SLICE_MM, PITCH_MM = 4.0, 4.4
LEAST_ML = 0.3
"""A lesion is drawn again until this much of it is in the slices."""
KINDS = ("water", "fat", "dark")
MIX = (
    "healthy", "si_oedema", "healthy", "modic", "healthy", "corner", "healthy", "metastasis",
    "si_oedema", "healthy", "facet", "si_structural",
)  # fmt: skip
"""Families of the patients that are fitted on, in turn."""
assert not set(MIX) & set(HELD_OUT)
_TISSUES = {
    "water": (
        Label.OEDEMA, Label.FIBROVASCULAR_MARROW, Label.LYTIC_TUMOUR, Label.FRACTURE_OEDEMA,
        Label.PANNUS,
    ),
    "fat": (Label.FATTY_MARROW,),
    "dark": (Label.SCLEROTIC_BONE, Label.SCLEROTIC_TUMOUR),
}  # fmt: skip
"""What takes each kind of share of the marrow."""
_FAMILY_TRIES = 8


def write_exams(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` files of `exam`, patients of `MIX` in turn. What is there is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), "exams"):
        path = folder / f"{seed:08d}-{number:05d}.npz"
        if not path.exists():
            write(path, exam(FITTED + seed, number, MIX[number % len(MIX)], SLICES))


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    part.rename(path)


def exam(
    base: int, number: int, family: str, slices: int = 15, outline: bool = False
) -> dict[str, np.ndarray]:
    """Return one exam of a patient of the first phantom, as `arrays_of`.

    Parameters
    ----------
    base, number : int
        Of its seed.
    family : str
        Of `scanner.disease.FAMILIES`. Lesions are drawn again, a few times, until one counts for
        its volume within the slices.
    slices : int
    outline : bool
        Lesions are drawn without physical consequence; the truth says where.
    """
    sampled = sample(np.random.default_rng((base, slices, number)), family, slices, outline)
    return arrays_of(np.random.default_rng((base, 9, number)), sampled)


@dataclass(frozen=True)
class Sampled:
    """What the slices of one patient are made of: contrasts are made of it by `arrays_of`.

    Attributes
    ----------
    volume : Volume
    halves : tuple of TissueSample (z, y, x)
        At two depths of each slice.
    lesions : uint8 (z, y, x)
        Number of the lesion that takes a voxel; 0 is none.
    truth : tuple of True3D
        Contrasts are missing.
    structures : uint8 (z, y, x)
        Of `scanner.structures.STRUCTURES`.
    landmarks : dict of str to float64 (3)
        Those within the slices, LPS mm.
    family : str
    shapes : tuple of (str, str, float)
        See `shapes_of`.
    """

    volume: Volume
    halves: tuple[Any, ...]
    lesions: np.ndarray
    truth: tuple[True3D, ...]
    structures: np.ndarray
    landmarks: dict[str, np.ndarray]
    family: str
    shapes: tuple[tuple[str, str, float], ...] = ()


def sample(
    rng: np.random.Generator,
    family: str,
    slices: int = 15,
    outline: bool = False,
    shape: tuple[int, int] = (ROWS, COLUMNS),
) -> Sampled:
    """Return what the slices of one patient show; see `exam`."""
    spine = LumbarSpine(random_parameters(rng, transitional=0.0))
    volume = stack(rng, slices, shape)
    coarse = positions(volume)[:, ::3, ::3].reshape(-1, 3).astype(np.float32)
    coarse_ml = 9 * float(np.prod(volume.spacing)) / 1000
    drawn: tuple[Lesion, ...] = ()
    patient, masks = spine, list[Mask]()
    for _ in range(_FAMILY_TRIES):
        try:
            drawn = disease(rng, spine, family)
        except IndexError:  # it found no place on the joint: drawn again
            continue
        patient = spine.with_lesions(drawn)
        masks = [
            (of_lesion(number + 1, one), share_of(patient, number, one))
            for number, one in enumerate(drawn)
        ]
        ill = [belongs for one, belongs in masks if not one.normal]
        if family == "healthy" or any(
            coarse_ml * np.count_nonzero(belongs(coarse)) > LEAST_ML for belongs in ill
        ):
            break
    if outline:
        kept = tuple(lesion for lesion in drawn if lesion.normal)
        painted = outlined(tuple(one for one in drawn if not one.normal))
        masks = [mask for mask in masks if not mask[0].normal]
        patient = spine.with_lesions(kept + painted)
    shapes = shapes_of(spine.parameters)
    return replace(sampled_from(patient, volume, masks, family), shapes=shapes)


def stack(
    rng: np.random.Generator, slices: int, shape: tuple[int, int] = (ROWS, COLUMNS)
) -> Volume:
    """Return a sagittal stack as technologists place it: nearly right."""
    tilt = rng.normal(0, 0.03, 2)
    normal = np.array([-1.0, tilt[0], tilt[1]])
    normal /= np.linalg.norm(normal)
    read = np.array([0, 1.0, 0]) - normal[1] * normal
    read /= np.linalg.norm(read)
    pixel = rng.uniform(280, 320) / shape[0]
    position = np.array([rng.normal(0, 3), rng.uniform(17, 27), rng.uniform(-38, -18)])
    return Volume(
        position, np.stack([read, np.cross(normal, read), normal]),
        (slices, *shape), np.array([pixel, pixel, PITCH_MM]),
    )  # fmt: skip


def _inside(volume: Volume, point: Any) -> bool:
    z, y, x = volume.index(np.asarray(point))
    count, rows, columns = volume.shape
    return 0 <= z <= count - 1 and 0 <= y < rows and 0 <= x < columns


def positions(volume: Volume) -> np.ndarray:
    """Return the centres of all voxels, float64 (z, y, x, 3), LPS mm."""
    z, y, x = (np.arange(n) - n // 2 for n in volume.shape)
    axes = volume.directions * volume.spacing[:, None]
    return np.asarray(
        volume.position
        + z[:, None, None, None] * axes[2]
        + y[:, None, None] * axes[1]
        + x[:, None] * axes[0]
    )


def _sequences(rng: np.random.Generator, field: float) -> dict[str, TurboSpinEcho]:
    null = np.log(2) * 370.0 * (0.85 if field < 2 else 1.0)
    return {
        "t1_tse_sag": TurboSpinEcho(rng.uniform(480, 720), 10.0, 10.0, (150.0,) * 3, 250.0),
        "t2_tse_sag": TurboSpinEcho(rng.uniform(3000, 4500), 100.0, 10.0, (150.0,) * 16, 250.0),
        "stir_sag": TurboSpinEcho(
            4500.0, 50.0, 10.0, (150.0,) * 14, 250.0, ti_ms=null * rng.uniform(0.92, 1.06)
        ),
    }


def sampled_from(thing: Any, volume: Volume, masks: list[Mask], family: str) -> Sampled:
    """Return what the slices of a phantom with these lesions show."""
    at = positions(volume).astype(np.float32)
    normal = volume.directions[2].astype(np.float32)
    halves = tuple(thing.sample(at + depth * normal) for depth in (-SLICE_MM / 3, SLICE_MM / 3))
    numbers, kept = mask_of(at, masks, float(np.prod(volume.spacing)) / 1000)
    marks = {name: place for name, place in thing.landmarks().items() if _inside(volume, place)}
    return Sampled(volume, halves, numbers, kept, structure_labels(thing, at), marks, family)


def arrays_of(rng: np.random.Generator, sampled: Sampled) -> dict[str, np.ndarray]:
    """Return all series of a sampled patient: field, tissues, coil and noise are drawn.

    Returns
    -------
    dict of ndarray
        ``t1``, ``t2``, ``stir`` (z, y, x), float32; ``structure`` and ``lesion`` (z, y, x), uint8;
        ``shares`` (kind, z, y, x), float32, of what disease took of each voxel (`KINDS`);
        ``position``, ``directions``, ``spacing`` of the slices, LPS mm, and ``thickness_mm``;
        ``structures``, ``landmark_names`` and ``landmarks`` (landmark, 3), LPS mm; ``truth``: the
        lesions (`True3D`), JSON; ``shapes`` (`shapes_of`), JSON; ``family``.
    """
    field = float(rng.choice([1.5, 3.0]))
    tissues = varied_tissue_table(field, rng)
    shading = _shading(rng, positions(sampled.volume))
    images, stir, sigma = {}, np.zeros(0), 1.0
    for name, sequence in _sequences(rng, field).items():
        image = np.mean([_signal(half, sequence, tissues) for half in sampled.halves], axis=0)
        stir = np.abs(image) * shading
        sigma = float(np.percentile(stir, 99)) / rng.uniform(20, 60)
        noise = rng.standard_normal((2, *stir.shape), np.float32) * np.float32(sigma)
        images[WEIGHTINGS[name]] = np.hypot(stir + noise[0], noise[1]).astype(np.float32)
    marrow = sampled.halves[0].labels == Label.MARROW
    truth = [measured(one, sampled.lesions, stir, sigma, marrow) for one in sampled.truth]
    volume = sampled.volume
    return {
        **images,
        "structure": sampled.structures,
        "lesion": sampled.lesions,
        "shares": np.stack([_share(sampled, kind) for kind in KINDS]),
        "position": volume.position,
        "directions": volume.directions,
        "spacing": volume.spacing,
        "thickness_mm": np.array(SLICE_MM),
        "structures": np.array(STRUCTURES),
        "landmark_names": np.array(list(sampled.landmarks)),
        "landmarks": np.array(list(sampled.landmarks.values())).reshape(-1, 3),
        "truth": np.array(json.dumps([asdict(one) for one in truth])),
        "shapes": np.array(json.dumps(sampled.shapes)),
        "family": np.array(sampled.family),
    }


def _share(sampled: Sampled, kind: str) -> np.ndarray:
    """Return what disease has taken of each voxel, float32 (z, y, x), 0 to 1."""
    parts = []
    for half in sampled.halves:
        taken = np.zeros(half.labels.shape, np.float32)
        if half.lesion is not None:
            here = np.isin(half.lesion.labels, _TISSUES[kind])
            taken[here] = np.clip(half.lesion.density[here], 0, 1)
        parts.append(taken)
    return np.asarray(np.mean(parts, axis=0), np.float32)


def _signal(sampled: Any, sequence: TurboSpinEcho, tissues: tuple[Tissue, ...]) -> np.ndarray:
    levels = signals(sequence, tissues)
    echo = max(0, round(sequence.te_ms / sequence.echo_spacing_ms) - 1)
    water, fat = (part[:, echo].astype(np.float32) for part in (levels.water, levels.fat))
    image = np.zeros(sampled.labels.shape, np.float32)
    for part in (sampled, sampled.lesion):
        if part is not None:
            share = part.fat_fraction
            image += part.density * (water[part.labels] * (1 - share) + fat[part.labels] * share)
    return image


def _shading(rng: np.random.Generator, at: np.ndarray) -> np.ndarray:
    """Sensitivity of a coil behind the patient: falls to the front, uneven along the spine."""
    x, y, z = np.moveaxis(at, -1, 0)
    log = -np.maximum(0, 70 - y) / rng.uniform(80, 250)
    log = log + rng.uniform(-0.15, 0.15) * np.cos(z / rng.uniform(45, 80) + rng.uniform(0, 6.3))
    log = log - rng.uniform(0, 0.25) * ((z + 20) / 150) ** 2 + rng.uniform(-0.1, 0.1) * x / 40
    return np.asarray(np.exp(log), np.float32)
