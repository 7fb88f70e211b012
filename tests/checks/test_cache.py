"""The checks of cached attention and cached generation: catalogue entry K."""

import pytest
import torch
import torch.nn.functional as F
from catalogue import (
    Catalogue,
    function_of,
)

from gpt2_lesson import checks
from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask
from gpt2_lesson.checks.fakes.cache import RememberingModel
from gpt2_lesson.multi_head import KVCache

PARTS = {
    "join": """if layer in cache:
    k = torch.cat([cache[layer][0], k], dim=-2)
    v = torch.cat([cache[layer][1], v], dim=-2)""",
    "store": "cache[layer] = (k, v)",
    "sizes": "Tq, Tk = q.size(-2), k.size(-2)",
    "scores": "s = q @ k.mT / math.sqrt(q.size(-1))",
    "mask": "s = s.masked_fill(~torch.ones(Tq, Tk).tril(Tk - Tq).bool(), -torch.inf)",
    "end": "return s.softmax(-1) @ v",
}


def attend(**parts: str) -> str:
    return "\n".join({**PARTS, **parts}.values())


def joined(axis: str) -> str:
    return PARTS["join"].replace("dim=-2", axis)


ATTENTION = {
    "K3": attend(
        mask="m = torch.ones(Tk, Tk).tril()[:, :Tq]\n"
        "s = s.masked_fill(m == 0, -torch.inf)"
    ),
    "K3b": attend(
        mask="m = causal_mask(Tk)[..., -Tq:]\ns = s.masked_fill(m == 0, -torch.inf)"
    ),
    "K4": attend(
        scores="",
        mask="",
        end="return F.scaled_dot_product_attention(q, k, v, is_causal=True)",
    ),
    "K4b": attend(mask="s = s.masked_fill(torch.ones(Tq, Tk).tril() == 0, -torch.inf)"),
    "K5": attend(mask=""),
    "K5p": attend(mask="if layer in cache and Tq < Tk:\n    " + PARTS["mask"]),
    "K6": attend(join=joined("dim=1")),
    "K6b": attend(join=joined("dim=0")),
    "K6bb": attend(join=PARTS["join"].replace(", dim=-2", "")),
    "K6d": attend(join=joined("dim=-1")),
    "K7": attend(
        join="""if 'k' in cache:
    k = torch.cat([cache['k'], k], dim=-2)
    v = torch.cat([cache['v'], v], dim=-2)""",
        store="cache['k'], cache['v'] = k, v",
    ),
    "K0": attend(store="if layer not in cache:\n    cache[layer] = k, v"),
    "K0n": attend(store="cache = {layer: (k, v)}"),
    "K0na": attend(store=""),
    "K0nb": attend(join="cache.get(layer)", store="cache = {**cache, layer: (k, v)}"),
    "K0f": attend(join="", store="cache[layer] = k, v"),
    "K0o": attend(
        join="""if layer in cache:
    k = torch.cat([k, cache[layer][0]], dim=-2)
    v = torch.cat([v, cache[layer][1]], dim=-2)"""
    ),
    "K0v": attend(
        join="""old_v = v
if layer in cache:
    k = torch.cat([cache[layer][0], k], dim=-2)
    old_v = cache[layer][1]
    v = torch.cat([old_v, v], dim=-2)""",
        store="cache[layer] = (k, old_v)",
    ),
    "K9": "old = (k, v)\n"
    + attend(
        store="cache[layer] = (torch.cat([k, old[0]], -2), torch.cat([v, old[1]], -2))"
    ),
    "K11": attend(
        store="""cache[layer] = (k, v)
if 'q' not in cache:
    cache['q'] = []
cache['q'].append(q)"""
    ),
    "K12": attend(mask="if Tq == Tk:\n    " + PARTS["mask"]),
    "K12o": attend(
        mask="s = s.masked_fill(torch.ones(Tq, Tk).triu(Tk - Tq + 2) == 1, -torch.inf)"
    ),
    "K12s": attend(
        mask="s = s.masked_fill(torch.ones(Tq, Tk).triu(Tk - Tq) == 1, -torch.inf)"
    ),
    "K13": attend(end="return (s.softmax(-1) @ v)[:, :, -1:]"),
    "A1": attend(scores="s = q @ k.mT"),
    "A8": attend(end="return s.softmax(-2) @ v"),
}
EXTRA = {"attention": attention, "causal_mask": causal_mask, "KVCache": KVCache}


