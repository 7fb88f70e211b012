"""Lesson 07: embeddings, the whole model, its count (catalogue: E, W)."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gpt2_lesson.checks.compare import equal, tensors
from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.fakes import whole_model as whole
from gpt2_lesson.checks.probing import Probe, Value, gradients, observe
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock

# --- the right answers ----------------------------------------------------------------

_EMBED = """\
def embed(input_ids, tok_emb, pos_emb):
    B, T = input_ids.shape
    tokens = tok_emb[input_ids]                                  # (B, T, C)
    positions = pos_emb[:T]                                      # (T, C)
    return tokens + positions"""

_GPT2 = """\
class GPT2(nn.Module):
    def __init__(self, vocab_size, d_model, num_heads, num_layers, max_seq_length,
                 d_ff):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, d_model)
        self.pos_emb = nn.Embedding(max_seq_length, d_model)
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, num_heads, d_ff) for _ in range(num_layers))
        self.ln_final = LayerNorm(d_model)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif name.endswith(("out_proj.weight", "down_proj.weight")):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * num_layers))
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, input_ids):
        T = input_ids.size(1)
        x = self.tok_emb(input_ids) + self.pos_emb.weight[:T]    # (B, T, C)
        for block in self.blocks:
            x = block(x)
        x = self.ln_final(x)
        logits = F.linear(x, self.tok_emb.weight)                # (B, T, V)
        return logits"""

_COUNT_PARAMETERS = """\
def count_parameters(model):
    return sum(p.numel() for p in model.parameters())"""


def waves(length: int, width: int) -> Tensor:
    """Return the sines and cosines of the first transformer, (length, width)."""
    place = torch.arange(length)[:, None].float()
    angles = place / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


# --- probes, and what can be read out when nothing matches ----------------------------


def embed_probes(g: Generator) -> list[Probe]:
    """Return the probes: sizes different, B = T, T full, ids repeated, T = 1."""
    def tables(V: int, length: int, C: int) -> tuple[Tensor, Tensor]:
        return (torch.randn(V, C, generator=g), torch.randn(length, C, generator=g))

    def ids(V: int, B: int, T: int) -> Tensor:
        return torch.randint(V, (B, T), generator=g)

    return [
        Probe("B, T, C, V, P all different", (ids(11, 2, 5), *tables(11, 8, 6)),
              sizes={"B": 2, "T": 5, "C": 6, "2C": 12}),
        Probe("T is the full length of pos_emb", (ids(11, 2, 6), *tables(11, 6, 4))),
        Probe("B = T", (ids(11, 4, 4), *tables(11, 9, 6))),
        Probe("one token, three times, V < P", (torch.full((3, 4), 2),
                                                *tables(5, 7, 4))),
        Probe("T = 1", (ids(11, 3, 1), *tables(11, 5, 4))),
        Probe("T is the length, B = 1", (ids(4, 1, 5), *tables(4, 5, 6))),
        Probe("gradients", (ids(7, 2, 4), *tables(7, 6, 4)), gradients),
    ]


def embed_read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what a position holds, read with tables whose rows can't be confused."""
    V, L = 5, 6
    ids = torch.tensor([[3, 1, 3, 0]])
    rows = torch.eye(V + L)
    seen = run(Probe("unit rows", (ids, rows[:V], rows[V:]))).value
    if not isinstance(seen, Tensor) or seen.shape != (1, 4, V + L):
        return []
    texts = []
    for t in (0, 2):
        parts = [f"{value:.3g} x {'token' if i < V else 'position'} row "
                 f"{i if i < V else i - V}" for i, value in enumerate(
                     seen[0, t].tolist()) if abs(value) > 1e-5]
        texts.append(" + ".join(parts) or "nothing")
    return [Clue("rows", f"read with the ids 3, 1, 3, 0: at position 0 your result is "
                 f"{texts[0]}, and at position 2 it is {texts[1]}; expected 1 x "
                 "tok_emb row 3 + 1 x pos_emb row of the position")]


def model_probes(g: Generator) -> list[Probe]:
    """Return the probes: tiny models, each asked for one kind of fact."""
    def pick(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=g))]

    sizes = (pick(17, 19, 23), 12, pick(2, 4), 3, pick(7, 10), pick(20, 28))
    V, C, _, _, T, _ = sizes
    ids = torch.randint(V, (3, 6), generator=g)
    full = torch.randint(V, (2, T), generator=g)
    case, fresh = (sizes, ids), torch.randint(61, (4, 30), generator=g)
    return [
        Probe("the number of parameters", (case,), whole.parameter_count),
        Probe("logits for given weights", (case,), whole.filled_logits,
              {"B": 3, "T": 6, "V": V, "C": C}),
        Probe("T is max_seq_length", ((sizes, full),), whole.filled_logits),
        Probe("one step of training", (case,), whole.one_step),
        Probe("embeddings ten times as large", (case,), whole.larger_stream),
        Probe("which token moves which outputs", (case,), whole.who_moves),
        Probe("saved and loaded", (case,), whole.saved_and_loaded),
        Probe("initial weights", (((61, 32, 2, 8, 40, 80), fresh),),
              whole.initial_weights),
    ]


