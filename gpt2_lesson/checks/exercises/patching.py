"""Lesson 12: patching one head's output, and attributing a logit difference."""

import torch
from torch import Generator

from gpt2_lesson.checks.exercise import EdgeCase, Exercise, Mistake
from gpt2_lesson.checks.probing import Probe

# --- patch_head -----------------------------------------------------------------------

_PATCH_HEAD = """\
def patch_head(x, values, positions, head, num_heads):
    size = x.size(-1) // num_heads
    channels = slice(head * size, (head + 1) * size)
    result = x.clone()
    result[:, positions, channels] = values[:, positions, channels]
    return result"""

_LINE = "result[:, positions, channels] = values[:, positions, channels]"
_Q_WHERE = "Which positions were asked for?"
_Q_SLICE = "Head 2 of heads with 4 channels each: which channels are its own?"
_Q_RUNS = "Which run should be changed, and which one does the patch come from?"


def _patches(g: Generator) -> list[Probe]:
    """Return heads at both ends and in the middle, one position and several."""
    def two(*shape: int) -> tuple[torch.Tensor, ...]:
        return torch.randn(shape, generator=g), torch.randn(shape, generator=g)

    sizes = {"B": 2, "T": 5, "C": 12}
    x = torch.arange(12.0).expand(1, 3, 12)
    return [Probe("1 text of 3 tokens, head 1 of 3", (x, -x, [2], 1, 3)),
            Probe("head 0 of 3, positions 1 and 3",
                  (*two(2, 5, 12), [1, 3], 0, 3), sizes=sizes),
            Probe("head 2 of 3, the last position",
                  (*two(2, 5, 12), [4], 2, 3), sizes=sizes),
            Probe("head 1 of 4, positions 0, 1 and 2",
                  (*two(2, 5, 12), [0, 1, 2], 1, 4), sizes=sizes),
            Probe("one head only", (*two(3, 4, 6), [2], 0, 1)),
            Probe("one text, one position", (*two(1, 4, 6), [1], 1, 2)),
            Probe("no position", (*two(2, 3, 6), [], 1, 2))]


