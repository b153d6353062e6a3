"""Candidates with labels: what verifiers are trained and judged on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.peaks.verify.patches import Patches

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

_ARRAYS = ("values", "usable", "is_peak", "snr", "source", "group", "weight")


@dataclass(frozen=True)
class LabelledCandidates:
    """Windows around candidates of a peak finder, and which of them are peaks.

    Attributes
    ----------
    patches : Patches
        The windows.
    is_peak : (n,) ndarray of bool
        The label.
    snr : (n,) ndarray of float32
        Significance that the finder gave.
    source : (n,) ndarray of str
        Data set or simulated family.
    group : (n,) ndarray of int64
        Number of the frame; no number stands for frames of two sources.
    weight : (n,) ndarray of float32
        Weight in training.

    Raises
    ------
    InputError
        When the lengths differ.
    """

    patches: Patches
    is_peak: NDArray[np.bool_]
    snr: NDArray[np.float32]
    source: NDArray[np.str_]
    group: NDArray[np.int64]
    weight: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _ARRAYS[2:]}
        if set(lengths.values()) != {len(self.patches)}:
            raise InputError(f"{len(self.patches)} windows, but {lengths}; they must agree")

    def __len__(self) -> int:
        return len(self.is_peak)

    def take(self, rows: Any) -> LabelledCandidates:
        """Return some of the candidates, by index, slice or mask."""
        return LabelledCandidates(
            self.patches.take(rows), *(getattr(self, name)[rows] for name in _ARRAYS[2:])
        )

    @classmethod
    def concat(cls, parts: list[LabelledCandidates]) -> LabelledCandidates:
        """Join sets of candidates; frames of different parts stay different groups.

        Raises
        ------
        InputError
            When there is no part, or the windows differ in size.
        """
        groups, first = [], 0
        for part in parts:
            numbers, compact = np.unique(part.group, return_inverse=True)
            groups.append(compact.astype(np.int64) + first)
            first += len(numbers)
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("is_peak", "snr", "source", "weight")
            if parts
        }
        return cls(
            patches=Patches.join([part.patches for part in parts]),
            group=np.concatenate(groups),
            **joined,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an uncompressed ``.npz``."""
        np.savez(
            path,
            values=self.patches.values,
            usable=np.packbits(self.patches.usable, axis=-1),
            **{name: getattr(self, name) for name in _ARRAYS[2:]},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LabelledCandidates:
        """Read what `save` wrote; nothing in the file is ever executed.

        Raises
        ------
        InputError
            When the file is missing, damaged, or not of this kind.
        """
        path = Path(path)
        try:
            # numpy leaves a file open that it opened itself and could not read.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                missing = [name for name in _ARRAYS if name not in file]
                if missing:
                    raise InputError(
                        f"{path}: no array '{missing[0]}'; give a file of labelled candidates"
                    )
                arrays = {name: file[name] for name in _ARRAYS}
        except InputError:
            raise
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: cannot be read as labelled candidates: {error}") from error
        values, packed = arrays.pop("values"), arrays.pop("usable")
        if values.ndim != 3 or packed.ndim != 3 or packed.dtype != np.uint8:
            raise InputError(
                f"{path}: windows of shape {values.shape} and their mask of {packed.dtype} "
                f"{packed.shape} do not fit; give a file of labelled candidates"
            )
        usable = np.unpackbits(packed, axis=-1, count=values.shape[-1]).astype(bool)
        return cls(Patches(values, usable), **arrays)
