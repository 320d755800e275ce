"""Secondary Capture objects (PS3.3 A.8.1): pages of a summary, and RGB images."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from agent.dicom_base import Context, begin, equipment
from agent.dicom_identity import text
from agent.dicom_mr import describe_body, source_item
from agent.dicom_uid import uid
from gadgets.items import Role


def secondary_captures(
    context: Context,
    pages: NDArray[np.uint8],
    title: str,
    series_number: int,
    key: Sequence[str | int],
    first: int = 1,
    role: Role = Role.DERIVED,
    networks: Sequence[str] = (),
    sources: Sequence[Dataset] = (),
) -> Iterator[Dataset]:
    """Yield the objects of pages, one each.

    Parameters
    ----------
    context : Context
    pages : uint8 (page, y, x, rgb)
        Already marked as what they are: nothing is drawn into them here.
    title : str
        Description of the series.
    series_number : int
    key : sequence of str or int
        What tells this series from others of the measurement.
    first : int
        Number of the first page in its series.
    role : Role
    networks : sequence of str
    sources : sequence of Dataset
        Objects which are shown.
    """
    now = datetime.now()
    for number, page in enumerate(pages, first):
        instance_uid = uid("capture", context.measurement, *key, number)
        synthetic = role is Role.SYNTHETIC
        dataset = begin(context, SecondaryCaptureImageStorage, instance_uid, "OT", synthetic)
        dataset.SeriesInstanceUID = uid("capture series", context.measurement, *key)
        dataset.SeriesNumber = series_number
        dataset.SeriesDescription = text(title, 64)
        describe_body(dataset, context)
        dataset.InstanceNumber = number
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ConversionType = "WSD"
        dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        dataset.PatientOrientation = ""
        dataset.ContributingEquipmentSequence = equipment(context, role, networks)
        # The standard asks for marks that identify the patient: there are none.
        dataset.BurnedInAnnotation = "NO"
        dataset.SamplesPerPixel = 3
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
        dataset.Rows, dataset.Columns = page.shape[:2]
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelRepresentation = 0
        raw = np.ascontiguousarray(page).tobytes()
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
        if sources:
            dataset.SourceImageSequence = [source_item(source) for source in sources]
        yield dataset
