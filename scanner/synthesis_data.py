"""Slices of random phantom patients, for training the networks of synthetic contrasts.

This is how the scanner's truth and the engines' training meet: through a folder of files, one per
patient. A file holds what the slices are made of, the signals of its tissues under the sequences,
and what CT would show: images are made in training. Families of disease in
`scanner.disease.HELD_OUT` are not in it, nor is the second phantom. Synthetic throughout.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from scanner.disease import disease
from scanner.epg import cpmg_echoes
from scanner.hounsfield import Hounsfield
from scanner.phantom import LumbarSpine, TissueSample
from scanner.phantom.variants_population import random_parameters
from scanner.sequence import TurboSpinEcho
from scanner.signal import spoiled_steady_state, steady_state_before_train
from scanner.tissues import Label, Tissue, varied_tissue_table
from scanner.uptake import enhanced

SIDE = 160
SLICES = 4
EFFICIENCIES = (0.8, 1.0, 1.2)
"""True over nominal flip angle."""
VARIANTS = 3
"""Timings of T1w and of T2w."""
STIR_TR_MS, STIR_TE_MS = 4500.0, 50.0
EARLY_MS, LATE_MS = 1.3, 6.0
"""Of the gradient echoes, whose water and fat are known apart."""
_FAMILIES = {
    "si_structural": 0.34,
    "si_oedema": 0.24,
    "metastasis": 0.15,
    "modic": 0.1,
    "corner": 0.06,
    "facet": 0.03,
    "healthy": 0.08,
}


def fat_null_ms(fat_t1_ms: float) -> float:
    """Return the inversion time at which fat gives no signal in STIR."""
    kept = TurboSpinEcho.inversion_efficiency
    waited = STIR_TR_MS - 140.0
    return float(fat_t1_ms * np.log((1 + kept) / (1 + kept * np.exp(-waited / fat_t1_ms))))


def stir_sequence(fat_t1_ms: float) -> TurboSpinEcho:
    """Return the STIR which a synthetic one is to look like: TI nulls the patient's fat."""
    ti_ms = fat_null_ms(fat_t1_ms)
    return TurboSpinEcho(STIR_TR_MS, STIR_TE_MS, 10.0, (150.0,) * 14, 250.0, ti_ms=ti_ms)


def spin_echo(
    sequence: TurboSpinEcho, tissues: tuple[Tissue, ...], efficiency: float
) -> np.ndarray:
    """Return the signal of undiluted water and fat of each tissue, float32 (2, tissue)."""
    found = []
    density = _column(tissues, "pd")
    angles = np.array(sequence.refocusing_deg) * efficiency
    for kind in ("", "fat_"):
        t1, t2 = (np.maximum(_column(tissues, f"{kind}{t}_ms"), 1e-3) for t in ("t1", "t2"))
        train = cpmg_echoes(t1, t2, angles, sequence.echo_spacing_ms, 90 * efficiency)
        start = steady_state_before_train(t1, sequence)
        found.append(density * start * train[:, sequence.centre_echo])
    return np.stack(found).astype(np.float32)


def gradient_echo(
    tissues: tuple[Tissue, ...], tr_ms: float, flip_deg: float, te_ms: float, efficiency: float
) -> np.ndarray:
    """As `spin_echo`, of a spoiled gradient echo; water and fat before they are added up."""
    decay = np.exp(-te_ms / np.maximum(_column(tissues, "t2star_ms"), 1e-3))
    found = [
        _column(tissues, "pd")
        * spoiled_steady_state(np.maximum(_column(tissues, name), 1e-3), tr_ms, angle)
        * decay
        for name, angle in (("t1_ms", flip_deg * efficiency), ("fat_t1_ms", flip_deg * efficiency))
    ]
    return np.stack(found).astype(np.float32)


