"""Lesson 13: counts equal PyTorch's own, and int8 stays near the model it came from."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config, GPT2Model
from gpt2_lesson.speed import (
    Int8Linear,
    count_bytes,
    count_flops,
    int8_product,
    matrix_weights,
    quantize_int8,
    quantize_rows,
    roofline,
    time_calls,
)
from gpt2_lesson.training import next_token_loss

ODD = GPT2Config(37, 24, 3, 2, 40, 100, 0.0)  # d_ff is not 4C


def fresh(config: GPT2Config = ODD) -> GPT2Model:
    torch.manual_seed(0)
    return GPT2Model(**asdict(config)).eval()


class TestCounts:
    @pytest.mark.parametrize("seq_length", [1, 7, 40])
    def test_operations_are_those_that_pytorch_counts(self, seq_length: int) -> None:
        """Of attention too, if its products are plain ones."""
        model, ids = fresh(), torch.zeros(1, seq_length, dtype=torch.long)
        with (
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            model(ids)
        assert count_flops(ODD, seq_length) == counter.get_total_flops()

    def test_gpt2_small_by_hand(self) -> None:
        small = GPT2_SIZES["gpt2"]
        assert count_flops(small, 1024) == 291_648_307_200
        assert count_bytes(small, 0) == 494_128_128
        cache = count_bytes(small, 1024, cache_bytes=2) - count_bytes(small, 0)
        assert cache == 37_748_736

    def test_bytes_are_those_of_the_tensors(self) -> None:
        """Of every matrix but the positions, and of the caches of three texts."""
        model = fresh()
        cache = model.new_cache(3, 17)
        matrices = [p for n, p in model.named_parameters() if p.dim() == 2]
        read = sum(p.nbytes for p in matrices) - model.pos_emb.weight.nbytes
        assert count_bytes(ODD, 0) == read == 4 * matrix_weights(ODD)
        total = read + cache.keys.nbytes + cache.values.nbytes
        assert count_bytes(ODD, 17, batch_size=3) == total

    def test_the_roof_has_a_ridge(self) -> None:
        assert roofline(100, 1, 10, 5) == 10 and roofline(1, 100, 10, 5) == 20
        assert roofline(20, 10, 10, 5) == 2  # 2 operations a byte: both take as long


def test_calls_take_turns_after_one_that_does_not_count() -> None:
    order, now = [], iter(range(100))
    clock = {"a": iter([50, 1, 9, 2]), "b": iter([60, 4, 5, 30])}
    spent = [0.0]

    def call(name: str) -> None:
        order.append(name)
        spent[0] += next(clock[name])

    calls = {name: lambda name=name: call(name) for name in clock}
    assert time_calls(calls, rounds=3, clock=lambda: spent[0]) == {"a": 2, "b": 5}
    assert order == ["a", "b"] * 4 and next(now) == 0


class TestQuantizeRows:
    @pytest.mark.parametrize("bits", [8, 4, 2])
    def test_no_weight_is_wrong_by_more_than_half_a_scale(self, bits: int) -> None:
        weight = torch.randn(5, 64) * torch.tensor([1e-6, 0.02, 1, 30, 1e6])[:, None]
        integers, scale = quantize_rows(weight, bits)
        assert integers.dtype == torch.int8 and scale.shape == (5, 1)
        assert (integers.abs().amax(1) == 2 ** (bits - 1) - 1).all()
        assert ((integers * scale - weight).abs() <= 0.5001 * scale).all()

    def test_a_row_of_zeros_stays_one(self) -> None:
        integers, scale = quantize_rows(torch.zeros(2, 3))
        assert not integers.any() and scale.isfinite().all()


class TestInt8:
    def test_the_product_is_that_of_the_integers(self) -> None:
        """In any number of axes, also of sizes that the kernel doesn't take."""
        for shape in ((32,), (3, 32), (2, 5, 32), (3, 24), (2, 33), (40, 7)):
            weight = torch.randint(-127, 128, (70, shape[-1]), dtype=torch.int8)
            x = torch.randn(shape)
            expected = F.linear(x, weight.float())
            assert_close(int8_product(x, weight), expected, rtol=0.01, atol=6.0)
            elsewhere = x.to("meta"), weight.to("meta")
            assert int8_product(*elsewhere).shape == expected.shape

    def test_a_layer_is_its_dequantised_one(self) -> None:
        weight, bias = torch.randn(48, 32), torch.randn(48)
        layer, x = Int8Linear(weight.T.contiguous().T, bias), torch.randn(4, 32)
        dequantised = layer.weight * layer.scale
        assert_close(layer(x), F.linear(x, dequantised, bias), rtol=0.01, atol=0.1)
        ids = torch.tensor([[3, 3, 47]])
        assert_close(layer.rows(ids), F.embedding(ids, dequantised))

    def test_no_matrix_is_left_and_the_model_is_as_it_was(self) -> None:
        model = fresh().train()
        before = {n: p.clone() for n, p in model.state_dict().items()}
        quantized = quantize_int8(model)
        matrices = {n: p for n, p in quantized.state_dict().items() if p.dim() == 2}
        floats = [n for n, p in matrices.items() if p.dtype != torch.int8]
        assert {n for n in floats if not n.endswith("scale")} == {"pos_emb.weight"}
        stored = sum(p.nbytes for p in matrices.values() if p.dtype == torch.int8)
        assert stored == count_bytes(ODD, 0, weight_bytes=1)
        assert model.training and not quantized.training
        for name, values in model.state_dict().items():
            assert torch.equal(values, before[name])
        assert not any(p.requires_grad for p in quantized.parameters())
        assert quantized(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 37)

    def test_with_and_without_a_cache_it_says_the_same(self) -> None:
        quantized, ids = quantize_int8(story_model()), torch.randint(97, 123, (2, 20))
        cache = quantized.new_cache(2, 20)
        with torch.no_grad():
            steps = [quantized(ids[:, i : i + 1], cache=cache) for i in range(20)]
            assert_close(torch.cat(steps, 1), quantized(ids), rtol=0.05, atol=0.5)

    def test_the_story_model_loses_next_to_nothing(self) -> None:
        model = story_model()
        quantized = quantize_int8(model)
        lines = [f"\n{line}" for line in stories(60, seed=13).splitlines()]
        ids = torch.tensor([list(s.encode())[:150] for s in lines if len(s) > 150])
        with torch.no_grad():
            exact, found = model(ids), quantized(ids)
        rise = next_token_loss(found, ids) - next_token_loss(exact, ids)
        assert abs(rise) < 0.002
        top = exact.softmax(-1).topk(2).values
        sure = top[..., 0] - top[..., 1] > 0.1
        same = found.argmax(-1) == exact.argmax(-1)
        assert same.float().mean() > 0.95 and same[sure].float().mean() > 0.999
        text = bytes(generate(quantized, ids[:1, :40], 60, temperature=0.5)[0].tolist())
        assert text.isascii()

    def test_what_does_not_fit_is_refused_as_by_the_model(self) -> None:
        quantized = quantize_int8(fresh())
        with pytest.raises(IndexError, match="token id 37"):
            quantized(torch.tensor([[37]]))
        with pytest.raises(ValueError, match="max_seq_length is 40"):
            quantized(torch.zeros(1, 41, dtype=torch.long))
