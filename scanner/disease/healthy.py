"""What healthy people have that looks like disease: the ways to be wrong.

Frequencies: oedema beside the sacroiliac joint in 23.4 % of healthy volunteers, nearly never deep
(de Winter); degenerative sclerosis in 45.7 % of 818 (PMC7960989). Patches of marrow: general
knowledge.
"""

from __future__ import annotations

import numpy as np

from protocols.findings import Side, Structure
from scanner.disease import place
from scanner.disease.sacroiliac import BONES, subchondral
from scanner.phantom import Lesion, LesionKind, LumbarSpine


def healthy(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Everything below, each by its own chance; often nothing at all."""
    age = spine.parameters.age
    lesions: list[Lesion] = []
    if rng.random() < np.interp(age, [25, 45, 70], [0.15, 0.4, 0.6]):
        lesions += degenerative_sclerosis(rng, spine)
    if rng.random() < 0.23:
        lesions += load_oedema(rng, spine)
    if rng.random() < np.interp(age, [25, 75], [0.6, 0.35]):
        lesions += marrow_patches(rng, spine)
    if rng.random() < np.interp(age, [25, 75], [0.5, 0.2]):
        lesions += red_ala(rng, spine)
    return tuple(lesions)


def degenerative_sclerosis(rng: np.random.Generator, spine: LumbarSpine) -> list[Lesion]:
    """Thin sclerosis along the joint, mostly iliac, on one side or both."""
    sides = (Side.LEFT, Side.RIGHT) if rng.random() < 0.6 else (place.either_side(rng),)
    return [
        subchondral(
            rng,
            spine,
            LesionKind.SCLEROSIS,
            BONES[int(rng.random() < 0.75)],
            side,
            volume_ml=place.log_uniform(rng, 0.15, 1.0),
            depth_mm=float(rng.uniform(2, 4)),
            severity=float(rng.uniform(0.4, 0.9)),
            family="degenerative_sclerosis",
            normal=True,
        )
        for side in sides
    ]


def load_oedema(rng: np.random.Generator, spine: LumbarSpine) -> list[Lesion]:
    """Shallow, faint oedema of runners, recruits and after childbirth."""
    return [
        subchondral(
            rng,
            spine,
            LesionKind.OEDEMA,
            BONES[int(rng.random() < 0.4)],
            place.either_side(rng),
            volume_ml=place.log_uniform(rng, 0.05, 0.4),
            depth_mm=float(rng.uniform(2, 5)),
            severity=float(rng.uniform(0.2, 0.6)),
            family="load_oedema",
            normal=True,
        )
        for _ in range(int(rng.integers(1, 3)))
    ]


def marrow_patches(rng: np.random.Generator, spine: LumbarSpine) -> list[Lesion]:
    """Islands of red or yellow marrow, 5-15 mm, in the vertebral bodies."""
    lesions = []
    for _ in range(int(rng.integers(1, 6))):
        level = place.some_vertebra(rng, spine)
        red = bool(rng.random() < 0.6)
        centre = place.in_body(rng, level, 0.85)
        lesions.append(
            Lesion(
                LesionKind.RED_MARROW if red else LesionKind.FAT_METAPLASIA,
                Structure.VERTEBRA,
                Side.MIDLINE,
                level.name,
                centre,
                tuple(float(v) for v in rng.uniform(2.5, 7.5, 3)),  # type: ignore[arg-type]
                float(rng.uniform(0.4, 0.9)),
                "red_marrow" if red else "yellow_marrow",
                seed=place.seed(rng),
                normal=True,
            )
        )
    return lesions


def red_ala(rng: np.random.Generator, spine: LumbarSpine) -> list[Lesion]:
    """Red marrow in both alae of the sacrum, away from the joint and never quite symmetrical."""
    first = spine.column.by_name["S1"]
    across, u, w = rng.uniform(26, 38), rng.uniform(0, 9), rng.uniform(-10, 4)
    lesions = []
    for side, sign in ((Side.LEFT, 1.0), (Side.RIGHT, -1.0)):
        x = sign * float(across + rng.normal(0, 2))
        y, z = first.to_plane(float(u + rng.normal(0, 2)), float(w + rng.normal(0, 2)))
        radii = rng.uniform((6, 6, 5), (13, 15, 11))
        lesions.append(
            Lesion(
                LesionKind.RED_MARROW,
                Structure.SACRUM,
                side,
                "S1",
                (x, float(y), float(z)),
                (float(radii[0]), float(radii[1]), float(radii[2])),
                float(rng.uniform(0.4, 0.9)),
                "red_marrow",
                seed=place.seed(rng),
                normal=True,
            )
        )
    return lesions
