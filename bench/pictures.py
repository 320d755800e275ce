"""Images for the benchmarks of networks: phantoms which they never saw, real images if present.

Real images are for evaluation only: magnitudes of volumes in ``../shared/data``, with a smooth
phase added. Noise and coils are simulated.
"""

from pathlib import Path

import numpy as np

from engines.training.images import read_nifti
from scanner.phantom_images import phantom_images

SHARED = Path(__file__).parents[2] / "shared" / "data"
SEED = 770_000


def pictures(count: int, side: int = 320) -> dict[str, np.ndarray]:
    """Return stacks by name, complex64 (image, y, x): one place several times, or neighbours.

    The 99th percentile of each magnitude is 1. The first image is the one to be judged.
    """
    found = {}
    for number in range(count):
        stack = phantom_images(np.random.default_rng((SEED, number)), side)
        found[f"phantom {number + 1}"] = with_phase(np.roll(stack, -number, axis=0))
    axial = SHARED / "spine_cervical_t2s_axial.nii.gz"
    if axial.is_file():
        found["real neck, axial T2*"] = _around_middle(read_nifti(axial).transpose(2, 1, 0))
    sagittal = SHARED / "spine_template_t2.nii.gz"
    if sagittal.is_file():
        found["real mean spine, sagittal T2"] = _around_middle(
            read_nifti(sagittal).transpose(0, 2, 1)
        )
    return found


def _around_middle(volume: np.ndarray) -> np.ndarray:
    middle = len(volume) // 2
    order = [middle, middle + 1, middle - 1, middle + 2, middle - 2]
    return with_phase(volume[order, ::-1])


def with_phase(magnitude: np.ndarray) -> np.ndarray:
    """Return images (image, y, x) scaled to 1, with a smooth phase, complex64."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in magnitude.shape[1:]), indexing="ij")
    phase = 0.7 * y + 0.9 * x * y - 0.6 * x**2 + 0.4
    top = np.percentile(magnitude, 99, axis=(1, 2), keepdims=True)
    return np.asarray(magnitude / top * np.exp(1j * phase), np.complex64)


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return white noise of sigma 1 per real channel, complex64."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
