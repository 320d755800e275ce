"""What travels through a chain: small frozen dataclasses with named axes.

`ReadoutBlock` and the other wire items come from `protocols.mrd`; here are the items which the
gadgets make of them. An item is never changed in place: a gadget makes a new one with
`dataclasses.replace`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from protocols.findings import Quality
from protocols.geometry import Volume


class Role(StrEnum):
    """What an image may be taken for: the difference is never to be lost on the way."""

    ACQUIRED = "acquired"
    DERIVED = "derived"
    SYNTHETIC = "synthetic"


class FrameKey(NamedTuple):
    """Counters that tell one image of a measurement from another (MRD `idx`)."""

    encoding: int
    slice: int
    contrast: int
    phase: int
    repetition: int
    set: int


@dataclass(frozen=True)
class Calibration:
    """Calibration lines of one slice, handed on as soon as they are complete.

    Attributes
    ----------
    kspace : complex64 (coil, kz, ky, x)
        A block around the k-space centre (its centre at ``n // 2`` of each axis), readout in
        image space.
    key : FrameKey
        The frame whose centre it is; later contrasts and repetitions of the slice may share it.
    """

    kspace: Any
    key: FrameKey


@dataclass(frozen=True)
class Frame:
    """One image's k-space, its readout already in image space ("hybrid" space).

    Attributes
    ----------
    kspace : complex64 (coil, kz, ky, x)
        On the encoded matrix along kz and ky (k-space centre at ``n // 2``), on the recon matrix'
        field of view along x. Zero where nothing was acquired.
    mask : bool (kz, ky)
        Where a line was acquired.
    key : FrameKey
    header : numpy.void
        MRD acquisition header (`protocols.mrd.ACQUISITION_HEADER`) of the line nearest to the
        k-space centre: the source of the geometry.
    readout_mask : bool (kx,)
        Which samples of the encoded readout were acquired: shorter than full with asymmetric
        echo.
    calibration : complex64 (coil, kz, ky, x) or None
        Calibration lines, centre at ``n // 2``. None where the scan has none of its own.
    n_readouts : int
        Readouts which went into this frame, calibration included.
    last_readout_ns : int
        Monotonic clock when its last readout arrived.
    snr_units : bool
        True where samples were prewhitened: noise sigma is 1 per real channel.
    complete : bool
        False where the stream ended before all lines had come.
    """

    kspace: Any
    mask: np.ndarray
    key: FrameKey
    header: np.void
    readout_mask: np.ndarray
    calibration: Any = None
    n_readouts: int = 0
    last_readout_ns: int = 0
    snr_units: bool = False
    complete: bool = True


@dataclass(frozen=True)
class SensitivityMaps:
    """Coil sensitivities of one slice.

    Attributes
    ----------
    maps : complex64 (coil, z, y, x)
        Unit norm over coils.
    key : FrameKey
    prior : float32 (z, y, x) or None
        Expected magnitude of the image as the calibration lines show it, in units of ``typical``.
    typical : float
        Magnitude of a typical voxel of the object, in the units of the image.
    """

    maps: Any
    key: FrameKey
    prior: Any = None
    typical: float = 0.0


@dataclass(frozen=True)
class Image:
    """One image or slab with everything a later step or a reader must know about it.

    Attributes
    ----------
    data : complex64 or float32 (z, y, x)
        In SNR units (noise sigma 1 per real channel, before g-factor) where ``snr_units``.
    key : FrameKey
    header : numpy.void
        MRD acquisition header of the line nearest to the k-space centre.
    field_of_view : tuple of 3 floats
        x, y, z in mm, of ``data``.
    quantity : str
        What a voxel holds: "magnitude", "complex", "g-factor", "snr", ...
    role : Role
    snr_units : bool
    noise_map : float32 (z, y, x) or None
        Standard deviation of the noise of ``data`` per real channel, in SNR units: the g-factor
        times the square root of the net acceleration where reconstruction is linear.
    history : tuple of str
        What was done, in order, with version or parameters.
    n_readouts, last_readout_ns, complete
        As in the frame which it was made from.
    acceleration : float
        Encoded lines divided by acquired lines.
    attributes : dict
        Extra MRD image meta, passed on verbatim.
    conventional : complex64 or float32 (z, y, x) or None
        The same image without networks, where ``data`` is a network's: what triage compares.
    """

    data: Any
    key: FrameKey
    header: np.void
    field_of_view: tuple[float, float, float]
    quantity: str = "magnitude"
    role: Role = Role.ACQUIRED
    snr_units: bool = False
    noise_map: Any = None
    history: tuple[str, ...] = ()
    n_readouts: int = 0
    last_readout_ns: int = 0
    acceleration: float = 1.0
    complete: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)
    conventional: Any = None


@dataclass(frozen=True)
class Series:
    """The complete stack of one contrast of an exam.

    Attributes
    ----------
    name : str
        The protocol's name of the step ("t2_tse_sag").
    data : float32 (z, y, x)
        Magnitudes, slices in order of position.
    volume : protocols.geometry.Volume
    weighting : str
        "t1", "t2", "t2_fs", "stir", "pd", "unknown": by the sequence's TR, TE and TI; "pdff" where
        voxels are fat fractions, 0 to 1.
    snr_units : bool
    last_readout_ns : int
    conventional : float32 (z, y, x) or None
        Magnitudes of the same data reconstructed without networks, where ``data`` are a network's.
    thickness_mm : float or None
        Of a slice, without the gap; None where it is not known.
    noise : float32 (z, y, x) or None
        The images' noise maps: standard deviation of the noise of ``data`` (of a network that
        predicts it, its error), 0 where nothing can be. None where one of the images has none.
    """

    name: str
    data: np.ndarray
    volume: Volume
    weighting: str = "unknown"
    snr_units: bool = False
    last_readout_ns: int = 0
    conventional: np.ndarray | None = None
    thickness_mm: float | None = None
    noise: np.ndarray | None = None


@dataclass(frozen=True)
class LabelMap:
    """What is where in the spine.

    Attributes
    ----------
    labels : uint8 (z, y, x)
        Index into ``names``; 0 is none of them.
    names : tuple of str
        "", then "L5", "L4/L5", "canal", "sacrum", "SI_left", "SI_right", ...
    volume : protocols.geometry.Volume
    landmarks : dict of str to float64 (3)
        LPS mm. "L3" (body centre), "L3_superior_anterior", "L3_superior_posterior",
        "L3_inferior_anterior", "L3_inferior_posterior" (end plate corners),
        "S2_dorsal_superior", "S2_dorsal_inferior" (ends of the dorsal cortex of S1, S2, S3),
        "SI_left", "SI_right" (middle of the auricular surface). Those which were not seen are
        missing.
    confidence : dict of str to float
        0 to 1, of each landmark and of "levels": whether the numbering is right.
    notes : tuple of str
        What it is not sure of, in words.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    volume: Volume
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A series with what is where in it, and how good it is: what triage looks at.

    Attributes
    ----------
    series : Series
    labels : LabelMap or None
        None where nothing was recognised.
    quality : protocols.findings.Quality
    """

    series: Series
    labels: LabelMap | None
    quality: Quality
