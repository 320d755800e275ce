"""Whether channels of a slice are like those which a network was trained on.

Every tissue has its place in the joint histogram of two contrasts. How rare in training the
combinations of signals of an image were, in bits, tells whether it is of something else: the wrong
contrast, a failed acquisition, an implant, a patient unlike all others. What it cannot tell is an
unusual arrangement of usual tissues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

BINS = 24
HIGHEST = 1.5
"""Of the scale of a channel: brighter is as bright as that."""
BODY = 0.08
"""Of the scale of any channel: below in all of them is background."""
BITS = 20.0
"""Rarer is as rare as that."""
USUAL = 95.0
"""Percentile of slices of validation up to which a stack is as in training: the mean of its slices
varies less than they do."""


def scale_of(channel: np.ndarray) -> float:
    """Return what 1 means in a channel: the 98th percentile of the body, 0 of nothing.

    How much air lies around the body must not matter: the body is what has a tenth of the signal
    of the brightest voxels or more.
    """
    magnitude = np.abs(channel)
    bright = magnitude[magnitude > 0.1 * np.percentile(magnitude, 99.5)]
    return float(np.percentile(bright, 98)) if bright.size else 0.0


def body(planes: np.ndarray) -> np.ndarray:
    """Return where there is something, bool (..., y, x), of planes (..., channel, y, x)."""
    return np.asarray((planes > BODY).any(axis=-3))


@dataclass(frozen=True)
class Familiar:
    """How rare combinations of the first channel with each of the others were.

    Attributes
    ----------
    bits : float32 (pair, BINS, BINS)
        Negative binary logarithm of the probability of a voxel of the body in that cell.
    most : float
        Mean bits, up to which channels are as in training.
    """

    bits: np.ndarray
    most: float

    def rarity(self, planes: np.ndarray) -> float:
        """Return the mean bits of the voxels of the body.

        Parameters
        ----------
        planes : float32 (batch, channel, y, x)
            In the scale of the network's input.
        """
        there = body(planes)
        if not there.any():
            return BITS
        bins = _bins(planes)
        found = [cells[bins[:, 0], bins[:, n + 1]][there] for n, cells in enumerate(self.bits)]
        return float(np.mean(found))

    def to_plain(self) -> dict[str, Any]:
        """Return it as text and numbers, for a manifest."""
        eighths = np.rint(8 * self.bits).astype(np.uint8)
        return {"eighths": [cells.tobytes().hex() for cells in eighths], "most": self.most}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Familiar":
        """Return it of a manifest."""
        cells = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in plain["eighths"]]
        bits = np.stack(cells).reshape(-1, BINS, BINS).astype(np.float32) / 8
        return cls(bits, float(plain["most"]))


def learn(examples: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Familiar:
    """Return what is familiar after examples (channel, y, x), with a limit from ``others``."""
    pairs = len(examples[0]) - 1
    counts = np.zeros((pairs, BINS, BINS))
    for planes in examples:
        bins = _bins(planes[None])[0]
        there = body(planes)
        for pair in range(pairs):
            np.add.at(counts[pair], (bins[0][there], bins[pair + 1][there]), 1)
    smooth = gaussian_filter(counts, (0, 0.7, 0.7))
    share = smooth / smooth.sum(axis=(1, 2), keepdims=True)
    bits = np.minimum(-np.log2(np.maximum(share, 2.0**-BITS)), BITS).astype(np.float32)
    first = Familiar(bits, 0.0)
    rarities = [first.rarity(planes[None]) for planes in others]
    return Familiar(bits, round(float(np.percentile(rarities, USUAL)), 3))


def _bins(planes: np.ndarray) -> np.ndarray:
    scaled = np.clip(planes, 0, HIGHEST) * ((BINS - 1) / HIGHEST)
    return np.rint(scaled).astype(np.intp)
