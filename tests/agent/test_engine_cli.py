"""`boreside engine`, as somebody at a terminal sees it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path):
    """Run `boreside engine ...` in a folder of its own; returns exit status and output."""

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "boreside", "engine", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_added_weights_are_listed_and_verified(tmp_path, tiny_network, engine):
    folder = tiny_network.write(tmp_path / "download", version="7.5")
    status, text = engine("add", folder)
    assert status == 0 and "added tiny 7.5 (" in text
    assert (tmp_path / "weights" / "tiny" / "7.5" / "model.onnx").is_file()
    status, text = engine("list")
    assert status == 0 and "tiny" in text and "7.5" in text and "site" in text
    status, text = engine("verify", "tiny", "--size", "64")
    assert status == 0 and "ONNX Runtime" in text and "64 x 64, ms" in text
    assert "tiny 7.5 on tensorrt not run: " in text


def test_changed_weights_are_refused(tmp_path, tiny_network, engine):
    folder = tiny_network.write(tmp_path / "weights")
    (folder / "card.md").write_text("Heals everything.\n")
    status, text = engine("list")
    assert status == 1 and "refused" in text
    status, text = engine("verify", "tiny")
    assert status == 1 and "card.md: expected SHA-256" in text
    status, text = engine("add", folder)
    assert status == 2 and "WeightsRefused" in text


def test_what_is_not_there_is_said(engine, tmp_path):
    assert engine("verify", "nothing")[0] == 2
    status, text = engine("build", "nothing")
    assert status == 2 and "no weights of that name" in text
    status, text = engine("add", tmp_path)
    assert status == 2 and "manifest.json" in text


def test_the_sites_folder_is_a_setting(tmp_path, tiny_network, engine):
    tiny_network.write(tmp_path / "elsewhere")
    config = tmp_path / "own.yaml"
    config.write_text(json.dumps({"engines": {"site": str(tmp_path / "elsewhere")}}))
    assert "tiny" in engine("list", "--config", config)[1]
    assert "tiny" not in engine("list")[1]


def test_tensorrt_is_not_claimed_where_it_is_not(tmp_path, tiny_network, engine):
    pytest.importorskip("torch", reason="needs PyTorch")
    tiny_network.write(tmp_path / "weights")
    status, text = engine("build", "tiny", "--shape", "1x64x64")
    assert status == 2
    assert "TensorRT cannot be run here" in text or "expected weights.npz" in text


def test_int8_is_built_from_images(tmp_path, tiny_network, engine):
    pytest.importorskip("openvino", reason="needs OpenVINO, of the extra openvino")
    tiny_network.write(tmp_path / "weights")
    build = ("build", "tiny", "--runtime", "openvino-int8")
    status, text = engine(*build)
    assert status == 2 and "expected --calibration with a folder of images" in text
    (tmp_path / "none").mkdir()
    status, text = engine(*build, "--calibration", tmp_path / "none")
    assert status == 2 and "none: expected files of .npy" in text
    assert (
        "tiny 1.0 on openvino-int8 not run: no int8 model was built" in engine("verify", "tiny")[1]
    )


def test_a_runtime_that_differs_is_not_called_not_run(tmp_path, tiny_network, engine):
    from engines.manifest import parse_manifest
    from engines.store import Store, seal, write_golden

    folder = tiny_network.write(tmp_path / "weights")
    inputs, outputs = Store(site=tmp_path / "weights").open("tiny").golden()
    write_golden(folder / "golden.npz", inputs, {"planes": outputs["planes"] * 1.02})
    seal(folder, parse_manifest((folder / "manifest.json").read_bytes()))
    status, text = engine("verify", "tiny")
    assert status == 1
    assert "tiny 1.0 on onnx differs: " in text and "from the golden vector by 0.02" in text
    assert "tiny 1.0 on tensorrt not run: " in text
