"""Lesson 14: one step of many ranks, their data, and norms of what is sharded."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes.answer_forms import loss_and_gradient, norm_of, order_of
from gpt2_lesson.checks.probing import Probe, Value

# --- the gradient of all ranks --------------------------------------------------------

_COMBINE = """\
def combine(losses, gradients, counts, max_norm):
    weights = counts / counts.sum()                  # fractions of all tokens, (N,)
    loss = weights @ losses
    gradient = weights @ gradients                   # (P,)
    norm = gradient.norm()
    if norm > max_norm:
        gradient = gradient * (max_norm / norm)
    return loss, gradient"""


def _ranks(g: Generator, counts: list[int], max_norm: float, size: int = 3) -> tuple:
    losses = 1 + torch.rand(len(counts), generator=g)
    gradients = torch.randn(len(counts), size, generator=g)
    return losses, gradients, torch.tensor(counts), max_norm


def combine_probes(g: Generator) -> list[Probe]:
    """Return ranks with equal and unequal counts, within the norm and above it."""
    wide = torch.tensor([[3.0, 0.0], [0.0, 0.4]])
    losses = torch.tensor([2.0, 1.0])
    return [
        Probe("two ranks with 3 tokens and 1, norm within the limit",
              (losses, wide, torch.tensor([3, 1]), 5.0), loss_and_gradient),
        Probe("the same, norm above the limit",
              (losses, wide, torch.tensor([3, 1]), 2.0), loss_and_gradient),
        Probe("four ranks, as many tokens each", _ranks(g, [8, 8, 8, 8], 100.0),
              loss_and_gradient),
        Probe("four ranks, unequal, norm above the limit",
              _ranks(g, [10, 3, 1, 6], 0.3), loss_and_gradient),
        Probe("one rank", _ranks(g, [7], 0.5), loss_and_gradient),
        Probe("a rank without tokens", _ranks(g, [5, 0, 2], 100.0), loss_and_gradient),
    ]


def read_combine(run: RunProbe, g: Generator) -> list[Clue]:
    """Return how much each rank counts, and what clipping does."""
    counts, losses = torch.tensor([3, 1]), torch.tensor([2.0, 1.0])

    def outcome(gradients: Tensor, max_norm: float) -> Value:
        probe = Probe("clue", (losses, gradients, counts, max_norm), loss_and_gradient)
        value = run(probe).value
        pair = isinstance(value, list) and len(value) == 2
        fits = pair and isinstance(value[1], Tensor) and value[1].shape == (2,)
        return value if fits else None

    value = outcome(torch.eye(2) * 0.1, 100.0)
    if value is None:
        return []
    clues = []
    first, second = (10 * value[1]).tolist()
    if abs(first - 0.75) + abs(second - 0.25) > 1e-4:
        clues.append(Clue("weights", "of two ranks with 3 tokens and 1, the gradients "
                          f"count with the factors {first:.3g} and {second:.3g}; "
                          "expected 0.75 and 0.25"))
    if isinstance(value[0], float) and abs(value[0] - 1.75) > 1e-4:
        clues.append(Clue("loss", "for losses of 2 (3 tokens) and 1 (1 token) yours is "
                          f"{value[0]:.4g}; expected 1.75"))
    small, large = (outcome(torch.ones(2, 2) * size, 1.0) for size in (0.1, 10.0))
    if small is not None and large is not None:
        norms = [v[1].norm().item() for v in (small, large)]
        if abs(norms[0] - 0.02**0.5) + abs(norms[1] - 1) > 1e-3:
            clues.append(Clue("clipping", "with max_norm 1, gradients of norm 0.141 "
                              f"and 14.1 come out with {norms[0]:.3g} and "
                              f"{norms[1]:.3g}; expected 0.141 and 1"))
    return clues


_CLIP = ("    if norm > max_norm:\n        gradient = gradient * (max_norm / norm)\n")
_EARLY = ("weights @ gradients ",
          "weights @ (gradients * (max_norm / gradients.norm(dim=1, keepdim=True))"
          ".clamp(max=1)) ")
_ONE_OF_FOUR = "Three of four tokens are on rank 0. How much should its gradient count?"
_NORM_OF = "The norm of which vector may be at most max_norm?"

combine = Exercise(
    "combine", "14", "combine(losses, gradients, counts, max_norm) -> (loss, gradient)",
    make_probes=combine_probes, read_out=read_combine,
    show="two ranks with 3 tokens and 1, norm within the limit",
    mistakes=(
        Mistake("D1", "the sum of the ranks' gradients, not their mean",
                edit=("weights @ gradients ", "gradients.sum(0) "),
                why="with N equal ranks the gradient is N times too large",
                question="Two ranks have the same gradient. What is that of both?"),
        Mistake("D2", "the mean of the ranks' means, whatever their token counts",
                edit=("counts / counts.sum()",
                      "torch.full((len(counts),), 1 / len(counts))"),
                why="a rank with one token counts as much as one with a thousand",
                question=_ONE_OF_FOUR),
        Mistake("D2g", "the mean of means for the gradient (the loss is right)",
                edit=("weights @ gradients ", "gradients.mean(0) "),
                why="a rank with one token counts as much as one with a thousand",
                question=_ONE_OF_FOUR),
        Mistake("D2l", "the mean of means for the loss (the gradient is right)",
                edit=("weights @ losses", "losses.mean()"),
                why="the loss that is shown is not the one whose gradient is taken",
                question="Three of four tokens are on rank 0. How much should its loss "
                         "count?"),
        Mistake("D3", "each rank's gradient clipped, instead of their mean",
                edit=[_EARLY, (_CLIP, "")],
                why="ranks with a large gradient lose their weight, and the mean may "
                    "be much shorter than max_norm", question=_NORM_OF),
        Mistake("D4", "the loss of rank 0 alone",
                edit=("weights @ losses", "losses[0]"),
                why="it says nothing about the other ranks' tokens",
                question="Whose tokens should the loss be the mean of?"),
        Mistake("D4s", "the sum of the ranks' losses",
                edit=("weights @ losses", "losses.sum()"),
                why="a mean over tokens can't be above the largest loss",
                question="Can the mean be larger than every rank's loss?"),
        Mistake("D5", "the gradient of rank 0 alone",
                edit=("weights @ gradients ", "gradients[0] "),
                why="the other ranks work in vain",
                question="What do the other ranks compute for?"),
        Mistake("D6", "scaled to max_norm even if the norm is smaller",
                edit=("    if norm > max_norm:\n    ", ""),
                why="small gradients are made larger",
                question="What should happen to a gradient of norm 0.1 if max_norm is "
                         "1?"),
        Mistake("D7", "each value clipped, not the norm",
                edit=(_CLIP, "    gradient = gradient.clamp(-max_norm, max_norm)\n"),
                why="the direction of the gradient changes", question=_NORM_OF),
        Mistake("D8", "not clipped", edit=(_CLIP, ""),
                why="a gradient above max_norm comes back as it was",
                question="Where is max_norm used?"),
        Mistake("D9", "the sum over the tokens, not divided by their number",
                edit=("counts / counts.sum()", "counts.float()"),
                why="twice as many tokens give twice the gradient",
                question="What do the weights of all ranks add up to?"),
        Mistake("D9n", "divided by the number of ranks as well",
                edit=("counts / counts.sum()", "counts / counts.sum() / len(counts)"),
                why="the weights must add up to 1",
                question="What do the weights of all ranks add up to?"),
        Mistake("D10", "means taken for sums: added, then divided by all tokens",
                edit=("weights @ gradients ", "gradients.sum(0) / counts.sum() "),
                why="each rank's gradient is divided by its tokens already",
                question="Is a row of gradients a sum over tokens, or a mean?"),
        Mistake("D11", "the largest count gets the smallest weight",
                edit=("counts / counts.sum()",
                      "(1 / counts.clamp(min=1)) / (1 / counts.clamp(min=1)).sum()"),
                why="each rank is divided by its own count once more",
                question=_ONE_OF_FOUR),
        Mistake("D12", "the square of the norm compared with max_norm",
                edit=("gradient.norm()", "gradient.square().sum()"),
                why="the norm is the square root of the sum of squares",
                question="What is the norm of (3, 4)?"),
        Mistake("D13", "the largest value instead of the norm",
                edit=("gradient.norm()", "gradient.abs().max()"),
                why="the norm counts all values",
                question="What is the norm of (3, 4)?"),
        Mistake("D14", "the norms of the ranks added up, not the norm of the mean",
                edit=("gradient.norm()", "gradients.norm(dim=1).sum()"),
                why="gradients of different ranks partly cancel", question=_NORM_OF),
    ),
    crashes=((r"expected m1 and m2|same dtype|Long", "counts are whole numbers: divide "
              "them first, and the result has decimals"),),
    hints=("Turn each rank's mean back into a sum. What must you multiply it by?",
           "The weight of a rank is its fraction of all tokens, the same for its loss "
           "and its gradient. Clip at the very end.",
           "weights = counts / counts.sum(), then weights @ losses and weights @ "
           "gradients"),
    solution=_COMBINE)

# --- the order of the data ------------------------------------------------------------

_RANK_ORDER = """\
def rank_order(size, epoch, seed, rank, world_size):
    generator = torch.Generator().manual_seed(seed + epoch)
    order = torch.randperm(size, generator=generator)
    order = order[: size - size % world_size]        # as many for each rank
    return order[rank::world_size]"""


def order_probes(g: Generator) -> list[Probe]:
    """Return several ranks, epochs and seeds, with and without a rest."""
    cases = {
        "12 documents, rank 0 of 3": (12, 0, 1, 0, 3),
        "12 documents, rank 2 of 3": (12, 0, 1, 2, 3),
        "the same in the next epoch": (12, 1, 1, 2, 3),
        "another seed": (12, 0, 4, 2, 3),
        "11 documents, rank 0 of 3": (11, 2, 5, 0, 3),
        "11 documents, rank 2 of 3": (11, 2, 5, 2, 3),
        "one rank": (7, 3, 2, 0, 1),
        "40 documents": (40, 1, torch.randint(9999, (), generator=g).item(), 1, 4),
    }
    return [Probe(name, case, order_of) for name, case in cases.items()]


def read_order(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which documents the ranks get together, and whether epochs differ."""
    def documents(epoch: int, rank: int, size: int = 11) -> Value:
        value = run(Probe("clue", (size, epoch, 3, rank, 3), order_of)).value
        listed = isinstance(value, list) and all(type(one) is int for one in value)
        return value if listed else None

    parts = [documents(0, rank) for rank in range(3)]
    if any(part is None for part in parts):
        return []
    clues: list[Clue] = []
    together = [number for part in parts for number in part]
    lengths = ", ".join(str(len(part)) for part in parts)
    clues.append(Clue("parts", f"of 11 documents, 3 ranks get {lengths}, together "
                      f"{len(set(together))} different ones; expected 3, 3, 3 and 9"))
    wrong = [i for i in together if not 0 <= i < 11]
    if wrong:
        clues.append(Clue("outside", f"there is no document {wrong[0]} of 11"))
    if documents(0, 0) == documents(1, 0):
        clues.append(Clue("epochs", "epochs 0 and 1 have the same order"))
    if sorted(parts[0]) == parts[0]:
        clues.append(Clue("sorted", "rank 0's documents are in rising order: they are "
                          "not shuffled"))
    right = rank_order.reference(11, 0, 3, 1, 3).tolist()
    if parts[1] != right:
        clues.append(Clue("rank 1", f"11 documents, epoch 0, seed 3, rank 1 of 3: "
                          f"yours are {parts[1]}, expected {right}"))
    return clues


