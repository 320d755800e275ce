"""Values of voxels at positions in patient coordinates: what measures and evidence look up.

Linear between voxel centres, so that a line or a plane may lie anywhere in a volume.
"""

import numpy as np
from scipy import ndimage

from protocols.geometry import Vector, Volume


def indices(volume: Volume, points: Vector) -> Vector:
    """Return the fractional voxel indices (..., 3), z, y, x, of points (..., 3) in LPS mm."""
    steps = (np.asarray(points) - volume.position) @ volume.directions.T / volume.spacing
    return np.asarray((steps + np.array(volume.shape[::-1]) // 2)[..., ::-1])


def within(volume: Volume, points: Vector) -> np.ndarray:
    """Return which points (..., 3) in LPS mm lie between the outer faces of the voxels, bool."""
    at = indices(volume, points)
    return np.asarray(np.all((at >= -0.5) & (at <= np.array(volume.shape) - 0.5), axis=-1))


def values(data: np.ndarray, volume: Volume, points: Vector) -> np.ndarray:
    """Return the values of voxels at points.

    Parameters
    ----------
    data : float32 (z, y, x)
    volume : Volume
    points : float64 (..., 3)
        LPS mm.

    Returns
    -------
    float32 (...)
        Linear between voxel centres. Beyond the outermost centres their value, beyond the faces 0.
    """
    at = np.moveaxis(indices(volume, points), -1, 0)
    found = ndimage.map_coordinates(data, at, np.float32, order=1, mode="nearest")
    return np.where(within(volume, points), found, np.float32(0))
