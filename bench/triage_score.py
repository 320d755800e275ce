"""One exam through labelling and triage, compared with its truth; results are kept.

What was scored once by the same code and numbers is read back, so that a long run may be broken off
and go on.
"""

import hashlib
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bench.triage_baseline import THRESHOLDS, regions
from bench.triage_exams import KEPT
from engines.engine import Engine, Options, load_engine
from gadgets.items import LabelMap
from gadgets.label import label
from gadgets.triage import look, triage
from gadgets.triage_anatomy import find_anatomy
from gadgets.triage_examples import Example, True3D, seen
from gadgets.triage_model import shipped
from protocols.findings import ExamFindings, Finding, FindingType

WATER = (
    FindingType.OEDEMA_LIKE,
    FindingType.REPLACEMENT_LIKE,
    FindingType.FLUID_AND_FAT_LIKE,
)
"""What is bright on STIR; one such finding on another is right, if not of the right name."""
BESIDE_MM = 3.0
_CODE = ("gadgets/triage*", "gadgets/measures*.py", "gadgets/label*.py", "gadgets/evidence.py",
         "bench/triage_score.py", "bench/triage_baseline.py")  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """One exam and what was found.

    Attributes
    ----------
    family : str
    truth : tuple of True3D
    shapes : tuple of (FindingType, str, float)
    found : ExamFindings
    seconds : float
    hits, plain_hits : dict of int to bool, to list of bool
        By lesion; of the baseline, by threshold.
    false, plain_false : int, list of int
        Findings of signal where there is nothing.
    load : int
        Findings of oedema that healthy people have.
    scores, right : list
        Probability of each candidate bright on STIR, and whether it is a lesion.
    """

    family: str
    truth: tuple[True3D, ...]
    shapes: tuple[tuple[FindingType, str, float], ...]
    found: ExamFindings
    seconds: float
    hits: dict[int, bool]
    plain_hits: dict[int, list[bool]]
    false: int
    plain_false: list[int]
    load: int
    scores: list[float]
    right: list[bool]


def scored(
    exams: Iterator[tuple[str, Callable[[], Example]]], exact: bool = False
) -> Iterator[Scored]:
    """Yield the scores of named exams, with the network's labels or with exact ones."""
    for name, make in exams:
        path = KEPT / f"scores-{version()}" / f"{name}{'-exact' if exact else ''}.pickle"
        if not path.exists():
            exam = make()
            result = score(exam, None if exact else network_labels(name, exam))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(pickle.dumps(result))
            part.rename(path)
        yield pickle.loads(path.read_bytes())


def network_labels(name: str, exam: Example) -> LabelMap:
    """Return the network's labels of the T2 series: those which triage takes the bones from."""
    weights = _engine().manifest
    path = KEPT / f"{name}.t2-labels-{weights.version if weights else ''}.pickle"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(label(exam.series[1], _engine())))
    found: LabelMap = pickle.loads(path.read_bytes())
    return found


@cache
def _engine() -> Engine:
    return load_engine("labels", options=Options(threads=2))


@cache
def version() -> str:
    """Return a name for all that results depend on."""
    root = Path(__file__).parent.parent
    content = hashlib.sha256((_engine().manifest or "none").__repr__().encode())
    for path in sorted(path for pattern in _CODE for path in root.glob(pattern)):
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def score(exam: Example, labels: LabelMap | None = None) -> Scored:
    """Look at an exam, with exact labels or those given, and compare with the truth."""
    given = seen(exam, labels)
    start = time.perf_counter()
    found = triage(exam.family, given)
    seconds = time.perf_counter() - start
    signals = [one for one in found.findings if one.type is not FindingType.CANAL_NARROW]
    at = {one.number: voxels(exam, one.number) for one in exam.truth}
    hits = {
        one.number: any(meets(each, at[one.number]) for each in signals
                        if (each.type in WATER) == (one.type in WATER))
        for one in exam.truth
    }  # fmt: skip
    load, false = 0, 0
    for each in signals:
        met = [one for one in exam.truth if meets(each, at[one.number])]
        if any(not one.normal for one in met):
            continue
        if each.type in WATER and any(one.normal and one.type in WATER for one in met):
            load += 1
        else:
            false += 1
    plain = regions(exam, exam.labels if labels is None else labels)
    plain_hits = {
        one.number: [_plain_hit(exam, one.number, parts) for parts in plain] for one in exam.truth
    }
    plain_false = [_plain_false(exam, parts) for parts in plain]
    scores, right = _candidates(exam, labels)
    return Scored(
        exam.family, exam.truth, exam.shapes, found, seconds, hits, plain_hits, false, plain_false,
        load, scores, right,
    )  # fmt: skip


def _candidates(exam: Example, labels: LabelMap | None) -> tuple[list[float], list[bool]]:
    given = seen(exam, labels)
    known = given[-1].labels
    assert known is not None
    scores, right = [], []
    anatomy = find_anatomy(known, given[-1].series.volume)
    for one in look(given[-1], given, anatomy, shipped(), False).seen:
        if one.region.kind == "water":
            z, y, x = one.region.voxels.T
            part = (slice(None), *one.anatomy.box[1:])
            inside = exam.lesions[part][z, y, x]
            ill = [each.number for each in exam.truth if each.type in WATER]
            scores.append(one.probability)
            right.append(bool(np.isin(inside, ill).mean() >= 0.2))
    return scores, right


def voxels(exam: Example, number: int) -> np.ndarray:
    """Return the positions of the voxels of a lesion, float64 (n, 3), LPS mm."""
    volume = exam.labels.volume
    at = np.argwhere(exam.lesions == number)[:, ::-1] - np.array(volume.shape[::-1]) // 2
    return np.asarray(volume.position + at * volume.spacing @ volume.directions)


def meets(one: Finding, lesion: np.ndarray) -> bool:
    """Whether a finding is on a lesion: a quarter of it in the box, or the box' centre in it."""
    if not len(lesion):
        return False
    centre, half = np.array(one.centre_mm), np.array(one.extent_mm) / 2 + BESIDE_MM
    inside = np.all(np.abs(lesion - centre) <= half, axis=1).mean()
    low, high = lesion.min(axis=0) - BESIDE_MM, lesion.max(axis=0) + BESIDE_MM
    return bool(inside >= 0.25 or np.all((centre >= low) & (centre <= high)))


def _plain_hit(exam: Example, number: int, found: Sequence[np.ndarray]) -> bool:
    lesion = exam.lesions == number
    total = np.count_nonzero(lesion)
    shares = [np.count_nonzero(lesion[tuple(part.T)]) for part in found]
    return any(
        share >= 0.25 * total or share >= 0.25 * len(part) for share, part in zip(shares, found)
    )


def _plain_false(exam: Example, found: Sequence[np.ndarray]) -> int:
    kept = [each.number for each in exam.truth if not each.normal or each.type in WATER]
    return sum(not np.isin(exam.lesions[tuple(part.T)], kept).any() for part in found)


def threshold(healthy: Sequence[Scored], least: float) -> int:
    """Index of the baseline's lowest threshold with as few false findings as ours, or `least`."""
    allowed = max(least, float(np.mean([one.false for one in healthy])))
    for number in range(len(THRESHOLDS)):
        if np.mean([one.plain_false[number] for one in healthy]) <= allowed:
            return number
    return len(THRESHOLDS) - 1