_SEED = "seed + epoch"
rank_order = Exercise(
    "rank_order", "14", "rank_order(size, epoch, seed, rank, world_size) -> (K,)",
    make_probes=order_probes, read_out=read_order, show="12 documents, rank 2 of 3",
    mistakes=(
        Mistake("E1", "the same order in each epoch", edit=(_SEED, "seed"),
                why="the model sees the same batches again and again",
                question="What differs between two epochs?"),
        Mistake("E1s", "the same order for each seed", edit=(_SEED, "epoch"),
                why="two runs with different seeds see the same batches",
                question="What differs between two runs with different seeds?"),
        Mistake("E1m", "seed times epoch, which is 0 in the first epoch of any run",
                edit=(_SEED, "seed * epoch"),
                why="all seeds have the same first epoch",
                question="What is your number in epoch 0?"),
        Mistake("E2", "not shuffled",
                edit=("torch.randperm(size, generator=generator)",
                      "torch.arange(size)"),
                why="the order of the file stays", question="Where is the shuffling?"),
        Mistake("E3", "a seed that depends on the rank",
                edit=(_SEED, "seed + epoch + rank"),
                why="each rank shuffles in its own way, so some documents are read "
                    "twice and others never",
                question="Do all ranks cut the same order into parts?"),
        Mistake("E4", "the rest not dropped",
                edit=("    order = order[: size - size % world_size]        # as many "
                      "for each rank\n", ""),
                why="some ranks have a document more, and wait for the others in vain",
                question="How many documents has each of 3 ranks, if there are 11?"),
        Mistake("E5", "the same documents on each rank",
                edit=("[rank::world_size]", "[::world_size]"),
                why="all ranks do the work of one",
                question="Where is the rank used?"),
        Mistake("E6", "a consecutive part for each rank, not every world_size-th",
                edit=("order[rank::world_size]",
                      "order.view(world_size, -1)[rank]"),
                why="each document is still used once, but in another order than asked",
                question="Which position of the order is rank 1's first?"),
        Mistake("E7", "ranks counted from 1",
                edit=("[rank::world_size]", "[rank - 1 :: world_size]"),
                why="rank 0 reads from the end of the order",
                question="Which number has the first rank?"),
        Mistake("E7b", "one rank too far", edit=("[rank::", "[rank + 1 ::"),
                why="position 0 of the order is nobody's",
                question="Which number has the first rank?"),
        Mistake("E8", "the rest dropped before shuffling",
                edit=("randperm(size,", "randperm(size - size % world_size,"),
                why="the last documents are never read, in no epoch",
                question="Which documents are left out: the same in each epoch?"),
        Mistake("E9", "padded with the first documents, not cut",
                edit=("order = order[: size - size % world_size]        ",
                      "order = torch.cat([order, order[: -size % world_size]])  "),
                why="some documents are read twice in an epoch",
                question="Should a document be read twice, or left out?"),
        Mistake("E10", "another order in each call",
                edit=("manual_seed(seed + epoch)", "manual_seed(torch.Generator().seed"
                      "())"),
                why="the ranks can't agree on an order that each one chooses at random",
                question="Do two ranks with the same arguments get the same order?",
                alone=True),
    ),
    hints=("All ranks must make the same order, so its seed can't depend on the rank. "
           "On what should it depend?",
           "randperm takes a generator. Cut the order to a multiple of world_size "
           "after shuffling.",
           "order[: size - size % world_size][rank::world_size]"),
    solution=_RANK_ORDER)

