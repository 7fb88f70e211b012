"""Lesson 13: operations, the roofline, int8 rows, and measurements that are wrong."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes.answer_forms import with_zeros
from gpt2_lesson.checks.fakes.toy_models import as_number
from gpt2_lesson.checks.probing import Probe, Value

# --- operations -----------------------------------------------------------------------

_COUNT_FLOPS = """\
def count_flops(num_layers, d_model, d_ff, vocab_size, seq_length):
    T, C = seq_length, d_model
    layer = 4 * C * C + 2 * C * d_ff                 # qkv_proj, out_proj, the MLP
    attention = 2 * T * C                            # scores, averages
    return 2 * T * (num_layers * (layer + attention) + vocab_size * C)"""

_SIZES = {
    "1 layer, 1 token": (1, 4, 10, 7, 1),
    "1 layer, 3 tokens": (1, 4, 10, 7, 3),
    "5 layers, d_ff not 4C": (5, 8, 20, 11, 13),
    "d_ff = 4C": (3, 6, 24, 50, 9),
    "a long text": (2, 4, 16, 5, 1000),
    "GPT-2 small, 1,024 tokens": (12, 768, 3072, 50257, 1024),
}


def flop_probes(g: Generator) -> list[Probe]:
    """Return sizes from tiny ones to GPT-2 small's, and some drawn at random."""
    drawn = tuple(torch.randint(2, 99, (5,), generator=g).tolist())
    return [Probe(name, sizes, as_number)
            for name, sizes in {**_SIZES, "other sizes": drawn}.items()]


