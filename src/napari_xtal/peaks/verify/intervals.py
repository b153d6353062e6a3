"""95 % intervals that respect that peaks of one frame are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_xtal.peaks.verify.curves import average_precision, rates_of
from napari_xtal.peaks.verify.report import SCORES, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: With fewer groups than this, resampling them says nothing about the next group.
MIN_GROUPS = 5


def resampled_units(
    group: NDArray[np.int64] | None, n: int, said: list[str]
) -> tuple[NDArray[np.int64], int | None]:
    """Return what the bootstrap draws for each row, and the number of groups."""
    if group is None:
        said.append(
            "the frames of the positions were not given: intervals resample single positions "
            "and are too narrow if positions of one frame are alike"
        )
        return np.arange(n), None
    codes = np.unique(group, return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    if n_groups >= MIN_GROUPS:
        return codes, n_groups
    said.append(
        f"labels on {n_groups} frame{'s' * (n_groups > 1)} only: intervals resample single "
        f"positions and hold for these frames; label at least {MIN_GROUPS} frames"
    )
    return np.arange(n), n_groups


def with_intervals(
    counts: NDArray[np.int64],
    table: NDArray[np.int64],
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    units: NDArray[np.int64],
    n_resamples: int,
    seed: int,
    said: list[str],
) -> dict[str, Score]:
    """Return every score with its 95 % interval (percentile bootstrap over units).

    Parameters
    ----------
    counts : (4,) ndarray of int
        TN, FP, FN, TP of all rows.
    table : (n_units, 4) ndarray of int
        The same of each unit that is drawn.
    truth, score, units : (n,) ndarray
        Label, probability and unit of each row.
    n_resamples, seed : int
        Resamples and their seed.
    said : list of str
        Gets notes.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(-score, kind="stable")
    unit = units[order].astype(np.int32)
    ranked = _Ranked.of(truth[order], score[order])
    n_units = len(table)
    of_unit = table.astype(np.float64)  # products of floats run in BLAS, and are exact here
    drawn = np.empty((n_resamples, 4))
    ap = np.empty(n_resamples)
    for k in range(n_resamples):
        # How often each unit was drawn; weighting the rows sorted once spares sorting again.
        chosen = rng.integers(0, n_units, n_units, dtype=np.int32)
        weight = np.bincount(chosen, minlength=n_units)
        drawn[k] = weight.astype(np.float64) @ of_unit
        ap[k] = ranked.average_precision(weight.astype(np.int32)[unit])
    values = {name: float(v) for name, v in rates_of(counts).items()}
    values["ap"] = average_precision(truth, score)
    samples = {**rates_of(drawn), "ap": ap}
    undefined = max(int(np.isnan(s).sum()) for n, s in samples.items() if np.isfinite(values[n]))
    if undefined:
        said.append(
            f"{undefined} of {n_resamples} resamples held no peak or accepted nothing; the "
            "intervals leave them out"
        )
    found = {name: _interval(values[name], samples[name]) for name in SCORES}
    return _bounded(found, counts, said)


class _Ranked(NamedTuple):
    """Rows by falling score: where the peaks stand, and where the rows tied with them end."""

    peaks: NDArray[np.int64]  # rank of each peak
    last_row: NDArray[np.int64]  # rank of the last row with the score of that peak
    last_peak: NDArray[np.int64]  # the same, counted among the peaks

    @classmethod
    def of(cls, truth: NDArray[np.bool_], falling: NDArray[np.float64]) -> _Ranked:
        peaks = np.flatnonzero(truth)
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        last_row = ends[np.searchsorted(ends, peaks)]
        return cls(peaks, last_row, np.searchsorted(peaks, last_row, side="right") - 1)

    def average_precision(self, weight: NDArray[np.int32]) -> float:
        """Average precision of rows that count `weight` times; NaN without a peak."""
        own = weight[self.peaks]
        hits = np.cumsum(own)
        if hits[-1] == 0:
            return float("nan")
        accepted = np.cumsum(weight)[self.last_row]
        # Where nothing was drawn so far no hit was either, and its weight is zero.
        precision = hits[self.last_peak] / np.maximum(accepted, 1)
        return float(own @ precision / hits[-1])


def _interval(value: float, samples: NDArray[np.float64]) -> Score:
    defined = samples[np.isfinite(samples)]
    if not np.isfinite(value) or not len(defined):
        return Score(value, float("nan"), float("nan"))
    low, high = np.percentile(defined, (2.5, 97.5))
    return Score(value, float(low), float(high))


def _bounded(
    scores: dict[str, Score], counts: NDArray[np.int64], said: list[str]
) -> dict[str, Score]:
    """Widen intervals of scores without a single error, which no resample can show.

    The limit of k = n of n is Clopper and Pearson's, 0.025^(1/n).
    """
    tn, fp, fn, tp = (int(v) for v in counts)
    trials = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "accuracy": (tp + tn, sum(counts)),
    }
    changed = dict(scores)
    for name, (k, n) in trials.items():
        if n and k == n:
            changed[name] = Score(1.0, 0.025 ** (1 / int(n)), 1.0)
        elif n and k == 0:
            changed[name] = Score(0.0, 0.0, 1 - 0.025 ** (1 / int(n)))
    if tp and not fp and not fn:
        low = [changed[name].low for name in ("precision", "recall")]
        changed["f1"] = Score(1.0, 2 * low[0] * low[1] / (low[0] + low[1]), 1.0)
    if changed != scores:
        said.append(
            "scores of exactly 0 or 1 have the limits of Clopper and Pearson, which take single "
            "positions as independent"
        )
    return changed
