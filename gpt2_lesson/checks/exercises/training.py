"""Lesson 08: the loss, the learning rate, batches (catalogue: S and R)."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gpt2_lesson.checks.compare import shown
from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.fakes import training_fakes as fakes
from gpt2_lesson.checks.probing import Probe, Value, gradients

# --- the loss -------------------------------------------------------------------------

_NEXT_TOKEN_LOSS = """\
def next_token_loss(logits, input_ids, ignore_index=-100):
    predictions, targets = logits[:, :-1], input_ids[:, 1:]
    predictions = predictions.flatten(0, 1).float()
    return F.cross_entropy(predictions, targets.flatten(), ignore_index=ignore_index)"""


def _ids(g: Generator, b: int, t: int, v: int) -> Tensor:
    return torch.randint(v, (b, t), generator=g)


def _logits(g: Generator, b: int, t: int, v: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(b, t, v, generator=g)


def _confident(ids: Tensor, v: int, ahead: int) -> Tensor:
    """Return logits of a model that is sure of the id `ahead` positions on."""
    return 12.0 * F.one_hot(ids.roll(-ahead, 1).clamp(min=0), v).float()


def loss_probes(g: Generator) -> list[Probe]:
    """Return random, ignoring, confident and gradient probes; all sizes differ."""
    sizes = {"B": 3, "T": 5, "V": 11}
    gaps = _ids(g, 2, 10, 7)
    gaps[0, 2:] = -100                               # 1 and 9 targets
    few = _ids(g, 3, 6, 5)
    few[:, 1] = torch.tensor([3, 1, 3])
    holes = _ids(g, 2, 6, 7)
    holes[0, 3], holes[1, 2] = -100, -100
    ids = _ids(g, 2, 5, 9)
    return [
        Probe("random logits", (_logits(g, 3, 5, 11), _ids(g, 3, 5, 11), -100),
              sizes=sizes),
        Probe("two targets ignored", (_logits(g, 2, 6, 7), holes, -100)),
        Probe("rows of 1 and 9 targets", (_logits(g, 2, 10, 7), gaps, -100)),
        Probe("ignore_index = 3", (_logits(g, 3, 6, 5), few, 3)),
        Probe("a model that is sure of the next token",
            (_confident(ids, 9, 1), ids, -100)),
        Probe("all logits 0", (torch.zeros(2, 4, 6), _ids(g, 2, 4, 6), -100)),
        Probe("one example, two tokens", (_logits(g, 1, 2, 5), _ids(g, 1, 2, 5), -100)),
        Probe("gradients", (_logits(g, 2, 4, 5), _ids(g, 2, 4, 5), -100), gradients),
    ]


def read_loss(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which token pleases this loss, and on which positions it depends."""
    ids = torch.stack([torch.randperm(9, generator=g) for _ in range(2)])
    found = {}
    for ahead, name in ((1, "the next token"), (0, "the same token again"),
                        (2, "the token after the next"), (-1, "the token before")):
        value = run(Probe(name, (_confident(ids, 9, ahead), ids, -100))).value
        if isinstance(value, Tensor) and value.numel() == 1 and value.isfinite():
            found[name] = value.item()
    clues = []
    best = min(found, key=found.__getitem__, default="")
    if len(found) == 4 and best != "the next token":
        clues.append(Clue("pleased by", f"your loss is lowest for a model that is sure "
                          f"of {best}: it should be the next token"))
    return clues + _where_gradient(run, g) + _uniform(run)


def _where_gradient(run: RunProbe, g: Generator) -> list[Clue]:
    args = (_logits(g, 2, 5, 4), _ids(g, 2, 5, 4), -100)
    value = run(Probe("gradients", args, gradients)).value
    if not isinstance(value, list) or not value or value[0] is None:
        return []
    reached = value[0].abs().sum((0, 2)) > 1e-8                      # (T,)
    if reached.tolist() == [True] * 4 + [False]:
        return []
    positions = ", ".join(map(str, reached.nonzero().flatten().tolist())) or "none"
    return [Clue("reached", f"of 5 positions your loss depends on the logits at "
                 f"{positions}: expected 0, 1, 2, 3")]


