"""What the unrolled network starts from, for a synthetic scan: SENSE and its noise map."""

import numpy as np
import scipy.fft

from engines.training.multicoil import Scan
from engines.unrolled import adjoint, consistent


def prepare(one: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return the SENSE image and its noise map, complex64 and float32 (1, y, x).

    Noise by pseudo-replicas (Robson et al., Magn Reson Med 60 (2008) 895).
    """
    weight = 2e-3
    right = adjoint(one.kspace, one.mask, one.maps)
    zero = np.zeros_like(right)
    start = consistent(zero, right, one.mask, one.maps, weight, 1, iterations=12)
    rng = np.random.default_rng(0)
    variance = np.zeros(right.shape, np.float32)
    for _ in range(6):
        noise = rng.standard_normal((*one.kspace.shape, 2), np.float32).view(np.complex64)[..., 0]
        part = adjoint(noise * one.mask[None, :, :, None], one.mask, one.maps)
        part = consistent(zero, part, one.mask, one.maps, weight, 1, iterations=12)
        variance += np.abs(part) ** 2 / 12
    ky, kx = (np.fft.fftfreq(n) for n in right.shape[1:])
    blur = np.exp(-2 * (np.pi * 3) ** 2 * (ky[:, None] ** 2 + kx[None] ** 2))
    smooth = scipy.fft.ifft2(scipy.fft.fft2(variance) * blur).real
    return start, np.sqrt(np.maximum(smooth, 1e-3)).astype(np.float32)
