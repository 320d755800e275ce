"""`boreside engine update`: a version takes over if it proves itself, else the old one stays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent import golden_exam
from agent.config import load
from agent.engine_update import NotUpdated, update
from agent.engines import store
from engines.manifest import parse_manifest
from engines.store import SHIPPED, seal

ROOT = Path(__file__).parents[3]


def copy(name: str, version: str, target: Path, new: str) -> Path:
    """Copy shipped weights under another version."""
    folder = target / "download" / new
    shutil.copytree(SHIPPED / name / version, folder)
    about = parse_manifest((folder / "manifest.json").read_bytes())
    seal(folder, about.model_copy(update={"version": new}))
    return folder


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(threads=1)


def newest(settings, name: str) -> str:
    return store(settings.engines).open(name).manifest.version


def test_the_golden_exam_tells_a_good_image_from_a_bad_one(settings):
    conventional = golden_exam.error(settings, "conventional")
    assert 0 < conventional < 0.1
    assert conventional < golden_exam.error(settings, "simplefft")


def test_a_version_that_is_as_good_takes_over(settings, tmp_path):
    shipped = newest(settings, "denoiser")
    folder = copy("denoiser", shipped, tmp_path, "9.9")
    said = list(update(folder, settings))
    assert newest(settings, "denoiser") == "9.9"
    assert said[-1] == f"denoiser: 9.9 instead of {shipped}"
    assert sum("golden exam" in line for line in said) == 3


def test_a_version_that_makes_worse_images_does_not(settings, tmp_path, tiny_network):
    shipped = newest(settings, "denoiser")
    # It smooths, and reproduces its golden vector of smoothing.
    folder = tiny_network.write(tmp_path / "download", name="denoiser", version="9.9")
    with pytest.raises(NotUpdated, match=r"golden exam, error .* nothing has changed"):
        list(update(folder, settings))
    assert newest(settings, "denoiser") == shipped


def test_changed_weights_and_older_versions_do_not(settings, tmp_path):
    shipped = newest(settings, "denoiser")
    folder = copy("denoiser", shipped, tmp_path, "0.0.1")
    with pytest.raises(NotUpdated, match="expected a version after"):
        list(update(folder, settings))
    (folder / "card.md").write_text("Heals everything.\n")
    with pytest.raises(NotUpdated, match="SHA-256"):
        list(update(folder, settings))
    assert newest(settings, "denoiser") == shipped


def test_what_fails_in_its_place_is_rolled_back(settings, tmp_path, monkeypatch):
    shipped = newest(settings, "denoiser")
    folder = copy("denoiser", shipped, tmp_path, "9.9")
    said = update(folder, settings)
    for line in said:
        if "golden exam" in line and line.startswith("9.9"):
            break
    # Between staging and use the disk damages the download: what is put in place is refused.
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(NotUpdated, match="SHA-256"):
        list(said)
    assert newest(settings, "denoiser") == shipped


def test_a_version_damaged_in_its_place_is_withdrawn(settings, tmp_path):
    shipped = newest(settings, "denoiser")
    said = update(copy("denoiser", shipped, tmp_path, "9.9"), settings)
    placed = tmp_path / "weights" / "denoiser" / "9.9"
    with pytest.raises(NotUpdated, match=f"rolled back to {shipped}"):
        for _ in said:
            if placed.is_dir():
                # It proved itself here; before the golden exam its file is damaged.
                (placed / "model.onnx").write_bytes(b"damaged")
                from engines import engine

                engine.forget()
    assert newest(settings, "denoiser") == shipped
    assert not placed.exists()
    assert list(placed.parent.glob(".withdrawn-9.9-*/manifest.json"))


def test_commands_update_and_roll_back(settings, tmp_path, tiny_network):
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "boreside", "engine", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )
        return done.returncode, done.stdout + done.stderr

    folder = tiny_network.write(tmp_path / "download", version="2.0")
    status, text = run("update", folder)
    assert status == 0 and "tiny: 2.0 instead of none" in text and "no golden exam" in text
    status, text = run("update", folder)
    assert status == 1 and "is there already" in text
    status, text = run("rollback", "tiny")
    assert status == 0 and "tiny: none instead of 2.0" in text
    assert run("rollback", "denoiser")[0] == 2


def test_the_golden_exam_is_the_same_every_time():
    one, other = golden_exam._scan(), golden_exam._scan()
    assert (one.truth == other.truth).all()
    assert all((a.samples == b.samples).all() for a, b in zip(one.blocks, other.blocks))
    assert np.isfinite(one.truth).all()
