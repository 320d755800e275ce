"""Small, deterministic stand-ins for quality and triage, for a worker in a process of its own.

`triage` finds oedema-like signal where the latest series has a voxel brighter than `BRIGHT`; steps
whose names begin with "crash", "hang" or "fail" do so. `always` finds it in every exam, `never` in
none.
"""

import os
import threading
from collections.abc import Sequence

from gadgets.items import Labelled, LabelMap, Series
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Quality

BRIGHT = 100.0


def quality(series: Series, labels: LabelMap | None) -> Quality:
    """Call every series good."""
    return Quality(series=series.name, snr=20.0, motion=0.0)


def triage(
    exam: str, seen: Sequence[Labelled], previous: ExamFindings | None = None
) -> ExamFindings:
    """Conclude by the brightest voxel."""
    latest = seen[-1].series
    if latest.name.startswith("crash"):
        os._exit(7)
    if latest.name.startswith("hang"):
        threading.Event().wait()
    if latest.name.startswith("fail"):
        raise ZeroDivisionError("on purpose")
    return _conclude(exam, seen, latest.data.max() > BRIGHT)


def always(
    exam: str, seen: Sequence[Labelled], previous: ExamFindings | None = None
) -> ExamFindings:
    """Find it."""
    return _conclude(exam, seen, True)


def never(
    exam: str, seen: Sequence[Labelled], previous: ExamFindings | None = None
) -> ExamFindings:
    """Find nothing."""
    return _conclude(exam, seen, False)


def _conclude(exam: str, seen: Sequence[Labelled], there: bool) -> ExamFindings:
    names = tuple(one.series.name for one in seen)
    found = ()
    if there:
        found = (
            Finding(
                id="f1",
                type="oedema_like",
                structure="sacral_subchondral",
                side="left",
                level="S1",
                centre_mm=(40.0, 30.0, -120.0),
                extent_mm=(6.0, 8.0, 9.0),
                volume_ml=0.4,
                cnr=6.5,
                probability=0.95,
                series=(names[-1],),
                slices=(1, 2),
                adjacent_slices=2,
                area_mm2=45.0,
            ),
        )
    shown = tuple(
        EvidenceCoverage(structure="sacral_subchondral", side=side, shown=0.4, judged=True)
        for side in ("left", "right")
    )
    return ExamFindings(
        exam=exam,
        series=names,
        findings=found,
        coverage=shown,
        quality=tuple(one.quality for one in seen),
    )
