"""Names of version 0.1.0 that still work, with a warning: gone in the next version."""

import sys
import warnings
from collections.abc import Callable

FORMER = {
    "checks": {"everything": "all_exercises", "learn_merges": "train_bpe"},
    "corpora.stories": {"floor": "entropy_rate", "surprise": "nll"},
    "measuring": {"surprises": "token_nll"},
    "real_gpt2": {"our_tensors": "convert_state_dict", "their_name": "to_hf_name"},
    "tokenizer": {
        "PIECES": "GPT2_SPLIT_PATTERN",
        "learn_merges": "train_bpe",
        "merge_piece": "merge_pre_token",
    },
}


def former(
    module: str, otherwise: Callable[[str], object] | None = None
) -> Callable[[str], object]:
    """Return a module's `__getattr__`: a former name warns and returns the new one.

    Any other name is left to `otherwise`, or is an AttributeError.
    """
    names = FORMER[module.removeprefix("gpt2_lesson.")]

    def __getattr__(name: str) -> object:
        if name not in names and otherwise is not None:
            return otherwise(name)
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is now called {names[name]}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(sys.modules[module], names[name])

    return __getattr__
