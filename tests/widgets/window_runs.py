"""Small simulated runs and waiting, shared by the tests of the window."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

N_FRAMES, SHAPE, GAP = 6, (160, 200), slice(96, 104)


def spots(frame: int) -> np.ndarray:
    """Return the 12 places (row, col) with a spot on one frame, clear of gap and rim."""
    rng = np.random.default_rng(100 + frame)
    rows = np.repeat([20, 60, 100, 140], 3) + rng.integers(-8, 8, 12)
    cols = np.tile([30, 70, 150], 4) + rng.integers(-8, 8, 12)
    return np.column_stack([rows, cols])


def make_frames(n: int = N_FRAMES) -> np.ndarray:
    """Return (n, ss, fs) uint16 counts: background 5, spots of 12 levels, gap at 65535."""
    rng = np.random.default_rng(0)
    data = rng.poisson(5, (n, *SHAPE)).astype(np.uint16)
    shape = np.exp(-0.5 * (np.hypot(*np.mgrid[-2:3, -2:3]) / 0.9) ** 2)
    for frame in range(n):
        for level, (r, c) in zip(np.linspace(12, 300, 12), spots(frame), strict=True):
            data[frame, r - 2 : r + 3, c - 2 : c + 3] += rng.poisson(level * shape).astype(
                np.uint16
            )
    data[:, :, GAP] = 65535
    return data


def write_run(path: Path, data: np.ndarray, mask: bool = True) -> Path:
    """Write frames as NXmx with pixel mask and geometry."""
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry["definition"] = "NXmx"
        entry.create_dataset("data/data", data=data, chunks=(1, *data.shape[1:]))
        detector = entry.create_group("instrument/detector")
        if mask:
            bad = np.zeros(data.shape[1:], np.uint32)
            bad[:, GAP] = 1
            detector["pixel_mask"] = bad
        detector["beam_center_x"], detector["beam_center_y"] = 100.0, 80.0
        for name, value in (
            ("detector_distance", 0.1),
            ("x_pixel_size", 75e-6),
            ("y_pixel_size", 75e-6),
        ):
            detector[name] = value
            detector[name].attrs["units"] = "m"
        entry["instrument/beam/incident_wavelength"] = 1.3
        entry["instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
    return path


def rest(qtbot, dock) -> None:
    """Wait until the dock has nothing to do (the first search of a machine compiles)."""
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not dock.busy, timeout=60_000)
