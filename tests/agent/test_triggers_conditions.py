"""Conditions of a trigger, one kind at a time: how far each holds, and on what values."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trigger_conditions import Evaluation
from agent.trigger_states import Certainty, Explained
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Measure
from protocols.trigger import Trigger

NONE, EVIDENCE, CANDIDATE, CONFIRMED = Certainty


def condition(**fields: Any) -> Any:
    """Read a condition as a protocol file would give it."""
    trigger = {"name": "t", "when": fields, "scan": "s", "ask": {"text": "?"}}
    return Trigger.model_validate_json(json.dumps(trigger)).when


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "id": "f1",
        "type": "oedema_like",
        "structure": "endplate",
        "level": "L4",
        "centre_mm": (0, 0, 0),
        "extent_mm": (9, 9, 9),
        "volume_ml": 0.4,
        "cnr": 6.0,
        "probability": 0.9,
        "series": ("stir_sag",),
        "slices": (6, 7),
        "adjacent_slices": 2,
        "area_mm2": 60.0,
    }
    return Finding(**{**fields, **changes})


def seen(*findings: Finding, **changes: Any) -> ExamFindings:
    return ExamFindings(exam="e", series=("t1_tse_sag", "stir_sag"), findings=findings, **changes)


def explain(
    when: Any,
    findings: ExamFindings | None,
    met: set[str] | None = None,
    distrusted: dict[str, str] | None = None,
) -> tuple[Explained, set[str]]:
    evaluation = Evaluation(findings, distrusted or {}, frozenset(met or ()))
    return evaluation.explain(when), evaluation.after


def certainty(when: Any, findings: ExamFindings | None) -> Certainty:
    return explain(when, findings)[0].certainty


OEDEMA = condition(finding="oedema_like")


@pytest.mark.parametrize(
    ("fields", "found", "holds"),
    [
        ({}, {}, CONFIRMED),
        ({"finding": ["fat_like", "oedema_like"]}, {}, CONFIRMED),
        ({"where": ["disc", "endplate"]}, {}, CONFIRMED),
        ({"where": "disc"}, {}, NONE),
        ({"side": "left"}, {"side": "left"}, CONFIRMED),
        ({"side": "left"}, {"side": "right"}, NONE),
        ({"level": ["L3", "L4"]}, {}, CONFIRMED),
        ({"level": "L4/L5"}, {}, NONE),
        ({"level": "L4"}, {"level": None}, NONE),
        ({"seen_on": ["stir_sag"]}, {}, CONFIRMED),
        ({"seen_on": ["t2_tse_ax"]}, {}, NONE),
        ({"cnr": {"up": 6, "down": 4}}, {}, CONFIRMED),
        ({"cnr": {"up": 7, "down": 4}}, {}, EVIDENCE),
        ({"cnr": {"up": 9, "down": 7}}, {}, NONE),
        ({"depth_mm": {"up": 8, "down": 5}}, {"depth_mm": 8}, CONFIRMED),
        ({"depth_mm": {"up": 8, "down": 5}}, {"depth_mm": 6}, EVIDENCE),
        ({"depth_mm": {"up": 8, "down": 5}}, {"depth_mm": None}, NONE),
        ({"persists": {"adjacent_slices": 3}}, {}, CANDIDATE),
        ({"persists": {"adjacent_slices": 3, "series": 1}}, {}, CONFIRMED),
        ({"persists": {"area_mm2": 61}}, {}, CANDIDATE),
    ],
)
def test_a_finding(fields: dict[str, Any], found: dict[str, Any], holds: Certainty) -> None:
    assert certainty(condition(**{"finding": "oedema_like", **fields}), seen(finding(**found))) is (
        holds
    )


def test_the_worst_of_several_thresholds_counts() -> None:
    when = condition(finding="oedema_like", cnr={"up": 7, "down": 4})
    assert certainty(when, seen(finding(probability=0.1))) is NONE
    assert certainty(when, seen(finding(probability=0.7, cnr=9))) is EVIDENCE


def test_count_takes_the_weakest_of_that_many() -> None:
    two = condition(finding="oedema_like", count=2)
    strong, weak = finding(), finding(id="f2", adjacent_slices=1)
    assert certainty(two, seen(strong)) is NONE
    assert certainty(two, seen(strong, weak)) is CANDIDATE
    explained, _ = explain(two, seen(strong, weak, finding(id="f3")))
    assert explained.certainty is CONFIRMED
    assert explained.findings == ("f1", "f3")


def test_series_that_are_not_trusted_count_for_nothing() -> None:
    in_two = finding(series=("stir_sag", "t2_tse_sag"))
    poor = {"stir_sag": "SNR 3.0 below 5"}
    # Slices are those of the first series; the other one alone has no neighbours to show.
    assert explain(OEDEMA, seen(in_two), distrusted=poor)[0].certainty is CANDIDATE
    evaluation = Evaluation(seen(finding()), poor, frozenset())
    assert evaluation.explain(OEDEMA).certainty is NONE
    assert evaluation.set_aside == ["f1 only on stir_sag, SNR 3.0 below 5"]


@pytest.mark.parametrize(
    ("bounds", "value", "met", "holds"),
    [
        ({"above": {"up": 60, "down": 50}}, 60, False, CONFIRMED),
        ({"above": {"up": 60, "down": 50}}, 55, False, EVIDENCE),
        ({"above": {"up": 60, "down": 50}}, 55, True, CONFIRMED),
        ({"above": {"up": 60, "down": 50}}, 49, True, NONE),
        ({"below": {"up": 60, "down": 50}}, 50, False, CONFIRMED),
        ({"below": {"up": 60, "down": 50}}, 55, False, EVIDENCE),
        ({"below": {"up": 60, "down": 50}}, 55, True, CONFIRMED),
        ({"below": {"up": 60, "down": 50}}, 61, True, NONE),
    ],
)
def test_a_measure(bounds: dict[str, Any], value: float, met: bool, holds: Certainty) -> None:
    when = condition(measure="lordosis", **bounds)
    found = seen(measures=[Measure(name="lordosis", value=value, unit="deg")])
    explained, after = explain(when, found, {"when|"} if met else None)
    assert explained.certainty is holds
    assert ("when|" in after) == (holds is CONFIRMED)


def test_a_measure_is_that_of_the_named_levels() -> None:
    canal = condition(measure="canal_ap", level=["L3", "L4"], below={"up": 12, "down": 10})
    narrow = Measure(name="canal_ap", level="L5", value=8, unit="mm")
    assert certainty(canal, seen(measures=[narrow])) is NONE
    wide = narrow.model_copy(update={"level": "L3", "value": 15})
    here = narrow.model_copy(update={"level": "L4"})
    explained, _ = explain(canal, seen(measures=[wide, here]))
    assert explained.certainty is CONFIRMED
    assert explained.value == "L3: 15, L4: 8"


def test_coverage_of_either_side_or_of_one() -> None:
    little = {"below": {"up": 0.4, "down": 0.3}}
    found = seen(
        coverage=[
            EvidenceCoverage(structure="si_joint", side="left", shown=0.2, judged=False),
            EvidenceCoverage(structure="si_joint", side="right", shown=0.8, judged=True),
        ]
    )
    assert certainty(condition(coverage="si_joint", **little), found) is CONFIRMED
    assert certainty(condition(coverage="si_joint", side="right", **little), found) is NONE
    assert certainty(condition(coverage="sacrum", **little), found) is NONE


def test_anomaly() -> None:
    when = condition(anomaly={"up": 0.9, "down": 0.6})
    assert certainty(when, seen(anomaly=0.95)) is CONFIRMED
    assert certainty(when, seen(anomaly=0.7)) is EVIDENCE
    assert certainty(when, seen()) is NONE


FAT = {"finding": "fat_like"}
BOTH = [{"finding": "oedema_like"}, FAT]


@pytest.mark.parametrize(
    ("group", "oedema", "fat", "holds"),
    [
        ("all", 0.9, 0.9, CONFIRMED),
        ("all", 0.9, 0.7, EVIDENCE),
        ("all", 0.9, 0.1, NONE),
        ("any", 0.9, 0.1, CONFIRMED),
        ("any", 0.7, 0.1, EVIDENCE),
        ("none", 0.7, 0.7, CONFIRMED),
        ("none", 0.7, 0.9, NONE),
    ],
)
def test_groups(group: str, oedema: float, fat: float, holds: Certainty) -> None:
    found = seen(finding(probability=oedema), finding(id="f2", type="fat_like", probability=fat))
    assert certainty(condition(**{group: BOTH}), found) is holds


def test_nothing_holds_before_the_first_series_not_even_none_of() -> None:
    assert certainty(condition(none=[FAT]), None) is NONE


def test_what_none_of_looks_for_is_not_what_called() -> None:
    when = condition(all=[{"finding": "oedema_like"}, {"none": [FAT]}])
    explained, _ = explain(when, seen(finding()))
    assert explained.findings == ("f1",)
    assert [part.text for part in explained.inner[1:]] == ["none of"]


probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(deadline=None)
@given(probabilities)
def test_hysteresis_follows_its_definition(values: list[float]) -> None:
    """Against the plain definition: on at 0.8 or more, off below 0.6, else as before."""
    met: set[str] = set()
    on = False
    for value in values:
        on = value >= 0.8 or (on and value >= 0.6)
        _, met = explain(OEDEMA, seen(finding(probability=value)), met)
        assert bool(met) == on


@settings(deadline=None)
@given(st.booleans(), st.lists(st.floats(0.6, 0.7999), min_size=1, max_size=30))
def test_nothing_flaps_within_the_margin(was_met: bool, values: list[float]) -> None:
    met = {"when|f1"} if was_met else set()
    for value in values:
        _, met = explain(OEDEMA, seen(finding(probability=value)), met)
        assert bool(met) == was_met


@settings(deadline=None)
@given(probabilities, probabilities)
def test_each_finding_has_its_own_hysteresis(first: list[float], second: list[float]) -> None:
    together: set[str] = set()
    alone: set[str] = set()
    for one, two in zip(first, second, strict=False):
        _, together = explain(
            OEDEMA, seen(finding(probability=one), finding(id="f2", probability=two)), together
        )
        _, alone = explain(OEDEMA, seen(finding(probability=one)), alone)
        assert together - {"when|f2"} == alone
