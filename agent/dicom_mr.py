"""Classic MR Image objects (PS3.3 A.4): one for each slice of an image message."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage
from pydicom.valuerep import DSfloat, format_number_as_ds

from agent.dicom_base import (
    Context,
    begin,
    derivation,
    equipment,
    series_description,
)
from agent.dicom_codes import code_item
from agent.dicom_picture import Picture
from agent.dicom_uid import uid
from gadgets.items import Role

_VALUE_3 = {
    "t1": "T1 MAP",
    "t1_map": "T1 MAP",
    "t2": "T2 MAP",
    "t2_map": "T2 MAP",
    "pd": "DENSITY MAP",
    "phase": "PHASE MAP",
}
VALUE_4 = {
    "water": "WATER",
    "fat": "FAT",
    "pdff": "FAT_FRACTION",
    "fat_fraction": "FAT_FRACTION",
    "water_fraction": "WATER_FRACTION",
    "in_phase": "IN_PHASE",
    "out_of_phase": "OUT_OF_PHASE",
    "opposed_phase": "OUT_OF_PHASE",
    "r2_star": "R2_STAR_MAP",
    "t2_star": "T2_STAR_MAP",
    "t1": "T1_MAP",
    "t1_map": "T1_MAP",
    "t2": "T2_MAP",
    "t2_map": "T2_MAP",
    "pd": "PROTON_DENSITY",
    "field_map": "FIELD_MAP",
}
"""Defined terms of PS3.3 C.8.16.1.4 for our quantities."""


def mr_images(
    context: Context, picture: Picture, series_uid: str, sources: Sequence[Dataset]
) -> Iterator[Dataset]:
    """Yield the objects of an image.

    Parameters
    ----------
    context : Context
    picture : Picture
        Not RGB.
    series_uid : str
    sources : sequence of Dataset
        Objects which a derived or synthetic image was made of.
    """
    slices = len(picture.pixels)
    for z in range(slices):
        instance_uid = uid("instance", series_uid, *picture.key, z)
        synthetic = picture.role is Role.SYNTHETIC
        dataset = begin(context, MRImageStorage, instance_uid, "MR", synthetic)
        describe_series(dataset, context, picture, series_uid)
        dataset.InstanceNumber = max(picture.index - 1, 0) * slices + z + 1
        dataset.ImageType = image_type(picture)
        _describe_sequence(dataset, context, picture)
        _place(dataset, picture, z)
        write_pixels(dataset, picture.pixels[z])
        _scale(dataset, picture)
        dataset.BurnedInAnnotation = "NO"
        if sources:
            dataset.SourceImageSequence = [source_item(source) for source in sources]
        yield dataset


def image_type(picture: Picture) -> list[str]:
    """Return Image Type: ORIGINAL is only what was reconstructed without a network."""
    plain = picture.role is Role.ACQUIRED and not picture.networks
    quantity = _normal(picture.quantity)
    values = [
        "ORIGINAL" if plain else "DERIVED",
        "SECONDARY" if picture.role is Role.SYNTHETIC else "PRIMARY",
        _VALUE_3.get(quantity, "PHASE MAP" if picture.component == "PHASE" else "OTHER"),
    ]
    if quantity != "magnitude" and quantity not in _VALUE_3:
        values.append(VALUE_4.get(quantity, _code_string(quantity)))
    if picture.networks:
        values.append("AI")
    if picture.role is Role.SYNTHETIC:
        values.append("SYNTHETIC")
    return values


def _normal(quantity: str) -> str:
    return quantity.lower().replace("-", "_").replace(" ", "_")


def _code_string(word: str) -> str:
    allowed = (letter for letter in word.upper() if letter.isascii() and letter.isalnum())
    return "".join(allowed)[:16] or "OTHER"


def describe_series(dataset: Dataset, context: Context, picture: Picture, series_uid: str) -> None:
    """Fill the General Series, Frame of Reference and what describes an image in words."""
    about = getattr(context.header, "measurementInformation", None)
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = context.series_number(picture.series)
    dataset.SeriesDescription = series_description(context, picture)
    dataset.ProtocolName = context.step
    dataset.PatientPosition = context.identity.position
    describe_body(dataset, context)
    if sequence := str(getattr(about, "sequenceName", None) or ""):
        dataset.SequenceName = _code_string(sequence)
    dataset.FrameOfReferenceUID = context.identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.ContributingEquipmentSequence = equipment(context, picture.role, picture.networks)
    dataset.DerivationDescription = derivation(picture)
    if picture.comment:
        dataset.ImageComments = picture.comment[:10240]


def describe_body(dataset: Dataset, context: Context) -> None:
    """Fill the body part, or else say that its side is not known (type 2C)."""
    if context.identity.body_part:
        dataset.BodyPartExamined = context.identity.body_part
    elif dataset.SOPClassUID != EnhancedMRImageStorage:  # Which has it in its frames.
        dataset.Laterality = ""


def source_item(source: Dataset) -> Dataset:
    """Return an item of the Source Image Sequence."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [
        code_item(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    return item


def write_pixels(dataset: Dataset, pixels: Any) -> None:
    """Fill the Image Pixel module: (y, x) or (frame, y, x), 16 bits."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(pixels.dtype == np.int16)
    dataset.PixelData = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()


def decimal(value: float) -> DSfloat:
    """Return a decimal string (DS) of at most 16 letters."""
    return DSfloat(format_number_as_ds(float(value)))


def sequence_parameter(context: Context, name: str, contrast: int = 0) -> float | None:
    """Return TR, TE, TI (ms) or flipAngle_deg of the MRD header, of one contrast."""
    values = list(getattr(getattr(context.header, "sequenceParameters", None), name, None) or [])
    return float(values[min(contrast, len(values) - 1)]) if values else None


def _describe_sequence(dataset: Dataset, context: Context, picture: Picture) -> None:
    header = context.header
    encoding = header.encoding[0] if header is not None else None
    parameters = getattr(header, "sequenceParameters", None)
    kind = str(getattr(parameters, "sequence_type", None) or "").lower()
    te = picture.te_ms or sequence_parameter(context, "TE", picture.counters["contrast"])
    ti = picture.ti_ms or sequence_parameter(context, "TI")
    spin_echo = "spin" in kind or "tse" in kind
    scanning = ["SE"] if spin_echo else ["GR"] if kind else ["RM"]
    dataset.ScanningSequence = [*scanning, "IR"] if ti else scanning
    dataset.SequenceVariant = "SK" if spin_echo and "turbo" in kind else "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D" if len(picture.pixels) > 1 else "2D"
    tr = sequence_parameter(context, "TR")
    dataset.RepetitionTime = decimal(tr) if tr else None
    dataset.EchoTime = decimal(te) if te else None
    if ti:
        dataset.InversionTime = decimal(ti)
    if flip := sequence_parameter(context, "flipAngle_deg"):
        dataset.FlipAngle = decimal(flip)
    dataset.EchoTrainLength = getattr(encoding, "echoTrainLength", None)
    dataset.EchoNumbers = picture.counters["contrast"] + 1
    dataset.AcquisitionNumber = picture.counters["repetition"] + 1
    system = getattr(header, "acquisitionSystemInformation", None)
    if field := getattr(system, "systemFieldStrength_T", None):
        dataset.MagneticFieldStrength = decimal(field)
    conditions = getattr(header, "experimentalConditions", None)
    if frequency := getattr(conditions, "H1resonanceFrequency_Hz", None):
        dataset.ImagingFrequency = decimal(frequency / 1e6)
        dataset.ImagedNucleus = "1H"


def _place(dataset: Dataset, picture: Picture, z: int) -> None:
    volume = picture.volume
    dataset.ImagePositionPatient = [decimal(v) for v in volume.point(z, 0, 0)]
    dataset.ImageOrientationPatient = [decimal(v) for v in volume.directions[:2].ravel()]
    # Between rows first, then between columns.
    dataset.PixelSpacing = [decimal(volume.spacing[1]), decimal(volume.spacing[0])]
    dataset.SliceThickness = decimal(picture.thickness_mm)
    normal = np.cross(volume.directions[0], volume.directions[1])
    dataset.SliceLocation = decimal(float(volume.point(z, 0, 0) @ normal))
    if len(picture.pixels) > 1:
        dataset.SpacingBetweenSlices = decimal(volume.spacing[2])


def _scale(dataset: Dataset, picture: Picture) -> None:
    if (picture.slope, picture.intercept) != (1.0, 0.0):
        dataset.RescaleSlope = decimal(picture.slope)
        dataset.RescaleIntercept = decimal(picture.intercept)
        dataset.RescaleType = "US"
    dataset.WindowCenter, dataset.WindowWidth = (decimal(value) for value in picture.window)
