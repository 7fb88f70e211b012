"""Loading GPT-2's weights, and what goes wrong (catalogue: O)."""

from dataclasses import replace
from functools import partial

import torch
import torch.nn as nn
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins import checkpoint as file
from gpt2_lesson.real_gpt2 import PARAMETER_NAMES, their_name

_MATRICES = ("qkv_proj", "out_proj", "up_proj", "down_proj")
_ANY = "tok_emb pos_emb qkv_proj out_proj up_proj down_proj"
_SWAPS = {
    "norms": ("ln_1", "ln_2"), "projections": ("attn.c_proj", "mlp.c_proj"),
    "tables": ("wte", "wpe"),
}


@torch.no_grad()
def load(model: nn.Module, tensors: dict[str, Tensor], *, turned: str = "right",
         layers: str = "right", parts: str = "q k v", skipped: str = "",
         swapped: str = "", fits: str = "checked", missing: str = "error",
         rebound: bool = False, in_place: bool = False) -> None:
    """Put a file's tensors into the model, or do what a mistake makes of it."""
    head = tensors.get("lm_head.weight")
    if head is not None and not torch.equal(head, tensors["wte.weight"]):
        raise ValueError("lm_head.weight is not wte.weight")
    order = sorted(range(len(model.blocks)), key=str)
    for name, p in list(model.named_parameters()):
        theirs = _swap(their_name(name), swapped)
        theirs = _layer(theirs, layers, order)
        if theirs is None or any(part in name for part in skipped.split()):
            continue
        if skipped == ".bias" and name.endswith(".bias"):
            continue
        values = tensors.get(theirs)
        if values is None:
            if missing == "error":
                raise KeyError(theirs)
            continue
        values = _turn(name, values, p, turned)
        values = _thirds(values, parts, model.config.num_heads) if (
            "qkv" in name) else values
        if rebound:
            p = nn.Parameter(p.detach().clone())
        _put(p, values, fits)
        if in_place:
            tensors[theirs].zero_()


def _swap(name: str, swapped: str) -> str:
    """Return a name of the file with two of its words exchanged."""
    if swapped == "ends":
        return name.replace("weight", "-").replace("bias", "weight").replace(
            "-", "bias") if "ln_" in name else name
    one, other = _SWAPS.get(swapped, ("?", "?"))
    return name.replace(one, "-").replace(other, one).replace("-", other)


def _layer(name: str, layers: str, order: list[int]) -> str | None:
    """Return a name with the layer that a mistake takes; None to leave it out."""
    kind, number, *rest = name.split(".")
    if kind != "h" or layers == "right":
        return name
    i, last = int(number), len(order) - 1
    if layers == "not last" and i == last or layers == "first only" and i:
        return None
    if layers == "one digit" and i > 9:
        return None
    taken = {"text order": order[i], "all first": 0, "backwards": last - i,
             "one late": max(i - 1, 0), "one digit": 10 if i == 1 else i}
    return ".".join([kind, str(taken.get(layers, i)), *rest])


def _turn(name: str, values: Tensor, p: Tensor, turned: str) -> Tensor:
    """Return the values turned where they should be, or where a mistake turns them."""
    if values.dim() != 2:
        return values
    linear = any(part in name for part in _MATRICES)
    if turned == "where it does not fit":
        return values if values.shape == p.shape else values.mT
    if turned == "where it fits turned":
        return values.mT if values.mT.shape == p.shape else values
    if turned == "out_proj by name":
        fits = values.shape == p.shape and "out_proj" not in name
        return values if fits else values.mT
    if turned == "reshaped":
        return values.reshape(values.mT.shape) if linear else values
    words = {"right": " ".join(_MATRICES), "none": "nothing", "all": _ANY,
             "not out_proj": "qkv_proj up_proj down_proj",
             "only out_proj": "out_proj", "attention only": "qkv_proj out_proj",
             "mlp only": "up_proj down_proj",
             "tokens too": " ".join(("tok_emb", *_MATRICES)),
             "positions too": " ".join(("pos_emb", *_MATRICES))}[turned].split()
    return values.mT if any(word in name for word in words) else values


