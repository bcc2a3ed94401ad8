"""Colours of the figures: Okabe and Ito's palette, which colour-blind people can tell apart.

Whatever a colour says, a marker, a line style or a label says too, so that nothing is lost in
black and white. Maps are drawn in cividis.
"""

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"
LIGHT_GREY = "#DDDDDD"

#: For series of equal rank, the most different first; green is for what fits.
SERIES = (BLUE, VERMILLION, PURPLE, ORANGE, SKY, BLACK)
#: What fits, wherever a range or a set of candidates is shaded.
TARGET = GREEN
#: Candidates that were trained, and those that a gate stopped.
TRAINED, STOPPED = BLUE, GREY
