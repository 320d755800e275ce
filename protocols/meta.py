"""ISMRMRD image meta: the XML text that travels with an image, as a mapping.

Keys and values as Siemens FIRE and Gadgetron read them; the `ismrmrd` package does the XML.
"""

from collections.abc import Mapping, Sequence

import ismrmrd

Value = str | int | float | Sequence[str | int | float]


def meta_text(attributes: Mapping[str, Value]) -> str:
    """Return the ``<ismrmrdMeta>`` XML of ``attributes``."""
    meta = ismrmrd.Meta()
    for key, value in attributes.items():
        if isinstance(value, str | int | float):
            meta[key] = str(value)
        else:
            meta[key] = [str(item) for item in value]
    return str(meta.serialize())


def parse_meta(text: str) -> dict[str, str | list[str]]:
    """Return the mapping of an ``<ismrmrdMeta>`` text; empty for an empty or unreadable one.

    An image whose attributes cannot be read is still an image: nothing is raised.
    """
    if not text.strip() or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return {}
    try:
        return dict(ismrmrd.Meta.deserialize(text))
    except Exception:
        return {}
