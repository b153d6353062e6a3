"""CXI files (https://github.com/FilipeMaia/CXI, version 1.6): ``/entry_1/data_1/data``."""

from __future__ import annotations

import re

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.io.layouts.base import Block, Candidate, FileFrames, MaskSource
from napari_xtal.io.layouts.stack import (
    find_mask,
    make_block,
    named_block,
    require_readable,
    shape_and_dtype,
    source_dtype,
    value_rules,
)
from napari_xtal.io.links import BrokenLinkError, Resolver
from napari_xtal.io.metadata import (
    DetectorMetadata,
    corner_to_index,
    number,
    numbers,
    per_frame,
    positive,
    text,
)

name = "CXI"
#: Energies without a unit are joules in CXI; no photon here has fewer eV than this.
_LARGEST_JOULE = 1e-9


def matches(view: Resolver) -> bool:
    """Whether the file follows CXI."""
    root = view.file()
    return "cxi_version" in root or "entry_1" in root


def open_file(view: Resolver, dataset: str | None, candidates: list[Candidate]) -> FileFrames:
    """Describe the frames of a CXI file."""
    if dataset:
        block = named_block(view, dataset, candidates)
    else:
        path = _find_data(view)
        if path is None:
            raise InputError(
                f"{view.path}: a CXI file without images (/entry_1/data_1/data); name the dataset"
            )
        block = make_block(view, path)
        if block.n_frames == 0:
            raise InputError(f"{view.path}: {path} holds no frames yet")
    require_readable(block)
    shape, dtype, modules = shape_and_dtype(view, block)
    found = re.match(r"(/entry_\d+)", block.dataset)
    entry = found.group(1) if found else "/entry_1"
    mask = _find_mask(view, entry, block, shape)
    metadata = read_metadata(view, entry, block.n_frames)
    rules = value_rules(source_dtype(view, block), metadata, mask is not None, negative_codes=False)
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


def _find_data(view: Resolver) -> str | None:
    problem = None
    for entry in sorted(k for k in view.file() if re.fullmatch(r"entry_\d+", k)):
        for path in _image_paths(view, entry):
            try:
                target = view.resolve(path)
            except BrokenLinkError as error:
                # The standard place may be a link to nowhere: say so if nothing else works.
                if f"no object {path}" not in str(error) and problem is None:
                    problem = error
                continue
            if view.dataset(target.name) is not None or target.file != view.path:
                return path
    if problem is not None:
        raise InputError(str(problem)) from problem
    return None


def _image_paths(view: Resolver, entry: str) -> list[str]:
    paths = [f"/{entry}/data_1/data"]
    for group, member in (("data", ""), ("image", ""), ("instrument", "detector")):
        numbered = [f"/{entry}/{group}_{k}" for k in range(1, 5)]
        if member:
            numbered = [f"{path}/{member}_{k}" for path in numbered for k in range(1, 5)]
        paths += [f"{path}/data" for path in numbered]
    return [path for path in dict.fromkeys(paths) if _parent_exists(view, path)]


def _parent_exists(view: Resolver, path: str) -> bool:
    parent = view.group(path.rsplit("/", 1)[0])
    return parent is not None and "data" in parent


def _find_mask(
    view: Resolver, entry: str, block: Block, shape: tuple[int, int]
) -> MaskSource | None:
    folder = block.dataset.rsplit("/", 1)[0]
    folders = dict.fromkeys(
        [folder, f"{entry}/data_1", f"{entry}/instrument_1/detector_1", f"{entry}/image_1"]
    )
    names = [f"{path}/{key}" for path in folders for key in ("mask", "mask_shared")]
    root = view.file()
    rule = "cxi"
    if "LCLS" in root and "psana" in root:
        # psocake keeps psana's sign: 1 = good.
        rule = "nonzero-good"
    return find_mask(view, names, block, shape, rule)


def read_metadata(view: Resolver, entry: str, n_frames: int) -> DetectorMetadata:
    """Read beam and detector of a CXI entry; unknown values stay None."""
    instrument = f"{entry}/instrument_1"
    detector = f"{instrument}/detector_1"
    energies = _energies(view, entry, instrument)
    energy = None
    if energies is not None and np.isfinite(energies).any():
        energy = float(np.median(energies[np.isfinite(energies)]))
    distance = number(
        view, [f"{detector}/distance", f"{detector}/detector_distance"], "length", "m"
    )
    x = number(view, [f"{detector}/beam_center_x", f"{entry}/beam_center_x"])
    y = number(view, [f"{detector}/beam_center_y", f"{entry}/beam_center_y"])
    frames = per_frame(energies, n_frames)
    return DetectorMetadata(
        photon_energy_ev=positive(energy),
        distance_m=positive(abs(distance) if distance else None),
        pixel_size_m=positive(number(view, [f"{detector}/x_pixel_size"], "length", "m")),
        beam_centre=corner_to_index(x, y) if x is not None and y is not None and (x or y) else None,
        saturation_value=positive(number(view, [f"{detector}/saturation_value"])),
        underload_value=number(view, [f"{detector}/underload_value"]),
        description=text(view, f"{detector}/description"),
        per_frame={"photon_energy_ev": frames} if frames is not None else {},
    )


def _energies(view: Resolver, entry: str, instrument: str) -> np.ndarray | None:
    in_ev = [f"{instrument}/source_1/photon_energy_eV", "/LCLS/photon_energy_eV"]
    for path in (f"{instrument}/source_1/energy", f"{entry}/source_1/energy"):
        dataset = view.dataset(path)
        if dataset is None:
            continue
        values = numbers(view, [path])
        if values is None:
            continue
        typical = float(np.median(values[np.isfinite(values)]))
        if not typical > 0:
            continue
        default = "j" if typical < _LARGEST_JOULE else "ev"
        return numbers(view, [path], "energy", default)
    return numbers(view, in_ev, "energy", "ev")
