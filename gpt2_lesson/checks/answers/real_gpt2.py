"""Lesson 10: what predictions and measurements on loading should give."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.stand_ins.mystery import evidence
from gpt2_lesson.checks.values import Answer

_SQUARE = {"wte": False, "wpe": False, "attn.c_attn": False, "attn.c_proj": True,
           "mlp.c_fc": False, "mlp.c_proj": False}
_FIRST = {"A": "block 0", "B": "block 7", "C": "block 2", "D": "last norm"}


_STAGES = {"embeddings", *(f"block {i}" for i in range(12)), "last norm", "logits"}


def _letters(value: object) -> list[str]:
    """Return which letters are right, if not all, and what is no stage's name."""
    if not isinstance(value, dict) or value.keys() != _FIRST.keys():
        return ['expected a dict of the four letters: {"A": ..., "D": ...}']
    given = {key: " ".join(str(text).lower().split()) for key, text in value.items()}
    unknown = sorted(set(given.values()) - _STAGES - {"none"})
    if unknown:
        return [f'not the name of a stage: {", ".join(unknown)}; write it as the cell '
                'above prints it, such as "block 4"']
    good, bad = (", ".join(key for key in given if (given[key] == _FIRST[key]) is state)
                 for state in (True, False))
    return [f"right: {good or 'none'}; not yet: {bad}"] if bad else []


def _stages(name: str, why: str, idea: str, fix: str) -> Mistake:
    return Mistake("O8", name, why, idea, "look at how a stage is chosen", fix)


_LOSS, _SAMPLE, _OTHERS = ("loss of the sample", "logits of the sample",
                           "logits of other texts")
_MOVES = {"A": {_LOSS: False, _SAMPLE: True}, "B": {_SAMPLE: False, _OTHERS: True},
          "C": {_SAMPLE: False, _OTHERS: False}}


def _unseen(value: object) -> list[str]:
    """Return where a fault shows that should be hidden, or the other way round."""
    if not isinstance(value, dict) or value.keys() != _MOVES.keys():
        return ['expected a dict of three faults: {"A": ..., "B": ..., "C": ...}']
    return [text for letter in _MOVES if (text := _shows(letter, value[letter]))]


def _shows(letter: str, fault: object) -> str:
    """Return what the evidence says against one fault, or "" if it is as asked."""
    try:
        moved = evidence(fault)
    except ValueError as error:
        return f"{letter}: {error}"
    for what, wanted in _MOVES[letter].items():
        if (moved[what] > 1e-9) is not wanted:
            return (f"{letter}: the {what} {_verb(what)} not move, and should" if wanted
                    else f"{letter}: the {what} {_verb(what, True)} by "
                    f"{moved[what]:.2g}, and should stay")
    return ""


def _verb(what: str, moves: bool = False) -> str:
    one = what.startswith("loss")
    return ("moves" if one else "move") if moves else ("does" if one else "do")


def _shape(name: str, why: str, square: bool = False) -> tuple[dict, Mistake]:
    """Return the wrong answer about one matrix, and its name."""
    return {name: not square}, Mistake(
        "O1", f"{name} taken {'not ' * square}to be square", why,
        "What goes in, and what comes out?", f"the shape of {name}", why)


_SHAPES = (_shape("wte", "it has a row of 768 for each of 50,257 tokens"),
           _shape("wpe", "it has a row of 768 for each of 1,024 positions"),
           _shape("attn.c_attn", "768 by 2304: queries, keys and values side by side"),
           _shape("attn.c_proj", "768 by 768: from C back to C", square=True),
           _shape("mlp.c_fc", "768 by 3072: from C to 4C"),
           _shape("mlp.c_proj", "3072 by 768: from 4C back to C"))
