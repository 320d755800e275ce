"""Sacrum, ilia and sacroiliac joints.

The sacrum lives in spine coordinates (s, d); the joint is one mid-surface |x| = f(s, d) with
sacrum and ilium on either side of it. Inside the L-shaped auricular region the joint space is
narrow and holds cartilage, behind it the space widens and holds the fatty interosseous ligament.

Sources: auricular limbs 44 and 56 mm at 93 degrees, Ebraheim 1993; inter-auricular distance 108.7
mm, PMC5799488; joint space 2.5 mm below 40 y and 1.5 mm above, Demir 2007. Tilts of the joint are
general knowledge.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import FAR, Canvas, Patient
from scanner.phantom.marrow import paint_marrow
from scanner.phantom.pelvic_muscles import paint_pelvic_muscles
from scanner.phantom.shapes import box, smooth_max, smooth_min, superellipse
from scanner.phantom.variants import Sacroiliac
from scanner.tissues import Label

_HALF_INTERAURICULAR = 53.5
_SACRAL_SUBCHONDRAL = 1.3
_ILIAC_SUBCHONDRAL = 1.9
# At the cranial border of S1..S5, Co1 and the tip: body front, ala front, back of the lateral
# mass, canal depth, canal half width, half width of the whole bone.
_ROWS = (
    (-33.0, -21.0, 15.0, 14.5, 15.0, 60.0),
    (-23.5, -17.0, 15.5, 11.0, 12.0, 60.0),
    (-17.0, -12.5, 13.0, 8.0, 9.5, 41.0),
    (-13.0, -10.0, 9.5, 6.0, 7.5, 31.0),
    (-11.0, -8.0, 7.0, 3.5, 5.5, 24.0),
    (-9.0, -7.0, 1.5, 0.5, 3.0, 10.0),
    (-7.0, -6.0, 0.0, 0.2, 2.0, 7.0),
)
# Front of the body at the cranial border of S2 where S1 is lumbarised, and square.
_SQUARE_S2_FRONT = -31.0
# Remnant discs between the fused bodies: half width, half thickness, share of the body's depth. A
# lumbarised S1 has a real disc below it.
_REMNANTS = ((15.0, 1.3, 0.70), (10.0, 0.55, 0.6), (7.0, 0.3, 0.55), (5.0, 0.2, 0.5))
_LUMBARISED_DISC = (21.0, 3.0, 0.93)
# Sacral foramina: distance from the midline and radius.
_FORAMINA = ((22.5, 5.2), (19.5, 4.6), (17.0, 3.9), (15.0, 3.2))


class Pelvis:
    """Sacrum, ilia and sacroiliac joints of one patient."""

    def __init__(self, patient: Patient) -> None:
        column = patient.column
        variants = patient.parameters.variants
        self._column = column
        self._sacroiliac: Sacroiliac = variants.sacroiliac
        self._lumbarised = variants.transitional == "lumbarised"
        self._rows = [list(row) for row in _ROWS]
        self._remnants = list(_REMNANTS)
        if self._lumbarised:
            self._rows[1][0] = _SQUARE_S2_FRONT
            self._remnants[0] = _LUMBARISED_DISC
        self.first = column.by_name["S1"]
        borders = []
        for level in column.sacrum:
            y, z = level.to_plane(level.depth / 2, level.height / 2)
            borders.append(float(column.project(np.array(y), np.array(z))[0]))
        last = column.sacrum[-1]
        borders.append(borders[-1] + last.height)
        self.borders = borders
        self._grid = np.arange(borders[0] - 40, borders[-1] + 40, 1.0)
        self._tables = np.stack(
            [np.interp(self._grid, borders, [row[k] for row in self._rows]) for k in range(6)]
        ).astype(np.float32)
        # Front end of the joint against height: y and |x|.
        along = np.arange(borders[0] - 6, borders[0] + 80, 4.0)
        edge = self._lookup(along)[1] - 2.0
        front = np.array([column.point(s, d) for s, d in zip(along, edge)])
        across = self.joint_surface(along, edge)
        self._z = np.arange(-260.0, 40.0, 1.0)
        order = np.argsort(front[:, 1])
        self._edge = np.stack(
            [np.interp(self._z, front[order, 1], v[order]) for v in (front[:, 0], across)]
        ).astype(np.float32)
        age = patient.parameters.age
        self.joint_space = float(np.interp(age, [30, 40, 60, 95], [2.5, 2.3, 1.7, 1.5]))
        joints = self._sacroiliac
        self._side_space = (
            np.float32(self.joint_space * joints.space_left),
            np.float32(self.joint_space * joints.space_right),
        )
        self._side_shift = patient.random.normal(0, 0.8, 2).astype(np.float32)
        self._side_shift += np.array([joints.shift_left_mm, joints.shift_right_mm], np.float32)

    def _lookup(self, s: np.ndarray) -> np.ndarray:
        position = np.clip(s - np.float32(self._grid[0]), 0, self._grid.size - 1.01)
        low = position.astype(np.int32)
        frac = position - low
        return self._tables[:, low] * (1 - frac) + self._tables[:, low + 1] * frac

    def joint_surface(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """|x| of the middle of the sacroiliac joint, before irregularity."""
        ahead = np.clip(s - self.borders[0], -25, 90)
        joints = self._sacroiliac
        half = _HALF_INTERAURICULAR + joints.half_distance_mm
        caudal = joints.converge_caudal * (ahead - 12)
        return np.asarray(half - caudal - joints.converge_dorsal * (np.clip(d, -45, 45) + 15))

    def joint(
        self,
        x: np.ndarray,
        s: np.ndarray,
        d: np.ndarray,
        warp: np.ndarray,
        rough: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sacroiliac joint at points.

        Returns
        -------
        off : ndarray (point)
            Distance from the joint's mid-surface, mm, outward (ilium) positive.
        gap : ndarray (point)
            Width of the joint space, mm.
        region : ndarray (point)
            Distance to the auricular region in the plane of the joint, negative inside.
        """
        side = np.where(x > 0, self._side_shift[0], self._side_shift[1])
        middle = self.joint_surface(s, d) + 0.9 * warp[3] + 0.45 * rough[3] + side
        region = self.auricular(s, d)
        space = np.where(x > 0, *self._side_space)
        gap = space + 0.30 * np.maximum(region, 0) * np.clip((d + 14) * 0.1, 0, 1)
        return np.abs(x) - middle, np.minimum(gap, 11.0), region

    def auricular(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Distance to the L-shaped auricular region in the plane of the joint (negative inside)."""
        s0 = self.borders[0]
        zero = np.zeros_like(s)
        cranial = box(s - (s0 + 15), d + 1, zero, (10.0, 21.0, 9.0), 7.0)
        lean = d - 0.20 * (s - s0)
        caudal = box(s - (s0 + 33), lean + 12.5, zero, (28.0, 9.5, 9.0), 7.0)
        return np.asarray(np.minimum(cranial, caudal))

    def paint(self, canvas: Canvas) -> None:
        """Paint both bones and the joints."""
        z_top = self.first.z + 62
        index = canvas.within((-150, 150), (-110, 110), (-235, z_top))
        if not index.size:
            return
        x, s, d = canvas.x[index], canvas.s[index], canvas.d[index]
        rough, warp = canvas.rough[:, index], canvas.warp[:, index]
        ax = np.abs(x)
        off, gap, region = self.joint(x, s, d, warp, rough)

        ilium, offset, thickness = self._ilium(canvas, index, ax, off - gap * 0.5, rough)
        sacrum = np.full(index.size, FAR)
        central = (
            (ax < 68)
            & (d > -44)
            & (d < 38)
            & (s > self.borders[0] - 12)
            & (s < self.borders[-1] + 6)
        )
        near = np.flatnonzero(central)
        part = (index[near], ax[near], s[near], d[near])
        sacrum[near], endplate, holes = self._sacrum(
            canvas, *part, (off + gap * 0.5)[near], rough[:, near]
        )

        between = (
            (off > -gap * 0.5 - 1)
            & (off < gap * 0.5 + 1)
            & (s > self.borders[0] - 4)
            & (s < self.borders[0] + 66)
        )
        open_joint = between & (sacrum > 0) & (ilium > 0) & (sacrum + ilium < gap + 1.0)
        articular = open_joint & (region < 0)
        space = index[open_joint]
        at = (canvas.x[space], canvas.y[space], canvas.z[space])
        fine = canvas.patient.texture_noise(*at, (3.5, 3.5, 7.0), 1)[0]
        canvas.paint(
            space, slice(None), Label.CONNECTIVE, 0.8, np.clip(0.55 + 0.25 * fine, 0.1, 0.95)
        )
        canvas.paint(index, articular, Label.CARTILAGE)
        canvas.paint(index, articular & (np.abs(off) < 0.12), Label.JOINT_FLUID, 0.5)

        near_joint = (region < 0) & (off > -6)
        self._paint_sacrum(
            canvas, *part, sacrum[near], endplate, holes, near_joint[near], rough[:, near]
        )
        cortex = 0.9 + np.where((off < 4) & (region < 0), _ILIAC_SUBCHONDRAL - 0.9, 0.25) * (
            1 + 0.4 * rough[2]
        )
        cortex = cortex + 0.5 * canvas.grain(index)
        # The wings end under the skin of any body.
        wing = np.maximum(ilium, 5.0 - canvas.depth[index])
        canvas.paint(index, wing < 0, Label.CORTICAL_BONE)
        paint_marrow(canvas, index, wing < -cortex, 0.10 + 0.05 * warp[0])
        canvas.sacrum[index] = sacrum
        # The joint counts as bone: no muscle grows into it.
        bone = np.where(open_joint, 0, np.minimum(ilium, sacrum))
        paint_pelvic_muscles(canvas, index, bone, offset, thickness)

    def _sacrum(
        self,
        canvas: Canvas,
        index: np.ndarray,
        ax: np.ndarray,
        s: np.ndarray,
        d: np.ndarray,
        joint_side: np.ndarray,
        rough: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed distance to the sacrum, to the end plate of S1, and to the foramina and canal."""
        front, ala_front, back, canal_depth, canal_half, half_width = self._lookup(s)
        u, w = self.first.to_local(canvas.y[index], canvas.z[index])
        slope = np.float32(np.tan(self.first.wedge / 2))
        r2 = np.minimum((ax / 25) ** 2 + (u / 17) ** 2, 1)
        top_body = w - (self.first.height / 2 - u * slope) + 0.5 * (1 - r2)
        # The ala falls away laterally and rises again towards the joint's posterior end.
        lateral = np.clip((ax - 21) / 14, 0, 1)
        top = top_body + 4.5 * lateral * lateral * (3 - 2 * lateral) - 0.12 * np.maximum(ax - 35, 0)
        blend = np.clip((ax - 15) / 12, 0, 1)
        blend = blend * blend * (3 - 2 * blend)
        belly = front + (ax / 23) ** 2 * 2.2
        surface = belly * (1 - blend) + ala_front * blend
        behind = d - (back - 0.05 * np.maximum(ax - 20, 0) + 3.0 * np.exp(-(((ax - 27) / 5) ** 2)))
        depth = smooth_max(surface - d, behind, 3.5) + 0.35 * rough[0]
        width = smooth_max(ax - half_width + 0.6 * rough[1], joint_side, 2.0)
        shell = smooth_max(smooth_max(depth, width, 2.2), top, 3.0)
        shell = np.maximum(shell, s - self.borders[-1])
        # Median crest and roof of the canal.
        middle = 0.5 * (self.borders[0] + self.borders[3])
        ripple = 2.4 * np.cos((s - self.borders[0] - 12) * np.float32(2 * np.pi / 23))
        crest_back = back + 8.5 + ripple - 0.004 * (s - middle) ** 2 - 0.55 * ax
        crest = smooth_max(
            np.maximum(d - crest_back, ax - 11),
            np.maximum(self.borders[0] + 9 - s, s - self.borders[4]),
            3.0,
        )
        crest = np.maximum(crest, -d)
        shell = smooth_min(shell, crest + 0.4 * rough[1], 3.0)
        canal, _ = superellipse(
            ax, d - canal_depth * 0.5 + 0.25 * ax, canal_half, canal_depth * 0.5 + 0.2, 1.8
        )
        canal = np.where(s < self.borders[5], canal, 5.0)
        foramen = np.full_like(ax, 99.0)
        warp = canvas.warp[:, index]
        for k, (offset, radius) in enumerate(_FORAMINA):
            centre = offset - 0.25 * (d + 6)
            tall = (
                radius
                * (1.0 + 0.02 * np.maximum(-d - 8, 0))
                * (1 - 0.45 * np.clip((d - 1) / 5, 0, 1))
            )
            skew = (
                s
                - self.borders[k + 1]
                - 1.5
                + 0.25 * (ax - centre)
                + 1.3 * warp[k % 4]
                + 0.020 * (d + 8) ** 2
            )
            hole = np.sqrt(((ax - centre) * 0.80) ** 2 + skew * skew) - tall
            foramen = np.minimum(foramen, hole)
        holes = np.minimum(foramen + 1.1 * rough[2], canal)
        return smooth_max(shell, -holes, 2.0), top_body, np.maximum(holes, shell - 0.5)

    def remnant_disc(
        self, k: int, x: np.ndarray, s: np.ndarray, d: np.ndarray, rough: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Disc below the k-th sacral body: radius (1 at its edge), distance across, thickness."""
        half, thick, reach = self._remnants[k]
        front = np.interp(self.borders[k + 1], self.borders, [row[0] for row in self._rows])
        centre = front / 2
        lens = np.sqrt((x / half) ** 2 + ((d - centre) / (-front * 0.5 * reach + 1.5)) ** 2)
        across = np.abs(s - self.borders[k + 1] + 0.5 * rough[0])
        return lens, across, thick * (1.12 - lens * lens * 0.5)

    def _paint_sacrum(
        self,
        canvas: Canvas,
        index: np.ndarray,
        ax: np.ndarray,
        s: np.ndarray,
        d: np.ndarray,
        sacrum: np.ndarray,
        endplate: np.ndarray,
        holes: np.ndarray,
        near_joint: np.ndarray,
        rough: np.ndarray,
    ) -> None:
        """Foraminal fat and nerves, cortex, marrow and the remnant discs."""
        inside = sacrum < 0
        cortex = 0.85 + np.where(near_joint, _SACRAL_SUBCHONDRAL - 0.85, 0.0)
        cortex = cortex * (1 + 0.28 * rough[2]) + 0.5 * canvas.grain(index)
        # Fat and nerve in foramina and canal.
        in_hole = (holes < 0) & (s < self.borders[5])
        canvas.paint(index, in_hole, Label.FAT, 1.0, 0.9)
        for k, (offset, radius) in enumerate(_FORAMINA):
            path = offset - 3 - 0.5 * (d + 4)
            along = self.borders[k + 1] + 1.0 - 0.5 * (d + 8)
            nerve = np.sqrt((ax - path) ** 2 + (s - along - 0.6 * rough[0]) ** 2) - radius * 0.46
            canvas.paint(index, in_hole & (nerve < 0) & (d < 6), Label.NERVE, 0.95)
        canvas.paint(index, inside, Label.CORTICAL_BONE)
        ala = np.clip((ax - 18) / 12, 0, 1)
        old_rim = np.exp(-np.maximum(-endplate, 0) / 5) * 0.06
        shift = 0.05 + old_rim - 0.05 * ala + 0.03 * canvas.warp[1, index]
        paint_marrow(canvas, index, sacrum < -cortex, shift)
        # Remnant discs between the fused bodies, with their dark end plates.
        for k in range(len(self._remnants)):
            lens, across, thickness = self.remnant_disc(k, ax, s, d, rough)
            plate = inside & (lens < 1.04) & (across < thickness + 0.55 + 0.25 * rough[1])
            canvas.paint(index, plate, Label.CORTICAL_BONE)
            core = inside & (lens < 0.96) & (across < thickness)
            canvas.paint(
                index, core, Label.NUCLEUS_INTERMEDIATE if k == 0 else Label.DISC_DESICCATED, 0.8
            )

    def _ilium(
        self,
        canvas: Canvas,
        index: np.ndarray,
        ax: np.ndarray,
        joint_side: np.ndarray,
        rough: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed distance to the ilium; offset from its inner face; thickness of its sheet."""
        y, z = canvas.y[index], canvas.z[index]
        first = self.first
        row = np.clip(z - self._z[0], 0, self._z.size - 1).astype(np.int32)
        front_y, wing_start = self._edge[:, row]
        ahead = np.maximum(front_y - y, 0)
        flare = 0.30 * np.clip(z - first.z + 14, 0, 60) * np.clip(ahead / 25, 0, 1)
        wing = ax - wing_start - 1.5 - (1.05 * ahead - 0.0030 * ahead * ahead) - flare
        slope = np.where(y < front_y, 1.05 - 0.006 * ahead, 0.0)
        lean = 1 / np.sqrt(1 + slope * slope + 0.09)
        crest_edge = np.clip((z - first.z + 10) / 55, 0, 1)
        roof = np.clip((first.z - 45 - z) / 45, 0, 1)
        thin = np.clip(ahead / 22, 0, 1) * np.clip((95 - ahead) / 30, 0, 1)
        thickness = 17.0 - 10.0 * thin * (1 - 0.55 * crest_edge) * (1 - roof) + 12 * roof
        # Behind the front edge the medial surface is the joint itself; in front of it, the wing.
        into = np.clip(ahead / 6, 0, 1)
        offset = wing * lean * into + joint_side * (1 - into)
        warp = canvas.warp[:, index]
        thickness = thickness * (1 + 0.10 * warp[1])
        offset = offset + 1.6 * warp[2] * into
        sheet = smooth_max(-offset, offset - thickness, 5.0) + 0.5 * rough[1] * into
        along = ahead * 1.4 + np.minimum(front_y - y, 0)
        bend = np.where(along < 45, np.float32(0.0055), np.float32(0.010))
        top = first.z + 41 - bend * (along - 45) ** 2 + 1.5 * rough[0]
        top = np.maximum(top, first.z - 45)
        notch = first.z - 52 + 0.9 * np.clip(y - front_y - 14, 0, 60)
        bottom = np.where(ahead > 14, -240.0, notch)
        bottom = np.where((ahead > 0) & (ahead <= 14), notch - ahead * 5, bottom)
        body = smooth_max(sheet, smooth_max(z - top, bottom - z, 3.0), 5.0)
        back = y - (front_y + 64 - 0.35 * np.maximum(z - first.z, 0))
        return smooth_max(body, back, 9.0), offset, thickness
