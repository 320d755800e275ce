"""Exam protocols under the protocol engineer's hands: listed, checked, compared, published.

A site's folder holds what is in force, ``NAME.yaml``; every version that was ever published lies in
``versions/NAME/rREVISION.yaml``, with who, when and why in ``versions/NAME/published.jsonl``.
"""

import difflib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from protocols import exam_library
from protocols.exam import ExamProtocol
from protocols.exam_check import Known
from protocols.exam_file import ProtocolError, load, parse
from protocols.trigger_text import read_aloud

LONGEST_REASON = 500


class PublishError(ValueError):
    """A protocol cannot be published: what was expected."""


@dataclass(frozen=True)
class Published:
    """One version: its revision, who published it, when, and why."""

    revision: int
    user: str
    at_s: float
    reason: str
    digest: str


class Workbench:
    """The protocols of one site.

    Parameters
    ----------
    site : Path
        Folder of the site's own protocols; made when something is published.
    """

    def __init__(self, site: Path) -> None:
        self.site = site
        self._publishing = threading.Lock()

    @cached_property
    def known(self) -> Known:
        """Chains, engines and measures there are here."""
        from agent.protocol_cli import known_names

        return known_names()

    def overview(self) -> list[dict[str, Any]]:
        """Return one line for each protocol, the site's own in place of shipped ones."""
        lines: dict[str, dict[str, Any]] = {}
        for folder, shipped in ((exam_library.SHIPPED, True), (self.site, False)):
            for path in exam_library.files(folder):
                line = self._line(path, shipped)
                line["overrides"] = not shipped and line["name"] in lines
                lines[line["name"]] = line
        return [lines[name] for name in sorted(lines)]

    def _line(self, path: Path, shipped: bool) -> dict[str, Any]:
        line: dict[str, Any] = {"name": path.stem, "shipped": shipped, "problems": []}
        try:
            protocol = load(path, self.known)
        except ProtocolError as error:
            return {**line, "problems": _problems(error)}
        except OSError as error:
            return {**line, "problems": [{"line": 1, "column": 1, "message": str(error)}]}
        return {
            **line,
            "name": protocol.name,
            "title": protocol.title,
            "revision": protocol.revision,
            "steps": len(protocol.steps),
            "minutes": protocol.minutes,
            "slot_minutes": protocol.slot_minutes,
            "triggers": [trigger.title or trigger.name for trigger in protocol.triggers],
        }

    def text(self, name: str) -> str | None:
        """Return the file in force of a protocol; None where there is none of that name."""
        path = self._path(name)
        return path.read_text(encoding="utf-8", errors="replace") if path else None

    def versions(self, name: str) -> list[Published]:
        """Return what was published here under a name, the latest first."""
        file = self._versions(name) / "published.jsonl"
        if not file.is_file():
            return []
        return [Published(**json.loads(line)) for line in file.read_text().splitlines()][::-1]

    def version(self, name: str, revision: int) -> str | None:
        """Return the text of a published version."""
        file = self._versions(name) / f"r{revision}.yaml"
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def check(self, text: str) -> dict[str, Any]:
        """Return what is wrong with a text, or what it says, and how it differs from that in force.

        Returns
        -------
        dict
            ``problems`` (line, column, message); ``says``, sentences; ``diff``, lines.
        """
        try:
            protocol = parse(text, self.known)
        except ProtocolError as error:
            return {"problems": _problems(error), "says": None, "diff": []}
        return {"problems": [], "says": _says(protocol), "diff": self._diff(protocol.name, text)}

    def publish(
        self, text: str, reason: str, user: str, record: Callable[[ExamProtocol], None]
    ) -> tuple[ExamProtocol, Published]:
        """Put a protocol in force at this site.

        Parameters
        ----------
        text, reason, user : str
        record : callable
            Called before anything is written; what it raises stops it.

        Raises
        ------
        PublishError, ProtocolError
        """
        if not 3 <= len(reason := reason.strip()) <= LONGEST_REASON:
            raise PublishError(f"expected a reason of 3 to {LONGEST_REASON} characters")
        with self._publishing:
            return self._publish(text, reason, user, record)

    def _publish(
        self, text: str, reason: str, user: str, record: Callable[[ExamProtocol], None]
    ) -> tuple[ExamProtocol, Published]:
        protocol = parse(text, self.known)
        in_force = self._in_force(protocol.name)
        if in_force is not None and protocol.revision <= in_force.revision:
            raise PublishError(
                f"expected a revision above {in_force.revision}, which is in force, "
                f"got {protocol.revision}"
            )
        record(protocol)
        made = Published(protocol.revision, user, time.time(), reason, protocol.digest)
        folder = self._versions(protocol.name)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"r{protocol.revision}.yaml", text)
        with (folder / "published.jsonl").open("a") as file:
            file.write(json.dumps(vars(made)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        own = self._own(protocol.name)
        _write(own or self.site / f"{protocol.name}.yaml", text)
        return protocol, made

    def _in_force(self, name: str) -> ExamProtocol | None:
        text = self.text(name)
        try:
            return parse(text) if text is not None else None
        except ProtocolError:
            return None

    def _diff(self, name: str, text: str) -> list[str]:
        before = (self.text(name) or "").splitlines()
        return list(difflib.unified_diff(before, text.splitlines(), lineterm="", n=3))[2:]

    def _path(self, name: str) -> Path | None:
        return self._own(name) or _named(exam_library.SHIPPED, name)

    def _own(self, name: str) -> Path | None:
        return _named(self.site, name)

    def _versions(self, name: str) -> Path:
        return self.site / "versions" / Path(name).name


def _named(folder: Path, name: str) -> Path | None:
    for path in exam_library.files(folder):
        try:
            found = load(path).name
        except (ProtocolError, OSError):
            found = path.stem
        if found == name:
            return path
    return None


def _problems(error: ProtocolError) -> list[dict[str, Any]]:
    return [
        {"line": each.line, "column": each.column, "message": each.message}
        for each in error.problems
    ]


def _says(protocol: ExamProtocol) -> dict[str, Any]:
    return {
        "name": protocol.name,
        "title": protocol.title,
        "revision": protocol.revision,
        "minutes": protocol.minutes,
        "slot_minutes": protocol.slot_minutes,
        "steps": [
            {"name": step.name, "title": step.title or step.name, "minutes": step.minutes}
            for step in protocol.steps
        ],
        "triggers": [
            {"title": trigger.title or trigger.name, "sentences": read_aloud(trigger, protocol)}
            for trigger in sorted(protocol.triggers, key=lambda trigger: trigger.priority)
        ],
    }


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
