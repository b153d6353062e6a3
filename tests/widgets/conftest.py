"""Small runs on disk, and a viewer as plugins see it with the dock opened."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from window_runs import make_frames, rest, write_run  # noqa: E402


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.gui)


@pytest.fixture(autouse=True)
def _screen_and_home(tmp_path, monkeypatch):
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        pytest.skip("needs a screen; run under xvfb-run with QT_QPA_PLATFORM=xcb")
    monkeypatch.setenv("NAPARI_XTAL_HOME", str(tmp_path / "home"))


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A run of six frames."""
    return write_run(tmp_path / "run.h5", make_frames())


@pytest.fixture
def window(make_napari_viewer_proxy, qtbot):
    """A function that shows frames with the dock and waits until it is at rest."""
    from napari_xtal.widgets.peak_finder import PeakFinderWidget
    from napari_xtal.widgets.reader import finish_layer, read

    viewer = make_napari_viewer_proxy()
    docks = []

    def open_window(path: Path | list[Path] | None = None, live: bool = True, data=None):
        if path is not None:
            names = [str(p) for p in path] if isinstance(path, list) else str(path)
            array, attributes, _ = read(names)[0]
            finish_layer(viewer.add_image(array, **attributes))
            viewer.dims.set_point(0, 0)
        elif data is not None:
            viewer.add_image(data, name="array")
        dock = PeakFinderWidget(viewer)
        dock.live.setChecked(live)
        viewer.window.add_dock_widget(dock, name="Peak finder")
        docks.append(dock)
        rest(qtbot, dock)
        return viewer, dock

    yield open_window
    for dock in docks:
        if dock.link is not None:
            dock.link.close()


@pytest.fixture
def messages():
    """Return a function that gives the texts of the notifications so far."""
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    return lambda: [str(record.message) for record in notification_manager.records]


@pytest.fixture
def searched(window, run_file, qtbot):
    """Viewer, dock and session of a run of six frames, all searched, without live search."""
    viewer, dock = window(run_file, live=False)
    dock.search_all()
    qtbot.waitUntil(lambda: not dock.engine.running, timeout=60_000)
    return viewer, dock, dock.link.session
