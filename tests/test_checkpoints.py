"""A checkpoint is whole or it is refused; a resumed run equals one never stopped."""

import ast
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from safetensors.torch import load_file, save_file

import gpt2_lesson
from gpt2_lesson import checkpoints, training
from gpt2_lesson.checkpoints import (
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    resume_checkpoint,
    save_checkpoint,
)
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.training import (
    Muon,
    TrainSettings,
    make_optimizer,
    train,
)

TOKENS = torch.randint(
    97, 123, (3000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


def tiny(seed: int = 0, **changes: int) -> GPT2Model:
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 256,
        "d_model": 16,
        "num_heads": 2,
        "num_layers": 2,
        "max_seq_length": 16,
        "d_ff": 32,
        "dropout": 0.2,
    }
    return GPT2Model(**(sizes | changes))


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def stop(child: int, number: int) -> None:
    """Send the signal until it works: in a destructor Python drops an interrupt."""
    while True:
        os.kill(child, number)
        for _ in range(100):
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return
            time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "count"), [(signal.SIGKILL, 100), (signal.SIGINT, 50)]
)
def test_a_save_cut_off_leaves_the_old_or_the_new(
    tmp_path: Path, number: int, count: int
) -> None:
    path, models = tmp_path / "file", [tiny(0), tiny(1)]
    wanted = [model.state_dict() for model in models]
    save_checkpoint(path, models[0])
    moments = random.Random(0)
    for _ in range(count):
        ready, began = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(began, b"!")
                while True:
                    for model in models:
                        save_checkpoint(path, model)
            finally:  # nothing of pytest runs in the child
                os._exit(0)
        os.read(ready, 1)
        os.close(ready)
        os.close(began)
        time.sleep(moments.uniform(0.002, 0.03))
        stop(child, number)
        found = load_checkpoint(path).state_dict()
        assert same(found, wanted[0]) or same(found, wanted[1])
    save_checkpoint(path, models[0])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    save_checkpoint(path, tiny(0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"cannot write {path}: No space left"):
        save_checkpoint(path, tiny(1))
    assert same(load_checkpoint(path).state_dict(), tiny(0).state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_two_thousand_damages_none_silent(tmp_path: Path) -> None:
    path, draw = tmp_path / "file", random.Random(0)
    model = tiny()
    optimizer = make_optimizer(model, 1e-3)
    save_checkpoint(path, model, optimizer, torch.Generator(), [1.0, 2.0], {"a": 1})
    whole, tensors = path.read_bytes(), read_checkpoint(path)
    silent = []
    for i in range(2000):
        data = bytearray(whole)
        at, kind = draw.randrange(len(data)), i % 4
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        else:
            data += bytes(draw.randrange(1, 100))
        path.write_bytes(data)
        try:
            record, found = read_checkpoint(path)
        except CheckpointError:
            continue
        if record != tensors[0] or not same(found, tensors[1]):
            silent.append((kind, at))
    assert silent == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04 zip of torch.save", "pickle"),
        (b"\x80\x04 pickle", "pickle"),
        (b"\xff" * 200, "damaged"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_files_that_lie_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this course"):
        load_checkpoint(path)
    model = tiny()
    tensors = {f"model.{name}": values for name, values in model.state_dict().items()}
    for change, words in (
        ({"num_layers": 10**9}, "num_layers is 1000000000, it has 2"),
        ({"vocab_size": 10**12}, "tok_emb"),
        ({"d_model": 32}, r"tok_emb.weight is \(256, 16\), expected \(256, 32\)"),
        ({"num_heads": 3}, "multiple"),
        ({"n_head": 3}, "n_head"),
    ):
        record = json.dumps({"config": asdict(model.config) | change, "metadata": {}})
        save_file(
            tensors,
            path,
            {"gpt2_lesson": record, "sha256": checkpoints.digest(record, tensors)},
        )
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(path)


class Cut(Exception):
    pass


def save_with_former_names(path: Path) -> None:
    """Write a checkpoint again with the names that its parts had before."""
    record, tensors = checkpoints.read_checkpoint(path)
    metadata = record.pop("metadata")
    metadata["rest"] = metadata.pop("adam_lr_scale")
    tensors["random.draws"] = tensors.pop("random.generator")
    record["about"] = metadata
    sha256 = checkpoints.digest(json.dumps(record), tensors)
    save_file(tensors, path, {"gpt2_lesson": json.dumps(record | {"sha256": sha256})})


def cut_at(step: int) -> Callable[[list[float]], None]:
    def cut(losses: list[float]) -> None:
        if len(losses) == step:
            raise Cut

    return cut


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_state_is_needed_to_resume(
    tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed: equal in every bit. Without optimizer, windows or dropout state: not."""
    settings = TrainSettings(
        steps=12,
        seq_length=16,
        batch_size=4,
        optimizer=optimizer,
        max_lr=0.02,
        save_every=5,
    )
    straight = tiny()
    wanted = train(straight, TOKENS, settings)
    real = checkpoints.read_checkpoint
    for dropped in (None, "optimizer.", "random.generator", "random.cpu"):
        path = tmp_path / f"{dropped}"
        with pytest.raises(Cut):
            train(tiny(), TOKENS, settings, checkpoint=path, on_step=cut_at(7))

        def read(path: Path, dropped: str | None = dropped) -> tuple:
            record, tensors = real(path)
            if dropped == "optimizer.":
                tensors = {n: t for n, t in tensors.items() if dropped not in n}
            elif dropped:
                tensors[dropped] = torch.Generator().manual_seed(99).get_state()
            return record, tensors

        monkeypatch.setattr(checkpoints, "read_checkpoint", read)
        resumed = tiny(seed=5)
        losses = train(resumed, TOKENS, settings, checkpoint=path)
        monkeypatch.setattr(checkpoints, "read_checkpoint", real)
        equal = losses == wanted and same(resumed.state_dict(), straight.state_dict())
        assert equal == (dropped is None), dropped
        assert len(losses) == 12


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    settings = TrainSettings(steps=2, seq_length=16, batch_size=2)
    train(tiny(), TOKENS, settings, checkpoint=path)
    assert len(train(tiny(), TOKENS, settings, checkpoint=path)) == 2  # finished
    other = TrainSettings(steps=2, seq_length=16, batch_size=4)
    with pytest.raises(CheckpointError, match="batch_size was 2 and is 4"):
        train(tiny(), TOKENS, other, checkpoint=path)
    with pytest.raises(CheckpointError, match="text was"):
        train(tiny(), TOKENS.flip(0), settings, checkpoint=path)
    with pytest.raises(CheckpointError, match="d_ff was 32 and is 64"):
        train(tiny(d_ff=64), TOKENS, settings, checkpoint=path)


def test_a_checkpoint_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    path, model = tmp_path / "file", tiny()
    Muon(model, 0.02)
    save_checkpoint(path, model)
    assert torch.equal(load_file(path)["model.tok_emb.weight"], model.tok_emb.weight)
    loaded = load_checkpoint(path)
    ids = torch.randint(256, (2, 9))
    assert torch.equal(loaded.eval()(ids), model.eval()(ids))
    assert loaded.config == model.config and loaded.tok_emb.weight.requires_grad


ALLOWED = {
    "worker.py": {"pickle", "exec", "eval"},  # runs students' cells, in a sandbox
    "grader.py": {"pickle"},  # sends pickles into it, reads none
    "edits.py": {"exec"},  # runs our own answers, with one mistake
    "tables.py": {"exec"},  # runs cells of our own lessons
}


def test_no_file_format_that_can_run_code() -> None:
    for path in Path(gpt2_lesson.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call):
                names += [ast.unparse(node.func)]
            bad = {"pickle", "torch.load", "torch.save", "eval", "exec"} & set(names)
            assert bad <= ALLOWED.get(path.name, set()), f"{path}: {bad}"
            assert path.name != "grader.py" or "pickle.loads" not in names


def compiled_block(model: GPT2Model) -> GPT2Model:
    model.blocks[0].mlp = torch.compile(model.blocks[0].mlp, backend="eager")
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        nn.DataParallel,  # as DistributedDataParallel
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
        compiled_block,
    ],
)
def test_a_wrapped_model_is_saved_under_its_own_names(
    tmp_path: Path, wrap: Callable
) -> None:
    path, model, other = tmp_path / "file", tiny(0), wrap(tiny(1))
    save_checkpoint(path, wrap(model), make_optimizer(model, 0.1), torch.Generator())
    wanted = tiny(0).state_dict()
    assert same(load_checkpoint(path).state_dict(), wanted)
    resume_checkpoint(path, other, make_optimizer(other, 0.1), torch.Generator())
    assert same(checkpoints.model_tensors(other), wanted)


class LowRank(nn.Module):
    """A linear layer with a trained low-rank addition, as LoRA makes it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.base, self.lora = inner, nn.Linear(inner.in_features, inner.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.lora(x)


def low_rank(model: GPT2Model) -> None:
    model.blocks[1].mlp.up_proj = LowRank(model.blocks[1].mlp.up_proj)


def extra_layer(model: GPT2Model) -> None:
    model.head = nn.Linear(16, 256)


def fewer_blocks(model: GPT2Model) -> None:
    del model.blocks[1]


def larger_vocabulary(model: GPT2Model) -> None:
    model.tok_emb = nn.Embedding(300, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (low_rank, ["blocks.1.mlp.up_proj.", "could not load"]),
        (extra_layer, ["does not have: head.bias, head.weight"]),
        (fewer_blocks, ["num_layers is 2, it has 1"]),
        (larger_vocabulary, ["tok_emb.weight is (300, 16), expected (256, 16)"]),
        (
            lambda model: nn.utils.parametrizations.weight_norm(
                model.blocks[0].attn.out_proj
            ),
            ["blocks.0.attn.out_proj.weight"],
        ),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, change: Callable, words: list[str]
) -> None:
    model, path = tiny(), tmp_path / "file"
    change(model)
    settings = TrainSettings(steps=2, seq_length=16, batch_size=2)
    before = model.pos_emb.weight.clone()
    for save in (
        lambda: save_checkpoint(path, model),
        lambda: train(model, TOKENS, settings, checkpoint=path),
    ):
        with pytest.raises(CheckpointError) as caught:
            save()
        assert all(word in str(caught.value) for word in words), caught.value
    assert not path.exists() and torch.equal(model.pos_emb.weight, before)


def mapped(path: Path) -> bool:
    """Return whether this process has the file mapped, where the system says so."""
    maps = Path("/proc/self/maps")
    return maps.exists() and str(path) in maps.read_text()


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    settings = TrainSettings(steps=4, seq_length=16, batch_size=2, save_every=2)
    with pytest.raises(Cut):
        train(tiny(), TOKENS, settings, checkpoint=path, on_step=cut_at(3))
    held = []
    train(
        tiny(),
        TOKENS,
        settings,
        checkpoint=path,
        on_step=lambda losses: held.append(mapped(path)),
    )
    assert held == [False, False]
    save_checkpoint(path, tiny())
    loaded, by_map = load_checkpoint(path), load_checkpoint(path, mmap=True)
    assert mapped(path) or sys.platform != "linux"
    assert same(loaded.state_dict(), by_map.state_dict())
    with open(path, "r+b") as file:  # in place, as `cp` over it does
        file.write(bytes(path.stat().st_size))
    assert same(loaded.state_dict(), tiny().state_dict())
    assert not same(by_map.state_dict(), tiny().state_dict())


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    path, model, files = tmp_path / "file", tiny(), set()
    for _ in range(20):
        save_checkpoint(
            path, model, make_optimizer(model, 0.1), metadata={"b": 1, "a": 2}
        )
        files.add(path.read_bytes())
    assert len(files) == 1


CONFIG = asdict(tiny().config)
BARE = {"config": CONFIG, "metadata": {}}
MANY = {f"model.x{i}": torch.ones(0) for i in range(60_000)}


@pytest.mark.parametrize(
    ("record", "changes", "words"),
    [
        ([], {}, "called config and metadata"),
        ({}, {}, "called config and metadata"),
        ({"config": [1]}, {}, "called config and metadata"),
        ({"config": CONFIG, "metadata": 3}, {}, "called config and metadata"),
        (BARE | {"config": CONFIG | {"d_model": "16"}}, {}, "d_model is '16'"),
        (BARE | {"config": CONFIG | {"d_model": 10**15}}, {}, "overflow"),
        (BARE | {"config": CONFIG | {"dropout": None}}, {}, "dropout is None"),
        (BARE | {"config": {}}, {}, "num_layers is 12, it has 2"),
        (BARE, {"losses": None}, "losses"),
        (BARE, {"losses": torch.tensor(1.0)}, r"losses are \(\)"),
        (BARE, {"random.generator": None}, "no states"),
        (BARE, {"random.cpu": None}, "random.cpu"),
        (BARE, {"random.generator": torch.zeros(3)}, "cannot be resumed"),
        (BARE, {"random.cpu": torch.zeros(3).byte()}, "cannot be resumed"),
        (BARE, {"optimizer.99.step": torch.tensor(1.0)}, "optimizer.99.step"),
        (BARE, {"optimizer.x.step": torch.tensor(1.0)}, "optimizer.x.step"),
        (BARE, {"optimizer.0": torch.tensor(1.0)}, "'optimizer.0'"),
        (BARE, {"optimizer.0.exp_avg": torch.ones(3)}, r"is \(3,\)"),
        (BARE, {"other": torch.ones(3)}, "'other'"),
        (BARE, {"model.head.weight": torch.ones(3)}, "head.weight"),
        (BARE, {"model.pos_emb.weight": None}, "has no pos_emb.weight"),
        (BARE, {"model.ln_final.bias": torch.ones(16).long()}, "int64"),
        (BARE, MANY, "and 59,997 more"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(
    tmp_path: Path, record: object, changes: dict, words: str
) -> None:
    """Its SHA-256 is right; who wrote it was not."""
    path, model, generator = tmp_path / "file", tiny(), torch.Generator()
    save_checkpoint(path, model, make_optimizer(model, 0.1), generator)
    tensors = {n: t for n, t in (load_file(path) | changes).items() if t is not None}
    text = json.dumps(record)
    save_file(
        tensors,
        path,
        {"gpt2_lesson": text, "sha256": checkpoints.digest(text, tensors)},
    )
    with pytest.raises(CheckpointError, match=words) as caught:
        resume_checkpoint(path, model, make_optimizer(model, 0.1), generator)
    assert str(path) in str(caught.value)


def test_a_file_of_4_terabytes_is_refused(tmp_path: Path) -> None:
    config = CONFIG | {"vocab_size": 10**9, "d_model": 1024}
    record = json.dumps({"config": config, "metadata": {}})
    header = {
        "__metadata__": {"gpt2_lesson": record, "sha256": "0"},
        "model.tok_emb.weight": {
            "dtype": "F32",
            "shape": [10**9, 1024],
            "data_offsets": [0, 4096 * 10**9],
        },
    }
    text = json.dumps(header).encode()
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 4096 * 10**9)  # takes no room on the disk
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path)


def test_a_run_goes_on_with_another_kind_of_device_or_saving(tmp_path: Path) -> None:
    path = tmp_path / "file"
    settings = TrainSettings(steps=6, seq_length=16, batch_size=2, save_every=3)
    wanted = train(tiny(), TOKENS, settings)
    with pytest.raises(Cut):
        train(tiny(), TOKENS, settings, checkpoint=path, on_step=cut_at(4))
    record, tensors = read_checkpoint(path)
    tensors["random.cuda"] = torch.zeros(16, dtype=torch.uint8)  # begun elsewhere
    text = json.dumps(record)
    save_file(
        tensors,
        path,
        {"gpt2_lesson": text, "sha256": checkpoints.digest(text, tensors)},
    )
    often = TrainSettings(steps=6, seq_length=16, batch_size=2, save_every=1)
    assert train(tiny(), TOKENS, often, checkpoint=path) == wanted
    starts = torch.tensor([1, 2, 3])
    with pytest.raises(CheckpointError, match="starts was None"):
        train(tiny(), TOKENS, often, starts, checkpoint=path)


def test_what_a_run_is_about_may_be_any_json(tmp_path: Path) -> None:
    path, model, generator = tmp_path / "file", tiny(), torch.Generator()
    metadata = {"sizes": (1, 2), 3: "x"}
    save_checkpoint(path, model, make_optimizer(model, 0.1), generator, [2.0], metadata)
    optimizer = make_optimizer(model, 0.1)
    assert resume_checkpoint(path, model, optimizer, generator, metadata) == [2.0]


def test_a_run_saved_with_the_former_names_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    settings = TrainSettings(steps=4, seq_length=16, save_every=1)
    wanted = train(tiny(), TOKENS, settings)
    with pytest.raises(Cut):
        train(tiny(), TOKENS, settings, checkpoint=path, on_step=cut_at(2))
    save_with_former_names(path)
    assert train(tiny(), TOKENS, settings, checkpoint=path) == wanted


def test_a_checkpoint_that_cannot_be_written_stops_at_once(tmp_path: Path) -> None:
    settings, model = TrainSettings(steps=2, seq_length=16), tiny()
    before = model.pos_emb.weight.clone()
    for path, kind in (
        (tmp_path / "missing" / "file", FileNotFoundError),
        (tmp_path, IsADirectoryError),
    ):
        with pytest.raises(kind, match=str(path)):
            train(model, TOKENS, settings, checkpoint=path)
    assert torch.equal(model.pos_emb.weight, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_the_save(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "file", training.train_step
    settings = TrainSettings(steps=9, seq_length=16, batch_size=2)
    wanted = train(tiny(), TOKENS, settings)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def step(*arguments: object) -> float:
        signal.raise_signal(number)  # in the middle of a step
        return real(*arguments)

    old = signal.signal(number, stop)
    try:
        monkeypatch.setattr(training, "train_step", step)
        for done in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                train(tiny(), TOKENS, settings, checkpoint=path)
            assert len(read_checkpoint(path)[1]["losses"]) == done
        monkeypatch.setattr(training, "train_step", real)
        assert train(tiny(), TOKENS, settings, checkpoint=path) == wanted
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, old)


def test_a_second_signal_goes_through_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []

    def step(*_: object) -> float:
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("second")
        return 1.0

    monkeypatch.setattr(training, "train_step", step)
    settings = TrainSettings(steps=3, seq_length=16)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), TOKENS, settings, checkpoint=tmp_path / "file")
    assert reached == ["first"] and list(tmp_path.iterdir()) == []


def test_training_in_a_thread_leaves_signals_alone() -> None:
    done = []
    settings = TrainSettings(steps=2, seq_length=16, batch_size=2)
    thread = threading.Thread(
        target=lambda: done.extend(train(tiny(), TOKENS, settings))
    )
    thread.start()
    thread.join()
    assert len(done) == 2
