"""The crash benchmark finds what it looks for: its zeros are no accident."""

from pathlib import Path

import pytest

from agent.config import load
from agent.recover import recover
from agent.spool import Spool
from bench.crash import SLICES, Sent, prepared
from bench.crash_check import check
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import ImageMessage


@pytest.fixture
def exam(tmp_path: Path) -> tuple[Path, Sent, dict[str, list[ImageMessage]]]:
    """A measurement that was killed in its last byte, and recovered; its images are the truth."""
    settings = load(spool={"folder": tmp_path / "spool"}, threads=1)
    spool = Spool(settings.spool)
    sent = prepared(1, "simplefft")
    recording = spool.record()
    recording.write(memoryview(sent.stream[:-1]))
    recording.close()
    sent.acknowledged = sent.sent = len(sent.stream) - 1
    recover(spool, recording.name, settings)
    path = spool.results / f"{recording.name}.h5"
    images = [item for item in read_measurement(path) if isinstance(item, ImageMessage)]
    assert len(images) == SLICES
    return tmp_path, sent, {"simplefft": images}


def found(exam: tuple[Path, Sent, dict[str, list[ImageMessage]]]) -> dict[str, int]:
    folder, sent, truth = exam
    return {name: count for name, count in check(folder, [sent], truth, SLICES).items() if count}


def test_nothing_is_wrong_where_nothing_is(exam):
    assert found(exam) == {}


def test_images_that_are_gone_are_lost(exam):
    next((exam[0] / "spool" / "results").iterdir()).unlink()
    assert found(exam) == {"lost_images": SLICES}


def test_an_image_that_differs_is_lost(exam):
    first = exam[2]["simplefft"][0]
    exam[2]["simplefft"][0] = ImageMessage(first.header, first.data + 1, first.attributes)
    assert found(exam) == {"lost_images": 1}


def test_bytes_that_are_gone_are_lost(exam):
    (path,) = (exam[0] / "spool").glob("*.mrd")
    path.write_bytes(path.read_bytes()[:-500])
    assert found(exam) == {"lost_bytes": 500}


def test_a_measurement_that_is_gone_is_lost(exam):
    (path,) = (exam[0] / "spool").glob("*.mrd")
    path.unlink()
    assert found(exam) == {"lost_bytes": exam[1].acknowledged, "lost_images": SLICES}


def test_images_that_were_delivered_and_recovered_too_are_doubled(exam):
    exam[1].outcome.images = list(exam[2]["simplefft"])
    exam[1].outcome.closed = True
    assert found(exam) == {"doubled_images": SLICES}


def test_what_nobody_finished_is_damaged(exam):
    (path,) = (exam[0] / "spool").glob("*.json")
    path.write_text("{")
    assert found(exam) == {"damaged_stores": 1}