def model_read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which facts differ: the count in parts, each fact, where logits part."""
    probes, found = model_probes(g), []
    for probe in probes:
        seen, wanted = run(probe), observe(GPT2.reference, probe)
        if not seen.error and not seen.repeats and wanted.repeats:
            return [Clue("draws", "in eval mode your model still uses random numbers: "
                         "nn.Dropout stops by itself, F.dropout needs "
                         "training=self.training")]
        if seen.error or equal(seen.value, wanted.value, 1e-5, 1e-4):
            continue
        if probe.adapter is whole.parameter_count:
            found += _count_in_parts(probe.args[0][0], seen.value, wanted.value)
        elif isinstance(wanted.value, dict) and isinstance(seen.value, dict):
            found += [Clue(f"fact {key}", f"{probe.name}: "
                           f"{key} is {seen.value[key]}, expected {value}"
                           if seen.value.get(key) is not None else
                           f"{probe.name}: no {key.rpartition(' of ')[2]} of the "
                           "expected shape was found")
                      for key, value in wanted.value.items()
                      if seen.value.get(key) != value]
        elif probe.adapter is whole.who_moves:
            found += _leaks(seen.value)
        elif probe.adapter is whole.larger_stream:
            found.append(Clue("growth", "embeddings ten times as large make your "
                              f"logits {seen.value:g} times as large, expected 10: "
                              "the last norm should take the residual stream's size "
                              "away"))
    return [*found[:2], *_where(run, probes[1])]


def _count_in_parts(sizes: tuple, mine: Value, right: int) -> list[Clue]:
    """Return what the difference of two counts is the size of."""
    if not isinstance(mine, int) or mine == right:
        return []
    V, C, _, L, T, width = sizes
    block = 4 * C * C + 2 * C * width + width + 9 * C
    parts = {"one block": block, "a V x C matrix": V * C, "a T x C matrix": T * C,
             "a last norm (2C)": 2 * C, "a bias of the head (V)": V,
             "all blocks": L * block, "all blocks but one": (L - 1) * block,
             "a T x T mask": T * T}
    off = abs(mine - right)
    which = next((f", as many as {name} has" for name, size in parts.items()
                  if size == off), "")
    return [Clue("count", f"GPT2{sizes} has {off:,} parameters too "
                 f"{'many' if mine > right else 'few'}{which}")]


def _leaks(table: object) -> list[Clue]:
    if not isinstance(table, Tensor) or table.dim() != 2:
        return []
    late = table.triu(1).nonzero().tolist()
    deaf = (table.tril() + torch.ones_like(table).triu(1) == 0).nonzero().tolist()
    if late:
        return [Clue("future", f"changing token {late[0][1]} moves your logits at the "
                     f"earlier position {late[0][0]}: the future leaks")]
    return [Clue("deaf", f"changing token {deaf[0][1]} leaves your logits at position "
                 f"{deaf[0][0]} as they were")] if deaf else []


def _where(run: RunProbe, probe: Probe) -> list[Clue]:
    """Return whether the logits are wrong with blocks, or positions, ablated."""
    right = {}
    for without in ("", "blocks", "positions"):
        other = replace(probe, args=(*probe.args, without))
        seen, wanted = run(other), observe(GPT2.reference, other)
        right[without] = not seen.error and equal(seen.value, wanted.value, 1e-5, 1e-4)
        if any(part.isnan().any() for part in tensors(seen.value)):
            return []
    if right[""]:
        return []
    if right["blocks"]:
        return [Clue("in blocks", "with blocks that add 0 your logits are right: look "
                     "at how the blocks are built and called")]
    if right["positions"]:
        return [Clue("in positions", "with positions of 0 your logits are right: look "
                     "at which rows of pos_emb are added, and where")]
    return [Clue("around blocks", "even with blocks that add 0 your logits are wrong: "
                 "look at what comes before the blocks (two embeddings, added) and "
                 "after (last norm, head)")]


def count_probes(g: Generator) -> list[Probe]:
    """Return toy models: plain, tied, with a buffer, shared, deep, of any size.

    None has a frozen parameter: whether that one "can be learned" is open.
    """
    sizes = (10 + torch.randint(90, (2,), generator=g)).tolist()
    return [*(Probe(f"a {kind} model", (kind,), whole.counted)
              for kind in ("plain", "tied", "buffers", "shared", "deep")),
            Probe("a plain model, matrix {} x {}".format(*sizes), ("plain", *sizes),
                  whole.counted)]


def count_read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what is counted of each toy model."""
    seen = {kind: run(Probe(kind, (kind,), whole.counted)).value
            for kind in ("plain", "tied", "buffers", "shared", "deep")}
    right = {"plain": 42, "tied": 21, "buffers": 42, "shared": 54, "deep": 124}
    wrong = [f"{kind}: {seen[kind]}, expected {right[kind]}" for kind in right
             if seen[kind] != right[kind]]
    return [Clue("counts", "; ".join(wrong))] if wrong else []


# --- mistakes -------------------------------------------------------------------------

_Q_PLACE = "What does position t have to do with the example, or with the id?"

