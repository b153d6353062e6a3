"""Verification in the window: probabilities, the filter, training, evaluation, saving."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog
from window_runs import N_FRAMES, make_frames, rest, spots, write_run

from napari_xtal.io.peak_lists import read_peaks
from napari_xtal.peaks.table import make_table
from napari_xtal.widgets import model_choice, peak_rows
from napari_xtal.widgets.probability_filter import ProbabilityFilter
from napari_xtal.widgets.train_panel import TrainPanel
from napari_xtal.widgets.writer import export_peaks


@pytest.fixture
def panel(searched, qtbot):
    """The panel, connected to the run."""
    made = TrainPanel()
    qtbot.addWidget(made)
    made.set_link(searched[1].link)
    yield made
    made.set_link(None)


def wait(qtbot, panel) -> None:
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not panel.busy, timeout=90_000)
    qtbot.wait(20)


def damage_frame(path, frame: int) -> None:
    """Compress a run and cut one frame's chunk short, as a broken transfer leaves it."""
    import h5py

    with h5py.File(path, "r+") as file:
        data = file["entry/data/data"][()]
        del file["entry/data/data"]
        made = file.create_dataset(
            "entry/data/data", data=data, chunks=(1, *data.shape[1:]), compression="gzip"
        )
        made.id.write_direct_chunk((frame, 0, 0), b"no pixels")


def judge_evenly(session) -> pd.DataFrame:
    """Give the peaks probabilities 0 … 1 in the order of their ids."""
    ids = session.peaks["peak_id"].to_numpy()
    session.set_probabilities(ids, np.linspace(0, 1, len(ids)), verifier="even")
    return session.peaks


def assert_aligned(view, session) -> None:
    """The layer shows the peaks that the filter leaves, each row where its point is."""
    peaks = session.peaks
    shown = peaks[peak_rows.is_shown(peaks, view.min_probability)]
    ids = view.layer.features["peak_id"].to_numpy()
    assert sorted(ids) == sorted(shown["peak_id"])
    assert list(view.rows["peak_id"]) == list(ids)
    np.testing.assert_allclose(
        np.asarray(view.layer.data), shown.loc[ids, ["frame", "row", "col"]].to_numpy(float)
    )
    assert len(view.layer.border_color) == len(ids)


def exactly(link, name: str = "default") -> pd.Series:
    """Return what the verifier says of every peak, frame by frame, by peak id."""
    from napari_xtal import load_verifier

    verifier, peaks = load_verifier(name), link.session.peaks
    parts = []
    for frame, table in peaks.groupby("frame"):
        shown = link.source.frame(int(frame))
        parts.append(pd.Series(verifier.predict(shown.image, table, shown.good), table["peak_id"]))
    return pd.concat(parts).astype(float)


# the filter ------------------------------------------------------------------------------


def test_only_unlabelled_machine_peaks_with_a_low_probability_are_hidden():
    table = make_table(
        frame=[0] * 6,
        row=range(6),
        col=range(6),
        probability=[0.1, 0.1, 0.1, 0.1, np.nan, 0.5],
        label=["unlabelled", "not-peak", "unlabelled", "unlabelled", "unlabelled", "unlabelled"],
        source=["auto", "auto", "manual", "import", "auto", "auto"],
    )
    assert list(peak_rows.is_shown(table, 0.5)) == [False, True, True, True, True, True]
    assert peak_rows.is_shown(table, 0.0).all()
    assert peak_rows.is_shown(table.iloc[:0], 0.5).shape == (0,)


@pytest.mark.parametrize("kept", [None, {}, {"min_probability": "junk"}, {"min_probability": 7}])
def test_a_limit_that_is_none_hides_nothing(kept):
    assert peak_rows.probability_limit({} if kept is None else {"verifier": kept}) == 0.0


