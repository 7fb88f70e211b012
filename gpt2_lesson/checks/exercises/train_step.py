"""Lesson 08: the training step, and a whole training run (catalogue: R)."""

from typing import Any

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Clue, EdgeCase, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes import training_fakes as fakes
from gpt2_lesson.checks.fakes.training_fakes import Setup
from gpt2_lesson.checks.probing import Probe

# --- one step -------------------------------------------------------------------------

_TRAIN_STEP = """\
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
    return total"""


def _setup(g: Generator, steps: int, batches: int, **settings: Any) -> Setup:
    ids = tuple(tuple(torch.randint(3, (2, 5), generator=g) for _ in range(batches))
                for _ in range(steps))
    return Setup(2 * torch.randn(5, generator=g), ids, **settings)


_SHOWN = ("two batches per step, the gradient too large (rows: steps, columns: "
          "parameters)")


def step_probes(g: Generator) -> list[Probe]:
    """Return three steps in several settings: moves, returned losses, oddities."""
    long = _setup(g, 3, 2, max_norm=0.2)
    return [
        Probe("one batch per step, no clipping needed",
            (_setup(g, 3, 1),), fakes.moves),
        Probe(_SHOWN, (long,), fakes.moves),
        Probe("three batches per step, no clipping needed", (_setup(g, 3, 3),),
              fakes.moves),
        Probe("an optimizer with momentum and two groups", (_setup(
            g, 3, 2, momentum=0.9, two_groups=True, max_norm=0.5),), fakes.moves),
        Probe("the returned losses", (long,), fakes.returned),
        Probe("one optimizer.step(), no graph returned", (long,), fakes.oddities),
    ]


def _shown_step(g: Generator) -> Probe:
    return Probe("the calls in a step with two batches (zero_grad may also come last)",
                 (_setup(g, 1, 2, max_norm=0.2),), fakes.step_in_words)


def read_step(run: RunProbe, g: Generator) -> list[Clue]:
    """Return how long and which way the step is, and the order of the calls."""
    setup = _setup(g, 1, 2, rates=(1.0,))
    moved = run(Probe("effective gradient", (setup,), fakes.moves)).value
    right = fakes.moves(train_step.reference, setup)
    clues = []
    if isinstance(moved, Tensor) and moved.shape == right.shape:
        clues += _along(moved[0], right[0])
    log = run(Probe("calls", (_setup(g, 2, 2, max_norm=0.2),), fakes.call_log)).value
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


_Q_ZERO = "backward() adds to the gradient that is there. When must it be zero?"
_Q_CLIP = "When does the whole gradient of a step exist, and when is it used?"
_Q_SHARE = "The loss is a mean. What do two means add up to?"
_Q_RATE = "From where does optimizer.step() take its learning rate?"
_Q_GAIN = "What is gained by accumulating, if each batch takes its own step?"
_Q_WHOSE = "Whose norm is limited: one tensor's, or all together?"
_Q_NORM = "Which norm is the length of a vector?"
_Q_KEEPS = "What does a loss keep as long as backward() is still possible?"
_Q_MEMORY = "What does an optimizer remember from step to step?"

_RATE = """\
    for group in optimizer.param_groups:
        group["lr"] = lr
"""
_ZERO = "    optimizer.zero_grad()\n"
_FORWARD = "        loss = "
_TOTAL = "        total +="
_CLIP = "    nn.utils.clip_grad_norm_(model.parameters(), max_norm)\n"
_STEP = "    optimizer.step()\n"
_IN = "    "                                         # inside the loop over the batches

