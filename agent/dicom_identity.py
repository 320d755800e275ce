"""Who and which study: from the MRD header, or from an entry of the modality worklist.

Whatever a header holds is cut and cleaned until it is a legal value of its attribute: what came
over the network must not make an object that a PACS refuses.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from agent.dicom_uid import uid, usable_uid
from protocols.header import Header

_SITE_PATTERN = re.compile(r"^([^_]+_[^_]+_[^_]+)_[^_]+$")
"""Measurement ids as siemens_to_ismrmrd makes them: device, subject, session, measurement."""
_POSITIONS = ("HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL")


@dataclass(frozen=True)
class Identity:
    """Patient, study and frame of reference, as legal values of DICOM; empty where not known.

    Attributes
    ----------
    request : Dataset or None
        Item of the Request Attributes Sequence: what was ordered, from the worklist.
    """

    study_uid: str
    frame_of_reference_uid: str
    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    weight_kg: float | None = None
    height_m: float | None = None
    study_id: str = ""
    accession: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    referring_physician: str = ""
    body_part: str = ""
    position: str = ""
    request: Dataset | None = None

    def write(self, dataset: Dataset) -> None:
        """Fill the Patient, General Study and Patient Study modules of an object."""
        dataset.PatientName = self.patient_name
        dataset.PatientID = self.patient_id
        dataset.PatientBirthDate = self.birth_date
        dataset.PatientSex = self.sex
        if self.weight_kg:
            dataset.PatientWeight = round(self.weight_kg, 3)
        if self.height_m:
            dataset.PatientSize = round(self.height_m, 3)
        dataset.StudyInstanceUID = self.study_uid
        dataset.StudyDate = self.study_date
        dataset.StudyTime = self.study_time
        dataset.StudyID = self.study_id
        dataset.AccessionNumber = self.accession
        dataset.ReferringPhysicianName = self.referring_physician
        if self.study_description:
            dataset.StudyDescription = self.study_description
        if self.request is not None:
            dataset.RequestAttributesSequence = [self.request]


def from_header(header: Header | None, measurement: str) -> Identity:
    """Return what an MRD header says.

    Where it names no study, measurements of one session (by ``measurementID``) share one; without
    that each measurement is a study of its own.

    Parameters
    ----------
    header : Header or None
    measurement : str
        The spool's name of it.
    """
    subject = getattr(header, "subjectInformation", None)
    study = getattr(header, "studyInformation", None)
    about = getattr(header, "measurementInformation", None)
    session = _SITE_PATTERN.match(str(getattr(about, "measurementID", "") or ""))
    study_uid = usable_uid(getattr(study, "studyInstanceUID", None)) or uid(
        "study", session.group(1) if session else measurement
    )
    frame = usable_uid(getattr(about, "frameOfReferenceUID", None))
    position = str(getattr(getattr(about, "patientPosition", None), "value", ""))
    sex = str(getattr(subject, "patientGender", "") or "")
    return Identity(
        study_uid=study_uid,
        frame_of_reference_uid=frame or uid("frame", study_uid),
        patient_name=person(getattr(subject, "patientName", None)),
        patient_id=text(getattr(subject, "patientID", None), 64),
        birth_date=date(getattr(subject, "patientBirthdate", None)),
        sex=sex if sex in ("M", "F", "O") else "",
        weight_kg=getattr(subject, "patientWeight_kg", None),
        height_m=getattr(subject, "patientHeight_m", None),
        study_id=text(getattr(study, "studyID", None), 16),
        accession=text(getattr(study, "accessionNumber", None), 16),
        study_date=date(getattr(study, "studyDate", None)),
        study_time=time(getattr(study, "studyTime", None)),
        study_description=text(getattr(study, "studyDescription", None), 64),
        referring_physician=person(getattr(study, "referringPhysicianName", None)),
        body_part=re.sub(r"[^A-Z0-9_ ]", "", text(getattr(study, "bodyPartExamined", None), 16)),
        position=position if position in _POSITIONS else "",
    )


def from_worklist(identity: Identity, item: Dataset) -> Identity:
    """Return an identity with what a worklist item (PS3.4 K.6) says in its place."""
    steps = item.get("ScheduledProcedureStepSequence") or [Dataset()]
    request = Dataset()
    for name, source in (
        ("RequestedProcedureID", item),
        ("RequestedProcedureDescription", item),
        ("ScheduledProcedureStepID", steps[0]),
        ("ScheduledProcedureStepDescription", steps[0]),
    ):
        if value := text(source.get(name), 16 if name.endswith("ID") else 64):
            setattr(request, name, value)
    sex = str(item.get("PatientSex") or "")
    return replace(
        identity,
        study_uid=usable_uid(item.get("StudyInstanceUID")) or identity.study_uid,
        patient_name=person(item.get("PatientName")),
        patient_id=text(item.get("PatientID"), 64),
        birth_date=date(item.get("PatientBirthDate")),
        sex=sex if sex in ("M", "F", "O") else "",
        accession=text(item.get("AccessionNumber"), 16),
        referring_physician=person(item.get("ReferringPhysicianName")),
        request=request if len(request) else None,
    )


def text(value: Any, length: int) -> str:
    """Return a value as it may stand in LO (64) or SH (16): one line, no backslash."""
    letters = str(value if value is not None else "").replace("\\", "/")
    return "".join(letter for letter in letters if letter.isprintable()).strip()[:length].strip()


def person(value: Any) -> str:
    """Return a person name (PN); one without a caret stays one name."""
    groups = text(value, 194).split("=")[:3]
    return str(PersonName("=".join(group[:64].rstrip() for group in groups)))


def date(value: Any) -> str:
    """Return a date (DA), from XML (``2026-11-24``) or DICOM (``20261124``)."""
    found = re.match(r"^(\d{4})-?(\d\d)-?(\d\d)", str(value or ""))
    if not found or not ("01" <= found[2] <= "12" and "01" <= found[3] <= "31"):
        return ""
    return "".join(found.groups())


def time(value: Any) -> str:
    """Return a time of day (TM), from XML (``13:05:10.5``) or DICOM (``130510``)."""
    found = re.match(r"^(\d\d):?(\d\d):?(\d\d)", str(value or ""))
    if not found or found[1] > "23" or found[2] > "59" or found[3] > "59":
        return ""
    return "".join(found.groups())
