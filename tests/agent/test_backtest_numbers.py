"""The statistics of a backtest against SciPy, published arithmetic and counting by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu

from agent.backtest_numbers import net_benefit, proportion, reliability, roc


@pytest.mark.parametrize(("count", "of"), [(0, 10), (3, 10), (10, 10), (97, 100), (1, 1)])
def test_wilson_interval(count: int, of: int) -> None:
    ours = proportion(count, of)
    theirs = binomtest(count, of).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.value == count / of


def test_nothing_has_no_value() -> None:
    assert proportion(0, 0).value is None


def test_area_under_the_curve_is_mann_whitney() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(200) < 0.3
    # Rounded, so that there are ties.
    scores = np.round(rng.normal(positive, 1.0), 1)
    _, area = roc(scores.tolist(), positive.tolist())
    u = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert area == pytest.approx(u / (positive.sum() * (~positive).sum()))


def test_curve_by_hand() -> None:
    points, area = roc([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    assert [(p.score, p.false_positive_rate, p.sensitivity) for p in points] == [
        (1.0, 0.0, 0.0),
        (0.9, 0.0, 0.5),
        (0.8, 0.5, 1.0),
        (0.1, 1.0, 1.0),
    ]
    assert area == pytest.approx(0.875)


def test_curve_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        roc([0.5], [True])


def test_calibration_error_by_hand() -> None:
    bins, error = reliability([0.12, 0.18, 0.95, 1.0], [False, True, True, True])
    assert [(b.low, b.said, b.observed.count, b.observed.of) for b in bins] == [
        (0.1, pytest.approx(0.15), 1, 2),
        (0.9, pytest.approx(0.975), 2, 2),
    ]
    assert error == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)


@pytest.mark.parametrize(
    ("prevalence", "sensitivity", "specificity", "expected", "always"),
    [
        (0.035, 0.80, 0.85, 0.0204, -0.0158),
        (0.035, 0.85, 0.95, 0.0272, -0.0158),
        (0.064, 0.85, 0.95, 0.0519, 0.0147),
        (0.100, 0.85, 0.95, 0.0826, 0.0526),
    ],
)
def test_net_benefit_at_a_threshold_of_5_percent(
    prevalence: float, sensitivity: float, specificity: float, expected: float, always: float
) -> None:
    ours = net_benefit(sensitivity, specificity, prevalence, 0.05)
    assert ours == pytest.approx(expected, abs=6e-5)
    assert net_benefit(1, 0, prevalence, 0.05) == pytest.approx(always, abs=6e-5)
