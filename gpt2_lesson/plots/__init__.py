"""Draw the lessons' pictures: one style, and a text alternative for every picture.

Each function shows a PNG below the notebook cell and returns None. `alt` says the
point of the picture in a sentence, for those who cannot see it; it is stored with the
picture. Tensors, arrays and nested lists are all accepted.
"""

from gpt2_lesson.plots.charts import (
    show_bars,
    show_histograms,
    show_lines,
    show_timeline,
)
from gpt2_lesson.plots.maps import show_attention, show_matrix
from gpt2_lesson.plots.picture import as_png, token_name
from gpt2_lesson.plots.picture import short_name as short_name
from gpt2_lesson.plots.text import show_text

__all__ = [
    "as_png",
    "show_attention",
    "show_bars",
    "show_histograms",
    "show_lines",
    "show_matrix",
    "show_text",
    "show_timeline",
    "token_name",
]
