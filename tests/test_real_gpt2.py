"""Real GPT-2 files: transformers' numbers, both ways; every naming; no bad file."""

import json
import math
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers.activations import ACT2FN

from gpt2_lesson import feed_forward, gpt2_model
from gpt2_lesson.checkpoints import parameter_shapes
from gpt2_lesson.files import CheckpointError, read_json
from gpt2_lesson.generation import evaluating, generate
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config, GPT2Model
from gpt2_lesson.layer_norm import LayerNorm
from gpt2_lesson.model_files import (
    plain_name,
    read_config,
    read_tensors,
    weight_files,
)
from gpt2_lesson.real_gpt2 import (
    PARAMETER_NAMES,
    convert_state_dict,
    load_gpt2,
    save_gpt2,
    to_hf_name,
)
from gpt2_lesson.runs.models import open_model
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import next_token_loss

TWO = GPT2Config(97, d_model=32, num_heads=4, num_layers=2, max_seq_length=40, d_ff=128)
TWELVE = replace(TWO, d_model=48, num_layers=12, d_ff=80, dropout=0.2)
INDEX = "model.safetensors.index.json"
Tensors = dict[str, Tensor]


@torch.no_grad()
def heat(model: nn.Module, positions: float = 30.0) -> nn.Module:
    """Draw every weight, norm and bias large enough to be noticed, in either GPT-2.

    Loud `positions` keep greedy text lively; with quiet ones the first stream is small
    enough to feel a wrong eps.
    """
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.normal_(float("ln_" in name and name.endswith("weight")), 0.3)
        else:
            loud = positions if "wpe" in name or "pos_emb" in name else 2.5
            p.normal_(std=loud / math.sqrt(p.size(0 if ".c_" in name else 1)))
    return model.eval()


def hot_model(config: GPT2Config = TWO, positions: float = 30.0) -> GPT2Model:
    return heat(GPT2Model(**asdict(config)), positions)


def their_config(config: GPT2Config) -> transformers.GPT2Config:
    return transformers.GPT2Config(
        vocab_size=config.vocab_size,
        n_embd=config.d_model,
        n_head=config.num_heads,
        n_layer=config.num_layers,
        n_positions=config.max_seq_length,
        n_inner=None if config.d_ff == 4 * config.d_model else config.d_ff,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        bos_token_id=0,
        eos_token_id=0,
    )


def pair(
    writer: str,
    folder: Path,
    config: GPT2Config,
    dtype: torch.dtype = torch.float64,
    positions: float = 30.0,
) -> tuple[GPT2Model, transformers.GPT2LMHeadModel]:
    """Return one model twice: `writer` wrote a file, the other side read it."""
    if writer == "theirs":
        theirs = transformers.GPT2LMHeadModel(their_config(config))
        heat(theirs, positions).save_pretrained(folder)
        return load_gpt2(folder, dtype), theirs.to(dtype)
    ours = hot_model(config, positions)
    save_gpt2(ours, folder)
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
        folder, dtype=dtype, output_loading_info=True
    )
    assert not any(report.values()), report
    return ours.to(dtype), theirs.eval()


def random_ids(*shape: int, config: GPT2Config = TWO, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, shape, generator=generator)


@torch.no_grad()
def stages(ours: GPT2Model, theirs: nn.Module, ids: Tensor) -> dict[str, tuple]:
    """Return each stage's values of both: the stream, the last norm, the logits."""
    found, last = [], []
    with ExitStack() as hooks:
        for part in (*ours.blocks, ours.ln_final):
            hooks.enter_context(
                part.register_forward_pre_hook(lambda _, args: found.append(args[0]))
            )
        hooks.enter_context(
            ours.ln_final.register_forward_hook(
                lambda _, __, result: found.append(result)
            )
        )
        hooks.enter_context(
            theirs.transformer.ln_f.register_forward_pre_hook(
                lambda _, args: last.append(args[0])
            )
        )
        logits = ours(ids)
        result = theirs(ids, output_hidden_states=True)
    *streams, normed = result.hidden_states  # not the last block's own
    blocks = [f"block {layer}" for layer in range(len(ours.blocks))]
    return dict(
        zip(
            ["embeddings", *blocks, "last norm", "logits"],
            zip(
                [*found, logits], [*streams, *last, normed, result.logits], strict=True
            ),
            strict=True,
        )
    )


def check_parity(
    ours: GPT2Model,
    theirs: nn.Module,
    ids: Tensor,
    off: float,
    only: str = "",
) -> None:
    """Raise AssertionError, naming the first stage (or `only` one), unless all agree.

    `off` is the limit for the logits; streams that grow beyond 10 may differ by as much
    more.
    """
    for name, (found, expected) in stages(ours, theirs, ids).items():
        if name == only or not only:
            assert found.dtype == expected.dtype, name
            scale = 1 if name == "logits" else max(1, expected.abs().max().item() / 10)
            gap = (found - expected).abs().max().item()
            assert gap <= off * scale, f"{name}: differs by {gap:.1e}"


# The same numbers as transformers, whoever wrote the file

both_ways = pytest.mark.parametrize("writer", ["theirs", "ours"])