def by_loop(q, k, v, cache, layer):
    """One query at a time, over lists of single keys and values."""
    keys, values = cache.setdefault(layer, ([], []))
    out = []
    for t in range(q.size(2)):
        keys.append(k[:, :, t].clone())
        values.append(v[:, :, t].clone())
        s = (q[:, :, t, None] * torch.stack(keys, 2)).sum(-1) / q.size(-1) ** 0.5
        out.append((s.softmax(-1)[..., None] * torch.stack(values, 2)).sum(2))
    return torch.stack(out, 2)


def in_storage(q, k, v, cache, layer):
    """Write into storage allocated once, as lesson 02's KVCache does (12 tokens)."""
    store = cache.setdefault(layer, {"kv": None, "length": 0})
    start, end = store["length"], store["length"] + k.size(-2)
    store["kv"] = (
        torch.stack([k, v])
        if store["kv"] is None
        else torch.cat([store["kv"], torch.stack([k, v])], dim=-2)
    )
    store["length"] = end
    k, v = store["kv"]
    mask = torch.arange(end) <= torch.arange(start, end)[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


HONEST_ATTENTION = {
    "plain": attend(),
    "loop": by_loop,
    "storage": in_storage,
    "lesson": attend(
        scores="", mask="", end="return attention(q, k, v, causal_mask(Tq, Tk))[0]"
    ),
    "rows of the square": attend(
        mask="m = torch.ones(Tk, Tk).tril()[-Tq:]\ns = s.masked_fill(m == 0, -1e9)"
    ),
    "try": attend(
        join="""try:
    old = cache[layer]
except KeyError:
    old = k[..., :0, :], v[..., :0, :]
k, v = (torch.cat(pair, -2) for pair in zip(old, (k, v)))"""
    ),
    "two entries": attend(
        join="""if ('k', layer) in cache:
    k = torch.cat([cache['k', layer], k], 2)
    v = torch.cat([cache['v', layer], v], 2)""",
        store="cache['k', layer], cache['v', layer] = k, v",
    ),
    "lone query": attend(mask="if Tq > 1:\n    " + PARTS["mask"]),
    "fused": attend(
        scores="",
        mask="",
        end="return F.scaled_dot_product_attention("
        "q, k, v, torch.ones(Tq, Tk).tril(Tk - Tq).bool())",
    ),
    "chunks": """cache.setdefault(layer, []).append((k, v))
k, v = (torch.cat(parts, -2) for parts in zip(*cache[layer]))
Tq, Tk = q.size(-2), k.size(-2)
"""
    + "\n".join([PARTS["scores"], PARTS["mask"], PARTS["end"]]),
}

STEPS = {
    "begin": "ids, limit, read = input_ids, model.max_seq_length, 0",
    "reset": "model.reset()",
    "loop": "for i in range(max_new_tokens):",
    "over": """    if ids.size(1) > limit:
        model.reset()
        logits = model(ids[:, -limit:], torch.arange(limit))""",
    "else": "    else:",
    "call": "        logits = model(ids[:, read:], torch.arange(read, ids.size(1)))",
    "read": "    read = ids.size(1)",
    "cat": "    ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], 1)",
    "end": "return ids",
}


def go(**steps: str) -> str:
    return "\n".join({**STEPS, **steps}.values())


def call(text: str) -> str:
    return f"        new = ids[:, read:]\n        logits = model({text})"


NEVER_OVER = {"over": "", "else": "    if True:"}
GENERATION = {
    "K1": go(call=call("new, torch.arange(new.size(1))")),
    "K1b": go(
        call=call(
            "new, torch.zeros(1, dtype=torch.long) if i else torch.arange(new.size(1))"
        )
    ),
    "K1s": go(
        call=call("new, torch.arange(new.size(1)) + (input_ids.size(1) if i else 0)")
    ),
    "K2": go(
        begin=STEPS["begin"] + "\noffset = 0",
        call=call("new, torch.arange(offset, offset + new.size(1))")
        + "\n    offset += input_ids.size(1)",
    ),
    "K2l": go(call=call("new, torch.arange(read, ids.size(1)) + (1 if i else 0)")),
    "K2e": go(call=call("new, torch.arange(read, ids.size(1)) - (i > 0)")),
    "K8": go(reset=""),
    "K9": go(call="        logits = model(ids, torch.arange(ids.size(1)))"),
    "K9b": go(
        call="        first = max(read - 1, 0)\n        logits = model("
        "ids[:, first:], torch.arange(first, ids.size(1)))"
    ),
    "K11": go(
        call="        model.reset()\n"
        "        logits = model(ids, torch.arange(ids.size(1)))"
    ),
    "K10": go(**NEVER_OVER),
    "K10c": go(
        **NEVER_OVER,
        call=call("new, torch.arange(read, ids.size(1)).clamp(max=limit - 1)"),
    ),
    "K10r": go(over=STEPS["over"].replace("        model.reset()\n", "")),
    "K10o": go(over=STEPS["over"].replace("-limit:", ":limit")),
    "G1": go(cat=STEPS["cat"].replace("-1]", "0]")),
    "G7": go(
        cat="    one = logits[:, -1].mean(0).argmax()\n"
        "    ids = torch.cat([ids, one.expand(len(ids), 1)], 1)"
    ),
    "G14": go(end="return ids[:, input_ids.size(1):]"),
    "G14b": go(end="return ids[:, -max_new_tokens:]"),
}


def token_by_token(model, input_ids, max_new_tokens):
    """Feed the prompt too in single tokens."""
    model.reset()
    ids, limit = input_ids, model.max_seq_length
    for t in range(ids.size(1) + max_new_tokens):
        if t >= limit:
            model.reset()
            window = ids[:, max(t + 1 - limit, 0) : t + 1]
            logits = model(window, torch.arange(window.size(1)))
        else:
            logits = model(ids[:, t : t + 1], torch.tensor([t]))
        if ids.size(1) == t + 1 and t + 1 < input_ids.size(1) + max_new_tokens:
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    return ids


def prompt_first(model, input_ids, max_new_tokens):
    """Read the prompt before the loop; each drawn token at the end of a step."""

    def window(ids):
        model.reset()
        last = ids[:, -model.max_seq_length :]
        return model(last, torch.arange(last.size(1)))

    ids, logits = input_ids, window(input_ids)
    for _ in range(max_new_tokens):
        drawn = logits.argmax(-1)[:, -1:]
        ids = torch.cat((ids, drawn), dim=-1)
        at = ids.size(1) - 1
        logits = (
            window(ids)
            if at >= model.max_seq_length
            else model(drawn, torch.tensor([at]))
        )
    return ids


def recursive(model, input_ids, max_new_tokens, read=0):
    if read == 0:
        model.reset()
    if max_new_tokens == 0:
        return input_ids
    total = input_ids.shape[1]
    if total > model.max_seq_length:
        model.reset()
        total, read = model.max_seq_length, 0
    out = model(input_ids[:, read - total :], torch.arange(read, total))
    drawn = torch.topk(out[:, -1], 1).indices
    return recursive(
        model, torch.cat([input_ids, drawn], 1), max_new_tokens - 1, input_ids.shape[1]
    )


HONEST_GENERATION = {
    "plain": go(),
    "token by token": token_by_token,
    "prompt first": prompt_first,
    "recursive": recursive,
    "reset after": go(end="model.reset()\nreturn ids"),
    "unsqueeze": go(
        cat="    ids = torch.hstack([ids, logits[:, -1].argmax(1)[:, None]])"
    ),
    "max": go(
        cat="    ids = torch.cat([ids, logits[:, -1].max(-1).indices.unsqueeze(1)"
        "], dim=1)"
    ),
    "counted": go(
        call="        new = ids[:, read:]\n        logits = model(new, "
        "torch.tensor([read + j for j in range(new.size(1))]))"
    ),
    "arange cut": go(
        call="        logits = model(ids[:, read:], torch.arange(limit)"
        "[read:ids.size(1)])"
    ),
    "list": go(begin="limit, read = model.max_seq_length, 0\nids = input_ids.clone()"),
}
CASES = {
    "cached_attention": (ATTENTION, HONEST_ATTENTION),
    "generate_cached": (GENERATION, HONEST_GENERATION),
}


class TestCatalogue(Catalogue):
    cases = CASES
    extra = EXTRA


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "torch.arange(read, ids.size(1)) + 2 * (i > 0)",
            "call 2 of the model gets the positions 7; 5 tokens have been read, so "
            "the next are at 5",
        ),
        (
            "torch.arange(read * 2, read + ids.size(1))",
            "gets the positions 10; 5 tokens",
        ),
    ],
)
def test_the_first_wrong_position_is_told(place: str, words: str) -> None:
    function = function_of(
        checks.generate_cached, go(call=call(f"new, ({place}) % limit"))
    )  # in range: no crash
    report = checks.generate_cached(function)
    assert not report.passed and not report.named
    assert words in report.clues[0].text, str(report)


