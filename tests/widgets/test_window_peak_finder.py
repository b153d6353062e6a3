"""The peak finder dock: live search, run search, settings, bad input."""

from __future__ import annotations

import gc
import time
import weakref

import h5py
import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget
from window_runs import GAP, N_FRAMES, SHAPE, make_frames, rest, spots, write_run

from napari_xtal.io.peak_lists import read_peaks
from napari_xtal.peaks.parameters import PRESETS, PeakFinderParams
from napari_xtal.peaks.table import make_table
from napari_xtal.widgets import frame_search
from napari_xtal.widgets.run_link import RunLink
from napari_xtal.widgets.saving import save_peaks


def near(table, places, reach=2.0) -> int:
    """Return how many places have a peak."""
    found = table[["row", "col"]].to_numpy()
    if not len(found):
        return 0
    return int((np.hypot(*(found[:, None] - places[None]).T).min(axis=1) < reach).sum())


def test_dock_opens_fast_and_every_control_has_a_name(window, qtbot):
    window()  # imports and the first Qt stylesheet are napari's cost, not the dock's
    viewer, _ = window()
    from napari_xtal.widgets.peak_finder import PeakFinderWidget

    start = time.perf_counter()
    dock = PeakFinderWidget(viewer)
    seconds = time.perf_counter() - start
    qtbot.addWidget(dock)
    print(f"dock built in {seconds * 1e3:.0f} ms")
    assert seconds < 1.0
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QSlider

    controls = [
        c
        for kind in (QAbstractButton, QComboBox, QSlider)
        for c in dock.findChildren(kind)
        if not c.objectName().startswith("qt_")
    ]
    assert len(controls) > 20
    assert all(c.objectName() for c in controls)


def test_disabled_buttons_explain_themselves(window):
    _, dock = window()
    for name in ("this_frame", "all_frames", "cancel", "undo", "redo", "save"):
        control = dock.findChild(QWidget, name)
        assert not control.isEnabled()
        assert "Not available: " in control.toolTip()


def test_shown_frame_is_searched_at_once(window, run_file):
    _, dock = window(run_file)
    session = dock.link.session
    assert near(session.peaks_of(0), spots(0)) >= 9
    assert session.n_peaks == len(session.peaks_of(0))
    assert "peaks</b> on frame 0" in dock.status.text()
    assert "expected from noise" in dock.status.text()
    assert dock.histogram.counts.sum() >= session.n_peaks
    assert dock.run.all_frames.isEnabled()


def test_moving_a_slider_changes_the_peaks_by_filtering_only(window, run_file, qtbot, monkeypatch):
    _, dock = window(run_file)
    session, layer = dock.link.session, dock.link.view.layer
    many = session.n_peaks
    monkeypatch.setattr(
        frame_search.FrameSearch, "_measure", lambda *_: pytest.fail("searched, not filtered")
    )
    start = time.perf_counter()
    dock.form.row("min_snr").slider.setValue(200)  # SNR 20
    seconds = time.perf_counter() - start
    print(f"slider to repainted layer {seconds * 1e3:.1f} ms")
    few = session.n_peaks
    assert 0 < few < many
    assert len(layer.data) == few
    assert (session.peaks["snr"] >= dock.form.params.min_snr).all()
    assert dock.histogram.threshold == pytest.approx(20, rel=0.01)
    dock.settings.reset.click()
    assert session.n_peaks == many


def test_dragging_the_line_of_the_histogram_sets_the_minimum_snr(window, run_file):
    _, dock = window(run_file)
    many = dock.link.session.n_peaks
    dock.histogram._line.setValue(np.log10(30))
    dock.histogram._line.sigDragged.emit(dock.histogram._line)
    assert dock.form.params.min_snr == pytest.approx(30, abs=0.01)
    assert dock.link.session.n_peaks < many


