"""Choose the layout of a file: the first that recognises it, as listed here."""

from __future__ import annotations

import h5py

from napari_xtal.errors import InputError
from napari_xtal.io.hdf5 import check_file
from napari_xtal.io.layouts import cxi, generic_hdf5, images, numpy_arrays, nxmx
from napari_xtal.io.layouts.base import FileFrames
from napari_xtal.io.links import LinkPolicy, Resolver

#: In order of detection; the last one takes every HDF5 file.
HDF5_LAYOUTS = (nxmx, cxi, generic_hdf5)

#: Beyond this many image files only the first and last are opened in advance.
_PROBED_IMAGES = 256


def describe_file(path: str, dataset: str | None, policy: LinkPolicy) -> FileFrames:
    """Find out where the frames of one file are; no frame is decoded from HDF5.

    Raises
    ------
    InputError
        When the file has no frames that can be read; the message says why.
    """
    check_file(path)
    if numpy_arrays.matches(path) or images.matches(path):
        if dataset:
            raise InputError(f"{path}: only HDF5 files have datasets; leave out '{dataset}'")
        if numpy_arrays.matches(path):
            return numpy_arrays.open_file(path, policy)
        return images.open_file(path, policy)
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: {_not_frames(path)}")
    with Resolver(path, policy) as view:
        try:
            candidates = generic_hdf5.search(view)
            layout = next(item for item in HDF5_LAYOUTS if item.matches(view))
            return layout.open_file(view, dataset, candidates)
        except InputError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
            text = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{path}: damaged HDF5 file ({text})") from error
        except (MemoryError, UnicodeError, AttributeError) as error:
            raise InputError(f"{path}: damaged HDF5 file ({type(error).__name__})") from error


def describe_all(named: list[tuple[str, str | None]], policy: LinkPolicy) -> list[FileFrames]:
    """Describe files that are joined to one run.

    Raises
    ------
    InputError
        When one of them cannot be opened, or their frames differ in shape.
    """
    many_images = len(named) > _PROBED_IMAGES and all(images.matches(f) for f, _ in named)
    described: list[FileFrames] = []
    for k, (path, dataset) in enumerate(named):
        if many_images and 0 < k < len(named) - 1 and described[0].n_frames == 1:
            # Thousands of one-image files of one run: sizes are checked when they are read.
            first = described[0]
            described.append(
                FileFrames(path, first.layout, first.blocks, first.shape, first.dtype,
                           first.rules, "image", metadata=first.metadata)
            )  # fmt: skip
            continue
        described.append(describe_file(path, dataset, policy))
        first, last = described[0], described[-1]
        if last.shape != first.shape:
            raise InputError(
                f"frames of different shape cannot be joined: {first.path} has {first.shape}, "
                f"{last.path} has {last.shape}; open them separately"
            )
    return described


def _not_frames(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(2048)
    if head.startswith(b"CrystFEL stream format"):
        return "a CrystFEL stream: it holds peak lists, not frames; open the image files"
    if head.startswith(b"###CBF"):
        return "a CBF file without the ending .cbf; rename it"
    if b"\0" not in head and not any(byte < 9 for byte in head):
        return "a text file, not frames; give the image files themselves"
    known = ", ".join((".h5", ".cxi", ".nxs", ".npy", *images.SUFFIXES[:5]))
    return f"not HDF5 and no known ending ({known}, also with .gz or .bz2); damaged or truncated?"
