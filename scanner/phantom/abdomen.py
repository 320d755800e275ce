"""Abdominal contents: great vessels, bowel, kidneys, liver, spleen, lung bases.

They lie at the edge of a spine exam but their signal, motion and gas reach every image of it.
Bowel is a packing of irregular cells (Worley 1996), each with its own content.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import ellipsoid, superellipse
from scanner.tissues import Label

_LOW, _HIGH, _STEP = (-135.0, -125.0, -230.0), (135.0, 64.0, 110.0), 4.0
_CONTENTS = (Label.BOWEL_CONTENT, Label.BOWEL_FLUID, Label.BOWEL_GAS, Label.BOWEL_WALL)


class Abdomen:
    """Abdominal contents of one patient."""

    def __init__(self, patient: Patient) -> None:
        self._column = patient.column
        random = patient.random
        self._build_bowel(random)
        column = patient.column
        self._z = np.arange(-280.0, 270.0, 1.0)
        names = [level.name for level in column.levels]
        fronts = [
            (column.by_name[n].z, column.by_name[n].y - column.by_name[n].depth / 2) for n in names
        ]
        s1 = column.by_name["S1"]
        fronts.append((s1.z, s1.y - 18))
        fronts += [(-110.0, 14.0), (-130.0, 34.0), (-155.0, 46.0), (-280.0, 40.0)]
        fronts = sorted(fronts)
        self._front = np.interp(self._z, [f[0] for f in fronts], [f[1] for f in fronts]).astype(
            np.float32
        )
        self._fork = column.by_name["L4"].z - 6

    def _build_bowel(self, random: np.random.Generator) -> None:
        axes = [np.arange(lo, hi, _STEP) for lo, hi in zip(_LOW, _HIGH)]
        spacing = 27.0
        lattice = np.stack(
            np.meshgrid(*[np.arange(lo, hi, spacing) for lo, hi in zip(_LOW, _HIGH)]), -1
        ).reshape(-1, 3)
        centres = lattice + random.uniform(-0.46, 0.46, lattice.shape) * spacing
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distance, nearest = cKDTree(centres).query(grid.reshape(-1, 3), k=2)
        self._shape = grid.shape[:3]
        self._cells = np.stack([distance[:, 0], distance[:, 1] - distance[:, 0]], axis=-1).astype(
            np.float32
        )
        kind = random.choice(len(_CONTENTS), len(centres), p=(0.40, 0.22, 0.13, 0.25))
        self._kind = kind[nearest[:, 0]].astype(np.uint8)

    def paint(self, canvas: Canvas) -> None:
        """Paint contents over fat, before muscle and bone."""
        self._paint_fat(canvas)
        self._paint_bowel(canvas)
        self._paint_colon(canvas)
        self._paint_rectum(canvas)
        self._paint_organs(canvas)
        self._paint_vessels(canvas)

    def _front_at(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(
            self._front[np.clip(z - self._z[0], 0, self._z.size - 1).astype(np.int32)]
        )

    def _paint_bowel(self, canvas: Canvas) -> None:
        index = canvas.within((_LOW[0], _HIGH[0]), (_LOW[1], _HIGH[1]), (_LOW[2], _HIGH[2]))
        if not index.size:
            return
        index = index[self._free_for_bowel(canvas, index)]
        warp, rough = canvas.warp[:, index], canvas.rough[:, index]
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        points = (
            x + 5 * warp[3] + rough[2],
            y + 5 * warp[0] + rough[3],
            z + 5 * warp[1] + rough[1],
        )
        low, frac = [], []
        for k, p in enumerate(points):
            f = np.clip((p - _LOW[k]) / _STEP, 0, self._shape[k] - 1.01)
            low.append(f.astype(np.int32))
            frac.append((f - low[k]).astype(np.float32))
        strides = (self._shape[1] * self._shape[2], self._shape[2], 1)
        base = low[0] * strides[0] + low[1] * strides[1] + low[2]
        cell = np.zeros((index.size, 2), np.float32)
        for corner in range(8):
            bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
            weight = np.ones(index.size, np.float32)
            for k in range(3):
                weight *= frac[k] if bits[k] else 1 - frac[k]
            cell += (
                self._cells.take(base + sum(b * t for b, t in zip(bits, strides)), axis=0)
                * weight[:, None]
            )
        rounding = [(f > 0.5) * t for f, t in zip(frac, strides)]
        kind = self._kind[base + rounding[0] + rounding[1] + rounding[2]]
        gap = cell[:, 1] - 0.10 * np.maximum(cell[:, 0] - 8, 0) ** 1.5
        texture = canvas.patient.texture_noise(x, y, z, 5.0, 2)
        canvas.paint(index, gap > 1.1, Label.BOWEL_WALL)
        lumen = gap > 3.4 + 0.25 * rough[2]
        for k, label in enumerate(_CONTENTS):
            mixed = (
                np.clip(0.05 + 0.12 * texture[0], 0, 0.5) if label == Label.BOWEL_CONTENT else 0.0
            )
            canvas.paint(index, lumen & (kind == k), label, 0.9 + 0.15 * texture[1], mixed)

    def _free_for_bowel(self, canvas: Canvas, index: np.ndarray) -> np.ndarray:
        """Whether points lie inside the wall and in front of the retroperitoneum."""
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        pelvic = np.clip((z + 100) / 25, 0, 1)
        lateral = np.clip((np.abs(x) - 50) / 30, 0, 1)
        bound = self._front_at(z) - 14 + 22 * lateral - 20 * pelvic * np.exp(-((x / 38) ** 2))
        free = (canvas.depth[index] - canvas.fat_depth[index] > 16) & (y < bound)
        free &= z + 10 * canvas.warp[0, index] < 82 + 0.12 * np.abs(x)
        return np.asarray(
            free & (y + 12 * canvas.warp[2, index] < np.where(z < -95, 60, bound + 6))
        )

    def _paint_fat(self, canvas: Canvas) -> None:
        """Visceral fat with fasciae and small vessels (where two noise fields are both zero)."""
        index = np.flatnonzero(canvas.depth - canvas.fat_depth > 8)
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        texture = canvas.patient.texture_noise(x, y, z, 26.0)
        canvas.fat[index] = np.clip(0.90 - 0.03 * np.abs(texture[3]), 0, 1)
        canvas.density[index] = 0.97 + 0.04 * canvas.rough[3, index]
        tube = texture[0] ** 2 + texture[1] ** 2
        canvas.paint(index, tube < 0.016, Label.BOWEL_WALL)
        canvas.paint(index, tube < 0.008, Label.VENA_CAVA)
        fascia = (np.abs(texture[2] - 0.3) < 0.03) & (texture[0] > 0)
        canvas.paint(index, fascia, Label.FAT, 0.9, 0.72)

    def _paint_colon(self, canvas: Canvas) -> None:
        """Ascending and descending colon, with haustra, beside the psoas."""
        index = canvas.within((-140, 140), (-75, 50), (-120, 75))
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        haustra = 2.2 * np.cos(z * 0.19 + 1.5 * canvas.warp[2, index]) ** 2
        radius = np.where(x < 0, np.float32(23), np.float32(16)) - haustra
        tube, _ = superellipse(
            np.abs(x) - 103 - 3 * canvas.warp[3, index], y + 14, radius, radius * 0.95, 1.6
        )
        tube = tube + 0.6 * canvas.rough[1, index]
        near = np.flatnonzero(tube < 0)
        index, tube, x, y, z = (v[near] for v in (index, tube, x, y, z))
        texture = canvas.patient.texture_noise(x, y, z, 6.0, 2)
        canvas.paint(index, tube < 0, Label.BOWEL_WALL)
        canvas.paint(
            index,
            tube < -2.2,
            Label.BOWEL_CONTENT,
            0.85 + 0.15 * texture[0],
            np.clip(0.12 + 0.15 * texture[1], 0, 0.5),
        )
        gas = (tube < -2.2) & (y < -22 + 2 * canvas.warp[0, index])
        canvas.paint(index, gas, Label.BOWEL_GAS)

    def _paint_rectum(self, canvas: Canvas) -> None:
        """Rectum in front of the sacrum, and the bladder."""
        s2 = self._column.s_of("S2")
        index = canvas.along_spine(45, (s2 - 6, s2 + 110), (-150, 0))
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        s = canvas.s[index]
        texture = canvas.rough[:, index]
        away = canvas.d[index] + 36 + 1.5 * canvas.warp[0, index] - 5 * np.cos(s * 0.09)
        # Rounded where it bends forward into the sigmoid.
        start = np.sqrt(np.clip((s - s2 + 4 + 4 * canvas.warp[1, index]) / 16, 0, 1))
        radius = (13 + 2.5 * np.cos(s * 0.16 + 2)) * start + 0.1
        tube, _ = superellipse(x - 6 * np.sin(s * 0.06), away, radius * 1.15, radius * 0.8, 1.8)
        tube = tube + 0.7 * canvas.rough[2, index]
        canvas.paint(index, tube < 0, Label.BOWEL_WALL)
        canvas.paint(index, tube < -3.2, Label.BOWEL_CONTENT, 0.85 + 0.12 * texture[0], 0.1)
        canvas.paint(index, (tube < -3.2) & (away < -3 + texture[1]), Label.BOWEL_GAS)
        bladder = ellipsoid(x, y + 42, z + 182, (40, 32, 30)) + 2 * canvas.warp[1, index]
        canvas.paint(index, bladder < 0, Label.BOWEL_WALL)
        canvas.paint(index, bladder < -3.5, Label.BOWEL_FLUID)

    def _paint_organs(self, canvas: Canvas) -> None:
        index = canvas.within((-160, 160), (-125, 90), (-60, 300))
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        warp, rough = canvas.warp[:, index], canvas.rough[:, index]
        inside = canvas.depth[index] - canvas.fat_depth[index] > 17
        texture = rough
        liver = ellipsoid(x + 78, y + 28, z - 118, (88, 92, 98)) + 4 * warp[0]
        canvas.paint(index, inside & (liver < 0), Label.LIVER, 1 + 0.03 * texture[0], 0.05)
        vessel = inside & (liver < -6) & (rough[3] > 1.35)
        canvas.paint(index, vessel, Label.VENA_CAVA)
        spleen = ellipsoid(x - 112, y - 18, z - 128, (34, 50, 52)) + 3 * warp[1]
        canvas.paint(index, inside & (spleen < 0), Label.SPLEEN, 1 + 0.03 * texture[0])
        stomach = ellipsoid(x - 62, y + 46, z - 128, (46, 46, 52)) + 5 * warp[2]
        canvas.paint(index, inside & (stomach < 0), Label.BOWEL_WALL)
        canvas.paint(index, inside & (stomach < -4), Label.BOWEL_FLUID, 0.8 + 0.1 * texture[1])
        canvas.paint(index, inside & (stomach < -4) & (y < -66 + 3 * warp[1]), Label.BOWEL_GAS)
        for side, height in ((1, 58.0), (-1, 46.0)):
            px, py, pz = x * side - 60, y - 8, z - height
            px, pz = px + 0.22 * pz, pz - 0.22 * px
            py = py + 0.15 * pz
            kidney = ellipsoid(px, py, pz, (27, 25, 54)) + 1.5 * warp[0]
            hilum = ellipsoid(px + 22, py + 6, pz, (17, 14, 26)) + 1.5 * warp[1]
            canvas.paint(index, kidney < 0, Label.KIDNEY_CORTEX, 1 + 0.03 * texture[0])
            medulla = (kidney < -6) & (rough[0] > -0.35)
            canvas.paint(index, medulla, Label.KIDNEY_MEDULLA)
            canvas.paint(index, (kidney < 0) & (hilum < 3), Label.FAT, 1.0, 0.85)
            canvas.paint(index, (kidney < 0) & (hilum < -4) & (rough[1] > 0.4), Label.BOWEL_FLUID)
        dome = z - (
            152 - 0.0028 * (np.abs(x) - 70) ** 2 - 0.006 * (y + 20) ** 2 + 0.75 * np.maximum(-y, 0)
        )
        recess = z - (118 + 0.9 * np.maximum(58 - y, 0))
        lung = np.maximum(-np.minimum(dome, recess), 0)
        air = (
            inside
            & ((dome > 0) | (recess > 0))
            & (np.abs(x) > 26 - 0.1 * y)
            & (lung <= 0)
            & (y < 72)
        )
        canvas.paint(index, air, Label.LUNG, 1 + 0.3 * np.maximum(texture[1], 0))

    def _paint_vessels(self, canvas: Canvas) -> None:
        index = canvas.within((-75, 75), (-75, 50), (-200, 300))
        if not index.size:
            return
        x, y, z = (v[index] for v in (canvas.soft_x, canvas.soft_y, canvas.soft_z))
        front = self._front_at(z)
        below = np.maximum(self._fork - z, 0)
        # Aorta on the patient's left, vena cava on the right; both fork, the veins a little lower
        # and behind.
        for label in (Label.AORTA, Label.VENA_CAVA):
            artery = label == Label.AORTA
            radius_y = 9.3 if artery else 8.2
            radius_x = 9.6 if artery else 11.5
            fork = below if artery else np.maximum(below - 9, 0)
            centre = 9.0 if artery else -17.0
            middle = (
                front - (12.5 if artery else 11.0) - (0 if artery else 0.10 * np.maximum(z - 40, 0))
            )
            for branch in (-1, 1):
                spread = centre * np.exp(-fork / 25) + branch * (0.62 * fork) * (1 + 0.002 * fork)
                thin = 1 - 0.40 * np.clip(fork / 10, 0, 1)
                tube, _ = superellipse(
                    x - spread,
                    y - middle + (2 if artery else -3) * np.clip(fork / 10, 0, 1),
                    radius_x * thin,
                    radius_y * thin,
                    2.0,
                )
                canvas.paint(index, tube < 0.9, Label.LIGAMENT if artery else Label.BOWEL_WALL, 0.9)
                canvas.paint(index, tube < 0, label)
        crus, _ = superellipse(np.abs(x) - 9, y - front + 4.5, 9, 4.2, 1.5)
        crus_free = (
            (crus < 0) & (z > self._column.by_name["L2"].z) & (canvas.labels[index] == Label.FAT)
        )
        canvas.paint(index, crus_free, Label.MUSCLE, 1.0, 0.03)
