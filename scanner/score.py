"""How far an image is from the truth: normalised error and structural similarity.

Both compare magnitude images after the scale that fits best, since the units of a reconstruction
are its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def fit_scale(image: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``image`` times the factor that brings it nearest to ``truth`` (least squares)."""
    image = np.abs(image).astype(np.float64)
    power = np.vdot(image, image)
    return image * (np.vdot(image, np.abs(truth)) / power if power else 0.0)


def nrmse(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the root-mean-square error over the root-mean-square of the truth.

    Parameters
    ----------
    image, truth : real or complex, of one shape
        Magnitudes count.
    """
    truth = np.abs(truth).astype(np.float64)
    return float(np.linalg.norm(fit_scale(image, truth) - truth) / np.linalg.norm(truth))


def ssim(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the mean structural similarity of two 2D images, 1 where they are the same.

    Gaussian window of sigma 1.5 over 11 x 11 pixels, K1 = 0.01, K2 = 0.03, the truth's range of
    values as dynamic range; pixels whose window leaves the image do not count.

    Parameters
    ----------
    image, truth : real or complex (y, x)
        Magnitudes count; at least 11 pixels along each axis.

    References
    ----------
    Wang Z et al. Image quality assessment: from error visibility to structural similarity. IEEE
    Trans Image Process 2004;13:600-612.
    """
    y = np.abs(truth).astype(np.float64)
    x = fit_scale(image, y)
    extent = np.ptp(y) or 1.0

    def mean(values: NDArray[Any]) -> NDArray[Any]:
        filtered: NDArray[Any] = gaussian_filter(values, _SIGMA, radius=_RADIUS)
        return filtered

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = _C1 * extent**2, _C2 * extent**2
    similarity = (2 * mx * my + c1) * (2 * vxy + c2)
    similarity /= (mx**2 + my**2 + c1) * (vx + vy + c2)
    return float(similarity[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean())
