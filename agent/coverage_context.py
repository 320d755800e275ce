"""What triggers are told of an exam besides its findings: from its console, or assumed."""

from agent.coverage_store import Course
from agent.trigger_states import ExamContext
from protocols.control import ExamUpdate
from protocols.exam import ExamProtocol
from protocols.findings import ExamFindings


def told(update: ExamUpdate, now_s: float) -> ExamContext:
    """Return what a console says, on the clock of the events."""
    return ExamContext(
        order=frozenset(update.order),
        slot_end_s=now_s + 60 * update.slot_minutes,
        remaining_minutes=update.remaining_minutes,
        minutes_used=update.minutes_used,
        sar_headroom=update.sar_headroom,
        planned=update.planned,
    )


def context(course: Course, protocol: ExamProtocol, findings: ExamFindings) -> ExamContext:
    """Return what the console has said, or what can be assumed where it has not.

    Then the slot of the protocol began with the exam, its steps are planned, and the SAR headroom
    is not known.
    """
    if course.told is not None:
        return course.told
    left = [step for step in protocol.steps if step.name not in findings.series]
    return ExamContext(
        slot_end_s=course.began_s + 60 * protocol.slot_minutes,
        remaining_minutes=sum(step.minutes for step in left),
        planned=tuple(step.name for step in protocol.steps),
    )
