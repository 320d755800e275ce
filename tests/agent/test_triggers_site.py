"""What past exams allow: shadow mode of a new site, circuit breaker, quiet mode."""

from math import comb
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trigger_site import Site, SitePolicy, SiteState
from agent.trigger_states import ExamContext, Standing, State
from agent.triggers import Triggers
from protocols.exam import ExamProtocol
from protocols.exam_library import library
from protocols.findings import ExamFindings, Finding

LUMBAR = library()["lumbar"].protocol
SI = "si-joint-signal"
ACTIVE = SitePolicy(mode="active")

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
    slices=(3, 4),
    adjacent_slices=2,
    area_mm2=45,
)


def exam(
    site: Site, holds: bool, answer: bool | None = None, at_s: float = 0, protocol=LUMBAR
) -> State:
    """Run one exam at a site, record it, and return where its SI joint trigger ended."""
    triggers = Triggers(protocol, "e", site.standing(protocol), at_s)
    findings = ExamFindings(
        exam="e", series=("stir_sag",), findings=(OEDEMA,) if holds else (), agreement=True
    )
    context = ExamContext(slot_end_s=at_s + 1200, sar_headroom=0.9)
    decision = triggers.update(findings, context, at_s)
    if decision.proposal and answer is not None:
        triggers.answer(decision.proposal.id, answer, at_s)
    triggers.end(at_s)
    site.record(protocol, triggers.state)
    return triggers.state.triggers[SI].state


def expecting(rate: float | None) -> ExamProtocol:
    """Return the lumbar protocol with the rate of 100 exams at which the trigger should hold."""
    first, *others = LUMBAR.triggers
    first = first.model_copy(update={"expected_per_100_exams": rate})
    return LUMBAR.model_copy(update={"triggers": (first, *others)})


def test_a_new_site_only_notes_for_200_exams() -> None:
    site = Site()
    assert {exam(site, holds=True) for _ in range(200)} == {State.SHADOWED}
    assert exam(site, holds=True, answer=True) is not State.SHADOWED


def test_shadow_says_how_far_it_is() -> None:
    site = Site()
    exam(site, holds=False)
    assert site.standing(LUMBAR).shadow[SI] == "shadow mode: exam 2 of 200"


@pytest.mark.parametrize(
    ("mode", "state"), [("shadow", State.SHADOWED), ("active", State.DECLINED)]
)
def test_the_site_may_choose(mode: str, state: State) -> None:
    site = Site(SitePolicy(mode=mode, shadow_exams=1))
    for _ in range(3):
        site.new_session()
        assert exam(site, holds=True, answer=False) is state


def test_a_trigger_that_looks_for_something_else_is_new() -> None:
    site = Site(SitePolicy(shadow_exams=2))
    for _ in range(2):
        exam(site, holds=False)
    assert site.standing(LUMBAR).shadow == {}
    first, *others = LUMBAR.triggers
    asks_otherwise = first.model_copy(
        update={"ask": first.ask.model_copy(update={"text": "Scan the SI joints?"})}
    )
    reworded = LUMBAR.model_copy(update={"triggers": (asks_otherwise, *others)})
    assert site.standing(reworded).shadow == {}
    looser = first.when.model_copy(update={"count": 2})
    changed = LUMBAR.model_copy(
        update={"triggers": (first.model_copy(update={"when": looser}), *others)}
    )
    assert set(site.standing(changed).shadow) == {SI}


def test_two_declines_within_an_hour_make_it_quiet_for_the_session() -> None:
    site = Site(ACTIVE)
    exam(site, holds=True, answer=False, at_s=0)
    assert exam(site, holds=True, answer=None, at_s=3599) is State.TIMED_OUT
    assert site.standing(LUMBAR).quiet == {SI: "quiet mode: 2 declines within 60 min"}
    assert exam(site, holds=True, at_s=9000) is State.BLOCKED
    site.new_session()
    assert exam(site, holds=True, answer=True, at_s=9999) is State.NOT_SCANNED


def test_declines_far_apart_do_not() -> None:
    site = Site(ACTIVE)
    for at_s in (0, 3601, 7202):
        assert exam(site, holds=True, answer=False, at_s=at_s) is State.DECLINED
    assert site.standing(LUMBAR).quiet == {}


def test_too_many_exams_open_the_circuit_breaker() -> None:
    site, protocol = Site(ACTIVE), expecting(5)
    for index in range(50):
        exam(site, holds=index % 3 == 0, answer=True, protocol=protocol)
    why = site.standing(protocol).breaker[SI]
    assert why == "circuit breaker: held in 17 of the latest 50 exams, expected 5.0 of 100"
    assert exam(site, holds=True, protocol=protocol) is State.SHADOWED
    site.reset("lumbar", SI)
    assert exam(site, holds=True, answer=True, protocol=protocol) is not State.SHADOWED


def test_too_few_exams_open_it_too() -> None:
    site, protocol = Site(ACTIVE), expecting(30)
    for _ in range(50):
        exam(site, holds=False, protocol=protocol)
    assert "held in 0 of the latest 50" in site.standing(protocol).breaker[SI]


def test_what_chance_alone_gives_does_not_open_it() -> None:
    """Of 50 exams at 5 % none has it in one of 13 cases: below half the rate, and no news."""
    site, protocol = Site(ACTIVE), expecting(5)
    assert 0.95**50 > 1 / 14
    for _ in range(50):
        exam(site, holds=False, protocol=protocol)
    assert site.standing(protocol).breaker == {}


def test_the_rate_of_commissioning_is_what_later_rates_are_held_to() -> None:
    site, protocol = Site(), expecting(None)
    for index in range(200):
        exam(site, holds=index % 20 == 0, protocol=protocol)
    assert site.standing(protocol).breaker == {}
    for index in range(50):
        exam(site, holds=index % 4 == 0, answer=True, protocol=protocol)
    assert "expected 5.2 of 100" in site.standing(protocol).breaker[SI]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.floats(1, 60))
def test_the_breaker_opens_where_its_definition_says(held: int, per_100: float) -> None:
    """Outside half to twice the rate, and less likely than 1 in 1000; sums written out."""
    site = Site(ACTIVE)
    protocol = expecting(per_100)
    rate = per_100 / 100
    ended = Triggers(protocol, "e", Standing())
    ended.end(0)
    pattern = [True] * held + [False] * (50 - held)
    Random(held).shuffle(pattern)
    for holds in pattern:
        ended.state.triggers[SI].confirmed = holds
        site.record(protocol, ended.state)
    term = [comb(50, k) * rate**k * (1 - rate) ** (50 - k) for k in range(51)]
    many = held / 50 > 2 * rate and sum(term[held:]) < 0.001
    few = held / 50 < 0.5 * rate and sum(term[: held + 1]) < 0.001
    assert bool(site.standing(protocol).breaker) == (many or few)


def test_the_memory_survives_a_restart() -> None:
    site = Site(ACTIVE)
    for at_s in (0, 60):
        exam(site, holds=True, answer=False, at_s=at_s)
    saved = site.state.model_dump_json()
    again = Site(ACTIVE, SiteState.model_validate_json(saved))
    assert again.standing(LUMBAR) == site.standing(LUMBAR)
    assert again.state == site.state


def test_only_exams_that_have_ended_are_recorded() -> None:
    site = Site()
    triggers = Triggers(LUMBAR, "e", site.standing(LUMBAR))
    with pytest.raises(ValueError, match="still going on"):
        site.record(LUMBAR, triggers.state)
