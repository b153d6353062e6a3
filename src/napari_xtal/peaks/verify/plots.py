"""Pictures of a verifier's report, drawn without a window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from napari_xtal.peaks.verify.report import VerifierReport

#: Okabe-Ito colours, distinguishable with colour-vision deficiency.
_MAIN, _OTHER, _QUIET = "#0072B2", "#D55E00", "#7f7f7f"
#: Most bars of the importance panel: more would not be readable.
_BARS = 12
_LEAST_IMPORTANCE = 1e-3
#: Legends hide the lines behind them.
_LEGEND = {"facecolor": "white", "edgecolor": "none", "framealpha": 1}


def figure(report: VerifierReport) -> Figure:
    """Draw loss curves (or feature importance), PR curve, calibration and confusion matrix.

    Parameters
    ----------
    report : VerifierReport
        The report.

    Returns
    -------
    Figure
        2 x 2 panels on an Agg canvas; pyplot is not involved.
    """
    drawn = Figure(figsize=(9.5, 7.5), layout="constrained")
    FigureCanvasAgg(drawn)
    training, curve, calibration, confusion = drawn.subplots(2, 2).flat
    if report.loss and any(report.loss.values()):
        _draw_loss(training, report)
    elif report.importance is not None and len(report.importance):
        _draw_importance(training, report)
    else:
        _draw_thresholds(training, report)
    _draw_curve(curve, report)
    _draw_calibration(calibration, report)
    _draw_confusion(confusion, report)
    for axes in (training, curve, calibration):
        axes.spines[["top", "right"]].set_visible(False)
    where = f" on {report.n_frames} frames" if report.n_frames is not None else ""
    drawn.suptitle(
        f"{report.n} labelled positions{where}, {report.n_peaks} peaks", fontsize=11, color="0.3"
    )
    return drawn


def _draw_loss(axes: Any, report: VerifierReport) -> None:
    styles = [(_MAIN, "-"), (_OTHER, "--"), (_QUIET, ":")]
    for k, (name, values) in enumerate((report.loss or {}).items()):
        colour, line = styles[k % len(styles)]
        mark = "o" if len(values) == 1 else None
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, line, color=colour, label=name, marker=mark)
    axes.set(title="Training", xlabel="epoch", ylabel="loss (cross-entropy)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _draw_importance(axes: Any, report: VerifierReport) -> None:
    assert report.importance is not None
    shown = report.importance.head(_BARS).iloc[::-1]
    axes.barh(shown["feature"], shown["importance"], xerr=shown["sd"], color=_MAIN, ecolor=_QUIET)
    axes.set(title="Feature importance", xlabel="average precision lost when shuffled")
    axes.set_xlim(
        right=max(float((shown["importance"] + shown["sd"]).max()), _LEAST_IMPORTANCE) * 1.05
    )
    axes.tick_params(axis="y", labelsize=8)


def _draw_thresholds(axes: Any, report: VerifierReport) -> None:
    """Draw precision and recall against the threshold, where nothing was trained."""
    table = report.pr_curve
    axes.plot(table["threshold"], table["precision"], "-", color=_MAIN, label="precision")
    axes.plot(table["threshold"], table["recall"], "--", color=_OTHER, label="recall")
    axes.axvline(report.threshold, color=_QUIET, linewidth=1, linestyle=":")
    axes.set(title="Choice of threshold", xlabel="threshold (dotted: in use)", ylabel="score")
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    axes.legend(loc="lower center", **_LEGEND)


def _draw_curve(axes: Any, report: VerifierReport) -> None:
    table = report.pr_curve
    label = f"verifier, AP {report.ap.value:.3f}"
    axes.step(table["recall"], table["precision"], where="pre", color=_MAIN, label=label)
    plain = report.baselines[report.baselines["name"].str.startswith("plain")]
    if report.baseline_curve is not None and len(plain):
        label = f"plain SNR threshold, AP {plain['ap'].iloc[0]:.3f}"
        line = report.baseline_curve
        axes.step(line["recall"], line["precision"], "--", where="pre", color=_OTHER, label=label)
    share = report.n_peaks / report.n
    axes.axhline(share, color=_QUIET, linewidth=1, linestyle=":", label=f"by chance, {share:.3f}")
    if math.isfinite(report.precision.value):
        at = f"at threshold {report.threshold:.3g}"
        axes.plot(report.recall.value, report.precision.value, "o", color=_MAIN, label=at)
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(loc="lower left", fontsize=9, **_LEGEND)


def _draw_calibration(axes: Any, report: VerifierReport) -> None:
    table = report.calibration_curve
    axes.plot([0, 1], [0, 1], ":", color=_QUIET, label="perfect")
    n, share = table["n"].to_numpy(float), table["observed"].to_numpy(float)
    spread = np.sqrt(np.maximum(share * (1 - share), 0.25 / n) / n)
    label = f"verifier, mean gap {report.calibration_error:.3f}"
    axes.errorbar(
        table["predicted"], share, spread, fmt="o-", color=_MAIN, ms=4, lw=1.2, label=label
    )
    axes.set(title="Calibration", xlabel="predicted probability", ylabel="share of peaks")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="upper left")


def _draw_confusion(axes: Any, report: VerifierReport) -> None:
    counts = np.array(report.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = (("TN", "FP"), ("FN", "TP"))
    for i, j in np.ndindex(2, 2):
        text = f"{names[i][j]}\n{int(counts[i, j])}\n{100 * shares[i, j]:.1f} %"
        colour = "white" if shares[i, j] > 0.55 else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks([0, 1], ["refused", "accepted"])
    axes.set_yticks([0, 1], ["not a peak", "peak"], rotation=90, va="center")
    axes.set(title="Confusion matrix (% of the row)", ylabel="label")
    axes.set_xlabel(f"verdict at threshold {report.threshold:.3g}")
    axes.tick_params(length=0)
