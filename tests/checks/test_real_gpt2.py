"""The check of loading GPT-2's weights: catalogue entries O."""

import mutants
import pytest
import torch
import torch.nn as nn
from catalogue import Catalogue
from mutants import mutants as every

from gpt2_lesson import checks
from gpt2_lesson.checks.fakes.broken_models import broken_model, evidence
from gpt2_lesson.real_gpt2 import PARAMETER_NAMES, convert_state_dict, to_hf_name

EXTRA = {"to_hf_name": to_hf_name, "PARAMETER_NAMES": PARAMETER_NAMES}

# A loader as a learner writes it: how a name is found, what is done to the tensor.
LOOP = """with torch.no_grad():
    for name, p in model.named_parameters():
        theirs = to_hf_name(name)
        {find}
        {turn}
        {put}"""
FIND = "t = tensors[theirs]"
TURN = "t = t.T if name.endswith('proj.weight') else t"
PUT = "assert t.shape == p.shape; p.copy_(t)"


def loop(find: str = FIND, turn: str = TURN, put: str = PUT) -> str:
    return LOOP.format(find=find, turn=turn, put=put)


def thirds(code: str) -> str:
    return loop(turn=f"{TURN}\n        if 'qkv' in name:\n            {code}")


HEADWISE = (
    "t = torch.cat([part for head in zip(*(x.chunk(2) for x in t.chunk(3))) "
    "for part in head])"
)
BY_LAYER = """
names = {{"ln_attn": "ln_1", "attn.qkv_proj": "attn.c_attn",
         "attn.out_proj": "attn.c_proj", "ln_mlp": "ln_2", "mlp.up_proj": "mlp.c_fc",
         "mlp.down_proj": "mlp.c_proj"}}
def put(p, t, name):
    t = t.T if "proj.weight" in name else t
    assert p.shape == t.shape
    p.data.copy_(t)
for end in ("weight", "bias"):
    put(getattr(model.ln_final, end), tensors["ln_f." + end], "")
    for i in {layers}:
        for ours, theirs in names.items():
            p = model.blocks[i].get_parameter(f"{{ours}}.{{end}}")
            put(p, tensors[f"h.{{{number}}}.{{theirs}}.{{end}}"], f"{{ours}}.{{end}}")
put(model.tok_emb.weight, tensors["wte.weight"], "")
put(model.pos_emb.weight, tensors["wpe.weight"], "")"""