def read_flops(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what each size contributes: the count with that size alone made 0."""
    def count(*sizes: int) -> Value:
        value = run(Probe("clue", sizes, as_number)).value
        return value if isinstance(value, int | float) else None

    cases = {"no layers, only a head of 100 tokens": (0, 8, 32, 100, 2),
             "no vocabulary, no MLP, 1 token: attention alone": (1, 8, 0, 0, 1),
             "no vocabulary, 1 token: one layer": (1, 8, 20, 0, 1),
             "the same with 10 tokens": (1, 8, 20, 0, 10),
             "2 layers and 10 tokens": (2, 8, 20, 0, 10)}
    clues = []
    for name, sizes in cases.items():
        value, right = count(*sizes), count_flops.reference(*sizes)
        if value is not None and value != right:
            clues.append(Clue(name, f"{name} (d_model 8, d_ff {sizes[2]}): your count "
                              f"is {value:,}, expected {right:,}"))
    return clues


count_flops = Exercise(
    "count_flops", "13",
    "count_flops(num_layers, d_model, d_ff, vocab_size, seq_length) -> operations",
    make_probes=flop_probes, read_out=read_flops, show="1 layer, 3 tokens",
    mistakes=(
        Mistake("O1", "a multiply-add counted as one operation",
                edit=("return 2 * T", "return T"), why="everything is half as much",
                question="How many operations is a 3 x 2 matrix times a vector?"),
        Mistake("O2", "attention's own products left out",
                edit=("(layer + attention)", "layer"),
                why="the count grows with T, not with T squared",
                question="Which products in attention have no weights?"),
        Mistake("O3", "attention in proportion to T, not to T squared",
                edit=("2 * T * C ", "2 * C "),
                why="each token attends to all T tokens",
                question="How many scores are there for T tokens?"),
        Mistake("O4", "half of attention: the scores alone, or half of the square",
                edit=("2 * T * C ", "T * C "),
                why="there are two products of T x T x C multiply-adds, and a plain "
                    "product computes the masked half, too",
                question="Which products come before the softmax, and which after it?"),
        Mistake("O5", "the output head left out", edit=(" + vocab_size * C", ""),
                why="the head is the largest matrix of all",
                question="Which matrix makes the logits?"),
        Mistake("O6", "the head at the last position only",
                edit=("2 * T * (num_layers * (layer + attention) + vocab_size * C)",
                      "2 * (T * num_layers * (layer + attention) + vocab_size * C)"),
                why="a forward pass returns the logits of all positions",
                question="What is the shape of the logits?"),
        Mistake("O7", "d_ff taken to be 4C", edit=("2 * C * d_ff", "8 * C * C"),
                why="d_ff is an argument of its own",
                question="What if d_ff is not four times d_model?"),
        Mistake("O8", "one of the MLP's two matrices",
                edit=("2 * C * d_ff", "C * d_ff"),
                why="up_proj and down_proj have C x d_ff weights each",
                question="How many matrices does the feed-forward network have?"),
        Mistake("O9", "out_proj left out", edit=("4 * C * C", "3 * C * C"),
                why="after the heads are merged, one more matrix follows",
                question="What happens after the heads are merged?"),
        Mistake("O9q", "one matrix for queries, keys and values",
                edit=("4 * C * C", "2 * C * C"), why="qkv_proj is (3C, C)",
                question="How many rows does qkv_proj have?"),
        Mistake("O10", "the lookup of token embeddings counted as a product",
                edit=("vocab_size * C", "2 * vocab_size * C"),
                why="a lookup copies a row: it multiplies nothing",
                question="What does an embedding do with a token id?"),
        Mistake("O11", "a training step, not a forward pass",
                edit=("return 2 * T", "return 6 * T"), why="everything is three times "
                "as much", question="Is the backward pass asked for?"),
        Mistake("O12", "one token, not the sequence",
                edit=("return 2 * T *", "return 2 *"),
                why="every matrix multiplies each of the T tokens",
                question="How often is a weight used in a pass over T tokens?"),
        Mistake("O13", "attention in one layer only",
                edit=("num_layers * (layer + attention)",
                      "num_layers * layer + attention"),
                why="each layer has attention",
                question="What belongs inside the brackets after num_layers?"),
        Mistake("O14", "one layer only", edit=("num_layers * (layer", "(layer"),
                why="the number of layers changes nothing",
                question="Where is num_layers used?"),
    ),
    hints=("Write down the shapes of the matrices in one layer. How often is each "
           "weight used in a pass over T tokens?",
           "Attention has two products without weights: T x T scores, and averages "
           "with T x T weights.",
           "2 * T * (num_layers * (4CC + 2C d_ff + 2TC) + VC)"),
    solution=_COUNT_FLOPS)

# --- the roofline ---------------------------------------------------------------------

_ROOFLINE = """\
def roofline(flops, bytes, peak_flops, bandwidth):
    return max(flops / peak_flops, bytes / bandwidth)"""
_BODY = "max(flops / peak_flops, bytes / bandwidth)"


def roof_probes(g: Generator) -> list[Probe]:
    """Return steps on both sides of the ridge, and at it."""
    cases = {"memory-bound": (12.0, 90.0, 4.0, 10.0),
             "compute-bound": (90.0, 12.0, 4.0, 10.0),
             "at the ridge": (8.0, 20.0, 4.0, 10.0),
             "a token of GPT-2 small": (247e6, 494e6, 100e9, 20e9),
             "1,024 tokens of GPT-2 small": (291.6e9, 494e6, 100e9, 20e9),
             "nothing to compute": (0.0, 5.0, 4.0, 10.0),
             "other numbers": tuple((1 + torch.rand(4, generator=g)).tolist())}
    return [Probe(name, case, as_number) for name, case in cases.items()]


def read_roof(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what happens if one of the two is 0, and if both take 1 second."""
    clues = []
    for name, case in {"10 operations at 2 a second, and no bytes": (10, 0, 2, 7),
                       "no operations, and 21 bytes at 7 a second": (0, 21, 2, 7),
                       "10 operations at 2 and 21 bytes at 7 a second": (10, 21, 2, 7),
                       "4 operations at 2 and 21 bytes at 7 a second": (4, 21, 2, 7),
                       }.items():
        value = run(Probe("clue", tuple(map(float, case)), as_number)).value
        right = roofline.reference(*case)
        if isinstance(value, int | float) and abs(value - right) > 1e-6:
            clues.append(Clue(name, f"{name}: {value:.4g} s, expected {right:.4g}"))
    return clues


roofline = Exercise(
    "roofline", "13", "roofline(flops, bytes, peak_flops, bandwidth) -> seconds",
    make_probes=roof_probes, read_out=read_roof, show="memory-bound", atol=1e-9,
    mistakes=(
        Mistake("R1", "the sum of the two times",
                edit=(_BODY, "flops / peak_flops + bytes / bandwidth"),
                why="a processor reads while it computes",
                question="Do the two happen one after the other?"),
        Mistake("R2", "the smaller of the two times", edit=("max(", "min("),
                why="the step is over when the slower one is",
                question="If computing takes 1 s and reading 9 s, when is it done?"),
        Mistake("R3", "the two limits exchanged",
                edit=(_BODY, "max(flops / bandwidth, bytes / peak_flops)"),
                why="operations are divided by bytes a second",
                question="In what unit is flops / bandwidth?"),
        Mistake("R4", "both fractions upside down",
                edit=(_BODY,
                      "max(peak_flops / flops, bandwidth / bytes) if flops else 0"),
                why="more work would take less time",
                question="In what unit is peak_flops / flops?"),
        Mistake("R5", "operations a second, not seconds",
                edit=(_BODY, "min(peak_flops, bandwidth * flops / bytes)"),
                why="that is the height of the roof, not the time under it",
                question="Is a speed asked for, or a time?"),
        Mistake("R6", "the operations alone", edit=(_BODY, "flops / peak_flops"),
                why="the bytes cost nothing", question="What if memory is slow?"),
        Mistake("R7", "the bytes alone", edit=(_BODY, "bytes / bandwidth"),
                why="the operations cost nothing",
                question="What if there are many operations for each byte?"),
        Mistake("R8", "bits, not bytes",
                edit=("bytes / bandwidth", "8 * bytes / bandwidth"),
                why="both are given in bytes",
                question="What is the unit of bandwidth?"),
        Mistake("R9", "milliseconds, not seconds", edit=(_BODY, f"1000 * {_BODY}"),
                why="a thousand times too long", question="Which unit is asked for?"),
    ),
    hints=("Two times: how long would the operations take alone, and the bytes alone?",
           "Reading and computing overlap. Which of the two decides?",
           f"return {_BODY}"),
    solution=_ROOFLINE)

# --- int8 -----------------------------------------------------------------------------

_QUANTIZE_ROWS = """\
def quantize_rows(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127
    scale = scale.clamp(min=1e-12)                   # a row of zeros
    return (weight / scale).round().to(torch.int8), scale"""


def row_probes(g: Generator) -> list[Probe]:
    """Return matrices with rows of different sizes, square, negative, of zeros."""
    def made(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=g)

    sizes = torch.tensor([[0.01], [1.0], [30.0]])
    zeros = made(3, 4)
    zeros[1] = 0
    return [Probe("a row", (torch.tensor([[1.27, -0.5, 0.024]]),)),
            Probe("rows of different size", (sizes * made(3, 5),)),
            Probe("as many rows as columns", (sizes * made(3, 3),)),
            Probe("the largest is negative", (-made(4, 6).abs(),)),
            Probe("a row of zeros", (zeros,), with_zeros),
            Probe("many", (0.02 * made(20, 50),))]


def read_rows(run: RunProbe, g: Generator) -> list[Clue]:
    """Return types, ranges, and how far the weights are from integers times scales."""
    weight = torch.randn(4, 9, generator=g) * torch.tensor([[0.1], [1], [5], [20.0]])
    value = run(Probe("clue", (weight,))).value
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(
            isinstance(one, Tensor) for one in value)):
        return [Clue("two", "expected two tensors: the integers, and the scales")]
    integers, scale = value
    if integers.shape != weight.shape or scale.shape != (4, 1):
        return [Clue("shapes", "for a weight (4, 9) your results have the shapes "
                     f"{tuple(integers.shape)} and {tuple(scale.shape)}; expected "
                     "(4, 9) and (4, 1)")]
    clues, top = [], integers.double().abs().amax(1)
    if (top != 127).any():
        clues.append(Clue("range", "the largest integer of each row is "
                          f"{', '.join(f'{one:g}' for one in top)}; expected 127"))
    off = ((integers.double() * scale - weight).abs() / scale.abs()).max().item()
    if not off <= 0.501:
        clues.append(Clue("off", "integers times scale differ from the weights by up "
                          f"to {off:.3g} scales; expected 0.5 at most"))
    right = quantize_rows.reference(weight)[1]
    if not torch.allclose(scale.double(), right.double(), rtol=1e-4):
        told = [[f"{x:.4g}" for x in one.flatten().tolist()] for one in (scale, right)]
        clues.append(Clue("scale", f"the scales are {', '.join(told[0])}; expected "
                          f"{', '.join(told[1])}"))
    return clues


