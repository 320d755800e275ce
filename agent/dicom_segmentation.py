"""Segmentation objects (PS3.3 A.51): what is where in the spine, by highdicom."""

from collections.abc import Sequence
from copy import deepcopy

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from agent.dicom_base import MANUFACTURER, MODEL, Context, equipment, mark, software_version
from agent.dicom_codes import code_item, segment
from agent.dicom_identity import text
from agent.dicom_uid import uid
from gadgets.items import LabelMap, Role


def segmentation(
    context: Context,
    series: str,
    labels: LabelMap,
    sources: Sequence[Dataset],
    networks: Sequence[str] = (),
) -> Dataset:
    """Return the object of a label map.

    Parameters
    ----------
    context : Context
    series : str
        Name of the series that was labelled.
    labels : LabelMap
    sources : sequence of Dataset
        The objects of that series; their pixels are not needed.
    networks : sequence of str
        Name and version of the network that labelled.

    Raises
    ------
    ValueError
        Nothing is labelled, or there are no sources.
    """
    found = [int(label) for label in np.unique(labels.labels) if label]
    if not found or not sources:
        raise ValueError(
            f"segmentation of {series}: expected labels and source images, got "
            f"{len(found)} labels and {len(sources)} images"
        )
    numbers = np.zeros(256, np.uint8)
    numbers[found] = np.arange(1, len(found) + 1)
    steps = labels.volume.directions * labels.volume.spacing[:, None]
    affine = np.eye(4)
    affine[:3, :3] = steps[::-1].T  # z, y, x
    affine[:3, 3] = labels.volume.corner
    name = text(networks[0] if networks else MODEL, 64)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=name,
        family=codes.DCM.ArtificialIntelligence,
        version=software_version(),
        source=MANUFACTURER,
    )
    dataset = Segmentation(
        source_images=_stack(sources),
        pixel_array=highdicom.Volume(
            numbers[labels.labels],
            affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=context.identity.frame_of_reference_uid,
        ),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, labels.names[label], algorithm)
            for number, label in enumerate(found, 1)
        ],
        series_instance_uid=uid("segmentation series", context.measurement, series),
        series_number=context.series_number(90),
        sop_instance_uid=uid("segmentation", context.measurement, series),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=software_version(),
        device_serial_number=context.settings.serial_number,
        content_label="SPINE",
        content_description="Spine, labelled by a neural network",
        series_description=text(f"[AI] {series} labels", 64),
    )
    context.identity.write(dataset)
    mark(dataset, context, synthetic=False)
    dataset.add_new(
        "ContributingEquipmentSequence", "SQ", equipment(context, Role.DERIVED, networks)
    )
    return dataset


def _stack(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the sources that are one stack with the first, copied.

    highdicom takes no others, and writes into those it takes.
    """

    def kind(image: Dataset) -> tuple[object, ...]:
        axes = tuple(round(float(v), 3) for v in image.get("ImageOrientationPatient", ()))
        return image.Rows, image.Columns, axes

    if "NumberOfFrames" in sources[0]:
        return [deepcopy(sources[0])]
    return [deepcopy(image) for image in sources if kind(image) == kind(sources[0])]


def _describe(
    number: int, name: str, algorithm: highdicom.AlgorithmIdentificationSequence
) -> SegmentDescription:
    code, side = segment(name)
    item = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    if side is not None:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(side)]
    return item