_PATCH_MISTAKES = (
    Mistake("Q1", "every position patched, whatever `positions` contains",
            edit=(_LINE, "result[..., channels] = values[..., channels]"),
            why="positions that were not asked for change, too", question=_Q_WHERE),
    Mistake("Q2", "all channels patched, not only those of the head",
            edit=(_LINE, "result[:, positions] = values[:, positions]"),
            why="the other heads' outputs change, too", question=_Q_SLICE),
    Mistake("Q3", "the channels of the head taken in steps: head, head + H, ...",
            edit=("slice(head * size, (head + 1) * size)",
                  "slice(head, None, num_heads)"),
            why="heads are concatenated, so each has a block of channels",
            question=_Q_SLICE),
    Mistake("Q4", "num_heads mistaken for the size of a head",
            edit=("x.size(-1) // num_heads", "num_heads"),
            why="right only where C is the square of num_heads",
            question="For C = 12 and 3 heads: how many channels does a head have?"),
    Mistake("Q5", "heads counted from 1",
            edit=("slice(head * size, (head + 1) * size)",
                  "slice((head - 1) * size, head * size)"),
            why="the channels are those of the head before", question=_Q_SLICE),
    Mistake("Q5n", "the next head's channels",
            edit=("slice(head * size, (head + 1) * size)",
                  "slice((head + 1) * size, (head + 2) * size)"),
            why="the channels are those of the head after", question=_Q_SLICE),
    Mistake("Q5o", "one channel too many",
            edit=("(head + 1) * size)", "(head + 1) * size + 1)"),
            why="the first channel of the next head changes, too", question=_Q_SLICE),
    Mistake("Q5a", "all channels up to the head, not only its own",
            edit=("slice(head * size,", "slice(0,"),
            why="the outputs of the heads before it change, too", question=_Q_SLICE),
    Mistake("Q5z", "all channels from the head on, not only its own",
            edit=("(head + 1) * size)", "None)"),
            why="the outputs of the heads after it change, too", question=_Q_SLICE),
    Mistake("Q6", "the two runs exchanged: values returned, with x patched in",
            edit=[("x.clone()", "values.clone()"),
                  ("= values[:, positions", "= x[:, positions")],
            why="what should be patched in is everywhere else", question=_Q_RUNS),
    Mistake("Q7", "right, but x itself is changed (no clone)", edit=(".clone()", ""),
            why="the caller's x is not the same after the call",
            question="Who else may still need x?"),
    Mistake("Q8", "nothing is patched: the assignment changes a copy",
            edit=(_LINE, "result[:, positions][..., channels] = "
                         "values[:, positions][..., channels]"),
            why="a list as an index makes a copy, and the copy is thrown away",
            question="Does x[:, [1, 3]] return a view, or a copy?"),
    Mistake("Q9", "zeros patched in: that is an ablation",
            edit=("= values[:, positions, channels]", "= 0"),
            why="the values of the other run are never used", question=_Q_RUNS),
    Mistake("Q10", "values added to the old activation, which they should replace",
            edit=("channels] = values", "channels] += values"),
            why="a patch replaces an activation",
            question="What should be left of the old activation?"),
    Mistake("Q11", "the first positions of `values`, not the same positions",
            edit=("values[:, positions, channels]",
                  "values[:, :len(positions), channels]"),
            why="an activation is patched at the position that it comes from",
            question="From which position of the other run does each patch come?"),
    Mistake("Q12", "only the first text is patched",
            edit=(_LINE, "result[0, positions, channels] = "
                         "values[0, positions, channels]"),
            why="the other texts of the batch stay as they were",
            question="How many texts does x contain?"),
    Mistake("Q13", "only the first of the positions is patched",
            edit=(_LINE, "result[:, positions[:1], channels] = "
                         "values[:, positions[:1], channels]"),
            why="the other positions stay as they were", question=_Q_WHERE),
    Mistake("Q13l", "everything from the first to the last position is patched",
            edit=(_LINE, "between = slice(min(positions, default=0), "
                         "max(positions, default=-1) + 1)\n"
                         "    result[:, between, channels] = "
                         "values[:, between, channels]"),
            why="positions in between change, too", question=_Q_WHERE),
    Mistake("Q14", "the mean of both runs, not the value of the other",
            edit=("= values[:, positions, channels]",
                  "= (x + values)[:, positions, channels] / 2"),
            why="half of the old activation is left",
            question="What should be left of the old activation?"),
    Mistake("Q15", "only the patched part is returned",
            edit=("return result", "return result[:, positions, channels]"),
            why="the model needs all positions and channels",
            question="Which shape does the next layer expect?"),
    Mistake("Q16", "all positions are patched except those asked for",
            edit=(_LINE, "others = [t for t in range(x.size(1)) "
                         "if t not in positions]\n"
                         "    result[:, others, channels] = "
                         "values[:, others, channels]"),
            why="exactly the wrong positions change", question=_Q_WHERE),
)

patch_head = Exercise(
    "patch_head", "12",
    "patch_head(x, values, positions, head, num_heads) -> (B, T, C)",
    make_probes=_patches, mistakes=_PATCH_MISTAKES,
    show="1 text of 3 tokens, head 1 of 3",
    axes={"x": "B T C", "values": "B T C", "": "B T C"},
    crashes=((r"shape mismatch|expanded size|must match|broadcast",
              "both sides of the assignment need the same positions and channels: "
              "(B, number of positions, C / H)"),
             (r"not an integer|slice indices",
              "C / num_heads is a float: // gives a whole number")),
    hints=("Which channels belong to the head, and which positions to the patch? All "
           "other numbers stay as they are.",
           "For C = 12 and 3 heads, head 1 has the channels 4 to 7: slice(4, 8).",
           "result[:, positions, channels] = values[:, positions, channels]"),
    solution=_PATCH_HEAD)

# --- attribution ----------------------------------------------------------------------

_ATTRIBUTION = """\
def attribution(parts, right, wrong, tok_emb, weight, eps=1e-5):
    x = parts.sum(0)
    std = (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    centred = parts - parts.mean(-1, keepdim=True)
    towards = tok_emb[right] - tok_emb[wrong]
    return (centred / std * weight * towards).sum(-1)"""

