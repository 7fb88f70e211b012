"""The loss, the training step and its parts (catalogue: S and R)."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe, gradients
from gpt2_lesson.checks.stand_ins import spies
from gpt2_lesson.checks.stand_ins.spies import Setup

# --- the loss -------------------------------------------------------------------------


def _aligned(logits: Tensor, ids: Tensor, shift: str) -> tuple[Tensor, Tensor]:
    """Return predictions and their targets, or what a mistake pairs."""
    if shift == "flat":                              # row ends meet the next row
        return logits.flatten(0, 1)[None, :-1], ids.flatten()[None, 1:]
    return {"right": lambda: (logits[:, :-1], ids[:, 1:]),
            "none": lambda: (logits, ids),
            "twice": lambda: (logits[:, :-2], ids[:, 2:]),
            "back": lambda: (logits[:, 1:], ids[:, :-1]),
            "last": lambda: (logits[:, -2:-1], ids[:, -1:]),
            "both first": lambda: (logits[:, 1:], ids[:, 1:]),
            "both last": lambda: (logits[:, :-1], ids[:, :-1]),
            "round": lambda: (logits, ids.roll(-1, 1)),
            "example 0": lambda: (logits[:1, :-1], ids[:1, 1:])}[shift]()


def _surprise(predictions: Tensor, targets: Tensor, soft: str, axis: int) -> Tensor:
    """Return -ln P of each target (B, T), or what stands for it."""
    if soft == "first":
        predictions = predictions.softmax(-1)
    odds = predictions.log_softmax(axis)
    if soft == "raw":
        odds = predictions
    elif soft == "odds":
        odds = predictions.softmax(-1)
    if soft == "smoothed":
        odds = 0.9 * odds + 0.1 * odds.mean(-1, keepdim=True)
    if soft == "all words":
        return -odds.mean(-1)
    if soft == "largest":
        return -odds.amax(-1)
    found = -odds.gather(-1, targets[..., None])[..., 0]
    return -found if soft == "sign" else found


def token_loss(logits: Tensor, input_ids: Tensor, ignore_index: int = -100, *,
               shift: str = "right", soft: str = "log", over: str = "targets",
               unit: float = 1.0, scrambled: bool = False, ignored: str = "targets",
               axis: str = "V", power: bool = False, mean_first: bool = False
               ) -> Tensor:
    """Return the mean of -ln P(next token) over the targets, or a mistake's loss."""
    logits = logits.float().log_softmax(1) if axis == "all T" else logits.float()
    predictions, targets = _aligned(logits, input_ids, shift)
    if scrambled:
        b, t, v = predictions.shape
        predictions = predictions.reshape(b, v, t).transpose(1, 2)
    counts = targets != ignore_index
    if ignored == "inputs":                          # looks at the token before
        counts = (input_ids != ignore_index)[:, :targets.size(1)]
    elif ignored in ("default", "never"):
        counts = targets != -100
    if ignored == "counted":
        counts = torch.ones_like(targets, dtype=torch.bool)
    surprise = _surprise(predictions, targets.clamp(min=0),
                         "raw" if axis == "all T" else soft, 1 if axis == "T" else -1)
    surprise = surprise.where(counts, 0.0) / unit
    if over == "rows":
        return (surprise.sum(1) / counts.sum(1)).mean()
    share = {"targets": counts.sum(), "all": counts.numel(), "sum": 1,
             "examples": len(logits), "T": logits.size(1)}[over]
    if mean_first:
        return -((-surprise).exp() * counts).sum().div(share).log()
    return (surprise.sum() / share).exp() if power else surprise.sum() / share


def _ids(g: Generator, b: int, t: int, v: int) -> Tensor:
    return torch.randint(v, (b, t), generator=g)


def _logits(g: Generator, b: int, t: int, v: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(b, t, v, generator=g)


def _confident(ids: Tensor, v: int, ahead: int) -> Tensor:
    """Return logits of a model that is sure of the id `ahead` places on."""
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
        Probe("a model sure of the next token", (_confident(ids, 9, 1), ids, -100)),
        Probe("all logits 0", (torch.zeros(2, 4, 6), _ids(g, 2, 4, 6), -100)),
        Probe("one example, two tokens", (_logits(g, 1, 2, 5), _ids(g, 1, 2, 5), -100)),
        Probe("gradients", (_logits(g, 2, 4, 5), _ids(g, 2, 4, 5), -100), gradients),
    ]


def read_loss(look: Look, g: Generator) -> list[Clue]:
    """Return which token pleases this loss, and which positions it looks at."""
    ids = torch.stack([torch.randperm(9, generator=g) for _ in range(2)])
    found = {}
    for ahead, name in ((1, "the next token"), (0, "the same token again"),
                        (2, "the token after the next"), (-1, "the token before")):
        value = look(Probe(name, (_confident(ids, 9, ahead), ids, -100))).value
        if isinstance(value, Tensor) and value.numel() == 1 and value.isfinite():
            found[name] = value.item()
    clues = []
    if len(found) == 4 and (best := min(found, key=found.get)) != "the next token":
        clues.append(Clue("pleased by", f"your loss is lowest for a model that is sure "
                          f"of {best}: it should be the next token"))
    return clues + _where_gradient(look, g) + _uniform(look)


def _where_gradient(look: Look, g: Generator) -> list[Clue]:
    args = (_logits(g, 2, 5, 4), _ids(g, 2, 5, 4), -100)
    value = look(Probe("gradients", args, gradients)).value
    if not isinstance(value, list) or not value or value[0] is None:
        return []
    reached = value[0].abs().sum((0, 2)) > 1e-8                      # (T,)
    if reached.tolist() == [True] * 4 + [False]:
        return []
    places = ", ".join(map(str, reached.nonzero().flatten().tolist())) or "none"
    return [Clue("reached", f"of 5 positions your loss depends on the logits at "
                 f"{places}: expected 0, 1, 2, 3")]


def _uniform(look: Look) -> list[Clue]:
    """Return what two models cost whose loss is known by hand, where it is not that."""
    odds = torch.tensor([1.0, 2.0, 5.0]).log().expand(1, 2, 3)       # 1/8, 1/4, 5/8
    by_hand = (
        ("uniform", "with all logits 0 and 8 words", "ln 8", math.log(8),
         torch.zeros(1, 8, 8), torch.arange(8).view(1, 8)),
        ("one target", "with logits ln 1, ln 2, ln 5 and the third word as the only "
         "target", "-ln 5/8", math.log(8 / 5), odds, torch.tensor([[0, 2]])),
        ("no zero", "with 4 added to these logits, which changes no odds,", "-ln 5/8",
         math.log(8 / 5), odds + 4, torch.tensor([[0, 2]])))
    clues = []
    for key, words, formula, right, logits, ids in by_hand:
        value = look(Probe(key, (logits, ids, -100))).value
        if (isinstance(value, Tensor) and value.numel() == 1
                and not abs(value.item() - right) < 1e-4):
            clues.append(Clue(key, f"{words} your loss is {value.item():.4f}, expected "
                              f"{formula} = {right:.4f}"))
    return clues


_Q_SHIFT = "Which token does the model try to foresee at position t?"
_Q_AXIS = "At each position all words of the vocabulary compete. Which axis are they?"
_Q_MEAN = "Over how many things is the mean taken?"

