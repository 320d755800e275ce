"""Exams with known lesions, as files: what triage is fitted on and scored with.

A folder of them is what `boreside phantoms --exams` writes, or a site's own of the same arrays (see
`scanner.triage_data.arrays_of`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gadgets.items import Labelled, LabelMap, Series
from protocols.findings import FindingType, Quality, Side, Structure
from protocols.geometry import Volume

WEIGHTINGS = ("t1", "t2", "stir")
LEAST_ML, LEAST_CNR = 0.3, 4.0
"""From here on a lesion in the imaged volume counts."""
SURE = 0.95
"""Of exact landmarks and levels."""


@dataclass(frozen=True)
class True3D:
    """One lesion as far as it lies in the imaged volume.

    Attributes
    ----------
    number : int
        Its value in `Example.lesions`.
    type, structure, side, level
        As of findings.
    family : str
    normal : bool
        Healthy people have it too.
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

    @property
    def counts(self) -> bool:
        """Whether a reader could be expected to see it."""
        return self.volume_ml >= LEAST_ML and abs(self.cnr) >= LEAST_CNR


@dataclass(frozen=True)
class Example:
    """All series of one exam, and its truth.

    Attributes
    ----------
    series : tuple of Series
        T1, T2, STIR, on the same voxels.
    labels : LabelMap
        Exact.
    lesions : uint8 (z, y, x)
        Number of the lesion that takes a voxel; 0 is none.
    shares : float32 (kind, z, y, x)
        What disease took of each voxel, 0 to 1, by `gadgets.triage_model.KINDS`.
    truth : tuple of True3D
    family : str
    shapes : tuple of (FindingType, str, float)
        What departs from the shape of a healthy spine: type, level, how much (mm of an offset, lost
        share of height or diameter, grade of a disc).
    """

    series: tuple[Series, ...]
    labels: LabelMap
    lesions: np.ndarray
    shares: np.ndarray
    truth: tuple[True3D, ...]
    family: str
    shapes: tuple[tuple[FindingType, str, float], ...] = ()


def example(arrays: Mapping[str, np.ndarray]) -> Example:
    """Return the exam that arrays describe.

    Raises
    ------
    KeyError
        One of them is missing.
    """
    shape = arrays["stir"].shape
    volume = Volume(
        arrays["position"], arrays["directions"], (shape[0], shape[1], shape[2]), arrays["spacing"]
    )
    thickness = float(arrays["thickness_mm"])
    series = tuple(
        Series(f"{name}_sag", arrays[name], volume, name, thickness_mm=thickness)
        for name in WEIGHTINGS
    )
    marks = dict(zip(arrays["landmark_names"].tolist(), arrays["landmarks"]))
    sure = {**dict.fromkeys(marks, SURE), "levels": SURE}
    names = tuple(arrays["structures"].tolist())
    truth = tuple(
        True3D(**{**one, "type": FindingType(one["type"]), "side": Side(one["side"]),
                  "structure": Structure(one["structure"])})
        for one in json.loads(str(arrays["truth"]))
    )  # fmt: skip
    labels = LabelMap(arrays["structure"], names, volume, marks, sure)
    family = str(arrays["family"])
    shapes = tuple(
        (FindingType(kind), level, value)
        for kind, level, value in json.loads(str(arrays["shapes"]))
    )
    return Example(series, labels, arrays["lesion"], arrays["shares"], truth, family, shapes)


def read(path: Path) -> Example:
    """Read one file."""
    with np.load(path) as file:
        return example(dict(file))


def paths(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder in order.

    Raises
    ------
    FileNotFoundError
        There are none.
    """
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise FileNotFoundError(f"{folder}: expected the files of `boreside phantoms --exams`")
    yield from found


def seen(exam: Example, labels: LabelMap | None = None) -> list[Labelled]:
    """Return an exam as triage takes it: with exact labels, or with those given."""
    known = exam.labels if labels is None else labels
    return [
        Labelled(one, known, Quality(series=one.name, snr=10.0, motion=0.0)) for one in exam.series
    ]
