"""Write the pictures of README and documentation from a simulated run.

Usage: python docs/make_screenshots.py [FOLDER]     (default: docs/images)

Needs a screen; without one: QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1920x1200x24" python ...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from napari_xtal import find_peaks_in, open_frames, simulate
from napari_xtal.widgets.demo import open_window, process_events, take_screenshot
from napari_xtal.widgets.zoom_size import camera_of

#: Frame shown: a hit with many spots.
FRAME = 1


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "simulated_run.cxi"
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
        camera = camera_of(viewer)
        camera.center = (0, float(strong["row"].iloc[0]), float(strong["col"].iloc[0]))
        camera.zoom = 9
        view.layer.selected_data = set()
        process_events(lambda: False, 1)
        viewer.window.screenshot(str(folder / "labels.png"), canvas_only=False, flash=False)
        dock.link.close()
        viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
