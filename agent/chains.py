"""Configuration names and the chains they stand for.

A scanner names one in its first message; an integrator adds one by a line in `CHAINS`. A builder
takes the MRD header (None where the scanner sent none that could be read) and the pixel type of the
images to leave.
"""

from collections.abc import Callable, Iterator
from typing import Any

from agent import engines, fire
from gadgets.conventional import conventional
from gadgets.denoise import Denoise
from gadgets.finish import Finish
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.recon_dl import ReconstructDL
from gadgets.reconstruct import Reconstruct
from gadgets.sort import Sort
from gadgets.stream import Gadget, chain
from protocols.header import Header

Builder = Callable[[Header | None, str], Gadget]


def _swallow(items: Iterator[Any]) -> Iterator[Any]:
    """Take everything, send nothing: the spool has it."""
    for _ in items:
        pass
    yield from ()


def _conventional(method: str, maps: tuple[str, ...] = ()) -> Builder:
    def build_with(header: Header | None, pixel_type: str) -> Gadget:
        if header is None:
            return fire.simplefft(header)
        return conventional(header, method, maps, pixel_type)

    return build_with


def _with_networks(reconstruct: Callable[[Header], list[Gadget]]) -> Builder:
    """As conventional, but with these gadgets between sorting and finishing."""

    def build_with(header: Header | None, pixel_type: str) -> Gadget:
        if header is None:
            return fire.simplefft(header)
        first: list[Gadget] = [Prewhiten(header), TransformReadout(header), Sort(header)]
        return chain([*first, *reconstruct(header), Finish(header, pixel_type=pixel_type)])

    return build_with


def _denoise(header: Header) -> list[Gadget]:
    used = engines.used()
    denoiser = engines.engine("denoiser", header)
    return [
        Reconstruct("sense", header, noise_maps=True),
        Denoise(denoiser, used.strength, used.deadline_ms),
    ]


def _dl(header: Header) -> list[Gadget]:
    return [ReconstructDL(engines.engine("recon", header), header, engines.used().deadline_ms)]


CHAINS: dict[str, Builder] = {
    "conventional": _conventional("sense"),
    "conventional-maps": _conventional("sense", ("g-factor", "snr")),
    "denoise": _with_networks(_denoise),
    "dl": _with_networks(_dl),
    "grappa": _conventional("grappa"),
    "invertcontrast": lambda header, pixel_type: fire.invertcontrast(header),
    "null": lambda header, pixel_type: _swallow,
    "savedataonly": lambda header, pixel_type: _swallow,
    "simplefft": lambda header, pixel_type: fire.simplefft(header),
}


def build(name: str, header: Header | None, pixel_type: str) -> Gadget:
    """Return the chain of a configuration in `CHAINS`."""
    return CHAINS[name](header, pixel_type)
