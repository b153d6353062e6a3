"""Time from moving a slider to redrawn peaks, in a real window.

Medians over moves of a slider that only filters kept candidates (minimum SNR), and of a
number that needs a new search (background radius).

Usage: python -m benchmarks.window_latency [--repeats N]

Frames: a simulated Eiger 4M frame, and a measured one when XTAL_DATA names the folder with
real data (copied first: the window keeps its session beside the file). Needs a screen;
without one: QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" ...
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASURED = "dials-thaumatin-grid/thaumatin_grid_13frames.h5"
MEASURED_FRAME = 3


def timed(window: Any, change: Any) -> tuple[float, float]:
    """Return milliseconds from a change to its result in the layer, and those of drawing it.

    The second is the graphics card's; with software rendering it is many times longer.
    """
    from qtpy.QtWidgets import QApplication

    viewer, dock = window
    start = time.perf_counter()
    change()
    while dock.busy:
        QApplication.processEvents()
        time.sleep(0.0002)
    ready = time.perf_counter()
    # Draws now what would be drawn at the next turn of the event loop, and waits for it.
    viewer.window._qt_viewer.canvas.native.repaint()
    return 1e3 * (ready - start), 1e3 * (time.perf_counter() - ready)


def measure(path: Path, frame: int, repeats: int) -> Iterator[str]:
    """Open one run and yield lines of results."""
    from napari_xtal.widgets.demo import open_window, process_events

    window = viewer, dock = open_window([str(path)])
    viewer.window.resize(1500, 950)
    viewer.dims.set_point(0, frame)
    process_events(lambda: False, 1.0)
    process_events(lambda: not dock.busy, 90)
    slider, radius = dock.form.row("min_snr").slider, dock.form.row("local_bg_radius").box
    parts: list[float] = []
    dock.engine.frame_done.connect(lambda result: parts.append(1e3 * result.seconds))
    counts = []
    for name, positions, move in (
        ("filter only", 55 + 10 * np.arange(repeats) % 190, slider.setValue),
        ("new search", 4 + np.arange(repeats) % 4, radius.setValue),
    ):
        parts.clear()
        times = []
        for position in positions:
            times.append(timed(window, partial(move, int(position))))
            counts.append(len(dock.link.session.peaks_of(frame)))
            process_events(lambda: False, 0.05)
        ready, drawing = np.transpose(times)
        yield (
            f"  {name}: peaks in the layer after {np.median(ready):.1f} ms (90th percentile "
            f"{np.percentile(ready, 90):.1f}; the finder's part {np.median(parts):.1f}), drawn "
            f"{np.median(drawing):.1f} ms later"
        )
    yield f"  {min(counts)} to {max(counts)} peaks shown"
    viewer.close()


def main() -> None:
    """Measure all frames that are there."""
    from napari_xtal import simulate

    parser = argparse.ArgumentParser(description="Time from a slider to redrawn peaks.")
    parser.add_argument("--repeats", type=int, default=40)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "eiger4m.cxi"
        simulate.bragg_run(run, 2, detector="eiger4m", seed=0)
        runs = [("simulated Eiger 4M", run, 1)]
        real = Path(os.environ.get("XTAL_DATA", "../shared/data")) / MEASURED
        if real.exists():
            runs.append(("measured", Path(shutil.copy(real, folder)), MEASURED_FRAME))
        for name, path, frame in runs:
            print(f"{name} ({path.name}, frame {frame})")
            for line in measure(path, frame, repeats):
                print(line)


if __name__ == "__main__":
    main()
