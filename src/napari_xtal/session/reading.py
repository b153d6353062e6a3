"""Reading a session without opening it: also while another process works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_xtal.errors import SessionError
from napari_xtal.session.manifest import read_manifest
from napari_xtal.session.models import ModelStore
from napari_xtal.session.replay import replay

if TYPE_CHECKING:
    import os

    import pandas as pd

    from napari_xtal.detector.frame import FrameId


@dataclass(frozen=True)
class SessionContent:
    """What a session folder holds at a moment.

    Attributes
    ----------
    peaks : DataFrame
        Peak table, as `Session.peaks`.
    parameters : dict of str to dict
        Parameters by step.
    models : ModelStore
        Trained models; one that is added is seen by the process that has the session open.
    notices : list of str
        What was not as it should be.
    """

    peaks: pd.DataFrame
    parameters: dict[str, dict[str, Any]]
    models: ModelStore
    notices: list[str]


def read_session(
    folder: str | os.PathLike[str], ids: Sequence[FrameId] | None = None
) -> SessionContent:
    """Read a session folder without locking or changing it.

    Edits are seen at once; what the machine found up to some seconds ago may be missing.

    Parameters
    ----------
    folder : path-like
        The session folder.
    ids : sequence of FrameId, optional
        Identities of the frames of the run; default those the session was last used with.

    Raises
    ------
    SessionError
        When it is no session, cannot be read, or a later version wrote it.
    """
    place = Path(folder)
    if not is_session(place):
        raise SessionError(f"{place}: holds no session; choose a folder made by the window")
    manifest, notice = read_manifest(place / "session.json")
    state = replay(place, ids, manifest.frames)
    notices = [n for n in (notice, *state.notices) if n]
    return SessionContent(
        state.peaks.table(), manifest.parameters, ModelStore(place / "models"), notices
    )


def is_session(folder: Path) -> bool:
    """Whether a folder holds a session."""
    return any((folder / name).is_file() for name in ("session.json", "journal.jsonl"))