def test_going_to_another_frame_searches_it_and_shows_its_histogram(window, run_file, qtbot):
    viewer, dock = window(run_file)
    session = dock.link.session
    first = session.peaks_of(0)
    viewer.dims.set_point(0, 4)
    rest(qtbot, dock)
    assert near(session.peaks_of(4), spots(4)) >= 9
    counts = dock.histogram.counts.copy()
    viewer.dims.set_point(0, 0)
    assert f"<b>{len(first)} peaks</b> on frame 0" in dock.status.text()
    rest(qtbot, dock)
    assert list(session.peaks_of(0)["peak_id"]) == list(first["peak_id"])
    assert not np.array_equal(dock.histogram.counts, counts)


def test_without_live_only_the_button_searches(window, run_file, qtbot):
    viewer, dock = window(run_file, live=False)
    session = dock.link.session
    assert session.n_peaks == 0
    dock.form.row("min_snr").slider.setValue(300)
    viewer.dims.set_point(0, 1)
    rest(qtbot, dock)
    assert session.n_peaks == 0
    dock.run.this_frame.click()
    rest(qtbot, dock)
    assert set(session.peaks["frame"]) == {1}


def test_at_most_one_search_waits(window, run_file, qtbot):
    _, dock = window(run_file)
    seen = []
    dock.engine.frame_done.connect(lambda result: seen.append(result.params.local_bg_radius))
    for radius in range(4, 14):  # each needs a new search
        dock.form.row("local_bg_radius").box.setValue(radius)
    rest(qtbot, dock)
    assert len(seen) <= 3
    assert seen[-1] == 13


def test_all_frames_with_progress(window, run_file, qtbot):
    _, dock = window(run_file)
    steps = []
    dock.engine.progressed.connect(lambda done, total: steps.append((done, total)))
    dock.run.all_frames.click()
    assert not dock.run.all_frames.isEnabled()
    assert dock.run.cancel.isEnabled()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    session = dock.link.session
    for frame in range(N_FRAMES):
        assert near(session.peaks_of(frame), spots(frame)) >= 9
    assert session.searched_frames == list(range(N_FRAMES))
    assert steps[-1] == (N_FRAMES, N_FRAMES)
    assert f"{N_FRAMES} of {N_FRAMES} frames searched" in dock.status.text()
    assert dock.run.all_frames.isEnabled()


def test_cancel_keeps_what_was_found(window, tmp_path, qtbot, monkeypatch):
    from napari_xtal.peaks import find

    _, dock = window(write_run(tmp_path / "run.h5", make_frames(60)))
    original = find._find_on_frame

    def slow(*args):
        time.sleep(0.02)
        return original(*args)

    monkeypatch.setattr(find, "_find_on_frame", slow)
    dock.run.all_frames.click()
    qtbot.waitUntil(lambda: dock.run.progress.value() >= 4, timeout=60_000)
    dock.run.cancel.click()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    done = dock.link.session.searched_frames
    assert 4 <= len(done) < 60
    assert "Cancelled" in dock.status.text()
    assert set(dock.link.session.peaks["frame"]) <= set(done)
    assert len(dock.link.view.layer.data) == dock.link.session.n_peaks


def test_only_rows_of_the_method_are_shown(window, run_file, qtbot):
    _, dock = window(run_file)
    assert dock.form.shows("false_peaks_per_frame")
    assert not dock.form.shows("median_filter")
    dock.form.row("method").setCurrentText("threshold")
    rest(qtbot, dock)
    assert dock.form.shows("median_filter")
    assert not dock.form.shows("false_peaks_per_frame")
    dock.form.row("threshold").box.setValue(60)
    rest(qtbot, dock)
    assert (dock.link.session.peaks_of(0)["max_value"] >= 60).all()
    assert near(dock.link.session.peaks_of(0), spots(0)) >= 7


def test_presets_and_toml(window, run_file, tmp_path, messages, qtbot):
    _, dock = window(run_file)
    strict = "Strict (1 false peak in 100 frames)"
    dock.settings.presets.setCurrentText(strict)
    dock.settings.presets.textActivated.emit(strict)
    assert dock.form.params == PRESETS[strict]
    dock.form.row("min_snr").box.setValue(7.5)
    assert dock.settings.presets.currentText() == "Custom"
    path = tmp_path / "mine.toml"
    dock.form.params.save(path)
    dock.settings.reset.click()
    dock.settings.load(path)
    assert dock.form.params.min_snr == 7.5
    path.write_text("[peak_finder]\nmin_snr = -4\n")
    dock.settings.load(path)
    assert dock.form.params.min_snr == 7.5
    assert any("mine.toml" in text and "min_snr" in text for text in messages())


