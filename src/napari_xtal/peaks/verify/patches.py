"""Windows around candidates, cut out of frames and normalised for the verifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.find import in_threads, n_processors
from napari_xtal.peaks.table import validate
from napari_xtal.peaks.verify.normalisation import CORE, RING, normalise

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame
    from napari_xtal.peaks.find import FrameSourceLike

#: Half side of the verifier's window [px]: spots up to sigma 4 px with their surroundings.
HALF = 13
__all__ = [
    "CORE",
    "HALF",
    "RING",
    "Patches",
    "extract_patches",
    "for_each_frame",
    "normalise",
    "patches_in",
]


@dataclass(frozen=True)
class Patches:
    """Square windows around positions, as they were measured.

    Attributes
    ----------
    values : (n, side, side) ndarray of float32
        Pixel values [ADU], 0 where unusable.
    usable : (n, side, side) ndarray of bool
        False for masked, marked, not finite and off-frame pixels.
    """

    values: NDArray[np.float32]
    usable: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] % 2 == 0:
            raise InputError(f"patches: expected (n, side, side) with odd side, got {shape}")
        if np.shape(self.usable) != shape:
            raise InputError(
                f"patches: values have shape {shape}, usable {np.shape(self.usable)}; "
                "they must agree"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def half(self) -> int:
        """Half side of the window [px]."""
        return self.values.shape[1] // 2

    @property
    def has_signal(self) -> NDArray[np.bool_]:
        """Whether the centre's 3x3 neighbourhood has a usable pixel, (n,)."""
        h = self.half
        near = self.usable[:, max(h - 1, 0) : h + 2, max(h - 1, 0) : h + 2]
        return np.asarray(near.any(axis=(1, 2)))

    def take(self, rows: Any) -> Patches:
        """Return some of the windows, by index, slice or mask."""
        return Patches(self.values[rows], self.usable[rows])

    @classmethod
    def empty(cls, n: int, half: int = HALF) -> Patches:
        """Return `n` windows without a usable pixel."""
        shape = (n, 2 * half + 1, 2 * half + 1)
        return cls(np.zeros(shape, np.float32), np.zeros(shape, bool))

    @classmethod
    def join(cls, parts: list[Patches]) -> Patches:
        """Put windows of equal size one behind the other.

        Raises
        ------
        InputError
            When there are none, or the sizes differ.
        """
        if not parts or len({p.half for p in parts}) > 1:
            raise InputError("patches: give one or more sets of windows of the same size")
        return cls(
            np.concatenate([p.values for p in parts]), np.concatenate([p.usable for p in parts])
        )


def extract_patches(
    image: NDArray[Any],
    rows: Any,
    cols: Any,
    good: NDArray[np.bool_] | None = None,
    *,
    half: int = HALF,
) -> Patches:
    """Cut out the window around each position of one frame.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Frame, integers or floats [ADU].
    rows, cols : (n,) array_like
        Positions [px]; the window's centre is the nearest pixel.
    good : (ss, fs) ndarray of bool, optional
        True where a pixel may be used. NaN and the largest value of an unsigned type
        (the marker of gaps) are never used.
    half : int
        Half side of the window [px].

    Returns
    -------
    Patches
        Windows of ``2 * half + 1`` px; what lies outside the frame is unusable.

    Raises
    ------
    InputError
        When shapes differ, the frame is not a 2-D numeric array or positions are not finite.
    """
    image = _checked_image(image)
    rows, cols = np.asarray(rows, np.float64).ravel(), np.asarray(cols, np.float64).ravel()
    if rows.shape != cols.shape:
        raise InputError(f"positions: {rows.size} rows but {cols.size} columns")
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        raise InputError("positions: rows and columns must be finite numbers")
    if half < 1:
        raise ParameterError(f"half must be 1 or more, got {half}")
    return _cut_out(image, rows, cols, good, half)


