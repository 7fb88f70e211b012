"""Lesson 15: answers are what is learned, and an adapter is what `peft` makes of it."""

import json
import random
import runpy
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from gpt2_lesson.checkpoints import CheckpointError, load_checkpoint
from gpt2_lesson.finetuning import (
    LoRALinear,
    add_lora,
    answer_loss,
    encode_requests,
    load_adapter,
    lora_state,
    merge_lora,
    save_adapter,
)
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.real_gpt2 import save_gpt2
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import TrainSettings, train, train_step

EXAMPLES = [("Tess, lamp", "Tess found a lamp."), ("é", "x"), ("", "a longer answer")]
T = 40


def small_model() -> GPT2Model:
    """Return a model whose weights are large enough for every part to count."""
    torch.manual_seed(0)
    model = GPT2Model(256, 16, 2, 2, T, 32, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def adapted(rank: int = 3, alpha: float = 5.0, **settings) -> GPT2Model:
    """Return the model with an adapter that changes its logits."""
    model = add_lora(small_model(), rank, alpha, **settings)
    for values in lora_state(model).values():
        values.normal_(std=0.3)
    return model.eval()


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    return encode_requests(EXAMPLES, Tokenizer(), T)


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(ids)
        return getattr(found, "logits", found)


# ---------------------------------------------------------------- the loss


def test_only_answers_and_their_ends_are_targets(rows) -> None:
    for (prompt, answer), ids, targets in zip(EXAMPLES, *rows, strict=True):
        request, wanted = f"{prompt}\n".encode(), f"{answer}\n".encode()
        start, end = len(request), len(request + wanted)
        assert bytes(ids.tolist()) == (request + wanted).ljust(T, b"\n")
        assert bytes(targets[start:end].tolist()) == wanted
        assert (targets[:start] == -100).all() and (targets[end:] == -100).all()


def test_the_loss_is_the_mean_over_the_tokens_of_all_answers(rows) -> None:
    model, nats = small_model(), []
    for prompt, answer in EXAMPLES:  # one row at a time, without padding
        text = f"{prompt}\n{answer}\n".encode()
        log_probs = logits(model, torch.tensor([list(text)])).log_softmax(-1)[0]
        start = len(prompt.encode()) + 1
        nats += [-log_probs[t - 1, text[t]].item() for t in range(start, len(text))]
    expected = sum(nats) / len(nats)
    assert answer_loss(model, *rows, batch_size=2) == pytest.approx(expected, rel=1e-5)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = train_step(model, sgd, [torch.stack(rows, -1)])
    assert step == pytest.approx(expected, rel=1e-5)


def test_a_vocabulary_with_an_end_token_uses_it() -> None:
    tokenizer = Tokenizer.train("a stitch in time saves nine " * 9, 260)
    ids, targets = encode_requests([("a", "in\ntime")], tokenizer, 12)
    end = tokenizer.encode("<|endoftext|>", special="token")[0]
    kept = targets[0][targets[0] != -100].tolist()
    assert kept == [*tokenizer.encode("in\ntime"), end] and ids[0, -1] == end


# ---------------------------------------------------------------- adapters


def test_a_layer_is_the_linear_layer_of_the_sum() -> None:
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(6, 4), torch.randn(2, 5, 6)
    layer = LoRALinear(linear, rank=2, alpha=3.0)
    layer.lora_b.data.normal_()
    weight = linear.weight + 1.5 * layer.lora_b @ layer.lora_a
    assert_close(layer(x), F.linear(x, weight, linear.bias))


def test_step_0_is_the_base_model_and_merging_changes_nothing(rows) -> None:
    base, ids = small_model(), rows[0]
    model = add_lora(small_model(), rank=4)
    assert torch.equal(logits(model, ids), logits(base, ids))
    tokens = torch.stack(rows, -1).flatten(0, 1)  # (N * T, 2)
    settings = TrainSettings(40, T, 3, max_lr=0.05, warmup_steps=5)
    starts = torch.arange(0, len(tokens), T)
    losses = train(model, tokens, settings, starts, progress=False)
    assert losses[-1] < losses[0] - 0.2
    for name, values in model.state_dict().items():  # only the adapter has moved
        if "lora" not in name:
            known = base.state_dict()[name.replace(".linear.", ".")]
            assert torch.equal(values, known), name
    before = logits(model, ids)
    merged = merge_lora(model)
    assert_close(logits(merged, ids), before, rtol=0, atol=1e-4)
    assert merged.state_dict().keys() == base.state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_the_names_decide_where_adapters_go() -> None:
    state = lora_state(adapted(names=["qkv_proj"]))
    assert {name.split(".")[-2] for name in state} == {"qkv_proj"} and len(state) == 4
    for names in ([], ["tok_emb"], ["qkv_proj", "head"]):
        with pytest.raises(ValueError, match="expected some of down_proj, out_proj"):
            add_lora(small_model(), 2, names=names)
    with pytest.raises(ValueError, match="has an adapter already"):
        add_lora(adapted(), 2)


def test_a_run_with_an_adapter_is_resumed_bit_for_bit(rows, tmp_path) -> None:
    tokens = torch.stack(rows, -1).flatten(0, 1)
    starts, path = torch.arange(0, len(tokens), T), tmp_path / "run.safetensors"
    settings = TrainSettings(6, T, 2, max_lr=0.01, save_every=2)

    def run(model: GPT2Model, **more) -> list[float]:
        return train(model, tokens, settings, starts, progress=False, **more)

    def cut(losses: list[float]) -> None:
        if len(losses) == 3:
            raise InterruptedError

    straight, resumed = adapted(), adapted()
    losses = run(straight)
    with pytest.raises(InterruptedError):
        run(adapted(), checkpoint=path, on_step=cut)
    with pytest.raises(CheckpointError, match="other layers or another rank"):
        run(adapted(rank=2), checkpoint=path)
    with pytest.raises(CheckpointError, match="finetune --resume"):
        load_checkpoint(path)
    assert run(resumed, checkpoint=path) == losses
    for name, values in straight.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name


# ---------------------------------------------------------------- peft


def with_peft(folder: Path):
    """Return `transformers`' model of the small model's weights."""
    from transformers import GPT2LMHeadModel

    save_gpt2(small_model(), folder)
    return GPT2LMHeadModel.from_pretrained(folder).eval()


def test_peft_opens_our_adapter_and_gives_the_same_logits(rows, tmp_path) -> None:
    from peft import PeftModel

    model = adapted(names=["qkv_proj", "down_proj"])
    save_adapter(model, tmp_path / "adapter", base="small")
    theirs = PeftModel.from_pretrained(
        with_peft(tmp_path / "base"), tmp_path / "adapter"
    )
    assert_close(logits(theirs, rows[0]), logits(model, rows[0]), rtol=0, atol=1e-4)
    assert theirs.peft_config["default"].base_model_name_or_path == "small"


def test_an_adapter_of_peft_opens_here(rows, tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2,
        lora_alpha=7,
        target_modules=["c_attn", "c_proj"],
        fan_in_fan_out=True,
        init_lora_weights=False,
    )
    theirs = get_peft_model(with_peft(tmp_path / "base"), config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_adapter(small_model(), tmp_path / "adapter").eval()
    assert_close(logits(ours, rows[0]), logits(theirs, rows[0]), rtol=0, atol=1e-4)
    save_adapter(ours, tmp_path / "again")
    again = load_adapter(small_model(), tmp_path / "again")
    assert all(map(torch.equal, lora_state(again).values(), lora_state(ours).values()))


# ---------------------------------------------------------------- hostile files


def spoilt(folder: Path, **changes) -> None:
    """Change the settings of an adapter; None removes one."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    config = {name: value for name, value in config.items() if value != "absent"}
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "more than plain LoRA"),
        ({"use_dora": True}, "use_dora is True"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"c_attn": 8}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 0}, "r is 0, expected 1 or more"),
        ({"r": True}, "r is True"),
        ({"r": "absent"}, "r is None"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"r": 4}, "does the adapter belong to this model"),
    ],
)
def test_settings_that_are_not_plain_lora_are_refused(changes, said, tmp_path) -> None:
    save_adapter(adapted(), tmp_path)
    spoilt(tmp_path, **changes)
    model = small_model()
    with pytest.raises(CheckpointError, match=said):
        load_adapter(model, tmp_path)
    assert not lora_state(model) and all(p.requires_grad for p in model.parameters())


def test_tensors_that_do_not_belong_are_refused(tmp_path) -> None:
    save_adapter(adapted(), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
    for wrong, said in (
        ({name.replace("h.0", "h.9"): tensors[name] + 1}, "no part of a LoRA adapter"),
        (
            {name.replace("lora_A", "lora_magnitude"): tensors[name] + 1},
            "no part of a LoRA",
        ),
        ({name: tensors[name][:, :-1].contiguous()}, "belong to this model"),
        ({name: tensors[name].long()}, "int64"),
        ({name: tensors[name] * torch.nan}, "not finite"),
        ({}, "holds no tensors"),
    ):
        save_file(wrong if "no tensors" in said else tensors | wrong, path)
        with pytest.raises(CheckpointError, match=said):
            load_adapter(small_model(), tmp_path)
    save_file({name: tensors[name]}, path)
    with pytest.raises(CheckpointError, match="only one of the two matrices"):
        load_adapter(small_model(), tmp_path)
    for data in (b"", b"PK\x03\x04", random.Random(0).randbytes(300)):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="adapter_model.safetensors"):
            load_adapter(small_model(), tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no adapter_model.safetensors"):
        load_adapter(small_model(), tmp_path)


def test_what_cannot_be_saved_is_said(tmp_path) -> None:
    with pytest.raises(ValueError, match="has no adapter: add one with add_lora"):
        save_adapter(small_model(), tmp_path)
    mixed = adapted()
    layer = mixed.blocks[0].attn.qkv_proj
    mixed.blocks[0].attn.qkv_proj = LoRALinear(deepcopy(layer.linear), 1, 1.0)
    with pytest.raises(ValueError, match="2 pairs of rank and scale, expected 1"):
        save_adapter(mixed, tmp_path)


# ---------------------------------------------------------------- the comparison

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "figures" / "finetuning.py"))
TABLE = SCRIPT["stored"]()


@pytest.mark.parametrize("way", SCRIPT["START"])
def test_each_way_is_run_three_times_at_its_rate(way: str) -> None:
    losses = {run[1:]: numbers[1] for run, numbers in TABLE.items() if run[0] == way}
    first = {rate: loss for (rate, seed), loss in losses.items() if seed == 0}
    best = min(first, key=first.get)
    assert first[best] <= min(first[best / 2], first[2 * best])
    rate = SCRIPT["chosen"](way, TABLE)
    assert {run for run in losses if run[1] > 0} == {(rate, seed) for seed in (1, 2, 3)}


def test_the_script_trains_what_the_lesson_defines() -> None:
    names = SCRIPT["lesson"]()
    model = SCRIPT["prepare"]("LoRA, rank 1", seed=0)
    losses = names["finetune"](model, (names["ids"], names["targets"]), 2, 0.01)
    moved = [name for name, values in lora_state(model).items() if values.any()]
    assert len(losses) == 2 and len(moved) == len(lora_state(model))