_AMAX = "weight.abs().amax(1, keepdim=True)"
quantize_rows = Exercise(
    "quantize_rows", "13",
    "quantize_rows(weight) -> integers (out, in), scale (out, 1)",
    make_probes=row_probes, read_out=read_rows, show="a row",
    mistakes=(
        Mistake("Q1", "one scale for the whole matrix",
                edit=(_AMAX, "weight.abs().amax().expand(len(weight), 1)"),
                why="small rows get only a few integers",
                question="How many scales does a matrix of three rows need?"),
        Mistake("Q2", "a scale for each column, not for each row",
                edit=(".amax(1, keepdim=True)", ".amax(0, keepdim=True)"),
                why="the scale of a column can't be applied after the product",
                question="Along which axis is the largest weight of a row?"),
        Mistake("Q3", "divided by 128", edit=("/ 127", "/ 128"),
                why="int8 ends at 127: the largest weight would be 128",
                question="What is the largest number in int8?"),
        Mistake("Q3b", "divided by 255", edit=("/ 127", "/ 255"),
                why="int8 goes from -128 to 127, not from 0 to 255",
                question="What is the largest number in int8?"),
        Mistake("Q4", "truncated, not rounded", edit=(".round()", ""),
                why="integers are wrong by up to 1, always towards 0",
                question="What does .to(torch.int8) do with 2.9?"),
        Mistake("Q5", "rounded down", edit=(".round()", ".floor()"),
                why="all weights become a little smaller",
                question="What should become of 2.9?"),
        Mistake("Q6", "the largest weight, not the largest absolute value",
                edit=("weight.abs().amax", "weight.amax"),
                why="a row whose largest weight is negative does not fit",
                question="Which weight of -3, 1, 2 must become 127 or -127?"),
        Mistake("Q7", "a row of zeros gets the scale 0",
                edit=("    scale = scale.clamp(min=1e-12)                   # a row of "
                      "zeros\n", ""), why="0 / 0 is nan",
                question="What is your scale for a row of zeros?"),
        Mistake("Q8", "the inverse of the scale returned", edit=("int8), scale",
                                                                "int8), 1 / scale"),
                why="integers times scale must be the weights",
                question="What do you multiply the integers by, to get the weights?"),
        Mistake("Q9", "scales of shape (out,), not (out, 1)",
                edit=("int8), scale", "int8), scale[:, 0]"),
                why="integers * scale would multiply columns",
                question="What is the shape of your scales?"),
        Mistake("Q10", "integers stored as floats", edit=(".to(torch.int8)", ""),
                why="no bytes are saved",
                question="What is the type of your integers?"),
        Mistake("Q11", "the dequantised weights, not the integers",
                edit=("(weight / scale).round().to(torch.int8)",
                      "(weight / scale).round() * scale"),
                why="they take as many bytes as before",
                question="What is to be stored?"),
        Mistake("Q12", "the mean of the absolute weights, not the largest",
                edit=(".amax(1, keepdim=True)", ".mean(1, keepdim=True)"),
                why="larger weights don't fit into int8",
                question="Which weight must become 127?"),
        Mistake("Q13", "the largest weight becomes 1, not 127", edit=(" / 127", ""),
                why="every weight becomes -1, 0 or 1",
                question="Which integers do you use?"),
    ),
    crashes=((r"size of tensor a", "keep the axis of the rows: amax(1, keepdim=True) "
              "is (out, 1)"),),
    hints=("The largest absolute weight of a row must become 127. By what do you "
           "divide?",
           "scale = weight.abs().amax(1, keepdim=True) / 127; and what about a row of "
           "zeros?",
           "(weight / scale.clamp(min=1e-12)).round().to(torch.int8)"),
    solution=_QUANTIZE_ROWS)