_Q_STD = "Of which vector does the final norm compute the standard deviation?"
_Q_LOGITS = "The logit difference is the right token's logit minus which other one?"
_Q_AXIS = "Which axis of (P, B, C) do the channels of a dot product belong to?"


def _terms(g: Generator) -> list[Probe]:
    """Return sums of parts of several sizes, and a norm with a weight of its own."""
    def case(P: int, B: int, C: int, V: int, scale: float = 1.0, eps: float = 1e-5):
        parts = scale * (torch.randn(P, B, C, generator=g)
                         + torch.randn(P, 1, 1, generator=g))
        ids = torch.stack([torch.randperm(V, generator=g)[:2] for _ in range(B)])
        return (parts, ids[:, 0], ids[:, 1], torch.randn(V, C, generator=g),
                1 + torch.rand(C, generator=g), eps)

    even = torch.tensor([[[3.0, 1, 0, 0]], [[0.0, 0, 1, 3]]])
    table = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 1]])
    return [Probe("two parts, by hand", (even, torch.tensor([0]), torch.tensor([1]),
                                         table, torch.ones(4), 1e-5)),
            Probe("5 parts, 3 texts, 8 channels", case(5, 3, 8, 7),
                  sizes={"P": 5, "B": 3, "C": 8, "V": 7}),
            Probe("one part only", case(1, 2, 6, 5)),
            Probe("one text", case(4, 1, 6, 5)),
            Probe("parts of standard deviation 20", case(4, 2, 8, 6, scale=20)),
            Probe("small parts, eps = 0.5", case(4, 2, 8, 6, scale=0.3, eps=0.5))]


