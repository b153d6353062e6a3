"""Which pixels may be used, and why the others may not.

A mask is kept as *reasons*, one bit per cause, so that a person can see why a pixel is
out. Sign rules differ between formats; they are collected in `mask_from_file`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Reason(IntFlag):
    """Why a pixel is marked; 0 = good."""

    GAP = 1  # between modules, or the whole module is missing
    MASKED = 2  # bad according to the mask of the file
    MARKER = 4  # largest value of the data type: "no value here"
    SATURATED = 8  # at or above the largest valid value: only a lower bound
    NON_FINITE = 16  # NaN or infinite
    UNDERLOAD = 32  # below the smallest valid value
    HOT = 64  # fires in too many frames
    USER = 128  # masked by the user


#: A saturated Bragg peak is still a peak: this reason alone leaves the pixel usable.
USABLE = Reason.SATURATED

#: CXI 1.6 mask bits that mean bad: invalid, saturated, hot, dead, shadowed, to be ignored,
#: bad, missing, noisy. The rest (in peak, resolution limit, has signal …) informs only.
CXI_BAD_BITS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x200 | 0x400
#: NXmx pixel_mask bits that mean bad (the low 16 bits; bit 31 marks virtual pixels).
NEXUS_BAD_BITS = 0xFFFF

#: Share of bad pixels above which a mask is probably inverted.
SUSPICIOUS_FRACTION = 0.5


def mask_from_file(values: NDArray[Any], rule: str) -> NDArray[np.uint8]:
    """Turn a mask as stored in a file into reasons.

    Parameters
    ----------
    values : (ss, fs) ndarray
        The stored mask, integer, boolean or float.
    rule : {"cxi", "nexus", "nonzero-bad", "nonzero-good"}
        What the numbers mean. ``cxi``: 0 good, bits of CXI 1.6 (`CXI_BAD_BITS`; bit 1 is
        *saturated* there even where a program uses it for chip borders). ``nexus``: 0
        good, bit 0 gap. ``nonzero-bad``: pyFAI, silx, SACLA, LUTE. ``nonzero-good``:
        psana, psocake, SwissFEL, Cheetah bad-pixel maps.

    Returns
    -------
    (ss, fs) ndarray of uint8
        `Reason` bits, 0 = good.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        # A mask saved as float: NaN means nothing was recorded there, so it is bad.
        values = np.nan_to_num(values, nan=1.0 if rule != "nonzero-good" else 0.0) != 0
    if values.dtype.kind not in "iub":
        raise InputError(f"mask: expected integers or booleans, got {values.dtype}")
    reasons = np.zeros(values.shape, dtype=np.uint8)
    if rule == "nonzero-good":
        reasons[values == 0] = Reason.MASKED
    elif rule == "nonzero-bad":
        reasons[values != 0] = Reason.MASKED
    elif rule == "cxi":
        bits = values.astype(np.int64) & CXI_BAD_BITS
        reasons[bits != 0] = Reason.MASKED
        reasons[(bits & 0x200) != 0] |= np.uint8(Reason.GAP)
    elif rule == "nexus":
        bits = values.astype(np.int64) & NEXUS_BAD_BITS
        reasons[bits != 0] = Reason.MASKED
        reasons[(bits & 1) != 0] = Reason.GAP
    else:
        raise InputError(f"mask: unknown rule '{rule}'")
    return reasons


