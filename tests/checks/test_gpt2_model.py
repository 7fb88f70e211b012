"""The checks of embeddings, of the whole model, and of its count: entries E and W."""

import math
import re

import mutants
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from catalogue import Catalogue
from mutants import compiled
from mutants import mutants as every

from gpt2_lesson import checks
from gpt2_lesson.gpt2_model import GPT2Model, initialize
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock

PARTS = {"LayerNorm": LayerNorm, "TransformerBlock": TransformerBlock}

# What learners write, as bodies of embed(input_ids, tok_emb, pos_emb).
EMBED = {
    "E1": "return tok_emb[input_ids]",
    "E2": "return tok_emb[input_ids] + pos_emb[:input_ids.size(0)]",
    "E2a": "return tok_emb[input_ids] + pos_emb[torch.arange(len(input_ids))]",
    "E2b": """B, T = input_ids.shape
return tok_emb[input_ids] + pos_emb[:B].unsqueeze(1)""",
    "E3": "return tok_emb[input_ids] + pos_emb[input_ids]",
    "E4": "return tok_emb[input_ids] + pos_emb",
    "E5": """T = input_ids.shape[1]
return tok_emb[input_ids] + pos_emb[torch.arange(1, T + 1)]""",
    "E5b": "return tok_emb[input_ids] + pos_emb[1:input_ids.size(1) + 1]",
    "E5c": "return tok_emb[input_ids] + pos_emb[-input_ids.size(1):]",
    "E5d": "return tok_emb[input_ids] + pos_emb[0]",
    "E5e": "return tok_emb[input_ids] + pos_emb[input_ids.size(1) - 1]",
    "E6": """x = tok_emb[input_ids] * math.sqrt(tok_emb.size(-1))
return x + pos_emb[:input_ids.size(1)]""",
    "E6z": """x = tok_emb[input_ids]
return pos_emb[:input_ids.size(1)].repeat(len(input_ids), 1, 1)""",
    "E8": """T, C = input_ids.size(1), tok_emb.size(1)
pe = torch.zeros(T, C)
place = torch.arange(T).unsqueeze(1)
rate = torch.exp(torch.arange(0, C, 2) * (-math.log(10000.0) / C))
pe[:, 0::2] = torch.sin(place * rate)
pe[:, 1::2] = torch.cos(place * rate)
return tok_emb[input_ids] + pe""",
    "E9": """B, T = input_ids.shape
return torch.cat([tok_emb[input_ids], pos_emb[:T].repeat(B, 1, 1)], dim=-1)""",
    "E9t": "return tok_emb[input_ids] * pos_emb[:input_ids.size(1)]",
    "E10": """x = tok_emb[input_ids] + pos_emb[:input_ids.size(1)]
x = x + pos_emb[:input_ids.size(1)]
return x""",
    "E11": "return tok_emb[input_ids] + pos_emb[:input_ids.size(1)].detach()",
    "E11t": "return tok_emb.data[input_ids] + pos_emb[:input_ids.size(1)]",
    "E6o": "x = tok_emb[input_ids] / math.sqrt(tok_emb.size(-1))\n"
    "return x + pos_emb[:input_ids.size(1)]",
    "E5r": "return tok_emb[input_ids] + pos_emb[:input_ids.size(1)].flip(0)",
    "E5m": "return tok_emb[input_ids] + pos_emb[:input_ids.size(1)].mean(0)",
    "E9h": "return (tok_emb[input_ids] + pos_emb[:input_ids.size(1)]) / 2",
    "E9m": "return tok_emb[input_ids] - pos_emb[:input_ids.size(1)]",
    "E9n": "x = tok_emb[input_ids] + pos_emb[:input_ids.size(1)]\n"
    "return F.layer_norm(x, x.shape[-1:])",
}


def by_loops(input_ids, tok_emb, pos_emb):
    return torch.stack(
        [
            torch.stack([tok_emb[i] + pos_emb[t] for t, i in enumerate(row)])
            for row in input_ids.tolist()
        ]
    )


