"""What a verifier is worth on labels it has never seen: scores, curves, baselines, notes."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, OutputError
from napari_xtal.files import new_file

#: Version of the JSON layout.
FORMAT = 1
SCORES = ("precision", "recall", "f1", "ap", "accuracy")
_TEXT_COLUMNS = ("name", "threshold_from", "feature")
_SUFFIXES = (".json", ".csv", ".png", ".pdf")


class Score(NamedTuple):
    """A score with the limits of its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, eq=False)
class VerifierReport:
    """Scores of a verifier on held-out labels.

    Attributes
    ----------
    n, n_peaks : int
        Labelled positions, and how many of them are peaks.
    n_frames : int or None
        Frames (groups) they lie on; None when that was not told.
    threshold : float
        A position is accepted when its probability is at least this.
    precision, recall, f1, ap, accuracy : Score
        With 95 % intervals; `ap` is the average precision over all thresholds.
    confusion : ((TN, FP), (FN, TP))
        Rows: the label (not a peak, peak); columns: the verdict (refused, accepted).
    pr_curve : DataFrame
        Columns recall, precision, threshold, by falling threshold.
    calibration_curve : DataFrame
        Columns predicted (mean probability), observed (share of peaks), n; about equal n.
    calibration_error : float
        Mean of |predicted - observed| over the positions (expected calibration error).
    baselines : DataFrame
        What any verifier has to beat. Columns name, threshold, threshold_from, precision,
        recall, f1, ap, accuracy.
    baseline_curve : DataFrame or None
        `pr_curve` of the plain threshold.
    loss : dict of lists or None
        Loss per epoch of training, by name ("train", "validation").
    importance : DataFrame or None
        Columns feature, importance (loss of average precision), sd.
    notes : list of str
        What a reader must know before trusting the figures.
    parameters : dict
        How the report was made.
    """

    n: int
    n_peaks: int
    n_frames: int | None
    threshold: float
    precision: Score
    recall: Score
    f1: Score
    ap: Score
    accuracy: Score
    confusion: tuple[tuple[int, int], tuple[int, int]]
    pr_curve: pd.DataFrame
    calibration_curve: pd.DataFrame
    calibration_error: float
    baselines: pd.DataFrame
    baseline_curve: pd.DataFrame | None = None
    loss: dict[str, list[float]] | None = None
    importance: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of labels of each class (classification report)."""
        (tn, fp), (fn, tp) = self.confusion
        rows = [
            ("not-peak", _ratio(tn, tn + fn), _ratio(tn, tn + fp), _f1(tn, fn, fp), tn + fp),
            ("peak", _ratio(tp, tp + fp), _ratio(tp, tp + fn), _f1(tp, fp, fn), tp + fn),
        ]
        return pd.DataFrame(rows, columns=["label", "precision", "recall", "f1", "n"])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types; NaN becomes None."""
        content = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"format": FORMAT, "confusion_layout": "((TN, FP), (FN, TP))", **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> VerifierReport:
        """Make a report from what `to_dict` gave.

        Raises
        ------
        InputError
            When something is missing or of the wrong kind.
        """
        try:
            if content["format"] != FORMAT:
                raise InputError(
                    f"verifier report: layout {content['format']!r} is not known; this version "
                    f"reads layout {FORMAT}"
                )
            given = {f.name: content[f.name] for f in dataclasses.fields(cls)}
            for name in SCORES:
                given[name] = Score(*(_number(v) for v in given[name]))
            for name in ("pr_curve", "calibration_curve", "baselines"):
                given[name] = _table(given[name])
            for name in ("baseline_curve", "importance"):
                given[name] = None if given[name] is None else _table(given[name])
            (tn, fp), (fn, tp) = given["confusion"]
            given["confusion"] = ((int(tn), int(fp)), (int(fn), int(tp)))
            for name in ("threshold", "calibration_error"):
                given[name] = _number(given[name])
            if given["loss"] is not None:
                curves = given["loss"].items()
                given["loss"] = {name: [_number(v) for v in values] for name, values in curves}
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"verifier report: damaged or not a report ({type(error).__name__}: {error})"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VerifierReport:
        """Read a report that was saved as JSON.

        Raises
        ------
        InputError
            When the file cannot be read or holds no report.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a JSON report ({error})") from error
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write the report.

        Parameters
        ----------
        path : path-like
            ``.json`` (all of it), ``.csv`` (scores, confusion matrix, baselines, notes),
            ``.png`` or ``.pdf`` (plots); or a folder, which gets ``report.json``,
            ``report.csv`` and ``report.png``.
        overwrite : bool
            Whether existing files may be replaced.

        Returns
        -------
        list of Path
            The files that were written.

        Raises
        ------
        OutputError
            When a file exists, cannot be written, or has another suffix.
        """
        path = Path(path)
        if path.is_dir():
            targets = [path / f"report{suffix}" for suffix in (".json", ".csv", ".png")]
        elif path.suffix.lower() in _SUFFIXES:
            targets = [path]
        else:
            raise OutputError(
                f"{path}: a report is saved as {', '.join(_SUFFIXES)} or into an existing folder"
            )
        for target in targets:
            if target.exists() and not overwrite:
                raise OutputError(f"{target}: exists already; choose another name or overwrite it")
        for target in targets:
            with new_file(target, overwrite=overwrite) as temporary:
                self._write(Path(temporary), target.suffix.lower())
        return targets

    def _write(self, path: Path, suffix: str) -> None:
        if suffix == ".json":
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
        elif suffix == ".csv":
            from napari_xtal.peaks.verify.report_tables import csv_rows

            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["section", "name", "quantity", "value", "low", "high"])
                writer.writerows(csv_rows(self))
        else:
            from napari_xtal.peaks.verify.plots import figure

            figure(self).savefig(path, format=suffix[1:], dpi=150)

    def text(self) -> str:
        """Return the report as a table of at most 80 columns."""
        from napari_xtal.peaks.verify.report_tables import report_text

        return report_text(self)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _f1(hits: int, wrong: int, missed: int) -> float:
    return _ratio(2 * hits, 2 * hits + wrong + missed)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _table(columns: dict[str, list[Any]]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    for name in table.columns:
        if name not in _TEXT_COLUMNS:
            table[name] = pd.to_numeric(table[name])
    return table


def plain(value: Any) -> Any:
    """Return a value as JSON types; NaN and infinities, which JSON lacks, become None."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(value[name].tolist()) for name in value.columns}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
