"""Images in, the same images out, with their geometry checked and their history extended.

What Boreside does to images that another program reconstructed: pixels are untouched, the check's
result is added to the processing history. `returning_originals` is the failure boundary of such
chains: whatever happens, every image that came in goes out.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gadgets.stream import Gadget
from protocols.meta import meta_text, parse_meta
from protocols.mrd_gadgetron import ImageArray
from protocols.mrd_types import ImageMessage

HISTORY_KEYS = ("ImageProcessingHistory", "GADGETRON_ImageProcessingHistory")
"""MRD's spelling and Gadgetron's (``mri_core_def.h``)."""

_ORTHOGONAL = 1e-3
_NO_ATTRIBUTES = re.compile(r"(<\?xml[^>]*\?>)?\s*<ismrmrdMeta\s*(/>|>\s*</ismrmrdMeta>)")


def geometry_fault(header: np.void) -> str | None:
    """Return what is wrong with an image's place in the patient, or None.

    Parameters
    ----------
    header : IMAGE_HEADER (scalar)

    Returns
    -------
    str or None
        Positions and directions must be finite, the directions of unit length and at right
        angles to each other, the field of view positive.
    """
    axes = np.stack([header[f"{name}_dir"] for name in ("read", "phase", "slice")]).astype(float)
    if not np.isfinite(axes).all() or not np.isfinite(header["position"]).all():
        return "position or directions are not finite"
    if np.abs(axes @ axes.T - np.eye(3)).max() > _ORTHOGONAL:
        return "directions are not unit vectors at right angles"
    if not (header["field_of_view"] > 0).all():
        return "field of view is not positive"
    return None


def check(item: ImageMessage | ImageArray) -> ImageMessage | ImageArray:
    """Return an image or an image array with the check's result in its history.

    Attributes that cannot be read as ISMRMRD meta are left as they are.
    """
    if isinstance(item, ImageMessage):
        return replace(item, attributes=_extended(item.attributes, item.header))
    headers = item.headers.reshape(-1, order="F")
    attributes = item.attributes or ("",) * len(headers)
    # Gadgetron keeps one text for each header, or none; further ones would be unknown to it.
    extended = tuple(_extended(text, header) for text, header in zip(attributes, headers))
    return replace(item, attributes=extended + attributes[len(extended) :])


def returning_originals(
    step: Callable[[ImageMessage | ImageArray], ImageMessage | ImageArray],
) -> Gadget:
    """Make a gadget of a step on images that never loses an image.

    Parameters
    ----------
    step : callable
        One image or image array in, one out.

    Returns
    -------
    Gadget
        Once the step has failed, images pass unchanged to the end of the stream; then the step's
        exception is raised.
    """

    def run(items: Iterator[Any]) -> Iterator[Any]:
        failure: Exception | None = None
        for item in items:
            if isinstance(item, ImageMessage | ImageArray) and failure is None:
                try:
                    item = step(item)
                except Exception as error:
                    failure = error
            yield item
        if failure is not None:
            raise failure

    return run


check_images: Gadget = returning_originals(check)


def _extended(text: str, header: np.void) -> str:
    attributes = parse_meta(text)
    if text.strip() and not attributes and not _NO_ATTRIBUTES.fullmatch(text.strip()):
        return text
    fault = geometry_fault(header)
    entry = f"Boreside: {fault}" if fault else "Boreside: geometry checked"
    for key in [key for key in HISTORY_KEYS if key in attributes] or HISTORY_KEYS:
        before = attributes.get(key, [])
        attributes[key] = [*([before] if isinstance(before, str) else before), entry]
    return meta_text(attributes)
