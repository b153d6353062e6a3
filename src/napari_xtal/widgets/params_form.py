"""A form built from the field metadata of `PeakFinderParams`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QSpinBox,
    QWidget,
)

from napari_xtal.errors import ParameterError
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.widgets import styles

_STEPS = 400
#: Parameter -> (scale, low, high) of its slider; the box beside it takes the full range.
SLIDERS: dict[str, tuple[str, float, float]] = {
    "false_peaks_per_frame": ("log", 1e-3, 1e3),
    "min_snr": ("linear", 0.0, 40.0),
    "relative_snr": ("linear", 0.0, 0.5),
    "threshold": ("linear", 0.0, 2000.0),
    "min_pix_count": ("linear", 1, 20),
    "max_pix_count": ("log", 1, 1000),
    "local_bg_radius": ("linear", 1, 15),
    "min_distance": ("linear", 0.0, 20.0),
}


class _ShortDoubleBox(QDoubleSpinBox):
    """Shows 1 as "1", not as "1.0000"."""

    def textFromValue(self, value: float) -> str:  # noqa: N802 - Qt's name
        return f"{value:.6g}"


class NumberRow(QWidget):
    """A number box with, where it helps, a slider beside it.

    Signals
    -------
    changed()
        The user changed the number.
    """

    changed = Signal()

    def __init__(self, field: dataclasses.Field[Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        meta = field.metadata
        whole = isinstance(field.default, int)
        self.box = QSpinBox(self) if whole else _ShortDoubleBox(self)
        if isinstance(self.box, QDoubleSpinBox):
            self.box.setDecimals(4 if meta["max"] <= 1e4 else 2)
            self.box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.box.setRange(meta["min"], meta["max"])
        self.box.setKeyboardTracking(False)  # "12" must not search with "1" first
        # Arrow keys and the wheel still step; the buttons would take the room of the digits.
        self.box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.box.setFixedWidth(styles.NUMBER_WIDTH)
        self.box.setObjectName(f"param_{field.name}")
        self._scale = SLIDERS.get(field.name)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider: QSlider | None = None
        if self._scale is not None:
            self.slider = QSlider(Qt.Orientation.Horizontal, self)
            self.slider.setRange(0, _STEPS)
            self.slider.setMinimumWidth(60)
            self.slider.setObjectName(f"slider_{field.name}")
            self.slider.valueChanged.connect(self._on_slider)
            layout.addWidget(self.slider, 1)
        else:
            layout.addStretch(1)
        layout.addWidget(self.box)
        self.box.valueChanged.connect(self._on_box)

    def value(self) -> float:
        """Return the number."""
        return self.box.value()

    def set_value(self, value: float) -> None:
        """Show a number without a signal."""
        with QSignalBlocker(self.box):
            self.box.setValue(value)
        self._follow()

    def _on_box(self) -> None:
        self._follow()
        self.changed.emit()

    def _on_slider(self, step: int) -> None:
        if self._scale is None:
            return
        kind, low, high = self._scale
        part = step / _STEPS
        value = low * (high / low) ** part if kind == "log" else low + part * (high - low)
        whole = isinstance(self.box, QSpinBox)
        with QSignalBlocker(self.box):
            self.box.setValue(round(value) if whole else float(f"{value:.3g}"))
        self.changed.emit()

    def _follow(self) -> None:
        if self.slider is None or self._scale is None:
            return
        kind, low, high = self._scale
        value = min(max(self.value(), low), high)
        part = (
            math.log(value / low) / math.log(high / low)
            if kind == "log"
            else (value - low) / (high - low)
        )
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(part * _STEPS))


class ParamsForm(QWidget):
    """All parameters of a peak search; only the rows of the chosen method are shown.

    Signals
    -------
    changed(PeakFinderParams)
        New valid parameters.
    """

    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("params_form")
        self._params = PeakFinderParams()
        self._rows: dict[str, QWidget] = {}
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setVerticalSpacing(3)
        self._layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for field in dataclasses.fields(PeakFinderParams):
            row = self._create_row(field)
            row.setToolTip(_tooltip(field))
            unit = field.metadata["unit"]
            label = QLabel(
                field.metadata["title"] + (f" [{unit}]" if unit not in ("", "peaks") else ""), self
            )
            label.setToolTip(_tooltip(field))
            self._layout.addRow(label, row)
            self._rows[field.name] = row
        self._error = QLabel(self)
        self._error.setObjectName("params_error")
        self._error.setWordWrap(True)
        self._error.setStyleSheet(styles.ERROR_TEXT)
        self._error.hide()
        self._layout.addRow(self._error)
        self.set_params(self._params)

    @property
    def params(self) -> PeakFinderParams:
        """The last valid parameters."""
        return self._params

    def set_params(self, params: PeakFinderParams) -> None:
        """Show parameters without a signal."""
        self._params = params
        for name, row in self._rows.items():
            value = getattr(params, name)
            if isinstance(row, NumberRow):
                row.set_value(value)
            elif isinstance(row, QComboBox):
                with QSignalBlocker(row):
                    row.setCurrentText(value)
            elif isinstance(row, QCheckBox):
                with QSignalBlocker(row):
                    row.setChecked(value)
        self._error.hide()
        self._show_rows()

    def row(self, name: str) -> QWidget:
        """Return the control of one parameter."""
        return self._rows[name]

    def shows(self, name: str) -> bool:
        """Whether the row of one parameter belongs to the chosen method."""
        return self._layout.isRowVisible(self._rows[name])

    def _create_row(self, field: dataclasses.Field[Any]) -> QWidget:
        if "choices" in field.metadata:
            box = QComboBox(self)
            box.setObjectName(f"param_{field.name}")
            box.addItems(list(field.metadata["choices"]))
            box.currentTextChanged.connect(self._on_edited)
            return box
        if isinstance(field.default, bool):
            check = QCheckBox(self)
            check.setObjectName(f"param_{field.name}")
            check.toggled.connect(self._on_edited)
            return check
        row = NumberRow(field, self)
        row.changed.connect(self._on_edited)
        return row

    def _on_edited(self) -> None:
        try:
            params = PeakFinderParams.from_dict(self._values())
        except ParameterError as error:
            self._error.setText(str(error))
            self._error.show()
            return
        self._error.hide()
        method_changed = params.method != self._params.method
        self._params = params
        if method_changed:
            self._show_rows()
        self.changed.emit(params)

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, row in self._rows.items():
            if isinstance(row, NumberRow):
                values[name] = row.value()
            elif isinstance(row, QComboBox):
                values[name] = row.currentText()
            elif isinstance(row, QCheckBox):
                values[name] = row.isChecked()
        return values

    def _show_rows(self) -> None:
        for field in dataclasses.fields(PeakFinderParams):
            shown = self._params.method in field.metadata["methods"]
            self._layout.setRowVisible(self._rows[field.name], shown)


def _tooltip(field: dataclasses.Field[Any]) -> str:
    """Return meaning, range and default of a parameter."""
    meta = field.metadata
    span = f"<br>{meta['min']:g} to {meta['max']:g} {meta['unit']}" if "min" in meta else ""
    return f"<p><b>{field.name}</b><br>{meta['doc']}{span}<br>Default: {field.default}</p>"
