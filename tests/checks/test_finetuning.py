"""The checks of rows, adapters and merging, and the measured answer of lesson 15."""

import re
from functools import partial

import pytest
import torch
from catalogue import Catalogue

from gpt2_lesson import checks
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.finetuning import (
    add_lora,
    answer_loss,
    answer_targets,
    encode_requests,
    lora_state,
)
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.tokenizer import Tokenizer

TOKENS = "tokens = (request + answer + [end])[:length]\nn = len(request)\n"
PAD = "more = length - len(tokens)\n"
TAIL = "return torch.tensor([tokens + [end] * more, targets + [-100] * more])"
ROWS_WRONG = {
    "F1": TOKENS + PAD + "targets = tokens\n" + TAIL,
    "F2": TOKENS + "ids = tokens + [end] * (length - len(tokens))\n"
    "return torch.tensor([ids, [-100] * n + ids[n:]])",
    "F2r": TOKENS + "ids = tokens + [end] * (length - len(tokens))\n"
    "return torch.tensor([ids, ids])",
    "F4": TOKENS.replace(" + [end]", "")
    + PAD
    + "targets = [-100] * n + tokens[n:]\n"
    + TAIL,
    "F4b": TOKENS + PAD + "ids = torch.tensor(tokens + [end] * more)\n"
    "targets = ids.clone()\ntargets[:n] = -100\ntargets[targets == end] = -100\n"
    "return torch.stack([ids, targets])",
    "F5": TOKENS + PAD + "targets = [-100] * (n + 1) + tokens[n + 1:]\n" + TAIL,
    "F6": TOKENS + PAD + "targets = [-100] * (n - 1) + tokens[n - 1:]\n" + TAIL,
    "F7": TOKENS + PAD + "targets = ([-100] * n + tokens[n:] + [-100])[1:]\n" + TAIL,
    "F8": TOKENS + PAD + "targets = [-100] * n + tokens[n:]\n"
    "return torch.tensor([tokens + [0] * more, targets + [-100] * more])",
    "F9": TOKENS + PAD + "targets = [-100] * n + tokens[n:]\n"
    "return torch.tensor([[end] * more + tokens, [-100] * more + targets])",
    "F10": TOKENS
    + "tokens[-1] = end\n"
    + PAD
    + "targets = [-100] * n + tokens[n:]\n"
    + TAIL,
    "F11": TOKENS.replace("[:length]", "")
    + PAD
    + "targets = [-100] * n + tokens[n:]\n"
    + TAIL,
    "F12": TOKENS + PAD + "targets = [-100] * n + tokens[n:] + [-100] * more\n"
    "return torch.tensor([targets] * 2)",
    "F13": TOKENS + PAD + "targets = [-100] * n + tokens[n:]\n"
    "return torch.tensor([targets + [-100] * more, tokens + [end] * more])",
}
GOOD = TOKENS + PAD + "targets = [-100] * n + tokens[n:]\n" + TAIL
ROWS_HONEST = {
    "lists": GOOD,
    "tensor": "row = torch.full((2, length), end)\nrow[1] = -100\n"
    "all = torch.tensor(request + answer + [end])[:length]\nn = len(request)\n"
    "row[0, :len(all)] = all\nrow[1, n:len(all)] = all[n:]\nreturn row",
    "loop": "ids, targets = [], []\nfor t in request:\n    ids.append(t)\n"
    "    targets.append(-100)\nfor t in [*answer, end]:\n    ids.append(t)\n"
    "    targets.append(t)\nwhile len(ids) < length:\n    ids.append(end)\n"
    "    targets.append(-100)\n"
    "return torch.tensor([ids[:length], targets[:length]])",
    "mask": "ids = (request + answer + [end] * length)[:length]\n"
    "last = len(request) + len(answer)\n"
    "return torch.tensor([ids, [t if len(request) <= i <= last else -100 "
    "for i, t in enumerate(ids)]])",
    "where": "ids = torch.tensor((request + answer + [end] * length)[:length])\n"
    "at = torch.arange(length)\n"
    "inside = (at >= len(request)) & (at <= len(request) + len(answer))\n"
    "return torch.stack([ids, torch.where(inside, ids, -100)])",
    "masked_fill": "ids = torch.tensor((request + answer + [end] * length)[:length])\n"
    "at = torch.arange(length)\n"
    "out = (at < len(request)) | (at > len(request) + len(answer))\n"
    "return torch.stack([ids, ids.masked_fill(out, -100)])",
    "pad": "ids = torch.tensor((request + answer + [end])[:length])\n"
    "targets = ids.clone()\ntargets[:len(request)] = -100\n"
    "fill = (0, length - len(ids))\n"
    "return torch.stack([F.pad(ids, fill, value=end), F.pad(targets, fill, "
    "value=-100)])",
    "cut last": "more = max(0, length - len(request) - len(answer) - 1)\n"
    "ids = request + answer + [end] + [end] * more\n"
    "targets = [-100] * len(request) + answer + [end] + [-100] * more\n"
    "return torch.tensor([ids[:length], targets[:length]])",
    "lesson": "ids = torch.tensor([(request + answer + [end] * length)[:length]])\n"
    "ends = torch.tensor([len(request) + len(answer) + 1])\n"
    "return torch.cat([ids, answer_targets(ids, torch.tensor([len(request)]), ends)])",
}