def _uniform(run: RunProbe) -> list[Clue]:
    """Return what two models cost whose loss is known by hand, where it is not that."""
    known = torch.tensor([1.0, 2.0, 5.0]).log().expand(1, 2, 3)       # 1/8, 1/4, 5/8
    by_hand = (
        ("uniform", "with all logits 0 and 8 words", "ln 8", math.log(8),
         torch.zeros(1, 8, 8), torch.arange(8).view(1, 8)),
        ("one target", "with logits ln 1, ln 2, ln 5 and the third word as the only "
         "target", "-ln 5/8", math.log(8 / 5), known, torch.tensor([[0, 2]])),
        ("no zero", "with 4 added to these logits, which changes no probability,",
         "-ln 5/8", math.log(8 / 5), known + 4, torch.tensor([[0, 2]])))
    clues = []
    for key, words, formula, right, logits, ids in by_hand:
        value = run(Probe(key, (logits, ids, -100))).value
        if (isinstance(value, Tensor) and value.numel() == 1
                and not abs(value.item() - right) < 1e-4):
            clues.append(Clue(key, f"{words} your loss is {value.item():.4f}, expected "
                              f"{formula} = {right:.4f}"))
    return clues


_Q_SHIFT = "Which token does the model try to predict at position t?"
_Q_AXIS = ("At each position all words of the vocabulary compete. Along which axis are "
           "they?")
_Q_MEAN = "Over how many things is the mean taken?"
_Q_NATS = "Which logarithm gives nats?"
_Q_TARGET = "Whose log-probability is asked for?"

