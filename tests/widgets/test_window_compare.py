"""Comparison with a reference list in three Points layers."""

from __future__ import annotations

import numpy as np
import pytest
from window_runs import N_FRAMES, make_frames

from napari_xtal.io.peak_lists import write_csv
from napari_xtal.peaks.table import make_table
from napari_xtal.widgets import model_choice, styles
from napari_xtal.widgets.compare_panel import MINE, ComparePanel


@pytest.fixture
def panel(searched, qtbot):
    made = ComparePanel()
    qtbot.addWidget(made)
    made.set_link(searched[1].link)
    yield made
    made.set_link(None)


def wait(qtbot, panel) -> None:
    qtbot.wait(30)
    qtbot.waitUntil(lambda: not panel.busy, timeout=30_000)


def counts(panel) -> dict[str, int]:
    return {name: len(layer.data) for name, layer in panel.layers.layers.items()}


def reference_of(session, drop: int = 3, extra: int = 2):
    """Return the found peaks without some, and with some places where nothing is."""
    table = session.peaks.drop(columns="peak_id")
    more = make_table(frame=[0] * extra, row=np.arange(extra) * 3.0 + 2, col=[190.0] * extra)
    kept = table.iloc[drop:]
    import pandas as pd

    return pd.concat([kept, more], ignore_index=True)


def test_three_layers_with_their_symbols_colours_and_counts(searched, panel, qtbot, tmp_path):
    viewer, dock, session = searched
    path = tmp_path / "reference.csv"
    write_csv(path, dock.link.source, reference_of(session))
    active = viewer.layers.selection.active
    panel.open_file(str(path))
    wait(qtbot, panel)
    n = session.n_peaks
    assert counts(panel) == {"common": n - 3, "only_found": 3, "only_reference": 2}
    for name, (title, symbol, _) in styles.COMPARISON.items():
        layer = panel.layers.layers[name]
        assert layer.name == f"{title} · {dock.link.layer.name}"
        assert {str(s.value) for s in layer.symbol} == {symbol}
        assert (layer.border_color[:, 3] == 1).all()
        assert (layer.face_color[:, 3] < 0.3).all()
        assert not layer.editable
    red, blue, green = (
        panel.layers.layers[n].border_color[0, :3].argmax()
        for n in ("common", "only_reference", "only_found")
    )
    assert (red, blue, green) == (0, 2, 1)
    assert viewer.layers.selection.active == active
    assert f"{(n - 3) / n:.3f}" in panel.scores.text()  # precision
    assert f"{(n - 3) / (n - 1):.3f}" in panel.scores.text()  # recall
    assert f">{n - 3}<" in panel.legend.text()
    first = len(session.peaks_of(0))
    assert f"{first - 3}&nbsp;" in panel.legend.text()


def test_comparison_follows_edits_and_the_probability_slider(searched, panel, qtbot, tmp_path):
    viewer, dock, session = searched
    path = tmp_path / "reference.csv"
    write_csv(path, dock.link.source, session.peaks.drop(columns="peak_id"))
    panel.open_file(str(path))
    wait(qtbot, panel)
    n = session.n_peaks
    assert counts(panel) == {"common": n, "only_found": 0, "only_reference": 0}
    dock.link.view.layer.add([[1, 8.0, 8.0]])
    wait(qtbot, panel)
    assert counts(panel) == {"common": n, "only_found": 1, "only_reference": 0}
    session.undo()
    auto = session.peaks["peak_id"].to_numpy()
    session.label_peaks([int(auto[0])], "not-peak")
    wait(qtbot, panel)
    assert counts(panel) == {"common": n - 1, "only_found": 0, "only_reference": 1}
    session.undo()
    session.set_probabilities(auto, np.linspace(0, 1, n), verifier="even")
    model_choice.remember(session, min_probability=0.5)
    wait(qtbot, panel)
    half = int((session.peaks["probability"] >= 0.5).sum())
    assert counts(panel) == {"common": half, "only_found": 0, "only_reference": n - half}
    viewer.dims.set_point(0, 3)
    assert "This frame" in panel.scores.text()


def test_tolerance_decides_what_is_common(searched, panel, qtbot, tmp_path):
    _, dock, session = searched
    table = session.peaks.drop(columns="peak_id")
    table["row"] += 3.0
    path = tmp_path / "shifted.csv"
    write_csv(path, dock.link.source, table)
    panel.open_file(str(path))
    wait(qtbot, panel)
    n = session.n_peaks
    assert counts(panel) == {"common": 0, "only_found": n, "only_reference": n}
    panel.tolerance.setValue(3.5)
    wait(qtbot, panel)
    assert counts(panel) == {"common": n, "only_found": 0, "only_reference": 0}


def test_against_the_peaks_of_the_user_on_frames_that_have_some(searched, panel, qtbot):
    _, dock, session = searched
    first = [int(i) for i in session.peaks_of(2)["peak_id"]]
    session.label_peaks(first[:4], "peak")
    session.label_peaks(first[4:5], "not-peak")
    session.add_peaks(make_table(frame=[2], row=[8.0], col=[8.0], label="peak"))
    assert panel.reference.currentText() == MINE
    panel.compare.click()
    wait(qtbot, panel)
    assert counts(panel) == {
        "common": 4,
        "only_reference": 1,
        "only_found": len(first) - 4,
    }
    assert set(panel.match.per_frame["frame"]) == {2}


