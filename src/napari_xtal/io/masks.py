"""Reading the mask that a file keeps beside its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from napari_xtal.detector.mask import mask_from_file
from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.io.hdf5 import HandleCache
    from napari_xtal.io.layouts.base import FileFrames

#: Frames sampled to find the pixels that are bad in every per-frame mask.
_SAMPLED = 8


def load_mask(file: FileFrames, handles: HandleCache, k: int | None = None) -> NDArray[np.uint8]:
    """Return the reasons of the file's mask, of frame `k` where there is one per frame.

    Raises
    ------
    InputError
        When the mask cannot be read.
    """
    reasons = np.zeros(file.shape, dtype=np.uint8)
    if file.mask is None:
        return reasons
    for target in file.mask.targets:
        try:
            dataset = handles.get(target.file)[target.name]
            if not isinstance(dataset, h5py.Dataset):
                raise KeyError(target.name)
            values = dataset[k] if file.mask.per_frame else dataset[()]
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"{target.file}: mask {target.name} cannot be read") from error
        reasons |= mask_from_file(np.asarray(values).reshape(file.shape), file.mask.rule)
    return reasons


def shared_mask(file: FileFrames, handles: HandleCache) -> NDArray[np.uint8]:
    """Return the reasons that hold for all frames of a file.

    With one mask per frame these are the marks common to a few frames spread over the
    run; frames then have more marks of their own.
    """
    if file.mask is None or not file.mask.per_frame:
        return load_mask(file, handles)
    picks = np.unique(np.linspace(0, file.n_frames - 1, _SAMPLED).astype(int))
    common = load_mask(file, handles, int(picks[0]))
    for k in picks[1:]:
        common &= load_mask(file, handles, int(k))
    return common