EMBED = (
    Mistake("E1", "positions never added", edit=(" + positions", ""),
            why="the same token gives the same vector at every position",
            question="Can attention tell 'dog bites man' from 'man bites dog' without "
                 "them?"),
    Mistake("E2", "positions taken from the batch axis",
            edit=("pos_emb[:T]", "pos_emb[:B]"),
            why="an error, unless there are as many examples as tokens",
            question=_Q_PLACE),
    Mistake("E2b", "positions taken from the batch axis: one for each example",
            edit=("pos_emb[:T]", "pos_emb[:B, None]"),
            why="every token of example b gets position b", question=_Q_PLACE),
    Mistake("E3", "positions looked up by token id",
            edit=("pos_emb[:T]", "pos_emb[input_ids]"), question=_Q_PLACE,
            why="the same token gives the same vector at every position"),
    Mistake("E4", "all positions added, not the first T", edit=("[:T]", ""),
            why="it works only for texts of the full length",
            question="Which rows of pos_emb does a text of 5 tokens need?"),
    Mistake("E5", "positions counted from 1",
            edit=("pos_emb[:T]", "pos_emb[torch.arange(1, T + 1)]"),
            why="position 0 gets row 1, and a text of the full length an index too "
                "large", question="Which is the first row of a matrix?"),
    Mistake("E5b", "positions sliced from 1 (row 0 is never used)",
            edit=("[:T]", "[1:T + 1]"), question="Which is the first row of a matrix?",
            why="position 0 gets row 1, and a text of the full length gets one row too "
                "few"),
    Mistake("E5c", "the last T positions, not the first", edit=("[:T]", "[-T:]"),
            why="right only for texts of the full length",
            question="Which row does the first token get?"),
    Mistake("E5d", "one position for all tokens: row 0", edit=("[:T]", "[0]"),
            why="the same token gives the same vector at every position",
            question="How many rows does a text of 5 tokens need?"),
    Mistake("E5e", "one position for all tokens: row T - 1", edit=("[:T]", "[T - 1]"),
            why="the same token gives the same vector at every position",
            question="How many rows does a text of 5 tokens need?"),
    Mistake("E6", "token embeddings multiplied by sqrt(C)",
            edit=("tok_emb[input_ids]",
                  "tok_emb[input_ids] * math.sqrt(tok_emb.size(1))"),
            why="with pos_emb = 0 your result is sqrt(C) times tok_emb's rows",
            question="Which of the two scales its embeddings: GPT-2, or the "
                     "transformer of 2017?"),
    Mistake("E6o", "token embeddings divided by sqrt(C)",
            edit=("tok_emb[input_ids]",
                  "tok_emb[input_ids] / math.sqrt(tok_emb.size(1))"),
            why="with pos_emb = 0 your result is smaller than tok_emb's rows",
            question="Should the model scale what it learned itself?"),
    Mistake("E5r", "positions in reverse order", edit=("[:T]", "[:T].flip(0)"),
            why="the first token gets row T - 1", question=_Q_PLACE),
    Mistake("E5m", "the mean of all positions for every token",
            edit=("[:T]", "[:T].mean(0)"),
            why="the same token gives the same vector at every position",
            question="How many rows does a text of 5 tokens need?"),
    Mistake("E9h", "the mean of token and positional embedding, not their sum",
            edit=("tokens + positions", "(tokens + positions) / 2"),
            why="the result is half as large as it should be",
            question="Are the two rows added, or averaged?"),
    Mistake("E9m", "positions subtracted", edit=("tokens + ", "tokens - "),
            why="with tok_emb = 0 your result is minus pos_emb's rows",
            question="Which sign should a position have?"),
    Mistake("E9n", "a layer norm on the sum",
            edit=("tokens + positions",
                  "F.layer_norm(tokens + positions, tokens.shape[-1:])"),
            why="each vector has mean 0 and variance 1",
            question="Which part of the model normalises: the embeddings, or the "
                     "blocks?"),
    Mistake("E6z", "token embeddings never used",
            edit=("tokens + positions", "positions.expand_as(tokens)"),
            why="changing the ids changes nothing",
            question="Where does the text enter the model?"),
    Mistake("E8", "sines and cosines instead of the matrix pos_emb",
            edit=("pos_emb[:T]", "waves(T, pos_emb.size(1))"),
            why="changing pos_emb changes nothing, and no gradient reaches it",
            question="Where do GPT-2's positions come from: a formula, or training?"),
    Mistake("E9", "positions concatenated, not added",
            edit=("tokens + positions",
                  "torch.cat([tokens, positions.expand_as(tokens)], -1)"),
            why="the result is 2C wide: C channels of token, C of position",
            question="How wide does the first block expect the residual stream to be?"),
    Mistake("E9t", "positions multiplied, not added", edit=("tokens + ", "tokens * "),
            why="a position near 0 wipes the token out",
            question="What does adding keep that multiplying loses?"),
    Mistake("E10", "positions added twice", edit=("pos_emb[:T]", "2 * pos_emb[:T]"),
            why="with tok_emb = 0 your result is twice pos_emb's rows",
            question="How often are positions added to the residual stream?"),
    Mistake("E11", "no gradient reaches pos_emb (detach, no_grad, .data)",
            edit=("[:T]", "[:T].detach()"),
            question="How would training reach the matrix?",
            why="the values are right, but positions would never be learned"),
    Mistake("E11t", "no gradient reaches tok_emb (detach, no_grad, .data)",
            edit=("tok_emb[input_ids]", "tok_emb[input_ids].detach()"),
            why="the values are right, but tokens would never be learned",
            question="How would training reach the matrix?"),
)

_TIE = "self.head.weight = self.tok_emb.weight, or F.linear(x, self.tok_emb.weight)"
_Q_TIE = ("The head asks how well a vector fits each token. Which matrix already "
          "contains a vector for each token?")
_Q_LN = "How many nats is a uniform guess among V tokens, and where does yours start?"
_Q_DEPTH = "2L terms are added to the residual stream. What keeps its size near 1x?"
_Q_NORM = ("A pre-norm block never normalises the residual stream itself. Who does, at "
           "the end?")
_HEAD = ("        self.ln_final = LayerNorm(d_model)\n",
         "        self.ln_final = LayerNorm(d_model)\n"
         "        self.head = nn.Linear(d_model, vocab_size, bias=False)\n")

