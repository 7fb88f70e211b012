"""Lesson 08: which parameters decay, and a step of AdamW (catalogue: R)."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes import training_fakes as fakes
from gpt2_lesson.checks.probing import Probe, Value

# --- which parameters decay -----------------------------------------------------------

_OPTIMIZER_GROUPS = """\
def optimizer_groups(model, weight_decay):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0}]"""


def group_probes(g: Generator) -> list[Probe]:
    """Return small models with a tied head, of several depths."""
    decay = 0.05 + torch.rand(1, generator=g).item() / 4
    return [Probe("two layers", (2, decay), fakes.decay_of_each),
            Probe("no layer", (0, 2 * decay), fakes.decay_of_each)]


def read_groups(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which parameters have another decay than they should."""
    value = run(Probe("one layer", (1, 0.25), fakes.decay_of_each)).value
    if not isinstance(value, dict):
        return []
    right = fakes.decay_of_each(optimizer_groups.reference, 1, 0.25)
    return [Clue(name, f"{name}: yours {value.get(name)}, expected {right.get(name)}")
            for name in {**right, **value} if value.get(name) != right.get(name)]


_Q_DECAY = "Which parameters should be pulled towards 0, and which belong elsewhere?"

GROUPS = (
    Mistake("R14", "everything decays, biases and norms too",
            edit=("0.0}", "weight_decay}"),
            why="a norm's weight belongs near 1, and is pulled to 0",
            question=_Q_DECAY),
    Mistake("R14b", "only biases are left out: the norms' weights decay",
            edit=[("p for p in model.parameters() if p.dim() >= 2",
                   'p for name, p in model.named_parameters() if "bias" not in name'),
                  ("p for p in model.parameters() if p.dim() < 2",
                   'p for name, p in model.named_parameters() if "bias" in name')],
            why="a norm's weight belongs near 1, and is pulled to 0",
            question=_Q_DECAY),
    Mistake("R14n", "only the norms are left out: the other biases decay",
            edit=[("    matrices =",
                   "    norms = {p for one in model.modules() if isinstance(one, "
                   "nn.LayerNorm)\n"
                   "             for p in one.parameters()}\n"
                   "    matrices ="),
                  ("p.dim() >= 2", "p not in norms"), ("p.dim() < 2", "p in norms")],
            why="a bias has no reason to be near 0", question=_Q_DECAY,
            where="Does your test see that every bias is a vector?"),
    Mistake("R14e", "the embedding matrices do not decay",
            edit=[("    matrices =",
                   "    tables = {one.weight for one in model.modules() if "
                   "isinstance(one, nn.Embedding)}\n"
                   "    matrices ="),
                  (">= 2", ">= 2 and p not in tables"), ("< 2", "< 2 or p in tables")],
            why="they have two axes, and here they decay like all matrices",
            question="How many axes does an embedding matrix have?",
            where="Do you ask for the axes or for the module?"),
    Mistake("R14i", "the groups are exchanged: vectors decay, matrices do not",
            edit=[("matrices,", "vectors,"), ("vectors,", "matrices,")],
            why="the regularisation acts where it does harm, not where it helps",
            question=_Q_DECAY),
    Mistake("R14z", "nothing decays", edit=("weight_decay}", "0.0}"),
            why="weight_decay is never used", question=_Q_DECAY),
    Mistake("R14l", "the vectors are in no group",
            edit=(',\n            {"params": vectors, "weight_decay": 0.0}]', "]"),
            why="an optimizer moves only what it is given: they stay as they are",
            question="What happens to a parameter that the optimizer does not know?"),
    Mistake("R14s", "no decay is set for the vectors",
            edit=(', "weight_decay": 0.0', ""),
            why="the optimizer's default then decays them: AdamW's is 0.01",
            question="What does AdamW do with a group that names no decay?"),
    Mistake("R14d", "the tied head is listed twice",
            edit=("p for p in model.parameters() if p.dim() >= 2",
                  "p for _, p in model.named_parameters(remove_duplicate=False) if "
                  "p.dim() >= 2"),
            why="an optimizer refuses a parameter that it is given twice",
            question="How many tensors are the embedding matrix and the head?"),
)

optimizer_groups = Exercise(
    "optimizer_groups", "08", "optimizer_groups(model, weight_decay) -> "
    'a list of groups: [{"params": [...], "weight_decay": ...}, ...]',
    make_probes=group_probes, mistakes=GROUPS, read_out=read_groups,
    hints=("Matrices (two axes or more, also the embedding matrices) decay; vectors do "
           "not.",
           "Print name, shape and decay of each parameter.",
           "p.dim() >= 2 for p in model.parameters()"),
    solution=_OPTIMIZER_GROUPS)

# --- AdamW ----------------------------------------------------------------------------

