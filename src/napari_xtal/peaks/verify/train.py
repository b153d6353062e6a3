"""Learning from a user's labels: from tens of them up, starting from the shipped model."""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.labels import Labels, collect_labels, labelled_rows
from napari_xtal.peaks.verify.metrics import evaluate
from napari_xtal.peaks.verify.patches import HALF
from napari_xtal.peaks.verify.verifier import Verifier, load_verifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from napari_xtal.peaks.find import FrameSourceLike
    from napari_xtal.peaks.verify.report import VerifierReport
    from napari_xtal.peaks.verify.svm import SvmVerifier

#: Name of the start model's row among the baselines of the report.
BEFORE = "before training"
_DEFAULTS = {"cnn": "default", "svm": "default-svm"}
#: Share of the progress that reading the frames takes [%].
_READING = 10


def train_verifier(
    src: FrameSourceLike,
    labelled_table: pd.DataFrame,
    kind: str = "cnn",
    groups: ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    start: Verifier | str | os.PathLike[str] = "default",
    seed: int = 0,
) -> Verifier:
    """Train a verifier on labelled peaks.

    The network is fine-tuned from a start model and drawn back towards it as far as the
    labels do not speak for more (`napari_xtal.peaks.verify.finetune`). The support vector
    machine is trained anew; where it is no better than the start, the start is kept. The
    report of either comes from cross-validation over whole groups: each label is judged by
    a model that has seen no label of its group.

    Parameters
    ----------
    src : FrameSource
        Frames.
    labelled_table : DataFrame
        Peak table. Rows labelled ``peak`` and ``not-peak`` are used, whatever their source:
        at least 10 of each, on two groups or more.
    kind : {"cnn", "svm"}
        Network, or support vector machine over candidate features.
    groups : (len(labelled_table),) array_like, optional
        What must not be on both sides of a split; default: the file when labels lie on five
        or more, else the frame.
    progress : callable, optional
        Called with (done, total), in percent.
    cancel : callable, optional
        True stops and returns the best model so far, which may be the start.
    start : Verifier or path-like
        ``default`` (the shipped model), ``scratch``, a model file, or a verifier.
    seed : int
        The same labels and seed give the same weights.

    Returns
    -------
    Verifier
        With ``.report`` on held-out labels; the row ``before training`` of
        ``report.baselines`` is the start model on the same labels.

    Raises
    ------
    InputError
        When there are no labels, too few of a class, or a class on too few groups; when
        the start model cannot be loaded.
    ParameterError
        When `kind`, `seed` or `groups` cannot be used, or the start is of another kind.
    """
    if kind not in _DEFAULTS:
        raise ParameterError(f"kind '{kind}': choose {' or '.join(_DEFAULTS)}")
    if seed < 0:
        raise ParameterError(f"seed must be 0 or more, not {seed}")
    labelled_rows(src, labelled_table)  # before a model is loaded
    model = _start(start, kind)
    reading, training = _phases(progress)
    half = HALF if model is None else model.half
    labels = collect_labels(src, labelled_table, groups, half=half, progress=reading, cancel=cancel)
    train = _train_cnn if kind == "cnn" else _train_svm
    return train(model, labels, seed, training, cancel)


def model_info(verifier: Verifier) -> dict[str, Any]:
    """Return what a session notes of a trained verifier, for `session.models.add`."""
    training = dict(verifier.metadata.get("training", {}))
    return {"kind": verifier.kind, "hash_of_weights": verifier.hash, **training}


def _start(start: Verifier | str | os.PathLike[str], kind: str) -> Verifier | None:
    if isinstance(start, Verifier):
        model = start
    elif str(start) == "scratch":
        return None
    else:
        model = load_verifier(_DEFAULTS[kind] if str(start) == "default" else start)
    if model.kind != kind:
        raise ParameterError(
            f"start model {start if not isinstance(start, Verifier) else model.hash}: is a "
            f"{model.kind} verifier; a {kind} cannot begin with it"
        )
    return model


def _train_cnn(
    model: Verifier | None,
    labels: Labels,
    seed: int,
    progress: Callable[[int, int], None] | None,
    cancel: Callable[[], bool] | None,
) -> Verifier:
    from napari_xtal.peaks.verify.cnn import PeakVerifier, versions
    from napari_xtal.peaks.verify.finetune import fine_tune, train_fresh
    from napari_xtal.peaks.verify.torch_threads import one_thread_each, use_one

    assert model is None or isinstance(model, PeakVerifier)
    # One thread: sums in another order would give other weights on another machine, and
    # steps this small gain nothing from more.
    with one_thread_each():
        use_one()
        if model is None:
            tuned = train_fresh(labels, seed=seed, progress=progress, cancel=cancel)
        else:
            tuned = fine_tune(model, labels, seed=seed, progress=progress, cancel=cancel)
    training = _training(labels, model, seed) | {"share": tuned.share, "folds": tuned.n_folds}
    # A calibrated probability of one half is where a peak becomes the likelier answer.
    threshold = 0.5 if model is None else model.threshold
    notes = []
    if tuned.cancelled:
        notes.append("training was cancelled: this is the best model so far")
    if model is not None and tuned.loss:
        notes.append(_share_note(tuned.share))
    verifier = PeakVerifier(
        tuned.network,
        temperature=tuned.temperature,
        bias=tuned.bias,
        threshold=threshold,
        metadata={"training": training, "versions": versions()},
        device=None if model is None else str(model.device),
    )
    verifier.report = _report(
        labels, tuned.probability, tuned.before, model, threshold, notes, training, tuned.loss
    )
    return verifier


def _share_note(share: float) -> str:
    if share == 0:
        return (
            "no fine-tuned network was reliably better than the start model on held-out "
            "labels: its weights are kept, only its probabilities were adapted"
        )
    return (
        f"the weights are {share:.0%} of the way from the start model to the fine-tuned one, "
        "which did best on held-out labels"
    )


