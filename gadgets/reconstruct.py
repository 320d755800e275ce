"""Conventional reconstruction: `Frame` to `Image`, by SENSE or GRAPPA, and never without an image.

Coils are compressed and sensitivity maps estimated while lines still come in, from `Calibration`
items, or else from the frame's own calibration lines or fully sampled centre; later contrasts and
repetitions of a slice share them. Partial Fourier and asymmetric echoes are filled in afterwards.

Orthonormal transforms and maps of unit norm keep SNR units: an image of a whitened frame holds
noise of sigma ``noise_map`` per real channel, 1 where nothing was left out.

What cannot be reconstructed so leaves as root sum of squares with zeros for the missing lines, and
its history says "fallback: " and why.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import structlog

from gadgets.calibration import calibration_lines, place
from gadgets.coil_compression import CompressCoils
from gadgets.coil_maps import EstimateMaps
from gadgets.combine import combine, root_sum_of_squares, walsh_maps
from gadgets.fft import ifftc
from gadgets.gfactor import grappa_noise_map, noise_map
from gadgets.grappa import Target, calibrate, grappa
from gadgets.items import Calibration, Frame, Image, SensitivityMaps
from gadgets.lattice import Lattice, find_lattice
from gadgets.partial_fourier import METHODS, fill, missing_side, noise_factor
from gadgets.sense import REGULARIZATION, sense, transformed_axes
from gadgets.stream import chain
from protocols.header import Header, encodings

STRONGEST_REGULARIZATION = 0.05
"""Of an image with an SNR of less than 5."""

_log = structlog.get_logger(__name__)


class Reconstruct:
    """Turn `Frame` into `Image`; uses up `Calibration` and `SensitivityMaps` (a gadget).

    Images are complex64 on the grid of the frame, except fallbacks, which are float32 magnitude.

    Parameters
    ----------
    method : str
        "sense" or "grappa", of undersampled frames.
    header : Header or None
        Gives images their field of view; voxels of 1 mm without it.
    partial_fourier : str
        One of `gadgets.partial_fourier.METHODS`.
    noise_maps : bool
        Whether images get their noise map. For an irregular sampling it takes longer than the
        image, which must not wait for what nobody asked for.

    Raises
    ------
    ValueError
        An unknown method.
    """

    def __init__(
        self,
        method: str = "sense",
        header: Header | None = None,
        partial_fourier: str = "pocs",
        noise_maps: bool = True,
    ) -> None:
        if method not in ("sense", "grappa"):
            raise ValueError(f"method: expected 'sense' or 'grappa', got {method!r}")
        if partial_fourier not in METHODS:
            raise ValueError(f"partial_fourier: expected one of {METHODS}, got {partial_fourier!r}")
        self._method = method
        self._encodings = encodings(header) if header is not None else ()
        self._partial_fourier = partial_fourier
        self._noise_maps = noise_maps

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        return chain([CompressCoils(), EstimateMaps(), self._form])(items)

    def _form(self, items: Iterator[Any]) -> Iterator[Any]:
        maps: SensitivityMaps | None = None
        kernels = _Kernels()
        for item in items:
            if isinstance(item, SensitivityMaps):
                maps = item
            elif isinstance(item, Calibration):
                if self._method == "grappa":
                    kernels.add(item)
            elif isinstance(item, Frame):
                fits = (
                    maps is not None
                    and place(maps) == place(item)
                    and maps.maps.shape == item.kspace.shape
                )
                if self._method == "grappa":
                    kernels.add(item)
                yield self._image(item, maps if fits else None, kernels)
            else:
                yield item

    def _image(self, frame: Frame, maps: SensitivityMaps | None, kernels: "_Kernels") -> Image:
        try:
            result = self._reconstruct(frame, maps, kernels)
            xp = array_api_compat.array_namespace(result.data)
            if not bool(xp.isfinite(xp.sum(result.data))):
                raise ArithmeticError("values that are not finite")
        except Exception as error:  # The acquired image always gets out.
            _log.warning("fallback to zero-filled images", reason=str(error), key=frame.key)
            result = _zero_filled(frame, f"{error}")
        return Image(
            data=result.data,
            key=frame.key,
            header=frame.header,
            field_of_view=self._field_of_view(frame),
            quantity="magnitude" if result.is_fallback else "complex",
            snr_units=frame.snr_units,
            noise_map=result.noise,
            history=result.history,
            n_readouts=frame.n_readouts,
            last_readout_ns=frame.last_readout_ns,
            acceleration=frame.mask.size / max(int(frame.mask.sum()), 1),
            complete=frame.complete,
        )

    def _reconstruct(
        self, frame: Frame, known: SensitivityMaps | None, kernels: "_Kernels"
    ) -> "_Result":
        maps = known.maps if known is not None else None
        lattice = find_lattice(frame.mask)
        full = lattice is not None and lattice.acceleration == 1
        if full:
            result = _combined(frame.kspace, frame.mask, maps, "full sampling")
        elif known is None:
            return _zero_filled(frame, "no calibration lines for an undersampled frame")
        elif self._method == "grappa":
            result = _grappa(frame, known, lattice, kernels, self._noise_maps)
        else:
            result = _sense(frame, known, lattice, self._noise_maps)
        return self._filled_in(result, frame, lattice)

    def _filled_in(self, result: "_Result", frame: Frame, lattice: Lattice | None) -> "_Result":
        """Fill in what partial Fourier and asymmetric echoes left out."""
        steps = (lattice.rz, lattice.ry) if lattice else (4, 4)
        sides = (
            missing_side(frame.mask.any(axis=1), steps[0]),
            missing_side(frame.mask.any(axis=0), steps[1]),
            _on_length(missing_side(frame.readout_mask, 1), frame),
        )
        for axis, (acquired, name) in enumerate(zip(sides, ("kz", "ky", "kx"))):
            if acquired is None:
                continue
            size = result.data.shape[axis]
            factor = np.float32(noise_factor(size, acquired, self._partial_fourier))
            share = (acquired.stop - acquired.start) / size
            result = _Result(
                fill(result.data, axis, acquired, self._partial_fourier),
                None if result.noise is None else result.noise * factor,
                (*result.history, f"partial Fourier {share:.3f} {name}: {self._partial_fourier}"),
            )
        return result

    def _field_of_view(self, frame: Frame) -> tuple[float, float, float]:
        if frame.key.encoding >= len(self._encodings):
            z, y, x = frame.kspace.shape[1:]
            return float(x), float(y), float(z)
        encoding = self._encodings[frame.key.encoding]
        x = min(encoding.encoded_fov[0], encoding.recon_fov[0])
        return x, encoding.encoded_fov[1], encoding.encoded_fov[2]


@dataclass(frozen=True)
class _Result:
    """Image (z, y, x), its noise map (z, y, x) or None, and what was done."""

    data: Any
    noise: Any
    history: tuple[str, ...]
    is_fallback: bool = False


class _Kernels:
    """Calibration lines of each slice, and the GRAPPA weights made of them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, int], tuple[int, Any]] = {}
        self._targets: dict[tuple[tuple[int, int], Lattice], tuple[int, tuple[Target, ...]]] = {}

    def add(self, item: Calibration | Frame) -> None:
        """Take calibration lines, where a repetition of a slice has none yet."""
        known = self._lines.get(place(item))
        if known is None or known[0] != item.key.repetition:
            lines = calibration_lines(item)
            if lines is not None:
                self._lines[place(item)] = item.key.repetition, lines

    def targets(self, frame: Frame, lattice: Lattice) -> tuple[Target, ...]:
        """Return the weights for a frame.

        Raises
        ------
        ValueError
            There are no calibration lines, or too few for the kernel.
        """
        if place(frame) not in self._lines:
            raise ValueError("GRAPPA: expected calibration lines of this slice, got none")
        repetition, lines = self._lines[place(frame)]
        known = self._targets.get((place(frame), lattice))
        if known is None or known[0] != repetition or _coils(known[1]) != frame.kspace.shape[0]:
            known = repetition, calibrate(lines, lattice)
            self._targets[place(frame), lattice] = known
        return known[1]


