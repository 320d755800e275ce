"""What the truth says of a protocol's decisions.

An exam is positive where a lesion lies in the imaged volume, negative where there is none. Lesions
outside that volume cannot be seen by a trigger: such exams are set apart, and counted as missed in
the numbers called "anywhere".
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import fmean

from agent.backtest_numbers import (
    Bin,
    Numbers,
    Proportion,
    RocPoint,
    net_benefit,
    proportion,
    reliability,
    roc,
)
from agent.backtest_target import Target, judged_triggers, thresholds
from agent.backtest_work import THRESHOLDS, ExamResult
from agent.replay import Outcome
from agent.trigger_states import State
from protocols.archive import Truth
from protocols.exam import ExamProtocol

SIZES_ML = (0.5, 1.0, 2.0, 4.0)
"""Bounds of lesion sizes."""

PREVALENCES = (0.035, 0.10)
"""Of lumbar exams at large (Romeo 2018), and of referrals by a rheumatologist."""

THRESHOLD_PROBABILITIES = tuple(round(0.01 + 0.005 * i, 3) for i in range(39))
"""Of the decision curves: 0.01 to 0.20."""


class Kind(StrEnum):
    """What is there in an exam."""

    IMAGED = "lesion in the imaged volume"
    OUTSIDE = "lesion outside the imaged volume"
    NONE = "no lesion"


class SizeGroup(Numbers):
    """Sensitivity of exams whose largest imaged lesion has this size."""

    size: str
    sensitivity: Proportion


class SweepPoint(Numbers):
    """The same protocol with another upper threshold."""

    up: float
    sensitivity: Proportion
    specificity: Proportion
    asks_per_100: float
    minutes_per_exam: float


class DecisionPoint(Numbers):
    """Net benefit at one threshold probability; that of "never" is 0."""

    threshold: float
    protocol: float
    protocol_anywhere: float
    always: float


class Reweighted(Numbers):
    """The rates of this archive at another prevalence."""

    prevalence: float
    asks_per_100: float
    positive_predictive_value: float | None
    minutes_per_exam: float
    minutes_per_true_positive: float | None
    curve: tuple[DecisionPoint, ...]


class Wrong(Numbers):
    """One wrong decision, with its reasons."""

    exam: str
    missed: bool
    score: float
    lesions: tuple[str, ...]
    group: str
    mimics: tuple[str, ...]
    trigger: str
    state: str
    reason: str
    detail: str
    question: str
    way: tuple[str, ...]


class Difference(Numbers):
    """Exams in which one of two protocols scans and the other does not."""

    scans: str
    kind: Kind
    exams: tuple[str, ...]


class Judged(Numbers):
    """One protocol's numbers.

    Attributes
    ----------
    triggers : tuple of str
        Those that are judged; empty where it asks nothing and scans everyone.
    kinds : dict
        Exams of each kind.
    sensitivity, specificity, sensitivity_anywhere : Proportion
    sensitivity_judgeable : Proportion
        Leaving out exams in which every judged trigger abstained.
    asks_per_100, other_asks_per_100 : float
        Questions of judged and of other triggers.
    abstained : Proportion
        Exams in which every judged trigger abstained at the end.
    held_per_100 : float
        Exams in which a judged condition held: the `expected_per_100_exams` of this archive.
    minutes_per_exam : float
        Scanned beyond what was ordered, by all triggers.
    minutes_per_true_positive : float or None
        Minutes of judged triggers for each positive exam that was scanned.
    roc, auc
        Of the highest probability said, whatever else the trigger asks for.
    operating_up : tuple of float
        Upper thresholds as written.
    calibration_error : float or None
    standing : dict
        Where the judged triggers ended, and how often.
    """

    protocol: str
    revision: int
    digest: str
    triggers: tuple[str, ...]
    exams: int
    kinds: dict[Kind, int]
    sensitivity: Proportion
    specificity: Proportion
    sensitivity_anywhere: Proportion
    sensitivity_judgeable: Proportion
    by_size: tuple[SizeGroup, ...]
    asks_per_100: float
    other_asks_per_100: float
    abstained: Proportion
    held_per_100: float
    minutes_per_exam: float
    minutes_per_true_positive: float | None
    roc: tuple[RocPoint, ...]
    auc: float | None
    operating_up: tuple[float, ...]
    sweep: tuple[SweepPoint, ...]
    reliability: tuple[Bin, ...]
    calibration_error: float | None
    reweighted: tuple[Reweighted, ...]
    standing: dict[str, int]
    wrong: tuple[Wrong, ...]

    @property
    def name(self) -> str:
        """Protocol and revision."""
        return f"{self.protocol} r{self.revision}"


@dataclass(frozen=True)
class _Row:
    exam: str
    kind: Kind
    scans: bool
    score: float
    size_ml: float
    minutes: float
    judged_minutes: float
    others: int
    abstained: bool
    held: bool
    swept: tuple[bool, ...]
    swept_minutes: tuple[float, ...]


class Judge:
    """Takes in the results of one protocol, exam by exam."""

    def __init__(self, protocol: ExamProtocol, target: Target) -> None:
        self.protocol, self.target = protocol, target
        self.triggers = judged_triggers(protocol, target)
        self.rows: list[_Row] = []
        self.always = False
        self._wrong: list[Wrong] = []
        self._standing: Counter[str] = Counter()
        self._said: list[float] = []
        self._true: list[bool] = []

    def add(self, result: ExamResult, truth: Truth) -> None:
        """Take in one exam."""
        replayed = result.replayed
        mine = [each for each in replayed.outcomes if each.trigger in self.triggers]
        unordered = replayed.unordered_minutes
        imaged = [lesion for lesion in truth.lesions if lesion.imaged]
        kind = Kind.IMAGED if imaged else Kind.OUTSIDE if truth.lesions else Kind.NONE
        scans = unordered > 0 or replayed.asked(self.triggers)
        self.always |= unordered > 0
        self.rows.append(
            _Row(
                exam=replayed.exam,
                kind=kind,
                scans=scans,
                score=result.score,
                size_ml=max((lesion.volume_ml for lesion in imaged), default=0.0),
                minutes=replayed.minutes,
                judged_minutes=unordered + sum(each.minutes for each in mine),
                others=sum(each.asked for each in replayed.outcomes if each not in mine),
                abstained=bool(mine) and all(each.state is State.ABSTAINED for each in mine),
                held=any(each.confirmed for each in mine),
                swept=result.swept,
                swept_minutes=result.swept_minutes,
            )
        )
        self._standing.update(f"{each.state}: {each.reason}" for each in mine)
        for side, said in result.said:
            self._said.append(said)
            self._true.append(any(lesion.side == side for lesion in imaged))
        if (kind is Kind.IMAGED and not scans) or (kind is Kind.NONE and scans):
            # Of several judged triggers the one that came furthest: it asked, or nearly did.
            decisive = max(mine, key=lambda each: (each.asked, each.confirmed), default=None)
            if decisive and not unordered:
                self._wrong.append(_wrong(result, truth, decisive, missed=not scans))

    def judged(self) -> Judged:
        """Return the numbers of all exams so far."""
        rows = self.rows
        positive = [row for row in rows if row.kind is Kind.IMAGED]
        negative = [row for row in rows if row.kind is Kind.NONE]
        diseased = [row for row in rows if row.kind is not Kind.NONE]
        found = sum(row.scans and row.judged_minutes > 0 for row in positive)
        judged_minutes = sum(row.judged_minutes for row in rows)
        curve: tuple[RocPoint, ...] = ()
        area: float | None = None
        if positive and negative and self.triggers:
            both = positive + negative
            curve, area = roc(
                [row.score for row in both], [row.kind is Kind.IMAGED for row in both]
            )
        bins, error = reliability(self._said, self._true)
        return Judged(
            protocol=self.protocol.name,
            revision=self.protocol.revision,
            digest=self.protocol.digest,
            triggers=self.triggers,
            exams=len(rows),
            kinds={kind: sum(row.kind is kind for row in rows) for kind in Kind},
            sensitivity=_scanned(positive),
            specificity=_not_scanned(negative),
            sensitivity_anywhere=_scanned(diseased),
            sensitivity_judgeable=_scanned([row for row in positive if not row.abstained]),
            by_size=_by_size(positive),
            asks_per_100=100 * fmean(row.scans for row in rows),
            other_asks_per_100=100 * fmean(row.others for row in rows),
            abstained=proportion(sum(row.abstained for row in rows), len(rows)),
            held_per_100=100 * fmean(row.held for row in rows),
            minutes_per_exam=fmean(row.minutes for row in rows),
            minutes_per_true_positive=judged_minutes / found if found else None,
            roc=curve,
            auc=area,
            operating_up=thresholds(self.protocol, self.target),
            sweep=_sweep(rows, positive, negative),
            reliability=bins,
            calibration_error=error,
            reweighted=tuple(_reweighted(rows, prevalence) for prevalence in PREVALENCES),
            standing=dict(sorted(self._standing.items())),
            wrong=tuple(sorted(self._wrong, key=lambda wrong: (not wrong.missed, wrong.exam))),
        )


def compare(first: Judge, second: Judge) -> tuple[Difference, ...]:
    """Return the exams in which one scans and the other does not."""
    apart: dict[tuple[int, Kind], list[str]] = defaultdict(list)
    for a, b in zip(first.rows, second.rows):
        if a.scans != b.scans:
            apart[0 if a.scans else 1, a.kind].append(a.exam)
    names = [f"{judge.protocol.name} r{judge.protocol.revision}" for judge in (first, second)]
    return tuple(
        Difference(scans=names[which], kind=kind, exams=tuple(exams))
        for (which, kind), exams in sorted(apart.items())
    )


def _scanned(rows: list[_Row]) -> Proportion:
    return proportion(sum(row.scans for row in rows), len(rows))


def _not_scanned(rows: list[_Row]) -> Proportion:
    return proportion(sum(not row.scans for row in rows), len(rows))


def _by_size(positive: list[_Row]) -> tuple[SizeGroup, ...]:
    bounds = (0.0, *SIZES_ML, float("inf"))
    groups = []
    for low, high in pairwise(bounds):
        size = f"from {low:g} ml" if high == float("inf") else f"{low:g}-{high:g} ml"
        inside = [row for row in positive if low <= row.size_ml < high]
        groups.append(SizeGroup(size=size, sensitivity=_scanned(inside)))
    return tuple(groups)


def _sweep(rows: list[_Row], positive: list[_Row], negative: list[_Row]) -> tuple[SweepPoint, ...]:
    if not rows[0].swept:
        return ()
    points = []
    for i, up in enumerate(THRESHOLDS):
        points.append(
            SweepPoint(
                up=up,
                sensitivity=proportion(sum(row.swept[i] for row in positive), len(positive)),
                specificity=proportion(sum(not row.swept[i] for row in negative), len(negative)),
                asks_per_100=100 * fmean(row.swept[i] for row in rows),
                minutes_per_exam=fmean(row.swept_minutes[i] for row in rows),
            )
        )
    return tuple(points)


def _reweighted(rows: list[_Row], prevalence: float) -> Reweighted:
    """Weigh positive and negative exams so that this fraction is positive."""
    sensitivity = _rate([row for row in rows if row.kind is Kind.IMAGED])
    anywhere = _rate([row for row in rows if row.kind is not Kind.NONE])
    false_rate = _rate([row for row in rows if row.kind is Kind.NONE])
    scans = [row.judged_minutes for row in rows if row.scans]
    minutes = fmean(scans) if scans else 0.0
    accepted = sum(minutes > 0 for minutes in scans) / len(scans) if scans else 0.0
    true, false = prevalence * sensitivity, (1 - prevalence) * false_rate
    found = true * accepted
    return Reweighted(
        prevalence=prevalence,
        asks_per_100=100 * (true + false),
        positive_predictive_value=true / (true + false) if true + false else None,
        minutes_per_exam=(true + false) * minutes,
        minutes_per_true_positive=(true + false) * minutes / found if found else None,
        curve=tuple(
            DecisionPoint(
                threshold=threshold,
                protocol=net_benefit(sensitivity, 1 - false_rate, prevalence, threshold),
                protocol_anywhere=net_benefit(anywhere, 1 - false_rate, prevalence, threshold),
                always=net_benefit(1, 0, prevalence, threshold),
            )
            for threshold in THRESHOLD_PROBABILITIES
        ),
    )


def _rate(rows: list[_Row]) -> float:
    return fmean(row.scans for row in rows) if rows else 0.0


def _wrong(result: ExamResult, truth: Truth, outcome: Outcome, missed: bool) -> Wrong:
    return Wrong(
        exam=truth.exam,
        missed=missed,
        score=result.score,
        lesions=tuple(
            f"{lesion.structure.replace('_', ' ')}, {lesion.side}, {lesion.volume_ml:.2f} ml, "
            f"contrast to noise {lesion.cnr:.1f}"
            + ("" if lesion.imaged else ", outside the imaged volume")
            for lesion in truth.lesions
        ),
        group=truth.group,
        mimics=truth.mimics,
        trigger=outcome.trigger,
        state=outcome.state,
        reason=outcome.reason,
        detail=outcome.detail,
        question=outcome.text if outcome.asked else "",
        way=tuple(
            f"{step.at_s / 60:.1f} min: {step.before} to {step.after}, {step.detail}"
            for step in outcome.way
        ),
    )
