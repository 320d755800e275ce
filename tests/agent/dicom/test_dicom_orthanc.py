"""Debian's Orthanc: every object of an exam stored, found, and fetched back the same; Orthanc
stopped for the whole exam and started later: all arrive, once.
"""

import io
import json
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from agent.outbox import Outbox
from agent.outbox_settings import Destination, OutboxSettings

pytestmark = pytest.mark.peers
WAIT_S = 120


@contextmanager
def outbox(folder, orthanc):
    box = Outbox(
        OutboxSettings(
            folder=folder,
            destinations=(
                Destination(
                    name="orthanc",
                    host="127.0.0.1",
                    port=orthanc.dicom,
                    ae_title="ORTHANC",
                    commitment=True,
                ),
            ),
            first_retry_s=0.1,
            longest_retry_s=0.5,
            listen_port=orthanc.calls_back,
        )
    )
    box.start()
    try:
        yield box
    finally:
        box.close()


@pytest.mark.parametrize("objects", ["classic", "enhanced"])
def test_every_object_comes_back_the_same(helpers, orthanc_server, tmp_path, objects):
    server = orthanc_server()
    with server.running() as orthanc, outbox(tmp_path / "box", orthanc) as box:
        sent = helpers.write_exam(objects, put=box.add)
        assert box.wait_delivered(WAIT_S), box.status()
        assert box.status()["orthanc"].counts == {"done": len(sent)}
        stored = orthanc.instances()
        assert set(stored) == {d.SOPInstanceUID for d in sent}
        for path, dataset in zip(helpers.save(sent, tmp_path / "sent"), sent):
            mine, back = dcmread(path), stored[dataset.SOPInstanceUID]
            assert back.to_json_dict() == mine.to_json_dict()
        found = orthanc.find(sent[0].StudyInstanceUID)
        assert {item.SeriesInstanceUID for item in found} == {d.SeriesInstanceUID for d in sent}
        assert {str(item.PatientName) for item in found} == {"Müller^Änne"}


def test_an_orthanc_down_for_the_whole_exam_gets_all_of_it(helpers, orthanc_server, tmp_path):
    orthanc = orthanc_server()
    with outbox(tmp_path / "box", orthanc) as box:
        sent = helpers.write_exam("classic", put=box.add)
        assert not box.wait_delivered(0.5)
    with orthanc.running(), outbox(tmp_path / "box", orthanc) as box:
        assert box.wait_delivered(WAIT_S), box.status()
        stored = json.loads(orthanc.get("/instances"))
        assert len(stored) == len(sent)
        # Made again, as after a restart of the agent: the outbox knows them.
        helpers.write_exam("classic", put=box.add)
        assert box.wait_delivered(WAIT_S)
        assert box.status()["orthanc"].counts == {"done": len(sent)}
        assert not list((tmp_path / "box").glob("*.dcm"))


def test_pixels_are_drawn_as_they_were_sent(helpers, orthanc_server, tmp_path):
    """Orthanc's own decoder sees the same picture."""
    server = orthanc_server()
    with server.running() as orthanc, outbox(tmp_path / "box", orthanc) as box:
        sent = helpers.write_exam("classic", put=box.add)
        assert box.wait_delivered(WAIT_S)
        plain = next(d for d in sent if d.get("SeriesDescription") == "t2_tse_sag")
        for identifier in json.loads(orthanc.get("/instances")):
            tags = json.loads(orthanc.get(f"/instances/{identifier}/simplified-tags"))
            if tags["SOPInstanceUID"] == plain.SOPInstanceUID:
                raw = orthanc.get(f"/instances/{identifier}/image-uint16")
                picture = np.asarray(Image.open(io.BytesIO(raw)))
                np.testing.assert_array_equal(picture, plain.pixel_array)
                return
    raise AssertionError("not there")
