"""The report as object, JSON, CSV, text and picture."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from napari_xtal.errors import InputError, OutputError
from napari_xtal.peaks.verify.metrics import evaluate
from napari_xtal.peaks.verify.plots import figure
from napari_xtal.peaks.verify.report import VerifierReport


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.3
    probability = np.clip(truth * 0.5 + rng.random(300) * 0.5, 0, 1)
    return evaluate(
        truth,
        probability,
        groups=rng.integers(0, 20, 300),
        baseline=truth * 3 + rng.gamma(2, 2, 300),
        n_resamples=50,
        loss={"train": [0.7, 0.5, float("nan")], "validation": [0.8, 0.6, 0.5]},
        importance=pd.DataFrame({"feature": ["snr"], "importance": [0.1], "sd": [0.0]}),
        notes=["held out: frames 3, 7 and 12"],
        parameters={"seed": np.int64(4), "radius": np.float32(2), "shape": (3, 4)},
    )


def test_json_and_back(report, tmp_path):
    (path,) = report.save(tmp_path / "report.json")
    content = json.loads(path.read_text())
    assert content["confusion_layout"] == "((TN, FP), (FN, TP))"
    assert content["loss"]["train"][2] is None and content["parameters"]["shape"] == [3, 4]
    again = VerifierReport.load(path)
    assert again.to_dict() == report.to_dict() == content
    assert again.precision == report.precision and again.confusion == report.confusion
    pd.testing.assert_frame_equal(again.pr_curve, report.pr_curve)
    pd.testing.assert_frame_equal(again.baselines, report.baselines)
    assert np.isnan(again.loss["train"][2])
    assert again.text() == report.text()


def test_undefined_scores_survive(tmp_path):
    truth = np.arange(40) % 2 == 0
    empty = evaluate(truth, np.full(40, 0.2))
    again = VerifierReport.from_dict(json.loads(json.dumps(empty.to_dict(), allow_nan=False)))
    assert np.isnan(again.precision.value) and np.isnan(again.precision.low)
    assert again.importance is None and again.loss is None and again.n_frames is None
    assert again.baselines["threshold"].dtype == float
    assert "precision                     -" in again.text()
    empty.save(tmp_path / "report.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("recall"), "KeyError: 'recall'"),
        (lambda c: c.update(format=99), "layout 99"),
        (lambda c: c.update(confusion=[1, 2]), "damaged"),
        (lambda c: c.update(ap="good"), "damaged"),
        (lambda c: c.update(pr_curve=3), "damaged"),
        (lambda c: c["pr_curve"].update(recall=["many"]), "damaged"),
    ],
)
def test_damaged_reports_are_refused(report, tmp_path, change, message):
    content = report.to_dict()
    change(content)
    with pytest.raises(InputError, match=message):
        VerifierReport.from_dict(content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"r.json: .*{message}"):
        VerifierReport.load(path)


def test_files_without_a_report_are_refused(tmp_path):
    with pytest.raises(InputError, match="no.json: cannot be read"):
        VerifierReport.load(tmp_path / "no.json")
    (tmp_path / "cut.json").write_text('{"format": 1, "n"')
    with pytest.raises(InputError, match="cut.json: cannot be read as a JSON"):
        VerifierReport.load(tmp_path / "cut.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="list.json: .*not a report"):
        VerifierReport.load(tmp_path / "list.json")


def test_csv_states_the_layout_of_the_confusion_matrix(report, tmp_path):
    (path,) = report.save(tmp_path / "report.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [
        (r["quantity"], r["name"], int(r["value"])) for r in rows if r["section"] == "confusion"
    ]
    (tn, fp), (fn, tp) = report.confusion
    assert cells == [
        ("TN", "not a peak, refused", tn),
        ("FP", "not a peak, accepted", fp),
        ("FN", "peak, refused", fn),
        ("TP", "peak, accepted", tp),
    ]
    ap = next(r for r in rows if r["section"] == "score" and r["quantity"] == "ap")
    assert [float(ap[k]) for k in ("value", "low", "high")] == list(report.ap)
    assert {r["name"] for r in rows if r["section"] == "class"} == {"peak", "not-peak"}
    assert any(r["section"] == "note" and r["value"] == report.notes[0] for r in rows)
    never = [r for r in rows if r["name"] == "never a peak" and r["quantity"] == "precision"]
    assert never[0]["value"] == ""


def test_text_fits_a_terminal_and_names_every_cell(report):
    text = report.text()
    assert max(map(len, text.splitlines())) <= 80
    (tn, fp), (fn, tp) = report.confusion
    for part in (f"TN {tn}", f"FP {fp}", f"FN {fn}", f"TP {tp}", "95 % interval", "never a peak"):
        assert part in text
    assert f"{report.f1.value:.3f}" in text and "held out: frames 3, 7 and 12" in text
    many = dataclasses.replace(
        report, notes=["word " * 60], n=10**9, confusion=((10**8, 1), (2, 3))
    )
    assert max(map(len, many.text().splitlines())) <= 80


def test_a_folder_gets_all_files_and_nothing_is_overwritten(report, tmp_path):
    names = [p.name for p in report.save(tmp_path)]
    assert names == ["report.json", "report.csv", "report.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    before = (tmp_path / "report.csv").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        report.save(tmp_path)
    report.save(tmp_path / "report.csv", overwrite=True)
    assert (tmp_path / "report.csv").read_bytes() == before
    with pytest.raises(OutputError, match="saved as .json"):
        report.save(tmp_path / "report.docx")
    with pytest.raises(OutputError, match="does not exist"):
        report.save(tmp_path / "no" / "report.json")


def test_pictures_are_pictures(report, tmp_path):
    (png,) = report.save(tmp_path / "r.png")
    (pdf,) = report.save(tmp_path / "r.pdf")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and pdf.read_bytes()[:5] == b"%PDF-"


def panels(report):
    return {axes.get_title(): axes for axes in figure(report).axes}


def test_the_figure_shows_what_the_report_says(report):
    drawn = panels(report)
    assert list(drawn)[:3] == ["Training", "Precision and recall", "Calibration"]
    texts = [t.get_text() for t in drawn["Confusion matrix (% of the row)"].texts]
    cells = [count for row in report.confusion for count in row]
    for name, count, text in zip(("TN", "FP", "FN", "TP"), cells, texts, strict=True):
        assert text.split("\n")[:2] == [name, str(count)]
    legend = [t.get_text() for t in drawn["Precision and recall"].get_legend().get_texts()]
    assert f"verifier, AP {report.ap.value:.3f}" in legend
    assert any(text.startswith("plain SNR threshold") for text in legend)
    curve = drawn["Precision and recall"].lines[0].get_xydata()
    np.testing.assert_allclose(curve, report.pr_curve[["recall", "precision"]])
    losses = [line.get_ydata().tolist() for line in drawn["Training"].lines]
    assert losses[1] == [0.8, 0.6, 0.5]


def test_without_loss_the_first_panel_shows_importance_or_thresholds(report):
    bars = panels(dataclasses.replace(report, loss=None))["Feature importance"]
    assert bars.patches[0].get_width() == pytest.approx(0.1)
    assert "Choice of threshold" in panels(dataclasses.replace(report, loss=None, importance=None))
    one = panels(dataclasses.replace(report, loss={"train": [0.5], "validation": []}))
    assert len(one["Training"].lines) == 2


def test_scoring_needs_no_pyplot_and_no_window():
    code = (
        "import sys, napari_xtal.peaks.verify.metrics, napari_xtal.peaks.verify.splits\n"
        "assert not {'sklearn', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "import napari_xtal.peaks.verify.plots\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
