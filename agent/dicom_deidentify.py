"""De-identification for research export: the Basic Profile of PS3.15 Annex E (2024e).

`dicom_profile.csv` is Table E.1-1 as it stands there: each attribute with its action, and whether
the Retain Longitudinal Temporal Information with Modified Dates Option applies to it. Where an
action leaves a choice (X/Z, X/D, ...), the one that keeps an object valid whatever its type is
taken. Of options only that one is offered: dates are moved by the same number of days in all
objects of one patient.

Pixels are not cleaned, so only objects that say that nothing is burned in are taken; texts inside
structured reports are not cleaned, so reports are not taken.
"""

import csv
import hashlib
import hmac
import re
from copy import deepcopy
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from agent.dicom_codes import code_item
from agent.dicom_uid import uid

Dates = Literal["removed", "modified"]
LONGEST_SHIFT_DAYS = 3650
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DUMMY = {
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "CS": "REMOVED",
    "PN": "Removed",
    "AE": "REMOVED",
}
_NUMBERS = ("FD", "FL", "SL", "SS", "UL", "US", "SV", "UV")


class NotDeidentifiable(Exception):
    """What identifies the patient in an object cannot be taken out of it."""


class Pseudonyms:
    """What replaces UIDs, patient ids and dates: the same thing for the same value, by one key.

    Parameters
    ----------
    key : bytes
        Secret of one research project, at least 16 bytes. Who has it can link the export to its
        patients by trying.

    Raises
    ------
    ValueError
        The key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError(f"key of pseudonyms: expected at least 16 bytes, got {len(key)}")
        self._key = key

    def uid(self, value: str) -> str:
        """Return a UID in place of another; those of the standard itself stay."""
        if value.startswith("1.2.840.10008."):
            return value
        return uid("pseudonym", self._digest("uid", value))

    def patient(self, patient_id: str) -> str:
        """Return a name for a patient."""
        return f"BS-{self._digest('patient', patient_id)[:12].upper()}"

    def shift_days(self, patient_id: str) -> int:
        """Return by how many days a patient's dates go back, 1 to 10 years."""
        digest = int(self._digest("shift", patient_id), 16)
        return 365 + digest % (LONGEST_SHIFT_DAYS - 365)

    def _digest(self, kind: str, value: str) -> str:
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()


def deidentify(dataset: Dataset, pseudonyms: Pseudonyms, dates: Dates = "removed") -> Dataset:
    """Return an object without what identifies its patient.

    Parameters
    ----------
    dataset : Dataset
        Not changed.
    pseudonyms : Pseudonyms
    dates : str
        "removed", or "modified" for the option.

    Raises
    ------
    NotDeidentifiable
        A structured report, or pixels that may have something burned in.
    """
    if "ContentSequence" in dataset:
        raise NotDeidentifiable("structured report: its texts cannot be cleaned")
    if any(word in dataset for word in _PIXELS):
        burned = dataset.get("BurnedInAnnotation")
        if burned == "YES" or (burned is None and dataset.get("Modality") != "SEG"):
            raise NotDeidentifiable("image: expected Burned In Annotation NO")
    patient_id = str(dataset.get("PatientID") or "")
    result = deepcopy(dataset)
    shift = pseudonyms.shift_days(patient_id) if dates == "modified" else None
    _clean(result, pseudonyms, shift, set())
    result.PatientID = pseudonyms.patient(patient_id)
    result.PatientName = result.PatientID
    result.PatientIdentityRemoved = "YES"
    result.LongitudinalTemporalInformationModified = dates.upper()
    methods = [codes.DCM.BasicApplicationConfidentialityProfile]
    if shift is not None:
        methods.append(codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption)
    result.DeidentificationMethod = [method.meaning for method in methods]
    result.DeidentificationMethodCodeSequence = [code_item(method) for method in methods]
    if getattr(dataset, "file_meta", None) is not None:
        result.file_meta = deepcopy(dataset.file_meta)
        for name in ("SourceApplicationEntityTitle", "MediaStorageSOPInstanceUID"):
            if name in result.file_meta:
                delattr(result.file_meta, name)
    return result


@cache
def profile() -> tuple[dict[int, tuple[str, bool]], list[tuple[re.Pattern[str], str]]]:
    """Return the table: by tag, action and whether dates may be modified; and the 60xx groups."""
    fixed, patterns = {}, []
    with open(Path(__file__).with_name("dicom_profile.csv"), newline="") as file:
        for row in csv.DictReader(file):
            if "X" in row["tag"]:
                pattern = re.compile(row["tag"].replace("X", "[0-9A-F]"))
                patterns.append((pattern, row["action"]))
            else:
                fixed[int(row["tag"], 16)] = (row["action"], row["modified_dates"] == "C")
    return fixed, patterns


def _clean(dataset: Dataset, pseudonyms: Pseudonyms, shift: int | None, seen: set[int]) -> None:
    if id(dataset) in seen:  # One item may stand in two sequences.
        return
    seen.add(id(dataset))
    fixed, patterns = profile()
    for element in list(dataset):
        tag = int(element.tag)
        action, is_date = fixed.get(tag, ("", False))
        for pattern, of_group in patterns:
            if pattern.fullmatch(f"{tag:08X}"):
                action = of_group
        if element.tag.is_private:
            action = "X"
        if is_date and shift is not None and element.VR in ("DA", "DT", "TM"):
            _move(element, shift)
        elif action:
            _act(dataset, element, action, pseudonyms, shift, seen)
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item, pseudonyms, shift, seen)
        elif element.VR in ("DA", "DT", "TM") and shift is None:
            element.value = ""
        elif element.VR in ("DA", "DT"):
            _move(element, shift or 0)


def _act(
    dataset: Dataset,
    element: DataElement,
    action: str,
    pseudonyms: Pseudonyms,
    shift: int | None,
    seen: set[int],
) -> None:
    # The last of the alternatives is the one that any type of attribute can bear.
    match action.split("/")[-1]:
        case "X":
            del dataset[element.tag]
        case "Z":
            element.value = [] if element.VR == "SQ" else ""
        case "U" | "U*" if element.VR == "SQ":
            for item in element.value:
                _clean(item, pseudonyms, shift, seen)
        case "U":
            values = element.value if element.VM > 1 else [element.value]
            replaced = [UID(pseudonyms.uid(str(value))) for value in values if value]
            element.value = replaced if len(replaced) != 1 else replaced[0]
        case "D" if element.VR == "SQ":
            raise NotDeidentifiable(f"{element.keyword}: its items cannot be cleaned")
        case "D" if element.VR == "UI":
            element.value = UID(pseudonyms.uid(str(element.value)))
        case "D" if element.VR in ("OB", "OW", "UN"):
            element.value = b""
        case "D":
            element.value = 0 if element.VR in _NUMBERS else _DUMMY.get(element.VR, "removed")


def _move(element: DataElement, days: int) -> None:
    """Move dates back; times of day stay."""
    if element.VR == "TM" or not element.value:
        return
    values = element.value if element.VM > 1 else [element.value]
    moved = [_earlier(str(value), days) for value in values]
    element.value = moved if len(moved) > 1 else moved[0]


def _earlier(value: str, days: int) -> str:
    try:
        day = datetime.strptime(value[:8], "%Y%m%d") - timedelta(days=days)
    except ValueError:
        return ""
    return f"{day:%Y%m%d}" + value[8:]
