"""Documents for those who answer for it: what they name exists, and they claim nothing clinical."""

import re
from pathlib import Path

import pytest

from protocols import control

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
OURS = ("risk", "threat-model", "intended-use", "eclair", "integration", "changelog")


def text(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def test_every_risk_has_a_control_and_tests_that_exist():
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.M)
    }
    rows = [line.split("|")[1:-1] for line in text("risk").splitlines() if line[:2] == "| "]
    rows = [[cell.strip() for cell in row] for row in rows[2:] if row[0].strip() != "hazard"]
    assert len(rows) > 15
    for hazard_, cause, control_, tests, _ in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert cause and control_ and named, (hazard_, cause)
        assert set(named) <= defined, set(named) - defined


@pytest.mark.parametrize("name", OURS)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#]+)", text(name)):
        assert (DOCS / link).exists(), link


@pytest.mark.parametrize("name", OURS)
def test_nothing_clinical_is_claimed(name):
    claims = r"\b(diagnoses|detects|clinically proven|is certified|approved by|sacroiliitis)\b"
    assert not re.search(claims, text(name), re.I)


def test_it_is_said_that_it_is_research():
    for name in ("intended-use", "eclair"):
        assert re.search("not clinically validated|validated\\? \\| No", text(name), re.I)


def test_the_version_of_the_control_channel_is_that_of_the_code():
    assert f"protocol version {control.VERSION}" in text("integration")
    assert f": {control.VERSION}." in text("changelog")
    assert f"`version` ({control.VERSION})" in text("control")


def test_settings_that_documents_name_exist():
    from agent.config import Settings

    sections = set(Settings.model_fields)
    for name in OURS:
        for section, key in re.findall(r"`(\w+)\.(\w+)(?:\.\w+)?`", text(name)):
            if section in sections:
                model = Settings.model_fields[section].annotation
                models = [model, *getattr(model, "__args__", ())]
                fields = {f for m in models for f in getattr(m, "model_fields", {})}
                assert key in fields, f"{section}.{key}"