_ADAMW_STEP = """\
def adamw_step(weight, gradient, mean, square, step, lr, weight_decay):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.95 * square + 0.05 * gradient**2
    fair_mean = mean / (1 - 0.9**step)
    fair_square = square / (1 - 0.95**step)
    weight = weight * (1 - lr * weight_decay)
    return weight - lr * fair_mean / (fair_square.sqrt() + 1e-8), mean, square"""


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
              fakes.new_weight),
        Probe("step 5", (*state(), 5, 0.2, 0.4), fakes.new_weight),
        Probe("the gradient is 0", (weight, zeros, zeros, zeros, 1, 0.2, 0.5),
              fakes.new_weight),
        Probe("tiny gradients", (*state(1e-4), 3, 0.1, 0.2), fakes.new_weight),
        Probe("gradients of about 1e-8", (*state(2e-8), 2, 0.3, 0.1), fakes.new_weight),
        Probe("the two running means", (*state(), 4, 0.1, 0.3), fakes.new_means),
    ]


def read_adamw(run: RunProbe, g: Generator) -> list[Clue]:
    """Return single facts about one weight: each part of the step alone."""
    right = adamw_step.reference

    def first(name: str, *args: float) -> tuple[str, Value, Tensor]:
        numbers = [torch.tensor([part]) for part in args[:4]]
        probe = Probe(name, (*numbers, *args[4:]), fakes.new_weight)
        return name, run(probe).value, right(*probe.args)[0]

    def means(name: str, *args: float) -> tuple[str, Value, Tensor]:
        numbers = [torch.tensor([part]) for part in args]
        probe = Probe(name, (*numbers, 4, 0.1, 0.0), fakes.new_means)
        return name, run(probe).value, torch.stack(right(*probe.args)[1:])

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
_Q_FIRST = "What should 1 - 0.9**step be in the first step?"
_Q_KEPT = "How much of the old mean is left after a step?"
_Q_SUM = "What do 0.9 and the other factor add up to?"
_Q_SECOND = "What is the second mean a mean of?"
_Q_START = "Which of the two means starts at 0?"

