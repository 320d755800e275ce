"""Summary series: pictures of what was found, where, and of what cannot be judged.

An overview of the spine with levels, quality and numbers, then a page for each finding: its slice,
enlarged and framed, beside the same place on the other contrasts. Everything shown was acquired;
what is written was computed, and each page says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gadgets.items import FrameKey, Image, Labelled, LabelMap, Role, Series
from gadgets.summary_draw import (
    ANATOMY,
    BRIGHT,
    FAINT,
    FOUND,
    GROUND,
    SOFT,
    WARNING,
    Flow,
    Page,
    View,
    contours,
    ruler,
    screen_axes,
    shown,
    slice_at,
)
from gadgets.summary_text import (
    CONTRASTS,
    MARK,
    cannot_judge,
    looks,
    measure,
    place,
    probability,
    quality,
    sizes,
    title,
)
from protocols.findings import ExamFindings, Finding
from protocols.geometry import Vector, Volume
from protocols.mrd_types import ACQUISITION_HEADER

SIDE = 1024
"""Pixels of a page."""
EDGE, TOP, GAP = 24, 158, 8
MAIN, STRIP = 640, 52
"""The strip is the upper edge, and the left of it free for marks which others burn in."""
CLOSE_MM = (80.0, 150.0)
"""Least and most that an enlarged view shows."""
NEAR_MM = 15.0
"""Findings further from the plane of the overview have a hollow mark there."""

_LEVELS = frozenset({*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 7)), "S1"})


@dataclass(frozen=True)
class SummaryPage:
    """One page: its picture, uint8 (y, x, rgb).

    Attributes
    ----------
    title : str
    view : View
        Of its largest image.
    """

    picture: NDArray[np.uint8]
    title: str
    view: View


def summary(findings: ExamFindings, seen: Sequence[Labelled]) -> tuple[SummaryPage, ...]:
    """Return the pages of a summary, the overview first.

    Parameters
    ----------
    findings : ExamFindings
    seen : sequence of Labelled
        All series of the exam so far. Findings whose series is not among them have no page of
        their own.

    Raises
    ------
    ValueError
        There is no series.
    """
    if not seen:
        raise ValueError("a summary: expected at least one series, got none")
    pages = [_overview(findings, seen)]
    by_name = {one.series.name: one.series for one in seen}
    for number, finding in enumerate(findings.findings, 1):
        held = [by_name[name] for name in finding.series if name in by_name]
        pages += [_key_images(findings, number, finding, held, seen)] if held else []
    return tuple(pages)


def summary_images(pages: Sequence[SummaryPage], findings: ExamFindings) -> list[Image]:
    """Return pages as images for `gadgets.finish.Finish`: grey, and derived.

    Parameters
    ----------
    pages : sequence of SummaryPage
    findings : ExamFindings

    Returns
    -------
    list of Image
        float32 (1, y, x), 0 to 255, of the quantity "summary". They lie, and a viewer's ruler
        measures, where and as the largest image of the page does; nothing else on it.
    """
    found = []
    for number, page in enumerate(pages):
        header = np.zeros(1, ACQUISITION_HEADER)[0]
        view = page.view
        header["position"] = view.centre
        axes = view.right, view.down, view.normal
        header["read_dir"], header["phase_dir"], header["slice_dir"] = axes
        side_mm = SIDE * view.mm_per_pixel
        grey = page.picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        comment = f"{page.title}; {MARK}"
        found.append(
            Image(
                data=grey[None],
                key=FrameKey(0, number, 0, 0, 0, 0),
                header=header,
                field_of_view=(side_mm, side_mm, 1.0),
                quantity="summary",
                role=Role.DERIVED,
                history=("AI", f"summary of {', '.join(findings.series)}; {MARK}"),
                attributes={
                    "DataRole": "Image",
                    "ImageComments": comment,
                    "ImageComment": comment,
                    "GADGETRON_ImageComment": comment,
                    "Keep_image_geometry": 0,
                },
            )
        )
    return found


def _key_images(
    findings: ExamFindings,
    number: int,
    finding: Finding,
    held: Sequence[Series],
    seen: Sequence[Labelled],
) -> SummaryPage:
    page = Page(SIDE, SIDE)
    words = title(finding)
    count = len(findings.findings)
    _head(page, words, place(finding), f"finding {number} of {count}", probability(finding))
    main, z = held[0], _slice_of(finding, held[0])
    view = _close(main, z, finding)
    _panel(page, main, view, EDGE, TOP, finding)
    column, narrow = EDGE + MAIN + GAP, SIDE - 2 * EDGE - MAIN - GAP
    height = (MAIN - GAP) // 2
    small = replace(
        view, width=narrow, height=height, mm_per_pixel=view.mm_per_pixel * MAIN / narrow
    )
    others = [one.series for one in seen if one.series.name != main.name]
    others = [one for one in others if shown(one, small) is not None][:2]
    for k, one in enumerate(others):
        _panel(page, one, small, column, TOP + k * (height + GAP), finding)
    below = TOP + MAIN + 20
    if len(others) < 2:
        whole = _whole(main, view.centre, narrow, height)
        _locator(page, main, whole, view, column, TOP + len(others) * (height + GAP))
        right = SIDE - EDGE
    else:
        side = SIDE - EDGE - below
        whole = _whole(main, view.centre, side, side)
        _locator(page, main, whole, view, SIDE - EDGE - side, below)
        right = SIDE - EDGE - side - 2 * GAP
    flow = Flow(page, EDGE, below, right - EDGE, SIDE - GAP)
    if line := looks(finding, [one.weighting for one in held]):
        flow.write(line, 24)
    flow.write(sizes(finding), 19)
    numbers = ", ".join(str(k + 1) for k in sorted(finding.slices))
    plural = "s" if len(finding.slices) > 1 else ""
    flow.write(f"Seen on {', '.join(finding.series)}; slice{plural} {numbers}", 19, FAINT)
    for judged in findings.quality:
        if judged.series in finding.series and not judged.usable:
            flow.write(f"{judged.series}: {judged.reason}", 19, WARNING)
    if findings.abstained:
        flow.write(f"No conclusion: {findings.abstained}", 19, WARNING)
    if not findings.levels_certain:
        flow.write("The numbering of the levels is not certain.", 19, WARNING)
    return SummaryPage(page.picture(), words, view)


def _overview(findings: ExamFindings, seen: Sequence[Labelled]) -> SummaryPage:
    page = Page(SIDE, SIDE)
    series, labels = _most_telling(seen)
    count = len(findings.findings)
    told = "No finding" if not count else f"{count} finding{'s' if count > 1 else ''}"
    told = "No conclusion" if findings.abstained else told
    _head(page, "Summary", ", ".join(findings.series), f"exam {findings.exam[:24]}", told)
    width, height = 520, SIDE - TOP - EDGE
    view = _midline(series, labels, width, height)
    _panel(page, series, view, EDGE, TOP, None, labels)
    if labels is not None:
        _name_levels(page, labels, view, findings.levels_certain)
    for number, finding in enumerate(findings.findings, 1):
        x, y = view.place(np.array(finding.centre_mm))
        if 0 <= x < width and 0 <= y < height:
            off = abs(float((np.array(finding.centre_mm) - view.centre) @ view.normal))
            page.badge(EDGE + x, TOP + y, str(number), off > NEAR_MM)
    left = EDGE + width + EDGE
    flow = Flow(page, left, TOP, SIDE - EDGE - left, SIDE - EDGE)
    _overview_text(flow, findings)
    return SummaryPage(page.picture(), "Summary", view)


def _overview_text(flow: Flow, findings: ExamFindings) -> None:
    if findings.abstained:
        flow.section("No conclusion", WARNING)
        flow.write(findings.abstained)
    if findings.agreement is False:
        flow.write("The network's and the conventional images do not agree.", 17, WARNING)
    if not findings.levels_certain:
        flow.write("The numbering of the levels is not certain.", 17, WARNING)
    if findings.findings:
        flow.section("Findings")
        for number, finding in enumerate(findings.findings, 1):
            flow.numbered(number, title(finding), place(finding), probability(finding))
    unseen = [one for one in findings.coverage if not one.judged]
    if unseen:
        flow.section("Cannot judge", WARNING)
        for one in unseen:
            flow.write(cannot_judge(one))
    elif not findings.findings and not findings.abstained:
        flow.write("Nothing was found in what this exam shows.")
    if findings.quality:
        flow.section("Image quality")
        for each in findings.quality:
            flow.pair(each.series, quality(each), FAINT if each.usable else WARNING)
            if not each.usable and each.reason:
                flow.write(f"not usable: {each.reason}", 17, WARNING)
    if findings.measures:
        flow.section("Measures")
        for number_of in findings.measures:
            flow.pair(*measure(number_of))


def _head(page: Page, words: str, below: str, small: str, right: str) -> None:
    page.block(0, 0, SIDE, STRIP, FOUND)
    page.words(SIDE - EDGE, STRIP / 2, MARK, 19, GROUND, "rm")
    page.words(EDGE, STRIP + 16, words, 34)
    page.words(EDGE, STRIP + 62, below, 22, FAINT)
    page.words(SIDE - EDGE, STRIP + 18, right, 28, FOUND, "ra")
    page.words(SIDE - EDGE, STRIP + 64, small, 18, FAINT, "ra")


def _panel(
    page: Page,
    series: Series,
    view: View,
    left: int,
    top: int,
    finding: Finding | None,
    labels: LabelMap | None = None,
) -> None:
    grey = shown(series, view)
    page.image(np.zeros((view.height, view.width), np.uint8) if grey is None else grey, left, top)
    if labels is not None:
        names = {k: name for k, name in enumerate(labels.names) if name in _LEVELS}
        page.tint(0.75 * contours(labels, list(names), view), ANATOMY, left, top)
    z = slice_at(series.volume, view.centre)
    contrast = CONTRASTS.get(series.weighting, "")
    numbers = "" if z is None else f"slice {z + 1} of {series.volume.shape[0]}"
    size = 17 if view.width > 400 else 15
    page.words(left + 10, top + 8, contrast or series.name, size + 2, BRIGHT, "la", True)
    page.words(left + view.width - 10, top + 8, numbers, size, SOFT, "ra", True)
    for letter, (x, y, anchor) in zip(
        view.letters(),
        ((10, view.height / 2, "lm"), (view.width - 10, view.height / 2, "rm"),
         (view.width / 2, 10, "ma"), (view.width / 2, view.height - 10, "ms")),
    ):  # fmt: skip
        page.words(left + x, top + y, letter, size, SOFT, anchor, True)
    if finding is not None:
        x0, y0, x1, y1 = _frame(finding, view)
        page.brackets(left + x0, top + y0, left + x1, top + y1, 22 if view.width > 400 else 13)
    ruler(page, view, left + 12, top + view.height - 14, size - 2)


def _locator(page: Page, series: Series, whole: View, close: View, left: int, top: int) -> None:
    grey = shown(series, whole)
    if grey is None:
        return
    page.image((0.8 * grey).astype(np.uint8), left, top)
    x, y = whole.place(close.centre)
    half = [n * close.mm_per_pixel / whole.mm_per_pixel / 2 for n in (close.width, close.height)]
    corners = [(left + x + a * half[0], top + y + b * half[1]) for a, b in
               ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]  # fmt: skip
    page.line([_inside(c, left, top, whole) for c in corners], BRIGHT, 1.5)


def _inside(corner: tuple[float, float], left: int, top: int, view: View) -> tuple[float, float]:
    x, y = np.clip(corner, (left, top), (left + view.width - 1, top + view.height - 1))
    return float(x), float(y)


def _frame(finding: Finding, view: View) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom, in pixels, of a finding's box with a margin."""
    x, y = view.place(np.array(finding.centre_mm))
    extent = np.array(finding.extent_mm) / 2
    half = [
        (float(np.abs(axis) @ extent) + 3.0) / view.mm_per_pixel for axis in (view.right, view.down)
    ]
    return x - half[0], y - half[1], x + half[0], y + half[1]