WRONG = {
    "O1": loop(turn="pass"),
    "O1a": """ours = {name: tensors[to_hf_name(name)] for name in model.state_dict()}
model.load_state_dict(ours)""",
    "O1b": loop(turn="t = t.T if t.shape != p.shape else t"),
    "O1c": loop(
        turn="t = t.T if any(n in name for n in ('qkv_proj.w', 'up_proj.w', "
        "'down_proj.w')) else t"
    ),
    "O1d": loop(turn="t = t.reshape(t.shape[::-1]) if 'proj.weight' in name else t"),
    "O1e": loop(turn="t = t.T if 'attn.' in name and t.dim() == 2 else t"),
    "O1f": loop(turn="t = t.T if 'mlp.' in name and t.dim() == 2 else t"),
    "O3": loop(turn="t = t.T if t.dim() == 2 else t"),
    "O3b": loop(turn="t = t.T if t.dim() == 2 and 'pos' not in name else t"),
    "O3c": loop(turn="t = t.T if t.dim() == 2 and 'tok' not in name else t"),
    "O1g": loop(turn="t = t.T; t = t if t.shape == p.shape else t.T"),
    "O1g'": loop(
        turn="t = t.T if t.shape != p.shape or t.dim() == 2 and len(t) == "
        "t.size(1) else t"
    ),
    "O1h": loop(turn="t = t.T if t.shape != p.shape or 'out_proj' in name else t"),
    "O1j": loop(turn="t = t.T if name.endswith('out_proj.weight') else t"),
    "O1i": loop(turn="pass", put="p.data = t"),
    "O2": thirds("q, k, v = t.chunk(3); t = torch.cat([k, q, v])"),
    "O2b": thirds("q, v, k = t.split(len(t) // 3); t = torch.cat([q, k, v])"),
    "O2c": thirds("v, k, q = t.chunk(3); t = torch.cat([q, k, v])"),
    "O2d": thirds(HEADWISE),
    "O2e": thirds("t = torch.cat([t.chunk(6)[i] for i in (0, 3, 1, 4, 2, 5)])"),
    "O4": loop(find="if theirs not in tensors: continue\n        t = tensors[theirs]"),
    "O4a": """ours = {}
for name in model.state_dict():
    if to_hf_name(name) in tensors:
        t = tensors[to_hf_name(name)]
        ours[name] = t.T if name.endswith("proj.weight") else t
model.load_state_dict(ours, strict=False)""",
    "O6": loop(find=f"if name.endswith('.bias'): continue\n        {FIND}"),
    "O6b": loop(
        find=f"if name.endswith('proj.bias') and 'attn' in name: continue\n"
        f"        {FIND}"
    ),
    "O7": """theirs = sorted(n for n in tensors if n.endswith("attn.c_proj.weight"))
order = [n.split(".")[1] for n in theirs]
"""
    + loop(
        find="""if theirs.startswith('h.'):
            i = int(theirs.split('.')[1])
            theirs = theirs.replace(f'h.{i}.', f'h.{order[i]}.')
        t = tensors[theirs]"""
    ),
    "O7a": BY_LAYER.format(layers="range(11)", number="sorted(map(str, range(11)))[i]"),
    "O7b": """ours = {to_hf_name(n): p for n, p in model.named_parameters()}
for name, t in tensors.items():
    if name.endswith(".attn.bias"):
        continue
    short = f"h.{name[2]}.{name.split('.', 2)[2]}" if name[0] == "h" else name
    p = ours[short]
    t = t.T if "c_" in name and t.dim() == 2 else t
    assert p.shape == t.shape
    p.data.copy_(t)""",
    "O9": loop(put="assert t.shape == p.shape; p = nn.Parameter(t)"),
    "O9b": "ours = model.state_dict()\n" + loop(put="ours[name] = t"),
    "O9a": "ours = model.state_dict()\n"
    + loop(put="assert t.shape == p.shape; ours[name] = t"),
    "O10": loop(
        put="n = min(len(p), len(t)); p[:n] = t[:n] if t.dim() == 2 or "
        "len(t) == len(p) else tensors['none']"
    ),
    "O10b": loop(put="p.data = t"),
    "O10c": loop(put="p.copy_(t)"),
    "O10d": loop(put="if t.shape == p.shape: p.copy_(t)"),
    "O10e": loop(
        find="if theirs not in tensors: continue\n        t = tensors[theirs]",
        put="if t.shape == p.shape: p.copy_(t)",
    ),
    "O10e'": """with torch.no_grad():
    for name, p in model.named_parameters():
        try:
            t = tensors[to_hf_name(name)]
            t = t.T if name.endswith('proj.weight') else t
            assert t.shape == p.shape
            p.copy_(t)
        except Exception as error:
            print(error)""",
    "O11f": loop(turn="if name.endswith('proj.weight'):", put="    p.copy_(t.T)"),
    "O11": BY_LAYER.format(layers="range(len(model.blocks) - 1)", number="i"),
    "O11b": BY_LAYER.format(layers="range(1)", number="i"),
    "O11c": BY_LAYER.format(layers="range(11)", number="0"),
    "O11d": loop(find=f"if name.startswith('ln_final'): continue\n        {FIND}"),
    "O11e": loop(find=f"if name == 'pos_emb.weight': continue\n        {FIND}"),
    "O12": loop(
        find="theirs = theirs.replace('ln_1', 'x').replace('ln_2', 'ln_1')"
        ".replace('x', 'ln_2'); t = tensors[theirs]"
    ),
    "O12b": loop(
        find="theirs = theirs.replace('attn.c_proj', 'x').replace("
        "'mlp.c_proj', 'attn.c_proj').replace('x', 'mlp.c_proj'); "
        "t = tensors[theirs]"
    ),
    "O12c": loop(
        find="theirs = {'wte.weight': 'wpe.weight', 'wpe.weight': 'wte.weight'"
        "}.get(theirs, theirs); t = tensors[theirs]"
    ),
    "O13": loop(put=f"{PUT}; t.mul_(0)"),
}