ADAMW = (
    Mistake("R15", "decay added to the gradient (L2), not decoupled",
            edit=[("    mean",
                   "    gradient = gradient + weight_decay * weight\n    mean"),
                  ("    weight = weight * (1 - lr * weight_decay)\n", "")],
            why="decay is divided by the root of the squares too: with a gradient of "
                "0 the weight moves by a whole lr",
            question=_Q_L2, where="Where does weight_decay enter?",
            fix="weight * (1 - lr * weight_decay)"),
    Mistake("R15n", "no weight decay",
            edit=("    weight = weight * (1 - lr * weight_decay)\n", ""),
            why="with a gradient of 0 the weight does not move", question=_Q_L2,
            where="Where is weight_decay used?"),
    Mistake("R15r", "decay not multiplied by the learning rate",
            edit=("lr * weight_decay", "weight_decay"),
            why="the weight shrinks much faster than it learns", question=_Q_L2),
    Mistake("R15a", "decay applied after the step, to the moved weight",
            edit=[("    weight = weight * (1 - lr * weight_decay)\n", ""),
                  ("return weight", "return (weight"),
                  ("1e-8)", "1e-8)) * (1 - lr * weight_decay)")],
            why="off by lr * weight_decay times the move",
            question="Which weight is shrunk: the old one or the new one?"),
    Mistake("R15c", "the means are not corrected for their start at 0",
            edit=[(" / (1 - 0.9**step)", ""), (" / (1 - 0.95**step)", "")],
            why="the first steps have the wrong size: 0.45 lr, not lr",
            question="After one step, which fraction of the gradient does the mean "
                     "hold?"),
    Mistake("R15f", "corrected as if every step were the first",
            edit=[("0.9**step", "0.9"), ("0.95**step", "0.95")],
            why="right at step 1, too large later",
            question="How much of the start is left at step 5?"),
    Mistake("R15o", "corrected for one step too many",
            edit=[("0.9**step", "0.9**(step + 1)"), ("0.95**step", "0.95**(step + 1)")],
            why="the correction is off by one: `step` counts from 1",
            question=_Q_FIRST),
    Mistake("R15z", "corrected for one step too few",
            edit=[("0.9**step", "0.9**(step - 1)"), ("0.95**step", "0.95**(step - 1)")],
            why="division by 0 in the first step: `step` counts from 1",
            question=_Q_FIRST),
    Mistake("R15b", "the factors of the two means exchanged",
            edit=[("0.9 * mean + 0.1", "0.95 * mean + 0.05"),
                  ("0.95 * square + 0.05", "0.9 * square + 0.1"),
                  ("0.9**step", "0.95**step"), ("0.95**step", "0.9**step")],
            why="the mean forgets as slowly as the squares should",
            question="Which of the two means keeps 0.9 of its old value?",
            where="Look at 0.9 and 0.95",
            fix="0.9 for the gradient, 0.95 for its square"),
    Mistake("R15w", "0.999 for the squares, as in Adam's default",
            edit=[("0.95 * square + 0.05", "0.999 * square + 0.001"),
                  ("0.95**step", "0.999**step")],
            why="this course, like GPT-3, uses 0.95",
            question="Which factor does the contract name?",
            where="Look at 0.999"),
    Mistake("R15j", "0.1 and 0.05 of the old means kept, not 0.9 and 0.95",
            edit=[("0.9 * mean + 0.1", "0.1 * mean + 0.9"),
                  ("0.95 * square + 0.05", "0.05 * square + 0.95")],
            why="the means follow the last gradient almost alone", question=_Q_KEPT),
    Mistake("R15h", "0.1 of the old mean kept, not 0.9 (the squares are right)",
            edit=("0.9 * mean + 0.1", "0.1 * mean + 0.9"),
            why="the mean follows the last gradient almost alone", question=_Q_KEPT),
    Mistake("R15i", "the whole gradient added to the mean, not 0.1 of it",
            edit=("0.1 * gradient", "gradient"),
            why="the mean is ten times too large", question=_Q_SUM),
    Mistake("R15l", "gradient and square added whole, not 0.1 and 0.05 of them",
            edit=[("0.1 * gradient", "gradient"), ("0.05 * gradient", "gradient")],
            why="both means grow far above what they are means of", question=_Q_SUM),
    Mistake("R15t", "the square is missing: the gradient itself in the second mean",
            edit=("gradient**2", "gradient"),
            why="the root of a negative mean is nan", question=_Q_SECOND),
    Mistake("R15u", "the size of the gradient in the second mean, not its square",
            edit=("gradient**2", "gradient.abs()"),
            why="the root of a mean size has another unit", question=_Q_SECOND),
    Mistake("R15v", "only the first mean is corrected for its start",
            edit=(" / (1 - 0.95**step)", ""),
            why="the first steps are too large", question=_Q_START),
    Mistake("R15y", "only the second mean is corrected for its start",
            edit=(" / (1 - 0.9**step)", ""),
            why="the first steps are too small", question=_Q_START),
    Mistake("R15m", "multiplied by 1 - 0.9**step, not divided",
            edit=[(" / (1 - 0.9**step)", " * (1 - 0.9**step)"),
                  (" / (1 - 0.95**step)", " * (1 - 0.95**step)")],
            why="the correction makes small means smaller still",
            question="Are the first means too small or too large?"),
    Mistake("R15p", "eps is 1e-5, not 1e-8", edit=("1e-8", "1e-5"),
            why="right for large gradients; tiny ones make steps that are too short",
            question="Which eps does the contract name?"),
    Mistake("R15d", "eps added before the root is corrected",
            edit=("(fair_square.sqrt() + 1e-8)",
                  "((square.sqrt() + 1e-8) / (1 - 0.95**step) ** 0.5)"),
            why="right for large gradients; tiny ones make steps of another size",
            question="To which root is eps added?"),
    Mistake("R15ra", "the learning rate is missing from the move",
            edit=("lr * fair_mean", "fair_mean"),
            why="the steps are 1 / lr times too long",
            question="How far may one step go?"),
    Mistake("R15ka", "the two means are returned in the other order",
            edit=("), mean, square", "), square, mean"),
            why="the next step takes the squares for the gradients",
            question="In which order does the contract return them?"),
    Mistake("R15e", "eps inside the root",
            edit=("(fair_square.sqrt() + 1e-8)", "(fair_square + 1e-8).sqrt()"),
            why="right for large gradients; tiny ones make steps that are too short",
            question="What is the root of 1e-8?"),
    Mistake("R15x", "no eps", edit=(" + 1e-8", ""),
            why="nan when the gradient has always been 0", question="What is 0 / 0?"),
    Mistake("R15q", "divided by the mean square, not by its root",
            edit=("fair_square.sqrt()", "fair_square"),
            why="the step depends on the gradient's size: 10 times smaller gradients "
                "make 10 times larger steps",
            question="What is the unit of a squared gradient?"),
    Mistake("R15s", "climbs: the step has the wrong sign",
            edit=("weight - lr", "weight + lr"),
            why="the loss would rise", question="Which way does the gradient point?"),
    Mistake("R15k", "the corrected means are kept",
            edit=("), mean, square", "), fair_mean, fair_square"),
            why="the next step corrects them again",
            question="Which means does the next step blend into?"),
    Mistake("R15g", "steps along the gradient, not along its running mean",
            edit=("lr * fair_mean", "lr * gradient"),
            why="the mean is computed and never used",
            question="What is the first mean for?"),
)

adamw_step = Exercise(
    "adamw_step", "08", "adamw_step(weight, gradient, mean, square, step, lr, "
    "weight_decay) -> (weight, mean, square)", make_probes=adamw_probes, mistakes=ADAMW,
    read_out=read_adamw,
    hints=("Four lines: blend the mean, blend the square, correct both, move.",
           "Compute one weight by hand: w = 1, gradient 0.5, lr 0.1, decay 0.1 gives "
           "0.89.",
           "weight * (1 - lr * weight_decay) - lr * fair_mean / (fair_square.sqrt() + "
           "1e-8)"),
    show="the first step",
    solution=_ADAMW_STEP)
