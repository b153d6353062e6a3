"""Compile the largest kernel in a second process while this one compiles the others.

numba compiles one function at a time per process and most of the first call's time
goes into `measure.measure`, whose types do not depend on the frame's. So with an empty
cache a helper process compiles it, and this process then takes it from the cache.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from napari_xtal.peaks import measure, spots

#: A helper that takes longer than this is given up; the kernel is then compiled here [s].
PATIENCE_S = 60.0


def start_helper() -> subprocess.Popen[bytes] | None:
    """Start the helper process if the kernel is not in numba's cache.

    Returns
    -------
    Popen or None
        The process to `wait_for`; None when it is not needed or cannot be started.
    """
    folder = measure.measure.stats.cache_path
    if folder is None or any(Path(folder).glob("measure.measure-*.nbi")):
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "napari_xtal.peaks.compiling"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def wait_for(helper: subprocess.Popen[bytes] | None) -> None:
    """Wait until the helper has filled the cache; give it up when it takes too long."""
    if helper is None:
        return
    try:
        helper.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()


def compile_measure() -> None:
    """Compile `measure.measure`, or load it from the cache, by a call with no candidates."""
    side = 2 * spots.PATCH + 1
    flat = np.ones(1, np.float32)
    offsets = spots.ring_offsets(3.6, 7.0)
    number = np.float32(1)
    measure.measure(
        np.zeros((1, side, side), np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32), 0,
        np.zeros((1, 1), np.uint16), flat, flat, flat, np.zeros((1, 1), np.float32),
        number, number, number, number, offsets, offsets, spots.profile_table(), number,
        np.zeros(1, np.int64), np.zeros((1, spots.N_COLUMNS), np.float32),
    )  # fmt: skip


if __name__ == "__main__":
    compile_measure()
