"""The MRD data structures: header layouts, flags, and the messages as Python objects.

Layouts are those of ISMRMRD's C structs (`ismrmrd.h`, version 1), little-endian. Nothing here reads
or writes: see `protocols.mrd` for the stream and `protocols.mrd_gadgetron` for Gadgetron's
compound messages.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MessageId(IntEnum):
    """Identifiers of the messages that Boreside speaks (uint16 before every message)."""

    CONFIG_FILE = 1
    CONFIG_TEXT = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    QUERY = 6
    RESPONSE = 7
    ERROR = 8
    ACQUISITION = 1008
    IMAGE = 1022
    RECON_DATA = 1023
    IMAGE_ARRAY = 1024
    WAVEFORM = 1026
    BUCKET = 1050


def _flag(number: int) -> int:
    """Bit of an MRD flag: MRD counts flags from 1."""
    return 1 << (number - 1)


class AcquisitionFlag(IntFlag):
    """Flags of an acquisition header."""

    FIRST_IN_ENCODE_STEP1 = _flag(1)
    LAST_IN_ENCODE_STEP1 = _flag(2)
    FIRST_IN_ENCODE_STEP2 = _flag(3)
    LAST_IN_ENCODE_STEP2 = _flag(4)
    FIRST_IN_AVERAGE = _flag(5)
    LAST_IN_AVERAGE = _flag(6)
    FIRST_IN_SLICE = _flag(7)
    LAST_IN_SLICE = _flag(8)
    FIRST_IN_CONTRAST = _flag(9)
    LAST_IN_CONTRAST = _flag(10)
    FIRST_IN_PHASE = _flag(11)
    LAST_IN_PHASE = _flag(12)
    FIRST_IN_REPETITION = _flag(13)
    LAST_IN_REPETITION = _flag(14)
    FIRST_IN_SET = _flag(15)
    LAST_IN_SET = _flag(16)
    FIRST_IN_SEGMENT = _flag(17)
    LAST_IN_SEGMENT = _flag(18)
    IS_NOISE_MEASUREMENT = _flag(19)
    IS_PARALLEL_CALIBRATION = _flag(20)
    IS_PARALLEL_CALIBRATION_AND_IMAGING = _flag(21)
    IS_REVERSE = _flag(22)
    IS_NAVIGATION_DATA = _flag(23)
    IS_PHASECORR_DATA = _flag(24)
    LAST_IN_MEASUREMENT = _flag(25)
    IS_HPFEEDBACK_DATA = _flag(26)
    IS_DUMMYSCAN_DATA = _flag(27)
    IS_RTFEEDBACK_DATA = _flag(28)
    IS_SURFACECOILCORRECTION_DATA = _flag(29)
    IS_PHASE_STABILIZATION_REFERENCE = _flag(30)
    IS_PHASE_STABILIZATION = _flag(31)


NOT_IMAGING = (
    AcquisitionFlag.IS_NOISE_MEASUREMENT
    | AcquisitionFlag.IS_PARALLEL_CALIBRATION
    | AcquisitionFlag.IS_NAVIGATION_DATA
    | AcquisitionFlag.IS_PHASECORR_DATA
    | AcquisitionFlag.IS_HPFEEDBACK_DATA
    | AcquisitionFlag.IS_DUMMYSCAN_DATA
    | AcquisitionFlag.IS_RTFEEDBACK_DATA
    | AcquisitionFlag.IS_SURFACECOILCORRECTION_DATA
    | AcquisitionFlag.IS_PHASE_STABILIZATION_REFERENCE
    | AcquisitionFlag.IS_PHASE_STABILIZATION
)
"""A readout with any of these flags is no line of an image."""

ENCODING_COUNTERS = np.dtype(
    [
        ("kspace_encode_step_1", "<u2"),
        ("kspace_encode_step_2", "<u2"),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("segment", "<u2"),
        ("user", "<u2", (8,)),
    ]
)

ACQUISITION_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("idx", ENCODING_COUNTERS),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
"""AcquisitionHeader, 340 bytes, packed. ``position`` is the centre of the volume in LPS mm."""

IMAGE_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", "<f4", (3,)),
        ("channels", "<u2"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)
"""ImageHeader, 198 bytes, packed. ``matrix_size`` is (x, y, z); ``position`` the centre, LPS mm."""

WAVEFORM_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("time_stamp", "<u4"),
        ("number_of_samples", "<u2"),
        ("channels", "<u2"),
        ("sample_time_us", "<f4"),
        ("waveform_id", "<u2"),
    ],
    align=True,
)
"""WaveformHeader, 40 bytes, with C's natural alignment (FIRE's documentation says 240: wrong)."""


class ImageType(IntEnum):
    """What the numbers of an image are (``image_type`` of its header)."""

    MAGNITUDE = 1
    PHASE = 2
    REAL = 3
    IMAG = 4
    COMPLEX = 5
    RGB = 6


IMAGE_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<u2"),
    2: np.dtype("<i2"),
    3: np.dtype("<u4"),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
    6: np.dtype("<f8"),
    7: np.dtype("<c8"),
    8: np.dtype("<c16"),
}
"""``data_type`` of an image header. Type 4 is 4 bytes wide, whatever ismrmrd-python makes of it."""


@dataclass(frozen=True)
class ConfigFile:
    """Message 1: the name of a configuration that the receiver knows."""

    name: str


@dataclass(frozen=True)
class ConfigText:
    """Message 2: a configuration itself."""

    text: str


@dataclass(frozen=True)
class HeaderText:
    """Message 3: the MRD header of the measurement, as XML text (see `protocols.header`)."""

    xml: str


@dataclass(frozen=True)
class Close:
    """Message 4: the sender has sent everything."""


@dataclass(frozen=True)
class Text:
    """Message 5: parameters (JSON) from a client, log lines from a server."""

    text: str


@dataclass(frozen=True)
class Query:
    """Message 6: a question, answered by a `Response` with the same correlation id."""

    correlation_id: int
    text: str


@dataclass(frozen=True)
class Response:
    """Message 7: the answer to a `Query`."""

    correlation_id: int
    text: str


@dataclass(frozen=True)
class ErrorText:
    """Message 8: the sender failed, and why (Gadgetron's external gadgets)."""

    text: str


@dataclass(frozen=True)
class ReadoutBlock:
    """Message 1008, many at once: readouts of one shape in the order of their arrival.

    Attributes
    ----------
    headers : ACQUISITION_HEADER (N)
    samples : complex64 (N, coil, readout)
    trajectory : float32 (N, readout, dim) or None
    arrival_ns : int64 (N)
        Monotonic clock when the last byte of each readout arrived.
    """

    headers: NDArray[Any]
    samples: Any
    trajectory: NDArray[np.float32] | None = None
    arrival_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.headers)

    def __getitem__(self, which: Any) -> "ReadoutBlock":
        """Return the readouts that ``which`` (a slice, mask or index array) selects."""
        return ReadoutBlock(
            self.headers[which],
            self.samples[which],
            None if self.trajectory is None else self.trajectory[which],
            self.arrival_ns[which] if len(self.arrival_ns) else self.arrival_ns,
        )


@dataclass(frozen=True)
class ImageMessage:
    """Message 1022: one image.

    Attributes
    ----------
    header : IMAGE_HEADER (scalar)
        Its ``matrix_size``, ``channels`` and ``data_type`` are set from ``data`` when written.
    data : (channel, z, y, x)
        One of `IMAGE_DTYPES`.
    attributes : str
        ISMRMRD meta as XML text (see `protocols.meta`), possibly empty.
    """

    header: np.void
    data: NDArray[Any]
    attributes: str = ""


@dataclass(frozen=True)
class Waveform:
    """Message 1026: a physiological or other waveform.

    Attributes
    ----------
    header : WAVEFORM_HEADER (scalar)
    data : uint32 (channel, sample)
    """

    header: np.void
    data: NDArray[np.uint32]
