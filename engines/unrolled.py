"""Unrolled reconstruction: data consistency in NumPy, CuPy or PyTorch around a network.

Starts from SENSE, then alternates the network, which is told the noise level of every pixel, with

    argmin |A x - y|^2 + weight |x - z|^2

by a few steps of conjugate gradients: MoDL (Aggarwal et al., IEEE Trans Med Imaging 38 (2019) 394)
with the noise level of plug-and-play methods (Venkatakrishnan et al., GlobalSIP 2013). All of it is
in SNR units, noise sigma 1 per real channel, so that the same few numbers serve all scans; they are
the manifest's ``parameters``. The readout is in image space already, so only ky (and kz) is ever
transformed, and slices of a slab may be any in number. The network sees slices, or of a 3D scan
the planes (z, y) at every position of the readout, in which all of its aliasing lies.

Between `levels` and the image nothing is decided by a value: on a GPU all of it can be one CUDA
graph (`engines.unrolled_torch`).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import array_api_compat
import scipy.fft

from engines.manifest import Manifest

CHUNK_BYTES = 2 << 20
"""Of the coil images that are worked on at once: about a CPU core's second-level cache."""

ITERATIONS = 4
"""Conjugate gradient steps of one data consistency."""

NOTHING_LEFT = 1e-12
"""Squared length, in SNR units, that is not worth a step: its gradient would not be finite."""

BRIGHT_PERCENTILE = 75
"""Where a magnitude is above it there is an object, not air."""

SLICES, READOUT = 0, 2
"""Axis of an image (z, y, x) which the network's planes are stacked along."""


@dataclass(frozen=True)
class Schedule:
    """Steps of a reconstruction.

    Attributes
    ----------
    sigma : tuple of float
        For each step, the noise level that the network is told, over that of SENSE.
    weight : tuple of float
        For each step but the last, the weight of the network's image, times the variance of the
        noise of SENSE in the object.
    """

    sigma: tuple[float, ...]
    weight: tuple[float, ...]

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> "Schedule":
        """Return the schedule of a manifest's ``parameters``.

        Raises
        ------
        ValueError
            There is none.
        """
        try:
            sigma, weight = (tuple(map(float, parameters[key])) for key in ("sigma", "weight"))
        except KeyError as error:
            raise ValueError(f"expected {error} in the manifest's parameters") from None
        if len(weight) != len(sigma) - 1:
            raise ValueError("expected one weight for every noise level but the last")
        return cls(sigma, weight)


def unrolled(
    kspace: Any,
    mask: Any,
    maps: Any,
    start: Any,
    noise_map: Any,
    network: Callable[[Any], Any],
    schedule: Schedule,
    *,
    multiple_of: int = 8,
    threads: int = 2,
    check: Callable[[], None] = lambda: None,
    known: tuple[Any, Any] | None = None,
    across: int = SLICES,
) -> Any:
    """Reconstruct one image or slab.

    Parameters
    ----------
    kspace : complex64 (coil, kz, ky, x)
        Hybrid, whitened; zero where not acquired; centre at ``n // 2``.
    mask : bool (kz, ky)
        NumPy, or as the other arrays.
    maps : complex64 (coil, z, y, x)
        Unit norm over coils, zero in the background.
    start : complex64 (z, y, x)
        SENSE image of the same data, in SNR units.
    noise_map : float32 (z, y, x)
        Sigma of its noise per real channel; zero in the background.
    network : callable
        From planes (batch, 3, y, x) to planes (batch, 2, y, x): an engine's ``run``.
    schedule : Schedule
    multiple_of : int
        Of the sides of the planes.
    threads : int
        CPU threads of the data consistency.
    check : callable
        Called between steps; raises where the work is to be given up.
    known : tuple of 2, optional
        The `levels`; needed for arrays of PyTorch.
    across : int
        `SLICES` or `READOUT`: the axis of the image which the planes are stacked along.

    Returns
    -------
    complex64 (z, y, x)
        The last output of the network. Zero in the background.
    """
    xp = array_api_compat.array_namespace(kspace, maps)
    sigma, scale = levels(start, noise_map) if known is None else known
    right = adjoint(kspace, mask, maps)
    image = start
    for step, level in enumerate(schedule.sigma):
        check()
        image = _denoised(image, noise_map * level, scale, network, multiple_of, across)
        image = xp.where(noise_map > 0, image, xp.zeros_like(image))
        if step < len(schedule.weight):
            check()
            weight = schedule.weight[step] / sigma**2
            image = consistent(image, right, mask, maps, weight, threads)
    return image


