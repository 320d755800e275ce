"""What a protocol sets at the console: pulse sequence, geometry and sampling of one step.

Plain frozen values, no physics: `scanner.signal` makes signals of a sequence, `scanner.trajectory`
makes lines and times of a sampling. Positions and directions are DICOM LPS in mm.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

GYROMAGNETIC_MHZ_PER_T = 42.577478518


@dataclass(frozen=True)
class TurboSpinEcho:
    """A 2D turbo spin echo, with an inversion before it where ``ti_ms`` is set (STIR).

    Attributes
    ----------
    tr_ms, te_ms : float
        Repetition time and effective echo time. The echo nearest to ``te_ms`` carries the
        k-space centre.
    echo_spacing_ms : float
    refocusing_deg : tuple of float
        One flip angle for each refocusing pulse; its length is the echo train length.
    bandwidth_hz_per_pixel : float
        Of a pixel of the field of view, readout oversampling not counted.
    ti_ms : float or None
    inversion_efficiency : float
    """

    tr_ms: float
    te_ms: float
    echo_spacing_ms: float
    refocusing_deg: tuple[float, ...]
    bandwidth_hz_per_pixel: float
    ti_ms: float | None = None
    inversion_efficiency: float = 0.97

    @property
    def echo_train_length(self) -> int:
        return len(self.refocusing_deg)

    @property
    def centre_echo(self) -> int:
        """Index in the train of the echo that carries the k-space centre."""
        echo = round(self.te_ms / self.echo_spacing_ms) - 1
        return int(np.clip(echo, 0, self.echo_train_length - 1))


@dataclass(frozen=True)
class GradientEcho:
    """A spoiled gradient echo, 2D or 3D, with one contrast for each echo time.

    Attributes
    ----------
    tr_ms : float
    te_ms : tuple of float
        All read with the same gradient polarity.
    flip_deg : float
    bandwidth_hz_per_pixel : float
    """

    tr_ms: float
    te_ms: tuple[float, ...]
    flip_deg: float
    bandwidth_hz_per_pixel: float


Sequence = TurboSpinEcho | GradientEcho


@dataclass(frozen=True)
class Geometry:
    """Slices of a 2D scan or the slab of a 3D scan, and the matrix on which they are encoded.

    A pixel whose index is half of its axis (``n // 2``) lies at ``centre``.

    Attributes
    ----------
    centre : (3) mm
        Of the stack or slab.
    read_dir, phase_dir : (3)
        Orthogonal unit vectors; the slice direction is their cross product.
    field_of_view_mm : (2)
        Along readout and phase, of the image.
    matrix : (2)
        Of the image (recon space), along readout and phase.
    slices : int
        Slices, or partitions of a slab.
    thickness_mm, gap_mm : float
        Of a slice or partition; a slab has no gaps.
    volumetric : bool
        Whether the slices are the partitions of one 3D slab.
    phase_resolution : float
        Encoded over recon resolution along phase, up to 1; the rest is zero-filled.
    phase_oversampling : float
        Extra encoded field of view along phase, as a fraction; not in the image.
    """

    centre: tuple[float, float, float]
    read_dir: tuple[float, float, float]
    phase_dir: tuple[float, float, float]
    field_of_view_mm: tuple[float, float]
    matrix: tuple[int, int]
    slices: int
    thickness_mm: float
    gap_mm: float = 0.0
    volumetric: bool = False
    phase_resolution: float = 1.0
    phase_oversampling: float = 0.0

    def __post_init__(self) -> None:
        directions = np.array([self.read_dir, self.phase_dir])
        if not np.allclose(directions @ directions.T, np.eye(2), atol=1e-3):
            raise ValueError(
                "read_dir and phase_dir must be orthogonal unit vectors, "
                f"got {self.read_dir} and {self.phase_dir}"
            )

    @property
    def slice_dir(self) -> np.ndarray:
        """Normal of the slices, float64 (3)."""
        return np.cross(self.read_dir, self.phase_dir)

    @property
    def encoded_matrix(self) -> tuple[int, int, int]:
        """Encoded samples along readout (oversampled twice), phase and partition."""
        phase = 2 * round(self.oversampled_phase * self.phase_resolution / 2)
        return 2 * self.matrix[0], phase, self.slices if self.volumetric else 1

    @property
    def oversampled_phase(self) -> int:
        """Pixels along phase of the oversampled image, at the resolution of the image."""
        return 2 * round(self.matrix[1] * (1 + self.phase_oversampling) / 2)

    @property
    def encoded_field_of_view_mm(self) -> tuple[float, float, float]:
        """Field of view that the encoded matrix covers, along readout, phase and partition."""
        phase = self.oversampled_phase * self.field_of_view_mm[1] / self.matrix[1]
        return 2 * self.field_of_view_mm[0], phase, self.encoded_matrix[2] * self.thickness_mm

    def slice_centres(self) -> np.ndarray:
        """Return the centres in LPS mm, float64 (image, 3): one per slice, one for a slab."""
        if self.volumetric:
            return np.array([self.centre], float)
        offsets = (np.arange(self.slices) - (self.slices - 1) / 2) * (
            self.thickness_mm + self.gap_mm
        )
        return np.asarray(np.asarray(self.centre) + offsets[:, None] * self.slice_dir)


@dataclass(frozen=True)
class Sampling:
    """Which lines of the encoded matrix are acquired, and how often.

    Attributes
    ----------
    acceleration : (2) int
        Along phase and partition.
    calibration : (2) int
        Fully sampled lines around the k-space centre, along phase and partition.
    caipi_shift : int
        Shift along partition from one acquired phase line to the next.
    calibration_mode : str
        "embedded": calibration lines are part of the image scan. "separate": all of them are read
        before it.
    random : bool
        Variable density random instead of regular undersampling.
    phase_partial_fourier, readout_partial_fourier : float
        Fraction of k-space that is acquired; its beginning is left out.
    averages, repetitions : int
    """

    acceleration: tuple[int, int] = (1, 1)
    calibration: tuple[int, int] = (0, 0)
    caipi_shift: int = 0
    calibration_mode: Literal["embedded", "separate"] = "embedded"
    random: bool = False
    phase_partial_fourier: float = 1.0
    readout_partial_fourier: float = 1.0
    averages: int = 1
    repetitions: int = 1

    def __post_init__(self) -> None:
        for name in ("phase_partial_fourier", "readout_partial_fourier"):
            if not 0.5 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0.5, 1], got {getattr(self, name)}")
        if min(*self.acceleration, self.averages, self.repetitions) < 1:
            raise ValueError("acceleration, averages and repetitions must be 1 or more")


@dataclass(frozen=True)
class NoiseScan:
    """Readouts without excitation, before the first line.

    Attributes
    ----------
    readouts, samples : int
    dwell_us : float
        Its own, not that of the image scan.
    """

    readouts: int = 128
    samples: int = 256
    dwell_us: float = 5.0


@dataclass(frozen=True)
class Protocol:
    """Everything set at the console for one step.

    Attributes
    ----------
    name : str
        Series description.
    """

    name: str
    sequence: Sequence
    geometry: Geometry
    sampling: Sampling = field(default_factory=Sampling)
    noise_scan: NoiseScan = field(default_factory=NoiseScan)

    @property
    def dwell_us(self) -> float:
        """Time between two samples of an imaging readout."""
        samples = self.geometry.encoded_matrix[0]
        return 1e6 / (self.sequence.bandwidth_hz_per_pixel * samples)

    @property
    def first_sample(self) -> int:
        """First acquired sample on the encoded readout: above 0 with an asymmetric echo."""
        samples = self.geometry.encoded_matrix[0]
        return samples - 2 * round(samples * self.sampling.readout_partial_fourier / 2)
