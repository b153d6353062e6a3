"""What a session may be told when it is made or opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    from napari_xtal.detector.frame import FrameId


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session.

    Attributes
    ----------
    ids : sequence of FrameId, optional
        Identities of the run's frames in their order (``source.ids``). Edits join on
        them, so files may be moved, joined or re-ordered. Without them those of the last
        time are used, and for a new session frames are only numbers.
    geometry_hash : str, optional
        Hash of the geometry in use.
    """

    ids: Sequence[FrameId] | None = None
    geometry_hash: str | None = None

    @classmethod
    def of(cls, given: SessionOptions | Mapping[str, Any] | None, **more: Any) -> SessionOptions:
        """Return options from a mapping; values of `more` that are not None win.

        Raises
        ------
        ParameterError
            When an option is not known.
        """
        if not isinstance(given, SessionOptions):
            given = dict(given or {})
            if unknown := sorted(set(given) - {f.name for f in fields(cls)}):
                raise ParameterError(f"session option '{unknown[0]}' is not known")
            given = cls(**given)
        return replace(given, **{k: v for k, v in more.items() if v is not None})
