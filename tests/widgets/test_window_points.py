"""The peaks layer and the session follow each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from window_runs import N_FRAMES, rest, spots

from napari_xtal.peaks.table import make_table
from napari_xtal.widgets import peak_rows, styles
from napari_xtal.widgets.points_view import PeaksView
from napari_xtal.widgets.shortcuts import SHORTCUTS


@pytest.fixture
def opened(window, run_file, qtbot):
    viewer, dock = window(run_file)
    dock.search_all()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    view = dock.link.view
    return viewer, dock, view, view.layer, dock.link.session


def press(layer, key: str) -> None:
    """Call what a key is bound to on the layer, as napari does."""
    from app_model.types import KeyBinding
    from napari.utils.key_bindings import coerce_keybinding

    bound = {coerce_keybinding(k): f for k, f in layer.keymap.items()}
    bound[coerce_keybinding(KeyBinding.from_str(str(coerce_keybinding(key))))](layer)


def assert_same(layer, session) -> None:
    """The layer shows exactly the session's peaks."""
    peaks = session.peaks.set_index(pd.Index(session.peaks["peak_id"].to_numpy()))
    shown = layer.features["peak_id"].to_numpy()
    assert sorted(shown) == sorted(peaks.index)
    np.testing.assert_allclose(
        np.asarray(layer.data), peaks.loc[shown, ["frame", "row", "col"]].to_numpy(float)
    )
    assert list(layer.features["label"]) == list(peaks.loc[shown, "label"])
    expected = peak_rows.label_colours(peaks.loc[shown])
    np.testing.assert_allclose(layer.border_color, expected, atol=1e-6)


def test_one_layer_for_the_whole_run_with_rings_that_leave_the_pixels_visible(opened):
    _, _, _, layer, session = opened
    assert len(layer.data) == session.n_peaks >= 9 * N_FRAMES
    assert set(np.unique(layer.data[:, 0])) == set(range(N_FRAMES))
    assert (layer.face_color[:, 3] == 0).all()
    assert (layer.border_color[:, 3] == 1).all()
    assert {"snr", "intensity", "label", "source", "peak_id"} <= set(layer.features.columns)
    assert_same(layer, session)


def test_point_added_by_hand_becomes_a_measured_manual_peak(opened):
    viewer, _, _, layer, session = opened
    before = session.n_peaks
    viewer.dims.set_point(0, 2)
    row, col = spots(2)[-1]  # on the strongest spot, where a measurement is not zero
    layer.add([[2, row, col]])
    assert session.n_peaks == before + 1
    new = session.peaks.iloc[int(np.argmax(session.peaks["peak_id"]))]
    assert (new["frame"], new["row"], new["col"]) == (2, row, col)
    assert (new["source"], new["label"]) == ("manual", "peak")
    assert new["snr"] > 20
    assert new["intensity"] > 500
    assert new["inv_d"] > 0
    assert_same(layer, session)


def test_point_outside_the_frame_is_not_added(opened, messages):
    _, _, _, layer, session = opened
    before = session.n_peaks
    layer.add([[0, -30, 5]])
    assert session.n_peaks == before == len(layer.data)
    assert any("outside the frame" in text for text in messages())


def test_delete_move_label_undo_redo(opened):
    _, _, view, layer, session = opened
    start = session.peaks.copy()
    ids = [int(i) for i in start["peak_id"].iloc[:3]]

    view.select_ids(ids[:1])
    press(layer, "Delete")
    assert ids[0] not in set(session.peaks["peak_id"])
    assert_same(layer, session)

    view.select_ids(ids[1:2])
    layer.remove_selected()  # what napari's own delete does
    assert session.n_peaks == len(start) - 2
    assert_same(layer, session)

    view.select_ids(ids[2:])
    press(layer, "n")
    assert session.get_peaks([ids[2]])["label"].iloc[0] == "not-peak"
    assert_same(layer, session)

    place = int(np.flatnonzero(layer.features["peak_id"] == ids[2])[0])
    data = np.array(layer.data)
    data[place, 1:] += (1.5, -0.5)
    layer.data = data
    moved = session.get_peaks([ids[2]]).iloc[0]
    old = start[start["peak_id"] == ids[2]].iloc[0]
    assert (moved["row"], moved["col"]) == (old["row"] + 1.5, old["col"] - 0.5)
    assert moved["source"] == "manual"
    assert_same(layer, session)

    for _ in range(4):
        press(layer, "Control-Z")
        assert_same(layer, session)
    pd.testing.assert_frame_equal(
        session.peaks.sort_values("peak_id"), start.sort_values("peak_id")
    )
    assert not session.can_undo
    for _ in range(4):
        press(layer, "Control-Shift-Z")
    assert session.n_peaks == len(start) - 2
    assert_same(layer, session)


def test_label_key_acts_on_the_peak_under_the_cursor(opened):
    viewer, _, _, layer, session = opened
    layer.selected_data = set()
    peak = session.peaks_of(0).iloc[0]
    viewer.cursor.position = (0, peak["row"] + 1, peak["col"])
    press(layer, "y")
    assert session.get_peaks([int(peak["peak_id"])])["label"].iloc[0] == "peak"
    assert_same(layer, session)


