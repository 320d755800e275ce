"""How unusual an exam is, by numbers that name no lesion: for what no class is made for.

Nothing here was fitted on disease: the numbers of normal exams say what is usual.
"""

import numpy as np

from gadgets.sagittal import LEVELS
from gadgets.triage_anatomy import Anatomy
from gadgets.triage_model import KINDS
from gadgets.triage_signal import Signal

DEEP_MM = 2.6
TAIL = 0.5
"""Percent of voxels beyond the extremes that are looked at."""


def unusual(anatomy: Anatomy, signal: Signal) -> np.ndarray:
    """Return what may be unusual, float64 (feature); the larger the more so.

    For the bodies and for the sacrum: extremes of each ratio on both sides. For the whole: the
    largest share of each kind in a bone, and how far the bodies differ from each other.
    """
    deep = anatomy.core & (anatomy.edge_mm > DEEP_MM)
    bodies = [n for n, name in enumerate(anatomy.names) if name in LEVELS and name != "S1"]
    sacral = [n for n, name in enumerate(anatomy.names) if name in ("S1", "sacrum")]
    at = anatomy.bones[deep]
    ratios = {name: signal.ratios[name][deep] for name in sorted(signal.ratios)}
    found = []
    for numbers in (bodies, sacral):
        here = np.isin(at, numbers)
        for values in (ratio[here] for ratio in ratios.values()):
            if len(values) < 100:
                found += [0.0, 0.0]
                continue
            low, high = np.percentile(values, [TAIL, 100 - TAIL])
            found += [float(-low), float(high)]
    there = [n for n in (*bodies, *sacral) if np.any(at == n)]
    for kind in KINDS:
        share = signal.shares[kind][deep]
        means = [float(share[at == n].mean()) for n in there]
        found.append(max(means) - float(np.median(means)) if means else 0.0)
    for ratio in ratios.values():
        own = [float(np.median(ratio[at == n])) for n in there if n in bodies]
        found.append(float(np.ptp(own)) if own else 0.0)
    return np.array(found)
