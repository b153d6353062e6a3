"""The default finder on one frame: background, scan, measurement, one after the other."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.peaks import candidate_kernels, compiling, kernels, measure, spots
from napari_xtal.peaks.plan import N_SAMPLES, SCALE_ROWS

if TYPE_CHECKING:
    import subprocess

    from numpy.typing import NDArray

    from napari_xtal.peaks.plan import DetectorPlan

#: Candidates are kept from this significance on, so that a lower cut only filters.
PERMISSIVE_SNR = 4.25
#: A smoothed pixel of this share of the lowest SNR is measured; never less than the first
#: limit, and no more than the second, since the scan sees little of a wide spot's SNR.
SCAN_SHARE, SCAN_LIMITS = 0.82, (2.5, 5.0)
#: The background ring ends this far outside its inner edge [px].
RING_WIDTH = 3.4
#: Spots wider (sigma, px) and longer (ratio of axes) than this are weighted down.
MAX_WIDTH, MAX_ELONGATION = 2.0, 3.5
FIRST_CAPACITY = 65_536

_LOWEST_FLOAT = np.array([-np.inf], np.float32)
_LOWEST_INT = np.array([np.iinfo(np.int16).min], np.int16)
_profiles = spots.profile_table()
_scratch = threading.local()


def scan_cut(snr_min: float) -> float:
    """Return the SNR a smoothed pixel needs so that its candidate is measured."""
    return min(max(SCAN_SHARE * snr_min, SCAN_LIMITS[0]), SCAN_LIMITS[1])


@dataclass(frozen=True)
class FrameNoise:
    """What the frame told about its background.

    Attributes
    ----------
    mean, var : (n_bins,) float32
        Background and its variance per bin [ADU, ADU^2].
    gain : float
        Data units per quantum.
    correlation : float
        Variance of a smoothed background relative to independent pixels.
    model_error : float
        Variance of the modelled background about the true one, per pixel variance.
    """

    mean: NDArray[np.float32]
    var: NDArray[np.float32]
    gain: float
    correlation: float
    model_error: float


class _Scratch:
    """Buffers of one thread for one plan."""

    def __init__(self, plan: DetectorPlan) -> None:
        n = plan.sample_index.size
        self.values, self.noise = np.empty(n, np.float32), np.empty(n, np.float32)
        self.grain = np.empty(n, np.float32)
        bins = plan.sample_start.size - 1
        self.mean, self.var = np.empty(bins, np.float32), np.empty(bins, np.float32)
        self.texture = np.zeros(bins, np.float32)
        self.count, self.excess = np.empty(bins, np.int64), np.empty(bins, np.float32)
        self.offset = np.zeros(
            (-(-plan.shape[0] // SCALE_ROWS), plan.segments.shape[1]), np.float32
        )
        self.block = np.empty(plan.block_lo.shape, np.float32)
        self.block16 = np.empty(plan.block_lo.shape, np.int16)
        self.rows, self.cols = (
            np.empty(FIRST_CAPACITY, np.int32),
            np.empty(FIRST_CAPACITY, np.int32),
        )
        self.patches = np.empty((0, 0, 0), np.float32)
        self.out = np.empty((0, spots.N_COLUMNS), np.float32)
        self.index = np.empty(0, np.int64)
        self.make_room(2048)

    def make_room(self, n: int) -> None:
        """Make the candidate buffers hold at least `n` rows."""
        if self.out.shape[0] < n:
            side = 2 * spots.PATCH + 1
            self.patches = np.empty((n, side, side), np.float32)
            self.out = np.empty((n, spots.N_COLUMNS), np.float32)
            self.index = np.empty(n, np.int64)


def _buffers(plan: DetectorPlan) -> _Scratch:
    if getattr(_scratch, "plan", None) is not plan:
        _scratch.plan, _scratch.buffers = plan, _Scratch(plan)
    buffers: _Scratch = _scratch.buffers
    return buffers


def candidates(
    image: NDArray[Any], plan: DetectorPlan, ring_inner: float, snr_min: float
) -> tuple[NDArray[np.float32], FrameNoise]:
    """Measure everything on a frame that could be a peak.

    Parameters
    ----------
    image : (ss, fs) ndarray
        uint16, int32, uint32, float32 or float64.
    plan : DetectorPlan
        Lookup tables of mask and geometry.
    ring_inner : float
        Inner radius of the background ring [px].
    snr_min : float
        Lowest significance kept.

    Returns
    -------
    (n, N_COLUMNS) ndarray of float32
        One row per candidate, columns of `napari_xtal.peaks.spots`.
    FrameNoise
        Background and noise of the frame.
    """
    prepare()
    s = _buffers(plan)
    integer = image.dtype.kind in "iu"
    quantum = np.float32(1.0 if integer else 0.0)
    kernels.gather(
        image, plan.sample_index, plan.sample_slot, plan.sample_safe, s.values, s.noise, s.grain
    )
    kernels.bin_statistics(s.values, s.noise, plan.sample_start, quantum, s.mean, s.var, s.count)
    if plan.radial:
        kernels.smooth_profile(s.mean, s.var, s.count)
        kernels.smooth_profile(s.mean, s.var, s.count)
    if integer:
        # No count in n samples still leaves a rate of about 1 in 2 n.
        np.maximum(s.var, 0.004, out=s.var)
    gain = float(kernels.gain_of(s.mean, s.var, s.count, integer))
    if plan.radial:
        step = max(1, round(plan.n_good / N_SAMPLES))
        kernels.tile_offsets(image, plan.bins, plan.state, s.mean, s.var, min(step, 16), s.offset)
    kappa2 = kernels.correlation(image, plan.pairs, plan.bins, s.var)
    kernels.texture(s.grain, plan.sample_start, s.var, s.texture)
    z = scan_cut(snr_min) * kappa2**0.5
    check = image.dtype.kind == "f"
    while True:
        kernels.thresholds(
            s.mean, s.var, gain, z, s.offset, plan.block_lo, plan.block_hi, s.excess, s.block
        )
        block: NDArray[Any] = s.block
        lowest: NDArray[Any] = _LOWEST_FLOAT
        if integer and _fits_16_bits(s):
            np.floor(s.block, out=s.block16, casting="unsafe")
            block, lowest = s.block16, _LOWEST_INT
        n = kernels.scan(
            image, plan.state, plan.bins, plan.segments, s.mean, s.offset, s.excess, block,
            check, lowest, s.rows, s.cols,
        )  # fmt: skip
        if n >= 0:
            break
        z += 0.75
    inner, outer = _rings(ring_inner)
    tau2 = kernels.model_error(image, plan.pairs, plan.bins, s.mean, s.var, s.offset)
    s.make_room(n)
    candidate_kernels.extract(image, plan.state, plan.panels, s.rows, s.cols, n, s.patches)
    compiling.wait_for(_helper)
    k = measure.measure(
        s.patches, s.rows, s.cols, n, plan.bins, s.mean, s.var, s.texture, s.offset, np.float32(gain),
        np.float32(kappa2), np.float32(tau2), quantum, inner, outer, _profiles,
        np.float32(snr_min), s.index, s.out,
    )  # fmt: skip
    found = s.out[:k].copy()
    _weigh_shapes(found)
    order = np.argsort(found[:, spots.ROW], kind="stable")
    candidate_kernels.mark_wings(
        s.patches, s.rows, s.cols, s.index, found, k, order, np.float32(16)
    )
    return found, FrameNoise(s.mean.copy(), s.var.copy(), gain, kappa2, tau2)


_first_call = threading.Lock()
_started = False
_helper: subprocess.Popen[bytes] | None = None


def prepare() -> None:
    """Start compiling the largest kernel beside this process, at the first call only."""
    global _started, _helper
    with _first_call:
        if not _started:
            _started = True
            _helper = compiling.start_helper()


def _fits_16_bits(s: _Scratch) -> bool:
    """Whether background and thresholds of the smoothed frame fit into 16-bit integers."""
    spread = float(np.abs(s.offset).max()) if s.offset.size else 0.0
    low = 16 * (float(s.mean.min()) - spread)
    high = 16 * (float(s.mean.max()) + spread) + float(s.excess.max())
    return low > -30_000 and high < 30_000


def _weigh_shapes(found: NDArray[np.float32]) -> None:
    """Lower the SNR of what is too wide or too long for a Bragg spot, softly.

    Grains of ice rings and particle tracks are significant, but not as sharp as the
    frame's sharp spots, nor round. A weight keeps strong odd spots that a cut would lose.
    """
    snr, width = found[:, spots.SNR], found[:, spots.WIDTH]
    strong = np.flatnonzero(snr > 8)
    limit = MAX_WIDTH
    if strong.size >= 20:
        strong = strong[np.argsort(-snr[strong])[:100]]
        limit = max(limit, 1.5 * float(np.sort(width[strong])[strong.size // 4]))
    weight = np.minimum(1, limit / np.maximum(width, 0.1))
    long = (found[:, spots.ELONGATION] > MAX_ELONGATION) & (found[:, spots.N_PIXELS] >= 6)
    weight[long] *= MAX_ELONGATION / found[long, spots.ELONGATION]
    found[:, spots.SNR] *= weight


_ring_cache: dict[float, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}


def _rings(inner: float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    if inner not in _ring_cache:
        _ring_cache[inner] = (
            spots.ring_offsets(inner, inner + RING_WIDTH),
            spots.ring_offsets(inner + 5.4, min(inner + 9.4, spots.PATCH), step=2),
        )
    return _ring_cache[inner]
