"""A recorded exam again, under any protocol: the trigger machine as it runs live, on recorded time.

    again = replay(protocol, recorded_exam, Answers())

Nothing is random and no clock is read, so that an exam gives the same result wherever it is
replayed. Each exam stands alone: shadow mode, circuit breaker and quiet mode, which come from a
site's other exams, are not in force.
"""

import hashlib
from dataclasses import dataclass, field

from agent.trigger_states import (
    Decision,
    DeclineReason,
    ExamContext,
    Progress,
    Proposal,
    Reason,
    Standing,
    State,
    Transition,
)
from agent.triggers import Triggers
from protocols.archive import RecordedExam, RecordedSeries
from protocols.exam import ExamProtocol, Step


@dataclass(frozen=True)
class Answers:
    """How the technologist answers.

    Attributes
    ----------
    accepts : float
        Fraction of questions that are accepted; the others are declined. Which ones depends on
        the question's id alone.
    after_s : float
        Later than the question; past its countdown there is no answer.
    """

    accepts: float = 1.0
    after_s: float = 10.0

    def to(self, proposal: Proposal) -> bool:
        """Return whether this question is accepted."""
        digest = hashlib.sha256(proposal.id.encode()).digest()
        return int.from_bytes(digest[:6]) < self.accepts * 2**48


@dataclass(frozen=True)
class Outcome:
    """What became of one trigger in one exam.

    Attributes
    ----------
    state, reason, detail
        Where it stood when the planned series were over, before the exam's end.
    asked : bool
    confirmed : bool
        Its condition held at some time.
    minutes : float
        Scanned because of it.
    text : str
        Of the question.
    after_series : str
        Which it was asked after.
    way : tuple of Transition
        All it went through.
    """

    trigger: str
    state: State
    reason: Reason
    detail: str
    asked: bool
    confirmed: bool
    minutes: float
    text: str
    after_series: str
    way: tuple[Transition, ...]


@dataclass(frozen=True)
class Replayed:
    """One exam under one protocol.

    Attributes
    ----------
    outcomes : tuple of Outcome
        By priority.
    unordered_minutes : float
        Of steps which the protocol plans for everyone and this exam did not have.
    """

    exam: str
    outcomes: tuple[Outcome, ...]
    unordered_minutes: float

    def asked(self, triggers: tuple[str, ...]) -> bool:
        """Return whether one of these triggers asked."""
        return any(outcome.asked and outcome.trigger in triggers for outcome in self.outcomes)

    @property
    def minutes(self) -> float:
        """All that was scanned beyond what was ordered."""
        return self.unordered_minutes + sum(outcome.minutes for outcome in self.outcomes)


@dataclass
class _Course:
    """What has happened in an exam so far."""

    accepted: list[Proposal] = field(default_factory=list)
    way: list[Transition] = field(default_factory=list)
    asked_after: dict[str, str] = field(default_factory=dict)


def replay(protocol: ExamProtocol, exam: RecordedExam, answers: Answers) -> Replayed:
    """Return what a protocol makes of a recorded exam.

    Accepted coverage is scanned after the planned steps; the exam was recorded without it, so it
    brings no new findings. Steps that the protocol plans and the exam did not have count as
    scanned, with their minutes.
    """
    machine = Triggers(protocol, exam.exam, Standing())
    course = _Course()
    ordered = {planned.step for planned in exam.planned}
    unordered = [step for step in protocol.steps if step.name not in ordered]
    for series in exam.series:
        _series(machine, course, exam, series, answers, unordered)
    now_s = exam.series[-1].completed_s
    before_end = {each.trigger: each for each in machine.explain()}
    for proposal in course.accepted:
        for progress, seconds in ((Progress.SCANNING, 0.0), (Progress.DONE, 60 * proposal.minutes)):
            now_s += seconds
            course.way += machine.progress(proposal.id, progress, now_s).transitions
    course.way += machine.end(now_s).transitions
    scanned = {proposal.trigger: proposal.minutes for proposal in course.accepted}
    outcomes = []
    for name, explanation in before_end.items():
        each = machine.state.triggers[name]
        outcomes.append(
            Outcome(
                trigger=name,
                state=explanation.state,
                reason=explanation.reason,
                detail=explanation.detail,
                asked=name in course.asked_after,
                confirmed=each.confirmed,
                minutes=scanned.get(name, 0.0),
                text=each.proposal.text if each.proposal else "",
                after_series=course.asked_after.get(name, ""),
                way=tuple(step for step in course.way if step.trigger == name),
            )
        )
    return Replayed(exam.exam, tuple(outcomes), sum(step.minutes for step in unordered))


def _series(
    machine: Triggers,
    course: _Course,
    exam: RecordedExam,
    series: RecordedSeries,
    answers: Answers,
    unordered: list[Step],
) -> None:
    """Take in one series, and put a question where there is one."""
    now_s = series.completed_s
    decision = _keep(
        course, machine.update(series.findings, _context(course, exam, series, unordered), now_s)
    )
    while proposal := decision.proposal:
        why = _unprescribed(proposal, series)
        if why is None:
            break
        # As live: slices that cannot be laid give the next trigger its turn.
        _keep(course, machine.withdraw(proposal.id, why, now_s))
        decision = _keep(
            course,
            machine.update(series.findings, _context(course, exam, series, unordered), now_s),
        )
    if proposal is None:
        return
    course.asked_after[proposal.trigger] = series.findings.series[-1]
    answered_s = now_s + answers.after_s
    if answered_s >= proposal.expires_s:
        _keep(course, machine.tick(proposal.expires_s))
    elif answers.to(proposal):
        _keep(course, machine.answer(proposal.id, True, answered_s))
        course.accepted.append(proposal)
    else:
        _keep(course, machine.answer(proposal.id, False, answered_s, DeclineReason.OTHER))


def _keep(course: _Course, decision: Decision) -> Decision:
    course.way += decision.transitions
    return decision


def _unprescribed(proposal: Proposal, series: RecordedSeries) -> str | None:
    for step in proposal.steps:
        if why := series.unprescribed.get(step.rule):
            return why
    return None


def _context(
    course: _Course, exam: RecordedExam, series: RecordedSeries, unordered: list[Step]
) -> ExamContext:
    done = set(series.findings.series)
    accepted = [step for proposal in course.accepted for step in proposal.steps]
    extra = sum(step.minutes for step in accepted)
    left = sum(planned.minutes for planned in exam.planned if planned.step not in done)
    left += sum(step.minutes for step in unordered)
    return ExamContext(
        order=exam.order,
        slot_end_s=60 * exam.slot_minutes,
        remaining_minutes=left + extra,
        minutes_used=extra,
        sar_headroom=series.sar_headroom,
        planned=(
            *(planned.step for planned in exam.planned),
            *(step.name for step in unordered),
            *(step.step for step in accepted),
        ),
    )
