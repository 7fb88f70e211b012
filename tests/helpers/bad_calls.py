"""Bad calls on every public function of the package, and what each of them gets.

A `Door` is a function with arguments that are right, and for each argument values that
are not. Each bad value is tried alone. The outcome is

    clear    an error that our code raises, or one of PyTorch's that says what to do
    raw      any other error
    silent   none at all

`python tests/helpers/bad_calls.py` prints the counts, and every call that is not clear.
"""

import linecache
import math
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

import gpt2_lesson
from gpt2_lesson import corpora, plots, widgets
from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask, influence
from gpt2_lesson.checkpoints import load_checkpoint, save_checkpoint
from gpt2_lesson.corpora import stories
from gpt2_lesson.feed_forward import FeedForward, gelu
from gpt2_lesson.finetuning import (
    LoRALinear,
    add_lora,
    answer_loss,
    answer_targets,
    encode_requests,
    end_of_answer,
    load_adapter,
    lora_layers,
    lora_state,
    merge_lora,
    request_ids,
    save_adapter,
)
from gpt2_lesson.generation import (
    evaluating,
    generate,
    keep_top_p,
    new_cache,
    next_logits,
    next_probabilities,
    sample_next,
)
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model, initialize
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock
from gpt2_lesson.looking_inside import (
    ablate_heads,
    attention_maps,
    components,
    induction_score,
    inputs_of,
    logit_attribution,
    logit_lens,
    patch_activations,
)
from gpt2_lesson.measuring import (
    bits_per_byte,
    bootstrap_interval,
    choice_row,
    nats_of,
    perplexity,
    score_choices,
    token_nll,
)
from gpt2_lesson.multi_head import (
    KVCache,
    MultiHeadAttention,
    fused_attention,
    merge_heads,
    split_heads,
)
from gpt2_lesson.real_gpt2 import load_gpt2, save_gpt2
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
from gpt2_lesson.scaling_out import (
    average_gradients,
    distributed_finish,
    distributed_setup,
    distributed_step,
    parallelize,
    rank_rows,
    summed_loss,
)
from gpt2_lesson.speed import count_bytes, count_flops, quantize_int8, roofline
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import (
    Muon,
    TrainSettings,
    evaluate,
    get_batch,
    learning_rate,
    make_optimizer,
    next_token_loss,
    train,
    train_step,
)

PACKAGE = str(Path(gpt2_lesson.__file__).parent)

# Texts of PyTorch and NumPy that say what came and what was expected.
SAYS_WHAT_TO_DO = re.compile("|".join([
    r"argument '\w+' \(position \d\) must be \w+, not \w+",
    r"argument '\w+' must be [\w. ]+, not \w+",
    r"got an unexpected keyword argument '\w+'",
    r"received an invalid combination of arguments - got \(.*\), but expected one of",
    r"expected scalar type \w+ but found \w+",
    r"expected input with shape \[\*, \d+\], but got input of size",
    r"must match the size of tensor b \(\d+\) at non-singleton dimension",
    r"Expected one of cpu, cuda, .* device type at start of device string",
    r"not implemented for '\w+'",
    r"have the same dtype, but got",
    r"Expected query, key, and value to have the same dtype",
    r"you tried to allocate \d+ bytes",
    r"must be 1 or 2 dim",
    r"`bins` must increase monotonically",
    r"Target -?\d+ is out of bounds",
]))


@dataclass
class Door:
    """A public function, arguments that are right, and wrong values for each."""

    name: str
    function: Callable
    good: dict[str, Any]
    bad: dict[str, list] = field(default_factory=dict)

    def calls(self) -> Iterator[tuple[str, Callable]]:
        """Yield a label and a call for each wrong value."""
        for argument, values in self.bad.items():
            for value in values:
                arguments = {**self.good, argument: value}
                yield (f"{self.name}({argument}={label(value)})",
                       lambda arguments=arguments: self.function(**arguments))


def label(value: object) -> str:
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        readable = value.is_floating_point() and not value.is_meta
        lost = " not finite" if readable and not value.isfinite().all() else ""
        return f"{kind} {tuple(value.shape)}{where}{lost}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    return re.sub(r" at 0x\w+", "", repr(value))[:60]


def outcome(call: Callable) -> tuple[str, str]:
    """Return clear, raw or silent, and the error."""
    try:
        with redirect_stdout(StringIO()):
            result = call()
            if isinstance(result, AbstractContextManager):
                with result:
                    pass
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = linecache.getline(last.filename, last.lineno or 0).strip()
        ours = last.filename.startswith(PACKAGE) and line.startswith("raise")
        said = f"{type(error).__name__}: {error}"
        if ours or SAYS_WHAT_TO_DO.search(said):
            return "clear", said
        return "raw", said
    return "silent", f"returned {label(result)}"


# ---------------------------------------------------------------- wrong values

NAN, INF = math.nan, math.inf
NOTHING = [None, "3", [3], {}]
NOT_TEXTS = [None, 3, b"abc", ["a"], 2.5]


def whole(least: int = 1, most: int | None = None, none: bool = False) -> list:
    """Return what is not a whole number from `least` to `most`."""
    past = [2**70] if most is None else [most + 1, 2**70]
    wrong = ["3", [3], 2.5, NAN, INF, True, least - 1, -7, torch.tensor([1.0, 2.0])]
    return [*wrong, *past] + [None] * (not none)


def real(*outside: float, none: bool = False) -> list:
    """Return what is not a finite number; `outside` are numbers out of range."""
    return ["1", [1.0], NAN, INF, -INF, True, 1j, *outside] + [None] * (not none)


def floats(right: Tensor, *wrong: Tensor, dims: bool = True) -> list:
    """Return what is not a tensor of floating-point numbers like `right`."""
    others = [right[0], right[None]] if dims else []
    return [None, "abc", 3, [[1.0, 2.0]], right.long(), right.bool(), right[..., :0],
            right.to(torch.complex64), *others, *wrong]


