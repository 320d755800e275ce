"""Simulated archives: the same from the same seed, the rates they were asked for, truth apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protocols.archive import EXAMS, TRUTH, exam_lines, read_about, read_exam, read_truth
from protocols.findings import Side, Structure
from scanner.archive_cli import app
from scanner.findings_archive import GROUPS, MECHANICAL_OEDEMA, draw, simulate
from scanner.findings_observer import Region, detectability, probability

LESION = Region(
    kind="lesion",
    side=Side.LEFT,
    structure=Structure.SACRAL_SUBCHONDRAL,
    volume_ml=1.0,
    cnr=8.0,
    depth_mm=8.0,
    lateral=0.5,
    height=0.5,
    cue=1.0,
)


def test_same_seed_same_archive(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / name, exams=20, prevalence=0.3, seed=seed)
    for file in (EXAMS, TRUTH):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == again != other


def test_exams_of_a_small_archive_begin_a_large_one() -> None:
    assert list(draw(5, 0.2, 1)) == list(draw(8, 0.2, 1))[:5]


def test_what_is_written_is_what_was_drawn(tmp_path: Path) -> None:
    simulate(tmp_path / "a", exams=20, prevalence=0.5, seed=2)
    exams, truths = zip(*draw(20, 0.5, 2))
    assert tuple(map(read_exam, exam_lines(tmp_path / "a"))) == exams
    assert tuple(read_truth(tmp_path / "a").values()) == truths
    about = read_about(tmp_path / "a")
    assert about.simulated and about.exams == 20


def test_findings_after_each_series_and_no_truth_in_them() -> None:
    for exam, _ in draw(20, 0.5, 3):
        planned = [each.step for each in exam.planned]
        assert [list(each.findings.series) for each in exam.series] == [
            planned[:count] for count in range(1, len(planned) + 1)
        ]
        assert "lesion" not in exam.model_dump_json()
        assert "mimic" not in exam.model_dump_json()


@pytest.mark.parametrize("prevalence", [0.0, 0.1, 1.0])
def test_prevalence(prevalence: float) -> None:
    diseased = sum(bool(truth.lesions) for _, truth in draw(600, prevalence, 11))
    spread = 4 * np.sqrt(600 * prevalence * (1 - prevalence))
    assert abs(diseased - 600 * prevalence) <= spread


def test_oedema_without_disease_is_as_common_as_published() -> None:
    truths = [truth for _, truth in draw(1500, 0.0, 12)]
    expected = sum(share * MECHANICAL_OEDEMA[group] for group, share in GROUPS.items())
    found = sum("mechanical oedema" in truth.mimics for truth in truths) / len(truths)
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / len(truths))


def test_most_of_the_iliac_side_lies_outside_a_lumbar_exam() -> None:
    lesions = [lesion for _, truth in draw(400, 1.0, 13) for lesion in truth.lesions]
    imaged = {
        structure: np.mean([each.imaged for each in lesions if each.structure == structure])
        for structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL)
    }
    assert imaged[Structure.ILIAC_SUBCHONDRAL] < imaged[Structure.SACRAL_SUBCHONDRAL] < 0.9


def test_detectability_is_contrast_times_root_of_volume() -> None:
    assert detectability(LESION, "stir", shown=1.0) == pytest.approx(8.0)
    assert detectability(LESION, "stir", shown=0.25) == pytest.approx(4.0)
    assert detectability(replace(LESION, volume_ml=4.0), "stir", 1.0) == pytest.approx(16.0)


@pytest.mark.parametrize("more", [{"depth_mm": 12.0}, {"cue": 2.0}])
def test_deeper_and_more_lesion_like_is_more_probable(more: dict[str, float]) -> None:
    assert probability(replace(LESION, **more), 8.0) > probability(LESION, 8.0)
    assert probability(LESION, 16.0) > probability(LESION, 8.0)


@pytest.mark.parametrize(("rim", "shown"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.45, 0.275)])
def test_part_of_a_region_within_the_stack(rim: float, shown: float) -> None:
    # 10 mm of a rim of 45 mm, about its middle.
    assert LESION.shown(rim, axial=False) == pytest.approx(shown)


def test_command_refuses_a_folder_that_is_there(tmp_path: Path) -> None:
    run = CliRunner()
    arguments = [str(tmp_path / "a"), "--exams", "3"]
    assert run.invoke(app, arguments).exit_code == 0
    again = run.invoke(app, arguments)
    assert again.exit_code == 2
    assert "exists" in again.output