LOSS = (
    Mistake("S1", "no shift: each position is compared with its own token",
            "a model that repeats its input gets the lowest loss: too good to be true",
            _Q_SHIFT, "Write down which logits meet which ids, for T = 3",
            "logits[:, :-1] against input_ids[:, 1:]", {"shift": "none"}),
    Mistake("S2", "shifted twice: position t is compared with token t + 2",
            "a model that is sure of the next token does not get a loss near 0",
            _Q_SHIFT, "Count the shifts, also those of the caller",
            "logits[:, :-1] against input_ids[:, 1:]", {"shift": "twice"}, mark="S"),
    Mistake("S3", "shifted backwards: position t is compared with token t - 1",
            "a model that copies the token before gets the lowest loss", _Q_SHIFT,
            "Which of the two loses its first, and which its last?",
            "logits lose the last, ids the first", {"shift": "back"}, mark="R"),
    Mistake("S4", "softmax before cross_entropy, which does it itself",
            "even a model that is right and sure keeps a large loss",
            "What does cross_entropy expect: scores or shares?",
            "Look for softmax before the loss", "Give cross_entropy the logits",
            {"soft": "first"}),
    Mistake("S4x", "softmax over the tokens (dim=1), not over the vocabulary",
            "the odds of one position do not add up to 1", _Q_AXIS,
            "Look at the number given to softmax", "log_softmax(-1)", {"axis": "T"},
            mark="R"),
    Mistake("S4y", "softmax over the tokens (dim=1) of the whole logits, not over the "
            "vocabulary", "the odds of one position do not add up to 1", _Q_AXIS,
            "Look at the number given to softmax", "log_softmax(-1)", {"axis": "all T"},
            mark="R"),
    Mistake("S4r", "nll_loss on raw logits, without log_softmax",
            "the loss can be negative: it is the mean of the targets' logits",
            "Nll_loss takes logs of odds. What did it get?",
            "Look at what goes into nll_loss", "F.cross_entropy, or log_softmax first",
            {"soft": "raw"}, mark="R"),
    Mistake("S4o", "the mean of the odds, without a logarithm",
            "the loss lies between -1 and 0",
            "What is the surprise of an event with the chance p?",
            "Where is the logarithm?", "log_softmax, not softmax", {"soft": "odds"},
            mark="R"),
    Mistake("S4s", "the sign is missing: ln P, not -ln P",
            "the loss is negative, and falls as the model gets worse",
            "The log of a share below 1 has which sign?", "Look for the minus",
            "-log_odds.mean()", {"soft": "sign"}, mark="R"),
    Mistake("S5", "the sum over the targets, not their mean",
            "the loss grows with the number of tokens", _Q_MEAN,
            "Look for sum, or reduction", "The default reduction is the mean",
            {"over": "sum"}),
    Mistake("S5b", "the sum divided by the number of examples, not of targets",
            "the loss grows with T", _Q_MEAN, "Look at the divisor",
            "Divide by the number of targets", {"over": "examples"}, mark="R"),
    Mistake("S6", "bits (log2), not nats",
            "all losses are larger by 1.4427 = 1 / ln 2",
            "Which logarithm belongs to nats?", "Look at the logarithm",
            "torch.log, or cross_entropy", {"unit": math.log(2)}),
    Mistake("S6t", "log10, not the natural logarithm",
            "all losses are smaller by 0.4343 = 1 / ln 10",
            "Which logarithm belongs to nats?", "Look at the logarithm",
            "torch.log, or cross_entropy", {"unit": math.log(10)}),
    Mistake("S7", "reshape or view where transpose is meant",
            "the numbers of different tokens are mixed: a model that is right and sure "
            "gets a large loss",
            "Cross_entropy wants (N, V), or (B, V, T). How do you get there from "
            "(B, T, V)?",
            "Look at the line that changes the shape of the logits",
            "flatten(0, 1), or transpose(1, 2)", {"scrambled": True}, mark="R"),
    Mistake("S8", "ignored targets still count in the divisor",
            "the loss shrinks when targets are ignored", _Q_MEAN,
            "Look at the divisor: which targets does it count?",
            "Divide by (targets != ignore_index).sum()", {"over": "all"}, mark="R"),
    Mistake("S8d", "ignore_index is not passed on",
            "right for -100, which is PyTorch's default, wrong for any other",
            "Where is your ignore_index used?", "Look at the call of cross_entropy",
            "F.cross_entropy(..., ignore_index=ignore_index)", {"ignored": "default"},
            mark="R"),
    Mistake("S8i", "ignores by the input, not by the target",
            "the prediction made after an ignored token is left out, not the one of it",
            "Is it the question or the answer that is ignored?",
            "To which ids is ignore_index compared?", "targets != ignore_index",
            {"ignored": "inputs"}, mark="R"),
    Mistake("S10", "the mean of the rows' means",
            "right only when all rows have equally many targets", _Q_MEAN,
            "Count how often mean is called", "One mean over all targets",
            {"over": "rows"}, mark="S"),
    Mistake("S11", "only the last position counts",
            "no gradient reaches the other positions",
            "How many predictions does a row of T tokens hold?",
            "Look for [:, -1]", "Use all positions but the last as predictions",
            {"shift": "last"}, mark="R"),
    *(Mistake(id, name, why, idea, where, fix,
              function=lambda *args, knobs=knobs: token_loss(*args, **knobs))
      for id, name, why, idea, where, fix, knobs in (
        ("S9", "e to the loss: that is the perplexity",
         "with all logits 0 and 8 words it gives 8, not ln 8",
         "In which unit is the loss asked for?", "Look for exp",
         "leave exp out: the mean of -ln P", {"power": True}),
        ("S4m", "the log of the mean probability, not the mean of the logs",
         "a single bad guess hardly counts", "Which comes first: the log, or the mean?",
         "Look at the order of mean and log", "-log_softmax(-1) first, then the mean",
         {"mean_first": True}),
        ("S4l", "label smoothing", "even a sure and right model has a loss",
         "How much of the target belongs to the other words?",
         "Look for label_smoothing", "leave it out", {"soft": "smoothed"}),
        ("S4a", "the mean over all words, not the target's alone",
         "changing input_ids changes nothing",
         "Whose log-probability is asked for?", "Where are the targets used?",
         "gather the target's entry, or use cross_entropy", {"soft": "all words",
         "ignored": "counted"}),
        ("S4g", "the most probable word's log-probability, not the target's",
         "a model that is sure of a wrong word has a loss of 0",
         "Whose log-probability is asked for?", "Look for max or amax",
         "gather the target's entry, or use cross_entropy", {"soft": "largest",
         "ignored": "counted"}),
        ("S1f", "logits and ids both lose their first: no shift",
         "a model that repeats its input gets the lowest loss", _Q_SHIFT,
         "Which of the two loses its first, and which its last?",
         "logits lose the last, ids the first", {"shift": "both first"}),
        ("S1l", "logits and ids both lose their last: no shift",
         "a model that repeats its input gets the lowest loss", _Q_SHIFT,
         "Which of the two loses its first, and which its last?",
         "logits lose the last, ids the first", {"shift": "both last"}),
        ("S12r", "rolled, not cut: the last position has to foresee the first token",
         "one prediction too many in each row",
         "What comes after the last token of a row?", "Look for roll",
         "cut: logits[:, :-1] against input_ids[:, 1:]", {"shift": "round"}),
        ("S10f", "only the first example counts", "the other rows change nothing",
         "How many examples are there?", "Look for a [0]", "Use all rows",
         {"shift": "example 0"}),
        ("S8c", "ignored targets count, as if they were token 0",
         "right as long as nothing is ignored", "What should an ignored target cost?",
         "Look for clamp, and for what happens after it",
         "loss[targets != ignore_index].mean()", {"ignored": "counted"}))),
    Mistake("S12", "flattened first, then shifted",
            "the end of each row has to foresee the beginning of the next row",
            "What comes after the last token of a row?",
            "Compare the order: shift, flatten", "Shift each row, then flatten",
            {"shift": "flat"}, mark="S"),
)

next_token_loss = Exercise(
    "next_token_loss", "08", "next_token_loss(logits, input_ids, ignore_index=-100) -> "
    "a tensor of one number, in nats", token_loss, loss_probes, LOSS, read_loss,
    robust=(
        Robust("it is fragile: with a logit of 1,000 the odds of the others become 0, "
               "and their log is infinite; cross_entropy and log_softmax stay finite",
               lambda g: Probe("a logit of 1,000", (
                   1000.0 * F.one_hot(_ids(g, 2, 4, 5), 5).float(),
                   torch.arange(8).view(2, 4) % 5, -100))),
        Robust("it is less exact in half precision: .float() the logits first",
               lambda g: Probe("half precision", (
                   _logits(g, 2, 40, 30, 3.0), _ids(g, 2, 40, 30), -100),
                               spies.halved)),
    ),
    axes={"logits": "B T V", "input_ids": "B T", "": ""},
    crashes=((r"Expected target size|multi-target not supported",
              "cross_entropy looks for the V logits on axis 1: flatten predictions to "
              "(N, V) and targets to (N,), or transpose predictions to (B, V, T - 1)"),
             (r"input batch_size|target batch_size",
              "predictions and targets must be equally many: which loses its first, "
              "which its last?"),
             (r"out of bounds|out of range", "an ignored id is used as an index: "
              "-100 is no column")),
    hints=("The model answers at position t what comes at t + 1. Pair them first.",
           "Print the shapes of predictions and targets: (B, T - 1, V) and (B, T - 1).",
           "F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())"),
    show="random logits", solution="""\
def next_token_loss(logits, input_ids, ignore_index=-100):
    predictions, targets = logits[:, :-1], input_ids[:, 1:]
    return F.cross_entropy(predictions.flatten(0, 1).float(), targets.flatten(),
                           ignore_index=ignore_index)""")


# --- one step -------------------------------------------------------------------------


def _clip(parameters: list[Tensor], max_norm: float, how: str) -> None:
    """Shorten the gradients in place, or do what a mistake does."""
    if how == "all":
        nn.utils.clip_grad_norm_(parameters, max_norm)
    if how in ("fixed", "shorter", "longer", "one", "sum", "largest"):
        nn.utils.clip_grad_norm_(
            parameters[:1] if how == "one" else parameters, max_norm,
            {"sum": 1.0, "largest": math.inf}.get(how, 2.0))
    for parameter in parameters:
        if parameter.grad is None or how not in ("each", "numbers"):
            continue
        if how == "each":
            nn.utils.clip_grad_norm_([parameter], max_norm)
        elif how == "numbers":
            parameter.grad.clamp_(-max_norm, max_norm)
    if how == "always":
        grads = [parameter.grad for parameter in parameters]
        length = torch.cat([grad.flatten() for grad in grads]).norm() + 1e-12
        for grad in grads:
            grad.mul_(max_norm / length)


def _set_rate(optimizer: torch.optim.Optimizer, lr: float, groups: str) -> None:
    chosen = {"all": optimizer.param_groups, "shared": optimizer.param_groups,
    "first": optimizer.param_groups[:1],
              "none": []}[groups]
    for group in chosen:
        group["lr"] = lr


