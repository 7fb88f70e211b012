"""The checks of lesson 16: advantages, the loss, masks, the KL divergence, DPO."""

import pytest
from catalogue import Catalogue, function_of

from gpt2_lesson import checks
from gpt2_lesson.checks.exercises.rewards import ANSWERS

ADVANTAGE = {
    "W1": "return rewards / (rewards.std(1, keepdim=True) + 1e-4)",
    "W2": "return (rewards - rewards.mean()) / (rewards.std(1)[:, None] + 1e-4)",
    "W2b": "return (rewards - rewards.mean()) / (rewards.std() + 1e-4)",
    "W2s": "return (rewards - rewards.mean(1)[:, None]) / (rewards.std() + 1e-4)",
    "W3": "return (rewards - rewards.mean(0)) / (rewards.std(0) + 1e-4)",
    "W4": "return (rewards.mean(-1, True) - rewards) / (rewards.std(-1, keepdim=True)"
    " + 1e-4)",
    "W5": "return rewards - rewards.mean(dim=1, keepdim=True)",
    "W5v": "r = rewards - rewards.mean(1, True)\n"
    "return r / (r.var(1, keepdim=True) + 1e-4)",
    "W5m": "return (rewards - rewards.mean(1, True)) * (rewards.std(1, keepdim=True)"
    " + 1e-4)",
    "W6": "return (rewards - rewards.mean(1, True)) / rewards.std(1, keepdim=True)",
    "W7": "return (rewards - rewards.mean(1, True)) / (rewards.std(1, unbiased=False,"
    " keepdim=True) + 1e-4)",
    "W8": "n = rewards.size(1)\nmean = (rewards.sum(1, True) - rewards) / (n - 1)\n"
    "return (rewards - mean) / (rewards.std(1, keepdim=True) + 1e-4)",
    "W9": "return (rewards - rewards.min(1, True)[0]) / (rewards.std(1, keepdim=True)"
    " + 1e-4)",
    "W10": "return rewards",
}
HONEST_ADVANTAGE = {
    "one line": "return (rewards - rewards.mean(1, True)) / (rewards.std(1, "
    "keepdim=True) + 1e-4)",
    "none": "return (rewards - rewards.mean(1)[:, None]) / (rewards.std(1)[:, None]"
    " + 0.0001)",
    "last axis": "m, s = rewards.mean(-1), rewards.std(-1)\n"
    "return (rewards - m.unsqueeze(-1)) / (s.unsqueeze(-1) + 1e-4)",
    "std_mean": "s, m = torch.std_mean(rewards, dim=1, keepdim=True)\n"
    "return (rewards - m) / (s + 1e-4)",
    "loop": "return torch.stack([(r - r.mean()) / (r.std() + 1e-4) for r in rewards])",
    "transposed": "r = rewards.T\nreturn ((r - r.mean(0)) / (r.std(0) + 1e-4)).T",
    "by hand": "r = rewards - rewards.sum(1, True) / rewards.size(1)\n"
    "s = (r.square().sum(1, True) / (rewards.size(1) - 1)).sqrt()\n"
    "return r / (s + 1e-4)",
    "var": "r = rewards - rewards.mean(1, True)\n"
    "return r / (r.var(1, keepdim=True).sqrt() + 1e-4)",
}

