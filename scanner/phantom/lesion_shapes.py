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

_SUBCHONDRAL = (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL)
_JOINT = (*_SUBCHONDRAL, Structure.SI_JOINT)
_JOINT_NORMAL = 0.93  # distance from the joint surface over distance along x: its plane is tilted
_SNAP_MM = 4.0
_NOWHERE = np.float32(1e3)


def joint_depth(
    pelvis: Pelvis, structure: Structure, side: Side, canvas: Canvas, index: np.ndarray
) -> np.ndarray:
    """Depth into sacrum or ilium from the joint surface, mm; from its middle for the joint."""
    x = canvas.x[index]
    off, gap, _ = pelvis.joint(
        x, canvas.s[index], canvas.d[index], canvas.warp[:, index], canvas.rough[:, index]
    )
    if structure == Structure.SI_JOINT:
        depth = off
    else:
        depth = (-off if structure == Structure.SACRAL_SUBCHONDRAL else off) - gap / 2
    this_side = x > 0 if side == Side.LEFT else x < 0
    return np.where(this_side, depth * np.float32(_JOINT_NORMAL), _NOWHERE)


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
        canvas = Canvas(patient, *(np.array([v], np.float32) for v in lesion.centre))
        only = np.zeros(1, np.intp)
        self._upper = True
        if isinstance(self._frame, Level):
            self._upper = bool(self._frame.to_local(canvas.y, canvas.z)[1][0] > 0)
        centre = [np.float32(v[0]) for v in self._coordinates(canvas, only)]
        # The surface is uneven: what begins near it, begins on it.
        on_surface = lesion.structure in (*_SUBCHONDRAL, Structure.ENDPLATE)
        if on_surface and centre[2] < _SNAP_MM:
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
        at = self._coordinates(canvas, index)
        power = np.float32(MAKEUP[self.lesion.kind].exponent)
        total = np.zeros(index.size, np.float32)
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
        return self._coordinates(canvas, index)[2]

    def _coordinates(
        self, canvas: Canvas, index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        structure, x = self.lesion.structure, canvas.x[index]
        if structure in _JOINT:
            depth = joint_depth(self._pelvis, structure, self.lesion.side, canvas, index)
            return canvas.s[index], canvas.d[index], depth
        if self._frame is None:
            return x, canvas.s[index], canvas.d[index]
        u, w = self._frame.to_local(canvas.y[index], canvas.z[index])
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
