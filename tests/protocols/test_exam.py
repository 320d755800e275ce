"""Exam protocols: what the shipped ones hold, how a site overrides them, what the schema says."""

import json
import re
from math import ceil
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import ValidationError

from protocols.exam import ExamProtocol, GeometryRule, GradientEcho, Step
from protocols.exam_check import Known
from protocols.exam_file import ProtocolError, parse
from protocols.exam_library import SHIPPED, files, library, schema

KNOWN = Known(
    chains=frozenset({"conventional", "denoise", "dl"}), engines=frozenset({"denoiser", "recon"})
)
LIBRARY = library(known=KNOWN)
STEPS = [
    pytest.param(step, id=f"{name}/{step.name}")
    for name, entry in LIBRARY.items()
    for step in (*entry.protocol.steps, *entry.protocol.on_demand)
]


def test_the_shipped_protocols_are_there() -> None:
    assert set(LIBRARY) == {
        "lumbar",
        "lumbar-coronal-stir",
        "lumbar-sacroiliitis",
        "metastasis-search",
        "si-joints",
        "whole-spine",
    }
    assert all(entry.path.stem == name and entry.shipped for name, entry in LIBRARY.items())


def test_si_joints_are_the_four_sequences_of_asas_spartan() -> None:
    """Three semicoronal (T1, STIR or T2-FS, thin T1) and one semiaxial, fat suppressed.

    Ann Rheum Dis 2024, doi 10.1136/ard-2024-225882.
    """
    steps = LIBRARY["si-joints"].protocol.steps
    assert [(step.contrast, step.geometry.rule.value) for step in steps] == [
        ("t1", "si_oblique_coronal"),
        ("stir", "si_oblique_coronal"),
        ("t1", "si_oblique_coronal"),
        ("stir", "si_oblique_axial"),
    ]
    thin = steps[2]
    assert isinstance(thin.sequence, GradientEcho)
    assert thin.geometry.volumetric and thin.geometry.thickness_mm <= 1


def test_the_plain_alternative_is_the_lumbar_exam_and_one_coronal_stir() -> None:
    plain, lumbar = LIBRARY["lumbar-coronal-stir"].protocol, LIBRARY["lumbar"].protocol
    assert plain.steps[:-1] == lumbar.steps
    assert plain.steps[-1].contrast == "stir"
    assert plain.steps[-1].geometry.rule is GeometryRule.CORONAL
    assert not plain.triggers


@pytest.mark.parametrize("name", LIBRARY)
def test_a_shipped_exam_fits_its_slot_with_all_it_may_add(name: str) -> None:
    protocol = LIBRARY[name].protocol
    extra = protocol.budget.extra_minutes if protocol.triggers else 0
    assert protocol.minutes + extra + protocol.budget.none_in_last_minutes <= protocol.slot_minutes


@pytest.mark.parametrize("step", STEPS)
def test_scan_time_is_that_of_its_sequence(step: Step) -> None:
    """Repetition time times excitations, and at most 20 s of preparation."""
    geometry, sampling, sequence = step.geometry, step.acceleration, step.sequence
    lines = geometry.matrix[1] * (1 + geometry.phase_oversampling) * sampling.partial_fourier
    lines = lines / sampling.phase + sampling.calibration_lines * (1 - 1 / sampling.phase)
    if isinstance(sequence, GradientEcho):
        shots = lines * geometry.slices / sampling.partition
    else:
        shots = ceil(lines / sequence.echo_train) * sequence.concatenations
    seconds = sequence.tr_ms / 1000 * shots * sequence.averages
    assert 0 <= step.minutes * 60 - seconds <= 20


@pytest.mark.parametrize("step", STEPS)
def test_the_echo_trains_of_all_slices_fit_into_the_repetition_time(step: Step) -> None:
    sequence = step.sequence
    if isinstance(sequence, GradientEcho):
        assert max(sequence.te_ms) + 500 / sequence.bandwidth_hz_per_pixel < sequence.tr_ms
    else:
        train_ms = (sequence.echo_train + 0.5) * sequence.echo_spacing_ms
        slices = ceil(step.geometry.slices / sequence.concatenations)
        assert train_ms * slices <= sequence.tr_ms
        assert sequence.te_ms <= sequence.echo_train * sequence.echo_spacing_ms


def test_a_protocol_survives_the_way_through_json() -> None:
    for entry in LIBRARY.values():
        text = entry.protocol.model_dump_json()
        again = ExamProtocol.model_validate_json(text)
        assert again == entry.protocol
        assert again.digest == entry.protocol.digest


def test_a_protocol_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        LIBRARY["lumbar"].protocol.revision = 2  # type: ignore[misc]


def test_the_examples_of_the_manual_are_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    step, trigger = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    text = (SHIPPED / "lumbar.yaml").read_text(encoding="utf-8")
    start, end = text.index("  - name: stir_sag_above"), text.index("budget:")
    si_t1 = text[text.index("  - name: si_t1_cor") : start]
    on_demand = text[: text.index("on_demand:")] + f"on_demand:\n{step}" + dedent(si_t1)
    found = parse(f"{on_demand}\ntriggers:\n{trigger}{text[end:]}", KNOWN)
    assert found.triggers[0].name == "si-joint-signal"


def test_a_site_overrides_by_name_and_adds_its_own(tmp_path: Path) -> None:
    text = (SHIPPED / "lumbar.yaml").read_text(encoding="utf-8")
    changed = text.replace("revision: 1", "revision: 7")
    (tmp_path / "ours.yaml").write_text(changed, encoding="utf-8")
    added = text.replace("name: lumbar\n", "name: lumbar-short\n")
    (tmp_path / "short.yml").write_text(added, encoding="utf-8")
    found = library(tmp_path)
    assert found["lumbar"].protocol.revision == 7
    assert found["lumbar"].overrides and not found["lumbar"].shipped
    assert not found["lumbar-short"].overrides
    assert set(found) == {*LIBRARY, "lumbar-short"}


def test_two_site_protocols_of_one_name_are_refused(tmp_path: Path) -> None:
    text = (SHIPPED / "lumbar.yaml").read_text(encoding="utf-8")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ProtocolError, match=r"b\.yaml.*a\.yaml has the name lumbar already"):
        library(tmp_path)


def test_no_folder_of_a_site_is_no_error(tmp_path: Path) -> None:
    assert files(tmp_path / "none") == []
    assert set(library(tmp_path / "none")) == set(LIBRARY)


def test_the_schema_describes_every_key() -> None:
    """What an editor completes and explains: keys, allowed names, descriptions."""
    found = json.loads(schema())
    assert found["$schema"].endswith("2020-12/schema")
    assert set(found["required"]) == {"format", "name", "revision", "title", "steps"}
    defined = found["$defs"]
    assert "oedema_like" in defined["FindingType"]["enum"]
    assert "si_oblique_coronal" in defined["GeometryRule"]["enum"]
    finding = defined["FindingCondition"]["properties"]
    assert finding["cnr"]["description"].startswith("Contrast to the reference region")
    # One name or a list of them, as the files write it.
    assert {"$ref": "#/$defs/FindingType"} in finding["finding"]["anyOf"]
    assert all(defined[name]["additionalProperties"] is False for name in ("Step", "Trigger"))
