"""The statistics of a backtest: intervals, ROC, reliability, net benefit. Pure functions."""

from collections.abc import Sequence
from math import sqrt

from pydantic import BaseModel, ConfigDict

Z95 = 1.959963984540054


class Numbers(BaseModel):
    """Of every result: frozen, JSON there and back."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Proportion(Numbers):
    """`count` of `of`, with its 95 % interval (Wilson 1927); no value of nothing."""

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None


def proportion(count: int, of: int) -> Proportion:
    """Return a proportion with its Wilson interval."""
    if of == 0:
        return Proportion(count=count, of=of, value=None, low=None, high=None)
    share, spread = count / of, Z95**2 / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * sqrt(share * (1 - share) / of + spread / (4 * of))
    # At the ends the interval ends there too; rounding would miss it by the last bit.
    low = 0.0 if count == 0 else middle - half
    high = 1.0 if count == of else middle + half
    return Proportion(count=count, of=of, value=share, low=low, high=high)


class RocPoint(Numbers):
    """Sensitivity and false-positive rate of "the score is at least this"."""

    score: float
    sensitivity: float
    false_positive_rate: float


def roc(scores: Sequence[float], positive: Sequence[bool]) -> tuple[tuple[RocPoint, ...], float]:
    """Return the ROC curve, from (0, 0) on, and the area under it.

    Equal scores are one point, so that the area counts ties one half (Hanley & McNeil 1982).

    Raises
    ------
    ValueError
        There are no positives, or no negatives.
    """
    positives = sum(positive)
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise ValueError("expected positives and negatives for a ROC curve")
    points = [RocPoint(score=1.0, sensitivity=0, false_positive_rate=0)]
    true = false = 0
    area = 0.0
    pairs = sorted(zip(scores, positive), reverse=True)
    for i, (score, is_positive) in enumerate(pairs):
        true += is_positive
        false += not is_positive
        if i + 1 < len(pairs) and pairs[i + 1][0] == score:
            continue
        point = RocPoint(
            score=score, sensitivity=true / positives, false_positive_rate=false / negatives
        )
        before = points[-1]
        width = point.false_positive_rate - before.false_positive_rate
        area += width * (point.sensitivity + before.sensitivity) / 2
        points.append(point)
    return tuple(points), area


class Bin(Numbers):
    """Probabilities said between two bounds, and how often it was so."""

    low: float
    high: float
    said: float
    observed: Proportion


def reliability(
    probabilities: Sequence[float], true: Sequence[bool], bins: int = 10
) -> tuple[tuple[Bin, ...], float | None]:
    """Return the bins of equal width that are not empty, and the expected calibration error.

    That is the mean of |said - observed|, weighted with the findings of each bin (Naeini 2015);
    None of no findings.
    """
    sorted_in: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, is_true in zip(probabilities, true):
        sorted_in[min(int(probability * bins), bins - 1)].append((probability, is_true))
    found = []
    error = 0.0
    for i, inside in enumerate(sorted_in):
        if inside:
            said = sum(probability for probability, _ in inside) / len(inside)
            observed = proportion(sum(is_true for _, is_true in inside), len(inside))
            found.append(Bin(low=i / bins, high=(i + 1) / bins, said=said, observed=observed))
            error += abs(said * len(inside) - observed.count)
    return tuple(found), error / len(probabilities) if probabilities else None


def net_benefit(
    sensitivity: float, specificity: float, prevalence: float, threshold: float
) -> float:
    """Return true positives per exam less false ones, these at the odds of the threshold.

    Vickers & Elkin 2006, with the rates of this archive and another prevalence. "Always" has
    sensitivity 1 and specificity 0; "never" has net benefit 0.
    """
    odds = threshold / (1 - threshold)
    return prevalence * sensitivity - (1 - prevalence) * (1 - specificity) * odds