def ids_like(right: Tensor, *wrong: Any, lists: bool = False) -> list:
    """Return what is not a tensor of token ids like `right`, of a model of 97."""
    listed = [] if lists else [right.tolist()]
    return [None, "abc", 3, ["a", "b"], *listed, right.float(), right.bool(),
            right[None], right[:0], right[..., :0], right - 5, right + 300, right * NAN,
            *wrong]


# ---------------------------------------------------------------- what the calls use

torch.manual_seed(0)
SIZES = dict(vocab_size=97, d_model=16, num_heads=2, num_layers=2, max_seq_length=8,
             d_ff=32, dropout=0.0)
MODEL = GPT2Model(**SIZES).eval()
BYTES = GPT2Model(**SIZES | {"vocab_size": 256}).eval()
BROKEN = GPT2Model(**SIZES | {"vocab_size": 256}).eval()
BROKEN.blocks[0].mlp.up_proj.weight.data[0, 0] = NAN
IDS = torch.arange(8).view(2, 4)
Q, X = torch.randn(2, 3, 4), torch.randn(2, 3, 16)
HEADS = torch.randn(2, 2, 3, 8)
LOGITS = torch.randn(2, 97)
TWO = torch.randn(2, 3)
CACHE = KVCache(2, 2, 2, 8, 8)
MODELS = [None, "gpt2", 3, [1]]
SEEDED = ["0", 3, torch.Generator]
LETTERS = Tokenizer()
CONFIG = {name: real(-0.1, 1.0, 1.5) if name == "dropout" else whole()
          for name in SIZES}


