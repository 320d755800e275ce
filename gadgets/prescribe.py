"""Where extra coverage is to lie: from the labels of the spine to a slab, by a rule with a name.

    answer = prescribe(step.geometry, labels, finding)
    match answer:
        case Prescription(slab=slab, variant=variant): ...
        case Refusal(reason=reason, text=text): ...

The rules are those of `protocols.exam.GeometryRule`, which protocols refer to. How long the scan
takes is the step's affair. A rule that is not sure refuses, and says why: better no extra slices
than slices at the wrong place.
"""

from collections.abc import Callable

from gadgets import prescribe_si, prescribe_spine
from gadgets.items import LabelMap
from gadgets.prescription import Prescription, Refusal, RefusalReason, Refused, Request
from protocols.exam import Geometry, GeometryRule
from protocols.findings import Finding

__all__ = ["RULES", "Prescription", "Refusal", "RefusalReason", "prescribe"]

RULES: dict[GeometryRule, Callable[[Request], Prescription]] = {
    GeometryRule.SAGITTAL: prescribe_spine.sagittal,
    GeometryRule.CORONAL: prescribe_spine.coronal,
    GeometryRule.AXIAL: prescribe_spine.axial,
    GeometryRule.SI_OBLIQUE_CORONAL: prescribe_si.oblique_coronal,
    GeometryRule.SI_OBLIQUE_AXIAL: prescribe_si.oblique_axial,
    GeometryRule.DISC_AXIAL: prescribe_spine.disc_axial,
    GeometryRule.EXTENDED_UP: prescribe_spine.extended_up,
    GeometryRule.EXTENDED_DOWN: prescribe_spine.extended_down,
}


def prescribe(
    geometry: Geometry, labels: LabelMap, finding: Finding | None = None
) -> Prescription | Refusal:
    """Return the slab of a step on demand, or why there is none.

    Parameters
    ----------
    geometry : protocols.exam.Geometry
        Of the step: rule, field of view, matrix, thickness, gap, at most how many slices, and the
        direction of phase encoding.
    labels : LabelMap
        Of a sagittal series. Landmarks below a confidence of 0.5, and those without one, do not
        count.
    finding : Finding or None
        That asks for it; `disc_axial` needs one.
    """
    try:
        return RULES[geometry.rule](Request(geometry, labels, finding))
    except Refused as refused:
        return Refusal(geometry.rule, refused.reason, str(refused))
