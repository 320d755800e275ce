"""A measurement of the spool as an ISMRMRD HDF5 file, which every other program reads."""

from collections.abc import Iterator
from pathlib import Path

from protocols.errors import TruncatedStream
from protocols.mrd import Message
from protocols.mrd_hdf5 import open_measurement, write_measurement


def export(measurement: Path, out: Path) -> TruncatedStream | None:
    """Write a recorded stream into group ``dataset`` of a new HDF5 file.

    Parameters
    ----------
    measurement : path
    out : path

    Returns
    -------
    TruncatedStream or None
        Where the recording breaks off; everything before is in the file.

    Raises
    ------
    FileExistsError
    FileFormatError, WireError
        ``measurement`` is no recorded stream, or a broken one.
    """
    if out.exists():
        raise FileExistsError(f"{out}: expected a new file, got one that exists")
    cut: list[TruncatedStream] = []

    def messages() -> Iterator[Message]:
        try:
            yield from open_measurement(measurement)
        except TruncatedStream as error:
            cut.append(error)

    write_measurement(out, messages())
    return cut[0] if cut else None
