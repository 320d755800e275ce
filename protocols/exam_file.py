"""Exam protocols as YAML files: read, or told line by line what is wrong and what would be right.

PyYAML's safe loader composes nodes with their marks; what pydantic or `protocols.exam_check` finds
wrong is then looked up among them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from protocols import exam_check
from protocols.exam import ExamProtocol
from protocols.exam_check import Known, Location
from protocols.trigger import CONDITIONS

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 40
MAX_EVENTS = 20_000
"""Of a text, as YAML counts: keys, values, beginnings and ends of lists."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML has it: the same nodes, ten times faster."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong: where (both from 1), and what would be right."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class ProtocolError(ValueError):
    """A file is no exam protocol.

    Attributes
    ----------
    file : str
    problems : tuple of Problem
        In order of line.
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{file}:{problem}" for problem in problems))
        self.file = file
        self.problems = tuple(problems)


def load(path: Path, known: Known | None = None) -> ExamProtocol:
    """Return the exam protocol of a file.

    Parameters
    ----------
    path : Path
    known : Known, optional
        The chains and engines which its steps may name; by default any.

    Raises
    ------
    ProtocolError
        With every problem of the file.
    OSError
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(str(path), [Problem(1, 1, f"expected UTF-8 text: {error}")]) from None
    return parse(text, known, str(path))


def parse(text: str, known: Known | None = None, file: str = "protocol") -> ExamProtocol:
    """Return the exam protocol of a YAML text; see `load`."""
    if len(text) > MAX_CHARACTERS:
        message = f"expected at most {MAX_CHARACTERS} characters, got {len(text)}"
        raise ProtocolError(file, [Problem(1, 1, message)])
    root, data = _compose(text, file)
    try:
        # As JSON: lists are tuples and strings are enumerations, but "3" is not 3 nor yes 1.
        protocol = ExamProtocol.model_validate_json(data)
    except ValidationError as error:
        found = {_problem(root, dict(e)) for e in _causes(error.errors(include_url=False))}
        raise ProtocolError(file, sorted(found)) from None
    if wrong := exam_check.problems(protocol, known or Known()):
        raise ProtocolError(file, sorted({_at(root, loc, what) for loc, what in wrong}))
    return protocol


