"""Lesson 16: advantages, the policy-gradient loss, masks, KL divergence, DPO."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes import policies
from gpt2_lesson.checks.probing import Probe

# --- the right answers ----------------------------------------------------------------

_ADVANTAGE = """\
def group_advantage(rewards):
    mean = rewards.mean(1, keepdim=True)
    std = rewards.std(1, keepdim=True)
    return (rewards - mean) / (std + 1e-4)"""

_LOSS = """\
def policy_gradient_loss(log_probs, old_log_probs, advantages, mask, clip):
    ratio = (log_probs - old_log_probs).exp()
    gain = ratio * advantages[:, None]
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantages[:, None]
    gain = torch.minimum(gain, clipped)
    return -(gain * mask).sum(1).mean()"""

_MASK = """\
def answer_mask(ids, prompt_length, stop):
    stops = (ids == stop).long()
    stops[:, :prompt_length] = 0
    before = stops.cumsum(1) - stops                 # stops before each token
    mask = before == 0
    mask[:, :prompt_length] = False
    return mask"""

_JUDGE = """\
def judge_answers(ids, mask, stop, judge):
    rewards = []
    for row, chosen in zip(ids, mask):
        answer = row[chosen].tolist()
        finished = answer[-1] == stop
        rewards.append(judge(answer) if finished else 0.0)
    return torch.tensor(rewards)"""

_KL = """\
def kl_along(log_p, log_q, mask):
    difference = log_p - log_q
    kl = (log_p.exp() * difference).sum(-1)          # (N, T)
    return (kl * mask).sum(1)"""

_DPO = """\
def dpo_loss(policy, reference, mask, beta):
    log_ratio = ((policy - reference) * mask).sum(-1)            # (2, N)
    margin = log_ratio[0] - log_ratio[1]
    return -F.logsigmoid(beta * margin).mean()"""

_IMPROVE = """\
def improve(policy, advantages, mask, steps, clip):
    old = policy.log_probs().detach()
    for _ in range(steps):
        ratio = (policy.log_probs() - old).exp()
        gain = ratio * advantages[:, None]
        clipped = ratio.clamp(1 - clip, 1 + clip) * advantages[:, None]
        gain = torch.minimum(gain, clipped)
        policy.step(-(gain * mask).sum(1).mean())"""

# --- probes ---------------------------------------------------------------------------

STOP = 0


def advantage_probes(g: Generator) -> list[Probe]:
    """Return rewards of several groups: mixed, easy and hard, all alike, square."""
    easy_and_hard = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1]])
    return [Probe("an easy question and a hard one", (easy_and_hard,)),
            Probe("3 groups of 5", (3 * torch.rand(3, 5, generator=g) - 1,),
                  sizes={"P": 3, "G": 5}),
            Probe("4 groups of 4", (torch.rand(4, 4, generator=g),)),
            Probe("one group", (torch.rand(1, 6, generator=g),)),
            Probe("a group that is all right", (torch.ones(2, 3),)),
            Probe("rewards between 10 and 11",
                  (10 + torch.rand(2, 8, generator=g),))]


def _tokens(g: Generator, n: int, t: int, moved: float) -> tuple:
    """Return new and old log-probabilities (N, T), advantages (N,), a mask (N, T)."""
    old = -2 * torch.rand(n, t, generator=g) - 0.2
    new = old + moved * torch.randn(n, t, generator=g)
    lengths = torch.randint(1, t + 1, (n, 1), generator=g)
    return new, old, torch.randn(n, generator=g), torch.arange(t) < lengths


def loss_probes(g: Generator) -> list[Probe]:
    """Return losses with their gradients: at the first step, later, one at a time."""
    new, old, advantages, mask = _tokens(g, 4, 6, 0.4)
    found = [Probe("4 answers of up to 6 tokens, ratios near 1",
                   (new, old, advantages, mask, 0.2), policies.loss_and_gradient),
             Probe("the first step: all ratios are 1",
                   (old.clone(), old, advantages, mask, 0.2),
                   policies.loss_and_gradient),
             Probe("as many answers as tokens", (*_tokens(g, 5, 5, 0.6), 0.3),
                   policies.loss_and_gradient)]
    ratios = torch.tensor([[0.5, 0.9, 1.0, 1.1, 4.0]])
    for name, size in (("a good answer", 1.0), ("a bad answer", -1.0)):
        args = ratios.log() - 1, torch.full((1, 5), -1.0), torch.tensor([size])
        found.append(Probe(f"{name}, ratios from 0.5 to 4",
                           (*args, torch.ones(1, 5).bool(), 0.2),
                           policies.loss_and_gradient))
    return found


def mask_probes(g: Generator) -> list[Probe]:
    """Return rows that stop early, late, never; prompts with a stop in them."""
    rows = torch.tensor([[7, 5, 3, STOP, STOP, STOP], [7, 5, 4, 6, 2, STOP],
                         [7, 5, 4, 6, 2, 9], [7, 5, STOP, STOP, STOP, STOP]])
    within = torch.tensor([[STOP, 5, 3, STOP, STOP], [STOP, 5, 8, 1, 9]])
    gap = torch.tensor([[7, 3, STOP, 4, STOP, 6]])
    return [Probe("a prompt of 2 tokens, 4 answers", (rows, 2, STOP),
                  sizes={"N": 4, "T": 6}),
            Probe("a stop in the prompt", (within, 2, STOP)),
            Probe("the prompt ends with a stop", (within, 1, STOP)),
            Probe("something else after the stop", (gap, 1, STOP)),
            Probe("another stop id", (rows, 2, 5)),
            Probe("no prompt", (rows[:, 2:], 0, STOP)),
            Probe("12 other answers", (_drawn_ids(g), 3, STOP))]


def _drawn_ids(g: Generator) -> Tensor:
    """Return prompts of 3 tokens with answers, about half of which stop: (12, 8)."""
    return torch.randint(STOP, STOP + 8, (12, 8), generator=g)


def judge_probes(g: Generator) -> list[Probe]:
    """Return answers, some of which never stop, and a judge that tells what it got."""
    ids = torch.tensor([[7, 5, 3, STOP, STOP], [7, 5, 4, 6, STOP], [7, 5, 4, 6, 9],
                        [7, 5, STOP, STOP, STOP]])
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1],
                         [0, 0, 1, 0, 0]]).bool()
    drawn = _drawn_ids(g)
    return [Probe("4 answers, one without an end", (ids, mask, STOP),
                  policies.judged_by_ids),
            Probe("an answer that was cut off, alone", (ids[2:3], mask[2:3], STOP),
                  policies.judged_by_ids),
            Probe("another stop id", (torch.tensor([[7, 5, 3, 6, 6], [7, 5, 0, 2, 6]]),
                                      mask[:2], 6), policies.judged_by_ids),
            Probe("prompts with a stop in them",
                  (torch.tensor([[STOP, 5, 3, STOP, STOP], [STOP, 5, 4, 6, 9]]),
                   mask[[0, 2]], STOP), policies.judged_by_ids),
            Probe("a judge of lengths", (ids, mask, STOP), policies.judged_by_length),
            Probe("12 other answers", (drawn, answer_mask.reference(drawn, 3, STOP),
                                       STOP), policies.judged_by_ids)]


def _log_rows(g: Generator, *shape: int) -> Tensor:
    return (2 * torch.randn(*shape, generator=g)).log_softmax(-1)


def kl_probes(g: Generator) -> list[Probe]:
    """Return next-token distributions along texts: random, equal, a coin."""
    p, q = _log_rows(g, 3, 5, 7), _log_rows(g, 3, 5, 7)
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])
    coin = torch.tensor([[[0.5, 0.5]]]).log()
    biased = torch.tensor([[[0.9, 0.1]]]).log()
    one = torch.ones(1, 1).bool()
    return [Probe("3 texts, masks of 5, 2 and 3 tokens", (p, q, mask),
                  sizes={"N": 3, "T": 5, "V": 7}),
            Probe("a policy (0.9, 0.1), a reference (0.5, 0.5)", (biased, coin, one)),
            Probe("a policy (0.5, 0.5), a reference (0.9, 0.1)", (coin, biased, one)),
            Probe("no difference", (p, p.clone(), mask)),
            Probe("as many texts as tokens",
                  (_log_rows(g, 4, 4, 4), _log_rows(g, 4, 4, 4),
                   torch.ones(4, 4).bool()))]


def dpo_probes(g: Generator) -> list[Probe]:
    """Return token log-probabilities (2, N, T) of pairs, chosen first."""
    def case(n: int, t: int, beta: float, moved: float = 0.5) -> tuple:
        reference = -2 * torch.rand(2, n, t, generator=g) - 0.1
        policy = reference + moved * torch.randn(2, n, t, generator=g)
        lengths = torch.randint(1, t + 1, (2, n, 1), generator=g)
        return policy, reference, torch.arange(t) < lengths, beta

    adapter = policies.loss_and_gradient
    return [Probe("3 pairs of up to 6 tokens", case(3, 6, 0.5), adapter),
            Probe("before training: policy and reference agree", case(2, 4, 0.3, 0.0),
                  adapter),
            Probe("one pair, beta 0.1", case(1, 5, 0.1), adapter),
            Probe("5 pairs of up to 5 tokens, beta 2", case(5, 5, 2.0), adapter)]


def improve_probes(g: Generator) -> list[Probe]:
    """Return where a policy of loose log-probabilities ends after some steps."""
    def case(steps: int, clip: float, rate: float, n: int = 3, t: int = 4,
             coupled: bool = False) -> tuple:
        lengths = torch.randint(1, t + 1, (n, 1), generator=g)
        start = -2 * torch.rand(n, t, generator=g) - 0.1
        return (policies.LoosePolicy(start, rate, coupled),
                torch.randn(n, generator=g), torch.arange(t) < lengths, steps, clip)

    return [Probe("one step", case(1, 0.2, 0.3), policies.where_it_ends),
            Probe("two steps, nothing clipped", case(2, 0.9, 0.05),
                  policies.where_it_ends),
            Probe("eight steps, clipped at 0.2", case(8, 0.2, 0.4),
                  policies.where_it_ends),
            Probe("five steps, clipped at 0.05, as many answers as tokens",
                  case(5, 0.05, 0.3, 3, 3), policies.where_it_ends),
            Probe("answers that move one another",
                  case(6, 0.1, 0.2, 4, 3, coupled=True), policies.where_it_ends)]


# --- what can be read out when nothing matches ----------------------------------------


def _value(run: RunProbe, *args: object) -> Tensor | None:
    value = run(Probe("read out", args)).value
    return value if isinstance(value, Tensor) else None


def read_advantage(run: RunProbe, g: Generator) -> list[Clue]:
    """Return whether groups sum to 0, and what shift, scale and other groups change."""
    rewards = torch.rand(2, 4, generator=g)
    found = _value(run, rewards)
    if found is None or found.shape != rewards.shape or not found.isfinite().all():
        return []
    clues = []
    if found.sum(1).abs().max() > 1e-3:
        clues.append(Clue("sum", "the advantages of a group sum to "
                          f"{found[0].sum():.3f}, expected 0"))
    other = torch.stack([rewards[0], 5 * rewards[1] + 3])
    moved = _value(run, other)
    if moved is not None and moved.shape == rewards.shape:
        if (moved[0] - found[0]).abs().max() > 1e-3:
            clues.append(Clue("other", "your advantages of one group change when the "
                              "rewards of another group do"))
        if (moved[1] - found[1]).abs().max() > 0.01:
            clues.append(Clue("scale", "multiplying a group's rewards by 5 and adding "
                              "3 changes your advantages, expected (almost) nothing"))
    size = found.std(1)[0].item()
    if abs(size - 1) > 0.01:
        clues.append(Clue("size", "the standard deviation of a group's advantages is "
                          f"{size:.3f}, expected 1"))
    return clues


def read_loss(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which tokens have a gradient, in which direction, and how large."""
    ratios = torch.tensor([[0.5, 0.9, 1.0, 1.1, 4.0]])
    clues = []
    for name, size in (("good", 1.0), ("bad", -1.0)):
        value = run(Probe("read out", (
            ratios.log() - 1, torch.full((1, 5), -1.0), torch.tensor([size]),
            torch.ones(1, 5).bool(), 0.2), policies.loss_and_gradient)).value
        if not isinstance(value, Tensor) or value.numel() != 6:
            continue
        pushed = [f"{ratio:g}" for ratio, push in zip(
            ratios[0].tolist(), value[1:].tolist(), strict=True) if abs(push) > 1e-6]
        wanted = ["0.5", "0.9", "1", "1.1"] if size > 0 else ["0.9", "1", "1.1", "4"]
        if pushed != wanted:
            clues.append(Clue(name, f"in a {name} answer your loss has a gradient for "
                              f"the ratios {', '.join(pushed) or 'none'}, expected "
                              f"{', '.join(wanted)}"))
        elif (value[3] + size).abs() > 1e-3:
            clues.append(Clue(f"{name} size", f"at ratio 1 in a {name} answer your "
                              f"gradient is {value[3]:.3g}, expected {-size:g}"))
    three = torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(3)
    value = run(Probe("read out", (*three, torch.tensor([[True, False]] * 3), 0.2),
                      policies.loss_and_gradient)).value
    if isinstance(value, Tensor) and value.numel() == 7:
        if value[2::2].abs().max() > 1e-6:
            clues.append(Clue("masked", "tokens outside the mask have a gradient"))
        elif (value[1] + 1 / 3).abs() > 1e-3:
            clues.append(Clue("mean", "with three answers of one token each and "
                              f"advantage 1, a token's gradient is {value[1]:.3g}, "
                              "expected -0.333"))
    return clues