LOSS = (
    Mistake("S1", "no shift: each position is compared with its own token",
            edit=("logits[:, :-1], input_ids[:, 1:]", "logits, input_ids"),
            why="a model that repeats its input gets the lowest loss: too good to be "
                "true",
            question=_Q_SHIFT),
    Mistake("S2", "shifted twice: position t is compared with token t + 2",
            edit=("logits[:, :-1], input_ids[:, 1:]",
                  "logits[:, :-2], input_ids[:, 2:]"),
            why="a model that is sure of the next token does not get a loss near 0",
            question=_Q_SHIFT),
    Mistake("S3", "shifted backwards: position t is compared with token t - 1",
            edit=("logits[:, :-1], input_ids[:, 1:]",
                  "logits[:, 1:], input_ids[:, :-1]"),
            why="a model that copies the token before gets the lowest loss",
            question=_Q_SHIFT),
    Mistake("S4", "softmax before cross_entropy, which does it itself",
            edit=(".float()", ".float().softmax(-1)"),
            why="even a model that is right and sure keeps a large loss",
            question="What does cross_entropy expect: logits or probabilities?"),
    Mistake("S4x", "softmax over the tokens (dim=1), not over the vocabulary",
            edit=[("predictions.flatten(0, 1).float()",
                   "predictions.float().log_softmax(1).flatten(0, 1)"),
                  ("F.cross_entropy", "F.nll_loss")],
            why="the probabilities of one position do not sum to 1", question=_Q_AXIS),
    Mistake("S4y", "softmax over the tokens (dim=1) of the whole logits, not over the "
                   "vocabulary",
            edit=[("logits[:, :-1]", "logits.float().log_softmax(1)[:, :-1]"),
                  ("F.cross_entropy", "F.nll_loss")],
            why="the probabilities of one position do not sum to 1", question=_Q_AXIS,
            where="Look at the number given to softmax"),
    Mistake("S4r", "nll_loss on raw logits, without log_softmax",
            edit=("F.cross_entropy", "F.nll_loss"),
            why="the loss can be negative: it is the mean of the targets' logits",
            question="nll_loss takes log-probabilities. What did it get?"),
    Mistake("S4o", "the mean of the probabilities, without a logarithm",
            edit=[(".float()", ".float().softmax(-1)"),
                  ("F.cross_entropy", "F.nll_loss")],
            why="the loss is between -1 and 0",
            question="What is the negative log-likelihood of an event with probability "
                     "p?"),
    Mistake("S4s", "the sign is missing: ln P, not -ln P",
            edit=("return F", "return -F"),
            why="the loss is negative, and falls as the model gets worse",
            question="What is the sign of the log of a probability below 1?"),
    Mistake("S5", "the sum over the targets, not their mean",
            edit=("ignore_index)", 'ignore_index, reduction="sum")'),
            why="the loss grows with the number of tokens", question=_Q_MEAN),
    Mistake("S5b", "the sum divided by the number of examples, not of targets",
            edit=("ignore_index)", 'ignore_index, reduction="sum") / len(logits)'),
            why="the loss grows with T", question=_Q_MEAN),
    Mistake("S6", "bits (log2), not nats",
            edit=("ignore_index)", "ignore_index) / math.log(2)"),
            why="all losses are larger by 1.4427 = 1 / ln 2", question=_Q_NATS),
    Mistake("S6t", "log10, not the natural logarithm",
            edit=("ignore_index)", "ignore_index) / math.log(10)"),
            why="all losses are smaller by 0.4343 = 1 / ln 10", question=_Q_NATS),
    Mistake("S7", "reshape or view where transpose is needed",
            edit=[("flatten(0, 1)", "reshape(len(targets), -1, targets.size(1))"),
                  ("targets.flatten()", "targets")],
            why="the numbers of different tokens are mixed: a model that is right and "
                "sure gets a large loss",
            question="Cross_entropy wants (N, V), or (B, V, T). How do you get there "
                     "from (B, T, V)?"),
    Mistake("S8", "ignored targets still count in the divisor",
            edit=("ignore_index)", 'ignore_index, reduction="none").mean()'),
            why="the loss shrinks when targets are ignored", question=_Q_MEAN),
    Mistake("S8d", "ignore_index is not passed on",
            edit=(", ignore_index=ignore_index)", ")"),
            why="right for -100, which is PyTorch's default, wrong for any other",
            question="Where is your ignore_index used?"),
    Mistake("S8i", "ignores by the input, not by the target",
            edit=[("return F", "losses = F"),
                  ("targets.flatten(), ignore_index=ignore_index)",
                   'targets.flatten().clamp(0), reduction="none")\n'
                   "    return losses[input_ids[:, :-1].flatten() != "
                   "ignore_index].mean()")],
            why="the prediction made after an ignored token is left out, not the one "
                "of it",
            question="Is it the question or the answer that is ignored?"),
    Mistake("S10", "the mean of the rows' means",
            edit=[("flatten(0, 1).float()", "float()"),
                  ("F.cross_entropy(predictions, targets.flatten(), "
                   "ignore_index=ignore_index)",
                   "torch.stack([\n"
                   "        F.cross_entropy(row, ids, ignore_index=ignore_index)\n"
                   "        for row, ids in zip(predictions, targets)]).mean()")],
            why="right only when all rows have equally many targets", question=_Q_MEAN,
            where="Count how often mean is called"),
    Mistake("S11", "only the last position counts",
            edit=("logits[:, :-1], input_ids[:, 1:]",
                  "logits[:, -2:-1], input_ids[:, -1:]"),
            why="no gradient reaches the other positions",
            question="How many predictions does a row of T tokens contain?"),
    Mistake("S9", "e to the power of the loss, which is the perplexity",
            edit=("ignore_index)", "ignore_index).exp()"),
            why="with all logits 0 and 8 words it gives 8, not ln 8",
            question="In which unit is the loss asked for?"),
    Mistake("S4m", "the log of the mean probability, not the mean of the logs",
            edit=[("return F", "losses = F"), ("ignore_index)",
                   'ignore_index, reduction="none")\n'
                   "    return -(-losses[targets.flatten() != "
                   "ignore_index]).exp().mean().log()")],
            why="a single bad guess hardly counts",
            question="Which comes first: the log, or the mean?"),
    Mistake("S4l", "label smoothing",
            edit=("ignore_index)", "ignore_index, label_smoothing=0.1)"),
            why="even a sure and right model has a loss",
            question="How much of the target belongs to the other words?"),
    Mistake("S4a", "the mean over all words, not the target's alone",
            edit=("F.cross_entropy(predictions, targets.flatten(), "
                  "ignore_index=ignore_index)",
                  "-predictions.log_softmax(-1).mean()"),
            why="changing input_ids changes nothing", question=_Q_TARGET),
    Mistake("S4g", "the most probable word's log-probability, not the target's",
            edit=("F.cross_entropy(predictions, targets.flatten(), "
                  "ignore_index=ignore_index)",
                  "-predictions.log_softmax(-1).amax(-1).mean()"),
            why="a model that is sure of a wrong word has a loss of 0",
            question=_Q_TARGET),
    Mistake("S1f", "the first position cut off both logits and ids: no shift",
            edit=("logits[:, :-1]", "logits[:, 1:]"),
            why="a model that repeats its input gets the lowest loss",
            question=_Q_SHIFT),
    Mistake("S1l", "the last position cut off both logits and ids: no shift",
            edit=("input_ids[:, 1:]", "input_ids[:, :-1]"),
            why="a model that repeats its input gets the lowest loss",
            question=_Q_SHIFT),
    Mistake("S12r", "rolled, not cut: the last position has to predict the first token",
            edit=("logits[:, :-1], input_ids[:, 1:]", "logits, input_ids.roll(-1, 1)"),
            why="one prediction too many in each row",
            question="What comes after the last token of a row?"),
    Mistake("S10f", "only the first example counts",
            edit=("logits[:, :-1], input_ids[:, 1:]",
                  "logits[:1, :-1], input_ids[:1, 1:]"),
            why="the other rows change nothing",
            question="How many examples are there?"),
    Mistake("S8c", "ignored targets count, as if they were token 0",
            edit=("targets.flatten(), ignore_index=ignore_index)",
                  "targets.flatten().clamp(min=0))"),
            why="right as long as nothing is ignored",
            question="What should an ignored target cost?"),
    Mistake("S12", "flattened first, then shifted",
            edit=[("logits[:, :-1], input_ids[:, 1:]",
                   "logits.flatten(0, 1)[:-1], input_ids.flatten()[1:]"),
                  ("flatten(0, 1).float", "float")],
            why="the end of each row has to predict the beginning of the next row",
            question="What comes after the last token of a row?"),
)

