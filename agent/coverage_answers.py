"""From the replies of the control channel to the events of the trigger machine."""

from agent.audit_records import Event
from agent.coverage_store import Question
from agent.trigger_states import Decision, DeclineReason, Progress
from agent.triggers import Triggers
from protocols.control import CoverageReply, Outcome, ReplyReason

PROGRESS = {
    Outcome.SCHEDULED: Progress.SCANNING,
    Outcome.DONE: Progress.DONE,
    Outcome.FAILED: Progress.NOT_SCANNED,
}

DECLINED = {
    ReplyReason.PATIENT: DeclineReason.PATIENT,
    ReplyReason.TIME: DeclineReason.TIME,
    ReplyReason.NOT_INDICATED: DeclineReason.NOT_INDICATED,
}
"""Reasons of a decline; all others are `DeclineReason.OTHER`."""


def answered(
    machine: Triggers, question: Question, reply: CoverageReply, at_s: float
) -> tuple[Decision, Event]:
    """Tell the machine of a reply that counts; no answer is a question that has run out.

    Parameters
    ----------
    machine : Triggers
    question : Question
        Takes in which steps will be scanned.
    reply : CoverageReply
    at_s : float
    """
    if reply.outcome in PROGRESS:
        words = [reply.outcome.value, reply.reason or "", reply.detail]
        detail = f"the scanner says {', '.join(word for word in words if word)}"
        return (
            machine.progress(reply.request, PROGRESS[reply.outcome], at_s, detail),
            Event.PROGRESS,
        )
    proposal = machine.question
    ends_s = proposal.expires_s if proposal else at_s
    if reply.reason is ReplyReason.NO_ANSWER:
        return machine.tick(max(at_s, ends_s)), Event.TICK
    accepted = reply.outcome is not Outcome.DECLINED
    if accepted:
        question.steps = reply.steps or question.request.steps
    reason = None if accepted else DECLINED.get(reply.reason, DeclineReason.OTHER)  # type: ignore[arg-type]
    # It counts because it came in time by the channel's clock, which began a moment later.
    return machine.answer(reply.request, accepted, min(at_s, ends_s - 1e-3), reason), Event.ANSWER
