"""Images as they leave the agent, the DICOM objects made of them, and programs that judge them."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ismrmrd import xsd
from pydicom.dataset import Dataset
from xsdata.models.datatype import XmlDate, XmlTime

from agent.dicom import DicomExam
from agent.dicom_settings import DicomSettings
from gadgets.finish import Finish
from gadgets.items import FrameKey, Image, LabelMap, Role
from protocols.findings import (
    EvidenceCoverage,
    ExamFindings,
    Finding,
    FindingType,
    Measure,
    Quality,
    Side,
    Structure,
)
from protocols.geometry import Slab
from protocols.header import Header
from protocols.mrd_types import ACQUISITION_HEADER, ImageMessage

SLAB = Slab(
    centre=(12.0, -30.0, 45.0),
    row=(0.0, 0.96, -0.28),
    column=(0.0, -0.28, -0.96),
    field_of_view_mm=(192.0, 160.0),
    matrix=(96, 80),
    slices=4,
    thickness_mm=4.0,
    gap_mm=1.0,
)
"""Oblique; rows, columns and slices all differ in number and size."""


def mrd_header(model: str = "Scanner", step: str = "t2_tse_sag", series: int = 2) -> Header:
    """An MRD header with everything that DICOM can use. The patient is made up."""
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=96, y=80, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=192, y=160, z=4),
    )
    header = xsd.ismrmrdHeader(
        version=1,
        subjectInformation=xsd.subjectInformationType(
            patientName="Müller^Änne",
            patientID="4711",
            patientBirthdate=XmlDate(1970, 1, 2),
            patientGender="F",
            patientWeight_kg=61.5,
        ),
        studyInformation=xsd.studyInformationType(
            studyDate=XmlDate(2026, 11, 24),
            studyTime=XmlTime(13, 5, 10),
            studyID="S1",
            accessionNumber=815,
            referringPhysicianName="Beispiel^Berta",
            studyDescription="Lumbar spine",
            studyInstanceUID="1.2.826.0.1.3680043.8.498.1",
            bodyPartExamined="LSPINE",
        ),
        measurementInformation=xsd.measurementInformationType(
            measurementID="1_2_3_4",
            patientPosition=xsd.patientPositionType.HFS,
            initialSeriesNumber=series,
            protocolName=step,
            frameOfReferenceUID="1.2.826.0.1.3680043.8.498.2",
        ),
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            systemVendor="Vendor",
            systemModel=model,
            systemFieldStrength_T=3.0,
            institutionName="Hospital",
            deviceSerialNumber="17",
        ),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123200000),
        encoding=[
            xsd.encodingType(
                encodedSpace=space,
                reconSpace=space,
                encodingLimits=xsd.encodingLimitsType(
                    slice=xsd.limitType(minimum=0, maximum=3, center=0)
                ),
                trajectory=xsd.trajectoryType.CARTESIAN,
                echoTrainLength=16,
            )
        ],
        sequenceParameters=xsd.sequenceParametersType(
            TR=[3500.0], TE=[100.0], flipAngle_deg=[150.0], sequence_type="TurboSpinEcho"
        ),
    )
    return header


def images(**fields: Any) -> list[Image]:
    """One image of each slice of `SLAB`: a ramp with a bright square; synthetic."""
    headers = np.zeros(SLAB.slices, ACQUISITION_HEADER)
    headers["idx"]["slice"] = np.arange(SLAB.slices)
    SLAB.place(headers)
    columns, rows = SLAB.matrix
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    result = []
    for number in range(SLAB.slices):
        data = 1 + y / rows + x / columns + number
        data[20:30, 40:50] = 20
        image = Image(
            data[None].astype(np.complex64),
            FrameKey(0, number, 0, 0, 0, 0),
            headers[number],
            (*SLAB.field_of_view_mm, SLAB.thickness_mm),
            snr_units=True,
            noise_map=np.full((1, rows, columns), 1.2 + number, np.float32),
            history=("SENSE R=2",),
        )
        result.append(replace(image, **fields))
    return result


def messages(header: Header, *chunks: list[Image], maps: tuple[str, ...] = ()) -> list:
    """What leaves for the scanner, by the gadget that makes it; each chunk a series of its own."""
    out: list[ImageMessage] = []
    for chunk in chunks:
        first = max((int(m.header["image_series_index"]) for m in out), default=0)
        for message in Finish(header, maps=maps)(iter(chunk)):
            message.header["image_series_index"] += first
            out.append(message)
    return out


NETWORK = "recon 0.1 (0123456789ab)"


def everything() -> tuple[list[Image], ...]:
    """Acquired images, the same by a network, and synthetic ones."""
    by_network = images(history=("SENSE", "AI", f"recon: {NETWORK}"))
    by_network = [replace(image, attributes={"BoresideAI": [NETWORK]}) for image in by_network]
    return images(), by_network, images(role=Role.SYNTHETIC, noise_map=None)


def labels() -> LabelMap:
    """A body, a disc, a joint and a disc without a code of its own."""
    columns, rows = SLAB.matrix
    array = np.zeros((SLAB.slices, rows, columns), np.uint8)
    array[:, 20:30, 40:50] = 1
    array[1, 32:36, 40:50] = 2
    array[2, 40:50, 60:70] = 3
    array[3, 60:63, 5:9] = 5
    names = ("", "L3", "L3/L4", "SI_left", "unused", "S1/S2")
    return LabelMap(array, names, SLAB.volume)


def findings(series: str = "t2_tse_sag") -> ExamFindings:
    """One of everything."""
    return ExamFindings(
        exam="pseudonym",
        series=(series,),
        findings=(
            Finding(
                id="f1",
                type=FindingType.OEDEMA_LIKE,
                structure=Structure.SACRAL_SUBCHONDRAL,
                side=Side.LEFT,
                level="S1",
                centre_mm=(12.0, -30.0, 45.0),
                extent_mm=(10.0, 8.0, 6.0),
                volume_ml=0.3,
                depth_mm=4.0,
                cnr=5.5,
                probability=0.9,
                series=(series,),
                slices=(1, 2),
                adjacent_slices=2,
                area_mm2=40.0,
            ),
        ),
        coverage=(
            EvidenceCoverage(
                structure=Structure.ILIAC_SUBCHONDRAL, side=Side.RIGHT, shown=0.4, judged=False
            ),
        ),
        measures=(
            Measure(name="canal_ap", level="L4", value=14.2, unit="mm"),
            Measure(name="lordosis", value=41.0, unit="deg"),
            Measure(name="height_ratio_anterior_posterior", level="L6", value=0.98, unit=""),
            Measure(name="slip_percent", level="L4/L5", value=3.0, unit="%"),
        ),
        quality=(Quality(series=series, snr=22.0, motion=0.1, fat_suppression_failed=0.02),),
        abstained="too little of the joints was shown",
    )


def write_exam(
    objects: str,
    model: str = "Scanner",
    measurement: str = "m1",
    step: str = "t2_tse_sag",
    put: Callable[[Dataset], None] | None = None,
) -> list[Dataset]:
    """Every kind of object that the agent makes."""
    out: list[Dataset] = []

    def keep(dataset: Dataset) -> None:
        out.append(dataset)
        if put is not None:
            put(dataset)

    header = mrd_header(model, step)
    exam = DicomExam(DicomSettings.model_validate({"objects": objects}), keep)
    sink = exam.sink(measurement, header)
    for message in messages(header, *everything(), maps=("g-factor",)):
        sink.add(message)
    assert sink.close() == []
    assert exam.labels(step, labels(), ("labels 0.1 (ab)",))
    assert exam.findings(findings(step), ("labels 0.1 (ab)",))
    pages = np.tile(np.arange(0, 250, 2, dtype=np.uint8)[None, :, None, None], (2, 1, 101, 3))
    assert exam.summary(pages, "Summary")
    return out


@pytest.fixture(scope="session", params=["classic", "enhanced"])
def exam(request) -> list[Dataset]:
    """All objects of one exam, written classic and enhanced."""
    return write_exam(request.param)


@pytest.fixture(scope="session")
def classic() -> list[Dataset]:
    return write_exam("classic")


def program(name: str) -> str:
    """Find a program of Debian's, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine (apt-get install dcmtk dicom3tools dcm2niix)")
    return found


def save(datasets: list[Dataset], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for dataset in datasets:
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


@pytest.fixture
def helpers() -> Iterator[Any]:
    """This module's functions, for tests, which cannot import it."""
    yield SimpleNamespace(**{k: v for k, v in globals().items() if not k.startswith("_")})