WHOLE = (
    Mistake("W1", "the head is not tied to the embedding matrix",
            edit=[_HEAD, ("self.tok_emb.weight", "self.head.weight")],
            why="one V x C matrix too many: at GPT-2's size 163,037,184 parameters, "
                "not 124,439,808", question=_Q_TIE,
            where="look at how the head gets its matrix", fix=_TIE),
    Mistake("W2", "tied by copy: equal at the start, two matrices after one step",
            edit=[("std=0.02)",
                   "std=0.02)\n"
                   "        self.head = nn.Linear(d_model, vocab_size, bias=False)\n"
                   "        self.head.weight.data.copy_(self.tok_emb.weight.data)"),
                  ("self.tok_emb.weight", "self.head.weight")],
            why="two V x C matrices, equal at the start and different after one step",
            question="Two sheets with the same text: what happens when one is edited?",
            where="look for clone, copy_, or [:] =", fix=_TIE),
    Mistake("W2d", "two parameters in one storage (.data assigned)",
            edit=[("std=0.02)",
                   "std=0.02)\n"
                   "        self.head = nn.Linear(d_model, vocab_size, bias=False)\n"
                   "        self.head.weight.data = self.tok_emb.weight.data"),
                  ("self.tok_emb.weight", "self.head.weight")],
            why="two V x C matrices, equal even after a step, but each step moves it "
                "twice", question="How many parameters does the optimizer see?",
            where="look for .data", fix=_TIE),
    Mistake("W3", "embeddings with standard deviation 1, PyTorch's default, under a "
            "tied head", edit=("p.dim() == 2:", 'p.dim() == 2 and "emb" not in name:'),
            why="the loss at initialisation is far above ln V (at GPT-2's size 115, "
                "not 10.82)", question=_Q_LN),
    Mistake("W3h", "the tied matrix keeps nn.Linear's initial weights",
            edit=("std=0.02)",
                  "std=0.02)\n"
                  "        weight = self.tok_emb.weight\n"
                  "        nn.init.kaiming_uniform_(weight, math.sqrt(5))"),
            why="the matrix's standard deviation is 1 / sqrt(3 C), not 0.02",
            question=_Q_LN),
    Mistake("W3d", "no initialisation: all standard deviations are PyTorch's defaults",
            edit=("in self.named_parameters()", "in ()"),
            why="the embeddings start with standard deviation 1, the other matrices "
                "with other values", question=_Q_LN),
    Mistake("W5", "blocks in a Python list, where PyTorch does not see them",
            edit=("nn.ModuleList(", "list("),
            why="all blocks are missing from the count: at GPT-2's size 39,385,344",
            question="What does model.parameters() look through to find the blocks?"),
    Mistake("W6", "[block] * L: the same block L times",
            edit=[("TransformerBlock(", "[TransformerBlock("),
                  ("d_ff) for _ in range(num_layers)", "d_ff)] * num_layers")],
            why="the count lacks L - 1 blocks: at GPT-2's size 46,473,216",
            question="Does [x] * 3 make three things, or one thing with three names?"),
    Mistake("W6b", "one block only", edit=("range(num_layers)", "range(1)"),
            why="the count lacks L - 1 blocks, and x passes through only one",
            question="How many blocks does x pass through?"),
    Mistake("W6c", "one block too few (L - 1)",
            edit=("range(num_layers)", "range(1, num_layers)"),
            why="the count lacks one block",
            question="range(n) gives how many numbers?"),
    Mistake("W6g", "one block too many (L + 1)",
            edit=("range(num_layers)", "range(num_layers + 1)"),
            why="the count has one block more",
            question="range(n) gives how many numbers?"),
    Mistake("W6d", "what the blocks return is thrown away",
            edit=("x = block(x)", "block(x)"),
            why="no gradient reaches the blocks, and tokens do not move each other",
            question="Does a block change x, or return a new x?"),
    Mistake("W6e", "every block is given the embeddings, so only the last one counts",
            edit=[("        for block in",
                   "        embedded = x\n        for block in"),
                  ("block(x)", "block(embedded)")],
            why="no gradient reaches the other blocks",
            question="What should block 1 be given: the embeddings, or block 0's "
                     "result?",
            where="look at the loop: what goes in, and where does the result go?"),
    Mistake("W6f", "the residual stream added to the blocks' results: x + block(x)",
            edit=("block(x)", "x + block(x)"),
            why="a block's result contains x already, so x counts twice after each "
                "block",
            question="Which two additions does a TransformerBlock make by itself?"),
    Mistake("W7", "no last norm (ln_final)",
            edit=[("        self.ln_final = LayerNorm(d_model)\n", ""),
                  ("        x = self.ln_final(x)\n", "")],
            why="2C parameters too few (at GPT-2's size 124,438,272), and a residual "
                "stream ten times as large gives logits ten times as large",
            question=_Q_NORM, where="look between the last block and the head",
            fix="logits from self.ln_final(x)"),
    Mistake("W7b", "the norm is applied before the blocks, not after them",
            edit=[("        for block in",
                   "        x = self.ln_final(x)\n        for block in"),
                  ("        x = self.ln_final(x)\n", "")],
            why="the count is right, and the head gets the residual stream without a "
                "norm",
                question="Where does the residual stream have its largest numbers?",
            where="look at where ln_final is applied"),
    Mistake("W7c", "a last norm is built, and never called",
            edit=("        x = self.ln_final(x)\n", ""),
            why="the count is right, and no gradient reaches the norm",
            question=_Q_NORM, where="look between the last block and the head"),
    Mistake("W7e", "ln_final after every block, not only after the last",
            edit=("block(x)", "self.ln_final(block(x))"),
            why="the residual stream is normalised between the blocks",
            question="What should pass from block to block without a norm?"),
    Mistake("W8", "the head has a bias",
            edit=[("        for name, p",
                   "        self.bias = nn.Parameter(torch.zeros(vocab_size))\n"
                   "        for name, p"),
                  ("F.linear(", "self.bias + F.linear(")],
            why="V parameters too many: at GPT-2's size 50,257",
            question="logits = x @ table.T: where is a bias?",
            where="look at the head's nn.Linear",
            fix="nn.Linear(d_model, vocab_size, bias=False)"),
    Mistake("W9", "out_proj and down_proj start as large as the rest (not / sqrt(2L))",
            edit=(" / math.sqrt(2 * num_layers)", ""), question=_Q_DEPTH,
            why="the residual stream's standard deviation grows with every block"),
    Mistake("W9a", "out_proj and down_proj divided by sqrt(L), not sqrt(2L)",
            edit=("2 * num_layers", "num_layers"),
            why="each block adds twice, so 2L things are added", question=_Q_DEPTH),
    Mistake("W9f", "out_proj and down_proj divided by 2L, not by its root",
            edit=("math.sqrt(2 * num_layers)", "(2 * num_layers)"),
            why="2L independent terms of standard deviation s add up to one of s "
                "sqrt(2L)", question=_Q_DEPTH),
    Mistake("W9b", "only out_proj starts smaller; down_proj was forgotten",
            edit=('("out_proj.weight", "down_proj.weight")', '"out_proj.weight"'),
            why="down_proj starts with standard deviation 0.02", question=_Q_DEPTH),
    Mistake("W9c", "only down_proj starts smaller; out_proj was forgotten",
            edit=('("out_proj.weight", "down_proj.weight")', '"down_proj.weight"'),
            why="out_proj starts with standard deviation 0.02", question=_Q_DEPTH),
    Mistake("W9d", "the norms' weights are initialised at random, too",
            edit=("elif p.dim() == 2:", "else:"),
            why="norm weights near 0 make every branch, and the logits, tiny",
            question="What should a fresh norm do to its input?"),
    Mistake("W9e", "biases keep PyTorch's random initial values, expected 0",
            edit=("nn.init.zeros_(p)", "pass"), why="some vectors are neither 0 nor 1",
            question="What should a fresh bias do?"),
    Mistake("W10", "softmax inside the model: probabilities returned, not logits",
            edit=("return logits", "return logits.softmax(-1)"),
            why="every row adds up to 1, and the loss can never fall below ln(e + V - "
                "1) - 1",
                question="Who applies the softmax when the loss is computed?"),
    Mistake("W10b", "log_softmax inside the model",
            edit=("return logits", "return logits.log_softmax(-1)"),
            why="all numbers are negative; the loss is right, but these are no logits",
            question="Who applies the softmax when the loss is computed?"),
    Mistake("W10c", "logits of the last position only",
            edit=("return logits", "return logits[:, -1]"),
            why="(B, V) instead of (B, T, V): the loss needs every position",
            question="How many positions of a text of T tokens predict a next token?"),
    Mistake("W10m", "the mean of the logits over all positions",
            edit=("return logits", "return logits.mean(1)"),
            why="(B, V) instead of (B, T, V): the loss needs every position",
            question="How many positions of a text of T tokens predict a next token?"),
    Mistake("W10s", "logits divided by sqrt(C)",
            edit=("return logits", "return logits / math.sqrt(x.size(-1))"),
            question="Which product is scaled by a square root in GPT-2: the head's, "
                     "or attention's?", why="all logits are too small by one factor"),
    Mistake("W13", "d_ff is not used: the blocks are 4 C wide",
            edit=("d_ff) for", "4 * d_model) for"),
            why="right for the usual width, wrong for another",
            question="Which arguments does TransformerBlock take?"),
    Mistake("W14", "num_heads is not used: one head",
            edit=("TransformerBlock(d_model, num_heads", "TransformerBlock(d_model, 1"),
            why="the count is right, the logits are not",
            question="How many heads do your blocks get?"),
    Mistake("W15", "the positional embeddings have one row too many",
            edit=("nn.Embedding(max_seq_length", "nn.Embedding(max_seq_length + 1"),
            why="C parameters too many",
            question="How many positions does a text of max_seq_length tokens have?"),
    Mistake("W11", "the mask is a Parameter",
            edit=("std=0.02)",
                  "std=0.02)\n"
                  "        self.mask = nn.Parameter(\n"
                  "            torch.ones(max_seq_length, max_seq_length).tril())"),
            why="T x T parameters too many, which no gradient reaches",
            question="Is the mask something to be learned?"),
    Mistake("W12", "vocabulary padded to a multiple of 64",
            edit=("nn.Embedding(vocab_size", "nn.Embedding(-(-vocab_size // 64) * 64"),
            why="logits for tokens that do not exist: at GPT-2's size 50,304 of them, "
                "and 124,475,904 parameters",
                question="Which token would id 50,300 be?"),
    Mistake("E1", "positions never added, though there is a matrix",
            edit=(" + self.pos_emb.weight[:T]", ""),
            why="no gradient reaches the positional embeddings",
            question="How does the model know order?"),
    Mistake("E1b", "no positional embeddings at all",
            edit=[("        self.pos_emb = nn.Embedding(max_seq_length, d_model)\n",
                   ""),
                  (" + self.pos_emb.weight[:T]", "")],
            why="T x C parameters too few: at GPT-2's size 786,432",
            question="How does the model know order?",
            where="look at the embeddings in __init__",
            fix="self.pos_emb = nn.Embedding(max_seq_length, d_model)"),
    Mistake("E4", "all positions added, not the first T", edit=("[:T]", ""),
            why="it works only for texts of max_seq_length tokens",
            question="Which rows of pos_emb does a text of 5 tokens need?"),
    Mistake("E5", "positions counted from 1",
            edit=("self.pos_emb.weight[:T]", "self.pos_emb(torch.arange(1, T + 1))"),
            why="a text of max_seq_length tokens gets an index that is too large",
            question="Which is the first row of a matrix?"),
    Mistake("E6", "token embeddings multiplied by sqrt(C)",
            edit=("self.tok_emb(input_ids)",
                  "self.tok_emb(input_ids) * math.sqrt(self.tok_emb.embedding_dim)"),
            why="the token outweighs its position sqrt(C) times",
            question="Which of the two scales its embeddings: GPT-2, or the "
                     "transformer of 2017?"),
    Mistake("E8", "sines and cosines instead of learned positional embeddings",
            edit=[("self.pos_emb = nn.Embedding(max_seq_length, d_model)",
                   'self.register_buffer("pos_emb", waves(max_seq_length, d_model))'),
                  ("self.pos_emb.weight", "self.pos_emb")],
            why="T x C parameters too few: at GPT-2's size 786,432",
            question="Where do GPT-2's positions come from: a formula, or training?",
            where="look for sin and cos",
            fix="self.pos_emb = nn.Embedding(max_seq_length, d_model)"),
    Mistake("E10", "positions added before every block",
            edit=[(" + self.pos_emb.weight[:T]", ""),
                  ("block(x)", "block(x + self.pos_emb.weight[:T])")],
            why="the residual stream drifts along the positions, more and more with "
                "depth",
            question="How often are positions added to the residual stream?",
            where="look inside the loop"),
)

