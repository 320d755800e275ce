"""From a confirmed trigger to the question: what is scanned, what it costs, what is asked."""

import re

from agent.trigger_gates import Ledger
from agent.trigger_states import ExamState, Proposal, ProposedStep, State
from protocols.exam import ExamProtocol, Step
from protocols.findings import ExamFindings, Finding
from protocols.trigger import Trigger

UNSCANNED = (State.DECLINED, State.TIMED_OUT, State.NOT_SCANNED)
"""States of a proposal that costs no scan time."""


def ledger(state: ExamState, shadow: bool) -> Ledger:
    """Return what was asked for in an exam so far.

    Parameters
    ----------
    state : ExamState
    shadow : bool
        For a trigger that only notes: what others would have asked counts too.
    """
    asked = [
        (each.state, each.proposal)
        for each in state.triggers.values()
        if each.proposal and (shadow or each.state is not State.SHADOWED)
    ]
    costly = [proposal for at, proposal in asked if at not in UNSCANNED]
    open_ones = [proposal.trigger for at, proposal in asked if at is State.PROPOSED]
    return Ledger(
        asked=len(asked),
        minutes=sum(proposal.minutes for proposal in costly),
        steps=frozenset(step.step for proposal in costly for step in proposal.steps),
        question_open=open_ones[0] if open_ones else None,
    )


def proposal(
    protocol: ExamProtocol,
    trigger: Trigger,
    state: ExamState,
    findings: ExamFindings,
    steps: list[Step],
) -> Proposal:
    """Return the question of a confirmed trigger about the steps which are not planned yet."""
    each = state.triggers[trigger.name]
    called = [finding for finding in findings.findings if finding.id in each.when.findings]
    called.sort(key=lambda finding: (-finding.probability, finding.id))
    minutes = sum(step.minutes for step in steps)
    return Proposal(
        id=f"{state.exam}/{trigger.name}/{each.attempts}",
        exam=state.exam,
        protocol=protocol.name,
        revision=protocol.revision,
        trigger=trigger.name,
        text=_text(trigger.ask.text, called, steps, minutes),
        steps=tuple(
            ProposedStep(step=step.name, rule=step.geometry.rule, minutes=step.minutes)
            for step in steps
        ),
        minutes=minutes,
        findings=tuple(called),
        asked_s=state.now_s,
        expires_s=state.now_s + trigger.ask.countdown_s,
    )


def _text(template: str, findings: list[Finding], steps: list[Step], minutes: float) -> str:
    """Return a question with its placeholders filled in."""

    def listed(names: list[str]) -> str:
        return " and ".join(sorted(set(filter(None, names)))) or "not known"

    values = {
        "side": listed([finding.side for finding in findings]),
        "level": listed([finding.level or "" for finding in findings]),
        "structure": listed([finding.structure.replace("_", " ") for finding in findings]),
        "minutes": f"{minutes:.1f}",
        "steps": ", ".join(step.title or step.name for step in steps),
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)