def test_moving_the_slider_filters_the_layer_at_once(searched, qtbot):
    _, dock, session = searched
    view, widget = dock.link.view, dock.verify.filter
    peaks = judge_evenly(session)
    everything = len(view.layer.data)
    start = time.perf_counter()
    widget.slider.setValue(50)
    qtbot.waitUntil(lambda: len(view.layer.data) < everything, timeout=1000)
    print(f"slider to filtered layer {1e3 * (time.perf_counter() - start):.0f} ms")
    assert len(view.layer.data) == (peaks["probability"] >= 0.5).sum()
    assert_aligned(view, session)
    assert session.parameters["verifier"]["min_probability"] == 0.5
    assert session.n_peaks == everything
    qtbot.waitUntil(lambda: f"{len(view.layer.data)} of {everything}" in widget.count.text())
    widget.slider.setValue(0)
    qtbot.waitUntil(lambda: len(view.layer.data) == everything, timeout=1000)
    assert_aligned(view, session)


def test_two_docks_show_the_same_limit_and_the_next_session_too(searched, panel, qtbot, run_file):
    _, dock, session = searched
    judge_evenly(session)
    panel.filter.histogram.line.setValue(0.4)
    panel.filter.histogram.line.sigDragged.emit(panel.filter.histogram.line)
    qtbot.waitUntil(lambda: dock.verify.filter.limit == 0.4, timeout=1000)
    assert dock.verify.filter.slider.value() == 40
    assert dock.verify.filter.isVisibleTo(dock)  # hidden peaks are explained
    assert dock.link.view.min_probability == 0.4


def test_a_reopened_run_is_filtered_as_it_was(window, run_file, qtbot):
    viewer, dock = window(run_file, live=False)
    dock.search_all()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    judge_evenly(dock.link.session)
    model_choice.remember(dock.link.session, min_probability=0.7)
    n_shown = len(dock.link.view.layer.data)
    viewer.layers.clear()
    qtbot.wait(50)
    _, again = window(run_file, live=False)
    assert again.link.view.min_probability == 0.7
    assert len(again.link.view.layer.data) == n_shown < again.link.session.n_peaks
    assert again.verify.filter.limit == 0.7


def test_hidden_peaks_cannot_be_selected_or_deleted(searched):
    _, dock, session = searched
    view, layer = dock.link.view, dock.link.view.layer
    judge_evenly(session)
    view.set_min_probability(0.5)
    hidden = set(session.peaks["peak_id"]) - set(view.rows["peak_id"])
    assert hidden
    layer.selected_data = set(range(len(layer.data)))  # what "select all" does
    assert hidden.isdisjoint(view.selected_ids())
    view.select_ids(sorted(hidden))
    assert not layer.selected_data
    layer.selected_data = set(range(len(layer.data)))
    layer.remove_selected()
    assert set(session.peaks["peak_id"]) == hidden
    view.undo()
    assert_aligned(view, session)


def test_editing_while_peaks_are_hidden_keeps_rows_and_points_together(searched):
    viewer, dock, session = searched
    view, layer = dock.link.view, dock.link.view.layer
    judge_evenly(session)
    view.set_min_probability(0.5)
    viewer.dims.set_point(0, 4)
    layer.add([[4, 33.0, 44.0]])
    assert_aligned(view, session)
    here = np.flatnonzero(view.rows["frame"] == 4)
    first, second, third = (int(view.rows["peak_id"].iloc[i]) for i in here[:3])
    view.select_ids([first])
    view.label("not-peak")
    assert session.get_peaks([first])["label"].iloc[0] == "not-peak"
    assert_aligned(view, session)
    view.select_ids([second])
    view.delete()
    assert_aligned(view, session)
    at = int(np.flatnonzero(view.rows["peak_id"] == third)[0])
    data = np.array(layer.data)
    data[at, 1:] += (1.0, -1.0)
    layer.data = data
    assert session.get_peaks([third])["source"].iloc[0] == "manual"
    assert_aligned(view, session)
    for _ in range(4):
        view.undo()
        assert_aligned(view, session)
    view.set_min_probability(0.0)
    assert_aligned(view, session)


def test_a_label_taken_back_hides_the_peak_again(searched):
    _, dock, session = searched
    view = dock.link.view
    peaks = judge_evenly(session)
    weak = int(peaks["peak_id"].iloc[0])
    session.label_peaks([weak], "peak")
    view.set_min_probability(0.5)
    assert weak in set(view.rows["peak_id"])
    view.undo()
    assert weak not in set(view.rows["peak_id"])
    view.redo()
    assert weak in set(view.rows["peak_id"])
    assert_aligned(view, session)


