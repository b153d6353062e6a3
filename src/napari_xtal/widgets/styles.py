"""Every colour and size of the window.

Colours of labels are from the Okabe-Ito palette (distinguishable with colour-vision
deficiency) and were chosen on the inverted grey map that frames are shown with.
"""

from __future__ import annotations

#: Colour map of frames: dark spots on white, as on film and in most viewers of the field.
IMAGE_COLORMAP = "gray_r"

#: Label -> ring colour. Unknown labels get `OTHER_LABEL`.
LABEL_COLOURS = {
    "unlabelled": "#0072B2",
    "peak": "#009E73",
    "not-peak": "#D55E00",
    "unsure": "#E69F00",
}
OTHER_LABEL = "#CC79A7"
SNR_COLORMAP = "plasma"
#: SNR at the two ends of the colour scale; above 50 every spot is beyond doubt.
SNR_COLOUR_RANGE = (4.0, 50.0)

PEAK_SYMBOL = "disc"
PEAK_SIZE_PX = 11.0  # ring diameter in detector pixels: clear of a 7-pixel spot
PEAK_BORDER = 0.09  # of the diameter
PEAK_LEAST_SCREEN_PX = 12.0  # diameter on the screen when zoomed out
FACE_COLOUR = "transparent"  # the pixels of the spot stay visible

REJECTED_SYMBOL = "diamond"
REJECTED_SIZE_PX = 8.0
REJECTED_BORDER = 0.08
REJECTED_COLOUR = "#7f7f7f"
REJECTED_LEAST_SCREEN_PX = 8.0

HISTOGRAM_CANDIDATES = "#7f7f7f"
HISTOGRAM_ACCEPTED = "#56B4E9"
HISTOGRAM_LINE = "#E69F00"
HISTOGRAM_HEIGHT = 130

ERROR_TEXT = "color: #ff6b6b;"
HINT_TEXT = "color: #9aa0a6;"

DOCK_MIN_WIDTH = 370
NUMBER_WIDTH = 72

#: Mark of a label in the corner of a thumbnail, for those who cannot tell the colours.
LABEL_MARKS = {"peak": "✓", "not-peak": "✗", "unsure": "?"}
#: Colours at probability 0, 0.5 and 1: those of the labels a person would give.
PROBABILITY_COLOURS = ("#D55E00", "#E69F00", "#009E73")

THUMBNAIL_ZOOMS = (2, 3, 8)  # screen pixels per detector pixel: least, first, most
THUMBNAIL_BORDER = 3
THUMBNAIL_MARGIN = 2
SELECTED_COLOUR = "#4c63c9"
SELECTED_TEXT = "#ffffff"
#: Masked pixels of thumbnails and neighbourhoods: no grey value looks like it.
MASKED_COLOUR = "#b7a6d9"
OUTSIDE_COLOUR = "#5b6270"
PLACEHOLDER_COLOUR = "#4a505c"
PLACEHOLDER_TEXT = "#c3c7cf"
LASSO_COLOUR = "#CC79A7"
NEIGHBOURHOOD_CELL = 26  # least side of a cell on the screen [px]

PROBABILITY_HISTOGRAM_HEIGHT = 84
#: Set of a comparison -> name of its layer, symbol and colour; shapes tell them apart as well.
COMPARISON = {
    "common": ("Common", "disc", "#E41A1C"),
    "only_reference": ("Only reference", "square", "#0072B2"),
    "only_found": ("Only found", "triangle_up", "#00A046"),
}
COMPARISON_SIZE_PX = 15.0  # clear of the rings of the peaks layer
COMPARISON_BORDER = 0.09
COMPARISON_FACE_ALPHA = 0.15
COMPARISON_LEAST_SCREEN_PX = 16.0

#: Curves of a report: the verifier, the plain threshold, training and validation.
REPORT_COLOURS = {
    "verifier": "#56B4E9",
    "plain": "#E69F00",
    "train": "#56B4E9",
    "validation": "#E69F00",
    "guide": "#7f7f7f",
}
REPORT_PLOT_HEIGHT = 240