LAYER = """\
class LoRALayer(nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        for p in linear.parameters():
            p.requires_grad = False
        self.linear, self.alpha, self.rank = linear, alpha, rank
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) * 0.1)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        new = F.linear(F.linear(x, self.a), self.b)
        return self.linear(x) + new * self.alpha / self.rank
"""


def layer(*edits: tuple[str, str]) -> str:
    source = LAYER
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


RANDOM_A = "torch.randn(rank, linear.in_features) * 0.1"
ZERO_B = "torch.zeros(linear.out_features, rank)"
RETURN = "self.linear(x) + new * self.alpha / self.rank"
FREEZE = "        for p in linear.parameters():\n            p.requires_grad = False\n"
LAYER_WRONG = {
    "L1": layer((RANDOM_A, "torch.zeros(rank, linear.in_features)")),
    "L2": layer((ZERO_B, "torch.randn(linear.out_features, rank) * 0.1")),
    "L2b": layer(
        (RANDOM_A, "torch.zeros(rank, linear.in_features)"),
        (ZERO_B, "torch.randn(linear.out_features, rank)"),
    ),
    "L3": layer((FREEZE, "")),
    "L4": layer((" * self.alpha / self.rank", "")),
    "L5": layer((" / self.rank", "")),
    "L5i": layer(("self.alpha / self.rank", "self.rank / self.alpha")),
    "L6": layer(("self.alpha / self.rank", "(self.alpha / self.rank) ** 2")),
    "L6r": layer(("self.alpha / self.rank", "self.alpha / math.sqrt(self.rank)")),
    "L7": layer((RETURN, "(self.linear(x) + new) * self.alpha / self.rank")),
    "L8": layer(("self.linear(x) + ", "")),
    "L9": layer(("self.linear(x) + new", "self.linear(x) - new")),
    "L10": layer(
        (f"nn.Parameter({RANDOM_A})", RANDOM_A), (f"nn.Parameter({ZERO_B})", ZERO_B)
    ),
    "L11": layer(
        (
            "\n    def forward",
            "        for p in self.parameters():\n"
            "            p.requires_grad_(False)\n\n    def forward",
        )
    ),
    "L12": layer(
        (
            "new = F.linear(F.linear(x, self.a), self.b)",
            "new = F.linear(F.linear(x, self.a.data), self.b.data)",
        )
    ),
    "L13": layer(("self.linear(x) + new", "self.linear(x).detach() + new")),
    "L14": layer(("F.linear(x, self.a)", "F.relu(F.linear(x, self.a))")),
    "L15": layer(("self.linear(x)", "F.linear(x, self.linear.weight)")),
}
LAYER_HONEST = {
    "plain": LAYER,
    "matrix": layer(
        ("new = F.linear(F.linear(x, self.a), self.b)", "new = x @ (self.b @ self.a).T")
    ),
    "einsum": layer(
        (
            "F.linear(F.linear(x, self.a), self.b)",
            "torch.einsum('...i,ri,or->...o', x, self.a, self.b)",
        )
    ),
    "merged": layer(
        (
            RETURN + "\n",
            "F.linear(x, self.linear.weight + self.alpha / self.rank * self.b @ "
            "self.a, self.linear.bias)\n",
        )
    ),
    "kaiming": layer(
        (RANDOM_A, "torch.empty(rank, linear.in_features)"),
        (
            "\n    def forward",
            "        nn.init.kaiming_uniform_(self.a, a=5 ** 0.5)\n\n    def forward",
        ),
    ),
    "requires_grad_": layer((FREEZE, "        linear.requires_grad_(False)\n")),
    "scaled a": layer(
        ("F.linear(x, self.a)", "F.linear(x, self.alpha / self.rank * self.a)"),
        (" * self.alpha / self.rank", ""),
    ),
    "weights kept": layer(
        (FREEZE, ""),
        (
            "self.linear, self.alpha",
            "self.linear = linear.requires_grad_(False)\n        _, self.alpha",
        ),
    ),
    "matmul": layer(
        (
            "F.linear(F.linear(x, self.a), self.b)",
            "torch.matmul(torch.matmul(x, self.a.mT), self.b.mT)",
        )
    ),
}

MERGE = """\
for name, layer in list(model.named_children()):
    if hasattr(layer, "lora_a"):
        new = layer.lora_b @ layer.lora_a * layer.scale
        layer.linear.weight.data += new
        setattr(model, name, layer.linear)
for p in model.parameters():
    p.requires_grad = True
"""


def merge(*edits: tuple[str, str]) -> str:
    source = MERGE
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


