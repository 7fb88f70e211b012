"""The checks of lesson 13: operations, the roofline, int8 rows, and two values."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from catalogue import Catalogue

from gpt2_lesson import checks, speed
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config
from gpt2_lesson.training import next_token_loss

FLOPS = """\
T, C, F, V, L = seq_length, d_model, d_ff, vocab_size, num_layers
qkv, out, mlp, head = 3 * C * C, C * C, 2 * C * F, V * C
scores = averages = T * C
return 2 * T * (L * (qkv + out + mlp + scores + averages) + head)"""


def of(old: str, new: str, code: str = FLOPS) -> str:
    assert code.count(old) == 1, old
    return code.replace(old, new)


WRONG_FLOPS = {
    "O1": of("2 * T *", "T *"),
    "O2": of(" + scores + averages", ""),
    "O3": of("averages = T * C", "averages = C"),
    "O4": of(" + averages)", ")"),
    "O4b": of("= T * C", "= T * C // 2"),
    "O5": of(" + head)", ")"),
    "O6": of("+ head)", "+ head / T)"),
    "O7": of("2 * C * F", "8 * C**2"),
    "O8": of("2 * C * F", "C * F"),
    "O9": of(" + out", ""),
    "O9q": of("qkv, out, mlp, head = 3 * C", "qkv, out, mlp, head = C"),
    "O10": of(
        "head = 3 * C * C, C * C, 2 * C * F, V",
        "head = 3 * C * C, C * C, 2 * C * F, 2 * V",
    ),
    "O11": of("2 * T *", "3 * 2 * T *"),
    "O12": of("2 * T *", "2 *"),
    "O13": of("mlp + scores + averages)", "mlp) + scores + averages"),
    "O14": of("(L * ", "("),
}
HONEST_FLOPS = {
    "plain": FLOPS,
    "lesson": lambda num_layers, d_model, d_ff, vocab_size, seq_length: (
        speed.count_flops(
            GPT2Config(vocab_size, d_model, 1, num_layers, 2048, d_ff), seq_length
        )
    ),
    "a tensor": of("return 2 * T", "return torch.tensor(2) * T"),
    "loop": "total = 0\nfor _ in range(num_layers):\n"
    "    total += 8 * seq_length * d_model**2 + 4 * seq_length * d_model * d_ff\n"
    "    total += 4 * seq_length**2 * d_model\n"
    "return total + 2 * seq_length * vocab_size * d_model",
    "six": "n = num_layers * (4 * d_model**2 + 2 * d_model * d_ff)\n"
    "n += vocab_size * d_model\n"
    "return 6 * n * seq_length // 3 + 4 * num_layers * seq_length**2 * d_model",
    "by heads": "D = 2\nper_head = 2 * seq_length**2 * D\n"
    "per_layer = 2 * per_head * d_model // D\n"
    "w = 4 * d_model * d_model + d_model * d_ff + d_ff * d_model\n"
    "return num_layers * (2 * seq_length * w + per_layer) + "
    "2 * seq_length * d_model * vocab_size",
    "sum of products": "t, c = seq_length, d_model\n"
    "products = [(t, c, 3 * c), (t, c, t), (t, t, c), (t, c, c), (t, c, d_ff),\n"
    "            (t, d_ff, c)] * num_layers + [(t, c, vocab_size)]\n"
    "return sum(2 * a * b * d for a, b, d in products)",
    "per token": "one = 2 * (num_layers * (4 * d_model**2 + 2 * d_model * d_ff + "
    "2 * seq_length * d_model) + vocab_size * d_model)\nreturn seq_length * one",
}
WRONG_ROOF = {
    "R1": "return flops / peak_flops + bytes / bandwidth",
    "R2": "return min([flops / peak_flops, bytes / bandwidth])",
    "R3": "a, b = flops / bandwidth, bytes / peak_flops\nreturn a if a > b else b",
    "R5": "return min(peak_flops, flops / bytes * bandwidth)",
    "R6": "return flops / peak_flops",
    "R7": "return bytes / bandwidth",
    "R8": "return max(flops / peak_flops, bytes * 8 / bandwidth)",
    "R9": "return 1e3 * max(flops / peak_flops, bytes / bandwidth)",
}
HONEST_ROOF = {
    "lesson": speed.roofline,
    "max": "return max(flops / peak_flops, bytes / bandwidth)",
    "if": "a, b = flops / peak_flops, bytes / bandwidth\n"
    "if a > b:\n    return a\nreturn b",
    "list": "return max([bytes / bandwidth, flops / peak_flops])",
    "sorted": "return sorted([bytes / bandwidth, flops / peak_flops])[-1]",
    "ridge": "if flops / peak_flops >= bytes / bandwidth:\n"
    "    return flops / peak_flops\nreturn bytes / bandwidth",
    "tensor": "return torch.tensor([flops / peak_flops, bytes / bandwidth], "
    "dtype=torch.float64).max()",
    "math": "a, b = flops / peak_flops, bytes / bandwidth\n"
    "return (a + b + abs(a - b)) / 2",
}
ROWS = """\
scale = weight.abs().max(dim=1, keepdim=True).values / 127
scale[scale == 0] = 1e-12
return torch.round(weight / scale).to(torch.int8), scale"""
WRONG_ROWS = {
    "Q1": of(
        ".abs().max(dim=1, keepdim=True).values",
        ".abs().max() * torch.ones(len(weight), 1)",
        ROWS,
    ),
    "Q3": of("127", "128", ROWS),
    "Q3b": of("127", "255", ROWS),
    "Q4": of("torch.round(weight / scale)", "(weight / scale)", ROWS),
    "Q5": of("torch.round(weight / scale)", "torch.floor(weight / scale)", ROWS),
    "Q6": of("weight.abs().max", "weight.max", ROWS),
    "Q7": of("scale[scale == 0] = 1e-12\n", "", ROWS),
    "Q8": of(".to(torch.int8), scale", ".to(torch.int8), 1 / scale", ROWS),
    "Q9": of(".to(torch.int8), scale", ".to(torch.int8), scale.squeeze(1)", ROWS),
    "Q10": of(".to(torch.int8)", "", ROWS),
    "Q11": of(".to(torch.int8)", " * scale", ROWS),
    "Q12": of(".max(dim=1, keepdim=True).values", ".mean(dim=1, keepdim=True)", ROWS),
    "Q13": of(" / 127", "", ROWS),
}
HONEST_ROWS = {
    "lesson": speed.quantize_rows,
    "max": ROWS,
    "clamp": "s = (weight.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-12)\n"
    "return (weight / s).round().clamp(-127, 127).char(), s",
    "norm": "s = weight.norm(p=float('inf'), dim=1)[:, None].clamp(min=127e-12) / 127\n"
    "return (weight / s).round().to(torch.int8), s",
    "loop": "rows, scales = [], []\nfor row in weight:\n"
    "    s = max(row.abs().max().item() / 127, 1e-12)\n"
    "    rows.append((row / s).round())\n    scales.append(s)\n"
    "return torch.stack(rows).to(torch.int8), torch.tensor(scales)[:, None]",
    "where": "s = weight.abs().amax(1, keepdim=True) / 127\n"
    "s = torch.where(s > 0, s, torch.full_like(s, 1e-12))\n"
    "return (weight / s).round().to(torch.int8), s",
    "min and max": "top = torch.maximum(weight.amax(1), -weight.amin(1))\n"
    "s = (top / 127).clamp(min=1e-12).unsqueeze(1)\n"
    "return torch.round(weight / s).type(torch.int8), s",
    "list": "s = torch.tensor([[max(map(abs, r)) / 127] for r in weight.tolist()])\n"
    "s = s.clamp(min=1e-12)\nreturn (weight / s).round().to(torch.int8), s",
}


class TestCatalogue(Catalogue):
    cases = {
        "count_flops": (WRONG_FLOPS, HONEST_FLOPS),
        "roofline": (WRONG_ROOF, HONEST_ROOF),
        "quantize_rows": (WRONG_ROWS, HONEST_ROWS),
    }


def test_predictions_can_be_worked_out() -> None:
    config = GPT2_SIZES["gpt2-medium"]

    def milliseconds(batch_size: int, weight_bytes: float) -> float:
        flops = batch_size * 2 * speed.matrix_weights(config)
        read = speed.count_bytes(config, 0, batch_size, weight_bytes)
        return 1000 * speed.roofline(flops, read, 200e9, 25e9)

    sizes = {"float32": (1, 4), "float32, batch 8": (8, 4)}
    sizes |= {"float32, batch 64": (64, 4), "int8": (1, 1)}
    predicted = {name: milliseconds(*size) for name, size in sizes.items()}
    assert checks.answer("13.1", predicted).passed, predicted


@pytest.mark.parametrize(
    ("named", "dim", "left", "more"),
    [
        ("", 1, ("pos_emb",), 0),
        ("a scale for each column", 0, ("pos_emb",), 0),
        ("the position embeddings rounded", 1, (), 0),
        ("the embedding matrix left", 1, ("pos_emb", "tok_emb"), 0),
        ("one integer too many", 1, ("pos_emb",), 1),
    ],
)
def test_losses_are_what_the_model_gives(
    named: str, dim: int, left: tuple[str, ...], more: int
) -> None:
    lines = [f"\n{line}" for line in stories(300, seed=13).splitlines()]
    ids = torch.tensor([list(s.encode())[:200] for s in lines if len(s) > 200][:64])

    def loss(bits: int, axis: int | None) -> float:
        model, most = deepcopy(story_model()), 2 ** (bits - 1) - 1 + more
        for name, p in model.named_parameters():
            if p.dim() == 2 and name.split(".")[0] not in left:
                top = (
                    p.data.abs().amax()
                    if axis is None
                    else p.data.abs().amax(axis, True)
                )
                p.data = (p.data / top * most).round() * top / most
        with torch.no_grad():
            return next_token_loss(model(ids[:, :-1]), ids).item()

    measured = {f"{bits} bits": loss(bits, dim) for bits in (8, 4, 3)}
    measured["4 bits, one scale"] = loss(4, None)
    report = partial(checks.answer, "13.5")(measured)
    assert report.passed == (not named), str(report)
    assert named in report.named
