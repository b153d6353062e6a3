"""Frame sources that only the window needs: plain layers, and a run with extra masked pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ArraySource:
    """An image layer that was not opened by our reader, as a frame source.

    Parameters
    ----------
    data : array_like
        (ss, fs) or (n_frames, ss, fs) values; anything that slices along its first axis.
    name : str
        Shown where a run shows its file name.

    Raises
    ------
    InputError
        When the array has not 2 or 3 axes (RGB images, time series of stacks).
    """

    layout = "array"
    files: tuple[str, ...] = ()
    metadata = None
    geometry = None

    def __init__(self, data: Any, name: str) -> None:
        if data.ndim not in (2, 3):
            raise InputError(
                f"layer '{name}' has {data.ndim} axes; choose one with 2 (a frame) or 3 (frames)"
            )
        self._data, self._name = data, name
        self.shape = tuple(int(n) for n in data.shape[-2:])
        self.dtype = np.dtype(data.dtype)
        self.good = np.ones(self.shape, bool)
        self.ids: Sequence[FrameId] = [FrameId(name, "", f"//{i}") for i in range(len(self))]

    def __len__(self) -> int:
        return int(self._data.shape[0]) if self._data.ndim == 3 else 1

    def __getitem__(self, index: int) -> NDArray[Any]:
        return np.asarray(self._data[index] if self._data.ndim == 3 else self._data)

    def frame(self, index: int) -> Frame:
        """Return one frame; non-finite pixels are masked."""
        image = self[index]
        finite = np.isfinite(image)
        good = self.good if finite.all() else self.good & finite
        return Frame(image, good, FrameStatus.OK, self.ids[index])

    def radius(self) -> None:
        """Return None: the beam centre of a plain array is unknown."""

    def inv_d(self) -> None:
        """Return None: the geometry of a plain array is unknown."""

    def panels(self) -> None:
        """Return None: a plain array has no panels."""

    def fingerprint(self) -> dict[str, Any]:
        """Return nothing that could identify files."""
        return {}


class MaskedSource:
    """A frame source with some more pixels masked; all else is that of the wrapped source.

    Parameters
    ----------
    source : FrameSource
        The run.
    pixels : (n, 2) array_like of int
        (row, col) of the pixels to mask.
    """

    def __init__(self, source: Any, pixels: Any) -> None:
        self._source = source
        self.pixels = np.asarray(pixels, dtype=np.int64).reshape(-1, 2)
        self.good = self._masked(source.good)
        # One mask object for one mask of the wrapped source: the finder keeps its plan by it.
        self._pair = (source.good, self.good)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return MaskedSource, (self._source, self.pixels)

    def reopen(self) -> MaskedSource:
        """Return the same frames and mask with file handles of their own."""
        source = self._source
        # Frames of a plain array have no files.
        return MaskedSource(source.reopen() if hasattr(source, "reopen") else source, self.pixels)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self._source[index]

    def frame(self, index: int) -> Frame:
        """Return one frame with the extra pixels masked."""
        frame = self._source.frame(index)
        base, good = self._pair
        if frame.good is not base:
            good = self._masked(frame.good)
            self._pair = (frame.good, good)
        return Frame(frame.image, good, frame.status, frame.id, frame.meta, frame.saturated)

    @property
    def unmasked(self) -> Any:
        """The wrapped source."""
        return self._source

    def _masked(self, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
        good = good.copy()
        good[self.pixels[:, 0], self.pixels[:, 1]] = False
        return good