_Q_COUNT = ("Which numbers does training change, and in how many places is each of "
            "them stored?")

COUNT = (
    Mistake("W4", "counted through state_dict, where a tied matrix has two names",
            edit=("model.parameters()", "model.state_dict().values()"),
            why="a tied model seems untied (at GPT-2's size 163,037,184 for "
                "124,439,808), and buffers are counted, too", question=_Q_COUNT),
    Mistake("W4b", "a tied or shared parameter counted once for each name",
            edit=("model.parameters()",
                  "dict(\n"
                  "        model.named_parameters(remove_duplicate=False)).values()"),
            why="a tied model seems untied", question=_Q_COUNT),
    Mistake("W4i", "counted module by module: a tied matrix counts twice",
            edit=("for p in model.parameters()",
                  "for part in model.modules()\n"
                  "               for p in part.parameters(recurse=False)"),
            why="a tied model seems untied; shared blocks are right",
            question=_Q_COUNT),
    Mistake("W11", "buffers counted, too",
            edit=("model.parameters()", "[*model.parameters(), *model.buffers()]"),
            why="a mask that is never trained counts", question=_Q_COUNT),
    Mistake("W4a", "the sizes of the axes added up, not multiplied",
            edit=("p.numel()", "sum(p.shape)"), why="a 7 x 3 matrix counts as 10",
            question="How many numbers are in a 7 x 3 matrix?"),
    Mistake("W4s", "tensors of equal shape counted once",
            edit=("model.parameters()",
                  "{p.shape: p for p in model.parameters()}.values()"),
            why="two layers of the same size count as one",
            question="What makes two tensors one: their shape, or being the same "
                     "tensor?"),
    Mistake("W4w", "only parameters called weight",
            edit=("for p in model.parameters()",
                  "for name, p in model.named_parameters()\n"
                  '               if name.endswith("weight")'),
            why="biases are left out", question=_Q_COUNT),
    Mistake("W4n", "numbers that are 0 are left out",
            edit=("p.numel()", "int((p != 0).sum())"),
            why="a fresh bias of zeros is not counted",
            question="Isn't a 0 that training will change a parameter, too?"),
    Mistake("W4d", "tensors counted, not their entries", edit=("p.numel()", "1"),
            why="a whole matrix counts as 1",
            question="How many numbers are in a 7 x 3 matrix?"),
    Mistake("W4e", "rows counted, not entries (len instead of numel)",
            edit=("p.numel()", "len(p)"), why="a 7 x 3 matrix counts as 7",
            question="What does len of a matrix give?"),
    Mistake("W4f", "bytes, not numbers",
            edit=("p.numel()", "p.numel() * p.element_size()"),
            why="four times too many, in float32",
            question="How many bytes does one float32 take?"),
    Mistake("W4j", "only the first tensor is counted",
            edit=("model.parameters()", "list(model.parameters())[:1]"),
            why="what comes after the first tensor makes no difference",
            question="When does your loop end?"),
    Mistake("W4k", "only the last tensor is counted",
            edit=("model.parameters()", "list(model.parameters())[-1:]"),
            why="what comes before the last tensor makes no difference",
            question="What becomes of the sum when the next tensor comes?"),
    Mistake("W4g", "biases and norms left out",
            edit=("model.parameters()", "model.parameters() if p.dim() == 2"),
            why="only matrices are counted", question=_Q_COUNT),
    Mistake("W4h", "the parts' parameters left out",
            edit=("model.parameters()", "model.parameters(recurse=False)"),
            why="the count is 0",
            question="Whose parameters are they: the model's own, or its parts'?"),
)