STEP = (
    Mistake("R1", "the gradients are never set to zero", edit=(_ZERO, ""),
            why="the second step goes along the sum of two steps' gradients",
            question=_Q_ZERO, where="Look for zero_grad"),
    Mistake("R2", "zero_grad between backward and step",
            edit=[(_ZERO, ""), (_STEP, _ZERO + _STEP)],
            why="the parameters never move: the step finds gradients of 0",
            question=_Q_ZERO, where="Compare the order: zero_grad, backward, step",
            fix="zero_grad before the first backward, or after the step"),
    Mistake("R2c", "zero_grad between backward and clip",
            edit=[(_ZERO, ""), (_CLIP, _ZERO + _CLIP)],
            why="clip and step find gradients of 0: the parameters never move",
            question=_Q_ZERO,
            where="Compare the order: zero_grad, backward, clip, step",
            fix="zero_grad before the first backward, or after the step"),
    Mistake("R2a", "zero_grad before every batch, so only the last one counts",
            edit=[(_ZERO, ""), (_FORWARD, _IN + _ZERO + _FORWARD)],
            why="with two batches a step the first one's gradient is thrown away",
            question=_Q_ZERO, where="Is zero_grad inside the loop over the batches?"),
    Mistake("R5", "clipped after the step",
            edit=[(_CLIP, ""), ("step()\n", "step()\n" + _CLIP)],
            why="the step itself uses the whole gradient, unclipped", question=_Q_CLIP),
    Mistake("R5n", "not clipped", edit=(_CLIP, ""),
            why="the step is longer than the learning rate times max_norm",
            question=_Q_CLIP,
            where="Where is max_norm used? Is the result of clipping kept?"),
    Mistake("R5a", "scaled to max_norm even when the gradient norm is smaller",
            edit=(_CLIP, "    norm = torch.cat([p.grad.flatten() for p in "
                  "model.parameters()]).norm()\n"
                  "    for p in model.parameters():\n"
                  "        p.grad *= max_norm / norm\n"),
            why="small gradients are scaled up",
            question="What should happen to a gradient whose norm is below max_norm?",
            where="Look at the factor: may it be above 1?"),
    Mistake("R6", "clipped before backward",
            edit=[(_CLIP, ""), ("    total =", _CLIP + "    total =")],
            why="there is no gradient yet: the clipping has nothing to do",
            question=_Q_CLIP, where="Compare the order: backward, clip, step",
            fix="Clip after the last backward"),
    Mistake("R6b", "clipped before each batch's backward",
            edit=[(_CLIP, ""), (_FORWARD, _IN + _CLIP + _FORWARD)],
            why="the last batch's gradient is never clipped", question=_Q_CLIP,
            where="Compare the order: backward, clip, step",
            fix="Clip after the last backward"),
    Mistake("R7", "each tensor clipped on its own",
            edit=(_CLIP, "    for p in model.parameters():\n"
                  "        nn.utils.clip_grad_norm_(p, max_norm)\n"),
            why="the direction changes: gradients of 6 and 8 become equally large",
            question=_Q_WHOSE),
    Mistake("R7v", "each number clipped on its own (clip_grad_value_, clamp)",
            edit=("clip_grad_norm_", "clip_grad_value_"),
            why="the direction changes: large numbers are cut, small ones stay",
            question="Does max_norm limit a norm, or each number?"),
    Mistake("R8", "clipped after each batch, not once per step",
            edit=[(_CLIP, ""), (_TOTAL, _IN + _CLIP + _TOTAL)],
            why="right with one batch a step; with two the first one counts less",
            question=_Q_CLIP),
    Mistake("R8s", "a step after each batch, not one for all",
            edit=[(_STEP, ""), (_TOTAL, _IN + _STEP + _TOTAL)],
            why="the optimizer steps as often as there are batches", question=_Q_GAIN,
            where="Is optimizer.step() inside the loop over the batches?"),
    Mistake("R8w", "a whole step for each batch: zero_grad, backward, clip and step "
                   "inside the loop",
            edit=[(_ZERO, ""), (" / len(batches)", ""),
                  (_FORWARD, _IN + _ZERO + _FORWARD),
                  (_TOTAL, _IN + _CLIP + _IN + _STEP + _TOTAL), (_CLIP + _STEP, ""),
                  ("return total", "return total / len(batches)")],
            why="the optimizer steps as often as there are batches, along each "
                "batch's own gradient",
            question=_Q_GAIN, where="Which lines should come after the loop?",
            fix="One clip and one step, after the loop; zero_grad before it",
            alone=True),
    Mistake("R8n", "clip and step for each batch, inside the loop, and zero_grad only "
                   "once",
            edit=[(" / len(batches)", ""), (_TOTAL, _IN + _CLIP + _IN + _STEP + _TOTAL),
                  (_CLIP + _STEP, ""), ("return total", "return total / len(batches)")],
            why="each step also goes along the batches before", question=_Q_GAIN,
            where="Which lines should come after the loop?",
            fix="One clip and one step, after the loop", alone=True),
    Mistake("R8t", "optimizer.step() called twice", edit=(_STEP, _STEP + _STEP),
            why="the parameters move twice as far",
            question="How many steps were asked for?",
            alone=True),
    Mistake("R5m", "clipped to 1, whatever max_norm is", edit=("max_norm)", "1.0)"),
            why="right only where max_norm is 1", question="Where is max_norm used?",
            alone=True),
    Mistake("R7o", "only the first tensor is clipped",
            edit=("model.parameters()", "next(model.parameters())"),
            why="the other gradients stay as they are", question=_Q_WHOSE, alone=True),
    Mistake("R7a", "clipped by the sum of the absolute values (norm_type=1)",
            edit=("max_norm)", "max_norm, norm_type=1)"),
            why="the gradient comes out too small", question=_Q_NORM, alone=True),
    Mistake("R7i", "clipped by the largest value (norm_type=inf)",
            edit=("max_norm)", "max_norm, norm_type=math.inf)"),
            why="the gradient comes out too large", question=_Q_NORM, alone=True),
    Mistake("R5s", "max_norm divided by the number of batches",
            edit=("max_norm)", "max_norm / len(batches))"),
            why="with N batches the gradient is clipped N times as hard",
            question=_Q_CLIP,
            alone=True),
    Mistake("R10n", "the learning rate divided by the number of batches, too",
            edit=("= lr\n", "= lr / len(batches)\n"),
            why="with N batches the step is N times too short", question=_Q_SHARE,
            alone=True),
    Mistake("R10e", "divided by the number of examples in a batch, not by that of "
                    "batches",
            edit=[("/ len(batches)", "/ len(batch)"),
                  ("loss.item()", "loss.item() * len(batch) / len(batches)")],
            why="right where the two numbers are equal", question=_Q_SHARE,
            where="What is len(batch), and what len(batches)?",
            alone=True),
    Mistake("R2f", "only the first batch is used",
            edit=("total = 0.0", "total, batches = 0.0, batches[:1]"),
            why="the other batches change nothing",
            question="How many batches were handed over?",
            alone=True),
    Mistake("R3e", "the model is put into evaluation mode",
            edit=("    total =", "    model.eval()\n    total ="),
            why="it is trained without dropout",
            question="In which mode should a training step run?",
            alone=True),
    Mistake("R17a", "the loss is measured again after the step",
            edit=("return total",
                  "return sum(loss_of(model(b), b).item() for b in batches) / "
                  "len(batches)"),
            why="it is the loss of the moved parameters",
            question="Of which parameters is the loss asked for: before the step, or "
                 "after it?",
            alone=True),
    Mistake("R10", "the loss is not divided by the number of batches",
            edit=("loss.backward()", "(len(batches) * loss).backward()"),
            why="with N batches the gradient is N times too large, and clipped N "
                "times as hard",
            question=_Q_SHARE),
    Mistake("R10t", "divided by the number of batches twice",
            edit=("loss.backward()", "(loss / len(batches)).backward()"),
            why="with N batches the gradient is N times too small", question=_Q_SHARE),
    Mistake("R11", "the learning rate is never written into the optimizer",
            edit=(_RATE, ""),
            why="every step uses the one that the optimizer was made with",
            question=_Q_RATE, where="Where is lr used?"),
    Mistake("R11f", "the learning rate is written into the first group only",
            edit=("param_groups:", "param_groups[:1]:"),
            why="the parameters of the other groups keep the old one",
            question=_Q_RATE),
    Mistake("R11l", "the learning rate is written after the step",
            edit=[(_RATE, ""), ("step()\n", "step()\n" + _RATE)],
            why="each step uses that of the step before", question=_Q_RATE,
            where="Compare the order: writing lr, step",
            fix="Write it before the step"),
    Mistake("R16", "a new optimizer in every step",
            edit=("    for group",
                  "    optimizer = torch.optim.SGD(model.parameters(), lr=lr)\n"
                  "    for group"),
            why="the momentum is lost: a new optimizer remembers nothing",
            question=_Q_MEMORY, where="Where is an optimizer made?"),
    Mistake("R17", "returns the loss with its graph", edit=("loss.item()", "loss"),
            why="keeping the losses keeps all activations of all steps in memory",
            question=_Q_KEEPS),
    Mistake("R17l", "returns the last batch's loss, not the mean",
            edit=("return total", "return loss.item() * len(batches)"),
            why="right only with one batch a step",
            question="Of how many batches is it the loss?"),
    Mistake("R17s", "returns the sum of the batches' losses, not their mean",
            edit=("return total", "return total * len(batches)"),
            why="N times too large with N batches", question=_Q_SHARE),
    Mistake("R17d", "returns the last batch's part of the loss (divided by N)",
            edit=("return total", "return loss.item()"),
            why="too small with N batches: the others' parts are not added",
            question=_Q_SHARE),
)

