"""Findings travel as JSON between triage, triggers, console and archive: nothing may be lost."""

import pytest
from pydantic import ValidationError

from protocols.findings import ExamFindings, Finding, Quality

FINDING = {
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
    "slices": (3, 4),
    "adjacent_slices": 2,
    "area_mm2": 45.0,
}


def test_findings_survive_the_way_through_json() -> None:
    exam = ExamFindings(exam="e1", series=("stir_sag",), findings=(Finding(**FINDING),))
    assert ExamFindings.model_validate_json(exam.model_dump_json()) == exam


@pytest.mark.parametrize(
    ("field", "value"),
    [("probability", 1.2), ("cnr", float("nan")), ("type", "sacroiliitis"), ("slices", ())],
)
def test_what_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Finding(**{**FINDING, field: value})


def test_a_series_is_not_rejected_without_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        Quality(series="stir_sag", snr=3.0, motion=0.8, usable=False)
