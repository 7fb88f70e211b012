"""Loss, batches, rates, optimizers and `train`, each against something independent."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn as nn
from torch import Tensor
from torch.testing import assert_close

from gpt2_lesson import training
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.training import (
    Muon,
    TrainSettings,
    evaluate,
    get_batch,
    learning_rate,
    make_optimizer,
    next_token_loss,
    orthogonalize,
    train,
    train_step,
)


def tiny(dropout: float = 0.0) -> GPT2Model:
    torch.manual_seed(0)
    return GPT2Model(20, 16, 2, 2, 8, 32, dropout)


def test_the_loss_equals_a_loop() -> None:
    logits, ids = torch.randn(3, 5, 20), torch.randint(20, (3, 5))
    for kept in (logits, logits[:, :-1]):  # the last token is only a target
        for ignored in (set(), {(0, 1), (2, 4), (1, 3)}):
            targets, total, count = ids.clone(), 0.0, 0
            for row, column in ignored:
                targets[row, column] = -100
            for b in range(3):
                for t in range(4):
                    if (b, t + 1) not in ignored:
                        odds = logits[b, t].softmax(-1)
                        total -= math.log(odds[ids[b, t + 1]])
                        count += 1
            loss = next_token_loss(kept, targets).item()
            assert_close(loss, total / count, rtol=1e-5, atol=0)


def test_a_model_that_copies_the_next_token_has_no_loss() -> None:
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    copy_next = nn.functional.one_hot(ids.roll(-1, 1), 20) * 1e4
    assert next_token_loss(copy_next, ids) == 0
    assert next_token_loss(nn.functional.one_hot(ids, 20) * 1e4, ids) > 1000


def test_batches_begin_everywhere_or_at_the_starts() -> None:
    tokens = torch.arange(30, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    batch = get_batch(tokens, 2000, 6, generator)
    assert batch.dtype == torch.int64 and set(batch[:, 0].tolist()) == set(range(25))
    assert_close(batch[:, 1:], batch[:, :-1] + 1)
    starts = torch.tensor([0, 7, 24, 25, 29])  # the last two hold no window
    batch = get_batch(tokens, 200, 6, generator, starts)
    assert set(batch[:, 0].tolist()) == {0, 7, 24}


def test_the_rate_climbs_falls_and_stays() -> None:
    rates = [learning_rate(step, 110, 2.0, 10, 0.5) for step in range(130)]
    assert_close(rates[:10], [0.2 * (i + 1) for i in range(10)])
    assert_close([rates[10], rates[60], rates[110]], [2.0, 1.25, 0.5])
    assert rates[110:] == [0.5] * 20
    assert all(a > b for a, b in zip(rates[10:110], rates[11:111], strict=True))
    straight = [learning_rate(step, 110, 2.0, 10, 0.5, "linear") for step in range(130)]
    assert straight[:11] == rates[:11]
    assert_close([straight[i] for i in (35, 60, 110, 129)], [1.625, 1.25, 0.5, 0.5])


def test_matrices_decay_vectors_do_not() -> None:
    model = tiny()
    matrices, vectors = make_optimizer(model, 0.1, weight_decay=0.5).param_groups
    assert {p.dim() for p in matrices["params"]} == {2}
    assert {p.dim() for p in vectors["params"]} == {1}
    counted = sum(len(group["params"]) for group in (matrices, vectors))
    assert counted == len(list(model.parameters()))
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0.0)
    assert matrices["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("shape", [(5, 16, 16), (3, 8, 40), (2, 40, 8)])
def test_orthogonalize_keeps_directions_and_levels_stretches(
    shape: tuple[int, ...],
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ orthogonalize(matrices) @ v.mT  # diagonal in its frame
    stretches = inside.diagonal(dim1=-2, dim2=-1)
    assert_close(inside, torch.diag_embed(stretches), rtol=0, atol=1e-4)
    assert 0.3 < stretches.min() and stretches.max() < 1.3


def test_muon_against_a_slow_reference() -> None:
    """Three steps, each parameter alone, with the formulas written out."""
    model, reference = tiny(), tiny()
    optimizer = Muon(model, 0.1, weight_decay=0.2)
    means = {n: torch.zeros_like(p) for n, p in reference.named_parameters()}
    squares = {n: torch.zeros_like(p) for n, p in reference.named_parameters()}
    for step in range(1, 4):
        ids = torch.randint(20, (4, 8), generator=torch.Generator().manual_seed(step))
        for m in (model, reference):
            m.zero_grad()
            next_token_loss(m(ids), ids).backward()
        optimizer.step()
        with torch.no_grad():
            for name, p in reference.named_parameters():
                g = p.grad
                if name.startswith("blocks") and p.dim() == 2:
                    means[name] = 0.95 * means[name] + 0.05 * g
                    blend = 0.05 * g + 0.95 * means[name]
                    move = orthogonalize(blend[None])[0]
                    rate = 0.1 * max(1.0, p.size(0) / p.size(1)) ** 0.5
                    p.copy_(p - 0.1 * 0.2 * p - rate * move)
                else:
                    means[name] = 0.9 * means[name] + 0.1 * g
                    squares[name] = 0.95 * squares[name] + 0.05 * g * g
                    mean = means[name] / (1 - 0.9**step)
                    square = squares[name] / (1 - 0.95**step)
                    p.copy_(p - 0.025 * mean / (square.sqrt() + 1e-8))
        for (name, p), q in zip(
            model.named_parameters(), reference.parameters(), strict=True
        ):
            assert_close(p, q, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_muon_moves_matrices_as_that_of_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's computes in bfloat16; with that in float32 the two are the same."""
    monkeypatch.setattr(Tensor, "bfloat16", lambda self: self.clone())
    ours, theirs = tiny(), tiny()
    matrices = [p for p in theirs.blocks.parameters() if p.dim() == 2]
    assert {p.size(0) > p.size(1) for p in matrices} == {True, False}
    optimizers = Muon(ours, 0.05, 0.2, 0.9), torch.optim.Muon(matrices, 0.05, 0.2, 0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    inside = [p for p in ours.blocks.parameters() if p.dim() == 2]
    for p, q in zip(inside, matrices, strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_two_half_batches_make_the_step_of_the_whole() -> None:
    ids = torch.randint(20, (8, 8))
    whole, halves = tiny(), tiny()
    one = train_step(whole, make_optimizer(whole, 0.1), [ids])
    two = train_step(halves, make_optimizer(halves, 0.1), ids.chunk(2))
    assert_close(one, two)
    for p, q in zip(whole.parameters(), halves.parameters(), strict=True):
        assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_clipping_is_over_all_parameters_and_before_the_step() -> None:
    model, ids = tiny(), torch.randint(20, (4, 8))
    before = [p.detach().clone() for p in model.parameters()]
    train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), [ids], max_norm=0.01)
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]
    )
    assert_close(moved.norm().item(), 0.01, rtol=1e-3, atol=0)


