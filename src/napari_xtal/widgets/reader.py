"""npe2 reader: detector runs as lazy image layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_xtal.widgets.styles import IMAGE_COLORMAP

#: Layer metadata key of the FrameSource; set here, read by the docks and the writer.
SOURCE_KEY = "xtal_source"
#: Layer metadata key of the FrameStack, so that docks share its cache of frames.
STACK_KEY = "xtal_stack"
#: Layer metadata key of the contrast slider's range until `finish_layer` has used it.
RANGE_KEY = "xtal_contrast_limits_range"

SUFFIXES = (
    ".h5", ".hdf5", ".hdf", ".cxi", ".nxs", ".nx5", ".cbf", ".edf", ".tif", ".tiff", ".mccd",
    ".img", ".lst", ".npy",
)  # fmt: skip
_PACKED = (".gz", ".bz2")

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return `read` when all paths look like detector frames (npe2 reader).

    Parameters
    ----------
    path : str or list of str
        What the user opened. ``file.h5::/dataset`` names a dataset.

    Returns
    -------
    callable or None
        None leaves the files to other readers.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    return read if paths and all(_known(p) for p in paths) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """Open a run as one image layer; no frame is read but the first, for the contrast.

    Parameters
    ----------
    path : str or list of str
        One file, or several that make one run.

    Returns
    -------
    list of (data, attributes, "image")
        One layer; `metadata` carries the frame source.

    Raises
    ------
    InputError
        When the files cannot be used; the message names file, dataset and remedy.
    """
    from napari.utils.notifications import show_warning

    from napari_xtal.io.source import open_frames

    source = open_frames(path if isinstance(path, (str, Path)) else list(path))
    layer = image_layer_data(source, on_broken=show_warning)
    _after_opening(source)
    return [layer]


def image_layer_data(source: Any, on_broken: Callable[[str], object] | None = None) -> LayerData:
    """Return the layer tuple of a frame source.

    Parameters
    ----------
    source : FrameSource
        The run.
    on_broken : callable, optional
        Told one text for each broken frame that is shown.

    Returns
    -------
    (data, attributes, "image")
        Arguments of an image layer.
    """
    from napari_xtal.widgets.frame_stack import FrameStack, display_limits

    stack = FrameStack(source, on_broken)
    limits, limits_range = display_limits(stack)
    attributes = {
        "name": run_name(source),
        "colormap": IMAGE_COLORMAP,
        "contrast_limits": limits,
        "multiscale": False,
        "axis_labels": ("frame", "ss", "fs"),
        "metadata": {SOURCE_KEY: source, STACK_KEY: stack, RANGE_KEY: limits_range},
    }
    return stack, attributes, "image"


def run_name(source: Any) -> str:
    """Return a short name of a run: its first file without folder and suffix."""
    files = getattr(source, "files", ())
    return short_name(files[0]) if files else "run"


def short_name(file: str | Path) -> str:
    """Return the name of a file without folder, dataset and suffix."""
    name = Path(str(file).split("::")[0]).name
    while (suffix := Path(name).suffix.lower()) in SUFFIXES + _PACKED:
        name = name[: -len(suffix)]
    return name or "run"


def _known(path: str | Path) -> bool:
    name = str(path).split("::")[0].lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.endswith(SUFFIXES)


def finish_layer(layer: Any) -> None:
    """Give the contrast slider its range; napari takes it only from a layer that exists."""
    limits_range = layer.metadata.pop(RANGE_KEY, None)
    if limits_range is not None:
        limits = tuple(layer.contrast_limits)
        layer.contrast_limits_range = limits_range
        layer.contrast_limits = limits


def _after_opening(source: Any) -> None:
    """Finish the layer and bring back the dock when the run has work saved earlier."""
    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    viewer = napari.current_viewer()
    if viewer is None or QApplication.instance() is None:
        return

    def finish() -> None:
        from napari_xtal.widgets.run_link import existing_session_folder, open_peak_finder_dock

        mine = [layer for layer in viewer.layers if layer.metadata.get(SOURCE_KEY) is source]
        for layer in mine:
            finish_layer(layer)
        if len(viewer.layers) == 1:
            viewer.dims.set_point(0, 0)  # napari starts in the middle, a run with its first frame
        if mine and existing_session_folder(source) is not None:
            open_peak_finder_dock(viewer)

    # A reader only returns data; the layer is there when the event loop comes round.
    QTimer.singleShot(0, finish)
