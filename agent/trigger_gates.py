"""What keeps a trigger from concluding or from asking: each line with its value and its verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.trigger_states import Certainty, Check, ExamContext, Reason
from protocols.findings import EvidenceCoverage, ExamFindings, Quality
from protocols.trigger import Budget, CoverageNeed, Trigger, Unless

Gate = tuple[Reason, Check]


def distrusted(unless: Unless, findings: ExamFindings) -> dict[str, str]:
    """Return the series whose quality is not enough, and why."""
    found = {}
    for quality in findings.quality:
        if why := _poor(unless, quality):
            found[quality.series] = why
    return found


def _poor(unless: Unless, quality: Quality) -> str | None:
    if not quality.usable:
        return quality.reason
    if quality.snr < unless.snr_below:
        return f"SNR {quality.snr:.1f} below {unless.snr_below:g}"
    if quality.motion > unless.motion_above:
        return f"motion {quality.motion:.2f} above {unless.motion_above:g}"
    failed = quality.fat_suppression_failed
    if failed is not None and failed > unless.fat_suppression_failed_above:
        return f"fat suppression failed in {failed:.2f}"
    return None


def trust(
    trigger: Trigger, findings: ExamFindings, set_aside: list[str], certainty: Certainty
) -> list[Gate]:
    """Return what must hold for any conclusion at all, finding or none."""
    unless = trigger.unless
    gates = [
        _gate(Reason.TRIAGE_ABSTAINED, "triage", findings.abstained or "", not findings.abstained)
    ]
    says = {True: "they do", False: "they do not", None: "there was one"}[findings.agreement]
    text = "the two reconstructions say the same"
    if unless.reconstructions_differ:
        gates.append(
            _gate(Reason.RECONSTRUCTIONS_DIFFER, text, says, findings.agreement is not False)
        )
    if unless.one_reconstruction:
        gates.append(_gate(Reason.ONE_RECONSTRUCTION, text, says, findings.agreement is not None))
    if unless.levels_uncertain:
        certain = findings.levels_certain
        value = "they are" if certain else "they are not"
        gates.append(_gate(Reason.LEVELS_UNCERTAIN, "the levels are certain", value, certain))
    kept = certainty >= Certainty.CANDIDATE or not set_aside
    text = "no finding rests on poor images alone"
    gates.append(_gate(Reason.QUALITY, text, "; ".join(set_aside) or "none does", kept))
    return gates


def needs(trigger: Trigger, findings: ExamFindings, poor: dict[str, str]) -> list[Gate]:
    """Return what must have been shown before "nothing there" may be said."""
    gates = []
    for name in trigger.needs.series:
        text = f"{name} in usable quality"
        if name not in findings.series:
            gates.append(_gate(Reason.SERIES_MISSING, text, "not there yet", False))
        else:
            gates.append(_gate(Reason.QUALITY, text, poor.get(name, "usable"), name not in poor))
    if not trigger.needs.series:
        usable = [name for name in findings.series if name not in poor]
        value = ", ".join(usable) or "; ".join(f"{k}: {v}" for k, v in poor.items())
        gates.append(_gate(Reason.QUALITY, "one series in usable quality", value, bool(usable)))
    for need in trigger.needs.coverage:
        gates += _coverage(need, findings)
    return gates


def _coverage(need: CoverageNeed, findings: ExamFindings) -> Iterator[Gate]:
    for side in need.sides:
        text = f"{need.structure}, {side}, " + (
            "shown well enough to judge" if need.shown is None else f"shown to {need.shown:g}"
        )
        found = [c for c in findings.coverage if (c.structure, c.side) == (need.structure, side)]
        value = f"{found[0].shown:.2f}" if found else "not shown"
        enough = bool(found) and _enough(need, found[0])
        yield _gate(Reason.COVERAGE, text, value, enough)


def _enough(need: CoverageNeed, found: EvidenceCoverage) -> bool:
    return found.judged if need.shown is None else found.shown >= need.shown


@dataclass(frozen=True)
class Ledger:
    """What the triggers of this exam have asked for so far, as one of them sees it.

    Attributes
    ----------
    asked : int
    minutes : float
        Scanned, being scanned, or asked about.
    steps : frozenset of str
        Accepted ones.
    question_open : str or None
        The trigger whose question has no answer yet.
    """

    asked: int
    minutes: float
    steps: frozenset[str]
    question_open: str | None


def allowed(
    trigger: Trigger,
    budget: Budget,
    context: ExamContext,
    ledger: Ledger,
    minutes: float,
    against: dict[Reason, str | None],
    now_s: float,
) -> list[Gate]:
    """Return what must hold before the technologist may be asked.

    Parameters
    ----------
    minutes : float
        Which the steps would take that are not planned yet; 0 where all of them are.
    against : dict
        Why it is quiet, and why its slices cannot be prescribed, where that is so.
    """
    flags = sorted(context.order & set(trigger.unless.order))
    gates = [
        _gate(
            Reason.ORDER, "the order allows it", ", ".join(flags) or "nothing against", not flags
        ),
        _gate(
            Reason.PLANNED,
            "not planned already",
            f"{minutes:.1f} min to scan" if minutes else "all of it is",
            minutes > 0,
        ),
    ]
    if (least := trigger.unless.sar_headroom_below) is not None:
        headroom = context.sar_headroom
        gates.append(
            _gate(
                Reason.SAR,
                f"SAR headroom {least:g} or more",
                "not known" if headroom is None else f"{headroom:.2f}",
                headroom is not None and headroom >= least,
            )
        )
    left = (context.slot_end_s - now_s) / 60
    ordered = context.remaining_minutes
    spent = max(ledger.minutes, context.minutes_used)
    gates += [
        _gate(
            Reason.SLOT,
            f"not in the last {budget.none_in_last_minutes:g} min of the slot",
            f"{left:.1f} min left",
            left > budget.none_in_last_minutes,
        ),
        _gate(
            Reason.SLOT,
            f"time for it: {ordered + minutes:.1f} min, {ordered:.1f} of them planned",
            f"{left:.1f} min left",
            left >= ordered + minutes,
        ),
        _gate(
            Reason.PROPOSALS,
            f"at most {budget.proposals} proposals in an exam",
            f"{ledger.asked} so far",
            ledger.asked < budget.proposals,
        ),
        _gate(
            Reason.EXTRA_MINUTES,
            f"at most {budget.extra_minutes:g} extra min",
            f"{spent:.1f} so far and {minutes:.1f} more",
            spent + minutes <= budget.extra_minutes + 1e-9,
        ),
        _gate(
            Reason.QUESTION_OPEN,
            "no other question open",
            ledger.question_open or "none",
            ledger.question_open is None,
        ),
        *(
            _gate(reason, text, against[reason] or "nothing", not against[reason])
            for reason, text in (
                (Reason.QUIET, "quiet because of"),
                (Reason.PRESCRIPTION, "slices cannot be prescribed because of"),
            )
        ),
    ]
    return gates


def failing(gates: list[Gate]) -> tuple[Reason, str] | None:
    """Return the first gate that is shut: its reason, and its text with the value."""
    for reason, check in gates:
        if not check.passed:
            return reason, f"{check.text}: {check.value}"
    return None


def _gate(reason: Reason, text: str, value: str, passed: bool) -> Gate:
    return reason, Check(text=text, value=value, passed=passed)