embed = Exercise(
    "embed", "07", "embed(input_ids, tok_emb, pos_emb) -> (B, T, C)",
    make_probes=embed_probes, mistakes=EMBED, read_out=embed_read_out,
    axes={"input_ids": "B T", "tok_emb": "V C", "pos_emb": "P C", "": "B T C"},
    crashes=((r"size of tensor a|must match the size",
              "tok_emb[input_ids] is (B, T, C): how many rows of pos_emb fit it?"),
             (r"not callable", "tok_emb and pos_emb are plain tensors, no "
              "nn.Embedding: table[ids] gives rows"),
             (r"index out of range|out of bounds",
              "an index is as large as the matrix, or larger: which row gets the last "
              "token?")),
    hints=("Two rows for each token: one says which token, one says which position.",
           "Print the shapes of tok_emb[input_ids] and of what you add to it.",
           "tok_emb[input_ids] + pos_emb[:input_ids.size(1)]"), solution=_EMBED,
    names={"waves": waves})

GPT2 = Exercise(
    "GPT2", "07", "GPT2(vocab_size, d_model, num_heads, num_layers, max_seq_length, "
    "d_ff), an nn.Module: GPT2(...)(input_ids) -> logits (B, T, V)",
    make_probes=model_probes, mistakes=WHOLE, read_out=model_read_out,
    edge_cases=(EdgeCase("a tensor of it is neither a parameter nor a buffer: "
                   "model.to('cuda') would leave it behind; use register_buffer",
                   lambda g: Probe("plain tensors", (((17, 12, 2, 2, 7, 20), None),),
                                   whole.left_behind)),),
    crashes=((r"Missing key|Unexpected key",
              "a part is registered in one model and not in another of the same class"),
             (r"no attribute 'parameters'|expected a torch.nn.Module",
              "the class must be an nn.Module: class GPT2(nn.Module), and "
              "super().__init__() first"),
             (r"multiple of num_heads",
              "the block wants TransformerBlock(d_model, num_heads, d_ff), in this "
              "order"),
             (r"not subscriptable", "an nn.Embedding is called with ids, "
              "self.tok_emb(input_ids); its matrix is self.tok_emb.weight"),
             (r"mat1 and mat2", "if it is the head: x is (B, T, C) and the matrix "
              "(V, C), so x @ table.T or F.linear(x, table)"),
             (r"Target \d+ is out of bounds", "a token has no logit: the head turns "
              "(B, T, C) into (B, T, V); print the shape of what you return"),
             (r"size of tensor a", "token embeddings are (B, T, C): which rows "
              "of pos_emb fit them?"),
             (r"before Module.__init__", "call super().__init__() first in __init__"),
             (r"index out of range",
              "an index is too large: tok_emb has vocab_size rows, pos_emb "
              "max_seq_length, and positions count from 0"),
             (r"should be a Tensor|must be Tensor|not tuple",
              "return the logits alone")),
    hints=("Five parts: two embeddings, added; the blocks, one after the other; a last "
           "norm; the embedding matrix again. Count each one's parameters by hand.",
           "Build it with d_model=12, and print each parameter's name and shape.",
           "logits = F.linear(self.ln_final(x), self.tok_emb.weight)"),
    atol=1e-4, rtol=1e-3, solution=_GPT2, names={
        "LayerNorm": LayerNorm, "TransformerBlock": TransformerBlock, "waves": waves})