LESSONS = [
    Door("attention", attention, dict(q=Q, k=Q, v=Q, mask=causal_mask(3)), dict(
        q=floats(Q, Q[..., :2], dims=False), k=floats(Q, Q[:, :2], dims=False),
        v=floats(Q, Q[:, :2], Q.double(), dims=False),
        mask=["abc", 3, [[True]], torch.ones(3, 3), torch.ones(2, 3).bool(),
              torch.zeros(3, 3).bool(), torch.ones(3, 3).triu(1).bool(),
              torch.ones(5, 3, 3).bool(), torch.ones(0, 3).bool()])),
    Door("causal_mask", causal_mask, dict(num_queries=2, num_keys=3), dict(
        num_queries=whole(1, 3), num_keys=whole(2, none=True),
        device=["nowhere", 3.5, [1]])),
    Door("influence", influence, dict(function=gelu, x=X), dict(
        function=[None, "gelu", 3, lambda x: None, lambda x: x[0], lambda x: x.sum(),
                  lambda x: x[:1]],
        x=[None, "abc", 3, [[1.0]], X[:1], X[:1].expand(2, 3, 16), X[0, 0], X[:, :0]])),
    Door("KVCache", KVCache, dict(num_layers=2, batch_size=1, num_heads=2, max_length=8,
                                  head_dim=4), dict(
        num_layers=whole(), batch_size=whole(), num_heads=whole(), max_length=whole(),
        head_dim=whole(), dtype=["float", 3, torch.int64, torch.bool],
        device=["nowhere"])),
    Door("KVCache.append", CACHE.append, dict(layer=0, k=HEADS, v=HEADS), dict(
        layer=whole(0, 1),
        k=floats(HEADS, HEADS[:1], HEADS[..., :4], HEADS[:, :, :2],
                 HEADS.repeat(1, 1, 3, 1)),
        v=floats(HEADS, HEADS[:1], HEADS[..., :4], HEADS[:, :, :2]))),
    Door("split_heads", split_heads, dict(x=X, num_heads=2), dict(
        x=[None, "abc", 3, [[1.0]], X[0], X[None], X[..., :15], X[:, :0]],
        num_heads=[*whole(1, 16), 3])),
    Door("merge_heads", merge_heads, dict(x=HEADS), dict(
        x=[None, "abc", 3, [[1.0]], HEADS[0], HEADS[None], HEADS[:0]])),
    Door("fused_attention", fused_attention, dict(q=HEADS, k=HEADS, v=HEADS), dict(
        q=floats(HEADS, HEADS[..., :4], HEADS.repeat(1, 1, 2, 1), dims=False),
        k=floats(HEADS, HEADS[..., :4], dims=False),
        v=floats(HEADS, HEADS[:, :, :2], HEADS.double(), dims=False),
        dropout=real(-0.1, 1.0, 2.0))),
    Door("MultiHeadAttention", MultiHeadAttention, dict(d_model=16, num_heads=2), dict(
        d_model=[*whole(), 15], num_heads=[*whole(1, 16), 3],
        dropout=CONFIG["dropout"])),
    Door("MultiHeadAttention.forward", MODEL.blocks[0].attn, dict(x=X), dict(
        x=floats(X, X[..., :15], X.double()), cache=["abc", 3, [], {}])),
    Door("MultiHeadAttention.forward, cached", MODEL.blocks[0].attn,
         dict(x=X, cache=CACHE), dict(layer=whole(0, 1), x=[X[:1], X.repeat(1, 3, 1)])),
    Door("MultiHeadAttention.weights", MODEL.blocks[0].attn.weights, dict(x=X), dict(
        x=floats(X, X[..., :15]))),
    Door("gelu", gelu, dict(x=X), dict(
        x=[None, "abc", 3, [[1.0]], IDS, IDS.bool(), X.to(torch.complex64)])),
    Door("FeedForward", FeedForward, dict(d_model=16, d_ff=32), dict(
        d_model=whole(), d_ff=whole(), dropout=CONFIG["dropout"])),
    Door("FeedForward.forward", MODEL.blocks[0].mlp, dict(x=X), dict(
        x=floats(X, X[..., :15], X.double(), dims=False))),
    Door("LayerNorm", LayerNorm, dict(d_model=16), dict(
        d_model=whole(), eps=real(-1.0, 0.0))),
    Door("LayerNorm.forward", MODEL.ln_final, dict(x=X), dict(
        x=floats(X, X[..., :15], X[0, 0, 0], dims=False))),
    Door("TransformerBlock", TransformerBlock, dict(d_model=16, num_heads=2, d_ff=32),
         dict(d_model=[*whole(), 15], num_heads=[*whole(1, 16), 3], d_ff=whole(),
              dropout=CONFIG["dropout"])),
    Door("TransformerBlock.forward", MODEL.blocks[0], dict(x=X), dict(
        x=floats(X, X[..., :15]), cache=["abc", 3, []])),
    Door("keep_top_p", keep_top_p, dict(probabilities=LOGITS.softmax(-1), top_p=0.5),
         dict(probabilities=floats(LOGITS, LOGITS, LOGITS * NAN, LOGITS.softmax(-1) / 2,
                                   LOGITS * 0, dims=False),
              top_p=real(0, -1, 2, 1.01))),
    *(Door(function.__name__, function, dict(logits=LOGITS), dict(
        logits=floats(LOGITS, LOGITS * NAN, LOGITS + INF, LOGITS - INF, dims=False),
        temperature=real(-1, 1e-40), top_k=whole(none=True),
        top_p=real(0, -1, 2, 1.01, none=True)))
      for function in (next_probabilities, sample_next)),
    Door("sample_next, drawing", sample_next, dict(logits=LOGITS), dict(
        logits=[LOGITS[None]], generator=SEEDED)),
    Door("evaluating", evaluating, dict(model=MODEL), dict(model=MODELS)),
    *(Door(name, function, given | dict(input_ids=IDS, max_new_tokens=2), dict(
        input_ids=ids_like(IDS, IDS[0], IDS.byte(), IDS.to("meta")),
        max_new_tokens=whole(0), temperature=real(-1, 1e-40), top_k=whole(none=True),
        top_p=real(0, -1, 2, none=True), generator=SEEDED,
        stop=["3", 2.5, NAN, True, -1, 97, [3, -1], [3, 97], [2.5], [[3]], 2**70,
              torch.tensor(1.5)], **more))
      for name, function, given, more in [
          ("generate", generate, dict(model=MODEL), dict(
              on_token=["abc", 3],
              model=[*MODELS, lambda ids: None, lambda ids: ids, lambda ids: LOGITS,
                     lambda ids: torch.zeros(*ids.shape, 9) * NAN])),
          ("GPT2Model.generate", MODEL.generate, {}, {})]),
    Door("GPT2Config", GPT2Config, SIZES, CONFIG | dict(num_heads=[*whole(), 3])),
    Door("GPT2Model", GPT2Model, SIZES, CONFIG | dict(num_heads=[*whole(), 3])),
    Door("GPT2Config, misspelt", GPT2Config, SIZES, dict(n_heads=[2])),
    Door("new_cache", new_cache,
         dict(model=MODEL, input_ids=IDS, max_new_tokens=2), dict(
        model=["abc", 3, None], max_new_tokens=whole(0),
        input_ids=[None, "abc", 3, IDS.tolist(), IDS[0], IDS.float(), IDS[:, :0]])),
    Door("next_logits", next_logits, dict(model=MODEL, ids=IDS, cache=None), dict(
        model=["abc", 3, None], ids=ids_like(IDS, IDS[0]),
        cache=["abc", 3, [], {}, KVCache(2, 1, 2, 8, 8), KVCache(2, 2, 2, 3, 8),
               KVCache(1, 2, 2, 8, 8), KVCache(2, 2, 1, 8, 16)])),
    Door("initialize", initialize, dict(model=MODEL, num_layers=2), dict(
        num_layers=whole(), model=MODELS)),
    Door("GPT2Model.forward", MODEL, dict(input_ids=IDS), dict(
        input_ids=ids_like(IDS, IDS[0], IDS.byte(), IDS.to("meta"), IDS.repeat(1, 3)),
        cache=["abc", 3, [], {}, KVCache(2, 1, 2, 8, 8), KVCache(2, 2, 2, 3, 8),
               KVCache(1, 2, 2, 8, 8), KVCache(2, 2, 1, 8, 16)])),
    Door("GPT2Model.new_cache", MODEL.new_cache, dict(batch_size=1, max_length=8), dict(
        batch_size=whole(), max_length=whole())),
    Door("nats_of", nats_of, dict(model=MODEL, windows=IDS), dict(
        model=[*MODELS, lambda ids: None, lambda ids: LOGITS,
               lambda ids: torch.zeros(*ids.shape, 97) * NAN],
        windows=ids_like(IDS, IDS[0], IDS[:, :1], lists=True))),
    Door("token_nll", token_nll, dict(model=MODEL, ids=IDS[0]), dict(
        model=[*MODELS, lambda ids: None, lambda ids: LOGITS,
               lambda ids: torch.zeros(*ids.shape, 97) * NAN],
        ids=ids_like(IDS[0], IDS[0, :1], IDS[0, 0], lists=True),
        stride=whole(1, 8, none=True), batch_size=whole())),
    *(Door(function.__name__, function, dict(model=BYTES, tokenizer=LETTERS,
                                             text="abcdefghijkl"), dict(
        model=[*MODELS, MODEL, BROKEN], tokenizer=[None, "gpt2", 3],
        text=[*NOT_TEXTS, "", "a"], stride=whole(1, 8, none=True), batch_size=whole()))
      for function in (perplexity, bits_per_byte)),
    Door("choice_row", choice_row, dict(tokenizer=LETTERS, context="abc", choice="de",
                                        limit=8), dict(
        tokenizer=[None, "gpt2", 3], context=[*NOT_TEXTS, ""],
        choice=[*NOT_TEXTS, "", "too long for it"], limit=whole(none=True))),
    Door("score_choices", score_choices, dict(model=BYTES, tokenizer=LETTERS,
                                              questions=[("abc", ["de", "f"])]), dict(
        model=[*MODELS, MODEL, BROKEN], tokenizer=[None, "gpt2", 3],
        questions=[None, "abc", 3, [3], ["abc"], [("a",)], [("a", "bc")], [("a", [])],
                   [("a", [3])], [(3, ["a"])], [("", ["a"])], [("a", [""])],
                   [("a", None)], [("a", ["b"], "c")], {"a": ["b"]}],
        batch_size=whole())),
    Door("bootstrap_interval", bootstrap_interval,
         dict(values=torch.rand(5), resamples=9), dict(
             values=[None, "abc", 3, [], [1.0], [NAN, 1.0], [INF, 1.0], ["a", "b"],
                     torch.rand(2, 3)],
             resamples=whole(), level=real(0, 1, 95, -0.5), seed=whole(0))),
    Door("inputs_of", inputs_of, dict(modules=[MODEL.blocks[0]], model=MODEL,
                                      input_ids=IDS), dict(
        modules=[None, 3, "abc", [None], [nn.Linear(2, 2)], MODEL.ln_final],
        model=[*MODELS, nn.Linear(2, 2)], input_ids=ids_like(IDS))),
    *(Door(function.__name__, function, dict(model=MODEL, input_ids=IDS), dict(
        model=[*MODELS, nn.Linear(2, 2), gelu],
        input_ids=ids_like(IDS, IDS.repeat(1, 3), IDS.to("meta"))))
      for function in (attention_maps, logit_lens)),
    Door("ablate_heads", ablate_heads, dict(model=MODEL, heads=[(0, 1)]), dict(
        model=[*MODELS, nn.Linear(2, 2)],
        heads=[None, "ab", 3, [3], ["ab"], [(0,)], [(0, 1, 1)], [(0, 2)], [(2, 0)],
               [(-1, 0)], [(0, -1)], [(0.5, 0)], [(True, 0)], [("0", 0)], (0, 1)])),
    Door("patch_activations", patch_activations, dict(
        model=MODEL, layer=0, values=MODEL.pos_emb.weight[0]), dict(
        model=[*MODELS, nn.Linear(2, 2)], layer=whole(0, MODEL.config.num_layers - 1),
        values=[None, 3, "abc", torch.rand(3), MODEL.pos_emb.weight[0].long()],
        positions=[3, "abc", [None], [-1], [10**6], [0.5]],
        head=whole(0, MODEL.config.num_heads - 1, none=True))),
    Door("components", components, dict(model=MODEL, input_ids=IDS), dict(
        model=[*MODELS, nn.Linear(2, 2)], input_ids=ids_like(IDS))),
    Door("logit_attribution", logit_attribution, dict(
        model=MODEL, input_ids=IDS, right=IDS[:, 0], wrong=IDS[:, 1]), dict(
        model=[*MODELS, nn.Linear(2, 2)], input_ids=ids_like(IDS),
        right=[None, 3, "abc", [0], IDS, IDS[:, 0] - 10**6, IDS[:, 0] / 2],
        wrong=[None, 3, "abc", [0], IDS, IDS[:, 0] + 10**6, IDS[:, 0] / 2])),
    Door("induction_score", induction_score, dict(maps=torch.rand(2, 6, 6), period=3),
         dict(maps=floats(torch.rand(2, 6, 6), torch.rand(6), torch.rand(6, 5),
                          dims=False),
              period=whole(1, 5))),
    Door("count_flops", count_flops, dict(config=MODEL.config, seq_length=8), dict(
        config=[*MODELS, MODEL], seq_length=whole())),
    Door("count_bytes", count_bytes, dict(config=MODEL.config, seq_length=8), dict(
        config=[*MODELS, MODEL], seq_length=whole(0), batch_size=whole(),
        weight_bytes=real(0, -1), cache_bytes=real(0, -1))),
    Door("roofline", roofline, dict(flops=1, bytes=1, peak_flops=1, bandwidth=1), dict(
        flops=real(-1), bytes=real(-1), peak_flops=real(0, -1),
        bandwidth=real(0, -1))),
    Door("quantize_int8", quantize_int8, dict(model=MODEL), dict(
        model=[*MODELS, nn.ReLU()])),
    Door("distributed_setup", distributed_setup, dict(device="cpu"), dict(
        device=["gpu", "", 3, ["cpu"], torch.device("meta")])),
    Door("distributed_finish", distributed_finish, dict(status=0), dict(
        status=whole(0, 255))),
    Door("rank_rows", rank_rows, dict(batch=IDS, rank=1, world_size=2), dict(
        batch=[None, "abc", 3, IDS.tolist(), IDS[0], IDS[None], IDS[:0]],
        rank=whole(0, 1), world_size=whole(2, 2))),
    Door("average_gradients", average_gradients, dict(model=MODEL), dict(model=MODELS)),
    Door("summed_loss", summed_loss, dict(logits=LOGITS[None], input_ids=IDS[:1, :2]),
         dict(logits=floats(LOGITS[None], LOGITS.repeat(2, 1, 1)),
              input_ids=[None, "abc", 3, [[1]], IDS[0], IDS.float(), IDS])),
    Door("parallelize", parallelize, dict(model=MODEL), dict(
        model=[*MODELS, nn.Linear(2, 2)],
        strategy=["tensor", "", None, 3, ["ddp"]])),
    Door("distributed_step", distributed_step, dict(
        model=MODEL, optimizer=torch.optim.SGD(MODEL.parameters(), lr=0.0),
        batches=[IDS]), dict(
        model=MODELS, batches=[None, [], 3, IDS, [IDS.float()], [IDS[0]], ["abc"]],
        max_norm=real(0, -1), precision=["half", 16, None])),
    Door("rollout", rollout, dict(
        model=MODEL, prompt=IDS[0], count=2, max_new_tokens=2, stop=3), dict(
        model=MODELS, prompt=[None, "abc", 3, [1, 2], IDS, IDS[0].float(), IDS[0, :0]],
        count=whole(), max_new_tokens=whole(), stop=whole(0, 96), generator=SEEDED)),
    Door("group_advantage", group_advantage, dict(rewards=torch.rand(2, 3)), dict(
        rewards=[*floats(torch.rand(2, 3), dims=False), torch.rand(3, 1)])),
    Door("token_log_probs", token_log_probs, dict(model=MODEL, ids=IDS), dict(
        ids=ids_like(IDS, IDS[0]))),
    Door("policy_gradient_loss", policy_gradient_loss, dict(
        log_probs=TWO, advantages=TWO[:, 0], mask=TWO < 0), dict(
        log_probs=floats(TWO, TWO[0], TWO[:, :2]),
        advantages=floats(TWO[:, 0], TWO, TWO[:1, 0]),
        mask=[None, "abc", 3, TWO, TWO[:1] < 0, TWO[:, :2] < 0],
        old_log_probs=["abc", 3, TWO.long(), TWO[0], TWO[:, :2]],
        clip=real(0, 1, -1, none=True))),
    Door("policy_gradient_step", policy_gradient_step, dict(
        model=MODEL, reference=MODEL,
        optimizer=torch.optim.SGD(MODEL.parameters(), lr=0.0),
        ids=IDS, mask=IDS >= 0, rewards=torch.rand(2)), dict(
        ids=ids_like(IDS, IDS[0]), mask=[None, "abc", 3, IDS, IDS[:1] >= 0],
        rewards=[*floats(torch.rand(2), dims=False), torch.rand(3)],
        beta=real(-1), steps=whole(), clip=real(0, 1, -1, none=True))),
    Door("kl_to_reference", kl_to_reference, dict(
        model=MODEL, reference=MODEL, ids=IDS, mask=IDS >= 0), dict(
        model=MODELS, reference=MODELS, ids=ids_like(IDS, IDS[0]),
        mask=[None, "abc", 3, IDS, IDS[:1] >= 0, IDS[:, :1] >= 0])),
    Door("least_kl", least_kl, dict(s=0.9, p=0.1), dict(
        s=real(-1, 1.5), p=real(0, 1, -1))),
    Door("best_success_rate", best_success_rate, dict(p=0.1, beta=0.2), dict(
        p=real(0, 1, -1), beta=real(0, -1))),
    Door("dpo_loss", dpo_loss, dict(
        chosen=TWO[0], rejected=TWO[1], reference_chosen=TWO[0],
        reference_rejected=TWO[1], beta=0.1), {
        name: floats(TWO[0], TWO, TWO[0, :2]) for name in (
            "chosen", "rejected", "reference_chosen", "reference_rejected")} | dict(
        beta=real(0, -1))),
]

