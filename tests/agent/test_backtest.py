"""Replay and backtest by example: exams made by hand, of which the right numbers are known."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from agent.backtest import Backtest, BacktestError, backtest
from agent.backtest_cli import app
from agent.backtest_judge import Kind
from agent.backtest_report import report
from agent.replay import Answers, Outcome, replay
from agent.trigger_states import ExamContext, Reason, Standing, State
from agent.triggers import Triggers
from protocols.archive import (
    ABOUT,
    EXAMS,
    IMAGES,
    TRUTH,
    About,
    ArchiveError,
    PlannedStep,
    RecordedExam,
    RecordedSeries,
    TrueLesion,
    Truth,
)
from protocols.exam_library import library
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Quality, Side
from protocols.trigger import OrderFlag

LUMBAR = library()["lumbar"].protocol
STEPS = LUMBAR.steps
SI = "si-joint-signal"


def oedema(probability: float = 0.9, **changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": "f1",
        "type": "oedema_like",
        "structure": "sacral_subchondral",
        "side": "left",
        "centre_mm": (40.0, 30.0, -120.0),
        "extent_mm": (6.0, 8.0, 9.0),
        "volume_ml": 0.4,
        "cnr": 6.5,
        "probability": probability,
        "series": ("stir_sag",),
        "slices": (13, 14),
        "adjacent_slices": 2,
        "area_mm2": 45.0,
    }
    return Finding(**{**fields, **changes})


def recorded(
    exam: str, *findings: Finding, unprescribed: dict[Any, str] | None = None, **changes: Any
) -> RecordedExam:
    """Return an exam whose findings are there from STIR, the third series, on."""
    series = []
    now_s = 120.0
    for count, step in enumerate(STEPS, start=1):
        now_s += 60 * step.minutes + 20
        names = tuple(each.name for each in STEPS[:count])
        series.append(
            RecordedSeries(
                completed_s=now_s,
                sar_headroom=0.6,
                unprescribed=unprescribed or {},
                findings=ExamFindings(
                    exam=exam,
                    series=names,
                    findings=findings if count >= 3 else (),
                    coverage=tuple(
                        EvidenceCoverage(
                            structure="sacral_subchondral", side=side, shown=0.4, judged=True
                        )
                        for side in (Side.LEFT, Side.RIGHT)
                    ),
                    quality=tuple(Quality(series=name, snr=20, motion=0.1) for name in names),
                    agreement=True,
                ),
            )
        )
    fields: dict[str, Any] = {
        "exam": exam,
        "slot_minutes": 20.0,
        "planned": tuple(PlannedStep(step=s.name, minutes=s.minutes) for s in STEPS),
        "series": tuple(series),
    }
    return RecordedExam(**{**fields, **changes})


def lesion(**changes: Any) -> TrueLesion:
    fields: dict[str, Any] = {
        "side": "left",
        "structure": "sacral_subchondral",
        "imaged": True,
        "volume_ml": 0.7,
        "cnr": 6.5,
    }
    return TrueLesion(**{**fields, **changes})


def write_archive(folder: Path, exams: list[tuple[RecordedExam, Truth]]) -> Path:
    folder.mkdir()
    about = About(title="Exams made by hand", simulated=True, exams=len(exams))
    (folder / ABOUT).write_text(about.model_dump_json())
    (folder / EXAMS).write_text("".join(e.model_dump_json() + "\n" for e, _ in exams))
    (folder / TRUTH).write_text("".join(t.model_dump_json() + "\n" for _, t in exams))
    return folder


def outcome(exam: RecordedExam, trigger: str = SI, answers: Answers | None = None) -> Outcome:
    replayed = replay(LUMBAR, exam, answers or Answers())
    (found,) = [each for each in replayed.outcomes if each.trigger == trigger]
    return found


def test_asked_after_the_series_that_shows_it_and_scanned() -> None:
    found = outcome(recorded("e1", oedema()))
    assert (found.asked, found.after_series, found.state) == (True, "stir_sag", State.ACCEPTED)
    assert found.minutes == pytest.approx(2.2)
    assert "left" in found.text
    assert [step.after for step in found.way][-4:] == [
        State.PROPOSED,
        State.ACCEPTED,
        State.SCANNING,
        State.DONE,
    ]


def test_as_live() -> None:
    """The same events, given to the machine by hand."""
    exam = recorded("e1", oedema(), oedema(0.3, id="f2", side="right"))
    machine = Triggers(LUMBAR, "e1", Standing())
    way = []
    left = [step.minutes for step in STEPS]
    for count, series in enumerate(exam.series, start=1):
        context = ExamContext(
            slot_end_s=1200,
            remaining_minutes=sum(left[count:]) + (2.2 if count > 3 else 0),
            minutes_used=2.2 if count > 3 else 0,
            sar_headroom=0.6,
            planned=tuple(step.name for step in STEPS),
        )
        decision = machine.update(series.findings, context, series.completed_s)
        way += decision.transitions
        if decision.proposal:
            answered_s = series.completed_s + 10
            way += machine.answer(decision.proposal.id, True, answered_s).transitions
    live = [step for step in way if step.trigger == SI]
    assert list(outcome(exam).way[: len(live)]) == live


def test_nothing_seen_nothing_asked() -> None:
    found = outcome(recorded("e1"))
    assert (found.asked, found.state, found.minutes) == (False, State.IDLE, 0)


def test_the_order_forbids() -> None:
    found = outcome(recorded("e1", oedema(), order=frozenset({OrderFlag.PREGNANCY})))
    assert (found.asked, found.confirmed, found.reason) == (False, True, Reason.ORDER)


def test_slices_that_cannot_be_laid_give_the_next_trigger_its_turn() -> None:
    marrow = oedema(0.95, id="m", type="replacement_like", structure="vertebra", area_mm2=60)
    exam = recorded("e1", oedema(), marrow, unprescribed={"si_oblique_coronal": "no S2"})
    si = outcome(exam)
    assert (si.asked, si.state) == (False, State.BLOCKED)
    assert Reason.PRESCRIPTION in [step.reason for step in si.way]
    assert outcome(exam, "marrow-above").asked


def test_declined_and_unanswered_cost_no_minutes() -> None:
    declined = outcome(recorded("e1", oedema()), answers=Answers(accepts=0))
    assert (declined.asked, declined.state, declined.minutes) == (True, State.DECLINED, 0)
    silent = outcome(recorded("e1", oedema()), answers=Answers(after_s=61))
    assert (silent.asked, silent.state, silent.minutes) == (True, State.TIMED_OUT, 0)


def test_a_fraction_is_accepted_and_always_the_same_questions() -> None:
    answers = Answers(accepts=0.7)
    exams = [recorded(f"e{i}", oedema()) for i in range(60)]
    minutes = [outcome(exam, answers=answers).minutes for exam in exams]
    assert 30 <= sum(minute > 0 for minute in minutes) <= 54
    assert minutes == [outcome(exam, answers=answers).minutes for exam in exams]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four lesions of which three are asked about, one of them outside; five without, one asked."""
    far = lesion(imaged=False, side="right")
    return write_archive(
        tmp_path / "archive",
        [
            (recorded("found-small", oedema(0.95)), Truth(exam="found-small", lesions=(lesion(),))),
            (
                recorded("found-large", oedema(0.85)),
                Truth(exam="found-large", lesions=(lesion(volume_ml=3.0), far)),
            ),
            (recorded("missed", oedema(0.7)), Truth(exam="missed", lesions=(lesion(),))),
            (recorded("outside"), Truth(exam="outside", lesions=(far,))),
            (
                recorded("false", oedema(0.82, side="right")),
                Truth(exam="false", group="runner", mimics=("mechanical oedema",)),
            ),
            *((recorded(f"healthy-{i}"), Truth(exam=f"healthy-{i}")) for i in range(4)),
        ],
    )


