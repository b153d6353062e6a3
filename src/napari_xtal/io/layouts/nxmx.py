"""NXmx and Eiger masters: ``/entry/data/data_000001`` … or ``/entry/data/data``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h5py
import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.io.layouts.base import Block, Candidate, FileFrames, MaskSource
from napari_xtal.io.layouts.stack import (
    make_block,
    mask_fit,
    named_block,
    require_readable,
    shape_and_dtype,
    source_dtype,
    value_rules,
)
from napari_xtal.io.links import BrokenLinkError, Resolver, Target
from napari_xtal.io.metadata import (
    DetectorMetadata,
    corner_to_index,
    energy_from_wavelength,
    number,
    numbers,
    per_frame,
    positive,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

name = "NXmx"
_BLOCK = re.compile(r"data_(\d+)$")


def matches(view: Resolver) -> bool:
    """Whether the file is an NXmx or Eiger master."""
    return _entry(view) is not None


def open_file(view: Resolver, dataset: str | None, candidates: list[Candidate]) -> FileFrames:
    """Describe the frames of a master file."""
    entry = _entry(view) or "/entry"
    detector = f"{entry}/instrument/detector"
    blocks = [named_block(view, dataset, candidates)] if dataset else _find_blocks(view, entry)
    readable = [block for block in blocks if block.target is not None]
    if not readable:
        reasons = "; ".join(dict.fromkeys(block.reason for block in blocks))
        raise InputError(
            f"{view.path}: none of the data files that this master points to can be read "
            f"({reasons[:600]}); put them beside the master"
        )
    for block in readable:
        require_readable(block)
    shape, dtype, modules = shape_and_dtype(view, readable[0])
    for block in readable[1:]:
        other = shape_and_dtype(view, block)[0]
        if other != shape:
            raise InputError(
                f"{view.path}: {readable[0].dataset} has frames of {shape}, {block.dataset} of "
                f"{other}; give the dataset to open"
            )
    n_frames = sum(block.n_frames for block in blocks)
    metadata = read_metadata(view, entry, detector, n_frames)
    mask = find_pixel_mask(view, detector, shape)
    rules = value_rules(
        source_dtype(view, readable[0]), metadata, mask is not None, negative_codes=True
    )
    lost = [block for block in blocks if block.target is None]
    warnings = [block.reason for block in lost]
    return FileFrames(
        path=view.path,
        layout=name,
        blocks=tuple(blocks),
        shape=shape,
        dtype=dtype,
        rules=rules,
        modules=modules,
        metadata=metadata,
        mask=mask,
        candidates=tuple(Candidate(b.dataset, (b.n_frames, *shape), str(dtype)) for b in readable),
        warnings=tuple(warnings + view.warnings),
    )


def _entry(view: Resolver) -> str | None:
    root = view.file()
    names = ["entry"] + [key for key in list(root)[:50] if key != "entry"]
    for key in names:
        path = f"/{key}"
        data = view.group(f"{path}/data")
        if data is None:
            continue
        keys = list(data)[:100_000]
        if "data" not in keys and not any(_BLOCK.match(k) for k in keys):
            continue
        # The name last: strings of variable length are where damaged files hurt most.
        usual = key == "entry" and view.group(f"{path}/instrument/detector") is not None
        if usual or text(view, f"{path}/definition").startswith("NXmx"):
            return path
    return None


def _find_blocks(view: Resolver, entry: str) -> list[Block]:
    group = view.group(f"{entry}/data")
    assert group is not None
    numbered = sorted((k for k in group if _BLOCK.match(k)), key=lambda k: int(k[5:]))
    # A virtual /entry/data/data shows the same frames as the blocks: never both. The
    # blocks come first, since a missing one is then known by name.
    if not numbered:
        block = make_block(view, f"{entry}/data/data")
        if block.n_frames == 0:
            raise InputError(f"{view.path}: {entry}/data/data holds no frames yet")
        return [block]
    if "data" in group and len(numbered) == 1 and _is_dataset(view, f"{entry}/data/data"):
        return [make_block(view, f"{entry}/data/data")]
    blocks: list[Block] = []
    for key in numbered:
        path = f"{entry}/data/{key}"
        try:
            blocks.append(make_block(view, path, prefix=key))
        except BrokenLinkError as error:
            blocks.append(Block(path, 0, prefix=key, status="missing-source", reason=str(error)))
    return _fill_missing(view, blocks)


def _is_dataset(view: Resolver, path: str) -> bool:
    return view.dataset(path) is not None


def _fill_missing(view: Resolver, blocks: list[Block]) -> list[Block]:
    """Give missing blocks their frames, so that the numbering of the run stays.

    The first image numbers of later blocks tell where they start; else a missing block
    is as long as the first one that is there.
    """
    full = next((block.n_frames for block in blocks if block.target is not None), 0)
    starts: list[int | None] = []
    for block in blocks:
        low = None
        if block.target is not None:
            attrs = view.file(block.target.file)[block.target.name].attrs
            try:
                low = int(np.ravel(attrs["image_nr_low"])[0])
            except (KeyError, OSError, RuntimeError, ValueError, TypeError, IndexError):
                low = None
        starts.append(low)
    filled: list[Block] = []
    origin = 1
    position = 0
    for k, block in enumerate(blocks):
        low = starts[k]
        if block.target is None:
            n = full
            following = starts[k + 1] if k + 1 < len(blocks) else None
            if following is not None and following > origin + position:
                n = following - origin - position
            block = Block(block.dataset, n, block.prefix, status=block.status, reason=block.reason)
        elif k == 0 and low is not None:
            origin = low
        filled.append(block)
        position += block.n_frames
    return filled


def read_metadata(view: Resolver, entry: str, detector: str, n_frames: int) -> DetectorMetadata:
    """Read beam and detector of a NeXus entry; unknown values stay None."""
    special = f"{detector}/detectorSpecific"
    energies = None
    waves = numbers(
        view,
        _paths((f"{entry}/instrument/beam", f"{entry}/sample/beam"),
               ("incident_wavelength", "wavelength")),
        "length",
        "angstrom",
    )  # fmt: skip
    if waves is None:
        waves = numbers(view, [f"{detector}/wavelength_A"], "length", "angstrom")
    if waves is not None:
        energies = np.where(waves > 0, energy_from_wavelength(waves), np.nan)
    else:
        energies = numbers(
            view,
            [
                f"{special}/photon_energy",
                f"{entry}/instrument/beam/incident_energy",
                f"{entry}/instrument/beam/energy",
                f"{detector}/photon_energy",
                f"{detector}/collection/beam_energy",
            ],
            "energy",
            "ev",
        )
    energy = None
    if energies is not None and np.isfinite(energies).any():
        energy = float(np.median(energies[np.isfinite(energies)]))
    distance = number(
        view, _paths((detector,), ("distance", "detector_distance")), "length", "m"
    ) or number(view, [f"{detector}/distance_mm"], "length", "mm")
    pixel = number(view, [f"{detector}/x_pixel_size"], "length", "m") or number(
        view, [f"{detector}/pixel_size_mm"], "length", "mm"
    )
    x = number(view, [f"{detector}/beam_center_x"])
    y = number(view, [f"{detector}/beam_center_y"])
    cutoff = "countrate_correction_count_cutoff"
    depth = number(
        view, _paths((detector, special), ("bit_depth_image",)) + [f"{detector}/bit_depth_readout"]
    )
    frames = per_frame(energies, n_frames)
    return DetectorMetadata(
        photon_energy_ev=positive(energy),
        distance_m=positive(abs(distance) if distance else None),
        pixel_size_m=positive(pixel),
        # (0, 0) is what writers leave when nobody told them the beam centre.
        beam_centre=corner_to_index(x, y) if x is not None and y is not None and (x or y) else None,
        saturation_value=positive(
            number(
                view,
                [
                    f"{detector}/saturation_value",
                    f"{special}/saturation_value",
                    f"{special}/{cutoff}",
                    f"{special}/detectorModule_000/{cutoff}",
                ],
            )
        ),
        underload_value=number(view, [f"{detector}/underload_value"]),
        bit_depth=int(depth) if depth else None,
        description=text(view, f"{detector}/description"),
        per_frame={"photon_energy_ev": frames} if frames is not None else {},
    )


def find_pixel_mask(view: Resolver, detector: str, shape: tuple[int, int]) -> MaskSource | None:
    """Return the pixel masks of a NeXus detector (``pixel_mask``, ``pixel_mask_N``)."""
    targets: list[Target] = []
    for group in (detector, f"{detector}/detectorSpecific"):
        parent = view.group(group)
        if parent is None or targets:
            continue
        for key in sorted(k for k in parent if re.fullmatch(r"pixel_mask(_\d+)?", k)):
            try:
                target = view.resolve(f"{group}/{key}")
                found = view.file(target.file)[target.name]
            except (InputError, KeyError, OSError, RuntimeError) as error:
                view.warnings.append(f"{view.path}: {group}/{key} cannot be read ({error})")
                continue
            if not isinstance(found, h5py.Dataset) or found.external:
                continue
            if mask_fit(found.shape, shape, 0) is None:
                view.warnings.append(
                    f"{view.path}: mask {group}/{key} {found.shape} does not fit frames of "
                    f"{shape}; not used"
                )
                continue
            targets.append(target)
    return MaskSource(tuple(targets), "nexus") if targets else None


def _paths(groups: Iterable[str], names: Iterable[str]) -> list[str]:
    return [f"{group}/{item}" for group in groups for item in names]