def _thirds(values: Tensor, parts: str, heads: int) -> Tensor:
    """Return the rows of qkv_proj in the order that `parts` names."""
    if parts == "per head":                          # rows (H, 3, D), not (3, H, D)
        return values.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
    if parts == "from per head":
        return values.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
    if parts == "q k v":
        return values
    thirds = dict(zip("qkv", values.chunk(3), strict=True))
    return torch.cat([thirds[letter] for letter in parts.split()])


def _put(p: Tensor, values: Tensor, fits: str) -> None:
    """Copy values into a parameter; shapes compared, or not."""
    if fits == "checked" and p.shape != values.shape:
        raise ValueError("another shape")
    if fits == "any":
        p.data = values
    elif fits == "cut" and p.shape != values.shape:
        if p.dim() != values.dim() or p.shape[1:] != values.shape[1:]:
            raise ValueError("another shape")
        rows = min(len(p), len(values))
        p[:rows] = values[:rows]
    elif fits == "skipped" and p.shape != values.shape:
        return
    else:
        p.copy_(values)                              # spreads a single number, too


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
             "d_ff": pick(20, 28), "dropout": 0.0}
    first = int(torch.randint(1, 100_000, (), generator=g))
    return {"config": sizes, "square": square, "order": order, "changes": {},
            "first": first, "shapes": _shapes(sizes, square)}


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
        refused("the token table has two rows too few", "wte.weight", rows - 2),
        refused("a norm has one number in place of 12", f"h.{layer}.ln_2.weight", 1),
    ]


def read_out(look: Look, g: Generator) -> list[Clue]:
    """Return which parameters hold what, where it is not what they should."""
    found = []
    for probe in probes(g):
        seen, wanted = look(probe).value, probe.drive(load, *probe.args)
        if len(found) >= 3 or not isinstance(seen, dict) or seen == wanted:
            continue
        if seen.keys() != wanted.keys():
            found.append(Clue("stopped", f"{probe.name}: your loader stopped with an "
                              "error, so a shape or a name does not fit"))
            continue
        for key, right in wanted.items():
            if seen[key] != right:
                if probe.drive is file.refused:
                    text = (f"{probe.name}: your loader takes this file; it should "
                            "raise an error")
                elif "." not in key:
                    text = f"{probe.name}: {key} {seen[key]}, expected {right}"
                elif seen[key] == "nothing was loaded":
                    text = f"nothing was loaded into {key}; expected {right}"
                else:
                    text = f"{key} holds {seen[key]}; expected {right}"
                found.append(Clue(f"holds {key}", text))
    unique = {clue.key: clue for clue in found}
    return list(unique.values())[:3]


# --- mistakes -------------------------------------------------------------------------

_Q_TURN = ("OpenAI computes x @ W, nn.Linear x @ W.T. Which matrices belong to "
           "linear layers, and can a wrong one crash if it is square?")
_TURN = 'if name.endswith("proj.weight"): values = values.T'
_WHERE_TURN = "look at the condition before .T"
_Q_LAYER = "Which layer of the file belongs to block 10?"
_WHERE_LAYER = "look at how you find the layer's number, and at sorted"
_LAYER = "tensors[their_name(name)] for each name of the model"
_Q_QKV = "In which order do c_attn's columns hold q, k and v, and the heads in each?"
_WHERE_QKV = "look for chunk, split, view, cat"
_QKV = "the order is the same on both sides: turn the matrix, and leave its rows alone"
_Q_SHAPE = "Whose job is it to notice that a file belongs to another model?"
_WHERE_SHAPE = "what happens before the copy if the shapes differ?"
_SHAPE = "if p.shape != values.shape: raise ValueError(name)"


def _alone(**knobs: object) -> partial:
    """Return the loader with knobs turned, for mistakes that form no pairs."""
    return partial(load, **knobs)


