"""Denoising by a network that is told how noisy every pixel is.

Images must be in SNR units: the noise map is what the network is conditioned on, and what tells
whether an image lies within what it was trained for. Slices go through one by one; phase is kept.
Whatever speaks against it leaves the image as it was, and the image's history says why.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import array_api_compat
import numpy as np
import structlog

from engines.deadline import Deadlines, Late
from engines.engine import Engine
from engines.manifest import Limits, Manifest
from engines.unrolled import noise_of_object
from gadgets.items import Image

_log = structlog.get_logger(__name__)

BATCH_PIXELS = 1 << 18
"""Pixels of the slices which go through at once: bounds memory, and how late a deadline is seen."""

VIEWS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
"""Axes along which an image is mirrored before it goes through, and its result after."""

RESIDUAL_LIMIT = 2.0
"""Most that may be taken away, root mean square per real channel, in sigmas of the noise. All noise
is 1 (in the background of a magnitude image 1.4): more than that was no noise."""


class Refused(Exception):
    """An image is not denoised, and why."""


class Denoise:
    """Denoise `Image` items of magnitude or complex values (a gadget).

    The noise map stays that of the image before: an upper bound of the noise that is left. The
    role stays too, but the history has the token "AI" and the engine's name, version and weights,
    and the attribute ``BoresideAI`` repeats it; or the history and the attribute
    ``BoresideFallback`` have the reason why it was not done.

    Parameters
    ----------
    engine : Engine
        Of the kind "denoiser".
    strength : float
        0 to 100 %: how much of what the network takes for noise is taken away. The other part of
        the image stays as it was acquired.
    deadline_ms : float or None
        From an image's last readout (where that is not known, from when the image comes here) to
        when it must be on its way, denoised or not. With a deadline the network looks at each slice
        once; without one, at its mirror images too, which is better by 0.1 to 0.3 dB.
    clock : callable
        Monotonic clock of ``last_readout_ns``, nanoseconds.

    Raises
    ------
    ValueError
        The strength is none.
    """

    def __init__(
        self,
        engine: Engine,
        strength: float = 100,
        deadline_ms: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not 0 <= strength <= 100:
            raise ValueError(f"strength: expected 0 to 100 %, got {strength}")
        self._engine = engine
        self._strength = strength
        self._deadline_ms = deadline_ms
        self._clock = clock
        self._deadlines = Deadlines(clock)

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Image) and item.quantity in ("magnitude", "complex"):
                yield self.denoised(item)
            else:
                yield item

    def denoised(self, image: Image) -> Image:
        """Return one image denoised, or as it was, with the reason in its history."""
        if self._strength == 0:
            return replace(image, history=(*image.history, "not denoised: strength 0 %"))
        until = deadline(image.last_readout_ns, self._deadline_ms, self._clock)
        try:
            manifest = usable_manifest(self._engine, "denoiser")
            planes, scale = network_input(image, manifest)
            data = self._deadlines.run(
                lambda check: self._run(image, planes, scale, manifest, check), until
            )
        except (Refused, Late) as reason:
            return fallen_back(image, f"not denoised: {reason}")
        except Exception as error:
            _log.error("denoising failed", engine=self._engine.name, exc_info=error)
            return fallen_back(image, f"not denoised: {type(error).__name__}: {error}")
        done = (
            f"denoised by {manifest.label}, {self._engine.runtime}, strength {self._strength:g} %"
        )
        before = image.data if image.conventional is None else image.conventional
        return made_by(replace(image, data=data, conventional=before), manifest, done)

    def _run(
        self,
        image: Image,
        planes: Any,
        scale: float,
        manifest: Manifest,
        check: Callable[[], None],
    ) -> Any:
        xp = array_api_compat.array_namespace(planes)
        y, x = planes.shape[2:]
        padded = pad(planes, manifest.multiple_of)
        views = VIEWS if self._deadline_ms is None else VIEWS[:1]
        denoised = mean_of_views(self._engine, padded, check, views)[:, :, :y, :x]
        if not bool(xp.all(xp.isfinite(denoised))):
            raise Refused("the engine returned NaN or Inf")
        taken = denoised - planes[:, :2]
        if (size := _in_sigmas(taken, planes[:, 2], image.data)) > RESIDUAL_LIMIT:
            raise Refused(
                f"the engine took away {size:.1f} sigma, which is more than noise"
                f" (at most {RESIDUAL_LIMIT:g})"
            )
        planes = planes[:, :2] + np.float32(self._strength / 100) * taken
        planes = planes * np.float32(scale)
        if xp.isdtype(image.data.dtype, "complex floating"):
            return planes[:, 0] + np.complex64(1j) * planes[:, 1]
        return xp.maximum(planes[:, 0], xp.zeros_like(planes[:, 0]))


def usable_manifest(engine: Engine, kind: str) -> Manifest:
    """Return the manifest of an engine that can serve as this kind.

    Raises
    ------
    Refused
        It cannot.
    """
    if engine.reason is not None:
        raise Refused(f"engine {engine.name} {engine.version} unavailable: {engine.reason}")
    if engine.manifest is None or engine.kind != kind:
        raise Refused(f"engine {engine.name}: expected a {kind}, got a {engine.kind}")
    return engine.manifest


def network_input(image: Image, manifest: Manifest) -> tuple[Any, float]:
    """Return the planes of an image, if it lies within what the network was trained for.

    Parameters
    ----------
    image : Image
    manifest : Manifest

    Returns
    -------
    planes : float32 (z, 3, y, x)
        Real part, imaginary part, noise sigma per real channel.
    scale : float
        What they were divided by: the 99th percentile of the magnitude, at least the median sigma.

    Raises
    ------
    Refused
        As `noise_and_scale`.
    """
    noise, scale = noise_and_scale(image, manifest.limits)
    xp = array_api_compat.array_namespace(image.data)
    is_complex = xp.isdtype(image.data.dtype, "complex floating")
    imaginary = image.data.imag if is_complex else xp.zeros_like(image.data)
    planes = xp.stack([image.data.real, imaginary, noise], axis=1) / np.float32(scale)
    return xp.astype(planes, xp.float32, copy=False), scale


def noise_and_scale(image: Image, limits: Limits) -> tuple[Any, float]:
    """Return the noise map of an image and the scale of the planes, if they are within limits.

    Raises
    ------
    Refused
        Not in SNR units, noise not known, NaN or Inf, too small or large, or SNR or noise out of
        limits.
    """
    if not image.snr_units:
        raise Refused("the image is not in SNR units: its noise was not measured")
    xp = array_api_compat.array_namespace(image.data)
    check_matrix(image.data.shape, limits)
    noise = image.noise_map
    if noise is None:
        if image.acceleration > 1:
            raise Refused("an undersampled image without a noise map")
        noise = xp.ones(image.data.shape, dtype=xp.float32)
    if not bool(xp.all(xp.isfinite(image.data))) or not bool(xp.all(xp.isfinite(noise))):
        raise Refused("NaN or Inf in the image or its noise map")
    inside = noise > 0
    if not bool(xp.any(inside)):
        raise Refused("the noise map is zero everywhere")
    sigma = noise_of_object(image.data, noise)
    magnitude = float(xp.percentile(xp.abs(image.data), 99))
    snr = magnitude / sigma
    if not limits.snr[0] <= snr <= limits.snr[1]:
        raise Refused(f"SNR {snr:.3g}, the network was trained for {span(limits.snr)}")
    scale = max(magnitude, sigma)
    least, most = (float(value) / scale for value in (xp.min(noise[inside]), xp.max(noise)))
    if least < limits.sigma[0] or most > limits.sigma[1]:
        raise Refused(
            f"noise of {least:.3g} to {most:.3g} of the signal, the network was trained for"
            f" {span(limits.sigma)}"
        )
    return noise, scale


def in_batches(engine: Engine, planes: Any, check: Callable[[], None]) -> dict[str, Any]:
    """Run padded planes (z, channel, y, x) through an engine, some slices at a time.

    ``check`` is called before each of them; it raises where the work is to be given up.
    """
    xp = array_api_compat.array_namespace(planes)
    batch = max(1, BATCH_PIXELS // (planes.shape[2] * planes.shape[3]))
    found = []
    for start in range(0, len(planes), batch):
        check()
        found.append(engine.outputs(planes[start : start + batch]))
    if len(found) == 1:
        return found[0]
    return {name: xp.concat([outputs[name] for outputs in found]) for name in found[0]}


def mean_of_views(
    engine: Engine,
    planes: Any,
    check: Callable[[], None] = lambda: None,
    views: tuple[tuple[int, ...], ...] = VIEWS,
) -> Any:
    """Return the mean of what a denoiser makes of padded planes and of their mirror images.

    Its errors are not the same for them and partly cancel out (Timofte et al., "Seven ways to
    improve example-based single image super resolution", CVPR 2016).

    Parameters
    ----------
    engine : Engine
    planes : float32 (z, 3, y, x)
    check : callable
        As in `in_batches`.
    views : tuple of tuple of int
        Axes to mirror.

    Returns
    -------
    float32 (z, 2, y, x)
    """
    xp = array_api_compat.array_namespace(planes)
    found = [
        xp.flip(in_batches(engine, xp.flip(planes, axis=axes), check)["planes"], axis=axes)
        for axes in views
    ]
    return sum(found[1:], found[0]) / np.float32(len(found))


def check_matrix(shape: tuple[int, ...], limits: Limits) -> None:
    """Raise `Refused` where a matrix (z, y, x) is not one that a network was trained for."""
    y, x = shape[-2:]
    if min(y, x) < limits.side[0] or max(y, x) > limits.side[1] or y * x > limits.pixels:
        raise Refused(
            f"a matrix of {y} x {x}, the network was trained for sides of {span(limits.side)} and"
            f" at most {limits.pixels} pixels"
        )


def pad(planes: Any, multiple: int) -> Any:
    """Extend planes (batch, channel, y, x) by reflection at the ends of y and x to multiples."""
    y, x = (-n % multiple for n in planes.shape[2:])
    if not y and not x:
        return planes
    xp = array_api_compat.array_namespace(planes)
    return xp.pad(planes, ((0, 0), (0, 0), (0, y), (0, x)), mode="reflect")


def deadline(
    last_readout_ns: int, deadline_ms: float | None, clock: Callable[[], int]
) -> int | None:
    """Return the moment, of the clock, until which an image must be done; None for no limit."""
    if deadline_ms is None:
        return None
    return (last_readout_ns or clock()) + int(deadline_ms * 1e6)


def made_by(image: Image, manifest: Manifest, entry: str) -> Image:
    """Return an image with what a network did to it in its history and attributes."""
    networks = [*image.attributes.get("BoresideAI", []), manifest.label]
    token = () if "AI" in image.history else ("AI",)
    return replace(
        image,
        history=(*image.history, *token, entry),
        attributes={**image.attributes, "BoresideAI": networks},
    )


def fallen_back(image: Image, reason: str) -> Image:
    """Return an image with what was not done to it, and why, in its history and attributes."""
    reasons = [*image.attributes.get("BoresideFallback", []), reason]
    return replace(
        image,
        history=(*image.history, reason),
        attributes={**image.attributes, "BoresideFallback": reasons},
    )


def _in_sigmas(taken: Any, sigma: Any, data: Any) -> float:
    """Return the root mean square, per real channel that the data have, in sigmas."""
    xp = array_api_compat.array_namespace(taken)
    channels = 2 if xp.isdtype(data.dtype, "complex floating") else 1
    weight = xp.where(sigma > 0, 1 / xp.where(sigma > 0, sigma, 1), 0) ** 2
    power = xp.sum(taken[:, :channels] ** 2, axis=1) * weight
    return float(xp.sqrt(xp.sum(power) / (channels * xp.sum(sigma > 0))))


def span(limits: tuple[float, float]) -> str:
    """Return limits in words."""
    return f"{limits[0]:g} to {limits[1]:g}"
