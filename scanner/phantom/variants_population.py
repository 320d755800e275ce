"""Random phantom patients: a population for training, testing and demonstration.

Pelvic incidence, tilt and lordosis follow published relations (incidence 50 +- 11, lordosis near
0.9 of it, Asian Spine Journal and Haifa series), transitional anatomy 8.6 % of a series of 886
sacroiliac MRI. All other frequencies and spreads are general knowledge, wide on purpose.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scanner.phantom.parameters import SpineParameters
from scanner.phantom.variants import (
    Build,
    DiscChange,
    Fracture,
    Sacroiliac,
    SchmorlNode,
    Slip,
    Variants,
    disc_names,
    level_names,
)

_NUMBERING = (
    (5, "sacralised", 0.45),
    (5, "lumbarised", 0.30),
    (4, "", 0.125),
    (6, "", 0.125),
)
"""Lumbar bodies, transitional form, and its share of all transitional anatomy."""


def random_parameters(
    rng: np.random.Generator,
    age: float | None = None,
    transitional: float = 0.08,
    disease: float = 1.0,
) -> SpineParameters:
    """Draw one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    age : float or None
        Years; None draws it.
    transitional : float
        Probability that the levels cannot be numbered without doubt.
    disease : float
        Factor on how often degeneration, slips, fractures and nodes occur; 0 is a healthy spine.
    """
    years = _normal(rng, 49, 17, 18, 92) if age is None else age
    man = rng.random() < 0.5
    incidence = _normal(rng, 50, 11, 30, 80)
    lordosis = _clip(0.9 * incidence + rng.normal(0, 7), 22, 73)
    slope = _clip((incidence - _normal(rng, 12, 6, 0, 26)) / lordosis, 0.6, 1.0)
    bodies, form = _numbering(rng, transitional)
    build = Build(
        body_height=_normal(rng, 1, 0.04, 0.9, 1.1),
        body_width=_normal(rng, 1.01 if man else 0.98, 0.035, 0.9, 1.1),
        disc_height=_normal(rng, 1, 0.12, 0.7, 1.3),
        canal=_normal(rng, 1, 0.08, 0.82, 1.2),
        sacral_slope=slope,
        sacral_curve=_normal(rng, 1, 0.2, 0.5, 1.6),
    )
    variants = Variants(
        lumbar_bodies=bodies,
        transitional=form,  # type: ignore[arg-type]
        transitional_sides=str(rng.choice(["both", "left", "right"], p=[0.6, 0.2, 0.2])),  # type: ignore[arg-type]
        scoliosis_mm=_clip(rng.exponential(2.5), 0, 9) if rng.random() < 0.3 else 0.0,
        build=build,
        sacroiliac=_sacroiliac(rng, man),
        fractures=_fractures(rng, years, bodies, disease),
        schmorl_nodes=_nodes(rng, bodies, disease),
        slips=_slips(rng, years, bodies, disease),
        discs=_discs(rng, years, bodies, disease),
    )
    size = _normal(rng, 1.02 if man else 0.95, 0.04, 0.84, 1.14)
    return SpineParameters(years, size, lordosis, int(rng.integers(1 << 31)), variants)


def _clip(value: float, low: float, high: float) -> float:
    return float(np.clip(value, low, high))


def _normal(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    return _clip(rng.normal(mean, sd), low, high)


def _numbering(rng: np.random.Generator, transitional: float) -> tuple[int, str]:
    if rng.random() >= transitional:
        return 5, ""
    bodies, form, _ = _NUMBERING[rng.choice(len(_NUMBERING), p=[share for *_, share in _NUMBERING])]
    return bodies, form


def _sacroiliac(rng: np.random.Generator, man: bool) -> Sacroiliac:
    space = rng.normal(1, 0.18)
    return Sacroiliac(
        space_left=_clip(space + rng.normal(0, 0.08), 0.6, 1.5),
        space_right=_clip(space + rng.normal(0, 0.08), 0.6, 1.5),
        shift_left_mm=_normal(rng, 0, 0.8, -2.5, 2.5),
        shift_right_mm=_normal(rng, 0, 0.8, -2.5, 2.5),
        half_distance_mm=_normal(rng, 0.5 if man else -0.5, 2.5, -6, 5),
        converge_caudal=_normal(rng, 0.27, 0.03, 0.19, 0.34),
        # Joints of men stand more sagittal.
        converge_dorsal=_normal(rng, 0.22 if man else 0.26, 0.04, 0.13, 0.34),
    )


def _fractures(
    rng: np.random.Generator, age: float, bodies: int, disease: float
) -> tuple[Fracture, ...]:
    chance = (0.01 + 0.15 * _clip((age - 60) / 20, 0, 1)) * disease
    if rng.random() >= chance:
        return ()
    names = level_names(bodies)[-8:-1]
    levels = rng.choice(names, size=int(rng.integers(1, 3)), replace=False)
    shapes: tuple[Literal["wedge", "biconcave", "crush"], ...] = ("wedge", "biconcave", "crush")
    return tuple(
        Fracture(str(level), shapes[rng.choice(3, p=[0.5, 0.35, 0.15])], rng.uniform(0.15, 0.5))
        for level in levels
    )


def _nodes(rng: np.random.Generator, bodies: int, disease: float) -> tuple[SchmorlNode, ...]:
    if rng.random() >= 0.2 * disease:
        return ()
    return tuple(
        SchmorlNode(
            level=str(rng.choice(level_names(bodies)[-7:-1])),
            superior=bool(rng.random() < 0.5),
            x_mm=_normal(rng, 0, 5, -12, 12),
            u_mm=_normal(rng, 1, 4, -9, 10),
            depth_mm=rng.uniform(2, 7),
            radius_mm=rng.uniform(3, 6),
        )
        for _ in range(int(rng.integers(1, 4)))
    )


def _slips(rng: np.random.Generator, age: float, bodies: int, disease: float) -> tuple[Slip, ...]:
    if rng.random() >= (0.02 + 0.1 * _clip((age - 50) / 20, 0, 1)) * disease:
        return ()
    level = level_names(bodies)[-1 - int(rng.choice(3, p=[0.25, 0.6, 0.15]))]
    offset = rng.uniform(2, 9) if rng.random() < 0.8 else -rng.uniform(2, 4)
    return (Slip(level, float(offset)),)


def _discs(
    rng: np.random.Generator, age: float, bodies: int, disease: float
) -> tuple[DiscChange, ...]:
    """Grade of every lumbar disc by age, and what goes with it."""
    changes = []
    names = disc_names(bodies)[-bodies:]
    for k, name in enumerate(names):
        caudal = k >= bodies - 2
        grade = 1 + (age - 12) / 24 + 0.5 * caudal + rng.normal(0, 0.6)
        grade = _clip(grade, 1, 5) if disease else _clip(grade, 1, 3)
        worn = grade >= 2.5
        herniated = rng.random() < (0.16 if caudal else 0.05) * disease * worn
        extruded = herniated and rng.random() < 0.25
        narrow = rng.random() < (0.04 + 0.12 * (age > 55)) * disease * (0 < k < bodies - 1)
        changes.append(
            DiscChange(
                disc=name,
                grade=grade,
                bulge_mm=float(rng.uniform(0, 1.6)) if worn and rng.random() < 0.4 * disease else 0,
                protrusion_mm=float(rng.uniform(2.5, 7)) if herniated else 0.0,
                side_mm=_normal(rng, 0, 4, -12, 12),
                breadth_mm=float(rng.uniform(8, 20)),
                migration_mm=float(rng.choice([-1, 1]) * rng.uniform(5, 12)) if extruded else 0.0,
                fissure=bool(worn and rng.random() < 0.18 * disease),
                stenosis=float(rng.uniform(0.15, 0.6)) if narrow else 0.0,
            )
        )
    return tuple(changes)
