"""Where voxels lie: image volumes in DICOM patient coordinates (LPS, mm).

The ``position`` of an MRD header is where the transform has its origin: the centre of the voxel at
``n // 2`` along x, y and z. So the corner of an image is ``position`` less half its field of view,
as Siemens and Gadgetron write it to DICOM.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """The voxels of an image.

    Attributes
    ----------
    position : float64 (3)
        Centre of the voxel at ``n // 2`` of each axis, LPS mm.
    directions : float64 (3, 3)
        Unit vectors of x (readout), y (phase) and z (slice), LPS.
    shape : tuple of 3 int
        z, y, x.
    spacing : float64 (3)
        Between voxel centres along x, y, z, in mm.
    """

    position: Vector
    directions: NDArray[np.float64]
    shape: tuple[int, int, int]
    spacing: Vector

    def point(self, z: float, y: float, x: float) -> Vector:
        """Return the position of a voxel index, which may be fractional: float64 (3), LPS mm."""
        steps = (np.array([x, y, z]) - self._origin) * self.spacing
        return np.asarray(self.position + steps @ self.directions)

    def index(self, point: Vector) -> tuple[float, float, float]:
        """Return the fractional voxel index (z, y, x) of a point in LPS mm."""
        steps = self.directions @ (np.asarray(point) - self.position) / self.spacing
        x, y, z = (steps + self._origin).tolist()
        return z, y, x

    @property
    def corner(self) -> Vector:
        """Centre of the first voxel, LPS mm: DICOM's Image Position (Patient)."""
        return self.point(0, 0, 0)

    @property
    def _origin(self) -> NDArray[np.int64]:
        return np.array(self.shape[::-1], np.int64) // 2


def directions(header: Any) -> NDArray[np.float64]:
    """Return the unit vectors of readout, phase and slice of an MRD header, float64 (3, 3).

    Directions that are missing (zero or not finite) are made up: the slice direction is the normal
    of the others; without a usable pair of those the axes are those of the patient.

    Parameters
    ----------
    header : ACQUISITION_HEADER or IMAGE_HEADER (scalar)
    """
    read, phase, normal = (
        np.nan_to_num(np.asarray(header[name], np.float64), posinf=0.0, neginf=0.0)
        for name in ("read_dir", "phase_dir", "slice_dir")
    )
    cross = np.cross(read, phase)
    if not np.linalg.norm(cross) > 1e-3 * np.linalg.norm(read) * np.linalg.norm(phase):
        return np.eye(3)
    if not normal.any():
        normal = cross
    rows = np.stack([read, phase, normal])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def volume(header: Any, shape: tuple[int, int, int]) -> Volume:
    """Return where the voxels of an image lie.

    Parameters
    ----------
    header : IMAGE_HEADER (scalar)
    shape : tuple of 3 int
        z, y, x.
    """
    fov = np.asarray(header["field_of_view"], np.float64)
    return Volume(
        position=np.asarray(header["position"], np.float64),
        directions=directions(header),
        shape=shape,
        spacing=fov / np.array(shape[::-1]),
    )
