"""Run by test_window_end_to_end in processes of its own: work in a window, then look again.

Usage: window_script.py work|look RUN OUTPUT.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_xtal.widgets.demo import process_events


def dock_of(viewer):
    from napari_xtal.widgets.run_link import open_peak_finder_dock

    dock = open_peak_finder_dock(viewer)
    process_events(lambda: dock.link is not None and not dock.busy, 60)
    return dock


def state(viewer, dock) -> dict:
    session = dock.link.session
    layer = dock.link.view.layer
    camera = viewer.scene.camera
    peaks = session.peaks.sort_values("peak_id").drop(columns=["probability"])
    shown = layer.features["peak_id"].to_numpy()
    order = np.argsort(shown)
    return {
        "peaks": json.loads(peaks.to_json(orient="records", double_precision=12)),
        "layer": np.asarray(layer.data)[order].round(9).tolist(),
        "labels": [layer.features["label"].iloc[i] for i in order],
        "parameters": dock.form.params.to_dict(),
        "frame": int(viewer.dims.current_step[0]),
        "contrast": [float(x) for x in dock.link.layer.contrast_limits],
        "zoom": float(camera.zoom),
        "center": [float(x) for x in camera.center],
        "undo": session.undo_text,
    }


def work(run: str) -> dict:
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    viewer.open(run, plugin="napari-xtal")
    dock = dock_of(viewer)
    session, view, layer = dock.link.session, dock.link.view, dock.link.view.layer
    seen = {"default": session.n_peaks}
    dock.form.row("min_snr").slider.setValue(120)  # SNR 12
    process_events(lambda: not dock.busy, 60)
    seen["slider"] = session.n_peaks
    QTest.mouseClick(dock.run.all_frames, Qt.MouseButton.LeftButton)
    process_events(lambda: not dock.busy, 60)
    seen["all"] = session.n_peaks

    viewer.layers.selection.active = layer
    frame = min(2, len(dock.link.stack) - 1)
    viewer.dims.set_point(0, frame)
    process_events(lambda: not dock.busy, 60)
    layer.add([[frame, 33.0, 44.0]])
    view.select_ids([int(session.peaks_of(frame)["peak_id"].iloc[1])])
    layer.remove_selected()
    view.select_ids([int(i) for i in session.peaks_of(frame)["peak_id"].iloc[:2]])
    # The key goes through the window as from the keyboard.
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key.Key_N)
    seen["labelled"] = int((session.peaks["label"] == "not-peak").sum())
    layer.add([[frame, 60.0, 90.0]])
    seen["before undo"] = session.n_peaks
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    seen["after undo"] = session.n_peaks

    out = str(Path(run).with_name("saved.cxi"))
    QFileDialog.getSaveFileName = staticmethod(lambda *_a, **_k: (out, ""))
    QTest.mouseClick(dock.edits.save, Qt.MouseButton.LeftButton)
    dock.link.layer.contrast_limits = (2.0, 55.0)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 4.0, (0, 70.0, 80.0)
    process_events(lambda: False, 3.0)  # edits are safe after two seconds
    return {"seen": seen, **state(viewer, dock)}


def look(run: str) -> dict:
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    viewer.open(run, plugin="napari-xtal")  # finds the session and opens the dock itself
    process_events(lambda: False, 1.0)
    docks = list(viewer.window.dock_widgets)
    dock = dock_of(viewer)
    result = {"docks": docks, **state(viewer, dock)}
    dock.link.view.redo()
    result["redone"] = dock.link.session.n_peaks
    return result


if __name__ == "__main__":
    role, run, output = sys.argv[1:]
    found = {"work": work, "look": look}[role](run)
    part = Path(output).with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(output)
    while True:  # until the test kills it
        time.sleep(1)
