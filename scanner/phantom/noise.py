"""Seeded smooth 3D noise: the irregularity of every surface and the texture of every tissue.

A small periodic volume of band-limited noise is made once by filtering white noise in k-space; at
run time it is only interpolated. No grid is visible because the noise has no energy near the
lattice's own frequency.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

_SIZE = 64
_LATTICE_PER_WAVELENGTH = 7.0


class Noise:
    """Four independent channels of unit-variance noise with one dominant wavelength.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        white = np.random.default_rng(seed).standard_normal((4, _SIZE, _SIZE, _SIZE), np.float32)
        full, half = np.fft.fftfreq(_SIZE), np.fft.rfftfreq(_SIZE)
        radius = np.sqrt(
            full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
        )
        # A broad band around the wavelength: a single ring would look like leopard skin.
        band = np.exp(-((radius * _LATTICE_PER_WAVELENGTH) ** 2)).astype(np.float32)
        band[0, 0, 0] = 0
        axes = (1, 2, 3)
        smooth = scipy.fft.irfftn(scipy.fft.rfftn(white, axes=axes) * band, axes=axes)
        smooth /= smooth.std(axis=axes, keepdims=True)
        flat = smooth.reshape(4, -1).T
        self._channels = np.ascontiguousarray(flat.T, np.float32)

    def __call__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        z: np.ndarray,
        wavelength: float | tuple[float, float, float],
        channels: int = 4,
    ) -> np.ndarray:
        """Noise at points, trilinear.

        Parameters
        ----------
        x, y, z : ndarray (point), float32
            Position in mm.
        wavelength : float or (float, float, float)
            Typical blob-to-blob distance in mm, per axis where three are given.
        channels : int
            How many of the four channels are wanted.

        Returns
        -------
        ndarray (channel, point), float32
        """
        wave = wavelength if isinstance(wavelength, tuple) else (wavelength,) * 3
        low, frac = [], []
        for coordinate, length in zip((x, y, z), wave):
            scaled = coordinate * np.float32(_LATTICE_PER_WAVELENGTH / length) + np.float32(17.3)
            floor = np.floor(scaled)
            frac.append(scaled - floor)
            low.append(floor.astype(np.intp))
        mask = _SIZE - 1
        ix = ((low[0] & mask) * _SIZE * _SIZE, ((low[0] + 1) & mask) * _SIZE * _SIZE)
        iy = ((low[1] & mask) * _SIZE, ((low[1] + 1) & mask) * _SIZE)
        iz = (low[2] & mask, (low[2] + 1) & mask)
        wx, wy, wz = ((1 - f, f) for f in frac)
        out = np.zeros((channels, x.size), np.float32)
        for a in (0, 1):
            for b in (0, 1):
                base, weight = ix[a] + iy[b], wx[a] * wy[b]
                for c in (0, 1):
                    corner, share = base + iz[c], weight * wz[c]
                    for total, channel in zip(out, self._channels):
                        total += channel.take(corner) * share
        return out