def test_the_first_wrong_look_is_told() -> None:
    function = function_of(
        checks.cached_attention,
        attend(mask=PARTS["mask"] + "\nif Tk > 2:\n    s[..., 1] = -torch.inf"),
    )
    report = checks.cached_attention(function)
    said = "token 1 is an average of the values of 0, expected 0, 1"
    assert said in report.clues[0].text


def test_the_toy_model_depends_on_every_token_position_and_nothing_else() -> None:
    model = RememberingModel(seed=3)
    ids = torch.tensor([[4, 8, 15, 16, 2]])
    whole = model(ids, torch.arange(5))
    model.reset()
    for t in range(5):
        torch.testing.assert_close(
            model(ids[:, t : t + 1], torch.tensor([t]))[:, 0], whole[:, t]
        )
    for t in range(5):
        model.reset()
        other = ids.index_fill(1, torch.tensor([t]), 22)
        moved = (model(other, torch.arange(5)) - whole).abs().amax((0, 2)) > 0.1
        assert moved.tolist() == [False] * t + [True] * (5 - t)
    model.reset()
    with pytest.raises(IndexError, match="position 64 came, there are only 0 to 63"):
        model(ids[:, :1], torch.tensor([64]))
    assert model.calls[-1] == [0, 1, 2, 3, 4]


