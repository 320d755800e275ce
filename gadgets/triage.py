"""Triage: what an exam shows that does not look as its surroundings do, and what it cannot tell.

`triage` is called after each completed series with all series so far. It looks at acquired series
alone. Bone is compared with the patient's own bone on STIR (or fat-suppressed T2), T1 and T2; what
stands out becomes a finding, described by its signal, where a classifier fitted on simulated exams
says so. Where a network reconstructed the images, the conventional ones must say the same. Research
only: simulated exams are all it was made from, see `triage_card.md`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gadgets.evidence import SHOWS_OEDEMA, coverage
from gadgets.fft import threads
from gadgets.items import Labelled, LabelMap, Series
from gadgets.measures import measures
from gadgets.prescription import MIN_CONFIDENCE
from gadgets.sampling import indices, within
from gadgets.series import slab
from gadgets.triage_anatomy import Anatomy, find_anatomy, same_grid
from gadgets.triage_findings import Seen, finding, merged, named
from gadgets.triage_model import KINDS, Parameters, shipped
from gadgets.triage_regions import candidates
from gadgets.triage_shape import shape_findings
from gadgets.triage_signal import Signal, signal_of
from gadgets.triage_unusual import unusual
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Measure

REACH = 0.9
"""Of the bone another series has to show, to be compared."""
SUPPORT = 0.5
"""Of the probability a finding is listed from; with less, the other reconstruction disagrees."""
BONES_FROM = ("t2", "t1")
"""Whose labels tell where bone is: where a lesion is bright on STIR, the labels of the STIR series
itself take it for something else than bone, and it would not be looked at."""
MOST_BAD = 1e-3
"""Share of voxels that may hold no number."""


@dataclass(frozen=True)
class Look:
    """What one fat-suppressed series shows, beside the others.

    Attributes
    ----------
    seen : tuple of Seen
        All candidates.
    anomaly : float or None
    series : tuple of str
        Those compared; none where there was too little bone.
    judged : bool
        Whether there is a classifier for these contrasts.
    """

    seen: tuple[Seen, ...]
    anomaly: float | None
    series: tuple[str, ...]
    judged: bool = False


def triage(
    exam: str, seen: Sequence[Labelled], previous: ExamFindings | None = None
) -> ExamFindings:
    """Return all that can be said of an exam.

    Parameters
    ----------
    exam : str
        Pseudonym.
    seen : sequence of Labelled
        All completed acquired series, in order. One at least.
    previous : ExamFindings or None
        Of the series before: findings that are still there keep their id.

    Returns
    -------
    ExamFindings
        ``abstained`` says why, where nothing may be concluded.

    Raises
    ------
    ValueError
        For no series at all.
    """
    if not seen:
        raise ValueError("expected one completed series or more, got none")
    good, reasons = _good(seen)
    labels = _labels(good)
    measured = _measures(labels, good)
    found: tuple[Finding, ...] = ()
    agreement: bool | None = None
    looks: list[Look] = []
    dry = [one for one in good if one.series.weighting in SHOWS_OEDEMA]
    if labels is None:
        reasons.append("no bone was recognised")
    elif not dry:
        reasons.append("no usable fat-suppressed series yet")
    else:
        parameters = shipped()
        places = [_anatomy(one, good, labels) for one in dry]
        both = any(one.series.conventional is not None for one in good)
        looks, plain = _looks(dry, good, places, parameters, both)
        shown = [listed(one, parameters) for one in looks]
        if both:
            agreement = _agree(looks, plain, parameters)
            shown = [
                [one for one in ours if _supported(one, other, parameters)]
                for ours, other in zip(shown, plain)
            ]
            if not agreement:
                reasons.append("the network's and the conventional reconstruction differ")
        if not any(one.series for one in looks):
            reasons.append("too little bone to compare with in the fat-suppressed series")
        elif not any(one.judged for one in looks):
            reasons.append("too few contrasts beside the fat-suppressed series")
        sure = _certain(labels)
        told = list(merged([finding(one, sure) for ours in shown for one in ours]))
        if not reasons:
            told += shape_findings(labels, measured, dry[0].series, parameters)
        found = named(told, previous)
    anomalies = [one.anomaly for one in looks if one.anomaly is not None]
    return ExamFindings(
        exam=exam,
        series=tuple(one.series.name for one in seen),
        findings=found,
        coverage=_coverage(labels, good),
        measures=measured,
        quality=tuple(one.quality for one in seen),
        levels_certain=labels is not None and _certain(labels),
        agreement=agreement,
        anomaly=max(anomalies) if anomalies else None,
        abstained="; ".join(dict.fromkeys(reasons)) or None,
    )


def _good(seen: Sequence[Labelled]) -> tuple[list[Labelled], list[str]]:
    """Return the series that can be used, and why fat-suppressed ones cannot."""
    good, reasons = [], []
    for one in seen:
        problem = None
        if not one.quality.usable:
            problem = f"{one.series.name}: {one.quality.reason}"
        elif not _is_image(one.series):
            problem = f"{one.series.name}: no image of numbers"
        if problem is None:
            good.append(one)
        elif one.series.weighting in SHOWS_OEDEMA:
            reasons.append(problem)
    return good, reasons


def _is_image(series: Series) -> bool:
    data, volume = np.asarray(series.data), series.volume
    if data.ndim != 3 or data.shape != tuple(volume.shape) or not data.size:
        return False
    geometry = (volume.position, volume.directions, volume.spacing)
    if not all(np.isfinite(part).all() for part in geometry) or np.min(volume.spacing) <= 0:
        return False
    bad = np.count_nonzero(~np.isfinite(data))
    return bool(bad <= MOST_BAD * data.size and np.nanmax(data) > 0)


def _labels(good: Sequence[Labelled]) -> LabelMap | None:
    """Return the label map that is trusted most; of equals, the one that shows the joints."""
    maps = [one.labels for one in good if one.labels is not None and one.labels.labels.any()]
    return max(maps, key=lambda one: one.confidence.get("levels", 0.0), default=None)


def _certain(labels: LabelMap) -> bool:
    return labels.confidence.get("levels", 0.0) >= MIN_CONFIDENCE


def _image(series: Series, conventional: bool) -> np.ndarray:
    data = series.data
    if conventional and series.conventional is not None:
        data = series.conventional
    return np.nan_to_num(np.asarray(data, np.float32), posinf=0.0, neginf=0.0)


def _anatomy(dry: Labelled, good: Sequence[Labelled], labels: LabelMap) -> Anatomy | None:
    """Find the bones of a fat-suppressed series, by the labels of another one if there are any."""
    own = dry.labels if dry.labels is not None and dry.labels.labels.any() else labels
    others = [
        one.labels
        for weighting in BONES_FROM
        for one in good
        if one.series.weighting == weighting and one.labels is not None
    ]
    usable = (one for one in others if one.labels.any() and _covers(one, own))
    return find_anatomy(next(usable, own), dry.series.volume)


def _covers(labels: LabelMap, own: LabelMap) -> bool:
    """Whether the series of some labels shows what others were found in."""
    marks = list(own.landmarks.values())
    return not marks or float(within(labels.volume, np.stack(marks)).mean()) >= REACH


def _looks(
    dry: Sequence[Labelled], good: Sequence[Labelled], places: Sequence[Anatomy | None],
    parameters: Parameters, both: bool,
) -> tuple[list[Look], list[Look]]:  # fmt: skip
    """Look at the shown reconstruction and, where there are both, at the conventional one.

    Beside each other: SciPy's filters let go of the interpreter.
    """

    def of(conventional: bool) -> list[Look]:
        return [look(one, good, at, parameters, conventional) for one, at in zip(dry, places)]

    if not both:
        return of(False), []
    with ThreadPoolExecutor(threads()) as pool:
        shown, plain = pool.map(of, (False, True))
    return shown, plain


def look(
    dry: Labelled, good: Sequence[Labelled], anatomy: Anatomy | None, parameters: Parameters,
    conventional: bool,
) -> Look:  # fmt: skip
    """Look at one fat-suppressed series with the others beside it."""
    if anatomy is None:
        return Look((), None, ())
    data = {"stir": _image(dry.series, conventional)[anatomy.box]}
    names = {"stir": dry.series.name}
    for weighting in ("t1", "t2"):
        for one in good:
            if one.series.weighting == weighting:
                image, share = _beside(anatomy, dry.series, one.series, conventional)
                if share >= REACH:
                    data[weighting], names[weighting] = image, one.series.name
                    break
    signal = signal_of(anatomy, data, parameters)
    if signal is None:
        return Look((), None, ())
    key = "+".join(name for name in ("stir", "t1", "t2") if name in data)
    seen = [
        one for kind in KINDS for one in _candidates(anatomy, signal, kind, key, names, parameters)
    ]
    anomaly = parameters.anomaly(unusual(anatomy, signal)) if len(data) == 3 else None
    judged = parameters.lesion("water", key) is not None
    return Look(tuple(seen), anomaly, tuple(names.values()), judged)


def _candidates(
    anatomy: Anatomy, signal: Signal, kind: str, key: str, names: dict[str, str],
    parameters: Parameters,
) -> list[Seen]:  # fmt: skip
    classifier = parameters.lesion(kind, key)
    regions = candidates(anatomy, signal, kind)
    if classifier is None or not regions:
        return []
    rows = np.stack([one.row for one in regions])
    probability = classifier.probability(rows)
    other = parameters.replacement(key)
    replaced = other.probability(rows) if other is not None else np.zeros(len(rows))
    return [
        Seen(region, anatomy, signal, float(p), kind == "water" and r >= 0.5, names)
        for region, p, r in zip(regions, probability, replaced)
    ]


def _beside(
    anatomy: Anatomy, dry: Series, series: Series, conventional: bool
) -> tuple[np.ndarray, float]:
    """Return another series on the anatomy's voxels, and how much of the bone it shows."""
    image, volume, here = _image(series, conventional), series.volume, anatomy.volume
    if same_grid(volume, dry.volume):
        return image[anatomy.box], 1.0
    at = np.moveaxis(indices(volume, anatomy.points), -1, 0).astype(np.float32)
    shape = np.array(volume.shape)[:, None, None, None]
    inside = np.all((at >= -0.5) & (at <= shape - 0.5), axis=0)
    bone = anatomy.core
    share = float(inside[bone].mean()) if bone.any() else 0.0
    if share < REACH:
        return image, share
    same = np.allclose(at - np.round(at), 0, atol=0.02) and inside.all()
    if same and np.allclose(volume.spacing, here.spacing, rtol=1e-3):
        z, y, x = np.round(at).astype(int)
        return image[z, y, x], share
    return ndimage.map_coordinates(image, at, np.float32, order=1, mode="nearest"), share


