"""What a protocol's own form cannot say: whether the names in it name something.

Chains, engines and measures are known to the rooms above; the caller says which there are.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from protocols.exam import ExamProtocol, GeometryRule, Step
from protocols.trigger import (
    PLACEHOLDERS,
    Condition,
    FindingCondition,
    MeasureCondition,
    Trigger,
)

Location = tuple[str | int, ...]
Found = tuple[Location, str]

DIAGNOSES = (
    "arthritis", "axspa", "cancer", "disease", "fracture", "haemangioma", "hernia", "infection",
    "inflammation", "inflamed", "malignan", "metasta", "myeloma", "sacroiliitis", "spondylitis",
    "spondylodiscitis", "stenosis", "tumor", "tumour",
)  # fmt: skip
"""A question says what is seen; these say what it may be."""


@dataclass(frozen=True)
class Known:
    """Names that steps and triggers may use; None where any will do."""

    chains: frozenset[str] | None = None
    engines: frozenset[str] | None = None
    measures: frozenset[str] | None = None


def expected(name: str, allowed: Iterable[str]) -> str:
    """Return what would be right instead of a name: the nearest, and the others."""
    names = list(allowed)
    near = get_close_matches(name, names, 1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f", expected one of {', '.join(sorted(names)) or 'none'}{hint}"


def problems(protocol: ExamProtocol, known: Known) -> list[Found]:
    """Return what is wrong with a protocol's references.

    Returns
    -------
    list of (location, message)
        The location is a path of keys and indices: ``("steps", 0, "chain")``.
    """
    found = list(_repeated(protocol))
    for part in ("steps", "on_demand"):
        for index, step in enumerate(getattr(protocol, part)):
            found += _below((part, index), _step(step, known))
    found += _below(("steps",), _planned(protocol))
    found += _below(("on_demand",), _unused(protocol))
    for index, trigger in enumerate(protocol.triggers):
        at = ("triggers", index)
        found += _below(at, _references(trigger, protocol, known))
        found += _below(at, _scan(trigger, protocol))
        found += _below((*at, "ask", "text"), _text(trigger))
    return found


def _below(location: Location, found: Iterable[Found]) -> Iterator[Found]:
    for inner, message in found:
        yield (*location, *inner), message


def _repeated(protocol: ExamProtocol) -> Iterator[Found]:
    for parts in (("steps", "on_demand"), ("triggers",)):
        seen: set[str] = set()
        for part in parts:
            for index, item in enumerate(getattr(protocol, part)):
                if item.name in seen:
                    yield (part, index, "name"), f"there is a {item.name} already: give it another"
                seen.add(item.name)


def _step(step: Step, known: Known) -> Iterator[Found]:
    if known.chains is not None and step.chain not in known.chains:
        yield ("chain",), f"unknown chain {step.chain}" + expected(step.chain, known.chains)
    for index, engine in enumerate(step.engines):
        if known.engines is not None and engine not in known.engines:
            yield ("engines", index), f"unknown engine {engine}" + expected(engine, known.engines)


def _planned(protocol: ExamProtocol) -> Iterator[Found]:
    for index, step in enumerate(protocol.steps):
        if step.geometry.rule is GeometryRule.DISC_AXIAL:
            message = "disc_axial needs a flagged disc: expected it in a step of on_demand"
            yield (index, "geometry", "rule"), message


def _unused(protocol: ExamProtocol) -> Iterator[Found]:
    asked_for = {name for trigger in protocol.triggers for name in trigger.scan}
    if asked_for - {step.name for step in protocol.on_demand}:
        return  # A name is misspelt in a trigger, and told of there.
    for index, step in enumerate(protocol.on_demand):
        if step.name not in asked_for:
            message = f"no trigger scans {step.name}: name it in one, or move it to steps"
            yield (index, "name"), message


def _references(trigger: Trigger, protocol: ExamProtocol, known: Known) -> Iterator[Found]:
    steps = [step.name for step in (*protocol.steps, *protocol.on_demand)]
    places: list[tuple[Location, tuple[str, ...]]] = [(("needs", "series"), trigger.needs.series)]
    for location, condition in conditions(trigger.when):
        if isinstance(condition, FindingCondition):
            places.append((("when", *location, "seen_on"), condition.seen_on))
        elif isinstance(condition, MeasureCondition) and known.measures is not None:
            measure = condition.measure
            if measure not in known.measures:
                message = f"unknown measure {measure}" + expected(measure, known.measures)
                yield ("when", *location, "measure"), message
    for place, names in places:
        for index, name in enumerate(names):
            if name not in steps:
                yield (*place, index), f"unknown step {name}" + expected(name, steps)


def _scan(trigger: Trigger, protocol: ExamProtocol) -> Iterator[Found]:
    on_demand = {step.name: step for step in protocol.on_demand}
    scanned = [on_demand[name] for name in trigger.scan if name in on_demand]
    for index, name in enumerate(trigger.scan):
        if name not in on_demand:
            yield ("scan", index), f"{name} is no step of on_demand" + expected(name, on_demand)
        elif name in trigger.scan[:index]:
            yield ("scan", index), f"{name} is named twice: expected it once"
        elif on_demand[name].geometry.rule is GeometryRule.DISC_AXIAL and not _seeks(trigger):
            message = f"{name} needs a flagged disc: expected a condition on a finding in when"
            yield ("scan", index), message
    minutes = sum(step.minutes for step in scanned)
    if minutes > protocol.budget.extra_minutes:
        message = (
            f"takes {minutes:g} min and would never be asked: expected at most the budget's "
            f"extra_minutes, {protocol.budget.extra_minutes:g}"
        )
        yield ("scan",), message


def _text(trigger: Trigger) -> Iterator[Found]:
    text = trigger.ask.text
    for name in re.findall(r"\{([^{}]*)\}", text):
        if name not in PLACEHOLDERS:
            yield (), f"unknown {{{name}}}" + expected(name, PLACEHOLDERS)
        elif name in ("side", "level", "structure") and not _seeks(trigger):
            yield (), f"{{{name}}} is that of a finding: expected a condition on one in when"
    for word in DIAGNOSES:
        if word in text.lower():
            yield (), f'"{word}" says what it may be: expected words for what is seen'


def conditions(condition: Condition, at: Location = ()) -> Iterator[tuple[Location, Condition]]:
    """Walk a condition and those within it, each with its path of keys and indices."""
    yield at, condition
    for key in ("all", "any", "none"):
        for index, inner in enumerate(getattr(condition, key, ())):
            yield from conditions(inner, (*at, key, index))


def _seeks(trigger: Trigger) -> bool:
    """Whether it can hold because of a finding."""
    return any(
        isinstance(condition, FindingCondition) and "none" not in location
        for location, condition in conditions(trigger.when)
    )
