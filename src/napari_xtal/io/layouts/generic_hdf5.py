"""Any other HDF5 file: search it for datasets that can be frames."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

import h5py

from napari_xtal.errors import InputError
from napari_xtal.io.layouts.base import Block, Candidate, FileFrames, MaskSource
from napari_xtal.io.layouts.nxmx import find_pixel_mask, read_metadata
from napari_xtal.io.layouts.stack import (
    describe,
    find_mask,
    looks_like_frames,
    make_block,
    named_block,
    rank,
    require_readable,
    shape_and_dtype,
    source_dtype,
    value_rules,
)

if TYPE_CHECKING:
    from napari_xtal.io.links import Resolver

name = "HDF5"
_MASK_NAMES = ("mask", "pixel_mask", "mask_shared", "badpixels", "bad_pixels")


def matches(view: Resolver) -> bool:
    """Every HDF5 file may be searched."""
    return True


def open_file(view: Resolver, dataset: str | None, candidates: list[Candidate]) -> FileFrames:
    """Describe the frames of the named dataset, or of the most likely one."""
    if dataset:
        block = named_block(view, dataset, candidates)
    else:
        if not candidates:
            raise InputError(_nothing_found(view))
        block = make_block(view, candidates[0].name)
        if block.n_frames == 0:
            raise InputError(f"{view.path}: {block.dataset} holds no frames yet")
        rivals = [c for c in candidates[1:] if rank(c)[:3] == rank(candidates[0])[:3]]
        if rivals:
            view.warnings.append(
                f"{view.path}: several datasets can be frames; opened {candidates[0]}. "
                f"Others: {describe(rivals)}"
            )
    require_readable(block)
    shape, dtype, modules = shape_and_dtype(view, block)
    folder = block.dataset.rsplit("/", 1)[0]
    # Soft links gather data away from the detector's group; its real place tells more.
    inside = block.target is not None and block.target.file == view.path
    entry, detector = _nexus_groups(block.target.name if inside and block.target else block.dataset)
    metadata = read_metadata(view, entry, detector, block.n_frames)
    mask = find_pixel_mask(view, detector, shape) or _companion_mask(view, folder, block, shape)
    rules = value_rules(source_dtype(view, block), metadata, mask is not None, negative_codes=True)
    return FileFrames(
        path=view.path,
        layout=name,
        blocks=(block,),
        shape=shape,
        dtype=dtype,
        rules=rules,
        modules=modules,
        metadata=metadata,
        mask=mask,
        candidates=tuple(candidates),
        warnings=tuple(view.warnings),
    )


def search(view: Resolver) -> list[Candidate]:
    """List datasets that can be frames, the most likely first.

    Hard and soft links are followed, external ones not; depth and number of objects are
    bounded, and an object with several names is listed once.
    """
    policy = view.policy
    found: list[Candidate] = []
    seen: set[tuple[int, int]] = set()
    queue: deque[tuple[str, int]] = deque([("/", 0)])
    visited = 0
    root = view.file()
    while queue and visited < policy.max_objects:
        path, depth = queue.popleft()
        try:
            group = root[path]
            keys = list(group)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            continue
        for key in keys:
            visited += 1
            if visited >= policy.max_objects:
                break
            item_path = f"{path.rstrip('/')}/{key}"
            try:
                link = group.get(key, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    continue
                if isinstance(link, h5py.SoftLink) and view.resolve(item_path).file != view.path:
                    continue
                item = group[key]
                info = h5py.h5o.get_info(item.id)
                identity = (info.fileno, _address(info))
                if identity in seen:
                    continue
                seen.add(identity)
                if isinstance(item, h5py.Group):
                    if depth < policy.max_depth:
                        queue.append((item_path, depth + 1))
                elif isinstance(item, h5py.Dataset) and looks_like_frames(item):
                    found.append(Candidate(item_path, tuple(item.shape), item.dtype.str))
            except (OSError, RuntimeError, KeyError, ValueError, TypeError, InputError):
                continue
    return sorted(found, key=rank)


def _address(info: object) -> int:
    return hash(bytes(info.token)) if hasattr(info, "token") else int(info.addr)  # type: ignore[attr-defined]


def _nothing_found(view: Resolver) -> str:
    root = view.file()
    external = []
    others = []
    for key in list(root)[:1000]:
        link = root.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            external.append(f"{key} -> {link.filename}")
    for item_path, shape in _small_datasets(view):
        others.append(f"{item_path} {shape}")
    message = (
        f"{view.path}: no images found (numeric datasets of 2 to 4 axes whose last two have at "
        "least 32 pixels)"
    )
    if external:
        message += (
            f"; it links to other files, which are not searched: {', '.join(external[:5])}; "
            "name a dataset behind the link as 'file.h5::/path/to/dataset' or open the other file"
        )
    if others:
        message += f"; datasets present: {', '.join(others[:8])}"
    return message


def _small_datasets(view: Resolver) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []

    def note(path: str, item: object) -> bool | None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and item.ndim > 0:
            found.append((f"/{path}", tuple(item.shape)))
        return True if len(found) >= 9 else None

    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError):
        view.file().visititems(note)  # visits hard links only
    return found


def _nexus_groups(dataset: str) -> tuple[str, str]:
    """Return the entry and detector group that describe `dataset`, if there are any."""
    parts = dataset.strip("/").split("/")
    entry = f"/{parts[0]}" if len(parts) > 1 else "/entry"
    folder = dataset.rsplit("/", 1)[0]
    if "/instrument/" in dataset and folder != entry:
        return entry, folder
    return entry, f"{entry}/instrument/detector"


def _companion_mask(
    view: Resolver, folder: str, block: Block, shape: tuple[int, int]
) -> MaskSource | None:
    names = [
        f"{place}/{key}"
        for place in dict.fromkeys((folder, ""))
        for key in _MASK_NAMES
        if f"{place}/{key}" != block.dataset
    ]
    return find_mask(view, names, block, shape, "nonzero-bad")
