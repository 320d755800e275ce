"""Reconstruction by an unrolled network: `Frame` to `Image`, and never without an image.

The conventional image (`gadgets.reconstruct`, by SENSE) comes first: it is where the network starts
from, what its noise map is conditioned on, and what leaves where anything speaks against the
network. Between the network's steps the image is made consistent with what all coils measured
(`engines.unrolled`; where the engine runs in PyTorch all of it does, `engines.unrolled_torch`).
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
from engines.unrolled import Schedule, unrolled
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
            data, error = self._deadlines.run(
                lambda check: self._run(frame, maps.maps, image, manifest, schedule, check), until
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
        noise = image.noise_map if error is None else error
        made = replace(image, data=data, noise_map=noise, conventional=image.data)
        return made_by(made, manifest, done)

    def _run(
        self,
        frame: Frame,
        maps: Any,
        image: Image,
        manifest: Manifest,
        schedule: Schedule,
        check: Callable[[], None],
    ) -> tuple[Any, Any]:
        """Return the image, and its expected error where the network predicts it."""
        noise, scale = noise_and_scale(image, manifest.limits)
        given = (frame.kspace, frame.mask, maps, image.data, noise)
        if self._engine.takes_tensors:
            data, latest = self._in_torch(schedule)(*given)
        else:
            data, latest = self._step_by_step(given, manifest, schedule, check)
        xp = array_api_compat.array_namespace(data)
        error = None
        if "log_sigma" in latest:
            y, x = data.shape[1:]
            error = xp.exp(latest["log_sigma"][:, 0, :y, :x]) * np.float32(scale)
            data, error = weighed(data, error, image.data, noise)
        if not all(bool(xp.all(xp.isfinite(a))) for a in (data, error) if a is not None):
            raise Refused("the engine returned NaN or Inf")
        return data, error

    def _step_by_step(
        self,
        given: tuple[Any, Any, Any, Any, Any],
        manifest: Manifest,
        schedule: Schedule,
        check: Callable[[], None],
    ) -> tuple[Any, dict[str, Any]]:
        """Return the image, and all outputs of the network in the last step."""
        latest: dict[str, Any] = {}

        def network(planes: Any) -> Any:
            latest.update(in_batches(self._engine, planes, check))
            return latest["planes"]

        multiple = manifest.multiple_of
        image = unrolled(
            *given, network, schedule, multiple_of=multiple, threads=threads(), check=check
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


def _check_frame(frame: Frame, image: Image, manifest: Manifest) -> None:
    """Raise `Refused` where a frame is not one that the network was trained for."""
    limits = manifest.limits
    if not limits.acceleration[0] <= image.acceleration <= limits.acceleration[1]:
        raise Refused(
            f"acceleration {image.acceleration:.3g}, the network was trained for"
            f" {span(limits.acceleration)}"
        )
    coils = frame.kspace.shape[0]
    if not limits.coils[0] <= coils <= limits.coils[1]:
        raise Refused(f"{coils} coils, the network was trained for {span(limits.coils)}")
    if not frame.readout_mask.all():
        raise Refused("an asymmetric echo, the network was trained for whole readouts")
