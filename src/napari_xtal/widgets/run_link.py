"""What belongs to one open run: its frames, its session folder and its peaks layer.

A link lives as long as its image layer, not as long as a dock: closing the dock must
not cut the peaks layer off from the session that saves its edits.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer

from napari_xtal.errors import SessionError, XtalError
from napari_xtal.widgets.frame_stack import FrameStack
from napari_xtal.widgets.points_view import PEAKS_KEY, PeaksView
from napari_xtal.widgets.reader import SOURCE_KEY, STACK_KEY, finish_layer, run_name, short_name
from napari_xtal.widgets.sources import ArraySource, MaskedSource
from napari_xtal.widgets.zoom_size import camera_of

#: Metadata key of the link; set here, read by the docks.
LINK_KEY = "xtal_run"
#: Environment variable that overrides where sessions go when the data folder is read-only.
HOME_VARIABLE = "NAPARI_XTAL_HOME"

_OPEN: weakref.WeakSet[RunLink] = weakref.WeakSet()


class RunLink:
    """Frames, session and peaks layer of one image layer.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that shows the layer.
    layer : napari.layers.Image
        Frames; opened by our reader, or any layer with 2 or 3 axes.
    folder : path-like, optional
        Session folder; default next to the data, or in a user folder when that is read-only.
    take_over : bool
        Take a session that another running process holds.

    Raises
    ------
    SessionError
        When the session folder is in use or cannot be made.
    InputError
        When the layer cannot be a run.
    """

    def __init__(
        self, viewer: Any, layer: Any, folder: str | Path | None = None, *, take_over: bool = False
    ) -> None:
        self.viewer, self.layer = viewer, layer
        source = layer.metadata.get(SOURCE_KEY)
        if source is None:
            source = ArraySource(layer.data, layer.name)
        self.stack = layer.metadata.get(STACK_KEY) or FrameStack(source)
        self.session = _open_session(source, folder, take_over=take_over)
        self.closed = False
        finish_layer(layer)
        if pixels := self.session.parameters.get("mask", {}).get("pixels"):
            self._use_mask(pixels)
        self._restore_view()
        self.view = PeaksView(viewer, layer, self.session, self.stack)
        self.view.layer.metadata[PEAKS_KEY] = self
        layer.metadata[LINK_KEY] = self
        layer.events.contrast_limits.connect(self._save_view)
        camera_of(viewer).events.connect(self._save_view)
        viewer.dims.events.current_step.connect(self._save_view)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        _OPEN.add(self)
        if notice := getattr(self.session, "recovered", None):
            show_info(str(notice))

    @property
    def source(self) -> Any:
        """The frames, with the pixels masked that the user added to the mask."""
        return self.stack.source

    def shown_frame(self) -> int:
        """Return the index of the frame the viewer shows."""
        if self.layer.ndim == 2:
            return 0
        at = self.layer.world_to_data(self.viewer.dims.point)[0]
        return int(np.clip(round(at), 0, len(self.stack) - 1))

    def ensure_view(self) -> PeaksView:
        """Return the peaks view; a peaks layer that was deleted is made again."""
        if self.view.layer not in self.viewer.layers:
            self.view.disconnect()
            self.view = PeaksView(self.viewer, self.layer, self.session, self.stack)
            self.view.layer.metadata[PEAKS_KEY] = self
        return self.view

    def add_to_mask(self, pixels: Any) -> int:
        """Mask pixels of every frame of this run, now and when it is reopened.

        Parameters
        ----------
        pixels : (n, 2) array_like of int
            (row, col) of the pixels.

        Returns
        -------
        int
            Number of peaks on these pixels; they are deleted (undo brings them back).
        """
        new = {(int(r), int(c)) for r, c in np.asarray(pixels).tolist()}
        known = {
            (int(r), int(c)) for r, c in self.session.parameters.get("mask", {}).get("pixels", [])
        }
        every = sorted(known | new)
        self.session.set_parameters("mask", {"pixels": [list(p) for p in every]})
        self._use_mask(every)
        peaks = self.session.peaks
        at = peaks[["row", "col"]].round().astype(int).itertuples(index=False, name=None)
        doomed = [int(i) for i, p in zip(peaks["peak_id"], at, strict=True) if p in new]
        if doomed:
            self.session.remove_peaks(doomed)
        return len(doomed)

    def close(self) -> None:
        """Write what is not written yet and give the session folder free."""
        if self.closed:
            return
        self.closed = True
        self.view.disconnect()
        try:
            self.session.set_view(self._current_view())
            self.session.close()
        except XtalError as error:
            show_error(f"Not everything could be saved: {error}")

    def _use_mask(self, pixels: Any) -> None:
        base = self.stack.source
        base = base.unmasked if isinstance(base, MaskedSource) else base
        self.stack.use_source(MaskedSource(base, pixels))
        self.layer.refresh()

    def _current_view(self) -> dict[str, Any]:
        camera = camera_of(self.viewer)
        return {
            "frame": self.shown_frame(),
            "camera": {"center": [float(x) for x in camera.center], "zoom": float(camera.zoom)},
            "contrast_limits": [float(x) for x in self.layer.contrast_limits],
        }

    def _save_view(self, _event: Any = None) -> None:
        if not self.closed:
            self.session.set_view(self._current_view())

    def _restore_view(self) -> None:
        saved = dict(self.session.view or {})
        if "contrast_limits" in saved:
            low, high = saved["contrast_limits"]
            reach = self.layer.contrast_limits_range
            self.layer.contrast_limits_range = (min(reach[0], low), max(reach[1], high))
            self.layer.contrast_limits = (low, high)
        if "frame" in saved and self.layer.ndim == 3:
            frame = min(int(saved["frame"]), len(self.stack) - 1)
            world = self.layer.data_to_world((frame, 0, 0))
            self.viewer.dims.set_point(self.viewer.dims.ndim - 3, world[0])
        if "camera" in saved:
            camera = camera_of(self.viewer)
            center, zoom = saved["camera"]["center"], saved["camera"]["zoom"]

            def aim() -> None:
                camera.center, camera.zoom = center, zoom

            # napari fits the camera to a new layer and dock first.
            QTimer.singleShot(0, aim)

    def _on_layer_removed(self, event: Any) -> None:
        if event.value == self.layer:
            self.close()
            peaks = self.view.layer
            layers = self.viewer.layers

            def remove() -> None:
                if peaks in layers:
                    layers.remove(peaks)

            QTimer.singleShot(0, remove)


def link_of(viewer: Any, layer: Any, **options: Any) -> RunLink:
    """Return the link of an image layer, made when there is none; see `RunLink`."""
    link = layer.metadata.get(LINK_KEY)
    if isinstance(link, RunLink) and not link.closed:
        return link
    return RunLink(viewer, layer, **options)


def session_folders(source: Any) -> list[Path]:
    """Return where a new session of a run may be: beside its first file, in the user's folder."""
    files = _resolved(source.files)
    home = _home() / f"{run_name(source)}-{_digest(files)}.xtal"
    return [*(Path(f).with_name(f"{run_name(source)}.xtal") for f in files[:1]), home]


