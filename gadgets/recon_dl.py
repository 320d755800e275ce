"""Reconstruction by an unrolled network: `Frame` to `Image`, and never without an image.

The conventional image (`gadgets.reconstruct`, by SENSE) comes first: it is where the network starts
from, what its noise map is conditioned on, and what leaves where anything speaks against the
network. Between the network's steps the image is made consistent with what all coils measured
(`engines.unrolled`; where the engine runs in PyTorch all of it does, `engines.unrolled_torch`).

The network must be told the noise. Where no noise scan came, its level is estimated from the data
(`gadgets.noise_level`), for the network only: such an image stays in the units it came in.
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
from engines.manifest import Manifest
from engines.unrolled import SLICES, Schedule, as_planes, as_volume, planes_across, unrolled
from gadgets.denoise import (
    Refused,
    deadline,
    fallen_back,
    in_batches,
    made_by,
    noise_and_scale,
    span,
    usable_manifest,
)
from gadgets.fft import threads
from gadgets.items import Frame, Image, SensitivityMaps
from gadgets.noise_level import noise_level
from gadgets.reconstruct import Reconstruct
from protocols.header import Header

CAUTION = 1.5
"""How much further from the truth a network may be than it expects."""

_log = structlog.get_logger(__name__)


class ReconstructDL(Reconstruct):
    """Turn `Frame` into `Image` by an unrolled network (a gadget), or as `Reconstruct` does.

    Where the network predicts its error, the noise map of the image is that: the standard deviation
    per real channel, which the rest of the error is expected to have. Where it does not, the noise
    map stays that of the conventional image: an upper bound. History and attributes are those of
    `gadgets.denoise.Denoise`.

    Parameters
    ----------
    engine : Engine
        Of the kind "regulariser".
    header : Header or None
        As in `Reconstruct`.
    deadline_ms : float or None
        From an image's last readout (where that is not known, from when its frame comes here) to
        when it must be on its way, by the network or without it.
    clock : callable
        Monotonic clock of ``last_readout_ns``, nanoseconds.
    """

    def __init__(
        self,
        engine: Engine,
        header: Header | None = None,
        deadline_ms: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__("sense", header, noise_maps=True)
        self._engine = engine
        self._deadline_ms = deadline_ms
        self._clock = clock
        self._deadlines = Deadlines(clock)

    def _form(self, items: Iterator[Any]) -> Iterator[Any]:
        yield from super()._form(self._warmed_up(items))

    def _warmed_up(self, items: Iterator[Any]) -> Iterator[Any]:
        """Warm up for the coils of a slice, whose lines are still coming."""
        for item in items:
            if isinstance(item, SensitivityMaps) and self._engine.takes_tensors:
                try:
                    manifest = usable_manifest(self._engine, "regulariser")
                    self._in_torch(Schedule.of(manifest.parameters)).warm_up(item.maps.shape)
                except Exception as error:
                    _log.warning(
                        "engine not warmed up", engine=self._engine.name, reason=str(error)
                    )
            yield item

    def _in_torch(self, schedule: Schedule) -> Any:
        # PyTorch is there where an engine runs in it, and nowhere else is it imported.
        from engines.unrolled_torch import in_torch

        engine: Any = self._engine
        return in_torch(engine, schedule)

    def _image(self, frame: Frame, maps: SensitivityMaps | None, kernels: Any) -> Image:
        until = deadline(frame.last_readout_ns, self._deadline_ms, self._clock)
        image = super()._image(frame, maps, kernels)
        try:
            manifest = usable_manifest(self._engine, "regulariser")
            if maps is None or image.quantity != "complex":
                raise Refused("there is no image by SENSE to start from")
            _check_frame(frame, image, manifest)
            schedule = Schedule.of(manifest.parameters)
            frame, start, level, notes = _in_noise_units(frame, image)
            data, error = self._deadlines.run(
                lambda check: self._run(frame, maps.maps, start, manifest, schedule, check), until
            )
        except (Refused, Late) as reason:
            return fallen_back(image, f"fallback: no network reconstruction: {reason}")
        except Exception as error:
            _log.error("network reconstruction failed", engine=self._engine.name, exc_info=error)
            what = f"{type(error).__name__}: {error}"
            return fallen_back(image, f"fallback: no network reconstruction: {what}")
        done = (
            f"unrolled reconstruction by {manifest.label}, {self._engine.runtime},"
            f" {len(schedule.sigma)} steps"
        )
        made = replace(
            image,
            data=data * np.float32(level),
            noise_map=image.noise_map if error is None else error,
            conventional=image.data,
            history=(*image.history, *notes),
        )
        return made_by(made, manifest, done)

    def _run(
        self,
        frame: Frame,
        maps: Any,
        start: Image,
        manifest: Manifest,
        schedule: Schedule,
        check: Callable[[], None],
    ) -> tuple[Any, Any]:
        """Return the image, and its expected error where the network predicts it."""
        across = planes_across(start.data.shape, manifest)
        if across == SLICES and (frame.mask != frame.mask.any(axis=0)).any():
            raise Refused(
                "undersampled along kz in a slab too thin for planes across the readout: a slice"
                " does not show its aliasing"
            )
        noise, scale = _noise_and_scale(start, manifest, across)
        given = (frame.kspace, frame.mask, maps, start.data, noise)
        if self._engine.takes_tensors:
            data, latest = self._in_torch(schedule)(*given)
        else:
            data, latest = self._step_by_step(given, manifest, schedule, across, check)
        xp = array_api_compat.array_namespace(data)
        error = None
        if "log_sigma" in latest:
            log_sigma = as_volume(latest["log_sigma"][:, 0], data.shape, across)
            error = xp.exp(log_sigma) * np.float32(scale)
            data, error = weighed(data, error, start.data, noise)
        if not all(bool(xp.all(xp.isfinite(a))) for a in (data, error) if a is not None):
            raise Refused("the engine returned NaN or Inf")
        return data, error

    def _step_by_step(
        self,
        given: tuple[Any, Any, Any, Any, Any],
        manifest: Manifest,
        schedule: Schedule,
        across: int,
        check: Callable[[], None],
    ) -> tuple[Any, dict[str, Any]]:
        """Return the image, and all outputs of the network in the last step."""
        latest: dict[str, Any] = {}

        def network(planes: Any) -> Any:
            latest.update(in_batches(self._engine, planes, check))
            return latest["planes"]

        image = unrolled(
            *given,
            network,
            schedule,
            multiple_of=manifest.multiple_of,
            threads=threads(),
            check=check,
            across=across,
        )
        return image, latest


def weighed(data: Any, error: Any, start: Any, noise: Any) -> tuple[Any, Any]:
    """Return the network's image where it is expected to be better than SENSE, and its error.

    Weights go from one to the other where the error that the network expects, times `CAUTION`,
    passes the noise of SENSE: strong signals stay as they were measured.
    """
    xp = array_api_compat.array_namespace(data)
    inside = noise > 0
    ours, theirs = noise**4, (CAUTION * error) ** 4
    share = ours / xp.where(inside, ours + theirs, xp.ones_like(noise))
    mean = start + share * (data - start)
    zero = xp.zeros_like(noise)
    return xp.where(inside, mean, 0 * mean), xp.where(inside, xp.minimum(error, noise), zero)


def _in_noise_units(frame: Frame, image: Image) -> tuple[Frame, Image, float, tuple[str, ...]]:
    """Return frame and image with k-space noise of sigma 1, what that was, and what to say of it.

    Raises
    ------
    Refused
        There was no noise scan, and the data do not tell the noise either.
    """
    if frame.snr_units:
        return frame, image, 1.0, ()
    level = noise_level(frame)
    if not (np.isfinite(level) and level > 0):
        raise Refused("no noise scan, and the outermost samples of k-space are zero")
    factor = np.float32(1 / level)
    return (
        replace(frame, kspace=frame.kspace * factor, snr_units=True),
        replace(image, data=image.data * factor, snr_units=True),
        level,
        (f"noise estimated from the data: sigma {level:.3g}, for the network only",),
    )


def _noise_and_scale(start: Image, manifest: Manifest, across: int) -> tuple[Any, float]:
    """Return what `noise_and_scale` says of an image whose planes the network is to see."""
    planes = {"data": as_planes(start.data, across)}
    if start.noise_map is not None:
        planes["noise_map"] = as_planes(start.noise_map, across)
    noise, scale = noise_and_scale(replace(start, **planes), manifest.limits)
    return as_volume(noise, start.data.shape, across), scale


def _check_frame(frame: Frame, image: Image, manifest: Manifest) -> None:
    """Raise `Refused` where a frame is not one that the network was trained for."""
    limits = manifest.limits
    if not limits.allow_acceleration(image.acceleration):
        raise Refused(
            f"acceleration {image.acceleration:.3g}, the network was trained for"
            f" {span(limits.acceleration)}"
        )
    coils = frame.kspace.shape[0]
    if not limits.coils[0] <= coils <= limits.coils[1]:
        raise Refused(f"{coils} coils, the network was trained for {span(limits.coils)}")
    if not frame.readout_mask.all():
        raise Refused("an asymmetric echo, the network was trained for whole readouts")