STORY = stories.stories(1)
CORPORA = [
    Door("load_text", corpora.load_text, dict(name_or_path="python"), dict(
        name_or_path=[None, 3, "", "storys", "missing/file.txt", ["python"], b"python",
                      "."])),
    Door("split", corpora.split, dict(text=b"one\ntwo\nthree\n"), dict(
        text=[None, "one\ntwo\n", 3, b"", b"one", [b"a"]],
        fraction=real(0, 1, -0.5, 90, 0.01))),
    Door("stories", stories.stories, dict(count=1), dict(
        count=whole(0), seed=[None, "3", [3], 2.5, NAN, True, {}])),
    *(Door(function.__name__, function, dict(text=STORY), dict(
        text=[*NOT_TEXTS, "", "not a story\n", STORY[:-1], STORY * 2]))
      for function in (stories.log_probability, stories.nll)),
]


# ---------------------------------------------------------------- pictures and figures

ALT = [None, "", "  ", 3, ["a"]]                  # None and "" write one in a figure
TITLES = [3, ["a", "b", "c", "d"]]
NUMBERS = [None, "abc", ["a", "b"], [], {}, [[1.0], [1.0, 2.0]], 1j]
W = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
WORDS = ["The", "cat", "sat"]
RECORD = widgets.capture(BYTES, IDS[:1] + 97)
NAMES = [3, "abcd", ["a", "b"], [1, 2, 3, 4, 5]]
PLACES = [9, -9, 2.5, "3", [1], NAN, True]

