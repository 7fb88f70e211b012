"""Attention that remembers, and generation with it (catalogue: K)."""

import math
from dataclasses import replace

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake
from gpt2_lesson.checks.exercises.attention import effective_scale
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.cache import (
    RememberingModel,
    by_chunks,
    calls,
    kept,
    kept_at_crash,
    tokens_read,
    two_texts,
)


def _remembered(old: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor],
                join: str) -> tuple[tuple, tuple]:
    """Return (keys, values) to attend to and those to store, by a way of joining."""
    if old is None:
        return new, (tuple(torch.cat([part] * 2, -2) for part in new)
                     if join == "twice" else new)
    axis = {"heads": 1, "batch": 0, "width": -1}.get(join, -2)
    pairs = list(zip(old, new, strict=True))
    if join in ("overwrite", "never"):
        return new, new
    if join == "front":
        pairs = [pair[::-1] for pair in pairs]
    both = tuple(torch.cat(pair, axis) for pair in pairs)
    if join == "not stored":
        return both, old
    if join == "old values":                                     # only the keys grow
        return both, (both[0], old[1])
    if join == "twice":
        return both, tuple(torch.cat([all_, part], -2)
                           for all_, part in zip(both, new, strict=True))
    return both, both


def _allowed(queries: int, keys: int, mask: str) -> Tensor:
    """Return which keys each query may look at, (Tq, Tk), or what a mistake allows."""
    shift = {"right": keys - queries, "top": 0, "one more": keys - queries + 1,
             "strict": keys - queries - 1}.get(mask)
    if mask == "columns":
        return torch.ones(keys, keys).tril()[:, -queries:].bool()
    if mask == "prefill only" and queries == keys:
        shift = 0
    if mask == "chunks only":                    # a first chunk gets none
        shift = None if queries == keys else keys - queries
    everything = torch.ones(queries, keys)
    return (everything if shift is None else everything.tril(shift)).bool()


def cached(q: Tensor, k: Tensor, v: Tensor, cache: dict, layer: int, *,
           join: str = "append", mask: str = "right", per_layer: bool = True,
           keep: str = "kv", scale: bool = True, axis: int = -1,
           last: bool = False) -> Tensor:
    """Return what T new tokens mix, (B, H, T, D), from the cache and themselves."""
    place = layer if per_layer else 0
    (k, v), stored = _remembered(cache.get(place), (k, v), join)
    if join != "never":
        cache[place] = stored
    if keep == "qkv":
        cache[f"queries {place}"] = torch.cat([cache.get(f"queries {place}", q[..., :0,
                                                         :]), q], -2)
    scores = q @ k.transpose(-2, -1) / (math.sqrt(q.size(-1)) if scale else 1)
    allowed = _allowed(q.size(-2), k.size(-2), mask)
    mixed = scores.masked_fill(~allowed, -torch.inf).softmax(axis) @ v
    return mixed[..., -1:, :] if last else mixed


def continued(model: RememberingModel, input_ids: Tensor, max_new_tokens: int, *,
              place: str = "right", feed: str = "new", reset: bool = True,
              full: str = "restart", pick: str = "last",
              returned: str = "all") -> Tensor:
    """Return the greedy continuation (B, T + n) of input_ids (B, T)."""
    ids, limit, read, offset = input_ids, model.max_seq_length, 0, 0
    if reset:
        model.reset()
    for step in range(max_new_tokens):
        over = ids.size(1) > limit
        first = {"new": read, "all": 0, "afresh": 0, "two": max(read - 1, 0)}[feed]
        new = ids[:, first:]
        if feed == "afresh" or over and full in ("restart", "oldest"):
            model.reset()
        if over and full in ("restart", "oldest", "no reset"):
            new, first = ids[:, :limit] if full == "oldest" else ids[:, -limit:], 0
        later = int(step > 0)
        start = {"right": first, "zero": 0, "prompt": offset, "late": first + later,
                 "early": first - later, "stuck": min(first, input_ids.size(1)),
                 }[place if not over or full in ("clamp", "go on") else "right"]
        positions = torch.arange(start, start + new.size(1))
        if full == "clamp":
            positions = positions.clamp(max=limit - 1)
        logits = model(new, positions)
        read, offset = ids.size(1), offset + input_ids.size(1)
        scores = logits[:, {"last": -1, "first": 0}.get(pick, -1)]
        scores = scores.mean(0, keepdim=True).expand_as(scores) if (
            pick == "mean") else scores
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
    return ids if returned == "all" else ids[:, input_ids.size(1):]


