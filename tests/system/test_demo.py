"""The demo from the command line: the agent as a process, a quick exam, and what it leaves."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

from protocols.header import encodings, parse_header
from protocols.mrd_hdf5 import read_measurement, write_measurement
from protocols.mrd_types import ConfigFile, HeaderText, ImageMessage, ReadoutBlock
from protocols.mrd_write import write
from scanner.demo_agent import agent
from scanner.score import nrmse

STEPS = ("t1_tse_sag", "t2_tse_sag", "stir_sag")


def boreside(*arguments, **options):
    command = [sys.executable, "-m", "boreside", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def by_slice(messages):
    return {int(m.header["slice"]): m for m in messages if isinstance(m, ImageMessage)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    options = ("--exam", "quick", "--out", out.name, "--shared-data", out / "nothing")
    done = boreside("demo", *options, cwd=out.parent)
    assert done.returncode == 0, done.stdout + done.stderr + (out / "agent.log").read_text()
    return out, done.stdout


@pytest.fixture(scope="module")
def images(demo):
    return json.loads((demo[0] / "summary.json").read_text())["images"]


def test_every_slice_of_every_step_comes_back_once(images):
    got = sorted((image["series"], image["slice"]) for image in images)
    assert got == sorted((step, number) for step in STEPS for number in range(3))


def test_images_are_like_the_truth(images):
    assert max(image["nrmse"] for image in images) < 0.2
    assert min(image["ssim"] for image in images) > 0.8


def test_both_sides_measure_latency(images):
    assert all(image["latency_ms"] > 0 and image["agent_latency_ms"] > 0 for image in images)


def test_the_network_took_part_where_it_was_trained_for_the_noise(images):
    """The voxels of this exam are large: T1 and T2 have less noise than any network was taught."""
    by_network = {image["series"] for image in images if image["engine"].startswith("recon")}
    assert by_network == {"stir_sag"}


def test_every_image_is_compared_with_the_conventional_reconstruction(images):
    for image in images:
        if image["engine"]:
            assert image["conventional_ssim"] != image["ssim"]
        else:
            assert image["conventional_ssim"] == pytest.approx(image["ssim"], abs=1e-4)


def test_raw_data_and_images_are_in_one_file(demo):
    for step in STEPS:
        config, header, *rest = read_measurement(demo[0] / "exam.h5", step)
        assert config == ConfigFile("dl")
        assert encodings(parse_header(header.xml))[0].recon_matrix[:2] == (128, 128)
        readouts = sum(len(item) for item in rest if isinstance(item, ReadoutBlock))
        assert readouts == 64 + 3 * 76
        assert sum(isinstance(item, ImageMessage) for item in rest) == 3


def test_the_page_shows_something_and_says_simulated(demo):
    page = np.asarray(Image.open(demo[0] / "montage.png"))
    assert page.shape[0] > 3 * 300 and page.std() > 10
    assert "simulated" in demo[1].lower()


def test_missing_real_data_is_said(demo):
    assert "real brain k-space: skipped" in demo[1]


def test_nothing_else_is_left_behind(demo):
    names = {path.name for path in demo[0].iterdir()}
    assert names == {"agent.log", "conventional.log", "exam.h5", "montage.png", "summary.json"}


class TestScan:
    def test_a_file_scanned_again_gives_the_same_images(self, demo, tmp_path):
        stored, out = tmp_path / "raw.h5", tmp_path / "again.h5"
        messages = list(read_measurement(demo[0] / "exam.h5", "stir_sag"))
        write_measurement(stored, [m for m in messages if not isinstance(m, ImageMessage)])
        with agent(tmp_path / "agent.log") as running:
            port = running.address.rpartition(":")[2]
            done = boreside("scan", stored, "--port", port, "--out", out)
        assert done.returncode == 0, done.stdout + done.stderr
        ours, theirs = by_slice(read_measurement(out)), by_slice(messages)
        assert set(ours) == set(theirs) == {0, 1, 2}
        for number, image in ours.items():
            assert nrmse(image.data, theirs[number].data) < 1e-3

    def test_nobody_at_the_address(self, tmp_path):
        stored = tmp_path / "m.mrd"
        with stored.open("wb", buffering=0) as file:
            write(file, HeaderText("<xml/>"))
        done = boreside(
            "scan", stored, "--address", f"unix:{tmp_path}/none", "--out", tmp_path / "o.h5"
        )
        assert done.returncode == 2
        assert "no MRD server at unix:" in done.stdout.replace("\n", "")
        assert not (tmp_path / "o.h5").exists()

    @pytest.mark.parametrize("speed", ["0", "-1", "fast"])
    def test_a_speed_that_is_none(self, speed):
        done = boreside("scan", "--speed", speed)
        assert done.returncode == 2
        assert "expected real, max or a positive number" in " ".join(done.stderr.split())


def test_the_page_of_the_demo_is_served_beside_the_agent(tmp_path):
    pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra console")
    with (
        agent(tmp_path / "agent.log", page=True) as running,
        urllib.request.urlopen(f"{running.page}/api/me") as answer,
    ):
        me = json.load(answer)
    assert me["guest"] and me["requests"]
