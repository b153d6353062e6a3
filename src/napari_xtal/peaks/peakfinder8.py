"""Peak search compatible with peakfinder8 of Cheetah, CrystFEL and OM.

The parameters, their defaults and the order of the tests are peakfinder8's
(Barty et al. 2014, J. Appl. Cryst. 47, 1118), so that settings can be carried over
and results compared:

1. Usable pixels between `min_res` and `max_res` fall into radius bins of one pixel.
2. Five rounds of clipping give each bin a mean and a standard deviation; a pixel
   above ``mean + min_snr * sd`` and `threshold` may belong to a peak.
3. On each panel, such pixels that touch (8 neighbours) make a blob. Blobs that lie
   in the outermost row or column of their panel only are left out.
4. `min_pix_count` to `max_pix_count` pixels.
5. The background is the mean of the pixels below their limits in a disc of radius
   ``2 * local_bg_radius``.
6. The background-subtracted sum over the local standard deviation is at least `min_snr`.
7. The blob's highest pixel is not below the highest one of the background.

It differs in four points. The centroid is weighted with the background-subtracted
values; with the original's raw ones the background pulls it to the middle of the blob.
When there are more than `max_peaks`, those of highest `snr` are kept instead of the
first ones in reading order. A background without scatter, where the original divides by
zero, gets the standard deviation that it uses for an empty disc, 0.01. Positions are
pixel centres, half a pixel less than the original's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.peaks import peakfinder8_kernels as k
from napari_xtal.peaks import spots
from napari_xtal.peaks.plan import MASKED
from napari_xtal.peaks.table import peak_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.peaks.parameters import PeakFinderParams
    from napari_xtal.peaks.plan import DetectorPlan

#: What `min_snr` 0 means: CrystFEL's default.
DEFAULT_MIN_SNR = 5.0
MAX_RINGS = 65_000


@dataclass(frozen=True)
class Rings:
    """Radius bins of one mask and geometry.

    Attributes
    ----------
    index : (ss, fs) uint16
        Radius in whole pixels; `count` where a pixel must not be used.
    count : int
        Number of bins.
    """

    index: NDArray[np.uint16]
    count: int


def make_rings(plan: DetectorPlan, radius: NDArray[Any], params: PeakFinderParams) -> Rings:
    """Sort the pixels into radius bins of one pixel.

    Parameters
    ----------
    plan : DetectorPlan
        Mask of the detector.
    radius : (ss, fs) ndarray
        Distance from the beam centre [px].
    params : PeakFinderParams
        `min_res`, `max_res` and `beam_stop_radius` matter here.

    Returns
    -------
    Rings
    """
    usable = (plan.state != MASKED) & np.isfinite(radius)
    if params.min_res:
        usable &= radius > params.min_res
    if params.max_res:
        usable &= radius < params.max_res
    if params.beam_stop_radius:
        usable &= radius >= params.beam_stop_radius
    index = np.rint(np.clip(np.nan_to_num(radius), 0, MAX_RINGS)).astype(np.uint16)
    count = int(index.max(initial=0, where=usable)) + 1
    index[~usable] = count
    return Rings(index, count)


def find(
    image: NDArray[Any],
    plan: DetectorPlan,
    rings: Rings,
    params: PeakFinderParams,
    frame: int,
    geometry: Callable[..., tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
) -> pd.DataFrame:
    """Find the peaks of one frame as peakfinder8 does.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Frame; NaN and infinite pixels are not used.
    plan : DetectorPlan
        Mask and panels.
    rings : Rings
        Radius bins, from `make_rings` with the same parameters.
    params : PeakFinderParams
        Parameters.
    frame : int
        Number for the column ``frame``.
    geometry : callable
        Radius, 1/d and panel at (rows, columns) of pixels.

    Returns
    -------
    DataFrame
        Peak table. ``intensity`` is the background-subtracted sum over the blob,
        ``background`` and ``sigma`` are those of the disc, ``snr`` is
        ``intensity / sigma``: not divided by the square root of the number of
        pixels, hence no significance and larger for larger peaks.
    """
    min_snr = params.min_snr or DEFAULT_MIN_SNR
    mean, limits = k.radial_limits(image, rings.index, rings.count, min_snr, params.threshold)
    upper = np.append(limits, np.inf)
    marks = np.zeros(image.shape, np.uint8)
    n_marked = k.mark_above(image, rings.index, upper, marks)
    found = k.blobs(
        image, rings.index, plan.panels, mean, upper, marks, n_marked, min_snr,
        params.min_pix_count, params.max_pix_count, 2 * params.local_bg_radius,
    )  # fmt: skip
    if len(found) > params.max_peaks:
        strongest = np.argsort(-found[:, spots.SNR], kind="stable")[: params.max_peaks]
        found = found[np.sort(strongest)]
    rows, cols = (np.rint(found[:, i]).astype(np.int64) for i in (spots.ROW, spots.COL))
    _, inv_d, panel = geometry(rows, cols)
    return peak_frame(found, frame, panel, inv_d)
