"""The `Gadget` type and `chain`: all the framework there is.

A gadget is a callable from an iterator to an iterator. It yields what it made, passes on what it
does not know, and keeps its state in the local variables of its generator.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

Gadget = Callable[[Iterator[Any]], Iterator[Any]]


def chain(gadgets: Iterable[Gadget]) -> Gadget:
    """Compose gadgets, the first one nearest to the source.

    Parameters
    ----------
    gadgets : iterable of Gadget
        In the order in which an item passes them.

    Returns
    -------
    Gadget
        One gadget that does what they do one after the other.
    """
    steps = list(gadgets)

    def run(items: Iterator[Any]) -> Iterator[Any]:
        return reduce(lambda stream, gadget: gadget(stream), steps, iter(items))

    return run
