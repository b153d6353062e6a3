"""What any verifier has to beat: a plain threshold on SNR, and never saying yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.peaks.verify.curves import (
    average_precision,
    choose_threshold,
    confusions,
    cumulated,
    pr_curve,
    rates_of,
    scores_of,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PLAIN, PLAIN_EQUAL, NEVER = "plain threshold (SNR)", "plain threshold, equal recall", "never a peak"


def baselines(
    truth: NDArray[np.bool_],
    snr: NDArray[np.float64] | None,
    train: tuple[ArrayLike, ArrayLike] | None,
    recall: float,
    said: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the baseline rows of a report and the curve of the plain threshold.

    Parameters
    ----------
    truth : (n,) ndarray of bool
        Labels of the tested rows.
    snr : (n,) ndarray or None
        Their SNR, NaN where unknown.
    train : (snr, is_peak) or None
        Rows on which the plain threshold is chosen.
    recall : float
        Recall of the verifier, at which the plain threshold is compared with it.
    said : list of str
        Gets notes.
    """
    rows, curve = [], None
    if snr is not None:
        unknown = int(np.isnan(snr).sum())
        if unknown:
            said.append(
                f"{unknown} of {len(snr)} positions have no SNR (set by hand); the plain threshold "
                "refuses them"
            )
        snr = scores_of(snr)
        ap = average_precision(truth, np.maximum(snr, np.finfo(float).min))
        if np.isfinite(snr).any():
            curve = pr_curve(truth, snr)
        if train is not None:
            chosen = choose_threshold(train[1], train[0], "f1")
            rows.append(_plain_row(PLAIN, truth, snr, chosen, "best F1 in training", ap))
        name = PLAIN if train is None else PLAIN_EQUAL
        equal = _threshold_of_recall(truth, snr, recall)
        rows.append(_plain_row(name, truth, snr, equal, "verifier's recall", ap))
    share = float((~truth).mean())
    never = {"name": NEVER, "threshold": np.nan, "threshold_from": "", "precision": np.nan}
    # Any order of rows with equal scores has the share of peaks as its precision.
    rows.append({**never, "recall": 0.0, "f1": 0.0, "ap": 1 - share, "accuracy": share})
    return pd.DataFrame(rows), curve


def _plain_row(
    name: str,
    truth: NDArray[np.bool_],
    snr: NDArray[np.float64],
    threshold: float,
    origin: str,
    ap: float,
) -> dict[str, Any]:
    counts = confusions(truth, snr >= threshold, np.zeros(len(truth), np.int64))[0]
    rates = {key: float(value) for key, value in rates_of(counts).items()}
    return {
        "name": name, "threshold": threshold, "threshold_from": origin,
        "precision": rates["precision"], "recall": rates["recall"], "f1": rates["f1"],
        "ap": ap, "accuracy": rates["accuracy"],
    }  # fmt: skip


def _threshold_of_recall(
    truth: NDArray[np.bool_], snr: NDArray[np.float64], recall: float
) -> float:
    """Return the highest threshold that finds at least as many peaks; NaN when none does."""
    hits, _, values = cumulated(truth, snr)
    reached = np.flatnonzero((hits >= round(recall * int(truth.sum()))) & np.isfinite(values))
    return float(values[reached[0]]) if len(reached) else float("nan")
