"""Bone contrast like that of CT from in-phase gradient echoes: FRACTURE. Physics only.

Johnson, Alizai and Dempsey, "Fast field echo resembling a CT using restricted echo-spacing",
Skeletal Radiol 50 (2021) 1705-1713: the magnitudes of all in-phase echoes are summed, the last one
is subtracted, and the grey scale is inverted, so that what gives no signal at any echo (cortical
bone) is bright, and what gives much (fat, marrow, muscle) is dark. In phase, fat and water do not
cancel where they share a voxel, which would look like bone.

Surface coils see less with depth, which inverted would look like bone too: the signal is first
divided by its own local mean. Air and gas give no signal either. Air around the body, and what the
coils hardly see, is set to black; gas within the body, metal, and tendons stay as bright as
cortical bone, for nothing in these echoes tells them apart. Grey values are signal, inverted: no
Hounsfield units, and no measure of bone density.
"""

from collections.abc import Iterator
from typing import Any

import array_api_compat
import numpy as np
from scipy import ndimage

from gadgets.items import Image, Role
from gadgets.synthesis.marks import Unavailable, say_unavailable, synthetic
from protocols.header import Header
from protocols.meta import Value

GYROMAGNETIC_MHZ_PER_T = 42.577478518
FAT_SHIFT_PPM = 3.4
"""Of the main fat peak below water (ISMRM fat-water challenge, 2012)."""
IN_PHASE_CYCLES = 0.1
"""Most by which an echo may miss the in-phase time: there fat and water still add to 95 %."""
FEWEST_ECHOES = 3
SHADING_MM = 30.0
"""Standard deviation of the Gaussian over which the local mean is taken."""
SEEN_SIGMAS = 3.0
DARKEST = 0.01
"""Of the brightest signal: below is nothing, where the noise is not known."""
LEAST_SEEN = 0.05
"""Share of voxels with signal around a voxel, below which nothing is known of its surroundings."""
AIR = 0.3
"""Of the local mean: what is darker, and joined to the edge of its slice, lies around the body."""
LEAST_SNR = 10.0
"""Of the body, in the sum of the echoes."""


def in_phase(te_ms: tuple[float, ...], field_t: float) -> list[bool]:
    """Return of each echo whether fat and water are in phase."""
    cycles = np.array(te_ms) * 1e-3 * FAT_SHIFT_PPM * GYROMAGNETIC_MHZ_PER_T * field_t
    near = np.rint(cycles)
    return [bool(b) for b in (near >= 1) & (np.abs(cycles - near) <= IN_PHASE_CYCLES)]