def test_copy_settings_goes_to_the_clipboard(window, run_file):
    _, dock = window(run_file)
    text = dock.settings.copy_as("indexamajig options")
    assert QApplication.clipboard().text() == text
    assert "--min-pix-count=1" in text


def test_parameter_out_of_range_is_told_and_changes_nothing(window, run_file):
    _, dock = window(run_file)
    before, n = dock.form.params, dock.link.session.n_peaks
    dock.form.row("max_res").box.setValue(10)
    dock.form.row("min_res").box.setValue(50)
    error = dock.findChild(QWidget, "params_error")
    assert not error.isHidden()
    assert "min_res" in error.text()
    dock.form.row("max_res").box.setValue(0)
    assert error.isHidden()
    dock.form.row("min_res").box.setValue(0)
    assert dock.form.params == before
    assert dock.link.session.n_peaks == n


def test_rejected_candidates_are_shown_with_reasons(window, run_file, qtbot):
    viewer, dock = window(run_file)
    dock.form.row("min_snr").box.setValue(20)
    dock.show_rejected.setChecked(True)
    layer = dock.rejected.layer
    assert layer in viewer.layers
    assert "too weak" in set(layer.features["reason"])
    assert viewer.layers.selection.active != layer
    dock.show_rejected.setChecked(False)
    assert not layer.visible


@pytest.mark.parametrize("rejected", [True, False])
def test_hot_pixels_are_offered_for_the_mask(window, tmp_path, qtbot, rejected):
    data = make_frames()
    data[:, 40, 40] = 400
    _, dock = window(write_run(tmp_path / "run.h5", data))
    dock.form.row("reject_single_pixels").setChecked(rejected)
    dock.run.all_frames.click()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    assert not dock.hot.isHidden()
    session, n = dock.link.session, dock.link.session.n_peaks
    dock.hot.add.click()
    assert session.n_peaks == (n if rejected else n - N_FRAMES)
    assert dock.hot.isHidden()
    assert not dock.link.stack.frame(3).good[40, 40]
    assert np.isnan(dock.link.layer.data[3][40, 40])
    dock.run.all_frames.click()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    assert near(session.peaks, np.array([[40, 40]]), reach=0.6) == 0
    assert dock.hot.isHidden()
    save_peaks(tmp_path / "out.cxi", dock.link.source, session.peaks)
    with h5py.File(tmp_path / "out.cxi") as file:
        mask = file["entry_1/data_1/mask"][()]
    expected = ~dock.link.source.unmasked.good
    expected[40, 40] = True
    np.testing.assert_array_equal(mask > 0, expected)


@pytest.mark.parametrize("kind", ["masked", "nan", "constant"])
def test_frames_without_information_are_told_not_searched_in_vain(window, tmp_path, qtbot, kind):
    data = make_frames(2).astype(np.float32)
    data[:, :, GAP] = np.nan
    if kind == "masked":
        data[0] = np.nan
    elif kind == "nan":
        data[0, 10:60, 10:60] = np.nan
    else:
        data[0] = 7
    viewer, dock = window(write_run(tmp_path / "run.h5", data, mask=False))
    viewer.dims.set_point(0, 0)
    rest(qtbot, dock)
    if kind == "masked":
        assert dock.status.text().startswith("Frame 0")
    assert len(dock.link.session.peaks_of(0)) <= (12 if kind == "nan" else 1)
    viewer.dims.set_point(0, 1)
    rest(qtbot, dock)
    assert near(dock.link.session.peaks_of(1), spots(1)) >= 9


