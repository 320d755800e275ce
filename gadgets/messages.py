"""Header and meta attributes of images that leave: what FIRE, Gadgetron and people read of them.

Keys and spellings are those of Siemens FIRE (python-ismrmrd-server) and of Gadgetron
(``mri_core_def.h``), where both have one both are sent. Boreside's own keys begin with "Boreside".
"""

from collections.abc import Sequence

import numpy as np

from gadgets.items import Image, Role
from protocols.geometry import directions
from protocols.header import Header
from protocols.meta import Value
from protocols.mrd_types import IMAGE_HEADER, ImageType

_FROM_READOUT = (
    "version",
    "measurement_uid",
    "position",
    "patient_table_position",
    "acquisition_time_stamp",
    "physiology_time_stamp",
    "user_int",
    "user_float",
)
_GADGETRON_ROLE = {"g-factor": "Gfactor", "snr": "SNR_MAP"}
_NAME = {"magnitude": "BORESIDE", "g-factor": "BORESIDE_GFACTOR", "snr": "BORESIDE_SNR"}


def image_header(image: Image, field_of_view: Sequence[float], series: int, index: int) -> np.void:
    """Return the MRD header of an image's magnitude, or of a map of it.

    Parameters
    ----------
    image : Image
    field_of_view : 3 floats
        x, y, z in mm.
    series, index : int
        ``image_series_index`` and ``image_index``.
    """
    header: np.void = np.zeros(1, IMAGE_HEADER)[0]
    for name in _FROM_READOUT:
        header[name] = image.header[name]
    header["read_dir"], header["phase_dir"], header["slice_dir"] = directions(image.header)
    for name in ("slice", "contrast", "phase", "repetition", "set"):
        header[name] = getattr(image.key, name)
    header["field_of_view"] = field_of_view
    header["image_type"] = ImageType.MAGNITUDE
    header["image_series_index"] = series
    header["image_index"] = index
    return header


def image_meta(
    header: Header,
    image: Image,
    quantity: str,
    pixels: np.ndarray,
    series: int,
    scale: float = 1.0,
    saturated: int = 0,
) -> dict[str, Value]:
    """Return the meta attributes of an image message.

    Parameters
    ----------
    header : Header
    image : Image
    quantity : str
        What the pixels hold: "magnitude", "g-factor", "snr", ...
    pixels : (z, y, x)
    series : int
    scale : float
        Pixels per unit of the image. It is taken back by ``RescaleSlope`` where the image is in SNR
        units; other units mean nothing, and there the pixels themselves are the values.
    saturated : int
        Pixels that were too bright for their type.
    """
    slope = 1 / scale if image.snr_units else 1.0
    center, width = _window(pixels, slope)
    history = ["BORESIDE", *image.history]
    name = _NAME.get(quantity, f"BORESIDE_{quantity.upper()}")
    comment = _comment(image, quantity, saturated)
    read, phase, normal = directions(image.header)
    meta: dict[str, Value] = {
        "DataRole": "Image" if quantity == "magnitude" else "Quantitative",
        "ImageProcessingHistory": history,
        "SequenceDescriptionAdditional": name,
        "SeriesDescriptionAdditional": name,
        "ImageComments": comment,
        "ImageComment": comment,
        "ImageRowDir": [f"{value:.18f}" for value in read],
        "ImageColumnDir": [f"{value:.18f}" for value in phase],
        "ImageSliceNormDir": [f"{value:.18f}" for value in normal],
        "Keep_image_geometry": 1,
        "RescaleSlope": slope,
        "RescaleIntercept": 0,
        "WindowCenter": center,
        "WindowWidth": width,
        "GADGETRON_DataRole": _GADGETRON_ROLE.get(quantity, "Image"),
        "GADGETRON_ImageProcessingHistory": history,
        "GADGETRON_ImageComment": comment,
        "GADGETRON_SeqDescription": name,
        "GADGETRON_ScaleRatio": scale,
        "GADGETRON_ScaleOffset": 0,
        # Gadgetron's windows apply to pixels.
        "GADGETRON_WindowCenter": round(center / slope),
        "GADGETRON_WindowWidth": round(width / slope),
        "BoresideRole": str(Role.DERIVED if quantity in _GADGETRON_ROLE else image.role),
        "BoresideQuantity": quantity,
        "BoresideReadouts": image.n_readouts,
        "BoresideAcceleration": round(float(image.acceleration), 4),
        "BoresideComplete": int(image.complete),
        "BoresideSNRUnits": int(image.snr_units),
        "BoresideSaturatedPixels": saturated,
    }
    for key, gadgetron_key, times in _times(header):
        if times:
            time = times[min(image.key.contrast, len(times) - 1)]
            meta |= {key: time, gadgetron_key: time}
    return meta | image.attributes


def _times(header: Header) -> list[tuple[str, str, list[float]]]:
    parameters = header.sequenceParameters
    te = list(parameters.TE) if parameters else []
    ti = list(parameters.TI) if parameters else []
    return [("EchoTime", "GADGETRON_TE", te), ("InversionTime", "GADGETRON_TI", ti)]


def _window(pixels: np.ndarray, slope: float) -> tuple[int, int]:
    """Return centre and width, whole numbers, for rescaled values.

    FIRE flattens the display where they are not whole numbers.
    """
    top = float(np.percentile(pixels, 99.5)) * slope
    width = max(2, round(top))
    return width // 2, width


def _comment(image: Image, quantity: str, saturated: int) -> str:
    parts = [f"Boreside {quantity}"]
    if image.role is not Role.ACQUIRED:
        parts.append(str(image.role))
    if image.acceleration > 1:
        parts.append(f"R={image.acceleration:.2f}")
    if quantity == "magnitude":
        parts.append("SNR units" if image.snr_units else "arbitrary units")
    if not image.complete:
        parts.append("INCOMPLETE: lines are missing")
    if saturated:
        parts.append(f"{saturated} pixels saturated")
    return "; ".join(parts)
