"""`open_frames` and `FrameSource`: a run as a lazy sequence of frames.

Nothing is decoded before it is asked for. A source keeps descriptions of files, not
arrays, so that it pickles as paths and re-opens its files in every process.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.detector.mask import (
    SUSPICIOUS_FRACTION,
    Reason,
    automatic_marks,
    bad_fraction,
    is_good,
)
from napari_xtal.detector.radial import inv_d_map, radius_map
from napari_xtal.errors import FilterMissingError, InputError
from napari_xtal.io.detect import describe_all
from napari_xtal.io.frame_reader import FrameIds, FrameReader
from napari_xtal.io.links import LinkPolicy
from napari_xtal.io.masks import load_mask, shared_mask
from napari_xtal.io.paths import expand, file_fingerprint
from napari_xtal.io.user_mask import load_user_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.io.layouts.base import Block, FileFrames
    from napari_xtal.io.metadata import DetectorMetadata

#: Masks kept where frames or files have their own.
_CACHED_MASKS = 4


def open_frames(
    paths: Any,
    geometry: Any = None,
    mask: Any = None,
    dataset: str | None = None,
    *,
    policy: LinkPolicy | None = None,
) -> FrameSource:
    """Open detector frames.

    Parameters
    ----------
    paths : str, path-like or list of these
        Files, patterns (``run_*.cbf``) or ``file.h5::/path/to/dataset``; several files
        are joined in the order given (patterns in natural order).
    geometry : None
        Detector geometry; not read by this version.
    mask : array or path, optional
        Pixels to leave out besides those of the file's own mask. Boolean: True = good.
        Numbers: non-zero = bad (as pyFAI and CXI).
    dataset : str, optional
        Dataset to read from HDF5 files instead of the one found.
    policy : LinkPolicy, optional
        What files may point to; by default the folder of the opened file.

    Returns
    -------
    FrameSource
        Lazy sequence of frames.

    Raises
    ------
    InputError
        When the frames cannot be opened; the message names file, dataset and remedy.

    Examples
    --------
    >>> src = open_frames("run_0001.cxi")            # doctest: +SKIP
    >>> len(src), src.shape, src.frame(0).status     # doctest: +SKIP
    (1200, (2167, 2070), <FrameStatus.OK: 'ok'>)
    """
    if geometry is not None:
        raise InputError(
            f"geometry {geometry!r}: geometry files are not read by this version; open the "
            "frames without it"
        )
    policy = policy or LinkPolicy()
    named = [(file, found or dataset) for file, found in expand(paths)]
    return FrameSource(describe_all(named, policy), named, mask, policy)


class FrameSource:
    """Lazy, thread-safe sequence of detector frames; made by `open_frames`.

    ``source[i]`` is the image of frame `i`, ``source.frame(i)`` the image with mask,
    status and identity. Arrays may be shared with a small cache: copy before changing.
    """

    def __init__(
        self,
        files: list[FileFrames],
        named: list[tuple[str, str | None]],
        mask: Any,
        policy: LinkPolicy,
    ) -> None:
        self._files = files
        self._named = named
        self._user_mask = mask
        self._policy = policy
        self._masks: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._maps: dict[str, Any] = {}
        self.shape: tuple[int, int] = files[0].shape
        self.dtype: np.dtype[Any] = np.result_type(*{file.dtype for file in files})
        self._reader = FrameReader(files, self.shape, self.dtype)
        self.layout: str = files[0].layout
        self.candidates = files[0].candidates
        self.metadata: DetectorMetadata = files[0].metadata
        self.geometry: None = None
        self.files: tuple[str, ...] = tuple(file.path for file in files)
        self.ids: Sequence[FrameId] = FrameIds(self._reader)
        self.warnings: list[str] = list(
            dict.fromkeys(text for file in files for text in file.warnings)
        )
        self._user_reasons = None if mask is None else load_user_mask(mask, self.shape, policy)
        self._file_reasons: NDArray[np.uint8] = self._shared_reasons()
        self._file_good: NDArray[np.bool_] = is_good(self._file_reasons)
        self._last_good: NDArray[np.bool_] = self._file_good
        self._check()

    # -- sequence ---------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Return the image (ss, fs) of a frame.

        Raises
        ------
        InputError
            When the frame cannot be read.
        IndexError
            When there is no such frame.
        """
        index = self._index(index)
        status, reason, decoded = self._reader.decode(index)
        if decoded is None:
            error = FilterMissingError if status == FrameStatus.FILTER_MISSING else InputError
            raise error(f"frame {index} ({self.ids[index]}): {status}, {reason}")
        return decoded.image

    def __repr__(self) -> str:
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return (
            f"<FrameSource {self.layout}: {len(self)} frames {self.shape} {self.dtype} from "
            f"{os.path.basename(self.files[0])}{more}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self._named, self._user_mask, self._policy))

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reopen(self) -> FrameSource:
        """Return the same frames with file handles of their own, for another thread's use."""
        return _reopen(self._named, self._user_mask, self._policy)

    def close(self) -> None:
        """Close the files and forget decoded frames; reading opens them again."""
        self._reader.close()

    # -- frames -----------------------------------------------------------------------

    def frame(self, index: int) -> Frame:
        """Return image, mask, status and identity of a frame.

        A frame that cannot be read does not raise: its image is zero, no pixel is good,
        and ``status`` and ``meta["reason"]`` say why.

        Raises
        ------
        IndexError
            When there is no such frame.
        """
        index = self._index(index)
        file, block, k = self._where(index)
        identity = FrameId(file.path, block.dataset, block.event(k))
        meta = self._meta(index, file)
        status, reason, decoded = self._reader.decode(index)
        if decoded is None:
            return self._empty(identity, meta, status, reason)
        shared = self._file_good if not self._own_mask(file) else is_good(self._reasons(index))
        marks = automatic_marks(decoded.image, file.rules, shared)
        if (
            file.kind == "hdf5"
            and marks.low == marks.high
            and self._reader.unwritten(block, k, marks.low)
        ):
            text = "the frame was never written (the writer stopped or has not come to it)"
            return self._empty(identity, meta, FrameStatus.NOT_YET_WRITTEN, text)
        good = shared
        if marks.bad is not None:
            good = good & is_good(marks.bad)
        if decoded.hole is not None:
            good = good & ~decoded.hole
            meta["reason"] = f"part of the frame has no source: {decoded.hole_reason}"
        good = self._same_object(good)
        return Frame(decoded.image, good, FrameStatus.OK, identity, meta, marks.saturated)

    def _same_object(self, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return an equal mask handed out before, so that users see that nothing changed."""
        for known in (self._maps.get("good"), self._last_good):
            if known is good or (known is not None and np.array_equal(known, good)):
                return known
        self._last_good = good
        return good

    def frame_meta(self, index: int) -> dict[str, Any]:
        """Return the values of a frame (photon energy [eV], distance [m]) without reading it."""
        index = self._index(index)
        return self._meta(index, self._where(index)[0])

    def frame_reasons(self, index: int) -> NDArray[np.uint8]:
        """Return why each pixel of a frame is marked (`detector.mask.Reason` bits)."""
        index = self._index(index)
        file, _, _ = self._where(index)
        reasons = self._reasons(index).copy()
        _, _, decoded = self._reader.decode(index)
        if decoded is None:
            return np.full(self.shape, Reason.MASKED, dtype=np.uint8)
        marks = automatic_marks(decoded.image, file.rules, is_good(reasons))
        if marks.bad is not None:
            reasons |= marks.bad
        if marks.saturated is not None:
            reasons[marks.saturated] |= np.uint8(Reason.SATURATED)
        if decoded.hole is not None:
            reasons[decoded.hole] |= np.uint8(Reason.GAP)
        return reasons

    def _empty(self, identity: FrameId, meta: dict[str, Any], status: str, reason: str) -> Frame:
        meta["reason"] = reason
        image = np.zeros(self.shape, dtype=self.dtype)
        good = np.zeros(self.shape, dtype=bool)
        return Frame(image, good, FrameStatus(status), identity, meta)

    # -- maps and masks -------------------------------------------------------------------------

    @property
    def reasons(self) -> NDArray[np.uint8]:
        """Shared mask as reasons (`detector.mask.Reason` bits), see `good`."""
        if "reasons" not in self._maps:
            reasons = self._file_reasons
            rules = self._files[0].rules
            coded = rules.negative_codes or (rules.marker and not rules.marker_is_saturation)
            if self._files[0].mask is None and coded and len(self):
                _, _, decoded = self._reader.decode(0)
                if decoded is not None:
                    marks = automatic_marks(decoded.image, rules)
                    if marks.bad is not None:
                        reasons = reasons | marks.bad
            self._maps["reasons"] = reasons
        return self._maps["reasons"]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Shared mask (ss, fs), True = usable: mask of the file and of the user.

        A file without a mask marks gaps by value; then those of its first frame count.
        """
        if "good" not in self._maps:
            self._maps["good"] = is_good(self.reasons)
        return self._maps["good"]

    def radius(self) -> NDArray[np.float32] | None:
        """Return each pixel's distance from the beam centre [px], None when unknown."""
        centre = self.metadata.beam_centre
        if centre is None:
            return None
        if "radius" not in self._maps:
            self._maps["radius"] = radius_map(self.shape, centre)
        return self._maps["radius"]

    def inv_d(self) -> NDArray[np.float32] | None:
        """Return 1/d [1/nm] of each pixel (flat detector normal to the beam), or None."""
        meta, radius = self.metadata, self.radius()
        if radius is None or not (meta.pixel_size_m and meta.distance_m and meta.photon_energy_ev):
            return None
        if "inv_d" not in self._maps:
            self._maps["inv_d"] = inv_d_map(
                radius, meta.pixel_size_m, meta.distance_m, meta.photon_energy_ev
            )
        return self._maps["inv_d"]

    def panels(self) -> NDArray[np.int16] | None:
        """Return the module number of each pixel of stacked modules, else None."""
        modules = self._files[0].modules
        if modules < 2:
            return None
        if "panels" not in self._maps:
            rows = np.repeat(np.arange(modules, dtype=np.int16), self.shape[0] // modules)
            self._maps["panels"] = np.repeat(rows[:, None], self.shape[1], axis=1)
        return self._maps["panels"]

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Return size, modification time and hash of the beginning of each file, by path."""
        return {path: file_fingerprint(path) for path in self.files}

    def location(self, index: int) -> tuple[str, str, int, int] | None:
        """Return (file, dataset, index in it, its number of axes) after all links.

        None when the frame is not in HDF5 or has no source; virtual copies are built
        from this.
        """
        file, block, k = self._where(self._index(index))
        if file.kind != "hdf5" or block.target is None:
            return None
        return block.target.file, block.target.name, k, block.ndim

    # -- inside -----------------------------------------------------------------------

    def _index(self, index: Any) -> int:
        try:
            k = int(index.__index__())
        except AttributeError:
            raise TypeError(
                f"frames are read one at a time by number, not by {type(index).__name__}"
            ) from None
        n = len(self)
        if not -n <= k < n:
            raise IndexError(f"frame {k} does not exist; the source has {n} frames")
        return k % n

    def _where(self, index: Any) -> tuple[FileFrames, Block, int]:
        return self._reader.where(self._index(index))

    def _own_mask(self, file: FileFrames) -> bool:
        """Whether frames of this file need another mask than the shared one."""
        if file.mask is None:
            return self._files[0].mask is not None and file is not self._files[0]
        return file.mask.per_frame or file is not self._files[0]

    def _reasons(self, index: int) -> NDArray[np.uint8]:
        file, _, _ = self._where(index)
        if not self._own_mask(file):
            return self._file_reasons
        per_frame = file.mask is not None and file.mask.per_frame
        number, k = self._reader.place_in_file(index)
        key = index if per_frame else -1 - number
        with self._reader.lock:
            reasons = self._masks.get(key)
            if reasons is None:
                try:
                    reasons = load_mask(file, self._reader.handles, k if per_frame else None)
                except InputError:
                    # A damaged mask must not lose the frame; the shared one is close.
                    reasons = self._file_reasons
                if self._user_reasons is not None:
                    reasons = reasons | self._user_reasons
                self._masks[key] = reasons
                while len(self._masks) > _CACHED_MASKS:
                    self._masks.popitem(last=False)
        return reasons

    def _shared_reasons(self) -> NDArray[np.uint8]:
        try:
            reasons = shared_mask(self._files[0], self._reader.handles)
        except InputError as error:
            self.warnings.append(f"{error}; opened without the file's mask")
            reasons = np.zeros(self.shape, dtype=np.uint8)
        return reasons if self._user_reasons is None else reasons | self._user_reasons

    def _meta(self, index: int, file: FileFrames) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        for name in ("photon_energy_ev", "distance_m"):
            value = getattr(file.metadata, name)
            if value is not None:
                meta[name] = value
        if file.metadata.per_frame:
            _, k = self._reader.place_in_file(index)
            for name, values in file.metadata.per_frame.items():
                if k < len(values) and np.isfinite(values[k]):
                    meta[name] = float(values[k])
        return meta

    def _check(self) -> None:
        if len(self) == 0:
            raise InputError(f"{self.files[0]}: no frames in this file")
        lost = bad_fraction(self._file_good)
        if lost > SUSPICIOUS_FRACTION:
            self.warnings.append(
                f"{self.files[0]}: {lost:.0%} of the pixels are masked; if that is the wrong way "
                "round, give the inverted mask as mask=..."
            )
        if self.metadata.two_theta_deg:
            self.warnings.append(
                f"{self.files[0]}: the detector is swung by {self.metadata.two_theta_deg:g} "
                "degrees; resolution and beam centre are left unknown"
            )
        holes = [hole for block in self._reader.blocks for hole in block.holes]
        if holes:
            self.warnings.append(
                f"{self.files[0]}: part of the virtual dataset has no source ({holes[0].reason})"
            )


def _reopen(named: list[tuple[str, str | None]], mask: Any, policy: LinkPolicy) -> FrameSource:
    return FrameSource(describe_all(named, policy), named, mask, policy)