def slices(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return slices of one random patient.

    Returns
    -------
    dict of ndarray
        ``tissue``, ``density`` and ``fat`` (slice, part, row, column), uint8, the latter two as
        parts of 255 (of 2 and 1), four points to a pixel, each at a depth of its own; the second
        part is the tissue of lesions. ``hu`` (slice, row, column), int16, per pixel. ``signals``
        (contrast, efficiency, 2, tissue), float32, of water and fat under ``contrasts``:
        "t1-0", "t1 enhanced-0", "t2-0", ..., "stir", "early" and "late" (gradient echo).
        ``efficiencies``; ``pixel_mm`` (slice).
    """
    parameters = random_parameters(rng)
    spine = LumbarSpine(parameters)
    family = str(rng.choice(list(_FAMILIES), p=list(_FAMILIES.values())))
    spine = spine.with_lesions(disease(rng, spine, family))
    field_t = float(rng.choice([1.5, 3.0]))
    table = varied_tissue_table(field_t, rng)
    hounsfield = Hounsfield(parameters.age, rng)
    found: dict[str, list[np.ndarray]] = {n: [] for n in ("tissue", "density", "fat", "hu")}
    pixels = []
    for _ in range(SLICES):
        pixel_mm = float(np.exp(rng.uniform(np.log(0.75), np.log(1.7))))
        sample = spine.sample(_points(rng, spine, pixel_mm))
        parts = [sample, sample.lesion or _nothing(sample)]
        found["tissue"].append(np.stack([part.labels for part in parts]))
        found["density"].append(np.stack([_bytes(part.density / 2) for part in parts]))
        found["fat"].append(np.stack([_bytes(part.fat_fraction) for part in parts]))
        fine = hounsfield(sample).reshape(SIDE, 2, SIDE, 2)
        found["hu"].append(np.rint(fine.mean(axis=(1, 3))).astype(np.int16))
        pixels.append(pixel_mm)
    tables = _signals(rng, table, enhanced(table, field_t, rng))
    return {
        **{name: np.stack(part) for name, part in found.items()},
        "signals": np.stack(list(tables.values())),
        "contrasts": np.array(list(tables)),
        "efficiencies": np.array(EFFICIENCIES, np.float32),
        "pixel_mm": np.array(pixels, np.float32),
    }


def _signals(
    rng: np.random.Generator, table: tuple[Tissue, ...], after: tuple[Tissue, ...]
) -> dict[str, np.ndarray]:
    def over(make: object) -> np.ndarray:
        return np.stack([make(efficiency) for efficiency in EFFICIENCIES])  # type: ignore[operator]

    tables = {}
    for number in range(VARIANTS):
        spacing = float(rng.uniform(8, 13))
        t1 = TurboSpinEcho(
            float(rng.uniform(450, 800)), spacing, spacing, (float(rng.uniform(130, 180)),) * 3, 250
        )
        t2 = TurboSpinEcho(
            float(rng.uniform(2800, 5500)),
            float(rng.uniform(80, 120)),
            10.0,
            (float(rng.uniform(130, 170)),) * 18,
            250,
        )
        tables[f"t1-{number}"] = over(lambda e, s=t1: spin_echo(s, table, e))
        tables[f"t1 enhanced-{number}"] = over(lambda e, s=t1: spin_echo(s, after, e))
        tables[f"t2-{number}"] = over(lambda e, s=t2: spin_echo(s, table, e))
    stir = stir_sequence(table[Label.FAT].fat_t1_ms)
    tables["stir"] = over(lambda e: spin_echo(stir, table, e))
    tr, flip = float(rng.uniform(7, 16)), float(rng.uniform(3, 9))
    for name, te in (("early", EARLY_MS), ("late", LATE_MS)):
        tables[name] = over(lambda e, t=te: gradient_echo(table, tr, flip, t, e))
    return tables


def _points(rng: np.random.Generator, spine: LumbarSpine, pixel_mm: float) -> np.ndarray:
    """Points of a sagittal, coronal or axial slice, most often through a lesion."""
    marks = spine.landmarks()
    if spine.lesions and rng.random() < 0.75:
        lesion = spine.lesions[rng.integers(len(spine.lesions))]
        centre = spine.to_patient(np.array(lesion.centre))
        beside = lesion.structure.startswith(("sacral", "iliac", "si_"))
    else:
        name = str(rng.choice(["SI_left", "SI_right", "L1", "L3", "L5", "S1"]))
        centre, beside = marks[name], name.startswith("SI")
    kind = rng.choice(3, p=[0.35, 0.5, 0.15] if beside else [0.7, 0.2, 0.1])
    down, across = (
        (np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])),
        (np.array([0.0, 0.35, -0.94]), np.array([1.0, 0.0, 0.0])),
        (np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])),
    )[kind]
    turned = np.linalg.qr(np.stack([down, across]).T + rng.normal(0, 0.07, (3, 2)))[0].T
    turned = turned * np.sign((turned * np.stack([down, across])).sum(axis=1))[:, None]
    normal = np.cross(*turned)
    fine = 2 * SIDE
    place = ((np.arange(fine) + 0.5) / fine - 0.5) * SIDE * pixel_mm
    depth_mm = float(rng.uniform(1.2, 4.5))
    block = np.array([[-0.375, 0.125], [0.375, -0.125]]) * depth_mm
    depth = np.tile(block, (SIDE, SIDE))
    middle = centre + rng.normal(0, 0.12, 2) * SIDE * pixel_mm @ turned + rng.normal(0, 2) * normal
    points = middle + place[:, None, None] * turned[0] + place[:, None] * turned[1]
    return (points + depth[..., None] * normal).astype(np.float32)


def _nothing(sample: TissueSample) -> TissueSample:
    zeros = np.zeros_like(sample.density)
    return replace(sample, labels=np.zeros_like(sample.labels), density=zeros, fat_fraction=zeros)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _column(tissues: tuple[Tissue, ...], name: str) -> np.ndarray:
    return np.array([getattr(tissue, name) for tissue in tissues], float)


def write_slices(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` files of `slices`. Files which are there are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(count), "patients"):
        path = folder / f"{seed:08d}-{number:05d}.npz"
        if path.exists():
            continue
        arrays = slices(np.random.default_rng((seed, 6, number)))
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        part.rename(path)
