"""What the page says of a protocol before it asks."""

from datetime import date

import pytest

from agent.console.cli import _settings
from agent.console.trial import shadow, sweeps
from agent.coverage_store import Course, CoverageStore
from agent.trigger_site import Site, SitePolicy
from agent.trigger_states import ExamContext
from agent.triggers import Triggers
from protocols.exam_library import library
from protocols.findings import ExamFindings, Finding

LUMBAR = library()["lumbar"].protocol
OEDEMA = Finding(
    id="f1", type="oedema_like", structure="sacral_subchondral", side="left", level="S1",
    centre_mm=(40, 30, -120), extent_mm=(6, 8, 9), volume_ml=0.4, depth_mm=6, cnr=6.5,
    probability=0.9, series=("stir_sag",), slices=(3, 4), adjacent_slices=2, area_mm2=45,
)  # fmt: skip


@pytest.fixture
def noted(tmp_path):
    """The file of an agent whose triggers only note, after one exam that called for more."""
    path, policy = tmp_path / "control-exams.sqlite", SitePolicy(shadow_exams=3)
    site = Site(policy)
    machine = Triggers(LUMBAR, "exam-1", site.standing(LUMBAR))
    findings = ExamFindings(exam="exam-1", series=("stir_sag",), findings=(OEDEMA,), agreement=True)
    machine.update(findings, ExamContext(slot_end_s=1200, sar_headroom=0.9), 1.0)
    machine.end(2.0)
    site.record(LUMBAR, machine.state)
    store = CoverageStore(path)
    course = Course(exam="exam-1", protocol="lumbar", began_s=0, machine=machine.state, ended=True)
    store.save(course, 1000.0)
    store.save_site(site.state, date(2026, 1, 2))
    store.close()
    return path, policy


def test_shadow_mode_shows_what_would_have_been_asked(noted):
    path, policy = noted
    found = shadow(path, policy, "lumbar")
    assert {each["standing"] for each in found["triggers"]} == {"shadow mode: 1 of 3 exams"}
    assert sum(each["held"] for each in found["triggers"]) >= 1
    (question,) = found["questions"]
    assert question["text"].startswith("Proposal") and question["minutes"] > 0
    assert shadow(path, policy, "si-joints")["questions"] == []
    assert shadow(None, policy, "lumbar") == {"triggers": [], "questions": []}


def test_a_sweep_is_that_of_the_report(tmp_path):
    numbers = tmp_path / "reports"
    numbers.mkdir()
    (numbers / "bt.json").write_text(
        '{"protocols": [{"protocol": "lumbar", "revision": 2, "exams": 40, "operating_up": [0.6],'
        ' "sweep": [{"up": 0.5}, {"up": 0.6}]}, {"protocol": "other", "sweep": []}]}'
    )
    (numbers / "broken.json").write_text("{")
    (found,) = sweeps(numbers, "lumbar")
    assert (found["report"], found["revision"], found["operating"]) == ("bt", 2, [0.6])
    assert [point["up"] for point in found["points"]] == [0.5, 0.6]
    assert sweeps(tmp_path / "nowhere", "lumbar") == []


def test_the_agents_own_settings_say_where_all_of_it_is(tmp_path):
    file = tmp_path / "agent.yaml"
    file.write_text(
        "control: {store: here/control.sqlite}\nsite: {shadow_exams: 7}\n"
        "requests: {folder: asked}\nconsole: {port: 1234}\n"
    )
    settings = _settings(file, {"guest": "viewer"})
    assert settings.policy.shadow_exams == 7
    assert str(settings.courses) == "here/control-exams.sqlite"
    assert str(settings.requests) == "asked"
    assert (settings.port, settings.guest) == (1234, "viewer")
