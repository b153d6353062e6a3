"""Models of the docks: which there are, loading, training and scoring them (in workers)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, XtalError
from napari_xtal.widgets.label_map import map_labels

if TYPE_CHECKING:
    import pandas as pd

#: Shipped models: name -> what the docks call it.
SHIPPED = {"default": "Shipped network (CNN)", "default-svm": "Shipped SVM"}
#: Title of a kind of model.
KINDS = {"cnn": "CNN", "svm": "SVM"}
_SHIPPED_KIND = {"cnn": "default", "svm": "default-svm"}
SUFFIXES = {"cnn": ".safetensors", "svm": ".skops"}
#: Fewer labels of a class teach nothing that could be checked. A test holds it equal to the
#: number in ``peaks.verify.labels``, whose import would cost the start of the dock.
LEAST_LABELS = 10
#: A model is worse than another when its average precision is lower by more than this; the
#: 95 % intervals from tens of labels are far wider.
AP_TOLERANCE = 0.005


@dataclass(frozen=True, eq=False)
class Model:
    """A verifier and the name under which the session knows it."""

    name: str
    verifier: Any

    @property
    def hash(self) -> str:
        """Hash of the verifier; stands with the probabilities."""
        return str(self.verifier.hash)

    @property
    def threshold(self) -> float:
        """Probability from which the verifier takes a candidate for a peak."""
        return float(self.verifier.threshold)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training gave.

    Attributes
    ----------
    model : Model
        The new model, in the session already.
    report : VerifierReport
        Its scores on frames held out of training.
    start_ap : float or None
        Average precision of the model in use so far, on the same labels.
    in_use : bool
        Whether the new one is not worse, and so in use from now on.
    kept : bool
        Whether it is the model that the training began with: the labels gave none better.
    map : DataFrame or None
        Points of a `LabelMap`.
    """

    model: Model
    report: Any
    start_ap: float | None
    in_use: bool
    kept: bool = False
    map: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """How a model does on the user's labels, and the points of a `LabelMap` if it has one."""

    model: Model
    report: Any
    map: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """What the user labelled.

    Attributes
    ----------
    table : DataFrame
        The peaks labelled ``peak`` or ``not-peak``.
    n_peak, n_not, n_frames : int
        Labels of each class, and the frames they lie on.
    """

    table: pd.DataFrame
    n_peak: int
    n_not: int
    n_frames: int

    @classmethod
    def of(cls, peaks: pd.DataFrame) -> Labels:
        """Take the labelled peaks of a peak table."""
        labelled = peaks[peaks["label"].isin(["peak", "not-peak"])]
        n_peak = int((labelled["label"] == "peak").sum())
        return cls(labelled, n_peak, len(labelled) - n_peak, int(labelled["frame"].nunique()))

    def __str__(self) -> str:
        frames = f"{self.n_frames} frame{'s' * (self.n_frames != 1)}"
        return f"{self.n_peak} peak / {self.n_not} not-peak on {frames}"

    @property
    def is_peak(self) -> Any:
        """(n,) ndarray of bool."""
        return (self.table["label"] == "peak").to_numpy(dtype=bool)

    def why_not_evaluate(self) -> str | None:
        """Return why no score can be computed, or None."""
        if not self.n_peak or not self.n_not:
            return "label at least one peak (Y) and one not-peak (N)"
        return None

    def why_not_train(self) -> str | None:
        """Return why no model can be trained, or None."""
        if min(self.n_peak, self.n_not) < LEAST_LABELS:
            return f"label at least {LEAST_LABELS} peaks (Y) and {LEAST_LABELS} not-peaks (N)"
        if self.n_frames < 2:
            return "label peaks on at least two frames: the score needs a frame of its own"
        return None


# the choice, kept in the session ---------------------------------------------------------


def active(parameters: Any) -> str:
    """Return the name of the model that the parameters of a session name."""
    return str((parameters.get("verifier") or {}).get("model") or "default")


def remember(session: Any, **values: Any) -> None:
    """Change some of the session's parameters ``verifier``: ``model``, ``min_probability``."""
    known = session.parameters.get("verifier") or {"model": "default", "min_probability": 0.0}
    session.set_parameters("verifier", {**known, **values})


def choices(session: Any) -> dict[str, str]:
    """Return name -> title of the models of a session, the shipped ones first."""
    titles = dict(SHIPPED)
    for entry in session.models.list():
        kind = KINDS.get(str(entry.get("kind")), "model")
        made = str(entry.get("time", ""))[:16].replace("T", " ")
        origin = entry.get("file_name") or made
        titles[entry["hash"]] = f"{kind} {entry['hash'][:6]}, {origin}"
    return titles


