"""Where a lesion lies: the share of the tissue which it takes, at any points of a patient.

Lesions follow the bone they are in. Their radii are measured

- in the sacroiliac joint and the bone along it: cranio-caudal and dorso-ventral in the plane of the
  joint, and into the bone (depth 0 is the joint surface);
- at an end plate: lateral, dorso-ventral, and from the end plate into the body;
- in a vertebra, corner, facet joint or disc: lateral, dorso-ventral and cranio-caudal in the frame
  of the vertebra or disc;
- in the sacrum: lateral, along and behind its posterior wall.
"""

from __future__ import annotations

import numpy as np

from protocols.findings import Side, Structure
from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.column import Disc, Level
from scanner.phantom.lesion import MAKEUP, Lesion, LesionError
from scanner.phantom.pelvis import Pelvis
from scanner.phantom.vertebrae import body_distance

_JOINT = (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL, Structure.SI_JOINT)
JOINT_NORMAL = 0.93
"""Distance from the joint surface over distance along x: its plane is tilted."""


def joint_depth(
    pelvis: Pelvis, structure: Structure, side: Side, x: np.ndarray, s: np.ndarray, d: np.ndarray
) -> np.ndarray:
    """Depth into sacrum or ilium from the joint surface, mm; from its middle for the joint."""
    sign = 1 if side == Side.LEFT else -1
    off = sign * x - pelvis.joint_surface(s, d)
    if structure == Structure.SI_JOINT:
        return np.asarray(off * JOINT_NORMAL)
    into = -off if structure == Structure.SACRAL_SUBCHONDRAL else off
    return np.asarray((into - pelvis.joint_space / 2) * JOINT_NORMAL)


class Shape:
    """One lesion in one patient.

    Parameters
    ----------
    lesion : Lesion
    patient : Patient
    pelvis : Pelvis

    Raises
    ------
    LesionError
        Where the patient has no such level.
    """

    def __init__(self, lesion: Lesion, patient: Patient, pelvis: Pelvis) -> None:
        self.lesion = lesion
        self._patient, self._pelvis = patient, pelvis
        self._frame = _frame(lesion, patient)
        x, y, z = (np.array([v], np.float32) for v in lesion.centre)
        self._upper = True
        if isinstance(self._frame, Level):
            self._upper = bool(self._frame.to_local(y, z)[1][0] > 0)
        s, d = patient.column.spine_coordinates(y, z)
        centre = [np.float32(v[0]) for v in self._coordinates(x, y, z, s, d)]
        if lesion.structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL):
            centre[2] = max(centre[2], np.float32(0))
        elif lesion.structure == Structure.ENDPLATE:
            centre[2] = np.float32(0)
        self._centre = centre
        random = np.random.default_rng(lesion.seed)
        self._offset = random.uniform(0, 200, 3).astype(np.float32)
        self.fat = float(random.uniform(*MAKEUP[lesion.kind].fat))

    def box(self) -> tuple[tuple[float, float], ...]:
        """Body coordinates which the lesion cannot leave, ((low, high) of x, y, z)."""
        reach = 1.6 * max(self.lesion.radii) + 4
        return tuple((v - reach, v + reach) for v in self.lesion.centre)

    def radius(self, canvas: Canvas, index: np.ndarray) -> np.ndarray:
        """Distance from the centre relative to the border: below 1 inside, float32 (point)."""
        x, y, z = canvas.x[index], canvas.y[index], canvas.z[index]
        at = self._coordinates(x, y, z, canvas.s[index], canvas.d[index])
        power = np.float32(MAKEUP[self.lesion.kind].exponent)
        total = np.zeros_like(x)
        for value, centre, radius in zip(at, self._centre, self.lesion.radii):
            total += np.abs((value - centre) / np.float32(radius)) ** power
        r = total ** (1 / power)
        near = np.flatnonzero(r < 2)
        outline = self.noise(canvas, index[near], 1.3 * float(np.median(self.lesion.radii)))
        r[near] *= 1 + 0.15 * outline[0] + 0.08 * canvas.rough[2, index[near]]
        return np.asarray(np.maximum(r, 0))

    def noise(self, canvas: Canvas, index: np.ndarray, wavelength: float) -> np.ndarray:
        """The lesion's own noise, float32 (1, point)."""
        x, y, z = (v[index] + o for v, o in zip((canvas.x, canvas.y, canvas.z), self._offset))
        return self._patient.texture_noise(x, y, z, max(wavelength, 3.0), 1)

    def share(self, canvas: Canvas, index: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Share of the tissue which is replaced, float32 (point): half of the severity at r = 1."""
        soft = np.float32(MAKEUP[self.lesion.kind].softness)
        t = np.clip((1 + soft - r) / (2 * soft), 0, 1)
        return np.asarray(np.float32(self.lesion.severity) * t * t * (3 - 2 * t))

    def depth(self, canvas: Canvas, index: np.ndarray) -> np.ndarray:
        """Third coordinate of the lesion at points: depth where it is measured from a surface."""
        at = (v[index] for v in (canvas.x, canvas.y, canvas.z, canvas.s, canvas.d))
        return self._coordinates(*at)[2]

    def _coordinates(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, s: np.ndarray, d: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        structure = self.lesion.structure
        if structure in _JOINT:
            return s, d, joint_depth(self._pelvis, structure, self.lesion.side, x, s, d)
        if self._frame is None:
            return x, s, d
        u, w = self._frame.to_local(y, z)
        if structure != Structure.ENDPLATE:
            return x, u, w
        assert isinstance(self._frame, Level)
        _, endplate = body_distance(self._frame, x, u, w)
        # The far half of the body lies deeper than its middle: the other end plate is nearer there.
        far = w < 0 if self._upper else w > 0
        return x, u, np.where(far, 0.5 * self._frame.height + np.abs(w), -endplate)


def _frame(lesion: Lesion, patient: Patient) -> Level | Disc | None:
    column = patient.column
    if lesion.structure in (*_JOINT, Structure.SACRUM):
        return None
    if lesion.structure == Structure.DISC:
        for disc in column.discs:
            if f"{disc.above}/{disc.below}" == lesion.level:
                return disc
        raise LesionError(f"no disc {lesion.level!r} in this patient")
    name = str(lesion.level).split("/")[0]
    if name not in column.by_name:
        raise LesionError(f"no level {lesion.level!r} in this patient")
    return column.by_name[name]