# --- the answers that are values ------------------------------------------------------


def _times(one: float, eight: float, many: float, int8: float) -> dict:
    return {"float32": one, "float32, batch 8": eight, "float32, batch 64": many,
            "int8": int8}


_RIGHT = _times(56.6, 56.6, 226, 14.1)


def _prediction(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question,
                   "write down operations and bytes of each step", fix)


_HALF = _prediction("S1", "a multiply-add counted as one operation",
                    "64 tokens need twice as many operations",
                    "How many operations does each weight need?",
                    "226 ms for the batch of 64")
_SUM = _prediction("S2", "the sum of the two times, not the larger",
                   "reading and computing overlap", "Which of the two decides?",
                   "max, not +")
_EACH = _prediction("S3", "the weights read once for each text",
                    "a batch reads them once", "How often does a weight arrive from "
                    "memory in one step?", "as long as for one text")
_NO_HEAD = _prediction("S4", "the output head left out", "it has 51 million weights",
                       "Which matrix makes the logits?",
                       "24 * 12 * 1024² + 50257 * 1024")
_FREE = _prediction("S5", "a batch of 64 for the price of one",
                    "its operations take longer than its bytes",
                    "How long would the operations alone take?", "226 ms")

_LOGS = {"A": "right", "B": "no warm-up", "C": "not in turn", "D": "GPU not waited for",
         "E": "right", "F": "other work inside"}
