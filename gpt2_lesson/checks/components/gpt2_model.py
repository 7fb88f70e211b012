"""Embeddings, the whole model, its count, and what goes wrong (catalogue: E and W)."""

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn as nn
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue, tensors
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust, equal
from gpt2_lesson.checks.probing import Probe, gradients, observe
from gpt2_lesson.checks.stand_ins import whole_model as whole
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock

# --- embeddings -----------------------------------------------------------------------


def waves(length: int, width: int) -> Tensor:
    """Return the sines and cosines of the first transformer, (length, width)."""
    place = torch.arange(length)[:, None].float()
    angles = place / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def look_up(input_ids: Tensor, tok_emb: Tensor, pos_emb: Tensor, *, rows: str = "right",
            scale: str = "none", join: str = "added", detached: str = "") -> Tensor:
    """Return token rows plus position rows (B, T, C), or what a mistake makes of it."""
    B, T = input_ids.shape
    table = pos_emb.detach() if detached == "positions" else pos_emb
    tokens = (tok_emb.detach() if detached == "tokens" else tok_emb)[input_ids]
    tokens = tokens * {"none": 1.0, "root": math.sqrt(tok_emb.size(1)),
                       "over": 1 / math.sqrt(tok_emb.size(1)), "zero": 0.0}[scale]
    places = {
        "right": lambda: table[:T], "none": lambda: torch.zeros_like(table[:1]),
        "batch": lambda: table[:B], "batch, kept": lambda: table[:B, None],
        "ids": lambda: table[input_ids], "all": lambda: table,
        "from 1": lambda: table[torch.arange(1, T + 1)],
        "slice from 1": lambda: table[1:T + 1], "first": lambda: table[0],
        "last": lambda: table[T - 1], "end": lambda: table[-T:],
        "reversed": lambda: table[:T].flip(0),
        "mean": lambda: table[:T].mean(0),
        "waves": lambda: waves(T, table.size(1)), "twice": lambda: 2 * table[:T],
    }[rows]()
    if join == "concatenated":
        return torch.cat([tokens, places.expand_as(tokens)], -1)
    return {"added": tokens + places, "times": tokens * places,
            "subtracted": tokens - places, "halved": (tokens + places) / 2,
            "normed": nn.functional.layer_norm(tokens + places, tokens.shape[-1:]),
            }[join]


def embed_probes(g: Generator) -> list[Probe]:
    """Return the battery: sizes different, B = T, T full, ids repeated, T = 1."""
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


def embed_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what stands at a place, read with tables whose rows can't be confused."""
    V, L = 5, 6
    ids = torch.tensor([[3, 1, 3, 0]])
    rows = torch.eye(V + L)
    seen = look(Probe("unit rows", (ids, rows[:V], rows[V:]))).value
    if not isinstance(seen, Tensor) or seen.shape != (1, 4, V + L):
        return []
    texts = []
    for t in (0, 2):
        parts = [f"{value:.3g} x {'token' if i < V else 'position'} row "
                 f"{i if i < V else i - V}" for i, value in enumerate(
                     seen[0, t].tolist()) if abs(value) > 1e-5]
        texts.append(" + ".join(parts) or "nothing")
    return [Clue("rows", f"read with the ids 3, 1, 3, 0: at place 0 your result is "
                 f"{texts[0]}, and at place 2 it is {texts[1]}; expected 1 x token row "
                 "3 + 1 x position row of the place")]


_Q_PLACE = "What does position t have to do with the example, or with the id?"
_PLACES = "look at what stands between the brackets of pos_emb[...]"
_T = "pos_emb[:input_ids.size(1)]"

