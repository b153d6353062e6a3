"""What the finder can know before it sees a frame: bins, panels, safe pixels, sample positions.

Everything here depends only on mask and geometry, is computed once for a run and
shared by all threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Radial bins are this wide [px]; narrower ones hold too few pixels for a stable variance.
BIN_WIDTH = 2.0
#: Side of the square tiles that take the place of radial bins when the centre is unknown [px].
TILE = 64
#: Width of the row segments that know whether they hold masked pixels [px].
SEGMENT = 64
#: Height and width of the blocks that share one scan threshold [px].
BLOCK_ROWS, BLOCK_COLS = 8, 16
#: Height of the tiles (SEGMENT wide) that correct the radial background locally [px].
SCALE_ROWS = 32
#: Distance of the two pixels whose difference measures the noise [px]: beyond the
#: point spread of phosphor detectors, below the scale of background gradients.
LAG = 3
#: Neighbourhood that has to be free of masked pixels for a pixel to be "safe" [px].
SAFE = 9
#: Number of background samples per frame aimed at.
N_SAMPLES = 150_000
MIN_BIN_SAMPLES = 96

MASKED, NEAR_MASK, SAFE_PIXEL = 0, 1, 2


@dataclass(frozen=True)
class DetectorPlan:
    """Lookup tables of one mask and geometry; see `make_plan`.

    Attributes
    ----------
    state : (ss, fs) uint8
        0 masked, 1 good with a masked or foreign-panel pixel nearby, 2 all clear.
    bins : (ss, fs) uint16
        Background bin of each pixel (masked ones too): ring or tile.
    panels : (ss, fs) int16
        Panel number of each pixel.
    segments : (ss, n_segments) uint8
        0 no masked pixel, 1 some, 2 all masked, per 64-px row segment.
    block_lo, block_hi : (n_blocks, n_block_columns) uint16
        Lowest and highest bin inside each block of 8 rows by 16 columns.
    sample_index, sample_slot, sample_start : int32, int32, int64
        Flat indices of the background samples in order of memory, their places when sorted by
        bin, and where each bin starts there.
    sample_safe : bool
        Whether each sample is far from masked pixels.
    pairs : (n, 2) int32
        Centres of 3x3 windows for the noise correlation estimate.
    radial : bool
        Whether bins are rings (else tiles).
    """

    shape: tuple[int, int]
    state: NDArray[np.uint8]
    bins: NDArray[np.uint16]
    panels: NDArray[np.int16]
    segments: NDArray[np.uint8]
    block_lo: NDArray[np.uint16]
    block_hi: NDArray[np.uint16]
    sample_index: NDArray[np.int32]
    sample_slot: NDArray[np.int32]
    sample_safe: NDArray[np.bool_]
    sample_start: NDArray[np.int64]
    pairs: NDArray[np.int32]
    radial: bool

    @cached_property
    def n_good(self) -> int:
        """Number of usable pixels."""
        return int(np.count_nonzero(self.state))


def make_plan(
    good: NDArray[np.bool_],
    radius: NDArray[Any] | None = None,
    panels: NDArray[Any] | None = None,
) -> DetectorPlan:
    """Build the lookup tables for a mask and geometry.

    Parameters
    ----------
    good : (ss, fs) ndarray of bool
        True where a pixel may be used.
    radius : (ss, fs) ndarray, optional
        Distance from the beam centre [px]. Without it the background bins are tiles.
    panels : (ss, fs) ndarray of int, optional
        Panel number per pixel; spots and backgrounds do not cross panel borders.

    Returns
    -------
    DetectorPlan

    Raises
    ------
    InputError
        When the shapes differ, or `radius` is not finite on good pixels.
    """
    shape = (int(good.shape[0]), int(good.shape[1]))
    bins, radial = _bins(good, radius)
    panel_map = (
        np.zeros(shape, np.int16) if panels is None else np.ascontiguousarray(panels, np.int16)
    )
    if panel_map.shape != shape:
        raise InputError(f"panels have shape {panel_map.shape}, the frame has {shape}")
    state = _pixel_state(good, panel_map, with_panels=panels is not None)
    n_seg = -(-shape[1] // SEGMENT)
    padded = np.ones((shape[0], n_seg * SEGMENT), bool)
    padded[:, : shape[1]] = good
    by_segment = padded.reshape(shape[0], n_seg, SEGMENT)
    segments = np.where(by_segment.all(2), 0, 1).astype(np.uint8)
    padded[:, shape[1] :] = False
    segments[~by_segment.any(2)] = 2
    lo, hi = _block_ranges(bins)
    index, slot, start = _samples(good, panel_map, bins)
    return DetectorPlan(
        shape,
        state,
        bins,
        panel_map,
        segments,
        lo,
        hi,
        index,
        slot,
        state.ravel()[index] == SAFE_PIXEL,
        start,
        _pairs(state),
        radial,
    )


def _bins(good: NDArray[np.bool_], radius: NDArray[Any] | None) -> tuple[NDArray[np.uint16], bool]:
    shape = good.shape
    if radius is None:
        rows = (np.arange(shape[0]) // TILE)[:, None]
        cols = (np.arange(shape[1]) // TILE)[None, :]
        return (rows * (shape[1] // TILE + 1) + cols).astype(np.uint16), False
    radius = np.asarray(radius)
    if radius.shape != shape:
        raise InputError(f"radius has shape {radius.shape}, the frame has {shape}")
    finite = np.isfinite(radius)
    if not finite[good].all():
        raise InputError("radius holds NaN or infinite values on good pixels")
    # Geometries may leave pixels of masked panels without a position.
    values = np.where(finite, radius, 0) if not finite.all() else radius
    return np.minimum(values / BIN_WIDTH, 65000).astype(np.uint16), True


def _pixel_state(
    good: NDArray[np.bool_], panels: NDArray[np.int16], with_panels: bool
) -> NDArray[np.uint8]:
    from scipy.ndimage import maximum_filter, minimum_filter

    size = 2 * SAFE + 1
    clear = minimum_filter(good.view(np.uint8), size, mode="constant", cval=0).astype(bool)
    if with_panels:
        clear &= maximum_filter(panels, size) == minimum_filter(panels, size)
    return np.where(good, np.where(clear, SAFE_PIXEL, NEAR_MASK), MASKED).astype(np.uint8)


def _block_ranges(bins: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    rows = np.arange(0, bins.shape[0], BLOCK_ROWS)
    cols = np.arange(0, bins.shape[1], BLOCK_COLS)
    lo = np.minimum.reduceat(np.minimum.reduceat(bins, rows, 0), cols, 1)
    hi = np.maximum.reduceat(np.maximum.reduceat(bins, rows, 0), cols, 1)
    return lo, hi


def _samples(
    good: NDArray[np.bool_], panels: NDArray[np.int16], bins: NDArray[np.uint16]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Choose pixels that, with their neighbour at `LAG`, sample every bin."""
    usable = good.copy()
    usable[:, -LAG:] = False
    usable[:, :-LAG] &= good[:, LAG:] & (panels[:, LAG:] == panels[:, :-LAG])
    n_bins = int(bins.max()) + 1
    step = max(1, round(usable.sum() / N_SAMPLES))
    # Whole rows keep the samples in few cache lines.
    in_rows = np.zeros_like(usable)
    in_rows[step // 2 :: step] = usable[step // 2 :: step]
    count = np.bincount(bins[in_rows], minlength=n_bins)
    poor = count < MIN_BIN_SAMPLES
    rest = np.flatnonzero((usable & ~in_rows & poor[bins]).ravel())
    if rest.size:
        order = np.random.default_rng(0).permutation(rest.size)
        rest_bins = bins.ravel()[rest[order]]
        by_bin = np.argsort(rest_bins, kind="stable")
        sorted_bins = rest_bins[by_bin]
        rank = np.arange(rest.size) - np.searchsorted(sorted_bins, sorted_bins)
        keep = rank < (MIN_BIN_SAMPLES - count)[sorted_bins]
        rest = rest[order][by_bin][keep]
    index = np.concatenate([np.flatnonzero(in_rows.ravel()), rest])
    index.sort()
    bin_of = bins.ravel()[index]
    order = np.argsort(bin_of, kind="stable")
    slot = np.empty_like(order)
    slot[order] = np.arange(order.size)
    start = np.searchsorted(bin_of[order], np.arange(n_bins + 1))
    return index.astype(np.int32), slot.astype(np.int32), start.astype(np.int64)


def _pairs(state: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Centres of windows, each with a partner 8 px to the right, far from any mask."""
    rows, cols = np.nonzero(state[::7, ::11] == SAFE_PIXEL)
    inside = cols * 11 > SAFE + 8
    rows, cols = rows[inside], cols[inside]
    keep = np.random.default_rng(0).permutation(rows.size)[:1600]
    return np.stack([rows[keep] * 7, cols[keep] * 11], 1).astype(np.int32)