next_token_loss = Exercise(
    "next_token_loss", "08", "next_token_loss(logits, input_ids, ignore_index=-100) -> "
    "a tensor of one number, in nats", make_probes=loss_probes, mistakes=LOSS,
    read_out=read_loss,
    edge_cases=(
        EdgeCase("it is fragile: with a logit of 1,000 the other probabilities become "
                 "0, and their log is infinite; cross_entropy and log_softmax stay "
                 "finite",
               lambda g: Probe("a logit of 1,000", (
                   1000.0 * F.one_hot(_ids(g, 2, 4, 5), 5).float(),
                   torch.arange(8).view(2, 4) % 5, -100))),
        EdgeCase("it is less accurate in half precision: .float() the logits first",
               lambda g: Probe("half precision", (
                   _logits(g, 2, 40, 30, 3.0), _ids(g, 2, 40, 30), -100),
                               fakes.halved)),
    ),
    axes={"logits": "B T V", "input_ids": "B T", "": ""},
    crashes=((r"Expected target size|multi-target not supported",
              "cross_entropy expects the V logits on axis 1: flatten predictions to "
              "(N, V) and targets to (N,), or transpose predictions to (B, V, T - 1)"),
             (r"input batch_size|target batch_size",
              "there must be as many predictions as targets: which of them loses its "
              "first position, and which its last?"),
             (r"out of bounds|out of range", "an ignored id is used as an index: there "
                                             "is no column -100")),
    hints=("At position t the model predicts what comes at t + 1. Pair the two first.",
           "Print the shapes of predictions and targets: (B, T - 1, V) and (B, T - 1).",
           "F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())"),
    show="random logits",
    solution=_NEXT_TOKEN_LOSS)

# --- the learning rate ----------------------------------------------------------------

_LEARNING_RATE = """\
def learning_rate(step, steps, max_lr, warmup_steps, min_lr):
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    done = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2"""


def rate_probes(g: Generator) -> list[Probe]:
    """Return learning rates at the corners, half-way and beyond the end."""
    top = 0.5 + torch.rand(1, generator=g).item()
    settings = (50, top, 10, 0.1)
    return [
        Probe("steps 0, 9, 10, 30, 49 (50 steps, 10 of warm-up)",
              ([0, 9, 10, 30, 49], settings), fakes.rates_of),
        Probe("steps 50, 60, 75, 90 (beyond the end)", ([50, 60, 75, 90], settings),
              fakes.rates_of),
        Probe("no warm-up", ([0, 1, 7, 15], (16, top, 0, 0.0)), fakes.rates_of),
        Probe("the whole warm-up", (list(range(8)), (40, top, 6, 0.0)), fakes.rates_of),
    ]


