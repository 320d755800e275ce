"""Simulated lumbar exams with exact lesions, to fit triage with and to score it with.

Sagittal T1, T2 and STIR in image space (signal equations, partial volume through the slice, coil
shading, noise), for k-space adds nothing here but time. One sampling of a patient gives all
contrasts. The columns behind and in front of what triage looks at are left away. Patients of
fitting, validation and scoring have seeds of their own; families in `scanner.disease.HELD_OUT` and
the second phantom are for scoring alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from gadgets.items import Labelled, LabelMap, Series
from protocols.findings import FindingType, Quality, Side, Structure
from protocols.geometry import Volume
from scanner.disease import disease
from scanner.disease.controls import outlined
from scanner.phantom import Lesion, LumbarSpine
from scanner.phantom.labels_truth import structure_labels
from scanner.phantom.lesion import MAKEUP
from scanner.phantom.variants_population import random_parameters
from scanner.sequence import TurboSpinEcho
from scanner.signal import signals
from scanner.structures import STRUCTURES
from scanner.tissues import Label, Tissue, varied_tissue_table

FITTED, VALIDATED, SCORED = 410_000, 510_000, 770_000
"""First words of the seeds."""
WEIGHTINGS = {"t1_tse_sag": "t1", "t2_tse_sag": "t2", "stir_sag": "stir"}
ROWS, COLUMNS = 208, 96
SLICE_MM, PITCH_MM = 4.0, 4.4
LEAST_ML = 0.3
"""A lesion counts from here on, as far as it is in the imaged volume."""
_FAMILY_TRIES = 8


@dataclass(frozen=True)
class True3D:
    """One lesion as far as it lies in the imaged volume.

    Attributes
    ----------
    number : int
        Its value in `SimulatedExam.lesions`.
    type, structure, side, level, family, normal
        As in `scanner.phantom.Lesion`.
    volume_ml : float
        Within the imaged volume.
    cnr : float
        Of its mean against the same place without it, on STIR without noise, in noise sigmas.
    """

    number: int
    type: FindingType
    structure: Structure
    side: Side
    level: str | None
    family: str
    normal: bool
    volume_ml: float
    cnr: float

    @property
    def counts(self) -> bool:
        """Whether a reader could be expected to see it: at least 0.3 ml, and CNR 4."""
        return self.volume_ml >= LEAST_ML and abs(self.cnr) >= 4


Mask = tuple[True3D, Callable[[np.ndarray], np.ndarray]]
"""A lesion, and which points (point, 3) belong to it."""


@dataclass(frozen=True)
class SimulatedExam:
    """All series of one exam, and its truth.

    Attributes
    ----------
    series : tuple of Series
        T1, T2, STIR.
    labels : LabelMap
        Exact.
    lesions : uint8 (z, y, x)
        Number of the lesion that takes a voxel; 0 is none.
    truth : tuple of True3D
    family : str
    """

    series: tuple[Series, ...]
    labels: LabelMap
    lesions: np.ndarray
    truth: tuple[True3D, ...]
    family: str


def exams(
    base: int, families: Sequence[str], slices: int = 15, first: int = 0
) -> Iterator[SimulatedExam]:
    """Yield one exam of a patient of the first phantom per family named."""
    for number, family in enumerate(families, first):
        yield simulate(np.random.default_rng((base, slices, number)), family, slices)


def simulate(
    rng: np.random.Generator,
    family: str,
    slices: int = 15,
    outline: bool = False,
) -> SimulatedExam:
    """Return one exam of a patient of the first phantom.

    Parameters
    ----------
    rng : numpy.random.Generator
    family : str
        Of `scanner.disease.FAMILIES`. Lesions are drawn again, a few times, until one counts for
        its volume within the slices.
    slices : int
    outline : bool
        Lesions are drawn without physical consequence; the truth says where.
    """
    return render(rng, sample(rng, family, slices, outline))


@dataclass(frozen=True)
class Sampled:
    """What the slices of one patient are made of: contrasts are made of it by `render`.

    Attributes
    ----------
    volume : Volume
    halves : tuple of TissueSample (z, y, x)
        At two depths of each slice.
    lesions, truth, labels, family
        As in `SimulatedExam`; of the truth, contrasts are missing.
    """

    volume: Volume
    halves: tuple[Any, ...]
    lesions: np.ndarray
    truth: tuple[True3D, ...]
    labels: LabelMap
    family: str


def sample(
    rng: np.random.Generator,
    family: str,
    slices: int = 15,
    outline: bool = False,
    shape: tuple[int, int] = (ROWS, COLUMNS),
) -> Sampled:
    """Return what the slices of one patient show; see `simulate`."""
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
    return sampled_from(patient, volume, masks, family)


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
    at = positions(volume).astype(np.float32)
    normal = volume.directions[2].astype(np.float32)
    halves = tuple(thing.sample(at + depth * normal) for depth in (-SLICE_MM / 3, SLICE_MM / 3))
    numbers, kept = _mask(at, masks, float(np.prod(volume.spacing)) / 1000)
    return Sampled(volume, halves, numbers, kept, _labels(thing, volume, at), family)


def render(rng: np.random.Generator, sampled: Sampled) -> SimulatedExam:
    """Return all series of a sampled patient: field, tissues, coil and noise are drawn."""
    field = float(rng.choice([1.5, 3.0]))
    tissues = varied_tissue_table(field, rng)
    shading = _shading(rng, positions(sampled.volume))
    series, stir, sigma = [], np.zeros(0), 1.0
    for name, sequence in _sequences(rng, field).items():
        image = np.mean([_signal(half, sequence, tissues) for half in sampled.halves], axis=0)
        stir = np.abs(image) * shading
        sigma = float(np.percentile(stir, 99)) / rng.uniform(20, 60)
        noise = rng.standard_normal((2, *stir.shape), np.float32) * np.float32(sigma)
        data = np.hypot(stir + noise[0], noise[1]).astype(np.float32)
        series.append(Series(name, data, sampled.volume, WEIGHTINGS[name], thickness_mm=SLICE_MM))
    marrow = sampled.halves[0].labels == Label.MARROW
    truth = tuple(_measured(one, sampled.lesions, stir, sigma, marrow) for one in sampled.truth)
    return SimulatedExam(tuple(series), sampled.labels, sampled.lesions, truth, sampled.family)


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


def unmeasured(
    number: int, kind: FindingType, structure: Structure, side: Side, level: str | None,
    family: str, normal: bool,
) -> True3D:  # fmt: skip
    return True3D(number, kind, structure, side, level, family, normal, 0.0, 0.0)


def of_lesion(number: int, lesion: Lesion) -> True3D:
    kind = MAKEUP[lesion.kind].type
    where = (lesion.structure, lesion.side, lesion.level)
    return unmeasured(number, kind, *where, lesion.family, lesion.normal)


def share_of(
    patient: LumbarSpine, number: int, lesion: Lesion
) -> Callable[[np.ndarray], np.ndarray]:
    """Whether points (point, 3) belong to a lesion: it takes half of its own severity."""
    centre = patient.to_patient(np.array(lesion.centre))
    reach = (1.6 * max(lesion.radii) + 6) * patient.parameters.size

    def belongs(points: np.ndarray) -> np.ndarray:
        found = np.zeros(len(points), bool)
        near = np.flatnonzero(np.abs(points - centre).max(axis=1) < reach)
        if near.size:
            found[near] = patient.lesion_share(number, points[near]) >= lesion.severity / 2
        return found

    return belongs


def _mask(
    at: np.ndarray, masks: list[Mask], voxel_ml: float
) -> tuple[np.ndarray, tuple[True3D, ...]]:
    flat = at.reshape(-1, 3)
    numbers, kept = np.zeros(len(flat), np.uint8), []
    for one, belongs in masks:
        here = belongs(flat)
        if here.any():
            numbers[here] = one.number
            volume = float(here.sum()) * voxel_ml
            kept.append(replace(one, volume_ml=volume))
    return numbers.reshape(at.shape[:-1]), tuple(kept)


def _measured(
    one: True3D, numbers: np.ndarray, stir: np.ndarray, sigma: float, marrow: np.ndarray
) -> True3D:
    here = numbers == one.number
    if not here.any():
        return one
    box = tuple(
        slice(max(0, part.start - 12), part.stop + 12)
        for part in ndimage.find_objects(here.astype(np.uint8))[0]
    )
    near, image, bone = here[box], stir[box], marrow[box] & (numbers[box] == 0)
    ring = bone & ndimage.binary_dilation(near, np.ones((1, 3, 3), bool), iterations=9)
    around = float(np.median(image[ring])) if ring.sum() > 20 else float(np.median(image[bone]))
    inside = near & marrow[box] if (near & marrow[box]).any() else near
    contrast = float(image[inside].mean()) - around
    return replace(one, cnr=contrast / sigma)


def _labels(thing: Any, volume: Volume, at: np.ndarray) -> LabelMap:
    voxels = structure_labels(thing, at)
    marks = {name: place for name, place in thing.landmarks().items() if _inside(volume, place)}
    sure = {**dict.fromkeys(marks, 0.95), "levels": 0.95}
    return LabelMap(voxels, STRUCTURES, volume, marks, sure)


_EXCHANGE = {"left": "right", "right": "left"}


def mirrored(exam: SimulatedExam) -> SimulatedExam:
    """Return the same exam of a patient with left and right exchanged, the noise with it."""
    flip = np.array([-1.0, 1, 1])
    old = exam.labels.volume
    directions = old.directions * flip
    directions[2] *= -1  # slices run from left to right, as before
    last = np.array([old.shape[0] - 1, old.shape[1] // 2, old.shape[2] // 2])
    middle = old.point(last[0] - old.shape[0] // 2, last[1], last[2]) * flip
    volume = Volume(middle, directions, old.shape, old.spacing)
    names = tuple(_exchanged(name) for name in exam.labels.names)
    marks = {_exchanged(name): at * flip for name, at in exam.labels.landmarks.items()}
    sure = {_exchanged(name): p for name, p in exam.labels.confidence.items()}
    return SimulatedExam(
        tuple(replace(one, data=one.data[::-1], volume=volume) for one in exam.series),
        LabelMap(exam.labels.labels[::-1], names, volume, marks, sure),
        exam.lesions[::-1],
        exam.truth,
        exam.family,
    )


def _exchanged(name: str) -> str:
    return "_".join(_EXCHANGE.get(word, word) for word in name.split("_"))


def seen(exam: SimulatedExam, labels: LabelMap | None = None) -> list[Labelled]:
    """Return an exam as triage takes it: with exact labels, or with those given."""
    known = exam.labels if labels is None else labels
    return [
        Labelled(one, known, Quality(series=one.name, snr=10.0, motion=0.0)) for one in exam.series
    ]
