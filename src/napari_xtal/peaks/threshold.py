"""Peak search by a threshold in data units: values above it that are local maxima.

No geometry and no model of the noise is needed. A peak is a usable pixel above the
threshold that none of its 8 neighbours on the same panel exceeds; neighbours of the
same value make a plateau, which counts once. Pixels at the border of frame, panel or
mask count too. With `median_filter` the median of a window around each pixel is subtracted
first, and the threshold applies to what remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import ParameterError
from napari_xtal.peaks import spots
from napari_xtal.peaks import threshold_kernels as k
from napari_xtal.peaks.plan import MASKED
from napari_xtal.peaks.table import peak_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.peaks.parameters import PeakFinderParams
    from napari_xtal.peaks.plan import DetectorPlan


def find(
    image: NDArray[Any],
    plan: DetectorPlan,
    radius: NDArray[Any] | None,
    params: PeakFinderParams,
    frame: int,
    geometry: Callable[..., tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
) -> pd.DataFrame:
    """Find the local maxima above a threshold on one frame.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Frame; NaN and infinite pixels are not used.
    plan : DetectorPlan
        Mask and panels.
    radius : (ss, fs) ndarray or None
        Distance from the beam centre [px]; without it resolution limits do not act.
    params : PeakFinderParams
        Parameters.
    frame : int
        Number for the column ``frame``.
    geometry : callable
        Radius, 1/d and panel at (rows, columns) of pixels.

    Returns
    -------
    DataFrame
        Peak table. Position (background-subtracted centroid) and ``intensity`` come
        from a window of 5x5 px around the maximum, ``background`` and ``sigma`` from the
        pixels below the threshold in a ring of 4 to 7 px, farther out where peaks fill it.
        ``snr`` is the intensity over sigma and the square root of the window's pixels;
        ``n_pixels`` counts the connected pixels above the threshold. Where two peaks are
        too near, or there are too many, those of higher maximum are kept.

    Raises
    ------
    ParameterError
        When no threshold is given and no median filter either.

    Notes
    -----
    The running median costs time in proportion to the area of its window: about 1 s per
    4.5 Mpx for 5 px, 5 s for 11 px.
    """
    if params.threshold <= 0 and not params.median_filter:
        raise ParameterError(
            f"threshold = {params.threshold:g}: the threshold method needs a threshold above 0 ADU; "
            "set one that stands clear of the background, or a median_filter that removes it"
        )
    state = plan.state
    if params.beam_stop_radius and radius is not None:
        state = np.where(radius >= params.beam_stop_radius, state, np.uint8(MASKED))
    values = image
    if params.median_filter:
        values = np.empty(image.shape, np.float32)
        k.subtract_median(image, state, plan.panels, params.median_filter // 2, values)
    marks = np.zeros(image.shape, np.uint8)
    n_marked = k.mark_above(values, state, params.threshold, marks)
    maxima = k.maxima(
        values, plan.panels, marks, n_marked, params.min_pix_count, params.max_pix_count
    )
    found = np.empty((len(maxima), k.N_COLUMNS))
    k.measure(image, values, state, plan.panels, marks, maxima, found)
    found = found[_kept(found, radius, params)]
    rows, cols = _pixels(found)
    _, inv_d, panel = geometry(rows, cols)
    return peak_frame(found, frame, panel, inv_d)


def _pixels(found: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.rint(found[:, spots.ROW]).astype(np.int64), np.rint(found[:, spots.COL]).astype(
        np.int64
    )


def _kept(
    found: NDArray[np.float64], radius: NDArray[Any] | None, params: PeakFinderParams
) -> NDArray[np.int64]:
    """Return the peaks that pass the tests on the whole list, in reading order."""
    order = np.lexsort((-found[:, spots.INTENSITY], -found[:, k.HEIGHT]))
    if radius is not None and (params.min_res or params.max_res):
        r = radius[_pixels(found)][order]
        inside = r >= params.min_res
        if params.max_res:
            inside &= r <= params.max_res
        order = order[inside]
    if params.min_distance > 0 and order.size > 1:
        order = order[~k.too_near(found, order, params.min_distance)]
    kept = order[: params.max_peaks]
    return kept[np.lexsort((found[kept, spots.COL], found[kept, spots.ROW]))]
