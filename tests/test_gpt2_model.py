"""GPT2Model equals transformers' GPT-2, and a comparison that notices every mistake."""

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import transformers
from torch import Tensor
from torch.testing import assert_close

from gpt2_lesson import feed_forward, gpt2_model, multi_head
from gpt2_lesson.causal_masking import influence
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config, GPT2Model
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock
from gpt2_lesson.training import next_token_loss

TINY = GPT2Config(97, d_model=32, num_heads=4, num_layers=3, max_seq_length=40, d_ff=80)
NAMES = {
    "blocks": "h",
    "tok_emb": "wte",
    "pos_emb": "wpe",
    "ln_final": "ln_f",
    "ln_attn": "ln_1",
    "ln_mlp": "ln_2",
    "qkv_proj": "c_attn",
    "out_proj": "c_proj",
    "up_proj": "c_fc",
    "down_proj": "c_proj",
}


def to_hf_name(name: str) -> str:
    return "transformer." + ".".join(NAMES.get(part, part) for part in name.split("."))


def transposed(name: str, values: Tensor) -> Tensor:
    """Return the values as they have them: linear layers the other way round."""
    return values.T if name.endswith("proj.weight") else values


def hot_model(config: GPT2Config = TINY, positions: float = 30.0) -> GPT2Model:
    """Return a model whose every weight and bias is large enough to be noticed.

    Loud `positions` keep greedy text lively; with quiet ones the first stream is small
    enough to feel a wrong eps.
    """
    torch.manual_seed(0)
    model = GPT2Model(**asdict(config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name or name.endswith("bias"):
                parameter.normal_(float("ln_" in name and "weight" in name), 0.3)
            else:
                loud = {"tok_emb": 3, "pos_emb": positions}
                spread = loud.get(name.split(".")[0], 2.5)
                parameter.normal_(std=spread / math.sqrt(parameter.size(1)))
    return model


def their_model(model: GPT2Model) -> transformers.GPT2LMHeadModel:
    """Return transformers' GPT-2, with copies of the weights of `model`."""
    config = model.config
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_embd=config.d_model,
            n_head=config.num_heads,
            n_layer=config.num_layers,
            n_positions=config.max_seq_length,
            n_inner=config.d_ff,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    copies = {to_hf_name(n): transposed(n, p) for n, p in model.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(copies, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    return theirs.eval().to(model.tok_emb.weight.dtype)


def random_ids(*shape: int, config: GPT2Config = TINY, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, shape, generator=generator)


def gap(ours: GPT2Model, theirs: nn.Module, ids: Tensor) -> float:
    """Return by how much the logits differ at most."""
    with torch.no_grad():
        return (ours(ids) - theirs(ids).logits).abs().max().item()


def their_greedy(theirs: nn.Module, ids: Tensor, count: int) -> Tensor:
    return theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )


# The same numbers as transformers' GPT-2


@pytest.mark.parametrize(
    "dtype, logits_off, gradients_off",
    [
        (torch.float32, 1e-4, 1e-5),
        (torch.float64, 1e-10, 1e-9),
    ],
)
@pytest.mark.parametrize("shape", [(3, 40), (1, 1)], ids=str)
def test_logits_and_gradients_equal_those_of_transformers(
    shape: tuple[int, int], dtype: torch.dtype, logits_off: float, gradients_off: float
) -> None:
    ours, ids = hot_model().to(dtype), random_ids(*shape)
    theirs = their_model(ours)
    logits, expected = ours(ids), theirs(ids).logits
    assert logits.dtype == dtype and 7 < expected.abs().max() < 40
    assert_close(logits, expected, atol=logits_off, rtol=0)
    for result in (logits, expected):
        result.log_softmax(-1)[..., 5].mean().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient = transposed(name, parameter.grad)
        off = (gradient - gradients[to_hf_name(name)]).norm() / gradient.norm()
        assert off < gradients_off or gradient.norm() < 1e-12, name


def test_greedy_text_of_200_prompts_is_the_same_cached_and_not() -> None:
    ours = hot_model().double()
    theirs = their_model(ours)
    for length in range(1, 11):
        prompts = random_ids(20, length, seed=length)
        cached = generate(ours, prompts, 25, temperature=0)
        plain = generate(lambda ids: ours(ids), prompts, 25, temperature=0)
        assert torch.equal(cached, plain)
        assert torch.equal(cached, their_greedy(theirs, prompts, 25))
        assert all(len(set(row)) >= 8 for row in cached[:, length:].tolist())


def test_the_small_gpt2_equals_that_of_transformers() -> None:
    config = GPT2_SIZES["gpt2"]
    ours, ids = hot_model(config), random_ids(1, 24, config=config)
    theirs = their_model(ours)
    assert gap(ours, theirs, ids) < 1e-4
    text = generate(ours, ids, 12, temperature=0)
    plain = generate(lambda ids: ours(ids), ids, 12, temperature=0)
    assert torch.equal(text, their_greedy(theirs, ids, 12)) and torch.equal(text, plain)
    assert len(set(text[0, 24:].tolist())) >= 8


# Wrong versions, which the same comparison must notice

Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
sdpa = F.scaled_dot_product_attention
rightly = multi_head.fused_attention


def attend(wrong: Attend) -> Callable:
    return lambda model, patch: patch.setattr(multi_head, "fused_attention", wrong)


def replace(module: object, name: str, wrong: Callable) -> Callable:
    return lambda model, patch: patch.setattr(module, name, wrong)


def block(wrong: Callable) -> Callable:
    """Make the stream after a block `wrong(x, ln_attn, attn, ln_mlp, mlp)`."""

    def forward(self: TransformerBlock, x: Tensor, *_: object) -> Tensor:
        return wrong(x, self.ln_attn, self.attn, self.ln_mlp, self.mlp)

    return replace(TransformerBlock, "forward", forward)


def weights(change: Callable[[Tensor], object], *endings: str) -> Callable:
    """Change every parameter whose name ends so, in place."""

    def wrong(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
        named = [(n, p) for n, p in model.named_parameters() if n.endswith(endings)]
        assert named
        for _, parameter in named:
            change(parameter.data)

    return wrong


def part(name: str, change: Callable[[nn.Module], nn.Module]) -> Callable:
    return lambda model, _: setattr(model, name, change(getattr(model, name)))


def eps(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    for norm in model.modules():
        if isinstance(norm, LayerNorm):
            norm.eps = 1e-6


def same_norm_twice(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    for layer in model.blocks:
        layer.ln_mlp = layer.ln_attn


def head(wrong: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return replace(gpt2_model, "F", SimpleNamespace(linear=wrong))


def one_leaks(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril(1)
    return sdpa(q, k, v, mask)


def no_mean(self: LayerNorm, x: Tensor) -> Tensor:
    return F.rms_norm(x, self.weight.shape, self.weight, self.eps) + self.bias


def unbiased(self: LayerNorm, x: Tensor) -> Tensor:
    spread = (x.var(-1, keepdim=True) + self.eps).sqrt()
    return (x - x.mean(-1, keepdim=True)) / spread * self.weight + self.bias


WRONG: dict[str, Callable[[GPT2Model, pytest.MonkeyPatch], None]] = {
    "erf GELU": replace(feed_forward, "gelu", F.gelu),
    "sigmoid GELU": replace(feed_forward, "gelu", lambda x: x * (1.702 * x).sigmoid()),
    "ReLU": replace(feed_forward, "gelu", F.relu),
    "no qkv bias": weights(Tensor.zero_, "qkv_proj.bias"),
    "no out bias": weights(Tensor.zero_, "out_proj.bias"),
    "no mlp bias": weights(Tensor.zero_, "up_proj.bias"),
    "no scale": attend(lambda q, k, v, p: sdpa(q, k, v, is_causal=True, scale=1.0)),
    "scale of the whole width": attend(lambda q, k, v, p: rightly(q / 2, k, v, p)),
    "no mask": attend(lambda q, k, v, p: sdpa(q, k, v)),
    "one future token": attend(one_leaks),
    "q and k swapped": attend(lambda q, k, v, p: rightly(k, q, v, p)),
    "k and v swapped": attend(lambda q, k, v, p: rightly(q, v, k, p)),
    "heads split without transpose": replace(
        multi_head,
        "split_heads",
        lambda x, heads: x.reshape(len(x), heads, x.size(1), -1),
    ),
    "heads merged without transpose": replace(
        multi_head, "merge_heads", lambda x: x.reshape(len(x), x.size(2), -1)
    ),
    "eps 1e-6": eps,
    "unbiased variance": replace(LayerNorm, "forward", unbiased),
    "RMS norm": replace(LayerNorm, "forward", no_mean),
    "norm without bias": weights(Tensor.zero_, "ln_mlp.bias"),
    "norm without weight": weights(lambda p: p.fill_(1), "ln_attn.weight"),
    "same norm twice": same_norm_twice,
    "post-norm": block(lambda x, n, a, m, f: m((y := n(x + a(x))) + f(y))),
    "parallel branches": block(lambda x, n, a, m, f: x + a(n(x)) + f(m(x))),
    "mlp first": block(lambda x, n, a, m, f: (y := x + f(m(x))) + a(n(y))),
    "residual of the normed": block(
        lambda x, n, a, m, f: (y := n(x) + a(n(x))) + f(m(y))
    ),
    "no residual": block(lambda x, n, a, m, f: f(m(x + a(n(x))))),
    "layers reversed": part("blocks", lambda blocks: nn.ModuleList(reversed(blocks))),
    "one layer for all": part("blocks", lambda b: nn.ModuleList([b[0]] * len(b))),
    "no final norm": part("ln_final", lambda norm: nn.Identity()),
    "no positions": weights(Tensor.zero_, "pos_emb.weight"),
    "positions from one": weights(lambda p: p.copy_(p.roll(-1, 0)), "pos_emb.weight"),
    "untied head": head(lambda x, table: x @ torch.zeros_like(table).normal_().T),
    "softmax in the model": head(lambda x, table: F.linear(x, table).softmax(-1)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_the_comparison_notices(
    wrong: Callable[[GPT2Model, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, ids = hot_model(positions=0.1 if wrong is eps else 30), random_ids(2, 12)
    ours = ours.double()
    theirs = their_model(ours)
    assert gap(ours, theirs, ids) < 1e-10
    wrong(ours, monkeypatch)
    assert gap(ours, theirs, ids) > 1e-4


# The whole model


@pytest.mark.parametrize(
    "name, count",
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_the_published_sizes_have_as_many_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        model = GPT2Model(**asdict(GPT2_SIZES[name]))
    assert sum(p.numel() for p in model.parameters()) == count


def test_a_new_model_knows_nothing_and_its_spreads_are_those_of_gpt2() -> None:
    torch.manual_seed(0)
    config = GPT2Config(1000, d_model=256, num_heads=4, num_layers=8, d_ff=1024)
    model = GPT2Model(**asdict(config))
    ids = random_ids(4, 64, config=config)
    loss = next_token_loss(model(ids), ids).item()
    assert loss == pytest.approx(math.log(1000), abs=0.1)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any(), name
        elif "ln_" in name:
            assert p.eq(1).all(), name
        else:
            into_stream = name.endswith(("out_proj.weight", "down_proj.weight"))
            spread = 0.01 if "pos" in name else 0.02 / 4**into_stream
            assert p.std().item() == pytest.approx(spread, rel=0.02), name


def test_nothing_leaks_from_the_future_or_from_another_row() -> None:
    model, ids = hot_model().double(), random_ids(2, 12)
    with torch.no_grad():
        moves = influence(model, ids)
        assert moves.triu(1).max() == 0 and moves.tril().ge(1e-6).sum() == 12 * 13 / 2
        alone = torch.cat([model(row[None]) for row in ids])
        assert_close(model(ids), alone, atol=1e-12, rtol=0)


def test_every_way_to_split_a_text_gives_the_same_logits() -> None:
    model, ids = hot_model().double(), random_ids(2, 7)
    with torch.no_grad():
        expected = model(ids)
        for cuts in itertools.product([False, True], repeat=6):
            edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), 7]
            cache = model.new_cache(2, 7)
            parts = [model(ids[:, a:b], cache) for a, b in itertools.pairwise(edges)]
            assert cache.length == 7
            assert_close(torch.cat(parts, 1), expected, atol=1e-10, rtol=0)


def test_a_cache_may_not_outgrow_the_positions() -> None:
    model = hot_model()
    cache = model.new_cache(1, 100)
    with torch.no_grad():
        model(random_ids(1, 40), cache)
    with pytest.raises(ValueError, match="41 tokens, but max_seq_length is 40"):
        model(random_ids(1, 1), cache)
    assert cache.length == 40


@pytest.mark.parametrize("length", [1, 35, 40, 45])
def test_text_longer_than_the_model_sees_its_last_tokens(length: int) -> None:
    model, prompt = hot_model().double(), random_ids(2, length)
    expected = prompt
    with torch.no_grad():
        for _ in range(50):
            best = model(expected[:, -40:])[:, -1].argmax(-1, keepdim=True)
            expected = torch.cat([expected, best], 1)
    assert torch.equal(model.generate(prompt, 50, temperature=0), expected)
    assert torch.equal(model.generate(prompt, 0), prompt)


def test_generate_is_the_models_door_to_lesson_6() -> None:
    model, prompt = hot_model(), random_ids(2, 5)
    torch.manual_seed(3)
    ours = model.generate(prompt, 9, 0.8, 50)
    torch.manual_seed(3)
    expected = generate(lambda ids: model(ids), prompt, 9, temperature=0.8, top_k=50)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("broken", [False, True])
def test_generate_leaves_every_module_in_its_mode(broken: bool) -> None:
    model = hot_model().train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    first, second = (model.generate(random_ids(1, 3), 5, 0) for _ in range(2))
    assert torch.equal(first, second)
    if broken:
        model.blocks[2].mlp.up_proj.weight.data[3, 4] = math.nan
        with pytest.raises(FloatingPointError, match="blocks.2.mlp.up_proj.weight"):
            model.generate(random_ids(1, 3), 5)
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


def test_dropout_falls_only_while_training() -> None:
    model, ids = hot_model(), random_ids(1, 12)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    still = hot_model(GPT2Config(**asdict(TINY) | {"dropout": 0.0}))
    assert_close(still.train()(ids), model.eval()(ids))


def test_a_saved_state_makes_the_same_model() -> None:
    model, other, ids = hot_model(), hot_model(positions=1), random_ids(1, 12)
    assert not torch.equal(model(ids), other(ids))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), other(ids))
    assert "head" not in " ".join(model.state_dict())


def test_the_whole_model_compiles_into_one_graph() -> None:
    model, ids = hot_model(), random_ids(2, 12)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for length in (12, 9, 5):  # the second makes the length a symbol
        assert_close(compiled(ids[:, :length]), model(ids[:, :length]))


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_the_model_can_be_exported_and_traced() -> None:
    model, longer = hot_model(), random_ids(3, 17)
    sizes = {"input_ids": {0: torch.export.Dim("B"), 1: torch.export.Dim("T", max=40)}}
    exported = torch.export.export(model, (random_ids(2, 12),), dynamic_shapes=sizes)
    assert_close(exported.module()(longer), model(longer))
    traced = torch.jit.trace(model, random_ids(2, 12))
    assert_close(traced(random_ids(2, 12, seed=2)), model(random_ids(2, 12, seed=2)))


def test_the_models_own_generate_passes_its_settings_on() -> None:
    model, prompt = GPT2Model(**asdict(TINY)), torch.tensor([[1, 2]])
    seeded = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    for make in (dict, lambda: {"generator": seeded()}):
        for setting in ((3.0, None), (3.0, 2), (3.0, None, 0.2)):
            torch.manual_seed(3)
            ours = model.generate(prompt, 30, *setting, **make())
            torch.manual_seed(3)
            assert torch.equal(ours, generate(model, prompt, 30, *setting, **make()))


@pytest.mark.parametrize("whole", [np.int64, np.uint8, torch.tensor])
def test_numpys_numbers_and_tensors_are_sizes_too(whole: Callable) -> None:
    sizes = {
        name: whole(size) for name, size in asdict(TINY).items() if name != "dropout"
    }
    config = GPT2Config(**sizes, dropout=np.float32(0.5))
    assert config == GPT2Config(**asdict(TINY) | {"dropout": 0.5})
    assert all(type(value) in (int, float) for value in asdict(config).values())
    model = GPT2Model(**sizes)
    model.load_state_dict(hot_model().state_dict())
    ids = random_ids(1, 5)
    assert torch.equal(model.eval()(ids), hot_model()(ids))
    assert model.generate(ids, whole(3), whole(0), whole(4)).shape == (1, 8)


def test_dropout_falls_on_the_embeddings_too() -> None:
    model, streams = GPT2Model(**(asdict(TINY) | {"dropout": 0.5})).train(), []
    model.blocks[0].register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    model(torch.tensor([[1, 2, 3]]))
    assert 0.2 < streams[0].eq(0).float().mean() < 0.8
