"""Landmarks in patient coordinates: body centres, end plate corners, dorsal cortex, SI joints."""

import numpy as np

from gadgets.label_levels import Chain, refine
from gadgets.label_planes import Planes

LEAST = 0.15
"""Heat below which a landmark was not seen."""
CORNERS = ("superior_anterior", "superior_posterior", "inferior_anterior", "inferior_posterior")
_DORSAL = {
    "S1_dorsal_superior": ("S1_dorsal_superior",),
    "S1_dorsal_inferior": ("S1_dorsal_inferior", "S2_dorsal_superior"),
    "S2_dorsal_inferior": ("S2_dorsal_inferior", "S3_dorsal_superior"),
    "S3_dorsal_inferior": ("S3_dorsal_inferior",),
}
"""Heat maps of the dorsal cortex, and the landmarks which lie there."""
_JOINT_VOXELS = 30


def landmarks(
    chain: Chain,
    planes: Planes,
    named: dict[str, np.ndarray],
    mean: dict[str, np.ndarray],
    marks: list[str],
    labels: np.ndarray,
    names: tuple[str, ...],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return landmarks in LPS mm, and how sure each is.

    Parameters
    ----------
    chain : Chain
    planes : Planes
    named, mean : dict of float32 (slice, row, column), (row, column)
        Probability maps, and their mean near the midline.
    marks : list of str
        Names of the heat maps.
    labels : uint8 (z, y, x)
    names : tuple of str
    """
    places: dict[str, np.ndarray] = {}
    confidence: dict[str, float] = {}
    middles = _middles(chain, named, planes)

    def put(name: str, slice_number: float, at: np.ndarray, sure: float) -> None:
        places[name] = planes.point(slice_number, float(at[0]), float(at[1]))
        confidence[name] = float(min(1.0, sure))

    for number, body in enumerate(chain.bodies):
        put(body.name, middles[number], body.centre, body.confidence)
        wanted = CORNERS[:2] if body.name == "S1" else CORNERS
        for corner in wanted:
            found = _corner(mean[corner], chain, number, corner, planes.pixel_mm)
            if found is not None:
                put(f"{body.name}_{corner}", middles[number], *found)
    if chain.bodies and chain.bodies[-1].name == "S1":
        for kind, called in _DORSAL.items():
            heat = mean[kind] if kind in marks else np.zeros((1, 1))
            row, column = np.unravel_index(int(np.argmax(heat)), heat.shape)
            if heat[row, column] >= LEAST:
                at = refine(heat, int(row), int(column))
                for name in called:
                    put(name, middles[-1], at, 2 * float(heat[row, column]))
    for side in ("SI_left", "SI_right"):
        voxels = np.argwhere(labels == names.index(side))
        if len(voxels) >= _JOINT_VOXELS:
            places[side] = planes.volume.point(*voxels.mean(axis=0))
            confidence[side] = min(1.0, len(voxels) / (10 * _JOINT_VOXELS))
    return places, confidence


def _middles(chain: Chain, named: dict[str, np.ndarray], planes: Planes) -> list[float]:
    """The slice number, maybe fractional, of the middle of each body."""
    bone = named["vertebra"] + named["S1"]
    numbers = np.arange(len(bone))
    reach = max(2, round(7 / planes.pixel_mm))
    found = []
    for body in chain.bodies:
        row, column = (round(float(v)) for v in body.centre)
        window = (slice(max(0, v - reach), v + reach + 1) for v in (row, column))
        there = bone[(slice(None), *window)].mean(axis=(1, 2)) + 1e-9
        found.append(float((numbers * there).sum() / there.sum()))
    return found


def _corner(
    heat: np.ndarray, chain: Chain, number: int, corner: str, pixel_mm: float
) -> tuple[np.ndarray, float] | None:
    """Find a corner in its quadrant around the centre of a body: place and confidence."""
    centre = chain.bodies[number].centre
    others = [b.centre for b in chain.bodies[max(0, number - 1) : number + 2]]
    if len(others) < 2:
        return None
    along = others[-1] - others[0]
    spacing = float(np.linalg.norm(along)) / (len(others) - 1)
    along = along / np.linalg.norm(along)
    if along[0] < 0:
        along = -along
    across = np.array([-along[1], along[0]])
    reach = int(np.ceil(1.1 * spacing))
    row, column = (round(float(v)) for v in centre)
    top, left = max(0, row - reach), max(0, column - reach)
    part = heat[top : row + reach + 1, left : column + reach + 1]
    y, x = (np.arange(n)[:, None] + s for n, s in zip(part.shape, (top, left)))
    down = (y - centre[0]) * along[0] + (x.T - centre[1]) * along[1]
    back = (y - centre[0]) * across[0] + (x.T - centre[1]) * across[1]
    down = down if corner.startswith("inferior") else -down
    back = back if corner.endswith("posterior") else -back
    inside = (down > 0.05 * spacing) & (down < 0.85 * spacing) & (back > 2 / pixel_mm)
    inside &= back < 1.1 * spacing
    if not inside.any():
        return None
    best = int(np.argmax(np.where(inside, part, -1)))
    y0, x0 = np.unravel_index(best, part.shape)
    if part[y0, x0] < LEAST:
        return None
    return refine(heat, int(y0) + top, int(x0) + left), 2 * float(part[y0, x0])
