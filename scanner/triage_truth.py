"""The truth of simulated exams: which lesions lie in the imaged volume, and what shapes depart."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from protocols.findings import FindingType, Side, Structure
from scanner.phantom import Lesion, LumbarSpine, SpineParameters
from scanner.phantom.lesion import MAKEUP
from scanner.phantom.variants import disc_names


@dataclass(frozen=True)
class True3D:
    """One lesion as far as it lies in the imaged volume.

    Attributes
    ----------
    number : int
        Its value among the lesions.
    type, structure, side, level, family, normal
        As in `scanner.phantom.Lesion`.
    volume_ml : float
        Within the imaged volume.
    cnr : float
        Of its mean against the same place without it, on STIR without noise, in noise sigmas.
    """

    number: int
    type: FindingType
    structure: Structure
    side: Side
    level: str | None
    family: str
    normal: bool
    volume_ml: float
    cnr: float


Mask = tuple[True3D, Callable[[np.ndarray], np.ndarray]]
"""A lesion, and which points (point, 3) belong to it."""


def shapes_of(parameters: SpineParameters) -> tuple[tuple[str, str, float], ...]:
    """Return what departs from the shape of a healthy spine: type of finding, level, how much.

    Millimetres of a slip, lost share of a body's height or of the canal's diameter, Pfirrmann-like
    grade of a disc.
    """
    variants = parameters.variants
    found = []
    discs = {name.split("/")[0]: name for name in disc_names(variants.lumbar_bodies)}
    for slip in variants.slips:
        found.append((FindingType.OFFSET.value, discs[slip.level], slip.offset_mm))
    for one in variants.fractures:
        found.append((FindingType.HEIGHT_LOSS.value, one.level, one.loss))
    for disc in variants.discs:
        found.append((FindingType.CANAL_NARROW.value, disc.disc, disc.stenosis))
        found.append((FindingType.DISC_SIGNAL_LOSS.value, disc.disc, disc.grade or 0.0))
    return tuple(found)


def unmeasured(
    number: int, kind: FindingType, structure: Structure, side: Side, level: str | None,
    family: str, normal: bool,
) -> True3D:  # fmt: skip
    """Return a lesion whose volume and contrast are not known yet."""
    return True3D(number, kind, structure, side, level, family, normal, 0.0, 0.0)


def of_lesion(number: int, lesion: Lesion) -> True3D:
    """Return a phantom's lesion, not yet measured."""
    kind = MAKEUP[lesion.kind].type
    where = (lesion.structure, lesion.side, lesion.level)
    return unmeasured(number, kind, *where, lesion.family, lesion.normal)


def share_of(
    patient: LumbarSpine, number: int, lesion: Lesion
) -> Callable[[np.ndarray], np.ndarray]:
    """Whether points (point, 3) belong to a lesion: it takes half of its own severity."""
    centre = patient.to_patient(np.array(lesion.centre))
    reach = (1.6 * max(lesion.radii) + 6) * patient.parameters.size

    def belongs(points: np.ndarray) -> np.ndarray:
        found = np.zeros(len(points), bool)
        near = np.flatnonzero(np.abs(points - centre).max(axis=1) < reach)
        if near.size:
            found[near] = patient.lesion_share(number, points[near]) >= lesion.severity / 2
        return found

    return belongs


def mask_of(
    at: np.ndarray, masks: list[Mask], voxel_ml: float
) -> tuple[np.ndarray, tuple[True3D, ...]]:
    """Return the number of the lesion that takes each voxel, and the lesions that take any."""
    flat = at.reshape(-1, 3)
    numbers, kept = np.zeros(len(flat), np.uint8), []
    for one, belongs in masks:
        here = belongs(flat)
        if here.any():
            numbers[here] = one.number
            volume = float(here.sum()) * voxel_ml
            kept.append(replace(one, volume_ml=volume))
    return numbers.reshape(at.shape[:-1]), tuple(kept)


def measured(
    one: True3D, numbers: np.ndarray, stir: np.ndarray, sigma: float, marrow: np.ndarray
) -> True3D:
    """Return a lesion with its contrast on STIR without noise."""
    here = numbers == one.number
    if not here.any():
        return one
    box = tuple(
        slice(max(0, part.start - 12), part.stop + 12)
        for part in ndimage.find_objects(here.astype(np.uint8))[0]
    )
    near, image, bone = here[box], stir[box], marrow[box] & (numbers[box] == 0)
    ring = bone & ndimage.binary_dilation(near, np.ones((1, 3, 3), bool), iterations=9)
    around = float(np.median(image[ring])) if ring.sum() > 20 else float(np.median(image[bone]))
    inside = near & marrow[box] if (near & marrow[box]).any() else near
    contrast = float(image[inside].mean()) - around
    return replace(one, cnr=contrast / sigma)