THAW = "for p in model.parameters():\n    p.requires_grad = True\n"
SET = "        setattr(model, name, layer.linear)\n"
MERGE_WRONG = {
    "G1": merge((SET, "")),
    "G2": merge((" * layer.scale", "")),
    "G3": merge((" * layer.scale", " * layer.scale * layer.scale")),
    "G4": merge(("        layer.linear.weight.data += new\n", "")),
    "G5": merge((THAW, "")),
    "G6": merge(("weight.data += new", "weight.data = new.detach()")),
    "G7": merge(("+= new", "-= new")),
    "G8": merge((SET, SET + "        break\n")),
    "G9": merge(
        (
            SET,
            "        plain = nn.Linear(*new.shape[::-1], bias=False)\n"
            "        plain.weight.data = layer.linear.weight.data\n"
            "        setattr(model, name, plain)\n",
        )
    ),
    "G10": THAW,
}
MERGE_HONEST = {
    "data": MERGE,
    "solution": checks.registry.all_exercises()["merge_adapters"].reference,
    "no_grad": merge(
        (
            "        layer.linear.weight.data += new\n",
            "        with torch.no_grad():\n"
            "            layer.linear.weight.add_(new)\n",
        )
    ),
    "addmm": merge(
        (
            "        layer.linear.weight.data += new\n",
            "        layer.linear.weight.data.addmm_(layer.lora_b.data, "
            "layer.lora_a.data, alpha=layer.scale)\n",
        )
    ),
    "new layer": merge(
        (
            SET,
            "        plain = nn.Linear(*new.shape[::-1])\n"
            "        plain.load_state_dict(layer.linear.state_dict())\n"
            "        setattr(model, name, plain)\n",
        )
    ),
    "numbers": merge(
        (
            "        setattr(model, name, layer.linear)\n",
            "        model[int(name)] = layer.linear\n",
        )
    ),
    "set_submodule": merge(
        (
            "setattr(model, name, layer.linear)",
            "model.set_submodule(name, layer.linear)",
        )
    ),
    "_modules": merge(
        ("setattr(model, name, layer.linear)", "model._modules[name] = layer.linear")
    ),
    "parameter": merge(
        (
            "layer.linear.weight.data += new",
            "layer.linear.weight = "
            "nn.Parameter(layer.linear.weight.detach() + new.detach())",
        )
    ),
}


class TestCatalogue(Catalogue):
    extra = {"answer_targets": answer_targets}
    cases = {
        "encode_example": (ROWS_WRONG, ROWS_HONEST),
        "LoRALayer": (LAYER_WRONG, LAYER_HONEST),
        "merge_adapters": (MERGE_WRONG, MERGE_HONEST),
    }


def test_the_size_of_an_adapter_is_what_is_asked_for(capsys) -> None:
    with torch.device("meta"):
        model = add_lora(GPT2Model(50257, 768, 12, 12, 1024, 3072), rank=8)
    state = lora_state(model)
    count = sum(values.numel() for values in state.values())
    answer = partial(checks.answer, "15.1")
    right = {"parameters": count, "bytes": 4 * count, "tensors": len(state)}
    assert answer(right).passed
    assert not answer(right | {"tensors": 48}).passed


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    model, tokenizer = story_model(), Tokenizer()
    lines = stories(60, seed=15).splitlines()
    pairs = [re.search(r"(\w+) found an? \w+ (\w+)", line).groups() for line in lines]
    examples = [
        (", ".join(pair), line[: line.index(". ") + 1])
        for pair, line in zip(pairs, lines, strict=True)
    ]
    ids, answers = encode_requests(examples, tokenizer, 80)
    starts = torch.tensor([len(request) + 1 for request, _ in examples])
    ends = starts + torch.tensor([len(answer) + 1 for _, answer in examples])
    requests, both = (
        answer_targets(ids, torch.zeros_like(starts), stop) for stop in (starts, ends)
    )
    loss = [answer_loss(model, ids, part) for part in (requests, answers, both)]
    count = [(part[:, 1:] != -100).sum().item() for part in (requests, both)]
    tokens = count[0] / count[1]
    return {
        "tokens": tokens,
        "request": loss[0],
        "answer": loss[1],
        "both": loss[2],
        "loss": loss[0] * tokens / loss[2],
        "padding": answer_loss(model, ids, ids),
    }


def test_the_cost_of_the_request_is_what_the_model_gives(measured) -> None:
    padding = measured.pop("padding")
    answer = partial(checks.answer, "15.4")
    assert answer(measured).passed
    for wrong, name in (
        ({"both": padding}, "the padding counts, too"),
        (
            {"both": (measured["request"] + measured["answer"]) / 2},
            "the mean of the two losses",
        ),
        ({"tokens": 1 - measured["tokens"]}, "the answers' part of the tokens, not"),
        ({"loss": measured["tokens"]}, "the requests' part of the tokens, not of the"),
        ({"loss": 1 - measured["loss"]}, "the answers' part of the loss, not the"),
    ):
        assert answer(measured | wrong).named.startswith(name)