count_parameters = Exercise(
    "count_parameters", "07", "count_parameters(model) -> int",
    make_probes=count_probes,
    mistakes=COUNT, read_out=count_read_out, show="a tied model",
    crashes=((r"(builtin_function_or_method|method)'", "numel and size are methods: "
              "they need brackets, p.numel()"),
             (r"index out of range|out of bounds", "a bias has one axis only: "
              "p.numel() counts for any number of axes")),
    hints=("Each parameter is a tensor; .numel() says how many numbers it holds.",
           "Does your function give 21 for a 7 x 3 matrix that is tied to the head?",
           "sum(p.numel() for p in model.parameters())"),
    solution=_COUNT_PARAMETERS)

# --- the answers that are values ------------------------------------------------------

_PARTS = "Write each part beside its count: two embeddings, L blocks, one last norm."
_FORMULA = "V C + T C + L (12 C^2 + 13 C) + 2 C, with C = 1024 and L = 24"


def _off(id: str, name: str, why: str, fix: str = _FORMULA) -> Mistake:
    return Mistake(id, name, why, _PARTS, "compare your parts, one by one", fix)


_MEDIUM = (
    (406_286_336, _off("W1", "the head counted as a matrix of its own",
                         "51,463,168 too many: V x C, the head is tied")),
    (52_513_792, _off("W5", "no block counted", "302,309,376 too few: 24 blocks")),
    (65_110_016, _off("W6", "one block counted, not 24",
                        "289,713,152 too few: 23 blocks")),
    (354_821_120, _off("W7", "the last norm not counted", "2,048 too few: 2 C")),
    (354_822_144, _off("W7c", "one vector counted for the last norm, not two",
                         "1,024 too few: C, a norm has weight and bias")),
    (354_873_425, _off("W8", "a bias of the head counted", "50,257 too many: V")),
    (354_871_296, _off("W12", "the vocabulary padded to 50,304",
                         "48,128 too many: 47 rows of the embedding matrix")),
    (353_774_592, _off("E8", "the positional embeddings not counted",
                         "1,048,576 too few: T x C")),
    (304_466_944, _off("P1", "d_ff left at 3072", "d_ff is 4 C: 4096 here")),
    (354_601_984, _off("P2", "the linear layers' biases not counted",
                         "221,184 too few: 9 C in each block")),
    (354_724_864, _off("P3", "the blocks' norms not counted",
                         "98,304 too few: 4 C in each block")),
    (203_668_480, _off("P4", "12 blocks counted, not 24",
                         "151,154,688 too few: 12 blocks")),
    (124_439_808, _off("P5", "the small model's count",
                         "this is GPT-2 small, with C = 768 and L = 12")),
)

