"""Checks of triage beside its sensitivity: outlines, mirrors, acceleration, time, a real spine.

Accelerated exams: images of simulated exams go through twelve coils, undersampled k-space with
noise, and the network's reconstruction, with the conventional one beside it, as in the agent.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from bench.pictures import SHARED, with_phase
from bench.recon_dl import ours, scan
from bench.rows import row
from bench.triage_exams import KEPT, SCORED, exams, mirrored, render
from bench.triage_score import WATER, meets, network_labels, scored, voxels
from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable
from engines.training.images import read_nifti
from gadgets.items import Labelled, LabelMap, Series
from gadgets.label import label
from gadgets.quality import quality
from gadgets.recon_dl import ReconstructDL
from gadgets.triage import triage
from gadgets.triage_examples import Example, seen
from protocols.findings import ExamFindings, Side
from protocols.geometry import Volume
from scanner.triage_data import sample

OUTLINES, MIRRORS, SCANS, SWEPT = 8, 8, 6, 3
"""Exams of each check; those at all accelerations."""
FACTORS, ALL_FACTORS = (1, 4), (1, 2, 4, 6)
SNR = 30.0
"""Of the brightest percent of voxels at R 1."""
SECONDS = 2.0
RESULTS = Path(__file__).parent / "results"
PICTURE = "triage_real_spine.png"
SLICE_STEP, ENLARGED = 4, 3


def rows(families: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """Return the rows of all checks."""
    found = _outline_rows(1 if quick else OUTLINES)
    found.append(_mirror_row(families[: 1 if quick else MIRRORS]))
    found += _accelerated_rows(families[: 1 if quick else SCANS], 0 if quick else SWEPT)
    found += _time_rows(1 if quick else 5)
    return found + _real_rows()


def _outline_rows(count: int) -> list[dict[str, Any]]:
    """Outlines without substance: how many were found."""
    families = [("si_oedema", "modic", "corner", "metastasis")[n % 4] for n in range(count)]
    found = [
        one.hits[each.number]
        for one in scored(exams(SCORED, families, first=30_000, outline=True))
        for each in one.truth
        if each.volume_ml >= 0.3
    ]
    name = f"outlines without substance, n={len(found)}"
    share = float(np.mean(found)) if found else float("nan")
    return [row("triage", name, "found", share, "target", 0.0, "lower", "")]


def _mirror_row(families: Sequence[str]) -> dict[str, Any]:
    """Share of exams whose mirror image gives the same findings on the other side."""
    same = []
    for _, make in exams(SCORED, families, first=10_000):
        exam = make()
        here, there = triage("here", seen(exam)), triage("there", seen(mirrored(exam)))
        same.append(mirrors(here, there))
    name = f"mirrored exams, n={len(same)}"
    return row("triage", name, "same", float(np.mean(same)), "target", 1.0, "higher", "")


def mirrors(one: ExamFindings, other: ExamFindings) -> bool:
    """Whether two exams have the same findings with left and right exchanged."""
    exchange = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT, Side.MIDLINE: Side.MIDLINE}
    ours_, theirs = (sorted(each.findings, key=lambda f: f.volume_ml) for each in (one, other))
    return len(ours_) == len(theirs) and all(
        a.type == b.type and a.structure == b.structure and a.side == exchange[b.side]
        and abs(a.probability - b.probability) < 0.01
        and np.allclose(np.array(a.centre_mm) * (-1, 1, 1), b.centre_mm, atol=0.5)
        for a, b in zip(ours_, theirs)
    )  # fmt: skip


def _accelerated_rows(families: Sequence[str], swept: int) -> list[dict[str, Any]]:
    """Sensitivity on the agent's own reconstructions, the same exams at each acceleration.

    The first ``swept`` of them at `ALL_FACTORS`.
    """
    try:
        gadget = ReconstructDL(load_engine("recon", options=Options(threads=2)))
    except EngineUnavailable:
        return []
    hits: dict[int, dict[int, list[bool]]] = {factor: {} for factor in ALL_FACTORS}
    agreed: dict[int, list[bool]] = {factor: [] for factor in ALL_FACTORS}
    for number, (name, make) in enumerate(exams(SCORED, families, first=10_000)):
        exam = make()
        labels = network_labels(name, exam)
        counting = [t for t in exam.truth if t.counts and not t.normal and t.type in WATER]
        for factor in ALL_FACTORS if number < swept else FACTORS:
            given = [
                Labelled(one, labels, quality(one, labels))
                for one in _reconstructed(f"{name}-R{factor}", exam, factor, gadget)
            ]
            found = triage(name, given)
            bright = [one for one in found.findings if one.type in WATER]
            agreed[factor].append(found.agreement is not False)
            hits[factor][number] = [
                any(meets(one, voxels(exam, true.number)) for one in bright) for true in counting
            ]
    result = []
    for factor, by_exam in hits.items():
        ours_ = [hit for each in by_exam.values() for hit in each]
        base = [hit for number in by_exam for hit in hits[1][number]]
        if not ours_:
            continue
        case = f"reconstructed by the agent, R = {factor}"
        share, full = float(np.mean(ours_)), float(np.mean(base))
        name = f"{case}, n={len(ours_)} in {len(by_exam)} exams"
        result.append(row("triage", name, "sensitivity", share, "R = 1", full, "higher", ""))
        both = float(np.mean(agreed[factor]))
        name = f"{case}, exams, n={len(by_exam)}"
        result.append(row("triage", name, "reconstructions_agree", both, "", None, "higher", ""))
    return result


def _reconstructed(name: str, exam: Example, factor: int, gadget: ReconstructDL) -> list[Series]:
    """Return the series of an exam by the network, and by SENSE beside it; kept."""
    path = KEPT / f"{name}.npz"
    if not path.exists():
        found = {}
        for one in exam.series:
            top = float(np.percentile(one.data, 99))
            images = []
            for image in with_phase(one.data / top):
                kspace, mask = scan(image, 12, factor, SNR)
                images.append(ours(gadget, kspace, mask))
            found[one.name] = np.stack([abs(image.data[0]) for image in images])
            found[f"{one.name} plain"] = np.stack(
                [abs(image.data[0] if image.conventional is None else image.conventional[0])
                 for image in images]
            )  # fmt: skip
        KEPT.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **found)
    with np.load(path) as kept:
        return [
            replace(one, data=kept[one.name], conventional=kept[f"{one.name} plain"])
            for one in exam.series
        ]


def _time_rows(count: int) -> list[dict[str, Any]]:
    """Seconds from the last series of an exam to findings, 15 slices of 320 x 320, both looks.

    By the clock, on two cores with nothing else to do, and of all threads of the process.
    """
    engine = load_engine("labels", options=Options(threads=2))
    rng = np.random.default_rng((SCORED, 60_000))
    exam = render(rng, sample(rng, "modic", shape=(320, 320)))
    series = [replace(one, conventional=one.data) for one in exam.series]
    done = [
        Labelled(one, labels := label(one, engine), quality(one, labels)) for one in series[:-1]
    ]
    seconds, used = [], []
    for _ in range(count):
        start, before = time.perf_counter(), time.process_time()
        labels = label(series[-1], engine)
        triage("time", [*done, Labelled(series[-1], labels, quality(series[-1], labels))])
        seconds.append(time.perf_counter() - start)
        used.append(time.process_time() - before)
    name = "series complete to findings, 15 x 320 x 320, two reconstructions"
    return [
        row("triage", name, "seconds", float(np.median(seconds)), "target", SECONDS, "lower", "s"),
        row("triage", name, "cpu_seconds", float(np.median(used)), "", None, "lower", "s"),
    ]


def _real_rows() -> list[dict[str, Any]]:
    """The mean spine of many people, real: what is labelled there; a picture beside the results.

    It is one contrast and a mean, without disease: it shows that labels are sensible, no more.
    """
    path = SHARED / "spine_template_t2.nii.gz"
    if not path.is_file():
        return []
    series = real_spine(read_nifti(path))
    labels = label(series, load_engine("labels", options=Options(threads=2)))
    found = triage("real", [Labelled(series, labels, quality(series, labels))])
    _picture(series, labels)
    named = [name for name in labels.landmarks if "_" not in name]
    case = f"real mean spine, T2, levels certain {labels.confidence['levels']:.2f}"
    return [
        row("triage", case, "vertebrae", float(len(named)), "", None, "higher", ""),
        row("triage", case, "findings", float(len(found.findings)), "", None, "lower", ""),
    ]


def real_spine(data: np.ndarray) -> Series:
    """Return the template (x to the left, y to the front, z upwards) as a sagittal series."""
    slices = np.ascontiguousarray(data[::-SLICE_STEP].transpose(0, 2, 1)[:, ::-1, ::-1], np.float32)
    count, rows_, columns = slices.shape
    directions = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
    volume = Volume(
        np.zeros(3), directions, (count, rows_, columns), np.array([1.0, 2.0, SLICE_STEP])
    )
    return Series("t2_template", slices, volume, "t2", thickness_mm=1.0)


def _picture(series: Series, labels: LabelMap) -> None:
    """Write the middle slice with its labels beside it."""
    middle = len(series.data) // 2
    grey = series.data[middle] / np.percentile(series.data[middle], 99.5)
    plain = np.repeat(255 * np.clip(grey, 0, 1)[..., None], 3, axis=-1)
    palette = 80 + np.random.default_rng(7).integers(0, 175, (256, 3))
    here = labels.labels[middle]
    marked = np.where(here[..., None] > 0, 0.5 * plain + 0.5 * palette[here], plain)
    x, y, _ = series.volume.spacing
    picture = Picture.fromarray(np.hstack([plain, marked]).astype(np.uint8))
    size = (picture.width * ENLARGED, round(picture.height * ENLARGED * float(y / x)))
    RESULTS.mkdir(exist_ok=True)
    picture.resize(size).save(RESULTS / PICTURE)
