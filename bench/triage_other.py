"""Simulated exams of the second phantom, to score triage with; nothing is ever fitted on them.

Its lesions are ellipsoids of oedema beside end plates and sacroiliac joints, placed by landmarks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.triage_exams import Named, kept
from protocols.findings import FindingType, Side, Structure
from scanner.other_phantom import Blob, OtherSpine, random_other_parameters
from scanner.tissues import Label
from scanner.triage_data import arrays_of, sampled_from, stack
from scanner.triage_truth import True3D, unmeasured

SLICES = 15
_SIDES = {"left": 1.0, "right": -1.0}


def other_exams(base: int, diseased: Sequence[bool]) -> Named:
    """Yield one exam of a patient of the second phantom each, with oedema or without."""
    for number, ill in enumerate(diseased):
        name = f"{base}-other-{number}-{'oedema' if ill else 'healthy'}"
        rng = np.random.default_rng((base, SLICES, 1, number))
        yield name, partial(kept, name, partial(_arrays, rng, ill))


def _arrays(rng: np.random.Generator, ill: bool) -> dict[str, np.ndarray]:
    spine = OtherSpine(random_other_parameters(rng, 0.0))
    volume = stack(rng, SLICES)
    lesions: list[tuple[Any, ...]] = []
    if ill:
        lesions = [_blob(rng, spine) for _ in range(int(rng.integers(1, 3)))]
    spine.blobs = tuple(blob for blob, *_ in lesions)
    masks = [
        (_unmeasured(index, *where), _shares(blob))
        for index, (blob, *where) in enumerate(lesions, 1)
    ]
    return arrays_of(rng, sampled_from(spine, volume, masks, "oedema" if ill else "healthy"))


def _shares(blob: Blob) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: blob.share_at(points) >= blob.share / 2


def _unmeasured(number: int, structure: Structure, side: Side, level: str | None) -> True3D:
    kind = FindingType.OEDEMA_LIKE
    return unmeasured(number, kind, structure, side, level, "oedema", normal=False)


def _blob(rng: np.random.Generator, spine: OtherSpine) -> tuple[Any, ...]:
    """An oedema of the second phantom, and its structure, side and level."""
    marks, scale = spine.landmarks(), spine.parameters.scale
    volume = float(np.exp(rng.uniform(np.log(0.3), np.log(4.0))))
    radius = float(np.cbrt(volume * 1000 / 4.19)) * 1.15
    a, b, c = (float(v) * radius for v in np.exp(rng.normal(0, 0.15, 3)))
    share, fat = float(rng.uniform(0.35, 1)), float(rng.uniform(0.02, 0.2))
    if rng.random() < 0.4:
        side = str(rng.choice(list(_SIDES)))
        joint = spine.auricular_points(3.0)[side]
        joint = joint[np.abs(joint[:, 0]) < np.percentile(np.abs(joint[:, 0]), 50)]
        bone, way = Structure.SACRAL_SUBCHONDRAL, -1.0
        if rng.random() < 0.3:
            bone, way = Structure.ILIAC_SUBCHONDRAL, 1.0
        centre = joint[rng.integers(len(joint))].astype(float)
        centre = centre + np.array([way * _SIDES[side] * 0.7 * radius, 0, 0])
        where: tuple[Any, ...] = (bone, Side(side), None)
    else:
        level = str(rng.choice(["T12", "L1", "L2", "L3", "L4", "L5"]))
        end, wall = str(rng.choice(["superior", "inferior"])), rng.uniform(0, 1)
        front, back = (marks[f"{level}_{end}_{name}"] for name in ("anterior", "posterior"))
        centre = front + (0.15 + 0.7 * wall) * (back - front)
        centre = centre + 0.25 * (marks[level] - centre) + [rng.normal(0, 7) * scale, 0, 0]
        where = (Structure.ENDPLATE, Side.MIDLINE, level)
    x, y, z = (float(v) for v in centre)
    return (Blob((x, y, z), (a, b, c), Label.OEDEMA, fat, share), *where)