def _train_svm(
    model: Verifier | None,
    labels: Labels,
    seed: int,
    progress: Callable[[int, int], None] | None,
    cancel: Callable[[], bool] | None,
) -> Verifier:
    from napari_xtal.peaks.verify.features import candidate_features
    from napari_xtal.peaks.verify.finetune import number_of_folds, part_of
    from napari_xtal.peaks.verify.splits import grouped_folds
    from napari_xtal.peaks.verify.svm import fit_svm

    features = candidate_features(labels.patches)
    n_folds = number_of_folds(labels)
    folds = grouped_folds(labels.groups, labels.is_peak, n_folds, seed, unit=labels.unit)
    for train, _ in folds:
        _require_rest(labels, train)

    def fitted(rows: NDArray[np.int64], k: int) -> SvmVerifier:
        return fit_svm(
            features.iloc[rows], labels.is_peak[rows], labels.groups[rows], seed=seed,
            importance=k == n_folds, progress=part_of(progress, k, n_folds + 1), cancel=cancel,
        )  # fmt: skip

    probability = np.empty(len(labels))
    for k, (train, test) in enumerate(folds):
        probability[test] = fitted(train, k).predict_features(features.iloc[test])
    verifier = fitted(np.arange(len(labels)), n_folds)
    before = None if model is None else model.predict_patches(labels.patches).astype(np.float64)
    notes = list(verifier.metadata["notes"])
    training = _training(labels, model, seed) | {"folds": n_folds}
    verifier.metadata["training"] = {**verifier.metadata["training"], **training}
    if cancel is not None and cancel():
        notes.append("training was cancelled: this is the best model so far")
    if model is not None and before is not None and not _better(probability, before, labels):
        notes.append(
            "the machine trained on these labels was not better than the start model on "
            "held-out ones: the start model is kept"
        )
        verifier, probability = copy.copy(model), before  # type: ignore[assignment]
    importance = pd.DataFrame(verifier.metadata["importance"])
    verifier.report = _report(
        labels, probability, before, model, verifier.threshold, notes, training, None, importance
    )
    return verifier


def _require_rest(labels: Labels, rows: NDArray[np.int64]) -> None:
    """Refuse labels of which too few are left when a fold is held out."""
    from napari_xtal.peaks.verify.svm_search import MIN_LABELS

    n_peaks = int(labels.is_peak[rows].sum())
    for name, n in (("peak", n_peaks), ("not-peak", len(rows) - n_peaks)):
        if n < MIN_LABELS:
            raise InputError(
                f"nearly all labels '{name}' lie on the same {labels.unit}s: without these only "
                f"{n} are left to learn from; label {MIN_LABELS - n} more '{name}' on others"
            )


def _better(probability: NDArray[np.float64], before: NDArray[np.float64], labels: Labels) -> bool:
    """Whether the loss (cross-entropy) of held-out labels is lower than before."""

    def loss(p: NDArray[np.float64]) -> float:
        right = np.where(labels.is_peak, p, 1 - p)
        return float(-np.log(np.clip(right, 1e-6, 1)).mean())

    return loss(probability) < loss(before)


def _training(labels: Labels, model: Verifier | None, seed: int) -> dict[str, Any]:
    return {
        "labels": labels.counts,
        "frames": len(np.unique(labels.frames)),
        "groups": len(np.unique(labels.groups)),
        "unit": labels.unit,
        "seed": seed,
        "started_from": "scratch" if model is None else model.hash,
    }


def _report(
    labels: Labels,
    probability: NDArray[np.float64],
    before: NDArray[np.float64] | None,
    model: Verifier | None,
    threshold: float,
    notes: list[str],
    training: dict[str, Any],
    loss: dict[str, list[float]] | None,
    importance: pd.DataFrame | None = None,
) -> VerifierReport:
    known = np.isfinite(labels.snr).any()
    notes = [
        *labels.notes,
        f"each label was judged by a model that saw no label of its {labels.unit} "
        f"({training['folds']} folds); the model itself learnt from all",
        *notes,
    ]
    if loss is not None and before is not None:
        notes.append(
            "the share of fine-tuning and the calibration (three numbers) were chosen on these "
            "same held-out verdicts, so the scores flatter slightly"
        )
    if known:
        notes.append("the plain threshold was chosen on these very labels, in its favour")
    report = evaluate(
        labels.is_peak,
        probability,
        groups=labels.groups,
        baseline=labels.snr if known else None,
        baseline_train=(labels.snr, labels.is_peak) if known else None,
        threshold=threshold,
        notes=notes,
        loss=loss,
        importance=importance,
        parameters={"training": training},
    )
    if before is None or model is None:
        return report
    start = evaluate(labels.is_peak, before, threshold=model.threshold, n_resamples=1)
    row: dict[str, Any] = {"name": BEFORE, "threshold": model.threshold, "threshold_from": "model"}
    row |= {
        name: getattr(start, name).value for name in ("precision", "recall", "f1", "ap", "accuracy")
    }
    baselines = pd.concat([pd.DataFrame([row]), report.baselines], ignore_index=True)
    return dataclasses.replace(report, baselines=baselines)


def _phases(
    progress: Callable[[int, int], None] | None,
) -> tuple[Callable[[int, int], None] | None, Callable[[int, int], None] | None]:
    """Return the progress of reading and that of training, together 100 %."""
    if progress is None:
        return None, None

    def reading(done: int, total: int) -> None:
        progress(_READING * done // max(total, 1), 100)

    def training(done: int, total: int) -> None:
        progress(_READING + (100 - _READING) * done // max(total, 1), 100)

    return reading, training
