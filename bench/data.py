"""Synthetic measurements for the benchmarks: `bench.simulated` as a scanner would send it."""

from dataclasses import dataclass

import ismrmrd.xsd as xsd
import numpy as np
import scipy.fft

from bench.simulated import multicoil
from protocols.header import header_text
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, HeaderText, ReadoutBlock


@dataclass(frozen=True)
class Measurement:
    """A Cartesian measurement, as a scanner would send it.

    Attributes
    ----------
    header : HeaderText
    noise : ReadoutBlock
        Noise readouts.
    readouts : ReadoutBlock
        Imaging readouts in order of partition and line; the last one carries LAST_IN_SLICE.
    truth : float32 (z, y, x)
        Root sum of squares of the noise-free, fully sampled coil images.
    kspace : complex64 (coil, z, y, x)
        What was sampled, zero elsewhere, without oversampling.
    """

    header: HeaderText
    noise: ReadoutBlock
    readouts: ReadoutBlock
    truth: np.ndarray
    kspace: np.ndarray


def measurement(
    matrix: tuple[int, int, int] = (256, 256, 1),
    coils: int = 16,
    acceleration: int = 1,
    calibration: int = 24,
    snr: float = 50.0,
) -> Measurement:
    """Make a measurement of ``matrix`` (x, y, z), regularly undersampled along y.

    Noise has standard deviation 1 per real channel of an orthonormal k-space sample.
    """
    nx, ny, nz = matrix
    simulated = multicoil(coils, (nz, ny, nx), snr=snr)
    images = (simulated.image * simulated.maps).astype(np.complex64)
    truth = np.sqrt(np.sum(np.abs(images) ** 2, axis=0))
    wide = np.pad(images, ((0, 0), (0, 0), (0, 0), (nx // 2, nx - nx // 2)))
    axes = (1, 2, 3)
    kspace = scipy.fft.fftshift(
        scipy.fft.fftn(scipy.fft.ifftshift(wide, axes), axes=axes, norm="ortho", workers=2), axes
    )
    rng = np.random.default_rng(5)
    kspace += rng.standard_normal((*kspace.shape, 2), np.float32).view(np.complex64)[..., 0]
    line = np.arange(ny)
    near = np.abs(line - ny // 2) < calibration // 2
    on_grid = (line - ny // 2) % acceleration == 0
    lines = line[on_grid | near] if acceleration > 1 else line
    headers = np.zeros(nz * len(lines), ACQUISITION_HEADER)
    headers["idx"]["kspace_encode_step_1"] = np.tile(lines, nz)
    headers["idx"]["kspace_encode_step_2"] = np.repeat(np.arange(nz), len(lines))
    if acceleration > 1:
        both = int(AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)
        headers["flags"] |= np.where(np.tile(near[lines], nz), np.uint64(both), np.uint64(0))
    _common(headers, 2 * nx, coils)
    headers["flags"][-1] |= np.uint64(
        AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT
    )
    samples = kspace[:, :, lines].transpose(1, 2, 0, 3).reshape(len(headers), coils, 2 * nx)
    sampled = np.zeros_like(images)
    narrow = scipy.fft.ifftn(scipy.fft.ifftshift(kspace, 3), axes=(3,), norm="ortho")
    narrow = scipy.fft.fftshift(narrow, 3)[..., nx // 2 : nx // 2 + nx]
    narrow = scipy.fft.fftn(scipy.fft.ifftshift(narrow, 3), axes=(3,), norm="ortho")
    sampled[:, :, lines] = scipy.fft.fftshift(narrow, 3)[:, :, lines]
    return Measurement(
        header(matrix, acceleration),
        _noise_scan(2 * nx, coils, rng),
        ReadoutBlock(headers, np.ascontiguousarray(samples)),
        truth,
        sampled,
    )


def _common(headers: np.ndarray, samples: int, coils: int) -> None:
    headers["version"] = 1
    headers["number_of_samples"] = samples
    headers["active_channels"] = headers["available_channels"] = coils
    headers["center_sample"] = samples // 2
    headers["sample_time_us"] = 5
    headers["read_dir"], headers["phase_dir"] = (1, 0, 0), (0, 1, 0)
    headers["slice_dir"] = (0, 0, 1)
    headers["scan_counter"] = np.arange(len(headers))


def _noise_scan(samples: int, coils: int, rng: np.random.Generator) -> ReadoutBlock:
    headers = np.zeros(16, ACQUISITION_HEADER)
    _common(headers, samples, coils)
    headers["flags"] = int(AcquisitionFlag.IS_NOISE_MEASUREMENT)
    values = rng.standard_normal((16, coils, samples, 2), np.float32).view(np.complex64)[..., 0]
    return ReadoutBlock(headers, values)


def header(matrix: tuple[int, int, int], acceleration: int = 1) -> HeaderText:
    """Return the MRD header of a scan of ``matrix`` (x, y, z), oversampled twice along x."""
    nx, ny, nz = matrix

    def space(x: int, fov: float) -> xsd.encodingSpaceType:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=x, y=ny, z=nz),
            fieldOfView_mm=xsd.fieldOfViewMm(x=fov, y=300, z=5.0 * nz),
        )

    def limit(count: int) -> xsd.limitType:
        return xsd.limitType(minimum=0, maximum=count - 1, center=count // 2)

    text = header_text(
        xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(
                H1resonanceFrequency_Hz=123_200_000
            ),
            acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
                relativeReceiverNoiseBandwidth=1.0
            ),
            encoding=[
                xsd.encodingType(
                    encodedSpace=space(2 * nx, 600),
                    reconSpace=space(nx, 300),
                    encodingLimits=xsd.encodingLimitsType(
                        kspace_encoding_step_1=limit(ny), kspace_encoding_step_2=limit(nz)
                    ),
                    trajectory=xsd.trajectoryType.CARTESIAN,
                    parallelImaging=xsd.parallelImagingType(
                        accelerationFactor=xsd.accelerationFactorType(
                            kspace_encoding_step_1=acceleration, kspace_encoding_step_2=1
                        ),
                        calibrationMode=xsd.calibrationModeType.EMBEDDED,
                    ),
                )
            ],
        )
    )
    return HeaderText(text)
