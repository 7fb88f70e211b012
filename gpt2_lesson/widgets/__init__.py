"""Interactive figures that also work in a saved page, without a kernel or a network.

For example:

    record = widgets.capture(model, input_ids)
    widgets.attention(record, layer=0, head=0)
"""

from gpt2_lesson.widgets.ablation import ablate_each, ablation
from gpt2_lesson.widgets.arithmetic import arithmetic
from gpt2_lesson.widgets.attention import attention
from gpt2_lesson.widgets.capture import Record, capture
from gpt2_lesson.widgets.compare import Comparison, compare
from gpt2_lesson.widgets.figure import Figure
from gpt2_lesson.widgets.frames import choose, scrub
from gpt2_lesson.widgets.live import explore
from gpt2_lesson.widgets.parameters import parameters
from gpt2_lesson.widgets.sampling import sampling
from gpt2_lesson.widgets.trace import trace

__all__ = [
    "Comparison",
    "Figure",
    "Record",
    "ablate_each",
    "ablation",
    "arithmetic",
    "attention",
    "capture",
    "choose",
    "compare",
    "explore",
    "parameters",
    "sampling",
    "scrub",
    "trace",
]
