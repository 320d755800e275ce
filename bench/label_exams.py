"""Simulated sagittal series with exact labels, to score the labelling with.

Images are made in image space (signal equations, partial volume through the slice, noise, coil
shading), for k-space adds nothing here but time. Patients are held out by their seeds; those of the
second phantom come from a generator that training never saw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gadgets.items import Series
from protocols.geometry import Volume
from scanner.exam import _lumbar_sequences
from scanner.other_phantom import OtherSpine, random_other_parameters
from scanner.phantom import LumbarSpine
from scanner.phantom.labels_truth import structure_labels
from scanner.phantom.variants_population import random_parameters
from scanner.signal import signals
from scanner.tissues import tissue_table

HELD_OUT = 770_000
WEIGHTINGS = {"t1_tse_sag": "t1", "t2_tse_sag": "t2", "stir_sag": "stir"}


@dataclass(frozen=True)
class Labelled:
    """A series and its truth.

    Attributes
    ----------
    series : Series
    structures : uint8 (z, y, x)
        Of `scanner.structures`.
    landmarks : dict of str to float64 (3)
    typical : bool
        Whether the levels can be numbered without doubt.
    """

    series: Series
    structures: np.ndarray
    landmarks: dict[str, np.ndarray]
    typical: bool


def exams(
    count: int, other: bool, transitional: float, matrix: int = 256, slices: int = 15
) -> Iterator[Labelled]:
    """Yield one series each of ``count`` patients, their contrasts in turn.

    Parameters
    ----------
    count : int
    other : bool
        Of the second phantom.
    transitional : float
        Share of patients whose levels cannot be numbered without doubt.
    matrix, slices : int
    """
    spine: LumbarSpine | OtherSpine
    for number in range(count):
        rng = np.random.default_rng((HELD_OUT, int(other), int(100 * transitional), number))
        if other:
            there = random_other_parameters(rng, transitional)
            spine, typical = OtherSpine(there), there.levels_are_typical
        else:
            own = random_parameters(rng, transitional=transitional)
            spine = LumbarSpine(own)
            typical = own.variants.lumbar_bodies == 5 and not own.variants.transitional
        yield _series(rng, spine, bool(typical), number, matrix, slices)


def _series(
    rng: np.random.Generator, spine: LumbarSpine | OtherSpine, typical: bool, number: int,
    matrix: int, slices: int,
) -> Labelled:  # fmt: skip
    tilt = rng.normal(0, 0.03, 2)
    normal = np.array([-1.0, tilt[0], tilt[1]])
    normal /= np.linalg.norm(normal)
    read = np.array([0, 1.0, 0]) - normal[1] * normal
    read /= np.linalg.norm(read)
    pixel = rng.uniform(270, 330) / matrix
    volume = Volume(
        position=np.array([rng.normal(0, 3), rng.uniform(-5, 15), rng.uniform(-35, -5)]),
        directions=np.stack([read, np.cross(normal, read), normal]),
        shape=(slices, matrix, matrix),
        spacing=np.array([pixel, pixel, 4.4]),
    )
    z, y, x = (np.arange(n) - n // 2 for n in volume.shape)
    at = (
        volume.position
        + z[:, None, None, None] * volume.spacing[2] * volume.directions[2]
        + y[:, None, None] * volume.spacing[1] * volume.directions[1]
        + x[:, None] * volume.spacing[0] * volume.directions[0]
    )
    names = list(WEIGHTINGS)
    name = names[number % len(names)]
    sequence = _lumbar_sequences()[name]
    field = float(rng.choice([1.5, 3.0]))
    levels = signals(sequence, tissue_table(field))
    echo = max(0, round(sequence.te_ms / sequence.echo_spacing_ms) - 1)
    water, fat = levels.water[:, echo], levels.fat[:, echo]
    image = np.zeros(volume.shape, np.float32)
    for depth in (-1.3, 1.3):
        sampled = spine.sample((at + depth * normal).astype(np.float32))
        part = sampled.fat_fraction
        image += sampled.density * (water[sampled.labels] * (1 - part) + fat[sampled.labels] * part)
    shading = np.exp(-np.maximum(0, 60 - at[..., 1]) / rng.uniform(90, 300))
    image = np.abs(image) * shading
    sigma = float(np.percentile(image, 99)) / rng.uniform(12, 40)
    noise = rng.standard_normal((2, *image.shape)) * sigma
    data = np.hypot(image + noise[0], noise[1]).astype(np.float32)
    return Labelled(
        Series(name, data, volume, WEIGHTINGS[name]),
        structure_labels(spine, at.astype(np.float32)),
        spine.landmarks(),
        typical,
    )
