"""Fitting the numbers of triage: regressions in closed form, on features made elsewhere.

Ridge regression for shares, logistic regression by iteratively reweighted least squares with a
quadratic penalty (Bishop, PRML 2006, 4.3.3), Platt scaling on what each fold did not see (Platt
1999). No network, a few seconds, the same numbers each time.
"""

from typing import Any

import numpy as np
from scipy.special import expit

FOLDS = 5
ROUNDS = 40


def ridge(
    terms: np.ndarray, wanted: np.ndarray, penalty: float = 1e-3, gain: float = 0.0
) -> np.ndarray:
    """Return weights (term) of least squares with a quadratic penalty.

    Parameters
    ----------
    terms : float (n, term)
        The first is constant, and is not penalised.
    wanted : float (n)
        0 to 1.
    penalty : float
        Of n.
    gain : float
        A row counts 1 + gain x wanted: for what is rare.
    """
    terms, wanted = terms.astype(float), wanted.astype(float)
    weighted = terms * (1 + gain * wanted)[:, None]
    square = penalty * len(terms) * np.eye(terms.shape[1])
    square[0, 0] = 0
    return np.asarray(np.linalg.solve(weighted.T @ terms + square, weighted.T @ wanted))


def irls(
    features: np.ndarray, target: np.ndarray, weights: np.ndarray, penalty: float
) -> np.ndarray:
    """Return the weights (1 + feature) of a logistic regression, the constant first."""
    rows = np.column_stack([np.ones(len(features)), features])
    ridge_ = penalty * np.eye(rows.shape[1])
    ridge_[0, 0] = 1e-6
    found = np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        probability = expit(rows @ found)
        curvature = np.maximum(weights * probability * (1 - probability), 1e-9)
        slope = rows.T @ (weights * (target - probability)) - ridge_ @ found
        step = np.linalg.solve((rows * curvature[:, None]).T @ rows + ridge_, slope)
        found = found + np.clip(step, -3, 3)
        if np.abs(step).max() < 1e-8:
            break
    return found


def fit_logistic(
    features: np.ndarray, target: np.ndarray, groups: np.ndarray, penalty: float = 3.0
) -> tuple[dict[str, Any], np.ndarray]:
    """Fit a calibrated logistic regression.

    Parameters
    ----------
    features : float (n, feature)
    target : bool (n)
    groups : int (n)
        Patient; all rows of one are in the same fold.
    penalty : float

    Returns
    -------
    dict
        Numbers of `gadgets.triage_model.Logistic`.
    float64 (n)
        Calibrated probability of each row by the folds that did not see it.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    rows = np.clip((features - mean) / scale, -4, 4)
    ones = np.ones(len(rows))
    held_out = np.zeros(len(rows))
    for fold in range(FOLDS):
        out = groups % FOLDS == fold
        if out.any() and not out.all():
            weights = irls(rows[~out], target[~out], ones[~out], penalty)
            held_out[out] = rows[out] @ weights[1:] + weights[0]
    shift, slope = irls(held_out[:, None], target.astype(float), ones, 1e-2)
    weights = irls(rows, target.astype(float), ones, penalty)
    fitted = {
        "mean": _rounded(mean),
        "scale": _rounded(scale),
        "weights": _rounded(weights),
        "slope": round(float(slope), 5),
        "shift": round(float(shift), 5),
    }
    return fitted, expit(slope * held_out + shift)


def fit_anomaly(features: np.ndarray) -> dict[str, Any]:
    """Fit what normal exams look like: features (exam, feature) of normal exams alone."""
    mean = np.median(features, axis=0)
    scale = 1.4826 * np.median(np.abs(features - mean), axis=0) + 1e-3
    distances = np.sum(np.clip((features - mean) / scale, 0, 8) ** 2, axis=1)
    shares = np.linspace(0, 1, 21)[:-1]
    at = np.quantile(distances, shares)
    # Beyond the normal exams which there are, it goes on to grow.
    at = np.maximum.accumulate([*at, at[-1] * 2 + 1])
    return {
        "mean": _rounded(mean),
        "scale": _rounded(scale),
        "distances": _rounded(np.asarray(at)),
        "shares": _rounded(np.append(shares, 0.999)),
    }


def threshold(probabilities: np.ndarray, exams: int, false_per_exam: float) -> float:
    """Return the probability that so many false candidates of ``exams`` normal exams exceed."""
    allowed = int(np.floor(false_per_exam * exams))
    ordered = np.sort(probabilities)[::-1]
    if len(ordered) <= allowed:
        return 0.5
    return float(np.clip(ordered[allowed] + 1e-4, 0.3, 0.995))


def calibration_error(probabilities: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error (Naeini, AAAI 2015), bins of equal width."""
    if not len(probabilities):
        return float("nan")
    where = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(where, minlength=bins)
    said = np.bincount(where, probabilities, bins)
    true = np.bincount(where, target.astype(float), bins)
    return float(np.abs(said - true).sum() / counts.sum())


def auc(scores: np.ndarray, target: np.ndarray) -> float:
    """Return the area under the ROC curve, by ranks (Hanley and McNeil 1982); ties count half."""
    target = target.astype(bool)
    positive, negative = int(target.sum()), int((~target).sum())
    if not positive or not negative:
        return float("nan")
    values, where = np.unique(scores, return_inverse=True)
    counts = np.bincount(where, minlength=len(values))
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[where][target].sum() - positive * (positive + 1) / 2) / positive / negative)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
