"""Multi-echo Dixon measurements of the virtual scanner, in a field as bad as wanted.

As any step of the virtual scanner: complex multi-coil k-space of the phantom's water and six-peak
fat with T2*, chemical shift and noise. The phantom's field is scaled until it reaches a given
off-resonance within the body, and every echo gets a phase: the same for all, as the receiver's, and
one that eddy currents leave, which fades from echo to echo. All data are simulated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanner.exam import FRONT_TO_BACK, HEAD_TO_FEET
from scanner.header import Identity
from scanner.rasterise import Axis, ScanObject, grid
from scanner.sequence import (
    GYROMAGNETIC_MHZ_PER_T,
    Geometry,
    GradientEcho,
    Protocol,
    Sampling,
)
from scanner.step import Step, make_scanner
from scanner.tissues import tissue_table

RECEIVER_RAD = 1.0
EDDY_RAD = 0.05
"""Of the first echo."""
EDDY_MS = 2.0
"""In which it falls to 1/e."""
VISIBLE_MS = 2.0
"""T2* below which a tissue is gone before its first echo: it has no share in the truth."""


@dataclass(frozen=True)
class BadField:
    """An object whose off-resonance reaches a given one within the body.

    Attributes
    ----------
    thing : ScanObject
    scale, offset_ppm : float
    """

    thing: ScanObject
    scale: float
    offset_ppm: float

    def sample(self, points: np.ndarray) -> Any:
        """Tissue at points (..., 3), LPS mm."""
        return self.thing.sample(points)

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm at points (..., 3), float32 (...)."""
        ppm = (self.thing.b0_ppm(points) - self.offset_ppm) * self.scale
        return np.asarray(ppm, np.float32)


@dataclass(frozen=True)
class DixonStep(Step):
    """A multi-echo gradient echo whose echoes have phases of their own."""

    def kspace(self) -> Iterator[np.ndarray]:
        """Yield each image's k-space as `Step.kspace`, complex64 (echo, coil, kz, ky, kx)."""
        assert isinstance(self.protocol.sequence, GradientEcho)
        te_ms = np.array(self.protocol.sequence.te_ms)
        angle = RECEIVER_RAD + EDDY_RAD * np.exp(-(te_ms - te_ms[0]) / EDDY_MS)
        phase = np.exp(1j * angle).astype(np.complex64)
        for full in super().kspace():
            yield full * phase[:, None, None, None, None]

    def pdff(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the true fat fraction and proton density, float32 (z, y, x) each.

        On the recon matrix, each voxel the mean of eight points within it.
        """
        geometry = self.protocol.geometry
        (nx, ny), nz = geometry.matrix, geometry.slices
        dx, dy = (mm / n for mm, n in zip(geometry.field_of_view_mm, (nx, ny), strict=True))
        dz = geometry.thickness_mm
        table = tissue_table(self.scanner.field_t)
        density = np.array([t.pd if t.t2star_ms > VISIBLE_MS else 0.0 for t in table])
        whole, fat = np.zeros((nz, ny, nx), np.float32), np.zeros((nz, ny, nx), np.float32)
        for corner in np.ndindex(2, 2, 2):
            x, y, z = np.array(corner) / 2 - 0.25
            columns = Axis((x - nx // 2) * dx, dx, nx)
            rows = Axis((y - ny // 2) * dy, dy, ny)
            if geometry.volumetric:
                depths = Axis((z - nz // 2) * dz, dz, nz)
                parts = [grid(geometry, np.asarray(geometry.centre), (columns, rows, depths))]
            else:
                depth = (columns, rows, Axis(z * dz, dz, 1))
                parts = [grid(geometry, centre, depth) for centre in geometry.slice_centres()]
            points = np.concatenate(parts)
            tissue = self.scanner.thing.sample(points.astype(np.float32))
            for part in (tissue, getattr(tissue, "lesion", None)):
                if part is not None:
                    amount = part.density * density[part.labels] / 8
                    whole += amount
                    fat += amount * part.fat_fraction
        fraction = np.divide(fat, whole, out=np.zeros_like(fat), where=whole > 0)
        return fraction, whole


def bad_field(thing: ScanObject, field_t: float, reach_hz: float) -> BadField:
    """Scale the field of an object until it reaches ``reach_hz`` within the body, either way."""
    axis = np.arange(-180.0, 181.0, 12.0)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    ppm = thing.b0_ppm(points[np.asarray(thing.sample(points).labels) > 0])
    middle = float(np.median(ppm))
    reach_ppm = reach_hz / (GYROMAGNETIC_MHZ_PER_T * field_t)
    return BadField(thing, reach_ppm / float(np.max(np.abs(ppm - middle))), middle)


def dixon_step(
    thing: ScanObject,
    te_ms: tuple[float, ...],
    field_t: float = 3.0,
    reach_hz: float = 300.0,
    slices: int = 1,
    volumetric: bool = False,
    matrix: int = 128,
    noise_level: float = 1.0,
    acceleration: int = 2,
    exam: str = "dixon",
) -> DixonStep:
    """Return a sagittal multi-echo Dixon, 2D or 3D, of 420 mm field of view.

    Parameters
    ----------
    thing : ScanObject
    te_ms : tuple of float
    field_t : float
        1.5 or 3.
    reach_hz : float
        Largest off-resonance within the body.
    slices : int
        Slices of 5 mm, or partitions.
    volumetric : bool
    matrix : int
    noise_level : float
        Times the usual noise.
    acceleration : int
        Along phase.
    exam : str
    """
    geometry = Geometry(
        (0.0, 0.0, 0.0),
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        field_of_view_mm=(420.0, 420.0),
        matrix=(matrix, matrix),
        slices=slices,
        thickness_mm=5.0,
        volumetric=volumetric,
    )
    shots = 1 if volumetric else slices
    sequence = GradientEcho(shots * (te_ms[-1] + 3.0), te_ms, 3.0, 1200.0)
    sampling = Sampling(
        acceleration=(acceleration, 1), calibration=(24, slices if volumetric else 0)
    )
    scanner = make_scanner(
        bad_field(thing, field_t, reach_hz),
        anterior=True,
        field_t=field_t,
        noise_level=noise_level,
        exam=exam,
    )
    protocol = Protocol("dixon_3d" if volumetric else "dixon_2d", sequence, geometry, sampling)
    return DixonStep(scanner, protocol, Identity(1, exam, 36000.0))
