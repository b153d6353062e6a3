"""Source files of a session: are they there, are they the same, where are they now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_xtal.errors import SessionError
from napari_xtal.session.files import fingerprint, same_content
from napari_xtal.session.manifest import source_path

if TYPE_CHECKING:
    from typing import Any

Sources = dict[str, "dict[str, Any] | None"]
Places = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]


def changed_sources(sources: Sources) -> dict[str, str]:
    """Return the sources that are ``missing``, or ``changed`` since they were first used."""
    found: dict[str, str] = {}
    for path, before in sources.items():
        now = fingerprint(path, hashed="sha256_64k" in (before or {}))
        if now is None:
            found[path] = "missing"
        elif not same_content(before, now):
            found[path] = "changed"
    return found


def planned_moves(sources: Sources, where: Places, *, force: bool) -> dict[str, str]:
    """Return the new path of each moved source by its former path.

    Parameters
    ----------
    sources : dict
        Fingerprint by path.
    where : path-like or dict
        The folder they were moved to, or new path by former path.
    force : bool
        Whether files of other content are accepted.

    Raises
    ------
    SessionError
        When a file is not there, is no source, or has other content.
    """
    moves = _named(sources, where) if isinstance(where, Mapping) else _found(sources, where)
    for old, new in moves.items():
        now = fingerprint(new)
        if now is None:
            raise SessionError(f"{new}: cannot be read; name the new place of {old}")
        if not force and not same_content(sources[old], now):
            raise SessionError(
                f"{new}: is not the file that {old} was (size or content differ); choose "
                "another, or pass force=True"
            )
    return moves


def _named(sources: Sources, where: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    moves = {source_path(old): source_path(new) for old, new in where.items()}
    if unknown := [old for old in moves if old not in sources]:
        raise SessionError(f"{unknown[0]}: is no source of this session; see session.files")
    return {old: new for old, new in moves.items() if old != new}


def _found(sources: Sources, where: str | os.PathLike[str]) -> dict[str, str]:
    folder = Path(where).absolute()
    moves = {}
    for old in sources:
        new = folder / Path(old).name
        if new.exists() and str(new) != old:
            moves[old] = str(new)
        elif not Path(old).exists():
            raise SessionError(f"{folder}: holds no {Path(old).name}; name its new place")
    return moves