_LOSS_OF = (
    (r"next_token_loss|cross_entropy", "use the loss_of that is passed: the check's "
                                       "model is not a language model: its outputs are "
                                       "(B, T), and only loss_of can score them"),
    (r"tensors used as indices", "the model takes the token ids; loss_of takes the "
     "model's outputs first, then the ids: loss_of(model(batch), batch)"),
)

train_step = Exercise(
    "train_step", "08", "train_step(model, optimizer, loss_of, batches, max_norm, lr) "
    "-> the mean loss, a number", make_probes=step_probes, mistakes=STEP,
    read_out=read_step,
    edge_cases=(EdgeCase(
        "it keeps the graphs of all batches in memory at once: forward and backward "
        "for each batch in turn need those of one", lambda g: Probe(
            "memory", (_setup(g, 1, 3),), fakes.most_at_once)),),
    crashes=_LOSS_OF, display=_shown_step,
    hints=("Five things, in this order: zero the gradients, add up the batches' "
           "gradients, clip, set lr, step.",
           "Look at the order of the calls, and at which are inside the loop over "
           "the batches and which outside.",
           "zero_grad; for each batch (loss_of(model(batch), batch) / N).backward(); "
           "clip_grad_norm_; lr into all param_groups; step"),
    show=_SHOWN,
    solution=_TRAIN_STEP)

