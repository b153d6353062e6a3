"""Frames in ``.npy`` files; read by memory map, pickled objects are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.io.hdf5 import check_file
from napari_xtal.io.layouts.base import Block, DecodedImage, FileFrames
from napari_xtal.io.layouts.stack import frame_dtype, slab_shape, value_rules
from napari_xtal.io.metadata import DetectorMetadata

if TYPE_CHECKING:
    from napari_xtal.io.links import LinkPolicy


def matches(path: str) -> bool:
    """Whether the name is that of a NumPy array file."""
    return path.lower().endswith(".npy")


def load_array(path: str) -> np.ndarray:
    """Map an ``.npy`` file into memory without reading it.

    Raises
    ------
    InputError
        When it is damaged or holds Python objects.
    """
    check_file(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy parses the header with Python's own tokenizer
        text = str(error) or type(error).__name__
        if "pickle" in text.lower() or "object" in text.lower():
            raise InputError(
                f"{path}: not a plain array of numbers (Python objects are never loaded)"
            ) from error
        raise InputError(f"{path}: damaged .npy file ({text.splitlines()[0][:200]})") from error


def open_file(path: str, policy: LinkPolicy) -> FileFrames:
    """Describe the frames of an array file."""
    array = load_array(path)
    if array.dtype.kind not in "iufb":
        raise InputError(f"{path}: holds {array.dtype}, not numbers")
    if not 2 <= array.ndim <= 4:
        raise InputError(
            f"{path}: has {array.ndim} axes {array.shape}; frames need 2 (ss, fs), 3 (frame, "
            "ss, fs) or 4 (frame, module, ss, fs)"
        )
    shape = slab_shape(array.shape)
    if 0 in array.shape:
        raise InputError(f"{path}: array {array.shape} holds no pixels")
    if shape[0] * shape[1] * array.dtype.itemsize > policy.max_frame_bytes:
        raise InputError(f"{path}: one frame of {array.shape} {array.dtype} is over the limit")
    metadata = DetectorMetadata()
    n_frames = 1 if array.ndim == 2 else int(array.shape[0])
    return FileFrames(
        path=path,
        layout="NumPy",
        blocks=(Block("", n_frames, ndim=array.ndim),),
        shape=shape,
        dtype=frame_dtype(array.dtype),
        rules=value_rules(array.dtype, metadata, has_mask=False, negative_codes=False),
        kind="numpy",
        modules=int(array.shape[1]) if array.ndim == 4 else 1,
        metadata=metadata,
    )


def read_frame(path: str, block: Block, k: int, dtype: np.dtype[Any]) -> DecodedImage:
    """Read frame `k` of an array file."""
    array = load_array(path)
    plane = array if block.ndim == 2 else array[k]
    return DecodedImage(np.array(plane, dtype=dtype).reshape(-1, plane.shape[-1]))
