"""Lesson 07: what predictions, counts and measurements on the model should give."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

_PARTS = "Write each part beside its count: two tables, L blocks, one last norm."
_FORMULA = "V C + T C + L (12 C^2 + 13 C) + 2 C, with C = 1024 and L = 24"


def _count(id: str, name: str, why: str, fix: str = _FORMULA) -> Mistake:
    return Mistake(id, name, why, _PARTS, "compare your parts, one by one", fix)


_MEDIUM = (
    (406_286_336, _count("W1", "the head counted as a table of its own",
                         "51,463,168 too many: V x C, the head is tied")),
    (52_513_792, _count("W5", "no block counted", "302,309,376 too few: 24 blocks")),
    (65_110_016, _count("W6", "one block counted, not 24",
                        "289,713,152 too few: 23 blocks")),
    (354_821_120, _count("W7", "the last norm not counted", "2,048 too few: 2 C")),
    (354_822_144, _count("W7c", "one vector counted for the last norm, not two",
                         "1,024 too few: C, a norm has weight and bias")),
    (354_873_425, _count("W8", "a bias of the head counted", "50,257 too many: V")),
    (354_871_296, _count("W12", "the vocabulary padded to 50,304",
                         "48,128 too many: 47 rows of the table")),
    (353_774_592, _count("E8", "the position table not counted",
                         "1,048,576 too few: T x C")),
    (304_466_944, _count("P1", "d_ff left at 3072", "d_ff is 4 C: 4096 here")),
    (354_601_984, _count("P2", "the linear layers' biases not counted",
                         "221,184 too few: 9 C in each block")),
    (354_724_864, _count("P3", "the blocks' norms not counted",
                         "98,304 too few: 4 C in each block")),
    (203_668_480, _count("P4", "12 blocks counted, not 24",
                         "151,154,688 too few: 12 blocks")),
    (124_439_808, _count("P5", "the small model's count",
                         "this is GPT-2 small, with C = 768 and L = 12")),
)

_CAUSES = {"A": "untied head", "B": "list of blocks", "C": "[block] * 12",
           "D": "no last norm", "E": "bias of the head", "F": "padded vocabulary",
           "G": "no position table"}


def _exchanged(one: str, other: str) -> dict[str, str]:
    return _CAUSES | {one: _CAUSES[other], other: _CAUSES[one]}


def _letters(value: object) -> list[str]:
    """Return how many of the seven letters are right, if not all."""
    if not isinstance(value, dict) or value.keys() != _CAUSES.keys():
        return ['expected a dict of the seven letters: {"A": ..., "G": ...}']
    given = {key: " ".join(str(text).lower().split()) for key, text in value.items()}
    unknown = sorted(set(given.values()) - set(_CAUSES.values()))
    if unknown:
        return [f"not among the seven: {', '.join(unknown)}"]
    good = sum(given[key] == cause for key, cause in _CAUSES.items())
    return [] if good == 7 else [f"{good} of 7 are right"]


_BLOCKS = Mistake(
    "P6", "a list of blocks and [block] * 12 exchanged",
    "a list hides all twelve blocks, [block] * 12 leaves one of them to be counted",
    "How many different blocks does each of the two give PyTorch to count?",
    "divide the two differences by 7,087,872, one block", "B hides 12, C 11")
_ROWS = Mistake(
    "P7", "a bias and a padded vocabulary exchanged",
    "50,257 is one number for each token, 36,096 is 47 rows of 768",
    "Which of the two differences can be divided by 768?",
    "subtract 124,439,808, then divide", "36,096 = 47 x 768")
_NORMS = Mistake(
    "P8", "the last norm and the position table exchanged",
    "1,536 is 2 x 768, and 786,432 is 1024 x 768",
    "How many numbers are in a norm, and how many in a table of 1024 rows?",
    "divide both differences by 768", "D lacks 2 rows of 768, G 1024")


def _loss(name: str, why: str, fix: str) -> Mistake:
    return Mistake("P9", name, why, "Which token should position t predict?",
                   "look at the two arguments of cross_entropy", fix)


_ANGLE = torch.arange(12) * math.pi / 6
_FACE = torch.stack([_ANGLE.cos(), _ANGLE.sin(), -_ANGLE.cos(), -_ANGLE.sin()], 1)


def _ticks(value: object) -> list[str]:
    """Return what keeps three matrices from being a clock of at most 4 channels."""
    names = ("tok_emb", "up_proj", "down_proj")
    if not isinstance(value, dict) or value.keys() != set(names):
        return [f"expected a dict of three matrices: {', '.join(names)}"]
    table, up, down = (torch.as_tensor(value[name], dtype=torch.float64)
                       for name in names)
    C = table.size(-1)
    wanted = {"tok_emb": (12, C), "up_proj": (len(up), C), "down_proj": (C, len(up))}
    for name, part in zip(names, (table, up, down), strict=True):
        if part.shape != wanted[name]:
            return [f"{name} has the shape {tuple(part.shape)}, expected "
                    f"{wanted[name]}"]
        if not part.isfinite().all():
            return [f"{name} holds numbers that are nan or infinite"]
    told = _hands(table, up, down)
    return told or [f"it is a clock, in {C} channels; now do it in 4"] * (C > 4)


def _hands(table: Tensor, up: Tensor, down: Tensor) -> list[str]:
    """Return which hours follow which, if it is not always the next one."""
    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:])

    x = table + F.gelu(norm(table) @ up.T, approximate="tanh") @ down.T
    logits = norm(x) @ table.T                                   # (12, 12)
    (best, second), two = logits.topk(2).values.T, logits.topk(2).indices.sort().values
    hours, follows = torch.arange(12), logits.argmax(-1)
    right = (follows == (hours + 1) % 12) & (best - second > 1e-6)
    if right.all():
        return []
    if (follows == hours).all():
        return ["it echoes: each hour is followed by itself. What the block adds has "
                "to outweigh the hour that is there"]
    if (follows == (hours - 1) % 12).all():
        return ["it goes backwards: each hour is followed by the one before. Column f "
                "of down_proj is what is added after hour f"]
    if (follows == follows[0]).all():
        return [f"each hour is followed by {follows[0]}, whichever it is"]
    a = int((~right).nonzero()[0])
    told = (f"the model generates {follows[a]}" if best[a] - second[a] > 1e-6 else
            f"hours {two[a, 0]} and {two[a, 1]} have the same logit")
    return [f"{int(right.sum())} of 12 hours are followed by the next one. After hour "
            f"{a} {told}"]


_SET = Mistake(
    "P10", "one block without positions taken to notice the order",
    "the last position averages over a set: swapping two of its members changes "
    "nothing",
    "Which order do the keys and values of one block know, without positions?",
    "the entry with one block and no positions", "False")
_DEEP = Mistake(
    "P11", "two blocks without positions taken not to notice the order",
    "after the first block position 0 holds itself alone, position 1 both",
    "What had position 0 seen in the first block, and what position 1?",
    "the entry with two blocks", "True")
_PLACED = Mistake(
    "P12", "positions taken not to matter in one block",
    "with its position added, a token has another key and value at each place",
    "What is added to a token before the block reads it?",
    "the entry with positions", "True")

ANSWERS = (
    Answer("07.1", "True or False for each of three models: does the vector at the "
           "last position move?",
           {"one block, no positions": False, "two blocks, no positions": True,
            "one block, positions": True}, predict=True,
           wrong=(({"one block, no positions": True}, _SET),
                  ({"two blocks, no positions": False}, _DEEP),
                  ({"one block, positions": False}, _PLACED)),
           hints=("The last position averages over all four tokens, by weights that "
                  "come from matching. What of the order can one block know, without "
                  "positions: a set, or a sequence?",
                  "What do positions 0 and 1 hold after the first block: had each seen "
                  "the other?",
                  "With two blocks the mask tells the order: position 0 saw itself "
                  "alone."),
           solution="""\
