"""Policies without a model, judges, and adapters that return a loss's gradient."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt2_lesson.checks.probing import Function, Value


def loss_and_gradient(function: Function, log_probs: Tensor, *args: object) -> Value:
    """Return the loss and its gradient for the first argument, in one row of numbers.

    What is not a single number comes back as it is. Raises ValueError for a loss that
    no gradient goes through.
    """
    leaf = log_probs.requires_grad_()
    loss = function(leaf, *args)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.dim():
        return loss
    if not loss.requires_grad:
        raise ValueError("no gradient goes from your loss to the log-probabilities")
    (gradient,) = torch.autograd.grad(loss, leaf)
    return torch.cat([loss.detach().flatten(), gradient.flatten()])


class LoosePolicy(nn.Module):
    """A policy whose log-probabilities (N, T) can be moved one by one.

    If `coupled`, moving an answer moves the next one, too, and twice as far.
    """

    def __init__(self, start: Tensor, rate: float, coupled: bool = False) -> None:
        super().__init__()
        self.start, self.rate = start, rate
        self.moves = nn.Parameter(torch.zeros_like(start))
        self.mix = torch.eye(len(start))
        if coupled:
            self.mix = self.mix + 2 * self.mix.roll(1, 0)

    def log_probs(self) -> Tensor:
        """Return the log-probabilities (N, T) of the answers' tokens."""
        return self.start + self.mix @ self.moves

    def step(self, loss: Tensor) -> None:
        """Take one step of gradient descent."""
        (gradient,) = torch.autograd.grad(loss, self.moves)
        with torch.no_grad():
            self.moves.sub_(self.rate * gradient)


def where_it_ends(function: Function, policy: LoosePolicy, *args: object) -> Tensor:
    """Return the policy's log-probabilities after the function has improved it."""
    function(policy, *args)
    return policy.log_probs().detach()


def judged_by_ids(function: Callable, *args: object) -> Value:
    """Return the rewards by a judge whose reward depends on every id and its place."""
    return function(
        *args, lambda ids: sum((i + 1.0) * (id + 1) for i, id in enumerate(ids)) / 10
    )


def judged_by_length(function: Callable, *args: object) -> Value:
    """Return the rewards by a judge that counts tokens."""
    return function(*args, lambda ids: float(len(ids)))
