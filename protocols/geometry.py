"""Where voxels lie: image volumes, and slabs to be scanned, in DICOM patient coordinates (LPS, mm).

The ``position`` of an MRD header is where the transform has its origin: the centre of the voxel at
``n // 2`` along x, y and z. So the corner of an image is ``position`` less half its field of view,
as Siemens and Gadgetron write it to DICOM.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Triple = tuple[float, float, float]


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


@dataclass(frozen=True)
class Slab:
    """Slices that are to be scanned: a stack of 2D slices, or the partitions of one 3D slab.

    Rows and columns are those of the image as it is acquired: x is readout, y is phase encoding.
    The slices follow each other along ``row x column``. Plain values, so that it can be compared,
    hashed and sent.

    Attributes
    ----------
    centre : (3) float
        Half-way between the first and the last slice, at the pixel ``n // 2`` of rows and columns,
        LPS mm.
    row, column : (3) float
        Unit vectors along which x and y grow, LPS.
    field_of_view_mm : (2) float
        Along row and column.
    matrix : (2) int
        Pixels of the image along row and column.
    slices : int
        Slices, or partitions.
    thickness_mm, gap_mm : float
        Of a slice, and between two.
    volumetric : bool
        Whether the slices are the partitions of one 3D slab.

    Raises
    ------
    ValueError
        Directions are no orthogonal unit vectors, or a size is not positive.
    """

    centre: Triple
    row: Triple
    column: Triple
    field_of_view_mm: tuple[float, float]
    matrix: tuple[int, int]
    slices: int
    thickness_mm: float
    gap_mm: float = 0.0
    volumetric: bool = False

    def __post_init__(self) -> None:
        pair = np.array([self.row, self.column])
        if not np.allclose(pair @ pair.T, np.eye(2), atol=1e-4):
            raise ValueError(
                "row and column of a slab: expected orthogonal unit vectors, "
                f"got {self.row} and {self.column}"
            )
        sizes = (*self.field_of_view_mm, *self.matrix, self.slices, self.thickness_mm)
        if not (np.isfinite([*self.centre, *sizes]).all() and min(sizes) > 0 <= self.gap_mm):
            raise ValueError(f"expected a slab of finite, positive size, got {self}")

    @property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors of row, column and normal: MRD's read_dir, phase_dir and slice_dir."""
        return np.array([self.row, self.column, np.cross(self.row, self.column)])

    @property
    def normal(self) -> Vector:
        """Along which the slices follow each other, float64 (3)."""
        return np.asarray(self.directions[2])

    @property
    def extent_mm(self) -> float:
        """From the outer face of the first slice to that of the last."""
        return self.slices * (self.thickness_mm + self.gap_mm) - self.gap_mm

    @property
    def positions(self) -> NDArray[np.float64]:
        """Centre of each slice or partition, float64 (slice, 3), LPS mm: MRD's ``position``."""
        steps = np.arange(self.slices) - (self.slices - 1) / 2
        offsets = steps * (self.thickness_mm + self.gap_mm)
        return np.asarray(np.asarray(self.centre) + offsets[:, None] * self.normal)

    @property
    def volume(self) -> Volume:
        """Where the voxels of the whole stack will lie."""
        columns, rows = self.matrix
        width, height = self.field_of_view_mm
        return Volume(
            position=np.asarray(self.positions[self.slices // 2]),
            directions=self.directions,
            shape=(self.slices, rows, columns),
            spacing=np.array([width / columns, height / rows, self.thickness_mm + self.gap_mm]),
        )

    @property
    def image_orientation(self) -> tuple[float, ...]:
        """DICOM's Image Orientation (Patient): row, then column."""
        return (*self.row, *self.column)

    @property
    def image_positions(self) -> NDArray[np.float64]:
        """DICOM's Image Position (Patient), the centre of the first pixel, of each slice."""
        volume = self.volume
        return np.stack([volume.point(z, 0, 0) for z in range(self.slices)])

    def coordinates(self, points: Vector) -> NDArray[np.float64]:
        """Return points (..., 3) in LPS mm along row, column and normal, from the centre in mm."""
        return np.asarray((np.asarray(points) - np.asarray(self.centre)) @ self.directions.T)

    def contains(self, points: Vector) -> NDArray[np.bool_]:
        """Return whether points (..., 3) in LPS mm lie within field of view and outer faces."""
        size = np.array([*self.field_of_view_mm, self.extent_mm])
        return np.asarray(np.all(np.abs(self.coordinates(points)) <= size / 2, axis=-1))

    def place(self, headers: NDArray[Any]) -> None:
        """Write directions and positions into MRD headers.

        Parameters
        ----------
        headers : ACQUISITION_HEADER (N)
            Their ``idx.slice`` says which slice each is of; all are of the one slab where it is
            volumetric. Changed in place.
        """
        headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = self.directions
        if self.volumetric:
            headers["position"] = self.volume.position
        else:
            headers["position"] = self.positions[headers["idx"]["slice"]]


def slab(headers: NDArray[Any], shape: tuple[int, int, int]) -> Slab:
    """Return the slab of which images are.

    Parameters
    ----------
    headers : IMAGE_HEADER (image)
        Of one series, in any order: one for each slice, or the one of a 3D slab.
    shape : tuple of 3 int
        z, y, x of an image.
    """
    axes = directions(headers[0])
    normal = np.cross(axes[0], axes[1])
    partitions, rows, columns = shape
    width, height, depth = (float(mm) for mm in headers[0]["field_of_view"])
    thickness = depth / partitions
    positions = np.asarray(headers["position"], np.float64)
    positions = positions[np.argsort(positions @ normal)]
    if partitions > 1:
        slices, gap = partitions, 0.0
        centre = positions[0] + ((partitions - 1) / 2 - partitions // 2) * thickness * normal
    else:
        slices = len(positions)
        reach = float((positions[-1] - positions[0]) @ normal)
        gap = max(0.0, reach / (slices - 1) - thickness) if slices > 1 else 0.0
        centre = (positions[0] + positions[-1]) / 2
    return Slab(
        centre=_triple(centre),
        row=_triple(axes[0]),
        column=_triple(axes[1]),
        field_of_view_mm=(width, height),
        matrix=(columns, rows),
        slices=slices,
        thickness_mm=thickness,
        gap_mm=gap,
        volumetric=partitions > 1,
    )


def _triple(vector: Vector) -> Triple:
    x, y, z = (float(value) for value in vector)
    return x, y, z


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
