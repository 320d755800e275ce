"""The trigger machine by example: one lumbar exam, and what becomes of its question."""

from typing import Any

import pytest

from agent.trigger_states import (
    Decision,
    ExamContext,
    Progress,
    Proposal,
    Reason,
    Standing,
    State,
)
from agent.triggers import Triggers
from protocols.exam import GeometryRule
from protocols.exam_library import library
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Quality
from protocols.trigger import Budget, OrderFlag

PROTOCOL = library()["lumbar"].protocol
SI = "si-joint-signal"
MARROW = "marrow-above"
ALL_SERIES = ("t1_tse_sag", "t2_tse_sag", "stir_sag")


def oedema(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": "f1",
        "type": "oedema_like",
        "structure": "sacral_subchondral",
        "side": "left",
        "level": "S1",
        "centre_mm": (40.0, 30.0, -120.0),
        "extent_mm": (6.0, 8.0, 9.0),
        "volume_ml": 0.4,
        "depth_mm": 6.0,
        "cnr": 6.5,
        "probability": 0.9,
        "series": ("stir_sag",),
        "slices": (13, 14),
        "adjacent_slices": 2,
        "area_mm2": 45.0,
    }
    return Finding(**{**fields, **changes})


def replacement(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": "f2",
        "type": "replacement_like",
        "structure": "vertebra",
        "side": "midline",
        "level": "L2",
        "depth_mm": None,
        "series": ("t1_tse_sag",),
        "area_mm2": 120.0,
    }
    return oedema(**{**fields, **changes})


def seen(*findings: Finding, **changes: Any) -> ExamFindings:
    fields: dict[str, Any] = {
        "exam": "e1",
        "series": ALL_SERIES,
        "findings": findings,
        "coverage": [
            EvidenceCoverage(structure="sacral_subchondral", side=side, shown=0.4, judged=True)
            for side in ("left", "right")
        ],
        "quality": [Quality(series=name, snr=20, motion=0.1) for name in ALL_SERIES],
        "agreement": True,
    }
    return ExamFindings(**{**fields, **changes})


def context(**changes: Any) -> ExamContext:
    fields: dict[str, Any] = {
        "slot_end_s": 1200.0,
        "remaining_minutes": 2.8,
        "sar_headroom": 0.6,
        "planned": [step.name for step in PROTOCOL.steps],
    }
    return ExamContext(**{**fields, **changes})


def machine(**changes: Any) -> Triggers:
    return Triggers(PROTOCOL.model_copy(update=changes), "e1", Standing())


def asked(triggers: Triggers, now_s: float = 360.0) -> Proposal:
    proposal = triggers.update(seen(oedema()), context(), now_s).proposal
    assert proposal is not None
    return proposal


def way(decision: Decision, trigger: str = SI) -> list[tuple[State, Reason]]:
    return [(t.after, t.reason) for t in decision.transitions if t.trigger == trigger]


def stands(triggers: Triggers, trigger: str = SI) -> tuple[State, Reason]:
    (found,) = [e for e in triggers.explain() if e.trigger == trigger]
    return found.state, found.reason


