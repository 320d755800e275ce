"""Simulated slices for the networks of synthetic contrasts: patients that training never saw.

Patients of the first phantom have seeds of their own; those of the second phantom were never
trained on at all. Images are made in image space (extended phase graphs, two compartments, partial
volume, flip angle and receive shading over the body, complex noise), for k-space adds nothing here
but time. Timing is that of the virtual scanner's protocols, which training did not draw.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from protocols.findings import Structure
from scanner.hounsfield import Hounsfield
from scanner.other_phantom import Blob, OtherSpine, random_other_parameters
from scanner.phantom import Lesion, LesionKind, LumbarSpine
from scanner.phantom.variants_population import random_parameters
from scanner.sequence import TurboSpinEcho
from scanner.synthesis_data import (
    EARLY_MS,
    EFFICIENCIES,
    LATE_MS,
    gradient_echo,
    spin_echo,
    stir_sequence,
)
from scanner.tissues import Label, Tissue, varied_tissue_table
from scanner.uptake import enhanced

HELD_OUT = 662_000
SIDE, PIXEL_MM, SLICE_MM = 192, 1.1, 3.0
T1 = TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0)
T2 = TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0)
RING_MM = (3.0, 12.0)
SUBTLE = (0.2, 0.5)
"""Severity of lesions that are meant to be hard to see."""


@dataclass(frozen=True)
class Case:
    """One patient with one lesion, in a slice through it, and the same without.

    Attributes
    ----------
    sick, well : Scene
    lesion : bool (y, x)
        Where it takes half of its severity or more.
    ring : bool (y, x)
        Marrow around it.
    """

    sick: "Scene"
    well: "Scene"
    lesion: np.ndarray
    ring: np.ndarray

    def contrast(self, image: np.ndarray) -> float:
        """Return by how much the lesion is brighter than the marrow around it."""
        return float(image[self.lesion].mean() - image[self.ring].mean())


class Scene:
    """A slice of a patient under any sequence, without noise.

    Attributes
    ----------
    body : bool (y, x)
    hu : float32 (y, x)
    """

    def __init__(self, thing: Any, points: np.ndarray, draws: "Draws") -> None:
        sample = thing.sample(points.astype(np.float32))
        self._parts = [sample] + ([] if sample.lesion is None else [sample.lesion])
        self.draws = draws
        self.body = _pixels(sum(part.density for part in self._parts)) > 0.1
        self.hu = _pixels(draws.hounsfield(sample))
        self.marrow = _pixels((sample.labels == Label.MARROW).astype(np.float32)) > 0.8
        share = 0 * sample.density if sample.lesion is None else sample.lesion.density
        self.share = _pixels(share)

    def stir(self) -> np.ndarray:
        """Return the STIR which a synthetic one is to look like."""
        sequence = stir_sequence(self.draws.table[Label.FAT].fat_t1_ms)
        return self._over(lambda efficiency: spin_echo(sequence, self.draws.table, efficiency))

    def image(self, sequence: TurboSpinEcho, after: bool = False) -> np.ndarray:
        """Return magnitudes, float32 (y, x); ``after`` contrast agent."""
        table = self.draws.after if after else self.draws.table
        return self._over(lambda efficiency: spin_echo(sequence, table, efficiency))

    def _over(self, tables: Callable[[float], np.ndarray]) -> np.ndarray:
        images = np.stack([sum(self._species(tables(efficiency))) for efficiency in EFFICIENCIES])
        step = EFFICIENCIES[1] - EFFICIENCIES[0]
        place = np.clip((self.draws.field - EFFICIENCIES[0]) / step, 0, len(EFFICIENCIES) - 1.001)
        node = place.astype(int)
        low, high = (np.take_along_axis(images, (node + k)[None], 0)[0] for k in (0, 1))
        return np.abs(low + (place - node) * (high - low)) * self.draws.shading

    def _species(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        water = sum(p.density * (1 - p.fat_fraction) * table[0][p.labels] for p in self._parts)
        fat = sum(p.density * p.fat_fraction * table[1][p.labels] for p in self._parts)
        return _pixels(water), _pixels(fat)

    def water_fat(
        self, snr: float, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], float]:
        """Return water-fat maps with noise, as separation gives them, and the noise of an echo."""
        early, late = (
            np.stack(self._species(gradient_echo(self.draws.table, 9.0, 4.0, te, 1.0)))
            * self.draws.shading
            for te in (EARLY_MS, LATE_MS)
        )
        sums = early.sum(axis=0), late.sum(axis=0)
        sigma = float(np.percentile(sums[0], 98)) / snr
        rate = np.log(np.maximum(sums[0], 1e-9) / np.maximum(sums[1], 1e-9))
        rate = rate / (LATE_MS - EARLY_MS) * 1e3
        doubt = 1.5 * sigma / np.maximum(sums[0], sigma) / (LATE_MS - EARLY_MS) * 1e3
        rate = np.clip(rate + doubt * rng.standard_normal(rate.shape), 0, 500)
        rate = rate * (sums[0] > 3 * sigma)
        noise = rng.standard_normal((2, 2, *rate.shape)) * sigma
        water, fat = early * np.exp(EARLY_MS * 1e-3 * rate) + noise[0] + 1j * noise[1]
        maps = {
            "water": np.abs(water),
            "fat": np.abs(fat),
            "in_phase": np.abs(water + fat),
            "opposed_phase": np.abs(water - fat),
            "r2star": rate,
        }
        return {name: m.astype(np.float32)[None] for name, m in maps.items()}, sigma


@dataclass(frozen=True)
class Draws:
    """What a patient's scenes have in common: tissues, flip angle, shading.

    Attributes
    ----------
    table, after : tuple of Tissue
        Before and after contrast agent.
    hounsfield : Hounsfield
    field, shading : float64 (y, x)
    """

    table: tuple[Tissue, ...]
    after: tuple[Tissue, ...]
    hounsfield: Hounsfield
    field: np.ndarray
    shading: np.ndarray


def draws(rng: np.random.Generator, age: float) -> Draws:
    """Draw a patient's tissues and coils."""
    field_t = float(rng.choice([1.5, 3.0]))
    table = varied_tissue_table(field_t, rng)
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) * PIXEL_MM
    phase = rng.uniform(0, 2 * np.pi, 2)
    field = 1 + 0.08 * np.cos(x / 60 + phase[0]) * np.cos(y / 90 + phase[1])
    shading = np.exp(-(x + SIDE * PIXEL_MM / 2) / rng.uniform(250, 500))
    hounsfield = Hounsfield(age, rng)
    return Draws(table, enhanced(table, field_t, rng), hounsfield, field, shading)