def test_new_probabilities_bring_peaks_back(searched):
    _, dock, session = searched
    view = dock.link.view
    ids = judge_evenly(session)["peak_id"].to_numpy()
    view.set_min_probability(0.9)
    session.set_probabilities(ids, np.linspace(1, 0, len(ids)), verifier="even")
    assert_aligned(view, session)
    assert ids[0] in set(view.rows["peak_id"])


def test_a_single_image_is_filtered_too(window, qtbot):
    _, dock = window(data=make_frames()[0].astype(np.float32))
    session, view = dock.link.session, dock.link.view
    judge_evenly(session)
    view.set_min_probability(0.5)
    assert len(view.layer.data) == (session.peaks["probability"] >= 0.5).sum()
    assert 0 < len(view.layer.data) < session.n_peaks


def test_a_large_run_is_filtered_to_exactly_what_is_probable(searched):
    _, dock, session = searched
    rng = np.random.default_rng(0)
    n = 60_000
    table = make_table(
        frame=np.sort(rng.integers(0, N_FRAMES, n)),
        row=rng.uniform(2, 158, n),
        col=rng.uniform(2, 198, n),
        snr=rng.uniform(4, 50, n),
        probability=rng.uniform(0, 1, n),
    )
    session.set_auto_peaks(table, range(N_FRAMES), {})
    view = dock.link.view
    probability = session.peaks["probability"].to_numpy()
    for limit in (0.3, 0.5, 0.2, 0.6, 0.4):
        view.set_min_probability(limit)
        assert len(view.layer.data) == (probability >= limit).sum()


# saving ----------------------------------------------------------------------------------


def test_hidden_peaks_are_not_saved_and_the_message_says_so(
    searched, tmp_path, monkeypatch, messages
):
    viewer, dock, session = searched
    path = tmp_path / "exported.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    peaks = judge_evenly(session)
    model_choice.remember(session, min_probability=0.5)
    n_shown = int((peaks["probability"] >= 0.5).sum())
    export_peaks(viewer)
    saved = read_peaks(path)
    assert len(saved) == n_shown
    n_hidden = len(peaks) - n_shown
    assert any(f"{n_hidden} unlabelled peaks with a probability below 0.5" in m for m in messages())
    told = saved.attrs["parameters"]
    assert told["left_out_below_min_probability"] == n_hidden
    assert told["verifier"]["min_probability"] == 0.5
    assert told["method"] == "significance"


def test_cxi_and_napari_own_save_leave_them_out_too(searched, tmp_path, npe2pm, messages):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-xtal"))
    _, dock, session = searched
    peaks = judge_evenly(session)
    model_choice.remember(session, min_probability=0.5)
    dock.link.view.layer.save(str(tmp_path / "peaks.cxi"), plugin="napari-xtal")
    saved = read_peaks(tmp_path / "peaks.cxi")
    assert len(saved) == (peaks["probability"] >= 0.5).sum()
    assert "left_out_below_min_probability" in saved.attrs["parameters"]
    assert any("left out" in m for m in messages())


# verification ----------------------------------------------------------------------------


def test_the_dock_and_the_library_give_the_same_probabilities(searched, panel, qtbot):
    _, dock, session = searched
    panel.this_frame.click()
    wait(qtbot, panel)
    expected = exactly(dock.link)
    first = session.peaks_of(0)
    np.testing.assert_array_equal(first["probability"], expected[first["peak_id"]])
    assert session.peaks_of(1)["probability"].isna().all()
    panel.all_frames.click()
    wait(qtbot, panel)
    peaks = session.peaks
    np.testing.assert_array_equal(peaks["probability"], expected[peaks["peak_id"]])
    assert f"{len(peaks)} of {len(peaks)} peaks judged" in panel.status.text()
    assert session.verifier_of(3) == panel.engine.model.hash


