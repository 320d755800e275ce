"""What a Gadgetron's configuration asks of the external gadget: its properties, checked.

Gadgetron sends the ``<configuration>`` element of its ``<external>`` node as message CONFIG (2).
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator


class PropertyError(ValueError):
    """A property of the Gadgetron configuration: what was expected, what came."""


class Properties(BaseModel):
    """Properties of the ``<configuration>`` element.

    Attributes
    ----------
    target : str
        What to do. For ``<connect>``, which cannot name a target as ``<execute>`` does.
    method : str
        Reconstruction of undersampled k-space.
    pixel_type : str
        Of reconstructed images. Gadgetron cannot read int16.
    maps : tuple of str
        Maps to send beside each image; in the configuration separated by commas or blanks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Literal["recon", "images", "passthrough"] = "recon"
    method: Literal["sense", "grappa"] = "sense"
    pixel_type: Literal["uint16", "float32"] = "uint16"
    maps: tuple[Literal["g-factor", "snr"], ...] = ()

    @field_validator("maps", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return value.replace(",", " ").split() if isinstance(value, str) else value


def parse_properties(config: str, target: str) -> Properties:
    """Return the properties that a Gadgetron sent in its CONFIG message.

    Parameters
    ----------
    config : str
        Gadgetron sends the ``<configuration>`` element of ``<external>``, or an XML declaration
        and nothing else where there is none. A whole ``<external>`` is taken too.
    target : str
        Where no property names one.

    Raises
    ------
    PropertyError
    """
    values = {"target": target}
    for element in _elements(config):
        name = element.get("name") or element.findtext("name")
        value = element.get("value")
        value = element.findtext("value") if value is None else value
        if name is None or value is None:
            raise PropertyError(
                'expected <property name="" value=""/> or <property><name/><value/></property>, '
                f"got {ElementTree.tostring(element, 'unicode').strip()}"
            )
        values[name.strip()] = value.strip()
    try:
        return Properties.model_validate(values)
    except ValidationError as error:
        known = ", ".join(Properties.model_fields)
        raise PropertyError(
            "; ".join(
                f"property {'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}"
                for e in error.errors()
            )
            + f" (properties: {known})"
        ) from None


def _elements(config: str) -> Iterator[ElementTree.Element]:
    if "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise PropertyError("configuration: expected plain XML, got a document type or entities")
    text = config.split("?>", 1)[1] if config.lstrip().startswith("<?xml") else config
    if not text.strip():
        return iter(())
    try:
        return ElementTree.fromstring(text.strip()).iter("property")
    except ElementTree.ParseError as error:
        raise PropertyError(f"configuration: expected XML, got {error}") from None
