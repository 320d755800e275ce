"""The baseline of triage: a threshold on STIR in marrow, as in studies that did without learning.

Marrow is what the labels call bone, less its border; the threshold is a multiple of its median
(compare BMC Musculoskelet Disord 2017, s12891-017-1861-1). Here it may choose the threshold that
suits it best: the one with no more false findings in the very normal exams it is scored on.
"""

import numpy as np
from scipy import ndimage

from gadgets.items import LabelMap
from gadgets.sagittal import LEVELS
from gadgets.triage_examples import Example

THRESHOLDS = np.geomspace(1.3, 8.0, 16)
LEAST_ML = 0.1
SMOOTH_MM = 1.0
BORDER_MM = 2.0


def regions(exam: Example, labels: LabelMap) -> list[list[np.ndarray]]:
    """Return the regions above each of `THRESHOLDS`: voxels (n, 3), z, y, x."""
    names, voxels = labels.names, labels.labels
    bone = [n for n, name in enumerate(names) if name in LEVELS or name == "sacrum"]
    stir = next(one for one in exam.series if one.weighting == "stir")
    x, y, z = stir.volume.spacing
    marrow = np.isin(voxels, bone)
    marrow = ndimage.distance_transform_edt(marrow, sampling=(z, y, x)) > BORDER_MM
    smooth = ndimage.gaussian_filter(stir.data, (0, SMOOTH_MM / y, SMOOTH_MM / x))
    ratio = smooth / np.median(smooth[marrow])
    least = LEAST_ML * 1000 / float(x * y * z)
    found = []
    for threshold in THRESHOLDS:
        marked, count = ndimage.label(marrow & (ratio > threshold))
        sizes = np.bincount(marked.ravel(), minlength=count + 1)
        kept = np.flatnonzero(sizes >= least)
        boxes = ndimage.find_objects(marked)
        found.append(
            [
                np.argwhere(marked[boxes[n - 1]] == n) + [part.start for part in boxes[n - 1]]
                for n in kept
                if n
            ]
        )
    return found