# --- a whole training run -------------------------------------------------------------

_FIT = """\
def fit(model, make_optimizer, loss_of, batches, val_batch, every):
    optimizer = make_optimizer(model)
    losses, val_losses = [], []
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
                val_losses.append(loss_of(model(val_batch), val_batch).item())
    return losses, val_losses"""


def fit_probes(g: Generator) -> list[Probe]:
    """Return seven steps with momentum, from either mode."""
    setup = _setup(g, 8, 1, momentum=0.8, rates=(0.3,), every=3)
    other = _setup(g, 6, 1, momentum=0.5, rates=(0.2,), every=2, training=False)
    return [
        Probe("the validation losses, after steps 3 and 6 of 7", (setup,),
              fakes.val_losses_of),
        Probe("the losses of 7 steps", (setup,), fakes.losses_of),
        Probe("the model is in evaluation mode at first", (other,), fakes.losses_of),
        Probe("one optimizer, no graph kept", (setup,), fakes.fit_oddities),
    ]


def read_fit(run: RunProbe, g: Generator) -> list[Clue]:
    """Return how many validation losses there are, and the first wrong loss."""
    setup = _setup(g, 9, 1, momentum=0.8, rates=(0.3,), every=3)
    losses = run(Probe("validation", (setup,), fakes.val_losses_of)).value
    clues = []
    if isinstance(losses, Tensor) and losses.dim() == 1 and len(losses) != 2:
        clues.append(Clue("how many", "of 8 steps with every = 3, the number of "
                          f"validation losses is {len(losses)}, expected 2"))
    mine = run(Probe("losses", (setup,), fakes.losses_of)).value
    right = fakes.losses_of(fit.reference, setup)
    if isinstance(mine, Tensor) and mine.shape == right.shape:
        wrong = (~mine.isclose(right, rtol=1e-4)).nonzero().flatten().tolist()
        if wrong:
            clues.append(Clue("first wrong", "your losses are right up to step "
                              f"{wrong[0]}, and differ from step {wrong[0] + 1} on"))
    elif isinstance(mine, Tensor) and mine.dim() == 1:
        clues.append(Clue("losses", f"8 batches give {len(mine)} losses"))
    return clues


_Q_STEP_0 = "After how many steps is `step` 0?"
_LOOP = "start=1):\n"
_MEASURE = _FIT[_FIT.index("        if step"):_FIT.index("    return")]

