"""Exceptions whose text names the file, dataset, frame or parameter and the remedy.

Everything the package raises on purpose derives from `XtalError`, so that a
window or a batch job can show one clear message and go on.
"""

from __future__ import annotations


class XtalError(Exception):
    """Base class of all errors that napari-xtal raises on purpose."""


class InputError(XtalError, ValueError):
    """A file, dataset or array cannot be used as given."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that was named does not exist."""

    def __str__(self) -> str:
        # FileNotFoundError would format errno arguments; the message is all we have.
        return str(self.args[0]) if self.args else ""


class UnsafeLinkError(InputError):
    """A file points to something outside the folders it may point to."""


class FilterMissingError(InputError):
    """A dataset needs a compression plug-in that is not installed."""


class ParameterError(XtalError, ValueError):
    """A parameter is out of range or does not go with the others."""


class SessionError(XtalError):
    """A session folder cannot be opened, locked or written."""


class OutputError(XtalError, OSError):
    """A result cannot be written; nothing that existed was overwritten."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
