"""The plainest test for a peak, and the picture of labels: 1 on peaks, 255 on masked pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, ParameterError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Pixel values of a label image.
BACKGROUND, PEAK, IGNORE = 0, 1, 255
#: Largest radius of a disc [px]; no Bragg spot is wider.
MAX_RADIUS = 100.0


def is_peak(
    image: NDArray[Any],
    row: float,
    col: float,
    half: int = 2,
    good: NDArray[np.bool_] | None = None,
) -> bool:
    """Whether a pixel is the maximum of its window and stands above it.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Pixel values.
    row, col : float
        Position [px]; the pixel is the nearest one.
    half : int
        The window has (2 half + 1)² pixels, fewer at the edges of the frame.
    good : (ss, fs) ndarray of bool, optional
        Usable pixels. NaN and the largest value of an unsigned type never are.

    Returns
    -------
    bool
        True when the centre is usable, no usable pixel of the window is higher, the centre
        is above the window's median, and no usable pixel of the same value comes before it
        in row order (of a plateau only the first pixel is a peak). Masked neighbours do not
        count. False outside the frame.

    Raises
    ------
    InputError
        When image and mask differ in shape or the position is not finite.
    ParameterError
        When `half` is less than 1.
    """
    from napari_xtal.peaks.find import default_mask

    image = np.asarray(image)
    if image.ndim != 2:
        raise InputError(f"is_peak: expected a 2-D image, got shape {image.shape}")
    if good is not None and good.shape != image.shape:
        raise InputError(f"is_peak: mask {good.shape} and image {image.shape} differ in shape")
    if half < 1:
        raise ParameterError(f"is_peak: half must be at least 1, not {half}")
    if not (np.isfinite(row) and np.isfinite(col)):
        raise InputError(f"is_peak: position ({row}, {col}) is not finite")
    r, c = round(row), round(col)
    if not (0 <= r < image.shape[0] and 0 <= c < image.shape[1]):
        return False
    top, left = max(r - half, 0), max(c - half, 0)
    place = np.s_[top : r + half + 1, left : c + half + 1]
    window = image[place]
    usable = default_mask(window)
    if good is not None:
        usable = usable & good[place]
    centre = (r - top) * window.shape[1] + c - left
    values, use = window.ravel(), usable.ravel()
    if not use[centre]:
        return False
    top_value = values[centre]
    if (values[use] > top_value).any() or (values[:centre] == top_value)[use[:centre]].any():
        return False
    return bool(top_value > np.median(values[use]))


def confirmed(peaks: pd.DataFrame) -> pd.DataFrame:
    """Return the rows labelled ``peak``; all rows when no row has been labelled at all."""
    if "label" not in peaks.columns:
        return peaks
    labels = peaks["label"].to_numpy(dtype=object)
    return peaks if (labels == "unlabelled").all() else peaks[labels == "peak"]


def label_image(
    shape: tuple[int, int],
    peaks: pd.DataFrame,
    radius: float = 2.0,
    good: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return the label image of one frame: discs around its confirmed peaks.

    Parameters
    ----------
    shape : (int, int)
        Size (ss, fs) of the frame.
    peaks : DataFrame
        Peaks of one frame: row, col [px]. When any row has a label, only those labelled
        ``peak`` are drawn, otherwise all.
    radius : float
        Radius of the discs [px] about the nearest pixel; 0 marks single pixels.
    good : (ss, fs) ndarray of bool, optional
        Usable pixels.

    Returns
    -------
    (ss, fs) ndarray of uint8
        1 on peaks, 0 elsewhere, 255 (ignore) on unusable pixels, also inside discs.

    Raises
    ------
    InputError
        Peaks outside the frame or of several frames, or a mask of another shape.
    ParameterError
        A radius outside 0 … 100 px.
    """
    shape = (int(shape[0]), int(shape[1]))
    if "frame" in peaks.columns and peaks["frame"].nunique() > 1:
        raise InputError(
            f"label_image: the peaks lie on {peaks['frame'].nunique()} frames; give those of one"
        )
    out = draw_discs(shape, confirmed(peaks), radius)
    if good is not None:
        if good.shape != shape:
            raise InputError(f"label_image: mask {good.shape} and frame {shape} differ in shape")
        out[~good] = IGNORE
    return out


def draw_discs(shape: tuple[int, int], peaks: pd.DataFrame, radius: float) -> NDArray[np.uint8]:
    """Return an image with 1 within `radius` of every given peak, labels ignored; 0 elsewhere."""
    if not (np.isfinite(radius) and 0 <= radius <= MAX_RADIUS):
        raise ParameterError(f"radius must lie between 0 and {MAX_RADIUS:g} px, not {radius}")
    for name in ("row", "col"):
        if name not in peaks.columns:
            raise InputError(f"label_image: the peaks lack the column '{name}'")
    places = peaks[["row", "col"]].to_numpy(dtype=np.float64)
    if not np.isfinite(places).all():
        raise InputError("label_image: row or col holds NaN or infinite values")
    centres = np.rint(places).astype(np.int64)
    outside = ((centres < 0) | (centres >= shape)).any(axis=1)
    if outside.any():
        row, col = places[int(np.argmax(outside))]
        raise InputError(
            f"label_image: the peak at row {row:g}, col {col:g} lies outside a frame of {shape}; "
            "are these the peaks of this run?"
        )
    reach = int(radius)
    offsets = np.arange(-reach, reach + 1)
    near = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2
    disc = np.argwhere(near) - reach
    pixels = (centres[:, None, :] + disc[None, :, :]).reshape(-1, 2)
    pixels = pixels[((pixels >= 0) & (pixels < shape)).all(axis=1)]
    out = np.full(shape, BACKGROUND, np.uint8)
    out[pixels[:, 0], pixels[:, 1]] = PEAK
    return out
