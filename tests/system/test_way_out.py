"""A whole exam with the agent as a process, on its way to PACS and to the console's page.

The virtual scanner sends a small simulated exam; the PACS is Debian's Orthanc, and is down for all
of it. On the page the question is answered by a click. Then the agent is started again beside the
PACS, which gets everything, once.
"""

import subprocess
import time
import uuid
from shutil import which

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from agent.events import Commands, EventReader
from protocols.control import ExamUpdate
from protocols.control_inband import to_text
from protocols.meta import parse_meta

pytestmark = pytest.mark.peers
SETTINGS = """
console: {{events: events}}
outbox:
  folder: outbox
  first_retry_s: 0.2
  longest_retry_s: 1
  listen_port: {calls_back}
  destinations:
    - {{name: orthanc, host: 127.0.0.1, port: {port}, ae_title: ORTHANC, commitment: true}}
"""
UNKNOWN_IN_2022 = "recognized standard attribute - (0x0008,0x001c)"
"""Synthetic Data, to the dciodvfy of Debian 12."""


class Page:
    """What the console's process would know, and its clicks."""

    def __init__(self, folder, deadline_s):
        self._reader, self._commands = EventReader(folder), Commands(folder)
        self._deadline_s = deadline_s

    def events(self, kind):
        return [row.event for row in self._reader.after(0, 1 << 20) if row.kind == kind]

    def waited(self, kind, which=lambda event: True, count=1):
        end = time.monotonic() + self._deadline_s
        while len(found := [event for event in self.events(kind) if which(event)]) < count:
            assert time.monotonic() < end, f"no {kind}"
            time.sleep(0.1)
        return found

    def accept(self, request):
        self._commands.post("accept", request, "anna")


def _of_summary(picture):
    return picture.quantity == "summary"


def room(step):
    """What the scanner says of an exam in which there is room for more."""
    return to_text(
        ExamUpdate(
            id=uuid.uuid4().hex,
            exam=step.identity.uid("study"),
            protocol="small",
            slot_minutes=20,
            sar_headroom=0.7,
            planned=("stir_sag",),
        )
    )


def test_everything_reaches_pacs_and_page(start, small, orthanc_server, tmp_path):
    orthanc = orthanc_server()
    settings = SETTINGS.format(port=orthanc.dicom, calls_back=orthanc.calls_back)
    agent = start("always", settings)
    (step,) = small.exam()
    first = small.scan(agent, step, room(step))
    assert len(first.images) == 3 and not first.pages

    page = Page(tmp_path / "events", small.deadline_s)
    (asked,) = page.waited("question")
    assert page.events("answer") == []
    page.accept(asked.request.id)
    (answer,) = page.waited("answer")
    assert (answer.request, answer.outcome, answer.by) == (asked.request.id, "accepted", "anna")
    shown = page.events("picture")
    assert [p.index for p in shown if p.series == "stir_sag"] == [1, 2, 3]
    for picture, image in zip(shown, first.images):
        pixels = np.fromfile(tmp_path / "events" / "pictures" / picture.file, "<u2")
        np.testing.assert_array_equal(pixels.reshape(picture.shape), image.data[0])
    assert page.events("findings")[0].findings.findings[0].type == "oedema_like"
    assert [e.protocol for e in page.events("exam")] == ["small"]

    pages = page.waited("picture", _of_summary, count=2)
    assert {picture.role for picture in pages} == {"derived"}
    second = small.scan(agent, step)
    assert len(second.images) == 3
    assert second.pages, "the summary comes back with the next measurement of the exam"
    own = {int(image.header["image_series_index"]) for image in second.images}
    for image in second.pages:
        assert int(image.header["image_series_index"]) not in own
        assert parse_meta(image.attributes)["BoresideRole"] == "derived"
    page.waited("picture", _of_summary, count=4)
    agent.stop()
    assert page.events("ended")[-1].outcome == "delivered"

    sent = {path.stem: dcmread(path) for path in (tmp_path / "outbox").glob("*.dcm")}
    kinds = [dataset.SOPClassUID for dataset in sent.values()]
    assert kinds.count(MRImageStorage) == 6
    assert kinds.count(Comprehensive3DSRStorage) == 2
    summaries = [d for d in sent.values() if d.SOPClassUID == SecondaryCaptureImageStorage]
    assert {d.SeriesDescription for d in summaries} == {
        "[AI] Summary 1: after stir_sag",
        "[AI] Summary 2: after stir_sag",
    }
    assert kinds.count(SegmentationStorage) == len(
        [p for p in page.events("picture") if p.quantity == "labels"]
    )
    assert {str(dataset.StudyInstanceUID) for dataset in sent.values()} == {
        step.identity.uid("study")
    }
    if program := which("dciodvfy"):
        for path in (tmp_path / "outbox").glob("*.dcm"):
            done = subprocess.run([program, path], capture_output=True, text=True)
            lines = (done.stdout + done.stderr).splitlines()
            wrong = [x for x in lines if x.startswith("Error") and UNKNOWN_IN_2022 not in x]
            assert not wrong, (sent[path.stem].SOPClassUID.name, wrong)

    with orthanc.running():
        again = start("always", settings)
        end = time.monotonic() + small.deadline_s
        while list((tmp_path / "outbox").glob("*.dcm")):
            assert time.monotonic() < end, "".join(again.lines)
            time.sleep(0.2)
        again.stop()
        stored = orthanc.instances()
        found = orthanc.find(step.identity.uid("study"))
    assert set(stored) == set(sent)
    for name, dataset in stored.items():
        assert dataset.to_json_dict() == sent[name].to_json_dict()
    assert {item.SeriesInstanceUID for item in found} == {
        dataset.SeriesInstanceUID for dataset in sent.values()
    }
