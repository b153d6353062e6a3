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


#: Scope of the keys that work in the gallery of the *Peak review* dock too.
BOTH = "peaks layer, gallery"

#: Bound on the peaks layer itself, not on the viewer: napari's own layer keys would win there.
SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("label_peak", "y", "Label the selected peaks 'peak' (yes)", BOTH),
    Shortcut("label_not_peak", "n", "Label the selected peaks 'not-peak' (no)", BOTH),
    Shortcut("label_unsure", "u", "Label the selected peaks 'unsure'", BOTH),
    Shortcut("label_clear", "0", "Remove the label of the selected peaks", BOTH),
    Shortcut("delete", "Delete", "Delete the selected peaks", BOTH),
    Shortcut("delete", "1", "Delete the selected peaks"),
    Shortcut("undo", "Control-Z", "Undo the last edit", BOTH),
    Shortcut("redo", "Control-Shift-Z", "Redo the edit undone last", BOTH),
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
    Shortcut("", "Arrows", "Move from peak to peak", "gallery"),
    Shortcut("", "Shift / Control + click", "Select several peaks", "gallery"),
)

#: Label that each action gives.
LABEL_ACTIONS = {
    "label_peak": "peak",
    "label_not_peak": "not-peak",
    "label_unsure": "unsure",
    "label_clear": "unlabelled",
}

#: What the gallery's menu calls each action.
MENU_TEXTS = {
    "label_peak": "Peak",
    "label_not_peak": "Not a peak",
    "label_unsure": "Unsure",
    "label_clear": "Remove the label",
    "delete": "Delete",
}


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


def gallery_keys() -> dict[str, str]:
    """Return the action of each key of the gallery; keys as Qt writes them."""
    return {_qt_key(s.key): s.action for s in SHORTCUTS if s.scope == BOTH}


def _qt_key(key: str) -> str:
    modifiers, _, last = key.rpartition("-")
    names = {"Control": "Ctrl", "Delete": "Del"}
    parts = [*modifiers.split("-"), last] if modifiers else [last]
    return "+".join(names.get(p, p.upper() if len(p) == 1 else p) for p in parts)


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