def listed(shown: Look, parameters: Parameters) -> list[Seen]:
    """Return what is probable enough to be told."""
    return [one for one in shown.seen if one.probability >= parameters.listed_from(one.region.kind)]


def _supported(one: Seen, other: Look, parameters: Parameters) -> bool:
    least = SUPPORT * parameters.listed_from(one.region.kind)
    return any(
        twin.region.kind == one.region.kind and twin.probability >= least and one.meets(twin)
        for twin in other.seen
    )


def _agree(ours: Sequence[Look], plain: Sequence[Look], parameters: Parameters) -> bool:
    """Return whether each finding of either reconstruction has support in the other."""
    return all(
        _supported(one, there, parameters)
        for a, b in zip(ours, plain)
        for here, there in ((a, b), (b, a))
        for one in listed(here, parameters)
    )


def _coverage(labels: LabelMap | None, good: Sequence[Labelled]) -> tuple[EvidenceCoverage, ...]:
    nothing = (
        LabelMap(np.zeros((1, 1, 1), np.uint8), ("",), good[0].series.volume) if good else None
    )
    known = labels if labels is not None else nothing
    if known is None:
        return ()
    return coverage(known, [(one.series, slab(one.series)) for one in good])


def _measures(labels: LabelMap | None, good: Sequence[Labelled]) -> tuple[Measure, ...]:
    if labels is None:
        return ()
    found = measures(labels, [one.series for one in good])
    return tuple(one for one in found if np.isfinite(one.value))
