"""Lesson 16: estimates equal sums over all answers, and optima are where they must be.

The policy is a table: the next token depends on the last one only, so that every
answer can be listed, and every mean computed exactly.
"""

import math
import runpy
from copy import deepcopy
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from torch import Tensor
from torch.testing import assert_close

from gpt2_lesson.rewards import (
    best_success_rate,
    dpo_loss,
    group_advantage,
    kl_to_reference,
    least_kl,
    policy_gradient_loss,
    policy_gradient_step,
    rollout,
    token_log_probs,
)

V, STOP, LENGTH = 4, 0, 3
PROMPT = torch.tensor([2, 1])


class Table(nn.Module):
    """Logits (V, V) of the next token after each token."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(V, V, generator=generator, dtype=torch.float64)
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits[ids]


def answers() -> tuple[Tensor, Tensor]:
    """Return every answer after the prompt, padded as `rollout` pads it, and masks."""
    rows = []
    for tokens in product(range(V), repeat=LENGTH):
        end = tokens.index(STOP) + 1 if STOP in tokens else LENGTH
        if all(token == STOP for token in tokens[end:]):  # each answer once
            rows.append((tokens, [i < end for i in range(LENGTH)]))
    ids, mask = (torch.tensor(part) for part in zip(*rows, strict=True))
    prompts = PROMPT.expand(len(ids), -1)
    return torch.cat([prompts, ids], 1), torch.cat([prompts < 0, mask], 1)


IDS, MASK = answers()
REWARDS = torch.randn(
    len(IDS), generator=torch.Generator().manual_seed(5), dtype=torch.float64
)


def log_p(model: nn.Module, ids: Tensor = IDS, mask: Tensor = MASK) -> Tensor:
    """Return the log-probability of each answer, token by token."""
    found = []
    for row, chosen in zip(ids, mask, strict=True):
        logs = model(row[None])[0].log_softmax(-1)
        at = chosen.nonzero()[:, 0].tolist()
        found.append(sum(logs[t - 1, row[t]] for t in at))
    return torch.stack(found)


def gradient(value: Tensor, model: Table) -> Tensor:
    return torch.autograd.grad(value, model.logits)[0]


def test_the_answers_are_all_there_are():
    assert_close(log_p(Table(0)).exp().sum().item(), 1.0)


class TestRollout:
    def test_the_mask_marks_what_the_model_chose(self):
        ids, mask = rollout(Table(0), PROMPT, 300, 6, STOP)
        assert ids.shape == mask.shape and (ids[:, :2] == PROMPT).all()
        for row, chosen in zip(ids.tolist(), mask.tolist(), strict=True):
            new = row[2:]
            end = new.index(STOP) + 1 if STOP in new else len(new)
            assert chosen == [False] * 2 + [i < end for i in range(len(new))]
            assert set(new[end:]) <= {STOP}

    def test_a_stop_in_the_prompt_does_not_end_the_answer(self):
        _, mask = rollout(Table(0), torch.tensor([STOP, 1, STOP]), 5, 3, STOP)
        assert mask[:, 3].all() and not mask[:, :3].any()

    def test_answers_come_as_often_as_the_policy_says(self):
        generator = torch.Generator().manual_seed(1)
        ids, _ = rollout(Table(0), PROMPT, 4000, LENGTH, STOP, generator)
        counts = (ids[:, None] == IDS).all(-1).double().mean(0)
        assert_close(counts, log_p(Table(0)).exp(), rtol=0, atol=0.03)

    def test_the_model_is_left_as_it_was(self):
        model = Table(0).train()
        rollout(model, PROMPT, 2, 2, STOP)
        assert model.training and model.logits.grad is None


class TestPolicyGradient:
    def test_its_mean_over_all_answers_is_the_gradient_of_the_mean_reward(self):
        model = Table(0)
        probs = log_p(model).exp()
        wanted = gradient((probs * REWARDS).sum(), model)
        for baseline in (0.0, 3.0):  # any will do
            weights = len(IDS) * probs.detach() * (REWARDS - baseline)
            loss = policy_gradient_loss(token_log_probs(model, IDS), weights, MASK)
            assert_close(-gradient(loss, model), wanted)

    def test_importance_weights_correct_for_an_old_policy(self):
        """One token long: there ratios of tokens are ratios of answers."""
        model, old = Table(0), Table(1)
        ids = torch.cat([PROMPT.expand(V, -1), torch.arange(V)[:, None]], 1)
        mask = torch.tensor([False, False, True]).expand(V, -1)
        probs = log_p(model, ids, mask).exp()
        wanted = gradient((probs * REWARDS[:V]).sum(), model)
        weights = V * log_p(old, ids, mask).exp().detach() * REWARDS[:V]
        loss = policy_gradient_loss(
            token_log_probs(model, ids),
            weights,
            mask,
            token_log_probs(old, ids).detach(),
        )
        assert_close(-gradient(loss, model), wanted)

    @pytest.mark.parametrize("advantage", [1.0, -2.0])
    def test_a_clipped_token_has_no_gradient(self, advantage):
        ratios = torch.tensor([[0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0]])
        new = torch.randn(1, 7, requires_grad=True)
        loss = policy_gradient_loss(
            new,
            torch.tensor([advantage]),
            torch.ones(1, 7).bool(),
            (new - ratios.log()).detach(),
            clip=0.2,
        )
        moving = ratios < 1.2 if advantage > 0 else ratios > 0.8
        found = torch.autograd.grad(loss, new)[0]
        assert_close(found, -advantage * ratios * moving)

    def test_what_the_mask_leaves_out_does_not_count(self):
        log_probs = torch.randn(3, 5, requires_grad=True)
        mask = torch.rand(3, 5) < 0.5
        loss = policy_gradient_loss(log_probs, torch.randn(3), mask)
        found = torch.autograd.grad(loss, log_probs)[0]
        assert_close(found != 0, mask)


class TestGroupAdvantage:
    def test_neither_shift_nor_scale_of_a_group_counts(self):
        rewards = torch.randn(3, 8)
        scaled = torch.tensor([[1.0], [7.0], [100.0]]) * rewards + torch.rand(3, 1)
        found = group_advantage(rewards)
        assert_close(found, group_advantage(scaled), rtol=1e-3, atol=1e-3)
        assert_close(found.std(-1), torch.ones(3), rtol=1e-3, atol=1e-3)
        assert_close(found.sum(-1), torch.zeros(3), rtol=0, atol=1e-5)

    def test_each_group_has_its_own_mean(self):
        rewards = torch.randn(3, 8)
        rows = torch.stack([group_advantage(row) for row in rewards])
        assert_close(group_advantage(rewards), rows)
        centred = group_advantage(rewards, scale=False)
        assert_close(centred, rewards - rewards.mean(1, keepdim=True))


class TestKL:
    def test_its_mean_over_all_answers_is_the_kl_of_the_answers(self):
        model, reference = Table(0), Table(1)
        probs = log_p(model).exp()
        wanted = (probs * (log_p(model) - log_p(reference))).sum()
        found = kl_to_reference(model, reference, IDS, MASK)
        assert (found >= 0).all() and not found.requires_grad
        assert_close((probs * found).sum(), wanted)

    def test_no_policy_is_below_the_frontier_and_the_tilted_one_is_on_it(self):
        log_q = log_p(Table(1)).detach()
        success = (REWARDS > 0.3).double()
        p = (log_q.exp() * success).sum().item()

        def rate_and_kl(log_pi: Tensor) -> tuple[float, float]:
            pi = log_pi.exp()
            return (pi * success).sum().item(), (pi * (log_pi - log_q)).sum().item()

        for seed in range(20):
            rate, kl = rate_and_kl(log_p(Table(seed)).detach())
            assert kl >= least_kl(rate, p) - 1e-9
        for beta in (0.2, 1.0, 5.0):
            rate, kl = rate_and_kl((log_q + success / beta).log_softmax(0))
            assert_close((rate, kl), (best_success_rate(p, beta), least_kl(rate, p)))

    def test_the_ends_of_the_frontier(self):
        assert_close(least_kl(1.0, 0.125), math.log(8))
        assert_close(least_kl(0.0, 0.125), math.log(8 / 7))
        assert least_kl(0.125, 0.125) == 0
        assert_close(best_success_rate(0.125, 1e9), 0.125)
        assert best_success_rate(0.125, 1e-9) == 1.0


class TestStep:
    def taken(self, rewards: Tensor, **settings: object) -> tuple[Table, float]:
        model = Table(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        ids, mask = IDS[: rewards.numel()], MASK[: rewards.numel()]
        found = policy_gradient_step(
            model, Table(1), optimizer, ids, mask, rewards, **settings
        )
        return model, found

    def test_one_step_is_that_of_the_penalised_reward(self):
        before, reference = Table(0), Table(1)
        objective = REWARDS - 0.3 * (log_p(before) - log_p(reference)).detach()
        advantages = (objective - objective.mean()) / (objective.std() + 1e-4)
        step = gradient((advantages * log_p(before)).mean(), before)
        step = step / max(1.0, step.norm().item())
        model, found = self.taken(REWARDS, beta=0.3)
        assert_close(model.logits, before.logits + 1e-3 * step, rtol=1e-5, atol=1e-9)
        assert_close(found, objective.mean().item())

    def test_groups_are_rows_of_the_rewards(self):
        two, _ = self.taken(REWARDS[:10].view(2, 5))
        one, _ = self.taken(REWARDS[:10])
        advantages = group_advantage(REWARDS[:10].view(2, 5)).flatten()
        before = Table(0)
        step = gradient((advantages * log_p(before)[:10]).mean(), before)
        step = step / max(1.0, step.norm().item())
        assert_close(two.logits, before.logits + 1e-3 * step, rtol=1e-5, atol=1e-9)
        assert (one.logits - two.logits).abs().max() > 1e-5

    def test_the_old_policy_stays_that_before_the_first_step(self):
        """With a tiny clip, a second step finds every useful token clipped."""
        one, _ = self.taken(REWARDS)
        many, _ = self.taken(REWARDS, steps=50, clip=1e-9)
        unclipped, _ = self.taken(REWARDS, steps=50, clip=0.9)
        moved, far = (
            (model.logits - Table(0).logits).norm() for model in (many, unclipped)
        )
        assert moved < 0.5 * far
        assert (one.logits - Table(0).logits).norm() < far


class TestDPO:
    def test_the_best_policy_for_the_price_is_its_minimum(self):
        """Over all pairs, preferred as Bradley and Terry say, the gradient is 0."""
        beta, reference = 0.5, Table(1)
        log_q = log_p(reference).detach()
        i, j = torch.cartesian_prod(*[torch.arange(len(IDS))] * 2).T
        preferred = torch.sigmoid(REWARDS[i] - REWARDS[j])

        def slope(log_pi: Tensor) -> float:
            log_pi = log_pi.detach().requires_grad_()
            losses = torch.stack(
                [
                    dpo_loss(log_pi[[a]], log_pi[[b]], log_q[[a]], log_q[[b]], beta)
                    for a, b in zip(i.tolist(), j.tolist(), strict=True)
                ]
            )
            (preferred * losses).sum().backward()
            return log_pi.grad.abs().max().item()

        assert slope((log_q + REWARDS / beta).log_softmax(0)) < 1e-9
        assert slope(log_q) > 0.1

    def test_by_hand(self):
        zero, two = torch.zeros(2), torch.tensor([2.0, -1.0])
        assert_close(dpo_loss(zero, zero, zero, zero, 0.3).item(), math.log(2))
        assert_close(
            dpo_loss(two, zero, zero, two, 0.5).item(),
            (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2,
        )


def test_training_reaches_the_known_optimum():
    """The penalised step, repeated, ends at the best rate for its price."""
    model, reference = Table(0), Table(0)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.0)
    optimum = deepcopy(model)

    def success(ids: Tensor) -> Tensor:
        return (ids[:, 2] == 3).double()

    p = (log_p(optimum).exp() * success(IDS)).sum().item()
    for _ in range(150):
        ids, mask = rollout(model, PROMPT, 64, LENGTH, STOP, generator)
        policy_gradient_step(
            model, reference, optimizer, ids, mask, success(ids), beta=0.7
        )
    rate = (log_p(model).exp() * success(IDS)).sum().item()
    assert abs(rate - best_success_rate(p, 0.7)) < 0.08


class TestStoredTable:
    """`figures/reward_frontier.csv`, which the lesson draws."""

    script = runpy.run_path(
        str(Path(__file__).parents[1] / "figures" / "reward_frontier.py")
    )

    @pytest.mark.parametrize("method, beta", script["CASES"])
    def test_a_rate_with_worse_neighbours_is_run_three_times(self, method, beta):
        runs = {
            run[2:]: rate - beta * kl
            for run, (rate, kl, _) in self.script["stored"]().items()
            if run[:2] == (method, beta)
        }
        [rate] = {rate for rate, seed in runs if seed in self.script["SEEDS"]}
        assert {seed for _, seed in runs} == {0, *self.script["SEEDS"]}
        assert runs[rate, 0] > max(runs[rate / 2, 0], runs[2 * rate, 0])

    def test_the_policy_gradient_pays_at_most_half_more_than_needed(self):
        results = [
            result
            for (method, beta, _, seed), result in self.script["stored"]().items()
            if method == "policy gradient" and beta == 0.24 and seed > 0
        ]
        assert len(results) == 3
        for rate, kl, _ in results:
            assert rate > 0.85 and kl < 1.5 * least_kl(rate, 0.1243)

    def test_the_script_trains_what_the_lesson_defines(self):
        names = self.script["lesson"]()
        model = names["train_with"](names["about_nora"], 0.24, 1e-4, rollouts=1)
        rate, kl, obey = names["measure"](model, count=128)
        assert rate < 0.5 and 0 <= kl < 0.5 and obey > 0.8
