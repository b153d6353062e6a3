"""A support vector machine over candidate features: a verifier that needs no torch."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.features import (
    FEATURES,
    FEATURES_VERSION,
    candidate_features,
)
from napari_xtal.peaks.verify.patches import HALF
from napari_xtal.peaks.verify.verifier import Verifier

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from napari_xtal.peaks.verify.patches import Patches
    from napari_xtal.peaks.verify.report import VerifierReport

#: Up to so many training rows the kernel is RBF, beyond it is linear.
RBF_ROWS = 5000
#: Training rows that a file carries to prove that it still predicts the same.
N_PROOF = 16


class SvmVerifier(Verifier):
    """Judges candidates by features of their windows; see `candidate_features`.

    Parameters
    ----------
    pipeline : Pipeline
        Trained scaling, optional principal components, machine.
    projection : Pipeline
        Scaling and two principal components, for `pca_map`.
    metadata : dict
        JSON types only; `fit_svm` says what is in it.
    report : VerifierReport, optional
        How it did on data held out of its training.

    Attributes
    ----------
    importance : DataFrame
        Columns feature, importance (loss of average precision when the feature is
        shuffled on held-out folds), sd (over the folds); most important first.
    """

    kind = "svm"

    def __init__(
        self,
        pipeline: Pipeline,
        projection: Pipeline,
        metadata: dict[str, Any],
        report: VerifierReport | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.projection = projection
        self.metadata = metadata
        self.report = report
        self.half = int(metadata["half"])
        self.threshold = float(metadata["threshold"])
        self.hash = digest(pipeline, metadata)

    @property
    def importance(self) -> pd.DataFrame:
        """Loss of average precision when a feature is shuffled, on held-out folds."""
        return pd.DataFrame(self.metadata["importance"], columns=["feature", "importance", "sd"])

    def predict_features(self, features: pd.DataFrame) -> NDArray[np.float32]:
        """Return the probability that belongs to each row of features.

        Parameters
        ----------
        features : (n, n_features) DataFrame
            Of `candidate_features`.

        Returns
        -------
        (n,) ndarray of float32
            Probabilities in [0, 1].

        Raises
        ------
        InputError
            When columns are missing or values are not finite.
        """
        from scipy.special import expit

        values = checked_features(features)
        if not len(values):
            return np.zeros(0, np.float32)
        slope, intercept = self.metadata["calibration"]
        decision = self.pipeline.decision_function(values)
        return np.asarray(expit(slope * decision + intercept), np.float32)

    def predict_patches(self, patches: Patches) -> NDArray[np.float32]:
        """Return the probability of each window's centre.

        Parameters
        ----------
        patches : Patches
            n windows.

        Returns
        -------
        (n,) ndarray of float32
            Probabilities in [0, 1]; 0 where the centre has no usable pixel.

        Raises
        ------
        InputError
            When the windows have another size than the model's.
        """
        if patches.half != self.half:
            raise InputError(
                f"patches: the model looks at windows of {2 * self.half + 1} px, got "
                f"{2 * patches.half + 1}"
            )
        result = self.predict_features(candidate_features(patches))
        result[~patches.has_signal] = 0
        return result

    def pca_map(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Return two principal components of features, for a plot.

        They were fitted to the training rows only, so that new rows can be laid over them.

        Parameters
        ----------
        features : (n, n_features) DataFrame
            Of `candidate_features`.

        Returns
        -------
        (n, 2) ndarray
            Components in units of the training rows' standard deviations.
        """
        values = checked_features(features)
        if not len(values):
            return np.zeros((0, 2))
        return np.asarray(self.projection.transform(values))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to a ``.skops`` file, which cannot run code.

        Raises
        ------
        OutputError
            When the file exists, cannot be written, or has another suffix.
        """
        from napari_xtal.peaks.verify.svm_files import write_svm

        write_svm(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str] = "default") -> SvmVerifier:
        """Read a model from a ``.skops`` file, or the shipped one by the name ``default``.

        Raises
        ------
        InputError
            When the file is missing, damaged, no model of this kind, or was made for
            other features or another scikit-learn.
        """
        from napari_xtal.peaks.verify.svm_files import read_svm

        return read_svm(path)


def checked_features(features: pd.DataFrame) -> NDArray[np.float64]:
    """Return features as numbers in the order of `FEATURES`.

    Raises
    ------
    InputError
        When columns are missing or values are not finite.
    """
    missing = [name for name in FEATURES if name not in features.columns]
    if missing:
        raise InputError(f"features: columns {missing} are missing; use candidate_features")
    values = features[list(FEATURES)].to_numpy(np.float64)
    if not np.isfinite(values).all():
        raise InputError("features: NaN or infinite values; use candidate_features")
    return values


def weights(pipeline: Pipeline) -> list[NDArray[np.float64]]:
    """Return all numbers that a prediction depends on."""
    names = ("mean_", "scale_", "components_", "support_vectors_", "dual_coef_")
    arrays = [getattr(step, name) for _, step in pipeline.steps for name in names
              if hasattr(step, name)]  # fmt: skip
    machine = pipeline["svm"]
    last = [machine.intercept_] if hasattr(machine, "support_vectors_") else [
        machine.coef_, machine.intercept_
    ]  # fmt: skip
    return [np.ascontiguousarray(a, np.float64) for a in [*arrays, *last]]


def digest(pipeline: Pipeline, metadata: dict[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over what predictions depend on."""
    names = ("features", "features_version", "half", "parameters", "calibration")
    known = hashlib.sha256(
        json.dumps({name: metadata[name] for name in names}, sort_keys=True).encode()
    )
    for array in weights(pipeline):
        known.update(str(array.shape).encode())
        known.update(array.tobytes())
    return known.hexdigest()[:16]


