"""Readout transform: from k-space samples to image samples along the readout, oversampling cut off.

Done once, on arrival: in Cartesian scans nothing later needs k-space along the readout. A readout
is put onto the encoded matrix with its echo at ``n // 2`` (asymmetric echoes are filled with zeros,
reversed ones are turned round, discarded samples are set to zero), transformed, and cropped to the
recon field of view.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from array_api_compat import array_namespace

from gadgets.fft import ifftc
from protocols.header import Encoding, Header, encodings
from protocols.mrd_types import AcquisitionFlag, ReadoutBlock

_log = structlog.get_logger(__name__)


class NotCartesian(ValueError):
    """The measurement's trajectory is none that this chain can reconstruct."""


@dataclass(frozen=True)
class HybridBlock:
    """Readouts of one encoding space in image space along the readout, in order of arrival.

    Attributes
    ----------
    headers : ACQUISITION_HEADER (N)
        As acquired: their sample counts are those of k-space.
    samples : complex64 (N, coil, x)
        On the recon field of view; the origin is at ``x // 2``.
    readout_mask : bool (N, kx)
        Which samples of the encoded readout were acquired.
    arrival_ns : int64 (N)
        As in `ReadoutBlock`; may be empty.
    """

    headers: np.ndarray
    samples: Any
    readout_mask: np.ndarray
    arrival_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.headers)


def cropped_length(encoded: int, encoded_fov: float, recon: int, recon_fov: float) -> int:
    """Return how many of ``encoded`` pixels cover the recon field of view along one axis.

    This is the recon matrix where its pixels are as large as the encoded ones; rounded fields of
    view in the header may make a difference of one pixel, which is not meant.
    """
    length = min(round(encoded * recon_fov / encoded_fov), encoded)
    return recon if abs(length - recon) <= 1 and recon <= encoded else length


def crop(array: Any, axis: int, length: int) -> Any:
    """Cut ``length`` samples around the origin (at ``n // 2``, before and after) out of an axis."""
    start = array.shape[axis] // 2 - length // 2
    which = [slice(None)] * array.ndim
    which[axis] = slice(start, start + length)
    return array[tuple(which)]


class TransformReadout:
    """Turn `ReadoutBlock` into `HybridBlock` (a gadget).

    Parameters
    ----------
    header : Header

    Raises
    ------
    NotCartesian
        The header has an encoding with a trajectory other than Cartesian. (Where it says Cartesian
        and readouts carry k-space coordinates all the same, the counters tell the same and the
        coordinates are not used.)
    """

    def __init__(self, header: Header) -> None:
        for number, encoding in enumerate(header.encoding):
            trajectory = getattr(encoding.trajectory, "value", encoding.trajectory)
            if trajectory not in (None, "cartesian"):
                raise NotCartesian(
                    f"encoding {number}: expected trajectory 'cartesian', got {trajectory!r}; "
                    "use a configuration for this trajectory, or reconstruct on the scanner"
                )
        self._encodings = encodings(header)

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        unknown = 0
        for item in items:
            if not isinstance(item, ReadoutBlock):
                yield item
                continue
            spaces = item.headers["encoding_space_ref"]
            for space in np.unique(spaces):
                if space < len(self._encodings):
                    part = item if (spaces == space).all() else item[spaces == space]
                    yield transform(part, self._encodings[space])
                else:
                    unknown += int((spaces == space).sum())
        if unknown:
            _log.warning(
                "readouts dropped",
                reason=f"encoding_space_ref not below {len(self._encodings)}",
                readouts=unknown,
            )


def transform(block: ReadoutBlock, encoding: Encoding) -> HybridBlock:
    """Transform and crop the readouts of one encoding space.

    ``center_sample`` counts in the direction of the readout gradient, also where the samples were
    stored in reverse; discarded samples are counted as stored. A ``center_sample`` of 0 is taken
    for one that was not set.

    Parameters
    ----------
    block : ReadoutBlock
    encoding : Encoding
    """
    headers = block.headers
    kspace, mask = _on_encoded_matrix(block, encoding.encoded_matrix[0])
    length = cropped_length(
        encoding.encoded_matrix[0],
        encoding.encoded_fov[0],
        encoding.recon_matrix[0],
        encoding.recon_fov[0],
    )
    return HybridBlock(headers, crop(ifftc(kspace, (-1,)), 2, length), mask, block.arrival_ns)


def _on_encoded_matrix(block: ReadoutBlock, size: int) -> tuple[Any, np.ndarray]:
    """Place readouts on the encoded matrix: complex64 (N, coil, kx), and bool (N, kx)."""
    xp = array_namespace(block.samples)
    count, coils, samples = block.samples.shape
    headers = block.headers
    layout = np.stack(
        [
            np.minimum(headers["discard_pre"], samples),
            np.maximum(samples - headers["discard_post"].astype(int), headers["discard_pre"]),
            np.where(headers["center_sample"] == 0, samples // 2, headers["center_sample"]),
            (headers["flags"] & int(AcquisitionFlag.IS_REVERSE)) != 0,
        ],
        axis=1,
    ).astype(int)
    kspace = xp.zeros((count, coils, size), dtype=block.samples.dtype)
    mask = np.zeros((count, size), bool)
    kinds, kind_of = np.unique(layout, axis=0, return_inverse=True)
    for kind, (start, stop, center, reverse) in enumerate(kinds.tolist()):
        rows = slice(None) if len(kinds) == 1 else np.flatnonzero(kind_of.reshape(-1) == kind)
        source = block.samples[rows]
        if reverse:
            source = xp.flip(source, axis=-1)
            start, stop = samples - stop, samples - start
        shift = size // 2 - center
        start, stop = max(start, -shift), min(stop, size - shift)
        if start < stop:
            kspace[rows, :, start + shift : stop + shift] = source[..., start:stop]
            mask[rows, start + shift : stop + shift] = True
    return kspace, mask
