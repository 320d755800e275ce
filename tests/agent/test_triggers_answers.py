"""What becomes of a question: answered, late, twice, never, taken back, or cut off by a restart."""

import pytest

from agent.trigger_states import (
    Decision,
    DeclineReason,
    ExamContext,
    ExamState,
    Progress,
    Proposal,
    Reason,
    Standing,
    State,
)
from agent.triggers import Triggers
from protocols.exam_library import library
from protocols.findings import ExamFindings, Finding
from protocols.trigger import Budget

PROTOCOL = library()["lumbar"].protocol
SI = "si-joint-signal"

OEDEMA = Finding(
    id="f1",
    type="oedema_like",
    structure="sacral_subchondral",
    side="left",
    level="S1",
    centre_mm=(40, 30, -120),
    extent_mm=(6, 8, 9),
    volume_ml=0.4,
    depth_mm=6,
    cnr=6.5,
    probability=0.9,
    series=("stir_sag",),
    slices=(13, 14),
    adjacent_slices=2,
    area_mm2=45,
)
FOUND = ExamFindings(exam="e1", series=("stir_sag",), findings=(OEDEMA,), agreement=True)
CONTEXT = ExamContext(slot_end_s=1200, sar_headroom=0.6)


def machine(budget: Budget = PROTOCOL.budget) -> Triggers:
    return Triggers(PROTOCOL.model_copy(update={"budget": budget}), "e1", Standing())


def asked(triggers: Triggers, now_s: float = 360) -> Proposal:
    proposal = triggers.update(FOUND, CONTEXT, now_s).proposal
    assert proposal is not None
    return proposal


def way(decision: Decision) -> list[tuple[State, Reason]]:
    return [(t.after, t.reason) for t in decision.transitions if t.trigger == SI]


def stands(triggers: Triggers) -> State:
    return triggers.state.triggers[SI].state


def test_no_answer_is_a_decline_and_a_late_one_changes_nothing() -> None:
    triggers = machine()
    proposal = asked(triggers)
    assert triggers.tick(419.9).transitions == ()
    assert way(triggers.tick(420)) == [(State.TIMED_OUT, Reason.NO_ANSWER)]
    late = triggers.answer(proposal.id, True, 421)
    assert late.refused == f"{proposal.id} is timed_out already"
    assert stands(triggers) is State.TIMED_OUT


def test_an_answer_after_its_time_is_late_even_where_nobody_ticked() -> None:
    triggers = machine()
    decision = triggers.answer(asked(triggers).id, True, 420)
    assert way(decision) == [(State.TIMED_OUT, Reason.NO_ANSWER)]
    assert decision.refused


def test_the_first_answer_counts() -> None:
    triggers = machine()
    proposal = asked(triggers)
    triggers.answer(proposal.id, True, 365)
    assert triggers.answer(proposal.id, False, 366).refused
    assert triggers.answer(proposal.id, True, 366).refused
    assert stands(triggers) is State.ACCEPTED


def test_what_was_declined_is_never_asked_again() -> None:
    triggers = machine(budget=Budget(proposals=10))
    decision = triggers.answer(asked(triggers).id, False, 365, DeclineReason.NOT_INDICATED)
    assert decision.transitions[0].detail == "declined: not_indicated"
    other = OEDEMA.model_copy(update={"id": "f9", "side": "right", "probability": 1.0})
    more = FOUND.model_copy(update={"findings": (OEDEMA, other)})
    assert triggers.update(more, CONTEXT, 480).proposal is None


@pytest.mark.parametrize("proposal_id", ["", "e1/si-joint-signal/2", "e2/si-joint-signal/1"])
def test_an_answer_to_nothing_is_refused(proposal_id: str) -> None:
    triggers = machine()
    asked(triggers)
    assert triggers.answer(proposal_id, True, 365).refused
    assert triggers.progress(proposal_id, Progress.DONE, 365).refused
    assert triggers.withdraw(proposal_id, "why", 365).refused
    assert triggers.question is not None


def test_nothing_is_scanned_without_an_answer() -> None:
    triggers = machine()
    proposal = asked(triggers)
    assert triggers.progress(proposal.id, Progress.SCANNING, 365).refused
    assert stands(triggers) is State.PROPOSED


def test_accepted_but_not_scanned_is_on_record() -> None:
    triggers = machine()
    proposal = asked(triggers)
    triggers.answer(proposal.id, True, 365)
    decision = triggers.progress(proposal.id, Progress.NOT_SCANNED, 400, "bore limit")
    assert way(decision) == [(State.NOT_SCANNED, Reason.SCANNER)]
    assert decision.transitions[0].detail == "bore limit"


def test_a_proposal_nobody_saw_may_come_again_after_the_next_series() -> None:
    triggers = machine()
    first = asked(triggers)
    decision = triggers.withdraw(first.id, "S2 not visible", 361)
    assert way(decision) == [(State.BLOCKED, Reason.PRESCRIPTION)]
    assert triggers.update(FOUND, CONTEXT, 362).transitions == ()
    more = FOUND.model_copy(update={"series": ("stir_sag", "t2_tse_ax")})
    second = triggers.update(more, CONTEXT, 480).proposal
    assert second is not None
    assert second.id != first.id
    assert triggers.answer(first.id, True, 481).refused


def test_where_slices_cannot_be_prescribed_the_next_trigger_has_its_turn() -> None:
    triggers = machine()
    marrow = OEDEMA.model_copy(
        update={"id": "f2", "type": "replacement_like", "structure": "vertebra", "area_mm2": 99}
    )
    both = FOUND.model_copy(update={"findings": (OEDEMA, marrow)})
    first = triggers.update(both, CONTEXT, 360).proposal
    assert first is not None
    triggers.withdraw(first.id, "S2 not visible", 361)
    second = triggers.update(both, CONTEXT, 361).proposal
    assert second is not None
    assert second.trigger == "marrow-above"


def test_the_end_of_the_exam_closes_everything() -> None:
    triggers = machine()
    proposal = asked(triggers)
    assert way(triggers.end(370)) == [(State.TIMED_OUT, Reason.EXAM_ENDED)]
    assert triggers.answer(proposal.id, True, 371).refused == "exam e1 has ended"
    assert triggers.update(FOUND, CONTEXT, 372).refused


def test_the_question_survives_a_restart() -> None:
    triggers = machine()
    proposal = asked(triggers)
    saved = triggers.state.model_dump_json()
    resumed = Triggers.resume(triggers.protocol, ExamState.model_validate_json(saved))
    assert resumed.question == proposal
    assert resumed.explain() == triggers.explain()
    assert way(resumed.answer(proposal.id, True, 400)) == [(State.ACCEPTED, Reason.ACCEPTED)]
    assert triggers.question == proposal


def test_an_exam_is_not_resumed_with_another_protocol() -> None:
    state = machine().state
    with pytest.raises(ValueError, match=r"expected protocol lumbar, revision 1 .* revision 2"):
        Triggers.resume(PROTOCOL.model_copy(update={"revision": 2}), state)
