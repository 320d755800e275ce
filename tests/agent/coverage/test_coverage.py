"""From findings to a question, its answer, and the series that was asked for."""

import time
from dataclasses import replace

import numpy as np
import pytest

from agent.trigger_site import SitePolicy
from agent.trigger_states import DeclineReason, Reason, State
from gadgets.items import Series
from gadgets.prescribe import prescribe
from protocols.control import CoverageReply, Outcome, ReplyReason
from protocols.exam_library import library
from protocols.trigger import OrderFlag
from scanner.console_adapter import Answer, NotScanned

DEADLINE_S = 20.0
EXAM = "exam-" + "7" * 32
PROTOCOL = library()["lumbar"].protocol
YES = Answer(Outcome.ACCEPTED)
SI = "si-joint-signal"


def wait_for(condition):
    """Return when a condition has come to hold."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def series_at(slab, name):
    data = np.zeros((slab.slices, *slab.matrix[::-1]), np.float32)
    return Series(name, data, slab.volume, "stir", thickness_mm=slab.thickness_mm)


@pytest.fixture
def begin(site, update):
    site.coverage.tell(EXAM, update())
    return site


def test_what_is_found_is_asked_for_exactly_where_it_can_be_seen(
    begin, console, findings, finding, labels
):
    last_readout_ns = time.monotonic_ns()
    begin.coverage.update(findings(finding()), [labels], last_readout_ns)
    request = console.happened("ask")
    assert request.exam == EXAM and request.trigger == SI and request.findings == ("f1",)
    assert [step.step for step in request.steps] == ["si_stir_cor", "si_t1_cor"]
    for step in request.steps:
        asked = PROTOCOL.step(step.step)
        expected = prescribe(asked.geometry, labels, finding())
        assert step.slab == expected.slab and step.minutes == asked.minutes
        assert step.variant.startswith(expected.variant)
    assert "left" in request.text
    assert begin.state().state is State.PROPOSED


def test_accepted_coverage_goes_its_way_and_comes_back(begin, console, findings, finding, labels):
    begin.coverage.update(findings(finding()), [labels], None)
    request = console.happened("ask")
    console.answers.put(YES)
    steps = console.happened("scan")
    wait_for(lambda: begin.state().state is State.DONE)
    for step in steps:
        assert begin.coverage.joined(EXAM, series_at(step.slab, step.step)) == request.id
    assert begin.coverage.joined(EXAM, series_at(steps[0].slab, steps[0].step)) is None
    assert begin.transitions()[-4:] == ["proposed", "accepted", "scanning", "done"]
    assert [entry.reply.outcome for entry in begin.entries("reply")] == [
        Outcome.ACCEPTED,
        Outcome.SCHEDULED,
        Outcome.DONE,
    ]
    assert all(entry.latency_s >= 0 for entry in begin.entries("reply"))
    assert [(entry.request, entry.step) for entry in begin.entries("scan")] == [
        (request.id, "si_stir_cor"),
        (request.id, "si_t1_cor"),
    ]


def test_it_is_said_whether_it_was_scanned_where_it_was_asked(
    begin, console, findings, finding, labels
):
    begin.coverage.update(findings(finding()), [labels], None)
    console.answers.put(YES)
    first, second = console.happened("scan")
    x, y, z = second.slab.centre
    begin.coverage.joined(EXAM, series_at(first.slab, first.step))
    begin.coverage.joined(EXAM, series_at(replace(second.slab, centre=(x + 9, y, z)), second.step))
    assert console.said("scan", step="si_stir_cor")["as_asked"] is True
    assert console.said("scan", step="si_t1_cor")["as_asked"] is False


def test_how_long_the_decision_took_is_in_telemetry_and_audit(
    begin, console, findings, finding, labels
):
    wait_for(lambda: begin.channel.consoles)
    half_a_second_ago = time.monotonic_ns() - 500_000_000
    begin.coverage.update(findings(finding()), [labels], half_a_second_ago)
    said = console.said("request", trigger=SI)
    assert 0.5 <= said["decision_seconds"] < DEADLINE_S
    (entry,) = begin.entries("request")
    assert entry.decision_s == said["decision_seconds"]
    assert entry.request.id == said["request"]


def test_nothing_found_is_nothing_asked(begin, findings, labels):
    begin.coverage.update(findings(), [labels], None)
    assert begin.state().state is State.IDLE
    assert begin.questions.open() == []
    assert [entry.event for entry in begin.entries("evaluation")] == ["update"]


def test_unknown_sar_headroom_blocks_and_says_so_until_it_is_known(
    site, console, update, findings, finding, labels
):
    site.coverage.update(findings(finding()), [labels], None)
    assert (site.state().state, site.state().reason) == (State.BLOCKED, Reason.SAR)
    assert "not known" in console.said("trigger", state="blocked")["detail"]
    site.coverage.tell(EXAM, update())
    assert console.happened("ask").exam == EXAM


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sar_headroom": 0.1}, Reason.SAR),
        ({"slot_minutes": 4.0}, Reason.SLOT),
        ({"order": (OrderFlag.EXTRA_DECLINED,)}, Reason.ORDER),
        ({"planned": ("si_stir_cor", "si_t1_cor")}, Reason.PLANNED),
        ({"minutes_used": 5.0}, Reason.EXTRA_MINUTES),
    ],
)
def test_what_the_console_says_counts(site, update, findings, finding, labels, changes, reason):
    site.coverage.tell(EXAM, update(**changes))
    site.coverage.update(findings(finding()), [labels], None)
    assert (site.state().state, site.state().reason) == (State.BLOCKED, reason)


def test_without_a_word_of_the_console_the_protocols_slot_holds(site, findings, finding, labels):
    """The lumbar exam takes 9 of its 20 minutes; the proposal fits, and SAR is what is missing."""
    site.coverage.update(findings(finding(), series=("stir_sag",)), [labels], None)
    assert site.state().reason is Reason.SAR
    course = site.courses.course(EXAM)
    assert course.protocol == "lumbar" and course.told is None


def test_the_console_names_the_protocol(site, update, findings, labels):
    site.coverage.tell(EXAM, update(protocol="si-joints"))
    assert site.courses.course(EXAM).protocol == "si-joints"
    site.coverage.tell(EXAM, update(protocol="no-such-protocol"))
    assert site.courses.course(EXAM).protocol == "si-joints"


def test_what_cannot_be_laid_is_not_asked_and_another_trigger_has_its_turn(
    begin, console, findings, finding, without_sacrum
):
    canal = finding(
        id="f2", type="canal_narrow", structure="canal", side="midline", level="L1/L2",
        depth_mm=None, series=("t2_tse_sag",), probability=0.95,
    )  # fmt: skip
    begin.coverage.update(findings(finding(), canal), [without_sacrum], None)
    request = console.happened("ask")
    assert request.trigger == "canal-above-axials"
    assert (begin.state().state, begin.state().reason) == (State.BLOCKED, Reason.PRESCRIPTION)
    assert "S2_dorsal" in begin.state().detail or "S1_dorsal" in begin.state().detail


def test_without_labels_nothing_is_asked(begin, findings, finding):
    begin.coverage.update(findings(finding()), [], None)
    assert begin.state().reason is Reason.PRESCRIPTION
    assert "no series was labelled" in begin.state().detail


def test_an_older_series_serves_where_the_latest_cannot(
    begin, console, findings, finding, labels, without_sacrum
):
    begin.coverage.update(findings(finding()), [without_sacrum, labels], None)
    assert console.happened("ask").trigger == SI


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (ReplyReason.PATIENT, DeclineReason.PATIENT),
        (ReplyReason.TIME, DeclineReason.TIME),
        (ReplyReason.NOT_INDICATED, DeclineReason.NOT_INDICATED),
        (ReplyReason.SCANNER, DeclineReason.OTHER),
    ],
)
def test_a_decline_is_final_and_keeps_its_reason(
    begin, console, findings, finding, labels, given, reason
):
    begin.coverage.update(findings(finding()), [labels], None)
    console.answers.put(Answer(Outcome.DECLINED, given))
    wait_for(lambda: begin.state().state is State.DECLINED)
    assert begin.state().detail == f"declined: {reason}"
    begin.coverage.update(findings(finding()), [labels], None)
    assert len(begin.entries("request")) == 1


def test_no_word_of_the_technologist_is_no_answer(begin, console, findings, finding, labels):
    begin.coverage.update(findings(finding()), [labels], None)
    console.answers.put(None)
    wait_for(lambda: begin.state().state is State.TIMED_OUT)
    assert begin.state().reason is Reason.NO_ANSWER


def test_without_a_console_the_countdown_is_the_answer(
    open_site, update, findings, finding, labels
):
    quick = PROTOCOL.model_copy(
        update={
            "triggers": tuple(
                trigger.model_copy(
                    update={"ask": trigger.ask.model_copy(update={"countdown_s": 0.5})}
                )
                for trigger in PROTOCOL.triggers
            )
        }
    )
    site = open_site(protocols={"lumbar": quick})
    site.coverage.tell(EXAM, update())
    site.coverage.update(findings(finding()), [labels], time.monotonic_ns())
    wait_for(lambda: site.state().state is State.TIMED_OUT)
    assert site.entries("request")[0].decision_s is None
    assert [entry.reply.reason for entry in site.entries("reply")] == [ReplyReason.NO_ANSWER]


def test_what_was_accepted_and_fails_is_not_scanned(begin, console, findings, finding, labels):
    console.fails = NotScanned(ReplyReason.PATIENT, "wants out")
    begin.coverage.update(findings(finding()), [labels], None)
    console.answers.put(YES)
    wait_for(lambda: begin.state().state is State.NOT_SCANNED)
    assert "patient" in begin.state().detail


def test_the_technologists_own_slices_are_those_that_count(
    begin, console, findings, finding, labels
):
    begin.coverage.update(findings(finding()), [labels], None)
    step = console.happened("ask").steps[0]
    moved = replace(step.slab, centre=(9.0, 9.0, -99.0))
    mine = step.model_copy(update={"slab": moved})
    console.answers.put(Answer(Outcome.MODIFIED, steps=(mine,)))
    assert console.happened("scan") == (mine,)
    begin.coverage.joined(EXAM, series_at(moved, step.step))
    assert console.said("scan")["as_asked"] is True


def test_a_new_site_asks_nothing_and_notes(open_site, connect, update, findings, finding, labels):
    site = open_site(SitePolicy())
    console = connect(site)
    site.coverage.tell(EXAM, update())
    wait_for(lambda: site.channel.consoles)
    site.coverage.update(findings(finding()), [labels], None)
    assert site.state().state is State.SHADOWED
    assert site.questions.open() == []
    (noted,) = [q for entry in site.entries("evaluation") for q in entry.questions]
    assert not noted.asked and noted.trigger == SI
    assert console.said("would_ask")["trigger"] == SI


def test_the_end_of_the_exam_takes_the_question_back(
    begin, console, update, findings, finding, labels
):
    begin.coverage.update(findings(finding()), [labels], None)
    console.happened("ask")
    begin.coverage.tell(EXAM, update(ended=True))
    assert console.happened("withdrawn") == "the exam has ended"
    assert begin.state().reason is Reason.EXAM_ENDED
    assert begin.courses.course(EXAM).ended
    assert begin.courses.site()[0].triggers[f"lumbar/{SI}"].exams == 1
    begin.coverage.update(findings(finding(id="f9")), [labels], None)
    assert len(begin.entries("request")) == 1


def test_an_answer_to_what_was_taken_back_is_on_record(
    begin, console, update, findings, finding, labels
):
    """A late click: the console answers, the agent does not count it, and says so in the audit."""
    begin.coverage.update(findings(finding()), [labels], None)
    request = console.happened("ask")
    begin.questions.withdraw(
        _withdrawal(request.id), time.time()
    )  # as another part of the agent would
    late = CoverageReply(id="late", request=request.id, outcome=Outcome.ACCEPTED)
    assert begin.questions.record(late, time.time()) == "withdrawn"
    begin.coverage.end(EXAM)
    assert [(entry.reply.id, entry.counts) for entry in begin.entries("reply")] == [("late", False)]


def _withdrawal(request):
    from protocols.control import Withdraw, WithdrawReason

    return Withdraw(id="w", request=request, reason=WithdrawReason.EXAM_ENDED)


def test_a_question_whose_finding_has_gone_is_taken_back(begin, console, findings, finding, labels):
    begin.coverage.update(findings(finding()), [labels], None)
    console.happened("ask")
    begin.coverage.update(findings(series=(*("t1_tse_sag", "stir_sag"), "t2_tse_ax")), [labels], 0)
    assert "nothing is found" in console.happened("withdrawn")
    assert begin.state().state is State.IDLE
    # It has not been asked, and may be again.
    begin.coverage.update(findings(finding(), series=("stir_sag", "x")), [labels], None)
    assert console.happened("ask").id.endswith("/2")


def test_a_question_stands_while_triage_abstains(begin, console, findings, finding, labels):
    begin.coverage.update(findings(finding()), [labels], None)
    request = console.happened("ask")
    begin.coverage.update(findings(abstained="the worker has ended"), [labels], None)
    assert begin.questions.state(request.id) == "open"


def test_an_answer_at_the_last_moment_counts_where_the_channel_says_so(
    begin, findings, finding, labels
):
    """The channel's countdown began later than the machine's: its word holds."""
    begin.coverage.update(findings(finding()), [labels], None)
    (asked,) = begin.questions.open()
    yes = CoverageReply(id="a1", request=asked.request.id, outcome=Outcome.ACCEPTED)
    assert begin.questions.record(yes, asked.expires_s - 1e-6) == "counts"
    wait_for(lambda: begin.state().state is State.ACCEPTED)