EMBED = (
    Mistake("E1", "positions never added",
            "the same token gives the same vector at every place",
            "Can attention tell 'dog bites man' from 'man bites dog' without them?",
            "look for pos_emb in your return line", f"tok_emb[input_ids] + {_T}",
            {"rows": "none"}),
    Mistake("E2", "positions taken from the batch axis",
            "an error, unless there are as many examples as tokens", _Q_PLACE,
            "which axis of input_ids counts the tokens?", _T, {"rows": "batch"},
            mark="S"),
    Mistake("E2b", "positions taken from the batch axis: one for each example",
            "every token of example b gets position b", _Q_PLACE,
            "which axis of input_ids counts the tokens?", _T, {"rows": "batch, kept"},
            mark="S"),
    Mistake("E3", "positions looked up by token id",
            "the same token gives the same vector at every place", _Q_PLACE, _PLACES,
            _T, {"rows": "ids"}, mark="R"),
    Mistake("E4", "all positions added, not the first T",
            "it works only for texts of the full length",
            "Which rows of pos_emb does a text of 5 tokens need?", _PLACES, _T,
            {"rows": "all"}, mark="S"),
    Mistake("E5", "positions counted from 1",
            "place 0 gets row 1, and a text of the full length an index too large",
            "Which is the first row of a table?", _PLACES, _T, {"rows": "from 1"},
            mark="R"),
    Mistake("E5b", "positions sliced from 1 (row 0 is never used)",
            "place 0 gets row 1, and a text of the full length one row too few",
            "Which is the first row of a table?", _PLACES, _T,
            {"rows": "slice from 1"}, mark="R"),
    Mistake("E5c", "the last T positions, not the first",
            "right only for texts of the full length",
            "Which row does the first token get?", _PLACES, _T, {"rows": "end"},
            mark="R"),
    Mistake("E5d", "one position for all tokens: row 0",
            "the same token gives the same vector at every place",
            "How many rows does a text of 5 tokens need?", _PLACES, _T,
            {"rows": "first"}, mark="R"),
    Mistake("E5e", "one position for all tokens: row T - 1",
            "the same token gives the same vector at every place",
            "How many rows does a text of 5 tokens need?", _PLACES, _T,
            {"rows": "last"}, mark="R"),
    Mistake("E6", "token rows multiplied by sqrt(C)",
            "with pos_emb = 0 your result is sqrt(C) times the token rows",
            "Whose model scales its embeddings: GPT-2's, or the transformer of 2017?",
            "look for a square root", "tok_emb[input_ids], without a factor",
            {"scale": "root"}, mark="S"),
    Mistake("E6o", "token rows divided by sqrt(C)",
            "with pos_emb = 0 your result is smaller than the token rows",
            "Should the model scale what it learned itself?",
            "look for a square root", "tok_emb[input_ids], without a factor",
            {"scale": "over"}),
    Mistake("E5r", "positions in reverse order",
            "the first token gets row T - 1", _Q_PLACE, _PLACES, _T,
            {"rows": "reversed"}),
    Mistake("E5m", "the mean of all positions for every token",
            "the same token gives the same vector at every place",
            "How many rows does a text of 5 tokens need?", "look for mean", _T,
            {"rows": "mean"}),
    Mistake("E9h", "the mean of token row and position row, not their sum",
            "the result is half as large as it should be",
            "Are the two rows added, or averaged?", "look for / 2 or mean",
            f"tok_emb[input_ids] + {_T}", {"join": "halved"}),
    Mistake("E9m", "positions subtracted", "with tok_emb = 0 your result is minus the "
            "position rows", "Which sign should a position have?",
            "look at the operator", f"tok_emb[input_ids] + {_T}",
            {"join": "subtracted"}),
    Mistake("E9n", "a layer norm on the sum", "each vector has mean 0 and variance 1",
            "Which part of the model norms: the embeddings, or the blocks?",
            "look for layer_norm", "return the sum as it is", {"join": "normed"}),
    Mistake("E6z", "token rows never used", "changing the ids changes nothing",
            "Where does the text enter the model?", "look for tok_emb",
            "tok_emb[input_ids] + ...", {"scale": "zero"}, mark="R"),
    Mistake("E8", "sines and cosines instead of the table pos_emb",
            "changing pos_emb changes nothing, and no gradient reaches it",
            "Who makes GPT-2's positions: a formula, or the training?",
            "look for sin and cos", _T, {"rows": "waves"}),
    Mistake("E9", "positions concatenated, not added",
            "the result is 2C wide: C channels of token, C of position",
            "How wide does the first block expect the stream?", "look for cat",
            f"tok_emb[input_ids] + {_T}", {"join": "concatenated"}, mark="R"),
    Mistake("E9t", "positions multiplied, not added",
            "a position near 0 wipes the token out",
            "What does adding keep that multiplying loses?", "look at the operator",
            f"tok_emb[input_ids] + {_T}", {"join": "times"}, mark="R"),
    Mistake("E10", "positions added twice",
            "with tok_emb = 0 your result is twice the position rows",
            "How often do positions enter the stream?", "count pos_emb",
            "add them once", {"rows": "twice"}, mark="R"),
    Mistake("E11", "no gradient reaches pos_emb (detach, no_grad, .data)",
            "the values are right, but positions would never be learned",
            "How would training reach the table?", "look for detach, no_grad, .data",
            "index the table itself", {"detached": "positions"}, mark="R"),
    Mistake("E11t", "no gradient reaches tok_emb (detach, no_grad, .data)",
            "the values are right, but tokens would never be learned",
            "How would training reach the table?", "look for detach, no_grad, .data",
            "index the table itself", {"detached": "tokens"}, mark="R"),
)

