"""Intervertebral discs and the longitudinal ligaments.

Hydration falls smoothly from the nucleus to the outer annulus; it is turned into five tissues,
from a wet nucleus to ligament. Degeneration follows age and is worst at L4/5 and L5/S1 (as in the
Pfirrmann scale, grades 1-5).
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.column import Disc
from scanner.phantom.shapes import superellipse
from scanner.tissues import Label

# Added degeneration per disc, above level (general knowledge: caudal discs go first).
_BURDEN = {
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
            float(np.clip(base + _BURDEN[disc.above] + extra, 0, 1))
            for disc, extra in zip(self._discs, noise)
        ]

    def paint(self, canvas: Canvas) -> None:
        """Paint discs and ligaments around the bone already in `canvas.bone`."""
        for disc, degeneration in zip(self._discs, self.degeneration):
            index = canvas.within((-34, 34), (disc.y - 30, disc.y + 30), (disc.z - 22, disc.z + 22))
            if not index.size:
                continue
            bone = canvas.bone[index]
            u, w = disc.to_local(canvas.y[index], canvas.z[index])
            keep = (bone > 0) & (np.abs(w) < disc.height * 0.5 + 4.5)
            index, u, w, bone = index[keep], u[keep], w[keep], bone[keep]
            if not index.size:
                continue
            self._paint_disc(canvas, index, disc, degeneration, u, w, bone)

    def _paint_disc(
        self,
        canvas: Canvas,
        index: np.ndarray,
        disc: Disc,
        degeneration: float,
        u: np.ndarray,
        w: np.ndarray,
        bone: np.ndarray,
    ) -> None:
        x = canvas.x[index]
        rough = canvas.rough[:, index]
        bulge = -0.3 + 1.3 * degeneration
        dent = np.exp(-((x * np.float32(1 / 9.5)) ** 2)) * np.maximum(u, 0) / (disc.depth / 2)
        shaped = u * (1 + 0.05 * dent)
        half_x = disc.width / 2 + bulge
        half_u = disc.depth / 2 + 0.5 * bulge - 0.5 * (u < 0)
        radial, _ = superellipse(x, shaped, half_x, half_u, 1.25)
        # The free edge is convex between the rims.
        radial = radial + 0.4 * rough[0] + 0.05 * w * w * (3.0 / disc.height)
        inside = radial < 0
        fine = canvas.patient.texture_noise(x, canvas.y[index], canvas.z[index], (7.0, 5.0, 2.2))

        core = np.sqrt((x / half_x) ** 2 + ((u - 0.8) / half_u) ** 2)
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
