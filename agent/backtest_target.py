"""What an archive's truth is about, and which triggers of a protocol look for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from protocols.archive import RecordedExam
from protocols.exam import ExamProtocol
from protocols.findings import FindingType, Structure
from protocols.trigger import (
    AllOf,
    AnyOf,
    Condition,
    FindingCondition,
    NoneOf,
    ProbabilityThresholds,
)


@dataclass(frozen=True)
class Target:
    """A type of finding in some structures."""

    finding: FindingType
    structures: tuple[Structure, ...]

    @property
    def text(self) -> str:
        """To be read."""
        return f"{self.finding} in {', '.join(self.structures)}"

    def looks_for(self, condition: FindingCondition) -> bool:
        """Return whether a condition is about this."""
        where = set(condition.where)
        return self.finding in condition.finding and (
            not where or bool(where & set(self.structures))
        )

    def evidence(self, exam: RecordedExam) -> tuple[float, tuple[tuple[str, float], ...]]:
        """Return the highest probability after any series, and all after the last one by side."""
        after = [
            tuple(
                (str(finding.side), finding.probability)
                for finding in series.findings.findings
                if finding.type == self.finding and finding.structure in self.structures
            )
            for series in exam.series
        ]
        score = max((said for findings in after for _, said in findings), default=0.0)
        return score, after[-1]


def judged_triggers(protocol: ExamProtocol, target: Target) -> tuple[str, ...]:
    """Return the triggers that look for the target; what a `none` looks for does not count."""
    return tuple(
        trigger.name for trigger in protocol.triggers if any(_conditions(trigger.when, target))
    )


def thresholds(protocol: ExamProtocol, target: Target) -> tuple[float, ...]:
    """Return the upper probability thresholds of these triggers."""
    found = {
        condition.probability.up
        for trigger in protocol.triggers
        for condition in _conditions(trigger.when, target)
    }
    return tuple(sorted(found))


def with_threshold(protocol: ExamProtocol, target: Target, up: float) -> ExamProtocol:
    """Return a protocol with another upper threshold for the target; the lower one moves along."""
    return protocol.model_copy(
        update={
            "triggers": tuple(
                trigger.model_copy(update={"when": _moved(trigger.when, target, up)})
                for trigger in protocol.triggers
            )
        }
    )


def _conditions(condition: Condition, target: Target) -> Iterator[FindingCondition]:
    if isinstance(condition, FindingCondition):
        if target.looks_for(condition):
            yield condition
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.all if isinstance(condition, AllOf) else condition.any:
            yield from _conditions(part, target)


def _moved(condition: Condition, target: Target, up: float) -> Condition:
    if isinstance(condition, FindingCondition):
        if not target.looks_for(condition):
            return condition
        margin = condition.probability.up - condition.probability.down
        limits = ProbabilityThresholds(up=up, down=max(0.0, up - margin))
        return condition.model_copy(update={"probability": limits})
    if isinstance(condition, NoneOf):
        return condition
    if isinstance(condition, AllOf):
        return AllOf(all=tuple(_moved(part, target, up) for part in condition.all))
    if isinstance(condition, AnyOf):
        return AnyOf(any=tuple(_moved(part, target, up) for part in condition.any))
    return condition
