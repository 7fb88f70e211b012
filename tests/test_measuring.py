"""Surprise, token by token, against slow references; then the numbers made of it."""

import math
import random
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn as nn
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.measuring import (
    bits_per_byte,
    bootstrap_interval,
    choice_row,
    nats_of,
    perplexity,
    score_choices,
    token_nll,
)
from gpt2_lesson.real_gpt2 import save_gpt2
from gpt2_lesson.tokenizer import Tokenizer

Model = Callable[[Tensor], Tensor]
LETTERS = Tokenizer()  # every byte is a token
PAIRS = Tokenizer.train("the\ntree\nthe\n théâtre\nthe\n日本\n" * 9, 270, special=())


def close(result: Tensor, wanted: Tensor) -> None:
    """Compare up to what float32 can tell, the type of all that is measured."""
    assert_close(result.double(), wanted.double(), rtol=1e-5, atol=2e-5)


def lively_model(
    vocab_size: int = 11, window: int = 8, dropout: float = 0.1
) -> GPT2Model:
    """Return a small model to which every token before and its place matter."""
    torch.manual_seed(0)
    model = GPT2Model(vocab_size, 16, 2, 2, window, 32, dropout).eval().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def adding_model(window: int | None = None, vocab_size: int = 11) -> Model:
    """Return a callable to which every token before and its place matter."""
    table = 2 * torch.randn(101, vocab_size, generator=torch.Generator().manual_seed(1))

    def model(ids: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert window is None or ids.size(1) <= window
        places = torch.arange(1, ids.size(1) + 1)
        return table[((ids + 1) * places).cumsum(1) % 101]

    if window is not None:
        model.max_seq_length = window
    return model


def uniform(vocab_size: int) -> Model:
    return lambda ids: torch.zeros(*ids.shape, vocab_size)


def knowing(ids: Sequence[int], odds: Sequence[float], vocab_size: int = 256) -> Model:
    """Return a reader who gives each of `ids` but the first just these odds."""
    odds = torch.tensor(odds, dtype=torch.float64)[:, None]
    logits = ((1 - odds) / (vocab_size - 1)).log().repeat(1, vocab_size)
    logits.scatter_(1, torch.tensor(ids[1:])[:, None], odds.log())
    return lambda _: logits[None] + 3  # logits need not be logarithms of odds


def random_ids(count: int, vocab_size: int = 11) -> Tensor:
    resamples = torch.Generator().manual_seed(count)
    return torch.randint(vocab_size, (count,), generator=resamples)


@torch.no_grad()
def nll_of(model: Model, before: Tensor, token: Tensor) -> Tensor:
    """Return -ln P of one token after these, asked for alone."""
    return -model(before[None])[0, -1].double().log_softmax(-1)[token]


def slow_token_nll(
    model: Model, ids: Tensor, window: int | None, stride: int
) -> Tensor:
    """Return -ln P token by token; the window moves on when a token is beyond it."""
    last = len(ids) - 1
    window = last if window is None else min(window, last)
    end, result = window, []
    for position in range(1, len(ids)):
        if position > end:
            end = min(end + stride, last)
        result.append(nll_of(model, ids[end - window : position], ids[position]))
    return torch.stack(result)


# Windows


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Draw the length of a text, a window, a stride and a batch size."""
    count, window = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    stride = draw(st.integers(1, min(window, count - 1)))
    return count, window, stride, draw(st.integers(1, 9))


@settings(max_examples=300, deadline=None)
@given(cuts())
def test_token_nll_equal_the_slow_reference(cut: tuple[int, int, int, int]) -> None:
    count, window, stride, batch_size = cut
    ids, model = random_ids(count), adding_model(window)
    nats = token_nll(model, ids, stride, batch_size)
    with torch.no_grad():
        close(nats, slow_token_nll(model, ids, window, stride))


LIVELY = lively_model()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(1, 8), st.integers(1, 9))
def test_token_nll_of_a_gpt2_equal_the_slow_reference(
    count: int, stride: int, batch_size: int
) -> None:
    ids, stride = random_ids(count), min(stride, count - 1)
    nats = token_nll(LIVELY, ids, stride, batch_size)
    close(nats, slow_token_nll(LIVELY, ids, 8, stride))


@pytest.mark.parametrize("count", [2, 3, 8, 9, 10, 16, 17, 18, 25])
def test_by_default_windows_are_laid_end_to_end(count: int) -> None:
    ids = random_ids(count)
    close(token_nll(LIVELY, ids), slow_token_nll(LIVELY, ids, 8, min(4, count - 1)))


@pytest.mark.parametrize("count", [2, 5, 30, 1100])
def test_a_model_without_a_window_sees_the_whole_text(count: int) -> None:
    ids, model = random_ids(count), adding_model()
    wanted = [nll_of(model, ids[:end], ids[end]) for end in range(1, count)]
    for stride in (None, 1, count - 1):
        close(token_nll(model, ids, stride), torch.stack(wanted))


def test_with_a_stride_of_one_each_token_has_all_the_context_that_fits() -> None:
    ids = random_ids(30)
    wanted = [
        nll_of(LIVELY, ids[max(0, position - 8) : position], ids[position])
        for position in range(1, 30)
    ]
    close(token_nll(LIVELY, ids, stride=1), torch.stack(wanted))


@pytest.mark.parametrize(
    "stride, contexts",
    [
        (8, "12345678 12345678 345678"),  # the last window moves back to be full
        (5, "12345678 45678 45678 5678"),
        (3, "12345678 678 678 678 678 78"),
        (1, "12345678 8 8 8 8 8 8 8 8 8 8 8 8 8 8"),
    ],
)
def test_the_context_of_each_token_worked_by_hand(stride: int, contexts: str) -> None:
    def model(ids: Tensor) -> Tensor:  # of 10 tokens; P(0) says how many it sees
        assert ids.size(1) == 8
        logits = torch.zeros(*ids.shape, 10)
        logits[..., 0] = torch.arange(1.0, 9.0)
        return logits

    model.max_seq_length = 8
    nats = token_nll(model, [0] * 23, stride)
    seen = (9 / (nats.exp() - 1)).log().round().int().tolist()
    assert seen == [int(digit) for digit in contexts.replace(" ", "")]


@pytest.mark.parametrize("count", [2, 8, 9, 10, 40])
@pytest.mark.parametrize("stride", [None, 1])
def test_each_token_counts_once_and_the_result_is_plain(
    count: int, stride: int | None
) -> None:
    ids = random_ids(count)
    kept = ids.clone()
    nats = token_nll(LIVELY, ids, stride)
    assert nats.shape == (count - 1,) and not nats.requires_grad
    assert nats.isfinite().all() and nats.min() > 0
    assert torch.equal(ids, kept)
    by_token = token_nll(uniform(11), ids)
    assert by_token.sum().item() == pytest.approx((count - 1) * math.log(11), rel=1e-5)


@pytest.mark.parametrize("stride", [None, 1, 3])
def test_the_batch_size_changes_nothing_but_the_batches(stride: int | None) -> None:
    ids, rows = random_ids(50), []

    def model(batch: Tensor) -> Tensor:
        rows.append(len(batch))
        return LIVELY(batch)

    model.max_seq_length = 8
    wanted, windows = token_nll(model, ids, stride, 1), len(rows)
    for batch_size in (2, 7, 16, 1000):
        rows.clear()
        close(token_nll(model, ids, stride, batch_size), wanted)
        assert sum(rows) == windows and max(rows) == min(batch_size, windows)
    rows.clear()
    token_nll(model, ids, 1)
    assert max(rows) == 16 and len(rows) == 3  # 42 windows, by default 16 at a time


def test_lists_and_all_kinds_of_whole_numbers_are_read() -> None:
    ids = random_ids(20)
    wanted = token_nll(LIVELY, ids)
    for same in (ids.tolist(), tuple(ids.tolist()), ids.int(), ids.byte(), ids.numpy()):
        assert torch.equal(token_nll(LIVELY, same), wanted)


def test_nats_are_those_of_each_token_after_the_first() -> None:
    windows = random_ids(15).view(3, 5)
    with torch.no_grad():
        nats = nats_of(LIVELY, windows)
    wanted = [
        [nll_of(LIVELY, row[:end], row[end]) for end in range(1, 5)] for row in windows
    ]
    close(nats, torch.tensor(wanted))


def test_windows_go_to_where_the_model_is() -> None:
    nats = nats_of(lively_model().to("meta"), random_ids(15).view(3, 5))
    assert nats.device.type == "meta" and nats.shape == (3, 4)


def test_half_precision_is_widened_before_the_logarithm() -> None:
    logits = torch.randn(1, 9, 50).bfloat16()
    ids = random_ids(10, 50)
    wanted = -logits[0].double().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    close(token_nll(lambda _: logits, ids), wanted)


def test_no_token_is_so_unlikely_that_its_nll_is_infinite() -> None:
    nats = token_nll(lambda ids: nn.functional.one_hot(ids * 0, 5) * 500.0, [0, 1, 0])
    assert nats.tolist() == [500, 0]


# Modes


MEASURES: dict[str, Callable[[nn.Module], object]] = {
    "token_nll": lambda model: token_nll(model, list(b"the tree"), 3).tolist(),
    "perplexity": lambda model: perplexity(model, LETTERS, "the tree"),
    "bits_per_byte": lambda model: bits_per_byte(model, LETTERS, "the tree"),
    "score_choices": lambda model: [
        part.tolist() for part in score_choices(model, LETTERS, [("a", ["b", "cd"])])
    ],
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_dropout_is_off_and_every_module_is_put_back(
    measure: Callable[[nn.Module], object],
) -> None:
    model = lively_model(256, dropout=0.5)
    wanted = measure(model)
    assert not any(module.training for module in model.modules())
    model.train()
    model.blocks[1].eval()
    modes, grads = [module.training for module in model.modules()], []
    model.ln_final.register_forward_hook(
        lambda *_: grads.append(torch.is_grad_enabled())
    )
    assert measure(model) == wanted
    assert grads and not any(grads) and torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes


def test_modes_are_put_back_after_an_error_too() -> None:
    model = lively_model().train()
    with pytest.raises(IndexError):
        token_nll(model, [1, 2, 99, 3])
    with pytest.raises(IndexError):
        score_choices(model, LETTERS, [("a", ["b"])])
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


# Perplexity and bits per byte


def test_halves_quarters_and_eighths_make_a_perplexity_of_four() -> None:
    model = knowing(list(b"abcd"), [1 / 2, 1 / 4, 1 / 8])
    assert perplexity(model, LETTERS, "abcd") == pytest.approx(4)  # and not 4.67
    assert bits_per_byte(model, LETTERS, "abcd") == pytest.approx(2)


@pytest.mark.parametrize("vocab_size", [256, 300, 5000])
def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_tokens(
    vocab_size: int,
) -> None:
    for text in ("ab", "the théâtre" * 30):
        result = perplexity(uniform(vocab_size), LETTERS, text)
        assert result == pytest.approx(vocab_size, rel=1e-4)
        bits = bits_per_byte(uniform(vocab_size), LETTERS, text)
        assert bits == pytest.approx(math.log2(vocab_size), rel=1e-5)


def test_one_number_is_e_to_the_mean_and_the_other_the_bits_of_the_sum() -> None:
    model, text = lively_model(270, window=9), "the three trees of the théâtre 日本"
    ids = PAIRS.encode(text)
    for stride, batch_size in ((None, 16), (2, 3), (9, 1)):
        nats = token_nll(model, ids, stride, batch_size).double()
        result = perplexity(model, PAIRS, text, stride, batch_size)
        assert result == pytest.approx(nats.mean().exp().item(), rel=1e-4)
        size = len(text.encode()) - len(PAIRS.decode_bytes(ids[:1]))
        bits = bits_per_byte(model, PAIRS, text, stride, batch_size)
        assert bits == pytest.approx(nats.sum().item() / math.log(2) / size, rel=1e-5)
    assert len(ids) < len(text) < len(text.encode())


@pytest.mark.parametrize("measure", [perplexity, bits_per_byte])
def test_stride_and_batch_size_are_passed_on(measure: Callable[..., float]) -> None:
    rows, inner, text = [], lively_model(256), "a text that is longer"

    def model(ids: Tensor) -> Tensor:
        rows.append(len(ids))
        return inner(ids)

    model.max_seq_length = 8
    by_stride = [measure(model, LETTERS, text, stride) for stride in (None, 8, 1)]
    assert len(set(by_stride)) == 3
    rows.clear()
    measure(model, LETTERS, text, stride=1, batch_size=5)
    assert rows == [5, 5, 3]


def test_perplexity_equals_the_loss_of_transformers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, model = tmp_path_factory.mktemp("tiny"), lively_model(256, 40).float()
    save_gpt2(model, folder)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    for count in (2, 17, 40):  # with labels, theirs sees the last token too: 40
        text = "The tree, the tree, and the longest text"[:count]
        ids = torch.tensor([LETTERS.encode(text)])
        with torch.no_grad():
            loss = theirs(ids, labels=ids).loss.item()
        result = perplexity(model, LETTERS, text)
        assert math.log(result) == pytest.approx(loss, rel=1e-5)


def test_a_byte_costs_eight_bits_when_nothing_is_known() -> None:
    for text in ("ab", "é", "日本", "the théâtre\n" * 40):
        result = bits_per_byte(uniform(256), LETTERS, text)
        assert result == pytest.approx(8, rel=1e-6)


@pytest.mark.parametrize(
    "tokenizer, text, size",
    [
        (LETTERS, "ab", 1),
        (LETTERS, "aé", 2),
        (LETTERS, "é", 1),
        (LETTERS, "a日", 3),
        (PAIRS, "the tree", 5),
        (PAIRS, "日本", 3),
        (PAIRS, "a日本", 6),
    ],
)
def test_bits_are_spread_over_the_bytes_behind_the_first_token(
    tokenizer: Tokenizer, text: str, size: int
) -> None:
    ids = tokenizer.encode(text)
    model = knowing(ids, [1 / 4] * (len(ids) - 1), 270)
    wanted = 2 * (len(ids) - 1) / size
    assert bits_per_byte(model, tokenizer, text) == pytest.approx(wanted, rel=1e-6)


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    text = "\n" + "the tree, the théâtre, the 日本 " * 3
    resamples = random.Random(0)
    odds = [resamples.uniform(0.3, 0.99) for _ in text.encode()[1:]]
    wanted = -sum(map(math.log2, odds)) / len(odds)
    perplexities = set()
    for vocab_size in (256, 262, 268, 275):
        tokenizer = Tokenizer.train(text, vocab_size, special=())
        ids = tokenizer.encode(text)
        assert tokenizer.decode_bytes(ids[:1]) == b"\n"
        left, joined = iter(odds), []  # a token has the odds of all its bytes
        for token in ids[1:]:
            size = len(tokenizer.decode_bytes([token]))
            joined.append(math.prod(next(left) for _ in range(size)))
        model = knowing(ids, joined, vocab_size)
        bits = bits_per_byte(model, tokenizer, text)
        assert bits == pytest.approx(wanted, rel=1e-5)
        perplexities.add(round(perplexity(model, tokenizer, text), 2))
    assert len(perplexities) == 4


def test_names_of_special_tokens_are_read_as_letters() -> None:
    tokenizer = Tokenizer.train("the tree " * 9, 260)
    text = "<|endoftext|>"
    assert tokenizer.encode(text, special="token") == [259]
    for measure, wanted in ((perplexity, 260), (bits_per_byte, math.log2(260))):
        result = measure(uniform(260), tokenizer, text)
        assert result == pytest.approx(wanted, rel=1e-5)
    check_choices(lively_model(260, 30), tokenizer, [(text, [text])], 32)


@pytest.mark.parametrize("measure", [perplexity, bits_per_byte])
@pytest.mark.parametrize("text, tokens", [("", 0), ("a", 1), ("the", 1)])
def test_a_text_with_nothing_to_predict_is_refused(
    measure: Callable[..., float], text: str, tokens: int
) -> None:
    with pytest.raises(ValueError, match=rf"shape \({tokens},\), .*2 tokens or more"):
        measure(uniform(270), PAIRS, text)


@pytest.mark.parametrize(
    "ids, shape",
    [
        ([], r"\(0,\)"),
        ([3], r"\(1,\)"),
        (3, r"\(\)"),
        ([[1, 2, 3]], r"\(1, 3\)"),
        (torch.ones(3, 1), r"\(3, 1\)"),
    ],
)
def test_ids_that_are_no_text_are_refused(ids: object, shape: str) -> None:
    with pytest.raises(ValueError, match=f"shape {shape}" + r", expected \(N,\)"):
        token_nll(LIVELY, ids)


@pytest.mark.parametrize("stride", [0, -1, -8, 9, 100])
def test_strides_that_leave_tokens_out_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride is {stride}, expected 1 to 8"):
        token_nll(LIVELY, random_ids(40), stride)
    with pytest.raises(ValueError, match=f"stride is {stride}, expected 1 to 8"):
        perplexity(lively_model(256), LETTERS, "a longer text than that", stride)


@pytest.mark.parametrize("token", [11, 999, -1])
@pytest.mark.parametrize("position", [0, 1, 7, 8, 9, -2, -1])
def test_ids_out_of_range_are_refused_wherever_they_stand(
    token: int, position: int
) -> None:
    ids = random_ids(20)
    ids[position] = token
    with pytest.raises(IndexError, match=str(token)):
        token_nll(LIVELY, ids)


# Choices

Questions = Sequence[tuple[str, Sequence[str]]]


def slow_score(
    model: Model, tokenizer: Tokenizer, window: int | None, context: str, choice: str
) -> Tensor:
    """Return the nats of one choice, token by token and without filling."""
    before, after = (tokenizer.encode(text, "text") for text in (context, choice))
    ids, count = torch.tensor(before + after), len(after)
    first = 0 if window is None else max(0, len(ids) - 1 - window)
    return sum(
        nll_of(model, ids[first:position], ids[position])
        for position in range(len(ids) - count, len(ids))
    )


def check_choices(
    model: Model, tokenizer: Tokenizer, questions: Questions, batch_size: int
) -> None:
    """Compare with one choice at a time, per byte and as a whole."""
    window = getattr(model, "max_seq_length", None)
    whole = score_choices(model, tokenizer, questions, False, batch_size)
    per_byte = score_choices(model, tokenizer, questions, True, batch_size)
    assert len(whole) == len(per_byte) == len(questions)
    for (context, choices), scores, shares in zip(
        questions, whole, per_byte, strict=True
    ):
        wanted = torch.stack(
            [
                slow_score(model, tokenizer, window, context, choice)
                for choice in choices
            ]
        )
        sizes = torch.tensor([len(choice.encode()) for choice in choices])
        close(scores, wanted)
        close(shares, wanted / sizes)
        assert not scores.requires_grad


def texts(longest: int) -> st.SearchStrategy[str]:
    words = st.sampled_from(["the", " the", " tree", "é", "日", " ", "t", "\0", "\n"])
    lists = st.lists(words, min_size=1, max_size=longest)
    return lists.map("".join)


sets = st.lists(
    st.tuples(texts(12), st.lists(texts(3), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)
NARROW, WIDE = lively_model(270, 16), lively_model(270, 90)


@settings(max_examples=40, deadline=None)
@given(
    sets,
    st.sampled_from([1, 2, 7, 32]),
    st.sampled_from([NARROW, WIDE]),
    st.sampled_from([LETTERS, PAIRS]),
)
def test_scores_equal_those_of_one_choice_at_a_time(
    questions: Questions, batch_size: int, model: GPT2Model, tokenizer: Tokenizer
) -> None:
    with torch.no_grad():
        check_choices(model, tokenizer, questions, batch_size)


@settings(max_examples=60, deadline=None)
@given(sets, st.sampled_from([1, 7, 32]), st.sampled_from([None, 15, 20]))
def test_plain_callables_with_and_without_a_window_score_alike(
    questions: Questions, batch_size: int, window: int | None
) -> None:
    model = adding_model(window, 270)
    with torch.no_grad():
        check_choices(model, LETTERS, questions, batch_size)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_many_questions_with_one_or_many_choices_keep_their_order(
    batch_size: int,
) -> None:
    resamples = random.Random(0)

    def text(longest: int) -> str:
        return "".join(resamples.choices("the é日", k=resamples.randint(1, longest)))

    questions = [
        (text(30), [text(5) for _ in range(resamples.randint(1, 5))]) for _ in range(30)
    ]
    check_choices(NARROW, LETTERS, questions, batch_size)
    assert score_choices(NARROW, LETTERS, []) == []


@pytest.mark.parametrize("length", [7, 8, 9, 10, 30])
@pytest.mark.parametrize("choice", ["a", "abc", "abcdefgh"])
def test_texts_around_the_length_of_the_window(length: int, choice: str) -> None:
    model = lively_model(256, 8)
    context = "the longest text of all of them"[: max(1, length - len(choice))]
    check_choices(model, LETTERS, [(context, [choice])], 32)
    cut = context[len(choice) - 9 :]  # what the model can still see
    questions = [(text, [choice]) for text in (context, cut)]
    (whole,), (seen,) = score_choices(model, LETTERS, questions)
    close(whole, seen)


def test_a_model_without_a_window_sees_the_whole_context() -> None:
    questions = [("a beginning" * 200, ["b", "cd"])]
    check_choices(adding_model(vocab_size=256), LETTERS, questions, 32)


@pytest.mark.parametrize("likely", [50.0, 5.0, -50.0])
def test_filling_does_not_matter_likely_or_not(likely: float) -> None:
    inner = adding_model(vocab_size=256)

    def model(ids: Tensor) -> Tensor:
        logits = inner(ids)
        logits[..., 0] += likely
        return logits

    questions = [
        ("a", ["b", "a much longer ending than that", "two"]),
        ("a longer beginning", ["x"]),
    ]
    for per_byte in (False, True):
        together = score_choices(model, LETTERS, questions, per_byte)
        for (context, choices), scores in zip(questions, together, strict=True):
            alone = [
                score_choices(model, LETTERS, [(context, [choice])], per_byte)[0]
                for choice in choices
            ]
            close(scores, torch.cat(alone))


def test_batches_are_no_larger_than_asked_for() -> None:
    rows: list[int] = []

    def model(ids: Tensor) -> Tensor:
        rows.append(len(ids))
        return torch.zeros(*ids.shape, 256)

    questions = [("a", ["b", "c", "d"]), ("e", ["f"])] * 9
    score_choices(model, LETTERS, questions, batch_size=7)
    score_choices(model, LETTERS, questions)
    assert rows == [7, 7, 7, 7, 7, 1, 32, 4]


@pytest.mark.parametrize(
    "tokenizer, choice, tokens, size",
    [
        (LETTERS, "b", 1, 1),
        (LETTERS, "é", 2, 2),
        (LETTERS, "a 日", 5, 5),
        (PAIRS, "the", 1, 3),
        (PAIRS, "日", 1, 3),
        (PAIRS, " 日本", 3, 7),
    ],
)
def test_per_byte_divides_by_bytes_not_by_tokens_or_letters(
    tokenizer: Tokenizer, choice: str, tokens: int, size: int
) -> None:
    assert len(tokenizer.encode(choice)) == tokens
    questions, nats = [("a", [choice])], tokens * math.log(270)
    for per_byte, wanted in (([], nats / size), ([True], nats / size), ([False], nats)):
        [score] = score_choices(uniform(270), tokenizer, questions, *per_byte)
        assert score.item() == pytest.approx(wanted, rel=1e-5)


def test_a_long_ending_wins_only_per_byte() -> None:
    odds = torch.full((256,), 0.5 / 253)
    odds[torch.tensor([ord("a"), ord("b"), ord("c")])] = torch.tensor([0.1, 0.2, 0.2])
    questions = [("x", ["a", "bcb"])]
    reader = odds.log()[None, None]

    def model(ids: Tensor) -> Tensor:
        return reader.expand(*ids.shape, -1)

    [whole] = score_choices(model, LETTERS, questions, per_byte=False)
    [share] = score_choices(model, LETTERS, questions, per_byte=True)
    close(whole, torch.tensor([0.1, 0.008]).log().neg())
    close(share, torch.tensor([0.1, 0.2]).log().neg())
    assert whole.argmin() == 0 and share.argmin() == 1


@pytest.mark.parametrize("context, choice", [("", "a"), ("a", ""), ("", "")])
def test_an_empty_context_or_choice_is_refused(context: str, choice: str) -> None:
    wanted = f"context '{context}' or the choice '{choice}' is empty"
    with pytest.raises(ValueError, match=wanted):
        score_choices(uniform(256), LETTERS, [("fine", ["too"]), (context, [choice])])


def test_a_choice_longer_than_the_window_is_refused() -> None:
    model = lively_model(256, 8)
    score_choices(model, LETTERS, [("a context", ["12345678"])])
    with pytest.raises(ValueError, match="'123456789' has 9 tokens, .* sees 8"):
        score_choices(model, LETTERS, [("a", ["1", "123456789"])])
    with pytest.raises(ValueError, match="'日本語' has 9 tokens"):
        score_choices(model, LETTERS, [("a", ["日本語"])])


@pytest.mark.parametrize(
    "limit, ids",
    [
        (None, b"abcdefg"),
        (7, b"abcdefg"),
        (6, b"abcdefg"),
        (5, b"bcdefg"),
        (3, b"defg"),
    ],
)
def test_a_row_keeps_its_end(limit: int | None, ids: bytes) -> None:
    row, count = choice_row(LETTERS, "abcd", "efg", limit)
    assert row.tolist() == list(ids) and count == 3


# Intervals


def noise(count: int, seed: int = 0) -> Tensor:
    resamples = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=resamples, dtype=torch.float64)


@pytest.mark.parametrize("value", [0.0, -3.0, 0.1, 1e9])
@pytest.mark.parametrize("count", [2, 77])
def test_the_interval_of_a_constant_has_no_width(value: float, count: int) -> None:
    low, high = bootstrap_interval(torch.full((count,), value, dtype=torch.float64))
    assert low == pytest.approx(value) == high
    assert high - low <= 1e-12 * abs(value)


@pytest.mark.parametrize(
    "level, deviations",
    [
        (0.5, 0.674),
        (0.6827, 1.0),
        (0.95, 1.96),
        (0.99, 2.576),
    ],
)
def test_both_edges_are_where_the_normal_curve_says(
    level: float, deviations: float
) -> None:
    values = noise(400) + 5
    spread = values.std(correction=0).item() / 20
    low, high = bootstrap_interval(values, resamples=20_000, level=level)
    off = 0.06 * spread
    assert low == pytest.approx(values.mean().item() - deviations * spread, abs=off)
    assert high == pytest.approx(values.mean().item() + deviations * spread, abs=off)


def test_by_default_the_level_is_95_percent_of_2000_resamples() -> None:
    values = noise(50)
    assert bootstrap_interval(values) == bootstrap_interval(values, 2000, 0.95, 0)
    assert bootstrap_interval(values) != bootstrap_interval(values, 1999)


def test_all_means_of_two_values_occur_as_often_as_they_should() -> None:
    values = torch.tensor([0.0, 1.0])  # drawn twice: 0, 1/2, 1/2, 1
    for level, edges in ((0.4, (0.5, 0.5)), (0.6, (0.0, 1.0))):
        assert bootstrap_interval(values, 20_000, level) == edges


def test_a_single_draw_is_one_mean_of_values_drawn_with_repetition() -> None:
    values = 2.0 ** torch.arange(10)
    seen = set()
    for seed in range(20):
        low, high = bootstrap_interval(values, resamples=1, seed=seed)
        assert low == high and (low * 10).is_integer()  # ten values, no more no less
        seen.add(low)
    assert len(seen) == 20


def test_the_order_of_the_values_hardly_matters() -> None:
    values = noise(200).exp()
    low, high = bootstrap_interval(values, 8000)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    for other in (values.sort().values, values.flip(0), values[order]):
        edges = bootstrap_interval(other, 8000)
        assert edges == pytest.approx((low, high), abs=0.06 * (high - low))


def test_the_same_seed_makes_the_same_interval_and_disturbs_no_other() -> None:
    values = noise(50)
    kept, state = values.clone(), torch.get_rng_state()
    first = bootstrap_interval(values, seed=7)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(values, kept)
    torch.manual_seed(12345)
    assert bootstrap_interval(values, seed=7) == first
    assert len({bootstrap_interval(values, seed=seed) for seed in range(5)}) == 5


def test_scaled_and_moved_values_have_a_scaled_and_moved_interval() -> None:
    values = noise(60)
    low, high = bootstrap_interval(values)
    edges = bootstrap_interval(3 * values + 2)
    assert edges == pytest.approx((3 * low + 2, 3 * high + 2))
    assert bootstrap_interval(-values) == pytest.approx((-high, -low), abs=0.05)


def test_four_times_the_values_halve_the_interval() -> None:
    widths = []
    for count in (25, 100, 400, 1600):
        several = [bootstrap_interval(noise(count, seed), 1000) for seed in range(20)]
        widths.append(sum(high - low for low, high in several) / 20)
    for wide, narrow in zip(widths, widths[1:], strict=False):
        assert narrow / wide == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("chance", [0.5, 0.3])
def test_intervals_of_300_coins_hold_the_truth_about_as_often_as_said(
    chance: float,
) -> None:
    resamples = torch.Generator().manual_seed(11)
    coins = (torch.rand(300, 100, generator=resamples) < chance).double()
    intervals = [bootstrap_interval(row, resamples=400) for row in coins]
    above = sum(chance < low for low, _ in intervals)
    below = sum(high < chance for _, high in intervals)
    assert 0.9 <= 1 - (above + below) / 300 <= 0.99
    assert above and below


def test_lists_whole_numbers_and_truths_are_values_too() -> None:
    wanted = bootstrap_interval(torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]))
    truths = torch.tensor([False, True, True, False, True])
    for same in (truths, truths.int(), truths.half(), truths.tolist()):
        assert bootstrap_interval(same) == wanted


@pytest.mark.parametrize(
    "values, shape",
    [
        ([], "(0,)"),
        ([1.0], "(1,)"),
        (1.0, "()"),
        ([[1.0, 2.0]], "(1, 2)"),
        ([1.0, math.nan], "(2,)"),
        ([1.0, math.inf], "(2,)"),
        ([-math.inf, 0, 1], "(3,)"),
    ],
)
def test_values_without_an_interval_are_refused(values: object, shape: str) -> None:
    with pytest.raises(ValueError, match="two or more finite numbers") as caught:
        bootstrap_interval(torch.tensor(values))
    assert f"shape {shape}, expected (N,)" in str(caught.value)


@pytest.mark.parametrize(
    "setting, wanted",
    [
        ({"level": 0.0}, "level is 0.0"),
        ({"level": 1.0}, "level is 1.0"),
        ({"level": 95}, "level is 95"),
        ({"level": -0.5}, "level is -0.5"),
        ({"level": math.nan}, "level is nan"),
        ({"resamples": 0}, "resamples is 0"),
        ({"resamples": -3}, "resamples is -3"),
    ],
)
def test_levels_and_resamples_that_cannot_be_meant_are_refused(
    setting: dict, wanted: str
) -> None:
    with pytest.raises(ValueError, match=f"{wanted}, expected"):
        bootstrap_interval(noise(5), **setting)


def test_a_model_without_numbers_is_noticed() -> None:
    nothing = lambda ids: torch.full((*ids.shape, 9), torch.nan)  # noqa: E731
    with pytest.raises(FloatingPointError, match="NaN"):
        token_nll(nothing, [1, 2, 3])


@pytest.mark.parametrize(
    "ids, error, words",
    [
        ([1, 2, -100], IndexError, "-100"),
        ([1.5, 2.5], TypeError, "whole numbers"),
        ([True, False], TypeError, "whole numbers"),
    ],
)
def test_what_are_no_ids_is_refused(ids: list, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        token_nll(lambda ids: torch.zeros(*ids.shape, 9), ids)


@pytest.mark.parametrize(
    "questions, error, words",
    [
        ([("a", "bcd")], TypeError, "expected a list"),
        ([("a", ["b"]), ("a", [])], ValueError, "question 1 has no choices"),
    ],
)
def test_what_is_no_choice_is_refused(questions: list, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        score_choices(lambda ids: torch.zeros(*ids.shape, 256), Tokenizer(), questions)


def test_one_stride_does_for_long_and_for_short_texts() -> None:
    model = lambda ids: torch.zeros(*ids.shape, 9)  # noqa: E731
    model.max_seq_length = 8
    for count in (2, 5, 9, 30):
        nats = token_nll(model, list(range(2)) * count, stride=8)
        assert_close(nats, torch.full((2 * count - 1,), math.log(9)))
