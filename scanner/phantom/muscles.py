"""Muscles of the back and flank: erector spinae, multifidus, psoas, quadratus lumborum.

Muscle fat: ES L3-L5 PDFF 12 % below and 19 % above 38 y, psoas 4.5-7 % (PMC7063279). Areas,
general knowledge: psoas 8-15, multifidus 5-8, erector spinae 15-20 cm2 per side.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import superellipse
from scanner.tissues import Label

# Dorsal group at body centres, in (|x|, d): centre x, half width, centre d, half depth.
_DORSAL = {
    "T9": (31, 31, 23, 18),
    "T11": (33, 33, 27, 20),
    "L1": (36, 36, 31, 24),
    "L3": (38, 38, 31, 25),
    "L4": (38, 38, 31, 25),
    "L5": (34, 34, 31, 23),
    "S1": (26, 26, 30, 18),
    "S2": (19, 19, 25, 13),
    "S3": (12, 12, 18, 8),
    "S4": (6, 6, 12, 4),
}
# Psoas at body centres, from the body centre: |x|, dy, half width, half depth.
_PSOAS = {
    "T12": (23, 2, 3, 4),
    "L1": (25, 5, 7, 9),
    "L2": (28, 4, 11, 14),
    "L3": (32, 3, 15, 18),
    "L4": (37, -1, 17, 20),
    "L5": (44, -14, 17, 19),
}


class Muscles:
    """Back and flank muscles of one patient."""

    def __init__(self, patient: Patient) -> None:
        column = patient.column
        self._column = column
        self._s = np.arange(-240.0, 230.0, 1.0)
        at = [column.s_of(n) for n in _DORSAL]
        dorsal = [np.interp(self._s, at, [_DORSAL[n][k] for n in _DORSAL]) for k in range(4)]
        levels = column.levels
        spinous_tip = {
            "T9": 42,
            "T10": 42,
            "T11": 41,
            "T12": 42,
            "L1": 46,
            "L2": 48,
            "L3": 49,
            "L4": 47,
            "L5": 43,
        }
        crest_tip = {"S1": 34, "S2": 26, "S3": 20, "S4": 14}
        tips = [(column.s_of(n) + 9, v) for n, v in spinous_tip.items()]
        tips += [(column.s_of(n), v) for n, v in crest_tip.items()]
        tip = np.interp(self._s, [s for s, _ in tips], [v for _, v in tips])
        canal = np.interp(
            self._s,
            [column.s_of(level.name) for level in levels],
            [level.canal_ap for level in levels],
        )
        self._dorsal = np.stack([*dorsal, tip, canal]).astype(np.float32)
        self._z = np.arange(-280.0, 250.0, 1.0)
        rows: list[tuple[float, ...]] = [
            (column.by_name[n].z, v[0], column.by_name[n].y + v[1], v[2], v[3])
            for n, v in _PSOAS.items()
        ]
        first, last = column.by_name["T12"], column.by_name["S1"]
        rows.append((first.z + 12, 22, first.y + 2, 0.2, 0.2))
        rows += [
            (last.z - 10, 62, -32, 17, 19),
            (last.z - 60, 82, -52, 18, 20),
            (last.z - 170, 92, -62, 16, 18),
        ]
        rows = sorted(rows)
        self._psoas = np.stack(
            [np.interp(self._z, [r[0] for r in rows], [r[k] for r in rows]) for k in range(1, 5)]
        ).astype(np.float32)
        self._age_fat = 0.002 * (patient.parameters.age - 35)

    def paint(self, canvas: Canvas) -> None:
        """Paint all muscles over fat, before bone."""
        self._paint_psoas(canvas)
        self._paint_dorsal(canvas)

    def _paint_dorsal(self, canvas: Canvas) -> None:
        index = canvas.along_spine(86, (-225, self._column.s_of("S4")), (-4, 75))
        if not index.size:
            return
        s = canvas.s[index]
        d = canvas.d[index] + 1.6 * canvas.warp[1, index]
        x = np.abs(canvas.soft_x[index])
        row = np.clip(s - self._s[0], 0, self._s.size - 1).astype(np.int32)
        centre, half_x, middle, half_d, tip, canal = self._dorsal[:, row]
        inside_skin = canvas.labels[index] != Label.AIR
        region, _ = superellipse(x - centre, d - middle - 0.10 * (x - centre), half_x, half_d, 0.75)
        region = region + 0.5 * canvas.rough[0, index]
        near = np.flatnonzero(inside_skin & ((region < 0.6) | (x < 6)))
        index, s, d, x, region = (v[near] for v in (index, s, d, x, region))
        middle, tip, canal = middle[near], tip[near], canal[near]
        fibres = canvas.patient.texture_noise(x - 0.10 * s, d + 0.28 * s, s, (5.4, 4.2, 42.0))
        inside = region < 0
        # More fat medially, deep and caudally, and with age.
        low = np.clip((s + 20) / 110, 0, 1)
        medial = np.clip((30 - x) / 25, 0, 1)
        level = 0.55 - 0.25 * low * medial - 2.0 * self._age_fat
        fat = (
            0.05
            + self._age_fat
            + 0.05 * low
            + np.clip(0.55 * (fibres[0] - 1.5 * level - 0.3), 0, 0.75)
        )
        canvas.paint(index, inside, Label.MUSCLE, 1 + 0.04 * fibres[1], np.clip(fat, 0.03, 0.9))
        border = 17 + 0.34 * (d - 18) + 1.8 * canvas.warp[2, index]
        multifidus_gap = np.abs(x - border) < 0.5 + 1.3 * low + 0.3 * fibres[2]
        canvas.paint(index, inside & multifidus_gap & (s > -70), Label.FAT, 0.95, 0.80)
        column_gap = (
            np.abs(x - 47 - 0.15 * (d - 30) - 1.5 * canvas.warp[0, index]) < 0.7 + 0.25 * fibres[3]
        )
        canvas.paint(index, inside & column_gap, Label.FAT, 0.95, 0.7)
        canvas.paint(index, (np.abs(region) < 0.6) & (d > middle), Label.LIGAMENT)
        # Between and behind the spinous processes.
        between = (x < 3.8 + 0.8 * fibres[1]) & (d > canal + 4) & (d < tip)
        strands = np.zeros((2, index.size), np.float32)
        middle_line = np.flatnonzero(between)
        along, back = s[middle_line], d[middle_line]
        strands[:, middle_line] = canvas.patient.texture_noise(
            x[middle_line], back * 0.8 + along * 0.6, along - back * 0.5, (9.0, 14.0, 3.6), 2
        )
        mixed = np.clip(0.62 + 0.30 * strands[0], 0.1, 0.92)
        canvas.paint(index, between, Label.CONNECTIVE, 1 + 0.1 * strands[1], mixed)
        behind = (x < 3.0) & (d > tip - 0.5) & (d < tip + 2.2) & (s < self._column.s_of("L5") + 4)
        canvas.paint(index, behind, Label.LIGAMENT)

    def _paint_psoas(self, canvas: Canvas) -> None:
        index = canvas.within((-125, 125), (-110, 60), (-265, 110))
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        ax = np.abs(x)
        row = np.clip(z - self._z[0], 0, self._z.size - 1).astype(np.int32)
        centre, middle, half_x, half_y = self._psoas[:, row]
        turned_x, turned_y = (
            (ax - centre) + 0.25 * (y - middle),
            (y - middle) - 0.25 * (ax - centre),
        )
        region, _ = superellipse(turned_x, turned_y, half_x, half_y, 1.3)
        region = region + 0.8 * canvas.rough[1, index]
        # Quadratus lumborum, from the twelfth rib to the iliac crest.
        wall = self._column.by_name["L3"]
        quadratus, _ = superellipse(
            ax - (66 - 0.10 * (z + 50)), y - (wall.y + 22) - 0.08 * np.abs(z + 10), 19, 9.0, 1.2
        )
        quadratus = quadratus + 0.7 * canvas.rough[2, index]
        muscle = (region < 0) | ((quadratus < 0) & (z < 62) & (z > -66))
        index, ax, y, z = (v[muscle] for v in (index, ax, y, z))
        fibres = canvas.patient.texture_noise(ax, y, z + 0.5 * ax, (7.0, 7.0, 50.0), 2)
        fat = np.clip(0.045 + 0.35 * (fibres[0] - 1.55), 0.03, 0.7)
        canvas.paint(index, slice(None), Label.MUSCLE, 1 + 0.03 * fibres[1], fat)