def read_mask(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which tokens of one row are marked."""
    row = torch.tensor([[7, 5, 3, STOP, STOP]])
    found = _value(run, row, 2, STOP)
    if found is None or found.shape != row.shape:
        return []
    marked = found[0].nonzero()[:, 0].tolist()
    if marked == [2, 3]:
        return []
    return [Clue("marked", "of the row 7 5 3 0 0 (prompt 7 5, stop 0) you mark the "
                 f"positions {marked or 'none'}, expected [2, 3]")]


def read_judge(run: RunProbe, g: Generator) -> list[Clue]:
    """Return the rewards of a finished answer and of one that was cut off."""
    ids = torch.tensor([[7, 3, STOP, STOP], [7, 3, 4, 5]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1]]).bool()
    value = run(Probe("read out", (ids, mask, STOP), policies.judged_by_length)).value
    if not isinstance(value, Tensor) or value.shape != (2,):
        return []
    names = ("a finished answer of 2 tokens", 2.0), ("an answer without an end", 0.0)
    return [Clue(name, f"with a judge that counts tokens, {name} gets "
                 f"{found:g}, expected {wanted:g}")
            for (name, wanted), found in zip(names, value.tolist(), strict=True)
            if abs(found - wanted) > 1e-6]


def read_kl(run: RunProbe, g: Generator) -> list[Clue]:
    """Return the value for two coins, and what the mask does."""
    coin = torch.tensor([0.5, 0.5]).log().expand(1, 2, 2)
    biased = torch.tensor([0.9, 0.1]).log().expand(1, 2, 2)
    clues = []
    for marks, wanted in (([True, False], 0.3681), ([True, True], 0.7361)):
        found = _value(run, biased, coin, torch.tensor([marks]))
        if found is not None and found.shape == (1,) and abs(found - wanted) > 1e-3:
            clues.append(Clue(f"{sum(marks)}", f"for {sum(marks)} marked token"
                              f"{'s' * (sum(marks) > 1)} with p = (0.9, 0.1) and q = "
                              f"(0.5, 0.5) yours is {found.item():.4f}, expected "
                              f"{wanted:.4f}"))
    return clues


def read_dpo(run: RunProbe, g: Generator) -> list[Clue]:
    """Return the loss and the gradients of one pair, each answer of two tokens."""
    zeros = torch.zeros(2, 1, 2)
    value = run(Probe("read out", (zeros, zeros.clone(), torch.ones(2, 1, 2).bool(),
                                   0.5), policies.loss_and_gradient)).value
    if not isinstance(value, Tensor) or value.numel() != 5:
        return []
    clues = []
    if abs(value[0] - 0.6931) > 1e-3:
        clues.append(Clue("start", "where policy and reference agree your loss is "
                          f"{value[0]:.4f}, expected ln 2 = 0.6931"))
    wanted = (-0.25, -0.25, 0.25, 0.25)
    pushes = value[1:].tolist()
    if max(abs(a - b) for a, b in zip(pushes, wanted, strict=True)) > 1e-3:
        clues.append(Clue("push", "there, with beta 0.5, the gradient of a chosen "
                          f"token is {pushes[0]:.3g} and of a rejected one "
                          f"{pushes[2]:.3g}, expected -0.25 and 0.25"))
    return clues


def read_improve(run: RunProbe, g: Generator) -> list[Clue]:
    """Return by which factor one good token's probability ends up larger."""
    clues = []
    for steps, rate, wanted in ((1, 0.1, 1.105), (30, 0.05, 1.22)):
        value = run(Probe("read out", (
            policies.LoosePolicy(torch.tensor([[-1.0]]), rate), torch.ones(1),
            torch.ones(1, 1).bool(), steps, 0.2), policies.where_it_ends)).value
        if not isinstance(value, Tensor) or value.numel() != 1:
            continue
        ratio = (value + 1).exp().item()
        right = policies.where_it_ends(
            improve.reference, policies.LoosePolicy(torch.tensor([[-1.0]]), rate),
            torch.ones(1), torch.ones(1, 1).bool(), steps, 0.2)
        wanted = (right + 1).exp().item()
        if abs(ratio - wanted) > 1e-3:
            clues.append(Clue(f"{steps}", f"after {steps} step{'s' * (steps > 1)} a "
                              f"good token is {ratio:.4g} times as probable as before, "
                              f"expected {wanted:.4g} times"))
    return clues


# --- mistakes -------------------------------------------------------------------------

_Q_USUAL = "All four answers to a question are right. What should each advantage be?"
_Q_GROUP = "Whose answers say what is usual for this question?"
_Q_UNIT = "What changes if the same rewards are counted in percent?"

ADVANTAGE = (
    Mistake("W1", "no baseline: rewards divided by the standard deviation",
            edit=("(rewards - mean)", "rewards"),
            why="every answer with a positive reward is pushed up", question=_Q_USUAL),
    Mistake("W2", "the mean over all groups together",
            edit=("rewards.mean(1, keepdim=True)", "rewards.mean()"),
            why="right answers to an easy question count as much as to a hard one",
            question=_Q_GROUP),
    Mistake("W2b", "mean and standard deviation over all groups together",
            edit=[("rewards.mean(1, keepdim=True)", "rewards.mean()"),
                  ("rewards.std(1, keepdim=True)", "rewards.std()")],
            why="the whole batch is treated as one group", question=_Q_GROUP),
    Mistake("W2s", "the standard deviation over all groups together",
            edit=("rewards.std(1, keepdim=True)", "rewards.std()"),
            why="a group with equal rewards makes the others' advantages larger",
            question=_Q_GROUP),
    Mistake("W3", "the groups taken as columns (dim=0)",
            edit=[("mean(1,", "mean(0,"), ("std(1,", "std(0,")],
            why="answers to different questions are compared", question=_Q_GROUP),
    Mistake("W4", "the wrong sign: mean minus reward",
            edit=("rewards - mean", "mean - rewards"),
            why="answers worse than usual are pushed up",
            question="Which sign should the best answer of a group get?"),
    Mistake("W5", "not divided by the standard deviation", edit=(" / (std + 1e-4)", ""),
            why="the size depends on the unit of the rewards", question=_Q_UNIT),
    Mistake("W5v", "divided by the variance",
            edit=("rewards.std(1", "rewards.var(1"),
            why="rewards in percent give advantages a hundred times smaller",
            question=_Q_UNIT),
    Mistake("W5m", "multiplied by the standard deviation",
            edit=("/ (std + 1e-4)", "* (std + 1e-4)"),
            why="the size depends on the unit of the rewards", question=_Q_UNIT),
    Mistake("W6", "nothing added to the standard deviation", edit=(" + 1e-4", ""),
            why="a group of equal rewards gives 0/0 = nan",
            question="What is the standard deviation of a group that is all right?"),
    Mistake("W7", "the standard deviation with N, not N - 1",
            edit=("rewards.std(1, keepdim", "rewards.std(1, correction=0, keepdim"),
            why="in small groups the advantages are too large",
            question="What does torch's std divide by?"),
    Mistake("W8", "the mean of the others: each answer's own reward left out",
            edit=("rewards.mean(1, keepdim=True)",
                  "(rewards.sum(1, keepdim=True) - rewards) / (rewards.size(1) - 1)"),
            why="a good baseline (RLOO), but not the group's mean",
            question="Whose rewards are in the mean of a group?"),
    Mistake("W9", "the lowest reward subtracted, not the mean",
            edit=("rewards.mean(1, keepdim=True)", "rewards.amin(1, keepdim=True)"),
            why="nearly every answer is pushed up", question=_Q_USUAL),
    Mistake("W10", "rewards as they are, neither baseline nor scale",
            edit=("(rewards - mean) / (std + 1e-4)", "rewards"),
            why="every answer with a positive reward is pushed up", question=_Q_USUAL),
)

_Q_PUSH = "A step minimises the loss. Should good answers become more probable?"
_Q_COUNT = "Which tokens did the policy choose?"
_Q_LENGTH = "A long answer and a short one are equally good. How much does each push?"
_Q_RATIO = "What is exp(ln a - ln b)?"
_Q_CLIP = ("A bad answer's token is already half as probable. Should it be pushed "
           "further?")

_MEAN = ".sum(1).mean()"
LOSS = (
    Mistake("L1", "the wrong sign", edit=("return -", "return "),
            why="a step makes good answers less probable", question=_Q_PUSH),
    Mistake("L2", "no mask: the prompt and what follows the end count",
            edit=("(gain * mask)", "gain"),
            why="tokens that nobody chose are pushed", question=_Q_COUNT),
    Mistake("L2m", "each answer divided by its number of tokens",
            edit=(_MEAN, ".sum(1).div(mask.sum(1)).mean()"),
            why="a token of a long answer counts less than one of a short answer",
            question=_Q_LENGTH),
    Mistake("L2t", "the mean over all chosen tokens",
            edit=(_MEAN, ".sum() / mask.sum()"),
            why="the size of the step depends on the answers' length",
            question="Is the mean over answers or over tokens?"),
    Mistake("L2a", "the mean over all positions, masked ones too",
            edit=(_MEAN, ".mean()"),
            why="the step shrinks when a single answer is long",
            question="Is the mean over answers or over tokens?"),
    Mistake("L2s", "the sum over the answers, not their mean", edit=(_MEAN, ".sum()"),
            why="twice the answers, twice the step",
            question="What should twice as many answers change?"),
    Mistake("L3", "the ratio without exp", edit=(").exp()", ")"),
            why="in the first step every ratio is 0, not 1", question=_Q_RATIO),
    Mistake("L3r", "the ratio upside down: old over new",
            edit=("log_probs - old_log_probs", "old_log_probs - log_probs"),
            why="a step makes good answers less probable", question=_Q_RATIO),
    Mistake("L3s", "one ratio for the whole answer",
            edit=("(log_probs - old_log_probs).exp()",
                  "((log_probs - old_log_probs) * mask).sum(1, keepdim=True).exp()"
                  ".expand(mask.shape)"),
            why="here each token has a ratio of its own", question=_Q_RATIO),
    Mistake("L3n", "no ratio: log-probability times advantage (REINFORCE)",
            edit=("(log_probs - old_log_probs).exp()", "log_probs"),
            why="right for the gradient of a first step only", question=_Q_RATIO),
    Mistake("L4", "not clipped", edit=("    gain = torch.minimum(gain, clipped)\n", ""),
            why="tokens that have moved far enough are pushed on", question=_Q_CLIP),
    Mistake("L4c", "always clipped: no minimum with what is not clipped",
            edit=("torch.minimum(gain, clipped)", "clipped"),
            why="a token that has moved the wrong way is not pushed back",
            question="A good answer's token is half as probable as before. Should it "
                     "be pushed?"),
    Mistake("L4m", "the maximum, not the minimum", edit=("minimum", "maximum"),
            why="tokens that have moved far enough are pushed on, others never",
            question=_Q_CLIP),
    Mistake("L4h", "clipped above only", edit=("clamp(1 - clip, 1 + clip)",
                                               "clamp(max=1 + clip)"),
            why="a bad answer's token is pushed down without a limit",
            question=_Q_CLIP),
    Mistake("L4l", "clipped below only", edit=("clamp(1 - clip, 1 + clip)",
                                               "clamp(min=1 - clip)"),
            why="a good answer's token is pushed up without a limit",
            question="A good answer's token is already twice as probable. Should it be "
                     "pushed further?"),
    Mistake("L4s", "the advantage left out of the clipped term",
            edit=("1 + clip) * advantages[:, None]", "1 + clip)"),
            why="the two terms of the minimum are of different kinds",
            question="What is compared by the minimum?"),
    Mistake("L5", "advantages without their sign",
            edit=[("gain = ratio * advantages[:, None]",
                   "gain = ratio * advantages[:, None].abs()"),
                  ("1 + clip) * advantages[:, None]",
                   "1 + clip) * advantages[:, None].abs()")],
            why="bad answers are pushed up, too", question=_Q_PUSH),
)

_Q_CHOSE = "Who chose the prompt, and who chose the tokens after the first stop?"
_Q_END = "Did the policy choose to end, or was it made to?"
MASK = (
    Mistake("M1", "the prompt counts",
            edit=("    mask[:, :prompt_length] = False\n", ""),
            why="the policy is praised for what it was asked", question=_Q_CHOSE),
    Mistake("M2", "what follows the end counts",
            edit=("mask = before == 0", "mask = torch.ones_like(ids) == 1"),
            why="copies of the stop are pushed like choices", question=_Q_CHOSE),
    Mistake("M3", "the stop itself does not count",
            edit=("before == 0", "(before == 0) & (stops == 0)"),
            why="the policy never learns to end", question=_Q_END),
    Mistake("M4", "a stop in the prompt ends the answer",
            edit=("    stops[:, :prompt_length] = 0\n", ""),
            why="the answer to a prompt with a stop is empty",
            question="Does the answer begin before the prompt ends?"),
    Mistake("M5", "every token that is not a stop",
            edit=("mask = before == 0", "mask = stops == 0"),
            why="the end is left out, and tokens after it count", question=_Q_END),
    Mistake("M5b", "every token that is not a stop, the prompt too",
            edit=[("mask = before == 0", "mask = ids != stop"),
                  ("    mask[:, :prompt_length] = False\n", "")],
            why="the prompt counts and the end does not", question=_Q_CHOSE),
    Mistake("M6", "up to the second stop", edit=("before == 0", "before <= 1"),
            why="one copy of the stop counts as a choice", question=_Q_END),
    Mistake("M7", "one token of the prompt counts",
            edit=("mask[:, :prompt_length]", "mask[:, :max(0, prompt_length - 1)]"),
            why="positions are counted from 0: the answer begins at prompt_length",
            question="At which position does the answer begin?"),
    Mistake("M7b", "the answer's first token does not count",
            edit=("mask[:, :prompt_length]", "mask[:, :prompt_length + 1]"),
            why="positions are counted from 0: the answer begins at prompt_length",
            question="At which position does the answer begin?"),
    Mistake("M8", "numbers, not booleans", edit=("return mask", "return mask.float()"),
            why="a mask is True or False", question="What type has ids == stop?"),
    Mistake("M9", "the mask inverted", edit=("return mask", "return ~mask"),
            why="it is True where the policy did not choose",
            question="Where should the mask be True?"),
)

_Q_FINISHED = "The judge sees half an answer. What can it know?"
_Q_WHAT = "Which tokens are the answer?"
JUDGE = (
    Mistake("J1", "unfinished answers are judged, too",
            edit=("judge(answer) if finished else 0.0", "judge(answer)"),
            why="an answer that was cut off gets a reward", question=_Q_FINISHED),
    Mistake("J2", "the judge gets the whole row",
            edit=("judge(answer)", "judge(row.tolist())"),
            why="prompt and copies of the stop are judged", question=_Q_WHAT),
    Mistake("J2p", "the judge gets everything from the answer's first token on",
            edit=("judge(answer)", "judge(row[int(chosen.long().argmax()):].tolist())"),
            why="copies of the stop are judged", question=_Q_WHAT),
    Mistake("J2s", "the judge gets the answer without its stop",
            edit=("judge(answer)", "judge(answer[:-1])"),
            why="here the stop belongs to the answer", question=_Q_WHAT),
    Mistake("J3", "finished and unfinished exchanged",
            edit=("if finished", "if not finished"),
            why="only answers that were cut off get a reward", question=_Q_FINISHED),
    Mistake("J4", "-1 for an unfinished answer, not 0", edit=("else 0.0", "else -1.0"),
            why="an answer without an end gets 0 here",
            question="What should an unfinished answer get?"),
    Mistake("J5", "unfinished answers are left out",
            edit=("        rewards.append(judge(answer) if finished else 0.0)",
                  "        if finished:\n            rewards.append(judge(answer))"),
            why="there are fewer rewards than rows",
            question="How many rewards do three rows need?"),
    Mistake("J6", "finished if the stop occurs anywhere in the row",
            edit=("answer[-1] == stop", "stop in row.tolist()"),
            why="a stop in the prompt is not an end", question=_Q_END),
)

_Q_ORDER = "Whose answers are averaged over: the policy's, or the reference's?"
KL = (
    Mistake("K1", "the KL of the other direction: reference against policy",
            edit=[("log_p.exp() * difference", "log_q.exp() * difference"),
                  ("log_p - log_q", "log_q - log_p")],
            why="it punishes what the policy has given up, not what it does anew",
            question=_Q_ORDER),
    Mistake("K2", "the wrong sign", edit=("log_p - log_q", "log_q - log_p"),
            why="a KL divergence is never negative",
            question="Which logarithm is larger where the policy's probability is?"),
    Mistake("K2w", "weighted with the reference's probabilities",
            edit=("log_p.exp() *", "log_q.exp() *"),
            why="the mean is over what the reference would do", question=_Q_ORDER),
    Mistake("K3", "no mask", edit=("(kl * mask)", "kl"),
            why="tokens that nobody chose count", question=_Q_COUNT),
    Mistake("K4", "the mean over the marked tokens, not the sum",
            edit=("return (kl * mask).sum(1)",
                  "return (kl * mask).sum(1) / mask.sum(1)"),
            why="it is the distance per token, not per text",
            question="What do two tokens of 0.5 nats each cost together?"),
    Mistake("K4m", "the mean over all tokens, not the sum",
            edit=("* mask).sum(1)", "* mask).mean(1)"),
            why="it is the distance per token, not per text",
            question="What do two tokens of 0.5 nats each cost together?"),
    Mistake("K5", "log-probabilities as weights", edit=("log_p.exp()", "log_p"),
            why="weights are probabilities", question="What sums to 1: p or ln p?"),
    Mistake("K6", "the difference of probabilities, not of logarithms",
            edit=("log_p - log_q", "log_p.exp() - log_q.exp()"),
            why="a KL is a mean of ln p - ln q",
            question="What is averaged in a KL divergence?"),
    Mistake("K7", "the vocabulary not weighted: a plain sum of differences",
            edit=("(log_p.exp() * difference)", "difference"),
            why="tokens that never come count as much as others", question=_Q_ORDER),
    Mistake("K8", "the cross-entropy: - sum p ln q",
            edit=("difference = log_p - log_q", "difference = -log_q"),
            why="where both agree it is the entropy, not 0",
            question="What should it be where policy and reference agree?"),
    Mistake("K9", "one number for all texts",
            edit=("* mask).sum(1)", "* mask).sum(1).mean()"),
            why="(N, T, V) must give (N,)", question="How many texts came in?"),
    Mistake("K10", "the absolute difference", edit=("log_p - log_q",
                                                    "(log_p - log_q).abs()"),
            why="negative terms belong to the mean, too",
            question="Is each term of a KL positive?"),
    Mistake("K11", "both directions added up",
            edit=("log_p.exp() * difference",
                  "(log_p.exp() - log_q.exp()) * difference"),
            why="this is the symmetric Jeffreys divergence", question=_Q_ORDER),
)

_Q_PREFER = "Which of the two answers should become more probable?"
_Q_WHOLE = "What is the log-probability of a whole answer?"
DPO = (
    Mistake("D1", "reference and policy (or chosen and rejected) exchanged",
            edit=("policy - reference", "reference - policy"),
            why="a step makes the chosen answer less probable", question=_Q_PREFER),
    Mistake("D2", "the mean over an answer's tokens, not the sum",
            edit=("* mask).sum(-1)", "* mask).sum(-1) / mask.sum(-1)"),
            why="a token of a long answer counts less", question=_Q_WHOLE),
    Mistake("D2a", "the mean over all positions, not the sum",
            edit=("* mask).sum(-1)", "* mask).mean(-1)"),
            why="the margin is divided by the length of the rows", question=_Q_WHOLE),
    Mistake("D3", "no mask", edit=("((policy - reference) * mask)",
                                   "(policy - reference)"),
            why="padding counts", question=_Q_COUNT),
    Mistake("D4", "no reference model", edit=("(policy - reference)", "policy"),
            why="before training the loss is not ln 2",
            question="What is the margin before the first step?"),
    Mistake("D5", "beta left out", edit=("beta * margin", "margin"),
            why="the price of the distance is lost",
            question="What does a smaller beta allow?"),
    Mistake("D5d", "divided by beta", edit=("beta * margin", "margin / beta"),
            why="a small beta should make the margin count less",
            question="What does a smaller beta allow?"),
    Mistake("D5o", "beta outside of the logarithm",
            edit=("-F.logsigmoid(beta * margin)", "-beta * F.logsigmoid(margin)"),
            why="it then only changes the size of the step",
            question="Which reward does DPO read from the log-ratio?"),
    Mistake("D6", "the sigmoid without its logarithm",
            edit=("F.logsigmoid", "torch.sigmoid"),
            why="it is not a negative log-likelihood",
            question="What is the loss of a preference of probability 1/2?"),
    Mistake("D7", "the wrong sign", edit=("return -", "return "),
            why="a loss that is minimised by the wrong preference", question=_Q_PREFER),
    Mistake("D8", "the sum over the pairs, not the mean", edit=(").mean()", ").sum()"),
            why="twice the pairs, twice the step",
            question="What should twice as many pairs change?"),
    Mistake("D9", "the rejected answers left out",
            edit=("log_ratio[0] - log_ratio[1]", "log_ratio[0]"),
            why="a preference compares two answers", question=_Q_PREFER),
    Mistake("D10", "the sum over all pairs before the sigmoid",
            edit=[("beta * margin)", "beta * margin.sum())"), (").mean()", ")")],
            why="pairs are independent: each has its own probability",
            question="How many preferences are there?"),
)

_Q_OLD = "Which policy sampled these answers?"
_OLD = "    old = policy.log_probs().detach()\n"
IMPROVE = (
    Mistake("I1", "the old log-probabilities recomputed in every step",
            edit=[(_OLD, ""), ("(policy.log_probs() - old)",
                               "(policy.log_probs() - policy.log_probs().detach())")],
            why="every ratio is 1, so nothing is ever clipped", question=_Q_OLD,
            where="How often are the old log-probabilities computed, and when?",
            fix="old = policy.log_probs().detach(), once, before the loop"),
    Mistake("I2", "the old log-probabilities with their gradient",
            edit=(".detach()", ""),
            why="the gradients of new and old cancel in the first step",
            question="Should a step change what the old policy said?"),
    Mistake("I3", "not clipped",
            edit=("        gain = torch.minimum(gain, clipped)\n", ""),
            why="the push never ends", question=_Q_CLIP),
    Mistake("I4", "the wrong sign", edit=("step(-(", "step(("),
            why="good answers become less probable", question=_Q_PUSH),
    Mistake("I5", "no mask", edit=("(gain * mask)", "(gain)"),
            why="tokens that nobody chose are pushed", question=_Q_COUNT),
    Mistake("I6", "a single step", edit=("range(steps)", "range(1)"),
            why="the answers are used once", question="How many steps are asked for?"),
    Mistake("I7", "the maximum, not the minimum", edit=("minimum", "maximum"),
            why="tokens that have moved far enough are pushed on", question=_Q_CLIP),
    Mistake("I8", "always clipped", edit=("torch.minimum(gain, clipped)", "clipped"),
            why="a token that has moved the wrong way is not pushed back",
            question=_Q_CLIP),
)

# --- the exercises --------------------------------------------------------------------

group_advantage = Exercise(
    "group_advantage", "16", "group_advantage(rewards) -> (P, G)", _ADVANTAGE,
    advantage_probes, ADVANTAGE, read_advantage,
    show="an easy question and a hard one", sums=True,
    crashes=((r"must match the size of tensor", "the mean of each group needs the "
              "shape (P, 1): keepdim=True"),),
    hints=("Which axis holds the answers to one question?",
           "mean and std take the axis, and keepdim=True keeps it for the subtraction.",
           "(rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) "
           "+ 1e-4)"))

policy_gradient_loss = Exercise(
    "policy_gradient_loss", "16",
    "policy_gradient_loss(log_probs, old_log_probs, advantages, mask, clip) -> ()",
    _LOSS, loss_probes, LOSS, read_loss, show="a good answer, ratios from 0.5 to 4",
    crashes=((r"must match the size of tensor", "advantages (N,) meets tokens (N, T): "
              "advantages[:, None]"),
             (r"no gradient", "the loss must be computed from log_probs, without "
              "detach or item")),
    hints=("Write down the ratio of one token first. What is it in the first step?",
           "The clipped ratio is ratio.clamp(1 - clip, 1 + clip); the smaller of the "
           "two gains counts.",
           "-(torch.minimum(ratio * a, clipped * a) * mask).sum(1).mean()"))

answer_mask = Exercise(
    "answer_mask", "16", "answer_mask(ids, prompt_length, stop) -> (N, T), boolean",
    _MASK, mask_probes, MASK, read_mask, show="a prompt of 2 tokens, 4 answers",
    hints=("Mark by hand what the policy chose in the row 7 5 3 0 0, with the prompt 7 "
           "5 and the stop 0.",
           "A token counts if there is no stop before it in the answer. cumsum counts "
           "stops.",
           "stops.cumsum(1) - stops == 0, after the stops of the prompt are set to 0"))

judge_answers = Exercise(
    "judge_answers", "16", "judge_answers(ids, mask, stop, judge) -> (N,)",
    _JUDGE, judge_probes, JUDGE, read_judge, show="a judge of lengths",
    hints=("Take one row: which of its ids does the judge get?",
           "row[mask] are the chosen ids. An answer is finished if the last of them is "
           "the stop.",
           "judge(answer) if answer[-1] == stop else 0.0"))

kl_along = Exercise(
    "kl_along", "16", "kl_along(log_p, log_q, mask) -> (N,)",
    _KL, kl_probes, KL, read_kl,
    show="a policy (0.9, 0.1), a reference (0.5, 0.5)",
    hints=("A KL is a mean of ln p - ln q. With which probabilities is it taken?",
           "Sum over the vocabulary first, then over the marked tokens.",
           "((log_p.exp() * (log_p - log_q)).sum(-1) * mask).sum(1)"))

dpo_loss = Exercise(
    "dpo_loss", "16", "dpo_loss(policy, reference, mask, beta) -> ()",
    _DPO, dpo_probes, DPO, read_dpo,
    show="before training: policy and reference agree",
    hints=("First the log-ratio of each whole answer, (2, N): a sum over its tokens.",
           "The margin is the chosen answer's log-ratio minus the rejected one's.",
           "-F.logsigmoid(beta * (chosen - rejected)).mean()"))

improve = Exercise(
    "improve", "16", "improve(policy, advantages, mask, steps, clip)",
    _IMPROVE, improve_probes, IMPROVE, read_improve,
    show="eight steps, clipped at 0.2",
    hints=("Print the ratios in the second step. What should they be?", _Q_OLD,
           "old = policy.log_probs().detach(), once, before the loop"))

improve_to_repair = improve.to_repair("improve_to_repair", "I1")

# --- the answers that are values ------------------------------------------------------

_RIGHT, _ALL, _PRICE, _START = ("the one right answer", "one of four right answers",
                                "KL of always saying heads", "DPO loss at the start")


def _by_hand(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question, "write the definition down with these "
                   "numbers", fix)


ANSWERS = (
    Answer("16.1", "two advantages without scaling, a KL in nats, and a loss",
           {_RIGHT: 0.75, _ALL: 0.0, _PRICE: 0.69, _START: 0.69}, atol=0.005,
           precision="two decimals are", predict=True,
           wrong=(({_RIGHT: 1.0}, _by_hand(
                      "P1", "the reward, not the advantage", "the group's mean is "
                      "subtracted: it is 1/4", _Q_USUAL, "1 - 1/4")),
                  ({_RIGHT: 1.5}, _by_hand(
                      "P2", "divided by the standard deviation", "no scaling is asked "
                      "for here", _Q_UNIT, "1 - 1/4")),
                  ({_ALL: 1.0}, _by_hand(
                      "P3", "an advantage for what everyone got right", "the group's "
                      "mean is 1, too", _Q_USUAL, "1 - 1")),
                  ({_PRICE: 1.0}, _by_hand(
                      "P4", "bits, not nats", "one bit is ln 2 = 0.69 nats",
                      "Which logarithm is used?", "1 * ln(1 / 0.5)")),
                  ({_PRICE: 0.0}, _by_hand(
                      "P5", "no distance where there is one", "the coin says heads "
                      "only half of the time", "What does the original say instead?",
                      "1 * ln(1 / 0.5)")),
                  ({_PRICE: float("inf")}, _by_hand(
                      "P6", "the KL of the other direction", "the mean is over what "
                      "the policy says, and it says heads", _Q_ORDER,
                      "1 * ln(1 / 0.5)")),
                  ({_START: 0.0}, _by_hand(
                      "P7", "a loss of 0 where nothing has been learned yet", "the "
                      "margin is 0, and sigmoid(0) is 1/2",
                      "What is the probability of a preference there?", "-ln(1 / 2)")),
                  ({_START: 0.5}, _by_hand(
                      "P8", "the probability, not its negative logarithm",
                      "the loss is -ln of the probability", "What is -ln(1/2)?",
                      "-ln(1 / 2)"))),
           hints=("The advantage is the reward minus the group's mean.",
                  "KL: 1 * (ln 1 - ln 0.5) + 0. DPO: the margin is 0.",
                  "0.75, 0, ln 2 and ln 2"),
           solution=f'predicted = {{"{_RIGHT}": 0.75, "{_ALL}": 0.0,\n'
                    f'             "{_PRICE}": 0.69, "{_START}": 0.69}}'),
)