def test_plain_array_layers_work_too(window, qtbot):
    viewer, dock = window(data=np.where(make_frames() == 65535, 0, make_frames()))
    assert (
        near(dock.link.session.peaks_of(dock.link.shown_frame()), spots(3)) >= 9
        or near(dock.link.session.peaks_of(dock.link.shown_frame()), spots(2)) >= 9
    )
    viewer.add_image(make_frames()[0].astype(np.float32), name="one frame")
    dock.layers.setCurrentText("one frame")
    rest(qtbot, dock)
    assert dock.link.layer.name == "one frame"
    assert dock.link.view.layer.ndim == 2
    assert near(dock.link.session.peaks, spots(0)) >= 9
    dock.link.view.layer.add([[5.0, 9.0]])
    assert (dock.link.session.peaks["source"] == "manual").sum() == 1


def test_failure_of_the_search_is_one_message(window, run_file, qtbot, messages, monkeypatch):
    _, dock = window(run_file)
    dock.form.row("background").setCurrentText("local")
    rest(qtbot, dock)

    def fail(*_):
        raise RuntimeError("no more memory")

    monkeypatch.setattr(frame_search.FrameSearch, "_measure", fail)
    dock.form.row("local_bg_radius").box.setValue(9)
    rest(qtbot, dock)
    assert "no more memory" in messages()
    assert dock.run.this_frame.isEnabled()


def test_read_only_data_folder_moves_the_session_to_the_user(
    window, run_file, monkeypatch, tmp_path
):
    from napari_xtal.errors import SessionError
    from napari_xtal.session.store import Session

    create = Session.create.__func__

    def refuse(cls, folder, *args, **kwargs):
        if str(folder).startswith(str(run_file.parent / "run.xtal")):
            raise SessionError(f"{folder}: no permission to write")
        return create(cls, folder, *args, **kwargs)

    monkeypatch.setattr(Session, "create", classmethod(refuse))
    _, dock = window(run_file)
    assert dock.link.session.folder.parent == tmp_path / "home"
    assert dock.link.session.n_peaks > 0


def test_session_in_use_elsewhere_is_told_and_can_be_taken_over(window, run_file, messages, qtbot):
    import json
    import os
    import socket

    folder = run_file.parent / "run.xtal"
    from napari_xtal.session.store import Session

    Session.create(folder, [run_file]).close()
    owner = {"pid": os.getppid(), "host": socket.gethostname(), "user": "someone", "time": "now"}
    (folder / "lock").write_text(json.dumps(owner))
    _, dock = window(run_file)
    assert any("in use by someone" in text for text in messages())
    assert not dock.take_over.isHidden()
    assert not dock.run.all_frames.isEnabled()
    dock.take_over.click()
    rest(qtbot, dock)
    assert dock.link.session.n_peaks > 0
    assert dock.take_over.isHidden()


def test_labels_follow_their_frames_when_files_are_opened_in_another_order(window, tmp_path):
    files = [
        write_run(tmp_path / f"part_{k}.h5", make_frames(6)[3 * k : 3 * k + 3]) for k in range(2)
    ]
    viewer, dock = window(files)
    session = dock.link.session
    label = int(session.peaks_of(0)["peak_id"].iloc[0])
    session.label_peaks([label], "not-peak")
    manual = session.add_peaks(make_table(frame=[4], row=[50.0], col=[60.0], source="manual"))
    viewer.layers.remove(dock.link.layer)

    _, again = window(files[::-1])
    peaks = again.link.session.peaks.set_index("peak_id")
    assert again.link.session.folder == session.folder
    assert peaks.loc[label, ["frame", "label"]].tolist() == [3, "not-peak"]
    assert peaks.loc[manual[0], ["frame", "row", "col"]].tolist() == [1, 50.0, 60.0]
    again.viewer.layers.remove(again.link.layer)

    _, alone = window(files[1])  # another run: a session of its own
    assert alone.link.session.folder != session.folder