def fracture(
    echoes: np.ndarray,
    te_ms: tuple[float, ...],
    field_t: float,
    noise: np.ndarray | float = 0.0,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[np.ndarray, float]:
    """Return the inverted image and its level.

    Parameters
    ----------
    echoes : complex64 or float32 (echo, z, y, x)
    te_ms : tuple of float
        Of each echo; those which are not in phase are left out.
    field_t : float
    noise : float32 (z, y, x) or float
        Standard deviation of an echo per real channel; 0 where it is not known.
    spacing_mm : tuple of 3 float
        Between voxels along z, y, x.

    Returns
    -------
    image : float32 (z, y, x)
        ``level`` less the signal relative to its local mean; 0 in the air around the body.
    level : float
        So that ``level - image`` gives that relative signal back, up to ``level``.

    Raises
    ------
    Unavailable
        Too few echoes in phase, echoes which are not evenly spaced, or too little signal.
    """
    if len(te_ms) != len(echoes):
        raise Unavailable(f"expected {len(te_ms)} echoes, as the header says, got {len(echoes)}")
    chosen = np.flatnonzero(in_phase(te_ms, field_t))
    times = np.array(te_ms)[chosen]
    if len(chosen) < FEWEST_ECHOES:
        raise Unavailable(
            f"expected {FEWEST_ECHOES} or more echoes with fat and water in phase"
            f" (multiples of {_period_ms(field_t):.2f} ms at {field_t:g} T), got {len(chosen)}"
            f" of TE {', '.join(f'{te:g}' for te in te_ms)} ms"
        )
    if np.ptp(np.diff(times)) > 2 * IN_PHASE_CYCLES * _period_ms(field_t):
        raise Unavailable(f"expected evenly spaced echoes in phase, got TE {times.tolist()} ms")
    magnitudes = np.abs(echoes[np.sort(chosen)]).astype(np.float32)
    if not np.isfinite(magnitudes).all():
        raise Unavailable("expected finite values, got NaN or Inf")
    signal = magnitudes.sum(axis=0) - magnitudes[times.argmax()]
    sigma = np.broadcast_to(np.float32(np.sqrt(len(chosen) - 1)) * noise, signal.shape)
    seen = signal > np.maximum(SEEN_SIGMAS * sigma, DARKEST * signal.max())
    snr = np.median(signal[seen] / np.maximum(sigma[seen], 1e-9)) if seen.any() else 0.0
    if snr < LEAST_SNR:
        raise Unavailable(
            f"expected a signal-to-noise ratio of {LEAST_SNR:g} or more in the sum of the echoes,"
            f" got {snr:.3g}"
        )
    relative, known = _without_shading(signal, seen, spacing_mm)
    body = known & ~_air_around(relative, seen & known)
    if not body.any():
        raise Unavailable("expected a body with air around it, found none")
    level = float(np.percentile(relative[body], 99.5))
    image = np.where(body, np.clip(level - relative, 0, None), 0)
    return image.astype(np.float32), level


def _period_ms(field_t: float) -> float:
    return 1e3 / (FAT_SHIFT_PPM * GYROMAGNETIC_MHZ_PER_T * field_t)


def _without_shading(
    signal: np.ndarray, seen: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the signal relative to its local mean, and where that is known."""
    widths = [SHADING_MM / mm for mm in spacing_mm]
    share, total = (
        ndimage.gaussian_filter(values.astype(np.float32), widths, mode="nearest", truncate=2.5)
        for values in (seen, signal * seen)
    )
    known = share > LEAST_SEEN
    return np.divide(signal * share, total, out=np.zeros_like(total), where=known), known


def _air_around(relative: np.ndarray, seen: np.ndarray) -> np.ndarray:
    near = (1, 3, 3)
    dark = ndimage.uniform_filter(relative, near) < AIR
    dark |= ndimage.uniform_filter(seen.astype(np.float32), near) < 0.5
    air = np.empty(dark.shape, bool)
    for z, plane in enumerate(dark):
        air[z] = ndimage.binary_propagation(_edge(plane.shape) & plane, mask=plane)
    return air


def _edge(shape: tuple[int, ...]) -> np.ndarray:
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    return edge


class Fracture:
    """Make the bone contrast of a multi-echo gradient echo (a gadget).

    Images pass at once and unchanged; when all echoes of a slice or slab are there its synthetic
    image follows, of the quantity "fracture". Where it cannot be made, none follows, and the log
    says why.

    Parameters
    ----------
    header : Header
    """

    def __init__(self, header: Header) -> None:
        parameters, system = header.sequenceParameters, header.acquisitionSystemInformation
        try:
            self._te_ms = tuple(float(te) for te in parameters.TE) if parameters else ()
            self._field_t = float(getattr(system, "systemFieldStrength_T", None) or 0.0)
        except (TypeError, ValueError):  # What the schema cannot read stays text.
            self._te_ms, self._field_t = (), 0.0

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        echoes: dict[Any, dict[int, Image]] = {}
        for item in items:
            yield item
            if not _is_echo(item):
                continue
            own = echoes.setdefault(item.key._replace(contrast=0), {})
            own[item.key.contrast] = item
            if len(own) == len(self._te_ms):
                del echoes[item.key._replace(contrast=0)]
                yield from self._image([own[echo] for echo in sorted(own)])
        for own in echoes.values():  # Of all echoes of which some never came.
            reason = Unavailable(f"expected {len(self._te_ms)} echoes, got {len(own)}")
            say_unavailable("bone contrast (FRACTURE)", reason)

    def _image(self, images: list[Image]) -> Iterator[Image]:
        try:
            if not self._field_t or not all(image.complete for image in images):
                raise Unavailable("expected whole images and the field strength in the MRD header")
            data = np.stack([_numpy(image.data) for image in images])
            noise: np.ndarray | float = 0.0
            if images[0].snr_units:
                noise = 1.0 if (own := images[0].noise_map) is None else _numpy(own)
            width, height, depth = images[0].field_of_view
            z, y, x = data.shape[1:]
            spacing = (depth / z, height / y, width / x)
            image, level = fracture(data, self._te_ms, self._field_t, noise, spacing)
        except Unavailable as reason:
            say_unavailable("bone contrast (FRACTURE)", reason)
            return
        used = [te for te, good in zip(self._te_ms, in_phase(self._te_ms, self._field_t)) if good]
        method = (
            f"FRACTURE (Johnson 2021): sum of in-phase echoes at {used} ms less the last, over"
            f" its local mean, inverted from {level:.6g}; no Hounsfield units;"
            " gas, metal and tendon look like bone"
        )
        attributes: dict[str, Value] = {"BoresideFractureLevel": level}
        yield synthetic(images[0], image, "fracture", method, attributes)


def _is_echo(item: Any) -> bool:
    return (
        isinstance(item, Image)
        and item.role is Role.ACQUIRED
        and item.quantity in ("complex", "magnitude")
    )


def _numpy(array: Any) -> np.ndarray:
    return array.get() if array_api_compat.is_cupy_array(array) else np.asarray(array)
