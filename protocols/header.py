"""The MRD header (message 3): parsing, writing, and the few facts of it that gadgets need.

The XML is read into the `ismrmrd` package's schema classes. What a gadget needs of an encoding is
gathered in `Encoding`, with the header's gaps filled in the way FIRE and Gadgetron do.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import ismrmrd.xsd as xsd

from protocols.errors import HeaderError

Header: TypeAlias = Any
"""`ismrmrd.xsd.ismrmrdHeader`, which carries no types."""


def parse_header(xml: str) -> Header:
    """Parse an MRD header.

    Parameters
    ----------
    xml : str

    Raises
    ------
    HeaderError
        Not MRD XML, or XML with a document type or entities: those are refused unread, because
        they can expand without bound.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise HeaderError("MRD header: expected plain XML, got a document type or entities")
    try:
        header = xsd.CreateFromDocument(xml)
    except Exception as error:
        raise HeaderError(
            f"MRD header: expected an <ismrmrdHeader> document, got {xml[:80]!r} ({error})"
        ) from error
    if not header.encoding:
        raise HeaderError("MRD header: expected at least one <encoding>, got none")
    return header


def header_text(header: Header) -> str:
    """Return the XML of a header, which says that it is UTF-8: that is how the wire carries it."""
    text = xsd.ToXML(header, encoding="utf-8")
    return text.decode() if isinstance(text, bytes) else str(text)


@dataclass(frozen=True)
class Limit:
    """One encoding limit: the counter's least and greatest value and its k-space centre."""

    minimum: int
    maximum: int
    center: int


@dataclass(frozen=True)
class Encoding:
    """The facts of one encoding space. All triples are (x, y, z): readout, phase, partition.

    Attributes
    ----------
    encoded_matrix, recon_matrix : tuple of int
    encoded_fov, recon_fov : tuple of float, mm
    limits : dict
        `Limit` of "kspace_encoding_step_1", "slice", ... as far as the header states them.
    acceleration : tuple of int
        Nominal factors along phase and partition.
    """

    encoded_matrix: tuple[int, int, int]
    recon_matrix: tuple[int, int, int]
    encoded_fov: tuple[float, float, float]
    recon_fov: tuple[float, float, float]
    limits: dict[str, Limit]
    acceleration: tuple[int, int]

    def limit(self, name: str, size: int = 1) -> Limit:
        """Return a limit; where the header is silent, that of ``size`` full steps."""
        return self.limits.get(name, Limit(0, size - 1, size // 2))


_LIMITS = (
    "kspace_encoding_step_0",
    "kspace_encoding_step_1",
    "kspace_encoding_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)


def encodings(header: Header) -> tuple[Encoding, ...]:
    """Return the header's encoding spaces.

    Raises
    ------
    HeaderError
        A matrix or field of view is missing or not positive.
    """
    return tuple(_encoding(number, e) for number, e in enumerate(header.encoding))


def _encoding(number: int, encoding: Any) -> Encoding:
    def triple(space: Any, name: str, field: str) -> tuple[float, float, float]:
        values = getattr(space, field, None) if space is not None else None
        if values is None:
            raise HeaderError(f"MRD header: expected {field} in {name} of encoding {number}")
        result = (values.x, values.y, values.z)
        if min(result) <= 0:
            raise HeaderError(
                f"MRD header: expected a positive {field} in {name} of encoding {number}, "
                f"got {result}"
            )
        return result

    def matrix(space: Any, name: str) -> tuple[int, int, int]:
        x, y, z = triple(space, name, "matrixSize")
        return int(x), int(y), int(z)

    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    limits = {}
    for name in _LIMITS:
        limit = getattr(encoding.encodingLimits, name, None) if encoding.encodingLimits else None
        if limit is not None:
            limits[name] = Limit(int(limit.minimum), int(limit.maximum), int(limit.center))
    factor = encoding.parallelImaging.accelerationFactor if encoding.parallelImaging else None
    return Encoding(
        encoded_matrix=matrix(encoded, "encodedSpace"),
        recon_matrix=matrix(recon, "reconSpace"),
        encoded_fov=triple(encoded, "encodedSpace", "fieldOfView_mm"),
        recon_fov=triple(recon, "reconSpace", "fieldOfView_mm"),
        limits=limits,
        acceleration=(
            int(factor.kspace_encoding_step_1) if factor else 1,
            int(factor.kspace_encoding_step_2) if factor else 1,
        ),
    )
