"""The mask a user hands in: an array or a file."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np

from napari_xtal.detector.mask import Reason, is_good, mask_from_file
from napari_xtal.errors import InputError
from napari_xtal.io.layouts import generic_hdf5, images, numpy_arrays
from napari_xtal.io.links import LinkPolicy, Resolver, read_small
from napari_xtal.io.paths import expand


def load_user_mask(mask: Any, shape: tuple[int, int], policy: LinkPolicy) -> np.ndarray:
    """Return the reasons of a user mask.

    Parameters
    ----------
    mask : array or path
        Boolean: True = good pixel. Numbers: non-zero = bad pixel, as pyFAI, silx and CXI
        write them. Files: ``.npy``, HDF5 (``file.h5::/path`` names the dataset), TIFF, EDF.
    shape : (int, int)
        Frame shape it must have.

    Raises
    ------
    InputError
        When it cannot be read or has another shape.
    """
    if isinstance(mask, (str, os.PathLike)):
        label = os.fspath(mask)
        values = _read(label, policy)
    else:
        label = "mask"
        values = np.asarray(mask)
    if values.dtype.kind not in "iubf":
        raise InputError(f"{label}: a mask holds numbers or booleans, not {values.dtype}")
    if values.shape != shape:
        if values.ndim < 2 or values.size != shape[0] * shape[1] or values.shape[-1] != shape[1]:
            raise InputError(
                f"{label}: the mask has shape {values.shape}, the frames have shape {shape}"
            )
        values = values.reshape(shape)
    rule = "nonzero-good" if values.dtype.kind == "b" else "nonzero-bad"
    good = is_good(mask_from_file(values, rule))
    return np.where(good, np.uint8(0), np.uint8(Reason.USER))


def _read(label: str, policy: LinkPolicy) -> np.ndarray:
    ((path, dataset),) = expand(label)[:1]
    if numpy_arrays.matches(path):
        return np.array(numpy_arrays.load_array(path))
    if images.matches(path):
        found = images.open_file(path, policy)
        return images.read_frame(path, 0, found.dtype).image
    with Resolver(path, policy) as view:
        if dataset is None:
            candidates = generic_hdf5.search(view)
            named = [c for c in candidates if "mask" in c.name.rsplit("/", 1)[-1].lower()]
            if not candidates:
                raise InputError(f"{path}: no mask found in this file")
            dataset = (named or candidates)[0].name
        target = view.resolve(dataset)
        found_object = view.file(target.file)[target.name]
        if not isinstance(found_object, h5py.Dataset) or found_object.external:
            raise InputError(f"{path}: {dataset} is not a mask that can be read")
        values = read_small(found_object, policy.max_frame_bytes)
        if values is None:
            raise InputError(f"{path}: mask {dataset} cannot be read")
        return values
