"""The worklist completes an identity where its answer can be nobody else's, and never guesses."""

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind

from agent.dicom_identity import Identity
from agent.dicom_settings import WorklistSettings
from agent.worklist import Worklist

PACS = Path(__file__).parent / "pacs.py"
ROOT = Path(__file__).parents[3]
EMPTY = Identity(study_uid="2.25.1", frame_of_reference_uid="2.25.2")


def item(name: str, study: str, accession: str = "", patient_id: str = "") -> Dataset:
    entry = Dataset()
    entry.SpecificCharacterSet = "ISO_IR 192"
    entry.PatientName, entry.PatientID, entry.PatientSex = name, patient_id, "F"
    entry.PatientBirthDate = "19700102"
    entry.AccessionNumber, entry.StudyInstanceUID = accession, study
    entry.ReferringPhysicianName = "Beispiel^Berta"
    entry.RequestedProcedureID = "RP1"
    step = Dataset()
    step.ScheduledProcedureStepID = "SPS1"
    step.ScheduledProcedureStepDescription = "MR lumbar spine"
    entry.ScheduledProcedureStepSequence = [step]
    return entry


@contextmanager
def worklist(folder: Path, *items: Dataset, **fields):
    server = folder / "server"
    server.mkdir(exist_ok=True)
    (server / "worklist.json").write_text(json.dumps([i.to_json() for i in items]))
    process = subprocess.Popen(
        [sys.executable, str(PACS), json.dumps({"folder": str(server), **fields})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Worklist(settings(port), folder / "answers", "BORESIDE")
    finally:
        process.kill()
        process.communicate()


def settings(port: int) -> WorklistSettings:
    return WorklistSettings(
        host="127.0.0.1", port=port, ae_title="RIS", station_ae_title="SCANNER", timeout_s=5
    )


def asked(folder: Path) -> list[Dataset]:
    lines = (folder / "server" / "asked").read_text().splitlines()
    return [Dataset.from_json(line) for line in lines]


def test_the_one_scheduled_today_is_the_patient(tmp_path):
    with worklist(tmp_path, item("Müller^Änne", "1.2.3", "A1", "4711")) as found:
        identity = found.complete(EMPTY)
    assert identity.patient_name == "Müller^Änne"
    assert (identity.patient_id, identity.birth_date, identity.sex) == ("4711", "19700102", "F")
    assert (identity.accession, identity.study_uid) == ("A1", "1.2.3")
    assert identity.request.ScheduledProcedureStepID == "SPS1"
    [keys] = asked(tmp_path)
    step = keys.ScheduledProcedureStepSequence[0]
    assert step.ScheduledStationAETitle == "SCANNER" and step.Modality == "MR"
    assert step.ScheduledProcedureStepStartDate == date.today().strftime("%Y%m%d")


def test_of_two_nobody_is_chosen(tmp_path):
    with worklist(tmp_path, item("A^A", "1.2.3"), item("B^B", "1.2.4")) as found:
        assert found.complete(EMPTY) == EMPTY


def test_of_two_the_accession_number_chooses(tmp_path):
    both = item("A^A", "1.2.3", "A1"), item("B^B", "1.2.4", "A2")
    with worklist(tmp_path, *both) as found:
        assert found.complete(replace(EMPTY, accession="A2")).patient_name == "B^B"


def test_of_two_the_study_chooses(tmp_path):
    with worklist(tmp_path, item("A^A", "1.2.3"), item("B^B", "1.2.4")) as found:
        assert found.complete(replace(EMPTY, study_uid="1.2.4")).patient_name == "B^B"


def test_a_worklist_that_is_away_or_mute_leaves_the_header_s_identity(tmp_path):
    with worklist(tmp_path, item("A^A", "1.2.3")) as found:
        pass
    assert found.complete(EMPTY) == EMPTY


def test_an_answer_that_cannot_be_read_leaves_the_header_s_identity(tmp_path):
    """Found by `python -m bench fuzz`: pydicom raises as a value is used, not as it comes."""
    entry = item("A^A", "1.2.3")
    rows = Tag("Rows")
    entry[rows] = RawDataElement(rows, "US", 3, b"abc", 0, True, True)
    entity = AE("RIS")
    entity.add_supported_context(ModalityWorklistInformationFind)
    handlers = [(evt.EVT_C_FIND, lambda event: iter([(0xFF00, entry)]))]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        found = Worklist(settings(server.server_address[1]), tmp_path, "BORESIDE").complete(EMPTY)
    finally:
        server.shutdown()
    assert found == EMPTY and not list(tmp_path.iterdir())


def test_a_kept_answer_that_was_damaged_leaves_the_header_s_identity(tmp_path):
    with worklist(tmp_path, item("A^A", "1.2.3")) as found:
        found.complete(EMPTY)
        (kept,) = (tmp_path / "answers").iterdir()
        kept.write_text("{")
        assert found.complete(EMPTY) == EMPTY


def test_an_answer_holds_for_the_whole_study_also_after_a_restart(tmp_path):
    with worklist(tmp_path, item("A^A", "1.2.3", "A1")) as found:
        first = found.complete(EMPTY)
    again = Worklist(settings(1), tmp_path / "answers", "BORESIDE")
    assert again.complete(EMPTY) == first


def test_what_the_worklist_says_is_in_every_object(tmp_path, helpers):
    from agent.dicom import DicomExam
    from agent.dicom_settings import DicomSettings

    header = helpers.mrd_header()
    out = []
    with worklist(tmp_path, item("Other^Name", "1.2.826.0.1.3680043.8.498.1", "815")) as found:
        sink = DicomExam(DicomSettings(), out.append, found.complete).sink("m", header)
        for message in helpers.messages(header, helpers.images()):
            sink.add(message)
        assert sink.close() == []
    for dataset in out:
        assert str(dataset.PatientName) == "Other^Name"
        assert dataset.RequestAttributesSequence[0].RequestedProcedureID == "RP1"


@pytest.mark.peers
def test_against_dcmtk_s_worklist_server(tmp_path, helpers):
    program = helpers.program("wlmscpfs")
    folder = tmp_path / "RIS"
    folder.mkdir()
    (folder / "lockfile").touch()
    entry = item("Müller^Änne", "1.2.3", "A1", "4711")
    step = entry.ScheduledProcedureStepSequence[0]
    step.ScheduledStationAETitle, step.Modality = "SCANNER", "MR"
    step.ScheduledProcedureStepStartDate = date.today().strftime("%Y%m%d")
    step.ScheduledProcedureStepStartTime = "080000"
    step.ScheduledPerformingPhysicianName = ""
    entry.RequestedProcedureDescription = "MR lumbar spine"
    entry.file_meta = FileMetaDataset()
    entry.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    entry.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    entry.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    entry.save_as(folder / "a.wl", enforce_file_format=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            program,
            "--single-process",
            "--keep-char-set",
            "--data-files-path",
            str(tmp_path),
            str(port),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        found = Worklist(settings(port), tmp_path / "answers", "BORESIDE")
        while process.poll() is None:
            if (identity := found.complete(EMPTY)) != EMPTY:
                break
        assert identity.patient_name == "Müller^Änne"
        assert identity.accession == "A1"
    finally:
        process.kill()
        process.communicate()