HONEST_EMBED = {
    "slice": lambda ids, tok, pos: tok[ids] + pos[: ids.size(1)],
    "arange": lambda ids, tok, pos: tok[ids] + pos[torch.arange(ids.shape[-1])],
    "functional": lambda ids, tok, pos: (
        F.embedding(ids, tok)
        + F.embedding(torch.arange(ids.size(1)).expand_as(ids), pos)
    ),
    "loops": by_loops,
    "one-hot": lambda ids, tok, pos: (
        F.one_hot(ids, len(tok)).float() @ tok + pos[: ids.size(1)]
    ),
    "index_select": lambda ids, tok, pos: (
        tok.index_select(0, ids.flatten()).view(*ids.shape, -1).add(pos[: ids.size(1)])
    ),
    "unsqueezed": lambda ids, tok, pos: pos[None, : ids.size(1)] + tok[ids],
    "gather": lambda ids, tok, pos: (
        tok.gather(0, ids.flatten()[:, None].expand(-1, tok.size(1))).unflatten(
            0, ids.shape
        )
        + pos.narrow(0, 0, ids.size(1))
    ),
    "module": lambda ids, tok, pos: (
        nn.functional.embedding(ids, tok) + pos[range(ids.size(1))]
    ),
}

# A whole model as a learner writes it, and what is exchanged in it.
SOURCE = """\
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
        return F.linear(self.ln_final(x), self.tok_emb.weight)"""
TIED = "F.linear(self.ln_final(x), self.tok_emb.weight)"
LAST = "        self.ln_final = LayerNorm(d_model)\n"
HEAD = "nn.Linear(d_model, vocab_size, bias=False)"
LIST = """nn.ModuleList(
            TransformerBlock(d_model, num_heads, d_ff) for _ in range(num_layers))"""
ADDED = "self.tok_emb(input_ids) + self.pos_emb.weight[:input_ids.size(1)]"
TABLE = "self.pos_emb = nn.Embedding(max_seq_length, d_model)"
SMALL = 'elif name.endswith(("out_proj.weight", "down_proj.weight")):'
ROOT = "math.sqrt(2 * num_layers)"
LOOP = """        for name, p in self.named_parameters():"""


def with_head(
    head: str, after: str = "", how: str = "self.head(self.ln_final(x))"
) -> list[tuple[str, str]]:
    return [
        (LAST, f"{LAST}        self.head = {head}\n"),
        (TIED, how),
        ("    def forward", f"        {after}\n\n    def forward"),
    ]