def repair(step: str, start: str = "start = 0") -> str:
    """Return the version to be repaired, with another line for `start`."""
    return go(
        begin=STEPS["begin"] + "\n" + start,
        call=call("new, torch.arange(start, start + new.size(1))"),
        read=f"{step}\n" + STEPS["read"],
    )


def test_the_repair_and_what_nearly_repairs() -> None:
    check = checks.generate_cached_to_repair
    given = check(function_of(check, repair("    start += input_ids.size(1)")))
    assert given.state == "not written"
    assert "start = ids.size(1)" in check.hints[2]
    assert check(function_of(check, repair("    start = ids.size(1)"))).passed
    report = check(function_of(check, repair("    start += new.size(1)")))
    assert report.symptoms[1].startswith("UnboundLocalError")
    assert "ids.size(1) exists in both" in report.symptoms[-1]
    body = repair("    start = ids.size(1)").replace("        model.reset()\n", "")
    assert check(function_of(check, body)).named == (
        "past the context the model is not reset"
    )


def test_an_empty_cache_is_told_whatever_else_is_wrong() -> None:
    report = checks.cached_attention(
        function_of(
            checks.cached_attention,
            attend(join="", store="", end="return (s * s.sign()).softmax(-1) @ v"),
        )
    )
    assert not report.named and "the cache is still empty" in report.clues[0].text


def test_a_crash_tells_the_shapes_that_the_function_got() -> None:
    crash = checks.cached_attention(lambda q, k, v, cache, layer: q @ k).symptoms
    assert crash[0].endswith('"one token at a time: q, k, v (2, 3, 1, 4)"')


def test_progress_does_not_count_what_no_set_asks_for() -> None:
    assert " generate_cached_to_repair " in f"{checks.progress()} ".replace("\n", " ")
    assert " generate_cached " not in f"{checks.progress()} ".replace("\n", " ")


def test_counts_are_not_called_a_difference_of_the_result() -> None:
    """More numbers kept than needed once made "off by up to 36"."""
    more = checks.cached_attention.solution.replace(
        "    return", "    cache['scores', layer] = scores\n    return"
    )
    text = str(checks.cached_attention(function_of(checks.cached_attention, more)))
    assert "how many numbers are kept" in text and "off by" not in text
