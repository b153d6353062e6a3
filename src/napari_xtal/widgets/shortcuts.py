"""The one table of keys: it binds them, shows them and is the documentation of them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Shortcut:
    """One key binding.

    Attributes
    ----------
    action : str
        Name under which a view offers the function.
    key : str
        Key in napari's notation.
    description : str
        What it does, for the help.
    scope : str
        Where it works.
    """

    action: str
    key: str
    description: str
    scope: str = "peaks layer"


#: Bound on the peaks layer itself, not on the viewer: napari's own layer keys would win there.
SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("label_peak", "y", "Label the selected peaks 'peak' (yes)"),
    Shortcut("label_not_peak", "n", "Label the selected peaks 'not-peak' (no)"),
    Shortcut("label_unsure", "u", "Label the selected peaks 'unsure'"),
    Shortcut("label_clear", "0", "Remove the label of the selected peaks"),
    Shortcut("delete", "Delete", "Delete the selected peaks"),
    Shortcut("delete", "1", "Delete the selected peaks"),
    Shortcut("undo", "Control-Z", "Undo the last edit"),
    Shortcut("redo", "Control-Shift-Z", "Redo the edit undone last"),
    Shortcut("copy", "Control-C", "Copy the selected peaks"),
    Shortcut("paste", "Control-V", "Paste the copied peaks into the shown frame"),
)

#: Keys of napari itself that belong to the work, for the help only.
NAPARI_KEYS: tuple[Shortcut, ...] = (
    Shortcut("", "2 or P", "Add peaks by clicking"),
    Shortcut("", "3 or S", "Select and drag peaks"),
    Shortcut("", "4 or Z", "Move the camera"),
    Shortcut("", "A", "Select all peaks of the shown frame"),
    Shortcut("", "Left / Right", "Previous / next frame", "viewer"),
)


def bind(layer: Any, actions: Mapping[str, Callable[[], object]]) -> None:
    """Bind the keys of `SHORTCUTS` on one layer.

    Parameters
    ----------
    layer : napari.layers.Layer
        The layer the keys work on.
    actions : mapping of str to callable
        Function of each action; actions that are not offered stay unbound.
    """
    for shortcut in SHORTCUTS:
        function = actions.get(shortcut.action)
        if function is not None:
            layer.bind_key(shortcut.key, _caller(function), overwrite=True)


def help_html() -> str:
    """Return the table of keys as HTML for a tooltip or a dialog."""
    rows = "".join(
        f"<tr><td><b>{html.escape(s.key)}</b>&nbsp;&nbsp;</td>"
        f"<td>{html.escape(s.description)}&nbsp;&nbsp;</td><td><i>{s.scope}</i></td></tr>"
        for s in SHORTCUTS + NAPARI_KEYS
    )
    return (
        "<p>Without a selection, the label keys act on the peak under the cursor.</p>"
        f"<table>{rows}</table>"
    )


def _caller(function: Callable[[], object]) -> Callable[[Any], None]:
    def call(_layer: Any) -> None:
        function()

    return call
