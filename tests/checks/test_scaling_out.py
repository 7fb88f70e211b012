"""The checks of lesson 14, and its measured answer."""

from functools import partial

import torch
from catalogue import Catalogue

from gpt2_lesson import checks
from gpt2_lesson.checks.exercises import scaling_out as answers
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.scaling_out import rank_rows, summed_loss

CLIP = "norm = g.norm()\nreturn loss, g * min(1.0, max_norm / norm.item())"
SHARE = "w = counts / counts.sum()\nloss = (w * losses).sum()\n"
MEAN = SHARE + "g = (w[:, None] * gradients).sum(0)\n"
WRONG = {
    "D1": SHARE + "g = sum(gradients)\n" + CLIP,
    "D2": "loss = losses.mean()\ng = gradients.mean(0)\n" + CLIP,
    "D2g": SHARE + "g = sum(gradients) / len(gradients)\n" + CLIP,
    "D2l": MEAN.replace("(w * losses).sum()", "sum(losses) / len(losses)") + CLIP,
    "D3": SHARE
    + "rows = [row * min(1.0, max_norm / row.norm()) for row in gradients]\n"
    "return loss, sum(a * row for a, row in zip(w, rows))",
    "D4": MEAN.replace("(w * losses).sum()", "losses[0]") + CLIP,
    "D4s": MEAN.replace("(w * losses)", "losses") + CLIP,
    "D5": SHARE + "g = gradients[0]\n" + CLIP,
    "D6": MEAN + "return loss, g / g.norm() * max_norm",
    "D7": MEAN + "return loss, g.clip(-max_norm, max_norm)",
    "D8": MEAN + "return loss, g",
    "D9": "loss = counts.float() @ losses\ng = counts.float() @ gradients\n" + CLIP,
    "D9n": MEAN.replace("counts.sum()", "counts.sum() / len(counts)") + CLIP,
    "D10": SHARE + "g = gradients.sum(0) / counts.sum()\n" + CLIP,
    "D11": "n = counts.clamp(min=1)\nw = (1 / n) / (1 / n).sum()\n"
    "loss, g = w @ losses, w @ gradients\n" + CLIP,
    "D12": MEAN + "n = (g * g).sum()\nreturn loss, g * max_norm / n if n > max_norm "
    "else g",
    "D13": MEAN
    + "n = g.abs().max()\nreturn loss, g * max_norm / n if n > max_norm else g",
    "D14": MEAN + "n = sum(row.norm() for row in gradients)\n"
    "return loss, g * max_norm / n if n > max_norm else g",
}
HONEST = {
    "solution": answers.combine.solution,
    "min": MEAN + CLIP,
    "sums": "n = counts.sum()\nloss = (losses * counts).sum() / n\n"
    "g = (gradients * counts[:, None]).sum(0) / n\n" + CLIP,
    "loop": "n = sum(counts.tolist())\nloss, g = 0.0, torch.zeros(gradients.size(1))\n"
    "for a, row, c in zip(losses, gradients, counts.tolist()):\n"
    "    loss += a.item() * c / n\n    g = g + row * (c / n)\n" + CLIP,
    "einsum": SHARE + "g = torch.einsum('n,np->p', w, gradients)\n" + CLIP,
    "average": "w = (counts / counts.sum()).float()\nimport numpy as np\n"
    "loss = np.average(losses.numpy(), weights=counts)\ng = w @ gradients\n"
    + CLIP.replace("loss,", "float(loss),"),
    "clamp": MEAN + "return loss, g * (max_norm / g.norm()).clamp(max=1)",
    "clip_grad_norm_": MEAN + "p = nn.Parameter(torch.zeros_like(g))\np.grad = g\n"
    "nn.utils.clip_grad_norm_([p], max_norm)\nreturn loss, p.grad",
    "list": MEAN + CLIP.replace("return loss, g", "return [loss, g").rstrip() + "]",
}

ORDER = "g = torch.Generator().manual_seed(seed + epoch)\n"
SHUFFLE = ORDER + "order = torch.randperm(size, generator=g)\n"
EACH = "each = size // world_size\n"
WRONG_ORDER = {
    "E1": SHUFFLE.replace("seed + epoch", "seed")
    + EACH
    + "return order[: each * world_size][rank::world_size]",
    "E1s": SHUFFLE.replace("seed + epoch", "epoch")
    + EACH
    + "return order[: each * world_size][rank::world_size]",
    "E1m": SHUFFLE.replace("seed + epoch", "seed * epoch")
    + EACH
    + "return order[: each * world_size][rank::world_size]",
    "E2": EACH + "return list(range(rank, each * world_size, world_size))",
    "E3": SHUFFLE.replace("seed + epoch", "seed + epoch + rank")
    + EACH
    + "return order[: each * world_size][rank::world_size]",
    "E4": SHUFFLE + "return order[rank::world_size]",
    "E5": SHUFFLE + EACH + "return order[: each * world_size : world_size]",
    "E6": SHUFFLE + EACH + "return order[rank * each : (rank + 1) * each]",
    "E7b": SHUFFLE + EACH + "return order[: each * world_size][rank + 1 :: world_size]",
    "E8": ORDER + EACH + "order = torch.randperm(each * world_size, generator=g)\n"
    "return order[rank::world_size]",
    "E9": SHUFFLE + "order = order.tolist()\nwhile len(order) % world_size:\n"
    "    order.append(order[len(order) - size])\nreturn order[rank::world_size]",
    "E10": "order = torch.randperm(size)\n"
    + EACH
    + "return order[: each * world_size][rank::world_size]",
}
HONEST_ORDER = {
    "solution": answers.rank_order.solution,
    "each": SHUFFLE + EACH + "return order[: each * world_size][rank::world_size]",
    "list": SHUFFLE + EACH + "return order.tolist()[rank::world_size][:each]",
    "view": SHUFFLE + EACH + "return order[: each * world_size].view(-1, world_size)"
    "[:, rank]",
    "loop": SHUFFLE + EACH + "return [int(order[rank + i * world_size]) for i in "
    "range(each)]",
    "tensor": SHUFFLE + EACH + "return order[torch.arange(each) * world_size + rank]",
    "narrow": SHUFFLE + "rest = size % world_size\n"
    "return order.narrow(0, 0, size - rest)[rank::world_size]",
    "global state": "torch.manual_seed(seed + epoch)\norder = torch.randperm(size)\n"
    + EACH
    + "return order[: each * world_size][rank::world_size]",
}

