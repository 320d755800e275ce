"""Enhanced MR Image objects (PS3.3 A.36): all slices of one contrast and time in one object.

Image Type begins with DERIVED in all of them: ORIGINAL would require SAR, gradient output, coils
and k-space filters of the acquisition, which the MRD header does not hold. Nor is there a
repetition time: its macro requires SAR and operating mode.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedMRImageStorage

from agent.dicom_base import Context, begin
from agent.dicom_codes import COMPUTED, code_item
from agent.dicom_mr import (
    VALUE_4,
    decimal,
    describe_series,
    sequence_parameter,
    source_item,
    write_pixels,
)
from agent.dicom_picture import Picture, stored
from agent.dicom_uid import uid
from gadgets.items import Role
from gadgets.series import weighting
from protocols.geometry import Vector

_REGIONS = {
    "LSPINE": codes.SCT.LumbarSpine,
    "TSPINE": codes.SCT.ThoracicSpine,
    "CSPINE": codes.SCT.CervicalSpine,
    "SPINE": codes.SCT.Spine,
    "SSPINE": codes.SCT.Sacrum,
}
_WHOLE_BODY = Code("38266002", "SCT", "Entire body")
_CONTRAST = {
    "t1": "T1",
    "t2": "T2",
    "t2_fs": "T2",
    "stir": "STIR",
    "pd": "PROTON_DENSITY",
}
_TIMES = ("contrast", "set", "phase", "repetition")


def enhanced_mr_images(
    context: Context, pictures: Sequence[Picture], series_uid: str, sources: Sequence[Dataset]
) -> Iterator[Dataset]:
    """Yield the objects of a series: one of each contrast, time, orientation and matrix.

    An object is one volume: readers which know no vendor of that name mix up the frames of more.

    Parameters
    ----------
    context : Context
    pictures : sequence of Picture
        Of one series, in any order; not RGB.
    series_uid : str
    sources : sequence of Dataset
        Objects which a derived or synthetic series was made of.
    """
    groups: dict[Any, list[Picture]] = defaultdict(list)
    for picture in pictures:
        axes = tuple(picture.volume.directions[:2].round(3).ravel().tolist())
        times = tuple(picture.counters[name] for name in _TIMES)
        groups[times, axes, picture.pixels.shape[1:], picture.pixels.dtype.str].append(picture)
    for number, (_, group) in enumerate(sorted(groups.items()), 1):
        yield _one(context, _in_order(group), series_uid, number, sources)


@dataclass(frozen=True)
class _Frame:
    picture: Picture
    z: int
    place: Vector
    depth: float


def _in_order(pictures: Sequence[Picture]) -> list[_Frame]:
    """Return frames by position."""
    frames = []
    for picture in sorted(pictures, key=lambda picture: picture.key):
        axes = picture.volume.directions
        normal = np.cross(axes[0], axes[1])
        for z in range(len(picture.pixels)):
            place = picture.volume.point(z, 0, 0)
            frames.append(_Frame(picture, z, place, round(float(place @ normal), 3)))
    return sorted(frames, key=lambda frame: frame.depth)


def _one(
    context: Context,
    frames: Sequence[_Frame],
    series_uid: str,
    number: int,
    sources: Sequence[Dataset],
) -> Dataset:
    networks = dict.fromkeys(name for frame in frames for name in frame.picture.networks)
    first = replace(
        frames[0].picture,
        networks=tuple(networks),
        expected_network=any(frame.picture.expected_network for frame in frames),
    )
    keys = [value for frame in frames for value in (*frame.picture.key, frame.z)]
    # Of all its frames: what is cut short is not the same object as the whole.
    instance_uid = uid("instance", series_uid, *keys)
    synthetic = first.role is Role.SYNTHETIC
    dataset = begin(context, EnhancedMRImageStorage, instance_uid, "MR", synthetic)
    describe_series(dataset, context, first, series_uid)
    now = datetime.now()
    dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.InstanceNumber = number
    dataset.AcquisitionNumber = 1
    dataset.NumberOfFrames = len(frames)
    dataset.AcquisitionContextSequence = []
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BurnedInAnnotation = "NO"
    dataset.ImageType = _frame_type(context, first)
    _describe_frame(dataset, context, first)
    system = getattr(context.header, "acquisitionSystemInformation", None)
    if field := getattr(system, "systemFieldStrength_T", None):
        dataset.MagneticFieldStrength = float(field)
    dataset.ResonantNucleus = "1H"
    dataset.ApplicableSafetyStandardAgency = context.settings.safety_agency
    pixels, slope, intercept = _one_scale(frames)
    write_pixels(dataset, pixels)
    _index(dataset, context, frames)
    dataset.SharedFunctionalGroupsSequence = [_shared(context, first, sources)]
    scale = Dataset()
    scale.RescaleIntercept, scale.RescaleSlope = decimal(intercept), decimal(slope)
    scale.RescaleType = "US"
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [scale]
    if sources:
        dataset.SourceImageEvidenceSequence = _evidence(sources)
    return dataset


def _one_scale(frames: Sequence[_Frame]) -> tuple[NDArray[Any], float, float]:
    """Return pixels (frame, y, x) with one slope and intercept: not all readers look for more."""
    pixels = np.stack([frame.picture.pixels[frame.z] for frame in frames])
    scales = [(frame.picture.slope, frame.picture.intercept) for frame in frames]
    if len(set(scales)) == 1:
        return pixels, *scales[0]
    slopes, intercepts = np.array(scales).T[:, :, None, None]
    return stored(pixels * slopes + intercepts)


def _frame_type(context: Context, picture: Picture) -> list[str]:
    quantity = picture.quantity.lower().replace("-", "_")
    return [
        "DERIVED",
        "PRIMARY",
        _acquisition_contrast(context, picture, "OTHER"),
        VALUE_4.get(quantity, "NONE"),
    ]


def _acquisition_contrast(context: Context, picture: Picture, otherwise: str) -> str:
    if context.header is None:
        return otherwise
    return _CONTRAST.get(weighting(context.header, picture.counters["contrast"]), otherwise)


def _describe_frame(dataset: Dataset, context: Context, picture: Picture) -> None:
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.ComplexImageComponent = picture.component
    dataset.AcquisitionContrast = _acquisition_contrast(context, picture, "UNKNOWN")


def _index(dataset: Dataset, context: Context, frames: Sequence[_Frame]) -> None:
    """Fill the Multi-frame Dimension module and the groups of each frame."""
    organization = Dataset()
    organization.DimensionOrganizationUID = uid("dimensions", dataset.SOPInstanceUID)
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = []
    for keyword in ("StackID", "InStackPositionNumber"):
        item = Dataset()
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
        item.DimensionIndexPointer = tag_for_keyword(keyword)
        item.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        item.DimensionDescriptionLabel = keyword
        dataset.DimensionIndexSequence.append(item)
    places = {depth: n for n, depth in enumerate(sorted({frame.depth for frame in frames}), 1)}
    dataset.PerFrameFunctionalGroupsSequence = [
        _per_frame(context, frame, places[frame.depth]) for frame in frames
    ]


def _per_frame(context: Context, frame: _Frame, place: int) -> Dataset:
    picture, item = frame.picture, Dataset()
    content = Dataset()
    content.FrameAcquisitionNumber = 1
    content.StackID = "1"
    content.InStackPositionNumber = place
    content.DimensionIndexValues = [1, place]
    if picture.comment:
        content.FrameComments = picture.comment[:10240]
    item.FrameContentSequence = [content]
    position = Dataset()
    position.ImagePositionPatient = [decimal(value) for value in frame.place]
    item.PlanePositionSequence = [position]
    kind = Dataset()
    kind.FrameType = _frame_type(context, picture)
    _describe_frame(kind, context, picture)
    item.MRImageFrameTypeSequence = [kind]
    window = Dataset()
    window.WindowCenter, window.WindowWidth = (decimal(value) for value in picture.window)
    item.FrameVOILUTSequence = [window]
    te = picture.te_ms or sequence_parameter(context, "TE", picture.counters["contrast"])
    if te:
        echo = Dataset()
        echo.EffectiveEchoTime = te
        item.MREchoSequence = [echo]
    return item


def _shared(context: Context, picture: Picture, sources: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    measures = Dataset()
    spacing = picture.volume.spacing
    measures.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]
    measures.SliceThickness = decimal(picture.thickness_mm)
    item.PixelMeasuresSequence = [measures]
    orientation = Dataset()
    axes = picture.volume.directions[:2]
    orientation.ImageOrientationPatient = [decimal(value) for value in axes.ravel()]
    item.PlaneOrientationSequence = [orientation]
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    region = _REGIONS.get(context.identity.body_part.replace(" ", ""), _WHOLE_BODY)
    anatomy.AnatomicRegionSequence = [code_item(region)]
    item.FrameAnatomySequence = [anatomy]
    if sources:
        derived = Dataset()
        derived.DerivationDescription = "computed of these images"
        derived.DerivationCodeSequence = [code_item(COMPUTED)]
        derived.SourceImageSequence = [source_item(source) for source in sources]
        item.DerivationImageSequence = [derived]
    return item


def _evidence(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the Source Image Evidence Sequence: studies, their series, their instances."""
    studies: dict[str, dict[str, list[Dataset]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        instance = Dataset()
        instance.ReferencedSOPClassUID = source.SOPClassUID
        instance.ReferencedSOPInstanceUID = source.SOPInstanceUID
        studies[source.StudyInstanceUID][source.SeriesInstanceUID].append(instance)
    items = []
    for study_uid, series in studies.items():
        study = Dataset()
        study.StudyInstanceUID = study_uid
        study.ReferencedSeriesSequence = []
        for series_uid, instances in series.items():
            entry = Dataset()
            entry.SeriesInstanceUID = series_uid
            entry.ReferencedSOPSequence = instances
            study.ReferencedSeriesSequence.append(entry)
        items.append(study)
    return items