WRONG = {
    "W1": with_head(HEAD),
    "W2": with_head(HEAD, "self.head.weight.data.copy_(self.tok_emb.weight.data)"),
    "W2'": with_head(
        HEAD, "self.head.weight = nn.Parameter(self.tok_emb.weight.detach().clone())"
    ),
    "W2d": with_head(HEAD, "self.head.weight.data = self.tok_emb.weight.data"),
    "W3": [("elif p.dim() == 2:", "elif p.dim() == 2 and 'emb' not in name:")],
    "W3h": with_head(HEAD, "self.tok_emb.weight = self.head.weight")
    + [("elif p.dim() == 2:", "elif p.dim() == 2 and 'head' not in name:")],
    "W3d": [(SOURCE[SOURCE.index(LOOP) : SOURCE.index("    def forward")], "\n")],
    "W5": [
        (
            LIST,
            "[TransformerBlock(d_model, num_heads, d_ff) for _ in range(num_layers)]",
        )
    ],
    "W6": [
        (
            LIST,
            "nn.ModuleList([TransformerBlock(d_model, num_heads, d_ff)] * num_layers)",
        )
    ],
    "W6'": [
        (LIST, "TransformerBlock(d_model, num_heads, d_ff)"),
        (LAST, f"{LAST}        self.L = num_layers\n"),
        ("in self.blocks", "in [self.blocks] * self.L"),
    ],
    "W6b": [
        (LIST, "[]"),
        (
            LAST,
            f"""{LAST}
        for i in range(num_layers):
            self.block = TransformerBlock(d_model, num_heads, d_ff)
""",
        ),
        (
            "        for block in self.blocks:\n            x = block(x)",
            "        x = self.block(x)",
        ),
    ],
    "W6c": [("range(num_layers)", "range(1, num_layers)")],
    "W6g": [("range(num_layers)", "range(num_layers + 1)")],
    "W7e": [("x = block(x)", "x = self.ln_final(block(x))")],
    "W10m": [(TIED, f"{TIED}.mean(1)")],
    "W10s": [(TIED, f"{TIED} / math.sqrt(x.size(-1))")],
    "W13": [("num_heads, d_ff)", "num_heads, 4 * d_model)")],
    "W14": [("TransformerBlock(d_model, num_heads", "TransformerBlock(d_model, 1")],
    "W15": [("Embedding(max_seq_length", "Embedding(max_seq_length + 1")],
    "W6d": [("x = block(x)", "block(x)")],
    "W7": [(LAST, ""), ("self.ln_final(x)", "x")],
    "W6e": [
        (
            "        for block in self.blocks:\n            x = block(x)",
            "        for block in self.blocks:\n            y = block(x)",
        ),
        ("self.ln_final(x)", "self.ln_final(y)"),
    ],
    "W6f": [("x = block(x)", "x = x + block(x)")],
    "W7c": [("self.ln_final(x)", "x")],
    "W7b": [
        ("        for block in", "        x = self.ln_final(x)\n        for block in"),
        (TIED, "F.linear(x, self.tok_emb.weight)"),
    ],
    "W8": with_head(
        "nn.Linear(d_model, vocab_size)",
        "self.head.weight = self.tok_emb.weight; nn.init.zeros_(self.head.bias)",
    ),
    "W9": [(f"0.02 / {ROOT}", "0.02")],
    "W9a": [(ROOT, "math.sqrt(num_layers)")],
    "W9f": [(ROOT, "(2 * num_layers)")],
    "W9b": [(SMALL, 'elif name.endswith("out_proj.weight"):')],
    "W9c": [(SMALL, 'elif name.endswith("down_proj.weight"):')],
    "W9d": [("elif p.dim() == 2:", "else:")],
    "W9e": [
        (
            'if name.endswith("bias"):\n                nn.init.zeros_(p)',
            'if name.endswith("bias"):\n                pass',
        )
    ],
    "W10": [(TIED, f"F.softmax({TIED}, dim=-1)")],
    "W10b": [(TIED, f"{TIED}.log_softmax(-1)")],
    "W10c": [(TIED, f"{TIED}[:, -1]")],
    "W11": [
        (
            LAST,
            f"{LAST}        self.mask = nn.Parameter(torch.tril(torch.ones("
            "max_seq_length, max_seq_length)))\n",
        ),
        (LOOP, f"{LOOP}\n            if name == 'mask': continue"),
    ],
    "W12": [("nn.Embedding(vocab_size", "nn.Embedding((vocab_size + 63) // 64 * 64")],
    "E1": [(ADDED, "self.tok_emb(input_ids)")],
    "E1b": [(TABLE, "pass"), (ADDED, "self.tok_emb(input_ids)")],
    "E4": [(ADDED, "self.tok_emb(input_ids) + self.pos_emb.weight")],
    "E5": [
        (
            ADDED,
            "self.tok_emb(input_ids) + self.pos_emb(torch.arange("
            "1, input_ids.size(1) + 1))",
        )
    ],
    "E6": [(ADDED, f"self.tok_emb.embedding_dim ** 0.5 * {ADDED}")],
    "E8": [
        (
            TABLE,
            """C, pe = d_model, torch.zeros(max_seq_length, d_model)
        place = torch.arange(max_seq_length)[:, None]
        rate = 10000 ** (-torch.arange(0, C, 2) / C)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("pe", pe)""",
        ),
        ("self.pos_emb.weight", "self.pe"),
    ],
    "E10": [
        ("x = block(x)", "x = block(x + self.pos_emb.weight[:x.size(1)])"),
        (ADDED, "self.tok_emb(input_ids)"),
    ],
}


def model_of(changes: list[tuple[str, str]]):
    source = SOURCE
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return compiled(source, "GPT2", PARTS)


