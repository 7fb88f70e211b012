"""A toy model, an optimizer and adapters that watch a training step from outside.

The toy has five numbers in two tensors, so that every move of every parameter can be
compared. Its "dropout" always drops the same numbers, so that training mode and
evaluation mode differ without chance.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gpt2_lesson.checks.probing import Function, Value


@dataclass(frozen=True)
class Setup:
    """What a training run is given.

    `start` (5,) holds the first parameters; `steps` one tuple of batches (B, T) of
    token ids 0 to 2 for each step; `rates` the learning rate of each step.
    """

    start: Tensor
    steps: tuple[tuple[Tensor, ...], ...]
    max_norm: float = 100.0
    rates: tuple[float, ...] = (0.5, 0.25, 0.75)
    momentum: float = 0.0
    two_groups: bool = False
    training: bool = True
    every: int = 2


class Toy(nn.Module):
    """A number for each of three tokens, and one for even and one for odd places."""

    def __init__(self, start: Tensor, calls: list[str]) -> None:
        super().__init__()
        self.table = nn.Parameter(start[:3].clone())
        self.shift = nn.Parameter(start[3:].clone())
        self.calls, self.graphs = calls, 0
        self.rows = self.most_rows = 0  # whose graphs are kept

    def forward(self, input_ids: Tensor) -> Tensor:
        self.calls.append("forward" + " (evaluation mode)" * (not self.training))
        odd = torch.arange(input_ids.size(1)) % 2
        outputs = self.table[input_ids] + self.shift[odd]  # (B, T)
        if self.training:
            outputs = outputs * torch.tensor([1.5, 0.5])[odd]
        if outputs.requires_grad:
            self.graphs += not self.training
            self.rows += len(outputs)
            self.most_rows = max(self.most_rows, self.rows)
            outputs.register_hook(lambda _: self._went_backward(len(outputs)))
        return outputs

    def _went_backward(self, rows: int) -> None:
        self.calls.append("backward")
        self.rows -= rows

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.calls.append("zero_grad")
        super().zero_grad(set_to_none)

    def numbers(self) -> Tensor:
        """Return all parameters (5,), as they are now."""
        return torch.cat([self.table, self.shift]).detach().clone()

    def gradient(self) -> Tensor:
        """Return all gradients (5,), as they are now; 0 where there is none."""
        return torch.cat(
            [
                torch.zeros_like(p) if p.grad is None else p.grad.detach()
                for p in (self.table, self.shift)
            ]
        )


def toy_loss(outputs: Tensor, input_ids: Tensor) -> Tensor:
    """Return the toy's mean loss: its outputs should be 3, -1 and 1 for ids 0, 1, 2."""
    aims = torch.tensor([3.0, -1.0, 1.0])[input_ids]
    return (outputs - aims).square().mean() / 2


class SpySGD(torch.optim.SGD):
    """Plain gradient descent that writes down its calls, and the gradient it used."""

    def __init__(self, toy: Toy, setup: Setup) -> None:
        params = (
            [{"params": [toy.table]}, {"params": [toy.shift]}]
            if setup.two_groups
            else [toy.table, toy.shift]
        )
        super().__init__(params, lr=1.0, momentum=setup.momentum)
        self.toy, self.used = toy, torch.zeros(5)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.toy.calls.append("zero_grad")
        super().zero_grad(set_to_none)

    def step(self, closure: Callable | None = None) -> Value:
        loss = None if closure is None else closure()
        self.toy.calls.append("step")
        self.used = self.toy.gradient()
        super().step()
        return loss


