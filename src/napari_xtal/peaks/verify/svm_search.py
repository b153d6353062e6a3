"""Choose, cross-validate and calibrate a support vector machine on grouped folds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.find import n_processors
from napari_xtal.peaks.verify.curves import average_precision
from napari_xtal.peaks.verify.features import FEATURES
from napari_xtal.peaks.verify.svm_machine import Setting, downsample, fit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]

#: Values of the grid search: the founding method's for the RBF kernel.
RBF_C = (0.1, 1.0, 10.0, 100.0, 1000.0)
RBF_GAMMA = (1.0, 0.1, 0.01, 0.001, 0.0001)
LINEAR_C = (0.001, 0.01, 0.1, 1.0, 10.0)
#: Folds of the cross-validation; fewer when fewer groups have a class.
N_FOLDS = 5
#: Fewest labels of each class.
MIN_LABELS = 5
#: Held-out rows per fold and shuffles for the importance of features.
_IMPORTANCE_ROWS, _IMPORTANCE_REPEATS = 600, 2
#: How many of the best settings are tried with principal components too.
N_WITH_PCA = 3
#: Most rows of a fold, trained and held out, during the search; the best then gets all.
SEARCH_ROWS = 800
#: Of settings within this average precision of the best, the one that predicts fastest is taken.
MARGIN = 1e-3


@dataclass
class Search:
    """What the search has found.

    Attributes
    ----------
    best : Setting
        The setting with the highest mean average precision.
    tried : list of dict
        Every setting with the mean of its average precisions over the folds.
    scores : list of float
        Average precision of the best setting on each fold, trained on all its rows.
    decisions : (n,) ndarray
        Out-of-fold decision value of each row.
    models : list of Pipeline
        The best setting, trained on each fold.
    notes : list of str
        What went not as it should.
    """

    best: Setting
    tried: list[dict[str, Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    decisions: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    models: list[Pipeline] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def settings_of(kernel: str, grid: dict[str, Any] | None) -> list[Setting]:
    """Return the settings to try first, without principal components, simplest first.

    Raises
    ------
    ParameterError
        When the kernel or a value of the grid is none.
    """
    if kernel not in ("rbf", "linear"):
        raise ParameterError(f"kernel must be 'rbf', 'linear' or 'auto', got {kernel!r}")
    grid = dict(grid or {})
    costs = grid.pop("C", RBF_C if kernel == "rbf" else LINEAR_C)
    gammas = grid.pop("gamma", RBF_GAMMA) if kernel == "rbf" else (0.0,)
    grid.pop("pca", None)
    if grid:
        raise ParameterError(f"grid: {sorted(grid)} not known; give C, gamma (rbf) and pca")
    values = [*costs, *(gammas if kernel == "rbf" else ())]
    if not values or not all(np.isfinite(v) and v > 0 for v in values):
        raise ParameterError("grid: C and gamma must be lists of positive numbers")
    return [Setting(kernel, C, g) for C, g in itertools.product(sorted(costs), sorted(gammas))]


def search(
    features: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
    weight: NDArray[np.float64],
    folds: Folds,
    *,
    kernel: str,
    grid: dict[str, Any] | None = None,
    ratio: float | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Search:
    """Find the setting with the best average precision on held-out folds.

    Scaling, components, down-sampling and training see the training rows of a fold only;
    the held-out rows keep their natural shares. Cancelled, the best of what was tried is
    taken.

    Parameters
    ----------
    features : (n, n_features) ndarray
        Features.
    is_peak : (n,) ndarray of bool
        Labels.
    weight : (n,) ndarray
        How much a row counts in training.
    folds : list of (train, test)
        Row numbers.
    kernel : str
        ``rbf`` or ``linear``.
    grid : dict, optional
        Lists ``C`` and ``gamma`` to try instead of the default, ``pca`` (whether the best
        are tried with principal components too).
    ratio : float or None
        See `downsample`.
    seed : int
        Seed of the down-sampling.
    progress : callable, optional
        Called with (done, total) after each setting, from this thread.
    cancel : callable, optional
        Asked after each setting; True stops.
    """
    settings = settings_of(kernel, grid)
    with_pca = N_WITH_PCA if (grid or {}).get("pca", True) else 0
    total = len(settings) + min(with_pca, len(settings)) + 1
    done = 0
    stopped = False
    scored: list[tuple[float, float, Setting]] = []
    thinned = [
        (_some(train[downsample(is_peak[train], ratio, seed + k)], is_peak, seed + k),
         _some(test, is_peak, seed + k))
        for k, (train, test) in enumerate(folds)
    ]  # fmt: skip

    def try_all(wanted: list[Setting]) -> None:
        nonlocal done, stopped
        for setting in wanted:
            if scored and (stopped or (cancel is not None and cancel())):
                stopped = True
                return
            models = _on_folds(setting, features, is_peak, weight, thinned, seed)
            scores = [
                average_precision(is_peak[test], model.decision_function(features[test]))
                for (model, _), (_, test) in zip(models, thinned, strict=True)
            ]
            cost = np.mean([_cost(model) for model, _ in models])
            scored.append((float(np.mean(scores)), float(cost), setting))
            done += 1
            if progress is not None:
                progress(done, total)

    try_all(settings)
    leaders = sorted(scored, key=lambda item: -item[0])[:with_pca]
    try_all([Setting(s.kernel, s.C, s.gamma, pca=True) for _, _, s in leaders])
    top = max(score for score, _, _ in scored)
    best = min((item for item in scored if item[0] >= top - MARGIN), key=lambda item: item[1])[2]
    found = Search(best, [{**asdict(s), "ap": score} for score, _, s in scored])
    if stopped:
        found.notes.append(f"cancelled after {len(scored)} settings; the best of these was taken")
    _validate(found, features, is_peak, weight, folds, ratio, seed)
    if progress is not None:
        progress(total, total)
    return found


def _some(rows: NDArray[np.int64], is_peak: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return at most `SEARCH_ROWS` of some rows, both classes in the shares they have."""
    if len(rows) <= SEARCH_ROWS:
        return rows
    rng = np.random.default_rng(seed)
    peaks = rows[is_peak[rows]]
    n_peaks = min(max(round(SEARCH_ROWS * len(peaks) / len(rows)), 1), SEARCH_ROWS - 1)
    kept = [
        rng.choice(peaks, n_peaks, replace=False),
        rng.choice(rows[~is_peak[rows]], SEARCH_ROWS - n_peaks, replace=False),
    ]
    return np.sort(np.concatenate(kept))


