"""What an HDF5 file may point to: links and virtual datasets, resolved and checked.

HDF5 follows soft links, external links and virtual datasets silently, and reads zeros
where a virtual source is missing. So each target is resolved here, file *and* object,
component by component, before a pixel is read.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from napari_xtal.errors import InputError, UnsafeLinkError
from napari_xtal.io.hdf5 import HandleCache

_MAX_HOPS = 32
_CORRUPT = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class LinkPolicy:
    """What a file may point to and how much it may ask for.

    Attributes
    ----------
    roots : tuple of str
        Folders, besides that of the opened file, in which link targets may lie.
    allow_external_links, allow_vds : bool
        Whether external links and virtual datasets are followed at all.
    allow_external_storage : bool
        Whether a dataset may keep its bytes in a foreign file. Off: such a dataset
        can be made to show any file of the computer.
    max_frame_bytes : int
        Largest frame that is read [bytes].
    max_depth, max_objects : int
        Bounds of the search for datasets.
    """

    roots: tuple[str, ...] = ()
    allow_external_links: bool = True
    allow_vds: bool = True
    allow_external_storage: bool = False
    max_frame_bytes: int = 2**30
    max_depth: int = 12
    max_objects: int = 10_000


class BrokenLinkError(InputError):
    """A link or virtual source whose target does not exist."""


class Target(NamedTuple):
    """Where an object really is, after all links."""

    file: str
    name: str


class Hole(NamedTuple):
    """Part of a virtual dataset whose source cannot be read.

    Bounds are half open; the first axis of a dataset with three or more axes is the
    frame. `status` is a `FrameStatus` value.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    status: str
    reason: str


class Resolver:
    """Looks up objects of one opened file under a `LinkPolicy`.

    Parameters
    ----------
    path : str
        The file the user opened; its folder is the first allowed root.
    policy : LinkPolicy
        The rules.
    """

    def __init__(self, path: str, policy: LinkPolicy) -> None:
        self.path = path
        self.policy = policy
        self.warnings: list[str] = []
        folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
        self._roots = [folder, *(os.path.realpath(root) for root in policy.roots)]
        self._handles = HandleCache(8)

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def file(self, path: str | None = None) -> h5py.File:
        """Return an open handle (of the file itself by default)."""
        return self._handles.get(path or self.path)

    def locate(self, name: str, referrer: str) -> str:
        """Return the path of a file that `referrer` names, as HDF5 would find it.

        Raises
        ------
        BrokenLinkError
            When no such file exists.
        UnsafeLinkError
            When it lies outside the allowed folders.
        """
        if name == ".":
            return referrer
        folder = os.path.dirname(os.path.abspath(referrer))
        # HDF5 tries an absolute name, then its last part beside the referring file, then
        # the working directory; checking fewer places would leave a way around the policy.
        parts = [os.path.basename(name)] if os.path.isabs(name) else [name]
        candidates = [name] if os.path.isabs(name) else []
        folders = [folder, os.getcwd(), os.path.dirname(os.path.realpath(referrer))]
        candidates += [os.path.join(where, part) for where in folders for part in parts]
        for candidate in candidates:
            if os.path.exists(candidate):
                real = os.path.realpath(candidate)
                if not any(_is_under(real, root) for root in self._roots):
                    raise UnsafeLinkError(
                        f"{referrer}: points to {real}, outside its own folder; if you trust "
                        f"it, allow the folder with policy=LinkPolicy(roots="
                        f"('{os.path.dirname(real)}',))"
                    )
                return os.path.normpath(candidate)
        raise BrokenLinkError(f"{referrer}: the file it points to, '{name}', does not exist")

    def resolve(self, name: str, file: str | None = None, _hops: int = 0) -> Target:
        """Follow links to `name`, checking every component.

        Raises
        ------
        BrokenLinkError
            When the object does not exist.
        UnsafeLinkError
            When a link leaves the allowed folders or links are circular.
        """
        file = file or self.path
        parts = deque(p for p in name.split("/") if p not in ("", "."))
        done: list[str] = []
        hops = _hops
        while parts:
            part = parts.popleft()
            here = "/" + "/".join(done)
            try:
                group = self.file(file)[here]
                link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
            except _CORRUPT as error:
                raise BrokenLinkError(f"{file}: cannot read {here} ({error})") from error
            if link is None:
                raise BrokenLinkError(f"{file}: no object {here.rstrip('/')}/{part}")
            if isinstance(link, h5py.HardLink):
                done.append(part)
                continue
            hops += 1
            if hops > _MAX_HOPS:
                raise UnsafeLinkError(f"{file}: circular links at {here.rstrip('/')}/{part}")
            rest = "/".join(parts)
            if isinstance(link, h5py.SoftLink):
                absolute = link.path.startswith("/")
                start = link.path if absolute else f"{here}/{link.path}"
                return self.resolve(f"{start}/{rest}", file, hops)
            if not self.policy.allow_external_links:
                raise UnsafeLinkError(
                    f"{file}: {here.rstrip('/')}/{part} is an external link, which the link "
                    "policy does not allow"
                )
            target = self.locate(link.filename, file)
            return self.resolve(f"{link.path}/{rest}", target, hops)
        return Target(file, "/" + "/".join(done))

    def find(self, name: str) -> h5py.Dataset | h5py.Group | None:
        """Return the object `name`, or None when absent; unsafe links leave a warning."""
        try:
            target = self.resolve(name)
            found = self.file(target.file)[target.name]
        except UnsafeLinkError as error:
            self.warnings.append(str(error))
            return None
        except (*_CORRUPT, InputError):
            return None
        return found if isinstance(found, (h5py.Dataset, h5py.Group)) else None

    def dataset(self, name: str) -> h5py.Dataset | None:
        """Return the dataset `name`, or None."""
        found = self.find(name)
        return found if isinstance(found, h5py.Dataset) else None

    def group(self, name: str) -> h5py.Group | None:
        """Return the group `name`, or None."""
        found = self.find(name)
        return found if isinstance(found, h5py.Group) else None

    def holes(self, dataset: h5py.Dataset, _depth: int = 0) -> list[Hole]:
        """Return the parts of a virtual dataset that have no source.

        Reading them gives fill values without an error, so they have to be known.

        Raises
        ------
        UnsafeLinkError
            When a source lies outside the allowed folders.
        """
        if not dataset.is_virtual:
            return []
        if not self.policy.allow_vds:
            raise UnsafeLinkError(
                f"{dataset.file.filename}: {dataset.name} is a virtual dataset, which the link "
                "policy does not allow"
            )
        if _depth > _MAX_HOPS:
            raise UnsafeLinkError(f"{dataset.file.filename}: circular virtual datasets")
        referrer = dataset.file.filename
        found: list[Hole] = []
        known: dict[tuple[str, str], Any] = {}
        for source in dataset.virtual_sources():
            # printf-style sources name a series; its first block stands for the series.
            key = (source.file_name.replace("%b", "0"), source.dset_name.replace("%b", "0"))
            if key not in known:
                known[key] = self._inspect_source(key, referrer, _depth)
            problem, shape, inner = known[key]
            low, high = source.vspace.get_select_bounds()
            start, stop = tuple(low), tuple(h + 1 for h in high)
            if problem:
                found.append(Hole(start, stop, "missing-source", problem))
                continue
            found += _inner_holes(start, stop, source.src_space, shape, inner, key)
        return found

    def _inspect_source(
        self, key: tuple[str, str], referrer: str, depth: int
    ) -> tuple[str | None, tuple[int, ...], list[Hole]]:
        try:
            target = self.resolve(key[1], self.locate(key[0], referrer))
            found = self.file(target.file)[target.name]
            if not isinstance(found, h5py.Dataset):
                return f"{target.file}: {target.name} is not a dataset", (), []
            if found.external and not self.policy.allow_external_storage:
                raise UnsafeLinkError(f"{target.file}: {target.name} uses external storage")
            # Sources that are opened and closed while the walk goes on need their values now.
            return None, tuple(found.shape), self.holes(found, depth + 1)
        except UnsafeLinkError:
            raise
        except InputError as error:
            return str(error), (), []
        except _CORRUPT as error:
            return f"{key[0]}: {key[1]} cannot be read ({error})", (), []


