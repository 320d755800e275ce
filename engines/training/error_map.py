"""How well a predicted error fits the true one."""

import numpy as np
import scipy.ndimage

BLOCK = 8
"""Pixels of the side of a block."""


def block_correlation(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return the correlation of two errors (y, x): their root mean squares over blocks."""
    rows = [
        np.sqrt(
            scipy.ndimage.uniform_filter(part**2, BLOCK)[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK]
        )
        for part in (true, predicted)
    ]
    return float(np.corrcoef(rows[0].ravel(), rows[1].ravel())[0, 1])
