"""Tables and identities for the session tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from napari_xtal.detector.frame import FrameId


def found(frame, *places, **columns):
    """Return a table of a finder: peaks of one frame at (row, col) places."""
    rows, cols = np.array(places, dtype=float).reshape(-1, 2).T
    return pd.DataFrame({"frame": frame, "row": rows, "col": cols, "snr": 8.0, **columns})


def stack_ids(file, n, dataset="/data"):
    return [FrameId(str(file), dataset, f"//{k}") for k in range(n)]


def same(one, other):
    """Compare two peak tables, whatever the order of rows within a frame."""
    pd.testing.assert_frame_equal(one.sort_index(), other.sort_index())
