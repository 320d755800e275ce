"""Real brain k-space as a scanner would send it: 8 channels, undersampled when it was acquired.

The file holds one plane of k-space with a variable-density random pattern in both directions. No
scanner can leave out single samples of a readout, but the plane (ky, kz) of a 3D scan at one
position along its readout looks just like this: every sample a readout of its own. So it is sent
as a 3D Cartesian scan whose readout has one sample, already in image space.

There is no fully sampled truth, no noise scan and no record of geometry: pixels are taken to be
1 mm, and the plane to be axial.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ismrmrd import xsd

from protocols.mrd import Message
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag, HeaderText, ReadoutBlock

FILE_NAME = "brain_8ch_ksp.npy"
NAME = "brain_3d"
PIXEL_MM = 1.0


def brain_messages(path: Path, block_size: int = 512) -> Iterator[Message]:
    """Yield the header and the readouts of a k-space plane.

    Parameters
    ----------
    path : Path
        complex64 (coil, ky, kz), zero where nothing was acquired, centre at ``n // 2``.
    block_size : int
        Most readouts in a block.
    """
    kspace = np.load(path).astype(np.complex64, copy=False)
    mask = (kspace != 0).any(axis=0)
    yield HeaderText(_header(kspace.shape, mask))
    kz, ky = np.nonzero(mask.T)
    headers = _readout_headers(len(kspace), ky, kz)
    samples = np.ascontiguousarray(kspace[:, ky, kz].T)[:, :, None]
    for start in range(0, len(headers), block_size):
        piece = slice(start, start + block_size)
        yield ReadoutBlock(headers[piece], samples[piece])


def full_centre(mask: np.ndarray) -> tuple[int, int]:
    """Return the size of the greatest fully sampled block around the centre of (ky, kz)."""
    ny, nz = mask.shape
    half = 0
    while half < min(ny, nz) // 2 and _around_centre(mask, half + 1).all():
        half += 1
    return 2 * half, 2 * half


def _around_centre(mask: np.ndarray, half: int) -> np.ndarray:
    y, z = (n // 2 for n in mask.shape)
    return mask[y - half : y + half, z - half : z + half]


def _header(shape: tuple[int, ...], mask: np.ndarray) -> str:
    coils, ny, nz = shape

    def limit(count: int) -> xsd.limitType:
        return xsd.limitType(minimum=0, maximum=count - 1, center=count // 2)

    def space() -> xsd.encodingSpaceType:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=1, y=ny, z=nz),
            fieldOfView_mm=xsd.fieldOfViewMm(x=PIXEL_MM, y=ny * PIXEL_MM, z=nz * PIXEL_MM),
        )

    one = limit(1)
    return str(
        xsd.ToXML(
            xsd.ismrmrdHeader(
                version=1,
                measurementInformation=xsd.measurementInformationType(
                    measurementID="boreside_brain_real_1",
                    patientPosition=xsd.patientPositionType.HFS,
                    protocolName=NAME,
                    seriesDescription=NAME,
                ),
                acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
                    receiverChannels=coils
                ),
                experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=0),
                encoding=[
                    xsd.encodingType(
                        encodedSpace=space(),
                        reconSpace=space(),
                        encodingLimits=xsd.encodingLimitsType(
                            kspace_encoding_step_0=one,
                            kspace_encoding_step_1=limit(ny),
                            kspace_encoding_step_2=limit(nz),
                            average=one,
                            slice=one,
                            contrast=one,
                            phase=one,
                            repetition=one,
                            set=one,
                            segment=one,
                        ),
                        trajectory=xsd.trajectoryType.CARTESIAN,
                        parallelImaging=xsd.parallelImagingType(
                            accelerationFactor=xsd.accelerationFactorType(
                                kspace_encoding_step_1=round(mask.size / mask.sum()),
                                kspace_encoding_step_2=1,
                            ),
                            calibrationMode=xsd.calibrationModeType.EMBEDDED,
                        ),
                    )
                ],
                userParameters=xsd.userParametersType(
                    userParameterLong=[
                        xsd.userParameterLongType(name=f"EmbeddedRefLinesE{axis}", value=lines)
                        for axis, lines in enumerate(full_centre(mask), start=1)
                    ]
                ),
            )
        )
    )


def _readout_headers(coils: int, ky: np.ndarray, kz: np.ndarray) -> np.ndarray:
    headers = np.zeros(len(ky), ACQUISITION_HEADER)
    headers["version"] = 1
    headers["measurement_uid"] = 1
    headers["scan_counter"] = 1 + np.arange(len(ky))
    headers["number_of_samples"] = 1
    headers["available_channels"] = headers["active_channels"] = coils
    headers["channel_mask"][:, 0] = (1 << coils) - 1
    headers["read_dir"] = (0, 0, -1)
    headers["phase_dir"] = (0, 1, 0)
    headers["slice_dir"] = (1, 0, 0)
    headers["idx"]["kspace_encode_step_1"] = ky
    headers["idx"]["kspace_encode_step_2"] = kz
    first = AcquisitionFlag.FIRST_IN_SLICE | AcquisitionFlag.FIRST_IN_REPETITION
    last = (
        AcquisitionFlag.LAST_IN_SLICE
        | AcquisitionFlag.LAST_IN_REPETITION
        | AcquisitionFlag.LAST_IN_MEASUREMENT
    )
    headers["flags"][0] |= np.uint64(first)
    headers["flags"][-1] |= np.uint64(last)
    return headers