PICTURES = [
    Door("plots.show_attention", plots.show_attention,
         dict(weights=W, tokens=WORDS, alt="a"), dict(
        weights=[*NUMBERS, W[0], W[None, None], W[:0]],
        tokens=[None, 3, ["a"], [], WORDS * 2], keys=[3, ["a"], WORDS * 2],
        title=TITLES, alt=ALT)),
    Door("plots.show_matrix", plots.show_matrix, dict(matrix=W, alt="a"), dict(
        matrix=[*NUMBERS, W[0], W[None, None], W[:0], [W, None]],
        rows=[3, ["a"], WORDS * 2], columns=[3, ["a"], WORDS * 2], title=TITLES,
        alt=ALT)),
    Door("plots.show_lines", plots.show_lines,
         dict(lines={"a": [1.0, 2.0]}, xlabel="x", ylabel="y", alt="a"), dict(
        lines=[None, "abc", 3, [], {}, {"a": None}, {"a": []}, {"a": ["b"]},
               {"a": [NAN, NAN]}, {"a": ([1, 2, 3], [1.0, 2.0])}, {"a": 3}],
        levels=[3, "abc", {"a": None}, {"a": "b"}, {"a": NAN}], size=["large", 3, None],
        alt=ALT)),
    Door("plots.show_bars", plots.show_bars,
         dict(values=[1.0, 2.0, 3.0], labels=WORDS, alt="a"), dict(
        values=[*NUMBERS, [1.0], W, {"a": None}, {"a": [1.0]}],
        labels=[None, 3, [], ["a"]], alt=ALT)),
    Door("plots.show_histograms", plots.show_histograms,
         dict(samples={"a": [1.0, 2.0]}, xlabel="x", alt="a"), dict(
        samples=[None, "abc", 3, [], {}, {"a": None}, {"a": []}, {"a": ["b"]},
                 {"a": [NAN]}],
        bins=[None, 0, -3, 2.5, "many", [], [3, 1], True], alt=ALT)),
    Door("plots.show_timeline", plots.show_timeline,
         dict(lanes={"a": [("x", 0.0, 1.0)]}, xlabel="ms", alt="a"), dict(
        lanes=[None, "abc", 3, [], {}, {"a": []}, {"a": None}, {"a": [3]}, {"a": "abc"},
               {"a": [("x", 0.0)]}, {"a": [("x", 1.0, 0.0)]}, {"a": [("x", NAN, 1.0)]}],
        alt=ALT)),
    Door("plots.show_text", plots.show_text,
         dict(text="abc", values=[1.0, 2.0, 3.0], low_label="l", high_label="h",
              alt="a"), dict(
        text=[None, 3, "", [], "ab", [1, 2, 3]],
        values=[*NUMBERS, [1.0], W, {"a": None}], alt=ALT)),
    Door("plots.as_png", plots.as_png, dict(draw=lambda: plots.show_bars(
        [1.0], ["a"], alt="a")), dict(draw=[None, "show_bars", lambda: None])),
    Door("widgets.capture", widgets.capture, dict(model=BYTES, input_ids=IDS[:1]), dict(
        model=[*MODELS, nn.Linear(2, 2)], input_ids=ids_like(IDS[:1], IDS),
        tokens=NAMES,
        layers=[3, "ab", [2], [-1], [], [0.5], [True], [None]],
        heads=[3, "ab", [2], [-1], [], [0.5], [True], [None]], vocabulary=NAMES)),
    Door("widgets.attention", widgets.attention, dict(record=RECORD), dict(
        record=[None, "abc", MODEL, W], layer=[2, *PLACES], head=[2, *PLACES],
        measure=["shares", None, 3], query=PLACES,
        layers=[3, "ab", [2], [-1], [], [0.5]],
        heads=[3, "ab", [2], [-1], [], [0.5]], alt=ALT[2:])),
    Door("widgets.trace", widgets.trace, dict(record=RECORD), dict(
        record=[None, "abc", MODEL, W], position=[None, *PLACES], alt=ALT[2:])),
    Door("widgets.sampling", widgets.sampling, dict(record=LOGITS[0]), dict(
        record=[None, "abc", MODEL, LOGITS, LOGITS[0].long(), LOGITS[0] * NAN,
                LOGITS[0, :0], [1.0, 2.0]],
        temperature=real(-1, 1e-40), top_k=whole(none=True),
        top_p=real(0, -1, 2, none=True), names=NAMES, alt=ALT[2:])),
    Door("widgets.sampling, recorded", widgets.sampling, dict(record=RECORD), dict(
        position=[None, *PLACES])),
    Door("widgets.compare", widgets.compare, dict(mine={"a": W}, reference={"a": W}),
         dict(mine=[None, "abc", {"a": None}, {"a": "b"}, RECORD, W.tolist()],
              reference=[None, "abc", {}, {"a": None}, {"a": "b"}, RECORD],
              tokens=[3], atol=real(-1), alt=ALT[2:])),
    Door("widgets.parameters", widgets.parameters, dict(model=MODEL), dict(
        model=[*MODELS, nn.ReLU(), GPT2Model], alt=ALT[2:])),
    Door("widgets.arithmetic", widgets.arithmetic, {}, dict(
        q=[*NUMBERS, W[0], [[NAN, 1.0]] * 3, [[1.0]] * 3, [[1.0, 2.0]]],
        k=[*NUMBERS, W[0], [[NAN, 1.0]] * 3], v=[*NUMBERS, W[0], [[1.0, 2.0]]],
        tokens=[None, 3, ["a"], "ab"], alt=ALT[2:])),
    Door("widgets.choose", widgets.choose,
         dict(frames={"one": {"weights": W}, "two": {"weights": W}}, tokens=WORDS),
         dict(
        frames=[None, "abc", {}, {"a": {}}, {"a": {"b": None}}, {"a": {"b": W[0]}},
                {"a": {"b": W}, "c": {"d": W}}, {"a": None}, {"a": {"b": W[:2, :2]}}],
        tokens=[None, 3, ["a"]], numbers=[3, {"one": 1}, "ab"],
        meter=[3, ("a",), ("a", {"one": 1.0}),
               ("a", {"one": -1.0, "two": 1.0}), ("a", {"one": "b", "two": 1.0})],
        shares=[3, ["nothing"]], alt=ALT[2:])),
    Door("widgets.scrub", widgets.scrub,
         dict(maps=torch.stack([W, W]), steps=[0, 10], tokens=WORDS), dict(
        maps=[*NUMBERS, W, torch.stack([W, W]) * NAN, torch.ones(2, 3, 3),
              torch.stack([W] * 3), -torch.stack([W, W])],
        steps=[None, 3, [0], [10, 0], [0, 0], ["a", "b"], [0, 1.5], [0, NAN]],
        tokens=[None, 3, ["a"]],
        curves=[3, {"a": None}, {"a": [1.0]}, {"a": [NAN, 1.0]},
                {"a": ([0, 0], [1.0, 2.0])}], alt=ALT[2:])),
    Door("widgets.explore", widgets.explore, dict(model=BYTES, text="abc"), dict(
        model=[*MODELS, nn.Linear(2, 2), MODEL], tokenizer=["gpt2", 3],
        text=[None, 3, b"abc", "", "longer than eight", ["a"]],
        layers=[3, "ab", [2], [-1], [], [0.5]], heads=[3, "ab", [2], [-1], [], [0.5]])),
    Door("widgets.ablate_each", widgets.ablate_each,
         dict(model=BYTES, input_ids=IDS[:1]), dict(
        model=[*MODELS, nn.Linear(2, 2), BROKEN], input_ids=ids_like(IDS[:1], IDS))),
    Door("widgets.ablation", widgets.ablation,
         dict(model=BYTES, input_ids=IDS[:1], target=3), dict(
        model=[*MODELS, nn.Linear(2, 2), BROKEN], input_ids=ids_like(IDS[:1], IDS),
        target=[None, "a", 256, -1, 2.5, [], [256], [0.5], True, NAN],
        baseline=["a", 256, -1, 2.5, [256], [0.5], True], names=NAMES,
        watch=[3, {"a": None}, {"a": [256]}, {"a": [-1]}], alt=ALT[2:],
        computed=[3, (1, 2), (W, W)])),
]