moves = {"one block, no positions": False, "two blocks, no positions": True,
         "one block, positions": True}"""),
    Answer("07.2a", "the number of parameters of gpt2-medium", 354_823_168, _MEDIUM,
           hints=("Two tables, 24 blocks, one last norm, and no head: it is tied. "
                  + _PARTS, "A block has 12 C^2 + 13 C.", _FORMULA), solution="""\
V, C, L, T = 50257, 1024, 24, 1024
medium = V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C"""),
    Answer("07.2b", "the mistake behind each of seven counts", _CAUSES, (
        (_exchanged("B", "C"), _BLOCKS), (_exchanged("E", "F"), _ROWS),
        (_exchanged("D", "G"), _NORMS)), test=_letters,
        hints=("Divide each difference by 768. Which give a whole number, and which "
               "one is 50,257?",
               "A block has 7,087,872 parameters. How many blocks does PyTorch find in "
               "[block] * 12, and how many in a list of twelve different ones?",
               "A is one token table too many; B lacks twelve blocks, C eleven."),
        solution="""\
causes = {"A": "untied head", "B": "list of blocks", "C": "[block] * 12",
          "D": "no last norm", "E": "bias of the head", "F": "padded vocabulary",
          "G": "no position table"}"""),
    Answer("07.4", "the loss at initialisation: as it comes, with token embeddings of "
           "standard deviation 1, with position embeddings of standard deviation 1",
           [5.55, 63.0, 5.56], (
               ([4.70, 0.0, 5.53], _loss(
                   "targets not shifted", "a tied head predicts the token that is "
                   "there: 4.7 nats is below ln 256 before any training, too good to "
                   "be true",
                   "cross_entropy(logits[:, :-1], input_ids[:, 1:])")),
               ([8.01, 91.0, 8.02], _loss(
                   "bits, not nats", "divided by ln 2 = 0.693",
                   "cross_entropy is in nats already")),
               ([5.545, 5.545, 5.545], _loss(
                   "all three near ln V: the second model's embeddings are as they "
                   "come",
                   "with token embeddings of standard deviation 1 it is far from ln V",
                   "nn.init.normal_(model.tok_emb.weight, std=1.0) on the model that "
                   "is measured, before its logits")),
               ([5.56, 5.55, 63.0], _loss(
                   "the two tables exchanged", "the tied head multiplies by the token "
                   "embeddings; positions pass the last norm first",
                   "tok_emb holds the token embeddings")),
               ([5.55, 63.0, 45.0], _loss(
                   "the token embeddings still have standard deviation 1 in the third "
                   "model",
                   "one change at a time: build a fresh model for each",
                   "a new GPT2Model before each change"))),
           rtol=0.06, atol=0.1, precision="one decimal is",
           hints=("Build a fresh model for each of the three, and change at most one "
                  "table in it: nn.init.normal_(model.tok_emb.weight, std=1.0).",
                  "Position t predicts token t + 1.",
                  "F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, "
                  "1:].flatten())"), solution="""\