def read_rate(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what the learning rates at the corners show."""
    asked = [0, 3, 4, 12, 20, 40]
    values = run(Probe("corners", (asked, (20, 1.0, 4, 0.2)), fakes.rates_of)).value
    if not (isinstance(values, Tensor) and values.shape == (6,)):
        return []
    wanted = (0.25, 1.0, 1.0, 0.6, 0.2, 0.2)
    names = ("first step", "last step of the warm-up", "first step after it",
             "half-way down", "step `steps`", "step 2 * steps")
    return [Clue(name, f"with 20 steps, 4 of warm-up, from 1.0 to 0.2: at the {name} "
                 f"({step}) yours is {value:.4g}, expected {right:.4g}")
            for name, step, value, right in zip(names, asked, values.tolist(), wanted,
                                                strict=True)
            if not abs(value - right) < 1e-4]


_Q_WARM = "What should it be at the first step, and at the last of the warm-up?"
_Q_FALL = "From which value does it fall, and to which?"
_Q_COS = "How much of the way down is done at step `warmup_steps`, and at `steps`?"
_Q_HALF = "By which angle does the cosine go from 1 to -1?"

RATE = (
    Mistake("R12", "the warm-up starts at 0", edit=("(step + 1)", "step"),
            why="the first step does nothing", question=_Q_WARM),
    Mistake("R12o", "the warm-up is off by one: divided by warmup_steps + 1",
            edit=("/ warmup_steps\n", "/ (warmup_steps + 1)\n"),
            why="the last step of the warm-up stays below max_lr", question=_Q_WARM),
    Mistake("R12n", "no warm-up", edit=("max_lr * (step + 1) / warmup_steps", "max_lr"),
            why="the first steps are made at max_lr", question=_Q_WARM),
    Mistake("R13", "the cosine is not stopped: it rises again after the end",
            edit=("min(1.0, ", "("), why="beyond `steps` it climbs back",
            question="Where is the cosine after half a turn?"),
    Mistake("R13s", "the cosine starts at step 0, not after the warm-up",
            edit=("(step - warmup_steps) / (steps - warmup_steps)", "step / steps"),
            why="after the warm-up it jumps below max_lr", question=_Q_COS),
    Mistake("R13d", "the way down is divided by `steps`, not by what is left of them",
            edit=("/ (steps - warmup_steps)", "/ steps"),
            why="at step `steps` it has not arrived at min_lr", question=_Q_COS),
    Mistake("R13m", "min_lr is never used: falls to 0",
            edit=("min_lr + (max_lr - min_lr)", "max_lr"),
            why="at the end it is 0, not min_lr", question=_Q_FALL),
    Mistake("R13a", "min_lr is added on top of the whole way",
            edit=("(max_lr - min_lr)", "max_lr"),
            why="after the warm-up it is max_lr + min_lr", question=_Q_FALL),
    Mistake("R12m", "the warm-up starts at min_lr",
            edit=("max_lr * (step + 1)", "min_lr + (max_lr - min_lr) * (step + 1)"),
            why="the first steps are larger than max_lr * (step + 1) / warmup_steps",
            question=_Q_WARM),
    Mistake("R12i", "whole-number division (//) in the warm-up",
            edit=("(step + 1) / warmup_steps", "((step + 1) // warmup_steps)"),
            why="it is 0 until the last step of the warm-up", question=_Q_WARM),
    Mistake("R13z", "0 after the end, not min_lr",
            edit=("    done", "    if step >= steps:\n        return 0.0\n    done"),
            why="beyond `steps` nothing moves",
            question="What should it be at a step after the end?"),
    Mistake("R13x", "max(min_lr, ...): the cosine falls to 0 and is cut off",
            edit=[("min_lr + (max_lr - min_lr)", "max(min_lr, max_lr"),
                  (" / 2", " / 2)")],
            why="half-way down it is max_lr / 2", question=_Q_FALL),
    Mistake("R13e", "the way down is one step too short (steps - 1)",
            edit=("(steps - warmup_steps)", "(steps - 1 - warmup_steps)"),
            why="min_lr is reached one step too early", question=_Q_COS),
    Mistake("R13b", "the warm-up is not taken off the step",
            edit=("(step - warmup_steps)", "step"),
            why="after the warm-up it jumps below max_lr", question=_Q_COS),
    Mistake("R13i", "a sine, not a cosine", edit=("cos(", "sin("),
            why="after the warm-up it jumps to the middle",
            question="Which of the two is 1 at 0?"),
    Mistake("R13r", "1 - cos: it rises where it should fall",
            edit=("1 + math", "1 - math"),
            why="after the warm-up it is min_lr, and at the end max_lr",
            question=_Q_FALL),
    Mistake("R13c", "the cosine alone, without (1 + ...) / 2",
            edit=[("(1 + ", ""), (") / 2", "")],
            why="at the end it is below min_lr",
            question="Between which two numbers is a cosine?"),
    Mistake("R13h", "1 + cos is not halved", edit=(" / 2", ""),
            why="after the warm-up it is doubled",
            question="Between which two numbers is 1 + cos?"),
    Mistake("R13l", "a straight line down, not a cosine",
            edit=("(1 + math.cos(math.pi * done)) / 2", "(1 - done)"),
            why="right at both ends and in the middle, wrong in between",
            question="Where is a cosine steep, and where flat?"),
    Mistake("R13p", "a whole period of the cosine (2 pi), not half of one",
            edit=("math.pi", "2 * math.pi"),
            why="it is lowest half-way and back at the top at the end",
            question=_Q_HALF),
    Mistake("R13q", "a quarter period of the cosine (pi / 2), not half of one",
            edit=("math.pi", "math.pi / 2"),
            why="at the end it is half-way, not at min_lr", question=_Q_HALF),
    Mistake("R13f", "stays at max_lr after the warm-up",
            edit=("(1 + math.cos(math.pi * done)) / 2", "1"),
            why="it never falls", question=_Q_COS),
)

learning_rate = Exercise(
    "learning_rate", "08", "learning_rate(step, steps, max_lr, warmup_steps, min_lr) "
    "-> a number", make_probes=rate_probes, mistakes=RATE, read_out=read_rate,
    hints=("Three pieces: below warmup_steps, up to `steps`, and from there on.",
           "Try steps 0, warmup_steps - 1, warmup_steps, steps and 2 * steps.",
           "done = min(1, (step - warmup_steps) / (steps - warmup_steps)); "
           "min_lr + (max_lr - min_lr) * (1 + cos(pi * done)) / 2"),
    show="steps 0, 9, 10, 30, 49 (50 steps, 10 of warm-up)",
    solution=_LEARNING_RATE)

# --- batches of pairs -----------------------------------------------------------------

_GET_PAIRS = """\
def get_pairs(tokens, batch_size, seq_length, generator):
    first = torch.randint(len(tokens) - seq_length, (batch_size,), generator=generator)
    positions = first[:, None] + torch.arange(seq_length)
    return tokens[positions], tokens[positions + 1]"""


def pair_probes(g: Generator) -> list[Probe]:
    """Return facts about many batches, and whether the generator decides."""
    seeds = torch.randint(1000, (3,), generator=g).tolist()
    tokens = torch.randint(9, (50,), generator=g)
    return [Probe("60 batches of 5 windows, 4 long, from 0, 1, ..., 23",
                  (24, 5, 4, seeds[0]), fakes.pairs_drawn),
            Probe("60 batches of 6 windows, 3 long, from 0, 1, ..., 4",
                  (5, 6, 3, seeds[1]), fakes.pairs_drawn),
            Probe("a single window fits", (4, 2, 3, seeds[2], 10 * seeds[0]),
                  fakes.pairs_drawn),
            Probe("twice with the same generator", (tokens, seeds[2]),
                  fakes.drawn_again)]


def read_pairs(run: RunProbe, g: Generator) -> list[Clue]:
    """Return each fact about the drawn pairs that is not as expected."""
    args = (24, 5, 4, 1)
    value = run(Probe("pairs", args, fakes.pairs_drawn)).value
    if isinstance(value, str):
        return []                                    # the type has been told
    if not isinstance(value, dict):
        return []
    right = fakes.pairs_drawn(get_pairs.reference, *args)
    return [Clue(key, f"in other samples, too: {key}: yours {value.get(key)}, expected "
                 f"{right[key]}") for key in right if value.get(key) != right[key]]


_Q_NEXT = "What should the model answer after the last input?"

PAIRS = (
    Mistake("R18", "the targets are not shifted: they equal the inputs",
            edit=("positions + 1", "positions"),
            why="the model learns to repeat the token that it sees", question=_Q_NEXT),
    Mistake("R18t", "the targets are shifted by two",
            edit=[("- seq_length", "- seq_length - 1"),
                  ("positions + 1", "positions + 2")],
            why="the model learns to predict the token after the next",
            question=_Q_NEXT,
            where="Look at the slice of the targets"),
    Mistake("R18b", "windows begin only at multiples of seq_length",
            edit=[("len(tokens) - seq_length", "(len(tokens) - 1) // seq_length"),
                  ("=generator)", "=generator) * seq_length")],
            why="a text of N tokens then has only N / T windows, always the same ones",
            question="How many different windows does a text of N tokens contain?"),
    Mistake("R18f", "always the first window of the text",
            edit=("len(tokens) - seq_length", "1"),
            why="nothing but the beginning is ever learned",
            question="Where may a window begin?"),
    Mistake("R18l", "the last window is never chosen",
            edit=("- seq_length", "- seq_length - 1"),
            why="the text's last token is never a target",
            question="Which is the last position where a window and its targets fit?"),
    Mistake("R18o", "all windows of a batch are the same",
            edit=[("(batch_size,)", "(1,)"),
                  ("first[:, None]", "first.expand(batch_size, 1)")],
            why="a batch of B then teaches as much as a batch of 1",
            question="How many starts does a batch need?"),
    Mistake("R18g", "the generator is not used", edit=(", generator=generator", ""),
            why="the same generator gives a different batch, so no run can be repeated",
            question="What decides which windows are chosen?"),
    Mistake("R18s", "single tokens chosen at random, not windows",
            edit=("first[:, None] + torch.arange(seq_length)",
                  "torch.randint(len(tokens) - seq_length, (batch_size, seq_length),\n"
                  "                              generator=generator)"),
            why="the tokens of a row are not neighbours: only pairs can be learned",
            question="What does a row of the batch have to be?"),
)

get_pairs = Exercise(
    "get_pairs", "08", "get_pairs(tokens, batch_size, seq_length, generator) -> "
    "(inputs, targets), each (B, T)", make_probes=pair_probes, mistakes=PAIRS,
    read_out=read_pairs,
    hints=("Choose B starts at random. From each take T tokens for the inputs, and the "
           "T tokens one position later for the targets.",
           "Use torch.arange(24) as the text, and print inputs and targets.",
           "first = torch.randint(len(tokens) - seq_length, (batch_size,), "
           "generator=generator)"),
    solution=_GET_PAIRS)

# --- the answers that are values ------------------------------------------------------


def _rates(plain: float, momentum: float) -> dict[str, float]:
    return {"plain": plain, "momentum 0.9": momentum}


_RATES = _rates(0.04, 0.076)
_CHOICES = ("right", "nothing moves", "last batch only", "never clipped",
            "steps too short")
_LOGS = {"A": "nothing moves", "B": "right", "C": "last batch only",
         "D": "never clipped", "E": "steps too short", "F": "right"}


def _wrong_logs(value: Value) -> list[str]:
    """Return what is wrong with the predictions: no choice, or not the right one."""
    if not isinstance(value, dict) or value.keys() != _LOGS.keys():
        return ["expected a dict with the entries 'A', 'B', 'C', 'D', 'E', 'F'"]
    chosen = {name: " ".join(str(one).lower().split()) for name, one in value.items()}
    none = [name for name, one in chosen.items() if one not in _CHOICES]
    if none:
        return [f"{shown(value[none[0]])} for {none[0]} is none of the five choices: "
                + ", ".join(_CHOICES)]
    bad = [name for name in _LOGS if chosen[name] != _LOGS[name]]
    good = [name for name in _LOGS if name not in bad]
    told = f"right: {', '.join(good)}; " if good else ""
    return [f"{told}not yet: {', '.join(bad)}"] if bad else []


def _rate_off(value: Value) -> list[str]:
    """Return on which side of the right learning rates the measured ones are."""
    if not isinstance(value, dict) or value.keys() != _rates(0, 0).keys():
        return ["expected a dict with the entries 'plain' and 'momentum 0.9'"]
    found = []
    for name, right in _RATES.items():
        mine = value[name].item() if hasattr(value[name], "item") else value[name]
        if isinstance(mine, bool) or not isinstance(mine, int | float):
            found.append(f"{name} should be a number, and is {shown(mine)}")
        elif not mine < 1.05 * right:
            found.append(f"{name}: with {mine:.4g} a weight ends farther from 0 than "
                         "it began")
        elif mine < 0.95 * right:
            found.append(f"{name}: {mine:.4g} works, and so do larger ones"
                         if mine > 0 else f"{name}: {mine:.4g} gets nowhere, or climbs")
    return found


_INVERSE = Mistake(
    "P1", "what is fastest along the steep weight, not the largest that works",
    "at 1/50 the steep weight arrives in one step; twice that still shrinks it",
    "A step multiplies a by 1 - 50 lr. For which lr is that between -1 and 1?",
    "Try one 1.5 times as large", "Double it until it fails, then halve")
_FLAT = Mistake(
    "P2", "the limit of the flat weight b", "the steep weight fails long before",
    "Which of the two weights runs away first?", "Look at both weights at the end",
    "Every weight has to come closer to 0")
_DIVIDED = Mistake(
    "P3", "with momentum ten times smaller",
    "momentum of 0.9 makes a long run of equal gradients ten times as strong, but "
    "swings of alternating sign nearly cancel",
    "What is the sign of the gradient of a, step after step, near the limit?",
    "Measure it as you measured the plain one", "Bracket again, with momentum=0.9")
_EQUAL = Mistake(
    "P4", "the same limit with and without momentum",
    "momentum moves the limit", "Did both runs use their own momentum?",
    "Look at the argument momentum", "torch.optim.SGD(..., momentum=momentum)")

_SWAPPED = Mistake(
    "P5", "the two learning rates exchanged", "each is the other's limit",
    "With which momentum did you find the smaller one?",
    "Compare the names with the numbers", "The smaller one belongs to plain")

_HOLDS = "What is p.grad when step is called?"
_WRONG_LOGS = tuple(
    ({letter: choice}, mistake)
    for letter, mistake in (
        (letter, Mistake(id, name, why, question, "write down p.grad after each call",
                         f"{letter}: {_LOGS[letter]}"))
        for letter, id, name, why, question in (
            ("A", "P6", "zero_grad between backward and step overlooked",
             "A zeroes the gradients right before they are used", _HOLDS),
            ("B", "P11", "two backwards in a row mistaken for a mistake",
             "B adds up the gradients of its two batches, as it should",
             "What does backward do to a gradient that is there?"),
            ("C", "P8", "the second zero_grad of C overlooked",
             "it throws the first batch's gradient away", _HOLDS),
            ("D", "P9", "clip after step mistaken for a clip",
             "D clips gradients that have been used",
             "What is left to do with the gradients after step?"),
            ("E", "P10", "unscale after clip overlooked",
             "E clips gradients that are 1024 times too large, and divides them then",
             "How large is the gradient norm after clip, and after unscale?"),
            ("F", "P7", "zero_grad at the end mistaken for one before step",
             "F has taken its step when it zeroes the gradients", _HOLDS)))
    for choice in _CHOICES if choice != _LOGS[letter])

ANSWERS = (
    Answer("08.1", "the behaviour of each of six call logs",
           _LOGS, wrong=_WRONG_LOGS, test=_wrong_logs, predict=True,
           hints=("Follow the gradient: zero_grad sets it to zero, backward adds to "
                  "it, clip scales it down if its norm is too large, and step uses it "
                  "and leaves it as it is.",
                  "Program E: how large is the gradient norm after clip? And what does "
                  "unscale do to it?",
                  "A and D differ from a right log in one step each."),
           solution="""\
predicted = {"A": "nothing moves", "B": "right", "C": "last batch only",
             "D": "never clipped", "E": "steps too short", "F": "right"}"""),
    Answer("08.4", "the largest learning rate that works, without and with momentum",
           _RATES, rtol=0.05, precision="5% is", test=_rate_off,
           wrong=((_rates(0.02, 0.038), _INVERSE), (_rates(0.02, 0.076), _INVERSE),
                  (_rates(2.0, 3.8), _FLAT), (_rates(0.04, 0.004), _DIVIDED),
                  (_rates(0.04, 0.04), _EQUAL), (_rates(0.076, 0.04), _SWAPPED)),
           hints=("0.001 works and 1 fails. Try 0.03, which is about as many times "
                  "larger than the first as it is smaller than the second, and keep "
                  "the half in which it changes.",
                  "Without momentum each step multiplies a by 1 - 50 lr. When does "
                  "that not shrink it?",
                  "The plain limit is 2 / 50: beyond it |1 - 50 lr| is above 1."),
           solution="""\
def bracket(momentum, works=1e-4, fails=10.0):
    while fails / works > 1.01:
        middle = (works * fails) ** 0.5
        if ends_lower(middle, momentum):
            works = middle
        else:
            fails = middle
    return works"""),
)
