"""PS3.15 Annex E, Basic Profile: nothing of the patient is left, everything else still fits."""

from datetime import datetime

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from agent.dicom_deidentify import NotDeidentifiable, Pseudonyms, deidentify, profile

KEY = bytes(range(32))
IDENTIFYING = ("Müller", "Änne", "4711", "19700102", "Beispiel", "815", "Hospital")


def without_reports(datasets):
    return [d for d in datasets if d.SOPClassUID != Comprehensive3DSRStorage]


def uids(dataset):
    """Every UID of an object that is not one of the standard's."""
    return {
        str(value)
        for element in dataset.iterall()
        if element.VR == "UI"
        for value in (element.value if element.VM > 1 else [element.value])
        if value and not str(value).startswith("1.2.840.10008.")
    }


def test_no_value_of_the_patient_is_left_anywhere(exam):
    pseudonyms = Pseudonyms(KEY)
    for dataset in without_reports(exam):
        clean = deidentify(dataset, pseudonyms)
        for element in clean.iterall():
            if element.VR not in ("UI", "SQ", "OW", "OB", "DS", "FD"):  # Digits by chance.
                for word in IDENTIFYING:
                    assert word not in str(element.value), element
        assert not uids(clean) & uids(dataset)


def test_references_still_lead_to_each_other(classic):
    pseudonyms = Pseudonyms(KEY)
    clean = [deidentify(d, pseudonyms) for d in without_reports(classic)]
    instances = {d.SOPInstanceUID for d in clean}
    assert len({d.StudyInstanceUID for d in clean}) == 1
    assert len({d.PatientID for d in clean}) == 1
    assert len(instances) == len(clean)
    for dataset in clean:
        for source in dataset.get("SourceImageSequence", ()):
            assert source.ReferencedSOPInstanceUID in instances


def test_another_key_makes_other_pseudonyms(classic):
    one, other = (deidentify(classic[0], Pseudonyms(key)) for key in (KEY, KEY[::-1]))
    assert one.PatientID != other.PatientID
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_it_says_what_was_done_in_codes(classic):
    clean = deidentify(classic[0], Pseudonyms(KEY))
    assert clean.PatientIdentityRemoved == "YES"
    assert [c.CodeValue for c in clean.DeidentificationMethodCodeSequence] == ["113100"]
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    moved = deidentify(classic[0], Pseudonyms(KEY), "modified")
    codes = [c.CodeValue for c in moved.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert moved.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_of_a_patient_move_together_and_stay_dates(classic):
    days = set()
    for dataset in without_reports(classic):
        moved = deidentify(dataset, Pseudonyms(KEY), "modified")
        before, after = (datetime.strptime(d.StudyDate, "%Y%m%d") for d in (dataset, moved))
        days.add((before - after).days)
        assert moved.StudyTime == dataset.StudyTime
    assert len(days) == 1 and 365 <= days.pop() <= 3650


def test_by_default_no_date_is_left(classic):
    clean = deidentify(classic[0], Pseudonyms(KEY))
    today = datetime.now().strftime("%Y")
    for element in clean.iterall():
        if element.VR in ("DA", "DT"):
            assert not str(element.value or "").startswith(today), element


def test_pixels_and_geometry_stay(classic):
    for dataset in without_reports(classic):
        clean = deidentify(dataset, Pseudonyms(KEY))
        assert clean.PixelData == dataset.PixelData
        assert clean.get("ImagePositionPatient") == dataset.get("ImagePositionPatient")
        assert clean.ContentQualification == "RESEARCH"


def test_what_was_made_by_a_network_still_says_so(classic, helpers):
    clean = [
        deidentify(d, Pseudonyms(KEY))
        for d in without_reports(classic)
        if "[SYNTHETIC]" in d.get("SeriesDescription", "")
    ]
    assert clean
    for dataset in clean:
        assert dataset.SyntheticData == "YES" and "SYNTHETIC" in dataset.ImageType


def test_private_attributes_curves_and_overlays_go(classic):
    dataset = Dataset.from_json(classic[0].to_json())
    dataset.BurnedInAnnotation = "NO"
    dataset.private_block(0x0041, "SOMEBODY", create=True).add_new(1, "LO", "Müller")
    dataset.add_new(0x50000010, "US", 1)
    dataset.add_new(0x60023000, "OW", b"\0\0")
    dataset.add_new(0x60024000, "LT", "Müller")
    clean = deidentify(dataset, Pseudonyms(KEY))
    for tag in (0x00411001, 0x50000010, 0x60023000, 0x60024000):
        assert tag not in clean


def test_what_may_show_or_tell_the_patient_is_not_taken(classic):
    [report] = [d for d in classic if d.SOPClassUID == Comprehensive3DSRStorage]
    with pytest.raises(NotDeidentifiable, match="report"):
        deidentify(report, Pseudonyms(KEY))
    for said in ("YES", None):
        dataset = Dataset.from_json(classic[0].to_json())
        dataset.BurnedInAnnotation = said
        if said is None:
            del dataset.BurnedInAnnotation
        with pytest.raises(NotDeidentifiable, match="Burned"):
            deidentify(dataset, Pseudonyms(KEY))


def test_every_attribute_of_the_table_is_acted_on():
    """One object with all of Table E.1-1: what is left is what its action allows."""
    fixed, patterns = profile()
    assert len(fixed) + len(patterns) == 620  # And "private attributes", which have no tag.
    dataset = Dataset()
    dataset.Modality = "MR"
    for tag in fixed:
        try:
            kind = dictionary_VR(tag)
        except KeyError:
            continue
        if kind == "SQ" or tag >> 16 in (0, 2, 4):
            continue
        value = {
            "UI": "1.2.3.4",
            "DA": "20200102",
            "TM": "101112",
            "DT": "20200102101112",
            "PN": "Müller",
            "AS": "050Y",
            "DS": "47",
            "IS": "47",
            "US": 47,
            "FD": 47.0,
            "FL": 47.0,
            "UL": 47,
            "SS": 47,
            "SL": 47,
            "OB": b"47",
            "OW": b"47",
            "UN": b"47",
            "AT": 0x00100010,
        }.get(kind, "MUELLER")
        dataset.add_new(tag, kind, value)
    before = len(dataset)
    assert before > 450
    dataset.StudyDescription = "Mueller"
    clean = deidentify(dataset, Pseudonyms(KEY))
    for element in clean:
        action = fixed.get(int(element.tag), ("", False))[0].split("/")[-1]
        if action and element.keyword not in (
            "PatientID",
            "PatientName",
            "DeidentificationMethod",
        ):
            assert action != "X", element
            assert element.value != dataset[element.tag].value, element
            assert action != "Z" or not element.value, element


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms(b"short")


@pytest.mark.peers
def test_dciodvfy_has_no_error_on_the_export(exam, helpers, tmp_path):
    program = helpers.program("dciodvfy")
    for dates in ("removed", "modified"):
        clean = [deidentify(d, Pseudonyms(KEY), dates) for d in without_reports(exam)]
        for path in helpers.save(clean, tmp_path / dates):
            lines = helpers.run(program, path).splitlines()
            assert not [li for li in lines if li.startswith("Error") and "0x001c" not in li], path
