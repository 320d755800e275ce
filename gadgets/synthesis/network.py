"""Running a network of a synthetic contrast on a stack of slices, or saying why not.

The network gives an image and, for every voxel, the scale of its likely error. Where the input is
not what it was trained for, or what comes out is too unsure, there is no image.
"""

from dataclasses import dataclass

import numpy as np

from engines.engine import Engine
from engines.errors import EngineUnavailable
from engines.familiar import Familiar, body
from engines.manifest import Manifest
from gadgets.synthesis.marks import Unavailable

BATCH = 2
LEAST_BODY = 0.05
"""Of the voxels must show something."""


@dataclass(frozen=True)
class Made:
    """A synthetic stack, in the scale of the network's output.

    Attributes
    ----------
    image : float32 (z, y, x)
    interval : float32 (z, y, x)
        Half of the width of the interval in which the truth is said to lie with 95 %.
    """

    image: np.ndarray
    interval: np.ndarray


def manifest_of(engine: Engine) -> Manifest:
    """Return the manifest of an engine that can serve.

    Raises
    ------
    Unavailable
        It cannot, or is of another kind.
    """
    if engine.reason is not None or engine.manifest is None:
        raise Unavailable(f"no network: {engine.reason}")
    if engine.manifest.kind != "synthesis":
        raise Unavailable(f"expected a network of the kind synthesis, got {engine.manifest.kind}")
    return engine.manifest


def make(
    engine: Engine,
    channels: np.ndarray,
    pixel_mm: tuple[float, float],
    snr: float,
    dark: bool = True,
) -> Made:
    """Make a synthetic stack.

    Parameters
    ----------
    engine : Engine
        Of the kind "synthesis".
    channels : float32 (channel, z, y, x)
        In the scale of the network's input.
    pixel_mm : tuple of 2 float
        y, x.
    snr : float
        Scale of the poorest channel over its noise sigma.
    dark : bool
        Show nothing where no channel shows anything.

    Raises
    ------
    Unavailable
        The input is not what the network was trained for, or the result is too unsure.
    """
    manifest = manifest_of(engine)
    known = manifest.parameters
    least_mm, most_mm = known["pixel_mm"]
    if not all(least_mm <= mm <= most_mm for mm in pixel_mm):
        raise Unavailable(
            f"expected pixels of {least_mm:g} to {most_mm:g} mm,"
            f" got {pixel_mm[0]:.2f} x {pixel_mm[1]:.2f} mm"
        )
    if not np.isfinite(channels).all():
        raise Unavailable("expected finite values, got NaN or Inf")
    if not snr >= manifest.limits.snr[0]:
        raise Unavailable(
            f"expected a signal-to-noise ratio of {manifest.limits.snr[0]:g} or more, got {snr:.3g}"
        )
    planes = np.ascontiguousarray(channels.swapaxes(0, 1), np.float32)
    inside = body(planes)
    if inside.mean() < LEAST_BODY:
        raise Unavailable("expected a body in the images, found next to nothing")
    familiar = Familiar.from_plain(known["familiar"])
    rarity = familiar.rarity(planes)
    if rarity > familiar.most:
        raise Unavailable(
            "unlike what the network was trained on: the combinations of signals of an average"
            f" voxel are as rare as {rarity:.2f} bits, at most {familiar.most:.2f} are expected"
        )
    made = _run(engine, planes, manifest.multiple_of, known["interval_factor"])
    if dark:
        made = Made(np.where(inside, made.image, 0), made.interval)
    error = float(made.interval[inside].mean())
    if not error <= known["most_error"]:
        raise Unavailable(
            f"too unsure: the network expects errors of up to {error:.3g} in an average voxel, at"
            f" most {known['most_error']:.3g} are allowed"
        )
    return made


def _run(engine: Engine, planes: np.ndarray, multiple: int, factor: float) -> Made:
    rows, columns = planes.shape[2:]
    pad = [(0, 0), (0, 0), (0, -rows % multiple), (0, -columns % multiple)]
    padded = np.pad(planes, pad, mode="edge")
    images, intervals = [], []
    for start in range(0, len(padded), BATCH):
        try:
            found = engine.outputs(padded[start : start + BATCH])
        except EngineUnavailable as error:
            raise Unavailable(f"no network: {error.reason}") from error
        images.append(found["planes"][:, 0, :rows, :columns])
        intervals.append(factor * np.exp(found["log_scale"][:, 0, :rows, :columns]))
    image, interval = (np.concatenate(p).astype(np.float32) for p in (images, intervals))
    if not (np.isfinite(image).all() and np.isfinite(interval).all()):
        raise Unavailable("the network gave values that are not finite")
    return Made(image, interval)
