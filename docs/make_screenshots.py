"""Write the pictures of README and documentation from simulated runs.

Usage: python docs/make_screenshots.py [FOLDER]     (default: docs/images)

Needs a screen; without one: QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1920x1200x24" python ...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal import (
    PeakFinderParams,
    find_peaks_in,
    match_peaks,
    open_frames,
    simulate,
    write_csv,
)
from napari_xtal.peaks.table import make_table
from napari_xtal.widgets.demo import (
    SCREENSHOT_SIZE,
    open_window,
    process_events,
    take_screenshot,
)
from napari_xtal.widgets.peak_review import open_peak_review_dock
from napari_xtal.widgets.zoom_size import camera_of

if TYPE_CHECKING:
    import pandas as pd

#: Frame shown: a hit with many spots.
FRAME = 1
#: True spots fainter than this are no reference for anybody.
LEAST_SNR = 5.0
#: Search of the reviewed run: so permissive that there is something to review.
PERMISSIVE = PeakFinderParams(false_peaks_per_frame=30, relative_snr=0)
PATIENCE_S = 120


def save_window(viewer: Any, path: Path) -> None:
    """Write a picture of the whole window as it is."""
    process_events(lambda: False, 1)
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)


def finder_pictures(place: Path, folder: Path) -> None:
    """Write the pictures of the *Peak finder* dock."""
    run = place / "simulated_run.cxi"
    simulate.bragg_run(run, 12, seed=1)
    viewer, dock = open_window([str(run)], find_peaks_in(open_frames(run)))
    viewer.dims.set_point(0, FRAME)
    process_events(lambda: not dock.busy, 60)
    take_screenshot(viewer, dock, folder / "peak_finder.png")

    session, view = dock.link.session, dock.link.view
    strong = session.peaks_of(FRAME).nlargest(12, "snr")
    ids = [int(i) for i in strong["peak_id"]]
    session.label_peaks(ids[:6], "peak")
    session.label_peaks(ids[6:9], "not-peak")
    session.label_peaks(ids[9:], "unsure")
    dock.show_rejected.setChecked(True)
    process_events(lambda: not dock.busy, 60)
    zoom_to(viewer, strong, 9)
    view.layer.selected_data = set()
    save_window(viewer, folder / "labels.png")
    dock.link.close()
    viewer.close()


def zoom_to(viewer: Any, peaks: pd.DataFrame, zoom: float) -> None:
    """Put the first of some peaks into the middle."""
    camera = camera_of(viewer)
    camera.center = (0, float(peaks["row"].iloc[0]), float(peaks["col"].iloc[0]))
    camera.zoom = zoom


def review_pictures(place: Path, folder: Path) -> None:
    """Write the pictures of the *Peak review* dock: gallery, comparison, report."""
    run = simulate.bragg_run(place / "reviewed_run.cxi", 12, seed=1)
    source = open_frames(run.path)
    found = find_peaks_in(source, PERMISSIVE)
    truth = run.peaks[run.peaks["snr"] >= LEAST_SNR]
    viewer, dock = open_window([str(run.path)])
    dock.live.setChecked(False)  # a search of the shown frame would replace these peaks
    process_events(lambda: not dock.busy, PATIENCE_S)
    dock.show_table(found)
    viewer.dims.set_point(0, FRAME)
    review = open_peak_review_dock(viewer)
    viewer.window.resize(*SCREENSHOT_SIZE)
    process_events(lambda: not review.busy, PATIENCE_S)
    panel = review.show_train()
    panel.all_frames.click()
    process_events(lambda: not panel.busy, PATIENCE_S)
    if not np.isfinite(dock.link.session.peaks["probability"]).all():
        raise SystemExit(f"the peaks were not judged: {panel.status.text()}")
    review.tabs.setCurrentIndex(0)
    review.review.arrange_bar.resort.click()
    process_events(lambda: not review.busy, PATIENCE_S)
    review.review.view.go_to(0)
    process_events(lambda: False, 1)
    process_events(lambda: not review.busy, PATIENCE_S)
    save_window(viewer, folder / "peak_review.png")

    compare_with(review, dock, source, truth, place / "truth.csv")
    viewer.dims.set_point(0, FRAME)
    here = truth[truth["frame"] == FRAME].nlargest(1, "snr")
    zoom_to(viewer, here, 3)
    panel.filter.to_threshold.click()
    process_events(lambda: False, 1)
    process_events(lambda: not review.tabs.currentWidget().busy, PATIENCE_S)
    save_window(viewer, folder / "peak_comparison.png")

    label_by(truth, dock.link.session)
    review.show_train()
    process_events(lambda: panel.evaluate.isEnabled(), 10)
    panel.evaluate.click()
    process_events(lambda: not panel.busy, PATIENCE_S)
    report = panel.open_details()
    report.show()
    process_events(lambda: False, 1)
    report.grab().save(str(folder / "verifier_report.png"))
    report.close()
    dock.link.close()
    viewer.close()


def compare_with(review: Any, dock: Any, source: Any, truth: pd.DataFrame, path: Path) -> None:
    """Open the *Compare* tab with the truth as reference."""
    columns = {name: truth[name].to_numpy() for name in ("frame", "row", "col")}
    write_csv(path, source, make_table(**columns))
    review.tabs.setCurrentIndex(2)
    review.tabs.currentWidget().open_file(str(path))
    dock.link.view.layer.visible = False  # its rings lie under the symbols
    process_events(lambda: not review.tabs.currentWidget().busy, PATIENCE_S)


def label_by(truth: pd.DataFrame, session: Any) -> None:
    """Label all peaks of a session by the truth of the simulation."""
    peaks = session.peaks
    real = np.zeros(len(peaks), bool)
    real[match_peaks(peaks, truth).common["found_index"].to_numpy()] = True
    ids = peaks["peak_id"].to_numpy()
    session.label_peaks(ids[real].tolist(), "peak")
    session.label_peaks(ids[~real].tolist(), "not-peak")


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    for pictures in (finder_pictures, review_pictures):
        with tempfile.TemporaryDirectory() as place:
            pictures(Path(place), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
