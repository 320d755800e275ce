"""The MRD header (message 3): parsing, writing, and the few facts of it that gadgets need.

The XML is read into the `ismrmrd` package's schema classes. What a gadget needs of an encoding is
gathered in `Encoding`, with the header's gaps filled in the way FIRE and Gadgetron do.
"""

import math
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias, get_args, get_type_hints

import ismrmrd.xsd as xsd
from xsdata.exceptions import ConverterWarning

from protocols.errors import HeaderError

Header: TypeAlias = Any
"""`ismrmrd.xsd.ismrmrdHeader`, which carries no types."""

LARGEST = 65535
"""Of a matrix and its counters: the schema's unsignedShort, and what acquisitions can say."""

warnings.filterwarnings("ignore", category=ConverterWarning)  # it shows values: a patient's, too


def parse_header(xml: str) -> Header:
    """Parse an MRD header.

    A value that is not of the schema's type ("60 kg" for a number) counts as missing: what a chain
    does not need of a header must not cost the images.

    Parameters
    ----------
    xml : str

    Raises
    ------
    HeaderError
        Not MRD XML; no encoding that `encodings` could tell; or XML with a document type or
        entities: those are refused unread, because they can expand without bound.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise HeaderError("MRD header: expected plain XML, got a document type or entities")
    try:
        header = xsd.CreateFromDocument(xml)
    except Exception as error:
        raise HeaderError(
            f"MRD header: expected an <ismrmrdHeader> document, got {xml[:80]!r} ({error})"
        ) from error
    _drop_unreadable(header)
    if not header.encoding:
        raise HeaderError("MRD header: expected at least one <encoding>, got none")
    encodings(header)
    return header


def _drop_unreadable(part: Any) -> None:
    """Make None of each value which the schema wants to be no text, and which is one."""
    kind: Any = type(part)
    texts = _text_fields(kind)
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, list):
            value[:] = [item for item in value if field.name in texts or not _is_text(item)]
        elif field.name not in texts and _is_text(value):
            setattr(part, field.name, None)
        for item in value if isinstance(value, list) else [value]:
            if is_dataclass(item):
                _drop_unreadable(item)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


@cache
def _text_fields(kind: Hashable) -> frozenset[str]:
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if str in (hint, *get_args(hint)))


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
        A matrix or field of view is missing or not positive, or a number is beyond `LARGEST`.
    """
    return tuple(_encoding(number, e) for number, e in enumerate(header.encoding))


def _encoding(number: int, encoding: Any) -> Encoding:
    def triple(space: Any, name: str, field: str) -> tuple[float, float, float]:
        values = getattr(space, field, None) if space is not None else None
        if values is None:
            raise HeaderError(f"MRD header: expected {field} in {name} of encoding {number}")
        result = (values.x, values.y, values.z)
        if not all(value is not None and 0 < value < math.inf for value in result):
            raise HeaderError(
                f"MRD header: expected a positive {field} in {name} of encoding {number}, "
                f"got {result}"
            )
        return result

    def matrix(space: Any, name: str) -> tuple[int, int, int]:
        x, y, z = triple(space, name, "matrixSize")
        return whole(x, "matrixSize"), whole(y, "matrixSize"), whole(z, "matrixSize")

    def whole(value: Any, name: str) -> int:
        if value is None or not 0 <= value <= LARGEST:
            raise HeaderError(
                f"MRD header: expected {name} of encoding {number} from 0 to {LARGEST}, "
                f"got {str(value)[:40]}"
            )
        return int(value)

    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    limits = {}
    for name in _LIMITS:
        limit = getattr(encoding.encodingLimits, name, None) if encoding.encodingLimits else None
        if limit is not None:
            limits[name] = Limit(
                *(whole(getattr(limit, end), name) for end in ("minimum", "maximum", "center"))
            )
    factor = encoding.parallelImaging.accelerationFactor if encoding.parallelImaging else None
    return Encoding(
        encoded_matrix=matrix(encoded, "encodedSpace"),
        recon_matrix=matrix(recon, "reconSpace"),
        encoded_fov=triple(encoded, "encodedSpace", "fieldOfView_mm"),
        recon_fov=triple(recon, "reconSpace", "fieldOfView_mm"),
        limits=limits,
        acceleration=(
            whole(factor.kspace_encoding_step_1, "accelerationFactor") if factor else 1,
            whole(factor.kspace_encoding_step_2, "accelerationFactor") if factor else 1,
        ),
    )