def test_from_the_first_series_to_the_scan() -> None:
    triggers = machine()
    first = triggers.update(seen(series=ALL_SERIES[:1]), context(), 120)
    assert way(first) == [(State.ABSTAINED, Reason.SERIES_MISSING)]
    assert first.proposal is None

    second = triggers.update(seen(oedema()), context(), 360)
    assert way(second) == [
        (State.IDLE, Reason.JUDGEABLE),
        (State.EVIDENCE, Reason.EVIDENCE),
        (State.CANDIDATE, Reason.ABOVE_THRESHOLD),
        (State.CONFIRMED, Reason.PERSISTENT),
        (State.PROPOSED, Reason.ASKED),
    ]
    proposal = second.proposal
    assert proposal is not None
    assert proposal.text == (
        "Proposal: bright marrow signal beside the SI joint, left. Scan the SI joints "
        "(SI joints STIR semicoronal, SI joints T1 TSE semicoronal), 2.2 min?"
    )
    assert [step.step for step in proposal.steps] == ["si_stir_cor", "si_t1_cor"]
    assert {step.rule for step in proposal.steps} == {GeometryRule.SI_OBLIQUE_CORONAL}
    assert proposal.findings == (oedema(),)
    assert (proposal.asked_s, proposal.expires_s) == (360, 420)
    assert triggers.question == proposal

    assert way(triggers.answer(proposal.id, True, 370)) == [(State.ACCEPTED, Reason.ACCEPTED)]
    assert triggers.question is None
    for progress, at_s in ((Progress.SCANNING, 600), (Progress.DONE, 740)):
        decision = triggers.progress(proposal.id, progress, at_s)
        assert way(decision) == [(State(progress.value), Reason.SCANNER)]
    # A triggered exam that turns out normal is silent from here on.
    assert triggers.update(seen(), context(), 760).transitions == ()
    assert triggers.end(800).transitions == ()


def test_every_transition_says_why_in_numbers() -> None:
    (*_, confirmed, _) = machine().update(seen(oedema()), context(), 360).transitions[:4]
    assert confirmed.at_s == 360
    for value in ("f1", "sacral_subchondral left S1", "0.90", "2 adjacent slices", "45 mm²"):
        assert value in confirmed.detail


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (oedema(probability=0.59), State.IDLE),
        (oedema(probability=0.79), State.EVIDENCE),
        (oedema(adjacent_slices=1), State.CANDIDATE),
        (oedema(adjacent_slices=1, series=("stir_sag", "t2_tse_sag")), State.PROPOSED),
        (oedema(area_mm2=29), State.CANDIDATE),
        (oedema(probability=0.80, area_mm2=30), State.PROPOSED),
        (oedema(type="fat_like"), State.IDLE),
        (oedema(structure="vertebra"), State.IDLE),
    ],
)
def test_how_far_a_finding_goes(finding: Finding, state: State) -> None:
    triggers = machine()
    triggers.update(seen(finding), context(), 360)
    assert stands(triggers)[0] is state


def test_a_candidate_is_held_until_it_falls_below_the_lower_threshold() -> None:
    triggers = machine()
    states = []
    for probability in (0.79, 0.80, 0.61, 0.79, 0.60, 0.59, 0.79, 0.80):
        triggers.update(seen(oedema(probability=probability, adjacent_slices=1)), context(), 360)
        states.append(stands(triggers)[0])
    up, between, down = State.CANDIDATE, State.EVIDENCE, State.IDLE
    assert states == [between, up, up, up, up, down, between, up]


@pytest.mark.parametrize(
    ("findings", "reason"),
    [
        (seen(oedema(), abstained="unlike anything seen in training"), Reason.TRIAGE_ABSTAINED),
        (seen(oedema(), agreement=False), Reason.RECONSTRUCTIONS_DIFFER),
        (seen(agreement=False), Reason.RECONSTRUCTIONS_DIFFER),
        (seen(oedema(), quality=[Quality(series="stir_sag", snr=4.9, motion=0)]), Reason.QUALITY),
        (seen(oedema(), quality=[Quality(series="stir_sag", snr=9, motion=0.6)]), Reason.QUALITY),
        (
            seen(
                oedema(),
                quality=[Quality(series="stir_sag", snr=9, motion=0, fat_suppression_failed=0.06)],
            ),
            Reason.QUALITY,
        ),
        (
            seen(quality=[Quality(series="stir_sag", snr=9, motion=0, usable=False, reason="x")]),
            Reason.QUALITY,
        ),
        (seen(series=("t1_tse_sag",)), Reason.SERIES_MISSING),
        (seen(coverage=()), Reason.COVERAGE),
        (seen(oedema(probability=0.7), coverage=()), Reason.COVERAGE),
        (
            seen(
                coverage=[
                    EvidenceCoverage(
                        structure="sacral_subchondral", side="left", shown=0.3, judged=True
                    ),
                    EvidenceCoverage(
                        structure="sacral_subchondral", side="right", shown=0.1, judged=False
                    ),
                ]
            ),
            Reason.COVERAGE,
        ),
    ],
)
def test_abstains_rather_than_conclude(findings: ExamFindings, reason: Reason) -> None:
    triggers = machine()
    decision = triggers.update(findings, context(), 360)
    assert stands(triggers) == (State.ABSTAINED, reason)
    assert decision.proposal is None
    assert triggers.update(findings, context(), 361).transitions == ()