def _inner_holes(
    start: tuple[int, ...],
    stop: tuple[int, ...],
    src_space: Any,
    shape: tuple[int, ...],
    inner: list[Hole],
    key: tuple[str, str],
) -> list[Hole]:
    """Map holes of a source, and frames it does not have yet, into the virtual dataset."""
    if not shape:
        return []
    try:
        low, high = src_space.get_select_bounds()
        first, last = int(low[0]), int(high[0])
    except (RuntimeError, ValueError, TypeError, IndexError):  # an "all" selection has no bounds
        first, last = 0, shape[0] - 1
    found = []
    if last >= shape[0] and stop[0] - start[0] == last - first + 1:
        begin = start[0] + max(shape[0] - first, 0)
        reason = f"'{key[0]}' holds only {shape[0]} frames so far"
        found.append(Hole((begin, *start[1:]), stop, "not-yet-written", reason))
    for hole in inner:
        begin = max(start[0], start[0] + hole.start[0] - first)
        end = min(stop[0], start[0] + hole.stop[0] - first)
        if begin < end:
            found.append(Hole((begin, *start[1:]), (end, *stop[1:]), hole.status, hole.reason))
    return found


def _is_under(path: str, root: str) -> bool:
    try:
        return Path(path).is_relative_to(root)
    except ValueError:
        return False


def read_small(dataset: h5py.Dataset, limit: int = 1 << 24) -> np.ndarray | None:
    """Return a small dataset as an array, or None when it is large or damaged."""
    try:
        if dataset.size is None or dataset.size * dataset.dtype.itemsize > limit:
            return None
        return np.asarray(dataset[()])
    except _CORRUPT:
        return None
