"""Intervertebral discs and the longitudinal ligaments.

Hydration falls smoothly from the nucleus to the outer annulus; it is turned into five tissues,
from a wet nucleus to ligament. Degeneration follows age and is worst at L4/5 and L5/S1 (as in the
Pfirrmann scale, grades 1-5), unless the patient's variants give a disc its own grade.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import superellipse
from scanner.phantom.variants import DiscChange
from scanner.phantom.variants_disc import fissure_distance, herniation_distance
from scanner.tissues import Label

# Added degeneration per disc, above level (general knowledge: caudal discs go first).
_BURDEN = {
    "T8": 0.0,
    "T9": 0.0,
    "T10": 0.0,
    "T11": 0.02,
    "T12": 0.0,
    "L1": -0.03,
    "L2": 0.02,
    "L3": 0.05,
    "L4": 0.22,
    "L5": 0.3,
}


class Discs:
    """All discs of one patient."""

    def __init__(self, patient: Patient) -> None:
        self._discs = patient.column.discs
        base = (patient.parameters.age - 22) / 95
        noise = patient.random.normal(0, 0.07, len(self._discs))
        self.degeneration = [
            float(np.clip(base + _BURDEN[disc.kind] + extra, 0, 1))
            for disc, extra in zip(self._discs, noise)
        ]
        variants = patient.parameters.variants
        self._changes = [variants.disc_change(disc.name) for disc in self._discs]
        for k, change in enumerate(self._changes):
            if change.grade is not None:
                known = (0.03, 0.2, 0.42, 0.72, 1.0)
                self.degeneration[k] = float(np.interp(change.grade, (1, 2, 3, 4, 5), known))
        if variants.transitional == "sacralised":
            self.degeneration[-1] = max(self.degeneration[-1], 0.55)

    def paint(self, canvas: Canvas) -> None:
        """Paint discs and ligaments around the bone already in `canvas.bone`."""
        for k in range(len(self._discs)):
            index, u, w = self.space(canvas, k)
            if index.size:
                self._paint_disc(canvas, index, k, u, w)

    def space(self, canvas: Canvas, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points outside bone near a disc, as indices, and their local (u, w)."""
        disc = self._discs[k]
        index = canvas.within((-34, 34), (disc.y - 30, disc.y + 30), (disc.z - 22, disc.z + 22))
        if not index.size:
            return index, canvas.y[index], canvas.z[index]
        u, w = disc.to_local(canvas.y[index], canvas.z[index])
        reach = disc.height * 0.5 + 4.5 + disc.extra
        keep = (_bone(canvas, index) > 0) & (np.abs(w) < reach)
        return index[keep], u[keep], w[keep]

    def edge(
        self, canvas: Canvas, index: np.ndarray, k: int, u: np.ndarray, w: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Distance to the free edge of a disc, herniation aside, and (x, u) as parts of the disc.

        In a slip the middle of the disc follows the end plates.
        """
        disc, x = self._discs[k], canvas.x[index]
        bulge = -0.3 + 1.3 * self.degeneration[k] + self._changes[k].bulge_mm
        if disc.slip:
            u = u + np.float32(disc.slip) * np.clip(w / disc.height, -0.5, 0.5)
        dent = np.exp(-((x * np.float32(1 / 9.5)) ** 2)) * np.maximum(u, 0) / (disc.depth / 2)
        shaped = u * (1 + 0.05 * dent)
        half_x = disc.width / 2 + bulge
        half_u = disc.depth / 2 + 0.5 * bulge - 0.5 * (u < 0)
        radial, _ = superellipse(x, shaped, half_x, half_u, 1.25)
        # The free edge is convex between the rims.
        radial = radial + 0.4 * canvas.rough[0, index] + 0.05 * w * w * (3.0 / disc.height)
        return radial, (x / half_x, (u - 0.8) / half_u)

    def _paint_disc(
        self, canvas: Canvas, index: np.ndarray, k: int, u: np.ndarray, w: np.ndarray
    ) -> None:
        x, bone = canvas.x[index], _bone(canvas, index)
        rough = canvas.rough[:, index]
        degeneration = self.degeneration[k]
        radial, (part_x, part_u) = self.edge(canvas, index, k, u, w)
        inside = radial < 0
        fine = canvas.patient.texture_noise(x, canvas.y[index], canvas.z[index], (7.0, 5.0, 2.2))

        core = np.sqrt(part_x**2 + part_u**2)
        plate = np.clip(bone * 0.55, 0, 1)
        hydration = np.clip((0.88 - core) * 2.6, 0, 1) * (0.45 + 0.55 * plate)
        cleft = np.exp(-(((w - 0.35 * rough[2]) / 0.8) ** 2)) * np.clip((0.62 - core) * 4, 0, 1)
        hydration = (
            hydration * (1 - (0.16 + 0.15 * degeneration) * cleft) * (1 - 0.9 * degeneration)
        )
        hydration = hydration + 0.035 * fine[0] + 0.18 * canvas.grain(index)
        canvas.paint(index, inside, Label.ANNULUS, 0.95 + 0.08 * fine[1])
        for threshold, label in (
            (0.20, Label.DISC_DESICCATED),
            (0.42, Label.NUCLEUS_INTERMEDIATE),
            (0.62, Label.NUCLEUS),
        ):
            canvas.paint(index, inside & (hydration > threshold), label, 0.97 + 0.05 * fine[2])
        # Sharpey's fibres and the longitudinal ligaments over the free edge.
        canvas.paint(index, inside & (radial > -1.3 + 1.2 * canvas.grain(index)), Label.LIGAMENT)
        canvas.paint(index, (radial >= 0) & (radial < 0.7) & (np.abs(x) < 14), Label.LIGAMENT)
        self._paint_change(canvas, k)

    def _paint_change(self, canvas: Canvas, k: int) -> None:
        """Herniated disc in the canal, and fluid in a torn annulus."""
        disc, change = self._discs[k], self._changes[k]
        if change == DiscChange(disc.name):
            return
        index = canvas.within((-34, 34), (disc.y - 10, disc.y + 45), (disc.z - 40, disc.z + 40))
        if not index.size:
            return
        u, w = disc.to_local(canvas.y[index], canvas.z[index])
        x, bone = canvas.x[index], _bone(canvas, index)
        if change.protrusion_mm > 0:
            herniation = herniation_distance(disc, change, x, u, w) + 0.2 * canvas.rough[1, index]
            free = (bone > 0.3) & (u > 0)
            wet = change.migration_mm != 0
            core = Label.NUCLEUS_INTERMEDIATE if wet else Label.DISC_DESICCATED
            canvas.paint(index, free & (herniation < 0), Label.LIGAMENT)
            canvas.paint(index, free & (herniation < -0.7), core, 0.95)
        if change.fissure:
            torn = (fissure_distance(disc, change, x, u, w) < 0) & (bone > 0.3)
            canvas.paint(index, torn, Label.JOINT_FLUID, 0.75)


def _bone(canvas: Canvas, index: np.ndarray) -> np.ndarray:
    """Distance to the nearest bone, vertebra or sacrum."""
    return np.minimum(canvas.bone[index], canvas.sacrum[index])