def kind_of(session: Any, name: str) -> str:
    """Return the title of the kind of a model, without loading it."""
    if name in SHIPPED:
        return KINDS["svm" if name == "default-svm" else "cnn"]
    entries = {entry["hash"]: entry for entry in session.models.list()}
    return KINDS.get(str(entries.get(name, {}).get("kind")), "model")


def was_trained_here(session: Any, name: str) -> bool:
    """Whether a model was trained on labels of this session."""
    return any(e["hash"] == name and "labels" in e for e in session.models.list())


# work, for a worker ----------------------------------------------------------------------


def load(models: Any, name: str) -> Model:
    """Load a shipped model or one of a session.

    Raises
    ------
    SessionError, InputError
        When it is not there, or is not what was stored.
    """
    from napari_xtal.peaks.verify.verifier import load_verifier

    return Model(name, load_verifier(name if name in SHIPPED else models.path(name)))


def adopt_file(session: Any, path: str) -> str:
    """Copy a model into the session and return its name.

    Raises
    ------
    InputError
        When the file is no model.
    SessionError, OutputError
        When the session cannot be written.
    """
    from napari_xtal.peaks.verify.verifier import load_verifier

    if Path(path).suffix.lower() not in SUFFIXES.values():
        raise InputError(f"{path}: no verifier; choose a .safetensors or .skops file")
    verifier = load_verifier(path)
    report = verifier.report
    return session.models.add(
        verifier.save,
        SUFFIXES[verifier.kind],
        {"kind": verifier.kind, "file_name": Path(path).name, "hash_of_weights": verifier.hash},
        None if report is None else report.to_dict(),
    )


def train(
    session: Any,
    source: Any,
    labels: Labels,
    start: Model,
    kind: str,
    seed: int,
    progress: Any,
    cancel: Any,
) -> Trained | None:
    """Train a verifier on the user's labels and put it into the session.

    Returns
    -------
    Trained or None
        None when it was cancelled before there was a model.
    """
    from napari_xtal.peaks.verify.train import model_info, train_verifier

    same_kind = start.verifier.kind == kind
    begin = start if same_kind else load(session.models, _SHIPPED_KIND[kind])
    try:
        verifier = train_verifier(
            source,
            labels.table,
            kind=kind,
            start=begin.verifier,
            seed=seed,
            progress=progress,
            cancel=cancel,
        )
    except XtalError:
        if cancel():  # too little was read to say anything
            return None
        raise
    report = verifier.report
    kept = verifier.hash == begin.hash
    if kept:  # the labels gave nothing better than what it began with, which is there already
        name = begin.name
    else:
        info = model_info(verifier)
        name = session.models.add(verifier.save, SUFFIXES[kind], info, report.to_dict())
    before = _ap_before(session, source, labels, start, report if same_kind else None, cancel)
    in_use = before is None or report.ap.value >= before - AP_TOLERANCE
    points = map_labels(verifier, source, labels.table, cancel)
    return Trained(Model(name, verifier), report, before, in_use, kept, points)


def _ap_before(
    session: Any, source: Any, labels: Labels, start: Model, report: Any, cancel: Any
) -> float | None:
    """Return the average precision of the model in use so far, where it can be compared."""
    from napari_xtal.peaks.verify.metrics import average_precision
    from napari_xtal.peaks.verify.train import BEFORE

    if report is not None:  # it was the start of the training, which has compared already
        rows = report.baselines[report.baselines["name"] == BEFORE]
        return float(rows["ap"].iloc[0]) if len(rows) else None
    if was_trained_here(session, start.name):  # it knows these labels: take its own report
        return float(start.verifier.report.ap.value)
    probability = start.verifier.predict_in(source, labels.table, cancel=cancel)
    known = np.isfinite(probability)
    is_peak = labels.is_peak[known]
    if not is_peak.any() or is_peak.all():
        return None
    return float(average_precision(is_peak, probability[known]))


def evaluate(
    session: Any, source: Any, labels: Labels, model: Model, progress: Any, cancel: Any
) -> Evaluated | None:
    """Score a model on the user's labels; None when it was cancelled.

    Raises
    ------
    InputError
        When one class has no labels.
    """
    from napari_xtal.peaks.verify.metrics import evaluate as score

    table = labels.table
    probability = model.verifier.predict_in(source, table, progress=progress, cancel=cancel)
    if cancel():
        return None
    if was_trained_here(session, model.name):
        note = (
            "This model was trained in this session: it has seen some of these labels. The "
            "report made at its training is the honest one (frames held out)."
        )
    else:
        note = "This model has not been trained on labels of this session."
    report = score(
        labels.is_peak,
        probability,
        groups=table["frame"].to_numpy(),
        baseline=table["snr"].to_numpy(),
        threshold=model.threshold,
        notes=[note],
        parameters={"verifier": model.hash, "model": model.name},
    )
    return Evaluated(model, report, map_labels(model.verifier, source, table, cancel))
