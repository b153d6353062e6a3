"""Peak lists in and out: CXI, CSV, list3 and CrystFEL event lists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import h5py
import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.io.cxi_peaks import read_cxi_peaks, write_cxi
from napari_xtal.io.hdf5 import check_file, open_hdf5
from napari_xtal.io.tables import read_csv, write_csv, write_lst
from napari_xtal.peaks.table import make_table, validate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_peaks", "write_csv", "write_cxi", "write_lst"]

_LIST3 = ("/processing/hitfinder/peakinfo", "/processing/hitfinder/peakinfo-raw", "/peaks")


def read_peaks(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a peak list.

    Parameters
    ----------
    path : path-like
        CXI with ``result_1``, a single-event HDF5 file with a list of (fs, ss, intensity)
        rows (list3), or CSV as written by `write_csv`.

    Returns
    -------
    DataFrame
        Peak table; ``source`` is ``import`` unless the CSV says otherwise.

    Raises
    ------
    InputError
        When the file holds no peak list that is understood.
    """
    name = os.fspath(check_file(path))
    if not h5py.is_hdf5(name):
        if name.lower().endswith((".csv", ".txt", ".tsv")):
            return read_csv(name)
        raise InputError(f"{name}: not a peak list that is understood (CXI, HDF5 or CSV)")
    with open_hdf5(name) as file:
        try:
            for place in _LIST3:
                found = file.get(place)
                if isinstance(found, h5py.Dataset) and found.ndim == 2 and found.shape[1] in (3, 4):
                    return _read_list3(np.asarray(found[()], dtype=float))
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{name}: damaged peak list ({error})") from error
        return read_cxi_peaks(name, file)


def _read_list3(rows: np.ndarray) -> pd.DataFrame:
    """Columns fs, ss, intensity [, number of pixels]; pixel index, centre = integer."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    pixels = rows[:, 3].astype(np.int64) if rows.shape[1] == 4 else np.zeros(len(rows), np.int64)
    return validate(
        make_table(
            frame=np.zeros(len(rows), dtype=np.int64),
            row=rows[:, 1],
            col=rows[:, 0],
            intensity=rows[:, 2],
            n_pixels=pixels,
            source="import",
        )
    )