# --- probes ---------------------------------------------------------------------------


def _qkv(g: Generator, layers: int, b: int, h: int, t: int, d: int
         ) -> list[list[Tensor]]:
    """Return q, k and v, each a list of one (B, H, T, D) for each layer."""
    parts = 1.5 * torch.randn(3, layers, b, h, t, d, generator=g)
    return [list(part) for part in parts]


_SHOWN = "1 token, 2, then 1, v is the identity: the result is the weights"


def _identity(g: Generator) -> Probe:
    q, k, _ = _qkv(g, 1, 1, 1, 4, 4)
    return Probe(_SHOWN, (q, k, [torch.eye(4)[None, None]], (1, 2, 1)), by_chunks)


def attention_probes(g: Generator) -> list[Probe]:
    """Return the same tokens in other portions: one by one, a prefill, chunks."""
    letters = {"L": 1, "B": 2, "H": 3, "T": 6, "D": 4}

    def chunks(name: str, *sizes: int, layers: int = 1, drive=by_chunks) -> Probe:
        return Probe(name, (*_qkv(g, layers, 2, 3, sum(sizes), 4), sizes), drive,
                     letters if layers == 1 and sum(sizes) == 6 else {})

    return [chunks("one token at a time: q, k, v (2, 3, 1, 4)", 1, 1, 1, 1, 1, 1),
            chunks("all 6 tokens at once: q, k, v (2, 3, 6, 4)", 6),
            chunks("5 tokens first (2, 3, 5, 4), then one at a time", 5, 1, 1),
            chunks("chunks of 3, 2 and 2: q, k, v (2, 3, T, 4)", 3, 2, 2),
            _identity(g),
            chunks("two layers, 2 tokens, then one at a time", 2, 1, 1, layers=2),
            chunks("how many numbers are kept (2 x B x H x T x D = 288)", 2, 3, 1,
                   drive=kept),
            chunks("three chunks of 2: what is kept if it crashes", 2, 2, 2,
                   drive=kept_at_crash)]


def _model(g: Generator, limit: int = 64) -> RememberingModel:
    seed = int(torch.randint(1000, (1,), generator=g))
    return RememberingModel(max_seq_length=limit, seed=seed)


def generation_probes(g: Generator) -> list[Probe]:
    """Return prompts of 5 and 1, two in a row, one at the end of the context."""
    def ids(b: int, t: int) -> Tensor:
        return torch.randint(23, (b, t), generator=g)

    return [Probe("a prompt of 5 tokens, 4 new ones", (_model(g), ids(2, 5), 4),
                  sizes={"B": 2, "T": 5, "T + n": 9}),
            Probe("a prompt of 1 token, 6 new ones", (_model(g), ids(3, 1), 6)),
            Probe("one text, one new token", (_model(g), ids(1, 4), 1)),
            Probe("no new token", (_model(g), ids(2, 4), 0)),
            Probe("a second prompt, on the same model",
                  (_model(g), ids(2, 3), ids(2, 4), 5), two_texts),
            Probe("how many tokens are read: 5 in the prompt, 4 new",
                  (_model(g), ids(1, 5), 4), tokens_read),
            Probe("5 tokens and 6 new ones, max_seq_length 8",
                  (_model(g, 8), ids(2, 5), 6)),
            Probe("a prompt of 10 tokens, max_seq_length 8",
                  (_model(g, 8), ids(2, 10), 3))]


# --- what can be read out when nothing matches ----------------------------------------