def fit_svm(
    features: pd.DataFrame,
    is_peak: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    weight: ArrayLike | None = None,
    seed: int = 0,
    kernel: str = "auto",
    downsample_ratio: float | None = 3.0,
    grid: dict[str, Any] | None = None,
    importance: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> SvmVerifier:
    """Train a support vector machine; the same seed gives the same weights.

    C, gamma and the use of principal components are chosen by average precision on folds
    of whole groups; within a fold everything is fitted to its training rows, of which the
    majority class is thinned. Probabilities come from a logistic curve through the
    decision values of held-out rows (Platt 1999).

    Parameters
    ----------
    features : (n, n_features) DataFrame
        Of `candidate_features`.
    is_peak : (n,) array_like of bool
        Labels.
    groups : (n,) array_like, optional
        Frame (or run) of each row; rows of a group are never on both sides of a fold.
    weight : (n,) array_like, optional
        How much each row counts in training and calibration, above 0; 1 by default.
    seed : int
        Seed of folds, down-sampling and importance.
    kernel : str
        ``rbf``, ``linear``, or ``auto``: RBF up to 5000 training rows, linear beyond.
    downsample_ratio : float or None
        Most training rows of the majority class per row of the minority; None keeps all.
    grid : dict, optional
        Lists ``C`` and ``gamma`` to try, ``pca`` (bool).
    importance : bool
        Whether to measure the importance of the features, which takes half the time.
    progress : callable, optional
        Called with (done, total), from this thread.
    cancel : callable, optional
        Asked between settings; True keeps the best so far.

    Returns
    -------
    SvmVerifier
        Its metadata hold ``parameters`` (the best), ``search`` (every setting tried),
        ``cross_validation`` (average precision per fold, mean and sd; these folds also
        chose the setting, so a report on other data is the honest one), ``calibration``,
        ``importance``, ``notes`` and the versions used.

    Raises
    ------
    InputError
        No labels, one class only, fewer than 5 labels of a class, too few groups.
    ParameterError
        An option out of its range.
    """
    from napari_xtal.peaks.verify import svm_machine, svm_search

    values, truth = checked_features(features), np.asarray(is_peak)
    notes: list[str] = []
    folds = svm_search.folds_of(values, truth, groups, seed, notes)
    truth = truth.astype(bool)
    counted = np.ones(len(truth)) if weight is None else np.asarray(weight, np.float64)
    if counted.shape != truth.shape or not np.all((counted > 0) & np.isfinite(counted)):
        raise ParameterError("weight must be one positive number per label")
    rows = svm_machine.downsample(truth, downsample_ratio, seed)
    if kernel == "auto":
        kernel = "rbf" if len(rows) <= RBF_ROWS else "linear"
    with svm_machine.without_warnings():
        found = svm_search.search(
            values, truth, counted, folds, kernel=kernel, grid=grid, ratio=downsample_ratio, seed=seed,
            progress=progress, cancel=cancel,
        )  # fmt: skip
        pipeline, note = svm_machine.fit(found.best, values[rows], truth[rows], counted[rows], seed)
    if note is not None and note not in found.notes:
        found.notes.append(note)
    slope, intercept = svm_machine.platt(found.decisions, truth, counted)
    if slope <= 0:
        found.notes.append("the features do not tell these labels apart: all probabilities are "
                           "the share of peaks; check the labels")  # fmt: skip
    decisions = pipeline.decision_function(values)
    proof = np.argsort(decisions, kind="stable")[
        np.linspace(0, len(decisions) - 1, min(N_PROOF, len(decisions))).astype(int)
    ]
    measured = (
        svm_search.importance_of(found.models, folds, values, truth, seed) if importance else []
    )
    metadata = {
        "kind": "svm",
        "features": list(FEATURES),
        "features_version": FEATURES_VERSION,
        "half": HALF,
        "threshold": 0.5,
        "parameters": asdict(found.best),
        "calibration": [slope, intercept],
        "cross_validation": {
            "score": "average precision",
            "folds": found.scores,
            "mean": float(np.mean(found.scores)),
            "sd": float(np.std(found.scores)),
        },
        "search": found.tried,
        "importance": measured,
        "training": {
            "n": len(truth), "n_peaks": int(truth.sum()), "n_used": len(rows),
            "n_groups": None if groups is None else len(pd.unique(np.asarray(groups))),
            "downsample_ratio": downsample_ratio, "seed": seed,
        },  # fmt: skip
        "proof": {"features": values[proof].tolist(), "decisions": decisions[proof].tolist()},
        "notes": [*notes, *found.notes],
        "versions": versions(),
    }  # fmt: skip
    return SvmVerifier(pipeline, svm_machine.projection(values[rows]), metadata)


def versions() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    import sklearn

    return {"scikit-learn": sklearn.__version__, "numpy": np.__version__,
            "python": platform.python_version()}  # fmt: skip