RATIO = "ratio = torch.exp(log_probs - old_log_probs)\na = advantages[:, None]\n"
BOTH = RATIO + "low = torch.min(ratio * a, ratio.clip(1 - clip, 1 + clip) * a)\n"
LOSS = {
    "L1": BOTH + "return (low * mask).sum(1).mean()",
    "L2": BOTH + "return -low.sum(1).mean()",
    "L2m": BOTH + "return -((low * mask).sum(1) / mask.sum(1)).mean()",
    "L2t": BOTH + "return -low[mask].mean()",
    "L2a": BOTH + "return -(low * mask).mean()",
    "L2s": BOTH + "return -(low * mask).sum()",
    "L3": BOTH.replace("torch.exp", "") + "return -(low * mask).sum(1).mean()",
    "L3r": BOTH.replace("log_probs - old_log_probs", "old_log_probs - log_probs")
    + "return -(low * mask).sum(1).mean()",
    "L3s": BOTH.replace(
        "torch.exp(log_probs - old_log_probs)",
        "torch.exp(((log_probs - old_log_probs) * mask).sum(1))[:, None]",
    )
    + "return -(low * mask).sum(1).mean()",
    "L3n": "a = advantages[:, None]\n"
    "low = torch.min(log_probs * a, log_probs.clip(1 - clip, 1 + clip) * a)\n"
    "return -(low * mask).sum(1).mean()",
    "L4": RATIO + "return -(ratio * a * mask).sum(1).mean()",
    "L4c": RATIO + "return -(ratio.clamp(1 - clip, 1 + clip) * a * mask).sum(1).mean()",
    "L4m": BOTH.replace("torch.min(", "torch.max(")
    + "return -(low * mask).sum(1).mean()",
    "L4h": BOTH.replace("1 - clip, 1 + clip", "max=1 + clip")
    + "return -(low * mask).sum(1).mean()",
    "L4l": BOTH.replace("1 - clip, 1 + clip", "min=1 - clip")
    + "return -(low * mask).sum(1).mean()",
    "L4s": BOTH.replace("1 + clip) * a", "1 + clip)")
    + "return -(low * mask).sum(1).mean()",
    "L5": BOTH.replace("[:, None]", ".abs()[:, None]")
    + "return -(low * mask).sum(1).mean()",
    "L3nn": "return -(advantages[:, None] * log_probs * mask).sum(1).mean()",
    "L6": BOTH + "return -(low.detach() * mask).sum(1).mean()",
    "L7": BOTH + "return -(low * ~mask).sum(1).mean()",
}
HONEST_LOSS = {
    "min": BOTH + "return -(low * mask).sum(1).mean()",
    "mean of sums": BOTH + "return -(low * mask).sum() / len(mask)",
    "max of losses": RATIO + "worse = torch.maximum(-ratio * a, -ratio.clamp(1 - clip, "
    "1 + clip) * a)\nreturn (worse * mask).sum(-1).mean()",
    "where": BOTH + "return -torch.where(mask, low, 0.0).sum(dim=1).mean()",
    "fill": BOTH + "return -low.masked_fill(~mask, 0).sum(1).mean()",
    "loop": "total = 0\nfor new, old, a, m in zip(log_probs, old_log_probs, advantages,"
    " mask):\n    r = (new - old).exp()[m]\n"
    "    total = total - torch.min(r * a, r.clamp(1 - clip, 1 + clip) * a).sum()\n"
    "return total / len(mask)",
    "cases": RATIO + "up = torch.where(a > 0, ratio.clamp(max=1 + clip), "
    "ratio.clamp(min=1 - clip))\nreturn -(up * a * mask).sum(1).mean()",
    "einsum": BOTH
    + "return -torch.einsum('nt,nt->', low, mask.float()) / mask.size(0)",
}

NEW = "new = ids[:, prompt_length:]\n"
BACK = "\nreturn F.pad(mask, (prompt_length, 0))"
MASKS = {
    "M1": "mask = answer_mask_right(ids, prompt_length, stop)\n"
    "mask[:, :prompt_length] = True\nreturn mask",
    "M2": "mask = torch.ones_like(ids).bool()\nmask[:, :prompt_length] = False\n"
    "return mask",
    "M3": NEW + "mask = (new == stop).cumsum(1) == 0" + BACK,
    "M4": "s = ids == stop\nmask = s.cumsum(1) - s.long() == 0\n"
    "mask[:, :prompt_length] = False\nreturn mask",
    "M5": NEW + "mask = new != stop" + BACK,
    "M5b": "return ids != stop",
    "M6": NEW + "s = (new == stop).long()\nmask = s.cumsum(1) - s <= 1" + BACK,
    "M7": "mask = answer_mask_right(ids, prompt_length, stop)\n"
    "if prompt_length:\n    mask[:, prompt_length - 1] = True\nreturn mask",
    "M7b": "mask = answer_mask_right(ids, prompt_length, stop)\n"
    "mask[:, prompt_length] = False\nreturn mask",
    "M8": "return answer_mask_right(ids, prompt_length, stop) * 1.0",
    "M9": "return ~answer_mask_right(ids, prompt_length, stop)",
}


def answer_mask_right(ids, prompt_length, stop):
    new = ids[:, prompt_length:]
    mask = ids > ids  # nothing yet
    for row, marks in zip(new.tolist(), mask, strict=True):
        end = row.index(stop) + 1 if stop in row else len(row)
        marks[prompt_length : prompt_length + end] = True
    return mask