def _slice_of(finding: Finding, series: Series) -> int:
    """Return the slice of a finding that is nearest to its centre."""
    last = series.volume.shape[0] - 1
    middle = series.volume.index(np.array(finding.centre_mm))[0]
    among = [z for z in finding.slices if 0 <= z <= last]
    nearest = min(among, key=lambda z: abs(z - middle), default=round(middle))
    return int(np.clip(nearest, 0, last))


def _on_slice(series: Series, point: Vector, z: int) -> Vector:
    """Return a point moved straight onto a slice."""
    _, y, x = series.volume.index(point)
    return series.volume.point(z, y, x)


def _close(series: Series, z: int, finding: Finding) -> View:
    right, down = screen_axes(series.volume)
    extent = np.array(finding.extent_mm)
    size = max(float(np.abs(axis) @ extent) for axis in (right, down))
    side = float(np.clip(3 * size + 30, *CLOSE_MM))
    centre = _on_slice(series, np.array(finding.centre_mm), z)
    return View(centre, right, down, side / MAIN, MAIN, MAIN)


def _whole(series: Series, point: Vector, width: int, height: int) -> View:
    """Return a view of a whole slice, through a point."""
    volume = series.volume
    right, down = screen_axes(volume)
    z, _, _ = volume.index(point)
    centre = volume.point(round(z), (volume.shape[1] - 1) / 2, (volume.shape[2] - 1) / 2)
    wide, tall = _spans(volume, right, down)
    return View(centre, right, down, max(wide / width, tall / height), width, height)


