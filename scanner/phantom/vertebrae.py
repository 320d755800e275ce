"""The nine vertebrae above the sacrum: bodies, pedicles, laminae, processes and facet joints.

Each vertebra is one signed distance in its local frame. Neighbours write to two different arrays
(even and odd levels), so that facing joint surfaces can be carved to a uniform joint space
afterwards.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.canvas import FAR, Canvas, Patient
from scanner.phantom.column import Level
from scanner.phantom.marrow import paint_marrow
from scanner.phantom.shapes import box, capsule, smooth_max, smooth_min, superellipse
from scanner.tissues import Label

_FACET_SPACE = 1.9
_BODY_CORTEX = 0.75
_ARCH_CORTEX = 1.15
# Pedicle width and height (L5: ijssurgery table 6; others general knowledge).
_PEDICLE = {
    "T8": (6.3, 13.0),
    "T9": (6.5, 13.5),
    "T10": (7.0, 14.5),
    "T11": (8.0, 16.0),
    "T12": (7.8, 15.8),
    "L1": (7.4, 15.2),
    "L2": (8.0, 14.8),
    "L3": (9.6, 14.4),
    "L4": (12.0, 14.4),
    "L5": (15.6, 13.4),
}
# Spinous process: length, half height at the root, half height at the tip, slope (mm down per mm
# back).
_SPINOUS = {
    "T8": (26, 4, 3.5, 1.2),
    "T9": (26, 4, 3.5, 1.1),
    "T10": (26, 4.5, 4, 0.9),
    "T11": (24, 5.5, 5, 0.65),
    "T12": (24, 5.5, 6.5, 0.35),
    "L1": (27, 6, 7.5, 0.26),
    "L2": (29, 6.4, 8, 0.22),
    "L3": (30, 6.4, 8.2, 0.22),
    "L4": (27, 6, 7, 0.24),
    "L5": (19, 6, 5.5, 0.3),
}
# Facet joint below a level, to the sagittal plane (general knowledge: sagittal above, more coronal
# below).
_FACET_ANGLE_DEG = {
    "T8": 60,
    "T9": 60,
    "T10": 55,
    "T11": 40,
    "T12": 25,
    "L1": 27,
    "L2": 32,
    "L3": 38,
    "L4": 46,
    "L5": 52,
}
# Transverse process: length beyond the pedicle.
_TRANSVERSE = {
    "T8": 12,
    "T9": 12,
    "T10": 11,
    "T11": 8,
    "T12": 5,
    "L1": 19,
    "L2": 23,
    "L3": 28,
    "L4": 24,
    "L5": 20,
}


class Vertebrae:
    """All vertebrae of one patient, with small left-right and level-to-level irregularities."""

    def __init__(self, patient: Patient) -> None:
        self._levels = patient.column.levels
        jitter = patient.random.normal(0, 1, (len(self._levels), 8))
        self._jitter = np.clip(jitter, -1.8, 1.8).astype(np.float32)
        # Facet joint below each level: |x|, distance behind the posterior wall, angle to the
        # sagittal plane.
        half_canals = [level.canal_width / 2 for level in self._levels] + [15.5]
        self._facets = [
            (0.5 * (a + b) + 5.2, 15.0, np.radians(_FACET_ANGLE_DEG[level.kind]))
            for a, b, level in zip(half_canals, half_canals[1:], self._levels)
        ]
        self._sacral_base = patient.column.by_name["S1"]

    def paint(self, canvas: Canvas) -> None:
        """Paint bone, marrow and facet joints and fill `canvas.bone`."""
        sides = np.full((2, canvas.x.size), FAR)
        depth_from_endplate = np.full(canvas.x.size, FAR)
        shift = np.zeros(canvas.x.size, np.float32)
        cortex = np.full(canvas.x.size, np.float32(_ARCH_CORTEX))
        vein = np.full(canvas.x.size, FAR)
        for i, level in enumerate(self._levels):
            reach = level.height / 2 + 24
            index = canvas.within(
                (-72, 72), (level.y - 45, level.y + 78), (level.z - reach - 18, level.z + reach)
            )
            if not index.size:
                continue
            x = canvas.x[index]
            u, w = level.to_local(canvas.y[index], canvas.z[index])
            rough = canvas.rough[:, index]
            body, endplate = body_distance(level, x, u, w)
            body += 0.30 * rough[0]
            arch = self._arch_distance(i, level, x, u, w) + 0.4 * rough[1]
            whole = smooth_min(body, arch, 3.0)
            sides[i % 2, index] = np.minimum(sides[i % 2, index], whole)
            own = np.flatnonzero(whole < 1)
            points = index[own]
            depth_from_endplate[points] = -endplate[own]
            in_body = body[own] < arch[own]
            cortex[points] = np.where(in_body, _BODY_CORTEX, _ARCH_CORTEX)
            shift[points] = np.where(in_body, 0.012 * (i - 6), 0.12)
            vein[points] = _basivertebral(level, x[own], u[own], w[own], self._jitter[i])
        self._add_sacral_facets(canvas, sides[len(self._levels) % 2])
        even, odd = sides
        carved = (odd - even + _FACET_SPACE) * 0.5
        joint = np.abs(carved - _FACET_SPACE * 0.5)
        overlap = np.flatnonzero((even < 3) & (odd < 3))
        both = np.maximum(even[overlap], odd[overlap])
        even[overlap] = np.maximum(even[overlap], carved[overlap])
        odd[overlap] = np.maximum(odd[overlap], _FACET_SPACE - carved[overlap])
        bone = np.minimum(even, odd)
        canvas.bone = bone
        in_joint = (both < 1.5) & (bone[overlap] > 0)
        canvas.paint(overlap, in_joint, Label.CARTILAGE)
        canvas.paint(overlap, in_joint & (joint[overlap] < 0.2), Label.JOINT_FLUID, 0.55)

        index = np.flatnonzero(bone < 0)
        distance = bone[index]
        # Cortex varies in thickness and passes gradually into spongy bone.
        thickness = cortex[index] * (1 + 0.28 * canvas.rough[3, index]) + 0.5 * canvas.grain(index)
        is_cortex = (distance > -thickness) & (canvas.sacrum[index] > -1.2)
        canvas.paint(index, is_cortex, Label.CORTICAL_BONE)
        _paint_inside(
            canvas, index, ~is_cortex, depth_from_endplate[index], vein[index], shift[index]
        )

    def _add_sacral_facets(self, canvas: Canvas, side: np.ndarray) -> None:
        """Superior articular processes of S1, which rise from the sacrum."""
        base = self._sacral_base
        index = canvas.within((-40, 40), (base.y - 10, base.y + 60), (base.z - 20, base.z + 50))
        if not index.size:
            return
        u, w = base.to_local(canvas.y[index], canvas.z[index])
        process = self._articular_distance(8, base, np.abs(canvas.x[index]), u, w, superior=True)
        side[index] = np.minimum(side[index], process + 0.4 * canvas.rough[1, index])

    def _arch_distance(
        self, i: int, level: Level, x: np.ndarray, u: np.ndarray, w: np.ndarray
    ) -> np.ndarray:
        """Signed distance to the posterior elements, in the local frame."""
        jitter = self._jitter[i]
        wall = level.depth / 2
        canal, half_canal = level.canal_ap, level.canal_width / 2
        pedicle, pedicle_height = _PEDICLE[level.kind]
        ax = np.abs(x)
        # Left and right never match: widen one side by a slight shear.
        ax = ax + 0.5 * jitter[0] * np.sign(x) * np.clip(ax / 20, 0, 1)
        top = level.height / 2
        thoracic = level.kind.startswith("T")

        middle = half_canal + pedicle / 2
        ring, _ = superellipse(ax - middle, w - top * 0.30, pedicle / 2, pedicle_height / 2, 1.6)
        shaft = smooth_max(ring, np.maximum(wall - 5 - u, u - (wall + canal * 0.62)), 2.0)

        # Lamina: a sloping plate from the pars to the midline, its lower edge further back.
        lean = u + 0.16 * (w + 4)
        back = wall + canal
        start, end = (half_canal + 3.5, wall + canal * 0.42), (0.0, back + 4.2)
        length = np.hypot(start[0] - end[0], start[1] - end[1])
        along_x, along_u = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        px, pu = ax - start[0], lean - start[1]
        along = px * along_x + pu * along_u - length / 2
        across = -px * along_u + pu * along_x
        lamina = box(
            along, across, w + 4.5 + 0.8 * jitter[1], (length / 2 + 2, 3.1, top * 0.66), 3.0
        )
        arch = smooth_min(shaft, lamina, 4.0)

        superior = self._articular_distance(i - 1, level, ax, u, w, superior=True)
        inferior = self._articular_distance(i, level, ax, u, w, superior=False)
        arch = smooth_min(arch, smooth_min(superior, inferior, 3.0), 4.0)

        reach = _TRANSVERSE[level.kind]
        tip_rise = 5.0 if thoracic else 2.0 + jitter[2]
        tip_back = 14.0 if thoracic else 8.0
        root = (half_canal + pedicle * 0.7, wall + 6.0, top * 0.25)
        tip = (half_canal + pedicle + reach, wall + 5.0 + tip_back, top * 0.25 + tip_rise)
        flat_u = 1.45 if not thoracic else 1.0
        transverse = capsule(
            ax,
            u * flat_u,
            w,
            (root[0], root[1] * flat_u, root[2]),
            (tip[0], tip[1] * flat_u, tip[2]),
            5.6,
            4.4,
        )
        arch = smooth_min(arch, transverse, 4.0)
        if any(level.ala):
            arch = smooth_min(arch, _broad_process(level, x, u, w), 5.0)

        spine, root_half, tip_half, slope = _SPINOUS[level.kind]
        spine += 1.5 * jitter[3]
        from_root = u - (back + 3)
        part = np.clip(from_root / spine, 0, 1)
        centre = -5.5 - slope * from_root
        half_height = root_half + (tip_half - root_half) * part
        half_width = 4.0 - 0.6 * part + 1.5 * part * part
        blade = box(
            x - 0.8 * jitter[4] * part,
            from_root - spine / 2,
            w - centre,
            (half_width, spine / 2 + 2, half_height),
            2.8,
        )
        return smooth_min(arch, blade, 5.0)

    def _articular_distance(
        self, joint: int, level: Level, ax: np.ndarray, u: np.ndarray, w: np.ndarray, superior: bool
    ) -> np.ndarray:
        """Distance to one articular process: a flattened rod along the plane of a facet joint.

        The superior process lies antero-lateral, the inferior one postero-medial of the joint.
        """
        across, back, angle = self._facets[max(joint, 0)]
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        px, pu = ax - across, u - (level.depth / 2 + back)
        along, normal = px * sin + pu * cos, pu * sin - px * cos
        flat = np.float32(0.62)
        top = level.height / 2
        if superior:
            return capsule(
                along * flat, normal, w, (-1.0, -6.5, 2.0), (0.0, -5.4, top + 7.5), 6.2, 5.4
            )
        return capsule(along * flat, normal, w, (1.0, 7.0, -5.0), (0.0, 5.4, -top - 8.0), 6.2, 5.6)


def _broad_process(level: Level, x: np.ndarray, u: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Transverse process of a sacralised vertebra: broad, and reaching down to the sacral ala."""
    side = np.where(x > 0, *level.ala)
    root, tip = level.canal_width / 2 + 10, level.canal_width / 2 + 27
    wall, bottom = level.depth / 2, level.height / 2
    flat_u = 0.9
    plate = capsule(
        np.abs(x) * 0.8,
        u * flat_u,
        w * 0.8,
        (root * 0.8, (wall - 2) * flat_u, -2.0),
        (tip * 0.8, (wall + 1) * flat_u, -bottom * 0.8 - 3.0),
        8.0,
        9.5,
    )
    return np.asarray(np.where(side, plate, FAR))


