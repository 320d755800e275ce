"""What an image says as DICOM: place, values, and what it may be taken for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from agent.dicom import DicomExam, DicomExams
from agent.dicom_base import Context, equipment
from agent.dicom_identity import from_header
from agent.dicom_settings import DicomSettings
from gadgets.items import Role
from protocols.meta import meta_text, parse_meta


def mr(datasets, description):
    return [
        d
        for d in datasets
        if d.SOPClassUID in (MRImageStorage, EnhancedMRImageStorage)
        and d.SeriesDescription == description
    ]


def frames(dataset):
    """Yield position, orientation, values and window of every frame of an object."""
    if dataset.SOPClassUID == MRImageStorage:
        values = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(
            dataset.get("RescaleIntercept", 0)
        )
        yield (
            dataset.ImagePositionPatient,
            dataset.ImageOrientationPatient,
            dataset.PixelSpacing,
            values,
        )
        return
    shared = dataset.SharedFunctionalGroupsSequence[0]
    scale = shared.PixelValueTransformationSequence[0]
    for group, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array):
        yield (
            group.PlanePositionSequence[0].ImagePositionPatient,
            shared.PlaneOrientationSequence[0].ImageOrientationPatient,
            shared.PixelMeasuresSequence[0].PixelSpacing,
            pixels * float(scale.RescaleSlope) + float(scale.RescaleIntercept),
        )


def in_order(datasets):
    def depth(frame):
        return float(np.dot(frame[0], np.cross(*np.split(np.array(frame[1], float), 2))))

    return sorted((frame for dataset in datasets for frame in frames(dataset)), key=depth)


def test_every_voxel_lies_where_the_slab_has_it(exam, helpers):
    slab = helpers.SLAB
    found = in_order(mr(exam, "t2_tse_sag"))
    assert len(found) == slab.slices
    for z, (position, orientation, spacing, values) in enumerate(found):
        row, column = np.split(np.array(orientation, float), 2)
        for y, x in ((0, 0), (79, 95), (24, 44)):
            point = np.array(position, float) + x * spacing[1] * row + y * spacing[0] * column
            np.testing.assert_allclose(point, slab.volume.point(z, y, x), atol=1e-3)
        assert values[24, 44] == values.max()


def test_values_are_those_of_the_image(exam, helpers):
    for (_, _, _, values), image in zip(in_order(mr(exam, "t2_tse_sag")), helpers.images()):
        np.testing.assert_allclose(values, abs(image.data[0]), atol=0.01)


def test_a_float_map_keeps_its_values(exam):
    """A noise map of 1.2, 2.2, ... : its g-factor, of an image without acceleration."""
    found = in_order(mr(exam, "t2_tse_sag g-factor"))
    levels = [float(values.mean()) for *_, values in found]
    np.testing.assert_allclose(levels, [1.2, 2.2, 3.2, 4.2], atol=1e-3)


def test_the_window_is_of_values(exam, helpers):
    message = helpers.messages(helpers.mrd_header(), helpers.images())[0]
    meta = parse_meta(message.attributes)
    dataset = mr(exam, "t2_tse_sag")[0]
    if dataset.SOPClassUID == EnhancedMRImageStorage:
        dataset = dataset.PerFrameFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert float(dataset.WindowWidth) == float(meta["WindowWidth"])


def test_what_a_network_made_says_so(exam, helpers):
    for dataset in mr(exam, "[AI] t2_tse_sag"):
        assert dataset.ImageType[0] == "DERIVED"
        assert helpers.NETWORK in dataset.DerivationDescription
        made = {item.ManufacturerModelName: item for item in dataset.ContributingEquipmentSequence}
        assert made[helpers.NETWORK].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert made[helpers.NETWORK].DeviceUID
        assert "SyntheticData" not in dataset


def test_another_version_of_a_network_is_another_device(helpers):

    header = helpers.mrd_header()
    context = Context(DicomSettings(), from_header(header, "m"), "m", header)
    uids = [
        equipment(context, Role.ACQUIRED, [name])[-1].DeviceUID for name in ("a 1 (00)", "a 2 (01)")
    ]
    assert uids[0] != uids[1]


def test_what_was_reconstructed_without_a_network_is_original(classic):
    for dataset in mr(classic, "t2_tse_sag"):
        assert dataset.ImageType[:2] == ["ORIGINAL", "PRIMARY"]


def test_a_synthetic_image_cannot_be_mistaken(exam, helpers):
    synthetic = mr(exam, "[SYNTHETIC] t2_tse_sag")
    acquired = mr(exam, "t2_tse_sag")
    assert synthetic
    for dataset in synthetic:
        assert dataset.SyntheticData == "YES"
        assert dataset.ImageType[0] == "DERIVED"
        assert "SYNTHETIC" in dataset.DerivationDescription
        purposes = [
            item.PurposeOfReferenceCodeSequence[0].CodeValue
            for item in dataset.ContributingEquipmentSequence
        ]
        assert "109100" in purposes
        assert dataset.SeriesInstanceUID != acquired[0].SeriesInstanceUID
    for (*_, values), (*_, plain) in zip(in_order(synthetic), in_order(acquired)):
        corner = values[:8] != plain[:8]
        assert corner[:, :40].mean() > 0.5
        np.testing.assert_array_equal(values[16:], plain[16:])


def test_synthetic_images_name_the_acquired_ones_of_their_slice(exam):
    acquired = {d.SOPInstanceUID for d in mr(exam, "t2_tse_sag")}
    for dataset in mr(exam, "[SYNTHETIC] t2_tse_sag"):
        if dataset.SOPClassUID == EnhancedMRImageStorage:
            group = dataset.SharedFunctionalGroupsSequence[0].DerivationImageSequence[0]
            sources = group.SourceImageSequence
        else:
            sources = dataset.SourceImageSequence
        assert {s.ReferencedSOPInstanceUID for s in sources} & acquired


def test_every_object_is_marked_for_research_and_says_what_is_burned_in(exam):
    for dataset in exam:
        assert dataset.ContentQualification == "RESEARCH"
        if "PixelData" in dataset and dataset.Modality != "SEG":
            assert dataset.BurnedInAnnotation == "NO"


def test_data_of_a_simulated_scanner_are_synthetic_in_every_object(helpers):
    for dataset in helpers.write_exam("classic", model="Virtual scanner"):
        assert dataset.SyntheticData == "YES"


def test_patient_and_study_are_those_of_the_header(exam):
    for dataset in exam:
        assert str(dataset.PatientName) == "Müller^Änne"
        assert dataset.PatientID == "4711"
        assert dataset.PatientBirthDate == "19700102"
        assert dataset.AccessionNumber == "815"
        assert dataset.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.1"
        if "FrameOfReferenceUID" in dataset:
            assert dataset.FrameOfReferenceUID == "1.2.826.0.1.3680043.8.498.2"


def test_the_same_measurement_makes_the_same_uids_and_another_one_others(helpers):

    header = helpers.mrd_header()

    def uids(measurement):
        found = []
        sink = DicomExam(DicomSettings(), found.append).sink(measurement, header)
        for message in helpers.messages(header, helpers.images()):
            sink.add(message)
        assert sink.close() == []
        return {d.SOPInstanceUID for d in found}

    assert uids("m1") == uids("m1")
    assert not uids("m1") & uids("m2")


def test_a_series_that_was_cut_short_is_another_object(helpers):

    header = helpers.mrd_header()
    found = []
    for count in (4, 3):
        exam = DicomExam(DicomSettings(objects="enhanced"), found.append)
        sink = exam.sink("m", header)
        for message in helpers.messages(header, helpers.images())[:count]:
            sink.add(message)
        sink.close()
    assert found[0].SOPInstanceUID != found[1].SOPInstanceUID
    assert found[0].SeriesInstanceUID == found[1].SeriesInstanceUID


def test_what_will_be_done_again_leaves_no_half_series(helpers):

    header = helpers.mrd_header()
    found = []
    sink = DicomExam(DicomSettings(objects="enhanced"), found.append).sink("m", header)
    sink.add(helpers.messages(header, helpers.images())[0])
    sink.close(complete=False)
    assert found == []


def test_a_bad_image_is_counted_and_stops_no_other(helpers):

    header = helpers.mrd_header()
    good = helpers.messages(header, helpers.images())
    bad = replace(good[0], data=np.zeros((2, 1, 4, 4), np.float32))
    found = []
    sink = DicomExam(DicomSettings(), found.append).sink("m", header)
    for message in (bad, *good):
        sink.add(message)
    errors = sink.close()
    assert len(errors) == 1 and "channel" in errors[0]
    assert len(found) == len(good)


@pytest.mark.parametrize("name", ["A\\B", "x" * 300, "a\nb", "=^=^=^=", "\udcff", "^"])
def test_hostile_names_still_make_legal_objects(helpers, name, tmp_path):

    header = helpers.mrd_header()
    header.subjectInformation.patientName = name
    header.subjectInformation.patientID = name
    header.studyInformation.studyInstanceUID = name
    header.measurementInformation.protocolName = name
    found = []
    sink = DicomExam(DicomSettings(), found.append).sink("m", header)
    sink.add(helpers.messages(header, helpers.images())[0])
    assert sink.close() == []
    [path] = helpers.save(found, tmp_path)
    dataset = dcmread(path)
    assert len(dataset.PatientID) <= 64 and "\\" not in dataset.PatientID
    assert dataset.StudyInstanceUID.startswith("2.25.")


def test_no_header_at_all_is_no_reason_to_lose_images(helpers):

    for kind in ("classic", "enhanced"):
        found = []
        sink = DicomExam(DicomSettings(objects=kind), found.append).sink("m", None)
        for message in helpers.messages(helpers.mrd_header(), helpers.images()):
            sink.add(message)
        assert sink.close() == []
        assert found


def rgb_message(helpers, header):
    message = helpers.messages(header, helpers.images())[0]
    head = message.header.copy()
    head["image_type"], head["image_series_index"] = 6, 7
    data = np.zeros((3, 1, 80, 96), np.uint16)
    data[0] = 200
    return replace(message, header=head, data=data)


def test_a_colour_image_becomes_a_secondary_capture_with_a_mark(helpers):
    header, found = helpers.mrd_header(), []
    sink = DicomExam(DicomSettings(), found.append).sink("m", header)
    sink.add(rgb_message(helpers, header))
    assert sink.close() == []
    [dataset] = found
    assert dataset.SOPClassUID == SecondaryCaptureImageStorage
    assert tuple(dataset.pixel_array[70, 90]) == (200, 0, 0)
    assert (dataset.pixel_array[:8] == 255).any()


def test_pages_of_a_summary_are_secondary_captures_of_one_series(helpers):
    header, found = helpers.mrd_header(), []
    columns, rows = helpers.SLAB.matrix
    grey = np.linspace(0, 255, rows * columns, dtype=np.float32).reshape(1, rows, columns)
    pages = helpers.images(data=grey, quantity="summary", role=Role.DERIVED, history=("AI",))
    sink = DicomExam(DicomSettings(objects="enhanced"), found.append).sink("m", header)
    for message in helpers.messages(header, pages):
        sink.add(message)
    assert sink.close() == []
    assert {d.SOPClassUID for d in found} == {SecondaryCaptureImageStorage}
    assert len({d.SeriesInstanceUID for d in found}) == 1
    assert {d.SeriesDescription for d in found} == {"[AI] t2_tse_sag summary"}
    assert [d.InstanceNumber for d in found] == [1, 2, 3, 4]
    np.testing.assert_allclose(found[0].pixel_array[..., 1], grey[0], atol=0.6)


def test_measurements_of_one_study_share_an_exam_and_others_do_not(helpers):
    exams = DicomExams(DicomSettings(), lambda dataset: None)
    header, other = helpers.mrd_header(), helpers.mrd_header()
    other.studyInformation.studyInstanceUID = "1.2.3"
    assert exams.of(header, "m1") is exams.of(helpers.mrd_header(), "m2")
    assert exams.of(other, "m3") is not exams.of(header, "m1")
    assert exams.of(None, "m4") is not exams.of(None, "m5")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "BoresideRole",
                "BoresideQuantity",
                "BoresideAI",
                "ImageProcessingHistory",
                "ImageComments",
                "RescaleSlope",
                "RescaleIntercept",
                "WindowCenter",
                "WindowWidth",
                "EchoTime",
                "InversionTime",
            ]
        ),
        st.one_of(
            st.text(max_size=40),
            st.sampled_from(["synthetic", "nan", "inf", "1e300", "-1e-300", "0", "1e-320", "-3"]),
            st.lists(st.text(max_size=80), max_size=3),
        ),
    ),
    st.sampled_from(["classic", "enhanced"]),
)
def test_whatever_stands_in_the_attributes_an_object_comes_out(helpers, attributes, kind):
    header, found = helpers.mrd_header(), []
    message = helpers.messages(header, helpers.images())[0]
    sink = DicomExam(DicomSettings(objects=kind), found.append).sink("m", header)
    try:
        text = meta_text({**parse_meta(message.attributes), **attributes})
    except ValueError:  # Not XML: it cannot have come.
        assume(False)
    sink.add(replace(message, attributes=text))
    assert sink.close() == []
    [dataset] = found
    buffer = DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    assert dcmread(buffer).SOPInstanceUID == dataset.SOPInstanceUID