def test_verifying_and_searching_again_never_touch_what_a_person_did(searched, panel, qtbot):
    viewer, dock, session = searched
    layer = dock.link.view.layer
    viewer.dims.set_point(0, 2)
    layer.add([[2, 50.0, 50.0]])
    labelled = int(session.peaks_of(3)["peak_id"].iloc[0])
    session.label_peaks([labelled], "not-peak")
    before = session.peaks[session.peaks["source"] == "manual"]
    for _ in range(2):
        panel.all_frames.click()
        wait(qtbot, panel)
        dock.search_all()
        qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
        after = session.peaks[session.peaks["source"] == "manual"]
        pd.testing.assert_frame_equal(
            before.drop(columns="probability"), after.drop(columns="probability")
        )
        assert session.get_peaks([labelled])["label"].iloc[0] == "not-peak"
    assert session.undo_text  # the machine's work is no edit


def test_live_verification_follows_the_slider(window, run_file, qtbot):
    viewer, dock = window(run_file)
    session = dock.link.session
    dock.verify.check.setChecked(True)
    rest(qtbot, dock)
    assert session.peaks_of(0)["probability"].notna().all()
    frames = []
    dock.verify.engine.frame_done.connect(lambda judged: frames.append(judged.frame))
    dock.form.row("min_snr").slider.setValue(160)
    # Known probabilities stay: nothing flashes up before the verifier is through.
    assert session.peaks_of(0)["probability"].notna().all()
    dock.form.row("min_snr").slider.setValue(60)
    viewer.dims.set_point(0, 1)
    viewer.dims.set_point(0, 2)
    rest(qtbot, dock)
    qtbot.waitUntil(lambda: session.peaks_of(2)["probability"].notna().all(), timeout=10_000)
    expected = exactly(dock.link)
    known = session.peaks.dropna(subset="probability")
    assert 2 in set(known["frame"])
    np.testing.assert_array_equal(known["probability"], expected[known["peak_id"]])
    assert frames[-1] == 2


def test_all_frames_are_verified_after_the_search(window, run_file, qtbot):
    _, dock = window(run_file)
    dock.verify.check.setChecked(True)
    rest(qtbot, dock)
    dock.run.all_frames.click()
    rest(qtbot, dock)
    assert dock.link.session.peaks["probability"].notna().all()
    assert "peaks judged" in dock.status.text()
    assert dock.run.all_frames.isEnabled()


def test_without_the_check_box_nothing_is_verified(window, run_file, qtbot):
    _, dock = window(run_file)
    dock.search_all()
    rest(qtbot, dock)
    assert dock.link.session.peaks["probability"].isna().all()
    assert not dock.verify.filter.isVisibleTo(dock)


def test_a_model_that_is_missing_gives_one_message_and_switches_off(
    window, run_file, qtbot, tmp_path, messages, monkeypatch
):
    from napari_xtal.peaks.verify import cnn

    monkeypatch.setattr(cnn, "DEFAULT", tmp_path / "gone.safetensors")
    monkeypatch.setattr(cnn, "_loaded", {})
    viewer, dock = window(run_file)
    dock.verify.check.setChecked(True)
    rest(qtbot, dock)
    viewer.dims.set_point(0, 1)
    dock.form.row("min_snr").slider.setValue(100)
    rest(qtbot, dock)
    assert [m for m in messages() if "gone.safetensors" in m] == messages()
    assert len(messages()) == 1
    assert not dock.verify.on
    assert len(dock.link.session.peaks_of(1))


def test_cancel_keeps_what_is_judged(searched, panel, qtbot, monkeypatch):
    from napari_xtal.widgets import judging

    _, _, session = searched
    monkeypatch.setattr(judging, "FRAMES_PER_STEP", 1)
    monkeypatch.setattr(judging, "HAND_OVER_S", 0.0)
    panel.this_frame.click()  # loads the model
    wait(qtbot, panel)
    done = []
    original = type(panel.engine.model.verifier).predict_in

    def slow(self, source, table, progress=None, cancel=None):
        done.append(int(table["frame"].iloc[0]))
        if len(done) == 3:
            panel.engine.cancel()
        return original(self, source, table, progress, cancel)

    monkeypatch.setattr(type(panel.engine.model.verifier), "predict_in", slow)
    panel.all_frames.click()
    wait(qtbot, panel)
    assert "Cancelled" in panel.status.text()
    judged = session.peaks.dropna(subset="probability")
    assert {0, 1} <= set(judged["frame"]) <= {0, 1, 2}
    assert session.peaks_of(5)["probability"].isna().all()


