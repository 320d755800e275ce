"""The figures of a backtest's report; of two protocols the first is blue, the second orange."""

from collections.abc import Callable, Sequence

from agent.backtest_chart import Chart
from agent.backtest_judge import THRESHOLD_PROBABILITIES, Judged, Reweighted

TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def roc(protocols: Sequence[Judged]) -> str:
    """ROC of the probabilities, the sweep's points, and the operating point."""
    chart = Chart(
        (0, 1), (0, 1), TENTHS, TENTHS, "false positives: 1 - specificity", "sensitivity", "ROC"
    )
    chart.line([(0, 0), (1, 1)], "always")
    for style, judged in zip("ab", protocols):
        chart.line(((p.false_positive_rate, p.sensitivity) for p in judged.roc), style)
        chart.dots(
            (
                (1 - p.specificity.value, p.sensitivity.value)
                for p in judged.sweep
                if p.specificity.value is not None and p.sensitivity.value is not None
            ),
            style,
            2.2,
        )
        specificity, sensitivity = judged.specificity.value, judged.sensitivity.value
        if specificity is not None and sensitivity is not None:
            chart.dots([(1 - specificity, sensitivity)], f"{style} operating", 6)
    return chart.svg()


def reliability(protocols: Sequence[Judged]) -> str:
    """How often it was so, against what was said; of the first protocol: it is of the findings."""
    chart = Chart((0, 1), (0, 1), TENTHS, TENTHS, "probability said", "observed", "reliability")
    chart.line([(0, 0), (1, 1)], "always")
    bins = [each for each in protocols[0].reliability if each.observed.value is not None]
    for each in bins:
        chart.interval(each.said, each.observed.low or 0, each.observed.high or 0, "a")
    points = [(each.said, each.observed.value or 0.0) for each in bins]
    chart.line(points, "a")
    chart.dots(points, "a", 3.5)
    return chart.svg()


def sweep(protocols: Sequence[Judged]) -> str:
    """Sensitivity (solid) and specificity (dashed) by upper threshold, as written marked."""
    chart = Chart((0.1, 1), (0, 1), TENTHS[1:], TENTHS, "upper threshold", "rate", "sweep")
    for style, judged in zip("ab", protocols):
        found = [(p.up, p.sensitivity) for p in judged.sweep]
        spared = [(p.up, p.specificity) for p in judged.sweep]
        for up, rate in found:
            if rate.low is not None and rate.high is not None and len(protocols) == 1:
                chart.interval(up, rate.low, rate.high, style)
        chart.line(((up, rate.value or 0) for up, rate in found), style)
        chart.line(((up, rate.value or 0) for up, rate in spared), f"{style} dashed")
        for up in judged.operating_up:
            chart.upright(up, f"{style} mark", f"{up:g}")
    return chart.svg()


def cost(protocols: Sequence[Judged]) -> str:
    """Minutes added to an exam by upper threshold, at this archive's prevalence."""
    most = max((p.minutes_per_exam for each in protocols for p in each.sweep), default=0.0)
    top, ticks = _upright_axis(most)
    chart = Chart((0.1, 1), (0, top), TENTHS[1:], ticks, "upper threshold", "min per exam", "cost")
    for style, judged in zip("ab", protocols):
        points = [(p.up, p.minutes_per_exam) for p in judged.sweep]
        chart.line(points, style)
        chart.dots(points, style, 2.5)
        for up in judged.operating_up:
            chart.upright(up, f"{style} mark", f"{up:g}")
    return chart.svg()


def decision(protocols: Sequence[Judged], prevalence: float) -> str:
    """Net benefit against "always" and "never"; dashed: lesions anywhere count as missed."""
    of = [next(r for r in each.reweighted if r.prevalence == prevalence) for each in protocols]
    top = 1.1 * prevalence
    chart = Chart(
        (THRESHOLD_PROBABILITIES[0], THRESHOLD_PROBABILITIES[-1]),
        (-0.3 * prevalence, top),
        (0.01, 0.05, 0.1, 0.15, 0.2),
        [tick for tick in _upright_axis(prevalence)[1] if tick < top],
        "threshold probability",
        "net benefit",
        f"decision curve at a prevalence of {prevalence:g}",
    )
    chart.line([(THRESHOLD_PROBABILITIES[0], 0), (THRESHOLD_PROBABILITIES[-1], 0)], "never")
    chart.line(_curve(of[0], lambda point: point.always), "always")
    for style, each in zip("ab", of):
        chart.line(_curve(each, lambda point: point.protocol_anywhere), f"{style} dashed")
        chart.line(_curve(each, lambda point: point.protocol), style)
    return chart.svg()


def _curve(of: Reweighted, value: Callable[..., float]) -> list[tuple[float, float]]:
    return [(point.threshold, value(point)) for point in of.curve]


def _upright_axis(most: float) -> tuple[float, list[float]]:
    """Return the end of an axis from 0 that holds a value, and six ticks."""
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if 5 * s >= most), 10.0)
    return 5 * step, [round(i * step, 2) for i in range(6)]