class ByApply(nn.Module):
    """Tied nn.Linear, Sequential, nn.LayerNorm, init by apply, positions 0.02."""

    def __init__(
        self, vocab_size, d_model, num_heads, num_layers, max_seq_length, d_ff
    ):
        super().__init__()
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, d_model),
                "wpe": nn.Embedding(max_seq_length, d_model),
                "ln_f": nn.LayerNorm(d_model),
                "h": nn.Sequential(
                    *[
                        TransformerBlock(d_model, num_heads, d_ff)
                        for _ in range(num_layers)
                    ]
                ),
            }
        )
        self.transformer["wte"].weight = self.lm_head.weight
        self.apply(self.draw)
        for name, p in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                torch.nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * num_layers))

    def draw(self, part):
        if isinstance(part, nn.Linear | nn.Embedding):
            torch.nn.init.normal_(part.weight, mean=0.0, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            torch.nn.init.zeros_(part.bias)

    def forward(self, ids, targets=None):
        places = torch.arange(0, ids.size(1), dtype=torch.long)
        x = self.transformer["wte"](ids) + self.transformer["wpe"](places)
        return self.lm_head(self.transformer["ln_f"](self.transformer["h"](x)))


class Split(nn.Module):
    """A block with matrices of its own for queries, keys and values."""

    def __init__(self, C, H, width):
        super().__init__()
        self.H, self.q_proj = H, nn.Linear(C, C)
        self.k_proj, self.v_proj = nn.Linear(C, C), nn.Linear(C, C)
        self.out_proj, self.norms = (
            nn.Linear(C, C),
            nn.ModuleList(nn.LayerNorm(C) for _ in range(2)),
        )
        self.up_proj, self.down_proj = nn.Linear(C, width), nn.Linear(width, C)

    def forward(self, x):
        y = self.norms[0](x)
        q, k, v = (
            p(y).unflatten(-1, (self.H, -1)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out_proj(y.transpose(1, 2).flatten(2))
        return x + self.down_proj(
            F.gelu(self.up_proj(self.norms[1](x)), approximate="tanh")
        )


class WithSplit(GPT2Model):
    def __init__(self, V, C, H, L, T, width):
        super().__init__(V, C, H, L, T, width)
        self.blocks = nn.ModuleList(Split(C, H, width) for _ in range(L))
        initialize(self, L)

    def forward(self, ids):
        x = self.tok_emb(ids) + self.pos_emb.weight[: ids.size(1)]
        for block in self.blocks:
            x = block(x)
        return self.ln_final(x) @ self.tok_emb.weight.T


class Tables(nn.Module):
    """Tables as bare parameters; the norm stands before the blocks in the class."""

    def __init__(self, V, C, H, L, T, width):
        super().__init__()
        self.ln_final = LayerNorm(C)
        self.positions = nn.Parameter(0.01 * torch.randn(T, C))
        self.tokens = nn.Parameter(torch.zeros(V, C).normal_(0, 0.02))
        for i in range(L):
            self.add_module(f"block{i}", TransformerBlock(C, H, width, 0.0))
        self.L = L
        model = GPT2Model(V, C, H, L, T, width)
        for i in range(L):
            self.get_submodule(f"block{i}").load_state_dict(
                model.blocks[i].state_dict()
            )

    def forward(self, ids):
        x = self.tokens[ids] + self.positions[None, : ids.shape[1]]
        for i in range(self.L):
            x = getattr(self, f"block{i}")(x)
        return torch.einsum("btc,vc->btv", self.ln_final(x), self.tokens)


def builder(vocab_size, d_model, num_heads, num_layers, max_seq_length, d_ff):
    return GPT2Model(
        vocab_size=vocab_size,
        d_model=d_model,
        num_heads=num_heads,
        num_layers=num_layers,
        max_seq_length=max_seq_length,
        d_ff=d_ff,
        dropout=0.0,
    )


HONEST = {
    "lesson": GPT2Model,
    "solution": checks.GPT2.solution,
    "builder": builder,
    "last line": model_of([]),
    "by apply": ByApply,
    "own block": WithSplit,
    "bare tables": Tables,
    "tied head": model_of(with_head(HEAD, "self.head.weight = self.tok_emb.weight")),
    "tied the other way": model_of(
        with_head(
            HEAD,
            "self.tok_emb.weight = self.head.weight; nn.init.normal_("
            "self.head.weight, std=0.02)",
        )
    ),
    "buffer": model_of(
        [
            (
                LAST,
                f"{LAST}        self.register_buffer('places', torch.arange("
                "max_seq_length), persistent=False)\n",
            ),
            (
                "self.pos_emb.weight[:input_ids.size(1)]",
                "self.pos_emb(self.places[:input_ids.size(1)])",
            ),
        ]
    ),
    "dropout": model_of(
        [
            (LAST, f"{LAST}        self.drop = nn.Dropout(0.1)\n"),
            (ADDED, f"self.drop({ADDED})"),
        ]
    ),
    "matmul": model_of([(TIED, "self.ln_final(x) @ self.tok_emb.weight.t()")]),
}


class ListOfBlocks(GPT2Model):
    """The lesson's: blocks drawn as they should be, then hidden in a list."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        blocks = list(self.blocks)
        del self.blocks
        self.blocks = blocks


COUNTS = {
    "W4": "return sum(t.numel() for t in model.state_dict().values())",
    "W4i": """return sum(p.numel() for part in model.modules()
                for p in part.parameters(recurse=False))""",
    "W4b": "return sum(p.numel() for _, p in model.named_parameters("
    "remove_duplicate=False))",
    "W11": """total = sum(p.numel() for p in model.parameters())
return total + sum(b.numel() for b in model.buffers())""",
    "W4a": "return sum(sum(p.shape) for p in model.parameters())",
    "W4s": "return sum(math.prod(s) for s in {p.shape for p in model.parameters()})",
    "W4w": "return sum(p.numel() for name, p in model.named_parameters() if "
    "name.endswith('weight'))",
    "W4n": "return sum(int((p != 0).sum()) for p in model.parameters())",
    "W4d": "return len(list(model.parameters()))",
    "W4e": "return sum(len(p) for p in model.parameters())",
    "W4f": "return sum(p.numel() * 4 for p in model.parameters())",
    "W4j": """total = 0
for p in model.parameters():
    total += p.numel()
    return total""",
    "W4k": """total = 0
for p in model.parameters():
    total =+ p.numel()
return total""",
    "W4g": "return sum(p.numel() for p in model.parameters() if p.dim() > 1)",
    "W4h": "return sum(p.numel() for p in model.parameters(recurse=False))",
}


def by_identity(model):
    seen = {id(p): p for p in model.parameters()}
    return sum(math.prod(p.shape) for p in seen.values())


HONEST_COUNTS = {
    "sum": lambda model: sum(p.numel() for p in model.parameters()),
    "learnable": lambda model: sum(
        p.numel() for p in model.parameters() if p.requires_grad
    ),
    "named": lambda model: sum(p.numel() for _, p in model.named_parameters()),
    "identity": by_identity,
    "nelement": lambda model: sum(p.nelement() for p in model.parameters()),
    "map": lambda model: sum(map(torch.numel, model.parameters())),
    "set": lambda model: sum(p.numel() for p in set(model.parameters())),
    "cat": lambda model: len(torch.cat([p.flatten() for p in model.parameters()])),
    "vector": lambda model: nn.utils.parameters_to_vector(model.parameters()).size(0),
}
CASES = {
    "embed": (EMBED, HONEST_EMBED),
    "GPT2": (
        {name: model_of(changes) for name, changes in WRONG.items()}
        | {"W5l": ListOfBlocks},
        HONEST,
    ),
    "count_parameters": (COUNTS, HONEST_COUNTS),
}


COUNTING = """\
def count_parameters(model):
    model = model.eval()
    total = 0
    for p in model.parameters():
        total += p.numel()
    return total
"""


class TestCatalogue(Catalogue):
    cases = CASES
    extra = PARTS
    sources = {"count_parameters": COUNTING}
    seconds = 5

    @pytest.mark.slow
    def test_no_mutant_passes(self, name: str, record_property, monkeypatch) -> None:
        """Of the whole model every second change: they take long."""
        if name == "GPT2":
            monkeypatch.setattr(
                mutants,
                "mutants",
                lambda source: [
                    one
                    for one in every(source)
                    if not one[0].split(": ")[1].replace(" -> ", "").isidentifier()
                    and "exchanged" not in one[0]
                ][::2],
            )
        super().test_no_mutant_passes(name, record_property)


def test_two_mistakes_at_once_are_both_named() -> None:
    report = checks.GPT2(model_of(with_head("nn.Linear(d_model, vocab_size)")))
    assert {mistake.id for mistake in report.matches[0]} == {"W1", "W8"}


@pytest.mark.parametrize(
    "changes",
    [
        [
            (TIED, "self.ln_final(x) @ self.out"),
            (
                LAST,
                f"{LAST}        self.out = "
                "nn.Parameter(0.02 * torch.randn(d_model, vocab_size))\n",
            ),
        ],
        with_head("nn.Linear(d_model, vocab_size)", how=f"{TIED} + self.head.bias"),
    ],
)
def test_a_fault_of_the_head_is_not_looked_for_in_the_blocks(changes: list) -> None:
    report = checks.GPT2(model_of(changes))
    assert not report.passed and "how the blocks are built" not in str(report)


def test_initial_weights_are_not_called_random_results() -> None:
    """A table that keeps nn.Linear's weights once "draws random numbers"."""
    for name in ("W3h", "W3d"):
        assert "draws random" not in str(checks.GPT2(model_of(WRONG[name])))
    xavier = [("nn.init.normal_(p, std=0.02)", "nn.init.xavier_normal_(p)")]
    assert "random numbers" not in str(checks.GPT2(model_of(xavier)))


def test_a_count_is_told_with_the_sizes_that_it_belongs_to() -> None:
    """Two models of two sizes were once compared: "276 apart", "204 too many"."""
    report = checks.GPT2(
        model_of(
            [
                (
                    LAST,
                    LAST + "        self.more = nn.Parameter("
                    "torch.zeros(vocab_size, d_model))\n",
                )
            ]
        )
    )
    assert any(
        re.search(r"GPT2\(\d+, 12, .* parameters too many", clue.text)
        for clue in report.clues
    ), str(report)


def test_norms_drawn_at_random_are_wrong_in_their_initial_weights_alone() -> None:
    text = str(checks.GPT2(model_of(WRONG["W9d"])))
    assert "wrong only on: initial weights" in text and "nan" not in text


def test_a_model_that_draws_in_eval_mode_is_not_said_to_leak() -> None:
    text = str(checks.GPT2(model_of([(ADDED, f"F.dropout({ADDED}, 0.1)")])))
    assert "in eval mode your model still uses" in text and "leaks" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((TIED, "self.ln_final(x) @ self.tok_emb.weight"), "x @ table.T"),
        ((ADDED, "self.tok_emb[input_ids]"), "is called with ids"),
        ((TIED, "self.ln_final(x)"), "a token has no logit"),
        (("num_heads, d_ff) for", "d_ff, num_heads) for"), "in this order"),
    ],
)
def test_a_crash_of_the_whole_model_is_told_what_to_look_at(change, said: str) -> None:
    text = str(checks.GPT2(model_of([change])))
    assert said in text


def test_a_crash_in_a_class_has_its_line(tmp_path) -> None:
    path = tmp_path / "cell.py"
    path.write_text(SOURCE.replace(TIED, "self.ln_final(x) @ self.tok_emb.weight"))
    names = {"nn": nn, "F": F, "math": math, **PARTS}
    exec(compile(path.read_text(), str(path), "exec"), names)
    report = checks.GPT2(names["GPT2"])
    assert any(
        line.startswith("line ") and "self.ln_final(x) @" in line
        for line in report.symptoms
    )


def test_methods_without_brackets_and_plain_tables_are_explained() -> None:
    text = str(
        checks.count_parameters(lambda model: sum(p.numel for p in model.parameters()))
    )
    assert "they need brackets" in text
    assert "plain tensors" in str(checks.embed(lambda ids, tok, pos: tok(ids)))


def test_a_spread_that_does_not_show_is_called_so() -> None:
    report = checks.answer("07.4", [5.556, 5.534, 5.553])
    assert "embeddings were not changed" in report.named


def face(*channels) -> torch.Tensor:
    """Return twelve hours on a circle: (12, C), a channel for each function."""
    angle = torch.arange(12) * math.pi / 6
    return torch.stack([f(angle) for f in channels], 1)


def clock(table, up=None, down=None) -> dict:
    """Return three matrices: by default row f asks for hour f, and adds hour f + 1."""
    return {
        "tok_emb": table,
        "up_proj": table if up is None else up,
        "down_proj": table.roll(-1, 0).T if down is None else down,
    }


FOUR = face(torch.cos, torch.sin, lambda a: -a.cos(), lambda a: -a.sin())
PLANE = torch.tensor([[1, -1, 0], [3**-0.5, 3**-0.5, -2 * 3**-0.5]])  # mean 0
THREE = face(torch.cos, torch.sin) @ PLANE
TURN = FOUR[1, :2]  # cos and sin of 30 degrees
STEP = torch.block_diag(*[torch.tensor([[TURN[0], -TURN[1]], [TURN[1], TURN[0]]])] * 2)
EYE = torch.eye(12)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (clock(FOUR), ""),
        (clock(THREE), ""),
        (clock(10 * FOUR, FOUR), ""),
        ({name: part.tolist() for name, part in clock(FOUR).items()}, ""),
        # gelu(x) - gelu(-x) is x: any matrix fits into a feed-forward, here a turn
        (
            clock(
                FOUR,
                torch.cat([STEP, -STEP]),
                9 * torch.eye(4).repeat(1, 2) * (torch.tensor([1.0] * 4 + [-1.0] * 4)),
            ),
            "",
        ),
        (clock(EYE), "it is a clock, in 12 channels; now do it in 4"),
        (clock(FOUR, down=FOUR.roll(1, 0).T), "it goes backwards"),
        (clock(EYE, down=EYE.roll(1, 1)), "it goes backwards"),
        (clock(FOUR, down=FOUR.T), "it echoes"),
        (clock(FOUR, 0 * FOUR), "it echoes"),
        (clock(face(torch.cos, torch.sin)), "of 12 hours are followed by the next one"),
        (clock(torch.arange(12.0)[:, None]), "followed by 0, whichever it is"),
        (clock(EYE[:, :4]), "3 of 12 hours are followed by the next one"),
        (
            clock(EYE[[*range(8), 4, 9, 10, 11]]),
            "After hour 3 hours 4 and 8 have the same",
        ),
        (
            clock(EYE, down=torch.cat([EYE[1:], 0 * EYE[:1]]).T),
            "11 of 12 hours are followed by the next one. After hour 11 the model "
            "generates 11",
        ),
        (
            clock(FOUR, down=FOUR.roll(-1, 0)),
            "down_proj has the shape (12, 4), expected (4, 12)",
        ),
        (clock(FOUR, FOUR / 0), "up_proj contains nan"),
        ([FOUR, FOUR, FOUR.T], "a dict of three matrices"),
    ],
)
def test_a_clock_made_by_hand(made: object, says: str) -> None:
    report = checks.answer("07.5", made)
    assert report.passed == (not says), report
    assert says in str(report)


def test_the_clock_is_judged_as_the_model_computes() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        made = clock(
            *(
                torch.randn(shape, generator=generator)
                for shape in ((12, 4), (7, 4), (4, 7))
            )
        )
        model = GPT2Model(12, 4, 1, 1, 12, 7, 0.0).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                end = name.split(".")[-2]
                if "ln_" not in name:
                    p.zero_()
                if name.endswith("weight") and end in made:
                    p.copy_(made[end])
            follows = model(torch.arange(12)[None])[0].argmax(-1)
        right = (follows == (torch.arange(12) + 1) % 12).tolist()
        first = right.index(False)
        assert (
            f"{sum(right)} of 12 hours are followed by the next one. After "
            f"hour {first} the model generates {follows[first]}"
        ) in str(checks.answer("07.5", made))


def test_a_head_that_is_never_used_shows_in_the_facts() -> None:
    """Lesson 07 asks which of the facts listed for its `Untied` shows that."""
    report = checks.GPT2(model_of(with_head(HEAD, how=TIED)))
    assert not report.named
    assert "parameters without a gradient is 1, expected 0" in str(report)