def test_peaks_of_a_broken_frame_stay_unjudged(window, tmp_path, qtbot):
    path = write_run(tmp_path / "run.h5", make_frames())
    damage_frame(path, 3)
    _, dock = window(path, live=False)
    session = dock.link.session
    session.add_peaks(make_table(frame=[2, 3], row=[50.0, 50.0], col=[50.0, 50.0]))
    panel = TrainPanel()
    qtbot.addWidget(panel)
    panel.set_link(dock.link)
    panel.all_frames.click()
    wait(qtbot, panel)
    assert session.peaks_of(2)["probability"].notna().all()
    assert session.peaks_of(3)["probability"].isna().all()
    assert "1 lie on frames that cannot be read" in panel.status.text()
    panel.engine.apply(3)
    wait(qtbot, panel)
    assert "Frame 3" in panel.status.text()
    panel.set_link(None)


# models ----------------------------------------------------------------------------------


def label_for_training(session) -> None:
    """Label strong peaks as such, and add not-peaks between the spots."""
    rng = np.random.default_rng(3)
    rows = []
    for frame in range(N_FRAMES):
        places = spots(frame)
        while len(rows) < 5 * (frame + 1):
            r, c = rng.uniform(10, 150), rng.uniform(10, 90)
            if np.hypot(*(places - (r, c)).T).min() > 9:
                rows.append((frame, r, c))
    frame, row, col = np.array(rows).T
    ids = session.add_peaks(make_table(frame=frame.astype(int), row=row, col=col, snr=1.0))
    session.label_peaks(ids, "not-peak")
    machine = session.peaks[session.peaks["source"] == "auto"]
    strong = machine[machine["snr"] > 12].groupby("frame").head(5)
    session.label_peaks([int(i) for i in strong["peak_id"]], "peak")


def test_buttons_say_why_they_cannot(panel, searched, qtbot):
    _, _, session = searched
    assert not panel.train.isEnabled()
    assert "label at least 10 peaks" in panel.train.toolTip()
    assert not panel.evaluate.isEnabled()
    assert "0 peak / 0 not-peak on 0 frames" in panel.counts.text()
    session.label_peaks([int(session.peaks["peak_id"].iloc[0])], "peak")
    qtbot.waitUntil(lambda: "1 peak / 0 not-peak on 1 frame<" in panel.counts.text())
    label_for_training(session)
    qtbot.waitUntil(lambda: panel.train.isEnabled() and panel.evaluate.isEnabled())


def test_the_least_number_of_labels_is_that_of_the_training():
    from napari_xtal.peaks.verify.labels import LEAST_PER_CLASS

    assert model_choice.LEAST_LABELS == LEAST_PER_CLASS


def test_evaluate_shows_scores_and_a_caveat(panel, searched, qtbot):
    _, _, session = searched
    label_for_training(session)
    panel._count_labels()
    panel.evaluate.click()
    wait(qtbot, panel)
    assert panel.report.n == panel._labels.n_peak + panel._labels.n_not
    text = panel.summary.text()
    assert "Average precision" in text and "has not been trained on labels" in text
    assert "to" in text


@pytest.mark.parametrize("kind", ["svm", "cnn"])
def test_train_stores_a_model_with_its_report_and_uses_it(
    panel, searched, qtbot, kind, monkeypatch
):
    from napari_xtal.peaks.verify import train

    _, dock, session = searched
    if kind == "svm":  # else the shipped one may be kept: these spots are easy
        original = train.train_verifier
        monkeypatch.setattr(
            train, "train_verifier", lambda *a, **k: original(*a, **{**k, "start": "scratch"})
        )
    label_for_training(session)
    panel._count_labels()
    panel.kind.setCurrentIndex(panel.kind.findData(kind))
    panel.train.click()
    assert not panel.train.isEnabled()
    assert panel.cancel.isEnabled()
    wait(qtbot, panel)
    stored = session.models.list()
    assert len(stored) == 1, panel.status.text()
    assert stored[0]["kind"] == kind
    assert stored[0]["labels"] == {"peak": panel._labels.n_peak, "not-peak": panel._labels.n_not}
    assert stored[0]["report"]["ap"][0] > 0.9
    name = stored[0]["hash"]
    assert panel.engine.active in (name, "default")
    if panel.engine.active == name:
        assert panel.models.currentData() == name
        first = session.peaks_of(0)
        expected = exactly(dock.link, str(session.models.path(name)))
        np.testing.assert_array_equal(first["probability"], expected[first["peak_id"]])
    details = panel.open_details()
    qtbot.addWidget(details)
    details.show()
    assert {"pr", "calibration", "confusion"} <= set(details.plots)
    assert ("loss" if kind == "cnn" else "importance") in details.plots
    panel.evaluate.click()
    wait(qtbot, panel)
    if panel.engine.active == name:
        assert "has seen some of these labels" in panel.summary.text()


