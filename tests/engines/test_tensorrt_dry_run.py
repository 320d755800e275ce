"""The networks are whole TensorRT engines: no operator of theirs is left to PyTorch.

A check for developers, where torch-tensorrt 2.13 was unpacked, with or without its libraries:
``pip install --no-deps torch-tensorrt==2.13.0`` (or ``--target FOLDER``, named in ``PYTHONPATH``).
"""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from engines.store import Store

pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")

PINNED = "2.13.0"
"""What is run is private to the package: another version needs another look."""

DEFAULT = {"name": "bias-free-unet", "uncertainty": True}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Dry runs: of every architecture that ships or could, and of what has no converter."""
    try:
        found = version("torch-tensorrt")
    except PackageNotFoundError:
        pytest.skip("torch-tensorrt is not installed")
    if found != PINNED:
        pytest.skip(f"expected torch-tensorrt {PINNED}, found {found}")
    networks = [network.manifest.architecture for network in Store().networks() if network.manifest]
    architectures = json.dumps([*networks, DEFAULT])
    script = Path(__file__).with_name("tensorrt_dry_run.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path_factory.mktemp("copy"), architectures, "fp16"],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_network_is_one_engine(planned):
    for plan in planned[:-1]:
        assert plan["operators"] > 30 and plan["convertible"] == plan["operators"]
        assert plan["engines"] == 1 and plan["in_torch"] == []


def test_what_is_not_convertible_would_be_seen(planned):
    plan = planned[-1]
    assert plan["convertible"] < plan["operators"]
    assert any("bessel" in operator for operator in plan["in_torch"])
