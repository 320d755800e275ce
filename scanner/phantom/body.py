"""The outline of the torso, skin, subcutaneous fat and the muscular abdominal wall.

Layer thicknesses are those of a supine adult, general knowledge. Everything deeper starts as fat.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import superellipse
from scanner.tissues import Label

# z, dorsal skin y, ventral skin y, half width, dorsal, lateral and ventral fat, depth of the
# dorsal groove.
_OUTLINE = np.array(
    [
        (260, 96, -104, 158, 10, 10, 12, 5),
        (160, 97, -112, 157, 11, 12, 16, 6),
        (110, 94, -122, 156, 12, 15, 20, 7),
        (60, 89, -129, 157, 14, 19, 24, 8),
        (0, 87, -132, 161, 19, 24, 28, 8),
        (-50, 92, -131, 167, 27, 27, 32, 8),
        (-90, 101, -126, 174, 30, 27, 32, 9),
        (-125, 109, -120, 180, 28, 28, 28, 16),
        (-160, 114, -114, 183, 26, 30, 24, 28),
        (-270, 108, -106, 180, 24, 30, 20, 34),
    ],
    np.float32,
)
# How far bone reaches behind the dorsal wall of S1..S5 and Co1.
_SACRAL_CREST = (24.0, 20.0, 16.0, 12.0, 8.0, 5.0)


class Body:
    """Outline and wall of one patient."""

    def __init__(self, patient: Patient) -> None:
        self._grid = np.arange(-280.0, 270.0, 1.0)
        order = np.argsort(_OUTLINE[:, 0])
        rows = [np.interp(self._grid, _OUTLINE[order, 0], _OUTLINE[order, k]) for k in range(1, 8)]
        rows[0] = np.maximum(rows[0], self._behind_spine(patient) + rows[6])
        kernel = np.hanning(41)
        kernel /= kernel.sum()
        smooth = [np.convolve(np.pad(row, 20, "edge"), kernel, "valid") for row in rows]
        self._tables = np.stack(smooth).astype(np.float32)

    def _behind_spine(self, patient: Patient) -> np.ndarray:
        """Least y of the skin: 5 mm behind the processes, the sacral crest and the coccyx."""
        column = patient.column
        tips = [
            level.to_plane(level.depth / 2 + level.canal_ap + 30, -12) for level in column.levels
        ]
        tips += [
            level.to_plane(level.depth / 2 + back, 0)
            for level, back in zip(column.sacrum, _SACRAL_CREST)
        ]
        tips.append((tips[-1][0] - 40, tips[-1][1] - 60))
        y, z = np.array(sorted(tips, key=lambda tip: tip[1])).T
        return np.asarray(np.interp(self._grid, z, y) + 5)

    def paint(self, canvas: Canvas) -> None:
        """Paint outline, skin, fat and wall; set `canvas.depth` and `canvas.fat_depth`."""
        x, y, z = canvas.soft_x, canvas.soft_y, canvas.soft_z
        position = np.clip(z - np.float32(self._grid[0]), 0, self._grid.size - 2).astype(np.int32)
        dorsal, ventral, half_x, fat_dorsal, fat_lateral, fat_ventral, groove = self._tables[
            :, position
        ]
        dorsal = dorsal - groove * np.exp(-((x / (11 + 0.35 * groove)) ** 2))
        middle, half_y = (dorsal + ventral) * 0.5, (dorsal - ventral) * 0.5
        distance, _ = superellipse(x, y - middle, half_x, half_y, 1.05)
        depth = -distance
        v = (y - middle) / half_y
        back = np.clip(v * 1.6, 0, 1)
        front = np.clip(-v * 1.6, 0, 1)
        fat = fat_lateral + (fat_dorsal - fat_lateral) * back + (fat_ventral - fat_lateral) * front
        canvas.depth, canvas.fat_depth = depth, fat
        canvas.paint(np.flatnonzero(depth > 0), slice(None), Label.FAT, 1.0, 0.94)
        index = np.flatnonzero((depth > 0) & (depth < fat + 24))
        depth, fat, back = depth[index], fat[index], back[index]
        texture = canvas.patient.texture_noise(x[index], y[index], z[index], (11.0, 9.0, 16.0))
        canvas.paint(
            index, depth > 0, Label.FAT, 1 + 0.03 * texture[3], 0.95 - 0.02 * np.abs(texture[0])
        )
        # Fibrous septa: thin zero sheets of the noise.
        septum = (np.abs(texture[0]) < 0.07) & (texture[1] > -0.5) & (depth < fat)
        canvas.paint(index, septum, Label.FAT, 0.85, 0.55)
        scarpa = np.abs(depth - 0.55 * fat + 0.6 * texture[1]) < 0.35
        canvas.paint(index, scarpa, Label.FAT, 0.8, 0.45)
        canvas.paint(index, depth < 1.7, Label.SKIN)
        self._paint_wall(canvas, index, depth - fat, back, texture)

    def _paint_wall(
        self,
        canvas: Canvas,
        index: np.ndarray,
        below: np.ndarray,
        back: np.ndarray,
        texture: np.ndarray,
    ) -> None:
        """Three flat muscles at the sides, rectus abdominis in front."""
        x = np.abs(canvas.soft_x[index])
        front = canvas.soft_y[index] < -40
        belly = front & (x < 62)
        rectus = 10.5 * np.sqrt(np.clip(1 - (x / 62) ** 4, 0, 1)) * np.clip((x - 1.0) / 6, 0, 1)
        flat = 19.0 * np.where(front, np.clip((x - 56) / 34, 0, 1) ** 0.7, 1.0)
        thickness = np.where(belly, np.maximum(rectus, flat * (x > 58)), flat)
        thickness = (
            thickness * np.clip(1.15 - 2.2 * np.maximum(back - 0.7, 0), 0, 1) + 0.6 * texture[2]
        )
        wall = (below > 0) & (below < thickness)
        streak = np.clip(0.05 + 0.22 * (texture[1] - 0.8), 0.03, 0.7)
        canvas.paint(index, wall, Label.MUSCLE, 1.0, streak)
        plane = wall & ~belly & ((np.abs(below - 7) < 0.6) | (np.abs(below - 13) < 0.5))
        canvas.paint(index, plane, Label.FAT, 0.95, 0.75)
        canvas.paint(
            index, (np.abs(below) < 0.5) | (wall & (below > thickness - 0.7)), Label.LIGAMENT
        )