def test_a_model_that_is_not_better_is_told_and_changes_nothing(
    panel, searched, qtbot, monkeypatch, messages
):
    import copy
    import dataclasses

    from napari_xtal.peaks.verify import train

    _, _, session = searched
    label_for_training(session)
    panel._count_labels()
    panel.evaluate.click()
    wait(qtbot, panel)
    report = panel.report

    def keep_start(*_args, start, **_options):
        same = copy.copy(start)
        same.report = report
        return same

    monkeypatch.setattr(train, "train_verifier", keep_start)
    panel.train.click()
    wait(qtbot, panel)
    assert "No model trained on these labels was better" in panel.status.text()
    assert not session.models.list()
    assert panel.engine.active == "default"

    def make_worse(*_args, start, **_options):
        worse = copy.copy(start)
        worse.hash = "0123456789abcdef"
        row = report.baselines.iloc[[0]].assign(name=train.BEFORE, ap=report.ap.value)
        worse.report = dataclasses.replace(
            report, ap=report.ap._replace(value=report.ap.value - 0.2), baselines=row
        )
        return worse

    monkeypatch.setattr(train, "train_verifier", make_worse)
    panel.train.click()
    wait(qtbot, panel)
    assert "stays in use" in panel.status.text()
    assert any("stays in use" in m for m in messages())
    (stored,) = session.models.list()
    assert panel.models.findData(stored["hash"]) > 0  # can be chosen all the same
    assert panel.engine.active == "default"


def test_report_is_saved_as_json_csv_and_picture(panel, searched, qtbot, tmp_path, messages):
    from napari_xtal.peaks.verify.report import VerifierReport

    _, _, session = searched
    label_for_training(session)
    panel._count_labels()
    panel.evaluate.click()
    wait(qtbot, panel)
    details = panel.open_details()
    qtbot.addWidget(details)
    for suffix in (".json", ".csv", ".png"):
        path = tmp_path / f"report{suffix}"
        details.save_to(str(path))
        assert path.stat().st_size > 200
    assert VerifierReport.load(tmp_path / "report.json").ap == panel.report.ap
    details.save_to(str(tmp_path / "report.docx"))
    assert any("a report is saved as" in m for m in messages())


def test_choosing_the_svm_changes_the_probabilities(panel, searched, qtbot):
    _, dock, session = searched
    panel.this_frame.click()
    wait(qtbot, panel)
    network = session.peaks_of(0)["probability"].to_numpy()
    panel.models.setCurrentIndex(panel.models.findData("default-svm"))
    panel.models.activated.emit(panel.models.currentIndex())
    wait(qtbot, panel)
    assert panel.engine.active == "default-svm"
    assert session.parameters["verifier"]["model"] == "default-svm"
    panel.this_frame.click()
    wait(qtbot, panel)
    first = session.peaks_of(0)
    np.testing.assert_array_equal(
        first["probability"], exactly(dock.link, "default-svm")[first["peak_id"]]
    )
    assert not np.array_equal(first["probability"], network)


