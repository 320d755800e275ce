"""Lesions of the vertebrae: end plates, corners, facet joints, bodies.

Sizes: Modic 3-15 mm high, metastasis 5-30, haemangioma 8-25, Schmorl node 5-12 mm (general
knowledge).
"""

from __future__ import annotations

import numpy as np

from protocols.findings import Side, Structure
from scanner.disease import place
from scanner.phantom import Lesion, LesionKind, LumbarSpine
from scanner.phantom.column import Disc, Level

Radii = tuple[float, float, float]


def _radii(rng: np.random.Generator, *ranges: tuple[float, float]) -> Radii:
    a, b, c = (float(rng.uniform(low, high)) for low, high in ranges)
    return (a, b, c)


def _side(x: float) -> Side:
    """Side of a lesion at x; what touches the middle is neither."""
    return Side.MIDLINE if abs(x) < 4 else Side.LEFT if x > 0 else Side.RIGHT


def _plates(spine: LumbarSpine, disc: Disc) -> list[tuple[Level, bool]]:
    """The end plates beside a disc: level, whether it is the upper one of that level."""
    by_name = spine.column.by_name
    return [(by_name[disc.above], False), (by_name[disc.below], True)]


def _on_plate(
    rng: np.random.Generator,
    kind: LesionKind,
    plate: tuple[Level, bool],
    at: tuple[float, float],
    radii: Radii,
    severity: float,
    family: str,
) -> Lesion:
    level, upper = plate
    centre = place.on_endplate(level, upper, *at)
    return Lesion(
        kind,
        Structure.ENDPLATE,
        _side(at[0]) if radii[0] < 12 else Side.MIDLINE,
        level.name,
        centre,
        radii,
        severity,
        family,
        seed=place.seed(rng),
    )


