"""A verifier's report as text for a terminal and as rows for a spreadsheet."""

from __future__ import annotations

import json
import math
import textwrap
from typing import TYPE_CHECKING, Any

from napari_xtal.peaks.verify.report import SCORES, plain

if TYPE_CHECKING:
    from napari_xtal.peaks.verify.report import VerifierReport

_WIDTH = 80
#: What the four cells of the confusion matrix count, in the order of its rows.
_CELLS = (
    ("TN", "not a peak, refused"),
    ("FP", "not a peak, accepted"),
    ("FN", "peak, refused"),
    ("TP", "peak, accepted"),
)


def csv_rows(report: VerifierReport) -> list[list[Any]]:
    """Return section, name, quantity, value and limits; an empty value is not defined."""
    rows: list[list[Any]] = []

    def add(section: str, name: str, quantity: str, *values: Any) -> None:
        cells = ["" if isinstance(v, float) and math.isnan(v) else v for v in values]
        rows.append([section, name, quantity, *cells, *[""] * (3 - len(cells))])

    for name in ("n", "n_peaks", "n_frames", "threshold", "calibration_error"):
        value = getattr(report, name)
        add("data", "verifier", name, math.nan if value is None else value)
    for name in SCORES:
        add("score", "verifier", name, *getattr(report, name))
    cells = [count for row in report.confusion for count in row]
    for (cell, meaning), count in zip(_CELLS, cells, strict=True):
        add("confusion", meaning, cell, count)
    for section, table, key in (
        ("class", report.classes, "label"),
        ("baseline", report.baselines, "name"),
        ("importance", report.importance, "feature"),
    ):
        if table is None:
            continue
        for record in table.to_dict("records"):
            for quantity in (c for c in table.columns if c != key):
                add(section, str(record[key]), str(quantity), record[quantity])
    for number, note in enumerate(report.notes, 1):
        add("note", str(number), "text", note)
    for name, value in report.parameters.items():
        add("parameter", str(name), "json", json.dumps(plain(value)))
    return rows


def report_text(report: VerifierReport) -> str:
    """Return the report as a table of at most 80 columns."""
    share = 100 * report.n_peaks / report.n if report.n else math.nan
    where = f" on {report.n_frames} frames" if report.n_frames is not None else ""
    lines = [
        f"{report.n} labelled positions{where}, {report.n_peaks} peaks ({share:.1f} %)",
        "",
        f"{'score':<22}{'value':>9}{'95 % interval':>20}",
    ]
    names = {"f1": "F1", "ap": "average precision"}
    for name in SCORES:
        score = getattr(report, name)
        limits = f"{_shown(score.low)} to {_shown(score.high)}"
        lines.append(f"{names.get(name, name):<22}{_shown(score.value):>9}{limits:>20}")
    lines.append(f"{'calibration error':<22}{_shown(report.calibration_error):>9}")
    lines += ["", f"{'class':<22}{'precision':>9}{'recall':>9}{'F1':>9}{'n':>9}"]
    for row in report.classes.to_dict("records"):
        values = "".join(f"{_shown(row[key]):>9}" for key in ("precision", "recall", "f1"))
        lines.append(f"{row['label']:<22}{values}{row['n']:>9}")
    (tn, fp), (fn, tp) = report.confusion
    lines += [
        "",
        f"{'confusion matrix':<22}{'refused':>14}{'accepted':>14}",
        f"{'not a peak':<22}{f'TN {tn}':>14}{f'FP {fp}':>14}",
        f"{'peak':<22}{f'FN {fn}':>14}{f'TP {tp}':>14}",
        "",
        f"{'compared with':<32}{'precision':>10}{'recall':>9}{'F1':>9}{'AP':>9}{'accuracy':>10}",
        _compared("verifier", report.threshold, *(getattr(report, n).value for n in SCORES)),
    ]
    for row in report.baselines.to_dict("records"):
        scores = (row[name] for name in SCORES)
        lines.append(_compared(str(row["name"]), row["threshold"], *scores))
    for note in report.notes:
        lines += ["", textwrap.fill(f"Note: {note}", _WIDTH, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _compared(name: str, threshold: Any, *scores: Any) -> str:
    limit = "" if math.isnan(threshold) else f", {threshold:.3g}"
    values = "".join(f"{_shown(v):>{w}}" for v, w in zip(scores, (10, 9, 9, 9, 10), strict=True))
    return f"{(name + limit)[:32]:<32}{values}"


def _shown(value: Any) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
