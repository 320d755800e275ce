"""Lesions of the sacroiliac joints: oedema of the bone beside them, and lasting changes.

Sizes: oedema reaches 3-25 mm from the joint, deep from 10 mm on; erosions 2-8 mm (general
knowledge, SPARCC definitions).
"""

from __future__ import annotations

import numpy as np

from protocols.findings import Side, Structure
from scanner.disease import place
from scanner.phantom import Lesion, LesionKind, LumbarSpine

BONES = (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL)
CORTEX_MM = {Structure.SACRAL_SUBCHONDRAL: 1.5, Structure.ILIAC_SUBCHONDRAL: 2.1}
VOLUMES_ML = (0.1, 3.0)
DEEP_MM = 10.0


def subchondral(
    rng: np.random.Generator,
    spine: LumbarSpine,
    kind: LesionKind,
    structure: Structure,
    side: Side,
    volume_ml: float,
    depth_mm: float,
    severity: float,
    family: str,
    normal: bool = False,
) -> Lesion:
    """One lesion that begins at the surface of a joint.

    Parameters
    ----------
    volume_ml, depth_mm : float
        About: the bone decides how much of it finds room. `lesion_truth` measures.
    severity : float
        Share of replaced tissue at the core, above 0 to 1.
    """
    centre = place.on_joint(rng, spine, structure, side)
    depth_mm = min(depth_mm, deepest_mm(volume_ml))
    radii = place.half_ellipsoid_radii(rng, volume_ml, depth_mm, CORTEX_MM[structure])
    s, _ = spine.column.spine_coordinates(*(np.array([v], np.float32) for v in centre[1:]))
    level = place.sacral_level(spine, float(s[0])) if structure == BONES[0] else None
    seed = place.seed(rng)
    return Lesion(
        kind, structure, side, level, centre, radii, severity, family, seed=seed, normal=normal
    )


def deepest_mm(volume_ml: float) -> float:
    """Depth at which a lesion would be twice as deep as wide: none are thinner."""
    return float(np.cbrt(1230 * volume_ml))


def oedema_depth(rng: np.random.Generator, volume_ml: float) -> float:
    """Depth in mm that suits a volume: more than half of those above 1 ml are deep."""
    widest = deepest_mm(volume_ml)
    if widest > DEEP_MM and rng.random() < 0.6:
        return float(rng.uniform(DEEP_MM, widest))
    return float(rng.uniform(2.5, max(min(widest, 7.0), 3.0)))


def si_oedema(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """One to four regions of oedema, superficial or deep, sacral or iliac, bright or subtle."""
    sides = [place.either_side(rng) for _ in range(2)]
    lesions = []
    for number in range(int(rng.integers(1, 5))):
        volume = place.log_uniform(rng, *VOLUMES_ML)
        lesions.append(
            subchondral(
                rng,
                spine,
                LesionKind.OEDEMA,
                BONES[int(rng.random() < 0.45)],
                sides[number % 2],
                volume,
                oedema_depth(rng, volume),
                float(rng.uniform(0.25, 1)),
                "si_oedema",
            )
        )
    return tuple(lesions)


def si_structural(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Fat metaplasia, sclerosis, erosions and ankylosis, each by chance, at least one of them."""
    side = place.either_side(rng)
    lesions: list[Lesion] = []
    while not lesions:
        chance = rng.random(4)
        if chance[0] < 0.6:
            lesions += _lasting(rng, spine, LesionKind.FAT_METAPLASIA, side, (0.3, 4.0), (4, 14))
        if chance[1] < 0.5:
            lesions += _lasting(rng, spine, LesionKind.SCLEROSIS, side, (0.3, 3.0), (5, 11))
        if chance[2] < 0.5:
            lesions += [_erosion(rng, spine, side) for _ in range(int(rng.integers(2, 6)))]
        if chance[3] < 0.2:
            lesions.append(_ankylosis(rng, spine, side))
    return tuple(lesions)


def _lasting(
    rng: np.random.Generator,
    spine: LumbarSpine,
    kind: LesionKind,
    side: Side,
    volumes_ml: tuple[float, float],
    depths_mm: tuple[float, float],
) -> list[Lesion]:
    structures = BONES if rng.random() < 0.4 else (BONES[int(rng.random() < 0.5)],)
    return [
        subchondral(
            rng,
            spine,
            kind,
            structure,
            side,
            place.log_uniform(rng, *volumes_ml),
            float(rng.uniform(*depths_mm)),
            float(rng.uniform(0.5, 1)),
            "si_structural",
        )
        for structure in structures
    ]


def _erosion(rng: np.random.Generator, spine: LumbarSpine, side: Side) -> Lesion:
    structure = BONES[int(rng.random() < 0.65)]
    centre = place.on_joint(rng, spine, structure, side)
    radii = (*(float(v) for v in rng.uniform(1.5, 4, 2)), float(rng.uniform(2.5, 4.5)))
    return Lesion(
        LesionKind.EROSION,
        structure,
        side,
        None,
        centre,
        (radii[0], radii[1], radii[2]),
        family="si_structural",
        seed=place.seed(rng),
    )


def _ankylosis(rng: np.random.Generator, spine: LumbarSpine, side: Side) -> Lesion:
    centre = place.on_joint(rng, spine, Structure.SI_JOINT, side)
    along, across = rng.uniform(9, 18), rng.uniform(6, 11)
    return Lesion(
        LesionKind.ANKYLOSIS,
        Structure.SI_JOINT,
        side,
        None,
        centre,
        (float(along), float(across), 6.0),
        family="si_structural",
        seed=place.seed(rng),
    )
