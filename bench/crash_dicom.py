"""DICOM under SIGKILL: every object arrives at the PACS, and only once.

Looked at are the objects of agents that were killed (`arrived`), and the outbox alone, faster: a
process (this module, run) adds objects and sends them, as an agent does while images leave; it is
killed at random moments and started again, and adds first what it had not acknowledged, as recovery
does, with the same SOP Instance UIDs. The PACS is a process of its own and is not killed.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from agent.config import load
from agent.dicom_uid import uid
from agent.outbox import Outbox
from agent.outbox_settings import Destination, OutboxSettings
from agent.spool import Spool
from bench.agents import ROOT, agent_process

PACS = ROOT / "tests" / "agent" / "dicom" / "pacs.py"
OBJECTS = 30
"""Of one life, at most."""
LATEST_S = 1.0
WAIT_S = 120.0


def picture(number: int) -> Dataset:
    """Return a small object; the same number makes the same one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = uid("bench crash", number)
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Nobody", "0", "MR"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = uid("bench crash study")
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    pixels = np.random.default_rng(number).integers(0, 4000, (64, 64)).astype("<u2")
    dataset.PixelData = pixels.tobytes()
    return dataset


def settings(folder: Path, port: int) -> OutboxSettings:
    """Return an outbox with one destination that is asked to commit itself."""
    pacs = Destination(name="pacs", host="127.0.0.1", port=port, ae_title="PACS", commitment=True)
    return OutboxSettings(
        folder=folder, destinations=(pacs,), first_retry_s=0.05, longest_retry_s=0.2, timeout_s=10
    )


@contextmanager
def pacs(folder: Path) -> Iterator[int]:
    """Run a PACS; gives its port."""
    options = json.dumps({"folder": str(folder), "commitment": "same", "delay_s": 0.002})
    process = subprocess.Popen(
        [sys.executable, str(PACS), options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def to_pacs(folder: Path, port: int) -> dict[str, Any]:
    """Return the settings of an agent in a folder that sends to a PACS."""
    box = settings(folder / "outbox", port).model_dump(mode="json")
    box["destinations"][0]["commitment"] = False
    return {"threads": 1, "outbox": box}


def settle(folder: Path, sections: dict[str, Any]) -> None:
    """Run an agent until nothing is owed to the PACS any more, or it takes too long."""
    spool = Spool(load(spool={"folder": folder / "spool"}).spool)
    with agent_process(folder, sections) as agent:
        agent.wait_ready()
        outbox = Outbox(OutboxSettings.model_validate(sections["outbox"]))
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if all(map(spool.done, spool.names())) and not outbox.status()["pacs"].left:
                break
            threading.Event().wait(0.2)
        outbox.close()


def arrived(folder: Path, stored: Path) -> Counter[str]:
    """Count the objects of all measurements of an agent, and those that are lost or doubled.

    A measurement without a study of its own is one: its name makes the Study Instance UID. It has
    one object for each image that left.
    """
    studies = defaultdict(list)
    for path in stored.glob("*.dcm"):
        dataset = dcmread(path, force=True, stop_before_pixels=True)
        studies[str(dataset.StudyInstanceUID)].append(
            (dataset.SeriesNumber, dataset.InstanceNumber)
        )
    spool = Spool(load(spool={"folder": folder / "spool"}).spool)
    found: Counter[str] = Counter(lost_objects=0, doubled_objects=0)
    for name in spool.names():
        images = len(spool.state(name).get("images", ()))
        there = studies[str(uid("study", name))]
        found["objects"] += images
        found["lost_objects"] += max(0, images - len(set(there)))
        found["doubled_objects"] += len(there) - len(set(there)) + max(0, len(set(there)) - images)
    return found


def dicom(folder: Path, kills: int, draw: random.Random) -> Counter[str]:
    """Kill an outbox so often; count objects, and those that are lost or doubled."""
    acknowledged: set[int] = set()
    following = 0
    box = folder / "box"
    with pacs(folder / "pacs") as port:
        for _ in range(kills):
            command = [sys.executable, "-m", "bench.crash_dicom", str(box), str(port)]
            process = subprocess.Popen(
                [*command, str(following)], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            assert process.stdout is not None
            last = following + draw.randrange(OBJECTS)
            for line in process.stdout:
                acknowledged.add(int(line))
                if int(line) >= last:
                    break
            threading.Event().wait(LATEST_S * draw.random() ** 2)
            process.kill()
            rest, _ = process.communicate()
            acknowledged |= {int(line) for line in rest.split()}
            following = max(acknowledged, default=-1) + 1
        outbox = Outbox(settings(box, port))
        outbox.start()
        outbox.wait_delivered(WAIT_S)
        outbox.close()
    stored = {path.stem: path for path in (folder / "pacs").glob("*.dcm")}
    found = Counter(objects=len(acknowledged), outbox_kills=kills, lost_objects=0)
    for number in acknowledged:
        truth = picture(number)
        path = stored.pop(str(truth.SOPInstanceUID), None)
        found["lost_objects"] += path is None or not path.read_bytes().endswith(truth.PixelData)
    # Not acknowledged, and yet there: taken in the moment of the kill. Others have no business.
    stored.pop(str(picture(following).SOPInstanceUID), None)
    found["doubled_objects"] = len(stored)
    return found


def _add() -> None:
    folder, port, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    outbox = Outbox(settings(folder, port))
    outbox.start()
    for number in range(first, first + OBJECTS):
        outbox.add(picture(number))
        print(number, flush=True)
        time.sleep(0.01)
    outbox.wait_delivered(WAIT_S)


if __name__ == "__main__":
    _add()
