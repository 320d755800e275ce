"""From a proposal to a request: slabs for its steps, from the labels there are."""

from collections.abc import Sequence

import numpy as np

from agent.trigger_states import Proposal
from gadgets.items import LabelMap, Series
from gadgets.prescribe import Prescription, prescribe
from gadgets.series import slab as slab_of
from protocols.control import CoverageRequest, CoverageStep
from protocols.exam import ExamProtocol
from protocols.geometry import Slab

SAME_MM, SAME_DEG = 2.0, 1.0
"""Between slices that were asked for and those that were scanned."""


def prescribed(
    protocol: ExamProtocol, proposal: Proposal, labels: Sequence[LabelMap]
) -> tuple[CoverageStep, ...] | str:
    """Return the steps of a proposal with their slices, or why they cannot be laid.

    Parameters
    ----------
    protocol : ExamProtocol
    proposal : Proposal
    labels : sequence of LabelMap
        Of the exam's series, the latest first: the first one serves from which the slices can be
        laid, since patients move between series.
    """
    finding = proposal.findings[0] if proposal.findings else None
    steps: list[CoverageStep] = []
    for asked in proposal.steps:
        why = "no series was labelled"
        for one in labels:
            answer = prescribe(protocol.step(asked.step).geometry, one, finding)
            if isinstance(answer, Prescription):
                steps.append(
                    CoverageStep(
                        step=asked.step,
                        slab=answer.slab,
                        minutes=asked.minutes,
                        variant="; ".join((answer.variant, *answer.notes))[:1000],
                        saturation_band=answer.saturation_band,
                        table_mm=answer.table_mm,
                    )
                )
                break
            if why == "no series was labelled":
                why = answer.text
        else:
            return f"{asked.step}: {why}"
    return tuple(steps)


def request(proposal: Proposal, steps: tuple[CoverageStep, ...], now_s: float) -> CoverageRequest:
    """Return the question of a proposal, with what is left of its countdown."""
    return CoverageRequest(
        id=proposal.id,
        exam=proposal.exam,
        protocol=proposal.protocol,
        revision=proposal.revision,
        trigger=proposal.trigger,
        text=proposal.text,
        findings=tuple(finding.id for finding in proposal.findings)[:64],
        steps=steps,
        extra_minutes=proposal.minutes,
        countdown_s=max(0.0, proposal.expires_s - now_s),
    )


def as_asked(series: Series, asked: Slab) -> bool:
    """Return whether the slices of a series lie where they were asked for."""
    try:
        found = slab_of(series)
    except ValueError:
        return False
    apart = np.linalg.norm(np.subtract(found.centre, asked.centre))
    cosine = np.clip(abs(found.normal @ asked.normal), 0, 1)
    return bool(
        found.slices == asked.slices
        and apart <= SAME_MM
        and np.degrees(np.arccos(cosine)) <= SAME_DEG
    )