embed = Exercise(
    "embed", "07", "embed(input_ids, tok_emb, pos_emb) -> (B, T, C)", look_up,
    embed_probes, EMBED, embed_read_out,
    axes={"input_ids": "B T", "tok_emb": "V C", "pos_emb": "P C", "": "B T C"},
    crashes=((r"size of tensor a|must match the size",
              "tok_emb[input_ids] is (B, T, C): how many rows of pos_emb fit it?"),
             (r"not callable", "tok_emb and pos_emb are plain tensors, no "
              "nn.Embedding: table[ids] gives rows"),
             (r"index out of range|out of bounds",
              "an index is as large as the table, or larger: which row gets the last "
              "token?")),
    hints=("Two rows for each token: one says which token, one says which place.",
           "Print the shapes of tok_emb[input_ids] and of what you add to it.",
           f"tok_emb[input_ids] + {_T}"), solution="""\
def embed(input_ids, tok_emb, pos_emb):
    T = input_ids.size(1)
    return tok_emb[input_ids] + pos_emb[:T]""")

# --- the whole model ------------------------------------------------------------------


class _Whole(nn.Module):
    """The right model, or what a mistake makes of it."""

    def __init__(self, sizes: tuple, *, head: str = "tied", bias: bool = False,
                 blocks: str = "all", norm: str = "last", positions: str = "table",
                 residual: str = "2L", start: str = "right", out: str = "logits",
                 padded: bool = False, mask: bool = False,
                 sizes_as: str = "asked") -> None:
        super().__init__()
        V, C, H, L, T, width = sizes
        V = math.ceil(V / 64) * 64 if padded else V
        H, width = {"one head": (1, width), "4 C": (H, 4 * C)}.get(sizes_as, (H, width))
        T = T + 1 if sizes_as == "one more position" else T
        self.out, self.positions, self.norm, self.kind = out, positions, norm, blocks
        self.tok_emb = nn.Embedding(V, C)
        if positions == "waves":
            self.register_buffer("pos_emb", waves(T, C))
        elif positions != "no table":
            self.pos_emb = nn.Embedding(T, C)
        self.head = nn.Linear(C, V, bias=bias)
        self.blocks = _blocks(blocks, L, lambda: TransformerBlock(C, H, width))
        self.ln_final = nn.Identity() if norm == "none" else LayerNorm(C)
        if mask:
            self.mask = nn.Parameter(torch.ones(T, T).tril())
        if start != "PyTorch":
            _draw(self, L, residual, start)
        if head == "tied":
            self.head.weight = self.tok_emb.weight
        elif head == "copied":
            self.head.weight.data = self.tok_emb.weight.data.clone()
        elif head == "shared":
            self.head.weight.data = self.tok_emb.weight.data

    def forward(self, input_ids: Tensor) -> Tensor:
        T, x = input_ids.size(1), self.tok_emb(input_ids)
        if self.positions in ("table", "in every block", "scaled tokens"):
            places = self.pos_emb.weight[:T]
            scale = x.size(-1) ** 0.5 if self.positions == "scaled tokens" else 1
            x = scale * x + places
        if self.positions == "all":
            x = x + self.pos_emb.weight
        if self.positions == "from 1":
            x = x + self.pos_emb(torch.arange(1, T + 1))
        if self.positions == "waves":
            x = x + self.pos_emb[:T]
        if self.norm == "first":
            x = self.ln_final(x)
        first = x
        for i, block in enumerate(self.blocks):
            if self.positions == "in every block" and i:
                x = x + places
            y = block(first if self.kind == "from the start" else x)
            x = {"thrown away": x, "added again": x + y}.get(self.kind, y)
            x = self.ln_final(x) if self.norm == "in every block" else x
        x = x if self.norm in ("first", "unused") else self.ln_final(x)
        logits = self.head(x)
        return {"logits": lambda: logits,
                "scaled": lambda: logits / math.sqrt(x.size(-1)),
                "mean": lambda: logits.mean(1), "odds": lambda: logits.softmax(-1),
                "logs": lambda: logits.log_softmax(-1),
                "last": lambda: logits[:, -1]}[self.out]()


def _blocks(kind: str, L: int, block) -> list | nn.ModuleList:
    """Return L blocks, or what a mistake makes of them."""
    if kind == "list":
        return [block() for _ in range(L)]
    if kind == "same":
        return nn.ModuleList([block()] * L)
    number = {"one": 1, "one fewer": L - 1, "one more": L + 1}.get(kind, L)
    return nn.ModuleList(block() for _ in range(number))


@torch.no_grad()
def _draw(model: nn.Module, L: int, residual: str, start: str) -> None:
    """Draw the first weights: GPT-2's, or what a mistake makes of them."""
    smaller = {"2L": 0.02 / math.sqrt(2 * L), "L": 0.02 / math.sqrt(L), "none": 0.02,
               "no root": 0.02 / (2 * L)}
    for name, p in model.named_parameters():
        writes = name.endswith(("out_proj.weight", "down_proj.weight"))
        if residual in ("out_proj", "down_proj"):            # one of the two alone
            factor = smaller["2L" if residual in name else "none"]
        else:
            factor = smaller[residual]
        if name.endswith("bias"):
            if start != "biases":
                p.zero_()
        elif p.dim() == 2 and name != "mask":
            large = start == "table" and "emb" in name
            p.normal_(std=1.0 if large else factor if writes else 0.02)
            if start == "head" and name.startswith("tok_emb"):       # nn.Linear's own
                p.uniform_(-p.size(1) ** -0.5, p.size(1) ** -0.5)
        elif start == "norms":
            p.normal_(std=0.02)


