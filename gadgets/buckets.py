"""Gadgetron's compound k-space messages, taken apart into the readouts they were made of.

`from_buckets` is a gadget: a `Bucket` (1050) or `ReconData` (1023) becomes `ReadoutBlock`s, the
waveforms of a bucket follow them, everything else passes. What Gadgetron did upstream stays done:
readouts come as they are, and `header_as_acquired` tells the chain whether the readout
oversampling is still there.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.header import Header, encodings
from protocols.mrd_gadgetron import Bucket, Readout, ReconBuffer, ReconData
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    NOT_IMAGING,
    AcquisitionFlag,
    ReadoutBlock,
)

_FRAME = ("slice", "contrast", "phase", "repetition", "set")


class BucketError(ValueError):
    """Arrays of a compound message contradict each other: what was expected, what came."""


def from_buckets(items: Iterator[Any]) -> Iterator[Any]:
    """Take buckets and recon data apart (a gadget)."""
    for item in items:
        if isinstance(item, Bucket):
            yield from bucket_blocks(item)
            yield from item.waveforms
        elif isinstance(item, ReconData):
            yield from recon_data_blocks(item)
        else:
            yield item


def bucket_blocks(bucket: Bucket) -> Iterator[ReadoutBlock]:
    """Yield the readouts of a bucket, its pure calibration lines first.

    Gadgetron keeps a line that is for calibration and imaging twice, among the reference and among
    the data (``AcquisitionBucket::add_acquisition``): it is handed on once, as data.
    """
    both = AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING
    reference = [r for r in bucket.reference if not int(r.header["flags"]) & both]
    for readouts in (reference, bucket.data):
        for _, alike in groupby(readouts, _shape):
            yield _stack(list(alike))


def recon_data_blocks(message: ReconData) -> Iterator[ReadoutBlock]:
    """Yield the acquired readouts of each encoding space, its pure calibration lines first.

    They come in the order in which they were acquired (by ``scan_counter``); the last of each
    image carries LAST_IN_SLICE, because one ReconData is all that Gadgetron will send of it.
    Density weights are not handed on.

    Raises
    ------
    BucketError
        Headers are not one for each line of the data.
    """
    both = np.uint64(AcquisitionFlag.IS_PARALLEL_CALIBRATION_AND_IMAGING)
    for bit in message.bits:
        if bit.reference is not None:
            block = _acquired(bit.reference)
            block = block[block.headers["flags"] & both == 0]
            block.headers["flags"] |= np.uint64(AcquisitionFlag.IS_PARALLEL_CALIBRATION)
            if len(block):
                yield block
        block = _acquired(bit.data)
        if len(block):
            _mark_last(block.headers)
            yield block


def header_as_acquired(header: Header, block: ReadoutBlock) -> Header:
    """Return the MRD header for readouts whose oversampling may have been removed upstream.

    Gadgetron's ``RemoveROOversamplingGadget`` shortens readouts and leaves the header as it was.
    The longer side of a readout, from its k-space centre, tells the matrix it belongs to, with
    asymmetric echo too.

    Parameters
    ----------
    header : Header
    block : ReadoutBlock
        Without an imaging readout the header is returned as it is.

    Returns
    -------
    Header
        The same, or a copy with the recon space's readout extent as the encoded one.
    """
    imaging = block.headers[is_imaging(block)]
    if not len(imaging):
        return header
    samples, center = int(imaging[0]["number_of_samples"]), int(imaging[0]["center_sample"])
    extent = 2 * max(center, samples - center) if center < samples else samples
    result = copy.deepcopy(header)
    for encoding, facts in zip(result.encoding, encodings(header), strict=True):
        encoded = facts.encoded_matrix[0]
        cropped = round(encoded * facts.recon_fov[0] / facts.encoded_fov[0])
        if abs(extent - cropped) < abs(extent - encoded):
            encoding.encodedSpace.matrixSize.x = cropped
            encoding.encodedSpace.fieldOfView_mm.x = facts.recon_fov[0]
    return result


def is_imaging(block: ReadoutBlock) -> NDArray[np.bool_]:
    """Return which readouts, bool (N), are lines of an image."""
    return block.headers["flags"] & np.uint64(NOT_IMAGING) == 0  # type: ignore[no-any-return]


def _shape(readout: Readout) -> tuple[int, ...]:
    trajectory = readout.trajectory
    return (*readout.samples.shape, 0 if trajectory is None else trajectory.shape[1])


def _stack(readouts: Sequence[Readout]) -> ReadoutBlock:
    trajectories = [r.trajectory for r in readouts if r.trajectory is not None]
    return ReadoutBlock(
        np.array([r.header for r in readouts], ACQUISITION_HEADER),
        np.stack([r.samples for r in readouts]),
        np.stack(trajectories) if trajectories else None,
        np.full(len(readouts), time.monotonic_ns(), np.int64),
    )


def _acquired(buffer: ReconBuffer) -> ReadoutBlock:
    """Return the lines of a buffer that hold data, oldest first."""
    if not buffer.data.size:
        return ReadoutBlock(np.zeros(0, ACQUISITION_HEADER), np.zeros((0, 0, 0), np.complex64))
    data = _with_axes(buffer.data, 7)  # E0, E1, E2, CHA, N, S, LOC
    headers = _with_axes(buffer.headers, 5)  # E1, E2, N, S, LOC
    lines = (*data.shape[1:3], *data.shape[4:])
    if headers.shape != lines:
        raise BucketError(
            f"recon data: expected headers (E1, E2, N, S, LOC) of {lines}, got {headers.shape}"
        )
    acquired = (headers["number_of_samples"] > 0) & data.any(axis=(0, 3))
    oldest_first = np.argsort(headers[acquired]["scan_counter"], kind="stable")
    kept = headers[acquired][oldest_first]
    samples = np.moveaxis(data, (3, 0), (-2, -1))[acquired][oldest_first]
    trajectory = None
    if buffer.trajectory is not None:
        path = _with_axes(buffer.trajectory, 7)  # TRAJ, E0, E1, E2, N, S, LOC
        trajectory = np.moveaxis(path, (1, 0), (-2, -1))[acquired][oldest_first]
    _describe_readout(kept, buffer.sampling["limits"][0], samples.shape, trajectory)
    return ReadoutBlock(
        kept, samples, trajectory, np.full(len(kept), time.monotonic_ns(), np.int64)
    )


def _with_axes(array: NDArray[Any], count: int) -> NDArray[Any]:
    if array.ndim > count:
        raise BucketError(f"recon data: expected an array of {count} axes, got {array.shape}")
    return array.reshape((*array.shape, *[1] * (count - array.ndim)))


def _describe_readout(
    headers: NDArray[Any],
    limits: NDArray[np.uint16],
    shape: tuple[int, ...],
    trajectory: NDArray[np.float32] | None,
) -> None:
    first, center, last = (int(limit) for limit in limits)
    if not 0 <= first < last < shape[2]:
        # Without <parallelImaging> Gadgetron cuts the discarded samples off, not so the limits;
        # other makers of recon data leave the limits at zero.
        center = center - first if last else shape[2] // 2
        first, last = 0, shape[2] - 1
    headers["active_channels"], headers["number_of_samples"] = shape[1:]
    headers["center_sample"] = min(max(center, 0), shape[2])
    headers["discard_pre"], headers["discard_post"] = first, shape[2] - 1 - last
    headers["trajectory_dimensions"] = 0 if trajectory is None else trajectory.shape[2]


def _mark_last(headers: NDArray[Any]) -> None:
    last_in_slice = np.uint64(AcquisitionFlag.LAST_IN_SLICE)
    headers["flags"] &= ~last_in_slice
    keys = np.stack([headers["idx"][name] for name in _FRAME], axis=1)
    _, from_the_end = np.unique(keys[::-1], axis=0, return_index=True)
    headers["flags"][len(headers) - 1 - from_the_end] |= last_in_slice