def step_once(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable,
              batches: Sequence[Tensor], max_norm: float, lr: float, *,
              zero: str = "first", divide: str = "N", clip: str = "all",
              when: str = "right", step: str = "once", groups: str = "all",
              late: bool = False, gives: str = "mean", rebuilt: bool = False,
              mode: str = "as it is", used: str = "all", times: int = 1) -> object:
    """Take one step along the mean gradient of `batches`; return their mean loss."""
    if rebuilt:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    parameters = list(model.parameters())
    if mode == "eval":
        model.eval()
    batches = batches[:1] if used == "first" else batches
    max_norm = {"fixed": 1.0, "shorter": max_norm / len(batches),
                "longer": max_norm * len(batches)}.get(clip, max_norm)
    if groups == "shared":
        lr = lr / len(batches)
    if zero == "first":
        model.zero_grad()
    if when == "first":
        _clip(parameters, max_norm, clip)
    if not late:
        _set_rate(optimizer, lr, groups)
    share = {"N": len(batches), "no": 1, "twice": len(batches) ** 2,
             "examples": len(batches[0])}[divide]
    losses = []
    for batch in batches:
        if zero == "each":
            model.zero_grad()
        loss = loss_of(model(batch), batch)
        if when == "before each":
            _clip(parameters, max_norm, clip)
        (loss / share).backward()
        losses.append(loss)
        if when == "each":
            _clip(parameters, max_norm, clip)
        if step == "each":
            optimizer.step()
    if zero == "before clip":
        model.zero_grad()
    if when == "right":
        _clip(parameters, max_norm, clip)
    if zero == "late":
        model.zero_grad()
    if step == "once":
        for _ in range(times):
            optimizer.step()
    if late:
        _set_rate(optimizer, lr, groups)
    if when == "after":
        _clip(parameters, max_norm, clip)
    mean = sum(losses) / len(losses)
    if gives == "afterwards":
        with torch.no_grad():
            mean = sum(loss_of(model(batch), batch) for batch in batches) / len(batches)
        gives = "mean"
    return {"mean": mean.item(), "graph": mean, "last": losses[-1].item(),
            "sum": sum(losses).item(), "share": losses[-1].item() / len(losses)}[gives]


def _setup(g: Generator, steps: int, batches: int, **settings: object) -> Setup:
    ids = tuple(tuple(torch.randint(3, (2, 5), generator=g) for _ in range(batches))
                for _ in range(steps))
    return Setup(2 * torch.randn(5, generator=g), ids, **settings)


_SHOWN = "two batches a step, the gradient too long (rows: steps, columns: parameters)"


def step_probes(g: Generator) -> list[Probe]:
    """Return three steps in several settings: moves, returned losses, oddities."""
    long = _setup(g, 3, 2, max_norm=0.2)
    return [
        Probe("one batch a step, no clipping needed", (_setup(g, 3, 1),), spies.moves),
        Probe(_SHOWN, (long,), spies.moves),
        Probe("three batches a step, no clipping needed", (_setup(g, 3, 3),),
              spies.moves),
        Probe("an optimizer with momentum and two groups", (_setup(
            g, 3, 2, momentum=0.9, two_groups=True, max_norm=0.5),), spies.moves),
        Probe("the returned losses", (long,), spies.returned),
        Probe("one optimizer.step(), no graph returned", (long,), spies.oddities),
    ]


def _shown_step(g: Generator) -> Probe:
    return Probe("the calls of a step with two batches (zero_grad may come last, too)",
                 (_setup(g, 1, 2, max_norm=0.2),), spies.step_in_words)


def read_step(look: Look, g: Generator) -> list[Clue]:
    """Return how long and which way the step is, and the order of the calls."""
    setup = _setup(g, 1, 2, rates=(1.0,))
    moved = look(Probe("effective gradient", (setup,), spies.moves)).value
    right = spies.moves(step_once, setup)
    clues = []
    if isinstance(moved, Tensor) and moved.shape == right.shape:
        clues += _along(moved[0], right[0])
    log = look(Probe("calls", (_setup(g, 2, 2, max_norm=0.2),), spies.call_log)).value
    if isinstance(log, list):
        clues.append(Clue("calls", "the calls of your second step, with two batches: "
                          + ", ".join(log)))
    return clues


def _along(moved: Tensor, right: Tensor) -> list[Clue]:
    """Return how a move compares with the one along the mean gradient."""
    if moved.abs().max() < 1e-9:
        return [Clue("still", "your parameters do not move")]
    factor = (moved @ right / (right @ right)).item()
    miss = (moved - factor * right).norm() / moved.norm()
    if miss > 1e-3:
        return [Clue("direction", "your step is not along the mean gradient of the "
                     "batches")]
    if abs(factor - 1) > 1e-3:
        return [Clue("length", f"without clipping your step is {factor:.4g} times "
                     "the learning rate times the mean gradient: expected 1")]
    return []


_Q_ZERO = "backward() adds to the gradient that is there. When must it be empty?"
_Q_CLIP = "When does the whole gradient of a step exist, and when is it used?"
_Q_SHARE = "The loss is a mean. What do two means add up to?"
_Q_RATE = "From where does optimizer.step() take its learning rate?"

STEP = (
    Mistake("R1", "the gradients are never set to zero",
            "the second step goes along the sum of two steps' gradients", _Q_ZERO,
            "Look for zero_grad", "optimizer.zero_grad() before the first backward",
            {"zero": "never"}),
    Mistake("R2", "zero_grad between backward and step",
            "the parameters never move: the step finds gradients of 0", _Q_ZERO,
            "Compare the order: zero_grad, backward, step",
            "zero_grad before the first backward, or after the step", {"zero": "late"}),
    Mistake("R2c", "zero_grad between backward and clip",
            "clip and step find gradients of 0: the parameters never move", _Q_ZERO,
            "Compare the order: zero_grad, backward, clip, step",
            "zero_grad before the first backward, or after the step",
            {"zero": "before clip"}),
    Mistake("R2a", "zero_grad before every batch, so only the last one counts",
            "with two batches a step the first one's gradient is thrown away", _Q_ZERO,
            "Is zero_grad inside the loop over the batches?",
            "zero_grad once a step, before the loop", {"zero": "each"}, mark="R"),
    Mistake("R5", "clipped after the step",
            "the step itself uses the whole, long gradient", _Q_CLIP,
            "Compare the order: backward, clip, step", "Clip, then optimizer.step()",
            {"when": "after"}, mark="S"),
    Mistake("R5n", "not clipped",
            "the step is longer than the learning rate times max_norm", _Q_CLIP,
            "Where is max_norm used? Is the result of clipping kept?",
            "nn.utils.clip_grad_norm_(model.parameters(), max_norm)",
            {"clip": "never"}, mark="S"),
    Mistake("R5a", "scaled to max_norm even when the gradient is shorter",
            "short gradients are made longer",
            "What should happen to a gradient that is shorter than max_norm?",
            "Look at the factor: may it be above 1?",
            "min(1, max_norm / length)", {"clip": "always"}, mark="R"),
    Mistake("R6", "clipped before backward",
            "there is no gradient yet: the clipping has nothing to do", _Q_CLIP,
            "Compare the order: backward, clip, step", "Clip after the last backward",
            {"when": "first"}, mark="R"),
    Mistake("R6b", "clipped before each batch's backward",
            "the last batch's gradient is never clipped", _Q_CLIP,
            "Compare the order: backward, clip, step", "Clip after the last backward",
            {"when": "before each"}, mark="R"),
    Mistake("R7", "each tensor clipped alone",
            "the direction changes: gradients of 6 and 8 become equally long",
            "Whose length is limited: one tensor's, or all together?",
            "What is handed to clip_grad_norm_, or to norm()?",
            "One call with all parameters", {"clip": "each"}),
    Mistake("R7v", "each number clipped alone (clip_grad_value_, clamp)",
            "the direction changes: large numbers are cut, small ones stay",
            "Is max_norm the limit of a length or of a number?",
            "Look at the function's name", "clip_grad_norm_, not clip_grad_value_",
            {"clip": "numbers"}, mark="R"),
    Mistake("R8", "clipped after each batch, not once a step",
            "right with one batch a step; with two the first one counts less", _Q_CLIP,
            "Is the clipping inside the loop over the batches?",
            "Clip once, after the loop", {"when": "each"}, mark="S"),
    Mistake("R8s", "a step after each batch, not one for all",
            "the optimizer steps as often as there are batches",
            "What is gained by accumulating, if each batch takes its own step?",
            "Is optimizer.step() inside the loop over the batches?",
            "One step, after the loop", {"step": "each"}, mark="R"),
    *(Mistake(id, name, why, idea, where, fix,
              function=lambda *args, knobs=knobs: step_once(*args, **knobs))
      for id, name, why, idea, where, fix, knobs in (
        ("R8w", "a whole step for each batch: zero_grad, backward, clip and step "
                "inside "
         "the loop", "the optimizer steps as often as there are batches, along each "
         "batch's own gradient",
         "What is gained by accumulating, if each batch takes its own step?",
         "Which lines should stand after the loop?", "One clip and one step, after the "
         "loop; zero_grad before it",
         {"zero": "each", "when": "each", "step": "each", "divide": "no"}),
        ("R8n", "clip and step for each batch, inside the loop, and zero_grad only "
                "once",
         "each step also goes along the batches before",
         "What is gained by accumulating, if each batch takes its own step?",
         "Which lines should stand after the loop?", "One clip and one step, after the "
         "loop", {"when": "each", "step": "each", "divide": "no"}),
        ("R8t", "optimizer.step() called twice", "the parameters move twice as far",
         "How many steps were asked for?", "Count optimizer.step()", "Call it once",
         {"times": 2}),
        ("R5m", "clipped to 1, whatever max_norm is", "right only where max_norm is 1",
         "Where is max_norm used?", "Look at the second argument of clip_grad_norm_",
         "clip_grad_norm_(model.parameters(), max_norm)", {"clip": "fixed"}),
        ("R7o", "only the first tensor is clipped", "the other gradients stay long",
         "Whose length is limited: one tensor's, or all together?",
         "What is handed to clip_grad_norm_?", "model.parameters(), all of them",
         {"clip": "one"}),
        ("R7a", "clipped by the sum of the absolute values (norm_type=1)",
         "the gradient comes out too short", "Which norm is the length of a vector?",
         "Look for norm_type", "The default, 2", {"clip": "sum"}),
        ("R7i", "clipped by the largest value (norm_type=inf)",
         "the gradient comes out too long", "Which norm is the length of a vector?",
         "Look for norm_type", "The default, 2", {"clip": "largest"}),
        ("R5s", "max_norm divided by the number of batches",
         "with N batches the gradient is clipped N times as hard", _Q_CLIP,
         "Look at what is done with max_norm", "max_norm as it is",
         {"clip": "shorter"}),
        ("R10n", "the learning rate divided by the number of batches, too",
         "with N batches the step is N times too short", _Q_SHARE,
         "Look at the rate that is written", 'group["lr"] = lr', {"groups": "shared"}),
        ("R10e", "divided by the examples of a batch, not by the number of batches",
         "right where the two numbers are equal", _Q_SHARE,
         "What is len(batch), and what len(batches)?",
         "(loss / len(batches)).backward()", {"divide": "examples"}),
        ("R2f", "only the first batch is used", "the other batches change nothing",
         "How many batches were handed over?", "Look for batches[0] or an early return",
         "for batch in batches", {"used": "first"}),
        ("R3e", "the model is put into evaluation mode",
         "it is trained without dropout", "In which mode should a training step run?",
         "Look for eval()", "leave the mode as it is", {"mode": "eval"}),
        ("R17a", "the loss is measured again after the step",
         "it is the loss of the moved parameters",
         "Of which parameters is the loss asked for: before the step, or after it?",
         "Look for a second loop over the batches", "add up loss.item() before the "
                                                    "step",
         {"gives": "afterwards"}))),
    Mistake("R10", "the loss is not divided by the number of batches",
            "with N batches the gradient is N times too long, and clipped N times as "
            "hard", _Q_SHARE, "Look at the loss before backward",
            "(loss / len(batches)).backward()", {"divide": "no"}, mark="S"),
    Mistake("R10t", "divided by the number of batches twice",
            "with N batches the gradient is N times too short", _Q_SHARE,
            "Count the divisions by N: of the loss, and of the gradients",
            "Divide once", {"divide": "twice"}, mark="R"),
    Mistake("R11", "the learning rate is never written into the optimizer",
            "every step uses the rate that the optimizer was made with", _Q_RATE,
            "Where is lr used?",
            'For group in optimizer.param_groups: group["lr"] = lr',
            {"groups": "none"}, mark="R"),
    Mistake("R11f", "the learning rate is written into the first group only",
            "the parameters of the other groups move at the old rate", _Q_RATE,
            "Look for param_groups[0]",
            'For group in optimizer.param_groups: group["lr"] = lr',
            {"groups": "first"}, mark="R"),
    Mistake("R11l", "the learning rate is written after the step",
            "each step uses the rate of the step before", _Q_RATE,
            "Compare the order: writing the rate, step", "Write it before the step",
            {"late": True}, mark="R"),
    Mistake("R16", "a new optimizer in every step",
            "the momentum is lost: a new optimizer remembers nothing",
            "What does an optimizer remember from step to step?",
            "Where is an optimizer made?", "Use the optimizer that is passed",
            {"rebuilt": True}, mark="R"),
    Mistake("R17", "returns the loss with its graph",
            "who keeps the losses keeps all activations of all steps in memory",
            "What hangs on a loss that can still go backward?", "Look at the return",
            "Return a number: .item()", {"gives": "graph"}, mark="R"),
    Mistake("R17l", "returns the last batch's loss, not the mean",
            "right only with one batch a step", "Of how many batches is it the loss?",
            "Look at the return", "The mean over all batches", {"gives": "last"},
            mark="R"),
    Mistake("R17s", "returns the sum of the batches' losses, not their mean",
            "N times too large with N batches", _Q_SHARE, "Look at the return",
            "Divide the sum by len(batches)", {"gives": "sum"}, mark="R"),
    Mistake("R17d", "returns the last batch's share of the loss (divided by N)",
            "too small with N batches: the others' shares are not added", _Q_SHARE,
            "Look at the return", "total += loss.item() inside the loop",
            {"gives": "share"}, mark="R"),
)

