"""A small run with labels: spots and noise on a flat background."""

from __future__ import annotations

import numpy as np

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.peaks.table import make_table

SIDE = 120
_PLACES = [(r, c) for r in (20, 45, 70, 95) for c in (20, 45, 70, 95)]


class Run:
    """Frames in memory; some may be unreadable."""

    def __init__(self, images, good=None, broken=(), files=None):
        self.images, self.broken = images, set(broken)
        self.good = np.ones(images.shape[1:], bool) if good is None else good
        files = files or ["run.h5"] * len(images)
        self.ids = [FrameId(file, "/data", f"//{k}") for k, file in enumerate(files)]

    def __len__(self):
        return len(self.images)

    def frame(self, index):
        status = FrameStatus.CORRUPT if index in self.broken else FrameStatus.OK
        return Frame(self.images[index], self.good, status, self.ids[index])


def make_run(n_frames=5, seed=0, height=30.0, **options):
    """Return a run and its labelled table: 8 spots and 8 places with noise on each frame."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((SIDE, SIDE))
    images, columns = [], {"frame": [], "row": [], "col": [], "label": []}
    for frame in range(n_frames):
        expected = np.full((SIDE, SIDE), 6.0)
        for k, (row, col) in enumerate(_PLACES):
            row, col = row + int(rng.integers(-3, 4)), col + int(rng.integers(-3, 4))
            is_peak = (k + frame) % 2 == 0
            if is_peak:
                expected += height * np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2) / 1.2)
            for name, value in zip(
                columns, (frame, row, col, "peak" if is_peak else "not-peak"), strict=True
            ):
                columns[name].append(value)
        images.append(rng.poisson(expected).astype(np.uint16))
    n = len(columns["frame"])
    snr = rng.uniform(3, 9, n)
    return Run(np.array(images), **options), make_table(**columns, snr=snr)