def test_every_key_is_bound_on_the_layer_and_described(opened):
    from napari.utils.key_bindings import coerce_keybinding

    _, _, _, layer, _ = opened
    bound = {coerce_keybinding(k) for k in layer.keymap}
    for shortcut in SHORTCUTS:
        assert coerce_keybinding(shortcut.key) in bound
        assert shortcut.description


def test_manual_peaks_and_labels_survive_a_new_search(opened, qtbot):
    _, dock, view, layer, session = opened
    layer.add([[1, 50.0, 50.0]])
    labelled = int(session.peaks_of(3)["peak_id"].iloc[0])
    session.label_peaks([labelled], "unsure")
    deleted = session.peaks_of(4).iloc[0]
    session.remove_peaks([int(deleted["peak_id"])])
    dock.search_all()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    assert ((session.peaks["source"] == "manual") & (session.peaks["frame"] == 1)).sum() == 1
    assert session.get_peaks([labelled])["label"].iloc[0] == "unsure"
    again = session.peaks_of(4)
    distance = np.hypot(again["row"] - deleted["row"], again["col"] - deleted["col"])
    assert distance.min() > 2
    assert_same(layer, session)


def test_copy_and_paste_into_another_frame(opened):
    viewer, _, view, layer, session = opened
    chosen = session.peaks_of(0).iloc[:2]
    view.select_ids(list(chosen["peak_id"]))
    press(layer, "Control-C")
    viewer.dims.set_point(0, 5)
    before = len(session.peaks_of(5))
    press(layer, "Control-V")
    assert len(session.peaks_of(5)) == before + 2
    assert_same(layer, session)


def test_colour_by_snr(opened):
    _, dock, _, layer, _ = opened
    by_label = np.array(layer.border_color)
    dock.colour.setCurrentIndex(1)
    assert len(np.unique(layer.border_color, axis=0)) > 5
    dock.colour.setCurrentIndex(0)
    np.testing.assert_allclose(layer.border_color, by_label)


def test_deleted_peaks_layer_comes_back_with_all_peaks(opened, qtbot):
    viewer, dock, _, layer, session = opened
    n = session.n_peaks
    viewer.layers.remove(layer)
    assert session.n_peaks == n
    new = dock.link.ensure_view().layer
    assert new in viewer.layers
    assert_same(new, session)


def test_large_tables_show_only_the_frames_near_the_slider(opened):
    viewer, dock, view, _, session = opened
    per_frame = int(session.peaks["frame"].value_counts().max())
    small = PeaksView(viewer, dock.link.layer, session, dock.link.stack, limit=2 * per_frame)
    assert 0 < len(small.layer.data) <= 2 * per_frame + per_frame
    assert 0 in small.layer.data[:, 0]
    viewer.dims.set_point(0, 5)
    shown = small.rows[small.rows["frame"] == 5]
    assert list(shown["peak_id"]) == list(session.peaks_of(5)["peak_id"])
    small.layer.add([[5, 10.0, 10.0]])
    assert (session.peaks_of(5)["source"] == "manual").sum() == 1
    small.disconnect()


def test_near_frames_keeps_the_shown_frame_and_the_limit():
    counts = np.full(100, 10)
    for frame in (0, 50, 99):
        first, last = peak_rows.near_frames(counts, frame, 200)
        assert first <= frame < last
        assert counts[first:last].sum() <= 200
    assert peak_rows.near_frames(np.array([5, 900, 5]), 1, 100) == (1, 2)


def test_unknown_labels_have_a_colour():
    table = make_table(frame=[0, 0], row=[1.0, 2.0], col=[1.0, 2.0], label=["ice", "peak"])
    colours = peak_rows.label_colours(table)
    assert colours.shape == (2, 4)
    assert not np.allclose(colours[0], colours[1])
    assert styles.LABEL_COLOURS["peak"] == "#009E73"


def test_rings_keep_a_size_on_the_screen(opened, qtbot):
    viewer, _, _, layer, _ = opened
    viewer.scene.camera.zoom = 0.2
    qtbot.waitUntil(lambda: layer.size[0] * 0.2 >= styles.PEAK_LEAST_SCREEN_PX, timeout=2000)
    viewer.scene.camera.zoom = 8
    qtbot.waitUntil(lambda: layer.size[0] == styles.PEAK_SIZE_PX, timeout=2000)


def test_layer_goes_on_saving_after_the_dock_was_closed(opened, qtbot):
    viewer, dock, _, layer, session = opened
    before = session.n_peaks
    viewer.window.remove_dock_widget(dock)
    layer.add([[0, 12.0, 12.0]])
    assert session.n_peaks == before + 1


def test_removing_the_image_layer_closes_the_session(opened, qtbot):
    viewer, dock, _, layer, session = opened
    link = dock.link
    viewer.layers.remove(link.layer)
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=2000)
    assert link.closed
    rest(qtbot, dock)
    assert not (session.folder / "lock").exists()