def attention_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return whom each token looks at: missing and future ones, sums, scale."""
    probe = _identity(g)
    value = look(probe).value
    if not isinstance(value, Tensor) or value.shape != (1, 1, 1, 4, 4):
        return []
    if look(replace(probe, drive=kept)).value == 0:
        return [Clue("empty", "after the calls the cache is still empty: nothing is "
                     "stored in the dictionary that was passed")]
    weights = value[0, 0, 0]
    if not weights.isfinite().all():
        bad = (~weights.isfinite()).any(-1).nonzero().flatten().tolist()
        return [Clue("nan rows", f"the weights of token {bad[0]} hold nan")]
    for t, row in enumerate(weights):
        seen = (row.abs() > 1e-7).nonzero().flatten().tolist()
        if seen != list(range(t + 1)):
            return [Clue("seen", f"when the tokens come as 0, then 1 and 2 together, "
                         f"then 3, each with its own value, the result of token {t} is "
                         f"made of the values of {_tokens(seen)}, expected "
                         f"{_tokens(range(t + 1))}")]
    sums = weights.sum(-1)
    if not sums.allclose(torch.ones(4), atol=1e-4):
        return [Clue("row sums", "everybody looks at the right tokens, but the weights "
                     f"of a token add up to {sums.min():.3g} to {sums.max():.3g}, "
                     "expected 1")]
    (q,), (k,) = (part[0] for part in probe.args[:2])            # (T, D) each
    return effective_scale(weights[None], q @ k.transpose(-2, -1), q.size(-1))


def _tokens(places: list[int] | range) -> str:
    return ", ".join(map(str, places)) or "none"


def generation_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return the first call of the model with other positions than the text has."""
    ids = torch.randint(23, (2, 5), generator=g)
    log = look(Probe("calls", (_model(g), ids, 4), calls)).value
    if not isinstance(log, list):
        return []
    place = 0
    for call, positions in enumerate(log, 1):
        wanted = list(range(place, place + len(positions)))
        if positions != wanted:
            return [Clue("positions", f"call {call} of the model passes the positions "
                         f"{_tokens(positions)}; {place} tokens have been read, so the "
                         f"next stand at {_tokens(wanted)}")]
        place += len(positions)
    if place < 8:
        return [Clue("unread", f"of 5 tokens and 4 new ones the model was given only "
                     f"{place} to read")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_MASK = "The queries are the LAST tokens of the text. Which keys may the first see?"
_Q_JOIN = "Keys are (B, H, T, D). Along which axis does a text grow?"

ATTENTION = (
    Mistake("K3", "the mask cut by columns, not by the rows of the queries",
            "the first chunk is right, then the shapes do not fit",
            _Q_MASK, "the mask must have a row for each query, a column for each key",
            "mask[-Tq:], the last Tq rows of the (Tk, Tk) mask", {"mask": "columns"},
            mark="S"),
    Mistake("K4", "the mask aligned at the top left (is_causal=True, or tril())",
            "a lone new token sees token 0 only: its weights are 1, 0, 0, ...", _Q_MASK,
            "draw the mask for 1 query and 5 keys",
            "torch.ones(Tq, Tk).tril(Tk - Tq)", {"mask": "top"}),
    Mistake("K5", "no mask at all",
            "one token at a time is right; in a chunk earlier tokens see later ones",
            _Q_MASK, "several tokens may come at once: who hides the later ones?",
            "torch.ones(Tq, Tk).tril(Tk - Tq)", {"mask": "none"}, mark="S"),
    Mistake("K5p", "no mask in the first chunk (the prefill)",
            "later chunks are right, but the prompt's tokens see their future", _Q_MASK,
            "what does your code do while the cache is empty?",
            "the same mask for all: torch.ones(Tq, Tk).tril(Tk - Tq)",
            {"mask": "chunks only"}, mark="R"),
    Mistake("K12", "a later chunk is treated as one query, without a mask",
            "the prefill and single tokens are right, later chunks of 2 or more wrong",
            _Q_MASK, "what does your code do when the cache is not empty and T > 1?",
            "torch.ones(Tq, Tk).tril(Tk - Tq)", {"mask": "prefill only"}, mark="R"),
    Mistake("K12o", "the mask shows one token too many",
            "in a chunk each token sees the next one", _Q_MASK,
            "count the diagonal for 2 queries and 5 keys", ".tril(Tk - Tq)",
            {"mask": "one more"}, mark="R"),
    Mistake("K12s", "the mask hides the token itself",
            "the very first token has nothing to look at: nan", _Q_MASK,
            "count the diagonal for 2 queries and 5 keys", ".tril(Tk - Tq)",
            {"mask": "strict"}, mark="R"),
    Mistake("K6", "new keys joined along the heads' axis",
            "the second chunk has twice as many heads", _Q_JOIN,
            "look at dim= in torch.cat", "torch.cat([old, new], dim=-2)",
            {"join": "heads"}, mark="R"),
    Mistake("K6b", "new keys joined along the batch axis",
            "the second chunk has twice as many examples", _Q_JOIN,
            "look at dim= in torch.cat (0 is its default)",
            "torch.cat([old, new], dim=-2)", {"join": "batch"}, mark="R"),
    Mistake("K6d", "new keys joined along the channels",
            "q has D channels, the keys have 2D", _Q_JOIN,
            "look at dim= in torch.cat", "torch.cat([old, new], dim=-2)",
            {"join": "width"}, mark="R"),
    Mistake("K7", "one cache for all layers",
            "with two layers each reads the keys of the other",
            "Are the keys of layer 0 and layer 1 the same?",
            "where is `layer` used?", "cache[layer] = ...", {"per_layer": False},
            mark="R"),
    Mistake("K0", "the new keys and values are never stored after the first chunk",
            "a token sees the first chunk and itself, nothing in between",
            "Who tells the next call about this token?",
            "torch.cat returns a new tensor: is it stored for every chunk?",
            "cache[layer] = (k, v), after joining", {"join": "not stored"}, mark="R"),
    Mistake("K0n", "nothing is stored: after a call the cache is still empty",
            "each chunk sees only itself; `cache = {...}` makes another dictionary, "
            "and leaves the one that was passed as it was",
            "Who tells the next call about this token?",
            "print the cache after a call", "cache[layer] = (k, v), after joining",
            {"join": "never"}),
    Mistake("K0f", "the cache is overwritten: what came before is forgotten",
            "a token sees only its own chunk",
            "What is left of the first chunk when the third comes?",
            "where are old and new joined?", "k = torch.cat([cache[layer][0], k], -2)",
            {"join": "overwrite"}, mark="R"),
    Mistake("K0o", "new keys put in front of the old ones",
            "the mask counts from the oldest to the newest, and hides the wrong keys",
            "In which order does the mask expect the keys?",
            "look at the order in torch.cat", "torch.cat([old, new], dim=-2)",
            {"join": "front"}, mark="R"),
    Mistake("K0v", "only the keys are joined to the stored ones, not the values",
            "more keys than values: the shapes do not fit from the third chunk on",
            "What is averaged: keys or values?", "is v treated like k, line for line?",
            "join and store both", {"join": "old values"}, mark="R"),
    Mistake("K9", "new keys and values stored twice",
            "the cache is longer than the text",
            "How long is the cache after 5 tokens?", "count the places that append",
            "append once a call", {"join": "twice"}, mark="R"),
    Mistake("K11", "right, but the queries are kept too",
            "half as much memory again, for what no later token reads",
            "Which of q, k and v does a later token look at?",
            "look at what is stored", "cache[layer] = (k, v)", {"keep": "qkv"},
            mark="R"),
    Mistake("K13", "only the last token's result is returned",
            "a chunk of T tokens must give T results",
            "How many queries came?", "look at the return", "return all of mixed",
            {"last": True}, mark="R"),
    Mistake("A1", "no scale: the scores are not divided by sqrt(D)",
            "the weights are too sharp",
            "By how much should q.k shrink so that its spread is 1 for every D?",
            "look at the line that makes the scores", "/ math.sqrt(q.size(-1))",
            {"scale": False}),
    Mistake("A8", "softmax over the queries (dim=-2)",
            "a lone query gets the weight 1 on every key",
            "For one query, over which axis must the weights add up to 1?",
            "look at the number given to softmax", ".softmax(-1)", {"axis": -2}),
)

_Q_PLACE = "7 tokens were read, and one more comes. At which position does it stand?"
_Q_FEED = "Which tokens does the model not know yet?"

GENERATION = (
    Mistake("K1", "position 0 for every new token",
            "the prompt is read rightly, and from the second new token on all is wrong",
            _Q_PLACE, "look at the positions that you pass in the second call",
            "torch.arange(read, read + new.size(1))", {"place": "zero"}, mark="S"),
    Mistake("K2", "the position grows by the prompt's length in every step",
            "right for a prompt of 1 token; with 5 the positions are 5, 10, 15, ...",
            _Q_PLACE, "what do you add to the offset after a call?",
            "start = ids.size(1), before the new token is joined: so many tokens have "
            "been read, after a restart too", {"place": "prompt"}, mark="S"),
    Mistake("K2l", "positions one too late after the prompt",
            "the first new token is read at T + 1, expected T", _Q_PLACE,
            "positions count from 0: what stands at T - 1?",
            "torch.arange(read, read + new.size(1))", {"place": "late"}, mark="R"),
    Mistake("K2e", "positions one too early after the prompt",
            "the first new token is read at T - 1, where the prompt's last one stands",
            _Q_PLACE, "positions count from 0: what stands at T - 1?",
            "torch.arange(read, read + new.size(1))", {"place": "early"}, mark="R"),
    Mistake("K1s", "the position stays at T for every new token",
            "right for two new tokens, then wrong", _Q_PLACE,
            "which variable should grow in the loop?",
            "torch.arange(read, read + new.size(1))", {"place": "stuck"}, mark="R"),
    Mistake("K8", "the model is not reset before a new prompt",
            "the first text is right; the second one still knows the first",
            "What does the model remember when your function is called again?",
            "what happens before the loop?", "model.reset()", {"reset": False},
            mark="S"),
    Mistake("K9", "the whole text is read again in every step, on top of the memory",
            "the memory holds the prompt twice, three times, ...", _Q_FEED,
            "look at what you pass in the second call", "ids[:, read:]",
            {"feed": "all"}, mark="R"),
    Mistake("K11", "right, but the memory is never used: all is read afresh each step",
            "every token is read again and again", _Q_FEED,
            "where do you reset, and what do you pass?",
            "reset once, then pass ids[:, read:]", {"feed": "afresh"}, mark="R"),
    Mistake("K9b", "the last token but one is read again with each new one",
            "some tokens are in the memory twice", _Q_FEED,
            "how many tokens do you pass in the second call?", "ids[:, read:]",
            {"feed": "two"}, mark="R"),
    Mistake("K10", "no thought of max_seq_length",
            "IndexError as soon as the text is longer than the context",
            "There is no position max_seq_length. What can still be read?",
            "compare ids.size(1) with model.max_seq_length in each step",
            "model.reset(), then ids[:, -limit:] at positions 0, 1, ...",
            {"full": "go on"}, mark="S"),
    Mistake("K10r", "past the context the model is not reset",
            "right up to max_seq_length; then tokens are read again on top of the "
            "memory", "What does the model still remember when it reads the last "
            "tokens afresh?", "what happens before ids[:, -limit:] is read?",
            "model.reset(), then ids[:, -limit:] at positions 0, 1, ...",
            {"full": "no reset"}),
    Mistake("K10c", "past the context every new token gets the last position",
            "right up to max_seq_length, then wrong",
            "Two tokens at the same position: what was the model trained on?",
            "what happens to a position that is too large?",
            "model.reset(), then ids[:, -limit:] at positions 0, 1, ...",
            {"full": "clamp"}, mark="R"),
    Mistake("K10o", "past the context the oldest tokens are kept, not the newest",
            "the same tokens are read each time, and the same one comes out",
            "Which tokens matter for the next one?", "look at the slice: [:, :limit]",
            "ids[:, -limit:]", {"full": "oldest"}, mark="R"),
    Mistake("G1", "the first position's logits, not the last one's",
            "the choice after the prompt ignores all but its first token",
            "Which token's logits tell what follows the prompt?",
            "look at the index of logits", "logits[:, -1]", {"pick": "first"},
            mark="R"),
    Mistake("G7", "one token chosen for all texts of the batch",
            "with one text it is right; with several all get the same tokens",
            "Do all rows continue alike?", "look at the axis of argmax, or at mean(0)",
            "logits[:, -1].argmax(-1, keepdim=True)", {"pick": "mean"}, mark="R"),
    Mistake("G14", "only the new tokens are returned",
            "the result has n columns, expected T + n",
            "What should stand at the beginning of the result?",
            "look at the return", "return ids, with the prompt", {"returned": "new"},
            mark="R"),
)

cached_attention = Exercise(
    "cached_attention", "03", "cached_attention(q, k, v, cache, layer) -> (B, H, T, D)",
    cached, attention_probes, ATTENTION, attention_read_out,
    crashes=((r"KeyError", "cache is {} at first: cache.get(layer), or "
              "`if layer in cache`"),
             (r"size of tensor a|must match the size|Expected size|batch2|Sizes of "
              "tensors", "keys and values grow along the tokens (dim=-2), and the mask "
              "has a row for each new token, a column for each token so far"),),
    hints=("Three steps: join the new keys and values to the stored ones, store them, "
           "attend with a mask for Tq queries that are the last of Tk tokens.",
           "Feed 5 tokens one by one, and all at once: the results must be equal.",
           "torch.cat([old, new], dim=-2) and torch.ones(Tq, Tk).tril(Tk - Tq)"),
    show=_SHOWN,
    solution="""\
def cached_attention(q, k, v, cache, layer):
    if layer in cache:
        old_k, old_v = cache[layer]
        k = torch.cat([old_k, k], dim=-2)
        v = torch.cat([old_v, v], dim=-2)
    cache[layer] = (k, v)
    new, length = q.size(-2), k.size(-2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(new, length).tril(length - new).bool()
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v""")

generate_cached = Exercise(
    "generate_cached", "03",                     # optional: asked for by no set
    "generate_cached(model, input_ids, max_new_tokens) -> (B, T + max_new_tokens)",
    continued, generation_probes, GENERATION, generation_read_out,
    crashes=((r"IndexError: position", "print the positions that you pass: after 5 "
              "tokens the next stands at 5. Has the text more tokens than there are "
              "positions? Then reset, and read its last ones afresh"),
             (r"UnboundLocalError", "a name is set in one branch only, and the other "
              "one came: past max_seq_length no `new` is made. ids.size(1) is there in "
              "both"),
             (r"remembered from before", "the model still remembers another batch: "
              "reset it")),
    hints=("The model remembers. In each step it needs only what it has not read, and "
           "where that stands.",
           "Print the positions of each call for a prompt of 5: 0 1 2 3 4, then 5, "
           "then 6.",
           "model(ids[:, read:], torch.arange(read, ids.size(1)))"),
    show="a prompt of 5 tokens, 4 new ones", solution="""\
def generate_cached(model, input_ids, max_new_tokens):
    ids, limit, read = input_ids, model.max_seq_length, 0
    model.reset()
    for _ in range(max_new_tokens):
        if ids.size(1) > limit:
            model.reset()
            logits = model(ids[:, -limit:], torch.arange(limit))
        else:
            logits = model(ids[:, read:], torch.arange(read, ids.size(1)))
        read = ids.size(1)
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids""")

generate_cached_to_repair = generate_cached.to_repair("generate_cached_to_repair", "K2")