WRONG_NORM = {
    "F1": "return sum(torch.cat([t.flatten() for t in r]).norm() for r in shards)",
    "F2": "return sum(torch.cat([t.flatten() for t in r]).norm() for r in shards) / "
    "len(shards)",
    "F3": "return torch.cat([t.flatten() for t in shards[0]]).norm()",
    "F4": "return sum((t * t).sum() for r in shards for t in r)",
    "F5": "return max(torch.cat([t.flatten() for t in r]).norm() for r in shards)",
    "F6": "return (sum((t**2).sum() for r in shards for t in r) / len(shards)).sqrt()",
    "F7": "return sum(sum(t.norm() for t in r) ** 2 for r in shards) ** 0.5",
    "F8": "return sum((r[0] ** 2).sum() for r in shards).sqrt()",
    "F9": "return sum(t.abs().sum() for r in shards for t in r).sqrt()",
    "F10": "return sum(torch.cat([t.flatten() for t in r]).norm() for r in "
    "shards).sqrt()",
}
FLAT = "[t.flatten() for r in shards for t in r]"
HONEST_NORM = {
    "solution": answers.gradient_norm.solution,
    "cat": f"return torch.cat({FLAT}).norm()",
    "sqrt": "return sum((t * t).sum() for r in shards for t in r).sqrt()",
    "float": "return math.sqrt(sum(float((t**2).sum()) for r in shards for t in r))",
    "loop": "total = 0.0\nfor r in shards:\n    for t in r:\n"
    "        total += t.pow(2).sum().item()\nreturn total**0.5",
    "norms": "return torch.stack([t.norm() for r in shards for t in r]).norm()",
    "linalg": f"return torch.linalg.vector_norm(torch.cat({FLAT}))",
    "hypot": f"return math.hypot(*torch.cat({FLAT}).tolist())",
    "dot": f"flat = torch.cat({FLAT})\nreturn (flat @ flat) ** 0.5",
}


class TestCatalogue(Catalogue):
    cases = {
        "combine": (WRONG, HONEST),
        "rank_order": (WRONG_ORDER, HONEST_ORDER),
        "gradient_norm": (WRONG_NORM, HONEST_NORM),
    }


def test_each_wrong_prediction_is_named() -> None:
    right = answers._WHO
    ask = partial(checks.answer, "14.1")
    assert ask(right).passed
    for letter, value in right.items():
        others = {"same": "different", "different": "same"}
        others |= {"every rank": "rank 0", "rank 0": "every rank"}
        report = ask(right | {letter: others[value]})
        assert not report.passed and report.named, letter


def test_the_measured_errors_are_what_the_model_gives() -> None:
    model = story_model()
    texts = ["\n" + story for story in stories(8, seed=14).splitlines()]
    ids = torch.tensor([list(text.encode())[:96] for text in texts])

    def targets(rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, 1:] != -100).sum()

    def gradient(rows: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        (summed_loss(model(rows[:, :-1].clamp(min=0)), rows) / count).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    found: dict[str, dict[str, float]] = {
        "": {},
        "V1": {},
        "V2": {},
        "V3": {},
        "V4": {},
    }
    for kept in (96, 48, 24, 12):
        batch = ids.clone()
        batch[1::2, kept:] = -100
        right = gradient(batch, targets(batch))
        parts = [rank_rows(batch, rank, 2) for rank in range(2)]
        wrong = sum(gradient(part, targets(part)) for part in parts) / 2
        off = wrong - right
        for id, value in {
            "": off.norm() / right.norm(),
            "V1": wrong.norm() / right.norm(),
            "V2": off.norm() / wrong.norm(),
            "V3": off.abs().max() / right.abs().max(),
            "V4": off.norm(),
        }.items():
            found[id][str(kept)] = value.item()
    assert checks.answer("14.5", found.pop("")).passed
    for id, values in found.items():
        report = checks.answer("14.5", values)
        assert {mistake.id for mistake in report.matches[0]} == {id}
