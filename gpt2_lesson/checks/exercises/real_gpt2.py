"""Lesson 10: loading GPT-2's weights, and finding what a loader did (catalogue: O)."""

from dataclasses import replace

import torch
from torch import Generator

from gpt2_lesson.checks.edits import Edit
from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.fakes import checkpoint as file
from gpt2_lesson.checks.fakes.broken_models import evidence
from gpt2_lesson.checks.probing import Probe, Value
from gpt2_lesson.real_gpt2 import PARAMETER_NAMES, to_hf_name

_FILL_MODEL = """\
def fill_model(model, tensors):
    head = tensors.get("lm_head.weight", tensors["wte.weight"])
    if not torch.equal(head, tensors["wte.weight"]):
        raise ValueError("the head is not the embedding matrix")
    with torch.no_grad():
        for name, p in model.named_parameters():
            source = to_hf_name(name)
            values = tensors[source]
            if name.endswith("proj.weight"):
                values = values.T
            if values.shape != p.shape:
                raise ValueError(f"{name}: {values.shape}, expected {p.shape}")
            p.copy_(values)"""

# --- probes ---------------------------------------------------------------------------


def _shapes(sizes: dict[str, int], square: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the file's tensors, as OpenAI's code lays them."""
    C, width = sizes["d_model"], sizes["d_ff"]
    shape = {"wte": (sizes["vocab_size"], C), "wpe": (sizes["max_seq_length"], C),
             "c_attn": (C, 3 * C), "attn.c_proj": (C, C), "c_fc": (C, width),
             "mlp.c_proj": (width, C)}
    found = {}
    for name in PARAMETER_NAMES.values():
        matrix = next((s for part, s in shape.items() if part in name), (C,))
        vector = name.endswith("bias") or "ln_" in name
        full = (matrix[-1],) if vector else matrix
        found[name] = (C,) * len(full) if square else full
    return found


def _case(g: Generator, order: str, square: bool = False) -> dict:
    """Return the sizes of a model, and a file for it."""
    def pick(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=g))]

    sizes = {"d_model": 12, "num_heads": 2, "num_layers": file.LAYERS,
             "vocab_size": pick(13, 17), "max_seq_length": pick(7, 9),
             "d_ff": pick(20, 28)}
    first = int(torch.randint(1, 100_000, (), generator=g))
    return {"config": {**sizes, "dropout": 0.0}, "square": square, "order": order,
            "changes": {}, "first": first, "shapes": _shapes(sizes, square)}


def probes(g: Generator) -> list[Probe]:
    """Return files of ramps: all square, true shapes, three that must be refused."""
    square, true = _case(g, "file", square=True), _case(g, "layers")
    rows, layer = true["config"]["vocab_size"], int(torch.randint(1, 10, (),
                                                                 generator=g))

    def refused(what: str, name: str, rows: int | None) -> Probe:
        return Probe(what, (true | {"changes": {name: rows}},), file.refused)

    return [
        Probe("11 layers, every matrix square (nothing can crash)", (square,),
              file.loaded),
        Probe("11 layers, true shapes", (true,), file.loaded_or_stopped),
        refused("a tensor is missing", f"h.{layer}.mlp.c_fc.bias", None),
        refused("the embedding matrix has two rows too few", "wte.weight", rows - 2),
        refused("a norm has one number instead of 12", f"h.{layer}.ln_2.weight", 1),
    ]


def read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which parameters hold what, where it is not what they should."""
    found: list[Clue] = []
    for probe in probes(g):
        seen, wanted = run(probe).value, probe.adapter(fill_model.reference,
                                                       *probe.args)
        if len(found) >= 3 or not isinstance(seen, dict) or seen == wanted:
            continue
        if seen.keys() != wanted.keys():
            found.append(Clue("stopped", f"{probe.name}: your loader stopped with an "
                              "error, so a shape or a name does not fit"))
            continue
        for key, right in wanted.items():
            if seen[key] != right:
                if probe.adapter is file.refused:
                    text = (f"{probe.name}: your loader takes this file; it should "
                            "raise an error")
                elif "." not in key:
                    text = f"{probe.name}: {key} {seen[key]}, expected {right}"
                elif seen[key] == "nothing was loaded":
                    text = f"nothing was loaded into {key}; expected {right}"
                else:
                    text = f"{key} contains {seen[key]}; expected {right}"
                found.append(Clue(f"holds {key}", text))
    unique = {clue.key: clue for clue in found}
    return list(unique.values())[:3]


def _other_head(g: Generator) -> Probe:
    """Return a file with a head that is not the embedding matrix."""
    case = _case(g, "layers")
    rows = case["config"]["vocab_size"]
    return Probe("a head of its own", (case | {"changes": {"lm_head.weight": rows}},),
                 file.refused)


# --- mistakes -------------------------------------------------------------------------


def _without(condition: str) -> Edit:
    """Return the edit that leaves out the parameters for which the condition holds."""
    line = "for name, p in model.named_parameters():"
    return line, f"{line}\n            if {condition}:\n                continue"


def _from_layer(number: str) -> Edit:
    """Return the edit that takes layer `number` of the file for block i."""
    line = "source = to_hf_name(name)"
    return line, f"""{line}
            if source.startswith("h."):
                i, rest = source[2:].split(".", 1)
                source = f"h.{{{number}}}.{{rest}}\""""


def _exchanged(one: str, other: str, where: str = "") -> Edit:
    """Return the edit that exchanges two words in the file's names, where it is so."""
    return "to_hf_name(name)", f'exchanged(to_hf_name(name), "{one}", "{other}"){where}'


def _reordered(rows: str) -> Edit:
    """Return the edit that gives qkv_proj other rows, an expression of `values`."""
    line = "values = values.T"
    return line, f"""{line}
            if "qkv" in name:
                values = {rows}"""


def exchanged(name: str, one: str, other: str) -> str:
    """Return a name with two of its words exchanged."""
    return name.replace(one, "-").replace(other, one).replace("-", other)


_Q_TRANSPOSE = ("OpenAI computes x @ W, nn.Linear x @ W.T. Which matrices belong to "
           "linear layers, and can a wrong one crash if it is square?")
_TRANSPOSE = 'if name.endswith("proj.weight"): values = values.T'
_Q_LAYER = "Which layer of the file belongs to block 10?"
_WHERE_LAYER = "look at how you find the layer's number, and at sorted"
_LAYER = "tensors[to_hf_name(name)] for each name of the model"
_Q_QKV = "In which order are q, k and v in c_attn's columns, and the heads in each?"
_Q_SHAPE = "Whose job is it to notice that a file belongs to another model?"
_WHERE_SHAPE = "what happens before the copy if the shapes differ?"

_ANY_SHAPE = ("values.shape != p.shape", "False")
_PASSED_OVER = ("            values = tensors",
                "            if source not in tensors:\n"
                "                continue\n            values = tensors")

LOAD = (
    Mistake("O1", "no matrix is transposed",
            edit=('name.endswith("proj.weight")', "False"), question=_Q_TRANSPOSE,
            why="c_attn, c_fc and mlp.c_proj crash; the square attn.c_proj would not"),
    Mistake("O1b", "transposed only where the shape does not fit: the square "
            "attn.c_proj stays as it was",
            edit=('name.endswith("proj.weight")', "values.shape != p.shape"),
            why="out_proj contains attn.c_proj as it is stored in the file; nothing "
                "crashes, and the text is wrong", question=_Q_TRANSPOSE),
    Mistake("O1c", "attn.c_proj is not transposed (it is square, so it fits both ways)",
            edit=('name.endswith("proj.weight")',
                  'name.endswith("proj.weight") and "out_proj" not in name'),
            why="out_proj contains attn.c_proj as it is stored in the file",
            question=_Q_TRANSPOSE),
    Mistake("O1d", "reshaped with view or reshape, not transposed",
            edit=("values.T", "values.reshape(values.T.shape)"), question=_Q_TRANSPOSE,
            why="the shape fits, but the numbers are in the wrong places"),
    Mistake("O1e", "only the attention's matrices are transposed",
            edit=('"proj.weight"', '("qkv_proj.weight", "out_proj.weight")'),
            why="up_proj and down_proj contain their tensors as they are stored in the "
                "file",
            question=_Q_TRANSPOSE),
    Mistake("O1f", "only the feed-forward's matrices are transposed",
            edit=('"proj.weight"', '("up_proj.weight", "down_proj.weight")'),
            why="qkv_proj and out_proj contain their tensors as they are stored in the "
                "file",
            question=_Q_TRANSPOSE),
    Mistake("O3", "every matrix is transposed, the two embeddings as well",
            edit=('name.endswith("proj.weight")', "values.dim() == 2"),
            why="wte and wpe are not linear layers: row i belongs to token i",
            question=_Q_TRANSPOSE),
    Mistake("O3b", "the embedding matrix is transposed, too",
            edit=('"proj.weight"', '("proj.weight", "tok_emb.weight")'),
            why="row i of wte belongs to token i: it needs no transposing",
            question=_Q_TRANSPOSE),
    Mistake("O3c", "the positional embedding is transposed, too",
            edit=('"proj.weight"', '("proj.weight", "pos_emb.weight")'),
            why="row t of wpe belongs to position t: it needs no transposing",
            question=_Q_TRANSPOSE),
    Mistake("O1g", "the shape still decides: what fits when transposed is transposed, "
            "and a square matrix always fits",
            edit=('name.endswith("proj.weight")', "values.shape[::-1] == p.shape"),
            why="on the model whose matrices are all square the embeddings are "
                "transposed", question=_Q_TRANSPOSE),
    Mistake("O1h", "attn.c_proj transposed by its name, all others by their shape",
            edit=('name.endswith("proj.weight")',
                  'values.shape != p.shape or "out_proj.weight" in name'),
            why="on the model whose matrices are all square the other three are "
                "not transposed", question=_Q_TRANSPOSE),
    Mistake("O1j", "only attn.c_proj is transposed",
            edit=('"proj.weight"', '"out_proj.weight"'), question=_Q_TRANSPOSE,
            why="the other three matrices are stored as in the file, and do not fit"),
    Mistake("O1i", "no matrix is transposed, and no shape is compared (.data "
            "exchanged)",
            edit=[('name.endswith("proj.weight")', "False"),
                  _ANY_SHAPE,
                  ("p.copy_(values)", "p.data = values")],
            why="the matrices are stored as in the file, and a matrix of any length is "
                "accepted", question=_Q_TRANSPOSE,
            where="look for .T, and for what happens if the shapes differ",
            fix=_TRANSPOSE),
    Mistake("O2", "queries and keys exchanged in qkv_proj",
            edit=_reordered("torch.cat([values.chunk(3)[i] for i in (1, 0, 2)])"),
            why="the first third of qkv_proj contains the second third of c_attn",
            question=_Q_QKV),
    Mistake("O2b", "keys and values exchanged in qkv_proj",
            edit=_reordered("torch.cat([values.chunk(3)[i] for i in (0, 2, 1)])"),
            why="the last two thirds of qkv_proj have changed places", question=_Q_QKV),
    Mistake("O2c", "the order v, k, q in qkv_proj",
            edit=_reordered("torch.cat([values.chunk(3)[i] for i in (2, 1, 0)])"),
            why="the first third of qkv_proj contains the last third of c_attn",
            question=_Q_QKV),
    Mistake("O2d", "q, k, v laid out head by head",
            edit=_reordered("values.unflatten(0, (3, model.config.num_heads, -1))"
                            ".transpose(0, 1).flatten(0, 2)"),
            why="the rows of qkv_proj are permuted: head 0's q, k, v first",
            question=_Q_QKV),
    Mistake("O2e", "c_attn read as if it were laid out head by head",
            edit=_reordered("values.unflatten(0, (model.config.num_heads, 3, -1))"
                            ".transpose(0, 1).flatten(0, 2)"), question=_Q_QKV,
            why="the rows of qkv_proj are permuted"),
    Mistake("O4", "missing tensors are passed over (strict=False, or `if name in`)",
            edit=_PASSED_OVER,
            why="a file that lacks a tensor is accepted, and that part stays random",
            question="What would the model generate if a bias had never been loaded?"),
    Mistake("O6", "all biases left out (with the masks, which are called attn.bias)",
            edit=_without('name.endswith(".bias")'),
            why="no bias was loaded, norms' included",
            question="Which names end in .bias? And which of them is the stored mask?"),
    Mistake("O6b", "the biases of the attention left out, as if they were masks",
            edit=_without('name.endswith(("qkv_proj.bias", "out_proj.bias"))'),
            why="no bias of the attention was loaded",
            question="Which of h.0.attn.bias, h.0.attn.c_attn.bias is the mask?"),
    Mistake("O7", "layers sorted as strings: h.10 comes before h.2",
            edit=_from_layer("sorted(map(str, range(len(model.blocks))))[int(i)]"),
            why="block 2 contains layer 10: the names were sorted as strings, not as "
                "numbers",
            question=_Q_LAYER, where=_WHERE_LAYER, fix=_LAYER),
    Mistake("O7b", "the layer's number read from one digit: h.10 is taken for h.1",
            edit=[_without('name.startswith("blocks.10.")'),
                  _from_layer("10 if i == '1' else i")],
            why="block 1 contains layer 10, and block 10 nothing", question=_Q_LAYER,
            where=_WHERE_LAYER),
    Mistake("O9", "nothing is loaded: names are bound again, and the model is not "
                  "changed",
            edit=("p.copy_(values)", "p = values"),
            why="every parameter keeps the values that it had before",
            question="After p = values, what has changed: the model, or the name p?"),
    Mistake("O9b", "nothing is loaded, and no shape is compared",
            edit=[_ANY_SHAPE, ("p.copy_(values)", "p = values")],
            why="every parameter keeps the values that it had before, whatever the "
                "file holds",
            question="After p = values, what has changed: the model, or the name p?",
            where="look for p = ..., or model.state_dict()[name] = ..."),
    Mistake("O10", "embeddings cut to fit: what is too long is cut, what is short "
            "stays",
            edit=[("values.shape != p.shape", "values.shape[1:] != p.shape[1:]"),
                  ("p.copy_(values)",
                   "n = min(len(p), len(values))\n            p[:n] = values[:n]")],
            why="an embedding matrix with two rows too few is accepted",
            question=_Q_SHAPE,
            where="look for min(...), [:n]"),
    Mistake("O10b", "shapes are not compared before .data is exchanged",
            edit=[_ANY_SHAPE, ("p.copy_(values)", "p.data = values")],
            why="matrices of another length are accepted, whatever their shape",
            question=_Q_SHAPE, where=_WHERE_SHAPE),
    Mistake("O10c", "copy_ alone: one number is spread over a whole vector",
            edit=_ANY_SHAPE, why="copy_ broadcasts: a tensor (1,) fills a norm of 12",
            question=_Q_SHAPE, where=_WHERE_SHAPE),
    Mistake("O10d", "tensors whose shape does not fit are passed over",
            edit=('raise ValueError(f"{name}: {values.shape}, expected {p.shape}")',
                  "continue"), question=_Q_SHAPE,
            why="an embedding matrix of another length is accepted, and stays random"),
    Mistake("O10e", "what is missing or does not fit is passed over",
            edit=[_PASSED_OVER,
                  ('raise ValueError(f"{name}: {values.shape}, expected {p.shape}")',
                   "continue")],
            why="a file of another model is accepted, and parts of yours stay random",
            question=_Q_SHAPE, where="look for try, continue, or an if without else",
            fix="let tensors[name] raise its KeyError, and raise one for a wrong "
                "shape"),
    Mistake("O11f", "only the matrices of the linear layers are loaded",
            edit=_without('not name.endswith("proj.weight")'),
            why="embeddings, norms and biases are not loaded",
            question="What becomes of a parameter that is not transposed?"),
    Mistake("O11", "the last layer is not loaded",
            edit=_without('name.startswith(f"blocks.{len(model.blocks) - 1}.")'),
            why="block 10 is not loaded",
            question="range(n) gives how many numbers, from where?"),
    Mistake("O11b", "only layer 0 is loaded",
            edit=_without('name.split(".")[0] == "blocks" and int(name.split(".")[1])'),
            why="blocks 1 to 10 are not loaded", question=_Q_LAYER),
    Mistake("O11c", "every block gets layer 0", edit=_from_layer("0"),
            why="block 10 contains layer 0", question=_Q_LAYER,
            where="look for a 0 where the layer's number should be", fix=_LAYER),
    Mistake("O11d", "the last norm (ln_f) is not loaded",
            edit=_without('name.startswith("ln_final")'), why="ln_final is not loaded",
            question="Which tensors belong to no layer?"),
    Mistake("O11e", "the positional embedding (wpe) is not loaded",
            edit=_without('name.startswith("pos_emb")'), why="pos_emb is not loaded",
            question="Which tensors belong to no layer?"),
    Mistake("O12", "ln_1 and ln_2 exchanged", edit=_exchanged("ln_1", "ln_2"),
            why="ln_attn contains ln_2, and ln_mlp contains ln_1",
            question="Which norm comes before the attention?",
            where="look at your table of names"),
    Mistake("O12b", "the two c_proj exchanged",
            edit=_exchanged("attn.c_proj", "mlp.c_proj"),
            question="Two tensors are called c_proj. What comes before the name?",
            why="out_proj contains mlp.c_proj", where="look at your table of names"),
    Mistake("O12c", "wte and wpe exchanged", edit=_exchanged("wte", "wpe"),
            why="tok_emb contains wpe", question="t for token, p for ...?",
            where="look at your table of names"),
    Mistake("O12d", "weight and bias of the norms exchanged",
            edit=_exchanged("weight", "bias",
                            ' if "ln_" in name else to_hf_name(name)'),
            why="the norms' weights contain their biases",
            question="Which of the two is near 1?",
            where="look at your table of names"),
    Mistake("O13", "the file's tensors are changed in place",
            edit=("p.copy_(values)",
                  "p.copy_(values)\n            tensors[source].zero_()"),
            why="loading a second time would give another model",
            question="Who else may still need the tensors?"),
)

fill_model = Exercise(
    "fill_model", "10", "fill_model(model, tensors) -> None, but the model is changed",
    make_probes=probes, mistakes=LOAD, read_out=read_out,
    edge_cases=(EdgeCase(
        "a file with a head of its own (lm_head.weight is not wte.weight) is loaded "
        "without an error, though this model has one matrix for both",
            _other_head),),
    crashes=((r"a leaf Variable|in-place operation",
              "change parameters under torch.no_grad()"),
             (r"KeyError", "this name is not in the file, or not in the model: print "
              "both lists of names"),
             (r"size mismatch|must match the size|Error.*shape",
              "a shape does not fit: do the two names belong together, and was a "
              "linear layer's matrix transposed?")),
    hints=("For each parameter of the model: its name in the file, the tensor, "
           "transposed if it belongs to a linear layer, shapes compared, copied.",
           "Which parameters of a small model are still what they were after loading?",
           "p.copy_(tensors[to_hf_name(name)]), with .T where the name ends in "
           "proj.weight"), solution=_FILL_MODEL,
    names={"to_hf_name": to_hf_name, "exchanged": exchanged})

fill_model_to_repair = replace(
    fill_model.to_repair("fill_model_to_repair", "O1b"), edge_cases=())

# --- the answers that are values ------------------------------------------------------

_SQUARE = {"wte": False, "wpe": False, "attn.c_attn": False, "attn.c_proj": True,
           "mlp.c_fc": False, "mlp.c_proj": False}
_FIRST = {"A": "block 0", "B": "block 7", "C": "block 2", "D": "last norm"}


_STAGES = {"embeddings", *(f"block {i}" for i in range(12)), "last norm", "logits"}


def _letters(value: Value) -> list[str]:
    """Return which letters are right, if not all, and what is no stage's name."""
    if not isinstance(value, dict) or value.keys() != _FIRST.keys():
        return ['expected a dict of the four letters: {"A": ..., "D": ...}']
    given = {key: " ".join(str(text).lower().split()) for key, text in value.items()}
    unknown = sorted(set(given.values()) - _STAGES - {"none"})
    if unknown:
        return [f'not the name of a stage: {", ".join(unknown)}; write it as the cell '
                'above prints it, such as "block 4"']
    good, bad = (", ".join(key for key in given if (given[key] == _FIRST[key]) is state)
                 for state in (True, False))
    return [f"right: {good or 'none'}; not yet: {bad}"] if bad else []


def _stages(name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake("O8", name, why, question, "look at how a stage is chosen", fix)


_LOSS, _SAMPLE, _OTHERS = ("loss of the sample", "logits of the sample",
                           "logits of other texts")
_MOVES = {"A": {_LOSS: False, _SAMPLE: True}, "B": {_SAMPLE: False, _OTHERS: True},
          "C": {_SAMPLE: False, _OTHERS: False}}


def _unseen(value: Value) -> list[str]:
    """Return where a fault shows that should be hidden, or the other way round."""
    if not isinstance(value, dict) or value.keys() != _MOVES.keys():
        return ['expected a dict of three faults: {"A": ..., "B": ..., "C": ...}']
    return [text for letter in _MOVES if (text := _shows(letter, value[letter]))]


def _shows(letter: str, fault: Value) -> str:
    """Return what the evidence says against one fault, or "" if it is as asked."""
    try:
        moved = evidence(fault)
    except ValueError as error:
        return f"{letter}: {error}"
    for what, wanted in _MOVES[letter].items():
        if (moved[what] > 1e-9) is not wanted:
            return (f"{letter}: the {what} {_verb(what)} not move, and should" if wanted
                    else f"{letter}: the {what} {_verb(what, True)} by "
                    f"{moved[what]:.2g}, and should stay")
    return ""


def _verb(what: str, moves: bool = False) -> str:
    one = what.startswith("loss")
    return ("moves" if one else "move") if moves else ("does" if one else "do")


def _shape(name: str, why: str, square: bool = False) -> tuple[dict, Mistake]:
    """Return the wrong answer about one matrix, and its name."""
    return {name: not square}, Mistake(
        "O1", f"{name} taken {'not ' * square}to be square", why,
        "What goes in, and what comes out?", f"the shape of {name}", why)


_SHAPES = (_shape("wte", "it has a row of 768 for each of 50,257 tokens"),
           _shape("wpe", "it has a row of 768 for each of 1,024 positions"),
           _shape("attn.c_attn", "768 by 2304: queries, keys and values side by side"),
           _shape("attn.c_proj", "768 by 768: from C back to C", square=True),
           _shape("mlp.c_fc", "768 by 3072: from C to 4C"),
           _shape("mlp.c_proj", "3072 by 768: from 4C back to C"))
ANSWERS = (
    Answer("10.1", "True or False for each of six matrices (is it square?)", _SQUARE,
           wrong=_SHAPES, predict=True,
           hints=("Write the shape of each beside its name. c_attn makes queries, keys "
                  "and values at once; c_fc goes from C to 4C, and its c_proj back.",
                  "wte is (50257, 768), wpe (1024, 768), c_attn (768, 2304).",
                  "attn.c_proj is (768, 768), the only square one."), solution="""\
square = {"wte": False, "wpe": False, "attn.c_attn": False, "attn.c_proj": True,
          "mlp.c_fc": False, "mlp.c_proj": False}"""),
    Answer("10.4", "the first stage at which each of four models diverges from the "
           "right one", _FIRST, (
               ({"A": "block 1", "B": "block 8", "C": "block 3", "D": "last norm"},
                _stages("blocks counted from 1", "each block is one too late",
                        "What is the number of the first block?",
                        "blocks are 0 to 11")),
               ({"A": "block 1", "B": "block 8", "C": "block 3", "D": "logits"},
                _stages("the stage after the first one that differs",
                        "each of the four is one stage too late",
                        "Which stage is the first to differ?",
                        "take the stage's own name")),
               ({"A": "none", "B": "block 7", "C": "block 2", "D": "logits"},
                _stages("a limit that is too coarse (1)",
                        "A never differs by more than 0.0055, D's last norm by 0.67",
                        "How large is rounding in float64?", "a limit of 1e-9")),
               ({"A": "block 9", "B": "block 11", "C": "block 11", "D": "logits"},
                _stages("the stage with the largest difference, not the first one",
                        "a difference goes on through all later stages",
                        "Where does a mistake begin, and where is it largest?",
                        "take the first stage above the limit")),
               ({"A": "none", "B": "block 7", "C": "block 2", "D": "last norm"},
                _stages("a limit that is too coarse for A (0.01)",
                        "A never differs by more than 0.0055",
                        "How large is rounding in float64?", "a limit of 1e-9")),
               ({"A": "logits", "B": "logits", "C": "logits", "D": "logits"},
                _stages("only the logits compared", "all four differ at the end",
                        "Which stage is the first to differ?",
                        "compare every stage"))), test=_letters,
           hints=("The largest difference, (found[name] - right[name]).abs().max(), "
                  "for each of the 15 stages.",
                  "float64 keeps 15 digits: a difference of 0.001 is not rounding "
                  "there. It goes on through all later stages, and as a rule it grows; "
                  "only the first stage says where it came from.",
                  "next(name for name in right if (right[name] - "
                  "found[name]).abs().max() > 1e-9)"), solution="""\
first = {}
right = stages(broken_model("right"), input_ids)
for letter in "ABCD":
    found = stages(broken_model(letter), input_ids)
    first[letter] = next(name for name in right
                         if (found[name] - right[name]).abs().max() > 1e-9)"""),
    Answer("10.5", "three loading errors, each harder to see than the one before",
           {"A": ("wte.weight", 0, 1), "B": ("wpe.weight", 16, 17),
            "C": ("h.0.attn.c_attn.bias", 48, 49)}, test=_unseen,
           hints=("At each position the loss takes the logit of one token, and all "
                  "logits together. If two of the others change places, what "
                  "happens to their sum? And which positions does a sample of 16 "
                  "tokens never touch?",
                  "If you add the same number to all scores of a query, the weights "
                  "stay the same. Which bias, in q . (k + bias), adds the same number "
                  "to the score of every key? c_attn.bias contains the biases of "
                  "queries, keys and values, 48 numbers each.",
                  "A: two rows of wte that are not in the sample. B: two rows of wpe "
                  "from 16 on. C: two numbers of the keys' bias, c_attn.bias 48 to 95"),
           solution="""\
faults = {
    "A": ("wte.weight", 0, 1),                # bytes that the sample lacks
    "B": ("wpe.weight", 16, 17),              # positions after the sample's last
    "C": ("h.0.attn.c_attn.bias", 48, 49),    # the keys' bias
}"""),
)
