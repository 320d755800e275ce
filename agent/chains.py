"""Configuration names and the chains they stand for.

A scanner names one in its first message; an integrator adds one by a line in `CHAINS`. A builder
takes the MRD header (None where the scanner sent none that could be read) and the pixel type of the
images to leave.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from agent import engines, fire
from agent.exams import exam_name
from gadgets.denoise import Denoise
from gadgets.finish import Finish
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from gadgets.series import CollectSeries
from gadgets.sort import Sort
from gadgets.stream import Gadget, chain
from gadgets.synthesis.exam_contrasts import SyntheticStir, VirtualEnhancement
from gadgets.synthesis.fracture import Fracture
from gadgets.synthesis.known_fat import KnownFat, RememberFat
from gadgets.synthesis.marks import BurnIn
from gadgets.synthesis.stacks import Memory
from gadgets.synthesis.synthetic_ct import SyntheticCt
from gadgets.synthesis.synthetic_mr import synthetic_mr
from gadgets.synthesis.water_fat_gadget import WaterFat
from protocols.header import Header

_log = structlog.get_logger(__name__)

Builder = Callable[[Header | None, str], Gadget]


_stacks = Memory()
"""Of the exams that are going on, in this process: what one measurement needs of another."""


def _swallow(items: Iterator[Any]) -> Iterator[Any]:
    """Take everything, send nothing: the spool has it."""
    for _ in items:
        pass
    yield from ()


@dataclass(frozen=True)
class Chain:
    """As `gadgets.conventional`, with these gadgets between sorting and finishing (a builder).

    What is made of several measurements of an exam comes after the series. Synthetic images get
    their mark at the end, whatever made them.
    """

    reconstruct: Callable[[Header], list[Gadget]]
    maps: tuple[str, ...] = ()
    of_exam: Callable[[Header], list[Gadget]] = lambda header: []

    def __call__(self, header: Header | None, pixel_type: str, collect: bool = False) -> Gadget:
        if header is None:
            return fire.simplefft(header)
        first: list[Gadget] = [Prewhiten(header), TransformReadout(header), Sort(header)]
        series: list[Gadget] = [CollectSeries(header)] if collect else []
        last = Finish(header, pixel_type=pixel_type, maps=self.maps)
        of_exam = self.of_exam(header)
        return chain([*first, *self.reconstruct(header), *series, *of_exam, last, BurnIn()])


def _conventional(method: str, maps: tuple[str, ...] = ()) -> Chain:
    return Chain(lambda header: [Reconstruct(method, header, noise_maps=bool(maps))], maps)


def _denoise(header: Header) -> list[Gadget]:
    used = engines.used()
    denoiser = engines.engine("denoiser", header)
    return [
        Reconstruct("sense", header, noise_maps=True),
        Denoise(denoiser, used.strength, used.deadline_ms),
    ]


def _dl(header: Header) -> list[Gadget]:
    return [ReconstructDL(engines.engine("recon", header), header, engines.used().deadline_ms)]


def _dixon(header: Header) -> list[Gadget]:
    remember = RememberFat(exam_name(header), _stacks)
    return [Reconstruct("sense", header, noise_maps=True), WaterFat(header), remember]


def _fracture(header: Header) -> list[Gadget]:
    return [Reconstruct("sense", header, noise_maps=True), Fracture(header)]


def _synthetic_mr(header: Header) -> list[Gadget]:
    fat = KnownFat(exam_name(header), _stacks)
    return [Reconstruct("sense", header, noise_maps=True), *synthetic_mr(header, fat)]


def _allowed(what: str) -> bool:
    """Whether the settings allow images by networks that are for research alone."""
    if not engines.used().research:
        _log.warning(f"no {what}: engines.research is off")
    return engines.used().research


def _synthetic_ct(header: Header) -> list[Gadget]:
    if not _allowed("synthetic CT"):
        return _dixon(header)
    return [*_dixon(header), SyntheticCt(engines.engine("ct", header))]


def _synthetic_stir(header: Header) -> list[Gadget]:
    if not _allowed("synthetic STIR"):
        return []
    return [SyntheticStir(header, exam_name(header), _stacks, engines.engine("stir", header))]


def _virtual_enhancement(header: Header) -> list[Gadget]:
    if not _allowed("virtual contrast enhancement"):
        return []
    engine = engines.engine("enhancement", header)
    return [VirtualEnhancement(header, exam_name(header), _stacks, engine)]


def _sense(header: Header) -> list[Gadget]:
    return [Reconstruct("sense", header, noise_maps=True)]


CHAINS: dict[str, Builder] = {
    "conventional": _conventional("sense"),
    "conventional-maps": _conventional("sense", ("g-factor", "snr")),
    "denoise": Chain(_denoise),
    "dixon": Chain(_dixon),
    "dl": Chain(_dl),
    "fracture": Chain(_fracture),
    "grappa": _conventional("grappa"),
    "invertcontrast": lambda header, pixel_type: fire.invertcontrast(header),
    "null": lambda header, pixel_type: _swallow,
    "savedataonly": lambda header, pixel_type: _swallow,
    "simplefft": lambda header, pixel_type: fire.simplefft(header),
    "synthetic-ct": Chain(_synthetic_ct),
    "synthetic-mr": Chain(_synthetic_mr),
    "synthetic-stir": Chain(_sense, of_exam=_synthetic_stir),
    "virtual-enhancement": Chain(_sense, of_exam=_virtual_enhancement),
}

SILENT = ("null", "savedataonly")
"""Take data and send nothing."""


def build(name: str, header: Header | None, pixel_type: str, collect: bool = False) -> Gadget:
    """Return the chain of a configuration in `CHAINS`.

    Parameters
    ----------
    name : str
    header : Header or None
    pixel_type : str
    collect : bool
        Yield each complete `gadgets.items.Series`, too, after its images, where the chain has any.
    """
    builder = CHAINS[name]
    if collect and isinstance(builder, Chain):
        return builder(header, pixel_type, collect)
    return builder(header, pixel_type)