_LOSS_OF = (
    (r"next_token_loss|cross_entropy", "use the loss_of that is passed: the model of "
     "the check is no language model, its outputs are (B, T), and only loss_of can "
     "judge them"),
    (r"tensors used as indices", "the model takes the token ids; loss_of takes the "
     "model's outputs first, then the ids: loss_of(model(batch), batch)"),
)

train_step = Exercise(
    "train_step", "08", "train_step(model, optimizer, loss_of, batches, max_norm, lr) "
    "-> the mean loss, a number", step_once, step_probes, STEP, read_step,
    robust=(Robust(
        "it keeps the graphs of all batches in memory at once: forward and backward "
        "for each batch in turn need those of one", lambda g: Probe(
            "memory", (_setup(g, 1, 3),), spies.most_at_once)),),
    crashes=_LOSS_OF, display=_shown_step,
    hints=("Five things, in order: empty the gradients, add up the batches' gradients, "
           "clip, write the rate, step.",
           "Look at the order of the calls, and at what stands inside the loop over "
           "the batches and what outside.",
           "zero_grad; for each batch (loss_of(model(batch), batch) / N).backward(); "
           "clip_grad_norm_; lr into all param_groups; step"),
    show=_SHOWN, solution="""\
def train_step(model, optimizer, loss_of, batches, max_norm, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    total = 0.0
    for batch in batches:
        loss = loss_of(model(batch), batch) / len(batches)
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return total""")


# --- a whole training -----------------------------------------------------------------


def fit_model(model: nn.Module, make_optimizer: Callable, loss_of: Callable,
              batches: Sequence[Tensor], held_out: Tensor, every: int, *,
              zero: str = "first", begins: bool = True, restores: bool = True,
              evaluation: str = "eval", first: int = 1, rebuilt: bool = False,
              graph: bool = False, measured: str = "held out", before: bool = False
              ) -> tuple[list, list]:
    """Return the losses of all steps, and the held-out losses after every `every`."""
    if begins:
        model.train()
    optimizer, losses, held_out_losses = make_optimizer(model), [], []
    for step, batch in enumerate(batches):
        if rebuilt and step:
            optimizer = make_optimizer(model)
        if before and (step + first) % every == 0:
            held_out_losses.append(_measure(
                model, loss_of, held_out, evaluation, restores))
        loss = loss_of(model(batch), batch)
        if zero == "first":
            optimizer.zero_grad()
        loss.backward()
        if zero == "late":
            optimizer.zero_grad()
        optimizer.step()
        losses.append(loss if graph else loss.item())
        if not before and (step + first) % every == 0:
            among = held_out if measured == "held out" else batch
            held_out_losses.append(_measure(
                model, loss_of, among, evaluation, restores))
    return losses, held_out_losses


def _measure(model: nn.Module, loss_of: Callable, among: Tensor, evaluation: str,
             restores: bool) -> float:
    """Return the loss in evaluation mode; restore the mode, or forget to."""
    was = model.training
    if evaluation == "eval":
        model.eval()
    with torch.no_grad():
        loss = loss_of(model(among), among).item()
    if restores:
        model.train(was)
    return loss


def fit_probes(g: Generator) -> list[Probe]:
    """Return seven steps with momentum, from either mode."""
    setup = _setup(g, 8, 1, momentum=0.8, rates=(0.3,), every=3)
    other = _setup(g, 6, 1, momentum=0.5, rates=(0.2,), every=2, training=False)
    return [
        Probe("the held-out losses, after steps 3 and 6 of 7", (setup,),
              spies.held_out_losses_of),
        Probe("the losses of 7 steps", (setup,), spies.losses_of),
        Probe("the model comes in evaluation mode", (other,), spies.losses_of),
        Probe("one optimizer, no graph kept", (setup,), spies.fit_oddities),
    ]


def read_fit(look: Look, g: Generator) -> list[Clue]:
    """Return how many held-out losses there are, and the first wrong loss."""
    setup = _setup(g, 9, 1, momentum=0.8, rates=(0.3,), every=3)
    held_out = look(Probe("held out", (setup,), spies.held_out_losses_of)).value
    clues = []
    if isinstance(held_out, Tensor) and held_out.dim() == 1 and len(held_out) != 2:
        clues.append(Clue("how many", "of 8 steps with every = 3, the number of "
                          f"held-out losses is {len(held_out)}, expected 2"))
    mine = look(Probe("losses", (setup,), spies.losses_of)).value
    right = spies.losses_of(fit_model, setup)
    if isinstance(mine, Tensor) and mine.shape == right.shape:
        wrong = (~mine.isclose(right, rtol=1e-4)).nonzero().flatten().tolist()
        if wrong:
            clues.append(Clue("first wrong", "your losses are right up to step "
                              f"{wrong[0]}, and differ from step {wrong[0] + 1} on"))
    elif isinstance(mine, Tensor) and mine.dim() == 1:
        clues.append(Clue("losses", f"8 batches give {len(mine)} losses"))
    return clues