@both_ways
@pytest.mark.parametrize("config", [TWO, TWELVE], ids=["2 layers", "12 layers"])
@pytest.mark.parametrize("dtype, off", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_every_stage_and_the_perplexity_equal_those_of_transformers(
    writer: str, config: GPT2Config, dtype: torch.dtype, off: float, tmp_path: Path
) -> None:
    ours, theirs = pair(writer, tmp_path, config, dtype)
    assert ours.config == config and not ours.training
    ids = random_ids(3, 40)
    check_parity(ours, theirs, ids, off)
    check_parity(ours, theirs, ids[:1, :1], off)
    with torch.no_grad():
        logits, result = ours(ids), theirs(ids, labels=ids)
    assert 7 < logits.abs().max() < 40
    perplexity, expected = (
        F.cross_entropy(x[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).exp()
        for x in (logits, result.logits)
    )
    assert_close(perplexity, expected, atol=0, rtol=off)
    loss = next_token_loss(logits, ids).item()  # both programs': in float32
    assert loss == pytest.approx(result.loss.item(), abs=1e-5)


@both_ways
def test_greedy_text_of_200_prompts_is_the_same(writer: str, tmp_path: Path) -> None:
    ours, theirs = pair(writer, tmp_path, TWELVE, positions=80.0)
    theirs.generation_config.eos_token_id = None
    texts = set()
    for length in range(1, 11):
        ids = random_ids(20, length, seed=length)
        expected = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=30,
            do_sample=False,
            pad_token_id=0,
        )
        assert torch.equal(generate(ours, ids, 30, temperature=0), expected)
        texts |= set(map(tuple, expected[:, length:].tolist()))
    assert len(texts) > 150 and min(len(set(text)) for text in texts) >= 8


def test_the_small_gpt2_goes_to_ours_and_back(tmp_path: Path) -> None:
    config = GPT2_SIZES["gpt2"]
    theirs = heat(transformers.GPT2LMHeadModel(their_config(config)))
    theirs.save_pretrained(tmp_path)
    try:
        ours, ids = load_gpt2(tmp_path), random_ids(1, 12, config=config)
        assert ours.config == config
        check_parity(ours, theirs, ids, 1e-4)
        save_gpt2(ours, tmp_path)
        del theirs
        theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
        check_parity(ours, theirs, ids, 1e-4)
    finally:  # half a gigabyte
        (tmp_path / "model.safetensors").unlink()


# Wrong loaders, which the same comparison must notice, and where

Wrong = Callable[[GPT2Model, pytest.MonkeyPatch], object]


def linear(wrong: Callable[[Tensor, Tensor], Tensor]) -> Wrong:
    there = SimpleNamespace(linear=wrong)
    return lambda _, patch: patch.setattr(gpt2_model, "F", there)


def eps(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    for norm in model.modules():
        if isinstance(norm, LayerNorm):
            norm.eps = 1e-6


def no_scaling(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    width, heads = model.config.d_model, model.config.num_heads
    for block in model.blocks:
        for p in (block.attn.qkv_proj.weight, block.attn.qkv_proj.bias):
            p[:width] *= math.sqrt(width / heads)


def square_not_transposed(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    for block in model.blocks:
        weight = block.attn.out_proj.weight
        weight.copy_(weight.T.clone())


def layers(order: Callable[[list[int]], list[int]]) -> Wrong:
    def wrong(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
        numbers = order(list(range(len(model.blocks))))
        model.blocks = nn.ModuleList(model.blocks[number] for number in numbers)

    return wrong


def thirds(*order: int) -> Wrong:
    """Put the thirds of c_attn (queries, keys, values) into another order."""

    def wrong(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
        for block in model.blocks:
            for p in (block.attn.qkv_proj.weight, block.attn.qkv_proj.bias):
                parts = p.clone().chunk(3)
                p.copy_(torch.cat([parts[i] for i in order]))

    return wrong


def norms_swapped(model: GPT2Model, _: pytest.MonkeyPatch) -> None:
    for block in model.blocks:
        block.ln_attn, block.ln_mlp = block.ln_mlp, block.ln_attn


def forgotten(name: str, value: float = 0.0) -> Wrong:
    return lambda model, _: model.get_parameter(name).fill_(value)


WRONG: dict[str, tuple[Wrong, str]] = {
    "erf GELU": (
        lambda _, patch: patch.setattr(feed_forward, "gelu", F.gelu),
        "block 0",
    ),
    "eps 1e-6": (eps, "block 0"),
    "no positions": (forgotten("pos_emb.weight"), "embeddings"),
    "positions from one": (
        lambda model, _: model.pos_emb.weight.copy_(model.pos_emb.weight.roll(-1, 0)),
        "embeddings",
    ),
    "no scaling": (no_scaling, "block 0"),
    "square matrix not transposed": (square_not_transposed, "block 0"),
    "untied head": (
        linear(lambda x, table: x @ torch.zeros_like(table).normal_().T),
        "logits",
    ),
    "layers in string order": (layers(lambda order: sorted(order, key=str)), "block 2"),
    "last two layers swapped": (layers(lambda o: [*o[:10], 11, 10]), "block 10"),
    "q and k swapped": (thirds(1, 0, 2), "block 0"),
    "k and v swapped": (thirds(0, 2, 1), "block 0"),
    "ln_1 and ln_2 swapped": (norms_swapped, "block 0"),
    "no bias of c_attn": (forgotten("blocks.7.attn.qkv_proj.bias"), "block 7"),
    "no bias of attn.c_proj": (forgotten("blocks.5.attn.out_proj.bias"), "block 5"),
    "no bias of c_fc": (forgotten("blocks.0.mlp.up_proj.bias"), "block 0"),
    "no bias of mlp.c_proj": (forgotten("blocks.11.mlp.down_proj.bias"), "block 11"),
    "no bias of ln_1": (forgotten("blocks.9.ln_attn.bias"), "block 9"),
    "no weight of ln_2": (forgotten("blocks.3.ln_mlp.weight", 1.0), "block 3"),
    "no bias of ln_f": (forgotten("ln_final.bias"), "last norm"),
    "no weight of ln_f": (forgotten("ln_final.weight", 1.0), "last norm"),
}


@both_ways
@pytest.mark.parametrize("wrong, stage", WRONG.values(), ids=WRONG)
def test_the_comparison_notices_a_wrong_loader_and_says_where(
    wrong: Wrong,
    stage: str,
    writer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positions = 0.1 if wrong is eps else 30.0
    ours, theirs = pair(writer, tmp_path, TWELVE, positions=positions)
    ids = random_ids(2, 12)
    check_parity(ours, theirs, ids, 1e-10)
    with torch.no_grad():
        wrong(ours, monkeypatch)
    with pytest.raises(AssertionError, match=f"^{stage}: differs"):
        check_parity(ours, theirs, ids, 1e-9)
    with pytest.raises(AssertionError, match="^logits: differs"):
        check_parity(ours, theirs, ids, 1e-4, only="logits")


# Every name that a real file gives to the same tensors


def write(folder: Path, tensors: Tensors, **changes: object) -> None:
    """Put a model's two files into `folder`; the sizes are those of TWO."""
    folder.mkdir(exist_ok=True)
    about = {
        "vocab_size": 97,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 40,
    } | changes
    (folder / "config.json").write_text(json.dumps(about), "utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def plain_tensors(folder: Path, config: GPT2Config = TWO) -> tuple[GPT2Model, Tensors]:
    """Return a model with large weights, and its tensors as save_gpt2 names them."""
    model = hot_model(config)
    save_gpt2(model, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return model, {name: values.clone() for name, values in tensors.items()}


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: v for name, v in tensors.items()}


def masks(tensors: Tensors) -> Tensors:
    mask = torch.ones(1, 1, 40, 40).tril()
    kinds = [mask.byte(), mask.bool()]  # as older and newer programs do
    return (
        tensors
        | {f"h.{i}.attn.bias": kinds[i] for i in range(2)}
        | {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    )


def head(tensors: Tensors) -> Tensors:
    return tensors | {"lm_head.weight": tensors["wte.weight"].clone()}


def openai(tensors: Tensors) -> Tensors:
    def short(name: str) -> str:
        letter = "g" if "ln_" in name else "w"
        return name.replace(".weight", f".{letter}").replace(".bias", ".b")

    return {short(name): values for name, values in tensors.items()}


def transformers_head(tensors: Tensors) -> Tensors:
    return prefixed("transformer.")(tensors) | {
        "lm_head.weight": tensors["wte.weight"].clone()
    }


NAMINGS = {
    prefix or "no prefix": prefixed(prefix)
    for prefix in (
        "",
        "transformer.",
        "module.",
        "_orig_mod.",
        "model.",
        "module.transformer.",
        "_orig_mod.module.transformer.",
        "model.transformer.",
        "module._orig_mod.model.",
    )
} | {
    "masks": masks,
    "head": head,
    "OpenAI's endings": openai,
    "transformers' names with a head": transformers_head,
    "all at once": lambda t: prefixed("_orig_mod.module.transformer.")(
        openai(head(masks(t)))
    ),
}


@pytest.mark.parametrize("rename", NAMINGS.values(), ids=NAMINGS)
def test_every_naming_loads_the_same_weights(
    rename: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    model, tensors = plain_tensors(tmp_path)
    write(tmp_path, rename(tensors))
    assert same(load_gpt2(str(tmp_path)), model)


def test_shards_load_the_same_weights(tmp_path: Path) -> None:
    model, tensors = plain_tensors(tmp_path)
    names, where = [f"model-{i}-of-3.safetensors" for i in range(3)], {}
    for i, shard in enumerate(names):  # no block lies in one file
        part = prefixed("transformer.")(dict(list(masks(tensors).items())[i::3]))
        save_file(part, tmp_path / shard)
        where |= dict.fromkeys(part, shard)
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert weight_files(tmp_path) == [tmp_path / name for name in names]
    assert same(load_gpt2(tmp_path), model)


def test_shards_of_transformers_load(tmp_path: Path) -> None:
    theirs = heat(transformers.GPT2LMHeadModel(their_config(TWELVE)))
    theirs.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(weight_files(tmp_path)) > 3
    ours = load_gpt2(tmp_path, torch.float64)
    check_parity(ours, theirs.double(), random_ids(2, 12), 1e-10)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_types_are_converted(
    stored: torch.dtype, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, tensors = plain_tensors(tmp_path)
    write(tmp_path, head({name: v.to(stored) for name, v in tensors.items()}))
    loaded = load_gpt2(tmp_path, dtype)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert same(loaded, model.to(stored).to(dtype))
    if dtype == torch.float32:
        assert {p.dtype for p in load_gpt2(tmp_path).parameters()} == {dtype}


def test_a_model_in_bfloat16_is_written_in_bfloat16(tmp_path: Path) -> None:
    model = hot_model().bfloat16()
    save_gpt2(model, tmp_path)
    assert same(load_gpt2(tmp_path, torch.bfloat16), model)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {values.dtype for values in tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "name, config",
    [
        *GPT2_SIZES.items(),
        ("distilgpt2", GPT2Config(num_layers=6)),
        ("dropout", GPT2Config(dropout=0.0)),
        ("d_ff", GPT2Config(d_ff=1000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_config_json_as_transformers_writes_it(
    name: str, config: GPT2Config, tmp_path: Path
) -> None:
    their_config(config).save_pretrained(tmp_path)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"activation_function": "gelu_pytorch_tanh"},
        {"n_inner": None},
        {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_ctx": 1024,
            "summary_activation": None,
            "layer_norm_epsilon": 1e-05,
            "activation_function": "gelu_new",
            "resid_pdrop": 0.1,
            "task_specific_params": {"text-generation": {"do_sample": True}},
        },
    ],
    ids=["bare", "gelu_pytorch_tanh", "n_inner null", "as published in 2019"],
)
def test_config_json_of_old_and_bare_files(more: dict, tmp_path: Path) -> None:
    about = {
        "vocab_size": 50257,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
    } | more
    (tmp_path / "config.json").write_text(json.dumps(about), "utf-8")
    assert read_config(str(tmp_path)) == GPT2_SIZES["gpt2"]


def test_what_is_saved_is_what_transformers_expects(tmp_path: Path) -> None:
    folder, model = tmp_path / "new" / "folder", hot_model(TWELVE)
    save_gpt2(model, str(folder))
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    with safe_open(folder / "model.safetensors", "pt") as file:
        header = file.metadata()
        assert header["format"] == "pt"
        saved = json.loads(header["config.json"])
        saved["weights_sha256"] = header["sha256"]
        assert read_json(folder / "config.json") == saved
        assert set(file.keys()) == {to_hf_name(name) for name in model.state_dict()}
    about = transformers.AutoConfig.from_pretrained(folder)
    known = their_config(TWELVE).to_dict()
    for name in (
        "vocab_size",
        "n_embd",
        "n_head",
        "n_layer",
        "n_positions",
        "n_inner",
        "activation_function",
        "layer_norm_epsilon",
        "resid_pdrop",
        "scale_attn_weights",
        "tie_word_embeddings",
        "model_type",
    ):
        assert getattr(about, name) == known[name], name
    assert about.embd_pdrop == about.attn_pdrop == 0.2
    assert about.bos_token_id == about.eos_token_id == 96
    assert about.architectures == ["GPT2LMHeadModel"]
    assert same(load_gpt2(folder), model) and load_gpt2(folder).config == TWELVE


def test_a_save_replaces_the_shards_of_an_older_model(tmp_path: Path) -> None:
    heat(transformers.GPT2LMHeadModel(their_config(TWO))).save_pretrained(
        tmp_path, max_shard_size="40KB"
    )
    assert len(weight_files(tmp_path)) > 1
    model = hot_model()
    save_gpt2(model, tmp_path)
    assert same(load_gpt2(tmp_path), model)


# The table of names


@pytest.mark.parametrize("config", [TWO, TWELVE], ids=["2 layers", "12 layers"])
def test_the_table_covers_exactly_both_models(config: GPT2Config) -> None:
    def all_of(patterns: list[str]) -> list[str]:
        return sorted(
            {
                pattern.format(layer)
                for pattern in patterns
                for layer in range(config.num_layers)
            }
        )

    theirs = transformers.GPT2LMHeadModel(their_config(config)).state_dict()
    assert torch.equal(theirs.pop("lm_head.weight"), theirs["transformer.wte.weight"])
    expected = sorted(name.removeprefix("transformer.") for name in theirs)
    ours = list(GPT2Model(**asdict(config)).state_dict())
    assert all_of(PARAMETER_NAMES) == sorted(ours)
    assert all_of(PARAMETER_NAMES.values()) == expected
    assert sorted(map(to_hf_name, ours)) == expected


@pytest.mark.parametrize(
    "name",
    ["tok_emb.bias", "blocks.0.attn.bias", "blocks.attn.out_proj.bias", "wte.weight"],
)
def test_a_parameter_without_a_name_of_theirs_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        to_hf_name(name)


def test_only_known_prefixes_are_taken_off() -> None:
    for name in ("h.0.attn.c_attn.weight", "encoder.wte.weight", "h.1.model.bias"):
        assert plain_name(name) == name


# What loading costs, in a process of its own

PEAK = """
import json, sys, time
from gpt2_lesson.real_gpt2 import load_gpt2

def peak():                                   # bytes, of this program alone
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(l.split()[1]) for l in lines if l.startswith("VmHWM"))

load_gpt2(sys.argv[1])                        # imports what is imported at first use
start, before = time.process_time(), peak()
"""
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def in_a_fresh_process(program: str, *folders: Path) -> object:
    done = subprocess.run(
        [sys.executable, "-c", PEAK + program, *map(str, folders)],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


HOSTILE = """
loaded = []
for folder in sys.argv[2:]:
    try:
        loaded.append(load_gpt2(folder) and folder)
    except Exception:
        pass
print(json.dumps([loaded, peak() - before, time.process_time() - start]))
"""


# Padded vocabularies, names of one formula, several dropout rates


def test_the_padding_of_a_vocabulary_is_never_sampled(tmp_path: Path) -> None:
    """As nanoGPT's 50,304 for 50,257: here 320 for 300."""
    padded = hot_model(replace(TWO, vocab_size=320))
    with torch.no_grad():
        padded.tok_emb.weight[300:] *= 9  # else hardly any would be drawn
    save_gpt2(padded, tmp_path)
    tokenizer = Tokenizer.train(Path(__file__).read_text("utf-8"), 300, ())
    tokenizer.save(tmp_path)
    assert same(load_gpt2(tmp_path), padded)
    model = load_gpt2(tmp_path, vocab_size=np.int64(300))
    ids = torch.randint(300, (2, 9))
    assert_close(model(ids), padded(ids)[..., :300])
    assert model.tok_emb.weight.untyped_storage().nbytes() == 300 * 32 * 4
    opened = open_model(str(tmp_path))[0]
    for each, most in ((padded, 319), (model, 299), (opened, 299)):
        drawn = generate(each, ids, 400, generator=torch.Generator().manual_seed(0))
        assert 290 < drawn.max() <= most
        if most == 299:
            tokenizer.decode(drawn[0])
    with pytest.raises(CheckpointError, match="320 tokens, expected 321 or more"):
        load_gpt2(tmp_path, vocab_size=321)
    Tokenizer().save(tmp_path)  # 256: 64 fewer, as if padded
    assert open_model(str(tmp_path))[0].config.vocab_size == 256
    save_gpt2(hot_model(replace(TWO, vocab_size=310)), tmp_path)
    with pytest.raises(ValueError, match="model of 310 tokens and a vocabulary of 256"):
        open_model(str(tmp_path))


def test_every_name_of_the_tanh_gelu_is_accepted_and_no_other(tmp_path: Path) -> None:
    save_gpt2(hot_model(), tmp_path)
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    expected = F.gelu(x, approximate="tanh")
    seen = Counter()
    for name in ACT2FN:
        try:
            same_formula = (ACT2FN[name](x) - expected).abs().max() < 1e-9
        except Exception:  # one that needs other packages
            continue
        setting(activation_function=name)(tmp_path)
        seen[bool(same_formula)] += 1
        if same_formula:
            load_gpt2(tmp_path)
        else:
            with pytest.raises(CheckpointError, match="activation_function"):
                load_gpt2(tmp_path)
    assert seen[True] >= 4 and seen[False] >= 10


@pytest.mark.parametrize("name", ["embd_pdrop", "attn_pdrop"])
def test_another_dropout_rate_gives_a_warning(name: str, tmp_path: Path) -> None:
    save_gpt2(hot_model(), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_gpt2(tmp_path)
    setting(**{name: 0.3})(tmp_path)
    with pytest.warns(UserWarning, match=f"{name} is 0.3.* one dropout rate"):
        assert load_gpt2(tmp_path).config.dropout == TWO.dropout


# What is written can be read


def test_compiled_and_wrapped_models_are_saved_and_foreign_ones_refused(
    tmp_path: Path,
) -> None:
    model = hot_model()
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        save_gpt2(wrapped, tmp_path)
        assert same(load_gpt2(tmp_path), model)
    model.blocks[0].attn.adapter = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="does not have: blocks.0.attn.adapter.bias"):
        save_gpt2(model, tmp_path)


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    model = hot_model()
    for i in range(8):
        save_gpt2(model, tmp_path / str(i))
    for name in ("model.safetensors", "config.json"):
        assert len({(tmp_path / str(i) / name).read_bytes() for i in range(8)}) == 1


@pytest.mark.slow
def test_2000_damages_of_saved_weights_none_silent(tmp_path: Path) -> None:
    model, draw, path = hot_model(), random.Random(0), tmp_path / "model.safetensors"
    save_gpt2(model, tmp_path)
    right, silent = path.read_bytes(), 0
    for _ in range(2000):
        data = bytearray(right)
        at = draw.randrange(len(data))
        kind = draw.randrange(4)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + 512] = bytes(min(512, len(data) - at))
        elif kind == 2:
            del data[at:]
        else:
            data += bytes(draw.randrange(1, 9))
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a config.json that is older
                silent += not same(load_gpt2(tmp_path), model)
        except (CheckpointError, FileNotFoundError):
            pass
    assert silent == 0


@linux
@pytest.mark.slow
def test_many_small_tensors_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    """5,000 blocks of empty tensors, of one number each, and names without blocks."""
    names = [name.format(i) for name in PARAMETER_NAMES.values() for i in range(5000)]
    for count, size in ((5000, 0), (5000, 1), (1000, 0), (3, 0)):
        folder = tmp_path / f"{count}_{size}"
        folder.mkdir()
        save_file(
            {name: torch.zeros(size) for name in names}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(
            json.dumps(
                {
                    "vocab_size": 1,
                    "n_embd": 1,
                    "n_head": 1,
                    "n_layer": count,
                    "n_positions": 1,
                }
            )
        )
    save_gpt2(hot_model(), tmp_path / "tiny")
    loaded, grown, seconds = in_a_fresh_process(
        HOSTILE, tmp_path / "tiny", *sorted(tmp_path.glob("*_*"))
    )
    assert loaded == [] and grown < 200e6 and seconds < 40


# Refused, and the message says which file and what

Break = Callable[[Path], object]


def weights(change: Callable[[Tensors], Tensors]) -> Break:
    """Put `change(tensors)` into a folder's file in place of its tensors."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path)

    return damage


def without(name: str) -> Break:
    return weights(lambda t: {n: v for n, v in t.items() if n != name})


def add(**tensors: Tensor) -> Break:
    """Put tensors into the file; `__` in a name stands for a dot."""
    named = {name.replace("__", "."): values for name, values in tensors.items()}
    return weights(lambda old: old | named)


def setting(**changes: object) -> Break:
    """Change config.json; None takes the entry out."""

    def damage(folder: Path) -> None:
        path = folder / "config.json"
        about = json.loads(path.read_text("utf-8")) | changes
        about = {name: v for name, v in about.items() if v is not None}
        path.write_text(json.dumps(about), "utf-8")

    return damage


def raw(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content)


def index(content: object) -> Break:
    return raw(INDEX, json.dumps(content).encode())


def cut(at: int) -> Break:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:at])

    return damage


def foreign_without_config(folder: Path) -> None:
    weights(lambda tensors: tensors)(folder)  # without our header
    (folder / "config.json").unlink()


def one_shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})(folder)


def one_shard_damaged(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes(b"")
    index({"weight_map": {"x": "model.safetensors", "y": "b.safetensors"}})(folder)


def gone(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


Z = torch.zeros
C_ATTN, TABLE = "h.0.attn.c_attn.weight", "wte.weight"
OURS = "another model"
REFUSED = [
    # tensors
    ("one missing", without("h.1.mlp.c_proj.bias"), ["lacks h.1.mlp.c_proj.bias"]),
    ("no table", without(TABLE), ["lacks wte.weight"]),
    (
        "unexpected",
        add(h__1__attn__rotary__weight=Z(4)),
        ["GPT-2 does not have: h.1.attn.rotary.weight"],
    ),
    ("two unexpected", add(b__weight=Z(4), a__weight=Z(4)), ["a.weight, b.weight"]),
    (
        "turned already",
        weights(lambda t: t | {C_ATTN: t[C_ATTN].T.contiguous()}),
        [C_ATTN, "is torch.float32 (96, 32)", "expected (32, 96)"],
    ),
    (
        "another width of c_fc",
        add(h__0__mlp__c_fc__weight=Z(32, 80)),
        ["h.0.mlp.c_fc.weight", "(32, 80)", "expected (32, 128)"],
    ),
    (
        "OpenAI's third axis",
        weights(lambda t: t | {C_ATTN: t[C_ATTN][None]}),
        [C_ATTN, "(1, 32, 96)", "expected (32, 96)"],
    ),
    (
        "one block more",
        weights(
            lambda t: (
                t
                | {
                    n.replace("h.1", "h.2"): v.clone()
                    for n, v in t.items()
                    if "h.1" in n
                }
            )
        ),
        ["says 2 blocks", "have 3"],
    ),
    ("one block less", setting(n_layer=3), ["says 3 blocks", "have 2"]),
    (
        "the wrong number",
        weights(lambda t: {n.replace("h.1", "h.2"): v for n, v in t.items()}),
        ["lacks h.1."],
    ),
    (
        "two names",
        add(transformer__wte__weight=Z(97, 32)),
        ["model.safetensors", "wte.weight is stored twice, as transformer.wte.weight"],
    ),
    ("two endings", add(ln_f__g=Z(32)), ["ln_f.weight is stored twice"]),
    (
        "another head",
        weights(lambda t: t | {"lm_head.weight": t[TABLE] + 1}),
        ["lm_head.weight", "not the embedding matrix"],
    ),
    (
        "one number of the head",
        weights(
            lambda t: (
                t | {"lm_head.weight": t[TABLE].index_fill(0, torch.tensor([96]), 0.0)}
            )
        ),
        ["lm_head.weight", "not the embedding matrix"],
    ),
    ("a longer head", add(lm_head__weight=Z(128, 32)), ["lm_head.weight"]),
    (
        "an integer matrix",
        add(h__0__attn__c_attn__weight=Z(32, 96).char()),
        [C_ATTN, "torch.int8"],
    ),
    ("an integer table", add(wte__weight=Z(97, 32).long()), [TABLE, "torch.int64"]),
    (
        "a short bias",
        add(h__0__ln_1__bias=Z(7)),
        ["h.0.ln_1.bias", "(7,)", "expected (32,)"],
    ),
    (
        "an integer bias",
        add(h__0__ln_1__bias=Z(32).long()),
        ["h.0.ln_1.bias", "torch.int64"],
    ),
    (
        "a flat matrix",
        add(h__0__attn__c_attn__weight=Z(3072)),
        [C_ATTN, "(3072,)", "expected (32, 96)"],
    ),
    ("a short table", add(wte__weight=Z(96, 32)), [TABLE, "(96, 32)", "(97, 32)"]),
    # config.json
    (
        "erf",
        setting(activation_function="gelu"),
        ["config.json", "activation_function is 'gelu'", "'gelu_new'", OURS],
    ),
    ("relu", setting(activation_function="relu"), ["config.json", "'relu'", OURS]),
    (
        "eps",
        setting(layer_norm_epsilon=1e-6),
        ["config.json", "layer_norm_epsilon is 1e-06", OURS],
    ),
    ("no scaling", setting(scale_attn_weights=False), ["scale_attn_weights", OURS]),
    (
        "scaling by layer",
        setting(scale_attn_by_inverse_layer_idx=True),
        ["config.json", "scale_attn_by_inverse_layer_idx is True", OURS],
    ),
    ("untied", setting(tie_word_embeddings=False), ["tie_word_embeddings", OURS]),
    *(
        (f"no {name}", setting(**{name: None}), ["config.json", repr(name)])
        for name in ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions")
    ),
    ("heads", setting(n_head=5), ["config.json", "32", "5", "multiple"]),
    ("0 blocks", setting(n_layer=0), ["config.json", "num_layers is 0"]),
    ("-1 tokens", setting(vocab_size=-1), ["config.json", "vocab_size is -1"]),
    ("a word", setting(n_embd="32"), ["config.json", "d_model is '32'"]),
    ("a fraction", setting(n_positions=40.5), ["max_seq_length is 40.5"]),
    ("a list", setting(n_head=[4]), ["config.json", "num_heads is [4]"]),
    ("dropout", setting(resid_pdrop=2), ["config.json", "dropout is 2"]),
    ("10**9 blocks", setting(n_layer=10**9), ["1000000000", "at most 1000"]),
    ("10**30 blocks", setting(n_layer=10**30), ["64 bits"]),
    ("width 10**7", setting(n_embd=10**7), [TABLE, "expected (97, 10000000)"]),
    ("10**12 tokens", setting(vocab_size=10**12), [TABLE, "1000000000000"]),
    ("10**9 positions", setting(n_positions=10**9), ["wpe.weight", "1000000000"]),
    ("d_ff 10**9", setting(n_inner=10**9), ["c_fc", "1000000000"]),
    ("10**9 heads", setting(n_head=10**9), ["config.json", "multiple"]),
    *(
        (f"{name} {value:.0e}", setting(**{name: value}), [])
        for name in ("n_embd", "vocab_size", "n_positions", "n_inner")
        for value in (10**18, 4 * 10**30)
    ),
    ("n_inner 0", setting(n_inner=0), ["config.json", "d_ff is 0"]),
    ("n_inner []", setting(n_inner=[]), ["config.json", "d_ff is []"]),
    ("no JSON", raw("config.json", b"{"), ["config.json", "damaged"]),
    ("no object", raw("config.json", b"[1]"), ["config.json"]),
    ("no UTF-8", raw("config.json", b"\xff\xff"), ["config.json"]),
    ("deep JSON", raw("config.json", b"[" * 200_000), ["config.json"]),
    # files
    ("empty", cut(0), ["model.safetensors", "is empty"]),
    ("no header", cut(6), ["model.safetensors", "damaged"]),
    ("half a header", cut(100), ["model.safetensors", "damaged"]),
    ("half", cut(40_000), ["model.safetensors", "cut off"]),
    ("one byte short", cut(-1), ["model.safetensors", "cut off"]),
    (
        "web page",
        raw("model.safetensors", b"<!DOCTYPE html><html>"),
        ["model.safetensors", "web page"],
    ),
    (
        "git-lfs",
        raw("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ["model.safetensors", "git lfs pull"],
    ),
    ("a pickle of that name", raw("model.safetensors", b"PK\x03\x04"), ["pickle"]),
    (
        "a header of 4 exabytes",
        raw("model.safetensors", b"\xff" * 7 + b"\x3f{}"),
        ["model.safetensors", "damaged"],
    ),
    ("a damaged shard", one_shard_damaged, ["b.safetensors", "is empty"]),
    ("no weight_map", index({"metadata": {}}), [INDEX, "weight_map"]),
    ("empty weight_map", index({"weight_map": {}}), [INDEX, "weight_map"]),
    ("a list of weights", index({"weight_map": ["a"]}), [INDEX, "weight_map"]),
    ("index no JSON", raw(INDEX, b"{"), [INDEX, "damaged"]),
    ("index of numbers", index({"weight_map": {"a": 5}}), [INDEX]),
    ("index of nothing", index({"weight_map": {"a": None}}), [INDEX]),
]
MISSING = [
    ("no weights", gone("model.safetensors"), ["lacks model.safetensors"]),
    ("no config.json", foreign_without_config, ["lacks config.json"]),
    ("a shard", one_shard_missing, ["lacks b.safetensors"]),
    (
        "a name outside",
        index({"weight_map": {"a": "../evil.safetensors"}}),
        ["lacks evil.safetensors"],
    ),
    ("a folder for a shard", index({"weight_map": {"a": ".."}}), ["lacks .."]),
]


def rows(table: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "damage, words",
        [
            pytest.param(*row[1:], id=row[0])
            if isinstance(row, tuple) and isinstance(row[0], str)
            else row
            for row in table
        ],
    )


def check_refused(
    folder: Path, damage: Break, words: list[str], kind: type[Exception]
) -> None:
    save_gpt2(hot_model(), folder)
    load_gpt2(folder)
    damage(folder)
    with pytest.raises(kind) as caught:
        load_gpt2(folder)
    text = str(caught.value)
    assert str(folder) in text
    for word in words:  # the folder's name proves nothing
        assert word in text.replace(str(folder), "")


@rows(REFUSED)
def test_refused_in_words(damage: Break, words: list[str], tmp_path: Path) -> None:
    check_refused(tmp_path, damage, words, CheckpointError)


@rows(MISSING)
def test_missing_in_words(damage: Break, words: list[str], tmp_path: Path) -> None:
    save_gpt2(hot_model(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "evil.safetensors")
    check_refused(tmp_path / "model", damage, words, FileNotFoundError)


def test_an_index_opens_nothing_outside_its_folder(tmp_path: Path) -> None:
    _, tensors = plain_tensors(tmp_path)
    write(tmp_path / "model", tensors)
    evil = tmp_path / "evil.safetensors"
    (tmp_path / "model" / "model.safetensors").rename(evil)
    for name in (
        "../evil.safetensors",
        str(evil),
        f"../{tmp_path.name}/{evil.name}",
        "../model/../evil.safetensors",
    ):
        index({"weight_map": dict.fromkeys(tensors, name)})(tmp_path / "model")
        with pytest.raises(FileNotFoundError, match="lacks evil.safetensors"):
            load_gpt2(tmp_path / "model")
    (tmp_path / "model" / evil.name).symlink_to(evil)  # as in the hub's cache
    load_gpt2(tmp_path / "model")


class Payload:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path(os.environ["MARK"]),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_never_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "ran"))
    save_gpt2(hot_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(pickle.dumps(Payload()))
    said = "is a pickle|only a pickle"  # the folder is called so, too
    with pytest.raises((FileNotFoundError, CheckpointError), match=said) as caught:
        load_gpt2(tmp_path)
    assert str(tmp_path) in str(caught.value) and not (tmp_path / "ran").exists()
    pickle.loads((tmp_path / name).read_bytes())  # and it would have run
    assert (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    model = hot_model()
    save_gpt2(model, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    assert same(load_gpt2(tmp_path), model)


def test_head_and_masks_are_no_parameters_and_the_callers_dictionary_stays() -> None:
    model = hot_model()
    tensors = {
        to_hf_name(n): v.mT if n.endswith("proj.weight") else v
        for n, v in model.state_dict().items()
    }
    tensors = head(tensors)
    names = set(tensors)
    ours = convert_state_dict(tensors, parameter_shapes(model.config), "here")
    assert set(tensors) == names and set(ours) == set(model.state_dict())


# By name, with and without a network


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder; the hub's own is empty too."""
    monkeypatch.chdir(tmp_path)
    hub = str(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", hub)
    monkeypatch.setenv("GPT2_LESSON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_unknown_name_or_folder_is_refused(cache: Path) -> None:
    Path("a_file").touch()
    for name in ("gpt3", "no/such/folder", "a_file", Path("missing")):
        with pytest.raises(FileNotFoundError, match=f"{name}.*gpt2-medium"):
            load_gpt2(name)


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "distilgpt2"])
def test_offline_the_message_says_what_to_put_where(name: str, cache: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_gpt2(name)
    for word in (f"{cache / name}", "config.json", "*.safetensors", "huggingface.co"):
        assert word in str(caught.value)
    assert ".bin" not in str(caught.value)


def test_a_name_is_found_in_the_cache_folder_and_gpt2_is_the_default(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hot_model()
    save_gpt2(model, cache / "gpt2")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert same(load_gpt2(), model) and same(load_gpt2("gpt2"), model)
    foreign_without_config(cache / "gpt2")
    with pytest.raises(FileNotFoundError, match="lacks config.json"):
        load_gpt2("gpt2")


def test_what_is_fetched_is_enough_and_holds_no_pickle(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = hot_model(), []
    save_gpt2(model, cache / "fetched")

    def fetch(repository: str, allow_patterns: list[str], **_: object) -> str:
        asked.extend([repository, *allow_patterns])
        return str(cache / "fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert same(load_gpt2("gpt2-large"), model)
    repository, *patterns = asked
    assert repository == "openai-community/gpt2-large"
    for name in (
        "config.json",
        "model.safetensors",
        INDEX,
        "model-00001-of-00002.safetensors",
    ):
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    for name in ("pytorch_model.bin", "tf_model.h5", "rust_model.ot", "modeling.py"):
        assert not any(fnmatch(name, pattern) for pattern in patterns), name


# Memory and the disk


@linux
@pytest.mark.parametrize("way, most", [("map", 1.3), ("copy", 2.3)])
def test_loading_takes_the_memory_of_the_file_once_or_twice(
    way: str, most: float, tmp_path: Path
) -> None:
    large = GPT2Config(4000, 512, 8, 4, 256, 2048)
    save_gpt2(hot_model(), tmp_path / "tiny")
    save_gpt2(GPT2Model(**asdict(large)), tmp_path / "large")
    path = tmp_path / "large" / "model.safetensors"
    size = path.stat().st_size
    assert 55e6 < size < 65e6
    grown = in_a_fresh_process(
        """
model = load_gpt2(sys.argv[2], mmap=sys.argv[3] == "map")
sum(p.sum() for p in model.parameters()).item()
print(peak() - before)
""",
        tmp_path / "tiny",
        tmp_path / "large",
        way,
    )
    path.unlink()
    assert 0.9 * size < grown < most * size


@linux
@pytest.mark.slow
def test_a_hostile_configuration_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    model, folders = hot_model(), [tmp_path / "tiny"]
    save_gpt2(model, folders[0])
    for name in ("n_layer", "n_embd", "vocab_size", "n_positions", "n_inner", "n_head"):
        for power in (7, 9, 12, 18, 30):
            folders.append(tmp_path / f"{name}_{power}")
            save_gpt2(model, folders[-1])
            setting(**{name: 10**power})(folders[-1])
    loaded, grown, seconds = in_a_fresh_process(HOSTILE, *folders)
    assert loaded == [] and grown < 50e6 and seconds < 20


@linux
@pytest.mark.parametrize("mmap", [False, True])
def test_weights_are_in_the_mapped_file_only_where_asked_for(
    mmap: bool, tmp_path: Path
) -> None:
    save_gpt2(hot_model(), tmp_path)
    model = load_gpt2(tmp_path, mmap=mmap)
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    mapped = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in lines
        if line.endswith(str(tmp_path / "model.safetensors"))
    ]
    for name, p in model.named_parameters():
        assert any(a <= p.data_ptr() < b for a, b in mapped) == mmap, name
        if name.endswith("proj.weight"):
            assert p.stride() == (1, p.size(0)), name


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("way", ["deleted", "replaced", "another model's", "cut", "0s"])
def test_a_loaded_model_outlives_its_file(way: str, mmap: bool, tmp_path: Path) -> None:
    if mmap and way in ("cut", "0s"):
        return  # what the docstring warns of
    model = hot_model()
    save_gpt2(model, tmp_path)
    loaded = load_gpt2(tmp_path, mmap=mmap)  # no page of it has been read yet
    if way in ("cut", "0s"):
        with open(tmp_path / "model.safetensors", "r+b") as file:
            file.write(bytes(10_000))
            file.truncate(10_000 if way == "cut" else None)
    elif way == "deleted":
        (tmp_path / "model.safetensors").unlink()
    else:
        other = hot_model(TWELVE) if way != "replaced" else loaded
        save_gpt2(other, tmp_path)
        assert same(load_gpt2(tmp_path), other)
    assert same(loaded, model)


def test_a_loaded_model_learns_and_its_file_does_not_change(tmp_path: Path) -> None:
    save_gpt2(hot_model(), tmp_path)
    path, ids = tmp_path / "model.safetensors", random_ids(4, 30)
    digest, state = sha256(path.read_bytes()).digest(), torch.get_rng_state()
    loaded = load_gpt2(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)  # loading draws no weights
    twin = GPT2Model(**asdict(TWO)).eval()
    twin.load_state_dict(loaded.state_dict())
    before = {name: p.detach().clone() for name, p in loaded.named_parameters()}
    for model in (loaded, twin):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        next_token_loss(model(ids), ids).backward()
        optimizer.step()
    for name, p in loaded.named_parameters():
        assert p.requires_grad and p.is_leaf and not torch.equal(p, before[name]), name
        assert_close(p, twin.get_parameter(name))
    assert sha256(path.read_bytes()).digest() == digest
    save_gpt2(loaded, tmp_path)
    assert same(load_gpt2(tmp_path), loaded)


def fail_at(number: int, patch: pytest.MonkeyPatch) -> None:
    """Let the disk be full at the `number`th time that a file is synced."""
    synced = os.fsync

    def fsync(file: int, calls: list[int] = []) -> None:  # noqa: B006
        calls.append(file)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        synced(file)

    patch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_the_old_model(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = hot_model(), hot_model()
    save_gpt2(old, tmp_path)
    name = "model.safetensors" if number == 1 else "config.json"
    with monkeypatch.context() as patch:
        fail_at(number, patch)
        with pytest.raises(OSError, match=f"cannot write {tmp_path / name}: No space"):
            save_gpt2(new, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert same(load_gpt2(tmp_path), old)


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_never_mixes_two_models(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, ids = hot_model(), hot_model(replace(TWO, num_heads=8)), random_ids(1, 9)
    save_gpt2(old, tmp_path)
    with monkeypatch.context() as patch:
        fail_at(number, patch)
        with pytest.raises(OSError):
            save_gpt2(new, tmp_path)
    try:
        logits = load_gpt2(tmp_path)(ids)
    except (CheckpointError, FileNotFoundError):
        return
    assert any(torch.allclose(logits, model(ids), atol=1e-4) for model in (old, new))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        save_gpt2(hot_model(), tmp_path / "file")
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="write .*model.safetensors: it is a folder"):
        save_gpt2(hot_model(), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_tensors_are_read_by_plain_names_and_without_masks(tmp_path: Path) -> None:
    _, tensors = plain_tensors(tmp_path)
    write(tmp_path, prefixed("transformer.")(masks(tensors)))
    found = read_tensors(str(tmp_path))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


# The numbers that others have published, in lesson 10


def test_the_published_numbers_are_copied_right_and_are_compared_with() -> None:
    folder = Path(os.environ.get("GPT2_LESSON_TEST_DATA", "nowhere"), "gpt2")
    if not (folder / "vocab.json").is_file():
        pytest.skip("needs GPT-2's vocabulary in $GPT2_LESSON_TEST_DATA/gpt2")
    path = Path(__file__).parents[1] / "notebooks" / "10_real_gpt2.ipynb"
    cells = {
        cell["id"]: "".join(cell["source"])
        for cell in json.loads(path.read_bytes())["cells"]
    }
    code, _, when = cells["published-numbers"].partition("\nif parameters ==")
    assert when and "nothing was compared" in when
    space = dict(
        torch=torch,
        generate=generate,
        next_token_loss=next_token_loss,
        evaluating=evaluating,
        GPT2Model=GPT2Model,
        Tokenizer=Tokenizer,
    )
    exec(code, space)
    published, tokenizer = space["PUBLISHED"], Tokenizer.load(folder)
    assert tokenizer.decode(published["greedy ids"]) == (
        "The dog was found in a field near the intersection of West and West Streets."
        "\n\nThe dog"
    )
    assert tokenizer.encode(published["prompt"]) == [
        36235,
        39141,
        18765,
        1143,
        326,
        9061,
        561,
        530,
        1110,
        1716,
    ]
    assert len(tokenizer.encode(published["greedy text"])) == 39
    with pytest.raises(AssertionError):
        space["compare_with_published"](GPT2Model(50257, 8, 2, 1, 64, 8), tokenizer)
