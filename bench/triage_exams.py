"""Simulated exams to validate and to score triage with, kept as files: made once.

Patients of fitting, validation and scoring have seeds of their own; families in
`scanner.disease.HELD_OUT` and the second phantom are for scoring alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from gadgets.items import LabelMap
from gadgets.triage_examples import Example, example, read
from protocols.geometry import Volume
from scanner import triage_data
from scanner.triage_data import Sampled, arrays_of

VALIDATED, SCORED = 510_000, 770_000
"""First words of the seeds."""
KEPT = Path(__file__).parent.parent / "out" / "bench" / "triage"
"""Exams of earlier runs; to be deleted where phantom or signal equations have changed."""


Named = Iterator[tuple[str, Callable[[], Example]]]
"""Names of exams, and what returns each."""


def exams(base: int, families: Sequence[str], first: int = 0, outline: bool = False) -> Named:
    """Yield one exam of a patient of the first phantom per family named."""
    for number, family in enumerate(families, first):
        name = f"{base}-{number}-{family}{'-outline' if outline else ''}"
        make = partial(triage_data.exam, base, number, family, outline=outline)
        yield name, partial(kept, name, make)


def kept(name: str, make: Callable[[], dict[str, np.ndarray]]) -> Example:
    """Return an exam of an earlier run; where there is none, make it and keep it."""
    path = KEPT / f"{name}.npz"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        triage_data.write(path, make())
    return read(path)


def render(rng: np.random.Generator, sampled: Sampled) -> Example:
    """Return all series of a sampled patient: field, tissues, coil and noise are drawn."""
    return example(arrays_of(rng, sampled))


_EXCHANGE = {"left": "right", "right": "left"}


def mirrored(exam: Example) -> Example:
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
    return Example(
        tuple(replace(one, data=one.data[::-1], volume=volume) for one in exam.series),
        LabelMap(exam.labels.labels[::-1], names, volume, marks, sure),
        exam.lesions[::-1],
        exam.shares[:, ::-1],
        exam.truth,
        exam.family,
        exam.shapes,
    )


def _exchanged(name: str) -> str:
    return "_".join(_EXCHANGE.get(word, word) for word in name.split("_"))
