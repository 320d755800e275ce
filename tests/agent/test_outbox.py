"""The outbox against a PACS that is a process of its own: nothing is lost, nothing sent twice."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage

from agent.dicom_uid import uid
from agent.outbox import Outbox
from agent.outbox_settings import Destination, OutboxSettings

PACS = Path(__file__).parent / "dicom" / "pacs.py"
ROOT = Path(__file__).parents[2]
WAIT_S = 60


def small(number: int, kind: str = MRImageStorage) -> Dataset:
    """An object of some kilobytes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = uid("test", number)
    dataset.PatientName, dataset.PatientID = "Nobody", "0"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = uid("test study")
    dataset.Modality = "MR"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    pixels = np.random.default_rng(number).integers(0, 4000, (32, 32)).astype("<u2")
    dataset.PixelData = pixels.tobytes()
    return dataset


@contextmanager
def pacs(folder: Path, **options):
    """Run a PACS; gives its port."""
    command = [sys.executable, str(PACS), json.dumps({"folder": str(folder), **options})]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@contextmanager
def outbox(folder: Path, *ports: int, commitment: bool = False, **fields):
    box = Outbox(settings(folder, *ports, commitment=commitment, **fields))
    box.start()
    try:
        yield box
    finally:
        box.close()


def settings(folder: Path, *ports: int, commitment: bool = False, tls=None, **fields):
    return OutboxSettings.model_validate(
        {
            "folder": folder,
            "destinations": [
                Destination(
                    name=f"pacs{n}",
                    host="127.0.0.1",
                    port=port,
                    ae_title="PACS",
                    commitment=commitment,
                    tls=tls,
                )
                for n, port in enumerate(ports)
            ],
            "first_retry_s": 0.05,
            "longest_retry_s": 0.2,
            "timeout_s": 10,
            **fields,
        }
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def received(folder: Path) -> list[str]:
    path = folder / "received"
    return path.read_text().split() if path.exists() else []


def test_what_is_added_arrives_identical_and_once(tmp_path):
    with pacs(tmp_path / "pacs") as port, outbox(tmp_path / "box", port) as box:
        sent = [small(n) for n in range(5)] + [small(9, SecondaryCaptureImageStorage)]
        for dataset in sent:
            box.add(dataset)
        assert box.wait_delivered(WAIT_S)
    assert sorted(received(tmp_path / "pacs")) == sorted(d.SOPInstanceUID for d in sent)
    for dataset in sent:
        raw = (tmp_path / "pacs" / f"{dataset.SOPInstanceUID}.dcm").read_bytes()
        dataset.save_as(tmp_path / "plain", enforce_file_format=True)
        assert (tmp_path / "plain").read_bytes().endswith(raw)
    assert not list((tmp_path / "box").glob("*.dcm"))


def test_the_same_object_added_again_is_not_sent_again(tmp_path):
    with pacs(tmp_path / "pacs") as port:
        for _ in range(2):
            with outbox(tmp_path / "box", port) as box:
                for _ in range(3):
                    box.add(small(1))
                assert box.wait_delivered(WAIT_S)
    assert len(received(tmp_path / "pacs")) == 1


def test_a_pacs_that_is_away_for_the_whole_exam_gets_everything_once(tmp_path):
    port = free_port()
    with outbox(tmp_path / "box", port) as box:
        for number in range(10):
            box.add(small(number))
        assert not box.wait_delivered(0.3)
        status = box.status()["pacs0"]
        assert status.left == 10 and "reached" in status.away
        with pacs(tmp_path / "pacs", port=port):
            assert box.wait_delivered(WAIT_S)
        assert box.status()["pacs0"].away == ""
    assert sorted(received(tmp_path / "pacs")) == sorted(uid("test", n) for n in range(10))


def test_adding_never_waits_for_a_peer_that_does_not_answer(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        outbox(tmp_path / "box", mute.getsockname()[1], timeout_s=1) as box,
    ):
        for number in range(20):
            box.add(small(number))
        assert box.status()["pacs0"].left == 20


def test_one_destination_away_does_not_hold_up_the_other(tmp_path):
    with pacs(tmp_path / "a") as port, outbox(tmp_path / "box", free_port(), port) as box:
        box.add(small(1))
        while box.status()["pacs1"].left:
            box.wait_delivered(0.05)
        assert received(tmp_path / "a") == [uid("test", 1)]
        assert box.status()["pacs0"].left == 1
        assert (tmp_path / "box" / f"{uid('test', 1)}.dcm").exists()


def test_what_is_refused_is_tried_again_and_the_rest_goes_on(tmp_path):
    with (
        pacs(tmp_path / "pacs", refuse_first=2) as port,
        outbox(tmp_path / "box", port) as box,
    ):
        for number in range(4):
            box.add(small(number))
        assert box.wait_delivered(WAIT_S)
    assert {path.stem for path in (tmp_path / "pacs").glob("*.dcm")} == {
        uid("test", n) for n in range(4)
    }
    assert len(received(tmp_path / "pacs")) == 6


def test_a_kind_that_a_pacs_does_not_take_holds_up_nothing_else(tmp_path):
    with (
        pacs(tmp_path / "pacs", without=[SecondaryCaptureImageStorage]) as port,
        outbox(tmp_path / "box", port) as box,
    ):
        box.add(small(0, SecondaryCaptureImageStorage))
        for number in range(1, 4):
            box.add(small(number))
        while box.status()["pacs0"].left > 1:
            box.wait_delivered(0.05)
        [reason] = box.status()["pacs0"].errors
        assert "kind" in reason
    assert len(received(tmp_path / "pacs")) == 3


def test_a_pacs_that_dies_in_the_middle_gets_the_rest_when_it_is_back(tmp_path):
    port, count = free_port(), 40
    with outbox(tmp_path / "box", port) as box:
        with pacs(tmp_path / "pacs", port=port, delay_s=0.01):
            for number in range(count):
                box.add(small(number))
            while len(received(tmp_path / "pacs")) < 5:
                box.wait_delivered(0.01)
        assert box.status()["pacs0"].left
        with pacs(tmp_path / "pacs", port=port):
            assert box.wait_delivered(WAIT_S)
    found = received(tmp_path / "pacs")
    assert set(found) == {uid("test", n) for n in range(count)}
    assert len(found) <= count + 1  # The one at hand when it died may have been stored unsaid.


def test_what_another_process_adds_is_sent_too(tmp_path):
    with pacs(tmp_path / "pacs") as port, outbox(tmp_path / "box", port):
        other = Outbox(settings(tmp_path / "box", port))  # As `boreside recover` has.
        other.add(small(1))
        while other.status()["pacs0"].left:
            other.wait_delivered(0.1)
        other.close()
    assert received(tmp_path / "pacs") == [uid("test", 1)]


def test_what_a_process_left_is_sent_by_the_next(tmp_path):
    port = free_port()
    with outbox(tmp_path / "box", port) as box:
        box.add(small(1))
    with pacs(tmp_path / "pacs", port=port), outbox(tmp_path / "box", port) as box:
        assert box.wait_delivered(WAIT_S)
    assert received(tmp_path / "pacs") == [uid("test", 1)]


@pytest.mark.parametrize("how", ["same", "call back"])
def test_files_are_kept_until_the_pacs_has_committed_itself(tmp_path, how):
    listen = free_port() if how == "call back" else None
    commitment = ["127.0.0.1", listen] if listen else how
    lost = uid("test", 1)
    with (
        pacs(tmp_path / "pacs", commitment=commitment, lose=[lost]) as port,
        outbox(tmp_path / "box", port, commitment=True, listen_port=listen) as box,
    ):
        for number in range(3):
            box.add(small(number))
        assert box.wait_delivered(WAIT_S)
        assert box.status()["pacs0"].counts == {"done": 3}
    # The one that the PACS said it had lost was sent twice.
    assert sorted(received(tmp_path / "pacs")) == sorted(
        [*(uid("test", n) for n in range(3)), lost]
    )
    assert not list((tmp_path / "box").glob("*.dcm"))


def test_without_an_answer_to_commitment_nothing_is_removed_and_it_is_asked_again(tmp_path):
    with (
        pacs(tmp_path / "pacs", commitment=None) as port,
        outbox(tmp_path / "box", port, commitment=True, timeout_s=0.5, answer_s=0.2) as box,
    ):
        box.add(small(1))
        assert not box.wait_delivered(1)
        assert list((tmp_path / "box").glob("*.dcm"))
    with (
        pacs(tmp_path / "pacs", commitment="same") as port,
        outbox(tmp_path / "box", port, commitment=True) as box,
    ):
        assert box.wait_delivered(WAIT_S)
    assert received(tmp_path / "pacs") == [uid("test", 1)]


CRASHER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from test_outbox import settings, small
from agent.outbox import Outbox
folder, port, first = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
box = Outbox(settings(folder, port, commitment=True))
box.start()
for number in range(first, first + 40):
    box.add(small(number))
    print(number, flush=True)
box.wait_delivered(60)
"""


def test_killed_at_any_moment_nothing_that_was_taken_is_lost(tmp_path):
    """SIGKILL while it adds, sends and asks; what was acknowledged arrives, as it was."""
    rounds = int(os.environ.get("BORESIDE_TEST_KILLS", "5"))
    taken: set[int] = set()
    with pacs(tmp_path / "pacs", commitment="same", delay_s=0.002) as port:
        for number in range(rounds):
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    CRASHER.format(tests=str(Path(__file__).parent)),
                    str(tmp_path / "box"),
                    str(port),
                    str(100 * number),
                ],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            assert process.stdout is not None
            enough = 3 + 9 * number
            for line in process.stdout:
                taken.add(int(line))
                if len(taken) % 100 >= enough or int(line) % 100 >= min(enough, 38):
                    break
            process.send_signal(signal.SIGKILL)
            rest, _ = process.communicate()
            taken |= {int(line) for line in rest.split()}
        assert taken
        with outbox(tmp_path / "box", port, commitment=True) as box:
            assert box.wait_delivered(WAIT_S)
            assert not box.status()["pacs0"].left
    for number in taken:
        dataset = small(number)
        dataset.save_as(tmp_path / "plain", enforce_file_format=True)
        raw = (tmp_path / "pacs" / f"{dataset.SOPInstanceUID}.dcm").read_bytes()
        assert (tmp_path / "plain").read_bytes().endswith(raw)


def certificates(folder: Path) -> dict[str, str]:
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [*openssl, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return {"ca": str(certificate), "certificate": str(certificate), "key": str(key)}


def test_with_tls_objects_arrive_and_without_it_nothing_does(tmp_path):
    tls = certificates(tmp_path)
    with pacs(tmp_path / "pacs", tls=tls) as port:
        with outbox(tmp_path / "plain", port, timeout_s=2) as box:
            box.add(small(1))
            assert not box.wait_delivered(1)
        with outbox(tmp_path / "box", port, tls=tls) as box:
            box.add(small(2))
            assert box.wait_delivered(WAIT_S)
    assert received(tmp_path / "pacs") == [uid("test", 2)]


def test_destinations_need_names_of_their_own():
    with pytest.raises(ValueError, match="different name"):
        OutboxSettings(
            destinations=(
                Destination(name="a", host="h", ae_title="A"),
                Destination(name="a", host="h2", ae_title="B"),
            )
        )
