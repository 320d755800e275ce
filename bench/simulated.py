"""Simulated multi-coil k-space for benchmarks and tests: ellipses seen by a ring of loops.

Everything here is synthetic. The coils are Biot-Savart loops (`scanner.coils`) on a cylinder around
the object, the phase of the object is smooth, and the noise is white with sigma 1 per real channel,
so that images are in SNR units.
"""

from dataclasses import dataclass

import numpy as np

from gadgets.fft import fftc
from scanner.coils import Loop

_ELLIPSES = (
    # amplitude, half axes y and x, centre y and x, angle in degrees; of a half field of view
    (1.0, 0.86, 0.64, 0.0, 0.0, 0),
    (-0.7, 0.81, 0.59, 0.0, 0.0, 0),
    (0.4, 0.33, 0.11, 0.0, 0.24, -18),
    (-0.2, 0.40, 0.15, 0.0, -0.24, 18),
    (0.5, 0.12, 0.20, -0.40, 0.0, 0),
    (0.5, 0.04, 0.04, 0.10, 0.0, 0),
    (0.6, 0.03, 0.05, 0.60, -0.1, 0),
    (0.6, 0.02, 0.02, 0.60, 0.06, 0),
    (0.3, 0.10, 0.12, 0.42, 0.28, 30),
)


@dataclass(frozen=True)
class MultiCoil:
    """A simulated object, its coils and its fully sampled k-space.

    Attributes
    ----------
    image : complex64 (z, y, x)
        In SNR units: what a unit-norm combination of all coils would see without noise.
    maps : complex64 (coil, z, y, x)
        True sensitivities, unit norm everywhere.
    kspace : complex64 (coil, kz, ky, x)
        Hybrid, fully sampled, with noise.
    """

    image: np.ndarray
    maps: np.ndarray
    kspace: np.ndarray

    def calibration(self, lines: int, partitions: int | None = None) -> np.ndarray:
        """Return the central lines, complex64 (coil, kz, ky, x)."""
        nz, ny = self.kspace.shape[1:3]
        nz_kept = nz if partitions is None else partitions
        z, y = nz // 2 - nz_kept // 2, ny // 2 - lines // 2
        return self.kspace[:, z : z + nz_kept, y : y + lines]


def ellipses(ny: int, nx: int) -> np.ndarray:
    """Return a Shepp-Logan-like phantom, float64 (y, x), at most 1, its edges one pixel soft."""
    y, x = np.meshgrid(
        (np.arange(ny) - ny // 2) * 2 / ny, (np.arange(nx) - nx // 2) * 2 / nx, indexing="ij"
    )
    image = np.zeros((ny, nx))
    for amplitude, half_y, half_x, centre_y, centre_x, angle in _ELLIPSES:
        turn = np.exp(1j * np.deg2rad(angle))
        point = ((x - centre_x) + 1j * (y - centre_y)) * turn
        radius = np.hypot(point.real / half_x, point.imag / half_y)
        image += amplitude * np.clip(
            (1 - radius) * min(half_y, half_x) * min(ny, nx) / 2 + 0.5, 0, 1
        )
    return image


def multicoil(
    coils: int = 12, shape: tuple[int, int, int] = (1, 320, 320), snr: float = 50.0, seed: int = 0
) -> MultiCoil:
    """Simulate an object within a ring of coils.

    Parameters
    ----------
    coils : int
    shape : tuple of int
        z, y, x of the image.
    snr : float
        Of the brightest voxel, per real channel; 0 noise where infinite, amplitude 1 then.
    seed : int
        Of the noise.
    """
    nz, ny, nx = shape
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(
        *((np.arange(n) - n // 2) / n * fov for n, fov in zip(shape, (120.0, 300.0, 300.0))),
        indexing="ij",
    )
    points = np.stack([grid[2], grid[1], grid[0]], -1)
    sensitivities = []
    for coil in range(coils):
        angle = 2 * np.pi * coil / coils
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        centre = 190.0 * direction + [0, 0, 60.0 * (-1) ** coil if nz > 1 else 0.0]
        field = Loop(tuple(centre), tuple(-direction), 900.0 / max(coils, 6)).field(points)
        sensitivities.append((field[..., 0] - 1j * field[..., 1]) * np.exp(1j * rng.uniform(0, 6)))
    maps = np.stack(sensitivities)
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, 0))
    y, x = grid[1] / 150, grid[2] / 150
    phase = np.exp(1j * (0.8 * y + 0.6 * x**2 - 0.5 * x * y))
    slab_profile = np.clip((60 - np.abs(grid[0])) / 20, 0, 1)
    scale = snr if np.isfinite(snr) else 1.0
    image = (scale * ellipses(ny, nx) * slab_profile * phase).astype(np.complex64)
    kspace = fftc((maps * image).astype(np.complex64), (1, 2))
    if np.isfinite(snr):
        noise = rng.standard_normal((*kspace.shape, 2), dtype=np.float32)
        kspace += noise.view(np.complex64)[..., 0]
    return MultiCoil(image, maps.astype(np.complex64), kspace)


def sampling(
    ny: int, nz: int, acceleration: tuple[int, int], calibration: int, caipi: int = 0
) -> np.ndarray:
    """Return a regular sampling mask with integrated calibration lines, bool (kz, ky).

    Parameters
    ----------
    ny, nz : int
    acceleration : tuple of int
        Along ky and kz.
    calibration : int
        Lines along ky (and partitions along kz, as far as there are any) around the centre.
    caipi : int
        Shift along kz from one acquired ky line to the next.
    """
    y, z = np.arange(ny) - ny // 2, (np.arange(nz) - nz // 2)[:, None]
    ry, rz = acceleration
    mask = (y % ry == 0) & ((z - caipi * (y // ry)) % rz == 0)
    half = calibration // 2
    block = (y >= -half) & (y < calibration - half) & (z >= -half) & (z < calibration - half)
    return mask | block