def test_a_model_from_a_file_is_kept_in_the_session(panel, searched, qtbot, tmp_path):
    from napari_xtal import load_verifier

    _, _, session = searched
    path = tmp_path / "mine.safetensors"
    load_verifier("default").save(path)
    panel.engine.use_file(str(path))
    wait(qtbot, panel)
    (stored,) = session.models.list()
    assert panel.engine.active == stored["hash"]
    assert "mine.safetensors" in panel.models.currentText()
    path.unlink()
    panel.this_frame.click()
    wait(qtbot, panel)
    assert session.peaks_of(0)["probability"].notna().all()


@pytest.mark.parametrize("damage", ["tampered", "missing", "pickle", "truncated"])
def test_a_model_that_cannot_be_loaded_leaves_the_old_one(
    panel, searched, qtbot, tmp_path, messages, damage
):
    import pickle

    from napari_xtal import load_verifier

    _, _, session = searched
    panel.this_frame.click()
    wait(qtbot, panel)
    before = session.peaks_of(0)
    good = tmp_path / "mine.safetensors"
    load_verifier("default").save(good)
    if damage in ("tampered", "missing"):
        panel.engine.use_file(str(good))
        wait(qtbot, panel)
        panel.engine.use("default")
        wait(qtbot, panel)
        (stored,) = session.models.list()
        file = session.folder / "models" / stored["file"]
        content = bytearray(file.read_bytes())
        content[-5] ^= 0xFF
        file.write_bytes(content) if damage == "tampered" else file.unlink()
        panel.engine.use(stored["hash"])
    elif damage == "pickle":
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
        panel.engine.use_file(str(bad))
    else:
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(good.read_bytes()[:2000])
        panel.engine.use_file(str(bad))
    n_before = len(messages())
    wait(qtbot, panel)
    assert len(messages()) == n_before + 1, messages()
    assert panel.engine.active == "default"
    assert panel.models.currentData() == "default"
    panel.this_frame.click()
    wait(qtbot, panel)
    pd.testing.assert_frame_equal(session.peaks_of(0), before)


def test_nothing_heavy_is_imported_before_it_is_used(run_file):
    code = (
        "import sys, napari\n"
        "from napari_xtal.widgets.peak_finder import PeakFinderWidget\n"
        "from napari_xtal.widgets.train_panel import TrainPanel\n"
        "from napari_xtal.widgets.compare_panel import ComparePanel\n"
        "v = napari.Viewer(show=False)\n"
        "PeakFinderWidget(v); TrainPanel(); ComparePanel()\n"
        "bad = [m for m in ('torch', 'sklearn', 'skops', 'safetensors') if m in sys.modules]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_panel_fits_a_narrow_dock(panel, searched, qtbot):
    _, dock, _ = searched
    panel.resize(420, 900)
    panel.show()
    assert panel.minimumSizeHint().width() <= 420
    assert isinstance(dock.verify.filter, ProbabilityFilter)
    assert panel.filter.slider.orientation() == Qt.Orientation.Horizontal


def test_clicking_a_label_in_the_map_shows_its_peak(panel, searched, qtbot):
    from napari_xtal.peaks.verify.patches import HALF
    from napari_xtal.widgets.label_map import map_labels

    viewer, dock, session = searched
    label_for_training(session)
    labelled = model_choice.Labels.of(session.peaks).table

    class Projector:
        half = HALF

        def pca_map(self, features):
            return features.to_numpy(float)[:, :2]

    points = map_labels(Projector(), dock.link.source, labelled, lambda: False)
    assert set(points["peak_id"]) == set(labelled["peak_id"])
    assert set(points["label"]) == {"peak", "not-peak"}
    panel._count_labels()
    panel.evaluate.click()
    wait(qtbot, panel)
    panel._show_report(panel.report, "my labels", points)
    details = panel.open_details()
    qtbot.addWidget(details)
    chosen = int(labelled[labelled["frame"] == 4]["peak_id"].iloc[0])
    label = str(session.get_peaks([chosen])["label"].iloc[0])
    scatter = details.map.scatters[label]
    spot = next(p for p in scatter.points() if p.data() == chosen)
    scatter.sigClicked.emit(scatter, [spot], None)
    assert dock.link.shown_frame() == 4
    assert dock.link.view.selected_ids() == [chosen]
    session.remove_peaks([chosen])
    panel.show_peak(chosen)
    assert dock.link.view.selected_ids() != [chosen]