def noisy(image: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Return magnitudes with noise; the SNR is that of the 98th percentile."""
    sigma = float(np.percentile(image, 98)) / snr
    noise = rng.standard_normal((2, *image.shape)) * sigma
    return np.hypot(image + noise[0], noise[1]).astype(np.float32)


def plane(rng: np.random.Generator, centre: np.ndarray, coronal: bool) -> np.ndarray:
    """Return points of a sagittal or oblique coronal slice through a place, (2 y, 2 x, 3)."""
    down, across = (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)
    if coronal:
        down, across = (0.0, 0.35, -0.94), (1.0, 0.0, 0.0)
    axes = np.linalg.qr(np.stack([down, across]).T + rng.normal(0, 0.04, (3, 2)))[0].T
    axes = axes * np.sign((axes * np.array([down, across])).sum(axis=1))[:, None]
    fine = 2 * SIDE
    place = ((np.arange(fine) + 0.5) / fine - 0.5) * SIDE * PIXEL_MM
    depth = np.tile(np.array([[-0.375, 0.125], [0.375, -0.125]]) * SLICE_MM, (SIDE, SIDE))
    middle = centre + rng.uniform(-15, 15, 2) @ axes
    points = middle + place[:, None, None] * axes[0] + place[:, None] * axes[1]
    return np.asarray(points + depth[..., None] * np.cross(*axes), np.float32)


Choose = Callable[[np.random.Generator, LumbarSpine], Lesion]


def case(number: int, choose: Choose, severity: tuple[float, float]) -> Case | None:
    """Return a held-out patient of the first phantom with a lesion; None where it hardly shows.

    Parameters
    ----------
    number : int
    choose : callable
        Draws the lesion.
    severity : (float, float)
        Its range.
    """
    rng = np.random.default_rng((HELD_OUT, number))
    parameters = random_parameters(rng)
    spine = LumbarSpine(parameters)
    lesion = replace(choose(rng, spine), severity=float(rng.uniform(*severity)))
    centre = spine.to_patient(np.array(lesion.centre))
    coronal = lesion.structure in (
        Structure.SACRAL_SUBCHONDRAL,
        Structure.ILIAC_SUBCHONDRAL,
        Structure.SI_JOINT,
    )
    drawn = draws(rng, parameters.age)
    return _case(rng, spine.with_lesions((lesion,)), spine, centre, coronal, drawn, lesion.severity)


def other_case(
    number: int, label: Label, fat: tuple[float, float], severity: tuple[float, float]
) -> Case | None:
    """As `case`, of the second phantom, with an ellipsoid of a tissue in the marrow."""
    rng = np.random.default_rng((HELD_OUT, 1, number))
    parameters = random_other_parameters(rng, 0.0)
    spine = OtherSpine(parameters)
    radii = np.exp(rng.uniform(np.log(4), np.log(9))) * np.exp(rng.normal(0, 0.15, 3))
    coronal = rng.random() < 0.5
    if coronal:
        side = str(rng.choice(["left", "right"]))
        joint = spine.auricular_points(3.0)[side]
        sign = -1.0 if side == "left" else 1.0
        centre = joint[rng.integers(len(joint))] + np.array([sign * 0.8 * radii[0], 0, 0])
    else:
        level = str(rng.choice(["T12", "L1", "L2", "L3", "L4", "L5"]))
        centre = spine.landmarks()[level] + rng.normal(0, 4, 3)
    share = float(rng.uniform(*severity))
    x, y, z = (float(v) for v in centre)
    a, b, c = (float(v) for v in radii)
    sick = OtherSpine(parameters)
    sick.blobs = (Blob((x, y, z), (a, b, c), label, float(rng.uniform(*fat)), share),)
    drawn = draws(rng, float(rng.uniform(25, 75)))
    return _case(rng, sick, spine, np.array(centre), coronal, drawn, share)


def _case(
    rng: np.random.Generator,
    sick: Any,
    well: Any,
    centre: np.ndarray,
    coronal: bool,
    drawn: Draws,
    severity: float,
) -> Case | None:
    points = plane(rng, centre, coronal)
    one, other = Scene(sick, points, drawn), Scene(well, points, drawn)
    lesion = one.share >= severity / 2
    away = ndimage.distance_transform_edt(~(one.share > 0.05 * severity)) * PIXEL_MM
    ring = (away > RING_MM[0]) & (away < RING_MM[1]) & other.marrow
    if lesion.sum() < 6 or ring.sum() < 20:
        return None
    return Case(one, other, lesion, ring)


def of_family(family: Callable[..., tuple[Lesion, ...]], kinds: tuple[LesionKind, ...]) -> Choose:
    """Return a choice of one lesion of some kinds among those which a family draws."""

    def choose(rng: np.random.Generator, spine: LumbarSpine) -> Lesion:
        while True:
            fitting = [lesion for lesion in family(rng, spine) if lesion.kind in kinds]
            if fitting:
                return fitting[int(rng.integers(len(fitting)))]

    return choose


def cases(make: Callable[[int], Case | None], count: int) -> list[Case]:
    """Return the first cases which show their lesion."""
    found: list[Case] = []
    number = 0
    while len(found) < count:
        if (one := make(number)) is not None:
            found.append(one)
        number += 1
    return found


def sensitivity(sick: list[float], well: list[float]) -> float:
    """Return the share of lesions that stand out more than 95 % of the same places without."""
    limit = np.percentile(well, 95)
    return float(np.mean(np.array(sick) > limit))


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the SSIM (Wang 2004, Gaussian windows); the range is the 99.9th percentile."""
    from skimage.metrics import structural_similarity

    span = float(np.percentile(truth, 99.9))
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5}
    options["use_sample_covariance"] = False
    return float(structural_similarity(image, truth, data_range=span, **options))


def _pixels(fine: np.ndarray) -> np.ndarray:
    y, x = fine.shape
    return np.asarray(fine.reshape(y // 2, 2, x // 2, 2).mean(axis=(1, 3)))
