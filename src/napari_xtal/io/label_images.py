"""Label images of a run as HDF5: training data for segmentation in other programs."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from napari_xtal import __version__
from napari_xtal.errors import InputError, OutputError
from napari_xtal.files import new_file
from napari_xtal.io.cxi_peaks import refuse_sources
from napari_xtal.peaks.label_image import IGNORE, confirmed, draw_discs
from napari_xtal.peaks.table import validate

if TYPE_CHECKING:
    import pandas as pd

#: The label images, (n_frames, ss, fs) uint8.
DATASET = "/entry/data/labels"
_MEANING = {"0": "no confirmed peak", "1": "peak", "255": "ignore (masked or not readable)"}


def write_label_images(
    path: str | os.PathLike[str],
    src_or_shape: Any,
    table: pd.DataFrame,
    radius: float = 2.0,
    *,
    frames: Sequence[int] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Path:
    """Write one label image per frame (see `napari_xtal.peaks.label_image.label_image`).

    The images stand in ``/entry/data/labels``, compressed, one chunk per frame; beside
    them ``frame`` (index into the run), ``file``, ``dataset`` and ``event`` (identity of
    the frame). ``/entry/process`` says how they were made: program, version, date,
    radius, parameters (JSON) and source files.

    Parameters
    ----------
    path : path-like
        File to make; it appears when it is complete.
    src_or_shape : FrameSource or (n_frames, ss, fs)
        The run. Its frames are read for their masks; pixels of a frame that cannot be read
        are all 255. With only a shape nothing is masked.
    table : DataFrame
        Peak table. When any row of it has a label, only the rows labelled ``peak`` are
        drawn (frames without one stay 0), otherwise all. ``table.attrs["parameters"]`` is
        kept.
    radius : float
        Radius of the discs [px].
    frames : sequence of int, optional
        Frames to write, in this order, for example those that were labelled; all by default.
    overwrite : bool
        Whether an existing file may be replaced.
    progress : callable, optional
        Called with (done, total).
    cancel : callable, optional
        When it returns True the writing stops and no file is left.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        When the file exists, is one of the frame files, cannot be written, or at a cancel.
    InputError
        When table, frames and run do not go together.
    ParameterError
        A radius outside 0 … 100 px.
    """
    src = src_or_shape if hasattr(src_or_shape, "frame") else None
    shape = _run_shape(src_or_shape, src)
    order = _frame_order(shape[0], frames)
    parameters = table.attrs.get("parameters")
    drawn = confirmed(validate(table, shape[0]))
    of_frame: dict[Any, pd.DataFrame] = dict(iter(drawn.groupby("frame")))
    if src is not None:
        refuse_sources(path, src)
    with new_file(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        data = entry.create_group("data")
        data.attrs["NX_class"], data.attrs["signal"] = "NXdata", "labels"
        labels = data.create_dataset(
            "labels", (len(order), *shape[1:]), "u1", chunks=(1, *shape[1:]),
            compression="gzip", compression_opts=4, shuffle=True,
        )  # fmt: skip
        labels.attrs["values"] = json.dumps(_MEANING)
        for place, k in enumerate(order):
            if cancel is not None and cancel():
                raise OutputError("write_label_images: cancelled; no file was written")
            image = draw_discs(shape[1:], of_frame.get(k, drawn[:0]), radius)
            if src is not None:
                # A frame that cannot be read has no good pixel.
                image[~src.frame(k).good] = IGNORE
            labels[place] = image
            if progress is not None:
                progress(place + 1, len(order))
        data["frame"] = np.asarray(order, np.int64)
        if src is not None:
            identities = [src.ids[k] for k in order]
            for name in ("file", "dataset", "event"):
                data[name] = _texts([getattr(identity, name) for identity in identities])
        _write_process(entry, src, radius, parameters)
    return Path(path)


def _run_shape(given: Any, src: Any) -> tuple[int, int, int]:
    if src is not None:
        return (len(src), *src.shape)
    shape = tuple(int(v) for v in given) if np.ndim(given) == 1 else ()
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"write_label_images: give a run or its shape (n_frames, ss, fs), not {given!r}"
        )
    return shape


def _frame_order(n_frames: int, frames: Sequence[int] | None) -> list[int]:
    if frames is None:
        return list(range(n_frames))
    order = [int(k) for k in frames]
    if not order or min(order) < 0 or max(order) >= n_frames or len(set(order)) != len(order):
        raise InputError(
            f"write_label_images: frames must be one or more different numbers from 0 to "
            f"{n_frames - 1}"
        )
    return order


def _texts(values: Sequence[str]) -> np.ndarray:
    # File names may hold bytes that are no UTF-8; fixed-length strings keep them as they are.
    encoded = [value.encode("utf-8", "surrogateescape") for value in values]
    return np.array(encoded, dtype=f"S{max((len(v) for v in encoded), default=1) or 1}")


def _write_process(entry: h5py.Group, src: Any, radius: float, parameters: Any) -> None:
    """Say how the labels were made; datasets, since an attribute holds 64 KiB at most."""
    process = entry.create_group("process")
    process.attrs["NX_class"] = "NXprocess"
    process["program"] = "napari-xtal"
    process["version"] = __version__
    process["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    process["radius"] = float(radius)
    process["radius"].attrs["units"] = "pixel"
    process["parameters"] = json.dumps(parameters, default=str)
    if src is not None:
        process["source_files"] = _texts([os.path.abspath(file) for file in src.files])
