"""The schema of the peak table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_xtal.errors import InputError
from napari_xtal.peaks.table import PEAK_COLUMNS, concat, empty_table, make_table, validate


def _dtypes(table):
    return {name: str(dtype) for name, dtype in table.dtypes.items()}


def test_empty_table_has_the_schema():
    table = empty_table()
    assert len(table) == 0
    assert _dtypes(table) == PEAK_COLUMNS
    assert _dtypes(validate(table)) == PEAK_COLUMNS


def test_defaults():
    table = make_table(frame=[0, 1], row=[1, 2], col=[3.5, 4.5])
    assert _dtypes(table) == PEAK_COLUMNS
    assert table["label"].tolist() == ["unlabelled"] * 2
    assert table["source"].tolist() == ["auto"] * 2
    assert table["panel"].tolist() == table["n_pixels"].tolist() == [0, 0]
    for name in ("intensity", "snr", "inv_d", "probability"):
        assert table[name].isna().all()


def test_scalars_stand_for_whole_columns():
    table = make_table(frame=7, row=np.arange(3), col=np.arange(3), source="manual", snr=5)
    assert table["frame"].tolist() == [7, 7, 7]
    assert table["source"].tolist() == ["manual"] * 3
    assert len(make_table(frame=7, row=[], col=[])) == 0
    assert len(make_table(frame=7, row=1.0, col=2.0)) == 1


@pytest.mark.parametrize("missing", ["frame", "row", "col"])
def test_needed_columns(missing):
    columns = {"frame": [0], "row": [1.0], "col": [2.0]}
    del columns[missing]
    with pytest.raises(InputError, match=f"column '{missing}' is missing"):
        make_table(**columns)
    with pytest.raises(InputError, match=f"column '{missing}' is missing"):
        validate(pd.DataFrame(columns))


def test_lengths_must_agree():
    with pytest.raises(InputError, match="'row' has another length"):
        make_table(frame=[0, 1], row=[1.0], col=[2.0, 3.0])


def test_extra_columns_stay_behind_the_schema():
    table = make_table(frame=[0], row=[1], col=[2], peak_id=[5])
    assert list(table.columns) == [*PEAK_COLUMNS, "peak_id"]
    assert list(validate(table).columns) == [*PEAK_COLUMNS, "peak_id"]


def test_validate_repairs_dtypes_and_keeps_the_index():
    table = pd.DataFrame(
        {"col": [2, 3], "row": [1, 2], "frame": [0.0, 4.0], "label": ["peak", "unsure"]},
        index=[10, 20],
    )
    fixed = validate(table)
    assert _dtypes(fixed) == PEAK_COLUMNS
    assert fixed.index.tolist() == [10, 20]
    assert fixed["label"].tolist() == ["peak", "unsure"]
    assert "snr" not in table.columns


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["frame", "row", "col"])
def test_positions_must_be_finite(name, value):
    table = pd.DataFrame({"frame": [0.0], "row": [1.0], "col": [2.0]})
    table[name] = value
    with pytest.raises(InputError, match=f"column '{name}' holds NaN or infinite"):
        validate(table)


def test_frames_must_exist():
    table = make_table(frame=[0, 5], row=[1, 2], col=[1, 2])
    assert len(validate(table, n_frames=6)) == 2
    with pytest.raises(InputError, match=r"0\.\.5 do not fit a source of 5 frames"):
        validate(table, n_frames=5)
    with pytest.raises(InputError, match=r"-1\.\.-1"):
        validate(make_table(frame=[-1], row=[1], col=[2]))


@pytest.mark.parametrize("thing", [None, [1, 2], {"frame": [0]}, np.zeros((2, 3))])
def test_only_tables_are_tables(thing):
    with pytest.raises(InputError, match=f"DataFrame, got {type(thing).__name__}"):
        validate(thing)


def test_concat():
    a = make_table(frame=[0], row=[1], col=[2])
    b = make_table(frame=[3, 1], row=[1, 2], col=[2, 3])
    joined = concat([a, empty_table(), b])
    assert joined["frame"].tolist() == [0, 3, 1]
    assert joined.index.tolist() == [0, 1, 2]
    assert _dtypes(joined) == PEAK_COLUMNS
    assert _dtypes(concat([])) == _dtypes(concat([empty_table()])) == PEAK_COLUMNS