def test_what_is_seen_is_seen_however_little_was_shown() -> None:
    assert machine().update(seen(oedema(), coverage=()), context(), 360).proposal is not None


def test_where_only_one_reconstruction_ran_there_is_none_to_differ() -> None:
    assert machine().update(seen(oedema(), agreement=None), context(), 360).proposal is not None
    (trigger, *others) = PROTOCOL.triggers
    unless = trigger.unless.model_copy(update={"one_reconstruction": True})
    strict = machine(triggers=(trigger.model_copy(update={"unless": unless}), *others))
    strict.update(seen(oedema(), agreement=None), context(), 360)
    assert stands(strict) == (State.ABSTAINED, Reason.ONE_RECONSTRUCTION)


def test_a_level_that_may_be_wrong_is_not_proposed() -> None:
    narrow = oedema(type="canal_narrow", structure="canal", side="midline", level="L1/L2")
    triggers = machine()
    triggers.update(seen(narrow, levels_certain=False), context(), 360)
    assert stands(triggers, "canal-above-axials") == (State.ABSTAINED, Reason.LEVELS_UNCERTAIN)


BLOCKING = [
    *((context(order={flag}), Reason.ORDER) for flag in OrderFlag),
    (context(planned=["si_stir_cor", "si_t1_cor"]), Reason.PLANNED),
    (context(sar_headroom=0.19), Reason.SAR),
    (context(sar_headroom=None), Reason.SAR),
    (context(slot_end_s=360 + 180, remaining_minutes=0), Reason.SLOT),
    (context(slot_end_s=360 + 299), Reason.SLOT),
    (context(minutes_used=3.9), Reason.EXTRA_MINUTES),
]


@pytest.mark.parametrize(("blocking", "reason"), BLOCKING)
def test_does_not_ask_while_something_forbids_it(blocking: ExamContext, reason: Reason) -> None:
    triggers = machine()
    decision = triggers.update(seen(oedema()), blocking, 360)
    assert way(decision)[-2:] == [
        (State.CONFIRMED, Reason.PERSISTENT),
        (State.BLOCKED, reason),
    ]
    assert decision.proposal is None
    # Neither forbidden any more nor gone: now it asks.
    later = triggers.update(seen(oedema()), context(), 361)
    assert way(later) == [(State.CONFIRMED, Reason.ALLOWED), (State.PROPOSED, Reason.ASKED)]


@pytest.mark.parametrize(
    "allowing",
    [
        context(sar_headroom=0.2),
        context(slot_end_s=360 + 181, remaining_minutes=0.8),
        context(minutes_used=3.8),
    ],
)
def test_asks_at_the_very_limit(allowing: ExamContext) -> None:
    assert machine().update(seen(oedema()), allowing, 360).proposal is not None


def test_a_budget_of_no_proposals_never_asks() -> None:
    triggers = machine(budget=Budget(proposals=0))
    triggers.update(seen(oedema()), context(), 360)
    assert stands(triggers) == (State.BLOCKED, Reason.PROPOSALS)


def test_a_blocked_trigger_falls_back_with_its_evidence() -> None:
    triggers = machine()
    triggers.update(seen(oedema()), context(sar_headroom=0), 360)
    decision = triggers.update(seen(), context(sar_headroom=0), 480)
    assert way(decision) == [(State.IDLE, Reason.NO_EVIDENCE)]


