"""npe2 writer of the peaks layer, and the export entry of the File menu."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.widgets.saving import FILTERS, save_peaks, shown_peaks

if TYPE_CHECKING:
    import napari


def write_peaks(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Points layer as a peak list (npe2 writer).

    Parameters
    ----------
    path : str
        File to write, ``.cxi`` or ``.csv``.
    data : (n_peaks, 3) array_like
        (frame, row, col) of the points.
    attributes : dict
        Layer attributes; our peaks layers carry their run in ``metadata``.

    Returns
    -------
    list of str
        The written file.

    Raises
    ------
    InputError
        When the layer is not a peaks layer of an open run and the format needs the frames.
    """
    from napari.utils.notifications import show_info

    from napari_xtal.peaks.table import PEAK_COLUMNS, make_table
    from napari_xtal.widgets.points_view import PEAKS_KEY
    from napari_xtal.widgets.sources import ArraySource

    link = (attributes.get("metadata") or {}).get(PEAKS_KEY)
    if link is not None:
        peaks, left_out = shown_peaks(link.session)
        saved = save_peaks(path, link.source, peaks, overwrite=True)
        if left_out:
            show_info(f"{saved}: {left_out}")
        return [str(saved)]
    points = np.atleast_2d(np.asarray(data, dtype=float))
    if points.shape[1] not in (2, 3):
        raise InputError(
            f"{attributes.get('name', 'points')}: peaks need the axes (frame, row, col) or (row, col), "
            f"the layer has {points.shape[1]}"
        )
    if points.shape[1] == 2:
        points = np.column_stack([np.zeros(len(points)), points])
    features = attributes.get("features")
    known = {} if features is None else {n: features[n] for n in features if n in PEAK_COLUMNS}
    known |= {"frame": np.round(points[:, 0]).astype(int), "row": points[:, 1], "col": points[:, 2]}
    n_frames = int(points[:, 0].max(initial=0)) + 1
    source = ArraySource(np.empty((n_frames, 1, 1)), str(attributes.get("name", "points")))
    return [
        str(save_peaks(path, source, make_table(**{"source": "manual", **known}), overwrite=True))
    ]


def export_peaks(viewer: napari.viewer.Viewer) -> None:
    """Ask for a file and write the peaks of the run that is selected, or of the only one.

    Parameters
    ----------
    viewer : napari.Viewer
        Injected by napari.
    """
    from napari.utils.notifications import show_error, show_warning

    from napari_xtal.errors import XtalError
    from napari_xtal.widgets.points_view import PEAKS_KEY

    links = [layer.metadata[PEAKS_KEY] for layer in viewer.layers if PEAKS_KEY in layer.metadata]
    active = viewer.layers.selection.active
    chosen = next((k for k in links if active in (k.layer, k.view.layer)), None)
    if chosen is None and len(links) == 1:
        chosen = links[0]
    if chosen is None:
        show_warning(
            "Select the peaks layer to export." if links else
            "There are no peaks to export: open the Peak finder first."
        )  # fmt: skip
        return
    try:
        ask_and_save(chosen)
    except XtalError as error:
        show_error(str(error))


def ask_and_save(link: Any, parent: Any = None) -> str | None:
    """Ask for a file name, with the question before replacing a file, and write the peaks."""
    from pathlib import Path

    from napari.utils.notifications import show_info
    from qtpy.QtWidgets import QFileDialog

    from napari_xtal.widgets.reader import run_name

    source = link.source
    folder = Path(str(source.files[0]).split("::")[0]).parent if source.files else Path.home()
    suggested = folder / f"{run_name(source)}_peaks{'.cxi' if source.files else '.csv'}"
    path, chosen_filter = QFileDialog.getSaveFileName(parent, "Save peaks", str(suggested), FILTERS)
    if not path:
        return None
    if not Path(path).suffix:
        path += (
            chosen_filter[chosen_filter.rindex("*") + 1 : -1] if "*" in chosen_filter else ".cxi"
        )
    peaks, left_out = shown_peaks(link.session)
    # The file dialog has asked before it let an existing file be chosen.
    saved = save_peaks(path, source, peaks, overwrite=True)
    told = f"{len(peaks)} peaks on {peaks['frame'].nunique()} frames saved to {saved}"
    show_info(f"{told}; {left_out}" if left_out else told)
    return str(saved)
