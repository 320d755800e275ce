"""Painting lesions into a patient: a second tissue at the same point, so that they can be subtle.

At a point which a lesion takes by a third, two thirds of the density remain bone and the lesion's
own tissue has the rest; their signals add up. The label of the anatomy stays, because a diseased
vertebra is a vertebra.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.lesion import MAKEUP, Lesion, LesionKind
from scanner.phantom.lesion_shapes import Shape
from scanner.phantom.pelvis import Pelvis
from scanner.tissues import Label

_STRUT_SPACING_MM = 3.4
_FRACTURE_LINE_MM = 1.2


class Replaced(NamedTuple):
    """What lesions have made of the points of a canvas.

    Attributes
    ----------
    labels : ndarray (point), uint8
    density, fat : ndarray (point), float32
        Of the tissue of the lesion.
    share : ndarray (point), float32
        Part of each point that it takes.
    """

    labels: np.ndarray
    density: np.ndarray
    fat: np.ndarray
    share: np.ndarray


class Lesions:
    """All lesions of one patient."""

    def __init__(self, lesions: tuple[Lesion, ...], patient: Patient, pelvis: Pelvis) -> None:
        self.shapes = tuple(Shape(lesion, patient, pelvis) for lesion in lesions)

    def replaced(self, canvas: Canvas) -> Replaced | None:
        """What the lesions make of painted anatomy; None where they do not reach.

        Where two lesions meet, the one that takes more has the point.
        """
        result: Replaced | None = None
        for shape in self.shapes:
            index = canvas.within(*shape.box())
            if not index.size:
                continue
            r = shape.radius(canvas, index)
            near = np.flatnonzero(r < 1 + MAKEUP[shape.lesion.kind].softness)
            if not near.size:
                continue
            if result is None:
                count = canvas.x.size
                zeros = [np.zeros(count, np.float32) for _ in range(3)]
                result = Replaced(np.zeros(count, np.uint8), *zeros)
            _replace(shape, canvas, index[near], r[near], result)
        return result

    def share(self, number: int, canvas: Canvas) -> np.ndarray:
        """Part of each painted point which lesion ``number`` takes, float32 (point)."""
        shape = self.shapes[number]
        share = np.zeros(canvas.x.size, np.float32)
        index = canvas.within(*shape.box())
        if index.size:
            share[index] = shape.share(canvas, index, shape.radius(canvas, index))
            share[index] *= np.isin(canvas.labels[index], MAKEUP[shape.lesion.kind].hosts)
        return share


def _replace(
    shape: Shape, canvas: Canvas, index: np.ndarray, r: np.ndarray, result: Replaced
) -> None:
    kind = shape.lesion.kind
    makeup = MAKEUP[kind]
    share = shape.share(canvas, index, r)
    share *= np.isin(canvas.labels[index], makeup.hosts)
    host_fat = canvas.fat[index]
    labels = np.full(index.size, makeup.label, np.uint8)
    density = np.full(index.size, np.float32(makeup.density))
    fat = np.full(index.size, np.float32(shape.fat))
    if kind == LesionKind.OEDEMA:
        # Water takes the place of fat, unevenly.
        in_marrow = canvas.labels[index] == Label.MARROW
        fat = np.where(in_marrow, np.minimum(fat, 0.4 * host_fat), fat)
        uneven = shape.noise(canvas, index, 0.6 * max(shape.lesion.radii))[0]
        share *= np.clip(0.92 + 0.12 * uneven, 0.5, 1)
    elif kind == LesionKind.RED_MARROW:
        fat = np.minimum(fat, 0.75 * host_fat)
    elif kind == LesionKind.HAEMANGIOMA:
        _add_struts(shape, canvas, index, labels, density, fat)
    elif kind == LesionKind.FRACTURE:
        _add_fracture_line(shape, canvas, index, labels, density, fat)
    elif kind == LesionKind.SCHMORL_NODE:
        # A core of disc, a dark rim.
        rim = r > 0.68
        labels[rim], density[rim], fat[rim] = Label.SCLEROTIC_BONE, 1.0, 0.2
    elif kind == LesionKind.OUTLINE:
        # A thin line, as a careless painter leaves it; inside and out all is as before.
        density, fat = canvas.density[index].copy(), host_fat.copy()
        fat[np.abs(r - 0.95) < 0.06] *= 0.96
    wins = share > result.share[index]
    chosen = index[wins]
    result.labels[chosen] = labels[wins]
    result.density[chosen] = density[wins]
    result.fat[chosen] = fat[wins]
    result.share[chosen] = share[wins]


def _add_struts(
    shape: Shape,
    canvas: Canvas,
    index: np.ndarray,
    labels: np.ndarray,
    density: np.ndarray,
    fat: np.ndarray,
) -> None:
    """Thick vertical trabeculae: stripes from the side, dots from above."""
    turn = np.float32(2 * np.pi / _STRUT_SPACING_MM)
    sway = 1.3 * shape.noise(canvas, index, 9.0)[0]
    lattice = np.cos(turn * canvas.x[index] + sway) + np.cos(turn * canvas.d[index] + sway)
    strut = lattice > 1.3
    labels[strut], density[strut], fat[strut] = Label.SCLEROTIC_BONE, 0.9, 0.3


def _add_fracture_line(
    shape: Shape,
    canvas: Canvas,
    index: np.ndarray,
    labels: np.ndarray,
    density: np.ndarray,
    fat: np.ndarray,
) -> None:
    """Impacted trabeculae: a dark, uneven line within the oedema."""
    depth = shape.depth(canvas, index) / shape.lesion.radii[2]
    uneven = shape.noise(canvas, index, 14.0)[0]
    away = np.abs(depth - 0.32 - 0.10 * uneven) * shape.lesion.radii[2]
    line = away < _FRACTURE_LINE_MM * (0.8 + 0.3 * uneven)
    labels[line], density[line], fat[line] = Label.SCLEROTIC_BONE, 0.8, 0.2
