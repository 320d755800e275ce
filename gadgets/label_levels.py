"""From probability maps to vertebrae: which bodies there are, and what their names are.

Bodies are found over all slices at once: heat of body centres adds up, and what one slice does not
show another does. Names come from counting upwards from S1; where S1 is not seen, or the network
doubts the numbering, that is said.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

LEVELS = (
    *(f"C{n}" for n in range(1, 8)),
    *(f"T{n}" for n in range(1, 13)),
    *(f"L{n}" for n in range(1, 6)),
)
"""Vertebrae above the sacrum, caudally ordered."""
PEAK = 0.25
"""Least heat of a body's centre, on the mean of the slices near the midline."""
NEAREST_MM, FURTHEST_MM = 9.0, 48.0
"""Between the centres of neighbouring bodies."""
S1_AREA_MM2 = 120.0


@dataclass(frozen=True)
class Body:
    """A vertebral body.

    Attributes
    ----------
    name : str
    centre : float64 (2)
        Row and column.
    confidence : float
    """

    name: str
    centre: np.ndarray
    confidence: float


@dataclass(frozen=True)
class Chain:
    """Bodies in order, caudally, the last maybe S1, and how sure their names are.

    Attributes
    ----------
    bodies : tuple of Body
    certain : float
        That the numbering is right, 0 to 1.
    notes : tuple of str
    """

    bodies: tuple[Body, ...]
    certain: float
    notes: tuple[str, ...]


def find_chain(
    centre: np.ndarray, vertebra: np.ndarray, first: np.ndarray, doubt: np.ndarray, pixel_mm: float
) -> Chain:
    """Find the vertebrae of mean maps over the slices near the midline.

    Parameters
    ----------
    centre : float32 (row, column)
        Heat of body centres.
    vertebra, first : float32 (row, column)
        Probability of a body above S1, and of S1.
    doubt : float32 (row, column)
        That the levels cannot be numbered, where S1 is.
    pixel_mm : float
    """
    sacral, score = _largest(first, S1_AREA_MM2 / pixel_mm**2)
    peaks = _peaks(centre, vertebra, pixel_mm)
    if sacral is not None:
        peaks = [peak for peak in peaks if peak[0][0] < sacral[0]]
    peaks = _linked(peaks, sacral, pixel_mm)
    notes: list[str] = []
    if sacral is None:
        bodies = [Body(f"vertebra {n + 1}", p, s) for n, (p, s) in enumerate(peaks)]
        if bodies:
            notes.append("the sacrum is not seen: vertebrae are counted, not named")
        return Chain(tuple(bodies), 0.0, tuple(notes))
    names = LEVELS[-len(peaks) :] if peaks else ()
    bodies = [Body(name, p, s) for name, (p, s) in zip(names, peaks[-len(LEVELS) :])]
    bodies.append(Body("S1", sacral, score))
    around = first > 0.5
    unsure = float(doubt[around].mean()) if around.any() else 1.0
    certain = (1 - unsure) * min(1.0, score / 0.7)
    if unsure > 0.5:
        notes.append("the lumbosacral junction looks transitional: levels may be one off")
    if len(peaks) == 0:
        certain = 0.0
        notes.append("no vertebra is seen above the sacrum")
    steps = [float(np.linalg.norm(a.centre - b.centre)) for a, b in pairwise(bodies)]
    for (one, other), step in zip(pairwise(bodies), steps):
        if step > 1.6 * float(np.median(steps)):
            certain = min(certain, 0.3)
            notes.append(f"a vertebra may be missing between {one.name} and {other.name}")
    return Chain(tuple(bodies), certain, tuple(notes))


def _largest(mask_of: np.ndarray, least: float) -> tuple[np.ndarray | None, float]:
    """Return the middle of the largest region above a half, and its mean probability."""
    regions, count = ndimage.label(mask_of > 0.4)
    if not count:
        return None, 0.0
    areas = np.bincount(regions.ravel())[1:]
    best = int(np.argmax(areas)) + 1
    if areas[best - 1] < least:
        return None, 0.0
    inside = regions == best
    middle = np.array(ndimage.center_of_mass(np.where(inside, mask_of, 0)))
    return middle, float(mask_of[inside].mean())


def _peaks(
    centre: np.ndarray, vertebra: np.ndarray, pixel_mm: float
) -> list[tuple[np.ndarray, float]]:
    """Peaks of the heat on vertebrae: place and height, caudally ordered."""
    smooth = ndimage.gaussian_filter(centre, 1.0)
    reach = 2 * round(NEAREST_MM / pixel_mm / 2) + 1
    top = ndimage.maximum_filter(smooth, reach)
    bony = ndimage.uniform_filter(vertebra, 5) > 0.3
    found = []
    for row, column in np.argwhere((smooth == top) & (smooth > PEAK * 0.6) & bony):
        found.append((refine(centre, row, column), float(min(1.0, centre[row, column]))))
    return sorted(found, key=lambda peak: peak[0][0])


def refine(heat: np.ndarray, row: int, column: int, reach: int = 3) -> np.ndarray:
    """Return the centre of mass of a peak, float64 (2)."""
    top, left = max(0, row - reach), max(0, column - reach)
    part = heat[top : row + reach + 1, left : column + reach + 1]
    part = np.maximum(part - 0.2 * part.max(), 0)
    return np.array([top, left]) + ndimage.center_of_mass(part)


def _linked(
    peaks: list[tuple[np.ndarray, float]], sacral: np.ndarray | None, pixel_mm: float
) -> list[tuple[np.ndarray, float]]:
    """Keep the longest run of peaks each of which is a vertebra's distance from the next.

    Of two that are closer the weaker goes; with a sacrum the run begins there.
    """
    runs: list[list[tuple[np.ndarray, float]]] = []
    for place, score in reversed(peaks):
        run = runs[-1] if runs else None
        last = run[-1] if run else None
        before = last[0] if last else sacral
        apart = FURTHEST_MM if before is None else np.linalg.norm(before - place) * pixel_mm
        if last and apart < NEAREST_MM:
            if score > last[1] and run is not None:
                run[-1] = (place, score)
        elif run is None or apart > FURTHEST_MM:
            if run is None and sacral is not None and apart > FURTHEST_MM:
                continue
            runs.append([(place, score)])
        else:
            run.append((place, score))
    if not runs:
        return []
    best = runs[0] if sacral is not None else max(runs, key=len)
    return best[::-1]
