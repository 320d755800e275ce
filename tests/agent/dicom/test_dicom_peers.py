"""Other people's programs read our objects: dciodvfy finds no error, dcm2niix converts each series,
highdicom reads segmentation and report back.

The dciodvfy of Debian 12 is of June 2022 and does not know Synthetic Data (0008,001C), which the
standard has had since 2022d. That line, and no other, is allowed.
"""

import json

import highdicom
import numpy as np
import pytest
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from agent.dicom import DicomExam
from agent.dicom_settings import DicomSettings
from protocols.geometry import Volume
from protocols.meta import meta_text
from protocols.mrd_types import IMAGE_HEADER, ImageMessage

UNKNOWN_IN_2022 = "recognized standard attribute - (0x0008,0x001c)"


def errors(helpers, path):
    lines = helpers.run(helpers.program("dciodvfy"), path).splitlines()
    return [line for line in lines if line.startswith("Error") and UNKNOWN_IN_2022 not in line]


@pytest.mark.peers
def test_dciodvfy_has_no_error_on_any_object(exam, helpers, tmp_path):
    found = {path.name: errors(helpers, path) for path in helpers.save(exam, tmp_path)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.peers
def test_dciodvfy_has_no_error_where_nothing_is_known(helpers, tmp_path):

    out = []
    for kind in ("classic", "enhanced"):
        sink = DicomExam(DicomSettings(objects=kind), out.append).sink(kind, None)
        for message in helpers.messages(helpers.mrd_header(), helpers.images()):
            sink.add(message)
        sink.close()
    found = {path.name: errors(helpers, path) for path in helpers.save(out, tmp_path)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_slab_of_two_echoes_in_signed_pixels_lies_where_it_is(helpers, tmp_path, kind):
    """What other programs send through us: 3D, several contrasts, int16, below zero."""
    place = helpers.SLAB.volume
    where = Volume(place.position, place.directions, (6, 80, 96), np.array([2.0, 2.0, 3.0]))
    out = []
    sink = DicomExam(DicomSettings(objects=kind), out.append).sink("m", helpers.mrd_header())
    data = np.full((1, 6, 80, 96), -5, np.int16)
    data[0, 4, 24, 44] = 900
    for echo in range(2):
        head = np.zeros(1, IMAGE_HEADER)[0]
        head["position"] = where.position
        head["read_dir"], head["phase_dir"], head["slice_dir"] = where.directions
        head["field_of_view"] = (192.0, 160.0, 18.0)
        head["image_series_index"], head["image_index"], head["contrast"] = 1, echo + 1, echo
        sink.add(ImageMessage(head, data + np.int16(echo), meta_text({"EchoTime": 5 + 5 * echo})))
    assert sink.close() == []
    assert sum(int(d.get("NumberOfFrames", 1)) for d in out) == 12
    paths = helpers.save(out, tmp_path / "in")
    found = {path.name: errors(helpers, path) for path in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}
    (tmp_path / "out").mkdir()
    helpers.run(helpers.program("dcm2niix"), "-f", "%e", "-o", tmp_path / "out", tmp_path / "in")
    paths = sorted((tmp_path / "out").glob("*.nii"), key=echo_time)
    assert [echo_time(path) for path in paths] == pytest.approx([0.005, 0.010])
    volumes = [read_nifti(path) for path in paths]
    arrays = [array for array, _ in volumes]
    assert [array.max() for array in arrays] == [900, 901]
    assert [array.min() for array in arrays] == [-5, -4]
    affine = volumes[0][1]
    [index] = np.argwhere(arrays[0] == 900)
    point = affine[:3, :3] @ index + affine[:3, 3]
    np.testing.assert_allclose(point * (-1, -1, 1), where.point(4, 24, 44), atol=0.05)


@pytest.mark.peers
def test_dcm2niix_converts_each_series_to_where_it_is(exam, helpers, tmp_path):
    program = helpers.program("dcm2niix")
    chosen = [d for d in exam if d.Modality == "MR"]
    helpers.save(chosen, tmp_path / "in")
    (tmp_path / "out").mkdir()
    helpers.run(program, "-f", "%j", "-o", tmp_path / "out", tmp_path / "in")
    volumes = {path.stem: path for path in (tmp_path / "out").glob("*.nii")}
    assert set(volumes) == {d.SeriesInstanceUID for d in chosen}
    plain = next(d for d in chosen if d.SeriesDescription == "t2_tse_sag")
    array, affine = read_nifti(volumes[plain.SeriesInstanceUID])
    assert array.shape == (96, 80, 4)
    brightest = np.argwhere(array == array.max()).mean(axis=0)
    point = affine[:3, :3] @ brightest + affine[:3, 3]
    z = (helpers.SLAB.slices - 1) / 2
    expected = helpers.SLAB.volume.point(z, 24.5, 44.5)
    np.testing.assert_allclose(point * (-1, -1, 1), expected, atol=0.05)  # NIfTI is RAS.
    about = json.loads(volumes[plain.SeriesInstanceUID].with_suffix(".json").read_text())
    assert about["EchoTime"] == pytest.approx(0.1)
    assert about["MagneticFieldStrength"] == 3


def echo_time(path):
    return json.loads(path.with_suffix(".json").read_text())["EchoTime"]


def read_nifti(path):
    """Return values and affine of an uncompressed NIfTI-1 file."""
    raw = path.read_bytes()
    shape = np.frombuffer(raw, "<i2", 8, 40)
    kind = {4: "<i2", 512: "<u2", 16: "<f4"}[int(np.frombuffer(raw, "<i2", 1, 70)[0])]
    offset = int(np.frombuffer(raw, "<f4", 1, 108)[0])
    slope, intercept = np.frombuffer(raw, "<f4", 2, 112)
    affine = np.eye(4)
    affine[:3] = np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    size = [int(n) for n in shape[1 : 1 + shape[0]]]
    array = np.frombuffer(raw, kind, int(np.prod(size)), offset).reshape(size, order="F")
    return array * (slope or 1) + intercept, affine


def test_the_segmentation_holds_every_label_in_its_place(exam, helpers, tmp_path):
    [path] = helpers.save([d for d in exam if d.SOPClassUID == SegmentationStorage], tmp_path)
    seg = highdicom.seg.segread(path)
    labels = helpers.labels()
    numbers = {n: seg.get_segment_description(n) for n in seg.segment_numbers}
    assert [d.segment_label for d in numbers.values()] == ["L3", "L3/L4", "SI_left", "S1/S2"]
    assert numbers[1].segmented_property_type.value == "36470004"  # SNOMED CT: L3 vertebra
    assert numbers[1].algorithm_type.value == "AUTOMATIC"
    volume = seg.get_volume(combine_segments=True)
    for number, description in numbers.items():
        found = np.argwhere(volume.array == number)
        points = (volume.affine @ np.c_[found, np.ones(len(found))].T)[:3].T
        label = labels.names.index(description.segment_label)
        expected = [labels.volume.point(*index) for index in np.argwhere(labels.labels == label)]
        assert len(points) == len(expected)
        np.testing.assert_allclose(
            points[np.lexsort(points.round(2).T)],
            np.array(expected)[np.lexsort(np.array(expected).round(2).T)],
            atol=0.01,
        )


def test_the_report_says_what_was_found_where(exam, helpers, tmp_path):
    [path] = helpers.save([d for d in exam if d.SOPClassUID == Comprehensive3DSRStorage], tmp_path)
    report = highdicom.sr.srread(path)
    assert report.CompletionFlag == "COMPLETE" and report.VerificationFlag == "UNVERIFIED"
    [group] = report.content.get_volumetric_roi_measurement_groups()
    assert group.tracking_identifier == "f1"
    assert group.finding_type.meaning == "Oedema-like signal"
    values = {m.name.meaning: m.value for m in group.get_measurements()}
    assert values["Volume"] == pytest.approx(0.3)
    assert values["Depth"] == pytest.approx(4.0)
    assert group.finding_sites[0].laterality.meaning == "Left"
    corners = np.reshape(group.roi.graphic_data, (-1, 3))
    np.testing.assert_allclose(corners.mean(axis=0), (12.0, -30.0, 45.0))
    np.testing.assert_allclose(np.ptp(corners, axis=0), (10.0, 8.0, 6.0))
    measured = [
        (m.name.meaning, m.value, m.unit.value)
        for g in report.content.get_image_measurement_groups()
        for m in g.get_measurements()
    ]
    assert ("Canal ap", 14.2, "mm") in measured
    assert ("Fraction shown", 40.0, "%") in measured


def test_the_report_has_no_word_for_a_disease(exam):
    [report] = [d for d in exam if d.SOPClassUID == Comprehensive3DSRStorage]
    text = str(report).lower()
    for word in ("itis", "fracture", "tumour", "tumor", "cancer", "metasta", "stenosis", "hernia"):
        assert word not in text, word


def test_the_reports_images_are_those_that_were_written(exam):
    [report] = [d for d in exam if d.SOPClassUID == Comprehensive3DSRStorage]
    written = {d.SOPInstanceUID for d in exam}
    referenced = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert referenced and referenced <= written
