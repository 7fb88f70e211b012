"""What a learner can get wrong: the message says what came and what was expected."""

from collections.abc import Callable
from dataclasses import asdict

import bad_calls
import pytest
import torch

from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask, influence
from gpt2_lesson.generation import generate, sample_next
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model
from gpt2_lesson.multi_head import KVCache, MultiHeadAttention, split_heads
from gpt2_lesson.training import TrainSettings, get_batch, next_token_loss, train

CONFIG = GPT2Config(97, 16, 2, 1, 8, 32, 0.0)
IDS = torch.zeros(1, 4, dtype=torch.long)
LOGITS = torch.zeros(1, 97)


def model() -> GPT2Model:
    torch.manual_seed(0)
    return GPT2Model(**asdict(CONFIG))


def with_nan() -> GPT2Model:
    broken = model()
    broken.blocks[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    return broken


def config(**changes: object) -> Callable:
    return lambda: GPT2Config(**(asdict(CONFIG) | changes))


def sample(*settings: object, **named: object) -> Callable:
    return lambda: sample_next(LOGITS, *settings, **named)


def write(ids: object = IDS, count: object = 2, **settings: object) -> Callable:
    return lambda: generate(model(), ids, count, **settings)


def read(ids: object) -> Callable:
    return lambda: model()(ids)


def settings(**changes: object) -> Callable:
    return lambda: TrainSettings(**({"steps": 3, "seq_length": 8} | changes))


T, Z = torch.tensor, torch.zeros
TABLE = [
    # token ids
    ("id = V", read(T([[5, 97]])), IndexError, ["97", "row 0, position 1", "0 to 96"]),
    ("id = -1", read(T([[-1]])), IndexError, ["-1", "0 to 96"]),
    ("too long", read(IDS.repeat(1, 3)), ValueError, ["12 tokens", "_length is 8"]),
    ("float ids", read(IDS.float()), TypeError, ["float32", ".long()"]),
    ("uint8 ids", read(IDS.byte()), TypeError, ["uint8", ".long()"]),
    ("bool ids", read(IDS.bool()), TypeError, ["bool", ".long()"]),
    ("0-D ids", read(T(3)), ValueError, ["()", "(B, T)"]),
    ("1-D ids", read(T([3])), ValueError, ["(1,)", "(B, T)", "input_ids[None]"]),
    ("3-D ids", read(IDS[None]), ValueError, ["(1, 1, 4)", "(B, T)"]),
    ("no rows", read(IDS[:0]), ValueError, ["(0, 4)", "at least one"]),
    ("no tokens", read(IDS[:, :0]), ValueError, ["(1, 0)", "at least one"]),
    ("list", read([[1, 2]]), TypeError, ["list", "tensor"]),
    ("string", read("The cat"), TypeError, ["str", "encode"]),
    ("None", read(None), TypeError, ["NoneType", "tensor"]),
    ("other device", read(IDS.to("meta")), ValueError, ["meta", "cpu"]),
    # configuration
    ("heads", config(num_heads=3), ValueError, ["16", "3", "multiple"]),
    ("0 heads", config(num_heads=0), ValueError, ["num_heads is 0"]),
    ("-1 layers", config(num_layers=-1), ValueError, ["num_layers is -1"]),
    ("no vocabulary", config(vocab_size=0), ValueError, ["vocab_size is 0"]),
    ("dropout", config(dropout=1.5), ValueError, ["dropout is 1.5", "0"]),
    ("dropout 1", config(dropout=1.0), ValueError, ["dropout is 1.0"]),
    ("dropout text", config(dropout="x"), TypeError, ["dropout is 'x'"]),
    ("float width", config(d_model=16.0), TypeError, ["d_model is 16.0"]),
    ("bool layers", config(num_layers=True), TypeError, ["num_layers is True"]),
    ("misspelt", config(n_heads=2), TypeError, ["n_heads"]),
    ("attention heads", lambda: MultiHeadAttention(10, 4), ValueError, ["10", "4"]),
    ("split", lambda: split_heads(torch.zeros(1, 2, 10), 4), ValueError, ["10", "4"]),
    # sampling
    ("T = -1", sample(-1.0), ValueError, ["temperature is -1.0", "expected 0"]),
    ("T = nan", sample(float("nan")), ValueError, ["temperature is nan"]),
    ("T = inf", sample(float("inf")), ValueError, ["temperature is inf"]),
    ("T = 1e-40", sample(1e-40), ValueError, ["temperature is 1e-40", "0.00001"]),
    ("T = '1'", sample("1"), TypeError, ["temperature is '1'", "number"]),
    ("T = True", sample(True), TypeError, ["temperature is True"]),
    ("k = 0", sample(1.0, 0), ValueError, ["top_k is 0", "1 or more"]),
    ("k = -5", sample(1.0, -5), ValueError, ["top_k is -5"]),
    ("k = 2.5", sample(1.0, 2.5), TypeError, ["top_k is 2.5", "whole"]),
    ("p = 0", sample(top_p=0), ValueError, ["top_p is 0", "more than 0"]),
    ("p = 1.5", sample(top_p=1.5), ValueError, ["top_p is 1.5", "at most 1"]),
    ("p = -1", sample(top_p=-1), ValueError, ["top_p is -1"]),
    (
        "NaN logits",
        lambda: sample_next(LOGITS * float("nan")),
        FloatingPointError,
        ["not finite"],
    ),
    (
        "all -inf",
        lambda: sample_next(LOGITS - torch.inf),
        FloatingPointError,
        ["not finite"],
    ),
    # generation
    ("-1 new", write(count=-1), ValueError, ["max_new_tokens is -1", "0 or more"]),
    ("2.5 new", write(count=2.5), TypeError, ["max_new_tokens is 2.5", "whole"]),
    ("empty prompt", write(IDS[:, :0]), ValueError, ["(1, 0)", "at least one"]),
    ("text prompt", write("The"), TypeError, ["str", "encode"]),
    ("k before any work", write(top_k=0), ValueError, ["top_k is 0"]),
    (
        "NaN weight",
        lambda: generate(with_nan(), IDS, 1),
        FloatingPointError,
        ["not finite", "blocks.0.mlp.up_proj.weight"],
    ),
    # attention, mask and cache
    (
        "q and k",
        lambda: attention(Z(5, 4), Z(7, 8), Z(7, 3)),
        ValueError,
        ["(5, 4)", "(7, 8)", "same last size"],
    ),
    (
        "k and v",
        lambda: attention(Z(5, 4), Z(7, 4), Z(6, 3)),
        ValueError,
        ["(6, 3)", "same number of tokens"],
    ),
    (
        "float mask",
        lambda: attention(*Z(3, 2, 2), Z(2, 2)),
        TypeError,
        ["float32", "torch.bool"],
    ),
    ("more queries", lambda: causal_mask(3, 2), ValueError, ["3 queries for 2 keys"]),
    ("no queries", lambda: causal_mask(0), ValueError, ["num_queries is 0"]),
    (
        "cache full",
        lambda: KVCache(1, 1, 1, 2, 4).append(0, *Z(2, 1, 1, 3, 4)),
        ValueError,
        ["0 of at most 2", "3 more"],
    ),
    ("one sequence", lambda: influence(model(), IDS), ValueError, ["(1, 4)", "two"]),
    # training
    (
        "loss shapes",
        lambda: next_token_loss(Z(1, 2, 9), IDS),
        ValueError,
        ["(1, 2, 9)", "(1, 4)", "expected"],
    ),
    (
        "all ignored",
        lambda: next_token_loss(Z(1, 4, 9), IDS - 100),
        ValueError,
        ["no target tokens"],
    ),
    (
        "one token",
        lambda: next_token_loss(Z(1, 1, 9), IDS[:, :1]),
        ValueError,
        ["no target tokens"],
    ),
    (
        "short text",
        lambda: get_batch(torch.arange(5), 2, 6),
        ValueError,
        ["5 tokens", "window of 6"],
    ),
    (
        "no start fits",
        lambda: get_batch(torch.arange(9), 2, 6, starts=T([5])),
        ValueError,
        ["9 tokens", "window of 6"],
    ),
    (
        "no batch",
        lambda: get_batch(torch.arange(9), 0, 6),
        ValueError,
        ["batch_size is 0"],
    ),
    (
        "negative start",
        lambda: get_batch(T([1] * 9), 1, 6, starts=T([-3])),
        ValueError,
        ["starts holds -3"],
    ),
    ("text to train", lambda: train(model(), "abc", settings()()), TypeError, ["str"]),
    (
        "mask shape",
        lambda: attention(*Z(3, 2, 2), Z(3, 2).bool()),
        ValueError,
        ["(3, 2)", "Tq = 2 and Tk = 2"],
    ),
    (
        "cache batch",
        lambda: KVCache(1, 1, 1, 2, 4).append(0, *Z(2, 3, 1, 1, 4)),
        ValueError,
        ["3 sequences", "1"],
    ),
    ("0 steps", settings(steps=0), ValueError, ["steps is 0, expected 1 or more"]),
    ("float batch", settings(batch_size=2.0), TypeError, ["batch_size is 2.0"]),
    ("rate", settings(max_lr=-1.0), ValueError, ["max_lr is -1.0"]),
    ("NaN rate", settings(max_lr=float("nan")), ValueError, ["max_lr is nan"]),
    ("window of 1", settings(seq_length=1), ValueError, ["seq_length is 1", "2"]),
    ("optimizer", settings(optimizer="sgd"), ValueError, ["'sgd'", "adamw"]),
    ("precision", settings(precision="fp8"), ValueError, ["'fp8'", "float32"]),
    (
        "lost loss",
        lambda: train(with_nan(), Z(40).byte(), settings()()),
        FloatingPointError,
        ["the loss is nan", "smaller learning rate"],
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_bad_input_is_told(call: Callable, kind: type, words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    said = str(caught.value)
    assert all(word in said for word in words), said


def test_what_is_unusual_but_right() -> None:
    """int32 ids, a top_k above V, temperature 0 and no new tokens are all accepted."""
    assert torch.equal(model().eval()(IDS.int()), model().eval()(IDS))
    assert sample_next(LOGITS, top_k=10**6).shape == (1, 1)
    assert generate(model(), IDS, 3, temperature=0).shape == (1, 7)
    assert torch.equal(generate(model(), IDS, 0), IDS)
    assert generate(model(), IDS.repeat(1, 3), 2).shape == (1, 14)  # past its end


@pytest.mark.parametrize("door", bad_calls.DOORS, ids=lambda door: door.name)
def test_no_bad_call_is_accepted_or_ends_in_a_raw_error(door: bad_calls.Door) -> None:
    assert bad_calls.outcome(lambda: door.function(**door.good))[0] == "silent"
    results = bad_calls.tried([door])
    assert {kind for kind, _ in results.values()} == {"clear"}, results


def test_the_table_of_bad_calls_is_long_and_complete() -> None:
    """Every function that a lesson exports has a door."""
    calls = [name for door in bad_calls.DOORS for name, _ in door.calls()]
    assert len(calls) >= 2300
    doors = {door.name.split(",")[0] for door in bad_calls.DOORS}
    doors |= {name.split(".")[0] for name in doors}  # Tokenizer.encode
    assert bad_calls.public() - doors == set()