def existing_session_folder(source: Any) -> Path | None:
    """Return the folder with earlier work on this run, None when there is none.

    A session of the same files in another order goes before one that is where a new session
    of this run would be: its edits follow their frames.
    """
    files = _resolved(source.files)
    beside = {folder: {p.name for p in folder.glob("*.xtal")} for folder in map(_parent, files)}
    names = dict.fromkeys((_parent(f), f"{short_name(f)}.xtal") for f in files)
    places = [folder / name for folder, name in names if name in beside[folder]]
    places += sorted(_home().glob(f"*-{_digest(files)}.xtal"))
    sessions = (p for p in places if is_session(p))
    exact = next((p for p in sessions if _sources_of(p) == set(files)), None)
    return exact or next((p for p in session_folders(source) if is_session(p)), None)


def _resolved(files: Any) -> list[str]:
    return [str(Path(str(f).split("::")[0]).resolve()) for f in files]


def _parent(file: str) -> Path:
    return Path(file).parent


def _home() -> Path:
    """Return the user's folder for sessions of data in folders that cannot be written."""
    from platformdirs import user_data_path

    home = os.environ.get(HOME_VARIABLE)
    return Path(home) if home else user_data_path("napari-xtal", appauthor=False)


def _digest(files: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()[:10]


def _sources_of(folder: Path) -> set[str]:
    """Return the source files of a session, resolved."""
    from napari_xtal.session.manifest import read_manifest

    try:
        return set(_resolved(read_manifest(folder / "session.json")[0].sources))
    except SessionError:
        return set()  # a later version wrote it; opening it tells so


def open_peak_finder_dock(viewer: Any) -> Any:
    """Open (or show) the peak finder dock of a viewer and return its widget."""
    return viewer.window.add_plugin_dock_widget("napari-xtal", "Peak finder")[1]


def _open_session(source: Any, folder: str | Path | None, *, take_over: bool) -> Any:
    """Open the session of a run: the chosen folder, an existing one, or a new one."""
    from napari_xtal.session.store import Session

    files = [str(f) for f in source.files]
    if folder is not None:
        places = [Path(folder)]
    elif not files:
        # Frames from memory cannot be found again: their session is kept only when a folder is
        # chosen for it.
        scratch = tempfile.mkdtemp(prefix="napari-xtal-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        places = [Path(scratch) / "unsaved.xtal"]
    elif existing := existing_session_folder(source):
        places = [existing]
    else:
        places = session_folders(source)
    problems = []
    for place in places:
        try:
            return Session.open_or_create(place, files, ids=source.ids, take_over=take_over)
        except SessionError as error:
            if is_session(place):
                raise
            problems.append(str(error))  # a read-only data folder: the user's folder is next
    raise SessionError(
        f"no folder for the session can be written: {'; '.join(problems)}; choose one by Folder…, "
        f"or set {HOME_VARIABLE}"
    )


def is_session(folder: Path) -> bool:
    """Whether a folder holds a session."""
    return any((folder / name).is_file() for name in ("session.json", "journal.jsonl"))


def _close_all() -> None:
    for link in list(_OPEN):
        link.close()


atexit.register(_close_all)
