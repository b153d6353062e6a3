"""Open napari with a run and its docks filled: behind `napari-xtal view` and `demo`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

#: Window size of screenshots: fits a full-HD screen and shows all docks.
SCREENSHOT_SIZE = (1600, 1000)
#: Longest wait for a search before a screenshot [s]; the first search of a machine compiles.
PATIENCE_S = 90.0


def view(files: Iterable[str | os.PathLike[str]]) -> None:
    """Open files in napari with the peak finder beside them, and run the event loop.

    Parameters
    ----------
    files : iterable of path-like
        One run.

    Raises
    ------
    InputError
        When the files cannot be opened.
    """
    import napari

    viewer, _ = open_window([os.fspath(f) for f in files])
    napari.run()
    del viewer


def run(
    path: str | os.PathLike[str],
    table: pd.DataFrame | None = None,
    screenshot: str | os.PathLike[str] | None = None,
) -> None:
    """Show a run with its peaks; end after a screenshot when one is asked for.

    Parameters
    ----------
    path : path-like
        The run.
    table : DataFrame, optional
        Peaks found before; without it the shown frame is searched.
    screenshot : path-like, optional
        PNG of the whole window to write.

    Raises
    ------
    OutputError
        When the screenshot cannot be written.
    """
    import napari

    viewer, dock = open_window([os.fspath(path)], table)
    if screenshot is None:
        napari.run()
        return
    try:
        take_screenshot(viewer, dock, screenshot)
    finally:
        viewer.close()


def open_window(files: list[str], table: pd.DataFrame | None = None, **options: Any) -> Any:
    """Return a viewer with one run opened and the peak finder dock connected to it.

    Parameters
    ----------
    files : list of str
        One run.
    table : DataFrame, optional
        Peaks to show as found; they do not replace edits of an earlier session.
    **options
        Of `napari.Viewer`.

    Returns
    -------
    (napari.Viewer, PeakFinderWidget)
    """
    import napari
    from napari.utils.notifications import show_warning

    from napari_xtal.io.source import open_frames
    from napari_xtal.widgets.reader import finish_layer, image_layer_data
    from napari_xtal.widgets.run_link import open_peak_finder_dock

    source = open_frames(files)  # before the window: wrong files should not flash one up
    viewer = napari.Viewer(title="napari-xtal", **options)
    data, attributes, _ = image_layer_data(source, on_broken=show_warning)
    layer = viewer.add_image(data, **attributes)
    finish_layer(layer)
    viewer.dims.set_point(0, 0)
    dock = open_peak_finder_dock(viewer)
    if table is not None:
        dock.show_table(table)
    return viewer, dock


def take_screenshot(viewer: Any, dock: Any, path: str | os.PathLike[str]) -> None:
    """Write a PNG of the whole window once the dock has nothing left to do.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    from napari_xtal.errors import OutputError

    window = viewer.window
    window.resize(*SCREENSHOT_SIZE)
    process_events(lambda: not dock.busy, PATIENCE_S)
    viewer.reset_view()  # fitted before the docks took their room
    process_events(lambda: False, 1.0)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        window.screenshot(str(path), canvas_only=False, flash=False)
    except OSError as error:
        raise OutputError(f"{path}: screenshot cannot be written: {error}") from error


def process_events(done: Callable[[], bool], seconds: float) -> None:
    """Let the window work until `done`, or until the time is over."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        if done():
            return
        time.sleep(0.01)
