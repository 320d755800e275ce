"""A simulated observer: what triage might say of a region that is there, or only looks like one.

A stated model, not a measured one. The detectability of a region on a series is

    d = weight * cnr * sqrt(volume shown / 1 ml)

with a weight for the contrast of the series; series are pooled as root sum of squares (independent
noise). With a cue (how much its texture is that of a lesion, standard normal about a mean for each
kind of region) and the depth below the joint surface, the probability is

    logit p = OFFSET + PER_LN_D ln d + PER_CUE cue + PER_MM depth

The four numbers are a logistic regression of "this region is a lesion" on 20,000 exams simulated
by `scanner.findings_archive` at a prevalence of 0.1: there the observer is about calibrated, and at
other prevalences it is not, as real ones are not.
"""

from dataclasses import dataclass

import numpy as np

from protocols.findings import Side, Structure

OFFSET, PER_LN_D, PER_CUE, PER_MM = -5.48, 1.27, 1.63, 0.317

WEIGHTS = {"stir": 1.0, "t2_fs": 1.0, "t1": 0.45, "t2": 0.4, "pd": 0.2, "water_fat": 0.6}
"""Of the contrasts: how much of a lesion's STIR contrast to noise is left (an assumption)."""

SEEN_FROM = 1.5
"""Detectability on a series, from which it counts as showing a region."""

REPORTED_FROM = 0.05
"""Probability, from which a region is written down."""


@dataclass(frozen=True)
class Region:
    """A lesion, or what looks like one.

    Attributes
    ----------
    kind : str
        "lesion", or a mimic of `scanner.findings_archive`.
    side : Side
    structure : Structure
    volume_ml, cnr, depth_mm : float
    lateral : float
        Where its middle lies on the subchondral rim: 0 medial, 1 lateral.
    height : float
        0 at the top of the joint, 1 at its lower end.
    cue : float
    """

    kind: str
    side: Side
    structure: Structure
    volume_ml: float
    cnr: float
    depth_mm: float
    lateral: float
    height: float
    cue: float

    @property
    def width(self) -> float:
        """Along the rim, as a fraction of it: a rim of 45 mm, a region as wide as high."""
        return float(10 * np.cbrt(self.volume_ml) / 45)

    def shown(self, rim: float, axial: bool) -> float:
        """Return the fraction of it in a stack that shows this fraction of the rim.

        A sagittal stack shows the rim from its medial end on, an axial one from its upper end on.
        """
        middle = self.height if axial else self.lateral
        return float(np.clip((rim - middle) / self.width + 0.5, 0, 1))


def detectability(region: Region, contrast: str, shown: float) -> float:
    """Return ``d`` of a region on one series."""
    return WEIGHTS[contrast] * region.cnr * float(np.sqrt(region.volume_ml * shown))


def probability(region: Region, pooled: float) -> float:
    """Return what the observer says of a region with this pooled detectability."""
    logit = (
        OFFSET
        + PER_LN_D * np.log(max(pooled, 1e-3))
        + PER_CUE * region.cue
        + PER_MM * region.depth_mm
    )
    return float(1 / (1 + np.exp(-logit)))