def modic(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """End-plate changes of type 1, 2 or 3 beside one or two discs."""
    lesions = []
    kinds = (LesionKind.MODIC_1, LesionKind.MODIC_2, LesionKind.MODIC_3)
    for _ in range(1 + int(rng.random() < 0.25)):
        plates = _plates(spine, place.some_disc(rng, spine))
        if rng.random() < 0.3:
            plates = [plates[int(rng.integers(2))]]
        kind = kinds[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
        depth = plates[0][0].depth
        at = (float(rng.normal(0, 6)), float(rng.uniform(-0.35, 0.35)) * depth)
        for plate in plates:
            radii = _radii(rng, (7, 22), (6, 17), (3, 14))
            severity = float(rng.uniform(0.3, 1))
            lesions.append(_on_plate(rng, kind, plate, at, radii, severity, "modic"))
    return tuple(lesions)


def corner(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Oedema, or the fat that follows it, at one to three corners."""
    lesions = []
    for _ in range(int(rng.integers(1, 4))):
        level, upper = place.some_vertebra(rng, spine), bool(rng.random() < 0.5)
        front = -1 if rng.random() < 0.75 else 1
        x = float(rng.normal(0, 6))
        lesions.append(
            Lesion(
                LesionKind.OEDEMA if rng.random() < 0.75 else LesionKind.FAT_METAPLASIA,
                Structure.CORNER,
                _side(x),
                level.name,
                place.on_endplate(level, upper, x, front * (level.depth / 2 - 3)),
                _radii(rng, (5, 13), (4, 9), (4, 9)),
                float(rng.uniform(0.3, 1)),
                "corner",
                seed=place.seed(rng),
            )
        )
    return tuple(lesions)


def facet(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Oedema around one or two facet joints."""
    lesions: list[Lesion] = []
    wanted = int(rng.integers(1, 3))
    for _ in range(8):
        if len(lesions) == wanted:
            break
        disc, side = place.some_disc(rng, spine), place.either_side(rng)
        centre = place.facet_joint(spine, spine.column.by_name[disc.above], side)
        if centre is None:
            continue
        lesions.append(
            Lesion(
                LesionKind.OEDEMA,
                Structure.FACET,
                side,
                f"{disc.above}/{disc.below}",
                centre,
                _radii(rng, (6, 11), (6, 11), (6, 13)),
                float(rng.uniform(0.35, 1)),
                "facet",
                seed=place.seed(rng),
            )
        )
    return tuple(lesions)


def metastasis(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """One to four lytic or sclerotic masses in vertebrae and sacrum."""
    lytic, sclerotic = LesionKind.LYTIC_METASTASIS, LesionKind.SCLEROTIC_METASTASIS
    kind = lytic if rng.random() < 0.65 else sclerotic
    lesions = []
    for _ in range(int(rng.integers(1, 5))):
        radius = place.log_uniform(rng, 2.5, 15)
        radii = _radii(rng, *[(0.8 * radius, 1.2 * radius)] * 3)
        if rng.random() < 0.2:
            first = spine.column.by_name["S1"]
            x = float(rng.uniform(-38, 38))
            y, z = first.to_plane(float(rng.uniform(-4, 10)), float(rng.uniform(-25, 8)))
            where = (Structure.SACRUM, "S1", (x, float(y), float(z)))
        else:
            level = place.some_vertebra(rng, spine)
            where = (Structure.VERTEBRA, level.name, place.in_body(rng, level, 0.7))
        structure, name, centre = where
        lesions.append(
            Lesion(
                kind,
                structure,
                _side(centre[0]),
                name,
                centre,
                radii,
                float(rng.uniform(0.7, 1)),
                "metastasis",
                seed=place.seed(rng),
            )
        )
    return tuple(lesions)


def haemangioma(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """One or two haemangiomas."""
    lesions = []
    for _ in range(1 + int(rng.random() < 0.3)):
        level = place.some_vertebra(rng, spine)
        radius = place.log_uniform(rng, 4, 12.5)
        centre = place.in_body(rng, level, 0.5)
        lesions.append(
            Lesion(
                LesionKind.HAEMANGIOMA,
                Structure.VERTEBRA,
                _side(centre[0]),
                level.name,
                centre,
                _radii(rng, *[(0.85 * radius, 1.15 * radius)] * 3),
                float(rng.uniform(0.7, 1)),
                "haemangioma",
                seed=place.seed(rng),
            )
        )
    return tuple(lesions)


def fracture(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Oedema band and fracture line below an end plate: of the collapsed body, if there is one."""
    collapsed = [spine.column.by_name[one.level] for one in spine.parameters.variants.fractures]
    level = collapsed[0] if collapsed else place.some_vertebra(rng, spine)
    plate = (level, bool(collapsed) or bool(rng.random() < 0.75))
    radii = (0.6 * level.width, 0.65 * level.depth, float(rng.uniform(6, 15)))
    severity = float(rng.uniform(0.6, 1))
    return (_on_plate(rng, LesionKind.FRACTURE, plate, (0.0, 0.0), radii, severity, "fracture"),)


def schmorl(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """Disc in the end plate with a dark rim, some with oedema around it.

    Nodes which the anatomy has already get the oedema alone.
    """
    nodes = spine.parameters.variants.schmorl_nodes
    if nodes:
        plate = (spine.column.by_name[nodes[0].level], nodes[0].superior)
        at, size = (nodes[0].x_mm, nodes[0].u_mm), nodes[0].radius_mm
        radii: Radii = (size, size, max(nodes[0].depth_mm, 3.0))
    else:
        plate = _plates(spine, place.some_disc(rng, spine))[int(rng.integers(2))]
        at = (float(rng.normal(0, 5)), float(rng.uniform(-0.2, 0.25)) * plate[0].depth)
        radii = _radii(rng, (3, 6.5), (3, 6.5), (3.5, 8))
    lesions = []
    if not nodes:
        lesions.append(_on_plate(rng, LesionKind.SCHMORL_NODE, plate, at, radii, 1.0, "schmorl"))
    if nodes or rng.random() < 0.35:
        wide = (radii[0] * 1.9, radii[1] * 1.9, radii[2] * 1.8)
        severity = float(rng.uniform(0.4, 0.9))
        lesions.append(_on_plate(rng, LesionKind.OEDEMA, plate, at, wide, severity, "schmorl"))
    return tuple(lesions)


def discitis(rng: np.random.Generator, spine: LumbarSpine) -> tuple[Lesion, ...]:
    """A bright disc between two oedematous bodies."""
    disc = place.some_disc(rng, spine)
    severity = float(rng.uniform(0.6, 1))
    lesions = [
        Lesion(
            LesionKind.DISCITIS,
            Structure.DISC,
            Side.MIDLINE,
            f"{disc.above}/{disc.below}",
            (0.0, disc.y, disc.z),
            (0.5 * disc.width, 0.5 * disc.depth, disc.height),
            severity,
            "discitis",
            seed=place.seed(rng),
        )
    ]
    for plate in _plates(spine, disc):
        radii = _radii(rng, (18, 26), (14, 22), (9, 18))
        lesions.append(
            _on_plate(rng, LesionKind.OEDEMA, plate, (0.0, 0.0), radii, severity, "discitis")
        )
    return tuple(lesions)
