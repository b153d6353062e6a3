"""What a support vector machine is told of a candidate: numbers measured in its window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError
from napari_xtal.peaks.find import n_processors
from napari_xtal.peaks.verify.patches import CORE, RING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.patches import Patches

#: Counts up when a feature changes its meaning: models trained on others are refused.
FEATURES_VERSION = 1

#: Name -> (what it is, value for a window in which nothing can be measured: centre masked,
#: fewer than 8 usable pixels, or all of them equal). All are free of gain and offset.
#: "Significance" is the variance-stabilised excess over the local background plane [sigma],
#: compressed by asinh.
FEATURES: dict[str, tuple[str, float]] = {
    "matched_07": ("significance of a Gaussian spot of sigma 0.7 px at the centre", 0.0),
    "matched_12": ("the same, sigma 1.2 px", 0.0),
    "matched_20": ("the same, sigma 2.0 px", 0.0),
    "matched_32": ("the same, sigma 3.2 px", 0.0),
    "centre": ("significance of the centre pixel", 0.0),
    "neighbours": ("significance of the 8 pixels around the brightest of the central 3x3", 0.0),
    "intensity": ("asinh of the sum over the spot [sigma of a pixel]", 0.0),
    "n_pixels": ("log(1 + pixels of the spot): 3x3 sums above 2.5 sigma and 20 % of its top", 0.0),
    "n_half": ("log(1 + pixels above half of the top)", 0.0),
    "max_minus_centre": ("window's maximum minus centre, compressed significance", 0.0),
    "dilation_minus_centre": ("grey dilation 5x5 minus centre, compressed significance", 0.0),
    "gradient": ("Gaussian gradient magnitude (sigma 1 px) at the centre, asinh [sigma/px]", 0.0),
    "gradient_around": ("its mean over the 8 pixels 2 px away", 0.0),
    "share_above": ("share of the window's usable pixels above 3 sigma", 0.0),
    "single_3": ("share of the 3x3 sum that is in its brightest pixel", 0.0),
    "single_5": ("the same for the 5x5 sum", 0.0),
    "quadrants": ("imbalance of the four quadrants of the central 7x7", 0.0),
    "point_asymmetry": ("deviation from point symmetry in the central 7x7", 0.0),
    "off_centre": ("distance of the spot's centroid from the window's centre [px]", 0.0),
    "width": ("root of the smaller second moment of the spot [px]", 0.0),
    "elongation": ("ratio of its long to its short axis", 1.0),
    "gyration": ("radius of gyration [px]", 0.0),
    "slope": ("slope of the background plane, asinh of 10 [sigma/px]", 0.0),
    "texture": ("log of the scatter of the rim's 3x3 sums over what its noise explains", 0.0),
    "rim_maximum": ("significance of the rim's brightest pixel", 0.0),
    "n_maxima": ("log(1 + other spots in the window: 3x3 sums above 4 sigma)", 0.0),
    "other_maximum": ("significance of the strongest of them", 0.0),
    "ridge": ("anisotropy of the structure tensor, 0 none to 1 parallel lines", 0.0),
    "line": ("significance of the best line through the centre, its weaker side", 0.0),
    "edge_distance": ("distance to the nearest unusable pixel [px], 14 when none", 14.0),
    "masked_share": ("share of unusable pixels", 0.0),
    "masked_core": ("share of unusable pixels in the central 5x5", 0.0),
}

#: Widths of the matched spots [px] and how far they are summed [px].
_WIDTHS = (0.7, 1.2, 2.0, 3.2)
_REACHES = (2, 3, 5, 7)
#: Directions in which lines are looked for.
_N_DIRECTIONS = 16
#: Lines are followed from here outwards [px].
_LINE_START = 4
#: Smallest half side of a window: the matched spots and the rim need it [px].
_SMALLEST_HALF = 7
#: Values beyond are no measurement; their squares would overflow [ADU].
_LARGEST = 1e15
#: Windows that one thread measures at a time.
_CHUNK = 512


def candidate_features(patches: Patches) -> pd.DataFrame:
    """Measure the features of candidates, in threads.

    Parameters
    ----------
    patches : Patches
        n windows of at least 15 px.

    Returns
    -------
    DataFrame
        (n, n_features) float64, columns in the order of `FEATURES`; finite for every
        window. The first five features of the founding method (intensity, gradient
        magnitude, grey dilation, max minus centre, share above threshold) are among them.

    Raises
    ------
    InputError
        When the windows are smaller than 15 px.
    """
    from napari_xtal.peaks.verify import feature_kernels

    n = len(patches)
    if patches.half < _SMALLEST_HALF:
        raise InputError(
            f"features need windows of {2 * _SMALLEST_HALF + 1} px or more, "
            f"got {2 * patches.half + 1}"
        )
    out = np.empty((n, len(FEATURES)))
    shapes = _shapes(patches.half)
    defaults = np.array([default for _, default in FEATURES.values()])
    rings = np.array([RING**2, CORE**2], np.int64)

    def work(start: int) -> None:
        part = slice(start, start + _CHUNK)
        values = patches.values[part]
        # NaN compares as False.
        usable = np.asarray(patches.usable[part], bool) & (np.abs(values) < _LARGEST)
        values = np.where(usable, values, np.float32(0)).astype(np.float32, copy=False)
        feature_kernels.measure(values, usable, rings, *shapes, defaults, out[part])

    starts = range(0, n, _CHUNK)
    if len(starts) < 2:
        for start in starts:
            work(start)
    else:
        with ThreadPoolExecutor(n_processors(), thread_name_prefix="features") as pool:
            list(pool.map(work, starts))
    # Values of wildly different size overflow: nothing was measured there.
    out[~np.isfinite(out).all(axis=1)] = defaults
    return pd.DataFrame(out, columns=list(FEATURES))


def _shapes(half: int) -> tuple[NDArray[Any], ...]:
    """Return profiles of spots, Gaussian of sigma 1, its derivative, pixels of lines."""
    reach = max(_REACHES)
    x = np.arange(-reach, reach + 1)
    profiles = np.array(
        [
            # Variance of a pixel added: the spot is seen through square pixels.
            np.where(abs(x) <= r, np.exp(-0.5 * x**2 / (w**2 + 1 / 12)), 0)
            for w, r in zip(_WIDTHS, _REACHES, strict=True)
        ]
    )
    x = np.arange(-3, 4)
    gauss = np.exp(-0.5 * x**2)
    gauss /= gauss.sum()
    angles = np.pi * np.arange(_N_DIRECTIONS) / _N_DIRECTIONS
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    steps = np.outer([-1, 1], np.arange(_LINE_START, half + 1))
    lines = half + np.rint(directions[:, None, None, :] * steps[None, :, :, None])
    return profiles, gauss, -x * gauss, lines.astype(np.int64)
