"""Sampling an object in space for the slices of a geometry, once for all sequences that share it.

The grid is twice as fine as the encoded matrix, so that truncation makes real Gibbs ringing. Depths
through the slice (or inside a fine voxel of a slab) are spread over the four points of every 2 x 2
block: their difference lies at the Nyquist frequency of the fine grid, outside encoded k-space, so
a slice profile costs no more points than a plane.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from scanner.sequence import Geometry

FINE = 2
"""Samples of the object for one encoded sample, along every encoded axis."""
EXCITED_MM = 205.0
"""Half of the length along z that the body coil excites."""
SEARCH_MM = 6.0


class SampledPoints(Protocol):
    """What an object is made of at some points."""

    labels: Any  # uint8, index into the tissue table; 0 is air
    density: Any  # float32, multiplies the tissue's proton density
    fat_fraction: Any  # float32
    # A second tissue at the same points may be there as `lesion`; their signals add up.


class ScanObject(Protocol):
    """Anything that can lie in the scanner: the phantom, or a test object."""

    def sample(self, points: np.ndarray) -> Any: ...

    def b0_ppm(self, points: np.ndarray) -> np.ndarray: ...

    # Some have `inversion_failure(points)` as well: see `scanner.faults`.


class Axis(NamedTuple):
    """Evenly spaced positions in mm, relative to the centre of a geometry."""

    start: float
    step: float
    size: int

    def positions(self) -> np.ndarray:
        return self.start + self.step * np.arange(self.size)


Axes = tuple[Axis, Axis, Axis]
"""Along readout, phase and slice."""


@dataclass(frozen=True)
class SampledSlice:
    """The object under one slice or slab.

    Attributes
    ----------
    axes : (3) Axis
        Along readout, phase and slice; the slice axis of a 2D slice has one position.
    labels : uint8 (sample, z, y, x)
        Where there are lesions, their tissue has samples of its own.
    water, fat : float32 (sample, z, y, x)
        Proton density of each, weighted by excitation and volume in mm^3.
    origin : float64 (3)
        Centre of the slice or slab, LPS mm.
    """

    axes: Axes
    labels: np.ndarray
    water: np.ndarray
    fat: np.ndarray
    origin: np.ndarray


def grid(geometry: Geometry, origin: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the positions of a grid in LPS mm, float64 (z, y, x, 3)."""
    x, y, z = (axis.positions() for axis in axes)
    return np.asarray(
        origin
        + z[:, None, None, None] * geometry.slice_dir
        + y[:, None, None] * np.asarray(geometry.phase_dir)
        + x[:, None] * np.asarray(geometry.read_dir)
    )


def _excitation(points: np.ndarray) -> np.ndarray:
    """Return what the body coil excites at points (..., 3), 0 to 1."""
    return np.asarray(1 / (1 + np.exp((np.abs(points[..., 2]) - EXCITED_MM) / 5.0)))


def _slice_profile(fraction: np.ndarray) -> np.ndarray:
    """Return the excitation over the slice; ``fraction`` is 0 at its centre, 0.5 at its edge."""
    return np.asarray(1 / (1 + np.exp((np.abs(fraction) - 0.5) / 0.04)))


def _support(thing: ScanObject, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Find the extent of what is excited, (2) along readout and (2) along phase, in mm."""
    reach = Axis(-360.0, SEARCH_MM, 121)
    half = geometry.slices * (geometry.thickness_mm + geometry.gap_mm) / 2
    count = max(3, round(2 * half / SEARCH_MM))
    axes = (reach, reach, Axis(-half, 2 * half / (count - 1), count))
    points = grid(geometry, np.asarray(geometry.centre), axes)
    labels = np.asarray(thing.sample(points.astype(np.float32)).labels)
    there = (labels > 0) & (_excitation(points) > 0.01)
    if not there.any():
        raise ValueError(f"nothing to scan in the slab around {geometry.centre} mm")
    read, phase = (
        reach.positions()[np.flatnonzero(there.any(axis=other))[[0, -1]]] + (-SEARCH_MM, SEARCH_MM)
        for other in ((0, 1), (0, 2))
    )
    return read, phase


def _depths(samples: int, volumetric: bool, ny: int, nx: int) -> tuple[np.ndarray, np.ndarray]:
    """Return depth in slices, and its weight, of every point, (sample, y, x) each."""
    count = 4 * samples
    depth = (np.arange(count) + 0.5) / count - 0.5
    if volumetric:
        weight = np.ones(count)
    else:
        depth = depth * 1.2  # the profile's tails reach beyond the slice: cross-talk
        weight = _slice_profile(depth)
        weight /= weight.mean()
    block = np.array([[0, 2], [3, 1]]) * samples + np.arange(samples)[:, None, None]
    place = np.tile(block, (1, -(-ny // 2), -(-nx // 2)))[:, :ny, :nx]
    return depth[place], weight[place] / samples


def sample_object(
    thing: ScanObject,
    geometry: Geometry,
    samples: int = 1,
    shift_hz_per_pixel: tuple[float, float] | None = None,
) -> Iterator[SampledSlice]:
    """Sample an object for all slices of a geometry, in order of slice.

    Parameters
    ----------
    thing : ScanObject
    geometry : Geometry
    samples : int
        Of each point of the fine grid; four times as many depths are sampled.
    shift_hz_per_pixel : (2) or None
        Hz of one ppm and bandwidth per pixel, where the object is to appear displaced along the
        readout by its off-resonance.
    """
    read, phase = _support(thing, geometry)
    nx, ny, nz = geometry.encoded_matrix
    fov_x, fov_y, fov_z = geometry.encoded_field_of_view_mm
    dx, dy = fov_x / nx / FINE, fov_y / ny / FINE
    dz = fov_z / nz / FINE if geometry.volumetric else geometry.thickness_mm
    axes = (
        Axis(read[0], dx, int(np.ceil((read[1] - read[0]) / dx))),
        Axis(phase[0], dy, int(np.ceil((phase[1] - phase[0]) / dy))),
        Axis(-fov_z / 2, dz, nz * FINE) if geometry.volumetric else Axis(0.0, dz, 1),
    )
    depths, weights = _depths(samples, geometry.volumetric, axes[1].size, axes[0].size)
    for origin in geometry.slice_centres():
        plane = grid(geometry, origin, axes)
        scale = _excitation(plane) * dx * dy * dz
        if geometry.volumetric:
            # A slab's excitation ends inside its field of view, or it would fold over.
            scale = scale * _slice_profile(axes[2].positions() / (0.92 * fov_z))[:, None, None]
        if shift_hz_per_pixel is not None:
            hz, per_pixel = shift_hz_per_pixel
            shift = thing.b0_ppm(plane.astype(np.float32)) * hz / per_pixel * dx * FINE
            # To first order: what appears here comes from there, compressed by the slope.
            plane = plane + shift[..., None] * np.asarray(geometry.read_dir)
            scale = scale * np.clip(1 + np.gradient(shift, dx, axis=-1), 0, None)
        labels, water, fat = [], [], []
        for sample in range(samples):
            points = plane + (depths[sample] * dz)[..., None] * geometry.slice_dir
            tissue = thing.sample(points.astype(np.float32))
            for part in (tissue, getattr(tissue, "lesion", None)):
                if part is None:
                    continue
                whole = (part.density * (scale * weights[sample])).astype(np.float32)
                labels.append(part.labels)
                fat.append(whole * part.fat_fraction)
                water.append(whole - fat[-1])
        yield SampledSlice(axes, np.stack(labels), np.stack(water), np.stack(fat), origin)