def _unturned(id: str, name: str, why: str, turned: str, mark: str = "S") -> Mistake:
    knobs = {"turned": turned} if id in ("O1b", "O1c", "O3") else {}
    return Mistake(id, name, why, _Q_TURN, _WHERE_TURN, _TURN, knobs,
                   None if knobs else _alone(turned=turned), mark)


LOAD = (
    _unturned("O1", "no matrix is turned",
              "c_attn, c_fc and mlp.c_proj crash; the square attn.c_proj would not",
              "none"),
    _unturned("O1b", "turned only where the shape does not fit: the square attn.c_proj "
              "stays as it was",
              "out_proj holds attn.c_proj as it lies in the file; nothing crashes, and "
              "the text is wrong", "where it does not fit"),
    _unturned("O1c", "attn.c_proj is not turned (it is square, so it fits both ways)",
              "out_proj holds attn.c_proj as it lies in the file", "not out_proj"),
    _unturned("O1d", "cut anew with view or reshape, not turned",
              "the shape fits, and the numbers stand in the wrong places", "reshaped",
              "R"),
    _unturned("O1e", "only the attention's matrices are turned",
              "up_proj and down_proj hold their tensors as they lie in the file",
              "attention only", "R"),
    _unturned("O1f", "only the feed-forward's matrices are turned",
              "qkv_proj and out_proj hold their tensors as they lie in the file",
              "mlp only", "R"),
    _unturned("O3", "every matrix is turned, the two tables as well",
              "wte and wpe are no linear layers: row i belongs to token i", "all", "R"),
    _unturned("O3b", "the token table is turned, too",
              "row i of wte belongs to token i: it lies right already", "tokens too",
              "R"),
    _unturned("O3c", "the position table is turned, too",
              "row t of wpe belongs to place t: it lies right already",
              "positions too", "R"),
    _unturned("O1g", "the shape still decides: what fits when turned is turned, and a "
              "square matrix always fits",
              "on the model whose matrices are all square the two tables are turned",
              "where it fits turned", "R"),
    _unturned("O1h", "attn.c_proj turned by its name, all others by their shape",
              "on the model whose matrices are all square the other three stay as they "
              "lie in the file", "out_proj by name", "R"),
    _unturned("O1j", "only attn.c_proj is turned",
              "the other three matrices lie as in the file, and do not fit",
              "only out_proj", "R"),
    Mistake("O1i", "no matrix is turned, and no shape is compared (.data exchanged)",
            "the matrices lie as in the file, and a table of any length is accepted",
            _Q_TURN, "look for .T, and for what happens if the shapes differ", _TURN,
            function=_alone(turned="none", fits="any"), mark="R"),
    Mistake("O2", "queries and keys exchanged in qkv_proj",
            "the first third of qkv_proj holds the second third of c_attn", _Q_QKV,
            _WHERE_QKV, _QKV, {"parts": "k q v"}, mark="S"),
    Mistake("O2b", "keys and values exchanged in qkv_proj",
            "the last two thirds of qkv_proj have changed places", _Q_QKV, _WHERE_QKV,
            _QKV, function=_alone(parts="q v k"), mark="S"),
    Mistake("O2c", "the order v, k, q in qkv_proj",
            "the first third of qkv_proj holds the last third of c_attn", _Q_QKV,
            _WHERE_QKV, _QKV, function=_alone(parts="v k q"), mark="S"),
    Mistake("O2d", "q, k, v laid out head by head",
            "the rows of qkv_proj are permuted: head 0's q, k, v first", _Q_QKV,
            _WHERE_QKV, _QKV, function=_alone(parts="per head"), mark="S"),
    Mistake("O2e", "c_attn read as if it were laid out head by head",
            "the rows of qkv_proj are permuted", _Q_QKV, _WHERE_QKV, _QKV,
            function=_alone(parts="from per head"), mark="S"),
    Mistake("O4", "missing tensors are passed over (strict=False, or `if name in`)",
            "a file that lacks a tensor is accepted, and that part stays random",
            "What would the model write if a bias had never been loaded?",
            "look for strict=False, get, or `if ... in tensors`",
            "let tensors[name] raise its KeyError", {"missing": "passed over"},
            mark="S"),
    Mistake("O6", "all biases left out (with the masks, which are called attn.bias)",
            "no bias was loaded, norms' included",
            "Which names end in .bias? And which of them is the stored mask?",
            "look at the condition that leaves out the masks",
            'leave out names that end in ".attn.bias", with both dots',
            function=_alone(skipped=".bias"), mark="R"),
    Mistake("O6b", "the biases of the attention left out, as if they were masks",
            "no bias of the attention was loaded",
            "Which of h.0.attn.bias, h.0.attn.c_attn.bias is the mask?",
            "look at the condition that leaves out the masks",
            'leave out names that end in ".attn.bias", with both dots',
            function=_alone(skipped="qkv_proj.bias out_proj.bias"), mark="R"),
    Mistake("O7", "layers in the order of text: h.10 comes before h.2",
            "block 2 holds layer 10: the names were sorted as text, not as numbers",
            _Q_LAYER, _WHERE_LAYER, _LAYER, {"layers": "text order"}, mark="R"),
    Mistake("O7b", "the layer's number read from one digit: h.10 is taken for h.1",
            "block 1 holds layer 10, and block 10 nothing", _Q_LAYER, _WHERE_LAYER,
            'name.split(".")[1], not name[2]',
            function=_alone(layers="one digit"), mark="R"),
    Mistake("O9", "nothing is loaded: names are bound anew, the model is left alone",
            "every parameter holds what it held before",
            "After p = values, what has changed: the model, or the name p?",
            "look for p = ..., or model.state_dict()[name] = ...",
            "p.copy_(values), under torch.no_grad()", function=_alone(rebound=True),
            mark="R"),
    Mistake("O9b", "nothing is loaded, and no shape is compared",
            "every parameter holds what it held before, whatever the file holds",
            "After p = values, what has changed: the model, or the name p?",
            "look for p = ..., or model.state_dict()[name] = ...",
            "p.copy_(values), under torch.no_grad()",
            function=_alone(rebound=True, fits="any"), mark="R"),
    Mistake("O10", "tables cut to fit: what is too long is cut, what is short stays",
            "a token table with two rows too few is accepted",
            _Q_SHAPE, "look for min(...), [:n]", _SHAPE,
            function=_alone(fits="cut"), mark="R"),
    Mistake("O10b", "shapes are not compared before .data is exchanged",
            "tables of another length are accepted, whatever their shape", _Q_SHAPE,
            _WHERE_SHAPE, _SHAPE, {"fits": "any"}, mark="R"),
    Mistake("O10c", "copy_ alone: one number is spread over a whole vector",
            "copy_ broadcasts: a tensor (1,) fills a norm of 12", _Q_SHAPE,
            _WHERE_SHAPE, _SHAPE, {"fits": "broadcast"}, mark="R"),
    Mistake("O10d", "tensors whose shape does not fit are passed over",
            "a token table of another length is accepted, and stays random", _Q_SHAPE,
            _WHERE_SHAPE, _SHAPE, function=_alone(fits="skipped"), mark="R"),
    Mistake("O10e", "what is missing or does not fit is passed over",
            "a file of another model is accepted, and parts of yours stay random",
            _Q_SHAPE, "look for try, continue, or an if without else",
            "let tensors[name] raise its KeyError, and raise one for a wrong shape",
            function=_alone(missing="passed over", fits="skipped"), mark="R"),
    Mistake("O11f", "only the matrices of the linear layers are loaded",
            "tables, norms and biases hold nothing of the file",
            "What becomes of a parameter that is not turned?",
            "which lines stand under your `if`?",
            "turn under the if, copy after it",
            function=_alone(skipped="tok_emb pos_emb ln_ .bias"), mark="R"),
    Mistake("O11", "the last layer is not loaded", "block 10 holds nothing",
            "range(n) gives how many numbers, from where?", "look at range",
            "range(num_layers)", {"layers": "not last"}, mark="R"),
    Mistake("O11b", "only layer 0 is loaded", "blocks 1 to 10 hold nothing", _Q_LAYER,
            "look at the loop over the layers", _LAYER,
            function=_alone(layers="first only"),
            mark="R"),
    Mistake("O11c", "every block gets layer 0", "block 10 holds layer 0", _Q_LAYER,
            "look for a 0 where the layer's number should be", _LAYER,
            function=_alone(layers="all first"), mark="R"),
    Mistake("O11d", "the last norm (ln_f) is not loaded", "ln_final holds nothing",
            "Which tensors belong to no layer?", "look for ln_f",
            "ln_f.weight and ln_f.bias go to ln_final",
            function=_alone(skipped="ln_final"), mark="R"),
    Mistake("O11e", "the position table (wpe) is not loaded", "pos_emb holds nothing",
            "Which tensors belong to no layer?", "look for wpe",
            "wpe.weight goes to pos_emb.weight", function=_alone(skipped="pos_emb"),
            mark="R"),
    Mistake("O12", "ln_1 and ln_2 exchanged", "ln_attn holds ln_2, and ln_mlp ln_1",
            "Which norm stands before the attention?", "look at your table of names",
            "ln_1 goes to ln_attn", {"swapped": "norms"}, mark="V"),
    Mistake("O12b", "the two c_proj exchanged", "out_proj holds mlp.c_proj",
            "Two tensors are called c_proj. What stands before the name?",
            "look at your table of names", "attn.c_proj goes to attn.out_proj",
            function=_alone(swapped="projections"), mark="R"),
    Mistake("O12c", "wte and wpe exchanged", "tok_emb holds wpe",
            "t for token, p for ...?", "look at your table of names",
            "wte goes to tok_emb", function=_alone(swapped="tables"), mark="R"),
    Mistake("O12d", "weight and bias of the norms exchanged",
            "the norms' weights hold their biases", "Which of the two is near 1?",
            "look at your table of names", "weight to weight",
            function=_alone(swapped="ends"),
            mark="R"),
    Mistake("O13", "the file's tensors are changed in place",
            "loading a second time would give another model",
            "Who else may still need the tensors?", "look for names ending in _",
            "change the model alone", function=_alone(in_place=True), mark="R"),
)


