"""The exam protocols there are: the shipped ones of `protocols/library`, and a site's own.

A site's protocol overrides the shipped one of the same name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocols.exam import ExamProtocol
from protocols.exam_check import Known
from protocols.exam_file import Problem, ProtocolError, load

SHIPPED = Path(__file__).parent / "library"

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Entry:
    """A protocol and where it comes from.

    Attributes
    ----------
    protocol : ExamProtocol
    path : Path
    shipped : bool
    overrides : bool
        It stands in place of a shipped one.
    """

    protocol: ExamProtocol
    path: Path
    shipped: bool
    overrides: bool = False


def files(folder: Path) -> list[Path]:
    """Return the protocol files of a folder, by name; none where there is no folder."""
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def library(site: Path | None = None, known: Known | None = None) -> dict[str, Entry]:
    """Return all protocols by name.

    Parameters
    ----------
    site : Path, optional
        Folder of the site's own protocols.
    known : Known, optional
        Chains and engines that their steps may name.

    Raises
    ------
    ProtocolError
        A file is wrong, or two of a site have the same name.
    """
    found = {entry.protocol.name: entry for entry in _read(SHIPPED, known, shipped=True)}
    if site is not None:
        own: dict[str, Entry] = {}
        for entry in _read(site, known, shipped=False):
            name = entry.protocol.name
            if name in own:
                message = f"name: {own[name].path} has the name {name} already; names are unique"
                raise ProtocolError(str(entry.path), [Problem(1, 1, message)])
            own[name] = Entry(entry.protocol, entry.path, False, overrides=name in found)
        found |= own
    return dict(sorted(found.items()))


def _read(folder: Path, known: Known | None, shipped: bool) -> Iterator[Entry]:
    for path in files(folder):
        yield Entry(load(path, known), path, shipped)


def schema() -> str:
    """Return the JSON Schema of protocol files, for editors."""
    found = {"$schema": SCHEMA_DIALECT, **ExamProtocol.model_json_schema()}
    return json.dumps(found, indent=2) + "\n"
