"""Saving from napari's own menus, the demo window, sample data."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_xtal.errors import InputError, OutputError
from napari_xtal.io.peak_lists import read_peaks
from napari_xtal.widgets.saving import save_peaks
from napari_xtal.widgets.writer import export_peaks, write_peaks


def test_napari_writes_the_peaks_layer_of_a_run(window, run_file, tmp_path, npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-xtal"))
    _, dock = window(run_file)
    for name in ("peaks.csv", "peaks.cxi"):
        path = tmp_path / name
        written = dock.link.view.layer.save(str(path), plugin="napari-xtal")
        assert written == [str(path)]
        assert len(read_peaks(path)) == dock.link.session.n_peaks


def test_any_points_layer_is_written_as_csv(tmp_path):
    path = tmp_path / "points.csv"
    write_peaks(str(path), np.array([[0, 1.5, 2.5], [3, 4.0, 5.0]]), {"name": "points"})
    table = read_peaks(path)
    assert table[["frame", "row", "col"]].to_numpy().tolist() == [[0, 1.5, 2.5], [3, 4, 5]]
    with pytest.raises(InputError, match=r"save the peaks as \.csv"):
        write_peaks(str(tmp_path / "points.cxi"), np.zeros((1, 3)), {"name": "points"})
    with pytest.raises(InputError, match="axes"):
        write_peaks(str(path), np.zeros((1, 4)), {"name": "points"})


def test_nothing_is_overwritten_without_being_asked(window, run_file, tmp_path):
    _, dock = window(run_file)
    path = tmp_path / "peaks.csv"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        save_peaks(path, dock.link.source, dock.link.session.peaks)
    assert path.read_text() == "mine"
    with pytest.raises(OutputError, match="unknown suffix"):
        save_peaks(tmp_path / "peaks.docx", dock.link.source, dock.link.session.peaks)


def test_export_from_the_file_menu(window, run_file, tmp_path, monkeypatch, messages):
    viewer, dock = window(run_file)
    path = tmp_path / "exported.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    export_peaks(viewer)
    assert len(read_peaks(path)) == dock.link.session.n_peaks
    assert any(f"saved to {path}" in text for text in messages())
    viewer.layers.clear()
    export_peaks(viewer)
    assert any("no peaks to export" in text for text in messages())


def test_demo_writes_a_screenshot_with_peaks(run_file, tmp_path, monkeypatch, qapp):
    import napari
    from skimage.io import imread

    from napari_xtal import find_peaks_in, open_frames
    from napari_xtal.widgets import demo

    table = find_peaks_in(open_frames(run_file))
    seen = {}
    original = demo.take_screenshot

    def shoot(viewer, dock, path):
        original(viewer, dock, path)
        seen["shown"] = len(dock.link.view.layer.data)

    monkeypatch.setattr(demo, "take_screenshot", shoot)
    picture = tmp_path / "window.png"
    demo.run(run_file, table, screenshot=picture)
    assert seen["shown"] == len(table)
    image = np.asarray(imread(str(picture)))
    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    assert len(np.unique(image[..., 0])) > 50
    assert napari.current_viewer() is None


def test_view_of_wrong_files_shows_no_window(tmp_path):
    from napari_xtal.widgets import demo

    with pytest.raises(InputError, match=r"nothing\.h5"):
        demo.view([tmp_path / "nothing.h5"])


def test_sample_opens_a_simulated_run(make_napari_viewer, npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-xtal"))
    viewer = make_napari_viewer()
    viewer.open_sample("napari-xtal", "simulated-bragg-run")
    assert viewer.layers[0].name == "simulated_run"
    assert viewer.layers[0].data.shape[0] == 12
