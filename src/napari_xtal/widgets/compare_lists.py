"""The two peak lists of a comparison: a reference of any origin, and the found peaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError
from napari_xtal.widgets import peak_rows
from napari_xtal.widgets.saving import kept

if TYPE_CHECKING:
    from napari_xtal.widgets.run_link import RunLink

PLACE = ["frame", "row", "col"]


def from_file(path: str, source: Any) -> pd.DataFrame:
    """Read a reference list; rows find their frames by identity where the file names it.

    Parameters
    ----------
    path : str
        CXI, HDF5 list or CSV.
    source : FrameSource
        The run it is compared with.

    Returns
    -------
    DataFrame
        Columns frame, row, col.

    Raises
    ------
    InputError
        When it is no peak list, or of another run.
    """
    from napari_xtal.io.peak_lists import read_peaks

    table = read_peaks(path)
    if {"file", "event"} <= set(table.columns):
        names = zip(table["file"].astype(str), table["event"].astype(str), strict=True)
        known = {(Path(i.file).name, i.event): k for k, i in enumerate(source.ids)}
        frames = np.array([known.get((Path(f).name, e), -1) for f, e in names], dtype=np.int64)
        if (frames >= 0).any():
            table = table.assign(frame=frames)[frames >= 0]
    if len(table) and int(table["frame"].max()) >= len(source):
        raise InputError(
            f"{path}: has peaks on frame {int(table['frame'].max())}, this run has {len(source)} "
            "frames; choose the list of this run"
        )
    return table[PLACE].reset_index(drop=True)


def from_layer(layer: Any, link: RunLink) -> pd.DataFrame:
    """Return the points of any Points layer as a list; points with two axes are of the shown frame.

    Raises
    ------
    InputError
        When the layer has another number of axes.
    """
    points = np.asarray(layer.data, dtype=np.float64).reshape(-1, layer.ndim)
    shown = link.shown_frame()
    if layer.ndim not in (2, 3):
        raise InputError(f"layer '{layer.name}' has {layer.ndim} axes; a peak list has 2 or 3")
    image = link.layer
    if layer.ndim != image.ndim:  # only (row, col) are comparable
        if layer.ndim == 3:
            points = points[np.rint(points[:, 0]) == shown]
        points = points[:, -2:]
        frames = np.full(len(points), shown)
        places = (points * layer.scale[-2:] + layer.translate[-2:] - image.translate[-2:]) / (
            image.scale[-2:]
        )
    else:
        origin = np.zeros(layer.ndim)
        # Exact for every affine transform; point by point it would take seconds.
        moved = [_across(layer, image, p) for p in (origin, *np.eye(layer.ndim))]
        points = moved[0] + points @ (np.array(moved[1:]) - moved[0])
        frames = np.rint(points[:, 0]) if layer.ndim == 3 else np.zeros(len(points))
        places = points[:, -2:]
    table = pd.DataFrame(
        {"frame": frames.astype(np.int64), "row": places[:, 0], "col": places[:, 1]}
    )
    return table[(table["frame"] >= 0) & (table["frame"] < len(link.stack))].reset_index(drop=True)


def mine(peaks: pd.DataFrame) -> pd.DataFrame:
    """Return the peaks a person placed or labelled ``peak``."""
    return peaks[peaks["label"] == "peak"]


def found(peaks: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Return the peaks that would be saved: shown ones, without those labelled not-peak."""
    return kept(peaks[peak_rows.is_shown(peaks, limit)])


def found_by_machine(peaks: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Return the machine's peaks on the frames that hold the user's, whatever their label.

    On frames that nobody looked at every peak would count as wrong.
    """
    machine = peaks[(peaks["source"] == "auto") & ~(peaks["probability"] < limit)]
    return machine[machine["frame"].isin(mine(peaks)["frame"].unique())]


def _across(layer: Any, image: Any, point: Any) -> np.ndarray:
    return np.asarray(image.world_to_data(layer.data_to_world(point)), dtype=np.float64)