def levels(start: Any, noise_map: Any) -> tuple[float, float]:
    """Return what all numbers are relative to: the noise of SENSE, and the scale of the planes.

    Parameters
    ----------
    start : complex64 (z, y, x)
    noise_map : float32 (z, y, x)

    Returns
    -------
    sigma : float
        `noise_of_object`; 1 where the noise map is all zero.
    scale : float
        99th percentile of the magnitude, at least sigma.
    """
    xp = array_api_compat.array_namespace(start)
    sigma = noise_of_object(start, noise_map) or 1.0
    return sigma, max(float(xp.percentile(xp.abs(start), 99)), sigma)


def noise_of_object(image: Any, noise_map: Any) -> float:
    """Return the median of a noise map in the brightest quarter of an image; 0 where it is zero.

    Air does not count: there SENSE with a prior has next to no noise.

    Parameters
    ----------
    image : complex64 or float32 (z, y, x)
    noise_map : float32 (z, y, x)
        Zero in the background.
    """
    xp = array_api_compat.array_namespace(image)
    inside = noise_map > 0
    if not bool(xp.any(inside)):
        return 0.0
    magnitude, noise = xp.abs(image[inside]), noise_map[inside]
    return float(xp.median(noise[magnitude >= xp.percentile(magnitude, BRIGHT_PERCENTILE)]))


def _denoised(
    image: Any,
    sigma: Any,
    scale: Any,
    network: Callable[[Any], Any],
    multiple: int,
    across: int,
) -> Any:
    xp = array_api_compat.array_namespace(image)
    parts = (image.real / scale, image.imag / scale, sigma / scale)
    planes = xp.stack([as_planes(part, across) for part in parts], axis=1)
    rows, columns = planes.shape[2:]
    padded = _extended(_extended(planes, -rows % multiple, 2), -columns % multiple, 3)
    found = network(xp.astype(padded, xp.float32, copy=False))
    real, imaginary = (as_volume(found[:, part], image.shape, across) for part in (0, 1))
    return (real + 1j * imaginary) * scale


def _extended(planes: Any, count: int, axis: int) -> Any:
    """Extend by reflection at the end of an axis."""
    if not count:
        return planes
    xp = array_api_compat.array_namespace(planes)
    last = planes.shape[axis] - 1
    part = (slice(None),) * axis + (slice(last - count, last),)
    return xp.concat([planes, xp.flip(planes[part], axis=axis)], axis=axis)


def planes_across(shape: tuple[int, ...], manifest: Manifest) -> int:
    """Return the axis of an image (z, y, x) which a network's planes are stacked along.

    `READOUT` of a 3D scan, where its planes (z, y) are large enough for the network: the readout is
    whole, so all aliasing lies in them, and they are slices to the network. Else `SLICES`.
    """
    least = max(manifest.limits.side[0], manifest.multiple_of)
    return READOUT if shape[0] > 1 and min(shape[:2]) >= least else SLICES


def as_planes(volume: Any, across: int) -> Any:
    """Return an image (z, y, x) as planes stacked along one of its axes."""
    xp = array_api_compat.array_namespace(volume)
    return xp.moveaxis(volume, across, 0)


def as_volume(planes: Any, shape: tuple[int, ...], across: int) -> Any:
    """Return planes as an image of a shape (z, y, x): undoes `as_planes` and cuts padding off."""
    xp = array_api_compat.array_namespace(planes)
    z, y, x = shape
    return xp.moveaxis(planes, 0, across)[:z, :y, :x]


