"""The command line, ``napari-xtal …``: the same functions as the window and Python use.

Each command prints a one-line summary and exits with 0, with 1 when the work failed for
some frames (they are listed), or with 2 when arguments or input cannot be used.
"""

from napari_xtal.cli.app import app, main

__all__ = ["app", "main"]