def whole_model(vocab_size: int, d_model: int, num_heads: int, num_layers: int,
                max_seq_length: int, d_ff: int, **knobs: object) -> nn.Module:
    """Return the whole model, built as the knobs say."""
    return _Whole((vocab_size, d_model, num_heads, num_layers, max_seq_length, d_ff),
                  **knobs)


def model_probes(g: Generator) -> list[Probe]:
    """Return the battery: tiny models, each asked for one kind of fact."""
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
        Probe("tables ten times as large", (case,), whole.larger_stream),
        Probe("who moves whom", (case,), whole.who_moves),
        Probe("saved and loaded", (case,), whole.saved_and_loaded),
        Probe("first weights", (((61, 32, 2, 8, 40, 80), fresh),),
              whole.first_weights),
    ]


def model_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return which facts differ: the count in parts, each fact, where logits part."""
    battery, found = model_probes(g), []
    for probe in battery:
        seen, wanted = look(probe), observe(whole_model, probe)
        if not seen.error and not seen.repeats and wanted.repeats:
            return [Clue("draws", "in eval mode your model still draws random numbers: "
                         "nn.Dropout stops by itself, F.dropout needs "
                         "training=self.training")]
        if seen.error or equal(seen.value, wanted.value, 1e-5, 1e-4):
            continue
        if probe.drive is whole.parameter_count:
            found += _count_in_parts(probe.args[0][0], seen.value, wanted.value)
        elif isinstance(wanted.value, dict) and isinstance(seen.value, dict):
            found += [Clue(f"fact {key}", f"{probe.name}: "
                           f"{key} is {seen.value[key]}, expected {value}"
                           if seen.value.get(key) is not None else
                           f"{probe.name}: no {key.removeprefix('spread of ')} of the "
                           "expected shape was found")
                      for key, value in wanted.value.items()
                      if seen.value.get(key) != value]
        elif probe.drive is whole.who_moves:
            found += _leaks(seen.value)
        elif probe.drive is whole.larger_stream:
            found.append(Clue("growth", "tables ten times as large make your logits "
                              f"{seen.value:g} times as large, expected 10: the last "
                              "norm should take the stream's size away"))
    return [*found[:2], *_where(look, battery[1])]


def _count_in_parts(sizes: tuple, mine: object, right: int) -> list[Clue]:
    """Return what the difference of two counts is the size of."""
    if not isinstance(mine, int) or mine == right:
        return []
    V, C, _, L, T, width = sizes
    block = 4 * C * C + 2 * C * width + width + 9 * C
    parts = {"one block": block, "a V x C table": V * C, "a T x C table": T * C,
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
                     f"earlier place {late[0][0]}: the future leaks")]
    return [Clue("deaf", f"changing token {deaf[0][1]} leaves your logits at place "
                 f"{deaf[0][0]} as they were")] if deaf else []


def _where(look: Look, probe: Probe) -> list[Clue]:
    """Return whether the logits are wrong with blocks, or positions, silenced."""
    right = {}
    for without in ("", "blocks", "positions"):
        other = replace(probe, args=(*probe.args, without))
        seen, wanted = look(other), observe(whole_model, other)
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
                     "at which rows of the position table are added, and where")]
    return [Clue("around blocks", "even with blocks that add 0 your logits are wrong: "
                 "look at what comes before the blocks (two tables, added) and after "
                 "(last norm, head)")]


def _alone(**knobs: object) -> partial:
    """Return the model with knobs turned, for mistakes that form no pairs."""
    return partial(whole_model, **knobs)


_TIE = "self.head.weight = self.tok_emb.weight, or F.linear(x, self.tok_emb.weight)"
_Q_TIE = ("The head asks how well a vector fits each token. Which table already holds "
          "a vector for each token?")
_Q_LIST = "What does model.parameters() look through to find the blocks?"
_MODULES = "nn.ModuleList(TransformerBlock(...) for _ in range(num_layers))"
_Q_LN = "How many nats is a uniform guess among V tokens, and where does yours start?"
_Q_DEPTH = "2L times something is added to the stream. What keeps its spread near 1x?"
_DEPTH = "out_proj and down_proj: std = 0.02 / math.sqrt(2 * num_layers)"

WHOLE = (
    Mistake("W1", "the head is not tied to the token table",
            "one V x C table too many: at GPT-2's size 163,037,184 parameters, not "
            "124,439,808", _Q_TIE, "look at how the head gets its matrix", _TIE,
            {"head": "untied"}),
    Mistake("W2", "tied by copy: equal at the start, two tables after one step",
            "two V x C tables, equal at the start and different after one step",
            "Two sheets with the same text: what happens when one is edited?",
            "look for clone, copy_, or [:] =", _TIE, {"head": "copied"}, mark="S"),
    Mistake("W2d", "two parameters that share one storage (.data assigned)",
            "two V x C tables, equal even after a step, but each step moves it twice",
            "How many parameters does the optimizer see?", "look for .data", _TIE,
            function=_alone(head="shared"), mark="R"),
    Mistake("W3", "tables drawn with spread 1, PyTorch's default, under a tied head",
            "the first loss is far above ln V (at GPT-2's size 115, not 10.82)", _Q_LN,
            "look at how the tables get their first numbers",
            "nn.init.normal_(tok_emb.weight, std=0.02)", {"start": "table"}),
    Mistake("W3h", "the tied table keeps nn.Linear's initial weights",
            "the table's standard deviation is 1 / sqrt(3 C), not 0.02", _Q_LN,
            "which parameters does your initialisation leave out?",
            "nn.init.normal_(self.head.weight, std=0.02)",
            function=_alone(start="head")),
    Mistake("W3d", "no first weights drawn: all spreads are PyTorch's defaults",
            "the tables start with spread 1, the matrices with spreads of their own",
            _Q_LN, "is there a line that draws the first weights, and is it called?",
            "initialize(self, num_layers) at the end of __init__",
            function=_alone(start="PyTorch"), mark="R"),
    Mistake("W5", "blocks in a Python list, where PyTorch does not see them",
            "all blocks are missing from the count: at GPT-2's size 39,385,344",
            _Q_LIST,
            "look at the brackets around the blocks", _MODULES,
            function=_alone(blocks="list")),
    Mistake("W6", "[block] * L: the same block L times",
            "the count lacks L - 1 blocks: at GPT-2's size 46,473,216",
            "Does [x] * 3 make three things, or one thing with three names?",
            "look at how the list of blocks is made", _MODULES,
            function=_alone(blocks="same")),
    Mistake("W6b", "one block only", "the count lacks L - 1 blocks, and x passes one",
            "How often does x pass a block?", "look at the loops over the blocks",
            _MODULES, function=_alone(blocks="one"), mark="R"),
    Mistake("W6c", "one block too few (L - 1)", "the count lacks one block",
            "range(n) gives how many numbers?", "look at range", _MODULES,
            function=_alone(blocks="one fewer"), mark="R"),
    Mistake("W6g", "one block too many (L + 1)", "the count has one block more",
            "range(n) gives how many numbers?", "look at range", _MODULES,
            function=_alone(blocks="one more")),
    Mistake("W6d", "what the blocks return is thrown away",
            "no gradient reaches the blocks, and tokens do not move each other",
            "Does a block change x, or return a new x?", "look at the loop",
            "x = block(x)", function=_alone(blocks="thrown away"), mark="R"),
    Mistake("W6e", "every block is given the embeddings, so only the last one counts",
            "no gradient reaches the other blocks",
            "What should block 1 be given: the embeddings, or block 0's result?",
            "look at the loop: what goes in, and where does the result go?",
            "x = block(x)", function=_alone(blocks="from the start"), mark="R"),
    Mistake("W6f", "the stream added to the blocks' results: x + block(x)",
            "a block's result holds x already, so x counts twice after each block",
            "Which two additions does a TransformerBlock make by itself?",
            "look for a + in the loop over the blocks", "x = block(x)",
            function=_alone(blocks="added again"), mark="R"),
    Mistake("W7", "no last norm (ln_final)",
            "2C parameters too few (at GPT-2's size 124,438,272), and a stream ten "
            "times as large gives logits ten times as large",
            "A pre-norm block never norms the stream itself. Who does, at the end?",
            "look between the last block and the head", "logits from self.ln_final(x)",
            {"norm": "none"}),
    Mistake("W7b", "the norm stands before the blocks, not after them",
            "the count is right, and the stream reaches the head unnormed",
            "Where does the stream have its largest numbers?",
            "look at the place of ln_final", "after the last block",
            {"norm": "first"}, mark="R"),
    Mistake("W7c", "a last norm is built, and never called",
            "the count is right, and no gradient reaches the norm",
            "A pre-norm block never norms the stream itself. Who does, at the end?",
            "look between the last block and the head", "logits from self.ln_final(x)",
            {"norm": "unused"}, mark="R"),
    Mistake("W7e", "ln_final after every block, not only after the last",
            "the residual stream is normed between the blocks",
            "What should stay unnormed from block to block?", "look inside the loop",
            "after the loop", function=_alone(norm="in every block")),
    Mistake("W8", "the head has a bias",
            "V parameters too many: at GPT-2's size 50,257",
            "logits = x @ table.T: where is a bias?", "look at the head's nn.Linear",
            "nn.Linear(d_model, vocab_size, bias=False)", {"bias": True}),
    Mistake("W9", "out_proj and down_proj start as large as the rest (not / sqrt(2L))",
            "the stream's spread grows with every block", _Q_DEPTH,
            "look at the first weights of what writes into the stream", _DEPTH,
            {"residual": "none"}),
    Mistake("W9a", "out_proj and down_proj divided by sqrt(L), not sqrt(2L)",
            "each block adds twice, so 2L things are added", _Q_DEPTH,
            "how often does one block add to the stream?", _DEPTH,
            {"residual": "L"}, mark="R"),
    Mistake("W9f", "out_proj and down_proj divided by 2L, not by its root",
            "2L independent things of spread s add up to a spread of s sqrt(2L)",
            _Q_DEPTH, "look for math.sqrt", _DEPTH, {"residual": "no root"}, mark="R"),
    Mistake("W9b", "only out_proj starts smaller; down_proj was forgotten",
            "down_proj starts with spread 0.02", _Q_DEPTH,
            "which two matrices of a block write into the stream?", _DEPTH,
            {"residual": "out_proj"}, mark="R"),
    Mistake("W9c", "only down_proj starts smaller; out_proj was forgotten",
            "out_proj starts with spread 0.02", _Q_DEPTH,
            "which two matrices of a block write into the stream?", _DEPTH,
            {"residual": "down_proj"}, mark="R"),
    Mistake("W9d", "the norms' weights are drawn at random, too",
            "norm weights near 0 make every branch, and the logits, tiny",
            "What should a fresh norm do to its input?",
            "which parameters does your drawing leave out?",
            "draw matrices only: if parameter.dim() == 2",
            function=_alone(start="norms"), mark="R"),
    Mistake("W9e", "biases keep PyTorch's random first values, expected 0",
            "some vectors are neither 0 nor 1", "What should a fresh bias do?",
            "look for the biases in your drawing", "bias.zero_()",
            {"start": "biases"}, mark="R"),
    Mistake("W10", "softmax inside the model: odds returned, not logits",
            "every row adds up to 1, and the loss can never fall below ln(e + V - 1) - "
            "1", "Who applies the softmax when the loss is computed?",
            "look at the last line", "return the logits", {"out": "odds"}, mark="S"),
    Mistake("W10b", "log_softmax inside the model",
            "all numbers are negative; the loss is right, but these are no logits",
            "Who applies the softmax when the loss is computed?",
            "look at the last line", "return the logits", {"out": "logs"}, mark="R"),
    Mistake("W10c", "logits of the last place only",
            "(B, V) in place of (B, T, V): training asks every place",
            "How many places of a text of T tokens predict a next token?",
            "look for [:, -1]", "return the logits of all places", {"out": "last"},
            mark="R"),
    Mistake("W10m", "the mean of the logits over all places",
            "(B, V) in place of (B, T, V): training asks every place",
            "How many places of a text of T tokens predict a next token?",
            "look for mean(1)", "return the logits of all places", {"out": "mean"}),
    Mistake("W10s", "logits divided by sqrt(C)", "all logits are too small by one "
                                                 "factor",
            "Which product is divided by a root in GPT-2: the head's, or attention's?",
            "look for a square root at the end", "F.linear(x, self.tok_emb.weight)",
            {"out": "scaled"}),
    Mistake("W13", "d_ff is not used: the blocks are 4 C wide",
            "right for the usual width, wrong for another",
            "Which arguments does TransformerBlock take?", "where is d_ff used?",
            "TransformerBlock(d_model, num_heads, d_ff)",
            function=_alone(sizes_as="4 C")),
    Mistake("W14", "num_heads is not used: one head",
            "the count is right, the logits are not", "Which number of heads do your "
            "blocks get?", "where is num_heads used?",
            "TransformerBlock(d_model, num_heads, d_ff)",
            function=_alone(sizes_as="one head")),
    Mistake("W15", "the position table has one row too many",
            "C parameters too many", "How many places has a text of max_seq_length "
            "tokens?", "look for + 1", "nn.Embedding(max_seq_length, d_model)",
            function=_alone(sizes_as="one more position")),
    Mistake("W11", "the mask is a Parameter",
            "T x T parameters too many, which no gradient reaches",
            "Is the mask something to be learned?", "look for nn.Parameter",
            "leave the mask to the attention, or register_buffer",
            function=_alone(mask=True), mark="R"),
    Mistake("W12", "vocabulary padded to a multiple of 64",
            "logits for tokens that do not exist: at GPT-2's size 50,304 of them, and "
            "124,475,904 parameters", "Which token would id 50,300 be?",
            "look for a rounding, or a number in place of vocab_size",
            "nn.Embedding(vocab_size, d_model)", function=_alone(padded=True)),
    Mistake("E1", "positions never added, though there is a table",
            "no gradient reaches the position table", "How does the model know order?",
            "look at the first lines of forward", "x = tok_emb(ids) + pos_emb[:T]",
            function=_alone(positions="unused")),
    Mistake("E1b", "no position table at all",
            "T x C parameters too few: at GPT-2's size 786,432",
            "How does the model know order?", "look at the tables in __init__",
            "self.pos_emb = nn.Embedding(max_seq_length, d_model)",
            function=_alone(positions="no table")),
    Mistake("E4", "all positions added, not the first T",
            "it works only for texts of max_seq_length tokens",
            "Which rows of the position table does a text of 5 tokens need?",
            "look at the first line of forward", "x = tok_emb(ids) + pos_emb[:T]",
            function=_alone(positions="all"), mark="S"),
    Mistake("E5", "positions counted from 1",
            "a text of max_seq_length tokens gets an index too large",
            "Which is the first row of a table?", "look at the arange",
            "torch.arange(T)", function=_alone(positions="from 1"), mark="R"),
    Mistake("E6", "token rows multiplied by sqrt(C)",
            "the token outweighs its position sqrt(C) times",
            "Whose model scales its embeddings: GPT-2's, or the transformer of 2017?",
            "look for a square root", "x = tok_emb(ids) + pos_emb[:T]",
            function=_alone(positions="scaled tokens"), mark="S"),
    Mistake("E8", "sines and cosines in place of a learned position table",
            "T x C parameters too few: at GPT-2's size 786,432",
            "Who makes GPT-2's positions: a formula, or the training?",
            "look for sin and cos",
            "self.pos_emb = nn.Embedding(max_seq_length, d_model)",
            function=_alone(positions="waves")),
    Mistake("E10", "positions added before every block",
            "the stream drifts along the positions, the deeper the more",
            "How often do positions enter the stream?", "look inside the loop",
            "add them once, before the loop",
            function=_alone(positions="in every block"), mark="R"),
)

GPT2 = Exercise(
    "GPT2", "07", "GPT2(vocab_size, d_model, num_heads, num_layers, max_seq_length, "
    "d_ff), an nn.Module: GPT2(...)(input_ids) -> logits (B, T, V)", whole_model,
    model_probes, WHOLE, model_read_out,
    robust=(Robust("a tensor of it is neither a parameter nor a buffer: "
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
              "self.tok_emb(input_ids); its table is self.tok_emb.weight"),
             (r"mat1 and mat2", "if it is the head: x is (B, T, C) and the table "
              "(V, C), so x @ table.T or F.linear(x, table)"),
             (r"size of tensor a", "token rows are (B, T, C): which rows of the "
              "position table fit them?"),
             (r"before Module.__init__", "call super().__init__() first in __init__"),
             (r"index out of range",
              "an index is as large as a table: tok_emb has vocab_size rows, pos_emb "
              "max_seq_length, and places count from 0"),
             (r"should be a Tensor|must be Tensor|not tuple",
              "return the logits alone")),
    hints=("Five parts: two tables, added; the blocks, one after the other; a last "
           "norm; the token table again. Count each one's parameters by hand.",
           "Build it with d_model=12, and print each parameter's name and shape.",
           "logits = F.linear(self.ln_final(x), self.tok_emb.weight)"),
    atol=1e-4, rtol=1e-3, solution="""\
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
        x = self.tok_emb(input_ids) + self.pos_emb.weight[:input_ids.size(1)]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln_final(x), self.tok_emb.weight)""")

# --- counting -------------------------------------------------------------------------


def count(model: nn.Module, *, over: str = "parameters", what: str = "entries",
          buffers: bool = False, only: str = "") -> int:
    """Return the number of parameters, or what a mistake counts."""
    named = dict(model.named_parameters(remove_duplicate=over != "duplicates"))
    if over == "state_dict":
        named = model.state_dict()
    if over == "modules":
        named = {f"{i} {name}": p for i, part in enumerate(model.modules())
                 for name, p in part.named_parameters(recurse=False)}
    if only == "weights":
        named = {name: p for name, p in named.items() if name.endswith("weight")}
    if only == "different":
        named = {tuple(p.shape): p for p in named.values()}
    if only == "matrices":
        named = {name: p for name, p in named.items() if p.dim() == 2}
    if only == "own":
        named = dict(model.named_parameters(recurse=False))
    parts = [*named.values(), *(model.buffers() if buffers else ())]
    return {"entries": lambda: sum(p.numel() for p in parts),
            "first": lambda: parts[0].numel(), "last": lambda: parts[-1].numel(),
            "axes": lambda: sum(sum(p.shape) for p in parts),
            "nonzero": lambda: sum(int((p != 0).sum()) for p in parts),
            "tensors": lambda: len(parts), "rows": lambda: sum(map(len, parts)),
            "bytes": lambda: sum(p.numel() * p.element_size() for p in parts)}[what]()


_Q_COUNT = "Which numbers does training change, and how many places hold each of them?"
_COUNT = "sum(p.numel() for p in model.parameters())"


def count_probes(g: Generator) -> list[Probe]:
    """Return toy models: plain, tied, with a buffer, shared, deep, of any size.

    None has a frozen parameter: whether that one "can be learned" is open.
    """
    sizes = (10 + torch.randint(90, (2,), generator=g)).tolist()
    return [*(Probe(f"a {kind} model", (kind,), whole.counted)
              for kind in ("plain", "tied", "buffers", "shared", "deep")),
            Probe("a plain model, table {} x {}".format(*sizes), ("plain", *sizes),
                  whole.counted)]


def count_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what is counted of each toy model."""
    seen = {kind: look(Probe(kind, (kind,), whole.counted)).value
            for kind in ("plain", "tied", "buffers", "shared", "deep")}
    right = {"plain": 42, "tied": 21, "buffers": 42, "shared": 54, "deep": 124}
    wrong = [f"{kind}: {seen[kind]}, expected {right[kind]}" for kind in right
             if seen[kind] != right[kind]]
    return [Clue("counts", "; ".join(wrong))] if wrong else []


