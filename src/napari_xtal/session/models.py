"""Trained models of a session: files named by the hash of their content, in ``models/``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_xtal.errors import OutputError, ParameterError, SessionError
from napari_xtal.session.files import explain, write_whole
from napari_xtal.session.manifest import plain_json

#: Endings of model files; neither format can hold code.
SUFFIXES = (".safetensors", ".skops")
#: Version of the ``.json`` beside each model.
VERSION = 1
_HASH = re.compile(r"[0-9a-f]{16}")


class ModelStore:
    """Models in a folder: each a file ``<hash><suffix>`` with ``<hash>.json`` beside it.

    Reading needs no session: the folder of a session that another process holds, or that
    cannot be written, works too. Other files in the folder are left alone.

    Parameters
    ----------
    folder : Path
        The folder; made with the first model.
    may_write : callable, optional
        Asked before each change; returns None, or the reason why not.
    """

    def __init__(self, folder: Path, may_write: Callable[[], str | None] = lambda: None) -> None:
        self.folder = Path(folder)
        self._may_write = may_write

    def add(
        self,
        save: Callable[[Path], Any],
        suffix: str,
        info: Mapping[str, Any],
        report: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a model and return its hash; the same model again is stored once.

        Parameters
        ----------
        save : callable
            Writes the model to the path it gets, e.g. ``verifier.save``.
        suffix : {".safetensors", ".skops"}
            Ending of the file.
        info : dict
            What is known of it: kind, labels by class, label frames, parameters, parent
            model, versions. The time is added.
        report : dict, optional
            Its scores.

        Raises
        ------
        ParameterError
            When the suffix is not known, or `info` or `report` cannot be stored.
        OutputError, SessionError
            When the folder cannot be written; no half model is left.
        """
        if suffix not in SUFFIXES:
            raise ParameterError(f"model file '{suffix}': use one of {', '.join(SUFFIXES)}")
        beside = {
            "format": VERSION,
            "info": {
                "time": datetime.now(UTC).isoformat(timespec="microseconds"),
                **plain_json(info, "model info"),
            },
            "report": plain_json(report, "model report"),
        }
        self._check_writable()
        try:
            self.folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new.", dir=self.folder) as scratch:
                new = Path(scratch) / f"model{suffix}"
                save(new)
                content = new.read_bytes()
        except OSError as error:
            raise OutputError(explain(self.folder / f"model{suffix}", error)) from error
        name = _hash(content)
        # The description comes last: a model without one does not count.
        write_whole(self.folder / f"{name}{suffix}", lambda p: _put(p, content))
        text = json.dumps(beside, indent=1, allow_nan=False).encode()
        write_whole(self.folder / f"{name}.json", lambda p: _put(p, text))
        return name

    def list(self) -> list[dict[str, Any]]:
        """Return what is known of each model, newest first: ``hash``, ``file``, ``report``, ….

        The other keys are those of `info` as given to `add`, and ``time``.
        """
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*.json"):
                entry = self._entry(path.stem)
                if entry is not None:
                    found.append(entry)
        return sorted(found, key=lambda e: (str(e.get("time")), e["hash"]), reverse=True)

    def path(self, name: str) -> Path:
        """Return the file of a model, its content checked.

        Raises
        ------
        SessionError
            When there is no such model, or the file is not what was stored.
        """
        entry = self._entry(name)
        if entry is None:
            raise SessionError(
                f"{self.folder}: holds no model {name!r}; choose another one, or train it again"
            )
        path = self.folder / str(entry["file"])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SessionError(f"{path}: cannot be read ({error.strerror})") from error
        if _hash(content) != name:
            raise SessionError(
                f"{path}: was changed since it was stored (its content has the hash "
                f"{_hash(content)}); remove it and train again"
            )
        return path

    def remove(self, name: str) -> None:
        """Remove a model and what is known of it.

        Raises
        ------
        SessionError
            When there is no such model.
        OutputError
            When it cannot be removed.
        """
        entry = self._entry(name)
        if entry is None:
            raise SessionError(f"{self.folder}: holds no model {name!r}")
        self._check_writable()
        try:
            (self.folder / f"{name}.json").unlink()
            (self.folder / str(entry["file"])).unlink()
        except OSError as error:
            raise OutputError(explain(self.folder / str(entry["file"]), error)) from error

    def _entry(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a model; None when it is not one of ours, or not whole."""
        if not _HASH.fullmatch(name):
            return None
        files = [f"{name}{s}" for s in SUFFIXES if (self.folder / f"{name}{s}").is_file()]
        try:
            known = json.loads((self.folder / f"{name}.json").read_bytes())
            info, report = dict(known["info"]), known["report"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not files:
            return None
        return {**info, "hash": name, "file": files[0], "report": report}

    def _check_writable(self) -> None:
        if reason := self._may_write():
            raise SessionError(reason)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