FIT = (
    Mistake("R1", "the gradients are never set to zero",
            "right in the first step; the second goes along the sum of two gradients",
            _Q_ZERO, "Look for zero_grad", "optimizer.zero_grad() in every step",
            {"zero": "never"}),
    Mistake("R2", "zero_grad between backward and step",
            "the loss never falls: the step finds gradients of 0", _Q_ZERO,
            "Compare the order: zero_grad, backward, step",
            "zero_grad before backward, or after the step", {"zero": "late"}),
    Mistake("R3", "training goes on in evaluation mode after the first evaluation",
            "right up to the first evaluation; from then on dropout is off",
            "Which mode is the model in when the next step begins?",
            "What follows after model.eval()?", "model.train() after evaluating",
            {"restores": False}, mark="S"),
    Mistake("R3n", "training mode is never switched on",
            "a model that comes in evaluation mode is trained in it",
            "Which mode does the model come in?", "Look for model.train()",
            "model.train() before the first step", {"begins": False}, mark="R"),
    Mistake("R4", "evaluated in training mode",
            "dropout acts while the held-out loss is measured",
            "Which parts of a model act differently in the two modes?",
            "Look for model.eval()", "model.eval() before measuring",
            {"evaluation": "train"}, mark="S"),
    Mistake("R4h", "the held-out loss is measured on the training batch",
            "it falls even if nothing is learned that holds elsewhere",
            "Which text has the model never seen?",
            "What goes into the model when it is evaluated?", "held_out, not batch",
            {"measured": "batch"}, mark="R"),
    Mistake("R4o", "evaluated one step too early (step % every, counted from 0)",
            "the first held-out loss is measured after one step",
            "After how many steps is `step` 0?", "Look at the condition with %",
            "(step + 1) % every == 0", {"first": 0}, mark="R"),
    Mistake("R4b", "evaluated before the step, not after it",
            "each held-out loss belongs to the step before",
            "Which parameters should be measured?",
            "Compare the order: step, evaluation", "Evaluate after optimizer.step()",
            {"before": True}, mark="R"),
    Mistake("R4c", "evaluated before the step, with steps counted from 0",
            "the first held-out loss is the untrained model's",
            "After how many steps is `step` 0?",
            "Compare the order: step, evaluation; and look at the condition with %",
            "Evaluate after the step, when (step + 1) % every == 0",
            {"before": True, "first": 0}, mark="R"),
    Mistake("R16", "a new optimizer in every step",
            "right in the first step; then the momentum is lost",
            "What does an optimizer remember from step to step?",
            "Is make_optimizer inside the loop?", "Make it once, before the loop",
            {"rebuilt": True}, mark="R"),
    Mistake("R17", "keeps the losses with their graphs",
            "each kept loss keeps all activations of its step: memory grows",
            "What hangs on a loss that can still go backward?",
            "What is appended to the list?", "losses.append(loss.item())",
            {"graph": True}, mark="R"),
)

fit = Exercise(
    "fit", "08", "fit(model, make_optimizer, loss_of, batches, held_out, every) -> "
    "(losses, held_out_losses)", fit_model, fit_probes, FIT, read_fit,
    robust=(Robust(
        "it wastes memory: the evaluation builds a graph; with torch.no_grad() it "
        "would not", lambda g: Probe("evaluation", (_setup(g, 5, 1),),
                                     spies.graphs_in_evaluation)),),
    crashes=_LOSS_OF,
    hints=("One optimizer; for each batch one step in training mode; after every "
           "`every` steps one measurement in evaluation mode.",
           "Look at three switches: train() and eval(), zero_grad, and the step at "
           "which you evaluate.",
           "(step + 1) % every == 0: model.eval(), loss without gradients, "
           "model.train()"),
    show="the held-out losses, after steps 3 and 6 of 7", solution="""\
def fit(model, make_optimizer, loss_of, batches, held_out, every):
    optimizer = make_optimizer(model)
    losses, held_out_losses = [], []
    for step, batch in enumerate(batches, start=1):
        model.train()
        optimizer.zero_grad()
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % every == 0:
            model.eval()
            with torch.no_grad():
                held_out_losses.append(loss_of(model(held_out), held_out).item())
    return losses, held_out_losses""")

fit_to_repair = fit.to_repair("fit_to_repair", "R3")


# --- the learning rate ----------------------------------------------------------------