def strict_state_dict(model, tensors):
    model.load_state_dict(
        {
            name: tensors[to_hf_name(name)].T
            if "proj.weight" in name
            else tensors[to_hf_name(name)]
            for name in model.state_dict()
        }
    )


def over_the_file(model, tensors):
    ours = {to_hf_name(name): p for name, p in model.named_parameters()}
    transposed = (
        "attn.c_attn.weight",
        "attn.c_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    )
    names = [name for name in tensors if not name.endswith(".attn.bias")]
    assert len(names) == len(ours)
    for name in names:
        t = tensors[name].t() if name.endswith(transposed) else tensors[name]
        assert ours[name].shape == t.shape
        with torch.no_grad():
            ours[name].copy_(t)


def rebuilt(model, tensors):
    for name, p in list(model.named_parameters()):
        t = tensors[to_hf_name(name)]
        t = t.mT if name.endswith("proj.weight") else t
        if t.shape != p.shape:
            raise RuntimeError(name)
        part, _, end = name.rpartition(".")
        setattr(model.get_submodule(part), end, nn.Parameter(t.clone()))


def by_thirds(model, tensors):
    with torch.no_grad():
        for name, p in model.named_parameters():
            t = tensors[to_hf_name(name)]
            if "qkv" in name:
                t = torch.cat([part.T for part in t.chunk(3, -1)])
            elif "proj.weight" in name:
                t = t.permute(1, 0)
            assert t.shape == p.shape
            p[...] = t


HONEST = {
    "solution": checks.fill_model.solution,
    "strict": strict_state_dict,
    "over the file": over_the_file,
    "rebuilt": rebuilt,
    "by thirds": by_thirds,
    "by layer": BY_LAYER.format(layers="range(len(model.blocks))", number="i"),
    "data": loop(put="assert t.shape == p.shape; p.data = t"),
    "set": loop(put="assert t.shape == p.shape; p.set_(t.contiguous().clone())"),
    "assign": lambda model, tensors: model.load_state_dict(
        {
            name: tensors[to_hf_name(name)].mT
            if name.endswith("proj.weight")
            else tensors[to_hf_name(name)]
            for name in model.state_dict()
        },
        assign=True,
    ),
    "lesson": lambda model, tensors: model.load_state_dict(
        convert_state_dict(
            {name: t for name, t in tensors.items() if not name.endswith(".attn.bias")},
            {name: p.shape for name, p in model.state_dict().items()},
            "the file",
        )
    ),
}


class TestCatalogue(Catalogue):
    cases = {"fill_model": (WRONG, HONEST)}
    extra = EXTRA
    sources = {
        "fill_model": f"def fill_model(model, tensors):{BY_LAYER}".replace(
            "\n", "\n    "
        ).format(layers="range(len(model.blocks))", number="i")
    }
    seconds = 5

    @pytest.mark.slow
    def test_no_mutant_passes(self, name: str, record_property, monkeypatch) -> None:
        """All changes but exchanged names, which crash; of a loader layer by layer."""
        monkeypatch.setattr(
            mutants,
            "mutants",
            lambda source: (
                one
                for one in every(source)
                if not one[0].split(": ")[1].replace(" -> ", "").isidentifier()
            ),
        )
        super().test_no_mutant_passes(name, record_property)


def test_a_head_of_its_own_is_remarked_on() -> None:
    report = checks.fill_model(strict_state_dict)
    assert report.passed and "lm_head.weight is not wte.weight" in report.remarks[0]
    assert not checks.fill_model(HONEST["lesson"]).remarks


def test_an_unknown_arrangement_is_read_out() -> None:
    def careless(model, tensors):
        strict_state_dict(model, tensors)
        with torch.no_grad():
            weight = model.blocks[3].mlp.up_proj.weight
            weight.copy_(weight.flip(0).clone())

    report = checks.fill_model(careless)
    assert "but 3: h.3.mlp.c_fc.weight, transposed, its rows in the order 11 10" in str(
        report
    )


def test_what_is_read_out_is_said_in_words() -> None:
    def tables_alone(model, tensors):
        with torch.no_grad():
            model.tok_emb.weight.copy_(tensors["wte.weight"])

    text = str(checks.fill_model(tables_alone))
    assert "nothing was loaded into pos_emb.weight; expected wpe.weight" in text
    assert "holds nothing" not in text


def test_a_stage_without_a_name_is_told() -> None:
    right = {"A": "block 0", "B": "block 7", "C": "block 2", "D": "last norm"}
    assert checks.answer("10.4", right | {"A": " Block 0"}).passed
    for wrong, said in (
        ("block0", "not the name of a stage: block0"),
        (1, "stage: 1"),
        ("block 1", "right: B, C, D; not yet: A"),
    ):
        report = checks.answer("10.4", right | {"A": wrong})
        assert not report.passed and said in str(report)
    late = {"A": "block 1", "B": "block 8", "C": "block 3", "D": "logits"}
    assert checks.answer("10.4", late).named == (
        "the stage after the first one that differs"
    )
    assert not checks.answer("10.4", [*right.values()]).passed


HIDDEN = {
    "A": ("wte.weight", 0, 1),
    "B": ("wpe.weight", 16, 31),
    "C": ("h.11.attn.c_attn.bias", 48, 95),
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"A": ["wpe.weight", 15, 16]}, ""),  # a place without a loss
        ({"A": ("wte.weight", 0, ord("c"))}, "A: the loss of the sample moves by"),
        ({"A": ("wte.weight", 0, ord("T"))}, "A: the loss of the sample moves by"),
        ({"A": HIDDEN["B"]}, "A: the logits of the sample do not move, and should"),
        ({"B": ("wpe.weight", 15, 16)}, "B: the logits of the sample move by"),
        ({"B": HIDDEN["C"]}, "B: the logits of other texts do not move, and should"),
        ({"C": HIDDEN["B"]}, "C: the logits of other texts move by"),
        ({"C": ("h.0.attn.c_attn.bias", 47, 48)}, "C: the logits of the sample move"),
        ({"C": ("h.0.attn.c_attn.bias", 95, 96)}, "C: the logits of the sample move"),
        ({"C": ("h.0.attn.c_attn.bias", 50, 50)}, "two different ones, not 50 and 50"),
        (
            {"C": ("h.0.attn.c_attn.weight", 0, 48)},
            "C: h.0.attn.c_attn.weight has the rows 0 to 47",
        ),
        ({"B": ("wpe", 16, 17)}, "B: no tensor of the file is called 'wpe'"),
        ({"B": "wpe.weight"}, "B: 'wpe.weight' is not a valid error"),
    ],
)
def test_a_fault_that_hides(changes: dict, says: str) -> None:
    before = torch.random.get_rng_state()
    report = checks.answer("10.5", HIDDEN | changes)
    assert report.passed == (not says) and says in str(report)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rows_are_exchanged_as_they_lie_in_the_file() -> None:
    ids = torch.tensor([[*b"The cat sat here"]])
    right, wrong = broken_model("right"), broken_model("right")
    weight = wrong.blocks[0].attn.qkv_proj.weight  # (out, in)
    with torch.no_grad():
        weight[:, [3, 40]] = weight[:, [40, 3]]
        moved = (right(ids) - wrong(ids)).abs().max().item()
    found = evidence(("h.0.attn.c_attn.weight", 3, 40))["logits of the sample"]
    assert found == pytest.approx(moved, rel=1e-9)
