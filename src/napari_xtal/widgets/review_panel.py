"""The *Review* tab: a gallery of peaks that are labelled by key, click or lasso."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QPoint, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QLabel,
    QMenu,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.errors import XtalError
from napari_xtal.widgets import lasso, shortcuts, styles
from napari_xtal.widgets.finder_controls import button
from napari_xtal.widgets.gallery import GalleryView
from napari_xtal.widgets.gallery_feed import GalleryFeed
from napari_xtal.widgets.gallery_link import GalleryLink
from napari_xtal.widgets.gallery_model import GalleryModel
from napari_xtal.widgets.neighbourhood import NeighbourhoodPanel
from napari_xtal.widgets.review_controls import (
    FOLLOW,
    ArrangeBar,
    LabelBar,
    LassoBar,
    LookBar,
    ToolBar,
    counts_html,
)
from napari_xtal.widgets.run_link import open_peak_finder_dock
from napari_xtal.widgets.thumbnail_delegate import ThumbnailDelegate
from napari_xtal.widgets.thumbnails import ThumbnailStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_xtal.widgets.run_link import RunLink


class ReviewPanel(QWidget):
    """Gallery, labels and pixel values of the peaks of a run.

    Parameters
    ----------
    viewer : napari.Viewer
        Shows the peaks that are selected.
    parent : QWidget, optional
        Qt parent.

    Signals
    -------
    train_wanted()
        The user asks for the tab where probabilities come from.

    Attributes
    ----------
    problem : str
        Why there is no run.
    """

    train_wanted = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("review_panel")
        self.viewer = viewer
        self.link: RunLink | None = None
        self.problem = ""
        self._caught: list[int] = []
        self.model = GalleryModel(self)
        self.thumbnails = ThumbnailStore(self)
        self.model.reason_of = self.thumbnails.reason_of
        self.delegate = ThumbnailDelegate(self.model, self.thumbnails, self)
        self.view = GalleryView(self.delegate, self)
        self.view.setModel(self.model)
        self.feed = GalleryFeed(self.model, self.thumbnails, self)
        self.selection = GalleryLink(self.view, self.model, viewer, self)
        self.lasso = lasso.Lasso(viewer, self)
        self._create_controls()
        self._stepped = QTimer(self)
        self._stepped.setSingleShot(True)
        self._stepped.setInterval(0)
        self._connect()
        self.set_link(None)

    def _create_controls(self) -> None:
        self.arrange_bar = ArrangeBar(self)
        self.hint = QLabel(self)
        self.hint.setObjectName("review_hint")
        self.hint.setStyleSheet(styles.HINT_TEXT)
        self.hint.setWordWrap(True)
        self.hint.setText(
            "No probabilities yet, sorted by SNR. "
            "<a href='train' style='color:#56B4E9'>Apply the verifier in the Train tab.</a>"
        )
        self.message = QLabel(self)
        self.message.setObjectName("review_message")
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.find = button(
            "Find peaks…", "open_finder", "Open the dock that finds peaks.", self
        )  # fmt: skip
        self.show_all = button("Show all peaks", "show_all", "Lift every restriction.", self)
        empty = QWidget(self)
        inside = QVBoxLayout(empty)
        inside.addStretch(1)
        for part in (self.message, self.find, self.show_all):
            inside.addWidget(part)
        inside.addStretch(1)
        self.pages = QStackedWidget(self)
        self.pages.addWidget(self.view)
        self.pages.addWidget(empty)
        self.look_bar = LookBar(self)
        self.labels = LabelBar(self)
        self.tools = ToolBar(self)
        self.lasso_bar = LassoBar(self)
        self.counts = QLabel(self)
        self.counts.setObjectName("review_counts")
        self.counts.setWordWrap(True)
        self.neighbourhood = NeighbourhoodPanel(self.viewer, self.thumbnails, self)
        above = QWidget(self)
        upper = QVBoxLayout(above)
        upper.setContentsMargins(0, 0, 0, 0)
        upper.setSpacing(4)
        for part in (
            self.arrange_bar, self.hint, self.pages, self.lasso_bar, self.labels, self.tools,
            self.counts, self.look_bar,
        ):  # fmt: skip
            upper.addWidget(part, 1 if part is self.pages else 0)
        split = QSplitter(Qt.Orientation.Vertical, self)
        split.setChildrenCollapsible(False)
        split.addWidget(above)
        split.addWidget(self.neighbourhood)
        split.setStretchFactor(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(split)

    def _connect(self) -> None:
        # Bound methods only: they are held weakly and do not keep a closed dock alive.
        self.arrange_bar.changed.connect(self._on_arrange)
        self.feed.arranged.connect(self._on_arranged)
        self.feed.counted.connect(self._show_state)
        self.feed.outdated.connect(self._on_outdated)
        self.view.looked.connect(self._on_looked)
        self.view.acted.connect(self.act)
        self.view.chosen.connect(self._on_chosen)
        self.view.customContextMenuRequested.connect(self._on_menu)
        self.selection.current.connect(self._on_current)
        self.thumbnails.arrived.connect(self._on_arrived)
        self.labels.acted.connect(self.act)
        self.lasso_bar.acted.connect(self._on_lasso_act)
        self.lasso_bar.closed.connect(self._on_lasso_closed)
        self.lasso.drawn.connect(self._on_drawn)
        self.lasso.ended.connect(self._on_lasso_ended)
        self.tools.lasso.toggled.connect(self._on_lasso)
        self.tools.undo.clicked.connect(self._on_undo)
        self.tools.redo.clicked.connect(self._on_redo)
        self.tools.follow.currentIndexChanged.connect(self._on_follow)
        self.look_bar.zoom.valueChanged.connect(self.view.set_zoom)
        self.look_bar.contrast.currentIndexChanged.connect(self._on_contrast)
        self.look_bar.values.toggled.connect(self.neighbourhood.setVisible)
        self.hint.linkActivated.connect(self._on_hint)
        self.find.clicked.connect(self._on_find)
        self.show_all.clicked.connect(self.arrange_bar.show_all)
        self._stepped.timeout.connect(self._on_stepped)
        self.viewer.dims.events.current_step.connect(self._on_step)

    @property
    def busy(self) -> bool:
        """Whether rows, thumbnails or the viewer are about to change."""
        return self.feed.busy or self.thumbnails.busy or self.selection.busy

    # runs --------------------------------------------------------------------------------

    def set_link(self, link: RunLink | None) -> None:
        """Review the peaks of another run, or of none."""
        if self.link is not None:
            self.link.session.events.undo_changed.disconnect(self._on_undo_changed)
            for event in ("contrast_limits", "colormap"):
                getattr(self.link.layer.events, event).disconnect(self._on_contrast)
        self.lasso.cancel()
        self._on_lasso_closed()
        self.link = link
        self.feed.set_link(link)
        self.selection.set_link(link)
        self.neighbourhood.set_link(link)
        if link is not None:
            link.session.events.undo_changed.connect(self._on_undo_changed)
            for event in ("contrast_limits", "colormap"):
                getattr(link.layer.events, event).connect(self._on_contrast)
        self._on_contrast()
        self._on_undo_changed()
        self._on_arrange()
        self._show_state()

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Follow the session while somebody looks."""
        super().showEvent(event)
        self.feed.set_active(True)

    def hideEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Do nothing for a hidden gallery, and leave no tool in the image."""
        super().hideEvent(event)
        self.feed.set_active(False)
        self.lasso.cancel()

    # order and what is in view -----------------------------------------------------------

    def _on_arrange(self) -> None:
        frame = 0 if self.link is None or self.link.closed else self.link.shown_frame()
        self.feed.arrange(self.arrange_bar.arrangement(frame))

    def _on_arranged(self, in_place: bool) -> None:
        self.arrange_bar.set_stale(False)
        if in_place:
            self.selection.restore()
        else:
            self.selection.clear()
            self.view.scrollToTop()
        self._on_chosen()

    def _on_outdated(self) -> None:
        self.arrange_bar.set_stale(True)

    def _on_step(self, _event: Any = None) -> None:
        if self.arrange_bar.this_frame:
            self._stepped.start()

    def _on_stepped(self) -> None:
        if self.link is not None and not self.link.closed and self.isVisible():
            self._on_arrange()

    def _on_looked(self, rows: tuple[range, range]) -> None:
        columns = self.model.columns
        if columns is None:
            return
        at = [self.model.position(row) for part in rows for row in part]
        self.thumbnails.want((int(columns.ids[k]), int(columns.frame[k])) for k in at)

    def _on_arrived(self, _frame: int) -> None:
        self.view.viewport().update()

    def _on_contrast(self, _event: Any = None) -> None:
        if self.link is not None:
            self.delegate.show_as(
                self.link.layer, shared=self.look_bar.contrast.currentIndex() == 1
            )
            self.view.viewport().update()

    # labels ------------------------------------------------------------------------------

    def act(self, action: str) -> None:
        """Do what a key or button stands for; see `shortcuts`."""
        if self.link is None or self.link.closed:
            return
        if action in ("undo", "redo"):
            getattr(self.link.ensure_view(), action)()
        elif not self.selection.ids:
            show_info("Select peaks in the gallery or in the image first.")
        elif action == "delete":
            ids = list(self.selection.ids)
            self._edit(lambda: self.link.session.remove_peaks(ids))
        else:
            self._label(list(self.selection.ids), shortcuts.LABEL_ACTIONS[action])

    def _label(self, ids: list[int], name: str) -> None:
        """Label peaks in one action and go on to the next unlabelled one."""
        self._on_lasso_closed()
        rows = self.model.rows(ids)
        if not self._edit(lambda: self.link.session.label_peaks(ids, name)):
            return
        if name == "unlabelled" or not self.tools.advance.isChecked() or not len(rows):
            return
        following = self.model.next_unlabelled(int(rows[-1]))
        if following is None:
            show_info("All peaks of the gallery are labelled.")
        else:
            self.view.go_to(following)

    def _edit(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except XtalError as error:
            show_error(str(error))
            return False
        return True

    def _on_undo(self) -> None:
        self.act("undo")

    def _on_redo(self) -> None:
        self.act("redo")

    def _on_undo_changed(self) -> None:
        self.tools.show_session(None if self.link is None else self.link.session)

    def _on_menu(self, point: QPoint) -> None:
        if self.selection.ids:
            menu = self.context_menu()
            menu.exec(self.view.viewport().mapToGlobal(point))
            menu.deleteLater()

    def context_menu(self) -> QMenu:
        """Return the menu of the selected thumbnails."""
        menu = QMenu(self.view)
        n = len(self.selection.ids)
        menu.addSection(f"{n} peak{'s' * (n != 1)}")
        for key, action in shortcuts.gallery_keys().items():
            if action not in ("undo", "redo"):
                text = shortcuts.MENU_TEXTS[action]
                menu.addAction(f"{text}\t{key}").setData(action)
        menu.triggered.connect(self._on_menu_action)
        return menu

    def _on_menu_action(self, action: Any) -> None:
        self.act(action.data())

    # selection ---------------------------------------------------------------------------

    def _on_chosen(self) -> None:
        self.labels.set_count(len(self.selection.ids))

    def _on_current(self, position: int) -> None:
        self.labels.set_count(len(self.selection.ids))
        if position >= 0 and self.neighbourhood.isVisible():
            peak = int(self.model.columns.ids[position])
            try:
                row = self.link.session.get_peaks([peak]).iloc[0]
            except XtalError:
                return  # it was found anew a moment ago; the gallery follows
            self.neighbourhood.show_peak(row.to_dict())

    def _on_follow(self, at: int) -> None:
        self.selection.follow = FOLLOW[at]

    # lasso -------------------------------------------------------------------------------

    def _on_lasso(self, on: bool) -> None:
        if on and self.link is not None and not self.link.closed:
            self.lasso.start(self.link)
        else:
            self.lasso.cancel()

    def _on_lasso_ended(self) -> None:
        self.tools.lasso.setChecked(False)

    def _on_drawn(self, corners: Any) -> None:
        link = self.link
        if link is None or link.closed:
            return
        self._caught = lasso.inside(link.session.peaks_of(link.shown_frame()), corners)
        if not self._caught:
            show_info("No peak lies inside the lasso.")
            return
        self.viewer.layers.selection.active = link.ensure_view().layer
        self.selection.select(self._caught)
        self._on_chosen()
        self.labels.hide()  # the bar of the lasso has the same buttons
        self.view.setFocus()  # so that the keys work
        in_gallery = len(self.model.rows(self._caught))
        self.lasso_bar.offer(len(self._caught), len(self._caught) - in_gallery)

    def _on_lasso_act(self, action: str) -> None:
        ids = self._caught
        self._on_lasso_closed()
        if ids and self.link is not None and not self.link.closed:
            self._edit(lambda: self.link.session.label_peaks(ids, shortcuts.LABEL_ACTIONS[action]))

    def _on_lasso_closed(self) -> None:
        self._caught = []
        self.lasso_bar.hide()
        self.labels.show()

    # what is said ------------------------------------------------------------------------

    def _show_state(self) -> None:
        columns, how = self.feed.columns, self.arrange_bar.arrangement(0)
        n_all, n_shown = 0 if columns is None else len(columns), len(self.model.order)
        message = ""
        if self.link is None:
            message = self.problem
        elif columns is None:
            message = "Reading the peaks …"
        elif not n_all:
            message = "No peaks yet. Find them on this frame or on all frames."
        elif not n_shown:
            message = f"No peak fits the choice above; {n_all:,} hidden."
        self.message.setText(message)
        self.find.setVisible(self.link is not None and columns is not None and not n_all)
        self.show_all.setVisible(bool(n_all) and not n_shown)
        self.pages.setCurrentIndex(1 if message else 0)
        needs = how.sort in ("uncertainty", "probability") or how.quantity == "probability"
        self.hint.setVisible(bool(n_all) and needs and not columns.has_probability)
        self.counts.setVisible(bool(n_all))
        if n_all:
            self.counts.setText(counts_html(columns.counts(), n_shown))

    def _on_hint(self, _link: str) -> None:
        self.train_wanted.emit()

    def _on_find(self) -> None:
        open_peak_finder_dock(self.viewer)
