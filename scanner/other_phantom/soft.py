"""Soft tissues of the second phantom: torso, muscles, bowel, vessels, and what is in the canal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanner.other_phantom.column import Column
from scanner.other_phantom.field import Waves
from scanner.tissues import Label

if TYPE_CHECKING:
    from scanner.other_phantom.spine import Sheet


class Torso:
    """Skin, fat, muscles, bowel and great vessels."""

    def __init__(
        self, column: Column, age: float, fatness: float, rng: np.random.Generator
    ) -> None:
        self._column = column
        self._fat = 8 + 26 * fatness
        self._z = np.arange(-320.0, 320.0, 2.0)
        wall = np.stack([part.point(0, 0, 0) for part in (*column.bodies, *column.sacrum)])
        order = np.argsort(wall[:, 2])
        spine_y = np.interp(self._z, wall[order, 2], wall[order, 1])
        kernel = np.hanning(41) / np.hanning(41).sum()
        self._spine_y = np.convolve(np.pad(spine_y, 20, "edge"), kernel, "valid")
        self._streaks = Waves(rng, 9.0, (1, 1, 7))
        self._lumps = Waves(rng, 34.0)
        self._tubes = Waves(rng, 26.0)
        self._fine = Waves(rng, 8.0)
        self._muscle_fat = 0.05 + 0.0022 * max(age - 25, 0)
        self._psoas = rng.normal(1, 0.1)
        self._aorta = rng.uniform(8.5, 11.5)
        self._s1 = column.by_name["S1"].centre

    def paint(self, sheet: Sheet) -> None:
        p, (s, x, d) = sheet.points, sheet.curve.T
        lumps = self._lumps(p)
        middle = np.interp(p[:, 2], self._z, self._spine_y).astype(np.float32)
        low = np.clip(-(p[:, 2] + 40) / 100, 0, 1)
        half_x = 158 + 14 * low + 0.4 * self._fat
        behind, ahead = 78 + 0.8 * self._fat, 128 + 0.8 * self._fat
        half_y = (behind + ahead) / 2
        from_centre = (p[:, 1] - middle - (behind - ahead) / 2) / half_y
        r = (np.abs(p[:, 0] / half_x) ** 2.6 + np.abs(from_centre) ** 2.6) ** (1 / 2.6)
        depth = (1 - r) * half_y * 0.93 + 1.2 * lumps
        groove = 7 * np.exp(-((p[:, 0] / 16) ** 2)) * (from_centre > 0)
        depth = depth - groove
        inside = depth > 0
        texture = self._fine.where(inside, p)
        sheet.paint(inside, Label.FAT, 1 + 0.02 * texture, 0.92 + 0.02 * texture)
        sheet.paint(inside & (depth < 1.8), Label.SKIN)
        fat = self._fat * (0.55 + 0.45 * np.clip(np.abs(from_centre) * 1.2, 0, 1))
        wall = inside & (depth > fat) & (depth < fat + 13) & (d < 30)
        streaks = self._streaks.where(inside & (depth > fat), p)
        lean = np.clip(self._muscle_fat + 0.25 * np.clip(streaks - 0.9, 0, 2), 0.02, 0.9)
        sheet.paint(wall, Label.MUSCLE, 1.0, lean)
        apart = 26 * np.exp(-((x / 40) ** 2)) - 0.10 * np.abs(x) + 3 * lumps
        belly = inside & (depth > fat + 13) & (d < -4 - apart)
        self._paint_belly(sheet, belly, lumps)
        self._paint_muscles(sheet, inside & (depth > fat), lean, lumps)
        self._paint_vessels(sheet, s, x, d)

    def _paint_belly(self, sheet: Sheet, belly: np.ndarray, content: np.ndarray) -> None:
        loops = belly & ((np.abs(sheet.curve[:, 1]) > 24) | (sheet.curve[:, 2] < -62))
        tube = self._tubes.where(loops, sheet.points)
        sheet.paint(loops & (tube > -0.1), Label.BOWEL_WALL)
        inner = loops & (tube > 0.3)
        sheet.paint(inner, Label.BOWEL_CONTENT, 0.9 + 0.1 * content, 0.08)
        sheet.paint(inner & (content > 0.7), Label.BOWEL_FLUID)
        sheet.paint(inner & (content < -0.9), Label.BOWEL_GAS)

    def _paint_muscles(
        self, sheet: Sheet, inside: np.ndarray, lean: np.ndarray, lumps: np.ndarray
    ) -> None:
        s, x, d = sheet.curve.T
        ax = np.abs(x)
        tail = np.clip((s + 20) / 130, 0, 1)
        back = np.hypot((ax - 36 + 14 * tail) / (37 - 20 * tail), (d - 33 + 8 * tail) / 25)
        sheet.paint(inside & (back < 1) & (s < 95) & (d > 2), Label.MUSCLE, 1.0, lean + 0.04 * tail)
        seam = np.abs(ax - 18 - 0.25 * (d - 20)) < 1.0
        sheet.paint(inside & (back < 1) & seam & (s < 60) & (d > 12), Label.FAT, 0.95, 0.8)
        grow = np.clip((s + 195) / 110, 0.05, 1) * self._psoas
        centre = 27 + 16 * np.clip((s + 140) / 140, 0, 1) + 0.45 * np.clip(s, 0, 150)
        front = -16 - 22 * np.clip((s + 60) / 90, 0, 1)
        psoas = np.hypot((ax - centre) / (17 * grow), (d - front) / (20 * grow))
        sheet.paint(inside & (psoas < 1) & (s > -170), Label.MUSCLE, 1.0, 0.5 * lean + 0.01)
        square = np.hypot((ax - 66) / 20, (d + 2) / 9)
        sheet.paint(inside & (square < 1) & (s < -15) & (s > -135), Label.MUSCLE, 1.0, lean)
        z = sheet.points[:, 2] - self._s1[2] + 6 * lumps
        flank = np.hypot((ax - 92) / 50, np.clip(z + 20, 0, None) / 26)
        gluteal = inside & (flank < 1) & (d > -60 + 5 * lumps)
        gluteal &= (ax + 0.9 * d > 62 + 3 * lumps) & (ax > 18 + 0.12 * np.clip(-z, 0, 90))
        sheet.paint(gluteal, Label.MUSCLE, 1.0, lean + 0.03)

    def _paint_vessels(self, sheet: Sheet, s: np.ndarray, x: np.ndarray, d: np.ndarray) -> None:
        fork = self._column.s_of("L4" if "L4" in self._column.by_name else "L3")
        below = np.clip(s - fork, 0, 200)
        for label, side, radius in (
            (Label.AORTA, 7.0, self._aorta),
            (Label.VENA_CAVA, -15.0, self._aorta + 1.5),
        ):
            for branch in (-1, 1):
                off = np.hypot(x - side - branch * 0.7 * below, d + 48 - 0.12 * below)
                thin = radius * (1 - 0.35 * np.clip(below / 12, 0, 1))
                sheet.paint(off < thin + 1, Label.LIGAMENT)
                sheet.paint(off < thin, label)


class Canal:
    """Epidural fat, dural sac, cord, roots."""

    def __init__(self, column: Column, rng: np.random.Generator) -> None:
        parts = (*column.bodies, *column.sacrum[:3])
        self._s = np.array([column.s_of(part.name) for part in parts])
        lumbar = [part.rank for part in parts]
        deep = [part.canal_depth for part in parts]
        wide = [part.canal_half_width for part in parts]
        fill = np.interp(lumbar, [-2, 0, 1, 2, 9], [0.3, 0.55, 0.72, 0.86, 0.88])
        self._deep = np.array(deep) * fill / 2
        self._wide = np.minimum(np.array(wide) * 0.86, 9.8) * np.interp(
            lumbar, [-2, 0, 1, 9], [0.45, 0.75, 1, 1]
        )
        self._middle = self._deep + np.interp(lumbar, [-2, 0, 1, 2, 9], [4, 4, 2.6, 1.3, 1.2])
        self._canal_deep = np.array(deep)
        self._canal_wide = np.array(wide)
        self.end = float(self._s[-2] + rng.uniform(-14, 10))
        self.conus = float(column.s_of("L1") + rng.uniform(-8, 26))
        self._disc_s = [float(column.coordinates(disc.centre[None])[0, 0]) for disc in column.discs]
        self._narrow = rng.uniform(0.0, 0.22, len(self._disc_s)).astype(np.float32)
        self._strands = Waves(rng, 4.2, (1, 1, 30))

    def _at(self, s: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(s, self._s, values), np.float32)

    def _press(self, s: np.ndarray) -> np.ndarray:
        """Share of the sac's depth which discs take."""
        taken = np.zeros_like(s)
        for at, share in zip(self._disc_s, self._narrow):
            taken += share * np.exp(-(((s - at) / 6) ** 2))
        return taken

    def paint_fat(self, sheet: Sheet) -> None:
        """Fat around the sac and in the foramina, ligamenta flava: before the bones."""
        s, x, d = sheet.curve.T
        near = (np.abs(x) < 30) & (d > -3) & (d < 30) & (s < self.end + 60)
        deep, wide = self._at(s, self._canal_deep), self._at(s, self._canal_wide)
        tube = np.hypot(x / (wide + 1.5), (d - deep / 2) / (deep / 2 + 4))
        foramen = (np.abs(x) < wide + 12) & (d < 12) & (d > -1)
        sheet.paint(near & ((tube < 1.1) | foramen), Label.FAT, 1.0, 0.88)
        flavum = near & (tube > 1.0) & (tube < 1.25) & (d > deep * 0.6) & (s < -8)
        sheet.paint(flavum, Label.CONNECTIVE, 0.75, 0.05)

    def sac(self, sheet: Sheet) -> np.ndarray:
        """Normalised radius in the dural sac: below 1 inside."""
        s, x, d = sheet.curve.T
        taper = np.sqrt(np.clip((self.end - s) / 25, 1e-6, 1))
        press = self._press(s)
        deep = self._at(s, self._deep) * taper * (1 - press)
        wide = self._at(s, self._wide) * taper
        middle = self._at(s, self._middle) + self._at(s, self._deep) * press
        r = np.hypot(x / (wide + 0.01), (d - middle) / (deep + 0.01))
        return np.where(s < self.end, r, np.float32(9))

    def paint_sac(self, sheet: Sheet, solid: np.ndarray) -> None:
        """Dura, fluid, cord and roots where nothing `solid` is; sets the structure."""
        s, x, d = sheet.curve.T
        r = self.sac(sheet)
        sheet.paint((r < 1.07) & ~solid, Label.LIGAMENT)
        inside = (r < 1) & ~solid
        sheet.paint(inside, Label.CSF)
        sheet.name(inside, "canal")
        off = d - self._at(s, self._middle)
        thin = np.clip((self.conus - s) / 30, 0, 1) ** 0.6
        cord = np.hypot(x / (4.5 * thin + 0.01), (off - 0.8) / (3.6 * thin + 0.01)) < 1
        sheet.paint(inside & cord, Label.CORD)
        spread = np.clip((s - self.conus + 25) / 60, 0, 1)
        strands = self._strands.where(inside, np.stack([x * 1.6, d * 1.6, s], axis=1))
        dorsal = off > 2.0 - 3.2 * spread
        roots = inside & ~cord & (s > self.conus - 25) & (strands > 0.55 + 0.3 * spread) & dorsal
        sheet.paint(roots & (r < 0.93), Label.NERVE)