def _other_head(g: Generator) -> Probe:
    """Return a file with a head that is not the token table."""
    case = _case(g, "layers")
    rows = case["config"]["vocab_size"]
    return Probe("a head of its own", (case | {"changes": {"lm_head.weight": rows}},),
                 file.refused)


fill_model = Exercise(
    "fill_model", "10", "fill_model(model, tensors) -> None, but the model is changed",
    load, probes, LOAD, read_out,
    (Robust("a file with a head of its own (lm_head.weight is not wte.weight) is "
            "loaded without a word, though this model has one table for both",
            _other_head),),
    crashes=((r"a leaf Variable|in-place operation",
              "change parameters under torch.no_grad()"),
             (r"KeyError", "this name is not in the file, or not in the model: print "
              "both lists of names"),
             (r"size mismatch|must match the size|Error.*shape",
              "a shape does not fit: do the two names belong together, and was a "
              "linear layer's matrix turned?")),
    hints=("For each parameter of the model: its name in the file, the tensor, turned "
           "if it belongs to a linear layer, shapes compared, copied.",
           "Which parameters of a small model are still what they were after loading?",
           "p.copy_(tensors[their_name(name)]), with .T where the name ends in "
           "proj.weight"), solution="""\
def fill_model(model, tensors):
    head = tensors.get("lm_head.weight", tensors["wte.weight"])
    if not torch.equal(head, tensors["wte.weight"]):
        raise ValueError("the head is not the token table")
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = tensors[their_name(name)]
            if name.endswith("proj.weight"):
                values = values.T
            if values.shape != p.shape:
                raise ValueError(f"{name}: {values.shape}, expected {p.shape}")
            p.copy_(values)""")

fill_model_to_repair = replace(
    fill_model.to_repair("fill_model_to_repair", "O1b"), robust=())
