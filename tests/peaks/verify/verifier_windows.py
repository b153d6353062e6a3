"""Windows and a run with known content, for the tests of the network verifier."""

from __future__ import annotations

import numpy as np

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.peaks.verify.patches import HALF, Patches

SIDE = 2 * HALF + 1


def counts(level=5.0, n=8, seed=0, height=0.0):
    values = np.random.default_rng(seed).poisson(level, (n, SIDE, SIDE)).astype(np.float32)
    offset = np.arange(SIDE) - HALF
    spot = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / 1.2**2)
    return Patches(values + np.rint(height * spot).astype("f4"), np.ones(values.shape, bool))


class Run:
    """Three frames; the second cannot be read."""

    shape = (40, 50)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 1000, (3, *self.shape)).astype(np.uint16)
        self.good = rng.random(self.shape) > 0.1
        self.reads = []

    def __len__(self):
        return 3

    def frame(self, index):
        self.reads.append(index)
        status = FrameStatus.CORRUPT if index == 1 else FrameStatus.OK
        return Frame(self.images[index], self.good, status, FrameId("f", "d", f"//{index}"))