def test_identities_of_many_frames_cost_little(tmp_path):
    from napari_xtal.io.source import open_frames
    from napari_xtal.session.store import Session

    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (100_000, 32, 32), "u2", chunks=(1, 32, 32))
    source = open_frames(path)
    for _ in range(2):
        start = time.perf_counter()
        session = Session.open_or_create(tmp_path / "many.xtal", [path], ids=source.ids)
        seconds = time.perf_counter() - start
        print(f"session of 100 000 frames opened in {seconds:.2f} s")
        session.add_peaks(make_table(frame=[99_999], row=[5.0], col=[5.0]))
        session.close()
        assert seconds < 1.0


def test_another_session_folder_can_be_chosen(window, run_file, tmp_path, qtbot):
    _, dock = window(run_file)
    first = dock.link.session
    dock.change_folder(str(tmp_path / "other.xtal"))
    rest(qtbot, dock)
    assert dock.link.session.folder == tmp_path / "other.xtal"
    assert dock.link.session.n_peaks == first.n_peaks
    assert len([x for x in dock.viewer.layers if x.name.startswith("Peaks of")]) == 1


def test_save_by_the_dock(window, run_file, tmp_path, qtbot, monkeypatch, messages):
    _, dock = window(run_file)
    dock.run.all_frames.click()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    session = dock.link.session
    session.label_peaks([int(session.peaks["peak_id"].iloc[0])], "not-peak")
    for name in ("out.cxi", "out.csv", "out.lst"):
        path = tmp_path / name
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, p=path: (str(p), ""))
        dock.edits.save.click()
        assert path.exists()
    assert len(read_peaks(tmp_path / "out.cxi")) == session.n_peaks - 1
    assert len(read_peaks(tmp_path / "out.csv")) == session.n_peaks
    assert len((tmp_path / "out.lst").read_text().splitlines()) == N_FRAMES
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(run_file), ""))
    size = run_file.stat().st_size
    dock.edits.save.click()
    assert run_file.stat().st_size == size
    assert any("run.h5" in text for text in messages())


def test_saved_settings_frame_contrast_and_camera_come_back(window, run_file, qtbot):
    viewer, dock = window(run_file)
    dock.form.row("min_snr").box.setValue(8.25)
    viewer.dims.set_point(0, 3)
    rest(qtbot, dock)
    layer = dock.link.layer
    layer.contrast_limits = (1, 44)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 50, 60), 3.5
    layer_again = layer
    dock.engine.save_params()
    dock.link.close()
    layer.metadata.pop("xtal_run")
    viewer.dims.set_point(0, 0)
    viewer.scene.camera.zoom = 1
    layer_again.contrast_limits = (0, 10)
    link = RunLink(viewer, layer)
    qtbot.wait(50)
    assert dock.form.params.min_snr == 8.25 == link.session.parameters["peak_finder"]["min_snr"]
    assert link.shown_frame() == 3
    assert tuple(layer.contrast_limits) == (1, 44)
    assert viewer.scene.camera.zoom == pytest.approx(3.5)
    link.close()


def test_closed_dock_is_let_go(window, run_file, qtbot):
    viewer, _ = window(run_file)
    from napari_xtal.widgets.peak_finder import PeakFinderWidget

    dock = PeakFinderWidget(viewer)
    viewer.window.add_dock_widget(dock, name="second")
    rest(qtbot, dock)
    gone = weakref.ref(dock)
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    del dock
    qtbot.wait(50)
    gc.collect()
    assert gone() is None


def test_readout_tells_raw_counts_and_resolution(window, run_file):
    from napari_xtal.widgets.readout import pixel_text

    _, dock = window(run_file)
    text = pixel_text(dock.link.stack, 0, 20, 30)
    assert f"{make_frames()[0, 20, 30]} ADU" in text
    assert "nm⁻¹" in text
    assert "masked" in pixel_text(dock.link.stack, 0, 20, GAP.start)
    assert pixel_text(dock.link.stack, 0, -1, SHAPE[1]) == ""


def test_defaults_of_the_form_are_those_of_the_model(window):
    _, dock = window()
    assert dock.form.params == PeakFinderParams()
    dock.form._on_edited()  # values as the controls hold them, rounded or not
    assert dock.form.params == PeakFinderParams()