def _coils(targets: tuple[Target, ...]) -> int:
    return int(targets[0].weights.shape[0])


def _combined(kspace: Any, mask: np.ndarray, maps: Any, how: str) -> _Result:
    xp = array_api_compat.array_namespace(kspace)
    images = ifftc(kspace, transformed_axes(mask))
    if maps is None:
        maps, source = walsh_maps(images), "adaptive (Walsh)"
    else:
        source = "ESPIRiT maps"
    noise = xp.astype(xp.any(maps != 0, axis=0), xp.float32)
    history = (f"{how}: {kspace.shape[0]} virtual coils combined, {source}",)
    return _Result(combine(images, maps), noise, history)


def _sense(
    frame: Frame, known: SensitivityMaps, lattice: Lattice | None, wanted: bool, *notes: str
) -> _Result:
    regularization = REGULARIZATION
    if frame.snr_units and known.typical > 0:
        regularization = min(1 / known.typical**2, STRONGEST_REGULARIZATION)
    image = sense(frame.kspace, frame.mask, known.maps, known.prior, regularization=regularization)
    history = (
        f"SENSE {_name(lattice)}: ESPIRiT maps of {known.maps.shape[0]} virtual coils, "
        f"regularization {regularization:.2g}, magnitude prior of the calibration lines"
    )
    noise = noise_map(frame.mask, known.maps, known.prior, regularization) if wanted else None
    return _Result(image, noise, (*notes, history))