def test_numbers(archive: Path) -> None:
    (judged,) = backtest([LUMBAR], archive).protocols
    assert judged.triggers == (SI,)
    assert judged.kinds == {Kind.IMAGED: 3, Kind.OUTSIDE: 1, Kind.NONE: 5}
    assert (judged.sensitivity.count, judged.sensitivity.of) == (2, 3)
    assert (judged.sensitivity_anywhere.count, judged.sensitivity_anywhere.of) == (2, 4)
    assert (judged.specificity.count, judged.specificity.of) == (4, 5)
    sizes = {each.size: (each.sensitivity.count, each.sensitivity.of) for each in judged.by_size}
    assert sizes["0.5-1 ml"] == (1, 2)
    assert sizes["2-4 ml"] == (1, 1)
    assert judged.asks_per_100 == pytest.approx(100 * 3 / 9)
    assert judged.minutes_per_exam == pytest.approx(3 * 2.2 / 9)
    assert judged.minutes_per_true_positive == pytest.approx(3 * 2.2 / 2)
    # Scores .95, .85, .7 of lesions; .82 and four times 0 without: one pair of 15 is wrong.
    assert judged.auc == pytest.approx(14 / 15)
    # Two probabilities of .9 and more or less, said of a side without a lesion: one.
    assert [(b.low, b.observed.count, b.observed.of) for b in judged.reliability] == [
        (0.7, 1, 1),
        (0.8, 1, 2),
        (0.9, 1, 1),
    ]


