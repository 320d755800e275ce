"""Exact anatomical landmarks of the phantom, in body coordinates before scoliosis and scale.

Names: `L3` (body centre), `L3_superior_anterior`, `L3_superior_posterior`, `L3_inferior_anterior`,
`L3_inferior_posterior` (where end plate and wall lines meet), `S2_dorsal_superior`,
`S2_dorsal_inferior` (ends of the dorsal cortex of a sacral body), `SI_left`, `SI_right` (middle of
the auricular surface).
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.column import Column
from scanner.phantom.pelvis import Pelvis


def landmarks(column: Column, pelvis: Pelvis) -> dict[str, np.ndarray]:
    """Landmark positions (x, y, z) in mm."""
    found: dict[str, np.ndarray] = {}
    named = {level.name: level for level in (*column.levels, column.by_name["S1"])}
    for name, level in named.items():
        found[name] = np.array([0.0, level.y, level.z])
        # The lower border of S1 is fused: it has no end plate.
        for superior in (True,) if name == "S1" else (True, False):
            for posterior in (True, False):
                end = "superior" if superior else "inferior"
                wall = "posterior" if posterior else "anterior"
                found[f"{name}_{end}_{wall}"] = np.array([0.0, *level.corner(posterior, superior)])
    for name, *borders in zip(("S1", "S2", "S3"), pelvis.borders, pelvis.borders[1:]):
        for end, border in zip(("superior", "inferior"), borders):
            found[f"{name}_dorsal_{end}"] = np.array([0.0, *column.point(border, 0.0)])
    s, d = pelvis.borders[0] + 28, -6.0
    y, z = column.point(s, d)
    x = float(pelvis.joint_surface(np.array(s), np.array(d)))
    found["SI_left"], found["SI_right"] = np.array([x, y, z]), np.array([-x, y, z])
    return found