HONEST_MASKS = {
    "loop": "return answer_mask_right(ids, prompt_length, stop)",
    "pad": NEW + "s = (new == stop).int()\nmask = s.cumsum(1) - s == 0" + BACK,
    "cummax": NEW + "seen = (new == stop).long().cummax(1).values\n"
    "mask = F.pad(seen[:, :-1], (1, 0)) == 0" + BACK,
    "cumprod": NEW + "go = (new != stop).long().cumprod(1)\n"
    "mask = F.pad(go[:, :-1], (1, 0), value=1) == 1" + BACK,
    "argmax": NEW + "s = new == stop\n"
    "end = torch.where(s.any(1), s.long().argmax(1), new.size(1))\n"
    "mask = torch.arange(new.size(1)) <= end[:, None]" + BACK,
    "positions": NEW + "s = new == stop\n"
    "end = prompt_length + torch.where(s.any(1), s.int().argmax(1), new.size(1))\n"
    "t = torch.arange(ids.size(1))\n"
    "return (t >= prompt_length) & (t <= end[:, None])",
    "cat": NEW + "s = (new == stop).long()\nmask = s.cumsum(1) - s < 1\n"
    "return torch.cat([torch.zeros_like(ids[:, :prompt_length]).bool(), mask], 1)",
    "zeros": "mask = torch.zeros(ids.shape, dtype=torch.bool)\n"
    "alive = torch.ones(len(ids), dtype=torch.bool)\n"
    "for t in range(prompt_length, ids.size(1)):\n"
    "    mask[:, t] = alive\n    alive = alive & (ids[:, t] != stop)\nreturn mask",
}

EACH = (
    "rewards = []\nfor row, chosen in zip(ids, mask):\n    a = row[chosen].tolist()\n"
)
JUDGES = {
    "J1": EACH + "    rewards.append(judge(a))\nreturn torch.tensor(rewards)",
    "J2": EACH + "    rewards.append(judge(row.tolist()) if a[-1] == stop else 0.0)\n"
    "return torch.tensor(rewards)",
    "J2p": EACH + "    start = chosen.nonzero()[0, 0]\n    rewards.append(judge("
    "row[start:].tolist()) if a[-1] == stop else 0.0)\nreturn torch.tensor(rewards)",
    "J2s": EACH + "    rewards.append(judge(a[:-1]) if a[-1] == stop else 0.0)\n"
    "return torch.tensor(rewards)",
    "J3": EACH + "    rewards.append(judge(a) if a[-1] != stop else 0.0)\n"
    "return torch.tensor(rewards)",
    "J4": EACH + "    rewards.append(judge(a) if a[-1] == stop else -1.0)\n"
    "return torch.tensor(rewards)",
    "J5": EACH + "    if a[-1] == stop:\n        rewards.append(judge(a))\n"
    "return torch.tensor(rewards)",
    "J6": EACH + "    rewards.append(judge(a) if (row == stop).any() else 0.0)\n"
    "return torch.tensor(rewards)",
}
ONE = "    rewards.append(judge(a) if a[-1] == stop else 0.0)\n"
HONEST_JUDGES = {
    "plain": EACH + ONE + "return torch.tensor(rewards)",
    "in": EACH + "    rewards.append(judge(a) if stop in a else 0.0)\n"
    "return torch.tensor(rewards)",
    "zeros": "r = torch.zeros(len(ids))\nfor i in range(len(ids)):\n"
    "    a = ids[i][mask[i]].tolist()\n    if a[-1] == stop:\n        r[i] = judge(a)\n"
    "return r",
    "times": EACH + "    rewards.append(judge(a) * (a[-1] == stop))\n"
    "return torch.tensor(rewards)",
    "any": "done = ((ids == stop) & mask).any(1)\nreturn torch.tensor([judge(row[m]."
    "tolist()) if d else 0.0 for row, m, d in zip(ids, mask, done)])",
    "comprehension": "rows = [row[m].tolist() for row, m in zip(ids, mask)]\n"
    "return torch.tensor([float(judge(a)) if a[-1] == stop else 0. for a in rows])",
    "select": "rows = [torch.masked_select(r, m).tolist() for r, m in zip(ids, mask)]\n"
    "return torch.tensor([judge(a) if a[-1] == stop else 0.0 for a in rows])",
    "lists": "out = []\nfor r, m in zip(ids.tolist(), mask.tolist()):\n"
    "    a = [x for x, keep in zip(r, m) if keep]\n"
    "    out.append(judge(a) if a[-1] == stop else 0.0)\nreturn torch.tensor(out)",
}

