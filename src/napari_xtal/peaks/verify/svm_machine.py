"""One support vector machine: its pipeline, training, thinned rows and calibration."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

#: Share of the variance that the optional principal components keep.
PCA_SHARE = 0.98
#: Iterations after which a machine counts as not converged.
LINEAR_ITERATIONS, RBF_ITERATIONS = 1000, 500_000


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
        machine = LinearSVC(C=setting.C, dual=False, max_iter=LINEAR_ITERATIONS, random_state=seed)
    return Pipeline([*steps, ("svm", machine)])


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Leave out scikit-learn's warnings of convergence: notes say the same and stay.

    Around whole searches, because the filters are shared by all threads.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def fit(
    setting: Setting,
    features: NDArray[np.float64],
    is_peak: NDArray[np.bool_],
    weight: NDArray[np.float64],
    seed: int,
) -> tuple[Pipeline, str | None]:
    """Train one pipeline; also returns a note when it did not converge.

    The caller wraps it in `without_warnings`.
    """
    pipeline = build(setting, seed).fit(features, is_peak, svm__sample_weight=weight)
    machine = pipeline["svm"]
    limit = RBF_ITERATIONS if setting.kernel == "rbf" else LINEAR_ITERATIONS
    if int(np.max(machine.n_iter_)) < limit:
        return pipeline, None
    return pipeline, f"the machine ({setting}) did not converge within {limit} iterations"


def platt(
    decisions: NDArray[np.float64], is_peak: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[float, float]:
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
    share = weight / weight.mean()

    def loss(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        t = p[0] * x + p[1]
        error = expit(t) - target
        value = np.mean(share * (np.logaddexp(0, t) - target * t))
        return float(value), np.array([np.mean(share * error * x), np.mean(share * error)])

    found = minimize(
        loss,
        np.array([1.0, np.log(n_peaks / n_other)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None), (None, None)],
    )
    slope, intercept = float(found.x[0]) / scale, float(found.x[1])
    return slope, intercept - slope * centre


def projection(values: NDArray[np.float64]) -> Pipeline:
    """Return scaling and two principal components, fitted to training rows."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [("scale", StandardScaler()), ("pca", PCA(2, svd_solver="full"))]
    return Pipeline(steps).fit(values)