count_parameters = Exercise(
    "count_parameters", "07", "count_parameters(model) -> int", count, count_probes, (
        Mistake("W4", "counted through state_dict, where a tied table stands twice",
                "a tied model seems untied (at GPT-2's size 163,037,184 for "
                "124,439,808), and buffers are counted, too", _Q_COUNT,
                "what does state_dict hold beside parameters?", _COUNT,
                {"over": "state_dict"}),
        Mistake("W4b", "a tied or shared parameter counted once for each name",
                "a tied model seems untied", _Q_COUNT,
                "look for remove_duplicate, or a sum over modules", _COUNT,
                {"over": "duplicates"}),
        Mistake("W4i", "counted module by module: a tied table counts twice",
                "a tied model seems untied; shared blocks are right", _Q_COUNT,
                "which two modules hold the tied table?", _COUNT,
                {"over": "modules"}, mark="R"),
        Mistake("W11", "buffers counted, too", "a mask that is never trained counts",
                _Q_COUNT, "look for buffers", _COUNT, {"buffers": True}, mark="R"),
        Mistake("W4a", "the sizes of the axes added up, not multiplied",
                "a 7 x 3 table counts as 10", "How many numbers are in a 7 x 3 table?",
                "look at what is done with p.shape", _COUNT, {"what": "axes"}),
        Mistake("W4s", "tensors of equal shape counted once",
                "two layers of the same size count as one",
                "What makes two tensors one: their shape, or being the same tensor?",
                "look for a set", _COUNT, {"only": "different"}),
        Mistake("W4w", "only parameters called weight", "biases are left out", _Q_COUNT,
                "look at the condition", _COUNT, {"only": "weights"}),
        Mistake("W4n", "numbers that are 0 are left out",
                "a fresh bias of zeros is not counted",
                "Is a 0 that training will change no parameter?", "look for != 0",
                _COUNT, {"what": "nonzero"}),
        Mistake("W4d", "tensors counted, not their entries",
                "a whole table counts as 1", "How many numbers are in a 7 x 3 table?",
                "look at what you add up", _COUNT, {"what": "tensors"}, mark="R"),
        Mistake("W4e", "rows counted, not entries (len in place of numel)",
                "a 7 x 3 table counts as 7", "What does len of a matrix give?",
                "look for len or size(0)", _COUNT, {"what": "rows"}, mark="R"),
        Mistake("W4f", "bytes, not numbers", "four times too many, in float32",
                "How many bytes has one float32?", "look for element_size or * 4",
                _COUNT, {"what": "bytes"}, mark="R"),
        Mistake("W4j", "the first tensor alone is counted",
                "what comes after the first tensor makes no difference",
                "When does your loop end?", "look at where `return` stands", _COUNT,
                {"what": "first"}, mark="R"),
        Mistake("W4k", "the last tensor alone is counted",
                "what comes before the last tensor makes no difference",
                "What becomes of the sum when the next tensor comes?",
                "look for = or =+ where += should be", _COUNT, {"what": "last"},
                mark="R"),
        Mistake("W4g", "biases and norms left out", "only matrices are counted",
                _Q_COUNT, "look at the condition", _COUNT, {"only": "matrices"},
                mark="R"),
        Mistake("W4h", "the parts' parameters left out", "the count is 0",
                "Whose parameters are they: the model's own, or its parts'?",
                "look for recurse=False", _COUNT, {"only": "own"}, mark="R"),
    ), count_read_out, show="a tied model",
    crashes=((r"(builtin_function_or_method|method)'", "numel and size are methods: "
              "they need brackets, p.numel()"),
             (r"index out of range|out of bounds", "a bias has one axis only: "
              "p.numel() counts for any number of axes")),
    hints=("Each parameter is a tensor; .numel() says how many numbers it holds.",
           "Does your function give 21 for a 7 x 3 table that is tied to the head?",
           _COUNT), solution="""\
def count_parameters(model):
    return sum(p.numel() for p in model.parameters())""")
