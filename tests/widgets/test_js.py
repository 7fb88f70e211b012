"""The figures' JavaScript: its own tests, against numbers that Python wrote."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from gpt2_lesson import widgets
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.widgets.packing import pack_triangles, unpack_triangles

TESTS = Path(__file__).parent / "js"
VIEWS = Path(widgets.__file__).with_name("js")


def test_javascript(tmp_path: Path):
    """All of js/ passes under node, given what Python packed and reckoned."""
    node = shutil.which("node")
    if node is None:
        missing = "no node on this machine: the figures' JavaScript is tested with it"
        if os.environ.get("GPT2_LESSON_NEEDS_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    fixture = tmp_path / "fixture.json"
    fixture.write_text(json.dumps(_fixture()), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", *map(str, sorted(TESTS.glob("*.test.mjs")))],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "GPT2_LESSON_FIXTURE": str(fixture)},
    )
    parts = re.split(r"^(?=(?:not )?ok \d)", done.stdout, flags=re.M)
    failed = [part for part in parts if part.startswith("not ok")]
    assert done.returncode == 0, "\n".join(failed) + done.stderr[-2000:]
    assert "# skipped 0" in done.stdout


def test_numbers_know_no_page():
    """What is in js/numbers imports nothing else, and needs no browser."""
    for path in sorted((VIEWS / "numbers").glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r'from "([^"]+)"', text)) <= {
            f"./{one.name}" for one in path.parent.glob("*.js")
        }, path
        assert not re.search(
            r"\b(document|window|globalThis|matchMedia|el)\b[.(]", text
        ), path


def _fixture() -> dict:
    """Return packed weights, and from the unpacked ones what JavaScript must find."""
    generator = np.random.default_rng(3)
    weights = np.tril(generator.random((3, 9, 9)) ** 4)
    weights /= weights.sum(-1, keepdims=True)
    packed = {
        "u16": pack_triangles(weights, True),
        "u8": pack_triangles(weights, False),
        "coarse": pack_triangles(weights, False, levels=45),
    }
    blues = (colormaps["Blues"](np.linspace(0, 1, 256))[:, :3] * 255).round()
    return {
        "size": 9,
        "packed": packed,
        "weights": {
            code: unpack_triangles(p, 3, 9).tolist() for code, p in packed.items()
        },
        "blues": blues.astype(int).tolist(),
        **_model(),
    }


def _model() -> dict:
    """Return a figure's state, and rows of a model reckoned by other means."""
    torch.manual_seed(0)
    model = GPT2Model(256, 24, 3, 2, 16, 48).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv_proj.weight, std=0.7)
    ids = torch.tensor([list(b"a cat, a mat")])
    record = widgets.capture(model, ids)
    scores, brought = {}, {}
    for at, block in enumerate(model.blocks):
        x = _read_by(model, block.attn, ids)[0]  # (T, C)
        q, k, v = (x @ block.attn.qkv_proj.weight.T + block.attn.qkv_proj.bias).split(
            24, dim=-1
        )
        for head in range(3):
            part = slice(8 * head, 8 * head + 8)
            row = q[:, part] @ k[:, part].T / 8**0.5
            scores[f"{at}.{head}"] = row.tolist()
            weights = row.masked_fill(~torch.ones(12, 12).tril().bool(), -torch.inf)
            moved = v[:, part] @ block.attn.out_proj.weight[:, part].T  # (T, C)
            share = weights.softmax(-1) * moved.norm(dim=-1)
            brought[f"{at}.{head}"] = (share / share.sum(-1, keepdim=True)).tolist()
    return {
        "state": widgets.attention(record).state,
        "scores": scores,
        "brought": brought,
        "maps": record.weights.tolist(),
    }


def _read_by(model, module, ids):
    seen = []
    hook = module.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    with torch.no_grad():
        model(ids)
    hook.remove()
    return seen[0].detach()
