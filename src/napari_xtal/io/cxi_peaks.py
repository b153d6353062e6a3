"""Peak lists in CXI files, as CrystFEL (``--peaks=cxi``) and its relatives read them.

Positions are pixel indices, centre = integer, x = fast axis: CrystFEL adds the half
pixel itself. The row of the list is the frame's number in ``/entry_1/data_1/data``, so
list and frames always stand in one file.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from napari_xtal import __version__
from napari_xtal.errors import InputError, OutputError
from napari_xtal.files import new_file
from napari_xtal.io.metadata import EV_JOULE
from napari_xtal.peaks.table import make_table, validate

if TYPE_CHECKING:
    import pandas as pd

#: CrystFEL and OM reserve this many places for the peaks of a frame.
MAX_PEAKS = 2048
_RESULT = "/entry_1/result_1"
#: Dataset -> (column of the peak table, type).
_COLUMNS = {
    "peakXPosRaw": ("col", "f4"),
    "peakYPosRaw": ("row", "f4"),
    "peakTotalIntensity": ("intensity", "f4"),
    "peakMaximumValue": ("max_value", "f4"),
    "peakNPixels": ("n_pixels", "i4"),
    "peakSNR": ("snr", "f4"),
    "peakBackground": ("background", "f4"),
    "peakSigma": ("sigma", "f4"),
    "peakProbability": ("probability", "f4"),
    "peakPanel": ("panel", "i4"),
    "peakInverseD": ("inv_d", "f4"),
}


def write_cxi(
    path: str | os.PathLike[str],
    src: Any,
    tab: pd.DataFrame,
    mode: str = "copy",
    *,
    frames: Sequence[int] | None = None,
    overwrite: bool = False,
    max_peaks: int = MAX_PEAKS,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Path:
    """Write frames and their peaks into a CXI file that CrystFEL reads.

    Parameters
    ----------
    path : path-like
        File to make; it appears when it is complete.
    src : FrameSource
        The frames.
    tab : DataFrame
        Peak table; ``tab.attrs["parameters"]`` is kept as provenance.
    mode : {"copy", "virtual"}
        ``copy`` holds the pixels (shuffle and deflate, read by every HDF5). ``virtual``
        points to the source files by relative names: small, but both must move together.
    frames : sequence of int, optional
        Frames to write, in this order (for example the hits); all by default.
    overwrite : bool
        Whether an existing file may be replaced.
    max_peaks : int
        Places per frame. Of more peaks the strongest are kept, with a warning.
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
        When the file exists or cannot be written.
    InputError
        When table, frames or mode do not go together.
    """
    if mode not in ("copy", "virtual"):
        raise InputError(f"write_cxi: mode must be 'copy' or 'virtual', not {mode!r}")
    if max_peaks < 1:
        raise InputError(f"write_cxi: max_peaks must be at least 1, not {max_peaks}")
    parameters = tab.attrs.get("parameters")
    tab = validate(tab, len(src))
    if parameters is not None:
        tab.attrs["parameters"] = parameters
    order = _frame_order(src, frames)
    refuse_sources(path, src)
    regions = _virtual_regions(src, order) if mode == "virtual" else []
    if mode == "copy" and order:
        # HDF5 errors name no frame; better to fail before hours of copying.
        _require_room(Path(path), src, len(order))
    with new_file(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file["cxi_version"] = 160
        file.attrs["creator"] = f"napari-xtal {__version__}"
        data = file.create_group("entry_1/data_1")
        if mode == "virtual":
            _write_virtual(data, src, len(order), regions, Path(path))
            if progress:
                progress(len(order), len(order))
        else:
            _write_copy(data, src, order, progress, cancel)
        _write_description(file, src, order)
        _write_peaks(file, src, tab, order, max_peaks)
    return Path(path)


def _frame_order(src: Any, frames: Sequence[int] | None) -> list[int]:
    if frames is None:
        return list(range(len(src)))
    order = [int(k) for k in frames]
    if not order:
        raise InputError("write_cxi: no frames to write; is every frame without peaks?")
    if min(order) < 0 or max(order) >= len(src) or len(set(order)) != len(order):
        raise InputError(f"write_cxi: frames must be different numbers from 0 to {len(src) - 1}")
    return order


def refuse_sources(path: str | os.PathLike[str], src: Any) -> None:
    """Refuse to write onto one of the frame files, even where overwriting is allowed.

    Raises
    ------
    OutputError
        When `path` is a file of the source.
    """
    real = os.path.realpath(path)
    if any(os.path.realpath(file) == real for file in src.files):
        raise OutputError(f"{path}: is one of the frame files; peaks are never written into it")


def _require_room(path: Path, src: Any, n_frames: int) -> None:
    try:
        stat = os.statvfs(path.parent)
    except (OSError, AttributeError):
        return
    # Detector frames shrink at least fourfold; less room than that cannot end well.
    needed = n_frames * src.shape[0] * src.shape[1] * src.dtype.itemsize // 20
    if stat.f_bavail * stat.f_frsize < needed:
        raise OutputError(
            f"{path}: not enough disk space for {n_frames} frames; write the hits only or use "
            "mode='virtual'"
        )


def _write_copy(
    group: h5py.Group,
    src: Any,
    order: list[int],
    progress: Callable[[int, int], None] | None,
    cancel: Callable[[], bool] | None,
) -> None:
    shape = (len(order), *src.shape)
    data = group.create_dataset(
        "data", shape, src.dtype, chunks=(1, *src.shape), compression="gzip",
        compression_opts=1, shuffle=True,
    )  # fmt: skip
    data.attrs["axes"] = "experiment_identifier:y:x"
    lost = 0
    for row, k in enumerate(order):
        if cancel is not None and cancel():
            raise OutputError("write_cxi: cancelled; no file was written")
        frame = src.frame(k)
        lost += not frame.ok
        data[row] = frame.image
        if progress is not None:
            progress(row + 1, len(order))
    if lost:
        warnings.warn(
            f"write_cxi: {lost} of {len(order)} frames cannot be read; they are written as zeros "
            "without peaks",
            stacklevel=3,
        )


def _virtual_regions(src: Any, order: list[int]) -> list[tuple[str, str, int, int, int]]:
    """Group frames into runs (file, dataset, first, count, axes) of one dataset."""
    runs: list[tuple[str, str, int, int, int]] = []
    for k in order:
        place = src.location(k)
        if place is None or place[3] == 4:
            kind = "stacked modules" if place else "no HDF5 dataset behind it"
            raise InputError(
                f"write_cxi: frame {k} ({src.ids[k]}) has {kind}, so it cannot be pointed to; "
                "use mode='copy'"
            )
        file, dataset, index, ndim = place
        if runs and ndim == 3:
            last = runs[-1]
            if last[:2] == (file, dataset) and last[2] + last[3] == index:
                runs[-1] = (file, dataset, last[2], last[3] + 1, ndim)
                continue
        runs.append((file, dataset, index, 1, ndim))
    return runs


def _write_virtual(
    group: h5py.Group,
    src: Any,
    n_frames: int,
    regions: list[tuple[str, str, int, int, int]],
    path: Path,
) -> None:
    layout = h5py.VirtualLayout((n_frames, *src.shape), src.dtype)
    folder = os.path.dirname(os.path.realpath(path))
    shapes: dict[tuple[str, str], tuple[tuple[int, ...], np.dtype[Any]]] = {}
    row = 0
    for file, dataset, first, count, ndim in regions:
        if (file, dataset) not in shapes:
            with h5py.File(file, "r") as source:
                shapes[file, dataset] = (source[dataset].shape, source[dataset].dtype)
        shape, dtype = shapes[file, dataset]
        name = os.path.relpath(os.path.realpath(file), folder)
        source = h5py.VirtualSource(name, dataset, shape=shape, dtype=dtype)
        layout[row : row + count] = source if ndim == 2 else source[first : first + count]
        row += count
    data = group.create_virtual_dataset("data", layout, fillvalue=0)
    data.attrs["axes"] = "experiment_identifier:y:x"


def _write_description(file: h5py.File, src: Any, order: list[int]) -> None:
    entry, meta = file["entry_1"], src.metadata
    names = [f"{src.ids[k]}".encode("utf-8", "surrogateescape")[:1000] for k in order]
    width = max((len(name) for name in names), default=1)
    entry["experiment_identifier"] = np.array(names, dtype=f"S{width}")
    # CXI: 0 good, bit 0 invalid. Saturation and other marks differ from frame to frame.
    mask = np.where(src.good, np.uint32(0), np.uint32(1))
    entry["data_1"].create_dataset("mask", data=mask, compression="gzip", compression_opts=1)
    detector = entry.create_group("instrument_1/detector_1")
    detector["data"] = h5py.SoftLink("/entry_1/data_1/data")
    detector["mask"] = h5py.SoftLink("/entry_1/data_1/mask")
    if meta.distance_m:
        _with_units(detector, "distance", meta.distance_m, "m")
    if meta.pixel_size_m:
        _with_units(detector, "x_pixel_size", meta.pixel_size_m, "m")
        _with_units(detector, "y_pixel_size", meta.pixel_size_m, "m")
    if meta.beam_centre:
        _with_units(detector, "beam_center_x", meta.beam_centre[1] + 0.5, "pixel")
        _with_units(detector, "beam_center_y", meta.beam_centre[0] + 0.5, "pixel")
    if meta.saturation_value:
        detector["saturation_value"] = meta.saturation_value
    energies = _energies(src, order)
    if energies is not None:
        source = entry.create_group("instrument_1/source_1")
        _with_units(source, "energy", energies * EV_JOULE, "J")
        _with_units(source, "photon_energy_eV", energies, "eV")


def _energies(src: Any, order: list[int]) -> np.ndarray | None:
    values = np.array(
        [src.frame_meta(k).get("photon_energy_ev", np.nan) for k in order], dtype=float
    )
    if not np.isfinite(values).any():
        return None
    return values[:1] if (values == values[0]).all() else values


def _with_units(group: h5py.Group, name: str, value: Any, units: str) -> None:
    group[name] = value
    group[name].attrs["units"] = units


def _write_peaks(
    file: h5py.File, src: Any, tab: pd.DataFrame, order: list[int], max_peaks: int
) -> None:
    row_of = np.full(len(src), -1, dtype=np.int64)
    row_of[order] = np.arange(len(order))
    rows = row_of[tab["frame"].to_numpy()] if len(tab) else np.zeros(0, dtype=np.int64)
    kept = tab[rows >= 0]
    rows = rows[rows >= 0]
    # Strongest first within a frame, so that a cut loses the weakest.
    strength = kept["snr"].fillna(kept["intensity"]).fillna(0).to_numpy()
    sequence = np.lexsort((-strength, rows))
    rows, kept = rows[sequence], kept.iloc[sequence]
    counts = np.bincount(rows, minlength=len(order)) if len(order) else np.zeros(0, int)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    cut = int((counts > max_peaks).sum())
    if cut:
        warnings.warn(
            f"write_cxi: {cut} frames have more than {max_peaks} peaks; only the strongest "
            f"{max_peaks} of each are written",
            stacklevel=3,
        )
        inside = place < max_peaks
        rows, kept, place = rows[inside], kept[inside], place[inside]
        counts = np.minimum(counts, max_peaks)
    width = max(int(counts.max(initial=0)), 1)
    result = file.create_group(_RESULT.strip("/"))
    result["nPeaks"] = counts.astype(np.int64)
    chunk = (max(min(len(order), 64), 1), width)
    for name, (column, dtype) in _COLUMNS.items():
        values = np.zeros((len(order), width), dtype=dtype)
        values[rows, place] = kept[column].to_numpy()
        result.create_dataset(
            name, data=values, chunks=chunk, compression="gzip", compression_opts=1
        )
    parameters = tab.attrs.get("parameters")
    if parameters is not None:
        result.attrs["parameters"] = json.dumps(parameters, default=str)
    result.attrs["position_convention"] = "pixel index, centre = integer, X = fast axis"


def read_cxi_peaks(path: str, file: h5py.File) -> pd.DataFrame:
    """Read ``result_1`` of an opened CXI file; entries beyond nPeaks are ignored.

    Raises
    ------
    InputError
        When there is no peak list or it is damaged.
    """
    result = _find_result(file)
    if result is None:
        raise InputError(f"{path}: no CXI peak list ({_RESULT}/nPeaks) in this file")
    try:
        counts = np.asarray(result["nPeaks"][()]).ravel().astype(np.int64)
        arrays = {
            column: np.asarray(result[name][()])
            for name, (column, _) in _COLUMNS.items()
            if name in result
        }
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise InputError(f"{path}: damaged peak list in {result.name} ({error})") from error
    for column in ("row", "col"):
        if column not in arrays:
            raise InputError(f"{path}: {result.name} lacks peakXPosRaw or peakYPosRaw")
    width = arrays["col"].shape[1] if arrays["col"].ndim == 2 else 0
    if arrays["col"].ndim != 2 or arrays["col"].shape[0] < len(counts):
        raise InputError(f"{path}: {result.name}: positions do not have one row per frame")
    # Aborted writers leave -1 or rubbish counts; a count can never exceed the places.
    counts = np.clip(counts, 0, width)
    frames = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns: dict[str, Any] = {"frame": frames}
    for column, values in arrays.items():
        if values.shape[:2] == arrays["col"].shape and values.dtype.kind in "iuf":
            columns[column] = values[frames, place]
    if "row" not in columns:
        raise InputError(f"{path}: {result.name}: X and Y positions differ in shape")
    finite = np.isfinite(columns["row"]) & np.isfinite(columns["col"])
    columns = {name: np.asarray(values)[finite] for name, values in columns.items()}
    if "n_pixels" in columns:
        columns["n_pixels"] = np.nan_to_num(columns["n_pixels"]).astype(np.int64)
    tab = validate(make_table(**columns, source="import"))
    stored = result.attrs.get("parameters")
    if isinstance(stored, str):
        try:
            tab.attrs["parameters"] = json.loads(stored)
        except ValueError:
            tab.attrs["parameters"] = stored
    return tab


def _find_result(file: h5py.File) -> h5py.Group | None:
    for entry in ("entry_1", *(k for k in file if k.startswith("entry_"))):
        for number in range(1, 5):
            found = file.get(f"{entry}/result_{number}")
            if isinstance(found, h5py.Group) and "nPeaks" in found:
                return found
    return None