KL = {
    "K1": "return ((log_q.exp() * (log_q - log_p)).sum(-1) * mask).sum(1)",
    "K1'": "kl = F.kl_div(log_p, log_q, log_target=True, reduction='none').sum(-1)\n"
    "return (kl * mask).sum(1)",
    "K2": "return ((log_p.exp() * (log_q - log_p)).sum(-1) * mask).sum(1)",
    "K2w": "return ((log_q.exp() * (log_p - log_q)).sum(-1) * mask).sum(1)",
    "K3": "return (log_p.exp() * (log_p - log_q)).sum((1, 2))",
    "K4": "kl = (log_p.exp() * (log_p - log_q)).sum(-1)\n"
    "return torch.stack([row[m].mean() for row, m in zip(kl, mask)])",
    "K4m": "return ((log_p.exp() * (log_p - log_q)).sum(-1) * mask).mean(-1)",
    "K5": "return ((log_p * (log_p - log_q)).sum(-1) * mask).sum(1)",
    "K6": "return ((log_p.exp() * (log_p.exp() - log_q.exp())).sum(-1) * mask).sum(1)",
    "K7": "return ((log_p - log_q).sum(-1) * mask).sum(1)",
    "K8": "return -((log_p.exp() * log_q).sum(-1) * mask).sum(1)",
    "K9": "return ((log_p.exp() * (log_p - log_q)).sum(-1) * mask).sum(1).mean()",
    "K10": "return ((log_p.exp() * (log_p - log_q).abs()).sum(-1) * mask).sum(1)",
    "K11": "p, q = log_p.exp(), log_q.exp()\n"
    "return (((p - q) * (log_p - log_q)).sum(-1) * mask).sum(1)",
}
HONEST_KL = {
    "plain": "return ((log_p.exp() * (log_p - log_q)).sum(-1) * mask).sum(1)",
    "kl_div": "kl = F.kl_div(log_q, log_p, log_target=True, reduction='none').sum(-1)\n"
    "return (kl * mask).sum(1)",
    "einsum": "return torch.einsum('ntv,ntv,nt->n', log_p.exp(), log_p - log_q, "
    "mask.float())",
    "entropies": "p = log_p.exp()\nh = (p * log_p).sum(-1) - (p * log_q).sum(-1)\n"
    "return (h * mask).sum(1)",
    "mask first": "p = mask[..., None] * log_p.exp()\n"
    "return (p * (log_p - log_q)).sum((1, 2))",
    "where": "kl = (log_p.exp() * (log_p - log_q)).sum(-1)\n"
    "return torch.where(mask, kl, 0.0).sum(1)",
    "loop": "out = []\nfor p, q, m in zip(log_p, log_q, mask):\n"
    "    out.append((p.exp() * (p - q))[m].sum())\nreturn torch.stack(out)",
    "distributions": "P = torch.distributions.Categorical(logits=log_p)\n"
    "Q = torch.distributions.Categorical(logits=log_q)\n"
    "return (torch.distributions.kl_divergence(P, Q) * mask).sum(1)",
}

LR = "s = ((policy - reference) * mask).sum(-1)\nc, r = s\n"
DPO = {
    "D1": "s = ((reference - policy) * mask).sum(-1)\nc, r = s\n"
    "return -F.logsigmoid(beta * (c - r)).mean()",
    "D1c": LR + "return -F.logsigmoid(beta * (r - c)).mean()",
    "D2": "s = ((policy - reference) * mask).sum(-1) / mask.sum(-1)\n"
    "return -F.logsigmoid(beta * (s[0] - s[1])).mean()",
    "D2a": "s = ((policy - reference) * mask).mean(2)\n"
    "return -F.logsigmoid(beta * (s[0] - s[1])).mean()",
    "D3": "s = (policy - reference).sum(-1)\n"
    "return -F.logsigmoid(beta * (s[0] - s[1])).mean()",
    "D4": "s = (policy * mask).sum(-1)\n"
    "return -F.logsigmoid(beta * (s[0] - s[1])).mean()",
    "D5": LR + "return -F.logsigmoid(c - r).mean()",
    "D5d": LR + "return -F.logsigmoid((c - r) / beta).mean()",
    "D5o": LR + "return -beta * F.logsigmoid(c - r).mean()",
    "D6": LR + "return -torch.sigmoid(beta * (c - r)).mean()",
    "D7": LR + "return F.logsigmoid(beta * (c - r)).mean()",
    "D8": LR + "return -F.logsigmoid(beta * (c - r)).sum()",
    "D9": LR + "return -F.logsigmoid(beta * c).mean()",
    "D10": LR + "return -F.logsigmoid(beta * (c - r).sum())",
}
HONEST_DPO = {
    "plain": LR + "return -F.logsigmoid(beta * (c - r)).mean()",
    "softplus": LR + "return F.softplus(-beta * (c - r)).mean()",
    "bce": LR + "m = beta * (c - r)\n"
    "return F.binary_cross_entropy_with_logits(m, torch.ones_like(m))",
    "log sigmoid": LR + "return -torch.log(torch.sigmoid(beta * (c - r))).mean()",
    "softmax": LR
    + "return -torch.log_softmax(beta * torch.stack([c, r]), 0)[0].mean()",
    "four": "p = (policy * mask).sum(-1)\nq = (reference * mask).sum(-1)\n"
    "return -F.logsigmoid(beta * ((p[0] - p[1]) - (q[0] - q[1]))).mean()",
    "rewards": "r = beta * torch.where(mask, policy - reference, 0.0).sum(2)\n"
    "return -F.logsigmoid(r[0] - r[1]).mean()",
    "loop": "total = 0\nfor i in range(policy.size(1)):\n"
    "    d = policy[:, i] - reference[:, i]\n"
    "    c, r = d[0][mask[0, i]].sum(), d[1][mask[1, i]].sum()\n"
    "    total = total - F.logsigmoid(beta * (c - r))\nreturn total / policy.size(1)",
    "cross entropy": LR + "logits = beta * torch.stack([c, r], 1)\n"
    "return F.cross_entropy(logits, torch.zeros(len(c), dtype=torch.long))",
}


