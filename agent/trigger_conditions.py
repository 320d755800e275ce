"""How far a trigger's conditions hold, each with its values: one walk decides and explains.

Hysteresis is a set of keys, one for each condition and what it was met by: what is in the set is
held to the lower threshold, everything else to the upper one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.trigger_states import Certainty, Explained
from protocols.findings import ExamFindings, Finding
from protocols.trigger import (
    AllOf,
    AnomalyCondition,
    AnyOf,
    Condition,
    CoverageCondition,
    FindingCondition,
    MeasureCondition,
    ProbabilityThresholds,
    Thresholds,
)
from protocols.trigger_text import describe

SHOWN_VALUES = 4
"""Findings that one line of an explanation lists."""

NO_SERIES = "no series yet"


@dataclass
class Evaluation:
    """The conditions of one trigger on the findings of one exam.

    Attributes
    ----------
    findings : ExamFindings or None
        None before the first series.
    distrusted : dict of str to str
        Series whose quality is not enough, and why: they count for nothing.
    before, after : set of str
        Keys that were met before this evaluation, and now.
    set_aside : list of str
        Findings above a lower threshold that only distrusted series show.
    """

    findings: ExamFindings | None
    distrusted: dict[str, str]
    before: frozenset[str]
    after: set[str] = field(default_factory=set)
    set_aside: list[str] = field(default_factory=list)

    def explain(self, condition: Condition, path: str = "when") -> Explained:
        """Return how far a condition holds, and why."""
        if isinstance(condition, FindingCondition):
            return self._finding(condition, path)
        if isinstance(condition, MeasureCondition | CoverageCondition | AnomalyCondition):
            return self._values(condition, path)
        if isinstance(condition, AllOf):
            key, parts = "all", condition.all
        elif isinstance(condition, AnyOf):
            key, parts = "any", condition.any
        else:
            key, parts = "none", condition.none
        inner = tuple(self.explain(part, f"{path}.{key}.{i}") for i, part in enumerate(parts))
        certainties = [part.certainty for part in inner]
        if key == "all":
            certainty = min(certainties)
        elif key == "any":
            certainty = max(certainties)
        else:
            free = self.findings is not None and max(certainties) < Certainty.CANDIDATE
            certainty = Certainty.CONFIRMED if free else Certainty.NONE
        met_by = () if key == "none" else (name for part in inner for name in part.findings)
        return Explained(
            text=describe(condition),
            value="; ".join(part.value for part in inner),
            certainty=certainty,
            findings=tuple(dict.fromkeys(met_by)),
            inner=inner,
        )

    def _finding(self, condition: FindingCondition, path: str) -> Explained:
        values: list[str] = []
        certainties: list[Certainty] = []
        confirmed: list[str] = []
        for finding in self._matching(condition):
            trusted = [name for name in finding.series if name not in self.distrusted]
            if not trusted:
                if finding.probability >= condition.probability.down:
                    why = self.distrusted[finding.series[0]]
                    self.set_aside.append(f"{finding.id} only on {finding.series[0]}, {why}")
                continue
            if condition.seen_on and not set(trusted) & set(condition.seen_on):
                continue
            certainty = self._certainty(condition, finding, trusted, f"{path}|{finding.id}")
            certainties.append(certainty)
            values.append(_describe(finding, trusted))
            if certainty is Certainty.CONFIRMED:
                confirmed.append(finding.id)
        certainties.sort(reverse=True)
        enough = len(certainties) >= condition.count
        return Explained(
            text=describe(condition),
            value="; ".join(values[:SHOWN_VALUES]) or self._nothing("no such finding"),
            certainty=certainties[condition.count - 1] if enough else Certainty.NONE,
            findings=tuple(confirmed),
        )

    def _matching(self, condition: FindingCondition) -> list[Finding]:
        found = [
            finding
            for finding in (self.findings.findings if self.findings else ())
            if finding.type in condition.finding
            and (not condition.where or finding.structure in condition.where)
            and (condition.side is None or finding.side == condition.side)
            and (not condition.level or finding.level in condition.level)
            and (condition.depth_mm is None or finding.depth_mm is not None)
        ]
        return sorted(found, key=lambda finding: (-finding.probability, finding.id))

    def _certainty(
        self, condition: FindingCondition, finding: Finding, trusted: list[str], key: str
    ) -> Certainty:
        bounds = [
            (finding.probability, condition.probability),
            (finding.cnr, condition.cnr),
            (finding.depth_mm or 0.0, condition.depth_mm),
        ]
        steps = [self._above(value, limits, key) for value, limits in bounds if limits]
        if min(steps) < Certainty.CONFIRMED:
            return min(steps)
        self.after.add(key)
        persists = condition.persists
        # Slices are those of the first series: without it nothing is known of neighbours.
        adjacent = finding.adjacent_slices if trusted[0] == finding.series[0] else 1
        persistent = finding.area_mm2 >= persists.area_mm2 and (
            adjacent >= persists.adjacent_slices or len(trusted) >= persists.series
        )
        return Certainty.CONFIRMED if persistent else Certainty.CANDIDATE

    def _values(
        self, condition: MeasureCondition | CoverageCondition | AnomalyCondition, path: str
    ) -> Explained:
        certainty = Certainty.NONE
        values = []
        for name, value in self._named(condition):
            key = f"{path}|{name}"
            if isinstance(condition, AnomalyCondition):
                step = self._above(value, condition.anomaly, key)
            elif condition.above is not None:
                step = self._above(value, condition.above, key)
            else:
                assert condition.below is not None  # the model has seen to it
                # "Up to down, until above up" is "from -down, until below -up".
                flipped = Thresholds(up=-condition.below.down, down=-condition.below.up)
                step = self._above(-value, flipped, key)
            if step is Certainty.CONFIRMED:
                self.after.add(key)
            certainty = max(certainty, step)
            values.append(f"{name}: {value:.3g}" if name else f"{value:.3g}")
        return Explained(
            text=describe(condition),
            value=", ".join(values) or self._nothing("not known"),
            certainty=certainty,
        )

    def _named(
        self, condition: MeasureCondition | CoverageCondition | AnomalyCondition
    ) -> Iterator[tuple[str, float]]:
        if self.findings is None:
            return
        if isinstance(condition, MeasureCondition):
            for measure in self.findings.measures:
                if measure.name == condition.measure and (
                    not condition.level or measure.level in condition.level
                ):
                    yield measure.level or "", measure.value
        elif isinstance(condition, CoverageCondition):
            for shown in self.findings.coverage:
                if shown.structure == condition.coverage and condition.side in (None, shown.side):
                    yield shown.side, shown.shown
        elif self.findings.anomaly is not None:
            yield "", self.findings.anomaly

    def _above(
        self, value: float, limits: Thresholds | ProbabilityThresholds, key: str
    ) -> Certainty:
        if value >= (limits.down if key in self.before else limits.up):
            return Certainty.CONFIRMED
        return Certainty.EVIDENCE if value >= limits.down else Certainty.NONE

    def _nothing(self, otherwise: str) -> str:
        return NO_SERIES if self.findings is None else otherwise


def _describe(finding: Finding, trusted: list[str]) -> str:
    where = [finding.structure, finding.side, finding.level or ""]
    depth = "" if finding.depth_mm is None else f", {finding.depth_mm:.0f} mm deep"
    return (
        f"{finding.id} ({' '.join(filter(None, where))}): probability {finding.probability:.2f}, "
        f"contrast to noise {finding.cnr:.1f}, {finding.adjacent_slices} adjacent slices, "
        f"{len(trusted)} series, {finding.area_mm2:.0f} mm²{depth}"
    )
