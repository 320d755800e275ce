"""Intervertebral discs and the longitudinal ligaments.

Hydration falls smoothly from the nucleus to the outer annulus; it is turned into five tissues, from a wet nucleus
to ligament. Degeneration follows age and is worst at L4/5 and L5/S1 (as in the Pfirrmann scale, grades 1-5).
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import superellipse
from scanner.tissues import Label

# Added degeneration per disc, above level (general knowledge: caudal discs go first).
_BURDEN = {"T9": 0.0, "T10": 0.0, "T11": 0.02, "T12": 0.0, "L1": -0.03, "L2": 0.02, "L3": 0.05, "L4": 0.22, "L5": 0.3}


class Discs:
    """All discs of one patient."""

    def __init__(self, patient: Patient) -> None:
        self._discs = patient.column.discs
        base = (patient.parameters.age - 22) / 95
        noise = patient.random.normal(0, 0.07, len(self._discs))
        self.degeneration = [
            float(np.clip(base + _BURDEN[disc.above] + extra, 0, 1)) for disc, extra in zip(self._discs, noise)
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

    def _paint_disc(self, canvas, index, disc, degeneration, u, w, bone) -> None:
        x = canvas.x[index]
        rough = canvas.rough[:, index]
        bulge = 0.4 + 1.6 * degeneration
        dent = np.exp(-((x * np.float32(1 / 9.5)) ** 2)) * np.maximum(u, 0) / (disc.depth / 2)
        shaped = u * (1 + 0.05 * dent)
        half_x, half_u = disc.width / 2 + bulge, disc.depth / 2 + bulge * 0.5
        radial, r = superellipse(x, shaped, half_x, half_u, 1.25)
        # The free edge is convex between the rims.
        radial = radial + 0.4 * rough[0] + 0.05 * w * w * (3.0 / disc.height)
        inside = radial < 0
        fine = canvas.patient.texture_noise(x, canvas.y[index], canvas.z[index], (7.0, 5.0, 2.2))

        core = np.sqrt((x / half_x) ** 2 + ((u - 0.8) / half_u) ** 2)
        thickness = np.minimum(bone * 0.42, 1.0)
        hydration = np.clip((0.80 - core) * 3.6, 0, 1) * (0.25 + 0.75 * thickness)
        cleft = np.exp(-(((w - 0.5 * rough[2]) / 0.9) ** 2)) * np.clip((0.6 - core) * 4, 0, 1)
        hydration = hydration * (1 - 0.42 * cleft) * (1 - 0.95 * degeneration) + 0.05 * fine[0]
        canvas.paint(index, inside, Label.ANNULUS, 0.92 + 0.12 * fine[1])
        for threshold, label, spread in (
            (0.14, Label.DISC_DESICCATED, 0.5),
            (0.36, Label.NUCLEUS_INTERMEDIATE, 0.5),
            (0.56, Label.NUCLEUS, 0.4),
        ):
            canvas.paint(index, inside & (hydration > threshold), label, 0.88 + spread * (hydration - threshold))
        rim = inside & ((radial > -3.6 + 0.8 * fine[2]) | (core > 0.9))
        canvas.paint(index, rim, Label.ANNULUS, 0.72 + 0.15 * fine[1])
        canvas.paint(index, inside & (radial > -1.6), Label.LIGAMENT)
        # Longitudinal ligaments run over the free edge.
        canvas.paint(index, (radial >= 0) & (radial < 1.0) & (np.abs(x) < 14), Label.LIGAMENT)