@contextlib.contextmanager
def watched_clipping(toy: Toy) -> Iterator[None]:
    """Write down each call of PyTorch's clipping functions inside the block."""
    places = [
        (module, name)
        for module in (nn.utils, nn.utils.clip_grad)
        for name in ("clip_grad_norm_", "clip_grad_value_")
    ]
    kept = [getattr(*place) for place in places]

    def watched(function: Function) -> Function:
        def clip(*args: object, **settings: object) -> object:
            empty = not toy.gradient().any()
            toy.calls.append("clip (no gradient yet)" if empty else "clip")
            return function(*args, **settings)

        return clip

    try:
        for place, function in zip(places, kept, strict=True):
            setattr(*place, watched(function))
        yield
    finally:
        for place, function in zip(places, kept, strict=True):
            setattr(*place, function)


def run_steps(train_step: Function, setup: Setup) -> Iterator[tuple]:
    """Yield (toy, optimizer, what was returned, calls) after each training step."""
    calls: list[str] = []
    toy = Toy(setup.start, calls)
    toy.train(setup.training)
    optimizer = SpySGD(toy, setup)
    with watched_clipping(toy):
        for batches, rate in zip(setup.steps, setup.rates, strict=False):
            calls.clear()
            loss = train_step(
                toy, optimizer, toy_loss, list(batches), setup.max_norm, rate
            )
            yield toy, optimizer, loss, list(calls)


def moves(train_step: Function, setup: Setup) -> Tensor:
    """Return how far each step moved each parameter (steps, 5)."""
    before, moved = setup.start, []
    for toy, *_ in run_steps(train_step, setup):
        now = toy.numbers()
        moved.append(now - before)
        before = now
    return torch.stack(moved)


def returned(train_step: Function, setup: Setup) -> object:
    """Return the losses that the steps returned (steps,); others as they are."""
    return numbers([loss for _, _, loss, _ in run_steps(train_step, setup)])


def numbers(values: object) -> object:
    """Return a list of numbers as a tensor; anything else as it is, the first of it."""
    if not isinstance(values, list | tuple):
        return values
    odd = [
        one
        for one in values
        if isinstance(one, bool)
        or not (
            isinstance(one, int | float | np.number)
            or isinstance(one, Tensor)
            and one.numel() == 1
        )
    ]
    return odd[0] if odd else torch.tensor([float(one) for one in values])


def holds_graph(values: object) -> bool:
    """Return True if a tensor among the values still holds what `backward` needs."""
    values = values if isinstance(values, list | tuple) else [values]
    return any(isinstance(one, Tensor) and one.requires_grad for one in values)


def oddities(train_step: Function, setup: Setup) -> list[str]:
    """Return what no training step should do, a sentence each."""
    found = []
    for toy, optimizer, loss, calls in run_steps(train_step, setup):
        if calls.count("step") != 1:
            found.append(f"optimizer.step() runs {calls.count('step')} times")
        if "clip (no gradient yet)" in calls:
            found.append("clips before there is a gradient")
        left = toy.gradient()
        after = calls[calls.index("step") :] if "step" in calls else []
        if (
            "clip" in after
            and "backward" not in after
            or (left.any() and after and not left.allclose(optimizer.used))
        ):
            found.append("changes the gradient after the step")
        if holds_graph(loss):
            found.append("the returned loss still has its graph")
    return sorted(set(found))


def call_log(train_step: Function, setup: Setup) -> list[str]:
    """Return the calls of the last step, in their order."""
    return list(run_steps(train_step, setup))[-1][-1]


def step_in_words(train_step: Function, setup: Setup) -> str:
    """Return the calls of the first step, how far it moves and what it returns."""
    toy, _, loss, calls = next(run_steps(train_step, setup))
    far = (toy.numbers() - setup.start).norm().item()
    loss = loss.item() if isinstance(loss, Tensor) and loss.numel() == 1 else loss
    told = f"{loss:.3g}" if isinstance(loss, int | float) else type(loss).__name__
    return f"{', '.join(calls)}; moves by {far:.3g}, returns {told}"


def most_at_once(train_step: Function, setup: Setup) -> str:
    """Return whether a step keeps the graphs of one batch at a time, or of more."""
    batch = max(len(batch) for batches in setup.steps for batch in batches)
    most = max(toy.most_rows for toy, *_ in run_steps(train_step, setup))
    return "one batch at a time" if most <= batch else "several batches at once"