_WORDS = sorted(set(_LOGS.values()))


def _log(id: str, wrong: dict[str, str], name: str, why: str, question: str) -> tuple:
    fix = ", ".join(f"{log}: {_LOGS[log]}" for log in wrong)
    return wrong, Mistake(id, name, why, question, "follow the log call by call", fix)


# Measured on the shipped story model; tests/checks/test_speed.py repeats it.
_LOSSES = {"8 bits": 0.1347, "4 bits": 0.1396, "3 bits": 0.2267,
           "4 bits, one scale": 0.1579}


def _losses(*values: float) -> dict:
    return dict(zip(_LOSSES, values, strict=True))


_COLUMNS = Mistake("S20", "a scale for each column, not for each row",
                   "a column's weights belong to different outputs",
                   "Along which axis does your amax go?", "look at amax",
                   "weight.abs().amax(1, keepdim=True)")
_POSITIONS = Mistake("S21", "the position embeddings rounded, too",
                     "they are only added: leave them as they are",
                     "Which of the matrices multiplies nothing?",
                     "look at the names of the parameters", 'name != "pos_emb.weight"')
_NOT_HEAD = Mistake("S22", "the embedding matrix left as it was",
                    "it is the output head, the matrix of the logits",
                    "Which parameter makes the logits?",
                    "look at the names of the parameters",
                    'every matrix but "pos_emb.weight"')