def consistent(
    image: Any,
    right: Any,
    mask: Any,
    maps: Any,
    weight: Any,
    threads: int = 2,
    iterations: int = ITERATIONS,
) -> Any:
    """Return argmin |A x - y|^2 + weight |x - image|^2, complex64 (z, y, x).

    Parameters
    ----------
    image : complex64 (z, y, x)
    right : complex64 (z, y, x)
        A^H y.
    mask : bool (kz, ky)
        NumPy, or as the other arrays.
    maps : complex64 (coil, z, y, x)
    weight : float
        Or an array of one number.
    threads, iterations : int
    """
    xp = array_api_compat.array_namespace(maps)
    result = xp.empty_like(image)
    sampled = xp.astype(xp.fft.ifftshift(xp.asarray(mask)), xp.float32)[:, :, None]
    axes = _axes(mask)

    def solve(columns: slice) -> None:
        given, wanted, seen = (array[..., columns] for array in (image, right, maps))
        result[..., columns] = solved(given, wanted, sampled, seen, weight, axes, iterations)

    width = max(1, CHUNK_BYTES * maps.shape[-1] // max(1, maps.nbytes))
    if not array_api_compat.is_numpy_array(maps):
        width = maps.shape[-1]
    chunks = [slice(first, first + width) for first in range(0, maps.shape[-1], width)]
    if threads == 1 or len(chunks) == 1:
        for chunk in chunks:
            solve(chunk)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(solve, chunks))
    return result


def solved(
    image: Any,
    right: Any,
    sampled: Any,
    maps: Any,
    weight: Any,
    axes: tuple[int, ...] = (-2,),
    iterations: int = ITERATIONS,
) -> Any:
    """Return what `consistent` does for some columns, or for a batch of slices.

    Differentiable where arrays are PyTorch's: the network is trained through it.

    Parameters
    ----------
    image, right : complex64 (z or batch, y, x)
    sampled : float32 (z or batch, ky, 1)
        1 where a line was acquired; the k-space centre at 0.
    maps : complex64 (coil, z or batch, y, x)
    weight : float
        Or an array (batch, 1, 1).
    axes : tuple of int
        Which were encoded by lines; the others are one problem each.
    iterations : int
    """
    xp = array_api_compat.array_namespace(maps)
    conjugate = xp.conj(maps)

    def normal(x: Any) -> Any:
        coils = _fft(_fft(maps * x, axes, False) * sampled, axes, True)
        coils *= conjugate
        return xp.sum(coils, axis=0)

    # Solved for the difference to the given image, from zero: the fewer steps are left out, the
    # closer it stays to that.
    residual = right - normal(image)
    return image + _conjugate_gradients(
        lambda x: normal(x) + weight * x, residual, axes, iterations
    )


def _conjugate_gradients(
    normal: Callable[[Any], Any], residual: Any, axes: tuple[int, ...], iterations: int
) -> Any:
    """Solve normal(x) = residual from zero; what ``axes`` do not join has steps of its own."""
    xp = array_api_compat.array_namespace(residual)

    def dot(a: Any, b: Any) -> Any:
        return xp.sum(a.real * b.real + a.imag * b.imag, axis=axes, keepdims=True)

    def ratio(a: Any, b: Any) -> Any:
        some = b > NOTHING_LEFT
        return xp.where(some, a / xp.where(some, b, xp.ones_like(b)), xp.zeros_like(a))

    solution, direction, power = xp.zeros_like(residual), residual, dot(residual, residual)
    for _ in range(iterations):
        product = normal(direction)
        length = ratio(power, dot(direction, product))
        solution = solution + length * direction
        residual = residual - length * product
        power, before = dot(residual, residual), power
        direction = residual + ratio(power, before) * direction
    return solution


def adjoint(kspace: Any, mask: Any, maps: Any) -> Any:
    """Return A^H y, complex64 (z, y, x)."""
    xp = array_api_compat.array_namespace(maps)
    axes = _axes(mask)
    coils = xp.fft.fftshift(_fft(xp.fft.ifftshift(kspace, axes=axes), axes, True), axes=axes)
    return xp.sum(xp.conj(maps) * coils, axis=0)


def _axes(mask: Any) -> tuple[int, ...]:
    return (-2,) if mask.shape[0] == 1 else (-3, -2)


def _fft(x: Any, axes: tuple[int, ...], inverse: bool) -> Any:
    if array_api_compat.is_numpy_array(x):
        return (scipy.fft.ifftn if inverse else scipy.fft.fftn)(x, axes=axes, norm="ortho")
    xp = array_api_compat.array_namespace(x)
    return (xp.fft.ifftn if inverse else xp.fft.fftn)(x, axes=axes, norm="ortho")
