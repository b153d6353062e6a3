"""The peaks layer: one napari Points layer that shows, and edits, the session's peaks."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_error, show_info, show_warning

from napari_xtal.errors import XtalError
from napari_xtal.peaks.manual import measure_at
from napari_xtal.peaks.table import make_table
from napari_xtal.widgets import peak_rows, shortcuts, styles
from napari_xtal.widgets.zoom_size import ZoomSize, camera_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Metadata key that tells our Points layers; the value is the `RunLink`. Read by the writer.
PEAKS_KEY = "xtal_peaks"
#: Above this many peaks the layer keeps only the frames near the slider: napari's cost per
#: edit and step grows with the layer (0.1 s at 10^5, 1 s at 10^6 points).
LAYER_LIMIT = 150_000


class PeaksView:
    """Two-way view of ``session.peaks``; the session is the truth.

    What a person does in the layer becomes an action of the session; the session's events
    repaint the layer. An echo guard keeps the one from causing the other again.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    image_layer : napari.layers.Image
        The frames; its transform is taken over.
    session : Session
        Owner of the peaks.
    stack : FrameStack
        Frames, for measuring peaks that were added by hand.
    limit : int
        Most peaks in the layer, see `LAYER_LIMIT`.
    """

    def __init__(
        self, viewer: Any, image_layer: Any, session: Any, stack: Any, limit: int = LAYER_LIMIT
    ) -> None:
        self.session, self._viewer, self._stack, self._limit = session, viewer, stack, limit
        self._quiet_depth = 0
        self._leaving: list[int] = []
        self._clipboard: pd.DataFrame | None = None
        self._window: tuple[int, int] | None = None
        self.colour_mode = "label"
        self.min_probability = peak_rows.probability_limit(session.parameters)
        self._flat = image_layer.ndim == 2
        self.rows = self._rows_to_show()
        axes = slice(1, None) if self._flat else slice(None)
        self.layer = viewer.add_points(
            peak_rows.positions(self.rows)[:, axes],
            ndim=image_layer.ndim,
            name=f"Peaks of {image_layer.name}",
            features=peak_rows.features(self.rows),
            symbol=styles.PEAK_SYMBOL,
            size=styles.PEAK_SIZE_PX,
            border_width=styles.PEAK_BORDER,
            border_color=self._colours(),
            face_color=styles.FACE_COLOUR,
            projection_mode="none",
            scale=image_layer.scale,
            translate=image_layer.translate,
            axis_labels=image_layer.axis_labels,
        )
        self._zoom_size = ZoomSize(
            camera_of(viewer), self.layer, styles.PEAK_SIZE_PX, styles.PEAK_LEAST_SCREEN_PX
        )
        self.layer.current_symbol = styles.PEAK_SYMBOL
        self.layer.current_face_color = styles.FACE_COLOUR
        self.layer.events.data.connect(self._on_layer_data)
        session.events.peaks_changed.connect(self._on_peaks_changed)
        session.events.parameters_changed.connect(self._on_parameters)
        viewer.dims.events.current_step.connect(self._on_step)
        shortcuts.bind(self.layer, self._actions())

    # what the keys and the dock call -----------------------------------------------------

    def label(self, name: str) -> None:
        """Label the selected peaks; without a selection the one under the cursor."""
        ids = self.selected_ids()
        if ids:
            self._edit(lambda: self.session.label_peaks(ids, name))
        else:
            show_info("Select peaks first, or put the cursor on one.")

    def delete(self) -> None:
        """Delete the selected peaks; without a selection the one under the cursor."""
        if ids := self.selected_ids():
            self._edit(lambda: self.session.remove_peaks(ids))

    def undo(self) -> None:
        """Undo the last edit."""
        if self._edit(self.session.undo) is False:
            show_info("Nothing to undo.")

    def redo(self) -> None:
        """Redo the edit undone last."""
        if self._edit(self.session.redo) is False:
            show_info("Nothing to redo.")

    def copy(self) -> None:
        """Remember the selected peaks."""
        chosen = sorted(self.layer.selected_data)
        self._clipboard = self.rows.iloc[chosen].copy() if chosen else None

    def paste(self) -> None:
        """Add the remembered peaks to the shown frame."""
        if self._clipboard is not None:
            frame = self.shown_frame()
            rows = self._manual(frame, self._clipboard["row"], self._clipboard["col"])
            self.select_ids(self._edit(lambda: self.session.add_peaks(rows)) or [])

    def set_colour_mode(self, mode: str) -> None:
        """Colour the rings by a key of `peak_rows.COLOUR_MODES`."""
        self.colour_mode = mode
        with self._quiet():
            self.layer.border_color = self._colours()

    def set_min_probability(self, limit: float) -> None:
        """Hide unlabelled machine peaks with a probability below a limit.

        Hidden peaks are not in the layer at all, so that nothing can select or delete them;
        napari's own `shown` has no effect on two-dimensional layers, nor on "select all".
        """
        self.min_probability = limit
        peaks = self.session.peaks
        if self._window is None and len(peaks) <= self._limit:
            keep = peaks["peak_id"].to_numpy()[peak_rows.is_shown(peaks, limit)]
            if np.array_equal(keep, self.rows["peak_id"].to_numpy()):
                return
        self.reload()

    def selected_ids(self) -> list[int]:
        """Return the ids of the selected peaks, or of the one under the cursor."""
        chosen = sorted(self.layer.selected_data)
        if chosen:
            return [int(i) for i in self.rows["peak_id"].iloc[chosen]]
        row, col = self.layer.world_to_data(self._viewer.cursor.position)[-2:]
        found = peak_rows.nearest(self.rows, self.shown_frame(), row, col, styles.PEAK_SIZE_PX)
        return [] if found is None else [int(found)]

    def select_ids(self, ids: Sequence[int]) -> None:
        """Select peaks by id; those not in the layer are left out."""
        at = pd.Index(self.rows["peak_id"]).get_indexer(list(ids))
        self.layer.selected_data = {int(i) for i in at if i >= 0}

    def shown_frame(self) -> int:
        """Return the index of the frame the viewer shows."""
        if self._flat:
            return 0
        at = self.layer.world_to_data(self._viewer.dims.point)[0]
        return int(np.clip(round(at), 0, len(self._stack) - 1))

    def disconnect(self) -> None:
        """Stop listening; the layer stays as it is."""
        self.session.events.peaks_changed.disconnect(self._on_peaks_changed)
        self.session.events.parameters_changed.disconnect(self._on_parameters)
        self.layer.events.data.disconnect(self._on_layer_data)
        self._viewer.dims.events.current_step.disconnect(self._on_step)
        self._zoom_size.stop()
        self.layer.editable = False

    def _actions(self) -> dict[str, Callable[[], object]]:
        labels = {
            action: partial(self.label, name) for action, name in shortcuts.LABEL_ACTIONS.items()
        }
        return labels | {
            "delete": self.delete,
            "undo": self.undo,
            "redo": self.redo,
            "copy": self.copy,
            "paste": self.paste,
        }

    # layer -> session --------------------------------------------------------------------

    def _on_layer_data(self, event: Any) -> None:
        if self._quiet_depth:
            return
        action, indices = str(event.action), [int(i) for i in event.data_indices]
        n = len(self.layer.data)
        if action == "removing":
            self._leaving = [int(i) for i in self.rows["peak_id"].iloc[indices]]
        elif action == "removed" and self._leaving:
            ids, self._leaving = self._leaving, []
            self.rows = self.rows.drop(self.rows.index[indices]).reset_index(drop=True)
            with self._quiet():
                self._edit(lambda: self.session.remove_peaks(ids))
        elif action == "added" and n == len(self.rows) + len(indices):
            self._add_by_hand([i % n for i in indices])
        elif action == "changed" and n == len(self.rows):
            self._move_by_hand(indices)
        elif action not in ("changing", "adding"):
            show_warning("Peaks are edited by adding, moving or deleting points; restored.")
            self.reload()

    def _add_by_hand(self, indices: list[int]) -> None:
        where = self._inside(self.layer.data[indices])
        if where is None:
            show_info("That position is outside the frame: no peak added.")
            self.reload()
            return
        rows = pd.concat([self._manual(int(f), [r], [c]) for f, r, c in where], ignore_index=True)
        with self._quiet():
            ids = self._edit(lambda: self.session.add_peaks(rows))
            if ids is None:
                return
            rows["peak_id"] = ids
            self.rows = pd.concat([self.rows, rows], ignore_index=True)
            self._repaint()

    def _move_by_hand(self, indices: list[int]) -> None:
        new = np.asarray(self.layer.data)[indices][:, -2:]
        old = self.rows[["row", "col"]].to_numpy()[indices]
        moved = np.flatnonzero((new != old).any(axis=1))
        if not len(moved):
            return
        limits = np.asarray(self._stack.shape[-2:]) - 1
        new = np.clip(new[moved], 0, limits)
        ids = [int(i) for i in self.rows["peak_id"].to_numpy()[indices][moved]]
        frames = self.rows["frame"].to_numpy()[indices][moved]
        values = [
            self._measured(int(f), r, c) for f, (r, c) in zip(frames, new.tolist(), strict=True)
        ]
        columns = {name: [v[name] for v in values] for name in values[0]}
        self._edit(lambda: self.session.move_peaks(ids, new[:, 0], new[:, 1], columns))

    def _edit(self, action: Callable[[], Any]) -> Any:
        """Do an edit; a failure gives one message, and the layer shows the session again."""
        try:
            return action()
        except XtalError as error:
            show_error(str(error))
            self.reload()
            return None

    def _inside(self, points: Any) -> np.ndarray | None:
        """Return (n, 3) positions with whole frame numbers, None when one is off the frame."""
        points = np.asarray(points, dtype=float)
        if self._flat:
            points = np.column_stack([np.zeros(len(points)), points])
        points[:, 0] = np.round(points[:, 0])
        limits = np.asarray(self._stack.shape)
        low = np.array([0, -0.5, -0.5])
        ok = (points >= low).all() and (points < limits - np.array([0, 0.5, 0.5])).all()
        return points if ok else None

    def _manual(self, frame: int, rows: Any, cols: Any) -> pd.DataFrame:
        """Return measured table rows for positions given by a person."""
        places = [(float(r), float(c)) for r, c in zip(rows, cols, strict=True)]
        values = [self._measured(frame, r, c) for r, c in places]
        columns: dict[str, Any] = {name: [v[name] for v in values] for name in values[0]}
        columns |= {"row": [r for r, _ in places], "col": [c for _, c in places]}
        columns["frame"] = [frame] * len(places)
        return make_table(**columns, label="peak", source="manual")

    def _measured(self, frame: int, row: float, col: float) -> dict[str, float]:
        """Return intensity, resolution and panel at a position."""
        shown, source = self._stack.frame(frame), self._stack.source
        values = measure_at(shown.image, shown.good, row, col)
        at = tuple(
            int(np.clip(round(x), 0, n - 1))
            for x, n in zip((row, col), shown.image.shape, strict=True)
        )
        inv_d, panels = source.inv_d(), source.panels()
        values["inv_d"] = np.nan if inv_d is None else float(inv_d[at])
        values["panel"] = 0 if panels is None else int(panels[at])
        return values

    # session -> layer --------------------------------------------------------------------

    def _on_peaks_changed(self, change: Any) -> None:
        if self._quiet_depth:
            return
        ids = list(getattr(change, "changed", ()) or ())
        structural = change.frames is None or change.added or change.removed or not ids
        if structural or self._filter_differs(ids):
            if self._window is not None and change.frames is not None:
                first, last = self._window
                if not any(first <= f < last for f in change.frames):
                    return
            self.reload()
        else:
            self._update_rows(ids)

    def _on_parameters(self, step: str) -> None:
        if step == "verifier":
            limit = peak_rows.probability_limit(self.session.parameters)
            if limit != self.min_probability:
                self.set_min_probability(limit)

    def _filter_differs(self, ids: list[int]) -> bool:
        """Whether changed peaks come or go by the limit of the probability."""
        if not self.min_probability:
            return False
        fresh = self.session.get_peaks(ids)
        here = np.isin(fresh["peak_id"].to_numpy(), self.rows["peak_id"].to_numpy())
        return bool((here != peak_rows.is_shown(fresh, self.min_probability)).any())

    def _update_rows(self, ids: list[int]) -> None:
        """Take over changed rows (labels, positions) without rebuilding the layer."""
        at = pd.Index(self.rows["peak_id"]).get_indexer(ids)
        ids, at = [i for i, a in zip(ids, at, strict=True) if a >= 0], at[at >= 0]
        if not len(at):
            return
        fresh = self.session.get_peaks(ids)
        moved = (self.rows[["row", "col"]].to_numpy()[at] != fresh[["row", "col"]].to_numpy()).any()
        for name in self.rows.columns.intersection(fresh.columns):
            self.rows.iloc[at, self.rows.columns.get_loc(name)] = fresh[name].to_numpy()
        # The layer's own coordinates may be ahead of ours (a drag), so positions are always set.
        drawn = np.asarray(self.layer.data)[at][:, -2:]
        data = None
        if moved or (drawn != fresh[["row", "col"]].to_numpy()).any():
            data = np.array(self.layer.data)
            data[at, -2:] = fresh[["row", "col"]].to_numpy()
        self._repaint(data)

    def reload(self) -> None:
        """Show the session's peaks again, selection kept by id."""
        chosen = [int(i) for i in self.rows["peak_id"].iloc[sorted(self._valid_selection())]]
        self.rows = self._rows_to_show()
        axes = slice(1, None) if self._flat else slice(None)
        if self.layer.selected_data:
            self.layer.selected_data = set()
        self._repaint(peak_rows.positions(self.rows)[:, axes])
        if chosen:
            self.select_ids(chosen)

    def _repaint(self, data: np.ndarray | None = None) -> None:
        """Give the layer its features and colours, and positions where they changed.

        napari would draw again, and go through all layers, after each of the three.
        """
        layer = self.layer
        with layer.events.blocker_all():
            if data is not None:
                layer.data = data
            # Features are assigned, never mutated: napari emits no event for a mutation.
            layer.features = peak_rows.features(self.rows)
            if len(self.rows):
                layer.border_color = self._colours()
        layer.refresh(extent=False)  # peaks lie on the frame, which gives the extent
        layer.events.features()

    def _colours(self) -> Any:
        if not len(self.rows):
            return styles.LABEL_COLOURS["unlabelled"]
        return peak_rows.COLOUR_MODES[self.colour_mode](self.rows)

    def _valid_selection(self) -> set[int]:
        return {int(i) for i in self.layer.selected_data if i < len(self.rows)}

    def _rows_to_show(self) -> pd.DataFrame:
        peaks = self.session.peaks
        self._window = None
        if self.min_probability:
            peaks = peaks[peak_rows.is_shown(peaks, self.min_probability)]
        if len(peaks) > self._limit:
            frames = peaks["frame"].to_numpy()
            counts = np.bincount(frames, minlength=len(self._stack))
            shown = self.shown_frame() if hasattr(self, "layer") else 0
            self._window = peak_rows.near_frames(counts, shown, self._limit)
            first, last = np.searchsorted(frames, self._window)
            peaks = peaks.iloc[first:last]
        return peaks.reset_index(drop=True)

    def _on_step(self, _event: Any = None) -> None:
        if self._window is None:
            return
        first, last = self._window
        if not first <= self.shown_frame() < last:
            self.reload()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Ignore the events that our own change causes."""
        self._quiet_depth += 1
        try:
            yield
        finally:
            self._quiet_depth -= 1