def _spans(volume: Volume, right: Vector, down: Vector) -> tuple[float, float]:
    """Return how wide and how tall a slice is on the screen, in mm."""
    size = np.array([volume.shape[2], volume.shape[1]]) * volume.spacing[:2]
    wide, tall = (float(np.abs(volume.directions[:2] @ axis) @ size) for axis in (right, down))
    return wide, tall


def _most_telling(seen: Sequence[Labelled]) -> tuple[Series, LabelMap | None]:
    """Return the series upon which levels are best shown: labelled, sagittal, T2 before others."""

    def rank(one: Labelled) -> tuple[bool, bool, bool, int]:
        sagittal = abs(one.series.volume.directions[2][0]) > 0.7
        order = ("t2", "t1", "stir")
        known = order.index(one.series.weighting) if one.series.weighting in order else 9
        return one.labels is None, not one.quality.usable, not sagittal, known

    best = min(seen, key=rank)
    return best.series, best.labels


def _midline(series: Series, labels: LabelMap | None, width: int, height: int) -> View:
    """Return a view of the slice through the vertebral bodies, as much as its panel holds."""
    volume = series.volume
    bodies = [at for name, at in labels.landmarks.items() if name in _LEVELS] if labels else []
    middle = volume.point((volume.shape[0] - 1) / 2, volume.shape[1] // 2, volume.shape[2] // 2)
    if not bodies:
        z = min(round((volume.shape[0] - 1) / 2), volume.shape[0] - 1)
        return _whole(series, _on_slice(series, middle, z), width, height)
    z = int(np.clip(round(volume.index(np.median(bodies, axis=0))[0]), 0, volume.shape[0] - 1))
    view = _whole(series, _on_slice(series, middle, z), width, height)
    spine = np.array(bodies)
    full = float(_spans(volume, view.right, view.down)[1])
    tall = min(full, float(np.ptp(spine @ view.down)) + 90)
    offset = spine.mean(axis=0) - view.centre
    down = float(np.clip(offset @ view.down, (tall - full) / 2, (full - tall) / 2))
    centre = view.centre + (offset @ view.right + 8) * view.right + down * view.down
    return replace(view, centre=centre, mm_per_pixel=tall / height)


def _name_levels(page: Page, labels: LabelMap, view: View, certain: bool) -> None:
    for name, at in labels.landmarks.items():
        if name not in _LEVELS:
            continue
        x, y = view.place(at)
        if 0 <= x < view.width and 0 <= y < view.height:
            words = name if certain else f"{name}?"
            page.words(EDGE + x, TOP + y, words, 19, ANATOMY, "mm", True)