FIT = (
    Mistake("R1", "the gradients are never set to zero", edit=(_IN + _ZERO, ""),
            why="right in the first step; the second goes along the sum of two "
                "gradients",
            question=_Q_ZERO, where="Look for zero_grad"),
    Mistake("R2", "zero_grad between backward and step",
            edit=[(_IN + _ZERO, ""), ("        optimizer.step()",
                   "        optimizer.zero_grad()\n        optimizer.step()")],
            why="the loss never falls: the step finds gradients of 0", question=_Q_ZERO,
            where="Compare the order: zero_grad, backward, step",
            fix="zero_grad before backward, or after the step"),
    Mistake("R3", "training goes on in evaluation mode after the first evaluation",
            edit=(_LOOP, "start=1):\n        if step == 1:\n    "),
            why="right up to the first evaluation; from then on dropout is off",
            question="Which mode is the model in when the next step begins?"),
    Mistake("R3n", "training mode is never switched on",
            edit=[("    losses, val", "    mode = model.training\n    losses, val"),
                  ("model.train()", "model.train(mode)")],
            why="a model that is in evaluation mode at first is trained in it",
            question="Which mode is the model in at first?",
            where="Look for model.train()"),
    Mistake("R4", "evaluated in training mode", edit=("            model.eval()\n", ""),
            why="dropout acts while the validation loss is measured",
            question="Which parts of a model act differently in the two modes?",
            where="Look for model.eval()"),
    Mistake("R4h", "the validation loss is measured on the training batch",
            edit=("model(val_batch), val_batch", "model(batch), batch"),
            why="it falls even if nothing is learned that is true of other text",
            question="Which text has the model never seen?"),
    Mistake("R4o", "evaluated one step too early (step % every, counted from 0)",
            edit=("step % every", "(step - 1) % every"),
            why="the first validation loss is measured after one step",
            question=_Q_STEP_0),
    Mistake("R4b", "evaluated before the step, not after it",
            edit=[(_LOOP, _LOOP + _MEASURE), (_MEASURE, "")],
            why="each validation loss belongs to the step before",
            question="Which parameters should be measured?",
            where="Compare the order: step, evaluation",
            fix="Evaluate after optimizer.step()"),
    Mistake("R4c", "evaluated before the step, with steps counted from 0",
            edit=[(_LOOP, _LOOP + _MEASURE.replace("step %", "(step - 1) %")),
                  (_MEASURE, "")],
            why="the first validation loss is the untrained model's",
            question=_Q_STEP_0,
            where="Compare the order: step, evaluation; and look at the condition "
                  "with %",
            fix="Evaluate after the step, when (step + 1) % every == 0"),
    Mistake("R16", "a new optimizer in every step",
            edit=[("    optimizer = make_optimizer(model)\n", ""),
                  (_LOOP, "start=1):\n        optimizer = make_optimizer(model)\n")],
            why="right in the first step; then the momentum is lost",
            question=_Q_MEMORY,
            where="Is make_optimizer inside the loop?"),
    Mistake("R17", "keeps the losses with their graphs",
            edit=("losses.append(loss.item())", "losses.append(loss)"),
            why="each kept loss keeps all activations of its step: memory grows",
            question=_Q_KEEPS),
)

fit = Exercise(
    "fit", "08", "fit(model, make_optimizer, loss_of, batches, val_batch, every) -> "
    "(losses, val_losses)", make_probes=fit_probes, mistakes=FIT,
    read_out=read_fit,
    edge_cases=(EdgeCase(
        "it wastes memory: the evaluation builds a graph; with torch.no_grad() it "
        "would not", lambda g: Probe("evaluation", (_setup(g, 5, 1),),
                                     fakes.graphs_in_evaluation)),),
    crashes=_LOSS_OF,
    hints=("One optimizer; for each batch one step in training mode; after every "
           "`every` steps one measurement in evaluation mode.",
           "Look at three switches: train() and eval(), zero_grad, and the step at "
           "which you evaluate.",
           "(step + 1) % every == 0: model.eval(), loss without gradients, "
           "model.train()"),
    show="the validation losses, after steps 3 and 6 of 7",
    solution=_FIT)

fit_to_repair = fit.to_repair(
    "fit_to_repair", "R3", "how often is model.train() called, and model.eval()?",
    "model.train(), at the beginning of each step")
