"""Labels and scores: curves over the threshold, its choice, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Most points of a stored curve.
CURVE_POINTS = 500
CALIBRATION_BINS = 10


def choose_threshold(is_peak: ArrayLike, probability: ArrayLike, goal: Any = "f1") -> float:
    """Choose the threshold at which rows are accepted, on validation rows (never test rows).

    Parameters
    ----------
    is_peak : (n,) array_like of bool
        Labels.
    probability : (n,) array_like
        Any score that rises with being a peak; NaN counts as below every threshold.
    goal : "f1", ("precision", p) or ("recall", r)
        Best F1; the lowest threshold whose precision is at least p; the highest one whose
        recall is at least r.

    Returns
    -------
    float
        Half way between the lowest accepted score and the next lower one.

    Raises
    ------
    InputError
        One class only, or a precision that no threshold reaches.
    ParameterError
        An unknown goal.
    """
    truth, score = labels_of("choose_threshold", is_peak), scores_of(probability)
    if len(truth) != len(score):
        raise InputError(f"choose_threshold: {len(truth)} labels but {len(score)} scores")
    require_both(truth)
    hits, accepted, values = cumulated(truth, score)
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError("choose_threshold: no score is a number; were the frames read?")
    hits, accepted, known = hits[finite], accepted[finite], values[finite]
    precision, recall = hits / accepted, hits / truth.sum()
    if goal == "f1":
        k = int(np.argmax(2 * hits / (accepted + truth.sum())))
    elif isinstance(goal, tuple) and len(goal) == 2 and goal[0] in ("precision", "recall"):
        name, wish = goal
        if not 0 < wish <= 1:
            raise ParameterError(f"choose_threshold: a {name} of {wish} is not in (0, 1]")
        reached = np.flatnonzero((precision if name == "precision" else recall) >= wish)
        if not len(reached):
            best = (precision if name == "precision" else recall).max()
            raise InputError(
                f"choose_threshold: no threshold has a {name} of {wish:g}; the best is "
                f"{best:.3f}. Ask for less or label more positions"
            )
        k = int(reached[-1] if name == "precision" else reached[0])
    else:
        raise ParameterError(
            f"choose_threshold: goal {goal!r} is not known; use 'f1', ('precision', 0.95) or "
            "('recall', 0.9)"
        )
    if k + 1 == len(known):
        return float(known[k])
    middle = (known[k] + known[k + 1]) / 2
    # Neighbouring floats have no middle; the lower one must stay refused.
    return float(middle if middle > known[k + 1] else known[k])


def average_precision(is_peak: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Return the average precision; NaN without a peak."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_peak, score)) if is_peak.any() else float("nan")


def pr_curve(is_peak: ArrayLike, score: ArrayLike, n_points: int = CURVE_POINTS) -> pd.DataFrame:
    """Return recall, precision and threshold, thinned to points evenly spread in recall.

    Parameters
    ----------
    is_peak : (n,) array_like of bool
        Labels with at least one peak.
    score : (n,) array_like
        Scores; -inf marks rows that no threshold accepts.
    n_points : int
        Most points kept.
    """
    truth = np.asarray(is_peak, bool)
    hits, accepted, values = cumulated(truth, np.asarray(score, np.float64))
    finite = np.isfinite(values)
    hits, accepted, values = hits[finite], accepted[finite], values[finite]
    recall = hits / truth.sum()
    kept = np.arange(len(recall))
    if len(recall) > n_points:
        at = np.searchsorted(recall, np.linspace(recall[0], recall[-1], n_points - 1))
        kept = np.unique(np.append(at, len(recall) - 1))
    return pd.DataFrame(
        {
            "recall": recall[kept],
            "precision": (hits / accepted)[kept],
            "threshold": values[kept],
        }
    )


def calibration_curve(
    truth: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[pd.DataFrame, float]:
    """Return predicted and observed shares in bins of about equal count, and their mean gap."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
    # Equal probabilities stay in one bin, whatever the edges.
    code = np.unique(np.searchsorted(edges, score, side="left"), return_inverse=True)[1]
    n = np.bincount(code)
    predicted = np.bincount(code, score) / n
    observed = np.bincount(code, truth) / n
    error = float((n * np.abs(predicted - observed)).sum() / n.sum())
    return pd.DataFrame({"predicted": predicted, "observed": observed, "n": n}), error


def cumulated(
    truth: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return hits and accepted rows at each distinct score, highest first."""
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    ends = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(score) - 1)
    return np.cumsum(truth[order])[ends], ends + 1, falling[ends]


def confusions(
    truth: NDArray[np.bool_], accepted: NDArray[np.bool_], units: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return TN, FP, FN, TP of each resampled unit, (n_units, 4)."""
    cell = 2 * truth.astype(np.int64) + accepted
    n_units = int(units.max()) + 1
    return np.bincount(4 * units + cell, minlength=4 * n_units).reshape(n_units, 4)


def rates_of(counts: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall, F1 and accuracy of (…, 4) counts; NaN where not defined."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": (tp + tn) / (tn + fp + fn + tp),
        }


def labels_of(caller: str, is_peak: ArrayLike) -> NDArray[np.bool_]:
    """Return labels as booleans; `caller` is named when they are none."""
    values = np.asarray(is_peak)
    if values.ndim != 1 or (len(values) and not np.isin(values, (0, 1)).all()):
        raise InputError(f"{caller}: labels must be one list of True (peak) and False")
    return values.astype(bool)


def column_of(caller: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return one column of numbers."""
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"{caller}: '{name}' must have one axis, not {column.ndim}")
    return column


def scores_of(values: ArrayLike) -> NDArray[np.float64]:
    """Return scores with NaN below every threshold."""
    column = column_of("scores", "score", values)
    return np.where(np.isnan(column), -np.inf, np.minimum(column, np.finfo(np.float64).max))


def require_both(truth: NDArray[np.bool_]) -> None:
    """Refuse labels of one class only."""
    if not len(truth):
        raise InputError("no labelled positions; label some as peak and some as not-peak")
    if truth.all() or not truth.any():
        have, lack = ("peak", "not-peak") if truth.all() else ("not-peak", "peak")
        raise InputError(
            f"all {len(truth)} labels are '{have}'; scores need both classes, so label some "
            f"positions '{lack}' too"
        )