# ---------------------------------------------------------------- lessons 08 to 10

TOKENS, WINDOWS = torch.arange(60) % 97, torch.arange(32).view(4, 8)
SETTINGS = dict(steps=2, seq_length=8, batch_size=2)
THREE = torch.zeros(2, 4, 97)


def fresh() -> GPT2Model:
    return GPT2Model(**SIZES)


def trained(**given: Any) -> list[float]:
    return train(fresh(), progress=False, **given)


def stepped(**given: Any) -> float:
    model = fresh()
    return train_step(model, make_optimizer(model, 1e-3), **given)


def saved(**given: Any) -> None:
    with TemporaryDirectory() as folder:
        save_checkpoint(**{"path": Path(folder) / "a.safetensors", **given})


def exported(**given: Any) -> None:
    with TemporaryDirectory() as folder:
        save_gpt2(**{"folder": Path(folder) / "a", **given})


FOLDER = TemporaryDirectory()
save_gpt2(BYTES, FOLDER.name)
LETTERS.save(FOLDER.name)
STORY_MODEL = Path(corpora.__file__).with_name("stories.safetensors")
PATHS = [None, 3, "", "nowhere/at/all", b"a", ["a"]]
RATES = real(0, -1)
TRAINING = [
    Door("next_token_loss", next_token_loss, dict(logits=THREE, input_ids=IDS), dict(
        logits=floats(THREE, THREE[:1], THREE[:, :2], THREE * NAN, THREE[..., :5]),
        input_ids=ids_like(IDS, IDS[0], IDS * 0 - 100),
        ignore_index=[None, "3", 2.5, NAN, [3], True])),
    Door("get_batch", get_batch, dict(tokens=TOKENS, batch_size=2, seq_length=8), dict(
        tokens=[None, "abc", 3, [1, 2], TOKENS.float(), TOKENS.bool(), WINDOWS,
                TOKENS[:0], TOKENS[:3]],
        batch_size=whole(), seq_length=whole(1, 60),
        starts=["a", 3, [1], TOKENS.float(), torch.tensor([-1]), TOKENS[:0],
                torch.tensor([59]), TOKENS > 3], generator=SEEDED)),
    Door("make_optimizer", make_optimizer, dict(model=fresh(), max_lr=1e-3), dict(
        model=[*MODELS, nn.ReLU()], max_lr=RATES, weight_decay=real(-1))),
    Door("Muon", Muon, dict(model=fresh(), max_lr=1e-3), dict(
        model=[*MODELS, nn.ReLU()], max_lr=RATES, weight_decay=real(-1),
        momentum=real(-1, 1, 1.5), adam_lr_scale=RATES)),
    Door("learning_rate", learning_rate, dict(step=1, steps=9, max_lr=1e-3), dict(
        step=whole(0), steps=whole(), max_lr=RATES, warmup_steps=whole(0),
        min_lr=real(-1, 1), decay=["cosin", None, 3, ""])),
    Door("train_step", stepped, dict(batches=[WINDOWS]), dict(
        batches=[None, "abc", 3, [], [None], [WINDOWS.float()], [WINDOWS[0]],
                 [WINDOWS[:0]], [WINDOWS[:, :1]], [WINDOWS + 300], [WINDOWS - 9]],
        max_norm=RATES, precision=["fp8", None, 3])),
    Door("evaluate", evaluate, dict(model=fresh(), windows=WINDOWS), dict(
        model=[*MODELS, lambda ids: torch.zeros(*ids.shape, 97) * NAN],
        windows=ids_like(WINDOWS, WINDOWS[0], WINDOWS[:, :1], lists=True),
        batch_size=whole())),
    Door("TrainSettings", TrainSettings, SETTINGS, dict(
        steps=whole(), seq_length=whole(2), batch_size=whole(), accumulation=whole(),
        max_lr=RATES, min_lr=real(-1, 1), warmup_steps=whole(0), weight_decay=real(-1),
        max_norm=RATES, momentum=real(-1, 1), adam_lr_scale=RATES, save_every=whole(),
        seed=[*whole(0), 2**64], decay=["cosin", None, 3], optimizer=["sgd", None, 3],
        precision=["fp8", None, 3], stepz=[3])),
    Door("train", trained,
         dict(tokens=TOKENS, settings=TrainSettings(**SETTINGS)), dict(
        tokens=[None, "abc", 3, [1, 2], TOKENS.float(), TOKENS.bool(), WINDOWS,
                TOKENS[:0], TOKENS[:3], TOKENS + 300],
        settings=[None, "abc", 3, SETTINGS],
        starts=["a", 3, [1], TOKENS.float(), torch.tensor([-1]), torch.tensor([59])],
        checkpoint=[3, "nowhere/at/all.st", b"a", ["a"]], on_step=["abc", 3])),
    Door("save_checkpoint", saved, dict(model=fresh()), dict(
        path=PATHS, model=[*MODELS, nn.ReLU()], optimizer=["adam", 3],
        generator=["0", 3],
        losses=[None, "abc", 3, ["a"]], metadata=["abc", 3, {"a": object()}])),
    Door("load_checkpoint", load_checkpoint, dict(path=STORY_MODEL), dict(
        path=[*PATHS, "."])),
    Door("Tokenizer.encode", LETTERS.encode, dict(text="abc"), dict(
        text=[None, 3, b"abc", ["a"], 2.5, "\ud800"], special=["all", 3, None, ["a"]])),
    *(Door(f"Tokenizer.{name}", getattr(LETTERS, name), dict(ids=[97, 98]), dict(
        ids=[None, "abc", 3, [256], [-1], [1.5], ["a"], [True], [None],
             torch.tensor([1.5]), torch.tensor([[97]])]))
      for name in ("decode", "decode_bytes")),
    Door("Tokenizer.train", Tokenizer.train, dict(text="abcabc", vocab_size=257), dict(
        text=[None, 3, b"abc", ["a"], 2.5], vocab_size=[*whole(256)],
        special=[[""], ["a", "a"], "ab", 3, None, [3], {"a": 1}])),
    Door("Tokenizer", Tokenizer, dict(), dict(vocabulary=[{}, [], 0, "gpt2", ["a"]])),
    Door("Tokenizer.load", Tokenizer.load, dict(name_or_folder=FOLDER.name), dict(
        name_or_folder=PATHS)),
    Door("load_gpt2", load_gpt2, dict(name_or_folder=FOLDER.name), dict(
        name_or_folder=PATHS, dtype=["float", 3, torch.int64])),
    Door("save_gpt2", exported, dict(model=fresh()), dict(
        model=[*MODELS, nn.ReLU()], folder=[None, 3, b"a", ["a"]])),
]


