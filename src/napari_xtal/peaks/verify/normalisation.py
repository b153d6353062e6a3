"""Windows in units of their own noise: what does not depend on the detector."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.peaks.find import n_processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.peaks.verify.patches import Patches

#: The background is taken at least this far from the centre [px]; with few pixels there,
#: as near as the second radius.
RING, CORE = 8, 4
#: Half side of the middle that `foveate` keeps in full resolution [px].
FINE = 7
#: Widths (sigma) of the spots that `foveate` looks for in the centre [px].
WIDTHS = (0.6, 1.0, 1.6, 2.5, 4.0)
#: Windows that one thread normalises at a time.
_CHUNK = 1024


def normalise(patches: Patches) -> NDArray[np.float32]:
    """Turn windows into what does not depend on the detector's gain and offset.

    The local background is a clipped plane through the pixels outside the centre, the
    noise that of the same pixels. Values become Poisson counts in units of the smallest
    step of the data (its quantum), shifted so that their variance is the measured one;
    their variance-stabilised excess (Anscombe 1948) is a significance that is linear where
    the quantum is small against the noise, and right for single photons too. A fourth root
    tames strong peaks.

    Parameters
    ----------
    patches : Patches
        n windows.

    Returns
    -------
    (n, 2, side, side) ndarray of float32
        Compressed significance (0 where unusable) and 1 where usable.
    """
    out = np.empty((len(patches), 2, *patches.values.shape[1:]), np.float32)
    _in_chunks("significance", patches, out)
    return out


def foveate(
    patches: Patches,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Normalise windows like `normalise`, in full resolution in the middle only.

    Parameters
    ----------
    patches : Patches
        n windows whose side is a multiple of 3 px.

    Returns
    -------
    fine : (n, 3, 15, 15) ndarray of float32
        The middle: compressed significance, 1 where usable, and the compressed
        significance of the sum over the 3x3 neighbourhood.
    coarse : (n, 2, side / 3, side / 3) ndarray of float32
        The whole window in bins of 3x3 px: compressed significance of the bin's sum, and
        the bin's share of usable pixels.
    whole : (n, 8) ndarray of float32
        The compressed significance of a Gaussian spot in the centre for each of `WIDTHS`,
        the logarithm of the noise in quanta, the slope of the background and the share of
        usable pixels.

    Raises
    ------
    InputError
        When the window does not fit.
    """
    n, side = len(patches), patches.values.shape[1]
    if side % 3 or side < 2 * FINE + 3:
        raise InputError(
            f"patches: a window of {side} px cannot be binned; take a multiple of 3, "
            f"at least {2 * FINE + 3} px"
        )
    fine = np.empty((n, 3, 2 * FINE + 1, 2 * FINE + 1), np.float32)
    coarse = np.empty((n, 2, side // 3, side // 3), np.float32)
    whole = np.empty((n, len(WIDTHS) + 3), np.float32)
    _in_chunks("foveate", patches, fine, coarse, whole, constants=(_profiles(side),))
    return fine, coarse, whole


@lru_cache(maxsize=2)
def _profiles(side: int) -> NDArray[np.float32]:
    """Gaussian spots in the centre of a window, (n_widths, side * side)."""
    offset = np.arange(side) - side // 2
    lines = np.exp(-0.5 * (offset / np.array(WIDTHS)[:, None]) ** 2)
    return np.asarray(lines[:, :, None] * lines[:, None, :], np.float32).reshape(len(WIDTHS), -1)


def local_noise(patches: Patches) -> NDArray[np.float32]:
    """Measure the background of windows as `normalise` does.

    Returns
    -------
    (n, 3) ndarray of float32
        Background at the centre, its standard deviation, and the quantum [ADU]; zeros where
        all values are equal.
    """
    out = np.empty((len(patches), 3), np.float32)
    _in_chunks("local_noise", patches, out)
    return out


def _in_chunks(
    kernel: str,
    patches: Patches,
    *out: NDArray[np.float32],
    constants: tuple[NDArray[np.float32], ...] = (),
) -> None:
    """Run a kernel over the windows, in threads where they are many."""
    from napari_xtal.peaks.verify import patch_kernels

    work = getattr(patch_kernels, kernel)
    values = np.ascontiguousarray(patches.values, np.float32)
    usable = np.ascontiguousarray(patches.usable, bool)

    def one(start: int) -> None:
        part = slice(start, start + _CHUNK)
        work(values[part], usable[part], RING**2, CORE**2, *constants, *(o[part] for o in out))

    starts = range(0, len(patches), _CHUNK)
    if len(starts) < 2:
        for start in starts:
            one(start)
        return
    with ThreadPoolExecutor(n_processors(), thread_name_prefix="normalise") as pool:
        list(pool.map(one, starts))