def _compose(text: str, file: str) -> tuple[yaml.Node, str]:
    """Return the nodes of a text, and its data as JSON."""
    try:
        if problem := _unbounded(text):
            raise ProtocolError(file, [problem])
        loader = _LOADER(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ProtocolError(file, [Problem(1, 1, "expected `key: value` lines of a protocol")])
        if repeated := _repeated(root):
            raise ProtocolError(file, repeated)
        return root, json.dumps(loader.construct_document(root), default=str)
    except ProtocolError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ProtocolError(file, [_problem_at(mark, error.problem or "not YAML")]) from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # PyYAML's constructors raise the last ones for values that only look like a date, say.
        message = f"expected YAML: {(str(error) or type(error).__name__).splitlines()[0]}"
        raise ProtocolError(file, [Problem(1, 1, message)]) from None


def _unbounded(text: str) -> Problem | None:
    """Find what would let a small text cost much memory or time, before it is composed."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        if number == MAX_EVENTS:
            return _problem_at(event.start_mark, f"expected at most {MAX_EVENTS} keys and values")
        if isinstance(event, yaml.AliasEvent):
            return _problem_at(event.start_mark, "expected the value itself, not a reference")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return _problem_at(event.start_mark, f"expected at most {MAX_DEPTH} levels")
    return None


def _problem_at(mark: Any, message: str) -> Problem:
    return Problem(mark.line + 1, mark.column + 1, message) if mark else Problem(1, 1, message)


def _repeated(node: yaml.Node) -> list[Problem]:
    found: list[Problem] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _repeated(item)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    message = f"{key.value} stands in line {lines[key.value]} already"
                    found.append(_problem_at(key.start_mark, message))
                lines[key.value] = key.start_mark.line + 1
            found += _repeated(value)
    return found


def _find(node: yaml.Node, location: Location) -> tuple[yaml.Node, yaml.Node, list[str]]:
    """Return the node of a location, the node of its key and its names as far as they are there.

    Parts of a location which are not in the file (pydantic's tags, missing keys) are passed over.
    """
    key, path = node, []
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part < len(node.value):
                key = node = node.value[part]
                path.append(f"[{part + 1}]")
        elif isinstance(node, yaml.MappingNode):
            for k, v in node.value:
                if isinstance(k, yaml.ScalarNode) and k.value == str(part):
                    key, node = k, v
                    path.append(f".{part}" if path else str(part))
                    break
    return node, key, path


def _at(root: yaml.Node, location: Location, message: str, at_key: bool = False) -> Problem:
    node, key, path = _find(root, location)
    prefix = f"{''.join(path)}: " if path else ""
    return _problem_at((key if at_key else node).start_mark, prefix + message)


def _causes(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out that a list is too short where its items are wrong: it is only a consequence."""
    for error in errors:
        at = error["loc"]
        inner = any(e["loc"][: len(at)] == at and len(e["loc"]) > len(at) for e in errors)
        if not (error["type"] == "too_short" and inner):
            yield error


def _problem(root: yaml.Node, error: dict[str, Any]) -> Problem:
    """Say in the words of the file what pydantic has found."""
    location, kind, got = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        model = _model(ExamProtocol, location[:-1])
        hint = exam_check.expected(str(location[-1]), model.model_fields if model else ())
        return _at(root, location, "unknown key" + hint, at_key=True)
    if kind == "missing":
        return _at(root, location, f"expected the key {location[-1]}")
    if kind == "condition":
        return _at(root, location, error["msg"] + _meant(got))
    if kind == "kind":
        name = got.get("kind", "none") if isinstance(got, dict) else got
        return _at(root, (*location, "kind"), f"{error['msg']}, got {name}")
    if kind == "too_short":
        return _at(root, location, "expected at least one")
    if kind in ("enum", "literal_error"):
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"]) or [error["ctx"]["expected"]]
        return _at(root, location, f"unknown {got!r}" + exam_check.expected(str(got), allowed))
    if kind == "string_pattern_mismatch":
        return _at(root, location, f"{_shape(location)}, got {got!r}")
    if kind == "value_error":
        return _at(root, location, str(error["ctx"]["error"]))
    message = error["msg"].replace("Input should be", "expected").replace("Field required", "")
    shown = "" if isinstance(got, dict | list) else f", got {_yaml(got)}"
    return _at(root, location, message[:1].lower() + message[1:] + shown)


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _shape(location: Location) -> str:
    if "level" in location:
        return "expected a level such as L4, or L4/L5 of a disc"
    return "expected a name of small letters and digits, such as t1_tse_sag"


def _meant(got: Any) -> str:
    if not isinstance(got, dict):
        return ""
    named = [key for key in CONDITIONS if key in got]
    if len(named) > 1:
        return f", got {' and '.join(named)} in one: write them under `all:`"
    for key in got:
        if near := get_close_matches(str(key), CONDITIONS, 1):
            return f", got {key}; did you mean {near[0]}?"
    return f", got {', '.join(map(str, got)) or 'none'}"


def _model(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    for depth, part in enumerate(location):
        if part not in model.model_fields:
            continue
        models = dict(_models(model.model_fields[str(part)].annotation))
        tag = next((p for p in location[depth + 1 :] if isinstance(p, str)), None)
        found = models.get(tag) or models.get(None)
        if found is None:
            return None
        model = found
    return model


def _models(
    annotation: Any, tag: str | None = None
) -> Iterator[tuple[str | None, type[BaseModel]]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
    for part in get_args(annotation):
        tags = [m.tag for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Tag)]
        yield from _models(part, tags[0] if tags else tag)
