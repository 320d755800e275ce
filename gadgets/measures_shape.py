"""Measures of shape from the corners of the end plates: curvature, discs, slips, heights.

All in the patient's sagittal plane (`gadgets.sagittal`). A measure whose corners are not all
trusted is left out. Corners are where the lines of end plate and wall meet, as in six-point
morphometry.
"""

from collections.abc import Iterator

import numpy as np

from gadgets.sagittal import SagittalSpine
from protocols.findings import Measure
from protocols.geometry import Vector

NAMES = frozenset(
    {
        "lordosis",
        "segmental_lordosis",
        "disc_height_index",
        "slip_mm",
        "slip_percent",
        "height_ratio_anterior_posterior",
        "height_ratio_posterior_adjacent",
    }
)


def shape_measures(spine: SagittalSpine) -> Iterator[Measure]:
    """Return all of `NAMES` that the trusted corners allow, cranially first."""
    yield from lordosis(spine)
    for above, below in spine.discs:
        yield from segmental_lordosis(spine, above, below)
        yield from disc_height_index(spine, above, below)
        yield from slip(spine, above, below)
    yield from height_ratios(spine)


def lordosis(spine: SagittalSpine) -> Iterator[Measure]:
    """Angle of Cobb between the superior end plates of L1 and S1, degrees; kyphosis is negative.

    Cobb 1948, in the limits of Vialle et al., J Bone Joint Surg Am 2005;87:260: L1 to S1.
    """
    if spine.has(("L1", "superior"), ("S1", "superior")):
        angle = spine.slope_deg("S1", "superior") - spine.slope_deg("L1", "superior")
        yield Measure(name="lordosis", value=angle, unit="deg")


def segmental_lordosis(spine: SagittalSpine, above: str, below: str) -> Iterator[Measure]:
    """Angle between the superior end plates of two neighbours, degrees, at their disc.

    One vertebra and the disc below it; from L1/L2 to L5/S1 these add up to the lordosis
    (Sci Rep 2022, s41598-022-21840-x).
    """
    if spine.has((above, "superior"), (below, "superior")):
        angle = spine.slope_deg(below, "superior") - spine.slope_deg(above, "superior")
        name = "segmental_lordosis"
        yield Measure(name=name, level=f"{above}/{below}", value=angle, unit="deg")


def disc_height_index(spine: SagittalSpine, above: str, below: str) -> Iterator[Measure]:
    """Anterior plus posterior height of a disc, over its superior plus inferior depth.

    Method 7 of the seven compared by Chen et al., J Clin Neurosci 2022;103:153 (after Farfan).
    Heights are taken perpendicular to the bisector of both end plates, so that a slip does not make
    a disc higher (Frobin et al., Clin Biomech 1997;12 suppl 1).
    """
    upper = spine.flat(spine.plates[above, "inferior"])
    lower = spine.flat(spine.plates[below, "superior"])
    one, other = upper[1] - upper[0], lower[1] - lower[0]
    depths = float(np.linalg.norm(one) + np.linalg.norm(other))
    bisector = _unit(_unit(one) + _unit(other))
    normal = np.array([-bisector[1], bisector[0]])
    heights = float(np.sum((upper - lower) @ normal))
    value = heights / depths
    yield Measure(name="disc_height_index", level=f"{above}/{below}", value=value, unit="")


def slip(spine: SagittalSpine, above: str, below: str) -> Iterator[Measure]:
    """How far a vertebra lies in front of the one below: mm, and % of that one's end plate.

    Taillard 1954: from the posterior inferior corner of the upper to the posterior superior corner
    of the lower, along the superior end plate of the lower, over the length of that end plate.
    Negative is retrolisthesis. Neighbours whose depths differ are 1-2 mm off without any slip.
    """
    corner = spine.flat(spine.plates[above, "inferior"])[1]
    front, back = spine.flat(spine.plates[below, "superior"])
    length = float(np.linalg.norm(front - back))
    offset = float((corner - back) @ _unit(front - back))
    level = f"{above}/{below}"
    yield Measure(name="slip_mm", level=level, value=offset, unit="mm")
    yield Measure(name="slip_percent", level=level, value=100 * offset / length, unit="%")


def height_ratios(spine: SagittalSpine) -> Iterator[Measure]:
    """Ratios of heights of each body: what semi-quantitative grades of deformity go by.

    Anterior over posterior (wedge), and posterior over the mean of the neighbours' posterior height
    (crush), of Genant et al., J Bone Miner Res 1993;8:1137; McCloskey et al., Osteoporos Int
    1993;3:138. No grade is given here: body shape differs by level and sex.
    """
    bodies = spine.bodies
    heights = {level: body_heights(spine, level) for level in bodies}
    for level in bodies:
        anterior, posterior = heights[level]
        name = "height_ratio_anterior_posterior"
        yield Measure(name=name, level=level, value=anterior / posterior, unit="")
    for level in bodies:
        at = spine.named.index(level)
        beside = [
            heights[other][1]
            for other in spine.named[max(at - 1, 0) : at + 2]
            if other != level and other in heights and _neighbours(spine, level, other)
        ]
        if beside:
            value = heights[level][1] / float(np.mean(beside))
            yield Measure(name="height_ratio_posterior_adjacent", level=level, value=value, unit="")


def body_heights(spine: SagittalSpine, level: str) -> tuple[float, float]:
    """Return the anterior and the posterior height of a body, mm."""
    upper, lower = (spine.flat(spine.plates[level, end]) for end in ("superior", "inferior"))
    anterior, posterior = np.linalg.norm(upper - lower, axis=1).tolist()
    return anterior, posterior


def _neighbours(spine: SagittalSpine, one: str, other: str) -> bool:
    return (one, other) in spine.discs or (other, one) in spine.discs


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
