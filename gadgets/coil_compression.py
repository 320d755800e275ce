"""Coil compression: fewer virtual coils with nearly all the signal.

Principal components of the calibration lines (Buehrer et al., Magn Reson Med 57 (2007) 1131). The
rows of the compression matrix are orthonormal, so whitened noise stays white with sigma 1, and the
virtual coils come in the order of their energy.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import array_api_compat

from gadgets.calibration import calibration_lines, place
from gadgets.items import Calibration, Frame

ENERGY = 0.998
"""Part of the calibration lines' signal energy which the virtual coils keep."""


def compression_matrix(
    calibration: Any, n_virtual: int | None = None, energy: float = ENERGY
) -> Any:
    """Return the matrix from coils to virtual coils, complex64 (virtual, coil).

    Parameters
    ----------
    calibration : complex64 (coil, ...)
        Whitened calibration lines, in k-space, hybrid or image space; not all zero.
    n_virtual : int or None
        How many; as many as ``energy`` needs if None.
    energy : float
        Part to keep of the energy above that of noise, which the weakest component stands for.
    """
    xp = array_api_compat.array_namespace(calibration)
    lines = xp.reshape(calibration, (calibration.shape[0], -1))
    lines = lines / xp.max(xp.abs(lines))
    gram = xp.astype(lines @ xp.conj(lines).T, xp.complex128)
    values, vectors = xp.linalg.eigh(gram)
    if n_virtual is None:
        signal = (values - values[0])[::-1]
        missing = xp.cumulative_sum(signal) < energy * xp.sum(signal)
        n_virtual = int(xp.count_nonzero(missing)) + 1
    strongest = vectors[:, ::-1][:, : min(n_virtual, lines.shape[0])]
    return xp.astype(xp.conj(strongest).T, calibration.dtype)


def compress(kspace: Any, matrix: Any) -> Any:
    """Return virtual coils (virtual, ...) of coils (coil, ...), in any space."""
    xp = array_api_compat.array_namespace(kspace, matrix)
    return xp.tensordot(matrix, kspace, axes=1)


class CompressCoils:
    """Compress every `Frame` and `Calibration` with its slice's own matrix.

    The matrix comes from the first calibration lines of a slice and stays, so that its later
    contrasts and repetitions have the same virtual coils. A frame before any calibration lines
    passes unchanged.

    Parameters
    ----------
    n_virtual : int or None
    energy : float
        As in `compression_matrix`.
    """

    def __init__(self, n_virtual: int | None = None, energy: float = ENERGY) -> None:
        self._n_virtual = n_virtual
        self._energy = energy

    def __call__(self, items: Iterator[Any]) -> Iterator[Any]:
        matrices: dict[tuple[int, int], Any] = {}
        for item in items:
            if not isinstance(item, Calibration | Frame):
                yield item
                continue
            if place(item) not in matrices and (lines := calibration_lines(item)) is not None:
                matrices[place(item)] = compression_matrix(lines, self._n_virtual, self._energy)
            matrix = matrices.get(place(item))
            if matrix is None or matrix.shape[1] != item.kspace.shape[0]:
                yield item
                continue
            compressed = replace(item, kspace=compress(item.kspace, matrix))
            if isinstance(compressed, Frame) and compressed.calibration is not None:
                compressed = replace(
                    compressed, calibration=compress(compressed.calibration, matrix)
                )
            yield compressed
