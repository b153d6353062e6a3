"""Frame identity and the frame itself: what every other room hands around."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FrameId(NamedTuple):
    """Identity of a frame that survives moving, joining and re-ordering files.

    Attributes
    ----------
    file : str
        Path of the file the frame is read from.
    dataset : str
        Path of the dataset inside the file, placeholders filled; empty for
        one-image files.
    event : str
        CrystFEL's event string: ``//12`` for frame 12 of a stack, ``//`` for
        a file with a single image, ``tag-123//`` for a group.
    """

    file: str
    dataset: str
    event: str

    def __str__(self) -> str:
        return f"{self.file} {self.event}" if self.event not in ("", "//") else self.file


class FrameStatus(StrEnum):
    """Why a frame can, or cannot, be used."""

    OK = "ok"
    MISSING_SOURCE = "missing-source"
    CORRUPT = "corrupt"
    FILTER_MISSING = "filter-missing"
    WRONG_SHAPE = "wrong-shape"
    NOT_YET_WRITTEN = "not-yet-written"


@dataclass(frozen=True)
class Frame:
    """One detector frame.

    Attributes
    ----------
    image : (ss, fs) ndarray
        Pixel values in the file's dtype (zeros when the frame is unreadable).
    good : (ss, fs) ndarray of bool
        True where the pixel may be used.
    status : FrameStatus
        ``ok`` or why the frame cannot be shown.
    id : FrameId
        Identity of the frame.
    meta : dict
        Values of this frame (photon energy, timestamp, ``reason`` of a bad status …).
    saturated : (ss, fs) ndarray of bool or None
        Good pixels whose value is only a lower bound. They stay `good`, since a
        saturated Bragg peak is still a peak.
    """

    image: NDArray[Any]
    good: NDArray[np.bool_]
    status: FrameStatus
    id: FrameId
    meta: dict[str, Any] = field(default_factory=dict)
    saturated: NDArray[np.bool_] | None = None

    @property
    def ok(self) -> bool:
        """Whether the frame was read."""
        return self.status is FrameStatus.OK
