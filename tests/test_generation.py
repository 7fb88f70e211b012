"""Odds exactly, by a slow reference in plain numbers; then the loop of `generate`."""

import math

import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from gpt2_lesson.generation import evaluating, generate, next_probabilities, sample_next
from gpt2_lesson.gpt2_model import GPT2Model


def slow_odds(
    logits: list[float], temperature: float, k: int | None, p: float | None
) -> list[float]:
    """Return the odds of one row, one rule at a time."""
    if temperature == 0:
        return [float(i == logits.index(max(logits))) for i in range(len(logits))]
    powers = [math.exp((x - max(logits)) / temperature) for x in logits]
    if k is not None:
        least = sorted(logits, reverse=True)[min(k, len(logits)) - 1]
        powers = [w if x >= least else 0.0 for w, x in zip(powers, logits, strict=True)]
    odds = [w / sum(powers) for w in powers]
    if p is None:
        return odds
    kept, held = set(), 0.0
    for i in sorted(range(len(odds)), key=lambda i: -odds[i]):  # stable: ties by place
        if held < p:
            kept.add(i)
        held += odds[i]
    return [
        x / sum(odds[j] for j in kept) if i in kept else 0.0 for i, x in enumerate(odds)
    ]


quarters = st.integers(-20, 20).map(lambda n: n / 4)  # with many ties
shares = st.integers(1, 100).map(lambda n: n / 100 - 0.0013)  # never just on a sum


@settings(max_examples=300, deadline=None)
@given(
    st.lists(quarters, min_size=1, max_size=9),
    st.sampled_from([0, 0.3, 1.0, 2.5]),
    st.none() | st.integers(1, 12),
    st.none() | shares,
)
def test_odds_equal_the_slow_reference(
    logits: list[float], temperature: float, k: int | None, p: float | None
) -> None:
    odds = next_probabilities(torch.tensor(logits).double(), temperature, k, p)
    wanted = torch.tensor(slow_odds(logits, temperature, k, p), dtype=torch.float64)
    if p is None:
        assert_close(odds, wanted)
    else:  # a tie at the cut may fall either way by rounding
        assert_close(odds.sort().values, wanted.sort().values)


def test_worked_numbers_of_nine_words() -> None:
    odds = torch.tensor([32, 16, 16, 8, 4, 2, 1, 1, 0.25])
    logits = odds.log() - 50  # all negative
    assert_close(next_probabilities(logits), odds / 80.25)
    assert_close(
        next_probabilities(logits, top_k=2)[:4], torch.tensor([0.5, 0.25, 0.25, 0])
    )
    assert_close(
        next_probabilities(logits, top_p=0.5)[:3], torch.tensor([2 / 3, 1 / 3, 0])
    )
    assert_close(next_probabilities(logits, 0.5), odds**2 / (odds**2).sum())
    rows = next_probabilities(torch.stack([logits, logits.flip(0)]), top_k=2)
    assert_close(rows[1], rows[0].flip(0))  # each row has its own cut


def test_draws_have_the_odds_and_forbidden_tokens_never_come() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf]).expand(40_000, -1)
    drawn = sample_next(logits, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount(drawn[:, 0], minlength=4) / 40_000
    assert drawn.shape == (40_000, 1) and seen[3] == 0
    assert_close(seen, logits[0].softmax(-1), rtol=0, atol=0.01)


def count_up(ids: torch.Tensor) -> torch.Tensor:
    """After i comes i + 1, of ten tokens."""
    return nn.functional.one_hot((ids + 1) % 10, 10) * 50.0


def test_generate_appends_row_by_row() -> None:
    prompt = torch.tensor([[1, 2], [7, 8]])
    seen: list[torch.Tensor] = []
    text = generate(count_up, prompt, 3, on_token=seen.append)
    assert text.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 1]]
    assert torch.equal(torch.cat(seen, 1), text[:, 2:])
    assert prompt.tolist() == [[1, 2], [7, 8]]


@pytest.mark.parametrize("length", [1, 5, 8, 11])
def test_beyond_the_window_it_sees_the_last_tokens(length: int) -> None:
    torch.manual_seed(length)
    model = GPT2Model(30, 16, 2, 2, 8, 32).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    ids = prompt = torch.randint(30, (2, length))
    for _ in range(12):  # slow: no cache, crop by hand
        logits = model(ids[:, -8:])[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(generate(model, prompt, 12, temperature=0), ids)


def test_modes_are_put_back_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2), nn.Dropout(0.5))
    model[2].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.ones(1, 2)).requires_grad
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": 0.3},
        {"top_k": 2},
        {"top_p": 0.5},
    ],
)
def test_generate_passes_every_setting_on(setting: dict) -> None:
    table = torch.randn(30, 30, generator=torch.Generator().manual_seed(0))
    ids = prompt = torch.tensor([[3], [4]])
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        drawn = sample_next(table[ids[:, -1]], generator=generator, **setting)
        ids = torch.cat([ids, drawn], 1)
    again = torch.Generator().manual_seed(1)
    text = generate(lambda ids: table[ids], prompt, 20, generator=again, **setting)
    assert torch.equal(text, ids)


def test_top_p_stops_exactly_at_the_sum_and_ties_go_by_place() -> None:
    odds = next_probabilities(torch.zeros(64), top_p=0.25)
    assert odds.tolist() == [1 / 16] * 16 + [0] * 48


def test_float16_never_draws_what_top_k_removed() -> None:
    """PyTorch itself draws tokens of probability 0 from float16 (pytorch#192812)."""
    logits = torch.randn(1, 50_257, generator=torch.Generator().manual_seed(0)).half()
    removed = next_probabilities(logits, top_k=50)[0] == 0
    drawn = sample_next(
        logits.expand(1_000, -1), top_k=50, generator=torch.Generator().manual_seed(0)
    )
    assert next_probabilities(logits).dtype == torch.float32
    assert removed.sum() > 50_000 and not removed[drawn].any()


@pytest.mark.parametrize(
    "stop, wanted",
    [
        (4, [[1, 2, 3, 4, 4, 4], [7, 8, 9, 0, 1, 2]]),  # the first row waits
        ([9, 4], [[1, 2, 3, 4], [7, 8, 9, 9]]),  # each ends with its own
        (
            torch.tensor(2),
            [[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 1, 2]],
        ),  # not in the prompt
        (None, [[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 1, 2]]),
    ],
)
def test_a_row_that_has_stopped_repeats_its_end(
    stop: object, wanted: list[list[int]]
) -> None:
    seen: list[torch.Tensor] = []
    prompt = torch.tensor([[1, 2], [7, 8]])
    text = generate(count_up, prompt, 4, 0, stop=stop, on_token=seen.append)
    assert text.tolist() == wanted
    assert torch.equal(torch.cat(seen, 1), text[:, 2:])


def test_a_stopped_row_does_not_disturb_the_others() -> None:
    torch.manual_seed(0)
    model = GPT2Model(30, 16, 2, 2, 8, 32).eval()
    prompt = torch.randint(30, (3, 2))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    free = generate(model, prompt, 20, generator=generators[0])
    stop = free[0, 4].item()
    text = model.generate(prompt, 20, generator=generators[1], stop=stop)
    for row, same in zip(text, free, strict=True):
        ends = (same[2:] == stop).nonzero()
        end = 2 + int(ends[0]) if len(ends) else len(same)
        assert torch.equal(row[: end + 1], same[: end + 1])
        assert (row[end:] == stop).all()
