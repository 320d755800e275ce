"""How much of each structure an exam has shown so far, and whether that is enough to judge.

From where things lie (trusted landmarks, and the auricular surface of `gadgets.prescribe_si`) and
where slices were: a structure that was not imaged cannot look normal. Nothing is said of what the
slices show.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from gadgets.items import LabelMap, Series
from gadgets.prescribe_si import locate
from gadgets.prescription import MIN_CONFIDENCE, Refused, Request
from gadgets.sagittal import SagittalSpine, sagittal_spine
from protocols.exam import Geometry, GeometryRule
from protocols.findings import EvidenceCoverage, Side, Structure
from protocols.geometry import Slab, Vector

SHOWS_OEDEMA = frozenset({"stir", "t2_fs"})
"""Weightings on which oedema stands out: water bright, fat dark."""
ENOUGH = 0.8
"""Fraction of a structure from which on it can be judged; of subchondral bone wherever within its
uncertainty it lies."""

RIM_MM = 10.0
"""Depth of the subchondral bone beside an auricular surface."""
HALF_JOINT_MM = 1.0
"""From the middle of the joint to bone: half of the joint space of Demir 2007, 1.5 to 2.5 mm."""
WIDTH_TO_DEPTH = 1.28
"""Of an end plate: Bonczar 2024 and Panjabi 1992, L1 to L5."""
CANAL_AP_MM, CANAL_WIDTH_MM = 15.0, 22.0
"""Mean of L1 to L5: Griffith, CT, n = 1080."""

FACET_MM = np.array([15.5, 13.5, 6.0])
"""From the middle of the back of a disc to its facet joint: lateral, dorsal, cranial; measured in
the phantom, near to general knowledge."""
FACET_RADIUS_MM = 7.0

_LUMBAR = tuple(f"L{n}" for n in range(1, 7))
_STEPS = 9
_ANY = Geometry(
    rule=GeometryRule.SI_OBLIQUE_CORONAL,
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=20,
    thickness_mm=3.0,
    phase="head_feet",
)
"""`locate` takes a request; the place of the joints does not depend on its geometry."""


def coverage(
    labels: LabelMap, series: Iterable[tuple[Series, Slab]]
) -> tuple[EvidenceCoverage, ...]:
    """Return how much of the lumbar spine and of the bone beside the SI joints was shown.

    Parameters
    ----------
    labels : LabelMap
    series : iterable of (Series, Slab)
        All acquired so far, with their slices. Those on which oedema does not stand out
        (`SHOWS_OEDEMA`) count for nothing.

    Returns
    -------
    tuple of EvidenceCoverage
        Vertebrae (L1 to the last lumbar one, mean), their discs, the canal beside them; of the left
        and the right facet joints, never ``judged``, and sacral and iliac subchondral bone. What is
        in the gap between two slices was not shown. Where landmarks do not say where a structure
        lies, as much as is known of is counted: 0 if nothing is; it is not ``judged``, which is
        "cannot judge", not "normal".
    """
    slabs = [slab for one, slab in series if one.weighting in SHOWS_OEDEMA]
    spine = sagittal_spine(labels)
    found = []
    for structure, parts in (
        (Structure.VERTEBRA, _vertebrae),
        (Structure.DISC, _discs),
        (Structure.CANAL, _canal),
    ):
        share = _mean_shown(parts, spine, slabs)
        found.append(EvidenceCoverage(structure=structure, shown=share, judged=share >= ENOUGH))
    for side in (Side.LEFT, Side.RIGHT):
        share = _mean_shown(partial(_facets, side), spine, slabs)
        # Triage does not look at them, however well they were shown.
        found.append(
            EvidenceCoverage(structure=Structure.FACET, side=side, shown=share, judged=False)
        )
    rims = subchondral_rims(labels)
    for side in (Side.LEFT, Side.RIGHT):
        for structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL):
            share = least = 0.0
            if (structure, side) in rims:
                points, errors = rims[structure, side]
                share = float(np.mean(shown(points, slabs)))
                least = min(float(np.mean(shown(points + error, slabs))) for error in errors)
            judged = min(share, least) >= ENOUGH
            found.append(
                EvidenceCoverage(structure=structure, side=side, shown=share, judged=judged)
            )
    return tuple(found)


def shown(points: Vector, slabs: Sequence[Slab]) -> np.ndarray:
    """Return which points (..., 3) in LPS mm lie within a slice of any slab, bool (...).

    Within its thickness and the field of view; a gap between slices belongs to none.
    """
    points = np.asarray(points)
    found = np.zeros(points.shape[:-1], bool)
    for slab in slabs:
        at = slab.coordinates(points)[..., 2]
        pitch = slab.thickness_mm + slab.gap_mm
        first = (slab.slices - 1) / 2
        nearest = np.clip(np.round(at / pitch + first), 0, slab.slices - 1) - first
        found |= (np.abs(at - nearest * pitch) <= slab.thickness_mm / 2) & slab.contains(points)
    return found


def subchondral_rims(labels: LabelMap) -> dict[tuple[Structure, Side], tuple[Vector, Vector]]:
    """Return points in the bone beside the auricular surfaces, and how far off they may be.

    Returns
    -------
    dict to (float64 (n, 3), float64 (6, 3))
        LPS mm. Points `RIM_MM` deep, perpendicular to the surface; as densely as the model's
        surface, and every millimetre in depth. One standard deviation of their place to each side,
        up and down, back and forth. Empty where the sacrum cannot be located; without a landmark of
        the joints that needs trusted numbers of the levels.
    """
    request = Request(_ANY, labels)
    try:
        sacrum = locate(request)
    except Refused:
        return {}
    numbered = labels.confidence.get("levels", 0.0) >= MIN_CONFIDENCE
    if not numbered and not request.seen("SI_left", "SI_right"):
        return {}
    axes = np.stack([sacrum.left, sacrum.caudal, sacrum.dorsal])
    errors = sacrum.sigma_mm * np.concatenate([axes, -axes])
    depths = HALF_JOINT_MM + np.arange(0.5, RIM_MM)[:, None, None]
    found = {}
    for side, surface in sacrum.surfaces.items():
        normal = np.linalg.svd(surface - surface.mean(axis=0), full_matrices=False)[2][2]
        away = sacrum.left if side is Side.LEFT else -sacrum.left
        into = depths * normal * np.sign(normal @ away)
        for structure, bone in (
            (Structure.SACRAL_SUBCHONDRAL, surface - into),
            (Structure.ILIAC_SUBCHONDRAL, surface + into),
        ):
            found[structure, side] = (bone.reshape(-1, 3), errors)
    return found


def _mean_shown(
    parts: Callable[[SagittalSpine], list[Vector | None]],
    spine: SagittalSpine | None,
    slabs: Sequence[Slab],
) -> float:
    """Return the mean over parts of what was shown of each; unknown ones were not."""
    found = parts(spine) if spine is not None else []
    shares = [0.0 if part is None else float(np.mean(shown(part, slabs))) for part in found]
    return float(np.mean(shares)) if shares else 0.0


def _expected(spine: SagittalSpine) -> list[str]:
    """Return the levels from L1 to S1 that this patient has: four to six lumbar ones."""
    beside_s1 = [above for above, below in spine.discs if below == "S1"]
    last = beside_s1[0] if beside_s1 and beside_s1[0] in _LUMBAR else "L5"
    return [*_LUMBAR[: _LUMBAR.index(last) + 1], "S1"]


def _vertebrae(spine: SagittalSpine) -> list[Vector | None]:
    """Return points in each lumbar body."""
    parts: list[Vector | None] = []
    for level in _expected(spine)[:-1]:
        if spine.has((level, "superior"), (level, "inferior")):
            plates = spine.plates[level, "superior"], spine.plates[level, "inferior"]
            parts.append(_between(spine, *plates))
        else:
            parts.append(None)
    return parts


def _discs(spine: SagittalSpine) -> list[Vector | None]:
    """Return points in each disc below a lumbar body."""
    levels = _expected(spine)
    parts: list[Vector | None] = []
    for pair in pairwise(levels):
        if pair in spine.discs:
            above, below = pair
            plates = spine.plates[above, "inferior"], spine.plates[below, "superior"]
            parts.append(_between(spine, *plates))
        else:
            parts.append(None)
    return parts


def _canal(spine: SagittalSpine) -> list[Vector | None]:
    """Return points in the canal behind each lumbar body."""
    parts: list[Vector | None] = []
    for level in _expected(spine)[:-1]:
        if not spine.has((level, "superior"), (level, "inferior")):
            parts.append(None)
            continue
        upper, lower = spine.plates[level, "superior"], spine.plates[level, "inferior"]
        wall = np.linspace(lower[1], upper[1], _STEPS)
        steps = np.linspace(-0.5, 0.5, _STEPS)
        back = (steps + 0.5)[:, None] * CANAL_AP_MM * spine.dorsal
        side = steps[:, None] * CANAL_WIDTH_MM * spine.left
        points = wall[:, None, None] + back[:, None] + side
        parts.append(points.reshape(-1, 3))
    return parts


def _facets(side: Side, spine: SagittalSpine) -> list[Vector | None]:
    """Return points around the facet joints of one side, below each lumbar body."""
    parts: list[Vector | None] = []
    around = np.stack(np.meshgrid(*3 * (np.linspace(-1, 1, 5),)), axis=-1).reshape(-1, 3)
    around = FACET_RADIUS_MM * around[np.linalg.norm(around, axis=1) <= 1]
    for pair in pairwise(_expected(spine)):
        if pair not in spine.discs:
            parts.append(None)
            continue
        above, below = pair
        upper, lower = spine.plates[above, "inferior"], spine.plates[below, "superior"]
        backwards = upper[1] - upper[0] + lower[1] - lower[0]
        backwards = backwards / np.linalg.norm(backwards)
        axes = np.stack([spine.left, backwards, np.cross(spine.left, backwards)])
        off = FACET_MM * (1 if side is Side.LEFT else -1, 1, 1)
        parts.append((upper[1] + lower[1]) / 2 + off @ axes + around)
    return parts


def _between(spine: SagittalSpine, upper: Vector, lower: Vector) -> Vector:
    """Return points between two end plates, within an ellipse as wide as such plates are."""
    along, side = np.meshgrid(*2 * (np.linspace(-1, 1, 2 * _STEPS + 1),))
    inside = np.hypot(along, side) <= 1
    along, side = along[inside][:, None], side[inside][:, None]
    layers = []
    for part in (np.arange(_STEPS) + 0.5) / _STEPS:
        front, back = lower + part * (upper - lower)
        half_width = np.linalg.norm(back - front) * WIDTH_TO_DEPTH / 2
        middle = (front + back) / 2 + along * (back - front) / 2
        layers.append(middle + side * half_width * spine.left)
    return np.concatenate(layers)