def body_distance(
    level: Level, x: np.ndarray, u: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a vertebral body, and to its nearer end plate, in the local frame."""
    slope = np.float32(np.tan(level.wedge / 2))
    half = level.height / 2
    back = np.maximum(u, 0) / (level.depth / 2)
    dent = np.exp(-((x * np.float32(1 / 9.5)) ** 2))
    # Bodies are kidney-shaped: the posterior wall is hollow towards the canal.
    shaped_u = u * (1 + 0.055 * dent * back)
    radial, r = superellipse(x, shaped_u, level.width / 2, level.depth / 2, 1.25)
    height = w / half
    waist = np.maximum(1 - height * height, 0)
    waist_depth = 2.3 - 1.5 * np.clip(u * (2 / level.depth), -1, 1)
    radial = radial + waist * waist_depth
    hollow = np.maximum(1 - r * r, 0)
    hollow = 1 - (1 - hollow) ** 2
    upper = w - (half - u * slope) + level.concavity_superior * hollow
    lower = -w - (half - u * slope) + level.concavity_inferior * hollow
    for node in level.nodes:
        off2 = (x - np.float32(node.x_mm)) ** 2 + (u - np.float32(node.u_mm)) ** 2
        pressed = np.float32(node.depth_mm) * np.exp(-((off2 / np.float32(node.radius_mm**2)) ** 2))
        if node.superior:
            upper = upper + pressed
        else:
            lower = lower + pressed
    endplate = np.maximum(upper, lower)
    return smooth_max(radial, endplate, 2.2), endplate


def _basivertebral(
    level: Level, x: np.ndarray, u: np.ndarray, w: np.ndarray, jitter: np.ndarray
) -> np.ndarray:
    """Distance to the basivertebral vein: a flat fan entering the middle of the posterior wall."""
    inward = level.depth / 2 - 1.5 - u
    reach = 7.5 + 1.5 * jitter[5]
    # A wedge: 4 mm high at the wall, closing to a line further in.
    half = 0.35 + 1.7 * np.exp(-np.maximum(inward, 0) * 0.30)
    fan = np.sqrt(
        (x / (3.0 + 0.5 * np.maximum(inward, 0))) ** 2 + ((w - 0.8 * jitter[6]) / half) ** 2
    )
    return np.asarray(fan - 1 + np.maximum(inward - reach, 0) * 0.4 + np.maximum(-inward - 3, 0))


def _paint_inside(
    canvas: Canvas,
    index: np.ndarray,
    mask: np.ndarray,
    endplate: np.ndarray,
    vein: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Marrow with fat around the basivertebral vein and, in old age, along the end plates."""
    age = canvas.patient.parameters.age
    near_endplate = np.exp(-np.maximum(endplate, 0) * np.float32(1 / 4.5))
    near_vein = np.exp(-np.maximum(vein, 0) * np.float32(1 / 1.6))
    shift = shift + near_endplate * np.clip((age - 40) * 0.006, -0.06, 0.2) + 0.13 * near_vein
    paint_marrow(canvas, index, mask, shift)
    canvas.paint(index, mask & (vein < 0.35 * canvas.grain(index)), Label.VEIN, 0.85, 0.15)
