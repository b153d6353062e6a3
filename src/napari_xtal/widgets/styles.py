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
