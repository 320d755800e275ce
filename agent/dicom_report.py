"""Structured report of an exam's findings: TID 1500 in a Comprehensive 3D SR, by highdicom.

One measurement group for each finding (with an ellipsoid that fills its bounding box, in patient
coordinates), for each level's measures, for what was shown of each structure, and for the quality
of each series. Words are those of `agent.dicom_codes`: signal, never a disease.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.enum import RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from agent import dicom_codes as words
from agent.dicom_base import MANUFACTURER, MODEL, Context, equipment, mark, software_version
from agent.dicom_uid import uid
from gadgets.items import Role
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Measure, Quality, Side

_SMALLEST_MM = 0.1
Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def report(
    context: Context,
    findings: ExamFindings,
    images: Mapping[str, Sequence[Dataset]],
    networks: Sequence[str] = (),
) -> Dataset:
    """Return the report of an exam.

    Parameters
    ----------
    context : Context
    findings : ExamFindings
    images : mapping of str to sequence of Dataset
        The objects of each series, by its name in ``findings``.
    networks : sequence of str

    Raises
    ------
    ValueError
        None of the series is known.
    """
    evidence = [image for name in findings.series for image in images.get(name, ())]
    if not evidence:
        raise ValueError(
            f"report: expected images of one of {findings.series}, got those of {sorted(images)}"
        )
    groups = list(_groups(context, findings, images, evidence))
    device = DeviceObserverIdentifyingAttributes(
        uid=uid("agent", software_version()),
        name=context.settings.station_name,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
        serial_number=context.settings.serial_number,
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=codes.cid100.MRIUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    digest = hashlib.sha256(findings.model_dump_json().encode()).hexdigest()
    dataset = Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=uid("report series", context.identity.study_uid, findings.exam),
        series_number=9001,
        sop_instance_uid=uid("report", context.identity.study_uid, digest),
        instance_number=len(findings.series),
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_verified=False,
        series_description="[AI] Findings",
    )
    context.identity.write(dataset)
    mark(dataset, context, synthetic=False)
    dataset.add_new(
        "ContributingEquipmentSequence", "SQ", equipment(context, Role.DERIVED, networks)
    )
    return dataset


def _groups(
    context: Context,
    findings: ExamFindings,
    images: Mapping[str, Sequence[Dataset]],
    evidence: Sequence[Dataset],
) -> Iterator[Group]:
    yield _summary(context, findings)
    for finding in findings.findings:
        shown = [image for name in finding.series for image in images.get(name, ())] or evidence
        yield _finding(context, findings.exam, finding, shown)
    levels: dict[str | None, list[Measure]] = defaultdict(list)
    for measure in findings.measures:
        levels[measure.level].append(measure)
    for level, measures in levels.items():
        yield _measures(context, findings.exam, level, measures)
    for coverage in findings.coverage:
        yield _coverage(context, findings.exam, coverage)
    for quality in findings.quality:
        yield _quality(context, findings.exam, quality, images.get(quality.series, ()))


def _track(context: Context, exam: str, name: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid("tracked", context.identity.study_uid, exam, name), name)


def _algorithm() -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=MODEL,
        version=software_version(),
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _number(name: Code, value: float, unit: str) -> Measurement:
    return Measurement(name=name, value=float(f"{value:.6g}"), unit=words.UNITS[unit])


def _answer(name: Code, value: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(name=name, value=words.YES if value else words.NO)


def _comment(group: Group, text: str) -> None:
    group[0].ContentSequence.append(
        TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
    )


def _laterality(side: Side) -> Code | None:
    return None if side is Side.MIDLINE else words.SIDES[side]


def _summary(context: Context, findings: ExamFindings) -> Group:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(context, findings.exam, "exam"),
        algorithm_id=_algorithm(),
        qualitative_evaluations=[
            _answer(words.LEVELS, findings.levels_certain),
            _answer(words.ABSTAINED, findings.abstained is not None),
        ],
    )
    if findings.abstained is not None:
        _comment(group, findings.abstained)
    return group


def _finding(context: Context, exam: str, finding: Finding, shown: Sequence[Dataset]) -> Group:
    centre = np.array(finding.centre_mm)
    half = np.maximum(np.array(finding.extent_mm), _SMALLEST_MM) / 2
    axes = np.concatenate([[centre - step, centre + step] for step in np.diag(half)])
    numbers = [
        _number(words.PROBABILITY, finding.probability, ""),
        _number(words.CNR, finding.cnr, ""),
        _number(codes.SCT.Volume, finding.volume_ml, "mL"),
        _number(codes.SCT.Area, finding.area_mm2, "mm2"),
    ]
    if finding.depth_mm is not None:
        numbers.append(_number(codes.SCT.Depth, finding.depth_mm, "mm"))
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(context, exam, finding.id),
        referenced_volume_surface=VolumeSurface(
            graphic_type="ELLIPSOID",
            graphic_data=axes,
            frame_of_reference_uid=context.identity.frame_of_reference_uid,
            source_images=[
                SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
                for image in shown
            ],
        ),
        finding_type=words.FINDINGS[finding.type],
        finding_sites=[
            FindingSite(
                anatomic_location=words.site(finding.structure, finding.level),
                laterality=_laterality(finding.side),
            )
        ],
        algorithm_id=_algorithm(),
        measurements=numbers,
    )
    if finding.level:
        _comment(group, f"level {finding.level}")
    return group


def _measures(context: Context, exam: str, level: str | None, measures: list[Measure]) -> Group:
    code = words.level(level) if level else None
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(context, exam, f"measures {level or 'spine'}"),
        finding_type=words.MEASURES,
        finding_sites=[FindingSite(anatomic_location=code or codes.SCT.LumbarSpine)],
        algorithm_id=_algorithm(),
        measurements=[
            _number(words.measure(measure.name), measure.value, measure.unit)
            for measure in measures
        ],
    )
    if level and code is None:
        _comment(group, f"level {level}")
    return group


def _coverage(context: Context, exam: str, coverage: EvidenceCoverage) -> Group:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(context, exam, f"coverage {coverage.structure} {coverage.side}"),
        finding_type=words.COVERAGE,
        finding_sites=[
            FindingSite(
                anatomic_location=words.site(coverage.structure, None),
                laterality=_laterality(coverage.side),
            )
        ],
        measurements=[_number(words.SHOWN, 100 * coverage.shown, "%")],
        qualitative_evaluations=[_answer(words.JUDGED, coverage.judged)],
    )


def _quality(context: Context, exam: str, quality: Quality, images: Sequence[Dataset]) -> Group:
    numbers = [_number(words.SNR, quality.snr, ""), _number(words.MOTION, quality.motion, "")]
    if quality.fat_suppression_failed is not None:
        numbers.append(_number(words.FAT_SUPPRESSION, 100 * quality.fat_suppression_failed, "%"))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(context, exam, f"quality {quality.series}"),
        finding_type=words.QUALITY,
        measurements=numbers,
        qualitative_evaluations=[_answer(words.USABLE, quality.usable)],
        source_images=[
            SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)
            for image in images
        ]
        or None,
    )
    if quality.reason:
        _comment(group, quality.reason)
    return group