def _cost(model: Pipeline) -> float:
    """Return how long a prediction takes, in support vectors."""
    machine = model["svm"]
    return float(np.sum(machine.n_support_)) if hasattr(machine, "n_support_") else 1.0


def _on_folds(
    setting: Setting,
    features: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
    weight: NDArray[np.float64],
    folds: Folds,
    seed: int,
) -> list[tuple[Pipeline, str | None]]:
    """Train a setting on the training rows of every fold, in threads."""

    def train(fold: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Pipeline, str | None]:
        rows = fold[0]
        return fit(setting, features[rows], is_peak[rows], weight[rows], seed)

    with ThreadPoolExecutor(n_processors(), thread_name_prefix="train-svm") as pool:
        return list(pool.map(train, folds))


def _validate(
    found: Search,
    features: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
    weight: NDArray[np.float64],
    folds: Folds,
    ratio: float | None,
    seed: int,
) -> None:
    """Train the best setting on all rows of each fold and score what was held out."""
    whole = [
        (train[downsample(is_peak[train], ratio, seed + k)], test)
        for k, (train, test) in enumerate(folds)
    ]
    found.decisions = np.full(len(is_peak), np.nan)
    for (model, note), (_, test) in zip(
        _on_folds(found.best, features, is_peak, weight, whole, seed), whole, strict=True
    ):
        found.decisions[test] = model.decision_function(features[test])
        found.scores.append(average_precision(is_peak[test], found.decisions[test]))
        found.models.append(model)
        if note is not None and note not in found.notes:
            found.notes.append(note)


def folds_of(
    values: NDArray[np.float64],
    truth: NDArray[Any],
    groups: ArrayLike | None,
    seed: int,
    notes: list[str],
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return folds of whole groups; notes when there is but one group."""
    from napari_xtal.peaks.verify.splits import grouped_folds

    if truth.shape != (len(values),):
        raise InputError(f"{len(values)} rows of features but labels of shape {truth.shape}")
    units = np.arange(len(truth)) if groups is None else np.asarray(groups)
    if units.shape == truth.shape and len(truth) and len(pd.unique(units)) == 1:
        units = np.arange(len(truth))
        notes.append("all labels belong to one frame: the folds of the search divide its "
                     "positions, so its scores hold for this frame only")  # fmt: skip
    n_folds = N_FOLDS
    if units.shape == truth.shape:
        for kind in (False, True):
            n = int(np.count_nonzero(truth == kind))
            if 0 < n < MIN_LABELS:
                name = "peak" if kind else "not-peak"
                raise InputError(
                    f"only {n} labels '{name}'; training needs at least {MIN_LABELS} of each "
                    f"class, so label {MIN_LABELS - n} more"
                )
            n_folds = min(n_folds, max(len(pd.unique(units[truth == kind])), 2))
    return grouped_folds(units, truth, n_folds, seed)


def importance_of(
    models: list[Pipeline],
    folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    values: NDArray[np.float64],
    truth: NDArray[np.bool_],
    seed: int,
) -> list[dict[str, Any]]:
    """Return mean and sd over the folds of what shuffling a feature costs, as records."""
    from napari_xtal.peaks.verify.metrics import permutation_importance

    parts = []
    for k, (model, (_, test)) in enumerate(zip(models, folds, strict=True)):
        rows = test
        if len(rows) > _IMPORTANCE_ROWS:
            rows = np.random.default_rng(seed + k).choice(rows, _IMPORTANCE_ROWS, replace=False)
        if truth[rows].all() or not truth[rows].any():
            continue
        table = permutation_importance(
            lambda mixed, model=model: model.decision_function(mixed.to_numpy()),  # type: ignore[misc]
            pd.DataFrame(values[rows], columns=list(FEATURES)),
            truth[rows],
            seed=seed + k,
            n_repeats=_IMPORTANCE_REPEATS,
        )
        parts.append(table.set_index("feature")["importance"].reindex(list(FEATURES)))
    table = pd.concat(parts, axis=1)
    mean, sd = table.mean(axis=1), table.std(axis=1, ddof=0)
    order = np.argsort(-mean.to_numpy(), kind="stable")
    return [
        {"feature": name, "importance": float(mean[name]), "sd": float(sd[name])}
        for name in mean.index[order]
    ]