def test_against_any_points_layer(searched, panel, qtbot):
    viewer, dock, session = searched
    places = session.peaks[["frame", "row", "col"]].to_numpy(float)
    layer = viewer.add_points(places[:10] / [1, 2, 2], scale=(1, 2, 2), ndim=3, name="theirs")
    panel.reference.setCurrentText("Layer theirs")
    panel.compare.click()
    wait(qtbot, panel)
    n = session.n_peaks
    assert counts(panel) == {"common": 10, "only_reference": 0, "only_found": n - 10}
    layer.data = np.asarray(layer.data)[:7]
    wait(qtbot, panel)
    assert counts(panel)["common"] == 7
    viewer.layers.remove(layer)
    assert not panel.active
    assert not panel.layers.layers


def test_points_without_a_frame_axis_are_of_the_shown_frame(searched, panel, qtbot):
    viewer, dock, session = searched
    viewer.dims.set_point(0, 4)
    here = session.peaks_of(4)
    viewer.add_points(here[["row", "col"]].to_numpy(float), name="flat")
    panel.reference.setCurrentText("Layer flat")
    panel.compare.click()
    wait(qtbot, panel)
    assert counts(panel) == {"common": len(here), "only_reference": 0, "only_found": 0}
    viewer.dims.set_point(0, 1)
    wait(qtbot, panel)
    assert set(panel.layers.layers["only_found"].data[:, 0]) == {1.0}


def test_layers_of_the_comparison_do_not_touch_the_session(searched, panel, qtbot):
    viewer, _, session = searched
    ids = [int(i) for i in session.peaks_of(0)["peak_id"]]
    session.label_peaks(ids[:3], "peak")
    before, undo = session.peaks, session.undo_text
    panel.compare.click()
    wait(qtbot, panel)
    for layer in panel.layers.layers.values():
        layer.add([[0, 30.0, 30.0]])
        layer.selected_data = {0}
        layer.remove_selected()
    assert session.peaks.equals(before)
    assert session.undo_text == undo
    panel.remove.click()
    assert not panel.layers.layers
    assert not any("Common" in layer.name for layer in viewer.layers)
    assert panel.legend.text() == ""
    assert session.peaks.equals(before)


def test_a_layer_that_was_deleted_comes_back_with_the_next_change(searched, panel, qtbot):
    viewer, dock, session = searched
    ids = [int(i) for i in session.peaks_of(0)["peak_id"]]
    session.label_peaks(ids[:3], "peak")
    panel.compare.click()
    wait(qtbot, panel)
    viewer.layers.remove(panel.layers.layers["common"])
    session.label_peaks(ids[3:4], "peak")
    wait(qtbot, panel)
    assert counts(panel)["common"] == 4
    assert panel.layers.complete


def test_wrong_files_give_one_message(searched, panel, qtbot, tmp_path, messages):
    _, dock, session = searched
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    panel.open_file(str(wrong))
    other = tmp_path / "other_run.csv"
    table = make_table(frame=[N_FRAMES + 5], row=[1.0], col=[1.0])
    write_csv(other, None, table)
    panel.open_file(str(other))
    assert len(messages()) == 2
    assert "wrong.csv" in messages()[0]
    assert f"this run has {N_FRAMES} frames" in messages()[1]
    assert not panel.active


def test_rows_find_their_frames_by_identity(searched, panel, qtbot, tmp_path):
    _, dock, session = searched
    table = session.peaks.drop(columns="peak_id")
    path = tmp_path / "reference.csv"
    write_csv(path, dock.link.source, table)
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("frame,"))
    shuffled = [
        lines[i] if i <= at or line.startswith("#") else "0" + line[line.index(",") :]
        for i, line in enumerate(lines)
    ]
    path.write_text("\n".join(shuffled) + "\n")
    panel.open_file(str(path))
    wait(qtbot, panel)
    assert counts(panel) == {"common": len(table), "only_found": 0, "only_reference": 0}


def test_a_single_image_can_be_compared(window, qtbot):
    viewer, dock = window(data=make_frames()[0].astype(np.float32))
    session = dock.link.session
    viewer.add_points(session.peaks[["row", "col"]].to_numpy(float)[:5], name="theirs")
    panel = ComparePanel()
    qtbot.addWidget(panel)
    panel.set_link(dock.link)
    panel.reference.setCurrentText("Layer theirs")
    panel.compare.click()
    wait(qtbot, panel)
    assert counts(panel)["common"] == 5
    assert panel.layers.layers["common"].ndim == 2
    panel.set_link(None)


def test_the_panel_fits_a_narrow_dock_and_explains_what_it_cannot(qtbot):
    panel = ComparePanel()
    qtbot.addWidget(panel)
    assert panel.minimumSizeHint().width() <= 400
    assert "no run is open" in panel.compare.toolTip()
    assert not panel.compare.isEnabled()