# ---------------------------------------------------------------- lesson 15

ADAPTER, PLACES = TemporaryDirectory(), torch.tensor([1, 3])


def adapted(rank: object, model: object = ..., **given: Any) -> GPT2Model:
    """Return a model with an adapter; MODEL itself stays as it is."""
    return add_lora(fresh() if model is ... else model, rank, **given)


def kept(model: object, folder: object = ADAPTER.name, **given: Any) -> None:
    save_adapter(model, folder, **given)


def opened(model: object = ..., folder: object = ADAPTER.name) -> GPT2Model:
    return load_adapter(fresh() if model is ... else model, folder)


kept(adapted(1))
FINETUNING = [
    Door("answer_targets", answer_targets,
         dict(input_ids=IDS, starts=PLACES, ends=PLACES), dict(
              input_ids=[None, "abc", 3, [[1]], IDS[0], IDS.float()],
              starts=[None, "a", 3, [1, 2], PLACES[:1], PLACES.float(), IDS],
              ends=[None, "a", 3, [1, 2], PLACES[:1], PLACES.float(), IDS])),
    Door("encode_requests", encode_requests, dict(
        examples=[("a", "b")], tokenizer=Tokenizer(), length=5), dict(
        examples=[None, "ab", 3, [], ["ab", 3], [("a",)], [("a", 3)], [(None, "b")]],
        tokenizer=[None, "gpt2", 3], length=whole(2))),
    *(Door(f"{function.__name__}", function, dict(tokenizer=Tokenizer(), **more), dict(
        tokenizer=[None, "gpt2", 3], **{name: [None, 3, b"a", ["a"]] for name in more}))
      for function, more in ((request_ids, dict(prompt="a")), (end_of_answer, {}))),
    Door("answer_loss", answer_loss, dict(model=MODEL, ids=IDS, targets=IDS), dict(
        model=[*MODELS, nn.ReLU()], ids=[None, "abc", 3, [[1]], IDS[0], IDS.float()],
        targets=[None, "abc", 3, IDS[:1], IDS.float(), torch.full_like(IDS, -100)],
        batch_size=whole())),
    Door("LoRALinear", LoRALinear,
         dict(linear=nn.Linear(3, 2), rank=1, alpha=1.0), dict(
        linear=[*MODELS, nn.ReLU(), nn.Embedding(3, 2)], rank=whole(1, 2),
        alpha=real(0, -1))),
    Door("add_lora", adapted, dict(rank=1), dict(
        model=[*MODELS, nn.ReLU()], rank=whole(1, 16), alpha=real(0, -1, none=True),
        names=["qkv_proj", [], ["tok_emb"], [3], 3])),
    *(Door(function.__name__, function, dict(model=MODEL), dict(model=MODELS))
      for function in (lora_layers, lora_state, merge_lora)),
    Door("save_adapter", kept, dict(model=adapted(1)), dict(
        model=[*MODELS, MODEL], folder=[None, 3, b"a", ["a"]], base=[3, ["a"]])),
    Door("load_adapter", opened, dict(folder=ADAPTER.name), dict(
        model=[*MODELS, nn.ReLU()], folder=PATHS)),
]


