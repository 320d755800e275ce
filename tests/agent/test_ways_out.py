"""What leaves besides the images for the scanner: DICOM objects to the outbox, events to a page."""

import shutil
import time
from pathlib import Path

import pytest

from agent.events import EventReader
from agent.spool import Spool
from protocols.mrd_types import Close, ConfigFile
from protocols.mrd_write import write

pytest.importorskip("pydicom", reason="needs the extra dicom")

DEADLINE_S = 120.0
NOWHERE = {"name": "pacs", "host": "127.0.0.1", "port": 9, "ae_title": "PACS"}
"""Nobody takes anything there: all that leaves stays in the outbox."""


@pytest.fixture
def sections(tmp_path):
    return {
        "outbox": {"folder": tmp_path / "outbox", "destinations": [NOWHERE]},
        "console": {"events": tmp_path / "events"},
        "audit": {"folder": tmp_path / "audit"},
    }


def objects(folder: Path) -> dict[str, bytes]:
    """Return the pixels of what waits in an outbox, by SOP Instance UID."""
    from pydicom import dcmread

    read = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    return {str(dataset.SOPInstanceUID): dataset.PixelData for dataset in read}


def events(folder: Path, kind: str) -> list:
    reader = EventReader(folder)
    found = [row.event for row in reader.after(0, 100_000) if row.kind == kind]
    reader.close()
    return found


def wait_for(condition) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def exchange(agent, scan, *more):
    return agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts, *more)


@pytest.mark.parametrize("objects_of", ["classic", "enhanced"])
def test_images_go_to_the_outbox_and_to_the_page(start, scan, sections, tmp_path, objects_of):
    agent = start(dicom={"objects": objects_of}, **sections)
    answer = exchange(agent, scan, Close())
    agent.stop()
    assert answer.closed and len(answer.images) == 1
    (pixels,) = objects(tmp_path / "outbox").values()
    assert pixels == answer.images[0].data.tobytes()
    (name,) = agent.spool.names()
    assert agent.spool.done(name), "nothing is owed"
    (picture,) = events(tmp_path / "events", "picture")
    assert picture.latency_ms > 0 and picture.measurement == name
    shown = (tmp_path / "events" / "pictures" / picture.file).read_bytes()
    assert shown == answer.images[0].data.tobytes()
    (ended,) = events(tmp_path / "events", "ended")
    assert (ended.outcome, ended.images, ended.measurement) == ("delivered", 1, name)
    assert [e.state for e in events(tmp_path / "events", "connection") if e.role == "scanner"] == [
        "open",
        "closed",
    ]
    assert [e.state for e in events(tmp_path / "events", "engine")] == ["off"]
    assert len(events(tmp_path / "events", "exam")) == len(events(tmp_path / "events", "begun"))


def test_what_a_killed_process_owed_is_made_by_the_next_one_the_same(
    start, scan, sections, tmp_path
):
    first = start(**sections)
    exchange(first, scan, Close())
    first.stop()
    made = objects(tmp_path / "outbox")
    (name,) = first.spool.names()
    # As if the process had ended between the scanner's images and the outbox.
    shutil.rmtree(tmp_path / "outbox")
    first.spool.owe(name)
    second = start(recover=True, **sections)
    wait_for(lambda: second.spool.owed(name) is None)
    second.stop()
    assert objects(tmp_path / "outbox") == made


def test_a_scanner_that_goes_away_costs_no_object_and_makes_none_twice(
    start, scan, sections, tmp_path
):
    agent = start(**sections)
    with agent.connect() as peer, peer.makefile("wb", buffering=0) as sink:
        write(sink, ConfigFile("simplefft"), scan.header, scan.readouts)
    wait_for(lambda: [s.get("outcome") for s in agent.states()] == ["kept"])
    agent.stop()
    assert len(objects(tmp_path / "outbox")) == 1
    assert all(agent.spool.done(name) for name in agent.spool.names())
    (ended,) = events(tmp_path / "events", "ended")
    assert ended.outcome == "cut"
    assert "lost" in [e.state for e in events(tmp_path / "events", "connection")]


def test_an_outbox_without_room_gets_its_objects_later(
    start, scan, sections, tmp_path, monkeypatch
):
    from agent import dicom_way

    monkeypatch.setattr(dicom_way, "RETRY_S", 0.2)
    agent = start(**sections)
    folder, aside = tmp_path / "outbox", tmp_path / "aside"
    exchange(agent, scan, Close())
    wait_for(lambda: len(objects(folder)) == 1)
    folder.rename(aside)
    answer = exchange(agent, scan, Close())
    assert answer.closed and len(answer.images) == 1, "the scanner does not notice"
    name = agent.spool.names()[-1]
    assert agent.spool.owed(name) is not None and not agent.spool.done(name)
    aside.rename(folder)
    wait_for(lambda: Spool(agent.settings.spool).owed(name) is None)
    agent.stop()
    assert len(objects(folder)) == 2


def test_images_that_find_no_room_in_memory_are_made_anew(
    start, scan, sections, tmp_path, monkeypatch
):
    from agent import dicom

    monkeypatch.setattr(dicom, "WAITING_BYTES", -1)
    agent = start(**sections)
    exchange(agent, scan, Close())
    (name,) = agent.spool.names()
    wait_for(lambda: agent.spool.delivered(name))
    assert agent.spool.owed(name) is not None and not objects(tmp_path / "outbox")
    monkeypatch.setattr(dicom, "WAITING_BYTES", 1 << 20)
    wait_for(lambda: agent.spool.owed(name) is None)
    agent.stop()
    assert len(objects(tmp_path / "outbox")) == 1


def test_without_sections_nothing_is_written(start, scan, tmp_path):
    agent = start()
    exchange(agent, scan, Close())
    agent.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]
