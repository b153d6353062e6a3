"""Choose, cross-validate and calibrate a support vector machine on grouped folds."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.find import _n_processors
from napari_xtal.peaks.verify.curves import average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]

#: Values of the grid search: the founding method's for the RBF kernel.
RBF_C = (0.1, 1.0, 10.0, 100.0, 1000.0)
RBF_GAMMA = (1.0, 0.1, 0.01, 0.001, 0.0001)
LINEAR_C = (0.001, 0.01, 0.1, 1.0, 10.0)
#: Share of the variance that the optional principal components keep.
PCA_SHARE = 0.98
#: How many of the best settings are tried with principal components too.
N_WITH_PCA = 3
#: Most rows of a fold, trained and held out, during the search; the best then gets all.
SEARCH_ROWS = 800
#: Iterations after which a machine counts as not converged.
LINEAR_ITERATIONS, RBF_ITERATIONS = 1000, 500_000
#: Of settings within this average precision of the best, the one that predicts fastest is taken.
MARGIN = 1e-3


@dataclass(frozen=True)
class Setting:
    """A kernel (``rbf`` or ``linear``) with its parameters; `gamma` counts for ``rbf`` only."""

    kernel: str
    C: float
    gamma: float = 0.0
    pca: bool = False

    def __str__(self) -> str:
        gamma = f", gamma={self.gamma:g}" if self.kernel == "rbf" else ""
        return f"{self.kernel} C={self.C:g}{gamma}{', pca' if self.pca else ''}"


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


def downsample(is_peak: NDArray[np.bool_], ratio: float | None, seed: int) -> NDArray[np.int64]:
    """Return row numbers, rising, with the majority at most `ratio` times the minority.

    Parameters
    ----------
    is_peak : (n,) ndarray of bool
        Labels.
    ratio : float or None
        Most rows of the majority per row of the minority; None keeps all.
    seed : int
        Which rows of the majority stay.

    Raises
    ------
    ParameterError
        When `ratio` is below 1.
    """
    if ratio is None:
        return np.arange(len(is_peak))
    if not ratio >= 1:
        raise ParameterError(f"downsample_ratio must be 1 or more (or None), got {ratio}")
    kinds = np.flatnonzero(is_peak), np.flatnonzero(~is_peak)
    minor, major = sorted(kinds, key=len)
    n = int(ratio * len(minor))
    if len(major) > n:
        major = np.random.default_rng(seed).choice(major, n, replace=False)
    return np.sort(np.concatenate([minor, major]))


def build(setting: Setting, seed: int) -> Pipeline:
    """Return an untrained pipeline: scaling, optional principal components, machine."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, LinearSVC

    steps: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if setting.pca:
        steps.append(("pca", PCA(PCA_SHARE, svd_solver="full")))
    if setting.kernel == "rbf":
        machine = SVC(C=setting.C, gamma=setting.gamma, max_iter=RBF_ITERATIONS)
    else:
        machine = LinearSVC(
            C=setting.C, dual=False, max_iter=LINEAR_ITERATIONS, random_state=seed
        )
    return Pipeline([*steps, ("svm", machine)])


def fit(
    setting: Setting, features: NDArray[np.float64], is_peak: NDArray[np.bool_], seed: int
) -> tuple[Pipeline, str | None]:
    """Train one pipeline; also returns a note when it did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    pipeline = build(setting, seed)
    with warnings.catch_warnings():
        # Told by the note, which outlives the console.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(features, is_peak)
    machine = pipeline["svm"]
    limit = RBF_ITERATIONS if setting.kernel == "rbf" else LINEAR_ITERATIONS
    if int(np.max(machine.n_iter_)) < limit:
        return pipeline, None
    return pipeline, f"the machine ({setting}) did not converge within {limit} iterations"


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
            models = _on_folds(setting, features, is_peak, thinned, seed)
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
    _validate(found, features, is_peak, folds, ratio, seed)
    if progress is not None:
        progress(total, total)
    return found


def _some(
    rows: NDArray[np.int64], is_peak: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
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
    folds: Folds,
    seed: int,
) -> list[tuple[Pipeline, str | None]]:
    """Train a setting on the training rows of every fold, in threads."""
    with ThreadPoolExecutor(_n_processors(), thread_name_prefix="train-svm") as pool:
        return list(
            pool.map(lambda fold: fit(setting, features[fold[0]], is_peak[fold[0]], seed), folds)
        )


def _validate(
    found: Search,
    features: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
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
        _on_folds(found.best, features, is_peak, whole, seed), whole, strict=True
    ):
        found.decisions[test] = model.decision_function(features[test])
        found.scores.append(average_precision(is_peak[test], found.decisions[test]))
        found.models.append(model)
        if note is not None and note not in found.notes:
            found.notes.append(note)


def platt(decisions: NDArray[np.float64], is_peak: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit slope and intercept of a logistic curve to out-of-fold decision values.

    Targets are smoothed (Platt 1999), so that labels which separate perfectly do not make
    an infinitely steep curve. The slope is never negative.

    Raises
    ------
    InputError
        When a class is missing.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    n_peaks = int(is_peak.sum())
    n_other = len(is_peak) - n_peaks
    if not n_peaks or not n_other:
        raise InputError("calibration needs labels of both classes")
    target = np.where(is_peak, (n_peaks + 1) / (n_peaks + 2), 1 / (n_other + 2))
    centre, scale = float(decisions.mean()), float(decisions.std()) or 1.0
    x = (decisions - centre) / scale

    def loss(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        t = p[0] * x + p[1]
        error = expit(t) - target
        value = np.mean(np.logaddexp(0, t) - target * t)
        return float(value), np.array([np.mean(error * x), np.mean(error)])

    found = minimize(
        loss,
        np.array([1.0, np.log(n_peaks / n_other)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None), (None, None)],
    )
    slope, intercept = float(found.x[0]) / scale, float(found.x[1])
    return slope, intercept - slope * centre
