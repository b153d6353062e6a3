"""Datasets as stacks of frames: shape rules, blocks, masks beside them, reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from napari_xtal.detector.mask import ValueRules, type_marker
from napari_xtal.errors import FilterMissingError, InputError
from napari_xtal.io.hdf5 import check_storage, missing_filter
from napari_xtal.io.layouts.base import Block, Candidate, DecodedImage, MaskSource
from napari_xtal.io.links import BrokenLinkError, Resolver

if TYPE_CHECKING:
    from napari_xtal.io.metadata import DetectorMetadata

#: Smaller last axes are tables, not images; an explicitly named dataset may be smaller.
MIN_PIXELS = 32

#: Names of datasets that accompany images; they are never chosen by themselves.
_AUXILIARY = ("mask", "flatfield", "flat", "dark", "gain", "pedestal", "background", "badpix",
              "artifact", "error", "sigma", "rms", "peak", "weight", "variance")  # fmt: skip


def slab_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the (ss, fs) shape of a frame; modules are stacked along ss."""
    if len(shape) == 4:
        return (shape[1] * shape[2], shape[3])
    return (shape[-2], shape[-1])


def frame_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which frames are handed out: native byte order, no float16.

    Half precision overflows at 65504, so sums over it are useless.
    """
    if dtype.kind == "f" and dtype.itemsize == 2:
        return np.dtype(np.float32)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return dtype.newbyteorder("=")


def check_is_stack(path: str, dataset: h5py.Dataset, strict: bool = False) -> None:
    """Raise `InputError` when `dataset` cannot be frames."""
    label = f"{path}: dataset {dataset.name}"
    shape = dataset.shape
    if shape is None or dataset.dtype.kind not in "iufb":
        raise InputError(f"{label} holds {dataset.dtype}, not numbers; name another dataset")
    if len(shape) == 5:
        raise InputError(
            f"{label} has 5 axes {shape}, as raw data with a gain axis; frames need 2 (ss, fs), "
            "3 (frame, ss, fs) or 4 (frame, module, ss, fs) axes: select one gain plane first"
        )
    if not 2 <= len(shape) <= 4:
        raise InputError(
            f"{label} has {len(shape)} axes {shape}; frames need 2 (ss, fs), 3 (frame, ss, fs) "
            "or 4 (frame, module, ss, fs)"
        )
    if 0 in slab_shape(shape):
        raise InputError(f"{label} {shape} has frames without pixels")
    if strict and min(shape[-2:]) < MIN_PIXELS:
        raise InputError(f"{label} {shape} is too small for detector frames")


def looks_like_frames(dataset: h5py.Dataset) -> bool:
    """Whether a dataset found by searching may hold frames."""
    return bool(
        dataset.shape is not None
        and 2 <= len(dataset.shape) <= 5
        and dataset.dtype.kind in "iuf"
        and min(dataset.shape[-2:]) >= MIN_PIXELS
    )


def rank(candidate: Candidate) -> tuple[bool, bool, bool, int]:
    """Sort key: frames before companions, stacks before single planes, then by bytes."""
    name = candidate.name.rsplit("/", 1)[-1].lower()
    size = int(np.prod(candidate.shape, dtype=np.float64)) * np.dtype(candidate.dtype).itemsize
    return (
        any(word in name for word in _AUXILIARY),
        len(candidate.shape) == 5,
        len(candidate.shape) == 2,
        -size,
    )


def describe(candidates: tuple[Candidate, ...] | list[Candidate]) -> str:
    """List candidates for a message."""
    listed = ", ".join(str(c) for c in list(candidates)[:8])
    more = len(candidates) - 8
    return listed + (f" and {more} more" if more > 0 else "")


def make_block(view: Resolver, name: str, prefix: str = "", *, strict: bool = False) -> Block:
    """Describe the frames of one dataset.

    Raises
    ------
    InputError
        When it does not exist, cannot be frames, or may not be read.
    """
    target = view.resolve(name)
    found = view.file(target.file)[target.name]
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{view.path}: {name} is a group, not a dataset")
    check_is_stack(target.file, found, strict)
    ss, fs = slab_shape(found.shape)
    check_storage(target.file, found, ss * fs * found.dtype.itemsize, view.policy)
    chunk = int(np.prod(found.chunks, dtype=np.float64)) if found.chunks else 0
    chunk *= found.dtype.itemsize
    if chunk > 4 * view.policy.max_frame_bytes:
        raise InputError(f"{target.file}: chunks of {found.name} {found.chunks} are too large")
    reason = missing_filter(found)
    return Block(
        dataset=name,
        n_frames=1 if found.ndim == 2 else int(found.shape[0]),
        prefix=prefix,
        target=target,
        ndim=found.ndim,
        chunk_bytes=chunk,
        holes=tuple(view.holes(found)),
        status="filter-missing" if reason else "ok",
        reason=f"{target.file}: dataset {found.name} {reason}" if reason else "",
    )


def named_block(view: Resolver, name: str, candidates: list[Candidate]) -> Block:
    """Describe a dataset that the user named; list the others when it is not there."""
    try:
        block = make_block(view, "/" + name.strip("/"))
    except BrokenLinkError as error:
        others = describe(candidates)
        hint = f"; datasets found: {others}" if others else "; no other images were found"
        raise InputError(f"{view.path}: no dataset '{name}' ({error}){hint}") from error
    if block.n_frames == 0:
        raise InputError(f"{view.path}: dataset {block.dataset} holds no frames yet")
    return block


def require_readable(block: Block) -> None:
    """Raise when no frame of the block can be decoded."""
    if block.status == "filter-missing":
        raise FilterMissingError(block.reason)


def shape_and_dtype(view: Resolver, block: Block) -> tuple[tuple[int, int], np.dtype[Any], int]:
    """Return the slab shape, the frame type and the number of modules of a block."""
    assert block.target is not None
    dataset = view.file(block.target.file)[block.target.name]
    modules = dataset.shape[1] if dataset.ndim == 4 else 1
    return slab_shape(dataset.shape), frame_dtype(dataset.dtype), modules


def source_dtype(view: Resolver, block: Block) -> np.dtype[Any]:
    """Return the type in which the pixels are really stored.

    A virtual dataset may be int64 over an unsigned source; the "no value" marker is then
    that of the source.
    """
    assert block.target is not None
    dataset = view.file(block.target.file)[block.target.name]
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            try:
                file = view.locate(source.file_name.replace("%b", "0"), dataset.file.filename)
                target = view.resolve(source.dset_name.replace("%b", "0"), file)
                return np.dtype(view.file(target.file)[target.name].dtype)
            except (InputError, KeyError, OSError, RuntimeError, AttributeError):
                continue
    return np.dtype(dataset.dtype)


def value_rules(
    dtype: np.dtype[Any], metadata: DetectorMetadata, has_mask: bool, negative_codes: bool
) -> ValueRules:
    """Decide which pixel values are not measurements.

    Where the type or declared depth gives no marker and the saturation value has the
    form 2^n - 1, that value is the marker itself and not a measurement.
    """
    marker = type_marker(dtype, metadata.bit_depth)
    saturation = metadata.saturation_value
    depth = metadata.bit_depth
    if saturation is not None and dtype.kind in "iu":
        codes = [2**depth - 1] if depth else []
        codes += [2**16 - 1, 2**32 - 1] if marker is None else []
        marker = int(saturation) if saturation in codes else marker
    if marker is not None and saturation is not None and saturation >= marker:
        saturation = None
    return ValueRules(
        marker=marker,
        marker_is_saturation=has_mask,
        saturation=saturation,
        underload=metadata.underload_value,
        negative_codes=negative_codes and dtype.kind == "i",
    )


def find_mask(
    view: Resolver, names: list[str], block: Block, shape: tuple[int, int], rule: str
) -> MaskSource | None:
    """Return the first of `names` that fits the frames, as (ss, fs), modules or per frame."""
    for name in names:
        try:
            target = view.resolve(name)
            found = view.file(target.file)[target.name]
        except (InputError, KeyError, OSError, RuntimeError):
            continue
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iubf":
            continue
        if found.external:
            view.warnings.append(f"{target.file}: mask {name} uses external storage; not read")
            continue
        fit = mask_fit(found.shape, shape, block.n_frames if block.ndim > 2 else 1)
        if fit is not None:
            return MaskSource((target,), rule, per_frame=fit)
        view.warnings.append(
            f"{view.path}: mask {name} {found.shape} does not fit frames of {shape}; not used"
        )
    return None


def mask_fit(mask: tuple[int, ...], shape: tuple[int, int], n_frames: int) -> bool | None:
    """Whether a mask is per frame (True), shared (False) or does not fit (None)."""
    if mask == shape:
        return False
    size = int(np.prod(mask, dtype=np.float64))
    if mask and mask[-1] == shape[1] and size == shape[0] * shape[1]:
        return False  # (1, ss, fs) or (module, ss, fs)
    if len(mask) in (3, 4) and mask[0] == n_frames and slab_shape(mask) == shape:
        return True
    return None


def read_frame(file: h5py.File, block: Block, k: int, dtype: np.dtype[Any]) -> DecodedImage:
    """Read frame `k` of a block into a fresh array.

    Raises
    ------
    OSError, KeyError, RuntimeError
        When HDF5 cannot read or decode it.
    """
    assert block.target is not None
    dataset = file[block.target.name]
    if dataset.ndim != block.ndim:
        raise InputError(f"{block.target.file}: {block.dataset} has changed since it was opened")
    shape = dataset.shape if dataset.ndim == 2 else dataset.shape[1:]
    # read_direct into our own buffer is twice as fast as indexing, which allocates twice.
    buffer = np.empty(shape, dtype=dtype)
    if dataset.ndim == 2:
        dataset.read_direct(buffer)
    else:
        dataset.read_direct(buffer, np.s_[k])
    image = buffer.reshape(-1, shape[-1])
    hole, reason = _holes_of(block, k, shape, image.shape)
    return DecodedImage(image, hole, reason)


def frame_hole(block: Block, k: int, shape: tuple[int, int]) -> tuple[str, str] | None:
    """Return (status, reason) when frame `k` has no source at all."""
    for hole in block.holes:
        if block.ndim > 2 and not hole.start[0] <= k < hole.stop[0]:
            continue
        inner = hole.start[1:], hole.stop[1:]
        if block.ndim == 2:
            inner = hole.start, hole.stop
        size = int(np.prod([b - a for a, b in zip(*inner, strict=True)], dtype=np.float64))
        if size >= shape[0] * shape[1]:
            return hole.status, hole.reason
    return None


def _holes_of(
    block: Block, k: int, shape: tuple[int, ...], slab: tuple[int, ...]
) -> tuple[np.ndarray | None, str]:
    hole_map, reason = None, ""
    for hole in block.holes:
        start, stop = hole.start, hole.stop
        if block.ndim > 2:
            if not start[0] <= k < stop[0]:
                continue
            start, stop = start[1:], stop[1:]
        if hole_map is None:
            hole_map = np.zeros(shape, dtype=bool)
        hole_map[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
        reason = hole.reason
    return (None if hole_map is None else hole_map.reshape(slab)), reason


def never_written(file: h5py.File, block: Block, k: int, low: float, high: float) -> bool:
    """Whether a uniform frame is only the fill value of a chunk that was never written."""
    assert block.target is not None
    dataset = file[block.target.name]
    if dataset.chunks is None or dataset.is_virtual or low != high:
        return False
    try:
        if dataset.fillvalue != low:
            return False
        corner = (k,) + (0,) * (dataset.ndim - 1) if dataset.ndim > 2 else (0, 0)
        corner = tuple(c - c % n for c, n in zip(corner, dataset.chunks, strict=True))
        return dataset.id.get_chunk_info_by_coord(corner).byte_offset is None
    except (OSError, RuntimeError, ValueError, TypeError):
        return False