ANSWERS = (
    Answer("10.1", "True or False for each of six matrices: is it square?", _SQUARE,
           wrong=_SHAPES, predict=True,
           hints=("Write the shape of each beside its name. c_attn makes queries, keys "
                  "and values at once; c_fc goes from C to 4C, and its c_proj back.",
                  "wte is (50257, 768), wpe (1024, 768), c_attn (768, 2304).",
                  "attn.c_proj is (768, 768), the only square one."), solution="""\
square = {"wte": False, "wpe": False, "attn.c_attn": False, "attn.c_proj": True,
          "mlp.c_fc": False, "mlp.c_proj": False}"""),
    Answer("10.4", "the first stage at which each of four models diverges from the "
           "right one", _FIRST, (
               ({"A": "block 1", "B": "block 8", "C": "block 3", "D": "last norm"},
                _stages("blocks counted from 1", "each block is one too late",
                        "Which is the first block's number?", "blocks are 0 to 11")),
               ({"A": "block 1", "B": "block 8", "C": "block 3", "D": "logits"},
                _stages("the stage after the first one that differs",
                        "each of the four is one stage too late",
                        "Which stage is the first to differ?",
                        "take the stage's own name")),
               ({"A": "none", "B": "block 7", "C": "block 2", "D": "logits"},
                _stages("a limit that is too coarse (1)",
                        "A never differs by more than 0.0055, D's last norm by 0.67",
                        "How large is rounding in float64?", "a limit of 1e-9")),
               ({"A": "block 9", "B": "block 11", "C": "block 11", "D": "logits"},
                _stages("the stage with the largest difference, not the first one",
                        "a difference goes on through all later stages",
                        "Where does a mistake begin, and where is it loudest?",
                        "take the first stage above the limit")),
               ({"A": "none", "B": "block 7", "C": "block 2", "D": "last norm"},
                _stages("a limit that is too coarse for A (0.01)",
                        "A never differs by more than 0.0055",
                        "How large is rounding in float64?", "a limit of 1e-9")),
               ({"A": "logits", "B": "logits", "C": "logits", "D": "logits"},
                _stages("only the logits compared", "all four differ at the end",
                        "Which stage is the first to differ?",
                        "compare every stage"))), test=_letters,
           hints=("The largest difference, (found[name] - right[name]).abs().max(), "
                  "for each of the 15 stages.",
                  "float64 keeps 15 digits: a difference of 0.001 is not rounding "
                  "there. It goes on through all later stages, and as a rule it grows; "
                  "only the first stage says where it came from.",
                  "next(name for name in right if (right[name] - "
                  "found[name]).abs().max() > 1e-9)"), solution="""\
first = {}
right = stages(mystery("right"), input_ids)
for letter in "ABCD":
    found = stages(mystery(letter), input_ids)
    first[letter] = next(name for name in right
                         if (found[name] - right[name]).abs().max() > 1e-9)"""),
    Answer("10.5", "three faults of a loader, each harder to see than the one before",
           {"A": ("wte.weight", 0, 1), "B": ("wpe.weight", 16, 17),
            "C": ("h.0.attn.c_attn.bias", 48, 49)}, test=_unseen,
           hints=("At each position the loss takes the logit of one token, and all "
                  "logits together. If two of the others change places, what becomes "
                  "of their sum? And which positions does a sample of 16 tokens never "
                  "touch?",
                  "Add the same number to all scores of a query: the weights stay. "
                  "Which bias, in q . (k + bias), adds the same to every key? "
                  "c_attn.bias holds the biases of queries, keys and values, 48 "
                  "numbers each.",
                  "A: two rows of wte that are not in the sample. B: two rows of wpe "
                  "from 16 on. C: two numbers of the keys' bias, c_attn.bias 48 to 95"),
           solution="""\
faults = {
    "A": ("wte.weight", 0, 1),                # bytes that the sample lacks
    "B": ("wpe.weight", 16, 17),              # positions after the sample's last
    "C": ("h.0.attn.c_attn.bias", 48, 49),    # the keys' bias
}"""),
)