def trace(train_step: Function) -> None:
    """Print the calls of one training step with two batches, in their order."""
    ids = torch.tensor([[0, 1, 2, 1]]), torch.tensor([[2, 0, 0, 1]])
    setup = Setup(torch.zeros(5), (ids,), max_norm=0.5)
    with _told():
        print(*call_log(train_step, setup), sep="\n")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Print an error of a learner's function in place of raising it."""
    try:
        yield
    except NotImplementedError:
        pass
    except Exception as error:
        print(
            f"It crashes: {type(error).__name__}: {error}\n"
            "(The toy model takes ids (B, T) and gives one number for each, (B, T): "
            "only its own loss_of can judge them.)"
        )


# --- a whole training run -------------------------------------------------------------


def run_fit(fit: Function, setup: Setup) -> tuple[Toy, list[SpySGD], object]:
    """Return (toy, the optimizers made, what `fit` returned)."""
    toy, made = Toy(setup.start, []), []
    toy.train(setup.training)

    def make_optimizer(model: Toy) -> SpySGD:
        optimizer = SpySGD(model, setup)
        for group in optimizer.param_groups:
            group["lr"] = setup.rates[0]
        made.append(optimizer)
        return optimizer

    batches = [batch for step in setup.steps[1:] for batch in step]
    val_batch = setup.steps[0][0]
    found = fit(toy, make_optimizer, toy_loss, batches, val_batch, setup.every)
    return toy, made, found


def pair_part(found: object, i: int) -> object:
    """Return part i of a pair of lists as a tensor; for what is no pair, a text."""
    if not isinstance(found, tuple | list):
        return found
    listed = [
        isinstance(part, list | tuple) or (isinstance(part, Tensor) and part.dim() == 1)
        for part in found
    ]
    if listed == [True, True]:
        return numbers(found[i])
    return (
        f"not a pair of lists, (losses, val_losses), but a "
        f"{type(found).__name__} of {len(found)}"
    )


def losses_of(fit: Function, setup: Setup) -> Value:
    """Return the losses of the steps (steps,)."""
    return pair_part(run_fit(fit, setup)[2], 0)


def val_losses_of(fit: Function, setup: Setup) -> Value:
    """Return the validation losses."""
    return pair_part(run_fit(fit, setup)[2], 1)


def fit_oddities(fit: Function, setup: Setup) -> list[str]:
    """Return what no training should do, a sentence each."""
    toy, made, found = run_fit(fit, setup)
    odd = [] if len(made) == 1 else [f"make_optimizer runs {len(made)} times"]
    parts = found if isinstance(found, tuple) else (found,)
    if any(holds_graph(part) for part in parts):
        odd.append("the returned losses still have their graphs")
    return odd


def graphs_in_evaluation(fit: Function, setup: Setup) -> int:
    """Return how often the model ran with gradients while in evaluation mode."""
    return run_fit(fit, setup)[0].graphs


def trace_fit(fit: Function) -> None:
    """Print the calls of a training run of five steps, a new line at each zero_grad.

    The validation loss is wanted after every second step.
    """
    ids = tuple((torch.tensor([[0, 1, i % 3, 2]]),) for i in range(6))
    with _told():
        calls = run_fit(fit, Setup(torch.zeros(5), ids, rates=(0.1,)))[0].calls
        print(", ".join(calls).replace(", zero_grad", "\nzero_grad"))


# --- the parts ------------------------------------------------------------------------


def rates_of(learning_rate: Function, steps_asked: list, settings: tuple) -> object:
    """Return the rates of some steps, as a tensor."""
    return numbers([learning_rate(step, *settings) for step in steps_asked])


