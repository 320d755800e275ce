"""Exact truth about a patient's anatomy: structure labels, joint surfaces, dorsal sacral cortex.

For training and scoring the labelling network and the prescription; it never leaves the scanner's
side. Everything comes from the distances that the phantom itself paints with. A phantom of another
make answers for itself, through methods of the same names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scanner.phantom.canvas import Canvas
from scanner.phantom.shapes import superellipse
from scanner.phantom.spine import LumbarSpine
from scanner.phantom.variants_disc import herniation_distance
from scanner.phantom.vertebrae import body_distance
from scanner.structures import LABEL
from scanner.tissues import Label

_BLOCK = 1 << 15
_SUBCHONDRAL_MM = 1.0
"""Joint labels reach this far into the bone on both sides."""
_ARTICULAR = (Label.CARTILAGE, Label.JOINT_FLUID)
_BONY = (Label.CORTICAL_BONE, Label.MARROW)
_S1_HALF_WIDTH, _S1_HALF_DEPTH = 25.0, 17.5


def structure_labels(spine: Any, points: np.ndarray) -> np.ndarray:
    """Return which structure every point belongs to.

    Parameters
    ----------
    spine : LumbarSpine
        Or any phantom with a method ``structure_labels(points)``.
    points : ndarray (..., 3), float32
        DICOM LPS, mm.

    Returns
    -------
    ndarray (...), uint8
        Index into `scanner.structures.STRUCTURES`; 0 is none of them.
    """
    if not isinstance(spine, LumbarSpine):
        return np.asarray(spine.structure_labels(points))
    points = np.asarray(points, np.float32)
    flat = points.reshape(-1, 3)
    labels = np.zeros(len(flat), np.uint8)
    for start in range(0, len(flat), _BLOCK):
        part = slice(start, start + _BLOCK)
        canvas = _bones(spine, spine.to_body(flat[part]))
        labels[part] = _classify(spine, canvas)
    return labels.reshape(points.shape[:-1])


def auricular_points(spine: Any, step_mm: float = 2.0) -> dict[str, np.ndarray]:
    """Return points on the middle of both sacroiliac joints, over the auricular surfaces.

    Parameters
    ----------
    spine : LumbarSpine
        Or any phantom with a method ``auricular_points(step_mm)``.
    step_mm : float
        Between points along and across the joint.

    Returns
    -------
    dict of "left", "right" to float64 (point, 3)
        DICOM LPS, mm.
    """
    if not isinstance(spine, LumbarSpine):
        return dict(spine.auricular_points(step_mm))
    pelvis, column = spine.pelvis, spine.column
    start = pelvis.borders[0]
    s, d = np.meshgrid(np.arange(start - 8, start + 70, step_mm), np.arange(-30, 30, step_mm))
    s, d = s.ravel(), d.ravel()
    inside = pelvis.auricular(s, d) < 0
    s, d = s[inside], d[inside]
    at = np.array([column.point(along, back) for along, back in zip(s, d)])
    found = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        x = sign * pelvis.joint_surface(s, d)
        for _ in range(3):  # the joint is irregular, and that depends on where it is
            body = np.stack([x, at[:, 0], at[:, 1]], axis=-1).astype(np.float32)
            canvas = _bones(spine, body)
            off, _, _ = pelvis.joint(canvas.x, canvas.s, canvas.d, canvas.warp, canvas.rough)
            x = body[:, 0] - sign * off
        between_bones = np.isin(canvas.labels, _ARTICULAR)
        found[side] = spine.to_patient(np.stack([x, *at.T], axis=-1)[between_bones])
    return found


def dorsal_cortex(spine: Any, step_mm: float = 1.0) -> dict[str, np.ndarray]:
    """Return midline points on the dorsal cortex of the bodies of S1, S2 and S3.

    Parameters
    ----------
    spine : LumbarSpine
        Or any phantom with a method ``dorsal_cortex(step_mm)``.
    step_mm : float
        Between points.

    Returns
    -------
    dict of "S1", "S2", "S3" to float64 (point, 3)
        Caudally ordered, DICOM LPS, mm.
    """
    if not isinstance(spine, LumbarSpine):
        return dict(spine.dorsal_cortex(step_mm))
    borders = spine.pelvis.borders
    found = {}
    for k, name in enumerate(("S1", "S2", "S3")):
        along = np.arange(borders[k], borders[k + 1], step_mm)
        wall = [(0.0, *spine.column.point(s, 0.0)) for s in along]
        found[name] = spine.to_patient(np.array(wall))
    return found


def _bones(spine: LumbarSpine, body: np.ndarray) -> Canvas:
    """A canvas over body coordinates (point, 3) with skin and bones, and nothing else."""
    canvas = Canvas(spine._patient, *np.ascontiguousarray(body.T))
    spine._body.paint(canvas)
    spine._pelvis.paint(canvas)
    spine._vertebrae.paint(canvas)
    return canvas


def _classify(spine: LumbarSpine, canvas: Canvas) -> np.ndarray:
    labels = np.zeros(canvas.x.size, np.uint8)
    _label_pelvis(spine, canvas, labels)
    for level in spine.column.levels:
        index = canvas.within((-32, 32), (level.y - 34, level.y + 34), (level.z - 34, level.z + 34))
        u, w = level.to_local(canvas.y[index], canvas.z[index])
        body, _ = body_distance(level, canvas.x[index], u, w)
        body = body + 0.30 * canvas.rough[0, index]
        labels[index[(body < 0.2) & (canvas.bone[index] < 0)]] = LABEL[level.name]
    variants = spine.parameters.variants
    for k, disc in enumerate(spine.column.discs):
        index, u, w = spine._discs.space(canvas, k)
        if index.size:
            radial, _ = spine._discs.edge(canvas, index, k, u, w)
            labels[index[radial < 0]] = LABEL[disc.name]
        change = variants.disc_change(disc.name)
        if change.protrusion_mm:
            index = canvas.within((-34, 34), (disc.y - 10, disc.y + 45), (disc.z - 40, disc.z + 40))
            u, w = disc.to_local(canvas.y[index], canvas.z[index])
            herniation = herniation_distance(disc, change, canvas.x[index], u, w)
            bone = np.minimum(canvas.bone[index], canvas.sacrum[index])
            herniated = (herniation + 0.2 * canvas.rough[1, index] < 0) & (u > 0) & (bone > 0.3)
            labels[index[herniated]] = LABEL[disc.name]
    index, (distance, *_) = spine._canal.sac(canvas)
    labels[index[distance < 0]] = LABEL["canal"]
    return labels


def _label_pelvis(spine: LumbarSpine, canvas: Canvas, labels: np.ndarray) -> None:
    """Sacrum, body of S1, disc of a lumbarised S1, sacroiliac joints."""
    pelvis, borders = spine.pelvis, spine.pelvis.borders
    index = np.flatnonzero(canvas.sacrum < 6.0)
    s, d, x = canvas.s[index], canvas.d[index], canvas.x[index]
    bone = canvas.sacrum[index] < 0
    labels[index[bone]] = LABEL["sacrum"]
    first = pelvis.first
    u, w = first.to_local(canvas.y[index], canvas.z[index])
    body, _ = superellipse(x, u, _S1_HALF_WIDTH, _S1_HALF_DEPTH, 1.25)
    in_s1 = bone & (body < 0) & (s < borders[1]) & (d < 0.5) & (w > -first.height)
    labels[index[in_s1]] = LABEL["S1"]
    if spine.parameters.variants.transitional == "lumbarised":
        lens, across, thickness = pelvis.remnant_disc(0, x, s, d, canvas.rough[:, index])
        labels[index[bone & (lens < 0.96) & (across < thickness)]] = LABEL["S1/S2"]
    off, gap, region = pelvis.joint(x, s, d, canvas.warp[:, index], canvas.rough[:, index])
    tissue = canvas.labels[index]
    beyond = np.abs(off) - gap / 2
    bony = (beyond > 0) & (beyond < _SUBCHONDRAL_MM) & np.isin(tissue, _BONY)
    joint = (region < 0) & ((np.isin(tissue, _ARTICULAR) & (beyond < 1.0)) | bony)
    labels[index[joint & (x > 0)]] = LABEL["SI_left"]
    labels[index[joint & (x < 0)]] = LABEL["SI_right"]