_CAUSES = {"A": "untied head", "B": "list of blocks", "C": "[block] * 12",
           "D": "no last norm", "E": "bias of the head", "F": "padded vocabulary",
           "G": "no positional embeddings"}


def _exchanged(one: str, other: str) -> dict[str, str]:
    return _CAUSES | {one: _CAUSES[other], other: _CAUSES[one]}


def _letters(value: Value) -> list[str]:
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
    "P8", "the last norm and the positional embeddings exchanged",
    "1,536 is 2 x 768, and 786,432 is 1024 x 768",
    "How many numbers are in a norm, and how many in a matrix of 1024 rows?",
    "divide both differences by 768", "D lacks 2 rows of 768, G 1024")


def _loss(name: str, why: str, fix: str) -> Mistake:
    return Mistake("P9", name, why, "Which token should position t predict?",
                   "look at the two arguments of cross_entropy", fix)


_ANGLE = torch.arange(12) * math.pi / 6
_DIAL = torch.stack([_ANGLE.cos(), _ANGLE.sin(), -_ANGLE.cos(), -_ANGLE.sin()], 1)


def _ticks(value: Value) -> list[str]:
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
            return [f"{name} contains nan or infinity"]
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
                "to outweigh the current hour"]
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
    "P10", "one block without positions assumed to notice the order",
    "the last position averages over a set: swapping two of its members changes "
    "nothing",
    "Which order do the keys and values of one block know, without positions?",
    "the entry with one block and no positions", "False")
_DEEP = Mistake(
    "P11", "two blocks without positions assumed not to notice the order",
    "after the first block, position 0 has seen only itself, position 1 both",
    "What had position 0 seen in the first block, and what position 1?",
    "the entry with two blocks", "True")
_PLACED = Mistake(
    "P12", "positions assumed to have no effect in one block",
    "with its position added, a token has another key and value at each position",
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
                  "What has each of positions 0 and 1 seen after the first block?",
                  "With two blocks the mask reveals the order: position 0 has seen "
                  "only itself."),
           solution="""\
moves = {"one block, no positions": False, "two blocks, no positions": True,
         "one block, positions": True}"""),
    Answer("07.2a", "the number of parameters of gpt2-medium", 354_823_168, _MEDIUM,
           hints=("Two embeddings, 24 blocks, one last norm, and no head: it is tied. "
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
               "A is one embedding matrix too many; B lacks twelve blocks, C eleven."),
        solution="""\
causes = {"A": "untied head", "B": "list of blocks", "C": "[block] * 12",
          "D": "no last norm", "E": "bias of the head", "F": "padded vocabulary",
          "G": "no positional embeddings"}"""),
    Answer("07.4", "the loss at initialisation: unchanged, with token embeddings of "
           "standard deviation 1, with position embeddings of standard deviation 1",
           [5.55, 63.0, 5.56], (
               ([4.70, 0.0, 5.53], _loss(
                   "targets not shifted", "a tied head predicts the current "
                   "token: 4.7 nats is below ln 256 before any training, too good to "
                   "be true",
                   "cross_entropy(logits[:, :-1], input_ids[:, 1:])")),
               ([8.01, 91.0, 8.02], _loss(
                   "bits, not nats", "divided by ln 2 = 0.693",
                   "cross_entropy is in nats already")),
               ([5.545, 5.545, 5.545], _loss(
                   "all three near ln V: the second model's embeddings were not "
                   "changed",
                   "with token embeddings of standard deviation 1 it is far from ln V",
                   "nn.init.normal_(model.tok_emb.weight, std=1.0) on the model that "
                   "is measured, before its logits")),
               ([5.56, 5.55, 63.0], _loss(
                   "the two embeddings exchanged", "the tied head multiplies by the "
                   "token embeddings; positions pass the last norm first",
                   "tok_emb contains the token embeddings")),
               ([5.55, 63.0, 45.0], _loss(
                   "the token embeddings still have standard deviation 1 in the third "
                   "model",
                   "one change at a time: build a fresh model for each",
                   "a new GPT2Model before each change"))),
           rtol=0.06, atol=0.1, precision="one decimal is",
           hints=("Build a fresh model for each of the three, and change at most one "
                  "embedding in it: nn.init.normal_(model.tok_emb.weight, std=1.0).",
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
           lambda: {"tok_emb": _DIAL, "up_proj": _DIAL,
                    "down_proj": _DIAL.roll(-1, 0).T}, test=_ticks,
           hints=("First in twelve channels: give each hour one of its own, tok_emb = "
                  'torch.eye(12). Let row f of up_proj ask "is it hour f?", and column '
                  "f of down_proj say what is added then. The check tells you when "
                  "that is a clock, before it asks for 4 channels.",
                  "Twelve rows in few channels can't all be at right angles, and need "
                  "not be. How does a real clock find places for twelve hours in two "
                  "dimensions? And a norm subtracts the mean of the channels: with "
                  "(cos, sin) alone all twelve become (1, -1) or (-1, 1). Which two "
                  "channels make the mean 0 from the start?",
                  "Put the hours on a circle: (cos, sin, -cos, -sin) of f times 30 "
                  "degrees; its mean is 0, so the norm leaves the direction alone."),
           solution="""\
angle = torch.arange(12) * math.pi / 6
face = torch.stack([angle.cos(), angle.sin(), -angle.cos(), -angle.sin()], 1)
clock = {"tok_emb": face, "up_proj": face, "down_proj": face.roll(-1, 0).T}"""),
)