def stepping(
    old: str, loss: str = "(low * mask).sum(1).mean()", after: str = ""
) -> str:
    """Return the body of `improve`: `old` before the loop, `after` in it."""
    return f"""{old}
for _ in range(steps):
    new = policy.log_probs()
    ratio = (new - old).exp()
    a = advantages.unsqueeze(1)
    low = torch.min(ratio * a, torch.clamp(ratio, 1 - clip, 1 + clip) * a)
    policy.step(-{loss})
    {after}"""


OLD = "old = policy.log_probs().detach()"
IMPROVE = {
    "I1": stepping(OLD, after=OLD),
    "I1'": stepping(OLD).replace("(new - old)", "(new - new.detach())"),
    "I2": stepping("old = policy.log_probs()"),
    "I3": stepping(OLD, loss="(ratio * a * mask).sum(1).mean()"),
    "I4": stepping(OLD).replace("step(-", "step("),
    "I5": stepping(OLD, loss="low.sum(1).mean()"),
    "I6": stepping(OLD).replace("range(steps)", "range(1)"),
    "I7": stepping(OLD).replace("torch.min", "torch.max"),
    "I8": stepping(OLD).replace("torch.min(ratio * a, ", "("),
}
HONEST_IMPROVE = {
    "plain": stepping(OLD),
    "no_grad": stepping("with torch.no_grad():\n    old = policy.log_probs()"),
    "clone": stepping("old = policy.log_probs().detach().clone()"),
    "mean": stepping(OLD, loss="(low * mask).sum() / len(mask)"),
    "where": stepping(OLD, loss="torch.where(mask, low, 0.0).sum(1).mean()"),
    "first": """for i in range(steps):
    new = policy.log_probs()
    if i == 0:
        old = new.detach()
    ratio = (new - old).exp()
    a = advantages[:, None]
    low = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    policy.step(-(low * mask).sum(1).mean())""",
    "while": stepping(OLD).replace(
        "for _ in range(steps):", "while steps > 0:\n    steps -= 1"
    ),
    "negative": stepping(OLD).replace("policy.step(-(low", "policy.step((-low"),
}
CASES = {
    "group_advantage": (ADVANTAGE, HONEST_ADVANTAGE),
    "policy_gradient_loss": (LOSS, HONEST_LOSS),
    "answer_mask": (MASKS, HONEST_MASKS),
    "judge_answers": (JUDGES, HONEST_JUDGES),
    "kl_along": (KL, HONEST_KL),
    "dpo_loss": (DPO, HONEST_DPO),
    "improve": (IMPROVE, HONEST_IMPROVE),
}


class TestCatalogue(Catalogue):
    cases = CASES
    extra = {"answer_mask_right": answer_mask_right}


@pytest.mark.parametrize("form", ["I1", "I1'"])
def test_old_log_probabilities_of_every_step_are_not_repaired_yet(form: str) -> None:
    report = checks.improve_to_repair(
        function_of(checks.improve_to_repair, IMPROVE[form])
    )
    assert report.state == "not written" and report.symptoms
    right = function_of(checks.improve_to_repair, HONEST_IMPROVE["plain"])
    assert checks.improve_to_repair(right).passed


@pytest.mark.parametrize("wrong, mistake", ANSWERS[0].wrong, ids=lambda one: str(one))
def test_a_wrong_prediction_is_refused(wrong, mistake) -> None:
    assert not checks.answer("16.1", ANSWERS[0].wanted() | wrong).passed
