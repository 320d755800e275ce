"""How a request becomes images: out of the raw data of the spool, by the chains that run live.

    recorded = Recorded.of(spool, name, limits)              # raises Refused
    for message in images(request, recorded, spool, settings, maps): ...

What cannot be made raises `Refused` or `gadgets.synthesis.marks.Unavailable`, whose words are for
the person who asked. A measurement that was cut off is made of what came of it.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import chains, engines
from agent.config import LimitSettings, Settings
from agent.exams import exam_name
from agent.requests import Contrast, Enhancement, FieldOfView, OtherChain, Request
from agent.spool import Spool
from gadgets.finish import Finish
from gadgets.items import Image
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.series import weighting
from gadgets.sort import Sort
from gadgets.stream import Gadget, chain
from gadgets.synthesis import synthetic_mr
from gadgets.synthesis.exam_contrasts import VirtualEnhancement, measured
from gadgets.synthesis.marks import BurnIn, Unavailable
from gadgets.synthesis.network import make, manifest_of
from gadgets.synthesis.stacks import Memory, Stack, stack_of
from protocols.errors import HeaderError, TruncatedStream, WireError
from protocols.header import Header, encodings, parse_header
from protocols.meta import meta_text, parse_meta
from protocols.mrd import Limits, Message, Reader
from protocols.mrd_types import HeaderText, ImageMessage, ReadoutBlock

if TYPE_CHECKING:
    from agent.requests_maps import Maps

OF_ONE = (
    "conventional", "conventional-maps", "denoise", "dixon", "dl", "fracture", "grappa",
    "simplefft", "synthetic-ct", "synthetic-mr",
)  # fmt: skip
"""Chains that make images of one measurement alone."""
PLAIN = ("conventional", "denoise", "dl", "grappa")
"""Of these, the ones that only reconstruct."""
LARGER = 1.02
"""A field of view is larger from this factor on."""
OTHERS = 100
"""Latest measurements among which those of an exam are looked for."""
FIRST_SERIES = 50
"""Series numbers of results lie behind it, and so behind those of the measurement."""


class Refused(Exception):
    """A request cannot be fulfilled: what was expected, and what there is."""


@dataclass(frozen=True)
class Recorded:
    """A measurement of the spool.

    Attributes
    ----------
    chain : str
        By which it was reconstructed.
    """

    name: str
    path: Path
    header: Header
    chain: str
    limits: Limits

    @classmethod
    def of(cls, spool: Spool, name: str, limits: LimitSettings) -> "Recorded":
        """Find a measurement.

        Raises
        ------
        Refused
        """
        path, state = spool.path(name), spool.state(name)
        if not path.exists():
            raise Refused("the measurement is not in the spool any more")
        if state.get("outcome", "recovering") == "recovering":
            raise Refused("the measurement is still being scanned, or waits for its recovery")
        known = Limits(limits.text_bytes, limits.message_bytes)
        for message in _messages(path, known):
            if isinstance(message, HeaderText):
                try:
                    header = parse_header(message.xml)
                except HeaderError as error:
                    raise Refused(f"its header cannot be read: {error}") from None
                return cls(name, path, header, str(state.get("config", "")), known)
            if isinstance(message, ReadoutBlock):
                break
        raise Refused("the measurement has no MRD header")

    def readouts(self) -> Iterator[ReadoutBlock]:
        """Yield its readouts, noise included."""
        for message in _messages(self.path, self.limits):
            if isinstance(message, ReadoutBlock):
                yield message

    def reconstructed(self) -> Iterator[Image]:
        """Yield its images by SENSE, complex and in SNR units, as networks and fits want them."""
        header = self.header
        first: list[Gadget] = [Prewhiten(header), TransformReadout(header), Sort(header)]
        run = chain([*first, Reconstruct("sense", header, noise_maps=True)])
        return (item for item in run(self.readouts()) if isinstance(item, Image))

    def finished(self, made: Iterator[Image], pixel_type: str) -> Iterator[ImageMessage]:
        """Yield images ready to leave, with their marks."""
        last = chain([Finish(self.header, pixel_type=pixel_type), BurnIn()])
        return (item for item in last(made) if isinstance(item, ImageMessage))


def _messages(path: Path, limits: Limits) -> Iterator[Message]:
    try:
        with open(path, "rb", buffering=0) as file:
            yield from Reader(file, limits)
    except FileNotFoundError:
        raise Refused("the measurement is not in the spool any more") from None
    except TruncatedStream:
        pass  # What came before is whole.
    except WireError as error:
        raise Refused(f"its recording is damaged: {error}") from None


def images(
    request: Request, recorded: Recorded, spool: Spool, settings: Settings, maps: "Maps"
) -> Iterator[ImageMessage]:
    """Yield what was asked for.

    Raises
    ------
    Refused, Unavailable
    """
    match request.wanted:
        case Contrast() as wanted:
            contrast = synthetic_mr.Contrast(
                _short(wanted), wanted.tr_ms, wanted.te_ms, inversion_ms=wanted.ti_ms
            )
            made = synthetic_mr.contrast_images(maps.of(recorded), contrast)
            yield from recorded.finished(made, settings.pixel_type)
        case FieldOfView():
            name = recorded.chain if recorded.chain in PLAIN else "conventional"
            wide = replace(recorded, header=all_encoded(recorded.header))
            yield from _by_chain(name, wide, settings.pixel_type)
        case OtherChain(chain=name):
            if name not in OF_ONE:
                raise Refused(f"expected one of the chains {', '.join(OF_ONE)}, got {name!r}")
            yield from _by_chain(name, recorded, settings.pixel_type)
        case Enhancement():
            yield from recorded.finished(_enhanced(recorded, spool, settings), settings.pixel_type)


def _short(wanted: Contrast) -> str:
    inversion = f"-ti{wanted.ti_ms:g}" if wanted.ti_ms else ""
    return f"tr{wanted.tr_ms:g}-te{wanted.te_ms:g}{inversion}"


def _by_chain(name: str, recorded: Recorded, pixel_type: str) -> Iterator[ImageMessage]:
    gadget = chains.build(name, recorded.header, pixel_type)
    for item in gadget(recorded.readouts()):
        if isinstance(item, ImageMessage):
            yield item


def all_encoded(header: Header) -> Header:
    """Return a header whose recon space has the whole encoded field of view in the plane.

    Pixels stay as large as they are. Readout oversampling, cut off otherwise, has no fold-over;
    what phase oversampling leaves at its edges may.

    Raises
    ------
    Refused
        No more was encoded than is shown.
    """
    larger, wide = False, copy.deepcopy(header)
    for space, encoding in zip(wide.encoding, encodings(header), strict=True):
        recon = space.reconSpace
        for axis, name in enumerate("xy"):
            factor = encoding.encoded_fov[axis] / encoding.recon_fov[axis]
            if factor < LARGER:
                continue
            larger = True
            matrix = round(encoding.recon_matrix[axis] * factor)
            setattr(recon.matrixSize, name, matrix)
            setattr(
                recon.fieldOfView_mm,
                name,
                encoding.recon_fov[axis] * matrix / encoding.recon_matrix[axis],
            )
    if not larger:
        raise Refused("no larger field of view was encoded: there was no oversampling")
    return wide


def _enhanced(recorded: Recorded, spool: Spool, settings: Settings) -> Iterator[Image]:
    if not settings.engines.research:
        raise Refused("virtual enhancement is research only: the switch engines.research is off")
    engine = engines.engine("enhancement", recorded.header)
    if engine.manifest is None:
        raise Refused(f"no network for it here: {getattr(engine, 'reason', 'not installed')}")
    exam = exam_name(recorded.header)
    gadget = VirtualEnhancement(recorded.header, exam, Memory(), engine)
    grid = weighting(recorded.header)
    if exam is None or grid not in gadget.order:
        raise Refused("expected a T1w, T2w or STIR measurement of an exam")
    stacks = {grid: stack_of(list(recorded.reconstructed()))}
    for other in gadget.order:
        if other != grid:
            stacks[other] = _same_slices(recorded, other, stacks[grid], spool, settings)
    given = measured(stacks, gadget.order, gadget.unit, grid)
    made = make(engine, given.channels, given.grid.pixel_mm, given.snr)
    yield from gadget.images(given, made, manifest_of(engine).label)


def _same_slices(
    recorded: Recorded, kind: str, grid: Stack, spool: Spool, settings: Settings
) -> Stack:
    """Return the latest stack of a weighting of the same exam that lies as ``grid`` does."""
    exam, why = exam_name(recorded.header), f"missing contrast: {kind}"
    for name in spool.names()[::-1][:OTHERS]:
        try:
            other = Recorded.of(spool, name, settings.limits)
        except Refused:
            continue
        if exam_name(other.header) != exam or weighting(other.header) != kind:
            continue
        try:
            stack = stack_of(list(other.reconstructed()))
            measured({kind: stack, "grid": grid}, (kind,), kind, "grid")
        except Unavailable as reason:
            why = f"{kind}: {reason}"
            continue
        return stack
    raise Refused(why)


def marked(image: ImageMessage, request: Request) -> ImageMessage:
    """Return an image that says that it was asked for after the scan."""
    meta: dict[str, Any] = dict(parse_meta(image.attributes))
    for key in ("ImageProcessingHistory", "GADGETRON_ImageProcessingHistory"):
        before = meta.get(key, [])
        history = [before] if isinstance(before, str) else list(before)
        meta[key] = [*history, f"on request: {request.wanted.words}"]
    header = image.header.copy()
    header["image_series_index"] += FIRST_SERIES
    attributes = meta_text({**meta, "BoresideRequest": request.id})
    return replace(image, header=header, attributes=attributes)