class Small(nn.Module):
    """Two tables, a norm, a projection and a tied head: what an optimizer sorts."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(7, 4), nn.Embedding(5, 4)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(layers)
        )
        self.ln_final = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tok_emb.weight


def decay_of_each(
    optimizer_groups: Function, layers: int, weight_decay: float
) -> Value:
    """Return {parameter: its decay}, a list of them if it stands in several groups."""
    model = Small(layers)
    groups = optimizer_groups(model, weight_decay)
    groups = getattr(groups, "param_groups", groups)
    if not isinstance(groups, list | tuple):
        return groups
    found: dict[int, list] = {}
    for group in groups:
        if not (isinstance(group, dict) and "params" in group):
            return group
        params = group["params"]
        for param in [params] if isinstance(params, Tensor) else params:
            param = param[1] if isinstance(param, tuple) else param
            found.setdefault(id(param), []).append(group.get("weight_decay", "not set"))
    named = {
        name: found.pop(id(param), ["in no group"])
        for name, param in model.named_parameters()
    }
    decays = {name: one[0] if len(one) == 1 else one for name, one in named.items()}
    return decays | ({"others": len(found)} if found else {})


def pairs_drawn(
    get_pairs: Function,
    size: int,
    batch_size: int,
    seq_length: int,
    seed: int,
    start: int = 0,
) -> Value:
    """Return facts about many batches of the text start, start + 1, ... (size,)."""
    tokens = torch.arange(start, start + size)
    generator = torch.Generator().manual_seed(seed)
    drawn = [get_pairs(tokens, batch_size, seq_length, generator) for _ in range(60)]
    for pair in drawn:
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and all(isinstance(part, Tensor) for part in pair)
        ):
            return (
                None
                if pair is None
                else (f"not a pair of tensors, but a {type(pair).__name__}")
            )
        for part in pair:
            if part.shape != (batch_size, seq_length):
                return (
                    "not a pair of (batch_size, seq_length), here "
                    f"({batch_size}, {seq_length}), but {tuple(pair[0].shape)} and "
                    f"{tuple(pair[1].shape)}"
                )
    inputs, targets = (torch.stack([pair[i] for pair in drawn]).long() for i in (0, 1))
    steps, ahead = inputs.diff(dim=-1), targets - inputs
    return {
        "steps inside a window": steps.unique().tolist()[:5],
        "target minus input": ahead.unique().tolist()[:5],
        "positions at which a window begins": inputs[..., 0].unique().tolist(),
        "windows of a batch begin at different positions": bool(
            (inputs[:, :, 0] != inputs[:, :1, 0]).any()
        ),
    }


def drawn_again(get_pairs: Function, tokens: Tensor, seed: int) -> str:
    """Return whether the generator alone decides, and what the ids' type is."""

    def draw() -> Value:
        return get_pairs(tokens, 8, 4, torch.Generator().manual_seed(seed))[0]

    first = draw()
    torch.manual_seed(seed + 1)
    same = torch.equal(first, draw())
    return (
        f"the generator {'decides' if same else 'does not decide'}; "
        f"{str(first.dtype).removeprefix('torch.')}"
    )


def new_weight(adamw_step: Function, *args: object) -> Value:
    """Return the first of the three results: the weight."""
    found = _three(adamw_step(*args))
    return found[0] if isinstance(found, tuple | list) else found


def new_means(adamw_step: Function, *args: object) -> Value:
    """Return the second and third result: the running means (2, ...)."""
    found = _three(adamw_step(*args))
    return (
        torch.stack([found[1], found[2]])
        if isinstance(found, tuple | list)
        else (found)
    )


def _three(found: Value) -> Value:
    """Return (weight, mean, square); for anything else None, or a text."""
    if found is None or isinstance(found, tuple | list) and len(found) == 3:
        return found
    return "not the three results (weight, mean, square), but " + (
        f"{len(found)}" if isinstance(found, tuple | list) else "one"
    )


def halved(loss_of: Function, logits: Tensor, *rest: object) -> object:
    """Return what the function gives for logits in half precision, as float32."""
    found = loss_of(logits.half(), *rest)
    return found.float() if isinstance(found, Tensor) else found
