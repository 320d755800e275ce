"""Findings of shape: a canal that is narrow behind a disc.

From the diameter of the dural sac (`gadgets.measures_canal.dural_sac_diameter`) there, against that
behind the bodies of the same patient; how probable a narrowing is was fitted on simulated exams.
That a body lost height or slipped, that a disc bulges or is dark, is not told: corners of the
labelling network smooth the former away, and no measure shows the latter.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gadgets.items import LabelMap, Series
from gadgets.triage_model import Parameters
from protocols.findings import Finding, FindingType, Measure, Structure

DISCS = ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
"""Above them the cord fills the sac, and its fluid shows less."""
CLEARLY, SLIGHTLY = 0.35, 0.1
"""Lost shares of the diameter: a narrowing for certain from here on, and up to here none. A sac of
13 mm that loses 0.35 has 8.5 mm, less than the 10 mm of absolute stenosis (general knowledge, after
Verbiest; not read)."""
LEAST_BODIES = 3
WALL_MM, WIDTH_MM, HEIGHT_MM = 2.0, 12.0, 8.0
"""Of the mark, for display: from the disc to the sac, across, and along the spine."""


def narrow(shapes: Iterable[tuple[FindingType, str, float]]) -> tuple[set[str], set[str]]:
    """Return the discs behind which the canal is narrow in truth, and those that are unclear.

    Parameters
    ----------
    shapes : iterable of (FindingType, str, float)
        Of `gadgets.triage_examples.Example`. Where a body has slipped the canal is narrow too.
    """
    sure, unclear = set(), set()
    for kind, level, value in shapes:
        if kind is FindingType.CANAL_NARROW and value >= CLEARLY:
            sure.add(level)
        elif (kind is FindingType.CANAL_NARROW and value > SLIGHTLY) or kind is FindingType.OFFSET:
            unclear.add(level)
    return sure & set(DISCS), (unclear - sure) & set(DISCS)


def narrowings(
    measures: Sequence[Measure], usual: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Return what speaks for a narrow canal, by disc: the sac's diameter against what is usual.

    Parameters
    ----------
    measures : sequence of Measure
    usual : mapping of level to float
        Diameter behind a disc over that behind the bodies, of canals that are not narrow.

    Returns
    -------
    dict of level to tuple of float
        Logarithm of the ratio over the usual one, and mm.
    """
    sac = {one.level: one.value for one in measures if one.name == "dural_sac_ap" and one.level}
    behind = [value for level, value in sac.items() if "/" not in level and level[0] == "L"]
    if len(behind) < LEAST_BODIES:
        return {}
    own = float(np.median(behind))
    return {
        level: (float(np.log(sac[level] / own / usual.get(level, 1.0))), sac[level])
        for level in DISCS
        if level in sac
    }


def shape_findings(
    labels: LabelMap, measures: Sequence[Measure], series: Series, parameters: Parameters
) -> list[Finding]:
    """Return narrow canals that are probable enough to be told, the ids still empty.

    Parameters
    ----------
    labels : LabelMap
    measures : sequence of Measure
        Of these labels.
    series : Series
        The one whose fluid was measured.
    parameters : Parameters
    """
    found, judge = narrowings(measures, parameters.usual), parameters.canal()
    if not found or judge is None:
        return []
    least = parameters.listed_from(FindingType.CANAL_NARROW)
    chances = judge.probability(np.array(list(found.values())))
    return [
        _finding(level, float(chance), found[level][1], labels, series)
        for level, chance in zip(found, chances)
        if chance >= least
    ]


def _finding(level: str, chance: float, sac_mm: float, labels: LabelMap, series: Series) -> Finding:
    """Describe a narrow canal: behind its disc, as long as the disc is high, as deep as the sac."""
    above, below = level.split("/")
    marks = labels.landmarks
    wall = (marks[f"{above}_inferior_posterior"] + marks[f"{below}_superior_posterior"]) / 2
    x, y, z = wall + np.array([0.0, sac_mm / 2 + WALL_MM, 0.0])
    number = round(float(series.volume.index(np.array([x, y, z]))[0]))
    number = int(np.clip(number, 0, series.volume.shape[0] - 1))
    return Finding(
        id="",
        type=FindingType.CANAL_NARROW,
        structure=Structure.CANAL,
        level=level,
        centre_mm=(float(x), float(y), float(z)),
        extent_mm=(WIDTH_MM, sac_mm, HEIGHT_MM),
        volume_ml=0.0,
        cnr=0.0,
        probability=round(chance, 4),
        series=(series.name,),
        slices=(number,),
        adjacent_slices=1,
        area_mm2=0.0,
    )
