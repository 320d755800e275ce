"""Events, pictures and clicks on their way between agent and console, through real files."""

import numpy as np
import pytest

from agent import events as module
from agent.event_records import (
    Begun,
    Ended,
    ExamBegun,
    Picture,
    PicturesDropped,
    Problem,
    Progress,
)
from agent.events import Commands, EventReader, Events
from gadgets.items import LabelMap
from protocols.control import ReplyReason
from protocols.geometry import Volume
from protocols.meta import meta_text
from protocols.mrd_types import IMAGE_HEADER, ImageMessage


def image(data: np.ndarray, **meta) -> ImageMessage:
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["position"] = (10, 20, 30)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = np.eye(3)[[1, 2, 0]]
    header["field_of_view"] = (data.shape[3], 2 * data.shape[2], 4 * data.shape[1])
    header["image_index"] = 7
    return ImageMessage(header, data, meta_text(meta) if meta else "")


def written(folder, *said) -> list:
    with Events(folder) as events:
        for say in said:
            say(events)
    return EventReader(folder).after(0)


def test_events_come_back_in_order_with_exam_and_number(tmp_path):
    said = [ExamBegun(protocol="lumbar", title="Lumbar"), Begun(measurement="m", step="t1")]
    rows = written(tmp_path, *(lambda e, s=s: e.say("exam-1", s) for s in said))
    assert [row.event for row in rows] == said
    assert [row.exam for row in rows] == ["exam-1", "exam-1"]
    assert rows[0].number < rows[1].number
    assert EventReader(tmp_path).after(rows[0].number) == rows[1:]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.complex64])
def test_a_picture_keeps_values_and_geometry(tmp_path, dtype):
    values = (np.arange(24).reshape(1, 2, 3, 4) * 10).astype(dtype)
    message = image(values, RescaleSlope=0.5, WindowCenter=20, WindowWidth=40)
    (row,) = written(tmp_path, lambda e: e.picture("exam-1", "t1", message, "m", "T1", 12.5))
    picture = row.event
    assert isinstance(picture, Picture)
    raw = EventReader(tmp_path).pixels(row.number)
    shown = np.frombuffer(raw, "<u2").reshape(picture.shape) * picture.slope
    np.testing.assert_allclose(shown, 0.5 * np.abs(values[0]), atol=2e-3)
    assert (picture.window, picture.index, picture.latency_ms) == ((20, 40), 7, 12.5)
    assert picture.spacing == (1, 2, 4)
    assert picture.directions == ((0, 1, 0), (0, 0, 1), (1, 0, 0))


def test_role_network_and_fallback_are_never_lost(tmp_path):
    data = np.ones((1, 1, 2, 2), np.uint16)
    made = image(data, BoresideRole="synthetic", BoresideAI=["recon 0.1"])
    fell = image(data, BoresideFallback=["fallback: late"], BoresideComplete=0)
    rows = written(
        tmp_path, lambda e: e.picture("x", "a", made), lambda e: e.picture("x", "b", fell)
    )
    first, second = (row.event for row in rows)
    assert (first.role, first.networks, first.fallback) == ("synthetic", ("recon 0.1",), ())
    assert (second.role, second.fallback) == ("acquired", ("fallback: late",))
    assert not second.complete


def test_label_maps_are_pictures_with_names_and_landmarks(tmp_path):
    volume = Volume(np.zeros(3), np.eye(3), (2, 3, 4), np.ones(3))
    labels = LabelMap(np.ones((2, 3, 4), np.uint8), ("", "L4"), volume, {"L4": np.arange(3.0)})
    (row,) = written(tmp_path, lambda e: e.labels("x", "labels", labels))
    assert row.event.names == ("", "L4") and row.event.landmarks == {"L4": (0, 1, 2)}
    assert EventReader(tmp_path).pixels(row.number) == b"\x01" * 24


def test_a_full_queue_drops_pictures_and_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAITING_BYTES", 0)
    message = image(np.ones((1, 1, 8, 8), np.uint16))
    rows = written(
        tmp_path,
        lambda e: e.picture("x", "t1", message),
        lambda e: e.picture("x", "t1", message),
        lambda e: e.say("x", Problem(level="info", text="still said")),
    )
    dropped = sum(r.event.pictures for r in rows if isinstance(r.event, PicturesDropped))
    assert dropped == 2
    assert any(isinstance(row.event, Problem) for row in rows)


def test_a_picture_that_cannot_be_written_costs_only_itself(tmp_path):
    broken = image(np.ones((1, 1, 2, 2), np.uint16), RescaleSlope="no number")
    whole = image(np.ones((1, 1, 2, 2), np.uint16))
    rows = written(
        tmp_path, lambda e: e.picture("x", "a", broken), lambda e: e.picture("x", "b", whole)
    )
    assert [row.event.series for row in rows] == ["b"]


def test_progress_goes_when_its_measurement_has_ended(tmp_path):
    rows = written(
        tmp_path,
        lambda e: e.say("x", Progress(measurement="m", readouts=1)),
        lambda e: e.say("x", Ended(measurement="m", outcome="delivered")),
    )
    assert [row.kind for row in rows] == ["ended"]


def test_only_the_latest_exams_and_their_pictures_stay(tmp_path):
    message = image(np.ones((1, 1, 2, 2), np.uint16))
    with Events(tmp_path) as events:
        for number in range(module.KEPT_EXAMS + 3):
            events.say(f"exam-{number}", ExamBegun(protocol="p", title="t"))
            events.picture(f"exam-{number}", "t1", message)
    reader = EventReader(tmp_path)
    kept = {row.exam for row in reader.after(0)}
    assert kept == {f"exam-{number}" for number in range(3, module.KEPT_EXAMS + 3)}
    assert len(list((tmp_path / "pictures").iterdir())) == module.KEPT_EXAMS


def test_signs_of_life_end_with_the_agent(tmp_path):
    with Events(tmp_path):
        pass
    assert EventReader(tmp_path).alive_s == 0


def test_clicks_are_taken_once_also_by_an_agent_that_was_restarted(tmp_path):
    console = Commands(tmp_path)
    console.post("accept", "q1", "anna")
    console.post("decline", "q2", "ben", ReplyReason.TIME)
    first, second = Commands(tmp_path).poll()
    assert (first.kind, first.request, first.user, first.reason) == ("accept", "q1", "anna", None)
    assert (second.kind, second.reason) == ("decline", ReplyReason.TIME)
    assert Commands(tmp_path).poll() == []