def rate(step: int, steps: int, max_lr: float, warmup_steps: int = 0,
         min_lr: float = 0.0, *, start: str = "right", clamped: bool = True,
         cosine_from: str = "warm-up", floor: str = "right", curve: str = "cosine",
         turn: float = math.pi) -> float:
    """Return the rate of a step: a straight warm-up, half a cosine, then `min_lr`."""
    first = {"right": step + 1, "zero": step, "one more": step + 1,
             "from min_lr": step + 1, "whole": step + 1, "none": 0}[start]
    below = warmup_steps + (start == "one more")
    if step < warmup_steps and start != "none":
        if start == "whole":
            return max_lr * (first // below)
        low = min_lr if start == "from min_lr" else 0.0
        return low + (max_lr - low) * first / below
    if step >= steps and floor == "gone":
        return 0.0
    begin = warmup_steps if cosine_from in ("warm-up", "one step short") else 0
    done = (step - begin) / max(1, steps - begin)
    if cosine_from == "late":
        done = (step - warmup_steps) / steps
    if cosine_from == "one step short":
        done = (step - begin) / max(1, steps - 1 - begin)
    if cosine_from == "0, short":
        done = step / max(1, steps - warmup_steps)
    done = max(0.0, min(1.0, done)) if clamped else done
    height = {"cosine": lambda: (1 + math.cos(turn * done)) / 2,
              "doubled": lambda: 1 + math.cos(turn * done),
              "sine": lambda: (1 + math.sin(turn * done)) / 2,
              "rising": lambda: (1 - math.cos(turn * done)) / 2,
              "bare": lambda: math.cos(turn * done),
              "line": lambda: 1 - done, "flat": lambda: 1.0}[curve]()
    low = min_lr if floor in ("right", "gone") else 0.0
    if floor == "at least":
        return max(min_lr, max_lr * height)
    if floor == "added":
        return min_lr + max_lr * height
    return low + (max_lr - low) * height


def rate_probes(g: Generator) -> list[Probe]:
    """Return the rates at the corners, half-way and beyond the end."""
    top = 0.5 + torch.rand(1, generator=g).item()
    settings = (50, top, 10, 0.1)
    return [
        Probe("steps 0, 9, 10, 30, 49 (50 steps, 10 of warm-up)",
              ([0, 9, 10, 30, 49], settings), spies.rates_of),
        Probe("steps 50, 60, 75, 90 (beyond the end)", ([50, 60, 75, 90], settings),
              spies.rates_of),
        Probe("no warm-up", ([0, 1, 7, 15], (16, top, 0, 0.0)), spies.rates_of),
        Probe("the whole warm-up", (list(range(8)), (40, top, 6, 0.0)), spies.rates_of),
    ]


def read_rate(look: Look, g: Generator) -> list[Clue]:
    """Return the rates at the corners, in words."""
    asked = [0, 3, 4, 12, 20, 40]
    values = look(Probe("corners", (asked, (20, 1.0, 4, 0.2)), spies.rates_of)).value
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


_Q_WARM = "Which rate should the first step have, and which the last of the warm-up?"
_Q_FALL = "Between which two rates does it fall?"
_Q_COS = "How much of the way down is done at step `warmup_steps`, and at `steps`?"

RATE = (
    Mistake("R12", "the warm-up starts at 0",
            "the first step does nothing", _Q_WARM, "What is step / warmup_steps at 0?",
            "max_lr * (step + 1) / warmup_steps", {"start": "zero"}, mark="S"),
    Mistake("R12o", "the warm-up is off by one: divided by warmup_steps + 1",
            "the last step of the warm-up stays below max_lr", _Q_WARM,
            "Look at the divisor", "max_lr * (step + 1) / warmup_steps",
            {"start": "one more"}, mark="S"),
    Mistake("R12n", "no warm-up", "the first steps are made at the full rate", _Q_WARM,
            "Where is warmup_steps used?",
            "If step < warmup_steps: return max_lr * (step + 1) / warmup_steps",
            {"start": "none"}, mark="R"),
    Mistake("R13", "the cosine is not stopped: it rises again after the end",
            "beyond `steps` the rate climbs back",
            "Where is the cosine after half a turn?",
            "Look at the share of the way that is done: may it be above 1?",
            "done = min(1.0, ...)", {"clamped": False}, mark="S"),
    Mistake("R13s", "the cosine starts at step 0, not after the warm-up",
            "after the warm-up the rate jumps below max_lr", _Q_COS,
            "From where is the share counted?",
            "(step - warmup_steps) / (steps - warmup_steps)", {"cosine_from": "start"},
            mark="R"),
    Mistake("R13d", "the way down is divided by `steps`, not by what is left of them",
            "at step `steps` the rate has not arrived at min_lr", _Q_COS,
            "Look at the divisor", "(step - warmup_steps) / (steps - warmup_steps)",
            {"cosine_from": "late"}, mark="R"),
    Mistake("R13m", "min_lr is never used: the rate falls to 0",
            "at the end the rate is 0, not min_lr", _Q_FALL,
            "Where is min_lr used?", "min_lr + (max_lr - min_lr) * ...",
            {"floor": "zero"}, mark="R"),
    Mistake("R13a", "min_lr is added on top of the whole way",
            "after the warm-up the rate is max_lr + min_lr",
            _Q_FALL, "What is multiplied by the cosine?",
            "min_lr + (max_lr - min_lr) * ...", {"floor": "added"}, mark="R"),
    *(Mistake(id, name, why, idea, where, fix, knobs)
      for id, name, why, idea, where, fix, knobs in (
        ("R12m", "the warm-up starts at min_lr",
         "the first steps are larger than max_lr * (step + 1) / warmup_steps", _Q_WARM,
         "Where does min_lr enter?", "max_lr * (step + 1) / warmup_steps",
         {"start": "from min_lr"}),
        ("R12i", "whole-number division (//) in the warm-up",
         "the rate is 0 until the last step of the warm-up", _Q_WARM, "Look for //",
         "max_lr * (step + 1) / warmup_steps", {"start": "whole"}),
        ("R13z", "0 after the end, not min_lr", "beyond `steps` nothing moves",
         "Which rate should a step after the end have?",
         "Look at what is returned for step >= steps", "min_lr", {"floor": "gone"}),
        ("R13x", "max(min_lr, ...): the cosine falls to 0 and is cut off",
         "half-way down the rate is max_lr / 2", _Q_FALL, "Look for max(",
         "min_lr + (max_lr - min_lr) * ...", {"floor": "at least"}),
        ("R13e", "the way down is one step too short (steps - 1)",
         "min_lr is reached one step too early", _Q_COS, "Look for - 1",
         "(step - warmup_steps) / (steps - warmup_steps)",
         {"cosine_from": "one step short"}),
        ("R13b", "the warm-up is not taken off the step",
         "after the warm-up the rate jumps below max_lr", _Q_COS,
         "What is divided by steps - warmup_steps?",
         "(step - warmup_steps) / (steps - warmup_steps)",
         {"cosine_from": "0, short"}),
        ("R13i", "a sine, not a cosine", "after the warm-up the rate jumps to the "
                                         "middle",
         "Which of the two is 1 at 0?", "Look for sin", "math.cos(math.pi * done)",
         {"curve": "sine"}),
        ("R13r", "1 - cos: it rises where it should fall",
         "after the warm-up the rate is min_lr, and at the end max_lr", _Q_FALL,
         "Look at the sign before cos", "(1 + cos(pi * done)) / 2",
         {"curve": "rising"}),
        ("R13c", "the cosine alone, without (1 + ...) / 2",
         "at the end the rate is below min_lr",
         "Between which two numbers does a cosine lie?", "Look for the 1 and the half",
         "(1 + cos(pi * done)) / 2", {"curve": "bare"}))),
    Mistake("R13h", "1 + cos is not halved", "after the warm-up the rate is doubled",
            "Between which two numbers does 1 + cos lie?", "Look for the half",
            "(1 + cos(pi * done)) / 2", {"curve": "doubled"}, mark="R"),
    Mistake("R13l", "a straight line down, not a cosine",
            "right at both ends and in the middle, wrong between",
            "Where is a cosine steep, and where flat?", "Where is the cosine?",
            "(1 + cos(pi * done)) / 2", {"curve": "line"}, mark="R"),
    Mistake("R13p", "a whole turn of the cosine (2 pi), not half a one",
            "the rate is lowest half-way and back at the top at the end",
            "By which angle does the cosine go from 1 to -1?", "Look at the factor pi",
            "math.cos(math.pi * done)", {"turn": 2 * math.pi}, mark="R"),
    Mistake("R13q", "a quarter turn of the cosine (pi / 2), not half a one",
            "at the end the rate is half-way, not at min_lr",
            "By which angle does the cosine go from 1 to -1?", "Look at the factor pi",
            "math.cos(math.pi * done)", {"turn": math.pi / 2}, mark="R"),
    Mistake("R13f", "the rate stays at max_lr after the warm-up", "it never falls",
            _Q_COS, "What is returned after the warm-up?",
            "Half a cosine, down to min_lr",
            {"curve": "flat"}, mark="R"),
)

learning_rate = Exercise(
    "learning_rate", "08", "learning_rate(step, steps, max_lr, warmup_steps, min_lr) "
    "-> a number", rate, rate_probes, RATE, read_rate,
    hints=("Three pieces: below warmup_steps, up to `steps`, and from there on.",
           "Try steps 0, warmup_steps - 1, warmup_steps, steps and 2 * steps.",
           "done = min(1, (step - warmup_steps) / (steps - warmup_steps)); "
           "min_lr + (max_lr - min_lr) * (1 + cos(pi * done)) / 2"),
    show="steps 0, 9, 10, 30, 49 (50 steps, 10 of warm-up)", solution="""\
def learning_rate(step, steps, max_lr, warmup_steps, min_lr):
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    done = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2""")


# --- which parameters decay -----------------------------------------------------------


def groups_of(model: nn.Module, weight_decay: float, *, decays: str = "matrices",
              keeps: str = "all", listed: str = "once") -> list[dict]:
    """Return two groups: matrices decay, vectors do not."""
    named = dict(model.named_parameters(remove_duplicate=listed == "once"))
    tables = {id(module.weight) for module in model.modules()
              if isinstance(module, nn.Embedding)}
    norms = {id(param) for module in model.modules() if isinstance(module, nn.LayerNorm)
             for param in module.parameters()}

    def decay(name: str, param: Tensor) -> bool:
        return {"matrices": param.dim() >= 2, "all": True, "none": False,
                "vectors": param.dim() < 2, "not bias": not name.endswith("bias"),
                "not norms": id(param) not in norms,
                "not tables": param.dim() >= 2 and id(param) not in tables}[decays]

    yes = [param for name, param in named.items() if decay(name, param)]
    no = [param for name, param in named.items() if not decay(name, param)]
    if keeps == "matrices":
        no = []
    return [{"params": yes, "weight_decay": weight_decay},
            {"params": no, "weight_decay": 0.0 if keeps != "default" else "not set"}]


def group_probes(g: Generator) -> list[Probe]:
    """Return small models with a tied head, of several depths."""
    decay = 0.05 + torch.rand(1, generator=g).item() / 4
    return [Probe("two layers", (2, decay), spies.decay_of_each),
            Probe("no layer", (0, 2 * decay), spies.decay_of_each)]


def read_groups(look: Look, g: Generator) -> list[Clue]:
    """Return which parameters have another decay than they should."""
    value = look(Probe("one layer", (1, 0.25), spies.decay_of_each)).value
    if not isinstance(value, dict):
        return []
    right = spies.decay_of_each(groups_of, 1, 0.25)
    return [Clue(name, f"{name}: yours {value.get(name)}, expected {right.get(name)}")
            for name in {**right, **value} if value.get(name) != right.get(name)]


_Q_DECAY = "Which parameters should be pulled towards 0, and which belong elsewhere?"
_GROUPS_FIX = "p.dim() >= 2 decays, p.dim() < 2 does not"

GROUPS = (
    Mistake("R14", "everything decays, biases and norms too",
            "a norm's weight belongs near 1, and is pulled to 0", _Q_DECAY,
            "What tells matrices and vectors apart?", _GROUPS_FIX, {"decays": "all"},
            mark="S"),
    Mistake("R14b", "only biases are left out: the norms' weights decay",
            "a norm's weight belongs near 1, and is pulled to 0", _Q_DECAY,
            "Does your test see that ln.weight is a vector?", _GROUPS_FIX,
            {"decays": "not bias"}, mark="S"),
    Mistake("R14n", "only the norms are left out: the other biases decay",
            "a bias has no reason to be near 0", _Q_DECAY,
            "Does your test see that every bias is a vector?", _GROUPS_FIX,
            {"decays": "not norms"}, mark="R"),
    Mistake("R14e", "the embedding tables do not decay",
            "tables have two axes; here they decay like all matrices",
            "How many axes has a table?", "Do you ask for the axes or for the module?",
            _GROUPS_FIX, {"decays": "not tables"}, mark="R"),
    Mistake("R14i", "the groups are exchanged: vectors decay, matrices do not",
            "the brake acts where it does harm, and not where it helps", _Q_DECAY,
            "Look at the comparison, and at the two decays", _GROUPS_FIX,
            {"decays": "vectors"}, mark="R"),
    Mistake("R14z", "nothing decays", "weight_decay is never used", _Q_DECAY,
            "Where is weight_decay used?", _GROUPS_FIX, {"decays": "none"}, mark="R"),
    Mistake("R14l", "the vectors are in no group",
            "an optimizer moves only what it is given: they stay as they are",
            "What happens to a parameter that the optimizer does not know?",
            "Count the parameters in both groups",
            "Two groups, together all parameters",
            {"keeps": "matrices"}, mark="R"),
    Mistake("R14s", "no decay is set for the vectors",
            "the optimizer's default then decays them: AdamW's is 0.01",
            "What does AdamW do with a group that names no decay?",
            "Look at the second group", '"weight_decay": 0.0', {"keeps": "default"},
            mark="R"),
    Mistake("R14d", "the tied head is listed twice",
            "an optimizer refuses a parameter that it is given twice",
            "How many tensors are the token table and the head?",
            "Do you collect by module, or from model.parameters()?",
            "model.parameters() lists each tensor once", {"listed": "twice"}, mark="R"),
)

optimizer_groups = Exercise(
    "optimizer_groups", "08", "optimizer_groups(model, weight_decay) -> "
    'a list of groups: [{"params": [...], "weight_decay": ...}, ...]', groups_of,
    group_probes, GROUPS, read_groups,
    hints=("Matrices (two axes or more, the tables too) decay; vectors do not.",
           "Print name, shape and decay of each parameter.",
           "p.dim() >= 2 for p in model.parameters()"), solution="""\
def optimizer_groups(model, weight_decay):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0}]""")


# --- AdamW ----------------------------------------------------------------------------


def adamw(weight: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int,
          lr: float, weight_decay: float, *, decay: str = "decoupled",
          correction: str = "right", shares: tuple = (0.1, 0.05), eps: str = "outside",
          root: bool = True, sign: float = 1.0, kept: str = "raw", used: str = "mean",
          second: str = "square", blended: str = "both", size: float = 1e-8,
          with_rate: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return (weight, mean, square) after AdamW's step number `step` = 1, 2, ..."""
    if decay == "L2":
        gradient = gradient + weight_decay * weight
    squared = {"square": gradient ** 2, "gradient": gradient, "size": gradient.abs()}
    old, new = (1 - shares[0], 1 - shares[1]), {
        "square": (1.0, shares[1]), "none": (1.0, 1.0)}.get(blended, shares)
    if blended in ("exchanged", "mean exchanged"):
        old, new = (0.1, 0.05), (0.9, 0.95)
        if blended == "mean exchanged":
            old, new = (0.1, 0.95), (0.9, 0.05)
    mean = old[0] * mean + new[0] * gradient
    square = old[1] * square + new[1] * squared[second]
    count = {"right": step, "one less": step - 1, "one more": step + 1}.get(
        correction, step)
    by = [1 - (1 - share) ** count for share in shares]
    if correction == "none":
        by = [1.0, 1.0]
    elif correction == "first":
        by = [1 - (1 - share) for share in shares]
    if correction in ("mean only", "square only"):
        by[correction == "mean only"] = 1.0
    fair_mean, fair_square = mean / by[0], square / by[1]
    if correction == "times":
        fair_mean, fair_square = mean * by[0], square * by[1]
    below = fair_square.sqrt() if root else fair_square
    if eps == "inside":
        below = (fair_square + size).sqrt()
    elif eps == "outside":
        below = below + size
    elif eps == "before":
        below = (square.sqrt() + size) / math.sqrt(by[1])
    moved = sign * (fair_mean if used == "mean" else gradient) / below
    moved = lr * moved if with_rate else moved
    shrink = {"decoupled": lr * weight_decay, "not by rate": weight_decay,
              "after": lr * weight_decay}.get(decay, 0.0)
    if decay == "after":
        weight = (weight - moved) * (1 - shrink)
    else:
        weight = weight * (1 - shrink) - moved
    return weight, *{"fair": (fair_mean, fair_square), "turned": (square, mean),
                     "raw": (mean, square)}[kept]


def adamw_probes(g: Generator) -> list[Probe]:
    """Return the first, a later step, a gradient of 0, and tiny gradients."""
    def state(size: float = 1.0) -> tuple[Tensor, ...]:
        weight, gradient, mean = torch.randn(3, 2, 3, generator=g)
        square = 0.5 + torch.rand(2, 3, generator=g)
        return weight, size * gradient, size * mean, size**2 * square

    zeros = torch.zeros(2, 3)
    weight, gradient, *_ = state()
    return [
        Probe("the first step", (weight, gradient, zeros, zeros, 1, 0.1, 0.3),
              spies.new_weight),
        Probe("step 5", (*state(), 5, 0.2, 0.4), spies.new_weight),
        Probe("the gradient is 0", (weight, zeros, zeros, zeros, 1, 0.2, 0.5),
              spies.new_weight),
        Probe("tiny gradients", (*state(1e-4), 3, 0.1, 0.2), spies.new_weight),
        Probe("gradients of about 1e-8", (*state(2e-8), 2, 0.3, 0.1), spies.new_weight),
        Probe("the two running means", (*state(), 4, 0.1, 0.3), spies.new_means),
    ]


def read_adamw(look: Look, g: Generator) -> list[Clue]:
    """Return single facts about one weight: each part of the step alone."""
    def first(name: str, *args: float) -> tuple[str, Tensor, object]:
        numbers = [torch.tensor([part]) for part in args[:4]]
        probe = Probe(name, (*numbers, *args[4:]), spies.new_weight)
        return name, look(probe).value, adamw(*probe.args)[0]

    def means(name: str, *args: float) -> tuple[str, Tensor, object]:
        numbers = [torch.tensor([part]) for part in args]
        probe = Probe(name, (*numbers, 4, 0.1, 0.0), spies.new_means)
        return name, look(probe).value, torch.stack(adamw(*probe.args)[1:])

    found = [
        means("blended with a gradient of 0, means of 1 and 1 become",
              1.0, 0.0, 1.0, 1.0),
        means("blended with a gradient of 3, means of 0 and 0 become",
              1.0, 3.0, 0.0, 0.0),
        first("no gradient, weight 1, lr 0.1, weight_decay 0.5: the weight becomes",
              1.0, 0.0, 0.0, 0.0, 2, 0.1, 0.5),
        first("first step, weight 1, gradient 0.5, lr 0.1, no decay: it becomes",
              1.0, 0.5, 0.0, 0.0, 1, 0.1, 0.0),
        first("step 6, weight 0, all means 0.25, gradient 0.25, lr 0.1, no decay: the "
              "weight becomes", 0.0, 0.25, 0.25, 0.25, 6, 0.1, 0.0),
        first("step 2, weight 0, gradient 1e-8, lr 0.1, no decay: the weight becomes",
              0.0, 1e-8, 1e-8, 1e-16, 2, 0.1, 0.0),
    ]
    return [Clue(name, f"{name} {_few(mine)}, expected {_few(right)}")
            for name, mine, right in found
            if isinstance(mine, Tensor) and mine.shape == right.shape
            and not mine.is_complex()
            and not mine.double().isclose(right.double(), rtol=1e-3, atol=1e-6).all()]


def _few(values: Tensor) -> str:
    return " and ".join(f"{value:.4g}" for value in values.flatten().tolist())


_Q_L2 = "With a gradient of 0, by how much should decay change the weight?"

ADAMW = (
    Mistake("R15", "decay added to the gradient (L2), not decoupled",
            "decay is divided by the root of the squares too: with a gradient of 0 the "
            "weight moves by a whole lr",
            _Q_L2, "Where does weight_decay enter?", "weight * (1 - lr * weight_decay)",
            {"decay": "L2"}, mark="S"),
    Mistake("R15n", "no weight decay", "with a gradient of 0 the weight does not move",
            _Q_L2, "Where is weight_decay used?", "weight * (1 - lr * weight_decay)",
            {"decay": "none"}, mark="R"),
    Mistake("R15r", "decay not multiplied by the learning rate",
            "the weight shrinks much faster than it learns", _Q_L2,
            "Look at the factor that shrinks the weight",
            "weight * (1 - lr * weight_decay)", {"decay": "not by rate"}, mark="R"),
    Mistake("R15a", "decay applied after the step, to the moved weight",
            "off by lr * weight_decay times the move",
            "Which weight is shrunk: the old one or the new one?",
            "Compare the order: decay, step",
            "Shrink the old weight, then subtract", {"decay": "after"}, mark="R"),
    Mistake("R15c", "the means are not corrected for their start at 0",
            "the first steps have the wrong size: 0.45 lr, not lr",
            "After one step, which share of the gradient does the mean hold?",
            "Where is `step` used?",
            "mean / (1 - 0.9**step), square / (1 - 0.95**step)",
            {"correction": "none"}, mark="R"),
    Mistake("R15f", "corrected as if every step were the first",
            "right at step 1, too large later",
            "How much of the start is left at step 5?",
            "Where is `step` used?", "0.9**step, not 0.9", {"correction": "first"},
            mark="R"),
    Mistake("R15o", "corrected for one step too many",
            "the correction is off by one: `step` counts from 1",
            "What should 1 - 0.9**step be in the first step?", "Look at the exponent",
            "0.9**step", {"correction": "one more"}, mark="R"),
    Mistake("R15z", "corrected for one step too few",
            "division by 0 in the first step: `step` counts from 1",
            "What should 1 - 0.9**step be in the first step?", "Look at the exponent",
            "0.9**step", {"correction": "one less"}, mark="R"),
    Mistake("R15b", "the two shares exchanged",
            "the mean forgets as slowly as the squares should",
            "Which of the two means has the share 0.1?", "Look at 0.9 and 0.95",
            "0.9 for the gradient, 0.95 for its square", {"shares": (0.05, 0.1)},
            mark="R"),
    Mistake("R15w", "0.999 for the squares, as in Adam's default",
            "this course, like GPT-3, uses 0.95", "Which share does the contract name?",
            "Look at 0.999", "0.95 for the squares", {"shares": (0.1, 0.001)},
            mark="R"),
    *(Mistake(id, name, why, idea, where, fix,
              function=lambda *args, knobs=knobs: adamw(*args, **knobs))
      for id, name, why, idea, where, fix, knobs in (
        ("R15j", "0.1 and 0.05 kept of the old means, not blended in",
         "the means follow the last gradient almost alone",
         "How much of the old mean is left after a step?", "Look at 0.9 and 0.1",
         "0.9 * mean + 0.1 * gradient", {"blended": "exchanged"}),
        ("R15h", "0.1 of the old mean kept, not 0.9 (the squares are right)",
         "the mean follows the last gradient almost alone",
         "How much of the old mean is left after a step?", "Look at 0.9 and 0.1",
         "0.9 * mean + 0.1 * gradient", {"blended": "mean exchanged"}),
        ("R15i", "the whole gradient added to the mean, not 0.1 of it",
         "the mean is ten times too large", "What do 0.9 and the other factor add up "
                                            "to?",
         "Look at the factor of gradient", "0.9 * mean + 0.1 * gradient",
         {"blended": "square"}),
        ("R15l", "gradient and square added whole, not 0.1 and 0.05 of them",
         "both means grow far above what they are means of",
         "What do 0.9 and the other factor add up to?", "Look at the second factors",
         "0.1 * gradient, 0.05 * gradient**2", {"blended": "none"}),
        ("R15t", "the square is missing: the gradient itself in the second mean",
         "the root of a negative mean is nan", "What is the second mean a mean of?",
         "Look for ** 2", "gradient**2", {"second": "gradient"}),
        ("R15u", "the size of the gradient in the second mean, not its square",
         "the root of a mean size has another unit", "What is the second mean a mean "
         "of?", "Look for abs", "gradient**2", {"second": "size"}),
        ("R15v", "only the first mean is corrected for its start",
         "the first steps are too large", "Which of the two means starts at 0?",
         "Count the divisions by 1 - ...", "mean / (1 - 0.9**step) and square / (1 - "
         "0.95**step)", {"correction": "mean only"}),
        ("R15y", "only the second mean is corrected for its start",
         "the first steps are too small", "Which of the two means starts at 0?",
         "Count the divisions by 1 - ...", "mean / (1 - 0.9**step) and square / (1 - "
         "0.95**step)", {"correction": "square only"}),
        ("R15m", "multiplied by 1 - 0.9**step, not divided",
         "the correction makes small means smaller still",
         "Are the first means too small or too large?", "Look at * and /",
         "mean / (1 - 0.9**step)", {"correction": "times"}),
        ("R15p", "eps is 1e-5, not 1e-8", "right for large gradients; tiny ones make "
         "steps that are too short", "Which eps does the contract name?", "Look at eps",
         "1e-8", {"size": 1e-5}),
        ("R15d", "eps added before the root is corrected",
         "right for large gradients; tiny ones make steps of another size",
         "To which root is eps added?", "Look at the order: correct, root, eps",
         "fair_square.sqrt() + 1e-8", {"eps": "before"}),
        ("R15ra", "the learning rate is missing from the move",
         "the steps are 1 / lr times too long", "How far may one step go?",
         "Where is lr used?", "lr * fair_mean / ...", {"with_rate": False}),
        ("R15ka", "the two means are returned in the other order",
         "the next step takes the squares for the gradients",
         "In which order does the contract return them?", "Look at the last line",
         "return weight, mean, square", {"kept": "turned"}))),
    Mistake("R15e", "eps inside the root",
            "right for large gradients; tiny ones make steps that are too short",
            "What is the root of 1e-8?", "Where is eps added?", "root + 1e-8",
            {"eps": "inside"}, mark="R"),
    Mistake("R15x", "no eps", "nan when the gradient has always been 0",
            "What is 0 / 0?", "Look at the divisor", "root + 1e-8", {"eps": "none"},
            mark="R"),
    Mistake("R15q", "divided by the mean square, not by its root",
            "the step depends on the gradient's size: 10 times smaller gradients make "
            "10 times larger steps",
            "Which unit has the square of a gradient?", "Where is the root?",
            "mean / (square.sqrt() + 1e-8)", {"root": False}, mark="R"),
    Mistake("R15s", "climbs: the step has the wrong sign", "the loss would rise",
            "Which way does the gradient point?", "Look at the sign before lr",
            "weight - lr * ...", {"sign": -1.0}, mark="R"),
    Mistake("R15k", "the corrected means are kept",
            "the next step corrects them again",
            "Which means does the next step blend into?", "What is returned?",
            "Return the means as they were before the correction", {"kept": "fair"},
            mark="R"),
    Mistake("R15g", "steps along the gradient, not along its running mean",
            "the mean is computed and never used", "What is the first mean for?",
            "Look at the numerator", "mean / (square.sqrt() + 1e-8)",
            {"used": "gradient"}, mark="R"),
)

adamw_step = Exercise(
    "adamw_step", "08", "adamw_step(weight, gradient, mean, square, step, lr, "
    "weight_decay) -> (weight, mean, square)", adamw, adamw_probes, ADAMW, read_adamw,
    hints=("Four lines: blend the mean, blend the square, correct both, move.",
           "Try one weight by hand: w = 1, gradient 0.5, lr 0.1, decay 0.1 gives 0.89.",
           "weight * (1 - lr * weight_decay) - lr * fair_mean / (fair_square.sqrt() + "
           "1e-8)"),
    show="the first step", solution="""\
def adamw_step(weight, gradient, mean, square, step, lr, weight_decay):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.95 * square + 0.05 * gradient**2
    fair_mean = mean / (1 - 0.9**step)
    fair_square = square / (1 - 0.95**step)
    weight = weight * (1 - lr * weight_decay)
    return weight - lr * fair_mean / (fair_square.sqrt() + 1e-8), mean, square""")


# --- batches of pairs -----------------------------------------------------------------


def pairs_of(tokens: Tensor, batch_size: int, seq_length: int, generator: Generator, *,
             ahead: int = 1, starts: str = "any", one: bool = False,
             seeded: bool = True, scattered: bool = False
             ) -> tuple[Tensor, Tensor]:
    """Return random windows (B, T) of the text, and the same one place later."""
    draws = generator if seeded else None
    last = len(tokens) - seq_length - max(ahead, 1)
    choices = {"any": last + 1, "one less": last, "blocks": last // seq_length + 1,
               "first": 1}[starts]
    first = torch.randint(choices, (1 if one else batch_size,), generator=draws)
    first = first.expand(batch_size)
    if starts == "blocks":
        first = first * seq_length
    places = first[:, None] + torch.arange(seq_length)
    if scattered:
        places = torch.randint(last + 1, places.shape, generator=draws)
    return tokens[places], tokens[places + ahead]


def pair_probes(g: Generator) -> list[Probe]:
    """Return facts about many batches, and whether the generator decides."""
    seeds = torch.randint(1000, (3,), generator=g).tolist()
    tokens = torch.randint(9, (50,), generator=g)
    return [Probe("60 batches of 5 windows, 4 long, from 0, 1, ..., 23",
                  (24, 5, 4, seeds[0]), spies.pairs_drawn),
            Probe("60 batches of 6 windows, 3 long, from 0, 1, ..., 4",
                  (5, 6, 3, seeds[1]), spies.pairs_drawn),
            Probe("a single window fits", (4, 2, 3, seeds[2], 10 * seeds[0]),
                  spies.pairs_drawn),
            Probe("twice with the same generator", (tokens, seeds[2]),
                  spies.drawn_again)]


def read_pairs(look: Look, g: Generator) -> list[Clue]:
    """Return each fact about the drawn pairs that is not as expected."""
    args = (24, 5, 4, 1)
    value = look(Probe("pairs", args, spies.pairs_drawn)).value
    if isinstance(value, str):
        return []                                    # the type has been told
    if not isinstance(value, dict):
        return []
    right = spies.pairs_drawn(pairs_of, *args)
    return [Clue(key, f"in other draws, too: {key}: yours {value.get(key)}, expected "
                 f"{right[key]}") for key in right if value.get(key) != right[key]]


PAIRS = (
    Mistake("R18", "the targets are not shifted: they equal the inputs",
            "the model learns to repeat the token that it sees",
            "What should the model answer after the last input?",
            "Look at the slice of the targets", "tokens[i + 1 : i + 1 + seq_length]",
            {"ahead": 0}),
    Mistake("R18t", "the targets are shifted by two",
            "the model learns to foresee the token after the next",
            "What should the model answer after the last input?",
            "Look at the slice of the targets", "tokens[i + 1 : i + 1 + seq_length]",
            {"ahead": 2}, mark="R"),
    Mistake("R18b", "windows begin only at multiples of seq_length",
            "a text of N tokens then has only N / T windows, always cut alike",
            "How many different windows does a text of N tokens hold?",
            "How are the starts drawn?", "torch.randint(len(tokens) - seq_length, ...)",
            {"starts": "blocks"}),
    Mistake("R18f", "always the first window of the text",
            "nothing but the beginning is ever learned",
            "Where may a window begin?", "How are the starts drawn?",
            "torch.randint(len(tokens) - seq_length, ...)", {"starts": "first"},
            mark="R"),
    Mistake("R18l", "the last window is never drawn",
            "the text's last token is never a target",
            "Which is the last place where a window and its targets fit?",
            "Randint leaves out its upper end",
            "torch.randint(len(tokens) - seq_length, ...)", {"starts": "one less"},
            mark="R"),
    Mistake("R18o", "all windows of a batch are the same",
            "a batch of B then teaches as much as a batch of 1",
            "How many starts does a batch need?", "How many numbers are drawn?",
            "torch.randint(..., (batch_size,), generator=generator)", {"one": True},
            mark="R"),
    Mistake("R18g", "the generator is not used",
            "the same generator gives another batch: no run can be repeated",
            "Who decides which windows are drawn?", "Where is generator used?",
            "torch.randint(..., generator=generator)", {"seeded": False}, mark="R"),
    Mistake("R18s", "single tokens drawn at random, not windows",
            "the tokens of a row are no neighbours: only pairs can be learned",
            "What does a row of the batch have to be?",
            "What is drawn: places of windows, or of tokens?",
            "start + torch.arange(seq_length)", {"scattered": True}, mark="R"),
)

get_pairs = Exercise(
    "get_pairs", "08", "get_pairs(tokens, batch_size, seq_length, generator) -> "
    "(inputs, targets), each (B, T)", pairs_of, pair_probes, PAIRS, read_pairs,
    hints=("Draw B starts; cut T tokens from each for the inputs, and the T tokens one "
           "place later for the targets.",
           "Use torch.arange(24) as the text, and print inputs and targets.",
           "first = torch.randint(len(tokens) - seq_length, (batch_size,), "
           "generator=generator)"), solution="""\
def get_pairs(tokens, batch_size, seq_length, generator):
    first = torch.randint(len(tokens) - seq_length, (batch_size,), generator=generator)
    places = first[:, None] + torch.arange(seq_length)
    return tokens[places], tokens[places + 1]""")
