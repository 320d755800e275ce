"""`boreside protocol`: what the protocol engineer types, and what comes back."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.protocol_cli import app
from protocols.exam_library import SHIPPED

LUMBAR = (SHIPPED / "lumbar.yaml").read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def boreside(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_shipped_protocols_are_right() -> None:
    status, output = boreside("check", *sorted(SHIPPED.glob("*.yaml")))
    assert status == 0, output
    assert output.count(": ok, ") == len(list(SHIPPED.glob("*.yaml")))


def test_check_points_at_file_line_and_column(site: Path) -> None:
    path = site / "ours.yaml"
    path.write_text(LUMBAR.replace("chain: dl", "chain: d1", 1), encoding="utf-8")
    line = LUMBAR[: LUMBAR.index("chain: dl")].count("\n") + 1
    status, output = boreside("check", path)
    assert status == 1
    assert output.startswith(f"{path}:{line}:12: steps[1].chain: unknown chain d1, expected one of")
    assert "did you mean dl?" in output


def test_check_without_files_takes_all_there_are(site: Path) -> None:
    (site / "ours.yaml").write_text("format: 1\n", encoding="utf-8")
    status, output = boreside("check", "--site", site)
    assert status == 1
    assert "lumbar.yaml: ok" in output
    assert "ours.yaml:1:1: expected the key name" in output


def test_check_of_a_file_that_is_not_there(site: Path) -> None:
    status, output = boreside("check", site / "none.yaml")
    assert status == 2
    assert "none.yaml: expected a protocol file: No such file" in output


def test_list_says_where_each_comes_from(site: Path) -> None:
    (site / "ours.yaml").write_text(LUMBAR, encoding="utf-8")
    status, output = boreside("list", "--site", site)
    assert status == 0
    assert "si-joints" in output
    assert "overrides" in output


def test_show_reads_a_trigger_aloud(site: Path) -> None:
    status, output = boreside("show", "lumbar", "--site", site)
    assert status == 0
    for sentence in (
        "a finding oedema_like in sacral_subchondral or iliac_subchondral, "
        "probability from 0.8 (until below 0.6), on 2 adjacent slices or in 2 series",
        "sacral_subchondral, left, shown well enough to judge",
        "waits 60 s; no answer is a decline",
        "si_stir_cor, si_oblique_coronal, 0.8 min",
        "none in the last 3 min of the slot",
    ):
        assert sentence in output


def test_show_of_an_unknown_protocol_names_those_there_are(site: Path) -> None:
    status, output = boreside("show", "lumber", "--site", site)
    assert status == 2
    assert "no protocol lumber" in output
    assert "lumbar" in output


def test_the_schema_is_json() -> None:
    status, output = boreside("schema")
    assert status == 0
    assert json.loads(output)["title"] == "ExamProtocol"
