"""Triggers in words: for `boreside protocol show`, the console and the audit."""

from collections.abc import Iterable

from protocols.exam import ExamProtocol
from protocols.trigger import (
    AllOf,
    AnomalyCondition,
    AnyOf,
    Condition,
    CoverageCondition,
    FindingCondition,
    MeasureCondition,
    Needs,
    Persistence,
    ProbabilityThresholds,
    Thresholds,
    Trigger,
    Unless,
)


def describe(condition: Condition) -> str:
    """Return a condition in words; a group only its own."""
    if isinstance(condition, FindingCondition):
        return _finding(condition)
    if isinstance(condition, MeasureCondition):
        where = f" at {_either(condition.level)}" if condition.level else ""
        return f"{condition.measure}{where} {_bounds(condition.above, condition.below)}"
    if isinstance(condition, CoverageCondition):
        side = f", {condition.side}," if condition.side else ""
        bounds = _bounds(condition.above, condition.below)
        return f"shown of {condition.coverage}{side} {bounds}"
    if isinstance(condition, AnomalyCondition):
        return f"anomaly score {_thresholds(condition.anomaly)}"
    if isinstance(condition, AllOf):
        return "all of"
    return "any of" if isinstance(condition, AnyOf) else "none of"


def _finding(condition: FindingCondition) -> str:
    words = [f"{condition.count} findings" if condition.count > 1 else "a finding"]
    words[0] += f" {_either(condition.finding)}"
    if condition.where:
        words[0] += f" in {_either(condition.where)}"
    if condition.side:
        words[0] += f", {condition.side}"
    if condition.level:
        words[0] += f" at {_either(condition.level)}"
    if condition.seen_on:
        words.append(f"seen on {_either(condition.seen_on)}")
    words.append(f"probability {_thresholds(condition.probability)}")
    if condition.cnr:
        words.append(f"contrast to noise {_thresholds(condition.cnr)}")
    if condition.depth_mm:
        words.append(f"depth {_thresholds(condition.depth_mm)} mm")
    return ", ".join([*words, _persistence(condition.persists)])


def _persistence(persists: Persistence) -> str:
    text = f"on {persists.adjacent_slices} adjacent slices or in {persists.series} series"
    return f"{text}, {persists.area_mm2:g} mm² or more" if persists.area_mm2 else text


def _thresholds(bounds: Thresholds | ProbabilityThresholds) -> str:
    return f"from {bounds.up:g} (until below {bounds.down:g})"


def _bounds(above: Thresholds | None, below: Thresholds | None) -> str:
    if above is not None:
        return _thresholds(above)
    assert below is not None  # one of them is there: the model has seen to it
    return f"up to {below.down:g} (until above {below.up:g})"


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


def needs(needed: Needs) -> list[str]:
    """Return what must have been shown before "nothing there" may be said, one text each."""
    texts = [f"{name} in usable quality" for name in needed.series]
    for need in needed.coverage:
        shown = "shown well enough to judge" if need.shown is None else f"shown to {need.shown:g}"
        texts += [f"{need.structure}, {side}, {shown}" for side in need.sides]
    return texts


def abstains(unless: Unless) -> list[str]:
    """Return what makes a trigger abstain, one text each."""
    texts = [
        f"SNR below {unless.snr_below:g}",
        f"motion above {unless.motion_above:g}",
        f"fat suppression failed in more than {unless.fat_suppression_failed_above:g}",
    ]
    if unless.reconstructions_differ:
        texts.append("the two reconstructions do not say the same")
    if unless.one_reconstruction:
        texts.append("there was only one reconstruction")
    if unless.levels_uncertain:
        texts.append("the numbering of the levels is uncertain")
    return texts


def blocked_by(unless: Unless) -> list[str]:
    """Return what forbids asking, one text each."""
    texts = ["the steps are planned already"]
    if unless.order:
        texts.append(f"the order says {_either(unless.order)}")
    if unless.sar_headroom_below is not None:
        texts.append(f"SAR headroom below {unless.sar_headroom_below:g}, or not known")
    return texts


def read_aloud(trigger: Trigger, protocol: ExamProtocol) -> list[str]:
    """Return a trigger as sentences, one a line; conditions within groups are indented."""
    scanned = [protocol.step(name) for name in trigger.scan]
    title = f": {trigger.title}" if trigger.title else ""
    lines = [f"{trigger.name}, priority {trigger.priority}{title}", "  When"]
    lines += [f"    {line}" for line in _tree(trigger.when)]
    if needed := needs(trigger.needs):
        lines.append('  It says "nothing there" only after')
        lines += [f"    {text}" for text in needed]
    lines += ["  It abstains if", *(f"    {text}" for text in abstains(trigger.unless))]
    lines += ["  It does not ask if", *(f"    {text}" for text in blocked_by(trigger.unless))]
    lines += ["  It asks", f'    "{trigger.ask.text}"']
    lines.append(f"    and waits {trigger.ask.countdown_s:g} s; no answer is a decline")
    lines.append("  It scans")
    lines += [f"    {s.name}, {s.geometry.rule}, {s.minutes:g} min" for s in scanned]
    return lines


def _tree(condition: Condition) -> list[str]:
    lines = [describe(condition)]
    for key in ("all", "any", "none"):
        for inner in getattr(condition, key, ()):
            lines += [f"  {line}" for line in _tree(inner)]
    return lines
