"""What a scanner tells about a step: the MRD header as XML, and the header of each readout.

Counters, limits and user parameters follow what siemens_to_ismrmrd makes of a Siemens measurement:
phase-encode counters start at the first acquired line of k-space, so that with partial Fourier the
limits' ``center`` is not half of the matrix; ``idx.user[5]`` and ``[6]`` repeat the centre line and
partition. Times are ticks of 2.5 ms since midnight. Nothing here can identify a person.
"""

import uuid
from dataclasses import dataclass

import numpy as np
from ismrmrd import xsd

from protocols.header import header_text
from protocols.mrd_types import ACQUISITION_HEADER, AcquisitionFlag
from scanner.noise import RELATIVE_BANDWIDTH
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T, Protocol, TurboSpinEcho
from scanner.trajectory import Lines, Schedule

TICK_S = 2.5e-3
NOISE_REPETITION_S = 5e-3


@dataclass(frozen=True)
class Identity:
    """Names of one measurement of one exam.

    Attributes
    ----------
    measurement_uid : int
        Counts the measurements of the exam.
    exam : str
        Any text; the exam's UIDs are made of it.
    start_s : float
        Of the measurement, seconds since midnight.
    """

    measurement_uid: int
    exam: str
    start_s: float

    def uid(self, what: str) -> str:
        """Return a DICOM UID that is the same whenever the same exam is simulated again."""
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'boreside/{self.exam}/{what}').int}"


def first_row(protocol: Protocol) -> int:
    """Return the first row of the encoded matrix that a measurement may acquire."""
    ny = protocol.geometry.encoded_matrix[1]
    return ny - round(ny * protocol.sampling.phase_partial_fourier)


def _space(matrix: tuple[int, int, int], fov: tuple[float, float, float]) -> xsd.encodingSpaceType:
    lengths = (round(float(length), 4) for length in fov)
    return xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(**dict(zip("xyz", matrix, strict=True))),
        fieldOfView_mm=xsd.fieldOfViewMm(**dict(zip("xyz", lengths, strict=True))),
    )


