"""What holds whatever happens: random exams, answers, silences, restarts."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trigger_states import (
    FINAL,
    TRANSITIONS,
    Decision,
    ExamContext,
    ExamState,
    Progress,
    Proposal,
    Standing,
    State,
    Transition,
)
from agent.triggers import Triggers
from protocols.exam import ExamProtocol
from protocols.exam_library import library
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Quality
from protocols.trigger import Budget, OrderFlag

LUMBAR = library()["lumbar"].protocol
NAMES = [trigger.name for trigger in LUMBAR.triggers]
SERIES = ("t1_tse_sag", "t2_tse_sag", "stir_sag")
CALLING = {
    "si-joint-signal": ("oedema_like", "sacral_subchondral", None),
    "marrow-above": ("replacement_like", "vertebra", "L2"),
    "canal-above-axials": ("canal_narrow", "canal", "L1/L2"),
    "": ("disc_signal_loss", "disc", "L4/L5"),
}
"""Findings that call each trigger, and one that calls none."""


def finding(random: Random, name: str, identity: str) -> Finding:
    kind, structure, level = CALLING[name]
    return Finding(
        id=identity,
        type=kind,
        structure=structure,
        side=random.choice(["left", "right"]),
        level=level,
        centre_mm=(0, 0, 0),
        extent_mm=(9, 9, 9),
        volume_ml=0.4,
        cnr=6,
        probability=random.choice([0.3, 0.65, 0.75, 0.85, 0.95, 0.95]),
        series=SERIES[-random.randint(1, 2) :],
        slices=(1, 2),
        adjacent_slices=random.randint(1, 3),
        area_mm2=random.choice([10.0, 60.0, 60.0]),
    )


def exam(random: Random) -> ExamFindings:
    names = random.choices(list(CALLING), k=random.randint(0, 4))
    return ExamFindings(
        exam="e",
        series=SERIES[: random.choice([1, 2, 3, 3, 3])],
        findings=[finding(random, name, f"{name}-{i}") for i, name in enumerate(names)],
        coverage=[
            EvidenceCoverage(
                structure="sacral_subchondral",
                side=side,
                shown=0.4,
                judged=random.random() < 0.8,
            )
            for side in ("left", "right")
        ],
        quality=[
            Quality(series=name, snr=random.choice([3.0, 20.0, 20.0, 20.0, 20.0]), motion=0)
            for name in SERIES
        ],
        agreement=random.choice([True, True, True, None, False]),
        abstained=random.choice([None, None, None, None, "unlike training"]),
    )


def context(random: Random) -> ExamContext:
    return ExamContext(
        order=random.choices(list(OrderFlag), k=random.choice([0, 0, 0, 1])),
        slot_end_s=random.choice([600.0, 1200.0, 5000.0]),
        remaining_minutes=random.choice([0.0, 3.0]),
        sar_headroom=random.choice([None, 0.1, 0.5, 0.9, 0.9]),
        minutes_used=random.choice([0.0, 0.0, 3.0]),
        planned=random.sample([step.name for step in LUMBAR.on_demand], random.choice([0, 0, 2])),
    )


# Drawn from pools made once: hypothesis then spends its time on sequences, not on messages.
_random = Random(0)
exams = st.sampled_from([exam(_random) for _ in range(300)])
contexts = st.sampled_from([context(_random) for _ in range(60)])
unrelated = st.lists(
    st.sampled_from([finding(_random, "", f"x-{i}") for i in range(20)]), max_size=3
)
waits = st.sampled_from([0.0, 1.0, 30.0, 60.0, 300.0])
updates = st.tuples(st.just("update"), exams, contexts, waits)
events = st.one_of(
    updates,
    updates,
    st.tuples(st.just("answer"), st.booleans(), waits),
    st.tuples(st.just("progress"), st.sampled_from(Progress), waits),
    st.tuples(st.just("withdraw"), waits),
    st.tuples(st.just("tick"), waits),
)
protocols = st.builds(
    lambda proposals, minutes: LUMBAR.model_copy(
        update={"budget": Budget(proposals=proposals, extra_minutes=minutes)}
    ),
    st.integers(0, 3),
    st.sampled_from([1.0, 3.0, 6.0]),
)
standings = st.builds(
    Standing,
    shadow=st.dictionaries(st.sampled_from(NAMES), st.just("shadow mode"), max_size=2),
    breaker=st.dictionaries(st.sampled_from(NAMES), st.just("rate"), max_size=1),
    quiet=st.dictionaries(st.sampled_from(NAMES), st.just("declines"), max_size=1),
)


@dataclass
class Run:
    """All that came of a sequence of events."""

    triggers: Triggers
    now_s: float = 0.0
    transitions: list[Transition] = field(default_factory=list)
    proposals: list[tuple[Proposal, ExamContext]] = field(default_factory=list)
    noted: list[Proposal] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)

    def feed(self, event: tuple[Any, ...]) -> Decision:
        kind, *what, wait = event
        self.now_s += wait
        last = self.proposals[-1][0].id if self.proposals else "none"
        question = self.triggers.question
        if kind == "update":
            decision = self.triggers.update(*what, self.now_s)
        elif kind == "answer":
            decision = self.triggers.answer(question.id if question else last, *what, self.now_s)
        elif kind == "progress":
            decision = self.triggers.progress(last, *what, self.now_s)
        elif kind == "withdraw":
            decision = self.triggers.withdraw(last, "no geometry", self.now_s)
            if not decision.refused:
                self.withdrawn.add(last)
        else:
            decision = self.triggers.tick(self.now_s)
        self.transitions += decision.transitions
        self.noted += decision.would_ask
        if decision.proposal:
            self.proposals.append((decision.proposal, what[1]))
        return decision


def run(protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]) -> Run:
    done = Run(Triggers(protocol, "e", standing))
    for event in sequence:
        done.feed(event)
    return done


whole_exams = (protocols, standings, st.lists(events, max_size=10))
many = settings(max_examples=40, deadline=None)


@many
@given(*whole_exams)
def test_never_more_than_the_budget(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    done = run(protocol, standing, sequence)
    shown = [p for p, _ in done.proposals if p.id not in done.withdrawn]
    assert len(shown) <= protocol.budget.proposals
    assert max(Counter(p.trigger for p in shown).values(), default=0) <= 1
    accepted = {t.trigger for t in done.transitions if t.after is State.ACCEPTED}
    assert (
        sum(p.minutes for p in shown if p.trigger in accepted)
        <= protocol.budget.extra_minutes + 1e-9
    )


@many
@given(*whole_exams)
def test_never_asks_where_it_must_not(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    for proposal, context in run(protocol, standing, sequence).proposals:
        left = (context.slot_end_s - proposal.asked_s) / 60
        assert left > protocol.budget.none_in_last_minutes
        assert left >= context.remaining_minutes + proposal.minutes
        assert not context.order
        assert context.sar_headroom is not None and context.sar_headroom >= 0.2
        assert not {step.step for step in proposal.steps} & set(context.planned)
        assert proposal.trigger not in standing.quiet
        assert proposal.trigger not in standing.shadow
        assert proposal.trigger not in standing.breaker


@many
@given(*whole_exams)
def test_only_the_transitions_there_are_and_none_is_lost(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    done = run(protocol, standing, sequence)
    stands = dict.fromkeys(NAMES, State.IDLE)
    now_s = 0.0
    for step in done.transitions:
        assert step.before is stands[step.trigger]
        assert step.after in TRANSITIONS[step.before]
        assert step.detail
        assert step.at_s >= now_s
        stands[step.trigger], now_s = step.after, step.at_s
    assert stands == {e.trigger: e.state for e in done.triggers.explain()}


@many
@given(*whole_exams)
def test_what_is_settled_stays_settled(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    """Declined, unanswered, done, not scanned, noted: never asked, never noted again."""
    done = run(protocol, standing, sequence)
    settled: set[str] = set()
    for step in done.transitions:
        assert step.trigger not in settled
        if step.after in FINAL:
            settled.add(step.trigger)
    assert max(Counter(p.trigger for p in done.noted).values(), default=0) <= 1


@many
@given(*whole_exams)
def test_nothing_is_scanned_that_was_not_accepted(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    accepted: set[str] = set()
    for step in run(protocol, standing, sequence).transitions:
        if step.after is State.ACCEPTED:
            accepted.add(step.trigger)
        if step.after in (State.SCANNING, State.DONE):
            assert step.trigger in accepted


@many
@given(*whole_exams)
def test_one_question_at_a_time_and_silence_declines_it(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    done = Run(Triggers(protocol, "e", standing))
    for event in sequence:
        decision = done.feed(event)
        open_ones = [e for e in done.triggers.explain() if e.state is State.PROPOSED]
        assert len(open_ones) <= 1
        assert bool(open_ones) == (done.triggers.question is not None)
        if decision.proposal:
            assert done.triggers.question == decision.proposal
    if question := done.triggers.question:
        done.triggers.tick(question.expires_s)
        assert done.triggers.question is None
        (found,) = [e for e in done.triggers.explain() if e.trigger == question.trigger]
        assert found.state is State.TIMED_OUT


@many
@given(protocols, st.lists(events, max_size=10))
def test_shadow_mode_never_asks(protocol: ExamProtocol, sequence: list[tuple[Any, ...]]) -> None:
    done = run(protocol, Standing(shadow=dict.fromkeys(NAMES, "shadow mode")), sequence)
    assert not done.proposals
    assert done.triggers.question is None
    assert len(done.noted) <= protocol.budget.proposals


@many
@given(protocols, st.lists(updates, max_size=8))
def test_shadow_mode_notes_first_what_would_have_been_asked_first(
    protocol: ExamProtocol, sequence: list[tuple[Any, ...]]
) -> None:
    shadow = run(protocol, Standing(shadow=dict.fromkeys(NAMES, "shadow mode")), sequence)
    active = run(protocol, Standing(), sequence)
    first = [p for p, _ in active.proposals][:1]
    assert shadow.noted[: len(first)] == first
    assert bool(shadow.noted) == bool(first)


@many
@given(*whole_exams, st.integers(0, 99), unrelated)
def test_order_and_unrelated_findings_change_nothing(
    protocol: ExamProtocol,
    standing: Standing,
    sequence: list[tuple[Any, ...]],
    seed: int,
    others: list[Finding],
) -> None:
    random = Random(seed)

    def mixed(event: tuple[Any, ...]) -> tuple[Any, ...]:
        if event[0] != "update":
            return event
        all_of_them = [*event[1].findings, *others]
        random.shuffle(all_of_them)
        found = event[1].model_copy(update={"findings": tuple(all_of_them)})
        return event[0], found, *event[2:]

    plain = run(protocol, standing, sequence)
    other = run(protocol, standing, [mixed(event) for event in sequence])
    assert other.transitions == plain.transitions
    assert other.proposals == plain.proposals
    assert other.triggers.explain() == plain.triggers.explain()


@many
@given(*whole_exams)
def test_a_restart_after_any_event_changes_nothing(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    plain, restarted = (Run(Triggers(protocol, "e", standing)) for _ in range(2))
    for event in sequence:
        saved = restarted.triggers.state.model_dump_json()
        restarted.triggers = Triggers.resume(protocol, ExamState.model_validate_json(saved))
        assert restarted.feed(event) == plain.feed(event)
    assert restarted.triggers.state == plain.triggers.state


@many
@given(*whole_exams)
def test_the_same_event_again_changes_nothing(
    protocol: ExamProtocol, standing: Standing, sequence: list[tuple[Any, ...]]
) -> None:
    """At-least-once delivery: everything but a withdrawal may come twice."""
    done = Run(Triggers(protocol, "e", standing))
    for event in sequence:
        done.feed(event)
        if event[0] == "withdraw":
            continue
        again = done.feed((*event[:-1], 0.0))
        assert again.proposal is None
        assert again.would_ask == ()
        if event[0] != "update":
            assert again.transitions == ()
