"""The spinal canal: epidural fat, ligamenta flava, dural sac, cord, cauda equina, nerve roots."""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.shapes import capsule, smooth_max, superellipse
from scanner.phantom.variants_disc import herniation_distance
from scanner.tissues import Label

# Dural sac at body centres: start behind the wall, AP diameter, width (general knowledge; MRI AP
# 13-16 mm canal).
_SAC = {
    "T8": (1.2, 13.0, 15.5),
    "T9": (1.2, 13.0, 15.5),
    "T10": (1.2, 13.0, 15.5),
    "T11": (1.2, 13.2, 16.0),
    "T12": (1.2, 13.6, 17.5),
    "L1": (1.1, 14.0, 18.0),
    "L2": (1.1, 13.2, 18.5),
    "L3": (1.1, 12.7, 18.5),
    "L4": (1.4, 13.0, 19.0),
    "L5": (3.2, 12.0, 18.5),
    "S1": (5.4, 8.6, 13.5),
    "S2": (5.0, 5.0, 8.0),
}
# Root pairs: level whose pedicle they leave under.
_ROOTS = ("L1", "L2", "L3", "L4", "L5", "S1", "S1", "S2", "S2", "S2")


class Canal:
    """Canal contents of one patient."""

    def __init__(self, patient: Patient) -> None:
        column, random = patient.column, patient.random
        self._column = column
        self._grid = np.arange(-240.0, 230.0, 1.0)
        variants = patient.parameters.variants
        sizes = [(level.name, _SAC[level.kind]) for level in column.levels]
        sizes += [(name, _SAC[name]) for name in ("S1", "S2")]
        at = [column.s_of(name) for name, _ in sizes]
        start, depth, width = (
            np.interp(self._grid, at, [size[k] for _, size in sizes]) for k in range(3)
        )
        depth, width = depth * variants.build.canal, width * variants.build.canal
        self.sac_end_s = column.s_of("S2") + float(random.uniform(-8, 6))
        taper = np.sqrt(np.clip((self.sac_end_s - self._grid) / 22, 0, 1))
        depth, width = depth * taper, width * taper
        # Discs indent the sac a little, and between the laminae it may bulge into the dorsal fat.
        between, narrow = np.zeros_like(self._grid), np.zeros_like(self._grid)
        self._herniated = []
        for disc in column.discs:
            s = float(column.project(np.array(disc.y), np.array(disc.z))[0])
            near = np.exp(-(((self._grid - s) / 7.5) ** 2))
            between += near
            change = variants.disc_change(disc.name)
            narrow += change.stenosis * near
            if change.protrusion_mm:
                self._herniated.append((disc, change))
        start = start + 0.7 * between
        depth = depth - 0.9 * between
        # A narrow canal presses on the sac from in front (disc) and from behind (flava, facets).
        lost = depth * np.minimum(narrow, 0.8)
        start, depth = start + 0.35 * lost, depth - lost
        width = width * (1 - 0.4 * np.minimum(narrow, 0.8))
        canal_names = [level.name for level in column.levels]
        canal_s = [column.s_of(n) for n in canal_names]
        canal = np.interp(self._grid, canal_s, [column.by_name[n].canal_ap for n in canal_names])
        half_canal = np.interp(
            self._grid, canal_s, [column.by_name[n].canal_width / 2 for n in canal_names]
        )
        # LF apex: close behind the canal under a lamina, further back between laminae (shifted
        # caudally).
        lamina = np.zeros_like(self._grid)
        for level in column.levels:
            lamina += np.exp(-(((self._grid - column.s_of(level.name) - 5) / 8.5) ** 2))
        apex = canal + 5.6 - 4.4 * np.clip(lamina, 0, 1) - 0.65 * lost
        self.conus_s = column.s_of("L1") + 12 + float(np.clip(random.normal(0, 6), -12, 12))
        self._tables = np.stack(
            [start + depth / 2, depth / 2, width / 2, apex, half_canal, lost]
        ).astype(np.float32)
        self._strands(random)

    def _lookup(self, table: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Rows of a table on the 1-mm arc-length grid, linear."""
        position = np.clip(s - np.float32(self._grid[0]), 0, table.shape[1] - 1.01)
        low = position.astype(np.int32)
        frac = position - low
        return np.asarray(table[:, low] * (1 - frac) + table[:, low + 1] * frac)

    def _strands(self, random: np.random.Generator) -> None:
        """Cauda equina: for every strand its place in the unit disc of the sac, along s."""
        s = self._grid
        rows = []
        for side in (-1, 1):
            for rank, name in enumerate(_ROOTS * 2):
                exit_s = self._column.s_of(name) - 4 + random.uniform(-2, 2)
                # Caudal roots lie medial and dorsal; each swings laterally and ventrally before it
                # leaves.
                inner = side * (0.74 - 0.075 * (rank % len(_ROOTS)) + random.uniform(-0.06, 0.06))
                dorsal = 0.22 + 0.45 * (1 - inner * inner) + random.uniform(-0.42, 0.14)
                leave = np.clip(1 - (exit_s - s) / 34, 0, 1) ** 2
                start = np.clip((s - self.conus_s + 34) / 40, 0, 1)
                wave = 0.05 * np.sin(s / random.uniform(9, 17) + random.uniform(0, 6.3))
                x = (inner * (0.55 + 0.45 * start)) * (1 - leave) + side * 0.96 * leave + wave
                d = (dorsal * start + 0.25 * (1 - start)) * (1 - leave) + 0.1 * leave + wave * 0.8
                d = np.where((s > exit_s) | (s < self.conus_s - 40), 9.0, d)
                rows.append((x, d))
        filum = (0.04 * np.sin(s / 14), np.where(s < self.conus_s - 2, 9.0, 0.74))
        rows.append(filum)
        self._strand = np.array(rows, np.float32)

    def paint_epidural(self, canvas: Canvas) -> None:
        """Fat, veins, ligamenta flava: painted before bone and discs, which cover them."""
        index = canvas.along_spine(24, (-200, self.sac_end_s + 60), (-2, 30))
        if not index.size:
            return
        x, s, d = canvas.x[index], canvas.s[index], canvas.d[index]
        _, _, _, apex, half_canal, lost = self._lookup(self._tables, s)
        rough = canvas.rough[:, index]
        lumbar = s < self._column.s_of("S1") - 12
        behind = d - (apex - 0.62 * np.abs(x)) + 0.4 * rough[1]
        foramen = (np.abs(x) < half_canal + 9 + rough[3]) & (d < 11 + rough[2])
        canvas.paint(index, foramen | (behind < 2), Label.FAT, 1.0, 0.88 + 0.04 * rough[0])
        flavum = lumbar & (behind > 0) & (behind < 3.6 + 0.6 * lost) & (np.abs(x) < half_canal + 2)
        canvas.paint(index, flavum, Label.CONNECTIVE, 0.72, 0.06)
        vein = (rough[2] > 1.0) & (d < 4) & (np.abs(x) > 4)
        canvas.paint(index, vein, Label.VEIN, 0.8)

    def sac(self, canvas: Canvas) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Points near the dural sac that no bone holds: their indices, and arrays along these.

        Returns
        -------
        index : ndarray (point)
        distance : ndarray (point), float32
            To the dura, negative inside.
        centre, half_d, half_x : ndarray (point), float32
            The sac's cross-section in spine coordinates at each point.
        """
        index = canvas.along_spine(14, (-220, self.sac_end_s + 1), (-1, 20))
        centre, half_d, half_x, _, _, _ = self._lookup(self._tables, canvas.s[index])
        free = np.minimum(canvas.bone[index], canvas.sacrum[index]) > 0.2
        keep = (half_d > 0.3) & free
        index, centre, half_d, half_x = (v[keep] for v in (index, centre, half_d, half_x))
        x, d = canvas.x[index], canvas.d[index]
        distance, _ = superellipse(x, d - centre, half_x, half_d, 1.7)
        for disc, change in self._herniated:
            u, w = disc.to_local(canvas.y[index], canvas.z[index])
            herniation = herniation_distance(disc, change, x, u, w)
            distance = smooth_max(distance, 0.5 - herniation, 1.5)
        return index, (distance, centre, half_d, half_x)

    def paint_sac(self, canvas: Canvas) -> None:
        """Dura, CSF, cord and cauda equina: painted last of all."""
        index, (distance, centre, half_d, half_x) = self.sac(canvas)
        if not index.size:
            return
        s, x = canvas.s[index], canvas.x[index]
        v = canvas.d[index] - centre
        canvas.paint(index, distance < 0.3, Label.LIGAMENT)
        inside = distance < 0
        canvas.paint(index, inside, Label.CSF)

        taper = np.clip((self.conus_s - s) / 34, 0, 1) ** 0.7
        swelling = 1 + 0.13 * np.exp(-(((s - self.conus_s + 48) / 26) ** 2))
        cord_x, cord_d = 4.6 * swelling * taper + 0.01, 3.7 * swelling * taper + 0.01
        shift = 0.6 + 1.6 * (1 - taper)
        cord, _ = superellipse(x, v - shift, cord_x, cord_d, 2.0)
        canvas.paint(
            index,
            inside & (cord < 0) & (s < self.conus_s),
            Label.CORD,
            0.97 + 0.04 * canvas.rough[3, index],
        )

        caudal = np.flatnonzero(
            inside & (s > self.conus_s - 40) & ((cord > 0) | (s > self.conus_s))
        )
        if caudal.size:
            chosen = index[caudal]
            sc = s[caudal]
            position = np.clip(sc - np.float32(self._grid[0]), 0, self._grid.size - 1.01)
            low = position.astype(np.int32)
            frac = position - low
            nearest = np.full(caudal.size, np.float32(99))
            xs, vs, hx, hd = x[caudal], v[caudal], half_x[caudal], half_d[caudal]
            for px, pd in self._strand:
                sx = (px[low] * (1 - frac) + px[low + 1] * frac) * hx
                sd = (pd[low] * (1 - frac) + pd[low + 1] * frac) * hd
                nearest = np.minimum(nearest, (xs - sx) ** 2 + (vs - sd) ** 2)
            canvas.paint(chosen, nearest < 0.62**2, Label.NERVE)

    def paint_roots(self, canvas: Canvas) -> None:
        """Root and ganglion in every neural foramen, and the nerve beyond; painted after bone."""
        column = self._column
        for level in column.levels:
            index = canvas.within(
                (-62, 62), (level.y - 30, level.y + 45), (level.z - 52, level.z + 12)
            )
            if not index.size:
                continue
            u, w = level.to_local(canvas.y[index], canvas.z[index])
            half = level.canal_width / 2
            wall, bottom = level.depth / 2, level.height / 2
            ax = np.abs(canvas.x[index])
            w = w + 0.5 * canvas.rough[0, index]
            u = u + 0.6 * canvas.rough[1, index]
            thick = 1.0 if level.kind.startswith("L") else 0.75
            first = capsule(
                ax,
                u,
                w,
                (half - 3, wall + 7, 2),
                (half + 4, wall + 6, -bottom * 0.55),
                1.3,
                2.1 * thick,
            )
            ganglion = capsule(
                ax,
                u,
                w,
                (half + 4, wall + 5.5, -bottom * 0.5),
                (half + 10, wall + 3.5, -bottom * 0.85),
                2.2 * thick,
                2.7 * thick,
            )
            out = capsule(
                ax,
                u,
                w,
                (half + 10, wall + 3.5, -bottom * 0.85),
                (half + 22, wall - 14, -bottom - 26),
                2.1,
                1.8,
            )
            nerve = np.minimum(np.minimum(first, ganglion), out)
            bone = np.minimum(canvas.bone[index], canvas.sacrum[index])
            soft = (bone > 0.6) & (nerve < 0)
            for disc, change in self._herniated:
                at = disc.to_local(canvas.y[index], canvas.z[index])
                soft &= herniation_distance(disc, change, canvas.x[index], *at) > 0.8
            canvas.paint(index, soft, Label.NERVE, 0.95)