_ATTRIBUTION_MISTAKES = (
    Mistake("D1", "each part normalised on its own",
            edit=("(x.var(-1", "(parts.var(-1"),
            why="the parts no longer sum to the logit difference", question=_Q_STD),
    Mistake("D2", "not divided by the standard deviation",
            edit=("centred / std", "centred"),
            why="the final norm divides the residual stream, and so each part of it",
            question="What does the final norm do to the residual stream?"),
    Mistake("D2v", "divided by the variance, not by its root", edit=(".sqrt()", ""),
            why="right only where the variance is 1", question=_Q_STD),
    Mistake("D2n", "divided by the norm of the residual stream",
            edit=("(x.var(-1, correction=0, keepdim=True) + eps).sqrt()",
                  "x.norm(dim=-1, keepdim=True)"),
            why="the norm of C numbers is about sqrt(C) times as large",
            question=_Q_STD),
    Mistake("D3", "the mean of each part is not subtracted",
            edit=("parts - parts.mean(-1, keepdim=True)", "parts"),
            why="a part that adds the same number to all channels seems to contribute",
            question="What is left, after a layer norm, of a number that is added to "
                     "all channels?"),
    Mistake("D3x", "the mean of the whole residual stream subtracted from each part",
            edit=("parts.mean(-1", "x.mean(-1"),
            why="with P parts the mean is subtracted P times",
            question="Whose mean should be subtracted from a part, so that the parts "
                     "still sum to the centred residual stream?"),
    Mistake("D4", "the weight of the norm is not used", edit=(" * weight", ""),
            why="right only where the weight is 1",
            question="What does a layer norm multiply each channel by?"),
    Mistake("D4d", "divided by the norm's weight", edit=("* weight", "/ weight"),
            why="right only where the weight is 1",
            question="What does a layer norm multiply each channel by?"),
    Mistake("D5", "the logit of the right token alone",
            edit=("tok_emb[right] - tok_emb[wrong]", "tok_emb[right]"),
            why="the wrong token makes no difference", question=_Q_LOGITS),
    Mistake("D5w", "the logit of the wrong token alone",
            edit=("tok_emb[right] - tok_emb[wrong]", "tok_emb[wrong]"),
            why="the right token makes no difference", question=_Q_LOGITS),
    Mistake("D6", "wrong minus right", edit=("tok_emb[right] - tok_emb[wrong]",
                                             "tok_emb[wrong] - tok_emb[right]"),
            why="every sign is the opposite of the expected one", question=_Q_LOGITS),
    Mistake("D6p", "the two logits added, not subtracted",
            edit=("tok_emb[right] - tok_emb", "tok_emb[right] + tok_emb"),
            why="a part that raises both logits seems to contribute",
            question=_Q_LOGITS),
    Mistake("D7", "the unbiased variance (divided by C - 1)",
            edit=(", correction=0", ""), why="too small by a factor of sqrt(1 - 1/C)",
            question="Which variance does layer norm use?"),
    Mistake("D8", "no eps", edit=(" + eps", ""),
            why="right unless the variance is small",
            question="What does layer norm add to the variance?"),
    Mistake("D8o", "eps outside the root", edit=("+ eps).sqrt()", ").sqrt() + eps"),
            why="right unless the variance is small",
            question="What is eps added to: the variance or its square root?"),
    Mistake("D9", "one standard deviation for the whole batch",
            edit=("x.var(-1, correction=0, keepdim=True)", "x.var(correction=0)"),
            why="right for a batch of one text", question=_Q_STD),
    Mistake("D9f", "the standard deviation of the first part alone",
            edit=("(x.var(-1", "(parts[0].var(-1"),
            why="the norm sees the sum of all parts", question=_Q_STD),
    Mistake("D9m", "the standard deviation of the mean of the parts, not of their sum",
            edit=("parts.sum(0)", "parts.mean(0)"),
            why="with P parts the result is P times too large", question=_Q_STD),
    Mistake("D10", "summed over the parts, not over the channels",
            edit=(".sum(-1)", ".sum(0)"),
            why="the result is (B, C): how much each channel adds", question=_Q_AXIS),
    Mistake("D10a", "summed over everything but the texts",
            edit=(".sum(-1)", ".sum((0, -1))"),
            why="the result is the whole logit difference, (B,)", question=_Q_AXIS),
    Mistake("D10m", "the mean over the channels, not the sum",
            edit=(".sum(-1)", ".mean(-1)"), why="too small by a factor of C",
            question="Is a logit a sum, or a mean?"),
    Mistake("D11", "fractions: divided by the whole logit difference",
            edit=("    return (centred / std * weight * towards).sum(-1)",
                  "    found = (centred / std * weight * towards).sum(-1)\n"
                  "    return found / found.sum(0)"),
            why="the parts sum to 1, not to the logit difference",
            question="What should the contributions sum to?"),
    Mistake("D12", "the absolute values of the contributions",
            edit=("towards).sum(-1)", "towards).sum(-1).abs()"),
            why="a part that speaks for the wrong token gets a positive number",
            question="Can a part lower the logit difference?"),
    Mistake("D13", "texts and parts exchanged: (B, P)",
            edit=("towards).sum(-1)", "towards).sum(-1).T"),
            why="the numbers are right, but transposed",
            question="Which axis comes first in the contract?"),
)

attribution = Exercise(
    "attribution", "12",
    "attribution(parts, right, wrong, tok_emb, weight, eps=1e-5) -> (P, B)",
    make_probes=_terms, mistakes=_ATTRIBUTION_MISTAKES, show="two parts, by hand",
    axes={"parts": "P B C", "tok_emb": "V C", "": "P B"},
    edge_cases=(EdgeCase("it fails in half precision",
                         lambda g: Probe("half precision",
                                         tuple(one.half() if torch.is_tensor(one)
                                               and one.is_floating_point() else one
                                               for one in _terms(g)[1].args))),),
    crashes=((r"size of tensor a|must match",
              "parts are (P, B, C), the standard deviation is (B, 1), and "
              "tok_emb[right] is (B, C)"),
             (r"index out of range|out of bounds",
              "right and wrong are token ids (B,): they choose rows of tok_emb")),
    hints=("The final norm subtracts the mean, divides by the standard deviation and "
           "multiplies by the weight. Which of these steps can be done for each part "
           "separately, and which needs the sum of all parts?",
           "Check that the contributions of all parts sum to the logit difference of "
           "the whole residual stream.",
           "(centred / std * weight * (tok_emb[right] - tok_emb[wrong])).sum(-1)"),
    solution=_ATTRIBUTION)