def is_good(reasons: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the boolean mask (True = usable) of an array of reasons."""
    return (reasons & np.uint8(0xFF ^ USABLE)) == 0


def bad_fraction(good: NDArray[np.bool_]) -> float:
    """Share of pixels that may not be used, 0 to 1."""
    return 1.0 - np.count_nonzero(good) / good.size if good.size else 0.0


def fractions(reasons: NDArray[np.uint8]) -> dict[str, float]:
    """Share of pixels per reason (a pixel can have several), by name in lower case."""
    return {
        str(reason.name).lower(): float(np.count_nonzero(reasons & np.uint8(reason)) / reasons.size)
        for reason in Reason
    }


@dataclass(frozen=True)
class ValueRules:
    """Which pixel values are not measurements.

    Attributes
    ----------
    marker : float or None
        Value that stands for "no measurement", such as 2^16 - 1. It and anything above
        is marked.
    marker_is_saturation : bool
        Whether pixels at the marker are saturated (the file has a pixel mask of its own,
        so gaps are covered by that) rather than gaps.
    saturation : float or None
        Largest valid value (inclusive).
    underload : float or None
        Smallest valid value (inclusive).
    negative_codes : bool
        Signed integers in which -1 marks gaps and -2 bad pixels (DECTRIS convention).
        Applied only to frames whose minimum is not below -2: lower values show that
        negative numbers are measurements (pedestal-subtracted detectors).
    """

    marker: float | None = None
    marker_is_saturation: bool = False
    saturation: float | None = None
    underload: float | None = None
    negative_codes: bool = False


class Marks(NamedTuple):
    """Automatic marks of one frame; None where no pixel is concerned."""

    bad: NDArray[np.uint8] | None
    saturated: NDArray[np.bool_] | None
    low: float
    high: float


def type_marker(dtype: np.dtype[Any], bit_depth: int | None = None) -> int | None:
    """Return the "no value" marker 2^n - 1 of unsigned data, None for other types.

    Parameters
    ----------
    dtype : dtype
        Type of the stored pixels.
    bit_depth : int, optional
        Bits of the image as declared; a 16-bit image stored as uint32 marks with 65535.
    """
    bits = bit_depth if bit_depth in (8, 16, 32) else None
    if dtype.kind == "u":
        return 2 ** min(bits or 64, dtype.itemsize * 8) - 1
    if dtype.kind == "i" and bits and bits < dtype.itemsize * 8:
        return int(2**bits - 1)
    return None


def automatic_marks(
    image: NDArray[Any], rules: ValueRules, good: NDArray[np.bool_] | None = None
) -> Marks:
    """Mark pixels by their value.

    Minimum and maximum decide first, so that a clean frame costs two passes.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Raw values.
    rules : ValueRules
        Which values are not measurements.
    good : (ss, fs) ndarray of bool, optional
        Known mask; saturation is reported for good pixels only.

    Returns
    -------
    Marks
        Reasons for bad pixels, saturated good pixels, minimum and maximum of the frame.
    """
    if image.size == 0:
        return Marks(None, None, 0.0, 0.0)
    low, high = image.min(), image.max()
    found: list[tuple[Reason, NDArray[np.bool_]]] = []
    if image.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(image)
        found.append((Reason.NON_FINITE, ~finite))
        usable = image[finite]
        low, high = (usable.min(), usable.max()) if usable.size else (image.dtype.type(0),) * 2
    found += _bad_values(image, rules, low, high)
    bad: NDArray[np.uint8] | None = None
    for reason, where in found:
        if where.any():
            bad = np.zeros(image.shape, dtype=np.uint8) if bad is None else bad
            bad[where] |= np.uint8(reason)
    saturated = _saturated(image, rules, high)
    if saturated is not None:
        if bad is not None:
            saturated &= bad == 0
        if good is not None:
            saturated &= good
        if not saturated.any():
            saturated = None
    return Marks(bad, saturated, float(low), float(high))


def _bad_values(
    image: NDArray[Any], rules: ValueRules, low: Any, high: Any
) -> list[tuple[Reason, NDArray[np.bool_]]]:
    found: list[tuple[Reason, NDArray[np.bool_]]] = []
    if rules.negative_codes and image.dtype.kind == "i" and -2 <= low < 0:
        found += [(Reason.GAP, image == -1), (Reason.MASKED, image == -2)]
    if rules.underload is not None and low < rules.underload:
        found.append((Reason.UNDERLOAD, image < rules.underload))
    if rules.marker is not None and not rules.marker_is_saturation and high >= rules.marker:
        found.append((Reason.MARKER, image >= rules.marker))
    return found


def _saturated(image: NDArray[Any], rules: ValueRules, high: Any) -> NDArray[np.bool_] | None:
    # The saturation value itself is still valid, but a marker is not.
    if rules.saturation is not None and high > rules.saturation:
        return np.asarray(image > rules.saturation)
    if rules.marker is not None and rules.marker_is_saturation and high >= rules.marker:
        return np.asarray(image >= rules.marker)
    return None


def constant_hot_pixels(
    frames: Iterable[NDArray[Any]],
    good: NDArray[np.bool_] | None = None,
    *,
    fraction: float = 0.05,
    n_sigma: float = 8.0,
    min_frames: int = 10,
) -> NDArray[np.bool_]:
    """Find pixels that fire in too many frames to be diffraction.

    A pixel fires when it exceeds the largest of its eight neighbours by `n_sigma` times
    the square root of that neighbour (at least 1): a Bragg peak is wider than one pixel,
    so its neighbours rise with it.

    Parameters
    ----------
    frames : iterable of (ss, fs) ndarray
        A sample of the run, spread over it.
    good : (ss, fs) ndarray of bool, optional
        Pixels to look at.
    fraction : float
        Share of frames, 0 to 1, above which a firing pixel is called hot.
    n_sigma : float
        How far a pixel must stand out.
    min_frames : int
        Below this number of frames nothing is called hot: one spot would be 5 % of 20.

    Returns
    -------
    (ss, fs) ndarray of bool
        True at hot pixels.
    """
    from scipy.ndimage import maximum_filter

    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    counts: NDArray[np.int32] | None = None
    n = 0
    for image in frames:
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
        if good is not None:
            values = np.where(good, values, np.float32(0))
        around = maximum_filter(values, footprint=ring, mode="nearest")
        fires = values > around + n_sigma * np.sqrt(np.maximum(around, 1.0))
        counts = fires.astype(np.int32) if counts is None else counts + fires
        n += 1
    if counts is None:
        raise InputError("hot pixels: no frames were given")
    if n < min_frames:
        return np.zeros(counts.shape, dtype=bool)
    return np.asarray(counts > max(fraction * n, 2.0))
