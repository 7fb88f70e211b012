"""Lesson 15: rows of requests and answers, a layer with an adapter, and merging."""

from typing import Any

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes import lora as fakes
from gpt2_lesson.checks.probing import Probe

# --- a row ----------------------------------------------------------------------------

_ENCODE_EXAMPLE = """\
def encode_example(request, answer, end, length):
    tokens = [*request, *answer, end][:length]
    padding = [end] * (length - len(tokens))
    ids = tokens + padding
    targets = [-100] * len(request) + tokens[len(request):] + [-100] * len(padding)
    return torch.tensor([ids, targets])"""


def row_probes(g: Generator) -> list[Probe]:
    """Return rows with padding, without it, and one that is too long."""
    def ids(count: int) -> list[int]:
        return torch.randint(11, 99, (count,), generator=g).tolist()

    return [Probe("request [5, 6], answer [1, 2], end 9, length 8",
                  ([5, 6], [1, 2], 9, 8)),
            Probe("an answer of 4 tokens, 3 of padding", (ids(3), ids(4), 10, 11)),
            Probe("a row without padding", (ids(3), ids(4), 10, 8)),
            Probe("an answer that doesn't fit, length 6", (ids(2), ids(9), 10, 6)),
            Probe("an answer that fits without its end", (ids(2), ids(4), 10, 6)),
            Probe("a request of one token", (ids(1), ids(3), 7, 9))]


_REQUEST = "[-100] * len(request) + tokens[len(request):]"
_Q_COUNT = "Which of these tokens must the model produce by itself?"
_Q_END = "How does the model learn that its answer is over?"

ROWS = (
    Mistake("F1", "the request counts, too", edit=(_REQUEST, "tokens"),
            why="the request is always given, so it need not be predicted",
            question=_Q_COUNT),
    Mistake("F2", "the padding counts", edit=("[-100] * len(padding)", "padding"),
            why="the model would be trained to repeat the end token",
            question=_Q_COUNT),
    Mistake("F2r", "everything counts, request and padding too",
            edit=[(_REQUEST, "tokens"), ("[-100] * len(padding)", "padding")],
            why="the targets are the ids, so nothing is left out", question=_Q_COUNT,
            alone=True),
    Mistake("F4", "no end token after the answer, or one that does not count",
            edit=("tokens[len(request):]",
                  "[-100 if t == end else t for t in tokens[len(request):]]"),
            why="the model is not trained to stop (here padding looks the same)",
            question=_Q_END),
    Mistake("F5", "the first token of the answer does not count",
            edit=(_REQUEST, "[-100] * (len(request) + 1) + tokens[len(request) + 1:]"),
            why="the model is never trained to begin", question=_Q_COUNT),
    Mistake("F6", "the last token of the request counts",
            edit=(_REQUEST, "[-100] * (len(request) - 1) + tokens[len(request) - 1:]"),
            why="the request is always given, up to its last token", question=_Q_COUNT),
    Mistake("F7", "the targets are shifted by one",
            edit=("torch.tensor([ids, targets])",
                  "torch.tensor([ids, targets[1:] + [-100]])"),
            why="next_token_loss shifts them itself, so they would be shifted twice",
            question="Who shifts the targets: you, or next_token_loss?"),
    Mistake("F8", "padding with 0, not with the end token",
            edit=("[end] * (length - len(tokens))", "[0] * (length - len(tokens))"),
            why="the exercise asks for the end token",
            question="With what is a row padded?"),
    Mistake("F9", "padding before the request, not after the answer",
            edit=[("ids = tokens + padding", "ids = padding + tokens"),
                  (_REQUEST + " + [-100] * len(padding)",
                   "[-100] * len(padding) + " + _REQUEST)],
            why="the request then has other positions in each row",
            question="At which position should each request begin?"),
    Mistake("F10", "an answer that is cut off gets an end token",
            edit=("[*request, *answer, end][:length]",
                  "[*request, *answer][:length - 1] + [end]"),
            why="the model would learn to stop in the middle of an answer",
            question="Is an answer over because the row is?"),
    Mistake("F11", "rows that are too long are not cut off", edit=("[:length]", ""),
            why="rows of a batch must have the same length",
            question="How long may a row be?"),
    Mistake("F12", "-100 in the ids, too",
            edit=("torch.tensor([ids, targets])", "torch.tensor([targets, targets])"),
            why="the model must read the request; only the loss leaves it out",
            question="What does the model read: ids or targets?"),
    Mistake("F13", "ids and targets exchanged",
            edit=("torch.tensor([ids, targets])", "torch.tensor([targets, ids])"),
            why="the first row is what the model reads",
            question="Which of the two rows may contain -100?"),
)


