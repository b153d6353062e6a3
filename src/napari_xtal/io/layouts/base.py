"""What a layout tells about one file: where its frames are and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_xtal.io.metadata import DetectorMetadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_xtal.detector.mask import ValueRules
    from napari_xtal.io.links import Hole, Target


class Candidate(NamedTuple):
    """A dataset that could hold the frames."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {self.dtype}"


@dataclass(frozen=True)
class Block:
    """Consecutive frames of one dataset (or one image file).

    Attributes
    ----------
    dataset : str
        Path inside the file as the user sees it; empty for image files.
    n_frames : int
        Number of frames.
    prefix : str
        What stands before ``//`` in the event string.
    target : Target or None
        Where the dataset really is; None when it cannot be reached.
    ndim : int
        Number of axes of the dataset: 2 one image, 3 (frame, ss, fs), 4 (frame, module,
        ss, fs), shown as a slab with the modules stacked along the slow axis.
    chunk_bytes : int
        Bytes of one decoded chunk.
    holes : tuple of Hole
        Parts without a source.
    status, reason : str
        Set when no frame of the block can be read.
    """

    dataset: str
    n_frames: int
    prefix: str = ""
    target: Target | None = None
    ndim: int = 3
    chunk_bytes: int = 0
    holes: tuple[Hole, ...] = ()
    status: str = "ok"
    reason: str = ""

    def event(self, k: int) -> str:
        """Return CrystFEL's event string of frame `k` of this block."""
        return f"{self.prefix}//" if self.ndim == 2 else f"{self.prefix}//{k}"


@dataclass(frozen=True)
class MaskSource:
    """Where a file keeps its mask.

    `targets` are ORed. `rule` as in `napari_xtal.detector.mask.mask_from_file`.
    `per_frame` is set when the first axis of the mask is the frame.
    """

    targets: tuple[Target, ...]
    rule: str
    per_frame: bool = False


@dataclass(frozen=True)
class FileFrames:
    """The frames of one file.

    Attributes
    ----------
    path, layout : str
        The file, and the name of the layout that understood it.
    blocks : tuple of Block
        The frames in order.
    shape : (int, int)
        Slab shape (ss, fs).
    dtype : dtype
        Native byte order, as the frames are returned.
    kind : {"hdf5", "image", "numpy"}
        Which reader decodes frames.
    modules : int
        Number of modules stacked in the slab.
    """

    path: str
    layout: str
    blocks: tuple[Block, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    rules: ValueRules
    kind: str = "hdf5"
    modules: int = 1
    metadata: DetectorMetadata = field(default_factory=DetectorMetadata)
    mask: MaskSource | None = None
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def n_frames(self) -> int:
        """Number of frames in the file."""
        return sum(block.n_frames for block in self.blocks)


class DecodedImage(NamedTuple):
    """One image and the marks that come with it (None = nothing marked)."""

    image: NDArray[Any]
    hole: NDArray[np.bool_] | None = None
    hole_reason: str = ""
