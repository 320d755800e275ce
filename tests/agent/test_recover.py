"""Recovery and export: the spool's files, finished and handed on by the same code as live."""

import h5py
import ismrmrd
import numpy as np
import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.recover import ATTEMPTS, pending, recover
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import Close, ConfigFile, ImageMessage, ReadoutBlock
from protocols.mrd_write import encode

CONFIG = ConfigFile("simplefft")


def leave(spool, *messages, cut: int = 0) -> str:
    """Leave a measurement behind as a killed process does."""
    recording = spool.record()
    raw = b"".join(bytes(buffer) for message in messages for buffer in encode(message))
    recording.write(memoryview(raw[: len(raw) - cut]))
    recording.close()
    return recording.name


def kept(spool, name: str) -> list[ImageMessage]:
    return list(read_measurement(spool.results / f"{name}.h5"))


def test_a_killed_measurement_gets_the_images_of_an_unbroken_one(agent, scan):
    live = agent.exchange(CONFIG, scan.header, scan.readouts, Close()).images
    name = leave(agent.spool, CONFIG, scan.header, scan.readouts, scan.readouts[:3], cut=1000)
    report = recover(agent.spool, name, agent.settings)
    whole, incomplete = kept(agent.spool, name)
    np.testing.assert_array_equal(whole.data, live[0].data)
    for name_of_field in set(whole.header.dtype.names) - {"attribute_string_len"}:
        np.testing.assert_array_equal(whole.header[name_of_field], live[0].header[name_of_field])
    assert "incomplete" in incomplete.attributes
    assert agent.spool.state(name)["outcome"] == "kept"
    assert report.readouts == len(scan.readouts) + 2
    assert pending(agent.spool) == []


def test_serving_finishes_what_was_left_while_it_serves(start, scan):
    before = start()
    name = leave(before.spool, CONFIG, scan.header, scan.readouts, Close())
    before.stop()
    agent = start(recover=True)
    assert agent.exchange(CONFIG, scan.header, scan.readouts, Close()).closed
    agent.server.recovery.join(10)
    assert agent.spool.state(name)["outcome"] == "kept"
    assert len(kept(agent.spool, name)) == 1


def test_a_measurement_that_is_running_is_left_alone(agent, scan):
    recording = agent.spool.record()
    assert recover(agent.spool, recording.name, agent.settings) is None
    recording.close()


def test_what_ends_the_process_again_and_again_waits_for_an_explicit_command(agent, scan):
    name = leave(agent.spool, CONFIG, scan.header, scan.readouts, Close())
    agent.spool.mark(name, outcome="recovering", attempts=ATTEMPTS - 1)
    assert pending(agent.spool) == [name]
    agent.spool.mark(name, outcome="recovering", attempts=ATTEMPTS)
    assert pending(agent.spool) == []
    folder = str(agent.spool.folder)
    result = CliRunner().invoke(app, ["recover", "--spool", folder])
    assert result.exit_code == 0, result.output
    assert agent.spool.state(name)["outcome"] == "kept"


@pytest.mark.parametrize(
    ("attempts", "chain"), [(0, "grappa"), (1, "conventional"), (2, "simplefft"), (3, "grappa")]
)
def test_what_has_ended_the_process_is_not_run_again(agent, scan, attempts, chain):
    name = leave(agent.spool, ConfigFile("grappa"), scan.header, scan.readouts, Close())
    agent.spool.mark(name, outcome="recovering", attempts=attempts)
    report = recover(agent.spool, name, agent.settings)
    assert report.config == chain and len(kept(agent.spool, name)) == 1


@pytest.mark.parametrize("config", ["null", "savedataonly"])
def test_what_sends_nothing_sends_nothing_in_any_attempt(agent, scan, config):
    name = leave(agent.spool, ConfigFile(config), scan.header, scan.readouts, Close())
    agent.spool.mark(name, outcome="recovering", attempts=1)
    assert recover(agent.spool, name, agent.settings).images == []


def test_a_file_without_data_is_removed(agent):
    name = leave(agent.spool, CONFIG)
    recover(agent.spool, name, agent.settings)
    assert agent.spool.names() == []


def test_export_writes_a_file_that_the_ismrmrd_package_reads(agent, scan, tmp_path):
    agent.exchange(CONFIG, scan.header, scan.noise, scan.readouts, Close())
    (name,) = agent.spool.names()
    out = tmp_path / "out.h5"
    result = CliRunner().invoke(app, ["export", str(agent.spool.path(name)), str(out)])
    assert result.exit_code == 0, result.output
    dataset = ismrmrd.Dataset(str(out), "dataset", create_if_needed=False)
    assert dataset.read_xml_header().decode() == scan.header.xml
    count = len(scan.noise) + len(scan.readouts)
    assert dataset.number_of_acquisitions() == count
    np.testing.assert_array_equal(
        dataset.read_acquisition(count - 1).data, scan.readouts.samples[-1]
    )
    dataset.close()
    with h5py.File(out) as file:
        assert file["dataset/config_file"][0].decode() == "simplefft"


def test_export_of_a_cut_measurement_keeps_what_came_whole(agent, scan, tmp_path):
    name = leave(agent.spool, CONFIG, scan.header, scan.readouts, cut=100)
    out = tmp_path / "out.h5"
    result = CliRunner().invoke(app, ["export", str(agent.spool.path(name)), str(out)])
    assert result.exit_code == 0 and "breaks off" in result.output
    blocks = [m for m in read_measurement(out) if isinstance(m, ReadoutBlock)]
    assert sum(map(len, blocks)) == len(scan.readouts) - 1


@pytest.mark.parametrize("case", ["missing", "no measurement", "exists"])
def test_export_says_what_is_wrong(agent, tmp_path, case):
    source, out = tmp_path / "in.mrd", tmp_path / "out.h5"
    if case != "missing":
        source.write_bytes(b"no measurement at all")
    if case == "exists":
        out.write_bytes(b"")
    result = CliRunner().invoke(app, ["export", str(source), str(out)])
    assert result.exit_code == 2
    assert "Error" in result.output or "expected" in result.output