_ONE_MORE = Mistake("S23", "one integer too many: up to 8 with 4 bits, not up to 7",
                    "with b bits the integers go up to 2^(b-1) - 1",
                    "What is the largest integer with 4 bits?",
                    "look at the power of 2", "2 ** (bits - 1) - 1")

ANSWERS = (
    Answer("13.1", "the milliseconds of four steps", _RIGHT, rtol=0.05,
           precision="5% is", predict=True,
           wrong=((_times(56.6, 56.6, 113, 14.1), _HALF),
                  (_times(60.1, 84.8, 282.8, 17.7), _SUM),
                  (_times(56.6, 452, 3619, 14.1), _EACH),
                  (_times(48.3, 48.3, 193, 12.1), _NO_HEAD),
                  (_times(56.6, 56.6, 56.6, 14.1), _FREE)),
           hints=("How many weights multiply each token? How many bytes are they, and "
                  "how many operations do they make?",
                  "353 million weights. 25 billion bytes a second, 200 billion "
                  "operations a second; and 64 texts share the bytes.",
                  "float32: 4 * 353e6 / 25e9 s = 56.6 ms; for 64 texts: 64 * 2 * 353e6 "
                  "/ 200e9 s = 226 ms"),
           solution='predicted = {"float32": 56.6, "float32, batch 8": 56.6,\n'
                    '             "float32, batch 64": 226, "int8": 14.1}'),
    Answer("13.4", "what is wrong in each of six measurements", _LOGS,
           wrong=(_log("S10", {"A": "no warm-up"}, "the calls at the start of log A "
                       "not seen", "f and g are called once before the first clock",
                       "What happens before the first clock?"),
                  _log("S11", {"B": "right"}, "the missing warm-up of B not seen",
                       "the very first call is measured",
                       "What happens before the first clock?"),
                  _log("S12", {"C": "right"}, "C's order not seen",
                       "all measurements of f come before all of g",
                       "If the machine gets slower, does that affect both alike?"),
                  _log("S13", {"D": "right"}, "D's last wait comes after the clock",
                       "the clock is read while the GPU still works",
                       "What has the GPU done when the clock is read?"),
                  _log("S14", {"E": "GPU not waited for"}, "E's waits not seen",
                       "each clock follows a wait",
                       "Is there a wait before each clock?"),
                  _log("S15", {"F": "right"}, "the loading in F not seen",
                       "reading the text counts as the model's time",
                       "What happens between the two clocks?")),
           hints=("What happens between a pair of clocks is what is measured. What "
                  "happened before?",
                  "On a GPU a call returns before the work is done, and wait after it.",
                  f"Choose among {', '.join(_WORDS)}: two are right."),
           solution='answer = {"A": "right", "B": "no warm-up", "C": "not in turn",\n'
                    '          "D": "GPU not waited for", "E": "right",\n'
                    '          "F": "other work inside"}'),
    Answer("13.5", "the story model's loss with rounded weights", _LOSSES, rtol=0.006,
           precision="three decimals are",
           wrong=((_losses(0.1345, 0.1415, 0.2383, 0.1579), _COLUMNS),
                  (_losses(0.1347, 0.1396, 0.2598, 0.1600), _POSITIONS),
                  (_losses(0.1345, 0.1347, 0.1646, 0.1519), _NOT_HEAD),
                  (_losses(0.1345, 0.1388, 0.1519, 0.1537), _ONE_MORE)),
           hints=("Begin with 8 bits: the loss should hardly change.",
                  "For one scale: matrix.abs().max() / most, not a row's maximum.",
                  "most = 2 ** (bits - 1) - 1; scale = matrix.abs().amax(1, "
                  "keepdim=True) / most"),
           solution="def rounded(matrix, bits):\n"
                    "    most = 2 ** (bits - 1) - 1\n"
                    "    scale = matrix.abs().amax(1, keepdim=True) / most\n"
                    "    return (matrix / scale).round() * scale"),
)
