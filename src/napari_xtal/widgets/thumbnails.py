"""Pixels of the thumbnails, read in a worker and kept by frame."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_xtal.widgets.cutouts import Cutout, Cutouts, cut
from napari_xtal.widgets.frame_stack import broken_text
from napari_xtal.widgets.jobs import LatestJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

#: Half side of a thumbnail [detector px]: the spot, its background and the next neighbours.
HALF = 12
#: Thumbnails kept: 100 000 of them of 16-bit frames.
BUDGET_BYTES = 250_000_000


@dataclass(frozen=True)
class FramePatches:
    """Windows of all peaks of one frame.

    Attributes
    ----------
    at : dict of int to int
        Peak id -> place in `cutouts`.
    cutouts : Cutouts or None
        None when the frame cannot be read.
    reason : str
        Why it cannot be read.
    """

    at: dict[int, int]
    cutouts: Cutouts | None
    reason: str = ""

    def __getitem__(self, peak: int) -> Cutout:
        return self.cutouts[self.at[peak]]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return 0 if self.cutouts is None else self.cutouts.nbytes


class OwnFrames:
    """Frames of a run for a worker: the window's cache where it has them, else own handles.

    Parameters
    ----------
    stack : FrameStack
        What the window reads from.
    """

    def __init__(self, stack: Any) -> None:
        self._stack, self.source = stack, stack.source
        self._own: Any = None

    def frame(self, index: int) -> Any:
        """Return one frame."""
        shown = self._stack.cached(index)
        if shown is not None:
            return shown
        if self._own is None:
            # A plain array has no files to open again.
            self._own = self.source.reopen() if hasattr(self.source, "reopen") else self.source
        return self._own.frame(index)


class ThumbnailStore(QObject):
    """Patches of the peaks that are on the screen; the least used frames are forgotten.

    A frame is read once for all its peaks. Frames that are wanted come in the order in which
    they are wanted now: what was scrolled past is not read.

    Signals
    -------
    arrived(int)
        The patches of a frame are there, all at once.

    Attributes
    ----------
    nbytes : int
        Bytes of all patches.
    n_read : int
        Frames read so far.
    """

    arrived = Signal(int)

    def __init__(self, parent: QObject | None = None, budget: int = BUDGET_BYTES) -> None:
        super().__init__(parent)
        self._budget = budget
        self._job = LatestJob(self)
        self._job.done.connect(self._on_read)
        self._job.failed.connect(self._on_failed)
        self._run = 0
        self._stack: Any = None
        self._frames: OwnFrames | None = None
        self._places: Callable[[int], Any] | None = None
        self._known: OrderedDict[int, FramePatches] = OrderedDict()
        self._stale: set[int] = set()
        self._wanted: list[int] = []
        self._reading: tuple[int, int] | None = None
        self.nbytes = 0
        self.n_read = 0

    def set_run(self, stack: Any, places: Callable[[int], Any] | None) -> None:
        """Take patches from another run, or from none.

        Parameters
        ----------
        stack : FrameStack or None
            The frames.
        places : callable or None
            ``places(frame)`` gives ids, rows and cols of the peaks of a frame.
        """
        self._run += 1
        self._stack, self._places = stack, places
        self._frames = None if stack is None else OwnFrames(stack)
        self._known.clear()
        self._stale.clear()
        self._wanted, self.nbytes = [], 0

    @property
    def busy(self) -> bool:
        """Whether a frame is being read."""
        return self._job.busy

    def get(self, peak: int, frame: int) -> Cutout | str | None:
        """Return the patch of a peak, why there is none, or None while it is not there."""
        found = self._known.get(frame)
        if found is None:
            return None
        self._known.move_to_end(frame)
        if found.cutouts is None:
            return found.reason
        return found[peak] if peak in found.at else None

    def reason_of(self, frame: int) -> str:
        """Return why a frame cannot be read; empty when it can, or was not tried."""
        found = self._known.get(frame)
        return "" if found is None else found.reason

    def want(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Ask for patches, the most important first; what was asked before is dropped.

        Parameters
        ----------
        wanted : iterable of (int, int)
            Peak id and frame.
        """
        frames: dict[int, None] = {}
        for peak, frame in wanted:
            if frame in self._stale or self.get(peak, frame) is None:
                frames[frame] = None
        self._wanted = list(frames)
        self._advance()

    def mark_stale(self, frames: Iterable[int] | None) -> None:
        """Read frames anew when they are wanted next: their peaks moved, came or went."""
        self._stale.update(self._known if frames is None else self._known.keys() & set(frames))

    def _advance(self) -> None:
        if self._reading is not None or not self._wanted or self._stack is None:
            return
        if self._frames.source is not self._stack.source:  # another mask
            self._frames = OwnFrames(self._stack)
            self.mark_stale(None)
        frame = self._wanted.pop(0)
        self._reading = self._run, frame
        self._stale.discard(frame)
        self._job.submit(partial(_read, self._frames, frame, *self._places(frame)))

    def _on_read(self, patches: FramePatches) -> None:
        (run, frame), self._reading = self._reading, None
        if run == self._run:
            self.n_read += 1
            self._keep(frame, patches)
            self.arrived.emit(frame)
        self._advance()

    def _on_failed(self, error: Exception) -> None:
        self._on_read(FramePatches({}, None, f"Frame {self._reading[1]}: {error}"))

    def _keep(self, frame: int, patches: FramePatches) -> None:
        former = self._known.pop(frame, None)
        self._known[frame] = patches
        self.nbytes += patches.nbytes - (0 if former is None else former.nbytes)
        while self.nbytes > self._budget and len(self._known) > 1:
            self.nbytes -= self._known.popitem(last=False)[1].nbytes


def _read(
    frames: OwnFrames,
    index: int,
    ids: NDArray[np.int64],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
) -> FramePatches:
    frame = frames.frame(index)
    if not frame.ok:
        return FramePatches({}, None, broken_text(frame, index))
    at = {peak: k for k, peak in enumerate(ids.tolist())}
    return FramePatches(at, cut(frame.image, frame.good, rows, cols, HALF))
