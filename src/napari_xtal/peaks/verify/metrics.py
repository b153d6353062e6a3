"""Scores of a verifier on labels that were not used in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.baselines import baselines
from napari_xtal.peaks.verify.curves import (
    average_precision,
    calibration_curve,
    choose_threshold,
    column_of,
    confusions,
    labels_of,
    pr_curve,
    require_both,
    scores_of,
)
from napari_xtal.peaks.verify.intervals import resampled_units, with_intervals
from napari_xtal.peaks.verify.report import VerifierReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

__all__ = [
    "average_precision",
    "choose_threshold",
    "evaluate",
    "permutation_importance",
    "pr_curve",
]


def evaluate(
    is_peak: ArrayLike,
    probability: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    baseline_train: tuple[ArrayLike, ArrayLike] | None = None,
    threshold: float = 0.5,
    n_resamples: int = 500,
    seed: int = 0,
    notes: Sequence[str] = (),
    loss: dict[str, list[float]] | None = None,
    importance: pd.DataFrame | None = None,
    parameters: dict[str, Any] | None = None,
) -> VerifierReport:
    """Score probabilities against labels that were not used in training.

    Parameters
    ----------
    is_peak : (n,) array_like of bool
        Labels, in their natural shares (never down-sampled).
    probability : (n,) array_like
        Verdicts in [0, 1]; NaN (frame not readable) rows are left out, with a note.
    groups : (n,) array_like, optional
        Frame (or run) of each row. The 95 % intervals come from resampling whole groups
        with replacement (percentile bootstrap, Efron 1979); with fewer than five groups
        from resampling rows, which a note says.
    baseline : (n,) array_like, optional
        The finder's SNR of each row: what a plain threshold would use. NaN counts as
        below every threshold.
    baseline_train : (snr, is_peak), optional
        Training or validation rows on which the plain threshold is chosen (best F1).
        Without it the plain threshold is only compared at the verifier's recall.
    threshold : float
        Rows with a probability of at least this count as accepted.
    n_resamples, seed : int
        Bootstrap resamples and their seed.
    notes : sequence of str
        Notes of the caller, kept first.
    loss, importance, parameters
        Carried into the report.

    Returns
    -------
    VerifierReport
        Scores, curves, baselines.

    Raises
    ------
    InputError
        No rows, one class only, lengths that differ, probabilities outside [0, 1].
    """
    if n_resamples < 1:
        raise ParameterError(f"evaluate: n_resamples must be at least 1, not {n_resamples}")
    if not np.isfinite(threshold):
        raise ParameterError(f"evaluate: threshold must be a number, not {threshold}")
    truth, score = labels_of("evaluate", is_peak), column_of("evaluate", "probability", probability)
    group = None if groups is None else pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    snr = None if baseline is None else column_of("evaluate", "baseline", baseline)
    for name, values in (("probability", score), ("groups", group), ("baseline", snr)):
        if values is not None and len(values) != len(truth):
            raise InputError(
                f"evaluate: {len(truth)} labels but {len(values)} values in '{name}'; give one "
                "per labelled position"
            )
    said = list(notes)
    usable = ~np.isnan(score)
    if not usable.all():
        lost = int((~usable).sum())
        said.append(f"{lost} of {len(truth)} labelled positions have no probability; left out")
        truth, score = truth[usable], score[usable]
        group = None if group is None else group[usable]
        snr = None if snr is None else snr[usable]
    require_both(truth)
    if score.min() < 0 or score.max() > 1:
        raise InputError(
            f"evaluate: probabilities lie between {score.min():.3g} and {score.max():.3g}; they "
            "must lie in [0, 1]"
        )
    units, n_frames = resampled_units(group, len(truth), said)
    table = confusions(truth, score >= threshold, units)
    counts = table.sum(axis=0)
    scores = with_intervals(counts, table, truth, score, units, n_resamples, seed, said)
    plain, curve = baselines(truth, snr, baseline_train, scores["recall"].value, said)
    calibration, error = calibration_curve(truth, score)
    tn, fp, fn, tp = (int(v) for v in counts)
    return VerifierReport(
        n=len(truth),
        n_peaks=int(truth.sum()),
        n_frames=n_frames,
        threshold=float(threshold),
        confusion=((tn, fp), (fn, tp)),
        pr_curve=pr_curve(truth, score),
        calibration_curve=calibration,
        calibration_error=error,
        baselines=plain,
        baseline_curve=curve,
        loss=loss,
        importance=importance,
        notes=said,
        parameters={"n_resamples": n_resamples, "seed": seed, **(parameters or {})},
        **scores,
    )


def permutation_importance(
    predict: Callable[[pd.DataFrame], ArrayLike],
    features: pd.DataFrame,
    is_peak: ArrayLike,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_repeats: int = 5,
) -> pd.DataFrame:
    """Measure how much average precision is lost when one feature is shuffled (Breiman 2001).

    Parameters
    ----------
    predict : callable
        Gets a table like `features`, returns a score per row.
    features : (n, n_features) DataFrame
        Held-out rows.
    is_peak : (n,) array_like of bool
        Their labels.
    groups : (n,) array_like, optional
        With it values are only exchanged between rows of one group, so that no row gets
        a value that its detector cannot have.
    seed, n_repeats : int
        Seed and number of shuffles of each feature.

    Returns
    -------
    DataFrame
        feature, importance (mean loss), sd (over the shuffles); most important first.

    Raises
    ------
    InputError
        One class only, or lengths that differ.
    """
    truth = labels_of("permutation_importance", is_peak)
    codes = np.zeros(len(truth), np.int64)
    if groups is not None:
        codes = pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    if len(truth) != len(features) or len(codes) != len(truth):
        raise InputError(
            f"permutation_importance: {len(features)} rows of features, {len(truth)} labels and "
            f"{len(codes)} groups do not go together"
        )
    require_both(truth)
    if n_repeats < 1:
        raise ParameterError(f"permutation_importance: n_repeats must be >= 1, not {n_repeats}")
    rng = np.random.default_rng(seed)
    home = np.argsort(codes, kind="stable")
    full = average_precision(truth, scores_of(predict(features)))
    rows = []
    for name in features.columns:
        values = features[name].to_numpy()
        drops = []
        for _ in range(n_repeats):
            order = np.lexsort((rng.random(len(truth)), codes))
            shuffled = values.copy()
            shuffled[home] = values[order]
            mixed = features.assign(**{str(name): shuffled})
            drops.append(full - average_precision(truth, scores_of(predict(mixed))))
        rows.append((str(name), float(np.mean(drops)), float(np.std(drops))))
    table = pd.DataFrame(rows, columns=["feature", "importance", "sd"])
    return table.sort_values("importance", ascending=False, ignore_index=True, kind="stable")