def read_row(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which positions count in a row of 8: request 2, answer 2."""
    found = run(Probe("row", ([5, 6], [1, 2], 9, 8))).value
    if not isinstance(found, Tensor) or found.shape != (2, 8):
        return []
    counted = [i for i, t in enumerate(found[1].tolist()) if t != -100]
    if counted == [2, 3, 4]:
        return []
    return [Clue("counted", "with a request of 2 tokens and an answer of 2 your "
                 f"targets count at positions {counted}, expected [2, 3, 4]: the "
                 "answer and its end")]


encode_example = Exercise(
    "encode_example", "15",
    "encode_example(request, answer, end, length) -> ids and targets (2, length)",
    make_probes=row_probes, mistakes=ROWS, read_out=read_row,
    show="request [5, 6], answer [1, 2], end 9, length 8",
    crashes=((r"expected sequence of length|same length",
              "the two rows must be equally long: count the padding again"),
             (r"can only concatenate|unsupported operand",
              "request and answer are lists of ids: join them with +")),
    hints=("Write the row for a request of two tokens and an answer of two, and the "
           "targets below it.",
           "Targets: -100 for the request, then the answer and its end, then -100 "
           "for the padding.",
           "tokens = [*request, *answer, end][:length]; what is left up to length is "
           "padding"),
    solution=_ENCODE_EXAMPLE)

# --- the layer ------------------------------------------------------------------------

_LAYER = """\
class LoRALayer(nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        self.a = nn.Parameter(0.1 * torch.randn(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        update = x @ self.a.T @ self.b.T
        return self.linear(x) + self.scale * update"""


def _values(g: Generator, out: int, size: int, rank: int, *shape: int) -> dict:
    """Return a layer's weight and bias, A and B as if trained, and an input."""
    sizes = {"weight": (out, size), "bias": (out,), "a": (rank, size),
             "b": (out, rank), "x": (*(shape or (2, 3)), size)}
    return {name: torch.randn(one, generator=g) for name, one in sizes.items()}


def layer_probes(g: Generator) -> list[Probe]:
    """Return layers at the beginning and after training, and their gradients."""
    wide, square = _values(g, 5, 3, 2), _values(g, 4, 4, 4)
    return [Probe("the output of a new layer", (wide, 2, 6.0), fakes.at_start),
            Probe("the output with known a and b, rank 2, alpha 6", (wide, 2, 6.0),
                  fakes.afterwards),
            Probe("the output, rank 4, alpha 1", (square, 4, 1.0), fakes.afterwards),
            Probe("one vector, rank 1", (_values(g, 3, 2, 1, 1), 1, 3.0),
                  fakes.afterwards),
            Probe("what can be trained", (wide, 2, 6.0), fakes.trained),
            Probe("the first gradients of a new layer", (wide, 2, 6.0),
                  fakes.first_gradients),
            Probe("the gradients of known a and b", (wide, 2, 6.0),
                  fakes.later_gradients)]


def _multiple(found: Any, of: Tensor, expected: float, what: str) -> list[Clue]:
    """Return a clue that says which multiple of a tensor was found, if a wrong one."""
    if not isinstance(found, Tensor) or found.shape != of.shape:
        return []
    factor = ((found * of).sum() / of.square().sum()).item()
    if not (found - factor * of).norm() <= 1e-3 * of.norm():
        return [Clue("shape of it", f"{what} is not a multiple of B A: with W = 0 and "
                     "no bias it should be")]
    if abs(factor - expected) < 1e-3:
        return []
    return [Clue("factor", f"{what} is {factor:.4g} times B A, expected "
                 f"{expected:.4g}")]


def _without_weight(g: Generator) -> dict:
    """Return a layer of 3 to 5 channels whose weight and bias are 0."""
    values = _values(g, 5, 3, 2)
    return values | {"weight": torch.zeros(5, 3), "bias": torch.zeros(5)}


def read_layer(run: RunProbe, g: Generator) -> list[Clue]:
    """Return by what the update is multiplied, with rank 2 and alpha 6."""
    values = _without_weight(g)
    found = run(Probe("update", (values, 2, 6.0), fakes.afterwards)).value
    return _multiple(found, values["x"] @ values["a"].T @ values["b"].T, 3.0,
                     "with rank 2 and alpha 6 your update")


_UPDATE = "self.linear(x) + self.scale * update"
_Q_BEGIN = "What is B A at first, and which gradient do A and B then get?"
_Q_SCALE = "For rank 4 and alpha 8: by what is B A x multiplied?"
_Q_FROZEN = "Which parameters may move?"

LAYER = (
    Mistake("L1", "A and B both begin at 0",
            edit=("torch.randn(rank", "torch.zeros(rank"),
            why="each one's gradient contains the other, so neither ever moves",
            question=_Q_BEGIN),
    Mistake("L2", "A and B both begin at random",
            edit=("torch.zeros(linear", "torch.randn(linear"),
            why="a new layer must compute what the linear layer computes",
            question=_Q_BEGIN),
    Mistake("L2b", "A begins at 0 and B at random",
            edit=[("torch.zeros(linear", "torch.randn(linear"),
                  ("torch.randn(rank", "torch.zeros(rank")],
            why="that would learn, too, but the exercise asks for B = 0, as in the "
                "paper and in peft",
            question="Which of the two begins at 0?", alone=True),
    Mistake("L3", "the linear layer is not frozen",
            edit=(".requires_grad_(False)", ""),
            why="all of the model would be trained, and its memory needed",
            question=_Q_FROZEN),
    Mistake("L4", "alpha / rank forgotten", edit=("self.scale * update", "update"),
            why="right only where alpha equals the rank", question=_Q_SCALE),
    Mistake("L5", "alpha, not alpha / rank", edit=("alpha / rank", "alpha"),
            why="the update is rank times too large", question=_Q_SCALE),
    Mistake("L5i", "rank / alpha, not alpha / rank",
            edit=("alpha / rank", "rank / alpha"),
            why="the factor is upside down", question=_Q_SCALE),
    Mistake("L6", "alpha / rank squared", edit=("self.scale * update",
                                                "self.scale ** 2 * update"),
            why="the scale is applied twice", question=_Q_SCALE),
    Mistake("L6r", "alpha divided by the square root of the rank",
            edit=("alpha / rank", "alpha / rank ** 0.5"),
            why="that is another method (rsLoRA)", question=_Q_SCALE),
    Mistake("L7", "the scale multiplies the linear layer's output, too",
            edit=(_UPDATE, "self.scale * (self.linear(x) + update)"),
            why="a new layer would compute alpha / rank times what it should",
            question="What should a new layer compute?"),
    Mistake("L8", "only the update is returned", edit=(_UPDATE, "self.scale * update"),
            why="the trained weights are no longer used",
            question="What should a new layer compute?"),
    Mistake("L9", "the update is subtracted",
            edit=("+ self.scale", "- self.scale"),
            why="it would learn, but W + (alpha / r) B A is what is merged and stored",
            question="Which sign has the update?"),
    Mistake("L10", "a and b are not parameters",
            edit=[("nn.Parameter(0.1 * torch.randn(rank, linear.in_features))",
                   "0.1 * torch.randn(rank, linear.in_features)"),
                  ("nn.Parameter(torch.zeros(linear.out_features, rank))",
                   "torch.zeros(linear.out_features, rank)")],
            why="an optimizer would not find them",
            question="How does a module know what can be trained?"),
    Mistake("L11", "everything is frozen, a and b too",
            edit=("(linear.out_features, rank))",
                  "(linear.out_features, rank))\n"
                  "        self.requires_grad_(False)"),
            why="nothing is left to train", question=_Q_FROZEN),
    Mistake("L12", "the update is computed without gradients",
            edit=("x @ self.a.T @ self.b.T", "(x @ self.a.T @ self.b.T).detach()"),
            why="a and b never get a gradient",
            question="Through which products must the gradient flow?"),
    Mistake("L13", "the linear layer's output is detached",
            edit=("self.linear(x) +", "self.linear(x).detach() +"),
            why="the layers before this one get no gradient through W",
            question="Frozen weights don't move. Must the gradient still pass through "
                     "them?"),
    Mistake("L14", "an activation function between A and B",
            edit=("x @ self.a.T @", "torch.relu(x @ self.a.T) @"),
            why="the update is then not a matrix, and cannot be merged",
            question="Which matrix would you add to W?"),
    Mistake("L15", "the linear layer's bias is left out",
            edit=("self.linear(x)", "x @ self.linear.weight.T"),
            why="a new layer must compute what the linear layer computes",
            question="What should a new layer compute?"),
)

LoRALayer = Exercise(
    "LoRALayer", "15", "LoRALayer(linear, rank, alpha), an nn.Module with parameters a "
    "(rank, in) and b (out, rank): LoRALayer(...)(x) -> (..., out)",
    make_probes=layer_probes, mistakes=LAYER, read_out=read_layer,
    show="the output with known a and b, rank 2, alpha 6",
    crashes=((r"no attribute '[ab]'", "the two parameters are called a and b"),
             (r"before Module.__init__", "call super().__init__() first in __init__"),
             (r"mat1 and mat2|size of tensor|must match the size",
              "a is (rank, in) and b (out, rank), so x @ a.T @ b.T is (..., out)"),
             (r"leaf Variable|does not require grad",
              "a and b must be parameters that require gradients")),
    hints=("What does the layer compute at first, and which of its parameters may "
           "move?",
           "Two parameters, a (rank, in) random and b (out, rank) zero; the linear "
           "layer is frozen.",
           "self.linear(x) + (alpha / rank) * (x @ self.a.T @ self.b.T)"),
    solution=_LAYER)

# --- merging --------------------------------------------------------------------------

_MERGE = """\
def merge_adapters(model):
    with torch.no_grad():
        for name, layer in list(model.named_children()):
            if hasattr(layer, "lora_b"):
                update = layer.scale * layer.lora_b @ layer.lora_a
                layer.linear.weight += update
                setattr(model, name, layer.linear)
    model.requires_grad_(True)"""


def merge_probes(g: Generator) -> list[Probe]:
    """Return models with one adapter, with several, and with none."""
    one = [(_values(g, 4, 3, 2), 3.0)]
    mixed: list[Any] = [(_values(g, 4, 4, 2), 0.5), (_values(g, 4, 4, 2), None),
                        (_values(g, 3, 4, 1), 2.0)]
    x = torch.randn(2, 3, generator=g)
    wide = torch.randn(2, 4, generator=g)
    return [Probe("the output of a merged layer", (one, x), fakes.merged),
            Probe("three layers, two of them with an adapter", (mixed, wide),
                  fakes.merged),
            Probe("no adapter at all", (mixed[1:2], wide), fakes.merged),
            Probe("merged a second time", (one, x), fakes.merged_twice),
            Probe("what is left behind", (mixed,), fakes.left_behind)]


def read_merge(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what was added to the weight, and what is left behind."""
    values = _without_weight(g)
    found = run(Probe("added", ([(values, 3.0)], torch.eye(3)), fakes.merged)).value
    clues = _multiple(found, (values["b"] @ values["a"]).T, 3.0,
                      "with a scale of 3 the merged update")
    left = run(Probe("left", ([(values, 3.0)],), fakes.left_behind)).value
    if isinstance(left, dict) and left.get("frozen"):
        clues.append(Clue("frozen", "after merging these are frozen: "
                          + ", ".join(left["frozen"])))
    if isinstance(left, dict) and left.get("layers") != ["Linear"]:
        clues.append(Clue("layers", f"after merging the layers are {left['layers']}, "
                          "expected plain linear layers"))
    return clues


_SET = "                setattr(model, name, layer.linear)"
_Q_STILL = "After merging, who still adds the update?"
_Q_WHAT = "Which matrix is added to the weight?"

MERGE = (
    Mistake("G1", "the adapter stays, so the update is added twice", edit=(_SET, ""),
            why="the output is that of W + 2 (alpha / r) B A", question=_Q_STILL,
            where="What is in the model after the loop?",
            fix="setattr(model, name, layer.linear)"),
    Mistake("G2", "the scale forgotten", edit=("layer.scale * layer", "layer"),
            why="right only where alpha equals the rank", question=_Q_WHAT),
    Mistake("G3", "the scale squared", edit=("layer.scale * layer",
                                             "layer.scale ** 2 * layer"),
            why="the scale is applied twice", question=_Q_WHAT),
    Mistake("G4", "the adapter removed, and nothing added",
            edit=("                layer.linear.weight += update\n", ""),
            why="this is the base model again", question=_Q_WHAT,
            where="What happens to the update?", fix="layer.linear.weight += update"),
    Mistake("G5", "the weights stay frozen",
            edit=("    model.requires_grad_(True)", "    return None"),
            why="the merged model could not be trained further",
            question="What should be possible with a plain model?",
            where="Look at requires_grad", fix="model.requires_grad_(True)"),
    Mistake("G6", "the weight replaced by the update, not added to",
            edit=("weight += update", "weight.copy_(update)"),
            why="all that was trained before is lost", question=_Q_WHAT),
    Mistake("G7", "the update subtracted", edit=("weight += update",
                                                 "weight -= update"),
            why="the wrong sign", question=_Q_WHAT),
    Mistake("G8", "only the first adapter is merged",
            edit=(_SET, _SET + "\n                break"),
            why="the others are still adapters", question=_Q_STILL),
    Mistake("G9", "a new linear layer without the old bias",
            edit=("layer.linear)", "_unbiased(layer.linear))"),
            why="the bias belongs to the layer as well",
            question="What does a linear layer have besides its weight?"),
    Mistake("G10", "nothing happens",
            edit=("            if hasattr(layer, \"lora_b\"):",
                  "            if False:"),
            why="all adapters are still there", question=_Q_STILL,
            where="Is the loop's body ever run?", fix='if hasattr(layer, "lora_b"):'),
)


def _unbiased(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Return a layer with the same weight and no bias."""
    new = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
    new.weight.copy_(layer.weight)
    return new


merge_adapters = Exercise(
    "merge_adapters", "15", "merge_adapters(model) -> None, but the model is changed",
    make_probes=merge_probes, mistakes=MERGE, read_out=read_merge,
    show="the output of a merged layer",
    crashes=((r"leaf Variable|in-place", "change weights under torch.no_grad()"),
             (r"changed size during iteration", "make a list of named_children() "
              "before you replace layers")),
    hints=("Compare the model's output before and after.",
           "Two things must happen in each layer: the weight changes, and the adapter "
           "is removed.",
           "layer.linear.weight += layer.scale * layer.lora_b @ layer.lora_a; then "
           "setattr(model, name, layer.linear)"),
    solution=_MERGE, names={"_unbiased": _unbiased})

merge_adapters_to_repair = merge_adapters.to_repair("merge_adapters_to_repair", "G1")

# --- the answers that are values ------------------------------------------------------

# GPT-2 small, rank 8, all four linear layers of 12 blocks: r (in + out) each.
_SIZES = {"qkv_proj": (768, 2304), "out_proj": (768, 768), "up_proj": (768, 3072),
          "down_proj": (3072, 768)}
_PARAMETERS = 12 * sum(8 * (size + out) for size, out in _SIZES.values())
_COUNT = {"parameters": _PARAMETERS, "bytes": 4 * _PARAMETERS, "tensors": 96}
_Q_SHAPES = "What are the shapes of A and B for a layer from 768 to 3072 channels?"


def _count(id: str, name: str, why: str, fix: str, **wrong: int) -> tuple:
    return wrong, Mistake(id, name, why, _Q_SHAPES, "write down both shapes", fix)


def _costs(tokens: float, request: float, answer: float, both: float,
           part: float) -> dict:
    return {"tokens": tokens, "request": request, "answer": answer, "both": both,
            "loss": part}


# Measured on the shipped story model; tests/checks/test_finetuning.py repeats it.
_TOKENS, _R, _A, _BOTH, _PART = 0.1627, 5.609, 0.673, 1.476, 0.618
_Q_MEAN = "How many tokens does each of the two losses stand for?"
ANSWERS = (
    Answer("15.1", "the size of an adapter for GPT-2 small", _COUNT, predict=True,
           wrong=(
               _count("P1", "one matrix for each layer: r (in + out) halved",
                      "each layer has an A and a B", "r * in + r * out",
                      tensors=48),
               _count("P2", "in times out: the size of the whole matrices",
                      "A and B are thin", "r * in + r * out",
                      parameters=84_934_656),
               _count("P3", "one block only", "GPT-2 small has 12 blocks",
                      "12 times the sum of the four layers",
                      parameters=_PARAMETERS // 12),
               _count("P4", "qkv_proj taken to be square",
                      "it makes queries, keys and values: 768 to 2304",
                      "8 * (768 + 2304)",
                      parameters=_PARAMETERS - 12 * 8 * 2 * 768),
               _count("P5", "parameters, not bytes",
                      "a float32 number has 4 bytes", "4 bytes each",
                      bytes=_PARAMETERS)),
           hints=("The four layers go from 768 to 2304, 768 to 768, 768 to 3072, and "
                  "3072 to 768.",
                  "A is (8, in) and B is (out, 8), so a layer has 8 (in + out) "
                  "parameters.",
                  "12 blocks times 8 times 12,288; 4 bytes each; 2 tensors for each of "
                  "48 layers"),
           solution=f"predicted = {_COUNT!r}"),
    Answer("15.4", "what it would cost if the request counted, too",
           _costs(_TOKENS, _R, _A, _BOTH, _PART), rtol=0.02, atol=0.006,
           precision="two decimals are",
           wrong=(({"tokens": 1 - _TOKENS}, Mistake(
                      "V1", "the answers' part of the tokens, not the requests'",
                      "the exercise asks for the requests' part", "Which are fewer?",
                      "look at the numerator", "request tokens / all that count")),
                  ({"both": (_R + _A) / 2}, Mistake(
                      "V2", "the mean of the two losses",
                      "the answers have five times as many tokens", _Q_MEAN,
                      "how did you combine the two?",
                      "answer_loss with targets in which both count")),
                  ({"both": 4.1456}, Mistake(
                      "V3", "the padding counts, too",
                      "the end token is repeated up to 80", "Where does a row end?",
                      "look at the third argument of answer_targets",
                      "answer_targets(ids, 0, ends)")),
                  ({"loss": _TOKENS}, Mistake(
                      "V4", "the requests' part of the tokens, not of the loss",
                      "a request's token costs more than an answer's",
                      "How many nats do all requests cost together?",
                      "weight each token by its loss",
                      "request * tokens / both")),
                  ({"loss": 1 - _PART}, Mistake(
                      "V5", "the answers' part of the loss, not the requests'",
                      "the exercise asks for the requests' part",
                      "Which is larger here?",
                      "look at the numerator", "request * tokens / both"))),
           hints=("answer_targets(ids, starts, ends) marks any part of a row: with "
                  "starts of 0 and the answers' starts as ends it marks the requests.",
                  "The first token of a row is never a target. Count "
                  "(targets[:, 1:] != -100).",
                  '"loss" is request * tokens / both'),
           solution="""\
none = torch.zeros_like(starts)
requests = answer_targets(ids, none, starts)
both = answer_targets(ids, none, ends)
count = lambda targets: (targets[:, 1:] != -100).sum().item()"""),
)