def _grappa(
    frame: Frame, known: SensitivityMaps, lattice: Lattice | None, kernels: _Kernels, wanted: bool
) -> _Result:
    maps = known.maps
    try:
        if lattice is None:
            raise ValueError("GRAPPA: expected a regular sampling, got an irregular one")
        targets = kernels.targets(frame, lattice)
    except ValueError as error:
        return _sense(frame, known, lattice, wanted, f"fallback: {error}; SENSE instead")
    kspace = grappa(frame.kspace, frame.mask, lattice, targets)
    result = _combined(kspace, frame.mask, maps, f"GRAPPA {_name(lattice)}")
    noise = grappa_noise_map(targets, lattice, frame.mask, maps) if wanted else None
    return _Result(result.data, noise, result.history)


def _name(lattice: Lattice | None) -> str:
    if lattice is None:
        return "irregular"
    shift = f" shift {lattice.shift}" if lattice.shift else ""
    return f"{lattice.ry}x{lattice.rz}{shift}"


def _zero_filled(frame: Frame, reason: str) -> _Result:
    xp = array_api_compat.array_namespace(frame.kspace)
    finite = xp.isfinite(frame.kspace)
    kspace = frame.kspace if bool(xp.all(finite)) else xp.where(finite, frame.kspace, 0)
    image = root_sum_of_squares(ifftc(kspace, transformed_axes(frame.mask)))
    history = (f"fallback: {reason}; zero-filled root sum of squares",)
    return _Result(xp.astype(image, xp.float32), None, history, is_fallback=True)


def _on_length(acquired: slice | None, frame: Frame) -> slice | None:
    """Bring a range of encoded samples to the frame's length along x: the same part of k-space."""
    if acquired is None:
        return None
    encoded, nx = len(frame.readout_mask), frame.kspace.shape[3]
    start = nx // 2 - (encoded // 2 - acquired.start) * nx // encoded
    stop = nx // 2 + (acquired.stop - encoded // 2) * nx // encoded
    return slice(max(start, 0), min(stop, nx))
