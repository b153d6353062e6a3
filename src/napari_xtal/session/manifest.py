"""``session.json``: sources, parameters and view of a session."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from napari_xtal.errors import ParameterError, SessionError
from napari_xtal.session.files import fingerprint, write_json

#: Version of the folder's layout.
VERSION = 1
#: Beyond this many sources only sizes and times are noted, since hashing reads each file.
_HASHED_FILES = 256


@dataclass
class Manifest:
    """Content of ``session.json``.

    Attributes
    ----------
    sources : dict of str to dict or None
        Fingerprint of each source file by absolute path; None when it could not be read.
    frames : list
        Identities of all frames in their order, see `frames.pack_ids`.
    parameters : dict of str to dict
        Parameters by step.
    view : dict
        What the window showed.
    id_ceiling : int
        Peak ids from here on were never given to a peak.
    geometry_hash : str or None
        Hash of the geometry in use.
    """

    sources: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    frames: list[list[Any]] = field(default_factory=list)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    id_ceiling: int = 1
    geometry_hash: str | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = VERSION

    def use_files(self, files: Iterable[str | os.PathLike[str]]) -> None:
        """Note the source files; fingerprints of those known already are kept."""
        paths = [source_path(f) for f in files]
        hashed = len(paths) <= _HASHED_FILES
        self.sources = {
            p: self.sources[p] if self.sources.get(p) else fingerprint(p, hashed=hashed)
            for p in paths
        }

    def save(self, path: Path) -> None:
        """Write the file, the former version becoming ``session.json.bak``.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        write_json(path, asdict(self))


def read_manifest(path: Path) -> tuple[Manifest, str | None]:
    """Read ``session.json``, else its ``.bak``, else start anew: user edits are in the journal.

    Returns
    -------
    Manifest
        The content.
    str or None
        What had to be recovered.

    Raises
    ------
    SessionError
        When a later version of the program wrote the file.
    """
    names = set(Manifest.__dataclass_fields__)
    for candidate in (path, path.with_name(path.name + ".bak")):
        try:
            content = json.loads(candidate.read_bytes())
            version = int(content["format"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if version > VERSION:
            raise SessionError(
                f"{candidate}: written by a later napari-xtal (format {version}, this one knows "
                f"{VERSION}); update napari-xtal"
            )
        manifest = Manifest(**{k: v for k, v in content.items() if k in names})
        return manifest, None if candidate == path else "session.json was restored from its backup"
    return Manifest(), (
        "session.json cannot be read: parameters and view are the defaults, edits were restored "
        "from the journal"
    )


def source_path(file: str | os.PathLike[str]) -> str:
    """Return the absolute path of a source, without the dataset of ``file.h5::/dataset``."""
    return os.path.abspath(str(file).split("::")[0])


def plain_json(value: Any, what: str) -> Any:
    """Return a value as JSON can hold it: arrays as lists, NaN and infinity as None.

    Raises
    ------
    ParameterError
        When JSON has nothing for it.
    """
    if isinstance(value, Enum):
        return plain_json(value.value, what)
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return plain_json(value.item(), what)
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist(), what)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(k): plain_json(v, f"{what}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_json(v, what) for v in value]
    raise ParameterError(
        f"{what}: a {type(value).__name__} cannot be stored in a session; use numbers, text, lists"
    )
