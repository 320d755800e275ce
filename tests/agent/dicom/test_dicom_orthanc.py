"""Debian's Orthanc: every object of an exam stored, found, and fetched back the same; Orthanc
stopped for the whole exam and started later: all arrive, once.
"""

import io
import json
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from agent.outbox import Outbox
from agent.outbox_settings import Destination, OutboxSettings

pytestmark = pytest.mark.peers
START_S, WAIT_S = 60, 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Orthanc:
    """An Orthanc with a folder of its own."""

    def __init__(self, program, folder, listen_port):
        self.dicom, self.http = free_port(), free_port()
        folder.mkdir()
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(
            json.dumps(
                {
                    "Name": "test",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "index"),
                    "Plugins": [],
                    "DicomAet": "ORTHANC",
                    "DicomPort": self.dicom,
                    "HttpPort": self.http,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomCheckCalledAet": True,
                    "DicomModalities": {"boreside": ["BORESIDE", "127.0.0.1", listen_port]},
                }
            )
        )
        self.program = program

    @contextmanager
    def running(self):
        process = subprocess.Popen(
            [self.program, str(self.configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_for_start(process)
            yield self
        finally:
            process.terminate()
            process.wait(30)

    def _wait_for_start(self, process):
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.get("/system")
                return
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "no Orthanc"
                time.sleep(0.05)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return answer.read()

    def instances(self):
        """Return the files that it has, by SOP Instance UID."""
        files = [self.get(f"/instances/{n}/file") for n in json.loads(self.get("/instances"))]
        return {str(dcmread(DicomBytesIO(raw)).SOPInstanceUID): raw for raw in files}

    def find(self, study):
        """Return the series of a study, as C-FIND has them."""
        entity = AE("BORESIDE")
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = entity.associate("127.0.0.1", self.dicom, ae_title="ORTHANC")
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES"
        keys.StudyInstanceUID = study
        keys.SeriesInstanceUID = keys.SeriesDescription = keys.PatientName = ""
        found = [
            item
            for _, item in association.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind)
            if item is not None
        ]
        association.release()
        return found


@contextmanager
def outbox(folder, orthanc, listen_port):
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
            listen_port=listen_port,
        )
    )
    box.start()
    try:
        yield box
    finally:
        box.close()


@pytest.mark.parametrize("objects", ["classic", "enhanced"])
def test_every_object_comes_back_the_same(helpers, tmp_path, objects):
    listen_port = free_port()
    server = Orthanc(helpers.program("Orthanc"), tmp_path / "orthanc", listen_port)
    with server.running() as orthanc, outbox(tmp_path / "box", orthanc, listen_port) as box:
        sent = helpers.write_exam(objects, put=box.add)
        assert box.wait_delivered(WAIT_S), box.status()
        assert box.status()["orthanc"].counts == {"done": len(sent)}
        stored = orthanc.instances()
        assert set(stored) == {d.SOPInstanceUID for d in sent}
        for path, dataset in zip(helpers.save(sent, tmp_path / "sent"), sent):
            mine, back = dcmread(path), dcmread(DicomBytesIO(stored[dataset.SOPInstanceUID]))
            assert back.to_json_dict() == mine.to_json_dict()
        found = orthanc.find(sent[0].StudyInstanceUID)
        assert {item.SeriesInstanceUID for item in found} == {d.SeriesInstanceUID for d in sent}
        assert {str(item.PatientName) for item in found} == {"Müller^Änne"}


def test_an_orthanc_that_is_down_for_the_whole_exam_gets_all_of_it(helpers, tmp_path):
    listen_port = free_port()
    orthanc = Orthanc(helpers.program("Orthanc"), tmp_path / "orthanc", listen_port)
    with outbox(tmp_path / "box", orthanc, listen_port) as box:
        sent = helpers.write_exam("classic", put=box.add)
        assert not box.wait_delivered(0.5)
    with orthanc.running(), outbox(tmp_path / "box", orthanc, listen_port) as box:
        assert box.wait_delivered(WAIT_S), box.status()
        stored = json.loads(orthanc.get("/instances"))
        assert len(stored) == len(sent)
        # Made again, as after a restart of the agent: the outbox knows them.
        helpers.write_exam("classic", put=box.add)
        assert box.wait_delivered(WAIT_S)
        assert box.status()["orthanc"].counts == {"done": len(sent)}
        assert not list((tmp_path / "box").glob("*.dcm"))


def test_pixels_are_drawn_as_they_were_sent(helpers, tmp_path):
    """Orthanc's own decoder sees the same picture."""
    listen_port = free_port()
    server = Orthanc(helpers.program("Orthanc"), tmp_path / "orthanc", listen_port)
    with server.running() as orthanc, outbox(tmp_path / "box", orthanc, listen_port) as box:
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
