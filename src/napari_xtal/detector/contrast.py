"""Display limits that ignore gaps, markers and the few brightest pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels looked at; percentiles of a sample this large are steady to the eye.
_SAMPLE = 100_000
#: Side of the blocks whose medians tell the background [px], and the step within a block.
_BLOCK, _STEP = 32, 4


def highest_background(image: NDArray[Any], good: NDArray[np.bool_] | None = None) -> float:
    """Return the level of the brightest smooth part of a frame: a water ring, the beam's halo.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Pixel values.
    good : (ss, fs) ndarray of bool, optional
        Usable pixels; non-finite values are ignored anyway.

    Returns
    -------
    float
        Largest median of blocks of 32 x 32 pixels, which Bragg peaks hardly touch; NaN for
        smaller frames and when no block has enough usable pixels.
    """
    n_ss, n_fs = (n // _BLOCK for n in image.shape)
    if not (n_ss and n_fs):
        return float("nan")
    values = image[: n_ss * _BLOCK : _STEP, : n_fs * _BLOCK : _STEP].astype(np.float32)
    usable = np.isfinite(values)
    if good is not None:
        usable &= good[: n_ss * _BLOCK : _STEP, : n_fs * _BLOCK : _STEP]
    values[~usable] = np.inf
    side = _BLOCK // _STEP
    blocks = values.reshape(n_ss, side, n_fs, side).swapaxes(1, 2).reshape(-1, side * side)
    blocks = np.sort(blocks, axis=1)  # masked pixels come last
    count = np.isfinite(blocks).sum(axis=1)
    enough = count > side * side // 2
    if not enough.any():
        return float("nan")
    medians = blocks[enough, (count[enough] - 1) // 2]
    return float(medians.max())


def contrast_limits(
    image: NDArray[Any],
    good: NDArray[np.bool_] | None = None,
    percentiles: tuple[float, float] = (1.0, 99.5),
) -> tuple[float, float]:
    """Return display limits from a strided sample of the unmasked pixels.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Pixel values.
    good : (ss, fs) ndarray of bool, optional
        Usable pixels; non-finite values are ignored anyway.
    percentiles : (float, float)
        Lower and upper percentile, 0 to 100.

    Returns
    -------
    (float, float)
        Lower and upper limit, upper > lower; (0, 1) when no pixel is usable.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ParameterError(f"percentiles must satisfy 0 <= low < high <= 100, got {percentiles}")
    values = _sample(image, good)
    if values.size == 0 and image.size > _SAMPLE:
        values = _sample(image, good, everything=True)
    if values.size == 0:
        return (0.0, 1.0)
    lower, upper = (float(v) for v in np.percentile(values, (low, high)))
    if not upper > lower:
        # Mostly constant frames (sparse photons): show the range that exists.
        lower, upper = float(values.min()), float(values.max())
    return (lower, upper if upper > lower else lower + max(1.0, abs(lower) * 1e-6))


def _sample(
    image: NDArray[Any], good: NDArray[np.bool_] | None, everything: bool = False
) -> NDArray[np.float64]:
    # An odd stride in a flat view walks over all columns, so that stripes do not alias.
    step = 1 if everything else max(1, image.size // _SAMPLE) | 1
    values = image.reshape(-1)[::step]
    if good is not None:
        values = values[good.reshape(-1)[::step]]
    values = values.astype(np.float64)
    return values[np.isfinite(values)]