def test_a_nan_loss_stops_before_the_weights_are_touched() -> None:
    model, ids = tiny(), torch.randint(20, (4, 8))
    model.ln_final.bias.data[0] = float("nan")
    before = {n: p.clone() for n, p in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train_step(model, make_optimizer(model, 0.1), [ids])
    for name, p in model.state_dict().items():
        assert_close(p, before[name], rtol=0, atol=0, equal_nan=True)


def test_evaluate_is_the_mean_without_dropout() -> None:
    model, windows = tiny(dropout=0.5), torch.randint(20, (7, 8))
    mean = evaluate(model, windows, batch_size=3)
    assert model.training
    model.eval()
    with torch.no_grad():
        losses = [next_token_loss(model(w[None]), w[None]).item() for w in windows]
    assert_close(mean, sum(losses) / 7)


def test_training_learns_and_repeats_itself() -> None:
    tokens = torch.arange(20, dtype=torch.uint8).repeat(20)  # 0, 1, ..., 19, 0, ...
    settings = TrainSettings(
        steps=150,
        seq_length=9,
        batch_size=8,
        max_lr=0.02,
        optimizer="muon",
        warmup_steps=5,
    )
    losses = train(tiny(), tokens, settings)
    assert abs(losses[0] - math.log(20)) < 0.3 and losses[-1] < 0.2
    assert train(tiny(), tokens, settings) == losses


def test_the_ignored_id_can_be_another() -> None:
    logits = torch.randn(2, 5, 20)
    ids = torch.tensor([[1, 7, 2, 3, 7], [7, 4, 5, 6, 7]])
    expected = next_token_loss(logits, ids.where(ids != 7, -100))
    assert torch.equal(next_token_loss(logits, ids, ignore_index=7), expected)


def test_a_step_begins_with_no_gradient_and_in_training_mode() -> None:
    model, ids = tiny().eval(), torch.randint(20, (4, 8))
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients = []
    for _ in range(2):
        train_step(model, still, [ids], max_norm=1e9)
        gradients.append(model.pos_emb.weight.grad.clone())
    assert model.training and torch.equal(*gradients)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_train_sets_rates_starts_and_parts(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, first = [], []

    def spy(
        model: GPT2Model,
        optimizer: torch.optim.Optimizer,
        batches: list[Tensor],
        *_: object,
    ) -> float:
        rates.append([group["lr"] for group in optimizer.param_groups])
        first.extend(batch[:, 0].tolist() for batch in batches)
        return 1.0

    monkeypatch.setattr(training, "train_step", spy)
    settings = TrainSettings(
        steps=4,
        seq_length=4,
        batch_size=5,
        accumulation=3,
        max_lr=1.0,
        warmup_steps=2,
        optimizer=optimizer,
    )
    train(tiny(), torch.arange(20), settings, starts=torch.tensor([2, 9]))
    assert rates == [[0.5] * 2, [1.0] * 2, [1.0] * 2, [0.5] * 2]
    assert len(first) == 12 and {t for row in first for t in row} == {2, 9}


def test_the_seed_decides_the_dropout() -> None:
    settings, tokens = TrainSettings(steps=3, seq_length=8), torch.arange(20).repeat(5)
    once = train(tiny(0.5), tokens, settings)
    model = tiny(0.5)
    torch.rand(7)  # other draws in between
    assert train(model, tokens, settings) == once


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_what_has_no_gradient_stays(optimizer: str) -> None:
    """Frozen or unused parameters neither move nor decay, under either optimizer."""
    model, ids = tiny(), torch.randint(20, (4, 8))
    model.unused = nn.Linear(3, 3)
    model.blocks[0].unused = nn.Linear(3, 3)
    still = {name for name, _ in model.named_parameters() if "unused" in name}
    still |= {"tok_emb.weight", "blocks.1.mlp.up_proj.weight", "blocks.0.ln_mlp.bias"}
    for name in still:
        model.get_parameter(name).requires_grad_("unused" in name)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    kind = make_optimizer if optimizer == "adamw" else Muon
    train_step(model, kind(model, 0.1, weight_decay=0.5), [ids])
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == before.keys() - still


def test_numbers_may_be_numpys_or_0d_tensors() -> None:
    plain = TrainSettings(steps=3, seq_length=8, max_lr=0.5, seed=2**64 - 1)
    odd = TrainSettings(
        steps=np.int64(3),
        seq_length=torch.tensor(8),
        max_lr=np.float32(0.5),
        weight_decay=np.float64(0.1),
        warmup_steps=np.uint8(20),
        seed=np.uint64(2**64 - 1),
    )
    assert odd == plain and json.dumps(asdict(odd)) == json.dumps(asdict(plain))
    tokens = torch.arange(20).repeat(5)
    batch = get_batch(tokens, np.int32(2), torch.tensor(6))
    assert batch.shape == (2, 6)
    rate = learning_rate(np.int64(3), np.int64(9), np.float32(0.5), torch.tensor(2))
    assert type(rate) is float
    assert_close(rate, learning_rate(3, 9, 0.5, 2))
    assert evaluate(tiny(), batch, np.int64(1)) > 0
    rates = np.float32(0.25), torch.tensor(0.5)
    for optimizer in (make_optimizer(tiny(), *rates), Muon(tiny(), *rates)):
        assert optimizer.param_groups[0]["lr"] == 0.25


TEXT, LOGITS = torch.arange(20).repeat(5), torch.zeros(2, 4, 20)
IDS = torch.zeros(2, 4, dtype=torch.long)
NAN = float("nan")


def rate(**changes: object) -> Callable:
    return lambda: learning_rate(**({"step": 1, "steps": 9, "max_lr": 0.1} | changes))


def chosen(**changes: object) -> Callable:
    return lambda: TrainSettings(**({"steps": 9, "seq_length": 8} | changes))


def step(*arguments: object, **more: object) -> Callable:
    return lambda: train_step(tiny(), make_optimizer(tiny(), 0.1), *arguments, **more)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: next_token_loss(LOGITS * NAN, IDS),
            FloatingPointError,
            "the loss is nan",
        ),
        (
            lambda: next_token_loss(LOGITS, IDS.float()),
            TypeError,
            "input_ids is torch.flo",
        ),
        (
            lambda: next_token_loss(LOGITS.long(), IDS),
            TypeError,
            "logits is torch.int64",
        ),
        (
            lambda: next_token_loss(LOGITS[0], IDS[0]),
            ValueError,
            r"logits has the shape",
        ),
        (lambda: next_token_loss(LOGITS, IDS, ignore_index=None), TypeError, "ignore_"),
        (lambda: next_token_loss(LOGITS.tolist(), IDS), TypeError, "logits is of type"),
        (lambda: get_batch(TEXT.float(), 2, 6), TypeError, "tokens is torch.float32"),
        (lambda: get_batch(TEXT > 3, 2, 6), TypeError, "tokens is torch.bool"),
        (lambda: get_batch(TEXT.tolist(), 2, 6), TypeError, "tokens is of type list"),
        (lambda: get_batch(TEXT[None], 2, 6), ValueError, "tokens has the shape"),
        (lambda: get_batch(TEXT, 2.5, 6), TypeError, "batch_size is 2.5"),
        (lambda: get_batch(TEXT, 2, 6, starts=TEXT > 3), TypeError, "starts is torch"),
        (
            lambda: get_batch(TEXT, 2, 6, starts=TEXT.float()),
            TypeError,
            "starts is torch",
        ),
        (rate(decay="exponential"), ValueError, "decay is 'exponential'"),
        (rate(min_lr=1.0), ValueError, "min_lr is 1.0, expected at most max_lr"),
        (rate(step=-1), ValueError, "step is -1"),
        (rate(steps=0), ValueError, "steps is 0"),
        (rate(max_lr=NAN), ValueError, "max_lr is nan"),
        (rate(warmup_steps=-3), ValueError, "warmup_steps is -3"),
        (rate(warmup_steps="10"), TypeError, "warmup_steps is '10'"),
        (
            chosen(min_lr=1.0),
            ValueError,
            "min_lr is 1.0, expected at most max_lr, 0.001",
        ),
        (chosen(seed=2**70), ValueError, "seed is 11805"),
        (chosen(seed=-1), ValueError, "seed is -1"),
        (chosen(steps=True), TypeError, "steps is True"),
        (chosen(momentum=1.0), ValueError, "momentum is 1.0"),
        (chosen(decay=None), ValueError, "decay is None"),
        (chosen(max_lr="0.1"), TypeError, "max_lr is '0.1'"),
        (lambda: make_optimizer(tiny(), NAN), ValueError, "max_lr is nan"),
        (lambda: make_optimizer(tiny(), math.inf), ValueError, "max_lr is inf"),
        (lambda: make_optimizer(tiny(), 0.1, -1), ValueError, "weight_decay is -1"),
        (
            lambda: make_optimizer(nn.Identity(), 0.1),
            TypeError,
            "a model with parameters",
        ),
        (lambda: make_optimizer("model", 0.1), TypeError, "model is 'model'"),
        (lambda: Muon(tiny(), 0.1, momentum=1.5), ValueError, "momentum is 1.5"),
        (
            lambda: Muon(tiny(), 0.1, adam_lr_scale=-1),
            ValueError,
            "adam_lr_scale is -1",
        ),
        (lambda: Muon(nn.Linear(2, 2), 0.1), TypeError, "Linear, expected a GPT2Model"),
        (lambda: orthogonalize(torch.ones(3)), ValueError, r"shape \(3,\)"),
        (lambda: orthogonalize(torch.ones(1, 2, 3).int()), TypeError, "torch.int32"),
        (step([]), ValueError, "batches is empty"),
        (step(IDS), TypeError, r"a single one is \[batch\]"),
        (step([IDS.float()]), TypeError, "a batch is torch.float32"),
        (step([IDS], precision="fp16"), ValueError, "precision is 'fp16'"),
        (step([IDS], max_norm=NAN), ValueError, "max_norm is nan"),
        (step([IDS], max_norm=-1), ValueError, "max_norm is -1"),
        (
            lambda: evaluate(tiny(), IDS[:0]),
            ValueError,
            r"windows has the shape \(0, 4\)",
        ),
        (lambda: evaluate(tiny(), IDS.float()), TypeError, "windows is torch.float32"),
        (lambda: evaluate(tiny(), IDS, 0), ValueError, "batch_size is 0"),
        (lambda: evaluate(lambda ids: LOGITS, IDS), TypeError, "expected a model"),
        (
            lambda: train(tiny(), TEXT.float(), chosen()()),
            TypeError,
            "tokens is torch.fl",
        ),
        (
            lambda: train(tiny(), TEXT, {"steps": 3}),
            TypeError,
            "expected a TrainSettings",
        ),
        (lambda: train("model", TEXT, chosen()()), TypeError, "model is 'model'"),
    ],
)
def test_training_refuses(call: Callable, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
