"""The mathematics that triage is fitted with, against closed forms and brute force."""

import numpy as np
import pytest
from scipy.optimize import minimize

from engines.training.triage import (
    auc,
    calibration_error,
    fit_anomaly,
    fit_logistic,
    irls,
    ridge,
    threshold,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def drawn(rng, n=600):
    """Rows whose probability is a logistic function of two of their three features."""
    features = rng.normal(size=(n, 3))
    truth = 1 / (1 + np.exp(-(1.5 * features[:, 0] - features[:, 1] - 0.5)))
    return features, rng.random(n) < truth


def test_ridge_without_penalty_gives_back_the_weights_of_a_line(rng):
    terms = np.column_stack([np.ones(50), rng.normal(size=(50, 2))])
    true = np.array([1.0, 2.0, 0.5])
    np.testing.assert_allclose(ridge(terms, terms @ true, penalty=0.0), true, atol=1e-9)


def test_irls_finds_the_minimum_that_a_general_optimiser_finds(rng):
    features, target = drawn(rng)
    rows = np.column_stack([np.ones(len(features)), features])
    penalty = np.array([1e-6, 2.0, 2.0, 2.0])

    def loss(w):
        score = rows @ w
        return np.sum(np.logaddexp(0, score) - target * score) + 0.5 * np.sum(penalty * w**2)

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    found = irls(features, target.astype(float), np.ones(len(target)), 2.0)
    np.testing.assert_allclose(found, best, atol=1e-4)


def test_probabilities_of_rows_not_seen_are_calibrated_and_order_them(rng):
    features, target = drawn(rng, 3000)
    fitted, held_out = fit_logistic(features, target, np.arange(3000) // 3)
    assert calibration_error(held_out, target) < 0.03
    assert auc(held_out, target) > 0.8
    assert len(fitted["weights"]) == 4


def test_the_same_rows_give_the_same_numbers(rng):
    features, target = drawn(rng)
    groups = np.arange(len(target)) // 4
    assert fit_logistic(features, target, groups)[0] == fit_logistic(features, target, groups)[0]


def test_auc_is_the_share_of_pairs_in_the_right_order(rng):
    scores, target = np.round(rng.random(60), 1), rng.random(60) < 0.4
    pairs = scores[target][:, None] - scores[~target][None]
    assert auc(scores, target) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_auc_of_one_class_is_not_a_number():
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))


def test_calibration_error_is_the_distance_between_said_and_true():
    said = np.array([0.05] * 10 + [0.95] * 10)
    true = np.array([False] * 10 + [True] * 5 + [False] * 5)
    assert calibration_error(said, true) == pytest.approx((0.05 + 0.45) / 2)


def test_the_threshold_lets_no_more_false_candidates_through_than_allowed(rng):
    probabilities = rng.uniform(0.3, 0.9, 200)
    least = threshold(probabilities, exams=100, false_per_exam=0.05)
    assert np.sum(probabilities >= least) == 5


def test_normal_exams_are_spread_evenly_over_the_anomaly_score(rng):
    features = np.abs(rng.normal(size=(400, 4)))
    fitted = fit_anomaly(features)
    standard = (features - fitted["mean"]) / fitted["scale"]
    distance = np.sum(np.clip(standard, 0, 8) ** 2, axis=1)
    shares = np.interp(distance, fitted["distances"], fitted["shares"])
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    far = np.full((1, 4), 9.0)
    standard = (far - fitted["mean"]) / fitted["scale"]
    assert np.interp(np.sum(standard**2), fitted["distances"], fitted["shares"]) > 0.99