first_losses = []
for table in (None, "tok_emb", "pos_emb"):
    model = GPT2Model(256, 64, 4, 3, 32, 256).eval()
    if table is not None:
        nn.init.normal_(getattr(model, table).weight, std=1.0)
    with torch.no_grad():
        logits = model(input_ids)[:, :-1]
    first_losses.append(F.cross_entropy(
        logits.flatten(0, 1), input_ids[:, 1:].flatten()).item())"""),
    Answer("07.5", "the three matrices of a clock of at most 4 channels",
           lambda: {"tok_emb": _FACE, "up_proj": _FACE,
                    "down_proj": _FACE.roll(-1, 0).T}, test=_ticks,
           hints=("First in twelve channels: give each hour one of its own, tok_emb = "
                  'torch.eye(12). Let row f of up_proj ask "is it hour f?", and column '
                  "f of down_proj say what is added then. The check tells you when "
                  "that is a clock, before it asks for 4 channels.",
                  "Twelve rows in few channels can't all be at right angles, and need "
                  "not be. How does a real clock find places for twelve hours in two "
                  "dimensions? And a norm takes off the mean of the channels: with "
                  "(cos, sin) alone all twelve become (1, -1) or (-1, 1). Which two "
                  "channels make the mean 0 from the start?",
                  "Put the hours on a circle: (cos, sin, -cos, -sin) of f times 30 "
                  "degrees; its mean is 0, so the norm leaves the direction alone."),
           solution="""\
angle = torch.arange(12) * math.pi / 6
face = torch.stack([angle.cos(), angle.sin(), -angle.cos(), -angle.sin()], 1)
clock = {"tok_emb": face, "up_proj": face, "down_proj": face.roll(-1, 0).T}"""),
)
