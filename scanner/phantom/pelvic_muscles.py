"""Muscles on the pelvic bones: iliacus inside, gluteal muscles outside, piriformis below."""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas
from scanner.phantom.shapes import capsule
from scanner.tissues import Label


def paint_pelvic_muscles(
    canvas: Canvas, index: np.ndarray, bone: np.ndarray, offset: np.ndarray, thickness: np.ndarray
) -> None:
    """Paint muscle where fat is still free around the pelvis.

    Parameters
    ----------
    index : ndarray (point)
        Points in the pelvic box; all further arrays run along it.
    bone : ndarray (point)
        Distance to the nearer of sacrum and ilium, mm.
    offset, thickness : ndarray (point)
        Distance from the inner face of the iliac sheet, outward positive, and thickness of that
        sheet, mm.
    """
    x, y, z = canvas.soft_x[index], canvas.soft_y[index], canvas.soft_z[index]
    ax = np.abs(x)
    warp = canvas.warp[:, index]
    below = canvas.depth[index] - canvas.fat_depth[index]
    free = (bone > 0) & (below > 0.5) & (canvas.labels[index] != Label.MUSCLE)
    near = np.flatnonzero(free & ((offset > -42) | (ax < 60)))
    index, x, y, z, ax, below, bone, offset, thickness, free = (
        v[near] for v in (index, x, y, z, ax, below, bone, offset, thickness, free)
    )
    warp = warp[:, near]
    fibres = canvas.patient.texture_noise(ax + 0.6 * z, y, z - 0.6 * ax, (8.0, 8.0, 55.0))

    bulk = (
        15 * np.clip((ax - 46 + 2 * warp[1]) / 16, 0, 1) * np.clip((16 - y) / 8, 0, 1) - 2 * warp[0]
    )
    iliacus = free & (offset < 0.5) & (offset > -bulk) & (bone < 18)
    canvas.paint(
        index, iliacus, Label.MUSCLE, 1.0, np.clip(0.05 + 0.28 * (fibres[0] - 1.1), 0.03, 0.7)
    )

    crest = (
        -58
        - 0.55 * np.maximum(y - 10, 0)
        - 0.22 * np.maximum(-y - 25, 0)
        + 7 * warp[3]
        + 0.12 * (ax - 90)
    )
    outside = (offset > thickness - 2) | ((y > 40) & (offset > -40) & (z < -100))
    medial = ax > 16 + 0.5 * np.maximum(-112 - z, 0) * (y < 95) * 0.3 + 2 * warp[1]
    shell = free & outside & medial & (z < crest)
    canvas.paint(
        index, shell, Label.MUSCLE, 1.0, np.clip(0.05 + 0.30 * (fibres[1] - 1.15), 0.03, 0.8)
    )
    # Gluteus maximus: coarse bundles with fat between them.
    layer = 27 + 3 * warp[0] - 0.05 * np.maximum(ax - 90, 0)
    maximus = shell & (below < layer) & (y > -12)
    canvas.paint(
        index, maximus, Label.MUSCLE, 1.0, np.clip(0.07 + 0.45 * (fibres[0] - 0.8), 0.04, 0.88)
    )
    plane = shell & (np.abs(below - layer) < 0.9 + 0.7 * fibres[2]) & (y > -12)
    canvas.paint(index, plane, Label.FAT, 1.0, 0.85)

    piriformis = (
        capsule(ax, y, z, (22.0, 46.0, -128.0), (112.0, 22.0, -160.0), 9.0, 8.0)
        + 0.8 * canvas.rough[0, index]
    )
    inner = free & (piriformis < 0) & ~shell
    canvas.paint(
        index, inner, Label.MUSCLE, 1.0, np.clip(0.05 + 0.3 * (fibres[3] - 1.1), 0.03, 0.7)
    )