def measurement_header(
    protocol: Protocol, identity: Identity, coil_names: tuple[str, ...], field_t: float
) -> str:
    """Return the MRD header of a measurement as XML text."""
    geometry, sampling, sequence = protocol.geometry, protocol.sampling, protocol.sequence
    if isinstance(sequence, TurboSpinEcho):
        echo_train, contrasts, segments = sequence.echo_train_length, 1, sequence.echo_train_length
        parameters = xsd.sequenceParametersType(
            TR=[sequence.tr_ms],
            TE=[sequence.te_ms],
            TI=[] if sequence.ti_ms is None else [sequence.ti_ms],
            flipAngle_deg=[sequence.refocusing_deg[0]],
            sequence_type="TurboSpinEcho",
            echo_spacing=[sequence.echo_spacing_ms],
        )
    else:
        echo_train, contrasts, segments = len(sequence.te_ms), len(sequence.te_ms), 1
        parameters = xsd.sequenceParametersType(
            TR=[sequence.tr_ms],
            TE=list(sequence.te_ms),
            flipAngle_deg=[sequence.flip_deg],
            sequence_type="Flash",
        )
    nx, ny, nz = geometry.encoded_matrix
    fov_x, fov_y, fov_z = geometry.encoded_field_of_view_mm
    if not geometry.volumetric:
        fov_z = geometry.thickness_mm
    first = first_row(protocol)

    def limit(count: int, centre: int = 0) -> xsd.limitType:
        return xsd.limitType(minimum=0, maximum=count - 1, center=centre)

    encoding = xsd.encodingType(
        encodedSpace=_space((nx, ny, nz), (fov_x, fov_y, fov_z)),
        reconSpace=_space((*geometry.matrix, nz), (*geometry.field_of_view_mm, fov_z)),
        encodingLimits=xsd.encodingLimitsType(
            kspace_encoding_step_0=limit(nx, nx // 2),
            kspace_encoding_step_1=limit(ny - first, ny // 2 - first),
            kspace_encoding_step_2=limit(nz, nz // 2),
            average=limit(sampling.averages),
            slice=limit(1 if geometry.volumetric else geometry.slices),
            contrast=limit(contrasts),
            phase=limit(1),
            repetition=limit(sampling.repetitions),
            set=limit(1),
            segment=limit(segments),
        ),
        trajectory=xsd.trajectoryType.CARTESIAN,
        parallelImaging=xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(
                kspace_encoding_step_1=sampling.acceleration[0],
                kspace_encoding_step_2=sampling.acceleration[1],
            ),
            calibrationMode=xsd.calibrationModeType(
                sampling.calibration_mode if sampling.calibration[0] else "other"
            ),
        ),
        echoTrainLength=echo_train,
    )
    header = xsd.ismrmrdHeader(
        version=1,
        studyInformation=xsd.studyInformationType(
            studyDescription="Synthetic lumbar spine",
            studyInstanceUID=identity.uid("study"),
            bodyPartExamined="LSPINE",
        ),
        measurementInformation=xsd.measurementInformationType(
            measurementID=f"boreside_phantom_{identity.exam}_{identity.measurement_uid}",
            patientPosition=xsd.patientPositionType.HFS,
            initialSeriesNumber=identity.measurement_uid,
            protocolName=protocol.name,
            seriesDescription=protocol.name,
            seriesInstanceUIDRoot=identity.uid(f"series/{identity.measurement_uid}"),
            frameOfReferenceUID=identity.uid("frame"),
        ),
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            systemVendor="Boreside",
            systemModel="Virtual scanner",
            systemFieldStrength_T=field_t,
            relativeReceiverNoiseBandwidth=RELATIVE_BANDWIDTH,
            receiverChannels=len(coil_names),
            coilLabel=[
                xsd.coilLabelType(coilNumber=number, coilName=name)
                for number, name in enumerate(coil_names)
            ],
        ),
        experimentalConditions=xsd.experimentalConditionsType(
            H1resonanceFrequency_Hz=round(GYROMAGNETIC_MHZ_PER_T * 1e6 * field_t)
        ),
        encoding=[encoding],
        sequenceParameters=parameters,
        userParameters=xsd.userParametersType(
            userParameterLong=[
                xsd.userParameterLongType(name=f"EmbeddedRefLinesE{axis + 1}", value=lines)
                for axis, lines in enumerate(sampling.calibration)
                if lines and sampling.calibration_mode == "embedded"
            ]
        ),
    )
    return header_text(header)


def _common(protocol: Protocol, identity: Identity, count: int, coils: int) -> np.ndarray:
    geometry = protocol.geometry
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["version"] = 1
    headers["measurement_uid"] = identity.measurement_uid
    headers["available_channels"] = headers["active_channels"] = coils
    headers["channel_mask"][:, 0] = (1 << coils) - 1
    headers["read_dir"] = geometry.read_dir
    headers["phase_dir"] = geometry.phase_dir
    headers["slice_dir"] = geometry.slice_dir
    headers["position"] = geometry.centre
    return headers


def noise_headers(protocol: Protocol, identity: Identity, coils: int) -> np.ndarray:
    """Return the headers of the noise scan, `ACQUISITION_HEADER` (N)."""
    scan = protocol.noise_scan
    headers = _common(protocol, identity, scan.readouts, coils)
    order = np.arange(scan.readouts)
    headers["flags"] = int(AcquisitionFlag.IS_NOISE_MEASUREMENT)
    headers["scan_counter"] = 1 + order
    headers["number_of_samples"] = scan.samples
    headers["center_sample"] = scan.samples // 2
    headers["sample_time_us"] = scan.dwell_us
    headers["acquisition_time_stamp"] = (identity.start_s + order * NOISE_REPETITION_S) / TICK_S
    return headers


def _first_and_last(keys: list[np.ndarray], among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mark the first and the last readout, of those ``among``, of every combination of keys."""
    where = np.flatnonzero(among)
    packed = np.ravel_multi_index(
        [key[where] for key in keys], [int(key.max()) + 1 for key in keys]
    )
    first, last = np.zeros(len(among), bool), np.zeros(len(among), bool)
    first[where[np.unique(packed, return_index=True)[1]]] = True
    last[where[len(where) - 1 - np.unique(packed[::-1], return_index=True)[1]]] = True
    return first, last


def _flags(taken: Lines, plan: Schedule, separate: bool, volumetric: bool) -> np.ndarray:
    flags = np.zeros(len(plan), np.uint64)

    def set_where(which: np.ndarray, flag: AcquisitionFlag) -> None:
        flags[which] |= np.uint64(int(flag))

    set_where(plan.calibration & plan.imaging, AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)
    set_where(plan.calibration & ~plan.imaging, AcquisitionFlag.IS_PARALLEL_CALIBRATION)
    of_image = plan.imaging | (not separate)
    whole = [plan.image, plan.repetition]
    loops = {
        "ENCODE_STEP1": [*whole, plan.average, plan.contrast, taken.kz[plan.line]],
        "AVERAGE": [*whole, plan.average],
        "SLICE": whole,
        "CONTRAST": [*whole, plan.contrast],
        "REPETITION": [plan.repetition],
        "SEGMENT": [*whole, plan.average, plan.segment],
    }
    if volumetric:
        loops["ENCODE_STEP2"] = [*whole, plan.average, plan.contrast]
    for name, keys in loops.items():
        first, last = _first_and_last(keys, of_image)
        set_where(first, AcquisitionFlag[f"FIRST_IN_{name}"])
        set_where(last, AcquisitionFlag[f"LAST_IN_{name}"])
    flags[-1:] |= np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))
    return flags


def readout_headers(
    protocol: Protocol, identity: Identity, coils: int, taken: Lines, plan: Schedule
) -> np.ndarray:
    """Return the headers of all imaging and calibration readouts, `ACQUISITION_HEADER` (N)."""
    geometry = protocol.geometry
    nx, ny, nz = geometry.encoded_matrix
    first = first_row(protocol)
    headers = _common(protocol, identity, len(plan), coils)
    separate = protocol.sampling.calibration_mode == "separate"
    headers["flags"] = _flags(taken, plan, separate, geometry.volumetric)
    headers["scan_counter"] = 1 + protocol.noise_scan.readouts + np.arange(len(plan))
    headers["number_of_samples"] = nx - protocol.first_sample
    headers["center_sample"] = nx // 2 - protocol.first_sample
    headers["sample_time_us"] = protocol.dwell_us
    headers["position"] = geometry.slice_centres()[plan.image]
    noise_s = protocol.noise_scan.readouts * NOISE_REPETITION_S
    headers["acquisition_time_stamp"] = (identity.start_s + noise_s + plan.time_s) / TICK_S
    idx = headers["idx"]
    idx["kspace_encode_step_1"] = taken.ky[plan.line] - first
    idx["kspace_encode_step_2"] = taken.kz[plan.line]
    idx["slice"] = plan.image
    for name in ("average", "contrast", "repetition", "segment"):
        idx[name] = getattr(plan, name)
    idx["user"][:, 5] = ny // 2 - first
    idx["user"][:, 6] = nz // 2
    return headers
