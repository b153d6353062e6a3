"""Windows of pixels around positions, raw values as the file has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Cutout:
    """One window.

    Attributes
    ----------
    values : (2 * half + 1, 2 * half + 1) ndarray
        Raw pixel values, 0 beyond the border of the frame.
    good : (2 * half + 1, 2 * half + 1) ndarray of bool
        Usable pixels.
    inside : (2 * half + 1, 2 * half + 1) ndarray of bool
        Pixels of the frame.
    row, col : int
        Pixel in the middle.
    """

    values: NDArray[Any]
    good: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    row: int
    col: int

    @property
    def half(self) -> int:
        """Half side of the window."""
        return self.values.shape[0] // 2

    def shrunk(self, half: int) -> Cutout:
        """Return the middle of this window."""
        cut = slice(self.half - half, self.half + half + 1)
        parts = (a[cut, cut] for a in (self.values, self.good, self.inside))
        return Cutout(*parts, self.row, self.col)


@dataclass(frozen=True)
class Cutouts:
    """Windows of many positions of one frame; see `Cutout`.

    Attributes
    ----------
    values, good : (n, 2 * half + 1, 2 * half + 1) ndarray
    rows, cols : (n,) ndarray of int64
    shape : (int, int)
        Shape of the frame.
    """

    values: NDArray[Any]
    good: NDArray[np.bool_]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    shape: tuple[int, int]

    def __getitem__(self, k: int) -> Cutout:
        row, col = int(self.rows[k]), int(self.cols[k])
        half = self.values.shape[-1] // 2
        reach = np.arange(-half, half + 1)
        inside_r = (row + reach >= 0) & (row + reach < self.shape[0])
        inside_c = (col + reach >= 0) & (col + reach < self.shape[1])
        inside = inside_r[:, None] & inside_c
        return Cutout(self.values[k], self.good[k], inside, row, col)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes + self.good.nbytes


def cut(image: NDArray[Any], good: NDArray[np.bool_], rows: Any, cols: Any, half: int) -> Cutouts:
    """Return the windows around positions of one frame.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Pixel values.
    good : (ss, fs) ndarray of bool
        Usable pixels.
    rows, cols : (n,) array_like of float
        Positions [px]; the nearest pixel is in the middle.
    half : int
        Half side of the windows.

    Returns
    -------
    Cutouts
        Copies, in the dtype of `image`.
    """
    n_ss, n_fs = image.shape
    centre_r = np.rint(np.asarray(rows, dtype=np.float64)).astype(np.int64)
    centre_c = np.rint(np.asarray(cols, dtype=np.float64)).astype(np.int64)
    reach = np.arange(-half, half + 1)
    r = centre_r[:, None, None] + reach[:, None]
    c = centre_c[:, None, None] + reach
    inside = (r >= 0) & (r < n_ss) & (c >= 0) & (c < n_fs)
    at = (r.clip(0, n_ss - 1), c.clip(0, n_fs - 1))
    values = image[at]
    values[~inside] = 0
    return Cutouts(values, good[at] & inside, centre_r, centre_c, (n_ss, n_fs))
