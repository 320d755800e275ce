"""Configuration names and the chains they stand for.

A scanner names one in its first message; an integrator adds one by a line in `CHAINS`. A builder
takes the MRD header (None where the scanner sent none that could be read) and the pixel type of the
images to leave.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent import engines, fire
from gadgets.denoise import Denoise
from gadgets.finish import Finish
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from gadgets.series import CollectSeries
from gadgets.sort import Sort
from gadgets.stream import Gadget, chain
from gadgets.synthesis.fracture import Fracture
from gadgets.synthesis.marks import BurnIn
from gadgets.synthesis.synthetic_mr import synthetic_mr
from gadgets.synthesis.water_fat_gadget import WaterFat
from protocols.header import Header

Builder = Callable[[Header | None, str], Gadget]


def _swallow(items: Iterator[Any]) -> Iterator[Any]:
    """Take everything, send nothing: the spool has it."""
    for _ in items:
        pass
    yield from ()


@dataclass(frozen=True)
class Chain:
    """As `gadgets.conventional`, with these gadgets between sorting and finishing (a builder).

    Synthetic images get their mark at the end, whatever made them.
    """

    reconstruct: Callable[[Header], list[Gadget]]
    maps: tuple[str, ...] = ()

    def __call__(self, header: Header | None, pixel_type: str, collect: bool = False) -> Gadget:
        if header is None:
            return fire.simplefft(header)
        first: list[Gadget] = [Prewhiten(header), TransformReadout(header), Sort(header)]
        series: list[Gadget] = [CollectSeries(header)] if collect else []
        last = Finish(header, pixel_type=pixel_type, maps=self.maps)
        return chain([*first, *self.reconstruct(header), *series, last, BurnIn()])


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
    return [Reconstruct("sense", header, noise_maps=True), WaterFat(header)]


def _fracture(header: Header) -> list[Gadget]:
    return [Reconstruct("sense", header, noise_maps=True), Fracture(header)]


def _synthetic_mr(header: Header) -> list[Gadget]:
    return [Reconstruct("sense", header, noise_maps=True), *synthetic_mr(header)]


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
    "synthetic-mr": Chain(_synthetic_mr),
}


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