def test_sweep_goes_through_the_operating_point(archive: Path) -> None:
    (judged,) = backtest([LUMBAR], archive).protocols
    assert judged.operating_up == (0.8,)
    at = {point.up: point for point in judged.sweep}
    assert at[0.8].sensitivity == judged.sensitivity
    assert at[0.8].specificity == judged.specificity
    assert at[0.8].minutes_per_exam == pytest.approx(judged.minutes_per_exam)
    assert (at[0.7].sensitivity.count, at[0.7].specificity.count) == (3, 4)
    assert (at[0.95].sensitivity.count, at[0.95].specificity.count) == (1, 5)


def test_reweighted_to_another_prevalence(archive: Path) -> None:
    (judged,) = backtest([LUMBAR], archive).protocols
    at = next(each for each in judged.reweighted if each.prevalence == 0.1)
    asks = 0.1 * 2 / 3 + 0.9 * 1 / 5
    assert at.asks_per_100 == pytest.approx(100 * asks)
    assert at.positive_predictive_value == pytest.approx(0.1 * 2 / 3 / asks)
    assert at.minutes_per_exam == pytest.approx(2.2 * asks)
    assert at.minutes_per_true_positive == pytest.approx(2.2 * asks / (0.1 * 2 / 3))
    first = at.curve[0]
    assert first.threshold == 0.01
    assert first.protocol == pytest.approx(0.1 * 2 / 3 - 0.9 * 0.2 / 99)
    assert first.always == pytest.approx(0.1 - 0.9 / 99)


def test_every_wrong_decision_with_its_reasons(archive: Path) -> None:
    (judged,) = backtest([LUMBAR], archive).protocols
    missed, false = judged.wrong
    assert (missed.exam, missed.missed, missed.state) == ("missed", True, State.EVIDENCE)
    assert "probability 0.70" in missed.detail
    assert (false.exam, false.missed, false.mimics) == ("false", False, ("mechanical oedema",))
    assert "right" in false.question
    assert any("proposed" in step for step in false.way)


def test_plain_alternative_scans_everyone(archive: Path) -> None:
    plain = library()["lumbar-coronal-stir"].protocol
    result = backtest([LUMBAR, plain], archive)
    always = result.protocols[1]
    assert (always.sensitivity.value, always.specificity.value) == (1, 0)
    assert always.minutes_per_exam == pytest.approx(0.8)
    assert always.wrong == () and always.sweep == () and always.auc is None
    only_plain = {each.kind: each.exams for each in result.differ}
    assert only_plain[Kind.IMAGED] == ("missed",)
    assert only_plain[Kind.OUTSIDE] == ("outside",)
    assert len(only_plain[Kind.NONE]) == 4


def test_report_needs_nothing_else_and_names_every_wrong_decision(archive: Path) -> None:
    (archive / IMAGES).mkdir()
    Image.new("L", (8, 8), 90).save(archive / IMAGES / "missed.png")
    page = report(backtest([LUMBAR, library()["lumbar-coronal-stir"].protocol], archive), archive)
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)""", page)
    assert all((a or b).startswith(("data:", "#")) for a, b in addresses)
    assert "<script" not in page and "@import" not in page
    assert page.count("data:image/png;base64,") == 1
    for words in ("missed", "false", "mechanical oedema", "All data of this archive are simulated"):
        assert words in page
    assert "found-small" not in page
    assert page.count("<svg") == 6


def test_command(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ["lumbar", str(archive), "--workers", "1", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert out.read_text().startswith("<!doctype html>")
    numbers = Backtest.model_validate_json(out.with_suffix(".json").read_text())
    assert numbers == backtest([LUMBAR], archive)


@pytest.mark.parametrize("protocol", ["no-such-protocol", "no-such-file.yaml"])
def test_command_without_such_a_protocol(archive: Path, protocol: str) -> None:
    result = CliRunner().invoke(app, [protocol, str(archive), "--workers", "1"])
    assert result.exit_code == 2


def test_what_cannot_be_judged(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="expected an archive"):
        backtest([LUMBAR], tmp_path / "nowhere")
    silent = LUMBAR.model_copy(update={"triggers": ()})
    with pytest.raises(BacktestError, match="looks for oedema_like in sacral_subchondral"):
        backtest([silent], archive)
    lines = (archive / EXAMS).read_text().splitlines()
    (archive / EXAMS).write_text("\n".join([*lines, lines[0]]))
    with pytest.raises(BacktestError, match="found-small again"):
        backtest([LUMBAR], archive)
    (archive / EXAMS).write_text(json.dumps({"exam": "x"}))
    with pytest.raises(ArchiveError, match=r"exams\.jsonl"):
        backtest([LUMBAR], archive)
    (archive / EXAMS).write_text("")
    with pytest.raises(BacktestError, match="found none"):
        backtest([LUMBAR], archive)