def _checked_image(image: NDArray[Any]) -> NDArray[Any]:
    """Return the frame in a type that compiled code takes."""
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"a frame must be 2-D (ss, fs), not empty; got shape {image.shape}")
    if image.dtype.kind not in "iufb":
        raise InputError(f"the frame has type {image.dtype}; give integers or floats")
    if image.dtype.kind == "b":
        return image.view(np.uint8).astype(np.int16)
    if image.dtype.kind == "f" and image.dtype.itemsize not in (4, 8):
        return image.astype(np.float32)
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def _cut_out(
    image: NDArray[Any],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    good: NDArray[np.bool_] | None,
    half: int,
) -> Patches:
    """Cut the windows out of a checked frame."""
    from napari_xtal.peaks.verify import patch_kernels

    masked = good is not None
    if good is None:
        good = np.ones((1, 1), bool)
    good = np.asarray(good).astype(bool, copy=False)
    if masked and good.shape != image.shape:
        raise InputError(
            f"the frame has shape {image.shape}, the mask {good.shape}; they must agree"
        )
    marked = image.dtype.kind == "u"
    marker = image.dtype.type(np.iinfo(image.dtype).max if marked else 0)
    limit = 2.0**31  # far outside any frame, so that adding the window cannot overflow
    values = np.empty((rows.size, 2 * half + 1, 2 * half + 1), np.float32)
    usable = np.empty(values.shape, bool)
    patch_kernels.extract(
        image, good, masked, marker, marked,
        np.rint(np.clip(rows, -limit, limit)).astype(np.int64),
        np.rint(np.clip(cols, -limit, limit)).astype(np.int64),
        half, values, usable,
    )  # fmt: skip
    return Patches(values, usable)


def patches_in(
    src: FrameSourceLike,
    table: pd.DataFrame,
    *,
    half: int = HALF,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Patches:
    """Cut out the windows of a whole run's peaks, every frame read once, in threads.

    Parameters
    ----------
    src : FrameSource
        Frames.
    table : DataFrame
        Peak table.
    half : int
        Half side of the window [px].
    progress : callable, optional
        Called with (done, total) after each frame, from this thread.
    cancel : callable, optional
        Asked after each frame; True stops and returns what is there.

    Returns
    -------
    Patches
        One window per row of the table, in its order. Those of frames that cannot be read
        or were not reached have no usable pixel.

    Raises
    ------
    InputError
        When the table is not valid or names frames the run does not have.
    """
    patches = Patches.empty(len(table), half)

    def work(frame: Frame, rows: NDArray[np.int64], part: pd.DataFrame) -> None:
        row, col = part["row"].to_numpy(float), part["col"].to_numpy(float)
        some = _cut_out(_checked_image(frame.image), row, col, frame.good, half)
        patches.values[rows], patches.usable[rows] = some.values, some.usable

    for_each_frame(src, table, work, progress=progress, cancel=cancel)
    return patches


def for_each_frame(
    src: FrameSourceLike,
    table: pd.DataFrame,
    work: Callable[[Frame, NDArray[np.int64], pd.DataFrame], None],
    *,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> None:
    """Call `work` in threads with each readable frame of a table, its row numbers and rows.

    Raises
    ------
    InputError
        When the table is not valid or names frames the run does not have.
    """
    checked = validate(table, len(src))
    frames = checked["frame"].to_numpy()
    order = np.argsort(frames, kind="stable")
    starts = np.flatnonzero(np.diff(frames[order], prepend=-1))
    groups = {int(frames[g[0]]): g for g in np.split(order, starts[1:]) if len(g)}

    def one(index: int) -> None:
        frame = src.frame(index)
        if frame.ok and frame.image.shape == frame.good.shape:
            rows = groups[index]
            work(frame, rows, checked.iloc[rows])

    for done, _ in enumerate(in_threads(one, list(groups), n_processors(), cancel), 1):
        if progress is not None:
            progress(done, len(groups))