def test_steps_planned_already_are_left_out_of_the_question() -> None:
    planned = context(planned=["stir_sag", "si_stir_cor"])
    proposal = machine().update(seen(oedema()), planned, 360).proposal
    assert proposal is not None
    assert [step.step for step in proposal.steps] == ["si_t1_cor"]
    assert proposal.minutes == pytest.approx(1.4)
    assert "1.4 min" in proposal.text


def test_the_first_in_priority_asks_and_the_next_waits() -> None:
    triggers = machine(budget=Budget(proposals=2))
    both = seen(replacement(), oedema())
    decision = triggers.update(both, context(), 360)
    assert decision.proposal is not None
    assert decision.proposal.trigger == SI
    assert stands(triggers, MARROW) == (State.BLOCKED, Reason.QUESTION_OPEN)
    triggers.answer(decision.proposal.id, False, 365)
    later = triggers.update(both, context(), 480).proposal
    assert later is not None
    assert later.trigger == MARROW


def test_one_proposal_an_exam_unless_the_budget_says_more() -> None:
    triggers = machine()
    triggers.answer(asked(triggers).id, False, 365)
    triggers.update(seen(oedema(), replacement()), context(), 480)
    assert stands(triggers, MARROW) == (State.BLOCKED, Reason.PROPOSALS)


def test_findings_of_another_exam_are_refused() -> None:
    decision = machine().update(seen(oedema(), exam="e2"), context(), 360)
    assert decision.refused == "expected findings of exam e1, got those of e2"
    assert decision.transitions == ()


def test_shadow_mode_notes_and_does_not_ask() -> None:
    standing = Standing(shadow={SI: "shadow mode: exam 3 of 200"})
    triggers = Triggers(PROTOCOL, "e1", standing)
    decision = triggers.update(seen(oedema()), context(), 360)
    assert decision.proposal is None
    (noted,) = decision.would_ask
    assert noted.trigger == SI
    assert way(decision)[-1] == (State.SHADOWED, Reason.SHADOW)
    assert decision.transitions[-1].detail == "shadow mode: exam 3 of 200"
    assert triggers.answer(noted.id, True, 361).refused
    assert triggers.update(seen(oedema()), context(), 480).would_ask == ()


def test_a_trigger_in_shadow_mode_takes_nothing_from_the_others() -> None:
    triggers = Triggers(PROTOCOL, "e1", Standing(shadow={SI: "shadow mode"}))
    decision = triggers.update(seen(oedema(), replacement()), context(), 360)
    assert [noted.trigger for noted in decision.would_ask] == [SI]
    assert decision.proposal is not None
    assert decision.proposal.trigger == MARROW


def test_an_open_circuit_breaker_notes_too() -> None:
    triggers = Triggers(PROTOCOL, "e1", Standing(breaker={SI: "held in 20 of 50 exams"}))
    triggers.update(seen(oedema()), context(), 360)
    assert stands(triggers) == (State.SHADOWED, Reason.CIRCUIT_BREAKER)


def test_quiet_mode_blocks() -> None:
    triggers = Triggers(PROTOCOL, "e1", Standing(quiet={SI: "2 declines within 60 min"}))
    triggers.update(seen(oedema()), context(), 360)
    assert stands(triggers) == (State.BLOCKED, Reason.QUIET)


def test_explain_gives_every_condition_its_value() -> None:
    triggers = machine()
    before = triggers.explain()
    assert [e.trigger for e in before] == [SI, MARROW, "canal-above-axials"]
    assert before[0].when.value == "no series yet"
    triggers.update(seen(oedema(probability=0.7)), context(sar_headroom=0.1), 360)
    explained = triggers.explain()[0]
    assert explained.when.text.startswith("a finding oedema_like in sacral_subchondral")
    assert "probability 0.70" in explained.when.value
    values = {check.text: (check.value, check.passed) for check in explained.allowed}
    assert values["SAR headroom 0.2 or more"] == ("0.10", False)
    assert values["at most 1 proposals in an exam"] == ("0 so far", True)
    needed = {check.text: check.passed for check in explained.needs}
    assert needed["sacral_subchondral, left, shown well enough to judge"]
    assert all(check.passed for check in explained.trust)
