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
    found = []
    for numbers in (bodies, sacral):
        here = deep & np.isin(anatomy.bones, numbers)
        for name in sorted(signal.ratios):
            values = signal.ratios[name][here]
            if len(values) < 100:
                found += [0.0, 0.0]
                continue
            low, high = np.percentile(values, [TAIL, 100 - TAIL])
            found += [float(-low), float(high)]
    for kind in KINDS:
        means = [float(signal.shares[kind][deep & (anatomy.bones == n)].mean())
                 for n in (*bodies, *sacral) if np.any(deep & (anatomy.bones == n))]  # fmt: skip
        found.append(max(means) - float(np.median(means)) if means else 0.0)
    for name in sorted(signal.ratios):
        own = [float(np.median(signal.ratios[name][deep & (anatomy.bones == n)]))
               for n in bodies if np.any(deep & (anatomy.bones == n))]  # fmt: skip
        found.append(float(np.ptp(own)) if own else 0.0)
    return np.array(found)