# --- norms of what is sharded ---------------------------------------------------------

_GRADIENT_NORM = """\
def gradient_norm(shards):
    squares = [sum(shard.square().sum() for shard in rank) for rank in shards]
    return sum(squares) ** 0.5"""


def _sharded(g: Generator, ranks: int, rows: int) -> list[list[Tensor]]:
    matrix, vector = torch.randn(rows, 3, generator=g), torch.randn(rows, generator=g)
    step = -(-rows // ranks)
    return [[whole[i * step : (i + 1) * step] for whole in (matrix, vector)]
            for i in range(ranks)]


def norm_probes(g: Generator) -> list[Probe]:
    """Return shards of one and of several ranks, of equal size and not."""
    return [
        Probe("two ranks with 3 and 4", ([[torch.tensor([3.0])], [torch.tensor([4.0])]],
                                         ), norm_of),
        Probe("two ranks, two tensors", (_sharded(g, 2, 6),), norm_of),
        Probe("three ranks, 7 rows: 3, 3 and 1", (_sharded(g, 3, 7),), norm_of),
        Probe("four ranks, 5 rows: the last has none", (_sharded(g, 4, 5),), norm_of),
        Probe("one rank", (_sharded(g, 1, 4),), norm_of),
    ]


def read_norm(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what comes out for known norms."""
    clues = []
    for told, shards, right in (
            ("one rank with the gradient (3, 4)", [[torch.tensor([3.0, 4.0])]], 5),
            ("two ranks with 3 and 4", [[torch.tensor([3.0])], [torch.tensor([4.0])]],
             5),
            ("one rank with two tensors, 3 and 4",
             [[torch.tensor([3.0]), torch.tensor([4.0])]], 5)):
        value = run(Probe(told, (shards,), norm_of)).value
        if isinstance(value, float) and abs(value - right) > 1e-4:
            clues.append(Clue(told, f"{told}: your norm is {value:.4g}, expected 5"))
    return clues


_THREE_FOUR = "Two ranks have the norms 3 and 4. What is the norm of both together?"
gradient_norm = Exercise(
    "gradient_norm", "14", "gradient_norm(shards) -> number",
    make_probes=norm_probes, read_out=read_norm, show="two ranks with 3 and 4",
    mistakes=(
        Mistake("F1", "the ranks' norms added up, not their squares",
                edit=("sum(squares) ** 0.5", "sum(square**0.5 for square in squares)"),
                why="3 and 4 give 7", question=_THREE_FOUR),
        Mistake("F2", "the mean of the ranks' norms",
                edit=("sum(squares) ** 0.5",
                      "sum(square**0.5 for square in squares) / len(squares)"),
                why="with more ranks the norm gets smaller", question=_THREE_FOUR),
        Mistake("F3", "the norm of rank 0's shards, taken for the whole",
                edit=("sum(squares) ** 0.5", "squares[0] ** 0.5"),
                why="each rank would clip by another factor",
                question="Which part of the gradient does rank 0 store?"),
        Mistake("F4", "the square of the norm", edit=(" ** 0.5", ""),
                why="3 and 4 give 25", question=_THREE_FOUR),
        Mistake("F5", "the largest norm of a rank",
                edit=("sum(squares) ** 0.5", "max(squares) ** 0.5"),
                why="3 and 4 give 4", question=_THREE_FOUR),
        Mistake("F6", "the root of the mean of the ranks' squares",
                edit=("sum(squares) **", "(sum(squares) / len(squares)) **"),
                why="with more ranks the norm gets smaller", question=_THREE_FOUR),
        Mistake("F7", "norms of the tensors added up, then squared for each rank",
                edit=("sum(shard.square().sum() for shard in rank)",
                      "sum(shard.norm() for shard in rank) ** 2"),
                why="within a rank, too, squares add up",
                question="A rank has two tensors with the norms 3 and 4. What is its "
                         "norm?"),
        Mistake("F8", "only the first tensor of each rank",
                edit=("for shard in rank)", "for shard in rank[:1])"),
                why="the norm is that of all parameters",
                question="How many tensors does a rank have?"),
        Mistake("F9", "absolute values, not squares",
                edit=("shard.square()", "shard.abs()"),
                why="(3, 4) gives the square root of 7",
                question="What is the norm of (3, 4)?"),
        Mistake("F10", "the root taken on each rank, and once more of their sum",
                edit=("sum(squares) ** 0.5",
                      "sum(square**0.5 for square in squares) ** 0.5"),
                why="3 and 4 give the square root of 7", question=_THREE_FOUR),
    ),
    hints=("What is the norm of (3, 4)? And if rank 0 stores the 3, and rank 1 the 4?",
           "Squares can be added over tensors and over ranks; norms can't.",
           "sum of all squares, then the square root, once"),
    solution=_GRADIENT_NORM)

gradient_norm_to_repair = gradient_norm.to_repair("gradient_norm_to_repair", "F1")

# --- the answers that are values ------------------------------------------------------

_WHO = {"A": "same", "B": "same", "C": "different", "D": "every rank", "E": "rank 0",
        "F": "every rank", "G": "rank 0", "H": "every rank"}


def _who(id: str, name: str, why: str, question: str, where: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question, f"look at {where}", fix)


_OTHER_MODELS = _who(
    "W1", "other initial weights on each rank", "averaged gradients keep models equal "
    "only if they begin equal", "What do the ranks agree on, if not on the weights?",
    "line A", "A: same")
_OTHER_BATCHES = _who(
    "W2", "another global batch on each rank", "then some rows are taken by two ranks, "
    "and others by none", "From which batch does each rank take its rows?", "line B",
    "B: same")
_SAME_MASKS = _who(
    "W3", "the same dropout on each rank", "then row 0 of every rank loses the same "
    "channels", "One process drops other channels in each row. What about two ranks?",
    "line C", "C: different")
_HANGS = _who(
    "W4", "a collective operation on rank 0 alone: the run hangs",
    "rank 0 waits for the others, which never come",
    "Which of the lines exchange tensors between the ranks?", "lines D, F and H",
    "D, F and H: every rank")
_ALL_SAVE = _who(
    "W5", "every rank writes the same file", "they overwrite each other",
    "What does the second writer add?", "line G", "G: rank 0")
_ALL_PRINT = _who(
    "W6", "every rank prints", "eight ranks print the same line eight times",
    "How often should a reader see the loss?", "line E", "E: rank 0")

_KEPT = (96, 48, 24, 12)


def _errors(*values: float) -> dict[str, float]:
    return dict(zip(map(str, _KEPT), values, strict=True))


# Measured on the shipped story model; tests/checks/test_scaling_out.py repeats it.
OFF = _errors(0.0, 0.511, 0.828, 1.584)
RATIO = _errors(1.0, 1.190, 1.360, 1.988)
OF_WRONG = _errors(0.0, 0.429, 0.609, 0.797)
LARGEST = _errors(0.0, 0.458, 1.074, 1.780)
ABSOLUTE = _errors(0.0, 0.0858, 0.1673, 0.3375)


def _off(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question, "look at what you divide by what", fix)


ANSWERS = (
    Answer("14.1", "what the ranks have in common, and who runs which line", _WHO,
           predict=True,
           wrong=(({"A": "different"}, _OTHER_MODELS),
                  ({"B": "different"}, _OTHER_BATCHES), ({"C": "same"}, _SAME_MASKS),
                  ({"D": "rank 0"}, _HANGS), ({"F": "rank 0"}, _HANGS),
                  ({"H": "rank 0"}, _HANGS), ({"G": "every rank"}, _ALL_SAVE),
                  ({"E": "every rank"}, _ALL_PRINT)),
           hints=("For A to C: what would one process with the whole batch do? For D "
                  "to H: does the line exchange tensors between the ranks?",
                  "A collective operation must be called by every rank. Which of D to "
                  "H contain one? (A forward pass with FSDP does.)",
                  "A and B: same, C: different; D, F and H: every rank; E and G: "
                  "rank 0"),
           solution="predicted = " + repr(_WHO)),
    Answer("14.5", "how far the mean of means is off, for four lengths", OFF,
           rtol=0.02, atol=0.006, precision="two decimals are",
           wrong=((RATIO, _off("V1", "the ratio of the two norms, not the norm of the "
                               "difference", "two gradients of the same norm can point "
                               "in different directions",
                               "How far apart are (1, 0) and (0, 1)?",
                               "(wrong - right).norm() / right.norm()")),
                  (OF_WRONG, _off("V2", "the difference divided by the norm of the "
                                  "wrong gradient", "an error is measured against the "
                                  "right value", "Relative to what?",
                                  "(wrong - right).norm() / right.norm()")),
                  (LARGEST, _off("V3", "the largest difference divided by the largest "
                                 "value", "the task asks for norms", "Which number "
                                 "summarises all entries?",
                                 "(wrong - right).norm() / right.norm()")),
                  (ABSOLUTE, _off("V4", "the norm of the difference, not divided",
                                  "how large is that, compared with the gradient?",
                                  "Relative to what?",
                                  "(wrong - right).norm() / right.norm()")),
                  (_errors(0.0, 0.0, 0.0, 0.0), _off(
                      "V5", "no error at all", "both of your gradients use the number "
                      "of all tokens", "By what does each rank divide in the mean of "
                      "means?", "gradient(part, targets(part)) for each rank"))),
           hints=("The right gradient is that of all rows together, divided by all "
                  "targets.",
                  "In the mean of means, each rank divides by its own targets, and the "
                  "two gradients are added and halved.",
                  "(mean_of_means - right).norm() / right.norm()"),
           solution="parts = [rank_rows(batch, rank, 2) for rank in range(2)]\n"
                    "wrong = sum(gradient(part, targets(part)) for part in parts) / 2"),
)