def tried(doors: list[Door]) -> dict[str, tuple[str, str]]:
    """Return the outcome and the error of every call."""
    return {name: outcome(call) for door in doors for name, call in door.calls()}


def report(results: dict[str, tuple[str, str]]) -> str:
    """Return the counts for each function."""
    counts: dict[str, Counter] = {}
    for name, (kind, _) in results.items():
        counts.setdefault(name.split("(")[0], Counter())[kind] += 1
    counts["all"] = sum(counts.values(), Counter())
    kinds = ("clear", "raw", "silent")
    rows = [f"{name:36}" + "".join(f"{found[kind]:8}" for kind in kinds)
            for name, found in counts.items()]
    return "\n".join([f"{'':36}" + "".join(f"{kind:>8}" for kind in kinds), *rows])


DOORS = [*LESSONS, *CORPORA, *PICTURES, *TRAINING, *FINETUNING]
LESSONS_WITH_DOORS = ["attention", "causal_masking", "multi_head", "feed_forward",
                      "layer_norm", "generation", "gpt2_model", "measuring",
                      "looking_inside", "finetuning"]


def public() -> set[str]:
    """Return the names of functions and classes that the modules with doors export."""
    modules = [import_module(f"gpt2_lesson.{word}") for word in LESSONS_WITH_DOORS]
    names = {name for module in modules for name in module.__all__
             if callable(getattr(module, name))}
    names |= {name for name in gpt2_lesson.__all__
              if callable(getattr(gpt2_lesson, name)) and not name.endswith("Error")}
    made = {"Record", "Comparison", "Figure", "token_name"}      # by the others
    return names | {f"plots.{name}" for name in plots.__all__ if name not in made} | {
        f"widgets.{name}" for name in widgets.__all__ if name not in made}

if __name__ == "__main__":
    found = tried(DOORS)
    for name, (kind, said) in found.items():
        if kind != "clear" or "-v" in sys.argv:
            print(f"{kind:7} {name}: {said[:150]}")
    print(report(found))
